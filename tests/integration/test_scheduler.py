"""The scheduler on a real PostgreSQL: each slot at most once, one run at a time, nothing late in silence."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from actors.client import Tree
from actors.settings import Settings
from actors.store import jobs as runs
from scheduling.scheduler import Scheduler

BOOT = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-abc123"
ONLY_PRICES = {"prices": "1", "eod": "off", "sp500": "off", "retention": "off"}


class Line:
    """A tree that remembers what it was asked, and answers when it may."""

    def __init__(self):
        self.asked, self.may = [], asyncio.Event()
        self.may.set()
        self.error = None

    async def ask(self, child, method, args, kwargs, seconds):
        self.asked.append((child, method))
        await self.may.wait()
        if self.error:
            raise self.error
        return 7


async def until(true, seconds=20):
    async with asyncio.timeout(seconds):
        while not await true():
            await asyncio.sleep(0.02)


@pytest.fixture
def settings(database_dsn, tmp_path):
    return Settings(
        volaris_home=tmp_path,
        database_url=database_dsn,
        volaris_job=ONLY_PRICES,
        settled_boot_id=BOOT,
        volaris_market_hours="always",
    )


@pytest.fixture
async def scheduler(settings):
    started = []

    async def start(line, **changes):
        one = Scheduler(settings.model_copy(update=changes), Tree(line))
        await one.start()
        started.append(one)
        return one

    yield start
    for one in started:
        await one.stop()


async def rows(database):
    return {
        run.slot: run
        for run in await database.run(lambda c: runs.recent(c, 10_000))
        if run.job == "prices"
    }


async def test_slots_run_one_after_the_other_and_are_recorded(scheduler, database):
    line = Line()
    await scheduler(line)

    async def three_done():
        return sum(run.state == "done" for run in (await rows(database)).values()) >= 3

    await until(three_done)
    found = await rows(database)
    assert set(line.asked) == {("price_ingestor", "refresh")}
    assert len(line.asked) <= len(found) + 1
    assert all(run.result == {"result": 7} for run in found.values() if run.state == "done")


async def test_two_schedulers_start_each_slot_once(scheduler, database):
    first, second = Line(), Line()
    await scheduler(first)
    await scheduler(second)

    async def five():
        return len(await rows(database)) >= 5

    await until(five)
    started = [run for run in (await rows(database)).values() if run.state != "missed"]
    assert len(first.asked) + len(second.asked) in (len(started), len(started) + 1)


async def test_the_start_of_a_boot_runs_once_whoever_restarts(scheduler, database):
    line = Line()
    for _ in range(3):
        one = await scheduler(line, volaris_job={**ONLY_PRICES, "prices": "86400"})
        await until(lambda: _true(line.asked))
        await one.stop()
    assert line.asked == [("price_ingestor", "refresh")]


async def _true(value):
    return bool(value)


async def test_a_long_run_is_followed_by_one_run_not_by_a_storm(scheduler, database):
    line = Line()
    line.may.clear()
    await scheduler(line)

    async def three_missed():
        return sum(run.state == "missed" for run in (await rows(database)).values()) >= 2

    await until(three_missed)
    assert len(line.asked) == 1, "one run at a time"
    line.may.set()
    await until(lambda: _true(len(line.asked) >= 2))
    found = sorted((await rows(database)).items())
    missed = [slot for slot, run in found if run.state == "missed"]
    ran_after = [slot for slot, run in found if run.state in ("running", "done")][1:]
    assert all(slot < ran_after[0] for slot in missed)


async def test_a_failure_is_a_row_and_the_clock_goes_on(scheduler, database):
    line = Line()
    line.error = ValueError("the vendor is mad")
    one = await scheduler(line)

    async def two_failed():
        return sum(run.state == "failed" for run in (await rows(database)).values()) >= 2

    await until(two_failed)
    [job] = await one.jobs()
    assert (job.id, job.last_state) == ("prices", "failed")
    assert job.last_error == "ValueError: the vendor is mad"


async def test_what_a_dead_scheduler_left_running_is_lost_not_repeated(scheduler, database):
    slot = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=30)
    await database.run(lambda c: runs.claim(c, "prices", slot, "an-earlier-boot"))
    await scheduler(Line())
    found = await rows(database)
    assert found[slot].state == "lost"
    assert "scheduler ended" in found[slot].error


async def test_slots_long_past_their_grace_are_missed_not_run(scheduler, database):
    """A scheduler that was away for ten minutes of its own boot records them and runs the present one."""
    line = Line()
    past = datetime.now(UTC) - timedelta(minutes=10)
    line.may.set()
    await scheduler(line, boot_id=f"{past:%Y%m%dT%H%M%S}-abc123")

    async def ten_minutes():
        return len(await rows(database)) >= 600

    await until(ten_minutes)
    found = await rows(database)
    slots = sorted(found)
    assert slots == [slots[0] + timedelta(seconds=n) for n in range(len(slots))], "none is absent"
    assert sum(run.state == "missed" for run in found.values()) >= 595
    ran = [run for run in found.values() if run.state == "done" and run.slot > past]
    assert all(run.claimed_at - run.slot <= timedelta(minutes=1) for run in ran)
