"""Realised volatility of a stock from its daily bars, by six estimators."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from actors.domain.metric import Metric

Floats = NDArray[np.float64]
DAYS = 252  # trading days a year


@dataclass(frozen=True, slots=True)
class Realized:
    """Annualised volatilities (fractions) of the last `window` daily returns or ranges.

    Formulas as in R's TTR::volatility.  Its n counts closes, so its "close" of n = 21 is HV20 here; its
    other five estimators count bars as `window` does.
    """

    window: int
    close_close: Metric  # sample deviation of log returns: needs window + 1 closes
    parkinson: Metric  # from high and low
    garman_klass: Metric  # from open, high, low and close; blind to gaps and drift
    garman_klass_yang_zhang: Metric  # the same with the gap over night
    rogers_satchell: Metric  # indifferent to drift, blind to gaps
    yang_zhang: Metric  # indifferent to drift, sees gaps: the one to prefer


def realized(
    opens: ArrayLike,
    high: ArrayLike,
    low: ArrayLike,
    close: ArrayLike,
    window: int,
    days: int = DAYS,
) -> Realized:
    """Return the realised volatilities of the last `window` bars (oldest first, adjusted for splits).

    `close_close` asks for the closes only, so that bars without a range (NaN) still have an HV.
    `ValueError` for a window below 2 or columns of different lengths.
    """
    if window < 2:
        raise ValueError(f"window counts returns and must be 2 or more, was {window}")
    columns = [np.asarray(column, np.float64) for column in (opens, high, low, close)]
    if any(column.ndim != 1 or column.shape != columns[0].shape for column in columns):
        raise ValueError("open, high, low and close must be four columns of one length")
    last = np.array(columns)[:, -window - 1 :]
    closes, bars = last[3], last[:, -window:]
    few = f"not enough bars: {bars.shape[1]} of {window}" if bars.shape[1] < window else ""
    gapless = few or _contradiction(bars)
    gapped = (few or gapless) or _closes_fault(closes, window)
    ranges = [Metric.missing(gapless)] * 3 if gapless else _blind_to_gaps(bars, days)
    gaps = [Metric.missing(gapped)] * 2 if gapped else _with_gaps(closes[:-1], bars, days)
    fault = _closes_fault(closes, window)
    hv = (
        Metric.missing(fault)
        if fault
        else Metric.of(math.sqrt(days) * float(np.std(np.diff(np.log(closes)), ddof=1)))
    )
    return Realized(window, hv, ranges[0], ranges[1], gaps[0], ranges[2], gaps[1])


def _closes_fault(closes: Floats, window: int) -> str:
    if len(closes) <= window:
        return f"not enough closes: {len(closes)} of {window + 1}"
    return "" if _positive(closes) else "a close in the window is missing or not positive"


def _contradiction(bars: Floats) -> str:
    if not _positive(bars):
        return "a price in the window is missing or not positive"
    o, h, l, c = bars  # noqa: E741 the field's letters
    # Adjusted prices are rounded, so that a high may lie a breath below its close.
    inside = (h * (1 + 1e-6) >= np.maximum(o, c)) & (l * (1 - 1e-6) <= np.minimum(o, c))
    return "" if bool(np.all(inside)) else "a bar in the window contradicts itself"


def _positive(prices: Floats) -> bool:
    return bool(np.all(np.isfinite(prices) & (prices > 0)))


def _blind_to_gaps(bars: Floats, days: int) -> list[Metric]:
    """Return Parkinson, Garman-Klass, Rogers-Satchell."""
    o, h, l, c = np.log(bars)  # noqa: E741
    parkinson = np.mean((h - l) ** 2) / (4 * math.log(2))
    rogers_satchell = np.mean((h - c) * (h - o) + (l - c) * (l - o))
    return [_annual(each, days) for each in (parkinson, np.mean(_day(o, h, l, c)), rogers_satchell)]


def _with_gaps(before: Floats, bars: Floats, days: int) -> list[Metric]:
    """Return Garman-Klass-Yang-Zhang and Yang-Zhang; `before` are the closes of the days before."""
    o, h, l, c = np.log(bars)  # noqa: E741
    n, night = bars.shape[1], o - np.log(before)
    garman_klass = np.mean(night**2 + _day(o, h, l, c))
    k = 0.34 / (1.34 + (n + 1) / (n - 1))  # Yang and Zhang 2000: the weight of least variance
    day = np.mean((h - c) * (h - o) + (l - c) * (l - o))
    yang_zhang = np.var(night, ddof=1) + k * np.var(c - o, ddof=1) + (1 - k) * day
    return [_annual(garman_klass, days), _annual(yang_zhang, days)]


def _day(o: Floats, h: Floats, l: Floats, c: Floats) -> Floats:  # noqa: E741
    """Return Garman and Klass's variance of each day."""
    spread: Floats = 0.5 * (h - l) ** 2 - (2 * math.log(2) - 1) * (c - o) ** 2
    return spread


def _annual(variance: np.floating, days: int) -> Metric:
    # Garman-Klass may fall below nothing where all bars closed at their extremes.
    if variance < 0:
        return Metric.missing("the bars' ranges are too small for their moves")
    return Metric.of(math.sqrt(days * float(variance)))
