"""The first vendor dead in every way: how long until the universe's quotes come from the second.

`python -m benchmarks.failover [--first schwab,alpaca,polygon] [--second polygon,schwab]`

A sandbox of its own speaks for the vendors over HTTP; the pool is the one of the tree, in this process.  For
each fault a new pool makes one healthy cycle, then the fault begins: *first* is the seconds of the cycle that
meets it, *later* those of the sixth cycle, when the breaker spares the dead vendor.
"""

import argparse
import asyncio
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from actors.domain import universe
from actors.provider_pool import ProviderPool
from actors.settings import Settings

FAULTS = {
    "connection refused": None,
    "hang": {"kind": "hang"},
    "cut in the middle": {"kind": "cut"},
    "401": {"kind": "status", "status": 401},
    "403": {"kind": "status", "status": 403},
    "404": {"kind": "status", "status": 404},
    "429": {"kind": "throttle"},
    "500": {"kind": "status", "status": 500},
    "503": {"kind": "status", "status": 503},
    "a web page, 200": {"kind": "html"},
    "a web page, 403": {"kind": "html", "status": 403},
    "200 with an error's text": {"kind": "text"},
    "truncated JSON": {"kind": "garbage"},
    "wrong types": {"kind": "types"},
    "a body of 20 MB": {"kind": "big"},
    "-999, NaN, null, missing": {"kind": "nan"},
}
KEYS = {
    "schwab": {
        "schwab_app_key": "k",
        "schwab_secret_key": "s",
        "schwab_refresh_token": "sandbox-refresh-token",
    },
    "alpaca": {"alpaca_api_key": "paid-key", "alpaca_api_secret": "s"},
    "polygon": {"polygon_api_key": "paid-key"},
    "tiingo": {"tiingo_api_key": "paid-key"},
    "finnhub": {"finnhub_api_key": "paid-key"},
}


class NoBooks:
    """Nothing has to survive a benchmark."""

    async def load(self, vendor):
        return None

    async def save(self, vendor, sealed):
        return None

    async def spend(self, vendor):
        return {}

    async def note(self, vendor, entries):
        return None


def sandbox(*options):
    """Start a sandbox on a free port; return (process, URL)."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sandbox", "--port", "0", *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    if "listening on" not in line:
        raise SystemExit(f"the sandbox did not start: {line}")
    return process, line.split()[-1]


def settings_of(url, home, first, second):
    given = {f"{name}_base_url": f"{url}/{name}" for name in (first, second)}
    if "alpaca" in (first, second):
        given["alpaca_trading_url"] = f"{url}/alpaca"
    return Settings(
        volaris_home=home,
        volaris_prefer={"quotes": f"{first},{second}"},
        volaris_limit=dict.fromkeys((first, second), "100000/min"),
        **given,
        **KEYS[first],
        **KEYS[second],
    )


async def measure(url, home, first, second, fault, names):
    control = httpx.AsyncClient(base_url=url, timeout=10)
    await control.delete("/control/faults")
    settings = settings_of(url, home, first, second)
    pool = ProviderPool(settings, None, books=NoBooks())
    await pool.start()
    healthy = await pool.quotes(names)
    assert len(healthy.quotes) == len(names), healthy.failed[:3]
    if fault is None:
        desk = pool._desks[first]
        for wire in [w for w in vars(desk.provider).values() if hasattr(w, "_client")]:
            wire._client.base_url = "http://127.0.0.1:9"
    else:
        await control.post("/control/faults", json={"vendor": first} | fault)
    seconds, batches = [], []
    for _ in range(6):
        began = time.perf_counter()
        batches.append(await pool.quotes(names))
        seconds.append(time.perf_counter() - began)
    status = next(vendor for vendor in await pool.status() if vendor.name == first)
    await control.delete("/control/faults")
    await control.aclose()
    await pool.stop()
    sources = {quote.source for quote in batches[0].quotes}
    return {
        "first": seconds[0],
        "later": seconds[-1],
        "lost": max(len(names) - len(batch.quotes) for batch in batches),
        "from_second": sum(quote.source == second for quote in batches[0].quotes),
        "sources": sorted(sources),
        "state": status.state,
        "said": status.last_error,
    }


async def run(options):
    names = [ticker.symbol for ticker in universe.seed()]
    process, url = sandbox("--no-limits")
    rows = []
    try:
        with tempfile.TemporaryDirectory(dir="/tmp") as home:
            firsts, seconds = options.first.split(","), options.second.split(",")
            for first in firsts:
                second = next(name for name in seconds if name != first)
                print(f"\n{first} dead, then {second}; {len(names)} symbols")
                print(
                    f"{'':28}{'first s':>9}{'later s':>9}{'lost':>6}{'by 2nd':>8}  the first vendor is"
                )
                for name, fault in FAULTS.items():
                    row = await measure(url, Path(home), first, second, fault, names)
                    rows.append({"dead": first, "fault": name} | row)
                    print(
                        f"{name:28}{row['first']:9.2f}{row['later']:9.2f}{row['lost']:6}"
                        f"{row['from_second']:8}  {row['state']}: {row['said']}",
                        flush=True,
                    )
    finally:
        process.terminate()
        process.wait()
    worst = max(rows, key=lambda row: row["first"])
    print(
        json.dumps(
            {
                "benchmark": "failover",
                "lost": sum(row["lost"] for row in rows),
                "worst_seconds": round(worst["first"], 2),
                "worst_fault": worst["fault"],
                "cpus": os.cpu_count(),
                "rows": rows,
            }
        )
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--first", default="schwab,alpaca,polygon")
    parser.add_argument("--second", default="polygon,schwab")
    logging.disable(logging.ERROR)  # what goes wrong is in the table
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
