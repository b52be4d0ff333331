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
    fits = chain.standard & np.isfinite(chain.strike) & (chain.strike > 0)
    fits &= (chain.expiration >= FIRST) & (chain.expiration < LAST)  # False of NaT
    root = np.char.strip(chain.contract.astype("U6"))
    found = []
    for day in np.unique(chain.expiration[fits]):
        of_day = fits & (chain.expiration == day)
        for name in np.unique(root[of_day]):
            rows = np.flatnonzero(of_day & (root == name))
            years = years_to(day.astype("datetime64[D]").item(), str(name), at)
            if years > 0:
                sides = chain.iv if iv is None else iv, chain.gamma if gamma is None else gamma
                found.append(_expiry(chain, rows, str(name), years, *sides))
    return tuple(sorted(found, key=lambda one: (one.years, one.root)))


def years_to(day: date, root: str, at: datetime) -> float:
    """Return the years from `at` to the settlement of that day's options, at or below 0 once settled."""
    session = calendar.session(day) or calendar.previous_session(day)
    settles = session.opens if root in MORNING else session.closes
    return (settles - at) / timedelta(minutes=MINUTES)


def _expiry(
    chain: Chain, rows: NDArray[np.intp], root: str, years: float, iv: Floats, gamma: Floats
) -> Expiry:
    strike = np.unique(chain.strike[rows])
    # A quote without a time is the oldest: sorted so that the newest is written last.
    age = np.where(np.isnat(chain.quoted_at[rows]), np.datetime64(0, "ms"), chain.quoted_at[rows])
    rows = rows[np.argsort(age, kind="stable")]
    day = chain.expiration[rows[0]].astype("datetime64[D]").item()

    def side(*, call: bool) -> Side:
        own = rows[chain.call[rows] == call]
        place = np.searchsorted(strike, chain.strike[own])

        def laid(values: Floats) -> Floats:
            column = np.full(len(strike), math.nan)
            column[place] = values[own]
            return column

        bid, ask = _at_least_zero(laid(chain.bid)), _at_least_zero(laid(chain.ask))
        bad = ~((ask > 0) & (bid <= ask))
        low, high = VOLATILITIES
        sigma, bend = laid(iv), laid(gamma)
        return Side(
            np.where(bad, math.nan, bid),
            np.where(bad, math.nan, ask),
            np.where((sigma > low) & (sigma < high), sigma, math.nan),
            _at_least_zero(bend),
            _at_least_zero(laid(chain.volume)),
            _at_least_zero(laid(chain.open_interest)),
        )

    return Expiry(day, root, years, strike, side(call=True), side(call=False))


def _at_least_zero(values: Floats) -> Floats:
    return np.where((values >= 0) & np.isfinite(values), values, math.nan)
