"""What must be true of the rows a tree leaves behind, whatever was killed: rows in, violations out, no I/O.

A row is a mapping of column names to values, as asyncpg returns it.  A violation is one sentence; an empty
list means that everything adds up.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from actors.domain.bars import FRESH, minute, trading_day

Row = Mapping[str, Any]

QUOTES = (
    "SELECT t.symbol, q.at, q.fetched_at, q.last, q.volume, q.counted, q.counted_on"
    " FROM quotes q JOIN tickers t ON t.id = q.ticker_id"
)
BARS = "SELECT t.symbol, b.at, b.volume FROM bars_1m b JOIN tickers t ON t.id = b.ticker_id"

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ENDED = frozenset({"done", "failed", "missed", "lost"})


def grid(rows: Iterable[Row], every: timedelta) -> list[datetime]:
    """Return the slots there must be: every one from the first row's to the last row's."""
    found = [row["slot"] for row in rows]
    if not found:
        return []
    first = min(found) + (EPOCH - min(found)) % every
    return [first + n * every for n in range((max(found) - first) // every + 1)]


def slots(rows: Iterable[Row], every: timedelta) -> list[str]:
    """Judge the runs of one job (slot, state, error): each slot is one row, and the row says how it ended.

    The newest one may still run.
    """
    rows = list(rows)
    found = Counter(row["slot"] for row in rows)
    wrong = [f"slot {slot} has {n} rows" for slot, n in sorted(found.items()) if n > 1]
    expected = grid(rows, every)
    wrong += [f"slot {slot} is absent" for slot in expected if slot not in found]
    wrong += [f"slot {slot} is none of the job" for slot in sorted(found.keys() - set(expected))]
    newest = max(found, default=None)
    for row in rows:
        state, slot = row["state"], row["slot"]
        if state not in ENDED and not (state == "running" and slot == newest):
            wrong.append(f"slot {slot} is still {state}")
        elif state in ENDED - {"done"} and not row["error"]:
            wrong.append(f"slot {slot} is {state} without a reason")
    return wrong


@dataclass(frozen=True, slots=True)
class Account:
    """One symbol's volume: its trading day, and what is counted of it that is in no bar.

    The latter is what was traded before the first observation.  A lost bar raises it, a doubled one
    lowers it; nothing else may move it.
    """

    day: date
    before: int


def accounts(quotes: Iterable[Row], bars: Iterable[Row]) -> dict[str, Account]:
    """Open the books on quotes (symbol, counted, counted_on) and 1-minute bars (symbol, at, volume)."""
    held: Counter[tuple[str, date]] = Counter()
    for bar in bars:
        held[bar["symbol"], trading_day(bar["at"])] += bar["volume"]
    return {
        row["symbol"]: Account(
            row["counted_on"], (row["counted"] or 0) - held[row["symbol"], row["counted_on"]]
        )
        for row in quotes
    }


def volumes(opened: Mapping[str, Account], quotes: Iterable[Row], bars: Iterable[Row]) -> list[str]:
    """Close the books: of each symbol nothing is lost, nothing is counted twice, and all told is counted.

    A day that has begun since the opening was counted from 0.
    """
    quotes = list(quotes)
    closed = accounts(quotes, bars)
    wrong = [f"{symbol} has no quote any more" for symbol in opened.keys() - closed.keys()]
    for symbol, account in closed.items():
        if symbol not in opened:
            continue
        before = opened[symbol].before if opened[symbol].day == account.day else 0
        if account.before > before:
            wrong.append(f"{symbol} has lost {account.before - before} shares of {account.day}")
        elif account.before < before:
            wrong.append(f"{symbol} counts {before - account.before} shares of {account.day} twice")
    wrong += [
        f"{row['symbol']} was told {row['volume']} shares and has counted {row['counted']}"
        for row in quotes
        if row["volume"] is not None and row["counted"] != row["volume"]
    ]
    return wrong


def traded(quotes: Iterable[Row]) -> set[tuple[str, datetime]]:
    """Return the (symbol, minute) that stored quotes (last, at, fetched_at) promise a bar of."""
    return {
        (row["symbol"], minute(row["at"]))
        for row in quotes
        if row["last"] is not None and abs(row["fetched_at"] - row["at"]) <= FRESH
    }


def minutes(bars: Iterable[Row], promised: Iterable[tuple[str, datetime]]) -> list[str]:
    """Judge bars (symbol, at): each minute once, and one for each (symbol, minute) that was promised."""
    found = Counter((bar["symbol"], bar["at"]) for bar in bars)
    wrong = [f"{symbol} has {n} bars of {at}" for (symbol, at), n in found.items() if n > 1]
    return wrong + [
        f"{symbol} has no bar of {at}, though a quote of then was stored"
        for symbol, at in sorted(set(promised) - found.keys())
    ]


def history(rows: Iterable[Row], living: Mapping[str, int]) -> list[str]:
    """Judge starts and stops (child, generation, event, at) of one boot, given who lives.

    Generations rise by one; each starts at most once (one may end before it was up) and stops once, unless
    it lives.
    """
    wrong: list[str] = []
    lives: dict[str, dict[int, dict[str, list[Row]]]] = defaultdict(
        lambda: defaultdict(lambda: {"start": [], "stop": []})
    )
    for row in rows:
        if row["event"] in ("start", "stop"):
            lives[row["child"]][row["generation"]][row["event"]].append(row)
    for child in sorted(lives.keys() | living.keys()):
        generations, newest = lives[child], living.get(child)
        last = max([*generations, newest or 0])
        wrong += [f"{child}.{n} is in no row" for n in range(1, last + 1) if n not in generations]
        if newest is not None and newest != last:
            wrong.append(f"{child}.{newest} lives, and there are rows of {child}.{last}")
        for n, events in sorted(generations.items()):
            name, starts, stops = f"{child}.{n}", events["start"], events["stop"]
            wrong += [
                f"{name} has {len(found)} rows of its {what}"
                for what, found in events.items()
                if len(found) > 1
            ]
            if starts and stops and stops[0]["at"] < starts[0]["at"]:
                wrong.append(f"{name} stopped before it had started")
            if n == newest and stops:
                wrong.append(f"{name} lives, and a row says that it stopped")
            elif n == newest and not starts:
                wrong.append(f"{name} lives, and no row says that it started")
            elif n != newest and not stops:
                wrong.append(f"{name} has no stop")
    return wrong


def stops(rows: Iterable[Row], outages: Collection[tuple[datetime, datetime]]) -> list[Row]:
    """Return the stops (event, cause, at) but those of a head's outage.

    It takes every child with it, which a living root may have seen, or the next one finds.
    """
    return [
        row
        for row in rows
        if row["event"] == "stop"
        and row["cause"] != "head_lost"
        and not any(a <= row["at"] <= b for a, b in outages)
    ]


def causes(stopped: Iterable[Row], dealt: Iterable[tuple[str, str]]) -> list[str]:
    """Compare stops (child, cause) with the (child, cause) that somebody brought about on purpose."""
    found = Counter((row["child"], row["cause"]) for row in stopped)
    expected = Counter(dealt)
    return [
        f"{child} stopped {found[child, cause]} times of {cause}, {expected[child, cause]} were due"
        for child, cause in sorted(found.keys() | expected.keys())
        if found[child, cause] != expected[child, cause]
    ]
