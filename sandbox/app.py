"""The sandbox put together: one market behind every vendor's door, the gate of faults before them."""

import contextlib
import errno
import ipaddress
import logging
import socket
from collections.abc import Sequence
from datetime import datetime

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from sandbox.alpaca import Alpaca
from sandbox.clock import Clock
from sandbox.console import Console
from sandbox.control import Control
from sandbox.databento import Databento
from sandbox.days import Hours
from sandbox.faults import Fault, Faults
from sandbox.finnhub import Finnhub
from sandbox.gate import Gate, Requests
from sandbox.market import Market
from sandbox.meters import Meters
from sandbox.options import Options
from sandbox.polygon import Polygon
from sandbox.schwab import Schwab
from sandbox.sp500 import SP500
from sandbox.tiingo import Tiingo

UNUSABLE = 78  # EX_CONFIG


class Unservable(Exception):
    """The sandbox cannot listen where it was told to."""


def build(
    seed: int = 7,
    faults: Sequence[Fault] = (),
    clock: Clock | None = None,
    hours: Hours = Hours.ALWAYS,
    meters: Meters | None = None,
) -> ASGIApp:
    """Return the sandbox as one ASGI application; its vendors' limits are counted, not enforced."""
    clock, meters = clock or Clock(), meters or Meters(enforced=False)
    market, rules, requests = Market(seed, hours), Faults(seed, faults), Requests(clock.now)
    options = Options(market)  # one for all: it remembers up to 45 MB
    control = Control(market, options, clock, rules, requests, meters)
    console = Console(market, clock, rules, requests, control)
    # A vendor each: its name, its routes, and its words for an error status.
    doors = (
        Schwab(market, options, clock),
        Tiingo(market, clock),
        Alpaca(market, options, clock),
        Polygon(market, options, clock),
        Finnhub(market, clock),
        Databento(market, clock),
        SP500(market),
    )
    market.year(market.quotes(clock.ms()).moment.day)  # warm before the first request
    routes = [*console.routes(), *control.routes(), *(door.routes() for door in doors)]
    site = Starlette(routes=routes, exception_handlers={404: _nowhere, 405: _nowhere})
    return Gate(site, rules, requests, meters, {door.name: door.error_answer for door in doors})


async def _nowhere(_: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    told = "no such page; / is the console" if status == 404 else "not with this method"
    return JSONResponse({"error": told}, status)


def serve(
    host: str = "127.0.0.1",
    port: int = 8900,
    seed: int = 7,
    *,
    faults: Sequence[Fault] = (),
    at: datetime | None = None,
    speed: float = 1.0,
    hours: Hours = Hours.ALWAYS,
    enforced: bool = True,
) -> None:
    """Serve the sandbox until a signal ends it; print where, once it listens."""
    listener = _listener(host, port)
    logging.getLogger("uvicorn.error").addFilter(_expected)
    app = build(seed, faults, Clock(at, speed), hours, Meters(enforced=enforced))
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=75,  # as patient as a vendor's gateway, so that clients may keep connections
        timeout_graceful_shutdown=1,  # a request that hangs on purpose must not hold up the end
    )
    with contextlib.suppress(KeyboardInterrupt):
        _Server(config).run(sockets=[listener])


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = (sockets or self.servers[0].sockets)[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"sandbox listening on http://{shown}:{port}", flush=True)  # noqa: T201


def _listener(host: str, port: int) -> socket.socket:
    """Return a listening socket on loopback: nothing here is fit for a network."""
    address = "127.0.0.1" if host == "localhost" else host
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        raise Unservable(f"the host must be an address on loopback, was {host}") from None
    if not ip.is_loopback:
        raise Unservable(f"the sandbox serves this machine only; use 127.0.0.1, was {host}")
    family = socket.AF_INET6 if ip.version == 6 else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where a socket says that it is TCP; with it on, every
    # small answer waits 40 ms for the client's acknowledgement of the headers.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise Unservable(f"port {port} is taken; choose another with --port, or 0") from None
        raise Unservable(f"cannot listen on {host} port {port}: {error.strerror}") from None
    return listener


def _expected(record: logging.LogRecord) -> bool:
    """Say whether a log line is worth showing; a cut connection leaves one behind on purpose."""
    return "without completing response" not in record.getMessage()
