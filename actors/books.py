"""The root's books: history rows kept until the database has them, and the snapshot in the home."""

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from actors import home, memory
from actors.charge import Charge, Life, mb
from actors.domain.models import ChildStatus
from actors.settings import Settings
from actors.store import history
from actors.store.database import Database, DatabaseAway

SNAPSHOT_EVERY = 1.0  # seconds
HISTORY_BUFFER = 10_000  # rows kept while the database is away; then the oldest go

log = logging.getLogger("volaris.supervisor")


class Books:
    """What the root writes down; a row's id makes a repeat harmless."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings, self._database = settings, database
        self._rows: deque[history.Event] = deque(maxlen=HISTORY_BUFFER)
        self._shape: object = None
        self._written_at = 0.0
        self.waiting = asyncio.Event()  # there are rows that are not stored yet

    def record(
        self,
        charge: Charge,
        life: Life,
        event: str,
        cause: str,
        *,
        gap: float | None = None,
        **detail: object,
    ) -> None:
        """Note one start, stop or giving up of a process."""
        process, now = life.process, time.monotonic()
        stopped = event == "stop"
        if life.failed:
            detail["error"] = life.failed
        if stopped and (growth := life.growth()) is not None:
            detail["growth_mb_per_hour"] = round(growth, 1)
        if life.sites:
            detail["sites"] = life.sites
        self.waiting.set()
        self._rows.append(
            history.Event(
                id=uuid4(),
                at=datetime.now(UTC),
                boot=self._settings.boot_id,
                child=charge.id,
                generation=life.generation,
                event=event,
                pid=process.pid if process else None,
                node=process.node if process else None,
                cause=cause,
                memory_mb=mb(life.memory),
                age_seconds=life.age() if stopped else None,
                drain_seconds=now - life.drain_begun if stopped and life.drain_begun else None,
                gap_seconds=gap,
                detail=detail,
            )
        )

    async def flush(self, deadline: float) -> None:
        """Store the rows that wait; they leave the buffer only once they are stored."""
        self.waiting.clear()
        rows = tuple(self._rows)
        if not rows:
            return
        try:
            await self._database.run(
                lambda connection: history.append(connection, rows), deadline=deadline
            )
        except DatabaseAway:
            self.waiting.set()
            return
        stored = {row.id for row in rows}
        self._rows = deque((r for r in self._rows if r.id not in stored), maxlen=HISTORY_BUFFER)

    async def recent(self, limit: int, child: str | None) -> tuple[dict[str, Any], ...]:
        """Return the newest rows first; those not yet stored are among them."""
        waiting = [row for row in reversed(self._rows) if child in (None, row.child)]
        try:
            stored = await self._database.run(
                lambda connection: history.recent(connection, limit, child), deadline=3.0
            )
        except DatabaseAway:
            stored = []
        known = {row.id for row in stored}
        rows = [row for row in waiting if row.id not in known] + stored
        return tuple(asdict(row) for row in rows[:limit])

    async def counts(self) -> dict[str, history.Counts]:
        """Return what this boot has done to each child, as far as the database can tell."""
        try:
            return await self._database.run(
                lambda connection: history.counts(connection, self._settings.boot_id), deadline=5.0
            )
        except DatabaseAway:
            log.warning("the database is away: restart counters begin at 0")
            return {}

    def generations_of_before(self) -> dict[str, int]:
        """Return the newest generation by child that the root before us had shown; no name is used twice."""
        tree = home.read_tree(self._settings.volaris_home)
        if tree.get("boot") != self._settings.boot_id:
            return {}
        return {child["id"]: child["generation"] for child in tree.get("children", ())}

    def pids_of_before(self) -> dict[tuple[str, int], tuple[int, str]]:
        """Return (pid, node) by (child, generation) from the snapshot that the root before us left."""
        tree = home.read_tree(self._settings.volaris_home)
        if tree.get("boot") != self._settings.boot_id:
            return {}
        return {
            (child["id"], child["generation"]): (child["pid"], child["node"])
            for child in tree.get("children", ())
            if child["pid"] and child["node"]
        }

    def write_snapshot(self, charges: Iterable[Charge], *, force: bool = False) -> None:
        """Leave the state of the tree in the home, for those who must not depend on any actor."""
        now = time.monotonic()
        statuses = [charge.status() for charge in charges]
        shape = [(s.state, s.pid, s.generation, s.relief, s.leak) for s in statuses]
        if not force and shape == self._shape and now - self._written_at < SNAPSHOT_EVERY:
            return
        self._shape, self._written_at = shape, now
        body = {
            "at": datetime.now(UTC),
            "boot": self._settings.boot_id,
            "supervisor": {"pid": os.getpid(), "memory_mb": mb(memory.private(os.getpid()))},
            "children": [_public(status) for status in statuses],
        }
        path = self._settings.volaris_home / "run" / "tree.json"
        try:
            home.write_json(path, body)
        except OSError as e:
            log.warning("cannot write %s: %s", path, e)


def _public(status: ChildStatus) -> dict[str, Any]:
    shown = asdict(status)
    cause, at = shown.pop("last_exit_cause"), shown.pop("last_exit_at")
    return {**shown, "last_exit": {"cause": cause, "at": at} if cause else None}
