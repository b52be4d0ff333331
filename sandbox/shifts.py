"""What people did to prices: from a moment on, a symbol's path lies higher or lower."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sandbox.paths import Floats, Ints

MOST = 64  # a symbol; older ones are forgotten


@dataclass(frozen=True, slots=True)
class Shift:
    """One move; the offset is of the logarithm, and counts from here on."""

    at: int  # ms
    day: int
    point: int
    offset: float


class Shifts:
    """The moves of every symbol, by its row."""

    def __init__(self) -> None:
        self._of: dict[int, list[Shift]] = {}
        self.version = 0  # another one after each move

    def __bool__(self) -> bool:
        return bool(self._of)

    def __iter__(self) -> Iterator[int]:
        return iter(self._of)

    def add(self, i: int, shift: Shift) -> None:
        """Move a symbol; what was to come later, because the clock was set back, is forgotten."""
        earlier = [s for s in self._of.get(i, []) if s.at < shift.at]
        self._of[i] = [*earlier, shift][-MOST:]
        self.version += 1

    def first_day(self, i: int) -> int:
        """Return the day of a symbol's first move."""
        return self._of[i][0].day

    def on(self, i: int, day: int) -> list[Shift]:
        """Return a symbol's moves on a day."""
        return [s for s in self._of.get(i, ()) if s.day == day]

    def now(self, i: int, at: int) -> float:
        """Return the offset in force at a time in ms."""
        mine = self._of.get(i, [])
        n = bisect_right(mine, at, key=lambda s: s.at)
        return mine[n - 1].offset if n else 0.0

    def offset(self, i: int, day: int, point: int) -> float:
        """Return the offset in force at the end of a point."""
        mine = self._of.get(i, [])
        n = bisect_right(mine, (day, point), key=lambda s: (s.day, s.point))
        return mine[n - 1].offset if n else 0.0

    def offsets(self, rows: Ints, day: int, point: int) -> Floats:
        """Return the offset of each row at the end of a point."""
        found = np.zeros(len(rows))
        for i in self._of:
            found[rows == i] = self.offset(i, day, point)
        return found

    def seen(self, i: int, day: int, first: int, logs: Floats) -> tuple[Floats, Floats, Floats]:
        """Return points from `first` on as seen last, highest and lowest within each.

        The point in which somebody moves the price shows both sides of the move.
        """
        before = self.offset(i, day, first - 1)
        last = logs + before
        today = self.on(i, day)
        if not today:
            return last, last, last
        points = np.arange(logs.size).reshape(logs.shape) + first
        offsets = np.full(logs.shape, before)
        top, bottom = offsets.copy(), offsets.copy()
        for s in today:
            here, after = points == s.point, points > s.point
            offsets[here | after] = s.offset
            top[here] = np.maximum(top[here], s.offset)
            bottom[here] = np.minimum(bottom[here], s.offset)
            top[after] = bottom[after] = s.offset
        return logs + offsets, logs + top, logs + bottom
