"""The pool over several vendors that say what a test tells them: who is asked, in which order, how often.

=======  =====================================================================================
card     promise
=======  =====================================================================================
TC-O01   what the first vendor does not tell is asked of the next, and of it alone; sources tell
TC-O02   a dead first vendor costs one try, not the ladder of retries; a hanging one its patience
TC-O03   a symbol is unknown where two vendors say so, or the only one
TC-O04   the order is the kind's, and `VOLARIS_PREFER__<KIND>` changes it; only sellers are asked
TC-O05   a breaker opens, is probed by one request, closes; another kind goes on meanwhile
TC-O06   a refused key ends every question to that vendor for ten minutes; the next one answers
TC-O07   what a plan lacks is not asked again for hours, what a symbol lacks is
TC-O08   kept answers have their age and their bound; one question flies once
TC-O09   pages of bars: a page belongs to who gave it, an offset to anybody; a named vendor alone
TC-O10   a vendor of one symbol a request is asked for few; a plan's symbols are not exceeded
TC-O11   spend, breakers, latency and error rates are told for each vendor
=======  =====================================================================================
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest

from actors import provider_pool
from actors.domain.models import (
    Bar,
    BarPage,
    Profile,
    Quote,
    QuoteBatch,
    Story,
    Timeframe,
    VendorState,
)
from actors.provider_pool import ProviderPool
from actors.providers import choice
from actors.providers.base import (
    Denied,
    LoginNeeded,
    Malformed,
    ProviderError,
    RateLimited,
    Unavailable,
    Unsupported,
)
from actors.providers.breaker import LONGEST_PAUSE
from actors.providers.shelf import AGES, MOST
from actors.providers.vendor import Kind
from actors.settings import Refused, Settings
from tests.contract.doubles import Clock, MemoryBooks

SYMBOLS = [f"S{n}" for n in range(30)]
START = datetime(2025, 3, 3, tzinfo=UTC)
END = START + timedelta(days=5)
ALL = frozenset({Kind.QUOTES, Kind.BARS, Kind.PROFILE, Kind.NEWS, Kind.EARNINGS})
NAMES = ("schwab", "alpaca", "finnhub")  # as they are asked for quotes


class Scripted:
    """A vendor that knows every symbol, unless a test says otherwise."""

    needs = ("KEY",)
    sells: ClassVar[frozenset[Kind]] = ALL
    limits = "100000/min"
    batch = 500
    bars_batch = 2
    name = ""
    login_expires_at = None

    def __init__(self, tools: Any) -> None:
        self.limiter = tools.limiter(self.name, self.limits)
        self.tools = tools
        self.asked: list[tuple[Kind, tuple[str, ...]]] = []
        self.fault: ProviderError | None = None
        self.faults: dict[Kind, ProviderError] = {}
        self.unknown: set[str] = set()
        self.failing: set[str] = set()
        self.hangs = False
        self.seconds = 0.0
        self.pages: dict[str | None, str | None] = {}

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def _answer(self, kind: Kind, symbols: Sequence[str], deadline: float) -> None:
        await self.limiter.slot(deadline)
        self.limiter.settle(1_000)
        self.asked.append((kind, tuple(symbols)))
        if self.hangs:
            await self.tools.sleep(deadline - self.tools.clock())
            raise Unavailable(self.name, "did not answer")
        await self.tools.sleep(self.seconds)
        if fault := self.fault or self.faults.get(kind):
            raise fault

    async def quotes(self, symbols: Sequence[str], deadline: float) -> QuoteBatch:
        await self._answer(Kind.QUOTES, symbols, deadline)
        good = [s for s in symbols if s not in self.unknown | self.failing]
        return QuoteBatch(
            tuple(Quote(symbol, self.tools.now(), self.name, 1.0) for symbol in good),
            tuple(s for s in symbols if s in self.unknown),
            tuple((s, "no price") for s in symbols if s in self.failing),
        )

    async def bars(
        self,
        symbols: Sequence[str],
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        deadline: float,
        page: str | None = None,
    ) -> BarPage:
        await self._answer(Kind.BARS, symbols, deadline)
        bars = [Bar(s, start, 1.0, 1.0, 1.0, 1.0, 1, self.name) for s in symbols]
        return BarPage(
            tuple(bar for bar in bars if bar.symbol not in self.unknown),
            self.pages.get(page),
            tuple(s for s in symbols if s in self.unknown),
        )

    async def profile(self, symbol: str, deadline: float) -> Profile | None:
        await self._answer(Kind.PROFILE, [symbol], deadline)
        return None if symbol in self.unknown else Profile(symbol, self.tools.now(), self.name)

    async def earnings(
        self, first: date, last: date, deadline: float, symbol: str | None = None
    ) -> tuple[()]:
        await self._answer(Kind.EARNINGS, [symbol or "*"], deadline)
        return ()

    async def news(
        self, symbols: Sequence[str], since: datetime, limit: int, deadline: float
    ) -> tuple[Story, ...]:
        await self._answer(Kind.NEWS, symbols, deadline)
        return (Story("1", self.tools.now(), self.name, "A headline", "https://x.example/"),)


class Scene:
    """A pool over scripted vendors, with clocks that only its own sleeps move."""

    def __init__(self, home: Path, patch: pytest.MonkeyPatch) -> None:
        self.home, self.patch = home, patch
        self.clock, self.books = Clock(), MemoryBooks()
        self.vendors: dict[str, Scripted] = {}
        self.pools: list[ProviderPool] = []

    async def pool(
        self, names: Sequence[str] = NAMES, changes: dict[str, Any] | None = None, **given: Any
    ) -> ProviderPool:
        def class_of(name: str) -> Any:
            def of(settings: Settings, tools: Any) -> Scripted:
                made = type(name, (Scripted,), {"name": name} | (changes or {}).get(name, {}))
                self.vendors[name] = made(tools)
                return self.vendors[name]

            return type(name, (), {"of": staticmethod(of), "needs": ("KEY",)})

        known = dict.fromkeys(names, "x:y")
        self.patch.setattr(provider_pool, "PROVIDERS", known)
        self.patch.setattr(choice, "PROVIDERS", known)
        self.patch.setattr(provider_pool, "_class", class_of)
        pool = ProviderPool(
            Settings(volaris_home=self.home, **given),
            None,
            books=self.books,
            now=self.clock.now,
            clock=self.clock.clock,
            sleep=self.clock.sleep,
        )
        self.pools.append(pool)
        await pool.start()
        return pool

    def __getitem__(self, name: str) -> Scripted:
        return self.vendors[name]

    def counts(self) -> dict[str, int]:
        return {name: len(vendor.asked) for name, vendor in self.vendors.items()}


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    made = Scene(tmp_path, monkeypatch)
    yield made
    await asyncio.gather(*(pool.stop() for pool in made.pools))


def sources(batch: QuoteBatch) -> dict[str, str]:
    return {quote.symbol: quote.source for quote in batch.quotes}


FAULTS: list[Callable[[], ProviderError]] = [
    lambda: Unavailable("schwab", "answered 500"),
    lambda: Unavailable("schwab", "answered 503", 40.0),
    lambda: RateLimited("schwab", "too many requests (429)", None),
    lambda: RateLimited("schwab", "too many requests (429)", 7.0),
    lambda: Malformed("schwab", "answered 200 with a web page, not JSON"),
    lambda: Denied("schwab", "the credential was refused (401)"),
    lambda: LoginNeeded("schwab", "the login has ended", "log in again"),
    lambda: Unsupported("schwab", "there is no such thing (404)"),
]


# --- TC-O01, O02: the next one answers


async def test_o01_only_what_is_missing_is_asked_of_the_next(scene: Scene) -> None:
    pool = await scene.pool()
    scene["schwab"].failing = set(SYMBOLS[:3])
    scene["alpaca"].failing = {SYMBOLS[0]}
    batch = await pool.quotes(SYMBOLS)
    assert [quote.symbol for quote in batch.quotes] == SYMBOLS
    assert sources(batch) == dict.fromkeys(SYMBOLS, "schwab") | {
        SYMBOLS[0]: "finnhub",
        SYMBOLS[1]: "alpaca",
        SYMBOLS[2]: "alpaca",
    }
    assert [scene[name].asked for name in NAMES] == [
        [(Kind.QUOTES, tuple(SYMBOLS))],
        [(Kind.QUOTES, tuple(SYMBOLS[:3]))],
        [(Kind.QUOTES, (SYMBOLS[0],))],
    ]


async def test_o01_a_failed_batch_is_completed_by_the_next(scene: Scene) -> None:
    pool = await scene.pool(changes={"schwab": {"batch": 20}})
    plain = scene["schwab"].quotes

    async def second_fails(symbols: Sequence[str], deadline: float) -> QuoteBatch:
        if len(symbols) == 10:
            raise Unavailable("schwab", "answered 500")
        return await plain(symbols, deadline)

    scene["schwab"].quotes = second_fails  # type: ignore[method-assign]
    batch = await pool.quotes(SYMBOLS)
    assert sources(batch) == dict.fromkeys(SYMBOLS[:20], "schwab") | dict.fromkeys(
        SYMBOLS[20:], "alpaca"
    )
    assert not batch.failed


async def test_o01_what_nobody_tells_is_failed_with_a_reason(scene: Scene) -> None:
    pool = await scene.pool()
    for name in NAMES:
        scene[name].failing = {"S1"}
    batch = await pool.quotes(["S1", "S2"])
    assert batch.failed == (("S1", "no price"),)
    assert scene.counts() == dict.fromkeys(NAMES, 1)


@pytest.mark.parametrize("fault", FAULTS)
async def test_o02_a_dead_first_vendor_costs_one_try(
    scene: Scene, fault: Callable[[], ProviderError]
) -> None:
    pool = await scene.pool()
    scene["schwab"].fault = fault()
    batch = await pool.quotes(SYMBOLS)
    assert sources(batch) == dict.fromkeys(SYMBOLS, "alpaca")
    bars = await pool.bars("S1", Timeframe.DAY, START, END)
    assert [bar.source for bar in bars] == ["alpaca"]
    profile = await pool.profile("S1")
    assert profile is not None
    assert profile.source == "finnhub"
    assert scene["schwab"].asked[0][0] is Kind.QUOTES
    assert sum(scene.clock.slept) == 0


async def test_o02_a_hanging_first_vendor_costs_its_patience(scene: Scene) -> None:
    pool = await scene.pool()
    scene["schwab"].hangs = True
    before = scene.clock.ticks
    assert set(sources(await pool.quotes(SYMBOLS)).values()) == {"alpaca"}
    assert scene.clock.ticks - before == pytest.approx(provider_pool.PATIENCE)


async def test_o02_who_is_alone_has_all_the_time(scene: Scene) -> None:
    pool = await scene.pool(["schwab"])
    scene["schwab"].seconds = 20
    assert (await pool.quotes(["S1"])).quotes


async def test_o02_when_all_fail_all_are_tried_again(scene: Scene) -> None:
    pool = await scene.pool()
    for name in NAMES:
        scene[name].fault = Unavailable(name, "answered 500")
    with pytest.raises(Unavailable) as caught:
        await pool.quotes(["S1"])
    assert caught.value.vendor == "schwab"
    assert scene.counts() == dict.fromkeys(NAMES, provider_pool.TRIES)


async def test_o02_an_error_that_may_pass_says_more_than_one_that_does_not(scene: Scene) -> None:
    pool = await scene.pool()
    scene["schwab"].fault = Unsupported("schwab", "not here")
    scene["alpaca"].fault = Malformed("alpaca", "garbage")
    scene["finnhub"].fault = Unsupported("finnhub", "not here")
    with pytest.raises(Malformed):
        await pool.quotes(["S1"])


# --- TC-O03: unknown


async def test_o03_two_vendors_make_a_symbol_unknown(scene: Scene) -> None:
    pool = await scene.pool()
    for name in NAMES:
        scene[name].unknown = {"NOPE"}
    batch = await pool.quotes(["NOPE", "S1"])
    assert batch.unknown == ("NOPE",)
    assert scene.counts() == {"schwab": 1, "alpaca": 1, "finnhub": 0}
    assert await pool.profile("NOPE") is None
    assert await pool.bars("NOPE", Timeframe.DAY, START, END) == ()
    assert sum(scene.counts().values()) == 2 + 2 + 2


async def test_o03_one_vendor_may_know_what_another_does_not(scene: Scene) -> None:
    pool = await scene.pool()
    scene["schwab"].unknown = scene["alpaca"].unknown = {"S1"}
    scene["alpaca"].unknown = set()
    assert sources(await pool.quotes(["S1"])) == {"S1": "alpaca"}


async def test_o03_the_only_one_who_answers_is_believed_without_a_wait(scene: Scene) -> None:
    pool = await scene.pool()
    scene["schwab"].unknown = {"NOPE"}
    scene["alpaca"].fault = Unavailable("alpaca", "answered 500")
    scene["finnhub"].fault = Unavailable("finnhub", "answered 500")
    batch = await pool.quotes(["NOPE", "S1"])
    assert batch.unknown == ("NOPE",)
    assert scene.counts() == dict.fromkeys(NAMES, 1)


# --- TC-O04: order


async def test_o04_the_order_is_a_setting_of_each_kind(scene: Scene) -> None:
    pool = await scene.pool(volaris_prefer={"quotes": "finnhub, alpaca"})
    assert sources(await pool.quotes(["S1"])) == {"S1": "finnhub"}
    bars = await pool.bars("S1", Timeframe.DAY, START, END)
    assert [bar.source for bar in bars] == ["alpaca"]


async def test_o04_only_who_sells_it_is_asked(scene: Scene) -> None:
    pool = await scene.pool(changes={"schwab": {"sells": frozenset({Kind.BARS})}})
    assert sources(await pool.quotes(["S1"])) == {"S1": "alpaca"}
    with pytest.raises(Unsupported, match="nobody who is configured sells hours"):
        await pool.hours(date(2026, 11, 23), date(2026, 11, 24))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"volaris_limit": {"schwab": "120"}}, "VOLARIS_LIMIT__SCHWAB: write N/s"),
        ({"volaris_limit": {"nobody": "1/s"}}, "VOLARIS_LIMIT__NOBODY: there is no such vendor"),
        ({"volaris_prefer": {"quotes": "schwab,nobody"}}, "VOLARIS_PREFER__QUOTES: write vendors"),
        ({"volaris_prefer": {"ticks": "schwab"}}, "VOLARIS_PREFER__TICKS: there is no such kind"),
    ],
)
def test_o04_wrong_settings_refuse_the_start(tmp_path: Path, given: Any, why: str) -> None:
    with pytest.raises(Refused, match=why):
        choice.check(Settings(volaris_home=tmp_path, **given))
    choice.check(
        Settings(
            volaris_home=tmp_path,
            volaris_limit={"schwab": "50/h 1GB/month"},
            volaris_prefer={"quotes": "schwab"},
        )
    )


# --- TC-O05: breakers


async def test_o05_a_breaker_opens_is_probed_and_closes(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pool = await scene.pool(changes={"schwab": {"batch": 10}})
    scene["schwab"].faults = {Kind.QUOTES: Unavailable("schwab", "answered 500")}
    for _ in range(20):
        assert len((await pool.quotes(SYMBOLS)).quotes) == 30
    tried = len(scene["schwab"].asked)
    assert tried == 6  # three batches, twice
    profile = await pool.profile("S1")  # another kind goes on
    assert profile is not None
    status = {vendor.name: vendor for vendor in await pool.status()}["schwab"]
    assert status.state is VendorState.DOWN
    assert {kind.kind: kind.state for kind in status.kinds}["quotes"] == "open"
    assert {kind.kind: kind.state for kind in status.kinds}["bars"] == "closed"
    assert status.next_probe_at is not None
    scene.clock.move((status.next_probe_at - scene.clock.now()).total_seconds() + 0.01)
    await pool.quotes(SYMBOLS)
    assert len(scene["schwab"].asked) == tried + 1  # the probe is one request
    scene["schwab"].faults = {}
    await pool.quotes(SYMBOLS)
    assert len(scene["schwab"].asked) == tried + 1  # and the pause after it is longer
    scene.clock.move(10)
    assert set(sources(await pool.quotes(SYMBOLS)).values()) == {"schwab"}
    said = [r.getMessage() for r in caplog.records if r.name == "volaris.provider_pool"]
    assert said == [
        "schwab cannot be used for quotes: schwab: answered 500",
        "schwab answers again for quotes",
    ]


async def test_o05_probes_become_rare_but_do_not_end(scene: Scene) -> None:
    pool = await scene.pool()
    scene["schwab"].fault = Unavailable("schwab", "answered 500")
    for _ in range(24 * 60):
        await pool.quotes(["S1"])
        scene.clock.move(60)
    day = 24 * 3600 / LONGEST_PAUSE
    assert day <= len(scene["schwab"].asked) <= 1.5 * day


# --- TC-O06, O07: refusals


async def test_o06_a_refused_key_ends_all_questions_for_ever_longer_up_to_ten_minutes(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pool = await scene.pool()
    scene["schwab"].fault = Denied("schwab", "the credential was refused (401)")
    for _ in range(60):
        await pool.quotes(["S1"])
        await pool.bars("S1", Timeframe.DAY, START, END)
        scene.clock.move(60)
    assert len(scene["schwab"].asked) == 11  # after 15, 30, 60 ... 600 s
    status = {vendor.name: vendor for vendor in await pool.status()}["schwab"]
    assert (status.state, status.remedy) == (VendorState.DOWN, "check KEY")
    scene["schwab"].fault = None
    scene.clock.move(600)
    assert sources(await pool.quotes(["S1"])) == {"S1": "schwab"}
    said = [r.getMessage() for r in caplog.records if r.name == "volaris.provider_pool"]
    assert said == [
        "schwab cannot be used: schwab: the credential was refused (401)",
        "schwab answers again",
    ]


async def test_o06_one_refusal_may_be_the_vendors_own_fault(scene: Scene) -> None:
    pool = await scene.pool()
    for _ in range(3):
        scene["schwab"].fault = Denied("schwab", "the credential was refused (401)")
        assert sources(await pool.quotes(["S1"])) == {"S1": "alpaca"}
        scene["schwab"].fault = None
        scene.clock.move(15)
        assert sources(await pool.quotes(["S1"])) == {"S1": "schwab"}


async def test_o06_alone_and_refused_is_said_each_time(scene: Scene) -> None:
    pool = await scene.pool(["schwab"])
    scene["schwab"].fault = LoginNeeded("schwab", "the login has ended", "log in again")
    for _ in range(5):
        with pytest.raises(LoginNeeded, match="log in again"):
            await pool.quotes(["S1"])
    assert len(scene["schwab"].asked) == 1


async def test_o07_what_a_plan_lacks_is_not_asked_for_hours(scene: Scene) -> None:
    pool = await scene.pool()
    lacks = Unsupported("schwab", "this plan does not sell that")
    lacks.by_plan = True
    scene["schwab"].faults = {Kind.QUOTES: lacks, Kind.BARS: lacks}
    for _ in range(60):
        assert sources(await pool.quotes(["S1"])) == {"S1": "alpaca"}
        scene.clock.move(60)
    assert len(scene["schwab"].asked) == 1
    scene.clock.move(6 * 3600)
    await pool.quotes(["S1"])
    assert len(scene["schwab"].asked) == 2
    scene["alpaca"].fault = Unavailable("alpaca", "answered 500")
    scene["finnhub"].fault = Unavailable("finnhub", "answered 500")
    for _ in range(3):  # of bars a plan lacks a time, not the kind
        with pytest.raises(Unavailable):
            await pool.bars("S1", Timeframe.DAY, START, END)
    assert len(scene["schwab"].asked) == 5


async def test_o07_what_a_symbol_lacks_is_of_that_symbol(scene: Scene) -> None:
    pool = await scene.pool(["schwab", "alpaca"])
    scene["schwab"].fault = Unsupported("schwab", "there is no such thing (404)")
    for _ in range(20):
        await pool.quotes(["S1"])
    assert len(scene["schwab"].asked) == 20
    assert {v.name: v.state for v in await pool.status()}["schwab"] is VendorState.READY


# --- TC-O08: kept answers


async def test_o08_a_profile_is_kept_a_day_and_a_quote_not_at_all(scene: Scene) -> None:
    pool = await scene.pool()
    for _ in range(3):
        await pool.profile("S1")
        await pool.quotes(["S1"])
    assert scene.counts() == {"schwab": 3, "alpaca": 0, "finnhub": 1}
    scene.clock.move(AGES[Kind.PROFILE])
    await pool.profile("S1")
    assert scene.counts()["finnhub"] == 2


async def test_o08_an_error_is_not_kept(scene: Scene) -> None:
    pool = await scene.pool(["schwab"])
    scene["schwab"].fault = Unavailable("schwab", "answered 500", 60)
    with pytest.raises(Unavailable):
        await pool.profile("S1")
    scene["schwab"].fault = None
    assert await pool.profile("S1") is not None


async def test_o08_the_shelf_has_an_end(scene: Scene) -> None:
    pool = await scene.pool()
    for n in range(MOST[Kind.PROFILE] + 50):
        await pool.profile(f"P{n}")
    assert len(pool._shelf._kept[Kind.PROFILE]) == MOST[Kind.PROFILE]
    asked = scene.counts()["finnhub"]
    await pool.profile(f"P{MOST[Kind.PROFILE] + 49}")
    assert scene.counts()["finnhub"] == asked
    await pool.profile("P0")
    assert scene.counts()["finnhub"] == asked + 1


async def test_o08_one_question_flies_once(scene: Scene) -> None:
    pool = await scene.pool()
    await asyncio.gather(*(pool.profile("S1") for _ in range(50)))
    first, last = date(2026, 11, 1), date(2026, 11, 30)
    await asyncio.gather(*(pool.earnings(first, last) for _ in range(50)))
    assert scene.counts() == {"schwab": 0, "alpaca": 0, "finnhub": 2}


async def test_o08_who_is_asked_a_list_gets_its_source_and_its_time(scene: Scene) -> None:
    pool = await scene.pool()
    first, last = date(2026, 11, 1), date(2026, 11, 30)
    told = await pool.earnings(first, last)
    assert (told.rows, told.source, told.at) == ((), "finnhub", scene.clock.at)
    scene.clock.move(600)
    assert await pool.earnings(first, last) == told  # kept, and as old as it is


async def test_o04_judged_news_are_of_who_judges(scene: Scene) -> None:
    pool = await scene.pool(("finnhub", "polygon"))
    since = scene.clock.at - timedelta(days=1)
    assert (await pool.news(["S1"], since)).source == "finnhub"
    assert (await pool.news(["S1"], since, judged=True)).source == "polygon"
    other = await scene.pool(("finnhub",))
    with pytest.raises(Unsupported, match="nobody who is configured judges news; set KEY"):
        await other.news(["S1"], since, judged=True)


# --- TC-O09: pages


async def test_o09_pages_go_through_all_symbols(scene: Scene) -> None:
    pool = await scene.pool()
    scene["alpaca"].pages = {None: "t1", "t1": None}
    page, got, asked = None, list[str](), 0
    while True:
        answer = await pool.bars_page(SYMBOLS[:5], Timeframe.DAY, START, END, page)
        got += [bar.symbol for bar in answer.bars]
        asked += 1
        page = answer.next
        if page is None:
            break
    assert asked == 6  # two symbols a request, two pages each
    assert sorted(set(got)) == sorted(SYMBOLS[:5])
    assert scene.counts() == {"schwab": 0, "alpaca": 6, "finnhub": 0}


async def test_o09_a_page_belongs_to_who_gave_it(scene: Scene) -> None:
    pool = await scene.pool()
    scene["alpaca"].pages = {None: "t1"}
    first = await pool.bars_page(SYMBOLS, Timeframe.DAY, START, END)
    assert first.next == "alpaca|0|t1"
    scene["alpaca"].fault = Unavailable("alpaca", "answered 500")
    with pytest.raises(Unavailable):
        await pool.bars_page(SYMBOLS, Timeframe.DAY, START, END, first.next)
    assert scene.counts()["schwab"] == 0
    other = await pool.bars_page(SYMBOLS, Timeframe.DAY, START, END, "alpaca|28|")
    assert [bar.source for bar in other.bars] == ["schwab", "schwab"]
    assert other.next is None


async def test_o09_a_named_vendor_is_asked_alone(scene: Scene) -> None:
    pool = await scene.pool()
    answer = await pool.bars_page(["S1"], Timeframe.DAY, START, END, vendor="finnhub")
    assert [bar.source for bar in answer.bars] == ["finnhub"]
    scene["finnhub"].fault = Unsupported("finnhub", "no")
    with pytest.raises(Unsupported):
        await pool.bars_page(["S2"], Timeframe.DAY, START, END, vendor="finnhub")
    with pytest.raises(ValueError, match="vendor must be one of schwab, alpaca, finnhub"):
        await pool.bars_page(["S2"], Timeframe.DAY, START, END, vendor="nobody")
    for page in ("x", "nobody|0|", "alpaca|99|", "alpaca|-1|", "alpaca"):
        with pytest.raises(ValueError, match="page must be"):
            await pool.bars_page(["S2"], Timeframe.DAY, START, END, page)


# --- TC-O10: small vendors


async def test_o10_a_vendor_of_one_symbol_a_request_is_asked_for_few(scene: Scene) -> None:
    pool = await scene.pool(["finnhub"], {"finnhub": {"batch": 1}})
    batch = await pool.quotes(SYMBOLS)
    assert len(batch.quotes) == provider_pool.FEW == len(scene["finnhub"].asked)
    assert {why for _, why in batch.failed} == {"finnhub: it answers one symbol a request"}
    assert len(batch.failed) == 30 - provider_pool.FEW
    assert (await pool.quotes(["S29"])).quotes


async def test_o10_a_sweep_leaves_symbols_of_the_plan_to_people(scene: Scene) -> None:
    changes = {"schwab": {"limits": "1000/min 20symbols/month"}}
    pool = await scene.pool(["schwab", "alpaca"], changes)
    batch = await pool.quotes(SYMBOLS, sweep=True)
    told = sources(batch)
    assert list(told.values()).count("schwab") == 18
    assert not batch.failed
    for symbol in ("X1", "X2", "X3"):
        told |= sources(await pool.quotes([symbol]))
    assert [told[symbol] for symbol in ("X1", "X2", "X3")] == ["schwab", "schwab", "alpaca"]
    again = sources(await pool.quotes(SYMBOLS, sweep=True))
    assert list(again.values()).count("schwab") == 18


async def test_o10_without_another_vendor_the_reason_is_the_plan(scene: Scene) -> None:
    pool = await scene.pool(["schwab"], {"schwab": {"limits": "1000/min 2symbols/month"}})
    batch = await pool.quotes(SYMBOLS[:3])
    assert [symbol for symbol, _ in batch.failed] == ["S2"]
    assert "used up for this month" in batch.failed[0][1]
    with pytest.raises(RateLimited, match="used up for this month"):
        await pool.quotes(["S9"])


# --- TC-O11: what is told


async def test_o11_everything_is_told(scene: Scene) -> None:
    pool = await scene.pool(changes={"schwab": {"limits": "100/min 1000/day"}})
    for _ in range(3):
        await pool.quotes(["S1"])
    scene["schwab"].fault = Unavailable("schwab", "answered 500")
    await pool.quotes(["S1"])
    scene.clock.move(61)
    schwab, alpaca, finnhub = await pool.status()
    assert [(limit.limit, limit.spent) for limit in schwab.limits] == [
        ("100/min", 0),
        ("1000/day", 4),
    ]
    assert (schwab.requests, schwab.errors) == (4, 1)
    assert (schwab.error_rate_5min, schwab.error_rate_1h) == (0.25, 0.25)
    assert schwab.last_error == "schwab: answered 500"
    assert alpaca.error_rate_1h == 0
    assert finnhub.error_rate_1h is None
    scene.clock.move(360)
    schwab = (await pool.status())[0]
    assert (schwab.error_rate_5min, schwab.error_rate_1h) == (None, 0.25)


async def test_o11_spend_survives_the_pool(scene: Scene) -> None:
    changes = {"schwab": {"limits": "100/min 1000/day"}}
    pool = await scene.pool(changes=changes)
    for _ in range(7):
        await pool.quotes(["S1"])
    await pool.stop()
    scene.pools.clear()
    again = await scene.pool(changes=changes)
    assert [limit.spent for limit in (await again.status())[0].limits] == [0, 7]
