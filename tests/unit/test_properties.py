"""The table of promises names tests that there are."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_every_test_the_table_names_is_there():
    named = set(re.findall(r"`(test_\w+)`", (TESTS / "PROPERTIES.md").read_text()))
    found = {
        name
        for path in TESTS.rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert len(named) > 12
    assert named - found == set()
