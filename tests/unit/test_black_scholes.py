"""European options against Haug's tables and 50-digit volatilities, and against what must hold for any option."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from actors.domain import black_scholes
from actors.domain.black_scholes import Reason

CASES = (
    Path(os.environ.get("VOLARIS_FIXTURES") or Path(__file__).parents[3] / "shared" / "fixtures")
    / "options"
    / "cases.json"
)


def cases(group):
    if not CASES.is_file():
        pytest.skip(f"no reference cases at {CASES}")
    found = [case for case in json.loads(CASES.read_text())["cases"] if case["group"] == group]
    assert found
    return found


def column(found, name):
    return np.array([case[name] for case in found], dtype=float)


def terms(found):
    """Spot, strike, years, rate, carry; Haug counts whole days of 360."""
    years = column(found, "T")
    if "daycount" in found[0]:
        years = np.round(years * 360) / 360
    return column(found, "S"), column(found, "K"), years, column(found, "r"), column(found, "q")


def calls(found):
    return np.array([case["right"] == "call" for case in found])


def test_prices_are_haugs():
    found = cases("european_price")
    ours = black_scholes.price(*terms(found), column(found, "sigma"), calls(found))
    assert (ours.reason == Reason.OK).all()
    assert (np.abs(ours.price - column(found, "price")) <= column(found, "tol")).all()


def test_greeks_are_haugs():
    for case in cases("european_greek"):
        spot, strike, years, rate, carry = terms([case])
        if case["greek"].startswith("theta"):
            years = np.array([case["T"]])
        ours = black_scholes.greeks(
            spot, strike, years, rate, carry, case["sigma"], case["right"] == "call"
        )
        value = {
            "delta": ours.delta,
            "gamma": ours.gamma,
            "vega": ours.vega,
            "rho": ours.rho,
            "theta_per_year": ours.theta,
            "theta_per_day": ours.theta / 365,
            "elasticity": ours.delta * spot / ours.price,
            "dividend_rho": -years * spot * ours.delta,
        }[case["greek"]][0]
        assert value == pytest.approx(case["value"], abs=case["tol"]), case


def test_implied_volatilities_are_those_of_fifty_digits():
    found = cases("european_iv_grid")
    ours = black_scholes.implied_volatility(column(found, "price"), *terms(found), calls(found))
    assert (ours.reason == Reason.OK).all()
    assert (np.abs(ours.sigma - column(found, "iv")) <= column(found, "tol")).all()


def test_a_price_less_the_present_value_of_cash_dividends_is_hulls():
    (case,) = cases("european_discrete_dividend")
    paid = sum(cash * math.exp(-case["r"] * day / 360) for day, cash in case["dividends"])
    ours = black_scholes.price(
        case["S"] - paid, case["K"], case["days"] / 360, case["r"], 0.0, case["sigma"], True
    )
    assert ours.price[0] == pytest.approx(case["price"], abs=case["tol"])


def test_erfcx_is_the_standard_librarys():
    x = np.concatenate([np.linspace(-5, 5, 2001), np.geomspace(5, 25, 200)])
    want = [math.erfc(v) * math.exp(v * v) for v in x]
    np.testing.assert_allclose(black_scholes.erfcx(x), want, rtol=3e-13)  # exp(v*v) is no better


MONEYNESS = some.floats(-2.0, 2.0)
YEARS = some.floats(1 / 365, 3.0)
RATE = some.floats(-0.05, 0.15)
SIGMA = some.floats(0.03, 3.0)


@given(MONEYNESS, YEARS, RATE, RATE, SIGMA)
def test_parity_bounds_and_monotonicity(k, years, rate, carry, sigma):
    spot, strike = 100.0, 100.0 * math.exp(k)
    ladder = np.array([0.0, 0.5, 1.0, 1.1]) * sigma
    call = black_scholes.price(spot, strike, years, rate, carry, ladder, True).price
    put = black_scholes.price(spot, strike, years, rate, carry, ladder, False).price
    now, later = spot * math.exp(-carry * years), strike * math.exp(-rate * years)
    np.testing.assert_allclose(call - put, now - later, atol=1e-11)
    for value, most, least in ((call, now, now - later), (put, later, later - now)):
        assert (value >= max(least, 0.0) - 1e-11).all()
        assert (value <= most + 1e-11).all()
        assert (np.diff(value) >= -1e-11).all()


@given(MONEYNESS, YEARS, RATE, RATE, SIGMA, some.booleans(), some.floats(0.01, 1e4))
def test_a_price_gives_back_its_volatility_at_any_scale(k, years, rate, carry, sigma, call, scale):
    strike = math.exp(k)
    at = black_scholes.greeks(scale, scale * strike, years, rate, carry, sigma, call)
    one = black_scholes.price(1.0, strike, years, rate, carry, sigma, call)
    assert at.price[0] == pytest.approx(one.price[0] * scale, rel=1e-9, abs=1e-13 * scale)
    ours = black_scholes.implied_volatility(
        at.price, scale, scale * strike, years, rate, carry, call
    )
    # what one rounding of the price moves sigma by
    blur = 2.0**-50 * scale * (1.0 + strike) / max(at.vega[0], 1e-300)
    if blur < 1e-6:
        assert ours.reason[0] == Reason.OK
        assert abs(ours.sigma[0] - sigma) <= 1e-12 + 8 * blur
    else:
        assert np.isnan(ours.sigma[0]) == (ours.reason[0] != Reason.OK)


def test_prices_too_small_for_any_market_still_give_their_volatility():
    strike = np.array([120.0, 165.0, 180.0, 400.0])
    sigma = np.array([0.04, 0.05, 0.1, 0.3])
    found = black_scholes.price(100.0, strike, 0.05, 0.0, 0.0, sigma, True)
    assert (found.price < 1e-40).any()
    ours = black_scholes.implied_volatility(found.price, 100.0, strike, 0.05, 0.0, 0.0, True)
    live = found.price > 1e-280
    np.testing.assert_allclose(ours.sigma[live], sigma[live], rtol=1e-12)
    assert (ours.reason[~live] == Reason.FLAT).all()


def test_greeks_are_the_slopes_of_the_price():
    terms = np.array([100.0, 110.0, 0.7, 0.04, 0.02, 0.3])
    for call in (True, False):
        ours = black_scholes.greeks(*terms, call)
        for place, name, sign in (
            (0, "delta", 1),
            (5, "vega", 1),
            (2, "theta", -1),
            (3, "rho", 1),
        ):
            step = np.zeros(6)
            step[place] = 1e-4
            up = black_scholes.greeks(*(terms + step), call)
            down = black_scholes.greeks(*(terms - step), call)
            slope = sign * (up.price - down.price) / 2e-4
            assert getattr(ours, name)[0] == pytest.approx(slope[0], rel=1e-6), name
            if name == "delta":
                bend = (up.delta - down.delta) / 2e-4
                assert ours.gamma[0] == pytest.approx(bend[0], rel=1e-6)


@pytest.mark.parametrize(
    ("price", "spot", "strike", "years", "reason"),
    [
        (9.9, 100.0, 90.0, 0.5, Reason.BELOW),
        (10.0, 100.0, 90.0, 0.5, Reason.FLAT),
        (0.0, 100.0, 110.0, 0.5, Reason.FLAT),
        (100.0, 100.0, 110.0, 0.5, Reason.ABOVE),
        (-999.0, 100.0, 110.0, 0.5, Reason.INPUT),
        (5.0, 100.0, 110.0, 0.0, Reason.EXPIRED),
        (5.0, 100.0, 110.0, -1.0, Reason.EXPIRED),
        (5.0, 0.0, 110.0, 0.5, Reason.INPUT),
        (5.0, 100.0, math.inf, 0.5, Reason.INPUT),
        (math.nan, 100.0, 110.0, 0.5, Reason.INPUT),
    ],
)
def test_what_has_no_volatility_says_why(price, spot, strike, years, reason):
    ours = black_scholes.implied_volatility(price, spot, strike, years, 0.0, 0.0, True)
    assert ours.reason[0] == reason
    assert np.isnan(ours.sigma[0])


def test_half_a_tick_is_no_time_value():
    ours = black_scholes.implied_volatility(
        [10.004, 10.02], 100.0, 90.0, 0.5, 0.0, 0.0, True, tick=0.01
    )
    assert ours.reason.tolist() == [Reason.FLAT, Reason.OK]


ANY = some.sampled_from(
    [math.nan, math.inf, -math.inf, 0.0, -1.0, -999.0, 1e-308, 1e308, 5.0, 100.0]
)


@given(some.lists(some.tuples(*[ANY] * 7), max_size=5))
def test_nonsense_never_raises_and_never_touches_a_neighbour(rows):
    good = (5.0, 100.0, 105.0, 0.25, 0.04, 0.01, 1.0)
    table = np.array([good, *rows, good], dtype=float).T
    alone = black_scholes.implied_volatility(*good)
    ours = black_scholes.implied_volatility(*table)
    assert ours.sigma[0] == ours.sigma[-1] == alone.sigma[0]
    assert (np.isnan(ours.sigma) == (ours.reason != Reason.OK)).all()
    sigma, *terms, call = table
    slopes = black_scholes.greeks(*terms, sigma, call)
    for name in ("price", "delta", "gamma", "vega", "theta", "rho"):
        value = getattr(slopes, name)
        assert value[0] == value[-1]
        assert np.isfinite(value[[0, -1]]).all()
        assert np.isnan(value[slopes.reason == Reason.INPUT]).all()


def test_no_rows_are_no_rows():
    ours = black_scholes.implied_volatility([], 100.0, 100.0, 1.0, 0.0, 0.0, True)
    assert len(ours.sigma) == len(ours.reason) == 0
