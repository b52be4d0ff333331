"""Polygon's snapshots: shares, movers, the chain of one underlying, and batches of all kinds.

Where the market keeps hours, a snapshot is cleared at 03:30 in New York: from then until something trades
it holds zeros, and neither a trade nor a quote.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from typing import Any

import numpy as np
from starlette.requests import Request

from sandbox.candles import Candles
from sandbox.days import NEW_YORK, midnight
from sandbox.listing import key
from sandbox.market import Market, Quotes
from sandbox.options import INDEX, Book, Options
from sandbox.paths import STEPS
from sandbox.polygon_bars import seen_by, status_of
from sandbox.polygon_wire import (
    NOT_ENTITLED,
    Asked,
    Plan,
    Refused,
    dumped,
    listed,
    request_id,
    split,
)

CLEARED = 210 * STEPS  # 03:30
NS = 1_000_000
MOST_ROWS, MOVERS = 250, 20
ZEROS = {"o": 0, "h": 0, "l": 0, "c": 0, "v": 0, "vw": 0}

Row = dict[str, Any]


class Snapshots:
    """The market as it is now, in Polygon's words."""

    def __init__(self, market: Market, options: Options) -> None:
        self._market, self._options = market, options
        self._shares = [i for i, row in enumerate(market.listings) if row.kind != "index"]
        self._roots = {s.replace(".", ""): s for s in market.symbols if not s.startswith("$")}
        self._roots |= {"SPX": INDEX, "SPXW": INDEX}
        self._before: tuple[tuple[object, ...], list[Row]] | None = None

    def many(self, request: Request, plan: Plan, now: int) -> bytes:
        """Return the snapshots of the tickers asked for, or of all."""
        write = self._writer(plan, now)
        text = request.query_params.get("tickers", "")
        asked = (self._market.index.get(t) for t in split(text)) if text else self._shares
        rows = [write(i) for i in asked if i is not None and self._is_share(i)]
        answer = {"count": len(rows), "status": status_of(plan), "tickers": rows}
        return dumped(answer)

    def one(self, request: Request, plan: Plan, now: int) -> bytes:
        """Return the snapshot of one ticker."""
        write, i = self._writer(plan, now), self._market.index.get(request.path_params["ticker"])
        if i is None or not self._is_share(i):
            raise Refused(404, "Ticker not found.")
        return dumped({"request_id": request_id(), "status": status_of(plan), "ticker": write(i)})

    def movers(self, request: Request, plan: Plan, now: int) -> bytes:
        """Return the 20 that rose, or fell, most; none after the clearing."""
        direction = request.path_params["direction"]
        if direction not in {"gainers", "losers"}:
            raise Refused(400, "The parameter 'direction' must be one of: gainers, losers")
        write, quotes = self._writer(plan, now), self._market.quotes(seen_by(plan, now))
        change = (quotes.last / quotes.previous_close)[self._shares]
        order = np.argsort(-change if direction == "gainers" else change, kind="stable")[:MOVERS]
        cleared = self._is_cleared(seen_by(plan, now))
        rows = [] if cleared else [write(self._shares[n]) for n in order.tolist()]
        return dumped({"status": status_of(plan), "tickers": rows})

    def chain(self, request: Request, plan: Plan, now: int) -> bytes:
        """Return one page of the contracts on an underlying."""
        asked = Asked(request, 10, MOST_ROWS)
        book = self._book(request.path_params["underlying"], plan, now)
        if book is None:
            return listed([], {}, status=status_of(plan))
        rows = chosen(asked, book)
        page, more = asked.page(rows)
        return listed(self._contracts(book, page, plan), more, status=status_of(plan))

    def contract(self, request: Request, plan: Plan, now: int) -> bytes:
        """Return one contract."""
        book = self._book(request.path_params["underlying"], plan, now)
        row = _row_of(book, request.path_params["contract"]) if book else None
        if book is None or row is None:
            raise Refused(404, "Options contract not found.")
        [told] = self._contracts(book, [row], plan)
        return dumped({"request_id": request_id(), "results": told, "status": status_of(plan)})

    def typed(self, request: Request, plan: Plan, now: int) -> bytes:
        """Return a batch of shares and contracts, each with its type or with why it is not there."""
        asked = Asked(request, 10, MOST_ROWS)
        self._entitled(plan)
        if text := asked.get("ticker.any_of"):
            tickers = split(text)
            if len(tickers) > MOST_ROWS:
                raise Refused(400, f"The parameter 'ticker.any_of' takes at most {MOST_ROWS}")
        else:
            names = (self._market.symbols[i] for i in self._shares)
            tickers = sorted(name for name in names if asked.wants("ticker", name))
            if one := asked.get("ticker"):
                tickers = tickers or [one]
        if asked.order == "desc":
            tickers.sort(reverse=True)
        page, more = asked.page(tickers)
        kind = asked.get("type")
        rows = (self._typed(ticker, plan, now) for ticker in page)
        return listed((r for r in rows if not kind or r.get("type", kind) == kind), more)

    def book_of(self, underlying: str, now: int) -> Book | None:
        """Return the options on an underlying (I:SPX is the index), None where there are none."""
        symbol = {"SPX": INDEX, "I:SPX": INDEX}.get(underlying, underlying)
        return self._options.book(symbol, now) if symbol in self._market.index else None

    def symbol_of(self, contract: str) -> str | None:
        """Return the underlying of a contract's ticker, None where it is none."""
        root = contract.removeprefix("O:")[:-15]
        symbol = self._roots.get(root)
        return "I:SPX" if symbol == INDEX else symbol

    def _entitled(self, plan: Plan) -> None:
        if plan is Plan.FREE:
            raise Refused(403, NOT_ENTITLED)

    def _book(self, underlying: str, plan: Plan, now: int) -> Book | None:
        self._entitled(plan)
        return self.book_of(underlying, seen_by(plan, now))

    def _is_share(self, i: int) -> bool:
        return self._market.listings[i].kind != "index"

    def _is_cleared(self, now: int) -> bool:
        """Say whether the snapshots have been cleared and nothing has traded since."""
        day, point = self._market.times.locate(now)
        shown = self._market.times.moment(now).day
        return shown < day - 1 or (shown < day and point >= CLEARED)

    def _days(self, quotes: Quotes, *, cleared: bool) -> list[Row]:
        """Return every symbol's `prevDay`: of the session before the one that is shown, if one is."""
        day, times = quotes.moment.day, self._market.times
        if not cleared:
            day = times.session_before(day)
        asked = (day, times.hours, quotes.previous_close.tobytes(), cleared)
        if self._before is None or self._before[0] != asked:
            when, now = date.fromordinal(day + 1), quotes.at
            rows = [_bar(self._market.days(s, when, when, now)) for s in self._market.symbols]
            self._before = (asked, rows)
        return self._before[1]

    def _writer(self, plan: Plan, now: int) -> Callable[[int], Row]:
        """Return what writes one symbol's snapshot."""
        self._entitled(plan)
        now = seen_by(plan, now)
        quotes, minute = self._market.quotes(now), self._market.minute(now)
        cleared = self._is_cleared(now)
        before = self._days(quotes, cleared=cleared)

        def write(i: int) -> Row:
            symbol = self._market.symbols[i]
            if cleared:
                return {
                    "day": ZEROS,
                    "min": ZEROS | {"av": 0, "t": 0, "n": 0},
                    "prevDay": before[i],
                    "ticker": symbol,
                    "todaysChange": 0,
                    "todaysChangePerc": 0,
                    "updated": 0,
                }
            row = _share(quotes, minute, i, symbol)
            if plan is Plan.STARTER:
                del row["lastQuote"], row["lastTrade"]
            return row | {"prevDay": before[i]}

        return write

    def _typed(self, ticker: str, plan: Plan, now: int) -> Row:
        missing = {"error": "NOT_FOUND", "message": "Ticker not found.", "ticker": ticker}
        if ticker.startswith("O:"):
            underlying = self.symbol_of(ticker)
            book = self._book(underlying, plan, now) if underlying else None
            place = _row_of(book, ticker) if book else None
            if book is None or place is None:
                return missing
            [told] = self._contracts(book, [place], plan)
            details = told["details"] | {"underlying_ticker": underlying}
            del details["ticker"]
            day = told.pop("day")
            volume, change = day.get("volume", 0), day.get("change", 0)
            session = {name: day.get(name, 0) for name in ("close", "high", "low", "open")}
            session |= {"change": change, "change_percent": day.get("change_percent", 0)}
            session |= {"previous_close": day.get("previous_close", 0), "volume": volume}
            right = details["contract_type"].capitalize()
            name = f"{underlying} ${details['strike_price']:g} {right}"
            state = self._state(now)
            more = {"market_status": state, "name": name, "session": session, "ticker": ticker}
            return told | {"details": details} | more | {"type": "options"}
        i = self._market.index.get(ticker)
        if i is None or not self._is_share(i):
            return missing
        quotes = self._market.quotes(seen_by(plan, now))
        last, previous = float(quotes.last[i]), float(quotes.previous_close[i])
        change = round(last - previous, 4)
        row: Row = {
            "last_quote": {
                "ask": float(quotes.ask[i]),
                "ask_exchange": 12,
                "ask_size": int(quotes.ask_size[i]),
                "bid": float(quotes.bid[i]),
                "bid_exchange": 11,
                "bid_size": int(quotes.bid_size[i]),
                "last_updated": quotes.at * NS,
                "timeframe": "REAL-TIME",
            },
            "last_trade": {
                "conditions": [12],
                "exchange": 4,
                "id": str(quotes.at // 5000),
                "last_updated": quotes.at * NS,
                "price": last,
                "size": int(quotes.last_size[i]),
                "timeframe": "REAL-TIME",
            },
            "market_status": self._state(now),
            "name": self._market.listings[i].name,
            "session": {
                "change": change,
                "change_percent": round(change / previous * 100, 4),
                "close": last,
                "high": float(quotes.high[i]),
                "low": float(quotes.low[i]),
                "open": float(quotes.open[i]),
                "previous_close": previous,
                "volume": int(quotes.volume[i]),
            },
            "ticker": ticker,
            "type": "stocks",
        }
        if plan is Plan.STARTER:
            del row["last_quote"], row["last_trade"]
        return row

    def _state(self, now: int) -> str:
        moment = self._market.times.moment(now)
        if moment.frozen:
            return "closed"
        first, last = self._market.times.regular(moment.day)
        early, late = moment.minute < first, moment.minute >= last
        return "early_trading" if early else "late_trading" if late else "open"

    def _contracts(self, book: Book, rows: Sequence[int], plan: Plan) -> Iterable[Row]:
        ticker = "I:SPX" if book.symbol == INDEX else book.symbol
        frame = "DELAYED" if plan is Plan.STARTER else "REAL-TIME"
        for row in rows:
            told = _contract(book, row, ticker, frame)
            if plan is Plan.STARTER:
                del told["last_quote"]
                told.pop("last_trade", None)
            yield told


def chosen(asked: Asked, book: Book) -> list[int]:
    """Return the rows of a book that were asked for, in the order asked for."""
    days = np.array([e.day.toordinal() for e in book.expirations])[book.of]
    wanted = np.ones(len(book), dtype=np.bool_)
    for passes in asked.filters("strike_price", float):
        wanted &= passes(book.strike)
    for passes in asked.filters("expiration_date", lambda t: date.fromisoformat(t).toordinal()):
        wanted &= passes(days)
    if right := asked.get("contract_type"):
        if right not in {"call", "put"}:
            raise Refused(400, "The parameter 'contract_type' must be one of: call, put")
        wanted &= book.call == (right == "call")
    rows = np.flatnonzero(wanted)
    columns = {"ticker": book.contract, "strike_price": book.strike, "expiration_date": days}
    sort = asked.get("sort") or "ticker"
    if sort not in columns:
        raise Refused(400, f"The parameter 'sort' must be one of: {', '.join(columns)}")
    order = np.lexsort((book.contract[rows], columns[sort][rows]))
    return [int(row) for row in rows[order if asked.order != "desc" else order[::-1]]]


def ticker_of(book: Book, row: int) -> str:
    """Return a contract's ticker."""
    return f"O:{str(book.contract[row]).replace(' ', '')}"


def details_of(book: Book, row: int) -> Row:
    """Return what a contract is."""
    return {
        "contract_type": "call" if book.call[row] else "put",
        "exercise_style": "american" if book.american else "european",
        "expiration_date": book.expirations[int(book.of[row])].day.isoformat(),
        "shares_per_contract": 100,
        "strike_price": _number(book.strike[row]),
        "ticker": ticker_of(book, row),
    }


def _row_of(book: Book, ticker: str) -> int | None:
    found = np.flatnonzero(book.contract == f"{ticker[2:-15]:<6}{ticker[-15:]}")
    return int(found[0]) if len(found) else None


def _number(value: float) -> float | int:
    value = float(value)
    return int(value) if value.is_integer() else value


def _share(quotes: Quotes, minute: Candles, i: int, symbol: str) -> Row:
    last, previous = float(quotes.last[i]), float(quotes.previous_close[i])
    opened, high, low = float(quotes.open[i]), float(quotes.high[i]), float(quotes.low[i])
    volume, at = int(quotes.volume[i]), quotes.at * NS
    each = 70 + key(symbol, "trades") % 90
    one = minute.taken(slice(i, i + 1))
    return {
        "day": {
            "c": last,
            "h": high,
            "l": low,
            "o": opened,
            "v": volume,
            "vw": round((opened + high + low + last) / 4, 4),
        },
        "lastQuote": {
            "P": float(quotes.ask[i]),
            "S": int(quotes.ask_size[i]),
            "p": float(quotes.bid[i]),
            "s": int(quotes.bid_size[i]),
            "t": at,
        },
        "lastTrade": {
            "c": None if i % 3 else [14, 41],
            "i": str(quotes.at // 5000 + i),
            "p": last,
            "s": int(quotes.last_size[i]),
            "t": at,
            "x": 4 + i % 9,
        },
        "min": {"av": volume, "t": int(one.at[0]), "n": 1 + int(one.volume[0]) // each} | _bar(one),
        "ticker": symbol,
        "todaysChange": round(last - previous, 4),
        "todaysChangePerc": round((last - previous) / previous * 100, 4),
        "updated": at,
    }


def _bar(one: Candles) -> Row:
    if not len(one):
        return ZEROS
    o, h, lo, c = (float(column[0]) for column in (one.open, one.high, one.low, one.close))
    v = int(one.volume[0])
    return {"c": c, "h": h, "l": lo, "o": o, "v": v, "vw": round((o + h + lo + c) / 4, 4)}


def _contract(book: Book, row: int, ticker: str, frame: str) -> Row:
    bid, ask, strike = float(book.bid[row]), float(book.ask[row]), float(book.strike[row])
    mid, call = round((bid + ask) / 2, 4), bool(book.call[row])
    even = round(strike + mid if call else strike - mid, 4)
    told: Row = {"break_even_price": even, "day": _day(book, row), "details": details_of(book, row)}
    greeks = {name: float(getattr(book, name)[row]) for name in ("delta", "gamma", "theta", "vega")}
    iv = float(book.iv[row])
    # What cannot be computed is an empty object, or not there.
    told["greeks"] = {} if any(math.isnan(value) for value in greeks.values()) else greeks
    if not math.isnan(iv):
        told["implied_volatility"] = iv
    told["last_quote"] = {
        "ask": ask,
        "ask_size": int(book.ask_size[row]),
        "bid": bid,
        "bid_size": int(book.bid_size[row]),
        "last_updated": int(book.quoted_at[row]) * NS,
        "midpoint": mid,
        "timeframe": frame,
    }
    if book.traded_at[row]:
        told["last_trade"] = {
            "conditions": [209],
            "exchange": 302 + row % 15,
            "price": float(book.last[row]),
            "sip_timestamp": int(book.traded_at[row]) * NS,
            "size": int(book.last_size[row]),
            "timeframe": frame,
        }
    told["open_interest"] = int(book.open_interest[row])
    told["underlying_asset"] = {
        "change_to_break_even": round(even - book.spot, 4),
        "last_updated": book.at * NS,
        "price": book.spot,
        "ticker": ticker,
        "timeframe": frame,
    }
    return told


def _day(book: Book, row: int) -> Row:
    """Return a contract's most recent daily bar: today's, or of the day it last traded."""
    if not book.traded_at[row]:
        return {}
    volume, last = int(book.volume[row]), float(book.last[row])
    high, low = float(book.high[row]), float(book.low[row])
    at, previous = int(book.traded_at[row]), float(book.previous_close[row])
    if volume:
        at = book.at
    else:
        high = low = previous = last
        volume = int(book.last_size[row])
    day = datetime.fromtimestamp(at / 1000, NEW_YORK).toordinal() - 1
    opened = min(max(previous, low), high)
    change = round(last - previous, 4)
    return {
        "change": change,
        "change_percent": round(change / previous * 100, 4) if previous else 0,
        "close": last,
        "high": high,
        "last_updated": midnight(day) * NS,
        "low": low,
        "open": opened,
        "previous_close": previous,
        "volume": volume,
        "vwap": round((opened + high + low + last) / 4, 4),
    }
