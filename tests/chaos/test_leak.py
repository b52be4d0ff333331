"""A child that must be relieved again and again is reported as a leak, with the place it leaks from."""

import pytest

from tests.chaos import blows
from tests.chaos.blows import Ray
from tests.running import Running, until

pytestmark = pytest.mark.tree

VICTIM = "scheduler"


def test_more_than_six_reliefs_an_hour_are_reported_with_the_file_that_leaks():
    tree = Running(
        VOLARIS_JOB__PRICES="off",
        VOLARIS_YOUNG_SECONDS="0",
        VOLARIS_TRACE_MEMORY="1",
        VOLARIS_BUDGET__SCHEDULER="110:300",
    ).start()
    try:
        wire = Ray(tree)
        for relief in range(1, 8):
            before = tree.children()[VICTIM]
            assert before["leak"] is None, f"told after {relief - 1} reliefs"
            wire.blow(VICTIM, blows.leak, 70, 0.2)
            until(
                lambda before=before: (
                    tree.all_up()
                    and tree.children()[VICTIM]["generation"] == before["generation"] + 1
                ),
                60,
                "it was not relieved",
            )
        told = tree.children()[VICTIM]
        assert "relieved 7 times within an hour" in told["leak"]
        assert (told["replacements"], told["restarts"]) == (7, 0)
        assert "scheduler leaks: relieved 7 times" in tree.logs("supervisor")
        rows = until(
            lambda: [
                r
                for r in tree.get("/api/v1/system/history", child=VICTIM).json()["history"]
                if r["cause"] == "memory_soft" and r["event"] == "stop"
            ],
            20,
        )
        sites = rows[0]["detail"]["sites"]
        assert "blows.py" in sites[0], "the record names the file that leaks"
        wire.close()
    finally:
        assert tree.stop() == []
