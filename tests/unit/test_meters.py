"""What the sandbox counts of each key, and what it refuses."""

import base64
import importlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from actors.providers import PROVIDERS
from actors.providers.plan import read as read_plan
from sandbox.app import build
from sandbox.faults import Unusable
from sandbox.meters import PLANS, Meters, key_of, plan, read, symbols_of

BEGIN = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)


class Door:
    """Meters with a clock of the test's own."""

    def __init__(self, **given: Any) -> None:
        self.at = BEGIN
        self.meters = Meters(lambda: self.at, **given)

    def ask(self, vendor: str, key: str = "k", path: str = "/x", query: str = "") -> bool:
        """Return whether a request is let in."""
        return not self.meters.asked(vendor, scope(f"Bearer {key}", path, query))[1]

    def limits(self, vendor: str) -> dict[str, tuple[int, int]]:
        [key] = self.meters.told()[vendor]["keys"]
        return {limit["limit"]: (limit["now"], limit["peak"]) for limit in key["limits"]}


def scope(authorization: str, path: str = "/x", query: str = "", **headers: str) -> dict[str, Any]:
    sent = {"authorization": authorization} | headers
    return {
        "headers": [(name.encode(), value.encode()) for name, value in sent.items() if value],
        "path": path,
        "query_string": query.encode(),
    }


def test_a_minute_is_any_sixty_seconds() -> None:
    door = Door()
    assert [door.ask("polygon", "free-1") for _ in range(6)] == [True] * 5 + [False]
    door.at += timedelta(seconds=59.9)
    assert not door.ask("polygon", "free-1")
    door.at += timedelta(seconds=0.1)
    assert door.ask("polygon", "free-1")
    assert door.limits("polygon") == {"5/min": (1, 5)}
    told = door.meters.told()["polygon"]["keys"][0]
    assert (told["let_in"], told["refused"], told["over"]) == (6, 2, 0)


def test_keys_are_counted_apart_and_by_their_plan() -> None:
    door = Door()
    assert all(door.ask("polygon", "free-1") for _ in range(5))
    assert door.ask("polygon", "free-2")
    assert all(door.ask("polygon", "other") for _ in range(50))
    assert [plan("alpaca", key) for key in ("paid-1", "x")] == ["10000/min", "200/min"]


def test_limits_that_are_only_counted_refuse_nothing() -> None:
    door = Door(enforced=False)
    assert all(door.ask("polygon", "free-1") for _ in range(8))
    assert door.limits("polygon") == {"5/min": (8, 8)}
    assert door.meters.told()["polygon"]["keys"][0]["over"] == 3


def test_a_day_is_new_yorks_and_a_month_utcs() -> None:
    door = Door()
    door.meters.set("tiingo", None, "3/day 1KB/month")
    account, _ = door.meters.asked("tiingo", scope("Token k"))
    assert door.ask("tiingo")
    assert door.ask("tiingo")
    assert not door.ask("tiingo")
    door.at = datetime(2026, 11, 25, 5, 0, tzinfo=UTC)
    assert door.ask("tiingo")
    door.meters.sent(account, 999)
    assert door.ask("tiingo")
    door.meters.sent(account, 1)
    assert not door.ask("tiingo")
    door.at = datetime(2026, 11, 30, 23, 59, tzinfo=UTC)
    assert not door.ask("tiingo")
    door.at = datetime(2026, 12, 1, 0, 0, tzinfo=UTC)
    assert door.ask("tiingo")
    assert door.limits("tiingo") == {"3/day": (1, 3), "1KB/month": (0, 1000)}


def test_symbols_are_counted_once_a_month() -> None:
    door = Door()
    door.meters.set("tiingo", True, "100/h 3symbols/month")
    assert door.ask("tiingo", path="/tiingo/iex/", query="tickers=aapl,MSFT")
    assert door.ask("tiingo", path="/tiingo/tiingo/daily/AAPL/prices")
    assert door.ask("tiingo", path="/tiingo/tiingo/daily/BRK-B")
    assert not door.ask("tiingo", path="/tiingo/iex/spy")
    assert door.ask("tiingo", path="/tiingo/iex/msft")
    assert door.ask("tiingo", path="/tiingo/tiingo/utilities/search", query="query=x")
    assert door.limits("tiingo")["3symbols/month"] == (3, 3)


def test_the_key_is_found_where_each_vendor_takes_it() -> None:
    basic = base64.b64encode(b"db-key:").decode()
    assert [
        key_of(scope("Bearer a")),
        key_of(scope("Token b")),
        key_of(scope(f"Basic {basic}")),
        key_of(scope("", **{"apca-api-key-id": "c"})),
        key_of(scope("", **{"x-finnhub-token": "d"})),
        key_of(scope("", query="token=e")),
        key_of(scope("", query="x=1&apiKey=f")),
        key_of(scope("Basic %%%")),
        key_of(scope("")),
    ] == ["a", "b", "db-key", "c", "d", "e", "f", "", ""]
    assert symbols_of(scope("", "/tiingo/tiingo/equity/intraday/", "tickers=")) == set()


def test_logins_and_strangers_are_of_no_account() -> None:
    door = Door()
    assert all(door.ask("schwab", path="/schwab/v1/oauth/token") for _ in range(200))
    assert all(door.ask("schwab", key="") for _ in range(200))
    assert all(door.ask("discord") for _ in range(200))
    assert door.meters.told()["schwab"]["keys"] == []


def test_the_longest_unused_key_is_forgotten() -> None:
    door = Door()
    for n in range(200):
        door.ask("schwab", f"key-{n}")
    assert len(door.meters.told()["schwab"]["keys"]) == 64


@pytest.mark.parametrize("text", ["x", "5/h 7/week", "1GB/h", "5symbols/s"])
def test_an_unusable_text_is_refused(text: str) -> None:
    with pytest.raises(Unusable, match="limits"):
        read(text)


@pytest.mark.parametrize("name", PLANS)
def test_what_an_adapter_keeps_by_itself_is_within_a_plan(name: str) -> None:
    module, _, attribute = PROVIDERS[name].partition(":")
    kept = read_plan(getattr(importlib.import_module(module), attribute).limits)

    def within(text: str) -> bool:
        plan = {(m.window, m.unit == "symbols", m.unit[-1:] == "B"): m.amount for m in read(text)}
        ours = {(k.window, k.what == "symbols", k.what == "bytes"): k.amount for k in kept}
        return ours.keys() == plan.keys() and all(ours[key] <= plan[key] for key in plan)

    assert any(within(text) for _, text in PLANS[name]), [limit.text for limit in kept]


async def test_the_gate_refuses_in_the_vendors_words_and_control_switches() -> None:
    app = build(meters=Meters())
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://sandbox"
    ) as client:
        url, sent = (
            "/schwab/marketdata/v1/quotes?symbols=SPY",
            {"Authorization": "Bearer I0.secret"},
        )

        async def statuses(n: int) -> set[int]:
            return {(await client.get(url, headers=sent)).status_code for _ in range(n)}

        assert await statuses(120) == {401}
        refused = await client.get(url, headers=sent)
        assert refused.status_code == 429
        assert "errors" in refused.json() or "fault" in refused.json()
        off = await client.post("/control/limits", json={"vendor": "schwab", "enforced": False})
        assert off.json()["schwab"]["enforced"] is False
        assert await statuses(3) == {401}
        told = (await client.get("/control/limits")).json()["schwab"]["keys"][0]
        assert (told["refused"], told["over"]) == (1, 3)
        assert told["limits"][0]["peak"] == 123
        assert "I0.secret" not in json.dumps(told)
        given = await client.post("/control/limits", json={"vendor": "schwab", "limits": "2/min"})
        assert given.json()["schwab"]["given"] == "2/min"
        for wrong, field in (
            ({"vendor": "nobody"}, "vendor"),
            ({"vendor": "schwab", "enforced": 1}, "enforced"),
            ({"vendor": "schwab", "limits": "2 a minute"}, "limits"),
            ({"vendor": "schwab", "limits": 2}, "limits"),
            ({"vendor": "schwab", "off": True}, "off"),
        ):
            answer = await client.post("/control/limits", json=wrong)
            assert (answer.status_code, answer.json()["field"]) == (422, field)
