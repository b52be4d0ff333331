"""One pool of PostgreSQL connections, and the promise that a step written for it survives faults.

A step is a coroutine function over a connection; it is run as one transaction, and run again when
the connection, the server or a rival transaction broke it.  So a step must be safe to repeat:
upserts with natural keys, or rows with an id of their own.
"""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Literal, Self, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from actors.settings import Refused, Settings
from actors.store import embedded

T = TypeVar("T")
Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
Isolation = Literal["read_committed", "repeatable_read", "serializable"]

OLDEST = 14  # major version of PostgreSQL
CONNECT_WITHIN = 15.0  # seconds; a suspended compute needs some to wake up
ANSWER_WITHIN = 30.0
UNWIND_WITHIN = 1.0  # seconds past a deadline for a statement to be cancelled in good order
IDLE = 60.0  # seconds; an idle connection costs the server 1.5 to 9 MB
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0

# What a repeat can cure.  The two Interface/Internal errors are what asyncpg says when a connection
# breaks in the middle of something; they look like bugs and are not.
RIVALS = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
    asyncpg.InvalidCachedStatementError,
)
FAULTS = (
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    OSError,  # TimeoutError is one
)
BROKEN = ("connection is closed", "connection was closed", "another operation", "is closing")


class DatabaseAway(Exception):
    """No transaction could be finished within the deadline; it may be tried again later."""


class Database:
    """PostgreSQL as the actors use it; opens itself at the first step and again after faults."""

    def __init__(
        self,
        dsn: str,
        *,
        heal: Callable[[], Awaitable[object]] | None = None,
        max_size: int = 4,
        pooled: bool = True,
    ) -> None:
        self._dsn = clean_dsn(dsn)
        self._heal = heal
        self._max_size = max_size
        self._pooled = pooled  # there may be a transaction pooler between: no prepared statements
        self._pool: asyncpg.Pool | None = None
        self._healing: asyncio.Task[object] | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the settings' database; the home's own server is started again when it dies."""
        if settings.database_url is None:
            raise Refused("DATABASE_URL must be settled before the tree starts, was not set")
        dsn, home = settings.database_url.get_secret_value(), settings.volaris_home
        if dsn != embedded.address(home):
            return cls(dsn)
        return cls(dsn, heal=lambda: asyncio.to_thread(embedded.ensure_server, home), pooled=False)

    async def run(
        self,
        step: Callable[[Connection], Awaitable[T]],
        *,
        deadline: float = 30.0,
        isolation: Isolation | None = None,
    ) -> T:
        """Run `step` as one transaction, again after a fault; `DatabaseAway` after the deadline."""
        clock = asyncio.get_running_loop().time
        end = clock() + deadline
        cause: BaseException | None = None
        pause = FIRST_PAUSE
        while True:
            try:
                async with asyncio.timeout_at(end):
                    if cause is not None:
                        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
                        pause = min(pause * 2, LONGEST_PAUSE)
                        await self._mend(cause)
                    return await self._once(step, isolation, end)
            except Exception as e:
                timed_out = clock() >= end
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    # The caller has given up, and a broken connection has hidden it.
                    raise asyncio.CancelledError from None
                if not curable(e):
                    raise
                # The deadline's own TimeoutError says less than the fault before it.
                if cause is None or not timed_out:
                    cause = e
                if timed_out:
                    why = f"the last cause was {type(cause).__name__}"
                    raise DatabaseAway(f"no transaction within {deadline:g} s, {why}") from None

    async def read(
        self, step: Callable[[Connection], Awaitable[T]], *, deadline: float = 30.0
    ) -> T:
        """Run a step that only reads; the same promise as `run`."""
        return await self.run(step, deadline=deadline)

    async def close(self) -> None:
        """Close every connection; a step in hand has five seconds."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            await asyncio.wait_for(pool.close(), 5)
        except (*FAULTS, asyncpg.InterfaceError):
            pool.terminate()

    async def _once(
        self,
        step: Callable[[Connection], Awaitable[T]],
        isolation: Isolation | None,
        end: float,
    ) -> T:
        if self._pool is None:
            self._pool = asyncpg.create_pool(
                self._dsn,
                min_size=0,
                max_size=self._max_size,
                statement_cache_size=0 if self._pooled else 100,
                max_inactive_connection_lifetime=IDLE,
                timeout=CONNECT_WITHIN,
                command_timeout=ANSWER_WITHIN,
                init=_prepare,
                reset=_leave,
                server_settings={"application_name": "volaris"},
            )
        pool = await self._pool
        connection = await pool.acquire()
        # A frozen server answers neither the cancelling of a statement nor the rollback, and asyncpg
        # waits for both without a bound.
        cut = asyncio.get_running_loop().call_at(end + UNWIND_WITHIN, connection.terminate)
        try:
            async with connection.transaction(isolation=isolation):
                return await step(connection)
        finally:
            try:
                await pool.release(connection)
            finally:
                cut.cancel()

    async def _mend(self, cause: BaseException) -> None:
        """Make the next attempt a fresh one: no connection of before, and a server that runs."""
        if isinstance(cause, RIVALS):
            return
        if self._pool is not None:
            await self._pool.expire_connections()
        if self._heal is not None:
            if self._healing is None or self._healing.done():
                self._healing = asyncio.ensure_future(self._heal())
            await asyncio.shield(self._healing)


def curable(e: BaseException) -> bool:
    """Tell whether running the transaction again can help against this error."""
    if isinstance(e, asyncpg.InterfaceError):
        return any(words in str(e) for words in BROKEN)
    return isinstance(e, (*RIVALS, *FAULTS, embedded.ServerFailed))


def clean_dsn(dsn: str) -> str:
    """Return the DSN as asyncpg takes it; `ValueError` for one that is not PostgreSQL's."""
    parts = urlsplit(dsn)
    if parts.scheme not in ("postgresql", "postgres"):
        raise ValueError(
            f"DATABASE_URL must start with postgresql://, was {parts.scheme or 'a text without ://'}"
        )
    try:
        well = parts.hostname is not None or "host=" in parts.query
        _ = parts.port
    except ValueError:
        well = False
    if not well or parts.fragment:
        # Said without the text: what stands there may be a piece of the password.
        raise ValueError(
            "DATABASE_URL must be postgresql://user:password@host:port/name; write # / ? @ : in the"
            " password as %23 %2F %3F %40 %3A"
        )
    query = parts.query
    if (
        "channel_binding" in query
    ):  # asyncpg would send it to the server, which refuses the connection
        pairs = parse_qsl(query, keep_blank_values=True)
        query = urlencode([pair for pair in pairs if pair[0] != "channel_binding"], safe="/")
    return urlunsplit(parts._replace(scheme="postgresql", query=query))


async def check(dsn: str) -> str:
    """Return the server's version; `Refused` if it is of no use, `DatabaseAway` if none answers."""
    try:
        connection = await asyncpg.connect(
            clean_dsn(dsn), timeout=CONNECT_WITHIN, statement_cache_size=0
        )
    except ValueError as e:
        raise Refused(str(e)) from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError, *FAULTS) as e:
        if curable(e):
            where = urlsplit(dsn).hostname or "its socket"
            raise DatabaseAway(
                f"no database answers at {where} ({e.__class__.__name__}); is it running, is the name right?"
            ) from None
        raise Refused(f"the database refuses us, it said {type(e).__name__}: {e}") from None
    try:
        found = connection.get_server_version()
    finally:
        await connection.close()
    if found.major < OLDEST:
        raise Refused(f"PostgreSQL must be {OLDEST} or newer, was {found.major}.{found.minor}")
    return f"{found.major}.{found.minor}"


def aware(at: datetime) -> datetime:
    """Return the time; `ValueError` where it is naive: asyncpg would take it as local time."""
    if at.utcoffset() is None:
        raise ValueError(f"a time must have its zone, was {at.isoformat()}")
    return at


def count(status: str) -> int:
    """Return the rows a statement touched, from its tag ("INSERT 0 513")."""
    return int(status.rsplit(" ", 1)[1])


async def _prepare(connection: Any) -> None:
    await connection.set_type_codec(
        "jsonb", encoder=_written, decoder=json.loads, schema="pg_catalog"
    )


async def _leave(_: Any) -> None:
    """Give a connection back as it is: steps are transactions and leave nothing in the session."""


def _written(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), default=str)
