"""What the root saw and judged, recorded (`VOLARIS_RECORD=1`), and the same run through the judgement again.

A line is one look at one child; looks that found nothing new and changed nothing are only counted.  Sights
are rounded so that no comparison in `supervise.step` can come out otherwise, hence an unchanged judgement
gives exactly the recorded orders.  What *other* budgets would have ordered is followed for each process up
to the first order that differs: what its successor's life would have been was not recorded.
"""

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import TypeAdapter

from actors.settings import Refused
from actors.spec import MIB, Budget, mib
from actors.spec import Child as Spec
from actors.supervise import Action, Cause, Child, Phase, Seen, Verb, step

MOST_BYTES = 8 << 20  # of the file; then it becomes `.1.jsonl`, and the one of that name goes
PAUSE = 60.0  # seconds without a try after a line that could not be written
LONGEST_SAME = 600.0  # seconds after which a line is written even if nothing is new
FAIR = 5.0  # seconds; shorter silence is written as none: a pulse comes each second

log = logging.getLogger("volaris.supervisor")


@dataclass(frozen=True, slots=True)
class Begin:
    """A root begins to judge: the wall clock that belongs to `now`, and the tree it judges by."""

    at: datetime
    now: float
    specs: tuple[Spec, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One look at one child: what `step` was given and what it answered."""

    child: str
    now: float
    seen: Seen
    before: Child | None = None  # where it is not what the child's line before has left
    after: Child | None = None  # where it is not `before`
    actions: tuple[Action, ...] = ()
    looks: int = 0  # so many looks between found what the line before had found …
    until: float = 0.0  # … and this was the last of them


BEGIN, LINE = TypeAdapter(Begin), TypeAdapter(Line)


def rounded(seen: Seen) -> Seen:
    """Return a sight as it is written: budgets are whole MiB, so memory is rounded up to the next one."""
    return replace(
        seen,
        memory=_whole(seen.memory),
        leaver_memory=_whole(seen.leaver_memory),
        silent=float(math.ceil(seen.silent)) if seen.silent > FAIR else 0.0,
        luck=0.0,
    )


def _whole(held: int | None) -> int | None:
    return None if held is None else -(-held // MIB) * MIB


@dataclass(slots=True)
class _Last:
    seen: Seen
    after: Child
    at: float
    looks: int = 0
    until: float = 0.0


class Recorder:
    """Writes the record; whatever is wrong with the file, the root goes on and warns once."""

    def __init__(self, path: Path, specs: Iterable[Spec]) -> None:
        self._path, self._specs = path, tuple(specs)
        self._last: dict[str, _Last] = {}
        self._begun = self._warned = False
        self._not_before = 0.0

    def note(
        self,
        child: str,
        before: Child,
        seen: Seen,
        now: float,
        after: Child,
        actions: tuple[Action, ...],
    ) -> None:
        """Write one look down, if it tells anything new."""
        shown, last = rounded(seen), self._last.get(child)
        judged = after != before or bool(actions)
        same = last is not None and (last.seen, last.after) == (shown, before)
        if last is not None and same and not judged and now - last.at < LONGEST_SAME:
            last.looks, last.until = last.looks + 1, now
            return
        if now < self._not_before:
            return
        try:
            if not self._begun:
                self._begin(now)
                last = None
            line = Line(
                child,
                now,
                replace(shown, luck=seen.luck) if judged else shown,
                before if last is None or last.after != before else None,
                after if after != before else None,
                actions,
                last.looks if last is not None else 0,
                last.until if last is not None else 0.0,
            )
            self._last[child] = _Last(shown, after, now)
            self._write(LINE.dump_json(line, exclude_defaults=True))
        except Exception as e:  # noqa: BLE001  (a record that cannot be kept must not end the supervision)
            if not self._warned:
                log.warning("%s cannot be written (%s); the record has a hole", self._path, e)
            self._begun, self._warned, self._not_before = False, True, now + PAUSE

    def _begin(self, now: float) -> None:
        self._last.clear()
        # After a line that was cut off by a death or a full disk a new one must be begun.
        self._write(b"\n" + BEGIN.dump_json(Begin(datetime.now(UTC), now, self._specs)))
        self._begun = True

    def _write(self, line: bytes) -> None:
        with self._path.open("ab", buffering=0) as file:
            if file.write(line + b"\n") <= len(line):
                raise OSError("no space left")
            full = file.tell() > MOST_BYTES
        if full:
            self._path.replace(self._path.with_suffix(".1.jsonl"))
            self._begun = False


def read(path: Path) -> tuple[list[Begin | Line], int]:
    """Return the lines of a record, and how many could not be read; `Refused` for what is none."""
    lines: list[Begin | Line] = []
    unread = 0
    try:
        with path.open("rb") as file:
            for text in filter(None, map(bytes.strip, file)):
                try:
                    kind = BEGIN if text.startswith(b'{"at"') else LINE
                    lines.append(kind.validate_json(text))
                except ValueError:
                    unread += 1
    except OSError as e:
        raise Refused(f"{path} cannot be read ({e.strerror})") from None
    if not lines:
        raise Refused(
            f"{path} is no record of judgements; with VOLARIS_RECORD=1 the root writes one to"
            " VOLARIS_HOME/logs/judgements.jsonl"
        )
    return lines, unread


@dataclass(frozen=True, slots=True)
class Difference:
    """What was ordered at a time, and what is ordered now; `why` where only the judged state differs."""

    at: datetime
    child: str
    recorded: tuple[Action, ...]
    replayed: tuple[Action, ...]
    why: str = ""


@dataclass(slots=True)
class Outcome:
    """A record, judged again."""

    first: datetime | None = None
    last: datetime | None = None
    looks: int = 0
    skipped: int = 0  # lines whose beginning is missing
    recorded: Counter[Action] = field(default_factory=Counter)
    replayed: Counter[Action] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)


def budgets(given: Iterable[str], lines: Iterable[Begin | Line]) -> dict[str, Budget]:
    """Return budgets given as `CHILD=soft:hard` (MiB) by child."""
    known = {spec.id for line in lines if isinstance(line, Begin) for spec in line.specs}
    found = {}
    for text in given:
        child, _, numbers = text.partition("=")
        if child not in known:
            raise Refused(f"--budget {text}: the record has {', '.join(sorted(known))} only")
        try:
            soft, hard = (int(part) for part in numbers.split(":"))
            found[child] = mib(soft, hard)
        except ValueError:
            raise Refused(
                f"--budget {text}: write CHILD=soft:hard in MiB, 0 < soft < hard"
            ) from None
    return found


@dataclass(slots=True)
class _Followed:
    """A child while it is replayed: `judged` is ours, `recorded` the record's."""

    spec: Spec
    other: bool  # its budget is another than the recorded one
    spared: bool  # its hard budget is higher than the recorded one
    judged: Child
    recorded: Child
    seen: Seen
    at: float
    apart: float | None = None  # an order differed; until the process born then has gone


def replay(lines: Iterable[Begin | Line], given: Mapping[str, Budget]) -> Outcome:
    """Judge a record again, under other budgets where they are given; `Refused` where nothing can be."""
    outcome = Outcome()
    specs: dict[str, Spec] = {}
    followed: dict[str, _Followed] = {}
    for line in lines:
        if isinstance(line, Begin):
            specs, began = {spec.id: spec for spec in line.specs}, line
            followed.clear()
            continue
        one = followed.get(line.child)
        before = line.before or (one.recorded if one else None)
        if before is None or line.child not in specs:
            outcome.skipped += 1
            continue
        if one is None or line.before is not None:
            spec = specs[line.child]
            budget = given.get(line.child, spec.memory)
            one = _Followed(
                replace(spec, memory=budget),
                other=budget != spec.memory,
                spared=budget.hard > spec.memory.hard,
                judged=before,
                recorded=before,
                seen=line.seen,
                at=line.now,
            )
            followed[line.child] = one

        def clock(now: float, began: Begin = began) -> datetime:
            return began.at + timedelta(seconds=now - began.now)

        outcome.first = outcome.first or clock(line.now)
        outcome.last = clock(line.now)
        outcome.looks += line.looks + 1
        _follow(one, line, before, outcome, clock)
    if outcome.first is None:
        raise Refused(
            "nothing of the record can be judged: it must be whole from its first line on"
        )
    return outcome


def _follow(
    one: _Followed, line: Line, before: Child, outcome: Outcome, clock: Callable[[float], datetime]
) -> None:
    after = line.after or before
    # Who is ended by the guard inside its own process was ended by no order; it counts as one.
    guarded = line.seen.last_words is Cause.MEMORY_HARD and before.phase not in IDLE
    guard = (Action(Verb.KILL, Cause.MEMORY_HARD),) if guarded else ()
    recorded = (*guard, *line.actions)
    outcome.recorded.update(recorded)
    if one.apart is None:
        orders, now = _between(one, line), line.now
        if orders:
            recorded, (replayed, now) = (), orders
        elif guard and one.spared:
            replayed = ()
        else:
            one.judged, replayed = step(one.spec, one.judged, line.seen, now)
            replayed = (*guard, *replayed)
        outcome.replayed.update(replayed)
        why = "" if one.other or orders or one.judged == after else _told(after, one.judged)
        if why or replayed != recorded:
            told = Difference(clock(now), line.child, recorded, replayed, why)
            outcome.differences.append(told)
            one.apart = before.born
    one.recorded, one.seen, one.at = after, line.seen, line.now
    if one.apart is not None and after.born != one.apart:
        one.apart, one.judged = None, after


IDLE = frozenset({Phase.DOWN, Phase.GAVE_UP})


def _between(one: _Followed, line: Line) -> tuple[tuple[Action, ...], float] | None:
    """Judge the looks that were only counted; return the first order and its time, if there is one."""
    for now in _spread(one.at, line.until, line.looks):
        judged, orders = step(one.spec, one.judged, one.seen, now)
        if orders:
            one.judged = judged
            return orders, now
        if judged == one.judged and step(one.spec, judged, one.seen, line.until) == (judged, ()):
            return None  # nothing comes of the rest of them either
        one.judged = judged
    return None


def _spread(start: float, end: float, looks: int) -> Iterator[float]:
    return (start + (end - start) * n / looks for n in range(1, looks + 1))


def _told(recorded: Child, replayed: Child) -> str:
    names = (name for name in Child.__slots__ if getattr(recorded, name) != getattr(replayed, name))
    return ", ".join(f"{n} {getattr(recorded, n)} → {getattr(replayed, n)}" for n in names)
