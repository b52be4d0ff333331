"""What every market-data vendor's adapter promises: the shape that `provider_pool` relies on."""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, Protocol, Self

from actors.domain.models import Bar, QuoteBatch, Timeframe
from actors.providers.http import Tools
from actors.providers.limits import Limiter
from actors.settings import Settings


class Provider(Protocol):
    """One vendor: what it is called, what it needs, and what may be asked of it.

    `deadline` is a moment of the monotonic clock in `Tools`; each method is one data request.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]  # the settings without which it is not configured
    batch: ClassVar[int]  # the most symbols one quotes request takes
    limiter: Limiter

    @classmethod
    def of(cls, settings: Settings, tools: Tools) -> Self | None:
        """Return the vendor made from the settings, or None when its keys are not set."""

    @property
    def login_expires_at(self) -> datetime | None:
        """Return when a person must log in again, where that is known."""

    async def open(self) -> None:
        """Look up what an earlier life left, where that is quick; raises nothing."""

    async def close(self) -> None:
        """Give back every connection."""

    async def quotes(self, symbols: Sequence[str], deadline: float) -> QuoteBatch:
        """Return each symbol's market; the symbols are distinct and at most `batch`."""

    async def bars(
        self, symbol: str, timeframe: Timeframe, start: datetime, end: datetime, deadline: float
    ) -> tuple[Bar, ...]:
        """Return the bars that start in [start, end), oldest first."""
