"""Polygon.io, called Massive since October 2025: snapshots, bars, option chains, movers, news, holidays.

Vendor reference: massive.com/docs and the OpenAPI file of its Python client.  A 200 with the status
`DELAYED` is an answer, and a 403 with `NOT_AUTHORIZED` says that the plan lacks it, not that the key
is wrong.  Columns of a chain are made in `polygon_chain`.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import urlsplit

from actors.domain.calendar import CLOSES, CLOSES_EARLY, FIRST_YEAR, NEW_YORK, OPENS, session
from actors.domain.models import (
    Bar,
    BarPage,
    Mover,
    Movers,
    Profile,
    Quote,
    QuoteBatch,
    Ranking,
    Session,
    Story,
    Timeframe,
)
from actors.domain.symbols import SHAPE, spelled
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
    moment,
    moment_of,
    number,
    or_long_ago,
    plain,
    price,
    rows,
    told,
    traded,
)
from actors.providers.vendor import Kind
from actors.settings import Settings

if TYPE_CHECKING:
    from actors.domain.chains import Chain

VENDOR = "polygon"
SNAPSHOT = "/v2/snapshot/locale/us/markets/stocks"
RANGE = "/v2/aggs/ticker"
GROUPED = "/v2/aggs/grouped/locale/us/market/stocks"
OPTIONS = "/v3/snapshot/options"
TICKERS = "/v3/reference/tickers"
NEWS = "/v2/reference/news"
STATUS = "/v1/marketstatus"

NANOSECONDS = 1_000_000_000
MOST_BARS = 50_000  # of one answer; the vendor counts minutes, also of 5-minute bars
MOST_CONTRACTS = 250  # of one page
MOST_PAGES = 200  # of one chain; the largest, SPX, has about 100
MOST_STORIES = 1000
DETAIL_LENGTH = 200

EXCHANGES = {  # by market identifier code (ISO 10383)
    "XNYS": "NYSE",
    "XNAS": "NASDAQ",
    "ARCX": "NYSE Arca",
    "XASE": "NYSE American",
    "BATS": "Cboe BZX",
}
_SPANS = {
    Timeframe.MINUTE: "1/minute",
    Timeframe.FIVE_MINUTES: "5/minute",
    Timeframe.DAY: "1/day",
}


class Polygon:
    """Quotes of any number of symbols, bars, chains, movers, profiles, news and coming holidays.

    The free plan has no quotes, chains and movers, and of bars neither today's nor those of more than
    two years ago: all of that is `Unsupported`.
    """

    name: ClassVar = VENDOR
    needs: ClassVar = ("POLYGON_API_KEY",)
    sells: ClassVar = frozenset(
        {
            Kind.QUOTES,
            Kind.BARS,
            Kind.CHAIN,
            Kind.MOVERS,
            Kind.PROFILE,
            Kind.NEWS,
            Kind.HOURS,
        }
    )
    limits: ClassVar = "5/min"
    batch: ClassVar = 1000  # the vendor sets no limit; gateways do, at about 8 kB of URL
    bars_batch: ClassVar = (
        1000  # one symbol or one day an answer, whichever takes fewer: see `bars`
    )

    def __init__(self, key: str, base_url: str, limits: str, tools: Tools) -> None:
        self.limiter = tools.limiter(VENDOR, limits)
        self._wire = Wire(VENDOR, base_url, self.limiter, tools)
        self._wire.hide(key=key)
        self._headers = {"Authorization": f"Bearer {key}"}
        self._base_path = urlsplit(base_url).path.rstrip("/")
        self._now = tools.now

    @classmethod
    def of(cls, settings: Settings, tools: Tools) -> Self | None:
        """Return the vendor made from the settings, or None when its key is not set."""
        if settings.polygon_api_key is None:
            return None
        key, limits = settings.polygon_api_key.get_secret_value(), cls.limits
        return cls(key, settings.polygon_base_url, settings.limits_of(VENDOR, limits), tools)

    @property
    def login_expires_at(self) -> datetime | None:
        """Return None: a key has no end."""
        return None

    async def open(self) -> None:
        """Do nothing: there is no login."""

    async def close(self) -> None:
        """Give back every connection."""
        await self._wire.close()

    async def quotes(self, symbols: Sequence[str], deadline: float) -> QuoteBatch:
        """Return each symbol's market; the free plan has none."""
        query = {"tickers": ",".join(spelled(symbol, VENDOR) for symbol in symbols)}
        return parse_quotes(await self._get(f"{SNAPSHOT}/tickers", query, deadline), symbols)

    async def bars(
        self,
        symbols: Sequence[str],
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        deadline: float,
        page: str | None = None,
    ) -> BarPage:
        """Return bars that start in [start, end), adjusted for splits; minutes of regular hours only.

        An answer has one symbol's bars, or, where that takes fewer requests, one day's of all symbols;
        the rest is on the next pages.  An unknown symbol has no bars: the vendor does not tell.
        """
        days = weekdays(start, end) if timeframe is Timeframe.DAY else ()
        if start >= end or (timeframe is Timeframe.DAY and not days):
            return BarPage(())
        if 0 < len(days) < len(symbols):
            return await self._grouped(symbols, days, deadline, page)
        symbol, _, path = (page or symbols[0]).partition(" ")
        query = None if path else {"adjusted": "true", "sort": "asc", "limit": str(MOST_BARS)}
        path = path or build_range(symbol, timeframe, start, end)
        body = await self._get(path, query, deadline)
        found = parse_bars(body, symbol, timeframe)
        if more := following(body, f"{RANGE}/{spelled(symbol, VENDOR)}/", self._base_path):
            after: str | None = f"{symbol} {more}"
        else:
            after = next(iter(symbols[symbols.index(symbol) + 1 :]), None)
        return BarPage(tuple(bar for bar in found if start <= bar.at < end), after)

    async def _grouped(
        self, symbols: Sequence[str], days: Sequence[date], deadline: float, page: str | None
    ) -> BarPage:
        day = date.fromisoformat(page) if page else days[0]
        body = await self._get(f"{GROUPED}/{day}", {"adjusted": "true"}, deadline)
        found = tuple(bar for bar in parse_grouped(body, symbols) if bar.at.date() == day)
        return BarPage(found, next((later.isoformat() for later in days if later > day), None))

    async def chain(
        self, symbol: str, deadline: float, first: date | None = None, last: date | None = None
    ) -> "Chain":
        """Return the contracts that expire within [first, last], 250 of them a request."""
        from actors.providers.polygon_chain import Contract, columns, parse_contracts

        path: str | None = f"{OPTIONS}/{spelled(symbol, VENDOR)}"
        family, query = str(path), build_chain(first, last)
        found: list[Contract] = []
        for _ in range(MOST_PAGES):
            body = await self._get(path, query, deadline)
            found += parse_contracts(body, symbol)
            path, query = following(body, family, self._base_path), {}
            if path is None:
                break
        else:
            raise Unsupported(
                VENDOR, f"{symbol} has too many contracts for one question; ask for fewer dates"
            )
        if not found and first is last is None:
            raise Unsupported(VENDOR, f"it has no contracts of {symbol}")
        return columns(symbol, found, self._now())

    async def movers(self, ranking: Ranking, deadline: float) -> Movers:
        """Return the 20 symbols that moved most of all that trade; it has no list of the most active."""
        if ranking is Ranking.ACTIVE:
            raise Unsupported(VENDOR, "it has no list of the most active")
        body = await self._get(f"{SNAPSHOT}/{ranking.value}", {}, deadline)
        return parse_movers(body, ranking, self._now())

    async def profile(self, symbol: str, deadline: float) -> Profile | None:
        """Return what the company is; None where there is no such symbol."""
        try:
            body = await self._get(f"{TICKERS}/{spelled(symbol, VENDOR)}", {}, deadline)
        except NotFound:
            return None
        return parse_profile(body, symbol, self._now())

    async def news(
        self, symbols: Sequence[str], since: datetime, limit: int, deadline: float
    ) -> tuple[Story, ...]:
        """Return the newest stories first; no symbols = the whole market's.

        It can be asked of one symbol or of all.  For several, the newest 1,000 stories of the market
        are asked, and those that name none of the symbols are left out.
        """
        body = await self._get(NEWS, build_news(symbols, since, limit), deadline)
        return parse_news(body, symbols)[:limit]

    async def hours(self, first: date, last: date, deadline: float) -> tuple[Session, ...]:
        """Return the regular sessions of [first, last], which must lie ahead.

        The vendor tells only the coming holidays and early closes, those of about a year.
        """
        today = self._now().astimezone(NEW_YORK).date()
        if first < today:
            raise Unsupported(VENDOR, "it tells no hours of days that are over")
        found = parse_upcoming(await self._get(f"{STATUS}/upcoming", {}, deadline), first, last)
        if first == today:
            closed = parse_closed_today(await self._get(f"{STATUS}/now", {}, deadline))
            found = tuple(session for session in found if session.day != closed)
        return found

    async def _get(self, path: str | None, query: Mapping[str, str] | None, deadline: float) -> Any:
        return await self._wire.request(
            "GET",
            path or "",
            deadline=deadline,
            params=query or None,  # an empty one would take the cursor off the path of a next page
            headers=self._headers,
            refusal=refusal,
            amiss=refusal,
        )


class NotFound(Unsupported):
    """There is no such symbol."""


# --- pure: what to ask -------------------------------------------------------------------------------


def build_range(symbol: str, timeframe: Timeframe, start: datetime, end: datetime) -> str:
    """Return the path of one symbol's bars that start in [start, end); both ends are asked inclusive."""
    path = f"{RANGE}/{spelled(symbol, VENDOR)}/range/{_SPANS[timeframe]}"
    if timeframe is Timeframe.DAY:
        days = weekdays(start, end)
        return f"{path}/{days[0]}/{days[-1]}"
    return f"{path}/{int(start.timestamp() * 1000)}/{int(end.timestamp() * 1000) - 1}"


def build_chain(first: date | None, last: date | None) -> dict[str, str]:
    """Return the query for the contracts that expire within [first, last]."""
    query = {"limit": str(MOST_CONTRACTS), "order": "asc", "sort": "ticker"}
    if first is not None:
        query["expiration_date.gte"] = first.isoformat()
    if last is not None:
        query["expiration_date.lte"] = last.isoformat()
    return query


def build_news(symbols: Sequence[str], since: datetime, limit: int) -> dict[str, str]:
    """Return the query for the newest stories."""
    most = limit if len(symbols) < 2 else MOST_STORIES
    query = {
        "published_utc.gte": since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "order": "desc",
        "sort": "published_utc",
        "limit": str(max(1, min(most, MOST_STORIES))),
    }
    if len(symbols) == 1:
        query["ticker"] = spelled(symbols[0], VENDOR)
    return query


def weekdays(start: datetime, end: datetime) -> tuple[date, ...]:
    """Return the weekdays whose midnight UTC is in [start, end), oldest first; holidays answer nothing."""
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    first = start.date() + timedelta(days=start.time() > time())
    last = end.date() - timedelta(days=end.time() == time())
    span = (first + timedelta(n) for n in range((last - first).days + 1))
    return tuple(day for day in span if day.weekday() < 5)


def following(body: Any, family: str, base_path: str = "") -> str | None:
    """Return path and query of the page after this one, None where it was the last.

    `next_url` is absolute and without the key.  Its host is never used, so the key goes nowhere else;
    a path outside of the family that was asked for is `Malformed`.
    """
    url = body.get("next_url") if isinstance(body, Mapping) else None
    if not url:
        return None
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
    except ValueError:
        parts = urlsplit("")
    path = parts.path.removeprefix(base_path)
    if not path.startswith(family) or not (parts.scheme and parts.query):
        raise Malformed(VENDOR, "its next page lies somewhere else")
    return f"{path}?{parts.query}"


# --- pure: what was answered -------------------------------------------------------------------------


def refusal(status: int, body: Any) -> ProviderError | None:
    """Read Polygon's own words, in `error` or `message`; None leaves it to the HTTP status."""
    if not isinstance(body, Mapping) or status >= 500 or status in {401, 429}:
        return None
    words = told(body.get("error"), DETAIL_LENGTH) or told(body.get("message"), DETAIL_LENGTH) or ""
    match body.get("status"):
        case "NOT_AUTHORIZED" | "NOT_ENTITLED":
            return Unsupported(VENDOR, _of_the_plan(words))
        case "NOT_FOUND" | "NotFound":
            return NotFound(VENDOR, "it knows no such symbol")
    if "maximum requests" in words:
        return RateLimited(VENDOR, "too many requests")
    if "API Key" in words:
        return Denied(VENDOR, "the key was refused")
    if status == 403:
        return Unsupported(VENDOR, _of_the_plan(words))
    if status == 400 and words:
        return Unsupported(VENDOR, f"refused the request: {words}")
    return None


def _of_the_plan(words: str) -> str:
    if "before end of day" in words:
        return "this plan does not have today's data before the day is over"
    if "timeframe" in words:
        return "this plan does not have data of that time"
    return "this plan does not have that"


def answer(body: Any) -> Mapping[str, Any]:
    """Return an answer's object; what says that it is an error is one, with a 200 too."""
    found = mapping(VENDOR, body, "answer")
    if isinstance(status := found.get("status"), str) and status not in {"OK", "DELAYED"}:
        raise refusal(200, found) or Malformed(
            VENDOR, f"an answer with the status {plain(status, 40)!r}"
        )
    return found


def results(body: Any, name: str = "results") -> list[Any]:
    """Return an answer's rows; where there is none the vendor leaves the key out."""
    found = answer(body).get(name)
    return [] if found is None else rows(VENDOR, found, name)


def part(row: Any, name: str) -> Mapping[str, Any]:
    """Return an object within a row, {} where there is none: plans and quiet hours leave them out."""
    found = row.get(name) if isinstance(row, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def ours(ticker: Any) -> str | None:
    """Return a ticker as we spell it, None where we do not: a lower-case letter is of a class (BACpL)."""
    return ticker if isinstance(ticker, str) and SHAPE.fullmatch(ticker) else None


def parse_quotes(body: Any, asked: Sequence[str]) -> QuoteBatch:
    """Return the quotes of one snapshot; every symbol asked for is in exactly one part of the batch.

    A symbol that the vendor leaves out is unknown.  Without any row for many symbols it is `Malformed`.
    """
    delayed = answer(body).get("status") == "DELAYED"
    by_ticker = {
        row["ticker"]: row
        for row in results(body, "tickers")
        if isinstance(row, Mapping) and isinstance(row.get("ticker"), str)
    }
    quotes, unknown, failed = [], [], []
    for symbol in asked:
        row = by_ticker.get(spelled(symbol, VENDOR))
        if row is None:
            unknown.append(symbol)
            continue
        try:
            quotes.append(parse_quote(row, symbol, delayed=delayed))
        except Malformed as e:
            failed.append((symbol, e.why))
    if len(unknown) == len(asked) > 1:
        raise Malformed(VENDOR, f"an answer without a quote for {len(asked)} symbols")
    return QuoteBatch(tuple(quotes), tuple(unknown), tuple(failed))


def parse_quote(row: Any, symbol: str, *, delayed: bool = False) -> Quote:
    """Return one row of a snapshot as a quote; `Malformed` where no time or no price is in it.

    From 03:30 in New York until a symbol first trades, `day`, `min` and `updated` hold zeros that mean
    "no value"; `lastTrade` and `lastQuote` (of higher plans) are left out where there is none.
    """
    row = mapping(VENDOR, row, "row")
    trade, quote = part(row, "lastTrade"), part(row, "lastQuote")
    day = part(row, "day") if traded(part(row, "day").get("c")) else {}
    times = (moment(t, NANOSECONDS) for t in (trade.get("t"), quote.get("t"), row.get("updated")))
    at = max(times, key=or_long_ago)
    if at is None:
        raise Malformed(VENDOR, "nothing is told of it since its snapshot was cleared")
    found = Quote(
        symbol=symbol,
        at=at,
        source=VENDOR,
        last=_last(row),
        bid=price(quote.get("p")),
        ask=price(quote.get("P")),
        bid_size=count(quote.get("s")),
        ask_size=count(quote.get("S")),
        open=traded(day.get("o")),
        high=traded(day.get("h")),
        low=traded(day.get("l")),
        close=traded(day.get("c")),
        previous_close=traded(part(row, "prevDay").get("c")),
        volume=count(day.get("v")),
        change=number(row.get("todaysChange")) if day else None,
        change_percent=number(row.get("todaysChangePerc")) if day else None,
        delayed=delayed,
    )
    if found.last is found.bid is found.ask is found.previous_close is None:
        raise Malformed(VENDOR, "there is no price in it")
    return found


def _last(row: Any) -> float | None:
    """Return the last price: of a trade, which lower plans lack, or of the last minute that had one."""
    return (
        traded(part(row, "lastTrade").get("p"))
        or traded(part(row, "min").get("c"))
        or traded(part(row, "day").get("c"))
    )


def parse_bars(body: Any, symbol: str, timeframe: Timeframe) -> tuple[Bar, ...]:
    """Return one symbol's bars, oldest first; a row without its time and four prices is left out.

    Rows are stamped in ms: minutes at their start, days at midnight in New York.  The vendor's minutes
    cover 04:00 to 20:00; those outside of regular hours are left out.  Volumes have fractions of shares.
    """
    found = [bar for row in results(body) if (bar := _bar(row, symbol, timeframe))]
    if timeframe is not Timeframe.DAY:
        found = [bar for bar in found if _regular(bar.at)]
    return tuple(sorted({bar.at: bar for bar in found}.values(), key=lambda bar: bar.at))


def parse_grouped(body: Any, symbols: Sequence[str]) -> tuple[Bar, ...]:
    """Return the daily bars of some symbols out of one day's of all; a holiday has none."""
    wanted = {spelled(symbol, VENDOR): symbol for symbol in symbols}
    found = {}
    for row in results(body):
        ticker = row.get("T") if isinstance(row, Mapping) else None
        symbol = wanted.get(ticker) if isinstance(ticker, str) else None
        if symbol is not None and (bar := _bar(row, symbol, Timeframe.DAY)):
            found[symbol] = bar
    return tuple(found[symbol] for symbol in symbols if symbol in found)


def _bar(row: Any, symbol: str, timeframe: Timeframe) -> Bar | None:
    if not isinstance(row, Mapping):
        return None
    at = moment(row.get("t"))
    opened, high, low, close = (traded(row.get(key)) for key in "ohlc")
    if at is None or opened is None or high is None or low is None or close is None or low > high:
        return None
    if timeframe is Timeframe.DAY:
        at = datetime.combine(at.astimezone(NEW_YORK).date(), time(), UTC)
    return Bar(symbol, at, opened, high, low, close, count(row.get("v")) or 0, VENDOR)


def _regular(at: datetime) -> bool:
    local = at.astimezone(NEW_YORK)
    return OPENS <= local.time() < _closes(local.date())


@lru_cache(maxsize=64)
def _closes(day: date) -> time:
    known = session(day) if day.year >= FIRST_YEAR else None
    return known.closes.astimezone(NEW_YORK).time() if known else CLOSES


def parse_movers(body: Any, ranking: Ranking, now: datetime) -> Movers:
    """Return a list of movers; symbols that we do not spell (warrants, preferred shares) are left out."""
    found, times = [], []
    for row in results(body, "tickers"):
        symbol, last = ours(row.get("ticker") if isinstance(row, Mapping) else None), _last(row)
        if symbol is None or last is None:
            continue
        change, percent = number(row.get("todaysChange")), number(row.get("todaysChangePerc"))
        found.append(Mover(symbol, last, change, percent, count(part(row, "day").get("v"))))
        times.append(moment(row.get("updated"), NANOSECONDS))
    if not found:
        raise Unavailable(VENDOR, "its list is empty, as from 03:30 in New York until 04:00")
    return Movers(ranking, max(times, key=or_long_ago) or now, VENDOR, tuple(found))


def parse_profile(body: Any, symbol: str, now: datetime) -> Profile:
    """Return what is told of a ticker; it has no sector, and its industry is the SIC's words."""
    row = mapping(VENDOR, answer(body).get("results"), "results")
    place = told(row.get("primary_exchange"))
    return Profile(
        symbol=symbol,
        at=now,
        source=VENDOR,
        name=told(row.get("name")),
        exchange=EXCHANGES.get(place, place) if place else None,
        industry=told(row.get("sic_description")),
        website=told(row.get("homepage_url")),
        description=told(row.get("description"), 2000),
        listed=day_of(row.get("list_date")),
        employees=count(row.get("total_employees")),
        market_cap=traded(row.get("market_cap")),
        shares_outstanding=traded(row.get("share_class_shares_outstanding")),
    )


def parse_news(body: Any, symbols: Sequence[str] = ()) -> tuple[Story, ...]:
    """Return the stories that name one of the symbols (of none: all), newest first.

    A story without id, time, title or address is left out.
    """
    found = [story for row in results(body) if (story := _story(row, symbols))]
    if symbols:
        found = [story for story in found if set(symbols) & set(story.symbols)]
    return tuple(sorted(found, key=lambda story: story.at, reverse=True))


def _story(row: Any, symbols: Sequence[str]) -> Story | None:
    if not isinstance(row, Mapping):
        return None
    told_id, title, url = (told(row.get(key), 2000) for key in ("id", "title", "article_url"))
    at = moment_of(row.get("published_utc"))
    if not told_id or at is None or not title or not url or not url.startswith("http"):
        return None
    named = row.get("tickers")
    return Story(
        id=told_id,
        at=at,
        source=VENDOR,
        headline=title,
        url=url,
        publisher=told(part(row, "publisher").get("name")),
        summary=told(row.get("description"), 2000),
        symbols=tuple(s for t in named if (s := ours(t))) if isinstance(named, list) else (),
        sentiment=_sentiment(row.get("insights"), symbols),
    )


def _sentiment(insights: Any, symbols: Sequence[str]) -> str | None:
    """Return the judgement of the symbols asked for, or of all; None where there is no one judgement."""
    found = set()
    for insight in insights if isinstance(insights, list) else ():
        if isinstance(insight, Mapping) and (not symbols or ours(insight.get("ticker")) in symbols):
            found.add(told(insight.get("sentiment")))
    [one] = found if len(found) == 1 else [None]
    return one if one in {"positive", "neutral", "negative"} else None


def parse_upcoming(body: Any, first: date, last: date) -> tuple[Session, ...]:
    """Return the sessions of [first, last] out of NYSE's coming holidays and early closes.

    `Unsupported` where `last` is later than the last of them: more is not told.
    """
    closed, early, known = set(), {}, date.min
    for row in rows(VENDOR, answer(body) if isinstance(body, Mapping) else body, "holidays"):
        day = day_of(row.get("date")) if isinstance(row, Mapping) else None
        if day is None or row.get("exchange") != "NYSE":
            continue
        known = max(known, day)
        if row.get("status") == "closed":
            closed.add(day)
        elif row.get("status") == "early-close":
            early[day] = moment_of(row.get("close")) or _utc(day, CLOSES_EARLY)
    if last > known:
        raise Unsupported(VENDOR, "it tells no holidays so far ahead")
    span = (first + timedelta(n) for n in range((last - first).days + 1))
    return tuple(
        Session(day, _utc(day, OPENS), early.get(day) or _utc(day, CLOSES))
        for day in span
        if day.weekday() < 5 and day not in closed
    )


def parse_closed_today(body: Any) -> date | None:
    """Return today's date where NYSE is closed although it would trade at this hour, else None.

    Today's holiday is not among those to come.  From 04:00 to 17:00 some session runs on every other
    weekday, also on those that close early.
    """
    body = answer(body)
    at = moment_of(body.get("serverTime"))
    if at is None:
        raise Malformed(VENDOR, "its market status has no time")
    local = at.astimezone(NEW_YORK)
    closed = part(body, "exchanges").get("nyse") == "closed"
    return local.date() if closed and 4 <= local.hour < 17 else None


def _utc(day: date, at: time) -> datetime:
    return datetime.combine(day, at, NEW_YORK).astimezone(UTC)
