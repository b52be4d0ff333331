"""A symbol's listed options at a moment: what is listed, what it is worth, and what the market shows of it.

Nothing is stored: contracts, surfaces and books are functions of the seed, the symbol and the time, and
stand on the same quotes as every other answer.  The surface is an SSVI (Gatheral and Jacquier, "Arbitrage-free
SVI volatility surfaces", 2014), so that the truth behind a book is free of static arbitrage.
"""

import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.domain import calendar
from sandbox import pricing
from sandbox.company import payout, reports
from sandbox.days import NEW_YORK, midnight, stamp
from sandbox.listing import Listing, fraction, key
from sandbox.market import Market, Quotes
from sandbox.paths import Floats, Ints, mixed, normal, uniform

Bools = NDArray[np.bool_]
Texts = NDArray[np.str_]

RATE = 0.0425  # continuously compounded, of every tenor
YEAR_MS = 365 * 86_400_000
DAY_MS, POINT_MS = 86_400_000, 5_000
OPENS = time(9, 30)
INDEX = "$SPX"  # the one index with options: European, cash-settled, roots SPX (AM) and SPXW (PM)
GIANTS = frozenset({INDEX, "SPY", "QQQ"})  # an expiration a day, and thousands of contracts
PENNIES = frozenset({"SPY", "QQQ", "IWM"})  # quoted in pennies at any price
BUSY_DOLLARS, WEEKLY_DOLLARS = 2.5e9, 2.5e8  # traded a day: many weeklies, some weeklies
MOST_STRIKES = 1000  # of one expiration, however far somebody moved the price
KEPT = 4  # books; a large one is 6 MB


@dataclass(frozen=True, slots=True)
class Expiration:
    """One expiration of one root."""

    day: date  # the date it is known by
    at: int  # ms: when it settles
    root: str
    kind: str  # as Schwab says it: S third Friday, W week or day, M month's end, Q quarter's end
    morning: bool  # settles at the opening of its day
    listed: date


@dataclass(frozen=True, slots=True)
class Surface:
    """The truth behind a book: ATM total variance by time, and one smile for all of them.

    With k = ln(strike / forward), total variance is
    w(k) = theta / 2 * (1 + rho*phi*k + sqrt((phi*k + rho)^2 + 1 - rho^2)), phi = eta / sqrt(theta * (1 + theta)).
    """

    rate: float
    dividend_yield: float  # continuous
    near: float  # ATM volatility at once, without a report
    far: float  # and in the long run
    reversion: float  # per year, from near to far
    rho: float
    eta: float
    move: float  # standard deviation of the logarithm that one report adds
    reports: tuple[int, ...]  # ms of the reports to come

    def theta(self, at: int, expires: Ints) -> Floats:
        """Return the ATM total variance from `at` to each expiry (ms)."""
        years = _years(at, expires)
        faded = -np.expm1(-self.reversion * years) / self.reversion
        base = self.far**2 * years + (self.near**2 - self.far**2) * faded
        ahead = np.searchsorted(np.array(self.reports, dtype=np.int64), expires)
        return np.asarray(base + self.move**2 * ahead)

    def phi(self, theta: Floats) -> Floats:
        """Return how steep the smile is at an ATM total variance."""
        return np.asarray(self.eta / np.sqrt(theta * (1 + theta)))

    def volatility(self, at: int, expires: Ints, k: Floats) -> Floats:
        """Return the implied volatility at log-moneyness k of the forward."""
        theta = self.theta(at, expires)
        x = self.phi(theta) * k
        variance = theta / 2 * (1 + self.rho * x + np.sqrt(x**2 + 2 * self.rho * x + 1))
        return np.asarray(np.sqrt(variance / _years(at, expires)))

    def forward(self, spot: float, at: int, expires: Ints) -> Floats:
        """Return the forward of each expiry."""
        return np.asarray(spot * np.exp((self.rate - self.dividend_yield) * _years(at, expires)))


@dataclass(frozen=True, slots=True, eq=False)
class Book:
    """One symbol's options at one moment, in columns; a row a contract, by expiration, root, strike, call first.

    Prices are dollars a share, times ms, `iv` a fraction, vega per volatility point, theta per day, rho per
    percentage point.  NaN in `iv` and the greeks is a contract the broker cannot price.
    """

    symbol: str
    at: int  # when these prices were made
    frozen: bool  # the market is closed, and shows its last ones
    spot: float
    surface: Surface
    expirations: tuple[Expiration, ...]
    of: Ints  # each contract's place in `expirations`
    contract: Texts  # OCC, padded to 21
    code: Ints  # one number a contract, the same at any time
    strike: Floats
    call: Bools
    expires: Ints
    american: bool
    penny: bool  # of the penny program
    theoretical: Floats
    sigma: Floats  # the surface's
    bid: Floats
    ask: Floats
    bid_size: Ints
    ask_size: Ints
    last: Floats  # 0 where nothing ever traded
    last_size: Ints
    traded_at: Ints
    quoted_at: Ints
    high: Floats  # 0 where nothing traded today
    low: Floats
    previous_close: Floats
    volume: Ints
    open_interest: Ints
    iv: Floats
    delta: Floats
    gamma: Floats
    theta: Floats
    vega: Floats
    rho: Floats

    def __len__(self) -> int:
        return len(self.strike)


class Options:
    """The option market behind every vendor's door."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._books: OrderedDict[tuple[object, ...], Book] = OrderedDict()
        # One entry a symbol at most: 45 MB if somebody asks for the options of them all.
        self._listed: dict[str, tuple[tuple[object, ...], _Listed]] = {}

    def book(self, symbol: str, at: int) -> Book | None:
        """Return a symbol's options at a time in ms; None where there are none on it."""
        i = self._market.index[symbol]
        if not has_options(self._market.listings[i]):
            return None
        quotes = self._market.quotes(at)
        expirations = _expirations(self._market.listings[i], at)
        asked = (symbol, quotes.at, float(quotes.last[i]), expirations, self._market.times.hours)
        if asked in self._books:
            self._books.move_to_end(asked)
            return self._books[asked]
        book = self._books[asked] = self._book(i, quotes, expirations)
        while len(self._books) > KEPT:
            self._books.popitem(last=False)
        return book

    def surface(self, symbol: str, at: int) -> Surface:
        """Return the truth behind a symbol's options."""
        moment = self._market.times.moment(at)
        listing = self._market.listings[self._market.index[symbol]]
        return _surface(listing, self._market.seed, stamp(moment.day, moment.point))

    def expirations(self, symbol: str, at: int) -> tuple[Expiration, ...]:
        """Return what has not settled at a time in ms."""
        listing = self._market.listings[self._market.index[symbol]]
        return _expirations(listing, at) if has_options(listing) else ()

    def truth(self, symbol: str, at: int) -> dict[str, Any] | None:
        """Return the surface as JSON, with what it says of each expiration; skew and curvature are of k at 0."""
        expirations = self.expirations(symbol, at)
        if not expirations:
            return None
        i, quotes = self._market.index[symbol], self._market.quotes(at)
        surface, now, spot = self.surface(symbol, at), quotes.at, float(quotes.last[i])
        expires = np.array([e.at for e in expirations], dtype=np.int64)
        years, theta = _years(now, expires), surface.theta(now, expires)
        phi, atm = surface.phi(theta), np.sqrt(theta / years)
        skew = surface.rho * phi * atm / 2
        curvature = phi**2 * atm * (1 - surface.rho**2) / 4 - skew**2 / atm
        forward = surface.forward(spot, now, expires)
        rows = zip(
            expirations,
            *(c.tolist() for c in (years, forward, atm, skew, curvature)),
            strict=True,
        )
        names = ("years", "forward", "atm_iv", "skew", "curvature")
        return {
            "model": "ssvi",
            "style": "european" if symbol == INDEX else "american",
            "spot": spot,
            "rate": surface.rate,
            "dividend_yield": surface.dividend_yield,
            "rho": surface.rho,
            "eta": surface.eta,
            "report_move": surface.move,
            "reports": [_iso(at) for at in surface.reports],
            "term": [
                {"expiration": e.day.isoformat(), "root": e.root, "settles": _iso(e.at)}
                | dict(zip(names, numbers, strict=True))
                for e, *numbers in rows
            ],
        }

    def _book(self, i: int, quotes: Quotes, expirations: tuple[Expiration, ...]) -> Book:
        listing, at = self._market.listings[i], quotes.at
        tier, american = _tier(listing), listing.symbol != INDEX
        listed = self._contracts(i, quotes, expirations)
        strike, call = listed.strike, listed.call
        expires = np.array([e.at for e in expirations], dtype=np.int64)[listed.of]
        surface = _surface(listing, self._market.seed, at)

        def priced(spot: float, when: int) -> tuple[Floats, Floats]:
            k = np.log(strike / surface.forward(spot, when, expires))
            sigma = surface.volatility(when, expires, k)
            terms = (strike, call, _years(when, expires), sigma, RATE, surface.dividend_yield)
            return sigma, pricing.price(spot, *terms, american=american)

        spot, before = float(quotes.last[i]), float(quotes.previous_close[i])
        sigma, worth = priced(spot, at)
        closed = priced(before, at - DAY_MS)[1]
        extremes = [priced(float(price[i]), at)[1] for price in (quotes.low, quotes.high)]
        greeks = pricing.greeks(
            spot,
            strike,
            call,
            _years(at, expires),
            sigma,
            RATE,
            surface.dividend_yield,
            american=american,
        )
        seed = key(listing.symbol, "options", self._market.seed)
        keys = mixed(np.full(len(worth), seed, dtype=np.uint64), listed.code)
        day = mixed(keys, np.array(at // DAY_MS))
        now = mixed(keys, np.array(at // POINT_MS))
        quoted, bid, ask = _shown(keys, now, tier, listing, at, worth, closed, greeks.vega)
        usual, interest = _interest(keys, listing, at, expirations, listed, before, surface)
        part = float(quotes.volume[i]) / listing.volume  # of the day's trade that is done
        volume = np.floor(usual * part * (0.4 + 1.2 * uniform(day)) + 0.3 * uniform(keys))
        traded, ever = volume > 0, (volume > 0) | (interest > 0)
        tick = _tick(closed, tier, listing)

        def ticks(price: Floats) -> Floats:
            return np.maximum(np.rint(price / tick) * tick, 0.01).round(2)

        close = ticks(closed)
        inside = ticks(np.minimum(bid, ask) + np.abs(ask - bid) * uniform(day))
        last = np.where(traded, inside, np.where(ever, close, 0.0))
        # What trades a hundred times a day traded minutes ago; what is rare, days ago.
        since = DAY_MS / (4 * np.maximum(volume, 1)) * uniform(mixed(day, np.array(3)))
        since = np.where(traded, since, DAY_MS * (1 + 20 * uniform(keys) ** 2)).astype(np.int64)
        mid = (bid + ask) / 2
        iv = sigma + np.divide(
            mid - worth, greeks.vega * 100, out=np.full(len(mid), np.nan), where=greeks.vega > 2e-4
        )
        # Time value is what a volatility is read from: where the market shows none, there is none.
        known = (mid > np.where(call, spot - strike, strike - spot)) & (iv > 0.01)
        size, other = mixed(now, np.array(1)), mixed(now, np.array(2))
        return Book(
            symbol=listing.symbol,
            at=at,
            frozen=quotes.moment.frozen,
            spot=spot,
            surface=surface,
            expirations=expirations,
            of=listed.of,
            contract=listed.contract,
            code=listed.code,
            strike=strike,
            call=call,
            expires=expires,
            american=american,
            penny=tier > 0 and american,
            theoretical=worth,
            sigma=sigma,
            bid=bid,
            ask=ask,
            bid_size=np.where(bid > 0, 1 + (400 * uniform(size) ** 3).astype(np.int64), 0),
            ask_size=1 + (400 * uniform(other) ** 3).astype(np.int64),
            last=last,
            last_size=np.where(ever, 1 + (day % np.uint64(20)).astype(np.int64), 0),
            traded_at=np.where(ever, at - since, 0),
            quoted_at=quoted,
            high=np.where(traded, np.maximum(ticks(np.maximum(*extremes)), last), 0.0),
            low=np.where(traded, np.minimum(ticks(np.minimum(*extremes)), last), 0.0),
            previous_close=close,
            volume=volume.astype(np.int64),
            open_interest=interest,
            iv=np.where(known, iv, np.nan),
            delta=np.where(known, greeks.delta, np.nan),
            gamma=np.where(known, greeks.gamma, np.nan),
            theta=np.where(known, greeks.theta, np.nan),
            vega=np.where(known, greeks.vega, np.nan),
            rho=np.where(known, greeks.rho, np.nan),
        )

    def _contracts(self, i: int, quotes: Quotes, expirations: tuple[Expiration, ...]) -> "_Listed":
        """Return what is listed: around every price of the underlying since the expiration was."""
        listing, day = self._market.listings[i], quotes.moment.day
        low, high = float(quotes.low[i]), float(quotes.high[i])
        asked = (day, low, high, expirations, self._market.times.hours)
        kept = self._listed.get(listing.symbol)
        if kept and kept[0] == asked:
            return kept[1]
        today = date.fromordinal(day + 1)
        # A contract does not vanish because the price went away from it.
        first = min((e.listed for e in expirations), default=today)
        back = self._market.days(listing.symbol, first, today - timedelta(days=1), quotes.at)
        lows, highs = np.append(back.low, low), np.append(back.high, high)
        parts = []
        for n, expiration in enumerate(expirations):
            since = np.searchsorted(back.at, midnight(expiration.listed.toordinal() - 1))
            life = (expiration.day - expiration.listed).days / 365
            strikes = _strikes(listing, float(lows[since:].min()), float(highs[since:].max()), life)
            if len(strikes) > MOST_STRIKES:
                at = int(np.searchsorted(strikes, quotes.last[i])) - MOST_STRIKES // 2
                at = min(max(at, 0), len(strikes) - MOST_STRIKES)
                strikes = strikes[at : at + MOST_STRIKES]
            parts.append((n, expiration, strikes))
        listed = _laid_out(parts)
        self._listed[listing.symbol] = (asked, listed)
        return listed


def has_options(listing: Listing) -> bool:
    """Say whether there are options on a listing."""
    return listing.kind != "index" or listing.symbol == INDEX


@dataclass(frozen=True, slots=True)
class _Listed:
    of: Ints
    strike: Floats
    call: Bools
    contract: Texts
    code: Ints  # one number a contract, the same at any time


def _laid_out(parts: Iterable[tuple[int, Expiration, Floats]]) -> _Listed:
    of, strike, contract, code = [], [], [], []
    for n, expiration, strikes in parts:
        head = f"{expiration.root:<6}{expiration.day:%y%m%d}"
        thousandths = np.rint(strikes * 1000).astype(np.int64)
        contract += [f"{head}{right}{k:08d}" for k in thousandths.tolist() for right in "CP"]
        of.append(np.full(2 * len(strikes), n))
        strike.append(np.repeat(strikes, 2))
        base = (expiration.day.toordinal() * 2 + expiration.morning) << 32
        code.append(base + np.repeat(thousandths, 2) * 2 + np.tile([0, 1], len(strikes)))
    strikes = np.concatenate(strike)
    call = np.tile([True, False], len(strikes) // 2)
    return _Listed(np.concatenate(of), strikes, call, np.array(contract), np.concatenate(code))


# --- what is listed ----------------------------------------------------------------------------------


def _tier(listing: Listing) -> int:
    """Return how much options on it trade: 3 most of all, 0 only monthlies."""
    if listing.symbol in GIANTS:
        return 3
    dollars = listing.price * listing.volume
    return 2 if dollars > BUSY_DOLLARS else 1 if dollars > WEEKLY_DOLLARS else 0


def _expirations(listing: Listing, at: int) -> tuple[Expiration, ...]:
    """Return what has not settled at a time in ms."""
    day = datetime.fromtimestamp(at / 1000, NEW_YORK).date()
    return tuple(e for e in _of_day(listing, day) if e.at > at)


@lru_cache(maxsize=1024)
def _of_day(listing: Listing, today: date) -> tuple[Expiration, ...]:
    """Return what is listed on a day, by date and root."""
    tier, index = _tier(listing), listing.symbol == INDEX
    root = "SPXW" if index else listing.symbol.replace(".", "")
    found: dict[tuple[date, str], Expiration] = {}

    def put(day: date, kind: str, life: int, *, morning: bool = False) -> None:
        day = _session(day)
        listed, known = day - timedelta(days=life), "SPX" if morning else root
        if listed < today <= day:
            settles = _moment(day, OPENS) if morning else _closing(day)
            expiration = Expiration(day, settles, known, kind, morning, listed)
            found.setdefault((day, known), expiration)

    for n in range(62):
        month = _month(today, n)
        life = _monthly_life(listing, month.month)
        put(_third_friday(month), "S", life, morning=index)
        if index:
            put(_third_friday(month), "W", min(life, 290))
        if tier == 3 and n:
            quarter = month.month in {1, 4, 7, 10}
            put(month - timedelta(days=1), "Q" if quarter else "M", 400 if quarter else 110)
    friday = today + timedelta(days=(4 - today.weekday()) % 7)
    for n in range((0, 5, 7, 10)[tier]):
        put(friday + timedelta(days=7 * n), "W", (0, 36, 50, 71)[tier])
    for n in range(15 if tier == 3 else 0):
        if (day := today + timedelta(days=n)).weekday() < 4 and _trades(day):
            put(day, "W", 15)
    return tuple(found[name] for name in sorted(found))


def _monthly_life(listing: Listing, month: int) -> int:
    """Return how many days before its end a third Friday's expiration is listed."""
    tier = _tier(listing)
    if listing.symbol == INDEX and month == 12:
        return 1830
    if month == 1:  # LEAPS
        return 800
    if tier > 1:
        return 620 if month in {6, 9, 12} else 290
    in_cycle = (month - key(listing.symbol, "cycle") % 3) % 3 == 1
    return 290 if in_cycle else 200 if tier else 100


def _month(day: date, n: int) -> date:
    """Return the first day of the month n months after a day's."""
    months = day.year * 12 + day.month - 1 + n
    return date(months // 12, months % 12 + 1, 1)


def _third_friday(month: date) -> date:
    return month + timedelta(days=(4 - month.weekday()) % 7 + 14)


def _session(day: date) -> date:
    """Return the day, or the last one before it on which the exchange is open."""
    while not _trades(day):
        day -= timedelta(days=1)
    return day


def _trades(day: date) -> bool:
    if day.year < calendar.FIRST_YEAR:
        return day.weekday() < 5
    return calendar.session(day) is not None


def _closing(day: date) -> int:
    found = calendar.session(day) if day.year >= calendar.FIRST_YEAR else None
    return int(found.closes.timestamp()) * 1000 if found else _moment(day, time(16))


def _moment(day: date, at: time) -> int:
    return int(datetime.combine(day, at, NEW_YORK).timestamp()) * 1000


def _strikes(listing: Listing, low: float, high: float, life: float) -> Floats:
    """Return the strikes of an expiration of `life` years, in which its underlying was from low to high.

    A strike lies on the grid or it does not, whatever the price, so that a moving price adds strikes and
    takes none away.
    """
    tier, spread = _tier(listing), listing.volatility * math.sqrt(life)
    bottom = low * math.exp(-min(0.10 + 2.2 * spread, 1.1))
    top = high * math.exp(min(0.06 + 1.6 * spread, 0.8))
    near = low * math.exp(-min(0.05 + 1.2 * spread, 0.3))
    far = high * math.exp(min(0.04 + spread, 0.25))
    times = 1
    if life > (0.2 if listing.symbol == INDEX else (0.3, 0.3, 1.0, 0.7)[tier]):
        # What is listed for long has fewer.
        times = 5 if tier == 3 else 2
    outer = times * (5 if tier == 3 else 2)
    grid = _GRIDS["index" if listing.symbol == INDEX else tier]
    return np.unique(
        np.concatenate((_on(grid, near, far, times), _on(grid, bottom, top, outer))).round(3)
    )


# Up to which strike they are how far apart near the money.
_GRIDS: dict[str | int, tuple[tuple[float, float], ...]] = {
    0: ((12, 0.5), (60, 1), (130, 2.5), (400, 5), (1200, 10), (5000, 50), (math.inf, 100)),
    1: ((12, 0.5), (60, 1), (130, 2.5), (400, 5), (1200, 10), (5000, 50), (math.inf, 100)),
    2: ((25, 0.5), (100, 1), (220, 2.5), (600, 5), (2000, 10), (math.inf, 50)),
    3: ((math.inf, 1),),
    "index": ((math.inf, 5),),
}


def _on(grid: Iterable[tuple[float, float]], low: float, high: float, times: int) -> Floats:
    """Return the strikes of a grid from low to high, only every so manieth."""
    parts, start = [], 0.0
    for end, step in grid:
        first, last = max(low, start, step * times), min(high, end)
        wide = step * times
        parts.append(np.arange(math.ceil(first / wide), math.floor(last / wide) + 1) * wide)
        start = end
    return np.concatenate(parts)


# --- what it is worth --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Standing:
    """What of a symbol's surface does not move."""

    premium: float  # of implied over realised volatility
    reversion: float
    rho: float
    eta: float
    move: float


@lru_cache(maxsize=1024)
def _standing(listing: Listing, seed: int) -> _Standing:
    def drawn(name: str, low: float, high: float) -> float:
        return low + (high - low) * fraction(listing.path_of, "surface", name, seed)

    # Within eta * (1 + |rho|) <= 2 there is no butterfly arbitrage.
    if listing.kind == "stock":
        return _Standing(
            premium=drawn("premium", 0.98, 1.2),
            reversion=drawn("reversion", 1.0, 5.0),
            rho=drawn("rho", -0.5, -0.08),
            eta=drawn("eta", 0.55, 0.95),
            move=listing.volatility * drawn("move", 0.10, 0.28),
        )
    follows = listing.beta > 0.6  # the market, which falls faster than it rises
    return _Standing(
        premium=drawn("premium", 1.0, 1.15),
        reversion=drawn("reversion", 2.0, 6.0),
        rho=drawn("rho", -0.78, -0.62) if follows else drawn("rho", -0.25, 0.2),
        eta=drawn("eta", 0.6, 0.85),
        move=0.0,
    )


def _surface(listing: Listing, seed: int, at: int) -> Surface:
    standing = _standing(listing, seed)
    today = datetime.fromtimestamp(at / 1000, NEW_YORK).date()
    # What volatility does over weeks and months: waves of the market's, and of its own.
    wave = 0.16 * _wave("market", seed, at) + 0.12 * _wave(listing.path_of, seed, at)
    usual = listing.volatility * standing.premium
    return Surface(
        rate=RATE,
        dividend_yield=_dividend_yield(listing, today),
        near=usual * math.exp(wave),
        far=usual,
        reversion=standing.reversion,
        rho=standing.rho,
        eta=standing.eta,
        move=standing.move,
        reports=tuple(t for t in _reports(listing, today) if t > at),
    )


def _wave(who: str, seed: int, at: int) -> float:
    """Return something between -1 and 1 that goes up and down in weeks, months and half years."""
    waves = ((9.7, 0.2), (41.0, 0.35), (173.0, 0.45))  # days, weight
    return sum(
        weight * math.sin(2 * math.pi * (at / DAY_MS / days + fraction(who, "wave", days, seed)))
        for days, weight in waves
    )


def _dividend_yield(listing: Listing, today: date) -> float:
    if listing.kind == "index":
        return 0.013
    return math.log1p(payout(listing, today).yearly / listing.price)


@lru_cache(maxsize=1024)
def _reports(listing: Listing, today: date) -> tuple[int, ...]:
    """Return the ms of the reports of the three years to come."""
    began = datetime.combine(today, time(), NEW_YORK)
    found = reports(listing, today, today + timedelta(days=1100), began)
    return tuple(int(report.at.timestamp()) * 1000 for report in found)


def _years(at: int, expires: Ints) -> Floats:
    return np.asarray(np.maximum((expires - at) / YEAR_MS, pricing.SHORTEST))


# --- what the market shows ---------------------------------------------------------------------------

# By tier: a spread's volatility points and part of the price, and how many quotes are stale.
_POINTS = (3.0, 1.6, 0.8, 0.35)
_PARTS = (0.008, 0.004, 0.002, 0.0008)
_STALE = (0.05, 0.03, 0.01, 0.002)
_CROSSED = 0.001
# By tier: contracts traded a day for each share of the underlying.
_PER_SHARE = (0.004, 0.008, 0.02, 0.07)
_INDEX_CONTRACTS = 2.2e6


def _tick(price: Floats, tier: int, listing: Listing) -> Floats:
    """Return the smallest step of a price: the penny program's, or the others'."""
    if listing.symbol in PENNIES:
        return np.full(len(price), 0.01)
    small, large = (0.01, 0.05) if tier and listing.symbol != INDEX else (0.05, 0.10)
    return np.where(price < 3, small, large)


def _shown(
    keys: NDArray[np.uint64],
    now: NDArray[np.uint64],
    tier: int,
    listing: Listing,
    at: int,
    worth: Floats,
    closed: Floats,
    vega: Floats,
) -> tuple[Ints, Floats, Floats]:
    """Return when each contract was quoted, and its bid and ask."""
    half_hour = mixed(keys, np.array(at // 1_800_000))
    stale = uniform(half_hour) < _STALE[tier]
    centre = np.where(stale, closed, worth)
    tick = _tick(centre, tier, listing)
    width = np.maximum(_POINTS[tier] * vega + _PARTS[tier] * centre, tick)
    width *= 0.6 + 0.8 * uniform(mixed(keys, np.array(7)))
    centre = centre + width * 0.2 * (uniform(now) - 0.5)
    bid = np.maximum(np.floor((centre - width / 2) / tick + 1e-9), 0.0) * tick
    ask = np.maximum(np.ceil((centre + width / 2) / tick - 1e-9), 1.0) * tick
    ask = np.maximum(ask, bid + tick)
    crossed = (uniform(mixed(now, np.array(5))) < _CROSSED) & (bid > 0)
    bid, ask = np.where(crossed, ask, bid), np.where(crossed, bid, ask)
    fresh = uniform(now) * (120_000, 60_000, 20_000, 5_000)[tier]
    age = np.where(stale, 1_800_000 + 18_000_000 * uniform(half_hour), fresh)
    return at - age.astype(np.int64), bid.round(2), ask.round(2)


def _interest(
    keys: NDArray[np.uint64],
    listing: Listing,
    at: int,
    expirations: tuple[Expiration, ...],
    listed: _Listed,
    before: float,
    surface: Surface,
) -> tuple[Floats, Ints]:
    """Return how many of each contract trade on an average day, and are open; the same all day long."""
    today = datetime.fromtimestamp(at / 1000, NEW_YORK).date()
    left = np.array([(e.day - today).days for e in expirations])[listed.of]
    age = np.array([(today - e.listed).days / (e.day - e.listed).days for e in expirations])
    weight = np.array([2.5 if e.kind == "S" else 1.0 for e in expirations])[listed.of]
    out = np.log(listed.strike / before) / (surface.far * np.sqrt((left + 1) / 365))
    weight = weight * np.exp(-(out**2) / 1.6) / (1 + left / 12) * np.exp(normal(keys))
    weight *= np.where((out > 0) == listed.call, 1.0, 0.3)
    weight *= np.where(listed.strike % 10 == 0, 2.0, 1.0)
    total = _INDEX_CONTRACTS
    if listing.symbol != INDEX:
        total = listing.volume * _PER_SHARE[_tier(listing)]
    usual = total * weight / weight.sum()
    held = (
        usual
        * 12
        * np.sqrt(np.clip(age, 0, 1))[listed.of]
        * (0.3 + uniform(mixed(keys, np.array(9))))
    )
    return usual, np.floor(held).astype(np.int64)


def _iso(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat()
