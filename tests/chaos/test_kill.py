"""Kill each part of a running tree in turn: it comes back by itself, alone, and loses nothing."""

import os
import re
import signal
import threading
import time
from collections import Counter

import httpx
import pytest

from tests.chaos import ledger
from tests.running import Running, until

pytestmark = pytest.mark.tree

CHILDREN = ("provider_pool", "price_ingestor", "api_server", "scheduler")


def pids_settle(tree):
    return until(lambda: tree.all_up() and tree.pids(), 60, "the tree is not up")


class Caller(threading.Thread):
    """Asks the API all the time and remembers what it was told."""

    def __init__(self, tree, path):
        super().__init__(daemon=True)
        self.url, self.told, self.stop = tree.url(path), Counter(), threading.Event()
        self.longest = 0.0

    def run(self):
        with httpx.Client(timeout=30) as client:
            while not self.stop.is_set():
                began = time.monotonic()
                try:
                    self.told[client.get(self.url).status_code] += 1
                except httpx.TransportError as e:
                    self.told[type(e).__name__] += 1
                self.longest = max(self.longest, time.monotonic() - began)
                self.stop.wait(0.02)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.join(40)


@pytest.mark.parametrize("victim", CHILDREN)
def test_a_killed_child_comes_back_alone(tree, victim):
    before = pids_settle(tree)
    root = tree.supervisor()
    generation = tree.children()[victim]["generation"]
    with Caller(tree, "/api/v1/market/price/SPY") as caller:
        until(lambda: caller.told[200] > 3, 30)
        os.kill(before[victim], signal.SIGKILL)
        until(
            lambda: tree.children()[victim]["generation"] > generation and tree.all_up(),
            60,
            f"{victim} did not come back",
        )
        until(lambda: caller.told[200] > 10, 30)
    after = tree.pids()
    assert after.pop(victim) != before.pop(victim)
    assert after == before, "no other process has changed"
    assert tree.supervisor() == root
    child = tree.children()[victim]
    assert (child["generation"], child["last_exit"]["cause"]) == (generation + 1, "crash")
    # In the instant of its death the API server's own connections break; none is refused, before or after.
    broken = {"RemoteProtocolError", "ReadError"} if victim == "api_server" else set()
    assert set(caller.told) <= {200, 503} | broken, caller.told
    assert sum(caller.told[kind] for kind in broken) <= 2
    row = until(
        lambda: next(
            (
                r
                for r in tree.get("/api/v1/system/history", child=victim).json()["history"]
                if r["event"] == "start" and r["generation"] == generation + 1
            ),
            None,
        ),
        20,
        "the history has no row of it",
    )
    assert row["cause"] == "crash"
    assert row["gap_seconds"] > 0


def test_the_children_outlive_the_supervisor(tree):
    before, root = pids_settle(tree), tree.supervisor()
    with Caller(tree, "/api/v1/market/price/SPY") as caller:
        os.kill(root, signal.SIGKILL)
        until(
            lambda: tree.supervisor() != root and tree.all_up(),
            60,
            "the supervisor did not come back",
        )
    assert tree.pids() == before
    assert set(caller.told) == {200}, "reads need no supervisor"
    victim = "price_ingestor"
    os.kill(before[victim], signal.SIGKILL)
    until(
        lambda: tree.all_up() and tree.pids()[victim] != before[victim], 60, "it does not supervise"
    )


def test_the_supervisor_and_a_child_die_together(tree):
    before, root = pids_settle(tree), tree.supervisor()
    os.kill(before["price_ingestor"], signal.SIGKILL)
    os.kill(root, signal.SIGKILL)
    until(
        lambda: (
            tree.supervisor() != root
            and tree.all_up()
            and tree.pids()["price_ingestor"] != before["price_ingestor"]
        ),
        60,
        "they did not come back",
    )
    after = tree.pids()
    assert {n: p for n, p in after.items() if n != "price_ingestor"} == {
        n: p for n, p in before.items() if n != "price_ingestor"
    }


def test_postgres_killed_in_the_middle_of_refreshes_loses_nothing(tree):
    pids_settle(tree)
    for _ in range(3):
        run = until(lambda: tree.job("prices")["last_state"] == "done" and tree.job("prices"), 60)
        quotes = {row["symbol"]: row for row in tree.query(SNAPSHOT)[0]}
        postmaster = int((tree.home / "pg" / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGKILL)
        until(
            lambda run=run: (
                tree.job("prices")["last_slot"] > run["last_slot"]
                and tree.job("prices")["last_state"] == "done"
            ),
            90,
            "refreshes did not go on",
        )
        for row in tree.query(SNAPSHOT)[0]:
            old = quotes[row["symbol"]]
            assert row["at"] >= old["at"], "an acknowledged quote was lost"
    assert {name: c["state"] for name, c in tree.children().items()} == dict.fromkeys(
        CHILDREN, "up"
    )


SNAPSHOT = "SELECT t.symbol, q.at, q.volume FROM quotes q JOIN tickers t ON t.id = q.ticker_id"


def history_is_whole(tree):
    """Tell whether every process has one start at most, one stop at most, and a stop unless it lives."""
    [rows] = tree.query(
        "SELECT boot, child, generation, event, count(*) AS n FROM actor_history"
        " WHERE event IN ('start', 'stop') GROUP BY boot, child, generation, event",
    )
    assert [row for row in rows if row["n"] > 1] == [], "told twice"
    boot = tree.file("tree.json")["boot"]
    keys = {
        event: {(r["boot"], r["child"], r["generation"]) for r in rows if r["event"] == event}
        for event in ("start", "stop")
    }
    living = {(boot, name, child["generation"]) for name, child in tree.children().items()}
    return tree.all_up() and keys["start"] - keys["stop"] == living


@pytest.fixture(autouse=True, scope="module")
def opened(tree):
    """Open the books once the first refresh is stored."""
    until(lambda: tree.job("prices")["last_state"] == "done", 60)
    quotes, bars = tree.query(ledger.QUOTES, ledger.BARS)
    assert len(quotes) >= 513
    return ledger.accounts(quotes, bars)


@pytest.fixture(autouse=True)
def no_bar_is_lost_or_doubled(tree, opened):
    """Close the books after each kill: nothing is lost, nothing is counted twice."""
    before = ledger.traded(tree.query(ledger.QUOTES)[0])
    yield
    last = tree.job("prices")["last_slot"]
    until(
        lambda: (
            tree.job("prices")["last_slot"] > last and tree.job("prices")["last_state"] == "done"
        ),
        60,
        "no refresh after the kill",
    )
    quotes, bars = tree.query(ledger.QUOTES, ledger.BARS)
    assert ledger.volumes(opened, quotes, bars) == []
    assert ledger.minutes(bars, before | ledger.traded(quotes)) == []


def test_a_killed_head_brings_the_whole_tree_back(tree):
    before = pids_settle(tree)
    for name in ("raylet", "gcs_server"):
        [victim] = [p for p in tree.members() if p.name() == name]
        os.kill(victim.pid, signal.SIGKILL)
        until(
            lambda before=before: (
                tree.all_up() and not set(tree.pids().values()) & set(before.values())
            ),
            150,
            f"the tree did not come back after {name} was killed",
        )
        before = tree.pids()
        assert until(lambda: tree.get("/api/v1/market/price/SPY").status_code == 200, 30)
        until(lambda: tree.job("prices")["last_state"] == "done", 60)
    assert len([p for p in tree.members() if p.name() == "raylet"]) == 1
    # One that the root saw die before it died itself has crashed, as far as anybody knows.
    [found] = tree.query("SELECT FROM actor_history WHERE (event, cause) = ('stop', 'head_lost')")
    assert found


def test_a_killed_sandbox_comes_back(tree):
    pids_settle(tree)
    sandbox = next(p for p in tree.members() if "sandbox" in " ".join(p.cmdline()))
    last = tree.job("prices")["last_slot"]
    sandbox.kill()
    until(
        lambda: (
            tree.job("prices")["last_slot"] > last and tree.job("prices")["last_state"] == "done"
        ),
        90,
        "prices did not go on",
    )


def test_after_all_these_deaths_the_history_tells_of_every_process_once(tree):
    before, root = pids_settle(tree), tree.supervisor()
    os.kill(root, signal.SIGKILL)
    os.kill(before["scheduler"], signal.SIGKILL)  # nobody sees it die
    until(lambda: tree.supervisor() != root and tree.pids()["scheduler"] != before["scheduler"], 60)
    until(lambda: history_is_whole(tree), 60, "a start has no stop, though nobody lives")
    assert "crash (found)" in tree.run("status", "--history", "--limit", "1000").stdout


def test_a_budget_below_what_it_needs_is_given_up_and_the_rest_lives():
    tree = Running(VOLARIS_JOB__PRICES="2", VOLARIS_BUDGET__SCHEDULER="20:30").start(wait=False)
    try:
        until(lambda: tree.children().get("scheduler", {}).get("state") == "gave_up", 120)
        children = tree.children()
        scheduler = children.pop("scheduler")
        assert scheduler["generation"] == 6, "the intensity: 5 restarts in 60 s"
        assert scheduler["last_exit"]["cause"] == "memory_hard"
        assert scheduler["retry_at"] is not None
        assert {c["state"] for c in children.values()} == {"up"}
        assert {c["restarts"] for c in children.values()} == {0}
        ready = tree.get("/ready")
        assert ready.status_code == 503
        assert "gave_up (memory_hard)" in ready.json()["wrong"]["scheduler"]
        away = tree.get("/api/v1/system/jobs")
        assert away.status_code == 503
        assert int(away.headers["retry-after"]) > 60
        assert tree.get("/api/v1/market/price/SPY").status_code == 200
        assert "gave_up" in tree.run("status").stdout
        assert re.search(r"scheduler gave up after 6 failures", tree.logs("supervisor"))
        rows = tree.get("/api/v1/system/history", child="scheduler").json()["history"]
        assert Counter(row["event"] for row in rows)["gave_up"] == 1
    finally:
        assert tree.stop() == []
