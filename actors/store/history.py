"""What the tree did: one row for each start and stop of a child."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import Any
from uuid import UUID, uuid5

from actors.store.database import Connection, aware

# The causes of planned stops, and of the tree's own; names of `supervise.Cause`, which are data.
REPLACED = ("memory_soft", "drain_timeout")
UNCOUNTED = ("shutdown", "boot", "relief_failed")

FACTS = UUID("766f6c61-7269-7300-8000-686973746f72")  # the namespace of `fact`

FIELDS = (
    ("event_id", "uuid"),
    ("at", "timestamptz"),
    ("boot", "text"),
    ("child", "text"),
    ("generation", "integer"),
    ("event", "text"),
    ("pid", "integer"),
    ("node", "text"),
    ("cause", "text"),
    ("memory_mb", "real"),
    ("age_seconds", "float8"),
    ("drain_seconds", "float8"),
    ("gap_seconds", "float8"),
    ("detail", "jsonb"),
)
COLUMNS = ", ".join(name for name, _ in FIELDS)
OF_EVENT = attrgetter("id", *(name for name, _ in FIELDS[1:]))

APPEND = f"""
INSERT INTO actor_history ({COLUMNS})
SELECT * FROM unnest({", ".join(f"${n}::{kind}[]" for n, (_, kind) in enumerate(FIELDS, 1))})
ON CONFLICT (event_id) DO NOTHING
"""  # noqa: S608  (column names of ours)
RECENT = f"""
SELECT {COLUMNS} FROM actor_history WHERE $2::text IS NULL OR child = $2
ORDER BY at DESC, event_id LIMIT $1
"""  # noqa: S608
COUNTS = """
SELECT child,
       count(*) FILTER (
           WHERE event = 'stop' AND cause <> ALL($2::text[]) AND cause <> ALL($3::text[])
       ) AS restarts,
       count(*) FILTER (WHERE event = 'stop' AND cause = ANY($2::text[])) AS replacements,
       (array_agg(cause ORDER BY at DESC) FILTER (WHERE event = 'stop'))[1] AS last_cause,
       max(at) FILTER (WHERE event = 'stop') AS last_at,
       max(generation) AS generation
FROM actor_history WHERE boot = $1 GROUP BY child
"""
UNSTOPPED = f"""
SELECT {COLUMNS} FROM actor_history s WHERE event = 'start' AND NOT EXISTS (
    SELECT FROM actor_history e
    WHERE (e.event, e.boot, e.child, e.generation) = ('stop', s.boot, s.child, s.generation)
)
"""  # noqa: S608
PRUNE = "DELETE FROM actor_history WHERE at < $1"


def fact(boot: str, child: str, generation: int, event: str) -> UUID:
    """Return the id of the one start, or the one stop, a process can have: told twice, it is one row."""
    return uuid5(FACTS, f"{boot}/{child}/{generation}/{event}")


@dataclass(frozen=True, slots=True)
class Event:
    """One start, stop or giving up of a child; memory in MiB."""

    id: UUID
    at: datetime
    boot: str
    child: str
    generation: int
    event: str
    pid: int | None = None
    node: str | None = None
    cause: str | None = None
    memory_mb: float | None = None
    age_seconds: float | None = None
    drain_seconds: float | None = None
    gap_seconds: float | None = None
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Counts:
    """What a boot of the tree has done to one child so far."""

    restarts: int  # unplanned stops
    replacements: int  # planned ones
    last_cause: str | None
    last_at: datetime | None
    generation: int = 0  # the newest that was heard of


async def append(connection: Connection, rows: Sequence[Event]) -> None:
    """Store events; those that are stored already are passed over, so a repeat is harmless."""
    if rows:
        for row in rows:
            aware(row.at)
        await connection.execute(APPEND, *zip(*map(OF_EVENT, rows), strict=True))


async def recent(connection: Connection, limit: int, child: str | None = None) -> list[Event]:
    """Return the newest events first, of all children or of one."""
    return [Event(*row.values()) for row in await connection.fetch(RECENT, limit, child)]


async def unstopped(connection: Connection) -> list[Event]:
    """Return the starts, of any boot, whose processes have not been told to have stopped."""
    return [Event(*row.values()) for row in await connection.fetch(UNSTOPPED)]


async def counts(connection: Connection, boot: str) -> dict[str, Counts]:
    """Return what one boot of the tree has done to each child."""
    rows = await connection.fetch(COUNTS, boot, list(REPLACED), list(UNCOUNTED))
    return {
        row["child"]: Counts(
            row["restarts"],
            row["replacements"],
            row["last_cause"],
            row["last_at"],
            row["generation"],
        )
        for row in rows
    }


async def prune(connection: Connection, before: datetime) -> None:
    """Forget the events before a time."""
    await connection.execute(PRUNE, aware(before))
