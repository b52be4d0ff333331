"""Volatility metrics: against published numbers, by property, and on chains that were spoilt."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.domain.model_free import model_free
from actors.domain.realized import realized

FIXTURES = (
    Path(os.environ.get("VOLARIS_FIXTURES") or Path(__file__).parents[3] / "shared" / "fixtures")
    / "options"
)
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
    for term in ("near", "next"):
        expected = example[term]
        columns = np.array(told["quotes"][term]).T
        got = model_free(*columns, rate=expected["R"], years=expected["T"])
        found[term] = got
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
