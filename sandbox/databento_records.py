"""Bars as Databento writes them: DBN records with their metadata, CSV, JSON lines, and a Zstandard frame.

DBN is version 3 of github.com/databento/dbn.  The frame holds its blocks as they are (RFC 8878, section
3.1.1.2: raw blocks), which any decoder reads and which takes no library here.
"""

import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sandbox.databento_wire import SCHEMAS, STYPES, Question, iso

NO_PRICE = 2**63 - 1
CENT = 10_000_000  # a price is a whole number of billionths of a dollar
SYMBOL_LENGTH = 71
MOST_BLOCK = 128 * 1024

BAR = np.dtype(
    [
        ("length", "u1"),
        ("rtype", "u1"),
        ("publisher_id", "<u2"),
        ("instrument_id", "<u4"),
        ("ts_event", "<u8"),
        ("open", "<i8"),
        ("high", "<i8"),
        ("low", "<i8"),
        ("close", "<i8"),
        ("volume", "<u8"),
    ]
)
COLUMNS = BAR.names[1:] if BAR.names else ()
Bars = NDArray[Any]  # of BAR


def metadata(
    asked: Question,
    not_found: Sequence[str],
    mappings: Mapping[str, Sequence[tuple[date, date, str]]],
) -> bytes:
    """Return the head of a DBN stream."""
    body = b"".join(
        (
            struct.pack("<16sHQQQ", asked.dataset.encode(), SCHEMAS[asked.schema][1], asked.start,
                        asked.end, asked.limit or 0),
            struct.pack("<BBBH", STYPES[asked.stype_in], STYPES[asked.stype_out], 0, SYMBOL_LENGTH),
            bytes(53 + 4),  # reserved, and the length of a schema definition that never came
            _listed(asked.symbols),
            _listed(()),  # partly resolved
            _listed(not_found),
            struct.pack("<I", len(mappings)),
            *(_mapped(symbol, spans) for symbol, spans in mappings.items()),
        )
    )  # fmt: skip
    body += bytes(-len(body) % 8)
    return b"DBN\x03" + struct.pack("<I", len(body)) + body


def _listed(symbols: Sequence[str]) -> bytes:
    return struct.pack("<I", len(symbols)) + b"".join(map(_padded, symbols))


def _mapped(symbol: str, spans: Sequence[tuple[date, date, str]]) -> bytes:
    parts = (
        struct.pack("<II", int(f"{d0:%Y%m%d}"), int(f"{d1:%Y%m%d}")) + _padded(name)
        for d0, d1, name in spans
    )
    return _padded(symbol) + struct.pack("<I", len(spans)) + b"".join(parts)


def _padded(symbol: str) -> bytes:
    return symbol.encode()[: SYMBOL_LENGTH - 1].ljust(SYMBOL_LENGTH, b"\0")


async def framed(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield bytes as one Zstandard frame."""
    yield b"\x28\xb5\x2f\xfd\x00\x38"  # its magic number; a window of 128 kB, and nothing else told
    async for part in parts:
        for n in range(0, len(part), MOST_BLOCK):
            block = part[n : n + MOST_BLOCK]
            yield (len(block) << 3).to_bytes(3, "little") + block
    yield b"\x01\x00\x00"  # an empty block, the last one


class Text:
    """Writes bars as CSV or JSON lines."""

    def __init__(
        self, encoding: str, names: Mapping[int, str] | None, *, pretty_px: bool, pretty_ts: bool
    ) -> None:
        self._csv, self._names = encoding == "csv", names
        self._pretty_px, self._pretty_ts = pretty_px, pretty_ts

    def head(self) -> bytes:
        """Return what comes before the first bar."""
        names = COLUMNS[3:4] + COLUMNS[:3] + COLUMNS[4:]
        symbol = () if self._names is None else ("symbol",)
        return (",".join((*names, *symbol)) + "\n").encode() if self._csv else b""

    def lines(self, bars: Bars) -> bytes:
        """Return bars, a line each."""
        write = self._row if self._csv else self._record
        return "".join(write(*bar) for bar in bars[list(COLUMNS)].tolist()).encode()

    def _row(self, rtype: int, publisher: int, instrument: int, at: int, *values: int) -> str:
        *prices, volume = values
        told = [self._time(at), rtype, publisher, instrument]
        told += ["" if text is None else text for text in map(self._price, prices)]
        told.append(volume)
        if self._names is not None:
            told.append(self._names[instrument])
        return ",".join(map(str, told)) + "\n"

    def _record(self, rtype: int, publisher: int, instrument: int, at: int, *values: int) -> str:
        *prices, volume = values
        told = [None if text is None else f'"{text}"' for text in map(self._price, prices)]
        o, h, lo, c = ("null" if text is None else text for text in told)
        symbol = "" if self._names is None else f',"symbol":"{self._names[instrument]}"'
        return (
            f'{{"hd":{{"ts_event":"{self._time(at)}","rtype":{rtype},"publisher_id":{publisher},'
            f'"instrument_id":{instrument}}},"open":{o},"high":{h},"low":{lo},"close":{c},'
            f'"volume":"{volume}"{symbol}}}\n'
        )

    def _time(self, ns: int) -> str:
        return iso(ns) if self._pretty_ts else str(ns)

    def _price(self, units: int) -> str | None:
        if not self._pretty_px:
            return str(units)
        if units == NO_PRICE:
            return None
        return f"{'-' if units < 0 else ''}{abs(units) // 10**9}.{abs(units) % 10**9:09d}"
