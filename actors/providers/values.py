"""How vendors say a number, a count, a time and a text, and the many ways they say "no value"."""

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from actors.providers.base import Malformed

NO_VALUE = -999.0  # Schwab's; no price, size or percent is exactly that
LATEST = datetime(2100, 1, 1, tzinfo=UTC)  # a later time is a fault, and would never be superseded
LATEST_MS = LATEST.timestamp() * 1000
LARGEST_COUNT = 2**63 - 1  # what PostgreSQL's bigint holds
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def mapping(vendor: str, value: Any, what: str) -> Mapping[str, Any]:
    """Return a JSON object; `Malformed` for anything else."""
    if not isinstance(value, Mapping):
        raise Malformed(vendor, f"its {what} is an object, was {type(value).__name__}")
    return value


def rows(vendor: str, value: Any, what: str) -> list[Any]:
    """Return a JSON array; `Malformed` for anything else."""
    if not isinstance(value, list):
        raise Malformed(vendor, f"its {what} is an array, was {type(value).__name__}")
    return value


def number(value: Any) -> float | None:
    """Return a finite number; every way of saying "no value" (-999, NaN, "NaN", null) is None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) and found != NO_VALUE else None


def price(value: Any) -> float | None:
    """Return a number that is not negative; a bid of zero is real."""
    found = number(value)
    return found if found is not None and found >= 0 else None


def traded(value: Any) -> float | None:
    """Return a price at which something traded, which is never zero."""
    return price(value) or None


def count(value: Any) -> int | None:
    """Return a number of shares, contracts or people; a fraction of one is left off."""
    found = price(value)
    return int(value) if found is not None and found <= LARGEST_COUNT else None


def moment(value: Any, per_second: int = 1000) -> datetime | None:
    """Return a time told as epoch milliseconds (or other parts of a second); 0 is "never"."""
    told = price(value)
    if not told or told * 1000 / per_second > LATEST_MS:
        return None
    # Whole numbers throughout: a float cannot hold the nanoseconds of today.
    return EPOCH + timedelta(microseconds=int(value) * 1_000_000 // per_second)


def moment_of(value: Any) -> datetime | None:
    """Return a time told as RFC 3339 text, of whatever precision; one without a zone is none."""
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value)
        return at.astimezone(UTC) if at.tzinfo is not None and EPOCH < at < LATEST else None
    except (ValueError, OverflowError):
        return None


def day_of(value: Any) -> date | None:
    """Return a date told as yyyy-mm-dd, with or without a time behind it."""
    if not isinstance(value, str):
        return None
    try:
        return date.fromisoformat(value[:10])
    except ValueError:
        return None


def or_long_ago(at: datetime | None) -> datetime:
    """Return the time, or the earliest there is: for sorting."""
    return at or datetime.min.replace(tzinfo=UTC)


def plain(text: str, length: int) -> str:
    """Return a vendor's text as one line of printable characters (PostgreSQL takes no NUL)."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:length]


def told(value: Any, length: int = 200) -> str | None:
    """Return a vendor's text, cleaned; None where there is none."""
    return plain(value, length) or None if isinstance(value, str) else None
