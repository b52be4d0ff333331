"""Finnhub: the earnings calendar, analysts, profiles, news and hours; quotes of one symbol at a time.

Vendor reference: finnhub.io/docs/api and the OpenAPI file of its Go client.  Zeros stand for "unknown",
money is in millions, times are in seconds; bars are for paying customers.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, ClassVar, Self
from zoneinfo import ZoneInfo

from actors.domain.models import (
    Bar,
    BarPage,
    Earnings,
    Profile,
    Quote,
    QuoteBatch,
    Recommendations,
    Session,
    Story,
    Timeframe,
)
from actors.domain.symbols import normalise, spelled
from actors.providers.base import Denied, Malformed, ProviderError, RateLimited, Unsupported
from actors.providers.http import Tools, Wire
from actors.providers.values import count, day_of, mapping, moment, number, rows, told, traded
from actors.providers.vendor import Kind
from actors.settings import Settings

VENDOR = "finnhub"
API = "/api/v1"
NEW_YORK = ZoneInfo("America/New_York")
OPENS, CLOSES = time(9, 30), time(16)
MILLION = 1e6
WEEK = timedelta(days=7)
INTRADAY = timedelta(days=30)  # of minutes one answer holds no more than a month
FULL = 1500  # rows of earnings; an answer of so many may have been cut
NEWS_DAYS = 365  # what the free plan goes back
RESOLUTIONS = {Timeframe.MINUTE: "1", Timeframe.FIVE_MINUTES: "5", Timeframe.DAY: "D"}
HOURS = frozenset({"bmo", "amc", "dmh"})
SATURDAY = 5


class Finnhub:
    """One symbol a request for everything but the calendar of earnings."""

    name: ClassVar = VENDOR
    needs: ClassVar = ("FINNHUB_API_KEY",)
    sells: ClassVar = frozenset(
        {
            Kind.QUOTES,
            Kind.BARS,
            Kind.PROFILE,
            Kind.NEWS,
            Kind.RECOMMENDATIONS,
            Kind.EARNINGS,
            Kind.HOURS,
        }
    )
    limits: ClassVar = "60/min 30/s"
    batch: ClassVar = 1
    bars_batch: ClassVar = 1
    login_expires_at: ClassVar = None

    def __init__(self, key: str, base_url: str, limits: str, tools: Tools) -> None:
        self.limiter = tools.limiter(VENDOR, limits)
        self._now = tools.now
        self._headers = {"X-Finnhub-Token": key}
        self._wire = Wire(VENDOR, base_url, self.limiter, tools)
        self._wire.hide(key=key)

    @classmethod
    def of(cls, settings: Settings, tools: Tools) -> Self | None:
        """Return the vendor made from the settings, or None when its key is not set."""
        key = settings.finnhub_api_key
        if key is None:
            return None
        limits = settings.limits_of(VENDOR, cls.limits)
        return cls(key.get_secret_value(), settings.finnhub_base_url, limits, tools)

    async def open(self) -> None:
        """Nothing is left of an earlier life."""

    async def close(self) -> None:
        """Give back every connection."""
        await self._wire.close()

    async def quotes(self, symbols: Sequence[str], deadline: float) -> QuoteBatch:
        """Return one symbol's prices; Finnhub tells no volume, no bid and no ask."""
        [symbol] = symbols
        body = await self._get("/quote", {"symbol": spelled(symbol, VENDOR)}, deadline)
        return parse_quote(body, symbol)

    async def bars(
        self,
        symbols: Sequence[str],
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        deadline: float,
        page: str | None = None,
    ) -> BarPage:
        """Return one symbol's bars, a month of minutes a page; days are adjusted for splits."""
        [symbol] = symbols
        begin = datetime.fromisoformat(page) if page else start
        until = end if timeframe is Timeframe.DAY else min(end, begin + INTRADAY)
        if begin >= until:
            return BarPage(())
        query = build_bars(symbol, timeframe, begin, until)
        bars = parse_bars(await self._get("/stock/candle", query, deadline), symbol, timeframe)
        rest = until.isoformat() if until < end else None
        return BarPage(tuple(bar for bar in bars if begin <= bar.at < until), rest)

    async def profile(self, symbol: str, deadline: float) -> Profile | None:
        """Return what the company is, from its profile and its metrics; of a fund the latter only."""
        query = {"symbol": spelled(symbol, VENDOR)}
        profile = await self._get("/stock/profile2", query, deadline)
        metric = await self._get("/stock/metric", query | {"metric": "all"}, deadline)
        return parse_profile(profile, metric, symbol, self._now())

    async def news(
        self, symbols: Sequence[str], since: datetime, limit: int, deadline: float
    ) -> tuple[Story, ...]:
        """Return the newest stories first: of each symbol by a request, or the general ones."""
        if not symbols:
            stories = parse_news(await self._get("/news", {"category": "general"}, deadline))
        else:
            today = self._now().date()
            first = max(since.astimezone(UTC).date(), today - timedelta(days=NEWS_DAYS))
            window = {"from": first.isoformat(), "to": today.isoformat()}
            stories = ()
            for symbol in symbols:
                query = {"symbol": spelled(symbol, VENDOR)} | window
                stories += parse_news(await self._get("/company-news", query, deadline), symbol)
        return newest(stories, since, limit)

    async def recommendations(self, symbol: str, deadline: float) -> tuple[Recommendations, ...]:
        """Return the analysts' opinions, the newest month first."""
        query = {"symbol": spelled(symbol, VENDOR)}
        return parse_recommendations(
            await self._get("/stock/recommendation", query, deadline), symbol
        )

    async def earnings(
        self, first: date, last: date, deadline: float, symbol: str | None = None
    ) -> tuple[Earnings, ...]:
        """Return the reports of [first, last], oldest first; of all companies by a request a week."""
        found: tuple[Earnings, ...] = ()
        if symbol:
            found = await self._earnings(first, last, deadline, symbol)
        else:
            while first <= last:
                until = min(first + WEEK - timedelta(days=1), last)
                found += await self._earnings(first, until, deadline)
                first = until + timedelta(days=1)
        # By report: what was cut and asked for again overlaps at nothing, but a vendor may repeat itself.
        unique = {(row.symbol, row.day): row for row in found}
        return tuple(sorted(unique.values(), key=lambda row: (row.day, row.symbol)))

    async def hours(self, first: date, last: date, deadline: float) -> tuple[Session, ...]:
        """Return the regular sessions of [first, last]: its weekdays less the holidays that are told."""
        body = await self._get("/stock/market-holiday", {"exchange": "US"}, deadline)
        return parse_hours(body, first, last)

    async def _earnings(
        self, first: date, last: date, deadline: float, symbol: str | None = None
    ) -> tuple[Earnings, ...]:
        query = {"from": first.isoformat(), "to": last.isoformat()}
        if symbol:
            query["symbol"] = spelled(symbol, VENDOR)
        body = await self._get("/calendar/earnings", query, deadline)
        if first < last and _rows_of_earnings(body) >= FULL:
            middle = first + (last - first) // 2
            earlier = await self._earnings(first, middle, deadline, symbol)
            later = middle + timedelta(days=1)
            return earlier + await self._earnings(later, last, deadline, symbol)
        found = parse_earnings(body)
        return tuple(
            row for row in found if first <= row.day <= last and symbol in (None, row.symbol)
        )

    async def _get(self, path: str, params: Mapping[str, str], deadline: float) -> Any:
        return await self._wire.request(
            "GET",
            API + path,
            deadline=deadline,
            params=params,
            headers=self._headers,
            refusal=refusal,
            amiss=refusal,
        )


# --- pure: what to ask -------------------------------------------------------------------------------


def build_bars(symbol: str, timeframe: Timeframe, start: datetime, end: datetime) -> dict[str, str]:
    """Return the query for one symbol's bars that start in [start, end); both ends are inclusive there."""
    return {
        "symbol": spelled(symbol, VENDOR),
        "resolution": RESOLUTIONS[timeframe],
        "from": str(int(start.timestamp())),
        "to": str(int(end.timestamp()) - 1),
    }


# --- pure: what was answered -------------------------------------------------------------------------


def refusal(status: int, body: Any) -> ProviderError | None:
    """Read Finnhub's own words, which may come with any status; None leaves it to the status."""
    match body:
        case {"error": str(words)} if words:
            text = words.lower()
            if status == 429 or "limit" in text:
                return RateLimited(VENDOR, f"too many requests ({status})")
            if "api key" in text or status == 401:
                return Denied(VENDOR, f"the key was refused ({status})")
            if "access" in text or status == 403:
                return Unsupported(VENDOR, f"its plan does not include that ({status})")
            if status == 200:
                return Malformed(VENDOR, "answered 200 with an error")
    return None


def parse_quote(body: Any, symbol: str) -> QuoteBatch:
    """Return the one quote of an answer; zeros throughout mean that there is no such symbol."""
    body = mapping(VENDOR, body, "quote")
    if "c" not in body:
        raise Malformed(VENDOR, "a quote without a price")
    last, previous = traded(body["c"]), traded(body.get("pc"))
    at = moment(body.get("t"), per_second=1)
    if last is None and previous is None:
        if body["c"] == 0:
            return QuoteBatch((), unknown=(symbol,))
        return QuoteBatch((), failed=((symbol, "there is no price in it"),))
    if at is None:
        return QuoteBatch((), failed=((symbol, "it has no time"),))
    quote = Quote(
        symbol=symbol,
        at=at,
        source=VENDOR,
        last=last,
        open=traded(body.get("o")),
        high=traded(body.get("h")),
        low=traded(body.get("l")),
        previous_close=previous,
        change=number(body.get("d")),
        change_percent=number(body.get("dp")),
    )
    return QuoteBatch((quote,))


def parse_bars(body: Any, symbol: str, timeframe: Timeframe) -> tuple[Bar, ...]:
    """Return the bars of an answer in columns, oldest first; one without its four prices is left out."""
    body = mapping(VENDOR, body, "candles")
    if body.get("s") == "no_data":
        return ()
    if body.get("s") != "ok":
        raise Malformed(VENDOR, "candles whose status is neither ok nor no_data")
    columns = [rows(VENDOR, body.get(name), f"column {name}") for name in "tohlcv"]
    if len({len(column) for column in columns}) != 1:
        raise Malformed(VENDOR, "candles in columns of unlike length")
    found = {}
    for t, o, h, low_, c, v in zip(*columns, strict=True):
        at = moment(t, per_second=1)
        opened, high, low, close = (traded(value) for value in (o, h, low_, c))
        if at is None or not opened or not high or not low or not close or low > high:
            continue
        if timeframe is Timeframe.DAY:
            at = datetime.combine(at.date(), time(), UTC)
        found[at] = Bar(symbol, at, opened, high, low, close, count(v) or 0, VENDOR)
    if columns[0] and not found:
        raise Malformed(VENDOR, f"{len(columns[0])} candles, none of them readable")
    return tuple(found[at] for at in sorted(found))


def parse_profile(profile: Any, metric: Any, symbol: str, now: datetime) -> Profile | None:
    """Return what profile and metrics tell; None where both are empty, as for an unknown symbol.

    Money and shares are in millions there.  Market value is told in the company's currency, and is left
    out where that is not the dollar.
    """
    profile = mapping(VENDOR, profile, "profile")
    told_of = mapping(VENDOR, metric, "metrics").get("metric")
    figures = mapping(VENDOR, told_of, "metrics") if told_of is not None else {}
    if not profile and not figures:
        return None
    dollars = profile.get("currency") in (None, "USD")
    website = told(profile.get("weburl"))
    return Profile(
        symbol=symbol,
        at=now,
        source=VENDOR,
        name=told(profile.get("name")),
        exchange=told(profile.get("exchange")),
        industry=told(profile.get("finnhubIndustry")),
        country=told(profile.get("country")),
        website=website,
        listed=day_of(profile.get("ipo")),
        market_cap=_millions(profile.get("marketCapitalization")) if dollars else None,
        shares_outstanding=_millions(profile.get("shareOutstanding")),
        average_volume=_millions(figures.get("10DayAverageTradingVolume")),
        beta=number(figures.get("beta")) or None,
        pe=number(figures.get("peTTM")),
        eps=number(figures.get("epsTTM")),
        dividend_yield=number(figures.get("currentDividendYieldTTM")),
        high_52w=traded(figures.get("52WeekHigh")),
        low_52w=traded(figures.get("52WeekLow")),
    )


def parse_news(body: Any, symbol: str | None = None) -> tuple[Story, ...]:
    """Return the stories of an answer; one without a time, a headline or an address is left out."""
    return tuple(story for row in rows(VENDOR, body, "news") if (story := _story(row, symbol)))


def newest(stories: Sequence[Story], since: datetime, limit: int) -> tuple[Story, ...]:
    """Return the newest `limit` stories since a time, each once, with every symbol it was found by."""
    unique: dict[str, Story] = {}
    for story in stories:
        if story.at >= since:
            unique.setdefault(story.id, story)
    return tuple(sorted(unique.values(), key=lambda story: story.at, reverse=True)[:limit])


def parse_recommendations(body: Any, symbol: str) -> tuple[Recommendations, ...]:
    """Return the opinions by month, the newest first; a month without all its counts is left out."""
    found = {}
    for row in rows(VENDOR, body, "recommendations"):
        if not isinstance(row, Mapping) or (month := day_of(row.get("period"))) is None:
            continue
        month = month.replace(day=1)
        names = ("strongBuy", "buy", "hold", "sell", "strongSell")
        counts = [n for name in names if (n := count(row.get(name))) is not None]
        if len(counts) == len(names):
            found[month] = Recommendations(symbol, month, VENDOR, *counts)
    return tuple(found[month] for month in sorted(found, reverse=True))


def parse_earnings(body: Any) -> tuple[Earnings, ...]:
    """Return the reports of one answer as they come; one without a symbol or a date is left out."""
    table = mapping(VENDOR, body, "earnings calendar").get("earningsCalendar")
    return tuple(
        found for row in rows(VENDOR, table, "earnings calendar") if (found := _report(row))
    )


def parse_hours(body: Any, first: date, last: date) -> tuple[Session, ...]:
    """Return the sessions of [first, last]; `Unsupported` for years of which no holiday is told."""
    table = rows(VENDOR, mapping(VENDOR, body, "holidays").get("data"), "holidays")
    holidays = {}
    for row in table:
        if isinstance(row, Mapping) and (day := day_of(row.get("atDate"))):
            holidays[day] = row.get("tradingHour")
    if not holidays:
        raise Malformed(VENDOR, "a list of holidays without any")
    if first.year < min(holidays).year or last.year > max(holidays).year:
        raise Unsupported(
            VENDOR, f"it tells the holidays of {min(holidays).year} to {max(holidays).year} only"
        )
    sessions = []
    for ordinal in range(first.toordinal(), last.toordinal() + 1):
        day = date.fromordinal(ordinal)
        if day.weekday() < SATURDAY and (told_of := _stretch(holidays.get(day, ...))):
            opens, closes = (datetime.combine(day, at, NEW_YORK) for at in told_of)
            sessions.append(Session(day, opens.astimezone(UTC), closes.astimezone(UTC)))
    return tuple(sessions)


def _stretch(hours: Any) -> tuple[time, time] | None:
    """Return when a day trades: `...` is a plain one, "09:30-13:00" a short one, "" a holiday."""
    if hours is ...:
        return OPENS, CLOSES
    try:
        opens, closes = (
            time.fromisoformat(part.strip()).replace(tzinfo=None) for part in hours.split("-")
        )
    except (AttributeError, ValueError):
        return None
    return (opens, closes) if opens < closes else None


def _rows_of_earnings(body: Any) -> int:
    match body:
        case {"earningsCalendar": [*reports]}:
            return len(reports)
    return 0


def _report(row: Any) -> Earnings | None:
    if not isinstance(row, Mapping) or (day := day_of(row.get("date"))) is None:
        return None
    symbol = _symbol(row.get("symbol"))
    if symbol is None:
        return None
    hour = row.get("hour")
    return Earnings(
        symbol=symbol,
        day=day,
        source=VENDOR,
        hour=hour if isinstance(hour, str) and hour in HOURS else None,
        quarter=_between(row.get("quarter"), 1, 4),
        year=_between(row.get("year"), 1900, 2200),
        eps_estimate=number(row.get("epsEstimate")),
        eps_actual=number(row.get("epsActual")),
        revenue_estimate=number(row.get("revenueEstimate")),
        revenue_actual=number(row.get("revenueActual")),
    )


def _story(row: Any, symbol: str | None) -> Story | None:
    if not isinstance(row, Mapping):
        return None
    at, headline = moment(row.get("datetime"), per_second=1), told(row.get("headline"), 500)
    url = told(row.get("url"), 2000)
    if at is None or headline is None or url is None:
        return None
    related = row.get("related")
    named = related.split(",") if isinstance(related, str) else []
    symbols = [found for name in named if (found := _symbol(name))]
    return Story(
        id=str(count(row.get("id")) or url),
        at=at,
        source=VENDOR,
        headline=headline,
        url=url,
        publisher=told(row.get("source")),
        summary=told(row.get("summary"), 4000),
        symbols=tuple(dict.fromkeys([*symbols, symbol] if symbol else symbols)),
    )


def _symbol(text: Any) -> str | None:
    try:
        return normalise(text) if isinstance(text, str) else None
    except ValueError:  # of another country, or none at all
        return None


def _millions(value: Any) -> float | None:
    found = traded(value)
    return round(found * MILLION, 2) if found is not None else None


def _between(value: Any, low: int, high: int) -> int | None:
    found = count(value)
    return found if found is not None and low <= found <= high else None
