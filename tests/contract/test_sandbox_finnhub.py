"""The sandbox as Finnhub: raw requests as its clients send them, and the adapter through the door."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.domain import calendar
from actors.domain.models import Timeframe
from actors.domain.universe import seed
from actors.providers.base import Denied, RateLimited, Unsupported
from actors.providers.finnhub import Finnhub, refusal
from sandbox.days import Hours
from sandbox.finnhub import Finnhub as Door
from sandbox.finnhub import error_answer
from sandbox.market import Market
from tests.contract.asking import NOON, Still, soon

API = "/finnhub/api/v1"
NOBODY = {"c": 0, "d": None, "dp": None, "h": 0, "l": 0, "o": 0, "pc": 0, "t": 0}
TODAY = NOON.date()
STOCKS = [ticker.symbol for ticker in seed() if ticker.kind == "stock"]
MARKET = Market(7, Hours.NYSE)
NOON_MS = int(NOON.timestamp() * 1000)


@pytest.fixture(scope="module")
def still() -> Still:
    return Still()


@pytest.fixture
async def client(still: Still) -> AsyncIterator[httpx.AsyncClient]:
    async with still.client(**{"X-Finnhub-Token": "any-key"}) as client:
        yield client


@pytest.fixture
async def rich(still: Still) -> AsyncIterator[httpx.AsyncClient]:
    async with still.client(**{"X-Finnhub-Token": "paid-key"}) as client:
        yield client


async def told(client: httpx.AsyncClient, path: str, **params: str) -> Any:
    answer = await client.get(API + path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


# --- the wire ----------------------------------------------------------------------------------------


async def test_a_key_is_needed_in_either_place(still: Still) -> None:
    async with still.client() as client:
        for params in ({}, {"token": ""}):
            answer = await client.get(f"{API}/quote", params={"symbol": "AAPL"} | params)
            assert answer.status_code == 401
            assert answer.json() == {"error": "Please use an API key."}
        for params, headers in (({"token": "k"}, {}), ({}, {"X-Finnhub-Token": "k"})):
            query = {"symbol": "AAPL"} | params
            answer = await client.get(f"{API}/quote", params=query, headers=headers)
            assert answer.status_code == 200


@pytest.mark.parametrize("path", ["//api/v1/quote", "/api/v1//quote", "/api//v1/quote"])
async def test_double_slashes_are_as_good_as_one(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(f"http://127.0.0.1:8900/finnhub{path}?symbol=AAPL")
    assert answer.json() == await told(client, "/quote", symbol="AAPL")


@pytest.mark.parametrize(
    ("path", "params", "status"),
    [
        ("/nothing", {}, 404),
        ("/quote", {}, 422),
        ("/stock/candle", {"symbol": "AAPL"}, 403),
        ("/company-news", {"symbol": "AAPL", "from": "x", "to": "2026-11-24"}, 422),
        ("/company-news", {"symbol": "AAPL"}, 422),
        ("/news", {"category": "sports"}, 422),
        ("/news", {"category": "general", "minId": "x"}, 422),
        ("/calendar/earnings", {"from": "0001-01-01", "to": "9999-12-31"}, 422),
        ("/stock/market-status", {}, 422),
        ("/search", {}, 422),
    ],
)
async def test_what_cannot_be_asked(
    client: httpx.AsyncClient, path: str, params: dict[str, str], status: int
) -> None:
    answer = await client.get(API + path, params=params)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]


def test_errors_are_in_its_words_and_the_adapter_reads_them() -> None:
    assert b"API limit reached. Please try again later. Remaining Limit: 0" in error_answer(429)[0]
    kinds = {401: Denied, 403: Unsupported, 429: RateLimited, 500: type(None)}
    for status, kind in kinds.items():
        body = httpx.Response(status, content=error_answer(status)[0]).json()
        assert type(refusal(status, body)) is kind
    assert Door.name == Finnhub.name


async def test_a_quote_is_the_markets(client: httpx.AsyncClient) -> None:
    quotes = MARKET.quotes(NOON_MS)
    for symbol in ("AAPL", "BRK.B", "SPY"):
        i = MARKET.index[symbol]
        quote = await told(client, "/quote", symbol=symbol)
        assert list(quote) == list(NOBODY)
        assert (quote["c"], quote["pc"]) == (quotes.last[i], quotes.previous_close[i])
        assert quote["d"] == pytest.approx(quote["c"] - quote["pc"], abs=1e-4)
        assert quote["dp"] == pytest.approx(quote["d"] / quote["pc"] * 100, abs=1e-3)
        assert quote["t"] == NOON_MS // 1000
    for nobody in ("NOPE", "BRK/B", "BRK-B", "$SPX"):
        assert await told(client, "/quote", symbol=nobody) == NOBODY


async def test_after_the_close_a_quote_is_of_the_close() -> None:
    still = Still(datetime(2026, 11, 25, 3, 0, tzinfo=UTC))
    async with still.client(**{"X-Finnhub-Token": "k"}) as client:
        quote = await told(client, "/quote", symbol="AAPL")
    assert quote["t"] == datetime(2026, 11, 24, 21, 0, tzinfo=UTC).timestamp()


async def test_candles_are_for_those_who_pay(
    client: httpx.AsyncClient, rich: httpx.AsyncClient
) -> None:
    start, end = NOON_MS // 1000 - 3600, NOON_MS // 1000
    query = {"symbol": "AAPL", "resolution": "1", "from": str(start), "to": str(end)}
    refused = await client.get(f"{API}/stock/candle", params=query)
    assert refused.status_code == 403
    assert refused.json() == {"error": "You don't have access to this resource."}
    candles = await told(rich, "/stock/candle", **query)
    assert sorted(candles) == ["c", "h", "l", "o", "s", "t", "v"]
    assert candles["t"] == list(range(start, end + 1, 60))
    market = MARKET.minutes("AAPL", start * 1000, end * 1000 + 1, NOON_MS)
    assert candles["c"] == market.close.tolist()
    assert candles["v"] == market.volume.tolist()
    since = NOON_MS // 1000 - 31 * 86400
    all_there_is = {"from": "0", "to": "4102444800"}
    assert (await told(rich, "/stock/candle", **(query | all_there_is)))["t"][0] >= since
    for nothing in ({"symbol": "NOPE"}, {"from": str(end), "to": str(start)}):
        assert await told(rich, "/stock/candle", **(query | nothing)) == {"s": "no_data"}
    bad = await rich.get(f"{API}/stock/candle", params=query | {"resolution": "2"})
    assert bad.status_code == 422


@pytest.mark.parametrize(("resolution", "rows"), [("D", 63), ("W", 14), ("M", 4)])
async def test_longer_candles_are_stamped_at_midnight(
    rich: httpx.AsyncClient, resolution: str, rows: int
) -> None:
    first, last = (int(datetime(2026, m, 26, tzinfo=UTC).timestamp()) for m in (8, 11))
    query = {"symbol": "AAPL", "resolution": resolution, "from": str(first), "to": str(last)}
    candles = await told(rich, "/stock/candle", **query)
    assert len(candles["t"]) == pytest.approx(rows, abs=1)
    assert all(at % 86400 == 0 for at in candles["t"])


async def test_profile_and_metrics_are_in_millions(client: httpx.AsyncClient) -> None:
    profile = await told(client, "/stock/profile2", symbol="AAPL")
    price = (await told(client, "/quote", symbol="AAPL"))["c"]
    value = profile["shareOutstanding"] * price
    assert profile["marketCapitalization"] == pytest.approx(value, rel=1e-6)
    metric = await told(client, "/stock/metric", symbol="AAPL", metric="all")
    figures = metric["metric"]
    assert figures["52WeekLow"] <= price <= figures["52WeekHigh"]
    assert figures["peTTM"] == pytest.approx(price / figures["epsTTM"], abs=0.01)
    assert await told(client, "/stock/profile2", symbol="NOPE") == {}
    assert await told(client, "/stock/profile2", symbol="SPY") == {}
    assert await told(client, "/stock/metric", symbol="NOPE", metric="all") == {
        "metric": {},
        "metricType": "all",
        "series": {},
        "symbol": "NOPE",
    }


async def test_news_by_company_and_in_general(client: httpx.AsyncClient) -> None:
    week = {"from": "2026-11-17", "to": "2026-11-24"}
    stories = await told(client, "/company-news", symbol="AAPL", **week)
    assert stories
    for story in stories:
        assert (story["category"], story["related"]) == ("company", "AAPL")
        assert str(datetime.fromtimestamp(story["datetime"], UTC).date()) >= "2026-11-17"
        assert story["datetime"] <= NOON_MS // 1000
    times = [story["datetime"] for story in stories]
    assert times == sorted(times, reverse=True)
    general = await told(client, "/news", category="general")
    assert len(general) == 100
    after = general[10]["id"]
    later = await told(client, "/news", category="general", minId=str(after))
    assert later == general[:10]
    assert await told(client, "/news", category="crypto") == []
    assert await told(client, "/company-news", symbol="NOPE", **week) == []


async def test_old_news_and_far_earnings_are_for_those_who_pay(
    client: httpx.AsyncClient, rich: httpx.AsyncClient
) -> None:
    old = {"from": "2024-01-01", "to": "2024-01-31"}
    assert await told(client, "/company-news", symbol="AAPL", **old) == []
    assert await told(rich, "/company-news", symbol="AAPL", **old)
    assert await told(client, "/calendar/earnings", **old) == {"earningsCalendar": []}
    assert (await told(rich, "/calendar/earnings", **old))["earningsCalendar"]


async def test_a_long_calendar_is_cut(rich: httpx.AsyncClient) -> None:
    long = {"from": "2025-01-01", "to": "2026-12-31"}
    rows = (await told(rich, "/calendar/earnings", **long))["earningsCalendar"]
    assert len(rows) == 1500
    assert rows[-1]["date"] > "2026-01-15"  # the older ones are gone without a word
    one = (await told(rich, "/calendar/earnings", **long, symbol="AAPL"))["earningsCalendar"]
    assert [row["symbol"] for row in one] == ["AAPL"] * 8


async def test_earnings_are_known_when_they_are_out(client: httpx.AsyncClient) -> None:
    rows = (await told(client, "/calendar/earnings", **{"from": "2026-10-26", "to": "2026-12-20"}))[
        "earningsCalendar"
    ]
    for row in rows:
        out = row["date"] < "2026-11-24" or (row["date"] == "2026-11-24" and row["hour"] == "bmo")
        assert (row["epsActual"] is not None) == (row["revenueActual"] is not None) == out
        assert row["hour"] in {"bmo", "amc"}
    past = await told(client, "/stock/earnings", symbol="AAPL")
    assert len(past) == 4
    assert await told(client, "/stock/earnings", symbol="AAPL", limit="2") == past[:2]
    for row in past:
        assert row["surprise"] == pytest.approx(row["actual"] - row["estimate"], abs=1e-3)


@pytest.mark.parametrize(
    ("at", "session", "holiday"),
    [
        (datetime(2026, 11, 24, 17, 0, tzinfo=UTC), "regular", None),
        (datetime(2026, 11, 24, 9, 0, tzinfo=UTC), "pre-market", None),
        (datetime(2026, 11, 24, 8, 59, tzinfo=UTC), None, None),
        (datetime(2026, 11, 24, 21, 0, tzinfo=UTC), "post-market", None),
        (datetime(2026, 11, 25, 1, 0, tzinfo=UTC), None, None),
        (datetime(2026, 11, 26, 17, 0, tzinfo=UTC), None, "Thanksgiving Day"),
        (datetime(2026, 11, 27, 18, 30, tzinfo=UTC), "post-market", None),
        (datetime(2026, 11, 28, 17, 0, tzinfo=UTC), None, None),
    ],
)
async def test_the_status_of_the_market(
    at: datetime, session: str | None, holiday: str | None
) -> None:
    async with Still(at).client(**{"X-Finnhub-Token": "k"}) as client:
        status = await told(client, "/stock/market-status", exchange="US")
    assert status == {
        "exchange": "US",
        "holiday": holiday,
        "isOpen": session == "regular",
        "session": session,
        "t": int(at.timestamp()),
        "timezone": "America/New_York",
    }


async def test_search_symbols_and_peers(client: httpx.AsyncClient) -> None:
    peers = await told(client, "/stock/peers", symbol="AAPL")
    assert peers[0] == "AAPL"
    assert len(set(peers)) == 10
    found = await told(client, "/search", q="apple", exchange="US")
    assert found["count"] == len(found["result"]) > 0
    assert {"description", "displaySymbol", "symbol", "type"} == set(found["result"][0])
    assert (await told(client, "/search", q="AAPL"))["result"][0]["symbol"] == "AAPL"
    assert len(await told(client, "/stock/symbol", exchange="US")) == len(seed())


# --- through the adapter -----------------------------------------------------------------------------


@pytest.fixture
async def finnhub(still: Still, tmp_path: Path) -> AsyncIterator[Finnhub]:
    made = still.adapter(Finnhub, "any-finnhub-key", tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def paid(still: Still, tmp_path: Path) -> AsyncIterator[Finnhub]:
    made = still.adapter(Finnhub, "paid-finnhub-key", tmp_path)
    yield made
    await made.close()


async def test_quotes(finnhub: Finnhub) -> None:
    (quote,) = (await finnhub.quotes(["BRK.B"], soon())).quotes
    assert quote.symbol == "BRK.B"
    assert quote.at == NOON
    assert quote.last == MARKET.quotes(NOON_MS).last[MARKET.index["BRK.B"]]
    assert (await finnhub.quotes(["NOPE"], soon())).unknown == ("NOPE",)


async def test_bars(finnhub: Finnhub, paid: Finnhub) -> None:
    start = NOON - timedelta(days=70)
    with pytest.raises(Unsupported):
        await finnhub.bars(["AAPL"], Timeframe.DAY, start, NOON, soon())
    days = await paid.bars(["AAPL"], Timeframe.DAY, start, NOON, soon())
    assert days.next is None
    sessions = [calendar.session(start.date() + timedelta(days=n)) for n in range(71)]
    assert [bar.at.date() for bar in days.bars] == [s.day for s in sessions if s][1:]
    pages, page = [], None
    while True:
        found = await paid.bars(["AAPL"], Timeframe.MINUTE, start, NOON, soon(), page)
        pages.append(found.bars)
        if (page := found.next) is None:
            break
    bars = [bar for found in pages for bar in found]
    assert len(pages) == 3
    market = MARKET.minutes("AAPL", int(start.timestamp() * 1000), NOON_MS, NOON_MS)
    assert [bar.at.timestamp() * 1000 for bar in bars] == market.at.tolist()
    assert [bar.close for bar in bars] == market.close.tolist()
    fives = await paid.bars(
        ["AAPL"], Timeframe.FIVE_MINUTES, NOON - timedelta(hours=1), NOON, soon()
    )
    assert len(fives.bars) == 12


async def test_companies(finnhub: Finnhub) -> None:
    apple = await finnhub.profile("AAPL", soon())
    assert apple is not None
    assert apple.market_cap == pytest.approx((apple.shares_outstanding or 0) * 272, rel=0.7)
    assert (apple.country, apple.industry is None) == ("US", False)
    fund = await finnhub.profile("SPY", soon())
    assert fund is not None
    assert fund.high_52w
    assert await finnhub.profile("NOPE", soon()) is None
    months = await finnhub.recommendations("AAPL", soon())
    expected = [date(2026, month, 1) for month in (11, 10, 9, 8)]
    assert [row.month for row in months] == expected
    assert await finnhub.recommendations("NOPE", soon()) == ()


async def test_stories(finnhub: Finnhub) -> None:
    since = NOON - timedelta(days=20)
    stories = await finnhub.news(["AAPL", "BRK.B"], since, 50, soon())
    assert {"AAPL", "BRK.B"} <= {symbol for story in stories for symbol in story.symbols}
    times = [story.at for story in stories]
    assert times == sorted(times, reverse=True)
    assert all(since <= at <= NOON for at in times)
    general = await finnhub.news([], since, 5, soon())
    assert len(general) == 5


async def test_the_calendar_of_earnings(
    finnhub: Finnhub, paid: Finnhub, client: httpx.AsyncClient
) -> None:
    month = await finnhub.earnings(TODAY, TODAY + timedelta(days=29), soon())
    at_once = {"from": TODAY.isoformat(), "to": (TODAY + timedelta(days=29)).isoformat()}
    rows = (await told(client, "/calendar/earnings", **at_once))["earningsCalendar"]
    assert {(r.symbol, r.day.isoformat()) for r in month} == {
        (r["symbol"], r["date"]) for r in rows
    }
    assert len(month) == pytest.approx(len(STOCKS) * 30 / 91, rel=0.25)
    assert [row.day for row in month] == sorted(row.day for row in month)
    assert all(TODAY <= row.day <= TODAY + timedelta(days=29) for row in month)
    one = await paid.earnings(date(2024, 1, 1), date(2026, 12, 31), soon(), "AAPL")
    assert len(one) == 12
    assert {row.symbol for row in one} == {"AAPL"}


async def test_hours(finnhub: Finnhub) -> None:
    first, last = date(2025, 1, 1), date(2027, 12, 31)
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    expected = tuple(s for day in days if (s := calendar.session(day)))
    assert await finnhub.hours(first, last, soon()) == expected


async def test_a_full_calendar_is_asked_for_in_halves(
    paid: Finnhub, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await paid.earnings(TODAY, TODAY + timedelta(days=6), soon())
    monkeypatch.setattr("actors.providers.finnhub.FULL", 10)
    monkeypatch.setattr("sandbox.finnhub.MOST_REPORTS", 10)
    cut = await paid.earnings(TODAY, TODAY + timedelta(days=6), soon())
    assert len(cut) > 10
    assert set(cut) <= set(whole)
    busy = {row.day for row in whole} - {row.day for row in cut}
    assert not busy
