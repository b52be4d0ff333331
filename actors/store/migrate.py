"""The schema, applied: numbered SQL files, each once, in order, however many start at once.

A file is one transaction.  One whose first line is `-- no-transaction` holds a single statement
that cannot be in one (CREATE INDEX CONCURRENTLY); write it so that it can be repeated.
"""

import asyncio
import hashlib
import random
import re
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from actors.settings import Refused
from actors.store.database import CONNECT_WITHIN, Connection, clean_dsn

SCHEMA = Path(__file__).parent / "schema"
ALONE = 0x766F6C6172697301  # advisory lock of whoever migrates: "volaris" and a one
TURN_WITHIN = 120.0  # seconds

BOOKS = """
CREATE TABLE IF NOT EXISTS schema_files (
    number     int PRIMARY KEY,
    name       text NOT NULL,
    sha256     text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""
# CREATE INDEX CONCURRENTLY waits for every older snapshot.  A statement that waits for a lock holds
# one, so the lock is tried again and again; and so does the portal that a query with an answer
# leaves open in its transaction, until another statement closes it.
TAKE_TURN = "SELECT pg_try_advisory_xact_lock($1)"
LET_GO = "SELECT 1"
APPLIED = "SELECT number, name, sha256 FROM schema_files ORDER BY number"
NOTE = "INSERT INTO schema_files (number, name, sha256) VALUES ($1, $2, $3)"


class MigrationRefused(Refused):
    """The database and the program's schema do not fit each other."""


@dataclass(frozen=True, slots=True)
class _File:
    number: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def bare(self) -> bool:
        return self.text.startswith("-- no-transaction")


async def migrate(dsn: str, folder: Path = SCHEMA) -> list[str]:
    """Apply the files the database does not have yet and return their names."""
    files = _files(folder)
    first, second = await _connect(dsn), None
    done: list[str] = []
    try:
        while True:
            async with first.transaction():
                await _take_turn(first)
                if not await first.fetchval("SELECT to_regclass('schema_files')"):
                    await first.execute(BOOKS)
                file = _next(files, await first.fetch(APPLIED))
                if file is None:
                    return done
                if file.bare:
                    await first.execute(LET_GO)
                    second = second or await _connect(dsn)
                    await second.execute(file.text)
                else:
                    await first.execute(file.text)
                await first.execute(NOTE, file.number, file.name, file.sha256)
            done.append(file.name)
    finally:
        await first.close()
        if second is not None:
            await second.close()


def _files(folder: Path) -> list[_File]:
    files: list[_File] = []
    for path in sorted(folder.glob("*.sql")):
        if not re.fullmatch(r"\d{4}_\w+\.sql", path.name):
            raise MigrationRefused(f"a schema file is called NNNN_name.sql, was {path.name}")
        files.append(_File(int(path.name[:4]), path.name, path.read_text(encoding="utf-8")))
    for wanted, file in enumerate(files, 1):
        if file.number != wanted:
            raise MigrationRefused(f"schema file {wanted:04d} was to come next, was {file.name}")
    return files


def _next(files: list[_File], applied: list[asyncpg.Record]) -> _File | None:
    """Return the first file not applied; refuse a database that is newer or was made otherwise."""
    if len(applied) > len(files):
        newest = files[-1].name if files else "none"
        raise MigrationRefused(
            f"the database is newer than this program, which ends at {newest}, "
            f"was at {applied[-1]['name']}"
        )
    for file, row in zip(files, applied, strict=False):
        if (file.name, file.sha256) != (row["name"], row["sha256"]):
            raise MigrationRefused(
                f"{row['name']} was applied and must not be edited, its sha256 began with "
                f"{row['sha256'][:12]}, was {file.name} with {file.sha256[:12]}"
            )
    return files[len(applied)] if len(applied) < len(files) else None


async def _connect(dsn: str) -> asyncpg.Connection:
    return await asyncpg.connect(clean_dsn(dsn), timeout=CONNECT_WITHIN, statement_cache_size=0)


async def _take_turn(connection: Connection) -> None:
    end = asyncio.get_running_loop().time() + TURN_WITHIN
    while not await connection.fetchval(TAKE_TURN, ALONE):
        if asyncio.get_running_loop().time() > end:
            raise MigrationRefused(f"another process has been migrating, for {TURN_WITHIN:g} s")
        await connection.execute(LET_GO)
        await asyncio.sleep(random.uniform(0.02, 0.1))  # noqa: S311
