"""One vendor's line: a single long-lived HTTP client, from which nothing but a `ProviderError` escapes."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from actors.providers.base import (
    Denied,
    Malformed,
    ProviderError,
    RateLimited,
    Seal,
    TokenStore,
    Unavailable,
    Unsupported,
)
from actors.providers.limits import Limiter

LARGEST = 10_000_000  # bytes of one answer; vendors' gateways give up at the same size
ATTEMPT = 10.0  # seconds for one request, so that a hanging vendor leaves time for another try
PAUSE_AFTER_429 = 60.0  # seconds, where the vendor does not say
LONGEST_RETRY_AFTER = 900.0
LONGEST_TEXT = 2000  # bytes of an answer that may be a sentence
SHORTEST_SECRET = 6  # hiding a shorter one would blot out half of every message

_GONE_WRONG = (httpx.HTTPError, httpx.InvalidURL, OSError)

Refusal = Callable[[int, Any], ProviderError | None]
"""A vendor's own reading of an answer that is not 2xx: (status, body or None) -> error or None.

As `amiss` it reads a 2xx one, for vendors that refuse with 200: its JSON, or its text where it is none.
"""


def _utcnow() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Tools:
    """What an adapter is given: where logins are kept, the clocks, and in tests another transport."""

    tokens: TokenStore
    vault: Callable[[], Seal]  # made on first use, because a vault costs an import of cryptography
    transport: httpx.AsyncBaseTransport | None = None
    now: Callable[[], datetime] = _utcnow
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def limiter(self, vendor: str, limits: str) -> Limiter:
        """Return a limiter that keeps `limits`, such as "120/min"."""
        return Limiter(vendor, limits, clock=self.clock, sleep=self.sleep)


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, read to its end; `body` is None where it is larger than `LARGEST`."""

    status: int
    headers: Mapping[str, str]
    body: bytes | None


class Wire:
    """Sends one vendor's requests: paced by its limiter, bounded in time and size, mapped to our errors."""

    def __init__(self, vendor: str, base_url: str, limiter: Limiter, tools: Tools) -> None:
        self.vendor, self._limiter, self._clock = vendor, limiter, tools.clock
        self._secrets: dict[str, bytes] = {}
        self._client = httpx.AsyncClient(
            base_url=base_url,
            transport=tools.transport,
            timeout=httpx.Timeout(ATTEMPT, connect=5.0),
            limits=httpx.Limits(max_connections=16, max_keepalive_connections=4),
            headers={"Accept": "application/json"},
            # A proxy meant for the world must not be asked for the sandbox.
            trust_env=base_url.startswith("https://"),
        )

    def hide(self, **secrets: str) -> None:
        """Never let these be read in what the vendor says in an error; a name's newest value counts."""
        self._secrets.update((name, secret.encode()) for name, secret in secrets.items())

    async def request(
        self,
        method: str,
        path: str,
        *,
        deadline: float,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        refusal: Refusal | None = None,
        amiss: Refusal | None = None,
        metered: bool = True,
    ) -> Any:
        """Return the JSON of a 2xx answer; anything else is a `ProviderError`.

        `deadline` is a moment of the clock; `metered=False` is for requests outside the vendor's limit.
        """
        if deadline <= self._clock():
            raise Unavailable(self.vendor, "there was no time left to ask")
        if metered:
            await self._limiter.slot(deadline)
        seconds = min(deadline - self._clock(), ATTEMPT)
        reply = await self._send(seconds, method, path, params=params, headers=headers, data=form)
        try:
            return self._judge(reply, refusal, amiss)
        except RateLimited as e:
            if metered:
                self._limiter.pause(PAUSE_AFTER_429 if e.retry_after is None else e.retry_after)
            raise

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def _send(self, seconds: float, method: str, path: str, **parts: Any) -> Reply:
        fault: ProviderError
        try:
            async with (
                asyncio.timeout(seconds),
                self._client.stream(method, path, **parts) as response,
            ):
                return Reply(response.status_code, response.headers, await _read(response))
        except (TimeoutError, httpx.TimeoutException):
            fault = Unavailable(self.vendor, f"did not answer within {seconds:.3g} s")
        except httpx.DecodingError:
            fault = Malformed(self.vendor, "answered with a body that does not decompress")
        except _GONE_WRONG as e:
            fault = Unavailable(self.vendor, f"the connection failed ({type(e).__name__})")
        # Raised out here, so that httpx's exception, which holds the request, is not its context.
        raise fault

    def _judge(
        self, reply: Reply, refusal: Refusal | None = None, amiss: Refusal | None = None
    ) -> Any:
        """Return the JSON of a good answer, or raise what a bad one means."""
        vendor, status, body = self.vendor, reply.status, reply.body
        if body is None:
            raise Malformed(vendor, f"the answer is larger than {LARGEST / 1e6:g} MB")
        good = httpx.codes.is_success(status)
        is_json, content = _decode(body if good else self._blot(body))
        if good and amiss and (error := amiss(status, content if is_json else _text(body))):
            raise error
        if good and is_json:
            return content
        if good:
            raise Malformed(vendor, f"answered {status} with {_looks_like(body)}, not JSON")
        if error := refusal and refusal(status, content):
            raise error
        raise self._refused(reply, is_json)

    def _refused(self, reply: Reply, is_json: bool) -> ProviderError:  # noqa: FBT001
        vendor, status, headers = self.vendor, reply.status, reply.headers
        match status:
            case 401:
                return Denied(vendor, "the credential was refused (401)")
            case 403 if is_json:
                return Denied(vendor, "the credential may not do that (403)")
            case 403:
                return Unavailable(vendor, "the gateway in front of it refused us (403, not JSON)")
            case 429:
                after = _retry_after(headers)
                after = PAUSE_AFTER_429 if after is None else after
                return RateLimited(vendor, "too many requests (429)", after)
            case 404:
                return Unsupported(vendor, "there is no such thing (404)")
            case 408 | 425:
                return Unavailable(vendor, f"answered {status}", _retry_after(headers))
            case _ if httpx.codes.is_client_error(status):
                return Unsupported(vendor, f"refused the request ({status})")
            case _:
                return Unavailable(vendor, f"answered {status}", _retry_after(headers))

    def _blot(self, body: bytes) -> bytes:
        for secret in self._secrets.values():
            if len(secret) >= SHORTEST_SECRET:
                body = body.replace(secret, b"***")
        return body


async def _read(response: httpx.Response) -> bytes | None:
    """Return the body, or None as soon as it is too large to be one."""
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > LARGEST:
            return None
        parts.append(part)
    return b"".join(parts)


def _decode(body: bytes) -> tuple[bool, Any]:
    try:
        return True, json.loads(body)
    except (ValueError, RecursionError):
        return False, None


def _text(body: bytes) -> str:
    return body[:LONGEST_TEXT].decode(errors="replace")


def _looks_like(body: bytes) -> str:
    if not body.strip():
        return "an empty body"
    return "a web page" if body.lstrip()[:1] == b"<" else "text"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of a Retry-After header; its other form, a date, is left to our own pauses."""
    text = headers.get("retry-after", "").strip()
    return min(float(text), LONGEST_RETRY_AFTER) if text.isascii() and text.isdigit() else None
