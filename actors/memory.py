"""What a process costs: its private memory for the budgets, and a machine's memory for the sum of them.

Private memory is `RssAnon + VmSwap` of /proc/PID/status: blind to Ray's shared object store, falls when
memory is freed, and costs about 25 microseconds a read (Linux).  Elsewhere it is psutil's USS.
"""

from pathlib import Path

import psutil

UNLIMITED = 1 << 60  # cgroup v1 writes "no limit" as a number near 2**63


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


def available(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the memory this machine or container may use in all, in bytes (cgroup v2, then v1)."""
    limits = [psutil.virtual_memory().total]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (root / name).read_text().strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < UNLIMITED:
            limits.append(int(text))
    return min(limits)
