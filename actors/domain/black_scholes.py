"""European options in columns: prices, greeks and implied volatility after Black, Scholes and Merton.

Every argument broadcasts; float64 in, one row a contract out.  Spot, strike and price are dollars a share,
`years` are to expiry, `rate` and `carry` (dividends less or more the borrow, `q`) are continuous
and may be negative, `sigma` is a fraction a year, `call` is bool.  A row that cannot be answered is NaN with
the `Reason` why; it never raises and never touches its neighbours.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Codes = NDArray[np.int8]  # of Reason
Columns = tuple[NDArray[Any], ...]

_ROWS = 16384  # at once: what a core's second-level cache holds of the temporaries
_SMALLEST = (
    1e-12  # of sigma * sqrt(years): below it an option is worth its intrinsic value to the last bit
)
# Of spot or strike: what is left of the time value of a price in the money is rounding.
_NOISE = 2.0**-48
_SHORTEST = 1e-9  # years, 30 ms: a shorter time to expiry is none
# Beyond these a row is INPUT: no market has them, and nothing within them overflows.
_LONGEST = 1e4  # years
_DEAREST = 1e12  # dollars; its inverse is the cheapest
_FASTEST = 100.0  # rate and carry a year
_FURTHEST = 100.0  # rate and carry times years
WILDEST = 1e3  # sigma a year

# (1 + 2x) erfcx(x) on x >= 0 as a polynomial in (x - 4)/(x + 4), fitted to 60 digits at Chebyshev nodes; the
# form is Shepherd and Laframboise's (1981).  Relative error below 6e-16 from 0 to 1e8.
_ERFCX = (
    1.2329951186255526,
    -0.139621116840557,
    0.015379652102618402,
    0.06809705425420673,
    -0.10103906603618064,
    0.0937328350110569,
    -0.06633036581541651,
    0.03716751538360477,
    -0.016197734020451597,
    0.005031971017234254,
    -0.0007577735257382458,
    -0.0001992610018544279,
    0.00015062257137043143,
    -2.4387691264306046e-05,
    -1.1224122281497544e-05,
    5.6894090899650724e-06,
    2.968409172531307e-07,
    -8.019174684327191e-07,
    7.202517584836005e-08,
    9.290772873032215e-08,
    -1.673812797437216e-08,
    -6.984021100158542e-09,
    1.6403183696752708e-09,
)


class Reason(IntEnum):
    """Why a row has the value it has, or none."""

    OK = 0
    INPUT = 1  # not finite, or a price, spot, strike or sigma that cannot be
    EXPIRED = 2
    BELOW = 3  # the price is less than exercise or the forward is worth
    FLAT = 4  # no time value beyond half a tick or rounding: every small sigma explains it
    ABOVE = 5  # the price is more than any sigma explains
    EXERCISE = 6  # American, best exercised now: worth its intrinsic value whatever sigma is
    EUROPEAN = 7  # American, with two exercise boundaries (carry < rate < 0): the European answer
    DIVIDEND = 8  # American call in the money before an ex-date: answered, but may be points off
    UNSOLVED = 9  # the search did not end


@dataclass(frozen=True, slots=True, eq=False)
class Priced:
    """Dollars a share, one row a contract."""

    price: Floats
    reason: Codes


@dataclass(frozen=True, slots=True, eq=False)
class Implied:
    """Volatilities as fractions a year, one row a contract."""

    sigma: Floats
    reason: Codes


@dataclass(frozen=True, slots=True, eq=False)
class Greeks:
    """The value and its derivatives by spot (delta, gamma), and by sigma, years gone and rate, each per 1.00."""

    price: Floats
    delta: Floats
    gamma: Floats
    vega: Floats
    theta: Floats
    rho: Floats
    reason: Codes


def erfcx(x: Floats) -> Floats:
    """Return exp(x²) erfc(x), to 6e-16 relative for x >= 0 and 1e-15·x² below; inf below -26."""
    size = np.abs(x)
    t = (size - 4.0) / (size + 4.0)
    y = np.full_like(t, _ERFCX[-1])
    for coefficient in _ERFCX[-2::-1]:
        y *= t
        y += coefficient
    y /= 1.0 + 2.0 * size
    negative = x < 0
    if negative.any():
        y[negative] = 2.0 * np.exp(size[negative] ** 2) - y[negative]
    return y


def normal(x: Floats) -> tuple[Floats, Floats]:
    """Return the normal distribution function and density at x, both to 1e-15 relative to the nearer tail."""
    density = np.exp(-0.5 * x * x)
    tail = 0.5 * density * erfcx(np.abs(x) * math.sqrt(0.5))
    return np.where(x < 0, tail, 1.0 - tail), density * (1.0 / math.sqrt(2.0 * math.pi))


def unusable(*positive: Floats, years: Floats, rate: Floats, carry: Floats) -> Codes:
    """Return INPUT or EXPIRED for the rows whose terms allow no answer, OK for the others."""
    good = np.abs(years) < _LONGEST
    for field in positive:
        good &= (field > 1.0 / _DEAREST) & (field < _DEAREST)
    with np.errstate(invalid="ignore", over="ignore"):
        for field in (rate, carry):
            good &= (np.abs(field) < _FASTEST) & (np.abs(field * years) < _FURTHEST)
    reason = np.where(years < _SHORTEST, Reason.EXPIRED, Reason.OK)
    return np.where(good, reason, Reason.INPUT).astype(np.int8)


def columns(*fields: ArrayLike) -> list[Floats]:
    """Return the fields as float64 columns of one length."""
    return [
        np.ascontiguousarray(field).reshape(-1)
        for field in np.broadcast_arrays(*(np.asarray(field, dtype=np.float64) for field in fields))
    ]


def in_chunks(answer: Callable[..., Columns], *fields: Floats) -> list[NDArray[Any]]:
    """Return the answer's columns, computed a few thousand rows at a time."""
    rows = len(fields[0])
    parts = [
        answer(*(field[start : start + _ROWS] for field in fields))
        for start in range(0, max(rows, 1), _ROWS)
    ]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def price(
    spot: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    rate: ArrayLike,
    carry: ArrayLike,
    sigma: ArrayLike,
    call: ArrayLike,
) -> Priced:
    """Return what European options are worth, to about 1e-15 of spot; sigma 0 gives the discounted intrinsic value."""
    found = greeks(spot, strike, years, rate, carry, sigma, call)
    return Priced(found.price, found.reason)


def greeks(
    spot: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    rate: ArrayLike,
    carry: ArrayLike,
    sigma: ArrayLike,
    call: ArrayLike,
) -> Greeks:
    """Return value, delta, gamma, vega, theta and rho of European options (Haug 2007, chapter 2)."""
    return Greeks(*in_chunks(_greeks, *columns(spot, strike, years, rate, carry, sigma, call)))


def _greeks(
    spot: Floats,
    strike: Floats,
    years: Floats,
    rate: Floats,
    carry: Floats,
    sigma: Floats,
    call: Floats,
) -> Columns:
    reason = unusable(spot, strike, years=years, rate=rate, carry=carry)
    reason[~((sigma >= 0) & (sigma < WILDEST) & np.isfinite(call))] = Reason.INPUT
    bad = reason != Reason.OK
    if bad.any():
        spot, strike, years, sigma = (
            np.where(bad, 1.0, field) for field in (spot, strike, years, sigma)
        )
        rate, carry = (np.where(bad, 0.0, field) for field in (rate, carry))
    side = np.where(call != 0, 1.0, -1.0)
    root = np.sqrt(years)
    v = np.maximum(sigma * root, _SMALLEST)
    d1 = (np.log(spot / strike) + (rate - carry) * years) / v + 0.5 * v
    now = spot * np.exp(-carry * years)
    later = strike * np.exp(-rate * years)
    held, density = normal(side * d1)
    paid, _ = normal(side * (d1 - v))
    value = np.maximum(side * (now * held - later * paid), 0.0)
    delta = side * now / spot * held
    vega = now * density * root
    gamma = now * density / (spot * spot * v)
    theta = (
        -0.5 * now * density * v / years + side * carry * now * held - side * rate * later * paid
    )
    rho = side * years * later * paid
    answers = (value, delta, gamma, vega, theta, rho)
    if bad.any():
        for answer in answers:
            answer[bad] = np.nan
    return *answers, reason


def implied_volatility(
    price: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    rate: ArrayLike,
    carry: ArrayLike,
    call: ArrayLike,
    *,
    tick: float = 0.0,
) -> Implied:
    """Return the volatilities at which European options are worth `price` dollars.

    FLAT where the time value is at most half a `tick` (dollars).  Two Householder steps of order four on the
    logarithm of the price, from the guess of Stefanica and Radoičić, "An explicit implied volatility formula"
    (2017): the error is below 1e-12 wherever the price determines sigma that well, prices of 1e-280 included.
    """

    def chunk(*fields: Floats) -> Columns:
        return _implied(*fields, tick=tick)

    sigma, reason = in_chunks(chunk, *columns(price, spot, strike, years, rate, carry, call))
    return Implied(sigma, reason)


def _implied(
    price: Floats,
    spot: Floats,
    strike: Floats,
    years: Floats,
    rate: Floats,
    carry: Floats,
    call: Floats,
    *,
    tick: float,
) -> Columns:
    reason = unusable(spot, strike, years=years, rate=rate, carry=carry)
    reason[~(np.isfinite(price) & (price >= 0) & np.isfinite(call))] = Reason.INPUT
    bad = reason != Reason.OK
    if bad.any():
        price, spot, strike, years = (
            np.where(bad, 1.0, field) for field in (price, spot, strike, years)
        )
        rate, carry = (np.where(bad, 0.0, field) for field in (rate, carry))
    price = np.minimum(price, 2.0 * _DEAREST)
    now = spot * np.exp(-carry * years)
    later = strike * np.exp(-rate * years)
    within = np.where(call != 0, now - later, later - now)
    value = price - np.maximum(within, 0.0)
    noise = np.where(within > 0, _NOISE * np.maximum(now, later), 0.0)
    scale = np.sqrt(now * later)
    x = np.abs(np.log(spot / strike) + (rate - carry) * years)
    b = value / scale
    least = np.maximum(0.5 * tick, noise)
    low, top = value <= least, b >= np.exp(-0.5 * x) * (1.0 - 1e-15)
    if low.any() or top.any():
        reason[low & ~bad] = Reason.FLAT
        reason[(value < -least) & ~bad] = Reason.BELOW
        reason[top & ~bad] = Reason.ABOVE
    bad = reason != Reason.OK
    if bad.any():
        x, b = np.where(bad, 0.0, x), np.where(bad, 0.25, b)
    s, last = _total(x, b)
    lost = ~bad & ~(last < 1e-3)  # the next would be below 1e-12
    reason[lost] = Reason.UNSOLVED
    sigma = s / np.sqrt(years)
    sigma[bad | lost] = np.nan
    return sigma, reason


def _total(x: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Return sigma·sqrt(T) of options at log-moneyness -x worth b·sqrt(FK), and the last step relative to it."""
    target = np.log(b)
    s = _guess(x, b)
    s, _ = _step(x, s, target)
    s, last = _step(x, s, target)
    for _ in range(8):
        more = np.flatnonzero(~(last < 1e-3))
        if not more.size:
            break
        s[more], last[more] = _step(x[more], s[more], target[more])
    return s, last


def _guess(x: Floats, b: Floats) -> Floats:
    """Pólya's approximation solved for sigma·sqrt(T), every difference of the paper's in a form that keeps its digits."""
    e = np.exp(-x)
    alpha = b * np.sqrt(e)
    p = np.exp((1.0 - 2.0 / math.pi) * x)
    a = (p - 1.0 / p) ** 2
    half = np.sinh(0.5 * x)
    rest = np.sinh((2.0 / math.pi - 0.5) * x)
    more = alpha * (alpha + 1.0 - e)
    middle = 16.0 * half * rest + 8.0 * (p + 1.0 / p) / e * more
    c = 16.0 * more * np.maximum(e - alpha, 0.0) * (1.0 + alpha) / (e * e)
    # the largest price is where the logarithm ends
    g = (
        -0.5
        * math.pi
        * np.log(np.maximum(2.0 * c / (middle + np.sqrt(middle * middle + 4.0 * a * c)), 1e-300))
    )
    near, far = np.sqrt(np.maximum(g - x, 0.0)), np.sqrt(np.maximum(g + x, 0.0))
    turn = 0.5 * (e - 1.0 + np.sqrt(np.maximum(1.0 - np.exp(-4.0 / math.pi * x), 0.0)))
    s = np.where(alpha <= turn, 2.0 * x / np.maximum(near + far, 1e-300), near + far)
    least: Floats = b * math.sqrt(2.0 * math.pi)  # for no option less
    guess: Floats = np.maximum(s, least)
    return guess


def _step(x: Floats, s: Floats, target: Floats) -> tuple[Floats, Floats]:
    """One Householder step of order four on ln b(s) = target; with b in scaled form nothing underflows."""
    h = x / s
    t = 0.5 * s
    root = math.sqrt(0.5)
    width = erfcx((h - t) * root) - erfcx((h + t) * root)
    slope = math.sqrt(2.0 / math.pi) / width  # b'/b
    bend = h * h / s - 0.5 * t  # b''/b'
    newton = (target - np.log(0.5 * width) + 0.5 * (h * h + t * t)) / slope
    second = bend - slope
    third = bend * bend - 3.0 * (h / s) ** 2 - 0.25 - 3.0 * bend * slope + 2.0 * slope * slope
    step = newton * (1.0 + 0.5 * second * newton) / (1.0 + newton * (second + third * newton / 6.0))
    after = np.clip(s + step, 0.25 * s, 4.0 * s)
    return after, np.abs(after / s - 1.0)
