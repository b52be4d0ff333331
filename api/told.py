"""What every answer says of its origin: whose it is, when it was true, and whether it is old."""

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field


class Origin(BaseModel):
    """Where an answer comes from."""

    source: str = Field(description="The vendor, or several", examples=["finnhub"])
    at: datetime = Field(description="When the vendor was asked, or says it was true")
    age_seconds: float = Field(examples=[12.4])
    stale: bool = Field(
        description="Older than it should be, or from memory while its owner restarts"
    )


def origin(source: str, at: datetime, *, stale: bool) -> dict[str, Any]:
    """Return the fields of an `Origin`."""
    return {"source": source, "at": at, "age_seconds": age(at), "stale": stale}


def age(at: datetime) -> float:
    """Return the seconds since a moment, never less than none."""
    return round(max((datetime.now(UTC) - at).total_seconds(), 0.0), 1)
