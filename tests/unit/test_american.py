"""American options against QuantLib's and the paper's figures, and against what must hold for any option."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from actors.domain import american, black_scholes
from actors.domain.american import CHAIN, EXACT
from actors.domain.black_scholes import Reason
from tests.unit.test_black_scholes import ANY, calls, cases, column
from tests.unit.test_black_scholes import terms as terms_of


def priced(found, scheme):
    return american.price(*terms_of(found), column(found, "sigma"), calls(found), scheme=scheme)


def test_the_reference_grid():
    found = cases("american_reference_grid")
    want, tol = column(found, "price"), column(found, "tol")
    assert (np.abs(priced(found, EXACT).price - want) <= tol).all()
    assert np.abs(priced(found, CHAIN).price - want).max() <= 2e-4  # of a spot of 100


def test_the_premiums_of_the_paper():
    found = cases("american_alo_premium")
    ours = priced(found, EXACT).price
    ours -= black_scholes.price(*terms_of(found), column(found, "sigma"), calls(found)).price
    # the paper's eight steps leave 1e-7 where rate and carry differ; ours pay what exercise pays, see below
    tol = np.maximum(column(found, "tol"), np.where(column(found, "r") == 0.05, 0.0, 1e-7))
    assert (np.abs(ours - column(found, "early_exercise_premium")) <= tol).all()


def test_the_edge_cases():
    found = cases("american_edge")
    off = np.abs(priced(found, EXACT).price - column(found, "price"))
    # the others are QuantLib's QD+ approximation: its high-precision engine is in the next test
    approximated = np.isin(column(found, "price"), (22.97383256003585, 8.871505915120776))
    approximated |= column(found, "q") == 10.0
    approximated |= column(found, "T") == 170.0
    assert (off[~approximated] <= np.maximum(column(found, "tol")[~approximated], 1e-9)).all()
    assert (off[approximated] <= 0.03).all()


@pytest.mark.parametrize(
    ("terms", "want"),
    [
        ((100, 120, 10, 0.1, 0.03, 0.25, False), 23.000293541286037),
        ((100, 100, 1, 0.0, 0.025, 0.25, True), 8.865365196673144),
        ((100, 100, 1, 0.1, 1.0, 0.25, True), 1.2510421054385983),
        ((100, 100, 1, 0.1, 10.0, 0.25, True), 0.1159377975512029),
        ((100, 100, 170, 0.01, 0.002, 0.25, True), 80.39024996703972),
    ],
)
def test_quantlibs_high_precision_engine(terms, want):
    assert american.price(*terms, scheme=EXACT).price[0] == pytest.approx(want, abs=2e-5)


@pytest.mark.parametrize(
    ("group", "bound"), [("american_baw", 0.04), ("american_ju", 0.08), ("american_bjs", 0.04)]
)
def test_the_approximations_are_near(group, bound):
    found = [case for case in cases(group) if case["sigma"] < 5]  # flat boundaries fail beyond
    assert np.abs(priced(found, EXACT).price - column(found, "price")).max() <= bound


def test_exercise_is_best_below_the_boundary_only():
    for case in cases("american_qdplus_boundary"):
        near = case["boundary"] * np.array([0.99, 1.01])  # QD+ is within 0.3 % of it
        ours = american.price(
            near, case["K"], case["tau"], case["r"], case["q"], case["sigma"], False, scheme=EXACT
        )
        assert ours.reason.tolist() == [Reason.EXERCISE, Reason.OK]
        assert ours.price[0] == pytest.approx(case["K"] - near[0], abs=1e-12)


def test_cash_dividends_by_a_matched_carry():
    off = {}
    for case in cases("american_discrete_dividend"):
        when = [day / 365 for day, _ in case["dividends"]]
        cash = [amount for _, amount in case["dividends"]]
        carry = american.matched_carry(case["S"], case["T"], case["r"], when, cash)
        call = case["right"] == "call"
        ours = american.implied_volatility(
            case["price"], case["S"], case["K"], case["T"], case["r"], carry, call, ex=when[0]
        )
        inside = call and case["K"] < case["S"]
        assert ours.reason[0] == (Reason.DIVIDEND if inside else Reason.OK)
        outside = case["K"] >= case["S"] if call else case["K"] <= case["S"]
        if outside:
            off[call, case["K"], case["days"]] = abs(ours.sigma[0] - case["sigma"])
    assert len(off) == 16
    assert max(off.values()) <= 0.006


def test_a_matched_carry_gives_the_forward():
    carry = american.matched_carry(50.0, [0.1, 0.5, 1.0], 0.05, [0.2, 0.7], [1.0, 2.0])
    held = 50.0 - np.cumsum([0.0, math.exp(-0.05 * 0.2), 2.0 * math.exp(-0.05 * 0.7)])
    np.testing.assert_allclose(50.0 * np.exp(-carry * [0.1, 0.5, 1.0]), held, rtol=1e-14)
    assert np.isnan(american.matched_carry(1.0, 1.0, 0.0, 0.5, 2.0)[0])


YEARS = some.floats(2 / 365, 3.0)
RATE = some.floats(0.0, 0.12)
SIGMA = some.floats(0.08, 1.5)
MONEYNESS = some.floats(-0.7, 0.7)


@given(YEARS, some.floats(0.001, 1.0), some.floats(-0.2, 1.0), SIGMA)
@settings(max_examples=40, deadline=None)
def test_at_its_boundary_a_put_is_worth_what_exercise_pays(years, rate, carry, sigma):
    at = [np.array([value]) for value in (years, rate, carry, sigma)]
    edge = american._edges(*at, EXACT)
    put = american._Puts(edge[:, -1], *at[:3])
    held = put.european(at[3]) + american._premium(put, at[3], edge, EXACT)
    assert held[0] == pytest.approx(put.intrinsic()[0], abs=1e-6)


@given(MONEYNESS, YEARS, RATE, RATE, SIGMA)
@settings(max_examples=60, deadline=None)
def test_bounds_parity_symmetry_scale_and_monotonicity(k, years, rate, carry, sigma):
    spot, strike = 100.0, 100.0 * math.exp(k)
    both, one = np.array([True, False]), np.array([spot, spot])
    ours = american.price(one, strike, years, rate, carry, sigma, both)
    plain = black_scholes.price(one, strike, years, rate, carry, sigma, both)
    call, put = ours.price
    near = 5e-3
    assert (ours.price >= plain.price - near).all()
    assert (ours.price >= np.maximum([spot - strike, strike - spot], 0.0) - 1e-12).all()
    assert call - put <= spot - strike * math.exp(-rate * years) + near
    assert call - put >= spot * math.exp(-carry * years) - strike - near
    turned = american.price([strike, strike], spot, years, carry, rate, sigma, ~both)
    np.testing.assert_allclose(turned.price, ours.price, atol=1e-9)
    large = american.price(one * 7, strike * 7, years, rate, carry, sigma, both)
    np.testing.assert_allclose(large.price, ours.price * 7, atol=1e-9)
    for ladder in ((years, sigma * np.linspace(0.5, 1.5, 6)), (years * np.arange(1, 6) / 5, sigma)):
        for right in (True, False):
            steps = american.price(spot, strike, ladder[0], rate, carry, ladder[1], right)
            assert (np.diff(steps.price) >= -near).all()


@given(MONEYNESS, YEARS, RATE, RATE, SIGMA, some.booleans())
@settings(max_examples=40, deadline=None)
def test_a_price_gives_back_its_volatility(k, years, rate, carry, sigma, call):
    terms = (100.0, 100.0 * math.exp(k), years, rate, carry)
    at = american.price(*terms, sigma, call, scheme=EXACT)
    ours = american.implied_volatility(at.price, *terms, call, scheme=EXACT)
    if at.reason[0] == Reason.EXERCISE:
        assert ours.reason[0] == Reason.EXERCISE
        return
    if ours.reason[0] != Reason.OK:
        side = 1.0 if call else -1.0
        ahead = terms[0] * math.exp(-carry * years) - terms[1] * math.exp(-rate * years)
        over = at.price[0] - max(side * (terms[0] - terms[1]), side * ahead, 0.0)
        assert over <= 1e-6
        return
    again = american.price(*terms, ours.sigma, call, scheme=EXACT)
    assert again.price[0] == pytest.approx(at.price[0], abs=2e-5)
    chain = american.implied_volatility(at.price, *terms, call)
    vega = american.greeks(*terms, sigma, call).vega[0]
    if chain.reason[0] == Reason.OK and vega > 0.5:
        assert abs(chain.sigma[0] - sigma) <= 2e-2 / vega + 1e-6


def chain():
    """A stock's chain: strikes by expiries by rights, on a smile, its prices by the judge."""
    k, years, call = (
        axis.ravel()
        for axis in np.meshgrid(
            np.linspace(-0.4, 0.4, 17), np.array([7, 30, 91, 365]) / 365, [1.0, 0.0]
        )
    )
    strike = 250.0 * np.exp(k * np.sqrt(years + 0.05))
    sigma = 0.3 - 0.2 * k + 0.3 * k * k
    terms = (np.full_like(k, 250.0), strike, years, np.full_like(k, 0.045), np.full_like(k, 0.012))
    return terms, sigma, call


def test_a_whole_chain():
    terms, sigma, call = chain()
    cost = american.price(*terms, sigma, call, scheme=EXACT).price
    ours = american.implied_volatility(cost, *terms, call, tick=0.01)
    inside = np.where(call > 0, terms[0] - terms[1], terms[1] - terms[0])
    flat = cost - np.maximum(inside, 0.0) <= 0.005
    assert np.isin(ours.reason[flat], (Reason.FLAT, Reason.EXERCISE)).all()
    assert (ours.reason[~flat] == Reason.OK).all()
    off = 100.0 * np.abs(ours.sigma - sigma)
    vega = american.greeks(*terms, sigma, call).vega / 250.0
    assert off[~flat & (inside <= 0)].max() <= 0.005
    assert off[~flat & (inside > 0) & (vega > 0.002)].max() <= 0.05


def test_one_absurd_quote_does_not_move_its_neighbours():
    terms, sigma, call = chain()
    cost = american.price(*terms, sigma, call, scheme=EXACT).price
    alone = american.implied_volatility(cost, *terms, call, tick=0.01)
    for absurd in (math.nan, math.inf, -999.0, 0.0, 1e-8, 240.0, 1e9):
        spoiled = cost.copy()
        spoiled[5] = absurd
        ours = american.implied_volatility(spoiled, *terms, call, tick=0.01)
        others = np.arange(len(cost)) != 5
        assert (ours.reason[others] == alone.reason[others]).all()
        moved = np.abs(ours.sigma - alone.sigma)[others]
        far = cost[others] > 0.1
        assert np.nanmax(moved[far]) <= 2e-4, absurd


@given(some.lists(some.tuples(*[ANY] * 7), max_size=5))
@settings(max_examples=60, deadline=None)
def test_nonsense_never_raises(rows):
    good = (5.0, 100.0, 105.0, 0.25, 0.04, 0.01, 1.0)
    table = np.array([good, *rows, good], dtype=float).T
    alone = american.implied_volatility(*good)
    ours = american.implied_volatility(*table)
    np.testing.assert_allclose(ours.sigma[[0, -1]], alone.sigma[0], atol=1e-6)
    answered = np.isin(ours.reason, (Reason.OK, Reason.EUROPEAN, Reason.DIVIDEND))
    assert (np.isfinite(ours.sigma) == answered).all()
    sigma, *terms, call = table
    slopes = american.greeks(*terms, np.abs(sigma), call)
    worth = american.price(*terms, np.abs(sigma), call)
    for value in (worth.price, slopes.price, slopes.delta, slopes.gamma, slopes.theta, slopes.rho):
        assert np.isfinite(value[[0, -1]]).all()
    refused = np.isin(worth.reason, (Reason.INPUT, Reason.EXPIRED))
    assert (np.isnan(worth.price) == refused).all()


@pytest.mark.parametrize("call", [True, False])
@pytest.mark.parametrize("scheme", [CHAIN, EXACT])
@pytest.mark.parametrize(
    "terms",
    [
        (100, 95, 0.7, 0.05, 0.02, 0.3),
        (100, 112, 0.3, 0.05, 0.08, 0.4),
        (100, 90, 1, 0.04, 0, 0.25),
    ],
)
def test_greeks_are_the_slopes_of_the_price(terms, scheme, call):
    terms = np.array(terms, dtype=float)
    ours = american.greeks(*terms, call, scheme=scheme)

    def value(place, step):
        moved = terms.copy()
        moved[place] += step
        return american.price(*moved, call, scheme=EXACT).price[0]

    for place, name, sign in ((0, "delta", 1), (5, "vega", 1), (2, "theta", -1), (3, "rho", 1)):
        slope = sign * (value(place, 1e-4) - value(place, -1e-4)) / 2e-4
        assert getattr(ours, name)[0] == pytest.approx(slope, rel=5e-4, abs=1e-4), name
    bend = (value(0, 0.05) + value(0, -0.05) - 2.0 * value(0, 0.0)) / 0.05**2
    assert ours.gamma[0] == pytest.approx(bend, rel=2e-3)


@pytest.mark.parametrize("call", [True, False])
def test_exercised_now_a_contract_is_the_stock(call):
    spot, strike = (200.0, 100.0) if call else (50.0, 100.0)
    terms = (spot, strike, 0.5, 0.05, 0.06)
    ours = (
        american.greeks(*terms, 0.2, call)
        if call
        else american.greeks(50, 100, 0.5, 0.05, 0, 0.2, call)
    )
    assert ours.reason[0] == Reason.EXERCISE
    assert ours.price[0] == abs(spot - strike)
    assert ours.delta[0] == (1.0 if call else -1.0)
    assert ours.gamma[0] == ours.vega[0] == ours.theta[0] == ours.rho[0] == 0.0
    found = american.implied_volatility(abs(spot - strike), *terms, call)
    assert found.reason[0] == Reason.EXERCISE
    assert np.isnan(found.sigma[0])


def test_where_exercise_early_never_pays_the_price_is_european():
    for terms in (
        (100, 105, 0.5, 0.05, 0.0, 0.3, True),
        (100, 105, 0.5, 0.05, -0.03, 0.3, True),
        (100, 105, 0.5, -0.01, 0.0, 0.3, False),
        (100, 105, 0.5, 0.0, 0.02, 0.3, False),
    ):
        ours = american.price(*terms)
        assert ours.reason[0] == Reason.OK
        assert ours.price[0] == pytest.approx(black_scholes.price(*terms).price[0], abs=1e-12)


def test_two_boundaries_are_told():
    for terms in (
        (100, 105, 0.5, -0.01, -0.03, 0.3, False),
        (105, 100, 0.5, -0.03, -0.01, 0.3, True),
    ):
        ours = american.price(*terms)
        assert ours.reason[0] == Reason.EUROPEAN
        assert ours.price[0] >= black_scholes.price(*terms).price[0] - 1e-12
        found = american.implied_volatility(ours.price, *terms[:5], terms[6])
        assert found.reason[0] == Reason.EUROPEAN
        assert found.sigma[0] == pytest.approx(0.3, abs=1e-9)


def test_a_price_below_exercise_is_told():
    found = american.implied_volatility(
        [9.0, 10.0, 10.01], 90.0, 100.0, 0.1, 0.05, 0.0, False, tick=0.02
    )
    assert found.reason.tolist() == [Reason.BELOW, Reason.EXERCISE, Reason.EXERCISE]
