"""The errors that an adapter raises, and what it is given to keep its login; `vendor.py` has its promise.

Provider errors::

    ProviderError
      Unavailable      try again later; `retry_after` says when, where that is known
        RateLimited    its limit is spent
          Spent          by our own count: it was not asked
      Denied           the credential is wrong: stop asking and tell a person
      LoginNeeded      a person must log in; `remedy` says how
      Malformed        the vendor answered, but not with market data
      Unsupported      this vendor does not sell that, or not in one answer

An adapter raises nothing else.  It keeps no cache and retries nothing: that belongs to the actor that
owns it, so it is written, tested and tuned once.  Clocks are given to it.
"""

from typing import ClassVar, Protocol

from actors.domain.errors import VendorError


class ProviderError(VendorError):
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


class Spent(RateLimited):
    """Our own count of the limit says so, and the vendor was not asked."""


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
    """The vendor does not sell that, or not in one answer; asking again changes nothing.

    `by_plan` where it is the plan that lacks it (402, 403), not a symbol that is not there.
    """

    again: ClassVar = False
    by_plan = False


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
