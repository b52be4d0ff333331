"""One price cycle of the universe with each vendor alone: requests, seconds, quotes, on its free and paid plan.

`python -m benchmarks.alone`

The sandbox speaks for the vendors over HTTP and enforces their plans; the pool is the one of the tree, in
this process, and keeps the plan by itself.  A vendor that cannot sell the universe in a cycle says so.
"""

import asyncio
import json
import logging
import tempfile
import time
from pathlib import Path

import httpx

from actors.domain import universe
from actors.provider_pool import ProviderPool
from actors.providers.base import ProviderError
from actors.settings import Settings
from benchmarks.failover import KEYS, NoBooks, sandbox

FREE = {
    "schwab": (KEYS["schwab"], None),
    "alpaca": ({"alpaca_api_key": "free-key", "alpaca_api_secret": "s"}, None),
    "tiingo": ({"tiingo_api_key": "free-key"}, None),
    "polygon": ({"polygon_api_key": "free-key"}, None),
    "finnhub": ({"finnhub_api_key": "free-key"}, None),
    "databento": ({"databento_api_key": "free-key"}, None),
}
PAID = {
    "tiingo": (KEYS["tiingo"], "10000/h 100000/day 40GB/month"),
    "polygon": (KEYS["polygon"], "100/s"),
    "finnhub": (KEYS["finnhub"], "300/min 30/s"),
}


async def cycle(url, home, vendor, keys, limit, names):
    given = {f"{vendor}_base_url": f"{url}/{vendor}"}
    if vendor == "alpaca":
        given["alpaca_trading_url"] = f"{url}/alpaca"
    plan = {"volaris_limit": {vendor: limit}} if limit else {}
    pool = ProviderPool(Settings(volaris_home=home, **given, **plan, **keys), None, books=NoBooks())
    await pool.start()
    async with httpx.AsyncClient(base_url=url, timeout=10) as control:
        before = (await control.get("/control/requests")).json()["vendors"].get(vendor, {})
        began, said, quotes = time.perf_counter(), "", 0
        try:
            batch = await pool.quotes(names)
            quotes = len(batch.quotes)
            said = batch.failed[0][1] if batch.failed else ""
        except ProviderError as e:
            said = str(e)
        seconds = time.perf_counter() - began
        after = (await control.get("/control/requests")).json()["vendors"].get(vendor, {})
    await pool.stop()
    statuses = after.get("statuses", {})
    refused = statuses.get("429", 0) - before.get("statuses", {}).get("429", 0)
    requests = after.get("total", 0) - before.get("total", 0)
    return {
        "requests": requests,
        "seconds": seconds,
        "quotes": quotes,
        "429": refused,
        "said": said,
    }


async def run():
    names, rows = [ticker.symbol for ticker in universe.seed()], []
    process, url = sandbox()
    try:
        print(f"{'':20}{'requests':>9}{'seconds':>9}{'quotes':>8}{'429':>5}")
        with tempfile.TemporaryDirectory(dir="/tmp") as home:
            for plan, table in (("free", FREE), ("paid", PAID)):
                for vendor, (keys, limit) in table.items():
                    row = await cycle(url, Path(home), vendor, keys, limit, names)
                    rows.append({"vendor": vendor, "plan": plan} | row)
                    print(
                        f"{vendor + ', ' + plan:20}{row['requests']:9}{row['seconds']:9.2f}"
                        f"{row['quotes']:8}{row['429']:5}  {row['said'][:90]}",
                        flush=True,
                    )
    finally:
        process.terminate()
        process.wait()
    print(json.dumps({"benchmark": "alone", "symbols": len(names), "rows": rows}))


if __name__ == "__main__":
    logging.disable(logging.ERROR)
    asyncio.run(run())
