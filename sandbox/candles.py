"""Bars in columns, and how to cut, join and lengthen them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sandbox.paths import Floats, Ints

_COLUMNS = ("at", "open", "high", "low", "close", "volume")


@dataclass(frozen=True, slots=True)
class Candles:
    """Bars in columns; `at` is the start of the minute, or of the New York date, in ms."""

    at: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Ints

    def __len__(self) -> int:
        return len(self.at)

    def taken(self, which: slice | NDArray[np.bool_]) -> "Candles":
        """Return some of them."""
        return Candles(*(getattr(self, name)[which] for name in _COLUMNS))

    def stamped(self, at: Ints) -> "Candles":
        """Return them with other times."""
        return Candles(at, self.open, self.high, self.low, self.close, self.volume)

    def grouped(self, groups: Ints) -> "Candles":
        """Return longer ones: neighbours of one group become one, stamped as the first of them."""
        if not len(self):
            return self
        starts = np.flatnonzero(np.diff(groups, prepend=groups[0] - 1))
        ends = np.append(starts[1:], len(groups)) - 1
        return Candles(
            self.at[starts],
            self.open[starts],
            np.maximum.reduceat(self.high, starts),
            np.minimum.reduceat(self.low, starts),
            self.close[ends],
            np.add.reduceat(self.volume, starts),
        )


def nothing() -> Candles:
    """Return no bars."""
    none = np.empty(0)
    return Candles(np.empty(0, np.int64), none, none, none, none, np.empty(0, np.int64))


def joined(parts: Sequence[Candles]) -> Candles:
    """Return bars one after the other."""
    if not parts:
        return nothing()
    columns = ([getattr(part, name) for part in parts] for name in _COLUMNS)
    return Candles(*(np.concatenate(column) for column in columns))
