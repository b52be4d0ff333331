"""The families of strategies: one table, from which positions are built and by which they are named."""

from collections.abc import Iterable, Sequence
from datetime import date
from enum import StrEnum
from itertools import pairwise

from actors.domain.strategies import SHARES, Leg, Right


class Family(StrEnum):
    """A strategy's name."""

    LONG_CALL = "long call"
    LONG_PUT = "long put"
    CASH_SECURED_PUT = "cash-secured put"
    COVERED_CALL = "covered call"
    DEBIT_CALL_SPREAD = "debit call spread"
    CREDIT_CALL_SPREAD = "credit call spread"
    DEBIT_PUT_SPREAD = "debit put spread"
    CREDIT_PUT_SPREAD = "credit put spread"
    LONG_STRADDLE = "long straddle"
    SHORT_STRADDLE = "short straddle"
    LONG_STRANGLE = "long strangle"
    SHORT_STRANGLE = "short strangle"
    IRON_CONDOR = "iron condor"
    IRON_BUTTERFLY = "iron butterfly"
    CALL_CALENDAR = "call calendar"
    PUT_CALENDAR = "put calendar"
    CALL_DIAGONAL = "call diagonal"
    PUT_DIAGONAL = "put diagonal"


C, P, S = Right.CALL, Right.PUT, Right.STOCK

# What each is made of: right, bought (1) or sold (-1), the strike's place and the expiration's, ascending.
LEGS: dict[Family, tuple[tuple[Right, int, int, int], ...]] = {
    Family.LONG_CALL: ((C, 1, 0, 0),),
    Family.LONG_PUT: ((P, 1, 0, 0),),
    Family.CASH_SECURED_PUT: ((P, -1, 0, 0),),
    Family.COVERED_CALL: ((S, 1, 0, 0), (C, -1, 0, 0)),
    Family.DEBIT_CALL_SPREAD: ((C, 1, 0, 0), (C, -1, 1, 0)),
    Family.CREDIT_CALL_SPREAD: ((C, -1, 0, 0), (C, 1, 1, 0)),
    Family.DEBIT_PUT_SPREAD: ((P, -1, 0, 0), (P, 1, 1, 0)),
    Family.CREDIT_PUT_SPREAD: ((P, 1, 0, 0), (P, -1, 1, 0)),
    Family.LONG_STRADDLE: ((P, 1, 0, 0), (C, 1, 0, 0)),
    Family.SHORT_STRADDLE: ((P, -1, 0, 0), (C, -1, 0, 0)),
    Family.LONG_STRANGLE: ((P, 1, 0, 0), (C, 1, 1, 0)),
    Family.SHORT_STRANGLE: ((P, -1, 0, 0), (C, -1, 1, 0)),
    Family.IRON_CONDOR: ((P, 1, 0, 0), (P, -1, 1, 0), (C, -1, 2, 0), (C, 1, 3, 0)),
    Family.IRON_BUTTERFLY: ((P, 1, 0, 0), (P, -1, 1, 0), (C, -1, 1, 0), (C, 1, 2, 0)),
    Family.CALL_CALENDAR: ((C, -1, 0, 0), (C, 1, 0, 1)),
    Family.PUT_CALENDAR: ((P, -1, 0, 0), (P, 1, 0, 1)),
    # The later leg is the safer one, so that the least it can pay is bounded by the debit.
    Family.CALL_DIAGONAL: ((C, 1, 0, 1), (C, -1, 1, 0)),
    Family.PUT_DIAGONAL: ((P, -1, 0, 0), (P, 1, 1, 1)),
}


def build(
    family: Family,
    strikes: Sequence[float],
    expirations: Sequence[date],
    prices: Sequence[float],
    quantity: int = 1,
) -> tuple[Leg, ...]:
    """Return a strategy's legs in the order of `LEGS`; `prices` are dollars a share, one a leg.

    `ValueError` where strikes or expirations are not ascending or not as many as the family has.
    """
    table = LEGS[family]
    _ascending(family, "strikes", strikes, 1 + max(strike for _, _, strike, _ in table))
    _ascending(family, "expirations", expirations, 1 + max(day for *_, day in table))
    if len(prices) != len(table):
        raise ValueError(f"prices of the {family} must be {len(table)}, were {prices}")
    if quantity < 1:
        raise ValueError(f"quantity must be 1 or more, was {quantity}")
    return tuple(
        Leg(S, sign * quantity * SHARES, price)
        if right is S
        else Leg(right, sign * quantity, price, strikes[strike], expirations[day])
        for (right, sign, strike, day), price in zip(table, prices, strict=True)
    )


def named(legs: Iterable[Leg]) -> Family | None:
    """Return the family a position belongs to, whatever the order of its legs, or None."""
    told = tuple(legs)
    options = [leg for leg in told if leg.right is not S]
    if not options or len({abs(leg.shares) for leg in told}) != 1:
        return None
    strikes = sorted({leg.strike for leg in options})
    days = sorted({leg.expiration or date.max for leg in options})
    shape = sorted(
        (leg.right, 1 if leg.quantity > 0 else -1, 0, 0)
        if leg.right is S
        else (
            leg.right,
            1 if leg.quantity > 0 else -1,
            strikes.index(leg.strike),
            days.index(leg.expiration or date.max),
        )
        for leg in told
    )
    return next((family for family, table in LEGS.items() if sorted(table) == shape), None)


def _ascending(family: Family, name: str, told: Sequence[float] | Sequence[date], n: int) -> None:
    if len(told) != n or any(a >= b for a, b in pairwise(told)):  # type: ignore[operator]
        raise ValueError(f"{name} of the {family} must be {n}, ascending, were {told}")
