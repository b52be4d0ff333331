"""Model-free variance of one expiration by Cboe's rules (VIX Methodology v6.0), with its coverage."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ModelFree:
    """The variance of one expiration and what it was made of.

    `strikes`, `prices` and `contributions` have one row an included strike, ascending.  A stock's strikes
    are few: read `coverage` before comparing, and do not compare with an ATM volatility at all.
    """

    variance: float  # a year
    years: float
    forward: float  # at the strike where call and put differ least
    center: float  # K0, the first strike at or below the forward
    strikes: Floats
    prices: Floats  # mid of the out-of-the-money option; of both at the center
    contributions: Floats  # dK/K² · e^{RT} · Q(K)
    coverage: float  # share of the lognormal's probability between the outermost strikes, 0 to 1
    widest: float  # largest step between neighbouring strikes, in standard deviations


def model_free(
    strike: ArrayLike,
    call_bid: ArrayLike,
    call_ask: ArrayLike,
    put_bid: ArrayLike,
    put_ask: ArrayLike,
    *,
    rate: float,
    years: float,
) -> ModelFree | str:
    """Return the model-free variance of one expiration, or the reason why there is none.

    One row a strike, ascending; NaN where nothing is quoted, which counts as no bid.  `rate` is continuous.
    """
    k, cb, ca, pb, pa = (
        np.asarray(each, np.float64) for each in (strike, call_bid, call_ask, put_bid, put_ask)
    )
    if not (math.isfinite(rate) and years > 0):
        return "it has expired"
    call, put = (cb + ca) / 2, (pb + pa) / 2
    apart = np.abs(call - put)
    quoted = np.flatnonzero(np.isfinite(apart))
    if not len(quoted):
        return "no strike has a call and a put quoted"
    at, growth = int(quoted[np.argmin(apart[quoted])]), math.exp(rate * years)
    forward = float(k[at] + growth * (call[at] - put[at]))
    center = int(np.searchsorted(k, forward, "right")) - 1
    if center < 0:
        return "no strike lies at or below the forward"
    if not math.isfinite(apart[center]):
        return "the strike below the forward has no call or no put quoted"
    below = _walk(pb.tolist(), range(center - 1, -1, -1))
    above = _walk(cb.tolist(), range(center + 1, len(k)))
    if not below or not above:
        return "no out-of-the-money option is bid on one side of the forward"
    kept = np.array([*below[::-1], center, *above])
    included = k[kept]
    prices = np.where(kept < center, put[kept], call[kept])
    prices[len(below)] = (call[center] + put[center]) / 2
    step = np.empty_like(included)
    step[1:-1] = (included[2:] - included[:-2]) / 2
    step[0], step[-1] = included[1] - included[0], included[-1] - included[-2]
    parts = step / included**2 * growth * prices
    variance = float((2 * parts.sum() - (forward / k[center] - 1) ** 2) / years)
    if not variance > 0 or not math.isfinite(variance):
        return "the quotes leave no variance"
    width = math.sqrt(variance * years)
    reach = np.log(included / forward) / width
    covered = _normal(float(reach[-1]) + width / 2) - _normal(float(reach[0]) + width / 2)
    widest = float((reach[1:] - reach[:-1]).max())
    return ModelFree(
        variance, years, forward, float(k[center]), included, prices, parts, covered, widest
    )


def _walk(bid: list[float], away: range) -> list[int]:
    """Return the rows that are bid, walking away from the center until two in a row are not."""
    kept: list[int] = []
    unbid = 0
    for row in away:
        unbid = 0 if bid[row] > 0 else unbid + 1
        if unbid == 2:
            break
        if not unbid:
            kept.append(row)
    return kept


def _normal(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2
