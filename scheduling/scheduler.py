"""The clock of the tree: claims each job's slot in PostgreSQL, sends its message, records how it ended."""

import asyncio
import contextlib
import logging
import time
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from actors import crash
from actors.client import Tree
from actors.domain.models import JobStatus
from actors.settings import Settings
from actors.store import jobs as runs
from actors.store.database import Database, DatabaseAway
from scheduling.jobs import EPOCH, JOBS, Job, due, next_slot, with_settings

SHORTEST_SLEEP = timedelta(milliseconds=10)
LONGEST_SLEEP = timedelta(seconds=5)  # a machine's clock that is set must not be slept through

log = logging.getLogger("volaris.scheduler")


class Scheduler:
    """Sends each job's message at its time.

    Promise: each slot is started at most once, whoever restarts meanwhile; one run of a job at a time; a
    slot that could not be started within its grace is recorded as missed.  It is *not* promised that a
    started slot finishes: one whose scheduler died is recorded as lost, and the next slot does the work.
    """

    def __init__(self, settings: Settings, tree: Tree) -> None:
        self._settings, self._tree = settings, tree
        self._jobs = with_settings(JOBS, settings.volaris_job)
        self._database = Database.of(settings)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._settled: dict[str, datetime] = {}  # newest slot per job that was claimed or missed
        self._latest: dict[str, runs.JobRun] = {}
        self._booted_at = _boot_time(settings.boot_id) or datetime.now(UTC)
        self._loop: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._stopping = False

    async def start(self) -> None:
        """Read what has been claimed, then tick."""
        if lost := await self._database.run(runs.abandon, deadline=60.0):
            log.warning("%d runs were lost with an earlier scheduler", lost)
        self._settled = await self._database.run(runs.last_slots, deadline=60.0)
        self._latest = await self._database.run(runs.latest, deadline=60.0)
        self._loop = asyncio.create_task(self._tick())

    async def stop(self) -> None:
        """Start nothing more, and wait for the runs in hand."""
        self._stopping = True
        self._wake.set()
        if self._loop is not None:
            await self._loop
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        await self._database.close()

    async def jobs(self) -> tuple[JobStatus, ...]:
        """Return every job: its times, and how its last run ended."""
        now = datetime.now(UTC)
        return tuple(self._status(job, now) for job in self._jobs)

    def _status(self, job: Job, now: datetime) -> JobStatus:
        last = self._latest.get(job.id)
        return JobStatus(
            id=job.id,
            when=job.when,
            message=f"{job.child}.{job.method}",
            next_at=next_slot(job, now, always_open=self._settings.market_always_open),
            running=job.id in self._running,
            last_slot=last.slot if last else None,
            last_state=last.state if last else None,
            last_seconds=last.seconds if last else None,
            last_error=last.error if last else None,
        )

    async def _tick(self) -> None:
        at_start = [job for job in self._jobs if job.at_start]
        while not self._stopping:
            # One slot a boot: a scheduler that was restarted finds it claimed and does not run it again.
            at_start = [job for job in at_start if not await self._run(job, self._booted_at)]
            now = datetime.now(UTC)
            for job in self._jobs:
                await self._attend(job, now)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._pause(now))
            self._wake.clear()

    async def _attend(self, job: Job, now: datetime) -> None:
        """Settle the slots of a job that are due: run the newest in its grace, the rest are missed.

        So a run that took long, or a database that was away, is followed by one run, not by a storm.
        """
        always_open = self._settings.market_always_open
        # What was due while the whole tree was down is nobody's miss, but may still be in its grace.
        since = max(self._settled.get(job.id, EPOCH), self._booted_at - job.grace)
        slots = due(job, since, now, always_open=always_open)
        passed = "the next slot had come before it could start"
        if len(slots) > 1 and not await self._miss(job, slots[:-1], passed):
            return
        for at in slots[-1:]:
            late = now - at
            if late > job.grace:
                await self._miss(job, [at], f"found {late.total_seconds():.0f} s late")
            elif job.id not in self._running:  # else it waits for the run before it, in its grace
                await self._run(job, at)

    def _pause(self, now: datetime) -> float:
        always_open = self._settings.market_always_open
        upcoming = [next_slot(job, now, always_open=always_open) for job in self._jobs]
        first = min((at for at in upcoming if at), default=now + LONGEST_SLEEP)
        wait = first - datetime.now(UTC)
        return min(max(wait, SHORTEST_SLEEP), LONGEST_SLEEP).total_seconds()

    async def _run(self, job: Job, at: datetime) -> bool:
        """Claim a slot and start its run; return False where the database is away and it must wait."""
        boot = self._settings.boot_id
        try:
            ours = await self._database.run(lambda c: runs.claim(c, job.id, at, boot), deadline=5.0)
        except DatabaseAway as e:
            log.warning("%s at %s waits: %s", job.id, at, e)
            return False
        self._settle(job, at)
        if ours:
            crash.point("scheduler.claimed")
            task = asyncio.create_task(self._send(job, at))
            self._running[job.id] = task
            task.add_done_callback(lambda _: self._ended(job))
        return True

    def _ended(self, job: Job) -> None:
        self._running.pop(job.id, None)
        self._wake.set()

    async def _miss(self, job: Job, slots: list[datetime], why: str) -> bool:
        boot = self._settings.boot_id
        try:
            await self._database.run(
                lambda c: runs.record_missed(c, job.id, slots, boot, why), deadline=5.0
            )
        except DatabaseAway:
            return False
        self._settle(job, slots[-1])
        return True

    def _settle(self, job: Job, at: datetime) -> None:
        self._settled[job.id] = max(at, self._settled.get(job.id, at))

    async def _send(self, job: Job, due: datetime) -> None:
        begun = time.monotonic()
        state, error, result = "done", None, None
        try:
            tree = self._tree.within(job.deadline.total_seconds())
            result = _plain(await tree.ask(job.child, job.method))
            crash.point("scheduler.answered")
        except Exception as e:  # noqa: BLE001  (a job's failure is a row, not the end of the clock)
            state, error = "failed", f"{type(e).__name__}: {e}"
            log.warning("%s at %s failed: %s", job.id, due, error)
        seconds = time.monotonic() - begun
        try:
            await self._database.run(
                lambda connection: runs.finish(
                    connection, job.id, due, state, seconds, error, result
                ),
                deadline=60.0,
            )
            self._latest = await self._database.run(runs.latest, deadline=5.0)
        except DatabaseAway as e:
            log.warning("%s at %s ended %s, which could not be recorded: %s", job.id, due, state, e)


def _boot_time(boot: str) -> datetime | None:
    try:
        return datetime.strptime(boot[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def _plain(result: Any) -> Any:
    return (
        asdict(result)
        if is_dataclass(result) and not isinstance(result, type)
        else {"result": result}
    )
