"""The parts every answer of Alpaca's has: its times, its errors, its headers, and how it reads a question."""

import base64
import binascii
import json
import re
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, time

from starlette.requests import Request

from sandbox.clock import Clock
from sandbox.days import NEW_YORK
from sandbox.gate import Headers
from sandbox.listing import key

MINUTE_MS = 60_000
DELAY_MS = 15 * MINUTE_MS  # how late the free plan has the consolidated tape
FREE, PAID = 200, 10_000  # requests a minute
PAID_KEY = "paid"  # a key that starts so is of the paid plan, every other one of the free plan
COUNTED_KEYS = 1_000

_SYMBOL = re.compile(r"[A-Z]+(\.[A-Z]+)?")  # a digit or a dash makes a symbol invalid, not unknown

_WORDS = {
    401: "unauthorized.",
    403: "forbidden.",
    404: "endpoint not found.",
    429: "too many requests.",
    500: "internal server error occurred",
}


class Refused(Exception):
    """A request is answered with one of Alpaca's errors; the trading host has codes."""

    def __init__(self, status: int, message: str | None = None, code: int | None = None) -> None:
        super().__init__(status, message, code)
        self.status, self.message, self.code = status, message, code


class Minutes:
    """How many requests each key has sent in this minute, which the answers tell."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._minute = 0
        self._spent: Counter[str] = Counter()

    def asked(self, who: str) -> None:
        """Count a request."""
        minute = self._clock.ms() // MINUTE_MS
        if minute != self._minute or len(self._spent) > COUNTED_KEYS:
            self._minute, self._spent = minute, Counter()
        self._spent[who] += 1

    def headers(self, who: str) -> dict[str, str]:
        """Return what is left, and when (unix s) there will be more."""
        most = PAID if who.startswith(PAID_KEY) else FREE
        return {
            "X-RateLimit-Limit": str(most),
            "X-RateLimit-Remaining": str(max(most - self._spent[who], 0)),
            "X-RateLimit-Reset": str(self.reset),
        }

    @property
    def reset(self) -> int:
        """Return the unix second at which the next minute begins."""
        return (self._clock.ms() // MINUTE_MS + 1) * 60


def error_body(status: int, message: str | None = None, code: int | None = None) -> bytes:
    """Return the body of an error."""
    words = message or _WORDS.get(status, f"HTTP {status}")
    return dumped(({} if code is None else {"code": code}) | {"message": words})


def plain_headers() -> dict[str, str]:
    """Return the headers every answer has."""
    return {"Content-Type": "application/json; charset=UTF-8", "X-Request-ID": uuid.uuid4().hex}


def lowered(headers: dict[str, str]) -> Headers:
    """Return headers as the gate sends them."""
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


def dumped(answer: object) -> bytes:
    """Return an answer as the bytes sent."""
    return json.dumps(answer, separators=(",", ":")).encode()


def instant(ms: int, *words: object) -> str:
    """Return a time in RFC 3339, with nanoseconds that depend on the words; whole ones without."""
    nanos = ms % 1000 * 1_000_000 + (key(ms, *words) % 1_000_000 if words else 0)
    text = datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{nanos:09d}".rstrip("0").rstrip(".") + "Z"


def listed(request: Request, name: str = "symbols") -> list[str]:
    """Return the symbols asked for; one that cannot be one spoils the whole request."""
    text = request.query_params.get(name, "")
    asked = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not asked:
        raise Refused(400, f"{name} is required")
    for symbol in asked:
        good(symbol)
    return asked


def good(symbol: str) -> str:
    """Return a symbol that can be one, or refuse it in the words clients look for."""
    if not _SYMBOL.fullmatch(symbol):
        raise Refused(400, f"code=400, message=invalid symbol: {symbol}")
    return symbol


def whole(request: Request, name: str, usual: int, most: int) -> int:
    """Return a number from 1 to `most` that was asked with, or the usual one."""
    text = request.query_params.get(name)
    if not text:
        return usual
    if not re.fullmatch(r"\d{1,9}", text) or not 1 <= int(text) <= most:
        raise Refused(400, f"invalid {name}: must be between 1 and {most}")
    return int(text)


def moment(request: Request, name: str) -> int | None:
    """Return a time asked with in ms: RFC 3339, or a date, which begins in New York."""
    text = request.query_params.get(name)
    if not text:
        return None
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            at = datetime.combine(date.fromisoformat(text), time(), NEW_YORK)
        else:
            at = datetime.fromisoformat(text.replace(" ", "+"))
            at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return int(at.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise Refused(400, f"Invalid format for parameter {name}: {text}") from None


def day(request: Request, name: str) -> date | None:
    """Return a date asked with; what comes behind it is not looked at."""
    text = request.query_params.get(name)
    if not text:
        return None
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        raise Refused(422, f"{name} is in an invalid format: {text}", 42210000) from None


def choice(request: Request, name: str, known: tuple[str, ...], usual: str) -> str:
    """Return one of the words that may be asked with."""
    text = request.query_params.get(name) or usual
    if text not in known:
        raise Refused(400, f"invalid {name}: {text}")
    return text


def token_of(*parts: object) -> str:
    """Return a page token: the parts, in base64."""
    return base64.b64encode("|".join(map(str, parts)).encode()).decode()


def page(request: Request, read: Callable[[list[str]], tuple[object, ...]]) -> list[str] | None:
    """Return the parts of the page token asked with; `read` fails on wrong ones."""
    text = request.query_params.get("page_token")
    if not text:
        return None
    try:
        # A plus sign that nobody escaped comes as a space.
        parts = base64.b64decode(text.replace(" ", "+"), validate=True).decode().split("|")
        read(parts)
    except (binascii.Error, UnicodeDecodeError, ValueError, IndexError, OverflowError):
        raise Refused(400, "invalid page_token") from None
    return parts
