"""The worker of backfills: asks the pool for one page of bars at a time and stores it with its cursor.

A page's bars and the cursor behind them are one transaction, under a lock that only the owner of the
backfill gets: whatever dies wherever, the next owner goes on with the page that was not stored.  What
may be asked and how is in `domain/backfill.py`.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID, uuid4

from actors import crash
from actors.client import DeadlineExceeded, Gone, Tree, Unreachable
from actors.domain.backfill import (
    SHOPS,
    BackfillRequest,
    BackfillState,
    BackfillStatus,
    Offer,
    Plan,
    Rate,
    Wanted,
    choose,
    wanted,
)
from actors.domain.errors import Unanswered
from actors.domain.models import Bar, BarPage, LimitStatus, Timeframe, VendorState
from actors.providers.base import Denied, LoginNeeded, Malformed, ProviderError, Unsupported
from actors.settings import Settings
from actors.store import backfills as store
from actors.store import bars as bar_store
from actors.store import tickers
from actors.store.backfills import Claim, Cursor
from actors.store.database import Connection, Database, DatabaseAway

T = TypeVar("T")

PAGE_WITHIN = 40.0  # seconds; the pool itself gives up after 30
PRICE_WITHIN = 40.0
LOOK_WITHIN = 5.0
STORE_WITHIN = 30.0
ANSWER_WITHIN = 5.0  # seconds somebody who asks waits for the database
LEASE = (
    120.0  # longer than a page takes; a successor does not wait for it, it takes over at its start
)
STOP_WITHIN = 12.0  # seconds for the page in hand
POLL = 2.0  # seconds between looks for one that may go on; none while nothing runs
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds after a fault; drawn between half of it and all
LONGEST_ASKED_PAUSE = 900.0  # where the vendor says how long, as of an hour that is spent
GIVE_UP = timedelta(hours=26)  # without a page: longer than a day's limit can hold one up
RESTART_AFTER = 3  # answers in a row that cannot be read in the middle of a part
SWEEPS = 0.9  # of a day or month; the pool keeps the rest for people
BURST = 12  # one in so many of a minute's requests may go at once
WINDOWS = {"s": 1.0, "min": 60.0, "h": 3_600.0, "day": 86_400.0, "month": 30 * 86_400.0}

log = logging.getLogger("volaris.backfill")


class NotYours(Exception):
    """Another worker has the backfill, or it was cancelled: what is in hand must not be stored."""


class Backfills:
    """The backfills of a tree, as `client.PriceIngestor` promises them; one page in memory at a time."""

    def __init__(
        self, settings: Settings, database: Database, tree: Tree, now: Callable[[], datetime]
    ) -> None:
        self._database, self._tree, self._now = database, tree, now
        self._minute_days = settings.volaris_bars_1m_days
        # Whoever asks a real vendor gets the days on which it trades, whatever hours we keep.
        self._always = settings.sandbox_url is not None and settings.market_always_open
        self._me = uuid4()
        self._wake = asyncio.Event()
        self._stopping = False
        self._worker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take over what another process was at, and go on with it."""
        await self._database.run(store.free, deadline=STORE_WITHIN)
        self._worker = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Store the page in hand and leave the rest to whoever comes next."""
        self._stopping = True
        self._wake.set()
        if self._worker is not None:
            _, late = await asyncio.wait({self._worker}, timeout=STOP_WITHIN)
            for task in late:  # it waits for a vendor: nothing of that page is stored
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            with contextlib.suppress(DatabaseAway):
                await self._database.run(lambda c: store.release(c, self._me), deadline=LOOK_WITHIN)

    def wake(self) -> None:
        """Look for work now: another process may have left some."""
        self._wake.set()

    # --- messages

    async def ask(self, request: BackfillRequest) -> BackfillStatus:
        """Begin a backfill, or go on with the same one, or make it longer; return how it stands.

        One that costs money is `priced` until `max_cost` covers its price.  `ValueError` with one
        sentence where nothing would come of it (`TooMany` where too many run), `Unanswered` when
        nobody can tell.
        """
        if self._stopping:
            raise Gone("price_ingestor is stopping")
        asked = wanted(request, self._now(), self._minute_days)
        known = await self._read(asked.id, lambda c: store.one(c, asked.id))
        fresh = known is None or request.again or not known.rows_expected
        since = asked.start
        if known is not None and not fresh:
            since = known.end
            asked = replace(asked, end=SHOPS[known.vendor].until(asked.end, self._now()))
        plan, dollars = None, 0.0
        if since < asked.end:
            named = request.provider if fresh or known is None else known.vendor
            plan = await self._plan(asked, since, named)
            if plan.paid:
                if known is not None and known.state is BackfillState.RUNNING and not fresh:
                    plan = None  # what runs was agreed to; more of it is a question for later
                else:
                    dollars = await self._price(asked, plan, since)
                    if request.max_cost is not None and dollars > request.max_cost:
                        raise ValueError(
                            f"max_cost must be {_up(dollars):.2f} or more: {plan.vendor} wants"
                            f" {dollars:.4g} dollars, was {request.max_cost:g}"
                        )
        agreed = not dollars or request.max_cost is not None

        async def step(connection: Connection) -> BackfillStatus:
            if fresh and plan is not None:
                await store.forget(connection, asked.id)
            if plan is not None and agreed:
                await store.extend(connection, asked, plan, since, dollars)
            elif plan is not None:
                await store.price(connection, asked, plan, dollars)
            if agreed:
                await store.resume(connection, asked.id)
            found = await store.one(connection, asked.id)
            assert found is not None
            return found

        status = await self._read(asked.id, step)
        self._wake.set()
        return status

    async def latest(self) -> tuple[BackfillStatus, ...]:
        """Return the newest backfills first."""
        return tuple(await self._read("all", store.latest))

    async def status(self, number: UUID) -> BackfillStatus | None:
        """Return how a backfill stands, None where there is none of that id."""
        found = await self._read(number, lambda c: store.one(c, number))
        if found is not None and found.state is BackfillState.RUNNING:
            self._wake.set()  # a process that ended may have left it to us
        return found

    async def cancel(self, number: UUID) -> BackfillStatus | None:
        """Stop a backfill that runs; asked for again it goes on where it stopped."""

        async def step(connection: Connection) -> BackfillStatus | None:
            await store.cancel(connection, number)
            return await store.one(connection, number)

        return await self._read(number, step)

    async def _read(self, what: object, step: Callable[[Connection], Awaitable[T]]) -> T:
        try:
            return await self._database.run(step, deadline=ANSWER_WITHIN)
        except DatabaseAway as e:
            raise Unanswered(f"backfill {what}", str(e), 5.0) from None

    # --- planning

    async def _plan(self, asked: Wanted, since: datetime, named: str | None) -> Plan:
        try:
            told = await self._tree.within(LOOK_WITHIN).provider_pool.status()
        except (Unreachable, DeadlineExceeded) as e:
            raise Unanswered("the vendors' limits", str(e), 5.0) from None
        offers = []
        for vendor in told:
            shut = {kind.kind: kind for kind in vendor.kinds}
            if vendor.state is VendorState.UNCONFIGURED or "bars" not in shut:
                continue
            down = vendor.state in (VendorState.DOWN, VendorState.LOGIN_NEEDED)
            down = down or shut["bars"].state == "open"
            why = vendor.remedy or shut["bars"].why or vendor.last_error or "it does not answer"
            rates = tuple(map(_rate, vendor.limits))
            offers.append(Offer(vendor.name, rates, why if down else None))
        return choose(
            offers,
            asked.symbols,
            asked.timeframe,
            since,
            asked.end,
            self._now(),
            named,
            always=self._always,
        )

    async def _price(self, asked: Wanted, plan: Plan, since: datetime) -> float:
        pool = self._tree.within(PRICE_WITHIN).provider_pool
        try:
            return await pool.bars_cost(
                asked.symbols, asked.timeframe, since, plan.end, plan.vendor
            )
        except (ProviderError, Unreachable, DeadlineExceeded) as e:
            raise Unanswered(
                f"the price of {plan.vendor}", str(e), getattr(e, "retry_after", None)
            ) from None

    # --- working

    async def _work(self) -> None:
        while not self._stopping:
            self._wake.clear()
            pause: float | None = POLL
            try:
                claim = await self._database.run(lambda c: store.claim(c, self._me, LEASE))
                if claim is not None:
                    await self._go_on(claim)
                    continue
                if not await self._database.read(store.any_running):
                    pause = None
            except DatabaseAway as e:
                log.warning("backfills wait for the database: %s", e)
            except NotYours:
                log.info("a backfill was cancelled or taken over; its page in hand is not stored")
            except Exception:
                log.exception("a backfill met what nobody expected; it is tried again")
                await asyncio.sleep(LONGEST_PAUSE / 2)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    async def _go_on(self, claim: Claim) -> None:
        """Ask for one page and store it; the backfills take turns, page by page."""
        cursor = await self._database.run(lambda c: store.cursor(c, claim.id))
        if cursor is None:
            await self._database.run(lambda c: store.finish(c, claim, self._me))
            log.info("backfill %s is over", claim.id)
            return
        part = cursor.part
        try:
            page = await self._tree.within(PAGE_WITHIN).provider_pool.bars_page(
                part.symbols, claim.timeframe, part.start, part.end, cursor.page, claim.vendor
            )
        except (ProviderError, Unreachable, DeadlineExceeded) as e:
            await self._set_back(claim, cursor, e)
            return
        await self._store(claim, cursor, page)

    async def _store(self, claim: Claim, cursor: Cursor, page: BarPage) -> None:
        bars = self._kept(claim, cursor, page)
        daily = claim.timeframe is Timeframe.DAY
        if not daily:
            days = {bar.at.astimezone(UTC).date() for bar in bars}
            await self._database.run(lambda c: bar_store.ensure_partitions(c, days))
        upsert = bar_store.upsert_days if daily else bar_store.upsert_minutes

        async def step(connection: Connection) -> None:
            if not await store.hold(connection, claim.id, self._me, LEASE):
                raise NotYours
            ids = await tickers.identify(connection, {bar.symbol for bar in bars})
            await upsert(connection, ids, bars)
            crash.point("backfill.storing")
            if not await store.advance(connection, claim.id, cursor, page.next, len(bars)):
                raise NotYours

        await self._database.run(step, deadline=STORE_WITHIN)
        crash.point("backfill.stored")

    def _kept(self, claim: Claim, cursor: Cursor, page: BarPage) -> list[Bar]:
        """Return the bars that were asked for, each once; minutes that would be pruned are left out."""
        symbols, start, end = set(cursor.part.symbols), cursor.part.start, cursor.part.end
        if claim.timeframe is Timeframe.MINUTE:
            today = self._now().astimezone(UTC).date()
            start = max(start, bar_store.midnight(today - timedelta(days=self._minute_days)))
        asked = [bar for bar in page.bars if bar.symbol in symbols and start <= bar.at < end]
        return list({(bar.symbol, bar.at): bar for bar in asked}.values())

    async def _set_back(self, claim: Claim, cursor: Cursor, error: Exception) -> None:
        """Note what is in the way, and what becomes of it: wait, begin the part anew, leave it out, fail."""
        number, me, why = claim.id, self._me, str(error)

        async def step(connection: Connection) -> None:
            if not await store.hold(connection, number, me, LEASE):
                raise NotYours
            if isinstance(error, Denied | LoginNeeded):
                remedy = getattr(error, "remedy", None)
                told = f"{why}; {remedy}" if remedy and remedy not in why else why
                await store.fail(connection, number, me, told)
            elif isinstance(error, Unsupported) and error.by_plan:
                await store.fail(connection, number, me, f"{why}; name another provider")
            elif isinstance(error, Unsupported) and cursor.page is None:
                await store.skip(connection, number, me, cursor, why)
            elif self._now() - cursor.moved_at > GIVE_UP:
                hours = GIVE_UP.total_seconds() / 3600
                await store.fail(
                    connection, number, me, f"no page came for {hours:.0f} hours: {why}"
                )
            else:
                lost = isinstance(error, Malformed) and cursor.tries + 1 >= RESTART_AFTER
                if cursor.page is not None and (lost or isinstance(error, Unsupported)):
                    await store.restart(connection, number, cursor)
                await store.wait(connection, number, me, why, _pause(error, cursor.tries))

        await self._database.run(step, deadline=STORE_WITHIN)
        log.warning("backfill %s: %s", number, why)


def _pause(error: Exception, tries: int) -> float:
    """Return the seconds to wait; as long as the vendor says, or longer with each try, with jitter."""
    asked = getattr(error, "retry_after", None) or 0.0
    own = min(FIRST_PAUSE * 2.0 ** min(tries, 10), LONGEST_PAUSE)
    jitter = random.uniform(0.5, 1.0)  # noqa: S311  (jitter, not a secret)
    return min(asked, LONGEST_ASKED_PAUSE) + own * jitter


def _rate(limit: LimitStatus) -> Rate:
    """Return a limit as the plan takes it: "120/min", "1GB/month", "500symbols/month"."""
    amount, _, window = limit.limit.partition("/")
    what = (
        "symbols" if amount.endswith("symbols") else "bytes" if amount.endswith("B") else "requests"
    )
    calendar = window in ("day", "month")
    left = int(limit.allowed * SWEEPS) - limit.spent if calendar else limit.allowed // BURST
    return Rate(limit.allowed, WINDOWS[window], max(left, 0), what, calendar)


def _up(dollars: float) -> float:
    """Return dollars that cover the price when they are written with cents."""
    return -(-dollars * 100 // 1) / 100
