"""The limiter on a clock that only its own sleeps move."""

import asyncio
import heapq
from collections.abc import Iterator
from itertools import count, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.providers.base import RateLimited
from actors.providers.limits import WINDOW, Limiter

FOREVER = 1e9


class Clock:
    """Time as the sleepers see it: when all wait, it jumps to the first who wakes."""

    def __init__(self) -> None:
        self.now = 100.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._ticket: Iterator[int] = count()

    def __call__(self) -> float:
        return self.now

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


def busiest(times: list[float]) -> int:
    """Return the most requests in any minute, its end not counted."""
    return max(
        (sum(1 for t in times if start <= t < start + WINDOW - 1e-6) for start in times), default=0
    )


async def send(limiter: Limiter, clock: Clock, sent: list[float], wait: float = 0.0) -> None:
    if wait:
        await clock.sleep(wait)
    await limiter.slot(FOREVER)
    sent.append(clock.now)


@settings(max_examples=40, deadline=None)
@given(
    per_minute=st.integers(1, 200),
    waits=st.lists(st.floats(0, 200), min_size=1, max_size=150),
)
def test_no_minute_holds_more_than_the_limit(per_minute: int, waits: list[float]) -> None:
    async def scenario() -> None:
        clock, sent = Clock(), list[float]()
        limiter = Limiter("x", f"{per_minute}/min", clock=clock, sleep=clock.sleep)
        work = [asyncio.create_task(send(limiter, clock, sent, wait)) for wait in waits]
        await clock.run(*work)
        assert len(sent) == len(waits) == limiter.total
        assert busiest(sent) <= per_minute

    asyncio.run(scenario())


async def test_a_burst_goes_at_once_and_the_rest_in_a_trickle() -> None:
    clock, sent = Clock(), list[float]()
    limiter = Limiter("x", "120/min", clock=clock, sleep=clock.sleep)
    await clock.run(*(asyncio.create_task(send(limiter, clock, sent)) for _ in range(120)))
    assert sent.count(100.0) == 10
    assert sent[-1] - 100.0 <= WINDOW
    gaps = {round(b - a, 6) for a, b in pairwise(sent[9:])}
    assert gaps == {round(60 / 111, 6)}


async def test_first_come_first_served() -> None:
    clock, order = Clock(), list[int]()
    limiter = Limiter("x", "60/min", clock=clock, sleep=clock.sleep)

    async def numbered(n: int) -> None:
        await limiter.slot(FOREVER)
        order.append(n)

    await clock.run(*(asyncio.create_task(numbered(n)) for n in range(50)))
    assert order == sorted(order)


async def test_who_cannot_have_a_turn_in_time_hears_it_at_once() -> None:
    clock = Clock()
    limiter = Limiter("x", "1/min", clock=clock, sleep=clock.sleep)
    await limiter.slot(FOREVER)
    with pytest.raises(RateLimited, match="1 requests a minute") as caught:
        await limiter.slot(clock.now + 30)
    assert caught.value.retry_after == pytest.approx(60)
    assert limiter.total == 1


async def test_a_turn_just_before_the_deadline_is_none() -> None:
    clock = Clock()
    limiter = Limiter("x", "60/min", clock=clock, sleep=clock.sleep)
    for _ in range(5):
        await limiter.slot(clock.now)  # a free turn needs no time
    with pytest.raises(RateLimited):
        await limiter.slot(clock.now + 1.5)


async def test_the_queue_before_you_counts() -> None:
    clock, sent = Clock(), list[float]()
    limiter = Limiter("x", "60/min", clock=clock, sleep=clock.sleep)
    crowd = [asyncio.create_task(send(limiter, clock, sent)) for _ in range(60)]
    await asyncio.sleep(0)
    with pytest.raises(RateLimited):
        await limiter.slot(clock.now + 30)
    await clock.run(*crowd)
    assert len(sent) == 60


async def test_a_pause_holds_everybody_and_ends_without_a_burst() -> None:
    clock, sent = Clock(), list[float]()
    limiter = Limiter("x", "120/min", clock=clock, sleep=clock.sleep)
    limiter.pause(60)
    assert limiter.delay == 60
    await clock.run(*(asyncio.create_task(send(limiter, clock, sent)) for _ in range(5)))
    assert sent[0] == pytest.approx(160)
    assert sent[1] > sent[0]
    assert limiter.delay < 1


async def test_a_pause_during_the_wait_is_heard_of() -> None:
    clock = Clock()
    limiter = Limiter("x", "1/min", clock=clock, sleep=clock.sleep)
    await limiter.slot(FOREVER)
    waiting = asyncio.create_task(limiter.slot(clock.now + 70))
    await asyncio.sleep(0)
    limiter.pause(300)
    await clock.run(waiting)
    with pytest.raises(RateLimited):
        await waiting


async def test_a_shorter_pause_does_not_shorten_a_longer_one() -> None:
    clock = Clock()
    limiter = Limiter("x", "120/min", clock=clock, sleep=clock.sleep)
    limiter.pause(60)
    limiter.pause(1)
    assert limiter.delay == 60


async def test_one_who_gives_up_takes_no_turn() -> None:
    clock, sent = Clock(), list[float]()
    limiter = Limiter("x", "1/min", clock=clock, sleep=clock.sleep)
    await limiter.slot(FOREVER)
    quitter = asyncio.create_task(limiter.slot(FOREVER))
    patient = asyncio.create_task(send(limiter, clock, sent))
    await asyncio.sleep(0)
    quitter.cancel()
    await clock.run(quitter, patient)
    assert sent == [pytest.approx(160)]


async def test_spent_counts_the_last_minute_only() -> None:
    clock = Clock()
    limiter = Limiter("x", "120/min", clock=clock, sleep=clock.sleep)
    for _ in range(3):
        await limiter.slot(FOREVER)
    assert limiter.spent == 3
    clock.now += WINDOW
    assert limiter.spent == 0
    assert limiter.total == 3
