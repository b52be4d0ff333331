"""Positions: what they pay, how likely, what is held for them; by published case and by property."""

import json
import math
import os
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from actors.domain.families import LEGS, Family, build, named
from actors.domain.margin import margin
from actors.domain.strategies import (
    Leg,
    Lognormal,
    Right,
    least,
    odds,
    payoff,
    probability,
)

FIXTURES = (
    Path(os.environ.get("VOLARIS_FIXTURES") or Path(__file__).parents[3] / "shared" / "fixtures")
    / "options"
)
ANY_TIME = settings(deadline=None)  # a busy machine is no failure
recorded = pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"no published cases in {FIXTURES}")

NEAR, FAR = date(2026, 12, 18), date(2027, 1, 15)
C, P, S = Right.CALL, Right.PUT, Right.STOCK


# Published cases (optionlab): it counts a profit from one cent on, on a grid of cents


def cases(name):
    told = json.loads((FIXTURES / "strategies.json").read_text())["cases"]
    return next(case for case in told if case["test"] == f"test_{name}")


def legs_of(case):
    return [
        Leg(
            Right(leg["type"]),
            (1 if leg["action"] == "buy" else -1)
            * leg["n"]
            / (1 if leg["type"] == "stock" else 100),
            leg.get("prev_pos", leg.get("premium", case["inputs"]["stock_price"])),
            leg.get("strike", 0.0),
        )
        for leg in case["inputs"]["strategy"]
    ]


def law_of(case, days):
    told, years = case["inputs"], days / 252
    spot = told["stock_price"] * math.exp(told["interest_rate"] * years)
    return Lognormal(spot, told["volatility"], years)


@recorded
@pytest.mark.parametrize(
    ("name", "days"),
    [
        ("covered_call", 24),
        ("covered_call_w_days_to_target", 24),
        ("covered_call_w_prev_position", 24),
        ("100_perc_itm", 24),
        ("3_legs", 24),
        ("naked_call", 19),
    ],
)
def test_positions_are_those_published(name, days):
    case = cases(name)
    expected, law, legs = case["expected"], law_of(case, days), legs_of(case)
    found, told = payoff(legs), case["inputs"]
    assert [-leg.cost for leg in legs] == pytest.approx(expected["per_leg_cost"])
    spots = np.arange(told["min_stock"], told["max_stock"] + 0.005, 0.01)
    profits = [found.at(spot) for spot in spots]
    # Their grid may end a cent beyond its own bound.
    assert min(profits) == pytest.approx(expected["minimum_return_in_the_domain"], abs=1.0001)
    assert max(profits) == pytest.approx(expected["maximum_return_in_the_domain"], abs=1.0001)

    # The law is theirs to 1e-9, asked about their ranges; our ranges are theirs but for their grid.
    theirs = [tuple(map(float, span)) for span in expected["profit_ranges"]]
    assert probability(theirs, law) == pytest.approx(expected["probability_of_profit"], abs=1e-9)
    for ours, span in zip(found.profitable, theirs, strict=True):
        assert ours == pytest.approx(span, abs=0.0101)
    # Their means are those of the ranges from one cent of profit on: a cent of the underlying, a dollar here.
    means = odds(found, law)
    for name, mean in (
        ("profit_if_profitable", means.if_profitable),
        ("loss_if_unprofitable", means.if_losing),
    ):
        if (published := case["pypi_1_9_1"].get(f"expected_{name}")) is not None:
            assert mean.value == pytest.approx(published, abs=0.01)
    for at, ranges, chance in (
        ("profit_target", found.at_least, "probability_of_profit_target"),
        (
            "loss_limit",
            lambda loss: payoff([*_mirror(legs)]).at_least(-loss),
            "probability_of_loss_limit",
        ),
    ):
        if at in told:
            assert probability(ranges(told[at]), law) == pytest.approx(expected[chance], abs=1e-9)


def _mirror(legs):
    for leg in legs:
        yield Leg(leg.right, -leg.quantity, leg.price, leg.strike, leg.expiration)


# By property

quantity = st.sampled_from([-3, -2, -1, 1, 2, 3])
option = st.builds(
    Leg,
    st.sampled_from([C, P]),
    quantity,
    st.integers(0, 4000).map(lambda cents: cents / 100),
    st.integers(10, 400).map(lambda half: half / 2),
)
stock = st.builds(
    lambda lots, price: Leg(S, lots * 100, price), quantity, st.integers(1, 200).map(float)
)
positions = st.lists(option | stock, min_size=1, max_size=6)
laws = st.builds(Lognormal, st.floats(5, 300), st.floats(0.05, 2), st.floats(0.003, 2))
spots = st.floats(0, 1000)


@ANY_TIME
@given(positions, spots)
def test_the_payoff_is_the_sum_of_its_legs(legs, spot):
    expected = math.fsum(leg.intrinsic(spot) - leg.cost for leg in legs)
    assert payoff(legs).at(spot) == pytest.approx(expected, abs=1e-6)
    assert payoff(legs).at(spot) == pytest.approx(
        math.fsum(payoff([leg]).at(spot) for leg in legs), abs=1e-6
    )


@ANY_TIME
@given(positions, st.floats(1e-3, 1000))
def test_breakevens_are_roots_and_bound_where_there_is_profit_and_loss(legs, spot):
    found = payoff(legs)
    for root in found.breakevens:
        assert found.at(root) == pytest.approx(0, abs=1e-6)
    inside = [low < spot < high for low, high in found.profitable]
    lost = [low < spot < high for low, high in found.losing]
    profit = found.at(spot)
    if abs(profit) > 1e-5:
        assert any(inside) == (profit > 0)
        assert any(lost) == (profit < 0)
    assert sum(inside) + sum(lost) <= 1
    for ranges in (found.profitable, found.losing):
        flat = [end for span in ranges for end in span]
        assert flat == sorted(flat)


@ANY_TIME
@given(positions, spots, st.integers(1, 50))
def test_profit_and_loss_never_pass_their_extremes_and_reach_them(legs, spot, lots):
    found = payoff(legs)
    assert -found.max_loss - 1e-6 <= found.at(spot) <= max(found.max_profit, 0) + 1e-6
    ends = [found.at(knot) for knot in found.knots]
    far = found.at(1e9)
    assert math.isinf(found.max_profit) == (far > max(ends) + 1)
    assert math.isinf(found.max_loss) == (far < min(ends) - 1)
    many = payoff(Leg(leg.right, leg.quantity * lots, leg.price, leg.strike) for leg in legs)
    assert many.max_loss == pytest.approx(found.max_loss * lots)
    assert many.max_profit == pytest.approx(found.max_profit * lots, abs=1e-6)
    assert many.breakevens == pytest.approx(found.breakevens, abs=1e-9)


@ANY_TIME
@given(positions, laws, st.floats(0.1, 20))
def test_probabilities_are_such_and_do_not_depend_on_the_currency(legs, law, scale):
    found = odds(payoff(legs), law)
    assert 0 <= found.profit <= 1
    loss = probability(payoff(legs).losing, law)
    assert found.profit + loss <= 1 + 1e-12
    size = sum(abs(leg.shares) * (leg.price + leg.strike + law.forward) for leg in legs)
    assert found.if_profitable.value is None or found.if_profitable.value >= -1e-6 * size
    assert found.if_losing.value is None or found.if_losing.value <= 1e-6 * size
    dear = [Leg(leg.right, leg.quantity, leg.price * scale, leg.strike * scale) for leg in legs]
    again = odds(payoff(dear), Lognormal(law.forward * scale, law.volatility, law.years))
    assert again.profit == pytest.approx(found.profit, abs=1e-7)
    assert again.expected == pytest.approx(found.expected * scale, abs=1e-9 * size * scale)


@ANY_TIME
@given(positions, laws)
def test_the_expected_value_is_that_of_blacks_formula(legs, law):
    width = law.volatility * math.sqrt(law.years)

    def normal(x):
        return math.erfc(-x / math.sqrt(2)) / 2

    def value(leg):
        if leg.right is S:
            return law.forward
        d = math.log(law.forward / leg.strike) / width + width / 2
        call = law.forward * normal(d) - leg.strike * normal(d - width)
        return call if leg.right is C else call - law.forward + leg.strike

    expected = math.fsum(leg.shares * value(leg) - leg.cost for leg in legs)
    size = sum(abs(leg.shares) * (leg.price + leg.strike + law.forward) for leg in legs)
    assert odds(payoff(legs), law).expected == pytest.approx(expected, abs=1e-10 * size)


def test_the_odds_are_those_of_a_simulation():
    legs = build(Family.IRON_CONDOR, [90, 95, 105, 110], [NEAR], [0.5, 1.2, 1.1, 0.4])
    law = Lognormal(100, 0.3, 0.1)
    normal = np.random.default_rng(7).standard_normal(400_000)
    ends = 100 * np.exp(0.3 * math.sqrt(0.1) * normal - 0.3**2 * 0.1 / 2)
    found = payoff(legs)
    profits = np.interp(ends, [*found.knots, 1e4], [*found.profits, found.profits[-1]])
    told = odds(found, law)
    assert told.profit == pytest.approx(np.mean(profits > 0), abs=4e-3)
    assert told.expected == pytest.approx(np.mean(profits), abs=1.5)
    assert told.if_profitable.value == pytest.approx(profits[profits > 0].mean(), abs=1.5)
    assert told.if_losing.value == pytest.approx(profits[profits < 0].mean(), abs=1.5)


@ANY_TIME
@given(laws, st.floats(5, 300), st.floats(1, 600))
def test_touching_is_at_least_as_likely_as_ending_beyond(law, spot, price):
    beyond = law.below(price) if price < spot else 1 - law.below(price)
    assert beyond - 1e-9 <= law.touch(price, spot) <= 1
    assert law.touch(spot, spot) == pytest.approx(1)
    further = price * (1.1 if price > spot else 0.9)
    assert law.touch(further, spot) <= law.touch(price, spot) + 1e-9


@pytest.mark.parametrize("price", [85.0, 97.0, 104.0, 125.0])
@pytest.mark.parametrize("forward", [94.0, 100.0, 106.0])
def test_the_probability_of_touch_is_that_of_a_simulation(price, forward):
    # The end is drawn, and the bridge to it reaches the barrier with a probability known exactly.
    law, rng = Lognormal(forward, 0.4, 0.25), np.random.default_rng(7)
    variance, way = 0.4**2 * 0.25, math.log(price / 100)
    drift = math.log(forward / 100) - variance / 2
    ends = drift + math.sqrt(variance) * rng.standard_normal(200_000)
    bridge = np.exp(-2 * way * (way - ends) / variance)
    reached = np.where((way - ends) * way <= 0, 1.0, np.minimum(bridge, 1.0))
    assert law.touch(price, 100) == pytest.approx(reached.mean(), abs=4e-3)


# By example


def test_a_touch_of_nothing_and_a_stretch_of_nothing():
    straddle = payoff([Leg(C, 1, 0.0, 100), Leg(P, 1, 0.0, 100)])
    assert straddle.breakevens == (100,)
    assert straddle.profitable == ((0, 100), (100, math.inf))
    assert straddle.max_loss == 0
    free = payoff([Leg(C, 1, 0.0, 100)])
    assert (free.breakevens, free.profitable, free.losing) == ((100,), ((100, math.inf),), ())
    capped = payoff(build(Family.DEBIT_CALL_SPREAD, [100, 110], [NEAR], [6, 2]))
    assert capped.at_least(600) == ((110, math.inf),)
    assert capped.at_least(600.01) == ()
    sure = payoff([Leg(C, 1, 1.0, 100), Leg(C, -1, 2.0, 100)])
    assert (sure.profitable, sure.breakevens) == (((0, math.inf),), ())
    assert odds(sure, Lognormal(100, 0.3, 0.1)).if_losing.why == "no loss is to be expected"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ((C, 0, 1.0, 100), "quantity"),
        ((C, math.nan, 1.0, 100), "quantity"),
        ((C, 1, -1.0, 100), "price"),
        ((P, 1, math.nan, 100), "price"),
        ((P, 1, 1.0, 0), "strike"),
        ((S, 100, 1.0, 50), "strike"),
    ],
)
def test_a_leg_that_makes_no_sense_is_named(fields, why):
    with pytest.raises(ValueError, match=why):
        Leg(*fields)


def test_a_law_and_a_position_that_make_no_sense_are_named():
    with pytest.raises(ValueError, match="years"):
        Lognormal(100, 0.3, 0)
    with pytest.raises(ValueError, match="a leg"):
        payoff([])
    with pytest.raises(ValueError, match="different days"):
        payoff(build(Family.CALL_CALENDAR, [100], [NEAR, FAR], [3, 5]))


def test_a_calendar_loses_its_debit_at_most_and_a_short_one_has_no_bound():
    legs = build(Family.CALL_CALENDAR, [100], [NEAR, FAR], [3, 5])
    assert least(legs).max_loss == 200
    diagonal = build(Family.CALL_DIAGONAL, [90, 100], [NEAR, FAR], [14, 3])
    assert least(diagonal).max_loss == pytest.approx(1100)
    with pytest.raises(ValueError, match="no bound"):
        least(_mirror(legs))


# Families and margin

PRICES = [4.0, 3.0, 2.0, 1.0]
FAMILY = {  # strikes, prices, then: max profit, max loss, breakevens, Reg-T requirement, initial at spot 100
    Family.LONG_CALL: ([100], [4], math.inf, 400, (104,), 0, 400),
    Family.LONG_PUT: ([100], [4], 9600, 400, (96,), 0, 400),
    Family.CASH_SECURED_PUT: ([95], [2], 200, 9300, (93,), 9500, 9300),
    Family.COVERED_CALL: ([105], [100, 2], 700, 9800, (98,), 5000, 4800),
    Family.DEBIT_CALL_SPREAD: ([100, 105], [4, 2], 300, 200, (102,), 0, 200),
    Family.CREDIT_CALL_SPREAD: ([100, 105], [4, 2], 200, 300, (102,), 500, 300),
    Family.DEBIT_PUT_SPREAD: ([95, 100], [2, 4], 300, 200, (98,), 0, 200),
    Family.CREDIT_PUT_SPREAD: ([95, 100], [2, 4], 200, 300, (98,), 500, 300),
    Family.LONG_STRADDLE: ([100], [4, 4], math.inf, 800, (92, 108), 0, 800),
    # 20 % of the stock and both premiums, of which both are received
    Family.SHORT_STRADDLE: ([100], [4, 4], 800, math.inf, (92, 108), 2800, 2000),
    Family.LONG_STRANGLE: ([95, 105], [2, 2], math.inf, 400, (91, 109), 0, 400),
    Family.SHORT_STRANGLE: ([95, 105], [2, 2], 400, math.inf, (91, 109), 1900, 1500),
    Family.IRON_CONDOR: ([90, 95, 105, 110], [1, 2, 2, 1], 200, 300, (93, 107), 500, 300),
    Family.IRON_BUTTERFLY: ([95, 100, 105], [2, 4, 4, 2], 400, 100, (96, 104), 500, 100),
}
LATER = {
    Family.CALL_CALENDAR: ([100], [3, 5], 200),
    Family.PUT_CALENDAR: ([100], [3, 5], 200),
    Family.CALL_DIAGONAL: ([95, 105], [8, 2], 600),
    Family.PUT_DIAGONAL: ([95, 105], [2, 8], 600),
}


def test_every_family_is_judged():
    assert set(FAMILY) | set(LATER) == set(Family) == set(LEGS)


@pytest.mark.parametrize("family", FAMILY)
def test_a_familys_figures(family):
    strikes, prices, profit, loss, breakevens, requirement, initial = FAMILY[family]
    legs = build(family, strikes, [NEAR], prices)
    found = payoff(legs)
    assert found.max_profit == pytest.approx(profit)
    assert found.max_loss == pytest.approx(loss)
    assert found.breakevens == pytest.approx(breakevens)
    held = margin(legs, 100, cash_secured=family is Family.CASH_SECURED_PUT)
    assert (held.requirement, held.initial) == pytest.approx((requirement, initial))
    assert named(reversed(legs)) is family


@pytest.mark.parametrize("family", LATER)
def test_a_later_legs_family_holds_its_debit(family):
    strikes, prices, debit = LATER[family]
    legs = build(family, strikes, [NEAR, FAR], prices)
    held = margin(legs, 100)
    assert (held.requirement, held.initial) == (0, debit)
    assert least(legs).max_loss == pytest.approx(debit)
    assert named(reversed(legs)) is family


def test_naked_options_are_held_by_the_larger_of_two_rules():
    # Cboe's manual: premium + 20 % of the stock less what it is out of the money, at least 10 %
    assert margin([Leg(C, -1, 2.0, 105)], 100).requirement == pytest.approx(200 + 1500)
    assert margin([Leg(C, -1, 0.1, 130)], 100).requirement == pytest.approx(10 + 1000)
    assert margin([Leg(P, -1, 0.1, 70)], 100).requirement == pytest.approx(10 + 700)
    assert margin([Leg(P, -2, 12.0, 110)], 100).requirement == pytest.approx(2 * (1200 + 2000))
    with pytest.raises(ValueError, match="spot"):
        margin([Leg(C, -1, 2.0, 105)], math.nan)


def test_cover_is_used_once_and_must_live_long_enough():
    short = Leg(C, -2, 2.0, 105, NEAR)
    one_covered = margin([short, Leg(S, 100, 100.0)], 100)
    assert one_covered.requirement == pytest.approx(5000 + 1700)
    early = margin([Leg(C, -1, 2.0, 105, FAR), Leg(C, 1, 1.0, 110, NEAR)], 100)
    assert early.requirement == pytest.approx(1700)
    late = margin([Leg(C, -1, 2.0, 105, NEAR), Leg(C, 1, 1.0, 110, FAR)], 100)
    assert late.requirement == pytest.approx(500)
    far = margin([Leg(C, -1, 2.0, 105, NEAR), Leg(C, 1, 0.01, 200, NEAR)], 100)
    assert far.requirement == pytest.approx(1700)  # less than the spread's 9,500


@ANY_TIME
@given(positions, st.floats(1, 500), st.integers(2, 9))
def test_margin_is_never_negative_and_grows_with_the_size(legs, spot, lots):
    one = margin(legs, spot)
    assert one.requirement >= 0
    many = [Leg(leg.right, leg.quantity * lots, leg.price, leg.strike) for leg in legs]
    assume(all(leg.quantity > 0 for leg in legs if leg.right is S))
    assert margin(many, spot).requirement == pytest.approx(one.requirement * lots)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"strikes": [100.0]}, "strikes of the iron condor"),
        ({"strikes": [95, 90, 105, 110]}, "ascending"),
        ({"expirations": [NEAR, FAR]}, "expirations"),
        ({"prices": [1.0]}, "prices"),
        ({"quantity": 0}, "quantity"),
    ],
)
def test_what_builds_no_family_is_named(change, why):
    fields = {"strikes": [90, 95, 105, 110], "expirations": [NEAR], "prices": PRICES} | change
    with pytest.raises(ValueError, match=why):
        build(Family.IRON_CONDOR, **fields)


def test_what_is_no_family_has_no_name():
    assert named([Leg(C, 1, 1.0, 100), Leg(C, -2, 1.0, 105)]) is None
    assert named([Leg(S, 100, 100.0)]) is None
    assert named([]) is None
