"""The market as nobody has touched it: every listing's logarithm of the price and volume at any time."""

from collections import OrderedDict
from collections.abc import Sequence
from datetime import date

import numpy as np

from sandbox.days import Segments
from sandbox.listing import Listing, key
from sandbox.paths import (
    BLOCK,
    DAY_VARIANCE,
    STEPS,
    Floats,
    Ints,
    Shapes,
    mixed,
    normal,
    walks,
)

YEAR_BEGAN = date(2026, 1, 1).toordinal() - 1  # when the listed prices are the usual ones

_INDEX_FUNDS = frozenset({"SPY", "DIA", "QQQ", "IWM"})


class Tape:
    """All listings of one seed, by row; days and points are those of `sandbox.days`."""

    def __init__(self, seed: int, rows: Sequence[Listing]) -> None:
        self.all: Ints = np.arange(len(rows))
        self._shapes = Shapes(seed)
        self._levels: OrderedDict[int, Floats] = OrderedDict()
        self._own_keys = np.array([key(seed, r.path_of) for r in rows], dtype=np.uint64)
        self.volume_keys = np.array([key(seed, r.symbol, "volume") for r in rows], dtype=np.uint64)
        sectors = sorted({r.sector or "" for r in rows})
        self._sector: Ints = np.array([sectors.index(r.sector or "") for r in rows])
        self._sector_keys = np.array([key(seed, "sector", s) for s in sectors], np.uint64)
        self._market_keys = np.array([key(seed, "market")], dtype=np.uint64)
        self._plain = np.array([r.path_of in _INDEX_FUNDS for r in rows])
        self._parts = np.array([[r.market_part, r.sector_part, r.own_part] for r in rows])
        self._volatility = np.array([r.volatility for r in rows])
        # A fund that falls when the market rises has its shape upside down too.
        self._sign = np.where(self._parts[:, 0] < 0, -1.0, 1.0)
        self._base = np.log(np.array([r.price for r in rows]))
        self._drift = np.array([r.drift for r in rows]) / 365.25
        self._adv = np.array([r.volume for r in rows])
        liquidity = self._adv * np.exp(self._base)
        self.spread = np.clip(3e-4 * (3e8 / liquidity) ** 0.6, 1e-5, 8e-4)  # part of the price

    def points(self, rows: Ints, day: int, first: int, last: int) -> Floats:
        """Return logarithms of prices as (row, minute, step), shifts not in them."""
        days = np.array([day])
        before, after = self._level(rows, days)
        clocks = self._shapes.clocks(first, last)
        shapes = self._shapes.points(self._which(rows, days)[:, 0], first, last)
        change = (after - before)[..., None]
        size = self._size(rows, days)[..., None]
        return np.asarray(before[..., None] + change * clocks + size * shapes)

    def logs(self, rows: Ints, day: int, point: int) -> Floats:
        """Return each row's logarithm at one point."""
        minute = point // STEPS
        return self.points(rows, day, minute, minute + 1)[:, 0, point % STEPS]

    def at(self, row: int, days: Ints, point: int) -> Floats:
        """Return one row's logarithm at a point of days of one block."""
        rows = np.array([row])
        minute, step = divmod(point, STEPS)
        which = self._which(rows, days)[0]
        before, after = (level[0] for level in self._level(rows, days))
        clock = self._shapes.clocks(minute, minute + 1)[0, step]
        shape = self._shapes.points(which, minute, minute + 1)[:, 0, step]
        return np.asarray(before + (after - before) * clock + self._size(rows, days)[0] * shape)

    def extremes(self, rows: Ints, days: Ints, segments: Segments) -> tuple[Floats, Floats]:
        """Return highest and lowest logarithm of days of one block, as (row, day)."""
        before, after = self._level(rows, days)
        change = (after - before)[..., None]
        size = self._size(rows, days)[..., None]
        which = self._which(rows, days)
        high, low = np.full(before.shape, -np.inf), np.full(before.shape, np.inf)
        for window in segments:
            clocks, heights = self._shapes.hulls(which, window)
            logs = before[..., None] + change * clocks + size * heights
            np.maximum(high, logs.max(axis=-1), out=high)
            np.minimum(low, logs.min(axis=-1), out=low)
        return high, low

    def cumulative(self, rows: Ints, day: int, points: Ints) -> Ints:
        """Return the shares traded from midnight to the end of each point, as (row, point)."""
        days = np.array([day])
        total, profile = self._totals(rows, days)
        minutes, steps = points // STEPS, points % STEPS + 1
        parts = self._shapes.volumes[profile[:, 0]]
        begun, ended = parts[:, minutes], parts[:, minutes + 1]
        share = begun + (ended - begun) * (steps / STEPS)
        # The minute's own share keeps its candle from being empty.
        return np.asarray(np.floor(total * share).astype(np.int64) + (points + 1) // STEPS)

    def window_volumes(self, rows: Ints, days: Ints, window: tuple[int, int]) -> Ints:
        """Return the shares traded in a window of each day."""
        total, profile = self._totals(rows, days)
        first, last = window
        parts = self._shapes.volumes
        traded = np.floor(total * parts[profile, last]) - np.floor(total * parts[profile, first])
        return np.asarray(traded.astype(np.int64) + (last - first))

    def _totals(self, rows: Ints, days: Ints) -> tuple[Floats, Ints]:
        """Return each row's shares on each day, and which profile they follow."""
        bits = mixed(self.volume_keys[rows, None], days)
        noise = np.exp(0.28 * normal(bits) - 0.04)
        weekend = np.where(days % 7 >= 5, 0.35, 1.0)
        total = np.floor(self._adv[rows, None] * noise * weekend)
        return total, (bits % np.uint64(len(self._shapes.volumes))).astype(np.int64)

    def _which(self, rows: Ints, days: Ints) -> Ints:
        """Return which shape each row has on each day."""
        market = mixed(self._market_keys[:, None], days) >> np.uint64(40)
        sector = mixed(self._sector_keys[self._sector[rows], None], days) >> np.uint64(40)
        own = mixed(self._own_keys[rows, None], days) >> np.uint64(20) & np.uint64(0xFFFFF)
        return self._shapes.pick(
            market.astype(np.int64),
            sector.astype(np.int64),
            own.astype(np.int64),
            self._plain[rows, None],
        )

    def _size(self, rows: Ints, days: Ints) -> Floats:
        scale = np.sqrt(DAY_VARIANCE[days % BLOCK])
        return np.asarray((self._sign * self._volatility)[rows, None] * scale)

    def _level(self, rows: Ints, days: Ints | Sequence[int]) -> tuple[Floats, Floats]:
        """Return each row's logarithm before and at the end of days of one block."""
        columns = np.asarray(days) % BLOCK
        block = int(days[0]) // BLOCK
        if len(rows) < 8 and block not in self._levels:
            levels = self._block(rows, block)
        else:
            levels = self._all_levels(block)[rows]
        return levels[:, columns], levels[:, columns + 1]

    def _all_levels(self, block: int) -> Floats:
        if block not in self._levels:
            self._levels[block] = self._block(self.all, block)
            if len(self._levels) > 2:
                self._levels.popitem(last=False)
        self._levels.move_to_end(block)
        return self._levels[block]

    def _block(self, rows: Ints, block: int) -> Floats:
        """Return the logarithm of the price at each day end of a block; column 0 is the day before."""
        market = walks(self._market_keys, block)
        sectors = walks(self._sector_keys, block)[self._sector[rows]]
        own = walks(self._own_keys[rows], block)
        parts = self._parts[rows]
        days = np.arange(BLOCK + 1) + block * BLOCK - YEAR_BEGAN
        levels = self._base[rows, None] + self._drift[rows, None] * days
        levels += parts[:, :1] * market
        levels += parts[:, 1:2] * sectors
        levels += parts[:, 2:] * own
        return np.asarray(levels)
