"""Why a question about the market has no answer; what an edge may catch besides the client's errors.

::

    UnknownSymbol   no vendor knows it: asking again changes nothing
    Unanswered      nobody could tell right now: ask again
    Implausible     what was told cannot be true, so it was not taken over
    VendorError     a vendor that was asked directly could not; `providers.base` has its kinds
"""

from typing import ClassVar


class UnknownSymbol(Exception):
    """No vendor knows the symbol."""

    def __init__(self, symbol: str) -> None:
        super().__init__(symbol)
        self.symbol = symbol

    def __str__(self) -> str:
        return f"no vendor knows the symbol {self.symbol}"


class Unanswered(Exception):
    """A question that could not be answered now; `retry_after` says when to ask again (seconds)."""

    def __init__(self, question: str, why: str, retry_after: float | None = None) -> None:
        super().__init__(question, why, retry_after)
        self.question, self.why, self.retry_after = question, why, retry_after

    def __str__(self) -> str:
        return f"{self.question} could not be had: {self.why}"


class Implausible(Exception):
    """What was told cannot be true, and nothing was changed by it."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(what, why)
        self.what, self.why = what, why

    def __str__(self) -> str:
        return f"{self.what} was refused: {self.why}"


class VendorError(Exception):
    """A vendor could not give what was asked; the message never holds a credential."""

    again: ClassVar[bool] = True  # whether asking again may bring an answer
    retry_after: float | None = None  # seconds
