"""Volatility metrics: against published numbers, by property, and on chains that were spoilt."""

import dataclasses
import json
import math
import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.domain.chains import Chain, occ
from actors.domain.expiries import expiries, years_to
from actors.domain.flow import dealer_gamma, max_pain, put_call, unusual
from actors.domain.metric import Metric
from actors.domain.model_free import model_free
from actors.domain.realized import realized
from actors.domain.smile import expected_move, forward, implied_yield, skew, smile
from actors.domain.volatility import (
    Point,
    Shape,
    constant_maturity,
    crush,
    standing,
    term,
    variance_risk_premium,
)
from sandbox.market import Market
from sandbox.options import RATE as SANDBOX_RATE
from sandbox.options import Book, Options

FIXTURES = (
    Path(os.environ.get("VOLARIS_FIXTURES") or Path(__file__).parents[3] / "shared" / "fixtures")
    / "options"
)
ANY_TIME = settings(deadline=None)  # a busy machine is no failure
recorded = pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"no published cases in {FIXTURES}")


def published(name):
    return json.loads((FIXTURES / f"{name}.json").read_text())


# Realised volatility

NAMES = {  # TTR's name, ours, and how its n maps onto our window
    "close": ("close_close", -1),
    "parkinson": ("parkinson", 0),
    "garman.klass": ("garman_klass", 0),
    "gk.yz": ("garman_klass_yang_zhang", 0),
    "rogers.satchell": ("rogers_satchell", 0),
    "yang.zhang": ("yang_zhang", 0),
}


@recorded
@pytest.mark.parametrize("n", [10, 20, 30])
@pytest.mark.parametrize("name", NAMES)
def test_realised_volatility_is_that_of_ttr(name, n):
    told = published("realized_vol")
    ours, less = NAMES[name]
    bars = np.array(told["ohlc"]).T
    for end, expected in enumerate(told["r_ttr"][f"{name}_{n}"], 1):
        found = getattr(realized(*bars[:, :end], window=n + less), ours)
        if expected is None:
            assert found.value is None
            assert found.why.startswith("not enough")
        else:
            assert found.value == pytest.approx(expected, abs=told["tol"])


@recorded
@pytest.mark.parametrize(
    ("name", "ours", "window"),
    [
        ("allGK", "garman_klass", 10),
        ("allParkinson", "parkinson", 10),
        ("allRS", "rogers_satchell", 10),
    ],
)
def test_realised_volatility_of_a_year_of_260_days_is_as_published(name, ours, window):
    # TTR's own "allClose" is left out: it took each return from a moving mean of its own day.
    told = published("realized_vol")
    bars = np.array(told["ohlc"]).T
    for end, expected in enumerate(told["published"][name], 1):
        if expected is not None:
            found = getattr(realized(*bars[:, :end], window=window, days=260), ours)
            assert found.value == pytest.approx(expected, abs=told["tol"])


def test_a_bad_bar_takes_only_the_estimators_that_read_it():
    close = np.exp(np.cumsum(np.tile([0.01, -0.01], 15)))
    high, low, opens = close * 1.01, close * 0.99, close.copy()
    high[20] = math.nan
    found = realized(opens, high, low, close, 20)
    assert found.close_close.value == pytest.approx(
        0.02 / 2 * math.sqrt(252) * math.sqrt(20 / 19) * 1.0, rel=0.02
    )
    assert found.parkinson.value is None
    assert found.yang_zhang.why == "a price in the window is missing or not positive"
    high[20] = close[20] * 0.5
    assert realized(opens, high, low, close, 20).parkinson.why == (
        "a bar in the window contradicts itself"
    )
    assert realized(opens, high, low, close, 9).parkinson.value is not None


def test_a_window_of_one_and_uneven_columns_are_named():
    with pytest.raises(ValueError, match="window"):
        realized([1.0], [1.0], [1.0], [1.0], 1)
    with pytest.raises(ValueError, match="one length"):
        realized([1.0], [1.0, 2.0], [1.0], [1.0], 2)


@ANY_TIME
@given(
    st.lists(st.floats(-0.2, 0.2), min_size=12, max_size=40),
    st.floats(0.01, 1000),
    st.integers(2, 30),
)
def test_realised_volatility_does_not_depend_on_the_currency(returns, scale, window):
    close = 50 * np.exp(np.cumsum(returns))
    opens = np.roll(close, 1)
    high, low = np.maximum(opens, close) * 1.01, np.minimum(opens, close) * 0.99
    one = realized(opens, high, low, close, window)
    other = realized(opens * scale, high * scale, low * scale, close * scale, window)
    for name, _ in NAMES.values():
        a, b = getattr(one, name), getattr(other, name)
        assert (a.value is None) == (b.value is None)
        assert a.value is None or a.value == pytest.approx(b.value, rel=1e-6, abs=1e-9)
        assert a.value is None or a.value >= 0


# Model-free variance


@recorded
@pytest.mark.parametrize("which", [0, 1])
def test_model_free_variance_is_that_of_cboes_worked_examples(which):
    told = published("vix")
    example = told["examples"][which]
    found = {}
    for month in ("near", "next"):
        expected = example[month]
        columns = np.array(told["quotes"][month]).T
        got = model_free(*columns, rate=expected["R"], years=expected["T"])
        found[month] = got
        assert got.forward == pytest.approx(expected["F"], abs=example["tol"]["F"])
        assert got.center == expected["K0"]
        assert got.variance == pytest.approx(expected["variance"], abs=example["tol"]["variance"])
        assert 0.98 < got.coverage <= 1
        if "sum" in expected:
            assert got.contributions.sum() == pytest.approx(
                expected["sum"], abs=example["tol"]["sum"]
            )
            assert (got.strikes[0], got.strikes[-1]) == (
                expected["lowest_put"],
                expected["highest_call"],
            )
    for row in example.get("contributions", []):
        got = found[row["term"]]
        at = int(np.flatnonzero(got.strikes == row["K"])[0])
        assert got.prices[at] == pytest.approx(row["mid"], abs=1e-9)
        assert got.contributions[at] == pytest.approx(row["contribution"], abs=6e-11)


@recorded
def test_the_worked_examples_give_the_published_vix():
    told = published("vix")
    for example in told["examples"]:
        points = [
            Point(example[t]["T"], math.sqrt(example[t]["variance"])) for t in ("near", "next")
        ]
        vix = 100 * constant_maturity(points, 30).value
        assert vix == pytest.approx(example["vix"], abs=example["tol"]["vix"])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"years": 0.0}, "it has expired"),
        ({"call_bid": [math.nan] * 5}, "no strike has a call and a put quoted"),
        ({"put_bid": [15.0, 20, 25, 30, 35]}, "no strike lies at or below the forward"),
        ({"put_bid": [0.0, 0, 2, 5, 9]}, "no out-of-the-money option is bid on one side"),
    ],
)
def test_where_model_free_variance_has_no_value_it_says_why(change, why):
    quotes = {
        "strike": [90.0, 95, 100, 105, 110],
        "call_bid": [10.0, 5.5, 2, 0.6, 0.1],
        "put_bid": [0.1, 0.6, 2, 5.5, 10],
        "years": 0.1,
    } | change
    ask = {f"{side}_ask": np.array(quotes[f"{side}_bid"]) + 0.02 for side in ("call", "put")}
    assert model_free(**quotes, **ask, rate=0.0).startswith(why)


# A chain whose truth is known

AT = datetime(2026, 11, 24, 17, tzinfo=UTC)
DAYS = [date(2026, 12, 4), date(2026, 12, 18), date(2027, 1, 15), date(2027, 3, 19)]
SPOT, RATE, YIELD = 250.0, 0.045, 0.01
STRIKES = np.arange(150.0, 352.5, 2.5)


def truth(k, years):
    """Return the volatility at k = ln(K/F): skewed, and higher the nearer."""
    return 0.3 + 0.02 / (years + 0.2) - 0.1 * k + 0.4 * k * k


def black(future, strike, width, *, call):
    d = (np.log(future / strike) + width**2 / 2) / width
    n = np.vectorize(lambda x: math.erfc(-x / math.sqrt(2)) / 2)
    value = future * n(d) - strike * n(d - width)
    return value if call else value - future + strike


def chain(days=DAYS, symbol="AAPL", spread=0.02):
    rows = []
    for day in days:
        years = abs(years_to(day, symbol, AT))
        future = SPOT * math.exp((RATE - YIELD) * years)
        sigma = truth(np.log(STRIKES / future), years)
        for call in (True, False):
            mid = math.exp(-RATE * years) * black(
                future, STRIKES, sigma * math.sqrt(years), call=call
            )
            rows += [
                (day, strike, call, max(price - spread / 2, 0), price + spread / 2, iv)
                for strike, price, iv in zip(STRIKES, mid, sigma, strict=True)
            ]
    day, strike, call, bid, ask, iv = map(np.array, zip(*rows, strict=True))
    n = len(rows)
    counts = ("bid_size", "ask_size", "volume", "open_interest")
    rest = {name: np.full(n, 10.0) for name in counts}
    greeks = {name: np.full(n, np.nan) for name in ("delta", "theta", "vega", "rho")}
    return Chain(
        symbol,
        AT,
        "made",
        SPOT,
        np.array([occ(symbol, d, call=bool(c), strike=k) for d, k, c, *_ in rows]),
        day.astype("datetime64[D]"),
        strike,
        call,
        bid,
        ask,
        last=(bid + ask) / 2,
        iv=iv,
        gamma=np.full(n, 0.01),
        quoted_at=np.full(n, np.datetime64("2026-11-24T17:00", "ms")),
        standard=np.full(n, True),
        **rest,
        **greeks,
    )


def measured(chain):
    """Return every metric of a chain by the day it belongs to."""
    found = {}
    for one in expiries(chain, AT):
        future = forward(one, RATE)
        told = {"forward": future, "yield": implied_yield(future, SPOT, RATE, one.years)}
        sides = one.call.bid, one.call.ask, one.put.bid, one.put.ask
        free = model_free(one.strike, *sides, rate=RATE, years=one.years)
        told["free"] = Metric.missing(free) if isinstance(free, str) else Metric.of(free.variance)
        told["pain"] = max_pain(one)
        if future.value is not None:
            shape = smile(one, future.value)
            told["atm"] = shape.atm()
            for group in (skew(shape), expected_move(one, SPOT, future.value, told["atm"])):
                told |= {f.name: getattr(group, f.name) for f in dataclasses.fields(group)}
        found[one.day] = told
    return found


def test_the_metrics_of_a_chain_are_those_it_was_made_from():
    told = measured(chain())
    assert list(told) == DAYS
    for day, found in told.items():
        years = years_to(day, "AAPL", AT)
        assert found["forward"].value == pytest.approx(
            SPOT * math.exp((RATE - YIELD) * years), rel=1e-9
        )
        assert found["yield"].value == pytest.approx(YIELD, abs=1e-7)
        assert found["atm"].value == pytest.approx(truth(0, years), abs=2e-5)
        width = found["atm"].value * math.sqrt(years)
        assert found["one_sd"].value == pytest.approx(SPOT * width)
        # 0.85 straddles are 0.85·√(2/π) = 0.68 sd
        assert found["straddle"].value == pytest.approx(0.68 * SPOT * width, rel=0.03)
        for name, tail in (("call", 0.25), ("put", 0.75)):
            iv = found[name].value
            # that volatility's own strike: delta = N(-k/w + w/2)
            w = iv * math.sqrt(years)
            quantile = -0.6744897501960817 if tail == 0.25 else 0.6744897501960817
            assert iv == pytest.approx(truth(w * (w / 2 - quantile), years), abs=2e-4)
        assert found["risk_reversal"].value == pytest.approx(
            found["call"].value - found["put"].value
        )
        assert found["risk_reversal"].value < 0 < found["butterfly"].value
        # the smile's wings are in it: above the ATM variance, by less than a third
        assert 1 < found["free"].value / found["atm"].value ** 2 < 1.34


def test_constant_maturity_is_linear_in_total_variance_and_never_beyond():
    points = [Point(20 / 365, 0.40), Point(40 / 365, 0.30), Point(100 / 365, 0.25)]
    middle = math.sqrt((0.4**2 * 20 + 0.3**2 * 40) / 2 / 30)
    assert constant_maturity(points, 30).value == pytest.approx(middle)
    assert constant_maturity(points[::-1], 40).value == pytest.approx(0.30)
    assert constant_maturity(points, 14).value is None
    assert constant_maturity(points, 101).why == (
        "101 days lie outside the expirations, 20.0 to 100.0 days away"
    )
    assert constant_maturity([], 30).why == "no expiration has a volatility"
    found = term(points)
    assert found.shape is Shape.BACKWARDATION
    assert found.slope.value == pytest.approx(found.at[90].value - middle)
    assert found.at[7].value is None
    assert term(points[:2]).shape is None
    assert term(points[:2]).slope.why.startswith("90 days lie outside")
    assert term([Point(0.01, 0.2), Point(1, 0.2)]).shape is Shape.FLAT


@ANY_TIME
@given(st.lists(st.tuples(st.floats(0.01, 2), st.floats(0.05, 3)), min_size=1, max_size=8))
def test_a_constant_maturity_lies_between_the_total_variances_around_it(pairs):
    points = [Point(*pair) for pair in pairs]
    for days in (7, 30, 90):
        if (found := constant_maturity(points, days)).value is not None:
            total = found.value**2 * days / 365
            assert min(p.variance for p in points) <= total * (1 + 1e-9)
            assert total <= max(p.variance for p in points) * (1 + 1e-9)


def test_the_variance_risk_premium_is_told_in_variance_and_in_points():
    found = variance_risk_premium(Metric.of(0.30), Metric.of(0.20))
    assert (found.variance.value, found.points.value) == pytest.approx((0.05, 0.10))
    assert variance_risk_premium(Metric.of(0.3), Metric.missing("no bars")).points.why == "no bars"


@ANY_TIME
@given(st.floats(0.1, 1), st.floats(0.01, 0.3), st.booleans())
def test_an_events_move_is_found_from_the_expirations_around_it(base, move, early):
    event, times = 0.05, [0.02, 0.06, 0.14] if early else [0.06, 0.14]
    points = [Point(t, math.sqrt(base**2 + (move**2 / t if t > event else 0.0))) for t in times]
    found = crush(points, event)
    assert found.move.value == pytest.approx(move, rel=1e-6)
    assert found.after.value == pytest.approx(base, rel=1e-6)
    assert found.drop.value == pytest.approx(found.before.value - base, rel=1e-6, abs=1e-9)


def test_a_crush_without_expirations_around_the_event_says_why():
    near, far = Point(0.02, 0.5), Point(0.1, 0.4)
    assert crush([near], 0.05).move.why == "no two expirations lie around the event"
    assert crush([far], 0.05).move.why == "no two expirations lie around the event"
    assert crush([near, far], 0.05).move.why == "nothing is priced for the event"
    assert crush([near, far], -0.01).move.why == "the event has passed"
    assert crush([near, far], 0.05).before.value == 0.4


# Rank and percentile


@recorded
def test_rank_and_percentile_are_the_published_ones():
    rows = {row["group"]: row for row in published("cases")["cases"] if "iv_rank" in row["group"]}
    row = rows["iv_rank_percentile"]
    found = standing(row["current"], row["history"], enough=5)
    assert (found.rank.value, found.percentile.value, found.days) == (50.0, 80.0, 5)
    row = rows["iv_rank"]
    assert standing(row["current"], [row["low"], row["high"]], enough=2).rank.value == 50.0


@recorded
def test_expected_moves_are_the_published_ones():
    rows = [r for r in published("cases")["cases"] if r["group"] == "expected_move"]
    weighted, straddle, one_sd = (row["value"] for row in rows)
    one = dataclasses.replace(
        expiries(chain(DAYS[:1]), AT)[0], years=1.0, strike=np.array([90.0, 95, 100, 105, 110])
    )
    half = np.array([0, 0, 76.60, 71.70, 66.95]), np.array([66.95, 71.70, 76.60, 0, 0])
    # straddle, first and second strangle cost 76.60, 71.70 and 66.95 together
    none = np.full(5, math.nan)
    call, put = (
        type(one.call)(each / side, each / side, none, none, none, none)
        for each, side in zip(
            half, (np.array([1, 1, 2, 2, 2]), np.array([2, 2, 2, 1, 1])), strict=True
        )
    )
    put = dataclasses.replace(put, bid=put.bid.copy(), ask=put.ask.copy())
    found = expected_move(dataclasses.replace(one, call=call, put=put), 100, 100, Metric.of(1.0))
    assert found.weighted.value == pytest.approx(weighted)
    assert found.straddle.value == pytest.approx(straddle)
    assert found.one_sd.value == pytest.approx(one_sd)


def test_too_short_a_history_is_said():
    found = standing(0.3, [0.2] * 19 + [math.nan, -999.0, 0.0])
    assert found.days == 19
    assert found.rank.why == found.percentile.why == "not enough history: 19 of 20 days"
    assert standing(0.2, [0.2] * 20).rank.why == "the volatility has not moved in 20 days"
    assert standing(0.2, [0.2] * 20).percentile.value == 0
    assert standing(math.nan, [0.2] * 20).rank.why == "there is no volatility now"


@ANY_TIME
@given(
    st.floats(0.01, 5),
    st.lists(st.floats(0.01, 5), min_size=20, max_size=400),
)
def test_rank_and_percentile_stay_in_bounds_and_look_back_one_year(now, closes):
    found = standing(now, closes)
    assert found.days == min(len(closes), 252)
    assert 0 <= found.percentile.value <= 100
    assert found.rank.value is None or 0 <= found.rank.value <= 100
    assert standing(now, [9.0] * 50 + closes[-252:]) == found or len(closes) < 252
    if now > max(closes[-252:]):
        assert (found.rank.value, found.percentile.value) == (100, 100)


# Flow


def test_flow_is_counted_from_both_sides():
    full = chain(DAYS[:1])
    full.volume[:] = np.where(full.call, 20.0, 30.0)
    full.open_interest[:] = np.where(full.call & (full.strike == 240), 50.0, 0.0)
    full.open_interest[~full.call & (full.strike == 260)] = 100.0
    (one,) = expiries(full, AT)
    found = put_call([one])
    assert (found.volume.value, found.open_interest.value) == (1.5, 2.0)
    assert max_pain(one).value == 260.0
    gamma = dealer_gamma([one, one], SPOT)
    assert gamma.total.value == pytest.approx(2 * 0.01 * (50 - 100) * 100 * SPOT**2 * 0.01)
    assert gamma.dollars[gamma.strike == 240][0] > 0 > gamma.dollars[gamma.strike == 260][0]
    assert put_call([]).volume.why == "no volume in calls"
    assert dealer_gamma([], SPOT).total.value is None


def test_unusual_is_more_than_is_held_and_more_than_usual():
    full = chain(DAYS[:1])
    full.volume[:], full.open_interest[:] = 10.0, 100.0
    full.volume[[3, 40, 70]] = 500.0, 90.0, 400.0
    usual = np.full(len(full), math.nan)
    assert unusual(full).tolist() == [3, 70]  # the dearer first
    usual[3] = 200.0
    assert unusual(full, usual).tolist() == [70]
    full.open_interest[70] = math.nan
    assert unusual(full, usual).tolist() == []


# Spoilt chains


def test_expired_and_adjusted_contracts_are_left_out_and_the_newest_duplicate_counts():
    full = chain([date(2026, 11, 23), *DAYS[:1]])
    full.standard[-1] = False
    full.expiration[-2] = np.datetime64("NaT")
    (one,) = expiries(full, AT)
    assert one.day == DAYS[0]
    assert math.isnan(one.put.bid[-1])
    assert math.isnan(one.put.bid[-2])
    twice = Chain(
        **{
            f.name: (
                np.concatenate([v, v]) if isinstance(v := getattr(full, f.name), np.ndarray) else v
            )
            for f in dataclasses.fields(full)
        }
    )
    n = len(full)
    twice.bid[:n] -= 1.0
    twice.quoted_at[:n] -= np.timedelta64(1, "m")
    (again,) = expiries(twice, AT)
    np.testing.assert_array_equal(again.call.bid, one.call.bid)


def test_the_index_of_the_morning_settles_before_that_of_the_evening():
    day = DAYS[1]
    early, late = years_to(day, "SPX", AT), years_to(day, "SPXW", AT)
    assert (late - early) * 525_600 == pytest.approx(390)
    assert years_to(date(2026, 11, 27), "AAPL", AT) == pytest.approx(
        (datetime(2026, 11, 27, 18, tzinfo=UTC) - AT) / timedelta(minutes=525_600)
    )


BAD = st.sampled_from(
    [math.nan, math.inf, -math.inf, -999.0, -1.0, 0.0, 1e-300, 1e300, 1e9, 0.01, 300.0]
)
FIELDS = st.sampled_from(["bid", "ask", "last", "iv", "gamma", "volume", "open_interest", "strike"])


@ANY_TIME
@given(st.lists(st.tuples(FIELDS, st.integers(0, 2 * len(STRIKES) - 1), BAD), max_size=60))
def test_a_spoilt_expiration_never_raises_and_leaves_its_neighbours_alone(blows):
    clean, spoilt = chain(DAYS[:3]), chain(DAYS[:3])
    first = 2 * len(STRIKES)  # rows of the second expiration
    for name, row, value in blows:
        getattr(spoilt, name)[first + row] = value
    with np.errstate(all="ignore"):
        found, expected = measured(spoilt), measured(clean)
        unusual(spoilt)
        dealer_gamma(expiries(spoilt, AT), SPOT)
        put_call(expiries(spoilt, AT))
    for day in (DAYS[0], DAYS[2]):
        assert found[day] == expected[day]
    for metric in found.get(DAYS[1], {}).values():
        assert (metric.value is None and metric.why) or math.isfinite(metric.value)


@pytest.mark.parametrize(
    "keep",
    [
        np.zeros(len(chain()), bool),
        chain().strike == 250.0,
        chain().strike == 150.0,
        chain().call,
        ~chain().call,
    ],
    ids=["empty", "one strike", "one far strike", "calls only", "puts only"],
)
def test_a_chain_of_little_gives_reasons(keep):
    full = chain()
    little = Chain(
        **{
            f.name: v[keep] if isinstance(v := getattr(full, f.name), np.ndarray) else v
            for f in dataclasses.fields(full)
        }
    )
    for found in measured(little).values():
        assert found["free"].value is None
        assert found["free"].why
        assert found.get("atm", found["forward"]).value is None
        assert found.get("atm", found["forward"]).why


def test_a_crossed_or_stale_pair_does_not_move_the_forward():
    full = chain(DAYS[:1])
    at = np.flatnonzero(full.strike == 250.0)
    full.bid[at[0]], full.ask[at[0]] = 30.0, 31.0  # a stale call, far from parity
    near = np.flatnonzero(full.strike == 252.5)
    full.bid[near], full.ask[near] = full.ask[near].copy(), full.bid[near].copy()
    (one,) = expiries(full, AT)
    assert math.isnan(one.call.mid[one.strike == 252.5][0])
    expected = SPOT * math.exp((RATE - YIELD) * one.years)
    assert forward(one, RATE).value == pytest.approx(expected, rel=1e-9)


def test_a_stale_quote_at_the_forward_does_not_move_its_volatility():
    full = chain(DAYS[1:2])
    (clean,) = expiries(full, AT)
    row = np.flatnonzero((full.strike == 250.0) & ~full.call)[0]
    full.iv[row] *= 1.3
    (stale,) = expiries(full, AT)
    assert smile(stale, 250.9).atm() == smile(clean, 250.9).atm()
    full.iv[full.strike == 250.0] = full.iv[row]  # call and put agree: then they are believed
    (believed,) = expiries(full, AT)
    assert smile(believed, 250.9).atm().value > smile(clean, 250.9).atm().value


# Against the sandbox, whose surfaces are known: American prices in ticks, spreads, stale and crossed quotes


def told(book: Book) -> Chain:
    none = np.full(len(book), math.nan)
    return Chain(
        book.symbol,
        datetime.fromtimestamp(book.at / 1000, UTC),
        "sandbox",
        book.spot,
        book.contract,
        np.array([book.expirations[n].day for n in book.of], "datetime64[D]"),
        book.strike,
        book.call,
        book.bid,
        book.ask,
        last=book.last,
        bid_size=none,
        ask_size=none,
        volume=book.volume.astype(float),
        open_interest=book.open_interest.astype(float),
        iv=book.iv,
        delta=book.delta,
        gamma=book.gamma,
        theta=none,
        vega=none,
        rho=none,
        quoted_at=book.quoted_at.astype("datetime64[ms]"),
        standard=np.full(len(book), True),
    )


def test_the_volatilities_of_the_sandbox_are_found():
    market = Market(seed=7)
    options = Options(market)
    now = int(AT.timestamp()) * 1000
    at30, forwards = [], []
    for symbol in ["AAPL", "SPY", "F", "$SPX", "CMCSA", "COO", "CRWD", "FFIV", "PANW", "GS"]:
        full = told(options.book(symbol, now))
        known = {(t["expiration"], t["root"]): t for t in options.truth(symbol, now)["term"]}
        found, true = [], []
        for one in expiries(full, full.at):
            term = known[(one.day.isoformat(), one.root)]
            future = forward(one, SANDBOX_RATE)
            if one.years < 0.3:  # beyond, early exercise biases raw parity
                forwards.append(abs(future.value / term["forward"] - 1))
            if (atm := smile(one, future.value).atm()).value is not None:
                found.append(Point(one.years, atm.value))
                true.append(Point(term["years"], term["atm_iv"]))
        at30.append(abs(constant_maturity(found, 30).value - constant_maturity(true, 30).value))
    assert np.median(at30) < 0.002
    assert max(at30) < 0.005  # half a volatility point, where a stale quote alone would move eight
    assert np.median(forwards) < 0.0005
    assert max(forwards) < 0.005
