"""Tiingo's answers as recorded, and as nasty as they have been seen.

The recordings are not in this repository (they are the vendor's data): VOLARIS_FIXTURES names their
folder, or they lie beside the checkout in ../shared/fixtures.
"""

import copy
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.domain.models import Timeframe
from actors.providers.base import (
    Denied,
    Malformed,
    ProviderError,
    RateLimited,
    Unavailable,
    Unsupported,
)
from actors.providers.tiingo import (
    NoSuchTicker,
    Tiingo,
    build_days,
    build_minutes,
    build_news,
    parse_days,
    parse_minutes,
    parse_news,
    parse_profile,
    parse_quotes,
    refusal,
)
from tests.unit.spoiling import NASTY, spoiled

RECORDINGS = (
    Path(os.environ.get("VOLARIS_FIXTURES") or Path(__file__).parents[3] / "shared" / "fixtures")
    / "tiingo"
)
recorded = pytest.mark.skipif(not RECORDINGS.is_dir(), reason=f"no recordings in {RECORDINGS}")

NOW = datetime(2026, 11, 24, 17, 0, tzinfo=UTC)
ROW = {
    "ticker": "BRK-B",
    "timestamp": "2026-11-24T11:59:34.935723167-05:00",
    "lastSaleTimestamp": None,
    "quoteTimestamp": None,
    "open": 500.5,
    "high": 510.0,
    "low": 499.0,
    "mid": None,
    "tngoLast": 505.0,
    "last": None,
    "lastSize": None,
    "bidSize": None,
    "bidPrice": None,
    "askPrice": None,
    "askSize": None,
    "volume": 38607.0,
    "prevClose": 500.0,
}
DAILY = {
    "date": "2026-11-23T00:00:00.000Z",
    "close": 10.0,
    "high": 11.0,
    "low": 9.0,
    "open": 9.5,
    "volume": 1000,
    "adjClose": 9.9,
    "adjHigh": 10.9,
    "adjLow": 8.9,
    "adjOpen": 9.4,
    "adjVolume": 1000,
    "divCash": 0.0,
    "splitFactor": 1.0,
}
MINUTE = {"date": "2026-11-24T14:30:00.000Z", "open": 9.5, "high": 11, "low": 9, "close": 10.0}
MINUTE |= {"volume": 38607.0}
ABOUT = {
    "ticker": "AAPL",
    "name": "Apple Inc",
    "exchangeCode": "NASDAQ",
    "startDate": "1980-12-12",
    "endDate": "2026-11-23",
    "description": "Makes things.",
}
FIGURES = [
    {"date": "2026-11-20T00:00:00.000Z", "marketCap": 4.0e12, "peRatio": 30.0, "pbRatio": 50.0},
    {"date": "2026-11-23T00:00:00.000Z", "marketCap": 4.1e12, "peRatio": 31.0, "pbRatio": 51.0},
]
STORY = {
    "id": 4711,
    "title": "A thing happened",
    "url": "https://example.com/1",
    "description": "It did.",
    "publishedDate": "2026-11-24T16:30:00Z",
    "crawlDate": "2026-11-24T16:31:00.123456+00:00",
    "source": "example.com",
    "tickers": ["aapl", "brk-b", "btcusd1"],
    "tags": ["Stock"],
}


def recording(name: str) -> Any:
    return json.loads((RECORDINGS / name).read_text(encoding="utf-8"))


def quotes_in(body: Any) -> int:
    asked = [row["ticker"] for row in body]
    batch = parse_quotes(body, asked)
    assert batch.unknown == batch.failed == ()
    return len(batch.quotes)


# --- what was recorded -------------------------------------------------------------------------------

READ: dict[str, tuple[Callable[[Any], int], int]] = {
    "iex_quotes_multi.json": (quotes_in, 2),
    "equity_intraday_AAPL_SPY.json": (quotes_in, 2),  # the beta form: without bidPrice, same names
    "equity_intraday_null_liquidity.json": (quotes_in, 3),
    "eod_prices_AAPL.json": (lambda body: len(parse_days(body, "A")), 2),
    "ticker_price.json": (lambda body: len(parse_days(body, "A")), 1),
    "ticker_price_weekly.json": (lambda body: len(parse_days(body, "A")), 3),
    "ticker_price_with_date.json": (lambda body: len(parse_days(body, "A")), 2),
    "intraday_price.json": (lambda body: len(parse_minutes(body, "A")), 13),
    "iex_prices_AAPL_5min_volume.json": (lambda body: len(parse_minutes(body, "A")), 6),
    "ticker_metadata.json": (lambda body: parse_profile(body, [], "A", NOW).name is not None, 1),
    "fundamentals_daily.json": (
        lambda body: parse_profile({}, body, "A", NOW).market_cap is not None and len(body),
        64,
    ),
    "news.json": (lambda body: len(parse_news(body)), 1),
}
DROPPED = {
    "README.md": "no answer",
    "error_403_news_bulk.json": "a refusal: see test_refusals",
    "fundamentals_definitions.json": "the names of figures, for which we have no question",
    "fundamentals_statements.json": "quarterly statements, for which we have no question",
    "search_apple.json": "a search, for which we have no question",
    "ticker_price_with_date_csv.csv": "the same as ticker_price_with_date.json; we ask for JSON",
    "ticker_price_with_volume_column.json": "a volume without a price is no bar: see below",
}


@recorded
def test_every_recording_is_read_or_dropped_for_a_reason() -> None:
    files = {path.name for path in RECORDINGS.iterdir()}
    assert files == set(READ) | set(DROPPED)
    counts = {name: read(recording(name)) for name, (read, _) in READ.items()}
    assert counts == {name: count for name, (_, count) in READ.items()}
    assert type(refusal(403, recording("error_403_news_bulk.json"))) is Unsupported
    with pytest.raises(Malformed, match="none of them readable"):
        parse_days(recording("ticker_price_with_volume_column.json"), "A")


@recorded
def test_what_is_in_a_recorded_list_of_quotes() -> None:
    batch = parse_quotes(recording("iex_quotes_multi.json"), ["AAPL", "NOPE", "MSFT"])
    assert [quote.symbol for quote in batch.quotes] == ["AAPL", "MSFT"]  # our order, not theirs
    assert batch.unknown == ("NOPE",)
    apple = batch.quotes[0]
    assert apple.at == datetime(2026, 9, 4, 20, 0, tzinfo=UTC)
    assert (apple.last, apple.open, apple.high, apple.low) == (319.97, 328.305, 328.93, 317.86)
    assert (apple.previous_close, apple.volume) == (328.21, None)
    assert (apple.change, apple.change_percent) == (
        pytest.approx(-8.24),
        pytest.approx(-2.5106, 1e-4),
    )
    assert apple.bid is apple.ask is apple.bid_size is None
    (nano,) = parse_quotes(recording("equity_intraday_AAPL_SPY.json"), ["SPY"]).quotes
    assert nano.at == datetime(2026, 9, 4, 23, 59, 59, 575169, tzinfo=UTC)


@recorded
def test_a_days_date_is_its_own_in_every_form() -> None:
    (last,) = parse_days(recording("ticker_price.json"), "GOOG")  # ends in +00:00
    assert (last.at, last.close) == (datetime(2018, 4, 12, tzinfo=UTC), 1037.29)
    first, _ = parse_days(recording("eod_prices_AAPL.json"), "AAPL")  # ends in Z
    assert (first.at, first.volume) == (datetime(2019, 1, 2, tzinfo=UTC), 37039737)


# --- what to ask -------------------------------------------------------------------------------------


def test_days_are_asked_for_until_today() -> None:
    query = build_days(datetime(2020, 1, 2, tzinfo=UTC), datetime(2020, 2, 1, tzinfo=UTC), NOW)
    assert (query["startDate"], query["endDate"]) == ("2020-01-02", "2026-11-24")


def test_minutes_name_their_volume() -> None:
    end = datetime(2026, 11, 24, tzinfo=UTC)
    query = build_minutes(Timeframe.FIVE_MINUTES, end - timedelta(days=4), end)
    assert (query["startDate"], query["endDate"]) == ("2026-11-20", "2026-11-23")
    assert (query["resampleFreq"], query["afterHours"]) == ("5min", "false")
    assert "volume" in query["columns"].split(",")


def test_news_is_asked_for_in_small_letters() -> None:
    assert build_news(["AAPL", "BRK.B"], NOW, 5000) == {
        "tickers": "aapl,brk-b",
        "startDate": "2026-11-24",
        "limit": "1000",
        "sortBy": "publishedDate",
    }
    assert "tickers" not in build_news([], NOW, 10)


def test_a_full_batch_fits_into_a_request_line() -> None:
    longest = "%2C".join(["ABCDEF-WXYZ"] * Tiingo.batch)
    assert len(f"GET /iex/?tickers={longest} HTTP/1.1\r\n") < 8192


# --- what was answered -------------------------------------------------------------------------------


def test_a_class_share_and_one_without_a_price() -> None:
    bare = {"ticker": "aapl", "timestamp": ROW["timestamp"], "tngoLast": None}
    timeless = ROW | {"ticker": "MSFT", "timestamp": None}
    batch = parse_quotes([bare, ROW, timeless], ["BRK.B", "AAPL", "MSFT"])
    (quote,) = batch.quotes
    assert (quote.symbol, quote.last, quote.volume) == ("BRK.B", 505.0, None)
    assert (quote.change, quote.change_percent) == (5.0, 1.0)
    assert quote.at == datetime(2026, 11, 24, 16, 59, 34, 935723, tzinfo=UTC)
    assert [symbol for symbol, _ in batch.failed] == ["AAPL", "MSFT"]


def test_an_empty_list_knows_nobody() -> None:
    assert parse_quotes([], ["NOPE", "NADA"]).unknown == ("NOPE", "NADA")
    for body in ({}, None, "text", [1, 2], [{}]):
        with pytest.raises(Malformed):
            parse_quotes(body, ["AAPL"])


def test_a_split_divides_what_was_before_it() -> None:
    days = [
        DAILY | {"date": "2026-11-19T00:00:00.000Z", "close": 80.0, "high": 88.0, "low": 72.0, "open": 76.0},
        DAILY | {"date": "2026-11-20T00:00:00.000Z", "splitFactor": 4.0, "close": 20.0, "high": 22.0, "low": 18.0, "open": 19.0},
        DAILY | {"date": "2026-11-23T00:00:00.000Z", "splitFactor": 2.0, "divCash": 0.5},
    ]  # fmt: skip
    for body in (days, days[::-1]):
        bars = parse_days(body, "A")
        assert [bar.close for bar in bars] == [10.0, 10.0, 10.0]
        assert [bar.low for bar in bars] == [9.0, 9.0, 9.0]
        assert [bar.volume for bar in bars] == [8000, 2000, 1000]
    # A reverse split makes what was before it larger.
    reverse = parse_days([days[0], days[2] | {"splitFactor": 0.1}], "A")
    assert [bar.close for bar in reverse] == [800.0, 10.0]
    for nothing in (None, 0, -1, "x", float("nan")):
        assert parse_days([days[0], days[2] | {"splitFactor": nothing}], "A")[0].close == 80.0


def test_minutes_without_a_price_are_left_out() -> None:
    holes = [MINUTE | {name: None} for name in ("date", "open", "high", "low", "close")]
    (bar,) = parse_minutes([*holes, MINUTE, None], "A")
    assert (bar.at, bar.volume) == (datetime(2026, 11, 24, 14, 30, tzinfo=UTC), 38607)
    assert parse_minutes([{k: v for k, v in MINUTE.items() if k != "volume"}], "A")[0].volume == 0
    with pytest.raises(Malformed):
        parse_minutes(holes, "A")
    assert parse_minutes([], "A") == ()


def test_a_profile_has_the_newest_figures() -> None:
    for figures in (FIGURES, FIGURES[::-1]):
        found = parse_profile(ABOUT, figures, "AAPL", NOW)
        assert (found.name, found.exchange) == ("Apple Inc", "NASDAQ")
        assert (found.market_cap, found.pe) == (4.1e12, 31.0)
    assert parse_profile(ABOUT, [], "AAPL", NOW).market_cap is None


def test_news() -> None:
    (story,) = parse_news([STORY, STORY | {"title": None}, STORY | {"publishedDate": "x"}, 1])
    assert (story.id, story.publisher, story.summary) == ("4711", "example.com", "It did.")
    assert story.symbols == ("AAPL", "BRK.B")
    assert parse_news([STORY | {"id": 0}])[0].id == STORY["url"]


OVER = (
    "Error: You have run over your {} allocation. Please upgrade at https://api.tiingo.com/pricing"
)
SYMBOLS = "You have run over your 500 symbol look up for this month. Please upgrade at …"


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (429, OVER.format("hourly request"), RateLimited),
        (200, OVER.format("hourly request"), RateLimited),
        (200, OVER.format("monthly bandwidth"), RateLimited),
        (200, SYMBOLS, RateLimited),
        (401, "Invalid token.", Denied),
        (403, "Invalid token.", Denied),
        (200, "Invalid token.", Denied),
        (403, "You do not have permission to access the News API", Unsupported),
        (200, "You do not have permission to access the News API", Unsupported),
        (404, "Not found.", NoSuchTicker),
        (404, "Error: Ticker 'NOPE' not found", NoSuchTicker),
        (200, "Something broke.", Unavailable),
        (500, "Something broke.", type(None)),
    ],
)
def test_refusals(status: int, words: str, kind: type) -> None:
    assert type(refusal(status, {"detail": words})) is kind
    if status == 200:  # some come as bare text
        assert type(refusal(status, words)) is kind


def test_an_hour_is_waited_for_shorter_than_a_month() -> None:
    hour, month = (refusal(429, {"detail": OVER.format(w)}) for w in ("hourly", "monthly"))
    assert isinstance(hour, RateLimited)
    assert isinstance(month, RateLimited)
    assert hour.retry_after == 900
    assert month.retry_after == 3600


def test_an_answer_is_no_refusal() -> None:
    for body in ([], [ROW], ABOUT, {}, None, "<html>", "", "[{", 7):
        assert refusal(200, body) is None


# --- any body at all ---------------------------------------------------------------------------------

SEEDS: list[tuple[Callable[[Any], Any], Any]] = [
    (lambda body: parse_quotes(body, ["BRK.B", "A"]), [ROW, ROW | {"ticker": "a"}]),
    (
        lambda body: parse_days(body, "A"),
        [DAILY, DAILY | {"date": "2026-11-20", "splitFactor": 2.0}],
    ),
    (lambda body: parse_minutes(body, "A"), [MINUTE, MINUTE | {"date": "2026-11-24T14:31Z"}]),
    (lambda body: parse_profile(body, FIGURES, "A", NOW), ABOUT),
    (lambda body: parse_profile(ABOUT, body, "A", NOW), FIGURES),
    (parse_news, [STORY, STORY]),
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


@given(body=spoiled(SEEDS[0][1]))
def test_every_symbol_is_in_one_part_of_the_batch(body: Any) -> None:
    try:
        batch = parse_quotes(body, ["A", "BRK.B"])
    except ProviderError:
        return
    found = [quote.symbol for quote in batch.quotes]
    assert sorted([*found, *batch.unknown, *(s for s, _ in batch.failed)]) == ["A", "BRK.B"]


@given(
    status=st.integers(100, 599), body=st.one_of(NASTY, st.fixed_dictionaries({"detail": NASTY}))
)
def test_any_refusal_is_one(status: int, body: Any) -> None:
    assert isinstance(refusal(status, body), ProviderError | None)
