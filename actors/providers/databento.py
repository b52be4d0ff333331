"""Databento: bars of history, up to about a day ago, of as many symbols at once as one likes.

Vendor reference: databento.com/docs/api-reference-historical.  Every answer is billed by what is in it,
so nothing is asked twice: a page is a stretch of time that holds no more than `MOST_ROWS` rows whatever
trades, the next page begins where it ends, and `cost` tells the price of a range beforehand.  CSV is
asked for, because it takes half the bytes of JSON, begins with a header even where there is nothing, and
ends with a line break, so that one that broke off is seen; NDJSON is read as well.
"""

import base64
import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from itertools import groupby
from typing import Any, ClassVar, Self

from actors.domain.calendar import FIRST_YEAR, session
from actors.domain.models import Bar, BarPage, Timeframe
from actors.providers.base import Denied, Malformed, ProviderError, Unsupported
from actors.providers.http import Tools, Wire
from actors.providers.values import (
    EPOCH,
    LARGEST_COUNT,
    day_of,
    mapping,
    moment,
    moment_of,
    plain,
    price,
)
from actors.providers.vendor import Kind
from actors.settings import Settings

VENDOR = "databento"
RANGE = "/v0/timeseries.get_range"
COST = "/v0/metadata.get_cost"
AVAILABLE = "/v0/metadata.get_dataset_range"

NANOSECONDS = 1_000_000_000
PRICE_UNIT = 1e9  # a price is a whole number of these parts of a dollar
NO_PRICE = 2**63 - 1
MOST_ROWS = 20_000  # of one answer: 2 MB, a quarter of a second of work, 20 MiB while it is read
MOST_VENUES = {"OPRA.PILLAR": 18}  # rows there are of one bar; of the other datasets one
LONGEST_NUMBER = 20  # digits of a 64-bit one, with its sign
DETAIL_LENGTH = 300

COLUMNS = ("symbol", "ts_event", "open", "high", "low", "close", "volume")
_SCHEMAS = {
    Timeframe.MINUTE: ("ohlcv-1m", timedelta(minutes=1)),
    Timeframe.FIVE_MINUTES: ("ohlcv-1m", timedelta(minutes=5)),
    Timeframe.DAY: ("ohlcv-1d", timedelta(days=1)),
}
_OUT_OF_RANGE = frozenset(
    {
        "data_end_after_available_end",
        "data_start_after_available_end",
        "data_start_before_available_start",
        "dataset_unavailable_range",
        "license_not_found_unauthorized",  # only where it names a time: the last day needs a licence
    }
)
_TIME = re.compile(
    r"(?:before|after|up to) '?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d[\d:.]*(?:Z|[+-]\d\d:\d\d))"
)


class OutOfRange(Unsupported):
    """There is data of another time; `until` is where it ends for us, where the vendor says so."""

    until: datetime | None = None


class Unresolved(Unsupported):
    """None of the symbols was listed in that time."""


class Databento:
    """Bars as they were traded, not adjusted for splits: the vendor has no others.

    5-minute bars are made of minutes.  A daily bar is of a UTC day, so what is traded in New York after
    19:00 in winter (20:00 in summer) counts for the day after.
    """

    name: ClassVar = VENDOR
    needs: ClassVar = ("DATABENTO_API_KEY",)
    sells: ClassVar = frozenset({Kind.BARS})
    limits: ClassVar = "20/s"  # of metadata; of bars it would be 100/s
    batch: ClassVar = 0
    bars_batch: ClassVar = 2000  # more are refused

    def __init__(self, key: str, settings: Settings, tools: Tools) -> None:
        self.limiter = tools.limiter(VENDOR, settings.limits_of(VENDOR, self.limits))
        self._wire = Wire(VENDOR, settings.databento_base_url, self.limiter, tools)
        pair = base64.b64encode(f"{key}:".encode()).decode()
        self._wire.hide(key=key, pair=pair)
        self._headers = {"Authorization": f"Basic {pair}"}
        self._dataset = settings.databento_dataset
        self._always_open = settings.market_always_open

    @classmethod
    def of(cls, settings: Settings, tools: Tools) -> Self | None:
        """Return the vendor made from the settings, or None when its key is not set."""
        key = settings.databento_api_key
        return None if key is None else cls(key.get_secret_value(), settings, tools)

    @property
    def login_expires_at(self) -> datetime | None:
        """Return None: the key does not expire by itself."""
        return None

    async def open(self) -> None:
        """Do nothing: there is no login."""

    async def close(self) -> None:
        """Give back every connection."""
        await self._wire.close()

    async def bars(
        self,
        symbols: Sequence[str],
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        deadline: float,
        page: str | None = None,
    ) -> BarPage:
        """Return bars that start in [start, end), as far as they are to be had; one billed request.

        Where none of that time are, the first page is `Unsupported`, so that another vendor is asked.
        """
        schema, step = _SCHEMAS[timeframe]
        begin, end = moment_of(page) if page else up(start, step), up(end, step)
        if begin is None:
            why = f"page must be the `next` of an answer to the same question, was {page!r}"
            raise Unsupported(VENDOR, why)
        until = min(end, begin + stretch(len(symbols), step, self._dataset))
        if begin >= until:
            return BarPage(())
        bars: tuple[Bar, ...] = ()
        resolved = True
        try:
            try:
                body = await self._data(symbols, schema, begin, until, deadline)
            except OutOfRange as e:
                first, last = await self._available(schema, e.until, deadline)
                first, end = up(first, step), min(end, down(last, step))
                if end <= begin or end <= first:
                    if page is None:
                        raise
                    return BarPage(())
                if until <= first:
                    return BarPage((), next=first.isoformat())
                begin, until = max(begin, first), min(until, end)
                body = await self._data(symbols, schema, begin, until, deadline)
            bars = parse_bars(body, symbols, timeframe, always_open=self._always_open)
        except Unresolved:
            # On a weekend nothing is listed, and before its first day no company: so it is said of a
            # whole range only, and only where there was trading in it.
            resolved = page is not None or until < end or not _traded(begin, until)
        following = until.isoformat() if until < end else None
        return BarPage(bars, following, () if resolved else tuple(symbols))

    async def cost(
        self,
        symbols: Sequence[str],
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        deadline: float,
    ) -> float:
        """Return what all pages of these bars will cost, in US dollars; asking is free.

        At most 2,000 symbols.  What is not to be had costs nothing.
        """
        schema, step = _SCHEMAS[timeframe]
        begin, until = up(start, step), up(end, step)
        try:
            try:
                return await self._priced(symbols, schema, begin, until, deadline)
            except OutOfRange as e:
                first, last = await self._available(schema, e.until, deadline)
                begin, until = max(begin, up(first, step)), min(until, down(last, step))
                return await self._priced(symbols, schema, begin, until, deadline)
        except Unresolved:
            return 0.0

    async def _data(
        self, symbols: Sequence[str], schema: str, begin: datetime, until: datetime, deadline: float
    ) -> Any:
        form = build(self._dataset, symbols, schema, begin, until)
        form |= {"encoding": "csv", "compression": "none", "map_symbols": "true"}
        form |= {"pretty_px": "false", "pretty_ts": "false"}
        return await self._wire.request(
            "POST",
            RANGE,
            deadline=deadline,
            headers=self._headers,
            form=form,
            refusal=refusal,
            text=True,
        )

    async def _priced(
        self, symbols: Sequence[str], schema: str, begin: datetime, until: datetime, deadline: float
    ) -> float:
        if begin >= until:
            return 0.0
        form = build(self._dataset, symbols, schema, begin, until)
        body = await self._wire.request(
            "POST", COST, deadline=deadline, headers=self._headers, form=form, refusal=refusal
        )
        return parse_cost(body)

    async def _available(
        self, schema: str, told: datetime | None, deadline: float
    ) -> tuple[datetime, datetime]:
        """Return from when until when there is data for us; `told` is an end the vendor has named."""
        body = await self._wire.request(
            "GET",
            AVAILABLE,
            deadline=deadline,
            params={"dataset": self._dataset},
            headers=self._headers,
            refusal=refusal,
        )
        first, last = parse_available(body, schema)
        return first, min(last, told or last)


# --- pure: what to ask -------------------------------------------------------------------------------


def build(
    dataset: str, symbols: Sequence[str], schema: str, begin: datetime, until: datetime
) -> dict[str, str]:
    """Return the form for what starts in [begin, until)."""
    return {
        "dataset": dataset,
        "symbols": ",".join(symbols),
        "schema": schema,
        "stype_in": "raw_symbol",
        "stype_out": "instrument_id",
        "start": begin.isoformat(),
        "end": until.isoformat(),
    }


def stretch(symbols: int, step: timedelta, dataset: str) -> timedelta:
    """Return the longest time whose bars fit into one answer, in whole steps."""
    a_step = symbols * MOST_VENUES.get(dataset, 1)
    if step < timedelta(days=1):
        a_step *= step // timedelta(minutes=1)
    return step * max(1, MOST_ROWS // max(1, a_step))


def up(at: datetime, step: timedelta) -> datetime:
    """Return the first moment not before `at` at which a bar begins."""
    return EPOCH - (EPOCH - at) // step * step


def down(at: datetime, step: timedelta) -> datetime:
    """Return the last moment not after `at` at which a bar begins."""
    return EPOCH + (at - EPOCH) // step * step


# --- pure: what was answered -------------------------------------------------------------------------


def refusal(status: int, body: Any) -> ProviderError | None:
    """Read Databento's own words in an answer that is not 2xx; None leaves it to the status."""
    detail: Any = body.get("detail") if isinstance(body, Mapping) else None
    told = detail if isinstance(detail, Mapping) else {"message": detail}
    message, case = told.get("message"), told.get("case")
    if not isinstance(message, str):
        return None
    case = case if isinstance(case, str) else ""
    why = f"{plain(message, DETAIL_LENGTH)} ({status}{f' {plain(case, 60)}' if case else ''})"
    if status == 401 or case.startswith("auth_"):
        return Denied(VENDOR, why)
    if not 400 <= status < 500 or status in (408, 425, 429):
        return None
    if case == "symbology_invalid_request":
        return Unresolved(VENDOR, why)
    if case in _OUT_OF_RANGE:
        until = _until(told, message)
        if until is not None or not case.startswith("license"):
            error = OutOfRange(VENDOR, why)
            error.until = until
            return error
    return Unsupported(VENDOR, why)


def parse_cost(body: Any) -> float:
    """Return US dollars: the answer is a bare number."""
    dollars = price(body)
    if dollars is None:
        raise Malformed(VENDOR, f"a cost is a number of dollars, was {type(body).__name__}")
    return dollars


def parse_available(body: Any, schema: str) -> tuple[datetime, datetime]:
    """Return from when until when there is data of a schema, or of the dataset where that is not told."""
    body = mapping(VENDOR, body, "range")
    schemas = body.get("schema")
    own = schemas.get(schema) if isinstance(schemas, Mapping) else None
    for told in (own, body):
        if isinstance(told, Mapping):
            first, last = _instant(told.get("start")), _instant(told.get("end"))
            if first and last:
                return first, last
    raise Malformed(VENDOR, "a range has a start and an end")


def parse_bars(
    body: Any, symbols: Sequence[str], timeframe: Timeframe, *, always_open: bool = False
) -> tuple[Bar, ...]:
    """Return the bars of one answer (CSV or NDJSON text) by symbol and time; a row amiss is left out.

    Options come as one row a venue: open and close are then those of the venue where most was traded.
    A Friday evening's last trades make a bar of a Saturday, which is no trading day: it is left out,
    unless the market is `always_open`.
    """
    if not isinstance(body, str):
        raise Malformed(VENDOR, f"bars are lines of text, was {type(body).__name__}")
    if body and not body.endswith("\n"):
        raise Malformed(VENDOR, "an answer that breaks off in the middle")
    asked, day = set(symbols), timeframe is Timeframe.DAY
    seen, venues = 0, dict[tuple[str, datetime], list[Bar]]()
    for row in _rows_of(body):
        seen += 1
        if (bar := _bar(row, day=day)) and bar.symbol in asked:
            venues.setdefault((bar.symbol, bar.at), []).append(bar)
    if seen and not venues:
        raise Malformed(VENDOR, f"{seen} rows, none of them a readable bar")
    bars = [_across(venues[key]) for key in sorted(venues)]
    if day and not always_open:
        bars = [bar for bar in bars if bar.at.year < FIRST_YEAR or session(bar.at.date())]
    if timeframe is Timeframe.FIVE_MINUTES:
        step = _SCHEMAS[timeframe][1]
        groups = groupby(bars, lambda bar: (bar.symbol, down(bar.at, step)))
        bars = [_longer(list(minutes), at) for (_, at), minutes in groups]
    return tuple(bars)


def _rows_of(body: str) -> Iterator[Sequence[Any]]:
    """Yield the values of `COLUMNS` of each row; what is no row has none of them."""
    lines = body.splitlines()
    if body.startswith("{"):
        for line in lines:
            yield _of_json(line)
        return
    try:
        table = csv.reader(lines)
        header = next(table, [])
        if missing := set(COLUMNS) - set(header):
            raise Malformed(VENDOR, f"a table without the column {min(missing)}")
        places = [header.index(name) for name in COLUMNS]
        width = max(places)
        for row in table:
            yield [row[n] for n in places] if len(row) > width else ()
    except csv.Error:
        raise Malformed(VENDOR, "a table that is not CSV") from None


def _of_json(line: str) -> Sequence[Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return ()
    match record:
        case {"hd": {"ts_event": at}, "symbol": symbol}:
            return (symbol, at, *(record.get(name) for name in COLUMNS[2:]))
    return ()


def _bar(row: Sequence[Any], *, day: bool) -> Bar | None:
    if not row:
        return None
    symbol, told, *prices, shares = row
    at = moment(_number(told), NANOSECONDS)
    opened, high, low, close = map(_price, prices)
    volume = _number(shares)
    if at is None or opened is None or high is None or low is None or close is None or low > high:
        return None
    if day:
        at = datetime.combine(at.date(), time(), UTC)
    if volume is None or not 0 <= volume <= LARGEST_COUNT or not isinstance(symbol, str):
        return None
    return Bar(symbol, at, opened, high, low, close, volume, VENDOR)


def _across(venues: Sequence[Bar]) -> Bar:
    """Return one bar of those of several venues."""
    if len(venues) == 1:
        return venues[0]
    most = max(venues, key=lambda bar: bar.volume)
    return _joined(venues, most.at, most.open, most.close)


def _longer(minutes: Sequence[Bar], at: datetime) -> Bar:
    """Return one bar of several that follow each other."""
    return _joined(minutes, at, minutes[0].open, minutes[-1].close)


def _joined(parts: Sequence[Bar], at: datetime, opened: float, close: float) -> Bar:
    high, low = max(bar.high for bar in parts), min(bar.low for bar in parts)
    volume = min(sum(bar.volume for bar in parts), LARGEST_COUNT)
    return Bar(parts[0].symbol, at, opened, high, low, close, volume, VENDOR)


def _number(value: Any) -> int | None:
    """Return a 64-bit number, told as text or not."""
    if isinstance(value, str):
        digits = value.removeprefix("-")
        short = len(value) <= LONGEST_NUMBER
        return int(value) if short and digits.isascii() and digits.isdigit() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _price(value: Any) -> float | None:
    """Return a price at which something was traded."""
    units = _number(value)
    return units / PRICE_UNIT if units is not None and 0 < units < NO_PRICE else None


def _instant(value: Any) -> datetime | None:
    if at := moment_of(value):
        return at
    day = day_of(value)
    return datetime.combine(day, time(), UTC) if day else None


def _until(detail: Mapping[str, Any], message: str) -> datetime | None:
    """Return where the data ends, as a refusal tells it."""
    match detail:
        case {"payload": {"available_end": told}}:
            return moment_of(told)
    found = _TIME.search(message)
    return moment_of(found[1].replace(" ", "T")) if found else None


def _traded(begin: datetime, until: datetime) -> bool:
    """Tell whether there was a session in [begin, until)."""
    days = -((begin - until) // timedelta(days=1))
    dates = (begin.date() + timedelta(days=n) for n in range(days))
    return any(date.year < FIRST_YEAR or session(date) for date in dates)
