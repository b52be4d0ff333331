"""The sandbox as Alpaca: our adapter through its doors, and the wire as an official client sees it."""

import base64
import random
import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import SecretStr

from actors.domain.calendar import session
from actors.domain.models import Bar, Ranking, Timeframe
from actors.domain.universe import seed
from actors.providers.alpaca import CONTRACTS_A_PAGE, ROUNDS, Alpaca
from actors.providers.base import Denied, Unavailable, Unsupported
from actors.providers.http import Tools
from actors.settings import Settings
from sandbox.app import build
from sandbox.clock import Clock
from sandbox.market import Market
from sandbox.news import News
from sandbox.options import Book, Options

NOON = datetime(2026, 11, 24, 17, 0, 3, tzinfo=UTC)  # a Tuesday; 12:00 in New York
UNIVERSE = [ticker.symbol for ticker in seed()]
FREE, PAID = "free-sandbox-key", "paid-sandbox-key"
MS = int(NOON.timestamp() * 1000)


class Line(httpx.AsyncBaseTransport):
    """The way into the sandbox, which remembers what was asked."""

    def __init__(self, app: Any) -> None:
        self._asgi = httpx.ASGITransport(app)
        self.asked: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return await self._asgi.handle_async_request(request)


class Bench:
    """A sandbox that stands at noon, and adapters of any plan before it."""

    def __init__(self) -> None:
        # A clock nobody winds: what two requests see is the same moment.
        self.clock = Clock(NOON, monotonic=lambda: 0.0)
        self.line = Line(build(clock=self.clock))
        self.market = Market(7)
        self._open: list[Alpaca] = []

    def adapter(self, key: str = FREE, feed: str = "iex") -> Alpaca:
        settings = Settings(
            volaris_home=Path("/nowhere"),
            alpaca_base_url="http://127.0.0.1/alpaca",
            alpaca_trading_url="http://127.0.0.1/alpaca",
            alpaca_api_key=SecretStr(key),
            alpaca_api_secret=SecretStr("sandbox-secret"),
            alpaca_feed=feed,
            volaris_limit={"alpaca": "60000/min"},
        )
        tools = Tools(None, None, self.line, now=self.clock.now)  # type: ignore[arg-type]
        adapter = Alpaca.of(settings, tools)
        assert adapter is not None
        self._open.append(adapter)
        return adapter

    def client(self, key: str = FREE) -> httpx.AsyncClient:
        headers = {"APCA-API-KEY-ID": key, "APCA-API-SECRET-KEY": "s"} if key else {}
        return httpx.AsyncClient(
            transport=self.line, base_url="http://127.0.0.1/alpaca", headers=headers
        )

    async def get(self, path: str, key: str = FREE, **query: Any) -> httpx.Response:
        async with self.client(key) as client:
            return await client.get(path, params=query)

    async def fault(self, **rule: Any) -> None:
        async with self.client() as client:
            answer = await client.post("http://127.0.0.1/control/faults", json=rule)
            answer.raise_for_status()

    async def close(self) -> None:
        for adapter in self._open:
            await adapter.close()

    def book(self, symbol: str) -> Book:
        book = Options(self.market).book(symbol, MS)
        assert book is not None
        return book


@pytest.fixture(scope="module")
def shared() -> Bench:
    return Bench()


@pytest.fixture
async def bench(shared: Bench) -> AsyncIterator[Bench]:
    shared.line.asked.clear()
    yield shared
    async with shared.client() as client:
        await client.delete("http://127.0.0.1/control/faults")
    await shared.close()
    shared.clock.set(NOON)


def soon() -> float:
    return time.monotonic() + 60


# --- our adapter: quotes -----------------------------------------------------------------------------


async def test_the_universe_is_one_request_and_the_markets_own_prices(bench: Bench) -> None:
    batch = await bench.adapter().quotes(UNIVERSE, soon())
    assert len(bench.line.asked) == 1
    assert batch.unknown == batch.failed == ()
    market = bench.market.quotes(MS)
    assert [quote.symbol for quote in batch.quotes] == UNIVERSE
    for quote in batch.quotes:
        i = bench.market.index[quote.symbol]
        prices = (quote.last, quote.bid, quote.ask, quote.open, quote.high, quote.low)
        columns = (market.last, market.bid, market.ask, market.open, market.high, market.low)
        assert prices == tuple(float(column[i]) for column in columns)
        assert quote.previous_close == market.previous_close[i]
        assert int(quote.at.timestamp() * 1000) == market.at
        assert quote.volume is None  # one exchange's is not the market's
        assert not quote.delayed


async def test_the_paid_plan_has_everybodys_volume(bench: Bench) -> None:
    [quote] = (await bench.adapter(PAID, "sip").quotes(["AAPL"], soon())).quotes
    assert quote.volume == bench.market.quotes(MS).volume[bench.market.index["AAPL"]]


async def test_the_delayed_tape_is_a_quarter_of_an_hour_old(bench: Bench) -> None:
    [quote] = (await bench.adapter(feed="delayed_sip").quotes(["AAPL"], soon())).quotes
    assert quote.delayed
    market = bench.market.quotes(MS - 15 * 60_000)
    assert int(quote.at.timestamp() * 1000) == market.at
    assert quote.volume == market.volume[bench.market.index["AAPL"]]


async def test_a_plan_that_is_not_bought_is_unsupported(bench: Bench) -> None:
    with pytest.raises(Unsupported, match="recent SIP data"):
        await bench.adapter(FREE, "sip").quotes(["AAPL"], soon())


async def test_a_symbol_that_spoils_the_batch_is_unknown_and_the_rest_is_had(bench: Bench) -> None:
    batch = await bench.adapter().quotes(["AAPL", "ANG-PD", "GONE", "$SPX", "BRK.B"], soon())
    assert [quote.symbol for quote in batch.quotes] == ["AAPL", "BRK.B"]
    assert sorted(batch.unknown) == ["$SPX", "ANG-PD", "GONE"]
    assert len(bench.line.asked) == 3


async def test_too_many_of_them_do_not_go_on_for_ever(bench: Bench) -> None:
    bad = [f"A{n}" for n in range(ROUNDS + 2)]
    batch = await bench.adapter().quotes(["AAPL", *bad], soon())
    assert len(bench.line.asked) == ROUNDS
    assert batch.quotes == ()
    assert list(batch.unknown) == bad[:ROUNDS]
    assert [symbol for symbol, _ in batch.failed] == ["AAPL", *bad[ROUNDS:]]
    assert (await bench.adapter().quotes(bad[:2], soon())).unknown == tuple(bad[:2])


async def test_a_wrong_key_is_denied(bench: Bench) -> None:
    for path in ("/v2/stocks/", "/v1beta1/news"):
        await bench.fault(vendor="alpaca", kind="status", status=403, path=path)
    with pytest.raises(Denied):
        await bench.adapter().quotes(["AAPL"], soon())
    with pytest.raises(Denied):
        await bench.adapter().news([], NOON - timedelta(days=1), 5, soon())


async def test_a_spent_minute_is_waited_for(bench: Bench) -> None:
    spender = "free-spender-key"
    async with bench.client(spender) as client:
        for _ in range(199):
            await client.get("/v2/clock")
    adapter = bench.adapter(spender)
    assert adapter.limiter.delay == 0
    await adapter.quotes(["AAPL"], soon())  # the 200th: answered, and the last
    assert 0 < adapter.limiter.delay <= 57  # it was three seconds past the minute


# --- our adapter: bars -------------------------------------------------------------------------------


def candles(bench: Bench, symbol: str, start: datetime, end: datetime) -> list[tuple[Any, ...]]:
    span = (int(at.timestamp() * 1000) for at in (start, end))
    found = bench.market.minutes(symbol, *span, MS)
    columns = (found.at, found.open, found.high, found.low, found.close, found.volume)
    return [(symbol, *row) for row in zip(*(c.tolist() for c in columns), strict=True)]


def plain(bar: Bar) -> tuple[Any, ...]:
    at = int(bar.at.timestamp() * 1000)
    return (bar.symbol, at, bar.open, bar.high, bar.low, bar.close, bar.volume)


async def all_pages(adapter: Alpaca, symbols: list[str], *span: Any) -> tuple[list[Bar], list[str]]:
    bars: list[Bar] = []
    page, pages = None, 0
    while True:
        found = await adapter.bars(symbols, *span, soon(), page)
        assert len(found.bars) <= 10_000
        bars += found.bars
        page, pages = found.next, pages + 1
        if page is None:
            return bars, list(found.unknown)
        assert pages < 10


async def test_minutes_of_many_symbols_come_in_pages_and_none_is_lost(bench: Bench) -> None:
    start, end = NOON - timedelta(days=3), NOON - timedelta(hours=1)
    symbols = ["SPY", "AAPL", "BRK.B", "GONE", "MSFT"]
    bars, unknown = await all_pages(bench.adapter(), symbols, Timeframe.MINUTE, start, end)
    expected = [
        row for s in ("AAPL", "BRK.B", "MSFT", "SPY") for row in candles(bench, s, start, end)
    ]
    assert len(expected) > 10_000  # so it is more than one page
    assert [plain(bar) for bar in bars] == expected
    assert unknown == []  # no bars is not unknown
    assert len(bench.line.asked) == 2


async def test_a_symbol_that_spoils_the_pages_spoils_the_first_one_only(bench: Bench) -> None:
    start, end = NOON - timedelta(days=3), NOON - timedelta(hours=1)
    symbols = ["SPY", "AAPL", "A-B", "MSFT", "NVDA"]
    bars, unknown = await all_pages(bench.adapter(), symbols, Timeframe.MINUTE, start, end)
    assert unknown == ["A-B"]
    assert {bar.symbol for bar in bars} == {"AAPL", "MSFT", "NVDA", "SPY"}
    assert len(bench.line.asked) == 3


async def test_five_minutes_are_five_of_one(bench: Bench) -> None:
    start = NOON.replace(second=0) - timedelta(hours=2)
    page = await bench.adapter().bars(
        ["AAPL"], Timeframe.FIVE_MINUTES, start, start + timedelta(minutes=10), soon()
    )
    ones = candles(bench, "AAPL", start, start + timedelta(minutes=10))
    first, second = page.bars
    assert first.at == start
    assert second.volume == sum(row[6] for row in ones[5:])
    assert (second.open, second.close) == (ones[5][2], ones[9][5])


async def test_days_lie_on_their_dates_and_are_the_markets(bench: Bench) -> None:
    start, end = datetime(2026, 10, 28, tzinfo=UTC), datetime(2026, 11, 5, tzinfo=UTC)
    page = await bench.adapter().bars(["AAPL", "SPY"], Timeframe.DAY, start, end, soon())
    found = [bar for bar in page.bars if bar.symbol == "SPY"]
    market = bench.market.days("SPY", date(2026, 10, 28), date(2026, 11, 4), MS)
    assert [bar.close for bar in found] == market.close.tolist()
    assert [bar.volume for bar in found] == market.volume.tolist()
    assert [bar.at for bar in found] == [start + timedelta(days=n) for n in range(8)]
    assert page.next is None


async def test_the_last_quarter_of_an_hour_is_the_paid_plans(bench: Bench) -> None:
    ask = (["AAPL"], Timeframe.MINUTE, NOON - timedelta(minutes=10), NOON, soon())
    with pytest.raises(Unsupported, match="last 15 minutes"):
        await bench.adapter().bars(*ask)
    assert not bench.line.asked
    paid = await bench.adapter(PAID, "sip").bars(*ask)
    assert [bar.at.minute for bar in paid.bars] == list(range(51, 60))
    hour = await bench.adapter().bars(
        ["AAPL"], Timeframe.MINUTE, NOON - timedelta(hours=1), NOON, soon()
    )
    assert hour.bars[-1].at == NOON.replace(second=0) - timedelta(minutes=16)


async def test_no_midnight_is_no_bar_and_no_request(bench: Bench) -> None:
    page = await bench.adapter().bars(
        ["AAPL"], Timeframe.DAY, NOON - timedelta(hours=2), NOON - timedelta(hours=1), soon()
    )
    assert page.bars == ()
    assert not bench.line.asked


# --- our adapter: chains -----------------------------------------------------------------------------


async def test_a_chain_is_the_whole_book_in_order(bench: Bench) -> None:
    chain = await bench.adapter().chain("AAPL", soon())
    book = bench.book("AAPL")
    asked = [request.url.path.rsplit("/", 1)[-1] for request in bench.line.asked]
    assert asked == ["AAPL"] * -(-len(book) // 1000) + ["contracts"] * -(
        -len(book) // CONTRACTS_A_PAGE
    )
    assert chain.contract.tolist() == book.contract.tolist()
    assert chain.strike.tolist() == book.strike.tolist()
    for ours, theirs in (
        (chain.bid, book.bid),
        (chain.ask, book.ask),
        (chain.open_interest, book.open_interest),
        (chain.iv, book.iv),
        (chain.delta, book.delta),
        (chain.theta, book.theta),
        (chain.last, np.where(book.last > 0, book.last, np.nan)),
        (chain.volume, np.where(book.volume > 0, book.volume, np.nan)),
    ):
        assert ours == pytest.approx(theirs, nan_ok=True)
    assert 0 < np.isnan(chain.delta).sum() < len(chain)  # some cannot be computed
    assert chain.standard.all()
    assert chain.delayed
    assert abs(chain.at - NOON) < timedelta(minutes=3)


async def test_a_part_of_a_chain(bench: Bench) -> None:
    first, last = date(2026, 12, 1), date(2026, 12, 31)
    chain = await bench.adapter(PAID, "sip").chain("BRK.B", soon(), first, last)
    assert not chain.delayed
    days = [e.day for e in bench.book("BRK.B").expirations if first <= e.day <= last]
    assert np.unique(chain.expiration).tolist() == sorted(days)
    assert not np.isnan(chain.open_interest).any()
    assert chain.contract[0].startswith("BRKB  26")


async def test_without_the_trading_host_there_is_no_open_interest(bench: Bench) -> None:
    await bench.fault(vendor="alpaca", kind="status", status=403, path="/v2/options/")
    chain = await bench.adapter().chain("AAPL", soon())
    assert np.isnan(chain.open_interest).all()
    assert len(chain) == len(bench.book("AAPL"))


async def test_what_has_no_options_is_unsupported(bench: Bench) -> None:
    for symbol in ("GONE", "$SPX"):
        with pytest.raises(Unsupported):
            await bench.adapter().chain(symbol, soon())


# --- our adapter: the rest ---------------------------------------------------------------------------


async def test_movers_are_the_markets(bench: Bench) -> None:
    market, adapter = bench.market.quotes(MS), bench.adapter()
    change = (market.last / market.previous_close - 1) * 100
    stocks = [i for i, row in enumerate(bench.market.listings) if row.kind != "index"]
    up = await adapter.movers(Ranking.GAINERS, soon())
    assert up.rows[0].symbol == bench.market.symbols[max(stocks, key=lambda i: change[i])]
    assert up.rows[0].change_percent == pytest.approx(change[stocks].max(), abs=0.006)
    down = await adapter.movers(Ranking.LOSERS, soon())
    assert down.rows[0].change_percent == pytest.approx(change[stocks].min(), abs=0.006)
    assert len(up.rows) == len(down.rows) == 50
    active = await adapter.movers(Ranking.ACTIVE, soon())
    assert active.rows[0].volume == market.volume[stocks].max()
    first = bench.market.index[active.rows[0].symbol]
    assert active.rows[0].last == market.last[first]
    assert active.rows[0].change_percent == pytest.approx(change[first], abs=1e-4)
    assert len(active.rows) == 50
    assert active.at.replace(microsecond=0) == NOON.replace(second=0)


async def test_news_comes_in_pages_newest_first(bench: Bench) -> None:
    since = NOON - timedelta(days=2)
    stories = await bench.adapter().news([], since, 120, soon())
    assert len(stories) == 120
    assert len(bench.line.asked) == 3
    expected = News(bench.market).stories(int(since.timestamp() * 1000), MS + 1, 120)
    assert [story.id for story in stories] == [str(story.id) for story in expected]
    assert all(a.at > b.at for a, b in pairwise(stories))
    about = await bench.adapter().news(["AAPL", "BRK.B"], NOON - timedelta(days=30), 20, soon())
    assert about
    assert all({"AAPL", "BRK.B"} & set(story.symbols) for story in about)
    assert await bench.adapter().news(["AAPL"], NOON, 20, soon()) == ()


async def test_hours_are_the_exchanges(bench: Bench) -> None:
    hours = await bench.adapter().hours(date(2026, 11, 20), date(2026, 12, 31), soon())
    days = [date(2026, 11, 20) + timedelta(days=n) for n in range(42)]
    assert list(hours) == [found for day in days if (found := session(day))]
    assert hours[4].closes == datetime(2026, 11, 27, 18, tzinfo=UTC)  # an early one


@pytest.mark.parametrize("status", [401, 403])
async def test_keys_of_another_trading_host_are_no_wrong_keys(bench: Bench, status: int) -> None:
    await bench.fault(vendor="alpaca", kind="status", status=status, path="/v2/calendar")
    with pytest.raises(Unsupported, match="ALPACA_TRADING_URL") as caught:
        await bench.adapter().hours(date(2026, 11, 20), date(2026, 11, 30), soon())
    assert caught.value.by_plan  # so that the hours are left alone, and nothing else


@pytest.mark.parametrize("status", [500, 503])
async def test_a_fault_is_unavailable(bench: Bench, status: int) -> None:
    await bench.fault(vendor="alpaca", kind="status", status=status)
    adapter = bench.adapter()
    for ask in (
        adapter.quotes(["AAPL"], soon()),
        adapter.chain("AAPL", soon()),
        adapter.hours(date(2026, 11, 20), date(2026, 11, 30), soon()),
        adapter.movers(Ranking.ACTIVE, soon()),
    ):
        with pytest.raises(Unavailable):
            await ask


# --- the wire: who asks ------------------------------------------------------------------------------


async def test_nobody_is_refused_in_each_hosts_words(bench: Bench) -> None:
    data = await bench.get("/v2/stocks/snapshots", key="", symbols="AAPL")
    assert (data.status_code, data.json()) == (401, {"message": "unauthorized."})
    trading = await bench.get("/v2/clock", key="")
    assert trading.status_code == 401
    assert trading.json() == {"code": 40110000, "message": "request is not authorized"}
    assert not [name for name in (*data.headers, *trading.headers) if "ratelimit" in name]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"APCA-API-KEY-ID": "k", "APCA-API-SECRET-KEY": "s"}, 200),
        ({"APCA-API-KEY-ID": "k", "APCA-API-SECRET-KEY": ""}, 401),
        ({"APCA-API-KEY-ID": "", "APCA-API-SECRET-KEY": "s"}, 401),
        ({"Authorization": "Basic " + base64.b64encode(b"k:s").decode()}, 200),
        ({"Authorization": "Basic k:s"}, 401),
        ({"Authorization": "Bearer token"}, 200),
        ({}, 401),
    ],
)
async def test_ways_to_say_who_asks(bench: Bench, headers: dict[str, str], status: int) -> None:
    async with bench.client("") as client:
        assert (await client.get("/v2/clock", headers=headers)).status_code == status


async def test_the_limit_is_told_with_good_answers_and_bad_questions_only(bench: Bench) -> None:
    bench.clock.set(NOON + timedelta(minutes=7))
    good = await bench.get("/v2/stocks/snapshots", key="free-a", symbols="AAPL")
    bad = await bench.get("/v2/stocks/snapshots", key="free-a", symbols="A-B")
    forbidden = await bench.get("/v2/stocks/snapshots", key="free-a", symbols="AAPL", feed="sip")
    assert (good.headers["x-ratelimit-limit"], good.headers["x-ratelimit-remaining"]) == (
        "200",
        "199",
    )
    assert bad.headers["x-ratelimit-remaining"] == "198"
    assert int(good.headers["x-ratelimit-reset"]) == (MS // 60_000 + 8) * 60
    assert forbidden.status_code == 403
    assert "x-ratelimit-limit" not in forbidden.headers
    paid = await bench.get("/v2/clock", key=PAID)
    assert paid.headers["x-ratelimit-limit"] == "10000"


async def test_too_many_requests_in_its_words(bench: Bench) -> None:
    await bench.fault(vendor="alpaca", kind="throttle", count=1)
    answer = await bench.get("/v2/stocks/snapshots", symbols="AAPL")
    assert answer.status_code == 429
    assert answer.json() == {"message": "too many requests."}
    assert answer.headers["x-ratelimit-remaining"] == "0"
    assert 0 < int(answer.headers["x-ratelimit-reset"]) - MS / 1000 <= 60


# --- the wire: stocks --------------------------------------------------------------------------------

NANO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
ROW = {"t", "o", "h", "l", "c", "v", "n", "vw"}


async def test_a_snapshot_has_the_recorded_shape(bench: Bench) -> None:
    body = (await bench.get("/v2/stocks/snapshots", symbols="AAPL,GONE,BRK.B", feed="iex")).json()
    assert set(body) == {"AAPL", "BRK.B"}
    apple = body["AAPL"]
    assert set(apple) == {"latestTrade", "latestQuote", "minuteBar", "dailyBar", "prevDailyBar"}
    assert set(apple["latestTrade"]) == {"t", "x", "p", "s", "c", "i", "z"}
    assert set(apple["latestQuote"]) == {"t", "ax", "ap", "as", "bx", "bp", "bs", "c", "z"}
    assert apple["latestTrade"]["x"] == "V"
    assert len(apple["latestTrade"]["t"]) > len("2026-11-24T17:00:00.000Z")
    for part in apple.values():
        assert NANO.fullmatch(part["t"])
    for name in ("minuteBar", "dailyBar", "prevDailyBar"):
        assert set(apple[name]) == ROW
        assert apple[name]["l"] <= apple[name]["vw"] <= apple[name]["h"]
    assert apple["minuteBar"]["t"] == "2026-11-24T16:59:00Z"
    assert apple["dailyBar"]["t"] == "2026-11-24T05:00:00Z"  # midnight in New York
    assert apple["prevDailyBar"]["t"] == "2026-11-23T05:00:00Z"
    one = (await bench.get("/v2/stocks/AAPL/snapshot", feed="iex")).json()
    assert one == {"symbol": "AAPL", **apple}


async def test_what_is_newest_is_what_the_snapshot_says(bench: Bench) -> None:
    snapshot = (await bench.get("/v2/stocks/AAPL/snapshot")).json()
    for kind, part in (("bars", "minuteBar"), ("quotes", "latestQuote"), ("trades", "latestTrade")):
        many = (await bench.get(f"/v2/stocks/{kind}/latest", symbols="AAPL,GONE")).json()
        assert many == {kind: {"AAPL": snapshot[part]}}
        one = (await bench.get(f"/v2/stocks/AAPL/{kind}/latest")).json()
        assert one == {"symbol": "AAPL", kind[:-1]: snapshot[part]}


@pytest.mark.parametrize("symbol", ["ANG-PD", "brk.b", "0029900E0", "$SPX", "BRK/B"])
async def test_one_bad_symbol_rejects_the_batch(bench: Bench, symbol: str) -> None:
    for path, more in (("/snapshots", {}), ("/bars", {"timeframe": "1Day"})):
        answer = await bench.get(f"/v2/stocks{path}", symbols=f"AAPL,{symbol}", **more)
        assert answer.status_code == 400
        assert answer.json() == {"message": f"code=400, message=invalid symbol: {symbol}"}


@pytest.mark.parametrize(
    ("path", "query", "status", "message"),
    [
        ("/v2/stocks/snapshots", {}, 400, "symbols is required"),
        ("/v2/stocks/snapshots", {"symbols": "A", "feed": "x"}, 400, "invalid feed: x"),
        ("/v2/stocks/bars", {"symbols": "A"}, 400, "invalid timeframe"),
        ("/v2/stocks/bars", {"symbols": "A", "timeframe": "60Min"}, 400, "invalid timeframe"),
        ("/v2/stocks/bars", {"symbols": "A", "timeframe": "2Day"}, 400, "invalid timeframe"),
        ("/v2/stocks/bars", {"timeframe": "1Day"}, 400, "symbols is required"),
        ("/v1beta1/news", {"limit": 51}, 400, "invalid limit: must be between 1 and 50"),
        ("/v1beta1/news", {"page_token": "?"}, 400, "invalid page_token"),
        ("/v2/stocks/GONE/snapshot", {}, 404, "no snapshot found for GONE"),
        ("/v2/stocks/AAPL/trades", {}, 404, "endpoint not found."),
        ("/v1beta1/options/snapshots/AAPL", {"feed": "opra"}, 403, "OPRA agreement is not signed"),
        ("/v2/assets/GONE", {}, 404, "asset not found for GONE"),
    ],
)
async def test_refusals(bench: Bench, path: str, query: Any, status: int, message: str) -> None:
    answer = await bench.get(path, **query)
    assert answer.status_code == status
    assert answer.json()["message"] == message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"limit": 10_001}, "invalid limit: must be between 1 and 10000"),
        ({"start": "yesterday"}, "Invalid format for parameter start: yesterday"),
        ({"end": "2026-11-01"}, "end should not be before start"),
        ({"adjustment": "none"}, "invalid adjustment: none"),
        ({"sort": "up"}, "invalid sort: up"),
        ({"page_token": "QUFQTA=="}, "invalid page_token"),
    ],
)
async def test_bad_questions_for_bars(bench: Bench, change: Any, message: str) -> None:
    query = {"symbols": "AAPL", "timeframe": "1Day", "start": "2026-11-10", "end": "2026-11-20"}
    answer = await bench.get("/v2/stocks/bars", **(query | change))
    assert (answer.status_code, answer.json()) == (400, {"message": message})


async def test_the_consolidated_tape_of_now_is_not_free(bench: Bench) -> None:
    query = {"symbols": "AAPL", "timeframe": "1Min", "start": "2026-11-24T16:30:00Z"}
    recent = {"end": "2026-11-24T16:50:00Z"}
    refused = await bench.get("/v2/stocks/bars", feed="sip", **query, **recent)
    assert refused.status_code == 403
    assert refused.json()["message"] == "subscription does not permit querying recent SIP data"
    assert (await bench.get("/v2/stocks/bars", feed="iex", **query, **recent)).is_success
    assert (await bench.get("/v2/stocks/bars", PAID, feed="sip", **query, **recent)).is_success
    open_end = (await bench.get("/v2/stocks/bars", **query)).json()["bars"]["AAPL"]
    assert open_end[-1]["t"] == "2026-11-24T16:45:00Z"  # without an end: what may be seen


async def test_a_page_token_goes_on_behind_the_last_bar(bench: Bench) -> None:
    query = {
        "symbols": "MSFT,AAPL",
        "timeframe": "1Min",
        "start": "2026-11-24T15:00:00Z",
        "end": "2026-11-24T15:10:00Z",
        "limit": 15,
    }
    first = (await bench.get("/v2/stocks/bars", **query)).json()
    assert {s: len(rows) for s, rows in first["bars"].items()} == {"AAPL": 11, "MSFT": 4}
    token = base64.b64decode(first["next_page_token"]).decode()
    assert token == "MSFT|M|2026-11-24T15:03:00.000000000Z"
    second = (
        await bench.get("/v2/stocks/bars", **query, page_token=first["next_page_token"])
    ).json()
    assert [row["t"][14:16] for row in second["bars"]["MSFT"]] == [f"{n:02d}" for n in range(4, 11)]
    assert second["next_page_token"] is None
    whole = (await bench.get("/v2/stocks/bars", **(query | {"limit": 22}))).json()
    assert whole["next_page_token"] is None
    back = (await bench.get("/v2/stocks/bars", **(query | {"limit": 100, "sort": "desc"}))).json()
    assert back["bars"]["AAPL"] == whole["bars"]["AAPL"][::-1]
    page, found = None, []
    while True:
        more = {"page_token": page} if page else {}
        body = (await bench.get("/v2/stocks/bars", **(query | {"sort": "desc"} | more))).json()
        found += body["bars"].get("MSFT", [])
        page = body["next_page_token"]
        if page is None:
            break
    assert found == back["bars"]["MSFT"]


async def test_one_exchange_has_a_part_of_the_volume_and_quiet_minutes(bench: Bench) -> None:
    query = {"timeframe": "1Min", "start": "2026-11-23T05:00:00Z", "end": "2026-11-23T09:00:00Z"}
    rows = {}
    for feed in ("iex", "sip"):
        body = (await bench.get("/v2/stocks/NVR/bars", feed=feed, **query)).json()
        rows[feed] = {row["t"]: row for row in body["bars"] or []}
    assert len(rows["iex"]) < len(rows["sip"]) == 241
    for at, row in rows["iex"].items():
        assert row["v"] <= rows["sip"][at]["v"] * 0.03
        assert row["c"] == rows["sip"][at]["c"]


async def test_nothing_is_an_empty_map_or_null(bench: Bench) -> None:
    query = {"timeframe": "1Day", "start": "2026-11-10"}
    many = (await bench.get("/v2/stocks/bars", symbols="GONE", **query)).json()
    assert many == {"bars": {}, "next_page_token": None}
    one = (await bench.get("/v2/stocks/GONE/bars", **query)).json()
    assert one == {"bars": None, "symbol": "GONE", "next_page_token": None}


@pytest.mark.parametrize(
    ("timeframe", "start", "stamps"),
    [
        ("15T", "2026-11-24T15:00:00Z", ["2026-11-24T15:00:00Z", "2026-11-24T15:15:00Z"]),
        ("4Hour", "2026-11-23", ["2026-11-23T05:00:00Z", "2026-11-23T09:00:00Z"]),
        ("1D", "2026-10-31", ["2026-10-31T04:00:00Z", "2026-11-01T04:00:00Z"]),
        ("1Week", "2026-10-20", ["2026-10-26T04:00:00Z", "2026-11-02T05:00:00Z"]),
        ("3Month", "2026-01-01", ["2026-01-01T05:00:00Z", "2026-04-01T04:00:00Z"]),
    ],
)
async def test_longer_bars_begin_where_they_should(
    bench: Bench, timeframe: str, start: str, stamps: list[str]
) -> None:
    body = (await bench.get("/v2/stocks/SPY/bars", timeframe=timeframe, start=start)).json()
    assert [row["t"] for row in body["bars"][:2]] == stamps


# --- the wire: options -------------------------------------------------------------------------------


async def test_a_contracts_snapshot_has_the_recorded_shape(bench: Bench) -> None:
    names, token = [], None
    whole, missing = 0, 0
    while True:
        more = {"page_token": token} if token else {}
        body = (await bench.get("/v1beta1/options/snapshots/AAPL", limit=1000, **more)).json()
        for name, row in body["snapshots"].items():
            names.append(name)
            assert set(row["latestQuote"]) == {"ap", "as", "ax", "bp", "bs", "bx", "c", "t"}
            if "greeks" in row:
                whole += 1
                assert set(row["greeks"]) == {"delta", "gamma", "rho", "theta", "vega"}
                assert 0 < row["impliedVolatility"] < 5  # a fraction
            else:
                missing += 1
                assert "impliedVolatility" not in row
        token = body["next_page_token"]
        if token is None:
            break
    assert names == sorted(set(names))
    assert len(names) == len(bench.book("AAPL"))
    assert whole > missing > 0


async def test_filters_of_a_chain(bench: Bench) -> None:
    query = {
        "type": "put",
        "strike_price_gte": 300,
        "strike_price_lte": 320,
        "expiration_date": "2026-12-18",
        "limit": 1000,
    }
    body = (await bench.get("/v1beta1/options/snapshots/AAPL", **query)).json()
    assert body["snapshots"]
    for name in body["snapshots"]:
        found = re.fullmatch(r"AAPL261218P(\d{8})", name)
        assert found
        assert 300_000 <= int(found[1]) <= 320_000
    few = (await bench.get("/v1beta1/options/snapshots/AAPL")).json()
    assert len(few["snapshots"]) == 100  # where no limit is said
    nothing = (await bench.get("/v1beta1/options/snapshots/GONE")).json()
    assert nothing == {"snapshots": {}, "next_page_token": None}
    [name, *_] = body["snapshots"]
    one = (await bench.get("/v1beta1/options/snapshots", symbols=name)).json()["snapshots"]
    assert one == {name: body["snapshots"][name]}
    quote = (await bench.get("/v1beta1/options/quotes/latest", symbols=name)).json()
    assert quote == {"quotes": {name: body["snapshots"][name]["latestQuote"]}}


async def test_contracts_say_numbers_as_text_and_end_at_the_weekend(bench: Bench) -> None:
    body = (await bench.get("/v2/options/contracts", underlying_symbols="AAPL", limit=7)).json()
    assert base64.b64decode(body["next_page_token"]) == b"7"
    row = body["option_contracts"][0]
    for number in ("strike_price", "multiplier", "size", "open_interest", "close_price"):
        assert isinstance(row[number], str)
        float(row[number])
    assert (row["underlying_symbol"], row["type"], row["style"]) == ("AAPL", "call", "american")
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", row["id"])
    every = {"underlying_symbols": "AAPL", "limit": 10_000}
    week = (await bench.get("/v2/options/contracts", **every)).json()["option_contracts"]
    assert {row["expiration_date"] for row in week} == {"2026-11-27"}
    later = {"expiration_date_lte": "2099-01-01"}
    book = (await bench.get("/v2/options/contracts", **every, **later)).json()
    assert len(book["option_contracts"]) == len(bench.book("AAPL"))
    assert book["next_page_token"] is None
    one = (await bench.get(f"/v2/options/contracts/{row['symbol']}")).json()
    assert one == row


# --- the wire: the rest ------------------------------------------------------------------------------


async def test_the_clock_and_the_calendar(bench: Bench) -> None:
    clock = (await bench.get("/v2/clock")).json()
    assert clock["is_open"] is True
    assert clock["timestamp"].startswith("2026-11-24T12:00:03")
    assert clock["next_close"] == "2026-11-24T16:00:00-05:00"
    assert clock["next_open"] == "2026-11-25T09:30:00-05:00"
    days = (await bench.get("/v2/calendar", start="2026-11-25", end="2026-11-27")).json()
    assert days == [
        {
            "date": "2026-11-25",
            "open": "09:30",
            "close": "16:00",
            "session_open": "0400",
            "session_close": "2000",
            "settlement_date": "2026-11-27",
        },
        {
            "date": "2026-11-27",
            "open": "09:30",
            "close": "13:00",
            "session_open": "0400",
            "session_close": "1700",
            "settlement_date": "2026-11-30",
        },
    ]
    every = (await bench.get("/v2/calendar")).json()
    assert (every[0]["date"], every[-1]["date"]) == ("2010-01-04", "2029-12-31")
    bad = await bench.get("/v2/calendar", start="soon")
    assert (bad.status_code, bad.json()["code"]) == (422, 42210000)


async def test_assets(bench: Bench) -> None:
    every = (await bench.get("/v2/assets", status="active", asset_class="us_equity")).json()
    assert [asset["symbol"] for asset in every] == UNIVERSE
    assert {asset["exchange"] for asset in every} == {"ARCA", "NASDAQ", "NYSE"}
    one = (await bench.get("/v2/assets/BRK.B")).json()
    assert (await bench.get(f"/v2/assets/{one['id']}")).json() == one
    assert (await bench.get("/v2/assets", asset_class="crypto")).json() == []


async def test_news_has_the_recorded_shape(bench: Bench) -> None:
    body = (await bench.get("/v1beta1/news", symbols="AAPL,TSLA", limit=3)).json()
    assert len(body["news"]) == 3
    story = body["news"][0]
    assert set(story) == {
        "id", "headline", "author", "created_at", "updated_at", "summary", "content", "url",
        "images", "symbols", "source",
    }  # fmt: skip
    assert story["content"] == ""
    assert [image["size"] for image in story["images"]] == ["large", "small", "thumb"]
    ns, number = base64.b64decode(body["next_page_token"]).decode().split("|")
    assert (len(ns), int(number)) == (19, body["news"][-1]["id"])
    told = (await bench.get("/v1beta1/news", include_content="true", limit=1)).json()["news"][0]
    assert told["content"].startswith("<p>")
    span = {"start": "2026-11-24T10:00:00Z", "end": "2026-11-24T12:00:00Z", "limit": 50}
    down = (await bench.get("/v1beta1/news", **span)).json()["news"]
    up = (await bench.get("/v1beta1/news", sort="asc", **span)).json()["news"]
    assert up == down[::-1]
    half = (await bench.get("/v1beta1/news", sort="asc", **(span | {"limit": 5}))).json()
    rest = await bench.get("/v1beta1/news", sort="asc", page_token=half["next_page_token"], **span)
    assert half["news"] + rest.json()["news"] == up


@pytest.mark.parametrize(
    "path",
    [
        "/v2/stocks/snapshots",
        "/v2/stocks/bars",
        "/v2/stocks/AAPL/bars",
        "/v2/stocks/quotes/latest",
        "/v2/stocks/what/latest",
        "/v2/stocks/AAPL/what/latest",
        "/v1beta1/options/snapshots",
        "/v1beta1/options/snapshots/AAPL",
        "/v1beta1/options/trades/latest",
        "/v1beta1/screener/stocks/movers",
        "/v1beta1/screener/stocks/most-actives",
        "/v1beta1/news",
        "/v2/calendar",
        "/v2/assets",
        "/v2/options/contracts",
        "/v2/options/contracts/AAPL",
    ],
)
async def test_no_question_breaks_a_door(bench: Bench, path: str) -> None:
    chance = random.Random(path)
    token = [
        base64.b64encode(t).decode() for t in (b"A|M|x", b"9" * 40, b"AAPL|D|0001-01-01", b"\xff")
    ]
    nasty = [
        "",
        "-1",
        "0",
        "9" * 30,
        "NaN",
        "1e308",
        "9999-12-31",
        "0001-01-01",
        "\x00",
        "AAPL,A-B",
        *token,
    ]
    good = {
        "symbols": "AAPL,SPY",
        "timeframe": "1Day",
        "start": "2026-11-20",
        "end": "2026-11-23",
        "limit": "5",
        "underlying_symbols": "AAPL",
    }
    names = "symbols timeframe start end limit page_token sort feed top by type root_symbol status"
    names += (
        " expiration_date expiration_date_gte expiration_date_lte strike_price_gte updated_since"
    )
    for _ in range(25):
        wrong = {name: chance.choice(nasty) for name in chance.sample(names.split(), 2)}
        answer = await bench.get(path, **(good | wrong))
        assert answer.status_code in {200, 400, 403, 404, 422}, wrong
        assert isinstance(answer.json(), dict | list)
