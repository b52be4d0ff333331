"""Runs of jobs: a slot is claimed by one unique row, so it is started at most once."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from actors.store.database import Connection, aware, count

COLUMNS = (
    "r.job, r.slot, r.boot, r.state, r.claimed_at, r.finished_at, r.seconds, r.error, r.result"
)

CLAIM = """
INSERT INTO job_runs (job, slot, boot, state) VALUES ($1, $2, $3, 'running')
ON CONFLICT DO NOTHING
"""
FINISH = """
UPDATE job_runs SET state = $3, finished_at = now(), seconds = $4, error = $5, result = $6
WHERE job = $1 AND slot = $2
"""
MISSED = """
INSERT INTO job_runs (job, slot, boot, state, finished_at, error)
SELECT $1, slot, $3, 'missed', now(), $4 FROM unnest($2::timestamptz[]) AS slot
ON CONFLICT DO NOTHING
"""
ABANDON = """
UPDATE job_runs SET state = 'lost', finished_at = now(), error = 'the scheduler ended while it ran'
WHERE state = 'running'
"""
RECENT = f"SELECT {COLUMNS} FROM job_runs r ORDER BY r.claimed_at DESC, r.job LIMIT $1"  # noqa: S608
# One step down the key for each job, whatever the number of runs.
EACH_JOB = """
WITH RECURSIVE each (job) AS (
    (SELECT job FROM job_runs ORDER BY job LIMIT 1)
    UNION ALL
    SELECT (SELECT r.job FROM job_runs r WHERE r.job > each.job ORDER BY r.job LIMIT 1)
    FROM each WHERE each.job IS NOT NULL
)
"""
LATEST = f"""
{EACH_JOB}
SELECT {COLUMNS} FROM each CROSS JOIN LATERAL (
    SELECT * FROM job_runs r WHERE r.job = each.job AND r.state IN ('done', 'failed', 'lost')
    ORDER BY r.slot DESC LIMIT 1
) r
"""  # noqa: S608
LAST_SLOTS = f"""
{EACH_JOB}
SELECT job, (SELECT max(r.slot) FROM job_runs r WHERE r.job = each.job) AS slot
FROM each WHERE job IS NOT NULL
"""  # noqa: S608
PRUNE = """
DELETE FROM job_runs r WHERE r.slot < $1
  AND r.slot < (SELECT max(l.slot) FROM job_runs l WHERE l.job = r.job)
"""


@dataclass(frozen=True, slots=True)
class JobRun:
    """One slot of a job and what became of it: running, done, failed, missed or lost."""

    job: str
    slot: datetime
    boot: str
    state: str
    claimed_at: datetime
    finished_at: datetime | None = None
    seconds: float | None = None
    error: str | None = None
    result: Any = None


async def claim(connection: Connection, job: str, slot: datetime, boot: str) -> bool:
    """Claim a slot; False when it has been claimed before."""
    return count(await connection.execute(CLAIM, job, aware(slot), boot)) == 1


async def finish(
    connection: Connection,
    job: str,
    slot: datetime,
    state: str,
    seconds: float | None = None,
    error: str | None = None,
    result: Any = None,
) -> None:
    """Note how the run of a slot ended: done or failed, and what it returned."""
    await connection.execute(FINISH, job, aware(slot), state, seconds, error, result)


async def record_missed(
    connection: Connection, job: str, slots: Iterable[datetime], boot: str, why: str
) -> None:
    """Note slots that were not run, and why; one that was claimed stays as it is."""
    await connection.execute(MISSED, job, [aware(slot) for slot in slots], boot, why)


async def last_slots(connection: Connection) -> dict[str, datetime]:
    """Return the newest slot of each job, whatever became of it."""
    return {row["job"]: row["slot"] for row in await connection.fetch(LAST_SLOTS)}


async def abandon(connection: Connection) -> int:
    """Mark the runs whose scheduler has died as lost and return how many that were."""
    return count(await connection.execute(ABANDON))


async def recent(connection: Connection, limit: int) -> list[JobRun]:
    """Return the newest runs first."""
    return [JobRun(*row.values()) for row in await connection.fetch(RECENT, limit)]


async def latest(connection: Connection) -> dict[str, JobRun]:
    """Return the newest run of each job that has ended, however it did."""
    return {row["job"]: JobRun(*row.values()) for row in await connection.fetch(LATEST)}


async def prune(connection: Connection, before: datetime) -> None:
    """Forget the runs of slots before a time, but never the newest of a job."""
    await connection.execute(PRUNE, aware(before))
