"""What traders hold and trade: put/call ratios, max pain, unusual activity, dealer gamma."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors.domain.chains import Chain
from actors.domain.expiries import Expiry
from actors.domain.metric import Metric

Floats = NDArray[np.float64]

SHARES = 100  # a contract
ASSUMPTION = "dealers are long every call and short every put of the open interest"


@dataclass(frozen=True, slots=True)
class PutCall:
    """Puts for each call."""

    volume: Metric
    open_interest: Metric


def put_call(expiries: Iterable[Expiry]) -> PutCall:
    """Return the put/call ratios over some expirations."""
    told = tuple(expiries)

    def ratio(what: str) -> Metric:
        puts, calls = (
            float(_told(_joined(getattr(getattr(one, side), what) for one in told)).sum())
            for side in ("put", "call")
        )
        name = what.replace("_", " ")
        return Metric.of(puts / calls) if calls > 0 else Metric.missing(f"no {name} in calls")

    return PutCall(ratio("volume"), ratio("open_interest"))


def max_pain(expiry: Expiry) -> Metric:
    """Return the listed strike at which the open interest of an expiration would be paid least.

    The lowest of several.
    """
    strike = expiry.strike
    calls, puts = (_told(side.open_interest) for side in (expiry.call, expiry.put))
    if not (calls.any() or puts.any()):
        return Metric.missing("no open interest")
    # Settled at a strike, the calls below it and the puts above it are paid.
    to_calls = strike * np.cumsum(calls) - np.cumsum(calls * strike)
    behind = puts[::-1]
    to_puts = np.cumsum(behind * strike[::-1])[::-1] - strike * np.cumsum(behind)[::-1]
    return Metric.of(strike[int(np.argmin(to_calls + to_puts))])


def unusual(
    chain: Chain,
    usual: Floats | None = None,
    *,
    volume: float = 100,
    turnover: float = 1.0,
    times: float = 3.0,
) -> NDArray[np.intp]:
    """Return the rows of a chain that trade unusually, the largest premium traded first.

    At least `volume` contracts today, more than `turnover` of the open interest, and, where the contract's
    `usual` daily volume is told (one row a contract, NaN where unknown), `times` as many.  An open interest
    that is not told is no sign.
    """
    traded, held = chain.volume, chain.open_interest
    # An infinity is no count; comparing with NaN is False, which is what is meant.
    odd = np.isfinite(traded) & (traded >= volume) & (held >= 0) & (traded > turnover * held)
    if usual is not None:
        odd &= np.isnan(usual) | (traded >= times * usual)
    rows = np.flatnonzero(odd)
    price = np.nan_to_num(np.where(chain.last > 0, chain.last, chain.bid), posinf=0, neginf=0)
    return rows[np.argsort(-(price * traded)[rows], kind="stable")]


@dataclass(frozen=True, slots=True, eq=False)
class DealerGamma:
    """Dollars of stock that dealers have to trade for 1 % of move, by strike; one row a strike, ascending.

    Above 0 they sell rises and buy falls, which calms; below 0 they run with the move.
    """

    strike: Floats
    dollars: Floats
    total: Metric
    assumption: str = ASSUMPTION


def dealer_gamma(expiries: Iterable[Expiry], spot: float) -> DealerGamma:
    """Return gamma x open interest x 100 x S² x 1 % over some expirations, calls less puts."""
    told = tuple(expiries)
    call, put = (
        _joined(side.gamma * side.open_interest for side in sides)
        for sides in ([one.call for one in told], [one.put for one in told])
    )
    strike, which = np.unique(_joined(one.strike for one in told), return_inverse=True)
    if not (spot > 0 and (np.isfinite(call).any() or np.isfinite(put).any())):
        none = Metric.missing("no contract has both a gamma and an open interest")
        return DealerGamma(strike, np.full(len(strike), np.nan), none)
    net = _told(call) - _told(put)
    dollars = np.bincount(which, net, len(strike)).astype(np.float64)
    dollars *= SHARES * spot**2 * 0.01
    return DealerGamma(strike, dollars, Metric.of(float(dollars.sum())))


def _told(column: Floats) -> Floats:
    return np.where(np.isnan(column), 0.0, column)


def _joined(columns: Iterable[Floats]) -> Floats:
    return np.concatenate((*columns, np.empty(0)))
