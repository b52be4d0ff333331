"""GET /market/{profile,earnings,news,sentiment}: what vendors tell of a company besides its price."""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Self, TypeVar

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel, Field

from actors.client import DeadlineExceeded
from actors.domain.bars import trading_day
from actors.domain.errors import UnknownSymbol, VendorError
from actors.domain.models import Earnings, Profile, Recommendations, Sourced, Story
from actors.domain.symbols import normalise
from api.deps import ASK_WITHIN, LOOK_WITHIN, SYMBOL, Answers, Symbol, TheTree
from api.problems import AWAY, NOT_FOUND
from api.told import Origin, origin

router = APIRouter(prefix="/market", tags=["companies"], responses={**NOT_FOUND, **AWAY})

T = TypeVar("T")

QUARTER = timedelta(days=95)  # from one report to the next, and a little
MOST_DAYS, MOST_DAYS_OF_ONE = 31, 731  # of the calendar; of all companies a week is a request
PAGES = (50, 100)  # stories asked for, so that many limits are one question
RECENT = 5  # stories told beside the sentiment
JUDGED_FOR = timedelta(days=7)


class Hour(StrEnum):
    """When on its day a report comes."""

    BEFORE_OPEN = "bmo"
    AFTER_CLOSE = "amc"
    DURING = "dmh"


class ProfileOut(Origin):
    """What a company or fund is, and its standing figures."""

    symbol: str = Field(examples=["AAPL"])
    name: str | None = Field(examples=["Apple Inc"])
    exchange: str | None = Field(examples=["NASDAQ NMS - GLOBAL MARKET"])
    sector: str | None = Field(examples=["Information Technology"])
    industry: str | None = Field(examples=["Technology"])
    country: str | None = Field(examples=["US"])
    website: str | None
    description: str | None
    listed: date | None = Field(description="First day of trading", examples=["1980-12-12"])
    employees: int | None = Field(examples=[164_000])
    market_cap: float | None = Field(description="Dollars", examples=[4.03e12])
    shares_outstanding: float | None = Field(examples=[1.48e10])
    average_volume: float | None = Field(
        description="Shares a day, of the vendor's own span", examples=[4.8e7]
    )
    beta: float | None = Field(examples=[1.09])
    pe: float | None = Field(description="Price to earnings", examples=[36.4])
    eps: float | None = Field(description="Dollars of the last four quarters", examples=[7.45])
    dividend_yield: float | None = Field(description="Percent a year", examples=[0.38])
    dividend_ex: date | None = Field(
        description="The next ex-date, or the last where only that is told", examples=["2026-11-09"]
    )
    high_52w: float | None = Field(examples=[237.49])
    low_52w: float | None = Field(examples=[164.08])

    @classmethod
    def of(cls, profile: Profile, *, kept: bool) -> Self:
        """Return a profile as the world sees it."""
        own = cls.model_fields.keys() - Origin.model_fields.keys()
        told = {name: getattr(profile, name) for name in own}
        return cls(**origin(profile.source, profile.at, stale=kept), **told)


class Report(BaseModel):
    """One company's report: planned, or with what it said.  Revenue in dollars, EPS in dollars a share."""

    symbol: str = Field(examples=["AAPL"])
    earnings_date: date = Field(examples=["2026-10-29"])
    days_until: int = Field(description="Negative for a report that was", examples=[-26])
    hour: Hour | None = Field(description="Before the open, after the close, or during the session")
    quarter: int | None = Field(examples=[4])
    year: int | None = Field(examples=[2026])
    eps_estimate: float | None = Field(examples=[1.77])
    eps_actual: float | None = Field(examples=[1.85])
    eps_surprise_pct: float | None = Field(examples=[4.52])
    revenue_estimate: float | None = Field(examples=[1.017e11])
    revenue_actual: float | None = Field(examples=[1.025e11])

    @classmethod
    def of(cls, report: Earnings, today: date) -> Self:
        """Return a report as the world sees it."""
        both = report.eps_actual is not None and report.eps_estimate
        surprise = None
        if both and report.eps_actual is not None and report.eps_estimate:
            beyond = report.eps_actual - report.eps_estimate
            surprise = round(beyond / abs(report.eps_estimate) * 100, 2)
        return cls(
            symbol=report.symbol,
            earnings_date=report.day,
            days_until=(report.day - today).days,
            hour=Hour(report.hour) if report.hour in tuple(Hour) else None,
            quarter=report.quarter,
            year=report.year,
            eps_estimate=report.eps_estimate,
            eps_actual=report.eps_actual,
            eps_surprise_pct=surprise,
            revenue_estimate=report.revenue_estimate,
            revenue_actual=report.revenue_actual,
        )


class CalendarOut(Origin):
    """The reports of a span of days, oldest first."""

    start: date
    end: date = Field(description="Inclusive")
    earnings: list[Report]


class EarningsOut(Origin):
    """A company's next report, and the last one; `null` where the vendor knows of none within a quarter."""

    symbol: str = Field(examples=["AAPL"])
    earnings_date: date | None = Field(description="Of the next report", examples=["2027-01-28"])
    days_until: int | None = Field(examples=[65])
    hour: Hour | None
    quarter: int | None = Field(examples=[1])
    year: int | None = Field(examples=[2027])
    eps_estimate: float | None = Field(examples=[2.67])
    eps_actual: float | None = Field(examples=[None])
    revenue_estimate: float | None = Field(examples=[1.38e11])
    revenue_actual: float | None = Field(examples=[None])
    last: Report | None = Field(description="The newest report before today")


class StoryOut(BaseModel):
    """One piece of news."""

    at: datetime = Field(description="Published")
    headline: str = Field(examples=["Apple Inc. names a new head of chips"])
    url: str
    publisher: str | None = Field(examples=["Reuters"])
    summary: str | None
    symbols: list[str] = Field(examples=[["AAPL"]])
    sentiment: str | None = Field(
        description="positive, neutral or negative where the vendor judges it", examples=[None]
    )
    source: str = Field(examples=["finnhub"])

    @classmethod
    def of(cls, story: Story) -> Self:
        """Return a story as the world sees it."""
        told = {name: getattr(story, name) for name in cls.model_fields if name != "symbols"}
        return cls(**told, symbols=list(story.symbols))


class NewsOut(Origin):
    """The newest stories first."""

    symbol: str | None = Field(description="null: the whole market's", examples=["AAPL"])
    news: list[StoryOut]


class MonthOut(BaseModel):
    """How many analysts said what in one month."""

    month: date = Field(description="Its first day", examples=["2026-11-01"])
    strong_buy: int = Field(examples=[13])
    buy: int = Field(examples=[24])
    hold: int = Field(examples=[7])
    sell: int = Field(examples=[1])
    strong_sell: int = Field(examples=[0])

    @classmethod
    def of(cls, row: Recommendations) -> Self:
        """Return a month as the world sees it."""
        return cls(**{name: getattr(row, name) for name in cls.model_fields})

    @property
    def analysts(self) -> int:
        """Return how many there are."""
        return self.strong_buy + self.buy + self.hold + self.sell + self.strong_sell


class JudgedOut(Origin):
    """How the stories of the last seven days were judged by their vendor."""

    positive: int = Field(examples=[9])
    neutral: int = Field(examples=[4])
    negative: int = Field(examples=[2])
    score: float | None = Field(
        description="(positive - negative) / all, from -1 to 1", examples=[0.47]
    )


class SentimentOut(Origin):
    """What analysts and, where a vendor judges them, the news say; percents are of the newest month."""

    symbol: str = Field(examples=["AAPL"])
    analysts: int | None = Field(examples=[45])
    bullish_percent: float | None = Field(description="Buy and strong buy", examples=[82.22])
    neutral_percent: float | None = Field(examples=[15.56])
    bearish_percent: float | None = Field(description="Sell and strong sell", examples=[2.22])
    recommendation_trend: list[MonthOut] = Field(description="The newest month first")
    news_sentiment: JudgedOut | None
    recent_news: list[StoryOut] = Field(description="The five newest stories of seven days")
    missing: dict[str, str] = Field(
        description="Which part could not be had, and why", examples=[{}]
    )


@router.get("/profile/{symbol}")
async def read_profile(symbol: Symbol, tree: TheTree, answers: Answers) -> ProfileOut:
    """Return what a company or fund is, and its standing figures; at most a day old."""
    name = normalise(symbol)
    found, kept = await answers.fresh_or_kept(
        ("profile", name), lambda: tree.within(ASK_WITHIN).provider_pool.profile(name)
    )
    if found is None:
        raise UnknownSymbol(name)
    return ProfileOut.of(found, kept=kept)


@router.get("/earnings")
async def read_earnings_calendar(
    tree: TheTree,
    answers: Answers,
    start: Annotated[date | None, Query(alias="from", description="Default: today")] = None,
    end: Annotated[
        date | None, Query(alias="to", description="Inclusive; default: a week later")
    ] = None,
    symbol: Annotated[str | None, Query(pattern=SYMBOL, examples=["AAPL"])] = None,
) -> CalendarOut:
    """Return the reports of a span of days: at most 31 of all companies, or two years of one."""
    today = trading_day(datetime.now(UTC))
    first = start or (end - timedelta(days=7) if end else today)
    last = end or first + timedelta(days=7)
    most = MOST_DAYS_OF_ONE if symbol else MOST_DAYS
    if not 0 <= (last - first).days <= most:
        raise HTTPException(422, f"to must be 0 to {most} days after from, was {first} to {last}")
    name = normalise(symbol) if symbol else None
    found, kept = await _reports(name, first, last, tree, answers)
    return CalendarOut(
        **origin(found.source, found.at, stale=kept),
        start=first,
        end=last,
        earnings=[Report.of(row, today) for row in found.rows],
    )


@router.get("/earnings/{symbol}")
async def read_earnings(symbol: Symbol, tree: TheTree, answers: Answers) -> EarningsOut:
    """Return a company's next report and the last one, each within a quarter of today."""
    name, today = normalise(symbol), trading_day(datetime.now(UTC))
    found, kept = await _reports(name, today - QUARTER, today + QUARTER, tree, answers)
    reports = [Report.of(row, today) for row in found.rows]
    upcoming = next((report for report in reports if report.days_until >= 0), None)
    own = EarningsOut.model_fields.keys() - Origin.model_fields.keys() - {"symbol", "last"}
    return EarningsOut(
        **origin(found.source, found.at, stale=kept),
        symbol=name,
        **{field: getattr(upcoming, field, None) for field in own},
        last=next((report for report in reversed(reports) if report.days_until < 0), None),
    )


Limit = Annotated[int, Query(ge=1, le=PAGES[-1], description="The newest so many")]
Days = Annotated[int, Query(ge=1, le=30, description="How far back")]


@router.get("/news")
async def read_market_news(
    tree: TheTree, answers: Answers, limit: Limit = 10, days: Days = 7
) -> NewsOut:
    """Return the newest stories of the whole market; at most 10 minutes old."""
    return await _news(None, limit, days, tree, answers)


@router.get("/news/{symbol}")
async def read_news(
    symbol: Symbol, tree: TheTree, answers: Answers, limit: Limit = 10, days: Days = 7
) -> NewsOut:
    """Return the newest stories of a symbol; at most 10 minutes old."""
    return await _news(normalise(symbol), limit, days, tree, answers)


@router.get("/sentiment/{symbol}")
async def read_sentiment(symbol: Symbol, tree: TheTree, answers: Answers) -> SentimentOut:
    """Return what analysts say, and how the news is judged; a part that cannot be had is `missing`."""
    name = normalise(symbol)
    parts, kept = await answers.fresh_or_kept(("sentiment", name), lambda: _parts(name, tree))
    opinions, judged, news = _had(parts[0]), _had(parts[1]), _had(parts[2])
    told: list[Sourced[Any]] = [part for part in (opinions, judged, news) if part]
    months = [MonthOut.of(row) for row in opinions.rows] if opinions else []
    newest = months[0] if months and months[0].analysts else None
    return SentimentOut(
        **origin(_sources(told), min(part.at for part in told), stale=kept),
        symbol=name,
        analysts=newest.analysts if newest else None,
        bullish_percent=_percent(newest, newest.strong_buy + newest.buy) if newest else None,
        neutral_percent=_percent(newest, newest.hold) if newest else None,
        bearish_percent=_percent(newest, newest.sell + newest.strong_sell) if newest else None,
        recommendation_trend=months,
        news_sentiment=_judged(judged, kept=kept) if judged else None,
        recent_news=[StoryOut.of(story) for story in news.rows[:RECENT]] if news else [],
        missing={
            what: str(part)
            for what, part in zip(("recommendations", "news_sentiment", "news"), parts, strict=True)
            if isinstance(part, Failed)
        },
    )


Failed = VendorError | DeadlineExceeded
Parts = tuple[
    Sourced[tuple[Recommendations, ...]] | Failed,
    Sourced[tuple[Story, ...]] | Failed,
    Sourced[tuple[Story, ...]] | Failed,
]


async def _parts(symbol: str, tree: TheTree) -> Parts:
    """Return (opinions, judged stories, stories), each or why it could not be had; one must be."""
    pool, soon = tree.within(ASK_WITHIN).provider_pool, tree.within(LOOK_WITHIN).provider_pool
    since = datetime.now(UTC) - JUDGED_FOR
    parts = await asyncio.gather(
        _or_why(pool.recommendations(symbol)),
        # Whose plan is small lets wait for its turn; what it answers then is there for the next who asks.
        _or_why(soon.news((symbol,), since, PAGES[0], judged=True)),
        _or_why(pool.news((symbol,), since, PAGES[0])),
    )
    if isinstance(parts[0], Failed) and not any(isinstance(part, Sourced) for part in parts):
        raise parts[0]
    if not any(part.rows for part in parts if isinstance(part, Sourced)):
        await _refuse_unknown(symbol, tree)
    return parts


def _had(part: T | Failed) -> T | None:
    return None if isinstance(part, Failed) else part


async def _or_why(part: Awaitable[T]) -> T | Failed:
    try:
        return await part
    except (VendorError, DeadlineExceeded) as e:
        return e


async def _reports(
    symbol: str | None, first: date, last: date, tree: TheTree, answers: Answers
) -> tuple[Sourced[tuple[Earnings, ...]], bool]:
    async def ask() -> Sourced[tuple[Earnings, ...]]:
        found = await tree.within(ASK_WITHIN).provider_pool.earnings(first, last, symbol)
        if symbol and not found.rows:
            await _refuse_unknown(symbol, tree)
        return found

    return await answers.fresh_or_kept(("earnings", symbol, first, last), ask)


async def _news(
    symbol: str | None, limit: int, days: int, tree: TheTree, answers: Answers
) -> NewsOut:
    page = next(size for size in PAGES if limit <= size)

    async def ask() -> Sourced[tuple[Story, ...]]:
        since = datetime.now(UTC) - timedelta(days=days)
        symbols: Sequence[str] = (symbol,) if symbol else ()
        found = await tree.within(ASK_WITHIN).provider_pool.news(symbols, since, page)
        if symbol and not found.rows:
            await _refuse_unknown(symbol, tree)
        return found

    found, kept = await answers.fresh_or_kept(("news", symbol, days, page), ask)
    return NewsOut(
        **origin(found.source, found.at, stale=kept),
        symbol=symbol,
        news=[StoryOut.of(story) for story in found.rows[:limit]],
    )


async def _refuse_unknown(symbol: str, tree: TheTree) -> None:
    """Raise `UnknownSymbol` where nothing was told because there is no such symbol."""
    await tree.within(ASK_WITHIN).price_ingestor.quote(symbol)


def _judged(told: Sourced[tuple[Story, ...]], *, kept: bool) -> JudgedOut:
    said = [story.sentiment for story in told.rows]
    positive, neutral, negative = (said.count(w) for w in ("positive", "neutral", "negative"))
    judged = positive + neutral + negative
    return JudgedOut(
        **origin(told.source, told.at, stale=kept),
        positive=positive,
        neutral=neutral,
        negative=negative,
        score=round((positive - negative) / judged, 2) if judged else None,
    )


def _percent(month: MonthOut, part: int) -> float:
    return round(part / month.analysts * 100, 2)


def _sources(parts: Iterable[Sourced[Any]]) -> str:
    return ", ".join(sorted({part.source for part in parts}))
