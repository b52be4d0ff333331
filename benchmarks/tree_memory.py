"""What the whole tree costs in memory, by process: idle, and at the worst moment of full cycles.

`python -m benchmarks.tree_memory [--dashboard]`

PSS (proportional memory) of every process: Ray's, PostgreSQL's, the boot program's; the sandbox, which no
production host runs, is shown apart.  "Worst" is the highest sum seen while prices are refreshed every
second, the API is asked all the time and daily bars are fetched on demand.
"""

import argparse
import json
import threading
import time
from collections import defaultdict

import psutil

from actors import memory
from tests.running import Running, until

SYMBOLS = ("AAPL", "MSFT", "NVDA", "SPY", "QQQ", "BRK.B", "AMZN", "META")


def roles(tree):
    """Return role by pid of every process of the tree."""
    named = {pid: name for name, pid in tree.pids().items()} | {
        tree.supervisor(): "supervisor",
        tree.process.pid: "boot program",
    }
    found = {}
    for process in [*tree.members(), *postgres(tree)]:
        try:
            name, line = process.name(), " ".join(process.cmdline())
        except psutil.Error:
            continue
        if process.pid in named:
            role = named[process.pid]
        elif "postgres" in name:
            role = "postgresql"
        elif "sandbox" in line:
            role = "sandbox"
        elif name in ("gcs_server", "raylet"):
            role = f"ray {name}"
        elif "dashboard.py" in line:
            role = "ray dashboard"
        elif "Agent" in line or "agent" in line:
            role = "ray agents"
        elif "dashboard" in line.lower():
            role = "ray dashboard"
        else:
            role = f"ray other ({line[:24] or name})"
        found[process.pid] = role
    return found


def postgres(tree):
    """Return the database server's processes: they live in sessions of their own."""
    lines = (tree.home / "pg" / "data" / "postmaster.pid").read_text().split()
    postmaster = psutil.Process(int(lines[0]))
    return [postmaster, *postmaster.children(recursive=True)]


def measure(tree):
    """Return PSS in MB by role."""
    sums = defaultdict(float)
    for pid, role in roles(tree).items():
        sums[role] += (memory.proportional(pid) or 0) / 1e6
    return dict(sums)


def total(sums):
    """Return the sum without the sandbox."""
    return sum(mb for role, mb in sums.items() if role != "sandbox")


def busy(tree, stop):
    """Ask the API all the time."""
    while not stop.is_set():
        for symbol in SYMBOLS:
            tree.get(f"/api/v1/market/quote/{symbol}")
            tree.get(
                f"/api/v1/market/bars/{symbol}",
                timeframe="1d",
                limit=2500,
                start="2017-01-03T00:00:00Z",
            )


def run(env):
    """Return what one tree costs after its start."""
    tree = Running(**env)
    try:
        tree.start()
        until(lambda: tree.job("prices")["last_state"] == "done", 60)
        yield tree
    finally:
        tree.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dashboard", action="store_true")
    parser.add_argument("--idle", type=float, default=45, help="seconds before idle is measured")
    parser.add_argument("--busy", type=float, default=45, help="seconds of full cycles")
    options = parser.parse_args()
    dashboard = {"VOLARIS_DASHBOARD": str(options.dashboard).lower(), "VOLARIS_DASHBOARD_PORT": "0"}
    for tree in run(dashboard):
        time.sleep(options.idle)
        idle = measure(tree)
    for tree in run({**dashboard, "VOLARIS_JOB__PRICES": "1"}):
        stop, worst = threading.Event(), {}
        asker = threading.Thread(target=busy, args=(tree, stop))
        asker.start()
        end = time.monotonic() + options.busy
        while time.monotonic() < end:
            worst = max(worst, measure(tree), key=total)
        stop.set()
        asker.join()
    print(f"{'PSS in MB':40}{'idle':>8}{'worst':>8}")
    for role in sorted({*idle, *worst}, key=lambda role: -worst.get(role, 0)):
        print(f"{role:40}{idle.get(role, 0):8.0f}{worst.get(role, 0):8.0f}")
    print(f"{'sum without the sandbox':40}{total(idle):8.0f}{total(worst):8.0f}")
    print(
        json.dumps(
            {
                "benchmark": "tree_memory",
                "dashboard": options.dashboard,
                "idle_mb": round(total(idle)),
                "worst_mb": round(total(worst)),
                "idle": {role: round(mb, 1) for role, mb in idle.items()},
                "worst": {role: round(mb, 1) for role, mb in worst.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
