"""Schwab's option chains: which contracts a query wants, and how they are written."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request

from actors.domain import calendar
from actors.domain.chains import read_occ
from sandbox.days import NEW_YORK
from sandbox.listing import Listing, key
from sandbox.market import Market, Quotes
from sandbox.options import INDEX, Book, Expiration, Options
from sandbox.schwab_wire import Refused, described, dumped, flag, spelled, whole

CONTRACT_BYTES = 1_000  # what a contract takes at least: a chain that cannot fit is not written
UNPRICEABLE = -999.0
NEAR = 0.05  # "near the money": within so much of the underlying's price

CONTRACT_TYPES = {"ALL", "CALL", "PUT"}
RANGES = {"ALL", "ITM", "NTM", "OTM", "SAK", "SBK", "SNK"}
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")

_PLACES = {"Index": "IND", "NASDAQ": "NAS", "NYSE": "NYS", "NYSE Arca": "PAC"}

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Asked:
    """What `/chains` was asked for."""

    symbol: str
    contract_type: str
    strike_count: int | None
    underlying: bool
    strategy: str
    strikes: str  # the `range`
    strike: float | None
    first: date | None
    last: date | None
    month: str
    option_type: str

    @classmethod
    def read(cls, request: Request) -> "Asked":
        """Return the query; what cannot be meant is refused as Schwab refuses it."""
        symbol = request.query_params.get("symbol", "").strip().upper()
        if not symbol:
            raise Refused(400, "symbol is required", "symbol")
        first, last = _date(request, "fromDate"), _date(request, "toDate")
        if first and last and first > last:
            raise Refused(400, "fromDate must be before toDate", "fromDate")
        count = whole(request, "strikeCount", None)
        if count == 0:
            raise Refused(400, "Invalid strikeCount", "strikeCount")
        return cls(
            symbol=symbol,
            contract_type=_word(request, "contractType", CONTRACT_TYPES),
            strike_count=count,
            underlying=flag(request, "includeUnderlyingQuote", usual=False),
            strategy=_word(request, "strategy", {"SINGLE", "ANALYTICAL"}, "SINGLE"),
            strikes=_word(request, "range", RANGES),
            strike=_number(request, "strike"),
            first=first,
            last=last,
            month=_word(request, "expMonth", {"ALL", *MONTHS}),
            option_type=_word(request, "optionType", {"ALL", "S", "NS"}),
        )

    def wanted(self, book: Book) -> Bools:
        """Return which of a book's contracts are asked for."""
        kept = np.array([self._when(e.day) for e in book.expirations], dtype=np.bool_)[book.of]
        if self.contract_type != "ALL":
            kept &= book.call == (self.contract_type == "CALL")
        if self.option_type == "NS":  # nothing here was ever adjusted
            kept[:] = False
        if self.strike is not None:
            kept &= book.strike == self.strike
        inside = np.where(book.call, book.strike < book.spot, book.strike > book.spot)
        match self.strikes:
            case "ITM":
                kept &= inside
            case "OTM":
                kept &= ~inside
            case "NTM" | "SNK":
                kept &= np.abs(book.strike / book.spot - 1) <= NEAR
            case "SAK":
                kept &= book.strike > book.spot
            case "SBK":
                kept &= book.strike < book.spot
        if self.strike_count is not None:
            kept &= _nearest(book, kept, self.strike_count)
        return kept

    def _when(self, day: date) -> bool:
        in_month = self.month in {"ALL", MONTHS[day.month - 1]}
        return in_month and (self.first or day) <= day <= (self.last or day)


class Chains:
    """Writes chains, expirations and the quotes of single contracts."""

    def __init__(self, market: Market, options: Options) -> None:
        self._market, self._options = market, options
        self._by_symbol = {spelled(row.symbol): row.symbol for row in market.listings}
        self._by_root = {row.symbol.replace(".", ""): row.symbol for row in market.listings}
        self._by_root |= {"SPX": INDEX, "SPXW": INDEX}

    def chain(self, asked: Asked, now: int, most_bytes: int) -> bytes:
        """Return an answer of `/chains`; one that is too big is refused as by Schwab's gateway."""
        name = self._by_symbol.get(asked.symbol)
        book = self._options.book(name, now) if name else None
        if name is None or book is None:
            return dumped(_nothing(asked, "FAILED"))
        kept = asked.wanted(book)
        if kept.sum() * CONTRACT_BYTES > most_bytes:
            raise Refused(502)
        if not kept.any():
            return dumped(_nothing(asked, "NO_DATA"))
        i = self._market.index[name]
        listing, quotes = self._market.listings[i], self._market.quotes(now)
        head = _head(asked, listing, book, int(kept.sum()))
        if asked.underlying:
            head["underlying"] = _underlying(listing, quotes, i, self._market)
        rows = np.flatnonzero(kept)
        texts = dict(zip(rows.tolist(), _written(book, rows, listing, now), strict=True))
        today = datetime.fromtimestamp(now / 1000, NEW_YORK).date()
        maps = [
            f'"{side}":{_mapped(book, rows[book.call[rows] == call], texts, today)}'
            for side, call in (("callExpDateMap", True), ("putExpDateMap", False))
        ]
        return f"{json.dumps(head, separators=(',', ':'))[:-1]},{','.join(maps)}}}".encode()

    def expirations(self, request: Request, now: int) -> bytes:
        """Return an answer of `/expirationchain`."""
        symbol = request.query_params.get("symbol", "").strip().upper()
        if not symbol:
            raise Refused(400, "symbol is required", "symbol")
        name = self._by_symbol.get(symbol)
        found = self._options.expirations(name, now) if name else ()
        today = datetime.fromtimestamp(now / 1000, NEW_YORK).date()
        rows = [
            {
                "expirationDate": e.day.isoformat(),
                "daysToExpiration": (e.day - today).days,
                "expirationType": e.kind,
                "settlementType": "A" if e.morning else "P",
                "optionRoots": e.root,
                "standard": True,
            }
            for e in found
        ]
        return dumped({"expirationList": rows, "status": None if rows else "FAILED"})

    def quote(self, contract: str, fields: Sequence[str], now: int) -> str | None:
        """Return the entry of one contract in an answer of `/quotes`, or None where it is not listed."""
        try:
            root = read_occ(contract)[0]
        except ValueError:
            return None
        name = self._by_root.get(root)
        book = self._options.book(name, now) if name else None
        if book is None:
            return None
        for n in np.flatnonzero(book.contract == contract).tolist():
            return dumped(_entry(book, n, fields, now)).decode()
        return None


def _word(request: Request, name: str, known: set[str], usual: str = "ALL") -> str:
    word = request.query_params.get(name, "").strip().upper() or usual
    if word not in known:
        raise Refused(400, f"Invalid {name}", name)
    return word


def _date(request: Request, name: str) -> date | None:
    text = request.query_params.get(name, "").strip()
    if not text:
        return None
    try:
        # Clients also send a time behind the date.
        return date.fromisoformat(text[:10])
    except ValueError:
        raise Refused(400, f"Invalid {name}, expected yyyy-MM-dd", name) from None


def _number(request: Request, name: str) -> float | None:
    text = request.query_params.get(name)
    try:
        return None if text is None else float(text)
    except ValueError:
        raise Refused(400, f"Invalid {name}", name) from None


def _nearest(book: Book, kept: Bools, count: int) -> Bools:
    """Return the contracts at the `count` strikes nearest the money of each expiration."""
    near = np.zeros(len(book), dtype=np.bool_)
    for n in range(len(book.expirations)):
        rows = np.flatnonzero(kept & (book.of == n))
        strikes = np.unique(book.strike[rows])
        chosen = strikes[np.argsort(np.abs(strikes - book.spot), kind="stable")[:count]]
        near[rows[np.isin(book.strike[rows], chosen)]] = True
    return near


def _nothing(asked: Asked, status: str) -> dict[str, Any]:
    return {
        "symbol": asked.symbol,
        "status": status,
        "strategy": asked.strategy,
        "interval": 0.0,
        "isDelayed": False,
        "isIndex": False,
        "interestRate": 0.0,
        "underlyingPrice": 0.0,
        "volatility": 0.0,
        "daysToExpiration": 0.0,
        "dividendYield": 0.0,
        "numberOfContracts": 0,
        "isChainTruncated": False,
        "callExpDateMap": {},
        "putExpDateMap": {},
    }


def _head(asked: Asked, listing: Listing, book: Book, count: int) -> dict[str, Any]:
    index = listing.kind == "index"
    sub = {"index": "", "etf": "ETF"}.get(listing.kind, "COE")
    told = _nothing(asked, "SUCCESS") | {
        "isIndex": index,
        "interestRate": round(book.surface.rate * 100, 3),
        "underlyingPrice": book.spot,
        "volatility": 29.0,  # whatever the symbol
        "numberOfContracts": count,
        "assetMainType": "INDEX" if index else "EQUITY",
        "assetSubType": sub,
    }
    del told["callExpDateMap"], told["putExpDateMap"]
    return told


def _underlying(listing: Listing, quotes: Quotes, i: int, market: Market) -> dict[str, Any]:
    last, before = float(quotes.last[i]), float(quotes.previous_close[i])
    bid, ask = float(quotes.bid[i]), float(quotes.ask[i])
    mark, year = round((bid + ask) / 2, 2), market.year(quotes.moment.day)
    return {
        "symbol": spelled(listing.symbol),
        "description": described(listing),
        "change": round(last - before, 2),
        "percentChange": round((last - before) / before * 100, 2),
        "close": before,
        "quoteTime": quotes.at,
        "tradeTime": quotes.at,
        "bid": bid,
        "ask": ask,
        "last": last,
        "mark": mark,
        "markChange": round(mark - before, 2),
        "markPercentChange": round((mark - before) / before * 100, 2),
        "bidSize": int(quotes.bid_size[i]),
        "askSize": int(quotes.ask_size[i]),
        "highPrice": float(quotes.high[i]),
        "lowPrice": float(quotes.low[i]),
        "openPrice": float(quotes.open[i]),
        "totalVolume": int(quotes.volume[i]),
        "exchangeName": _PLACES[listing.exchange_name],
        "fiftyTwoWeekHigh": max(float(year.high[i]), float(quotes.high[i])),
        "fiftyTwoWeekLow": min(float(year.low[i]), float(quotes.low[i])),
        "delayed": False,
    }


def _mapped(book: Book, rows: NDArray[np.int64], texts: dict[int, str], today: date) -> str:
    """Return one side of a chain: contracts by date and strike, two roots of a strike in one list."""
    by_date: dict[str, dict[float, list[str]]] = {}
    keys = [f"{e.day}:{(e.day - today).days}" for e in book.expirations]
    for row, of, strike in zip(
        rows.tolist(), book.of[rows].tolist(), book.strike[rows].tolist(), strict=True
    ):
        by_date.setdefault(keys[of], {}).setdefault(strike, []).append(texts[row])
    dates = (f'"{key}":{{{",".join(_listed(strikes))}}}' for key, strikes in by_date.items())
    return f"{{{','.join(dates)}}}"


def _listed(strikes: dict[float, list[str]]) -> Iterator[str]:
    return (f'"{strike}":[{",".join(strikes[strike])}]' for strike in sorted(strikes))


def _written(book: Book, rows: NDArray[np.int64], listing: Listing, now: int) -> Iterator[str]:
    """Return contracts as JSON, with the 52 keys of a recorded one."""
    symbol, spot = spelled(listing.symbol), book.spot
    index = listing.kind == "index"
    today = datetime.fromtimestamp(now / 1000, NEW_YORK).date()
    tails = [_tail(e, symbol, today, index=index, penny=book.penny) for e in book.expirations]
    # With the market closed the broker prices only what somebody bids for.
    blank = np.isnan(book.iv) | (book.frozen & (book.bid <= 0))
    textual = book.code % 5 == 0  # the other way it says so
    columns = (
        book.of, book.contract, book.strike, book.call, book.bid, book.ask, book.last,
        book.bid_size, book.ask_size, book.last_size, book.high, book.low, book.previous_close,
        book.volume, book.traded_at, book.quoted_at, (book.iv * 100).round(3), book.delta.round(3),
        book.gamma.round(3), book.theta.round(3), book.vega.round(3), book.rho.round(3),
        book.open_interest, book.theoretical.round(3), blank, textual,
    )  # fmt: skip
    for row in zip(*(column[rows].tolist() for column in columns), strict=True):
        (of, contract, strike, call, bid, ask, last, bid_size, ask_size, last_size, high, low,
         close, volume, traded_at, quoted_at, iv, delta, gamma, theta, vega, rho, interest,
         worth, unknown, as_text) = row  # fmt: skip
        if unknown:
            iv = delta = gamma = theta = vega = rho = worth = UNPRICEABLE
            iv = '"NaN"' if as_text else iv
        mark = round((bid + ask) / 2, 3)
        change, mark_change = round(last - close, 2) if last else 0.0, round(mark - close, 2)
        inside = round(spot - strike if call else strike - spot, 2)
        side = "CALL" if call else "PUT"
        expiration = book.expirations[of]
        name = f"{expiration.root} {expiration.day:%m/%d/%Y} {strike:.2f} {side[0]}"
        yield (
            f'{{"putCall":"{side}","symbol":"{contract}","description":"{name}",'
            f'"exchangeName":"OPR","bid":{bid},"ask":{ask},"last":{last},"mark":{mark},'
            f'"bidSize":{bid_size},"askSize":{ask_size},"bidAskSize":"{bid_size}X{ask_size}",'
            f'"lastSize":{last_size},"highPrice":{high},"lowPrice":{low},"openPrice":0.0,'
            f'"closePrice":{close},"totalVolume":{volume},"tradeTimeInLong":{traded_at},'
            f'"quoteTimeInLong":{quoted_at},"netChange":{change},"volatility":{iv},'
            f'"delta":{delta},"gamma":{gamma},"theta":{theta},"vega":{vega},"rho":{rho},'
            f'"openInterest":{interest},"timeValue":{round(last - max(inside, 0.0), 2)},'
            f'"theoreticalOptionValue":{worth},"theoreticalVolatility":29.0,'
            f'"strikePrice":{strike},{tails[of]}'
            f'"percentChange":{round(change / close * 100, 2)},"markChange":{mark_change},'
            f'"markPercentChange":{round(mark_change / close * 100, 2)},'
            f'"intrinsicValue":{inside},"extrinsicValue":{round(last - inside, 2)},'
            f'"high52Week":{max(high, last, close)},"low52Week":{min(low or close, close)},'
            f'"inTheMoney":{"true" if inside > 0 else "false"}}}'
        )


def _entry(book: Book, n: int, fields: Sequence[str], now: int) -> dict[str, Any]:
    """Return one contract as `/quotes` tells it: other names than in a chain, and more places."""
    contract, expiration = str(book.contract[n]), book.expirations[int(book.of[n])]
    told: dict[str, Any] = {
        "assetMainType": "OPTION",
        "realtime": True,
        "ssid": key(contract, "ssid") % 200_000_000,
        "symbol": contract,
    }
    if "quote" in fields:
        told["quote"] = _quote(book, n)
    if "reference" in fields:
        today = datetime.fromtimestamp(now / 1000, NEW_YORK).date()
        call, strike = bool(book.call[n]), float(book.strike[n])
        right, symbol, index = "C" if call else "P", spelled(book.symbol), book.symbol == INDEX
        told["reference"] = {
            "contractType": right,
            "daysToExpiration": (expiration.day - today).days,
            "deliverables": f"100 {symbol}",
            "description": f"{expiration.root} {expiration.day:%m/%d/%Y} {strike:.2f} {right}",
            "exchange": "O",
            "exchangeName": "OPR",
            "exerciseType": "A" if book.american else "E",
            "expirationDay": expiration.day.day,
            "expirationMonth": expiration.day.month,
            "expirationType": expiration.kind,
            "expirationYear": expiration.day.year,
            "isPennyPilot": book.penny,
            "lastTradingDay": _trading_ends(expiration),
            "multiplier": 100.0,
            "settlementType": "A" if expiration.morning else "P",
            "strikePrice": strike,
            "underlying": symbol,
            "underlyingAssetType": "INDEX" if index else "EQUITY",
        }
    return told


def _quote(book: Book, n: int) -> dict[str, Any]:
    bid, ask, last = (float(c[n]) for c in (book.bid, book.ask, book.last))
    high, low, close = (float(c[n]) for c in (book.high, book.low, book.previous_close))
    mark = round((bid + ask) / 2, 4)
    change, mark_change = round(last - close, 4) if last else 0.0, round(mark - close, 4)
    strike, call = float(book.strike[n]), bool(book.call[n])
    inside = round(book.spot - strike if call else strike - book.spot, 2)
    known = not np.isnan(book.iv[n])

    def priced(value: float) -> float:
        return round(float(value), 8) if known else UNPRICEABLE

    return {
        "52WeekHigh": max(high, last, close),
        "52WeekLow": min(low or close, close),
        "askPrice": ask,
        "askSize": int(book.ask_size[n]),
        "bidPrice": bid,
        "bidSize": int(book.bid_size[n]),
        "closePrice": close,
        "delta": priced(book.delta[n]),
        "gamma": priced(book.gamma[n]),
        "highPrice": high,
        "indAskPrice": 0.0,
        "indBidPrice": 0.0,
        "indQuoteTime": 0,
        "impliedYield": 0.0,
        "lastPrice": last,
        "lastSize": int(book.last_size[n]),
        "lowPrice": low,
        "mark": mark,
        "markChange": mark_change,
        "markPercentChange": round(mark_change / close * 100, 8),
        "moneyIntrinsicValue": inside,
        "netChange": change,
        "netPercentChange": round(change / close * 100, 8),
        "openInterest": int(book.open_interest[n]),
        "openPrice": last if high else 0.0,
        "quoteTime": int(book.quoted_at[n]),
        "rho": priced(book.rho[n]),
        "securityStatus": "Closed" if book.frozen else "Normal",
        "theoreticalOptionValue": priced(book.theoretical[n]),
        "theta": priced(book.theta[n]),
        "timeValue": round(last - max(inside, 0.0), 2),
        "totalVolume": int(book.volume[n]),
        "tradeTime": int(book.traded_at[n]),
        "underlyingPrice": book.spot,
        "vega": priced(book.vega[n]),
        "volatility": priced(book.iv[n] * 100),
    }


def _trading_ends(e: Expiration) -> int:
    """Return 20:00 of the last day it trades, in ms; what settles at the opening ends the day before."""
    day = calendar.previous_session(e.day).day if e.morning else e.day
    return int(datetime.combine(day, time(20), NEW_YORK).timestamp()) * 1000


def _tail(e: Expiration, symbol: str, today: date, *, index: bool, penny: bool) -> str:
    """Return what all contracts of an expiration have in common."""
    closing = datetime.combine(e.day, time(16), NEW_YORK)
    expires = (closing - (closing.utcoffset() or timedelta())).strftime("%Y-%m-%dT%H:%M:%S")
    told = {
        "optionDeliverablesList": [
            {"symbol": symbol, "assetType": "STOCK", "deliverableUnits": 100.0}
        ],
        "expirationDate": f"{expires}.000+00:00",
        "daysToExpiration": (e.day - today).days,
        "expirationType": e.kind,
        "lastTradingDay": _trading_ends(e),
        "multiplier": 100.0,
        "settlementType": "A" if e.morning else "P",
        "deliverableNote": f"100 {symbol}(Cash)" if index else f"100 {symbol}",
        "optionRoot": e.root,
        "exerciseType": "E" if index else "A",
        "nonStandard": False,
        "pennyPilot": penny,
        "mini": False,
    }
    return json.dumps(told, separators=(",", ":"))[1:-1] + ","
