"""Schwab's doors: its token endpoint and its market data, in the wire form of recorded answers."""

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime, timedelta
from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from actors.domain import calendar
from sandbox import schwab_bars
from sandbox.clock import Clock
from sandbox.days import NEW_YORK
from sandbox.listing import DOW, Listing, key
from sandbox.market import Market, Quotes
from sandbox.options import Options
from sandbox.schwab_chain import Asked, Chains
from sandbox.schwab_oauth import OAuth, Tokens
from sandbox.schwab_quotes import FIELDS, Writer, fundamentals
from sandbox.schwab_wire import (
    Refused,
    cusip,
    described,
    dumped,
    error_answer,
    error_body,
    headers,
    spelled,
    whole,
)

MOST_SYMBOLS = 500
MOST_BYTES = 10_000_000  # Schwab's gateway gives up there

Handler = Callable[[Request], Awaitable[Response]]


class Schwab:
    """Schwab, as far as the sandbox speaks for it."""

    name = "schwab"
    error_answer = staticmethod(error_answer)

    def __init__(self, market: Market, options: Options, clock: Clock) -> None:
        self._market, self._clock = market, clock
        self._tokens = Tokens(market.seed, clock)
        self._oauth = OAuth(self._tokens, clock)
        self._writer, self._chains = Writer(market), Chains(market, options)
        self._by_symbol = {spelled(r.symbol): i for i, r in enumerate(market.listings)}
        self._by_cusip = {cusip(r): i for i, r in enumerate(market.listings) if r.kind != "index"}

    def routes(self) -> Mount:
        """Return everything under /schwab."""
        data = "/marketdata/v1"
        table: tuple[tuple[str, Handler], ...] = (
            ("/quotes", self._data(self._quotes)),
            ("/pricehistory", self._data(self._price_history)),
            ("/chains", self._data(self._chain)),
            ("/expirationchain", self._data(self._expirations)),
            ("/movers/{index}", self._data(self._movers)),
            ("/markets", self._data(self._markets)),
            ("/markets/{market}", self._data(self._markets)),
            ("/instruments", self._data(self._instruments)),
            ("/instruments/{cusip}", self._data(self._instrument)),
            ("/{symbol}/quotes", self._data(self._one_quote)),
            ("/{rest:path}", self._data(self._nothing)),
        )
        return Mount(
            "/schwab",
            routes=[
                Route("/v1/oauth/token", self._oauth.token, methods=["POST"]),
                Route("/v1/oauth/authorize", self._oauth.authorize, methods=["GET"]),
                *(Route(data + path, handler, methods=["GET"]) for path, handler in table),
                Route("/{rest:path}", self._nowhere),
            ],
        )

    def _data(self, answer: Callable[[Request], bytes]) -> Handler:
        """Return a handler that checks the token and puts errors in Schwab's words."""

        async def handler(request: Request) -> Response:
            try:
                scheme, _, token = request.headers.get("authorization", "").partition(" ")
                if scheme.lower() != "bearer" or not self._tokens.good("I0", token.strip()):
                    raise Refused(401, "Client not authorized")
                body = answer(request)
                if len(body) > MOST_BYTES:
                    raise Refused(502)
            except Refused as error:
                body = error_body(error.status, error.detail, error.parameter)
                return Response(body, error.status, headers=headers())
            return Response(body, headers=headers())

        return handler

    def _nothing(self, _: Request) -> bytes:
        raise Refused(404)

    async def _nowhere(self, _: Request) -> Response:
        return Response(error_body(404), 404, headers=headers())

    def _quotes(self, request: Request) -> bytes:
        text = request.query_params.get("symbols", "")
        asked = list(dict.fromkeys(s.strip().upper() for s in text.split(",") if s.strip()))
        if not asked:
            raise Refused(400, "Search combination should have min of 1.", "symbols")
        if len(asked) > MOST_SYMBOLS:
            raise Refused(400, f"Search combination should not exceed {MOST_SYMBOLS}.", "symbols")
        return self._quoted(asked, request.query_params.get("fields", ""))

    def _one_quote(self, request: Request) -> bytes:
        symbol = request.path_params["symbol"].upper()
        return self._quoted([symbol], request.query_params.get("fields", ""))

    def _quoted(self, asked: Sequence[str], fields_text: str) -> bytes:
        named = [f.strip() for f in fields_text.split(",") if f.strip()]
        if set(named) - {*FIELDS, "all"}:
            detail = (
                "valid fields should be any of all,fundamental,reference,extended,quote,regular"
                " or empty value"
            )
            raise Refused(400, detail, "fields")
        quotes = self._market.quotes(self._clock.ms())
        wanted = set(named) or set(FIELDS) - ({"extended"} if quotes.regular else set())
        fields = FIELDS if "all" in wanted else tuple(f for f in FIELDS if f in wanted)
        parts, invalid = [], []
        for symbol in asked:
            if (i := self._by_symbol.get(symbol)) is not None:
                parts.append(f"{json.dumps(symbol)}:{self._writer.write(i, quotes, fields)}")
            elif (text := self._chains.quote(symbol, fields, self._clock.ms())) is not None:
                parts.append(f"{json.dumps(symbol)}:{text}")
            elif symbol not in self._market.index:  # the dot form of a class share just vanishes
                invalid.append(symbol)
        if invalid:
            parts.append(f'"errors":{{"invalidSymbols":{json.dumps(invalid)}}}')
        return f"{{{','.join(parts)}}}".encode()

    def _price_history(self, request: Request) -> bytes:
        asked = schwab_bars.History.read(request)
        return schwab_bars.answer(asked, self._by_symbol, self._market, self._clock.ms())

    def _chain(self, request: Request) -> bytes:
        return self._chains.chain(Asked.read(request), self._clock.ms(), MOST_BYTES)

    def _expirations(self, request: Request) -> bytes:
        return self._chains.expirations(request, self._clock.ms())

    def _movers(self, request: Request) -> bytes:
        index = request.path_params["index"].upper()
        members = self._members(index)
        sort = request.query_params.get("sort", "VOLUME")
        if sort not in {"VOLUME", "TRADES", "PERCENT_CHANGE_UP", "PERCENT_CHANGE_DOWN"}:
            raise Refused(400, "Invalid sort", "sort")
        at_least = whole(request, "frequency", 0)
        if at_least not in {0, 1, 5, 10, 30, 60}:
            raise Refused(400, "Invalid frequency", "frequency")
        quotes = self._market.quotes(self._clock.ms())
        total = int(quotes.volume[members].sum()) if members else 0
        rows = [_mover(self._market.listings[i], quotes, i, total) for i in members]
        change = "netPercentChange"
        rows = [row for row in rows if abs(row[change]) * 100 >= at_least]
        rank: Callable[[dict[str, Any]], float] = {
            "VOLUME": lambda row: -row["volume"],
            "TRADES": lambda row: -row["trades"],
            "PERCENT_CHANGE_UP": lambda row: -row[change],
            "PERCENT_CHANGE_DOWN": lambda row: row[change],
        }[sort]
        rows.sort(key=rank)
        return dumped({"screeners": rows[:10]})

    def _members(self, index: str) -> list[int]:
        rows = list(enumerate(self._market.listings))
        stocks = [(i, r) for i, r in rows if r.kind == "stock"]
        match index:
            case "$SPX":
                chosen = stocks
            case "$DJI":
                chosen = [(i, r) for i, r in stocks if r.symbol in DOW]
            case "$COMPX" | "NASDAQ":
                chosen = [(i, r) for i, r in stocks if r.exchange == "Q"]
            case "NYSE":
                chosen = [(i, r) for i, r in stocks if r.exchange == "N"]
            case "EQUITY_ALL":
                chosen = [(i, r) for i, r in rows if r.kind != "index"]
            case "INDEX_ALL":
                chosen = [(i, r) for i, r in rows if r.kind == "index"]
            case "OTCBB" | "OPTION_ALL" | "OPTION_PUT" | "OPTION_CALL":
                chosen = []
            case _:
                raise Refused(404)
        return [i for i, _ in chosen]

    def _markets(self, request: Request) -> bytes:
        one = request.path_params.get("market")
        text = one or request.query_params.get("markets", "")
        asked = [m.strip().lower() for m in text.split(",") if m.strip()]
        known = {"equity", "option", "bond", "future", "forex"}
        if not asked or set(asked) - known:
            raise Refused(404 if one else 400, "Invalid market", "markets")
        when = datetime.fromtimestamp(self._clock.ms() / 1000, NEW_YORK).date()
        if day := request.query_params.get("date"):
            try:
                when = date.fromisoformat(day)
            except ValueError:
                raise Refused(400, "Invalid date, expected yyyy-MM-dd", "date") from None
        return dumped({market: _hours(market, when) for market in asked})

    def _instruments(self, request: Request) -> bytes:
        asked = request.query_params.get("symbol", "").strip()
        projection = request.query_params.get("projection", "")
        if not asked:
            raise Refused(400, "symbol is required", "symbol")
        try:
            found = self._search(asked, projection)
        except re.error:
            raise Refused(400, "Invalid regular expression", "symbol") from None
        shown = [self._instrument_row(i, fundamental=projection == "fundamental") for i in found]
        return dumped({"instruments": shown})

    def _search(self, asked: str, projection: str) -> list[int]:
        listings = [(i, r) for i, r in enumerate(self._market.listings)]
        match projection:
            case "symbol-search" | "fundamental":
                symbols = (s.strip().upper() for s in asked.split(","))
                return [self._by_symbol[s] for s in symbols if s in self._by_symbol]
            case "symbol-regex":
                pattern = re.compile(asked)
                return [i for i, r in listings if pattern.fullmatch(spelled(r.symbol))]
            case "desc-search":
                return [i for i, r in listings if asked.upper() in r.name.upper()]
            case "desc-regex":
                pattern = re.compile(asked, re.IGNORECASE)
                return [i for i, r in listings if pattern.search(r.name)]
            case "search":
                upper = asked.upper()
                return [
                    i
                    for i, r in listings
                    if spelled(r.symbol).startswith(upper) or upper in r.name.upper()
                ]
            case _:
                raise Refused(400, "Invalid projection", "projection")

    def _instrument(self, request: Request) -> bytes:
        i = self._by_cusip.get(request.path_params["cusip"])
        if i is None:
            raise Refused(404)
        return dumped({"instruments": [self._instrument_row(i, fundamental=False)]})

    def _instrument_row(self, i: int, *, fundamental: bool) -> dict[str, Any]:
        listing = self._market.listings[i]
        row: dict[str, Any] = {}
        if fundamental and listing.kind != "index":
            quotes = self._market.quotes(self._clock.ms())
            row["fundamental"] = fundamentals(self._market, i, quotes)
        row["cusip"] = cusip(listing)
        row["symbol"] = spelled(listing.symbol)
        row["description"] = described(listing)
        row["exchange"] = listing.exchange_name
        row["assetType"] = {"index": "INDEX", "etf": "ETF"}.get(listing.kind, "EQUITY")
        return row


def _mover(listing: Listing, quotes: Quotes, i: int, total: int) -> dict[str, Any]:
    last, volume = float(quotes.last[i]), int(quotes.volume[i])
    previous = float(quotes.previous_close[i])
    change, part = round(last - previous, 2), round((last - previous) / previous, 4)
    if quotes.moment.frozen:  # Schwab forgets the close it compares with
        change, part = last, 1.0
    return {
        "description": escape(listing.name.upper()),
        "volume": volume,
        "lastPrice": last,
        "netChange": change,
        "marketShare": round(volume / max(total, 1) * 100, 2),
        "totalVolume": total,
        "trades": 1 + volume // (70 + key(listing.symbol, "trades") % 90),
        "netPercentChange": part,
        "symbol": spelled(listing.symbol),
    }


def _hours(market: str, day: date) -> dict[str, Any]:
    session = calendar.session(day) if day.year >= calendar.FIRST_YEAR else None
    if session is None:
        closed = {"date": day.isoformat(), "marketType": market.upper(), "product": market}
        return {market: closed | {"isOpen": False}}
    opens, closes = (t.astimezone(NEW_YORK) for t in (session.opens, session.closes))

    def stretch(start: datetime, end: datetime) -> list[dict[str, str]]:
        return [{"start": start.isoformat(), "end": end.isoformat()}]

    def product(code: str, name: str, hours: dict[str, Any]) -> dict[str, Any]:
        return {
            "date": day.isoformat(),
            "marketType": market.upper(),
            "product": code,
            "productName": name,
            "isOpen": True,
            "sessionHours": hours,
        }

    if market == "option":
        late = closes + timedelta(minutes=15)
        return {
            "EQO": product("EQO", "equity option", {"regularMarket": stretch(opens, closes)}),
            "IND": product("IND", "index option", {"regularMarket": stretch(opens, late)}),
        }
    if market == "equity":
        hours = {
            "preMarket": stretch(opens.replace(hour=7, minute=0), opens),
            "regularMarket": stretch(opens, closes),
            "postMarket": stretch(closes, closes + timedelta(hours=4)),
        }
        return {"EQ": product("EQ", "equity", hours)}
    return {market: product(market, market, {"regularMarket": stretch(opens, closes)})}
