"""What is spent of the vendors' limits: one row a limit."""

from collections.abc import Mapping

from actors.providers.limits import Entry
from actors.store.database import Connection

LOAD = "SELECT limited, at, level, spent, symbols FROM vendor_spend WHERE vendor = $1"
SAVE = """
INSERT INTO vendor_spend (vendor, limited, at, level, spent, symbols)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (vendor, limited) DO UPDATE
SET at = EXCLUDED.at, level = EXCLUDED.level, spent = EXCLUDED.spent, symbols = EXCLUDED.symbols
"""


async def load(connection: Connection, vendor: str) -> dict[str, Entry]:
    """Return what is written down of a vendor, by the limit's key."""
    return {
        row["limited"]: Entry(row["at"], row["level"], row["spent"], tuple(row["symbols"]))
        for row in await connection.fetch(LOAD, vendor)
    }


async def save(connection: Connection, vendor: str, entries: Mapping[str, Entry]) -> None:
    """Write these down in place of those before."""
    rows = [(vendor, key, e.at, e.level, e.spent, list(e.symbols)) for key, e in entries.items()]
    await connection.executemany(SAVE, rows)
