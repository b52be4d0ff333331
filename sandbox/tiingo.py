"""Tiingo's door: quotes of a list, bars, metadata, fundamentals, search and news, as JSON or CSV.

A key that begins with `paid` has signed with IEX and bought the add-ons (news, all fundamentals); one
that begins with `spent` has used up its symbols of the month, which Tiingo says with status 200; any
other is of the free plan.
"""

import csv
import io
import json
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from actors.domain.symbols import spelled
from sandbox.candles import Candles
from sandbox.clock import Clock
from sandbox.company import company, dividends, market_cap, payout, reports
from sandbox.days import NEW_YORK, STEP_MS, Hours, midnight
from sandbox.gate import Headers
from sandbox.listing import DOW, Listing, fraction, key
from sandbox.market import Market, Quotes
from sandbox.news import News, Story
from sandbox.paths import STEPS

DAY_MS = 86_400_000
DAY_YEARS = 25  # how far back days go
IEX_POINTS, EQUITY_POINTS = 2000, 10_000  # the newest of a window of minutes
MINUTE_DAYS = 60  # the longest window of minutes that is made
IEX_PART = 0.03  # of all shares are traded there
TAPE_PART = 0.045  # of the day's shares that the beta quotes count
SETTLED = 17 * 60 + 30  # the minute of the New York day when the day's bar is there
SPENT = (
    "Error: You have run over your 500 symbol look up for this month. Please upgrade at"
    " https://api.tiingo.com/pricing to have your limits increased."
)
DOW_ONLY = (
    "Error: Free and Power plans are limited to the DOW 30. If you would like access to all"
    " supported tickers, then please E-mail support@tiingo.com to get the Fundamental Data API"
    " added as an add-on service."
)
TEXTS = {
    400: "Error: Bad request.",
    401: "Invalid token.",
    403: "You do not have permission to perform this action.",
    404: "Not found.",
    429: "Error: You have run over your hourly request allocation. Please upgrade at"
    " https://api.tiingo.com/pricing to have your limits increased.",
}
_SAMPLES = {"1min": 1, "5min": 5, "15min": 15, "30min": 30, "1hour": 60, "4hour": 240}
_DEFINITIONS = (
    ("revenue", "Revenue", "incomeStatement", "$"),
    ("eps", "Earnings Per Share", "incomeStatement", "$"),
    ("netinc", "Net Income", "incomeStatement", "$"),
    ("sharesBasic", "Shares Outstanding", "balanceSheet", None),
)

Row = dict[str, Any]


class Refused(Exception):
    """A request is answered with a sentence of Tiingo's."""

    def __init__(self, status: int, text: str | None = None) -> None:
        super().__init__(status, text)
        self.status, self.text = status, text or TEXTS.get(status, "Error.")


def error_answer(status: int) -> tuple[bytes, Headers]:
    """Return what Tiingo says with an error status; a fault of its own server is a web page."""
    if status >= 500:
        return b"<h1>Server Error (500)</h1>", [(b"content-type", b"text/html")]
    body = _dumped({"detail": TEXTS.get(status, f"Error: {status}")})
    return body, [(b"content-type", b"application/json")]


class Tiingo:
    """Tiingo, as far as the sandbox speaks for it."""

    name = "tiingo"
    error_answer = staticmethod(error_answer)

    def __init__(self, market: Market, clock: Clock) -> None:
        self._market, self._clock, self._news = market, clock, News(market)
        self._by_ticker = {
            spelled(row.symbol, self.name): i
            for i, row in enumerate(market.listings)
            if row.kind != "index"
        }

    def routes(self) -> Mount:
        """Return everything under /tiingo; the paths that end in a slash are redirected without it."""
        table: tuple[tuple[str, Callable[[Request], Any]], ...] = (
            ("/api/test", self._test),
            ("/iex/", self._iex),
            ("/iex/{ticker}", self._iex),
            ("/iex/{ticker}/prices", self._iex_prices),
            ("/tiingo/equity/intraday/", self._equity),
            ("/tiingo/equity/intraday/{ticker}", self._equity),
            ("/tiingo/equity/intraday/{ticker}/prices", self._equity_prices),
            ("/tiingo/daily/{ticker}", self._about),
            ("/tiingo/daily/{ticker}/prices", self._daily),
            ("/tiingo/fundamentals/definitions", self._definitions),
            ("/tiingo/fundamentals/{ticker}/daily", self._fundamentals),
            ("/tiingo/fundamentals/{ticker}/statements", self._statements),
            ("/tiingo/utilities/search", self._search),
            ("/tiingo/utilities/search/{query}", self._search),
            ("/tiingo/news", self._stories),
            ("/tiingo/news/bulk_download", self._bulk),
            ("/tiingo/news/bulk_download/{id}", self._bulk),
        )
        routes = []
        for path, answer in table:
            handler = self._answered(answer)
            routes.append(Route(path, handler, methods=["GET"]))
            if path.endswith("/"):
                routes.append(Route(path[:-1], _redirected, methods=["GET"]))
            else:
                routes.append(Route(f"{path}/", handler, methods=["GET"]))
        return Mount("/tiingo", routes=[*routes, Route("/{rest:path}", self._answered(_nowhere))])

    def _answered(self, answer: Callable[[Request], Any]) -> Any:
        """Return a handler that checks the token and puts errors in Tiingo's words."""

        async def handler(request: Request) -> Response:
            status = 200
            try:
                token = _token(request)
                if token.startswith("spent"):
                    raise Refused(200, SPENT)
                told = answer(request)
                if isinstance(told, list) and request.query_params.get("format") == "csv":
                    return Response(_written(told), headers={"Content-Type": "text/csv"})
            except Refused as error:
                status, told = error.status, {"detail": error.text}
            return Response(_dumped(told), status, headers={"Content-Type": "application/json"})

        return handler

    def _test(self, _: Request) -> Any:
        return {"message": "You successfully sent a request"}

    def _found(self, request: Request) -> tuple[str, int]:
        """Return the ticker in the path and its listing's place."""
        ticker = request.path_params["ticker"].upper()
        if ticker not in self._by_ticker:
            raise Refused(404)
        return ticker, self._by_ticker[ticker]

    def _asked(self, request: Request) -> list[tuple[str, int]]:
        """Return what quotes are asked for, in an order of the vendor's own; unknown ones are dropped."""
        one = request.path_params.get("ticker")
        named = {one.upper()} if one else set(_tickers(request)) or set(self._by_ticker)
        known = [(ticker, i) for ticker, i in self._by_ticker.items() if ticker in named]
        return sorted(known, key=lambda pair: key(pair[0], "order"))

    def _iex(self, request: Request) -> Any:
        quotes, agreed = self._market.quotes(self._clock.ms()), _paid(request)
        return [_iex_row(ticker, i, quotes, agreed=agreed) for ticker, i in self._asked(request)]

    def _equity(self, request: Request) -> Any:
        quotes = self._market.quotes(self._clock.ms())
        return [_equity_row(ticker, i, quotes) for ticker, i in self._asked(request)]

    def _iex_prices(self, request: Request) -> Any:
        return self._minutes(request, IEX_POINTS)

    def _equity_prices(self, request: Request) -> Any:
        return self._minutes(request, EQUITY_POINTS)

    def _minutes(self, request: Request, most: int) -> Any:
        ticker = request.path_params["ticker"].upper()
        if ticker not in self._by_ticker:
            return []
        asked, now = request.query_params, self._clock.ms()
        minutes = _SAMPLES.get(asked.get("resampleFreq", "5min").lower())
        if minutes is None:
            raise Refused(400, "Error: resampleFreq must be in minutes or hours")
        market, symbol = self._market, ticker.replace("-", ".")
        today = market.times.locate(now)[0]
        first = _ordinal(request, "startDate", today)
        last = min(_ordinal(request, "endDate", today), today)
        first = max(first, last - MINUTE_DAYS)
        candles = market.minutes(symbol, midnight(first), midnight(last + 1), now)
        if asked.get("afterHours", "false").lower() != "true":
            candles = _regular(candles, market)
        length = minutes * 60_000
        candles = candles.grouped(candles.at // length)
        candles = candles.stamped(candles.at // length * length)
        candles = candles.taken(slice(max(0, len(candles) - most), None))
        names = ["date", *_columns(request, ("open", "high", "low", "close"))]
        stamps = [f"{_iso(at)}.000Z" for at in candles.at.tolist()]
        volume = np.rint(candles.volume * IEX_PART)
        columns = {"open": candles.open, "high": candles.high, "low": candles.low}
        columns |= {"close": candles.close, "volume": volume}
        told = {name: column.tolist() for name, column in columns.items()} | {"date": stamps}
        return [
            dict(zip(names, row, strict=True)) for row in zip(*map(told.get, names), strict=True)
        ]

    def _about(self, request: Request) -> Any:
        ticker, i = self._found(request)
        listing = self._market.listings[i]
        facts, last = company(listing), self._last_day()
        return {
            "ticker": ticker,
            "name": listing.name,
            "exchangeCode": listing.exchange_name.upper(),
            "startDate": self._first_day(listing).isoformat(),
            "endDate": last.isoformat(),
            "description": facts.description,
        }

    def _first_day(self, listing: Listing) -> date:
        since = self._last_day() - timedelta(days=DAY_YEARS * 365)
        return max(company(listing).listed, since)

    def _last_day(self) -> date:
        """Return the newest date whose bar is final."""
        times = self._market.times
        day, point = times.locate(self._clock.ms())
        settled = times.hours is Hours.NYSE and times.window(day) and point // STEPS >= SETTLED
        return date.fromordinal((day if settled else times.session_before(day)) + 1)

    def _daily(self, request: Request) -> Any:
        _, i = self._found(request)
        listing, asked = self._market.listings[i], request.query_params
        last = self._last_day()
        dated = asked.get("startDate") or asked.get("endDate")
        first = max(
            _day(request, "startDate", last if not dated else None), self._first_day(listing)
        )
        until = min(_day(request, "endDate", last), last)
        days = self._days_until(listing, first, last)
        rows = [row for row in days if row["date"] <= until.isoformat()]
        rows = _longer(rows, asked.get("resampleFreq", "daily"))
        end = "T00:00:00.000Z" if dated else "T00:00:00+00:00"
        if asked.get("format") == "csv":
            end = ""
        if asked.get("sort", "").startswith("-"):
            rows.reverse()
        usual = tuple(rows[0])[1:] if rows else ()
        names = _columns(request, usual)
        return [
            {"date": row["date"] + end} | {name: row[name] for name in names if name in row}
            for row in rows
        ]

    def _days_until(self, listing: Listing, first: date, last: date) -> list[Row]:
        """Return daily rows; what is adjusted is so for the dividends until today."""
        earlier = first - timedelta(days=7)  # a dividend is measured by the close before it
        candles = self._market.days(listing.symbol, earlier, last, self._clock.ms())
        paid = dict(dividends(listing, first, last))
        rows: list[Row] = []
        factor = 1.0
        closes = candles.close.tolist()
        for n in range(len(candles) - 1, -1, -1):
            day = datetime.fromtimestamp(int(candles.at[n]) / 1000, NEW_YORK).date()
            if day < first:
                break
            cash = paid.get(day, 0.0)
            prices = {
                "close": closes[n],
                "high": float(candles.high[n]),
                "low": float(candles.low[n]),
                "open": float(candles.open[n]),
            }
            volume = int(candles.volume[n])
            adjusted = {f"adj{k.title()}": round(v * factor, 10) for k, v in prices.items()}
            rows.append(
                {"date": day.isoformat()}
                | prices
                | {"volume": volume}
                | adjusted
                | {"adjVolume": volume, "divCash": cash, "splitFactor": 1.0}
            )
            if cash and n:
                factor *= 1 - cash / closes[n - 1]
        return rows[::-1]

    def _allowed(self, request: Request) -> tuple[str, Listing]:
        ticker, i = self._found(request)
        listing = self._market.listings[i]
        if listing.kind != "stock":
            raise Refused(404)
        if not _paid(request) and listing.symbol not in DOW:
            raise Refused(400, DOW_ONLY)
        return ticker, listing

    def _definitions(self, _: Request) -> Any:
        names = ("dataCode", "name", "statementType", "units")
        rows = [dict(zip(names, row, strict=True)) for row in _DEFINITIONS]
        return [row | {"description": row["name"]} for row in rows]

    def _fundamentals(self, request: Request) -> Any:
        _, listing = self._allowed(request)
        last = self._last_day()
        first = max(_day(request, "startDate", self._first_day(listing)), self._first_day(listing))
        until = min(_day(request, "endDate", last), last)
        rows = []
        for row in self._days_until(listing, first, until):
            day, value = date.fromisoformat(row["date"]), market_cap(listing, row["close"])
            ratio = row["close"] / payout(listing, day).eps
            rows.append(
                {
                    "date": f"{day}T00:00:00.000Z",
                    "marketCap": value,
                    "enterpriseVal": round(
                        value * (0.9 + 0.4 * fraction(listing.symbol, "debt")), 2
                    ),
                    "peRatio": round(ratio, 10),
                    "pbRatio": round(1 + 11 * fraction(listing.symbol, "pbRatio"), 10),
                    "trailingPEG1Y": round(0.5 + 3.5 * fraction(listing.symbol, "pegRatio"), 10),
                }
            )
        return rows

    def _statements(self, request: Request) -> Any:
        _, listing = self._allowed(request)
        now = datetime.fromtimestamp(self._clock.ms() / 1000, UTC)
        last = self._last_day()
        first = max(
            _day(request, "startDate", last - timedelta(days=730)), self._first_day(listing)
        )
        rows = []
        for report in reports(listing, first, last, now):
            if report.eps is None:
                continue
            income = [
                {"dataCode": "revenue", "value": report.revenue},
                {"dataCode": "eps", "value": report.eps},
                {"dataCode": "netinc", "value": round(report.eps * listing.shares)},
            ]
            shares = [{"dataCode": "sharesBasic", "value": listing.shares}]
            rows.append(
                {
                    "date": report.period.isoformat(),
                    "quarter": report.quarter,
                    "year": report.year,
                    "statementData": {"incomeStatement": income, "balanceSheet": shares},
                }
            )
        return rows[::-1]

    def _search(self, request: Request) -> Any:
        text = request.path_params.get("query") or request.query_params.get("query", "")
        wanted = text.strip().upper()
        if not wanted:
            raise Refused(400, "Error: a query is needed")
        limit = min(_whole(request, "limit", 10), 100)
        rows = []
        for ticker, i in self._by_ticker.items():
            listing = self._market.listings[i]
            if not (ticker.startswith(wanted) or wanted in listing.name.upper()):
                continue
            # The better-known ones are listed in Canada too, under the same ticker.
            for country in ("CA", "US") if listing.symbol in DOW else ("US",):
                number = key(ticker, country, "perma") % 10**12
                rows.append(
                    {
                        "name": listing.name,
                        "ticker": ticker,
                        "permaTicker": f"{country}{number:012d}",
                        "openFIGIComposite": company(listing).figi if country == "US" else None,
                        "assetType": "ETF" if listing.kind == "etf" else "Stock",
                        "isActive": True,
                        "countryCode": country,
                    }
                )
        rows.sort(key=lambda row: row["ticker"] != wanted)
        return rows[:limit]

    def _stories(self, request: Request) -> Any:
        if not _paid(request):
            raise Refused(403, "You do not have permission to access the News API")
        now = self._clock.ms()
        tickers = _tickers(request)
        start = _ms(_day(request, "startDate", date(2015, 1, 1)))
        end = min(_ms(_day(request, "endDate", date(2099, 1, 1))) + DAY_MS, now + 1)
        limit, offset = min(_whole(request, "limit", 100), 1000), _whole(request, "offset", 0)
        symbols = [t.replace("-", ".") for t in tickers] if tickers else None
        return [_story(s) for s in self._news.stories(start, end, limit, symbols, offset)]

    def _bulk(self, _: Request) -> Any:
        raise Refused(403, "You do not have permission to access the News API")


def _tickers(request: Request) -> list[str]:
    """Return the tickers in the query, with commas between them or each by itself, in capitals."""
    text = ",".join(request.query_params.getlist("tickers"))
    return [ticker.strip().upper() for ticker in text.split(",") if ticker.strip()]


def _token(request: Request) -> str:
    """Return the token of a request, from its header or its query; any that is not empty will do."""
    header = request.headers.get("authorization")
    if header is None and "token" not in request.query_params:
        raise Refused(401, "Please supply a token")
    scheme, _, token = (header or "").partition(" ")
    token = token.strip() if scheme.lower() == "token" else ""
    token = token or request.query_params.get("token", "").strip()
    if not token:
        raise Refused(401)
    return token


def _paid(request: Request) -> bool:
    return _token(request).startswith("paid")


async def _redirected(request: Request) -> Response:
    query = f"?{request.url.query}" if request.url.query else ""
    return Response(status_code=301, headers={"Location": f"{request.url.path}/{query}"})


def _nowhere(_: Request) -> Any:
    raise Refused(404)


def _iex_row(ticker: str, i: int, quotes: Quotes, *, agreed: bool) -> Row:
    """Return one row; bid, ask and last sale are for those who signed with IEX."""
    last, at = float(quotes.last[i]), _stamp(ticker, quotes)
    bid, ask = float(quotes.bid[i]), float(quotes.ask[i])
    row: Row = {
        "ticker": ticker,
        "timestamp": at,
        "lastSaleTimestamp": at if agreed else None,
        "quoteTimestamp": at if agreed else None,
        "open": float(quotes.open[i]),
        "high": float(quotes.high[i]),
        "low": float(quotes.low[i]),
        "mid": round((bid + ask) / 2, 4) if agreed else None,
        "tngoLast": last,
        "last": last if agreed else None,
        "lastSize": int(quotes.last_size[i]) if agreed else None,
        "bidSize": int(quotes.bid_size[i]) * 100 if agreed else None,
        "bidPrice": bid if agreed else None,
        "askPrice": ask if agreed else None,
        "askSize": int(quotes.ask_size[i]) * 100 if agreed else None,
        "volume": int(quotes.volume[i]),
        "prevClose": float(quotes.previous_close[i]),
    }
    return row


def _equity_row(ticker: str, i: int, quotes: Quotes) -> Row:
    """Return one row of the beta; its volume is a part of the tape only, though it does not say so."""
    last, bid, ask = float(quotes.last[i]), float(quotes.bid[i]), float(quotes.ask[i])
    liquid = fraction(ticker, "liquid") > 0.05
    return {
        "ticker": ticker,
        "timestamp": _stamp(ticker, quotes),
        "open": float(quotes.open[i]),
        "high": float(quotes.high[i]),
        "low": float(quotes.low[i]),
        "tngoLast": last,
        "prevClose": float(quotes.previous_close[i]),
        "volume": float(round(int(quotes.volume[i]) * TAPE_PART)),
        "lqSpread": round((ask - bid) / last, 6) if liquid else None,
        "lqBidPrice": bid if liquid else None,
        "lqBidSize": int(quotes.bid_size[i]) * 100 if liquid else None,
        "lqRefPrice": last,
        "lqAskPrice": ask if liquid else None,
        "lqAskSize": int(quotes.ask_size[i]) * 100 if liquid else None,
    }


def _stamp(ticker: str, quotes: Quotes) -> str:
    """Return a time as Tiingo writes it: New York's with nanoseconds, or the close in UTC."""
    at = quotes.at
    if quotes.moment.frozen:
        return f"{_iso(at + STEP_MS)}+00:00"
    local = datetime.fromtimestamp(at / 1000, NEW_YORK)
    fine = key(ticker, at) % 10**9
    offset = local.strftime("%z")
    return f"{local:%Y-%m-%dT%H:%M:%S}.{fine:09d}{offset[:3]}:{offset[3:]}"


def _regular(candles: Candles, market: Market) -> Candles:
    places = [market.times.locate(at) for at in candles.at.tolist()]
    hours = {day: market.times.regular(day) for day, _ in set(places)}
    within = [hours[d][0] * STEPS <= point < hours[d][1] * STEPS for d, point in places]
    return candles.taken(np.array(within, dtype=np.bool_))


def _longer(rows: list[Row], frequency: str) -> list[Row]:
    """Return daily rows as weeks, months or years, each stamped with its last day."""

    def group(row: Row) -> tuple[int, ...]:
        day = date.fromisoformat(row["date"])
        match frequency:
            case "weekly":
                return day.isocalendar()[:2]
            case "monthly":
                return day.year, day.month
            case "annually":
                return (day.year,)
            case "daily":
                return (day.toordinal(),)
        raise Refused(400, "Error: resampleFreq must be daily, weekly, monthly or annually")

    groups: dict[tuple[int, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(group(row), []).append(row)
    merged = []
    for members in groups.values():
        first, last = members[0], members[-1]
        row = dict(last)
        for name, pick in (("high", "High"), ("low", "Low")):
            choose = max if name == "high" else min
            row[name] = choose(member[name] for member in members)
            row[f"adj{pick}"] = choose(member[f"adj{pick}"] for member in members)
        row |= {"open": first["open"], "adjOpen": first["adjOpen"]}
        for name in ("volume", "adjVolume", "divCash"):
            row[name] = sum(member[name] for member in members)
        merged.append(row)
    return merged


def _columns(request: Request, usual: Sequence[str]) -> list[str]:
    text = request.query_params.get("columns", "")
    named = [name.strip() for name in text.split(",") if name.strip()]
    known = {*usual, "open", "high", "low", "close", "volume"}
    return [name for name in named if name in known] or list(usual)


def _day(request: Request, name: str, usual: date | None) -> date:
    text = request.query_params.get(name)
    if not text:
        return usual or date(1990, 1, 1)
    try:
        day = date.fromisoformat(text[:10])
    except ValueError:
        raise Refused(400, f"Error: {name} must be a date, as 2026-11-24") from None
    return min(max(day, date(1990, 1, 1)), date(2099, 1, 1))


def _ordinal(request: Request, name: str, usual: int) -> int:
    return _day(request, name, date.fromordinal(usual + 1)).toordinal() - 1


def _whole(request: Request, name: str, usual: int) -> int:
    text = request.query_params.get(name)
    if not text:
        return usual
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Refused(400, f"Error: {name} must be a whole number")
    return int(text)


def _story(story: Story) -> Row:
    host = story.url.split("/")[2]
    return {
        "id": story.id,
        "title": story.headline,
        "url": story.url,
        "description": story.summary,
        "publishedDate": f"{_iso(story.at)}Z",
        "crawlDate": f"{_iso(story.updated)}.{story.id % 10**6:06d}Z",
        "source": host,
        "tickers": [spelled(symbol, Tiingo.name).lower() for symbol in story.symbols],
        "tags": [word.title() for word in story.keywords],
    }


def _iso(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000


def _written(rows: list[Row]) -> bytes:
    """Return rows as CSV, with the names first."""
    out = io.StringIO()
    if rows:
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return out.getvalue().encode()


def _dumped(answer: object) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode()
