"""Polygon's aggregates: one symbol's of a range, all symbols' of one day, and the previous day's.

A range is asked for with dates or ms, both ends inclusive; `limit` counts what bars are made of (minutes,
or days), and what is left is on the next page, whose address has a later start.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
from starlette.requests import Request

from sandbox.candles import Candles
from sandbox.days import NEW_YORK, midnight, stamp
from sandbox.listing import key
from sandbox.market import Market
from sandbox.paths import STEPS, Ints
from sandbox.polygon_wire import (
    BEFORE_THE_END,
    TIMEFRAME,
    Plan,
    Refused,
    dumped,
    next_url,
    query_of,
    request_id,
    whole,
)

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
DELAY_MS = 15 * MINUTE_MS
YEARS = {Plan.FREE: 2, Plan.STARTER: 5, Plan.FULL: 23}
MOST, USUAL = 50_000, 5_000
LAST_DAY = date(2099, 12, 31)  # later ones are taken for it
FIRST_DAY = date(2003, 9, 10).toordinal() - 1  # the vendor's own first one

_INTRADAY = {"minute": MINUTE_MS, "hour": HOUR_MS}
_LONGER: dict[str, Callable[[date], date]] = {  # when a longer span that a date is in begins
    "day": lambda day: day,
    "week": lambda day: day - timedelta(days=(day.weekday() + 1) % 7),  # on a Sunday
    "month": lambda day: day.replace(day=1),
    "quarter": lambda day: day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1),
    "year": lambda day: day.replace(month=1, day=1),
}


@dataclass(frozen=True, slots=True)
class _Range:
    """A question for bars, checked; both ends are ms, and inclusive."""

    ticker: str
    multiplier: int
    span: str
    first: int
    last: int
    descending: bool
    limit: int
    adjusted: bool


def told(ticker: str, candles: Candles, **more: str) -> list[dict[str, Any]]:
    """Return bars as rows; a volume is a float, and the weighted price and the trades are made up."""
    each = 70 + key(ticker, "trades") % 90
    columns = (candles.at, candles.open, candles.high, candles.low, candles.close, candles.volume)
    return [
        more
        | {
            "v": float(v),
            "vw": round((o + h + lo + c) / 4, 4),
            "o": o,
            "c": c,
            "h": h,
            "l": lo,
            "t": t,
            "n": 1 + v // each,
        }
        for t, o, h, lo, c, v in zip(*(column.tolist() for column in columns), strict=True)
    ]


def ranged(request: Request, market: Market, plan: Plan, now: int) -> bytes:
    """Return one symbol's bars of a range."""
    asked = _read(request, market, plan, now)
    answer: dict[str, Any] = {"ticker": asked.ticker, "queryCount": 0, "resultsCount": 0}
    known = market.index.get(asked.ticker)
    rows: list[dict[str, Any]] = []
    if known is not None and market.listings[known].kind != "index":
        base, groups = _candles(market, asked, seen_by(plan, now))
        base, groups, cut = _cut(base, groups, asked)
        answer["queryCount"] = len(base)
        longer = base.grouped(groups).stamped(_stamps(base, groups))
        rows = told(asked.ticker, longer)[:: -1 if asked.descending else 1]
        if cut is not None:
            answer["next_url"] = _next(request, asked, cut)
    answer["resultsCount"] = len(rows)
    answer |= {"adjusted": asked.adjusted}
    if rows:  # without any, the key is not there
        answer["results"] = rows
    answer |= {"status": status_of(plan), "request_id": request_id(), "count": len(rows)}
    return dumped(answer)


def grouped(request: Request, market: Market, plan: Plan, now: int) -> bytes:
    """Return the daily bars of all symbols of one day, stamped at its close."""
    text = request.path_params["date"]
    try:
        day = date.fromisoformat(text).toordinal() - 1
    except ValueError:
        raise Refused(400, "The path parameter `date` is invalid") from None
    today = market.times.locate(now)[0]
    if plan is Plan.FREE and day == today:
        raise Refused(403, BEFORE_THE_END)
    if not _oldest(plan, today) <= day <= today:
        raise Refused(403, TIMEFRAME)
    rows = []
    if market.times.window(day):
        when, at = date.fromordinal(day + 1), _close(market, day)
        seen = seen_by(plan, now)
        for listing in market.listings:
            if listing.kind == "index":
                continue
            candles = market.days(listing.symbol, when, when, seen)
            stamps = np.full(len(candles), at)
            rows += told(listing.symbol, candles.stamped(stamps), T=listing.symbol)
    adjusted = request.query_params.get("adjusted", "true") != "false"
    answer = {"queryCount": len(rows), "resultsCount": len(rows), "adjusted": adjusted}
    if rows:
        answer["results"] = rows  # type: ignore[assignment]
    told_as = {"status": status_of(plan), "request_id": request_id(), "count": len(rows)}
    return dumped(answer | told_as)


def previous(request: Request, market: Market, plan: Plan, now: int) -> bytes:
    """Return the bar of the last day that is over, stamped at its close."""
    ticker = request.path_params["ticker"]
    i = market.index.get(ticker)
    rows = []
    if i is not None and market.listings[i].kind != "index":
        day = market.times.session_before(market.times.locate(now)[0])
        when = date.fromordinal(day + 1)
        candles = market.days(ticker, when, when, now)
        stamps = np.full(len(candles), _close(market, day))
        rows = told(ticker, candles.stamped(stamps), T=ticker)
    answer: dict[str, Any] = {"ticker": ticker, "queryCount": len(rows), "resultsCount": len(rows)}
    answer["adjusted"] = True
    if rows:
        answer["results"] = rows
    return dumped(
        answer | {"status": status_of(plan), "request_id": request_id(), "count": len(rows)}
    )


def seen_by(plan: Plan, now: int) -> int:
    """Return the ms up to which a plan sees the market."""
    return now - DELAY_MS if plan is Plan.STARTER else now


def status_of(plan: Plan) -> str:
    """Return the status of a good answer."""
    return "DELAYED" if plan is Plan.STARTER else "OK"


def _oldest(plan: Plan, today: int) -> int:
    return max(FIRST_DAY, today - YEARS[plan] * 365)


def _close(market: Market, day: int) -> int:
    return stamp(day, market.times.regular(day)[1] * STEPS)


def _read(request: Request, market: Market, plan: Plan, now: int) -> _Range:
    """Return the question, cut to what the plan covers, or refuse it as Polygon does."""
    path, query = request.path_params, query_of(request)
    multiplier, span = whole(path, "multiplier", 1, 10_000), path["timespan"]
    if span not in {*_INTRADAY, *_LONGER}:
        raise Refused(400, f"Invalid timespan: {span[:20]}")
    sort = query.get("sort", "asc")
    if sort not in {"asc", "desc"}:
        raise Refused(400, "The parameter 'sort' must be one of: asc, desc")
    first, last = _moment(path["from"], "from"), _moment(path["to"], "to", end=True)
    if last < first:
        raise Refused(400, "The parameter 'to' cannot be a time that occurs before 'from'")
    today = market.times.locate(now)[0]
    oldest = midnight(_oldest(plan, today))
    newest = midnight(today) - 1 if plan is Plan.FREE else seen_by(plan, now)
    # What lies partly within the plan's time is cut to it, and what lies outside is refused.
    if last < oldest or first > newest:
        raise Refused(403, TIMEFRAME)
    return _Range(
        ticker=path["ticker"],
        multiplier=multiplier,
        span=span,
        first=max(first, oldest),
        last=min(last, newest),
        descending=sort == "desc",
        limit=whole(query, "limit", USUAL, MOST),
        adjusted=query.get("adjusted", "true") != "false",
    )


def _moment(text: str, name: str, *, end: bool = False) -> int:
    if text.isascii() and text.isdigit() and len(text) > 8:
        return min(int(text), midnight(LAST_DAY.toordinal()))
    try:
        day = min(date.fromisoformat(text), LAST_DAY).toordinal() - 1
    except ValueError:
        why = f"Could not parse the time parameter: '{name}'."
        raise Refused(400, f"{why} Use YYYY-MM-DD or Unix MS Timestamps") from None
    return midnight(day + 1) - 1 if end else midnight(day)


def _candles(market: Market, asked: _Range, now: int) -> tuple[Candles, Ints]:
    """Return what the bars are made of, and which bar each belongs to."""
    if asked.span in _INTRADAY:
        length = _INTRADAY[asked.span] * asked.multiplier
        base = market.minutes(asked.ticker, asked.first, asked.last + 1, now)
        return base, base.at // length * length
    days = (market.times.locate(at)[0] + 1 for at in (asked.first, asked.last))
    first, last = (date.fromordinal(day) for day in days)
    base = market.days(asked.ticker, first, last, now)
    base = base.taken((base.at >= asked.first) & (base.at <= asked.last))
    begins, n = _LONGER[asked.span], asked.multiplier
    numbers = [_number(begins(_date(at)), asked.span) // n for at in base.at.tolist()]
    return base, np.array(numbers, dtype=np.int64)


def _number(begin: date, span: str) -> int:
    """Return the number of a span among all of its kind."""
    match span:
        case "day":
            return begin.toordinal()
        case "week":
            return begin.toordinal() // 7
        case "year":
            return begin.year
        case _:
            return (begin.year * 12 + begin.month - 1) // (3 if span == "quarter" else 1)


def _stamps(base: Candles, groups: Ints) -> Ints:
    """Return the time of each bar: its minute, or midnight in New York of its first day."""
    if not len(base):
        return base.at
    starts = np.flatnonzero(np.diff(groups, prepend=groups[0] - 1))
    intraday = groups[starts] > 10**9  # numbers of days and of longer spans are small
    return np.where(intraday, groups[starts], base.at[starts])


def _cut(base: Candles, groups: Ints, asked: _Range) -> tuple[Candles, Ints, int | None]:
    """Return no more than the limit, in whole bars, and the first (or last) ms of what is left."""
    if len(base) <= asked.limit:
        return base, groups, None
    if asked.descending:
        begin = len(base) - asked.limit
        begin = int(np.searchsorted(groups, groups[begin - 1], side="right"))
        if begin == len(base):
            begin = int(np.searchsorted(groups, groups[-1]))
        return base.taken(slice(begin, None)), groups[begin:], int(base.at[begin]) - 1
    end = int(np.searchsorted(groups, groups[asked.limit]))
    end = end or int(np.searchsorted(groups, groups[0], side="right"))
    if end >= len(base):
        return base, groups, None
    return base.taken(slice(0, end)), groups[:end], int(base.at[end])


def _next(request: Request, asked: _Range, cut: int) -> str:
    """Return the address of the next page: a later start (or earlier end), and the rest in a cursor."""
    path = request.path_params
    ends = (path["from"], cut) if asked.descending else (cut, path["to"])
    sort = "desc" if asked.descending else "asc"
    query = {"limit": str(asked.limit), "sort": sort}
    if not asked.adjusted:
        query["adjusted"] = "false"
    where = f"/v2/aggs/ticker/{asked.ticker}/range/{asked.multiplier}/{asked.span}"
    return next_url(request, f"{where}/{ends[0]}/{ends[1]}", query)


def _date(at: int) -> date:
    return datetime.fromtimestamp(at / 1000, NEW_YORK).date()
