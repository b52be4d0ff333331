"""Polygon's answers as recorded and as its specification shows them, and as nasty as they can be.

The recordings are not in this repository (they are the vendor's data): VOLARIS_FIXTURES names their
folder, or they lie beside the checkout in ../shared/fixtures.
"""

import contextlib
import copy
import json
import math
import os
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.domain.calendar import session
from actors.domain.models import QuoteBatch, Ranking, Timeframe
from actors.providers.base import (
    Denied,
    Malformed,
    ProviderError,
    RateLimited,
    Unavailable,
    Unsupported,
)
from actors.providers.polygon import (
    OPTIONS,
    RANGE,
    NotFound,
    build_chain,
    build_news,
    build_range,
    following,
    parse_bars,
    parse_closed_today,
    parse_grouped,
    parse_movers,
    parse_news,
    parse_profile,
    parse_quote,
    parse_quotes,
    parse_upcoming,
    refusal,
    results,
    weekdays,
)
from actors.providers.polygon_chain import columns, parse_contracts

RECORDINGS = (
    Path(os.environ.get("VOLARIS_FIXTURES") or Path(__file__).parents[3] / "shared" / "fixtures")
    / "polygon"
)
recorded = pytest.mark.skipif(not RECORDINGS.is_dir(), reason=f"no recordings in {RECORDINGS}")

NOW = datetime(2026, 11, 24, 17, tzinfo=UTC)  # a Tuesday, 12:00 in New York
NOON_NS = int(NOW.timestamp()) * 10**9
MINUTE, FIVE, DAY = Timeframe.MINUTE, Timeframe.FIVE_MINUTES, Timeframe.DAY

FEDERAL = (date(2022, 4, 29), date(2022, 12, 26))  # what the recorded holidays cover


def recording(name: str) -> Any:
    return json.loads((RECORDINGS / name).read_text(encoding="utf-8"))


def tickers_of(body: Any) -> list[str]:
    return [row["ticker"] for row in body["tickers"]]


def row(**fields: Any) -> dict[str, Any]:
    """Return a good row of a snapshot with these fields changed; a field of `...` is taken out."""
    found: dict[str, Any] = {
        "ticker": "X",
        "todaysChange": 0.5,
        "todaysChangePerc": 5.26,
        "updated": NOON_NS,
        "day": {"o": 9.6, "h": 10.2, "l": 9.5, "c": 10.0, "v": 1000.75, "vw": 9.9},
        "lastTrade": {"p": 10.01, "s": 100, "t": NOON_NS + 1000, "x": 4, "c": None, "i": "1"},
        "lastQuote": {"P": 10.02, "S": 3, "p": 9.99, "s": 0, "t": NOON_NS + 2000},
        "min": {"av": 1000, "t": NOON_NS // 10**6, "n": 1, "o": 1, "h": 1, "l": 1, "c": 10.005},
        "prevDay": {"o": 9.4, "h": 9.6, "l": 9.3, "c": 9.5, "v": 900, "vw": 9.4},
    }
    return {k: v for k, v in (found | fields).items() if v is not ...}


def snapshot(*rows: Any, status: str = "OK") -> dict[str, Any]:
    return {"count": len(rows), "status": status, "tickers": list(rows)}


def bar(at: str, **fields: Any) -> dict[str, Any]:
    ms = int(datetime.fromisoformat(at).timestamp() * 1000)
    found = {"t": ms, "o": 10.0, "h": 11.0, "l": 9.0, "c": 10.5, "v": 100.5, "vw": 10.1, "n": 3}
    return {k: v for k, v in (found | fields).items() if v is not ...}


def aggregates(*rows: Any, **more: Any) -> dict[str, Any]:
    count = {"queryCount": len(rows), "resultsCount": len(rows), "adjusted": True}
    told = count | {"ticker": "X", "status": "OK", "request_id": "r"} | more
    return told | ({"results": list(rows)} if rows else {})


def contract(**fields: Any) -> dict[str, Any]:
    found = {
        "break_even_price": 152.0,
        "day": {"close": 2.0, "volume": 12, "last_updated": NOON_NS - 12 * 3600 * 10**9},
        "details": {
            "contract_type": "call",
            "exercise_style": "american",
            "expiration_date": "2026-12-18",
            "shares_per_contract": 100,
            "strike_price": 150,
            "ticker": "O:X261218C00150000",
        },
        "greeks": {"delta": 0.5, "gamma": 0.0, "theta": -0.1, "vega": 0.2},
        "implied_volatility": 0.31,
        "last_quote": {
            "ask": 2.1,
            "ask_size": 4,
            "bid": 0,
            "bid_size": 0,
            "last_updated": NOON_NS,
            "midpoint": 1.05,
            "timeframe": "REAL-TIME",
        },
        "last_trade": {"price": 2.05, "sip_timestamp": NOON_NS, "size": 1},
        "open_interest": 0,
        "underlying_asset": {"price": 147.5, "ticker": "X", "timeframe": "REAL-TIME"},
    }
    return {k: v for k, v in (found | fields).items() if v is not ...}


def story(**fields: Any) -> dict[str, Any]:
    found = {
        "id": "a1",
        "publisher": {"name": "The Wire"},
        "title": "X rises",
        "author": "A",
        "published_utc": "2026-11-24T15:00:00Z",
        "article_url": "https://example.com/1",
        "tickers": ["X", "BACpL", "BRK.B"],
        "description": "X rose.",
        "insights": [
            {"ticker": "X", "sentiment": "positive", "sentiment_reasoning": "because"},
            {"ticker": "Y", "sentiment": "negative", "sentiment_reasoning": "because"},
        ],
    }
    return {k: v for k, v in (found | fields).items() if v is not ...}


def holiday(day: str, status: str = "closed", **fields: Any) -> dict[str, Any]:
    return {"exchange": "NYSE", "name": "A holiday", "date": day, "status": status} | fields


UPCOMING = [
    holiday("2026-11-26"),
    holiday("2026-11-26") | {"exchange": "OTC"},
    holiday("2026-11-27", "early-close", close="2026-11-27T18:00:00.000Z"),
    holiday("2026-12-25"),
]

OPEN = {
    "market": "open",
    "earlyHours": False,
    "afterHours": False,
    "serverTime": "2026-11-24T12:00:00-05:00",
    "exchanges": {"nyse": "open", "nasdaq": "open", "otc": "open"},
}


# --- recordings --------------------------------------------------------------------------------------

QUOTES = {
    "v2_snapshot_locale_us_markets_stocks_tickers_index.json": 1,
    "v2_snapshot_locale_us_markets_stocks_gainers.json": 2,
    "spec_v2_snapshot_locale_us_markets_stocks_tickers.json": 1,
    "spec_v2_snapshot_locale_us_markets_stocks_direction.json": 1,
}
BARS = {
    "v2_aggs_ticker_AAPL_range_1_day_2005-04-01_2005-04-04.json": 2,
    "v2_aggs_ticker_AAPL_prev.json": 1,
    "spec_v2_aggs_ticker_stocksTicker_range_multiplier_timespan_from_to.json": 2,
}
GROUPS = {
    "v2_aggs_grouped_locale_us_market_stocks_2005-04-04_adjusted_true.json": (1, 1),
    # KIMpL is left out: nobody can ask for it, as no symbol of ours has a lower-case letter.
    "spec_v2_aggs_grouped_locale_us_market_stocks_date.json": (3, 2),
}
CONTRACTS = {
    "v3_snapshot_options_AAPL.json": 1,
    "spec_v3_snapshot_options_underlyingAsset.json": 1,  # its ticker is none: a digit too many
    # A typed batch: a share and a symbol that is not found are no contracts.
    "v3_snapshot.json": 1,
    "spec_v3_snapshot.json": 1,
}
MOVERS = {
    "v2_snapshot_locale_us_markets_stocks_gainers.json": 2,
    "spec_v2_snapshot_locale_us_markets_stocks_direction.json": 1,
}
STORIES = {"v2_reference_news_ticker_NFLX.json": 1, "spec_v2_reference_news.json": 1}
PROFILES = ("v3_reference_tickers_AAPL.json", "spec_v3_reference_tickers_ticker.json")
SINGLES = (
    "v2_snapshot_locale_us_markets_stocks_tickers_AAPL.json",
    "spec_v2_snapshot_locale_us_markets_stocks_tickers_stocksTicker.json",
)
HOLIDAYS = {"v1_marketstatus_upcoming.json": 14, "spec_v1_marketstatus_upcoming.json": 5}
STATUSES = ("v1_marketstatus_now.json", "spec_v1_marketstatus_now.json")
ONE_CONTRACT = "v3_snapshot_options_AAPL_O_AAPL230616C00150000.json"
# No question of ours asks for these: bars come adjusted for splits, the universe and the contracts
# from elsewhere.  They are answers all the same.
NOT_ASKED = {
    "v3_reference_dividends.json": 10,
    "v3_reference_splits.json": 10,
    "v3_reference_tickers.json": 2,
    "v3_reference_options_contracts.json": 10,
    "spec_v3_reference_tickers.json": 1,
    "spec_v3_reference_options_contracts.json": 2,
}


@recorded
def test_no_recording_is_left_out() -> None:
    tables = (QUOTES, BARS, GROUPS, CONTRACTS, MOVERS, STORIES, PROFILES, SINGLES, HOLIDAYS)
    known = {name for table in (*tables, STATUSES, NOT_ASKED, [ONE_CONTRACT]) for name in table}
    assert known == {path.name for path in RECORDINGS.glob("*.json")} - {
        "massive_rest.openapi.json"
    }


@recorded
@pytest.mark.parametrize(("name", "expected"), QUOTES.items())
def test_recorded_quotes_lose_nothing(name: str, expected: int) -> None:
    body = recording(name)
    batch = parse_quotes(body, tickers_of(body))
    assert batch.unknown == batch.failed == ()
    assert len(batch.quotes) == expected == len(body["tickers"])
    for quote, theirs in zip(batch.quotes, body["tickers"], strict=True):
        _same(quote, theirs)


@recorded
@pytest.mark.parametrize("name", SINGLES)
def test_recorded_single_quotes(name: str) -> None:
    theirs = recording(name)["ticker"]
    _same(parse_quote(theirs, "AAPL"), theirs)


def _same(quote: Any, theirs: dict[str, Any]) -> None:
    trade, told, day = theirs["lastTrade"], theirs["lastQuote"], theirs["day"]
    assert quote.symbol == theirs["ticker"] or len(theirs["ticker"]) == 4
    assert (quote.last, quote.bid, quote.ask) == (trade["p"], told["p"], told["P"])
    assert (quote.bid_size, quote.ask_size) == (told["s"], told["S"])
    assert (quote.open, quote.high, quote.low, quote.close) == tuple(day[k] for k in "ohlc")
    assert (quote.volume, quote.previous_close) == (day["v"], theirs["prevDay"]["c"])
    assert quote.change == theirs["todaysChange"]
    assert quote.change_percent == theirs["todaysChangePerc"]
    newest = max(trade["t"], told["t"], theirs["updated"])
    assert 0 <= newest - int(quote.at.timestamp() * 1e6) * 1000 < 2000
    assert quote.delayed is False


@recorded
@pytest.mark.parametrize(("name", "expected"), BARS.items())
def test_recorded_daily_bars_lose_nothing_and_lie_on_their_dates(name: str, expected: int) -> None:
    body = recording(name)
    found = parse_bars(body, "AAPL", DAY)
    assert len(found) == expected == body["resultsCount"]
    for ours, theirs in zip(found, body["results"], strict=True):
        assert (ours.open, ours.high, ours.low, ours.close) == tuple(theirs[k] for k in "ohlc")
        assert ours.volume == theirs["v"]
        # A range is stamped at midnight in New York, the previous day's bar at its close.
        hours = (theirs["t"] / 1000 - ours.at.timestamp()) / 3600
        assert hours in ({20, 21} if "prev" in name else {4, 5})
        assert ours.at.timestamp() % 86_400 == 0
        assert ours.at.weekday() < 5


@recorded
@pytest.mark.parametrize(("name", "expected"), GROUPS.items())
def test_recorded_bars_of_one_day(name: str, expected: tuple[int, int]) -> None:
    body = recording(name)
    tickers = [theirs["T"] for theirs in body["results"]]
    found = parse_grouped(body, [ticker for ticker in tickers if ticker.isupper()])
    assert (len(tickers), len(found)) == expected
    # The stamp of these is the close of the day.
    assert {ours.at for ours in found} == {datetime(2020, 10, 14, tzinfo=UTC)}


@recorded
@pytest.mark.parametrize(("name", "expected"), CONTRACTS.items())
def test_recorded_contracts(name: str, expected: int) -> None:
    body = recording(name)
    found = parse_contracts(body, "AAPL")
    assert len(found) == expected
    theirs, chain = body["results"][0], columns("AAPL", found, NOW)
    details, quote = theirs["details"], theirs["last_quote"]
    assert chain.strike.tolist() == [details["strike_price"]]
    assert chain.expiration.astype(str).tolist() == [details["expiration_date"]]
    assert chain.call.tolist() == [details["contract_type"] == "call"]
    assert chain.contract[0][:6].strip() == ("NCLH" if "options" not in name else "AAPL")
    assert (chain.bid[0], chain.ask[0]) == (quote["bid"], quote["ask"])
    assert (chain.bid_size[0], chain.ask_size[0]) == (quote["bid_size"], quote["ask_size"])
    assert chain.iv[0] == theirs["implied_volatility"]
    assert chain.open_interest[0] == theirs["open_interest"]
    greeks = {key: getattr(chain, key)[0] for key in ("delta", "gamma", "theta", "vega")}
    assert greeks == theirs["greeks"]
    assert np.isnan(chain.rho).all()
    assert chain.last[0] == theirs["last_trade"]["price"]
    assert chain.spot == theirs["underlying_asset"]["price"]
    assert chain.standard.all()
    if "day" in theirs:
        assert chain.volume[0] == theirs["day"]["volume"]
    assert 0 <= quote["last_updated"] // 10**6 - chain.quoted_at.astype("int64")[0] < 2
    assert chain.at.timestamp() == pytest.approx(quote["last_updated"] / 1e9, abs=1e-5)


@recorded
def test_a_recorded_single_contract() -> None:
    theirs = recording(ONE_CONTRACT)
    [found] = parse_contracts(theirs | {"results": [theirs["results"]]}, "AAPL")
    assert (found.root, found.strike, found.volume) == ("AAPL", 150, 8)


@recorded
@pytest.mark.parametrize(("name", "expected"), MOVERS.items())
def test_recorded_movers(name: str, expected: int) -> None:
    body = recording(name)
    movers = parse_movers(body, Ranking.GAINERS, NOW)
    assert [mover.symbol for mover in movers.rows] == tickers_of(body)
    assert len(movers.rows) == expected
    first, theirs = movers.rows[0], body["tickers"][0]
    assert (first.last, first.volume) == (theirs["lastTrade"]["p"], theirs["day"]["v"])
    assert first.change_percent == theirs["todaysChangePerc"] > 1000
    assert movers.at.year in {2020, 2022}


@recorded
@pytest.mark.parametrize("name", PROFILES)
def test_recorded_profiles(name: str) -> None:
    theirs = recording(name)["results"]
    profile = parse_profile(recording(name), "AAPL", NOW)
    assert (profile.name, profile.exchange) == ("Apple Inc.", "NASDAQ")
    assert profile.industry == "ELECTRONIC COMPUTERS"
    assert profile.listed == date(1980, 12, 12)
    assert (profile.employees, profile.market_cap) == (154_000, theirs["market_cap"])
    assert profile.shares_outstanding == theirs["share_class_shares_outstanding"]
    assert profile.website == "https://www.apple.com"
    assert profile.description == theirs["description"]


@recorded
@pytest.mark.parametrize(("name", "expected"), STORIES.items())
def test_recorded_news(name: str, expected: int) -> None:
    body = recording(name)
    found = parse_news(body)
    assert len(found) == expected == len(body["results"])
    theirs = body["results"][0]
    assert found[0].id == theirs["id"]
    assert found[0].headline == theirs["title"]
    assert found[0].symbols == tuple(theirs["tickers"])
    assert found[0].publisher == theirs["publisher"]["name"]
    assert found[0].sentiment == ("positive" if "insights" in theirs else None)


@recorded
@pytest.mark.parametrize(("name", "expected"), HOLIDAYS.items())
def test_recorded_holidays_make_the_calendar(name: str, expected: int) -> None:
    body = recording(name)
    assert len(body) == expected
    last = max(date.fromisoformat(theirs["date"]) for theirs in body)
    first = last - timedelta(days=200)
    days = (first + timedelta(n) for n in range(201))
    # The specification's list begins in November, so before it only its own days can be compared.
    begins = min(date.fromisoformat(theirs["date"]) for theirs in body)
    found = [told for told in parse_upcoming(body, first, last) if told.day >= begins]
    assert found == [told for day in days if day >= begins and (told := session(day))]
    with pytest.raises(Unsupported):
        parse_upcoming(body, first, last + timedelta(days=1))


@recorded
@pytest.mark.parametrize("name", STATUSES)
def test_recorded_statuses(name: str) -> None:
    assert parse_closed_today(recording(name)) is None


@recorded
@pytest.mark.parametrize(("name", "expected"), NOT_ASKED.items())
def test_recorded_answers_to_what_we_do_not_ask(name: str, expected: int) -> None:
    assert len(results(recording(name))) == expected


@recorded
def test_recorded_next_pages() -> None:
    name = "spec_v2_aggs_ticker_stocksTicker_range_multiplier_timespan_from_to.json"
    path = following(recording(name), f"{RANGE}/AAPL/")
    assert path == (
        "/v2/aggs/ticker/AAPL/range/1/day/1578114000000/2020-01-10?cursor=bGltaXQ9MiZzb3J0PWFzYw"
    )
    news = following(recording("spec_v2_reference_news.json"), "/v2/reference/news")
    assert str(news).startswith("/v2/reference/news?cursor=eyJ")  # its host has the port 443


# --- quotes ------------------------------------------------------------------------------------------


def test_every_symbol_asked_is_in_one_part() -> None:
    body = snapshot(row(), row(ticker="BRK.B"), row(ticker="BAD", updated="soon", lastTrade=...))
    body["tickers"][2]["lastQuote"] = None
    body["tickers"] += [None, 7, {"ticker": 3}]
    batch = parse_quotes(body, ["X", "BRK.B", "BAD", "GONE"])
    assert [quote.symbol for quote in batch.quotes] == ["X", "BRK.B"]
    assert batch.unknown == ("GONE",)
    [(symbol, why)] = batch.failed
    assert symbol == "BAD"
    assert "cleared" in why


def test_a_lower_plan_tells_no_trade_and_no_quote_and_is_delayed() -> None:
    body = snapshot(row(lastTrade=..., lastQuote=...), status="DELAYED")
    [quote] = parse_quotes(body, ["X"]).quotes
    assert (quote.last, quote.bid, quote.ask, quote.at) == (10.005, None, None, NOW)
    assert quote.volume == 1000
    assert quote.delayed


ZEROS = dict.fromkeys(("o", "h", "l", "c", "v", "vw"), 0)


def test_zeros_after_the_clearing_are_no_values() -> None:
    cleared = row(day=ZEROS, min=ZEROS | {"t": 0}, updated=0, todaysChange=0, todaysChangePerc=0)
    [quote] = parse_quotes(snapshot(cleared), ["X"]).quotes
    assert (quote.last, quote.previous_close) == (10.01, 9.5)  # of the trade the day before
    assert {quote.open, quote.close, quote.volume, quote.change, quote.change_percent} == {None}
    gone = cleared | {"lastTrade": None, "lastQuote": None}
    assert parse_quotes(snapshot(gone), ["X"]).failed[0][0] == "X"


def test_a_zero_bid_is_real_and_strewn_numbers_are_no_values() -> None:
    quote = parse_quote(row(lastQuote={"p": 0.0, "P": "NaN", "s": -999.0, "t": None}), "X")
    assert (quote.bid, quote.ask, quote.bid_size, quote.ask_size) == (0.0, None, None, None)


def test_an_answer_without_any_of_many_is_none() -> None:
    with pytest.raises(Malformed):
        parse_quotes(snapshot(), ["X", "Y"])
    assert parse_quotes(snapshot(), ["X"]) == QuoteBatch((), ("X",))


# --- errors ------------------------------------------------------------------------------------------

NOT_ENTITLED = {
    "status": "NOT_AUTHORIZED",
    "request_id": "r",
    "message": "You are not entitled to this data. Please upgrade your plan at https://x/pricing",
}
TOO_MANY = {
    "status": "ERROR",
    "request_id": "r",
    "error": "You've exceeded the maximum requests per minute, please wait or upgrade.",
}
WRONG_KEY = {"status": "ERROR", "request_id": "r", "error": "Unknown API Key"}
NOWHERE = {"status": "NOT_FOUND", "request_id": "r", "message": "Ticker not found."}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (403, NOT_ENTITLED, Unsupported),
        (403, {"error": "no"}, Unsupported),
        (403, NOT_ENTITLED | {"message": "Attempted to request today's data before end of day."}, Unsupported),
        (404, NOWHERE, NotFound),
        (400, {"status": "ERROR", "error": "The path parameter `date` is invalid"}, Unsupported),
        (401, WRONG_KEY, None),  # the HTTP status says it
        (429, TOO_MANY, None),
        (500, {"status": "ERROR", "error": "Unknown API Key"}, None),
        (403, None, None),
        (404, "404 page not found", None),
    ],
)  # fmt: skip
def test_refusals_are_read(status: int, body: Any, kind: type[ProviderError] | None) -> None:
    error = refusal(status, body)
    assert type(error) is (kind or type(None))


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (NOT_ENTITLED, Unsupported),
        (TOO_MANY, RateLimited),
        (WRONG_KEY, Denied),
        (NOWHERE, NotFound),
        ({"status": "ERROR", "error": "x"}, Malformed),
    ],
)
def test_an_error_with_a_200_is_one(body: Any, kind: type[ProviderError]) -> None:
    asked: list[Callable[[Any], Any]] = [
        lambda told: parse_quotes(told, ["X"]),
        lambda told: parse_bars(told, "X", DAY),
        lambda told: parse_grouped(told, ["X"]),
        lambda told: parse_movers(told, Ranking.LOSERS, NOW),
        lambda told: parse_profile(told, "X", NOW),
        parse_news,
        lambda told: parse_contracts(told, "X"),
        lambda told: parse_upcoming(told, *FEDERAL),
        parse_closed_today,
    ]
    for parse in asked:
        with pytest.raises(kind) as caught:
            parse(body)
        assert type(caught.value) is kind


# --- bars --------------------------------------------------------------------------------------------


def test_minutes_are_of_regular_hours_only() -> None:
    told = ["09:29", "09:30", "15:59", "16:00", "04:00"]
    body = aggregates(*(bar(f"2026-11-24T{at}:00-05:00") for at in told))
    found = parse_bars(body, "X", MINUTE)
    assert [ours.at for ours in found] == [
        datetime(2026, 11, 24, 14, 30, tzinfo=UTC),
        datetime(2026, 11, 24, 20, 59, tzinfo=UTC),
    ]
    early = aggregates(*(bar(f"2026-11-27T{at}:00-05:00") for at in ("12:55", "13:00")))
    assert len(parse_bars(early, "X", FIVE)) == 1  # the day after Thanksgiving


def test_bars_are_by_time_whole_shares_and_readable() -> None:
    body = aggregates(
        bar("2026-11-24T12:01:00-05:00", v=20.9),
        bar("2026-11-24T12:00:00-05:00", v=1e6),
        bar("2026-11-24T12:02:00-05:00", l=12.0),  # lower than nothing
        bar("2026-11-24T12:03:00-05:00", c="NaN"),
        bar("2026-11-24T12:04:00-05:00", t=None),
        bar("2026-11-24T12:05:00-05:00", v=...),
        None,
    )
    assert [ours.volume for ours in parse_bars(body, "X", MINUTE)] == [10**6, 20, 0]


def test_no_results_are_no_bars() -> None:
    assert parse_bars(aggregates(), "X", DAY) == ()
    assert parse_grouped(aggregates(), ["X"]) == ()


def test_days_lie_on_their_dates_in_summer_and_winter() -> None:
    body = aggregates(bar("2026-07-01T00:00:00-04:00"), bar("2026-12-01T00:00:00-05:00"))
    found = [ours.at for ours in parse_bars(body, "X", DAY)]
    assert found == [datetime(2026, 7, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)]


def test_what_is_asked_for_bars() -> None:
    start, end = datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 11, 24, tzinfo=UTC)
    assert weekdays(start, end) == (date(2026, 11, 20), date(2026, 11, 23))
    assert weekdays(start + timedelta(hours=1), end + timedelta(hours=1)) == (
        date(2026, 11, 23),
        date(2026, 11, 24),
    )
    assert weekdays(start, start) == ()
    assert build_range("BRK.B", DAY, start, end) == (
        "/v2/aggs/ticker/BRK.B/range/1/day/2026-11-20/2026-11-23"
    )
    minutes = build_range("X", FIVE, start, end)
    assert minutes == "/v2/aggs/ticker/X/range/5/minute/1795132800000/1795478399999"


# --- pages -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://elsewhere.example/v3/snapshot/options/Y?cursor=1",
        "https://api.massive.com//evil.example/v3/snapshot/options/X?cursor=1",
        "https://api.massive.com/v2/aggs/ticker/X?cursor=1",
        "https://api.massive.com/v3/snapshot/options/X",
        "/v3/snapshot/options/X?cursor=1",
        "https://[/v3/snapshot/options/X?cursor=1",
        7,
        ["https://api.massive.com/v3/snapshot/options/X?cursor=1"],
    ],
)
def test_a_next_page_somewhere_else_is_refused(url: Any) -> None:
    with pytest.raises(Malformed):
        following({"next_url": url}, f"{OPTIONS}/X")


def test_a_next_page_keeps_path_and_query_only() -> None:
    asked = "/v3/snapshot/options/X?cursor=a%3D%3D"
    for host in ("https://api.massive.com", "https://api.massive.com:443", "https://evil.example"):
        assert following({"next_url": host + asked}, f"{OPTIONS}/X") == asked
    mounted = {"next_url": f"http://127.0.0.1:8900/polygon{asked}"}
    assert following(mounted, f"{OPTIONS}/X", "/polygon") == asked
    assert following({"next_url": None}, f"{OPTIONS}/X") is None
    assert following([], f"{OPTIONS}/X") is None


# --- chains ------------------------------------------------------------------------------------------


def test_a_chain_is_sorted_and_missing_greeks_are_no_values() -> None:
    put = contract(greeks={}, implied_volatility=..., last_trade=..., day={}, open_interest=None)
    put["details"] = put["details"] | {"ticker": "O:X261218P00150000"}
    weekly = contract(last_quote={}, underlying_asset=...)
    weekly["details"] = weekly["details"] | {"ticker": "O:X1261127C00160000"}
    ours = contract(day={"volume": 9, "close": 2.0, "last_updated": NOON_NS - 2 * 86400 * 10**9})
    body = {"status": "DELAYED", "results": [put, ours, weekly, None, {"details": {}}, contract()]}
    chain = columns("X", parse_contracts(body, "X"), NOW)
    assert chain.contract.tolist() == [
        "X1    261127C00160000",
        "X     261218C00150000",
        "X     261218P00150000",
    ]
    assert chain.standard.tolist() == [False, True, True]
    assert chain.volume[1] == 12  # of a contract on two pages the later one counts
    assert chain.bid.tolist()[1:] == [0.0, 0.0]
    assert math.isnan(chain.bid[0])
    assert np.isnat(chain.quoted_at[0])
    assert math.isnan(chain.iv[2])
    assert math.isnan(chain.delta[2])
    assert chain.gamma[1] == 0.0
    assert (chain.spot, chain.at, chain.delayed) == (147.5, NOW, True)
    assert math.isnan(chain.volume[2])
    assert math.isnan(chain.last[2])
    [before] = parse_contracts({"status": "OK", "results": [ours]}, "X")
    assert columns("X", [before], NOW).volume.tolist() == [0.0]  # that was of Sunday


def test_an_empty_chain_has_no_rows() -> None:
    chain = columns("X", parse_contracts({"status": "OK", "results": []}, "X"), NOW)
    assert (len(chain), chain.spot, chain.at) == (0, None, NOW)


def test_what_is_asked_for_a_chain() -> None:
    asked = build_chain(date(2026, 12, 1), date(2026, 12, 31))
    assert asked == {
        "limit": "250",
        "order": "asc",
        "sort": "ticker",
        "expiration_date.gte": "2026-12-01",
        "expiration_date.lte": "2026-12-31",
    }


# --- the rest ----------------------------------------------------------------------------------------


def test_movers_leave_out_what_we_do_not_spell() -> None:
    body = snapshot(row(), row(ticker="BACpL"), row(ticker="ABC.WS"), row(ticker=None), 7)
    assert [m.symbol for m in parse_movers(body, Ranking.LOSERS, NOW).rows] == ["X", "ABC.WS"]
    with pytest.raises(Unavailable):
        parse_movers(snapshot(), Ranking.LOSERS, NOW)


def test_news_of_several_symbols_is_chosen_from_all() -> None:
    body = {
        "status": "OK",
        "results": [story(id="b", tickers=["Y"]), story(), story(id="c", title=...), None],
    }
    [found] = parse_news(body, ["X", "Z"])
    assert found.id == "a1"
    assert (found.symbols, found.sentiment) == (("X", "BRK.B"), "positive")
    assert [told.sentiment for told in parse_news(body)] == [None, None]
    asked = build_news(["X"], NOW, 5)
    assert (asked["ticker"], asked["limit"]) == ("X", "5")
    assert asked["published_utc.gte"] == "2026-11-24T17:00:00Z"
    several = build_news(["X", "Y"], NOW, 5)
    assert "ticker" not in several
    assert several["limit"] == "1000"


def test_coming_holidays_and_early_closes() -> None:
    found = parse_upcoming(UPCOMING, date(2026, 11, 25), date(2026, 11, 30))
    assert [(told.day.day, told.closes.hour) for told in found] == [(25, 21), (27, 18), (30, 21)]
    with pytest.raises(Unsupported):
        parse_upcoming(UPCOMING, date(2026, 11, 25), date(2026, 12, 28))


@pytest.mark.parametrize(
    ("at", "nyse", "closed"),
    [
        ("2026-11-26T12:00:00-05:00", "closed", True),  # Thanksgiving
        ("2026-11-26T03:00:00-05:00", "closed", False),  # every night
        ("2026-11-27T16:30:00-05:00", "extended-hours", False),
        ("2026-11-27T18:00:00-05:00", "closed", False),
    ],
)
def test_a_holiday_today_is_seen_in_the_status(at: str, nyse: str, closed: bool) -> None:
    body = OPEN | {"serverTime": at, "exchanges": {"nyse": nyse}}
    assert parse_closed_today(body) == (date.fromisoformat(at[:10]) if closed else None)


# --- anything at all ---------------------------------------------------------------------------------


def chain_of(body: Any) -> Any:
    return columns("X", parse_contracts(body, "X"), NOW)


SEEDS: list[tuple[Callable[[Any], Any], Any]] = [
    (lambda body: parse_quotes(body, ["X", "BRK.B"]), snapshot(row(), row(ticker="BRK.B"))),
    (lambda body: parse_bars(body, "X", MINUTE), aggregates(bar("2026-11-24T12:00:00-05:00"))),
    (lambda body: parse_bars(body, "X", DAY), aggregates(bar("2026-11-24T00:00:00-05:00"))),
    (lambda body: parse_grouped(body, ["X"]), aggregates(bar("2026-11-24T16:00:00-05:00", T="X"))),
    (lambda body: parse_movers(body, Ranking.GAINERS, NOW), snapshot(row())),
    (
        lambda body: parse_profile(body, "X", NOW),
        {
            "status": "OK",
            "results": {
                "ticker": "X",
                "name": "X Corp",
                "primary_exchange": "XNYS",
                "list_date": "1980-12-12",
                "market_cap": 2.5e12,
                "total_employees": 12,
                "share_class_shares_outstanding": 16319440000,
            },
        },
    ),
    (lambda body: parse_news(body, ["X"]), {"status": "OK", "results": [story()]}),
    (chain_of, {"status": "OK", "results": [contract(), contract(greeks={})]}),
    (lambda body: parse_upcoming(body, date(2026, 11, 24), date(2026, 12, 1)), UPCOMING),
    (
        parse_closed_today,
        OPEN | {"serverTime": "2026-11-26T12:00:00-05:00", "exchanges": {"nyse": "closed"}},
    ),
    (lambda body: following(body, f"{OPTIONS}/X"), {"next_url": f"https://h{OPTIONS}/X?cursor=1"}),
    (lambda body: refusal(403, body), NOT_ENTITLED),
]

if RECORDINGS.is_dir():
    _parsers: list[tuple[Any, Callable[[Any], Any]]] = [
        (QUOTES, lambda body: parse_quotes(body, ["BCAT", "NVCN", "PDS"])),
        (BARS, lambda body: parse_bars(body, "AAPL", DAY)),
        (GROUPS, lambda body: parse_grouped(body, ["GIK", "VSAT"])),
        (CONTRACTS, chain_of),
        (MOVERS, lambda body: parse_movers(body, Ranking.GAINERS, NOW)),
        (STORIES, parse_news),
        (PROFILES, lambda body: parse_profile(body, "AAPL", NOW)),
        (HOLIDAYS, lambda body: parse_upcoming(body, date(2020, 11, 20), date(2020, 11, 27))),
        (NOT_ASKED, results),
    ]
    SEEDS += [(parse, recording(name)) for names, parse in _parsers for name in names]

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([-999.0, 10**400, 2**63, "NaN", "", "O:X261399C00150000", "9999-12-31", 1e308]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def places(body: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every value in a body."""
    found = [path]
    if isinstance(body, dict):
        found += [way for key in body for way in places(body[key], (*path, key))]
    elif isinstance(body, list):
        found += [way for i, inner in enumerate(body) for way in places(inner, (*path, i))]
    return found


@st.composite
def mutated(draw: st.DrawFn) -> tuple[Callable[[Any], Any], Any]:
    """Draw a parse function and its body with a few values changed, or taken out."""
    parse, body = draw(st.sampled_from(SEEDS))
    body = copy.deepcopy(body)
    for _ in range(draw(st.integers(1, 4))):
        *way, last = draw(st.sampled_from(places(body)[1:] or [(None,)]))
        inner = body
        for key in way:
            inner = inner[key]
        if isinstance(inner, dict | list) and last is not None:
            if draw(st.booleans()):
                inner[last] = draw(anything)
            else:
                del inner[last]
    return parse, body


@settings(max_examples=2200, deadline=None)
@given(mutated())
def test_mutated_answers_raise_our_errors_only(given_: tuple[Callable[[Any], Any], Any]) -> None:
    parse, body = given_
    with contextlib.suppress(ProviderError):
        parse(body)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([parse for parse, _ in SEEDS]), anything)
def test_any_json_raises_our_errors_only(parse: Callable[[Any], Any], body: Any) -> None:
    with contextlib.suppress(ProviderError):
        parse(body)


def test_every_seed_is_good() -> None:
    for parse, body in SEEDS:
        assert parse(body) is not None
