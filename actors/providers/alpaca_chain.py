"""Alpaca's option snapshots and contracts, read into one chain; apart, because numpy costs an actor memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.domain.calendar import NEW_YORK
from actors.domain.chains import Chain, Floats, occ, read_occ
from actors.providers.alpaca import VENDOR, answered, by_symbol, next_of
from actors.providers.base import Malformed
from actors.providers.values import count, moment_of, number, price, rows, traded

SHARES = 100.0  # of one standard contract
NAT = np.datetime64("NaT", "ms")

_GREEKS = ("delta", "gamma", "theta", "vega", "rho")
_FIGURES = ("bid", "ask", "last", "bid_size", "ask_size", "volume", "iv", *_GREEKS)


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """One page's contracts in columns; `figures` has a row a contract and a column a figure."""

    theirs: list[str]  # as the vendor spells it: "AAPL251219C00200000"
    root: list[str]
    contract: list[str]
    expiration: NDArray[np.datetime64]
    strike: Floats
    call: NDArray[np.bool_]
    quoted_at: NDArray[np.datetime64]
    traded_at: NDArray[np.datetime64]
    figures: Floats

    def __len__(self) -> int:
        return len(self.theirs)


def parse_snapshots(body: Any) -> tuple[Block, str | None]:
    """Return one page's contracts and the token of the next; what is no OCC symbol is left out.

    Greeks and volatility are not there where they cannot be computed.  An ask of zero means that nobody
    asks; a bid of zero is real.  The daily bar counts only where it is of the day of the quote.
    """
    answer = answered(body, "chain")
    found = []
    for name, snapshot in by_symbol(answer, "snapshots").items():
        try:
            found.append((name, *read_occ(name), *_figures(snapshot)))
        except ValueError:
            continue
    theirs, roots, expirations, calls, strikes, quoted, traded_at, figures = (
        zip(*found, strict=True) if found else ((),) * 8
    )
    named = zip(roots, expirations, calls, strikes, strict=True)
    block = Block(
        theirs=list(theirs),
        root=list(roots),
        contract=[occ(r, e, call=c, strike=s) for r, e, c, s in named],
        expiration=np.array(expirations, "datetime64[D]"),
        strike=np.array(strikes, float),
        call=np.array(calls, bool),
        quoted_at=np.array(quoted, "datetime64[ms]"),
        traded_at=np.array(traded_at, "datetime64[ms]"),
        figures=np.array(figures, float).reshape(len(found), len(_FIGURES)),
    )
    return block, next_of(answer)


def parse_contracts(body: Any) -> tuple[dict[str, tuple[float, float]], str | None]:
    """Return {contract: (open interest, shares)} and the token of the next page; NaN is "no value".

    The numbers are text: "open_interest": "237".
    """
    answer = answered(body, "contracts")
    found: dict[str, tuple[float, float]] = {}
    for row in rows(VENDOR, answer.get("option_contracts"), "option_contracts"):
        if isinstance(row, Mapping) and isinstance(row.get("symbol"), str):
            size = _spoken(row.get("size"))
            found[row["symbol"]] = _spoken(row.get("open_interest")), size
    return found, next_of(answer)


def assemble(
    symbol: str,
    blocks: Sequence[Block],
    contracts: Mapping[str, tuple[float, float]],
    *,
    delayed: bool,
) -> Chain:
    """Return all pages as one chain; `Malformed` where no contract in it has a time."""
    theirs = [name for block in blocks for name in block.theirs]
    roots = [root for block in blocks for root in block.root]
    unknown = (np.nan, np.nan)
    known = np.array([contracts.get(name, unknown) for name in theirs], float).reshape(-1, 2)
    # An adjusted contract has a digit behind its root, and another number of shares.
    plain = np.array([not root[-1].isdigit() for root in roots], bool)
    standard = plain & (np.isnan(known[:, 1]) | (known[:, 1] == SHARES))
    contract = np.array([name for block in blocks for name in block.contract], np.str_)
    expiration, strike, call, quoted, traded_at, figures = (
        np.concatenate([getattr(block, name) for block in blocks])
        for name in ("expiration", "strike", "call", "quoted_at", "traded_at", "figures")
    )
    times = np.concatenate((quoted, traded_at))
    times = times[~np.isnat(times)]
    if not len(times):
        raise Malformed(VENDOR, "a chain without a time")
    _, once = np.unique(contract, return_index=True)  # pages may overlap
    order = once[np.lexsort((~call[once], strike[once], expiration[once]))]
    columns = {name: figures[order, n] for n, name in enumerate(_FIGURES)}
    return Chain(
        symbol=symbol,
        at=times.max().astype(datetime).replace(tzinfo=UTC),
        source=VENDOR,
        spot=None,
        contract=contract[order],
        expiration=expiration[order],
        strike=strike[order],
        call=call[order],
        open_interest=known[order, 0],
        quoted_at=quoted[order],
        standard=standard[order],
        delayed=delayed,
        **columns,
    )


def _figures(snapshot: Any) -> tuple[np.datetime64, np.datetime64, tuple[float | None, ...]]:
    snapshot = snapshot if isinstance(snapshot, Mapping) else {}
    quote, trade, greeks, day = (
        part if isinstance(part := snapshot.get(key), Mapping) else {}
        for key in ("latestQuote", "latestTrade", "greeks", "dailyBar")
    )
    quoted, traded_at, began = (moment_of(part.get("t")) for part in (quote, trade, day))
    newest = max((at for at in (quoted, traded_at) if at), default=None)
    today = began and newest and _day(began) >= _day(newest)
    figures = (
        price(quote.get("bp")),
        traded(quote.get("ap")),
        traded(trade.get("p")),
        count(quote.get("bs")),
        count(quote.get("as")),
        count(day.get("v")) if today else None,
        traded(snapshot.get("impliedVolatility")),
        *(number(greeks.get(name)) for name in _GREEKS),
    )
    return _stamp(quoted), _stamp(traded_at), figures


def _stamp(at: datetime | None) -> np.datetime64:
    return np.datetime64(at.replace(tzinfo=None), "ms") if at else NAT


def _day(at: datetime) -> int:
    return at.astimezone(NEW_YORK).toordinal()


def _spoken(value: Any) -> float:
    try:
        found = price(float(value)) if isinstance(value, str) else price(value)
    except ValueError:
        found = None
    return np.nan if found is None else found
