"""A vendor's rate limit, kept before the vendor has to: one token bucket that all callers share."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

from actors.providers.base import RateLimited

WINDOW = 60.0  # seconds
ROOM = 1.0  # seconds; a turn that comes later before the deadline leaves no time for the answer
TICK = 1e-6  # seconds; a shorter wait is rounding
BURST = 1 / 12  # of a window's requests may go at once; the rest comes in a steady trickle


class Limiter:
    """At most `per_minute` requests in any minute, first come, first served.

    Times are seconds of `clock`, a monotonic one.
    """

    def __init__(
        self,
        vendor: str,
        limits: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        per_minute = int(limits.removesuffix("/min"))
        self.vendor, self.per_minute = vendor, per_minute
        self.total = 0  # requests since the start
        self._clock, self._sleep = clock, sleep
        self._burst = max(1, int(per_minute * BURST))
        # A minute that begins with a full bucket sees burst + 60 * rate - 1: exactly per_minute.
        self._rate = (per_minute - self._burst + 1) / WINDOW
        self._tokens, self._filled_at = float(self._burst), clock()
        self._paused_until = clock()
        self._recent: deque[float] = deque()
        self._turn = asyncio.Lock()
        self._queue = 0

    async def slot(self, deadline: float) -> None:
        """Wait for one request's turn; `RateLimited` at once where it cannot come by the deadline."""
        self._refuse_late(self._queue, deadline)
        self._queue += 1
        try:
            async with self._turn:
                while (wait := self._wait(0)) > TICK:
                    # Again, because the vendor may have asked for a pause meanwhile.
                    self._refuse_late(0, deadline)
                    await self._sleep(wait)
                self._tokens -= 1
                self.total += 1
                self._recent.append(self._clock())
                self._forget()
        finally:
            self._queue -= 1

    def pause(self, seconds: float) -> None:
        """Send nothing for so long, then go on without a burst: the vendor said it is too much."""
        now = self._clock()
        self._paused_until = max(self._paused_until, now + seconds)
        self._tokens, self._filled_at = 1.0, self._paused_until

    @property
    def delay(self) -> float:
        """Return the seconds that a request made now would wait for its turn."""
        return self._wait(self._queue)

    @property
    def spent(self) -> int:
        """Return the requests of the last minute."""
        self._forget()
        return len(self._recent)

    def _wait(self, ahead: int) -> float:
        """Return the seconds until the turn of one who has `ahead` others before them."""
        now = self._clock()
        if now > self._filled_at:
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
            self._filled_at = now
        paused = max(0.0, self._paused_until - now)
        return paused + max(0.0, (ahead + 1 - self._tokens) / self._rate)

    def _forget(self) -> None:
        horizon = self._clock() - WINDOW
        while self._recent and self._recent[0] <= horizon:
            self._recent.popleft()

    def _refuse_late(self, ahead: int, deadline: float) -> None:
        wait = self._wait(ahead)
        if wait > TICK and self._clock() + wait + ROOM > deadline:
            paused = self._paused_until > self._clock()
            what = "the vendor asked for a pause" if paused else "its limit is spent"
            why = f"{what} ({self.per_minute} requests a minute): {wait:.1f} s to wait"
            raise RateLimited(self.vendor, why, wait)
