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
from datetime import datetime
from typing import Any, Protocol, cast

from actors.domain.models import (
    Bar,
    Quote,
    QuoteBatch,
    RefreshReport,
    Timeframe,
    VendorStatus,
)


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
    """The only process that talks to vendors."""

    async def quotes(self, symbols: Sequence[str]) -> QuoteBatch: ...
    async def bars(
        self, symbol: str, timeframe: Timeframe, start: datetime, end: datetime
    ) -> tuple[Bar, ...]: ...
    async def status(self) -> tuple[VendorStatus, ...]: ...


class PriceIngestor(Protocol):
    """Quotes and bars of the universe."""

    async def refresh(self) -> RefreshReport: ...
    async def daily(self) -> int: ...
    async def prune(self) -> int: ...
    async def quote(self, symbol: str) -> Quote: ...
    async def bars(
        self, symbol: str, timeframe: Timeframe, start: datetime, end: datetime, limit: int
    ) -> tuple[Bar, ...]: ...
