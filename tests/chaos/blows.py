"""Ways to hurt a living child, sent into its process over Ray; nothing of them is in the product.

Each runs on the mailbox's thread of `runtime.Host`, and acts on the loop of the hosted class where that
is what must suffer.
"""

import ray


def leak(self, mib, seconds):
    """Grow by so many MiB, evenly, over so many seconds, and keep it."""
    import threading
    import time

    def grow():
        kept = self.__dict__.setdefault("_leaked", [])
        for _ in range(mib):
            kept.append(bytearray(b"x") * (1 << 20))
            time.sleep(seconds / mib)

    threading.Thread(target=grow, daemon=True).start()


def balloon(self, mib):
    """Take so many MiB in one go."""
    import threading

    def take():
        self._leaked = bytearray(b"x") * (mib << 20)

    threading.Thread(target=take, daemon=True).start()


def block_loop(self):
    """Block the event loop of the hosted class for good."""
    import time

    self._loop.call_soon_threadsafe(time.sleep, 3600)


def block_loop_and_leak(self, mib):
    """Leak from within the blocked loop itself."""
    import time

    def hold():
        kept = []
        for _ in range(mib):
            kept.append(bytearray(b"x") * (1 << 20))
            time.sleep(0.005)
        time.sleep(3600)

    self._loop.call_soon_threadsafe(hold)


def hold_gil(self):
    """Hold the GIL in C for good: no thread of the process runs any more."""
    import ctypes

    self._loop.call_soon_threadsafe(ctypes.PyDLL(None).sleep, 3600)


def exit_now(self):
    """Leave without a word."""
    import os

    self._loop.call_soon_threadsafe(os._exit, 0)


def read_array(self, boxed):
    """Hold a shared array: its pages are the object store's, not this process's."""
    array = ray.get(boxed[0])
    self._held = array
    return float(array.sum())


class Ray:
    """A connection to a tree's own Ray, for blows and for asking as the edges ask."""

    def __init__(self, tree):
        ray.init(
            address=tree.file("run.json")["ray"],
            namespace="volaris",
            log_to_driver=False,
            logging_level="ERROR",
        )
        import sys

        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        self.tree = tree

    def handle(self, child):
        generation = self.tree.children()[child]["generation"]
        return ray.get_actor(f"volaris.{child}.{generation}")

    def blow(self, child, how, *args):
        """Hurt a child; one that dies of it at once does not answer."""
        answer = self.handle(child).__ray_call__.remote(how, *args)
        try:
            return ray.get(answer, timeout=10)
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
            return None

    def close(self):
        ray.shutdown()
