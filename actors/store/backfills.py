"""Backfills and their parts: laid out, claimed by one worker at a time, moved on page by page."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from actors.domain.backfill import (
    MOST_RUNNING,
    BackfillState,
    BackfillStatus,
    Part,
    Plan,
    TooMany,
    Wanted,
)
from actors.domain.models import Timeframe
from actors.store.database import Connection, aware, count

MOST_LISTED = 100
BEGINNING = 0x766F6C6172697303  # advisory lock of whoever begins one: "volaris" and a three

STATUS = """
SELECT b.*, coalesce(p.rows, 0) AS got, coalesce(p.requests, 0) AS sent
FROM backfills b LEFT JOIN LATERAL (
    SELECT sum(rows)::bigint AS rows, sum(requests)::int AS requests
    FROM backfill_parts WHERE backfill = b.id
) p ON true
"""
ONE = STATUS + "WHERE b.id = $1"
LATEST = STATUS + "ORDER BY b.asked_at DESC LIMIT $1"
LOCK = "SELECT end_at, state FROM backfills WHERE id = $1 FOR UPDATE"
FORGET = "DELETE FROM backfills WHERE id = $1"
INSERT = """
INSERT INTO backfills (id, start_at, end_at, seconds, rows, requests, state, timeframe, vendor, symbols)
VALUES ($1, $2, $2, 0, 0, 0, 'priced', $3, $4, $5) ON CONFLICT DO NOTHING
"""
PRICE = "UPDATE backfills SET state = 'priced', price = $2, asked_at = now() WHERE id = $1"
EXTEND = """
UPDATE backfills SET end_at = $2, seconds = seconds + $3, rows = rows + $4, requests = requests + $5,
       cost = cost + $6, price = 0
WHERE id = $1
"""
RESUME = """
UPDATE backfills SET state = 'running', finished_at = NULL, error = NULL, waiting = NULL,
       retry_at = NULL, tries = 0, asked_at = now(), moved_at = now()
WHERE id = $1 AND state <> 'running'
  AND EXISTS (SELECT FROM backfill_parts p WHERE p.backfill = id AND NOT p.done)
"""
CANCEL = """
UPDATE backfills SET state = 'cancelled', waiting = NULL, retry_at = NULL, finished_at = now()
WHERE id = $1 AND state IN ('running', 'priced')
"""
CLAIM = """
UPDATE backfills SET owner = $1, leased_until = now() + $2 * interval '1 second'
WHERE id = (
    SELECT id FROM backfills
    WHERE state = 'running' AND coalesce(retry_at, now()) <= now()
      AND (owner IS NULL OR owner = $1 OR leased_until < now())
    ORDER BY moved_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING id, vendor, timeframe
"""
TAKE_TURN = "SELECT pg_advisory_xact_lock($1)"
RUNNING = "SELECT count(*) FROM backfills WHERE state = 'running'"
ANY_RUNNING = "SELECT EXISTS (SELECT FROM backfills WHERE state = 'running')"
FREE = "UPDATE backfills SET owner = NULL WHERE state = 'running' AND owner IS DISTINCT FROM NULL"
RELEASE = "UPDATE backfills SET owner = NULL WHERE owner = $1"
# Whoever is not the owner any more, or was told to stop, must not store: the row is locked till then.
HOLD = """
UPDATE backfills SET leased_until = now() + $3 * interval '1 second'
WHERE id = $1 AND owner = $2 AND state = 'running'
"""
MOVED = "UPDATE backfills SET tries = 0, moved_at = now(), waiting = NULL, retry_at = NULL WHERE id = $1"
NEXT = """
SELECT p.number, p.symbols, p.start_at, p.end_at, p.page, b.tries, b.moved_at
FROM backfill_parts p JOIN backfills b ON b.id = p.backfill
WHERE p.backfill = $1 AND NOT p.done ORDER BY p.number LIMIT 1
"""
ADVANCE = """
UPDATE backfill_parts SET page = $4, done = $4::text IS NULL, rows = rows + $5, requests = requests + 1
WHERE backfill = $1 AND number = $2 AND page IS NOT DISTINCT FROM $3 AND NOT done
"""
RESTART = "UPDATE backfill_parts SET page = NULL, rows = 0 WHERE backfill = $1 AND number = $2"
SKIP = "UPDATE backfill_parts SET done = true WHERE backfill = $1 AND number = $2"
NOTE = "UPDATE backfills SET error = $3 WHERE id = $1 AND owner = $2 AND state = 'running'"
WAIT = """
UPDATE backfills SET owner = NULL, tries = tries + 1, waiting = $3,
       retry_at = now() + $4 * interval '1 second'
WHERE id = $1 AND owner = $2 AND state = 'running'
"""
FAIL = """
UPDATE backfills SET owner = NULL, state = 'failed', error = $3, waiting = NULL, retry_at = NULL,
       finished_at = now()
WHERE id = $1 AND owner = $2 AND state = 'running'
"""
FINISH = """
UPDATE backfills b SET owner = NULL, waiting = NULL, finished_at = now(),
       state = CASE WHEN b.error IS NOT NULL AND NOT EXISTS (
                   SELECT FROM backfill_parts p WHERE p.backfill = b.id AND p.rows > 0
               ) THEN 'failed' ELSE 'done' END,
       silent = ARRAY(
           SELECT s FROM unnest(b.symbols) AS s WHERE NOT EXISTS (
               SELECT FROM {table} x JOIN tickers t ON t.id = x.ticker_id
               WHERE t.symbol = s AND x.{key} >= {start} AND x.{key} < {end}
           ) ORDER BY s
       )
WHERE b.id = $1 AND b.owner = $2 AND b.state = 'running'
"""
FINISH_DAYS = FINISH.format(
    table="bars_1d",
    key="day",
    start="(b.start_at AT TIME ZONE 'UTC')::date",
    end="(b.end_at AT TIME ZONE 'UTC')::date",
)
FINISH_MINUTES = FINISH.format(table="bars_1m", key="at", start="b.start_at", end="b.end_at")
PRUNE = "DELETE FROM backfills WHERE state <> 'running' AND coalesce(finished_at, asked_at) < $1"


@dataclass(frozen=True, slots=True)
class Claim:
    """A backfill that is ours to work at."""

    id: UUID
    vendor: str
    timeframe: Timeframe


@dataclass(frozen=True, slots=True)
class Cursor:
    """The first part that is not done, and the page that comes next of it."""

    number: int
    part: Part
    page: str | None
    tries: int  # since the last page
    moved_at: datetime  # when that came


async def one(connection: Connection, number: UUID) -> BackfillStatus | None:
    """Return a backfill, None where there is none of that id."""
    row = await connection.fetchrow(ONE, number)
    return _status(row) if row else None


async def latest(connection: Connection) -> list[BackfillStatus]:
    """Return the newest backfills first."""
    return [_status(row) for row in await connection.fetch(LATEST, MOST_LISTED)]


async def forget(connection: Connection, number: UUID) -> None:
    """Forget a backfill and its progress; the bars stay."""
    await connection.execute(FORGET, number)


async def price(connection: Connection, wanted: Wanted, plan: Plan, dollars: float) -> None:
    """Note what a plan would cost; nothing is done until somebody agrees."""
    await _make(connection, wanted, plan)
    await connection.execute(PRICE, wanted.id, dollars)


async def extend(
    connection: Connection, wanted: Wanted, plan: Plan, since: datetime, dollars: float
) -> None:
    """Lay out the parts from `since` on, unless a rival has just done it."""
    await _make(connection, wanted, plan)
    known = await connection.fetchrow(LOCK, wanted.id)
    if known is None or known["end_at"] != since:
        return
    await connection.execute(
        EXTEND, wanted.id, plan.end, plan.seconds, plan.rows, plan.requests, dollars
    )
    first = await connection.fetchval(
        "SELECT coalesce(max(number), 0) + 1 FROM backfill_parts WHERE backfill = $1", wanted.id
    )
    await connection.copy_records_to_table(
        "backfill_parts",
        records=[
            (wanted.id, first + i, list(part.symbols), part.start, part.end)
            for i, part in enumerate(plan.parts)
        ],
        columns=("backfill", "number", "symbols", "start_at", "end_at"),
    )


async def resume(connection: Connection, number: UUID) -> None:
    """Go on with what is not done; `TooMany` where `MOST_RUNNING` others run."""
    await connection.execute(TAKE_TURN, BEGINNING)  # two must not both be the last one
    if not count(await connection.execute(RESUME, number)):
        return
    running = await connection.fetchval(RUNNING)
    if running > MOST_RUNNING:
        raise TooMany(
            f"{MOST_RUNNING} backfills run already; wait until one is over, or cancel one"
            " (DELETE /api/v1/backfills/ID)"
        )


async def cancel(connection: Connection, number: UUID) -> None:
    """Stop one that runs; what is stored stays."""
    await connection.execute(CANCEL, number)


async def claim(connection: Connection, owner: UUID, lease: float) -> Claim | None:
    """Take the backfill that has waited longest and nobody works at, None where there is none."""
    row = await connection.fetchrow(CLAIM, owner, lease)
    if row is None:
        return None
    return Claim(row["id"], row["vendor"], Timeframe(row["timeframe"]))


async def any_running(connection: Connection) -> bool:
    """Tell whether any is to be worked at, by whomever and whenever."""
    return bool(await connection.fetchval(ANY_RUNNING))


async def free(connection: Connection) -> None:
    """Take every backfill from whoever works at it; a page that they have in hand is not stored."""
    await connection.execute(FREE)


async def release(connection: Connection, owner: UUID) -> None:
    """Leave our backfills to whoever comes next."""
    await connection.execute(RELEASE, owner)


async def cursor(connection: Connection, number: UUID) -> Cursor | None:
    """Return what to ask for next, None where all is done."""
    row = await connection.fetchrow(NEXT, number)
    if row is None:
        return None
    part = Part(tuple(row["symbols"]), row["start_at"], row["end_at"])
    return Cursor(row["number"], part, row["page"], row["tries"], row["moved_at"])


async def hold(connection: Connection, number: UUID, owner: UUID, lease: float) -> bool:
    """Tell whether the backfill is ours and runs, and see to it that this stays so to the end."""
    return count(await connection.execute(HOLD, number, owner, lease)) == 1


async def advance(
    connection: Connection, number: UUID, at: Cursor, following: str | None, rows: int
) -> bool:
    """Move a part's cursor behind a page; False where another page was due."""
    await connection.execute(MOVED, number)
    status = await connection.execute(ADVANCE, number, at.number, at.page, following, rows)
    return count(status) == 1


async def restart(connection: Connection, number: UUID, at: Cursor) -> None:
    """Begin a part anew: its page is not known to the vendor any more."""
    await connection.execute(RESTART, number, at.number)


async def skip(connection: Connection, number: UUID, owner: UUID, at: Cursor, why: str) -> None:
    """Leave out a part that is not sold."""
    await connection.execute(NOTE, number, owner, why)
    await connection.execute(SKIP, number, at.number)


async def wait(connection: Connection, number: UUID, owner: UUID, why: str, seconds: float) -> None:
    """Note why no page comes, and try again in so many seconds."""
    await connection.execute(WAIT, number, owner, why, seconds)


async def fail(connection: Connection, number: UUID, owner: UUID, why: str) -> None:
    """Note that somebody must do something about it."""
    await connection.execute(FAIL, number, owner, why)


async def finish(connection: Connection, claim: Claim, owner: UUID) -> None:
    """Note that all is stored, and of which symbols nothing is."""
    statement = FINISH_DAYS if claim.timeframe is Timeframe.DAY else FINISH_MINUTES
    await connection.execute(statement, claim.id, owner)


async def prune(connection: Connection, before: datetime) -> None:
    """Forget the backfills that ended before a time."""
    await connection.execute(PRUNE, aware(before))


async def _make(connection: Connection, wanted: Wanted, plan: Plan) -> None:
    symbols: Sequence[str] = wanted.symbols
    await connection.execute(
        INSERT, wanted.id, wanted.start, wanted.timeframe, plan.vendor, list(symbols)
    )


def _status(row: asyncpg.Record) -> BackfillStatus:
    planned, sent = row["requests"], row["sent"]
    left = max(planned - sent, 0) / planned if planned else 0.0
    state = BackfillState(row["state"])
    over = state in (BackfillState.DONE, BackfillState.PRICED)
    return BackfillStatus(
        id=row["id"],
        state=state,
        vendor=row["vendor"],
        timeframe=Timeframe(row["timeframe"]),
        symbols=tuple(row["symbols"]),
        start=row["start_at"],
        end=row["end_at"],
        requests=sent,
        requests_planned=planned,
        rows=row["got"],
        rows_expected=row["rows"],
        seconds_left=0.0 if over else round(left * row["seconds"], 1),
        price=row["price"],
        cost=row["cost"],
        silent=tuple(row["silent"]),
        waiting=row["waiting"],
        retry_at=row["retry_at"] if row["waiting"] else None,
        error=row["error"],
        asked_at=row["asked_at"],
        finished_at=row["finished_at"],
    )
