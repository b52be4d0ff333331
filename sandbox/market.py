"""A deterministic market: every price, candle and volume is a function of seed, symbol and time.

Nothing is stored but what people did; the caches only save work.  Quotes, minutes and days are read
from the same 17,280 points a day, so they agree to the cent and to the share.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np

from sandbox.candles import Candles, joined, nothing
from sandbox.days import (
    REGULAR,
    WHOLE,
    Hours,
    Moment,
    Segments,
    Timetable,
    midnight,
    minute_stamps,
    stamp,
)
from sandbox.listing import listings
from sandbox.paths import BLOCK, OPEN, POINTS, STEPS, Floats, Ints, mixed, uniform
from sandbox.shifts import Shift, Shifts
from sandbox.tape import Tape


@dataclass(frozen=True, slots=True)
class Quotes:
    """Every symbol's market at one moment, in columns as long as the list of symbols."""

    moment: Moment
    at: int  # ms: when these prices were made
    last: Floats
    bid: Floats
    ask: Floats
    bid_size: Ints
    ask_size: Ints
    last_size: Ints
    open: Floats
    high: Floats
    low: Floats
    previous_close: Floats
    volume: Ints
    regular: bool  # whether these prices are of regular hours
    regular_last: Floats
    regular_at: int
    pre_market_last: Floats


@dataclass(frozen=True, slots=True)
class Year:
    """What the last 52 weeks before a day looked like."""

    high: Floats
    low: Floats
    average_volume: Floats
    average_volume_10: Floats

    def averages(self, i: int) -> tuple[float, float]:
        """Return one symbol's average volume of 10 days, and of all of them."""
        return float(self.average_volume_10[i]), float(self.average_volume[i])


@dataclass(frozen=True, slots=True)
class Truth:
    """The parameters behind one symbol, and where it stands."""

    symbol: str
    name: str
    sector: str | None
    base: float
    volatility: float
    beta: float
    average_volume: float
    last: float
    previous_close: float
    day_volume: int
    shift: float


@dataclass(slots=True)
class _Range:
    """Highest and lowest logarithm of all symbols over the first `minutes` of a day."""

    day: int
    first: int
    minutes: int
    high: Floats
    low: Floats


class Market:
    """The market of one seed."""

    def __init__(self, seed: int = 7, hours: Hours = Hours.ALWAYS) -> None:
        self.seed = seed
        self.times = Timetable(hours)
        self.listings = listings()
        self.symbols = tuple(row.symbol for row in self.listings)
        self.index = {symbol: i for i, symbol in enumerate(self.symbols)}
        self._tape = Tape(seed, self.listings)
        self._shifts = Shifts()
        self._range: _Range | None = None
        self._quotes_seen: tuple[tuple[object, ...], Quotes] | None = None
        self._year_plain: tuple[tuple[int, Hours], Year] | None = None
        self._year_seen: tuple[tuple[int, Hours, int], Year] | None = None

    @property
    def version(self) -> int:
        """Return another number after each price that somebody moved."""
        return self._shifts.version

    def quotes(self, at: int) -> Quotes:
        """Return every symbol's quote at a time in ms."""
        moment = self.times.moment(at)
        now = at if moment.frozen and self._shifts else 0
        asked = (moment, self.times.hours, self._shifts.version, now)
        if self._quotes_seen and self._quotes_seen[0] == asked:
            return self._quotes_seen[1]
        quotes = self._quotes(moment, at)
        self._quotes_seen = (asked, quotes)
        return quotes

    def minutes(self, symbol: str, start: int, end: int, now: int) -> Candles:
        """Return the 1-minute candles that begin in [start, end) ms and have begun by now."""
        i = self.index[symbol]
        end = min(end, now + 1)
        moment = self.times.moment(now)
        first, last = self.times.locate(start)[0], self.times.locate(max(end - 1, start))[0]
        parts = [
            self._minutes_of(i, day, moment)
            for day in range(first, min(last, moment.day) + 1)
            if self.times.window(day)
        ]
        candles = joined(parts)
        return candles.taken(slice(*np.searchsorted(candles.at, (start, end))))

    def minute(self, at: int) -> Candles:
        """Return every symbol's candle of the minute that the market shows at a time in ms."""
        moment, rows = self.times.moment(at), self._tape.all
        day, minute = moment.day, moment.minute
        logs = self._tape.points(rows, day, minute, minute + 1)[:, 0, : moment.point % STEPS + 1]
        before = minute * STEPS - 1
        seen = _cents(logs + self._shifts.offsets(rows, day, before)[:, None]) / 100
        ends = np.array([before, moment.point])
        found = Candles(
            np.full(len(rows), stamp(day, minute * STEPS), dtype=np.int64),
            open=seen[:, 0],
            high=seen.max(axis=1),
            low=seen.min(axis=1),
            close=seen[:, -1],
            volume=np.diff(self._tape.cumulative(rows, day, ends), axis=1)[:, 0],
        )
        for i in self._shifts:
            if self._shifts.on(i, day):
                one = self._minutes_of(i, day, moment)
                for name in ("open", "high", "low", "close"):
                    getattr(found, name)[i] = getattr(one, name)[-1]
        return found

    def days(self, symbol: str, first: date, last: date, now: int) -> Candles:
        """Return the daily candles of the dates first to last; today's is of the day so far."""
        i = self.index[symbol]
        moment = self.times.moment(now)
        ordinals = range(first.toordinal() - 1, min(last.toordinal() - 1, moment.day) + 1)
        parts = [
            self._days_of(i, ordinals[n : n + BLOCK], moment)
            for n in range(0, len(ordinals), BLOCK)
        ]
        return joined(parts)

    def year(self, day: int) -> Year:
        """Return the 52 weeks before a day, for every symbol."""
        asked = (day, self.times.hours, self._shifts.version)
        if self._year_seen and self._year_seen[0] == asked:
            return self._year_seen[1]
        if not self._year_plain or self._year_plain[0] != asked[:2]:
            self._year_plain = (asked[:2], self._year(day))
        found = self._year_plain[1]
        high, low = found.high.copy(), found.low.copy()
        for i in self._shifts:
            if self._shifts.first_day(i) < day:
                high[i], low[i] = self._shifted_extremes(i, day)
        year = replace(found, high=high, low=low)
        self._year_seen = (asked, year)
        return year

    def shift(self, symbol: str, price: float, at: int) -> None:
        """Move a symbol's path from `at` on, so that it stands at `price` there."""
        i = self.index[symbol]
        moment = self.times.moment(at)
        day, point = (moment.day, moment.point) if not moment.frozen else self.times.locate(at)
        plain = float(self._tape.logs(np.array([i]), moment.day, moment.point)[0])
        self._shifts.add(i, Shift(at, day, point, float(np.log(price)) - plain))

    def truth(self, symbol: str, at: int) -> Truth:
        """Return what is behind a symbol."""
        i = self.index[symbol]
        row, quotes = self.listings[i], self.quotes(at)
        return Truth(
            symbol=symbol,
            name=row.name,
            sector=row.sector,
            base=row.price,
            volatility=row.volatility,
            beta=row.beta,
            average_volume=row.volume,
            last=float(quotes.last[i]),
            previous_close=float(quotes.previous_close[i]),
            day_volume=int(quotes.volume[i]),
            shift=self._shifts.now(i, at),
        )

    def _minutes_of(self, i: int, day: int, moment: Moment) -> Candles:
        """Return one day's minutes, no further than the moment."""
        window = self.times.window(day)
        if window is None or day > moment.day:
            return nothing()
        first, last = window
        until = moment.point if day == moment.day else last * STEPS - 1
        last = min(last, until // STEPS + 1)
        row = np.array([i])
        minutes = np.arange(first, last)
        logs = self._tape.points(row, day, first, last)[0]
        seen, top, bottom = self._shifts.seen(i, day, first * STEPS, logs)
        begun = until - (last - 1) * STEPS + 1  # points of the last minute there are so far
        closes, highs, lows = seen[:, -1].copy(), top.max(axis=1), bottom.min(axis=1)
        closes[-1] = seen[-1, begun - 1]
        highs[-1], lows[-1] = top[-1, :begun].max(), bottom[-1, :begun].min()
        ends = np.minimum((minutes + 1) * STEPS - 1, until)
        traded = self._tape.cumulative(row, day, np.concatenate(([first * STEPS - 1], ends)))[0]
        at, real = minute_stamps(day, first, last)
        volume = np.diff(traded)
        if not real.all():  # an hour that the clocks skip: its shares are counted after it
            closing = np.cumsum(volume)[real]
            volume = np.diff(closing, prepend=0)
        return Candles(
            at,
            open=_cents(seen[real, 0]) / 100,
            high=_cents(highs[real]) / 100,
            low=_cents(lows[real]) / 100,
            close=_cents(closes[real]) / 100,
            volume=volume,
        )

    def _days_of(self, i: int, days: Sequence[int], moment: Moment) -> Candles:
        """Return daily candles of up to one block's length of days."""
        traded = [day for day in days if self.times.window(day)]
        if not traded:
            return nothing()
        plain = [d for d in traded if d != moment.day and not self._shifts.on(i, d)]
        table: dict[int, Sequence[float]] = {}
        for (segments, _), group in self._alike(plain):
            table.update(
                zip(group.tolist(), self._day_rows(i, group, segments).tolist(), strict=True)
            )
        rows = [table.get(day) or self._day_row(i, day, moment) for day in traded]
        columns = np.array(rows)
        at = np.array([midnight(day) for day in traded], dtype=np.int64)
        opens, highs, lows, closes = (columns[:, n] / 100 for n in range(4))
        return Candles(at, opens, highs, lows, closes, columns[:, 4].astype(np.int64))

    def _alike(self, days: Sequence[int]) -> list[tuple[tuple[Segments, int], Ints]]:
        """Return the days in groups that have their minutes and their block in common."""
        groups: dict[tuple[Segments, int], list[int]] = {}
        for day in days:
            groups.setdefault((self.times.segments(day), day // BLOCK), []).append(day)
        return [(key, np.array(group)) for key, group in groups.items()]

    def _day_rows(self, i: int, days: Ints, segments: Segments) -> Floats:
        """Return open, high, low, close (cents) and volume of days without a shift, by hull."""
        row = np.array([i])
        out = np.empty((len(days), 5))
        window = segments[0][0], segments[-1][1]
        out[:, 0] = self._tape.at(i, days, window[0] * STEPS)
        out[:, 3] = self._tape.at(i, days, window[1] * STEPS - 1)
        high, low = self._tape.extremes(row, days, segments)
        out[:, 1], out[:, 2] = high[0], low[0]
        offsets = np.array([self._shifts.offset(i, int(day), 0) for day in days])
        out[:, :4] = _cents(out[:, :4] + offsets[:, None])
        out[:, 4] = self._tape.window_volumes(row, days, window)[0]
        return out

    def _day_row(self, i: int, day: int, moment: Moment) -> list[float]:
        minutes = self._minutes_of(i, day, moment)
        cents = [minutes.open[0], minutes.high.max(), minutes.low.min(), minutes.close[-1]]
        return [*(round(price * 100) for price in cents), int(minutes.volume.sum())]

    def _year(self, day: int) -> Year:
        days = [d for d in range(day - BLOCK, day) if self.times.window(d)]
        high, low = np.full(len(self._tape.all), -np.inf), np.full(len(self._tape.all), np.inf)
        for (segments, _), group in self._alike(days):
            for n in range(0, len(self._tape.all), 8):  # 8 at a time take a few MB
                rows = self._tape.all[n : n + 8]
                top, bottom = self._tape.extremes(rows, group, segments)
                high[rows] = np.maximum(high[rows], top.max(axis=1))
                low[rows] = np.minimum(low[rows], bottom.min(axis=1))
        window = WHOLE if self.times.hours is Hours.ALWAYS else REGULAR
        volumes = self._tape.window_volumes(self._tape.all, np.array(days), window)
        return Year(
            high=_cents(high) / 100,
            low=_cents(low) / 100,
            average_volume=volumes.mean(axis=1),
            average_volume_10=volumes[:, -10:].mean(axis=1),
        )

    def _shifted_extremes(self, i: int, day: int) -> tuple[float, float]:
        end = Moment(day - 1, POINTS - 1, frozen=True)
        parts = self._days_of(i, range(day - BLOCK, day), end)
        return float(parts.high.max()), float(parts.low.min())

    def _quotes(self, moment: Moment, at: int) -> Quotes:
        day, point = moment.day, moment.point
        rows = self._tape.all
        first = (self.times.window(day) or REGULAR)[0]
        logs = self._tape.logs(rows, day, point)
        offsets = self._shifts.offsets(rows, day, point)
        if moment.frozen and self._shifts:  # it stands still, but a person may have moved it since
            offsets = np.array([self._shifts.now(int(i), at) for i in rows])
        last = _cents(logs + offsets)
        opened = self._at(day, first * STEPS)
        high, low = self._range_until(moment, first)
        high, low = np.maximum(high, last), np.minimum(low, last)
        earlier = self.times.session_before(day)
        closing = (self.times.window(earlier) or REGULAR)[1] * STEPS - 1
        points = np.array([first * STEPS - 1, point])
        traded = np.diff(self._tape.cumulative(rows, day, points), axis=1)[:, 0]
        regular = self.times.regular(day)
        in_regular = regular[0] <= moment.minute < regular[1]
        regular_day, regular_point = day, min(point, regular[1] * STEPS - 1)
        if moment.minute < regular[0]:
            regular_day, regular_point = earlier, self.times.regular(earlier)[1] * STEPS - 1
        bits = mixed(self._tape.volume_keys, np.array(day * POINTS + point))
        spread = 1 + np.floor(self._tape.spread * last * (0.7 + 0.6 * uniform(bits)))
        bid = np.maximum(last - (bits >> np.uint64(8)) % (spread + 1).astype(np.uint64), 1)
        sizes = [
            1 + (60 * uniform(mixed(bits, np.array(salt))) ** 2).astype(np.int64) for salt in (1, 2)
        ]
        return Quotes(
            moment=moment,
            at=stamp(day, point),
            last=last / 100,
            bid=bid / 100,
            ask=(bid + spread) / 100,
            bid_size=sizes[0],
            ask_size=sizes[1],
            last_size=1 + (bits % np.uint64(300)).astype(np.int64),
            open=opened / 100,
            high=high / 100,
            low=low / 100,
            previous_close=self._at(earlier, closing) / 100,
            volume=traded,
            regular=in_regular and not moment.frozen,
            regular_last=last / 100 if in_regular else self._at(regular_day, regular_point) / 100,
            regular_at=stamp(regular_day, regular_point),
            pre_market_last=self._at(day, OPEN * STEPS - 1) / 100,
        )

    def _at(self, day: int, point: int) -> Floats:
        """Return every symbol's price in cents at a point."""
        logs = self._tape.logs(self._tape.all, day, point)
        return _cents(logs + self._shifts.offsets(self._tape.all, day, point))

    def _range_until(self, moment: Moment, first: int) -> tuple[Floats, Floats]:
        """Return every symbol's highest and lowest price of the day so far, in cents."""
        day, rows = moment.day, self._tape.all
        found = self._range
        if not found or (found.day, found.first) != (day, first) or found.minutes > moment.minute:
            nothing = np.full(len(rows), np.inf)
            found = self._range = _Range(day, first, first, -nothing, nothing)
        while found.minutes < moment.minute:
            until = min(found.minutes + 12, moment.minute)
            self._widen(found, day, found.minutes, until)
            found.minutes = until
        logs = self._tape.points(rows, day, moment.minute, moment.minute + 1)
        logs = logs[:, 0, : moment.point % STEPS + 1]
        offsets = self._shifts.offsets(rows, day, first * STEPS - 1)
        high = _cents(np.maximum(found.high, logs.max(axis=1)) + offsets)
        low = _cents(np.minimum(found.low, logs.min(axis=1)) + offsets)
        for i in self._shifts:
            if self._shifts.on(i, day):
                candles = self._minutes_of(i, day, moment)
                high[i] = round(candles.high.max() * 100)
                low[i] = round(candles.low.min() * 100)
        return high, low

    def _widen(self, found: _Range, day: int, first: int, last: int) -> None:
        _, real = minute_stamps(day, first, last)
        if not real.any():
            return
        logs = self._tape.points(self._tape.all, day, first, last)[:, real]
        np.maximum(found.high, logs.max(axis=(1, 2)), out=found.high)
        np.minimum(found.low, logs.min(axis=(1, 2)), out=found.low)


def _cents(logs: Floats) -> Floats:
    return np.asarray(np.maximum(np.rint(np.exp(logs) * 100), 1.0))
