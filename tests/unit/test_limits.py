"""The limiter on a clock that only its own sleeps move; and its text, and its two lives."""

import asyncio
import heapq
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.providers import limits
from actors.providers.base import RateLimited, StoreAway
from actors.providers.limits import SWEEP, Entry, Limiter
from actors.providers.plan import SLACK, read, window_end, window_start

FOREVER = 1e9
MINUTE = 60.0
BEGIN = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)


class Clock:
    """Time as the sleepers see it: when all wait, it jumps to the first who wakes."""

    def __init__(self) -> None:
        self.now = 100.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._ticket: Iterator[int] = count()

    def __call__(self) -> float:
        return self.now

    def wall(self) -> datetime:
        return BEGIN + timedelta(seconds=self.now - 100.0)

    async def sleep(self, seconds: float) -> None:
        waker = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._ticket), waker))
        await waker

    async def run(self, *work: asyncio.Task[None]) -> None:
        """Return when all work is done, moving time where nothing else can move."""
        while not all(task.done() for task in work):
            for _ in range(5):
                await asyncio.sleep(0)
            if self._sleepers:
                at, _, waker = heapq.heappop(self._sleepers)
                self.now = max(self.now, at)
                if not waker.done():
                    waker.set_result(None)

    def limiter(self, text: str, ledger: "Book | None" = None) -> Limiter:
        return Limiter("x", text, ledger=ledger, now=self.wall, clock=self, sleep=self.sleep)


class Book:
    """A ledger that can be away, and that counts how often it was written."""

    def __init__(self) -> None:
        self.rows: dict[str, Entry] = {}
        self.away = False
        self.notes = 0

    async def spend(self, vendor: str) -> Mapping[str, Entry]:
        if self.away:
            raise StoreAway("its test says so")
        return dict(self.rows)

    async def note(self, vendor: str, entries: Mapping[str, Entry]) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise StoreAway("its test says so")
        self.rows |= entries
        self.notes += 1


def busiest(times: list[float], window: float = MINUTE) -> int:
    """Return the most requests in any window, its end not counted."""
    return max(
        (sum(1 for t in times if start <= t < start + window - 1e-6) for start in times), default=0
    )


async def take(limiter: Limiter, deadline: float = FOREVER, size: int = 0) -> None:
    await limiter.slot(deadline)
    limiter.settle(size)


async def send(limiter: Limiter, clock: Clock, sent: list[float], wait: float = 0.0) -> None:
    if wait:
        await clock.sleep(wait)
    await take(limiter)
    sent.append(clock.now)


async def swept(limiter: Limiter, clock: Clock, sent: list[float]) -> None:
    SWEEP.set(True)
    await send(limiter, clock, sent)


# --- the text


@pytest.mark.parametrize(
    "text", ["120/min", "50/h 1000/day 1GB/month 500symbols/month", "30/s 60/min", "20MB/day 5/h"]
)
def test_a_plan_is_read(text: str) -> None:
    assert " ".join(limit.text for limit in read(text)) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "at least one limit of requests"),
        ("1GB/month", "at least one limit of requests"),
        ("0/min", "was '0/min'"),
        ("-5/min", "was '-5/min'"),
        ("120 /min", "was '120'"),
        ("120/minute", "was '120/minute'"),
        ("1GB/h 5/min", "counted by the day or month"),
        ("500symbols/s 5/min", "counted by the day or month"),
        ("5/min 6/min", "each kind of limit once"),
        ("5/min 1MB/month", "20MB or more"),
    ],
)
def test_a_wrong_plan_is_one_sentence(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        read(text)
    assert "\n" not in str(caught.value)


def test_windows_of_the_calendar() -> None:
    at = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)  # still the 23rd in New York
    assert window_start("day", at) == datetime(2026, 11, 23, 5, tzinfo=UTC)
    assert window_end("day", window_start("day", at)) == datetime(2026, 11, 24, 5, tzinfo=UTC)
    assert window_start("month", at) == datetime(2026, 11, 1, tzinfo=UTC)
    assert window_end("month", window_start("month", at)) == datetime(2026, 12, 1, tzinfo=UTC)
    short = window_start("day", datetime(2026, 3, 8, 12, tzinfo=UTC))  # 23 hours long
    assert window_end("day", short) - short == timedelta(hours=23)


@given(st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)))
def test_every_moment_is_in_one_window(at: datetime) -> None:
    for window in ("day", "month"):
        began = window_start(window, at)
        ends = window_end(window, began)
        assert began <= at < ends
        assert window_start(window, ends) == ends
        assert window_start(window, ends - timedelta(microseconds=1)) == began


# --- one life


@settings(max_examples=40, deadline=None)
@given(
    amount=st.integers(1, 200),
    window=st.sampled_from([("s", 1.0), ("min", 60.0), ("h", 3600.0)]),
    waits=st.lists(st.floats(0, 200), min_size=1, max_size=150),
)
def test_no_window_holds_more_than_the_limit(
    amount: int, window: tuple[str, float], waits: list[float]
) -> None:
    name, seconds = window

    async def scenario() -> None:
        clock, sent = Clock(), list[float]()
        limiter = clock.limiter(f"{amount}/{name}")
        work = [asyncio.create_task(send(limiter, clock, sent, wait)) for wait in waits]
        await clock.run(*work)
        assert len(sent) == len(waits) == limiter.total
        # Also where what was sent evenly arrives closer together.
        assert busiest(sent, seconds + SLACK[name]) <= amount

    asyncio.run(scenario())


@settings(max_examples=25, deadline=None)
@given(waits=st.lists(st.tuples(st.floats(0, 400), st.booleans()), min_size=1, max_size=120))
def test_several_limits_hold_at_once(waits: list[tuple[float, bool]]) -> None:
    async def scenario() -> None:
        clock, sent = Clock(), list[float]()
        limiter = clock.limiter("3/s 20/min 100/h")

        async def one(wait: float, sweep: bool) -> None:
            SWEEP.set(sweep)
            await send(limiter, clock, sent, wait)

        await clock.run(*(asyncio.create_task(one(*wait)) for wait in waits))
        assert len(sent) == len(waits)
        for window, most in ((1.0, 3), (60.0, 20), (3600.0, 100)):
            assert busiest(sent, window) <= most

    asyncio.run(scenario())


async def test_a_burst_goes_at_once_and_the_rest_in_a_trickle() -> None:
    clock, sent = Clock(), list[float]()
    limiter = clock.limiter("120/min")
    await clock.run(*(asyncio.create_task(send(limiter, clock, sent)) for _ in range(120)))
    assert sent.count(100.0) == 10
    assert sent[-1] - 100.0 <= MINUTE + SLACK["min"]
    gaps = {round(b - a, 6) for a, b in pairwise(sent[9:])}
    assert gaps == {round(61 / 111, 6)}


async def test_first_come_first_served() -> None:
    clock, order = Clock(), list[int]()
    limiter = clock.limiter("60/min")

    async def numbered(n: int) -> None:
        await take(limiter)
        order.append(n)

    await clock.run(*(asyncio.create_task(numbered(n)) for n in range(50)))
    assert order == sorted(order)


async def test_people_go_before_sweeps() -> None:
    clock, sweeps, people = Clock(), list[float](), list[float]()
    limiter = clock.limiter("60/min")
    work = [asyncio.create_task(swept(limiter, clock, sweeps)) for _ in range(40)]
    await asyncio.sleep(0)
    work += [asyncio.create_task(send(limiter, clock, people, 10)) for _ in range(5)]
    await clock.run(*work)
    assert len(sweeps) == 40
    assert max(people) < 100 + 10 + 5 * 61 / 56 + 0.1


async def test_a_sweep_leaves_some_of_a_burst_to_people() -> None:
    clock, sweeps, people = Clock(), list[float](), list[float]()
    limiter = clock.limiter("50/h")
    work = [asyncio.create_task(swept(limiter, clock, sweeps)) for _ in range(10)]
    await asyncio.sleep(0)
    await clock.run(asyncio.create_task(send(limiter, clock, people)))
    assert people == [100.0]
    for task in work:
        task.cancel()


async def test_who_cannot_have_a_turn_in_time_hears_it_at_once() -> None:
    clock = Clock()
    limiter = clock.limiter("1/min")
    await take(limiter)
    with pytest.raises(RateLimited, match=r"its limit is spent \(1/min\)") as caught:
        await take(limiter, clock.now + 30)
    assert caught.value.retry_after == pytest.approx(61)
    assert limiter.total == 1


async def test_a_turn_just_before_the_deadline_is_none() -> None:
    clock = Clock()
    limiter = clock.limiter("60/min")
    for _ in range(5):
        await take(limiter, clock.now)  # a free turn needs no time
    with pytest.raises(RateLimited):
        await take(limiter, clock.now + 1.5)


async def test_the_queue_before_you_counts() -> None:
    clock, sent = Clock(), list[float]()
    limiter = clock.limiter("60/min")
    crowd = [asyncio.create_task(send(limiter, clock, sent)) for _ in range(60)]
    await asyncio.sleep(0)
    with pytest.raises(RateLimited):
        await take(limiter, clock.now + 30)
    await clock.run(*crowd)
    assert len(sent) == 60


async def test_the_queue_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_WAITING", 3)
    clock, sent = Clock(), list[float]()
    limiter = clock.limiter("1/min")
    crowd = [asyncio.create_task(send(limiter, clock, sent)) for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(RateLimited, match="wait for their turn"):
        await take(limiter)
    await clock.run(*crowd)
    assert len(sent) == 4


async def test_a_pause_holds_everybody_and_ends_without_a_burst() -> None:
    clock, sent = Clock(), list[float]()
    limiter = clock.limiter("120/min")
    limiter.pause(60)
    assert limiter.delay == 60
    await clock.run(*(asyncio.create_task(send(limiter, clock, sent)) for _ in range(5)))
    assert sent[0] == pytest.approx(160)
    assert sent[1] > sent[0]
    assert limiter.delay < 1


async def test_a_pause_during_the_wait_is_heard_of() -> None:
    clock = Clock()
    limiter = clock.limiter("1/min")
    await take(limiter)
    waiting = asyncio.create_task(take(limiter, clock.now + 70))
    await asyncio.sleep(0)
    limiter.pause(300)
    await clock.run(waiting)
    with pytest.raises(RateLimited, match="asked for a pause"):
        await waiting


async def test_a_shorter_pause_does_not_shorten_a_longer_one() -> None:
    clock = Clock()
    limiter = clock.limiter("120/min")
    limiter.pause(60)
    limiter.pause(1)
    assert limiter.delay == 60


async def test_refusals_without_a_word_pause_longer_each_time() -> None:
    clock = Clock()
    limiter = clock.limiter("120/min")
    pauses = []
    for _ in range(7):
        limiter.pause(None)
        limiter.pause(None)  # of another request under way: the same refusal
        pauses.append(limiter.delay)
        clock.now += limiter.delay
    assert pauses == [60, 120, 240, 480, 900, 900, 900]
    limiter.heard(None, None)
    limiter.pause(None)
    assert limiter.delay == 60


async def test_what_the_vendor_says_is_left_is_believed() -> None:
    clock, sent = Clock(), list[float]()
    limiter = clock.limiter("120/min")
    limiter.heard(2, 30.0)
    await clock.run(*(asyncio.create_task(send(limiter, clock, sent)) for _ in range(4)))
    assert sent.count(100.0) == 2
    limiter.heard(0, 30.0)
    assert limiter.delay == pytest.approx(30)
    limiter.heard(500, 30.0)
    assert limiter.delay == pytest.approx(30)


async def test_one_who_gives_up_takes_no_turn() -> None:
    clock, sent = Clock(), list[float]()
    limiter = clock.limiter("1/min")
    await take(limiter)
    quitter = asyncio.create_task(take(limiter))
    patient = asyncio.create_task(send(limiter, clock, sent))
    await asyncio.sleep(0)
    quitter.cancel()
    await clock.run(quitter, patient)
    assert len(sent) == 1
    assert limiter.total == 2


async def test_spend_is_told_of_each_limit() -> None:
    clock = Clock()
    limiter = clock.limiter("120/min 1000/day 1GB/month 500symbols/month")
    for _ in range(3):
        await take(limiter, size=1_000)
    assert await limiter.claim(["AAPL", "SPY"]) == ("AAPL", "SPY")
    told = limiter.spend
    assert [(one.limit, one.spent, one.allowed) for one in told] == [
        ("120/min", 3, 120),
        ("1000/day", 3, 1000),
        ("1GB/month", 3_000, 10**9),
        ("500symbols/month", 2, 500),
    ]
    assert [one.resets_at for one in told] == [
        None,
        datetime(2026, 11, 25, 5, tzinfo=UTC),
        datetime(2026, 12, 1, tzinfo=UTC),
        datetime(2026, 12, 1, tzinfo=UTC),
    ]
    clock.now += 86_400
    assert [one.spent for one in limiter.spend] == [0, 0, 3_000, 2]


# --- days and months


async def test_a_day_ends_at_midnight_in_new_york() -> None:
    clock = Clock()
    limiter = clock.limiter("1000/min 4/day")
    for _ in range(4):
        await take(limiter)
    with pytest.raises(RateLimited) as caught:
        await take(limiter, clock.now + 30)
    assert caught.value.retry_after == pytest.approx(14 * 3600)
    clock.now += 14 * 3600
    await take(limiter)


async def test_the_last_tenth_of_a_day_is_for_people() -> None:
    clock, sent = Clock(), list[float]()
    limiter = clock.limiter("1000/min 20/day")

    async def sweep() -> None:
        SWEEP.set(True)
        await take(limiter, clock.now + 30)

    for _ in range(18):
        await asyncio.create_task(sweep())
    with pytest.raises(RateLimited):
        await asyncio.create_task(sweep())
    await send(limiter, clock, sent)
    await send(limiter, clock, sent)
    with pytest.raises(RateLimited):
        await take(limiter, clock.now + 30)


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(0, 10_000_000), min_size=30, max_size=60))
def test_bytes_never_exceed_the_month(sizes: list[int]) -> None:
    async def scenario() -> None:
        clock, spent = Clock(), 0
        limiter = clock.limiter("100000/min 100MB/month")
        for size in sizes:
            try:
                await limiter.slot(clock.now)
            except RateLimited:
                break
            limiter.settle(size)
            spent += size
        assert spent <= 100_000_000
        assert limiter.spend[1].spent == spent

    asyncio.run(scenario())


async def test_an_answer_that_broke_off_costs_what_the_largest_did() -> None:
    clock = Clock()
    limiter = clock.limiter("100/min 1GB/month")
    await take(limiter, size=3_000_000)
    await limiter.slot(FOREVER)
    limiter.settle(None)
    assert limiter.spend[1].spent == 6_000_000


async def test_symbols_beyond_the_month_are_not_claimed() -> None:
    clock, book = Clock(), Book()
    limiter = clock.limiter("100/min 3symbols/month", book)
    await limiter.open()
    assert await limiter.claim(["A", "B"]) == ("A", "B")
    assert await limiter.claim(["C", "B", "D"]) == ("C", "B")
    assert await limiter.claim(["D"]) == ()
    book.away = True
    again = clock.limiter("100/min 3symbols/month", book)
    await again.open()
    assert await again.claim(["A"]) == ()  # what was claimed before is not known
    book.away = False
    third = clock.limiter("100/min 3symbols/month", book)
    await third.open()
    assert await third.claim(["D", "A", "C"]) == ("A", "C")
    clock.now += 30 * 86_400
    assert await third.claim(["D"]) == ("D",)


# --- two lives


@settings(max_examples=40, deadline=None)
@given(
    lives=st.lists(
        st.tuples(st.integers(0, 40), st.floats(0, 4000), st.booleans()), min_size=2, max_size=8
    )
)
def test_no_window_is_exceeded_across_lives(lives: list[tuple[int, float, bool]]) -> None:
    async def scenario() -> None:
        clock, book, sent = Clock(), Book(), list[float]()
        for asks, idle, orderly in lives:
            limiter = clock.limiter("12/min 60/h 90/day", book)
            await limiter.open()
            for _ in range(asks):
                try:
                    await limiter.slot(clock.now)
                except RateLimited:
                    clock.now += 20
                else:
                    sent.append(clock.now)
                    limiter.settle(0)
            if orderly:
                await limiter.close()
            clock.now += idle
        assert busiest(sent, 61) <= 12
        assert busiest(sent, 3601) <= 60
        for day in {window_start("day", BEGIN + timedelta(seconds=t - 100)) for t in sent}:
            same = [
                t for t in sent if window_start("day", BEGIN + timedelta(seconds=t - 100)) == day
            ]
            assert len(same) <= 90

    asyncio.run(scenario())


async def test_the_first_request_of_a_fresh_day_is_not_delayed() -> None:
    clock, book = Clock(), Book()
    first = clock.limiter("5/min 50/h", book)
    await first.open()
    assert first.delay == 0
    await take(first, clock.now)
    clock.now += 8 * 3600
    killed = clock.limiter("5/min 50/h", book)
    await killed.open()
    await take(killed, clock.now)


async def test_who_was_killed_begins_empty_and_who_stopped_goes_on() -> None:
    clock, book = Clock(), Book()
    first = clock.limiter("50/h", book)
    await first.open()
    await take(first)
    after_kill = clock.limiter("50/h", book)
    await after_kill.open()
    assert after_kill.delay == pytest.approx(3601 / 47)
    await first.close()
    after_stop = clock.limiter("50/h", book)
    await after_stop.open()
    assert after_stop.delay == 0
    for _ in range(3):
        await take(after_stop)
    assert after_stop.delay > 0


async def test_a_pause_outlives_an_orderly_stop() -> None:
    clock, book = Clock(), Book()
    first = clock.limiter("120/min", book)
    await first.open()
    await take(first)
    first.pause(300)
    await first.close()
    clock.now += 100
    second = clock.limiter("120/min", book)
    await second.open()
    assert second.delay == pytest.approx(200)


async def test_what_was_written_down_ahead_is_lost_by_a_kill_and_no_more() -> None:
    clock, book = Clock(), Book()
    limiter = clock.limiter("10000/min 1000/day", book)
    for life in range(4):
        limiter = clock.limiter("10000/min 1000/day", book)
        await limiter.open()
        assert limiter.spend[1].spent == 20 * life
        clock.now += 60
        for _ in range(5):
            await take(limiter)
    await limiter.close()
    last = clock.limiter("10000/min 1000/day", book)
    await last.open()
    assert last.spend[1].spent == 65


async def test_writing_is_seldom() -> None:
    clock, book = Clock(), Book()
    limiter = clock.limiter("10000/min 1000/day", book)
    await limiter.open()
    for _ in range(100):
        await take(limiter)
    assert book.notes == 5


async def test_without_the_database_minutes_go_on_and_days_end_with_their_block() -> None:
    clock, book = Clock(), Book()
    minutes = clock.limiter("120/min", book)
    days = clock.limiter("120/min 100/day", book)
    await minutes.open()
    await days.open()
    await take(days)
    book.away = True
    await take(days, clock.now)  # the other of the block
    with pytest.raises(RateLimited, match="the database is away"):
        await take(days, clock.now)
    for _ in range(5):
        await take(minutes, clock.now)
    unborn = clock.limiter("120/min", book)
    await unborn.open()
    clock.now += 5
    await take(unborn, clock.now)
    book.away = False
    with pytest.raises(RateLimited):
        await take(days, clock.now)
    clock.now += 15
    await take(days, clock.now)


async def test_a_database_that_hangs_costs_a_second_and_then_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "COVER_WITHIN", 0.01)
    clock, book = Clock(), Book()
    limiter = clock.limiter("120/min", book)
    await limiter.open()

    async def hangs(vendor: str, entries: Mapping[str, Entry]) -> None:
        book.notes += 1
        await asyncio.Event().wait()

    monkeypatch.setattr(book, "note", hangs)
    for _ in range(5):
        await take(limiter, clock.now)
    assert book.notes == 1
    await limiter.close()
