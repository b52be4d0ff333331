"""The sandbox's time: New York dates cut into minutes and points, and when the market trades in them.

A date is its proleptic ordinal less one, so that 0 is a Monday.  Minutes are of wall time: an hour the
clocks skip does not exist, and in one that comes twice nothing trades the second time.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from actors.domain import calendar
from sandbox.paths import CLOSE, MINUTES, OPEN, STEPS, Ints

NEW_YORK = ZoneInfo("America/New_York")
STEP_MS = 60_000 // STEPS
WHOLE, REGULAR = (0, MINUTES), (OPEN, CLOSE)
SUNDAY = 6

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC).toordinal() - 1

Segments = tuple[tuple[int, int], ...]


class Hours(StrEnum):
    """When the market trades."""

    ALWAYS = "always"
    NYSE = "nyse"


@dataclass(frozen=True, slots=True)
class Moment:
    """A point of the market's time; `frozen` where the market is closed and shows its last one."""

    day: int  # proleptic ordinal less one, so that 0 is a Monday
    point: int
    frozen: bool

    @property
    def minute(self) -> int:
        """Return the minute of the New York day."""
        return self.point // STEPS


class Timetable:
    """When the market trades, and where in its days a moment is."""

    def __init__(self, hours: Hours = Hours.ALWAYS) -> None:
        self.hours = hours

    def moment(self, at: int) -> Moment:
        """Return the point the market shows at a time in ms."""
        day, point = self.locate(at)
        window = self.window(day)
        if window and point >= window[0] * STEPS:
            last = window[1] * STEPS - 1
            return Moment(day, min(point, last), frozen=point > last)
        day = self.session_before(day)
        window = self.window(day) or REGULAR
        return Moment(day, window[1] * STEPS - 1, frozen=True)

    def locate(self, at: int) -> tuple[int, int]:
        """Return the New York day and point of a time in ms."""
        local = datetime.fromtimestamp(at // 1000, NEW_YORK)
        day = local.toordinal() - 1
        if local.fold:  # the hour that comes twice: the second time nothing trades
            return day, local.hour * 60 * STEPS + 60 * STEPS - 1
        return day, (local.hour * 3600 + local.minute * 60 + local.second) * STEPS // 60

    def window(self, day: int) -> tuple[int, int] | None:
        """Return the minutes in which the market trades that day."""
        return WHOLE if self.hours is Hours.ALWAYS else session_minutes(day)

    def regular(self, day: int) -> tuple[int, int]:
        """Return the minutes of that day's regular hours."""
        return (session_minutes(day) if self.hours is Hours.NYSE else None) or REGULAR

    def session_before(self, day: int) -> int:
        """Return the last day before this one on which the market trades."""
        day -= 1
        while not self.window(day):
            day -= 1
        return day

    def is_open(self, at: int) -> bool:
        """Say whether the market trades at a time in ms."""
        return not self.moment(at).frozen

    def segments(self, day: int) -> Segments:
        """Return the stretches of minutes that exist and trade on a trading day."""
        window = self.window(day) or WHOLE
        return ((0, 120), (180, MINUTES)) if window == WHOLE and has_gap(day) else (window,)


def midnight(day: int) -> int:
    """Return the ms at which a New York date begins."""
    local = datetime.combine(date.fromordinal(day + 1), datetime.min.time(), NEW_YORK)
    return int(local.timestamp()) * 1000


def stamp(day: int, point: int) -> int:
    """Return the ms at which a point begins."""
    minute, step = divmod(point, STEPS)
    return int(minute_stamps(day, minute, minute + 1)[0][0]) + step * STEP_MS


def minute_stamps(day: int, first: int, last: int) -> tuple[Ints, NDArray[np.bool_]]:
    """Return the ms of each minute of wall time that exists, and which of them exist."""
    night, noon = _offsets_of(day) if day % 7 == SUNDAY else (_noon_offset(day),) * 2
    minutes = np.arange(first, last)
    naive = (day - _EPOCH) * 86_400_000 + minutes * 60_000
    at = naive - np.where(minutes < 120, night, noon)
    real = np.ones(len(minutes), dtype=np.bool_)
    if noon > night:
        real = (minutes < 120) | (minutes >= 180)
        if not real.any():
            return at, real
    return at[real], real


@lru_cache(maxsize=8192)
def session_minutes(day: int) -> tuple[int, int] | None:
    """Return the New York minutes of a day's regular session."""
    when = date.fromordinal(day + 1)
    if when.year < calendar.FIRST_YEAR:  # before its rules hold every weekday trades
        return REGULAR if when.weekday() < 5 else None
    found = calendar.session(when)
    if not found:
        return None
    opens, closes = (t.astimezone(NEW_YORK) for t in (found.opens, found.closes))
    return opens.hour * 60 + opens.minute, closes.hour * 60 + closes.minute


def has_gap(day: int) -> bool:
    """Say whether the clocks skip an hour that day."""
    if day % 7 != SUNDAY:
        return False
    night, noon = _offsets_of(day)
    return noon > night


@lru_cache(maxsize=64)
def _offsets_of(day: int) -> tuple[int, int]:
    """Return New York's distance from UTC at midnight and at noon, in ms."""
    local = datetime.combine(date.fromordinal(day + 1), datetime.min.time(), NEW_YORK)
    both = (local.utcoffset(), local.replace(hour=12).utcoffset())
    night, noon = (int((o or timedelta()).total_seconds()) * 1000 for o in both)
    return night, noon


@lru_cache(maxsize=512)
def _noon_offset(day: int) -> int:
    return _offsets_of.__wrapped__(day)[1]
