"""One PostgreSQL for all tests with a migrated database for each that asks, and a whole tree for a module."""

import asyncio
import itertools
import os
import shutil
import signal
import tempfile
from pathlib import Path

import asyncpg
import pytest

from actors.store import embedded
from actors.store.database import Database
from actors.store.migrate import migrate
from tests.running import Running

# Who starts the tests in the background may have made them deaf to Ctrl-C, and with them all they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHM = Path("/dev/shm")
NUMBERS = itertools.count(1)


def sibling(dsn, name):
    """Return the DSN of another database of the same server."""
    return dsn.replace(f"/{embedded.DATABASE}?", f"/{name}?")


async def execute(dsn, *statements):
    """Run statements, each outside of a transaction."""
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def postgres():
    """Start a server that forgets everything in a crash, and give its DSN."""
    memory = SHM if SHM.is_dir() and os.access(SHM, os.W_OK) else None
    home = Path(tempfile.mkdtemp(prefix="vpg", dir=memory))
    try:
        yield embedded.ensure_server(home, durable=False)
    finally:
        embedded.stop_server(home)
        shutil.rmtree(home)


@pytest.fixture(scope="session")
def template(postgres):
    """Give the name of a migrated database nobody is connected to."""
    asyncio.run(execute(postgres, "CREATE DATABASE template_volaris"))
    asyncio.run(migrate(sibling(postgres, "template_volaris")))
    return "template_volaris"


@pytest.fixture
async def empty_dsn(postgres):
    """Give the DSN of an empty database of the test's own."""
    name = f"t{next(NUMBERS)}"
    await execute(postgres, f"CREATE DATABASE {name} STRATEGY file_copy")
    yield sibling(postgres, name)
    await execute(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database_dsn(postgres, template):
    """Give the DSN of a migrated database of the test's own."""
    name = f"t{next(NUMBERS)}"
    await execute(postgres, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    yield sibling(postgres, name)
    await execute(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database(database_dsn):
    """Give the test's own database, and see to it that every connection is given back."""
    database = Database(database_dsn)
    yield database
    pool = database._pool
    taken = pool.get_size() - pool.get_idle_size() if pool else 0
    await database.close()
    assert taken == 0


@pytest.fixture(scope="module")
def tree():
    """Give a tree in the sandbox that refreshes every two seconds; nothing of it may outlive the test."""
    running = Running(VOLARIS_JOB__PRICES="2")
    try:
        yield running.start()
    finally:
        left = running.stop()
    assert left == []
