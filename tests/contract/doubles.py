"""Stand-ins for the contract suites: vendors behind a MockTransport, and a token store in memory.

Only logins need one: what a plain key does is asked of the sandbox, in `test_vendors`.
"""

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from urllib.parse import parse_qs

import httpx

from actors.providers.base import Seal, StoreAway
from actors.providers.http import Tools
from actors.providers.limits import Entry
from actors.settings import Settings

APP_KEY, SECRET, REFRESH = "app-key-4711", "app-secret-0815", "refresh-token-begin"
PAIR = "YXBwLWtleS00NzExOmFwcC1zZWNyZXQtMDgxNQ=="  # the two in base64, as Basic auth sends them
SECRETS = (APP_KEY, SECRET, PAIR, "access-token-", "refresh-token-")  # no part of these may be seen

Answer = Callable[[httpx.Request], httpx.Response]


class MemoryBooks:
    """A store of logins and spend that can be away."""

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}
        self.spent: dict[str, dict[str, Entry]] = {}
        self.saves = 0
        self.away = False
        self.gate = asyncio.Event()  # what is closed holds every save
        self.gate.set()

    async def load(self, vendor: str) -> bytes | None:
        await asyncio.sleep(0)
        if self.away:
            raise StoreAway("its test says so")
        return self.rows.get(vendor)

    async def save(self, vendor: str, sealed: bytes) -> None:
        await self.gate.wait()
        if self.away:
            raise StoreAway("its test says so")
        self.rows[vendor] = sealed
        self.saves += 1

    async def spend(self, vendor: str) -> Mapping[str, Entry]:
        await asyncio.sleep(0)
        if self.away:
            raise StoreAway("its test says so")
        return dict(self.spent.get(vendor, {}))

    async def note(self, vendor: str, entries: Mapping[str, Entry]) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise StoreAway("its test says so")
        self.spent.setdefault(vendor, {}).update(entries)


class Reversed:
    """A seal that is quick and still hides the text from a search for it."""

    def seal(self, plain: bytes) -> bytes:
        return b"sealed:" + plain[::-1]

    def open(self, sealed: bytes) -> bytes:
        return sealed.removeprefix(b"sealed:")[::-1]


class Clock:
    """Both clocks, which stand still unless a test or a `sleep` moves them."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)
        self.ticks = 1000.0
        self.slept: list[float] = []
        self.asleep = False  # sleepers never wake

    def now(self) -> datetime:
        return self.at

    def clock(self) -> float:
        return self.ticks

    def move(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
        self.ticks += seconds

    async def sleep(self, seconds: float) -> None:
        if self.asleep:
            await asyncio.Event().wait()
        self.slept.append(seconds)
        self.move(seconds)
        await asyncio.sleep(0)


class SchwabDouble:
    """Schwab as its recordings show it: OAuth, quotes, price history; each answer can be replaced."""

    settings = {  # noqa: RUF012
        "schwab_app_key": APP_KEY,
        "schwab_secret_key": SECRET,
        "schwab_refresh_token": REFRESH,
    }
    unknown, class_share, class_share_on_wire = "NOPE", "BRK.B", "BRK/B"

    def __init__(self) -> None:
        self.tokens: list[dict[str, str]] = []  # forms of the token requests
        self.data: list[httpx.Request] = []
        self.token_answer: Answer | None = None
        self.data_answer: Answer | None = None
        self.live: set[str] = set()
        self.quote: dict[str, Any] = {}  # changes to every quote
        self.delay = 0.0
        self._numbers: Iterator[int] = count(1)

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._handle)

    def symbols(self) -> list[list[str]]:
        """Return the symbols of each quotes request."""
        return [request.url.params["symbols"].split(",") for request in self.data]

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/v1/oauth/token"):
            self.tokens.append({k: v[0] for k, v in parse_qs(request.content.decode()).items()})
            await asyncio.sleep(self.delay)
            return self.token_answer(request) if self.token_answer else self._token(request)
        self.data.append(request)
        await asyncio.sleep(self.delay)
        if self.data_answer:
            return self.data_answer(request)
        if request.headers["Authorization"].removeprefix("Bearer ") not in self.live:
            error = {
                "id": "1",
                "status": 401,
                "title": "Unauthorized",
                "detail": "Client not authorized",
            }
            return httpx.Response(401, json={"errors": [error]})
        if request.url.path.endswith("/marketdata/v1/quotes"):
            return self._quotes(request)
        if request.url.path.endswith("/marketdata/v1/pricehistory"):
            return self._history(request)
        return httpx.Response(
            404, json={"errors": [{"id": "1", "status": "404", "title": "Not Found"}]}
        )

    def _token(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["Authorization"] == f"Basic {PAIR}"
        n = next(self._numbers)
        access = f"access-token-{n}"
        self.live.add(access)
        refresh = self.tokens[-1].get("refresh_token", f"refresh-token-{n}")
        body = {"expires_in": 1800, "token_type": "Bearer", "scope": "api", "id_token": "x.y.z"}
        return httpx.Response(200, json=body | {"access_token": access, "refresh_token": refresh})

    def _quotes(self, request: httpx.Request) -> httpx.Response:
        asked = request.url.params["symbols"].split(",")
        if len(asked) > 500:
            error = {
                "id": "1",
                "status": "400",
                "detail": "Search combination should not exceed 500.",
            }
            return httpx.Response(400, json={"errors": [error]})
        # Their market lists no symbol with a digit, and class shares with a slash only.
        known = [
            symbol
            for symbol in asked
            if re.fullmatch(r"[A-Z]{1,5}(/[A-Z])?", symbol) and symbol != "NOPE"
        ]
        body: dict[str, Any] = {symbol: self._entry(symbol) for symbol in known}
        if invalid := [symbol for symbol in asked if symbol not in known]:
            body["errors"] = {"invalidSymbols": invalid}
        return httpx.Response(200, json=body)

    def _entry(self, symbol: str) -> dict[str, Any]:
        quote = {
            "lastPrice": 10.5,
            "bidPrice": 10.4,
            "askPrice": 10.6,
            "bidSize": 2,
            "askSize": 3,
            "openPrice": 10.0,
            "highPrice": 11.0,
            "lowPrice": 9.5,
            "closePrice": 10.2,
            "totalVolume": 1_000_000,
            "netChange": 0.3,
            "netPercentChange": 2.94,
            "quoteTime": 1729295935436,
            "tradeTime": 1729295935000,
        }
        return {
            "assetMainType": "EQUITY",
            "realtime": True,
            "symbol": symbol,
            "quote": quote | self.quote,
            "reference": {"description": f"{symbol} CORP"},
            "regular": {"regularMarketLastPrice": 10.5},
        }

    def _history(self, request: httpx.Request) -> httpx.Response:
        asked = request.url.params
        day = 86_400_000
        step = {"minute": 60_000, "daily": day}[asked["frequencyType"]]
        # Wider than asked for, as Schwab does it: a whole day more on either side.
        first, last = int(asked["startDate"]) - day, int(asked["endDate"]) + day
        prices = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5, "volume": 100}
        candles = [prices | {"datetime": at} for at in range(first, last, step)]
        return httpx.Response(
            200, json={"symbol": asked["symbol"], "empty": False, "candles": candles}
        )


DOUBLES = {"schwab": SchwabDouble}


def settings_of(double: SchwabDouble, home: Any, **given: Any) -> Settings:
    """Return settings under which the double's vendor is configured, and nothing of this machine."""
    return Settings(volaris_home=home, **(double.settings | given))


def tools_of(double: SchwabDouble, clock: Clock, tokens: MemoryBooks | None = None) -> Tools:
    """Return an adapter's tools around a double, with clocks that stand still."""
    seal: Seal = Reversed()
    return Tools(
        tokens=tokens or MemoryBooks(),
        vault=lambda: seal,
        transport=double.transport,
        now=clock.now,
        clock=clock.clock,
        sleep=clock.sleep,
    )
