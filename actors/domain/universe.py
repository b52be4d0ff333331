"""The seed universe: the S&P 500 and ten ETFs, as shipped in `universe.csv`.

The list is of October 2026 (names and GICS sectors from the ODC-PDDL data set
`datasets/s-and-p-500-companies`); it ages by about two names a month.
"""

import csv
from functools import cache
from importlib.resources import files

from actors.domain.models import Ticker


@cache
def seed() -> tuple[Ticker, ...]:
    """Return the shipped universe, ETFs first, symbols in dot form (BRK.B)."""
    with (files(__package__) / "universe.csv").open(encoding="utf-8") as lines:
        return tuple(
            Ticker(row["symbol"], row["name"], row["kind"], row["sector"] or None)
            for row in csv.DictReader(lines)
        )
