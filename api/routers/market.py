"""GET /market/{price,quote,bars,range,volume}: what a symbol trades at, and traded at."""

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from statistics import mean
from typing import Annotated, Literal, Self

from fastapi import APIRouter, HTTPException, Query
from pydantic import AwareDatetime, BaseModel, Field

from actors.domain.bars import trading_day
from actors.domain.models import Bar, Quote, Timeframe
from actors.domain.symbols import normalise
from api.deps import ASK_WITHIN, STALE_AFTER, Answers, Newest, Symbol, TheTree
from api.problems import AWAY, NOT_FOUND
from api.told import age

router = APIRouter(prefix="/market", tags=["market"], responses={**NOT_FOUND, **AWAY})

YEAR = timedelta(days=365)
SPANS = (20, 30)  # sessions that a usual volume is the mean of
SPAN_DAYS = timedelta(days=60)  # in which there are 30 sessions


class Told(BaseModel):
    """What every answer about a symbol says of its origin."""

    symbol: str = Field(examples=["AAPL"])
    at: datetime = Field(description="When the vendor says it was true")
    age_seconds: float = Field(examples=[12.4])
    stale: bool = Field(
        description="Older than two refresh cycles of market time, or from memory while its owner restarts"
    )
    source: str = Field(examples=["schwab"])
    delayed: bool = False


class PriceOut(Told):
    """The last price and the day's change."""

    price: float | None = Field(examples=[234.87])
    previous_close: float | None = Field(examples=[232.15])
    change: float | None = Field(examples=[2.72])
    change_percent: float | None = Field(examples=[1.17])
    volume: int | None = Field(examples=[46430718])

    @classmethod
    def of(cls, quote: Quote, newest: datetime, *, kept: bool) -> Self:
        """Return a quote as a price."""
        return cls(
            **_told(quote, newest, kept=kept),
            price=quote.last,
            previous_close=quote.previous_close,
            change=quote.change,
            change_percent=quote.change_percent,
            volume=quote.volume,
        )


class QuoteOut(PriceOut):
    """The whole quote."""

    name: str | None = Field(None, examples=["APPLE INC"])
    bid: float | None = Field(None, examples=[234.86])
    ask: float | None = Field(None, examples=[234.88])
    bid_size: int | None = Field(None, examples=[2])
    ask_size: int | None = Field(None, examples=[1])
    spread: float | None = Field(None, examples=[0.02])
    open: float | None = Field(None, examples=[236.18])
    high: float | None = Field(None, examples=[236.18])
    low: float | None = Field(None, examples=[234.01])
    high_52w: float | None = Field(None, examples=[237.49])
    low_52w: float | None = Field(None, examples=[164.08])

    @classmethod
    def of(cls, quote: Quote, newest: datetime, *, kept: bool) -> Self:
        """Return a quote in full."""
        both = quote.bid is not None and quote.ask is not None
        return cls(
            **PriceOut.of(quote, newest, kept=kept).model_dump(),
            name=quote.name,
            bid=quote.bid,
            ask=quote.ask,
            bid_size=quote.bid_size,
            ask_size=quote.ask_size,
            spread=round(quote.ask - quote.bid, 4) if both else None,  # type: ignore[operator]
            open=quote.open,
            high=quote.high,
            low=quote.low,
            high_52w=quote.high_52w,
            low_52w=quote.low_52w,
        )


class RangeOut(Told):
    """Where the price stands between the low and the high of the day and of 52 weeks: 0 is the low."""

    current: float | None = Field(examples=[234.87])
    day_low: float | None = Field(examples=[234.01])
    day_high: float | None = Field(examples=[236.18])
    day_position_pct: float | None = Field(examples=[39.63])
    low_52w: float | None = Field(examples=[164.08])
    high_52w: float | None = Field(examples=[237.49])
    position_pct: float | None = Field(description="Within 52 weeks", examples=[96.43])
    range_source: str = Field(
        description="Who tells the 52 weeks: the quote's vendor, or our daily `bars`",
        examples=["schwab"],
    )


class VolumeOut(Told):
    """Today's shares beside those of a usual session; early in a session the ratio is low."""

    current_volume: int | None = Field(examples=[46430718])
    avg_volume_20d: float | None = Field(
        description="Mean of the last 20 whole sessions", examples=[51203311.0]
    )
    avg_volume_30d: float | None = Field(examples=[50871220.5])
    volume_ratio: float | None = Field(
        description="Today's shares / those of a usual session of 20", examples=[0.91]
    )
    sessions: int = Field(description="Whole sessions that were looked at", examples=[30])


class BarOut(BaseModel):
    """One bar; `polled` bars are built from polled quotes, so high and low are of what was seen."""

    at: datetime
    open: float = Field(examples=[234.2])
    high: float = Field(examples=[234.9])
    low: float = Field(examples=[234.1])
    close: float = Field(examples=[234.87])
    volume: int = Field(examples=[181204])
    source: str = Field(examples=["schwab"])
    polled: bool = Field(examples=[True])


class BarsOut(BaseModel):
    """Bars of a symbol, oldest first."""

    symbol: str = Field(examples=["AAPL"])
    timeframe: Timeframe
    bars: list[BarOut]


def _told(quote: Quote, newest: datetime, *, kept: bool) -> dict[str, object]:
    return {
        "symbol": quote.symbol,
        "at": quote.at,
        "age_seconds": age(quote.at),
        "stale": kept or (newest - quote.at).total_seconds() > STALE_AFTER,
        "source": quote.source,
        "delayed": quote.delayed,
    }


async def _quote(symbol: str, tree: TheTree, answers: Answers) -> tuple[Quote, bool]:
    name = normalise(symbol)
    return await answers.fresh_or_kept(
        ("quote", name), lambda: tree.within(ASK_WITHIN).price_ingestor.quote(name)
    )


@router.get("/price/{symbol}")
async def read_price(symbol: Symbol, tree: TheTree, answers: Answers, newest: Newest) -> PriceOut:
    """Return the last price of a symbol and the day's change."""
    quote, kept = await _quote(symbol, tree, answers)
    return PriceOut.of(quote, newest, kept=kept)


@router.get("/quote/{symbol}")
async def read_quote(symbol: Symbol, tree: TheTree, answers: Answers, newest: Newest) -> QuoteOut:
    """Return the whole quote of a symbol: bid, ask, day range, 52-week range."""
    quote, kept = await _quote(symbol, tree, answers)
    return QuoteOut.of(quote, newest, kept=kept)


@router.get("/range/{symbol}")
async def read_range(symbol: Symbol, tree: TheTree, answers: Answers, newest: Newest) -> RangeOut:
    """Return the day's and the 52 weeks' range of a symbol, and where its price stands in them."""
    name = normalise(symbol)

    async def ask() -> tuple[Quote, float | None, float | None, str]:
        asked = tree.within(ASK_WITHIN).price_ingestor
        quote = await asked.quote(name)
        if quote.low_52w is not None and quote.high_52w is not None:
            return quote, quote.low_52w, quote.high_52w, quote.source
        now = datetime.now(UTC)
        bars = await asked.bars(name, Timeframe.DAY, now - YEAR, now, 366)
        lows, highs = [bar.low for bar in bars], [bar.high for bar in bars]
        return quote, min(lows, default=None), max(highs, default=None), "bars"

    (quote, low, high, source), kept = await answers.fresh_or_kept(("range", name), ask)
    # A vendor's year may end yesterday.
    low, high = _outer(min, low, quote.low, quote.last), _outer(max, high, quote.high, quote.last)
    return RangeOut(
        **_told(quote, newest, kept=kept),
        current=quote.last,
        day_low=quote.low,
        day_high=quote.high,
        day_position_pct=_position(quote.last, quote.low, quote.high),
        low_52w=low,
        high_52w=high,
        position_pct=_position(quote.last, low, high),
        range_source=source,
    )


@router.get("/volume/{symbol}")
async def read_volume(symbol: Symbol, tree: TheTree, answers: Answers, newest: Newest) -> VolumeOut:
    """Return today's volume of a symbol beside its usual one, by stored daily bars, fetched where they lack."""
    name = normalise(symbol)

    async def ask() -> tuple[Quote, list[int]]:
        asked = tree.within(ASK_WITHIN).price_ingestor
        quote = await asked.quote(name)
        end = datetime.combine(trading_day(quote.at), time(), UTC)
        bars = await asked.bars(name, Timeframe.DAY, end - SPAN_DAYS, end, max(SPANS))
        return quote, [bar.volume for bar in bars]

    (quote, volumes), kept = await answers.fresh_or_kept(("volume", name), ask)
    usual, longer = (mean(volumes[-span:]) if volumes else None for span in SPANS)
    ratio = round(quote.volume / usual, 4) if quote.volume is not None and usual else None
    return VolumeOut(
        **_told(quote, newest, kept=kept),
        current_volume=quote.volume,
        avg_volume_20d=usual,
        avg_volume_30d=longer,
        volume_ratio=ratio,
        sessions=len(volumes),
    )


def _outer(of: Callable[..., float], *values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return of(known) if known else None


def _position(price: float | None, low: float | None, high: float | None) -> float | None:
    """Return the percent of the way from low to high; None where they are the same."""
    if price is None or low is None or high is None or high <= low:
        return None
    return round((price - low) / (high - low) * 100, 2)


@router.get("/bars/{symbol}")
async def read_bars(
    symbol: Symbol,
    tree: TheTree,
    timeframe: Literal["1m", "1d"] = "1m",
    start: Annotated[
        AwareDatetime | None, Query(description="Default: a day (1m) or a year (1d) before end")
    ] = None,
    end: Annotated[AwareDatetime | None, Query(description="Exclusive; default: now")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="The newest so many")] = 1_000,
) -> BarsOut:
    """Return a symbol's bars, oldest first: 1-minute bars as kept, daily bars as far back as asked."""
    name = normalise(symbol)
    until = end or datetime.now(UTC)
    frame = Timeframe(timeframe)
    default = timedelta(days=1 if frame is Timeframe.MINUTE else 365)
    since = start or until - default
    if since >= until:
        raise HTTPException(422, f"start must be before end, was {since.isoformat()}")
    bars = await tree.within(ASK_WITHIN).price_ingestor.bars(name, frame, since, until, limit)
    return BarsOut(symbol=name, timeframe=frame, bars=[_bar(bar) for bar in bars])


def _bar(bar: Bar) -> BarOut:
    return BarOut(
        at=bar.at,
        open=bar.open,
        high=bar.high,
        low=bar.low,
        close=bar.close,
        volume=bar.volume,
        source=bar.source,
        polled=bar.polled,
    )
