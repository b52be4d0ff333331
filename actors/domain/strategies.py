"""Positions of several legs: what they pay at expiration, and how likely that is."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from itertools import pairwise

from actors.domain.metric import Metric

SHARES = 100  # a contract
NOTHING = 1e-9  # of the position's size: a profit below is rounding
SELDOM = 1e-9  # a probability below which a mean would be made of rounding

Range = tuple[float, float]  # of prices of the underlying, dollars; the upper end may be infinite


class Right(StrEnum):
    """What a leg is."""

    CALL = "call"
    PUT = "put"
    STOCK = "stock"


@dataclass(frozen=True, slots=True)
class Leg:
    """One leg: `quantity` contracts (or shares of stock), below 0 where sold, at `price` dollars a share.

    `strike` and `expiration` belong to options.  `ValueError` names a field that makes no sense.
    """

    right: Right
    quantity: float
    price: float
    strike: float = 0.0
    expiration: date | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.quantity) or self.quantity == 0:
            raise ValueError(f"quantity must be a number other than 0, was {self.quantity}")
        if not 0 <= self.price < math.inf:
            raise ValueError(f"price must be 0 or more dollars, was {self.price}")
        if self.right is Right.STOCK:
            if self.strike or self.expiration:
                raise ValueError("strike and expiration belong to options, not to stock")
        elif not 0 < self.strike < math.inf:
            raise ValueError(f"strike must be above 0, was {self.strike}")

    @property
    def shares(self) -> float:
        """Shares that the leg stands for, below 0 where sold."""
        return self.quantity * (1 if self.right is Right.STOCK else SHARES)

    @property
    def cost(self) -> float:
        """Dollars paid for it, below 0 where received."""
        return self.shares * self.price

    def intrinsic(self, spot: float) -> float:
        """Return its dollars at expiration, without what was paid."""
        if self.right is Right.STOCK:
            return self.shares * spot
        inside = spot - self.strike if self.right is Right.CALL else self.strike - spot
        return self.shares * max(inside, 0.0)


@dataclass(frozen=True, slots=True)
class Lognormal:
    """The price at expiration: ln S is normal around ln F - w/2 with variance w = volatility² years."""

    forward: float
    volatility: float
    years: float

    def __post_init__(self) -> None:
        for name in ("forward", "volatility", "years"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be above 0, was {getattr(self, name)}")

    def below(self, price: float) -> float:
        """Return the probability of ending below a price."""
        return _normal(self._d(price, +0.5))

    def within(self, low: float, high: float) -> float:
        """Return the probability of ending between two prices."""
        return _between(self._d(low, +0.5), self._d(high, +0.5))

    def share_within(self, low: float, high: float) -> float:
        """Return E[S; low < S < high], dollars."""
        return self.forward * _between(self._d(low, -0.5), self._d(high, -0.5))

    def touch(self, price: float, spot: float) -> float:
        """Return the probability of reaching a price at any time until then, from `spot` now.

        Reflection principle, drift ln(F/spot) until the end.  `ValueError` for a spot that is no price.
        """
        if not 0 < spot < math.inf:
            raise ValueError(f"spot must be above 0, was {spot}")
        if price <= 0 or price == math.inf:
            return 0.0
        variance = self.volatility**2 * self.years
        width, way = math.sqrt(variance), math.log(price / spot)
        drift = math.log(self.forward / spot) - variance / 2
        if way < 0:  # down is up seen in a mirror
            way, drift = -way, -drift
        straight, mirrored = _normal((drift - way) / width), _normal((-drift - way) / width)
        # The mirror's factor may be large where its probability is nothing.
        mirrored *= math.exp(min(2 * drift * way / variance, 700.0))
        return min(straight + mirrored, 1.0)

    def _d(self, price: float, half: float) -> float:
        if price <= 0 or price == math.inf:
            return math.inf if price > 0 else -math.inf
        width = self.volatility * math.sqrt(self.years)
        return math.log(price / self.forward) / width + half * width


@dataclass(frozen=True, slots=True)
class Payoff:
    """Profit at expiration: exact, linear between knots, and with `slope` above the last one."""

    knots: tuple[float, ...]  # prices of the underlying: 0 and the strikes, ascending
    profits: tuple[float, ...]  # dollars at each
    slope: float  # dollars a dollar

    def at(self, spot: float) -> float:
        """Return the profit at a price of 0 or more, dollars."""
        low, _, profit, slope = next(part for part in self.parts() if spot <= part[1])
        return profit + slope * (spot - low)

    @property
    def max_profit(self) -> float:
        """Return the largest profit in dollars, infinite where nothing limits it."""
        return math.inf if self.slope > 0 else max(self.profits)

    @property
    def max_loss(self) -> float:
        """Return the largest loss in dollars, infinite where nothing limits it, 0 where none is possible."""
        return math.inf if self.slope < 0 else max(-min(self.profits), 0.0)

    @property
    def profitable(self) -> tuple[Range, ...]:
        """Return where the profit is above 0, ascending."""
        return self._above(0.0, strict=True)

    @property
    def losing(self) -> tuple[Range, ...]:
        """Return where it is below 0, ascending."""
        mirrored = Payoff(self.knots, tuple(-profit for profit in self.profits), -self.slope)
        return mirrored._above(0.0, strict=True)

    @property
    def breakevens(self) -> tuple[float, ...]:
        """Return the prices above 0 at which profit or loss begins or ends, ascending."""
        ends = {end for span in (*self.profitable, *self.losing) for end in span}
        return tuple(sorted(end for end in ends if 0 < end < math.inf))

    def at_least(self, profit: float) -> tuple[Range, ...]:
        """Return where the profit reaches so many dollars, ascending."""
        return self._above(profit, strict=False)

    def parts(self) -> Iterator[tuple[float, float, float, float]]:
        """Yield each linear part: its lower and upper end, the profit at the lower one, its slope."""
        told = zip(self.knots, self.profits, strict=True)
        for (low, a), (high, b) in pairwise(told):
            yield low, high, a, (b - a) / (high - low)
        yield self.knots[-1], math.inf, self.profits[-1], self.slope

    def _above(self, level: float, *, strict: bool) -> tuple[Range, ...]:
        found: list[Range] = []
        ends = (*self.profits[1:], math.nan)
        for (low, high, profit, slope), end in zip(self.parts(), ends, strict=True):
            start, stop = low, high
            if slope == 0:
                if profit < level or (strict and profit == level):
                    continue
            else:
                # A knot that lies on the level is met exactly, whatever the division rounds to.
                meets = high if end == level else low + (level - profit) / slope
                start, stop = (max(low, meets), high) if slope > 0 else (low, min(high, meets))
                if start >= stop:
                    continue
            if found and found[-1][1] == start and (profit > level or not strict):
                start = found.pop()[0]
            found.append((start, stop))
        return tuple(found)


def payoff(legs: Iterable[Leg]) -> Payoff:
    """Return what a position pays at its expiration.

    `ValueError` where it has no legs, or legs of several expirations: what the later ones are worth at the
    first is a pricer's matter; see `least`.
    """
    told = tuple(legs)
    if len({leg.expiration for leg in told if leg.right is not Right.STOCK}) > 1:
        raise ValueError("the legs expire on different days, so no payoff is known beforehand")
    return _payoff(told)


def least(legs: Iterable[Leg]) -> Payoff:
    """Return what a position pays at its first expiration at the least: later options at intrinsic value.

    An American option is never worth less.  The bound holds for long later legs only (calendars, diagonals):
    `ValueError` where one is short, since nothing bounds what it costs.
    """
    told = tuple(legs)
    days = [leg.expiration for leg in told if leg.expiration is not None]
    if any(leg.quantity < 0 and leg.expiration and leg.expiration > min(days) for leg in told):
        raise ValueError("a leg that expires later is short, so the loss at the first has no bound")
    return _payoff(told)


def _payoff(legs: tuple[Leg, ...]) -> Payoff:
    if not legs:
        raise ValueError("a position needs a leg")
    knots = (0.0, *sorted({leg.strike for leg in legs if leg.right is not Right.STOCK}))
    size = math.fsum(abs(leg.shares) * (leg.strike + leg.price) for leg in legs)
    paid = [-leg.cost for leg in legs]

    def profit(spot: float) -> float:
        told = math.fsum((*paid, *(leg.intrinsic(spot) for leg in legs)))
        return 0.0 if abs(told) < NOTHING * size else told

    slope = math.fsum(leg.shares for leg in legs if leg.right is not Right.PUT)
    return Payoff(knots, tuple(profit(spot) for spot in knots), slope)


@dataclass(frozen=True, slots=True)
class Odds:
    """What a payoff comes to under a law of the price; dollars at expiration, not discounted."""

    profit: float  # probability of a profit above 0
    expected: float  # mean profit
    if_profitable: Metric  # mean profit where there is one
    if_losing: Metric  # mean profit, below 0, where there is a loss


def odds(payoff: Payoff, law: Lognormal) -> Odds:
    """Return the probability of profit and the expected values, in closed form."""
    gain, loss = payoff.profitable, payoff.losing
    won, lost = _mean(payoff, gain, law), _mean(payoff, loss, law)
    chance, risk = probability(gain, law), probability(loss, law)
    return Odds(
        chance,
        won + lost,
        Metric.of(won / chance)
        if chance > SELDOM
        else Metric.missing("no profit is to be expected"),
        Metric.of(lost / risk) if risk > SELDOM else Metric.missing("no loss is to be expected"),
    )


def probability(ranges: Iterable[Range], law: Lognormal) -> float:
    """Return the probability that the price ends in one of the ranges, which do not overlap."""
    return min(max(math.fsum(law.within(*span) for span in ranges), 0.0), 1.0)


def _mean(payoff: Payoff, ranges: tuple[Range, ...], law: Lognormal) -> float:
    """Return E[profit; price in the ranges]."""
    terms = []
    for first, last in ranges:
        for low, high, profit, slope in payoff.parts():
            a, b = max(first, low), min(last, high)
            if a < b:
                terms += [
                    (profit - slope * low) * law.within(a, b),
                    slope * law.share_within(a, b),
                ]
    return math.fsum(terms)


def _normal(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


def _between(a: float, b: float) -> float:
    """Return the probability of a standard normal between a and b, exact in both tails."""
    return _normal(-a) - _normal(-b) if a > 0 else _normal(b) - _normal(a)
