"""Backfills: what may be asked, and the cheapest plan of requests for it.  No clock, no I/O.

What a vendor sells of history is in `SHOPS` (shared facts, "requests needed per job"); what its plan
still allows today is told by the caller.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from itertools import pairwise
from uuid import NAMESPACE_URL, UUID, uuid5

from actors.domain.bars import minute, trading_day
from actors.domain.calendar import FIRST_YEAR, session
from actors.domain.models import Timeframe
from actors.domain.symbols import normalise

MOST_SYMBOLS = 2_000
MOST_RUNNING = 50
ROWS = {Timeframe.MINUTE: 390, Timeframe.DAY: 1}  # bars of a symbol in one session
TURN = 0.4  # seconds for an answer to be had and stored, where no limit is in the way
BYTES_A_ROW = 150


class TooMany(ValueError):
    """So many backfills run that another one must wait until one of them is over."""


class BackfillState(StrEnum):
    """Where a backfill stands.  The names are data, never rename one."""

    PRICED = "priced"  # it costs money, and nobody has agreed to the price yet
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"  # asked for again it goes on where it stopped, as one that failed does
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class BackfillRequest:
    """History somebody asks for: bars of the days [first, last], last None = as new as there are.

    One that costs money runs once `max_cost` (dollars) covers its price.  `again` asks for everything
    anew, as after a split.
    """

    symbols: tuple[str, ...]
    first: date
    last: date | None = None
    timeframe: Timeframe = Timeframe.DAY
    provider: str | None = None
    max_cost: float | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class BackfillStatus:
    """A backfill and how far it has come; dollars, seconds, and times in UTC."""

    id: UUID
    state: BackfillState
    vendor: str
    timeframe: Timeframe
    symbols: tuple[str, ...]
    start: datetime
    end: datetime  # exclusive; no later than what the vendor had
    requests: int  # answered and stored
    requests_planned: int
    rows: int
    rows_expected: int  # fewer come where a symbol was not listed yet
    seconds_left: float
    price: float  # to be agreed to
    cost: float  # agreed to
    silent: tuple[str, ...]  # nothing was told of these: unknown, or not listed then
    waiting: str | None  # why no page comes just now
    retry_at: datetime | None
    error: str | None
    asked_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request that was found to make sense: bars that start in [start, end)."""

    id: UUID
    symbols: tuple[str, ...]
    timeframe: Timeframe
    start: datetime
    end: datetime


def wanted(request: BackfillRequest, now: datetime, minute_days: int) -> Wanted:
    """Return what is asked for; `ValueError` with one sentence where that makes no sense.

    The id is made of the symbols, the first day, the timeframe and the provider: with another `last`
    it is the same backfill, made longer.
    """
    symbols = tuple(sorted({_symbol(text) for text in request.symbols}))
    if not 1 <= len(symbols) <= MOST_SYMBOLS:
        raise ValueError(f"symbols must be 1 to {MOST_SYMBOLS}, were {len(symbols)}")
    if request.timeframe not in tuple(ROWS):
        raise ValueError(f"timeframe must be {' or '.join(ROWS)}, was {request.timeframe}")
    if request.provider is not None and request.provider not in SHOPS:
        raise ValueError(f"provider must be one of {', '.join(SHOPS)}, was {request.provider!r}")
    if request.max_cost is not None and not (
        math.isfinite(request.max_cost) and request.max_cost >= 0
    ):
        raise ValueError(f"max_cost must be dollars, 0 or more, was {request.max_cost}")
    first, last = request.first, request.last
    if last is not None and first > last:
        raise ValueError(f"from must not be after to, were {first} and {last}")
    if first.year < FIRST_YEAR:
        raise ValueError(f"from must be {FIRST_YEAR}-01-01 or later, was {first}")
    timeframe = Timeframe(request.timeframe)
    if timeframe is Timeframe.DAY:
        newest = trading_day(now) - timedelta(days=1)
        if first > newest:
            raise ValueError(
                f"from must be {newest} or earlier: later days are not over, was {first}"
            )
        end = midnight(min(last or newest, newest) + timedelta(days=1))
    else:
        oldest = now.astimezone(UTC).date() - timedelta(days=minute_days)
        if first < oldest:
            raise ValueError(
                f"from must be {oldest} or later: 1m bars are kept for {minute_days} days;"
                f" set VOLARIS_BARS_1M_DAYS (up to 60), was {first}"
            )
        end = minute(now)
        if midnight(first) >= end:
            raise ValueError(f"from must not be in the future, was {first}")
        if last is not None:
            end = min(end, midnight(last + timedelta(days=1)))
    asked = (*symbols, first.isoformat(), timeframe, request.provider or "")
    number = uuid5(NAMESPACE_URL, "volaris:backfill:" + ",".join(asked))
    return Wanted(number, symbols, timeframe, midnight(first), end)


def _symbol(text: str) -> str:
    try:
        return normalise(text)
    except ValueError as e:
        raise ValueError(f"symbols: {e}") from None


# --- who sells it


@dataclass(frozen=True, slots=True)
class Shop:
    """What a vendor sells of history; `days` says how far back, and is empty where it sells none."""

    symbols: int  # of one question
    rows: int  # bars of one answer
    days: dict[Timeframe, int]
    minutes: int = (
        390  # of a session; more where it tells those before and after regular hours, too
    )
    paged: bool = (
        False  # the rest of an answer is on its next page, else a question must fit an answer
    )
    wall: bool = (
        False  # an answer's rows are those of a stretch of time in which all trades, all the time
    )
    alone: bool = False  # an answer has one symbol's bars or one day's, whichever takes fewer
    paid: bool = False  # by the byte: its price is asked first
    named: bool = False  # its free plan refuses, so it is asked only by name
    lag: timedelta | None = None  # after which a UTC day that is over is sold; None = at once

    def until(self, end: datetime, now: datetime) -> datetime:
        """Return how far of what ends at `end` it sells by now."""
        return end if self.lag is None else min(end, midnight((now - self.lag).date()))


EVER = 365 * 40
MINUTE, DAY = Timeframe.MINUTE, Timeframe.DAY
SHOPS = {
    "alpaca": Shop(500, 10_000, {MINUTE: 3_600, DAY: 3_900}, paged=True),  # since 2016
    "schwab": Shop(1, 20_000, {MINUTE: 48, DAY: EVER}),
    "polygon": Shop(1_000, 50_000, {MINUTE: 730, DAY: 730}, paged=True, alone=True),
    "tiingo": Shop(1, 2_000 - 50, {MINUTE: 60, DAY: EVER}),  # it tells the newest 2,000 minutes
    "finnhub": Shop(1, 20 * 390, {MINUTE: 360, DAY: EVER}, named=True),  # a month of minutes
    "databento": Shop(  # the last 24 hours are for live licences only
        2_000,
        20_000,
        {MINUTE: 1_300, DAY: 1_300},
        paged=True,
        wall=True,
        paid=True,
        lag=timedelta(days=1),
    ),
}


@dataclass(frozen=True, slots=True)
class Rate:
    """One limit of a vendor's plan: `amount` in so many seconds, and what is left of it now."""

    amount: int
    seconds: float
    left: int
    what: str = "requests"  # or bytes, symbols
    calendar: bool = False  # what is left is all there is until the day or month is over

    def wait(self, needed: int) -> float:
        """Return the seconds it takes until so much is allowed."""
        if not self.calendar:
            return max(0, needed - self.left) * self.seconds / self.amount
        return math.ceil(max(0, needed - self.left) / self.amount) * self.seconds


@dataclass(frozen=True, slots=True)
class Offer:
    """A vendor that is configured, and what its plan allows now."""

    vendor: str
    rates: tuple[Rate, ...] = ()
    down: str | None = None  # why it does not answer


# --- the plan


@dataclass(frozen=True, slots=True)
class Part:
    """One question, whose answer may have many pages: bars of the symbols in [start, end)."""

    symbols: tuple[str, ...]
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Plan:
    """How a vendor would be asked, and what that takes."""

    vendor: str
    parts: tuple[Part, ...]
    end: datetime  # exclusive; before what was asked for where the vendor has nothing newer yet
    requests: int
    rows: int
    seconds: float
    paid: bool = False


def choose(
    offers: Iterable[Offer],
    symbols: Sequence[str],
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
    now: datetime,
    named: str | None = None,
    *,
    always: bool = False,
) -> Plan:
    """Return the cheapest plan: free before paid, fewer seconds, fewer requests, the order of `SHOPS`.

    It ends with the newest its vendor has by now, so that a longer one asks for what came later.
    `ValueError` with one sentence where nobody can be asked.  A vendor asked by name is not judged by
    how far back it goes: its plan may sell more than the usual one.
    """
    known = [offer for offer in offers if offer.vendor in SHOPS and named in (None, offer.vendor)]
    if not known:
        who = f"provider {named} is not" if named else "no vendor that sells history is"
        raise ValueError(f"{who} configured: set its key (GET /api/v1/system/providers says which)")
    back = (now - start).days
    refused: list[str] = []
    plans: list[tuple[bool, bool, float, int, int, Plan]] = []
    order = list(SHOPS)
    for offer in known:
        shop = SHOPS[offer.vendor]
        if not named and shop.named:
            refused.append(f"{offer.vendor} is asked only by --provider {offer.vendor}")
            continue
        if not named and back > shop.days[timeframe]:
            first = (now - timedelta(days=shop.days[timeframe])).date()
            refused.append(f"{offer.vendor} has {timeframe} bars from {first} on")
            continue
        caps = [rate for rate in offer.rates if rate.what == "symbols"]
        if any(rate.left < len(symbols) for rate in caps):
            left = min(rate.left for rate in caps)
            refused.append(f"{offer.vendor} has {left} symbols left this month")
            continue
        until = shop.until(end, now)
        if start >= until:
            newest = until.date() - timedelta(days=1)
            refused.append(f"{offer.vendor} has nothing newer than {newest} yet")
            continue
        plan = planned(offer, symbols, timeframe, start, until, always=always)
        rank = order.index(offer.vendor)
        plans.append((offer.down is not None, plan.paid, plan.seconds, plan.requests, rank, plan))
    if not plans:
        raise ValueError(
            f"nobody can be asked for {len(symbols)} symbols from {start.date()}: {'; '.join(refused)}"
        )
    return min(plans, key=lambda row: row[:-1])[-1]


def planned(
    offer: Offer,
    symbols: Sequence[str],
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
    *,
    always: bool = False,
) -> Plan:
    """Return how a vendor is asked, cut so that no answer is larger than it tells.

    `always` where every day trades, as in the sandbox.
    """
    shop, days = SHOPS[offer.vendor], sessions(timeframe, start, end, always=always)
    parts = _parts(shop, symbols, timeframe, start, end, days)
    per = ROWS[timeframe]
    requests = 0
    for part in parts:
        within = bisect_left(days, _after(part.end)) - bisect_left(days, part.start.date())
        requests += _requests(shop, part, within, timeframe)
    rows = len(symbols) * len(days) * per
    needs = {"requests": requests, "bytes": rows * BYTES_A_ROW, "symbols": 0}
    waits = [rate.wait(needs[rate.what]) for rate in offer.rates]
    seconds = max(requests * TURN, *waits, 0.0)
    return Plan(offer.vendor, tuple(parts), end, requests, rows, seconds, shop.paid)


def sessions(
    timeframe: Timeframe, start: datetime, end: datetime, *, always: bool = False
) -> list[date]:
    """Return the trading days whose bars start in [start, end): midnights, or regular hours."""
    found = []
    day = start.astimezone(UTC).date()
    while (at := midnight(day)) < end:
        hours = session(day)
        if timeframe is Timeframe.DAY or always:
            if at >= start and (always or hours is not None):
                found.append(day)
        elif hours is not None and hours.closes > start and hours.opens < end:
            found.append(day)
        day += timedelta(days=1)
    return found


def midnight(day: date) -> datetime:
    """Return midnight UTC of a date."""
    return datetime.combine(day, time(), UTC)


def _after(end: datetime) -> date:
    return end.date() if end == midnight(end.date()) else end.date() + timedelta(days=1)


def _parts(
    shop: Shop,
    symbols: Sequence[str],
    timeframe: Timeframe,
    start: datetime,
    end: datetime,
    days: Sequence[date],
) -> list[Part]:
    per = ROWS[timeframe]
    size = min(shop.symbols, len(symbols))
    step = max(len(days), 1)  # sessions of a part
    if not shop.paged:
        size = max(1, min(size, shop.rows // per))
        step = max(1, min(step, shop.rows // (size * per)))
    # Cut at the midnight before a session, so that the parts join without a gap.
    cuts = [start, *(midnight(day) for day in days[step::step]), end]
    return [
        Part(tuple(symbols[i : i + size]), since, until)
        for i in range(0, len(symbols), size)
        for since, until in pairwise(cuts)
        if since < until
    ]


def _requests(shop: Shop, part: Part, days: int, timeframe: Timeframe) -> int:
    """Return how many answers a part takes; it holds `days` sessions."""
    symbols, per = len(part.symbols), ROWS[timeframe]
    if shop.wall:
        step = timedelta(days=1) if timeframe is Timeframe.DAY else timedelta(minutes=1)
        return math.ceil((part.end - part.start) / (step * max(1, shop.rows // symbols)))
    if shop.alone:
        each = symbols * max(1, math.ceil(days * per / shop.rows))
        return max(1, min(each, days)) if timeframe is Timeframe.DAY else each
    return max(1, math.ceil(symbols * days * per / shop.rows))
