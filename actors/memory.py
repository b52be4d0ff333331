"""What a process costs: its private memory for the budgets, and a machine's memory for the sum of them.

Private memory is `RssAnon + VmSwap` of /proc/PID/status: blind to Ray's shared object store, falls when
memory is freed, and costs about 25 microseconds a read (Linux).  Elsewhere it is psutil's USS.
"""

from pathlib import Path

import psutil

UNLIMITED = 1 << 60  # cgroup v1 writes "no limit" as a number near 2**63
CGROUP_FILES = (  # v2, then v1: limit, usage, statistics
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)


def private(pid: int) -> int | None:
    """Return the private memory of a process in bytes, or None where it has ended."""
    try:
        with open(f"/proc/{pid}/status", "rb") as status:  # noqa: PTH123  (twice as fast as Path)
            text = status.read()
    except FileNotFoundError:
        return _uss(pid) if not Path("/proc/self/status").exists() else None
    except (ProcessLookupError, PermissionError):
        return None
    held = sum(_kib(text, key) for key in (b"RssAnon:", b"VmSwap:"))
    return held * 1024 if held else None  # a zombie has no memory lines


def _kib(status: bytes, key: bytes) -> int:
    at = status.find(key)
    return int(status[at + len(key) : status.index(b"kB", at)]) if at >= 0 else 0


def _uss(pid: int) -> int | None:
    try:
        return int(psutil.Process(pid).memory_full_info().uss)
    except psutil.Error:
        return None


def proportional(pid: int) -> int | None:
    """Return the PSS of a process in bytes (milliseconds to read: for the record, not the poll)."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_bytes()
    except OSError:
        return _uss(pid)
    return _kib(text, b"\nPss:") * 1024


def free(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the memory that could still be taken, in bytes: the machine's, or what its container leaves."""
    left = psutil.virtual_memory().available
    for limit, used, cache in CGROUP_FILES:
        try:
            most = (root / limit).read_text().strip()
            if most.isdigit() and int(most) < UNLIMITED:
                # The page cache counts as used, but is given back when it is wanted.
                stat = dict(line.split() for line in (root / cache).read_text().splitlines())
                held = int((root / used).read_text()) - int(stat.get("inactive_file", 0))
                left = min(left, int(most) - held)
        except (OSError, ValueError):
            continue
    return int(left)


def available(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the memory this machine or container may use in all, in bytes (cgroup v2, then v1)."""
    limits = [psutil.virtual_memory().total]
    for name, _, _ in CGROUP_FILES:
        try:
            text = (root / name).read_text().strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < UNLIMITED:
            limits.append(int(text))
    return min(limits)
