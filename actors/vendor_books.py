"""What the provider pool must not forget, in PostgreSQL: sealed logins, and what is spent of each limit."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from actors.providers.base import StoreAway
from actors.providers.limits import Entry
from actors.settings import Refused, Settings

if TYPE_CHECKING:
    from actors.store.database import Connection, Database

T = TypeVar("T")

STORE_WITHIN = 10.0  # seconds


class DatabaseBooks:
    """`TokenStore` and `Ledger`; opened at the first use, because the pool starts without the database."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._database: Database | None = None

    async def load(self, vendor: str) -> bytes | None:
        """Return the vendor's sealed login."""
        from actors.store import tokens  # late: asyncpg costs memory where other books are given

        return await self._run(lambda connection: tokens.load(connection, vendor))

    async def save(self, vendor: str, sealed: bytes) -> None:
        """Store the vendor's sealed login."""
        from actors.store import tokens

        await self._run(lambda connection: tokens.save(connection, vendor, sealed))

    async def spend(self, vendor: str) -> Mapping[str, Entry]:
        """Return what is written down of a vendor's limits."""
        from actors.store import spend

        return await self._run(lambda connection: spend.load(connection, vendor))

    async def note(self, vendor: str, entries: Mapping[str, Entry]) -> None:
        """Write down what may be spent of a vendor's limits."""
        from actors.store import spend

        await self._run(lambda connection: spend.save(connection, vendor, entries))

    async def close(self) -> None:
        """Close the connections, if any were opened."""
        if self._database is not None:
            await self._database.close()

    async def _run(self, step: "Callable[[Connection], Awaitable[T]]") -> T:
        import asyncpg

        from actors.store.database import Database, DatabaseAway

        try:
            if self._database is None:
                self._database = Database.of(self._settings)
            return await self._database.run(step, deadline=STORE_WITHIN)
        except (DatabaseAway, Refused, asyncpg.PostgresError, asyncpg.InterfaceError) as e:
            raise StoreAway(type(e).__name__) from None
