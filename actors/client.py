"""What an edge may ask of the tree: typed Protocols, one a child, and the proxy that keeps the promise.

A caller holds a logical name.  The proxy finds the living process behind it, gives each call a
deadline, and repeats a call that never reached an answer because that process died or moved.  That is
safe because every message is safe to repeat: writes are upserts or carry an idempotency key.

Errors a caller may see::

    Unreachable        the child is down or restarting, and the deadline passed
    DeadlineExceeded   the child is up, but did not answer in time
    anything else      what the child itself raised
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Protocol, cast
from uuid import UUID

from actors.domain.backfill import BackfillRequest, BackfillStatus
from actors.domain.models import (
    Bar,
    BarPage,
    ChildStatus,
    Earnings,
    JobStatus,
    Movers,
    Profile,
    Quote,
    QuoteBatch,
    Ranking,
    Recommendations,
    RefreshReport,
    Session,
    Story,
    Ticker,
    Timeframe,
    VendorStatus,
)

if TYPE_CHECKING:  # numpy costs memory
    from actors.domain.chains import Chain


class Unreachable(Exception):
    """No living process answers to that name; `retry_after` says when to ask again (seconds)."""

    def __init__(self, child: str, why: str, retry_after: float = 2.0) -> None:
        super().__init__(child, why, retry_after)
        self.child, self.why, self.retry_after = child, why, retry_after

    def __str__(self) -> str:
        return f"{self.child} is not reachable: {self.why}"


class DeadlineExceeded(Exception):
    """The child is up and did not answer within the deadline."""

    def __init__(self, child: str, method: str, seconds: float) -> None:
        super().__init__(child, method, seconds)
        self.child, self.method, self.seconds = child, method, seconds

    def __str__(self) -> str:
        return f"{self.child}.{self.method} did not answer within {self.seconds:g} s"


class Gone(Exception):
    """The process that was asked is dead, draining or not there; the call may be repeated."""


class ProviderPool(Protocol):
    """The only process that talks to vendors; a sweep waits for its turn behind people's questions."""

    async def quotes(self, symbols: Sequence[str], *, sweep: bool = False) -> QuoteBatch: ...
    async def bars(
        self,
        symbol: str,
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        *,
        sweep: bool = False,
    ) -> tuple[Bar, ...]: ...
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
    ) -> BarPage: ...
    async def bars_cost(
        self,
        symbols: Sequence[str],
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        vendor: str,
        *,
        sweep: bool = False,
    ) -> float: ...
    async def chain(
        self,
        symbol: str,
        first: date | None = None,
        last: date | None = None,
        *,
        sweep: bool = False,
    ) -> "Chain": ...
    async def movers(self, ranking: Ranking = ..., *, sweep: bool = False) -> Movers: ...
    async def profile(self, symbol: str, *, sweep: bool = False) -> Profile | None: ...
    async def news(
        self, symbols: Sequence[str], since: datetime, limit: int = 50, *, sweep: bool = False
    ) -> tuple[Story, ...]: ...
    async def recommendations(
        self, symbol: str, *, sweep: bool = False
    ) -> tuple[Recommendations, ...]: ...
    async def earnings(
        self, first: date, last: date, symbol: str | None = None, *, sweep: bool = False
    ) -> tuple[Earnings, ...]: ...
    async def hours(
        self, first: date, last: date, *, sweep: bool = False
    ) -> tuple[Session, ...]: ...
    async def constituents(self, *, sweep: bool = True) -> tuple[Ticker, ...]: ...
    async def status(self) -> tuple[VendorStatus, ...]: ...
    async def login(self, vendor: str) -> tuple[str, str]: ...
    async def log_in(self, vendor: str, redirected_to: str) -> datetime: ...


class PriceIngestor(Protocol):
    """Quotes and bars of the universe."""

    async def refresh(self) -> RefreshReport: ...
    async def daily(self) -> int: ...
    async def prune(self) -> int: ...
    async def quote(self, symbol: str) -> Quote: ...
    async def bars(
        self, symbol: str, timeframe: Timeframe, start: datetime, end: datetime, limit: int
    ) -> tuple[Bar, ...]: ...
    async def backfill(self, request: BackfillRequest) -> BackfillStatus: ...
    async def backfills(self) -> tuple[BackfillStatus, ...]: ...
    async def backfill_status(self, number: UUID) -> BackfillStatus | None: ...
    async def cancel_backfill(self, number: UUID) -> BackfillStatus | None: ...


class Supervisor(Protocol):
    """The root: what runs, what it costs, and what happened."""

    async def status(self) -> tuple[ChildStatus, ...]: ...
    async def database(self) -> str | None: ...
    async def history(self, limit: int, child: str | None = None) -> tuple[dict[str, Any], ...]: ...


class Scheduler(Protocol):
    """The clock of the tree."""

    async def jobs(self) -> tuple[JobStatus, ...]: ...


class Line(Protocol):
    """One attempt to ask a child; `runtime.Line` is the real one."""

    async def ask(
        self, child: str, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], seconds: float
    ) -> Any:
        """Return the child's answer; `Gone` where no process took it or it died, `TimeoutError` when late."""


FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds between two attempts to reach a child


class Tree:
    """The tree as its callers see it; every call made through it has the same deadline."""

    def __init__(self, line: Line, seconds: float = 30.0) -> None:
        self._line, self._seconds = line, seconds
        self.provider_pool = cast("ProviderPool", _Name(self, "provider_pool"))
        self.price_ingestor = cast("PriceIngestor", _Name(self, "price_ingestor"))
        self.scheduler = cast("Scheduler", _Name(self, "scheduler"))
        self.supervisor = cast("Supervisor", _Name(self, "supervisor"))

    def within(self, seconds: float) -> "Tree":
        """Return the same tree with another deadline."""
        return Tree(self._line, seconds)

    async def ask(self, child: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """Ask a child by its name; repeat while no living process has answered, within the deadline."""
        end = time.monotonic() + self._seconds
        pause = FIRST_PAUSE
        while True:
            left = end - time.monotonic()
            try:
                return await self._line.ask(child, method, args, kwargs, max(left, 0.001))
            except TimeoutError:
                raise DeadlineExceeded(child, method, self._seconds) from None
            except Gone as e:
                wait = pause * random.uniform(0.5, 1.0)  # noqa: S311  (jitter, not a secret)
                if time.monotonic() + wait >= end:
                    raise Unreachable(child, str(e)) from None
            await asyncio.sleep(wait)
            pause = min(pause * 2, LONGEST_PAUSE)


class _Name:
    """Turns `tree.child.method(...)` into a message."""

    def __init__(self, tree: Tree, child: str) -> None:
        self._tree, self._child = tree, child

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        async def send(*args: Any, **kwargs: Any) -> Any:
            return await self._tree.ask(self._child, method, *args, **kwargs)

        return send
