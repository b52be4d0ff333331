"""One expiration's smile: its forward, ATM volatility, 25-delta skew and expected move."""

import math
from bisect import bisect_left
from dataclasses import dataclass
from operator import mul
from statistics import fmean, median

import numpy as np
from numpy.typing import NDArray

from actors.domain.expiries import Expiry
from actors.domain.metric import Metric, lack

Floats = NDArray[np.float64]

PAIRS = 5  # strikes the forward is taken from: further out early exercise biases parity
STALE = 0.02  # of a volatility: call and put of one strike further apart have a stale quote
WIDEST = 0.25  # of ln K: strikes further apart say nothing about what lies between them


def forward(expiry: Expiry, rate: float, early: tuple[Floats, Floats] | None = None) -> Metric:
    """Return the forward by put-call parity, dollars.

    K + e^{rT}(C - P) at the strikes where call and put differ least; those whose bid and ask do not allow
    the median are dropped, the others weighted by the spread's inverse square.  `early` holds the early
    exercise premiums of calls and puts, one row a strike: with them the forward is de-Americanised; without,
    it is biased low, by 0.03 % at 30 days and 1 % at a year at most (measured at r = 4.5 %, q = 0).
    """
    call, put = expiry.call, expiry.put
    premium = 0.0 if early is None else np.nan_to_num(early[0]) - np.nan_to_num(early[1])
    apart = call.mid - put.mid - premium
    rows = np.flatnonzero(np.isfinite(apart))
    if not len(rows):
        return Metric.missing("no strike has a call and a put quoted")
    rows = rows[np.argsort(np.abs(apart[rows]), kind="stable")[:PAIRS]]
    growth = math.exp(rate * expiry.years)
    told = (expiry.strike[rows] + growth * apart[rows]).tolist()
    spread = (call.ask[rows] - call.bid[rows] + put.ask[rows] - put.bid[rows]).tolist()
    middle = median(told)
    weights = [
        1 / max(width, 0.01) ** 2 if abs(price - middle) <= growth * width / 2 + 1e-9 else 0.0
        for price, width in zip(told, spread, strict=True)
    ]
    if not (total := math.fsum(weights)) > 0:
        return Metric.of(told[0])
    price = math.fsum(map(mul, told, weights)) / total
    return Metric.of(price) if price > 0 else Metric.missing("parity gives no positive forward")


def implied_yield(forward: Metric, spot: float, rate: float, years: float) -> Metric:
    """Return what holding the stock pays a year, dividends and lending together: r - ln(F/S)/T.

    Less the known dividends it is the implied borrow.
    """
    if forward.value is None:
        return forward
    if not (spot > 0 and years > 0):
        return Metric.missing("the underlying has no price")
    return Metric.of(rate - math.log(forward.value / spot) / years)


@dataclass(frozen=True, slots=True)
class Smile:
    """Volatilities of one expiration's out-of-the-money options, by ascending strike."""

    years: float
    forward: float
    k: tuple[float, ...]  # ln(K/F)
    iv: tuple[float, ...]
    delta: tuple[float, ...]  # the call's, forward (undiscounted), at the strike's own volatility

    def atm(self) -> Metric:
        """Return the volatility at the forward, from the strikes around it.

        The mean of the parabolas in k through them and the next strike on either side: p95 of the error is
        0.02 points on the sandbox's smiles, where a straight line's is 0.2.
        """
        right = bisect_left(self.k, 0.0)
        if right < len(self.k) and self.k[right] == 0:
            return Metric.of(self.iv[right])
        if not 0 < right < len(self.k):
            return Metric.missing("the forward lies outside the strikes that have a volatility")
        line = self._between(right, self.k, 0.0)
        told = [self._parabola(right, third) for third in (right - 2, right + 1)]
        curved = [iv for iv in told if iv is not None]
        return Metric.of(fmean(curved)) if line.value is not None and curved else line

    def at_delta(self, delta: float) -> Metric:
        """Return the volatility where the call's forward delta is `delta`, linear in delta.

        A put of delta -d is the call of 1 - d.  The strikes nearest the forward that bracket it count.
        """
        told, middle = self.delta, bisect_left(self.k, 0.0)
        away = range(middle, 0, -1) if delta > 0.5 else range(middle, len(told))
        for right in away:
            if 0 < right < len(told) and told[right - 1] >= delta >= told[right]:
                return self._between(right, told, delta)
        which = f"{1 - delta:.0%} delta put" if delta > 0.5 else f"{delta:.0%} delta call"
        return Metric.missing(f"no strikes lie around the {which}")

    def _parabola(self, right: int, third: int) -> float | None:
        """Return the volatility at k = 0 through the strikes around it and a third one."""
        if not 0 <= third < len(self.k):
            return None
        rows = right - 1, right, third
        a, b, c = (self.k[row] for row in rows)
        # A third strike close to one of the two would multiply its own error.
        if min(abs(c - a), abs(c - b)) < (b - a) / 2 or max(abs(c - a), abs(c - b)) > WIDEST:
            return None
        x, y, z = (self.iv[row] for row in rows)
        return (
            x * b * c / ((a - b) * (a - c))
            + y * a * c / ((b - a) * (b - c))
            + z * a * b / ((c - a) * (c - b))
        )

    def _between(self, right: int, by: tuple[float, ...], at: float) -> Metric:
        left = right - 1
        if (gap := self.k[right] - self.k[left]) > WIDEST:
            return Metric.missing(f"the strikes around it lie {math.expm1(gap):.0%} apart")
        if by[right] == by[left]:
            return Metric.of((self.iv[left] + self.iv[right]) / 2)
        share = (at - by[left]) / (by[right] - by[left])
        return Metric.of(self.iv[left] + share * (self.iv[right] - self.iv[left]))


def smile(expiry: Expiry, forward: float) -> Smile:
    """Return the smile: puts below the forward, calls from it on, strikes without a volatility left out."""
    puts = expiry.strike < forward
    iv = np.where(puts, expiry.put.iv, expiry.call.iv)
    told = np.isfinite(iv)
    k = np.log(expiry.strike[told] / forward)
    iv = _without_stale(k, iv[told], np.where(puts, expiry.call.iv, expiry.put.iv)[told])
    width = iv * math.sqrt(expiry.years)
    delta = map(_normal, (-k / width + width / 2).tolist())
    return Smile(expiry.years, forward, tuple(k.tolist()), tuple(iv.tolist()), tuple(delta))


def _without_stale(k: Floats, iv: Floats, twin: Floats) -> Floats:
    """Return the volatilities, those of stale quotes replaced by that of the strike's other option.

    Call and put of one strike have one volatility.  Where they differ, the one nearer to the line between
    the neighbouring strikes is believed, if it is nearer by far: elsewhere the line's own error decides.
    """
    if len(k) < 3:
        return iv
    share = (k[1:-1] - k[:-2]) / (k[2:] - k[:-2])
    line = iv[:-2] + share * (iv[2:] - iv[:-2])
    own, other = np.abs(iv[1:-1] - line), np.abs(twin[1:-1] - line)
    stale = (np.abs(iv - twin)[1:-1] > STALE * iv[1:-1]) & (other < own / 3)
    found = iv.copy()
    found[1:-1][stale] = twin[1:-1][stale]
    return found


@dataclass(frozen=True, slots=True)
class Skew:
    """25-delta skew in fractions of volatility; forward deltas."""

    call: Metric
    put: Metric
    risk_reversal: Metric  # call - put: below 0 where puts are dearer, as in stocks
    butterfly: Metric  # (call + put)/2 - ATM


def skew(smile: Smile) -> Skew:
    """Return the 25-delta skew of a smile."""
    call, put, atm = smile.at_delta(0.25), smile.at_delta(0.75), smile.atm()
    if call.value is None or put.value is None:
        none = Metric.missing(lack(call, put) or "")
        return Skew(call, put, none, none)
    reversal = Metric.of(call.value - put.value)
    if atm.value is None:
        return Skew(call, put, reversal, atm)
    return Skew(call, put, reversal, Metric.of((call.value + put.value) / 2 - atm.value))


@dataclass(frozen=True, slots=True)
class ExpectedMove:
    """How far the price is expected to go until the expiration, dollars up or down, by three conventions."""

    one_sd: Metric  # S times volatility times √T
    straddle: Metric  # 0.85 x the ATM straddle: 0.68 sd
    weighted: Metric  # tastytrade: 0.6 x straddle + 0.3 x first strangle + 0.1 x second strangle


def expected_move(expiry: Expiry, spot: float, forward: float, atm: Metric) -> ExpectedMove:
    """Return the expected move; the straddle's strike is the one nearest to the forward."""
    one_sd = atm if atm.value is None else Metric.of(spot * atm.value * math.sqrt(expiry.years))
    at = int(np.argmin(np.abs(expiry.strike - forward)))
    call, put = expiry.call.mid, expiry.put.mid
    straddle = float(call[at] + put[at])
    if not math.isfinite(straddle):
        none = Metric.missing("the straddle at the forward is not quoted")
        return ExpectedMove(one_sd, none, none)
    told = Metric.of(0.85 * straddle)
    if not 2 <= at < len(call) - 2:
        return ExpectedMove(one_sd, told, Metric.missing("too few strikes for two strangles"))
    first, second = (float(call[at + n] + put[at - n]) for n in (1, 2))
    if not math.isfinite(first + second):
        return ExpectedMove(one_sd, told, Metric.missing("a strangle is not quoted"))
    return ExpectedMove(one_sd, told, Metric.of(0.6 * straddle + 0.3 * first + 0.1 * second))


def _normal(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2
