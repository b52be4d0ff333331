"""The root of the tree: look at every child, judge, act, write history.

The judgement is `supervise.step`; the hands are `runtime`.  This module is the loop between them, and
the books: generations, counters, the snapshot that `volaris status` reads, and the history rows.
"""

import asyncio
import logging
import os
import random
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from actors import home, memory, runtime
from actors.client import Gone, Tree, Unreachable
from actors.domain.models import ChildStatus
from actors.settings import Settings
from actors.spec import MIB, Child
from actors.store import history
from actors.store.database import Database, DatabaseAway
from actors.supervise import PLANNED, Action, Cause, Phase, Seen, Verb, step
from actors.supervise import Child as Judged
from actors.tree import TREE

LOOK_EVERY = 0.25  # seconds
SNAPSHOT_EVERY = 1.0
HISTORY_BUFFER = 10_000  # rows kept while the database is away; then the oldest go
FLUSH_EVERY = 2.0

log = logging.getLogger("volaris.supervisor")


@dataclass(slots=True)
class Charge:
    """One child in the root's charge: what the judgement knows, and the process behind it."""

    spec: Child
    judged: Judged = field(default_factory=Judged)
    process: runtime.Process | None = None
    generation: int = 0
    alive: bool = False
    ready: bool = False
    failed: str | None = None  # what its start said
    memory: int | None = None
    tried: bool = False  # has been up, or has failed, once: the next in order may start
    restarts: int = 0
    replacements: int = 0
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended_at: float | None = None
    last_exit_cause: str | None = None
    last_exit_at: datetime | None = None
    detail: str | None = None


class Supervisor:
    """The root.

    Guarantees: one process per child serves at any time; a child's death, hard limit or drain touches no
    other child; whatever it does to a child is a row of history, sooner or later.  When the root itself
    dies, Ray restarts it and it adopts the living children; it never restarts one for its own sake.
    """

    def __init__(self, settings: Settings, tree: Tree) -> None:  # noqa: ARG002  (every actor's signature)
        self._settings = settings
        self._charges = {row.id: Charge(replace(row, memory=settings.budget(row))) for row in TREE}
        self._database = Database.of(settings)
        self._rows: deque[history.Event] = deque(maxlen=HISTORY_BUFFER)
        self._wake = asyncio.Event()
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._snapshot = ""
        self._snapshot_at = 0.0

    async def start(self) -> None:
        """Adopt what lives, then watch."""
        await self._adopt()
        self._go(self._watch())
        self._go(self._keep_history())

    async def stop(self) -> None:
        """Drain and end every child, bottom to top, and write what history is left."""
        self._stopping = True
        for charge in reversed(self._charges.values()):
            await self._end(charge)
        for task in self._tasks:
            task.cancel()
        self._write_snapshot(force=True)
        await self._flush(deadline=5.0)
        await self._database.close()

    # --- messages

    async def where(self, child: str) -> int:
        """Return the generation that answers for a child; `Gone` while none does."""
        charge = self._charges.get(child)
        if charge is None:
            raise Unreachable(child, "there is no such child in the tree", 300.0)
        if charge.ready and charge.process and charge.judged.phase is Phase.UP:
            return charge.process.generation
        if charge.judged.phase is Phase.GAVE_UP:
            left = max(charge.judged.deadline - time.monotonic(), 1.0)
            raise Unreachable(child, f"given up ({charge.judged.cause})", left)
        raise Gone(f"it is {charge.judged.phase} ({charge.judged.cause})")

    async def status(self) -> tuple[ChildStatus, ...]:
        """Return every child, top to bottom."""
        return tuple(self._status(charge) for charge in self._charges.values())

    async def history(self, limit: int, child: str | None = None) -> tuple[dict[str, Any], ...]:
        """Return the newest starts and stops first; those not yet written are among them."""
        waiting = [row for row in reversed(self._rows) if child in (None, row.child)]
        try:
            written = await self._database.run(
                lambda connection: history.recent(connection, limit, child), deadline=3.0
            )
        except DatabaseAway:
            written = []
        known = {row.id for row in written}
        rows = [row for row in waiting if row.id not in known] + written
        return tuple(asdict(row) for row in rows[:limit])

    async def database(self) -> str | None:
        """Return why the database cannot be used, or None where it can."""
        try:
            await self._database.run(
                lambda connection: connection.execute("SELECT 1"), deadline=2.0
            )
        except DatabaseAway as e:
            return str(e)
        return None

    # --- look, judge, act

    async def _watch(self) -> None:
        while not self._stopping:
            turn = True
            for charge in self._charges.values():
                try:
                    self._attend(charge, turn=turn)
                except Exception:  # one child's fault must not end the watch over the others
                    log.exception("looking after %s failed", charge.spec.id)
                turn = turn and charge.tried
            self._write_snapshot()
            try:
                await asyncio.wait_for(self._wake.wait(), LOOK_EVERY)
            except TimeoutError:
                continue
            self._wake.clear()

    def _attend(self, charge: Charge, *, turn: bool) -> None:
        now = time.monotonic()
        seen = self._look(charge, turn=turn)
        before = charge.judged
        charge.judged, actions = step(charge.spec, before, seen, now)
        if charge.judged.phase is not before.phase:
            charge.since = datetime.now(UTC)
            charge.tried = charge.tried or charge.judged.phase in (
                Phase.UP,
                Phase.DOWN,
                Phase.GAVE_UP,
            )
            if before.phase in (Phase.STARTING, Phase.UP, Phase.DRAINING):
                self._left(charge, before)
        for action in actions:
            self._act(charge, action)

    def _look(self, charge: Charge, *, turn: bool) -> Seen:
        process = charge.process
        if process is not None and process.pid is not None and process.local and charge.alive:
            charge.memory = memory.private(process.pid)
        said = None
        if not charge.alive:
            # Even one that died before it had told its pid may have left a word.
            held = runtime.last_words(self._settings, charge.spec.id, charge.generation)
            if held is not None:
                said, charge.memory = Cause.MEMORY_HARD, held
        return Seen(
            alive=charge.alive,
            ready=charge.ready,
            failed=charge.failed is not None,
            memory=charge.memory if charge.alive else None,
            last_words=said,
            turn=turn,
            luck=random.random(),  # noqa: S311  (spreads restarts, guards nothing)
        )

    def _left(self, charge: Charge, before: Judged) -> None:
        """Keep the books of a process that has just ended, or is about to be ended."""
        if charge.judged.phase not in (Phase.DOWN, Phase.GAVE_UP):
            return
        cause = charge.judged.cause
        charge.last_exit_cause, charge.last_exit_at = cause, datetime.now(UTC)
        charge.ended_at = time.monotonic()
        charge.detail = charge.failed
        log.log(
            logging.INFO if cause in PLANNED else logging.WARNING,
            "%s.%d ended: %s, %s MiB, after %.0f s%s",
            charge.spec.id,
            charge.generation,
            cause,
            _mb(charge.memory),
            before.age(charge.ended_at),
            f" ({charge.failed})" if charge.failed else "",
        )
        drained = charge.ended_at - (before.deadline - charge.spec.drain)
        self._record(
            charge,
            "stop",
            cause,
            age_seconds=before.age(charge.ended_at),
            drain_seconds=drained if before.phase is Phase.DRAINING else None,
        )

    def _act(self, charge: Charge, action: Action) -> None:
        match action.verb:
            case Verb.START:
                self._order(charge, action.cause)
            case Verb.DRAIN:
                if charge.process is not None:
                    self._go(self._drain(charge, charge.process))
            case Verb.KILL:
                if charge.process is not None:
                    runtime.kill(charge.process)
                charge.alive = charge.ready = False
            case Verb.GIVE_UP:
                log.error(
                    "%s gave up after %d failures in %g s (%s); next try in 5 minutes",
                    charge.spec.id,
                    len(charge.judged.failures),
                    charge.spec.intensity.seconds,
                    action.cause,
                )
                self._record(charge, "gave_up", action.cause)

    def _order(self, charge: Charge, cause: Cause) -> None:
        if charge.ended_at is not None:
            planned = charge.judged.cause in PLANNED
            charge.replacements += planned
            charge.restarts += not planned
        charge.generation += 1
        charge.process, charge.memory, charge.failed = None, None, None
        charge.alive, charge.ready = True, False  # ordered: it lives until it is known to be dead
        self._go(self._raise(charge, charge.generation, cause))

    async def _raise(self, charge: Charge, generation: int, cause: Cause) -> None:
        """Bring one process up, then wait for its end."""
        try:
            process = await runtime.spawn(
                charge.spec, generation, charge.spec.memory.hard, self._settings
            )
            if charge.generation != generation or self._stopping:
                runtime.kill(process)
                return
            charge.process = process
            self._go(self._until_dead(charge, process))
            await runtime.started(process, charge.spec.ready_within)
        except Gone:
            if charge.generation == generation:
                charge.alive = False
            return
        except Exception as e:  # noqa: BLE001  (whatever a child's start raises is that child's failure)
            if charge.generation == generation and charge.alive:
                charge.failed = f"{type(e).__name__}: {e}"
                charge.alive = charge.process is not None
            return
        finally:
            self._wake.set()
        if charge.generation != generation or not charge.alive:
            return
        charge.ready, charge.detail = True, None
        gap = time.monotonic() - charge.ended_at if charge.ended_at is not None else None
        log.info("%s.%d is up, pid %s", charge.spec.id, generation, process.pid)
        self._record(charge, "start", cause, gap_seconds=gap)

    async def _until_dead(self, charge: Charge, process: runtime.Process) -> None:
        await runtime.death(process)
        if charge.process is process:
            charge.alive = charge.ready = False
            self._wake.set()

    async def _drain(self, charge: Charge, process: runtime.Process) -> None:
        try:
            await runtime.drain(process, charge.spec.drain)
        except (Gone, TimeoutError):
            return  # dead already, or the deadline of `step` kills it
        except Exception:
            log.warning("%s did not stop cleanly", process.name, exc_info=True)
        runtime.kill(process)

    async def _end(self, charge: Charge) -> None:
        process, age = charge.process, charge.judged.age(time.monotonic())
        if process is not None and charge.alive:
            begun = time.monotonic()
            await self._drain(charge, process)
            runtime.kill(process)
            self._record(
                charge,
                "stop",
                Cause.SHUTDOWN,
                age_seconds=age,
                drain_seconds=time.monotonic() - begun,
            )
        charge.alive = charge.ready = False
        charge.judged = replace(charge.judged, phase=Phase.DOWN, cause=Cause.SHUTDOWN)

    async def _adopt(self) -> None:
        """Take over the processes that outlived the root; of two of a child the newer ready one stays."""
        try:
            counts = await self._database.run(
                lambda connection: history.counts(connection, self._settings.boot_id), deadline=5.0
            )
        except DatabaseAway:
            counts = {}
            log.warning("the database is away: restart counters begin at 0")
        for child, before in counts.items():
            if charge := self._charges.get(child):
                charge.restarts, charge.replacements = before.restarts, before.replacements
                charge.last_exit_cause, charge.last_exit_at = before.last_cause, before.last_at
                charge.generation = before.generation
        pids = self._pids_of_before()
        for process in await runtime.roll_call():
            charge = self._charges.get(process.child)
            if charge is None or process.pid is None:
                # No row of ours, or so hung that it does not even tell its pid.
                if process.pid is None:
                    process.pid, process.node = pids.get(process.name, (None, None))
                runtime.kill(process)
                continue
            if charge.process is not None:
                runtime.kill(charge.process)
            now = time.monotonic()
            charge.process = process
            charge.generation = max(charge.generation, process.generation)
            charge.alive = charge.tried = True
            charge.judged = Judged(
                phase=Phase.STARTING, born=now, deadline=now + charge.spec.ready_within
            )
            self._go(self._until_dead(charge, process))
            self._go(self._adopted(charge, process))

    def _pids_of_before(self) -> dict[str, tuple[int, str]]:
        """Return (pid, node) by process name from the snapshot that the root before us has left."""
        tree = home.read_tree(self._settings.volaris_home)
        if tree.get("boot") != self._settings.boot_id:
            return {}
        return {
            runtime.name_of(child["id"], child["generation"]): (child["pid"], child["node"])
            for child in tree.get("children", ())
            if child["pid"] and child["node"]
        }

    async def _adopted(self, charge: Charge, process: runtime.Process) -> None:
        try:
            await runtime.started(process, charge.spec.ready_within)
            charge.ready = charge.process is process
        except Exception as e:  # noqa: BLE001  (its start had failed while nobody watched)
            charge.failed = f"{type(e).__name__}: {e}"
        self._wake.set()

    # --- the books

    def _status(self, charge: Charge) -> ChildStatus:
        waits = charge.judged.phase in (Phase.DOWN, Phase.GAVE_UP)
        left = charge.judged.deadline - time.monotonic()
        process = charge.process if charge.alive else None
        return ChildStatus(
            id=charge.spec.id,
            state=charge.judged.phase,
            pid=process.pid if process else None,
            node=process.node if process else None,
            generation=charge.generation,
            restarts=charge.restarts,
            replacements=charge.replacements,
            memory_mb=_mb(charge.memory) if charge.alive else None,
            soft_mb=charge.spec.memory.soft // MIB,
            hard_mb=charge.spec.memory.hard // MIB,
            since=charge.since,
            last_exit_cause=charge.last_exit_cause,
            last_exit_at=charge.last_exit_at,
            retry_at=datetime.now(UTC) + timedelta(seconds=max(left, 0)) if waits else None,
            detail=charge.detail,
        )

    def _write_snapshot(self, *, force: bool = False) -> None:
        """Leave the state of the tree in the home, for those who must not depend on any actor."""
        now = time.monotonic()
        shape = str([(c.judged.phase, c.generation, c.ready) for c in self._charges.values()])
        if not force and shape == self._snapshot and now - self._snapshot_at < SNAPSHOT_EVERY:
            return
        self._snapshot, self._snapshot_at = shape, now
        children = [_public(self._status(charge)) for charge in self._charges.values()]
        root = {"pid": os.getpid(), "memory_mb": _mb(memory.private(os.getpid()))}
        body = {
            "at": datetime.now(UTC),
            "boot": self._settings.boot_id,
            "supervisor": root,
            "children": children,
        }
        path = self._settings.volaris_home / "run" / "tree.json"
        try:
            home.write_json(path, body)
        except OSError as e:
            log.warning("cannot write %s: %s", path, e)

    def _record(self, charge: Charge, event: str, cause: str, **numbers: float | None) -> None:
        process = charge.process
        self._rows.append(
            history.Event(
                id=uuid4(),
                at=datetime.now(UTC),
                boot=self._settings.boot_id,
                child=charge.spec.id,
                generation=charge.generation,
                event=event,
                pid=process.pid if process else None,
                node=process.node if process else None,
                cause=cause,
                memory_mb=_mb(charge.memory),
                age_seconds=numbers.get("age_seconds"),
                drain_seconds=numbers.get("drain_seconds"),
                gap_seconds=numbers.get("gap_seconds"),
                detail={"error": charge.failed} if charge.failed else {},
            )
        )

    async def _keep_history(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_EVERY)
            await self._flush(deadline=20.0)

    async def _flush(self, deadline: float) -> None:
        rows: Sequence[history.Event] = tuple(self._rows)
        if not rows:
            return
        try:
            # A row's id makes a repeat harmless, so rows leave the buffer only once they are stored.
            await self._database.run(
                lambda connection: history.append(connection, rows), deadline=deadline
            )
        except DatabaseAway:
            return
        stored = {row.id for row in rows}
        self._rows = deque((r for r in self._rows if r.id not in stored), maxlen=HISTORY_BUFFER)

    def _go(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _public(status: ChildStatus) -> dict[str, Any]:
    shown = asdict(status)
    cause, at = shown.pop("last_exit_cause"), shown.pop("last_exit_at")
    return {**shown, "last_exit": {"cause": cause, "at": at} if cause else None}


def _mb(held: int | None) -> float | None:
    return round(held / MIB, 1) if held is not None else None
