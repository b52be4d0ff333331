"""GET /market/{top,sp500,hours}: the market as a whole."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Self

from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import BaseModel, Field

from actors.client import DeadlineExceeded, Unreachable
from actors.domain import calendar
from actors.domain.bars import trading_day
from actors.domain.errors import VendorError
from actors.domain.models import Mover, Movers, Ranking, Session, Sourced
from api.deps import ASK_WITHIN, LOOK_WITHIN, STALE_AFTER, Answers, Newest, TheTree
from api.problems import AWAY
from api.told import Origin, origin

router = APIRouter(prefix="/market", tags=["market"], responses=AWAY)

CHECKED_AHEAD = 365  # days that vendors tell the hours of
LAST_YEAR = 2100  # no rule is that old


class Scope(StrEnum):
    """Who takes part in a ranking."""

    SP500 = "sp500"
    MARKET = "market"


class MoverOut(BaseModel):
    """One row of a ranking."""

    symbol: str = Field(examples=["NVDA"])
    name: str | None = Field(examples=["NVIDIA CORP"])
    price: float = Field(examples=[182.55])
    change: float | None = Field(description="Dollars since the previous close", examples=[6.31])
    percent: float | None = Field(description="The same in percent", examples=[3.58])
    volume: int | None = Field(examples=[184_302_117])

    @classmethod
    def of(cls, row: Mover) -> Self:
        """Return a row as the world sees it."""
        return cls(
            symbol=row.symbol,
            name=row.name,
            price=row.last,
            change=row.change,
            percent=row.change_percent,
            volume=row.volume,
        )


class TopOut(Origin):
    """Who gained, lost and traded most, the first one most."""

    index: str = Field(examples=["S&P 500"])
    gainers: list[MoverOut]
    losers: list[MoverOut]
    active: list[MoverOut] = Field(description="By shares")


class MemberOut(BaseModel):
    """One member of the index."""

    symbol: str = Field(examples=["AAPL"])
    name: str = Field(examples=["Apple Inc."])
    sector: str | None = Field(examples=["Information Technology"])


class MembersOut(BaseModel):
    """The S&P 500 as it is followed: the shipped list and what its weekly job changed."""

    index: str = Field(examples=["S&P 500"])
    symbols: list[str] = Field(examples=[["A", "AAPL", "ABBV"]])
    members: list[MemberOut]


class HoursOut(Origin):
    """One day's regular session by the calendar, and whether a vendor says the same."""

    day: date = Field(examples=["2026-11-27"])
    trading_day: bool = Field(examples=[True])
    opens: datetime | None = Field(examples=["2026-11-27T14:30:00Z"])
    closes: datetime | None = Field(examples=["2026-11-27T18:00:00Z"])
    early_close: bool = Field(examples=[True])
    open_now: bool = Field(description="The sandbox's market never closes", examples=[False])
    next_open: datetime = Field(examples=["2026-11-30T14:30:00Z"])
    checked_with: str | None = Field(description="The vendor that was asked", examples=["schwab"])
    agrees: bool | None = Field(description="null where nobody could be asked", examples=[True])
    vendor_opens: datetime | None = Field(description="What that vendor says")
    vendor_closes: datetime | None
    unchecked: str | None = Field(description="Why nobody was asked", examples=[None])


@router.get("/top")
async def read_top(
    tree: TheTree,
    answers: Answers,
    newest: Newest,
    limit: Annotated[int, Query(ge=1, le=25, description="Rows of each ranking")] = 5,
    scope: Annotated[
        Scope,
        Query(description="The S&P 500 by our own quotes, or the market as a vendor ranks it"),
    ] = Scope.SP500,
) -> TopOut:
    """Return who gained, lost and traded most."""

    async def ask() -> Sequence[Movers]:
        asked = tree.within(ASK_WITHIN)
        if scope is Scope.SP500:
            return await asyncio.gather(*(asked.price_ingestor.movers(r, 25) for r in Ranking))
        return await asyncio.gather(*(asked.provider_pool.movers(r) for r in Ranking))

    found, kept = await answers.fresh_or_kept(("top", scope), ask)
    told = {movers.ranking: [MoverOut.of(row) for row in movers.rows[:limit]] for movers in found}
    at = min(movers.at for movers in found)
    late = (newest - at).total_seconds() > STALE_AFTER
    return TopOut(
        **origin(", ".join(sorted({m.source for m in found})), at, stale=kept or late),
        index="S&P 500" if scope is Scope.SP500 else "market",
        gainers=told[Ranking.GAINERS],
        losers=told[Ranking.LOSERS],
        active=told[Ranking.ACTIVE],
    )


@router.get("/sp500")
async def read_members(tree: TheTree, answers: Answers) -> MembersOut:
    """Return the members of the S&P 500, by symbol."""
    found, _ = await answers.fresh_or_kept("sp500", tree.within(LOOK_WITHIN).price_ingestor.members)
    return MembersOut(
        index="S&P 500",
        symbols=[ticker.symbol for ticker in found],
        members=[MemberOut(symbol=t.symbol, name=t.name, sector=t.sector) for t in found],
    )


@router.get("/hours")
async def read_hours(
    request: Request,
    tree: TheTree,
    day: Annotated[
        date | None, Query(alias="date", description="In New York; default: today")
    ] = None,
) -> HoursOut:
    """Return a day's regular session by the exchange's rules, compared with what a vendor says.

    Vendors are asked of days from today to a year ahead; where they disagree both are told.
    """
    now = datetime.now(UTC)
    today = trading_day(now)
    asked = day or today
    if not calendar.FIRST_YEAR <= asked.year <= LAST_YEAR:
        raise HTTPException(
            422, f"date must be from {calendar.FIRST_YEAR} to {LAST_YEAR}, was {asked}"
        )
    ours = calendar.session(asked)
    usual = calendar.CLOSES
    check = await _theirs(asked, today, tree)
    theirs = (
        next((s for s in check.rows if s.day == asked), None)
        if isinstance(check, Sourced)
        else None
    )
    agrees = None
    if isinstance(check, Sourced):
        agrees = (ours and (ours.opens, ours.closes)) == (theirs and (theirs.opens, theirs.closes))
    return HoursOut(
        **origin("calendar", now, stale=False),
        day=asked,
        trading_day=ours is not None,
        opens=ours.opens if ours else None,
        closes=ours.closes if ours else None,
        early_close=bool(ours and ours.closes.astimezone(calendar.NEW_YORK).time() < usual),
        open_now=request.app.state.always_open or calendar.is_open(now),
        next_open=calendar.next_open(now),
        checked_with=check.source if isinstance(check, Sourced) else None,
        agrees=agrees,
        vendor_opens=theirs.opens if theirs else None,
        vendor_closes=theirs.closes if theirs else None,
        unchecked=None if isinstance(check, Sourced) else check,
    )


async def _theirs(day: date, today: date, tree: TheTree) -> Sourced[tuple[Session, ...]] | str:
    """Return what a vendor says of a day, or why none was asked."""
    if not timedelta() <= day - today <= timedelta(days=CHECKED_AHEAD):
        return f"vendors are asked of today and {CHECKED_AHEAD} days ahead"
    try:
        return await tree.within(LOOK_WITHIN).provider_pool.hours(day, day)
    except (VendorError, Unreachable, DeadlineExceeded) as e:
        return str(e)
