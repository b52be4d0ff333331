"""What each key has spent of its plan's limits, counted as a vendor counts: when a request comes in.

This module is the judge of the app's own limiter, so it shares nothing with it: windows of seconds,
minutes and hours are looked at request by request; days (New York) and months (UTC) are those of the
calendar.  Which plan a key has is told by how it begins, as the doors read it.
"""

import base64
import binascii
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from starlette.types import Scope

from sandbox.days import NEW_YORK
from sandbox.faults import Unusable

# (how the key begins, its limits), the first that fits; facts are the vendors' published plans.
PLANS: dict[str, tuple[tuple[str, str], ...]] = {
    "schwab": (("", "120/min"),),
    "tiingo": (
        ("paid", "10000/h 100000/day 40GB/month"),
        ("", "50/h 1000/day 1GB/month 500symbols/month"),
    ),
    "alpaca": (("paid", "10000/min"), ("", "200/min")),
    "polygon": (("free", "5/min"), ("", "100/s")),
    "finnhub": (("paid", "300/min 30/s"), ("", "60/min 30/s")),
    "databento": (("", "100/s"),),
}
SECONDS = {"s": 1, "min": 60, "h": 3600}
UNITS = {"": 1, "symbols": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
MOST_KEYS = 64  # of one vendor that are counted; then the longest unused one is forgotten
_LIMIT = re.compile(r"(\d{1,12})(KB|MB|GB|symbols)?/(s|min|h|day|month)")
_ONE_SYMBOL = re.compile(r"/(?:tiingo/(?:daily|fundamentals|equity/intraday)|iex)/([\w-]+)")


@dataclass(slots=True)
class Meter:
    """One limit of one key."""

    text: str
    amount: int
    unit: str  # "", "symbols" or a unit of bytes
    window: str
    count: int = 0  # of the day or month
    peak: int = 0  # the most that any window has held
    symbols: set[str] = field(default_factory=set)
    _day: tuple[int, ...] = ()
    _times: deque[float] = field(default_factory=deque)

    def full(self, now: datetime, symbols: Iterable[str]) -> bool:
        """Tell whether one more request is too many."""
        self._turn(now)
        if self.unit == "symbols":
            return len(self.symbols | set(symbols)) > self.amount
        return self._held() >= self.amount

    def add(self, now: datetime, symbols: Iterable[str]) -> None:
        """Count a request that is let in."""
        self._turn(now)
        if self.unit == "symbols":
            self.symbols.update(symbols)
        elif not self.unit and self.window in SECONDS:
            self._times.append(now.timestamp())
        elif not self.unit:
            self.count += 1
        self.peak = max(self.peak, self._held())

    def sent(self, now: datetime, size: int) -> None:
        """Count the bytes of an answer."""
        if self.unit.endswith("B"):
            self._turn(now)
            self.count += size
            self.peak = max(self.peak, self.count)

    def told(self, now: datetime) -> dict[str, Any]:
        """Return it as JSON."""
        self._turn(now)
        return {"limit": self.text, "most": self.amount, "now": self._held(), "peak": self.peak}

    def _held(self) -> int:
        if self.unit == "symbols":
            return len(self.symbols)
        return len(self._times) if self.window in SECONDS else self.count

    def _turn(self, now: datetime) -> None:
        if self.window in SECONDS:
            while self._times and self._times[0] <= now.timestamp() - SECONDS[self.window]:
                self._times.popleft()
            return
        at = now.astimezone(NEW_YORK if self.window == "day" else UTC)
        day = (at.year, at.month, at.day) if self.window == "day" else (at.year, at.month)
        if day != self._day:
            self._day, self.count, self.symbols = day, 0, set()


@dataclass(slots=True)
class Account:
    """One key at one vendor."""

    meters: list[Meter]
    let_in: int = 0
    refused: int = 0
    over: int = 0  # let in although a limit was spent, because limits are only counted


class Meters:
    """Every vendor's accounts; `now` is the wall clock, whatever the sandbox's own clock does."""

    def __init__(
        self, now: Callable[[], datetime] = lambda: datetime.now(UTC), *, enforced: bool = True
    ) -> None:
        self._now = now
        self._enforced = dict.fromkeys(PLANS, enforced)
        self._given: dict[str, str] = {}
        self._accounts: dict[str, OrderedDict[str, Account]] = {v: OrderedDict() for v in PLANS}

    def asked(self, vendor: str, scope: Scope) -> tuple[Account | None, bool]:
        """Count a request; return whose it is, where it is somebody's, and whether it is refused."""
        key = key_of(scope)
        if vendor not in PLANS or not key or "/oauth/" in scope["path"]:
            return None, False
        accounts = self._accounts[vendor]
        account = accounts.get(key)
        if account is None:
            account = accounts[key] = Account(read(self._given.get(vendor) or plan(vendor, key)))
            if len(accounts) > MOST_KEYS:
                accounts.popitem(last=False)
        accounts.move_to_end(key)
        now, symbols = self._now(), symbols_of(scope)
        spent = any(meter.full(now, symbols) for meter in account.meters)
        if spent and self._enforced[vendor]:
            account.refused += 1
            return account, True
        account.let_in += 1
        account.over += spent
        for meter in account.meters:
            meter.add(now, symbols)
        return account, False

    def sent(self, account: Account | None, size: int) -> None:
        """Count the bytes of an answer."""
        for meter in account.meters if account else ():
            meter.sent(self._now(), size)

    def set(self, vendor: object, enforced: object, limits: object) -> None:
        """Enforce a vendor's limits or only count them; or put others in place of its plans'."""
        if vendor not in PLANS:
            raise Unusable("vendor", f"was {vendor!r}", f"use one of {', '.join(PLANS)}")
        if enforced is not None and not isinstance(enforced, bool):
            raise Unusable("enforced", f"was {enforced!r}", "use true or false")
        if limits is not None:
            if not isinstance(limits, str):
                raise Unusable("limits", f"was {limits!r}", 'send a text such as "60/min 30/s"')
            read(limits)
            self._given[str(vendor)] = limits
            self._accounts[str(vendor)].clear()
        if enforced is not None:
            self._enforced[str(vendor)] = enforced

    def told(self) -> dict[str, Any]:
        """Return every account as JSON; of a key only how it begins is told."""
        now = self._now()
        return {
            vendor: {
                "enforced": self._enforced[vendor],
                "plans": {begins or "(any)": limits for begins, limits in PLANS[vendor]},
                "given": self._given.get(vendor),
                "keys": [
                    {
                        "key": f"{key[:4]}…",
                        "let_in": account.let_in,
                        "refused": account.refused,
                        "over": account.over,
                        "limits": [meter.told(now) for meter in account.meters],
                    }
                    for key, account in accounts.items()
                ],
            }
            for vendor, accounts in self._accounts.items()
        }


def plan(vendor: str, key: str) -> str:
    """Return the limits of the plan that a key has."""
    return next(limits for begins, limits in PLANS[vendor] if key.startswith(begins))


def read(text: str) -> list[Meter]:
    """Return the meters of a plan's limits."""
    meters = []
    for word in text.split():
        found = _LIMIT.fullmatch(word)
        if found is None or (found[2] and found[3] in SECONDS):
            remedy = "write N/s, N/min, N/h, N/day, NGB/month or Nsymbols/month"
            raise Unusable("limits", f"was {word!r}", remedy)
        unit = found[2] or ""
        meters.append(Meter(word, int(found[1]) * UNITS[unit], unit, found[3]))
    return meters


def key_of(scope: Scope) -> str:
    """Return the key of a request, wherever its vendor takes it from; "" where there is none."""
    headers: dict[bytes, str] = {
        name.lower(): value.decode("latin-1") for name, value in scope["headers"]
    }
    for name in (b"apca-api-key-id", b"x-finnhub-token"):
        if headers.get(name):
            return headers[name]
    scheme, _, given = headers.get(b"authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode("latin-1").partition(":")[0]
        except binascii.Error:
            given = ""
    if given:
        return given.strip()
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    return next((query[name][0] for name in ("token", "apiKey", "apikey") if name in query), "")


def symbols_of(scope: Scope) -> set[str]:
    """Return the symbols a Tiingo request looks up, which are what its plan counts."""
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    path = scope["path"].removeprefix("/tiingo")
    if "/news" in path or "/utilities" in path:
        return set()
    listed = {s.strip().upper() for text in query.get("tickers", ()) for s in text.split(",")}
    found = _ONE_SYMBOL.match(path)
    return {symbol for symbol in listed | {found[1].upper() if found else ""} if symbol}
