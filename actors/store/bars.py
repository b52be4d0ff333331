"""1-minute bars, which live in a partition a UTC day so that expiry is a DROP, and daily bars."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from operator import attrgetter

import asyncpg

from actors.domain.models import Bar
from actors.store.database import Connection, aware, count

CHUNK = 5_000  # rows a statement: a connection that has run 25,000 keeps 17 MB, with 5,000 it is 9
PARTITIONS = 0x766F6C6172697302  # advisory lock of whoever makes or drops them: "volaris" and a two

VALUES = ("open", "high", "low", "close", "volume", "polled", "source")
OF_BAR = attrgetter(*VALUES)
COLUMNS = ", ".join(VALUES)


def _upsert(table: str, key: str, kind: str) -> str:
    # In key order, so that two writers lock rows in the same order.  What a vendor told of a bar is
    # better than what was put together from polled quotes, and is never replaced by it.
    return f"""
INSERT INTO {table} AS b (ticker_id, {key}, {COLUMNS})
SELECT * FROM unnest($1::smallint[], $2::{kind}[], $3::float8[], $4::float8[], $5::float8[],
                     $6::float8[], $7::bigint[], $8::boolean[], $9::text[])
              AS t(ticker_id, {key}, {COLUMNS})
ORDER BY ticker_id, {key}
ON CONFLICT (ticker_id, {key}) DO UPDATE
SET {", ".join(f"{name} = EXCLUDED.{name}" for name in VALUES)}
WHERE (b.polled OR NOT EXCLUDED.polled)
  AND ({", ".join(f"b.{name}" for name in VALUES)})
      IS DISTINCT FROM ({", ".join(f"EXCLUDED.{name}" for name in VALUES)})
"""  # noqa: S608  (names of ours)


def _newest(table: str, key: str) -> str:
    return f"""
SELECT b.{key}, {", ".join(f"b.{name}" for name in VALUES)}
FROM {table} b JOIN tickers t ON t.id = b.ticker_id
WHERE t.symbol = $1 AND b.{key} >= $2 AND b.{key} < $3
ORDER BY b.{key} DESC LIMIT $4
"""  # noqa: S608


UPSERT_MINUTES, UPSERT_DAYS = (
    _upsert("bars_1m", "at", "timestamptz"),
    _upsert("bars_1d", "day", "date"),
)
MINUTES, DAYS = _newest("bars_1m", "at"), _newest("bars_1d", "day")
COMPLETE = """
SELECT b.day FROM bars_1d b JOIN tickers t ON t.id = b.ticker_id
WHERE t.symbol = $1 AND b.day BETWEEN $2 AND $3 AND NOT b.polled
"""
LIVING = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'bars_1m'::regclass
"""
TAKE_TURN = "SELECT pg_advisory_xact_lock($1)"
# The parent is locked for the making of a partition, and readers queue behind whoever waits for it.
PATIENCE = "SET LOCAL lock_timeout = '5s'"


async def upsert_minutes(
    connection: Connection, ids: Mapping[str, int], bars: Iterable[Bar]
) -> int:
    """Store 1-minute bars and return how many were new or differed; their partitions must exist."""
    return await _store(
        connection, UPSERT_MINUTES, {(ids[bar.symbol], aware(bar.at)): bar for bar in bars}
    )


async def upsert_days(connection: Connection, ids: Mapping[str, int], bars: Iterable[Bar]) -> int:
    """Store daily bars and return how many were new or differed."""
    return await _store(
        connection, UPSERT_DAYS, {(ids[bar.symbol], day_of(bar)): bar for bar in bars}
    )


async def _store(
    connection: Connection, statement: str, bars: Mapping[tuple[int, date], Bar]
) -> int:
    rows, stored = list(bars.items()), 0
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        status = await connection.execute(
            statement,
            [key[0] for key, _ in chunk],
            [key[1] for key, _ in chunk],
            *zip(*(OF_BAR(bar) for _, bar in chunk), strict=True),
        )
        stored += count(status)
    return stored


async def minutes(
    connection: Connection, symbol: str, start: datetime, end: datetime, limit: int
) -> list[Bar]:
    """Return the newest `limit` 1-minute bars of start <= at < end, oldest first."""
    rows = await connection.fetch(MINUTES, symbol, aware(start), aware(end), limit)
    return [_bar(symbol, row["at"], row) for row in reversed(rows)]


async def days(
    connection: Connection, symbol: str, start: datetime, end: datetime, limit: int
) -> list[Bar]:
    """Return the newest `limit` daily bars of start <= at < end, oldest first."""
    rows = await connection.fetch(DAYS, symbol, first_day(start), first_day(end), limit)
    return [_bar(symbol, midnight(row["day"]), row) for row in reversed(rows)]


async def complete_days(connection: Connection, symbol: str, first: date, last: date) -> set[date]:
    """Return the days of [first, last] whose daily bar is of the whole day."""
    return {row["day"] for row in await connection.fetch(COMPLETE, symbol, first, last)}


async def ensure_partitions(connection: Connection, days: Iterable[date]) -> None:
    """Make the partitions of the UTC days that have none.

    In a transaction that has written bars it may deadlock with another of the kind.
    """
    wanted = {_partition(day): day for day in days}
    if wanted.keys() <= await _living(connection):
        return
    await connection.execute(TAKE_TURN, PARTITIONS)
    await connection.execute(PATIENCE)
    for name in sorted(wanted.keys() - await _living(connection)):
        day = wanted[name]
        await connection.execute(
            f"CREATE TABLE {name} PARTITION OF bars_1m "
            f"FOR VALUES FROM ('{midnight(day)}') TO ('{midnight(day + timedelta(1))}')"
        )


async def drop_before(connection: Connection, day: date) -> int:
    """Drop the partitions of the UTC days before `day` and return how many that were."""
    await connection.execute(TAKE_TURN, PARTITIONS)
    await connection.execute(PATIENCE)
    old = sorted(name for name in await _living(connection) if name < _partition(day))
    for name in old:
        await connection.execute(f"DROP TABLE {name}")
    return len(old)


def midnight(day: date) -> datetime:
    """Return the `at` of a daily bar: midnight UTC of its date."""
    return datetime.combine(day, time(), UTC)


def day_of(bar: Bar) -> date:
    """Return the date of a daily bar; `ValueError` where its time is not midnight UTC."""
    if aware(bar.at) != midnight(bar.at.date()):
        raise ValueError(f"a daily bar is at midnight UTC of its date, was {bar.at.isoformat()}")
    return bar.at.date()


def first_day(at: datetime) -> date:
    """Return the first date whose midnight UTC is not before a time."""
    day = aware(at).astimezone(UTC).date()
    return day if midnight(day) == at else day + timedelta(1)


def _partition(day: date) -> str:
    return f"bars_1m_{day:%Y%m%d}"


async def _living(connection: Connection) -> set[str]:
    return {row["relname"] for row in await connection.fetch(LIVING)}


def _bar(symbol: str, at: datetime, row: asyncpg.Record) -> Bar:
    return Bar(symbol=symbol, at=at, **{name: row[name] for name in VALUES})
