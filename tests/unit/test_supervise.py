"""The judgement: examples a reader can follow, and laws that hold for any life of a child."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.spec import MIB, Child, Intensity, mib
from actors.supervise import (
    LONGEST_BACKOFF,
    SLOW_RETRY,
    STABLE_AFTER,
    YOUNG,
    Action,
    Cause,
    Phase,
    Seen,
    Verb,
    backoff,
    step,
)
from actors.supervise import Child as Judged

SPEC = Child(
    id="x", start="m:C", memory=mib(100, 150), intensity=Intensity(3, 60), looks=3, drain=10
)
UP = Judged(phase=Phase.UP, born=0.0)
FINE = Seen(alive=True, ready=True, memory=50 * MIB)
FAT = replace(FINE, memory=120 * MIB)
HUGE = replace(FINE, memory=151 * MIB)
DEAD = Seen()


def verbs(actions):
    return [action.verb for action in actions]


def test_a_child_that_is_down_starts_when_its_turn_comes():
    waiting, nothing = step(SPEC, Judged(), replace(DEAD, turn=False), 0.0)
    assert nothing == ()
    starting, orders = step(SPEC, waiting, DEAD, 1.0)
    assert starting.phase is Phase.STARTING
    assert orders == (Action(Verb.START, Cause.BOOT),)


def test_it_is_up_once_it_answers():
    starting, _ = step(SPEC, Judged(), DEAD, 0.0)
    still, _ = step(SPEC, starting, replace(FINE, ready=False), 0.5)
    assert still.phase is Phase.STARTING
    up, orders = step(SPEC, still, FINE, 1.0)
    assert (up.phase, orders) == (Phase.UP, ())


def test_a_crash_restarts_at_once_the_first_time_and_counts():
    down, orders = step(SPEC, UP, DEAD, 100.0)
    assert (down.phase, down.cause, down.deadline, orders) == (Phase.DOWN, Cause.CRASH, 100.0, ())
    starting, orders = step(SPEC, down, DEAD, 100.0)
    assert verbs(orders) == [Verb.START]
    assert starting.failures == (100.0,)


def test_last_words_name_the_cause():
    down, _ = step(SPEC, UP, replace(DEAD, last_words=Cause.MEMORY_HARD), 100.0)
    assert down.cause is Cause.MEMORY_HARD


def test_over_hard_is_killed_at_the_first_look():
    down, orders = step(SPEC, UP, HUGE, 100.0)
    assert orders == (Action(Verb.KILL, Cause.MEMORY_HARD),)
    assert down.phase is Phase.DOWN
    assert len(down.failures) == 1


def test_exactly_hard_is_within_the_budget():
    _, orders = step(SPEC, UP, replace(FINE, memory=150 * MIB), 100.0)
    assert orders == ()


def test_a_spike_over_soft_is_not_a_leak():
    child = UP
    for look, seen in enumerate([FAT, FAT, FINE, FAT, FAT, FINE]):
        child, orders = step(SPEC, child, seen, 100.0 + look)
        assert orders == ()
    assert child.phase is Phase.UP


def test_soft_held_for_n_looks_drains_and_its_relief_is_free():
    child = UP
    for look in range(SPEC.looks):
        child, orders = step(SPEC, child, FAT, 100.0 + look)
    assert orders == (Action(Verb.DRAIN, Cause.MEMORY_SOFT),)
    down, _ = step(SPEC, child, DEAD, 105.0)
    assert (down.phase, down.cause, down.failures) == (Phase.DOWN, Cause.MEMORY_SOFT, ())


def test_a_drain_that_does_not_end_is_killed_at_its_deadline():
    draining = Judged(phase=Phase.DRAINING, cause=Cause.MEMORY_SOFT, deadline=110.0)
    _, nothing = step(SPEC, draining, FAT, 109.9)
    down, orders = step(SPEC, draining, FAT, 110.0)
    assert nothing == ()
    assert orders == (Action(Verb.KILL, Cause.DRAIN_TIMEOUT),)
    assert down.failures == ()


def test_a_newborn_over_soft_is_charged():
    child = replace(UP, born=100.0)
    for look in range(SPEC.looks):
        child, _ = step(SPEC, child, FAT, 101.0 + look)
    down, _ = step(SPEC, child, DEAD, 100.0 + YOUNG - 1)
    assert len(down.failures) == 1


@pytest.mark.parametrize(
    ("seen", "now", "cause"),
    [
        (replace(FINE, ready=False), 90.0, Cause.START_TIMEOUT),
        (replace(FINE, ready=False, failed=True), 1.0, Cause.START_FAILED),
        (replace(HUGE, ready=False), 1.0, Cause.MEMORY_HARD),
    ],
)
def test_a_start_that_does_not_come_up_is_killed(seen, now, cause):
    starting, _ = step(SPEC, Judged(), DEAD, 0.0)
    _, orders = step(SPEC, starting, seen, now)
    assert orders[0] == Action(Verb.KILL, cause)


def fail(child, now):
    """Start and lose a child at once; return it and every order given."""
    child, first = step(SPEC, child, DEAD, now)
    child, second = step(SPEC, child, DEAD, now)
    return child, first + second


def test_more_failures_than_the_intensity_gives_up_once_and_retries_slowly():
    child, now, told, starts = Judged(), 0.0, 0, 0
    while child.phase is not Phase.GAVE_UP:
        now = max(now, child.deadline)
        child, orders = fail(child, now)
        starts += verbs(orders).count(Verb.START)
        told += verbs(orders).count(Verb.GIVE_UP)
    assert (starts, told) == (SPEC.intensity.restarts + 1, 1)
    assert child.deadline == now + SLOW_RETRY
    assert step(SPEC, child, DEAD, child.deadline - 1)[1] == ()
    again, orders = fail(child, child.deadline)
    assert orders[0] == Action(Verb.START, Cause.SLOW_RETRY)
    assert again.phase is Phase.GAVE_UP
    assert Verb.GIVE_UP not in verbs(orders), "a person is told once"


def test_failures_outside_the_window_are_forgiven():
    child = replace(UP, failures=(1.0, 2.0, 3.0), born=0.0)
    down, _ = step(SPEC, child, DEAD, 64.0)
    assert (down.phase, down.failures) == (Phase.DOWN, (64.0,))


def test_ten_healthy_minutes_start_the_backoff_afresh():
    tired = replace(UP, streak=7, hopeless=True)
    before, _ = step(SPEC, tired, FINE, STABLE_AFTER - 1)
    after, _ = step(SPEC, tired, FINE, STABLE_AFTER)
    assert (before.streak, before.hopeless) == (7, True)
    assert (after.streak, after.hopeless) == (0, False)


def test_backoff_is_the_field_s_curve():
    assert [backoff(n, 0.0) for n in range(1, 12)] == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300]


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_backoff_never_shrinks_by_more_than_its_jitter_and_never_exceeds_five_minutes(streak, luck):
    assert 0 <= backoff(streak, luck) <= LONGEST_BACKOFF
    assert backoff(streak + 1, 0.0) >= backoff(streak, 0.0)
    assert backoff(streak, luck) >= backoff(streak, 0.0) * 0.75


seen_things = st.builds(
    Seen,
    alive=st.booleans(),
    ready=st.booleans(),
    failed=st.booleans(),
    memory=st.one_of(st.none(), st.integers(0, 300 * MIB)),
    last_words=st.sampled_from([None, Cause.MEMORY_HARD]),
    turn=st.booleans(),
    luck=st.floats(0, 1),
)
lives = st.lists(st.tuples(seen_things, st.floats(0, 400)), max_size=80)


@given(lives)
@settings(max_examples=400)
def test_laws_hold_for_any_life(life):
    child, now, there = Judged(), 0.0, False
    for raw, passed in life:
        now += passed
        # What can be seen depends on what was ordered: there is no process that nobody started.
        seen = replace(raw, alive=raw.alive and there)
        before = child
        child, orders = step(SPEC, child, seen, now)
        for order in orders:
            if order.verb is Verb.START:
                assert not there or not seen.alive, "never two processes of a child"
                there = True
            elif order.verb is Verb.KILL:
                assert seen.alive, "the dead are not killed"
                there = False
        if not seen.alive and Verb.START not in verbs(orders):
            there = False
        in_window = [t for t in child.failures if t > now - SPEC.intensity.seconds]
        if child.failures != before.failures:
            assert len(in_window) == len(child.failures), "failures kept are inside the window"
        if child.phase is Phase.GAVE_UP and before.phase is Phase.GAVE_UP:
            assert orders == (), "after giving up nothing happens until the slow retry"
        if seen.alive and seen.memory is not None and seen.memory > SPEC.memory.hard:
            assert before.phase in (Phase.DOWN, Phase.GAVE_UP) or Verb.KILL in verbs(orders), (
                "the hard limit waits for nobody"
            )
        if child.phase in (Phase.DOWN, Phase.GAVE_UP):
            assert child.deadline <= now + max(LONGEST_BACKOFF, SLOW_RETRY), "every wait has an end"


@given(lives)
def test_any_child_is_back_once_it_can_be(life):
    child, now = Judged(), 0.0
    for seen, passed in life:
        now += passed
        child, _ = step(SPEC, child, replace(seen, memory=None), now)
    for _ in range(6):
        now += 400.0
        seen = FINE if child.phase in (Phase.STARTING, Phase.UP) else DEAD
        child, _ = step(SPEC, child, seen, now)
    assert child.phase is Phase.UP
