"""What an option is worth, in columns: Black and Scholes, and for early exercise Barone-Adesi and Whaley (1987).

Good to a few cents, which is all that a made-up market needs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sandbox.paths import Floats

SHORTEST = 1 / (365 * 24 * 60)  # years: nothing is priced closer to its end
NEWTON = 8

Bools = NDArray[np.bool_]

# Hart's rational approximation 5666, as in West, "Better approximations to cumulative normal functions" (2005).
_ABOVE = (
    0.0352624965998911,
    0.700383064443688,
    6.37396220353165,
    33.912866078383,
    112.079291497871,
    221.213596169931,
    220.206867912376,
)
_BELOW = (
    0.0883883476483184,
    1.75566716318264,
    16.064177579207,
    86.7807322029461,
    296.564248779674,
    637.333633378831,
    793.826512519948,
    440.413735824752,
)
_FAR = 7.07106781186547


@dataclass(frozen=True, slots=True)
class Greeks:
    """Delta and gamma per dollar, theta per day, vega per volatility point, rho per percentage point."""

    delta: Floats
    gamma: Floats
    theta: Floats
    vega: Floats
    rho: Floats


def price(
    spot: float,
    strike: Floats,
    call: Bools,
    years: Floats,
    sigma: Floats,
    rate: float,
    dividend_yield: float,
    *,
    american: bool,
) -> Floats:
    """Return what each contract is worth, in dollars a share; volatility and rates are fractions a year."""
    years = np.maximum(years, SHORTEST)
    value = european(spot, strike, call, years, sigma, rate, dividend_yield)
    if not american:
        return value
    early = ~call if dividend_yield <= 0 else np.ones_like(call)  # no dividend, no early call
    value = np.maximum(value, _intrinsic(spot, strike, call))
    value[early] = np.maximum(
        value[early],
        _whaley(spot, strike[early], call[early], years[early], sigma[early], rate, dividend_yield),
    )
    return value


def european(
    spot: float | Floats,
    strike: Floats,
    call: Bools,
    years: Floats,
    sigma: Floats,
    rate: float,
    dividend_yield: float,
) -> Floats:
    """Return what each contract is worth without early exercise."""
    sign = np.where(call, 1.0, -1.0)
    d1, d2 = _ds(spot, strike, years, sigma, rate, dividend_yield)
    paid = spot * np.exp(-dividend_yield * years) * normal_cdf(sign * d1)
    owed = strike * np.exp(-rate * years) * normal_cdf(sign * d2)
    return np.asarray(np.maximum(sign * (paid - owed), 0.0))


def greeks(
    spot: float,
    strike: Floats,
    call: Bools,
    years: Floats,
    sigma: Floats,
    rate: float,
    dividend_yield: float,
    *,
    american: bool,
) -> Greeks:
    """Return the sensitivities; those of a contract that is best exercised now are of its intrinsic value."""
    years = np.maximum(years, SHORTEST)
    sign = np.where(call, 1.0, -1.0)
    d1, d2 = _ds(spot, strike, years, sigma, rate, dividend_yield)
    grown, kept = np.exp(-dividend_yield * years), np.exp(-rate * years)
    density = np.exp(-(d1**2) / 2) / np.sqrt(2 * np.pi)
    delta = sign * grown * normal_cdf(sign * d1)
    gamma = grown * density / (spot * sigma * np.sqrt(years))
    vega = spot * grown * density * np.sqrt(years)
    owed = sign * strike * kept * normal_cdf(sign * d2)
    theta = -spot * grown * density * sigma / (2 * np.sqrt(years))
    theta += -rate * owed + dividend_yield * spot * delta
    rho = years * owed
    if american:
        value = price(spot, strike, call, years, sigma, rate, dividend_yield, american=True)
        inside = _intrinsic(spot, strike, call)
        at_once = (inside > 0) & (value <= inside)
        delta = np.where(at_once, sign, delta)
        gamma, theta, vega, rho = (np.where(at_once, 0.0, g) for g in (gamma, theta, vega, rho))
    return Greeks(delta, gamma, theta / 365, vega / 100, rho / 100)


def normal_cdf(x: Floats) -> Floats:
    """Return the standard normal distribution function, to 15 places."""
    size = np.minimum(np.abs(x), 38.0)
    above, below = np.polyval(_ABOVE, size), np.polyval(_BELOW, size)
    tail = size + 1 / (size + 2 / (size + 3 / (size + 4 / (size + 0.65))))
    upper = np.exp(-(size**2) / 2) * np.where(
        size < _FAR, above / below, 1 / (tail * 2.506628274631)
    )
    return np.asarray(np.where(x > 0, 1 - upper, upper))


def _ds(
    spot: float | Floats,
    strike: Floats,
    years: Floats,
    sigma: Floats,
    rate: float,
    dividend_yield: float,
) -> tuple[Floats, Floats]:
    width = sigma * np.sqrt(years)
    d1 = (np.log(spot / strike) + (rate - dividend_yield) * years) / width + width / 2
    return d1, d1 - width


def _intrinsic(spot: float, strike: Floats, call: Bools) -> Floats:
    return np.asarray(np.maximum(np.where(call, spot - strike, strike - spot), 0.0))


def _whaley(
    spot: float,
    strike: Floats,
    call: Bools,
    years: Floats,
    sigma: Floats,
    rate: float,
    dividend_yield: float,
) -> Floats:
    """Return the quadratic approximation (Haug, "Option pricing formulas", 3.1.1), in units of the strike."""
    sign = np.where(call, 1.0, -1.0)
    carry, one = rate - dividend_yield, np.ones_like(strike)
    m, n = 2 * rate / sigma**2, 2 * carry / sigma**2
    width = sigma * np.sqrt(years)
    grown = np.exp(-dividend_yield * years)
    with np.errstate(all="ignore"):
        q = (-(n - 1) + sign * np.sqrt((n - 1) ** 2 + 4 * m / -np.expm1(-rate * years))) / 2
        q_ever = (-(n - 1) + sign * np.sqrt((n - 1) ** 2 + 4 * m)) / 2
        ever = 1 / (1 - 1 / q_ever)
        slope = -(sign * carry * years + 2 * width) * sign / (ever - 1)
        edge = np.where(call, 1 + (ever - 1) * -np.expm1(slope), ever + (1 - ever) * np.exp(slope))
        for _ in range(NEWTON):
            edge = np.clip(edge, np.where(call, 1.0, 1e-6), np.where(call, 1e6, 1.0))
            d1 = _ds(edge, one, years, sigma, rate, dividend_yield)[0]
            held = grown * normal_cdf(sign * d1)
            density = grown * np.exp(-(d1**2) / 2) / (np.sqrt(2 * np.pi) * width)
            worth = european(edge, one, call, years, sigma, rate, dividend_yield)
            right = worth + sign * (1 - held) * edge / q
            change = sign * held * (1 - 1 / q) + (sign - density) / q
            edge = edge - (sign * (edge - 1) - right) / (sign - change)
        edge = np.clip(edge, np.where(call, 1.0, 1e-6), np.where(call, 1e6, 1.0))
        d1 = _ds(edge, one, years, sigma, rate, dividend_yield)[0]
        premium = sign * edge / q * (1 - grown * normal_cdf(sign * d1))
        x = spot / strike
        value = european(x, one, call, years, sigma, rate, dividend_yield)
        value = value + premium * (x / edge) ** q
        value = np.where(sign * (x - edge) >= 0, sign * (x - 1), value)
    return np.asarray(np.where(np.isfinite(value), value, 0.0) * strike)
