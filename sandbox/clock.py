"""The sandbox's clock: the wall clock, until somebody sets it or makes it run faster."""

import time
from collections.abc import Callable
from datetime import UTC, datetime


class Clock:
    """Time that can be set and sped up; milliseconds since the epoch inside, aware UTC outside."""

    def __init__(
        self,
        at: datetime | None = None,
        speed: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._monotonic, self._wall = monotonic, wall
        self.speed = speed
        self._anchored = at is not None or speed != 1.0
        self._base = at.timestamp() if at else wall()
        self._since = monotonic()

    @property
    def real(self) -> bool:
        """Say whether this is the wall clock."""
        return not self._anchored

    def ms(self) -> int:
        """Return the time in milliseconds since the epoch."""
        if not self._anchored:  # follows the wall clock even where that is corrected
            return int(self._wall() * 1000)
        return int((self._base + (self._monotonic() - self._since) * self.speed) * 1000)

    def now(self) -> datetime:
        """Return the time as an aware UTC datetime."""
        return datetime.fromtimestamp(self.ms() / 1000, UTC)

    def set(self, at: datetime | None = None, speed: float | None = None) -> None:
        """Go on from `at` (or from now) at `speed` (or as fast as before)."""
        base = at.timestamp() if at else self.ms() / 1000
        self._base, self._since, self._anchored = base, self._monotonic(), True
        if speed is not None:
            self.speed = speed

    def reset(self) -> None:
        """Be the wall clock again."""
        self.speed, self._anchored = 1.0, False
