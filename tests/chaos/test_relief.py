"""Budgets, reliefs and hangs on a real tree: exactly the guilty one is replaced, and nobody who asks notices."""

import asyncio
import os
import re
import signal
import threading
import time

import numpy as np
import psutil
import pytest
import ray

from actors import memory
from actors.client import Tree
from actors.runtime import Line
from actors.spec import MIB
from actors.tree import TREE
from tests.chaos import blows
from tests.chaos.blows import Ray
from tests.running import Running, until

pytestmark = pytest.mark.tree

HARD = {row.id: row.memory.hard // MIB for row in TREE}
SOFT = {row.id: row.memory.soft // MIB for row in TREE}


@pytest.fixture(scope="module")
def tree():
    # A process is grown up after a minute; here after a second, so that a relief is a planned one, and no
    # failure waits for those before it.
    running = Running(
        VOLARIS_JOB__PRICES="2",
        VOLARIS_YOUNG_SECONDS="1",
        VOLARIS_STABLE_SECONDS="0",
        VOLARIS_RECORD="1",
    )
    try:
        yield running.start()
    finally:
        left = running.stop()
    assert left == []


@pytest.fixture(scope="module")
def wire(tree):
    connection = Ray(tree)
    yield connection
    connection.close()


@pytest.fixture(autouse=True)
def calm(tree):
    """Begin each test with a tree that is up, and grown up."""
    until(tree.all_up, 60)
    until(lambda: all(age(child) > 1.5 for child in tree.children().values()), 30)


def age(child):
    return time.time() - psutil.Process(child["pid"]).create_time()


class Asking(threading.Thread):
    """Asks an actor every 5 ms as an edge would, and notes what fails and how long an answer took."""

    def __init__(self, ask, seconds=10.0):
        super().__init__(daemon=True)
        self.ask, self.seconds, self.stop = ask, seconds, threading.Event()
        self.answers, self.failures, self.longest = 0, [], 0.0

    def run(self):
        asyncio.run(self.go())

    async def go(self):
        tree = Tree(Line(), self.seconds)
        while not self.stop.is_set():
            began = time.monotonic()
            try:
                await self.ask(tree)
                self.answers += 1
            except Exception as e:
                self.failures.append(e)
            self.longest = max(self.longest, time.monotonic() - began)
            await asyncio.sleep(0.005)

    def __enter__(self):
        self.start()
        until(lambda: self.answers or self.failures, 20)
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.join(30)


def spy(tree):
    return tree.price_ingestor.quote("SPY")


def row(tree, child, event, generation):
    def find():
        rows = tree.get("/api/v1/system/history", child=child, limit=200).json()["history"]
        return next((r for r in rows if (r["event"], r["generation"]) == (event, generation)), None)

    return until(find, 30, f"no {event} of {child}.{generation}")


def test_the_head_keeps_no_record_of_the_tree_s_calls(tree, wire):
    """It would keep 100,000 of them: pulses alone would let it grow for hours."""

    def recorded():
        return [event.task_info.name for event in ray._private.state.state._get_all_task_events()]

    # The calls of this test's own process are recorded: what is not found is not there.
    wire.blow("scheduler", blows.leak, 1, 0.01)
    until(lambda: any("ray_call" in name for name in recorded()), 30)
    assert not any("pulse" in name for name in recorded())


def test_a_bloated_child_is_relieved_beside_and_nobody_who_asks_notices(tree, wire):
    before = tree.children()
    first = before["price_ingestor"]
    with Asking(spy) as asking:
        wire.blow("price_ingestor", blows.leak, SOFT["price_ingestor"] - 40, 1.0)
        until(
            lambda: (
                tree.children()["price_ingestor"]["generation"] == first["generation"] + 1
                and not os.path.exists(f"/proc/{first['pid']}")
            ),
            60,
            "it was not relieved",
        )
        time.sleep(0.5)
    assert asking.failures == []
    assert asking.answers > 50
    after = tree.children()
    assert after["price_ingestor"]["replacements"] == first["replacements"] + 1
    assert after["price_ingestor"]["restarts"] == first["restarts"]
    assert {n: c["pid"] for n, c in after.items() if n != "price_ingestor"} == {
        n: c["pid"] for n, c in before.items() if n != "price_ingestor"
    }
    stop = row(tree, "price_ingestor", "stop", first["generation"])
    assert stop["cause"] == "memory_soft"
    assert stop["memory_mb"] > SOFT["price_ingestor"]
    assert stop["drain_seconds"] < 20
    start = row(tree, "price_ingestor", "start", first["generation"] + 1)
    assert (start["cause"], start["gap_seconds"]) == ("memory_soft", 0.0)


def test_the_api_server_is_relieved_without_a_refused_connection(tree, wire):
    first = tree.children()["api_server"]
    told, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            try:
                told.append(tree.get("/health").status_code)
            except Exception as e:
                told.append(e)

    asker = threading.Thread(target=ask)
    asker.start()
    wire.blow("api_server", blows.leak, SOFT["api_server"] - 40, 1.0)
    until(lambda: not os.path.exists(f"/proc/{first['pid']}"), 60, "it was not relieved")
    stop.set()
    asker.join()
    bad = [one for one in told if one != 200]
    assert bad == []
    assert len(told) > 50


def test_a_child_that_may_be_only_one_drains_first_and_its_callers_wait(tree, wire):
    first = tree.children()["provider_pool"]
    with Asking(lambda tree: tree.provider_pool.status()) as asking:
        wire.blow("provider_pool", blows.leak, SOFT["provider_pool"] - 30, 1.0)
        until(
            lambda: (
                tree.children()["provider_pool"]["generation"] == first["generation"] + 1
                and tree.all_up()
            ),
            60,
        )
    assert asking.failures == []
    start = row(tree, "provider_pool", "start", first["generation"] + 1)
    assert start["cause"] == "memory_soft"
    assert 0 < start["gap_seconds"] < 20


@pytest.mark.parametrize("victim", ["price_ingestor", "api_server"])
@pytest.mark.parametrize(
    ("how", "args"),
    [(blows.balloon, (1024,)), (blows.block_loop_and_leak, (300, 1.5))],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_over_hard_is_killed_alone(tree, wire, victim, how, args):
    before = tree.children()
    wire.blow(victim, how, *args)
    tree.back_alone(victim, before)


def test_over_hard_in_a_c_call_that_holds_the_gil_is_ended_by_the_root(tree, wire):
    before = tree.children()
    sender = blows.Sender(1024, 200)
    wire.blow("price_ingestor", blows.receive_in_c, sender.port, 1024)
    tree.back_alone("price_ingestor", before)
    assert not tree.guard_ended(before["price_ingestor"])


def test_over_hard_while_the_root_is_stopped_is_ended_by_the_guard(tree, wire):
    """It has lived through a lack of files by then, in which it could not look."""
    before, root = tree.children(), tree.supervisor()
    first = before["price_ingestor"]
    wire.blow("price_ingestor", blows.run_out_of_files, 0.5)
    os.kill(root, signal.SIGSTOP)
    try:
        wire.blow("price_ingestor", blows.leak, 1024, 5)
        until(lambda: not os.path.exists(f"/proc/{first['pid']}"), 30, "the guard does not look")
    finally:
        os.kill(root, signal.SIGCONT)
    tree.back_alone("price_ingestor", before)
    assert tree.guard_ended(first)
    assert tree.supervisor() == root


def test_the_kernel_would_take_any_child_before_the_root_and_the_database(tree):
    def offered(pid):
        with open(f"/proc/{pid}/oom_score_adj") as file:
            return int(file.read())

    children = set(tree.pids().values())
    postmaster = psutil.Process(int((tree.home / "pg/data/postmaster.pid").read_text().split()[0]))
    others = {process.pid for process in [*tree.members(), postmaster]} - children
    others |= {process.pid for process in postmaster.children()}
    assert tree.supervisor() in others
    assert min(map(offered, children)) > max(map(offered, others))


@pytest.mark.parametrize(
    ("victim", "how"),
    [("scheduler", None), ("api_server", blows.block_loop), ("provider_pool", blows.hold_gil)],
    ids=["stopped", "loop blocked", "GIL held"],
)
def test_a_hung_child_is_killed_as_hung(tree, wire, victim, how):
    first = tree.children()[victim]
    if how is None:
        os.kill(first["pid"], signal.SIGSTOP)
    else:
        wire.blow(victim, how)
    until(
        lambda: tree.children()[victim]["generation"] == first["generation"] + 1 and tree.all_up(),
        60,
        "it was not killed",
    )
    assert tree.children()[victim]["last_exit"]["cause"] == "hang"
    assert not os.path.exists(f"/proc/{first['pid']}")


def test_a_clean_exit_is_an_exit_and_it_comes_back(tree, wire):
    first = tree.children()["provider_pool"]
    wire.blow("provider_pool", blows.exit_now)
    until(
        lambda: (
            tree.children()["provider_pool"]["generation"] == first["generation"] + 1
            and tree.all_up()
        ),
        60,
    )


def test_three_children_share_an_array_and_only_the_one_with_a_heap_of_its_own_is_relieved(
    tree, wire
):
    before = tree.children()
    boxed = [ray.put(np.ones(60 * MIB // 8))]
    for child in ("price_ingestor", "api_server", "scheduler"):
        assert wire.blow(child, blows.read_array, boxed) == 60 * MIB / 8
    shared = psutil.Process(before["scheduler"]["pid"]).memory_info()
    assert shared.rss - memory.private(before["scheduler"]["pid"]) > 60 * MIB
    time.sleep(4)  # sixteen looks, twice what a leak needs
    assert tree.pids() == {n: c["pid"] for n, c in before.items()}, "shared memory is nobody's"
    wire.blow("price_ingestor", blows.leak, SOFT["price_ingestor"] - 40, 0.5)
    until(
        lambda: (
            tree.children()["price_ingestor"]["generation"]
            == before["price_ingestor"]["generation"] + 1
        ),
        60,
    )
    until(tree.all_up, 30)
    changed = {n for n, pid in tree.pids().items() if pid != before[n]["pid"]}
    assert changed == {"price_ingestor"}


def is_host(process):
    try:
        return process.name().startswith("ray::Host")
    except psutil.Error:  # it has ended since it was listed
        return False


def test_all_grow_together_and_one_is_relieved_at_a_time(tree, wire):
    before = tree.children()
    most, stop = [0], threading.Event()

    def count():
        while not stop.is_set():
            most[0] = max(most[0], sum(map(is_host, tree.members())))

    counter = threading.Thread(target=count)
    counter.start()
    for child in before:
        wire.blow(child, blows.leak, SOFT[child] - 35, 1.0)
    until(
        lambda: (
            all(c["generation"] == before[n]["generation"] + 1 for n, c in tree.children().items())
            and tree.all_up()
            and not any(os.path.exists(f"/proc/{c['pid']}") for c in before.values())
        ),
        150,
        "not all were relieved",
    )
    stop.set()
    counter.join()
    assert most[0] <= len(before) + 1 + 1, "the children, the root, and one extra copy"
    assert {c["replacements"] - before[n]["replacements"] for n, c in tree.children().items()} == {
        1
    }


def test_the_root_adopts_a_hung_child_and_kills_it(tree):
    before, root = tree.children(), tree.supervisor()
    os.kill(before["scheduler"]["pid"], signal.SIGSTOP)
    os.kill(root, signal.SIGKILL)
    until(
        lambda: (
            tree.supervisor() != root
            and tree.children()["scheduler"]["pid"] not in (None, before["scheduler"]["pid"])
            and tree.all_up()
        ),
        90,
    )
    assert not os.path.exists(f"/proc/{before['scheduler']['pid']}")
    others = {n: c["pid"] for n, c in tree.children().items() if n != "scheduler"}
    assert others == {n: c["pid"] for n, c in before.items() if n != "scheduler"}


def test_work_in_hand_is_finished_before_the_old_one_goes(tree, wire):
    """A call that is on its way across a relief returns its answer."""
    first = tree.children()["price_ingestor"]
    tree.http.post(
        tree.sandbox("/control/faults"),
        json={"vendor": "schwab", "kind": "latency", "rate": 1, "seconds": 8},
    ).raise_for_status()
    answers = []

    def ask():
        answers.append(asyncio.run(Tree(Line(), 60.0).price_ingestor.refresh()))

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        wire.blow("price_ingestor", blows.leak, SOFT["price_ingestor"] - 40, 0.5)
        until(
            lambda: tree.children()["price_ingestor"]["generation"] == first["generation"] + 1, 30
        )
        assert not answers, "it was still on its way when the new one took over"
        asker.join(60)
    finally:
        tree.http.delete(tree.sandbox("/control/faults")).raise_for_status()
    assert answers[0].asked >= 513
    assert not answers[0].failed
    until(lambda: not os.path.exists(f"/proc/{first['pid']}"), 60)


def test_all_of_it_judged_again_is_the_same_and_with_another_budget_is_not(tree, wire):
    """The record is of this kill and this relief, and of all that was done to the tree before."""
    first = tree.children()
    os.kill(first["scheduler"]["pid"], signal.SIGKILL)
    wire.blow("price_ingestor", blows.leak, SOFT["price_ingestor"] - 40, 0.5)
    until(
        lambda: (
            tree.all_up()
            and tree.children()["scheduler"]["generation"] > first["scheduler"]["generation"]
            and not os.path.exists(f"/proc/{first['price_ingestor']['pid']}")
        ),
        60,
        "they were not replaced",
    )
    record = str(tree.home / "logs" / "judgements.jsonl")
    same = tree.run("replay", record).stdout
    assert "every order is the recorded one" in same
    assert "could not be read" not in same
    for order in ("start +crash", "start +boot", "relieve +memory_soft", "switch +memory_soft"):
        assert re.search(rf"^{order} +([1-9]\d*) +\1$", same, re.MULTILINE), same
    other = tree.run("replay", record, "--budget", "price_ingestor=400:500").stdout
    assert "orders that differ with other budgets: " in other
    assert re.search(r"price_ingestor +relieve \(memory_soft\) +nothing", other), other
    refused = tree.run("replay", record, "--budget", "nobody=1:2", check=False)
    assert (refused.returncode, "--budget nobody=1:2: the record has" in refused.stderr) == (
        78,
        True,
    )
