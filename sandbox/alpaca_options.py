"""Alpaca's options: snapshots of a chain or of some contracts, and the trading host's list of contracts.

Not served: bars and trades of the past.  The free plan's `indicative` feed shows the same book.
"""

import re
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import numpy as np
from starlette.requests import Request

from sandbox.alpaca_wire import (
    Refused,
    choice,
    day,
    dumped,
    good,
    instant,
    moment,
    page,
    token_of,
    whole,
)
from sandbox.clock import Clock
from sandbox.days import midnight
from sandbox.listing import key
from sandbox.market import Market
from sandbox.options import Book, Options

MOST_SNAPSHOTS, MOST_CONTRACTS = 1_000, 10_000
MOST_NAMED = 100  # contracts in one question

_OCC = re.compile(r"([A-Z]{1,6})(\d{6})([CP])(\d{8})")
_GREEKS = ("delta", "gamma", "rho", "theta", "vega")


class OptionData:
    """The options of one market; a contract is a book and a row in it."""

    def __init__(self, market: Market, options: Options, clock: Clock) -> None:
        self._market, self._options, self._clock = market, options, clock
        # Index options are not sold there.
        listed = [row.symbol for row in market.listings if row.kind != "index"]
        self._root = {symbol.replace(".", ""): symbol for symbol in listed}
        self._listed = frozenset(listed)

    # --- the data host

    def chain(self, request: Request, *, paid: bool) -> bytes:
        """Return one page of an underlying's contracts, in the order of their symbols."""
        underlying = good(request.path_params["underlying"])
        _check_feed(request, paid=paid)
        limit = whole(request, "limit", 100, MOST_SNAPSHOTS)
        after = page(request, lambda parts: (parts[0],))
        since = moment(request, "updated_since")
        book = self._book(underlying)
        if book is None:
            return dumped({"snapshots": {}, "next_page_token": None})
        rows = _chosen(book, request, self._market.times.locate(self._clock.ms())[0])
        if since is not None:
            rows &= np.maximum(book.quoted_at, book.traded_at) >= since
        names = {_short(book.contract[n]): n for n in np.flatnonzero(rows).tolist()}
        wanted = sorted(name for name in names if not after or name > after[0])
        shown = wanted[:limit]
        more = token_of(shown[-1]) if len(wanted) > limit else None
        snapshots = {name: self._snapshot(book, names[name]) for name in shown}
        return dumped({"snapshots": snapshots, "next_page_token": more})

    def snapshots(self, request: Request, *, paid: bool) -> bytes:
        """Return the snapshots of some contracts."""
        _check_feed(request, paid=paid)
        found = {name: self._snapshot(book, n) for name, book, n in self._named(request)}
        return dumped({"snapshots": found, "next_page_token": None})

    def latest(self, request: Request, *, paid: bool) -> bytes:
        """Return the newest quote or trade of some contracts."""
        kind = request.path_params["kind"]
        _check_feed(request, paid=paid)
        part = {"quotes": "latestQuote", "trades": "latestTrade"}.get(kind)
        if part is None:
            raise Refused(404)
        found = {name: self._snapshot(book, n) for name, book, n in self._named(request)}
        return dumped({kind: {name: row[part] for name, row in found.items() if part in row}})

    # --- the trading host

    def contracts(self, request: Request) -> bytes:
        """Return one page of contracts; without an end only those up to the next weekend."""
        query = request.query_params
        today = date.fromordinal(self._market.times.locate(self._clock.ms())[0] + 1)
        limit = whole(request, "limit", 100, MOST_CONTRACTS)
        after = page(request, lambda parts: (int(parts[0]),))
        named = [s.strip() for s in query.get("underlying_symbols", "").split(",") if s.strip()]
        if query.get("status", "active") != "active":
            return dumped({"option_contracts": [], "next_page_token": None})
        ends = {"expiration_date", "expiration_date_gte", "expiration_date_lte"} & set(query)
        until = None if ends else today + timedelta(days=6 - today.weekday())
        found: list[tuple[Book, int]] = []
        for symbol in named or ["SPY"]:  # all of them at once would be a million
            if symbol in self._listed and (book := self._book(symbol)):
                rows = _chosen(book, request, today.toordinal() - 1, until)
                found += [(book, n) for n in np.flatnonzero(rows).tolist()]
        first = int(after[0]) if after else 0
        shown = found[first : first + limit]
        more = token_of(first + limit) if len(found) > first + limit else None
        rows_told = [self._contract(book, n) for book, n in shown]
        return dumped({"option_contracts": rows_told, "next_page_token": more})

    def contract(self, request: Request) -> bytes:
        """Return one contract, by its symbol."""
        name = request.path_params["contract"]
        found = self._find(name)
        if found is None:
            raise Refused(404, f"option contract {name} not found", 40410000)
        return dumped(self._contract(*found))

    # --- what both show

    def _book(self, symbol: str) -> Book | None:
        return self._options.book(symbol, self._clock.ms()) if symbol in self._listed else None

    def _named(self, request: Request) -> list[tuple[str, Book, int]]:
        names = [n for n in request.query_params.get("symbols", "").split(",") if n]
        if not names:
            raise Refused(400, "symbols is required")
        if len(names) > MOST_NAMED:
            raise Refused(400, f"too many symbols: at most {MOST_NAMED}")
        found = []
        for name in dict.fromkeys(names):
            if not _OCC.fullmatch(name):
                raise Refused(400, f"invalid symbol: {name}")
            if place := self._find(name):
                found.append((name, *place))
        return found

    def _find(self, name: str) -> tuple[Book, int] | None:
        parts = _OCC.fullmatch(name)
        book = self._book(self._root.get(parts[1], "")) if parts else None
        if book is None or parts is None:
            return None
        places = np.flatnonzero(book.contract == f"{parts[1]:<6}{name[len(parts[1]) :]}")
        return (book, int(places[0])) if len(places) else None

    def _snapshot(self, book: Book, n: int) -> dict[str, Any]:
        """Return one contract; what cannot be computed or never traded is not there at all."""
        name, place = _short(book.contract[n]), "ABCDHIJMNPQUWXZ"[n % 15]
        high, low, last = float(book.high[n]), float(book.low[n]), float(book.last[n])
        volume = int(book.volume[n])
        told: dict[str, Any] = {}
        if volume:
            told["dailyBar"] = {
                "c": last,
                "h": high,
                "l": low,
                "n": 1 + volume // 8,
                "o": min(max(float(book.previous_close[n]), low), high),
                "t": instant(midnight(self._market.times.locate(book.at)[0])),
                "v": volume,
                "vw": round((high + low + last) / 3, 6),
            }
        if not np.isnan(book.delta[n]):
            told["greeks"] = {greek: float(getattr(book, greek)[n]) for greek in _GREEKS}
        if not np.isnan(book.iv[n]):
            told["impliedVolatility"] = float(book.iv[n])
        told["latestQuote"] = {
            "ap": float(book.ask[n]),
            "as": int(book.ask_size[n]),
            "ax": place,
            "bp": float(book.bid[n]),
            "bs": int(book.bid_size[n]),
            "bx": place,
            "c": "A",
            "t": instant(int(book.quoted_at[n]), name, "quote"),
        }
        if book.traded_at[n]:
            told["latestTrade"] = {
                "c": "a",
                "p": last,
                "s": int(book.last_size[n]),
                "t": instant(int(book.traded_at[n]), name, "trade"),
                "x": place,
            }
        return told

    def _contract(self, book: Book, n: int) -> dict[str, Any]:
        expiration = book.expirations[int(book.of[n])]
        name, strike = _short(book.contract[n]), float(book.strike[n])
        kind = "call" if book.call[n] else "put"
        times = self._market.times
        session = date.fromordinal(times.session_before(times.locate(book.at)[0]) + 1).isoformat()
        title = f"{book.symbol} {expiration.day:%b %d %Y} {strike:g} {kind.title()}"
        return {
            "id": uuid_of(name),
            "symbol": name,
            "name": title,
            "status": "active",
            "tradable": True,
            "expiration_date": expiration.day.isoformat(),
            "root_symbol": expiration.root,
            "underlying_symbol": book.symbol,
            "underlying_asset_id": uuid_of(book.symbol),
            "type": kind,
            "style": "american" if book.american else "european",
            "strike_price": _figure(strike),
            "multiplier": "100",
            "size": "100",
            "open_interest": str(int(book.open_interest[n])),
            "open_interest_date": session,
            "close_price": _figure(float(book.previous_close[n])),
            "close_price_date": session,
            "ppind": bool(book.penny),
        }


def uuid_of(*words: object) -> str:
    """Return an id that depends on nothing but the words."""
    text = f"{key(*words, 'high'):016x}{key(*words, 'low'):016x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def _check_feed(request: Request, *, paid: bool) -> None:
    feed = choice(request, "feed", ("opra", "indicative"), "opra" if paid else "indicative")
    if feed == "opra" and not paid:
        raise Refused(403, "OPRA agreement is not signed")


def _chosen(book: Book, request: Request, today: int, until: date | None = None) -> Any:
    """Return which contracts the question's filters leave; the settled ones are gone by themselves."""
    query = request.query_params
    strikes = {name: _number(request, f"strike_price_{name}") for name in ("gte", "lte")}
    first, last, only = (day(request, f"expiration_date{end}") for end in ("_gte", "_lte", ""))
    last = last or until
    rows = np.ones(len(book), dtype=np.bool_)
    if kind := query.get("type"):
        if kind not in ("call", "put"):
            raise Refused(400, f"invalid type: {kind}")
        rows &= book.call == (kind == "call")
    if strikes["gte"] is not None:
        rows &= book.strike >= strikes["gte"]
    if strikes["lte"] is not None:
        rows &= book.strike <= strikes["lte"]

    def kept(test: Callable[[Any], bool]) -> Any:
        return np.array([test(e) for e in book.expirations], dtype=np.bool_)[book.of]

    if root := query.get("root_symbol"):
        rows &= kept(lambda e: e.root == root)
    return rows & kept(
        lambda e: (
            e.day.toordinal() - 1 >= today
            and (first is None or e.day >= first)
            and (last is None or e.day <= last)
            and (only is None or e.day == only)
        )
    )


def _number(request: Request, name: str) -> float | None:
    text = request.query_params.get(name)
    try:
        return float(text) if text else None
    except ValueError:
        raise Refused(400, f"invalid {name}: {text}") from None


def _short(contract: str) -> str:
    """Return an OCC symbol as Alpaca spells it: without the padding."""
    return str(contract).replace(" ", "")


def _figure(value: float) -> str:
    """Return a number as the trading host says it: as text."""
    return f"{value:.10g}"
