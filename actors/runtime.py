"""The only module that speaks to Ray: start a process, look at it, ask it, drain it, kill it.

Ray runs processes and carries messages; every judgement about them is elsewhere.  Children run with
`max_restarts=0`, so that there is one authority; only the root is restarted by Ray itself.
"""

import asyncio
import contextlib
import importlib
import json
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import ray
from ray import exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors import memory
from actors.client import Gone, Tree
from actors.settings import Settings
from actors.spec import MIB, Child
from actors.tree import ROOT

NAMESPACE = "volaris"
ROOT_NAME = f"{NAMESPACE}.{ROOT.id}"
# The host's name, not Ray's node id: what counts is whose /proc one can see.
NODE = socket.gethostname()
GUARD_EVERY = 0.1  # seconds; at 200 MB/s a leak overshoots by 20 MB
OUTSIDE_EVERY = 0.2  # with the time a shell takes, as often as the root looks
BEAT_EVERY = 0.25
MOST_SITES = 10
RESOURCE_SHARE = (
    0.001  # what one process takes of the resource that places it: a node may hold many
)
CONTROL_WITHIN = 5.0  # seconds for the small questions to Ray or to a healthy mailbox

log = logging.getLogger("volaris.runtime")

# What these mean is the same for a caller: that process will not answer; maybe it did the work.
LOST = (
    exceptions.RayActorError,
    exceptions.ActorUnavailableError,
    exceptions.ObjectLostError,
    exceptions.WorkerCrashedError,
    exceptions.RaySystemError,
    exceptions.TaskCancelledError,
    exceptions.NodeDiedError,
)


def slim_head(params: Any, head: bool) -> None:  # noqa: FBT001  (Ray's signature)
    """Leave out what nobody uses of a Ray head: the autoscaler monitor and the Ray-client server (93 MB).

    Called by `ray start` through RAY_START_HOOK; there is no flag for either (facts: ray.md section 1).
    """
    if head:
        params.no_monitor = True
        params.ray_client_server_port = None


# --- inside the process of an actor ------------------------------------------------------------------


class Host:
    """The Ray actor that hosts one plain class: a mailbox on Ray's thread, the class on a loop of its own.

    Life cycle: construction orders `Class(settings, tree).start()`; `hello` answers at once, `started`
    when the class is up; `ask` carries messages; `drain` refuses new ones, waits for those in hand and
    calls `stop()`.  Because the class has its own event loop, `pulse` answers even while that one is
    blocked.  A guard thread ends the process above its hard budget, whatever the loop is doing; a C call
    that holds the GIL stops it, and then a look from outside must do: the root's, or, on another node
    than the root's, that of a shell beside the process.
    """

    def __init__(
        self, child: Child, generation: int, hard: int, settings: Settings, root_on: str
    ) -> None:
        self._child, self._settings = child, settings
        self._generation = generation
        self._in_hand: set[asyncio.Task[Any]] = set()
        self._closing = False
        self._beat = time.monotonic()
        if settings.volaris_trace_memory:
            tracemalloc.start()
        _log_to(settings, child.id)
        _offer_to_the_kernel(child)
        threading.Thread(target=self._guard, args=(hard,), daemon=True, name="guard").start()
        if root_on != NODE:
            _guard_from_outside(hard, _words_file(settings, f"{child.id}.{generation}"))
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, daemon=True, name=child.id).start()
        self._born = asyncio.run_coroutine_threadsafe(self._start(), self._loop)

    async def hello(self) -> tuple[int, str, bool]:
        """Return (pid, node, whether it is draining)."""
        return os.getpid(), NODE, self._closing

    async def started(self) -> None:
        """Return once the hosted class is up; raises what its start raised."""
        await asyncio.shield(asyncio.wrap_future(self._born))

    async def pulse(self) -> tuple[int, float]:
        """Return (private memory in bytes, seconds since the hosted class's loop last moved)."""
        return memory.private(os.getpid()) or 0, time.monotonic() - self._beat

    async def sites(self) -> list[str]:
        """Return where most of the memory was allocated: `file:line, MiB`, if it is traced."""
        return await asyncio.to_thread(_sites)

    async def death(self) -> None:
        """Never return: the call fails when the process dies, which is how its death is heard of."""
        await asyncio.Event().wait()

    async def ask(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the hosted class's answer to one message."""
        if self._closing:
            raise Gone(f"{self._child.id}.{self._generation} is draining")
        return await self._there(self._answer(method, args, kwargs))

    async def drain(self) -> None:
        """Refuse new messages, finish those in hand, and stop the hosted class."""
        self._closing = True
        await self._there(self._finish())

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._tick()
        self._loop.run_forever()

    def _tick(self) -> None:
        self._beat = time.monotonic()
        self._loop.call_later(BEAT_EVERY, self._tick)

    async def _start(self) -> None:
        module, _, name = self._child.start.partition(":")
        # Imported here, so that a module that cannot be imported is a start that failed with a reason.
        hosted = getattr(importlib.import_module(module), name)
        self._hosted = hosted(self._settings, Tree(Line()))
        await self._hosted.start()

    async def _answer(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        await asyncio.wrap_future(self._born)
        if method.startswith("_"):
            raise AttributeError(f"{self._child.id} takes no message {method!r}")
        task = asyncio.ensure_future(getattr(self._hosted, method)(*args, **kwargs))
        self._in_hand.add(task)
        try:
            return await task
        finally:
            self._in_hand.discard(task)

    async def _finish(self) -> None:
        if self._born.done() and self._born.exception() is None:
            await asyncio.gather(*self._in_hand, return_exceptions=True)
            await self._hosted.stop()

    async def _there(self, work: Coroutine[Any, Any, Any]) -> Any:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def _guard(self, hard: int) -> None:
        pid = os.getpid()
        while True:
            # Out of files or of memory it sees nothing for a while; it must not end of that.
            with contextlib.suppress(OSError, MemoryError):
                held = memory.private(pid) or 0
                if held > hard:
                    try:
                        _last_words(self._settings, f"{self._child.id}.{self._generation}", held)
                    finally:
                        os._exit(1)
            time.sleep(GUARD_EVERY)


def _log_to(settings: Settings, child: str) -> None:
    folder = settings.volaris_home / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(folder / f"{child}.log", maxBytes=4 << 20, backupCount=2)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=settings.volaris_log_level, handlers=[handler], force=True)
    logging.getLogger("httpx").setLevel(
        logging.WARNING
    )  # it logs URLs, and some vendors' hold keys


def _sites() -> list[str]:
    if not tracemalloc.is_tracing():
        return []
    found = tracemalloc.take_snapshot().statistics("lineno")[:MOST_SITES]
    return [
        f"{site.traceback[0].filename}:{site.traceback[0].lineno}, {site.size / MIB:.1f} MiB"
        for site in found
    ]


def _offer_to_the_kernel(child: Child) -> None:
    """Make any child, and neither the root nor the database, the kernel's choice when memory runs out.

    Ray offers all its workers alike, the root among them: that one takes the raylet's place instead.
    """
    offer = "1000"
    with contextlib.suppress(OSError):
        if child.id == ROOT.id:
            offer = Path(f"/proc/{os.getppid()}/oom_score_adj").read_text()
        Path("/proc/self/oom_score_adj").write_text(offer)


# A shell costs 0.25 MB and half a per cent of a core; it ends with the process it looks at.
OUTSIDE = """\
while sleep "$4"; do
  held=0
  while read -r key kib _; do
    case $key in RssAnon:|VmSwap:) held=$((held + kib)) ;; esac
  done < "/proc/$1/status" || exit
  if [ "$held" -gt "$2" ]; then
    echo "{\\"memory\\": $((held * 1024))}" > "$3"
    exec kill -9 "$1"
  fi
done
"""


def _guard_from_outside(hard: int, words: Path) -> None:
    told = (os.getpid(), hard // 1024, words, OUTSIDE_EVERY)
    subprocess.Popen(
        ["sh", "-c", OUTSIDE, "guard", *map(str, told)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _words_file(settings: Settings, name: str) -> Path:
    return settings.volaris_home / "run" / f"{name}.last-words"


def _last_words(settings: Settings, name: str, held: int) -> None:
    # Ray tells nobody the exit code of an actor, so the reason is left in a file.
    with contextlib.suppress(OSError):
        _words_file(settings, name).write_text(json.dumps({"memory": held}))


# --- from outside ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Process:
    """One process of a child, living or dead, as its supervisor holds it."""

    child: str
    generation: int
    handle: Any = field(repr=False)
    pid: int | None = None
    node: str | None = None
    draining: bool = False

    @property
    def name(self) -> str:
        """Return the name Ray knows it by."""
        return name_of(self.child, self.generation)

    @property
    def local(self) -> bool:
        """Tell whether it runs on this node, so that it can be looked at and killed directly."""
        return self.node == NODE


def head() -> str:
    """Return what tells one Ray head from the next: the id of the node the root runs on."""
    return str(ray.get_runtime_context().get_node_id())


def name_of(child: str, generation: int) -> str:
    """Return the name Ray knows a process by; names cannot be moved, so the generation is part of it."""
    return f"{NAMESPACE}.{child}.{generation}"


async def spawn(child: Child, generation: int, hard: int, settings: Settings) -> Process:
    """Order a new process of a child; it has no pid before `meet`."""
    name = name_of(child.id, generation)
    _words_file(settings, f"{child.id}.{generation}").unlink(missing_ok=True)
    handle = await asyncio.to_thread(
        ray.remote(Host)
        .options(
            name=name,
            namespace=NAMESPACE,
            lifetime="detached",
            num_cpus=0,
            max_restarts=0,
            max_task_retries=0,
            **_place(child),
        )
        .remote,
        child,
        generation,
        hard,
        settings,
        NODE,
    )
    return Process(child.id, generation, handle)


def _place(child: Child) -> dict[str, Any]:
    """Return Ray's words for where a process may run: beside us, unless its row names a resource."""
    if child.place:
        return {"resources": {child.place: RESOURCE_SHARE}}
    here = ray.get_runtime_context().get_node_id()
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(here, soft=False)}


async def meet(process: Process, seconds: float) -> None:
    """Return once the process has told who it is; `TimeoutError` when it does not."""
    told = await _answer(process.handle.hello.remote(), seconds)
    process.pid, process.node, process.draining = told


async def started(process: Process, seconds: float) -> None:
    """Return once the child is up; raises what its start raised, or `Gone`."""
    await _answer(process.handle.started.remote(), seconds)


async def death(process: Process) -> None:
    """Return when the process is dead (heard of within about 10 ms)."""
    with contextlib.suppress(Gone):
        await _answer(process.handle.death.remote(), None)


async def drain(process: Process, seconds: float) -> None:
    """Return when the child has finished its work in hand and stopped; `TimeoutError` when late."""
    await _answer(process.handle.drain.remote(), seconds)


async def pulse(process: Process) -> tuple[int, float]:
    """Return (private memory in bytes, lag of the child's loop in seconds)."""
    memory_and_lag: tuple[int, float] = await _answer(process.handle.pulse.remote(), CONTROL_WITHIN)
    return memory_and_lag


async def sites(process: Process) -> list[str]:
    """Return where most of the child's memory was allocated, if it is traced."""
    found: list[str] = await _answer(process.handle.sites.remote(), CONTROL_WITHIN)
    return found


def kill(process: Process) -> None:
    """End a process now; one that is stopped or blocked dies too."""
    if process.pid is not None and process.local:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    with contextlib.suppress(exceptions.RayError, ValueError):
        ray.kill(process.handle, no_restart=True)


def last_words(settings: Settings, child: str, generation: int) -> int | None:
    """Return the private memory (bytes) at which the guard ended a process, if it did."""
    try:
        words = json.loads(_words_file(settings, f"{child}.{generation}").read_text())
        return int(words["memory"])
    except (OSError, ValueError, KeyError):
        return None


async def roll_call() -> list[Process]:
    """Return the children's processes that live now, oldest generation first.

    One that does not answer comes without a pid: it is hung, and its name must be freed all the same.
    """
    names = await asyncio.to_thread(ray.util.list_named_actors)
    found = []
    for name in names:
        _, _, rest = name.partition("volaris.")
        child, _, generation = rest.rpartition(".")
        if not child or not generation.isdigit():
            continue
        with contextlib.suppress(Gone, ValueError):
            handle: Any = await asyncio.to_thread(ray.get_actor, name, namespace=NAMESPACE)
            process = Process(child, int(generation), handle)
            with contextlib.suppress(TimeoutError):
                await meet(process, CONTROL_WITHIN)
            found.append(process)
    return sorted(found, key=lambda process: process.generation)


class Line:
    """`client.Line` over Ray: finds the living process behind a name and asks it once."""

    def __init__(self) -> None:
        self._handles: dict[str, Any] = {}

    async def ask(
        self, child: str, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], seconds: float
    ) -> Any:
        """Return the child's answer; `Gone` where no process took it or it died, `TimeoutError` when late."""
        async with asyncio.timeout(seconds):
            handle = self._handles.get(child) or await self._find(child)
            try:
                return await _answer(handle.ask.remote(method, args, kwargs), None)
            except Gone:
                self._handles.pop(child, None)
                raise

    async def _find(self, child: str) -> Any:
        try:
            name = ROOT_NAME
            if child != ROOT.id:
                generation = await self.ask(ROOT.id, "where", (child,), {}, CONTROL_WITHIN)
                name = name_of(child, generation)
            handle = await asyncio.to_thread(ray.get_actor, name, namespace=NAMESPACE)
        except TimeoutError:
            raise Gone("the supervisor did not say where it is") from None
        except ValueError:
            raise Gone(f"{name} has no process") from None
        self._handles[child] = handle
        return handle


async def _answer(reference: Any, seconds: float | None) -> Any:
    """Await one call; Ray's errors become ours, and a call given up is cancelled in the actor too."""
    answer: Awaitable[Any] = asyncio.wrap_future(reference.future())
    try:
        return await (answer if seconds is None else asyncio.wait_for(answer, seconds))
    except (TimeoutError, asyncio.CancelledError):
        ray.cancel(reference)
        raise
    except exceptions.RayTaskError as e:
        raise e.cause from None
    except LOST as e:
        raise Gone(f"its process died ({type(e).__name__})") from None


# --- the boot program's two short visits -------------------------------------------------------------


def main() -> None:
    """`up`: start the root and wait until it is up; `down`: drain the tree and end the root.

    A process of its own, because the boot program stays, and Ray in it would cost 60 MB for good.
    Reads (verb, Ray address, settings) pickled from standard input.
    """
    verb, address, settings = pickle.load(sys.stdin.buffer)  # noqa: S301  (our parent wrote it)
    ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    try:
        asyncio.run(_up(settings) if verb == "up" else _down())
    except Exception as e:  # noqa: BLE001  (the last frame: our parent wants one sentence)
        sys.exit(f"{type(e).__name__}: {e}")


async def _up(settings: Settings) -> None:
    root: Any = (
        ray.remote(Host)
        .options(
            name=ROOT_NAME,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=0,
            # It reads its children's /proc and writes into the home: it stays on this machine.
            **_place(ROOT),
        )
        .remote(ROOT, 0, settings.budget(ROOT).hard, settings, NODE)
    )
    await _answer(root.started.remote(), ROOT.ready_within)


async def _down() -> None:
    with contextlib.suppress(ValueError, Gone):
        root: Any = ray.get_actor(ROOT_NAME, namespace=NAMESPACE)
        await _answer(root.drain.remote(), ROOT.drain)
        ray.kill(root, no_restart=True)
