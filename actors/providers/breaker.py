"""Pure judgement: whether one vendor is asked for one kind of data, given how it did and the time.

`judge` is total (every state answers every event) and holds no clock and no I/O, like `supervise.step`.
A breaker is *closed* while the vendor is asked, *open* while it is not, and *half-open* while one probe is
under way, whose outcome decides.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

FAILURES = 5  # in a row
HANGING = 3  # failures that one counts for which kept somebody waiting
RATE, LOOKED_AT, RECENT = 0.5, 10, 60.0  # half of the last ten, where they are of the last minute
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0  # seconds until a probe
PROBE_WITHIN = 60.0  # seconds; a probe that never reported back is given up


class Phase(StrEnum):
    """Where a breaker is; the names are shown to people."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Event(StrEnum):
    """What happened."""

    ASKED = "asked"  # a request is sent
    ANSWERED = "answered"
    FAILED = "failed"
    HUNG = "hung"  # failed after a long wait


@dataclass(frozen=True, slots=True)
class Breaker:
    """What is remembered of a vendor and a kind."""

    phase: Phase = Phase.CLOSED
    until: float = 0.0  # open: no probe before; half-open: the probe is given up then
    failures: int = 0  # in a row
    openings: int = 0  # in a row, without an answer between
    recent: tuple[tuple[float, bool], ...] = ()  # (when, answered), the newest last

    def allows(self, now: float) -> bool:
        """Tell whether the vendor may be asked: it is closed, or a probe is due."""
        return self.phase is Phase.CLOSED or now >= self.until


def judge(breaker: Breaker, event: Event, now: float, luck: float) -> Breaker:
    """Return the breaker after the event; `luck` (0..1) spreads the pauses."""
    match event:
        case Event.ASKED if breaker.phase is Phase.CLOSED:
            return breaker
        case Event.ASKED:
            return replace(breaker, phase=Phase.HALF_OPEN, until=now + PROBE_WITHIN)
        case Event.ANSWERED:
            # What was asked before it opened proves nothing of now.
            if breaker.phase is Phase.OPEN:
                return breaker
            return Breaker(recent=_seen(breaker, now, answered=True))
        case Event.FAILED | Event.HUNG:
            failed = replace(
                breaker,
                failures=breaker.failures + (HANGING if event is Event.HUNG else 1),
                recent=_seen(breaker, now, answered=False),
            )
            if breaker.phase is Phase.OPEN:
                return failed
            if breaker.phase is Phase.HALF_OPEN or failed.failures >= FAILURES or _sick(failed):
                return opened(failed, now, lambda n: pause(n, luck))
            return failed


def opened(breaker: Breaker, now: float, pause_of: Callable[[int], float]) -> Breaker:
    """Return the breaker open; `pause_of` tells the seconds of the n-th opening in a row."""
    n = breaker.openings + 1
    return replace(breaker, phase=Phase.OPEN, openings=n, until=now + pause_of(n), recent=())


def shut(breaker: Breaker, now: float, seconds: float) -> Breaker:
    """Return the breaker open for so long: what was refused will be refused again."""
    return opened(breaker, now, lambda _: seconds)


def untried(breaker: Breaker, now: float) -> Breaker:
    """Return the breaker after a probe that told nothing of the vendor's health: another one is due."""
    if breaker.phase is not Phase.HALF_OPEN:
        return breaker
    return replace(breaker, phase=Phase.OPEN, until=now)


def pause(openings: int, luck: float) -> float:
    """Return the seconds until the probe: 5, 10, 20 … 300, shortened by at most a quarter."""
    return min(FIRST_PAUSE * 2.0 ** min(openings - 1, 16), LONGEST_PAUSE) * (1 - 0.25 * luck)


def _seen(breaker: Breaker, now: float, *, answered: bool) -> tuple[tuple[float, bool], ...]:
    return (*breaker.recent, (now, answered))[-LOOKED_AT:]


def _sick(breaker: Breaker) -> bool:
    recent = breaker.recent
    if len(recent) < LOOKED_AT or recent[-1][0] - recent[0][0] > RECENT:
        return False
    return sum(1 for _, answered in recent if not answered) >= RATE * LOOKED_AT
