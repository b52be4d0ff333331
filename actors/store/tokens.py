"""OAuth tokens at rest; they come sealed, and the key is not in the database."""

from actors.store.database import Connection

LOAD = "SELECT sealed FROM oauth_tokens WHERE vendor = $1"
SAVE = """
INSERT INTO oauth_tokens (vendor, sealed) VALUES ($1, $2)
ON CONFLICT (vendor) DO UPDATE SET sealed = EXCLUDED.sealed, updated_at = now()
"""


async def load(connection: Connection, vendor: str) -> bytes | None:
    """Return the sealed token of a vendor."""
    found: bytes | None = await connection.fetchval(LOAD, vendor)
    return found


async def save(connection: Connection, vendor: str, sealed: bytes) -> None:
    """Store the sealed token of a vendor in place of the one before."""
    await connection.execute(SAVE, vendor, sealed)
