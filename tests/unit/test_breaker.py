"""The judgement of a breaker, event by event and under any sequence; and the gauge beside it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.providers.breaker import (
    FAILURES,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    PROBE_WITHIN,
    Breaker,
    Event,
    Phase,
    judge,
    pause,
    shut,
    untried,
)
from actors.providers.gauge import ANSWERS, Gauge


def after(*events: Event, breaker: Breaker | None = None, now: float = 0.0) -> Breaker:
    breaker = breaker or Breaker()
    for event in events:
        breaker = judge(breaker, event, now, 0.0)
    return breaker


def test_failures_in_a_row_open_it() -> None:
    assert after(*[Event.FAILED] * (FAILURES - 1)).phase is Phase.CLOSED
    opened = after(*[Event.FAILED] * FAILURES)
    assert (opened.phase, opened.until) == (Phase.OPEN, FIRST_PAUSE)
    assert not opened.allows(FIRST_PAUSE - 0.01)
    assert opened.allows(FIRST_PAUSE)


def test_two_that_kept_people_waiting_open_it() -> None:
    assert after(Event.HUNG).phase is Phase.CLOSED
    assert after(Event.HUNG, Event.HUNG).phase is Phase.OPEN
    assert after(Event.HUNG, Event.FAILED, Event.FAILED).phase is Phase.OPEN


def test_an_answer_between_begins_the_row_anew() -> None:
    most = [Event.FAILED] * (FAILURES - 1)
    assert after(*most, Event.ANSWERED, *most).phase is Phase.CLOSED


def test_half_of_the_last_ten_open_it_where_they_are_recent() -> None:
    by_turns = [Event.ANSWERED, Event.FAILED] * 5
    assert after(*by_turns).phase is Phase.OPEN
    slow = Breaker()
    for n, event in enumerate(by_turns * 3):
        slow = judge(slow, event, n * 20.0, 0.0)
    assert slow.phase is Phase.CLOSED
    assert after(*[Event.ANSWERED, Event.ANSWERED, Event.FAILED] * 10).phase is Phase.CLOSED


def test_one_probe_at_a_time_decides() -> None:
    opened = after(*[Event.FAILED] * FAILURES)
    probing = judge(opened, Event.ASKED, FIRST_PAUSE, 0.0)
    assert probing.phase is Phase.HALF_OPEN
    assert not probing.allows(FIRST_PAUSE + 1)
    assert probing.allows(FIRST_PAUSE + PROBE_WITHIN)  # one that never reported back
    closed = judge(probing, Event.ANSWERED, 6.0, 0.0)
    assert (closed.phase, closed.openings, closed.failures) == (Phase.CLOSED, 0, 0)
    again = judge(probing, Event.FAILED, 6.0, 0.0)
    assert (again.phase, again.until) == (Phase.OPEN, 6.0 + 2 * FIRST_PAUSE)
    told_nothing = untried(probing, 6.0)
    assert (told_nothing.phase, told_nothing.allows(6.0)) == (Phase.OPEN, True)
    assert untried(Breaker(), 6.0) == Breaker()


def test_what_was_asked_before_it_opened_does_not_close_it() -> None:
    opened = after(*[Event.FAILED] * FAILURES)
    assert judge(opened, Event.ANSWERED, 1.0, 0.0).phase is Phase.OPEN


def test_pauses_grow_to_an_end_and_differ() -> None:
    assert [pause(n, 0.0) for n in range(1, 9)] == [5, 10, 20, 40, 80, 160, 300, 300]
    assert pause(10**6, 0.0) == LONGEST_PAUSE
    assert pause(1, 1.0) == pytest.approx(FIRST_PAUSE * 0.75)


def test_what_is_shut_stays_so_for_its_time() -> None:
    closed = shut(Breaker(), 100.0, 3600.0)
    assert not closed.allows(3699.0)
    assert closed.allows(3700.0)


@given(
    st.lists(
        st.tuples(st.sampled_from(list(Event)), st.floats(0, 400), st.floats(0, 1)), max_size=80
    )
)
def test_whatever_happens_it_is_total_and_a_probe_is_always_near(
    events: list[tuple[Event, float, float]],
) -> None:
    breaker, now = Breaker(), 0.0
    for event, passed, luck in events:
        now += passed
        breaker = judge(breaker, event, now, luck)
        assert breaker.allows(now + LONGEST_PAUSE)
        assert len(breaker.recent) <= 10
        if event is Event.ANSWERED and breaker.phase is Phase.CLOSED:
            assert breaker.failures == 0


def test_the_gauge_keeps_an_hour_and_no_more() -> None:
    gauge = Gauge()
    assert gauge.latency(0.5) is gauge.error_rate(0.0, 5) is None
    for n in range(100):
        gauge.took(n / 100)
    assert (gauge.latency(0.5), gauge.latency(0.99)) == (0.5, 0.99)
    for second in range(0, 7200, 10):
        gauge.note(float(second), failed=second >= 6900)
    now = 7199.0
    assert gauge.error_rate(now, 5) == 1.0
    assert gauge.error_rate(now, 60) == pytest.approx(300 / 3600)
    assert len(gauge._minutes) <= 61
    for _ in range(2 * ANSWERS):
        gauge.took(1.0)
    assert gauge.latency(0.0) == 1.0
