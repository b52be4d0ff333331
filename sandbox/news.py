"""Made-up stories about what is listed: a function of seed and time, as the prices are.

Time is cut into slots of five minutes, and most slots bring one story; so a window costs a few array
operations, and a story has the same number whenever and by whoever it is found.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

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
        self, start: int, end: int, limit: int, symbols: Iterable[str] | None = None
    ) -> list[Story]:
        """Return the stories published in [start, end) ms, newest first, at most `limit`.

        None for `symbols` means all; the caller sees to it that `end` is not in the future.
        """
        wanted = None
        if symbols is not None:
            wanted = np.array([self._place[s] for s in symbols if s in self._place], dtype=int)
        found: list[Story] = []
        for slot in self._slots(start, end, wanted):
            if len(found) >= limit:
                break
            story = self._story(slot)
            if start <= story.at < end:
                found.append(story)
        return found

    def _slots(self, start: int, end: int, wanted: Ints | None) -> Iterator[int]:
        """Return the slots with a story about what is wanted, newest first."""
        first, last = max(start // SLOT, _OLDEST), (end - 1) // SLOT
        for top in range(last, first - 1, -_CHUNK):
            slots = np.arange(top, max(top - _CHUNK, first - 1), -1)
            about, told = self._about(slots)
            if wanted is not None:
                told &= np.isin(about, wanted).any(axis=1)
            yield from slots[told].tolist()

    def _about(self, slots: Ints) -> tuple[Ints, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
        """Return which listings the story of each slot is about (-1: no more), and if there is one."""
        bits = [mixed(self._key + np.uint64(salt), slots) for salt in range(4)]
        count = len(self._symbols)
        first = (bits[0] >> np.uint64(3)) % np.uint64(count)
        famous = self._famous[((bits[0] >> np.uint64(20)) % np.uint64(len(self._famous))).tolist()]
        lead = np.where(uniform(bits[1]) < 0.35, famous, first.astype(np.int64))
        second = ((bits[2] >> np.uint64(3)) % np.uint64(count)).astype(np.int64)
        second = np.where(second == lead, (second + 1) % count, second)
        pair = _PAIRED[self._template(slots)]
        # By night there is half as much to tell.
        hour = slots // 12 % 24
        busy = np.where((hour >= 11) & (hour < 23), 0.95, 0.5)
        told = uniform(bits[3]) < busy
        return np.stack([lead, np.where(pair, second, -1)], axis=1), told

    def _template(self, slots: Ints) -> Ints:
        bits = mixed(self._key + np.uint64(9), slots)
        return ((bits >> np.uint64(5)) % np.uint64(len(_TEMPLATES))).astype(np.int64)

    def _story(self, slot: int) -> Story:
        one = np.array([slot])
        about = self._about(one)[0][0].tolist()
        symbols = tuple(self._symbols[i] for i in about if i >= 0)
        headline, summary, sentiment, keywords = _TEMPLATES[int(self._template(one)[0])]
        bits = int(mixed(self._key + np.uint64(11), one)[0])
        at = slot * SLOT + bits % (SLOT // 1000) * 1000
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


_PAIRED = np.array(["{1}" in headline for headline, *_ in _TEMPLATES])
