"""The sandbox as Polygon: through the real adapter, and asked as the vendor's official client asks."""

import asyncio
import json
import os
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.domain import calendar
from actors.domain.models import Ranking, Timeframe
from actors.domain.universe import seed as universe
from actors.providers import polygon
from actors.providers.base import (
    Denied,
    Malformed,
    ProviderError,
    RateLimited,
    Unavailable,
    Unsupported,
)
from actors.providers.http import Tools
from actors.providers.polygon import Polygon
from actors.providers.vendor import Kind
from actors.settings import Settings
from sandbox.app import build
from sandbox.clock import Clock
from sandbox.days import Hours
from sandbox.market import Market
from sandbox.options import Options

REPO = Path(__file__).parents[2]
RECORDED = Path(os.environ.get("VOLARIS_FIXTURES", REPO.parent / "shared" / "fixtures")) / "polygon"
recorded = pytest.mark.skipif(not RECORDED.is_dir(), reason=f"no recordings in {RECORDED}")

NOON = datetime(2026, 11, 24, 17, 0, 30, tzinfo=UTC)  # a Tuesday; 12:00 in New York
NOW = int(NOON.timestamp() * 1000)
BASE = "http://127.0.0.1:8900/polygon"
STOCKS = "/v2/snapshot/locale/us/markets/stocks"
SYMBOLS = [ticker.symbol for ticker in universe()]
KEY = "paid-key-that-nobody-may-read"


class Still(Clock):
    """A clock that a test sets."""

    def __init__(self, at=NOON):
        super().__init__(at, speed=0.0)


@pytest.fixture(scope="module")
def clock():
    return Still()


@pytest.fixture(scope="module")
def door(clock):
    return build(clock=clock)


@pytest.fixture(scope="module")
def market():
    return Market(7)


@pytest.fixture
def at_noon(clock):
    """Give the clock, and set it back."""
    yield clock
    clock.set(NOON)


def adapter(transport, key=KEY, clock=None):
    now = clock.now if clock else lambda: NOON
    tools = Tools(tokens=None, vault=None, transport=transport, now=now)
    return Polygon(key, BASE, "60000/min", tools)


@pytest.fixture
async def vendor(door, clock):
    found = adapter(httpx.ASGITransport(door), clock=clock)
    yield found
    await found.close()


@pytest.fixture
def client(door):
    """Give a client that sends what the official Python client sends."""
    headers = {"Authorization": f"Bearer {KEY}", "Accept-Encoding": "gzip"}
    transport = httpx.ASGITransport(door)
    return httpx.AsyncClient(transport=transport, base_url=BASE, headers=headers)


@pytest.fixture
async def spoil(door):
    """Give a function that puts a fault in force, and end it afterwards."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(door), base_url=BASE) as http:

        async def rule(**fault):
            answer = await http.post("http://s/control/faults", json={"vendor": "polygon"} | fault)
            answer.raise_for_status()

        yield rule
        await http.delete("http://s/control/faults")


@pytest.fixture
async def free(door, clock):
    found = adapter(httpx.ASGITransport(door), "free-key", clock)
    yield found
    await found.close()


def soon():
    return time.monotonic() + 30


async def all_bars(vendor, symbols, timeframe, start, end):
    """Return the bars of every page, and how many pages there were."""
    found, page, pages = [], None, 0
    while pages == 0 or page is not None:
        answer = await vendor.bars(symbols, timeframe, start, end, soon(), page)
        found += answer.bars
        page, pages = answer.next, pages + 1
    return found, pages


# Through the adapter


async def test_quotes_of_everything_are_the_markets(vendor, market):
    asked = [*SYMBOLS, "NOPE"]
    before = vendor.limiter.total
    batch = await vendor.quotes(asked, soon())
    assert vendor.limiter.total == before + 1
    assert batch.unknown == ("NOPE",)
    assert batch.failed == ()
    truth = market.quotes(NOW)
    assert [quote.symbol for quote in batch.quotes] == SYMBOLS
    for told in batch.quotes:
        i = market.index[told.symbol]
        assert (told.last, told.bid, told.ask) == (truth.last[i], truth.bid[i], truth.ask[i])
        assert (told.bid_size, told.ask_size) == (truth.bid_size[i], truth.ask_size[i])
        assert (told.open, told.high, told.low) == (truth.open[i], truth.high[i], truth.low[i])
        assert (told.close, told.volume) == (truth.last[i], truth.volume[i])
        assert told.previous_close == truth.previous_close[i]
        assert told.at.timestamp() * 1000 == truth.at
        percent = (truth.last[i] / truth.previous_close[i] - 1) * 100
        assert told.change_percent == pytest.approx(percent, abs=1e-3)
        assert not told.delayed


async def test_the_last_minute_of_everything_is_the_markets(client, market):
    rows = (await client.get(f"{STOCKS}/tickers")).json()["tickers"]
    assert len(rows) == len(SYMBOLS)
    for row in rows[::20]:
        candles = market.minutes(row["ticker"], NOW - 30_000, NOW + 1, NOW)
        told = row["min"]
        assert told["t"] == candles.at[-1]
        for name, column in (
            ("o", candles.open),
            ("h", candles.high),
            ("l", candles.low),
            ("c", candles.close),
            ("v", candles.volume),
        ):
            assert told[name] == column[-1], row["ticker"]


async def test_minutes_are_the_markets_over_pages(vendor, market, monkeypatch):
    monkeypatch.setattr(polygon, "MOST_BARS", 100)
    start, end = NOON - timedelta(hours=4), NOON - timedelta(minutes=7)
    found, pages = await all_bars(vendor, ["AAPL", "BRK.B"], Timeframe.MINUTE, start, end)
    assert pages > 4
    opens = calendar.session(NOON.date()).opens
    for symbol in ("AAPL", "BRK.B"):
        ours = [bar for bar in found if bar.symbol == symbol]
        span = int(opens.timestamp() * 1000), int(end.timestamp() * 1000)
        truth = market.minutes(symbol, *span, NOW)
        assert [bar.at.timestamp() * 1000 for bar in ours] == truth.at.tolist()
        assert [bar.close for bar in ours] == truth.close.tolist()
        assert [bar.volume for bar in ours] == truth.volume.tolist()


async def test_five_minutes_are_made_of_minutes(vendor, market, monkeypatch):
    monkeypatch.setattr(polygon, "MOST_BARS", 17)
    start = NOON - timedelta(hours=1, seconds=30)
    found, pages = await all_bars(vendor, ["SPY"], Timeframe.FIVE_MINUTES, start, NOON)
    assert pages > 3
    assert [bar.at.minute for bar in found] == [*range(0, 60, 5), 0]
    truth = market.minutes("SPY", int(start.timestamp() * 1000), NOW + 1, NOW)
    assert sum(bar.volume for bar in found) == truth.volume.sum()
    assert max(bar.high for bar in found) == truth.high.max()
    assert found[0].open == truth.open[0]


async def test_days_of_many_symbols_are_asked_by_day_and_of_few_by_symbol(vendor, market):
    start, end = datetime(2026, 11, 18, tzinfo=UTC), datetime(2026, 11, 24, tzinfo=UTC)
    many = [*SYMBOLS[:20], "NOPE"]
    by_day, pages = await all_bars(vendor, many, Timeframe.DAY, start, end)
    assert pages == 4  # Wednesday, Thursday, Friday, Monday
    few = SYMBOLS[:3]
    by_symbol, pages = await all_bars(vendor, few, Timeframe.DAY, start, end)
    assert pages == 3
    weekdays = [bar for bar in by_symbol if bar.at.weekday() < 5]  # the sandbox trades on all days
    assert weekdays == sorted(
        (bar for bar in by_day if bar.symbol in few),
        key=lambda bar: (few.index(bar.symbol), bar.at),
    )
    assert len(by_day) == 4 * 20
    for symbol in few:
        truth = market.days(symbol, start.date(), date(2026, 11, 23), NOW)
        ours = [bar for bar in by_symbol if bar.symbol == symbol]
        assert [bar.close for bar in ours] == truth.close.tolist()
        assert [bar.volume for bar in ours] == truth.volume.tolist()
        assert [bar.at.date().day for bar in ours] == [18, 19, 20, 21, 22, 23]


async def test_no_bars_are_no_error(vendor):
    start, end = datetime(2026, 11, 16, tzinfo=UTC), datetime(2026, 11, 24, tzinfo=UTC)
    answer = await vendor.bars(["NOPE"], Timeframe.DAY, start, end, soon())
    assert (answer.bars, answer.next) == ((), None)
    weekend = datetime(2026, 11, 21, tzinfo=UTC), datetime(2026, 11, 23, tzinfo=UTC)
    before = vendor.limiter.total
    assert (await vendor.bars(["SPY"], Timeframe.DAY, *weekend, soon())).bars == ()
    assert (await vendor.bars(["SPY"], Timeframe.MINUTE, end, start, soon())).bars == ()
    assert vendor.limiter.total == before


async def test_a_chain_is_the_book_over_pages(vendor, market):
    book = Options(market).book("AAPL", NOW)
    before = vendor.limiter.total
    chain = await vendor.chain("AAPL", soon())
    assert vendor.limiter.total - before == -(-len(book) // 250) > 3
    assert chain.contract.tolist() == book.contract.tolist()
    for ours, theirs in (
        (chain.bid, book.bid),
        (chain.ask, book.ask),
        (chain.open_interest, book.open_interest),
        (chain.bid_size, book.bid_size),
    ):
        assert np.array_equal(ours, theirs)
    for name in ("iv", "delta", "gamma", "theta", "vega"):
        assert np.array_equal(getattr(chain, name), getattr(book, name), equal_nan=True), name
    assert np.isnan(book.iv).any()
    assert np.isnan(chain.rho).all()
    assert np.array_equal(np.nan_to_num(chain.volume), book.volume)
    assert chain.spot == book.spot
    assert chain.standard.all()
    assert not chain.delayed


async def test_a_chain_of_some_dates_and_of_what_has_none(vendor):
    first, last = date(2026, 12, 1), date(2026, 12, 20)
    chain = await vendor.chain("BRK.B", soon(), first, last)
    assert len(chain)
    assert sorted({str(day) for day in chain.expiration})[::2] == ["2026-12-04", "2026-12-18"]
    assert chain.contract[0].startswith("BRKB  261204C")
    assert len(await vendor.chain("BRK.B", soon(), date(2026, 12, 19), last)) == 0
    with pytest.raises(Unsupported):
        await vendor.chain("NOPE", soon())


async def test_movers_are_the_markets(vendor, market):
    truth = market.quotes(NOW)
    change = (truth.last / truth.previous_close - 1) * 100
    shares = [i for i, row in enumerate(market.listings) if row.kind != "index"]
    for ranking, sign in ((Ranking.GAINERS, -1), (Ranking.LOSERS, 1)):
        movers = await vendor.movers(ranking, soon())
        best = sorted(shares, key=lambda i: sign * change[i])[:20]
        assert [mover.symbol for mover in movers.rows] == [market.symbols[i] for i in best]
        assert movers.rows[0].change_percent == pytest.approx(change[best[0]], abs=1e-3)
    with pytest.raises(Unsupported):
        await vendor.movers(Ranking.ACTIVE, soon())


async def test_profiles(vendor, market):
    profile = await vendor.profile("BRK.B", soon())
    i = market.index["BRK.B"]
    assert profile.name == market.listings[i].name
    assert profile.shares_outstanding == market.listings[i].shares
    price = market.quotes(NOW).last[i]
    assert profile.market_cap == pytest.approx(price * profile.shares_outstanding)
    assert (await vendor.profile("SPY", soon())).market_cap is None
    assert await vendor.profile("NOPE", soon()) is None


async def test_news_of_one_of_several_and_of_all(vendor):
    since = NOON - timedelta(days=3)
    one = await vendor.news(["AAPL"], since, 5, soon())
    assert 0 < len(one) <= 5
    assert all("AAPL" in story.symbols and since <= story.at <= NOON for story in one)
    several = await vendor.news(["AAPL", "MSFT"], since, 500, soon())
    assert [story for story in several if "AAPL" in story.symbols][:5] == list(one)
    everything = await vendor.news([], since, 50, soon())
    assert len(everything) == 50
    assert sorted(everything, key=lambda story: story.at, reverse=True) == list(everything)
    assert {story.sentiment for story in everything} == {"positive", "neutral", "negative"}


async def test_hours_are_the_calendar(vendor, at_noon):
    first, last = date(2026, 11, 24), date(2027, 9, 1)
    days = (first + timedelta(n) for n in range((last - first).days + 1))
    assert await vendor.hours(first, last, soon()) == tuple(
        found for day in days if (found := calendar.session(day))
    )
    with pytest.raises(Unsupported):
        await vendor.hours(date(2026, 11, 23), last, soon())
    thanksgiving = date(2026, 11, 26)
    at_noon.set(NOON + timedelta(days=2))
    found = await vendor.hours(thanksgiving, date(2026, 11, 27), soon())
    assert [session.day.day for session in found] == [27]


# Plans


async def test_the_free_plan_has_no_snapshots(free):
    for ask in (
        free.quotes(["SPY"], soon()),
        free.chain("SPY", soon()),
        free.movers(Ranking.GAINERS, soon()),
    ):
        with pytest.raises(Unsupported) as caught:
            await ask
        assert "plan" in str(caught.value)
    assert (await free.profile("SPY", soon())).name


async def test_the_free_plan_has_two_years_until_yesterday(free):
    today = datetime(2026, 11, 24, tzinfo=UTC)
    end = today + timedelta(days=1)
    found = await free.bars(["SPY"], Timeframe.DAY, today - timedelta(days=5), end, soon())
    assert found.bars[-1].at == today - timedelta(days=1)
    with pytest.raises(Unsupported):
        await free.bars(["SPY"], Timeframe.MINUTE, today + timedelta(hours=14), end, soon())
    with pytest.raises(Unsupported) as caught:
        await free.bars(["SPY", "QQQ"], Timeframe.DAY, today, end, soon())
    assert "before the day is over" in str(caught.value)
    start = today - timedelta(days=1000)
    cut = await free.bars(["SPY"], Timeframe.DAY, start, end, soon())
    assert 729 <= (today - cut.bars[0].at).days <= 731
    with pytest.raises(Unsupported):
        await free.bars(["SPY"], Timeframe.DAY, start, start + timedelta(days=50), soon())


async def test_the_starter_plan_is_late_and_has_no_quotes(door, clock, market):
    vendor = adapter(httpx.ASGITransport(door), "starter-key", clock)
    [quote] = (await vendor.quotes(["SPY"], soon())).quotes
    truth = market.quotes(NOW - 15 * 60_000)
    assert quote.last == truth.last[market.index["SPY"]]
    assert (quote.bid, quote.ask, quote.delayed) == (None, None, True)
    assert NOON - quote.at >= timedelta(minutes=15)
    chain = await vendor.chain("SPY", soon(), date(2026, 12, 1), date(2026, 12, 4))
    assert chain.delayed
    assert np.isnan(chain.bid).all()
    assert np.isfinite(chain.iv).any()
    await vendor.close()


async def test_the_snapshot_is_cleared_where_the_market_keeps_hours():
    at = datetime(2026, 11, 24, 8, 45, tzinfo=UTC)  # 03:45 in New York
    clock = Still(at - timedelta(hours=1))
    vendor = adapter(httpx.ASGITransport(build(clock=clock, hours=Hours.NYSE)), clock=clock)
    [quote] = (await vendor.quotes(["SPY"], soon())).quotes
    assert quote.volume
    clock.set(at)
    batch = await vendor.quotes(["SPY", "QQQ"], soon())
    assert batch.quotes == ()
    assert [symbol for symbol, _ in batch.failed] == ["SPY", "QQQ"]
    with pytest.raises(Unavailable):
        await vendor.movers(Ranking.LOSERS, soon())
    await vendor.close()


# Faults


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, Unsupported), (401, Denied), (403, Unsupported), (429, RateLimited), (500, Unavailable)],
)
async def test_errors_in_the_vendors_words(vendor, spoil, status, kind):
    await spoil(kind="status", status=status)
    with pytest.raises(kind) as caught:
        await vendor.quotes(["SPY"], soon())
    assert type(caught.value) is kind
    assert (vendor.limiter.delay > 30) is (status == 429)


async def test_a_limit_told_with_a_200_pauses_too():
    told = {"status": "ERROR", "request_id": "r", "error": "You've exceeded the maximum requests"}
    vendor = adapter(httpx.MockTransport(lambda _: httpx.Response(200, json=told)))
    with pytest.raises(RateLimited):
        await vendor.profile("SPY", soon())
    assert vendor.limiter.delay > 30
    await vendor.close()


async def test_numbers_strewn_with_no_values_fail_no_batch(vendor, spoil):
    await spoil(kind="nan")
    batch = await vendor.quotes(SYMBOLS, soon())
    assert len(batch.quotes) + len(batch.failed) == len(SYMBOLS)
    assert len(batch.quotes) > len(SYMBOLS) * 0.9
    chain = await vendor.chain("SPY", soon(), date(2026, 12, 1), date(2026, 12, 10))
    assert len(chain)
    assert (chain.strike > 0).all()


async def test_the_key_is_read_nowhere_and_goes_to_one_host():
    seen = []

    def answered(request):
        seen.append(request)
        if "AAPL" not in request.url.path:
            return httpx.Response(403, json={"status": "ERROR", "error": f"bad key {KEY}"})
        row = {"details": {"ticker": "O:AAPL261218C00270000"}}
        told = {"status": "OK", "results": [row]}
        if "cursor" not in str(request.url):
            elsewhere = "https://evil.example:443/v3/snapshot/options/AAPL?cursor=abc%3D"
            told["next_url"] = elsewhere
        return httpx.Response(200, json=told)

    vendor = adapter(httpx.MockTransport(answered))
    assert len(await vendor.chain("AAPL", soon())) == 1
    assert [str(request.url) for request in seen] == [
        f"{BASE}/v3/snapshot/options/AAPL?limit=250&order=asc&sort=ticker",
        f"{BASE}/v3/snapshot/options/AAPL?cursor=abc%3D",
    ]
    assert all(request.headers["authorization"] == f"Bearer {KEY}" for request in seen)
    assert not any(KEY in str(request.url) for request in seen)
    with pytest.raises(ProviderError) as caught:
        await vendor.profile("SPY", soon())
    shown = [str(caught.value), repr(caught.value), repr(vendor), repr(caught.value.__context__)]
    assert not any(KEY in text for text in shown)
    await vendor.close()


async def test_a_chain_without_end_is_refused(monkeypatch):
    url = "https://api.massive.com/v3/snapshot/options/AAPL?cursor=again"
    told = {"status": "OK", "results": [], "next_url": url}
    vendor = adapter(httpx.MockTransport(lambda _: httpx.Response(200, json=told)))
    monkeypatch.setattr(polygon, "MOST_PAGES", 3)
    with pytest.raises(Unsupported):
        await vendor.chain("AAPL", soon())
    assert vendor.limiter.total == 3
    told["next_url"] = "https://api.massive.com/v2/reference/news?cursor=again"
    with pytest.raises(Malformed):
        await vendor.chain("AAPL", soon())
    await vendor.close()


def test_it_is_made_from_the_settings(monkeypatch):
    tools = Tools(tokens=None, vault=None)
    assert Polygon.of(Settings(polygon_api_key=None), tools) is None
    vendor = Polygon.of(Settings(polygon_api_key="k" * 20), tools)
    assert all(callable(getattr(vendor, kind.value)) for kind in Polygon.sells)
    assert not hasattr(vendor, Kind.EARNINGS.value)
    assert vendor.login_expires_at is None


# As others ask


async def test_a_key_in_the_header_or_the_query(door):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(door), base_url=BASE) as http:
        path = "/v3/reference/splits"
        for query in ("", "?apiKey="):
            answer = await http.get(path + query)
            assert answer.status_code == 401
            assert answer.json()["error"] == "API Key was not provided"
            assert answer.json()["status"] == "ERROR"
        assert (await http.get(path + "?apiKey=anything")).status_code == 200
        empty = await http.get(path, headers={"Authorization": "Bearer "})
        assert empty.status_code == 401
        refused = await http.get(f"{STOCKS}/tickers?apiKey=free1")
        assert refused.status_code == 403
        assert refused.json()["status"] == "NOT_AUTHORIZED"
        assert refused.json()["message"].startswith("You are not entitled to this data.")
        assert (await http.get("/v9/nothing", params={"apiKey": "x"})).text.startswith("404 page")


@pytest.mark.parametrize(
    ("path", "params", "key"),
    [
        ("/v3/snapshot/options/SPY", {"limit": 90, "expiration_date": "2026-12-18"}, "ticker"),
        ("/v3/reference/tickers", {"limit": 200}, "ticker"),
        ("/v3/reference/options/contracts", {"underlying_ticker": "F", "limit": 90}, "ticker"),
        ("/v3/reference/dividends", {"limit": 400}, "ticker"),
        ("/v2/reference/news", {"limit": 40, "published_utc.gte": "2026-11-24"}, "id"),
        ("/v2/reference/news", {"limit": 40, "published_utc.gte": "2026-11-24", "order": "asc"}, "id"),
        ("/v2/aggs/ticker/SPY/range/1/minute/2026-11-24/2026-11-24", {"limit": 300}, "t"),
        ("/v2/aggs/ticker/SPY/range/7/minute/2026-11-24/2026-11-24", {"limit": 300, "sort": "desc"}, "t"),
    ],
)  # fmt: skip
async def test_pages_are_followed_in_every_way(client, path, params, key):
    async def follow(how):
        rows, at = [], None
        while at != "end":
            answer = await (client.get(path, params=params) if at is None else client.get(at))
            body = answer.json()
            assert answer.status_code == 200, body
            rows += [row.get("details", row)[key] for row in body["results"]]
            url = body.get("next_url")
            assert url is None or KEY not in url
            at = how(url) if url else "end"
        return rows

    whole = await follow(lambda url: url)  # as it is
    # The official client of today keeps path and query, the one of before takes its base off.
    official = await follow(lambda url: BASE + urlsplit(url).path + "?" + urlsplit(url).query)
    former = await follow(lambda url: BASE + url.replace(BASE, ""))
    assert whole == official == former
    assert len(whole) > params["limit"] or "range/7" in path
    assert len(set(whole)) == len(whole) or "dividends" in path
    if "asc" in params.values() or "minute" in path:
        assert whole == sorted(whole, reverse="desc" in params.values()) or key == "id"


async def test_longer_bars_are_made_of_days(client):
    async def results(span):
        path = f"/v2/aggs/ticker/AAPL/range/1/{span}/2026-01-01/2026-10-31"
        body = (await client.get(path, params={"limit": 50_000})).json()
        assert body["queryCount"] == 304
        return body["results"]

    days = await results("day")
    for span, count in (("week", 44), ("month", 10), ("quarter", 4), ("year", 1)):
        rows = await results(span)
        assert len(rows) == count
        assert sum(row["v"] for row in rows) == sum(row["v"] for row in days)
        assert max(row["h"] for row in rows) == max(row["h"] for row in days)
        assert (rows[0]["o"], rows[-1]["c"]) == (days[0]["o"], days[-1]["c"])
        assert rows[0]["t"] == days[0]["t"]


@pytest.mark.parametrize(
    ("path", "params", "said"),
    [
        ("/v2/aggs/ticker/X/range/1/minute/tomorrow/2026-11-24", {}, "'from'"),
        ("/v2/aggs/ticker/X/range/1/minute/2026-11-24/2026-11-20", {}, "'to'"),
        ("/v2/aggs/ticker/X/range/0/minute/2026-11-20/2026-11-24", {}, "multiplier"),
        ("/v2/aggs/ticker/X/range/1/decade/2026-11-20/2026-11-24", {}, "timespan"),
        ("/v2/aggs/ticker/X/range/1/day/2026-11-20/2026-11-24", {"limit": 50_001}, "limit"),
        ("/v2/aggs/ticker/X/range/1/day/2026-11-20/2026-11-24", {"sort": "up"}, "sort"),
        ("/v2/aggs/grouped/locale/us/market/stocks/yesterday", {}, "date"),
        ("/v3/snapshot/options/SPY", {"limit": 251}, "limit"),
        ("/v3/snapshot/options/SPY", {"contract_type": "both"}, "contract_type"),
        ("/v3/snapshot/options/SPY", {"expiration_date.gte": "soon"}, "expiration_date.gte"),
        ("/v3/snapshot/options/SPY", {"cursor": "!!"}, "cursor"),
        ("/v3/snapshot", {"ticker.any_of": ",".join(f"A{n}" for n in range(251))}, "any_of"),
        (f"{STOCKS}/sideways", {}, "direction"),
        ("/v2/reference/news", {"published_utc.gte": "soon"}, "published_utc"),
        ("/v3/reference/tickers", {"order": "up"}, "order"),
    ],
)
async def test_what_cannot_be_answered_is_said(client, path, params, said):
    answer = await client.get(path, params=params)
    assert answer.status_code == 400
    body = answer.json()
    assert (body["status"], set(body)) == ("ERROR", {"status", "request_id", "error"})
    assert said in body["error"]


@pytest.mark.parametrize(
    "path",
    [f"{STOCKS}/tickers/NOPE", "/v3/reference/tickers/NOPE", "/v3/snapshot/options/SPY/O:NOPE"],
)
async def test_what_is_not_there(client, path):
    answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.json()["status"] == "NOT_FOUND"
    assert "not found" in answer.json()["message"]


async def test_a_typed_batch_says_what_is_not_there(client):
    [contract] = (await client.get("/v3/snapshot/options/AAPL?limit=1")).json()["results"]
    ticker = contract["details"]["ticker"]
    asked = {"ticker.any_of": f"AAPL,{ticker},TSLAAPL,O:AAPL991231C00000000"}
    rows = (await client.get("/v3/snapshot", params=asked)).json()["results"]
    missing = {"error": "NOT_FOUND", "message": "Ticker not found."}
    assert [row.get("type") for row in rows] == ["stocks", "options", None, None]
    assert rows[2] == missing | {"ticker": "TSLAAPL"}
    assert rows[1]["details"]["underlying_ticker"] == "AAPL"
    assert len((await client.get("/v3/snapshot")).json()["results"]) == 10
    only = {"ticker.any_of": f"AAPL,{ticker}", "type": "options"}
    assert len((await client.get("/v3/snapshot", params=only)).json()["results"]) == 1


async def test_search_finds_by_name_and_ticker(client):
    async def found(**params):
        body = (await client.get("/v3/reference/tickers", params=params)).json()
        assert body["count"] == len(body["results"])
        return [row["ticker"] for row in body["results"]]

    assert await found(search="apple") == ["AAPL"]
    assert await found(ticker="BRK.B") == ["BRK.B"]
    assert await found(ticker="NOPE") == []
    assert "SPY" in await found(type="ETF")
    later = {"ticker.gte": "Z", "order": "desc"}
    assert (await found(**later))[0] == "ZTS"
    assert await found(market="crypto") == []


async def test_the_index_has_options_and_the_index_alone(client):
    body = (await client.get("/v3/snapshot/options/I:SPX?limit=250")).json()
    roots = {row["details"]["ticker"][2:-15] for row in body["results"]}
    assert roots <= {"SPX", "SPXW"}
    assert body["results"][0]["details"]["exercise_style"] == "european"
    assert body["results"][0]["underlying_asset"]["ticker"] == "I:SPX"


ODDITIES = """
0 -1 1 7 1e999 nan 9999-12-31 0001-01-01 2026-11-24 2023-01-01 1795539600000 O: I:SPX $SPX Ⅷ AAPL
99999999999999999999999 O:AAPL261218C00270000 %00 asc desc day minute year week call true YXA9MQ
a,b,,c 2026-11-24T10:00:00Z 9999-12-31T23:59:59-12:00 0001-01-01T00:00:00+12:00
"""
PARAMETERS = """
limit sort order cursor ticker ticker.any_of ticker.gte type search tickers strike_price.gte apiKey
expiration_date.lte contract_type adjusted cik underlying_ticker published_utc published_utc.lt
ex_dividend_date.gt
"""
ODD = st.text(max_size=5) | st.sampled_from(ODDITIES.split())
NAMES = st.sampled_from(PARAMETERS.split())
PATHS = st.sampled_from(
    [
        f"{STOCKS}/tickers",
        f"{STOCKS}/tickers/{{}}",
        f"{STOCKS}/{{}}",
        "/v3/snapshot",
        "/v3/snapshot/options/{}",
        "/v3/snapshot/options/{}/{}",
        "/v2/aggs/ticker/{}/range/{}/{}/{}/{}",
        "/v2/aggs/ticker/AAPL/range/7/{}/{}/{}",
        "/v2/aggs/ticker/AAPL/range/1/day/{}/{}",
        "/v2/aggs/ticker/{}/prev",
        "/v2/aggs/grouped/locale/us/market/stocks/{}",
        "/v3/reference/tickers",
        "/v3/reference/tickers/{}",
        "/v3/reference/options/contracts",
        "/v3/reference/options/contracts/{}",
        "/v3/reference/dividends",
        "/v2/reference/news",
    ]
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    path=PATHS,
    parts=st.lists(ODD, min_size=5, max_size=5),
    params=st.dictionaries(NAMES, ODD, max_size=4),
    key=st.sampled_from(["free", "starter", "paid"]),
)
def test_no_question_breaks_the_door(door, path, parts, params, key):
    async def ask():
        url = path.format(*(quote(part, safe="") for part in parts))
        headers = {"Authorization": f"Bearer {key}"}
        transport = httpx.ASGITransport(door)
        async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=headers) as http:
            return await http.get(url, params=params)

    answer = asyncio.run(ask())
    assert answer.status_code in {200, 400, 403, 404}
    assert answer.content


# Shapes

OPTIONAL = {"fmv", "amp_url", "next_url", "additional_underlyings", "T", "branding"}
SHAPES = {
    "v2_snapshot_locale_us_markets_stocks_tickers_index.json": f"{STOCKS}/tickers?tickers=AAPL",
    "v2_snapshot_locale_us_markets_stocks_tickers_AAPL.json": f"{STOCKS}/tickers/AAPL",
    "v2_snapshot_locale_us_markets_stocks_gainers.json": f"{STOCKS}/gainers",
    "v2_aggs_ticker_AAPL_range_1_day_2005-04-01_2005-04-04.json": (
        "/v2/aggs/ticker/AAPL/range/1/day/2026-11-20/2026-11-23"
    ),
    "v2_aggs_ticker_AAPL_prev.json": "/v2/aggs/ticker/AAPL/prev",
    "v2_aggs_grouped_locale_us_market_stocks_2005-04-04_adjusted_true.json": (
        "/v2/aggs/grouped/locale/us/market/stocks/2026-11-23?adjusted=true"
    ),
    "v2_reference_news_ticker_NFLX.json": "/v2/reference/news?ticker=AAPL",
    "v3_reference_tickers.json": "/v3/reference/tickers?limit=2",
    "v3_reference_tickers_AAPL.json": "/v3/reference/tickers/AAPL",
    "v3_reference_dividends.json": "/v3/reference/dividends",
    "v3_reference_options_contracts.json": "/v3/reference/options/contracts?underlying_ticker=A",
    "v3_snapshot_options_AAPL.json": (
        "/v3/snapshot/options/AAPL?expiration_date=2026-12-18&strike_price.gte=310&limit=1"
    ),
    "v3_snapshot_options_AAPL_O_AAPL230616C00150000.json": (
        "/v3/snapshot/options/AAPL/O:AAPL261218C00310000"
    ),
    "v1_marketstatus_now.json": "/v1/marketstatus/now",
    "v1_marketstatus_upcoming.json": "/v1/marketstatus/upcoming",
}


def alike(theirs, ours, where=""):
    """Check that every recorded key is there, and holds the same kind of value."""
    if theirs is None or ours is None:
        return
    if isinstance(theirs, dict):
        assert isinstance(ours, dict), where
        assert set(theirs) - set(ours) - OPTIONAL == set(), where
        for key in set(theirs) & set(ours):
            alike(theirs[key], ours[key], f"{where}/{key}")
    elif isinstance(theirs, list):
        assert isinstance(ours, list), where
        if theirs:
            alike(theirs[0], ours[0], f"{where}/0")
    else:
        number = int | float
        same = type(theirs) is type(ours) or isinstance(theirs, number) is isinstance(ours, number)
        assert same, f"{where}: {theirs!r} and {ours!r}"


@recorded
@pytest.mark.parametrize(("name", "path"), SHAPES.items())
async def test_answers_have_the_recorded_shape(client, name, path):
    answer = await client.get(path)
    assert answer.status_code == 200
    alike(json.loads((RECORDED / name).read_text(encoding="utf-8")), answer.json())
