"""Pure judgement: what is to be done about one child, given what was seen of it and the time.

`step` is level-triggered (it looks at what is true now, so a lost event cannot stop it), total (every
phase answers every sight) and holds no clock, no Ray and no I/O: a day of `(seen, now)` can be replayed
through it.  The hands are in `supervisor.py`.  This module does *not* cover replacement beside (a
successor before the old one goes): until it does, every relief drains first.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from actors.spec import Child as Spec

YOUNG = 60.0  # seconds: a process that goes over its budget before this age never fitted
STABLE_AFTER = 600.0  # healthy seconds after which the backoff starts afresh (Kubernetes' number)
SLOW_RETRY = 300.0  # seconds between tries of a child that was given up
LONGEST_BACKOFF = 300.0


class Phase(StrEnum):
    """Where a child is in its life; the names are shown to people and written to history."""

    DOWN = "down"  # no process; starts at `deadline`
    STARTING = "starting"  # a process that has not answered yet; has until `deadline`
    UP = "up"
    DRAINING = "draining"  # finishing its work in hand; has until `deadline`
    GAVE_UP = "gave_up"  # failed too often; tried again, slowly, at `deadline`


class Cause(StrEnum):
    """Why a process started or ended; the names are data in the history, never rename one."""

    BOOT = "boot"
    CRASH = "crash"
    START_FAILED = "start_failed"
    START_TIMEOUT = "start_timeout"
    MEMORY_SOFT = "memory_soft"
    MEMORY_HARD = "memory_hard"
    DRAIN_TIMEOUT = "drain_timeout"
    SLOW_RETRY = "slow_retry"
    SHUTDOWN = "shutdown"


PLANNED = frozenset({Cause.MEMORY_SOFT, Cause.SHUTDOWN, Cause.BOOT})


class Verb(StrEnum):
    """What the supervisor's hands can do."""

    START = "start"
    DRAIN = "drain"
    KILL = "kill"
    GIVE_UP = "give_up"  # nothing to do but to tell a person


@dataclass(frozen=True, slots=True)
class Action:
    """One order to the hands, and why."""

    verb: Verb
    cause: Cause


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look found of a child's process."""

    alive: bool = False  # there is a process
    ready: bool = False  # it has answered that it is up
    failed: bool = False  # its own start raised
    memory: int | None = None  # private bytes
    last_words: Cause | None = None  # why it ended, where it could say
    turn: bool = True  # everything that starts before it has been started
    luck: float = 0.0  # 0..1, spreads the backoff


@dataclass(frozen=True, slots=True)
class Child:
    """What the judgement remembers of a child between looks."""

    phase: Phase = Phase.DOWN
    cause: Cause = Cause.BOOT  # of being in this phase
    deadline: float = 0.0
    born: float = 0.0  # when the present process was ordered
    failures: tuple[float, ...] = ()
    streak: int = 0  # failures in a row, for the backoff
    over: int = 0  # looks in a row over soft
    hopeless: bool = False  # was given up and has not been well since

    def age(self, now: float) -> float:
        """Return the seconds since the present process was ordered."""
        return now - self.born


Step = tuple[Child, tuple[Action, ...]]


def backoff(streak: int, luck: float) -> float:
    """Return the seconds to wait before the start after the `streak`-th failure in a row: 0, 1, 2, 4 … 300.

    Jitter only shortens, by at most a quarter, so the bound is a bound.
    """
    if streak <= 1:
        return 0.0
    return min(2.0 ** min(streak - 2, 16), LONGEST_BACKOFF) * (1 - 0.25 * luck)


def step(spec: Spec, child: Child, seen: Seen, now: float) -> Step:
    """Return the child's next state and what must be done to reach it."""
    match child.phase:
        case Phase.DOWN if seen.turn and now >= child.deadline:
            return _start(spec, child, child.cause, now)
        case Phase.GAVE_UP if now >= child.deadline:
            return _start(spec, child, Cause.SLOW_RETRY, now)
        case Phase.DOWN | Phase.GAVE_UP:
            return child, ()
    if not seen.alive:
        return _ended(spec, child, seen, now)
    if seen.memory is not None and seen.memory > spec.memory.hard:
        return _kill(spec, child, seen, Cause.MEMORY_HARD, now)
    match child.phase:
        case Phase.STARTING if seen.failed:
            return _kill(spec, child, seen, Cause.START_FAILED, now)
        case Phase.STARTING if seen.ready:
            return replace(child, phase=Phase.UP, over=0), ()
        case Phase.STARTING if now >= child.deadline:
            return _kill(spec, child, seen, Cause.START_TIMEOUT, now)
        case Phase.DRAINING if now >= child.deadline:
            return _kill(spec, child, seen, Cause.DRAIN_TIMEOUT, now)
        case Phase.UP:
            return _up(spec, child, seen, now)
        case _:
            return child, ()


def _start(spec: Spec, child: Child, cause: Cause, now: float) -> Step:
    starting = replace(
        child, phase=Phase.STARTING, cause=cause, born=now, deadline=now + spec.ready_within, over=0
    )
    return starting, (Action(Verb.START, cause),)


def _up(spec: Spec, child: Child, seen: Seen, now: float) -> Step:
    if child.age(now) >= STABLE_AFTER and (child.streak or child.hopeless):
        child = replace(child, streak=0, hopeless=False)
    over = child.over + 1 if seen.memory is not None and seen.memory > spec.memory.soft else 0
    if over < spec.looks:
        return (child if over == child.over else replace(child, over=over)), ()
    draining = replace(
        child, phase=Phase.DRAINING, cause=Cause.MEMORY_SOFT, deadline=now + spec.drain, over=0
    )
    return draining, (Action(Verb.DRAIN, Cause.MEMORY_SOFT),)


def _ended(spec: Spec, child: Child, seen: Seen, now: float) -> Step:
    if child.phase is Phase.DRAINING:
        return _relieved(spec, child, seen, child.cause, now)
    return _failed(spec, child, seen, seen.last_words or Cause.CRASH, now)


def _kill(spec: Spec, child: Child, seen: Seen, cause: Cause, now: float) -> Step:
    ended = _relieved if cause is Cause.DRAIN_TIMEOUT else _failed
    after, actions = ended(spec, child, seen, cause, now)
    return after, (Action(Verb.KILL, cause), *actions)


def _relieved(spec: Spec, child: Child, seen: Seen, cause: Cause, now: float) -> Step:
    # Relieving a grown process is planned work; a newborn over its budget will be over it again.
    if child.age(now) < YOUNG:
        return _failed(spec, child, seen, cause, now)
    return replace(child, phase=Phase.DOWN, cause=cause, deadline=now), ()


def _failed(spec: Spec, child: Child, seen: Seen, cause: Cause, now: float) -> Step:
    recent = (*(t for t in child.failures if t > now - spec.intensity.seconds), now)
    streak = 1 if child.age(now) >= STABLE_AFTER else child.streak + 1
    failed = replace(child, cause=cause, failures=recent, streak=streak, over=0)
    if child.hopeless or len(recent) > spec.intensity.restarts:
        told = () if child.hopeless else (Action(Verb.GIVE_UP, cause),)
        return replace(failed, phase=Phase.GAVE_UP, hopeless=True, deadline=now + SLOW_RETRY), told
    return replace(failed, phase=Phase.DOWN, deadline=now + backoff(streak, seen.luck)), ()
