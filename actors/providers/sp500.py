"""The members of the S&P 500: a public CSV that somebody keeps current, which needs no key.

Source: github.com/datasets/s-and-p-500-companies (ODC-PDDL-1.0), refreshed daily from Wikipedia's list;
its columns are Symbol, Security, GICS Sector and more that are not read.
"""

import csv
from collections.abc import Sequence
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

from actors.domain.models import Ticker
from actors.domain.symbols import normalise
from actors.providers.base import Malformed
from actors.providers.http import Tools, Wire
from actors.providers.values import told
from actors.providers.vendor import Kind
from actors.settings import Settings

VENDOR = "sp500"
NEEDED = ("Symbol", "Security", "GICS Sector")


class SP500:
    """The list and nothing else; nobody is asked before the list is."""

    name: ClassVar = VENDOR
    needs: ClassVar = ("SP500_URL",)  # which has a default
    sells: ClassVar = frozenset({Kind.CONSTITUENTS})
    limits: ClassVar = "10/min"  # our own manners: no limit is told
    batch: ClassVar = 1
    bars_batch: ClassVar = 1
    login_expires_at: ClassVar = None

    def __init__(self, url: str, limits: str, tools: Tools) -> None:
        self.limiter = tools.limiter(VENDOR, limits)
        self._url, self._tools = url, tools

    @classmethod
    def of(cls, settings: Settings, tools: Tools) -> Self | None:
        """Return the vendor made from the settings; it is always configured."""
        return cls(settings.sp500_url, settings.limits_of(VENDOR, cls.limits), tools)

    async def open(self) -> None:
        """Nothing is left of an earlier life."""

    async def close(self) -> None:
        """Nothing is held between two requests."""

    async def constituents(self, deadline: float) -> tuple[Ticker, ...]:
        """Return the members of the S&P 500, as the list has them."""
        parts = urlsplit(self._url)
        # A line of its own each time: once a week is no reason to hold a client's memory.
        wire = Wire(VENDOR, f"{parts.scheme}://{parts.netloc}", self.limiter, self._tools)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        try:
            headers = {"Accept": "text/csv, text/plain"}
            text = await wire.request("GET", path, deadline=deadline, headers=headers, text=True)
        finally:
            await wire.close()
        return parse_constituents(text)


def parse_constituents(text: Any) -> tuple[Ticker, ...]:
    """Return the members in the order of the list; `Malformed` for what is not the whole list.

    Rows without a symbol are left out, and one that comes again; how many there should be is judged
    by whoever asked.
    """
    if not isinstance(text, str):
        raise Malformed(VENDOR, f"the list is text, was {type(text).__name__}")
    lines = text.removeprefix("\ufeff").splitlines()
    if not text.endswith(("\n", "\r")):
        raise Malformed(VENDOR, "the list ends in the middle of a line")
    try:
        rows = list(csv.reader(lines, strict=True))
    except csv.Error as e:
        raise Malformed(VENDOR, f"it is no CSV: {e}") from None
    header = [name.strip() for name in rows[0]] if rows else []
    if missing := [name for name in NEEDED if name not in header]:
        raise Malformed(VENDOR, f"the list has no column {missing[0]}")
    places = [header.index(name) for name in NEEDED]
    found = (_ticker(row, places) for row in rows[1:])
    return tuple({ticker.symbol: ticker for ticker in found if ticker}.values())


def _ticker(row: Sequence[str], places: Sequence[int]) -> Ticker | None:
    if len(row) <= max(places):
        return None
    symbol, name, sector = (row[place] for place in places)
    try:
        symbol = normalise(symbol)
    except ValueError:
        return None
    return Ticker(symbol, told(name) or symbol, "stock", told(sector))
