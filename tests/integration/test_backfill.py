"""Backfills on a real PostgreSQL, from a pool that tells pages of a table and can die or lie."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest

from actors import backfill as worker
from actors.backfill import Backfills
from actors.client import Unreachable
from actors.domain.backfill import BackfillRequest, BackfillState, TooMany, midnight, sessions
from actors.domain.models import (
    Bar,
    BarPage,
    KindStatus,
    LimitStatus,
    Timeframe,
    VendorState,
    VendorStatus,
)
from actors.providers.base import Denied, Malformed, RateLimited, Unavailable, Unsupported
from actors.settings import Settings
from actors.store import backfills as store
from actors.store.database import Database
from tests.conftest import execute

NOW = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)
DAY, MINUTE = Timeframe.DAY, Timeframe.MINUTE
SYMBOLS = ("AAPL", "MSFT", "QQQQQ")
FIRST, LAST = date(2026, 1, 2), date(2026, 6, 30)
DAYS = sessions(DAY, midnight(FIRST), midnight(LAST + timedelta(days=1)))
PAGE = 37  # bars: no divisor of anything


class Pool:
    """Vendors with every session of some symbols, told in pages; `client.ProviderPool` as far as asked."""

    def __init__(self):
        self.known = {"AAPL", "MSFT", "SPY"}
        self.vendors = {"alpaca": "200/min"}
        self.asked = []
        self.faults = []  # raised before an answer, the first one first
        self.gate = None  # answers wait for it
        self.price = 0.0

    def within(self, seconds):
        return self

    @property
    def provider_pool(self):
        return self

    async def status(self):
        return tuple(
            VendorStatus(
                name,
                VendorState.READY,
                limits=(LimitStatus(limit, 0, int(limit.split("/")[0])),),
                kinds=(KindStatus("bars", "closed"),),
            )
            for name, limit in self.vendors.items()
        )

    async def bars_cost(self, symbols, timeframe, start, end, vendor):
        self.asked.append(("price", vendor))
        return self.price

    async def bars_page(self, symbols, timeframe, start, end, page=None, vendor=None):
        self.asked.append((tuple(symbols), start, end, page, vendor))
        if self.gate is not None:
            await self.gate.wait()
        if self.faults and (fault := self.faults.pop(0)) is not None:
            raise fault
        if page is not None and not page.startswith("p"):
            raise Malformed(vendor, "no such page")
        whole = [
            bar
            for symbol in sorted(self.known.intersection(symbols))
            for bar in bars_of(symbol, timeframe, start, end, vendor)
        ]
        at = int(page[1:]) if page else 0
        more = f"p{at + PAGE}" if at + PAGE < len(whole) else None
        return BarPage(tuple(whole[at : at + PAGE]), more)


def bars_of(symbol, timeframe, start, end, vendor):
    for day in sessions(timeframe, start, end):
        number = day.toordinal() % 97
        starts = [midnight(day)]
        if timeframe is MINUTE:
            starts = [midnight(day) + timedelta(hours=15, minutes=n) for n in range(20)]
        for at in starts:
            if start <= at < end:
                yield Bar(symbol, at, 10.0, 12.0, 9.0, 10.0 + number / 100, 100 + number, vendor)


def ask(*symbols, first=FIRST, last=LAST, **more):
    return BackfillRequest(symbols or SYMBOLS, first, last, **more)


@pytest.fixture
def pool():
    return Pool()


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """Pauses are short, so that no test waits for seconds."""
    monkeypatch.setattr(worker, "POLL", 0.02)
    monkeypatch.setattr(worker, "FIRST_PAUSE", 0.02)


@pytest.fixture
async def born(database_dsn, tmp_path, pool):
    settings = Settings(volaris_home=tmp_path, database_url=database_dsn)
    living = []

    async def born(now=NOW, start=True):
        database = Database(database_dsn)
        one = Backfills(settings, database, pool, lambda: now)
        living.append((one, database))
        if start:
            await one.start()
        return one

    yield born
    for one, database in living:
        await one.stop()
        await database.close()


async def over(backfills, number, *states):
    """Wait until a backfill has ended, or is in one of some states."""
    wanted = states or (BackfillState.DONE, BackfillState.FAILED, BackfillState.CANCELLED)
    async with asyncio.timeout(60):
        while (status := await backfills.status(number)).state not in wanted:
            await asyncio.sleep(0.01)
    return status


async def stored(dsn, table="bars_1d"):
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(
            f"SELECT t.symbol, b.* FROM {table} b JOIN tickers t ON t.id = b.ticker_id"
        )
    finally:
        await connection.close()


async def exact(dsn, symbols=("AAPL", "MSFT"), days=DAYS):
    """Hold what is stored against the truth: each bar of each symbol once, with its own numbers."""
    rows = await stored(dsn)
    assert len(rows) == len(symbols) * len(days)
    assert {(row["symbol"], row["day"]) for row in rows} == {(s, d) for s in symbols for d in days}
    assert all(row["volume"] == 100 + row["day"].toordinal() % 97 for row in rows)


async def test_every_bar_is_stored_once_and_the_unknown_symbol_is_named(born, pool, database_dsn):
    backfills = await born()
    begun = await backfills.ask(ask())
    assert (begun.state, begun.vendor) == (BackfillState.RUNNING, "alpaca")
    assert begun.rows_expected == 3 * len(DAYS)
    status = await over(backfills, begun.id)
    await exact(database_dsn)
    assert (status.state, status.silent, status.error) == (BackfillState.DONE, ("QQQQQ",), None)
    assert status.rows == 2 * len(DAYS)
    assert status.requests == len(pool.asked) == -(-2 * len(DAYS) // PAGE)
    assert await backfills.latest() == (status,)


async def test_the_same_request_is_the_same_backfill_and_a_later_end_asks_for_the_rest_only(
    born, pool, database_dsn
):
    backfills = await born()
    first = await backfills.ask(ask("AAPL", "MSFT"))
    assert (await backfills.ask(ask("msft", "AAPL"))).id == first.id
    await over(backfills, first.id)
    sent = len(pool.asked)
    again = await backfills.ask(ask("AAPL", "MSFT"))
    assert (again.id, again.state) == (first.id, BackfillState.DONE)
    later = LAST + timedelta(days=15)
    await backfills.ask(ask("AAPL", "MSFT", last=later))
    await over(backfills, first.id)
    assert {asked[1] for asked in pool.asked[sent:]} == {midnight(LAST + timedelta(days=1))}
    await exact(
        database_dsn,
        days=sessions(DAY, midnight(FIRST), midnight(later + timedelta(days=1))),
    )
    sent = len(pool.asked)
    await backfills.ask(ask("AAPL", "MSFT", last=LAST, again=True))
    status = await over(backfills, first.id)
    assert len(pool.asked) - sent == status.requests == -(-2 * len(DAYS) // PAGE)


@pytest.mark.parametrize("kill_after", range(7))
async def test_a_worker_that_dies_anywhere_loses_and_doubles_nothing(
    born, pool, database_dsn, kill_after
):
    victim = await born()
    begun = await victim.ask(ask("AAPL", "MSFT"))
    async with asyncio.timeout(60):
        while len(pool.asked) <= kill_after:
            await asyncio.sleep(0)
    victim._worker.cancel()  # as death does it: no lease is given back
    await asyncio.gather(victim._worker, return_exceptions=True)
    heir = await born()
    status = await over(heir, begun.id)
    await exact(database_dsn)
    assert status.rows == 2 * len(DAYS)
    assert status.requests == -(-2 * len(DAYS) // PAGE)
    assert len(pool.asked) <= status.requests + 1, "one page at most is asked for twice"


async def test_two_workers_beside_each_other_store_each_page_once(born, pool, database_dsn):
    one = await born()
    begun = await one.ask(ask("AAPL", "MSFT"))
    two = await born()  # takes over in the middle of a page
    status = await over(two, begun.id)
    await exact(database_dsn)
    assert status.rows == 2 * len(DAYS)
    assert status.requests == -(-2 * len(DAYS) // PAGE)
    await one.stop()
    assert (await two.status(begun.id)).state is BackfillState.DONE


async def test_a_drain_ends_after_the_page_in_hand_and_leaves_the_rest_to_the_next_at_once(
    born, pool, database_dsn
):
    pool.gate = asyncio.Event()
    one = await born()
    begun = await one.ask(ask("AAPL", "MSFT"))
    async with asyncio.timeout(60):
        while not pool.asked:
            await asyncio.sleep(0.01)
    stopping = asyncio.ensure_future(one.stop())
    await asyncio.sleep(0)
    pool.gate.set()
    await stopping
    assert len(pool.asked) == 1
    assert len(await stored(database_dsn)) == PAGE
    two = await born(start=False)
    two._worker = asyncio.create_task(two._work())  # it need not take over what was left
    await over(two, begun.id)
    await exact(database_dsn)
    assert len(pool.asked) == -(-2 * len(DAYS) // PAGE)


async def test_a_vendor_that_is_down_is_waited_for_and_the_status_says_so(born, pool, database_dsn):
    pool.faults = [None, *(Unavailable("alpaca", "HTTP 503") for _ in range(3))]
    pool.faults += [
        Unreachable("provider_pool", "it restarts"),
        RateLimited("alpaca", "spent", 0.02),
    ]
    backfills = await born()
    begun = await backfills.ask(ask("AAPL", "MSFT"))
    seen = set()
    async with asyncio.timeout(60):
        while (status := await backfills.status(begun.id)).state is BackfillState.RUNNING:
            seen.add(status.waiting)
            await asyncio.sleep(0)
    assert "alpaca: HTTP 503" in seen
    assert (status.state, status.waiting) == (BackfillState.DONE, None)
    await exact(database_dsn)


async def test_one_that_waits_does_not_hold_up_another(born, pool, database_dsn, monkeypatch):
    monkeypatch.setattr(worker, "FIRST_PAUSE", 60.0)
    pool.faults = [Unavailable("alpaca", "HTTP 503")]
    backfills = await born()
    waiting = await backfills.ask(ask("AAPL"))
    async with asyncio.timeout(60):
        while (await backfills.status(waiting.id)).waiting is None:
            await asyncio.sleep(0.01)
    other = await backfills.ask(ask("MSFT"))
    assert (await over(backfills, other.id)).state is BackfillState.DONE
    assert (await backfills.status(waiting.id)).rows == 0


async def test_two_backfills_take_turns(born, pool, database_dsn):
    backfills = await born()
    long = await backfills.ask(ask("AAPL"))
    pool.gate = asyncio.Event()
    short = await backfills.ask(ask("MSFT", last=date(2026, 1, 20)))
    pool.gate.set()
    first, last = await over(backfills, short.id), await over(backfills, long.id)
    assert (first.state, last.state) == (BackfillState.DONE, BackfillState.DONE)
    assert first.finished_at < last.finished_at


async def test_no_page_for_longer_than_a_days_limit_is_a_failure_that_can_be_asked_again(
    born, pool, database_dsn, database
):
    pool.faults = [RateLimited("alpaca", "spent", 0.01)] * 10_000
    late = datetime.now(UTC) + timedelta(hours=27)
    backfills = await born(now=late)
    begun = await backfills.ask(ask("AAPL", "MSFT"))
    status = await over(backfills, begun.id)
    assert status.state is BackfillState.FAILED
    assert status.error == "no page came for 26 hours: alpaca: spent"
    pool.faults = []
    assert (await backfills.ask(ask("AAPL", "MSFT"))).state is BackfillState.RUNNING
    assert (await over(backfills, begun.id)).state is BackfillState.DONE
    await exact(database_dsn)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Denied("alpaca", "the key is refused"), "alpaca: the key is refused"),
        (Unsupported("alpaca", "not sold"), "alpaca: not sold"),
    ],
)
async def test_what_waiting_cannot_cure_fails_at_once(born, pool, fault, said):
    pool.faults = [fault]
    backfills = await born()
    begun = await backfills.ask(ask("AAPL", "MSFT"))
    status = await over(backfills, begun.id)
    assert (status.state, status.error) == (BackfillState.FAILED, said)
    assert len(pool.asked) == 1


async def test_a_symbol_that_is_not_sold_does_not_fail_the_others(born, pool, database_dsn):
    pool.vendors = {"schwab": "120/min"}
    pool.faults = [None, Unsupported("schwab", "no history of MSFT")]
    backfills = await born()
    begun = await backfills.ask(ask("AAPL", "MSFT", "SPY", last=date(2026, 1, 20)))
    status = await over(backfills, begun.id)
    assert (status.state, status.silent) == (BackfillState.DONE, ("MSFT",))
    assert status.error == "schwab: no history of MSFT"


async def test_a_page_the_vendor_has_forgotten_begins_its_part_anew(born, pool, database_dsn):
    backfills = await born(start=False)
    begun = await backfills.ask(ask("AAPL", "MSFT"))
    # As a life of last week left it: three pages in, and a cursor that is of no use any more.
    await execute(
        database_dsn,
        "UPDATE backfill_parts SET page = 'gone', rows = 111, requests = 3",
    )
    await backfills.start()
    status = await over(backfills, begun.id)
    assert status.rows == 2 * len(DAYS)
    await exact(database_dsn)


async def test_a_cancelled_one_stores_nothing_more_and_goes_on_where_it_stopped(
    born, pool, database_dsn
):
    pool.faults = [None, None]
    backfills = await born()
    begun = await backfills.ask(ask("AAPL", "MSFT"))
    async with asyncio.timeout(60):
        while (await backfills.status(begun.id)).requests < 2:
            await asyncio.sleep(0)
    pool.gate = asyncio.Event()
    cancelled = await backfills.cancel(begun.id)
    assert cancelled.state is BackfillState.CANCELLED
    assert (await backfills.cancel(begun.id)).state is BackfillState.CANCELLED
    pool.gate.set()
    assert (
        (await backfills.status(begun.id)).rows == cancelled.rows == len(await stored(database_dsn))
    )
    sent = len(pool.asked)
    await backfills.ask(ask("AAPL", "MSFT"))
    status = await over(backfills, begun.id)
    await exact(database_dsn)
    assert status.requests == -(-2 * len(DAYS) // PAGE)
    assert len(pool.asked) - sent <= status.requests - cancelled.requests + 1


async def test_nothing_is_bought_before_somebody_agrees_to_the_price(born, pool, database_dsn):
    pool.vendors, pool.price = {"databento": "100/s"}, 2.345
    backfills = await born()
    offered = await backfills.ask(ask("AAPL", "MSFT"))
    assert (offered.state, offered.price, offered.cost) == (BackfillState.PRICED, 2.345, 0.0)
    with pytest.raises(ValueError, match=r"max_cost must be 2\.35 or more: databento wants 2\.345"):
        await backfills.ask(ask("AAPL", "MSFT", max_cost=2.34))
    assert (await backfills.status(offered.id)).state is BackfillState.PRICED
    assert {asked[0] for asked in pool.asked} == {"price"}
    agreed = await backfills.ask(ask("AAPL", "MSFT", max_cost=2.35))
    assert (agreed.id, agreed.state) == (offered.id, BackfillState.RUNNING)
    status = await over(backfills, offered.id)
    assert (status.state, status.price, status.cost) == (BackfillState.DONE, 0.0, 2.345)
    await exact(database_dsn)
    sent = len(pool.asked)
    longer = await backfills.ask(ask("AAPL", "MSFT", last=LAST + timedelta(days=30)))
    assert (longer.state, longer.price, longer.cost) == (BackfillState.PRICED, 2.345, 2.345)
    assert [asked[0] for asked in pool.asked[sent:]] == ["price"]
    await exact(database_dsn)


async def test_a_day_the_vendor_had_not_yet_is_asked_for_when_it_has_it(born, pool, database_dsn):
    pool.vendors, pool.price = {"databento": "100/s"}, 1.0
    first, last = date(2026, 11, 16), date(2026, 11, 23)
    asked = ask("AAPL", first=first, last=last, provider="databento", max_cost=1)
    backfills = await born()
    begun = await backfills.ask(asked)
    assert begun.end == midnight(last), "the 23rd is over, and not there before the 25th"
    await over(backfills, begun.id)
    sent = len(pool.asked)
    assert (await backfills.ask(asked)).state is BackfillState.DONE
    assert len(pool.asked) == sent, "nothing more is there, so nothing is asked and nothing paid"
    later = await born(now=NOW + timedelta(hours=9))
    assert (await later.ask(asked)).end == midnight(last + timedelta(days=1))
    status = await over(later, begun.id)
    assert (status.state, status.cost) == (BackfillState.DONE, 2.0)
    assert [one[1:3] for one in pool.asked[sent:] if one[0] != "price"] == [
        (midnight(last), midnight(last + timedelta(days=1)))
    ]
    await exact(
        database_dsn,
        ("AAPL",),
        sessions(DAY, midnight(first), midnight(last + timedelta(days=1))),
    )


async def test_one_too_many_is_refused_and_leaves_nothing_behind(born, pool, monkeypatch):
    monkeypatch.setattr(store, "MOST_RUNNING", 2)
    backfills = await born(start=False)
    asked = [ask(symbol) for symbol in ("AAPL", "MSFT", "SPY")]
    told = await asyncio.gather(*map(backfills.ask, asked), return_exceptions=True)
    [refused] = [one for one in told if isinstance(one, Exception)]
    assert isinstance(refused, TooMany)
    assert "2 backfills run already" in str(refused)
    running = await backfills.latest()
    assert len(running) == 2
    for request, answer in zip(asked, told, strict=True):
        if answer is not refused:
            assert (await backfills.ask(request)).id == answer.id, "what runs may be asked again"
    await backfills.cancel(running[0].id)
    await backfills.ask(asked[told.index(refused)])


async def test_minutes_get_their_partitions_and_end_with_the_last_whole_minute(
    born, pool, database_dsn
):
    backfills = await born()
    begun = await backfills.ask(ask("AAPL", first=date(2026, 11, 19), last=None, timeframe=MINUTE))
    status = await over(backfills, begun.id)
    rows = await stored(database_dsn, "bars_1m")
    assert status.state is BackfillState.DONE
    assert len(rows) == 3 * 20, "19, 20 and 23 November; of the 24th nothing has traded yet"
    later = await born(now=NOW + timedelta(minutes=10))
    await later.ask(ask("AAPL", first=date(2026, 11, 19), last=None, timeframe=MINUTE))
    await over(later, begun.id)
    assert len(await stored(database_dsn, "bars_1m")) == 3 * 20 + 10


async def test_a_symbol_nobody_follows_gets_history_and_is_still_not_followed(
    born, pool, database_dsn
):
    pool.known.add("ZZZ")
    backfills = await born()
    begun = await backfills.ask(ask("ZZZ"))
    await over(backfills, begun.id)
    await exact(database_dsn, ("ZZZ",))
    connection = await asyncpg.connect(database_dsn)
    assert not await connection.fetchval("SELECT active FROM tickers WHERE symbol = 'ZZZ'")
    await connection.close()


async def test_there_is_no_backfill_of_that_id(born):
    backfills = await born()
    assert await backfills.status(uuid4()) is None
    assert await backfills.cancel(uuid4()) is None
