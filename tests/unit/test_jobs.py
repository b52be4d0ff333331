"""The table of jobs: slots are found once, in order, in New York time whatever the clocks do."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.settings import Refused
from scheduling.jobs import EPOCH, JOBS, LOOK_BACK, NEW_YORK, Job, due, next_slot, with_settings

TABLE = {job.id: job for job in JOBS}
EVERY_2_MIN = Job(id="p", child="c", method="m", every=timedelta(seconds=120))


def at(text, zone=UTC):
    return datetime.fromisoformat(text).replace(tzinfo=zone)


def test_ids_are_unique_and_each_job_has_one_kind_of_time():
    assert len(TABLE) == len(JOBS)
    assert all((job.every is None) != (job.cron is None) for job in JOBS)


def test_interval_slots_lie_on_the_grid():
    found = due(EVERY_2_MIN, at("2026-11-24T12:00:30"), at("2026-11-24T12:06:10"), always_open=True)
    assert found == [
        at("2026-11-24T12:02:00"),
        at("2026-11-24T12:04:00"),
        at("2026-11-24T12:06:00"),
    ]


def test_a_settled_slot_is_not_due_again():
    settled = at("2026-11-24T12:06:00")
    assert due(EVERY_2_MIN, settled, at("2026-11-24T12:07:59"), always_open=True) == []


def test_market_hours_gate_the_prices_and_the_sandbox_opens_them():
    night = at("2026-11-24T03:00:00")
    assert due(TABLE["prices"], night - timedelta(minutes=10), night, always_open=False) == []
    assert len(due(TABLE["prices"], night - timedelta(minutes=10), night, always_open=True)) == 5
    thanksgiving = at("2026-11-26T15:00:00")
    assert (
        due(TABLE["prices"], thanksgiving - timedelta(minutes=10), thanksgiving, always_open=False)
        == []
    )


def test_the_next_price_slot_of_a_night_is_the_opening():
    upcoming = next_slot(TABLE["prices"], at("2026-11-25T22:00:00"), always_open=False)
    assert upcoming == at("2026-11-27T09:30:00", NEW_YORK)


def test_the_list_of_the_sp500_is_looked_at_on_monday_mornings():
    monday = at("2026-11-23T06:00:00", NEW_YORK)
    assert next_slot(TABLE["sp500"], at("2026-11-20T12:00:00"), always_open=False) == monday
    week = due(
        TABLE["sp500"], monday - timedelta(days=1), monday + timedelta(days=6), always_open=True
    )
    assert week == [monday]


def test_end_of_day_runs_on_trading_days_only():
    friday_after = at("2026-11-28T12:00:00")
    found = due(TABLE["eod"], friday_after - timedelta(days=4), friday_after, always_open=False)
    assert [slot.astimezone(NEW_YORK).strftime("%a %H:%M") for slot in found] == [
        "Tue 17:30",
        "Wed 17:30",
        "Fri 17:30",
    ]


@pytest.mark.parametrize("day", ["2026-03-08", "2026-11-01", "2027-03-14"])
def test_a_nightly_job_runs_once_on_the_days_the_clocks_change(day):
    night = Job(id="n", child="c", method="m", cron="30 2 * * *")
    noon = at(f"{day}T12:00:00", NEW_YORK)
    found = due(night, noon - timedelta(hours=24), noon, always_open=True)
    assert len(found) == 1


def test_the_hour_that_happens_twice_runs_a_fixed_time_once():
    twice = Job(id="n", child="c", method="m", cron="30 1 * * *")
    noon = at("2026-11-01T12:00:00", NEW_YORK)
    assert len(due(twice, noon - timedelta(hours=24), noon, always_open=True)) == 1


def test_very_many_missed_slots_are_bounded():
    every_second = Job(id="s", child="c", method="m", every=timedelta(seconds=1))
    now = at("2026-11-24T12:00:00")
    found = due(every_second, now - LOOK_BACK, now, always_open=True)
    assert (len(found), found[-1]) == (6_000, now)


def test_eight_days_of_prices_are_all_found():
    now = at("2026-11-24T12:00:00")
    found = due(TABLE["prices"], now - LOOK_BACK, now, always_open=True)
    assert len(found) == 8 * 720


times = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)).map(
    lambda t: t.replace(tzinfo=UTC)
)


@given(times, st.integers(1, 7200), st.lists(st.integers(0, 300), min_size=1, max_size=30))
def test_ticks_at_any_moments_find_each_slot_exactly_once(start, every, ticks):
    job = Job(id="x", child="c", method="m", every=timedelta(seconds=every))
    settled, now, found = start, start, []
    for wait in ticks:
        now += timedelta(seconds=wait)
        slots = due(job, settled, now, always_open=True)
        found += slots
        settled = max([settled, *slots])
    assert len(found) == len(set(found))
    assert found == sorted(found)
    first = start - (start - EPOCH) % job.every + job.every
    expected = (
        [first + n * job.every for n in range(int((now - first) / job.every) + 1)]
        if now >= first
        else []
    )
    assert found == expected


@given(times, st.sampled_from(JOBS))
def test_the_next_slot_is_after_now_and_is_then_due(now, job):
    upcoming = next_slot(job, now, always_open=False)
    assert upcoming is not None
    assert upcoming > now
    assert due(job, now, upcoming, always_open=False) == [upcoming]


def test_settings_change_and_remove_jobs():
    jobs = {
        j.id: j
        for j in with_settings(JOBS, {"prices": "5", "eod": "off", "retention": "0 4 * * *"})
    }
    assert jobs["prices"].every == timedelta(seconds=5)
    assert "eod" not in jobs
    assert jobs["retention"].cron == "0 4 * * *"


def test_a_fifth_of_a_second_is_the_shortest_interval():
    [prices] = [j for j in with_settings(JOBS, {"prices": "0.2"}) if j.id == "prices"]
    now = at("2026-11-24T12:00:00.700000")
    found = due(prices, at("2026-11-24T12:00:00"), now, always_open=True)
    assert [slot.isoformat(timespec="milliseconds")[17:23] for slot in found] == [
        "00.200",
        "00.400",
        "00.600",
    ]


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"pricse": "5"}, "VOLARIS_JOB__PRICSE: there is no such job; there are prices"),
        ({"prices": "0"}, "VOLARIS_JOB__PRICES: write seconds"),
        ({"prices": "0.19"}, "VOLARIS_JOB__PRICES: write seconds \\(0.2 or more\\)"),
        ({"prices": "soon"}, "VOLARIS_JOB__PRICES: write seconds"),
        ({"prices": "61 * * * *"}, "VOLARIS_JOB__PRICES: write seconds"),
    ],
)
def test_a_wrong_job_setting_is_a_sentence(given_, said):
    with pytest.raises(Refused, match=said):
        with_settings(JOBS, given_)
