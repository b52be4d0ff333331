"""GET /market/…: prices, quotes and bars."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Self

from fastapi import APIRouter, HTTPException, Query
from pydantic import AwareDatetime, BaseModel, Field

from actors.domain.models import Bar, Quote, Timeframe
from actors.domain.symbols import normalise
from api.deps import ASK_WITHIN, Answers, Newest, Symbol, TheTree
from api.problems import AWAY, NOT_FOUND

router = APIRouter(prefix="/market", tags=["market"], responses={**NOT_FOUND, **AWAY})

STALE_AFTER = 300.0  # seconds of market time: more than two cycles of the `prices` job


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
    age = max((datetime.now(UTC) - quote.at).total_seconds(), 0.0)
    return {
        "symbol": quote.symbol,
        "at": quote.at,
        "age_seconds": round(age, 1),
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


@router.get("/bars/{symbol}")
async def read_bars(
    symbol: Symbol,
    tree: TheTree,
    timeframe: Timeframe = Timeframe.MINUTE,
    start: Annotated[
        AwareDatetime | None, Query(description="Default: a day (1m) or a year (1d) before end")
    ] = None,
    end: Annotated[AwareDatetime | None, Query(description="Exclusive; default: now")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="The newest so many")] = 1_000,
) -> BarsOut:
    """Return a symbol's bars, oldest first: 1-minute bars as kept, daily bars as far back as asked."""
    name = normalise(symbol)
    until = end or datetime.now(UTC)
    default = timedelta(days=1 if timeframe is Timeframe.MINUTE else 365)
    since = start or until - default
    if since >= until:
        raise HTTPException(422, f"start must be before end, was {since.isoformat()}")
    bars = await tree.within(ASK_WITHIN).price_ingestor.bars(name, timeframe, since, until, limit)
    return BarsOut(symbol=name, timeframe=timeframe, bars=[_bar(bar) for bar in bars])


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
