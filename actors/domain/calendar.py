"""The NYSE calendar by rule: which days trade, and from when to when; valid from 2010 on.

Compared with exchange_calendars for every day from 2010 to 2027 (tests/contract).
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import islice
from zoneinfo import ZoneInfo

from actors.domain.models import Session

NEW_YORK = ZoneInfo("America/New_York")
FIRST_YEAR = 2010

OPENS, CLOSES, CLOSES_EARLY = time(9, 30), time(16), time(13)

# Decided days or hours before, so no rule finds them: Hurricane Sandy, two days of mourning.
AD_HOC_CLOSURES = frozenset(
    {date(2012, 10, 29), date(2012, 10, 30), date(2018, 12, 5), date(2025, 1, 9)}
)

MONDAY, THURSDAY, SATURDAY, SUNDAY = 0, 3, 5, 6
JUNETEENTH_SINCE = 2022


def session(day: date) -> Session | None:
    """Return the day's regular session, or None when the exchange is closed all day."""
    _check(day)
    if day.weekday() >= SATURDAY or day in AD_HOC_CLOSURES or day in holidays(day.year):
        return None
    closes = CLOSES_EARLY if day in _early_closes(day.year) else CLOSES
    return Session(day, _utc(day, OPENS), _utc(day, closes))


def is_open(at: datetime) -> bool:
    """Tell whether the regular session runs at that moment; the closing second is not part of it."""
    today = session(_new_york(at).date())
    return today is not None and today.opens <= at < today.closes


def last_open(at: datetime) -> datetime:
    """Return `at` itself while the market is open, else the moment of its last close."""
    today = session(_new_york(at).date())
    if today is not None and today.opens <= at:
        return min(at, today.closes)
    return previous_session(_new_york(at).date()).closes


def next_open(at: datetime) -> datetime:
    """Return the first opening later than `at`."""
    yesterday = _new_york(at).date() - timedelta(days=1)
    return next(found.opens for found in _from(yesterday, 1) if found.opens > at)


def next_sessions(day: date, count: int) -> tuple[Session, ...]:
    """Return the first `count` sessions after `day`."""
    return tuple(islice(_from(day, 1), count))


def previous_session(day: date) -> Session:
    """Return the last session before `day`."""
    return next(_from(day, -1))


@cache
def holidays(year: int) -> frozenset[date]:
    """Return the weekdays of a year on which the exchange keeps a holiday."""
    kept = {
        _nth(year, 1, MONDAY, 3),  # Martin Luther King
        _nth(year, 2, MONDAY, 3),  # Washington's birthday
        _easter(year) - timedelta(days=2),  # Good Friday
        _last_monday_of_may(year),  # Memorial Day
        _observed(date(year, 7, 4)),
        _nth(year, 9, MONDAY, 1),  # Labor Day
        _thanksgiving(year),
        _observed(date(year, 12, 25)),
    }
    new_year = date(year, 1, 1)
    if new_year.weekday() != SATURDAY:  # the Friday before closes the books of a year, so it trades
        kept.add(_observed(new_year))
    if year >= JUNETEENTH_SINCE:
        kept.add(_observed(date(year, 6, 19)))
    return frozenset(kept)


@cache
def _early_closes(year: int) -> frozenset[date]:
    # Kept only where they trade: session() has looked at weekends and holidays before.
    return frozenset(
        {_thanksgiving(year) + timedelta(days=1), date(year, 7, 3), date(year, 12, 24)}
    )


def _from(day: date, step: int) -> Iterator[Session]:
    while True:
        day += timedelta(days=step)
        if found := session(day):
            yield found


def _observed(day: date) -> date:
    shift = {SATURDAY: -1, SUNDAY: 1}.get(day.weekday(), 0)
    return day + timedelta(days=shift)


def _nth(year: int, month: int, weekday: int, n: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (n - 1))


def _last_monday_of_may(year: int) -> date:
    last = date(year, 5, 31)
    return last - timedelta(days=last.weekday())


def _thanksgiving(year: int) -> date:
    return _nth(year, 11, THURSDAY, 4)


def _easter(year: int) -> date:
    # The anonymous Gregorian computus.
    a, (b, c) = year % 19, divmod(year, 100)
    h = (19 * a + b - b // 4 - (b - (b + 8) // 25 + 1) // 3 + 15) % 30
    k = (32 + 2 * (b % 4) + 2 * (c // 4) - h - c % 4) % 7
    month, day = divmod(h + k - 7 * ((a + 11 * h + 22 * k) // 451) + 114, 31)
    return date(year, month, day + 1)


def _utc(day: date, at: time) -> datetime:
    return datetime.combine(day, at, NEW_YORK).astimezone(UTC)


def _new_york(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValueError(f"a moment needs a time zone, was {at!r}")
    return at.astimezone(NEW_YORK)


def _check(day: date) -> None:
    if day.year < FIRST_YEAR:
        raise ValueError(f"the rules hold from {FIRST_YEAR} on, was {day}")
