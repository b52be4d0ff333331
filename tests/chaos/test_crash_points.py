"""The root dies between two steps of a relief; whatever it left half done, it ends with one process a child."""

import os

import pytest

from actors.tree import TREE
from tests.chaos import blows
from tests.chaos.blows import Ray
from tests.running import Running, alive, until

pytestmark = pytest.mark.tree

VICTIM = "price_ingestor"
SOFT = next(row.memory.soft for row in TREE if row.id == VICTIM) >> 20


@pytest.fixture(scope="module")
def tree():
    points = ("before_switch", "after_switch", "after_burial")
    running = Running(
        VOLARIS_JOB__PRICES="2",
        VOLARIS_YOUNG_SECONDS="1",
        VOLARIS_CRASH_AFTER=",".join(f"supervisor.{point}=0.5" for point in points),
    )
    try:
        yield running.start()
    finally:
        left = running.stop()
    assert left == []


def hosts(tree):
    """Return the pids of every actor process of the tree but the root."""
    return {
        process.pid
        for process in tree.members()
        if "ray::Host" in " ".join(process.cmdline()) and process.pid != tree.supervisor()
    }


def test_a_root_that_dies_in_the_middle_of_reliefs_leaves_neither_orphan_nor_second_copy(tree):
    wire, roots = Ray(tree), {tree.supervisor()}
    try:
        for _ in range(3):
            before = tree.pids()
            wire.blow(VICTIM, blows.leak, SOFT - 40, 0.5)

            def relieved(before=before):
                roots.add(tree.supervisor())
                return (
                    tree.all_up()
                    and tree.pids()[VICTIM] != before[VICTIM]
                    and not os.path.exists(f"/proc/{before[VICTIM]}")
                )

            until(relieved, 90, "it was never relieved")
            until(lambda: hosts(tree) == set(tree.pids().values()), 30, "somebody is forgotten")
            assert {n: p for n, p in tree.pids().items() if n != VICTIM} == {
                n: p for n, p in before.items() if n != VICTIM
            }
    finally:
        wire.close()
    assert len(roots) > 1, "the root never died: the test proves nothing"
    assert all(alive(process) for process in tree.members() if process.pid == tree.supervisor())
