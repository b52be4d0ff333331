"""What a broker holds for a position under Regulation T, by the rules of the Cboe margin manual."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date

from actors.domain.strategies import SHARES, Leg, Right, least

STOCK = 0.5  # of the value of stock, long or short (short: on top of what its sale brought)
NAKED, AT_LEAST = 0.20, 0.10


@dataclass(frozen=True, slots=True)
class Margin:
    """Dollars."""

    requirement: float  # held for what is short, and for stock
    initial: (
        float  # what the account must have free to open it: requirement, less credits, plus debits
    )


def margin(legs: Iterable[Leg], spot: float, *, cash_secured: bool = False) -> Margin:
    """Return the Reg-T margin of a position of stock options.

    A short option is covered by a long one of its side that lives as long or longer; what such spreads can
    lose together is held, so that an iron condor holds one side only.  Short calls left over are covered by
    long stock, short puts by short stock; the rest is naked: premium + max(20 % of the stock less what it
    is out of the money, 10 % of the stock for a call, of the strike for a put), and of naked calls and puts
    the larger requirement and the other's premium.  Where it is less to hold for every short option as
    naked, that is held.  `cash_secured` holds the strike for naked puts instead.  Index options and a
    broker's house rules differ.  `ValueError` for a spot that is no price.
    """
    if not 0 < spot < math.inf:
        raise ValueError(f"spot must be above 0, was {spot}")
    told = tuple(legs)
    stock = sum(leg.quantity for leg in told if leg.right is Right.STOCK)
    held = min(
        _options(told, spot, stock, spreads=spreads, cash_secured=cash_secured)
        for spreads in (True, False)
    )
    requirement = STOCK * abs(stock) * spot + held
    paid = sum(leg.cost for leg in told if leg.right is not Right.STOCK)
    return Margin(requirement, requirement + paid)


def _options(
    legs: tuple[Leg, ...], spot: float, stock: float, *, spreads: bool, cash_secured: bool
) -> float:
    calls = _cover(legs, Right.CALL, max(stock, 0.0), spreads=spreads)
    puts = _cover(legs, Right.PUT, max(-stock, 0.0), spreads=spreads)
    held = _together((*calls.spreads, *puts.spreads))
    if cash_secured:
        held += math.fsum(-leg.shares * leg.strike for leg in puts.naked)
        puts = _Covered(puts.spreads, ())
    (call, call_premium), (put, put_premium) = (
        (
            math.fsum(_naked(leg, spot) for leg in side.naked),
            math.fsum(-leg.cost for leg in side.naked),
        )
        for side in (calls, puts)
    )
    return held + (call + put_premium if call >= put else put + call_premium)


@dataclass(frozen=True, slots=True)
class _Covered:
    spreads: tuple[Leg, ...]  # short ones and the long ones that cover them
    naked: tuple[Leg, ...]


def _cover(legs: tuple[Leg, ...], right: Right, stock: float, *, spreads: bool) -> _Covered:
    """Cover the short options of one side by long ones, then by stock, the costliest first."""
    side = [leg for leg in legs if leg.right is right]
    # The short option that would cost most is covered by the long one that protects best.
    protects = (lambda leg: leg.strike) if right is Right.CALL else (lambda leg: -leg.strike)
    shorts = sorted((leg for leg in side if leg.quantity < 0), key=protects)
    longs = sorted((leg for leg in side if leg.quantity > 0 and spreads), key=protects)
    left = [leg.quantity for leg in longs]
    pairs: list[Leg] = []
    naked: list[Leg] = []
    for short in shorts:
        open_ = -short.quantity
        for n, long in enumerate(longs):
            taken = min(open_, left[n]) if _outlives(long.expiration, short.expiration) else 0.0
            if taken > 0:
                pairs += [replace(short, quantity=-taken), replace(long, quantity=taken)]
                left[n] -= taken
                open_ -= taken
        by_stock = min(open_, stock // SHARES)
        stock -= by_stock * SHARES
        if open_ - by_stock > 0:
            naked.append(replace(short, quantity=by_stock - open_))
    return _Covered(tuple(pairs), tuple(naked))


def _outlives(long: date | None, short: date | None) -> bool:
    return long == short or (long is not None and short is not None and long > short)


def _together(legs: tuple[Leg, ...]) -> float:
    """Return what covered spreads can lose together, not counting what was paid or received."""
    if not legs:
        return 0.0
    days = [leg.expiration for leg in legs if leg.quantity < 0 and leg.expiration]
    first = min(days, default=None)
    # All short legs end with the first: a later short one is covered by one later still.
    free = (replace(leg, price=0.0, expiration=first) for leg in legs)
    return least(free).max_loss


def _naked(leg: Leg, spot: float) -> float:
    if leg.right is Right.CALL:
        out, floor = max(leg.strike - spot, 0.0), spot
    else:
        out, floor = max(spot - leg.strike, 0.0), leg.strike
    return -leg.shares * (leg.price + max(NAKED * spot - out, AT_LEAST * floor))
