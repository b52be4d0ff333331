"""Who may speak to the API at all: no web page of somebody else's, and nobody with a body without end."""

import json
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_BODY = 262_144  # bytes; the longest list of symbols takes a tenth
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Refused(Exception):
    """A request that is not let in."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.title, self.detail = status, title, detail


class Guard:
    """ASGI middleware: bounds bodies, and refuses what only a foreign web page in a browser would send.

    Where the API listens on loopback only, its name must be loopback, too: a name somebody else owns may
    lead a browser here (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, *, loopback: bool) -> None:
        self._app, self._loopback = app, loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it with a problem."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            self._judge(scope["method"], headers)
        except Refused as e:
            await _answer(send, e, scope["path"])
            return
        await self._app(scope, _bounded(receive), send)

    def _judge(self, method: str, headers: Mapping[bytes, str]) -> None:
        host = headers.get(b"host", "")
        name = urlsplit(f"//{host}").hostname or ""
        if self._loopback and name not in LOOPBACK:
            why = (
                f"the API listens on this machine only; call it by 127.0.0.1, not by {name[:80]!r}"
            )
            raise Refused(421, "Misdirected Request", why)
        origin = headers.get(b"origin")
        if method not in SAFE and origin is not None and urlsplit(origin).netloc != host:
            raise Refused(403, "Forbidden", "a page of another site may not change anything here")
        length = headers.get(b"content-length", "0")
        if not length.isdecimal() or int(length) > LARGEST_BODY:
            raise Refused(413, "Content Too Large", f"a body has at most {LARGEST_BODY} bytes")


def _bounded(receive: Receive) -> Receive:
    held = 0

    async def counted() -> Message:
        nonlocal held
        message = await receive()
        held += len(message.get("body", b""))
        if held > LARGEST_BODY:  # by now it is the application's to answer
            raise HTTPException(413, f"a body has at most {LARGEST_BODY} bytes")
        return message

    return counted


async def _answer(send: Send, refused: Refused, path: str) -> None:
    body = json.dumps(
        {
            "type": "about:blank",
            "title": refused.title,
            "status": refused.status,
            "detail": refused.detail,
            "instance": path,
        }
    ).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # what is left of the body is not read
    ]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
