"""Schwab's quotes and fundamentals, written as text: 500 of them in a few milliseconds."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np

from sandbox.company import payout
from sandbox.days import midnight
from sandbox.listing import Listing, fraction, key
from sandbox.market import Market, Quotes, Year
from sandbox.schwab_wire import cusip, described, spelled

FIELDS = ("extended", "fundamental", "quote", "reference", "regular")  # in the order they are sent

_PLACES = ("ARCX", "XNAS", "MEMX", "EDGX", "XNYS", "BATS")


@dataclass(frozen=True, slots=True)
class _Still:
    """What of a listing's answers does not change within a day."""

    head: str
    reference: str
    fundamental: str


class Writer:
    """Writes quotes; what two requests for the same moment share is written once."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._day: tuple[object, ...] = ()
        self._still: dict[int, _Still] = {}
        self._quotes: Quotes | None = None
        self._rows: list[_Row] = []
        self._texts: dict[tuple[int, tuple[str, ...]], str] = {}

    def write(self, i: int, quotes: Quotes, fields: tuple[str, ...]) -> str:
        """Return one symbol's entry in an answer."""
        if self._quotes is not quotes:
            year = self._market.year(quotes.moment.day)
            self._quotes, self._rows, self._texts = quotes, _rows(quotes, year), {}
        text = self._texts.get((i, fields))
        if text is None:
            text = self._texts[i, fields] = self._entry(i, quotes, fields)
        return text

    def _entry(self, i: int, quotes: Quotes, fields: tuple[str, ...]) -> str:
        still, row = self._still_of(i, quotes), self._rows[i]
        index = self._market.listings[i].kind == "index"
        parts = [still.head]
        if "extended" in fields and not index:
            parts.append(_extended(row, quotes, i))
        if "fundamental" in fields:
            parts.append(still.fundamental)
        if "quote" in fields:
            parts.append(_index_block(row, quotes) if index else _quote_block(row, quotes, i))
        if "reference" in fields:
            parts.append(still.reference)
        if "regular" in fields and not index:
            parts.append(_regular(row, quotes))
        return f"{{{','.join(parts)}}}"

    def _still_of(self, i: int, quotes: Quotes) -> _Still:
        day = (quotes.moment.day, self._market.times.hours)
        if day != self._day:
            self._day, self._still = day, {}
        if i not in self._still:
            listing = self._market.listings[i]
            averages = self._market.year(quotes.moment.day).averages(i)
            today = date.fromordinal(quotes.moment.day + 1)
            self._still[i] = _Still(
                head=_text(_head(listing))[1:-1],
                reference=f'"reference":{_text(_reference(listing))}',
                fundamental=f'"fundamental":{_text(_fundamental(listing, averages, today))}',
            )
        return self._still[i]


@dataclass(frozen=True, slots=True)
class _Row:
    """One symbol's numbers as plain Python, which is what writing them needs."""

    last: float
    bid: float
    ask: float
    bid_size: int
    ask_size: int
    last_size: int
    open: float
    high: float
    low: float
    previous: float
    volume: int
    regular_last: float
    pre_market_last: float
    high_52w: float
    low_52w: float


def _rows(quotes: Quotes, year: Year) -> list[_Row]:
    columns = (
        quotes.last,
        quotes.bid,
        quotes.ask,
        quotes.bid_size,
        quotes.ask_size,
        quotes.last_size,
        quotes.open,
        quotes.high,
        quotes.low,
        quotes.previous_close,
        quotes.volume,
        quotes.regular_last,
        quotes.pre_market_last,
        np.maximum(year.high, quotes.high),
        np.minimum(year.low, quotes.low),
    )
    return [_Row(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]


def _change(now: float, before: float) -> tuple[float, float]:
    change = now - before
    return round(change, 4), round(change / before * 100, 8)


def _quote_block(row: _Row, quotes: Quotes, i: int) -> str:
    at = quotes.at
    mark = round((row.bid + row.ask) / 2 + 1e-9, 2)
    mark_change, mark_percent = _change(mark, row.previous)
    change, percent = _change(row.last, row.previous)
    post, post_percent = _change(row.last, row.regular_last)
    place = (at // 5000 + i) % len(_PLACES)
    status = "Closed" if quotes.moment.frozen else "Normal"
    return (
        f'"quote":{{"52WeekHigh":{row.high_52w},"52WeekLow":{row.low_52w},'
        f'"askMICId":"{_PLACES[place]}","askPrice":{row.ask},"askSize":{row.ask_size},'
        f'"askTime":{at},"bidMICId":"{_PLACES[place - 1]}","bidPrice":{row.bid},'
        f'"bidSize":{row.bid_size},"bidTime":{at},"closePrice":{row.previous},'
        f'"highPrice":{row.high},"lastMICId":"{_PLACES[place - 2]}","lastPrice":{row.last},'
        f'"lastSize":{row.last_size},"lowPrice":{row.low},"mark":{mark},'
        f'"markChange":{mark_change},"markPercentChange":{mark_percent},"netChange":{change},'
        f'"netPercentChange":{percent},"openPrice":{row.open},"postMarketChange":{post},'
        f'"postMarketPercentChange":{post_percent},"quoteTime":{at},'
        f'"securityStatus":"{status}","totalVolume":{row.volume},"tradeTime":{at}}}'
    )


def _index_block(row: _Row, quotes: Quotes) -> str:
    change, percent = _change(row.last, row.previous)
    status = "Closed" if quotes.moment.frozen else "Normal"
    return (
        f'"quote":{{"52WeekHigh":{row.high_52w},"52WeekLow":{row.low_52w},'
        f'"closePrice":{row.previous},"highPrice":{row.high},"lastPrice":{row.last},'
        f'"lowPrice":{row.low},"netChange":{change},"netPercentChange":{percent},'
        f'"openPrice":{row.open},"securityStatus":"{status}","totalVolume":{row.volume},'
        f'"tradeTime":{quotes.at}}}'
    )


def _regular(row: _Row, quotes: Quotes) -> str:
    change, percent = _change(row.regular_last, row.previous)
    return (
        f'"regular":{{"regularMarketLastPrice":{row.regular_last},'
        f'"regularMarketLastSize":{row.last_size},"regularMarketNetChange":{change},'
        f'"regularMarketPercentChange":{percent},"regularMarketTradeTime":{quotes.regular_at}}}'
    )


def _extended(row: _Row, quotes: Quotes, i: int) -> str:
    """Return the block of the hours outside the regular ones: now, or last seen before them."""
    if quotes.regular:
        last, volume = row.pre_market_last, 0
        at = quotes.regular_at // 1000 * 1000
        bid, ask = last, round(last + row.ask - row.bid, 2)
    else:
        last, volume, at, bid, ask = row.last, row.volume // 20, quotes.at, row.bid, row.ask
    mark = round((bid + ask) / 2 + 1e-9, 2)
    return (
        f'"extended":{{"askPrice":{ask},"askSize":{row.ask_size * 100},"bidPrice":{bid},'
        f'"bidSize":{row.bid_size * 100},"lastPrice":{last},"lastSize":{1 + i % 40},'
        f'"mark":{mark},"quoteTime":{at},"totalVolume":{volume},"tradeTime":{at}}}'
    )


def _head(listing: Listing) -> dict[str, Any]:
    kind = {"assetMainType": "INDEX"}
    if listing.kind != "index":
        sub = "ETF" if listing.kind == "etf" else "COE"
        kind = {"assetMainType": "EQUITY", "assetSubType": sub, "quoteType": "NBBO"}
    ssid = key(listing.symbol, "ssid") % 2_000_000_000
    return kind | {"realtime": True, "ssid": ssid, "symbol": spelled(listing.symbol)}


def _reference(listing: Listing) -> dict[str, Any]:
    where = {"exchange": listing.exchange, "exchangeName": listing.exchange_name}
    if listing.kind == "index":
        return {"description": described(listing)} | where
    borrow: dict[str, Any] = {"isHardToBorrow": False, "isShortable": True}
    if fraction(listing.symbol, "htb") < 0.7:  # where Schwab has none to lend the key is missing
        borrow |= {"htbQuantity": int(listing.shares / 800)}
    return (
        {"cusip": cusip(listing), "description": described(listing)}
        | where
        | borrow
        | {"htbRate": 0.0}
    )


def _instant(day: date) -> str:
    utc = datetime.fromtimestamp(midnight(day.toordinal() - 1) / 1000, UTC)
    return utc.strftime("%Y-%m-%dT%H:%M:%SZ")


def _fundamental(listing: Listing, averages: tuple[float, float], today: date) -> dict[str, Any]:
    if listing.kind == "index":
        names = "avg10DaysVolume avg1YearVolume divAmount divFreq divPayAmount divYield eps"
        zeros = dict.fromkeys([*names.split(), "fundLeverageFactor", "peRatio"], 0.0)
        return zeros | {"divFreq": 0}
    paid_out = payout(listing, today)
    pays = paid_out.yearly > 0
    told: dict[str, Any] = {
        "avg10DaysVolume": float(round(averages[0])),
        "avg1YearVolume": float(round(averages[1])),
    }
    if pays:
        told["declarationDate"] = _instant(paid_out.declared)
    told["divAmount"] = paid_out.yearly
    if pays:
        told["divExDate"] = _instant(paid_out.ex)
    told["divFreq"] = 4 if pays else 0
    told["divPayAmount"] = round(paid_out.yearly / 4, 4)
    if pays:
        told["divPayDate"] = _instant(paid_out.paid)
    told["divYield"] = round(paid_out.yearly / listing.price * 100, 5)
    told["eps"] = paid_out.eps
    told["fundLeverageFactor"] = 0.0
    if listing.kind == "stock":
        told["lastEarningsDate"] = _instant(paid_out.earnings)
    if pays:
        told["nextDivExDate"] = _instant(paid_out.next_ex)
        told["nextDivPayDate"] = _instant(paid_out.next_paid)
    told["peRatio"] = round(listing.price / paid_out.eps, 5) if paid_out.eps else 0.0
    return told


_RATIOS = (  # name, least, most: plausible, and nothing more
    ("pegRatio", 0.5, 4.0),
    ("pbRatio", 1.0, 12.0),
    ("prRatio", 0.8, 9.0),
    ("pcfRatio", 6.0, 30.0),
    ("grossMarginTTM", 20.0, 70.0),
    ("grossMarginMRQ", 20.0, 70.0),
    ("netProfitMarginTTM", 3.0, 30.0),
    ("netProfitMarginMRQ", 3.0, 30.0),
    ("operatingMarginTTM", 5.0, 35.0),
    ("operatingMarginMRQ", 5.0, 35.0),
    ("returnOnEquity", 4.0, 45.0),
    ("returnOnAssets", 1.0, 20.0),
    ("returnOnInvestment", 2.0, 30.0),
    ("quickRatio", 0.4, 2.5),
    ("currentRatio", 0.7, 3.0),
    ("interestCoverage", 0.0, 0.0),
    ("totalDebtToCapital", 5.0, 70.0),
    ("ltDebtToEquity", 5.0, 150.0),
    ("totalDebtToEquity", 5.0, 180.0),
)
_GROWTH = (
    ("epsChangePercentTTM", -10.0, 30.0),
    ("epsChangeYear", 0.0, 0.0),
    ("epsChange", 0.0, 0.0),
    ("revChangeYear", -5.0, 15.0),
    ("revChangeTTM", -5.0, 15.0),
    ("revChangeIn", 0.0, 0.0),
)


def _drawn(listing: Listing, table: Iterable[tuple[str, float, float]]) -> dict[str, float]:
    return {
        name: round(low + (high - low) * fraction(listing.symbol, name), 5)
        for name, low, high in table
    }


def fundamentals(market: Market, i: int, quotes: Quotes) -> dict[str, Any]:
    """Return what `/instruments?projection=fundamental` tells of one listing."""
    listing, price = market.listings[i], float(quotes.last[i])
    year = market.year(quotes.moment.day)
    high, low, averages = float(year.high[i]), float(year.low[i]), year.averages(i)
    paid_out = payout(listing, date.fromordinal(quotes.moment.day + 1))
    pays = paid_out.yearly > 0

    def stamped(name: str, day: date) -> dict[str, str]:
        return {name: f"{day} 00:00:00.0"} if pays else {}

    told: dict[str, Any] = {"symbol": spelled(listing.symbol), "high52": high, "low52": low}
    told |= {"dividendAmount": paid_out.yearly}
    told |= {"dividendYield": round(paid_out.yearly / price * 100, 5)}
    told |= stamped("dividendDate", paid_out.ex)
    told |= {"peRatio": round(price / paid_out.eps, 5) if paid_out.eps else 0.0}
    told |= _drawn(listing, _RATIOS)
    told |= {"epsTTM": paid_out.eps} | _drawn(listing, _GROWTH)
    told |= {"sharesOutstanding": listing.shares, "marketCapFloat": 0.0}
    told |= {"marketCap": round(listing.shares * price, 2)}
    told |= {"bookValuePerShare": round(price / (2 + 6 * fraction(listing.symbol, "book")), 5)}
    told |= {"shortIntToFloat": 0.0, "shortIntDayToCover": 0.0, "divGrowthRate3Year": 0.0}
    told |= {"dividendPayAmount": round(paid_out.yearly / 4, 4)}
    told |= stamped("dividendPayDate", paid_out.paid)
    told |= {"beta": round(listing.beta, 5)}
    told |= {"vol1DayAvg": 0.0, "vol10DayAvg": 0.0, "vol3MonthAvg": 0.0}
    told |= {"avg10DaysVolume": round(averages[0]), "avg1DayVolume": round(averages[0])}
    told |= {"avg3MonthVolume": round(averages[1])} | stamped("declarationDate", paid_out.declared)
    told |= {"dividendFreq": 4 if pays else 0, "eps": paid_out.eps, "dtnVolume": round(averages[1])}
    told |= stamped("nextDividendPayDate", paid_out.next_paid)
    told |= stamped("nextDividendDate", paid_out.next_ex)
    return told | {"fundLeverageFactor": 0.0}


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
