"""A number that may be missing, and then says why."""

import math
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Metric:
    """`value`, or None and in `why` the reason."""

    value: float | None
    why: str = ""

    @classmethod
    def of(cls, value: float) -> Self:
        """Return the number as a metric; one that is not finite is missing."""
        return cls(float(value)) if math.isfinite(value) else cls(None, "not a number")

    @classmethod
    def missing(cls, why: str) -> Self:
        """Return a metric without a value."""
        return cls(None, why)


def lack(*metrics: Metric) -> str | None:
    """Return the reason of the first metric without a value, None where all have one."""
    return next((metric.why for metric in metrics if metric.value is None), None)
