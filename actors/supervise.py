"""Pure judgement: what is to be done about one child, given what was seen of it and the time.

`step` is level-triggered (it looks at what is true now, so a lost event cannot stop it), total (every
phase answers every sight) and holds no clock, no Ray and no I/O: a day of `(seen, now)` can be replayed
through it.  The hands are in `supervisor.py`.

A child has one *serving* process.  While it is relieved it has a second one, its *relief*, which takes
over when it is ready; the one that served then becomes the *leaver*, which finishes its work in hand.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from actors.spec import Child as Spec
from actors.spec import Restart

SLOW_RETRY = 300.0  # seconds between tries of what was given up
LONGEST_BACKOFF = 300.0


class Phase(StrEnum):
    """Where a child is in its life; the names are shown to people and written to history."""

    DOWN = "down"  # no process; starts at `deadline`
    STARTING = "starting"  # a process that has not answered yet; has until `deadline`
    UP = "up"
    RELIEVING = "relieving"  # serves on while its relief comes up; that has until `deadline`
    DRAINING = "draining"  # finishing its work in hand, nobody beside it; has until `deadline`
    GAVE_UP = "gave_up"  # failed too often; tried again, slowly, at `deadline`


SERVING = frozenset({Phase.UP, Phase.RELIEVING})


class Cause(StrEnum):
    """Why a process started or ended; the names are data in the history, never rename one."""

    BOOT = "boot"
    CRASH = "crash"
    HANG = "hang"
    START_FAILED = "start_failed"
    START_TIMEOUT = "start_timeout"
    MEMORY_SOFT = "memory_soft"
    MEMORY_HARD = "memory_hard"
    DRAIN_TIMEOUT = "drain_timeout"
    RELIEF_FAILED = "relief_failed"
    SLOW_RETRY = "slow_retry"
    SHUTDOWN = "shutdown"
    HEAD_LOST = "head_lost"  # with the Ray head it ran under
    BOOT_LOST = "boot_lost"  # with a boot program that did not live to tell


PLANNED = frozenset({Cause.MEMORY_SOFT, Cause.DRAIN_TIMEOUT, Cause.SHUTDOWN, Cause.BOOT})


class Verb(StrEnum):
    """What the supervisor's hands can do."""

    START = "start"
    KILL = "kill"
    DRAIN = "drain"  # the serving process; nobody is beside it
    RELIEVE = "relieve"  # start a successor beside the serving process
    SWITCH = "switch"  # the relief serves now; who served, if it lives, is the leaver and drains
    KILL_RELIEF = "kill_relief"
    KILL_LEAVER = "kill_leaver"
    GIVE_UP = "give_up"  # nothing to do but to tell a person


@dataclass(frozen=True, slots=True)
class Action:
    """One order to the hands, and why."""

    verb: Verb
    cause: Cause


class Relief(StrEnum):
    """What was seen of the process that is to take over."""

    NONE = "none"  # there is none, or it is dead
    COMING = "coming"
    READY = "ready"
    UNFIT = "unfit"  # its start raised, or it is over its hard budget already


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look found of a child's processes."""

    alive: bool = False  # the serving process exists
    ready: bool = False  # it has answered that it is up
    failed: bool = False  # its own start raised
    memory: int | None = None  # its private bytes
    silent: float = 0.0  # seconds since its loop was last known to move
    last_words: Cause | None = None  # why it ended, where it could say
    relief: Relief = Relief.NONE
    leaver: bool = False  # the process that was relieved still exists
    leaver_memory: int | None = None
    turn: bool = True  # everything that starts before it has been started
    quiet: bool = True  # no other child is being relieved: one at a time on a machine
    room: bool = True  # the machine has memory for a second copy
    luck: float = 0.0  # 0..1, spreads the backoff


@dataclass(frozen=True, slots=True)
class Child:
    """What the judgement remembers of a child between looks."""

    phase: Phase = Phase.DOWN
    cause: Cause = Cause.BOOT  # of being in this phase
    deadline: float = 0.0
    born: float = 0.0  # when the serving process was ordered
    failures: tuple[float, ...] = ()
    streak: int = 0  # failures in a row, for the backoff
    over: int = 0  # looks in a row over soft
    hopeless: bool = False  # was given up and has not been well since
    relief_born: float = 0.0
    relief_after: float = 0.0  # no new relief before this
    leaver_until: float | None = None  # there may be a leaver, and it has until then

    def age(self, now: float) -> float:
        """Return the seconds since the serving process was ordered."""
        return now - self.born


Step = tuple[Child, tuple[Action, ...]]


def backoff(streak: int, luck: float) -> float:
    """Return the seconds to wait after the `streak`-th failure in a row: 0, 1, 2, 4 … 300.

    Jitter only shortens, by at most a quarter, so the bound is a bound.
    """
    if streak <= 1:
        return 0.0
    return min(2.0 ** min(streak - 2, 16), LONGEST_BACKOFF) * (1 - 0.25 * luck)


def step(spec: Spec, child: Child, seen: Seen, now: float) -> Step:
    """Return the child's next state and what must be done to reach it."""
    child, farewell = _leaver(spec, child, seen, now)
    child, actions = _advance(spec, child, seen, now)
    return child, (*farewell, *actions)


def _leaver(spec: Spec, child: Child, seen: Seen, now: float) -> Step:
    """Let who was relieved finish, but neither for ever nor beyond its hard budget."""
    if child.leaver_until is None:
        return child, ()
    if not seen.leaver:
        return replace(child, leaver_until=None), ()
    if seen.leaver_memory is not None and seen.leaver_memory > spec.memory.hard:
        why = Cause.MEMORY_HARD
    elif now >= child.leaver_until:
        why = Cause.DRAIN_TIMEOUT
    else:
        return child, ()
    return replace(child, leaver_until=None), (Action(Verb.KILL_LEAVER, why),)


def _advance(spec: Spec, child: Child, seen: Seen, now: float) -> Step:
    match child.phase:
        case Phase.DOWN if seen.turn and now >= child.deadline:
            return _start(spec, child, child.cause, now)
        case Phase.GAVE_UP if now >= child.deadline:
            return _start(spec, child, Cause.SLOW_RETRY, now)
        case Phase.DOWN | Phase.GAVE_UP:
            return child, ()
    if not seen.alive:
        return _ended(spec, child, seen, seen.last_words or Cause.CRASH, now)
    if why := _unbearable(spec, child, seen, now):
        after, actions = _ended(spec, child, seen, why, now)
        return after, (Action(Verb.KILL, why), *actions)
    match child.phase:
        case Phase.STARTING if seen.ready:
            return replace(child, phase=Phase.UP, over=0), ()
        case Phase.UP:
            return _up(spec, child, seen, now)
        case Phase.RELIEVING:
            return _relieving(spec, child, seen, now)
        case _:
            return child, ()


def _unbearable(spec: Spec, child: Child, seen: Seen, now: float) -> Cause | None:
    """Return why the serving process must be ended at this very look, or None."""
    if seen.memory is not None and seen.memory > spec.memory.hard:
        return Cause.MEMORY_HARD
    match child.phase:
        case Phase.STARTING if seen.failed:
            return Cause.START_FAILED
        case Phase.STARTING if now >= child.deadline and not seen.ready:
            return Cause.START_TIMEOUT
        case Phase.DRAINING if now >= child.deadline:
            return Cause.DRAIN_TIMEOUT
        case Phase.UP | Phase.RELIEVING if seen.silent > spec.hang_after:
            return Cause.HANG
    return None


def _start(spec: Spec, child: Child, cause: Cause, now: float) -> Step:
    starting = replace(
        child, phase=Phase.STARTING, cause=cause, born=now, deadline=now + spec.ready_within
    )
    return starting, (Action(Verb.START, cause),)


def _up(spec: Spec, child: Child, seen: Seen, now: float) -> Step:
    if child.age(now) >= spec.stable_after and (child.streak or child.hopeless):
        child = replace(child, streak=0, hopeless=False)
    over = child.over + 1 if seen.memory is not None and seen.memory > spec.memory.soft else 0
    over = min(over, spec.looks)
    if over != child.over:
        child = replace(child, over=over)
    waits = not seen.quiet or child.leaver_until is not None or now < child.relief_after
    if over < spec.looks or waits:
        return child, ()
    if spec.restart is Restart.BESIDE and seen.room and child.age(now) >= spec.young:
        relieving = replace(
            child,
            phase=Phase.RELIEVING,
            cause=Cause.MEMORY_SOFT,
            relief_born=now,
            deadline=now + spec.ready_within,
        )
        return relieving, (Action(Verb.RELIEVE, Cause.MEMORY_SOFT),)
    draining = replace(
        child, phase=Phase.DRAINING, cause=Cause.MEMORY_SOFT, deadline=now + spec.drain
    )
    return draining, (Action(Verb.DRAIN, Cause.MEMORY_SOFT),)


def _relieving(spec: Spec, child: Child, seen: Seen, now: float) -> Step:
    if seen.relief is Relief.READY:
        served = replace(_taken_over(child, Phase.UP), leaver_until=now + spec.drain)
        return served, (Action(Verb.SWITCH, child.cause),)
    if seen.relief is Relief.COMING and now < child.deadline:
        return child, ()
    # Who serves is not touched for its relief's failure: it is over its soft budget, not its hard one.
    failed = _charged(spec, child, child.relief_born, now)
    given_up = len(failed.failures) > spec.intensity.restarts
    wait = SLOW_RETRY if given_up else backoff(failed.streak, seen.luck)
    after = replace(failed, phase=Phase.UP, over=0, relief_after=now + wait)
    told = (Action(Verb.GIVE_UP, Cause.RELIEF_FAILED),) if given_up else ()
    return after, (Action(Verb.KILL_RELIEF, Cause.RELIEF_FAILED), *told)


def _taken_over(child: Child, phase: Phase) -> Child:
    return replace(child, phase=phase, born=child.relief_born, over=0)


def _ended(spec: Spec, child: Child, seen: Seen, cause: Cause, now: float) -> Step:
    """Judge the end of the serving process, whether it died or is being killed."""
    if child.phase is Phase.RELIEVING and seen.relief in (Relief.COMING, Relief.READY):
        # Its relief is on the way already; what ended it is a failure all the same.
        charged = _charged(spec, child, child.born, now)
        ready = seen.relief is Relief.READY
        heir = _taken_over(charged, Phase.UP if ready else Phase.STARTING)
        return replace(heir, cause=cause), (Action(Verb.SWITCH, cause),)
    if child.phase is Phase.RELIEVING:
        after, actions = _failed(spec, child, seen, cause, now)
        return after, (Action(Verb.KILL_RELIEF, Cause.RELIEF_FAILED), *actions)
    if child.phase is Phase.DRAINING:
        if child.age(now) >= spec.young and cause is not Cause.MEMORY_HARD:
            # Relieving a grown process is planned work.
            why = child.cause if cause is not Cause.DRAIN_TIMEOUT else cause
            return replace(child, phase=Phase.DOWN, cause=why, deadline=now), ()
        # A newborn over its budget will be over it again.
        return _failed(spec, child, seen, child.cause, now)
    return _failed(spec, child, seen, cause, now)


def _charged(spec: Spec, child: Child, born: float, now: float) -> Child:
    recent = (*(t for t in child.failures if t > now - spec.intensity.seconds), now)
    streak = 1 if now - born >= spec.stable_after else child.streak + 1
    return replace(child, failures=recent, streak=streak)


def _failed(spec: Spec, child: Child, seen: Seen, cause: Cause, now: float) -> Step:
    failed = replace(_charged(spec, child, child.born, now), cause=cause)
    if child.hopeless or len(failed.failures) > spec.intensity.restarts:
        told = () if child.hopeless else (Action(Verb.GIVE_UP, cause),)
        gave_up = replace(failed, phase=Phase.GAVE_UP, hopeless=True, deadline=now + SLOW_RETRY)
        return gave_up, told
    return replace(failed, phase=Phase.DOWN, deadline=now + backoff(failed.streak, seen.luck)), ()
