"""What a person or a test may do to the sandbox: move prices, set the clock, make faults, look behind."""

import json
import math
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.clock import Clock
from sandbox.days import NEW_YORK, Hours
from sandbox.faults import Faults, Unusable, parsed
from sandbox.gate import Requests
from sandbox.market import Market
from sandbox.meters import Meters
from sandbox.options import Options

MOST_BYTES = 100_000
HIGHEST_PRICE = 1_000_000.0
FASTEST = 100_000.0

Handler = Callable[[Request], Awaitable[Response]]


class Unknown(Exception):
    """There is no such symbol or rule here."""


class Control:
    """The routes under /control."""

    def __init__(
        self,
        market: Market,
        options: Options,
        clock: Clock,
        faults: Faults,
        requests: Requests,
        meters: Meters,
    ) -> None:
        self._market, self._clock, self._options = market, clock, options
        self._faults, self._requests, self._meters = faults, requests, meters

    def routes(self) -> list[Route]:
        """Return everything under /control."""
        return [
            Route("/control/prices", guarded(self._set_price), methods=["POST"]),
            Route("/control/clock", guarded(self._clock_told), methods=["GET"]),
            Route("/control/clock", guarded(self._set_clock), methods=["POST"]),
            Route("/control/faults", guarded(self._faults_told), methods=["GET"]),
            Route("/control/faults", guarded(self._add_faults), methods=["POST"]),
            Route("/control/faults", guarded(self._clear_faults), methods=["DELETE"]),
            Route("/control/faults/{id:int}", guarded(self._remove_fault), methods=["DELETE"]),
            Route("/control/requests", guarded(self._requests_told), methods=["GET"]),
            Route("/control/requests/reset", guarded(self._reset_requests), methods=["POST"]),
            Route("/control/limits", guarded(self._limits_told), methods=["GET"]),
            Route("/control/limits", guarded(self._set_limits), methods=["POST"]),
            Route("/control/truth/{symbol}", guarded(self._truth), methods=["GET"]),
        ]

    def move(self, symbol: object, price: object) -> dict[str, Any]:
        """Move a symbol's price, and return where it stands."""
        if not isinstance(symbol, str) or not symbol.strip():
            raise Unusable("symbol", f"was {symbol!r}", "send the symbol as text, as AAPL or BRK.B")
        name = symbol.strip().upper().replace("/", ".")
        number = isinstance(price, int | float) and not isinstance(price, bool)
        if not number or not 0.01 <= float(str(price)) <= HIGHEST_PRICE:
            remedy = f"send a number of dollars from 0.01 to {HIGHEST_PRICE:,.0f}"
            raise Unusable("price", f"was {price!r}", remedy)
        if name not in self._market.index:
            raise Unknown(f"no symbol {name} trades here")
        self._market.shift(name, round(float(str(price)), 2), self._clock.ms())
        quotes = self._market.quotes(self._clock.ms())
        return {"symbol": name, "last": float(quotes.last[self._market.index[name]])}

    def set_clock(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Set the clock, its speed or the market's hours, and return what they are."""
        unknown = set(asked) - {"at", "speed", "hours"}
        if unknown or not asked:
            field = min(unknown, default="at")
            why = "there is no such field" if unknown else "nothing was sent"
            raise Unusable(field, why, "send at, speed or hours")
        at, speed, hours = read_at(asked.get("at")), _speed(asked.get("speed")), asked.get("hours")
        if hours is not None and hours not in tuple(Hours):
            raise Unusable("hours", f"was {hours!r}", f"use one of {', '.join(Hours)}")
        if asked.get("at") == "now":
            self._clock.reset()
        if at or speed is not None:
            self._clock.set(at, speed)
        if hours:
            self._market.times.hours = Hours(hours)
        return self.clock()

    def clock(self) -> dict[str, Any]:
        """Return the clock and the market's hours."""
        now = self._clock.ms()
        return {
            "at": datetime.fromtimestamp(now / 1000, UTC).isoformat(timespec="milliseconds"),
            "new_york": datetime.fromtimestamp(now / 1000, NEW_YORK).isoformat(timespec="seconds"),
            "speed": self._clock.speed,
            "wall": self._clock.real,
            "hours": self._market.times.hours.value,
            "open": self._market.times.is_open(now),
        }

    async def _set_price(self, request: Request) -> Response:
        asked = await _object(request)
        return JSONResponse(self.move(asked.get("symbol"), asked.get("price")))

    async def _clock_told(self, _: Request) -> Response:
        return JSONResponse(self.clock())

    async def _set_clock(self, request: Request) -> Response:
        return JSONResponse(self.set_clock(await _object(request)))

    async def _faults_told(self, _: Request) -> Response:
        return JSONResponse({"faults": [rule.told() for rule in self._faults]})

    async def _add_faults(self, request: Request) -> Response:
        asked = await _sent(request)
        rules = asked if isinstance(asked, list) else [asked]
        if rules:
            self._faults.add([parsed(rule) for rule in rules])
        else:
            self._faults.clear()
        return await self._faults_told(request)

    async def _clear_faults(self, request: Request) -> Response:
        self._faults.clear()
        return await self._faults_told(request)

    async def _remove_fault(self, request: Request) -> Response:
        number = request.path_params["id"]
        if not self._faults.remove(number):
            raise Unknown(f"no fault {number} is in force")
        return await self._faults_told(request)

    async def _requests_told(self, _: Request) -> Response:
        return JSONResponse(self._requests.told())

    async def _limits_told(self, _: Request) -> Response:
        return JSONResponse(self._meters.told())

    async def _set_limits(self, request: Request) -> Response:
        asked = await _object(request)
        if unknown := set(asked) - {"vendor", "enforced", "limits"}:
            why = "there is no such field"
            raise Unusable(min(unknown), why, "send vendor, and enforced or limits")
        self._meters.set(asked.get("vendor"), asked.get("enforced"), asked.get("limits"))
        return await self._limits_told(request)

    async def _reset_requests(self, _: Request) -> Response:
        self._requests.reset()
        return JSONResponse(self._requests.told())

    async def _truth(self, request: Request) -> Response:
        symbol = request.path_params["symbol"].strip().upper().replace("/", ".")
        if f"${symbol}" in self._market.index:  # an index may be named without its sign
            symbol = f"${symbol}"
        if symbol not in self._market.index:
            raise Unknown(f"no symbol {symbol} trades here")
        now = self._clock.now()
        truth = asdict(self._market.truth(symbol, self._clock.ms()))
        truth |= {"seed": self._market.seed, "at": now.isoformat()}
        return JSONResponse(truth | {"options": self._options.truth(symbol, self._clock.ms())})


def guarded(handler: Handler) -> Handler:
    """Return a handler that says which field was unusable, and what would do."""

    async def safe(request: Request) -> Response:
        try:
            return await handler(request)
        except Unusable as error:
            told = {"error": str(error), "field": error.field, "remedy": error.remedy}
            return JSONResponse(told, 422)
        except Unknown as error:
            return JSONResponse({"error": str(error)}, 404)

    return safe


def read_at(value: object) -> datetime | None:
    """Return a moment from ISO text; "now" is the wall clock and leaves it to the caller."""
    if value is None or value == "now":
        return None
    remedy = 'send ISO 8601 with a time zone, as 2026-11-24T15:00:00Z, or "now"'
    if not isinstance(value, str):
        raise Unusable("at", f"was {value!r}", remedy)
    try:
        at = datetime.fromisoformat(value.strip())
    except ValueError:
        raise Unusable("at", f"was {value!r}", remedy) from None
    if at.tzinfo is None:
        raise Unusable("at", f"{value} has no time zone", remedy)
    if not 1990 <= at.year <= 2099:
        raise Unusable("at", f"{value} is too far away", "use a year from 1990 to 2099")
    return at.astimezone(UTC)


def _speed(value: object) -> float | None:
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= float(str(value)) <= FASTEST:
        remedy = f"use a number from 0 (stands still) to {FASTEST:,.0f}"
        raise Unusable("speed", f"was {value!r}", remedy)
    return float(str(value))


async def _sent(request: Request) -> Any:
    body = await request.body()
    if len(body) > MOST_BYTES:
        raise Unusable("body", f"is {len(body)} bytes", f"send at most {MOST_BYTES}")
    try:
        return json.loads(body, parse_constant=_not_a_number)
    except ValueError:
        raise Unusable(
            "body", "is not JSON", 'send JSON, as {"symbol": "AAPL", "price": 250}'
        ) from None


async def _object(request: Request) -> dict[str, Any]:
    sent = await _sent(request)
    if not isinstance(sent, dict):
        raise Unusable("body", f"is a {type(sent).__name__}", "send a JSON object")
    return sent


def _not_a_number(_: str) -> float:
    raise ValueError(math.nan)
