"""`python -m sandbox`: the market on this machine, in the foreground."""

import argparse
import json
import os
import sys
from collections.abc import Sequence

# Before numpy comes in: its thread pool would cost memory, and nothing here multiplies matrices.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from sandbox.app import UNUSABLE, Unservable, serve
from sandbox.control import read_at
from sandbox.days import Hours
from sandbox.faults import Unusable, parsed

__all__ = ["main", "serve"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the sandbox as the command line says; return the exit code."""
    asked = _parser().parse_args(arguments)
    try:
        faults = [parsed(_json(text)) for text in asked.fault]
        at = read_at(asked.at)
        if not asked.speed >= 0:
            raise Unusable("speed", f"was {asked.speed:g}", "use a number from 0 up")
        serve(
            asked.host,
            asked.port,
            asked.seed,
            faults=faults,
            at=at,
            speed=asked.speed,
            hours=Hours(asked.hours),
            enforced=asked.enforced,
        )
    except (Unservable, Unusable) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return UNUSABLE
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sandbox",
        description="A market on this machine that speaks the vendors' wire formats.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="loopback only (default %(default)s)")
    parser.add_argument("--port", type=int, default=8900, help="0 = any free one")
    parser.add_argument("--seed", type=int, default=7, help="which market (default %(default)s)")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="JSON",
        help='a fault from the start, as \'{"vendor":"schwab","kind":"latency","seconds":0.1}\'',
    )
    parser.add_argument("--at", metavar="ISO", help="start the clock there, with a time zone")
    parser.add_argument("--speed", type=float, default=1.0, help="how fast the clock runs")
    parser.add_argument(
        "--no-limits",
        dest="enforced",
        action="store_false",
        help="count what the vendors' plans allow without refusing anything",
    )
    parser.add_argument("--hours", choices=[h.value for h in Hours], default=Hours.ALWAYS.value)
    return parser


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        raise Unusable("fault", f"{text!r} is not JSON", 'send {"vendor": …, "kind": …}') from None


if __name__ == "__main__":
    sys.exit(main())
