"""The provider pool over a vendor's double: what it sends, what it shares, when it stops, what it says.

=======  =====================================================================================
card     promise
=======  =====================================================================================
TC-P01   513 symbols are two data requests, sent side by side
TC-P02   100 callers with an ended access token cause one token request; the same ask is one request
TC-P03   an ended login: state `login_needed`, a remedy, no data request; a new one is found by itself
TC-P04   a failed batch fails its own symbols; only where nothing could be had an error is raised
TC-P05   the limit holds whatever is asked at once; after a 429 nothing is sent for its pause
TC-P06   every message ends by its deadline, also with a hanging vendor
TC-P07   what retrying can help is retried, with pauses, at most four times; the rest stops at once
TC-P08   states are told: ready, limited, down, login_needed, unconfigured; logged once down, once up
TC-P09   no key is in any error, log or status
TC-P10   starts and works without the database, and with a real vault keeps the login in it later
=======  =====================================================================================
"""

import asyncio
import logging
import pickle
import random
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.domain.models import Timeframe, VendorState, VendorStatus
from actors.provider_pool import ProviderPool
from actors.providers.base import (
    Denied,
    LoginNeeded,
    Malformed,
    ProviderError,
    RateLimited,
    StoreAway,
    Unavailable,
    Unsupported,
)
from actors.settings import Settings
from actors.vendor_books import DatabaseBooks
from tests.contract.doubles import SECRETS, Clock, MemoryBooks, SchwabDouble, settings_of

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
UNIVERSE = [f"{a}{b}" for a in LETTERS for b in LETTERS][:513]
START = datetime(2025, 3, 3, tzinfo=UTC)


class Scene:
    """A pool on a double, with clocks that only its own sleeps move."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.double, self.clock, self.tokens = SchwabDouble(), Clock(), MemoryBooks()
        self.pools: list[ProviderPool] = []

    async def pool(
        self, *, real_time: bool = False, deadline: float = 30.0, **given: Any
    ) -> ProviderPool:
        clocks: dict[str, Any] = {}
        if not real_time:
            clocks = {"now": self.clock.now, "clock": self.clock.clock, "sleep": self.clock.sleep}
        pool = ProviderPool(
            settings_of(
                self.double, self.home, **{"volaris_limit": {"schwab": "10000/min"}, **given}
            ),
            None,
            books=self.tokens,
            transport=self.double.transport,
            deadline=deadline,
            **clocks,
        )
        self.pools.append(pool)
        await pool.start()
        return pool


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    made = Scene(tmp_path)
    yield made
    await asyncio.gather(*(pool.stop() for pool in made.pools))


async def schwab(pool: ProviderPool) -> VendorStatus:
    return next(vendor for vendor in await pool.status() if vendor.name == "schwab")


def says(status: int, **parts: Any) -> Callable[[httpx.Request], httpx.Response]:
    return lambda request: httpx.Response(status, **parts)


DEAD = says(400, json={"error": "unsupported_token_type", "error_description": "refresh token …"})


# --- TC-P01, P02: what is sent -----------------------------------------------------------------------


async def test_p01_the_universe_is_two_requests_side_by_side(scene: Scene) -> None:
    pool = await scene.pool(real_time=True)
    await pool.quotes(["SPY"])
    scene.double.data.clear()
    scene.double.delay = 0.2
    began = time.monotonic()
    batch = await pool.quotes(UNIVERSE)
    assert time.monotonic() - began < 0.39
    assert [len(symbols) for symbols in scene.double.symbols()] == [500, 13]
    assert [quote.symbol for quote in batch.quotes] == UNIVERSE
    assert (await schwab(pool)).requests == 3


async def test_p01_a_symbol_asked_twice_is_asked_once(scene: Scene) -> None:
    pool = await scene.pool()
    batch = await pool.quotes(["SPY", "AAPL", "SPY"])
    assert scene.double.symbols() == [["SPY", "AAPL"]]
    assert len(batch.quotes) == 2


async def test_p01_nothing_asked_is_nothing_sent(scene: Scene) -> None:
    pool = await scene.pool()
    assert (await pool.quotes([])).quotes == ()
    assert await pool.bars("SPY", Timeframe.DAY, START, START) == ()
    assert scene.double.data == scene.double.tokens == []


async def test_p02_a_hundred_callers_cause_one_token_request(scene: Scene) -> None:
    pool = await scene.pool()
    await pool.quotes(["SPY"])
    scene.clock.move(1801)
    scene.double.live.clear()
    scene.double.tokens.clear()
    scene.double.delay = 0.01
    answers = await asyncio.gather(*(pool.quotes([symbol]) for symbol in UNIVERSE[:100]))
    assert all(answer.quotes for answer in answers)
    assert len(scene.double.tokens) == 1


async def test_p02_the_same_ask_is_one_request(scene: Scene) -> None:
    pool = await scene.pool()
    scene.double.delay = 0.01
    end = START + timedelta(days=3)
    await asyncio.gather(
        *(pool.quotes(["SPY"]) for _ in range(50)),
        *(pool.bars("SPY", Timeframe.DAY, START, end) for _ in range(50)),
    )
    assert len(scene.double.data) == 2
    await pool.quotes(["SPY"])  # and what has landed is not kept
    assert len(scene.double.data) == 3


async def test_p02_one_who_gives_up_does_not_take_the_answer_from_the_others(scene: Scene) -> None:
    pool = await scene.pool()
    scene.double.delay = 0.02
    quitter = asyncio.create_task(pool.quotes(["SPY"]))
    patient = asyncio.create_task(pool.quotes(["SPY"]))
    await asyncio.sleep(0.005)
    quitter.cancel()
    assert (await patient).quotes
    assert len(scene.double.data) == 1


async def test_bars_come_through(scene: Scene) -> None:
    pool = await scene.pool()
    bars = await pool.bars("BRK.B", Timeframe.DAY, START, START + timedelta(days=5))
    assert [bar.at.day for bar in bars] == [3, 4, 5, 6, 7]
    assert {bar.symbol for bar in bars} == {"BRK.B"}


async def test_bars_of_a_naive_moment_are_refused(scene: Scene) -> None:
    pool = await scene.pool()
    with pytest.raises(ValueError, match="time zone"):
        await pool.bars("SPY", Timeframe.DAY, datetime(2025, 1, 1), START)


# --- TC-P03: logins ----------------------------------------------------------------------------------


async def test_p03_an_ended_login(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    scene.double.token_answer = DEAD
    pool = await scene.pool()
    for _ in range(5):
        with pytest.raises(LoginNeeded):
            await pool.quotes(UNIVERSE)
    assert len(scene.double.tokens) == 1
    assert scene.double.data == []
    status = await schwab(pool)
    assert status.state is VendorState.LOGIN_NEEDED
    assert status.remedy == "run `volaris login schwab`"
    assert caplog.text.count("cannot be used") == 1

    other = await scene.pool()  # a person logs in, in another process
    scene.double.token_answer = None
    desk = other._desks["schwab"]
    await desk.provider.oauth.exchange_code("C0.x%40", scene.clock.ticks + 5)  # type: ignore[attr-defined]
    scene.clock.move(11)
    assert len((await pool.quotes(UNIVERSE)).quotes) == 513
    assert (await schwab(pool)).state is VendorState.READY
    assert caplog.text.count("answers again") == 1


async def test_p03_is_tried_again_after_ten_minutes_only(scene: Scene) -> None:
    scene.double.token_answer = DEAD
    pool = await scene.pool()
    for _ in range(30):  # an hour of cycles
        with pytest.raises(LoginNeeded):
            await pool.quotes(["SPY"])
        scene.clock.move(120)
    assert 5 <= len(scene.double.tokens) <= 7
    assert scene.double.data == []


async def test_p03_the_end_of_a_login_is_announced(scene: Scene) -> None:
    pool = await scene.pool()
    await pool.quotes(["SPY"])
    status = await schwab(pool)
    assert status.login_expires_at == scene.clock.at + timedelta(days=7)
    assert status.remedy is None
    scene.clock.move(6.5 * 86_400)
    status = await schwab(pool)
    assert status.state is VendorState.READY
    assert status.remedy == "log in again before 2026-12-01 15:00 UTC"


# --- TC-P04: parts -----------------------------------------------------------------------------------


def second_batch(
    answer: httpx.Response, double: SchwabDouble
) -> Callable[[httpx.Request], httpx.Response]:
    def answered(request: httpx.Request) -> httpx.Response:
        short = len(request.url.params["symbols"].split(",")) < 500
        return answer if short else double._quotes(request)

    return answered


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (httpx.Response(500), "schwab: answered 500"),
        (
            httpx.Response(400, json={"errors": [{"detail": "no"}]}),
            "schwab: refused the request: no",
        ),
        (httpx.Response(200, text="<html>"), "schwab: answered 200 with a web page, not JSON"),
    ],
)
async def test_p04_a_failed_batch_fails_alone(
    scene: Scene, answer: httpx.Response, why: str
) -> None:
    pool = await scene.pool()
    scene.double.data_answer = second_batch(answer, scene.double)
    batch = await pool.quotes(UNIVERSE)
    assert [quote.symbol for quote in batch.quotes] == UNIVERSE[:500]
    assert batch.failed == tuple((symbol, why) for symbol in UNIVERSE[500:])
    status = await schwab(pool)
    assert status.state is VendorState.READY
    assert status.last_error == why


async def test_p04_every_symbol_is_in_exactly_one_part(scene: Scene) -> None:
    pool = await scene.pool()
    asked = [*UNIVERSE, "NOPE", "X1", "BRK.B"]
    batch = await pool.quotes(asked)
    found = [quote.symbol for quote in batch.quotes]
    assert sorted([*found, *batch.unknown]) == sorted(asked)
    assert batch.unknown == ("NOPE", "X1")


async def test_p04_nothing_at_all_is_an_error(scene: Scene) -> None:
    pool = await scene.pool()
    scene.double.data_answer = says(503)
    with pytest.raises(Unavailable, match="503"):
        await pool.quotes(UNIVERSE)


# --- TC-P05: limits ----------------------------------------------------------------------------------


async def test_p05_the_limit_holds_whatever_is_asked_at_once(scene: Scene) -> None:
    pool = await scene.pool(volaris_limit={"schwab": "120/min"}, deadline=1e6)
    sent: list[float] = []
    plain = scene.double._quotes

    def timed(request: httpx.Request) -> httpx.Response:
        sent.append(scene.clock.ticks)
        return plain(request)

    scene.double.data_answer = timed
    await asyncio.gather(*(pool.quotes([symbol]) for symbol in UNIVERSE[:300]))
    assert len(sent) == 300
    busiest = max(sum(1 for t in sent if start <= t < start + 60 - 1e-6) for start in sent)
    assert 100 <= busiest <= 120
    assert [100 <= limit.spent <= 120 for limit in (await schwab(pool)).limits] == [True]


async def test_p05_a_spent_limit_is_told(scene: Scene) -> None:
    pool = await scene.pool(volaris_limit={"schwab": "60/min"}, real_time=True)
    asks = [asyncio.create_task(pool.quotes([symbol])) for symbol in UNIVERSE[:40]]
    await asyncio.sleep(0.05)
    assert (await schwab(pool)).state is VendorState.LIMITED
    for ask in asks:
        ask.cancel()


async def test_p05_who_cannot_be_served_in_time_hears_it_at_once(scene: Scene) -> None:
    pool = await scene.pool(volaris_limit={"schwab": "60/min"})
    answers = await asyncio.gather(
        *(pool.quotes([symbol]) for symbol in UNIVERSE[:100]), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, RateLimited)]
    assert 60 <= len(refused) < 70
    assert all(error.retry_after and error.retry_after > 0 for error in refused)
    assert (await schwab(pool)).state is VendorState.READY


async def test_p05_after_a_429_nothing_is_sent_for_its_pause(scene: Scene) -> None:
    pool = await scene.pool()
    await pool.quotes(["SPY"])
    scene.double.data_answer = says(429)
    with pytest.raises(RateLimited) as caught:
        await pool.quotes(["AAPL"])
    assert caught.value.retry_after == pytest.approx(60)
    scene.double.data_answer = None
    for _ in range(10):
        with pytest.raises(RateLimited):
            await pool.quotes(["MSFT"])
    assert len(scene.double.data) == 2
    assert (await schwab(pool)).state is VendorState.LIMITED
    scene.clock.move(60)
    assert (await pool.quotes(["MSFT"])).quotes
    assert (await schwab(pool)).state is VendorState.READY


async def test_p05_a_short_pause_is_waited_for(scene: Scene) -> None:
    pool = await scene.pool()
    answers = iter([httpx.Response(429, headers={"retry-after": "7"})])
    scene.double.data_answer = lambda request: next(answers, None) or scene.double._quotes(request)
    began = scene.clock.ticks
    assert (await pool.quotes(["SPY"])).quotes
    assert 7 <= scene.clock.ticks - began < 8


# --- TC-P06, P07: deadlines and retries --------------------------------------------------------------


@pytest.mark.parametrize("hanging", ["data", "token"])
async def test_p06_a_hanging_vendor_costs_the_deadline(scene: Scene, hanging: str) -> None:
    pool = await scene.pool(real_time=True, deadline=0.3)
    if hanging == "data":
        await pool.quotes(["SPY"])
    scene.double.delay = 30
    began = time.monotonic()
    answers = await asyncio.gather(
        *(pool.quotes([symbol]) for symbol in UNIVERSE[:20]), return_exceptions=True
    )
    assert time.monotonic() - began < 1
    assert {type(answer) for answer in answers} == {Unavailable}
    scene.double.delay = 0
    status = await schwab(pool)
    assert status.state is VendorState.DOWN


@pytest.mark.parametrize(
    ("answer", "error", "tries"),
    [
        (says(500), Unavailable, 4),
        (says(200, text="<html>"), Malformed, 2),
        (says(403, json={}), Denied, 2),  # with a fresh token the second time
        (says(404, json={}), Unsupported, 1),
        (says(400, json={}), Unsupported, 1),
    ],
)
async def test_p07_tries(scene: Scene, answer: Any, error: type[ProviderError], tries: int) -> None:
    pool = await scene.pool()
    scene.double.data_answer = answer
    with pytest.raises(error):
        await pool.quotes(["SPY"])
    assert len(scene.double.data) == tries


async def test_p07_a_passing_fault_is_not_seen(scene: Scene) -> None:
    pool = await scene.pool()
    faults = iter([httpx.Response(500), httpx.Response(200, text="<html>"), httpx.Response(503)])
    scene.double.data_answer = lambda request: next(faults, None) or scene.double._quotes(request)
    with pytest.raises(Malformed):  # the second, because it is garbage at the second try
        await pool.quotes(["SPY"])
    assert (await pool.quotes(["SPY"])).quotes  # the third
    faults = iter([httpx.Response(500), httpx.Response(502), httpx.Response(503)])
    assert (await pool.quotes(["SPY"])).quotes
    status = await schwab(pool)
    assert status.state is VendorState.READY
    assert status.errors == 6


async def test_p07_no_retry_beyond_the_deadline(scene: Scene) -> None:
    pool = await scene.pool(deadline=30)
    scene.double.data_answer = says(503, headers={"retry-after": "40"})
    with pytest.raises(Unavailable):
        await pool.quotes(["SPY"])
    assert len(scene.double.data) == 1


async def test_p07_pauses_grow_and_differ(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[float, float]] = []
    monkeypatch.setattr(random, "uniform", lambda low, high: drawn.append((low, high)) or high)  # type: ignore[func-returns-value]
    pool = await scene.pool()
    scene.double.data_answer = says(500)
    with pytest.raises(Unavailable):
        await pool.quotes(["SPY"])
    assert drawn == [(0, 0.5), (0, 1.0), (0, 2.0)]


# --- TC-P08: states ----------------------------------------------------------------------------------


async def test_p08_down_and_up_are_logged_once(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pool = await scene.pool()
    scene.double.data_answer = says(500)
    for _ in range(5):
        with pytest.raises(Unavailable):
            await pool.quotes(["SPY"])
    status = await schwab(pool)
    assert (status.state, status.last_error) == (VendorState.DOWN, "schwab: answered 500")
    assert status.last_error_at is not None
    scene.double.data_answer = None
    scene.clock.move(5)
    for _ in range(3):
        await pool.quotes(["SPY"])
    status = await schwab(pool)
    assert status.state is VendorState.READY
    assert status.last_answer_at == scene.clock.at
    assert [limit.allowed for limit in status.limits] == [10_000]
    ours = [
        record.getMessage() for record in caplog.records if record.name == "volaris.provider_pool"
    ]
    assert ours == [
        "schwab cannot be used for quotes: schwab: answered 500",
        "schwab answers again for quotes",
    ]


async def test_p08_denied_says_what_to_check(scene: Scene) -> None:
    pool = await scene.pool()
    scene.double.token_answer = says(401, json={"error": "invalid_client"})
    with pytest.raises(Denied):
        await pool.quotes(["SPY"])
    status = await schwab(pool)
    assert status.state is VendorState.DOWN
    assert status.remedy == "check SCHWAB_APP_KEY and SCHWAB_SECRET_KEY"


async def test_p08_what_the_vendor_does_not_sell_is_no_trouble(scene: Scene) -> None:
    pool = await scene.pool()
    await pool.quotes(["SPY"])
    scene.double.data_answer = says(404, json={})
    with pytest.raises(Unsupported):
        await pool.bars("NOPE", Timeframe.DAY, START, START + timedelta(days=3))
    assert (await schwab(pool)).state is VendorState.READY


async def test_p08_unconfigured(tmp_path: Path) -> None:
    pool = ProviderPool(Settings(volaris_home=tmp_path), None, books=MemoryBooks())
    await pool.start()
    status = await schwab(pool)
    assert status.state is VendorState.UNCONFIGURED
    assert status.remedy == "set SCHWAB_APP_KEY and SCHWAB_SECRET_KEY"
    with pytest.raises(
        Denied, match="no vendor is configured; set SCHWAB_APP_KEY and SCHWAB_SECRET_KEY"
    ):
        await pool.quotes(["SPY"])
    await pool.stop()


# --- TC-P09, P10 -------------------------------------------------------------------------------------


async def test_p09_no_key_is_ever_told(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    echo = " ".join(SECRETS)
    scene.double.token_answer = says(
        400, json={"error": "unsupported_token_type", "error_description": echo}
    )
    pool = await scene.pool()
    told: list[str] = []
    for answer in [
        None,
        says(500, text=echo),
        says(401, text=echo),
        says(200, text=echo),
        says(403, json=[echo]),
    ]:
        scene.double.data_answer = answer
        for ask in (
            pool.quotes(["SPY"]),
            pool.bars("SPY", Timeframe.DAY, START, START + timedelta(days=2)),
        ):
            try:
                await ask
            except ProviderError as e:
                told += [repr(e), str(e), repr(pickle.dumps(e))]
        told.append(repr(await pool.status()))
        scene.double.token_answer = None
        scene.clock.move(700)
    told += [caplog.text, *(repr(record.__dict__) for record in caplog.records)]
    told.append(repr(vars(pool)))
    assert caplog.records
    assert not [secret for secret in SECRETS for text in told if secret in text]


async def test_p10_starts_and_works_without_the_database(tmp_path: Path) -> None:
    double = SchwabDouble()
    # A port nobody listens on; the pool's own store, and a real vault.
    settings = settings_of(double, tmp_path, database_url="postgresql://u:p@127.0.0.1:1/x")
    pool = ProviderPool(settings, None, transport=double.transport)
    began = time.monotonic()
    await pool.start()
    assert (await pool.quotes(["SPY"])).quotes
    assert time.monotonic() - began < 4
    assert (await schwab(pool)).login_expires_at is not None
    await pool.stop()


async def test_p10_a_database_that_is_away_is_a_store_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.vendor_books.STORE_WITHIN", 0.1)
    away = Settings(volaris_home=tmp_path, database_url="postgresql://u:hunter2@127.0.0.1:1/x")
    for settings in (away, Settings(volaris_home=tmp_path)):
        tokens = DatabaseBooks(settings)
        for asked in (tokens.load("schwab"), tokens.save("schwab", b"x")):
            with pytest.raises(StoreAway) as caught:
                await asked
            assert "hunter2" not in str(caught.value)
        await tokens.close()


async def test_p10_the_login_is_kept_sealed_by_the_vault(scene: Scene) -> None:
    pool = await scene.pool()
    await pool.quotes(["SPY"])
    await pool.stop()
    assert (scene.home / "secret.key").stat().st_mode & 0o777 == 0o600
    assert not [secret for secret in SECRETS if secret.encode() in scene.tokens.rows["schwab"]]

    again = await scene.pool(schwab_refresh_token=None)
    await again.quotes(["SPY"])
    assert len(scene.double.tokens) == 1

    (scene.home / "secret.key").write_text("another key, long enough")
    lost = await scene.pool(schwab_refresh_token=None)
    with pytest.raises(LoginNeeded):
        await lost.quotes(["SPY"])


async def test_stop_gives_up_what_is_in_flight(scene: Scene) -> None:
    pool = await scene.pool(real_time=True)
    await pool.quotes(["SPY"])
    scene.double.delay = 30
    asking = asyncio.create_task(pool.quotes(["SPY"]))
    await asyncio.sleep(0.01)
    began = time.monotonic()
    await pool.stop()
    assert time.monotonic() - began < 1
    with pytest.raises(asyncio.CancelledError):
        await asking
