"""The list of the S&P 500: what was recorded, what a refresh may change, and that nothing breaks the parser.

Recorded lists are not part of this repository: the tests that need them skip unless VOLARIS_FIXTURES names
their folder, or they lie beside the checkout in ../shared/fixtures.
"""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.domain import universe
from actors.domain.errors import Implausible
from actors.domain.models import Ticker
from actors.providers.base import Malformed, ProviderError
from actors.providers.sp500 import parse_constituents

RECORDINGS = (
    Path(os.environ.get("VOLARIS_FIXTURES") or Path(__file__).parents[3] / "shared" / "fixtures")
    / "sp500"
)
HEADER = (
    "Symbol,Security,GICS Sector,GICS Sub-Industry,Headquarters Location,Date added,CIK,Founded\n"
)
LIST = HEADER + (
    'MMM,3M,Industrials,Industrial Conglomerates,"Saint Paul, Minnesota",1957-03-04,66740,1902\n'
    "BRK.B,Berkshire Hathaway,Financials,Multi-Sector Holdings,Omaha,2010-02-16,1067983,1839\n"
)
SEEDS = [(parse_constituents, LIST)]


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recorded lists are not here")
def test_every_recording_is_read() -> None:
    """The CSV of August holds 503 members; the other lists have other columns and are refused."""
    read, refused = {}, {}
    for path in sorted(RECORDINGS.glob("*.csv")):
        text = path.read_text(encoding="utf-8")
        try:
            read[path.name] = parse_constituents(text)
        except Malformed as e:
            refused[path.name] = e.why
    assert {name: len(rows) for name, rows in read.items()} == {
        "constituents_datahub_2026-08-08.csv": 503
    }
    assert refused == {
        "constituents_index-constitution-1.0.1_latest.csv": "the list has no column Symbol",
        "membership_history_index-constitution-1.0.1.csv": "the list has no column Symbol",
    }
    [rows] = read.values()
    assert {"BRK.B", "BF.B"} <= {row.symbol for row in rows}
    assert all(row.name and row.sector and row.kind == "stock" for row in rows)
    seed = [ticker.symbol for ticker in universe.seed() if ticker.kind == "stock"]
    joined, left = universe.changes(seed, rows)
    assert (len(joined), len(left)) == (7, 7)


def test_rows_are_tickers() -> None:
    assert parse_constituents("\ufeff" + LIST) == (
        Ticker("MMM", "3M", "stock", "Industrials"),
        Ticker("BRK.B", "Berkshire Hathaway", "stock", "Financials"),
    )
    odd = HEADER + "MMM,3M,Industrials\nMMM,again,Industrials\n,nameless,Energy\nX\nKO,,\n"
    assert parse_constituents(odd) == (
        Ticker("MMM", "again", "stock", "Industrials"),
        Ticker("KO", "KO", "stock", None),
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "in the middle of a line"),
        ("\n", "has no column Symbol"),
        (LIST[:-20], "in the middle of a line"),
        ("<html>\n", "has no column Symbol"),
        ("404: Not Found\n", "has no column Symbol"),
        (LIST.replace("GICS Sector", "Sector"), "has no column GICS Sector"),
        (HEADER + 'MMM,"3M,Industrials\n', "it is no CSV"),
    ],
)
def test_what_is_no_list_is_malformed(text: str, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        parse_constituents(text)


@given(st.data())
def test_nothing_breaks_it(data: st.DataObject) -> None:
    text = LIST
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        end = min(len(text), at + data.draw(st.integers(0, 40)))
        junk = data.draw(st.sampled_from(['"', "\n", ",", "\r", "\x00", "é", "Ω,", '""', ""]))
        text = text[:at] + junk + text[end:]
    try:
        rows = parse_constituents(text)
    except ProviderError:
        return
    assert len({row.symbol for row in rows}) == len(rows)
    assert all(row.name for row in rows)


MEMBERS = [f"M{n}" for n in range(503)]


def listed(*symbols: str) -> list[Ticker]:
    return [Ticker(symbol, symbol) for symbol in symbols]


@pytest.mark.parametrize("count", [495, 510])
def test_a_list_of_the_right_length_is_taken_over(count: int) -> None:
    before = [f"M{n}" for n in range(count)]
    assert universe.changes(before, listed(*before)) == ((), ())


@pytest.mark.parametrize("count", [0, 494, 511, 1000])
def test_a_list_of_another_length_is_refused(count: int) -> None:
    with pytest.raises(Implausible, match=f"it has {count} members"):
        universe.changes(MEMBERS, listed(*(f"M{n}" for n in range(count))))


def test_fourteen_changes_may_be_fifteen_may_not() -> None:
    new = [f"N{n}" for n in range(8)]
    joined, left = universe.changes(MEMBERS, listed(*MEMBERS[7:], *new[:7]))
    assert [ticker.symbol for ticker in joined] == new[:7]
    assert left == tuple(sorted(MEMBERS[:7]))
    with pytest.raises(Implausible, match="15 members at once"):
        universe.changes(MEMBERS, listed(*MEMBERS[7:], *new))
