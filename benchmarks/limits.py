"""A simulated month against each vendor's free plan: is any limit ever exceeded, as the sandbox counts it?

`python -m benchmarks.limits [--days 21] [--vendors tiingo,polygon] [--seed 7]`

The sandbox and the pool run in one process on a clock that jumps to whatever comes next.  Each vendor is alone.
In market hours there is a price cycle of the universe every two minutes; people ask for quotes, bars and
profiles at any time, now and then many at once; every evening a backfill takes what the limits give for half an
hour; and the pool is stopped and started, or killed without a word, about four times a day.  The sandbox's
meters refuse what is too much with the vendor's own 429, and note the most that any window ever held.
"""

import argparse
import asyncio
import json
import logging
import os
import random
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from actors.domain import calendar, universe
from actors.domain.models import Timeframe
from actors.provider_pool import ProviderPool
from actors.providers import PROVIDERS
from actors.providers.base import ProviderError, RateLimited
from actors.settings import Settings
from sandbox import meters as metering
from sandbox.app import build
from sandbox.clock import Clock
from sandbox.meters import Meters

BEGIN = datetime(2026, 10, 30, 8, 0, tzinfo=UTC)  # a Friday: the month changes on the first weekend
KEYS = {
    "schwab": {
        "schwab_app_key": "k",
        "schwab_secret_key": "s",
        "schwab_refresh_token": "sandbox-refresh-token",
    },
    "alpaca": {"alpaca_api_key": "free-key", "alpaca_api_secret": "s"},
    "polygon": {"polygon_api_key": "free-key"},
    "tiingo": {"tiingo_api_key": "free-key"},
    "finnhub": {"finnhub_api_key": "free-key"},
    "databento": {"databento_api_key": "db-free-key"},
}


class Jumping(selectors.DefaultSelector):
    """A selector that never waits: where nothing is ready, time jumps to the next timer."""

    jumped = 0.0

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready and timeout:
            Jumping.jumped += timeout
        return ready


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose time is what was jumped, and nothing else."""

    def time(self):
        return Jumping.jumped


def now():
    return BEGIN + timedelta(seconds=Jumping.jumped)


class Books:
    """What outlives a pool."""

    def __init__(self):
        self.logins, self.rows = {}, {}

    async def load(self, vendor):
        return self.logins.get(vendor)

    async def save(self, vendor, sealed):
        self.logins[vendor] = sealed

    async def spend(self, vendor):
        return dict(self.rows.get(vendor, {}))

    async def note(self, vendor, entries):
        self.rows.setdefault(vendor, {}).update(entries)


class Canned:
    """Gives the first good answer of each URL again and again: what is measured is the asking."""

    def __init__(self, app):
        self.app, self.kept = app, {}

    async def __call__(self, scope, receive, send):
        key = (scope["method"], scope["path"], scope["query_string"])
        if scope["method"] != "GET":
            await self.app(scope, receive, send)
        elif key in self.kept:
            for message in self.kept[key]:
                await send(message)
        else:
            messages = []

            async def keep(message):
                messages.append(message)
                await send(message)

            await self.app(scope, receive, keep)
            if messages[0]["status"] == 200 and len(self.kept) < 3_000:
                self.kept[key] = messages


class Month:
    """One vendor's month."""

    def __init__(self, vendor, seed, days):
        self.vendor, self.chance, self.days = vendor, random.Random(f"{vendor} {seed}"), days
        self.meters = Meters(now)
        # Held still, so that there is little to compute; limits are counted by the jumping clock.
        gate = build(clock=Clock(BEGIN, 0.0), meters=self.meters)
        gate._app = Canned(gate._app)
        self.transport = httpx.ASGITransport(app=gate)
        self.books, self.told = Books(), Counter()
        self.names = [ticker.symbol for ticker in universe.seed()]
        self.pool = None

    async def begin(self, home):
        url = "http://127.0.0.1:1"
        given = {f"{self.vendor}_base_url": f"{url}/{self.vendor}"}
        if self.vendor == "alpaca":
            given["alpaca_trading_url"] = f"{url}/alpaca"
        settings = Settings(volaris_home=home, **given, **KEYS[self.vendor])
        self.pool = ProviderPool(
            settings,
            None,
            books=self.books,
            transport=self.transport,
            now=now,
            clock=lambda: Jumping.jumped,
        )
        await self.pool.start()

    async def end(self, *, killed):
        """Stop the pool in good order, or as SIGKILL would: nothing more is written down."""
        self.told["kills" if killed else "stops"] += 1
        if killed:
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0)
        else:
            await self.pool.stop()

    async def ask(self, what, *args, **kwargs):
        try:
            answer = await getattr(self.pool, what)(*args, **kwargs)
        except RateLimited:
            self.told["refused by us"] += 1
        except ProviderError as e:
            self.told[type(e).__name__] += 1
        else:
            self.told["answered"] += 1
            return answer
        return None

    async def person(self):
        """Ask what somebody may ask."""
        symbol = self.chance.choice([*self.names, "TSLA", "NOPE", "ZZZZ", "ARKK", "BRK.A"])
        end = now().replace(minute=0, second=0, microsecond=0)
        match self.chance.randrange(4):
            case 0 | 1:
                await self.ask("quotes", (symbol,))
            case 2:
                await self.ask("bars", symbol, Timeframe.DAY, end - timedelta(days=90), end)
            case _:
                await self.ask("profile", symbol)

    async def backfill(self, until):
        """Take pages of daily bars until the limits or the time say stop."""
        page, end = None, datetime(2026, 10, 29, tzinfo=UTC)
        while now() < until:
            answer = await self.ask(
                "bars_page", self.names, Timeframe.DAY, end - timedelta(days=365), end, page
            )
            if answer is None:
                await asyncio.sleep(120)
            elif answer.next is None:
                return
            else:
                page = answer.next

    async def run(self, home):
        await self.begin(home)
        end = now() + timedelta(days=self.days * 7 / 5)
        next_end = now() + timedelta(hours=self.chance.expovariate(1 / 6))
        filled = None
        while now() < end:
            if now() >= next_end:
                await self.end(killed=self.chance.random() < 0.5)
                await asyncio.sleep(self.chance.choice((0, 1, 5, 60, 600)))
                await self.begin(home)
                next_end = now() + timedelta(hours=self.chance.expovariate(1 / 6))
            local = now().astimezone(calendar.NEW_YORK)
            work = []
            if calendar.is_open(now()):
                work.append(self.ask("quotes", self.names, sweep=True))
            crowd = self.chance.random()
            people = 40 if crowd < 0.004 else 1 if crowd < 0.25 else 0
            work += [self.person() for _ in range(people)]
            if local.hour == 17 and local.minute >= 30 and filled != local.date():
                filled = local.date()
                work.append(self.backfill(now() + timedelta(minutes=30)))
            cycle = asyncio.gather(*work)
            await asyncio.gather(cycle, asyncio.sleep(120))
        await self.end(killed=False)

    def figures(self):
        [account] = self.meters.told()[self.vendor]["keys"]
        return {
            "vendor": self.vendor,
            "requests": account["let_in"],
            "429": account["refused"],
            "over": account["over"],
            "peaks": {row["limit"]: row["peak"] for row in account["limits"]},
            "most": {row["limit"]: row["most"] for row in account["limits"]},
            **self.told,
        }


def one(vendor, options):
    """Run one vendor's month in a process of its own, and return its figures."""
    metering.key_of = lambda scope: "free-key"  # of one account, however often it logs in
    month = Month(vendor, options.seed, options.days)
    began = time.perf_counter()
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as home,
        asyncio.Runner(loop_factory=lambda: Loop(Jumping())) as runner,
    ):
        runner.run(month.run(Path(home)))
    return month.figures() | {"wall": round(time.perf_counter() - began, 1)}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--days", type=int, default=21, help="trading days")
    parser.add_argument("--vendors", default=",".join(name for name in KEYS if name in PROVIDERS))
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.disable(logging.ERROR)
    if options.one:
        print(json.dumps(one(options.one, options)))
        return
    rows = []
    print(
        f"{options.days} trading days, {os.cpu_count()} CPUs; a limit is shown as the most that one of its"
        " windows held / what the plan allows"
    )
    print(
        f"{'':10}{'requests':>9}{'429s':>6}{'over':>6}{'we refused':>12}{'stops+kills':>13}  peaks"
    )
    for vendor in options.vendors.split(","):
        command = (
            *(sys.executable, "-m", "benchmarks.limits", "--one", vendor),
            *("--days", str(options.days), "--seed", str(options.seed)),
        )
        row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        rows.append(row)
        peaks = "  ".join(
            f"{limit}: {peak:,} / {row['most'][limit]:,}" for limit, peak in row["peaks"].items()
        )
        restarts = f"{row.get('stops', 0)}+{row.get('kills', 0)}"
        print(
            f"{vendor:10}{row['requests']:9,}{row['429']:6}{row['over']:6}"
            f"{row.get('refused by us', 0):12,}{restarts:>13}  {peaks}",
            flush=True,
        )
    exceeded = sum(row["429"] + row["over"] for row in rows)
    print(json.dumps({"benchmark": "limits", "exceeded": exceeded, "rows": rows}))


if __name__ == "__main__":
    main()
