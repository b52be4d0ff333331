"""`make up` as a user meets it: the tree comes up, prices are current, the API answers, `down` is clean."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time

import httpx
import pytest

from actors.providers import PROVIDERS
from tests.running import ROOT, VOLARIS, Running, alive, until

pytestmark = pytest.mark.tree


def first_refresh(tree):
    return until(lambda: tree.job("prices")["last_state"] == "done", 60, "no refresh was done")


def test_the_first_refresh_stores_513_quotes_with_two_requests(tree):
    first_refresh(tree)
    price = tree.get("/api/v1/market/price/AAPL")
    assert price.status_code == 200
    body = price.json()
    assert body["price"] > 0
    assert body["source"] == "schwab"
    assert body["age_seconds"] < 60
    assert not body["stale"]
    asked = tree.http.get(tree.sandbox("/control/requests")).json()
    text = json.dumps(asked)
    assert "/marketdata/v1/quotes" in text, text


def test_every_symbol_of_the_universe_is_known(tree):
    first_refresh(tree)
    for symbol in ("SPY", "BRK.B", "BRK-B", "brk/b", "BF.B"):
        answer = tree.get(f"/api/v1/market/quote/{symbol}")
        if "/" in symbol:
            assert answer.status_code in (200, 404), "a slash in a path is another path"
        else:
            assert answer.status_code == 200, answer.text
            assert answer.json()["bid"] <= answer.json()["ask"]


def test_bars_are_built_from_the_polls(tree):
    first_refresh(tree)
    bars = until(
        lambda: tree.get("/api/v1/market/bars/SPY", timeframe="1m").json()["bars"],
        90,
        "no bar came",
    )
    assert all(bar["low"] <= min(bar["open"], bar["close"]) for bar in bars)
    assert all(bar["polled"] for bar in bars)


def test_daily_bars_are_fetched_on_demand(tree):
    answer = tree.get("/api/v1/market/bars/MSFT", timeframe="1d", limit=30).json()
    assert len(answer["bars"]) == 30
    days = [bar["at"] for bar in answer["bars"]]
    assert days == sorted(set(days))


def test_every_vendor_is_told_with_the_spend_of_its_limits(tree):
    first_refresh(tree)
    told = tree.get("/api/v1/providers").json()["providers"]
    vendors = {vendor["name"]: vendor for vendor in told}
    assert set(vendors) >= {"schwab", "tiingo", "alpaca", "polygon", "finnhub"}
    assert {vendor["state"] for vendor in told} <= {"ready", "limited"}
    schwab = vendors["schwab"]
    [limit] = schwab["limits"]
    assert (limit["limit"], limit["allowed"]) == ("120/min", 120)
    assert 0 < limit["spent"] <= 120
    assert 0 < schwab["latency_p50"] <= schwab["latency_p99"]
    assert (schwab["error_rate_5min"], schwab["error_rate_1h"]) == (0, 0)
    assert {kind["kind"]: kind["state"] for kind in schwab["kinds"]}["quotes"] == "closed"
    assert tree.get("/api/v1/system/providers").status_code == 200  # where it was before
    counted = tree.http.get(tree.sandbox("/control/limits")).json()
    assert all(key["refused"] == 0 for vendor in counted.values() for key in vendor["keys"])


def test_an_unknown_symbol_is_404_and_a_malformed_one_422(tree):
    unknown = tree.get("/api/v1/market/price/ZZZZ")
    assert (unknown.status_code, unknown.headers["content-type"]) == (
        404,
        "application/problem+json",
    )
    assert "ZZZZ" in unknown.json()["detail"]
    malformed = tree.get("/api/v1/market/price/AAPL'%3B--")
    assert (malformed.status_code, malformed.headers["content-type"]) == (
        422,
        "application/problem+json",
    )
    backwards = tree.get(
        "/api/v1/market/bars/SPY", start="2026-01-02T00:00:00Z", end="2026-01-01T00:00:00Z"
    )
    assert backwards.status_code == 422
    naive = tree.get("/api/v1/market/bars/SPY", start="2026-01-02T00:00:00")
    assert naive.status_code == 422
    assert tree.get("/api/v1/nothing").headers["content-type"] == "application/problem+json"


def test_ready_tells_that_all_is_well(tree):
    ready = until(lambda: (r := tree.get("/ready")).status_code == 200 and r, 30).json()
    assert ready["ready"]
    assert set(ready["children"].values()) == {"up"}
    assert set(ready["vendors"]) == set(PROVIDERS)
    assert ready["vendors"]["schwab"] == "ready"
    assert tree.get("/health").json()["status"] == "alive"


def market(tree, path, **params):
    answer = tree.get(f"/api/v1/market/{path}", **params)
    assert answer.status_code == 200, answer.text
    assert answer.json()["source"]
    assert 0 <= answer.json()["age_seconds"] < 120
    return answer.json()


def test_movers_are_the_largest_changes_of_the_index(tree):
    first_refresh(tree)
    members = tree.get("/api/v1/market/sp500").json()
    assert len(members["symbols"]) == 503
    assert "SPY" not in members["symbols"]
    for scope in ("sp500", "market"):
        top = market(tree, "top", limit=3, scope=scope)
        assert not top["stale"]
        for ranking in ("gainers", "losers", "active"):
            assert len(top[ranking]) == 3
            assert {row["symbol"] for row in top[ranking]} <= set(members["symbols"])
        gained, lost = ([row["percent"] for row in top[r]] for r in ("gainers", "losers"))
        assert gained == sorted(gained, reverse=True)
        assert lost == sorted(lost)
        assert lost[0] < 0 < gained[0]


def test_a_price_has_a_range_and_a_volume(tree):
    first_refresh(tree)
    where = market(tree, "range/AAPL")
    assert where["low_52w"] <= where["day_low"] <= where["current"] <= where["day_high"]
    assert 0 <= where["position_pct"] <= 100
    volume = market(tree, "volume/AAPL")
    assert volume["sessions"] == 30
    assert volume["volume_ratio"] == pytest.approx(
        volume["current_volume"] / volume["avg_volume_20d"], abs=1e-4
    )


def test_what_vendors_tell_of_a_company(tree):
    profile = market(tree, "profile/AAPL")
    assert (profile["name"], profile["source"]) == ("Apple Inc.", "finnhub")
    assert profile["market_cap"] > 1e11
    news = market(tree, "news/AAPL", limit=3, days=30)
    assert 0 < len(news["news"]) <= 3
    assert all("AAPL" in story["symbols"] for story in news["news"])
    assert market(tree, "news", limit=2)["symbol"] is None
    sentiment = market(tree, "sentiment/AAPL")
    percents = [sentiment[f"{word}_percent"] for word in ("bullish", "neutral", "bearish")]
    assert sum(percents) == pytest.approx(100, abs=0.02)
    calendar = market(tree, "earnings")
    assert calendar["earnings"]
    days = [row["earnings_date"] for row in calendar["earnings"]]
    assert days == sorted(days)
    assert calendar["start"] <= days[0]
    assert days[-1] <= calendar["end"]
    one = calendar["earnings"][-1]
    told = market(tree, f"earnings/{one['symbol']}")
    assert told["earnings_date"] == one["earnings_date"]
    hours = market(tree, "hours")
    assert (hours["agrees"], hours["source"]) == (True, "calendar")
    for path in ("profile", "news", "earnings", "range", "volume"):
        unknown = tree.get(f"/api/v1/market/{path}/ZZZZ")
        assert unknown.status_code == 404
        assert unknown.json()["detail"] == "no vendor knows the symbol ZZZZ"


def test_while_the_pool_is_silent_the_last_answer_is_told_as_stale(tree):
    before = market(tree, "profile/MSFT")
    os.kill(tree.pids()["provider_pool"], signal.SIGSTOP)  # until it is killed as hung
    kept = tree.get("/api/v1/market/profile/MSFT").json()
    assert (kept["stale"], kept["at"]) == (True, before["at"])
    until(tree.all_up, 60, "the pool did not come back")
    until(lambda: not market(tree, "profile/MSFT")["stale"], 60, "it did not answer again")


def test_status_tells_urls_and_children_without_ray(tree):
    told = json.loads(tree.run("status", "--json").stdout)
    assert told["api"] == tree.url("")
    for child in told["children"]:
        assert {"id", "state", "pid", "node", "generation", "restarts", "replacements"} <= set(
            child
        )
        assert 0 < child["memory_mb"] < child["soft_mb"] < child["hard_mb"]
        assert os.path.exists(f"/proc/{child['pid']}")
    table = tree.run("status").stdout
    assert "price_ingestor" in table
    assert "up" in table


def test_the_history_has_a_row_for_each_start(tree):
    rows = until(
        lambda: (r := tree.get("/api/v1/system/history").json()["history"]) and len(r) >= 4 and r,
        30,
    )
    assert {row["child"] for row in rows if row["event"] == "start"} == set(tree.children())
    assert "boot" in tree.run("status", "--history").stdout


def test_the_schema_describes_itself_with_examples(tree):
    schema = tree.get("/openapi.json").json()
    assert "/api/v1/market/price/{symbol}" in schema["paths"]
    price = schema["components"]["schemas"]["PriceOut"]["properties"]["price"]
    assert price["examples"]


def test_only_ray_listens_beyond_loopback_and_it_wants_its_token(tree):
    tokens = tree.home / "run" / "ray.token"
    assert tokens.stat().st_mode & 0o777 == 0o600
    ours = {name: pid for name, pid in tree.pids().items() if name in ("api_server",)}
    ours["boot"] = tree.process.pid
    listening = [
        connection.laddr
        for process in tree.members()
        if process.pid in ours.values()
        for connection in process.net_connections("tcp")
        if connection.status == "LISTEN"
    ]
    api_port = int(tree.url("").rpartition(":")[2])
    assert {address.ip for address in listening if address.port == api_port} == {"127.0.0.1"}
    strangers = {
        connection.laddr
        for process in tree.members()
        for connection in process.net_connections("tcp")
        if connection.status == "LISTEN" and connection.laddr.ip != "127.0.0.1"
    }
    for ip, port in strangers:  # Ray's own; whatever speaks HTTP wants the token
        host = "127.0.0.1" if ip in ("0.0.0.0", "::") else ip
        with contextlib.suppress(httpx.TransportError):
            assert httpx.get(f"http://{host}:{port}/metrics", timeout=5).status_code == 401
    code = (
        "import ray, sys\n"
        f"ray.init(address={tree.file('run.json')['ray']!r}, namespace='volaris', log_to_driver=False)\n"
        "print(ray.util.list_named_actors())"
    )
    stranger = {k: v for k, v in tree.env.items() if not k.startswith("RAY_")}
    stranger |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "not-the-token-of-this-home-at-all"}
    tried = subprocess.run(
        [str(VOLARIS[0]).replace("volaris", "python"), "-c", code],
        env=stranger,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert tried.returncode != 0
    assert "volaris." not in tried.stdout


def test_a_second_up_of_the_same_home_is_refused_with_a_sentence(tree):
    again = tree.run("up", check=False)
    assert again.returncode == 78
    assert "Volaris is already running" in again.stderr
    assert "Traceback" not in again.stderr


def test_secrets_are_in_no_log_and_no_file(tree):
    first_refresh(tree)
    for path in [*(tree.home / "logs").iterdir(), *(tree.home / "run").glob("*.json")]:
        text = path.read_text(errors="replace")
        for secret in (
            "sandbox-secret-key",
            "sandbox-refresh-token",
            (tree.home / "run" / "ray.token").read_text(),
        ):
            assert secret not in text, path


def test_a_taken_port_is_refused_with_its_setting():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        other = Running(VOLARIS_API_PORT=str(taken.getsockname()[1]))
        try:
            refused = other.run("up", check=False)
        finally:
            assert other.stop() == []
    assert refused.returncode == 78
    assert "set VOLARIS_API_PORT to another port" in refused.stderr


@pytest.mark.parametrize(
    ("env", "args", "said"),
    [
        ({"VOLARIS_MEMORY_MB": "512"}, (), "the tree needs"),
        ({}, ("--no-sandbox",), "no market-data key is set"),
        ({"DATABASE_URL": "mysql://x"}, (), "DATABASE_URL must start with postgresql://"),
        ({"DATABASE_URL": "postgresql://u@127.0.0.1:9/x"}, (), "DATABASE_URL: "),
        ({"VOLARIS_JOB__PRICSE": "1"}, (), "there is no such job"),
        ({"SCHWAB_BASE_URL": "http://10.0.0.1"}, (), "SCHWAB_BASE_URL"),
        ({"VOLARIS_BUDGET": "foo"}, (), "VOLARIS_BUDGET: write VOLARIS_BUDGET__<NAME>=value"),
        ({"VOLARIS_HOST": "192.0.2.77"}, (), "set VOLARIS_HOST to an address of this machine"),
        ({"DATABASE_URL": "postgresql://u:sec#ret@h/d"}, (), "DATABASE_URL must be postgresql://"),
        ({"RAY_ADDRESS": "127.0.0.1:1"}, (), "RAY_ADDRESS: no Ray head answers at 127.0.0.1:1"),
    ],
)
def test_what_cannot_work_is_refused_with_a_sentence_and_leaves_nothing(env, args, said):
    other = Running(**env)
    try:
        refused = other.run("up", *args, check=False)
    finally:
        left = other.stop()
    assert refused.returncode == 78, refused.stderr
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "sec" not in refused.stderr.replace("second", "")
    assert left == []


def test_two_homes_run_side_by_side_and_down_leaves_nothing(tree):
    other = Running(VOLARIS_JOB__PRICES="2").start()
    try:
        assert other.url("") != tree.url("")
        assert not set(other.pids().values()) & set(tree.pids().values())
        first_refresh(other)
        members = other.members()
        assert len(members) > 8
        done = other.run("down")
        assert "stopped" in done.stdout
        assert other.process.wait(30) == 0
        assert [process for process in members if alive(process)] == []
        assert not list((other.home / "run").glob("*.json"))
        assert not [p for p in other.home.rglob("*") if p.is_socket()]
        again = other.run("status", check=False)
        assert again.returncode == 3
    finally:
        other.stop()
    assert tree.all_up()


def test_a_second_start_finds_what_the_first_stored():
    other = Running(VOLARIS_JOB__PRICES="off").start()
    try:
        first_refresh_off = until(
            lambda: other.get("/api/v1/market/price/SPY").status_code == 200,
            60,
            "no price on demand",
        )
        assert first_refresh_off
        before = other.get("/api/v1/market/price/SPY").json()
        other.process.send_signal(signal.SIGINT)
        assert other.process.wait(60) == 0
        other.start()
        after = other.get("/api/v1/market/price/SPY").json()
        assert after["at"] == before["at"], "read back, not asked again"
    finally:
        assert other.stop() == []


def test_a_boot_program_that_was_killed_is_cleaned_up_after():
    other = Running(VOLARIS_JOB__PRICES="2").start()
    try:
        members = [p for p in other.members() if p.pid != other.process.pid]
        other.process.kill()
        other.process.wait()
        assert any(alive(process) for process in members)
        told = other.run("status", check=False)
        assert told.returncode == 3
        assert "the boot program is gone" in told.stdout
        other.run("down")
        until(lambda: not any(alive(p) for p in members), 20, "something was left behind")
    finally:
        assert other.stop() == []


@pytest.mark.parametrize("apart", [0.02, 0.5])
def test_a_second_signal_is_quick_and_leaves_nothing(apart):
    other = Running(VOLARIS_JOB__PRICES="2").start()
    members = other.members()
    other.process.send_signal(signal.SIGTERM)
    time.sleep(apart)
    other.process.send_signal(signal.SIGTERM)
    other.process.wait(40)
    assert "everything is stopped" in other.said()
    assert [process for process in members if alive(process)] == []
    assert not (other.home / "run" / "run.json").exists()
    assert other.stop() == []


def test_doctor_is_content_here():
    other = Running()
    try:
        done = other.run("doctor")
        assert done.stdout.count("ok") >= 8
        bad = Running(VOLARIS_MEMORY_MB="300")
        said = bad.run("doctor", check=False)
        bad.stop()
        assert said.returncode == 1
        assert "BAD  memory" in said.stdout
    finally:
        other.stop()


def test_the_checkout_is_not_written_to():
    status = subprocess.run(
        ["git", "status", "--porcelain", "--ignored", ".volaris"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "?? .volaris" not in status.stdout
