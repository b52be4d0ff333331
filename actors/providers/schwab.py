"""Schwab Trader API: consolidated real-time quotes, price history, option chains, movers, facts and hours.

Vendor reference: developer.schwab.com (a login is needed); its schema and its wire differ, and the
wire is right.  The OAuth half is in `schwab_oauth`.
"""

import html
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Self
from zoneinfo import ZoneInfo

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
    Timeframe,
)
from actors.domain.symbols import normalise, spelled
from actors.providers.base import Denied, Malformed, ProviderError, Unavailable, Unsupported
from actors.providers.http import Tools, Wire
from actors.providers.schwab_oauth import VENDOR, Account, OAuth
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
    traded,
)
from actors.providers.vendor import Kind
from actors.settings import Settings

if TYPE_CHECKING:
    from actors.domain.chains import Chain

DATA = "/marketdata/v1"
CHICAGO = ZoneInfo("America/Chicago")  # daily bars are stamped at midnight there
NAME_LENGTH = 200
DETAIL_LENGTH = 200
MANY_CONTRACTS = frozenset({"SPX", "SPY", "QQQ"})  # more than the gateway's 10 MB in one answer
WINDOW = 6  # expirations of such a chain asked for at once: about 4 MB
MOVERS_OF = "$SPX"
SORTS = {
    Ranking.GAINERS: "PERCENT_CHANGE_UP",
    Ranking.LOSERS: "PERCENT_CHANGE_DOWN",
    Ranking.ACTIVE: "VOLUME",
}
SATURDAY = 5
TOO_BIG = "its gateway gave up on an answer that is too big"


class Schwab:
    """Quotes of up to 500 symbols at once; bars, chains and facts of one symbol; movers; hours of a day."""

    name: ClassVar = VENDOR
    needs: ClassVar = ("SCHWAB_APP_KEY", "SCHWAB_SECRET_KEY")
    sells: ClassVar = frozenset(
        {Kind.QUOTES, Kind.BARS, Kind.CHAIN, Kind.MOVERS, Kind.PROFILE, Kind.HOURS}
    )
    limits: ClassVar = "120/min"
    batch: ClassVar = 500  # 501 are refused: "Search combination should not exceed 500."
    bars_batch: ClassVar = 1

    def __init__(self, account: Account, limits: str, tools: Tools) -> None:
        self.limiter = tools.limiter(VENDOR, limits)
        self._wire, self._now = Wire(VENDOR, account.base_url, self.limiter, tools), tools.now
        self.oauth = OAuth(self._wire, account, tools)
        self.redirect_uri = account.redirect_uri

    @classmethod
    def of(cls, settings: Settings, tools: Tools) -> Self | None:
        """Return the vendor made from the settings, or None when its keys are not set."""
        if settings.schwab_app_key is None or settings.schwab_secret_key is None:
            return None
        token = settings.schwab_refresh_token
        account = Account(
            app_key=settings.schwab_app_key.get_secret_value(),
            secret_key=settings.schwab_secret_key.get_secret_value(),
            redirect_uri=settings.schwab_redirect_uri,
            refresh_token=token.get_secret_value() if token else None,
            base_url=settings.schwab_base_url,
        )
        return cls(account, settings.limits_of(VENDOR, cls.limits), tools)

    @property
    def login_expires_at(self) -> datetime | None:
        """Return when a person must log in again: 7 days after the last time."""
        return self.oauth.expires_at

    def authorize_url(self) -> str:
        """Return the address at which a person logs in."""
        return self.oauth.authorize_url()

    async def log_in(self, redirected_to: str, deadline: float) -> datetime:
        """Begin a login with the address the browser was sent back to; return when it ends."""
        return await self.oauth.log_in(redirected_to, deadline)

    async def open(self) -> None:
        """Take up the stored login."""
        await self.oauth.open()

    async def close(self) -> None:
        """Finish what OAuth has in hand and give back every connection."""
        await self.oauth.close()
        await self._wire.close()

    async def quotes(self, symbols: Sequence[str], deadline: float) -> QuoteBatch:
        """Return each symbol's market; the symbols are distinct and at most 500."""
        body = await self._get("/quotes", build_quotes(symbols), deadline)
        return parse_quotes(body, symbols)

    async def bars(
        self,
        symbols: Sequence[str],
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        deadline: float,
        page: str | None = None,  # noqa: ARG002  (an answer is always whole)
    ) -> BarPage:
        """Return one symbol's bars that start in [start, end); minutes of regular hours only."""
        [symbol] = symbols
        if timeframe is Timeframe.DAY and _date_from(start) >= _date_from(end):
            return BarPage(())  # no midnight between them
        body = await self._get("/pricehistory", build_bars(symbol, timeframe, start, end), deadline)
        bars = parse_bars(body, symbol, timeframe)
        return BarPage(tuple(bar for bar in bars if start <= bar.at < end))

    async def chain(
        self, symbol: str, deadline: float, first: date | None = None, last: date | None = None
    ) -> "Chain":
        """Return the contracts that expire within [first, last]; a chain too big for one answer in windows."""
        from actors.providers.schwab_chain import joined, parse_chain

        async def asked(since: date | None, until: date | None) -> "Chain | None":
            try:
                body = await self._get("/chains", build_chain(symbol, since, until), deadline)
            except Unavailable as e:
                if e.why == TOO_BIG:
                    return None
                raise
            return parse_chain(body, symbol, self._now())

        if symbol not in MANY_CONTRACTS:
            whole = await asked(first, last)
            if whole is not None:
                return whole
        days = await self._expirations(symbol, deadline)
        days = [day for day in days if (first or day) <= day <= (last or day)]
        windows, chains = list(windows_of(days, WINDOW)) or [[]], []
        while windows:
            window = windows.pop(0)
            since, until = (window[0], window[-1]) if window else (first, last)
            part = await asked(since, until)
            if part is not None:
                chains.append(part)
            elif len(window) > 1:
                windows = [*windows_of(window, (len(window) + 1) // 2), *windows]
            else:
                raise Unavailable(VENDOR, TOO_BIG)
        return joined(chains)

    async def movers(self, ranking: Ranking, deadline: float) -> Movers:
        """Return the ten members of the S&P 500 that moved or traded most."""
        query = {"sort": SORTS[ranking], "frequency": "0"}
        body = await self._get(f"/movers/{MOVERS_OF}", query, deadline)
        return parse_movers(body, ranking, self._now())

    async def profile(self, symbol: str, deadline: float) -> Profile | None:
        """Return what the company is; None where there is no such symbol."""
        query = {"symbol": spelled(symbol, VENDOR), "projection": "fundamental"}
        instruments = await self._get("/instruments", query, deadline)
        query = {"symbols": spelled(symbol, VENDOR), "fields": "fundamental,reference"}
        quotes = await self._get("/quotes", query, deadline)
        return parse_profile(instruments, quotes, symbol, self._now())

    async def hours(self, first: date, last: date, deadline: float) -> tuple[Session, ...]:
        """Return the regular sessions of [first, last]; one request a weekday."""
        days = (first + timedelta(days=n) for n in range((last - first).days + 1))
        found = []
        for day in days:
            if day.weekday() < SATURDAY:
                query = {"markets": "equity", "date": day.isoformat()}
                found.append(parse_hours(await self._get("/markets", query, deadline), day))
        return tuple(session for session in found if session is not None)

    async def _expirations(self, symbol: str, deadline: float) -> list[date]:
        from actors.providers.schwab_chain import parse_expirations

        query = {"symbol": spelled(symbol, VENDOR)}
        return parse_expirations(await self._get("/expirationchain", query, deadline))

    async def _get(self, path: str, params: Mapping[str, str], deadline: float) -> Any:
        refused = None
        while True:
            token = await self.oauth.access_token(deadline, refused)
            try:
                return await self._wire.request(
                    "GET",
                    DATA + path,
                    deadline=deadline,
                    params=params,
                    headers={"Authorization": f"Bearer {token}"},
                    refusal=refusal,
                )
            except Denied:
                # Tokens die early too (a new login, a restarted sandbox): one fresh one is tried.
                if refused is not None:
                    raise
            refused = token


# --- pure: what to ask -------------------------------------------------------------------------------


def build_quotes(symbols: Sequence[str]) -> dict[str, str]:
    """Return the query for many symbols' quotes, without the fundamentals that double its size."""
    return {
        "symbols": ",".join(spelled(symbol, VENDOR) for symbol in symbols),
        "fields": "quote,reference,regular",
    }


def build_bars(symbol: str, timeframe: Timeframe, start: datetime, end: datetime) -> dict[str, str]:
    """Return the query for one symbol's bars that start in [start, end)."""
    minutes = "5" if timeframe is Timeframe.FIVE_MINUTES else "1"
    query = {
        "symbol": spelled(symbol, VENDOR),
        "frequency": minutes,
        "needExtendedHoursData": "false",
    }
    if timeframe is not Timeframe.DAY:
        return query | {
            "periodType": "day",
            "frequencyType": "minute",
            "startDate": str(_ms(start)),
            "endDate": str(_ms(end)),
        }
    first, last = _date_from(start), _date_from(end)  # `last` is the first date not wanted
    return query | {
        "periodType": "year",
        "frequencyType": "daily",
        "startDate": str(_ms(_midnight(first))),
        "endDate": str(_ms(_midnight(last)) - 1),
    }


def build_chain(symbol: str, first: date | None, last: date | None) -> dict[str, str]:
    """Return the query for the contracts that expire within [first, last], both dates included."""
    query = {
        "symbol": spelled(symbol, VENDOR),
        "contractType": "ALL",
        "strategy": "SINGLE",
        "includeUnderlyingQuote": "false",
    }
    query |= {"fromDate": first.isoformat()} if first else {}
    return query | ({"toDate": last.isoformat()} if last else {})


def windows_of(days: Sequence[date], length: int) -> Iterator[Sequence[date]]:
    """Return the dates in runs of at most `length`."""
    return (days[n : n + length] for n in range(0, len(days), length))


# --- pure: what was answered -------------------------------------------------------------------------


def refusal(status: int, body: Any) -> ProviderError | None:
    """Read Schwab's own words in an answer that is not 2xx; None leaves it to the status."""
    match body:
        case {"fault": {"detail": {"errorcode": "protocol.http.TooBigBody"}}}:
            return Unavailable(VENDOR, TOO_BIG)
        case {"errors": [{"detail": str(detail)}, *_]} if status == 400:
            return Unsupported(VENDOR, f"refused the request: {plain(detail, DETAIL_LENGTH)}")
    return None


def parse_quotes(body: Any, asked: Sequence[str]) -> QuoteBatch:
    """Return the quotes of one answer; every symbol asked for is in exactly one part of the batch.

    A symbol the vendor names as invalid, or says nothing of, is unknown.  An answer that holds nothing
    for many symbols is `Malformed`, because it is no answer to the question.
    """
    if not isinstance(body, Mapping):
        raise Malformed(VENDOR, f"quotes are an object, was {type(body).__name__}")
    quotes, unknown, failed = [], [], []
    for symbol in asked:
        key = spelled(symbol, VENDOR)
        if key not in body:
            unknown.append(symbol)
            continue
        try:
            quotes.append(parse_quote(body[key], symbol))
        except Malformed as e:
            failed.append((symbol, e.why))
    if len(unknown) == len(asked) and not _explains(body, len(asked)):
        raise Malformed(VENDOR, f"an answer without a quote for {len(asked)} symbols")
    return QuoteBatch(tuple(quotes), tuple(unknown), tuple(failed))


def parse_quote(entry: Any, symbol: str) -> Quote:
    """Return one entry of a quotes answer as a quote; `Malformed` if there is no market in it.

    A price at which something traded is never zero: before the first trade of a day Schwab says 0.
    A bid or ask of zero is real.  `closePrice` is the previous close.
    """
    entry, quote = (
        mapping(VENDOR, entry, "entry"),
        mapping(VENDOR, mapping(VENDOR, entry, "entry").get("quote"), "quote"),
    )
    reference, regular = entry.get("reference"), entry.get("regular")
    told = max((moment(quote.get(key)) for key in ("quoteTime", "tradeTime")), key=or_long_ago)
    if told is None:
        raise Malformed(VENDOR, "it has neither a quoteTime nor a tradeTime")
    description = reference.get("description") if isinstance(reference, Mapping) else None
    found = Quote(
        symbol=symbol,
        at=told,
        source=VENDOR,
        last=traded(quote.get("lastPrice")),
        bid=price(quote.get("bidPrice")),
        ask=price(quote.get("askPrice")),
        bid_size=count(quote.get("bidSize")),
        ask_size=count(quote.get("askSize")),
        open=traded(quote.get("openPrice")),
        high=traded(quote.get("highPrice")),
        low=traded(quote.get("lowPrice")),
        close=traded(regular.get("regularMarketLastPrice"))
        if isinstance(regular, Mapping)
        else None,
        previous_close=traded(quote.get("closePrice")),
        volume=count(quote.get("totalVolume")),
        change=number(quote.get("netChange")),
        change_percent=number(quote.get("netPercentChange")),
        high_52w=traded(quote.get("52WeekHigh")),
        low_52w=traded(quote.get("52WeekLow")),
        delayed=entry.get("realtime") is False,
        name=_name(description),
    )
    if found.last is found.bid is found.ask is found.previous_close is None:
        raise Malformed(VENDOR, "there is no price in it")
    return found


def parse_bars(body: Any, symbol: str, timeframe: Timeframe) -> tuple[Bar, ...]:
    """Return the bars of one price history, oldest first; a candle without its four prices is left out."""
    candles = body.get("candles") if isinstance(body, Mapping) else None
    if not isinstance(candles, list):
        raise Malformed(VENDOR, "a price history without candles")
    bars = [bar for candle in candles if (bar := _bar(candle, symbol, timeframe))]
    if candles and not bars:
        raise Malformed(VENDOR, f"a price history of {len(candles)} candles, none of them readable")
    # By time, the later one of two: windows overlap at their edges.
    return tuple(sorted({bar.at: bar for bar in bars}.values(), key=lambda bar: bar.at))


def parse_movers(body: Any, ranking: Ranking, now: datetime) -> Movers:
    """Return a list of movers; a row without a symbol or a price is left out.

    `netPercentChange` is a fraction here.  Outside regular hours Schwab forgets the previous close, and the
    change is the price itself: that is no change.
    """
    told = rows(VENDOR, mapping(VENDOR, body, "movers").get("screeners"), "screeners")
    found = [mover for row in told if (mover := _mover(row))]
    if told and not found:
        raise Malformed(VENDOR, f"{len(told)} movers, none of them readable")
    return Movers(ranking, now, VENDOR, tuple(found))


def parse_profile(instruments: Any, quotes: Any, symbol: str, now: datetime) -> Profile | None:
    """Return a company's facts from its instrument and its quote; None where neither knows the symbol.

    Schwab says 0 where it has no beta, and for a company that it has no figures of.
    """
    key = spelled(symbol, VENDOR)
    told = mapping(VENDOR, instruments, "instruments").get("instruments", [])
    listed = [
        row
        for row in rows(VENDOR, told, "instruments")
        if isinstance(row, Mapping) and row.get("symbol") == key
    ]
    entry = _part(mapping(VENDOR, quotes, "quotes"), key)
    if not listed and not entry:
        if not _explains(quotes, 1):
            raise Malformed(VENDOR, f"an answer that does not tell of {symbol}")
        return None
    row = listed[0] if listed else {}
    facts, quoted, reference = (
        _part(row, "fundamental"),
        _part(entry, "fundamental"),
        _part(entry, "reference"),
    )
    name = row.get("description") or reference.get("description")
    exchange = row.get("exchange") or reference.get("exchangeName")
    dates = (quoted.get("nextDivExDate"), facts.get("dividendDate"), quoted.get("divExDate"))
    pays = price(quoted.get("divYield"))
    return Profile(
        symbol=symbol,
        at=now,
        source=VENDOR,
        name=_name(name),
        exchange=_name(exchange),
        market_cap=traded(facts.get("marketCap")),
        shares_outstanding=traded(facts.get("sharesOutstanding")),
        average_volume=traded(quoted.get("avg10DaysVolume"))
        or traded(facts.get("avg10DaysVolume")),
        beta=number(facts.get("beta")) or None,
        pe=traded(quoted.get("peRatio")) or traded(facts.get("peRatio")),
        eps=number(quoted.get("eps")) or number(facts.get("eps")) or None,
        dividend_yield=price(facts.get("dividendYield")) if pays is None else pays,
        dividend_ex=next((day for text in dates if (day := day_of(text))), None),
        high_52w=traded(facts.get("high52")),
        low_52w=traded(facts.get("low52")),
    )


def parse_hours(body: Any, day: date) -> Session | None:
    """Return a day's regular session of the equity market, or None where it is closed all day.

    An open day is told under `EQ`, a closed one under `equity` and without hours; an early close shows in the
    hours alone.
    """
    products = _part(mapping(VENDOR, body, "markets"), "equity")
    told = [product for product in products.values() if isinstance(product, Mapping)]
    told = [product for product in told if day_of(product.get("date")) == day]
    if not told:
        raise Malformed(VENDOR, f"hours that do not tell of {day}")
    for product in told:
        if product.get("isOpen") is False:
            return None
        match _part(product, "sessionHours").get("regularMarket"):
            case [{"start": start, "end": end}, *_]:
                opens, closes = moment_of(start), moment_of(end)
                if opens and closes and opens < closes:
                    return Session(day, opens, closes)
    raise Malformed(VENDOR, f"hours of {day} that are neither open nor closed")


def _mover(row: Any) -> Mover | None:
    if not isinstance(row, Mapping):
        return None
    told, last = row.get("symbol"), traded(row.get("lastPrice"))
    if not isinstance(told, str) or last is None:
        return None
    try:
        symbol = normalise(told.removeprefix("$"))
    except ValueError:
        return None
    change, part = number(row.get("netChange")), number(row.get("netPercentChange"))
    if change == last:
        change = part = None
    return Mover(
        symbol=symbol,
        last=last,
        change=change,
        # Told with four places: more than eight are noise of the multiplication.
        change_percent=None if part is None else number(round(part * 100, 8)),
        volume=count(row.get("volume")),
        name=_name(row.get("description")),
    )


def _part(body: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return an object within an object, or an empty one."""
    found = body.get(key)
    return found if isinstance(found, Mapping) else {}


def _name(text: Any) -> str | None:
    return plain(html.unescape(text), NAME_LENGTH) or None if isinstance(text, str) else None


def _bar(candle: Any, symbol: str, timeframe: Timeframe) -> Bar | None:
    if not isinstance(candle, Mapping):
        return None
    at = moment(candle.get("datetime"))
    opened, high, low, close = (traded(candle.get(key)) for key in ("open", "high", "low", "close"))
    if at is None or opened is None or high is None or low is None or close is None or low > high:
        return None
    if timeframe is Timeframe.DAY:
        at = datetime.combine(at.astimezone(CHICAGO).date(), time(), UTC)
    volume = count(candle.get("volume")) or 0
    return Bar(symbol, at, opened, high, low, close, volume, VENDOR)


def _explains(body: Mapping[str, Any], asked: int) -> bool:
    """Tell whether an answer without a quote is one: it names invalid symbols, or one just vanished."""
    match body:
        case {"errors": {"invalidSymbols": [_, *_]}}:
            return True
    return asked == 0 or (asked == 1 and not body)


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), CHICAGO)


def _date_from(at: datetime) -> date:
    """Return the first date whose midnight UTC is not before `at`."""
    at = at.astimezone(UTC)
    return at.date() if at.time() == time() else at.date() + timedelta(days=1)
