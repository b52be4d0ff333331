"""The words the whole tree speaks: quotes, bars and batches of them, as frozen dataclasses.

Prices are US dollars as floats, times are aware UTC datetimes, percents are percents (1.25 means
1.25 %), volumes are shares.  `None` means "no value": a vendor's -999, NaN, null or missing key
never gets past its adapter, and a zero in here is a real zero.
"""

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Generic, TypeVar

T = TypeVar("T")


class Timeframe(StrEnum):
    """The bar lengths there are; 1m and 1d are stored.  The names are data, never rename one."""

    MINUTE = "1m"
    FIVE_MINUTES = "5m"
    DAY = "1d"


@dataclass(frozen=True, slots=True)
class Sourced(Generic[T]):
    """What a vendor answered where its rows do not say it themselves: whose it is, and when it was asked."""

    rows: T
    source: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Quote:
    """One symbol's market as a vendor last told it; symbols are in dot form (BRK.B)."""

    symbol: str
    at: datetime  # when the vendor says this was true
    source: str
    last: float | None = None
    bid: float | None = None
    ask: float | None = None
    bid_size: int | None = None
    ask_size: int | None = None
    open: float | None = None
    high: float | None = None
    low: float | None = None
    close: float | None = None  # the regular session's last price today, where the vendor tells it
    previous_close: float | None = None
    volume: int | None = (
        None  # shares traded today on all exchanges; None where a feed tells of some
    )
    change: float | None = None
    change_percent: float | None = None
    high_52w: float | None = None
    low_52w: float | None = None
    delayed: bool = False
    name: str | None = None


@dataclass(frozen=True, slots=True)
class QuoteBatch:
    """What one ask for many symbols brought: every symbol asked for is in exactly one of the three."""

    quotes: tuple[Quote, ...]
    unknown: tuple[str, ...] = ()  # the vendor says there is no such symbol
    failed: tuple[tuple[str, str], ...] = ()  # (symbol, why): asked for, and no answer was had


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; `at` is its start in time, or midnight UTC of the date where it is a daily one."""

    symbol: str
    at: datetime
    open: float
    high: float
    low: float
    close: float
    volume: int
    source: str
    polled: bool = False  # built from polled quotes, so its high and low are of what was seen


@dataclass(frozen=True, slots=True)
class BarPage:
    """One answer's bars, by symbol and then time; `next` asks for the rest, None where this was all."""

    bars: tuple[Bar, ...]
    next: str | None = None
    unknown: tuple[str, ...] = ()  # the vendor says there is no such symbol


class Ranking(StrEnum):
    """What a list of movers is sorted by."""

    GAINERS = "gainers"
    LOSERS = "losers"
    ACTIVE = "active"  # shares traded


@dataclass(frozen=True, slots=True)
class Mover:
    """One row of a list of movers."""

    symbol: str
    last: float
    change: float | None = None  # dollars since the previous close
    change_percent: float | None = None
    volume: int | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Movers:
    """The symbols that moved or traded most, the first one most."""

    ranking: Ranking
    at: datetime
    source: str
    rows: tuple[Mover, ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """What a company or fund is, and its standing figures; money in dollars, yields in percent."""

    symbol: str
    at: datetime  # when it was asked, where the vendor gives no time
    source: str
    name: str | None = None
    exchange: str | None = None
    sector: str | None = None
    industry: str | None = None
    country: str | None = None
    website: str | None = None
    description: str | None = None
    listed: date | None = None
    employees: int | None = None
    market_cap: float | None = None
    shares_outstanding: float | None = None
    average_volume: float | None = None  # shares a day, of the vendor's own span
    beta: float | None = None
    pe: float | None = None
    eps: float | None = None
    dividend_yield: float | None = None
    dividend_ex: date | None = None  # the next ex-date, or the last where only that is told
    high_52w: float | None = None
    low_52w: float | None = None


@dataclass(frozen=True, slots=True)
class Story:
    """One piece of news; `sentiment` is positive, neutral or negative where the vendor judges it."""

    id: str  # unique within its source
    at: datetime  # published
    source: str  # the vendor
    headline: str
    url: str
    publisher: str | None = None
    summary: str | None = None
    symbols: tuple[str, ...] = ()
    sentiment: str | None = None


@dataclass(frozen=True, slots=True)
class Earnings:
    """One company's report: planned, or with what it said; `hour` is bmo, amc or dmh where known."""

    symbol: str
    day: date
    source: str
    hour: str | None = None
    quarter: int | None = None
    year: int | None = None
    eps_estimate: float | None = None
    eps_actual: float | None = None
    revenue_estimate: float | None = None
    revenue_actual: float | None = None


@dataclass(frozen=True, slots=True)
class Recommendations:
    """How many analysts said what in one month."""

    symbol: str
    month: date  # its first day
    source: str
    strong_buy: int
    buy: int
    hold: int
    sell: int
    strong_sell: int


@dataclass(frozen=True, slots=True)
class Ticker:
    """One member of the universe."""

    symbol: str
    name: str
    kind: str = "stock"  # stock | etf
    sector: str | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """One trading day's regular hours, as aware UTC datetimes."""

    day: date
    opens: datetime
    closes: datetime


@dataclass(frozen=True, slots=True)
class MembersReport:
    """What one look at the list of the S&P 500 changed."""

    members: int
    added: tuple[str, ...]
    retired: tuple[str, ...]  # no longer followed; their history stays


@dataclass(frozen=True, slots=True)
class RefreshReport:
    """What one refresh of the universe did."""

    asked: int
    stored: int  # quotes written
    bars: int  # 1-minute bars written
    unknown: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]
    seconds: float


class VendorState(StrEnum):
    """Whether a vendor can be asked, and if not, who has to do something about it."""

    READY = "ready"
    LIMITED = "limited"  # its rate limit is spent; goes on by itself
    DOWN = "down"  # it does not answer as it should; goes on by itself
    LOGIN_NEEDED = "login_needed"  # a person must log in
    UNCONFIGURED = "unconfigured"  # no key set


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """What is spent of one limit of a vendor's plan: requests, bytes or symbols."""

    limit: str  # as it is written: "120/min"
    spent: int  # in the window: the last second, minute or hour, this day or month
    allowed: int
    resets_at: datetime | None = None  # where the window is one of the calendar


@dataclass(frozen=True, slots=True)
class KindStatus:
    """How a vendor does for one kind of data: closed = asked, open = not asked, half_open = on trial."""

    kind: str
    state: str
    next_probe_at: datetime | None = None
    why: str | None = None  # it is not asked


@dataclass(frozen=True, slots=True)
class VendorStatus:
    """One vendor as the provider pool sees it; seconds and fractions, None where nothing was asked."""

    name: str
    state: VendorState
    remedy: str | None = None  # what a person must do, where somebody must
    last_error: str | None = None
    last_error_at: datetime | None = None
    last_answer_at: datetime | None = None
    next_probe_at: datetime | None = None  # when what is not asked is tried again, at the earliest
    requests: int = 0
    errors: int = 0
    limits: tuple[LimitStatus, ...] = ()
    kinds: tuple[KindStatus, ...] = ()
    latency_p50: float | None = None
    latency_p99: float | None = None
    error_rate_5min: float | None = None
    error_rate_1h: float | None = None
    login_expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ChildStatus:
    """One child of the tree as the supervisor sees it; memory in MiB."""

    id: str
    state: str  # supervise.Phase
    pid: int | None
    node: str | None
    generation: int
    restarts: int  # unplanned
    replacements: int  # planned
    memory_mb: float | None
    soft_mb: int
    hard_mb: int
    since: datetime
    last_exit_cause: str | None = None
    last_exit_at: datetime | None = None
    retry_at: datetime | None = None  # when a child that is down or given up is started again
    detail: str | None = None  # what its last failed start said
    leak: str | None = None  # said of a child that must be relieved again and again
    relief: int | None = None  # the pid of its successor, while that comes up


@dataclass(frozen=True, slots=True)
class JobStatus:
    """One job of the scheduler: when it runs and how its last run ended."""

    id: str
    when: str
    message: str
    next_at: datetime | None
    running: bool = False
    last_slot: datetime | None = None
    last_state: str | None = None
    last_seconds: float | None = None
    last_error: str | None = None
