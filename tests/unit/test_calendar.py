"""The NYSE rules against days known by hand; `tests/contract/test_calendar_judge.py` has the rest."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.domain import calendar

CLOSED = {
    "new year": "2026-01-01",
    "new year, Sunday kept on Monday": "2023-01-02",
    "Martin Luther King": "2026-01-19",
    "Washington": "2026-02-16",
    "Good Friday": "2026-04-03",
    "Good Friday, early": "2024-03-29",
    "Memorial Day": "2026-05-25",
    "Juneteenth": "2026-06-19",
    "Juneteenth, Sunday kept on Monday": "2022-06-20",
    "Independence Day, Saturday kept on Friday": "2026-07-03",
    "Labor Day": "2026-09-07",
    "Thanksgiving": "2026-11-26",
    "Christmas": "2026-12-25",
    "Christmas, Saturday kept on Friday": "2021-12-24",
    "Hurricane Sandy": "2012-10-30",
    "mourning": "2025-01-09",
    "Saturday": "2026-11-28",
}
TRADED = {
    "31 December before a new year on Saturday": "2021-12-31",
    "Juneteenth before it was one": "2021-06-18",
    "Columbus Day": "2026-10-12",
    "Veterans Day": "2026-11-11",
}
EARLY = {
    "after Thanksgiving": "2026-11-27",
    "Christmas Eve": "2026-12-24",
    "3 July": "2025-07-03",
}


@pytest.mark.parametrize("day", CLOSED.values(), ids=CLOSED.keys())
def test_closed(day: str) -> None:
    assert calendar.session(date.fromisoformat(day)) is None


@pytest.mark.parametrize("day", TRADED.values(), ids=TRADED.keys())
def test_traded_in_full(day: str) -> None:
    found = calendar.session(date.fromisoformat(day))
    assert found is not None
    assert found.closes - found.opens == timedelta(hours=6.5)


@pytest.mark.parametrize("day", EARLY.values(), ids=EARLY.keys())
def test_closes_at_one(day: str) -> None:
    found = calendar.session(date.fromisoformat(day))
    assert found is not None
    assert found.closes - found.opens == timedelta(hours=3.5)


def test_hours_follow_new_york_through_the_change_of_clocks() -> None:
    winter, summer = calendar.session(date(2026, 3, 6)), calendar.session(date(2026, 3, 9))
    assert winter is not None
    assert summer is not None
    assert winter.opens == datetime(2026, 3, 6, 14, 30, tzinfo=UTC)
    assert summer.opens == datetime(2026, 3, 9, 13, 30, tzinfo=UTC)
    assert summer.closes == datetime(2026, 3, 9, 20, tzinfo=UTC)


def test_open_from_the_first_moment_to_before_the_last() -> None:
    opens, closes = (
        datetime(2026, 11, 27, 14, 30, tzinfo=UTC),
        datetime(2026, 11, 27, 18, tzinfo=UTC),
    )
    second = timedelta(seconds=1)
    asked = [opens - second, opens, closes - second, closes]
    assert [calendar.is_open(at) for at in asked] == [False, True, True, False]


def test_a_moment_in_any_zone_is_the_same_moment() -> None:
    tokyo = timezone(timedelta(hours=9))
    assert calendar.is_open(
        datetime(2026, 11, 28, 2, 59, tzinfo=tokyo)
    )  # Friday, 12:59 in New York


def test_the_next_open_is_later_than_now() -> None:
    opens = datetime(2026, 11, 25, 14, 30, tzinfo=UTC)
    assert calendar.next_open(opens - timedelta(seconds=1)) == opens
    after_the_holiday = datetime(2026, 11, 27, 14, 30, tzinfo=UTC)
    assert calendar.next_open(opens) == after_the_holiday


def test_the_next_open_late_in_the_evening_is_the_next_day_of_new_york() -> None:
    # 20:30 on Monday in New York is Tuesday in UTC already.
    assert calendar.next_open(datetime(2026, 11, 24, 1, 30, tzinfo=UTC)) == datetime(
        2026, 11, 24, 14, 30, tzinfo=UTC
    )


def test_neighbours() -> None:
    days = [found.day for found in calendar.next_sessions(date(2026, 11, 25), 3)]
    assert days == [date(2026, 11, 27), date(2026, 11, 30), date(2026, 12, 1)]
    assert calendar.previous_session(date(2026, 11, 27)).day == date(2026, 11, 25)


def test_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="2010 on, was 2009-12-31"):
        calendar.session(date(2009, 12, 31))
    with pytest.raises(ValueError, match="time zone"):
        calendar.is_open(datetime(2026, 11, 25, 15, 0))


@given(st.datetimes(datetime(2010, 1, 5), datetime(2040, 1, 1), timezones=st.just(UTC)))
def test_next_open_opens_and_nothing_opened_before(at: datetime) -> None:
    opens = calendar.next_open(at)
    assert opens > at
    assert calendar.is_open(opens)
    assert opens - at <= timedelta(days=5)
    previous = calendar.previous_session(opens.date())
    assert previous.opens <= at


@pytest.mark.parametrize(
    ("at", "was"),
    [
        ("2026-11-24T15:00:00-05:00", "2026-11-24T15:00:00-05:00"),
        ("2026-11-24T09:29:59-05:00", "2026-11-23T16:00:00-05:00"),
        ("2026-11-24T20:00:00-05:00", "2026-11-24T16:00:00-05:00"),
        ("2026-11-26T12:00:00-05:00", "2026-11-25T16:00:00-05:00"),
        ("2026-11-29T12:00:00-05:00", "2026-11-27T13:00:00-05:00"),
    ],
)
def test_the_last_open_moment_is_now_or_the_last_close(at, was):
    assert calendar.last_open(datetime.fromisoformat(at)) == datetime.fromisoformat(was)
