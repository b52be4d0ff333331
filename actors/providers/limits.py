"""A vendor's limits, kept before the vendor has to, across restarts: one limiter that all callers share.

What must not be spent twice is written down *before* it is spent: a stretch of time for the rolling
windows, a block of requests or bytes for the calendar ones.  What was written down by a process that was
killed counts as spent.
"""

import asyncio
import contextlib
import time
from bisect import bisect_left, insort
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Protocol

from actors.domain.models import LimitStatus
from actors.providers.base import Spent, StoreAway
from actors.providers.gauge import Gauge
from actors.providers.plan import SYMBOLS, Calendar, Rolling, read, window_start

ROOM = 1.0  # seconds; a turn that comes later before the deadline leaves no time for the answer
TICK = 1e-6  # seconds; a shorter wait is rounding
LEASE = 60.0  # seconds for which spending of the rolling windows is written down at a time
COVER_WITHIN = 1.0  # seconds a request waits for that
DARK = 15.0  # seconds between two tries to write while the database is away
MOST_WAITING = 1_000
PAUSE_AFTER_429 = 60.0  # seconds, where the vendor does not say; doubled while it says it again
LONGEST_PAUSE = 900.0
USUAL_ANSWER = 100_000  # bytes; what a request is taken to have cost when its answer broke off

SWEEP: ContextVar[bool] = ContextVar("sweep", default=False)
"""Whether what is done now is a sweep of the universe; people's questions go before it."""


def _utcnow() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Entry:
    """What is written down of one limit.

    Rolling: `level` tokens were there at `at` (in the future = may be spent until then).  Calendar: of
    the window that began at `at`, `spent` is granted; `symbols` are those asked for in it.
    """

    at: datetime
    level: float = 0.0
    spent: int = 0
    symbols: tuple[str, ...] = ()


class Ledger(Protocol):
    """Where spend is written down; either method raises `StoreAway` and nothing else."""

    async def spend(self, vendor: str) -> Mapping[str, Entry]:
        """Return what is written down of a vendor, by `Limit.key`."""

    async def note(self, vendor: str, entries: Mapping[str, Entry]) -> None:
        """Write down these, in place of those before."""


class Limiter:
    """Keeps one vendor's limits, people before sweeps, else first come, first served.

    `clock` is a monotonic one, in seconds.  Without a ledger nothing survives.
    """

    def __init__(
        self,
        vendor: str,
        limits: str,
        *,
        ledger: Ledger | None = None,
        now: Callable[[], datetime] = _utcnow,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.vendor, self.text = vendor, limits
        self.total = 0  # requests since the start
        self.gauge = Gauge()
        self._ledger, self._now, self._clock, self._sleep = ledger, now, clock, sleep
        parts = read(limits)
        self._rolling = [
            Rolling(part, clock()) for part in parts if part.window not in ("day", "month")
        ]
        self._calendar = [
            Calendar(part, now()) for part in parts if part.window in ("day", "month")
        ]
        self._paused_until = clock()
        self._refusals = 0  # in a row
        self._largest = USUAL_ANSWER
        self._tickets = count()
        self._queue: list[tuple[bool, int]] = []  # (is a sweep, ticket) of those who wait, sorted
        self._moved = asyncio.Event()  # set, and replaced, when the queue moves
        self._loaded = ledger is None
        self._lease_until = now()
        self._dark_until = clock()
        self._covering: asyncio.Task[None] | None = None

    # --- a life, and the one before

    async def open(self) -> None:
        """Take up what an earlier life wrote down; without the database, suppose the worst."""
        if self._ledger is None:
            return
        for bucket in self._rolling:
            bucket.begin(0.0, 0.0, self._clock())
        await self._covered_soon(write=False)

    async def close(self) -> None:
        """Write down exactly what was spent, so that the next life need not suppose the worst."""
        if self._covering is not None:
            self._covering.cancel()
            await asyncio.gather(self._covering, return_exceptions=True)
        if self._ledger is not None and self._loaded and self.total:
            with contextlib.suppress(StoreAway, TimeoutError):
                async with asyncio.timeout(COVER_WITHIN):
                    await self._ledger.note(self.vendor, self._exact())

    # --- asking

    async def slot(self, deadline: float) -> None:
        """Wait for one request's turn; `Spent` at once where it cannot come by the deadline.

        Each slot is followed by one `settle`.
        """
        sweep = SWEEP.get()
        if len(self._queue) >= MOST_WAITING:
            raise Spent(self.vendor, f"{MOST_WAITING} requests wait for their turn", ROOM)
        me = (sweep, next(self._tickets))
        insort(self._queue, me)
        try:
            while True:
                ahead = bisect_left(self._queue, me)
                wait = self._wait(ahead, sweep=sweep)
                # Again and again, because the vendor may ask for a pause, or a person pass by.
                if wait > TICK:
                    self._refuse_late(wait, deadline)
                if ahead:
                    await self._moved.wait()
                elif wait > TICK:
                    await self._sleep(wait)
                elif self._must_write():
                    await self._covered_soon()
                else:
                    break
        finally:
            self._queue.remove(me)
            self._moved.set()
            self._moved = asyncio.Event()
        now = self._clock()
        self.total += 1
        for bucket in self._rolling:
            bucket.spend(now)
        for window in self._calendar:
            window.held += window.cost

    def settle(self, size: int | None) -> None:
        """Count what a request has cost: the bytes of its answer, None where it broke off."""
        if size is not None:
            self._largest = max(self._largest, size)
        for window in self._calendar:
            window.held = max(0, window.held - window.cost)
            if window.limit.what == "bytes":
                window.spent += self._largest if size is None else size
            elif not window.limit.what:
                window.spent += 1

    async def claim(self, symbols: Sequence[str]) -> tuple[str, ...]:
        """Return those of the symbols that the plan lets us ask for; the new ones are written down."""
        caps = [window for window in self._calendar if window.limit.what == SYMBOLS]
        if not caps:
            return tuple(symbols)
        if not self._loaded:
            await self._covered_soon(write=False)
        if not self._loaded:
            return ()
        [cap] = caps
        cap.roll(self._now())
        dark = self._clock() < self._dark_until
        if not dark and (new := cap.new(symbols, sweep=SWEEP.get())):
            cap.symbols.update(new)
            try:
                async with asyncio.timeout(COVER_WITHIN):
                    await self._written()
            except (StoreAway, TimeoutError):
                cap.symbols.difference_update(new)
                self._dark_until = self._clock() + DARK
        return tuple(symbol for symbol in symbols if symbol in cap.symbols)

    # --- what the vendor says

    def pause(self, seconds: float | None) -> float:
        """Send nothing for so long, then go on without a burst: the vendor said it is too much.

        Return the seconds; where the vendor named none they are ours.
        """
        if (
            self._clock() >= self._paused_until
        ):  # else it is the same refusal, of requests side by side
            self._refusals += 1
        if seconds is None:
            seconds = PAUSE_AFTER_429 * 2.0 ** min(max(self._refusals, 1) - 1, 8)
        seconds = min(seconds, LONGEST_PAUSE)
        self._until(self._clock() + seconds)
        return seconds

    def heard(self, remaining: int | None, resets_in: float | None) -> None:
        """Take note of what the vendor says is left in its own window."""
        self._refusals = 0
        if remaining is None:
            return
        if remaining <= 0 and resets_in is not None and resets_in > 0:
            self._until(self._clock() + min(resets_in, LONGEST_PAUSE))
            return
        for bucket in self._rolling:
            if bucket.length >= 60:
                bucket.cap(max(remaining, 0), self._clock())

    def _until(self, at: float) -> None:
        self._paused_until = max(self._paused_until, at)
        for bucket in self._rolling:
            bucket.cap(1.0, self._paused_until)

    # --- what is known

    @property
    def delay(self) -> float:
        """Return the seconds that a person's request made now would wait for its turn."""
        return self._wait(sum(1 for sweep, _ in self._queue if not sweep), sweep=False)

    @property
    def spend(self) -> tuple[LimitStatus, ...]:
        """Return what is spent of each limit."""
        now = self._now()
        told = [
            LimitStatus(b.limit.text, b.spent(self._clock()), b.limit.amount) for b in self._rolling
        ]
        for window in self._calendar:
            window.roll(now)
            symbols = window.limit.what == SYMBOLS
            spent = len(window.symbols) if symbols else window.spent
            told.append(LimitStatus(window.limit.text, spent, window.limit.amount, window.ends()))
        return tuple(told)

    def _wait(self, ahead: int, *, sweep: bool) -> float:
        """Return the seconds until the turn of one who has `ahead` others before them."""
        now = self._clock()
        waits = [max(0.0, self._paused_until - now)]
        waits += [bucket.wait(ahead, now, sweep=sweep) for bucket in self._rolling]
        today = self._now()
        for window in self._calendar:
            window.roll(today)
            if not window.open_to(sweep=sweep):
                waits.append((window.ends() - today).total_seconds())
        return max(waits)

    def _refuse_late(self, wait: float, deadline: float) -> None:
        if self._clock() + wait + ROOM > deadline:
            paused = self._paused_until > self._clock()
            what = "the vendor asked for a pause" if paused else "its limit is spent"
            raise Spent(self.vendor, f"{what} ({self.text}): {wait:.1f} s to wait", wait)

    # --- writing down

    def _must_write(self) -> bool:
        """Tell whether something has to be written down before the next request."""
        if self._ledger is None:
            return False
        if self._clock() < self._dark_until:
            self._refuse_uncovered()
            return False
        return (
            not self._loaded
            or self._now() >= self._lease_until
            or not all(window.covered for window in self._calendar)
        )

    def _refuse_uncovered(self) -> None:
        # A day's spend that nobody remembers would be spent again; seconds and minutes begin empty.
        if self._calendar and not (
            self._loaded and all(window.covered for window in self._calendar)
        ):
            why = f"its spend ({self.text}) cannot be written down: the database is away"
            raise Spent(self.vendor, why, DARK)

    async def _covered_soon(self, *, write: bool = True) -> None:
        """Have the next stretch written down, once for all who ask; go on after a second without it."""
        if self._covering is None or self._covering.done():
            self._covering = asyncio.ensure_future(self._cover(write=write))
        await asyncio.wait({self._covering}, timeout=COVER_WITHIN)
        if not self._covering.done():
            self._dark_until = self._clock() + DARK

    async def _cover(self, *, write: bool) -> None:
        assert self._ledger is not None
        try:
            if not self._loaded:
                self._take_up(await self._ledger.spend(self.vendor))
            if write:
                await self._written()
        except StoreAway:
            self._dark_until = self._clock() + DARK

    async def _written(self) -> None:
        if self._ledger is None:
            return
        until = self._now() + timedelta(seconds=LEASE)
        for window in self._calendar:
            window.roll(self._now())
        grants = [(window, window.began, window.wanted()) for window in self._calendar]
        entries = {bucket.limit.key: Entry(until) for bucket in self._rolling}
        for window, began, granted in grants:
            entries[window.limit.key] = Entry(
                began, spent=granted, symbols=tuple(sorted(window.symbols))
            )
        await self._ledger.note(self.vendor, entries)
        self._lease_until, self._dark_until = until, self._clock()
        for window, began, granted in grants:
            if window.began == began:
                window.granted = max(window.granted, granted)

    def _take_up(self, entries: Mapping[str, Entry]) -> None:
        now = self._now()
        for bucket in self._rolling if not self.total else ():
            # Nothing known = never asked.  A time in the future: killed, so suppose it spent till now,
            # or stopped during a pause that the vendor asked for.
            known = entries.get(bucket.limit.key)
            level, at = (known.level, known.at) if known else (float("inf"), now)
            bucket.begin(level, (now - at).total_seconds(), self._clock())
            if level > 0 and at > now:
                self._until(self._clock() + (at - now).total_seconds())
        for window in self._calendar:
            window.roll(now)
            known = entries.get(window.limit.key)
            if known and window_start(window.limit.window, known.at) >= window.began:
                window.spent += known.spent
                window.symbols |= set(known.symbols)
            window.granted = window.spent
        self._loaded = True

    def _exact(self) -> dict[str, Entry]:
        now, clock = self._now(), self._clock()
        paused = max(0.0, self._paused_until - clock)
        entries = {
            bucket.limit.key: Entry(now + timedelta(seconds=paused), level=bucket.level(clock))
            for bucket in self._rolling
        }
        for window in self._calendar:
            window.roll(now)
            entries[window.limit.key] = Entry(
                window.began,
                spent=window.spent + window.held,
                symbols=tuple(sorted(window.symbols)),
            )
        return entries
