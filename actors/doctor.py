"""`volaris doctor`: looks at what the tree needs of this machine, and says for each thing what to do."""

import asyncio
import email.utils
import os
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx

from actors import home, memory
from actors.boot import listen, refuse_if_too_big
from actors.settings import Refused, Settings
from actors.spec import MIB
from actors.store import embedded
from actors.store.database import check, clean_dsn

DISK_MIB = 512
SHARED_MEMORY = "/dev/shm"  # noqa: S108  (Ray's object store lives there)
CLOCK_SKEW = 2.0  # seconds; OAuth tokens and bars are stamped by this machine's clock


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    well: bool
    said: str


async def examine(settings: Settings) -> list[Finding]:
    """Return what was found, in the order in which the start would meet it."""
    looks: tuple[tuple[str, Callable[[Settings], Awaitable[str]]], ...] = (
        ("python", _python),
        ("home", _home),
        ("memory", _memory),
        ("shared memory", _shared_memory),
        ("ports", _ports),
        ("database", _database),
        ("vendor keys", _keys),
        ("clock", _clock),
    )
    return [await _look(what, look, settings) for what, look in looks]


async def _look(
    what: str, look: Callable[[Settings], Awaitable[str]], settings: Settings
) -> Finding:
    try:
        return Finding(what, well=True, said=await look(settings))
    except Exception as e:  # noqa: BLE001  (a doctor goes on to the next organ)
        return Finding(what, well=False, said=str(e) or type(e).__name__)


async def _python(_: Settings) -> str:
    return f"{sys.version.split()[0]} at {sys.executable}"


async def _home(settings: Settings) -> str:
    where = home.private_folder(settings.volaris_home)
    if not os.access(where, os.W_OK):
        raise Refused(f"{where} cannot be written to; set VOLARIS_HOME to a folder of your own")
    free = shutil.disk_usage(where).free // MIB
    if free < DISK_MIB:
        raise Refused(
            f"{where} has {free} MiB free, and {DISK_MIB} are needed; make room or move VOLARIS_HOME"
        )
    running = " (Volaris is running here)" if home.is_locked(where) else ""
    return f"{where}, {free} MiB free{running}"


async def _memory(settings: Settings) -> str:
    refuse_if_too_big(settings)
    return f"{memory.available() // MIB} MiB, and the budgets fit"


async def _shared_memory(settings: Settings) -> str:
    free = shutil.disk_usage(SHARED_MEMORY).free // MIB
    if free < settings.volaris_object_store_mb:
        raise Refused(
            f"{SHARED_MEMORY} has {free} MiB free, and Ray's object store takes {settings.volaris_object_store_mb};"
            " enlarge it (Docker: --shm-size) or lower VOLARIS_OBJECT_STORE_MB"
        )
    return f"{free} MiB free in {SHARED_MEMORY}, {settings.volaris_object_store_mb} wanted"


async def _ports(settings: Settings) -> str:
    if home.is_locked(settings.volaris_home):
        return "in use by the tree that is running here"
    wanted = {"VOLARIS_API_PORT": (settings.volaris_host, settings.volaris_api_port)}
    if settings.volaris_dashboard:
        wanted["VOLARIS_DASHBOARD_PORT"] = ("127.0.0.1", settings.volaris_dashboard_port)
    if not settings.has_vendor_keys:
        wanted["VOLARIS_SANDBOX_PORT"] = ("127.0.0.1", settings.volaris_sandbox_port)
    for name, (host, port) in wanted.items():
        listen(host, port, name).close()
    return ", ".join(f"{name} {port or 'any'}" for name, (_, port) in wanted.items())


async def _database(settings: Settings) -> str:
    if settings.database_url is not None:
        version = await check(clean_dsn(settings.database_url.get_secret_value()))
        return f"PostgreSQL {version} of DATABASE_URL answers"
    pid = await asyncio.to_thread(embedded.server_pid, settings.volaris_home)
    return f"embedded PostgreSQL, {f'running as pid {pid}' if pid else 'started by `volaris up`'}"


async def _keys(settings: Settings) -> str:
    if not settings.has_vendor_keys:
        return "none set: `volaris up` uses the sandbox market"
    missing = [
        name
        for name, value in (
            ("SCHWAB_SECRET_KEY", settings.schwab_secret_key),
            ("SCHWAB_REFRESH_TOKEN", settings.schwab_refresh_token),
        )
        if value is None
    ]
    if missing:
        raise Refused(f"SCHWAB_APP_KEY is set, but {' and '.join(missing)} not")
    return "Schwab"


async def _clock(settings: Settings) -> str:
    """Compare this machine's clock with a vendor's, from the Date header of any answer."""
    if not settings.has_vendor_keys:
        return "not compared: no vendor is used"
    async with httpx.AsyncClient(timeout=5) as client:
        asked = time.time()
        answer = await client.head(settings.schwab_base_url)
        told = email.utils.parsedate_to_datetime(answer.headers["date"]).timestamp()
    # The header has whole seconds, and is of some moment between question and answer.
    skew = max(told - time.time(), asked - told - 1.0, 0.0)
    if skew > CLOCK_SKEW:
        raise Refused(f"this machine's clock is {skew:.0f} s off the vendor's; turn on NTP")
    return f"within {CLOCK_SKEW:.0f} s of the vendor's"
