"""The ingestor on a real PostgreSQL, with a pool that answers from a table and counts its questions."""

import asyncio
import os
import shutil
import signal
import tempfile
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from actors.client import Gone
from actors.domain import universe
from actors.domain.bars import trading_day
from actors.domain.errors import Implausible, Unanswered, UnknownSymbol
from actors.domain.models import Bar, Quote, QuoteBatch, Ranking, Ticker, Timeframe
from actors.price_ingestor import MOST_ASKED, PriceIngestor
from actors.providers.base import RateLimited
from actors.settings import Settings
from actors.store import bars as bar_store
from actors.store import database as database_module
from actors.store import embedded, jobs, tickers
from actors.store.bars import midnight
from actors.store.migrate import migrate

SYMBOLS = [ticker.symbol for ticker in universe.seed()]
OPEN = datetime(2026, 11, 23, 15, 30, tzinfo=UTC)  # a Monday, 10:30 in New York


class Clock:
    """A clock the test turns."""

    def __init__(self):
        self.now = OPEN

    def __call__(self):
        return self.now

    def turn(self, **step):
        self.now += timedelta(**step)


class Pool:
    """A market of the test's own, as `client.ProviderPool` promises it."""

    def __init__(self, clock):
        self.clock = clock
        self.volumes = dict.fromkeys(SYMBOLS, 1_000)
        self.prices = dict.fromkeys(SYMBOLS, 100.0)
        self.special = {}  # symbol -> the quote it tells
        self.failing = {}  # symbol -> why
        self.error = None
        self.gate = None  # answers wait for it
        self.asked = []
        self.days = []  # daily bars it can tell
        self.days_asked = []
        self.listed = [ticker for ticker in universe.seed() if ticker.kind == "stock"]

    def within(self, seconds):
        return self

    @property
    def provider_pool(self):
        return self

    def trade(self, shares, price=100.0, symbols=SYMBOLS):
        for symbol in symbols:
            self.volumes[symbol] += shares
            self.prices[symbol] = price

    def tell(self, symbol, **fields):
        self.special[symbol] = replace(self.quote(symbol), **fields)

    def quote(self, symbol):
        price = self.prices.get(symbol, 50.0)
        return Quote(
            symbol,
            self.clock(),
            "schwab",
            last=price,
            open=99.0,
            high=max(101.0, price),
            low=min(98.0, price),
            volume=self.volumes.get(symbol, 10),
            name=f"{symbol} Inc",
        )

    async def quotes(self, symbols, *, sweep=False):
        self.asked.append(tuple(symbols))
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        known = {*self.volumes, *self.special}
        return QuoteBatch(
            tuple(
                self.special.get(s) or self.quote(s)
                for s in symbols
                if s in known and s not in self.failing
            ),
            tuple(s for s in symbols if s not in known and s not in self.failing),
            tuple((s, self.failing[s]) for s in symbols if s in self.failing),
        )

    async def bars(self, symbol, timeframe, start, end):
        self.days_asked.append((symbol, timeframe, start, end))
        if self.error is not None:
            raise self.error
        return tuple(bar for bar in self.days if bar.symbol == symbol and start <= bar.at < end)

    async def constituents(self):
        if self.error is not None:
            raise self.error
        return tuple(self.listed)

    async def status(self):
        return ()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def pool(clock):
    return Pool(clock)


@pytest.fixture
async def born(database_dsn, tmp_path, pool, clock):
    """Give what starts one more ingestor on the test's database."""
    settings = Settings(volaris_home=tmp_path, database_url=database_dsn)
    living = []

    async def born():
        living.append(PriceIngestor(settings, pool, now=clock))
        await living[-1].start()
        return living[-1]

    yield born
    for ingestor in living:
        await ingestor.stop()


def day_of(clock):
    midnight_there = midnight(trading_day(clock()))
    return midnight_there, midnight_there + timedelta(days=2)


async def minutes(ingestor, symbol, clock):
    return await ingestor.bars(symbol, Timeframe.MINUTE, *day_of(clock), 10_000)


# --- refresh


async def test_a_refresh_is_one_question_and_few_statements(born, pool, clock, monkeypatch):
    statements = []
    prepare = database_module._prepare

    async def listening(connection):
        await prepare(connection)
        connection.add_query_logger(lambda query: statements.append(query.query))

    monkeypatch.setattr(database_module, "_prepare", listening)
    ingestor = await born()
    await ingestor.refresh()
    for _ in range(2):
        clock.turn(seconds=120)
        pool.trade(100)
        statements.clear()
        report = await ingestor.refresh()
        assert (report.asked, report.stored, report.bars) == (len(SYMBOLS),) * 3
        assert (report.unknown, report.failed) == ((), ())
        assert len(statements) <= 6, statements
        assert statements[0].startswith("BEGIN")
        assert statements[-1].startswith("COMMIT")
    assert pool.asked == [tuple(pool.asked[0])] * 3
    assert sorted(pool.asked[0]) == sorted(SYMBOLS)


async def test_all_who_ask_at_once_share_one_refresh(born, pool):
    ingestor = await born()
    reports = await asyncio.gather(*(ingestor.refresh() for _ in range(5)))
    assert len(pool.asked) == 1
    assert reports == [reports[0]] * 5


async def test_a_caller_who_gives_up_does_not_end_the_refresh_of_the_others(born, pool):
    ingestor = await born()
    pool.gate = asyncio.Event()
    impatient, patient = (asyncio.create_task(ingestor.refresh()) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    pool.gate.set()
    assert (await patient).stored == len(SYMBOLS)


async def test_a_repeat_adds_nothing(born, pool, clock):
    ingestor = await born()
    await ingestor.refresh()
    pool.trade(100)
    clock.turn(seconds=10)
    first = await ingestor.refresh()
    before = await minutes(ingestor, "AAPL", clock)
    again = await ingestor.refresh()
    assert (first.stored, again.stored, again.bars) == (len(SYMBOLS), 0, 0)
    assert await minutes(ingestor, "AAPL", clock) == before
    assert [bar.volume for bar in before] == [100]


async def test_bars_are_built_minute_by_minute(born, pool, clock):
    ingestor = await born()
    for price, seconds in ((100.0, 20), (103.0, 20), (99.0, 30), (98.0, 30)):
        pool.trade(10, price)
        await ingestor.refresh()
        clock.turn(seconds=seconds)
    assert await minutes(ingestor, "AAPL", clock) == (
        Bar("AAPL", OPEN, 100.0, 103.0, 99.0, 99.0, 20, "schwab", polled=True),
        Bar("AAPL", OPEN + timedelta(minutes=1), 98.0, 98.0, 98.0, 98.0, 10, "schwab", polled=True),
    )


async def test_restarts_anywhere_leave_exact_bars(born, pool, clock):
    """Kill at every point of a day, resume, and the day's bars add up to what was traded."""
    ingestor = await born()
    await ingestor.refresh()
    baseline = pool.volumes["AAPL"]
    for turn in range(12):
        pool.trade(7 + turn, 100.0 + turn % 3)
        clock.turn(seconds=25)
        if turn % 3 == 0:  # killed in the middle of a refresh, wherever that is
            task = asyncio.create_task(ingestor.refresh())
            await asyncio.sleep(0.004 * turn)
            for flight in ingestor._flights.values():
                flight.cancel()
            await asyncio.gather(task, return_exceptions=True)
            ingestor = await born()
        await ingestor.refresh()
        await ingestor.refresh()
    bars = await minutes(ingestor, "AAPL", clock)
    assert sum(bar.volume for bar in bars) == pool.volumes["AAPL"] - baseline
    assert len({bar.at for bar in bars}) == len(bars)


async def test_two_ingestors_at_once_count_nothing_twice(born, pool, clock):
    """An old process that still drains beside its successor."""
    first, second = await born(), await born()
    await first.refresh()
    for _ in range(6):
        clock.turn(seconds=20)
        pool.trade(10)
        await asyncio.gather(first.refresh(), second.refresh())
    assert sum(bar.volume for bar in await minutes(first, "AAPL", clock)) == 60


async def test_the_first_observation_of_a_new_day_counts_from_nothing(born, pool, clock):
    ingestor = await born()
    await ingestor.refresh()
    clock.turn(days=1)
    pool.volumes = dict.fromkeys(SYMBOLS, 300)
    ingestor = await born()
    await ingestor.refresh()
    assert [bar.volume for bar in await minutes(ingestor, "AAPL", clock)] == [300]


async def test_one_bad_symbol_fails_nothing(born, pool):
    pool.tell("AAPL", last=float("nan"))
    pool.tell("MSFT", at=datetime(2026, 11, 23, 15, 30))
    pool.tell("AMZN", volume=2**70)
    pool.tell("KO", last=None, volume=None)
    pool.failing["IBM"] = "it made no sense"
    del pool.volumes["GE"]
    ingestor = await born()
    report = await ingestor.refresh()
    assert report.unknown == ("GE",)
    assert {symbol for symbol, _ in report.failed} == {"AAPL", "MSFT", "AMZN", "IBM"}
    assert report.stored == len(SYMBOLS) - 5
    assert report.bars == len(SYMBOLS) - 6
    assert (await ingestor.quote("KO")).last is None


async def test_what_did_not_trade_has_a_quote_and_no_bar(born, pool, clock):
    pool.tell("AAPL", at=clock() - timedelta(hours=15))
    ingestor = await born()
    report = await ingestor.refresh()
    assert (report.stored, report.bars) == (len(SYMBOLS), len(SYMBOLS) - 1)
    assert (await ingestor.quote("AAPL")).at == clock() - timedelta(hours=15)


async def test_a_refresh_without_a_vendor_changes_nothing_and_says_so(born, pool):
    ingestor = await born()
    pool.error = RateLimited("schwab", "its limit is spent", 7.0)
    with pytest.raises(RateLimited):
        await ingestor.refresh()
    pool.error = None
    assert (await ingestor.refresh()).stored == len(SYMBOLS)


async def test_stopping_finishes_the_work_in_hand_and_takes_no_more(born, pool):
    ingestor = await born()
    pool.gate = asyncio.Event()
    refresh = asyncio.create_task(ingestor.refresh())
    await asyncio.sleep(0)
    stop = asyncio.create_task(ingestor.stop())
    await asyncio.sleep(0)
    for refused in (ingestor.prune, ingestor.daily, lambda: ingestor.quote("AAPL")):
        with pytest.raises(Gone):
            await refused()
    pool.gate.set()
    assert (await refresh).stored == len(SYMBOLS)
    await stop


async def test_a_killed_server_in_the_middle_of_a_refresh_costs_nothing(pool, clock):
    home = Path(tempfile.mkdtemp(prefix="vi"))
    dsn = await asyncio.to_thread(embedded.ensure_server, home)
    await migrate(dsn)
    ingestor = PriceIngestor(Settings(volaris_home=home, database_url=dsn), pool, now=clock)
    try:
        await ingestor.start()
        await ingestor.refresh()
        for turn in range(4):
            clock.turn(seconds=45)
            pool.trade(10)
            refresh = asyncio.create_task(ingestor.refresh())
            await asyncio.sleep(0.006 * turn)
            async with asyncio.timeout(60):
                while (server := embedded.server_pid(home)) is None:  # just being started anew
                    await asyncio.sleep(0.01)
            os.kill(server, signal.SIGKILL)
            assert not (await refresh).failed
            await ingestor.prune()  # partitions come and go under statements that are prepared
        assert sum(bar.volume for bar in await minutes(ingestor, "AAPL", clock)) == 40
    finally:
        await ingestor.stop()
        await asyncio.to_thread(embedded.stop_server, home)
        shutil.rmtree(home)


# --- what somebody asks for


async def test_a_known_symbol_is_answered_from_memory_after_a_restart_too(born, pool, clock):
    ingestor = await born()
    await ingestor.refresh()
    asked = len(pool.asked)
    clock.turn(hours=60)
    again = await born()
    assert await again.quote("aapl") == await ingestor.quote("AAPL")
    assert len(pool.asked) == asked


async def test_a_new_symbol_is_asked_for_once_stored_and_followed(born, pool, clock):
    ingestor = await born()
    pool.volumes["ZZZ.B"] = 5
    spelled = ["ZZZ/B", "zzz-b", "ZZZ.B", "zzz.b"]
    quotes = await asyncio.gather(*(ingestor.quote(symbol) for symbol in spelled))
    assert quotes == [quotes[0]] * 4
    assert pool.asked == [("ZZZ.B",)]
    assert len(await minutes(ingestor, "ZZZ.B", clock)) == 1
    assert "ZZZ.B" in (await born())._ids
    report = await ingestor.refresh()
    assert report.asked == len(SYMBOLS) + 1


async def test_a_symbol_unasked_for_a_day_is_not_followed_any_more(born, pool, clock, database):
    ingestor = await born()
    pool.volumes |= {"ZZA": 5, "ZZB": 5}
    await ingestor.quote("ZZA")
    await ingestor.quote("ZZB")
    clock.turn(hours=20)
    await ingestor.quote("ZZB")
    await ingestor.refresh()
    assert (await database.run(tickers.asked))["ZZB"] == clock()
    clock.turn(hours=5)
    assert (await ingestor.refresh()).asked == len(SYMBOLS) + 1
    await ingestor.prune()
    assert set(await database.run(tickers.ids)) == {*SYMBOLS, "ZZB"}
    pool.trade(1, symbols=["ZZA"])
    assert (await ingestor.quote("ZZA")).volume == 6  # asked for anew, not from memory


async def test_only_so_many_symbols_are_followed_because_somebody_asked(born, pool, clock):
    ingestor = await born()
    names = [f"Z{n}" for n in range(MOST_ASKED)]
    for name in names:
        ingestor._ids[name], ingestor._asked[name] = -1 - len(ingestor._asked), clock()
    pool.volumes |= {"ZZA": 5}
    ingestor._quotes["Z0"] = pool.quote("Z0")
    await ingestor.quote("Z0")  # just asked for, so Z1 is the longest unasked
    await ingestor.quote("ZZA")
    assert len(ingestor._asked) == MOST_ASKED
    assert "Z1" not in ingestor._ids
    assert {"Z0", "ZZA"} <= set(ingestor._ids)


async def test_an_unknown_symbol_is_remembered_for_a_while(born, pool, clock):
    ingestor = await born()
    for _ in range(3):
        with pytest.raises(UnknownSymbol, match="no vendor knows the symbol NOPE"):
            await ingestor.quote("NOPE")
    assert len(pool.asked) == 1
    clock.turn(minutes=11)
    pool.volumes["NOPE"] = 1
    assert (await ingestor.quote("NOPE")).volume == 1


async def test_a_question_nobody_can_answer_says_why(born, pool):
    ingestor = await born()
    with pytest.raises(ValueError, match="a symbol is"):
        await ingestor.quote("no symbol")
    pool.failing["AAPL"] = "it made no sense"
    with pytest.raises(Unanswered, match="a quote of AAPL could not be had: it made no sense"):
        await ingestor.quote("AAPL")
    pool.error = RateLimited("schwab", "its limit is spent", 7.0)
    with pytest.raises(Unanswered, match="its limit is spent") as unanswered:
        await ingestor.quote("MSFT")
    assert unanswered.value.retry_after == 7.0


# --- bars


def day_bars(symbol, *days):
    return [Bar(symbol, midnight(day), 1.0, 2.0, 0.5, 1.5, 10, "schwab") for day in days]


async def test_daily_bars_are_fetched_once_and_then_read(born, pool):
    week = [date(2026, 11, day) for day in (16, 17, 18, 19, 20)]
    pool.days = day_bars("AAPL", *week, date(2026, 11, 23))
    ingestor = await born()
    asked = ("aapl", Timeframe.DAY, midnight(week[0]), OPEN, 3)
    answers = await asyncio.gather(*(ingestor.bars(*asked) for _ in range(4)))
    # Monday the 23rd is not over: its bar is not asked for and would not be kept.
    assert [bar.at.date() for bar in answers[0]] == week[2:]
    assert answers == [answers[0]] * 4
    assert pool.days_asked == [
        ("AAPL", Timeframe.DAY, midnight(week[0]), midnight(date(2026, 11, 21)))
    ]
    assert await (await born()).bars(*asked) == answers[0]
    assert len(pool.days_asked) == 1


async def test_days_that_do_not_exist_are_not_asked_for_again_for_an_hour(born, pool, clock):
    ingestor = await born()
    asked = ("AAPL", Timeframe.DAY, midnight(date(2026, 11, 2)), OPEN, 9)
    for _ in range(3):
        assert await ingestor.bars(*asked) == ()
    assert len(pool.days_asked) == 1
    clock.turn(minutes=61)
    pool.days = day_bars("AAPL", date(2026, 11, 20))
    assert len(await ingestor.bars(*asked)) == 1
    assert len(pool.days_asked) == 2


async def test_stored_days_are_answered_when_the_vendor_is_away(born, pool, clock):
    pool.days = day_bars("AAPL", date(2026, 11, 20))
    ingestor = await born()
    asked = ("AAPL", Timeframe.DAY, midnight(date(2026, 11, 19)), OPEN, 9)
    stored = await ingestor.bars(*asked)
    pool.error = RateLimited("schwab", "its limit is spent", 7.0)
    clock.turn(hours=2)
    assert await ingestor.bars(*asked) == stored
    with pytest.raises(Unanswered, match="daily bars of MSFT could not be had: schwab: its limit"):
        await ingestor.bars("MSFT", *asked[1:])


async def test_bars_of_what_is_no_symbol_are_refused(born):
    ingestor = await born()
    until = OPEN + timedelta(hours=1)
    with pytest.raises(UnknownSymbol):
        await ingestor.bars("NOPE", Timeframe.MINUTE, OPEN, until, 9)
    with pytest.raises(ValueError, match="limit must be 1 or more, was 0"):
        await ingestor.bars("AAPL", Timeframe.MINUTE, OPEN, until, 0)
    with pytest.raises(ValueError, match="a time must have its zone"):
        await ingestor.bars("AAPL", Timeframe.MINUTE, OPEN.replace(tzinfo=None), until, 9)
    ages = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
    assert await ingestor.bars("AAPL", Timeframe.MINUTE, *ages, 9) == ()
    assert await ingestor.bars("AAPL", Timeframe.DAY, *ages, 9) == ()


# --- once a day


async def test_the_days_bars_come_from_the_quotes(born, pool, clock):
    ingestor = await born()
    pool.tell("MSFT", at=clock() - timedelta(days=3))  # has not traded today
    pool.tell("KO", open=None)
    clock.turn(hours=7)  # 17:30 in New York
    pool.trade(500, 105.0)
    assert await ingestor.daily() == len(SYMBOLS) - 2
    assert len(pool.asked) == 1
    assert await ingestor.daily() == 0
    today = midnight(date(2026, 11, 23))
    [bar] = await ingestor.bars("AAPL", Timeframe.DAY, today, today + timedelta(days=1), 9)
    assert bar == Bar("AAPL", today, 99.0, 105.0, 98.0, 105.0, 1_500, "schwab", polled=False)


async def test_a_day_told_before_its_close_is_asked_for_when_it_is_over(born, pool, clock):
    ingestor = await born()
    await ingestor.daily()
    today = date(2026, 11, 23)
    clock.turn(days=1)
    pool.days = day_bars("AAPL", today)
    [bar] = await ingestor.bars("AAPL", Timeframe.DAY, midnight(today), clock(), 9)
    assert bar == pool.days[0]


async def test_pruning_drops_old_days_and_rows_and_prepares_the_coming_days(born, clock, database):
    ingestor = await born()
    await ingestor.refresh()

    async def old_rows(connection):
        for days in (0, 31, 40):
            await jobs.claim(connection, "prices", clock() - timedelta(days=days), "boot")
        await bar_store.ensure_partitions(
            connection, [date(2026, 11, day) for day in range(10, 22)]
        )

    await database.run(old_rows)
    assert await ingestor.prune() == 8  # the 10th to the 17th; the 18th is five days before
    assert await ingestor.prune() == 0
    assert len(await database.run(lambda c: jobs.recent(c, 9))) == 1
    names = await database.run(bar_store._living)
    assert min(names) == "bars_1m_20261118"
    assert max(names) == "bars_1m_20261126"
    clock.turn(days=4)
    await ingestor.prune()
    assert (await ingestor.refresh()).bars == len(SYMBOLS)


# --- the members of the S&P 500


async def test_who_joins_is_followed_and_who_leaves_is_not_but_keeps_its_history(
    born, pool, clock, database
):
    ingestor = await born()
    await ingestor.refresh()
    pool.trade(100, symbols=["MMM"])
    clock.turn(seconds=120)
    await ingestor.refresh()
    history = await minutes(ingestor, "MMM", clock)
    assert history

    pool.listed = [t for t in pool.listed if t.symbol != "MMM"]
    pool.listed.append(Ticker("NEWCO", "New Company", "stock", "Energy"))
    pool.volumes["NEWCO"] = 5
    report = await ingestor.constituents()
    assert (report.members, report.added, report.retired) == (503, ("NEWCO",), ("MMM",))
    members = {ticker.symbol: ticker for ticker in await ingestor.members()}
    assert members["NEWCO"].sector == "Energy"
    assert "MMM" not in members
    assert "SPY" not in members

    clock.turn(seconds=120)
    await ingestor.refresh()
    assert "NEWCO" in pool.asked[-1]
    assert "MMM" not in pool.asked[-1]
    row = await database.run(
        lambda c: c.fetchrow("SELECT active, left_at FROM tickers WHERE symbol = 'MMM'")
    )
    assert (row["active"], row["left_at"]) == (False, clock() - timedelta(seconds=120))
    again = await ingestor.constituents()
    assert (again.added, again.retired) == ((), ())

    asked = await minutes(ingestor, "MMM", clock)  # which follows it for a day
    assert asked[: len(history)] == history


async def test_the_seed_list_brings_nobody_back_who_left(born, pool, clock):
    ingestor = await born()
    pool.listed = [t for t in pool.listed if t.symbol != "MMM"]
    pool.listed.append(Ticker("NEWCO", "New Company", "stock", "Energy"))
    await ingestor.constituents()
    await ingestor.quote("MMM")  # somebody asks for it still
    second = await born()
    known = [ticker.symbol for ticker in await second.members()]
    assert "MMM" not in known
    assert "NEWCO" in known
    clock.turn(days=2)
    await second.refresh()
    assert "MMM" not in pool.asked[-1]

    pool.listed.append(next(t for t in universe.seed() if t.symbol == "MMM"))
    assert (await second.constituents()).added == ("MMM",)
    assert "MMM" in [ticker.symbol for ticker in await (await born()).members()]


async def test_a_symbol_that_was_asked_for_stays_when_it_joins(born, pool, clock):
    ingestor = await born()
    pool.volumes["NEWCO"] = 5
    await ingestor.quote("NEWCO")
    pool.listed.append(Ticker("NEWCO", "New Company", "stock", "Energy"))
    await ingestor.constituents()
    clock.turn(days=2)  # nobody has asked again
    await ingestor.refresh()
    assert "NEWCO" in pool.asked[-1]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda rows: rows[:494], "it has 494 members"),
        (lambda rows: rows + [Ticker(f"X{n}", "x") for n in range(8)], "it has 511 members"),
        (lambda rows: rows[8:] + [Ticker(f"X{n}", "x") for n in range(7)], "15 members at once"),
    ],
    ids=["too few", "too many", "too many changes"],
)
async def test_a_list_that_cannot_be_true_changes_nothing(born, pool, caplog, change, why):
    ingestor = await born()
    before = await ingestor.members()
    pool.listed = change(pool.listed)
    with pytest.raises(Implausible, match=why):
        await ingestor.constituents()
    assert why in caplog.text
    assert await ingestor.members() == before
    assert await (await born()).members() == before


async def test_as_many_changes_as_may_be_are_made(born, pool):
    ingestor = await born()
    pool.listed = [*pool.listed[7:], *(Ticker(f"X{n}", "x") for n in range(7))]
    report = await ingestor.constituents()
    assert len(report.added) == len(report.retired) == 7


async def test_a_list_that_cannot_be_had_is_the_jobs_error(born, pool):
    ingestor = await born()
    pool.error = RateLimited("sp500", "too many requests (429)")
    with pytest.raises(RateLimited):
        await ingestor.constituents()
    assert len(await ingestor.members()) == 503


async def test_movers_are_of_the_members_and_cost_nothing(born, pool, clock):
    ingestor = await born()
    with pytest.raises(Unanswered, match="no quotes have come yet"):
        await ingestor.movers(Ranking.GAINERS, 5)
    pool.tell("AAPL", change_percent=3.0, change=2.9)
    pool.tell("MSFT", change_percent=-4.0, change=-4.1)
    pool.tell("SPY", change_percent=9.0, change=9.0)  # a fund is no member
    pool.tell("NVDA", change_percent=7.0, at=clock() - timedelta(days=1))  # that was yesterday
    await ingestor.refresh()
    asked = len(pool.asked)
    gainers = await ingestor.movers(Ranking.GAINERS, 5)
    assert [(row.symbol, row.change_percent) for row in gainers.rows] == [("AAPL", 3.0)]
    assert (gainers.at, gainers.source) == (clock(), "schwab")
    assert [row.symbol for row in (await ingestor.movers(Ranking.LOSERS, 5)).rows] == ["MSFT"]
    pool.volumes["KO"] = 9_000
    clock.turn(seconds=120)
    await ingestor.refresh()
    active = await ingestor.movers(Ranking.ACTIVE, 3)
    assert active.rows[0].symbol == "KO"
    assert len(active.rows) == 3
    assert len(pool.asked) == asked + 1
