"""The only process that talks to vendors: who is asked, in which order, how often, and once for all.

Adapters build and parse.  What a vendor's weather demands is in `providers.limits` (its plan),
`providers.breaker` and `providers.desk` (whether it is asked at all), and here: the next vendor answers
what the first one did not.
"""

import asyncio
import importlib
import random
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextvars import copy_context
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from actors.domain.bars import mad
from actors.domain.models import (
    Bar,
    BarPage,
    Earnings,
    Movers,
    Profile,
    Quote,
    QuoteBatch,
    Ranking,
    Recommendations,
    Session,
    Sourced,
    Story,
    Ticker,
    Timeframe,
    VendorState,
    VendorStatus,
)
from actors.providers import PROVIDERS
from actors.providers.base import (
    Denied,
    Malformed,
    ProviderError,
    Seal,
    Spent,
    TokenStore,
    Unavailable,
    Unsupported,
)
from actors.providers.choice import JUDGES, preference
from actors.providers.desk import Desk
from actors.providers.http import Tools
from actors.providers.limits import ROOM, SWEEP, Ledger
from actors.providers.shelf import AGES, Shelf
from actors.providers.vendor import Kind, NeedsLogin, Provider
from actors.settings import Settings
from actors.vendor_books import DatabaseBooks

if TYPE_CHECKING:
    import httpx

    from actors.domain.chains import Chain

T = TypeVar("T")

DEADLINE = 30.0  # seconds for one message, its retries included
PATIENCE = 4.0  # seconds for one vendor, where the next one can be asked
PATIENCE_FOR = {Kind.CHAIN: 12.0, Kind.BARS: 8.0}  # these take several requests, or large answers
TRIES = 4
MALFORMED_TRIES = 2  # garbage may be a passing fault; twice the same is a changed format
FIRST_BACKOFF, LONGEST_BACKOFF = 0.5, 8.0  # seconds; the pause is drawn between 0 and this
LOGIN_WITHIN = 20.0  # seconds for the token host
OPINIONS = 2  # vendors that must say so, where there are as many, until a symbol is unknown
FEW = 20  # symbols asked of a vendor that answers one a request
MOST_PAGES = 200
USED_UP, USED_UP_FOR = "the symbols of its plan are used up for this month", 3600.0


class Books(TokenStore, Ledger, Protocol):
    """What must survive: logins and spend."""


class ProviderPool:
    """Market data from whichever vendor can answer, as `client.ProviderPool` promises it."""

    def __init__(
        self,
        settings: Settings,
        tree: object,  # noqa: ARG002  (the pool asks nobody)
        *,
        books: Books | None = None,
        transport: "httpx.AsyncBaseTransport | None" = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        deadline: float = DEADLINE,
    ) -> None:
        self._settings, self._now, self._clock, self._sleep = settings, now, clock, sleep
        self._deadline = deadline
        self._own_books = DatabaseBooks(settings) if books is None else None
        self._vault: Seal | None = None
        kept = books or cast("Books", self._own_books)
        self._tools = Tools(
            tokens=kept,
            vault=self._opened_vault,
            transport=transport,
            ledger=kept,
            now=now,
            clock=clock,
            sleep=sleep,
        )
        self._desks: dict[str, Desk] = {}
        self._flights: dict[Hashable, asyncio.Task[Any]] = {}
        self._shelf = Shelf()

    async def start(self) -> None:
        """Open a line to every configured vendor; needs neither the vendors nor the database."""
        for name in PROVIDERS:
            provider = _class(name).of(self._settings, self._tools)
            if provider is not None:
                self._desks[name] = Desk(provider, self._now, self._clock)
        providers = [desk.provider for desk in self._desks.values()]
        await asyncio.gather(
            *(provider.open() for provider in providers),
            *(provider.limiter.open() for provider in providers),
        )

    async def stop(self) -> None:
        """Give up what is in flight, write down what was spent and close every line."""
        flights = list(self._flights.values())
        for task in flights:
            task.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        providers = [desk.provider for desk in self._desks.values()]
        await asyncio.gather(
            *(provider.close() for provider in providers),
            *(provider.limiter.close() for provider in providers),
        )
        if self._own_books is not None:
            await self._own_books.close()

    # --- messages; a sweep waits for its turn behind people's questions

    async def quotes(self, symbols: Sequence[str], *, sweep: bool = False) -> QuoteBatch:
        """Return the market of many symbols; a `ProviderError` only where nothing could be had.

        What one vendor did not tell is asked of the next; each quote's `source` says whose it is.
        """
        asked = tuple(dict.fromkeys(symbols))
        if not asked:
            return QuoteBatch(())
        return await self._once(Kind.QUOTES, asked, lambda: self._quotes(asked), sweep=sweep)

    async def bars(
        self,
        symbol: str,
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        *,
        sweep: bool = False,
    ) -> tuple[Bar, ...]:
        """Return a symbol's bars that start in [start, end), oldest first; () for an unknown symbol."""
        _refuse_naive(start, end)
        if start >= end:
            return ()
        frame = Timeframe(timeframe)

        async def ask(desk: Desk, by: float) -> tuple[Bar, ...] | None:
            bars: list[Bar] = []
            token: str | None = None
            for _ in range(MOST_PAGES):
                page = await self._page(desk, (symbol,), frame, start, end, by, token)
                if symbol in page.unknown:
                    return None
                bars += page.bars
                token = page.next
                if token is None:
                    return tuple(bars)
            raise Unsupported(desk.name, f"more than {MOST_PAGES} pages of bars of {symbol}")

        key = (symbol, frame, start, end)
        found = await self._once(
            Kind.BARS, key, lambda: self._first(Kind.BARS, ask, unknown=None), sweep=sweep
        )
        return found or ()

    async def bars_page(
        self,
        symbols: Sequence[str],
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        page: str | None = None,
        vendor: str | None = None,
        *,
        sweep: bool = True,
    ) -> BarPage:
        """Return one data request's worth of many symbols' bars, for backfills.

        `page` is the `next` of the answer before and belongs to the very same question.  With a `vendor`
        only that one is asked.  A page from the middle of an answer is asked of who gave the one before.
        """
        _refuse_naive(start, end)
        asked, frame = tuple(dict.fromkeys(symbols)), Timeframe(timeframe)
        offset, token = 0, None
        if page is not None:
            source, offset, token = _read_page(page, len(asked))
            vendor = source if token else vendor
        if not asked[offset:] or start >= end:
            return BarPage(())

        async def ask(desk: Desk, by: float) -> BarPage:
            some = asked[offset : offset + desk.provider.bars_batch]
            got = await self._page(desk, some, frame, start, end, by, token)
            after = offset if got.next else offset + len(some)
            more = got.next is not None or after < len(asked)
            following = f"{desk.name}|{after}|{got.next or ''}" if more else None
            return BarPage(got.bars, following, got.unknown)

        key = ("page", asked, frame, start, end, page, vendor)
        return await self._once(
            Kind.BARS, key, lambda: self._first(Kind.BARS, ask, vendor=vendor), sweep=sweep
        )

    async def bars_cost(
        self,
        symbols: Sequence[str],
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        vendor: str,
        *,
        sweep: bool = False,
    ) -> float:
        """Return the dollars that a vendor wants for bars, where it sells them by the byte."""
        _refuse_naive(start, end)
        asked, frame = tuple(dict.fromkeys(symbols)), Timeframe(timeframe)

        def ask(desk: Desk, by: float) -> Awaitable[float]:
            return desk.ask(Kind.BARS, lambda seller: seller.cost(asked, frame, start, end, by))

        key = ("cost", asked, frame, start, end, vendor)
        return await self._once(
            Kind.BARS, key, lambda: self._first(Kind.BARS, ask, vendor=vendor), sweep=sweep
        )

    async def chain(
        self,
        symbol: str,
        first: date | None = None,
        last: date | None = None,
        *,
        sweep: bool = False,
    ) -> "Chain":
        """Return the contracts that expire within [first, last], at most 5 minutes old."""
        return await self._simple(
            Kind.CHAIN,
            (symbol, first, last),
            lambda vendor, by: vendor.chain(symbol, by, first, last),
            sweep=sweep,
        )

    async def movers(self, ranking: Ranking = Ranking.ACTIVE, *, sweep: bool = False) -> Movers:
        """Return the symbols that moved or traded most, at most a minute old."""
        rank = Ranking(ranking)
        return await self._simple(
            Kind.MOVERS, rank, lambda vendor, by: vendor.movers(rank, by), sweep=sweep
        )

    async def profile(self, symbol: str, *, sweep: bool = False) -> Profile | None:
        """Return what the company is, at most a day old; None where there is no such symbol."""

        async def ask(desk: Desk, by: float) -> Profile | None:
            await _claim(desk, (symbol,))
            return await desk.ask(Kind.PROFILE, lambda vendor: vendor.profile(symbol, by))

        return await self._once(
            Kind.PROFILE,
            symbol,
            lambda: self._first(Kind.PROFILE, ask, unknown=None),
            sweep=sweep,
        )

    async def news(
        self,
        symbols: Sequence[str],
        since: datetime,
        limit: int = 50,
        *,
        judged: bool = False,
        sweep: bool = False,
    ) -> Sourced[tuple[Story, ...]]:
        """Return the newest stories first, at most 10 minutes old; no symbols = the whole market's.

        With `judged` only who says whether a story is good or bad is asked.
        """
        _refuse_naive(since)
        asked = tuple(dict.fromkeys(symbols))
        age = timedelta(seconds=AGES[Kind.NEWS])
        first = (
            since - (since - datetime(1970, 1, 1, tzinfo=UTC)) % age
        )  # so that many ask the same
        found = await self._sourced(
            Kind.NEWS,
            (asked, first, limit, judged),
            lambda vendor, by: vendor.news(asked, first, limit, by),
            sweep=sweep,
            vendor=self._judge() if judged else None,
        )
        return replace(found, rows=tuple(story for story in found.rows if story.at >= since))

    async def recommendations(
        self, symbol: str, *, sweep: bool = False
    ) -> Sourced[tuple[Recommendations, ...]]:
        """Return the analysts' opinions, the newest month first, at most a day old."""
        return await self._sourced(
            Kind.RECOMMENDATIONS,
            symbol,
            lambda vendor, by: vendor.recommendations(symbol, by),
            sweep=sweep,
        )

    async def earnings(
        self, first: date, last: date, symbol: str | None = None, *, sweep: bool = False
    ) -> Sourced[tuple[Earnings, ...]]:
        """Return the reports of [first, last], oldest first, at most 6 hours old."""
        return await self._sourced(
            Kind.EARNINGS,
            (first, last, symbol),
            lambda vendor, by: vendor.earnings(first, last, by, symbol),
            sweep=sweep,
        )

    async def hours(
        self, first: date, last: date, *, sweep: bool = False
    ) -> Sourced[tuple[Session, ...]]:
        """Return the regular sessions of [first, last], at most a day old."""
        return await self._sourced(
            Kind.HOURS, (first, last), lambda vendor, by: vendor.hours(first, last, by), sweep=sweep
        )

    async def constituents(self, *, sweep: bool = True) -> tuple[Ticker, ...]:
        """Return the members of the S&P 500, at most a day old."""
        return await self._simple(
            Kind.CONSTITUENTS, None, lambda vendor, by: vendor.constituents(by), sweep=sweep
        )

    async def status(self) -> tuple[VendorStatus, ...]:
        """Return every vendor we know, configured or not."""
        return tuple(
            self._desks[name].status() if name in self._desks else _unconfigured(name)
            for name in PROVIDERS
        )

    # --- logins of people

    async def login(self, vendor: str) -> tuple[str, str]:
        """Return (the address at which a person logs in, the one the browser is sent back to)."""
        provider = self._with_login(vendor).provider
        assert isinstance(provider, NeedsLogin)
        return provider.authorize_url(), provider.redirect_uri

    async def log_in(self, vendor: str, redirected_to: str) -> datetime:
        """Begin a login with the address the browser was sent back to; return when it ends.

        `ValueError` for an address that is none of a login begun here, else a `ProviderError`.
        """
        desk = self._with_login(vendor)
        assert isinstance(desk.provider, NeedsLogin)
        ends = await desk.provider.log_in(redirected_to, self._clock() + LOGIN_WITHIN)
        desk.logged_in()
        return ends

    def _with_login(self, vendor: str) -> Desk:
        desk = self._desks.get(vendor)
        if desk is None or not isinstance(desk.provider, NeedsLogin):
            known = [n for n, d in self._desks.items() if isinstance(d.provider, NeedsLogin)]
            whom = (
                f"people log in at {', '.join(known)} only" if known else "no vendor needs a login"
            )
            raise Unsupported(vendor, whom)
        return desk

    # --- once for all

    async def _once(
        self, kind: Kind, key: Hashable, work: Callable[[], Awaitable[T]], *, sweep: bool
    ) -> T:
        """Return the kept answer, or that of one piece of work, shared by all who ask meanwhile."""
        if kept := self._shelf.get(kind, key, self._clock()):
            answer: T = kept[0]
            return answer

        async def fly() -> T:
            got = await work()
            self._shelf.put(kind, key, got, self._clock())
            return got

        task = self._flights.get((kind, key))
        if task is None:
            context = copy_context()
            context.run(SWEEP.set, sweep)
            task = asyncio.create_task(fly(), context=context)
            self._flights[kind, key] = task
            task.add_done_callback(lambda done: self._landed((kind, key), done))
        # Shielded: one who gives up must not take the answer from the others.
        shared: T = await asyncio.shield(task)
        return shared

    def _landed(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        del self._flights[key]
        if not task.cancelled():
            task.exception()  # everybody who asked may be gone; the error was counted where it happened

    async def _simple(
        self,
        kind: Kind,
        key: Hashable,
        request: Callable[[Provider, float], Awaitable[T]],
        *,
        sweep: bool,
    ) -> T:
        return (await self._sourced(kind, key, request, sweep=sweep)).rows

    async def _sourced(
        self,
        kind: Kind,
        key: Hashable,
        request: Callable[[Provider, float], Awaitable[T]],
        *,
        sweep: bool,
        vendor: str | None = None,
    ) -> Sourced[T]:
        async def ask(desk: Desk, by: float) -> Sourced[T]:
            rows = await desk.ask(kind, lambda vendor: request(vendor, by))
            return Sourced(rows, desk.name, self._now())

        return await self._once(
            kind, key, lambda: self._first(kind, ask, vendor=vendor), sweep=sweep
        )

    def _judge(self) -> str:
        """Return who tells how good or bad a story is."""
        if found := next((name for name in JUDGES if name in self._desks), None):
            return found
        raise Unsupported(
            JUDGES[0], f"nobody who is configured judges news; set {_needs(JUDGES[0])}"
        )

    # --- one vendor after the other

    def _sellers(self, kind: Kind, vendor: str | None) -> list[Desk]:
        """Return who may be asked, the preferred one first; an error where there is nobody."""
        if vendor is not None:
            if vendor not in PROVIDERS:
                raise ValueError(f"vendor must be one of {', '.join(PROVIDERS)}, was {vendor!r}")
            if vendor not in self._desks:
                raise Denied(vendor, f"it is not configured; set {_needs(vendor)}")
        names = preference(self._settings, kind) if vendor is None else (vendor,)
        desks = [self._desks[name] for name in names if name in self._desks]
        sellers = [desk for desk in desks if kind in desk.provider.sells]
        if not sellers and self._desks.keys() <= {"sp500"}:
            first = next(iter(PROVIDERS))
            raise Denied(first, f"no vendor is configured; set {_needs(first)}")
        if not sellers:
            who = " and ".join(desk.name for desk in desks)
            raise Unsupported(who, f"nobody who is configured sells {kind}")
        return sellers

    async def _rounds(
        self,
        kind: Kind,
        left: Callable[[int], bool],
        visit: Callable[[Desk, float, int], Awaitable[ProviderError | None]],
        vendor: str | None = None,
    ) -> list[ProviderError]:
        """Visit one vendor after the other, and again who may do better; return all last faults.

        `left` tells whether anything is left to ask in the round of that number.  `visit` is told the
        desk, the moment by which it must be done and the round; it returns the fault, or None where
        there is nothing more to ask of that vendor.
        """
        end = self._clock() + self._deadline
        desks = self._sellers(kind, vendor)
        faults: dict[str, ProviderError] = {}
        for attempt in range(1, TRIES + 1):
            pauses: list[float] = []
            again: list[Desk] = []
            for i, desk in enumerate(desks):
                fault: ProviderError | None
                pause = None
                if not left(attempt):
                    return list(faults.values())
                if shut := desk.closed_to(kind, by_name=vendor is not None):
                    fault = faults.get(desk.name, shut)
                else:
                    # With others to ask, one that hangs must not use up the time of all.
                    others = any(other.closed_to(kind) is None for other in desks[i + 1 :])
                    patience = PATIENCE_FOR.get(kind, PATIENCE) if others else self._deadline
                    fault = await visit(desk, min(end, self._clock() + patience), attempt)
                    pause = _pause_before_retry(fault, attempt) if fault else None
                if fault is None:
                    faults.pop(desk.name, None)
                else:
                    faults[desk.name] = fault
                if pause is not None:
                    pauses.append(pause)
                    again.append(desk)
            desks = again
            if not pauses or not left(attempt + 1) or self._clock() + min(pauses) + ROOM > end:
                break
            await self._sleep(min(pauses))
        return list(faults.values())

    async def _first(
        self,
        kind: Kind,
        ask: Callable[[Desk, float], Awaitable[T]],
        *,
        vendor: str | None = None,
        unknown: object = ...,
    ) -> T:
        """Return the first answer that is not `unknown`; that only where two vendors say so."""
        answers: list[T] = []
        opinions = 0

        def left(attempt: int) -> bool:  # nobody is waited for where somebody says there is none
            return not answers and opinions < (OPINIONS if attempt == 1 else 1)

        async def visit(desk: Desk, by: float, _: int) -> ProviderError | None:
            nonlocal opinions
            try:
                answer = await ask(desk, by)
            except ProviderError as e:
                return e
            desk.answered(kind)
            if answer is unknown:
                opinions += 1
            else:
                answers.append(answer)
            return None

        faults = await self._rounds(kind, left, visit, vendor)
        for fault in faults:
            self._desks[fault.vendor].failed(kind, fault)
        if answers:
            return answers[0]
        if opinions:
            return cast("T", unknown)
        raise _told(faults)

    async def _page(
        self,
        desk: Desk,
        symbols: tuple[str, ...],
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        by: float,
        token: str | None,
    ) -> BarPage:
        await _claim(desk, symbols)
        return await desk.ask(
            Kind.BARS, lambda vendor: vendor.bars(symbols, timeframe, start, end, by, token)
        )

    async def _quotes(self, asked: tuple[str, ...]) -> QuoteBatch:
        sheet = _Sheet(asked)

        async def visit(desk: Desk, by: float, attempt: int) -> ProviderError | None:
            symbols = sheet.open_for(desk.name, attempt)
            faults: list[ProviderError] = []
            size = desk.provider.batch
            if size == 1 and len(symbols) > FEW:
                sheet.excuse(symbols, Unsupported(desk.name, "it answers one symbol a request"))
                symbols = random.sample(symbols, FEW)  # another time others
            allowed = await desk.provider.limiter.claim(symbols)
            if len(allowed) < len(symbols):
                used_up = Spent(desk.name, USED_UP, USED_UP_FOR)
                sheet.excuse([s for s in symbols if s not in allowed], used_up)
                if not allowed:
                    return used_up
            batches = [allowed[i : i + size] for i in range(0, len(allowed), size)]

            async def send(batch: tuple[str, ...]) -> None:
                try:
                    answer = await desk.ask(Kind.QUOTES, lambda vendor: vendor.quotes(batch, by))
                except ProviderError as e:
                    faults.append(e)
                    sheet.excuse(batch, e)
                else:
                    sheet.enter(desk.name, answer)

            if batches and desk.on_trial(Kind.QUOTES):
                await send(batches[0])  # a probe is one request
                batches = batches[1:]
            if not faults:
                await asyncio.gather(*(send(batch) for batch in batches))
            if desk.name in sheet.answered:
                desk.answered(Kind.QUOTES)
            return faults[0] if faults else None

        faults = await self._rounds(Kind.QUOTES, sheet.left, visit)
        for fault in faults:
            if fault.vendor not in sheet.answered:
                self._desks[fault.vendor].failed(Kind.QUOTES, fault)
        if not sheet.answered and faults:
            raise _told(faults)
        return sheet.batch(faults)

    def _opened_vault(self) -> Seal:
        if self._vault is None:
            from actors.providers.vault import Vault  # late: it brings cryptography

            key = self._settings.volaris_secret_key
            self._vault = Vault.of(
                key.get_secret_value() if key else None, self._settings.volaris_home / "secret.key"
            )
        return self._vault


class _Sheet:
    """What the vendors have told of the symbols of one question, and what is still open."""

    def __init__(self, asked: tuple[str, ...]) -> None:
        self._asked = asked
        self._quotes: dict[str, Quote] = {}
        self._poor: dict[str, Quote] = {}  # without a last price
        self._unknown: dict[str, int] = {}  # by how many vendors
        self._why: dict[str, str] = {}  # there is no quote
        self._heard: dict[str, set[str]] = {}  # vendors that told of the symbol, and no quote
        self.answered: set[str] = set()  # vendors

    def left(self, attempt: int) -> bool:
        """Tell whether a vendor that has told nothing yet would be asked for anything."""
        return bool(self.open_for("", attempt))

    def open_for(self, vendor: str, attempt: int) -> list[str]:
        """Return what this vendor is to be asked: not what it told of, nor what is known not to be.

        Who is asked again is asked for what nobody has told anything of.
        """
        return [
            symbol
            for symbol in self._asked
            if symbol not in self._quotes
            and self._unknown.get(symbol, 0) < OPINIONS
            and vendor not in (heard := self._heard.get(symbol, ()))
            and not (heard and attempt > 1)
        ]

    def enter(self, vendor: str, answer: QuoteBatch) -> None:
        self.answered.add(vendor)
        for quote in answer.quotes:
            if why := mad(quote):
                self._why.setdefault(quote.symbol, f"{vendor}: {why}")
            elif quote.last is None:  # better than nothing, where nobody tells more
                self._poor.setdefault(quote.symbol, quote)
            else:
                self._quotes.setdefault(quote.symbol, quote)
                continue
            self._heard.setdefault(quote.symbol, set()).add(vendor)
        for symbol in answer.unknown:
            self._unknown[symbol] = self._unknown.get(symbol, 0) + 1
            self._heard.setdefault(symbol, set()).add(vendor)
        for symbol, why in answer.failed:
            self._why.setdefault(symbol, why)
            self._heard.setdefault(symbol, set()).add(vendor)

    def excuse(self, symbols: Sequence[str], error: ProviderError) -> None:
        for symbol in symbols:
            self._why.setdefault(symbol, str(error))

    def batch(self, faults: Sequence[ProviderError]) -> QuoteBatch:
        """Return every symbol asked for, in exactly one part."""
        quotes = self._poor | self._quotes
        missing = [symbol for symbol in self._asked if symbol not in quotes]
        usual = str(_told(faults)) if faults else "there was nobody left to ask"
        return QuoteBatch(
            tuple(quotes[symbol] for symbol in self._asked if symbol in quotes),
            tuple(symbol for symbol in missing if symbol in self._unknown),
            tuple(
                (symbol, self._why.get(symbol, usual))
                for symbol in missing
                if symbol not in self._unknown
            ),
        )


async def _claim(desk: Desk, symbols: tuple[str, ...]) -> None:
    """Take the symbols into what the vendor's plan counts; `Spent` where they do not all fit."""
    if len(await desk.provider.limiter.claim(symbols)) < len(symbols):
        raise Spent(desk.name, USED_UP, USED_UP_FOR)


def _class(name: str) -> type[Provider]:
    module, _, attribute = PROVIDERS[name].partition(":")
    return cast("type[Provider]", getattr(importlib.import_module(module), attribute))


def _needs(name: str) -> str:
    return " and ".join(_class(name).needs)


def _unconfigured(name: str) -> VendorStatus:
    return VendorStatus(name, VendorState.UNCONFIGURED, remedy=f"set {_needs(name)}")


def _told(faults: Sequence[ProviderError]) -> ProviderError:
    """Return the fault that says most: the preferred vendor's, rather one that may pass."""
    passing = [fault for fault in faults if not isinstance(fault, Unsupported)]
    return (passing or list(faults))[0]


def _pause_before_retry(error: ProviderError, attempt: int) -> float | None:
    """Return the seconds to wait before the next try, or None where no try can help."""
    if attempt >= TRIES:
        return None
    if isinstance(error, Malformed):
        return _backoff(attempt) if attempt < MALFORMED_TRIES else None
    if isinstance(error, Unavailable):
        return _backoff(attempt) + (error.retry_after or 0.0)
    return None


def _backoff(attempt: int) -> float:
    # Full jitter: many who failed together must not come back together.
    longest = min(FIRST_BACKOFF * 2 ** (attempt - 1), LONGEST_BACKOFF)
    return random.uniform(0, longest)  # noqa: S311  (jitter, not a secret)


def _refuse_naive(*moments: datetime) -> None:
    for at in moments:
        if at.tzinfo is None:
            raise ValueError(f"moments need a time zone, was {at!r}")


def _read_page(page: str, symbols: int) -> tuple[str, int, str | None]:
    """Return (vendor, offset among the symbols, the vendor's own token) of a page's name."""
    vendor, _, rest = page.partition("|")
    offset, _, token = rest.partition("|")
    if vendor not in PROVIDERS or not offset.isdigit() or int(offset) > symbols:
        raise ValueError(f"page must be the `next` of an answer to the same question, was {page!r}")
    return vendor, int(offset), token or None
