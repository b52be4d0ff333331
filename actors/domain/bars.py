"""1-minute bars out of polled quotes: what one more observation of a symbol adds, and what it does not.

Everything rests on the volume a vendor tells, which is of the whole day.  A `Tally` says how much of it
is in bars already; it is stored with the quote and the bar in one transaction, so whatever restarts
happen, the volumes of a day's bars add up to the last told volume less the first one.  This module does
*not* cover what came before the first observation: that is a backfill.
"""

import math
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta

from actors.domain.calendar import NEW_YORK, session
from actors.domain.models import Bar, Quote

FRESH = timedelta(minutes=15)  # the delay of a delayed feed; what is older than that did not trade
AHEAD = timedelta(minutes=15)  # what is dated later than that is a mistake
MOST = 2**63 - 1  # shares; what the database holds
DEAREST = 1e7  # dollars
WILDEST = 20.0  # times the previous close, up or down


@dataclass(frozen=True, slots=True)
class Tally:
    """How much of a trading day's volume is in bars, or was there before the first observation."""

    counted: int | None  # None = no volume has been told yet
    day: date
    source: str | None = None  # whose volumes are counted


@dataclass(frozen=True, slots=True)
class Seen:
    """What is stored of a symbol: its last observation, and the tally after it."""

    at: datetime
    volume: int | None
    tally: Tally


@dataclass(frozen=True, slots=True)
class Step:
    """What one observation changes: the tally, and the bar of its minute, if it traded."""

    tally: Tally
    bar: Bar | None


def trading_day(at: datetime) -> date:
    """Return the trading day of a time: its date in New York."""
    return at.astimezone(NEW_YORK).date()


def minute(at: datetime) -> datetime:
    """Return the start of a time's minute, in UTC."""
    return at.astimezone(UTC).replace(second=0, microsecond=0)


def is_fresh(quote: Quote, now: datetime) -> bool:
    """Tell whether the quote is of now; otherwise the symbol did not trade, and there is no bar."""
    return abs(now - quote.at) <= FRESH


def observe(seen: Seen | None, bar: Bar | None, quote: Quote, now: datetime) -> Step | None:
    """Return what a quote adds to what is stored, None where it is older than that.

    `bar` is the stored bar of the quote's minute.  The day's first observation counts from 0 if there
    was one of an earlier day, else from itself.  A volume that falls is a correction: it is taken back
    as far as the bar of the minute has it, and no further, so no volume is ever negative.  Vendors' tapes
    differ, so where another one tells a volume counting begins anew from it: what traded between the
    two is in no bar, rather than a difference of two tapes.  One that tells none leaves the count as it is.
    """
    if seen is not None and quote.at < seen.at:
        return None
    tally = _tally(seen, quote)
    if quote.last is None or not is_fresh(quote, now):
        return Step(tally, None)
    before = bar.volume if bar is not None else 0
    added = 0
    if (
        quote.volume is not None
        and tally.counted is not None
        and tally.day == trading_day(quote.at)
    ):
        added = max(quote.volume - tally.counted, -before)
        tally = replace(tally, counted=tally.counted + added)
    if bar is not None and not bar.polled:
        return Step(tally, None)  # what a vendor told of the minute is better
    return Step(tally, _merged(bar, quote, quote.last, before + added))


def _tally(seen: Seen | None, quote: Quote) -> Tally:
    """Return where counting stands before the quote is counted."""
    day = trading_day(quote.at)
    anew = Tally(quote.volume, day, quote.source)
    if seen is None or seen.tally.counted is None:
        return anew
    if quote.volume is None:
        return seen.tally
    if seen.tally.source != quote.source:
        return anew
    if seen.tally.day < day:
        # In the early morning a vendor may still show yesterday's total: the day has not begun then.
        begun = quote.volume not in (seen.volume, seen.tally.counted)
        return Tally(0, day, quote.source) if begun else seen.tally
    return seen.tally


def _merged(bar: Bar | None, quote: Quote, price: float, volume: int) -> Bar:
    if bar is None:
        at = minute(quote.at)
        return Bar(quote.symbol, at, price, price, price, price, volume, quote.source, polled=True)
    high, low = max(bar.high, price), min(bar.low, price)
    return replace(bar, high=high, low=low, close=price, volume=volume, source=quote.source)


def fault(quote: Quote, now: datetime) -> str | None:
    """Return why a quote must not be stored, None where it may."""
    if quote.at.utcoffset() is None:
        return f"its time must have a zone, was {quote.at.isoformat()}"
    if quote.at > now + AHEAD:
        return f"its time must not be in the future, was {quote.at.isoformat()}"
    prices = (quote.last, quote.bid, quote.ask, quote.open, quote.high, quote.low, quote.close)
    numbers = (
        *prices,
        quote.previous_close,
        quote.change,
        quote.change_percent,
        quote.high_52w,
        quote.low_52w,
    )
    if not all(math.isfinite(number) for number in numbers if number is not None):
        return f"its prices must be finite, were {numbers}"
    if any(price < 0 for price in prices if price is not None):
        return f"its prices must not be negative, were {prices}"
    sizes = (quote.volume, quote.bid_size, quote.ask_size)
    if not all(0 <= size <= MOST for size in sizes if size is not None):
        return f"its volume and sizes must be 0 or more, were {sizes}"
    if not (quote.name or "").isprintable():
        return f"its name must be plain text, was {quote.name!r}"
    if why := mad(quote):
        return f"no market is like that: {why}"
    return None


def mad(quote: Quote) -> str | None:
    """Return why no market can be like that, None where one can.

    A vendor's number may be finite and still nonsense.  A day's move beyond twenty times or a price above
    ten million dollars is a fault (the dearest US share costs under one million).
    """
    prices = (quote.last, quote.bid, quote.ask, quote.open, quote.high, quote.low, quote.close)
    told = (*prices, quote.previous_close, quote.high_52w, quote.low_52w)
    if any(price > DEAREST for price in told if price is not None):
        return f"a price above {DEAREST:g} dollars, were {told}"
    before = quote.previous_close
    moved = [
        price for price in (quote.last, quote.open, quote.high, quote.low, quote.close) if price
    ]
    if before and any(not before / WILDEST <= price <= before * WILDEST for price in moved):
        return f"prices {moved} beside a previous close of {before}"
    if quote.change_percent is not None and abs(quote.change_percent) > WILDEST * 100:
        return f"a change of {quote.change_percent:g} %"
    return None


def daily(quote: Quote) -> Bar | None:
    """Return the daily bar a quote tells, None where it does not tell all of it.

    One told before the close is of a day that is not over, and one without a volume is not whole:
    `polled`, so that a vendor's own bar of the day replaces it later.
    """
    close = quote.close if quote.close is not None else quote.last
    if close is None or quote.open is None or quote.high is None or quote.low is None:
        return None
    day = trading_day(quote.at)
    hours = session(day)
    return Bar(
        quote.symbol,
        datetime.combine(day, time(), UTC),
        quote.open,
        max(quote.open, quote.high, close),
        min(quote.open, quote.low, close),
        close,
        quote.volume or 0,
        quote.source,
        polled=hours is None or quote.at < hours.closes or quote.volume is None,
    )


def missing(stored: set[date], first: date, last: date) -> tuple[date, date] | None:
    """Return the first and the last trading day of [first, last] that are not stored, None where none."""
    span = (first + timedelta(n) for n in range((last - first).days + 1))
    absent = [day for day in span if day not in stored and session(day) is not None]
    return (absent[0], absent[-1]) if absent else None
