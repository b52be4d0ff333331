"""Databento's doors: bars of equities from its historical service, what they cost, and who is who.

Bars are made of the same market as everything here.  A daily one is of a New York date and stamped
00:00Z of it, where Databento's is of a UTC day.  The latest data is a quarter of an hour old; of the
last 24 hours a key has it only if it begins with `paid` (a live licence), and one that begins with
`broke` may ask for prices but has no money.  This module does *not* cover batch jobs, the live gateway,
options, and any schema but bars.
"""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route

from sandbox.candles import Candles
from sandbox.clock import Clock
from sandbox.databento_records import BAR, CENT, Bars, Text, framed, metadata
from sandbox.databento_wire import (
    DAY_NS,
    NS,
    SCHEMAS,
    Available,
    Question,
    Refused,
    choice,
    dataset_of,
    day_of,
    dumped,
    error_answer,
    error_body,
    flag,
    instant,
    iso,
    plain_headers,
    stypes_of,
    symbols_of,
)
from sandbox.days import Hours
from sandbox.market import Market

DELAY_NS = 900 * NS  # how old the latest data is
LIVE_NS = DAY_NS  # what is younger takes a live licence
MS = 1_000_000
MOST_FORM = 100_000  # bytes; 2,000 symbols are a fifth of it
FIRST_ID = 1_001
SLICE_DAYS = 91  # of daily bars made at a time; of minutes it is one day
NAMED = 3  # unresolved symbols that a warning names
PAID_KEY, BROKE_KEY = "paid", "broke"

PRICES = {"ohlcv-1m": 280.0, "ohlcv-1h": 600.0, "ohlcv-1d": 600.0}  # US dollars a gigabyte
MODES = ("historical", "historical-streaming", "live")


@dataclass(frozen=True, slots=True)
class Dataset:
    """One dataset: the number of its publisher, where it begins, and what it is called."""

    publisher: int
    began: date
    venue: str
    title: str


DATASETS = {
    "EQUS.MINI": Dataset(95, date(2023, 3, 28), "EQUS", "Databento US Equities Mini"),
    "EQUS.SUMMARY": Dataset(90, date(2024, 7, 1), "EQUS", "Databento US Equities Summary"),
    "XNAS.ITCH": Dataset(2, date(2018, 5, 1), "XNAS", "Nasdaq TotalView-ITCH"),
}

Form = Mapping[str, str]
Answer = Callable[[Form, str], Any]  # (form, key) -> JSON, or a response


class Databento:
    """Databento, as far as the sandbox speaks for it."""

    name = "databento"
    error_answer = staticmethod(error_answer)

    def __init__(self, market: Market, clock: Clock) -> None:
        self._market, self._clock = market, clock
        listed = [row.symbol for row in market.listings if row.kind != "index"]
        self._ids = {symbol: FIRST_ID + n for n, symbol in enumerate(listed)}
        self._names = {number: symbol for symbol, number in self._ids.items()}

    def routes(self) -> Mount:
        """Return everything under /databento."""
        table: tuple[tuple[str, Answer], ...] = (
            ("metadata.list_publishers", self._publishers),
            ("metadata.list_datasets", self._datasets),
            ("metadata.list_schemas", self._schemas),
            ("metadata.list_unit_prices", self._unit_prices),
            ("metadata.get_dataset_range", self._range),
            ("metadata.get_dataset_condition", self._condition),
            ("metadata.get_record_count", self._record_count),
            ("metadata.get_billable_size", self._billable_size),
            ("metadata.get_cost", self._cost),
            ("symbology.resolve", self._resolve),
            ("timeseries.get_range", self._bars),
        )
        return Mount(
            "/databento",
            routes=[
                *(
                    Route(f"/v0/{name}", self._door(answer), methods=["GET", "POST"])
                    for name, answer in table
                ),
                Route("/{rest:path}", self._door(_nothing), methods=["GET", "POST"]),
            ],
        )

    def _door(self, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        """Return a handler that checks the key and puts errors in Databento's words."""

        async def handler(request: Request) -> Response:
            try:
                who = _key_of(request)
                if not who:
                    raise Refused(401)
                answered = answer(await _form_of(request), who)
            except Refused as error:
                return Response(error_body(error), error.status, headers=plain_headers())
            if isinstance(answered, Response):
                return answered
            return Response(dumped(answered), headers=plain_headers())

        return handler

    # --- metadata

    def _publishers(self, _: Form, __: str) -> Any:
        return [
            {
                "publisher_id": dataset.publisher,
                "dataset": name,
                "venue": dataset.venue,
                "description": dataset.title,
            }
            for name, dataset in DATASETS.items()
        ]

    def _datasets(self, form: Form, _: str) -> Any:
        until = instant(form, "end_date")
        return [
            name
            for name, dataset in DATASETS.items()
            if until is None or dataset.began < day_of(until)
        ]

    def _schemas(self, form: Form, _: str) -> Any:
        dataset_of(form, DATASETS)
        return list(SCHEMAS)

    def _unit_prices(self, form: Form, _: str) -> Any:
        dataset_of(form, DATASETS)
        return [{"mode": mode, "unit_prices": PRICES} for mode in MODES]

    def _range(self, form: Form, who: str) -> Any:
        dataset = dataset_of(form, DATASETS)
        spans = {schema: self._available(dataset, schema) for schema in SCHEMAS}
        free = not who.startswith(PAID_KEY)
        schemas = {
            schema: {"start": iso(span.start), "end": iso(span.licensed if free else span.end)}
            for schema, span in spans.items()
        }
        return schemas["ohlcv-1m"] | {"schema": schemas}

    def _condition(self, form: Form, who: str) -> Any:
        dataset = dataset_of(form, DATASETS)
        span = self._available(dataset, "ohlcv-1d")
        first, last = instant(form, "start_date"), instant(form, "end_date")
        end = span.licensed if not who.startswith(PAID_KEY) else span.end
        day, until = day_of(first or span.start), day_of(last or end)
        day, until = max(day, DATASETS[dataset].began), min(until, day_of(self._clock.ms() * MS))
        days = (day + timedelta(days=n) for n in range((until - day).days + 1))
        return [
            {
                "date": day.isoformat(),
                "condition": "available" if day < day_of(span.end) else "pending",
                "last_modified_date": (day + timedelta(days=1)).isoformat()
                if day < day_of(span.end)
                else None,
            }
            for day in days
            if self._market.times.window(day.toordinal() - 1)
        ]

    def _record_count(self, form: Form, who: str) -> Any:
        return self._count(*self._asked(form, who))

    def _billable_size(self, form: Form, who: str) -> Any:
        return self._count(*self._asked(form, who)) * BAR.itemsize

    def _cost(self, form: Form, who: str) -> Any:
        asked, ids = self._asked(form, who)
        return self._count(asked, ids) * BAR.itemsize / 1e9 * PRICES[asked.schema]

    # --- who is who

    def _resolve(self, form: Form, _: str) -> Any:
        dataset_of(form, DATASETS)
        stype_in, stype_out = stypes_of(form)
        start = instant(form, "start_date")
        if start is None:
            raise Refused(422, "Missing required field: start_date")
        first = day_of(start)
        end = instant(form, "end_date")
        last = first + timedelta(days=1) if end is None else day_of(end)
        if first >= last:
            raise Refused(422, f"Invalid date range: {first} cannot be on or after {last}.")
        symbols = symbols_of(form)
        ids = self._resolved(symbols, stype_in)
        not_found = [symbol for symbol in symbols if symbol not in ids]
        status = 0 if not not_found else 1 if ids else 2
        result = {
            symbol: [
                {"d0": f"{first}", "d1": f"{last}", "s": self._spelled(ids[symbol], stype_out)}
            ]
            if symbol in ids
            else []
            for symbol in symbols or ids
        }
        return {
            "result": result,
            "symbols": list(symbols),
            "stype_in": stype_in,
            "stype_out": stype_out,
            "start_date": f"{first}",
            "end_date": f"{last}",
            "partial": [],
            "not_found": not_found,
            "message": ("OK", "Partially resolved", "Not found")[status],
            "status": status,
        }

    def _resolved(self, symbols: Sequence[str], stype: str) -> dict[str, int]:
        """Return the number of each symbol asked for that there is; of all where none was named."""
        if stype == "raw_symbol":
            known = self._ids
        else:
            known = {str(number): number for number in self._names}
        return (
            {symbol: known[symbol] for symbol in symbols if symbol in known} if symbols else known
        )

    def _spelled(self, number: int, stype: str) -> str:
        return self._names[number] if stype == "raw_symbol" else str(number)

    # --- bars

    def _bars(self, form: Form, who: str) -> Response:
        asked, ids = self._asked(form, who)
        encoding = choice(form, "encoding", ("dbn", "csv", "json"))
        compression = choice(form, "compression", ("none", "zstd"))
        pretty = {name: flag(form, name) for name in ("pretty_px", "pretty_ts")}
        names = {number: symbol for symbol, number in ids.items()}
        if asked.stype_in == "instrument_id":
            names = {number: self._spelled(number, asked.stype_out) for number in names}
        text = Text(encoding, names if flag(form, "map_symbols") else None, **pretty)
        if who.startswith(BROKE_KEY):
            raise Refused(402)
        not_found = [symbol for symbol in asked.symbols if symbol not in ids]

        async def written() -> AsyncIterator[bytes]:
            if encoding == "dbn":
                days = day_of(asked.start), day_of(asked.end - 1) + timedelta(days=1)
                spans = {
                    symbol: [(*days, self._spelled(number, asked.stype_out))]
                    for symbol, number in ids.items()
                }
                yield metadata(asked, not_found, spans)
            else:
                yield text.head()
            async for bars in self._made(asked, ids):
                yield bars.tobytes() if encoding == "dbn" else text.lines(bars)

        kind = {"dbn": "application/octet-stream", "csv": "text/csv", "json": "application/json"}
        headers = plain_headers() | {"Content-Type": kind[encoding]}
        if compression == "zstd":
            headers["Content-Type"] = "application/zstd"
        if not_found:
            shown = ", ".join(not_found[:NAMED]) + ("..." if len(not_found) > NAMED else "")
            words = "The streaming request had one or more symbols which did not resolve"
            headers["X-Warning"] = dumped([f"Warning: {words}: {shown}"]).decode()
        body = framed(written()) if compression == "zstd" else written()
        return StreamingResponse(body, headers=headers)

    def _asked(self, form: Form, who: str) -> tuple[Question, dict[str, int]]:
        """Return a question for data and the numbers of its symbols, or refuse it."""
        asked = Question.read(form, DATASETS)
        available = self._available(asked.dataset, asked.schema)
        asked.check(available, free=not who.startswith(PAID_KEY))
        ids = self._resolved(asked.symbols, asked.stype_in)
        times = self._market.times
        days = range(_ordinal(asked.start), _ordinal(asked.end - 1) + 1)
        if not ids or (times.hours is Hours.NYSE and not any(map(times.window, days))):
            raise Refused(422, "None of the symbols could be resolved", "symbology_invalid_request")
        return asked, ids

    def _available(self, dataset: str, schema: str) -> Available:
        now = self._clock.ms() * MS
        length = DAY_NS if schema == "ohlcv-1d" else 60 * NS
        start = int((DATASETS[dataset].began - date(1970, 1, 1)).days) * DAY_NS
        end, licensed = ((now - late) // length * length for late in (DELAY_NS, LIVE_NS))
        return Available(start, end, licensed)

    def _count(self, asked: Question, ids: Mapping[str, int]) -> int:
        """Return the bars there are: everything listed trades in every minute."""
        [symbol, *_] = ids.values()
        if asked.schema == "ohlcv-1d":
            days = range(_ordinal(-(-asked.start // DAY_NS) * DAY_NS), _ordinal(asked.end - 1) + 1)
            each = sum(1 for day in days if self._market.times.window(day))
        else:
            slices = _slices(asked)
            each = sum(len(self._candles(asked, symbol, *ends)) for ends in slices)
        count = each * len(ids)
        return count if asked.limit is None else min(count, asked.limit)

    async def _made(self, asked: Question, ids: Mapping[str, int]) -> AsyncIterator[Bars]:
        """Yield the bars by time and then instrument."""
        left = asked.limit
        for begin, end in _slices(asked):
            parts = []
            for number in ids.values():
                candles = self._candles(asked, number, begin, end)
                parts.append(self._recorded(asked, number, candles))
                await asyncio.sleep(0)  # others want an answer too
            bars = np.concatenate(parts)
            bars = bars[np.lexsort((bars["instrument_id"], bars["ts_event"]))]
            if left is not None:
                bars = bars[:left]
                left -= len(bars)
            if len(bars):
                yield bars
            if left == 0:
                return

    def _candles(self, asked: Question, number: int, begin: int, end: int) -> Candles:
        """Return one instrument's bars that begin in [begin, end) ns, stamped in ms."""
        symbol, now = self._names[number], self._clock.ms()
        length = SCHEMAS[asked.schema][2] // MS
        if asked.schema == "ohlcv-1d":
            candles = self._market.days(symbol, day_of(begin), day_of(end - 1), now)
            candles = candles.stamped(candles.at // length * length)
        else:
            first, last = (-(-at // MS // length) * length for at in (begin, end))
            candles = self._market.minutes(symbol, first, last, now)
            candles = candles.grouped(candles.at // length)
            candles = candles.stamped(candles.at // length * length)
        return candles.taken(
            (candles.at * MS >= begin) & (candles.at * MS < end) & (candles.volume > 0)
        )

    def _recorded(self, asked: Question, number: int, candles: Candles) -> Bars:
        bars = np.zeros(len(candles), BAR)
        bars["length"] = BAR.itemsize // 4
        bars["rtype"] = SCHEMAS[asked.schema][0]
        bars["publisher_id"] = DATASETS[asked.dataset].publisher
        bars["instrument_id"] = number
        bars["ts_event"] = candles.at * MS
        for name in ("open", "high", "low", "close"):
            bars[name] = np.rint(getattr(candles, name) * 100).astype(np.int64) * CENT
        bars["volume"] = candles.volume
        return bars


def _nothing(_: Form, __: str) -> Any:
    raise Refused(404)


def _slices(asked: Question) -> list[tuple[int, int]]:
    """Return the time asked for in parts whose bars are made at a time."""
    length = DAY_NS * (SLICE_DAYS if asked.schema == "ohlcv-1d" else 1)
    cuts = range(asked.start // length * length + length, asked.end, length)
    ends = [asked.start, *cuts, asked.end]
    return list(pairwise(ends))


def _ordinal(ns: int) -> int:
    """Return the UTC date of a time as the market counts them."""
    return day_of(ns).toordinal() - 1


def _key_of(request: Request) -> str:
    """Return the key: the user's name of Basic auth; the password is empty."""
    scheme, _, pair = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(pair.strip(), validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return ""


async def _form_of(request: Request) -> Form:
    """Return what was asked with: the query, and the form of a POST."""
    body = await request.body() if request.method == "POST" else b""
    if len(body) > MOST_FORM:
        raise Refused(413, "Request Entity Too Large")
    return dict(request.query_params) | dict(parse_qsl(body.decode(errors="replace")))
