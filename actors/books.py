"""The root's books: history rows kept until the database has them, and the snapshot in the home."""

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from actors import home, memory, runtime
from actors.charge import Charge, Life, mb
from actors.domain.models import ChildStatus
from actors.settings import Settings
from actors.store import history
from actors.store.database import Database, DatabaseAway
from actors.supervise import Cause, Phase

SNAPSHOT_EVERY = 1.0  # seconds
HISTORY_BUFFER = 10_000  # rows kept while the database is away; then the oldest go

log = logging.getLogger("volaris.supervisor")


Key = tuple[str, int]  # child, generation


@dataclass(frozen=True, slots=True)
class Before:
    """The last snapshot of the root before us; empty where this boot has had none."""

    at: datetime | None = None
    now: float = 0.0  # the machine's monotonic clock at that moment
    head: str | None = None  # the Ray head it ran under
    generations: Mapping[str, int] = field(default_factory=dict)  # the newest of each child
    processes: Mapping[Key, Mapping[str, Any]] = field(default_factory=dict)  # `_processes`


@dataclass(frozen=True, slots=True)
class Adopted:
    """Who lived when we came, which generations were known then, and why any other has ended."""

    alive: Collection[Key]
    newest: Mapping[str, int]
    why: Callable[[str, int], Cause]


def untold(
    boot: str, before: Before, adopted: Adopted, starts: Sequence[history.Event]
) -> Iterator[history.Event]:
    """Yield the rows that a dead root still owed: of `starts` without a stop, and of its snapshot.

    Those that were stored after all are the same facts, so they change nothing.
    """
    now = datetime.now(UTC)
    for (child, generation), one in before.processes.items():
        if (child, generation) in adopted.alive:
            continue
        known = (child, generation, one["pid"], one["node"])
        if one["ready"]:
            yield _found(boot, *known, "start", one["cause"], before.at or now)
        why = adopted.why(child, generation)
        age = before.now - one["ordered_at"]
        yield _found(boot, *known, "stop", why, now, one["memory_mb"], age, seen=before.at)
    for row in starts:
        known = (row.child, row.generation, row.pid, row.node)
        if row.boot != boot:
            yield _found(row.boot, *known, "stop", Cause.BOOT_LOST, now)
        elif known[:2] not in {*adopted.alive, *before.processes} and (
            row.generation <= adopted.newest.get(row.child, row.generation)
        ):
            why = adopted.why(row.child, row.generation)
            yield _found(boot, *known, "stop", why, now, seen=before.at)


def _found(
    boot: str,
    child: str,
    generation: int,
    pid: int | None,
    node: str | None,
    event: str,
    cause: str,
    at: datetime,
    memory_mb: float | None = None,
    age: float | None = None,
    *,
    seen: datetime | None = None,
) -> history.Event:
    return history.Event(
        id=history.fact(boot, child, generation, event),
        at=at,
        boot=boot,
        child=child,
        generation=generation,
        event=event,
        pid=pid,
        node=node,
        cause=cause,
        memory_mb=memory_mb,
        age_seconds=age,
        detail={"found": True} | ({"seen": seen.isoformat()} if seen else {}),
    )


class Books:
    """What the root writes down; a row's id makes a repeat harmless."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings, self._database = settings, database
        self._rows: deque[history.Event] = deque(maxlen=HISTORY_BUFFER)
        self._shape: object = None
        self._written_at = 0.0
        self._owed: tuple[Before, Adopted] | None = None  # not yet compared with the database
        self.waiting = asyncio.Event()  # there are rows that are not stored yet

    def record(
        self,
        charge: Charge,
        life: Life,
        event: str,
        cause: str,
        *,
        gap: float | None = None,
        **detail: object,
    ) -> None:
        """Note one start, stop or giving up of a process."""
        process, now = life.process, time.monotonic()
        stopped = event == "stop"
        if life.failed:
            detail["error"] = life.failed
        if stopped and (growth := life.growth()) is not None:
            detail["growth_mb_per_hour"] = round(growth, 1)
        if life.sites:
            detail["sites"] = life.sites
        if life.found and event == "start":
            detail["found"] = True
        boot, once = self._settings.boot_id, event in ("start", "stop")
        self.waiting.set()
        self._rows.append(
            history.Event(
                id=history.fact(boot, charge.id, life.generation, event) if once else uuid4(),
                at=datetime.now(UTC),
                boot=boot,
                child=charge.id,
                generation=life.generation,
                event=event,
                pid=process.pid if process else None,
                node=process.node if process else None,
                cause=cause,
                memory_mb=mb(life.memory),
                age_seconds=life.age() if stopped else None,
                drain_seconds=now - life.drain_begun if stopped and life.drain_begun else None,
                gap_seconds=gap,
                detail=detail,
            )
        )

    def adopted(self, before: Before, adopted: Adopted) -> None:
        """Note who lived when we came: of all others a stop is owed, which the next `flush` finds."""
        self._owed = before, adopted
        self.waiting.set()

    async def flush(self, deadline: float) -> None:
        """Store the rows that wait; they leave the buffer only once they are stored."""
        self.waiting.clear()
        try:
            if self._owed is not None:
                starts = await self._database.run(history.unstopped, deadline=deadline)
                self._rows.extend(untold(self._settings.boot_id, *self._owed, starts))
                self._owed = None
            rows = tuple(self._rows)
            if not rows:
                return
            await self._database.run(
                lambda connection: history.append(connection, rows), deadline=deadline
            )
        except DatabaseAway:
            self.waiting.set()
            return
        stored = {row.id for row in rows}
        self._rows = deque((r for r in self._rows if r.id not in stored), maxlen=HISTORY_BUFFER)

    async def recent(self, limit: int, child: str | None) -> tuple[dict[str, Any], ...]:
        """Return the newest rows first; those not yet stored are among them."""
        waiting = [row for row in reversed(self._rows) if child in (None, row.child)]
        try:
            stored = await self._database.run(
                lambda connection: history.recent(connection, limit, child), deadline=3.0
            )
        except DatabaseAway:
            stored = []
        known = {row.id for row in stored}
        rows = [row for row in waiting if row.id not in known] + stored
        return tuple(asdict(row) for row in rows[:limit])

    async def counts(self) -> dict[str, history.Counts]:
        """Return what this boot has done to each child, as far as the database can tell."""
        try:
            return await self._database.run(
                lambda connection: history.counts(connection, self._settings.boot_id), deadline=5.0
            )
        except DatabaseAway:
            log.warning("the database is away: restart counters begin at 0")
            return {}

    def before(self) -> Before:
        """Return what the root before us had written down."""
        tree = home.read_tree(self._settings.volaris_home)
        if tree.get("boot") != self._settings.boot_id:
            return Before()
        return Before(
            at=datetime.fromisoformat(tree["at"]),
            now=tree.get("now", 0.0),
            head=tree.get("head"),
            generations=tree.get("generations", {}),
            processes={(one["child"], one["generation"]): one for one in tree.get("processes", ())},
        )

    def write_snapshot(self, charges: Iterable[Charge], *, force: bool = False) -> None:
        """Leave the state of the tree in the home, for those who must not depend on any actor."""
        now, charges = time.monotonic(), tuple(charges)
        statuses = [charge.status() for charge in charges]
        shape = [(s.state, s.pid, s.generation, s.relief, s.leak) for s in statuses]
        if not force and shape == self._shape and now - self._written_at < SNAPSHOT_EVERY:
            return
        self._shape, self._written_at = shape, now
        body = {
            "at": datetime.now(UTC),
            "boot": self._settings.boot_id,
            "supervisor": {"pid": os.getpid(), "memory_mb": mb(memory.private(os.getpid()))},
            "children": [_public(status) for status in statuses],
            "now": now,
            "head": runtime.head(),
            "generations": {charge.id: charge.generation for charge in charges},
            "processes": [one for charge in charges for one in _processes(charge)],
        }
        path = self._settings.volaris_home / "run" / "tree.json"
        try:
            home.write_json(path, body)
        except OSError as e:
            log.warning("cannot write %s: %s", path, e)


def _processes(charge: Charge) -> Iterator[dict[str, Any]]:
    """Yield what the next root must know of each living process, should it not find it any more."""
    draining = charge.judged.cause if charge.judged.phase is Phase.DRAINING else None
    for role, life, ending in (
        ("serving", charge.serving, draining),
        ("relief", charge.relief, Cause.RELIEF_FAILED),
        ("leaver", charge.leaver, Cause.MEMORY_SOFT),
    ):
        if life is not None and life.alive:
            yield {
                "child": charge.id,
                "generation": life.generation,
                "role": role,
                "pid": life.process.pid if life.process else None,
                "node": life.process.node if life.process else None,
                "cause": life.cause,
                "ready": life.ready,
                "memory_mb": mb(life.memory),
                "ordered_at": life.ordered_at,
                "ending": ending,
            }


def _public(status: ChildStatus) -> dict[str, Any]:
    shown = asdict(status)
    cause, at = shown.pop("last_exit_cause"), shown.pop("last_exit_at")
    return {**shown, "last_exit": {"cause": cause, "at": at} if cause else None}
