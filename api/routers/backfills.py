"""/backfills: history that somebody asks for, how far it is, and how to stop it."""

from datetime import date, datetime
from typing import Any, Literal, Self
from uuid import UUID

from fastapi import APIRouter, HTTPException, Response
from pydantic import BaseModel, ConfigDict, Field

from actors.domain import universe
from actors.domain.backfill import BackfillRequest, BackfillState, BackfillStatus, TooMany
from actors.domain.models import Timeframe
from api.deps import LOOK_WITHIN, TheTree
from api.problems import AWAY, PROBLEM

# A price is asked of the vendor before the answer; the rest is rows of ours.
ASK_WITHIN = 50.0
UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {**PROBLEM, "description": "No such backfill"},
    429: {**PROBLEM, "description": "Too many run; one must be over or cancelled first"},
    422: {**PROBLEM, "description": "Nothing would come of it; `detail` says what to change"},
}

router = APIRouter(prefix="/backfills", tags=["backfills"], responses={**UNKNOWN, **AWAY})


class BackfillIn(BaseModel):
    """What is asked for; the same content is the same backfill, and a later `to` makes it longer."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    symbols: list[str] = Field([], max_length=2_000, examples=[["AAPL", "MSFT"]])
    universe: Literal["sp500"] | None = Field(
        None, description="All stocks of the seed list, besides `symbols`"
    )
    first: date = Field(alias="from", examples=["2021-01-01"])
    last: date | None = Field(
        None,
        alias="to",
        description="Inclusive; default: the newest there is",
        examples=["2026-11-20"],
    )
    timeframe: Timeframe = Timeframe.DAY
    provider: str | None = Field(
        None, description="Default: the cheapest, free ones first", examples=["alpaca"]
    )
    max_cost: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="Dollars; what costs money waits as `priced` until this covers it",
    )
    again: bool = Field(False, description="Ask for everything anew, as after a split")

    def request(self) -> BackfillRequest:
        """Return it as the tree takes it."""
        symbols = list(self.symbols)
        if self.universe is not None:
            symbols += [ticker.symbol for ticker in universe.seed() if ticker.kind == "stock"]
        return BackfillRequest(
            tuple(symbols),
            self.first,
            self.last,
            self.timeframe,
            self.provider,
            self.max_cost,
            self.again,
        )


class BackfillOut(BaseModel):
    """A backfill and how far it has come."""

    id: UUID
    state: BackfillState
    vendor: str = Field(examples=["alpaca"])
    timeframe: Timeframe
    symbols: int = Field(examples=[503])
    start: datetime
    end: datetime = Field(
        description="Exclusive; before what was asked for where the vendor has nothing newer yet:"
        " the same request asks for the rest later"
    )
    requests: int = Field(description="Answered and stored", examples=[31])
    requests_planned: int = Field(examples=[64])
    rows: int = Field(examples=[310_000])
    rows_expected: int = Field(
        description="Fewer come of what was not listed yet", examples=[632_000]
    )
    seconds_left: float = Field(examples=[17.5])
    price: float = Field(description="Dollars to be agreed to", examples=[0.0])
    cost: float = Field(description="Dollars that were agreed to", examples=[0.0])
    silent: list[str] = Field(description="Nothing was told of these: unknown, or not listed then")
    waiting: str | None = Field(description="Why no page comes just now")
    retry_at: datetime | None
    error: str | None
    asked_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, status: BackfillStatus) -> Self:
        """Return a status as the world sees it."""
        told = {name: getattr(status, name) for name in cls.model_fields if name != "symbols"}
        return cls(**told, symbols=len(status.symbols))


class BackfillsOut(BaseModel):
    """The newest backfills first."""

    backfills: list[BackfillOut]


@router.post("", status_code=202)
async def create_backfill(asked: BackfillIn, tree: TheTree, response: Response) -> BackfillOut:
    """Begin a backfill, go on with the same one, or make it longer."""
    try:
        status = await tree.within(ASK_WITHIN).price_ingestor.backfill(asked.request())
    except TooMany as e:
        raise HTTPException(429, str(e)) from None
    except ValueError as e:
        raise HTTPException(422, str(e)) from None
    response.headers["Location"] = f"/api/v1/backfills/{status.id}"
    return BackfillOut.of(status)


@router.get("")
async def read_backfills(tree: TheTree) -> BackfillsOut:
    """Return the newest backfills first."""
    found = await tree.within(LOOK_WITHIN * 2).price_ingestor.backfills()
    return BackfillsOut(backfills=[BackfillOut.of(status) for status in found])


@router.get("/{number}")
async def read_backfill(number: UUID, tree: TheTree) -> BackfillOut:
    """Return how far a backfill has come."""
    return _told(number, await tree.within(LOOK_WITHIN * 2).price_ingestor.backfill_status(number))


@router.delete("/{number}")
async def cancel_backfill(number: UUID, tree: TheTree) -> BackfillOut:
    """Stop a backfill; what is stored stays, and asked for again it goes on where it stopped."""
    return _told(number, await tree.within(LOOK_WITHIN * 2).price_ingestor.cancel_backfill(number))


def _told(number: UUID, status: BackfillStatus | None) -> BackfillOut:
    if status is None:
        raise HTTPException(404, f"there is no backfill {number}")
    return BackfillOut.of(status)
