"""Made-up stories about what is listed: a function of seed and time, as the prices are.

Time is cut into slots of five minutes, and most slots bring one story; so a window costs a few array
operations, and a story has the same number whenever and by whoever it is found.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from sandbox.listing import DOW, key
from sandbox.market import Market
from sandbox.paths import Ints, mixed, uniform

SLOT = 300_000  # ms
_CHUNK = 2016  # slots looked through at once: a week
_FIRST_ID = 40_000_000  # of the slot that is 2015

_OLDEST = int(datetime(2015, 1, 1, tzinfo=UTC).timestamp() * 1000) // SLOT

_FAMOUS = (*sorted(DOW), "SPY", "QQQ", "TSLA", "META", "GOOGL", "NFLX", "AMD", "BRK.B", "PLTR")

_PUBLISHERS = ("The Sandbox Wire", "Made-Up Markets", "Example Ledger", "Paper Street News")
_AUTHORS = ("Ada Vantage", "Ben Tickler", "Cleo Spread", "Dan Delta", "Eve Theta", "Max Payne")

# headline, summary, sentiment, keywords; {0} is the first company, {1} the second where there is one
_TEMPLATES = (
    (
        "{0} wins a large order, suppliers say",
        "People who supply {0} speak of more work than they can do this year.",
        "positive",
        ("orders", "supply chain"),
    ),
    (
        "Analysts lift their view of {0}",
        "Two houses raised what they expect of {0} before its next report.",
        "positive",
        ("analysts", "ratings"),
    ),
    (
        "{0} and {1} agree to share a plant",
        "{0} will build parts for {1} under a contract of five years.",
        "positive",
        ("partnership", "manufacturing"),
    ),
    (
        "What options traders expect of {0}",
        "The cost of a straddle on {0} tells how far its shares may go within a month.",
        "neutral",
        ("options", "implied volatility"),
    ),
    (
        "{0} names a new head of finance",
        "The new head of finance comes from within {0} and begins next month.",
        "neutral",
        ("management",),
    ),
    (
        "{0} against {1}: what the figures say",
        "A look at margins, growth and debt of {0} and {1} side by side.",
        "neutral",
        ("comparison", "fundamentals"),
    ),
    (
        "{0} to speak at a conference of investors",
        "The management of {0} will answer questions; the talk can be heard by everyone.",
        "neutral",
        ("conference",),
    ),
    (
        "{0} cuts what it expects of the year",
        "Higher costs and a slow quarter made {0} lower its outlook.",
        "negative",
        ("guidance", "costs"),
    ),
    (
        "Regulator looks into a contract of {0}",
        "An inquiry into how {0} won a public contract may take until spring.",
        "negative",
        ("regulation",),
    ),
    (
        "{0} loses a customer to {1}",
        "A customer of many years leaves {0} for {1}, two people who know of it say.",
        "negative",
        ("competition",),
    ),
)


@dataclass(frozen=True, slots=True)
class Story:
    """One story; `symbols` are in dot form, the one it is most about first."""

    id: int
    at: int  # ms: published
    updated: int  # ms
    headline: str
    summary: str
    content: str  # HTML
    author: str
    publisher: str
    publisher_url: str
    url: str
    image: str
    symbols: tuple[str, ...]
    sentiment: str  # positive | neutral | negative
    keywords: tuple[str, ...]


class News:
    """The stories of one market."""

    def __init__(self, market: Market) -> None:
        listings = [row for row in market.listings if row.kind != "index"]
        self._symbols = [row.symbol for row in listings]
        self._names = {row.symbol: row.name for row in listings}
        self._place = {symbol: i for i, symbol in enumerate(self._symbols)}
        self._famous = np.array([self._place[s] for s in _FAMOUS if s in self._place])
        self._key = np.array([key(market.seed, "news")], dtype=np.uint64)

    def stories(
        self,
        start: int,
        end: int,
        limit: int,
        symbols: Iterable[str] | None = None,
        skip: int = 0,
    ) -> list[Story]:
        """Return the stories published in [start, end) ms, newest first: `limit` after `skip` of them.

        None for `symbols` means all; the caller sees to it that `end` is not in the future.
        """
        wanted = None
        if symbols is not None:
            wanted = np.array([self._place[s] for s in symbols if s in self._place], dtype=int)
        found = self._found(start, end, wanted)
        return [self._story(*row) for row in islice(found, skip, skip + limit)]

    def _found(self, start: int, end: int, wanted: Ints | None) -> Iterator[tuple[int, ...]]:
        """Return the stories that are wanted, newest first, as what `_story` makes one of."""
        first, last = max(start // SLOT, _OLDEST), (end - 1) // SLOT
        for top in range(last, first - 1, -_CHUNK):
            slots = np.arange(top, max(top - _CHUNK, first - 1), -1)
            bits = self._bits(slots, 11)
            at = slots * SLOT + (bits % np.uint64(SLOT // 1000)).astype(np.int64) * 1000
            template = _picked(self._bits(slots, 9), len(_TEMPLATES))
            lead, second = self._about(slots, template)
            # By night there is half as much to tell.
            hour = slots // 12 % 24
            busy = np.where((hour >= 11) & (hour < 23), 0.95, 0.5)
            told = (uniform(self._bits(slots, 3)) < busy) & (start <= at) & (at < end)
            if wanted is not None:
                told &= np.isin(lead, wanted) | np.isin(second, wanted)
            columns = (slots, at, template, lead, second, bits)
            yield from zip(*(column[told].tolist() for column in columns), strict=True)

    def _about(self, slots: Ints, template: Ints) -> tuple[Ints, Ints]:
        """Return which two listings the story of each slot is about; the second is -1 for none."""
        count = len(self._symbols)
        bits = self._bits(slots, 0)
        famous = self._famous[_picked(bits >> np.uint64(20), len(self._famous))]
        lead = np.where(uniform(self._bits(slots, 1)) < 0.35, famous, _picked(bits, count))
        second = _picked(self._bits(slots, 2), count)
        second = np.where(second == lead, (second + 1) % count, second)
        return lead, np.where(_PAIRED[template], second, -1)

    def _bits(self, slots: Ints, salt: int) -> NDArray[np.uint64]:
        return mixed(self._key + np.uint64(salt), slots)

    def _story(self, slot: int, at: int, template: int, lead: int, second: int, bits: int) -> Story:
        symbols = tuple(self._symbols[i] for i in (lead, second) if i >= 0)
        headline, summary, sentiment, keywords = _TEMPLATES[template]
        names = [self._names[symbol] for symbol in symbols]
        number = _FIRST_ID + slot - _OLDEST
        publisher = _PUBLISHERS[bits >> 16 & 3]
        place = publisher.lower().replace(" ", "-")
        told = summary.format(*names)
        return Story(
            id=number,
            at=at,
            updated=at + (bits >> 24) % 600 * 1000,
            headline=headline.format(*names),
            summary=told,
            content=f"<p>{told}</p><p>Nothing of this is true: it is a story of the sandbox.</p>",
            author=_AUTHORS[(bits >> 32) % len(_AUTHORS)],
            publisher=publisher,
            publisher_url=f"https://{place}.example.com/",
            url=f"https://{place}.example.com/stories/{number}",
            image=f"https://images.example.com/stories/{number}.jpg",
            symbols=symbols,
            sentiment=sentiment,
            keywords=keywords,
        )


def _picked(bits: NDArray[np.uint64], count: int) -> Ints:
    return ((bits >> np.uint64(3)) % np.uint64(count)).astype(np.int64)


_PAIRED = np.array(["{1}" in headline for headline, *_ in _TEMPLATES])
