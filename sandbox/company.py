"""What a listing is besides its price: company facts, dividends, quarterly reports and analysts' opinions.

All of it is drawn from the symbol's own hash, as in `listing`, so that every vendor tells the same; only
what depends on the price or the day is asked for with it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache

from actors.domain import calendar
from sandbox.days import NEW_YORK
from sandbox.listing import DOW, Listing, fraction, key

QUARTER = 91  # days from one report to the next
_TODAY = 8131  # the quarter in which earnings are what the usual price says, in autumn 2026
_LABEL = (
    26  # quarters from a calendar quarter's number to ours, so that July's report is of the second
)

_INDUSTRIES = {  # by sector: SIC codes and what they stand for
    "Communication Services": ((4841, "Media"), (4813, "Telecommunication"), (7370, "Interactive")),
    "Consumer Discretionary": ((5651, "Retail"), (3711, "Automobiles"), (7011, "Hotels")),
    "Consumer Staples": ((2000, "Food Products"), (2080, "Beverages"), (5411, "Food Retail")),
    "Energy": ((1311, "Oil & Gas Exploration"), (2911, "Oil Refining"), (1389, "Oil Services")),
    "Financials": ((6022, "Banking"), (6311, "Insurance"), (6211, "Capital Markets")),
    "Health Care": ((2834, "Pharmaceuticals"), (3841, "Medical Devices"), (2836, "Biotechnology")),
    "Industrials": ((3721, "Aerospace & Defense"), (3560, "Machinery"), (4011, "Railroads")),
    "Information Technology": (
        (7372, "Software"),
        (3674, "Semiconductors"),
        (3571, "Technology Hardware"),
    ),
    "Materials": ((2860, "Chemicals"), (3310, "Metals & Mining"), (2650, "Packaging")),
    "Real Estate": ((6798, "Office REITs"), (6798, "Retail REITs"), (6798, "Residential REITs")),
    "Utilities": ((4911, "Electric Utilities"), (4924, "Gas Utilities"), (4941, "Water Utilities")),
}
_CITIES = (
    ("New York", "NY"),
    ("San Jose", "CA"),
    ("Austin", "TX"),
    ("Chicago", "IL"),
    ("Boston", "MA"),
    ("Seattle", "WA"),
)
_MICS = {"Q": "XNAS", "N": "XNYS", "P": "ARCX", "0": "XNYS"}


@dataclass(frozen=True, slots=True)
class Company:
    """What does not change from day to day; for a fund there are no employees and no revenue."""

    sector: str | None
    industry: str | None
    sic: int | None
    mic: str  # the exchange's ISO code
    country: str
    city: str
    state: str
    website: str
    phone: str
    description: str
    employees: int | None
    listed: date
    shares: float
    revenue: float | None  # dollars a year
    beta: float
    cik: int
    figi: str


@dataclass(frozen=True, slots=True)
class Payout:
    """The dividends and earnings around a day; yearly 0 means that nothing is paid."""

    yearly: float
    eps: float  # of the last four reports; 0 for a fund
    earnings: date  # the last report
    declared: date
    ex: date
    paid: date
    next_ex: date
    next_paid: date

    def percent(self, price: float) -> float:
        """Return the yield at a price, in percent."""
        return self.yearly / price * 100


@dataclass(frozen=True, slots=True)
class Report:
    """One quarterly report; the actual figures are None until it is out.  Revenue in dollars."""

    symbol: str
    day: date
    at: datetime  # when it comes out, UTC
    hour: str  # bmo | amc
    year: int
    quarter: int
    period: date  # the last day it is about
    eps_estimate: float
    revenue_estimate: float
    eps: float | None
    revenue: float | None


@dataclass(frozen=True, slots=True)
class Opinions:
    """How many analysts said what in one month."""

    month: date  # its first day
    strong_buy: int
    buy: int
    hold: int
    sell: int
    strong_sell: int


@lru_cache(maxsize=1024)
def company(listing: Listing) -> Company:
    """Return the standing facts of a listing."""
    symbol = listing.symbol
    sic, industry = None, None
    if listing.sector:
        choices = _INDUSTRIES[listing.sector]
        sic, industry = choices[key(symbol, "industry") % len(choices)]
    revenue = _revenue(listing) if listing.kind == "stock" else None
    city, state = _CITIES[key(symbol, "city") % len(_CITIES)]
    name = listing.name
    business = f"a company in the {industry} business" if industry else "a fund"
    slug = symbol.lower().replace(".", "-").lstrip("$")
    return Company(
        sector=listing.sector,
        industry=industry,
        sic=sic,
        mic=_MICS[listing.exchange],
        country="US",
        city=city,
        state=state,
        website=f"https://{slug}.example.com/",
        phone=f"1555{key(symbol, 'phone') % 10**7:07d}",
        description=f"{name} is {business}, as the sandbox makes it up.",
        employees=_employees(symbol, revenue) if revenue else None,
        listed=date(1970, 1, 2) + timedelta(days=key(symbol, "listed") % (50 * 365)),
        shares=listing.shares,
        revenue=revenue,
        beta=round(listing.beta, 5),
        cik=10_000 + key(symbol, "cik") % 1_900_000,
        figi=f"BBG{key(symbol, 'figi') % 10**9:09d}",
    )


def market_cap(listing: Listing, price: float) -> float:
    """Return what all shares are worth at a price, in dollars."""
    return round(listing.shares * price, 2)


@lru_cache(maxsize=2048)
def payout(listing: Listing, today: date) -> Payout:
    """Return the dividends and earnings around a day."""
    pays = listing.kind == "etf" or fraction(listing.symbol, "pays") < 0.75
    income = 0.004 + 0.03 * fraction(listing.symbol, "yield")
    last = _last(listing, today)
    eps = 0.0
    if listing.kind == "stock":
        eps = round(sum(_figures(listing, n)[0] for n in range(last - 3, last + 1)), 2)
    ex = last if _ex(listing, last) <= today else last - 1
    paid = last if _paid(listing, last) <= today else last - 1
    return Payout(
        yearly=round(listing.price * income / 4, 2) * 4 if pays else 0.0,
        eps=eps,
        earnings=_day(listing, last),
        declared=_day(listing, last),
        ex=_ex(listing, ex),
        paid=_paid(listing, paid),
        next_ex=_ex(listing, ex + 1),
        next_paid=_paid(listing, paid + 1),
    )


def dividends(listing: Listing, first: date, last: date) -> Iterator[tuple[date, float]]:
    """Return the ex-dates within [first, last] and what is paid a share, oldest first."""
    each = round(payout(listing, last).yearly / 4, 4)
    if not each:
        return
    for n in range(_quarter(listing, first) - 1, _quarter(listing, last) + 1):
        if first <= (day := _ex(listing, n)) <= last:
            yield day, each


def reports(listing: Listing, first: date, last: date, now: datetime) -> Iterator[Report]:
    """Return a company's reports of the dates [first, last], oldest first, as known at `now`."""
    if listing.kind != "stock":
        return
    for n in range(_quarter(listing, first) - 1, _quarter(listing, last) + 1):
        found = _report(listing, n, now)
        if first <= found.day <= last:
            yield found


def opinions(listing: Listing, month: date) -> Opinions:
    """Return the analysts' opinions of a company in the month of a date."""
    symbol, month = listing.symbol, month.replace(day=1)
    total = 8 + int(26 * fraction(symbol, "analysts")) + (14 if symbol in DOW else 0)
    # From a liking that drifts by the month: 0 is a sell, 1 a strong buy.
    drift = 0.2 * (fraction(symbol, "liking", month) - 0.5)
    liking = min(max(0.45 + 0.45 * fraction(symbol, "liking") + drift, 0.1), 0.98)
    strong_buy, buy = int(total * liking**2 * 0.5), int(total * liking * 0.5)
    sell = int(total * (1 - liking) * 0.3)
    strong_sell = int(total * (1 - liking) ** 2 * 0.3)
    hold = total - strong_buy - buy - sell - strong_sell
    return Opinions(month, strong_buy, buy, hold, sell, strong_sell)


def _revenue(listing: Listing) -> float:
    # The ratio that Schwab's fundamentals tell.
    per_sales = 0.8 + 8.2 * fraction(listing.symbol, "prRatio")
    return listing.price * listing.shares / per_sales


def _employees(symbol: str, revenue: float) -> int:
    return 100 * math.ceil(revenue / (2e5 + 7e5 * fraction(symbol, "employees")) / 100)


def _quarter(listing: Listing, day: date) -> int:
    """Return the number of the quarter a day is in; each symbol has its own place in them."""
    return (day.toordinal() + key(listing.symbol, "quarter") % QUARTER) // QUARTER


def _last(listing: Listing, today: date) -> int:
    n = _quarter(listing, today)
    return n if _day(listing, n) <= today else n - 1


@lru_cache(maxsize=8192)
def _day(listing: Listing, n: int, after: int = 0) -> date:
    """Return the first session on or after a day of a quarter."""
    ordinal = QUARTER * n - key(listing.symbol, "quarter") % QUARTER + after
    day = date.fromordinal(ordinal)
    while not _trades(day):
        day += timedelta(days=1)
    return day


def _ex(listing: Listing, n: int) -> date:
    return _day(listing, n, 11)


def _paid(listing: Listing, n: int) -> date:
    return _day(listing, n, 25)


def _trades(day: date) -> bool:
    if day.year < calendar.FIRST_YEAR:
        return day.weekday() < 5
    return calendar.session(day) is not None


@lru_cache(maxsize=8192)
def _figures(listing: Listing, n: int) -> tuple[float, float]:
    """Return earnings a share and revenue of one quarter."""
    symbol = listing.symbol
    growth = (1.01 + 0.1 * fraction(symbol, "growth")) ** ((n - _TODAY) / 4)
    season = 1 + 0.2 * (fraction(symbol, "season", n % 4) - 0.5)
    eps = listing.price / (11 + 34 * fraction(symbol, "pe")) / 4
    eps *= growth * season * (0.92 + 0.16 * fraction(symbol, "eps", n))
    revenue = _revenue(listing) / 4 * growth * season
    return max(round(eps, 2), 0.01), round(revenue * (0.97 + 0.06 * fraction(symbol, "sales", n)))


def _report(listing: Listing, n: int, now: datetime) -> Report:
    symbol, day = listing.symbol, _day(listing, n)
    eps, revenue = _figures(listing, n)
    # Most companies beat what was expected of them.
    expected = 1 - 0.12 * (fraction(symbol, "surprise", n) - 0.35)
    hour = "bmo" if fraction(symbol, "hour") < 0.5 else "amc"
    told = time(7) if hour == "bmo" else time(16, 5)
    at = datetime.combine(day, told, NEW_YORK).astimezone(UTC)
    year, quarter = divmod(n - _LABEL, 4)
    return Report(
        symbol=symbol,
        day=day,
        at=at,
        hour=hour,
        year=year,
        quarter=quarter + 1,
        period=day.replace(day=1) - timedelta(days=1),
        eps_estimate=round(eps * expected, 4),
        revenue_estimate=round(revenue * (1 + (expected - 1) / 3)),
        eps=eps if at <= now else None,
        revenue=revenue if at <= now else None,
    )
