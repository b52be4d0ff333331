"""Five years of daily bars of the S&P 500's stocks, with a SIGKILL half-way: what it takes, and is it exact.

`python -m benchmarks.backfill [--years 5] [--provider alpaca] [--calm]`

The tree runs as it comes, on a sandbox that keeps NYSE's days, with the limits of the vendors' free plans,
and refreshes its prices every ten seconds meanwhile.  Memory is the PSS of every process, the highest
seen of each.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from datetime import UTC, date, datetime, timedelta

from actors.domain.backfill import midnight, sessions
from actors.domain.models import Timeframe
from benchmarks.tree_memory import measure, total
from tests.running import ROOT, Running, until

VICTIM = "price_ingestor"
TRUTH = """
SELECT count(*) AS rows, count(DISTINCT ticker_id) AS symbols, count(DISTINCT day) AS days,
       bool_and(NOT polled) AS whole
FROM bars_1d WHERE day >= '{first}' AND day <= '{last}'
"""


class Memory(threading.Thread):
    """Looks at every process all the time and keeps the highest of each, and of the sum."""

    def __init__(self, tree):
        super().__init__(daemon=True)
        self.tree, self.stop, self.peak, self.sum = tree, threading.Event(), {}, 0.0

    def run(self):
        while not self.stop.wait(1.0):
            try:
                seen = measure(self.tree)
            except Exception:
                continue  # a process ended while it was looked at
            self.sum = max(self.sum, total(seen))
            self.peak = {
                role: max(mb, self.peak.get(role, 0)) for role, mb in (self.peak | seen).items()
            } | {role: max(mb, self.peak.get(role, 0)) for role, mb in seen.items()}


class Market:
    """A sandbox of our own that keeps NYSE's days, and the settings of a tree that has keys for it."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sandbox", "--port", "0", "--hours", "nyse"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        line = ""
        while "http://" not in line:
            line = self.process.stdout.readline()
            assert line, "the sandbox ended"
        self.url = "http://" + line.split("http://")[1].split()[0].rstrip("/.,")
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        self.settings = {
            "SCHWAB_APP_KEY": "key",
            "SCHWAB_SECRET_KEY": "secret",
            "SCHWAB_REFRESH_TOKEN": "sandbox-refresh-token",
            "SCHWAB_BASE_URL": f"{self.url}/schwab",
            "ALPACA_API_KEY": "key",
            "ALPACA_API_SECRET": "secret",
            "ALPACA_BASE_URL": f"{self.url}/alpaca",
            "ALPACA_TRADING_URL": f"{self.url}/alpaca",
            "VOLARIS_MARKET_HOURS": "always",  # prices are refreshed all the time, days are NYSE's
        }

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=int, default=5)
    parser.add_argument("--provider")
    parser.add_argument("--calm", action="store_true", help="kill nothing")
    options = parser.parse_args()
    last = datetime.now(UTC).date() - timedelta(days=1)
    first = date(last.year - options.years, last.month, last.day)
    body = {"universe": "sp500", "from": str(first), "to": str(last)}
    if options.provider:
        body["provider"] = options.provider
    days = sessions(Timeframe.DAY, midnight(first), midnight(last + timedelta(days=1)))

    market = Market()
    tree = Running(VOLARIS_JOB__PRICES="10", **market.settings)
    try:
        tree.start()
        until(lambda: tree.get("/api/v1/market/price/SPY").status_code == 200, 60)
        idle = measure(tree)
        tree.http.post(f"{market.url}/control/requests/reset")
        watch = Memory(tree)
        watch.start()
        began = time.monotonic()
        url = tree.url("/api/v1/backfills")
        answer = tree.http.post(url, json=body)
        told = answer.json()
        assert answer.status_code == 202, told
        one, planned = f"{url}/{told['id']}", told["requests_planned"]
        print(
            f"{told['vendor']}: {planned} requests planned, {told['seconds_left']:.0f} s",
            flush=True,
        )
        killed, gap, refreshes = options.calm, 0.0, set()
        while told["state"] == "running":
            time.sleep(0.5)
            answer = tree.http.get(one)
            if answer.status_code != 200:
                continue
            told = answer.json()
            refreshes.add((tree.job("prices")["last_slot"], tree.job("prices")["last_seconds"]))
            if not killed and told["requests"] >= planned // 2:
                before = told["requests"]
                os.kill(tree.pids()[VICTIM], signal.SIGKILL)
                killed, since = True, time.monotonic()

                def further(before=before):
                    answer = tree.http.get(one)
                    return answer.status_code == 200 and answer.json()["requests"] > before + 1

                until(further, 120)
                gap = time.monotonic() - since
        took = time.monotonic() - began
        watch.stop.set()
        watch.join()
        [[row]] = tree.query(TRUTH.format(first=first, last=last))
        counted = tree.http.get(f"{market.url}/control/requests").json()["vendors"]
    finally:
        left = tree.stop()
        market.stop()
    assert left == []
    paths = counted[told["vendor"]]["paths"]
    expected = len(days) * told["symbols"]
    exact = row["rows"] == told["rows"] == expected and row["whole"]
    seconds = [took for _, took in refreshes if took is not None]
    print(f"{'PSS in MB':40}{'idle':>8}{'peak':>8}")
    for role in sorted(watch.peak, key=lambda role: -watch.peak[role]):
        print(f"{role:40}{idle.get(role, 0):8.0f}{watch.peak[role]:8.0f}")
    print(f"{'sum without the sandbox':40}{total(idle):8.0f}{watch.sum:8.0f}")
    print(
        json.dumps(
            {
                "benchmark": "backfill",
                "state": told["state"],
                "vendor": told["vendor"],
                "symbols": told["symbols"],
                "sessions": len(days),
                "rows": row["rows"],
                "rows_told": told["rows"],
                "rows_expected": expected,
                "exact": exact,
                "silent": told["silent"],
                "error": told["error"],
                "requests": told["requests"],
                "requests_planned": planned,
                "requests_of_the_sandbox": sum(
                    n for p, n in paths.items() if "bars" in p or "hist" in p
                ),
                "seconds": round(took, 1),
                "killed": not options.calm,
                "seconds_from_kill_to_next_page": round(gap, 1),
                "refreshes": len(seconds),
                "refresh_seconds_median": round(statistics.median(seconds), 2) if seconds else None,
                "refresh_seconds_longest": round(max(seconds, default=0), 2),
                "idle_mb": round(total(idle)),
                "peak_mb": round(watch.sum),
                "peak": {role: round(mb, 1) for role, mb in watch.peak.items()},
            }
        )
    )
    if not exact:
        raise SystemExit("the rows are not those of the sandbox's market")


if __name__ == "__main__":
    main()
