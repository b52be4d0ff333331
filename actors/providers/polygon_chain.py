"""Polygon's option snapshots: what one page tells of each contract, and all pages as a chain in columns.

Vendor reference: massive.com/docs, "Option Chain Snapshot".  Implied volatility is a fraction, there is
no rho, and `greeks` is {} (or missing) where they could not be computed.
"""

import math
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

import numpy as np

from actors.domain.calendar import NEW_YORK
from actors.domain.chains import Chain, Floats, occ, read_occ
from actors.providers.polygon import NANOSECONDS, VENDOR, answer, part, results
from actors.providers.values import day_of, moment, number, price, told, traded

HIGHEST_STRIKE = 99_999.999  # what an OCC symbol has room for


class Contract(NamedTuple):
    """What one row tells; NaN is "no value"."""

    root: str
    expiration: date
    call: bool
    strike: float
    bid: float
    ask: float
    last: float
    bid_size: float
    ask_size: float
    volume: float
    open_interest: float
    iv: float
    delta: float
    gamma: float
    theta: float
    vega: float
    quoted: datetime | None
    traded_on: date | None  # the New York date that `volume` is of: its most recent with a trade
    standard: bool
    delayed: bool
    spot: float


def parse_contracts(body: Any, symbol: str) -> list[Contract]:
    """Return the contracts of one page; a row that tells no expiration, right and strike is left out."""
    delayed = answer(body).get("status") == "DELAYED"
    return [c for row in results(body) if (c := read(row, symbol, delayed=delayed))]


def read(row: Any, symbol: str, *, delayed: bool = False) -> Contract | None:
    """Return one row; None where it is no option."""
    details, day, quote, greeks = (
        part(row, name) for name in ("details", "day", "last_quote", "greeks")
    )
    if not (key := _key(row, symbol)):
        return None
    root, expiration, call, strike = key
    told_at = moment(day.get("last_updated"), NANOSECONDS)
    return Contract(
        root=root,
        expiration=expiration,
        call=call,
        strike=strike,
        bid=_float(price(quote.get("bid"))),
        ask=_float(price(quote.get("ask"))),
        last=_float(traded(part(row, "last_trade").get("price")) or traded(day.get("close"))),
        bid_size=_float(price(quote.get("bid_size"))),
        ask_size=_float(price(quote.get("ask_size"))),
        volume=_float(price(day.get("volume"))),
        open_interest=_float(price(row.get("open_interest"))),
        iv=_float(traded(row.get("implied_volatility"))),
        delta=_float(number(greeks.get("delta"))),
        gamma=_float(number(greeks.get("gamma"))),
        theta=_float(number(greeks.get("theta"))),
        vega=_float(number(greeks.get("vega"))),
        quoted=moment(quote.get("last_updated"), NANOSECONDS),
        traded_on=told_at.astimezone(NEW_YORK).date() if told_at else None,
        standard=details.get("shares_per_contract") == 100 and not root[-1].isdigit(),
        delayed=delayed or quote.get("timeframe") == "DELAYED",
        spot=_float(traded(part(row, "underlying_asset").get("price"))),
    )


def _key(row: Any, symbol: str) -> tuple[str, date, bool, float] | None:
    """Return (root, expiration, call, strike): of the ticker, or of the details where that is none.

    `/v3/snapshot` has the ticker beside the details, not in them.
    """
    details = part(row, "details")
    ticker = details.get("ticker") or (row.get("ticker") if isinstance(row, dict) else None)
    if isinstance(ticker, str):
        try:
            return read_occ(ticker)
        except ValueError:
            pass
    expiration, strike = day_of(details.get("expiration_date")), traded(details.get("strike_price"))
    right = told(details.get("contract_type"))
    if expiration is None or strike is None or strike > HIGHEST_STRIKE:
        return None
    if right not in {"call", "put"} or expiration.year < 2000:
        return None
    return symbol.replace(".", "")[:6], expiration, right == "call", strike


def columns(symbol: str, contracts: Sequence[Contract], now: datetime) -> Chain:
    """Return the chain of all pages; `now` is its time where no quote has one."""
    # Pages are of different moments: of a contract on two of them the later one counts.
    found = {(c.root, c.expiration, c.call, c.strike): c for c in contracts}
    chosen = sorted(found.values(), key=lambda c: (c.expiration, c.strike, not c.call, c.root))
    at = max((c.quoted for c in chosen if c.quoted), default=now)
    today = at.astimezone(NEW_YORK).date()
    spots = [c.spot for c in contracts if not math.isnan(c.spot)]

    def of(name: str) -> Floats:
        return np.array([getattr(c, name) for c in chosen], dtype=np.float64)

    names = [occ(c.root, c.expiration, call=c.call, strike=c.strike) for c in chosen]
    earlier = [c.traded_on is not None and c.traded_on < today for c in chosen]
    quoted = [c.quoted.replace(tzinfo=None) if c.quoted else None for c in chosen]
    return Chain(
        symbol=symbol,
        at=at,
        source=VENDOR,
        spot=spots[-1] if spots else None,
        contract=np.array(names, dtype="U21"),
        expiration=np.array([c.expiration for c in chosen], dtype="datetime64[D]"),
        strike=of("strike"),
        call=np.array([c.call for c in chosen], dtype=np.bool_),
        bid=of("bid"),
        ask=of("ask"),
        last=of("last"),
        bid_size=of("bid_size"),
        ask_size=of("ask_size"),
        # The bar of a day before says that nothing was traded today.
        volume=np.where(np.array(earlier, dtype=np.bool_), 0.0, of("volume")),
        open_interest=of("open_interest"),
        iv=of("iv"),
        delta=of("delta"),
        gamma=of("gamma"),
        theta=of("theta"),
        vega=of("vega"),
        rho=np.full(len(chosen), np.nan),
        quoted_at=np.array(quoted, dtype="datetime64[ms]"),
        standard=np.array([c.standard for c in chosen], dtype=np.bool_),
        delayed=any(c.delayed for c in chosen),
    )


def _float(value: float | None) -> float:
    return math.nan if value is None else value
