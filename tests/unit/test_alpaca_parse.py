"""Alpaca's answers as recorded, and as nasty as they could be.

The recordings are not in this repository (they are the vendor's data): VOLARIS_FIXTURES names their
folder, or they lie beside the checkout in ../shared/fixtures.
"""

import json
import os
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.domain.models import Quote, Ranking, Timeframe
from actors.providers.alpaca import (
    build_bars,
    build_chain,
    build_contracts,
    build_news,
    invalid_symbols,
    parse_active,
    parse_bars,
    parse_hours,
    parse_movers,
    parse_news,
    parse_quote,
    parse_quotes,
    refusal,
    span_of,
)
from actors.providers.alpaca_chain import assemble, parse_contracts, parse_snapshots
from actors.providers.base import Denied, Malformed, ProviderError, RateLimited, Unsupported
from tests.unit.spoiling import NASTY, spoiled

RECORDINGS = (
    Path(os.environ.get("VOLARIS_FIXTURES") or Path(__file__).parents[3] / "shared" / "fixtures")
    / "alpaca"
)
recorded = pytest.mark.skipif(not RECORDINGS.is_dir(), reason=f"no recordings in {RECORDINGS}")


def recording(name: str) -> Any:
    return json.loads((RECORDINGS / name).read_text(encoding="utf-8"))


# --- recordings --------------------------------------------------------------------------------------


def quoted(body: Any) -> int:
    return len(parse_quotes(body, list(body), "sip").quotes)


def one_quoted(body: Any) -> int:
    return int(parse_quote(body, body["symbol"], "sip").last == body["latestTrade"]["p"])


def latest(part: str, key: str) -> Callable[[Any], int]:
    """Count rows that Alpaca also tells as a part of a snapshot."""
    return lambda body: quoted({symbol: {key: row} for symbol, row in body[part].items()})


def barred(body: Any) -> int:
    return len(parse_bars(body, list(body["bars"]), Timeframe.MINUTE).bars)


def one_barred(body: Any) -> int:
    return barred({"bars": {body["symbol"]: body["bars"]}})


def last_barred(body: Any) -> int:
    return barred({"bars": {symbol: [row] for symbol, row in body["bars"].items()}})


def chained(body: Any) -> int:
    return len(assemble("AAPL", [parse_snapshots(body)[0]], {}, delayed=True))


def option(part: str, key: str) -> Callable[[Any], int]:
    return lambda body: chained(
        {"snapshots": {name: {key: row} for name, row in body[part].items()}}
    )


def option_barred(body: Any) -> int:
    return sum(barred({"bars": {name: rows}}) for name, rows in body["bars"].items())


def moved(body: Any) -> int:
    return sum(len(parse_movers(body, by).rows) for by in (Ranking.GAINERS, Ranking.LOSERS))


def told(body: Any) -> int:
    return len(parse_news(body)[0])


# file: (how it is counted, rows kept, rows dropped and why)
FILES: dict[str, tuple[Callable[[Any], int], int, int]] = {
    "gotest_TestGetBars.json": (barred, 5, 0),
    "gotest_TestGetBars_Adjustment.json": (barred, 2, 0),
    "gotest_TestGetMultiBars.json": (barred, 6, 0),
    "gotest_TestGetNews.json": (told, 2, 0),
    "gotest_TestGetNews_1.json": (told, 1, 0),
    "gotest_TestLatestBars.json": (last_barred, 2, 0),
    "gotest_TestLatestQuotes.json": (latest("quotes", "latestQuote"), 3, 0),
    "gotest_TestLatestTrades.json": (latest("trades", "latestTrade"), 2, 0),
    "gotest_TestSnapshot.json": (quoted, 1, 0),
    "gotest_TestSnapshots.json": (quoted, 2, 1),  # "INVALID": null is a symbol nobody knows
    "openapi_example_v1beta1_news.json": (told, 1, 0),
    "openapi_example_v1beta1_options_bars.json": (option_barred, 1, 0),
    "openapi_example_v1beta1_options_quotes_latest.json": (option("quotes", "latestQuote"), 2, 0),
    "openapi_example_v1beta1_options_snapshots.json": (chained, 1, 0),
    "openapi_example_v1beta1_options_snapshots_underlying_symbol.json": (chained, 1, 0),
    "openapi_example_v1beta1_options_trades_latest.json": (option("trades", "latestTrade"), 1, 0),
    "openapi_example_v1beta1_screener_market_type_movers.json": (moved, 4, 0),
    "openapi_example_v2_stocks_bars.json": (barred, 1, 0),
    "openapi_example_v2_stocks_bars_latest.json": (last_barred, 2, 0),
    "openapi_example_v2_stocks_quotes_latest.json": (latest("quotes", "latestQuote"), 2, 0),
    "openapi_example_v2_stocks_snapshots.json": (quoted, 2, 0),
    "openapi_example_v2_stocks_symbol_bars.json": (one_barred, 1, 0),
    "openapi_example_v2_stocks_symbol_snapshot.json": (one_quoted, 1, 0),
    "openapi_example_v2_stocks_trades_latest.json": (latest("trades", "latestTrade"), 1, 0),
}
NOT_ANSWERS = {"market-data-api.openapi.json"}  # the vendor's description of its answers


def sized(body: Any) -> int:
    """Count the rows of a recording without our parsers."""
    for key in ("bars", "quotes", "trades", "snapshots", "news"):
        if key in body:
            parts = body[key]
            if isinstance(parts, list):
                return len(parts)
            return sum(len(part) if isinstance(part, list) else 1 for part in parts.values())
    if "gainers" in body:
        return len(body["gainers"]) + len(body["losers"])
    return 1 if "symbol" in body else len(body)


@recorded
@pytest.mark.parametrize("name", FILES)
def test_every_recording_is_read_to_the_last_row(name: str) -> None:
    counted, kept, dropped = FILES[name]
    body = recording(name)
    assert counted(body) == kept
    assert sized(body) == kept + dropped


@recorded
def test_no_recording_is_left_out() -> None:
    assert {path.name for path in RECORDINGS.glob("*.json")} == {*FILES, *NOT_ANSWERS}


@recorded
def test_a_recorded_snapshot_loses_nothing() -> None:
    body = recording("gotest_TestSnapshots.json")
    batch = parse_quotes(body, ["AAPL", "MSFT", "INVALID"], "sip")
    assert batch.unknown == ("INVALID",)
    apple, microsoft = batch.quotes
    assert (apple.last, apple.bid, apple.ask) == (133.4201, 133.42, 133.43)
    assert (apple.bid_size, apple.ask_size, apple.volume) == (15, 7, 25846800)
    assert (apple.open, apple.high, apple.low, apple.close) == (132.04, 134.07, 131.83, 133.42)
    assert apple.previous_close == 131.46
    assert apple.change == pytest.approx(133.4201 - 131.46)
    assert apple.change_percent == pytest.approx((133.4201 / 131.46 - 1) * 100, abs=1e-4)
    assert apple.at == datetime(2021, 5, 3, 14, 48, 7, 257820, tzinfo=UTC)  # of its nanoseconds
    assert microsoft.previous_close is microsoft.change is None  # "prevDailyBar": null


@recorded
def test_before_the_open_the_daily_bar_is_of_the_day_before() -> None:
    [apple, _] = parse_quotes(
        recording("openapi_example_v2_stocks_snapshots.json"), ["AAPL", "TSLA"], "sip"
    ).quotes
    assert apple.at == datetime(2022, 8, 17, 10, 18, 27, 52763, tzinfo=UTC)
    assert apple.open is apple.high is apple.low is apple.close is apple.volume is None
    assert apple.previous_close == 173.03  # of the 16th, not the 173.19 of the 15th
    assert apple.change == pytest.approx(172.61 - 173.03)


@recorded
def test_recorded_daily_bars_lie_on_their_new_york_dates() -> None:
    page = parse_bars(recording("gotest_TestGetMultiBars.json"), ["NIO", "AAPL"], Timeframe.DAY)
    assert [(bar.symbol, bar.at.day) for bar in page.bars] == [
        (symbol, day) for symbol in ("AAPL", "NIO") for day in (13, 14, 15)
    ]
    assert {bar.at.timestamp() % 86_400 for bar in page.bars} == {0}
    assert page.next is None
    first = page.bars[0]
    assert (first.open, first.high, first.low, first.close) == (141.21, 141.4, 139.2, 140.91)
    assert first.volume == 78993712


@recorded
def test_a_recorded_page_tells_of_the_next() -> None:
    page = parse_bars(recording("gotest_TestGetBars_Adjustment.json"), ["GE"], Timeframe.DAY)
    assert page.next == "R0V8RHwxNzEyMTE2ODAwMDAwMDAwMDAw"


@recorded
def test_a_recorded_contract_loses_nothing() -> None:
    block, after = parse_snapshots(recording("openapi_example_v1beta1_options_snapshots.json"))
    assert after == "QUFQTDI0MDYyMTAwMDIyMHwx"
    chain = assemble("AAPL", [block], {"AAPL240426C00162500": (237.0, 100.0)}, delayed=True)
    assert chain.contract.tolist() == ["AAPL  240426C00162500"]
    assert chain.expiration.tolist() == [date(2024, 4, 26)]
    assert (chain.strike[0], chain.call[0], chain.standard[0]) == (162.5, True, True)
    assert (chain.bid[0], chain.ask[0], chain.last[0]) == (4.15, 4.3, 4.1)
    assert (chain.bid_size[0], chain.ask_size[0], chain.open_interest[0]) == (16, 91, 237)
    assert chain.iv[0] == 0.3372405712050441  # a fraction
    greeks = chain.delta[0], chain.gamma[0], chain.theta[0], chain.vega[0], chain.rho[0]
    assert greeks == pytest.approx(
        (0.7521304, 0.0624143, -0.2847623, 0.0475405, 0.0099107), rel=1e-5
    )
    assert chain.at == datetime(2024, 4, 22, 19, 59, 59, 992000, tzinfo=UTC)
    assert np.isnan(chain.volume[0])
    assert chain.spot is None
    assert chain.delayed


@recorded
def test_recorded_news() -> None:
    [story], after = parse_news(recording("openapi_example_v1beta1_news.json"))
    assert after == "MTY0MDk0ODkyMzAwMDAwMDAwMHwyNDg0MzE3MQ=="
    assert (story.id, story.publisher, story.symbols) == ("24843171", "benzinga", ("AAPL",))
    assert story.at == datetime(2021, 12, 31, 11, 8, 42, tzinfo=UTC)
    stories, _ = parse_news(recording("gotest_TestGetNews.json"))
    assert "week's bullish" in (stories[1].summary or "")  # it came as &#39;


# --- quotes ------------------------------------------------------------------------------------------

AT = "2026-11-24T15:30:00.123456789Z"  # a Tuesday, 10:30 in New York


def daily(day: int, close: float, volume: int = 7000) -> dict[str, Any]:
    return {"t": f"2026-11-{day}T05:00:00Z", "o": 9.8, "h": 10.4, "l": 9.7, "c": close, "v": volume}


def snapshot(**parts: Any) -> dict[str, Any]:
    return {
        "latestTrade": {"t": AT, "p": 10.0, "s": 100, "x": "V", "c": ["@"], "i": 1, "z": "C"},
        "latestQuote": {"t": AT, "ap": 10.1, "as": 3, "bp": 9.9, "bs": 2, "c": ["R"]},
        "minuteBar": daily(24, 10.0),
        "dailyBar": daily(24, 10.0),
        "prevDailyBar": daily(23, 9.5),
    } | parts


def one(entry: Any, feed: str = "sip") -> Quote:
    [quote] = parse_quotes({"X": entry}, ["X"], feed).quotes
    return quote


@pytest.mark.parametrize(
    ("feed", "volume", "delayed"),
    [("iex", None, False), ("delayed_sip", 7000, True), ("sip", 7000, False)],
)
def test_one_exchanges_volume_is_not_the_markets(
    feed: str, volume: int | None, delayed: bool
) -> None:
    quote = one(snapshot(), feed)
    assert (quote.volume, quote.delayed) == (volume, delayed)


def test_over_a_weekend_the_day_is_the_last_session() -> None:
    friday = "2026-11-20T20:59:59Z"
    quote = one(
        snapshot(
            latestTrade={"t": friday, "p": 10.0},
            latestQuote=None,
            dailyBar=daily(20, 10.0),
            prevDailyBar=daily(19, 9.5),
        )
    )
    assert (quote.open, quote.previous_close) == (9.8, 9.5)


@pytest.mark.parametrize(
    "part", ["latestTrade", "latestQuote", "minuteBar", "dailyBar", "prevDailyBar"]
)
@pytest.mark.parametrize("value", [..., None, [], "x", {}])
def test_every_part_may_be_missing(part: str, value: Any) -> None:
    entry = snapshot()
    del entry[part]
    assert one(entry | ({} if value is ... else {part: value})).at.year == 2026


def test_no_ask_is_no_zero_and_a_zero_bid_is_one() -> None:
    quote = one(snapshot(latestQuote={"t": AT, "ap": 0, "as": 0, "bp": 0, "bs": 0}))
    assert quote.ask is None
    assert (quote.bid, quote.bid_size) == (0.0, 0)


@pytest.mark.parametrize(
    "nothing", [-999, "NaN", float("nan"), None, "10.0", True, [], 10**400, -1, 0]
)
def test_every_way_of_saying_nothing_is_none(nothing: Any) -> None:
    quote = one(snapshot(latestTrade={"t": AT, "p": nothing}))
    assert quote.last is quote.change is quote.change_percent is None
    assert quote.bid == 9.9


def test_one_bad_entry_fails_alone() -> None:
    body = {
        "A": snapshot(),
        "B": None,
        "C": "x",
        "D": {"dailyBar": daily(24, 10.0)},
        "E": {"latestTrade": {"t": AT}},
    }
    batch = parse_quotes(body, list("ABCDEF"), "iex")
    assert [quote.symbol for quote in batch.quotes] == ["A"]
    assert batch.unknown == ("B", "F")
    assert dict(batch.failed) == {
        "C": "its snapshot is an object, was str",
        "D": "it has neither a trade nor a quote",
        "E": "there is no price in it",
    }


def test_nothing_known_is_an_answer_only_where_it_can_be_one() -> None:
    assert parse_quotes({}, ["A"], "iex").unknown == ("A",)
    assert parse_quotes({"A": None, "B": None}, ["A", "B"], "iex").unknown == ("A", "B")
    for body in ({}, {"Z": snapshot()}, {"error": "x"}):
        with pytest.raises(Malformed):
            parse_quotes(body, ["A", "B"], "iex")


# --- bars --------------------------------------------------------------------------------------------


def bar(at: str, **fields: Any) -> dict[str, Any]:
    return {"t": at, "o": 1.0, "h": 2.0, "l": 0.5, "c": 1.5, "v": 7, "n": 2, "vw": 1.2} | fields


@pytest.mark.parametrize(
    ("stamp", "day"), [("2026-07-01T04:00:00Z", (7, 1)), ("2026-11-24T05:00:00Z", (11, 24))]
)
def test_midnight_in_new_york_is_the_date(stamp: str, day: tuple[int, int]) -> None:
    [found] = parse_bars({"bars": {"X": [bar(stamp)]}}, ["X"], Timeframe.DAY).bars
    assert found.at == datetime(2026, *day, tzinfo=UTC)


def test_bars_are_by_symbol_and_then_time_and_what_is_none_is_left_out() -> None:
    first, second = "2026-11-24T15:30:00Z", "2026-11-24T15:31:00Z"
    body = {
        "bars": {
            "B": [bar(second), bar(first), bar(first, c=1.9), bar(first, h=0.1), None, bar("soon")],
            "A": [bar(second, v=None)],
            "C": None,
            "D": 7,
            "E": [bar(first)],
        },
        "next_page_token": "QnxNfA==",
    }
    page = parse_bars(body, list("ABCD"), Timeframe.MINUTE)
    assert [(b.symbol, b.at.minute, b.close, b.volume) for b in page.bars] == [
        ("A", 31, 1.5, 0),
        ("B", 30, 1.9, 7),
        ("B", 31, 1.5, 7),
    ]
    assert page.next == "QnxNfA=="


@pytest.mark.parametrize("nothing", [{}, None])
def test_a_map_of_nothing_is_no_bars(nothing: Any) -> None:
    page = parse_bars({"bars": nothing, "next_page_token": None}, ["X"], Timeframe.DAY)
    assert page.bars == ()
    assert page.next is None


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"bars": []},
        {"bars": {"X": [None]}},
        {"bars": {}, "next_page_token": 7},  # to take it for the end would lose bars quietly
    ],
)
def test_what_is_no_page_of_bars_is_malformed(body: Any) -> None:
    with pytest.raises(Malformed):
        parse_bars(body, ["X"], Timeframe.DAY)


def test_daily_bars_are_asked_for_by_their_stamps() -> None:
    span = span_of(
        Timeframe.DAY, datetime(2026, 10, 30, tzinfo=UTC), datetime(2026, 11, 3, tzinfo=UTC)
    )
    assert span is not None
    query = build_bars(Timeframe.DAY, *span)
    assert (query["start"], query["end"]) == ("2026-10-30T04:00:00Z", "2026-11-02T05:00:00Z")
    assert (query["timeframe"], query["adjustment"], query["limit"]) == ("1Day", "split", "10000")
    noon = datetime(2026, 10, 30, 12, tzinfo=UTC)
    assert span_of(Timeframe.DAY, noon, noon + timedelta(hours=1)) is None


def test_the_end_is_theirs_inclusive_and_ours_is_not() -> None:
    start = datetime(2026, 11, 24, 15, 30, tzinfo=UTC)
    span = span_of(Timeframe.FIVE_MINUTES, start, start + timedelta(minutes=5))
    assert span is not None
    query = build_bars(Timeframe.FIVE_MINUTES, *span)
    assert (query["start"], query["end"]) == ("2026-11-24T15:30:00Z", "2026-11-24T15:34:59Z")
    assert (query["timeframe"], query["feed"]) == ("5Min", "sip")


# --- chains ------------------------------------------------------------------------------------------


def contract(**parts: Any) -> dict[str, Any]:
    return {
        "latestQuote": {"t": AT, "ap": 1.2, "as": 9, "bp": 1.1, "bs": 8, "c": "A"},
        "latestTrade": {"t": AT, "p": 1.15, "s": 1, "c": "I", "x": "A"},
        "dailyBar": daily(24, 1.15, 321),
        "impliedVolatility": 0.25,
        "greeks": {"delta": 0.5, "gamma": 0.06, "theta": -0.2, "vega": 0.1, "rho": 0.02},
    } | parts


def test_a_chain_of_two_pages_is_in_order_and_whole() -> None:
    first, _ = parse_snapshots(
        {
            "snapshots": {
                "BRKB261218P00500000": contract(),
                "BRKB261218C00500000": contract(latestQuote={"t": AT, "ap": 0, "bp": 0}),
                "BRKB1261218C00400000": contract(),
                "no contract": contract(),
                "BRKB261399C00400000": contract(),  # nor is this one: there is no month 13
            }
        }
    )
    second, after = parse_snapshots(
        {
            "snapshots": {
                "BRKB261127C00505000": {"latestQuote": {"t": AT, "bp": 1.0}},
                "BRKB261218P00500000": contract(),
                "BRKB261218C00510000": None,
            },
            "next_page_token": None,
        }
    )
    contracts, more = parse_contracts(
        {
            "option_contracts": [
                {"symbol": "BRKB261218P00500000", "open_interest": "237", "size": "100"},
                {"symbol": "BRKB261127C00505000", "open_interest": None, "size": "100"},
                {"symbol": "BRKB261218C00500000", "open_interest": "0", "size": "10"},
                {"symbol": None},
                7,
            ],
            "next_page_token": "MTAwMA==",
        }
    )
    assert (after, more) == (None, "MTAwMA==")
    chain = assemble("BRK.B", [first, second], contracts, delayed=False)
    assert chain.contract.tolist() == [
        "BRKB  261127C00505000",
        "BRKB1 261218C00400000",
        "BRKB  261218C00500000",
        "BRKB  261218P00500000",
        "BRKB  261218C00510000",
    ]
    nan = float("nan")
    assert chain.open_interest.tolist() == pytest.approx([nan, nan, 0, 237, nan], nan_ok=True)
    assert chain.ask.tolist() == pytest.approx([nan, 1.2, nan, 1.2, nan], nan_ok=True)
    assert chain.bid.tolist() == pytest.approx([1.0, 1.1, 0, 1.1, nan], nan_ok=True)
    assert chain.iv.tolist() == pytest.approx([nan, 0.25, 0.25, 0.25, nan], nan_ok=True)
    assert chain.volume.tolist() == pytest.approx([nan, 321, 321, 321, nan], nan_ok=True)
    assert chain.standard.tolist() == [True, False, False, True, True]
    assert np.isnat(chain.quoted_at).tolist() == [False, False, False, False, True]


def test_yesterdays_option_volume_is_not_todays() -> None:
    block, _ = parse_snapshots(
        {"snapshots": {"X261218C00010000": contract(dailyBar=daily(23, 1.15, 321))}}
    )
    assert np.isnan(assemble("X", [block], {}, delayed=True).volume).all()


def test_a_chain_without_a_time_is_malformed() -> None:
    block, _ = parse_snapshots({"snapshots": {"X261218C00010000": {}}})
    with pytest.raises(Malformed, match="without a time"):
        assemble("X", [block], {}, delayed=True)


def test_contracts_are_asked_for_beyond_the_week() -> None:
    query = build_contracts("BRK.B", None, None, date(2026, 11, 24))
    assert query["underlying_symbols"] == "BRK.B"
    assert query["expiration_date_gte"] == "2026-11-24"
    assert query["expiration_date_lte"] > "2031"
    query = build_chain(date(2026, 12, 1), date(2026, 12, 31), live=False)
    assert (query["expiration_date_gte"], query["expiration_date_lte"]) == (
        "2026-12-01",
        "2026-12-31",
    )
    assert (query["feed"], build_chain(None, None, live=True)["feed"]) == ("indicative", "opra")


# --- movers, news, hours -----------------------------------------------------------------------------


def test_the_most_active_have_volumes_and_no_prices() -> None:
    at, volumes = parse_active(
        {
            "last_updated": AT,
            "most_actives": [
                {"symbol": "AAPL", "volume": 122709184, "trade_count": 639626},
                {"symbol": "BRK.B", "volume": 5},
                {"symbol": "x y", "volume": 5},
                {"symbol": "NOVOL"},
                None,
            ],
        }
    )
    assert volumes == {"AAPL": 122709184, "BRK.B": 5}
    assert at == datetime(2026, 11, 24, 15, 30, 0, 123456, tzinfo=UTC)


def test_news_without_what_makes_it_news_is_left_out() -> None:
    story = {
        "id": 7,
        "headline": "AT&amp;T\n rises",
        "created_at": AT,
        "url": "https://example.org/7",
        "symbols": ["T", "BTC/USD", 5, "T"],
        "summary": "",
        "source": None,
    }
    bad = [
        {"id": True},
        {"id": ""},
        {"headline": ""},
        {"created_at": "now"},
        {"url": "javascript:x"},
    ]
    found, after = parse_news({"news": [story, *({**story, **part} for part in bad), None]})
    assert after is None
    [kept] = found
    assert (kept.headline, kept.summary, kept.publisher) == ("AT&T rises", None, None)
    assert kept.symbols == ("T", "BTC.USD")


def test_the_market_wide_news_names_no_symbols() -> None:
    since = datetime(2026, 11, 24, tzinfo=UTC)
    query = build_news([], since, 200)
    assert "symbols" not in query
    assert (query["limit"], query["start"]) == ("50", "2026-11-24T00:00:00Z")
    assert build_news(["AAPL", "BRK.B"], since, 7)["symbols"] == "AAPL,BRK.B"
    assert build_news(["AAPL"], since, 7)["limit"] == "7"


def test_hours_are_new_yorks_and_some_days_are_short() -> None:
    body = [
        {"date": "2026-11-27", "open": "09:30", "close": "13:00", "session_open": "0400"},
        {"date": "2026-07-01", "open": "09:30", "close": "16:00"},
    ]
    summer, short = parse_hours(body)
    assert (summer.opens.hour, summer.closes.hour) == (13, 20)
    assert short.closes == datetime(2026, 11, 27, 18, tzinfo=UTC)
    assert parse_hours([]) == ()


@pytest.mark.parametrize(
    "day",
    [None, {}, {"date": "2026-11-27"}, {"date": "2026-11-27", "open": "16:00", "close": "09:30"}],
)
def test_a_day_that_cannot_be_read_is_not_a_closed_one(day: Any) -> None:
    with pytest.raises(Malformed):
        parse_hours([{"date": "2026-07-01", "open": "09:30", "close": "16:00"}, day])


# --- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "symbols"),
    [
        ("code=400, message=invalid symbol: ANG-PD", {"ANG-PD"}),
        ("invalid symbol: X", {"X"}),
        ("refused the request: invalid symbol(s): A, B-C", {"A", "B-C"}),
        ("invalid feed: x", set()),
    ],
)
def test_the_symbols_it_blames(words: str, symbols: set[str]) -> None:
    assert invalid_symbols(words) == symbols


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (403, "subscription does not permit querying recent SIP data", Unsupported),
        (403, "OPRA agreement is not signed", Unsupported),
        (403, "forbidden.", None),  # by its status: Denied
        (401, "unauthorized.", None),
        (400, "invalid symbol: X", Unsupported),
        (422, "expiration_date_gte is invalid", Unsupported),
        (429, "too many requests.", None),
        (500, "internal server error occurred", None),
        (400, 7, None),
    ],
)
def test_refusals_are_read_by_their_words(status: int, message: Any, kind: Any) -> None:
    found = refusal(status, {"code": status * 100_000, "message": message})
    assert type(found) is (kind or type(None))


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("too many requests.", RateLimited),
        ("rate limit exceeded", RateLimited),
        ("subscription does not permit querying recent SIP data", Unsupported),
        ("forbidden.", Denied),
        ("internal server error occurred", Malformed),
    ],
)
def test_a_good_status_with_an_errors_text_is_that_error(message: str, kind: Any) -> None:
    for parse, _ in SEEDS:
        with pytest.raises(ProviderError) as caught:
            parse({"message": message})
        assert type(caught.value) is kind


# --- any body at all ---------------------------------------------------------------------------------

SEEDS: list[tuple[Callable[[Any], Any], Any]] = [
    (lambda body: parse_quotes(body, ["A", "B", "C"], "iex"), {"A": snapshot(), "B": None}),
    (
        lambda body: parse_bars(body, ["A", "B"], Timeframe.DAY),
        {"bars": {"A": [bar(AT), bar(AT)], "B": []}, "next_page_token": "QQ=="},
    ),
    (
        lambda body: parse_bars(body, ["A", "B"], Timeframe.MINUTE),
        {"bars": {"A": [bar(AT)], "B": [bar(AT)]}, "next_page_token": None},
    ),
    (
        lambda body: assemble("A", [parse_snapshots(body)[0]], {}, delayed=True),
        {"snapshots": {"A261218C00010000": contract(), "A261218P00010000": contract()}},
    ),
    (
        parse_contracts,
        {
            "option_contracts": [
                {"symbol": "A261218C00010000", "open_interest": "237", "size": "100"}
            ],
            "next_page_token": None,
        },
    ),
    *(
        (
            lambda body, by=by: parse_movers(body, by),
            {
                by.value: [{"symbol": "A", "percent_change": 1.5, "change": 0.1, "price": 4.15}],
                "market_type": "stocks",
                "last_updated": AT,
            },
        )
        for by in (Ranking.GAINERS, Ranking.LOSERS)
    ),
    (
        parse_active,
        {"most_actives": [{"symbol": "A", "volume": 5, "trade_count": 2}], "last_updated": AT},
    ),
    (
        parse_news,
        {
            "news": [
                {
                    "id": 7,
                    "headline": "A rises",
                    "created_at": AT,
                    "url": "https://example.org",
                    "symbols": ["A"],
                    "summary": "x",
                    "source": "benzinga",
                }
            ],
            "next_page_token": "QQ==",
        },
    ),
    (parse_hours, [{"date": "2026-11-27", "open": "09:30", "close": "13:00"}]),
]


@pytest.mark.parametrize("at", range(len(SEEDS)))
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_body_is_read_or_refused(at: int, data: st.DataObject) -> None:
    parse, seed = SEEDS[at]
    parse(seed)  # the seed itself is good
    try:
        parse(data.draw(spoiled(seed)))
    except ProviderError:
        return


@settings(max_examples=200, deadline=None)
@given(body=spoiled(SEEDS[0][1]))
def test_every_symbol_is_in_one_part_of_the_batch(body: Any) -> None:
    try:
        batch = parse_quotes(body, ["A", "B", "C"], "iex")
    except ProviderError:
        return
    found = [quote.symbol for quote in batch.quotes]
    assert sorted([*found, *batch.unknown, *(s for s, _ in batch.failed)]) == ["A", "B", "C"]


@given(
    status=st.integers(100, 599), body=st.one_of(NASTY, st.fixed_dictionaries({"message": NASTY}))
)
def test_any_refusal_is_one(status: int, body: Any) -> None:
    assert isinstance(refusal(status, body), ProviderError | None)
