"""Polygon's (Massive's) doors: aggregates, snapshots, chains, reference, news and market status.

A key that begins with `free` or `starter` has that plan; any other has everything.  `next_url` leads back
to this sandbox, so that it can be followed as it is; like the vendor's, it does not hold the key.
"""

from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from actors.domain import calendar
from sandbox import polygon_bars
from sandbox.clock import Clock
from sandbox.company import QUARTER, company, market_cap, payout
from sandbox.days import NEW_YORK
from sandbox.listing import Listing
from sandbox.market import Market
from sandbox.news import News, Story
from sandbox.options import Options
from sandbox.polygon_snapshots import Snapshots, chosen, details_of, ticker_of
from sandbox.polygon_wire import (
    Asked,
    Plan,
    Refused,
    dumped,
    error_answer,
    error_body,
    listed,
    plan_of,
    request_id,
    split,
)

MOST_STORIES = 1000
QUARTERS_BACK = 8  # of dividends

Answer = Callable[[Request, Plan, int], bytes]
Handler = Callable[[Request], Awaitable[Response]]

_HOLIDAYS = {  # by month; there is never a second one in it
    1: "New Years Day",
    2: "Washington's Birthday",
    3: "Good Friday",
    4: "Good Friday",
    5: "Memorial Day",
    6: "Juneteenth",
    7: "Independence Day",
    9: "Labor Day",
    11: "Thanksgiving",
    12: "Christmas",
}


class Polygon:
    """Polygon, as far as the sandbox speaks for it."""

    name = "polygon"
    error_answer = staticmethod(error_answer)

    def __init__(self, market: Market, options: Options, clock: Clock) -> None:
        self._market, self._clock = market, clock
        self._options, self._news = options, News(market)
        self._snapshots = Snapshots(market, self._options)
        self._payouts: tuple[date, list[dict[str, Any]]] | None = None
        self._listings = sorted(
            (row for row in market.listings if row.kind != "index"), key=lambda row: row.symbol
        )

    def routes(self) -> Mount:
        """Return everything under /polygon."""
        snapshots, market = self._snapshots, self._market

        def bars(answer: Callable[[Request, Market, Plan, int], bytes]) -> Answer:
            return lambda request, plan, now: answer(request, market, plan, now)

        stocks = "/v2/snapshot/locale/us/markets/stocks"
        table: tuple[tuple[str, Answer], ...] = (
            (f"{stocks}/tickers", snapshots.many),
            (f"{stocks}/tickers/{{ticker}}", snapshots.one),
            (f"{stocks}/{{direction}}", snapshots.movers),
            ("/v3/snapshot", snapshots.typed),
            ("/v3/snapshot/options/{underlying}", snapshots.chain),
            ("/v3/snapshot/options/{underlying}/{contract}", snapshots.contract),
            (
                "/v2/aggs/ticker/{ticker}/range/{multiplier}/{timespan}/{from}/{to}",
                bars(polygon_bars.ranged),
            ),
            ("/v2/aggs/ticker/{ticker}/prev", bars(polygon_bars.previous)),
            ("/v2/aggs/grouped/locale/us/market/stocks/{date}", bars(polygon_bars.grouped)),
            ("/v3/reference/tickers", self._tickers),
            ("/v3/reference/tickers/{ticker}", self._ticker),
            ("/v3/reference/options/contracts", self._contracts),
            ("/v3/reference/options/contracts/{contract}", self._contract),
            ("/v3/reference/dividends", self._dividends),
            ("/v3/reference/splits", self._splits),
            ("/v2/reference/news", self._stories),
            ("/v1/marketstatus/now", self._now),
            ("/v1/marketstatus/upcoming", self._upcoming),
        )
        routes = [Route(path, self._data(answer), methods=["GET"]) for path, answer in table]
        routes.append(Route("/{rest:path}", self._nowhere))
        return Mount("/polygon", routes=[Mount("/polygon", routes=routes), *routes])

    def _data(self, answer: Answer) -> Handler:
        """Return a handler that checks the key and puts errors in Polygon's words."""

        async def handler(request: Request) -> Response:
            status = 200
            try:
                body = answer(request, plan_of(request), self._clock.ms())
            except Refused as error:
                status, body = error.status, error_body(error.status, error.text)
            return Response(body, status, media_type="application/json")

        return handler

    async def _nowhere(self, _: Request) -> Response:
        return Response("404 page not found\n", 404, media_type="text/plain")

    def _tickers(self, request: Request, _: Plan, now: int) -> bytes:
        asked = Asked(request, 100, 1000)
        search, kind = (asked.get("search") or "").lower(), asked.get("type")
        wrong = asked.get("market") not in {None, "stocks"} or asked.get("active") == "false"
        rows = [] if wrong else [_reference(row, now) for row in self._listings]
        rows = [
            row
            for row in rows
            if asked.wants("ticker", row["ticker"])
            and (not search or search in f"{row['ticker']} {row['name']}".lower())
            and (not kind or row["type"] == kind)
            and asked.wants("exchange", row["primary_exchange"])
            and asked.wants("cik", row.get("cik"))
        ]
        sort = asked.get("sort") or "ticker"
        rows.sort(key=lambda row: str(row.get(sort, "")), reverse=asked.order == "desc")
        page, more = asked.page(rows)
        return listed(page, more, count=len(page))

    def _ticker(self, request: Request, _: Plan, now: int) -> bytes:
        i = self._market.index.get(request.path_params["ticker"])
        listing = self._market.listings[i] if i is not None else None
        if i is None or listing is None or listing.kind == "index":
            raise Refused(404, "Ticker not found.")
        facts, told = company(listing), _reference(listing, now)
        del told["last_updated_utc"]
        if listing.kind == "stock":
            price = float(self._market.quotes(now).last[i])
            told["market_cap"] = market_cap(listing, price)
            told["phone_number"] = facts.phone
            told["address"] = {
                "address1": "1 SANDBOX WAY",
                "city": facts.city.upper(),
                "state": facts.state,
                "postal_code": "10001",
            }
            told["description"] = facts.description
            told["sic_code"] = str(facts.sic)
            told["sic_description"] = (facts.industry or "").upper()
            told["homepage_url"] = facts.website
            told["total_employees"] = facts.employees
        told["ticker_root"] = listing.symbol.partition(".")[0]
        told["list_date"] = facts.listed.isoformat()
        told["share_class_shares_outstanding"] = int(facts.shares)
        told["weighted_shares_outstanding"] = int(facts.shares)
        told["round_lot"] = 100
        return dumped({"request_id": request_id(), "results": told, "status": "OK"})

    def _contracts(self, request: Request, _: Plan, now: int) -> bytes:
        asked = Asked(request, 10, 1000)
        underlying, ticker = asked.get("underlying_ticker"), asked.get("ticker")
        if ticker:
            underlying = self._snapshots.symbol_of(ticker)
        symbols = [underlying] if underlying or ticker else [row.symbol for row in self._listings]
        rows: list[dict[str, Any]] = []
        for symbol in symbols:
            book = self._snapshots.book_of(symbol, now) if symbol else None
            if book is not None and asked.get("expired") != "true":
                wanted = chosen(asked, book)
                rows += [_contract(details_of(book, n), str(symbol)) for n in wanted]
            if len(rows) > asked.offset + asked.limit:
                break
        page, more = asked.page([r for r in rows if not ticker or r["ticker"] == ticker])
        return listed(page, more)

    def _contract(self, request: Request, _: Plan, now: int) -> bytes:
        ticker = request.path_params["contract"]
        symbol = self._snapshots.symbol_of(ticker)
        book = self._snapshots.book_of(symbol, now) if symbol else None
        rows = range(len(book)) if book else ()
        found = next((n for n in rows if book and ticker_of(book, n) == ticker), None)
        if book is None or found is None:
            raise Refused(404, "Options contract not found.")
        told = _contract(details_of(book, found), str(symbol))
        return dumped({"request_id": request_id(), "results": told, "status": "OK"})

    def _dividends(self, request: Request, _: Plan, now: int) -> bytes:
        asked = Asked(request, 10, 1000)
        tickers = asked.get("ticker")
        wanted = set(split(tickers)) if tickers else None
        rows = [
            row
            for row in self._payouts_of(_date(now))
            if (wanted is None or row["ticker"] in wanted)
            and asked.wants("ex_dividend_date", row["ex_dividend_date"])
            and asked.wants("pay_date", row["pay_date"])
        ]
        sort = asked.get("sort") or "ex_dividend_date"
        rows.sort(key=lambda row: str(row.get(sort, "")), reverse=asked.order != "asc")
        page, more = asked.page(rows)
        return listed(page, more)

    def _payouts_of(self, today: date) -> list[dict[str, Any]]:
        if self._payouts is None or self._payouts[0] != today:
            rows = [row for listing in self._listings for row in _paid(listing, today)]
            self._payouts = (today, rows)
        return self._payouts[1]

    def _splits(self, request: Request, _plan: Plan, _now: int) -> bytes:
        Asked(request, 10, 1000)
        return listed([], {})  # nothing is ever split here

    def _stories(self, request: Request, _: Plan, now: int) -> bytes:
        asked = Asked(request, 10, MOST_STORIES)
        start, end = 0, now + 1
        for suffix, later in ((".gte", 0), (".gt", 1), (".lte", 1), (".lt", 0), ("", 0)):
            text = asked.get(f"published_utc{suffix}")
            if text is None:
                continue
            at = _ms(text) + later
            if suffix in {".gte", ".gt", ""}:
                start = max(start, at)
            if suffix in {".lte", ".lt"}:
                end = min(end, at)
        if (asked.get("sort") or "published_utc") != "published_utc":
            raise Refused(400, "The parameter 'sort' must be one of: published_utc")
        ticker = asked.get("ticker")
        most = asked.offset + asked.limit + 1 if asked.order != "asc" else 10 * MOST_STORIES
        stories = self._news.stories(start, end, most, [ticker] if ticker else None)
        if asked.order == "asc":
            stories.reverse()
        # The pages to come are cut from the same list, whatever is published meanwhile.
        frozen = datetime.fromtimestamp(end / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        page, more = asked.page(stories, **{"published_utc.lt": frozen})
        return listed(map(_story, page), more, count=len(page))

    def _now(self, _request: Request, _plan: Plan, now: int) -> bytes:
        local = datetime.fromtimestamp(now // 1000, NEW_YORK)
        session = calendar.session(local.date()) if local.year >= calendar.FIRST_YEAR else None
        early = late = is_open = False
        if session:
            opens, closes = (at.astimezone(NEW_YORK) for at in (session.opens, session.closes))
            is_open = opens <= local < closes
            early = local.replace(hour=4, minute=0, second=0) <= local < opens
            late = closes <= local < closes + timedelta(hours=4)
        market = "open" if is_open else "extended-hours" if early or late else "closed"
        otc = "open" if is_open else "closed"
        forex = local.weekday() < 4 or (local.weekday() == 4 and local.hour < 17)
        forex = forex or (local.weekday() == 6 and local.hour >= 17)
        return dumped(
            {
                "market": market,
                "earlyHours": early,
                "afterHours": late,
                "serverTime": local.isoformat(),
                "exchanges": {"nyse": market, "nasdaq": market, "otc": otc},
                "currencies": {"fx": "open" if forex else "closed", "crypto": "open"},
            }
        )

    def _upcoming(self, _request: Request, _plan: Plan, now: int) -> bytes:
        return dumped(list(_holidays(_date(now))))


def _date(now: int) -> date:
    return datetime.fromtimestamp(now // 1000, NEW_YORK).date()


def _ms(text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(400, "The parameter 'published_utc' is not a date or a time") from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def _reference(listing: Listing, now: int) -> dict[str, Any]:
    facts = company(listing)
    told: dict[str, Any] = {
        "ticker": listing.symbol,
        "name": listing.name,
        "market": "stocks",
        "locale": "us",
        "primary_exchange": facts.mic,
        "type": "CS" if listing.kind == "stock" else "ETF",
        "active": True,
        "currency_name": "usd",
    }
    if listing.kind == "stock":
        told["cik"] = f"{facts.cik:010d}"
    told["composite_figi"] = facts.figi
    told["share_class_figi"] = f"{facts.figi[:3]}001{facts.figi[6:]}"
    told["last_updated_utc"] = f"{_date(now)}T00:00:00Z"
    return told


def _contract(details: dict[str, Any], underlying: str) -> dict[str, Any]:
    right = "C" if details["contract_type"] == "call" else "P"
    told = {"cfi": f"O{right}{'A' if details['exercise_style'] == 'american' else 'E'}SPS"}
    return told | details | {"primary_exchange": "BATO", "underlying_ticker": underlying}


def _paid(listing: Listing, today: date) -> Iterator[dict[str, Any]]:
    """Return a listing's dividends of two years and the next one, the latest first."""
    seen = set()
    for n in range(-1, QUARTERS_BACK):
        found = payout(listing, today - timedelta(days=QUARTER * n))
        if found.yearly and found.ex not in seen and (n >= 0 or found.ex <= today + timedelta(91)):
            seen.add(found.ex)
            yield {
                "cash_amount": round(found.yearly / 4, 4),
                "declaration_date": found.declared.isoformat(),
                "dividend_type": "CD",
                "ex_dividend_date": found.ex.isoformat(),
                "frequency": 4,
                "pay_date": found.paid.isoformat(),
                "record_date": found.ex.isoformat(),
                "ticker": listing.symbol,
            }


def _story(story: Story) -> dict[str, Any]:
    home = story.publisher_url
    at = datetime.fromtimestamp(story.at // 1000, UTC)
    return {
        "id": f"{story.id:064x}",
        "publisher": {
            "name": story.publisher,
            "homepage_url": home,
            "logo_url": f"{home}logo.svg",
            "favicon_url": f"{home}favicon.ico",
        },
        "title": story.headline,
        "author": story.author,
        "published_utc": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "article_url": story.url,
        "tickers": list(story.symbols),
        "image_url": story.image,
        "description": story.summary,
        "keywords": list(story.keywords),
        "insights": [
            {
                "ticker": symbol,
                "sentiment": story.sentiment,
                "sentiment_reasoning": "The sandbox says so.",
            }
            for symbol in story.symbols[:1]
        ],
    }


def _holidays(today: date) -> Iterator[dict[str, str]]:
    """Return the closed days and the early closes of the year to come, for each exchange."""
    for n in range(1, 366):
        day = today + timedelta(days=n)
        if day.weekday() >= 5 or day.year < calendar.FIRST_YEAR:
            continue
        session = calendar.session(day)
        for exchange in ("NYSE", "NASDAQ"):
            told = {"exchange": exchange, "name": _name(day), "date": day.isoformat()}
            if session is None:
                yield told | {"status": "closed"}
            elif session.closes.astimezone(NEW_YORK).hour < 16:
                opens, closes = (f"{at:%Y-%m-%dT%H:%M:%S}.000Z" for at in
                                 (session.opens, session.closes))  # fmt: skip
                yield told | {"status": "early-close", "open": opens, "close": closes}


def _name(day: date) -> str:
    if day.month == 1 and day.day > 7:
        return "Martin Luther King, Jr. Day"
    return _HOLIDAYS.get(day.month, "Special Closing")
