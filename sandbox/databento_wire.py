"""How Databento asks and refuses: its errors, its times, its symbols, and a question for data, checked."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sandbox.gate import Headers

MOST_SYMBOLS = 2_000
ALL_SYMBOLS = "ALL_SYMBOLS"
NS = 1_000_000_000
DAY_NS = 86_400 * NS
LATEST = datetime(2100, 1, 1, tzinfo=UTC)

DOCS = "https://databento.com/docs"
_WORDS = {  # of errors that have a case: the case, the sentence, the page that explains it
    401: ("auth_authentication_failed", "Authentication failed.", "/portal/api-keys"),
    402: ("account_insufficient_funds", "Account has insufficient funds.", "/portal/billing"),
    403: (
        "license_not_found_unauthorized",
        "A live data license is required.",
        "/portal/live-data",
    ),
}
_TEXTS = {
    404: "Not Found",
    408: "The request transmission timed out.",
    429: "Too many requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
    504: "The remote gateway timed out.",
}

SCHEMAS = {  # those there are: rtype, the number in DBN metadata, the length
    "ohlcv-1m": (33, 6, 60 * NS),
    "ohlcv-1h": (34, 7, 3_600 * NS),
    "ohlcv-1d": (35, 8, DAY_NS),
}
_NO_TIMES = (
    "trades",
    "mbo",
    "mbp-1",
    "mbp-10",
    "tbbo",
    "bbo-1s",
    "bbo-1m",
    "ohlcv-1s",
    "definition",
)
STYPES = {"instrument_id": 0, "raw_symbol": 1}
_OTHER_STYPES = ("continuous", "parent", "nasdaq_symbol", "cms_symbol", "isin", "us_code", "figi")


class Refused(Exception):
    """A request is answered with one of Databento's errors: a sentence, or one with a case."""

    def __init__(
        self,
        status: int,
        message: str | None = None,
        case: str | None = None,
        payload: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(status, message, case, payload)
        self.status, self.message, self.case, self.payload = status, message, case, payload


@dataclass(frozen=True, slots=True)
class Available:
    """From when until when there is data, in ns; `licensed` is where it ends without a live licence."""

    start: int
    end: int
    licensed: int


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for: the time is [start, end) ns, no symbols are all of them."""

    dataset: str
    schema: str
    symbols: tuple[str, ...]
    stype_in: str
    stype_out: str
    start: int
    end: int
    limit: int | None

    @classmethod
    def read(cls, form: Mapping[str, str], datasets: Mapping[str, Any]) -> "Question":
        """Return the question of a form, or refuse it."""
        dataset = dataset_of(form, datasets)
        schema = form.get("schema", "trades")
        if schema not in SCHEMAS:
            if schema in _NO_TIMES:
                raise Refused(422, f"The schema {schema} is not available for {dataset}.")
            raise Refused(422, f"Invalid schema: {schema}")
        stype_in, stype_out = stypes_of(form)
        start = instant(form, "start")
        if start is None:
            raise Refused(422, "Missing required field: start")
        end = instant(form, "end")
        limit = form.get("limit")
        if limit and not (limit.isascii() and limit.isdigit() and 0 < len(limit) < 19):
            raise Refused(422, f"Invalid limit: {limit}")
        return cls(
            dataset=dataset,
            schema=schema,
            symbols=symbols_of(form),
            stype_in=stype_in,
            stype_out=stype_out,
            start=start,
            end=forward_filled(form["start"], start) if end is None else end,
            limit=int(limit) or None if limit else None,
        )

    def check(self, available: Available, *, free: bool) -> None:
        """Refuse a time of which there is no data, or none without a live licence."""
        start, end, dataset = told(self.start), told(self.end), self.dataset
        payload = {"dataset": dataset, "start": iso(self.start), "end": iso(self.end)}
        payload |= {
            "available_start": iso(available.start),
            "available_end": iso(available.end),
        }
        if self.start >= self.end:
            raise Refused(
                422,
                f"Invalid time range query, `start` {start} cannot be on or after `end` {end}.",
                "data_time_range_start_on_or_after_end",
                {"start": payload["start"], "end": payload["end"]},
            )
        if self.start < available.start:
            raise Refused(
                422,
                f"`start` in query ('{start}') was before the available start of dataset {dataset} "
                f"('{told(available.start)}'). Try requesting with a later `start`.",
                "data_start_before_available_start",
                payload,
            )
        if self.start >= available.end:
            raise Refused(
                422,
                f"`start` in query ('{start}') was after the available end of dataset {dataset} "
                f"('{told(available.end)}'). Try requesting with an earlier `start`.",
                "data_start_after_available_end",
                payload,
            )
        if self.end > available.end:
            raise Refused(
                422,
                f"The dataset {dataset} has data available up to '{told(available.end)}'. The `end` in"
                f" the query ('{end}') is after the available range. Try requesting with an earlier"
                " `end`.",
                "data_end_after_available_end",
                payload,
            )
        if free and self.end > available.licensed:
            after = iso(available.licensed)[:19] + "Z"
            raise Refused(
                403,
                f"A live data license is required to access {dataset} data after {after}.",
                "license_not_found_unauthorized",
                {"dataset": dataset},
            )


def error_body(error: Refused) -> bytes:
    """Return the body of an error."""
    case, message, page = error.case, error.message, "/api-reference-historical/basics/datasets"
    if case is None and message is None and error.status in _WORDS:
        case, message, page = _WORDS[error.status]
    if case is None:
        return dumped({"detail": message or _TEXTS.get(error.status, f"HTTP {error.status}")})
    detail = {"case": case, "message": message, "status_code": error.status, "docs": DOCS + page}
    return dumped({"detail": detail | {"payload": dict(error.payload or {})}})


def error_answer(status: int) -> tuple[bytes, Headers]:
    """Return what Databento says with an error status."""
    headers = plain_headers() | ({"Retry-After": "1"} if status == 429 else {})
    lowered = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return error_body(Refused(status)), lowered


def plain_headers() -> dict[str, str]:
    """Return the headers of an answer that is JSON."""
    return {"Content-Type": "application/json", "request-id": uuid.uuid4().hex}


def dumped(answer: object) -> bytes:
    """Return an answer as the bytes sent."""
    return json.dumps(answer, separators=(",", ":")).encode()


def iso(ns: int) -> str:
    """Return a time as RFC 3339 with nanoseconds."""
    at = datetime.fromtimestamp(ns // NS, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{ns % NS:09d}Z"


def told(ns: int) -> str:
    """Return a time as Databento's sentences have it."""
    fraction = f".{ns % NS:09d}" if ns % NS else ""
    return f"{datetime.fromtimestamp(ns // NS, UTC):%Y-%m-%d %H:%M:%S}{fraction}+00:00"


def day_of(ns: int) -> date:
    """Return the UTC date of a time."""
    return datetime.fromtimestamp(ns // NS, UTC).date()


def dataset_of(form: Mapping[str, str], datasets: Mapping[str, Any]) -> str:
    """Return the dataset asked for."""
    dataset = form.get("dataset")
    if not dataset:
        raise Refused(422, "Missing required field: dataset")
    if dataset not in datasets:
        raise Refused(422, f"Invalid dataset: {dataset[:40]}")
    return dataset


def symbols_of(form: Mapping[str, str]) -> tuple[str, ...]:
    """Return the symbols asked for, none of them where all are."""
    text = form.get("symbols", ALL_SYMBOLS)
    symbols = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if len(symbols) > MOST_SYMBOLS:
        raise Refused(422, f"A request may have at most {MOST_SYMBOLS} symbols, had {len(symbols)}")
    return () if symbols == (ALL_SYMBOLS,) else symbols


def stypes_of(form: Mapping[str, str]) -> tuple[str, str]:
    """Return the kinds of symbol that come in and go out."""
    pair = form.get("stype_in", "raw_symbol"), form.get("stype_out", "instrument_id")
    for name, stype in zip(("stype_in", "stype_out"), pair, strict=True):
        if stype in _OTHER_STYPES:
            raise Refused(
                422,
                f"Could not resolve smart symbols: {form.get('symbols', '')[:100]}",
                "symbology_invalid_request",
            )
        if stype not in STYPES:
            raise Refused(422, f"Invalid {name}: {stype[:40]}")
    return pair


def instant(form: Mapping[str, str], name: str) -> int | None:
    """Return a time asked with in ns: ISO 8601, in UTC where no zone is said, or ns since the epoch."""
    text = form.get(name, "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit() and len(text) not in (4, 6, 8):
        ns = int(text[:30])
        if ns < LATEST.timestamp() * NS:
            return ns
        raise Refused(422, f"Invalid {name}: {text[:40]}")
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(422, f"Invalid {name}: {text[:40]}") from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    if not datetime(1970, 1, 2, tzinfo=UTC) <= at < LATEST:
        raise Refused(422, f"Invalid {name}: {text[:40]}")
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def forward_filled(text: str, start: int) -> int:
    """Return the end that goes without saying: a date is the whole day, 10:30 the whole minute."""
    return start + {8: DAY_NS, 10: DAY_NS, 13: 3_600 * NS, 16: 60 * NS}.get(len(text.strip()), NS)


def flag(form: Mapping[str, str], name: str) -> bool:
    """Return a yes or no that was asked with; no is usual."""
    text = form.get(name, "false").lower()
    if text not in {"true", "false", "1", "0"}:
        raise Refused(422, f"Invalid {name}: {text[:40]}")
    return text in {"true", "1"}


def choice(form: Mapping[str, str], name: str, known: tuple[str, ...]) -> str:
    """Return one of the words that may be asked with; the first is usual."""
    text = form.get(name) or known[0]
    if text not in known:
        raise Refused(422, f"Invalid {name}: {text[:40]}")
    return text
