"""American options in columns: prices, greeks and implied volatility of whole chains.

Units and shapes are those of `black_scholes`.  The method is Andersen, Lake and Offengenden's, "High performance
American option pricing" (2016): a call is a put with spot and strike, rate and carry exchanged (McDonald and
Schroder 1998); the exercise boundary of a put, over its strike, depends on years, rate, carry and sigma
alone, so one table of it (Chebyshev nodes in ln sigma) serves every strike of an expiry; what early exercise
adds to the European price is an integral along the boundary.

Measured against QuantLib's high-precision engine: see `tests/unit/test_american.py` for the bounds held.
Near the boundary a price says little about sigma: there the worst errors are.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from actors.domain import black_scholes
from actors.domain.black_scholes import (
    Bools,
    Codes,
    Floats,
    Greeks,
    Implied,
    Priced,
    Reason,
    columns,
    normal,
    unusable,
)

Rows = NDArray[np.intp]

_CELLS = 1 << 15  # doubles in one temporary: what stays in a core's cache
_STILL = 1e-6  # of sigma * sqrt(years): below it the future is as good as known
_BANDS = np.log(
    [0.1, 0.8, 6.4]
)  # of sigma: one table covers no more, lest one odd quote blur the others
_BELL = 1.0 / math.sqrt(2.0 * math.pi)
_NO_RATE = 1e-12  # a year: what exercise early could earn is below rounding
_STEEP = 0.5  # of the drift over the diffusion, squared: where form A stops converging
_BUMP = 1e-3  # of sigma, relative: the differences behind vega
_RATE_BUMP = 1e-4
_NOISE = 2.0**-48  # of the strike: what is left of a price is rounding
_TINY = 1e-13  # of the strike: no price is wrong by less
_THIN = 1e-9  # relative: a bracket is sigma
_LOWEST = 0.55  # of the least European volatility: where a table begins
_SEARCHES = 30
_CLOSE = 1e-8  # relative: the product of the last two steps, which the error of a secant follows


@dataclass(frozen=True, slots=True)
class Scheme:
    """How finely the boundary is computed; `CHAIN` is for thousands of quotes, `EXACT` is the judge."""

    nodes: int  # of the boundary in sqrt(time)
    points: int  # of the integrals in its equation
    steps: int  # of its fixed-point iteration; the first is a Newton step
    pricing: int  # points of the premium's integral
    sigmas: int  # nodes in ln sigma; 1 = each sigma has a boundary of its own


CHAIN = Scheme(nodes=7, points=7, steps=2, pricing=12, sigmas=7)
EXACT = Scheme(nodes=20, points=32, steps=12, pricing=64, sigmas=1)


@dataclass(frozen=True, slots=True, eq=False)
class _Puts:
    """Contracts as puts on a strike of 1; a call has spot and strike, rate and carry exchanged."""

    x: Floats  # ln(spot/strike)
    years: Floats
    rate: Floats
    carry: Floats

    def __getitem__(self, rows: NDArray[Any] | slice) -> "_Puts":
        return _Puts(self.x[rows], self.years[rows], self.rate[rows], self.carry[rows])

    def intrinsic(self) -> Floats:
        worth: Floats = np.maximum(-np.expm1(self.x), 0.0)
        return worth

    def european(self, sigma: Floats) -> Floats:
        return black_scholes.price(
            np.exp(self.x), 1.0, self.years, self.rate, self.carry, sigma, call=False
        ).price

    def known(self) -> Floats:
        """What they are worth if sigma is 0: the best moment to exercise is now, at the end or where the gain turns."""
        with np.errstate(all="ignore"):
            turn = np.log(self.rate / self.carry) - self.x
            turn = np.nan_to_num(turn / (self.rate - self.carry), nan=0.0)
        worth = self.intrinsic()
        for when in (self.years, np.clip(turn, 0.0, self.years)):
            gain = np.exp(-self.rate * when) - np.exp(self.x - self.carry * when)
            worth = np.maximum(worth, gain)
        answer: Floats = worth
        return answer


@dataclass(frozen=True, slots=True, eq=False)
class _Boundaries:
    """The boundaries of groups of puts that share years, rate and carry, at every sigma of a range."""

    group: Rows  # of each row
    low: Floats  # ln sigma, of each group
    high: Floats
    edge: Floats  # ln(boundary/strike): group, node in ln sigma, pricing point; the last is today's

    def at(self, rows: Rows, sigma: Floats) -> Floats:
        """Return ln(boundary/strike) of rows at their sigma: one row each, one column a pricing point."""
        group = self.group[rows]
        nodes = self.edge.shape[1]
        if nodes == 1:
            edge: Floats = self.edge[group, 0]
            return edge
        low, high = self.low[group], self.high[group]
        place = np.clip((2.0 * np.log(sigma) - low - high) / (high - low), -1.0, 1.0)
        found: Floats = np.einsum("rs,rsp->rp", _lagrange(nodes, place), self.edge[group])
        return found


def price(
    spot: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    rate: ArrayLike,
    carry: ArrayLike,
    sigma: ArrayLike,
    call: ArrayLike,
    *,
    scheme: Scheme = CHAIN,
) -> Priced:
    """Return what American options are worth, dollars a share.

    Error over the larger of spot and strike, rates to 15 % and carry to 100 % a year: of `CHAIN` 2e-5 for 99 rows
    in 100, 1.3e-4 at worst; of `EXACT` 3e-9 for 99 in 100, 1.1e-4 at worst.

    EXERCISE where that is the intrinsic value.  EUROPEAN where `carry < rate <= 0` of a put, `rate < carry <= 0`
    of a call: that has two boundaries, and the European value or exercise now is given, a lower bound.
    """
    fields = columns(spot, strike, years, rate, carry, sigma, call)
    spot, strike, years, rate, carry, sigma, call = fields
    puts, scale, reason = _as_puts(spot, strike, years, rate, carry, call)
    sigma = _checked(sigma, reason)
    worth = np.full(len(sigma), np.nan)
    plain, early, still = _kinds(puts, sigma, reason)
    worth[plain] = puts[plain].european(sigma[plain])
    worth[still] = puts[still].known()
    if early.size:
        some = puts[early]
        boundaries = _boundaries(some, sigma[early], sigma[early], scheme)
        every = np.arange(early.size)
        worth[early], held = _worth(some, sigma[early], boundaries, every, scheme)
        reason[early[~held]] = Reason.EXERCISE
    twice = reason == Reason.EUROPEAN
    worth[twice] = np.maximum(worth[twice], puts[twice].intrinsic())
    worth *= scale
    now = np.flatnonzero(reason == Reason.EXERCISE)
    worth[now] = np.abs(spot[now] - strike[now])
    return Priced(worth, reason)


def greeks(
    spot: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    rate: ArrayLike,
    carry: ArrayLike,
    sigma: ArrayLike,
    call: ArrayLike,
    *,
    scheme: Scheme = CHAIN,
) -> Greeks:
    """Return value and greeks of American options, in the units and with the reasons of `black_scholes` and `price`.

    Delta and gamma are the integral's own, theta is what the Black-Scholes equation leaves, vega and rho
    are central differences.  Exercised now, a contract moves with the stock alone.
    """
    fields = columns(spot, strike, years, rate, carry, sigma, call)
    spot, strike, years, rate, carry, sigma, call = fields
    found = black_scholes.greeks(*fields)
    puts, scale, reason = _as_puts(spot, strike, years, rate, carry, call)
    sigma = _checked(sigma, reason)
    _, early, still = _kinds(puts, sigma, reason)
    worth, delta, gamma, vega, theta, rho = (
        found.price, found.delta, found.gamma, found.vega, found.theta, found.rho
    )  # fmt: skip
    exact = found.reason == Reason.OK
    reason[~exact] = found.reason[~exact]
    if early.size:
        rows, v = puts[early], sigma[early]
        every = np.arange(early.size)
        tabled = _tabled(scheme)
        boundaries = _boundaries(rows, v * (1.0 - _BUMP), v * (1.0 + _BUMP), tabled)
        value, held = _worth(rows, v, boundaries, every, tabled)
        slope, bend = _slopes(rows, v, boundaries.at(every, v), tabled)
        more, _ = _worth(rows, v * (1.0 + _BUMP), boundaries, every, tabled)
        less, _ = _worth(rows, v * (1.0 - _BUMP), boundaries, every, tabled)
        m, size, right = np.exp(rows.x), scale[early], call[early] != 0
        s, r, q = spot[early], rate[early], carry[early]
        # a call's spot is its put's strike, and a value is homogeneous of degree 1 in the two
        worth[early] = value * size
        delta[early] = np.where(right, value - m * slope, slope)
        gamma[early] = np.where(right, m * m, 1.0) * bend / size
        theta[early] = r * worth[early] - (r - q) * s * delta[early]
        theta[early] -= 0.5 * (v * s) ** 2 * gamma[early]
        vega[early] = (more - less) * size / (2.0 * _BUMP * v)
        terms = (spot[early], strike[early], years[early])
        up, down = (
            price(*terms, r + shift, q, v, right, scheme=scheme).price
            for shift in (_RATE_BUMP, -_RATE_BUMP)
        )
        rho[early] = (up - down) / (2.0 * _RATE_BUMP)
        reason[early[~held]] = Reason.EXERCISE
    certain, inside = puts[still].known(), puts[still].intrinsic()
    worth[still] = certain * scale[still]
    reason[still[(inside > 0) & (certain <= inside)]] = Reason.EXERCISE
    now = np.flatnonzero(reason == Reason.EXERCISE)
    worth[now] = np.abs(spot[now] - strike[now])
    delta[now] = np.where(call[now] != 0, 1.0, -1.0)
    for field in (gamma, vega, theta, rho):
        field[now] = 0.0
    return Greeks(worth, delta, gamma, vega, theta, rho, reason)


def implied_volatility(
    price: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    rate: ArrayLike,
    carry: ArrayLike,
    call: ArrayLike,
    *,
    tick: float = 0.0,
    ex: ArrayLike = math.inf,
    scheme: Scheme = CHAIN,
) -> Implied:
    """Return the volatilities at which American options are worth `price` dollars.

    `ex` is years to the next cash dividend of each row; calls in the money before it are DIVIDEND: answered
    with the carry given, but exercise the day before may move them by points.  EXERCISE where the price is
    within half a `tick` of the intrinsic value and exercise can be best: take the volatility of the
    same strike's other right.  From the European volatility, which is never less, a secant within brackets.
    """
    fields = columns(price, spot, strike, years, rate, carry, call, ex)
    cost, spot, strike, years, rate, carry, call, ex = fields
    puts, scale, reason = _as_puts(spot, strike, years, rate, carry, call)
    found = black_scholes.implied_volatility(*fields[:7], tick=tick)
    sigma = found.sigma
    twice = (reason == Reason.EUROPEAN) & (found.reason == Reason.OK)
    early = (reason == Reason.OK) & (puts.rate > 0)
    reason = np.where(twice, reason, found.reason)
    with np.errstate(invalid="ignore", over="ignore"):
        over = cost / scale - puts.intrinsic()
        slack = np.maximum(0.5 * tick / scale, _NOISE)
        within = early & (puts.x < 0)
        reason[within & (np.abs(over) <= slack)] = Reason.EXERCISE
        reason[within & (over < -slack)] = Reason.BELOW
    sigma[(reason != Reason.OK) & ~twice] = np.nan
    rows = np.flatnonzero(early & (reason == Reason.OK))
    if rows.size:
        sigma[rows], reason[rows] = _solve(
            puts[rows], cost[rows] / scale[rows], sigma[rows], scheme
        )
    paid = (reason == Reason.OK) & (call != 0) & (spot > strike) & (ex >= 0) & (ex <= years)
    reason[paid] = Reason.DIVIDEND
    return Implied(sigma, reason)


def matched_carry(
    spot: float, years: ArrayLike, rate: ArrayLike, ex: ArrayLike, cash: ArrayLike
) -> Floats:
    """Return the continuous carry, one an expiry, that gives the forward which cash dividends give.

    `ex` (years) and `cash` (dollars a share) are the dividends of one stock.  Out of the money the volatilities
    this gives are within 0.6 points of a finite-difference engine's; NaN where dividends exceed the spot.
    """
    years, rate = columns(years, rate)
    when, amount = columns(ex, cash)
    with np.errstate(all="ignore"):
        present = amount * np.exp(-rate[:, None] * when)
        paid = np.where((when > 0) & (when <= years[:, None]), present, 0.0).sum(axis=1)
        carry: Floats = -np.log1p(-paid / spot) / years
    return np.where(np.isfinite(carry), carry, np.nan)


def _tabled(scheme: Scheme) -> Scheme:
    """Return the scheme, with a table where sigma is to be varied."""
    return scheme if scheme.sigmas > 1 else replace(scheme, sigmas=16)


def _as_puts(
    spot: Floats, strike: Floats, years: Floats, rate: Floats, carry: Floats, call: Floats
) -> tuple[_Puts, Floats, Codes]:
    """Return the rows as puts, the dollars of a strike of 1, and what is wrong with them."""
    reason = unusable(spot, strike, years=years, rate=rate, carry=carry)
    reason[~np.isfinite(call)] = Reason.INPUT
    good, right = reason == Reason.OK, call != 0
    s, k = np.where(right, strike, spot), np.where(right, spot, strike)
    r, q = np.where(right, carry, rate), np.where(right, rate, carry)
    r = np.where(np.abs(r) < _NO_RATE, 0.0, r)
    x = np.log(np.where(good, s, 1.0)) - np.log(np.where(good, k, 1.0))
    puts = _Puts(x, *(np.where(good, field, 1.0) for field in (years, r, q)))
    reason[good & (r <= 0) & (q < r)] = Reason.EUROPEAN
    return puts, np.where(good, k, np.nan), reason


def _checked(sigma: Floats, reason: Codes) -> Floats:
    """Mark the rows whose sigma cannot be, and return it with none of those in it."""
    good = (sigma >= 0) & (sigma < black_scholes.WILDEST)
    reason[~good & (reason != Reason.EXPIRED)] = Reason.INPUT
    return np.where(good, sigma, 1.0)


def _kinds(puts: _Puts, sigma: Floats, reason: Codes) -> tuple[Rows, Rows, Rows]:
    """Return the rows that are European in effect, those that may be exercised early, those whose end is known."""
    good = reason == Reason.OK
    still = good & (sigma * np.sqrt(puts.years) < _STILL)
    early = good & ~still & (puts.rate > 0)
    plain = (good & ~still & ~early) | (reason == Reason.EUROPEAN)
    return np.flatnonzero(plain), np.flatnonzero(early), np.flatnonzero(still)


def _solve(puts: _Puts, cost: Floats, start: Floats, scheme: Scheme) -> tuple[Floats, Codes]:
    """Return sigma and reason of puts worth `cost`; `start` is their European volatility."""
    sigma = np.full(len(cost), np.nan)
    reason = np.full(len(cost), Reason.UNSOLVED, dtype=np.int8)
    scheme = _tabled(scheme)
    rows, high, reach = np.arange(len(cost)), start, _LOWEST
    # a table begins not far below its least European volatility; what lies lower gets another
    for _ in range(4):
        some = puts[rows]
        boundaries = _boundaries(some, high * reach, high, scheme)
        floor = np.exp(boundaries.low)[boundaries.group]
        found, ended = _search(some, cost[rows], high, floor, boundaries, scheme)
        sigma[rows], reason[rows] = found, np.where(ended, Reason.OK, Reason.UNSOLVED)
        lower = np.flatnonzero(~ended & np.isnan(found))
        rows, high, reach = rows[lower], floor[lower] * 1.05, 0.15
        if not rows.size:
            return sigma, reason
    # however little it may move, it is worth more than this price
    reason[rows[puts[rows].x < 0]] = Reason.EXERCISE
    return sigma, reason


def _search(
    puts: _Puts,
    cost: Floats,
    start: Floats,
    floor: Floats,
    boundaries: _Boundaries,
    scheme: Scheme,
) -> tuple[Floats, Bools]:
    """Return sigma between floor and start, and whether it was found; NaN = it is less than floor."""
    sigma, ended = start.copy(), np.zeros(len(cost), dtype=np.bool_)
    rows = np.arange(len(cost))
    low, high, tried = floor.copy(), start.copy(), np.zeros(len(cost), dtype=np.bool_)
    plain = black_scholes.greeks(
        np.exp(puts.x), 1.0, puts.years, puts.rate, puts.carry, start, call=False
    )
    miss = _worth(puts, start, boundaries, rows, scheme, plain.price)[0] - cost
    before, last = start.copy(), miss
    ended |= miss <= _TINY
    with np.errstate(all="ignore"):
        guess = start - miss / plain.vega
    for turn in range(_SEARCHES):
        rows = rows[~ended[rows]]
        if not rows.size:
            break
        at = guess[rows]
        middle = 0.5 * (low[rows] + high[rows])
        if turn % 4 == 3:
            at = middle
        # below what is known to be too low; the floor itself is tried once
        wild = ~((at > low[rows]) & (at < high[rows]))
        first = wild & ~tried[rows]
        at = np.where(first, low[rows], np.where(wild, middle, at))
        off = _worth(puts[rows], at, boundaries, rows, scheme)[0] - cost[rows]
        over = off > 0
        high[rows] = np.where(over, at, high[rows])
        low[rows] = np.where(over, low[rows], at)
        tried[rows] |= first | ~over
        with np.errstate(all="ignore"):
            ahead = at - off * (at - before[rows]) / (off - last[rows])
        step, stride = np.abs(ahead - at), np.abs(at - before[rows])
        near = (step <= 1e-3 * at) & (step * stride <= _CLOSE * at * at)
        near &= (ahead >= low[rows]) & (ahead <= high[rows])
        near |= np.abs(off) <= _TINY
        thin = high[rows] - low[rows] <= _THIN * at
        below = first & over
        sigma[rows] = np.where(below, np.nan, np.where(near & np.isfinite(ahead), ahead, at))
        guess[rows], before[rows], last[rows] = ahead, at, off
        ended[rows] = near | thin | below
    return sigma, ended & np.isfinite(sigma)


def _worth(
    puts: _Puts,
    sigma: Floats,
    boundaries: _Boundaries,
    rows: Rows,
    scheme: Scheme,
    plain: Floats | None = None,
) -> tuple[Floats, Bools]:
    """Return what puts are worth, and whether they are better held than exercised now; `plain` is European."""
    worth, held = np.empty(len(sigma)), np.empty(len(sigma), dtype=np.bool_)
    size = max(_CELLS // scheme.pricing, 1)
    for begin in range(0, len(sigma), size):
        part = slice(begin, begin + size)
        some, v = puts[part], sigma[part]
        edge = boundaries.at(rows[part], v)
        european = some.european(v) if plain is None else plain[part]
        least = some.intrinsic()
        held[part] = (some.x > edge[:, -1]) | (european > least)
        value = np.where(held[part], european + _premium(some, v, edge, scheme), least)
        worth[part] = np.maximum(value, np.maximum(european, least))
    return worth, held


def _premium(puts: _Puts, sigma: Floats, edge: Floats, scheme: Scheme) -> Floats:
    """Return what early exercise adds: interest on the strike less carry on the stock, below the boundary."""
    z, weight = _sines(scheme.pricing)
    r, q, years = puts.rate[:, None], puts.carry[:, None], puts.years[:, None]
    t = years * (z * z)
    v = sigma[:, None] * np.sqrt(years) * z
    d = (puts.x[:, None] - edge[:, :-1] + (r - q) * t) / v - 0.5 * v
    gain = r * np.exp(-r * t) * normal(-d)[0]
    paying = np.flatnonzero(puts.carry)
    if paying.size:
        q, t, v, d = q[paying], t[paying], v[paying], d[paying]
        gain[paying] -= q * np.exp(puts.x[paying, None] - q * t) * normal(-d - v)[0]
    premium: Floats = 2.0 * puts.years * (gain @ (weight * z))
    return premium


def _slopes(puts: _Puts, sigma: Floats, edge: Floats, scheme: Scheme) -> tuple[Floats, Floats]:
    """Return delta and gamma of a put on a strike of 1; where the boundary moves with the spot is no matter."""
    z, weight = _sines(scheme.pricing)
    r, q, years = puts.rate[:, None], puts.carry[:, None], puts.years[:, None]
    t = years * (z * z)
    v = sigma[:, None] * np.sqrt(years) * z
    d = (puts.x[:, None] - edge[:, :-1] + (r - q) * t) / v - 0.5 * v
    border = q * np.exp(edge[:, :-1])
    m = np.exp(puts.x)
    fall = np.exp(-r * t) * normal(d)[1] / v
    delta = -fall * (r - border) / m[:, None] - q * np.exp(-q * t) * normal(-d - v)[0]
    gamma = fall * ((r - border) * (1.0 + d / v) + border)
    body = black_scholes.greeks(m, 1.0, puts.years, puts.rate, puts.carry, sigma, call=False)
    width = 2.0 * puts.years
    return (
        body.delta + width * (delta @ (weight * z)),
        body.gamma + width * (gamma @ (weight * z)) / (m * m),
    )


def _boundaries(puts: _Puts, low: Floats, high: Floats, scheme: Scheme) -> _Boundaries:
    """Return the boundaries of puts from sigma `low` to `high` of each."""
    low, high = np.log(low), np.log(high)
    band = high if scheme.sigmas == 1 else np.searchsorted(_BANDS, high).astype(np.float64)
    keys = (puts.years, puts.rate, puts.carry, band)
    order = np.lexsort(keys)
    new = np.zeros(len(order), dtype=np.bool_)
    new[0] = True
    for key in keys:
        sorted_key = key[order]
        new[1:] |= sorted_key[1:] != sorted_key[:-1]
    group = np.empty(len(order), dtype=np.intp)
    group[order] = np.cumsum(new) - 1
    begin = np.flatnonzero(new)
    least = np.minimum.reduceat(low[order], begin)
    most = np.maximum.reduceat(high[order], begin)
    sigmas = most[:, None]
    if scheme.sigmas > 1:
        most = np.maximum(most, least + 0.05)
        sigmas = least[:, None] + (most - least)[:, None] * 0.5 * (1.0 + _lobatto(scheme.sigmas))
    years, rate, carry = (
        np.repeat(field[order[begin]], scheme.sigmas)
        for field in (puts.years, puts.rate, puts.carry)
    )
    edge = _edges(years, rate, carry, np.exp(sigmas).reshape(-1), scheme)
    return _Boundaries(group, least, most, edge.reshape(len(begin), scheme.sigmas, -1))


def _edges(years: Floats, rate: Floats, carry: Floats, sigma: Floats, scheme: Scheme) -> Floats:
    """Return ln(boundary/strike) at the pricing points and today, one row each."""
    size = max(_CELLS // (scheme.nodes * scheme.points), 1)
    steep = (rate - carry) ** 2 * years > _STEEP * sigma**2
    edge = np.empty((len(years), scheme.pricing + 1))
    paying = carry != 0  # what pays nothing needs half of the work
    for some, hard in ((~steep & ~paying, False), (~steep & paying, False), (steep, True)):
        rows = np.flatnonzero(some)
        for begin in range(0, len(rows), size):
            part = rows[begin : begin + size]
            edge[part] = _edge(
                years[part], rate[part], carry[part], sigma[part], scheme, steep=hard
            )
    return edge


def _edge(
    years: Floats, rate: Floats, carry: Floats, sigma: Floats, scheme: Scheme, *, steep: bool
) -> Floats:
    """Solve the boundary's equation at Chebyshev nodes in sqrt(time), of which node 0 is expiry.

    The paper's form A with its Newton step, or form B, which needs more steps but converges where the drift
    outruns the diffusion and A does not.
    """
    fraction = 0.5 * (1.0 + _lobatto(scheme.nodes + 1)[1:])
    z, weight = _sines(scheme.points)
    inner, outer = _maps(scheme)
    r, q, s = rate[:, None], carry[:, None], sigma[:, None]
    t = years[:, None] * fraction**2
    v = s * np.sqrt(t)
    with np.errstate(all="ignore"):
        top = np.where(carry > rate, np.log(rate / carry), 0.0)[:, None]
    bottom = np.minimum(_perpetual(rate, carry, sigma)[:, None], top)
    b = np.clip(_seed(t, r, q, s, top, bottom), bottom, top)
    drift = r - q
    t3, v3 = t[..., None] * (z * z), v[..., None] * z
    grow_r = weight * np.exp(r[..., None] * (t[..., None] - t3))
    grow_q = weight * np.exp(q[..., None] * (t[..., None] - t3))
    bell_width, span = 2.0 * np.sqrt(t) / s, 2.0 * t
    paying = bool(carry.any())
    for _ in range(scheme.steps * (4 if steep else 1)):
        h = np.concatenate([np.zeros_like(top), (b - top) ** 2], axis=1)
        past = top[..., None] - np.sqrt(np.maximum(h @ inner, 0.0)).reshape(t3.shape)
        d3 = (b[..., None] - past + drift[..., None] * t3) / v3 - 0.5 * v3
        d = (b + drift * t) / v - 0.5 * v
        m, up = normal(d + v)
        if steep:
            n = normal(d)[0] + r * span * (grow_r * z * normal(d3)[0]).sum(axis=2)
            m += q * span * (grow_q * z * normal(d3 + v3)[0]).sum(axis=2)
            slope = np.zeros_like(b)
        else:
            down = np.exp(-0.5 * d * d) * _BELL
            bells = (grow_r * np.exp(-0.5 * d3 * d3)).sum(axis=2) * _BELL
            n = down / v + r * bell_width * bells
            m += up / v
            if paying:
                chance, bell = normal(d3 + v3)
                m += q * bell_width * (grow_q * bell).sum(axis=2)
                m += q * span * (grow_q * z * chance).sum(axis=2)
            with np.errstate(
                all="ignore"
            ):  # far below the boundary both are 0; the node then stays
                slope = d / (v * v) * (up / m - down / n)
        with np.errstate(all="ignore"):
            f = np.exp(-drift * t - b) * n / m  # over b
            f = b + np.log1p((f - 1.0) / (1.0 - f * slope))
        b = np.clip(np.where(np.isfinite(f), f, b), bottom, top)
    h = np.concatenate([np.zeros_like(top), (b - top) ** 2], axis=1)
    edge = top - np.sqrt(np.maximum(h @ outer, 0.0))
    return np.concatenate([edge, b[:, -1:]], axis=1)


def _perpetual(rate: Floats, carry: Floats, sigma: Floats) -> Floats:
    """Return ln(boundary/strike) of a put that never ends, the lowest there is."""
    n = 2.0 * (rate - carry) / sigma**2 - 1.0
    root = -0.5 * (n + np.sqrt(n * n + 8.0 * rate / sigma**2))
    root = np.minimum(root, -1e-15)  # 0 where there is no interest
    bottom: Floats = np.log(root / (root - 1.0))
    return bottom


def _seed(t: Floats, r: Floats, q: Floats, s: Floats, top: Floats, bottom: Floats) -> Floats:
    """Return Barone-Adesi and Whaley's (1987) ln(boundary/strike): four Newton steps."""
    v = s * np.sqrt(t)
    with np.errstate(all="ignore"):
        n = 2.0 * (r - q) / (s * s) - 1.0
        root = -0.5 * (n + np.sqrt(n * n - 8.0 * r / (s * s * np.expm1(-r * t))))
        least = np.exp(bottom)
        b = least + (1.0 - least) * np.exp(((r - q) * t - 2.0 * v) / (1.0 - least))
        b = np.clip(b, least, np.exp(top))
        fade_r, fade_q = np.exp(-r * t), np.exp(-q * t)
        for _ in range(4):
            d = (np.log(b) + (r - q) * t) / v + 0.5 * v
            held, bell = normal(-d)
            short = fade_q * held
            gap = 1.0 - b - (fade_r * normal(v - d)[0] - b * short) + b / root * (1.0 - short)
            slope = -1.0 + short + (1.0 - short + fade_q * bell / v) / root
            b = np.clip(b - gap / slope, least, np.exp(top))
        seed = np.log(b)
    return np.where(np.isfinite(seed), seed, bottom)


def _lobatto(count: int) -> Floats:
    """Return Chebyshev points of the second kind, rising from -1 to 1."""
    nodes: Floats = -np.cos(np.linspace(0.0, math.pi, count))
    return nodes


@lru_cache
def _sines(count: int) -> tuple[Floats, Floats]:
    """Return points and weights on 0..1 of Gauss and Legendre's in the angle whose sine is the point.

    With the square root of the time left as the sine, that of the time gone is the cosine: at both ends smooth.
    """
    points, weights = np.polynomial.legendre.leggauss(count)
    angle = 0.25 * math.pi * (1.0 + points)
    return np.sin(angle), 0.25 * math.pi * weights * np.cos(angle)


def _lagrange(count: int, at: Floats) -> Floats:
    """Return the weights of the values at Chebyshev points for the value of their polynomial: place, point."""
    sign = (-1.0) ** np.arange(count)
    sign[[0, -1]] *= 0.5
    away = at[:, None] - _lobatto(count)
    hit = away == 0.0
    weights = sign / np.where(hit, 1e-300, away)
    found: Floats = weights / weights.sum(axis=1, keepdims=True)
    return found


@lru_cache
def _maps(scheme: Scheme) -> tuple[Floats, Floats]:
    """Return the matrices that take the boundary's nodes to the points of its equation and of the premium."""
    fraction = 0.5 * (1.0 + _lobatto(scheme.nodes + 1))
    z, _ = _sines(scheme.points)
    past = (fraction[1:, None] * np.sqrt(1.0 - z * z)).reshape(-1)
    now = np.sqrt(1.0 - _sines(scheme.pricing)[0] ** 2)
    inner, outer = (_lagrange(scheme.nodes + 1, 2.0 * place - 1.0).T for place in (past, now))
    return np.ascontiguousarray(inner), np.ascontiguousarray(outer)
