"""What a vendor's adapter must keep, on a double of it in `doubles`; `test_vendors` asks the sandbox.

=======  =====================================================================================
card     promise
=======  =====================================================================================
TC-Q01   a known symbol brings a quote: its own spelling, an aware time, the vendor as the source
TC-Q02   an unknown symbol is `unknown`; every symbol asked for is in exactly one part of a batch
TC-Q03   a class share goes out in the vendor's spelling and comes back in ours
TC-Q04   no value stays no value: -999, NaN and null never get out
TC-Q05   a full batch is one request
TC-B01   daily bars lie at midnight UTC of their date, in order, inside [start, end)
TC-B02   minute bars lie inside [start, end), however much more the vendor sends
TC-F01   every fault is a `ProviderError` of the right kind, and nothing else
TC-F02   no error holds a credential, a request or a traceback of the vendor's; all survive a pickle
TC-F03   a hanging vendor costs the deadline and no more
TC-F04   an endless answer is cut off, not stored
TC-F05   after any fault the next request works
TC-L01   a refused access token is renewed once; a second refusal is `Denied`
TC-L02   many who ask at once cause one renewal
TC-L03   an ended login is `LoginNeeded` with a remedy, and no data request is sent
TC-L04   a token host that is not itself (web page, garbage, 500) never costs the login
TC-L05   a login survives a restart, sealed; a newly pasted one wins over it
TC-L06   a new login in the store is found without a restart
TC-L07   a store that is away stops nothing, and gets the login when it is back
TC-C01   without keys a vendor is not configured
TC-R01   TC-Q, TC-B and TC-F over real HTTP against the sandbox
=======  =====================================================================================
"""

import asyncio
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.domain.models import Timeframe
from actors.providers import PROVIDERS, base
from actors.providers.base import (
    Denied,
    LoginNeeded,
    Malformed,
    ProviderError,
    RateLimited,
    Unavailable,
    Unsupported,
)
from actors.providers.http import LARGEST, Tools
from actors.providers.vendor import Provider
from actors.settings import Settings
from tests.contract.doubles import (
    APP_KEY,
    DOUBLES,
    PAIR,
    REFRESH,
    SECRET,
    SECRETS,
    Clock,
    MemoryBooks,
    Reversed,
    SchwabDouble,
    settings_of,
    tools_of,
)

ROOT = Path(__file__).parents[2]
SOON = 5.0  # seconds of the still clock


def class_of(vendor: str) -> type[Provider]:
    module, _, name = PROVIDERS[vendor].partition(":")
    found: type[Provider] = getattr(import_module(module), name)
    return found


@dataclass
class Bench:
    """An adapter on its double."""

    double: SchwabDouble
    clock: Clock
    tokens: MemoryBooks
    home: Path
    vendor: str

    def make(self, **given: Any) -> Provider:
        settings = settings_of(self.double, self.home, **given)
        made = class_of(self.vendor).of(settings, tools_of(self.double, self.clock, self.tokens))
        assert made is not None
        return made

    def soon(self) -> float:
        return self.clock.ticks + SOON


@pytest.fixture(params=DOUBLES)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return Bench(DOUBLES[request.param](), Clock(), MemoryBooks(), tmp_path, request.param)


@pytest.fixture
async def provider(bench: Bench) -> AsyncIterator[Provider]:
    made = bench.make()
    yield made
    await made.close()


def settle() -> Any:
    """Let what runs in the background come to its end."""
    return asyncio.sleep(0.02)


# --- TC-Q, TC-B: good answers ------------------------------------------------------------------------


async def test_q01_a_known_symbol_brings_a_quote(provider: Provider, bench: Bench) -> None:
    batch = await provider.quotes(["AAPL", "SPY"], bench.soon())
    assert [quote.symbol for quote in batch.quotes] == ["AAPL", "SPY"]
    for quote in batch.quotes:
        assert quote.source == bench.vendor
        assert quote.at.utcoffset() == timedelta(0)
        assert quote.last is not None
        assert quote.last > 0


async def test_q02_an_unknown_symbol_is_unknown(provider: Provider, bench: Bench) -> None:
    bench.double.quote = {"quoteTime": 0, "tradeTime": 0}
    batch = await provider.quotes(["AAPL", bench.double.unknown], bench.soon())
    assert batch.quotes == ()
    assert batch.unknown == (bench.double.unknown,)
    assert [symbol for symbol, _ in batch.failed] == ["AAPL"]


async def test_q03_class_shares_in_both_spellings(provider: Provider, bench: Bench) -> None:
    batch = await provider.quotes(["AAPL", bench.double.class_share], bench.soon())
    assert [quote.symbol for quote in batch.quotes] == ["AAPL", bench.double.class_share]
    assert bench.double.class_share_on_wire in bench.double.symbols()[0]


@pytest.mark.parametrize("nothing", [-999.0, "NaN", None, float("nan")])
async def test_q04_no_value_stays_no_value(provider: Provider, bench: Bench, nothing: Any) -> None:
    bench.double.quote = {"bidPrice": nothing, "totalVolume": nothing}
    bench.double.data_answer = lambda request: httpx.Response(
        200,
        content=json.dumps({"AAPL": bench.double._entry("AAPL")}),
        headers={"content-type": "x"},
    )
    [quote] = (await provider.quotes(["AAPL"], bench.soon())).quotes
    assert quote.bid is quote.volume is None
    assert quote.ask == 10.6


async def test_q05_a_full_batch_is_one_request(provider: Provider, bench: Bench) -> None:
    symbols = [f"{a}{b}{c}" for a in "ABCDE" for b in "ABCDEFGHIJ" for c in "ABCDEFGHIJ"]
    batch = await provider.quotes(symbols[: provider.batch], bench.soon())
    assert len(batch.quotes) == min(provider.batch, 500)
    assert len(bench.double.data) == 1


async def test_b01_daily_bars(provider: Provider, bench: Bench) -> None:
    start, end = datetime(2025, 3, 3, tzinfo=UTC), datetime(2025, 3, 20, tzinfo=UTC)
    bars = (await provider.bars(["AAPL"], Timeframe.DAY, start, end, bench.soon())).bars
    assert [bar.at for bar in bars] == [start + timedelta(days=n) for n in range(17)]
    assert {bar.symbol for bar in bars} == {"AAPL"}
    assert not any(bar.polled for bar in bars)


async def test_b02_minute_bars(provider: Provider, bench: Bench) -> None:
    start = datetime(2025, 3, 3, 14, 30, tzinfo=UTC)
    page = await provider.bars(
        ["AAPL"], Timeframe.MINUTE, start, start + timedelta(minutes=5), bench.soon()
    )
    assert [bar.at for bar in page.bars] == [start + timedelta(minutes=n) for n in range(5)]


async def test_b01_between_two_midnights_there_is_nothing_to_ask(
    provider: Provider, bench: Bench
) -> None:
    noon = datetime(2025, 3, 3, 12, tzinfo=UTC)
    until = noon + timedelta(hours=3)
    page = await provider.bars(["AAPL"], Timeframe.DAY, noon, until, bench.soon())
    assert page.bars == ()


# --- TC-F: faults ------------------------------------------------------------------------------------

PAGE = "<html><head><title>Access Denied</title></head><body>Reference #18.4</body></html>"
KEYS = (
    f"{APP_KEY} {SECRET} {PAIR} {REFRESH} access-token-1"  # a vendor that echoes what it was sent
)


def raises(error: Exception) -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        raise error

    return answer


def says(status: int, **parts: Any) -> Callable[[httpx.Request], httpx.Response]:
    return lambda request: httpx.Response(status, **parts)


def schwab_says(status: int, detail: str) -> Callable[[httpx.Request], httpx.Response]:
    return says(status, json={"errors": [{"id": "1", "status": str(status), "detail": detail}]})


FAULTS: dict[str, tuple[Callable[[httpx.Request], httpx.Response], type[ProviderError]]] = {
    "no route": (raises(httpx.ConnectError(KEYS)), Unavailable),
    "no name": (raises(OSError(KEYS)), Unavailable),
    "connect timeout": (raises(httpx.ConnectTimeout(KEYS)), Unavailable),
    "read timeout": (raises(httpx.ReadTimeout(KEYS)), Unavailable),
    "cut": (raises(httpx.RemoteProtocolError(KEYS)), Unavailable),
    "reset": (raises(httpx.ReadError(KEYS)), Unavailable),
    "bad gzip": (says(200, content=b"not gzip", headers={"content-encoding": "gzip"}), Malformed),
    "500": (says(500, text=KEYS), Unavailable),
    "502 body overflow": (
        says(
            502,
            json={
                "fault": {"faultstring": "x", "detail": {"errorcode": "protocol.http.TooBigBody"}}
            },
        ),
        Unavailable,
    ),
    "503 with a time": (says(503, headers={"retry-after": "7"}), Unavailable),
    "520": (says(520, text=PAGE), Unavailable),
    "429 without a time": (says(429), RateLimited),
    "429 with a time": (says(429, headers={"retry-after": "7"}), RateLimited),
    "401": (says(401, text=KEYS), Denied),
    "403": (says(403, json={"error": KEYS}), Denied),
    "403 of the gateway": (says(403, text=PAGE), Unavailable),
    "400": (schwab_says(400, f"Search combination should not exceed 500. {KEYS}"), Unsupported),
    "400 page": (says(400, text=PAGE), Unsupported),
    "404": (says(404, json={"errors": [{"title": "Not Found"}]}), Unsupported),
    "302": (says(302, headers={"location": "https://elsewhere.invalid/"}), Unavailable),
    "204": (says(204), Malformed),
    "a web page": (says(200, text=PAGE), Malformed),
    "plain text": (says(200, text=f"Service unavailable {KEYS}"), Malformed),
    "half a JSON": (says(200, text='{"AAPL":{"quote":{"lastPr'), Malformed),
    "not UTF-8": (says(200, content=b'{"AAPL":"\xff\xfe"}'), Malformed),
    "deep": (says(200, text="[" * 200_000), Malformed),
    "an array": (says(200, json=[]), Malformed),
    "null": (says(200, json=None), Malformed),
    "a number": (says(200, json=7), Malformed),
    "200 with errors": (says(200, json={"errors": [{"status": 500, "title": KEYS}]}), Malformed),
    "200 with an error": (says(200, json={"error": KEYS}), Malformed),
}


async def ask_quotes(provider: Provider, deadline: float) -> object:
    return await provider.quotes(["AAPL", "SPY"], deadline)


async def ask_bars(provider: Provider, deadline: float) -> object:
    start = datetime(2025, 3, 3, tzinfo=UTC)
    return await provider.bars(["AAPL"], Timeframe.DAY, start, start + timedelta(days=3), deadline)


@pytest.mark.parametrize("ask", [ask_quotes, ask_bars], ids=["quotes", "bars"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_f01_f02_f05_every_fault(
    provider: Provider, bench: Bench, fault: str, ask: Callable[[Provider, float], Any]
) -> None:
    answer, kind = FAULTS[fault]
    bench.double.data_answer = answer
    with pytest.raises(ProviderError) as caught:
        await ask(provider, bench.soon())
    found = caught.value
    assert type(found) is kind
    assert found.vendor == bench.vendor
    hides_everything(found)

    bench.double.data_answer = None
    bench.clock.move(3600)  # over the vendor's pause and the doubt about a token
    assert await ask(provider, bench.soon())


def hides_everything(error: ProviderError) -> None:
    told = f"{error} {error!r} {error.args} {vars(error)}"
    assert not [secret for secret in SECRETS if secret in told]
    assert error.__cause__ is None
    context = error.__context__
    assert context is None or (
        error.__suppress_context__ and not isinstance(context, httpx.HTTPError)
    )
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert (copy.args, vars(copy), str(copy)) == (error.args, vars(error), str(error))


@pytest.mark.parametrize(
    ("answer", "after"),
    [
        (says(429), 60),
        (says(429, headers={"retry-after": "7"}), 7),
        (says(429, headers={"retry-after": "soon"}), 60),
    ],
)
async def test_f01_a_spent_limit_says_when(
    provider: Provider, bench: Bench, answer: Any, after: float
) -> None:
    bench.double.data_answer = answer
    with pytest.raises(RateLimited) as caught:
        await provider.quotes(["AAPL"], bench.soon())
    assert caught.value.retry_after == after
    assert provider.limiter.delay == after
    with pytest.raises(RateLimited):  # and the vendor is not even asked
        await provider.quotes(["AAPL"], bench.soon())
    assert len(bench.double.data) == 1


@pytest.mark.parametrize(
    "error",
    [
        ProviderError("x", "why"),
        Unavailable("x", "why"),
        Unavailable("x", "why", 7.5),
        RateLimited("x", "why", 60.0),
        Denied("x", "why"),
        LoginNeeded("x", "why", "log in"),
        Malformed("x", "why"),
        Unsupported("x", "why"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_f02_errors_survive_a_pickle(error: ProviderError) -> None:
    hides_everything(error)


def test_f02_there_is_no_other_error() -> None:
    tree = {
        thing
        for thing in vars(base).values()
        if isinstance(thing, type) and issubclass(thing, ProviderError)
    }
    assert tree == {
        ProviderError,
        Unavailable,
        RateLimited,
        base.Spent,
        Denied,
        LoginNeeded,
        Malformed,
        Unsupported,
    }


async def test_f03_a_hanging_vendor_costs_the_deadline(bench: Bench) -> None:
    bench.double.delay = 0
    tools = tools_of(bench.double, bench.clock, bench.tokens)
    real = Tools(tools.tokens, tools.vault, tools.transport)  # the real clocks
    provider = class_of(bench.vendor).of(settings_of(bench.double, bench.home), real)
    assert provider is not None
    await provider.quotes(["AAPL"], time.monotonic() + 5)
    bench.double.delay = 60
    began = time.monotonic()
    with pytest.raises(Unavailable, match="did not answer within"):
        await provider.quotes(["AAPL"], time.monotonic() + 0.2)
    assert time.monotonic() - began < 1
    bench.double.delay = 0
    await provider.close()


async def test_f04_an_endless_answer_is_cut_off(provider: Provider, bench: Bench) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1_000_000
            yield b" " * 1_000_000

    bench.double.data_answer = lambda request: httpx.Response(200, content=endless())
    with pytest.raises(Malformed, match="larger than 10 MB"):
        await provider.quotes(["AAPL"], bench.soon())
    assert sent <= LARGEST + 2_000_000


# --- TC-L: logins ------------------------------------------------------------------------------------


async def test_l01_a_refused_access_token_is_renewed_once(provider: Provider, bench: Bench) -> None:
    await provider.quotes(["AAPL"], bench.soon())
    bench.double.live.clear()  # as when the vendor forgets every session
    assert (await provider.quotes(["AAPL"], bench.soon())).quotes
    assert len(bench.double.tokens) == 2

    bench.double.data_answer = says(401, json={})
    with pytest.raises(Denied):
        await provider.quotes(["AAPL"], bench.soon())
    assert len(bench.double.tokens) == 2  # one was renewed a moment ago: it is not the token


async def test_l01_a_fresh_token_that_is_refused_too_is_denied(
    provider: Provider, bench: Bench
) -> None:
    bench.double.data_answer = says(401, json={})
    with pytest.raises(Denied):
        await provider.quotes(["AAPL"], bench.soon())
    assert len(bench.double.tokens) == 2
    assert len(bench.double.data) == 2
    for _ in range(5):
        with pytest.raises(Denied):
            await provider.quotes(["AAPL"], bench.soon())
    assert len(bench.double.tokens) == 2


async def test_l02_many_at_once_cause_one_renewal(provider: Provider, bench: Bench) -> None:
    await provider.quotes(["AAPL"], bench.soon())
    bench.double.live.clear()
    bench.double.delay = 0.01
    bench.clock.move(3000)  # the access token has ended by our clock too
    asks = (provider.quotes(["AAPL"], bench.clock.ticks + 600) for _ in range(100))
    answers = await asyncio.gather(*asks)
    assert all(answer.quotes for answer in answers)
    assert len(bench.double.tokens) == 2


async def test_l02_many_refused_at_once_cause_one_renewal(provider: Provider, bench: Bench) -> None:
    await provider.quotes(["AAPL"], bench.soon())
    bench.double.live.clear()
    bench.double.delay = 0.01
    answers = await asyncio.gather(
        *(provider.quotes(["AAPL"], bench.clock.ticks + 600) for _ in range(100))
    )
    assert all(answer.quotes for answer in answers)
    assert len(bench.double.tokens) == 2


async def test_l02_one_who_gives_up_does_not_stop_the_renewal(
    provider: Provider, bench: Bench
) -> None:
    bench.double.delay = 0.02
    quitter = asyncio.create_task(provider.quotes(["AAPL"], bench.soon()))
    await asyncio.sleep(0.005)
    quitter.cancel()
    assert (await provider.quotes(["AAPL"], bench.soon())).quotes
    assert len(bench.double.tokens) == 1


async def test_l02_a_token_near_its_end_is_renewed_without_waiting(
    provider: Provider, bench: Bench
) -> None:
    await provider.quotes(["AAPL"], bench.soon())
    bench.clock.move(1800 - 100)
    assert (await provider.quotes(["AAPL"], bench.soon())).quotes
    await settle()
    assert len(bench.double.tokens) == 2
    await provider.quotes(["AAPL"], bench.soon())
    await settle()
    used = [request.headers["Authorization"] for request in bench.double.data]
    assert used == ["Bearer access-token-1", "Bearer access-token-1", "Bearer access-token-2"]
    assert len(bench.double.tokens) == 2


@pytest.mark.parametrize("left", [59, 30, 1])
async def test_l02_the_last_minute_of_a_token_is_used_while_the_host_is_down(
    provider: Provider, bench: Bench, left: float
) -> None:
    await provider.quotes(["AAPL"], bench.soon())
    bench.clock.move(1800 - left)
    bench.double.token_answer = says(503)
    assert (await provider.quotes(["AAPL"], bench.soon())).quotes


DEAD = says(
    400,
    json={
        "error": "unsupported_token_type",
        "error_description": '400 Bad Request: "{"error_description":"Exception while authenticating refresh '
        f'token [tokenDigest={REFRESH}, Exception=Failed refresh token authentication]",'
        '"error":"refresh_token_authentication_error"}"',
    },
)


@pytest.mark.parametrize(
    "dead",
    [
        DEAD,
        says(400, json={"error": "invalid_client", "error_description": "refresh token invalid"}),
    ],
)
async def test_l03_an_ended_login_needs_a_person(
    provider: Provider, bench: Bench, dead: Any
) -> None:
    bench.double.token_answer = dead
    for _ in range(5):
        with pytest.raises(LoginNeeded, match="run `volaris login schwab`") as caught:
            await provider.quotes(["AAPL"], bench.soon())
        hides_everything(caught.value)
    assert len(bench.double.tokens) == 1
    assert bench.double.data == []

    bench.clock.move(601)  # ten minutes later it is tried again
    bench.double.token_answer = None
    assert (await provider.quotes(["AAPL"], bench.soon())).quotes


async def test_l03_nobody_has_ever_logged_in(bench: Bench) -> None:
    provider = bench.make(schwab_refresh_token=None)
    with pytest.raises(LoginNeeded, match="nobody has logged in"):
        await provider.quotes(["AAPL"], bench.soon())
    assert bench.double.tokens == bench.double.data == []
    await provider.close()


async def test_l03_a_wrong_secret_is_denied(provider: Provider, bench: Bench) -> None:
    bench.double.token_answer = says(
        401, json={"error": "invalid_client", "error_description": "Unauthorized"}
    )
    for _ in range(3):
        with pytest.raises(Denied, match="app key or its secret"):
            await provider.quotes(["AAPL"], bench.soon())
    assert len(bench.double.tokens) == 1


# In JSON these three are refusals of the login or of the app: TC-L03.
HOST_FAULTS = {
    name: fault for name, fault in FAULTS.items() if name not in ("400", "401", "403")
} | {
    "403 page": (says(403, text=PAGE), Unavailable),
    "400 page": (says(400, text=PAGE), Unavailable),
    "401 page": (says(401, text=PAGE), Unavailable),
    "no token": (says(200, json={"token_type": "Bearer"}), Unavailable),
    "a token that is none": (says(200, json={"access_token": "a\r\nX: y"}), Unavailable),
}


@pytest.mark.parametrize("fault", HOST_FAULTS)
async def test_l04_the_token_host_never_costs_the_login(
    provider: Provider, bench: Bench, fault: str
) -> None:
    bench.double.token_answer = HOST_FAULTS[fault][0]
    with pytest.raises(Unavailable) as caught:
        await provider.quotes(["AAPL"], bench.soon())
    hides_everything(caught.value)
    assert bench.double.data == []

    bench.double.token_answer = None
    bench.clock.move(61)
    assert (await provider.quotes(["AAPL"], bench.soon())).quotes
    assert {form["refresh_token"] for form in bench.double.tokens} == {REFRESH}


async def test_l04_a_failing_token_host_is_left_alone_for_a_while(
    provider: Provider, bench: Bench
) -> None:
    bench.double.token_answer = says(503)
    for _ in range(20):
        with pytest.raises(Unavailable) as caught:
            await provider.quotes(["AAPL"], bench.soon())
    assert len(bench.double.tokens) == 1
    assert caught.value.retry_after == 5


async def test_l05_a_login_survives_a_restart_sealed(bench: Bench) -> None:
    first = bench.make()
    await first.quotes(["AAPL"], bench.soon())
    expires = first.login_expires_at
    await first.close()
    [sealed] = bench.tokens.rows.values()
    assert not [secret for secret in SECRETS if secret.encode() in sealed]

    bench.clock.move(86_400)
    bench.double.live.clear()
    second = bench.make()
    await second.open()
    assert expires == second.login_expires_at == datetime(2026, 12, 1, 15, tzinfo=UTC)
    await second.quotes(["AAPL"], bench.soon())
    await second.close()
    assert second.login_expires_at == expires  # refreshing does not extend it


async def test_l05_a_login_that_outlives_its_end_began_later(
    provider: Provider, bench: Bench
) -> None:
    await provider.quotes(["AAPL"], bench.soon())
    bench.clock.move(8 * 86_400)  # a pasted token is counted from when it was first seen
    await provider.quotes(["AAPL"], bench.soon())
    assert provider.login_expires_at == bench.clock.at + timedelta(days=7)


async def test_l05_a_restart_within_the_life_of_a_token_needs_no_other(bench: Bench) -> None:
    for _ in range(3):
        provider = bench.make()
        await provider.quotes(["AAPL"], bench.soon())
        await provider.close()
    assert len(bench.double.tokens) == 1


async def test_l05_a_stop_stores_what_is_not_stored_yet(bench: Bench) -> None:
    bench.clock.asleep = True  # so that nothing is stored in the background
    provider = bench.make()
    await provider.quotes(["AAPL"], bench.soon())
    assert bench.tokens.saves == 0
    await provider.close()
    assert bench.tokens.saves == 1


async def test_l05_a_token_renewed_while_the_last_one_is_stored_is_stored_too(bench: Bench) -> None:
    bench.tokens.gate.clear()
    provider = bench.make()
    await provider.quotes(["AAPL"], bench.soon())
    bench.clock.move(1790)
    await provider.quotes(["AAPL"], bench.soon())
    bench.tokens.gate.set()
    await settle()
    assert b"access-token-2" in Reversed().open(bench.tokens.rows[bench.vendor])
    await provider.close()


async def test_l05_a_newly_pasted_token_wins_over_the_stored_login(bench: Bench) -> None:
    first = bench.make()
    await first.quotes(["AAPL"], bench.soon())
    await first.close()
    second = bench.make(schwab_refresh_token="refresh-token-pasted")
    await second.quotes(["AAPL"], bench.soon())
    await second.close()
    assert [form["refresh_token"] for form in bench.double.tokens] == [
        REFRESH,
        "refresh-token-pasted",
    ]
    third = bench.make(schwab_refresh_token=None)  # taken out of the environment again
    await third.quotes(["AAPL"], bench.soon())
    await third.close()
    assert len(bench.double.tokens) == 2


async def test_l05_another_app_or_host_does_not_get_the_stored_login(bench: Bench) -> None:
    first = bench.make()
    await first.quotes(["AAPL"], bench.soon())
    await first.close()
    second = bench.make(schwab_base_url="https://another.invalid", schwab_refresh_token=None)
    with pytest.raises(LoginNeeded):
        await second.quotes(["AAPL"], bench.soon())
    await second.close()


async def test_l05_a_rotated_refresh_token_is_kept(bench: Bench) -> None:
    bench.double.token_answer = lambda request: httpx.Response(
        200,
        json={
            "access_token": "access-token-r",
            "refresh_token": "refresh-token-r2",
            "expires_in": 1800,
        },
    )
    bench.double.live.add("access-token-r")
    provider = bench.make()
    await provider.quotes(["AAPL"], bench.soon())
    bench.clock.move(1790)
    await provider.quotes(["AAPL"], bench.soon())
    assert [form["refresh_token"] for form in bench.double.tokens] == [REFRESH, "refresh-token-r2"]
    await provider.close()


@pytest.mark.parametrize(
    "rubbish", [b"", b"rubbish", b"sealed:{}", b"sealed:" + b'{"refresh_token":1}'[::-1]]
)
async def test_l05_an_unreadable_stored_login_is_none(bench: Bench, rubbish: bytes) -> None:
    bench.tokens.rows[bench.vendor] = rubbish
    provider = bench.make()
    assert (await provider.quotes(["AAPL"], bench.soon())).quotes
    await provider.close()


async def test_l06_a_new_login_in_the_store_is_found(bench: Bench) -> None:
    bench.double.token_answer = DEAD
    provider = bench.make()
    with pytest.raises(LoginNeeded):
        await provider.quotes(["AAPL"], bench.soon())

    bench.double.token_answer = None
    elsewhere = bench.make()  # `volaris login schwab`, in another process
    bench.clock.move(20)
    ends = await elsewhere.oauth.exchange_code("C0.code%40", bench.soon())  # type: ignore[attr-defined]
    assert ends == bench.clock.at + timedelta(days=7)
    assert bench.double.tokens[-1] == {
        "grant_type": "authorization_code",
        "code": "C0.code@",
        "redirect_uri": "https://127.0.0.1:8182/",
    }
    await elsewhere.close()

    assert (await provider.quotes(["AAPL"], bench.soon())).quotes
    assert provider.login_expires_at == ends
    assert len(bench.double.tokens) == 2  # the new login brought its access token with it
    await provider.close()


async def test_l06_a_refused_code_says_so(bench: Bench) -> None:
    provider = bench.make()
    bench.double.token_answer = says(400, json={"error": "invalid_grant"})
    with pytest.raises(LoginNeeded, match="code was refused"):
        await provider.oauth.exchange_code("C0.code%40", bench.soon())  # type: ignore[attr-defined]
    await provider.close()


async def test_l06_a_login_that_cannot_be_stored_is_not_one(bench: Bench) -> None:
    provider = bench.make()
    bench.tokens.away = True
    with pytest.raises(Unavailable, match="not stored"):
        await provider.oauth.exchange_code("C0.code%40", bench.soon())  # type: ignore[attr-defined]
    await provider.close()


async def test_l07_a_store_that_is_away_stops_nothing(bench: Bench) -> None:
    bench.tokens.away = True
    provider = bench.make()
    await provider.open()
    assert (await provider.quotes(["AAPL"], bench.soon())).quotes
    assert bench.tokens.saves == 0
    bench.tokens.away = False
    await settle()
    assert bench.tokens.saves == 1
    await provider.close()


async def test_l07_trying_to_store_has_an_end(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.tokens.away = True
    provider = bench.make()
    await provider.quotes(["AAPL"], bench.soon())
    await settle()
    assert "the login is not stored" in caplog.text
    tries = len(bench.clock.slept)
    await settle()
    assert len(bench.clock.slept) == tries
    await provider.close()


async def test_l07_without_any_token_the_store_is_waited_for(bench: Bench) -> None:
    first = bench.make()
    await first.quotes(["AAPL"], bench.soon())
    await first.close()

    bench.tokens.away = True
    provider = bench.make(schwab_refresh_token=None)
    with pytest.raises(Unavailable, match="database is away"):
        await provider.quotes(["AAPL"], bench.soon())
    bench.tokens.away = False
    bench.clock.move(6)
    assert (await provider.quotes(["AAPL"], bench.soon())).quotes
    await provider.close()


async def test_l07_what_the_store_knows_is_not_overwritten_by_a_guess(bench: Bench) -> None:
    first = bench.make()
    await first.quotes(["AAPL"], bench.soon())
    began = first.login_expires_at
    await first.close()

    bench.clock.move(2 * 86_400)
    bench.tokens.away = True
    second = bench.make()
    await second.quotes(["AAPL"], bench.soon())
    assert second.login_expires_at != began  # a guess: seven days from now
    bench.tokens.away = False
    await settle()
    assert second.login_expires_at == began
    await second.close()


# --- TC-C --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vendor", DOUBLES)
def test_c01_without_keys_a_vendor_is_not_configured(vendor: str, tmp_path: Path) -> None:
    tools = tools_of(DOUBLES[vendor](), Clock())
    cls = class_of(vendor)
    assert cls.of(Settings(volaris_home=tmp_path), tools) is None
    assert all(name.lower() in Settings.model_fields for name in cls.needs)


# --- TC-R: real HTTP ---------------------------------------------------------------------------------


class Sandbox:
    """The sandbox as a process of its own, driven from outside as a person would."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sandbox", "--port", "0"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("sandbox listening on "), line
        self.url = line.split()[-1]
        self._control = httpx.Client(base_url=self.url, trust_env=False, timeout=10)

    def fault(self, **rule: Any) -> None:
        self._control.post("/control/faults", json=rule).raise_for_status()

    def heal(self) -> None:
        self._control.delete("/control/faults").raise_for_status()
        self._control.post("/control/requests/reset").raise_for_status()

    def asked(self, vendor: str) -> dict[str, int]:
        counts = self._control.get("/control/requests").json()["vendors"].get(vendor, {})
        paths: dict[str, int] = counts.get("paths", {})
        return paths

    def stop(self) -> None:
        self._control.close()
        self._process.terminate()
        self._process.wait(10)
        if self._process.stdout:
            self._process.stdout.close()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    running = Sandbox()
    yield running
    running.stop()


@pytest.fixture(params=DOUBLES)
async def real(
    request: pytest.FixtureRequest, sandbox: Sandbox, tmp_path: Path
) -> AsyncIterator[Provider]:
    """An adapter on the sandbox, with the real clocks and sockets."""
    sandbox.heal()
    vendor: str = request.param
    given = {f"{vendor}_base_url": f"{sandbox.url}/{vendor}"}
    if vendor == "schwab":
        given["schwab_refresh_token"] = "sandbox-refresh-token"
    settings = settings_of(DOUBLES[vendor](), tmp_path, **given)
    double = tools_of(DOUBLES[vendor](), Clock())
    provider = class_of(vendor).of(settings, Tools(double.tokens, double.vault))
    assert provider is not None
    yield provider
    sandbox.heal()
    await provider.close()


def in_time(seconds: float = 10) -> float:
    return time.monotonic() + seconds


async def test_r01_quotes(real: Provider) -> None:
    batch = await real.quotes(["AAPL", "SPY", "BRK.B", "NOPE9"], in_time())
    assert [quote.symbol for quote in batch.quotes] == ["AAPL", "SPY", "BRK.B"]
    assert batch.unknown == ("NOPE9",)
    for quote in batch.quotes:
        assert quote.last
        assert quote.bid is not None
        assert quote.name
        assert abs(quote.at - datetime.now(UTC)) < timedelta(days=5)


async def test_r01_bars(real: Provider) -> None:
    end = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days = (await real.bars(["AAPL"], Timeframe.DAY, end - timedelta(days=30), end, in_time())).bars
    assert len(days) >= 18
    assert all(bar.at.hour == 0 and end - timedelta(days=30) <= bar.at < end for bar in days)
    assert all(
        bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high for bar in days
    )
    minutes = (
        await real.bars(["AAPL"], Timeframe.MINUTE, end - timedelta(days=7), end, in_time())
    ).bars
    assert len(minutes) > 1000
    assert [bar.at for bar in minutes] == sorted({bar.at for bar in minutes})


async def test_r01_no_value_stays_no_value(real: Provider, sandbox: Sandbox) -> None:
    sandbox.fault(vendor=real.name, kind="nan")
    symbols = ["AAPL", "SPY", "QQQ", "MSFT", "NVDA", "JPM", "KO", "BRK.B", "IWM", "XOM"]
    batch = await real.quotes(symbols, in_time())
    assert len(batch.quotes) + len(batch.failed) == len(symbols)
    assert len(batch.quotes) > 5
    for quote in batch.quotes:
        numbers = [
            value
            for value in (quote.last, quote.bid, quote.open, quote.volume)
            if value is not None
        ]
        assert all(number >= 0 for number in numbers)


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        ({"kind": "status", "status": 500}, Unavailable),
        ({"kind": "status", "status": 502}, Unavailable),
        ({"kind": "status", "status": 503}, Unavailable),
        ({"kind": "status", "status": 404}, Unsupported),
        ({"kind": "status", "status": 403}, Denied),
        ({"kind": "garbage"}, Malformed),
        ({"kind": "html"}, Malformed),
        ({"kind": "html", "status": 403}, Unavailable),
        ({"kind": "cut"}, Unavailable),
        ({"kind": "hang"}, Unavailable),
        ({"kind": "throttle"}, RateLimited),
    ],
    ids=str,
)
async def test_r01_every_fault(
    real: Provider, sandbox: Sandbox, rule: dict[str, Any], kind: type[ProviderError]
) -> None:
    await real.quotes(["AAPL"], in_time())
    sandbox.fault(vendor=real.name, path="/quotes", **rule)
    with pytest.raises(ProviderError) as caught:
        await real.quotes(["AAPL"], in_time(1))
    assert type(caught.value) is kind
    hides_everything(caught.value)
    sandbox.heal()
    if kind is not RateLimited:  # that one is to be waited for, a minute long
        assert (await real.quotes(["AAPL"], in_time())).quotes


async def test_r01_latency_is_borne(real: Provider, sandbox: Sandbox) -> None:
    sandbox.fault(vendor=real.name, kind="latency", seconds=0.3)
    assert (await real.quotes(["AAPL"], in_time())).quotes


async def test_r01_one_renewal_for_many(real: Provider, sandbox: Sandbox) -> None:
    sandbox.fault(vendor=real.name, kind="latency", seconds=0.2)
    await asyncio.gather(*(real.quotes(["AAPL"], in_time()) for _ in range(8)))
    assert sandbox.asked(real.name) == {"/v1/oauth/token": 1, "/marketdata/v1/quotes": 8}


async def test_r01_an_ended_login(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.heal()
    given = {"schwab_base_url": f"{sandbox.url}/schwab", "schwab_refresh_token": "expired-token"}
    tools = tools_of(SchwabDouble(), Clock())
    provider = class_of("schwab").of(
        settings_of(SchwabDouble(), tmp_path, **given), Tools(tools.tokens, tools.vault)
    )
    assert provider is not None
    for _ in range(3):
        with pytest.raises(LoginNeeded):
            await provider.quotes(["AAPL"], in_time())
    assert sandbox.asked("schwab") == {"/v1/oauth/token": 1}
    await provider.close()
