"""One price cycle of 500 tickers: the old design's loop and ours, in the same run.

`python -m benchmarks.price_cycle [--tickers 500] [--bars 390]`

The old design, as measured in its own repository: ticker after ticker, two token-cache round trips and one
request for the whole day of 1-minute bars; per bar one SELECT and one INSERT or UPDATE through an ORM
session that keeps every object until the one commit at the end.  Ours: the very classes of the tree,
`ProviderPool` and `PriceIngestor`, without Ray between them.  Because ours needs no session of bars to be
current, a third row stores a full session of bars with our bulk upsert, for a like-for-like of the writing.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from actors import memory
from actors.store import embedded, migrate
from benchmarks import vendor


class Meter:
    """Private memory of this process (MB) around a piece of work: growth at the highest, and the peak."""

    def __enter__(self):
        self.before = self.peak = memory.private(os.getpid()) / 1e6
        self.began, self.done = time.perf_counter(), threading.Event()
        self.watch = threading.Thread(target=self.look)
        self.watch.start()
        return self

    def look(self):
        while not self.done.wait(0.005):
            self.peak = max(self.peak, memory.private(os.getpid()) / 1e6)

    def __exit__(self, *_):
        self.seconds = time.perf_counter() - self.began
        self.peak = max(self.peak, memory.private(os.getpid()) / 1e6)
        self.done.set()
        self.watch.join()

    def figures(self):
        return {"seconds": self.seconds, "growth": self.peak - self.before, "peak": self.peak}


def report(**figures):
    print(json.dumps(figures))


async def old(dsn, url, names, cycles):
    """Run the old design's loop."""
    import sqlalchemy as sa
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

    class Base(DeclarativeBase):
        pass

    class PriceBar(Base):
        __tablename__ = "price_bars"
        __table_args__ = (
            sa.UniqueConstraint("ticker_id", "timestamp", "timeframe"),
            sa.Index("ix_bars", "ticker_id", "timestamp"),
        )
        id: Mapped[int] = mapped_column(primary_key=True)
        created_at: Mapped[datetime] = mapped_column(
            sa.DateTime(timezone=True), server_default=sa.func.now()
        )
        updated_at: Mapped[datetime] = mapped_column(
            sa.DateTime(timezone=True), server_default=sa.func.now()
        )
        ticker_id: Mapped[int]
        timestamp: Mapped[datetime] = mapped_column(sa.DateTime(timezone=True))
        timeframe: Mapped[str] = mapped_column(sa.String(16))
        open: Mapped[float] = mapped_column(sa.Numeric(18, 6, asdecimal=False))
        high: Mapped[float] = mapped_column(sa.Numeric(18, 6, asdecimal=False))
        low: Mapped[float] = mapped_column(sa.Numeric(18, 6, asdecimal=False))
        close: Mapped[float] = mapped_column(sa.Numeric(18, 6, asdecimal=False))
        volume: Mapped[int | None] = mapped_column(sa.BigInteger)
        data_provider: Mapped[str | None] = mapped_column(sa.String(32))

    socket_dir = dsn.partition("host=")[2]
    engine = create_async_engine(
        "postgresql+asyncpg://postgres@/volaris", connect_args={"host": socket_dir}
    )
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    statements = [0]
    sa.event.listen(
        engine.sync_engine,
        "before_cursor_execute",
        lambda *_: statements.__setitem__(0, statements[0] + 1),
    )
    for cycle in range(cycles):
        told = statements[0]
        with Meter() as meter:
            async with (
                httpx.AsyncClient(base_url=url, timeout=30) as client,
                AsyncSession(engine, autoflush=False) as session,
            ):
                for number, name in enumerate(names):
                    await client.get("/cache/access-token")
                    await client.get("/cache/expires")
                    answer = await client.get(
                        "/marketdata/v1/pricehistory", params={"symbol": name}
                    )
                    for candle in answer.json()["candles"]:
                        at = datetime.fromtimestamp(candle["datetime"] / 1000, UTC)
                        found = await session.execute(
                            sa.select(PriceBar).where(
                                PriceBar.ticker_id == number,
                                PriceBar.timestamp == at,
                                PriceBar.timeframe == "1m",
                            )
                        )
                        bar = found.scalar_one_or_none()
                        values = {
                            key: candle[key] for key in ("open", "high", "low", "close", "volume")
                        }
                        if bar is None:
                            session.add(
                                PriceBar(
                                    ticker_id=number,
                                    timestamp=at,
                                    timeframe="1m",
                                    data_provider="schwab",
                                    **values,
                                )
                            )
                        else:
                            for key, value in values.items():
                                setattr(bar, key, value)
                await session.commit()
        report(
            who=f"old design, cycle {cycle + 1}",
            statements=statements[0] - told,
            **meter.figures(),
        )
    await engine.dispose()


class Direct:
    """A `client.Line` to objects in this process."""

    def __init__(self):
        self.children = {}

    async def ask(self, child, method, args, kwargs, seconds):
        return await asyncio.wait_for(
            getattr(self.children[child], method)(*args, **kwargs), seconds
        )


async def ours(dsn, url, names, cycles, bars):
    """Run our cycle, then store a full session of bars in bulk."""
    import asyncpg

    from actors.client import Tree
    from actors.domain import universe
    from actors.domain.models import Bar, Ticker
    from actors.price_ingestor import PriceIngestor
    from actors.provider_pool import ProviderPool
    from actors.settings import Settings
    from actors.store import bars as stored
    from actors.store import tickers

    settings = Settings(
        volaris_home=Path(tempfile.mkdtemp(dir="/tmp")),
        database_url=dsn,
        schwab_base_url=url,
        schwab_app_key="k",
        schwab_secret_key="s",
        schwab_refresh_token="r",
        settled_sandbox_url=url,
    )
    statements = [0]
    connect = asyncpg.connection.Connection.__init__

    def counted(self, *args, **kwargs):
        connect(self, *args, **kwargs)
        self.add_query_logger(lambda _: statements.__setitem__(0, statements[0] + 1))

    asyncpg.connection.Connection.__init__ = counted
    universe.seed = lambda: tuple(Ticker(name, name) for name in names)
    line = Direct()
    tree = Tree(line)
    pool, ingestor = ProviderPool(settings, tree), PriceIngestor(settings, tree)
    line.children = {"provider_pool": pool, "price_ingestor": ingestor}
    await pool.start()
    await ingestor.start()
    await pool.quotes(["SPY"])  # logged in, as the old design is by its token cache
    for cycle in range(cycles):
        told = statements[0]
        with Meter() as meter:
            done = await ingestor.refresh()
        assert done.stored == len(names), done
        report(who=f"ours, cycle {cycle + 1}", statements=statements[0] - told, **meter.figures())
    await ingestor.stop()
    await pool.stop()
    candles = vendor._candles(bars)
    connection = await asyncpg.connect(dsn)
    connection.add_query_logger(lambda _: statements.__setitem__(0, statements[0] + 1))
    ids = await tickers.ids(connection)
    day = datetime.now(UTC).date()
    await stored.ensure_partitions(connection, [day, day + timedelta(days=1)])
    told = statements[0]
    with Meter() as meter:
        async with connection.transaction():
            for start in range(0, len(names), 25):
                some = [
                    Bar(
                        name,
                        datetime.fromtimestamp(c["datetime"] / 1000, UTC),
                        c["open"],
                        c["high"],
                        c["low"],
                        c["close"],
                        c["volume"],
                        "schwab",
                    )
                    for name in names[start : start + 25]
                    for c in candles
                ]
                await stored.upsert_minutes(connection, ids, some)
    report(
        who=f"ours, bulk upsert of {len(names) * bars:,} bars",
        statements=statements[0] - told,
        **meter.figures(),
    )
    await connection.close()


def measure(who, dsn, url, options):
    """Run one side in a process of its own; return its reports, with the requests the vendor counted."""
    before = httpx.get(f"{url}/counts").json()
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "benchmarks.price_cycle",
                "--side",
                who,
                "--dsn",
                dsn,
                "--url",
                url,
            ),
            *("--tickers", str(options.tickers), "--bars", str(options.bars)),
            *("--cycles", str(options.cycles)),
        ],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    after = httpx.get(f"{url}/counts").json()
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    cycles = [row for row in rows if "cycle" in row["who"]]
    for row in cycles:
        row["requests"] = (after.get("vendor", 0) - before.get("vendor", 0)) // len(cycles)
        row["cache"] = (after.get("token cache", 0) - before.get("token cache", 0)) // len(cycles)
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tickers", type=int, default=500)
    parser.add_argument("--bars", type=int, default=vendor.SESSION)
    parser.add_argument("--cycles", type=int, default=2)
    parser.add_argument("--side", choices=("old", "ours"), help=argparse.SUPPRESS)
    parser.add_argument("--dsn", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = vendor.symbols(options.tickers)
    if options.side == "old":
        asyncio.run(old(options.dsn, options.url, names, options.cycles))
    elif options.side == "ours":
        asyncio.run(ours(options.dsn, options.url, names, options.cycles, options.bars))
    else:
        compare(options)


def compare(options):
    home = Path(tempfile.mkdtemp(prefix="vb", dir="/tmp"))
    process, url = vendor.start(options.bars)
    try:
        dsn = embedded.ensure_server(home)
        asyncio.run(migrate.migrate(dsn))
        rows = measure("ours", dsn, url, options) + measure("old", dsn, url, options)
    finally:
        process.terminate()
        process.wait()
        embedded.stop_server(home)
    print(
        f"{options.tickers} tickers, {options.bars} bars a session, vendor answers after {vendor.DELAY * 1e3:.0f} ms"
    )
    print(
        f"{'':38}{'seconds':>9}{'requests':>10}{'token cache':>13}{'SQL':>9}{'growth MB':>11}{'peak MB':>9}"
    )
    for row in rows:
        print(
            f"{row['who']:38}{row['seconds']:9.2f}{row.get('requests', 0):10}{row.get('cache', 0):13}"
            f"{row['statements']:9}{row['growth']:11.1f}{row['peak']:9.0f}"
        )
    best = {row["who"]: row["seconds"] for row in rows}
    ratio = best["old design, cycle 1"] / best["ours, cycle 1"]
    print(f"old design / ours: {ratio:.0f}×")
    print(
        json.dumps(
            {
                "benchmark": "price_cycle",
                "ratio": round(ratio, 1),
                "cpus": os.cpu_count(),
                "rows": rows,
            }
        )
    )


if __name__ == "__main__":
    main()
