"""Schwab's price history: minutes, days, weeks and months of one symbol, with its stamps and quirks.

Minutes come in whole days whatever hour was asked for, and without an end the answer stops at the
last session that is over.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np
from starlette.requests import Request

from sandbox.candles import Candles
from sandbox.days import NEW_YORK, midnight
from sandbox.market import Market
from sandbox.paths import STEPS
from sandbox.schwab_wire import CENTRAL_MS, Refused, dumped, flag, whole

MINUTE_DAYS, DAY_YEARS = 48, 25  # how far back minutes and days go
MINUTE_MS = 60_000

_FREQUENCIES = {  # by type of period: what goes with it, the usual one last
    "day": ("minute",),
    "month": ("daily", "weekly"),
    "year": ("daily", "weekly", "monthly"),
    "ytd": ("daily", "weekly"),
}
_PERIODS = {
    "day": (1, 2, 3, 4, 5, 10),
    "month": (1, 2, 3, 6),
    "year": (1, 2, 3, 5, 10, 15, 20),
    "ytd": (1,),
}


@dataclass(frozen=True, slots=True)
class History:
    """A question for bars, checked."""

    symbol: str
    period_type: str
    period: int
    frequency_type: str
    frequency: int
    start: int | None
    end: int | None
    extended: bool
    previous_close: bool

    @property
    def by_day(self) -> bool:
        """Say whether the answer is stamped at midnight in Chicago."""
        return self.frequency_type != "minute"

    @classmethod
    def read(cls, request: Request) -> "History":
        """Return the question, or refuse it as Schwab does."""
        asked = request.query_params
        symbol = asked.get("symbol", "").strip().upper()
        if not symbol:
            raise Refused(400, "symbol is required", "symbol")
        period_type = asked.get("periodType", "day")
        if period_type not in _PERIODS:
            raise Refused(400, "Invalid periodType", "periodType")
        frequency_type = asked.get("frequencyType", _FREQUENCIES[period_type][-1])
        if frequency_type not in _FREQUENCIES[period_type]:
            detail = f"Invalid frequencyType for periodType {period_type}"
            raise Refused(400, detail, "frequencyType")
        period = whole(request, "period", 10 if period_type == "day" else 1)
        if period not in _PERIODS[period_type]:
            raise Refused(400, f"Invalid period for periodType {period_type}", "period")
        frequency = whole(request, "frequency", 1)
        if frequency not in ((1, 5, 10, 15, 30) if frequency_type == "minute" else (1,)):
            detail = f"Invalid frequency for frequencyType {frequency_type}"
            raise Refused(400, detail, "frequency")
        start = whole(request, "startDate", None)
        end = whole(request, "endDate", None)
        if start is not None and end is not None and start > end:
            raise Refused(400, "startDate must not be after endDate", "startDate")
        return cls(
            symbol=symbol,
            period_type=period_type,
            period=period or 1,
            frequency_type=frequency_type,
            frequency=frequency or 1,
            start=start,
            end=end,
            extended=flag(request, "needExtendedHoursData", usual=True),
            previous_close=flag(request, "needPreviousClose", usual=False),
        )


def answer(asked: History, rows: Mapping[str, int], market: Market, now: int) -> bytes:
    """Return the answer to a question for bars."""
    i = rows.get(asked.symbol)
    if i is None:
        return dumped({"candles": [], "symbol": asked.symbol, "empty": True})
    symbol = market.symbols[i]
    first, last = _span(asked, market, now)
    today = market.times.locate(now)[0]
    if asked.by_day:
        first = max(first, today - DAY_YEARS * 365)
        candles = _days(market, symbol, first, last, now)
        if asked.frequency_type != "daily":
            candles = _longer(candles, asked.frequency_type)
    else:
        first = max(first, today - MINUTE_DAYS)
        candles = market.minutes(symbol, midnight(first), midnight(last + 1), now)
        if not asked.extended:
            candles = _regular_only(candles, market)
        length = MINUTE_MS * asked.frequency
        candles = candles.grouped(candles.at // length)
        candles = candles.stamped(candles.at // length * length)
    text = _written(candles, asked.symbol)
    if asked.previous_close:
        text += _previous_close(market, symbol, first, now)
    return (text + "}").encode()


def _written(candles: Candles, symbol: str) -> str:
    columns = (candles.at, candles.open, candles.high, candles.low, candles.close, candles.volume)
    rows = ",".join(
        f'{{"open":{o},"high":{h},"low":{lo},"close":{c},"volume":{v},"datetime":{t}}}'
        for t, o, h, lo, c, v in zip(*(column.tolist() for column in columns), strict=True)
    )
    empty = "false" if rows else "true"
    return f'{{"candles":[{rows}],"symbol":{json.dumps(symbol)},"empty":{empty}'


def _span(asked: History, market: Market, now: int) -> tuple[int, int]:
    """Return the first and the last New York day that were asked for."""
    times = market.times
    late = CENTRAL_MS if asked.by_day else 0
    if asked.end is None:  # the last session that is over, not the one that is on
        last = times.session_before(times.locate(now)[0])
    else:
        last = times.locate(asked.end - late)[0]
    if asked.start is not None:
        return times.locate(asked.start - late)[0], last
    when = date.fromordinal(last + 1)
    match asked.period_type:
        case "day":
            first = last + 1
            for _ in range(asked.period):
                first = times.session_before(first)
            return first, last
        case "ytd":
            began = when.replace(month=1, day=1)
        case kind:
            began = _months_before(when, asked.period * (12 if kind == "year" else 1))
    return began.toordinal() - 1, last


def _days(market: Market, symbol: str, first: int, last: int, now: int) -> Candles:
    dates = date.fromordinal(first + 1), date.fromordinal(max(last, first - 1) + 1)
    candles = market.days(symbol, *dates, now)
    return candles.stamped(candles.at + CENTRAL_MS)


def _longer(candles: Candles, frequency: str) -> Candles:
    """Return weeks or months, stamped at the first date of each, session or not."""
    if not len(candles):
        return candles
    dates = [datetime.fromtimestamp(at / 1000, NEW_YORK).date() for at in candles.at.tolist()]
    if frequency == "weekly":
        began = [day - timedelta(days=day.weekday()) for day in dates]
    else:
        began = [day.replace(day=1) for day in dates]
    stamps = [midnight(day.toordinal() - 1) + CENTRAL_MS for day in sorted(set(began))]
    grouped = candles.grouped(np.array([day.toordinal() for day in began]))
    return grouped.stamped(np.array(stamps, dtype=np.int64))


def _regular_only(candles: Candles, market: Market) -> Candles:
    places = [market.times.locate(at) for at in candles.at.tolist()]
    hours = {day: market.times.regular(day) for day, _ in set(places)}
    within = [hours[d][0] * STEPS <= point < hours[d][1] * STEPS for d, point in places]
    return candles.taken(np.array(within, dtype=np.bool_))


def _previous_close(market: Market, symbol: str, first: int, now: int) -> str:
    earlier = market.times.session_before(first)
    day = _days(market, symbol, earlier, earlier, now)
    if not len(day):
        return ""
    return f',"previousClose":{float(day.close[0])},"previousCloseDate":{int(day.at[0])}'


def _months_before(day: date, months: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    after = date(year + (month == 11), (month + 1) % 12 + 1, 1)
    return min(date(year, month + 1, 1) + timedelta(days=day.day - 1), after - timedelta(days=1))
