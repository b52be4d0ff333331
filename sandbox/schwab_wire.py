"""The parts every answer of Schwab's has: how it spells a symbol, its headers, its errors."""

import json
import uuid
from typing import Any

from starlette.requests import Request

from sandbox.gate import Headers
from sandbox.listing import Listing, key

LATEST_MS = 4_102_444_800_000  # 2100: later than any bar
CENTRAL_MS = 3_600_000  # midnight in Chicago is an hour after midnight in New York

TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


class Refused(Exception):
    """A request is answered with one of Schwab's errors."""

    def __init__(
        self, status: int, detail: str | None = None, parameter: str | None = None
    ) -> None:
        super().__init__(status, detail, parameter)
        self.status, self.detail, self.parameter = status, detail, parameter


def error_answer(status: int) -> tuple[bytes, Headers]:
    """Return what Schwab says with an error status."""
    told = [(name.lower().encode(), value.encode()) for name, value in headers().items()]
    return error_body(status), told


def error_body(status: int, detail: str | None = None, parameter: str | None = None) -> bytes:
    """Return the body of an error."""
    if status == 502:
        fault = {"faultstring": "Body buffer overflow"}
        return dumped({"fault": fault | {"detail": {"errorcode": "protocol.http.TooBigBody"}}})
    # Schwab's own examples have the status as text here and as a number there.
    told: Any = str(status) if status in {400, 404} else status
    error: dict[str, Any] = {"id": str(uuid.uuid4()), "status": told}
    error["title"] = TITLES.get(status, "Error")
    if detail:
        error["detail"] = detail
    if parameter:
        error["source"] = {"parameter": [parameter]}
    return dumped({"errors": [error]})


def headers() -> dict[str, str]:
    """Return the headers of an answer with market data."""
    return {
        "Content-Type": "application/json;charset=UTF-8",
        "Schwab-Client-Correlid": str(uuid.uuid4()),
        "Schwab-Resource-Version": "1",
        "Cache-Control": "no-store",
    }


def dumped(answer: object) -> bytes:
    """Return an answer as the bytes sent."""
    return json.dumps(answer, separators=(",", ":")).encode()


def spelled(symbol: str) -> str:
    """Return a symbol as Schwab spells it: class shares have a slash."""
    return symbol.replace(".", "/")


def cusip(listing: Listing) -> str:
    """Return nine characters that look like a CUSIP and belong to nobody."""
    return f"{key(listing.symbol, 'cusip') % 10**8:08d}{key(listing.symbol, 'check') % 10}"


def described(listing: Listing) -> str:
    """Return a name as Schwab shouts it."""
    return listing.name.upper()


def whole(request: Request, name: str, usual: int | None) -> int | None:
    """Return a whole number that was asked with, or the usual one."""
    text = request.query_params.get(name)
    if text is None:
        return usual
    try:
        value = int(text)
    except ValueError:
        raise Refused(400, f"Invalid {name}: not a whole number", name) from None
    if not 0 <= value <= LATEST_MS:
        raise Refused(400, f"Invalid {name}", name)
    return value


def flag(request: Request, name: str, *, usual: bool) -> bool:
    """Return a yes or no that was asked with, or the usual one."""
    text = request.query_params.get(name)
    if text is None:
        return usual
    if text.lower() not in {"true", "false"}:
        raise Refused(400, f"Invalid {name}: neither true nor false", name)
    return text.lower() == "true"
