"""Finnhub's door: quotes, companies, news, analysts, earnings and hours; candles for those who pay.

A key that begins with `paid` has the paid plan, any other the free one: it gets 403 for candles, a year
of company news and a month of earnings either way.  Doubled slashes in a path are as good as one.
"""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from actors.domain import calendar
from sandbox.candles import Candles
from sandbox.clock import Clock
from sandbox.company import Report, company, market_cap, opinions, payout, reports
from sandbox.days import NEW_YORK, STEP_MS
from sandbox.gate import Headers
from sandbox.listing import Listing, fraction
from sandbox.market import Market
from sandbox.news import News, Story

MILLION = 1e6
DAY_MS = 86_400_000
MONTH_MS = 31 * DAY_MS  # of minutes one answer holds no more
DAY_YEARS = 25  # how far back days go
MOST_REPORTS = 1500  # an answer with more is cut, and what is oldest is gone
ENOUGH = timedelta(days=400)  # of all companies: so many days fill an answer
MOST_GENERAL = 100  # stories of the market's news
FREE_NEWS = timedelta(days=365)
FREE_EARNINGS = timedelta(days=31)
MONTHS = 4  # of analysts' opinions
QUARTERS = 4  # of surprises: what the free plan goes back
LATEST = 4_102_444_800  # 2100, in seconds

TEXTS = {
    400: "Bad request",
    401: "Invalid API key",
    403: "You don't have access to this resource.",
    404: "Not found",
    422: "Wrong parameters",
    429: "API limit reached. Please try again later. Remaining Limit: 0",
}
_MINUTES = {"1": 1, "5": 5, "15": 15, "30": 30, "60": 60}
_EXCHANGES = {
    "XNAS": "NASDAQ NMS - GLOBAL MARKET",
    "XNYS": "NEW YORK STOCK EXCHANGE, INC.",
    "ARCX": "NYSE ARCA",
}
_HOLIDAYS = {  # by month; January has two
    2: "Washington's Birthday",
    3: "Good Friday",
    4: "Good Friday",
    5: "Memorial Day",
    6: "Juneteenth",
    7: "Independence Day",
    9: "Labor Day",
    11: "Thanksgiving Day",
    12: "Christmas",
}


class Refused(Exception):
    """A request is answered with one of Finnhub's errors."""

    def __init__(self, status: int, text: str | None = None) -> None:
        super().__init__(status, text)
        self.status, self.text = status, text


def error_answer(status: int) -> tuple[bytes, Headers]:
    """Return what Finnhub says with an error status."""
    return _dumped({"error": TEXTS.get(status, "Internal server error")}), [
        (b"content-type", b"application/json; charset=utf-8")
    ]


class Finnhub:
    """Finnhub, as far as the sandbox speaks for it."""

    name = "finnhub"
    error_answer = staticmethod(error_answer)

    def __init__(self, market: Market, clock: Clock) -> None:
        self._market, self._clock, self._news = market, clock, News(market)
        self._by_symbol = {
            row.symbol: i for i, row in enumerate(market.listings) if row.kind != "index"
        }
        self._table: dict[str, Callable[[Request], Any]] = {
            "quote": self._quote,
            "stock/candle": self._candle,
            "stock/profile2": self._profile,
            "stock/metric": self._metric,
            "stock/recommendation": self._recommendation,
            "stock/earnings": self._surprises,
            "stock/peers": self._peers,
            "stock/market-status": self._status,
            "stock/market-holiday": self._holidays,
            "stock/symbol": self._symbols,
            "calendar/earnings": self._earnings,
            "company-news": self._company_news,
            "news": self._general_news,
            "search": self._search,
        }

    def routes(self) -> Mount:
        """Return everything under /finnhub."""
        return Mount("/finnhub", routes=[Route("/{rest:path}", self._answered, methods=["GET"])])

    async def _answered(self, request: Request) -> Response:
        status = 200
        try:
            parts = [part for part in request.path_params["rest"].split("/") if part]
            if not _key(request):
                raise Refused(401, "Please use an API key.")
            answer = self._table.get("/".join(parts[2:])) if parts[:2] == ["api", "v1"] else None
            if answer is None:
                raise Refused(404)
            body = _dumped(answer(request))
        except Refused as error:
            status = error.status
            body = _dumped({"error": error.text or TEXTS.get(status, "Error")})
        return Response(body, status, headers={"Content-Type": "application/json; charset=utf-8"})

    def _listing(self, request: Request) -> tuple[str, Listing | None]:
        """Return the symbol asked for, and what is listed under it."""
        symbol = request.query_params.get("symbol", "").strip().upper()
        if not symbol:
            raise Refused(422)
        i = self._by_symbol.get(symbol)
        return symbol, None if i is None else self._market.listings[i]

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.ms() / 1000, UTC)

    def _today(self) -> date:
        return self._now().astimezone(NEW_YORK).date()

    def _price(self, listing: Listing) -> float:
        i = self._by_symbol[listing.symbol]
        return float(self._market.quotes(self._clock.ms()).last[i])

    def _quote(self, request: Request) -> Any:
        symbol, listing = self._listing(request)
        if listing is None:
            nothing: dict[str, Any] = {"c": 0, "d": None, "dp": None}
            return nothing | {"h": 0, "l": 0, "o": 0, "pc": 0, "t": 0}
        i, quotes = self._by_symbol[symbol], self._market.quotes(self._clock.ms())
        last, previous = float(quotes.last[i]), float(quotes.previous_close[i])
        # After the close its time is the close itself: 20:00Z or 21:00Z.
        at = quotes.at + (STEP_MS if quotes.moment.frozen else 0)
        return {
            "c": last,
            "d": round(last - previous, 4),
            "dp": round((last - previous) / previous * 100, 4),
            "h": float(quotes.high[i]),
            "l": float(quotes.low[i]),
            "o": float(quotes.open[i]),
            "pc": previous,
            "t": at // 1000,
        }

    def _candle(self, request: Request) -> Any:
        if not _paid(request):
            raise Refused(403)
        symbol, listing = self._listing(request)
        resolution = request.query_params.get("resolution", "")
        start, end = _seconds(request, "from") * 1000, _seconds(request, "to") * 1000
        if resolution not in {*_MINUTES, "D", "W", "M"}:
            raise Refused(422)
        now = self._clock.ms()
        end = min(end, now)
        if listing is None or start > end:
            return {"s": "no_data"}
        if minutes := _MINUTES.get(resolution):
            start = max(start, end - MONTH_MS)
            candles = self._market.minutes(symbol, start, end + 1, now)
            length = minutes * 60_000
            candles = candles.grouped(candles.at // length)
            candles = candles.stamped(candles.at // length * length)
        else:
            candles = self._days(symbol, start, end, resolution)
        if not len(candles):
            return {"s": "no_data"}
        prices = {
            "c": candles.close.tolist(),
            "h": candles.high.tolist(),
            "l": candles.low.tolist(),
            "o": candles.open.tolist(),
        }
        at = (candles.at // 1000).tolist()
        return prices | {"s": "ok", "t": at, "v": candles.volume.tolist()}

    def _days(self, symbol: str, start: int, end: int, resolution: str) -> Candles:
        """Return days, weeks or months, stamped at 00:00Z of the first date of each."""
        now = self._clock.ms()
        start = max(start, now - DAY_YEARS * 365 * DAY_MS)
        first = _date(start + DAY_MS - 1)  # a day that began before `start` is not asked for
        candles = self._market.days(symbol, first, _date(max(end, start)), now)
        dates = [datetime.fromtimestamp(at / 1000, NEW_YORK).date() for at in candles.at.tolist()]
        if resolution == "W":
            dates = [day - timedelta(days=day.weekday()) for day in dates]
        elif resolution == "M":
            dates = [day.replace(day=1) for day in dates]
        grouped = candles.grouped(np.array([day.toordinal() for day in dates], dtype=np.int64))
        return grouped.stamped(np.array([_ms(day) for day in sorted(set(dates))], dtype=np.int64))

    def _profile(self, request: Request) -> Any:
        if not request.query_params.get("symbol") and (
            request.query_params.get("isin") or request.query_params.get("cusip")
        ):
            return {}
        symbol, listing = self._listing(request)
        if (
            listing is None or listing.kind != "stock"
        ):  # funds have a profile of their own, elsewhere
            return {}
        facts = company(listing)
        return {
            "country": facts.country,
            "currency": "USD",
            "estimateCurrency": "USD",
            "exchange": _EXCHANGES[facts.mic],
            "finnhubIndustry": facts.industry or "N/A",
            "ipo": facts.listed.isoformat(),
            "logo": f"https://images.example.com/logo/{symbol}.png",
            "marketCapitalization": market_cap(listing, self._price(listing)) / MILLION,
            "name": listing.name,
            "phone": facts.phone,
            "shareOutstanding": facts.shares / MILLION,
            "ticker": symbol,
            "weburl": facts.website,
        }

    def _metric(self, request: Request) -> Any:
        symbol, listing = self._listing(request)
        told: dict[str, Any] = {"metric": {}, "metricType": "all", "series": {}, "symbol": symbol}
        if listing is None:
            return told
        i, quotes = self._by_symbol[symbol], self._market.quotes(self._clock.ms())
        year, price = self._market.year(quotes.moment.day), float(quotes.last[i])
        average_10, average = year.averages(i)
        paid_out, facts = payout(listing, self._today()), company(listing)
        figures: dict[str, float] = {
            "10DayAverageTradingVolume": round(average_10 / MILLION, 5),
            "3MonthAverageTradingVolume": round(average / MILLION, 5),
            "52WeekHigh": float(max(year.high[i], quotes.high[i])),
            "52WeekLow": float(min(year.low[i], quotes.low[i])),
            "beta": facts.beta,
        }
        if paid_out.yearly:
            figures["currentDividendYieldTTM"] = round(paid_out.percent(price), 4)
            figures["dividendPerShareTTM"] = paid_out.yearly
        if listing.kind == "stock":
            figures["marketCapitalization"] = market_cap(listing, price) / MILLION
            figures["epsTTM"] = paid_out.eps
            figures["peTTM"] = round(price / paid_out.eps, 4)
            figures["revenuePerShareTTM"] = round((facts.revenue or 0) / facts.shares, 4)
            told["series"] = {"annual": {}, "quarterly": {"eps": self._history(listing)}}
            if fraction(symbol, "metric") < 0.1:  # keys vary from company to company
                del figures["beta"]
        return told | {"metric": figures}

    def _history(self, listing: Listing) -> list[dict[str, Any]]:
        return [
            {"period": report.period.isoformat(), "v": report.eps}
            for report in self._past(listing, 8)
        ]

    def _past(self, listing: Listing, count: int) -> list[Report]:
        """Return the last reports that are out, the newest first."""
        if count < 1:
            return []
        now, today = self._now(), self._today()
        found = reports(listing, today - timedelta(days=100 * count), today, now)
        return [report for report in found if report.eps is not None][::-1][:count]

    def _recommendation(self, request: Request) -> Any:
        symbol, listing = self._listing(request)
        if listing is None or listing.kind != "stock":
            return []
        rows, month = [], self._today().replace(day=1)
        for _ in range(MONTHS):
            told = opinions(listing, month)
            rows.append(
                {
                    "buy": told.buy,
                    "hold": told.hold,
                    "period": month.isoformat(),
                    "sell": told.sell,
                    "strongBuy": told.strong_buy,
                    "strongSell": told.strong_sell,
                    "symbol": symbol,
                }
            )
            month = (month - timedelta(days=1)).replace(day=1)
        return rows

    def _surprises(self, request: Request) -> Any:
        symbol, listing = self._listing(request)
        if listing is None:
            return []
        rows, limit = [], _whole(request.query_params.get("limit") or str(QUARTERS))
        for report in self._past(listing, min(limit, QUARTERS)):
            surprise = (report.eps or 0.0) - report.eps_estimate
            rows.append(
                {
                    "actual": report.eps,
                    "estimate": report.eps_estimate,
                    "period": report.period.isoformat(),
                    "quarter": report.quarter,
                    "surprise": round(surprise, 4),
                    "surprisePercent": round(surprise / report.eps_estimate * 100, 4),
                    "symbol": symbol,
                    "year": report.year,
                }
            )
        return rows

    def _peers(self, request: Request) -> Any:
        symbol, listing = self._listing(request)
        if listing is None or listing.kind != "stock":
            return []
        industry = company(listing).industry
        stocks = [row for row in self._market.listings if row.kind == "stock"]
        rows = [row for row in stocks if company(row).industry == industry]
        return [symbol, *(row.symbol for row in rows if row.symbol != symbol)][:10]

    def _earnings(self, request: Request) -> Any:
        today, now = self._today(), self._now()
        first = _day(request, "from", today)
        last = _day(request, "to", first + timedelta(days=7))
        if not _paid(request):
            first, last = max(first, today - FREE_EARNINGS), min(last, today + FREE_EARNINGS)
        symbol = request.query_params.get("symbol", "").strip().upper()
        if not symbol:
            first = max(first, last - ENOUGH)
        chosen = [r for r in self._market.listings if symbol in ("", r.symbol)]
        found = [report for row in chosen for report in reports(row, first, last, now)]
        found.sort(key=lambda report: (report.day, report.symbol), reverse=True)
        rows = [
            {
                "date": report.day.isoformat(),
                "epsActual": report.eps,
                "epsEstimate": report.eps_estimate,
                "hour": report.hour,
                "quarter": report.quarter,
                "revenueActual": report.revenue,
                "revenueEstimate": report.revenue_estimate,
                "symbol": report.symbol,
                "year": report.year,
            }
            for report in found[:MOST_REPORTS]
        ]
        return {"earningsCalendar": rows}

    def _company_news(self, request: Request) -> Any:
        symbol, listing = self._listing(request)
        first, last = _day(request, "from"), _day(request, "to")
        if not _paid(request):
            first = max(first, self._today() - FREE_NEWS)
        if listing is None:
            return []
        end = min(_ms(last) + DAY_MS, self._clock.ms() + 1)
        stories = self._news.stories(_ms(first), end, 10_000, [symbol])
        return [_story(story, "company", symbol) for story in stories]

    def _general_news(self, request: Request) -> Any:
        category = request.query_params.get("category", "")
        if category not in {"general", "forex", "crypto", "merger"}:
            raise Refused(422)
        if category != "general":
            return []
        after = _whole(request.query_params.get("minId", "0"))
        now = self._clock.ms()
        stories = self._news.stories(now - 7 * DAY_MS, now + 1, MOST_GENERAL)
        return [_story(story, "top news", "") for story in stories if story.id > after]

    def _search(self, request: Request) -> Any:
        text = request.query_params.get("q", "").strip().upper()
        if not text:
            raise Refused(422)
        rows = [
            {
                "description": row.name.upper(),
                "displaySymbol": row.symbol,
                "symbol": row.symbol,
                "type": _kind(row),
            }
            for row in map(self._market.listings.__getitem__, self._by_symbol.values())
            if row.symbol.startswith(text) or text in row.name.upper()
        ]
        rows.sort(key=lambda row: (row["symbol"] != text, row["symbol"]))
        return {"count": len(rows), "result": rows}

    def _symbols(self, request: Request) -> Any:
        if _exchange(request) != "US":
            return []
        rows = [self._market.listings[i] for i in self._by_symbol.values()]
        return [
            {
                "currency": "USD",
                "description": row.name.upper(),
                "displaySymbol": row.symbol,
                "figi": company(row).figi,
                "isin": None,
                "mic": company(row).mic,
                "shareClassFIGI": company(row).figi,
                "symbol": row.symbol,
                "symbol2": "",
                "type": _kind(row),
            }
            for row in rows
        ]

    def _status(self, request: Request) -> Any:
        _exchange(request)
        now = self._now().astimezone(NEW_YORK)
        found = calendar.session(now.date())
        session, holiday = None, None
        if found is None:
            holiday = _holiday(now.date()) if now.weekday() < 5 else None
        elif found.opens <= now < found.closes:
            session = "regular"
        elif now.hour >= 4 and now < found.opens:
            session = "pre-market"
        elif found.closes <= now < found.closes + timedelta(hours=4):
            session = "post-market"
        return {
            "exchange": "US",
            "holiday": holiday,
            "isOpen": session == "regular",
            "session": session,
            "t": self._clock.ms() // 1000,
            "timezone": "America/New_York",
        }

    def _holidays(self, request: Request) -> Any:
        _exchange(request)
        year = self._today().year
        first = max(date(year - 1, 1, 1), date(calendar.FIRST_YEAR, 1, 1))
        rows = []
        for ordinal in range(first.toordinal(), date(year + 2, 1, 1).toordinal()):
            day = date.fromordinal(ordinal)
            session = calendar.session(day)
            if day.weekday() >= 5 or (
                session and session.closes.astimezone(NEW_YORK).time() == calendar.CLOSES
            ):
                continue
            rows.append(
                {
                    "atDate": day.isoformat(),
                    "eventName": _holiday(day),
                    "tradingHour": "09:30-13:00" if session else "",
                }
            )
        return {"data": rows[::-1], "exchange": "US", "timezone": "America/New_York"}


def _key(request: Request) -> str:
    header = request.headers.get("x-finnhub-token", "")
    return (header or request.query_params.get("token", "")).strip()


def _paid(request: Request) -> bool:
    return _key(request).startswith("paid")


def _exchange(request: Request) -> str:
    exchange = request.query_params.get("exchange", "")
    if not exchange:
        raise Refused(422)
    return exchange


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise Refused(422) from None


def _seconds(request: Request, name: str) -> int:
    value = _whole(request.query_params.get(name, ""))
    return min(max(value, 0), LATEST)


def _day(request: Request, name: str, usual: date | None = None) -> date:
    text = request.query_params.get(name)
    try:
        day = date.fromisoformat(text or "") if text or usual is None else usual
    except ValueError:
        raise Refused(422) from None
    if not date(1990, 1, 1) <= day <= date(2099, 1, 1):
        raise Refused(422)
    return day


def _date(at: int) -> date:
    return datetime.fromtimestamp(at / 1000, UTC).date()


def _ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000


def _kind(listing: Listing) -> str:
    return "ETP" if listing.kind == "etf" else "Common Stock"


def _holiday(day: date) -> str:
    if day.month == 1:
        return "New Year's Day" if day.day < 9 else "Birthday of Martin Luther King, Jr"
    return _HOLIDAYS.get(day.month, "Special closure")


def _story(story: Story, category: str, related: str) -> dict[str, Any]:
    return {
        "category": category,
        "datetime": story.at // 1000,
        "headline": story.headline,
        "id": story.id,
        "image": story.image,
        "related": related,
        "source": story.publisher,
        "summary": story.summary,
        "url": story.url,
    }


def _dumped(answer: object) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode()
