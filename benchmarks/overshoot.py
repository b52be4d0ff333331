"""How far a child gets past its hard budget before it is dead: leaking, hung while leaking, in C, at once.

`python -m benchmarks.overshoot [--times 10]`

A real tree with its own budgets; the victim's private memory is read from outside every few milliseconds.
Where a process may have a host name of its own, a second Ray node is "another node", whose /proc the root leaves be.
Beside it what is promised: at most what the child can take between two looks, at the rate it really took it.
Also what one look costs the living root, in CPU time.
"""

import argparse
import json
import os
import random
import signal
import statistics
import threading
import time

from actors import memory
from actors.spec import MIB
from tests.running import (
    Node,
    Running,
    until,
)  # sets the token, which ray reads when it is imported

VICTIM, ELSEWHERE = "price_ingestor", "scheduler"
RATE = 200  # MiB/s
LEAK = 1024  # MiB: far more than it can get
SAMPLE_EVERY = 0.005


def watch(pid, seconds=30.0):
    """Return (time, private bytes) of a process until it has died, and when that was seen."""
    seen, end = [], time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        held = memory.private(pid)
        if held is None:
            return seen, now
        seen.append((now, held))
        time.sleep(SAMPLE_EVERY)
    raise AssertionError(f"it lives on {seconds:g} s after it was to die of its memory")


def judge(seen, died, hard):
    """Return (MiB past hard, ms from crossing it to death, MiB/s on the way there)."""
    base = seen[0][1]
    first = next(at for at, held in seen if held > base + 8 * MIB)
    last, most = max(seen, key=lambda sample: sample[1])
    before, after = next(
        (a, b) for a, b in zip(seen, [*seen[1:], (died, hard + 1)], strict=True) if b[1] > hard
    )
    share = (hard - before[1]) / (after[1] - before[1])
    crossed = before[0] + share * (after[0] - before[0])
    rate = (most - base) / MIB / max(last - first, SAMPLE_EVERY)
    return max(most - hard, 0) / MIB, (died - crossed) * 1000, rate


def p99(values):
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10)
    options = parser.parse_args()
    from actors.runtime import GUARD_EVERY, OUTSIDE_EVERY
    from actors.supervisor import LOOK_EVERY
    from tests.chaos import blows
    from tests.chaos.blows import Ray

    sender = blows.Sender(LEAK, RATE)
    leak = (LEAK, LEAK / RATE)
    in_c = (sender.port, LEAK)
    cases = [  # name, victim, blow, its arguments, the root is stopped meanwhile, seconds between two looks
        ("leaks in Python", VICTIM, blows.leak, leak, False, LOOK_EVERY),
        ("leaks in its blocked loop", VICTIM, blows.block_loop_and_leak, leak, False, LOOK_EVERY),
        ("in one C call, GIL held", VICTIM, blows.receive_in_c, in_c, False, LOOK_EVERY),
        ("1 GiB in one go, GIL held", VICTIM, blows.balloon, (LEAK,), False, LOOK_EVERY),
        ("leaks, root stopped", VICTIM, blows.leak, leak, True, GUARD_EVERY),
    ]
    if Node.possible():
        cases += [
            (
                "on another node, blocked",
                ELSEWHERE,
                blows.block_loop_and_leak,
                leak,
                False,
                GUARD_EVERY,
            ),
            (
                "on another node, GIL held",
                ELSEWHERE,
                blows.receive_in_c,
                in_c,
                False,
                OUTSIDE_EVERY,
            ),
        ]
    tree = Running(
        VOLARIS_JOB__PRICES="off",
        VOLARIS_STABLE_SECONDS="0",
        VOLARIS_INTENSITY="100000:60",
        **({f"VOLARIS_PLACE__{ELSEWHERE.upper()}": "elsewhere"} if Node.possible() else {}),
    )
    wire, node, found = None, None, {}
    try:
        tree.start(wait=False)
        if Node.possible():
            node = Node(tree, "elsewhere")
        until(tree.all_up, 120)
        wire = Ray(tree)
        for name, *case, _ in cases:
            found[name] = [once(tree, wire, *case) for _ in range(options.times)]
        one, whole = wire.blow("supervisor", blows.time_looks, 1000)
    finally:
        if wire is not None:
            wire.close()
        tree.stop()
        if node is not None:
            node.stop()
    report(cases, found, one, whole, options.times)


def once(tree, wire, victim, blow, args, stopped):
    """Let the victim die of its memory; return what `judge` finds, and who ended it."""
    child, root = tree.children()[victim], tree.supervisor()
    pid, generation = child["pid"], child["generation"]
    hitting = threading.Thread(target=wire.blow, args=(victim, blow, *args))
    # The start before has set the root's rhythm; without a pause of any length each blow would meet it alike.
    time.sleep(random.uniform(0.5, 1.0))
    if stopped:
        os.kill(root, signal.SIGSTOP)
    try:
        hitting.start()
        seen, died = watch(pid)
    finally:
        if stopped:
            os.kill(root, signal.SIGCONT)
    hitting.join()
    by = "guard" if tree.guard_ended(child) else "root"
    until(
        lambda: tree.children()[victim]["generation"] == generation + 1 and tree.all_up(),
        60,
        f"{victim} did not come back",
    )
    after = tree.children()[victim]
    assert after["last_exit"]["cause"] == "memory_hard", after["last_exit"]
    return *judge(seen, died, child["hard_mb"] * MIB), by


def report(cases, found, one, whole, times):
    print(
        f"{'':28}{'times':>6}{'ended by':>18}{'MiB/s':>7}{'MiB past hard':>20}{'one look':>10}"
        f"{'ms to death':>16}"
    )
    print(
        f"{'':28}{'':6}{'guard':>11}{'root':>7}{'':7}{'median':>12}{'max':>8}{'is':>10}{'median':>10}{'max':>6}"
    )
    told = []
    for name, *_, every in cases:
        past, ms, rates, by = zip(*found[name], strict=True)
        rate = statistics.median(rates)
        print(
            f"{name:28}{times:6}{by.count('guard'):11}{by.count('root'):7}{rate:7.0f}"
            f"{statistics.median(past):12.1f}{max(past):8.1f}{rate * every:10.1f}"
            f"{statistics.median(ms):10.0f}{max(ms):6.0f}"
        )
        told.append(
            {
                "case": name,
                "guard": by.count("guard"),
                "root": by.count("root"),
                "mib_per_s": round(rate),
                "past_median_mib": round(statistics.median(past), 1),
                "past_max_mib": round(max(past), 1),
                "one_look_mib": round(rate * every, 1),
                "death_median_ms": round(statistics.median(ms)),
                "death_max_ms": round(max(ms)),
            }
        )
    looks = {
        name: (statistics.median(took) * 1e6, p99(took) * 1e6)
        for name, took in (("child", one), ("round", whole))
    }
    for name, label in (("child", "one look at one child"), ("round", "a whole round of the tree")):
        print(f"{label + ', µs of CPU':40}median {looks[name][0]:6.0f}   p99 {looks[name][1]:6.0f}")
    print(
        json.dumps(
            {
                "benchmark": "overshoot",
                "times": times,
                "cases": told,
                **{
                    f"look_{name}_{which}_us": round(value)
                    for name, both in looks.items()
                    for which, value in zip(("median", "p99"), both, strict=True)
                },
            }
        )
    )


if __name__ == "__main__":
    main()
