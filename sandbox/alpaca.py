"""Alpaca's doors: the data host and the trading host under one address, as their paths do not collide.

Of the trading host there are clock, calendar, assets and option contracts; nothing can be traded.  A key
that begins with `paid` is of the paid plan: consolidated quotes at once, OPRA, 10,000 requests a minute.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from actors.domain import calendar
from actors.domain.models import Session
from sandbox.alpaca_options import OptionData, uuid_of
from sandbox.alpaca_stocks import Stocks
from sandbox.alpaca_wire import (
    FREE,
    PAID_KEY,
    Minutes,
    Refused,
    choice,
    day,
    dumped,
    error_body,
    instant,
    lowered,
    moment,
    page,
    plain_headers,
    token_of,
    whole,
)
from sandbox.clock import Clock
from sandbox.days import NEW_YORK
from sandbox.gate import Headers
from sandbox.listing import Listing
from sandbox.market import Market
from sandbox.news import News, Story
from sandbox.options import Options

LAST_YEAR = 2029  # of the calendar
MOST_STORIES = 50
OLDEST_MS = 1_420_070_400_000  # 2015, the first year with news
MOST_SORTED = 10_000  # stories looked through where the oldest are wanted first

Answer = Callable[[Request], bytes]
Handler = Callable[[Request], Awaitable[Response]]

_EXCHANGES = {"Q": "NASDAQ", "N": "NYSE", "P": "ARCA"}


class Alpaca:
    """Alpaca, as far as the sandbox speaks for it."""

    name = "alpaca"

    def __init__(self, market: Market, options: Options, clock: Clock) -> None:
        self._market, self._clock = market, clock
        self._minutes = Minutes(clock)
        self._stocks = Stocks(market, clock)
        self._options = OptionData(market, options, clock)
        self._news = News(market)
        self._listed = [i for i, r in enumerate(market.listings) if r.kind != "index"]
        self._assets = {market.symbols[i]: _asset(market.listings[i]) for i in self._listed}

    def error_answer(self, status: int) -> tuple[bytes, Headers]:
        """Return what Alpaca says with an error status; only some of them tell the limit."""
        told = plain_headers()
        if status in (400, 429):
            told |= {"X-RateLimit-Limit": str(FREE), "X-RateLimit-Remaining": "0"}
            told |= {"X-RateLimit-Reset": str(self._minutes.reset)}
        return error_body(status), lowered(told)

    def routes(self) -> Mount:
        """Return everything under /alpaca."""
        stocks, options = self._stocks, self._options
        data: tuple[tuple[str, Answer], ...] = (
            ("/v2/stocks/snapshots", _planned(stocks.snapshots)),
            ("/v2/stocks/bars", _planned(stocks.bars)),
            ("/v2/stocks/{kind}/latest", _planned(stocks.latest)),
            ("/v2/stocks/{symbol}/snapshot", _planned(stocks.snapshot)),
            ("/v2/stocks/{symbol}/bars", _planned(stocks.bars_of)),
            ("/v2/stocks/{symbol}/{kind}/latest", _planned(stocks.latest_of)),
            ("/v1beta1/options/snapshots", _planned(options.snapshots)),
            ("/v1beta1/options/snapshots/{underlying}", _planned(options.chain)),
            ("/v1beta1/options/{kind}/latest", _planned(options.latest)),
            ("/v1beta1/screener/stocks/movers", self._movers),
            ("/v1beta1/screener/stocks/most-actives", self._most_active),
            ("/v1beta1/news", self._stories),
        )
        trading: tuple[tuple[str, Answer], ...] = (
            ("/v2/clock", self._clock_now),
            ("/v2/calendar", self._calendar),
            ("/v2/assets", self._all_assets),
            ("/v2/assets/{asset}", self._one_asset),
            ("/v2/options/contracts", options.contracts),
            ("/v2/options/contracts/{contract}", options.contract),
        )
        return Mount(
            "/alpaca",
            routes=[
                *(Route(path, self._door(answer), methods=["GET"]) for path, answer in data),
                *(
                    Route(path, self._door(answer, trading=True), methods=["GET"])
                    for path, answer in trading
                ),
                Route("/{rest:path}", self._nowhere),
            ],
        )

    def _door(self, answer: Answer, *, trading: bool = False) -> Handler:
        """Return a handler that wants keys, counts, and puts errors in the words of its host."""

        async def handler(request: Request) -> Response:
            who, told = _key(request), plain_headers()
            if not who:
                words = ("request is not authorized", 40110000) if trading else (None, None)
                return Response(error_body(401, *words), 401, headers=told)
            self._minutes.asked(who)
            try:
                body, status = answer(request), 200
            except Refused as error:
                code = error.code or (error.status * 100_000 + 10_000 if trading else None)
                body, status = error_body(error.status, error.message, code), error.status
            if status in (200, 400):
                told |= self._minutes.headers(who)
            return Response(body, status, headers=told)

        return handler

    async def _nowhere(self, _: Request) -> Response:
        return Response(error_body(404), 404, headers=plain_headers())

    # --- the screener

    def _movers(self, request: Request) -> bytes:
        top = whole(request, "top", 10, 50)
        quotes = self._market.quotes(self._clock.ms())
        moved: list[tuple[float, dict[str, Any]]] = []
        for i in self._listed:
            last, previous = float(quotes.last[i]), float(quotes.previous_close[i])
            change = round(last - previous, 4)
            percent = round(change / previous * 100, 2)
            row = {"symbol": self._market.symbols[i], "percent_change": percent}
            moved.append((percent, row | {"change": change, "price": last}))
        moved.sort(key=lambda pair: pair[0], reverse=True)
        gainers = [row for percent, row in moved[:top] if percent > 0]
        losers = [row for percent, row in moved[: -top - 1 : -1] if percent < 0]
        return dumped(
            {
                "gainers": gainers,
                "losers": losers,
                "market_type": "stocks",
                "last_updated": instant(quotes.at, "movers"),
            }
        )

    def _most_active(self, request: Request) -> bytes:
        top = whole(request, "top", 10, 100)
        by = choice(request, "by", ("volume", "trades"), "volume")
        quotes = self._market.quotes(self._clock.ms())
        rows = []
        for i in self._listed:
            volume = int(quotes.volume[i])
            rows.append((self._market.symbols[i], 1 + volume // (60 + i % 40), volume))
        rows.sort(key=lambda row: row[2] if by == "volume" else row[1], reverse=True)
        names = ("symbol", "trade_count", "volume")
        shown = [dict(zip(names, row, strict=True)) for row in rows[:top]]
        at = instant(quotes.at, "most-actives")
        return dumped({"most_actives": shown, "last_updated": at})

    # --- news

    def _stories(self, request: Request) -> bytes:
        limit = whole(request, "limit", 10, MOST_STORIES)
        newest_first = choice(request, "sort", ("desc", "asc"), "desc") == "desc"
        content = request.query_params.get("include_content", "").lower() == "true"
        after = page(request, lambda parts: (int(parts[0]), int(parts[1])))
        now = self._clock.ms()
        start, end = moment(request, "start"), moment(request, "end")
        start = OLDEST_MS if start is None else start
        end = now if end is None else min(end, now)
        if after:  # the story before this page, by its time in ns and its number
            at = int(after[0]) // 1_000_000
            start, end = (start, at - 1) if newest_first else (at + 1, end)
        symbols = None
        if text := request.query_params.get("symbols"):
            symbols = [symbol.strip() for symbol in text.split(",")]
        most = limit + 1 if newest_first else MOST_SORTED
        stories = self._news.stories(start, end + 1, most, symbols)
        if not newest_first:
            stories.reverse()
        shown = stories[:limit]
        more = len(stories) > limit
        token = token_of(shown[-1].at * 1_000_000, shown[-1].id) if more else None
        told = [_story(story, content=content) for story in shown]
        return dumped({"news": told, "next_page_token": token})

    # --- the trading host

    def _clock_now(self, _: Request) -> bytes:
        now = self._clock.now()
        opens = calendar.next_open(now)
        today = calendar.session(now.astimezone(NEW_YORK).date())
        is_open = calendar.is_open(now)
        ahead = today if today and today.closes > now else None
        closes = (ahead or calendar.next_sessions(now.astimezone(NEW_YORK).date(), 1)[0]).closes
        return dumped(
            {
                "timestamp": now.astimezone(NEW_YORK).isoformat(),
                "is_open": is_open,
                "next_open": opens.astimezone(NEW_YORK).isoformat(),
                "next_close": closes.astimezone(NEW_YORK).isoformat(),
            }
        )

    def _calendar(self, request: Request) -> bytes:
        first = day(request, "start") or date(calendar.FIRST_YEAR, 1, 1)
        last = day(request, "end") or date(LAST_YEAR, 12, 31)
        first = max(first, date(calendar.FIRST_YEAR, 1, 1))
        last = min(last, date(LAST_YEAR, 12, 31))
        days = (first + timedelta(days=n) for n in range((last - first).days + 1))
        sessions = [found for one in days if (found := calendar.session(one))]
        # Trades settle a session later, so the last one needs one more.
        after = calendar.next_sessions(sessions[-1].day, 1) if sessions else ()
        pairs = zip(sessions, [*sessions[1:], *after], strict=True)
        return dumped([_session(one, settles) for one, settles in pairs])

    def _all_assets(self, request: Request) -> bytes:
        query = request.query_params
        found = [
            asset
            for asset in self._assets.values()
            if query.get("status", "active") == "active"
            and query.get("asset_class", "us_equity") == "us_equity"
            and query.get("exchange", asset["exchange"]) == asset["exchange"]
        ]
        return dumped(found)

    def _one_asset(self, request: Request) -> bytes:
        name = request.path_params["asset"]
        for asset in self._assets.values():
            if name in (asset["symbol"], asset["id"]):
                return dumped(asset)
        raise Refused(404, f"asset not found for {name}", 40410000)


def _planned(answer: Callable[..., bytes]) -> Answer:
    """Return an answer that is given what plan the key is of."""
    return lambda request: answer(request, paid=_key(request).startswith(PAID_KEY))


def _key(request: Request) -> str:
    """Return who asks: by the two headers, by the same as Basic, or by an OAuth token; empty for nobody."""
    who, secret = (request.headers.get(f"apca-api-{name}", "") for name in ("key-id", "secret-key"))
    scheme, _, rest = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            who, _, secret = base64.b64decode(rest, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return who.strip() if secret.strip() else ""


def _story(story: Story, *, content: bool) -> dict[str, Any]:
    widths = {"large": "2048x1536", "small": "1024x768", "thumb": "250x187"}
    images = [{"size": size, "url": f"{story.image}?{wide}"} for size, wide in widths.items()]
    return {
        "id": story.id,
        "headline": story.headline,
        "author": story.author,
        "created_at": instant(story.at),
        "updated_at": instant(story.updated),
        "summary": story.summary,
        "content": story.content if content else "",
        "url": story.url,
        "images": images,
        "symbols": list(story.symbols),
        "source": "benzinga",
    }


def _session(one: Session, settles: Session) -> dict[str, str]:
    opens, closes = (at.astimezone(NEW_YORK) for at in (one.opens, one.closes))
    return {
        "date": one.day.isoformat(),
        "open": f"{opens:%H:%M}",
        "close": f"{closes:%H:%M}",
        "session_open": "0400",
        "session_close": "2000" if closes.hour == 16 else "1700",
        "settlement_date": settles.day.isoformat(),
    }


def _asset(listing: Listing) -> dict[str, Any]:
    return {
        "id": uuid_of(listing.symbol),
        "class": "us_equity",
        "exchange": _EXCHANGES[listing.exchange],
        "symbol": listing.symbol,
        "name": listing.name,
        "status": "active",
        "tradable": True,
        "marginable": True,
        "maintenance_margin_requirement": 30,
        "margin_requirement_long": "30",
        "margin_requirement_short": "30",
        "shortable": True,
        "easy_to_borrow": True,
        "fractionable": True,
        "attributes": ["fractional_eh_enabled", "has_options", "overnight_tradable"],
    }
