"""Thousands of accelerated price cycles while every part of the tree is killed, hung and bloated in turn.

`python -m benchmarks.soak [--cycles 5000] [--kills 120] [--storms 2] [--seed 1] [--every 0.25] [--out FOLDER]`

The run is storms of blows, each followed by a calm in which the memory of what was started anew is watched;
the vendor's faults come and go all the time.  It ends when so many cycles are *done* and so many
processes have been killed, or, as a failure, when the minutes are over.  What it proves is read from the rows
that are left (`tests/chaos/ledger.py`); what it measures is described at `sample` and `slope`.
"""

import argparse
import contextlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import httpx
import numpy as np
import psutil

from actors import memory
from actors.tree import TREE
from benchmarks import tree_memory
from benchmarks.curves import Curve, draw
from tests.chaos import ledger
from tests.running import Running, alive, until  # sets the token, which ray reads when imported

CHILDREN = tuple(row.id for row in TREE)
RECOVERY_WITHIN = (
    180.0  # seconds; a given-up child is tried again after 300: that is a failure here
)
SAMPLE_EVERY = 5.0
# Seconds of a life that are not measured: imports, first connections, and the heap until it has its size
# (measured: an undisturbed process gains 2 to 4 MB in its first five minutes, then next to nothing).
WARM_UP = 300.0
BLOCK = 60.0  # seconds whose samples are one mean
RUN = 3  # growths that are drawn together
FEWEST = 8  # growths below which no interval is told
RESAMPLES = 4000

# How a child is hurt besides SIGKILL, and the cause its history must tell.
WAYS = {
    "kill": "crash",
    "exit": "crash",
    "stop": "hang",
    "block loop": "hang",
    "hold GIL": "hang",
    "leak": "memory_soft",
    "balloon": "memory_hard",
}
FAULTS = (
    *[{"kind": "latency", "seconds": 1.5}, {"kind": "status", "status": 500}] * 3,
    *[{"kind": "garbage"}, {"kind": "html"}, {"kind": "cut"}] * 3,
    {"kind": "throttle", "count": 1},  # rare: the vendor is left alone for a minute afterwards
)

RUNS = "SELECT slot, state, error, seconds FROM job_runs WHERE job = 'prices'"
HISTORY = "SELECT child, generation, event, cause, at FROM actor_history"
DONE = (
    "SELECT count(*) AS n, max(slot) AS last FROM job_runs WHERE job = 'prices' AND state = 'done'"
)

AWAY = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


@dataclass(slots=True)
class Blow:
    """One process hurt: from `at` until everything was up again."""

    victim: str
    way: str
    at: datetime
    began: float  # monotonic, as `ended`
    ended: float | None = None

    @property
    def took(self):
        return None if self.ended is None else self.ended - self.began


def shuffled(rng, cards):
    """Deal all cards in a random order, and again, for ever."""
    while True:
        yield from rng.sample(cards, len(cards))


def deals(rng):
    """Yield (victim, way) for ever; of twelve, each child has two, a head one: that takes the tree down."""
    ways = shuffled(rng, [way for way in WAYS if way != "kill"])
    roots = itertools.cycle(("kill", "exit", "kill", "balloon"))
    servers = itertools.cycle(("kill", "kill backend"))
    heads = itertools.cycle(("raylet", "gcs_server"))
    while True:
        deal = [(child, "kill") for child in CHILDREN]
        deal += [(child, next(ways)) for child in CHILDREN]
        deal += [("supervisor", next(roots)), ("postgresql", next(servers))]
        deal += [("sandbox", "kill"), (next(heads), "kill")]
        rng.shuffle(deal)
        yield from deal


class Soak:
    """The tree, what is done to it, and what is noted meanwhile."""

    def __init__(self, tree, seed, minutes):
        self.tree, self.seed = tree, seed
        self.rng = random.Random(seed)
        self.begun = time.monotonic()
        self.end = self.begun + minutes * 60
        self.stop = threading.Event()
        self.blows, self.violations = [], []
        self.done = 0
        self.samples = defaultdict(list)  # by role: (seconds, cycles done, MB, life)
        self.promised, self.newest = set(), {}
        self.told, self.longest = Counter(), 0.0
        self.spells = Counter()

    # --- watching

    def sample(self):
        """Note every process's private memory (RssAnon + VmSwap: what it shares is no leak of its own).

        PostgreSQL is the sum of its processes.  A role's life is its process, or its processes; that of
        PostgreSQL ends when its postmaster or, after a crash, its first child is another.
        """
        with contextlib.suppress(*AWAY, psutil.Error, KeyError, IndexError, ValueError):
            self.note_rows()
        with contextlib.suppress(OSError, psutil.Error, KeyError, IndexError, ValueError):
            held, pids = Counter(), defaultdict(list)
            for pid, role in tree_memory.roles(self.tree).items():
                if not role.startswith("ray other"):
                    held[role] += memory.private(pid) or 0
                    pids[role].append(pid)
            postmaster = psutil.Process(min(tree_memory.postgres(self.tree), key=born).pid)
            pids["postgresql"] = [postmaster.pid, min(postmaster.children(), key=born).pid]
            now = time.monotonic() - self.begun
            for role, mb in held.items():
                life = tuple(sorted(pids[role]))
                self.samples[role].append((now, self.done, mb / 1e6, life))

    def note_rows(self):
        """Note what is stored now, and must be there for ever: that is what an acknowledged cycle is."""
        [progress], quotes = self.tree.query(DONE, ledger.QUOTES)
        self.done = progress["n"]
        for row in quotes:
            symbol, at = row["symbol"], row["at"]
            if at < self.newest.get(symbol, at):
                self.violations.append(f"the quote of {symbol} went back from a newer one to {at}")
            self.newest[symbol] = at
        self.promised |= ledger.traded(quotes)

    def watch(self):
        while not self.stop.is_set():
            began = time.monotonic()
            self.sample()
            self.stop.wait(max(SAMPLE_EVERY - (time.monotonic() - began), 0.1))

    def call(self):
        """Ask the API ten times a second and count what is answered."""
        rng = random.Random(self.seed + 1)
        symbols = sorted(self.newest)
        paths = ("price/{}", "quote/{}", "bars/{}?timeframe=1m&limit=5")
        with httpx.Client(timeout=30, base_url=self.tree.url("/api/v1/market/")) as client:
            while not self.stop.wait(0.1):
                began = time.monotonic()
                try:
                    path = rng.choice(paths).format(rng.choice(symbols))
                    self.told[str(client.get(path).status_code)] += 1
                except httpx.TransportError as e:
                    self.told[type(e).__name__] += 1
                self.longest = max(self.longest, time.monotonic() - began)

    def spoil(self):
        """Let the vendor be slow, wrong or mad for a few seconds, again and again."""
        rng = random.Random(self.seed + 2)
        faults = shuffled(rng, FAULTS)
        url = self.tree.sandbox("/control/faults")
        with httpx.Client(timeout=5) as client:
            while not self.stop.wait(rng.uniform(15, 45)):
                fault = {"vendor": "schwab", "rate": rng.choice((0.3, 1.0)), **next(faults)}
                with contextlib.suppress(httpx.HTTPError):
                    client.post(url, json=fault).raise_for_status()
                    self.spells[fault["kind"]] += 1
                self.stop.wait(rng.uniform(2, 5))
                with contextlib.suppress(httpx.HTTPError):
                    client.delete(url).raise_for_status()

    # --- hurting

    def strike(self, victim, way):
        """Hurt one process, and wait until all is up again and a cycle after it is done."""
        back = self.recovery(victim, way)
        blow = Blow(victim, way, datetime.now(UTC), time.monotonic())
        self.blows.append(blow)
        self.hurt(victim, way)
        until(back, RECOVERY_WITHIN, f"not all was up after {victim}: {way}", every=0.05)
        blow.ended = time.monotonic()
        began = datetime.now(UTC)
        until(
            lambda: (self.progress() or began) > began,
            RECOVERY_WITHIN,
            f"no cycle was done after {victim}: {way}",
            every=0.25,
        )

    def progress(self):
        """Return the newest slot that is done, None where nobody can tell."""
        with contextlib.suppress(*AWAY):
            [[row]] = self.tree.query(DONE)
            self.done = row["n"]
            return row["last"]
        return None

    def process(self, victim):
        """Return the one process of the tree that is so named, or whose command line says so."""
        return next(
            process
            for process in self.tree.members()
            if victim in (process.name(), *process.cmdline())
        )

    def postmaster(self):
        return int((self.tree.home / "pg" / "data" / "postmaster.pid").read_text().split()[0])

    def hurt(self, victim, way):
        if victim in ("raylet", "gcs_server", "sandbox"):
            self.process(victim).kill()
        elif victim == "postgresql":
            pid = self.postmaster()
            if way == "kill backend":
                pid = max(psutil.Process(pid).children(), key=born).pid
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        elif way in ("kill", "stop"):
            pid = self.tree.supervisor() if victim == "supervisor" else self.tree.pids()[victim]
            os.kill(pid, signal.SIGKILL if way == "kill" else signal.SIGSTOP)
        else:
            self.send(victim, way)

    def send(self, victim, way):
        from tests.chaos import blows

        match way:
            case "exit":
                how = (blows.exit_now,)
            case "block loop":
                how = (blows.block_loop,)
            case "hold GIL":
                how = (blows.hold_gil,)
            case "balloon":
                how = (blows.balloon, 300)
            case _:  # slowly, to the middle between soft and hard
                child = self.tree.children()[victim]
                goal = (child["soft_mb"] + child["hard_mb"]) / 2
                how = (blows.leak, int(goal - child["memory_mb"]), self.rng.uniform(3, 10))
        blows.apart(self.tree, victim, *how)

    def recovery(self, victim, way):
        """Return the condition that the victim was replaced and everything is up."""
        tree, before = self.tree, self.tree.children()
        if victim in before:
            old = before[victim]

            def replaced():
                now = tree.children()[victim]
                return now["generation"] > old["generation"] and not psutil.pid_exists(old["pid"])

        elif victim == "supervisor":
            root = tree.supervisor()

            def replaced():
                return tree.supervisor() != root

        elif victim == "postgresql":
            server = psutil.Process(self.postmaster())
            eldest = min(server.children(), key=born)

            def replaced():
                return not alive(eldest) and self.progress() is not None

        elif victim == "sandbox":
            old_one = self.process("sandbox")

            def replaced():
                with contextlib.suppress(httpx.HTTPError):
                    answered = httpx.get(tree.sandbox("/control/clock"), timeout=2).is_success
                    return answered and not alive(old_one)
                return False

        else:

            def replaced():
                old = {child["pid"] for child in before.values()}
                gone = not any(psutil.pid_exists(pid) for pid in old)
                return gone and not old & set(tree.pids().values())

        return lambda: replaced() and tree.all_up()

    def until_done(self, cycles):
        left = self.end - time.monotonic()
        until(
            lambda: self.progress() is not None and self.done >= cycles,
            max(left, 1),
            f"the minutes are over: {cycles} cycles were not done",
            every=1.0,
        )

    def direct(self, cycles, kills, storms):
        """Deal so many blows in storms, and let so many cycles be done."""
        blows = deals(self.rng)
        for storm in range(storms):
            self.until_done(cycles * storm // storms)
            share = kills * (storm + 1) // storms - kills * storm // storms
            for victim, way in itertools.islice(blows, share):
                time.sleep(self.rng.uniform(0.5, 4))
                assert time.monotonic() < self.end, "the minutes are over"
                self.strike(victim, way)
                said(self, f"{victim}: {way}, {self.blows[-1].took:.1f} s")
            said(self, f"storm {storm + 1} of {storms} is over")
        self.until_done(cycles)

    def run(self, cycles, kills, storms):
        """Return the rows at the opening and at the close."""
        until(lambda: self.tree.job("prices")["last_state"] == "done", 60)
        opened = self.tree.query(ledger.QUOTES, ledger.BARS)
        self.note_rows()
        threads = [threading.Thread(target=t) for t in (self.watch, self.call, self.spoil)]
        for thread in threads:
            thread.start()
        try:
            self.direct(cycles, kills, storms)
        except Exception as e:
            self.violations.append(f"{type(e).__name__}: {e}")
            said(self, f"ended early: {self.violations[-1]}")
        finally:
            self.stop.set()
            for thread in threads:
                thread.join(60)
        # The last row of history is written at most a moment after it happened.
        time.sleep(2)
        closed = until(self.closing, 60, "the database did not tell how it ended")
        return opened, closed

    def closing(self):
        with contextlib.suppress(*AWAY):
            return self.tree.query(ledger.QUOTES, ledger.BARS, RUNS, HISTORY)
        return None

    def judge(self, opened, closed, every):
        """Return how many rows were expected and found, by kind; violations are noted."""
        quotes, bars, runs, history = closed
        living = {name: child["generation"] for name, child in self.tree.children().items()}
        dealt = [(b.victim, WAYS[b.way]) for b in self.blows if b.victim in CHILDREN]
        heads = [b for b in self.blows if b.victim in ("raylet", "gcs_server")]
        outages = [(b.at, b.at + timedelta(seconds=b.took or RECOVERY_WITHIN)) for b in heads]
        self.violations += ledger.slots(runs, timedelta(seconds=every))
        unclosed = ledger.volumes(ledger.accounts(*opened), quotes, bars)
        self.violations += unclosed
        self.violations += ledger.minutes(bars, self.promised)
        self.violations += ledger.history(history, living)
        stopped = ledger.stops(history, outages)
        self.violations += ledger.causes(stopped, dealt)
        grid = ledger.grid(runs, timedelta(seconds=every))
        kept = {(bar["symbol"], bar["at"]) for bar in bars}
        return {
            "slots": (len(grid), len(runs)),
            "minutes of stored quotes": (len(self.promised), len(self.promised & kept)),
            "symbols whose volumes add up": (
                len(opened[0]),
                len(opened[0]) - len({one.split()[0] for one in unclosed}),
            ),
            "stops of children": (len(dealt), len(stopped)),
        }


def born(process):
    return process.create_time()


def said(soak, what):
    minutes = (time.monotonic() - soak.begun) / 60
    print(f"{minutes:6.1f} min {soak.done:6} cycles  {what}", file=sys.stderr, flush=True)


# --- what it means


@dataclass(slots=True)
class Slope:
    """Growth in MB per 1,000 cycles, with its 95 % interval where there is enough to tell one."""

    growths: int
    value: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def flat(self):
        return None if self.low is None else self.low <= 0 <= self.high


def settled(samples, hurt):
    """Return lives as lists of (seconds, cycles, MB), without their warm-up and without what a blow did."""
    lives = defaultdict(list)
    for at, cycles, mb, life in samples:
        lives[life].append((at, cycles, mb))
    kept = []
    for points in lives.values():
        first = points[0][0]
        calm = [
            p
            for p in points
            if p[0] - first >= WARM_UP and not any(a <= p[0] <= b for a, b in hurt)
        ]
        if calm:
            kept.append(calm)
    return kept


def slope(lives, seed=0):
    """Return the growth of a role's memory per 1,000 cycles.

    Neighbouring samples are alike, and a process that was replaced begins at another level.  So each life
    (after its first five minutes) is cut into blocks of a minute, and the data are the growths from one block's
    mean to the next one's within the same life: levels drop out, noise within a minute is averaged, one step
    is one datum, while a leak shows in every one.  The slope is all growth over all cycles between.  What
    noise adds the next growth takes back, so the interval is the percentile moving-block bootstrap: runs of
    three growths of one life, drawn with replacement.  On simulated memory without a leak it held 0 in 99 of
    100 runs of lasting noise, but in 87 of 100 where memory was a random walk in three lives of 8 minutes:
    there it is narrower than its name.
    """
    chains = [growths for points in lives if len(growths := growths_of(points))]
    if not chains:
        return Slope(0)
    data = np.concatenate(chains)
    cycles, mb = data.sum(axis=0)
    value = float(1000 * mb / cycles)
    if len(data) < FEWEST:
        return Slope(len(data), value)
    runs = np.array([run for chain in chains for run in runs_of(chain)])
    drawn = np.random.default_rng(seed).integers(len(runs), size=(RESAMPLES, -(-len(data) // RUN)))
    sums = runs[drawn].sum(axis=1)
    low, high = np.percentile(1000 * sums[:, 1] / sums[:, 0], (2.5, 97.5))
    return Slope(len(data), value, float(low), float(high))


def growths_of(points):
    """Return (cycles, MB) from each minute's mean to the next one's."""
    first, blocks = points[0][0], defaultdict(list)
    for at, cycles, mb in points:
        blocks[int((at - first) // BLOCK)].append((cycles, mb))
    fewest = 0.6 * BLOCK / SAMPLE_EVERY
    means = {n: np.mean(block, axis=0) for n, block in blocks.items() if len(block) >= fewest}
    growths = [means[n + 1] - means[n] for n in means if n + 1 in means]
    return [growth for growth in growths if growth[0] > 0]


def runs_of(chain):
    """Return the sums of every three consecutive growths, or of all where there are fewer."""
    length = min(RUN, len(chain))
    return [np.sum(chain[n : n + length], axis=0) for n in range(len(chain) - length + 1)]


def role_of(victim):
    """Return the role a victim is sampled as."""
    return f"ray {victim}" if victim in ("raylet", "gcs_server") else victim


def measured(soak):
    """Return (role, samples, lives, median MB, slope), the biggest first."""
    rows = []
    for role, samples in soak.samples.items():
        hurt = [
            (b.began - soak.begun, (b.ended or b.began + RECOVERY_WITHIN) - soak.begun)
            for b in soak.blows
            if role_of(b.victim) == role
        ]
        median = statistics.median(mb for _, _, mb, _ in samples)
        lives = len({life for *_, life in samples})
        rows.append((role, len(samples), lives, median, slope(settled(samples, hurt))))
    return sorted(rows, key=lambda row: -row[3])


def report(soak, closed, rows, options, picture):
    """Print the tables, and one JSON line."""
    _, _, runs, history = closed
    minutes = (time.monotonic() - soak.begun) / 60
    table = measured(soak)
    print(f"{'private memory':18}{'samples':>8}{'lives':>6}{'median MB':>10}", end="")
    print(f"{'MB per 1,000 cycles':>21}{'95 % interval':>22}{'growths':>9}")
    for role, n, lives, median, found in table:
        value = "-" if found.value is None else f"{found.value:+.2f}"
        interval = "too few to tell"
        if found.low is not None:
            interval = f"{found.low:+.2f} … {found.high:+.2f}{'' if found.flat else ' !'}"
        print(f"{role:18}{n:8}{lives:6}{median:10.1f}{value:>21}{interval:>22}{found.growths:9}")
    print(
        "(! = 0 is not within; by chance one of twenty misses it, or more where memory wanders)\n"
    )

    print(f"{'blows':18}{'times':>8}{'median s':>10}{'max s':>8}  until all was up; ways")
    for victim in (*CHILDREN, "supervisor", "sandbox", "postgresql", "raylet", "gcs_server"):
        mine = [b for b in soak.blows if b.victim == victim]
        took = [b.took for b in mine if b.took is not None] or [0.0]
        ways = ", ".join(f"{n} {way}" for way, n in Counter(b.way for b in mine).most_common())
        print(f"{victim:18}{len(mine):8}{statistics.median(took):10.1f}{max(took):8.1f}  {ways}")
    print(f"vendor faults: {', '.join(f'{n} {kind}' for kind, n in soak.spells.most_common())}\n")

    ends = Counter((r["child"], r["cause"]) for r in history if r["event"] == "stop")
    print("stops by cause, from the history")
    for child in CHILDREN:
        told = ", ".join(f"{n} {cause}" for (c, cause), n in sorted(ends.items()) if c == child)
        print(f"  {child:16}{told}")
    states = Counter(run["state"] for run in runs)
    print(f"\ncycles: {', '.join(f'{n} {state}' for state, n in states.most_common())}")
    why = Counter(
        (run["state"], re.sub(r"\d+\.\d+", "…", run["error"] or "")[:90])
        for run in runs
        if run["state"] != "done"
    )
    for (state, error), n in why.most_common(8):
        print(f"  {n:5} {state}: {error}")
    answers = ", ".join(f"{n} × {what}" for what, n in soak.told.most_common())
    print(f"answers of the API: {answers}; the longest took {soak.longest:.1f} s\n")

    print(f"{'rows':30}{'expected':>10}{'found':>10}")
    for kind, (expected, found) in rows.items():
        print(f"{kind:30}{expected:10}{found:10}")
    print(f"violations: {len(soak.violations)}")
    for one in soak.violations[:40]:
        print(f"  {one}")
    print(f"the memory curves: {picture}")
    by_victim = defaultdict(list)
    for blow in soak.blows:
        by_victim[blow.victim].append(blow.took)
    print(
        json.dumps(
            {
                "benchmark": "soak",
                "seed": options.seed,
                "storms": options.storms,
                "every_s": options.every,
                "minutes": round(minutes, 1),
                "cycles": dict(states),
                "kills": len(soak.blows),
                "kills_by": dict(Counter(f"{b.victim}: {b.way}" for b in soak.blows)),
                "vendor_faults": dict(soak.spells),
                "rows": {kind: {"expected": e, "found": f} for kind, (e, f) in rows.items()},
                "violations": len(soak.violations),
                "answers": dict(soak.told),
                "stops": {f"{child}: {cause}": n for (child, cause), n in sorted(ends.items())},
                "up_after_max_s": {
                    victim: round(max(t for t in took if t is not None), 1)
                    for victim, took in by_victim.items()
                    if any(t is not None for t in took)
                },
                "memory": {
                    role: {
                        "median_mb": round(median, 1),
                        "mb_per_1000_cycles": rounded(found.value),
                        "low": rounded(found.low),
                        "high": rounded(found.high),
                        "flat": found.flat,
                    }
                    for role, _, _, median, found in table
                },
            }
        )
    )


def rounded(value):
    return None if value is None else round(value, 3)


def curves(soak):
    """Return what is drawn: a role's samples as lines that end with a life, and when it was hit."""
    drawn = []
    for role, *_ in measured(soak):
        lives = defaultdict(list)
        for at, _, mb, life in soak.samples[role]:
            lives[life].append((at / 60, mb))
        hits = [(b.began - soak.begun) / 60 for b in soak.blows if role_of(b.victim) == role]
        drawn.append(Curve(role, list(lives.values()), hits))
    return drawn


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=5000, help="that must be done")
    parser.add_argument("--kills", type=int, default=120, help="processes that are ended")
    parser.add_argument("--storms", type=int, default=2, help="they are dealt in")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=float, default=0.25, help="seconds between two cycles")
    parser.add_argument("--minutes", type=float, default=100, help="after which it has failed")
    parser.add_argument("--out", type=Path, help="for the picture, the samples and the logs")
    options = parser.parse_args()
    out = options.out or Path(tempfile.mkdtemp(prefix="soak"))
    out.mkdir(parents=True, exist_ok=True)
    tree = Running(
        VOLARIS_JOB__PRICES=str(options.every),
        # What takes hours is to happen within minutes.
        VOLARIS_YOUNG_SECONDS="1",
        VOLARIS_STABLE_SECONDS="1",
        VOLARIS_LIMIT__SCHWAB="10000/min",
    )
    try:
        soak = Soak(tree.start(), options.seed, options.minutes)
        opened, closed = soak.run(options.cycles, options.kills, options.storms)
        rows = soak.judge(opened, closed, options.every)
        shutil.copytree(tree.home / "logs", out / "logs", dirs_exist_ok=True)
        shutil.copy(tree.home / "up.log", out / "logs")
    finally:
        left = tree.stop()
    if left:
        soak.violations.append(f"{len(left)} processes outlived the tree")
    with (out / "memory.csv").open("w") as file:
        file.write("process,seconds,cycles,mb,life\n")
        for role, samples in soak.samples.items():
            for at, cycles, mb, life in samples:
                file.write(f"{role},{at:.1f},{cycles},{mb:.3f},{'-'.join(map(str, life))}\n")
    picture = out / "memory.svg"
    picture.write_text(draw(curves(soak), "minutes", "MB of private memory"))
    report(soak, closed, rows, options, picture)
    sys.exit(1 if soak.violations else 0)


if __name__ == "__main__":
    main()
