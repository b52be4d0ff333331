"""Databento's answers as recorded, and as nasty as they could be.

The recordings are not in this repository (they are the vendor's data): VOLARIS_FIXTURES names their
folder, or they lie beside the checkout in ../shared/fixtures.
"""

import contextlib
import json
import os
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import databento_dbn as dbn
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.domain.models import Bar, Timeframe
from actors.providers.base import Denied, Malformed, ProviderError, Unsupported
from actors.providers.databento import (
    MOST_ROWS,
    OutOfRange,
    Unresolved,
    build,
    down,
    parse_available,
    parse_bars,
    parse_cost,
    refusal,
    stretch,
    up,
)
from tests.unit.spoiling import NASTY, spoiled

RECORDINGS = (
    Path(os.environ.get("VOLARIS_FIXTURES") or Path(__file__).parents[3] / "shared" / "fixtures")
    / "databento"
)
recorded = pytest.mark.skipif(not RECORDINGS.is_dir(), reason=f"no recordings in {RECORDINGS}")

MINUTE, FIVE, DAY = Timeframe.MINUTE, Timeframe.FIVE_MINUTES, Timeframe.DAY
OPTION = "AAPL  250221C00250000"

# rows of each file, and the bars they make: of options there is a row a venue, of each at the same time
ROWS = {
    "EQUS.MINI/test_data.ohlcv-1d": (1, 1),
    "EQUS.MINI/test_data.ohlcv-1h": (4, 4),
    "EQUS.MINI/test_data.ohlcv-1m": (4, 4),
    "EQUS.MINI/test_data.ohlcv-1s": (4, 4),
    "OPRA.PILLAR/test_data.ohlcv-1d": (4, 1),
    "OPRA.PILLAR/test_data.ohlcv-1h": (4, 1),
    "OPRA.PILLAR/test_data.ohlcv-1m": (4, 1),
    "OPRA.PILLAR/test_data.ohlcv-1s": (4, 3),
    "XNAS.ITCH/test_data.ohlcv-1d": (1, 1),
    "XNAS.ITCH/test_data.ohlcv-1h": (4, 4),
    "XNAS.ITCH/test_data.ohlcv-1m": (4, 4),
    "XNAS.ITCH/test_data.ohlcv-1s": (4, 4),
}
# files that are not bars (definitions, quotes, open interest, reference data), with the records they
# hold: we ask for none of them
OTHERS = {
    "EQUS.MINI/test_data.definition": 1,
    "OPRA.PILLAR/test_data.cbbo-1m": 4,
    "OPRA.PILLAR/test_data.definition": 1,
    "OPRA.PILLAR/test_data.statistics": 4,
    "XNAS.ITCH/test_data.definition": 1,
}
REFERENCE = {"adjustment-factors": 2, "corporate-actions": 2, "security-master": 2}
SYMBOLS = {"EQUS.MINI": "QQQ", "OPRA.PILLAR": OPTION, "XNAS.ITCH": "NVDA"}


def decoded(name: str) -> list[Any]:
    decoder = dbn.DBNDecoder(compression=dbn.Compression.ZSTD)
    decoder.write((RECORDINGS / f"{name}.dbn.zst").read_bytes())
    _, *records = decoder.decode()
    return records


def text_of(name: str, ending: str) -> str:
    return (RECORDINGS / f"{name}.{ending}").read_text(encoding="utf-8")


def table(*rows: str) -> str:
    head = "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol"
    return "".join(f"{line}\n" for line in (head, *rows))


def line(at: str, *prices: float, volume: int = 100, symbol: str = "X", publisher: int = 95) -> str:
    ns = int(datetime.fromisoformat(at).timestamp()) * 10**9
    told = ",".join(str(round(price * 1e9)) for price in prices)
    return f"{ns},33,{publisher},7,{told},{volume},{symbol}"


def bar(at: str, *prices: float, volume: int = 100, symbol: str = "X") -> Bar:
    opened, high, low, close = prices
    when = datetime.fromisoformat(at)
    return Bar(symbol, when, opened, high, low, close, volume, "databento")


# --- recordings --------------------------------------------------------------------------------------


@recorded
def test_every_recording_is_accounted_for() -> None:
    found = {
        f"{path.parent.name}/{path.name.removesuffix('.dbn.zst')}"
        for path in RECORDINGS.glob("*/*.dbn.zst")
    }
    assert found == set(ROWS) | set(OTHERS)
    assert {name: len(decoded(name)) for name in OTHERS} == OTHERS
    files = {path: path.read_text().count("\n") for path in RECORDINGS.glob("*/*.jsonl")}
    assert {path.stem.removeprefix("test_data."): n for path, n in files.items()} == REFERENCE


@recorded
@pytest.mark.parametrize("name", ROWS)
def test_recorded_bars_lose_nothing(name: str) -> None:
    records = decoded(name)
    csv, ndjson = text_of(name, "csv"), text_of(name, "json")
    symbol = SYMBOLS[name.partition("/")[0]]
    rows, bars = ROWS[name]
    assert len(records) == rows == csv.count("\n") - 1 == ndjson.count("\n")
    timeframe = DAY if name.endswith("1d") else MINUTE
    found = parse_bars(csv, [symbol], timeframe)
    assert found == parse_bars(ndjson, [symbol], timeframe)
    assert len(found) == bars
    assert sum(b.volume for b in found) == sum(r.volume for r in records)
    for one in found:
        venues = [r for r in records if r.ts_event == int(one.at.timestamp()) * 10**9]
        most = max(venues, key=lambda r: r.volume)
        assert (one.symbol, one.open, one.close) == (symbol, most.pretty_open, most.pretty_close)
        assert one.high == max(r.pretty_high for r in venues)
        assert one.low == min(r.pretty_low for r in venues)
    assert found == tuple(sorted(found, key=lambda b: b.at))


@recorded
def test_the_day_of_an_option_is_of_all_its_venues() -> None:
    [day] = parse_bars(text_of("OPRA.PILLAR/test_data.ohlcv-1d", "csv"), [OPTION], DAY)
    # 8,223 of the contracts were traded at one venue: its open and close
    assert day.at == datetime(2025, 2, 20, tzinfo=UTC)
    assert (day.open, day.high, day.low, day.close) == (0.19, 0.49, 0.1, 0.11)


# --- what was asked ----------------------------------------------------------------------------------


def test_a_range_is_asked_for_with_zones() -> None:
    start, end = datetime(2026, 11, 2, tzinfo=UTC), datetime(2026, 11, 3, tzinfo=UTC)
    assert build("EQUS.MINI", ["X", "BRK.B"], "ohlcv-1m", start, end) == {
        "dataset": "EQUS.MINI",
        "symbols": "X,BRK.B",
        "schema": "ohlcv-1m",
        "stype_in": "raw_symbol",
        "stype_out": "instrument_id",
        "start": "2026-11-02T00:00:00+00:00",
        "end": "2026-11-03T00:00:00+00:00",
    }


@given(
    st.integers(1, 2000),
    st.sampled_from([timedelta(minutes=1), timedelta(minutes=5), timedelta(days=1)]),
)
def test_a_page_holds_no_more_rows_than_an_answer_may_have(count: int, step: timedelta) -> None:
    span = stretch(count, step, "EQUS.MINI")
    assert span % step == timedelta(0)
    assert span >= step
    each = span // (timedelta(days=1) if step > timedelta(hours=1) else timedelta(minutes=1))
    assert count * each <= MOST_ROWS


@given(st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)))
def test_what_begins_within_a_time_is_between_its_rounded_ends(at: datetime) -> None:
    step = timedelta(minutes=5)
    assert down(at, step) <= at <= up(at, step)
    assert up(at, step) - down(at, step) in (timedelta(0), step)
    assert down(up(at, step), step) == up(at, step)


# --- what was answered -------------------------------------------------------------------------------


def test_bars_come_by_symbol_and_time_and_of_what_was_asked_for() -> None:
    body = table(
        line("2026-11-20T15:01:00Z", 2, 3, 1, 2.5, symbol="Y"),
        line("2026-11-20T15:02:00Z", 2, 3, 1, 2.5),
        line("2026-11-20T15:01:00Z", 1.01, 3, 1, 2.5),
        line("2026-11-20T15:01:00Z", 2, 3, 1, 2.5, symbol="Z"),
    )
    assert parse_bars(body, ["Y", "X"], MINUTE) == (
        bar("2026-11-20T15:01:00+00:00", 1.01, 3, 1, 2.5),
        bar("2026-11-20T15:02:00+00:00", 2, 3, 1, 2.5),
        bar("2026-11-20T15:01:00+00:00", 2, 3, 1, 2.5, symbol="Y"),
    )


def test_five_minutes_are_made_of_minutes() -> None:
    body = table(
        line("2026-11-20T15:04:00Z", 7, 8, 6, 7, volume=1),
        line("2026-11-20T15:05:00Z", 2, 3, 1, 2, volume=10),
        line("2026-11-20T15:08:00Z", 4, 5, 4, 5, volume=20),
        line("2026-11-20T15:10:00Z", 6, 6, 6, 6, volume=30),
    )
    assert parse_bars(body, ["X"], FIVE) == (
        bar("2026-11-20T15:00:00+00:00", 7, 8, 6, 7, volume=1),
        bar("2026-11-20T15:05:00+00:00", 2, 5, 1, 5, volume=30),
        bar("2026-11-20T15:10:00+00:00", 6, 6, 6, 6, volume=30),
    )


def test_a_friday_evenings_trades_are_no_saturday() -> None:
    friday, saturday = (line(f"2026-11-{n}T00:00:00Z", 2, 3, 1, 2) for n in (20, 21))
    body = table(friday, saturday)
    assert [b.at.day for b in parse_bars(body, ["X"], DAY)] == [20]
    assert [b.at.day for b in parse_bars(body, ["X"], DAY, always_open=True)] == [20, 21]


@pytest.mark.parametrize(
    "amiss",
    [
        line("2026-11-20T15:01:00Z", 2, 3, 1, 2.5).replace("3000000000", str(2**63 - 1)),  # none
        line("2026-11-20T15:01:00Z", 2, 3, 1, 0),
        line("2026-11-20T15:01:00Z", 2, 3, -1, 2),
        line("2026-11-20T15:01:00Z", 2, 1, 3, 2),
        line("2026-11-20T15:01:00Z", 2, 3, 1, 2, volume=-1),
        line("2026-11-20T15:01:00Z", 2, 3, 1, 2).replace(",100,", ",2.5,"),
        line("2026-11-20T15:01:00Z", 2, 3, 1, 2).replace(",100,", ",,"),
        f"{2**63 - 1},33,95,7,2,3,1,2,100,X",
        "1,2,3",
        "",
    ],
)
def test_a_row_amiss_is_left_out_and_spoils_no_other(amiss: str) -> None:
    good = line("2026-11-20T15:02:00Z", 2, 3, 1, 2)
    assert parse_bars(table(amiss, good), ["X"], MINUTE) == (
        bar("2026-11-20T15:02:00+00:00", 2, 3, 1, 2),
    )
    if amiss:
        with pytest.raises(Malformed, match="none of them a readable bar"):
            parse_bars(table(amiss), ["X"], MINUTE)


def test_nothing_traded_is_an_answer() -> None:
    assert parse_bars(table(), ["X"], MINUTE) == ()


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("", "without the column"),
        ("<html>\n", "without the column"),
        ("ts_event,open\n1,2\n", "without the column close"),
        (table(line("2026-11-20T15:02:00Z", 2, 3, 1, 2))[:-1], "breaks off"),
        (table("a\x00b"), "readable|CSV"),
        ('{"detail": "Internal Server Error"}\n', "none of them"),
        (b"bytes", "lines of text"),
        (None, "lines of text"),
    ],
)
def test_what_is_no_table_is_malformed(body: Any, named: str) -> None:
    with pytest.raises(Malformed, match=named):
        parse_bars(body, ["X"], MINUTE)


def test_no_time_of_a_broken_off_answer_is_taken_for_the_whole() -> None:
    body = table(*(line(f"2026-11-20T15:0{n}:00Z", 2, 3, 1, 2) for n in range(9)))
    for cut in range(1, len(body)):
        if body[cut - 1] != "\n":
            with pytest.raises(Malformed):
                parse_bars(body[:cut], ["X"], MINUTE)


def test_a_cost_is_a_bare_number() -> None:
    assert parse_cost(0.587) == 0.587
    assert parse_cost(0) == 0.0
    for body in (None, "1", -1, {"cost": 1}, [1], True, float("nan")):
        with pytest.raises(Malformed):
            parse_cost(body)


def test_a_schema_may_end_before_its_dataset() -> None:
    spans = {"ohlcv-1d": {"start": "2023-03-28", "end": "2026-11-23T00:00:00.000000000Z"}}
    whole = {"start": "2023-03-28T00:00:00.000000000Z", "end": "2026-11-23T17:00:00.000000000Z"}
    body = whole | {"schema": spans}
    first = datetime(2023, 3, 28, tzinfo=UTC)
    assert parse_available(body, "ohlcv-1d") == (first, datetime(2026, 11, 23, tzinfo=UTC))
    assert parse_available(body, "ohlcv-1m") == (first, datetime(2026, 11, 23, 17, tzinfo=UTC))
    with pytest.raises(Malformed):
        parse_available({"schema": {}}, "ohlcv-1m")


# --- refusals ----------------------------------------------------------------------------------------

END = "2026-01-29T20:00:00.000000000Z"
LATE = {  # recorded by a third party
    "detail": {
        "case": "data_end_after_available_end",
        "message": "The dataset GLBX.MDP3 has data available up to '2026-01-29 20:00:00+00:00'. The"
        " `end` in the query ('2026-01-29 20:23:08.167605900+00:00') is after the available range.",
        "status_code": 422,
        "docs": "https://databento.com/docs/api-reference-historical/basics/datasets",
        "payload": {"dataset": "GLBX.MDP3", "available_end": END},
    }
}


def case(name: str, message: str = "Words.", **more: Any) -> dict[str, Any]:
    return {"detail": {"case": name, "message": message, **more}}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, case("auth_authentication_failed", "Authentication failed."), Denied),
        (401, {"detail": "Unauthorized"}, Denied),
        (403, case("auth_account_locked"), Denied),
        (402, case("account_insufficient_funds"), Unsupported),
        (403, case("license_not_found_unauthorized"), Unsupported),
        (403, {"detail": "Forbidden"}, Unsupported),
        (422, {"detail": "Invalid schema: x"}, Unsupported),
        (422, case("symbology_invalid_request"), Unresolved),
        (422, LATE, OutOfRange),
        (422, case("dataset_unavailable_range", "Use an end before 2026-11-23T17:00:00Z."), OutOfRange),
        (422, case("data_start_before_available_start"), OutOfRange),
    ],
)  # fmt: skip
def test_a_refusal_says_what_the_vendor_said(status: int, body: Any, kind: type) -> None:
    error = refusal(status, body)
    assert type(error) is kind
    detail = body["detail"]
    assert (detail if isinstance(detail, str) else detail["message"]) in str(error)


@pytest.mark.parametrize(
    ("status", "body"),
    [(429, {"detail": "Too many requests"}), (500, {"detail": "x"}), (422, None), (422, {"detail": []})],
)  # fmt: skip
def test_the_rest_is_left_to_the_status(status: int, body: Any) -> None:
    assert refusal(status, body) is None


@pytest.mark.parametrize(
    ("body", "until"),
    [
        (LATE, datetime(2026, 1, 29, 20, tzinfo=UTC)),
        (
            case(
                "license_not_found_unauthorized",
                "A live data license is required to access XNAS.ITCH data after 2026-08-07T13:30:00Z.",
            ),
            datetime(2026, 8, 7, 13, 30, tzinfo=UTC),
        ),
        (case("data_end_after_available_end", "No time in it."), None),
    ],
)
def test_a_refusal_tells_where_the_data_ends(body: Any, until: datetime | None) -> None:
    error = refusal(422, body)
    assert isinstance(error, OutOfRange)
    assert error.until == until


# --- as nasty as could be ----------------------------------------------------------------------------

BODY = table(
    line("2026-11-20T15:01:00Z", 2, 3, 1, 2.5),
    line("2026-11-20T15:01:00Z", 2.5, 4, 1, 2, publisher=20),
    line("2026-11-20T15:07:00Z", 2, 3, 1, 2.5, symbol="BRK.B"),
)
RECORD = {
    "hd": {"ts_event": "1680001680000000000", "rtype": 33, "publisher_id": 95, "instrument_id": 7},
    **dict.fromkeys(("open", "high", "low", "close"), "307830000000"),
    "volume": "1800",
    "symbol": "X",
}

SEEDS: list[tuple[Callable[[Any], Any], Any]] = [
    *((lambda body, t=t: parse_bars(body, ["X", "BRK.B"], t), BODY) for t in Timeframe),
    (lambda body: parse_bars(json.dumps(body) + "\n", ["X"], MINUTE), RECORD),
    (parse_cost, 0.125),
    (
        lambda body: parse_available(body, "ohlcv-1d"),
        {"start": END, "end": END, "schema": {"ohlcv-1d": {"start": END, "end": END}}},
    ),
    *((lambda body, s=s: refusal(s, body) or (), LATE) for s in (401, 403, 422)),
]


@settings(max_examples=200 * len(SEEDS), deadline=None)
@given(st.sampled_from(SEEDS).flatmap(lambda seed: st.tuples(st.just(seed[0]), spoiled(seed[1]))))
def test_mutated_answers_raise_our_errors_only(given_: tuple[Callable[[Any], Any], Any]) -> None:
    parse, body = given_
    with contextlib.suppress(ProviderError):
        parse(body)


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from(Timeframe), st.booleans())
def test_mutated_lines_raise_our_errors_only(
    chance: random.Random, timeframe: Timeframe, ndjson: bool
) -> None:
    body = list(json.dumps(RECORD) + "\n" + json.dumps(RECORD) + "\n" if ndjson else BODY)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(body))
        body[at] = chance.choice(
            ["", ",", "\n", '"', "\x00", "-", "9" * 30, "9" * 5000, "é", "\u2028", "{"]
        )
    for text in ("".join(body), "".join(body) + "\n"):
        with contextlib.suppress(ProviderError):
            for found in parse_bars(text, ["X", "BRK.B"], timeframe):
                assert 0 < found.low <= found.high < 1e10
                assert 0 <= found.volume < 2**63


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([parse for parse, _ in SEEDS]), NASTY)
def test_any_json_raises_our_errors_only(parse: Callable[[Any], Any], body: Any) -> None:
    with contextlib.suppress(ProviderError):
        parse(body)


def test_every_seed_is_good() -> None:
    for parse, body in SEEDS:
        assert parse(body) is not None
