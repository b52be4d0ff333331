"""What a vendor's plan allows, as text and as counters: pure, no clock, no I/O.

The text is what a person writes in `VOLARIS_LIMIT__<VENDOR>`: "50/h 1000/day 1GB/month 500symbols/month".
Seconds, minutes and hours are rolling windows, kept by a token bucket.  Days and months are calendar
windows, kept by a count: a day begins at midnight in New York, a month at midnight UTC.
"""

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from actors.domain.calendar import NEW_YORK

ROLLING = {"s": 1.0, "min": 60.0, "h": 3600.0}  # seconds
BYTES = {"KB": 10**3, "MB": 10**6, "GB": 10**9}
SYMBOLS = "symbols"
GRAMMAR = (
    "write N/s, N/min, N/h, N/day, N/month, NGB/month and Nsymbols/month, with spaces between them"
)
_LIMIT = re.compile(
    r"([1-9]\d{0,11})(KB|MB|GB|symbols)?/(s|min|h|day|month)",
)

# A vendor counts when a request arrives: what is sent evenly arrives closer together when the first is
# held up on its way.  So each window is kept longer than it is, by so many seconds.
SLACK = {"s": 0.5, "min": 1.0, "h": 1.0}
BURST = 1 / 12  # of a window's requests may go at once; the rest comes in a steady trickle
KEPT = 1 / 4  # of a burst is for people: sweeps leave it
SWEEPS = 0.9  # of a day or month is for sweeps, the rest for people
LARGEST_ANSWER = 10_000_000  # bytes; `http.Wire` reads no more
BLOCK = 1 / 50  # of a day or month is written down as spent at a time, before it is


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit: so many requests, bytes or symbols in a window."""

    amount: int
    what: str  # "" = requests, "bytes" or "symbols"
    window: str
    text: str

    @property
    def key(self) -> str:
        """Return the name under which its spend is kept; it outlives a change of the amount."""
        return f"{self.what or 'requests'}/{self.window}"


def read(text: str) -> tuple[Limit, ...]:
    """Return the limits of a plan; `ValueError` with one sentence for a text that is none."""
    limits: dict[str, Limit] = {}
    for word in text.split():
        found = _LIMIT.fullmatch(word)
        if found is None:
            raise ValueError(f"{GRAMMAR}, was {word!r}")
        number, unit, window = found.groups()
        size = BYTES.get(unit, 1)
        what = unit if unit == SYMBOLS else "bytes" if unit else ""
        if what and window in ROLLING:
            raise ValueError(f"{unit} are counted by the day or month, was {word!r}")
        limit = Limit(int(number) * size, what, window, word)
        if what == "bytes" and limit.amount < 2 * LARGEST_ANSWER:
            raise ValueError(f"a limit of bytes must be 20MB or more, was {word!r}")
        if limit.key in limits:
            raise ValueError(f"write each kind of limit once, was {text!r}")
        limits[limit.key] = limit
    if not any(limit.what == "" for limit in limits.values()):
        raise ValueError(f"at least one limit of requests is needed, such as 60/min, was {text!r}")
    return tuple(limits.values())


class Rolling:
    """At most so many requests in any stretch of time as long as the window: a token bucket.

    Times are seconds of a monotonic clock, and never go back.
    """

    def __init__(self, limit: Limit, now: float) -> None:
        self.limit = limit
        self.length = ROLLING[limit.window]
        self._burst = max(1, int(limit.amount * BURST))
        # A window that begins with a full bucket sees burst + length * rate - 1: exactly the amount.
        self._rate = (limit.amount - self._burst + 1) / (self.length + SLACK[limit.window])
        self._kept = int(self._burst * KEPT)
        self._tokens, self._filled_at = float(self._burst), now
        self._recent: deque[float] = deque()

    def wait(self, ahead: int, now: float, *, sweep: bool) -> float:
        """Return the seconds until the turn of one who has `ahead` others before them."""
        needed = ahead + 1 + (self._kept if sweep else 0)
        return max(0.0, self._filled_at - now) + max(0.0, (needed - self.level(now)) / self._rate)

    def level(self, now: float) -> float:
        """Return the requests that may go at once."""
        if now > self._filled_at:
            self._tokens = min(
                float(self._burst), self._tokens + (now - self._filled_at) * self._rate
            )
            self._filled_at = now
        return self._tokens

    def spend(self, now: float) -> None:
        """Count one request."""
        self._tokens = self.level(now) - 1
        self._recent.append(now)
        self.spent(now)

    def spent(self, now: float) -> int:
        """Return the requests of the window that ends now."""
        while self._recent and self._recent[0] <= now - self.length:
            self._recent.popleft()
        return len(self._recent)

    def begin(self, level: float, age: float, now: float) -> None:
        """Go on from what is known of an earlier life: its level, so many seconds ago."""
        self._tokens = min(float(self._burst), max(0.0, level) + max(0.0, age) * self._rate)
        self._filled_at = now

    def cap(self, tokens: float, at: float) -> None:
        """Have no more than so many tokens at that moment, which may be in the future."""
        self._tokens = min(self.level(at), tokens)
        self._filled_at = max(self._filled_at, at)


class Calendar:
    """At most so much in a day or month; `granted` of it is written down as spent already."""

    def __init__(self, limit: Limit, now: datetime) -> None:
        self.limit = limit
        self.began = window_start(limit.window, now)
        self.spent = 0  # of this window, and what an earlier life may have spent of it
        self.granted = 0
        self.held = 0  # of requests that are under way
        self.symbols: set[str] = set()

    @property
    def cost(self) -> int:
        """Return what one request may cost at most."""
        return {"": 1, "bytes": LARGEST_ANSWER}.get(self.limit.what, 0)

    def roll(self, now: datetime) -> None:
        """Begin a new window where the old one is over."""
        began = window_start(self.limit.window, now)
        if began > self.began:
            self.began, self.spent, self.granted = began, 0, 0
            self.symbols = set()

    def ends(self) -> datetime:
        """Return when the window is over."""
        return window_end(self.limit.window, self.began)

    def open_to(self, *, sweep: bool) -> bool:
        """Tell whether one more request fits into the window."""
        most = self.limit.amount * (SWEEPS if sweep else 1)
        return self.spent + self.held + self.cost <= most

    @property
    def covered(self) -> bool:
        """Tell whether one more request is written down already."""
        return self.spent + self.held + self.cost <= self.granted

    def wanted(self) -> int:
        """Return the grant to write down next."""
        block = max(self.cost * 2, int(self.limit.amount * BLOCK))
        return min(self.limit.amount, max(self.granted, self.spent + self.held + block))

    def new(self, symbols: Iterable[str], *, sweep: bool) -> list[str]:
        """Return the symbols that are not in this window's yet and fit into it."""
        most = int(self.limit.amount * (SWEEPS if sweep else 1))
        unseen = [symbol for symbol in dict.fromkeys(symbols) if symbol not in self.symbols]
        return unseen[: max(0, most - len(self.symbols))]


def window_start(window: str, now: datetime) -> datetime:
    """Return the beginning of the day (New York) or month (UTC) that holds `now`."""
    if window == "day":
        return _midnight(now.astimezone(NEW_YORK))
    return now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def window_end(window: str, began: datetime) -> datetime:
    """Return the end of a day or month that began then."""
    if window == "day":  # noon of the next day is in it, whatever the clocks do at night
        return _midnight(began.astimezone(NEW_YORK) + timedelta(hours=36))
    return (began.astimezone(UTC) + timedelta(days=32)).replace(day=1)


def _midnight(at: datetime) -> datetime:
    return datetime.combine(at.date(), time(), NEW_YORK).astimezone(UTC)
