"""The table of jobs, and the pure question which of their slots are due.

A slot is the moment a run belongs to; it is the key under which the run is claimed, so each slot is
started at most once.  A slot found later than its grace is recorded as missed, never run late in silence.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from actors.domain import calendar
from actors.settings import Refused, Settings

NEW_YORK = ZoneInfo("America/New_York")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LOOK_BACK = timedelta(days=8)  # longer than the longest gap between two slots of any job
MOST_AT_ONCE = 6_000  # eight days of the prices' slots


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One message sent at its time: `every` so many seconds, or at a `cron` line in New York time."""

    id: str
    child: str
    method: str
    every: timedelta | None = None
    cron: str | None = None
    hours: bool = False  # only while the market is open
    days: bool = False  # only on trading days
    at_start: bool = False  # also once when the tree comes up
    grace: timedelta = timedelta(minutes=1)
    deadline: timedelta = timedelta(minutes=2)  # for the answer

    @property
    def when(self) -> str:
        """Return the times in words."""
        if self.every is not None:
            said = f"every {self.every.total_seconds():g} s"
        else:
            said = f"{self.cron} America/New_York"
        said += " in market hours" if self.hours else ""
        said += " on trading days" if self.days else ""
        return said + (" and at start" if self.at_start else "")


JOBS = (
    Job(
        id="prices",
        child="price_ingestor",
        method="refresh",
        every=timedelta(seconds=120),
        hours=True,
        at_start=True,
    ),
    Job(
        id="eod",
        child="price_ingestor",
        method="daily",
        cron="30 17 * * 1-5",
        days=True,
        grace=timedelta(hours=4),
        deadline=timedelta(minutes=10),
    ),
    Job(
        id="sp500",
        child="price_ingestor",
        method="constituents",
        cron="0 6 * * 1",
        grace=timedelta(hours=24),
    ),
    Job(
        id="retention",
        child="price_ingestor",
        method="prune",
        cron="0 3 * * *",
        at_start=True,  # it also makes the coming days' partitions
        grace=timedelta(hours=6),
        deadline=timedelta(minutes=10),
    ),
)


def check(settings: Settings) -> None:
    """Refuse job settings that cannot work."""
    with_settings(JOBS, settings.volaris_job)


def with_settings(jobs: Iterable[Job], given: Mapping[str, str]) -> tuple[Job, ...]:
    """Return the jobs with `VOLARIS_JOB__<JOB>` applied: seconds, a cron line, or `off`."""
    table = {job.id: job for job in jobs}
    for name, text in given.items():
        if name not in table:
            raise Refused(
                f"VOLARIS_JOB__{name.upper()}: there is no such job; there are {', '.join(table)}"
            )
        if text.strip().lower() == "off":
            del table[name]
        elif _seconds(text) is not None:
            table[name] = replace(
                table[name], every=timedelta(seconds=_seconds(text) or 0), cron=None
            )
        else:
            try:
                CronSim(text, datetime.now(NEW_YORK))
            except CronSimError as e:
                raise Refused(
                    f"VOLARIS_JOB__{name.upper()}: write seconds (0.2 or more), a cron line or off,"
                    f" was {text!r} ({e})"
                ) from None
            table[name] = replace(table[name], every=None, cron=text)
    return tuple(table.values())


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0.2 <= seconds <= 7 * 86400 else None


def due(job: Job, since: datetime, now: datetime, *, always_open: bool) -> list[datetime]:
    """Return the slots after `since` up to `now`, oldest first; of very many only the newest 6,000."""
    found: list[datetime] = []
    for at in _backwards(job, now):
        if at <= since or len(found) == MOST_AT_ONCE:
            break
        if _wanted(job, at, always_open=always_open):
            found.append(at)
    return found[::-1]


def next_slot(job: Job, now: datetime, *, always_open: bool) -> datetime | None:
    """Return the first slot after `now`; in market hours only, the first after the next opening."""
    if job.every is None:
        for at in CronSim(job.cron or "", now.astimezone(NEW_YORK)):
            if at - now > 2 * LOOK_BACK:
                return None
            if _wanted(job, at, always_open=always_open):
                return at.astimezone(UTC)
        return None
    upcoming = now - (now - EPOCH) % job.every + job.every
    if _wanted(job, upcoming, always_open=always_open):
        return upcoming
    opens = calendar.next_open(now)
    return opens + (-((opens - EPOCH) % job.every)) % job.every


def _backwards(job: Job, now: datetime) -> Iterator[datetime]:
    """Yield the times of a job up to `now`, newest first, as far back as anybody asks."""
    if job.every is not None:
        at = now - (now - EPOCH) % job.every
        while now - at < LOOK_BACK:
            yield at
            at -= job.every
        return
    start = (now + timedelta(seconds=1)).astimezone(NEW_YORK)
    for at in CronSim(job.cron or "", start, reverse=True):
        if now - at > LOOK_BACK:
            return
        if at <= now:
            yield at.astimezone(UTC)


def _wanted(job: Job, at: datetime, *, always_open: bool) -> bool:
    if job.hours and not always_open and not calendar.is_open(at):
        return False
    return not job.days or calendar.session(at.astimezone(NEW_YORK).date()) is not None
