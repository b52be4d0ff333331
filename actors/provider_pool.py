"""The only process that talks to vendors: limits, retries, one ask for all who ask the same, and states.

Adapters build and parse; everything a vendor's weather demands is here and in `providers.limits`.
"""

import asyncio
import importlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from actors.domain.models import (
    Bar,
    Quote,
    QuoteBatch,
    Timeframe,
    VendorState,
    VendorStatus,
)
from actors.providers import PROVIDERS
from actors.providers.base import (
    Denied,
    LoginNeeded,
    Malformed,
    ProviderError,
    RateLimited,
    Seal,
    StoreAway,
    TokenStore,
    Unavailable,
    Unsupported,
)
from actors.providers.http import Tools
from actors.providers.vendor import NeedsLogin, Provider
from actors.settings import Refused, Settings

if TYPE_CHECKING:
    import httpx

    from actors.store.database import Connection, Database

T = TypeVar("T")

DEADLINE = 30.0  # seconds for one message, its retries included
TRIES = 4
MALFORMED_TRIES = 2  # garbage may be a passing fault; twice the same is a changed format
FIRST_BACKOFF, LONGEST_BACKOFF = 0.5, 8.0  # seconds; the pause is drawn between 0 and this
STORE_WITHIN = 10.0
LOGIN_WITHIN = 20.0
LONG_WAIT = 5.0  # seconds for a turn; from there on the limit is what people wait for
REMIND_BEFORE = timedelta(days=1)  # of the end of a login

log = logging.getLogger("volaris.provider_pool")


class DatabaseTokens:
    """`TokenStore` in PostgreSQL; opened at the first use, because the pool starts without it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._database: Database | None = None

    async def load(self, vendor: str) -> bytes | None:
        """Return the vendor's sealed login."""
        from actors.store import tokens  # late: asyncpg costs memory where another store is given

        return await self._run(lambda connection: tokens.load(connection, vendor))

    async def save(self, vendor: str, sealed: bytes) -> None:
        """Store the vendor's sealed login."""
        from actors.store import tokens

        await self._run(lambda connection: tokens.save(connection, vendor, sealed))

    async def close(self) -> None:
        """Close the connections, if any were opened."""
        if self._database is not None:
            await self._database.close()

    async def _run(self, step: "Callable[[Connection], Awaitable[T]]") -> T:
        import asyncpg

        from actors.store.database import Database, DatabaseAway

        try:
            if self._database is None:
                self._database = Database.of(self._settings)
            return await self._database.run(step, deadline=STORE_WITHIN)
        except (DatabaseAway, Refused, asyncpg.PostgresError, asyncpg.InterfaceError) as e:
            raise StoreAway(type(e).__name__) from None


@dataclass(slots=True)
class Desk:
    """One configured vendor and what is known of how it does."""

    provider: Provider
    errors: int = 0
    last_error: str | None = None
    last_error_at: datetime | None = None
    last_answer_at: datetime | None = None
    trouble: ProviderError | None = None  # why it is down or needs a login; None = it answers
    flights: dict[Hashable, asyncio.Task[Any]] = field(default_factory=dict)


class ProviderPool:
    """Market data from whichever vendor is configured, as `client.ProviderPool` promises it."""

    def __init__(
        self,
        settings: Settings,
        tree: object,  # noqa: ARG002  (the pool asks nobody)
        *,
        tokens: TokenStore | None = None,
        transport: "httpx.AsyncBaseTransport | None" = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        deadline: float = DEADLINE,
    ) -> None:
        self._settings, self._now, self._clock, self._sleep = settings, now, clock, sleep
        self._deadline = deadline
        self._own_tokens = DatabaseTokens(settings) if tokens is None else None
        self._vault: Seal | None = None
        self._tools = Tools(
            tokens=tokens or cast("TokenStore", self._own_tokens),
            vault=self._opened_vault,
            transport=transport,
            now=now,
            clock=clock,
            sleep=sleep,
        )
        self._desks: dict[str, Desk] = {}

    async def start(self) -> None:
        """Open a line to every configured vendor; needs neither the vendors nor the database."""
        for name in PROVIDERS:
            provider = _class(name).of(self._settings, self._tools)
            if provider is not None:
                self._desks[name] = Desk(provider)
        await asyncio.gather(*(desk.provider.open() for desk in self._desks.values()))

    async def stop(self) -> None:
        """Give up what is in flight and close every line."""
        flights = [task for desk in self._desks.values() for task in desk.flights.values()]
        for task in flights:
            task.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        await asyncio.gather(*(desk.provider.close() for desk in self._desks.values()))
        if self._own_tokens is not None:
            await self._own_tokens.close()

    # --- messages

    async def quotes(self, symbols: Sequence[str]) -> QuoteBatch:
        """Return the market of many symbols; a `ProviderError` only where nothing could be had."""
        asked = tuple(dict.fromkeys(symbols))
        if not asked:
            return QuoteBatch(())
        desk = self._desk()
        return await self._once(desk, ("quotes", asked), lambda: self._quotes(desk, asked))

    async def bars(
        self, symbol: str, timeframe: Timeframe, start: datetime, end: datetime
    ) -> tuple[Bar, ...]:
        """Return a symbol's bars that start in [start, end), oldest first."""
        if start.tzinfo is None or end.tzinfo is None:
            raise ValueError(f"moments need a time zone, were {start!r} and {end!r}")
        if start >= end:
            return ()
        desk, timeframe = self._desk(), Timeframe(timeframe)
        return await self._once(
            desk,
            ("bars", symbol, timeframe, start, end),
            lambda: self._bars(desk, symbol, timeframe, start, end),
        )

    async def status(self) -> tuple[VendorStatus, ...]:
        """Return every vendor we know, configured or not."""
        return tuple(self._status_of(name) for name in PROVIDERS)

    # --- logins of people

    async def login(self, vendor: str) -> tuple[str, str]:
        """Return (the address at which a person logs in, the one the browser is sent back to)."""
        provider = self._with_login(vendor)
        return provider.authorize_url(), provider.redirect_uri

    async def log_in(self, vendor: str, redirected_to: str) -> datetime:
        """Begin a login with the address the browser was sent back to; return when it ends.

        `ValueError` for an address that is none of a login begun here, else a `ProviderError`.
        """
        provider = self._with_login(vendor)
        ends = await provider.log_in(redirected_to, self._clock() + LOGIN_WITHIN)
        self._answered(self._desks[vendor])
        return ends

    def _with_login(self, vendor: str) -> NeedsLogin:
        desk = self._desks.get(vendor)
        if desk is None or not isinstance(desk.provider, NeedsLogin):
            known = [n for n, d in self._desks.items() if isinstance(d.provider, NeedsLogin)]
            whom = (
                f"people log in at {', '.join(known)} only" if known else "no vendor needs a login"
            )
            raise Unsupported(vendor, whom)
        return desk.provider

    # --- asking

    def _desk(self) -> Desk:
        """Return the first configured vendor: the order of the registry is the order of preference."""
        for desk in self._desks.values():
            return desk
        [(name, needs), *_] = ((name, " and ".join(_class(name).needs)) for name in PROVIDERS)
        raise Denied(name, f"no vendor is configured; set {needs}")

    async def _once(self, desk: Desk, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """Return the answer of one piece of work, shared by all who ask for the same meanwhile."""
        task = desk.flights.get(key)
        if task is None:
            task = asyncio.ensure_future(work())
            desk.flights[key] = task
            task.add_done_callback(lambda done: _landed(desk, key, done))
        # Shielded: one who gives up must not take the answer from the others.
        answer: T = await asyncio.shield(task)
        return answer

    async def _quotes(self, desk: Desk, asked: tuple[str, ...]) -> QuoteBatch:
        size = desk.provider.batch
        batches = [asked[i : i + size] for i in range(0, len(asked), size)]
        end = self._clock() + self._deadline
        answers = await asyncio.gather(*(self._batch(desk, batch, end) for batch in batches))
        faults = [answer for answer in answers if isinstance(answer, ProviderError)]
        if len(faults) == len(answers):
            self._failed(desk, faults[0])
            raise faults[0]
        self._answered(desk)
        return _joined(batches, answers)

    async def _batch(
        self, desk: Desk, batch: tuple[str, ...], end: float
    ) -> QuoteBatch | ProviderError:
        try:
            return await self._tried(desk, lambda: desk.provider.quotes(batch, end), end)
        except ProviderError as e:
            return e

    async def _bars(
        self, desk: Desk, symbol: str, timeframe: Timeframe, start: datetime, end: datetime
    ) -> tuple[Bar, ...]:
        by = self._clock() + self._deadline
        try:
            page = await self._tried(
                desk, lambda: desk.provider.bars((symbol,), timeframe, start, end, by), by
            )
        except ProviderError as e:
            self._failed(desk, e)
            raise
        self._answered(desk)
        return page.bars

    async def _tried(self, desk: Desk, ask: Callable[[], Awaitable[T]], end: float) -> T:
        """Return the answer, after as many tries as can help and the deadline allows."""
        for attempt in range(1, TRIES + 1):
            try:
                answer = await ask()
            except ProviderError as e:
                self._count(desk, e)
                pause = _pause_before_retry(e, attempt)
                if pause is None or self._clock() + pause >= end:
                    raise
            else:
                desk.last_answer_at = self._now()
                return answer
            await self._sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    # --- states

    def _count(self, desk: Desk, error: ProviderError) -> None:
        desk.errors += 1
        desk.last_error, desk.last_error_at = str(error), self._now()

    def _answered(self, desk: Desk) -> None:
        if desk.trouble is not None:
            log.info("%s answers again", desk.provider.name)
        desk.trouble = None

    def _failed(self, desk: Desk, error: ProviderError) -> None:
        # A spent limit is no trouble, and "not in my shop" is an answer.
        if isinstance(error, RateLimited | Unsupported):
            return
        if type(error) is not type(desk.trouble):
            log.error("%s cannot be used: %s", desk.provider.name, error)
        desk.trouble = error

    def _status_of(self, name: str) -> VendorStatus:
        desk = self._desks.get(name)
        if desk is None:
            needs = " and ".join(_class(name).needs)
            return VendorStatus(name, VendorState.UNCONFIGURED, remedy=f"set {needs}")
        limiter = desk.provider.limiter
        state, remedy = self._state_of(desk)
        return VendorStatus(
            name=name,
            state=state,
            remedy=remedy,
            last_error=desk.last_error,
            last_error_at=desk.last_error_at,
            last_answer_at=desk.last_answer_at,
            requests=limiter.total,
            errors=desk.errors,
            spent=limiter.spent,
            limit=limiter.per_minute,
            login_expires_at=desk.provider.login_expires_at,
        )

    def _state_of(self, desk: Desk) -> tuple[VendorState, str | None]:
        match desk.trouble:
            case LoginNeeded(remedy=remedy):
                return VendorState.LOGIN_NEEDED, remedy
            case Denied():
                return VendorState.DOWN, f"check {' and '.join(desk.provider.needs)}"
            case ProviderError():
                return VendorState.DOWN, None
        ends = desk.provider.login_expires_at
        ends_soon = ends is not None and ends - self._now() < REMIND_BEFORE
        reminder = f"log in again before {ends:%Y-%m-%d %H:%M} UTC" if ends_soon else None
        limited = desk.provider.limiter.delay > LONG_WAIT
        return VendorState.LIMITED if limited else VendorState.READY, reminder

    def _opened_vault(self) -> Seal:
        if self._vault is None:
            from actors.providers.vault import Vault  # late: it brings cryptography

            key = self._settings.volaris_secret_key
            self._vault = Vault.of(
                key.get_secret_value() if key else None, self._settings.volaris_home / "secret.key"
            )
        return self._vault


def _class(name: str) -> type[Provider]:
    module, _, attribute = PROVIDERS[name].partition(":")
    return cast("type[Provider]", getattr(importlib.import_module(module), attribute))


def _landed(desk: Desk, key: Hashable, task: asyncio.Task[Any]) -> None:
    del desk.flights[key]
    if not task.cancelled():
        task.exception()  # everybody who asked may be gone; the error was counted where it happened


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


def _joined(
    batches: Sequence[tuple[str, ...]], answers: Sequence[QuoteBatch | ProviderError]
) -> QuoteBatch:
    quotes: list[Quote] = []
    unknown: list[str] = []
    failed: list[tuple[str, str]] = []
    for asked, answer in zip(batches, answers, strict=True):
        if isinstance(answer, ProviderError):
            failed += [(symbol, str(answer)) for symbol in asked]
        else:
            quotes += answer.quotes
            unknown += answer.unknown
            failed += answer.failed
    return QuoteBatch(tuple(quotes), tuple(unknown), tuple(failed))
