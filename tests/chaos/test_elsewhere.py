"""A child on another node: nobody sees its /proc, so its pulse tells its memory and its own guard ends it.

The other node is a second raylet on this machine, under a host name of its own.
"""

import os
import socket

import pytest

from actors.tree import TREE
from tests.chaos import blows
from tests.chaos.blows import Ray
from tests.running import Node, Running, until

pytestmark = pytest.mark.tree

VICTIM = "price_ingestor"
SOFT = next(row.memory.soft for row in TREE if row.id == VICTIM) >> 20


@pytest.fixture(scope="module")
def tree():
    if not Node.possible():
        pytest.skip("this machine does not let a process have a host name of its own")
    running = Running(
        VOLARIS_JOB__PRICES="2",
        VOLARIS_YOUNG_SECONDS="1",
        VOLARIS_STABLE_SECONDS="0",
        VOLARIS_PLACE__PRICE_INGESTOR="elsewhere",
    )
    node = None
    try:
        running.start(wait=False)
        node = Node(running, "elsewhere")
        until(running.all_up, 120)
        yield running
        running.run("down")
    finally:
        if node:
            node.stop()
        left = running.stop()
    assert left == []


@pytest.fixture(scope="module")
def wire(tree):
    connection = Ray(tree)
    yield connection
    connection.close()


def test_it_is_elsewhere_and_its_memory_is_seen_all_the_same(tree):
    child = until(lambda: (c := tree.children()[VICTIM])["memory_mb"] and c, 20)
    assert child["node"] == "elsewhere"
    assert {c["node"] for n, c in tree.children().items() if n != VICTIM} == {socket.gethostname()}
    assert 20 < child["memory_mb"] < SOFT


def test_over_soft_it_is_relieved(tree, wire):
    before = tree.children()
    first = before[VICTIM]
    wire.blow(VICTIM, blows.leak, SOFT - 40, 1.0)
    until(
        lambda: tree.children()[VICTIM]["generation"] == first["generation"] + 1 and tree.all_up(),
        60,
        "it was not relieved",
    )
    until(lambda: not os.path.exists(f"/proc/{first['pid']}"), 60, "the old one did not go")
    after = tree.children()
    assert (after[VICTIM]["replacements"], after[VICTIM]["restarts"]) == (1, 0)
    assert (after[VICTIM]["last_exit"]["cause"], after[VICTIM]["node"]) == (
        "memory_soft",
        "elsewhere",
    )


def test_over_hard_with_its_loop_blocked_it_is_ended_where_it_is(tree, wire):
    before = tree.children()
    wire.blow(VICTIM, blows.block_loop_and_leak, 1024, 5)
    tree.back_alone(VICTIM, before)
    assert tree.guard_ended(before[VICTIM])


def test_over_hard_in_a_c_call_that_holds_the_gil_it_is_ended_from_beside(tree, wire):
    """Its guard cannot run; the call is so slow that otherwise it would be killed as hung."""
    before = tree.children()
    sender = blows.Sender(1024, 80)
    wire.blow(VICTIM, blows.receive_in_c, sender.port, 1024)
    tree.back_alone(VICTIM, before)
