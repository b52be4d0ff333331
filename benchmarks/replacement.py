"""What a caller notices of replacements: one who asks every 5 ms, through reliefs and through SIGKILLs.

`python -m benchmarks.replacement [--reliefs 100] [--kills 100]`

Beside it, in the same run and on the same Ray: the bare minimum, a new empty actor to its first answer.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import threading
import time

from actors.client import Tree
from tests.running import Running, until  # sets the token, which ray reads when it is imported

VICTIM = "price_ingestor"
BUDGET = "100:400"


class Caller(threading.Thread):
    """Asks every 5 ms, as an edge does, and keeps each answer's time."""

    def __init__(self):
        super().__init__(daemon=True)
        self.stop, self.took, self.failed = threading.Event(), [], []

    def run(self):
        asyncio.run(self.ask())

    async def ask(self):
        from actors.runtime import Line

        tree = Tree(Line(), 30.0)
        while not self.stop.is_set():
            began = time.monotonic()
            try:
                await tree.price_ingestor.quote("SPY")
            except Exception as e:
                self.failed.append(repr(e))
            self.took.append((began, time.monotonic() - began))
            await asyncio.sleep(0.005)

    def through(self, act, times):
        """Let `act` happen so many times; return (answers, failures, the longest answer of each time)."""
        longest = []
        first, failed = len(self.took), len(self.failed)
        for _ in range(times):
            began = len(self.took)
            act()
            done = len(self.took) + 1  # the answer that was on its way has come, too
            until(lambda done=done: len(self.took) > done, 30, every=0.01)
            longest.append(max(took for _, took in self.took[began:]))
        return len(self.took) - first, len(self.failed) - failed, longest


def bare():
    """Return the seconds from the order of an empty actor to its first answer."""

    import ray

    class Empty:
        async def answer(self):
            return os.getpid()

    began = time.monotonic()
    actor = ray.remote(num_cpus=0)(Empty).remote()
    ray.get(actor.answer.remote(), timeout=60)
    took = time.monotonic() - began
    ray.kill(actor)
    return took


def quantiles(values):
    """Return (median, 99th percentile)."""
    ordered = sorted(values)
    return statistics.median(ordered), ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reliefs", type=int, default=30)
    parser.add_argument("--kills", type=int, default=30)
    options = parser.parse_args()
    from tests.chaos import blows
    from tests.chaos.blows import Ray

    tree = Running(
        VOLARIS_JOB__PRICES="5",
        VOLARIS_YOUNG_SECONDS="0",
        VOLARIS_STABLE_SECONDS="0",
        VOLARIS_INTENSITY="100000:60",
        **{f"VOLARIS_BUDGET__{VICTIM.upper()}": BUDGET},
    )
    wire, caller = None, Caller()
    try:
        tree.start()
        wire = Ray(tree)
        caller.start()
        until(lambda: len(caller.took) > 100, 30)

        def generation():
            return tree.children()[VICTIM]["generation"]

        def settled(before, pid):
            until(
                lambda: (
                    generation() == before + 1
                    and tree.all_up()
                    and not os.path.exists(f"/proc/{pid}")
                ),
                60,
                every=0.02,
            )

        def relieve():
            before, pid = generation(), tree.pids()[VICTIM]
            wire.blow(VICTIM, blows.leak, 70, 0.2)
            settled(before, pid)

        minimum = []

        def kill():
            before, pid = generation(), tree.pids()[VICTIM]
            os.kill(pid, signal.SIGKILL)
            settled(before, pid)
            minimum.append(bare())  # in turn with the kills, so that both meet the same machine
            time.sleep(0.3)

        answers, failed, longest = caller.through(relieve, options.reliefs)
        killed_answers, killed_failed, recovery = caller.through(kill, options.kills)
    finally:
        if wire is not None:
            caller.stop.set()
            caller.join(60)
            wire.close()
        tree.stop()
    bare_median, bare_p99 = quantiles(minimum)
    relief_median, relief_p99 = quantiles(longest)
    kill_median, kill_p99 = quantiles(recovery)
    print(f"{'':34}{'times':>7}{'answers':>9}{'failed':>8}{'median s':>10}{'p99 s':>8}{'max s':>8}")
    print(
        f"{'planned relief, longest answer':34}{options.reliefs:7}{answers:9}{failed:8}"
        f"{relief_median:10.3f}{relief_p99:8.3f}{max(longest):8.3f}"
    )
    print(
        f"{'SIGKILL, longest answer':34}{options.kills:7}{killed_answers:9}{killed_failed:8}"
        f"{kill_median:10.3f}{kill_p99:8.3f}{max(recovery):8.3f}"
    )
    print(
        f"{'bare minimum: an empty Ray actor':34}{len(minimum):7}{'':9}{'':8}"
        f"{bare_median:10.3f}{bare_p99:8.3f}{max(minimum):8.3f}"
    )
    print(f"SIGKILL / bare minimum: {kill_median / bare_median:.2f}× at the median")
    print(
        json.dumps(
            {
                "benchmark": "replacement",
                "reliefs": options.reliefs,
                "relief_failed": failed,
                "relief_longest_s": round(max(longest), 3),
                "kills": options.kills,
                "kill_failed": killed_failed,
                "kill_median_s": round(kill_median, 3),
                "kill_p99_s": round(kill_p99, 3),
                "bare_median_s": round(bare_median, 3),
                "bare_p99_s": round(bare_p99, 3),
                "ratio": round(kill_median / bare_median, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
