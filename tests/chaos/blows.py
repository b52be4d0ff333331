"""Ways to hurt a living child, sent into its process over Ray; nothing of them is in the product.

Each runs on the mailbox's thread of `runtime.Host`, and acts on the loop of the hosted class where that
is what must suffer.
"""

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time

import ray


def grow(kept, mib, seconds):
    """Grow by so many MiB, evenly, over so many seconds."""
    began = time.monotonic()
    for n in range(1, mib + 1):
        kept.append(bytearray(b"x") * (1 << 20))
        time.sleep(max(began + n * seconds / mib - time.monotonic(), 0))


def leak(self, mib, seconds):
    """Grow by so many MiB, evenly, over so many seconds, and keep it."""
    kept = self.__dict__.setdefault("_leaked", [])
    threading.Thread(target=grow, args=(kept, mib, seconds), daemon=True).start()


def balloon(self, mib):
    """Take so many MiB in one go."""

    def take():
        self._leaked = bytearray(b"x") * (mib << 20)

    threading.Thread(target=take, daemon=True).start()


def block_loop(self):
    """Block the event loop of the hosted class for good."""
    self._loop.call_soon_threadsafe(time.sleep, 3600)


def block_loop_and_leak(self, mib, seconds):
    """Leak from within the blocked loop itself."""

    def hold():
        grow(kept := [], mib, seconds)
        time.sleep(3600)
        kept.clear()

    self._loop.call_soon_threadsafe(hold)


def receive_in_c(self, port, mib):
    """Fill memory from a socket within a single C call that holds the GIL, as fast as the sender sends."""
    import ctypes
    import mmap

    def receive():
        page = mmap.mmap(-1, mib << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        sender = socket.create_connection(("127.0.0.1", port))
        where = ctypes.addressof(ctypes.c_char.from_buffer(page))
        ctypes.PyDLL(None).recv(
            sender.fileno(), ctypes.c_void_p(where), ctypes.c_size_t(mib << 20), socket.MSG_WAITALL
        )

    self._loop.call_soon_threadsafe(receive)


def hold_gil(self):
    """Hold the GIL in C for good: no thread of the process runs any more."""
    import ctypes

    self._loop.call_soon_threadsafe(ctypes.PyDLL(None).sleep, 3600)


def time_looks(self, times):
    """Return what looks cost in the root, in CPU seconds: (at one child, a whole round)."""
    import asyncio

    from actors import memory

    root, one, whole = self._hosted, [], []

    async def look():
        for _ in range(times):
            round_began = time.thread_time()
            free = memory.free()
            for charge in root._charges.values():
                began = time.thread_time()
                root._attend(charge, turn=True, free=free)
                one.append(time.thread_time() - began)
            root._books.write_snapshot(root._charges.values())
            whole.append(time.thread_time() - round_began)
            await asyncio.sleep(0.001)

    asyncio.run_coroutine_threadsafe(look(), self._loop).result()
    return one, whole


def run_out_of_files(self, seconds):
    """Let the process open no file for a while."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    time.sleep(seconds)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def exit_now(self):
    """Leave without a word."""
    import os

    self._loop.call_soon_threadsafe(os._exit, 0)


def read_array(self, boxed):
    """Hold a shared array: its pages are the object store's, not this process's."""
    array = ray.get(boxed[0])
    self._held = array
    return float(array.sum())


class Sender:
    """Sends so many MiB to whoever connects, so many a second, until they hang up."""

    def __init__(self, mib, rate):
        self.mib, self.rate = mib, rate
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            taker, _ = self.listener.accept()
            with taker, contextlib.suppress(OSError):
                began, block = time.monotonic(), b"x" * (1 << 20)
                for n in range(1, self.mib + 1):
                    taker.sendall(block)
                    time.sleep(max(began + n / self.rate - time.monotonic(), 0))


def name_of(tree, child):
    """Return the name by which Ray knows who serves."""
    if child == "supervisor":
        return "volaris.supervisor"
    return f"volaris.{child}.{tree.children()[child]['generation']}"


class Ray:
    """A connection to a tree's own Ray, for blows and for asking as the edges ask."""

    def __init__(self, tree):
        ray.init(
            address=tree.file("run.json")["ray"],
            namespace="volaris",
            log_to_driver=False,
            logging_level="ERROR",
        )
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        self.tree = tree

    def handle(self, child):
        return ray.get_actor(name_of(self.tree, child))

    def blow(self, child, how, *args):
        """Hurt a child; one that dies of it at once does not answer."""
        answer = self.handle(child).__ray_call__.remote(how, *args)
        try:
            return ray.get(answer, timeout=10)
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
            return None

    def close(self):
        ray.shutdown()


def apart(tree, child, how, *args):
    """Hurt a child from a process of its own: Ray may end a driver whose head has died under it."""
    told = json.dumps([str(tree.home), name_of(tree, child), how.__name__, args])
    with contextlib.suppress(subprocess.TimeoutExpired):  # what hangs is the victim
        subprocess.run([sys.executable, "-m", "tests.chaos.blows", told], timeout=60, check=True)


if __name__ == "__main__":
    home, name, how, args = json.loads(sys.argv[1])
    with open(f"{home}/run/run.json") as run:
        ray.init(
            address=json.load(run)["ray"],
            namespace="volaris",
            log_to_driver=False,
            logging_level="ERROR",
        )
    victim = ray.get_actor(name)
    with contextlib.suppress(ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
        ray.get(victim.__ray_call__.remote(globals()[how], *args), timeout=10)
