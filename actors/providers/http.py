"""One vendor's line: a single long-lived HTTP client, from which nothing but a `ProviderError` escapes."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
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
from actors.providers.limits import Ledger, Limiter
from actors.providers.values import plain

LARGEST = 10_000_000  # bytes of one answer; vendors' gateways give up at the same size
ATTEMPT = 10.0  # seconds for one request, so that a hanging vendor leaves time for another try
LONGEST_RETRY_AFTER = 900.0
EPOCH_SECONDS = 1e9  # a number of seconds above this is a moment, not a span
LONGEST_TEXT = 2000  # bytes of an answer that may be a sentence
LONGEST_WARNING = 500  # characters of a vendor's warning that are logged
SHORTEST_SECRET = 6  # hiding a shorter one would blot out half of every message

log = logging.getLogger("volaris.provider_pool")

_GONE_WRONG = (httpx.HTTPError, httpx.InvalidURL, OSError)

Refusal = Callable[[int, Any], ProviderError | None]
"""A vendor's own reading of an answer that is not 2xx: (status, body or None) -> error or None.

As `amiss` it reads a 2xx one, for vendors that refuse with 200: its JSON, or its text where it is none.
"""


def _utcnow() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Tools:
    """What an adapter is given: where logins and spend are kept, the clocks, in tests another transport."""

    tokens: TokenStore
    vault: Callable[[], Seal]  # made on first use, because a vault costs an import of cryptography
    transport: httpx.AsyncBaseTransport | None = None
    ledger: Ledger | None = None  # None = what is spent is forgotten at the end
    now: Callable[[], datetime] = _utcnow
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def limiter(self, vendor: str, limits: str) -> Limiter:
        """Return a limiter that keeps `limits`, such as "120/min"."""
        return Limiter(
            vendor, limits, ledger=self.ledger, now=self.now, clock=self.clock, sleep=self.sleep
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, read to its end; `body` is None where it is larger than `LARGEST`."""

    status: int
    headers: Mapping[str, str]
    body: bytes | None
    size: int  # bytes that were read


class Wire:
    """Sends one vendor's requests: paced by its limiter, bounded in time and size, mapped to our errors."""

    def __init__(self, vendor: str, base_url: str, limiter: Limiter, tools: Tools) -> None:
        self.vendor, self._limiter = vendor, limiter
        self._clock, self._now = tools.clock, tools.now
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
        text: bool = False,
    ) -> Any:
        """Return the JSON of a 2xx answer, or with `text` its text; anything else is a `ProviderError`.

        `deadline` is a moment of the clock; `metered=False` is for requests outside the vendor's limit.
        """
        if deadline <= self._clock():
            raise Unavailable(self.vendor, "there was no time left to ask")
        if not metered:
            reply = await self._send(method, path, deadline, params, headers, form)
            return self._judge(reply, refusal, amiss, text=text)
        await self._limiter.slot(deadline)
        size, began = None, self._clock()
        try:
            reply = await self._send(method, path, deadline, params, headers, form)
            size = reply.size
            self._limiter.gauge.took(self._clock() - began)
        finally:
            self._limiter.settle(size)
        try:
            answer = self._judge(reply, refusal, amiss, text=text)
        except RateLimited as e:
            raise RateLimited(e.vendor, e.why, self._limiter.pause(e.retry_after)) from None
        except ProviderError:
            self._limiter.heard(*self._left(reply.headers))
            raise
        self._limiter.heard(*self._left(reply.headers))
        return answer

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def _send(
        self,
        method: str,
        path: str,
        deadline: float,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        form: Mapping[str, str] | None,
    ) -> Reply:
        fault: ProviderError
        seconds = min(deadline - self._clock(), ATTEMPT)
        try:
            async with (
                asyncio.timeout(seconds),
                self._client.stream(
                    method, path, params=params, headers=headers, data=form
                ) as response,
            ):
                self._heed(response.headers)
                size, body = await _read(response)
                return Reply(response.status_code, response.headers, body, size)
        except (TimeoutError, httpx.TimeoutException):
            fault = Unavailable(self.vendor, f"did not answer within {seconds:.3g} s")
        except httpx.DecodingError:
            fault = Malformed(self.vendor, "answered with a body that does not decompress")
        except _GONE_WRONG as e:
            fault = Unavailable(self.vendor, f"the connection failed ({type(e).__name__})")
        # Raised out here, so that httpx's exception, which holds the request, is not its context.
        raise fault

    def _heed(self, headers: Mapping[str, str]) -> None:
        """Log what a vendor warns of beside an answer."""
        if warning := headers.get("x-warning"):
            words = self._blot(warning.encode()).decode(errors="replace")
            log.warning("%s warns: %s", self.vendor, plain(words, LONGEST_WARNING))

    def _judge(
        self,
        reply: Reply,
        refusal: Refusal | None = None,
        amiss: Refusal | None = None,
        *,
        text: bool = False,
    ) -> Any:
        """Return the JSON (or text) of a good answer, or raise what a bad one means."""
        vendor, status, body = self.vendor, reply.status, reply.body
        if body is None:
            raise Malformed(vendor, f"the answer is larger than {LARGEST / 1e6:g} MB")
        good = httpx.codes.is_success(status)
        if good and text:
            return body.decode(errors="replace")
        is_json, content = _decode(body if good else self._blot(body))
        if good and amiss and (error := amiss(status, content if is_json else _text(body))):
            raise error
        if good and is_json:
            return content
        if good:
            raise Malformed(vendor, f"answered {status} with {_looks_like(body)}, not JSON")
        if error := refusal and refusal(status, content):
            if isinstance(error, Unsupported):
                error.by_plan = status in (402, 403)
            if isinstance(error, Unavailable) and error.retry_after is None:
                error.retry_after = self._retry_after(reply.headers)
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
                return RateLimited(vendor, "too many requests (429)", self._retry_after(headers))
            case 404:
                return Unsupported(vendor, "there is no such thing (404)")
            case 408 | 425:
                return Unavailable(vendor, f"answered {status}", self._retry_after(headers))
            case _ if httpx.codes.is_client_error(status):
                return Unsupported(vendor, f"refused the request ({status})")
            case _:
                return Unavailable(vendor, f"answered {status}", self._retry_after(headers))

    def _retry_after(self, headers: Mapping[str, str]) -> float | None:
        """Return the seconds of a Retry-After header, whichever of its forms it has."""
        text = headers.get("retry-after", "")
        if (seconds := _whole(text)) is not None:
            return min(float(seconds), LONGEST_RETRY_AFTER)
        try:
            at = parsedate_to_datetime(text)
            wait = (at - self._now()).total_seconds()
        except (ValueError, TypeError):  # no date, or one without a zone
            return None
        return min(max(wait, 0.0), LONGEST_RETRY_AFTER)

    def _left(self, headers: Mapping[str, str]) -> tuple[int | None, float | None]:
        """Return (requests left, seconds until there are more), as X-RateLimit-* tells them."""
        remaining = _whole(headers.get("x-ratelimit-remaining", ""))
        resets = _whole(headers.get("x-ratelimit-reset", ""))
        if resets is not None and resets > EPOCH_SECONDS:
            return remaining, resets - self._now().timestamp()
        return remaining, resets

    def _blot(self, body: bytes) -> bytes:
        for secret in self._secrets.values():
            if len(secret) >= SHORTEST_SECRET:
                body = body.replace(secret, b"***")
        return body


async def _read(response: httpx.Response) -> tuple[int, bytes | None]:
    """Return the size so far and the body, None as soon as it is too large to be one."""
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > LARGEST:
            return size, None
        parts.append(part)
    return size, b"".join(parts)


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


def _whole(text: str) -> int | None:
    text = text.strip().removeprefix("-")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None
