"""Schwab Trader API: consolidated real-time quotes and price history.

Vendor reference: developer.schwab.com (a login is needed); its schema and its wire differ, and the
wire is right.  The OAuth half is in `schwab_oauth`.
"""

import html
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, ClassVar, Self
from zoneinfo import ZoneInfo

from actors.domain.models import Bar, BarPage, Quote, QuoteBatch, Timeframe
from actors.domain.symbols import spelled
from actors.providers.base import Denied, Malformed, ProviderError, Unavailable, Unsupported
from actors.providers.http import Tools, Wire
from actors.providers.schwab_oauth import VENDOR, Account, OAuth
from actors.providers.values import (
    count,
    mapping,
    moment,
    number,
    or_long_ago,
    plain,
    price,
    traded,
)
from actors.providers.vendor import Kind
from actors.settings import Settings

DATA = "/marketdata/v1"
CHICAGO = ZoneInfo("America/Chicago")  # daily bars are stamped at midnight there
NAME_LENGTH = 200
DETAIL_LENGTH = 200


class Schwab:
    """Quotes of up to 500 symbols at once, and bars of one symbol."""

    name: ClassVar = VENDOR
    needs: ClassVar = ("SCHWAB_APP_KEY", "SCHWAB_SECRET_KEY")
    sells: ClassVar = frozenset({Kind.QUOTES, Kind.BARS})
    limits: ClassVar = "120/min"
    batch: ClassVar = 500  # 501 are refused: "Search combination should not exceed 500."
    bars_batch: ClassVar = 1

    def __init__(self, account: Account, limits: str, tools: Tools) -> None:
        self.limiter = tools.limiter(VENDOR, limits)
        self._wire = Wire(VENDOR, account.base_url, self.limiter, tools)
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


# --- pure: what was answered -------------------------------------------------------------------------


def refusal(status: int, body: Any) -> ProviderError | None:
    """Read Schwab's own words in an answer that is not 2xx; None leaves it to the status."""
    match body:
        case {"fault": {"detail": {"errorcode": "protocol.http.TooBigBody"}}}:
            return Unavailable(
                VENDOR, f"its gateway gave up on an answer that is too big ({status})"
            )
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
        name=plain(html.unescape(description), NAME_LENGTH) or None
        if isinstance(description, str)
        else None,
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
