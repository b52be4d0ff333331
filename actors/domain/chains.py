"""An option chain in columns: one numpy array a field, one row a contract, so that it crosses actors cheaply."""

import re
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
from numpy.typing import NDArray

_OCC = re.compile(r"(?:O:)?([A-Z0-9]{1,6}) *(\d{2})(\d{2})(\d{2})([CP])(\d{8})")

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """All contracts of one underlying, as one vendor told them.

    Every array has one row a contract, by expiration, then strike, then call before put.  NaN (NaT) is
    "no value"; a zero bid, size, volume or open interest is real.  Prices are dollars a share,
    implied volatilities and deltas fractions, vega is per 1.00 of volatility point (as vendors tell it),
    theta per day.
    """

    symbol: str
    at: datetime  # the newest quote in it
    source: str
    spot: float | None  # the underlying's price the vendor gave with it
    contract: NDArray[np.str_]  # OCC, padded to 21: "AAPL  251219C00200000"
    expiration: NDArray[np.datetime64]  # datetime64[D]
    strike: Floats
    call: NDArray[np.bool_]
    bid: Floats
    ask: Floats
    last: Floats
    bid_size: Floats
    ask_size: Floats
    volume: Floats  # contracts today
    open_interest: Floats
    iv: Floats
    delta: Floats
    gamma: Floats
    theta: Floats
    vega: Floats
    rho: Floats
    quoted_at: NDArray[np.datetime64]  # datetime64[ms], UTC
    standard: NDArray[np.bool_]  # 100 shares of one stock, not adjusted
    delayed: bool = False

    def __len__(self) -> int:
        return len(self.strike)


def occ(root: str, expiration: date, *, call: bool, strike: float) -> str:
    """Return the OCC symbol of a contract, padded to 21 characters."""
    return f"{root:<6}{expiration:%y%m%d}{'C' if call else 'P'}{round(strike * 1000):08d}"


def read_occ(text: str) -> tuple[str, date, bool, float]:
    """Return (root, expiration, call, strike) of an OCC symbol, padded or not, with or without `O:`.

    `ValueError` for what is none.
    """
    found = _OCC.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no OCC symbol")
    root, year, month, day, right, strike = found.groups()
    return (
        root,
        date(2000 + int(year), int(month), int(day)),
        right == "C",
        int(strike) / 1000,
    )
