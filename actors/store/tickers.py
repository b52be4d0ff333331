"""The tickers that are followed: the seed list, and what somebody asked for lately."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from actors.domain.models import Ticker
from actors.store.database import Connection, aware

# Rows that exist are never "inserted": each try would use up one of the 32,767 ids.
SYNC = """
WITH given AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
                  AS g(symbol, name, kind, sector)
), changed AS (
    UPDATE tickers t
    SET name = g.name, kind = g.kind, sector = g.sector, active = true, asked_at = NULL
    FROM given g
    WHERE t.symbol = g.symbol
      AND (t.name, t.kind, t.sector, t.active, t.asked_at)
          IS DISTINCT FROM (g.name, g.kind, g.sector, true, NULL::timestamptz)
)
INSERT INTO tickers (symbol, name, kind, sector)
SELECT g.symbol, g.name, g.kind, g.sector FROM given g
WHERE NOT EXISTS (SELECT FROM tickers t WHERE t.symbol = g.symbol)
ORDER BY g.symbol
ON CONFLICT (symbol) DO NOTHING
"""
IDS = "SELECT symbol, id FROM tickers WHERE active"
ASKED = "SELECT symbol, asked_at FROM tickers WHERE active AND asked_at IS NOT NULL"
REVIVE = """
UPDATE tickers
SET active = true, asked_at = CASE WHEN asked_at IS NULL AND active THEN NULL ELSE $2::timestamptz END
WHERE symbol = $1 RETURNING id
"""
ADD = """
INSERT INTO tickers (symbol, name, kind, sector, asked_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (symbol) DO UPDATE SET active = true RETURNING id
"""
# Known, but not followed: who has history need not have quotes.
NAME = """
INSERT INTO tickers (symbol, name, kind, active)
SELECT g.symbol, g.symbol, 'stock', false FROM unnest($1::text[]) AS g(symbol)
WHERE NOT EXISTS (SELECT FROM tickers t WHERE t.symbol = g.symbol)
ORDER BY g.symbol
ON CONFLICT (symbol) DO NOTHING
"""
NAMED = "SELECT symbol, id FROM tickers WHERE symbol = ANY($1::text[])"
TOUCH = """
UPDATE tickers t SET asked_at = g.at
FROM unnest($1::text[], $2::timestamptz[]) AS g(symbol, at)
WHERE t.symbol = g.symbol AND t.asked_at < g.at
"""
RETIRE_UNASKED = "UPDATE tickers SET active = false WHERE active AND asked_at < $1"
RETIRE = "UPDATE tickers SET active = false WHERE symbol = ANY($1::text[]) AND asked_at IS NOT NULL"


async def sync(connection: Connection, tickers: Iterable[Ticker]) -> None:
    """Make the tickers of the seed list active members, as the list has them."""
    rows = list({ticker.symbol: ticker for ticker in tickers}.values())
    await connection.execute(
        SYNC,
        [row.symbol for row in rows],
        [row.name for row in rows],
        [row.kind for row in rows],
        [row.sector for row in rows],
    )


async def ids(connection: Connection) -> dict[str, int]:
    """Return the id of each active symbol."""
    return {row["symbol"]: row["id"] for row in await connection.fetch(IDS)}


async def asked(connection: Connection) -> dict[str, datetime]:
    """Return when each active symbol that is not of the seed list was last asked for."""
    return {row["symbol"]: row["asked_at"] for row in await connection.fetch(ASKED)}


async def add(connection: Connection, ticker: Ticker, asked_at: datetime) -> int:
    """Make a ticker that somebody asked for an active member and return its id."""
    found = await connection.fetchval(REVIVE, ticker.symbol, aware(asked_at))
    if found is None:
        found = await connection.fetchval(
            ADD, ticker.symbol, ticker.name, ticker.kind, ticker.sector, asked_at
        )
    return int(found)


async def identify(connection: Connection, symbols: Iterable[str]) -> dict[str, int]:
    """Return the id of each symbol, followed or not; new ones get one, and are not followed."""
    names = sorted(set(symbols))
    rows = await connection.fetch(NAMED, names)
    if len(rows) < len(names):
        await connection.execute(NAME, names)
        rows = await connection.fetch(NAMED, names)
    return {row["symbol"]: row["id"] for row in rows}


async def touch(connection: Connection, seen: Mapping[str, datetime]) -> None:
    """Note that symbols were asked for again."""
    await connection.execute(TOUCH, list(seen), [aware(at) for at in seen.values()])


async def retire_unasked(connection: Connection, since: datetime) -> None:
    """Follow the symbols no longer that nobody has asked for since a time."""
    await connection.execute(RETIRE_UNASKED, aware(since))


async def retire(connection: Connection, symbols: Iterable[str]) -> None:
    """Follow asked-for symbols no longer; their history stays, the seed list is not touched."""
    await connection.execute(RETIRE, list(symbols))
