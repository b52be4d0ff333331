"""Finnhub's answers: the few recorded lines, the shapes of its specification, and nasty ones.

The recordings are not in this repository (they are the vendor's data): VOLARIS_FIXTURES names their
folder, or they lie beside the checkout in ../shared/fixtures.
"""

import copy
import json
import os
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.domain import calendar
from actors.domain.models import Timeframe
from actors.providers.base import Denied, Malformed, ProviderError, RateLimited, Unsupported
from actors.providers.finnhub import (
    build_bars,
    newest,
    parse_bars,
    parse_earnings,
    parse_hours,
    parse_news,
    parse_profile,
    parse_quote,
    parse_recommendations,
    refusal,
)
from tests.unit.spoiling import NASTY, spoiled

RECORDINGS = (
    Path(os.environ.get("VOLARIS_FIXTURES") or Path(__file__).parents[3] / "shared" / "fixtures")
    / "finnhub"
)
recorded = pytest.mark.skipif(not RECORDINGS.is_dir(), reason=f"no recordings in {RECORDINGS}")

NOW = datetime(2026, 11, 24, 17, 0, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
QUOTE = {"c": 302.25, "d": -2.66, "dp": -0.8724, "h": 305.66, "l": 300.57, "o": 305.1}
QUOTE |= {"pc": 304.91, "t": 1786564800}
NOBODY = {"c": 0, "d": None, "dp": None, "h": 0, "l": 0, "o": 0, "pc": 0, "t": 0}
CANDLES = {
    "c": [10.5, 10.6],
    "h": [11.0, 11.0],
    "l": [9.5, 10.0],
    "o": [10.0, 10.5],
    "t": [SECONDS, SECONDS + 60],
    "v": [1000, 1200.5],
    "s": "ok",
}
PROFILE = {
    "country": "US",
    "currency": "USD",
    "exchange": "NASDAQ/NMS (GLOBAL MARKET)",
    "finnhubIndustry": "Technology",
    "ipo": "1980-12-12",
    "marketCapitalization": 1415993,
    "name": "Apple Inc",
    "shareOutstanding": 4375.48,
    "ticker": "AAPL",
    "weburl": "https://www.apple.com/",
}
METRIC = {
    "metric": {
        "10DayAverageTradingVolume": 32.50147,
        "52WeekHigh": 310.43,
        "52WeekLow": 149.22,
        "beta": 1.2,
        "peTTM": 30.5,
        "epsTTM": 6.2,
        "currentDividendYieldTTM": 0.44,
    },
    "metricType": "all",
    "series": {"annual": {}, "quarterly": {}},
    "symbol": "AAPL",
}
STORY = {
    "category": "company",
    "datetime": SECONDS,
    "headline": "A thing happened",
    "id": 25286,
    "image": "",
    "related": "AAPL",
    "source": "The Times",
    "summary": "It did.",
    "url": "https://example.com/1",
}
TREND = {"buy": 24, "hold": 7, "period": "2026-11-01", "sell": 1, "strongBuy": 13}
TREND |= {"strongSell": 0, "symbol": "AAPL"}
REPORT = {
    "date": "2026-10-29",
    "epsActual": None,
    "epsEstimate": 1.62,
    "hour": "amc",
    "quarter": 4,
    "revenueActual": None,
    "revenueEstimate": 1.1e11,
    "symbol": "AAPL",
    "year": 2026,
}
HOLIDAYS = {
    "data": [
        {"eventName": "Christmas", "atDate": "2026-12-25", "tradingHour": ""},
        {"eventName": "Christmas", "atDate": "2026-12-24", "tradingHour": "09:30-13:00"},
        {"eventName": "Thanksgiving Day", "atDate": "2026-11-27", "tradingHour": "09:30-13:00"},
        {"eventName": "Thanksgiving Day", "atDate": "2026-11-26", "tradingHour": ""},
        {"eventName": "New Year", "atDate": "2026-01-01", "tradingHour": ""},
    ],
    "exchange": "US",
    "timezone": "America/New_York",
}


def recording(name: str) -> Any:
    return json.loads((RECORDINGS / name).read_text(encoding="utf-8"))


# --- what was recorded -------------------------------------------------------------------------------


@recorded
def test_every_recording_is_read() -> None:
    """Read 4 quotes and a profile; openapi.yaml and its shapes hold types and no answer."""
    read, none = {}, set()
    for path in sorted(RECORDINGS.iterdir()):
        if path.name == "quotes_real.json":
            batches = [parse_quote(row, "X") for row in recording(path.name)]
            read[path.name] = sum(len(batch.quotes) for batch in batches)
        elif path.name == "profile2_AAPL_partial.json":
            found = parse_profile(recording(path.name), {}, "AAPL", NOW)
            assert found is not None
            assert (found.market_cap, found.listed) == (1415993e6, date(1980, 12, 12))
            assert found.shares_outstanding == pytest.approx(4375.48e6, rel=1e-6)
            read[path.name] = 1
        else:
            none.add(path.name)
    assert read == {"quotes_real.json": 4, "profile2_AAPL_partial.json": 1}
    assert none == {"README.md", "openapi.yaml", "openapi_response_shapes.json"}


# --- quotes ------------------------------------------------------------------------------------------


def test_a_quote() -> None:
    (quote,) = parse_quote(QUOTE, "AAPL").quotes
    assert (quote.symbol, quote.source, quote.last) == ("AAPL", "finnhub", 302.25)
    assert (quote.open, quote.high, quote.low) == (305.1, 305.66, 300.57)
    assert (quote.previous_close, quote.change, quote.change_percent) == (304.91, -2.66, -0.8724)
    assert quote.at == datetime(2026, 8, 12, 20, 0, tzinfo=UTC)  # the close
    assert quote.volume is quote.bid is quote.ask is None


def test_zeros_are_nobody_and_one_zero_is_no_value() -> None:
    assert parse_quote(NOBODY, "NOPE").unknown == ("NOPE",)
    (quote,) = parse_quote(QUOTE | {"c": 0}, "AAPL").quotes
    assert (quote.last, quote.previous_close) == (None, 304.91)
    assert [s for s, _ in parse_quote(QUOTE | {"t": 0}, "AAPL").failed] == ["AAPL"]
    unreadable = QUOTE | {"c": "NaN", "pc": None}
    assert [s for s, _ in parse_quote(unreadable, "AAPL").failed] == ["AAPL"]
    for body in ({}, [], None, "text"):
        with pytest.raises(Malformed):
            parse_quote(body, "AAPL")


# --- bars --------------------------------------------------------------------------------------------


def test_bars_come_in_columns() -> None:
    query = build_bars("BRK.B", Timeframe.MINUTE, NOW, NOW + timedelta(minutes=2))
    assert query == {
        "symbol": "BRK.B",
        "resolution": "1",
        "from": str(SECONDS),
        "to": str(SECONDS + 119),
    }
    first, second = parse_bars(CANDLES, "A", Timeframe.MINUTE)
    assert (first.at, first.open, first.high, first.low) == (NOW, 10.0, 11.0, 9.5)
    assert (second.close, second.volume) == (10.6, 1200)
    assert parse_bars({"s": "no_data"}, "A", Timeframe.DAY) == ()


def test_days_lie_at_midnight_whatever_the_hour_of_their_stamp() -> None:
    stamps = [datetime(2026, 11, 23, hour, tzinfo=UTC) for hour in (0, 5)]
    for stamp in stamps:
        one = {k: v[:1] for k, v in CANDLES.items() if k != "s"}
        one |= {"t": [int(stamp.timestamp())], "s": "ok"}
        (bar,) = parse_bars(one, "A", Timeframe.DAY)
        assert bar.at == datetime(2026, 11, 23, tzinfo=UTC)


@pytest.mark.parametrize("column", list("tohlc"))
def test_a_bar_without_a_price_is_left_out(column: str) -> None:
    holed = CANDLES | {column: [None, CANDLES[column][1]]}  # type: ignore[index]
    assert len(parse_bars(holed, "A", Timeframe.MINUTE)) == 1
    for bad in ({"s": "error"}, CANDLES | {column: [1]}, CANDLES | {column: [None, 0]}):
        with pytest.raises(Malformed):
            parse_bars(bad, "A", Timeframe.MINUTE)


# --- companies ---------------------------------------------------------------------------------------


def test_a_profile_in_dollars() -> None:
    found = parse_profile(PROFILE, METRIC, "AAPL", NOW)
    assert found is not None
    assert (found.name, found.industry, found.country) == ("Apple Inc", "Technology", "US")
    assert (found.market_cap, found.average_volume) == (1415993e6, 32.50147e6)
    assert (found.beta, found.pe, found.eps, found.dividend_yield) == (1.2, 30.5, 6.2, 0.44)
    assert (found.high_52w, found.low_52w) == (310.43, 149.22)


def test_an_empty_profile_is_a_fund_or_nobody() -> None:
    assert parse_profile({}, {"metric": {}}, "NOPE", NOW) is None
    fund = parse_profile({}, METRIC, "SPY", NOW)
    assert fund is not None
    assert (fund.name, fund.high_52w) == (None, 310.43)
    foreign = parse_profile(PROFILE | {"currency": "TWD"}, METRIC, "TSM", NOW)
    assert foreign is not None
    assert foreign.market_cap is None
    blank = METRIC | {"metric": {"beta": 0}}
    still = parse_profile(PROFILE | {"marketCapitalization": 0, "ipo": ""}, blank, "X", NOW)
    assert still is not None
    assert still.market_cap is still.beta is still.listed is None


def test_news() -> None:
    (story,) = parse_news([STORY], "AAPL")
    assert (story.id, story.at, story.publisher) == ("25286", NOW, "The Times")
    assert story.symbols == ("AAPL",)
    (general,) = parse_news([STORY | {"related": ""}])
    assert general.symbols == ()
    two = parse_news([STORY | {"related": "MSFT,BRK.B,0700.HK"}], "AAPL")
    assert two[0].symbols == ("MSFT", "BRK.B", "AAPL")
    unfit = [STORY | {name: None} for name in ("datetime", "headline", "url")]
    assert parse_news([*unfit, None, STORY]) == parse_news([STORY])


def test_the_newest_stories_are_each_told_once() -> None:
    old, new = parse_news([STORY | {"id": 1, "datetime": SECONDS - 60}, STORY])
    assert newest([old, new, new], NOW - timedelta(hours=1), 10) == (new, old)
    assert newest([old, new], NOW, 10) == (new,)
    assert newest([old, new], NOW - timedelta(hours=1), 1) == (new,)


def test_recommendations_by_month() -> None:
    october = TREND | {"period": "2026-10-01", "buy": 20}
    found = parse_recommendations([october, TREND, TREND | {"period": "x"}, {}], "AAPL")
    assert [row.month for row in found] == [date(2026, 11, 1), date(2026, 10, 1)]
    first = found[0]
    counts = (first.strong_buy, first.buy, first.hold, first.sell, first.strong_sell)
    assert counts == (13, 24, 7, 1, 0)
    assert parse_recommendations([], "NOPE") == ()


def test_earnings() -> None:
    past = REPORT | {"epsActual": 1.7, "hour": "", "quarter": 0, "symbol": "BRK.B"}
    bad = [REPORT | {"date": None}, REPORT | {"symbol": "0700.HKG.X"}, 7]
    first, second = parse_earnings({"earningsCalendar": [REPORT, past, *bad]})
    assert (first.symbol, first.day, first.hour) == ("AAPL", date(2026, 10, 29), "amc")
    assert (first.quarter, first.year) == (4, 2026)
    assert (first.eps_estimate, first.eps_actual, first.revenue_estimate) == (1.62, None, 1.1e11)
    assert (second.symbol, second.hour, second.quarter) == ("BRK.B", None, None)
    assert second.eps_actual == 1.7
    for body in ({}, [], {"earningsCalendar": None}):
        with pytest.raises(Malformed):
            parse_earnings(body)


def test_hours_are_the_calendar_of_the_year() -> None:
    found = parse_hours(HOLIDAYS, date(2026, 11, 23), date(2026, 12, 31))
    days = [date(2026, 11, 23) + timedelta(days=n) for n in range(39)]
    assert found == tuple(s for day in days if (s := calendar.session(day)))
    for first, last in (
        (date(2025, 12, 31), date(2026, 1, 2)),
        (date(2026, 12, 31), date(2027, 1, 2)),
    ):
        with pytest.raises(Unsupported, match="2026 to 2026"):
            parse_hours(HOLIDAYS, first, last)
    with pytest.raises(Malformed):
        parse_hours({"data": []}, date(2026, 11, 23), date(2026, 11, 24))


# --- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (429, "API limit reached. Please try again later. Remaining Limit: 0", RateLimited),
        (200, "API limit reached. Please try again later. Remaining Limit: 0", RateLimited),
        (401, "Invalid API key", Denied),
        (401, "Please use an API key.", Denied),
        (200, "Invalid API key", Denied),
        (403, "You don't have access to this resource.", Unsupported),
        (200, "You don't have access to this resource.", Unsupported),
        (200, "Something broke.", Malformed),
        (500, "Something broke.", type(None)),
    ],
)
def test_refusals(status: int, words: str, kind: type) -> None:
    assert type(refusal(status, {"error": words})) is kind


def test_an_answer_is_no_refusal() -> None:
    for body in (QUOTE, NOBODY, CANDLES, {}, [], [STORY], None, "", "text", {"error": None}):
        assert refusal(200, body) is None


# --- any body at all ---------------------------------------------------------------------------------

FIRST, LAST = date(2026, 11, 20), date(2026, 12, 28)
SEEDS: list[tuple[Callable[[Any], Any], Any]] = [
    (lambda body: parse_quote(body, "AAPL"), QUOTE),
    (lambda body: parse_quote(body, "NOPE"), NOBODY),
    (lambda body: parse_bars(body, "AAPL", Timeframe.MINUTE), CANDLES),
    (lambda body: parse_bars(body, "AAPL", Timeframe.DAY), CANDLES),
    (lambda body: parse_profile(body, METRIC, "AAPL", NOW), PROFILE),
    (lambda body: parse_profile(PROFILE, body, "AAPL", NOW), METRIC),
    (lambda body: newest(parse_news(body, "AAPL"), NOW, 5), [STORY, STORY | {"id": 1}]),
    (lambda body: parse_recommendations(body, "AAPL"), [TREND, TREND]),
    (parse_earnings, {"earningsCalendar": [REPORT, REPORT]}),
    (lambda body: parse_hours(body, FIRST, LAST), HOLIDAYS),
]


@pytest.mark.parametrize("at", range(len(SEEDS)))
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_body_is_read_or_refused(at: int, data: st.DataObject) -> None:
    parse, seed = SEEDS[at]
    parse(copy.deepcopy(seed))  # the seed itself is good
    try:
        parse(data.draw(spoiled(seed)))
    except ProviderError:
        return


@given(body=spoiled(QUOTE))
def test_the_symbol_is_in_one_part_of_the_batch(body: Any) -> None:
    try:
        batch = parse_quote(body, "A")
    except ProviderError:
        return
    assert len(batch.quotes) + len(batch.unknown) + len(batch.failed) == 1


@given(status=st.integers(100, 599), body=st.one_of(NASTY, st.fixed_dictionaries({"error": NASTY})))
def test_any_refusal_is_one(status: int, body: Any) -> None:
    assert isinstance(refusal(status, body), ProviderError | None)
