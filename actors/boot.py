"""The boot program behind `volaris up`: settings, PostgreSQL, migrations, Ray head, root; then watch.

It holds what must outlive every actor: the database server, the API's listening socket (so that no
connection is refused while the API restarts), the sandbox, and the Ray head, which it starts anew when
it dies.  It never imports Ray: its two visits to the cluster are short processes of their own.
"""

import asyncio
import contextlib
import errno
import importlib
import logging
import os
import pickle
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from pydantic import SecretStr

from actors import home, memory
from actors.settings import CONSTITUENTS, Refused, Settings
from actors.spec import MIB
from actors.store import embedded, migrate
from actors.store.database import check, clean_dsn
from actors.tree import RAY_MIB, ROOT, TREE

BACKLOG = 512  # connections that wait while the API restarts
HEAD_WITHIN = 90.0
REACH_WITHIN = 5.0
ROOT_WITHIN = 150.0
DOWN_WITHIN = ROOT.drain + 15.0
WATCH_EVERY = 0.5
LONGEST_PAUSE = 30.0  # seconds between two tries to bring the head back

log = logging.getLogger("volaris.boot")

Say = Callable[[str], None]


def refuse_if_too_big(settings: Settings) -> None:
    """Refuse the start where the hard budgets, one successor and Ray's share exceed the memory there is."""
    budgets = {child.id: settings.budget(child).hard for child in (ROOT, *TREE)}
    for setting, given, known in (
        ("BUDGET", settings.volaris_budget, {*budgets}),
        ("PLACE", settings.volaris_place, {*budgets} - {ROOT.id}),  # the root stays where we are
    ):
        for name in given.keys() - known:
            raise Refused(
                f"VOLARIS_{setting}__{name.upper()}: there is no such child; there are"
                f" {', '.join(sorted(known))}"
            )
    most = settings.volaris_memory_mb
    there_is = most * MIB if most else memory.available()
    needed = sum(budgets.values()) + max(budgets.values()) + RAY_MIB * MIB
    if needed > there_is:
        raise Refused(
            f"the tree needs {needed // MIB} MiB (hard budgets {sum(budgets.values()) // MIB}, one successor"
            f" {max(budgets.values()) // MIB}, Ray {RAY_MIB}), and there are {there_is // MIB} MiB;"
            " lower VOLARIS_BUDGET__<CHILD> or use a bigger machine"
        )


def refuse_wrong_settings(settings: Settings) -> None:
    """Let each row of the tree refuse settings of its own before anything is started."""
    for child in TREE:
        if child.check:
            module, _, name = child.check.partition(":")
            getattr(importlib.import_module(module), name)(settings)


def listen(host: str, port: int, name: str) -> socket.socket:
    """Return a listening socket; a port that is taken is `Refused` with the setting that moves it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, or asyncio leaves Nagle's algorithm on and each small answer waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as e:
        listener.close()
        if e.errno in (errno.EADDRINUSE, errno.EACCES):
            remedy = f"set {name} to another port, 0 for any free one"
        else:
            remedy = "set VOLARIS_HOST to an address of this machine"
        raise Refused(f"cannot listen on {host}:{port} ({e.strerror}); {remedy}") from None
    listener.setblocking(False)  # noqa: FBT003
    return listener


def free_port(host: str, port: int, name: str) -> int:
    """Return a port that can be listened on: the one asked for, or any where that is 0."""
    with contextlib.closing(listen(host, port, name)) as probe:
        return int(probe.getsockname()[1])


class Boot:
    """One run of the tree in one home."""

    def __init__(self, settings: Settings, say: Say, *, sandbox: bool = True) -> None:
        self._say, self._use_sandbox = say, sandbox
        self._given = settings
        self._settings = settings
        self._home = settings.volaris_home
        self._run: dict[str, Any] = {}
        self._head: list[psutil.Process] = []
        self._head_session = 0
        self._visited = False  # there may be a root
        self._visitor: asyncio.subprocess.Process | None = None
        self._hurried = False
        self._sandbox: subprocess.Popen[bytes] | None = None
        self._api: socket.socket | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Boot"]:
        """Bring everything up, and on leaving take everything down, whatever happened in between."""
        refuse_if_too_big(self._given)
        refuse_wrong_settings(self._given)
        home.private_folder(self._home)
        with home.locked(self._home):
            if left := await asyncio.to_thread(home.end_leftovers, home.read_run(self._home)):
                self._say(f"ended {left} processes that an earlier run had left behind")
            await asyncio.to_thread(home.forget, self._home)
            _log_to(self._home / "logs")
            self._run = {
                "pid": os.getpid(),
                "home": str(self._home),
                "since": time.time(),
                "state": "starting",
                "sessions": [],
            }
            try:
                await self._up()
                yield self
            finally:
                await self._down_whatever_comes()

    async def watch(self) -> None:
        """Keep the head, the sandbox and the database server alive; returns only when cancelled."""
        pause = 1.0
        while True:
            await asyncio.sleep(WATCH_EVERY)
            self._reap()
            self._keep_sandbox()
            if self._embedded and await asyncio.to_thread(embedded.server_pid, self._home) is None:
                with contextlib.suppress(embedded.ServerFailed):
                    await asyncio.to_thread(embedded.ensure_server, self._home)
            if all(_lives(process) for process in self._head):
                continue
            self._say("the Ray head died; bringing the tree back")
            log.error("the Ray head died")
            try:
                await asyncio.to_thread(
                    home.end_leftovers, {**self._run, "sessions": [self._head_session]}
                )
                await self._start_head()
                await self._start_root()
            except Refused as e:
                log.error("the head did not come back: %s; next try in %.0f s", e, pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                pause = 1.0
                self._say("the tree is back")

    # --- up

    async def _up(self) -> None:
        given = self._given
        self._api = listen(given.volaris_host, given.volaris_api_port, "VOLARIS_API_PORT")
        port = self._api.getsockname()[1]
        shown = "127.0.0.1" if given.volaris_host in ("0.0.0.0", "::") else given.volaris_host  # noqa: S104
        self._run["api"] = f"http://{shown}:{port}"
        sandbox_url = self._start_sandbox()
        dsn = await self._database()
        short = home.private_folder(home.short(self._home, len("/run/api.sock")))
        folder = self._home / "run" if short == self._home else short
        self._settings = given.model_copy(
            update={
                "database_url": SecretStr(dsn),
                "volaris_api_port": port,
                "boot_id": f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}",
                "sandbox_url": sandbox_url,
                "api_handover": folder / "api.sock",
                **(_sandbox_settings(given, sandbox_url) if sandbox_url else {}),
            }
        )
        self._hand_over(folder / "api.sock")
        await self._start_head()
        await self._start_root()
        self._write_run(state="up")

    @property
    def _embedded(self) -> bool:
        return self._given.database_url is None

    async def _database(self) -> str:
        if self._given.database_url is None:
            self._say("starting PostgreSQL")
            try:
                dsn = await asyncio.to_thread(embedded.ensure_server, self._home)
            except embedded.ServerFailed as e:
                raise Refused(f"the embedded PostgreSQL did not start: {e}") from None
        else:
            dsn = _database_url(self._given.database_url.get_secret_value())
            try:
                version = await check(dsn)
            except Exception as e:  # noqa: BLE001  (whatever is wrong with it, the start is refused)
                raise Refused(f"DATABASE_URL: {e}") from None
            self._say(f"using PostgreSQL {version} of DATABASE_URL")
        try:
            if applied := await migrate.migrate(dsn):
                self._say(f"migrated: {', '.join(applied)}")
        except Exception as e:  # noqa: BLE001
            raise Refused(f"the database could not be migrated: {e}") from None
        return dsn

    def _start_sandbox(self) -> str | None:
        """Start the sandbox where no vendor key is set; return its URL."""
        given = self._given
        if given.has_vendor_keys:
            return None
        if not self._use_sandbox:
            raise Refused(
                "no market-data key is set: set SCHWAB_APP_KEY, SCHWAB_SECRET_KEY and SCHWAB_REFRESH_TOKEN,"
                " or start without --no-sandbox"
            )
        port = free_port("127.0.0.1", given.volaris_sandbox_port, "VOLARIS_SANDBOX_PORT")
        self._run["sandbox"] = f"http://127.0.0.1:{port}"
        self._launch_sandbox()
        self._say(f"no vendor keys are set: using the sandbox market at {self._run['sandbox']}")
        return str(self._run["sandbox"])

    def _launch_sandbox(self) -> None:
        port = self._run["sandbox"].rpartition(":")[2]
        with (self._home / "logs" / "sandbox.log").open("ab") as out:
            self._sandbox = subprocess.Popen(
                [sys.executable, "-m", "sandbox", "--port", port],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env=self._environment(),
            )
        self._write_sessions()

    def _write_sessions(self) -> None:
        """Note the process sessions that are ours, so that whoever comes after can end them."""
        sandbox = [self._sandbox.pid] if self._sandbox else []
        head = [self._head_session] if self._head_session else []
        self._write_run(sessions=[*sandbox, *head])

    def _keep_sandbox(self) -> None:
        if self._sandbox is not None and self._sandbox.poll() is not None:
            log.error("the sandbox ended with code %s; starting it again", self._sandbox.returncode)
            self._launch_sandbox()

    def _hand_over(self, path: Path) -> None:
        """Give the API's listening socket to whoever asks at a unix socket of this home.

        The API server takes it at each start; connections made while it restarts wait in the backlog.
        """
        path.unlink(missing_ok=True)
        server = socket.socket(socket.AF_UNIX)
        with _umask(0o177):
            server.bind(str(path))
        server.listen(8)
        server.setblocking(False)  # noqa: FBT003
        api = self._api
        assert api is not None

        def give() -> None:
            with contextlib.suppress(OSError):
                taker, _ = server.accept()
                with taker:
                    socket.send_fds(taker, [b"api"], [api.fileno()])

        asyncio.get_running_loop().add_reader(server, give)

    def _environment(self) -> dict[str, str]:
        ours = {
            "VOLARIS_MARK": str(self._home),
            "RAY_START_HOOK": "actors.runtime.slim_head",
            "RAY_USAGE_STATS_ENABLED": "0",
            # Ray would keep a record of each of the last 100,000 calls in the head: with four pulses a
            # second that is a growth of hours, and only its dashboard's list of tasks ever reads it.
            "RAY_task_events_report_interval_ms": "0",
            # Nobody reads Ray's own metrics: they cost each process 2 MB in its first minutes, the raylet
            # some for ever, and a port on all interfaces that answers without the token.
            "RAY_enable_metrics_collection": "false",
            "DASHBOARD_METRIC_PORT": "-1",  # the dashboard's own, which has no other switch
            "OPENBLAS_NUM_THREADS": "1",  # a pool of threads in each actor is memory for nothing
            "PYTHONUNBUFFERED": "1",
        }
        if self._given.ray_address:
            return {**os.environ, **ours}
        ours |= {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self._home / "run" / "ray.token"),
        }
        kept = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "RAY_AUTH_TOKEN")}
        return {**kept, **ours}

    async def _start_head(self) -> None:
        given = self._given
        if given.ray_address:
            await _reach(given.ray_address)
            self._run |= {"ray": given.ray_address, "dashboard": None}
            return
        self._say("starting the Ray head")
        token = self._home / "run" / "ray.token"
        if not token.exists():
            with _umask(0o177):
                token.write_text(secrets.token_urlsafe(32))
        folder = (
            home.private_folder(home.short(self._home, len("/ray") + home.RAY_SOCKET_TAIL)) / "ray"
        )
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        port = free_port("127.0.0.1", 0, "")
        dashboard = (
            free_port("127.0.0.1", given.volaris_dashboard_port, "VOLARIS_DASHBOARD_PORT")
            if given.volaris_dashboard
            else free_port("127.0.0.1", 0, "")
        )
        command = [
            str(Path(sys.executable).with_name("ray")),
            "start",
            "--head",
            f"--port={port}",
            "--num-cpus=0",  # no idle workers wait for tasks: there are none, only actors
            f"--object-store-memory={given.volaris_object_store_mb * MIB}",
            f"--temp-dir={folder}",
            f"--include-dashboard={str(given.volaris_dashboard).lower()}",
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={dashboard}",
            "--dashboard-agent-listen-port=0",
            "--dashboard-agent-grpc-port=0",
            "--runtime-env-agent-port=0",
            "--metrics-export-port=0",
            "--min-worker-port=0",
            "--max-worker-port=0",
            "--include-log-monitor=false",
            "--disable-usage-stats",
        ]
        starter = await asyncio.create_subprocess_exec(
            *command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=self._environment(),
        )
        self._head_session = starter.pid
        self._write_sessions()
        said = await _within(starter, HEAD_WITHIN, "the Ray head did not start")
        (self._home / "logs" / "ray-start.log").write_bytes(said)
        self._head = [
            process
            for process in home.session_members(starter.pid, self._run["since"])
            if process.name() in ("gcs_server", "raylet")
        ]
        if len(self._head) != 2:
            raise Refused(f"the Ray head is not whole: {said.decode(errors='replace')[-300:]}")
        # Ray writes down the address it was bound to, which is not always the one that was asked for.
        self._run["ray"] = (folder / "ray_current_cluster").read_text().strip()
        self._run["dashboard"] = (
            f"http://127.0.0.1:{dashboard}" if given.volaris_dashboard else None
        )

    async def _start_root(self) -> None:
        self._say("starting the tree")
        self._visited = True
        await self._visit("up", ROOT_WITHIN, "the root supervisor did not start")
        self._write_run()

    async def _visit(self, verb: str, seconds: float, failure: str) -> None:
        visitor = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "from actors.runtime import main; main()",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=self._environment(),
        )
        self._visitor = visitor
        message = pickle.dumps((verb, self._run["ray"], self._settings))
        await _within(visitor, seconds, failure, message)

    def _write_run(self, **changes: Any) -> None:
        self._run |= changes
        home.write_run(self._home, self._run)

    def _reap(self) -> None:
        """Reap orphans that were given to us, as happens where we are a container's first process."""
        ours = {self._sandbox.pid} if self._sandbox else set()
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error, ChildProcessError):
                if child.status() == psutil.STATUS_ZOMBIE and child.pid not in ours:
                    os.waitpid(child.pid, os.WNOHANG)

    # --- down

    async def _down_whatever_comes(self) -> None:
        """Take everything down to the end; being cancelled meanwhile only ends the patience."""
        down = asyncio.ensure_future(self._down())
        while not down.done():
            try:
                await asyncio.shield(down)
            except asyncio.CancelledError:
                self._say("ending everything now")
                self._hurried = True
                if self._visitor is not None and self._visitor.returncode is None:
                    self._visitor.kill()
        down.result()

    async def _down(self) -> None:
        if self._run.get("state") != "starting":
            self._write_run(state="stopping")
        if self._visited and not self._hurried:
            self._say("draining the tree")
            with contextlib.suppress(Refused):
                await self._visit("down", DOWN_WITHIN, "the tree did not drain")
        await asyncio.to_thread(home.end_leftovers, self._run, 0.0 if self._hurried else 3.0)
        if self._embedded:
            with contextlib.suppress(embedded.ServerFailed):
                await asyncio.to_thread(embedded.stop_server, self._home)
        if self._api is not None:
            self._api.close()
        if self._sandbox is not None:
            self._sandbox.wait()
        await asyncio.to_thread(home.forget, self._home)
        self._say("everything is stopped")


async def _within(
    process: asyncio.subprocess.Process, seconds: float, failure: str, message: bytes | None = None
) -> bytes:
    try:
        said, _ = await asyncio.wait_for(process.communicate(message), seconds)
    except TimeoutError:
        process.kill()
        raise Refused(f"{failure} within {seconds:.0f} s") from None
    except asyncio.CancelledError:
        process.kill()
        raise
    if process.returncode:
        lines = said.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise Refused(f"{failure}: {lines[-1]}")
    return said


async def _reach(address: str) -> None:
    """Refuse a Ray cluster that nobody answers for; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if not host or not port.isdigit():
            raise ValueError(address)
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), REACH_WITHIN)
    except ValueError:
        raise Refused(f"RAY_ADDRESS: write host:port of the head, was {address!r}") from None
    except (OSError, TimeoutError) as e:
        raise Refused(
            f"RAY_ADDRESS: no Ray head answers at {address} ({type(e).__name__});"
            " start it, or unset RAY_ADDRESS to let Volaris start one"
        ) from None
    writer.close()


OTHERS = ("tiingo", "alpaca", "polygon", "finnhub", "databento")  # those with a plain key


def _sandbox_settings(given: Settings, url: str) -> dict[str, Any]:
    return {
        "schwab_base_url": f"{url}/schwab",
        "schwab_app_key": SecretStr("sandbox-app-key"),
        "schwab_secret_key": given.schwab_secret_key or SecretStr("sandbox-secret-key"),
        "schwab_refresh_token": given.schwab_refresh_token or SecretStr("sandbox-refresh-token"),
        **{f"{vendor}_base_url": f"{url}/{vendor}" for vendor in OTHERS},
        **{f"{vendor}_api_key": SecretStr(f"sandbox-{vendor}-key") for vendor in OTHERS},
        "alpaca_trading_url": f"{url}/alpaca",
        "sp500_url": f"{url}/sp500{CONSTITUENTS}",
        "alpaca_api_secret": SecretStr("sandbox-alpaca-secret"),
    }


def _database_url(dsn: str) -> str:
    try:
        return clean_dsn(dsn)
    except ValueError as e:
        raise Refused(str(e)) from None


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


@contextlib.contextmanager
def _umask(mask: int) -> Any:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _log_to(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    logging.basicConfig(
        filename=folder / "boot.log",
        level="INFO",
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        force=True,
    )
