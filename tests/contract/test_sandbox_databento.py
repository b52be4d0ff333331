"""The sandbox as Databento: our adapter through its doors, and the wire as the official client sees it."""

import io
import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

import databento_dbn as dbn
import httpx
import pytest
from pydantic import SecretStr

from actors.domain.models import Bar, Timeframe
from actors.domain.universe import seed
from actors.providers.base import Denied, RateLimited, Unsupported
from actors.providers.databento import MOST_ROWS, Databento
from actors.providers.http import Tools
from actors.settings import Settings
from sandbox.app import build
from sandbox.clock import Clock
from sandbox.days import Hours
from sandbox.market import Market

NOON = datetime(2026, 11, 24, 17, 0, 3, tzinfo=UTC)  # a Tuesday; 12:00 in New York
MS = int(NOON.timestamp() * 1000)
UNIVERSE = [ticker.symbol for ticker in seed()]
KEY = "db-0123456789abcdefghijklmnopqrs"
MINUTE, FIVE, DAY = Timeframe.MINUTE, Timeframe.FIVE_MINUTES, Timeframe.DAY
RANGE, COST = "/databento/v0/timeseries.get_range", "/databento/v0/metadata.get_cost"
NEVER = float("inf")
CLIENT = {  # what databento-python 0.87 sends
    "dataset": "EQUS.MINI",
    "start": "2026-11-16",
    "symbols": "AAPL,BRK.B,NOPE",
    "schema": "ohlcv-1d",
    "stype_in": "raw_symbol",
    "stype_out": "instrument_id",
    "encoding": "dbn",
    "compression": "zstd",
    "end": "2026-11-21",
}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


class Line(httpx.AsyncBaseTransport):
    """The way into the sandbox, which remembers what was asked."""

    def __init__(self, app: Any) -> None:
        self._asgi = httpx.ASGITransport(app)
        self.asked: list[tuple[str, dict[str, str]]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        self.asked.append((request.url.path.rpartition(".")[2], form))
        return await self._asgi.handle_async_request(request)

    def names(self) -> list[str]:
        return [name for name, _ in self.asked]


@cache
def sandbox(hours: Hours) -> tuple[Any, Market]:
    """Return a sandbox that stands at noon, and its market."""
    # A clock nobody winds: what two requests see is the same moment.
    clock = Clock(NOON, monotonic=lambda: 0.0)
    return build(clock=clock, hours=hours), Market(7, hours)


class Bench:
    """Adapters of any key before the sandbox, and the line between them."""

    def __init__(self, hours: Hours) -> None:
        app, self.market = sandbox(hours)
        self.line = Line(app)
        self.web = httpx.AsyncClient(
            transport=self.line, base_url="http://127.0.0.1", auth=(KEY, "")
        )
        self._hours = hours
        self._open: list[Databento] = []

    def adapter(
        self, key: str = KEY, transport: httpx.AsyncBaseTransport | None = None
    ) -> Databento:
        settings = Settings(
            volaris_home=Path("/nowhere"),
            volaris_market_hours=self._hours.value,
            databento_base_url="http://127.0.0.1/databento",
            databento_api_key=SecretStr(key),
            volaris_limit={"databento": "60000/min"},
        )
        tools = Tools(None, None, transport or self.line, now=lambda: NOON)  # type: ignore[arg-type]
        adapter = Databento.of(settings, tools)
        assert adapter is not None
        self._open.append(adapter)
        return adapter

    async def ask(self, name: str, **form: str) -> httpx.Response:
        return await self.web.post(f"/databento/v0/{name}", data=form)

    async def close(self) -> None:
        await self.web.aclose()
        for adapter in self._open:
            await adapter.close()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench(Hours.ALWAYS)
    yield bench
    await bench.close()


@pytest.fixture
async def nyse() -> AsyncIterator[Bench]:
    bench = Bench(Hours.NYSE)
    yield bench
    await bench.close()


async def everything(
    adapter: Databento, symbols: list[str], timeframe: Timeframe, start: datetime, end: datetime
) -> list[Bar]:
    bars: list[Bar] = []
    page = None
    while True:
        found = await adapter.bars(symbols, timeframe, start, end, NEVER, page)
        bars += found.bars
        if (page := found.next) is None:
            return bars


def of_market(candles: Any, symbol: str) -> list[tuple[Any, ...]]:
    columns = (candles.open, candles.high, candles.low, candles.close, candles.volume)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [(symbol, *row) for row in rows]


def values(bars: list[Bar]) -> list[tuple[Any, ...]]:
    return [(b.symbol, b.open, b.high, b.low, b.close, b.volume) for b in bars]


# --- our adapter --------------------------------------------------------------------------------------


async def test_minutes_are_the_markets_own(bench: Bench) -> None:
    start, end = at("2026-11-20T15:00"), at("2026-11-20T15:30")
    bars = await everything(bench.adapter(), ["BRK.B", "AAPL"], MINUTE, start, end)
    begin = int(start.timestamp() * 1000)
    expected = [
        row
        for symbol in ("AAPL", "BRK.B")
        for row in of_market(bench.market.minutes(symbol, begin, begin + 1_800_000, MS), symbol)
    ]
    assert values(bars) == expected
    assert [b.at for b in bars[:30]] == [start + timedelta(minutes=n) for n in range(30)]


async def test_five_minutes_add_up(bench: Bench) -> None:
    start, end = at("2026-11-20T15:02"), at("2026-11-20T15:11")  # bars begin at :05 and :10
    adapter = bench.adapter()
    fives = await everything(adapter, ["AAPL"], FIVE, start, end)
    ones = await everything(
        adapter, ["AAPL"], MINUTE, at("2026-11-20T15:05"), at("2026-11-20T15:15")
    )
    assert [b.at.minute for b in fives] == [5, 10]
    for five, minutes in zip(fives, (ones[:5], ones[5:]), strict=True):
        assert (five.open, five.close) == (minutes[0].open, minutes[-1].close)
        assert five.high == max(b.high for b in minutes)
        assert five.low == min(b.low for b in minutes)
        assert five.volume == sum(b.volume for b in minutes)


async def test_days_are_the_markets_own_by_their_date(nyse: Bench) -> None:
    start, end = at("2024-01-02"), at("2026-11-23")
    bars = await everything(nyse.adapter(), ["BRK.B"], DAY, start, end)
    candles = nyse.market.days("BRK.B", date(2024, 1, 2), date(2026, 11, 22), MS)
    assert values(bars) == of_market(candles, "BRK.B")
    assert bars[0].at == start
    assert bars[-1].at == at("2026-11-20")


async def test_the_pages_of_a_long_range_never_ask_for_anything_twice(nyse: Bench) -> None:
    symbols, start, end = UNIVERSE, at("2026-08-24"), at("2026-11-21")
    adapter = nyse.adapter()
    price = await adapter.cost(symbols, DAY, start, end, NEVER)
    nyse.line.asked.clear()
    bars = await everything(adapter, symbols, DAY, start, end)
    asked = [form for _, form in nyse.line.asked]
    assert len(asked) == 3
    assert (asked[0]["start"], asked[-1]["end"]) == (start.isoformat(), end.isoformat())
    assert all(one["end"] == another["start"] for one, another in pairwise(asked))
    assert set(nyse.line.names()) == {"get_range"}
    assert len(bars) == len(symbols) * 64  # sessions
    assert len({(b.symbol, b.at) for b in bars}) == len(bars)
    parts = [float((await nyse.web.post(COST, data=form)).json()) for form in asked]
    assert sum(parts) == pytest.approx(price)
    assert price == pytest.approx(len(bars) * 56 / 1e9 * 600)


async def test_a_page_of_minutes_stays_within_its_bound(bench: Bench) -> None:
    start, end = at("2026-11-20T15:00"), at("2026-11-20T21:00")
    page = await bench.adapter().bars(UNIVERSE, MINUTE, start, end, NEVER)
    assert len(page.bars) <= MOST_ROWS < len(page.bars) + len(UNIVERSE)
    minutes = timedelta(minutes=MOST_ROWS // len(UNIVERSE))
    assert page.next == (start + minutes).isoformat()


async def test_what_is_too_young_is_left_out_once(bench: Bench) -> None:
    start = at("2026-11-23T16:00")
    page = await bench.adapter().bars(["AAPL"], MINUTE, start, NOON, NEVER)
    assert page.next is None
    assert page.bars[-1].at == at("2026-11-23T16:59")  # 24 hours ago
    assert len(page.bars) == 60
    assert bench.line.names() == ["get_range", "get_dataset_range", "get_range"]
    assert bench.line.asked[-1][1]["end"] == "2026-11-23T17:00:00+00:00"


async def test_a_live_licence_brings_all_but_a_quarter_of_an_hour(bench: Bench) -> None:
    start = at("2026-11-24T16:00")
    page = await bench.adapter(f"paid-{KEY}").bars(["AAPL"], MINUTE, start, NOON, NEVER)
    assert page.bars[-1].at == at("2026-11-24T16:44")


async def test_a_time_that_is_too_young_altogether_is_for_another_vendor(bench: Bench) -> None:
    with pytest.raises(Unsupported, match="live data license is required") as raised:
        await bench.adapter().bars(
            ["AAPL"], MINUTE, at("2026-11-24T15:00"), at("2026-11-24T16:00"), NEVER
        )
    assert raised.value.by_plan


async def test_today_has_no_day_yet(bench: Bench) -> None:
    adapter = bench.adapter()
    page = await adapter.bars(["AAPL"], DAY, at("2026-11-20"), NOON, NEVER)
    assert [b.at.day for b in page.bars] == [20, 21, 22]
    assert await adapter.cost(["AAPL"], DAY, at("2026-11-20"), NOON, NEVER) == pytest.approx(
        3 * 56 / 1e9 * 600
    )


async def test_what_was_before_the_dataset_is_left_out(bench: Bench) -> None:
    start, end = at("2021-11-24"), at("2023-04-01")
    adapter = bench.adapter()
    bars = await everything(adapter, ["AAPL"], DAY, start, end)
    assert [b.at for b in bars] == [at("2023-03-28") + timedelta(days=n) for n in range(4)]
    with pytest.raises(Unsupported, match="before the available start"):
        await adapter.bars(["AAPL"], DAY, start, at("2022-01-01"), NEVER)
    assert await adapter.cost(["AAPL"], DAY, start, at("2022-01-01"), NEVER) == 0
    nothing = bench.line.names().count("get_range")
    many = await everything(adapter, UNIVERSE, DAY, start, at("2023-03-30"))
    assert len(many) == 2 * len(UNIVERSE)
    assert bench.line.names().count("get_range") - nothing <= 3  # the void is not paged through


async def test_a_page_is_not_made_up(bench: Bench) -> None:
    with pytest.raises(Unsupported, match="page must be the `next`"):
        await bench.adapter().bars(["AAPL"], DAY, at("2026-11-16"), NOON, NEVER, "2")


async def test_an_unknown_symbol_is_named(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    adapter, span = bench.adapter(), (at("2026-11-16"), at("2026-11-20"))
    page = await adapter.bars(["NOPE"], DAY, *span, NEVER)
    assert (page.bars, page.next, page.unknown) == ((), None, ("NOPE",))
    assert await adapter.cost(["NOPE"], DAY, *span, NEVER) == 0
    with caplog.at_level(logging.WARNING, "volaris.provider_pool"):
        page = await adapter.bars(["NOPE", "AAPL"], DAY, *span, NEVER)
    assert len(page.bars) == 4
    assert "databento warns" in caplog.text
    assert "did not resolve: NOPE" in caplog.text


async def test_on_a_weekend_nobody_is_unknown(nyse: Bench) -> None:
    page = await nyse.adapter().bars(
        ["AAPL"], MINUTE, at("2026-11-21T15:00"), at("2026-11-21T16:00"), NEVER
    )
    assert (page.bars, page.next, page.unknown) == ((), None, ())


async def test_no_key_and_no_money(bench: Bench) -> None:
    span = ["AAPL"], DAY, at("2026-11-16"), at("2026-11-20"), NEVER
    with pytest.raises(Denied, match="Authentication failed"):
        await bench.adapter("").bars(*span)
    broke = bench.adapter("broke-0123456789")
    assert await broke.cost(*span) > 0
    with pytest.raises(Unsupported, match="insufficient funds") as raised:
        await broke.bars(*span)
    assert raised.value.by_plan
    assert "broke-0123456789" not in repr(raised.value)


async def test_a_limit_that_is_spent_says_until_when(bench: Bench) -> None:
    rule = {"vendor": "databento", "kind": "throttle", "count": 1}
    (await bench.web.post("/control/faults", json=rule)).raise_for_status()
    with pytest.raises(RateLimited) as raised:
        await bench.adapter().cost(["AAPL"], DAY, at("2026-11-16"), at("2026-11-20"), NEVER)
    assert raised.value.retry_after == 1


async def test_a_warning_shows_no_secret(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    def echo(request: httpx.Request) -> httpx.Response:
        told = f'["Warning: {KEY} sent {request.headers["authorization"]}"]'
        return httpx.Response(200, json=1.0, headers={"X-Warning": told})

    adapter = bench.adapter(transport=httpx.MockTransport(echo))
    with caplog.at_level(logging.WARNING, "volaris.provider_pool"):
        await adapter.cost(["AAPL"], DAY, at("2026-11-16"), at("2026-11-20"), NEVER)
    assert "Warning: *** sent Basic ***" in caplog.text


# --- the wire -----------------------------------------------------------------------------------------


def head_of(asked: dict[str, str], ids: dict[str, str], missing: list[str]) -> bytes:
    """Return the metadata of an answer as the vendor's own library writes it."""
    d0, d1 = date.fromisoformat(asked["start"]), date.fromisoformat(asked["end"])
    spans = [
        SimpleNamespace(
            raw_symbol=symbol,
            intervals=[SimpleNamespace(start_date=d0, end_date=d1, symbol=number)],
        )
        for symbol, number in ids.items()
    ]
    metadata = dbn.Metadata(
        dataset=asked["dataset"],
        start=int(at(asked["start"]).timestamp()) * 10**9,
        end=int(at(asked["end"]).timestamp()) * 10**9,
        stype_in=dbn.SType.RAW_SYMBOL,
        stype_out=dbn.SType.INSTRUMENT_ID,
        schema=dbn.Schema.OHLCV_1D,
        symbols=asked["symbols"].split(","),
        not_found=missing,
        mappings=spans,
    )
    return metadata.encode()


async def test_the_official_client_gets_dbn_in_zstandard(bench: Bench) -> None:
    answer = await bench.ask("timeseries.get_range", **CLIENT)
    decoder = dbn.DBNDecoder(compression=dbn.Compression.ZSTD)
    decoder.write(answer.content)
    head, *bars = decoder.decode()
    assert (head.symbols, head.not_found) == (["AAPL", "BRK.B", "NOPE"], ["NOPE"])
    assert [bar.ts_event // 10**9 % 86_400 for bar in bars] == [0] * 10
    assert {(bar.rtype, bar.publisher_id) for bar in bars} == {(dbn.RType.OHLCV_1D, 95)}
    candles = bench.market.days("AAPL", date(2026, 11, 16), date(2026, 11, 20), MS)
    assert [bar.pretty_close for bar in bars[::2]] == candles.close.tolist()
    warned = json.loads(answer.headers["x-warning"])
    assert warned == [
        "Warning: The streaming request had one or more symbols which did not resolve: NOPE"
    ]
    assert answer.headers["request-id"]


async def test_dbn_is_what_the_vendors_library_writes(bench: Bench) -> None:
    answer = await bench.ask("timeseries.get_range", **CLIENT | {"compression": "none"})
    resolved = (await bench.ask("symbology.resolve", **_resolving("AAPL,BRK.B"))).json()["result"]
    ids = {symbol: spans[0]["s"] for symbol, spans in resolved.items()}
    assert answer.content.startswith(head_of(CLIENT, ids, ["NOPE"]))


@pytest.mark.parametrize("pretty", [{}, {"pretty_px": "true"}, {"pretty_ts": "true"}])
@pytest.mark.parametrize("mapped", ["true", "false"])
@pytest.mark.parametrize("encoding", ["csv", "json"])
async def test_text_is_what_the_vendors_library_writes(
    bench: Bench, encoding: str, mapped: str, pretty: dict[str, str]
) -> None:
    plain = CLIENT | {"compression": "none"}
    binary = await bench.ask("timeseries.get_range", **plain)
    asked = plain | {"encoding": encoding, "map_symbols": mapped} | pretty
    text = await bench.ask("timeseries.get_range", **asked)
    expected = io.BytesIO()
    with dbn.Transcoder(
        expected,
        dbn.Encoding.from_str(encoding),
        dbn.Compression.NONE,
        pretty_px="pretty_px" in pretty,
        pretty_ts="pretty_ts" in pretty,
        map_symbols=mapped == "true",
    ) as transcoder:
        transcoder.write(binary.content)
    assert text.content == expected.getvalue()
    assert text.content.count(b"\n") == 10 + (encoding == "csv")


@pytest.mark.parametrize("schema", ["ohlcv-1m", "ohlcv-1h", "ohlcv-1d"])
@pytest.mark.parametrize("limit", [None, "3"])
async def test_what_is_counted_is_what_comes(nyse: Bench, schema: str, limit: str | None) -> None:
    asked = CLIENT | {"schema": schema, "start": "2026-11-19T16:30", "end": "2026-11-21"}
    asked |= {"limit": limit} if limit else {}
    csv = {"encoding": "csv", "compression": "none"}
    rows = (await nyse.ask("timeseries.get_range", **asked | csv)).text.count("\n") - 1
    whole = {"ohlcv-1m": 2 * (270 + 390), "ohlcv-1h": 2 * (4 + 7), "ohlcv-1d": 2}[schema]
    assert rows == (3 if limit and whole > 3 else whole)
    assert (await nyse.ask("metadata.get_record_count", **asked)).json() == rows
    assert (await nyse.ask("metadata.get_billable_size", **asked)).json() == rows * 56
    unit = {"ohlcv-1m": 280, "ohlcv-1h": 600, "ohlcv-1d": 600}[schema]
    cost = (await nyse.ask("metadata.get_cost", **asked)).json()
    assert isinstance(cost, float)
    assert cost == pytest.approx(rows * 56 / 1e9 * unit)


async def test_an_hour_is_of_its_minutes(bench: Bench) -> None:
    asked = CLIENT | {"symbols": "AAPL", "start": "2026-11-20T15", "encoding": "json"}
    asked |= {"end": "2026-11-20T16", "compression": "none"}
    hours, minutes = [
        [json.loads(line) for line in (await bench.ask("timeseries.get_range", **form)).text.split("\n")[:-1]]
        for form in (asked | {"schema": "ohlcv-1h"}, asked | {"schema": "ohlcv-1m"})
    ]  # fmt: skip
    [hour] = hours
    assert hour["hd"]["rtype"] == 34
    assert hour["open"] == minutes[0]["open"]
    assert int(hour["high"]) == max(int(minute["high"]) for minute in minutes)
    assert int(hour["volume"]) == sum(int(minute["volume"]) for minute in minutes)


def _resolving(symbols: str, **more: str) -> dict[str, str]:
    asked = {"dataset": "EQUS.MINI", "symbols": symbols, "start_date": "2026-11-16"}
    asked |= {"stype_in": "raw_symbol", "stype_out": "instrument_id", "end_date": "2026-11-21"}
    return asked | more


async def test_symbols_are_resolved_to_numbers_and_back(bench: Bench) -> None:
    told = (await bench.ask("symbology.resolve", **_resolving("QQQ,NOPE"))).json()
    number = told["result"]["QQQ"][0]["s"]
    assert told == {
        "result": {"QQQ": [{"d0": "2026-11-16", "d1": "2026-11-21", "s": number}], "NOPE": []},
        "symbols": ["QQQ", "NOPE"],
        "stype_in": "raw_symbol",
        "stype_out": "instrument_id",
        "start_date": "2026-11-16",
        "end_date": "2026-11-21",
        "partial": [],
        "not_found": ["NOPE"],
        "message": "Partially resolved",
        "status": 1,
    }
    turned = {"stype_in": "instrument_id", "stype_out": "raw_symbol"}
    back = (await bench.ask("symbology.resolve", **_resolving(number, **turned))).json()
    assert (back["result"][number][0]["s"], back["message"]) == ("QQQ", "OK")
    asked = CLIENT | {"symbols": number, "encoding": "csv", "compression": "none"} | turned
    rows = (await bench.ask("timeseries.get_range", **asked, map_symbols="true")).text.split()
    assert {row.rpartition(",")[2] for row in rows[1:]} == {"QQQ"}


async def test_metadata_has_the_vendors_shapes(bench: Bench) -> None:
    async def get(name: str, **params: str) -> Any:
        return (await bench.web.get(f"/databento/v0/metadata.{name}", params=params)).json()

    mini = {"dataset": "EQUS.MINI"}
    assert "EQUS.MINI" in await get("list_datasets")
    assert await get("list_schemas", **mini) == ["ohlcv-1m", "ohlcv-1h", "ohlcv-1d"]
    assert (await get("list_unit_prices", **mini))[0]["unit_prices"]["ohlcv-1d"] == 600.0
    span = await get("get_dataset_range", **mini)
    assert span["start"] == "2023-03-28T00:00:00.000000000Z"
    assert span["end"] == "2026-11-23T17:00:00.000000000Z"
    assert span["schema"]["ohlcv-1d"]["end"] == "2026-11-23T00:00:00.000000000Z"
    days = await get("get_dataset_condition", **mini, start_date="2026-11-23")
    assert days[0] == {
        "date": "2026-11-23",
        "condition": "available",
        "last_modified_date": "2026-11-24",
    }
    assert {"publisher_id": 95, "dataset": "EQUS.MINI"}.items() <= (await get("list_publishers"))[
        0
    ].items()


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        ({"end": "2026-11-30"}, 422, "data_end_after_available_end"),
        ({"end": "2026-11-24"}, 403, "license_not_found_unauthorized"),
        ({"start": "2020-01-01"}, 422, "data_start_before_available_start"),
        ({"start": "2026-11-25", "end": "2026-11-26"}, 422, "data_start_after_available_end"),
        ({"start": "2026-11-21"}, 422, "data_time_range_start_on_or_after_end"),
        ({"schema": "ohlcv-1m", "end": "2026-11-24T12:00"}, 403, "license_not_found_unauthorized"),
        ({"symbols": "NOPE"}, 422, "symbology_invalid_request"),
        ({"symbols": "ES.FUT", "stype_in": "parent"}, 422, "symbology_invalid_request"),
        ({"dataset": "NO.SUCH"}, 422, "Invalid dataset: NO.SUCH"),
        ({"dataset": ""}, 422, "Missing required field: dataset"),
        ({"schema": "trades"}, 422, "The schema trades is not available for EQUS.MINI."),
        ({"schema": "x"}, 422, "Invalid schema: x"),
        ({"start": "x"}, 422, "Invalid start: x"),
        ({"start": "9" * 40}, 422, f"Invalid start: {'9' * 40}"),
        ({"start": ""}, 422, "Missing required field: start"),
        ({"limit": "-1"}, 422, "Invalid limit: -1"),
        ({"encoding": "xml"}, 422, "Invalid encoding: xml"),
        ({"symbols": ",".join(f"A{n}" for n in range(2001))}, 422, "A request may have at most"),
    ],
)
async def test_a_question_amiss_is_refused_in_the_vendors_words(
    bench: Bench, change: dict[str, str], status: int, told: str
) -> None:
    answer = await bench.ask("timeseries.get_range", **CLIENT | change)
    detail = answer.json()["detail"]
    assert answer.status_code == status
    if isinstance(detail, str):
        assert detail.startswith(told)
        return
    assert detail["case"] == told
    assert detail["status_code"] == status
    assert set(detail) == {"case", "message", "status_code", "docs", "payload"}


async def test_who_comes_without_a_key_and_where_nothing_is(bench: Bench) -> None:
    async with httpx.AsyncClient(transport=bench.line, base_url="http://127.0.0.1") as bare:
        for headers in ({}, {"Authorization": "Basic Og=="}, {"Authorization": "Bearer x"}):
            answer = await bare.post(RANGE, data=CLIENT, headers=headers)
            assert answer.status_code == 401
            assert answer.json()["detail"]["case"] == "auth_authentication_failed"
    answer = await bench.ask("timeseries.nothing")
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})
