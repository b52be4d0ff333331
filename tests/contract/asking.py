"""The sandbox in this process, asked raw and through a vendor's adapter, at a time that stands still."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from actors.providers.http import Tools
from actors.settings import Settings
from sandbox import app
from sandbox.clock import Clock
from sandbox.days import Hours
from tests.contract.doubles import MemoryBooks, Reversed

NOON = datetime(2026, 11, 24, 17, 0, tzinfo=UTC)  # a Tuesday; 12:00 in New York
HOST = "http://127.0.0.1:8900"


class Still:
    """A sandbox whose clock stands still, and what is needed to ask it."""

    def __init__(self, at: datetime = NOON, hours: Hours = Hours.NYSE, seed: int = 7) -> None:
        self.at = at
        # Its own clock runs by a millionth, because one that stands is not in its range.
        clock = Clock(at, 1e-6, monotonic=lambda: 0.0)
        self.transport = httpx.ASGITransport(app.build(seed, clock=clock, hours=hours))

    def client(self, **headers: str) -> httpx.AsyncClient:
        """Return a client for raw requests."""
        return httpx.AsyncClient(transport=self.transport, base_url=HOST, headers=headers)

    def adapter(self, kind: Any, key: str, home: Path) -> Any:
        """Return a vendor's adapter with this key."""
        name = kind.name
        given = {f"{name}_api_key": key, f"{name}_base_url": f"{HOST}/{name}"}
        settings = Settings(volaris_home=home, volaris_limit={name: "6000/min"}, **given)
        tools = Tools(
            MemoryBooks(), Reversed, self.transport, now=lambda: self.at, sleep=asyncio.sleep
        )
        made = kind.of(settings, tools)
        assert made is not None
        return made


def soon() -> float:
    """Return a deadline that no test reaches."""
    return time.monotonic() + 60
