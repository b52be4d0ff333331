"""Tiingo: prices of a whole list in one request, bars, profiles, and news where the plan has it.

Vendor reference: tiingo.com/documentation.  It refuses with plain sentences, now and then with status
200; what it does not know it leaves out without a word; a path without its last slash is redirected.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any, ClassVar, Self

from actors.domain.models import Bar, BarPage, Profile, Quote, QuoteBatch, Story, Timeframe
from actors.domain.symbols import normalise, spelled
from actors.providers.base import (
    Denied,
    Malformed,
    ProviderError,
    RateLimited,
    Unavailable,
    Unsupported,
)
from actors.providers.http import Tools, Wire
from actors.providers.values import (
    count,
    day_of,
    mapping,
    moment_of,
    number,
    or_long_ago,
    price,
    rows,
    told,
    traded,
)
from actors.providers.vendor import Kind
from actors.settings import Settings

VENDOR = "tiingo"
AFTER_AN_HOUR = 900.0  # seconds; allowances of an hour come back at the full hour
AFTER_LONGER = 3600.0
# Minutes come as the newest 2,000 of a window: these hold fewer, at 390 minutes a session.
WINDOWS = {Timeframe.MINUTE: timedelta(days=7), Timeframe.FIVE_MINUTES: timedelta(days=35)}
SAMPLES = {Timeframe.MINUTE: "1min", Timeframe.FIVE_MINUTES: "5min"}
COLUMNS = "open,high,low,close,volume"  # volume comes only where it is named
FUNDAMENTAL_DAYS = 14  # so that a few holidays leave one
MOST_NEWS = 1000


class NoSuchTicker(Unsupported):
    """Tiingo does not know the ticker in the path."""


class Tiingo:
    """Quotes of a list at once, and bars of one symbol."""

    name: ClassVar = VENDOR
    needs: ClassVar = ("TIINGO_API_KEY",)
    sells: ClassVar = frozenset({Kind.QUOTES, Kind.BARS, Kind.PROFILE, Kind.NEWS})
    limits: ClassVar = "50/h 1000/day 1GB/month 500symbols/month"
    # A list has no end but the 8 kB that gateways take of a request's first line: 14 bytes each, of
    # a symbol of 11 characters and "%2C".
    batch: ClassVar = 560
    bars_batch: ClassVar = 1
    login_expires_at: ClassVar = None

    def __init__(self, key: str, base_url: str, limits: str, tools: Tools) -> None:
        self.limiter = tools.limiter(VENDOR, limits)
        self._now = tools.now
        self._headers = {"Authorization": f"Token {key}"}
        self._wire = Wire(VENDOR, base_url, self.limiter, tools)
        self._wire.hide(key=key)

    @classmethod
    def of(cls, settings: Settings, tools: Tools) -> Self | None:
        """Return the vendor made from the settings, or None when its key is not set."""
        key = settings.tiingo_api_key
        if key is None:
            return None
        limits = settings.limits_of(VENDOR, cls.limits)
        return cls(key.get_secret_value(), settings.tiingo_base_url, limits, tools)

    async def open(self) -> None:
        """Nothing is left of an earlier life."""

    async def close(self) -> None:
        """Give back every connection."""
        await self._wire.close()

    async def quotes(self, symbols: Sequence[str], deadline: float) -> QuoteBatch:
        """Return each symbol's market; no bid and ask for those who signed no agreement with IEX."""
        if not symbols:
            return QuoteBatch(())  # an empty list would be answered with the whole market
        tickers = ",".join(spelled(symbol, VENDOR) for symbol in symbols)
        return parse_quotes(await self._get("/iex/", {"tickers": tickers}, deadline), symbols)

    async def bars(
        self,
        symbols: Sequence[str],
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        deadline: float,
        page: str | None = None,
    ) -> BarPage:
        """Return one symbol's bars, adjusted for splits; minutes are of IEX only, a week of them a page."""
        [symbol] = symbols
        begin = datetime.fromisoformat(page) if page else start
        until = end if timeframe is Timeframe.DAY else min(end, begin + WINDOWS[timeframe])
        if begin >= until:
            return BarPage(())
        ticker = spelled(symbol, VENDOR)
        try:
            if timeframe is Timeframe.DAY:
                path = f"/tiingo/daily/{ticker}/prices"
                query = build_days(begin, until, self._now())
                bars = parse_days(await self._get(path, query, deadline), symbol)
            else:
                query = build_minutes(timeframe, begin, until)
                body = await self._get(f"/iex/{ticker}/prices", query, deadline)
                bars = parse_minutes(body, symbol)
        except NoSuchTicker:
            return BarPage((), unknown=(symbol,))
        rest = until.isoformat() if until < end else None
        return BarPage(tuple(bar for bar in bars if begin <= bar.at < until), rest)

    async def profile(self, symbol: str, deadline: float) -> Profile | None:
        """Return what the company is; its value and P/E where the plan has its fundamentals."""
        ticker, now = spelled(symbol, VENDOR), self._now()
        try:
            about = await self._get(f"/tiingo/daily/{ticker}", {}, deadline)
        except NoSuchTicker:
            return None
        since = (now - timedelta(days=FUNDAMENTAL_DAYS)).date().isoformat()
        try:
            path = f"/tiingo/fundamentals/{ticker}/daily"
            figures = await self._get(path, {"startDate": since}, deadline)
        except Unsupported:  # an add-on; without it there are the thirty of the Dow
            figures = []
        return parse_profile(about, figures, symbol, now)

    async def news(
        self, symbols: Sequence[str], since: datetime, limit: int, deadline: float
    ) -> tuple[Story, ...]:
        """Return the newest stories first; `Unsupported` where news is not part of the plan."""
        body = await self._get("/tiingo/news", build_news(symbols, since, limit), deadline)
        stories = [story for story in parse_news(body) if story.at >= since]
        return tuple(sorted(stories, key=lambda story: story.at, reverse=True)[:limit])

    async def _get(self, path: str, params: Mapping[str, str], deadline: float) -> Any:
        return await self._wire.request(
            "GET",
            path,
            deadline=deadline,
            params=params,
            headers=self._headers,
            refusal=refusal,
            amiss=refusal,
        )


# --- pure: what to ask -------------------------------------------------------------------------------


def build_days(start: datetime, end: datetime, now: datetime) -> dict[str, str]:
    """Return the query for daily bars from `start` on.

    They are asked for until today, whatever the end: only so are all splits after them seen.
    """
    last = max(now, end - timedelta(microseconds=1)).astimezone(UTC).date()
    return {
        "startDate": start.astimezone(UTC).date().isoformat(),
        "endDate": last.isoformat(),
        "resampleFreq": "daily",
        "format": "json",
    }


def build_minutes(timeframe: Timeframe, start: datetime, end: datetime) -> dict[str, str]:
    """Return the query for bars of minutes that start in [start, end), by whole dates."""
    last = (end - timedelta(microseconds=1)).astimezone(UTC).date()
    return {
        "startDate": start.astimezone(UTC).date().isoformat(),
        "endDate": last.isoformat(),
        "resampleFreq": SAMPLES[timeframe],
        "columns": COLUMNS,
        "afterHours": "false",
        "forceFill": "false",
        "format": "json",
    }


def build_news(symbols: Sequence[str], since: datetime, limit: int) -> dict[str, str]:
    """Return the query for the newest stories."""
    query = {
        "startDate": since.astimezone(UTC).date().isoformat(),
        "limit": str(min(limit, MOST_NEWS)),
        "sortBy": "publishedDate",
    }
    if symbols:
        query["tickers"] = ",".join(spelled(symbol, VENDOR).lower() for symbol in symbols)
    return query


# --- pure: what was answered -------------------------------------------------------------------------


def refusal(status: int, body: Any) -> ProviderError | None:
    """Read Tiingo's own words, which may come with any status; None leaves it to the status."""
    match body:
        case {"detail": str(words)} | {"error": str(words)}:
            text = words.lower()
        case str(words) if status == 200 and not words.lstrip().startswith(("<", "{", "[")):
            text = words.lower()
        case _:
            return None
    if status == 429 or "run over" in text or "allocation" in text:
        wait = AFTER_AN_HOUR if "hour" in text else AFTER_LONGER
        return RateLimited(VENDOR, f"its allowance is spent ({status})", wait)
    if status == 401 or "token" in text:
        return Denied(VENDOR, f"the token was refused ({status})")
    if "not found" in text:
        return NoSuchTicker(VENDOR, f"there is no such thing ({status})")
    if status == 403 or "permission" in text:
        return Unsupported(VENDOR, f"its plan does not include that ({status})")
    if status == 200:
        return Unavailable(VENDOR, "answered 200 with a sentence instead of data") if text else None
    return None


def parse_quotes(body: Any, asked: Sequence[str]) -> QuoteBatch:
    """Return the quotes of one answer; a symbol it says nothing of is unknown to Tiingo."""
    table = {}
    for row in rows(VENDOR, body, "list of quotes"):
        if isinstance(row, Mapping) and isinstance(ticker := row.get("ticker"), str):
            table[ticker.upper()] = row
    if body and not table:
        raise Malformed(VENDOR, "a list of quotes without a ticker")
    quotes, unknown, failed = [], [], []
    for symbol in asked:
        row = table.get(spelled(symbol, VENDOR))
        if row is None:
            unknown.append(symbol)
            continue
        try:
            quotes.append(parse_quote(row, symbol))
        except Malformed as e:
            failed.append((symbol, e.why))
    return QuoteBatch(tuple(quotes), tuple(unknown), tuple(failed))


def parse_quote(row: Mapping[str, Any], symbol: str) -> Quote:
    """Return one row of `/iex/` as a quote; `Malformed` if there is no market in it.

    Its volume is of IEX alone while the market is open and of all exchanges some time after: a number that
    changes its meaning would break bars that are built from it, so none is given out.
    """
    stamps = ("timestamp", "lastSaleTimestamp", "quoteTimestamp")
    at = max((moment_of(row.get(name)) for name in stamps), key=or_long_ago)
    if at is None:
        raise Malformed(VENDOR, "it has no timestamp")
    last = traded(row.get("tngoLast")) or traded(row.get("last"))
    previous = traded(row.get("prevClose"))
    change = round(last - previous, 4) if last and previous else None
    found = Quote(
        symbol=symbol,
        at=at,
        source=VENDOR,
        last=last,
        bid=price(row.get("bidPrice")),
        ask=price(row.get("askPrice")),
        bid_size=count(row.get("bidSize")),
        ask_size=count(row.get("askSize")),
        open=traded(row.get("open")),
        high=traded(row.get("high")),
        low=traded(row.get("low")),
        previous_close=previous,
        change=change,
        change_percent=number(change / previous * 100) if change and previous else change,
    )
    if found.last is found.bid is found.ask is found.previous_close is None:
        raise Malformed(VENDOR, "there is no price in it")
    return found


def parse_days(body: Any, symbol: str) -> tuple[Bar, ...]:
    """Return daily bars adjusted for the splits seen in them, oldest first.

    Tiingo sells raw prices and such as are adjusted for dividends too; a split's factor stands at its
    first day, so that all days before are divided by it.
    """
    table = rows(VENDOR, body, "list of daily bars")
    dated = {}
    for row in table:
        if isinstance(row, Mapping) and (day := day_of(row.get("date"))):
            dated[day] = row
    bars, factor = [], 1.0
    for day in sorted(dated, reverse=True):
        row = dated[day]
        if bar := _bar(row, symbol, datetime.combine(day, time(), UTC), factor):
            bars.append(bar)
        split = traded(row.get("splitFactor")) or 1.0
        factor = factor * split if 1e-6 < factor * split < 1e6 else factor
    if table and not bars:
        raise Malformed(VENDOR, f"{len(table)} daily bars, none of them readable")
    return tuple(reversed(bars))


def parse_minutes(body: Any, symbol: str) -> tuple[Bar, ...]:
    """Return bars of minutes, oldest first; one without its four prices is left out."""
    table = rows(VENDOR, body, "list of bars")
    bars = {}
    for row in table:
        if isinstance(row, Mapping) and (at := moment_of(row.get("date"))):
            bar = _bar(row, symbol, at)
            if bar:
                bars[at] = bar
    if table and not bars:
        raise Malformed(VENDOR, f"{len(table)} bars, none of them readable")
    return tuple(bars[at] for at in sorted(bars))


def parse_profile(about: Any, figures: Any, symbol: str, now: datetime) -> Profile:
    """Return what the company is, with the newest of its daily figures, in dollars."""
    about = mapping(VENDOR, about, "metadata")
    dated = {}
    for row in rows(VENDOR, figures, "list of fundamentals"):
        if isinstance(row, Mapping) and (day := day_of(row.get("date"))):
            dated[day] = row
    newest: Mapping[str, Any] = dated[max(dated)] if dated else {}
    return Profile(
        symbol=symbol,
        at=now,
        source=VENDOR,
        name=told(about.get("name")),
        exchange=told(about.get("exchangeCode")),
        description=told(about.get("description"), 4000),
        market_cap=traded(newest.get("marketCap")),
        pe=number(newest.get("peRatio")),
    )


def parse_news(body: Any) -> tuple[Story, ...]:
    """Return the stories as they come; one without a time, a title or an address is left out."""
    return tuple(story for row in rows(VENDOR, body, "news") if (story := _story(row)))


def _bar(row: Mapping[str, Any], symbol: str, at: datetime, factor: float = 1.0) -> Bar | None:
    prices = []
    for name in ("open", "high", "low", "close"):
        raw = traded(row.get(name))
        if raw is None or (adjusted := traded(round(raw / factor, 6))) is None:
            return None
        prices.append(adjusted)
    opened, high, low, close = prices
    if low > high:
        return None
    volume = count((price(row.get("volume")) or 0) * factor) or 0
    return Bar(symbol, at, opened, high, low, close, volume, VENDOR)


def _story(row: Any) -> Story | None:
    if not isinstance(row, Mapping):
        return None
    at, title = moment_of(row.get("publishedDate")), told(row.get("title"), 500)
    url = told(row.get("url"), 2000)
    if at is None or title is None or url is None:
        return None
    tickers = row.get("tickers")
    named = tickers if isinstance(tickers, list) else []
    return Story(
        id=str(count(row.get("id")) or url),
        at=at,
        source=VENDOR,
        headline=title,
        url=url,
        publisher=told(row.get("source")),
        summary=told(row.get("description"), 4000),
        symbols=tuple(dict.fromkeys(found for name in named if (found := _symbol(name)))),
    )


def _symbol(text: Any) -> str | None:
    try:
        return normalise(text) if isinstance(text, str) else None
    except ValueError:  # a coin, or a ticker of another country
        return None
