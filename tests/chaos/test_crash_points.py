"""The root, the clock and the writer of prices die between two steps; what they left half done is told and mended."""

import asyncio
import os
from collections import Counter
from datetime import timedelta
from itertools import pairwise

import asyncpg
import pytest

from actors.tree import TREE
from tests.chaos import blows, ledger
from tests.chaos.blows import Ray
from tests.chaos.test_kill import history_is_whole
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
    until(lambda: history_is_whole(tree), 30, "what a root did before it died was not told")
    assert all(alive(process) for process in tree.members() if process.pid == tree.supervisor())


WATCH_RUNS = """
CREATE TABLE told (n bigserial, slot timestamptz, state text);
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO told (slot, state) VALUES (NEW.slot, NEW.state); RETURN NULL; END';
CREATE TRIGGER tell AFTER INSERT OR UPDATE ON job_runs FOR EACH ROW EXECUTE FUNCTION tell();
"""
LIVES_OF_A_SLOT = {
    ("running",),
    ("running", "done"),
    ("running", "lost"),
    ("missed",),
}


def watched(tree):
    """Let the tree's own database write down every state that a run ever has."""

    async def go():
        connection = await asyncpg.connect(f"postgresql://postgres@/volaris?host={tree.home}/pg")
        try:
            await connection.execute(WATCH_RUNS)
        finally:
            await connection.close()
        return True

    try:
        return asyncio.run(go())
    except (OSError, asyncpg.PostgresError):
        return False


def deaths(tree):
    """Return how often a process died at each point, as it said itself with its last words."""
    said = "".join(tree.logs(name) for name in ("scheduler", "price_ingestor"))
    return Counter(line.split()[-1] for line in said.splitlines() if "dying at" in line)


def lives_of_slots(tree):
    """Return by slot every state its run has had, in order."""
    lives = {}
    for row in tree.query("SELECT slot, state FROM told ORDER BY n")[0]:
        lives[row["slot"]] = (*lives.get(row["slot"], ()), row["state"])
    return lives


def test_twenty_deaths_between_two_steps_lose_no_slot_and_no_share():
    points = [f"scheduler.{point}" for point in ("claimed", "answered")]
    points += [f"price_ingestor.{point}" for point in ("storing", "stored")]
    tree = Running(
        VOLARIS_JOB__PRICES="1",
        VOLARIS_JOB__RETENTION="off",
        VOLARIS_JOB__EOD="off",
        VOLARIS_INTENSITY="100000:60",
        VOLARIS_STABLE_SECONDS="0",  # each death is the first of its row: no backoff
        VOLARIS_CRASH_AFTER=",".join(f"{point}=0.4" for point in points),
    ).start(wait=False)
    try:
        until(lambda: watched(tree), 60)
        until(lambda: tree.query("SELECT FROM quotes LIMIT 1")[0], 120, "nothing was ever stored")
        opened = ledger.accounts(*tree.query(ledger.QUOTES, ledger.BARS))
        until(
            lambda: (found := deaths(tree)).total() >= 20 and {*points} <= {*found},
            120,
            "too few have died: the test proves nothing",
        )
        until(lambda: ("running", "done") in lives_of_slots(tree).values(), 60, "none was done")

        def all_lost_are_told():
            lost = Counter(lives_of_slots(tree).values())["running", "lost"]
            return lost == sum(deaths(tree)[point] for point in points[:2])

        until(all_lost_are_told, 60, "a lost run is not recorded as lost", every=0.05)
        lives = lives_of_slots(tree)
        assert {*lives.values()} <= LIVES_OF_A_SLOT, "a slot was run twice"
        steps = {later - earlier for earlier, later in pairwise(sorted(lives))}
        assert steps == {timedelta(seconds=1)}, "a slot is absent"
        assert ledger.volumes(opened, *tree.query(ledger.QUOTES, ledger.BARS)) == []
        [ended] = tree.query("SELECT DISTINCT child, cause FROM actor_history WHERE event = 'stop'")
        assert {(row["child"], row["cause"]) for row in ended} == {
            ("scheduler", "crash"),
            ("price_ingestor", "crash"),
        }
    finally:
        assert tree.stop() == []
