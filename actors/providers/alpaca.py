"""Alpaca: snapshots of the whole universe at once, consolidated bars, chains, movers, news, hours.

Vendor reference: docs.alpaca.markets (Market Data API, and of the Trading API the calendar and the
option contracts, which live on another host).  The half that makes chains is in `alpaca_chain`.
"""

import html
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import quote

from actors.domain.calendar import NEW_YORK
from actors.domain.models import (
    Bar,
    BarPage,
    Mover,
    Movers,
    Quote,
    QuoteBatch,
    Ranking,
    Session,
    Story,
    Timeframe,
)
from actors.domain.symbols import normalise, spelled
from actors.providers.base import Denied, Malformed, ProviderError, RateLimited, Unsupported
from actors.providers.http import Tools, Wire
from actors.providers.values import (
    count,
    day_of,
    mapping,
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

VENDOR = "alpaca"
ROUNDS = 5  # requests for one batch, each without the symbols that spoiled the one before
DELAY = timedelta(minutes=16)  # free plans see consolidated bars after 15; one for unequal clocks
BARS_A_PAGE = 10_000  # of all symbols together
SNAPSHOTS_A_PAGE, CONTRACTS_A_PAGE = 1_000, 2_500  # 10,000 would be sold, and cost 20 MB to read
MOST_PAGES = 40  # of one chain: more contracts than any underlying has
STORIES_A_PAGE, MOST_STORIES = 50, 500
MOST_MOVERS = 50
YEARS_AHEAD = timedelta(days=1830)  # no option lives longer; without an end this week's are told
OTHER_HOST = (
    "its trading host refuses these keys; set ALPACA_TRADING_URL=https://api.alpaca.markets for live"
    " ones, https://paper-api.alpaca.markets for those of a paper account"
)
DETAIL_LENGTH, HEADLINE_LENGTH, SUMMARY_LENGTH = 200, 500, 2_000

TIMEFRAMES = {Timeframe.MINUTE: "1Min", Timeframe.FIVE_MINUTES: "5Min", Timeframe.DAY: "1Day"}

_INVALID = re.compile(r"invalid symbols?(?:\(s\))?: *(.+)")
_NOT_SOLD = re.compile(r"subscription|agreement|not permit", re.IGNORECASE)
_TOO_MANY = re.compile(r"too many|rate limit", re.IGNORECASE)
_DENIED = re.compile(r"forbidden|unauthori[sz]ed|not authori[sz]ed", re.IGNORECASE)


class Alpaca:
    """All symbols' quotes in one request, bars of many, and an option chain in a few.

    What a plan sells is told by `ALPACA_FEED`.  `iex` is one exchange's market: its volume is some 3 %
    of all, so no quote has one.  `delayed_sip` is everybody's, 15 minutes late.  `sip` is the paid plan.
    """

    name: ClassVar = VENDOR
    needs: ClassVar = ("ALPACA_API_KEY", "ALPACA_API_SECRET")
    sells: ClassVar = frozenset(
        {Kind.QUOTES, Kind.BARS, Kind.CHAIN, Kind.MOVERS, Kind.NEWS, Kind.HOURS}
    )
    limits: ClassVar = "200/min"
    batch: ClassVar = 1000  # no limit but the length of a URL: 7 kB with usual symbols
    bars_batch: ClassVar = 500  # 8 kB with the longest ones, which every gateway takes

    def __init__(
        self,
        key: str,
        secret: str,
        tools: Tools,
        *,
        base_url: str,
        trading_url: str,
        feed: str,
        limits: str,
    ) -> None:
        self.limiter = tools.limiter(VENDOR, limits)
        self._feed, self._now = feed, tools.now
        self._headers = {"APCA-API-KEY-ID": key, "APCA-API-SECRET-KEY": secret}
        self._data = Wire(VENDOR, base_url, self.limiter, tools)
        self._trading = Wire(VENDOR, trading_url, self.limiter, tools)
        for wire in (self._data, self._trading):
            wire.hide(key=key, secret=secret)

    @classmethod
    def of(cls, settings: Settings, tools: Tools) -> Self | None:
        """Return the vendor made from the settings, or None when its keys are not set."""
        if settings.alpaca_api_key is None or settings.alpaca_api_secret is None:
            return None
        return cls(
            settings.alpaca_api_key.get_secret_value(),
            settings.alpaca_api_secret.get_secret_value(),
            tools,
            base_url=settings.alpaca_base_url,
            trading_url=settings.alpaca_trading_url,
            feed=settings.alpaca_feed,
            limits=settings.limits_of(VENDOR, cls.limits),
        )

    @property
    def login_expires_at(self) -> datetime | None:
        """Return None: a key does not expire."""
        return None

    async def open(self) -> None:
        """Do nothing: there is nothing to take up."""

    async def close(self) -> None:
        """Give back every connection."""
        await self._data.close()
        await self._trading.close()

    async def quotes(self, symbols: Sequence[str], deadline: float) -> QuoteBatch:
        """Return each symbol's market; the symbols are distinct and at most 1000.

        One request, and one more for each symbol that the vendor calls invalid, at most 5 in all.
        """
        query = {"feed": self._feed}
        body, asked, invalid = await self._ask("/v2/stocks/snapshots", symbols, query, deadline)
        if body is None:
            why = f"more than {len(invalid)} symbols of its batch are invalid"
            return QuoteBatch((), tuple(invalid), tuple((symbol, why) for symbol in asked))
        found = parse_quotes(body, asked, self._feed)
        return QuoteBatch(found.quotes, (*invalid, *found.unknown), found.failed)

    async def bars(
        self,
        symbols: Sequence[str],
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        deadline: float,
        page: str | None = None,
    ) -> BarPage:
        """Return bars of the consolidated tape that start in [start, end), 04:00 to 20:00 New York.

        A page has up to 10,000 bars.  Free plans get none of the last 15 minutes; `Unsupported` where
        nothing else was asked for.  IEX alone is never used: its volume is no measure beside the others.
        """
        span = span_of(timeframe, start, end)
        if span is None:
            return BarPage(())  # no midnight between them
        if self._feed != "sip":
            span = span[0], min(span[1], self._now() - DELAY)
            if span[1] < span[0]:
                raise Unsupported(VENDOR, "this plan does not sell the last 15 minutes")
        token, _, bad = (page or "").partition(" ")
        known = bad.split(",") if bad else []
        query = build_bars(timeframe, *span) | ({"page_token": token} if token else {})
        named = [symbol for symbol in symbols if symbol not in known]
        body, asked, invalid = await self._ask("/v2/stocks/bars", named, query, deadline)
        invalid = [*known, *invalid]
        if body is None and asked:
            raise Unsupported(VENDOR, f"more than {len(invalid)} of the symbols are invalid")
        found = BarPage(()) if body is None else parse_bars(body, asked, timeframe)
        after = found.next
        if after and invalid:  # so that the next page does not stumble over them again
            after = f"{after} {','.join(invalid)}"
        bars = tuple(bar for bar in found.bars if start <= bar.at < end)
        return BarPage(bars, after, tuple(invalid))

    async def chain(
        self, symbol: str, deadline: float, first: date | None = None, last: date | None = None
    ) -> "Chain":
        """Return the contracts that expire within [first, last]: a request for each 1000 of them.

        Open interest is of another host, whose keys may differ: where that refuses, it is unknown.
        `Unsupported` where the symbol has no contracts there.
        """
        from actors.providers import alpaca_chain

        live = self._feed == "sip"
        path = f"/v1beta1/options/snapshots/{quote(spelled(symbol, VENDOR), safe='')}"
        query = build_chain(first, last, live=live)
        blocks, token = [], None
        for _ in range(MOST_PAGES):
            body = await self._get(self._data, path, _paged(query, token), deadline)
            block, token = alpaca_chain.parse_snapshots(body)
            blocks.append(block)
            if token is None:
                break
        else:
            raise Malformed(VENDOR, f"a chain that does not end after {MOST_PAGES} pages")
        if not any(len(block) for block in blocks):
            raise Unsupported(VENDOR, "it has no such option contracts")
        try:
            contracts = await self._contracts(symbol, first, last, deadline)
        except ProviderError:
            contracts = {}
        return alpaca_chain.assemble(symbol, blocks, contracts, delayed=not live)

    async def movers(self, ranking: Ranking, deadline: float) -> Movers:
        """Return up to 50 symbols of the whole market, warrants and microcaps included.

        Until the open they are yesterday's.  The most active come without prices: one more request.
        """
        if ranking is not Ranking.ACTIVE:
            query = {"top": str(MOST_MOVERS)}
            path = "/v1beta1/screener/stocks/movers"
            return parse_movers(await self._get(self._data, path, query, deadline), ranking)
        query = {"by": "volume", "top": str(MOST_MOVERS)}
        path = "/v1beta1/screener/stocks/most-actives"
        at, volumes = parse_active(await self._get(self._data, path, query, deadline))
        if not volumes:
            return Movers(ranking, at, VENDOR, ())
        batch = await self.quotes(list(volumes), deadline)
        quotes = {found.symbol: found for found in batch.quotes}
        found = [_active(quotes[symbol], volumes[symbol]) for symbol in volumes if symbol in quotes]
        return Movers(ranking, at, VENDOR, tuple(row for row in found if row))

    async def news(
        self, symbols: Sequence[str], since: datetime, limit: int, deadline: float
    ) -> tuple[Story, ...]:
        """Return the newest stories first, at most 500; no symbols = the whole market's."""
        limit = min(limit, MOST_STORIES)
        query = build_news(symbols, since, limit)
        stories: dict[str, Story] = {}
        token = None
        for _ in range(-(-limit // STORIES_A_PAGE)):
            body = await self._get(self._data, "/v1beta1/news", _paged(query, token), deadline)
            page, token = parse_news(body)
            stories |= {story.id: story for story in page if story.at >= since}
            if token is None:
                break
        newest = sorted(stories.values(), key=lambda story: story.at, reverse=True)
        return tuple(newest[:limit])

    async def hours(self, first: date, last: date, deadline: float) -> tuple[Session, ...]:
        """Return the regular sessions of [first, last]; a day without one is closed.

        `Unsupported` where the trading host refuses the keys: the data host may well take them.
        """
        query = {"start": first.isoformat(), "end": last.isoformat()}
        try:
            body = await self._get(self._trading, "/v2/calendar", query, deadline)
        except Denied:
            raise _not_of_this_host() from None
        return tuple(found for found in parse_hours(body) if first <= found.day <= last)

    async def _contracts(
        self, symbol: str, first: date | None, last: date | None, deadline: float
    ) -> "dict[str, tuple[float, float]]":
        from actors.providers import alpaca_chain

        query = build_contracts(symbol, first, last, self._now().astimezone(NEW_YORK).date())
        contracts: dict[str, tuple[float, float]] = {}
        token = None
        for _ in range(MOST_PAGES):
            paged = _paged(query, token)
            body = await self._get(self._trading, "/v2/options/contracts", paged, deadline)
            page, token = alpaca_chain.parse_contracts(body)
            contracts |= page
            if token is None:
                break
        return contracts

    async def _ask(
        self, path: str, symbols: Sequence[str], query: Mapping[str, str], deadline: float
    ) -> tuple[Any, list[str], list[str]]:
        """Ask for many symbols; return (body, the symbols it is of, the invalid ones).

        One invalid symbol costs the whole answer, which names it: so it is asked again without.  The
        body is None where no symbol was left, or where they were still not all found in 5 rounds.
        """
        asked, invalid = list(symbols), list[str]()
        for _ in range(ROUNDS):
            if not asked:
                break
            named = {"symbols": _listed(asked), **query}
            try:
                return await self._get(self._data, path, named, deadline), asked, invalid
            except Unsupported as e:
                blamed = invalid_symbols(e.why)
                if blamed.isdisjoint(asked):
                    raise
            invalid += [symbol for symbol in asked if symbol in blamed]
            asked = [symbol for symbol in asked if symbol not in blamed]
        return None, asked, invalid

    async def _get(self, wire: Wire, path: str, query: Mapping[str, str], deadline: float) -> Any:
        return await wire.request(
            "GET", path, deadline=deadline, params=query, headers=self._headers, refusal=refusal
        )


# --- pure: what to ask -------------------------------------------------------------------------------


def span_of(
    timeframe: Timeframe, start: datetime, end: datetime
) -> tuple[datetime, datetime] | None:
    """Return the first and the last stamp to ask for, both inclusive, of bars in [start, end).

    A daily bar is stamped at midnight in New York; None where no date begins in between.
    """
    if timeframe is not Timeframe.DAY:
        return start, end - timedelta(microseconds=1)
    first, last = _date_from(start), _date_from(end) - timedelta(days=1)
    return (_midnight(first), _midnight(last)) if first <= last else None


def build_bars(timeframe: Timeframe, first: datetime, last: datetime) -> dict[str, str]:
    """Return the query for bars stamped in [first, last], without the symbols."""
    return {
        "timeframe": TIMEFRAMES[timeframe],
        "start": _instant(first),
        "end": _instant(last),
        "limit": str(BARS_A_PAGE),
        "adjustment": "split",
        "feed": "sip",
    }


def build_chain(first: date | None, last: date | None, *, live: bool) -> dict[str, str]:
    """Return the query for one page of a chain; only a paid plan has the exchanges' own quotes."""
    query = {"feed": "opra" if live else "indicative", "limit": str(SNAPSHOTS_A_PAGE)}
    return query | _expiring(first, last)


def build_contracts(
    symbol: str, first: date | None, last: date | None, today: date
) -> dict[str, str]:
    """Return the query for one page of contracts, all expirations where no other is said."""
    return {
        "underlying_symbols": spelled(symbol, VENDOR),
        "status": "active",
        "limit": str(CONTRACTS_A_PAGE),
        **_expiring(first or today, last or today + YEARS_AHEAD),
    }


def build_news(symbols: Sequence[str], since: datetime, limit: int) -> dict[str, str]:
    """Return the query for one page of stories, without their text."""
    return ({"symbols": _listed(symbols)} if symbols else {}) | {
        "start": _instant(since),
        "sort": "desc",
        "limit": str(min(limit, STORIES_A_PAGE)),
        "include_content": "false",
    }


# --- pure: what was answered -------------------------------------------------------------------------


def refusal(status: int, body: Any) -> ProviderError | None:
    """Read Alpaca's own words in an answer that is not 2xx; None leaves it to the status."""
    words = _words(body)
    if words is None:
        return None
    if status == 403 and _NOT_SOLD.search(words):
        return Unsupported(VENDOR, f"this plan does not sell that: {words}")
    if status in (400, 404, 422):
        return Unsupported(VENDOR, f"refused the request: {words}")
    return None


def _not_of_this_host() -> Unsupported:
    error = Unsupported(VENDOR, OTHER_HOST)
    error.by_plan = True
    return error


def invalid_symbols(words: str) -> frozenset[str]:
    """Return the symbols that a refusal blames, such as "code=400, message=invalid symbol: ANG-PD"."""
    found = _INVALID.search(words)
    return frozenset(re.split(r"[,\s]+", found[1].strip()) if found else ())


def answered(body: Any, what: str) -> Mapping[str, Any]:
    """Return an answer's object; an error's text that came with a good status is raised as what it means."""
    answer = mapping(VENDOR, body, what)
    words = _words(answer)
    if words is None:
        return answer
    if _TOO_MANY.search(words):
        raise RateLimited(VENDOR, words)
    if _NOT_SOLD.search(words):
        raise Unsupported(VENDOR, f"this plan does not sell that: {words}")
    if _DENIED.search(words):
        raise Denied(VENDOR, f"the credential was refused: {words}")
    raise Malformed(VENDOR, f"answered with an error: {words}")


def by_symbol(answer: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    """Return the part of an answer that is by symbol; it is null where there is nothing."""
    if what not in answer:
        raise Malformed(VENDOR, f"an answer without {what}")
    return {} if answer[what] is None else mapping(VENDOR, answer[what], what)


def next_of(answer: Mapping[str, Any]) -> str | None:
    """Return the token of the next page; a wrong one must not end the pages quietly."""
    token = answer.get("next_page_token")
    if token is not None and not isinstance(token, str):
        raise Malformed(VENDOR, f"its next_page_token is text, was {type(token).__name__}")
    return token or None


def parse_quotes(body: Any, asked: Sequence[str], feed: str) -> QuoteBatch:
    """Return the quotes of one answer; every symbol asked for is in exactly one part of the batch.

    A symbol that is null or not there is unknown.  An answer that says nothing of many symbols is
    `Malformed`, because it is no answer to the question.
    """
    answer = answered(body, "snapshots")
    quotes, unknown, failed = [], [], []
    for symbol in asked:
        entry = answer.get(spelled(symbol, VENDOR))
        if entry is None:
            unknown.append(symbol)
            continue
        try:
            quotes.append(parse_quote(entry, symbol, feed))
        except Malformed as e:
            failed.append((symbol, e.why))
    named = any(spelled(symbol, VENDOR) in answer for symbol in asked)
    if len(unknown) == len(asked) and not named and (answer or len(asked) > 1):
        raise Malformed(VENDOR, f"an answer without a quote for {len(asked)} symbols")
    return QuoteBatch(tuple(quotes), tuple(unknown), tuple(failed))


def parse_quote(entry: Any, symbol: str, feed: str) -> Quote:
    """Return one snapshot as a quote; `Malformed` if there is no market in it.

    The daily bar is the last session's until today's first trade: then its close is the previous close,
    and the day has no prices yet.  An ask of zero means that nobody asks; a bid of zero is real.
    """
    entry = mapping(VENDOR, entry, "snapshot")
    trade, market, day, before = (
        _part(entry, key) for key in ("latestTrade", "latestQuote", "dailyBar", "prevDailyBar")
    )
    at = max(moment_of(trade.get("t")), moment_of(market.get("t")), key=or_long_ago)
    if at is None:
        raise Malformed(VENDOR, "it has neither a trade nor a quote")
    last = traded(trade.get("p"))
    began = moment_of(day.get("t"))
    if began is not None and _new_york(began) >= _new_york(at):
        previous = traded(before.get("c"))
    else:
        previous, day = traded(day.get("c")), {}
    change = round(last - previous, 4) if last and previous else None
    found = Quote(
        symbol=symbol,
        at=at,
        source=VENDOR,
        last=last,
        bid=price(market.get("bp")),
        ask=traded(market.get("ap")),
        bid_size=count(market.get("bs")),
        ask_size=count(market.get("as")),
        open=traded(day.get("o")),
        high=traded(day.get("h")),
        low=traded(day.get("l")),
        close=traded(day.get("c")),
        previous_close=previous,
        volume=None if feed == "iex" else count(day.get("v")),
        change=change,
        change_percent=round(change / previous * 100, 4)
        if change is not None and previous
        else None,
        delayed=feed == "delayed_sip",
    )
    if found.last is found.bid is found.ask is found.previous_close is None:
        raise Malformed(VENDOR, "there is no price in it")
    return found


def parse_bars(body: Any, asked: Sequence[str], timeframe: Timeframe) -> BarPage:
    """Return one page's bars, by symbol and then time; a bar without its four prices is left out."""
    answer = answered(body, "bars")
    ours = {spelled(symbol, VENDOR): symbol for symbol in asked}
    bars: dict[tuple[str, datetime], Bar] = {}
    seen = 0
    for theirs, series in by_symbol(answer, "bars").items():
        if theirs not in ours or series is None:
            continue
        for row in series if isinstance(series, list) else [series]:
            seen += 1
            if bar := _bar(row, ours[theirs], timeframe):
                bars[bar.symbol, bar.at] = bar
    if seen and not bars:
        raise Malformed(VENDOR, f"a page of {seen} bars, none of them readable")
    return BarPage(tuple(bars[key] for key in sorted(bars)), next_of(answer))


def parse_movers(body: Any, ranking: Ranking) -> Movers:
    """Return the gainers or the losers of one answer; a row without a symbol or a price is left out."""
    answer = answered(body, "movers")
    found = [_mover(row) for row in rows(VENDOR, answer.get(ranking.value), ranking.value)]
    return Movers(ranking, _updated(answer), VENDOR, tuple(row for row in found if row))


def parse_active(body: Any) -> tuple[datetime, dict[str, int]]:
    """Return when the list of the most active was made, and each symbol's shares traded."""
    answer = answered(body, "most actives")
    volumes: dict[str, int] = {}
    for row in rows(VENDOR, answer.get("most_actives"), "most_actives"):
        told_of = row if isinstance(row, Mapping) else {}
        symbol, volume = _symbol(told_of.get("symbol")), count(told_of.get("volume"))
        if symbol and volume is not None:
            volumes[symbol] = volume
    return _updated(answer), volumes


def parse_news(body: Any) -> tuple[tuple[Story, ...], str | None]:
    """Return one page's stories and the token of the next; one without a headline or link is left out."""
    answer = answered(body, "news")
    found = [_story(row) for row in rows(VENDOR, answer.get("news"), "news")]
    return tuple(story for story in found if story), next_of(answer)


def parse_hours(body: Any) -> tuple[Session, ...]:
    """Return the sessions of a calendar; one that cannot be read is `Malformed`, for a missing one is closed."""
    if isinstance(body, Mapping):
        answered(body, "calendar")
    sessions = []
    for row in rows(VENDOR, body, "calendar"):
        hours = mapping(VENDOR, row, "calendar day")
        day = day_of(hours.get("date"))
        opens, closes = (_local(day, hours.get(key)) for key in ("open", "close"))
        if day is None or opens is None or closes is None or opens >= closes:
            raise Malformed(VENDOR, "a calendar day without its date and hours")
        sessions.append(Session(day, opens, closes))
    return tuple(sorted(sessions, key=lambda session: session.day))


def _bar(row: Any, symbol: str, timeframe: Timeframe) -> Bar | None:
    if not isinstance(row, Mapping):
        return None
    at = moment_of(row.get("t"))
    opened, high, low, close = (traded(row.get(key)) for key in "ohlc")
    if at is None or opened is None or high is None or low is None or close is None or low > high:
        return None
    if timeframe is Timeframe.DAY:
        at = datetime.combine(_new_york(at), time(), UTC)
    return Bar(symbol, at, opened, high, low, close, count(row.get("v")) or 0, VENDOR)


def _mover(row: Any) -> Mover | None:
    row = row if isinstance(row, Mapping) else {}
    symbol, last = _symbol(row.get("symbol")), traded(row.get("price"))
    if symbol is None or last is None:
        return None
    return Mover(symbol, last, number(row.get("change")), number(row.get("percent_change")))


def _active(found: Quote, volume: int) -> Mover | None:
    if found.last is None:
        return None
    return Mover(found.symbol, found.last, found.change, found.change_percent, volume)


def _story(row: Any) -> Story | None:
    row = row if isinstance(row, Mapping) else {}
    at, known_as = moment_of(row.get("created_at")), row.get("id")
    headline, url = _text(row.get("headline"), HEADLINE_LENGTH), told(row.get("url"), 2_000)
    if at is None or headline is None or url is None or not url.startswith(("https://", "http://")):
        return None
    if isinstance(known_as, bool) or not isinstance(known_as, int | str) or known_as == "":
        return None
    named = row.get("symbols")
    symbols = [_symbol(name) for name in named] if isinstance(named, list) else []
    return Story(
        id=plain(str(known_as), 100),
        at=at,
        source=VENDOR,
        headline=headline,
        url=url,
        publisher=told(row.get("source")),
        summary=_text(row.get("summary"), SUMMARY_LENGTH),
        symbols=tuple(dict.fromkeys(symbol for symbol in symbols if symbol)),
    )


def _text(value: Any, length: int) -> str | None:
    return told(html.unescape(value), length) if isinstance(value, str) else None


def _symbol(value: Any) -> str | None:
    try:
        return normalise(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _updated(answer: Mapping[str, Any]) -> datetime:
    at = moment_of(answer.get("last_updated"))
    if at is None:
        raise Malformed(VENDOR, "a list without its last_updated")
    return at


def _words(body: Any) -> str | None:
    return told(body.get("message"), DETAIL_LENGTH) if isinstance(body, Mapping) else None


def _part(entry: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = entry.get(key)
    return part if isinstance(part, Mapping) else {}


def _listed(symbols: Sequence[str]) -> str:
    return ",".join(spelled(symbol, VENDOR) for symbol in symbols)


def _paged(query: Mapping[str, str], token: str | None) -> dict[str, str]:
    return {**query, "page_token": token} if token else dict(query)


def _expiring(first: date | None, last: date | None) -> dict[str, str]:
    ends = {"expiration_date_gte": first, "expiration_date_lte": last}
    return {name: day.isoformat() for name, day in ends.items() if day}


def _local(day: date | None, hour: Any) -> datetime | None:
    """Return the moment of "09:30" in New York on a day."""
    try:
        at = time.fromisoformat(hour) if isinstance(hour, str) else None
    except ValueError:
        return None
    if day is None or at is None or at.tzinfo is not None:
        return None
    try:
        return datetime.combine(day, at, NEW_YORK).astimezone(UTC)
    except OverflowError:
        return None


def _instant(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), NEW_YORK)


def _new_york(at: datetime) -> date:
    return at.astimezone(NEW_YORK).date()


def _date_from(at: datetime) -> date:
    """Return the first date whose midnight UTC is not before `at`."""
    at = at.astimezone(UTC)
    return at.date() if at.time() == time() else at.date() + timedelta(days=1)
