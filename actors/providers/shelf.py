"""Answers that stay good for a while: kept by kind, each for its age, the longest unused out first."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

from actors.providers.vendor import Kind

AGES = {  # seconds an answer is given again
    Kind.CHAIN: 300.0,
    Kind.NEWS: 600.0,  # and the sentiment in it
    Kind.MOVERS: 60.0,
    Kind.PROFILE: 86_400.0,
    Kind.RECOMMENDATIONS: 86_400.0,
    Kind.EARNINGS: 21_600.0,
    Kind.HOURS: 86_400.0,
    Kind.CONSTITUENTS: 86_400.0,
}  # quotes and bars are never kept: who asks for them wants what is now
MOST = {Kind.CHAIN: 8, Kind.PROFILE: 600}  # a chain is 1 to 2 MB
MOST_OTHERS = 64


class Shelf:
    """The kept answers of all kinds; times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._kept: dict[Kind, OrderedDict[Hashable, tuple[float, Any]]] = {}

    def get(self, kind: Kind, key: Hashable, now: float) -> tuple[Any] | None:
        """Return (answer,) where there is one that is not too old."""
        kept = self._kept.get(kind)
        found = kept.get(key) if kept else None
        if kept is None or found is None:
            return None
        if now - found[0] >= AGES[kind]:
            del kept[key]
            return None
        kept.move_to_end(key)
        return (found[1],)

    def put(self, kind: Kind, key: Hashable, answer: Any, now: float) -> None:
        """Keep an answer, where its kind is kept at all."""
        if kind not in AGES:
            return
        kept = self._kept.setdefault(kind, OrderedDict())
        kept[key] = (now, answer)
        kept.move_to_end(key)
        while len(kept) > MOST.get(kind, MOST_OTHERS):
            kept.popitem(last=False)
