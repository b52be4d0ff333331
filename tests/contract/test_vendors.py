"""Every vendor, every kind of data it sells, every fault, over real HTTP against one sandbox process.

=======  =====================================================================================
card     promise
=======  =====================================================================================
TC-V01   each kind that is sold answers in the tree's own words: its type, its source, finite numbers,
         moments with a zone
TC-V02   each fault is an error of our own tree and of the right kind, within the deadline
TC-V03   what is answered through a strewn or mistyped body is finite and sound all the same
TC-V04   after a fault the same adapter answers as before
TC-V05   no key is in any error, its repr, its pickle or any log
TC-V06   an unknown symbol is unknown or not sold: never a fault of the vendor
=======  =====================================================================================
"""

import asyncio
import dataclasses
import importlib
import logging
import math
import pickle
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.domain.models import Ranking, Timeframe
from actors.providers import PROVIDERS
from actors.providers.base import (
    Denied,
    Malformed,
    ProviderError,
    RateLimited,
    Unavailable,
    Unsupported,
)
from actors.providers.http import Tools
from actors.providers.vendor import Kind
from actors.settings import CONSTITUENTS, Settings
from tests.contract.doubles import MemoryBooks, Reversed

SECRET = "never-to-be-read-4711"
KEYS: dict[str, dict[str, str]] = {
    "schwab": {
        "schwab_app_key": f"app-{SECRET}",
        "schwab_secret_key": f"secret-{SECRET}",
        "schwab_refresh_token": f"refresh-{SECRET}",
    },
    "alpaca": {"alpaca_api_key": f"paid-{SECRET}", "alpaca_api_secret": f"s-{SECRET}"},
    "tiingo": {"tiingo_api_key": f"paid-{SECRET}"},
    "polygon": {"polygon_api_key": f"paid-{SECRET}"},
    "finnhub": {"finnhub_api_key": f"paid-{SECRET}"},
    "databento": {"databento_api_key": f"db-{SECRET}"},
    "sp500": {},
}
TODAY = datetime.now(UTC).date()
MIDNIGHT = datetime(TODAY.year, TODAY.month, TODAY.day, tzinfo=UTC)
BARS = (MIDNIGHT - timedelta(days=21), MIDNIGHT - timedelta(days=7))

Ask = Callable[[Any, str, float], Awaitable[Any]]
ASKS: dict[Kind, Ask] = {
    Kind.QUOTES: lambda v, symbol, by: v.quotes((symbol,), by),
    Kind.BARS: lambda v, symbol, by: v.bars((symbol,), Timeframe.DAY, *BARS, by),
    Kind.CHAIN: lambda v, symbol, by: v.chain(symbol, by, TODAY, TODAY + timedelta(days=10)),
    Kind.MOVERS: lambda v, _, by: v.movers(Ranking.GAINERS, by),
    Kind.PROFILE: lambda v, symbol, by: v.profile(symbol, by),
    Kind.NEWS: lambda v, symbol, by: v.news((symbol,), MIDNIGHT - timedelta(days=7), 10, by),
    Kind.RECOMMENDATIONS: lambda v, symbol, by: v.recommendations(symbol, by),
    Kind.EARNINGS: lambda v, _, by: v.earnings(TODAY, TODAY + timedelta(days=7), by),
    Kind.HOURS: lambda v, _, by: v.hours(TODAY, TODAY + timedelta(days=7), by),
    Kind.CONSTITUENTS: lambda v, _, by: v.constituents(by),
}
# fault -> (rule, errors it may become); an answer is fine only where `None` is among them
FAULTS: dict[str, tuple[dict[str, Any], tuple[type[ProviderError] | None, ...]]] = {
    "cut": ({"kind": "cut"}, (Unavailable,)),
    "401": ({"kind": "status", "status": 401}, (Denied,)),
    "403": ({"kind": "status", "status": 403}, (Denied, Unsupported)),
    "404": ({"kind": "status", "status": 404}, (Unsupported, Unavailable, None)),
    "429": ({"kind": "throttle"}, (RateLimited,)),
    "500": ({"kind": "status", "status": 500}, (Unavailable,)),
    "503": ({"kind": "status", "status": 503}, (Unavailable,)),
    "page": ({"kind": "html"}, (Malformed,)),
    "page 403": ({"kind": "html", "status": 403}, (Unavailable,)),
    "truncated": ({"kind": "garbage"}, (Malformed,)),
    "text": ({"kind": "text"}, (RateLimited, Malformed)),
    "big": ({"kind": "big"}, (Malformed,)),
    "types": ({"kind": "types"}, (Malformed, RateLimited, Denied, Unsupported, Unavailable, None)),
    "nan": ({"kind": "nan"}, (Malformed, Unsupported, None)),
}
# What else a fault means at one vendor: Alpaca's hours are of a host with keys of its own, and a 403 of
# GitHub's is no JSON.
OTHERWISE: dict[tuple[str, Kind, str], tuple[type[ProviderError] | None, ...]] = {
    ("alpaca", Kind.HOURS, "401"): (Unsupported,),
    ("sp500", Kind.CONSTITUENTS, "403"): (Unavailable,),
}


def class_of(vendor: str) -> Any:
    module, _, name = PROVIDERS[vendor].partition(":")
    return getattr(importlib.import_module(module), name)


SOLD = [(vendor, kind) for vendor in PROVIDERS for kind in sorted(class_of(vendor).sells)]
BY_SYMBOL = {Kind.QUOTES, Kind.BARS, Kind.CHAIN, Kind.PROFILE, Kind.NEWS, Kind.RECOMMENDATIONS}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "sandbox", "--port", "0", "--no-limits"],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait(20)


class Bench:
    """One vendor's adapter against the sandbox, and its faults."""

    def __init__(self, url: str, vendor: str, home: Path) -> None:
        given = {f"{vendor}_base_url": f"{url}/{vendor}"}
        if vendor == "sp500":
            given = {"sp500_url": f"{url}/sp500{CONSTITUENTS}"}
        if vendor == "alpaca":
            given["alpaca_trading_url"] = f"{url}/alpaca"
        settings = Settings(
            volaris_home=home,
            volaris_limit={vendor: "100000/min"},
            **given,
            **KEYS[vendor],
        )
        self.vendor, self.settings = vendor, settings
        self.books = MemoryBooks()
        self.provider = class_of(vendor).of(settings, Tools(self.books, Reversed))
        self.control = httpx.Client(base_url=url, timeout=10)

    def strike(self, rule: dict[str, Any]) -> None:
        # A login is another card's: faults strike what is asked with it.
        path = {"path": "/marketdata"} if self.vendor == "schwab" else {}
        self.control.post("/control/faults", json={"vendor": self.vendor} | path | rule)

    async def heal(self) -> None:
        """End the faults; who was told to pause is followed by one who was not."""
        self.control.delete("/control/faults")
        if self.provider.limiter.delay > 0:
            await self.provider.close()
            self.provider = class_of(self.vendor).of(self.settings, Tools(self.books, Reversed))

    async def ask(self, kind: Kind, symbol: str = "AAPL", seconds: float = 20.0) -> Any:
        return await ASKS[kind](self.provider, symbol, time.monotonic() + seconds)


@pytest.fixture
async def bench(
    sandbox: str, request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Bench]:
    made = Bench(sandbox, request.param, tmp_path)
    yield made
    await made.heal()
    made.control.close()
    await made.provider.close()


every_kind = pytest.mark.parametrize(
    ("bench", "kind"), SOLD, indirect=["bench"], ids=[f"{v}-{k}" for v, k in SOLD]
)


def sound(found: Any, vendor: str) -> None:
    """Fail where something in an answer is not as the tree speaks."""
    if isinstance(found, bool | Enum | str | int | None):
        return
    if isinstance(found, float):
        assert math.isfinite(found), found
    elif isinstance(found, datetime):
        assert found.utcoffset() is not None, found
    elif isinstance(found, tuple):
        for part in found:
            sound(part, vendor)
    elif dataclasses.is_dataclass(found):
        for field in dataclasses.fields(found):
            value = getattr(found, field.name)
            if field.name == "source":
                assert value == vendor
            if type(value).__module__ == "numpy":
                continue  # a chain's columns: NaN is their "no value"
            sound(value, vendor)


@every_kind
async def test_v01_what_is_sold_is_answered(bench: Bench, kind: Kind) -> None:
    answer = await bench.ask(kind)
    assert answer, f"{bench.vendor} has no {kind}"
    sound(answer, bench.vendor)
    if kind is Kind.QUOTES:
        assert [quote.symbol for quote in answer.quotes] == ["AAPL"]
    if kind is Kind.BARS:
        assert len(answer.bars) >= 9
        assert all(BARS[0] <= bar.at < BARS[1] for bar in answer.bars)


@every_kind
async def test_v02_v04_v05_every_fault(
    bench: Bench, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    healthy = await bench.ask(kind)
    told: list[str] = []
    for name, (rule, allowed) in FAULTS.items():
        bench.strike(rule)
        allowed = OTHERWISE.get((bench.vendor, kind, name), allowed)  # noqa: PLW2901
        try:
            answer = await bench.ask(kind)
        except ProviderError as e:
            assert isinstance(e, tuple(filter(None, allowed))), (name, e)  # noqa: PT017
            told += [str(e), repr(e), repr(pickle.dumps(e)), repr(e.__context__)]
        else:
            assert None in allowed, (name, answer)
            sound(answer, bench.vendor)
        await bench.heal()
        again = await bench.ask(kind)
        assert type(again) is type(healthy), name
    told += [caplog.text, repr(bench.settings), repr(bench.provider)]
    assert not [text for text in told if SECRET in text]


@every_kind
async def test_v02_a_hang_costs_the_deadline(bench: Bench, kind: Kind) -> None:
    await bench.ask(kind)
    bench.strike({"kind": "hang"})
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await bench.ask(kind, seconds=0.2)
    assert time.monotonic() - began < 2


@every_kind
async def test_v03_strewn_bodies_are_answered_soundly(bench: Bench, kind: Kind) -> None:
    await bench.ask(kind)
    answers = 0
    for rule in ({"kind": "nan"}, {"kind": "types"}):
        bench.strike(rule)
        for _ in range(4):
            try:
                sound(await bench.ask(kind), bench.vendor)
                answers += 1
            except ProviderError:
                await bench.heal()
                bench.strike(rule)
        await bench.heal()
    await bench.ask(kind)
    assert answers


@every_kind
async def test_v06_an_unknown_symbol_is_no_fault(bench: Bench, kind: Kind) -> None:
    if kind not in BY_SYMBOL:
        pytest.skip(f"{kind} are not asked by symbol")
    try:
        answer = await bench.ask(kind, "ZZNOPE")
    except Unsupported:
        return
    if kind is Kind.QUOTES:
        assert (answer.quotes, answer.unknown) == ((), ("ZZNOPE",))
    elif kind is Kind.BARS:
        assert not answer.bars
    else:
        assert not answer


async def test_refused_connections_are_unavailable(tmp_path: Path) -> None:
    for vendor in PROVIDERS:
        bench = Bench("http://127.0.0.1:9", vendor, tmp_path)
        for kind in sorted(bench.provider.sells):
            with pytest.raises(Unavailable) as caught:
                await bench.ask(kind)
            assert SECRET not in repr(caught.value)
        await asyncio.gather(bench.provider.close())
        bench.control.close()
