"""ApiServer, the actor: uvicorn inside the process, on the socket that the boot program holds.

Because that socket outlives this process, a connection made while it restarts waits instead of being
refused.
"""

import asyncio
import logging
import socket
from importlib.metadata import version

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from actors.client import Tree
from actors.settings import Settings
from api.app import create_app
from api.guard import LOOPBACK, Guard

FAREWELL = 2.0  # seconds for connections to go by themselves
DRAIN = 5  # seconds for requests in hand
HANDOVER_WITHIN = 5.0

log = logging.getLogger("volaris.api")


class ApiServer:
    """The REST API."""

    def __init__(self, settings: Settings, tree: Tree) -> None:
        self._settings, self._tree = settings, tree
        self._leaving = False
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve; returns once connections are answered."""
        always_open = self._settings.market_always_open
        app = create_app(self._tree, version("volaris"), always_open=always_open)
        config = uvicorn.Config(
            self._with_farewell(Guard(app, loopback=self._settings.volaris_host in LOOPBACK)),
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=DRAIN,
            lifespan="off",
        )
        self._server = uvicorn.Server(config)
        listener = await asyncio.to_thread(self._listener)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        while not self._server.started:
            if self._serving.done():
                self._serving.result()
                raise RuntimeError("uvicorn ended before it served")
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Take no new connection, let those there are go with their next answer, then end.

        A connection that is simply closed can have its client's next request on the way already, and that
        client would see a reset; one that was told `Connection: close` goes by itself.
        """
        if self._server is None or self._serving is None:
            return
        self._leaving = True
        for server in self._server.servers:
            server.close()
        try:
            async with asyncio.timeout(FAREWELL):
                while self._server.server_state.connections:  # noqa: ASYNC110  (uvicorn has no event)
                    await asyncio.sleep(0.02)
        except TimeoutError:
            log.info("%d idle connections are closed", len(self._server.server_state.connections))
        self._server.should_exit = True
        await self._serving

    def _with_farewell(self, app: ASGIApp) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_on(message: Message) -> None:
                if self._leaving and message["type"] == "http.response.start":
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
                await send(message)

            await app(scope, receive, send_on if scope["type"] == "http" else send)

        return answer

    def _listener(self) -> socket.socket:
        path = self._settings.api_handover
        if path is not None and path.exists():
            with socket.socket(socket.AF_UNIX) as boot:
                boot.settimeout(HANDOVER_WITHIN)
                boot.connect(str(path))
                _, files, _, _ = socket.recv_fds(boot, 16, 1)
            return socket.socket(fileno=files[0])
        # On another machine than the boot program's: a socket of our own.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self._settings.volaris_host, self._settings.volaris_api_port))
        return listener
