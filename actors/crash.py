"""Points where a process dies on purpose, for the tests of what a crash between two steps can break.

Off unless `VOLARIS_CRASH_AFTER` names points, each with a probability:
`supervisor.after_switch=0.5,scheduler.claimed=1`.
"""

import logging
import os
import random
from collections.abc import Mapping
from functools import cache

EXIT = 70

log = logging.getLogger("volaris.crash")


@cache
def _points() -> Mapping[str, float]:
    given = os.environ.get("VOLARIS_CRASH_AFTER", "")
    pairs = (entry.partition("=") for entry in given.split(",") if entry.strip())
    return {name.strip(): float(chance or 1) for name, _, chance in pairs}


def point(name: str) -> None:
    """Die here, if this point was named and the dice say so."""
    chance = _points().get(name, 0.0)
    if chance and random.random() < chance:  # noqa: S311
        log.warning("dying at %s", name)
        os._exit(EXIT)
