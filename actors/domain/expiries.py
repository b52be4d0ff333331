"""A chain cut into expirations: calls and puts side by side, one row a strike, only what can be believed."""

import math
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from actors.domain import calendar
from actors.domain.chains import Chain

Floats = NDArray[np.float64]

MINUTES = 525_600  # a year, as Cboe counts it
MORNING = frozenset({"DJX", "NDX", "RUT", "SPX", "VIX", "VIXW"})  # settle at the opening
FIRST, LAST = np.datetime64(f"{calendar.FIRST_YEAR + 1}-01-01"), np.datetime64("2200-01-01")
VOLATILITIES = 0.005, 10.0  # what lies outside is a vendor's or a solver's way to say nothing


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """The calls or the puts of one expiration; NaN where a value is missing or cannot be true."""

    bid: Floats  # 0 is real
    ask: Floats
    iv: Floats
    gamma: Floats
    volume: Floats
    open_interest: Floats

    @property
    def mid(self) -> Floats:
        """Middle of bid and ask, NaN where one of them is."""
        middle: Floats = (self.bid + self.ask) / 2
        return middle


@dataclass(frozen=True, slots=True, eq=False)
class Expiry:
    """One expiration of one root; the arrays of `call` and `put` have one row a strike, ascending."""

    day: date
    root: str
    years: float  # to its settlement, in years of 525,600 minutes; above 0
    strike: Floats
    call: Side
    put: Side


def expiries(
    chain: Chain, at: datetime, iv: Floats | None = None, gamma: Floats | None = None
) -> tuple[Expiry, ...]:
    """Return what lives in a chain at a moment, nearest settlement first.

    `iv` and `gamma`, one row a contract, take the place of the vendor's.  Left out: the expired, the
    adjusted, strikes that are no price.  Of duplicates the newest quote counts.  Crossed quotes and those
    without an ask are NaN; so is a volatility outside `VOLATILITIES`, such as a vendor's -999.
    """
    keep = chain.standard & np.isfinite(chain.strike) & (chain.strike > 0)
    keep &= (chain.expiration >= FIRST) & (chain.expiration < LAST)  # False of NaT
    if not keep.any():
        return ()
    roots, root = _roots(chain.contract[keep])
    day, strike = chain.expiration[keep].astype("datetime64[D]"), chain.strike[keep]
    # A quote without a time (NaT) sorts as the oldest; the newest is laid down last and stays.
    age = chain.quoted_at[keep].astype("datetime64[ms]").astype(np.int64)
    order = np.lexsort((age, strike, root, day))
    day, root, strike = day[order], root[order], strike[order]
    begins = np.ones(len(order), bool)
    begins[1:] = (day[1:] != day[:-1]) | (root[1:] != root[:-1])
    fresh = begins.copy()
    fresh[1:] |= strike[1:] != strike[:-1]
    place = np.cumsum(fresh) - 1  # of each contract among the strikes of all expirations
    laid = np.full((2, 6, place[-1] + 1), math.nan)
    sides = chain.call[keep][order].astype(np.intp)
    laid[sides, :, place] = _believed(chain, iv, gamma)[keep][order]
    strikes, starts = strike[fresh], np.flatnonzero(begins)
    ends = (*place[starts[1:]].tolist(), len(strikes))
    found = []
    for row, low, high in zip(starts.tolist(), place[starts].tolist(), ends, strict=True):
        name, of = roots[root[row]], day[row].item()
        if (years := years_to(of, name, at)) > 0:
            put, call = (Side(*side[:, low:high]) for side in laid)
            found.append(Expiry(of, name, years, strikes[low:high], call, put))
    return tuple(sorted(found, key=lambda one: (one.years, one.root)))


def years_to(day: date, root: str, at: datetime) -> float:
    """Return the years from `at` to the settlement of that day's options, at or below 0 once settled."""
    session = calendar.session(day) or calendar.previous_session(day)
    settles = session.opens if root in MORNING else session.closes
    return (settles - at) / timedelta(minutes=MINUTES)


def _roots(contract: NDArray[np.str_]) -> tuple[list[str], NDArray[np.intp]]:
    """Return the roots there are, and which of them each contract has; most chains have one."""
    names = contract.astype("U6")
    if (names == names[0]).all():
        return [str(names[0]).strip()], np.zeros(len(names), np.intp)
    told, which = np.unique(names, return_inverse=True)
    return [str(name).strip() for name in told], which


def _believed(chain: Chain, iv: Floats | None, gamma: Floats | None) -> Floats:
    """Return the columns of `Side`, one row a contract, NaN for what cannot be true."""
    told = np.column_stack(
        (
            chain.bid,
            chain.ask,
            chain.iv if iv is None else iv,
            chain.gamma if gamma is None else gamma,
            chain.volume,
            chain.open_interest,
        )
    )
    told[~((told >= 0) & (told < math.inf))] = math.nan
    bid, ask, sigma = told[:, 0], told[:, 1], told[:, 2]
    bid[np.isnan(ask) | (ask == 0)] = math.nan
    bid[bid > ask] = math.nan
    ask[np.isnan(bid)] = math.nan
    low, high = VOLATILITIES
    sigma[~((sigma > low) & (sigma < high))] = math.nan
    return told
