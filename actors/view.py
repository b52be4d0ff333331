"""What a person sees in the terminal: the tree as a table, the live view of `volaris up`, the history."""

import asyncio
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live as RichLive
from rich.table import Table
from rich.text import Text

from actors import home
from actors.replay import Outcome
from actors.supervise import Action

STALE_AFTER = 10.0  # seconds without a snapshot after which the root is not looking any more
REFRESH_EVERY = 0.5
STATE_STYLE = {
    "up": "green",
    "starting": "cyan",
    "draining": "yellow",
    "down": "yellow",
    "gave_up": "bold red",
}


def console() -> Console:
    """Return the terminal, or 120 columns where the output is none."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def age(since: str | datetime | None, now: datetime | None = None) -> str:
    """Return the time since an ISO time in the two largest units: 3 s, 5 min, 2 h 10 min, 4 d 3 h."""
    if since is None:
        return ""
    then = datetime.fromisoformat(since) if isinstance(since, str) else since
    seconds = int(max(((now or datetime.now(UTC)) - then).total_seconds(), 0))
    days, rest = divmod(seconds, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, seconds = divmod(rest, 60)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


def _bar(child: Mapping[str, Any], width: int = 12) -> Text:
    held, hard = child.get("memory_mb"), child["hard_mb"]
    if held is None:
        return Text("")
    full = min(round(held / hard * width), width)
    style = "red" if held > child["soft_mb"] else "green"
    return Text("█" * full, style).append("░" * (width - full), "dim")


def tree_table(tree: Mapping[str, Any]) -> Table:
    """Return the children as a table, top to bottom."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in (
        "child",
        "state",
        "pid",
        "gen",
        "memory",
        "soft/hard",
        "restarts",
        "since",
        "last exit",
    ):
        table.add_column(
            name, justify="right" if name in ("pid", "gen", "memory", "restarts") else "left"
        )
    for child in tree.get("children", ()):
        exit_ = child.get("last_exit") or {}
        held = child.get("memory_mb")
        table.add_row(
            child["id"],
            Text(child["state"], STATE_STYLE.get(child["state"], "")),
            str(child["pid"] or ""),
            str(child["generation"]),
            f"{held:.0f}" if held is not None else "",
            _bar(child).append(f" {child['soft_mb']}/{child['hard_mb']}", "dim"),
            f"{child['restarts']}+{child['replacements']}",
            age(child["since"]),
            f"{exit_['cause']} {age(exit_['at'])} ago" if exit_.get("cause") else "",
        )
    return table


def headline(run: Mapping[str, Any], tree: Mapping[str, Any]) -> Text:
    """Return the line above the table: where things are, and whether the root is looking."""
    line = Text()
    for name in ("api", "dashboard", "sandbox"):
        if run.get(name):
            line.append(f"{name} ", "dim").append(f"{run[name]}  ", "bold")
    at = tree.get("at")
    if at is None:
        line.append("the root has not reported yet", "yellow")
    elif (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds() > STALE_AFTER:
        line.append(f"the root last reported {age(at)} ago", "bold red")
    return line


def history_table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """Return history rows as a table, as they come (newest first)."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in (
        "at (UTC)",
        "child",
        "gen",
        "event",
        "cause",
        "pid",
        "MiB",
        "age s",
        "drain s",
        "gap s",
    ):
        table.add_column(name)
    for row in rows:
        table.add_row(
            str(row["at"])[:19].replace("T", " "),
            row["child"],
            str(row["generation"]),
            row["event"],
            row["cause"] + (" (found)" if row.get("detail", {}).get("found") else ""),
            str(row["pid"] or ""),
            *(
                f"{row[key]:.1f}" if row.get(key) is not None else ""
                for key in ("memory_mb", "age_seconds", "drain_seconds", "gap_seconds")
            ),
        )
    return table


def differences(outcome: Outcome, lost: int, *, others: bool) -> list[str | Table]:
    """Return what a record that was judged again came to: one sentence, the differences, the totals."""
    said = f"{outcome.looks} looks from {outcome.first:%Y-%m-%d %H:%M:%S} to {outcome.last:%Y-%m-%d %H:%M:%S} UTC"
    count = len(outcome.differences)
    if count:
        said += f"; orders that differ{' with other budgets' if others else ''}: {count}"
    else:
        said += "; every order is the recorded one"
    if lost:
        said += f"; lines that could not be read: {lost}"
    if not count:
        return [said, "", _totals(outcome)]
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("at (UTC)", "child", "recorded", "replayed"):
        table.add_column(name)
    for one in outcome.differences:
        replayed = " ".join(filter(None, (_orders(one.replayed), one.why)))
        at = f"{one.at:%m-%d %H:%M:%S.%f}"[:-4]
        table.add_row(at, one.child, _orders(one.recorded), replayed)
    limit = "Each process is followed to its first order that differs; what would have come after was not recorded."
    return [said, "", table, "", _totals(outcome), "", limit]


def _orders(orders: Iterable[Action]) -> str:
    return ", ".join(f"{order.verb} ({order.cause})" for order in orders) or "nothing"


def _totals(outcome: Outcome) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("order", "cause", "recorded", "replayed"):
        table.add_column(name, justify="right" if name.endswith("ed") else "left")
    for order in sorted({*outcome.recorded, *outcome.replayed}, key=lambda o: (o.verb, o.cause)):
        counts = str(outcome.recorded[order]), str(outcome.replayed[order])
        table.add_row(order.verb, order.cause, *counts)
    return table


class Live:
    """The view of `volaris up`: a table that lives on a terminal, plain lines of what changed elsewhere."""

    def __init__(self, where: Path) -> None:
        self._where = where
        self._console = console()
        self._begun = time.monotonic()
        self._said: dict[str, tuple[str, int]] = {}

    def say(self, line: str) -> None:
        """Print one line, with the seconds since the start."""
        self._console.print(f"[dim]{time.monotonic() - self._begun:6.1f} s[/dim]  {line}")
        sys.stdout.flush()

    async def show(self) -> None:
        """Show the tree until cancelled."""
        while not self._all_up():
            self._tell_changes()
            await asyncio.sleep(REFRESH_EVERY / 2)
        self._tell_changes()
        self.say(f"everything is up: {home.read_run(self._where).get('api')} (docs at /docs)")
        if not self._console.is_terminal:
            while True:
                self._tell_changes()
                await asyncio.sleep(REFRESH_EVERY)
        with RichLive(console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                run, tree = home.read_run(self._where), home.read_tree(self._where)
                live.update(
                    Group(
                        "", headline(run, tree), tree_table(tree), Text("Ctrl-C stops it", "dim")
                    ),
                    refresh=True,
                )
                await asyncio.sleep(REFRESH_EVERY)

    def _all_up(self) -> bool:
        children = home.read_tree(self._where).get("children", ())
        return bool(children) and all(child["state"] == "up" for child in children)

    def _tell_changes(self) -> None:
        children = home.read_tree(self._where).get("children", ())
        for child in children:
            state = (child["state"], child["generation"])
            if child["state"] in ("up", "gave_up") and self._said.get(child["id"]) != state:
                self._said[child["id"]] = state
                cause = (child.get("last_exit") or {}).get("cause")
                why = f" after {cause}" if cause else ""
                self.say(f"{child['id']} {child['state']}, pid {child['pid']}{why}")
