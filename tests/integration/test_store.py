"""The store against a real PostgreSQL: migrations, statements that may be repeated, and faults."""

import ast
import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import asyncpg
import psutil
import pytest

from actors.books import Adopted, Before, Books
from actors.domain import universe
from actors.domain.bars import Tally
from actors.domain.models import Bar, Quote, Ticker
from actors.providers.limits import Entry
from actors.settings import Refused, Settings
from actors.store import bars, embedded, history, jobs, quotes, spend, tickers, tokens
from actors.store.database import Database, DatabaseAway, check
from actors.store.migrate import SCHEMA, MigrationRefused, migrate
from actors.supervise import Cause

AT = datetime(2026, 11, 23, 15, 30, tzinfo=UTC)
NAIVE = datetime(2026, 11, 23, 15, 30)
DAY = date(2026, 11, 23)


def quote(symbol="AAPL", at=AT, **fields):
    return Quote(symbol, at, "schwab", **({"last": 100.0, "volume": 1_000} | fields))


def bar(symbol="AAPL", at=AT, **fields):
    values = {"open": 1.0, "high": 2.0, "low": 0.5, "close": 1.5, "volume": 10, "source": "schwab"}
    return Bar(symbol, at, **(values | fields))


@pytest.fixture
async def ids(database):
    """Give the ids of three tickers, with partitions for the day's bars."""
    await database.run(
        lambda c: tickers.sync(c, [Ticker(symbol, symbol) for symbol in ("AAPL", "MSFT", "BRK.B")])
    )
    await database.run(lambda c: bars.ensure_partitions(c, [DAY, DAY + timedelta(1)]))
    return await database.run(tickers.ids)


# --- spend


async def test_spend_is_kept_by_vendor_and_limit(database):
    first = {
        "requests/h": Entry(AT, level=2.5),
        "symbols/month": Entry(AT, symbols=("AAPL", "BRK.B")),
        "bytes/month": Entry(AT, spent=10**12),
    }
    assert await database.run(lambda c: spend.load(c, "tiingo")) == {}
    for _ in range(2):
        await database.run(lambda c: spend.save(c, "tiingo", first))
    await database.run(lambda c: spend.save(c, "schwab", {"requests/min": Entry(AT)}))
    assert await database.run(lambda c: spend.load(c, "tiingo")) == first
    later = {"requests/h": Entry(AT + timedelta(hours=1), level=0.0)}
    await database.run(lambda c: spend.save(c, "tiingo", later))
    assert await database.run(lambda c: spend.load(c, "tiingo")) == first | later


# --- migrations


def test_six_processes_migrate_once(empty_dsn):
    code = "import sys, asyncio; from actors.store.migrate import migrate; print(asyncio.run(migrate(sys.argv[1])))"
    starters = [
        subprocess.Popen([sys.executable, "-c", code, empty_dsn], stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    told = [starter.communicate(timeout=60)[0].strip() for starter in starters]
    done = [name for one in told for name in ast.literal_eval(one)]  # they may share the files
    assert sorted(done) == sorted(path.name for path in SCHEMA.glob("*.sql"))
    assert asyncio.run(migrate(empty_dsn)) == []


def folder(path, **files):
    for name, text in files.items():
        (path / f"{name}.sql").write_text(text)
    return path


async def test_an_edited_file_is_refused(empty_dsn, tmp_path):
    where = folder(
        tmp_path, **{"0001_a": "CREATE TABLE a (x int)", "0002_b": "CREATE TABLE b (x int)"}
    )
    assert await migrate(empty_dsn, where) == ["0001_a.sql", "0002_b.sql"]
    folder(tmp_path, **{"0001_a": "CREATE TABLE a (x bigint)"})
    with pytest.raises(MigrationRefused, match=r"0001_a\.sql was applied and must not be edited"):
        await migrate(empty_dsn, where)


async def test_a_newer_database_is_refused(empty_dsn, tmp_path):
    where = folder(tmp_path, **{"0001_a": "SELECT 1", "0002_b": "SELECT 1"})
    await migrate(empty_dsn, where)
    (tmp_path / "0002_b.sql").unlink()
    with pytest.raises(MigrationRefused, match=r"ends at 0001_a\.sql, was at 0002_b\.sql"):
        await migrate(empty_dsn, where)


async def test_a_failing_file_leaves_nothing_and_can_be_mended(empty_dsn, tmp_path):
    where = folder(tmp_path, **{"0001_a": "CREATE TABLE a (x int); SELECT nonsense"})
    with pytest.raises(asyncpg.UndefinedColumnError):
        await migrate(empty_dsn, where)
    folder(tmp_path, **{"0001_a": "CREATE TABLE a (x int)"})
    assert await migrate(empty_dsn, where) == ["0001_a.sql"]


async def test_an_index_can_be_made_concurrently_by_many_at_once(empty_dsn, tmp_path):
    concurrently = "-- no-transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS a_x ON a (x)"
    where = folder(tmp_path, **{"0001_a": "CREATE TABLE a (x int)", "0002_b": concurrently})
    async with asyncio.timeout(30):
        told = await asyncio.gather(*(migrate(empty_dsn, where) for _ in range(6)))
    assert sorted(name for names in told for name in names) == ["0001_a.sql", "0002_b.sql"]


async def test_a_gap_in_the_files_is_refused(empty_dsn, tmp_path):
    with pytest.raises(MigrationRefused, match=r"0002 was to come next, was 0003_c\.sql"):
        await migrate(empty_dsn, folder(tmp_path, **{"0001_a": "SELECT 1", "0003_c": "SELECT 1"}))


# --- the server


async def test_the_server_is_checked_before_it_is_used(database_dsn):
    assert (await check(database_dsn)).startswith("18.")
    with pytest.raises(Refused, match="the database refuses us, it said InvalidCatalogNameError"):
        await check(database_dsn.replace("/t", "/nobody", 1))
    with pytest.raises(
        DatabaseAway, match=r"no database answers at its socket \(FileNotFoundError\)"
    ):
        await check("postgresql://me:secret@/db?host=/nowhere")
    with pytest.raises(Refused, match="must start with postgresql://, was mysql"):
        await check("mysql://h/db")


async def test_an_absent_database_is_told_in_time_and_without_the_password():
    database = Database("postgresql://me:secret@/db?host=/nowhere")
    with pytest.raises(DatabaseAway, match="the last cause was FileNotFoundError") as away:
        await database.run(tickers.ids, deadline=0.2)
    assert "secret" not in str(away.value)
    assert away.value.__cause__ is None


async def test_a_mistake_is_not_tried_again(database):
    tries = []

    async def step(connection):
        tries.append(1)
        await connection.execute("SELECT nonsense")

    with pytest.raises(asyncpg.UndefinedColumnError):
        await database.run(step)
    assert len(tries) == 1


async def test_a_slow_step_ends_at_its_deadline_and_leaves_the_pool_usable(database):
    with pytest.raises(DatabaseAway, match=r"within 0\.3 s, the last cause was TimeoutError"):
        await database.run(lambda c: c.execute("SELECT pg_sleep(30)"), deadline=0.3)
    assert await database.run(lambda c: c.fetchval("SELECT 1")) == 1


async def test_json_goes_in_and_comes_out_as_python(database):
    value = {"a": [1, None, "ü"], "b": {"c": 1.5}}
    assert await database.run(lambda c: c.fetchval("SELECT $1::jsonb", value)) == value


# --- tickers


async def test_the_seed_is_the_same_after_many_starts_and_uses_no_ids_up(database):
    for _ in range(3):
        await database.run(lambda c: tickers.sync(c, universe.seed()))
    known = await database.run(tickers.ids)
    assert set(known) == {ticker.symbol for ticker in universe.seed()}
    assert max(known.values()) == len(known)


async def test_a_changed_seed_row_is_taken_over(database, ids):
    await database.run(lambda c: tickers.sync(c, [Ticker("AAPL", "Apple", "stock", "Technology")]))
    row = await database.run(lambda c: c.fetchrow("SELECT * FROM tickers WHERE symbol = 'AAPL'"))
    assert (row["id"], row["name"], row["sector"]) == (ids["AAPL"], "Apple", "Technology")


async def test_an_asked_for_ticker_comes_goes_and_keeps_its_id(database, ids):
    added = await database.run(lambda c: tickers.add(c, Ticker("IBM", "IBM"), AT))
    assert await database.run(tickers.asked) == {"IBM": AT}
    await database.run(lambda c: tickers.touch(c, {"IBM": AT + timedelta(hours=2), "AAPL": AT}))
    assert await database.run(tickers.asked) == {"IBM": AT + timedelta(hours=2)}
    await database.run(lambda c: tickers.retire(c, ["IBM", "AAPL"]))
    assert await database.run(tickers.ids) == ids
    assert await database.run(lambda c: tickers.add(c, Ticker("IBM", "IBM"), AT)) == added
    assert await database.run(lambda c: tickers.add(c, Ticker("AAPL", "x"), AT)) == ids["AAPL"]
    assert await database.run(tickers.asked) == {"IBM": AT}


# --- quotes


async def test_a_quote_comes_back_as_it_went_in(database, ids):
    full = Quote(
        "BRK.B", AT, "schwab", 1.1, 1.0, 1.2, 3, 4, 1.0, 1.3, 0.9, 1.15, 1.05, 2**40, 0.05, 4.7, 2.0, 0.5,
        delayed=True, name="Bérkshire",
    )  # fmt: skip
    bare = Quote("MSFT", AT, "tiingo")
    assert await database.run(lambda c: quotes.upsert(c, ids, [full, bare], AT)) == 2
    stored = {row.quote.symbol: row for row in await database.run(quotes.latest)}
    assert stored["BRK.B"] == quotes.StoredQuote(full, AT, Tally(2**40, DAY, full.source))
    assert stored["MSFT"].quote == bare


async def test_an_older_quote_never_overwrites_a_newer_one(database, ids):
    newer, older = quote(last=2.0), quote(at=AT - timedelta(seconds=1), last=1.0)
    assert await database.run(lambda c: quotes.upsert(c, ids, [newer], AT)) == 1
    assert await database.run(lambda c: quotes.upsert(c, ids, [older], AT)) == 0
    assert await database.run(lambda c: quotes.upsert(c, ids, [newer], AT)) == 0
    assert await database.run(lambda c: quotes.upsert(c, ids, [older, newer, older], AT)) == 0
    [row] = await database.run(quotes.latest)
    assert row.quote == newer


async def test_what_an_observation_builds_on_is_read_back(database, ids):
    await database.run(
        lambda c: quotes.upsert(c, ids, [quote()], AT, {"AAPL": Tally(900, DAY, "schwab")})
    )
    await database.run(lambda c: bars.upsert_minutes(c, ids, [bar(polled=True)]))
    asked = [
        quote(at=AT + timedelta(seconds=20)),
        quote("MSFT"),
        quote("BRK.B", AT - timedelta(400)),
    ]
    found = await database.run(lambda c: quotes.before(c, ids, asked))
    seen, minute = found["AAPL"]
    assert (seen.at, seen.volume, seen.tally) == (AT, 1_000, Tally(900, DAY, "schwab"))
    assert minute == bar(polled=True)
    assert found["MSFT"] == found["BRK.B"] == (None, None)


# --- bars


async def test_bars_are_upserted_and_read_newest_first_limited(database, ids):
    minutes = [bar(at=AT + timedelta(minutes=n), volume=n) for n in range(10)]
    assert await database.run(lambda c: bars.upsert_minutes(c, ids, minutes)) == 10
    assert await database.run(lambda c: bars.upsert_minutes(c, ids, minutes)) == 0
    changed = [*minutes[:9], replace(minutes[9], close=7.0), replace(minutes[9], close=8.0)]
    assert await database.run(lambda c: bars.upsert_minutes(c, ids, changed)) == 1
    found = await database.run(lambda c: bars.minutes(c, "AAPL", AT, AT + timedelta(minutes=9), 3))
    assert found == minutes[6:9]
    assert await database.run(lambda c: bars.minutes(c, "MSFT", AT, AT + timedelta(1), 3)) == []


async def test_a_polled_bar_never_replaces_a_vendors_own(database, ids):
    await database.run(lambda c: bars.upsert_minutes(c, ids, [bar(polled=True)]))
    assert await database.run(lambda c: bars.upsert_minutes(c, ids, [bar(close=9.0)])) == 1
    assert await database.run(lambda c: bars.upsert_minutes(c, ids, [bar(polled=True)])) == 0


async def test_daily_bars_are_of_dates(database, ids):
    days = [bar(at=datetime(2026, 11, day, tzinfo=UTC)) for day in (19, 20, 23)]
    assert await database.run(lambda c: bars.upsert_days(c, ids, days)) == 3
    between = (datetime(2026, 11, 19, 12, tzinfo=UTC), datetime(2026, 11, 23, tzinfo=UTC))
    assert await database.run(lambda c: bars.days(c, "AAPL", *between, 9)) == [days[1]]
    found = await database.run(lambda c: bars.complete_days(c, "AAPL", date(2026, 11, 20), DAY))
    assert found == {date(2026, 11, 20), DAY}
    with pytest.raises(ValueError, match="a daily bar is at midnight UTC"):
        await database.run(lambda c: bars.upsert_days(c, ids, [bar()]))


async def test_twelve_thousand_bars_go_in_chunks(database, ids):
    many = [bar("MSFT", AT + timedelta(seconds=n)) for n in range(12_000)]
    assert await database.run(lambda c: bars.upsert_minutes(c, ids, many)) == 12_000


async def test_writers_with_the_same_keys_in_any_order_do_not_deadlock(database_dsn, ids):
    writers = [Database(database_dsn) for _ in range(3)]
    faults = []

    async def write(database, seed):
        shuffle = random.Random(seed)
        for turn in range(12):
            batch = [
                bar(symbol, AT + timedelta(minutes=n), volume=seed * 100 + turn)
                for symbol in ids
                for n in range(100)
            ]
            shuffle.shuffle(batch)

            async def step(connection, batch=batch):
                try:
                    await bars.upsert_minutes(connection, ids, batch)
                    await quotes.upsert(
                        connection, ids, [quote(s) for s in shuffle.sample(list(ids), 3)], AT
                    )
                except asyncpg.DeadlockDetectedError as e:
                    faults.append(e)
                    raise

            await database.run(step)

    await asyncio.gather(*(write(database, n) for n, database in enumerate(writers)))
    for database in writers:
        await database.close()
    assert faults == []


async def test_partitions_are_made_once_however_many_try_and_dropped_by_day(database_dsn, database):
    many = [Database(database_dsn) for _ in range(6)]
    week = [DAY + timedelta(n) for n in range(7)]
    await asyncio.gather(
        *(each.run(lambda c: bars.ensure_partitions(c, week)) for each in many for _ in range(2))
    )
    for each in many:
        await each.close()
    await database.run(lambda c: tickers.sync(c, [Ticker("AAPL", "Apple")]))
    ids = await database.run(tickers.ids)
    await database.run(
        lambda c: bars.upsert_minutes(c, ids, [bar(at=bars.midnight(day)) for day in week])
    )
    assert await database.run(lambda c: bars.drop_before(c, DAY + timedelta(3))) == 3
    assert await database.run(lambda c: bars.drop_before(c, DAY + timedelta(3))) == 0
    left = await database.run(
        lambda c: bars.minutes(c, "AAPL", AT - timedelta(9), AT + timedelta(9), 99)
    )
    assert [each.at.date() for each in left] == week[3:]


# --- history, jobs, tokens


def event(child="api_server", kind="stop", seconds=0, **fields):
    return history.Event(
        uuid4(), AT + timedelta(seconds=seconds), "boot", child, 1, kind, **({"pid": 7} | fields)
    )


async def test_a_start_without_a_stop_is_found_whatever_its_boot(database):
    told = [("one", 1, "start"), ("one", 1, "stop"), ("one", 2, "start"), ("two", 1, "start")]
    rows = [
        history.Event(history.fact(boot, "x", number, what), AT, boot, "x", number, what)
        for boot, number, what in [*told, ("two", 2, "stop")]
    ]
    await database.run(lambda c: history.append(c, [*rows, replace(rows[0], cause="again")]))
    found = await database.run(history.unstopped)
    assert {(row.boot, row.generation) for row in found} == {("one", 2), ("two", 1)}
    assert len(await database.run(lambda c: history.recent(c, 10))) == 5


async def test_two_roots_that_find_the_same_write_it_once(database_dsn, database, tmp_path):
    settings = Settings(
        volaris_home=tmp_path, database_url=database_dsn, settled_boot_id="this boot"
    )
    starts = [
        replace(event(), id=uuid4(), boot=boot, child="x", event="start")
        for boot in ("this boot", "an earlier boot")
    ]
    await database.run(lambda c: history.append(c, starts))
    for _ in range(2):
        root = Books(settings, database)
        root.adopted(Before(), Adopted((), {"x": 1}, lambda *_: Cause.CRASH))
        await root.flush(deadline=20.0)
    rows = await database.run(lambda c: history.recent(c, 10))
    stops = [(row.boot, row.cause, row.detail) for row in rows if row.event == "stop"]
    assert sorted(stops) == [
        ("an earlier boot", "boot_lost", {"found": True}),
        ("this boot", "crash", {"found": True}),
    ]
    assert await database.run(history.unstopped) == []


async def test_history_may_be_sent_again(database):
    rows = [
        event(kind="start", cause="boot", detail={"note": [1, "x"]}, memory_mb=12.5),
        event(seconds=1, cause="crash", age_seconds=3.5),
        event(seconds=2, cause="memory_soft", drain_seconds=1.5, gap_seconds=0.25),
        event("scheduler", seconds=3, cause="shutdown"),
    ]
    await database.run(lambda c: history.append(c, rows[:3]))
    await database.run(lambda c: history.append(c, rows))
    assert await database.run(lambda c: history.recent(c, 10)) == rows[::-1]
    assert await database.run(lambda c: history.recent(c, 1, "api_server")) == [rows[2]]
    assert await database.run(lambda c: history.counts(c, "boot")) == {
        "api_server": history.Counts(1, 1, "memory_soft", AT + timedelta(seconds=2), 1),
        "scheduler": history.Counts(0, 0, "shutdown", AT + timedelta(seconds=3), 1),
    }
    assert await database.run(lambda c: history.counts(c, "another boot")) == {}
    await database.run(lambda c: history.prune(c, AT + timedelta(seconds=3)))
    assert await database.run(lambda c: history.recent(c, 10)) == [rows[3]]


async def test_a_slot_is_claimed_once(database, database_dsn):
    many = [Database(database_dsn) for _ in range(4)]
    claimed = await asyncio.gather(
        *(
            each.run(lambda c: jobs.claim(c, "prices", AT, "boot"))
            for each in many
            for _ in range(3)
        )
    )
    for each in many:
        await each.close()
    assert sorted(claimed) == [False] * 11 + [True]


async def test_a_run_is_recorded_from_claim_to_end(database):
    slots = [AT + timedelta(minutes=n) for n in range(4)]
    for slot in slots[:3]:
        await database.run(lambda c, slot=slot: jobs.claim(c, "prices", slot, "boot"))
    await database.run(
        lambda c: jobs.finish(c, "prices", slots[0], "done", 0.5, None, {"stored": 513})
    )
    await database.run(lambda c: jobs.finish(c, "prices", slots[1], "failed", 0.1, "it broke"))
    await database.run(lambda c: jobs.record_missed(c, "digest", [slots[3]], "boot", "too late"))
    await database.run(lambda c: jobs.record_missed(c, "prices", [slots[0]], "boot", "too late"))
    assert await database.run(jobs.abandon) == 1
    runs = {(run.job, run.slot): run for run in await database.run(lambda c: jobs.recent(c, 10))}
    assert [runs["prices", slot].state for slot in slots[:3]] == ["done", "failed", "lost"]
    assert runs["prices", slots[0]].result == {"stored": 513}
    assert (runs["digest", slots[3]].state, runs["digest", slots[3]].error) == (
        "missed",
        "too late",
    )
    assert await database.run(jobs.last_slots) == {"prices": slots[2], "digest": slots[3]}
    latest = await database.run(jobs.latest)
    assert {job: run.slot for job, run in latest.items()} == {"prices": slots[2]}
    await database.run(lambda c: jobs.prune(c, AT + timedelta(1)))
    assert len(await database.run(lambda c: jobs.recent(c, 10))) == 2


async def test_there_are_no_latest_jobs_before_the_first(database):
    assert await database.run(jobs.latest) == {}
    assert await database.run(jobs.last_slots) == {}


async def test_tokens_are_kept(database):
    assert await database.run(lambda c: tokens.load(c, "schwab")) is None
    for sealed in (b"\x00one", b"\xfftwo"):
        await database.run(lambda c, sealed=sealed: tokens.save(c, "schwab", sealed))
        assert await database.run(lambda c: tokens.load(c, "schwab")) == sealed


@pytest.mark.parametrize(
    "step",
    [
        lambda c: quotes.upsert(c, {"AAPL": 1}, [quote(at=NAIVE)], AT),
        lambda c: quotes.upsert(c, {"AAPL": 1}, [quote()], NAIVE),
        lambda c: quotes.before(c, {"AAPL": 1}, [quote(at=NAIVE)]),
        lambda c: bars.upsert_minutes(c, {"AAPL": 1}, [bar(at=NAIVE)]),
        lambda c: bars.upsert_days(c, {"AAPL": 1}, [bar(at=NAIVE)]),
        lambda c: bars.minutes(c, "AAPL", NAIVE, AT, 1),
        lambda c: bars.days(c, "AAPL", AT, NAIVE, 1),
        lambda c: tickers.add(c, Ticker("IBM", "IBM"), NAIVE),
        lambda c: history.append(c, [replace(event(), at=NAIVE)]),
        lambda c: jobs.claim(c, "prices", NAIVE, "boot"),
        lambda c: jobs.finish(c, "prices", NAIVE, "done"),
    ],
)
async def test_naive_times_are_refused(database, step):
    with pytest.raises(ValueError, match="a time must have its zone, was 2026-11-23T15:30:00"):
        await database.run(step)


# --- faults


@pytest.fixture
async def durable():
    """Give a home with a server of its own, which may be killed, and a database that heals it."""
    home = Path(tempfile.mkdtemp(prefix="vd"))
    dsn = await asyncio.to_thread(embedded.ensure_server, home)
    await migrate(dsn)
    database = Database(dsn, heal=lambda: asyncio.to_thread(embedded.ensure_server, home))
    try:
        yield home, database
    finally:
        await database.close()
        await asyncio.to_thread(embedded.stop_server, home)
        shutil.rmtree(home)


async def write_under(database, assassin, kills):
    """Write batches of a hundred events while `assassin` strikes; return the acknowledged batches."""
    acknowledged, done = [], asyncio.Event()

    async def write(writer):
        number = 0
        while not done.is_set():
            rows = [event(f"{writer}.{number}", seconds=n) for n in range(100)]
            await database.run(lambda c, rows=rows: history.append(c, rows), deadline=60)
            acknowledged.append(f"{writer}.{number}")
            number += 1

    writers = [asyncio.create_task(write(name)) for name in ("a", "b")]
    for _ in range(kills):
        before = len(acknowledged)
        while len(acknowledged) < before + 5:
            await asyncio.sleep(0.01)
            for writer in writers:
                assert not writer.done() or writer.result()
        await assassin()
    done.set()
    await asyncio.gather(*writers)
    return acknowledged


async def assert_nothing_lost(database, acknowledged):
    rows = await database.run(
        lambda c: c.fetch("SELECT child, count(*) AS n FROM actor_history GROUP BY child")
    )
    stored = {row["child"]: row["n"] for row in rows}
    assert [batch for batch in acknowledged if batch not in stored] == []
    assert set(stored.values()) == {100}


async def test_a_killed_postmaster_loses_nothing_acknowledged(durable):
    home, database = durable

    async def assassin():
        if pid := await asyncio.to_thread(embedded.server_pid, home):
            os.kill(pid, signal.SIGKILL)

    await assert_nothing_lost(database, await write_under(database, assassin, kills=4))


async def test_a_killed_backend_loses_nothing_acknowledged(durable):
    _, database = durable
    ours = "SELECT pid FROM pg_stat_activity WHERE application_name = 'volaris' AND pid <> pg_backend_pid()"

    async def assassin():
        for row in await database.run(lambda c: c.fetch(ours), deadline=60):
            with contextlib.suppress(ProcessLookupError):  # ended by the kill before
                os.kill(row["pid"], signal.SIGKILL)

    await assert_nothing_lost(database, await write_under(database, assassin, kills=3))


@pytest.mark.parametrize("given_up_by", ["its deadline", "its caller"])
async def test_a_frozen_server_is_told_in_time_and_forgotten_when_it_thaws(durable, given_up_by):
    home, database = durable
    await database.run(lambda c: c.fetchval("SELECT 1"))
    server = psutil.Process(embedded.server_pid(home))
    frozen = [server, *server.children()]
    try:
        for process in frozen:
            process.suspend()
        async with asyncio.timeout(5):
            ask = asyncio.create_task(database.run(lambda c: c.fetchval("SELECT 2"), deadline=0.5))
            if given_up_by == "its caller":
                await asyncio.sleep(0.1)
                ask.cancel()
            with pytest.raises((DatabaseAway, asyncio.CancelledError)) as end:
                await ask
        assert (end.type is asyncio.CancelledError) == (given_up_by == "its caller")
    finally:
        for process in frozen:
            process.resume()
    assert await database.run(lambda c: c.fetchval("SELECT 3"), deadline=10) == 3


async def test_a_terminated_session_is_replaced_in_silence(database):
    pid = await database.run(lambda c: c.fetchval("SELECT pg_backend_pid()"))
    other = Database(database._dsn)
    await other.run(lambda c: c.execute("SELECT pg_terminate_backend($1)", pid))
    await other.close()
    assert await database.run(lambda c: c.fetchval("SELECT pg_backend_pid()")) != pid
