"""Quotes and bars of the universe: one ask for all of it, one transaction to store it.

What a poll adds to the bars is in `domain/bars.py`; the statements are in `store/`.  Nothing here must
survive: what is in memory was stored before, and a restart reads it back.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from actors import crash
from actors.backfill import Backfills
from actors.client import Gone, Tree
from actors.domain import universe
from actors.domain.backfill import BackfillRequest, BackfillStatus
from actors.domain.bars import Tally, daily, fault, is_fresh, minute, missing, observe, trading_day
from actors.domain.calendar import FIRST_YEAR
from actors.domain.errors import Implausible, Unanswered, UnknownSymbol
from actors.domain.models import (
    Bar,
    MembersReport,
    Movers,
    Quote,
    Ranking,
    RefreshReport,
    Ticker,
    Timeframe,
)
from actors.domain.movers import ranked
from actors.domain.symbols import normalise
from actors.providers.base import ProviderError
from actors.settings import Settings
from actors.store import backfills, history, jobs, tickers
from actors.store import bars as bar_store
from actors.store import quotes as quote_store
from actors.store.database import Connection, Database, DatabaseAway, aware

T = TypeVar("T")

ALL_WITHIN = 60.0  # seconds for the quotes of the universe
ONE_WITHIN = 20.0
OPEN_WITHIN = 60.0  # seconds a start waits for the database
WRITE_WITHIN = 30.0
ANSWER_WITHIN = 5.0  # seconds somebody who asks waits for the database
MOST_ASKED = 500  # symbols that are followed because somebody asked; then the longest unasked goes
ASKED_FOR = timedelta(hours=24)  # how long an asked-for symbol is followed
ASKED_AGAIN = timedelta(hours=1)  # how exactly the database knows when it was last asked for
UNKNOWN_FOR = timedelta(minutes=10)
ABSENT_FOR = timedelta(hours=1)
MOST_REMEMBERED = 2_000  # unknown symbols, and ranges without bars
KEPT_ROWS = timedelta(days=30)  # of the history and of job runs
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
DAYS_AHEAD = 3  # partitions made before they are needed

log = logging.getLogger("volaris.price_ingestor")


class PriceIngestor:
    """Keeps the quotes and bars of the universe current, as `client.PriceIngestor` promises it.

    Guarantees: what `refresh` has returned is stored; a refresh cut off anywhere leaves quotes and bars
    that fit each other, and the next one goes on from there; asking twice changes nothing.
    """

    def __init__(
        self,
        settings: Settings,
        tree: Tree,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._tree, self._now = tree, now
        self._bar_days = settings.volaris_bars_1m_days
        self._database = Database.of(settings)
        self._backfills = Backfills(settings, self._database, tree, now)
        self._ids: dict[str, int] = {}
        self._members: dict[str, Ticker] = {}  # of the S&P 500
        self._quotes: dict[str, Quote] = {}
        self._asked: OrderedDict[str, datetime] = OrderedDict()  # the longest unasked first
        self._stored_asked: dict[str, datetime] = {}
        self._partitions: set[date] = set()
        self._unknown = _Remembered(UNKNOWN_FOR)
        self._absent = _Remembered(ABSENT_FOR)
        self._flights: dict[Hashable, asyncio.Task[Any]] = {}
        self._stopping = False

    async def start(self) -> None:
        """Read back what is stored; `DatabaseAway` when there is no database for 60 s."""
        today = self._now().astimezone(UTC).date()
        await self._ensure_partitions(_span(today, -1, DAYS_AHEAD), OPEN_WITHIN)

        async def step(
            connection: Connection,
        ) -> tuple[dict[str, int], list[Ticker], dict[str, datetime], list[Quote]]:
            await tickers.sync(connection, universe.seed())
            stored = await quote_store.latest(connection)
            known, members = await tickers.ids(connection), await tickers.members(connection)
            asked = await tickers.asked(connection)
            return known, members, asked, [row.quote for row in stored]

        self._ids, members, asked, quotes = await self._database.run(step, deadline=OPEN_WITHIN)
        self._members = {ticker.symbol: ticker for ticker in members}
        self._quotes = {quote.symbol: quote for quote in quotes}
        self._asked = OrderedDict(sorted(asked.items(), key=lambda item: item[1]))
        self._stored_asked = dict(asked)
        await self._backfills.start()

    async def stop(self) -> None:
        """Finish the work in hand, take no more, close."""
        self._stopping = True
        flights = self._flights.values()
        await asyncio.gather(self._backfills.stop(), *flights, return_exceptions=True)
        await self._database.close()

    # --- messages

    async def refresh(self) -> RefreshReport:
        """Bring every symbol of the universe up to date; all who ask meanwhile share one run."""
        return await self._once("refresh", self._refresh)

    async def daily(self) -> int:
        """Store today's daily bar of every symbol, after one refresh, and return how many changed."""
        return await self._once("daily", self._daily)

    async def prune(self) -> int:
        """Make the partitions of the coming days, drop what is past keeping; return partitions dropped."""
        return await self._once("prune", self._prune)

    async def constituents(self) -> MembersReport:
        """Follow the S&P 500 as its list is now; `Implausible` changes nothing."""
        return await self._once("constituents", self._constituents)

    async def members(self) -> tuple[Ticker, ...]:
        """Return the members of the S&P 500, by symbol."""
        return tuple(self._members.values())

    async def movers(self, ranking: Ranking, limit: int) -> Movers:
        """Return which of the S&P 500 moved or traded most, by the newest quotes; nobody is asked.

        `Unanswered` before the first refresh.
        """
        quotes = (self._quotes[symbol] for symbol in self._members if symbol in self._quotes)
        found = ranked(quotes, Ranking(ranking), limit)
        if found is None:
            raise Unanswered("the movers", "no quotes have come yet", 5.0)
        return found

    async def quote(self, symbol: str) -> Quote:
        """Return the newest quote of a symbol, whatever its age; one never seen is asked for now.

        `ValueError` for what is no symbol, `UnknownSymbol`, or `Unanswered` when nobody can tell.
        """
        name = self._noted(normalise(symbol))
        if name in self._quotes:
            return self._quotes[name]
        return await self._once(("quote", name), lambda: self._ask(name))

    async def bars(
        self, symbol: str, timeframe: Timeframe, start: datetime, end: datetime, limit: int
    ) -> tuple[Bar, ...]:
        """Return the newest `limit` bars of start <= at < end, oldest first.

        Daily bars that are not stored are fetched.  The errors are those of `quote`.
        """
        name = self._noted(normalise(symbol))
        start, end = max(aware(start), LONG_AGO), min(aware(end), self._now() + timedelta(days=1))
        if limit < 1:
            raise ValueError(f"limit must be 1 or more, was {limit}")
        if name not in self._ids:
            await self.quote(name)
        if name not in self._ids:
            raise Unanswered(f"bars of {name}", "there is no database to keep them", 5.0)
        if Timeframe(timeframe) is Timeframe.MINUTE:
            read = bar_store.minutes
        else:
            read = bar_store.days
            await self._complete(name, start, end)
        return tuple(await self._read(name, lambda c: read(c, name, start, end, limit)))

    async def backfill(self, request: BackfillRequest) -> BackfillStatus:
        """Begin, go on with or lengthen a backfill, as `Backfills.ask` promises it; return how it stands."""
        return await self._backfills.ask(request)

    async def backfills(self) -> tuple[BackfillStatus, ...]:
        """Return the newest backfills first."""
        return await self._backfills.latest()

    async def backfill_status(self, number: UUID) -> BackfillStatus | None:
        """Return how a backfill stands, None where there is none of that id."""
        return await self._backfills.status(number)

    async def cancel_backfill(self, number: UUID) -> BackfillStatus | None:
        """Stop a backfill that runs; asked for again it goes on where it stopped."""
        return await self._backfills.cancel(number)

    # --- the universe

    async def _refresh(self) -> RefreshReport:
        begun = time.monotonic()
        asked = self._universe()
        batch = await self._tree.within(ALL_WITHIN).provider_pool.quotes(asked, sweep=True)
        stored, bars, faults = await self._record(batch.quotes)
        return RefreshReport(
            asked=len(asked),
            stored=stored,
            bars=bars,
            unknown=batch.unknown,
            failed=(*batch.failed, *faults),
            seconds=time.monotonic() - begun,
        )

    def _universe(self) -> tuple[str, ...]:
        self._forget(self._unasked())
        return tuple(self._ids)

    def _unasked(self) -> list[str]:
        limit = self._now() - ASKED_FOR
        return [symbol for symbol, at in self._asked.items() if at < limit]

    def _forget(self, symbols: Iterable[str]) -> None:
        for symbol in symbols:
            for table in (self._asked, self._stored_asked, self._ids, self._quotes):
                table.pop(symbol, None)

    def _noted(self, symbol: str) -> str:
        """Note that somebody asks for the symbol, which keeps an asked-for one in the universe."""
        if self._stopping:
            raise Gone("price_ingestor is stopping")
        if symbol in self._asked:
            if self._asked[symbol] < self._now() - ASKED_FOR:
                self._forget([symbol])  # its quote is as old as that
            else:
                self._asked[symbol] = self._now()
                self._asked.move_to_end(symbol)
        return symbol

    async def _record(self, quotes: Iterable[Quote]) -> tuple[int, int, list[tuple[str, str]]]:
        """Store quotes and what they add to the bars, then remember them; the faulty ones are returned."""
        now = self._now()
        good: dict[str, Quote] = {}
        faults: list[tuple[str, str]] = []
        for quote in quotes:
            known = self._quotes.get(quote.symbol)
            if why := fault(quote, now):
                faults.append((quote.symbol, why))
            elif quote.last is None and known is not None and known.last is not None:
                faults.append((quote.symbol, f"{quote.source} told no last price"))
            elif quote.symbol in self._ids:
                good[quote.symbol] = quote
        if not good:
            return 0, 0, faults
        ids = {symbol: self._ids[symbol] for symbol in good}  # the universe may change meanwhile
        traded = {minute(quote.at).date() for quote in good.values() if is_fresh(quote, now)}
        await self._ensure_partitions(traded, WRITE_WITHIN)
        touched = {
            symbol: at
            for symbol, at in self._asked.items()
            if at - self._stored_asked.get(symbol, at) > ASKED_AGAIN
        }

        async def step(connection: Connection) -> tuple[int, int]:
            before = await quote_store.before(connection, ids, list(good.values()))
            newer: list[Quote] = []
            bars: list[Bar] = []
            tallies: dict[str, Tally] = {}
            for symbol, quote in good.items():
                added = observe(*before[symbol], quote, now)
                if added is None:
                    continue
                newer.append(quote)
                tallies[symbol] = added.tally
                if added.bar is not None:
                    bars.append(added.bar)
            stored = await quote_store.upsert(connection, ids, newer, now, tallies)
            crash.point("price_ingestor.storing")
            built = await bar_store.upsert_minutes(connection, ids, bars)
            if touched:
                await tickers.touch(connection, touched)
            return stored, built

        # Repeatable: a rival that stores a newer quote in between makes this one begin again, so the
        # same shares are never counted twice.
        stored, built = await self._database.run(
            step, deadline=WRITE_WITHIN, isolation="repeatable_read"
        )
        crash.point("price_ingestor.stored")
        self._stored_asked |= touched
        for symbol, quote in good.items():
            known = self._quotes.get(symbol)
            if symbol in self._ids and (known is None or known.at <= quote.at):
                self._quotes[symbol] = quote
        return stored, built, faults

    async def _ensure_partitions(self, days: Iterable[date], deadline: float) -> None:
        new = set(days) - self._partitions
        if new:
            await self._database.run(
                lambda c: bar_store.ensure_partitions(c, new), deadline=deadline
            )
            self._partitions |= new

    # --- what somebody asks for

    async def _ask(self, symbol: str) -> Quote:
        if self._unknown.holds(symbol, self._now()):
            raise UnknownSymbol(symbol)
        try:
            batch = await self._tree.within(ONE_WITHIN).provider_pool.quotes((symbol,))
        except ProviderError as e:
            raise Unanswered(
                f"a quote of {symbol}", str(e), getattr(e, "retry_after", None)
            ) from None
        if symbol in batch.unknown:
            self._unknown.add(symbol, self._now())
            raise UnknownSymbol(symbol)
        found = next((quote for quote in batch.quotes if quote.symbol == symbol), None)
        why = fault(found, self._now()) if found else dict(batch.failed).get(symbol, "no answer")
        if found is None or why is not None:
            raise Unanswered(f"a quote of {symbol}", why or "no answer")
        try:
            if symbol not in self._ids:
                await self._follow(found)
            await self._record([found])
        except DatabaseAway as e:
            log.warning("the quote of %s was answered, but not stored: %s", symbol, e)
        return found

    async def _follow(self, quote: Quote) -> None:
        """Take a symbol somebody asked for into the universe; the longest unasked makes room."""
        now, room = self._now(), len(self._asked) < MOST_ASKED
        leaving = self._unasked() if room else [next(iter(self._asked))]
        ticker = Ticker(quote.symbol, quote.name or quote.symbol)

        async def step(connection: Connection) -> int:
            if leaving:
                await tickers.retire(connection, leaving)
            return await tickers.add(connection, ticker, now)

        number = await self._database.run(step, deadline=ANSWER_WITHIN)
        self._forget(leaving)
        self._ids[quote.symbol] = number
        self._asked[quote.symbol] = self._stored_asked[quote.symbol] = now

    async def _complete(self, symbol: str, start: datetime, end: datetime) -> None:
        """Fetch the daily bars of the range that are not stored, once for all who ask."""
        yesterday = trading_day(self._now()) - timedelta(days=1)  # today is not over
        first = max(bar_store.first_day(start), date(FIRST_YEAR, 1, 1))
        last = min(bar_store.first_day(end) - timedelta(days=1), yesterday)
        if first > last:
            return
        stored = await self._read(symbol, lambda c: bar_store.complete_days(c, symbol, first, last))
        gap = missing(stored, first, last)
        if gap is None or self._absent.holds((symbol, *gap), self._now()):
            return
        try:
            await self._once(("bars", symbol, *gap), lambda: self._fetch(symbol, *gap))
        except Unanswered as e:
            if not stored:
                raise
            log.warning("%s; what is stored was answered", e)

    async def _fetch(self, symbol: str, first: date, last: date) -> None:
        start, end = bar_store.midnight(first), bar_store.midnight(last + timedelta(days=1))
        ids = {symbol: self._ids[symbol]}
        pool = self._tree.within(ONE_WITHIN).provider_pool
        try:
            found = await pool.bars(symbol, Timeframe.DAY, start, end)
        except ProviderError as e:
            why, again = str(e), getattr(e, "retry_after", None)
            raise Unanswered(f"daily bars of {symbol}", why, again) from None
        kept = [bar for bar in found if bar.symbol == symbol and start <= bar.at < end]
        await self._read(symbol, lambda c: bar_store.upsert_days(c, ids, kept))
        # What is still missing after an answer is not there: a new listing, a halt.
        self._absent.add((symbol, first, last), self._now())

    async def _read(self, symbol: str, step: Callable[[Connection], Awaitable[T]]) -> T:
        try:
            return await self._database.run(step, deadline=ANSWER_WITHIN)
        except DatabaseAway as e:
            raise Unanswered(f"bars of {symbol}", str(e), 5.0) from None

    # --- once a day

    async def _daily(self) -> int:
        await self.refresh()
        today = trading_day(self._now())
        told = [quote for quote in self._quotes.values() if trading_day(quote.at) == today]
        bars = [bar for bar in map(daily, told) if bar is not None]
        ids = dict(self._ids)
        return await self._database.run(lambda c: bar_store.upsert_days(c, ids, bars))

    async def _constituents(self) -> MembersReport:
        listed = await self._tree.within(ALL_WITHIN).provider_pool.constituents()
        now = self._now()

        async def step(
            connection: Connection,
        ) -> tuple[list[Ticker], tuple[Ticker, ...], tuple[str, ...], dict[str, int]]:
            before = await tickers.members(connection)
            joined, left = universe.changes((ticker.symbol for ticker in before), listed)
            await tickers.change_members(connection, joined, left, now)
            members, known = await tickers.members(connection), await tickers.ids(connection)
            return members, joined, left, known

        try:
            members, joined, left, known = await self._database.run(step)
        except Implausible as e:
            log.error("%s", e)
            raise
        self._members = {ticker.symbol: ticker for ticker in members}
        self._forget(left)
        for ticker in joined:
            self._asked.pop(ticker.symbol, None)
            self._stored_asked.pop(ticker.symbol, None)
            self._ids[ticker.symbol] = known[ticker.symbol]
        if joined or left:
            names = ", ".join(ticker.symbol for ticker in joined)
            log.info("S&P 500: %s joined, %s left", names or "nobody", ", ".join(left) or "nobody")
        return MembersReport(len(members), tuple(ticker.symbol for ticker in joined), left)

    async def _prune(self) -> int:
        now = self._now()
        today = now.astimezone(UTC).date()
        oldest = today - timedelta(days=self._bar_days)
        asked = dict(self._asked)
        await self._ensure_partitions(_span(today, 0, DAYS_AHEAD), WRITE_WITHIN)
        dropped = await self._database.run(lambda c: bar_store.drop_before(c, oldest))
        self._partitions = {day for day in self._partitions if day >= oldest}

        async def step(connection: Connection) -> None:
            await jobs.prune(connection, now - KEPT_ROWS)
            await history.prune(connection, now - KEPT_ROWS)
            await backfills.prune(connection, now - KEPT_ROWS)
            await tickers.touch(connection, asked)
            await tickers.retire_unasked(connection, now - ASKED_FOR)

        await self._database.run(step)
        self._forget(self._unasked())
        return dropped

    async def _once(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """Return the answer of one piece of work, shared by all who ask for the same meanwhile."""
        task = self._flights.get(key)
        if task is None:
            if self._stopping:
                raise Gone("price_ingestor is stopping")
            task = asyncio.ensure_future(work())
            self._flights[key] = task
            task.add_done_callback(lambda done: self._landed(key, done))
        # Shielded: one who gives up must not take the answer from the others.
        answer: T = await asyncio.shield(task)
        return answer

    def _landed(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        self._flights.pop(key, None)
        if not task.cancelled():
            task.exception()  # it was told to whoever still waits; nobody else has to hear of it


class _Remembered:
    """A bounded memory of answers that will not change soon."""

    def __init__(self, lasting: timedelta) -> None:
        self._lasting = lasting
        self._until: OrderedDict[Hashable, datetime] = OrderedDict()

    def add(self, key: Hashable, now: datetime) -> None:
        self._until[key] = now + self._lasting
        self._until.move_to_end(key)
        if len(self._until) > MOST_REMEMBERED:
            self._until.popitem(last=False)

    def holds(self, key: Hashable, now: datetime) -> bool:
        return key in self._until and now < self._until[key]


def _span(day: date, first: int, last: int) -> list[date]:
    return [day + timedelta(days=n) for n in range(first, last + 1)]
