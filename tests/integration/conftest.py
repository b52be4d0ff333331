"""The fixtures of tests that use a whole tree."""

import pytest

from tests.running import Running


@pytest.fixture(scope="module")
def tree():
    """Give a tree in the sandbox that refreshes every two seconds; nothing of it may outlive the test."""
    running = Running(VOLARIS_JOB__PRICES="2")
    try:
        yield running.start()
    finally:
        left = running.stop()
    assert left == []
