"""What every market-data vendor's adapter promises.

Provider errors::

    ProviderError
      Unavailable      try again later; `retry_after` says when, where that is known
        RateLimited
      Denied           the credential is wrong: stop asking and tell a person
      LoginNeeded      a person must log in; `remedy` says how
      Malformed        the vendor answered, but not with market data
      Unsupported      this vendor does not sell that, or not in one answer

An adapter raises nothing else.  It keeps no cache and retries nothing: that belongs to the actor that
owns it, so it is written, tested and tuned once.  Clocks are given to it.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

from actors.domain.models import Bar, QuoteBatch, Timeframe

if TYPE_CHECKING:  # callers of the pool unpickle these errors, and need no HTTP client for that
    from actors.providers.http import Tools
    from actors.providers.limits import Limiter
    from actors.settings import Settings


class ProviderError(Exception):
    """A vendor could not give what was asked; the message never holds a credential."""

    def __init__(self, vendor: str, why: str) -> None:
        super().__init__(vendor, why)
        self.vendor, self.why = vendor, why

    def __str__(self) -> str:
        return f"{self.vendor}: {self.why}"


class Unavailable(ProviderError):
    """The vendor does not answer as it should, for now; `retry_after` is in seconds."""

    def __init__(self, vendor: str, why: str, retry_after: float | None = None) -> None:
        super().__init__(vendor, why)
        self.args = (vendor, why, retry_after)
        self.retry_after = retry_after


class RateLimited(Unavailable):
    """The vendor's limit is spent."""


class Denied(ProviderError):
    """The credential is wrong."""


class LoginNeeded(ProviderError):
    """The login has ended, and only a person can begin a new one."""

    def __init__(self, vendor: str, why: str, remedy: str) -> None:
        super().__init__(vendor, why)
        self.args = (vendor, why, remedy)
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{super().__str__()}; {self.remedy}"


class Malformed(ProviderError):
    """The vendor answered, but not with market data."""


class Unsupported(ProviderError):
    """The vendor does not sell that, or not in one answer; asking again changes nothing."""


class Unsealable(Exception):
    """There is no usable key, or what was sealed was changed or sealed with another one."""


class StoreAway(Exception):
    """The token store cannot be used now; the message says no more than what kind of fault it was."""


class TokenStore(Protocol):
    """Where logins are kept, sealed; either method raises `StoreAway` and nothing else."""

    async def load(self, vendor: str) -> bytes | None:
        """Return the vendor's sealed login, or None where there is none."""

    async def save(self, vendor: str, sealed: bytes) -> None:
        """Keep this login and forget the one before."""


class Seal(Protocol):
    """What makes a login unreadable at rest; `vault.Vault` is the real one."""

    def seal(self, plain: bytes) -> bytes:
        """Return `plain` unreadable and unchangeable."""

    def open(self, sealed: bytes) -> bytes:
        """Return what was sealed, or raise `Unsealable`."""


class Provider(Protocol):
    """One vendor: what it is called, what it needs, and what may be asked of it.

    `deadline` is a moment of the monotonic clock in `Tools`; each method is one data request.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]  # the settings without which it is not configured
    batch: ClassVar[int]  # the most symbols one quotes request takes
    limiter: "Limiter"

    @classmethod
    def of(cls, settings: "Settings", tools: "Tools") -> Self | None:
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
