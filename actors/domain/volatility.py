"""Volatility across expirations and days: constant maturity, term structure, premium, crush, rank."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from actors.domain.metric import Metric, lack

MATURITIES = 7, 14, 30, 60, 90  # days
YEAR = 252  # closing values that rank and percentile look back on
ENOUGH = 20  # of them, below which neither is told
FLAT = 0.005  # half a volatility point


@dataclass(frozen=True, slots=True)
class Point:
    """ATM volatility (a fraction a year) of an expiration `years` away."""

    years: float
    iv: float

    @property
    def variance(self) -> float:
        """Return the total variance until then."""
        return self.iv**2 * self.years


def curve(points: Iterable[Point]) -> tuple[Point, ...]:
    """Return the points that say something, by their time; of two at one time the first counts."""
    told = {
        point.years: point
        for point in reversed(tuple(points))
        if 0 < point.years < math.inf and 0 < point.iv < 100
    }
    return tuple(told[years] for years in sorted(told))


def constant_maturity(points: Iterable[Point], days: float) -> Metric:
    """Return the volatility `days` calendar days away.

    Total variance is linear in time between the expirations around it, as in Cboe's VIX; nothing is ever
    extrapolated.
    """
    told, years = curve(points), days / 365
    if not told:
        return Metric.missing("no expiration has a volatility")
    # A nanosecond's rounding of a moment must not lose the expiration that is met exactly.
    if not told[0].years - 1e-12 <= years <= told[-1].years + 1e-12:
        first, last = told[0].years * 365, told[-1].years * 365
        return Metric.missing(
            f"{days:g} days lie outside the expirations, {first:.1f} to {last:.1f} days away"
        )
    total = np.interp(years, [p.years for p in told], [p.variance for p in told])
    return Metric.of(math.sqrt(float(total) / years))


class Shape(StrEnum):
    """What a term structure is called."""

    CONTANGO = "contango"
    FLAT = "flat"
    BACKWARDATION = "backwardation"


@dataclass(frozen=True, slots=True)
class Term:
    """The term structure: volatilities at `MATURITIES`, and the 90 days' less the 30 days'."""

    at: dict[int, Metric]
    slope: Metric  # fraction of volatility; above 0 the far is dearer
    shape: Shape | None  # flat within half a point


def term(points: Iterable[Point]) -> Term:
    """Return the term structure of a curve."""
    told = curve(points)
    at = {days: constant_maturity(told, days) for days in MATURITIES}
    near, far = at[30].value, at[90].value
    if near is None or far is None:
        return Term(at, Metric.missing(lack(at[30], at[90]) or ""), None)
    slope = far - near
    if abs(slope) <= FLAT:
        shape = Shape.FLAT
    else:
        shape = Shape.CONTANGO if slope > 0 else Shape.BACKWARDATION
    return Term(at, Metric.of(slope), shape)


@dataclass(frozen=True, slots=True)
class Premium:
    """What options cost above what the stock has done; both readings, since both are quoted."""

    variance: Metric  # IV30² - HV20²
    points: Metric  # IV30 - HV20, fractions


def variance_risk_premium(iv30: Metric, hv20: Metric) -> Premium:
    """Return the variance risk premium of a 30-day volatility over a realised one."""
    if iv30.value is None or hv20.value is None:
        none = Metric.missing(lack(iv30, hv20) or "")
        return Premium(none, none)
    return Premium(Metric.of(iv30.value**2 - hv20.value**2), Metric.of(iv30.value - hv20.value))


@dataclass(frozen=True, slots=True)
class Crush:
    """What is priced for one event, such as a report of earnings."""

    move: Metric  # one standard deviation of the event's own log return
    before: Metric  # volatility of the first expiration after the event, now
    after: Metric  # the same expiration's once the event has passed, all else equal
    drop: Metric  # before - after


def crush(points: Iterable[Point], event: float) -> Crush:
    """Return what the expirations around an event, `event` years away, price for it.

    Model: variance a year is the same before and after, and the event adds a lump to every expiration behind
    it.  The yearly variance is that of the last expiration before the event; where there is none, that
    between the first two behind it.
    """
    told = curve(points)
    early = [point for point in told if point.years <= event]
    late = [point for point in told if point.years > event]

    def none(why: str) -> Crush:
        missing = Metric.missing(why)
        return Crush(missing, Metric.of(late[0].iv) if late else missing, missing, missing)

    if event < 0:
        return none("the event has passed")
    if not late or (not early and len(late) < 2):
        return none("no two expirations lie around the event")
    first = late[0]
    if early:
        yearly = early[-1].iv ** 2
    else:
        (a, b), *_ = pairwise(late)
        yearly = (b.variance - a.variance) / (b.years - a.years)
    if yearly <= 0:
        return none("total variance falls between the expirations behind the event")
    lump = first.variance - yearly * first.years
    if lump <= 0:
        return none("nothing is priced for the event")
    calm = math.sqrt(yearly)
    return Crush(
        Metric.of(math.sqrt(lump)),
        Metric.of(first.iv),
        Metric.of(calm),
        Metric.of(first.iv - calm),
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a volatility stands among its closing values; both 0 to 100."""

    rank: Metric  # place between the lowest and the highest, the value itself being one of them
    percentile: Metric  # share of days strictly below
    days: int  # closing values that were looked at, up to 252


def standing(now: float, closes: ArrayLike, enough: int = ENOUGH) -> Standing:
    """Return the rank and percentile of a volatility among its last 252 closing values, oldest first.

    Conventions of tastytrade and IBKR; what thinkorswim calls "Current IV Percentile" is the rank.  Days
    without a value do not count.  The day at hand, where it is told already, is the caller's to leave out.
    """
    told = np.asarray(closes, np.float64).ravel()
    told = told[np.isfinite(told) & (told > 0)][-YEAR:]
    days = len(told)
    if not 0 < now < math.inf:
        none = Metric.missing("there is no volatility now")
        return Standing(none, none, days)
    if days < max(enough, 1):
        none = Metric.missing(f"not enough history: {days} of {enough} days")
        return Standing(none, none, days)
    low, high = min(float(told.min()), now), max(float(told.max()), now)
    rank = (
        Metric.of(100 * ((now - low) / (high - low)))
        if high > low
        else Metric.missing(f"the volatility has not moved in {days} days")
    )
    return Standing(rank, Metric.of(100 * float(np.mean(told < now))), days)
