"""Random access to random walks: day ends by hash, days by a small stock of ready-made shapes.

A day's path is ``start + change * clock + size * shape``, where clock and shape are common to many
symbols and days.  A shape's extremes under any slope lie on its convex hull, which has a few dozen
corners, so a day's high and low cost a few dozen products and agree exactly with the 17,280 points
they summarise.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sandbox.listing import key

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MINUTES = 1440
STEPS = 12  # points in a minute, so a price moves every 5 seconds
POINTS = MINUTES * STEPS
OPEN, CLOSE = 570, 960  # regular hours, in minutes of the New York day
BLOCK = 364  # days; whole weeks, so that every block has the same weekends

_MARKETS, _SECTORS, _OWN = 12, 2, 24  # shapes: markets, sector shapes in each, own shapes in each
_PER_MARKET = 1 + _SECTORS * _OWN
_WIGGLES = 64
_CORNERS = 40  # of 900 shapes looked at, none had more than 27
_WEEKEND = 0.2  # variance of a weekend day, a weekday's being 1

_week = np.array([1.0] * 5 + [_WEEKEND] * 2)
DAY_VARIANCE: Floats = np.tile(_week, BLOCK // 7) / (_week.sum() * BLOCK / 7)
_DAY_CLOCK: Floats = np.cumsum(DAY_VARIANCE)


def mixed(keys: NDArray[np.uint64], counters: Ints) -> NDArray[np.uint64]:
    """Return 64 well-mixed bits for each key and counter (splitmix64)."""
    z = keys + counters.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)), dtype=np.uint64)


def normal(bits: NDArray[np.uint64]) -> Floats:
    """Return nearly normal numbers: four uniform ones added, which needs no transcendental."""
    low = np.uint64(0xFFFF)
    total = (bits & low) + ((bits >> np.uint64(16)) & low)
    total += ((bits >> np.uint64(32)) & low) + (bits >> np.uint64(48))
    return np.asarray((total.astype(np.float64) / 65536 - 2 + 2**-15) * np.sqrt(3.0))


def uniform(bits: NDArray[np.uint64]) -> Floats:
    """Return numbers in [0, 1)."""
    return np.asarray((bits >> np.uint64(11)).astype(np.float64) / 2**53)


def walks(keys: NDArray[np.uint64], block: int) -> Floats:
    """Return a unit walk at each day end of a block, one row a key; column 0 is the day before.

    Block ends are drawn by themselves and the days between are a bridge, so any day of any century
    costs one block, and no price drifts out of sight.
    """
    rows = keys[:, None]
    bits = mixed(rows, np.arange(BLOCK) + block * BLOCK)
    steps = normal(bits)
    # One day in 40 is three times as wild; 1.2 is the variance that leaves.
    steps *= np.where(bits % np.uint64(40) == 0, 3.0, 1.0) / np.sqrt(1.2)
    steps *= np.sqrt(DAY_VARIANCE)
    sums = np.cumsum(steps, axis=1)
    sums -= _DAY_CLOCK * sums[:, -1:]
    ends = normal(mixed(rows + np.uint64(0x5851F42D4C957F2D), np.arange(block, block + 2)))
    ends *= np.sqrt(0.5)  # so that two neighbours differ by one year's variance
    walk = np.empty((len(keys), BLOCK + 1))
    walk[:, :1] = ends[:, :1]
    walk[:, 1:] = ends[:, :1] + _DAY_CLOCK * (ends[:, 1:] - ends[:, :1]) + sums
    walk[:, -1:] = ends[:, 1:]
    return walk


def _minute_variance() -> Floats:
    rates = np.full(MINUTES, 0.15)
    through = np.linspace(-1, 1, CLOSE - OPEN)
    rates[OPEN:CLOSE] = 0.75 + 0.7 * through**2
    rates[OPEN : OPEN + 15] *= 1.5
    return np.asarray(rates / rates.sum())


class Shapes:
    """The stock of day shapes and volume profiles of one seed."""

    def __init__(self, seed: int) -> None:
        rng = np.random.Generator(np.random.PCG64(key(seed, "shapes")))
        variance = _minute_variance()
        self.clock: Floats = np.concatenate(([0.0], np.cumsum(variance)))
        self.clock[-1] = 1.0
        self._variance = variance
        self._amplitude: Floats = np.sqrt(variance)
        self.shapes = self._draw_shapes(rng)
        self._wiggles = self._draw_wiggles(rng)
        self.volumes = self._draw_volumes(rng)
        self._fraction: Floats = np.arange(1, STEPS + 1) / STEPS
        self.hull = lru_cache(maxsize=3 * len(self.shapes))(self._hull)

    def pick(self, market: Ints, sector: Ints, own: Ints, plain: NDArray[np.bool_]) -> Ints:
        """Return which shape a symbol's day has; a plain one is the market's alone."""
        mixture = 1 + sector % _SECTORS * _OWN + own % _OWN
        return np.asarray(market % _MARKETS * _PER_MARKET + np.where(plain, 0, mixture))

    def clocks(self, first: int, last: int) -> Floats:
        """Return the day's clock at each point of the minutes `first` to `last` (exclusive)."""
        fraction = self._fraction
        starts, ends = self.clock[first:last, None], self.clock[first + 1 : last + 1, None]
        return np.asarray(starts * (1 - fraction) + ends * fraction)

    def points(self, which: Ints, first: int, last: int) -> Floats:
        """Return shapes at each point, as (shape, minute, step)."""
        fraction = self._fraction
        minutes = np.arange(first, last)
        starts = self.shapes[which, first:last, None].astype(np.float64)
        ends = self.shapes[which, first + 1 : last + 1, None].astype(np.float64)
        rows = which[:, None]
        wiggle = self._wiggles[(rows * 7 + minutes * 11 + rows * minutes % 61) % _WIGGLES]
        wiggle = wiggle * self._amplitude[first:last, None]
        return np.asarray(starts * (1 - fraction) + ends * fraction + wiggle)

    def hulls(self, which: Ints, window: tuple[int, int]) -> tuple[Floats, Floats]:
        """Return clock and height of each shape's corners, upper and lower, within some minutes."""
        used, inverse = np.unique(which, return_inverse=True)
        corners = np.stack([self.hull(int(one), window) for one in used])
        taken = corners[inverse.reshape(which.shape)]
        return taken[..., 0, :], taken[..., 1, :]

    def _hull(self, which: int, window: tuple[int, int]) -> Floats:
        first, last = window
        x = self.clocks(first, last).ravel()
        y = self.points(np.array([which]), first, last).ravel()
        upper, lower = _corners(x, y), _corners(x, -y)
        # Filled up with copies of the last corner: they change no extreme.
        index = np.concatenate([np.pad(i, (0, _CORNERS - len(i)), "edge") for i in (upper, lower)])
        return np.stack((x[index], y[index]))

    def _draw_shapes(self, rng: np.random.Generator) -> NDArray[np.float32]:
        shapes = np.empty((_MARKETS * _PER_MARKET, MINUTES + 1), dtype=np.float32)
        row = 0
        for _ in range(_MARKETS):
            market = self._bridge(rng)
            shapes[row] = market
            row += 1
            for _ in range(_SECTORS):
                sector = self._bridge(rng)
                for _ in range(_OWN):
                    shapes[row] = 0.55 * market + 0.3 * sector + 0.78 * self._bridge(rng)
                    row += 1
        shapes[:, 0] = shapes[:, -1] = 0.0
        return shapes

    def _bridge(self, rng: np.random.Generator) -> Floats:
        walk = np.concatenate(([0.0], np.cumsum(rng.standard_normal(MINUTES) * self._amplitude)))
        return np.asarray(walk - self.clock * walk[-1])

    def _draw_wiggles(self, rng: np.random.Generator) -> Floats:
        walk = np.cumsum(rng.standard_normal((_WIGGLES, STEPS)), axis=1) / np.sqrt(STEPS)
        return np.asarray(walk - np.arange(1, STEPS + 1) / STEPS * walk[:, -1:])

    def _draw_volumes(self, rng: np.random.Generator) -> Floats:
        """Return cumulative parts of a day's volume: a U from 09:30 to 16:00, little outside."""
        rates = np.full(MINUTES, 0.08 / (MINUTES - (CLOSE - OPEN)))
        u = 0.55 + np.linspace(-1, 1, CLOSE - OPEN) ** 2 * 1.35
        u[-5:] *= 2.5
        rates[OPEN:CLOSE] = 0.92 * u / u.sum()
        noisy = rates * np.exp(0.45 * rng.standard_normal((12, MINUTES)))
        parts = np.zeros((12, MINUTES + 1))
        parts[:, 1:] = np.cumsum(noisy / noisy.sum(axis=1, keepdims=True), axis=1)
        parts[:, -1] = 1.0
        return parts


def _corners(x: Floats, y: Floats) -> NDArray[np.int64]:
    """Return the corners of the upper convex hull of a curve with rising x (quickhull)."""
    found = [0, len(x) - 1]
    open_ends = [(0, len(x) - 1)]
    while open_ends:
        a, b = open_ends.pop()
        if b - a < 2:
            continue
        slope = (y[b] - y[a]) / (x[b] - x[a])
        above = y[a + 1 : b] - y[a] - slope * (x[a + 1 : b] - x[a])
        top = int(above.argmax())
        if above[top] > 0:
            middle = a + 1 + top
            found.append(middle)
            open_ends += [(a, middle), (middle, b)]
    return np.array(sorted(found), dtype=np.int64)
