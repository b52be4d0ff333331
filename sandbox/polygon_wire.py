"""The parts every answer of Polygon's has: who asks on which plan, errors, filters and pages."""

import base64
import json
import operator
import uuid
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request

from sandbox.gate import Headers

PRICING = "https://massive.com/pricing"
NOT_ENTITLED = f"You are not entitled to this data. Please upgrade your plan at {PRICING}"
TIMEFRAME = f"Your plan doesn't include this data timeframe. Please upgrade your plan at {PRICING}"
BEFORE_THE_END = (
    f"Attempted to request today's data before end of day. Please upgrade your plan at {PRICING}"
)
TOO_MANY = (
    "You've exceeded the maximum requests per minute, please wait or upgrade your subscription"
    f" to continue. {PRICING}"
)
NO_KEY, UNKNOWN_KEY = "API Key was not provided", "Unknown API Key"

_TOLD = {401: UNKNOWN_KEY, 429: TOO_MANY, 400: "The request could not be parsed"}
_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "": operator.eq,
    ".gte": operator.ge,
    ".gt": operator.gt,
    ".lte": operator.le,
    ".lt": operator.lt,
}


class Plan(StrEnum):
    """What a key has paid for: what it begins with says it, and anything else is the full plan."""

    FREE = "free"  # no snapshots, nothing of today, two years
    STARTER = "starter"  # 15 minutes late, without trades and quotes, five years
    FULL = "paid"


class Refused(Exception):
    """A request is answered with one of Polygon's errors."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text)
        self.status, self.text = status, text


def plan_of(request: Request) -> Plan:
    """Return the plan of the key in the header or the query; any key but an empty one is good."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    key = key.strip() if scheme.lower() == "bearer" else ""
    key = key or request.query_params.get("apiKey", "").strip()
    if not key:
        raise Refused(401, NO_KEY)
    return next((plan for plan in Plan if key.lower().startswith(plan.value)), Plan.FULL)


def error_answer(status: int) -> tuple[bytes, Headers]:
    """Return what Polygon says with an error status."""
    if status == 403:
        body = error_body(403, NOT_ENTITLED)
    elif status == 404:
        body = error_body(404, "Ticker not found.")
    else:
        body = error_body(status, _TOLD.get(status, "An internal error occurred"))
    return body, [(b"content-type", b"application/json")]


def error_body(status: int, text: str) -> bytes:
    """Return the body of an error: its text is in `message` with 403 and 404, else in `error`."""
    said = {403: "NOT_AUTHORIZED", 404: "NOT_FOUND"}.get(status, "ERROR")
    place = "error" if said == "ERROR" else "message"
    return dumped({"status": said, "request_id": request_id(), place: text})


def request_id() -> str:
    """Return what every answer carries."""
    return uuid.uuid4().hex


def dumped(answer: object) -> bytes:
    """Return an answer as the bytes sent."""
    return json.dumps(answer, separators=(",", ":")).encode()


def query_of(request: Request) -> dict[str, str]:
    """Return the parameters without the key; a cursor holds those of the page before."""
    given = dict(request.query_params)
    given.pop("apiKey", None)
    if cursor := given.get("cursor"):
        try:
            padded = cursor + "=" * (-len(cursor) % 4)
            text = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
            return dict(parse_qsl(text, strict_parsing=True))
        except ValueError:
            raise Refused(400, "The cursor is not valid") from None
    return given


def next_url(request: Request, path: str, query: Mapping[str, str]) -> str:
    """Return the address of another page: absolute, with a port where there is one, without the key."""
    cursor = base64.urlsafe_b64encode(urlencode(query).encode()).decode().rstrip("=")
    return f"{request.url.scheme}://{request.url.netloc}/polygon{path}?cursor={cursor}"


def whole(query: Mapping[str, str], name: str, usual: int, most: int) -> int:
    """Return a number from 1 on that was asked with, or the usual one."""
    text = query.get(name, str(usual))
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= most:
        raise Refused(400, f"The parameter '{name}' must be a number from 1 to {most}")
    return int(text)


class Asked:
    """The parameters of one question for rows."""

    def __init__(self, request: Request, usual: int, most: int) -> None:
        self._request, self.given = request, query_of(request)
        self.offset = whole({"ap": self.given.pop("ap", "1")}, "ap", 1, 10**9) - 1
        self.limit = whole(self.given, "limit", usual, most)
        self.order = self.given.get("order")
        if self.order not in {None, "asc", "desc"}:
            raise Refused(400, "The parameter 'order' must be one of: asc, desc")

    def get(self, name: str) -> str | None:
        """Return a parameter; an empty one is none."""
        return self.given.get(name) or None

    def wants(self, name: str, value: Any, read: Callable[[str], Any] = str) -> bool:
        """Say whether a value passes the filters of that name: plain, .gte, .gt, .lte and .lt."""
        return all(passes(value) for passes in self.filters(name, read))

    def filters(self, name: str, read: Callable[[str], Any] = str) -> list[Callable[[Any], Any]]:
        """Return the filters of that name, each of a value (or of a column of them)."""
        found = []
        for suffix, compare in _COMPARED.items():
            if text := self.get(name + suffix):
                try:
                    bound = read(text)
                except ValueError:
                    raise Refused(400, f"The parameter '{name}{suffix}' is invalid") from None
                found.append(_filter(compare, bound))
        return found

    def page(self, rows: list[Any], **fixed: str) -> tuple[list[Any], dict[str, str]]:
        """Return this page's part of all rows, and the `next_url` where there are more."""
        end = self.offset + self.limit
        return rows[self.offset : end], self.following(more=len(rows) > end, **fixed)

    def following(self, *, more: bool, **fixed: str) -> dict[str, str]:
        """Return the `next_url` of the next page."""
        if not more:
            return {}
        # The official client puts the path of a `next_url` behind its base, which has /polygon already.
        path = self._request.url.path.removeprefix("/polygon").removeprefix("/polygon")
        asked = {**self.given, **fixed, "ap": str(self.offset + self.limit + 1)}
        return {"next_url": next_url(self._request, path, asked)}


def _filter(compare: Callable[[Any, Any], Any], bound: Any) -> Callable[[Any], Any]:
    return lambda value: compare(value, bound)


def split(text: str) -> list[str]:
    """Return the parts of a list with commas, each once."""
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def listed(rows: Iterable[Any], more: Mapping[str, str], **told: Any) -> bytes:
    """Return an answer with rows."""
    answer = {"results": list(rows), "status": "OK", "request_id": request_id()}
    return dumped(answer | told | dict(more))
