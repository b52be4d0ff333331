"""How symbols are spelled."""

import pytest

from actors.domain import universe
from actors.domain.symbols import normalise, spelled


@pytest.mark.parametrize("text", ["BRK/B", "BRK-B", "brk.b", " Brk.B\n"])
def test_every_spelling_is_the_dot_form(text):
    assert normalise(text) == "BRK.B"


@pytest.mark.parametrize("text", ["A", "spy", "GOOGL", "BF.B", "BAC.PRL", "XYZ.WS"])
def test_symbols_stay_symbols(text):
    assert normalise(text) == text.upper()


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "1A",
        "TOOLONG",
        "A..B",
        "A.B.C",
        "BRK.",
        "A B",
        "$SPX",
        "straße",
        "ß",
        "ａapl",
        "AAPL;DROP",
        "A\x00",
        "x" * 10_000,
    ],
)
def test_what_is_no_symbol_is_refused(text):
    with pytest.raises(
        ValueError, match=r"a symbol is 1 to 6 letters or digits.*, was "
    ) as refused:
        normalise(text)
    assert len(str(refused.value)) < 120


def test_each_vendor_has_its_spelling():
    told = {
        vendor: spelled("BRK.B", vendor) for vendor in ("schwab", "tiingo", "alpaca", "polygon")
    }
    assert told == {"schwab": "BRK/B", "tiingo": "BRK-B", "alpaca": "BRK.B", "polygon": "BRK.B"}


def test_the_universe_is_in_dot_form_and_comes_back_from_every_vendor():
    for ticker in universe.seed():
        for vendor in ("schwab", "tiingo", "alpaca"):
            assert normalise(spelled(ticker.symbol, vendor)) == ticker.symbol


def test_an_index_has_its_sign_where_schwab_writes_one():
    assert spelled("SPX", "schwab") == "$SPX"
    assert spelled("SPX", "polygon") == "SPX"
