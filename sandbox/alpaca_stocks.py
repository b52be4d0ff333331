"""Alpaca's stock data: snapshots, what is newest of each kind, and pages of bars over many symbols.

The `iex` feed is one exchange's part of the same market: its volume is 3 % of all, and a minute in which
that leaves no share has no bar.  Historical trades and quotes are not served.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
from starlette.requests import Request

from sandbox.alpaca_wire import (
    DELAY_MS,
    MINUTE_MS,
    Refused,
    choice,
    dumped,
    good,
    instant,
    listed,
    moment,
    page,
    token_of,
    whole,
)
from sandbox.candles import Candles
from sandbox.clock import Clock
from sandbox.days import NEW_YORK, midnight
from sandbox.market import Market, Quotes

MOST_BARS = 10_000
FIRST_YEAR = 2016
PARTS = {"bars": "minuteBar", "quotes": "latestQuote", "trades": "latestTrade"}

_LATEST_FEEDS = ("sip", "iex", "delayed_sip", "boats", "overnight", "otc")
_FEEDS = ("sip", "iex", "boats", "otc")
_ADJUSTMENTS = {"raw", "split", "dividend", "spin-off", "all"}
_PLACES = "QPKZVND"  # exchange codes of the consolidated tape; V is IEX
_LENGTH = re.compile(r"(\d{1,2})(Min|T|Hour|H|Day|D|Week|W|Month|M)")
_NO_RECENT = "subscription does not permit querying recent SIP data"


@dataclass(frozen=True, slots=True)
class Length:
    """How long a bar is: a number of minutes, hours, days, weeks or months."""

    count: int
    unit: str  # T | H | D | W | M

    @classmethod
    def read(cls, text: str) -> "Length":
        """Return the length, or refuse it."""
        found = _LENGTH.fullmatch(text)
        if found is None:
            raise Refused(400, "invalid timeframe")
        count, unit = int(found[1]), {"Min": "T", "Month": "M"}.get(found[2], found[2][0])
        counts = {"T": range(1, 60), "H": range(1, 24), "M": (1, 2, 3, 4, 6, 12)}
        if count not in counts.get(unit, (1,)):
            raise Refused(400, "invalid timeframe")
        return cls(count, unit)

    @property
    def daily(self) -> bool:
        """Say whether it is made of days, and stamped at midnight in New York."""
        return self.unit in "DWM"


class Stocks:
    """The stock data of one market."""

    def __init__(self, market: Market, clock: Clock) -> None:
        self._market, self._clock = market, clock
        self._known = {r.symbol: i for i, r in enumerate(market.listings) if r.kind != "index"}
        self._minutes = _Kept(market, self._last_minute)
        self._before = _Kept(market, self._day_before)

    # --- what is newest

    def snapshots(self, request: Request, *, paid: bool) -> bytes:
        """Return every known symbol's snapshot; the unknown ones are left out."""
        return dumped(self._latest(listed(request), *self._feed(request, paid=paid)))

    def snapshot(self, request: Request, *, paid: bool) -> bytes:
        """Return one symbol's snapshot."""
        symbol = good(request.path_params["symbol"])
        found = self._latest([symbol], *self._feed(request, paid=paid))
        if symbol not in found:
            raise Refused(404, f"no snapshot found for {symbol}", 40410000)
        return dumped({"symbol": symbol, **found[symbol]})

    def latest(self, request: Request, *, paid: bool) -> bytes:
        """Return the newest bar, quote or trade of each symbol."""
        kind = _kind(request)
        found = self._latest(listed(request), *self._feed(request, paid=paid))
        parts = {s: f[PARTS[kind]] for s, f in found.items() if PARTS[kind] in f}
        return dumped({kind: parts})

    def latest_of(self, request: Request, *, paid: bool) -> bytes:
        """Return the newest bar, quote or trade of one symbol."""
        kind, symbol = _kind(request), good(request.path_params["symbol"])
        found = self._latest([symbol], *self._feed(request, paid=paid)).get(symbol, {})
        if PARTS[kind] not in found:
            raise Refused(404, f"no {kind[:-1]} found for {symbol}", 40410000)
        return dumped({"symbol": symbol, kind[:-1]: found[PARTS[kind]]})

    def _feed(self, request: Request, *, paid: bool) -> tuple[str, int]:
        """Return the feed of the newest data, and the time it shows."""
        feed = choice(request, "feed", _LATEST_FEEDS, "sip" if paid else "iex")
        if feed == "sip" and not paid:
            raise Refused(403, _NO_RECENT)
        if feed in ("boats", "overnight", "otc"):
            raise Refused(403, f"subscription does not permit querying {feed} data")
        now = self._clock.ms()
        return feed, now - DELAY_MS if feed == "delayed_sip" else now

    def _latest(self, symbols: Sequence[str], feed: str, at: int) -> dict[str, dict[str, Any]]:
        quotes = self._market.quotes(at)
        return {s: self._written(s, quotes, feed, at) for s in symbols if s in self._known}

    def _written(self, symbol: str, quotes: Quotes, feed: str, at: int) -> dict[str, Any]:
        i, shown, iex = self._known[symbol], quotes.at, feed == "iex"
        place = "V" if iex else _PLACES[(shown // 5000 + i) % len(_PLACES)]
        tape = {"N": "A", "P": "B"}.get(self._market.listings[i].exchange, "C")
        last, volume = float(quotes.last[i]), int(quotes.volume[i])
        written: dict[str, Any] = {
            "latestTrade": {
                "t": instant(shown, symbol, "trade"),
                "x": place,
                "p": last,
                "s": int(quotes.last_size[i]),
                "c": ["@"],
                "i": shown // 5000 * 1000 + i,
                "z": tape,
            },
            "latestQuote": {
                "t": instant(shown, symbol, "quote"),
                "ax": place,
                "ap": float(quotes.ask[i]),
                "as": int(quotes.ask_size[i]) * 100,
                "bx": place,
                "bp": float(quotes.bid[i]),
                "bs": int(quotes.bid_size[i]) * 100,
                "c": ["R"],
                "z": tape,
            },
        }
        minute = _rows(self._minutes.of(symbol, self._minute_before(at)), iex=iex, daily=False)
        if minute:  # a quiet symbol has none on one exchange
            written["minuteBar"] = minute[0]
        day = _row(
            midnight(quotes.moment.day),
            float(quotes.open[i]),
            float(quotes.high[i]),
            float(quotes.low[i]),
            last,
            volume * 3 // 100 if iex else volume,
        )
        earlier = self._market.times.session_before(quotes.moment.day)
        before = _rows(self._before.of(symbol, earlier), iex=iex, daily=True)
        return written | {"dailyBar": day, "prevDailyBar": before[0] if before else None}

    def _minute_before(self, at: int) -> int:
        """Return the last whole minute that traded, in ms."""
        shown = self._market.quotes(at)
        if shown.moment.frozen:
            return shown.at // MINUTE_MS * MINUTE_MS
        return (at // MINUTE_MS - 1) * MINUTE_MS

    def _last_minute(self, symbol: str, at: int) -> Candles:
        return self._market.minutes(symbol, at, at + MINUTE_MS, self._clock.ms())

    def _day_before(self, symbol: str, day: int) -> Candles:
        when = date.fromordinal(day + 1)
        return self._market.days(symbol, when, when, self._clock.ms())

    # --- bars

    def bars(self, request: Request, *, paid: bool) -> bytes:
        """Return one page of many symbols' bars, by symbol and then time."""
        pages, after = self._page(request, listed(request), paid=paid)
        body = ",".join(f'"{symbol}":[{",".join(rows)}]' for symbol, rows in pages)
        return f'{{"bars":{{{body}}},"next_page_token":{_quoted(after)}}}'.encode()

    def bars_of(self, request: Request, *, paid: bool) -> bytes:
        """Return one page of one symbol's bars; null where there are none."""
        symbol = good(request.path_params["symbol"])
        pages, after = self._page(request, [symbol], paid=paid)
        rows = f"[{','.join(pages[0][1])}]" if pages else "null"
        return f'{{"bars":{rows},"symbol":"{symbol}","next_page_token":{_quoted(after)}}}'.encode()

    def _page(
        self, request: Request, symbols: Sequence[str], *, paid: bool
    ) -> tuple[list[tuple[str, list[str]]], str | None]:
        length = Length.read(request.query_params.get("timeframe", ""))
        limit = whole(request, "limit", 1000, MOST_BARS)
        newest_first = choice(request, "sort", ("asc", "desc"), "asc") == "desc"
        feed, start, end, seen = self._span(request, paid=paid)
        until = 0
        known = sorted(symbol for symbol in symbols if symbol in self._known)
        token = page(request, lambda parts: (parts[0], parts[1], _ms(parts[2])))
        if token:
            known = [symbol for symbol in known if symbol >= token[0]]
        pages: list[tuple[str, list[str]]] = []
        for symbol in known:
            first, last = start, end
            if token and symbol == token[0]:  # it names the last bar of the page before
                if newest_first:
                    last = _ms(token[2]) - 1
                else:
                    first = _ms(token[2]) + 1
            candles = self._candles(symbol, length, first, last, seen)
            if feed == "iex":
                candles = _thinned(candles, daily=length.daily)
            if newest_first:
                candles = candles.taken(slice(None, None, -1))
            if not len(candles):
                continue
            if limit == 0:
                break
            taken = candles.taken(slice(0, limit))
            pages.append((symbol, _texts(taken)))
            limit, until = limit - len(taken), int(taken.at[-1])
            if len(taken) < len(candles):
                break
        else:
            return pages, None
        unit = length.unit.replace("T", "M")
        return pages, token_of(pages[-1][0], unit, f"{instant(until)[:-1]}.000000000Z")

    def _span(self, request: Request, *, paid: bool) -> tuple[str, int, int, int]:
        """Return the feed, the first and the last stamp asked for, and up to when it may be seen."""
        feed = choice(request, "feed", _FEEDS, "sip")
        if feed in ("boats", "otc"):
            raise Refused(403, f"subscription does not permit querying {feed} data")
        adjustments = request.query_params.get("adjustment", "raw").split(",")
        if not _ADJUSTMENTS.issuperset(adjustments):
            raise Refused(400, f"invalid adjustment: {','.join(adjustments)}")
        now = self._clock.ms()
        newest = now - DELAY_MS if feed == "sip" and not paid else now
        start, end = moment(request, "start"), moment(request, "end")
        if end is not None and end > newest and newest < now:
            raise Refused(403, _NO_RECENT)
        if start is not None and end is not None and start > end:
            raise Refused(400, "end should not be before start")
        end = newest if end is None else min(end, now)
        if start is None:
            start = midnight(self._market.times.locate(end)[0])
        oldest = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC).timestamp() * 1000
        return feed, max(start, int(oldest)), end, newest

    def _candles(self, symbol: str, length: Length, first: int, last: int, seen: int) -> Candles:
        """Return the bars stamped in [first, last] ms; today's is of the day until `seen`."""
        now = self._clock.ms()
        if not length.daily:
            span = length.count * (MINUTE_MS if length.unit == "T" else 60 * MINUTE_MS)
            # Whole bars, so that the first and the last are as long as the others.
            candles = self._market.minutes(symbol, first - span, last + span, now)
            candles = candles.taken(
                candles.at + MINUTE_MS <= now
            )  # a minute is told when it is over
            stamps = _floored(candles.at, span, hours=length.unit == "H")
        else:
            days = _dates(first, last)
            if length.unit == "M":
                days = days[0].replace(day=1, month=1), days[1] + timedelta(days=366)
            elif length.unit == "W":
                days = days[0] - timedelta(days=7), days[1] + timedelta(days=7)
            candles = self._market.days(symbol, *days, seen)
            stamps = _began(candles.at, length)
        grouped = candles.grouped(stamps) if len(candles) else candles
        grouped = grouped.stamped(np.unique(stamps)) if len(candles) else grouped
        return grouped.taken((grouped.at >= first) & (grouped.at <= last))


class _Kept:
    """One bar of each symbol, kept until another time is asked for."""

    def __init__(self, market: Market, make: Callable[[str, int], Candles]) -> None:
        self._market, self._make = market, make
        self._for: tuple[object, ...] = ()
        self._found: dict[str, Candles] = {}

    def of(self, symbol: str, at: int) -> Candles:
        asked = (at, self._market.times.hours, self._market.version)
        if asked != self._for:
            self._for, self._found = asked, {}
        if symbol not in self._found:
            self._found[symbol] = self._make(symbol, at)
        return self._found[symbol]


def _kind(request: Request) -> str:
    kind: str = request.path_params["kind"]
    if kind not in PARTS:
        raise Refused(404)
    return kind


def _thinned(candles: Candles, *, daily: bool) -> Candles:
    """Return one exchange's part: 3 % of the shares, and no bar where that is none."""
    volume = candles.volume * 3 // 100
    part = Candles(
        candles.at, candles.open, candles.high, candles.low, candles.close, np.maximum(volume, 1)
    )
    return part if daily else part.taken(volume > 0)


def _rows(candles: Candles, *, iex: bool, daily: bool) -> list[dict[str, Any]]:
    candles = _thinned(candles, daily=daily) if iex else candles
    return [_row(*row) for row in _columns(candles)]


def _texts(candles: Candles) -> list[str]:
    return [
        f'{{"c":{c},"h":{h},"l":{lo},"n":{_trades(v)},"o":{o},"t":"{instant(t)}","v":{v},'
        f'"vw":{_average(h, lo, c)}}}'
        for t, o, h, lo, c, v in _columns(candles)
    ]


def _columns(candles: Candles) -> "zip[tuple[Any, ...]]":
    columns = (candles.at, candles.open, candles.high, candles.low, candles.close, candles.volume)
    return zip(*(column.tolist() for column in columns), strict=True)


def _row(at: int, o: float, h: float, lo: float, c: float, v: int) -> dict[str, Any]:
    row = {"t": instant(at), "o": o, "h": h, "l": lo, "c": c, "v": v}
    return row | {"n": _trades(v), "vw": _average(h, lo, c)}


def _trades(volume: int) -> int:
    return 1 + volume // 75


def _average(high: float, low: float, close: float) -> float:
    return round((high + low + close) / 3, 6)


def _floored(at: "np.ndarray[Any, np.dtype[np.int64]]", span: int, *, hours: bool) -> Any:
    """Return the start of each minute's bar: of the hour, or of New York's day where it is of hours."""
    if not hours or not len(at):
        return at // span * span
    days = np.array([midnight(d) for d in (day - 1 for day in _ordinals(at))], dtype=np.int64)
    return days + (at - days) // span * span


def _ordinals(at: "np.ndarray[Any, np.dtype[np.int64]]") -> list[int]:
    return [datetime.fromtimestamp(t / 1000, NEW_YORK).toordinal() for t in at.tolist()]


def _began(at: "np.ndarray[Any, np.dtype[np.int64]]", length: Length) -> Any:
    """Return the midnight at which each day's bar begins: its own, its Monday's, its months' first."""
    if length.unit == "D":
        return at
    began = []
    for ordinal in _ordinals(at):
        when = date.fromordinal(ordinal)
        if length.unit == "W":
            when -= timedelta(days=when.weekday())
        else:
            when = when.replace(day=1, month=(when.month - 1) // length.count * length.count + 1)
        began.append(midnight(when.toordinal() - 1))
    return np.array(began, dtype=np.int64)


def _dates(first: int, last: int) -> tuple[date, date]:
    days = [datetime.fromtimestamp(at / 1000, NEW_YORK).date() for at in (first, last)]
    return days[0], days[1]


def _ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def _quoted(token: str | None) -> str:
    return "null" if token is None else f'"{token}"'
