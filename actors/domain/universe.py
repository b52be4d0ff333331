"""The seed universe: the S&P 500 and ten ETFs, as shipped in `universe.csv`.

The list is of October 2026 (names and GICS sectors from the ODC-PDDL data set
`datasets/s-and-p-500-companies`); it ages by about two names a month.
"""

import csv
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from actors.domain.errors import Implausible
from actors.domain.models import Ticker

FEWEST, MOST = 495, 510  # rows of a list that can be the S&P 500's
TOO_MANY_CHANGES = (
    15  # joined and left together; in a week it is two, and the seed list ages as slowly
)


@cache
def seed() -> tuple[Ticker, ...]:
    """Return the shipped universe, ETFs first, symbols in dot form (BRK.B)."""
    with (files(__package__) / "universe.csv").open(encoding="utf-8") as lines:
        return tuple(
            Ticker(row["symbol"], row["name"], row["kind"], row["sector"] or None)
            for row in csv.DictReader(lines)
        )


def changes(
    before: Iterable[str], listed: Iterable[Ticker]
) -> tuple[tuple[Ticker, ...], tuple[str, ...]]:
    """Return (who joined, who left) by a new list of members; `Implausible` where it cannot be one."""
    known, new = set(before), {ticker.symbol: ticker for ticker in listed}
    if not FEWEST <= len(new) <= MOST:
        why = f"it has {len(new)} members, and the S&P 500 has {FEWEST} to {MOST}"
        raise Implausible("the list of the S&P 500", why)
    joined = tuple(new[symbol] for symbol in sorted(new.keys() - known))
    left = tuple(sorted(known - new.keys()))
    if len(joined) + len(left) >= TOO_MANY_CHANGES:
        why = (
            f"it would change {len(joined) + len(left)} members at once, which has to be fewer than"
            f" {TOO_MANY_CHANGES}: compare it, or update Volaris and with it the seed list"
        )
        raise Implausible("the list of the S&P 500", why)
    return joined, left
