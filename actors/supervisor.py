"""The root of the tree: look at every child, judge, act.

The judgement is `supervise.step`; the hands are `runtime`; what is known of each child is in `charge.py`,
what is written down in `books.py`.  This module is the loop between them.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from actors import crash, memory, runtime
from actors.books import Adopted, Books, Key
from actors.charge import Charge, Life, mb
from actors.client import Gone, Tree, Unreachable
from actors.domain.models import ChildStatus
from actors.replay import Recorder
from actors.settings import Settings
from actors.store.database import Database, DatabaseAway
from actors.supervise import PLANNED, SERVING, Action, Cause, Phase, Verb, step
from actors.supervise import Child as Judged
from actors.tree import TREE

LOOK_EVERY = 0.25  # seconds
SLEPT = 2.0  # seconds between two looks that mean this process itself did not run
FLUSH_PAUSE = 0.2  # between two writes of history
TELL_WITHIN = 3.0  # below `runtime.CONTROL_WITHIN`, the patience of whoever asks

log = logging.getLogger("volaris.supervisor")


class Supervisor:
    """The root.

    Guarantees: one process per child serves at any time; a child's death, limit, hang or relief touches no
    other child; one planned replacement at a time; whatever it does to a child is a row of history, sooner
    or later.  When the root itself dies, Ray restarts it and it adopts the living children; it never
    restarts one for its own sake.
    """

    def __init__(self, settings: Settings, tree: Tree) -> None:  # noqa: ARG002  (every actor's signature)
        self._settings = settings
        self._wake = asyncio.Event()  # something happened: look now
        self._moved = (
            asyncio.Event()
        )  # a child has come up or gone down: whoever waits may ask again
        self._tasks: set[asyncio.Task[None]] = set()
        self._charges = {
            row.id: Charge(settings.settled(row), settings, self._wake, self._go) for row in TREE
        }
        self._database = Database.of(settings)
        self._books = Books(settings, self._database)
        specs = (charge.spec for charge in self._charges.values())
        record = settings.volaris_home / "logs" / "judgements.jsonl"
        self._recorder = Recorder(record, specs) if settings.volaris_record else None
        self._stopping = False

    async def start(self) -> None:
        """Adopt what lives, then watch."""
        await self._adopt()
        self._go(self._watch())
        self._go(self._keep_history())

    async def stop(self) -> None:
        """Drain and end every child, bottom to top, and write what history is left."""
        self._stopping = True
        for charge in reversed(self._charges.values()):
            await self._shut(charge)
        for task in self._tasks:
            task.cancel()
        self._books.write_snapshot(self._charges.values(), force=True)
        await self._books.flush(deadline=5.0)
        await self._database.close()

    # --- messages

    async def where(self, child: str) -> int:
        """Return the generation that answers for a child; wait a little while none does, then `Gone`.

        Whoever asks is told the moment it is up, so that nobody has to poll for it.
        """
        charge = self._charges.get(child)
        if charge is None:
            raise Unreachable(child, "there is no such child in the tree", 300.0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TELL_WITHIN):
                while charge.judged.phase not in (*SERVING, Phase.GAVE_UP):
                    await self._moved.wait()
        life = charge.serving
        if life is not None and life.ready and charge.judged.phase in SERVING:
            return life.generation
        if charge.judged.phase is Phase.GAVE_UP:
            left = max(charge.judged.deadline - time.monotonic(), 1.0)
            raise Unreachable(child, f"given up ({charge.judged.cause})", left)
        raise Gone(f"it is {charge.judged.phase} ({charge.judged.cause})")

    async def status(self) -> tuple[ChildStatus, ...]:
        """Return every child, top to bottom."""
        return tuple(charge.status() for charge in self._charges.values())

    async def history(self, limit: int, child: str | None = None) -> tuple[dict[str, Any], ...]:
        """Return the newest starts and stops first."""
        return await self._books.recent(limit, child)

    async def database(self) -> str | None:
        """Return why the database cannot be used, or None where it can."""
        try:
            await self._database.run(lambda c: c.execute("SELECT 1"), deadline=2.0)
        except DatabaseAway as e:
            return str(e)
        return None

    # --- look, judge, act

    async def _watch(self) -> None:
        looked_at = time.monotonic()
        while not self._stopping:
            now = time.monotonic()
            if now - looked_at > SLEPT:
                self._forgive_silence(now)
            looked_at = now
            turn, free = True, memory.free()
            for charge in self._charges.values():
                try:
                    self._attend(charge, turn=turn, free=free)
                except Exception:  # one child's fault must not end the watch over the others
                    log.exception("looking after %s failed", charge.id)
                turn = turn and charge.tried
            self._books.write_snapshot(self._charges.values())
            try:
                await asyncio.wait_for(self._wake.wait(), LOOK_EVERY)
            except TimeoutError:
                continue
            self._wake.clear()

    def _forgive_silence(self, now: float) -> None:
        """Give everyone a new start after a sleep of our own, in which nobody could be heard."""
        for charge in self._charges.values():
            for life in charge.lives:
                life.heard_at = now

    def _attend(self, charge: Charge, *, turn: bool, free: int) -> None:
        others = (other for other in self._charges.values() if other is not charge)
        quiet = not any(other.being_relieved for other in others)
        seen = charge.see(turn=turn, quiet=quiet, room=free > charge.spec.memory.soft)
        before, now = charge.judged, time.monotonic()
        charge.judged, actions = step(charge.spec, before, seen, now)
        after = charge.judged
        if self._recorder is not None:
            self._recorder.note(charge.id, before, seen, now, after, actions)
        if after.phase is not before.phase:
            self._wake.set()  # what is next may be due at once: it must not wait for the next look
        if after.phase is not before.phase and {after.phase, before.phase} != SERVING:
            charge.since = datetime.now(UTC)
            self._moved.set()
            self._moved = asyncio.Event()
            charge.tried = charge.tried or after.phase not in (Phase.STARTING, Phase.DRAINING)
        if charge.serving is not None and not seen.alive and before.phase is not Phase.DOWN:
            self._buried(charge, charge.serving, _end_of(before, after))
        if charge.leaver is not None and not charge.leaver.alive:
            self._buried(charge, charge.leaver, Cause.MEMORY_SOFT)
        for action in actions:
            self._act(charge, action)

    def _act(self, charge: Charge, action: Action) -> None:
        match action.verb:
            case Verb.START:
                first = charge.last_exit_cause is None and action.cause is Cause.BOOT
                if not first:
                    charge.count(charge.last_exit_cause or action.cause)
                charge.serving = charge.order(action.cause, self._ready(charge))
            case Verb.RELIEVE:
                if charge.serving is not None:
                    self._go(charge.trace(charge.serving))
                charge.relief = charge.order(action.cause, self._ready(charge))
                log.info("%s.%d is over its soft budget", charge.id, charge.generation - 1)
            case Verb.SWITCH:
                self._switch(charge, action.cause)
            case Verb.DRAIN:
                if charge.serving is not None:
                    charge.unserved_since = time.monotonic()
                    self._go(self._traced_drain(charge, charge.serving))
                    self._leak(charge)
            case Verb.KILL:
                if charge.serving is not None:
                    charge.serving.end()
                    self._buried(charge, charge.serving, action.cause)
            case Verb.KILL_RELIEF:
                if charge.relief is not None:
                    charge.detail = charge.relief.failed
                    charge.relief.end()
                    self._buried(charge, charge.relief, action.cause)
            case Verb.KILL_LEAVER:
                if charge.leaver is not None:
                    charge.leaver.end()
                    self._buried(charge, charge.leaver, action.cause)
            case Verb.GIVE_UP:
                self._given_up(charge, action.cause)

    def _switch(self, charge: Charge, cause: Cause) -> None:
        crash.point("supervisor.before_switch")
        old, charge.serving, charge.relief = charge.serving, charge.relief, None
        charge.count(cause)
        if charge.serving is not None and charge.serving.ready:
            charge.unserved_since = None
        if old is None or not old.alive:
            return
        charge.leaver = old
        charge.last_exit_cause, charge.last_exit_at = cause, datetime.now(UTC)
        crash.point("supervisor.after_switch")
        self._go(charge.drain(old))
        self._leak(charge)

    async def _traced_drain(self, charge: Charge, life: Life) -> None:
        await charge.trace(life)
        await charge.drain(life)

    def _leak(self, charge: Charge) -> None:
        if charge.note_relief():
            log.error("%s leaks: %s", charge.id, charge.leak)
            life = charge.leaver or charge.serving
            if life is not None:
                self._books.record(charge, life, "leak", Cause.MEMORY_SOFT, told=charge.leak)

    def _given_up(self, charge: Charge, cause: Cause) -> None:
        log.error(
            "%s gave up after %d failures in %g s (%s); next try in 5 minutes",
            charge.id,
            len(charge.judged.failures),
            charge.spec.intensity.seconds,
            cause,
        )
        life = charge.serving or Life(charge.generation, cause)
        self._books.record(charge, life, "gave_up", cause)

    def _ready(self, charge: Charge) -> Any:
        def note(life: Life) -> None:
            since = charge.unserved_since
            relief = life is charge.relief
            gap = time.monotonic() - since if since is not None and not relief else None
            if not relief:
                charge.unserved_since, charge.detail = None, None
            pid = life.process.pid if life.process else None
            log.info("%s.%d is up, pid %s", charge.id, life.generation, pid)
            self._books.record(charge, life, "start", life.cause, gap=0.0 if relief else gap)

        return note

    def _buried(self, charge: Charge, life: Life, cause: Cause) -> None:
        """Close the books of a process that has ended."""
        if life is charge.serving:
            charge.serving = None
            charge.unserved_since = charge.unserved_since or time.monotonic()
            charge.last_exit_cause, charge.last_exit_at = cause, datetime.now(UTC)
            charge.detail = life.failed
        elif life is charge.leaver:
            charge.leaver = None
        elif life is charge.relief:
            charge.relief = None
        log.log(
            logging.INFO if cause in PLANNED else logging.WARNING,
            "%s.%d ended: %s, %s MiB, after %.0f s%s",
            charge.id,
            life.generation,
            cause,
            mb(life.memory),
            life.age(),
            f" ({life.failed})" if life.failed else "",
        )
        self._books.record(charge, life, "stop", cause)
        crash.point("supervisor.after_burial")

    async def _shut(self, charge: Charge) -> None:
        for life in charge.lives:
            await charge.drain(life)
            life.end()
            self._books.record(charge, life, "stop", Cause.SHUTDOWN)
        charge.judged = replace(charge.judged, phase=Phase.DOWN, cause=Cause.SHUTDOWN)

    async def _adopt(self) -> None:
        """Take over the processes that outlived the root, and end those that nobody asks for any more.

        Of two of a child the older one serves: a successor that had not taken over will be ordered again.
        One that was told to drain finishes its work as the leaver it is.
        """
        before = self._books.before()
        for child, counted in (await self._books.counts()).items():
            if charge := self._charges.get(child):
                charge.restarts, charge.replacements = counted.restarts, counted.replacements
                charge.last_exit_cause, charge.last_exit_at = counted.last_cause, counted.last_at
                charge.generation = counted.generation
        for child, generation in before.generations.items():
            if charge := self._charges.get(child):
                charge.generation = max(charge.generation, generation)
        ended: dict[Key, Cause] = {}
        for process in await runtime.roll_call():
            key = process.child, process.generation
            if why := self._unadopted(process, before.processes.get(key, {})):
                ended[key] = why
                runtime.kill(process)
        alive = {(c.id, life.generation) for c in self._charges.values() for life in c.lives}
        newest = {charge.id: charge.generation for charge in self._charges.values()}
        unheard = Cause.CRASH if before.head in (None, runtime.head()) else Cause.HEAD_LOST

        def why_ended(child: str, generation: int) -> Cause:
            ending = before.processes.get((child, generation), {}).get("ending")
            if runtime.last_words(self._settings, child, generation) is not None:
                return Cause.MEMORY_HARD
            return ended.get((child, generation)) or Cause(ending or unheard)

        for (child, generation), one in before.processes.items():
            if one["role"] == "serving" and (child, generation) not in alive:
                self._bereave(self._charges[child], why_ended(child, generation))
        self._books.adopted(before, Adopted(alive, newest, why_ended))

    def _unadopted(self, process: runtime.Process, remembered: Mapping[str, Any]) -> Cause | None:
        """Take a process over; return why not, where it is to end."""
        charge = self._charges.get(process.child)
        if charge is None:
            return Cause.SHUTDOWN
        charge.generation = max(charge.generation, process.generation)  # no name is used twice
        now = time.monotonic()
        if process.pid is None:  # so hung that it does not even tell its pid
            process.pid, process.node = remembered.get("pid"), remembered.get("node")
            return Cause.HANG
        if (charge.leaver if process.draining else charge.serving) is not None:
            return Cause.MEMORY_SOFT if process.draining else Cause.RELIEF_FAILED
        life = charge.adopt(process, self._ready(charge))
        life.ordered_at = remembered.get("ordered_at", now)
        life.cause = Cause(remembered.get("cause", Cause.BOOT))
        if process.draining:
            charge.leaver = life
            charge.judged = replace(charge.judged, leaver_until=now + charge.spec.drain)
            self._go(charge.drain(life))
            return None
        charge.serving, charge.tried = life, True
        charge.judged = replace(
            charge.judged, phase=Phase.STARTING, born=now, deadline=now + charge.spec.ready_within
        )
        return None

    def _bereave(self, charge: Charge, cause: Cause) -> None:
        """Note that who served a child has ended while there was no root."""
        charge.last_exit_cause, charge.last_exit_at = cause, datetime.now(UTC)
        if charge.serving is not None:  # its successor was on the way
            charge.count(cause)
        else:
            charge.judged = replace(charge.judged, cause=cause)

    async def _keep_history(self) -> None:
        while True:
            await self._books.waiting.wait()
            await self._books.flush(deadline=20.0)
            await asyncio.sleep(FLUSH_PAUSE)

    def _go(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _end_of(before: Judged, after: Judged) -> Cause:
    """Return why a serving process that was found dead has ended."""
    if before.phase is Phase.DRAINING:
        return before.cause
    return after.cause
