"""One configured vendor in the pool's hands: what it was asked, how it does, whether it is asked at all."""

import logging
import random
import time
from collections.abc import Awaitable, Callable
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from actors.domain.models import KindStatus, VendorState, VendorStatus
from actors.providers.base import (
    Denied,
    LoginNeeded,
    ProviderError,
    RateLimited,
    Spent,
    Unavailable,
    Unsupported,
)
from actors.providers.breaker import Breaker, Event, Phase, judge, shut, untried
from actors.providers.vendor import Kind, Provider

T = TypeVar("T")

DENIED_FOR = 600.0  # seconds at most until a refused key is tried again
DENIED_FIRST = (
    15.0  # after the first refusal, which may be the vendor's own fault; then twice as long
)
LOGIN_FOR = 10.0  # seconds until the adapter looks again whether somebody has logged in
NOT_SOLD_FOR = 21_600.0  # seconds until a plan is asked again whether it has this kind of data
HANGS = 2.0  # seconds; who fails later than that costs people their patience
LONG_WAIT = 5.0  # seconds for a turn; from there on the limit is what people wait for
REMIND_BEFORE = timedelta(days=1)  # of the end of a login

log = logging.getLogger("volaris.provider_pool")


@dataclass(slots=True)
class Line:
    """A vendor for one kind of data."""

    breaker: Breaker = field(default_factory=Breaker)
    last: ProviderError | None = None  # what it failed of last
    trouble: ProviderError | None = None  # why somebody had no answer; None again after an answer
    not_sold: ProviderError | None = None


class Desk:
    """Asks one vendor and keeps the books of it: breakers, troubles, counts."""

    def __init__(
        self,
        provider: Provider,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.provider, self.name = provider, provider.name
        self._now, self._clock = now, clock
        self._lines: dict[Kind, Line] = {}
        self._barred: ProviderError | None = None  # the credential, or the login
        self._barred_until = 0.0
        self._denials = 0  # in a row
        self._errors = 0
        self._last_error: tuple[str, datetime] | None = None
        self._last_answer_at: datetime | None = None

    # --- asking

    def closed_to(self, kind: Kind, *, by_name: bool = False) -> ProviderError | None:
        """Return why the vendor is not asked for that now, None where it is.

        Who asks for this vendor `by_name` is told what it says, also where its plan lacks the kind.
        """
        line, now = self._line(kind), self._clock()
        if self._barred is not None and now < self._barred_until:
            return copy(self._barred)  # an error that is raised anew each time would grow
        if line.breaker.allows(now) or (by_name and line.not_sold is not None):
            return None
        if line.not_sold is not None:
            return copy(line.not_sold)
        why = line.last.why if line.last else "it has not answered"
        return Unavailable(self.name, why, line.breaker.until - now)

    def on_trial(self, kind: Kind) -> bool:
        """Tell whether the next request is a probe."""
        return self._line(kind).breaker.phase is not Phase.CLOSED

    async def ask(self, kind: Kind, request: Callable[[Any], Awaitable[T]]) -> T:
        """Make one request of the vendor and note how it went."""
        line, began = self._line(kind), self._clock()
        self._judge(line, Event.ASKED)
        try:
            answer = await request(self.provider)
        except ProviderError as e:
            self._errors += 1
            self._last_error = (str(e), self._now())
            self._noted(line, kind, e, self._clock() - began)
            raise
        self._last_answer_at = self._now()
        self._denials = 0
        self.provider.limiter.gauge.note(self._clock(), failed=False)
        self._judge(line, Event.ANSWERED)
        line.not_sold = None
        return answer

    def _noted(self, line: Line, kind: Kind, error: ProviderError, seconds: float) -> None:
        # A spent limit is no failure, and "not in my shop" is an answer.
        if isinstance(error, Spent):
            self._untried(line)
            return
        limiter = self.provider.limiter
        failed = not isinstance(error, RateLimited | Unsupported)
        limiter.gauge.note(self._clock(), failed=failed)
        match error:
            case RateLimited():
                self._untried(line)
                if limiter.delay <= 0:  # said in an answer that looked like a good one
                    limiter.pause(error.retry_after)
            case Unsupported(by_plan=True) if kind is not Kind.BARS:  # of bars a plan lacks a time
                line.not_sold = _bare(error)
                line.breaker = shut(line.breaker, self._clock(), NOT_SOLD_FOR)
            case Unsupported():
                self._judge(line, Event.ANSWERED)
            case Denied() | LoginNeeded():
                self._untried(line)
                self._bar(error)
            case _:
                line.last = _bare(error)
                self._judge(line, Event.HUNG if seconds >= HANGS else Event.FAILED)

    def _judge(self, line: Line, event: Event) -> None:
        luck = random.random()  # noqa: S311  (jitter, not a secret)
        line.breaker = judge(line.breaker, event, self._clock(), luck)

    def _untried(self, line: Line) -> None:
        """End a probe that told nothing of the vendor's health: another one is due."""
        line.breaker = untried(line.breaker, self._clock())

    def _bar(self, error: ProviderError) -> None:
        seconds = LOGIN_FOR
        if not isinstance(error, LoginNeeded):
            seconds = min(DENIED_FIRST * 2 ** min(self._denials, 6), DENIED_FOR)
            self._denials += 1
        self._barred_until = self._clock() + seconds
        if type(error) is not type(self._barred):
            log.error("%s cannot be used: %s", self.name, error)
        self._barred = _bare(error)

    # --- what came of it

    def answered(self, kind: Kind) -> None:
        """Note that somebody had an answer of this kind."""
        line = self._line(kind)
        if self._barred is not None:
            log.info("%s answers again", self.name)
        elif line.trouble is not None:
            log.info("%s answers again for %s", self.name, kind)
        self._barred = line.trouble = None

    def logged_in(self) -> None:
        """Note that a person has logged in: the vendor may be asked again at once."""
        self._barred = None

    def failed(self, kind: Kind, error: ProviderError) -> None:
        """Note that somebody had no answer of this kind."""
        if isinstance(error, RateLimited | Unsupported | Denied | LoginNeeded):
            return
        line = self._line(kind)
        if line.trouble is None:
            log.error("%s cannot be used for %s: %s", self.name, kind, error)
        line.trouble = _bare(error)

    # --- states

    def status(self) -> VendorStatus:
        """Return how the vendor does."""
        limiter, now = self.provider.limiter, self._clock()
        state, remedy = self._state()
        kinds = tuple(self._kind_status(kind) for kind in sorted(self.provider.sells))
        probes = [kind.next_probe_at for kind in kinds if kind.next_probe_at]
        said, said_at = self._last_error or (None, None)
        return VendorStatus(
            name=self.name,
            state=state,
            remedy=remedy,
            last_error=said,
            last_error_at=said_at,
            last_answer_at=self._last_answer_at,
            next_probe_at=min(probes, default=None),
            requests=limiter.total,
            errors=self._errors,
            limits=limiter.spend,
            kinds=kinds,
            latency_p50=limiter.gauge.latency(0.5),
            latency_p99=limiter.gauge.latency(0.99),
            error_rate_5min=limiter.gauge.error_rate(now, 5),
            error_rate_1h=limiter.gauge.error_rate(now, 60),
            login_expires_at=self.provider.login_expires_at,
        )

    def _kind_status(self, kind: Kind) -> KindStatus:
        line, now = self._line(kind), self._clock()
        if self._barred is not None:
            probe, why = self._at(self._barred_until), str(self._barred)
            return KindStatus(kind, Phase.OPEN, probe, why)
        if line.breaker.phase is Phase.CLOSED:
            return KindStatus(kind, Phase.CLOSED)
        error = line.not_sold or line.last
        probe = self._at(max(line.breaker.until, now))
        return KindStatus(kind, line.breaker.phase, probe, str(error) if error else None)

    def _at(self, clock: float) -> datetime:
        return self._now() + timedelta(seconds=clock - self._clock())

    def _state(self) -> tuple[VendorState, str | None]:
        match self._barred:
            case LoginNeeded(remedy=remedy):
                return VendorState.LOGIN_NEEDED, remedy
            case ProviderError():
                return VendorState.DOWN, f"check {' and '.join(self.provider.needs)}"
        asked = [line for line in self._lines.values() if line.not_sold is None]
        troubled = [line for line in asked if line.trouble is not None]
        tried = [line for line in asked if line.trouble is not None or line.breaker.recent]
        if troubled and len(troubled) == len(tried):
            return VendorState.DOWN, None
        ends = self.provider.login_expires_at
        ends_soon = ends is not None and ends - self._now() < REMIND_BEFORE
        reminder = f"log in again before {ends:%Y-%m-%d %H:%M} UTC" if ends_soon else None
        limited = self.provider.limiter.delay > LONG_WAIT
        return VendorState.LIMITED if limited else VendorState.READY, reminder

    def _line(self, kind: Kind) -> Line:
        return self._lines.setdefault(kind, Line())


def _bare(error: ProviderError) -> ProviderError:
    """Return the error as one to keep: without the frames that it was raised in."""
    return copy(error)
