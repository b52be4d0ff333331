"""Changed bodies of every vendor through every parser: nothing but the adapters' own errors may come out.

`python -m benchmarks.fuzz [--bodies 100000] [--seed 1]`

The bodies are those of the unit tests (`SEEDS`), each with up to four places changed, lost or doubled.
"""

import argparse
import copy
import importlib
import json
import math
import random
import time
from collections import Counter
from pathlib import Path

from actors.providers.base import ProviderError

TESTS = Path(__file__).parents[1] / "tests" / "unit"
NASTY = (
    None, True, -999.0, "NaN", "", math.nan, math.inf, -math.inf, 0, -1, 10**400, 1e308, 2**63, 5e-324,
    "2026-11-24", "2026-13-45", "0001-01-01T00:00:00+14:00", "9" * 5000, "\x00", [], [None], {}, {"x": None},
)  # fmt: skip


def spoil(chance, value):
    """Change one place of a body."""
    if not (isinstance(value, dict | list) and value) or chance.random() < 0.1:
        return copy.deepcopy(chance.choice(NASTY))
    key = chance.choice(sorted(value)) if isinstance(value, dict) else chance.randrange(len(value))
    what = chance.random()
    if what < 0.15:
        del value[key]
    elif what < 0.25 and isinstance(value, list):
        value.append(copy.deepcopy(value[key]))
    else:
        value[key] = spoil(chance, value[key])
    return value


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bodies", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    seeds = {
        path.stem.removeprefix("test_").removesuffix("_parse"): importlib.import_module(
            f"tests.unit.{path.stem}"
        ).SEEDS
        for path in sorted(TESTS.glob("test_*_parse.py"))
    }
    parsers = sum(len(found) for found in seeds.values())
    chance, foreign, rows = random.Random(options.seed), [], []
    for vendor, found in seeds.items():
        told, began, bodies = Counter(), time.perf_counter(), 0
        for parse, seed in found:
            for _ in range(math.ceil(options.bodies / parsers)):
                body = copy.deepcopy(seed)
                for _ in range(chance.randint(1, 4)):
                    body = spoil(chance, body)
                bodies += 1
                try:
                    parse(body)
                except ProviderError as e:
                    told[type(e).__name__] += 1
                except Exception as e:
                    foreign.append(f"{vendor}: {e!r} of {body!r}"[:400])
                else:
                    told["read"] += 1
        rows.append((vendor, len(found), bodies, told, time.perf_counter() - began))
    print(f"{'vendor':12}{'parsers':>8}{'bodies':>9}{'seconds':>9}  what came of them")
    for vendor, n, bodies, told, seconds in rows:
        said = ", ".join(f"{count} {name}" for name, count in told.most_common())
        print(f"{vendor:12}{n:8}{bodies:9}{seconds:9.1f}  {said}")
    print(f"errors that are not the adapters' own: {len(foreign)}")
    for line in foreign[:10]:
        print(f"  {line}")
    total = sum(row[2] for row in rows)
    print(json.dumps({"benchmark": "fuzz", "bodies": total, "foreign": len(foreign)}))
    if foreign:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
