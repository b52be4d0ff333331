"""The command line's side of a backfill: asks the running tree, shows progress, and stops it on Ctrl-C."""

import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import httpx
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from actors.settings import Refused

LOOK_EVERY, TELL_EVERY = (
    0.5,
    10.0,
)  # seconds between looks, and between lines where there is no terminal
ASK_WITHIN = 60.0
AWAY_FOR = 120.0  # seconds without an answer, then it is not watched any longer
OVER = ("done", "failed", "cancelled")


class Failed(Exception):
    """The backfill did not come to its end; the message is what to tell."""


class Backfill:
    """One backfill as the REST API tells of it."""

    def __init__(self, api: str) -> None:
        self._url = f"{api}/api/v1/backfills"
        self._client = httpx.Client(timeout=ASK_WITHIN)
        self.told: dict[str, Any] = {}

    def ask(self, body: dict[str, Any]) -> dict[str, Any]:
        """Begin it or go on with it; `Refused` with the tree's own sentence where that makes no sense."""
        self._take(self._client.post(self._url, json=body))
        return self.told

    def look(self) -> None:
        """Take note of how far it is; an API that restarts is asked again for two minutes."""
        end = time.monotonic() + AWAY_FOR
        while True:
            try:
                answer = self._client.get(f"{self._url}/{self.told['id']}")
                if answer.status_code != 503 or time.monotonic() > end:
                    break
            except httpx.TransportError:
                if time.monotonic() > end:
                    raise
            time.sleep(LOOK_EVERY)
        self._take(answer)

    def cancel(self) -> None:
        """Stop it."""
        self._take(self._client.delete(f"{self._url}/{self.told['id']}"))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def watch(self, say: Callable[[str], None] = print) -> None:
        """Show it until it is over; on a terminal as a bar, else as lines."""
        if sys.stdout.isatty():
            self._bar()
        else:
            self._lines(say)
        if self.told["state"] != "done":
            raise Failed(self.told["error"] or f"it was {self.told['state']}")

    def _bar(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[said]}"),
            TimeElapsedColumn(),
        )
        begun, first = time.monotonic(), dict(self.told)
        with Progress(*columns, transient=False) as progress:
            task = progress.add_task(self.told["vendor"], total=1.0, said="")
            while True:
                said = self._said(first, time.monotonic() - begun)
                progress.update(task, completed=self._share(), said=said)
                if self.told["state"] in OVER:
                    return
                time.sleep(LOOK_EVERY)
                self.look()

    def _lines(self, say: Callable[[str], None]) -> None:
        begun, first, last = time.monotonic(), dict(self.told), -TELL_EVERY
        while True:
            now = time.monotonic() - begun
            over = self.told["state"] in OVER
            if now - last >= TELL_EVERY or over:
                say(f"{self.told['vendor']} {self._share():4.0%}  {self._said(first, now)}")
                sys.stdout.flush()
                last = now
            if over:
                return
            time.sleep(LOOK_EVERY)
            self.look()

    def _share(self) -> float:
        if self.told["state"] == "done":
            return 1.0
        sent, planned = int(self.told["requests"]), int(self.told["requests_planned"])
        return min(sent / max(planned, 1), 1.0)

    def _said(self, first: dict[str, Any], seconds: float) -> str:
        """Return how far it is; the time left is the plan's, or longer where it is slower than that."""
        told = self.told
        rate = (told["rows"] - first["rows"]) / max(seconds, 0.1)
        pace = (told["requests"] - first["requests"]) / max(seconds, 0.1)
        left = told["seconds_left"]
        if pace > 0:
            left = max(left, (told["requests_planned"] - told["requests"]) / pace)
        text = f"{told['rows']:,} bars, {told['requests']} of {told['requests_planned']} requests"
        if told["state"] in OVER:
            return text
        text += f", {rate:,.0f} bars/s, {clock(left)} left"
        return f"{text}; waits: {told['waiting']}" if told["waiting"] else text

    def _take(self, answer: httpx.Response) -> None:
        try:
            body = answer.json()
        except ValueError:
            raise Failed(f"the API answered {answer.status_code} without JSON") from None
        if answer.status_code == 422:
            raise Refused(body["detail"])
        if answer.is_error:
            raise Failed(body.get("detail", f"the API answered {answer.status_code}"))
        self.told = body


def newest_day(end: str) -> str:
    """Return the last UTC date before a moment, both as ISO 8601 writes them."""
    return (datetime.fromisoformat(end) - timedelta(microseconds=1)).date().isoformat()


def clock(seconds: float) -> str:
    """Return seconds as people read them: 4:05, 10:03:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
