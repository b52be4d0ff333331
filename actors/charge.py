"""One child in the root's charge: its processes as they are, what a look finds of them, and their books.

The judgement over them is `supervise.step`; who calls it, and obeys, is `supervisor.py`.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from actors import memory, runtime
from actors.client import Gone
from actors.domain.models import ChildStatus
from actors.settings import Settings
from actors.spec import MIB, Child
from actors.supervise import PLANNED, SERVING, Cause, Phase, Relief, Seen
from actors.supervise import Child as Judged

PULSE_EVERY = 1.0  # seconds
SAMPLE_EVERY = 5.0
SAMPLES = 720  # an hour
FEWEST_SAMPLES = 12  # a minute; below that a slope says nothing
LEAK_RATE = 6  # planned replacements an hour above which a person is told
HOUR = 3600.0

log = logging.getLogger("volaris.supervisor")

Spawn = Callable[[Coroutine[Any, Any, None]], None]


@dataclass(slots=True, eq=False)
class Life:
    """One process of a child, from the order to start it until it is known to be dead."""

    generation: int
    cause: Cause  # why it was ordered
    ordered_at: float = field(default_factory=time.monotonic)
    process: runtime.Process | None = None  # None until Ray has made it
    alive: bool = True  # ordered: it lives until it is known to be dead
    ready: bool = False
    failed: str | None = None  # what its start said
    memory: int | None = None
    heard_at: float = field(default_factory=time.monotonic)  # when its loop was last known to move
    drain_begun: float | None = None
    found: bool = False  # adopted: another root has ordered it
    samples: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    sites: list[str] = field(default_factory=list)  # where its memory was allocated, if traced

    def age(self) -> float:
        """Return the seconds since it was ordered."""
        return time.monotonic() - self.ordered_at

    def look(self) -> None:
        """Read its memory, where it is on this machine and has a pid."""
        process = self.process
        if self.alive and process is not None and process.pid is not None and process.local:
            self.note(memory.private(process.pid))

    def note(self, held: int | None) -> None:
        """Note its memory, and keep a sample now and then."""
        if held is None:
            return
        self.memory = held
        now = time.monotonic()
        if self.ready and (not self.samples or now - self.samples[-1][0] >= SAMPLE_EVERY):
            self.samples.append((now, held))

    def growth(self) -> float | None:
        """Return how fast its memory grows, in MiB an hour (least squares over the last hour)."""
        n = len(self.samples)
        if n < FEWEST_SAMPLES:
            return None
        times, held = zip(*self.samples, strict=True)
        mean_t, mean_m = sum(times) / n, sum(held) / n
        spread = sum((t - mean_t) ** 2 for t in times)
        slope = sum((t - mean_t) * (m - mean_m) for t, m in self.samples) / spread
        return float(slope * HOUR / MIB)

    def relief(self) -> Relief:
        """Return what this life is worth as a successor."""
        if not self.alive:
            return Relief.NONE
        if self.failed is not None:
            return Relief.UNFIT
        return Relief.READY if self.ready else Relief.COMING

    def end(self) -> None:
        """Kill its process; one that Ray is still making is killed when it is made."""
        self.alive = self.ready = False
        if self.process is not None:
            runtime.kill(self.process)


class Charge:
    """One row of the tree, and the up to three processes behind it."""

    def __init__(self, spec: Child, settings: Settings, wake: asyncio.Event, spawn: Spawn) -> None:
        self.spec = spec
        self.judged = Judged()
        self.serving: Life | None = None
        self.relief: Life | None = None
        self.leaver: Life | None = None
        self.generation = 0  # the newest that was ordered
        self.tried = False  # has been up, or has failed, once: the next in order may start
        self.restarts = 0
        self.replacements = 0
        self.since = datetime.now(UTC)
        self.unserved_since: float | None = None
        self.last_exit_cause: str | None = None
        self.last_exit_at: datetime | None = None
        self.detail: str | None = None
        self.relieved_at: deque[float] = deque(maxlen=64)
        self.leak: str | None = None
        self._settings, self._wake, self._spawn = settings, wake, spawn

    @property
    def id(self) -> str:
        """Return the child's name."""
        return self.spec.id

    @property
    def lives(self) -> tuple[Life, ...]:
        """Return its processes that live."""
        three = (self.serving, self.relief, self.leaver)
        return tuple(life for life in three if life is not None and life.alive)

    @property
    def being_relieved(self) -> bool:
        """Tell whether a planned replacement is going on."""
        return (
            self.judged.phase in (Phase.RELIEVING, Phase.DRAINING)
            or self.judged.leaver_until is not None
        )

    def order(self, cause: Cause, on_ready: Callable[[Life], None]) -> Life:
        """Order a new process and return its life."""
        self.generation += 1
        life = Life(self.generation, cause)
        self._spawn(self._raise(life, on_ready))
        return life

    def adopt(self, process: runtime.Process, on_ready: Callable[[Life], None]) -> Life:
        """Take over a process that another root has started."""
        life = Life(process.generation, Cause.BOOT, process=process, found=True)
        self.generation = max(self.generation, process.generation)
        self._spawn(self._until_ready(life, on_ready))
        self._spawn(self._until_dead(life))
        self._spawn(self._listen(life))
        return life

    def see(self, *, turn: bool, quiet: bool, room: bool) -> Seen:
        """Look at every process of this child."""
        for life in self.lives:
            life.look()
        serving, relief, leaver = self.serving, self.relief, self.leaver
        if relief is not None and (relief.memory or 0) > self.spec.memory.hard:
            relief.failed = relief.failed or "over its hard budget before it could take over"
        alive = serving is not None and serving.alive
        return Seen(
            alive=alive,
            ready=alive and serving is not None and serving.ready,
            failed=serving is not None and serving.failed is not None,
            memory=serving.memory if serving is not None and alive else None,
            silent=time.monotonic() - serving.heard_at if serving is not None and alive else 0.0,
            last_words=self._last_words(serving) if serving is not None and not alive else None,
            relief=relief.relief() if relief is not None else Relief.NONE,
            leaver=leaver is not None and leaver.alive,
            leaver_memory=leaver.memory if leaver is not None and leaver.alive else None,
            turn=turn,
            quiet=quiet,
            room=room,
            luck=random.random(),  # noqa: S311  (spreads restarts, guards nothing)
        )

    def _last_words(self, life: Life) -> Cause | None:
        # Even one that died before it had told its pid may have left a word.
        held = runtime.last_words(self._settings, self.id, life.generation)
        if held is None:
            return None
        life.memory = held
        return Cause.MEMORY_HARD

    async def _raise(self, life: Life, on_ready: Callable[[Life], None]) -> None:
        try:
            process = await runtime.spawn(
                self.spec, life.generation, self.spec.memory.hard, self._settings
            )
            life.process = process
            if not life.alive:  # ended while Ray was making it
                runtime.kill(process)
                return
            self._spawn(self._until_dead(life))
            await runtime.meet(process, self.spec.ready_within)
        except Gone:
            life.alive = False
        except Exception as e:  # noqa: BLE001  (whatever Ray says, this start has failed)
            life.failed = f"{type(e).__name__}: {e}"
        else:
            life.heard_at = time.monotonic()
            self._spawn(self._listen(life))
            await self._until_ready(life, on_ready)
        finally:
            self._wake.set()

    async def _until_ready(self, life: Life, on_ready: Callable[[Life], None]) -> None:
        assert life.process is not None
        try:
            await runtime.started(life.process, self.spec.ready_within)
        except Gone:
            life.alive = False
        except Exception as e:  # noqa: BLE001  (what a child's start raises is that child's failure)
            life.failed = f"{type(e).__name__}: {e}"
        else:
            if life.alive:
                life.ready, life.heard_at = True, time.monotonic()
                on_ready(life)
        finally:
            self._wake.set()

    async def _until_dead(self, life: Life) -> None:
        assert life.process is not None
        await runtime.death(life.process)
        life.alive = life.ready = False
        self._wake.set()

    async def _listen(self, life: Life) -> None:
        """Feel its pulse: it proves that the loop of the hosted class still moves."""
        assert life.process is not None
        while life.alive:
            with contextlib.suppress(Gone, TimeoutError):
                held, lag = await runtime.pulse(life.process)
                life.heard_at = time.monotonic() - lag
                if not life.process.local:
                    life.note(held)
            await asyncio.sleep(PULSE_EVERY)

    async def drain(self, life: Life) -> None:
        """Let a process finish its work in hand and end it; the judgement ends one that takes too long."""
        if not life.alive or life.process is None or life.process.pid is None:
            life.end()  # dead, or has never been met: there is no work in hand
            return
        life.drain_begun = time.monotonic()
        try:
            await runtime.drain(life.process, self.spec.drain)
        except (Gone, TimeoutError):
            return
        except Exception:
            log.warning("%s did not stop cleanly", life.process.name, exc_info=True)
        runtime.kill(life.process)

    async def trace(self, life: Life) -> None:
        """Ask a bloated process where its memory was allocated, where that is traced."""
        if self._settings.volaris_trace_memory and life.process is not None:
            with contextlib.suppress(Gone, TimeoutError):
                life.sites = await runtime.sites(life.process)

    def note_relief(self) -> bool:
        """Note a planned replacement; return whether that makes a leak that nobody was told of."""
        now = time.monotonic()
        self.relieved_at.append(now)
        recent = sum(at > now - HOUR for at in self.relieved_at)
        if recent <= LEAK_RATE:
            self.leak = None
            return False
        told, life = self.leak is not None, self.leaver or self.serving
        growth = life.growth() if life else None
        self.leak = f"relieved {recent} times within an hour"
        self.leak += f", grows {growth:.0f} MiB an hour" if growth is not None else ""
        self.leak += f", most of it from {life.sites[0]}" if life and life.sites else ""
        return not told

    def status(self) -> ChildStatus:
        """Return the child as the world sees it."""
        life = self.serving if self.serving is not None and self.serving.alive else None
        process = life.process if life is not None else None
        waits = self.judged.phase in (Phase.DOWN, Phase.GAVE_UP)
        left = max(self.judged.deadline - time.monotonic(), 0)
        return ChildStatus(
            id=self.id,
            state="up" if self.judged.phase in SERVING else self.judged.phase,
            pid=process.pid if process else None,
            node=process.node if process else None,
            generation=life.generation if life is not None else self.generation,
            restarts=self.restarts,
            replacements=self.replacements,
            memory_mb=mb(life.memory) if life is not None else None,
            soft_mb=self.spec.memory.soft // MIB,
            hard_mb=self.spec.memory.hard // MIB,
            since=self.since,
            last_exit_cause=self.last_exit_cause,
            last_exit_at=self.last_exit_at,
            retry_at=datetime.now(UTC) + timedelta(seconds=left) if waits else None,
            detail=self.detail,
            leak=self.leak,
            relief=self.relief.process.pid if self.relief and self.relief.process else None,
        )

    def count(self, cause: str) -> None:
        """Count one process that took the place of another."""
        if cause in PLANNED:
            self.replacements += 1
        else:
            self.restarts += 1


def mb(held: int | None) -> float | None:
    """Return bytes as MiB to one place."""
    return round(held / MIB, 1) if held is not None else None
