"""Schwab's option chains into columns; apart from the adapter, because numpy is only needed for a chain.

The wire is that of recorded answers: contracts under `callExpDateMap` and `putExpDateMap`, by `date:days` and
strike, in lists, because adjusted contracts share a strike.  Volatility is in percent; what cannot be priced is
-999.0 or the text "NaN".
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.domain.chains import Chain, Floats, read_occ
from actors.providers.base import Malformed, Unsupported
from actors.providers.values import EPOCH, LATEST_MS, day_of, mapping, number, price, rows, traded

VENDOR = "schwab"
MULTIPLIER = 100.0


def parse_chain(body: Any, symbol: str, now: datetime) -> Chain:
    """Return the contracts of one answer; a contract whose symbol is unreadable is left out.

    `NO_DATA` is a chain without contracts; `FAILED`, which Schwab says of a symbol without options, is
    `Unsupported`.  `now` is the chain's time where no contract has one.
    """
    body = mapping(VENDOR, body, "chain")
    told = list(_contracts(body))
    status = body.get("status")
    if status == "FAILED" and not told:
        raise Unsupported(VENDOR, "has no options on that symbol (FAILED)")
    if status not in ("SUCCESS", "NO_DATA") and not told:
        raise Malformed(VENDOR, "a chain that is neither SUCCESS, NO_DATA nor FAILED")
    named = [(known, contract) for contract in told if (known := _known(contract.get("symbol")))]
    if told and not named:
        raise Malformed(VENDOR, f"a chain of {len(told)} contracts, none of them readable")
    contracts = [contract for _, contract in named]
    percent = _column(contracts, "volatility")
    quoted = np.array([_ms(c.get("quoteTimeInLong")) for c in contracts], dtype="datetime64[ms]")
    chain = Chain(
        symbol=symbol,
        at=_newest(quoted, now),
        source=VENDOR,
        spot=_spot(body),
        contract=np.array([known[0] for known, _ in named], dtype="U21"),
        expiration=np.array([known[1] for known, _ in named], dtype="datetime64[D]"),
        strike=np.array([known[3] for known, _ in named], dtype=np.float64),
        call=np.array([known[2] for known, _ in named], dtype=np.bool_),
        bid=_amounts(contracts, "bid"),
        ask=_amounts(contracts, "ask"),
        last=_positive(_amounts(contracts, "last")),
        bid_size=_amounts(contracts, "bidSize"),
        ask_size=_amounts(contracts, "askSize"),
        volume=_amounts(contracts, "totalVolume"),
        open_interest=_amounts(contracts, "openInterest"),
        iv=_positive(percent) / 100,
        delta=_column(contracts, "delta"),
        gamma=_column(contracts, "gamma"),
        theta=_column(contracts, "theta"),
        vega=_column(contracts, "vega"),
        rho=_column(contracts, "rho"),
        quoted_at=quoted,
        standard=np.array([_is_standard(c) for c in contracts], dtype=np.bool_),
        delayed=body.get("isDelayed") is True,
    )
    return joined([chain])


def parse_expirations(body: Any) -> list[date]:
    """Return the dates of an expiration chain, each once and in order."""
    told = rows(
        VENDOR, mapping(VENDOR, body, "expirations").get("expirationList"), "expirationList"
    )
    days = {
        day
        for row in told
        if isinstance(row, Mapping) and (day := day_of(row.get("expirationDate")))
    }
    if told and not days:
        raise Malformed(VENDOR, f"{len(told)} expirations, none of them readable")
    return sorted(days)


def joined(chains: Sequence[Chain]) -> Chain:
    """Return the chains of one underlying as one: sorted, each contract once, the newest quote of two."""
    first = chains[0]

    def column(name: str) -> NDArray[Any]:
        parts: list[NDArray[Any]] = [getattr(chain, name) for chain in chains]
        return np.concatenate(parts)

    quoted = column("quoted_at")
    columns = {name: column(name) for name in _COLUMNS}
    contract, call = columns["contract"], columns["call"]
    newest = np.argsort(-quoted.astype(np.int64), kind="stable")
    _, once = np.unique(contract[newest], return_index=True)
    kept = newest[once]
    order = np.lexsort(
        (~call[kept], contract[kept], columns["strike"][kept], columns["expiration"][kept])
    )
    kept = kept[order]
    return Chain(
        symbol=first.symbol,
        at=max(chain.at for chain in chains),
        source=first.source,
        spot=next((chain.spot for chain in reversed(chains) if chain.spot is not None), None),
        delayed=any(chain.delayed for chain in chains),
        **{name: values[kept] for name, values in columns.items()},
    )


_COLUMNS = [
    field.name
    for field in fields(Chain)
    if field.name not in {"symbol", "at", "source", "spot", "delayed"}
]


def _contracts(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for side in ("callExpDateMap", "putExpDateMap"):
        for strikes in _values(body.get(side)):
            for listed in _values(strikes):
                if isinstance(listed, list):
                    yield from (c for c in listed if isinstance(c, Mapping))


def _values(value: Any) -> Iterator[Any]:
    return iter(value.values()) if isinstance(value, Mapping) else iter(())


def _known(symbol: Any) -> tuple[str, date, bool, float] | None:
    """Return (OCC, expiration, call, strike) of a contract's symbol."""
    try:
        root, day, call, strike = read_occ(symbol if isinstance(symbol, str) else "")
    except ValueError:
        return None
    return f"{root:<6}{symbol.strip()[-15:]}", day, call, strike


def _column(contracts: Sequence[Mapping[str, Any]], name: str) -> Floats:
    found = (number(contract.get(name)) for contract in contracts)
    return np.array([np.nan if value is None else value for value in found], dtype=np.float64)


def _amounts(contracts: Sequence[Mapping[str, Any]], name: str) -> Floats:
    """Return prices, sizes or counts, where zero is real and less is none."""
    values = _column(contracts, name)
    return np.where(values >= 0, values, np.nan)


def _positive(values: Floats) -> Floats:
    return np.where(values > 0, values, np.nan)


def _ms(value: Any) -> np.datetime64:
    told = price(value)
    return np.datetime64(int(told) if told and told <= LATEST_MS else "NaT", "ms")


def _newest(quoted: NDArray[np.datetime64], now: datetime) -> datetime:
    known = quoted[~np.isnat(quoted)]
    if not len(known):
        return now
    return EPOCH + timedelta(milliseconds=int(known.max().astype(np.int64)))


def _spot(body: Mapping[str, Any]) -> float | None:
    told = traded(body.get("underlyingPrice"))
    underlying = body.get("underlying")
    if told is None and isinstance(underlying, Mapping):
        told = traded(underlying.get("mark")) or traded(underlying.get("last"))
    return told


def _is_standard(contract: Mapping[str, Any]) -> bool:
    adjusted = contract.get("nonStandard") is True or contract.get("mini") is True
    return not adjusted and number(contract.get("multiplier")) in {MULTIPLIER, None}
