"""The gate before every vendor: it counts what is asked, keeps limits, and does what a fault says.

It is raw ASGI, so that a cut is a cut connection and a hang is silence.
"""

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandbox.faults import VENDORS, Fault, Faults, Kind
from sandbox.meters import Meters

MOST_PATHS = 256  # counted by themselves for one vendor; the rest is counted together
OTHER_PATHS = "(others)"
BIG = 20_000_000  # bytes

Headers = list[tuple[bytes, bytes]]
# What a vendor says with an HTTP error status: the body, and its headers.
ErrorAnswer = Callable[[int], tuple[bytes, Headers]]

ACCESS_DENIED = """<HTML><HEAD>
<TITLE>Access Denied</TITLE>
</HEAD><BODY>
<H1>Access Denied</H1>
\x20
You don't have permission to access "http&#58;&#47;&#47;{where}" on this server.<P>
Reference&#32;&#35;18&#46;{reference}
<P>
https&#58;&#47;&#47;errors&#46;edgesuite&#46;net&#47;18&#46;{reference}
</BODY>
</HTML>
"""


class Requests:
    """Counts of what was asked, by vendor and path."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self.reset()

    def reset(self) -> None:
        """Count from nothing."""
        self.since = self._now()
        self._paths: dict[str, Counter[str]] = {}
        self._statuses: dict[str, Counter[str]] = {}
        self._faults: dict[str, Counter[str]] = {}

    def asked(self, vendor: str, path: str) -> None:
        """Count a request when it comes in."""
        paths = self._paths.setdefault(vendor, Counter())
        paths[path if path in paths or len(paths) < MOST_PATHS else OTHER_PATHS] += 1

    def answered(self, vendor: str, status: int) -> None:
        """Count the status of an answer."""
        self._statuses.setdefault(vendor, Counter())[str(status)] += 1

    def struck(self, vendor: str, kind: Kind) -> None:
        """Count a fault that struck."""
        self._faults.setdefault(vendor, Counter())[kind.value] += 1

    def told(self) -> dict[str, Any]:
        """Return the counts as JSON."""
        vendors = {
            vendor: {
                "total": paths.total(),
                "paths": dict(paths.most_common()),
                "statuses": dict(self._statuses.get(vendor, {})),
                "faults": dict(self._faults.get(vendor, {})),
            }
            for vendor, paths in sorted(self._paths.items())
        }
        total = sum(paths.total() for paths in self._paths.values())
        return {"since": self.since.isoformat(), "total": total, "vendors": vendors}


class Gate:
    """The middleware every vendor's request passes: counts it, and does to it what a rule says."""

    def __init__(
        self,
        app: ASGIApp,
        faults: Faults,
        requests: Requests,
        meters: Meters,
        errors: Mapping[str, ErrorAnswer],
    ) -> None:
        self._app, self._faults, self._requests = app, faults, requests
        self._meters, self._errors = meters, errors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or not."""
        vendor, _, rest = scope.get("path", "").lstrip("/").partition("/")
        if scope["type"] != "http" or vendor not in VENDORS:
            await self._app(scope, receive, send)
            return
        path = f"/{rest}"
        self._requests.asked(vendor, path)

        account, refused = self._meters.asked(vendor, scope)

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._requests.answered(vendor, message["status"])
            else:
                self._meters.sent(account, len(message.get("body", b"")))
            await send(message)

        if refused:
            body, headers = self._errors.get(vendor, _plain_error)(429)
            await _answer(counted, 429, headers, body)
            return
        delay, fault = self._faults.strike(vendor, path)
        if delay:
            self._requests.struck(vendor, Kind.LATENCY)
            await asyncio.sleep(delay)
        if fault is None:
            await self._app(scope, receive, counted)
            return
        self._requests.struck(vendor, fault.kind)
        await self._spoil(fault, vendor, scope, receive, counted)

    async def _spoil(
        self, fault: Fault, vendor: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        match fault.kind:
            case Kind.STATUS | Kind.THROTTLE:
                status = 429 if fault.kind is Kind.THROTTLE else fault.status or 500
                body, headers = self._errors.get(vendor, _plain_error)(status)
                await _answer(send, status, headers, body)
            case Kind.TEXT:
                body, headers = self._errors.get(vendor, _plain_error)(fault.status or 429)
                await _answer(send, 200, headers, body)
            case Kind.HTML:
                page, headers = self._page(scope["path"])
                await _answer(send, fault.status or 200, headers, page)
            case Kind.HANG:
                heard: list[Message] = []
                if not await _left(receive, fault.seconds, heard):
                    await self._app(scope, _again(heard, receive), send)
            case _:
                status, headers, body = await self._answered(scope, receive)
                if fault.kind in {Kind.NAN, Kind.TYPES}:
                    strew = _strew if fault.kind is Kind.NAN else _mistype
                    await _answer(send, status, headers, self._strewn(scope["path"], body, strew))
                elif fault.kind is Kind.BIG:
                    await _answer(send, status, headers, b" " * BIG + body)
                elif fault.kind is Kind.GARBAGE:
                    await _answer(send, status, headers, body[: len(body) * 3 // 5])
                else:
                    await _cut(send, status, headers, body)

    async def _answered(self, scope: Scope, receive: Receive) -> tuple[int, Headers, bytes]:
        """Return what the vendor would have said."""
        status, headers, parts = 200, Headers(), []

        async def kept(message: Message) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], list(message.get("headers", ()))
            else:
                parts.append(message.get("body", b""))

        await self._app(scope, receive, kept)
        kept_headers = [(name, value) for name, value in headers if name != b"content-length"]
        return status, kept_headers, b"".join(parts)

    def _page(self, path: str) -> tuple[bytes, Headers]:
        reference = (
            f"{self._faults.random.getrandbits(48):x}&#46;{self._faults.random.getrandbits(32)}"
        )
        where = path.lstrip("/").replace("/", "&#47;").replace(".", "&#46;")
        page = ACCESS_DENIED.format(where=where, reference=reference)
        headers = [(b"content-type", b"text/html"), (b"server", b"AkamaiGHost")]
        return page.encode(), headers

    def _strewn(self, path: str, body: bytes, strew: Callable[..., Any]) -> bytes:
        """Return a JSON answer with some of its values made unusable; tokens are left alone."""
        if "/oauth/" in path:
            return body
        try:
            answer = json.loads(body)
        except ValueError:
            return body
        return json.dumps(strew(answer, self._faults.random), separators=(",", ":")).encode()


def _strew(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict):
        strewn = {}
        for name, inner in value.items():
            if _spoiled(inner, chance):
                unusable = chance.choice((-999.0, "NaN", None, ...))
                if unusable is not ...:  # the ellipsis stands for a key that is not there
                    strewn[name] = unusable
            else:
                strewn[name] = _strew(inner, chance)
        return strewn
    if isinstance(value, list):
        return [_strew(inner, chance) for inner in value]
    return value


def _mistype(value: Any, chance: random.Random) -> Any:
    """Return the value with one part in four of another type."""
    if chance.random() < 0.25:
        return chance.choice(([], {}, "x", True, 1e308, -1, [value]))
    if isinstance(value, dict):
        return {name: _mistype(inner, chance) for name, inner in value.items()}
    if isinstance(value, list):
        return [_mistype(inner, chance) for inner in value]
    return value


def _spoiled(value: object, chance: random.Random) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and chance.random() < 0.25


def _plain_error(status: int) -> tuple[bytes, Headers]:
    return json.dumps({"error": f"HTTP {status}"}).encode(), [
        (b"content-type", b"application/json")
    ]


async def _answer(send: Send, status: int, headers: Headers, body: bytes) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


async def _cut(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Promise the whole body, send half; the server closes the connection on an unfinished answer."""
    length = (b"content-length", str(max(len(body), 2)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})


async def _left(receive: Receive, seconds: float | None, heard: list[Message]) -> bool:
    """Wait until the client has left, or for so long; say whether it has, and keep what it said."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return True
                heard.append(message)
    return False


def _again(heard: list[Message], receive: Receive) -> Receive:
    async def repeated() -> Message:
        return heard.pop(0) if heard else await receive()

    return repeated
