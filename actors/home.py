"""What lies in VOLARIS_HOME: the lock, the run file, the tree's snapshot, and who of ours still lives.

The boot program writes the run file, the root writes the snapshot; `volaris status` and `volaris down`
read both, so they need neither Ray nor any actor to be well.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from actors.settings import Refused

SOCKET_PATH_LIMIT = 107  # bytes of a unix socket's path on Linux
PLAIN = re.compile(r"[A-Za-z0-9._/+=@%:,~ -]+")
RAY_SOCKET_TAIL = 70  # "/session_2026-11-24_05-55-43_303400_1234567/sockets/plasma_store"


def short(home: Path, tail: int) -> Path:
    """Return a folder for sockets: the home, or a private one in /tmp where its path would not do.

    It would not where it is too long for a socket, or holds what Ray's command lines do not survive.
    """
    if len(os.fsencode(home)) + tail <= SOCKET_PATH_LIMIT and PLAIN.fullmatch(str(home)):
        return home
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:10]
    return Path(tempfile.gettempdir()) / f"volaris-{os.getuid()}-{digest}"


def private_folder(path: Path) -> Path:
    """Make a folder that only its owner may enter; refuse one that somebody else owns."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as e:
        raise Refused(
            f"{path} cannot be made ({e.strerror}); set VOLARIS_HOME to a folder of your own"
        ) from None
    if not _is_ours(path):
        raise Refused(f"{path} belongs to another user; set VOLARIS_HOME to a folder of your own")
    if path.stat().st_mode & 0o077:
        path.chmod(0o700)  # a mounted volume often comes open to all
    return path


def _is_ours(path: Path) -> bool:
    """Tell whether a folder is ours, and is no link that somebody else has planted in its place."""
    try:
        return {path.lstat().st_uid, path.stat().st_uid} == {os.getuid()}
    except OSError:
        return False


@contextlib.contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the home's lock: one boot program a home, however it ends."""
    private_folder(home / "run")
    with (home / "run" / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(
                f"Volaris is already running in {home} (pid {read_run(home).get('pid')});"
                " stop it with `volaris down`, or set another VOLARIS_HOME"
            ) from None
        yield


def is_locked(home: Path) -> bool:
    """Tell whether a boot program lives in this home."""
    try:
        with (home / "run" / "lock").open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def write_json(path: Path, body: dict[str, Any]) -> None:
    """Replace a small file at once, so that a reader never sees half of it."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(body, default=_plain))
    fresh.replace(path)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def read_run(home: Path) -> dict[str, Any]:
    """Return the run file, empty where there is none."""
    return _read(home / "run" / "run.json")


def write_run(home: Path, body: dict[str, Any]) -> None:
    """Write the run file: pids, ports and URLs of the present run."""
    write_json(home / "run" / "run.json", body)


def read_tree(home: Path) -> dict[str, Any]:
    """Return the root's last snapshot, empty where there is none."""
    return _read(home / "run" / "tree.json")


def _read(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}


def session_members(sid: int, since: float) -> list[psutil.Process]:
    """Return the living processes of a session that began at `since` (epoch seconds) or later.

    Ray's processes overwrite their command lines and environments, but none leaves the session it was
    started in, and a session id is not reused while it has a member.
    """
    members: list[psutil.Process] = []
    if sid <= 1:  # in a container every process from outside has session 0
        return members
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            young = process.create_time() >= since - 1
            if young and os.getsid(process.pid) == sid and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
    return members


def end(processes: list[psutil.Process], grace: float) -> None:
    """End processes: asked first, killed after `grace` seconds."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGTERM if grace else signal.SIGKILL)
    _, left = psutil.wait_procs(processes, timeout=grace) if grace else ([], processes)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=5)


def leftovers(run: dict[str, Any]) -> list[psutil.Process]:
    """Return the living processes of a run's sessions: its Ray and its sandbox."""
    since = float(run.get("since", 0))
    sids = [int(sid) for sid in run.get("sessions", ())]
    return [process for sid in sids for process in session_members(sid, since)]


def end_leftovers(run: dict[str, Any], grace: float = 0.0) -> int:
    """End what a run left behind (its Ray session and its sandbox); return how many processes that was.

    A new worker can be born while the others are being ended, so it looks again until none is left.
    """
    count = 0
    for _ in range(10):
        found = leftovers(run)
        if not found:
            break
        count += len(found)
        end(found, grace)
        grace = 0.0
        time.sleep(0.05)
    return count


def forget(home: Path) -> None:
    """Remove the files of a run that has ended, but not its data."""
    for name in ("run.json", "tree.json", "api.sock"):
        (home / "run" / name).unlink(missing_ok=True)
    for words in (home / "run").glob("*.last-words"):
        words.unlink(missing_ok=True)
    for folder in filter(_is_ours, {home, short(home, RAY_SOCKET_TAIL)}):
        shutil.rmtree(folder / "ray", ignore_errors=True)
        if folder != home:
            with contextlib.suppress(OSError):
                (folder / "api.sock").unlink(missing_ok=True)
                folder.rmdir()
