"""What every market-data vendor's adapter promises: the shape that `provider_pool` relies on."""

from collections.abc import Sequence
from datetime import date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Protocol, Self, runtime_checkable

from actors.domain.models import (
    BarPage,
    Earnings,
    Movers,
    Profile,
    QuoteBatch,
    Ranking,
    Recommendations,
    Session,
    Story,
    Ticker,
    Timeframe,
)
from actors.providers.limits import Limiter
from actors.settings import Settings

if TYPE_CHECKING:  # numpy and httpx cost memory: only where a chain is asked, or a vendor
    from actors.domain.chains import Chain
    from actors.providers.http import Tools


class Kind(StrEnum):
    """What may be asked of a vendor; each is the name of the method that answers it."""

    QUOTES = "quotes"
    BARS = "bars"
    CHAIN = "chain"
    MOVERS = "movers"
    PROFILE = "profile"
    NEWS = "news"
    RECOMMENDATIONS = "recommendations"
    EARNINGS = "earnings"
    HOURS = "hours"
    CONSTITUENTS = "constituents"


@runtime_checkable
class NeedsLogin(Protocol):
    """A vendor at which a person logs in with a browser."""

    redirect_uri: str  # where the vendor sends the browser back to

    def authorize_url(self) -> str:
        """Return the address at which a person logs in."""

    async def log_in(self, redirected_to: str, deadline: float) -> datetime:
        """Begin a login with the address the browser was sent back to; return when it ends.

        `ValueError` where the address is none of a login begun here.
        """


class Provider(Protocol):
    """One vendor: what it is called, what it needs, and what may be asked of it.

    `sells` names the methods it has; the others are not there.  `deadline` is a moment of the monotonic
    clock in `Tools`.  A method raises a `ProviderError` and nothing else; `Unsupported` where this plan
    or this symbol is not sold, so that the next vendor may be asked.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]  # the settings without which it is not configured
    sells: ClassVar[frozenset[Kind]]
    limits: ClassVar[str]  # of its free plan: "50/h 1000/day 1GB/month"; settings may override it
    batch: ClassVar[int]  # the most symbols one quotes request takes
    bars_batch: ClassVar[int]  # the most symbols one bars request takes
    limiter: Limiter

    @classmethod
    def of(cls, settings: Settings, tools: "Tools") -> Self | None:
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
        self,
        symbols: Sequence[str],
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        deadline: float,
        page: str | None = None,
    ) -> BarPage:
        """Return bars that start in [start, end), of at most `bars_batch` symbols; one data request.

        Unadjusted for dividends, adjusted for splits, where the vendor lets one choose.  `page` is the
        `next` of the answer before.
        """

    async def cost(
        self,
        symbols: Sequence[str],
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        deadline: float,
    ) -> float:
        """Return the dollars that the bars would cost; only who sells by the byte has it."""

    async def chain(
        self, symbol: str, deadline: float, first: date | None = None, last: date | None = None
    ) -> "Chain":
        """Return the contracts that expire within [first, last]; as many requests as it takes."""

    async def movers(self, ranking: Ranking, deadline: float) -> Movers:
        """Return the symbols that moved or traded most."""

    async def profile(self, symbol: str, deadline: float) -> Profile | None:
        """Return what the company is; None where there is no such symbol."""

    async def news(
        self, symbols: Sequence[str], since: datetime, limit: int, deadline: float
    ) -> tuple[Story, ...]:
        """Return the newest stories first; no symbols = the whole market's."""

    async def recommendations(self, symbol: str, deadline: float) -> tuple[Recommendations, ...]:
        """Return the analysts' opinions, the newest month first; () where there are none."""

    async def earnings(
        self, first: date, last: date, deadline: float, symbol: str | None = None
    ) -> tuple[Earnings, ...]:
        """Return the reports of [first, last], of one symbol or of all, oldest first."""

    async def hours(self, first: date, last: date, deadline: float) -> tuple[Session, ...]:
        """Return the regular sessions of [first, last]; a day without one is closed."""

    async def constituents(self, deadline: float) -> tuple[Ticker, ...]:
        """Return the members of the S&P 500."""
