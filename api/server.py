"""ApiServer, the actor: uvicorn inside the process, on the socket that the boot program holds.

Because that socket outlives this process, a connection made while it restarts waits instead of being
refused.
"""

import asyncio
import logging
import socket
from importlib.metadata import version

import uvicorn

from actors.client import Tree
from actors.settings import Settings
from api.app import create_app

DRAIN = 5  # seconds for requests in hand
HANDOVER_WITHIN = 5.0

log = logging.getLogger("volaris.api")


class ApiServer:
    """The REST API."""

    def __init__(self, settings: Settings, tree: Tree) -> None:
        self._settings, self._tree = settings, tree
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve; returns once connections are answered."""
        always_open = self._settings.market_always_open
        app = create_app(self._tree, version("volaris"), always_open=always_open)
        config = uvicorn.Config(
            app, log_config=None, access_log=False, timeout_graceful_shutdown=DRAIN, lifespan="off"
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
        """Answer the requests in hand, take no more."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving

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
