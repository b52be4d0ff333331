"""Schwab's OAuth: a login that agrees at once, and tokens that end when Schwab's do."""

import base64
import binascii
import hmac
import json
import uuid
from collections import deque
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from sandbox.clock import Clock
from sandbox.schwab_wire import dumped

ACCESS_SECONDS, REFRESH_DAYS, CODE_SECONDS = 1800, 7, 30


class Tokens:
    """Tokens that carry their own end and a seal, so that none has to be kept."""

    def __init__(self, seed: int, clock: Clock) -> None:
        self._key = f"sandbox-{seed}".encode()
        self._clock = clock

    def mint(self, kind: str, seconds: float, about: str = "") -> str:
        """Return a token of a kind that is good for so many seconds, and for one thing only."""
        ends = int(self._clock.ms() + seconds * 1000)
        text = f"{kind}.{ends}.{uuid.uuid4().hex[:12]}"
        sealed = base64.urlsafe_b64encode(f"{text}.{self._seal(text + about)}".encode()).decode()
        return f"{kind}.{sealed.rstrip('=')}@"

    def good(self, kind: str, token: str, about: str = "") -> bool:
        """Say whether a token was minted here for this and has not ended."""
        opened = self._opened(token, about)
        return opened is not None and opened[0] == kind and self._clock.ms() < opened[1]

    def dead_refresh(self, token: str) -> bool:
        """Say whether a refresh token is past its days; one not minted here has no end."""
        if not token or token.startswith("expired"):
            return True
        opened = self._opened(token)
        return opened is not None and opened[1] <= self._clock.ms()

    def _opened(self, token: str, about: str = "") -> tuple[str, int] | None:
        _, _, sealed = token.removesuffix("@").partition(".")
        try:
            text, _, seal = (
                base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4)).decode().rpartition(".")
            )
            kind, ends, _ = text.split(".")
        except (binascii.Error, ValueError):
            return None
        return (kind, int(ends)) if hmac.compare_digest(seal, self._seal(text + about)) else None

    def _seal(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), "sha256").hexdigest()[:16]


class OAuth:
    """The two endpoints; any client is good, and so is any refresh token that is not dead."""

    def __init__(self, tokens: Tokens, clock: Clock) -> None:
        self._tokens, self._clock = tokens, clock
        self._used: deque[str] = deque(maxlen=256)  # codes are good once

    async def authorize(self, request: Request) -> Response:
        """Send the browser back with a code, as if the person had agreed."""
        asked = request.query_params
        target = urlsplit(asked.get("redirect_uri", ""))
        if not asked.get("client_id") or not target.scheme or not target.netloc:
            return _refused(400, "invalid_request", "client_id and redirect_uri are needed")
        code = self._tokens.mint("C0", CODE_SECONDS, asked["redirect_uri"])
        answer = parse_qsl(target.query)
        answer += [("code", code), ("session", str(uuid.uuid4()))]
        if "state" in asked:
            answer.append(("state", asked["state"]))
        return RedirectResponse(urlunsplit(target._replace(query=urlencode(answer))), 302)

    async def token(self, request: Request) -> Response:
        """Exchange a code or a refresh token for an access token."""
        if not _client_named(request.headers.get("authorization", "")):
            return _refused(401, "invalid_client", "Unauthorized")
        form = dict(parse_qsl((await request.body()).decode(errors="replace")))
        match form.get("grant_type"):
            case "authorization_code":
                code, callback = form.get("code", ""), form.get("redirect_uri", "")
                if code in self._used or not self._tokens.good("C0", code, callback):
                    why = "Code is not valid, has expired or was used"
                    return _refused(400, "invalid_grant", why)
                self._used.append(code)
                refresh = self._tokens.mint("R0", REFRESH_DAYS * 86400)
            case "refresh_token":
                refresh = form.get("refresh_token", "")
                if self._tokens.dead_refresh(refresh):
                    return _dead_refresh(refresh)
            case _:
                return _refused(400, "unsupported_grant_type", "grant_type is not supported")
        answer = {
            "expires_in": ACCESS_SECONDS,
            "token_type": "Bearer",
            "scope": "api",
            "refresh_token": refresh,
            "access_token": self._tokens.mint("I0", ACCESS_SECONDS),
            "id_token": _id_token(self._clock),
        }
        headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
        return Response(dumped(answer), headers=headers)


def _client_named(header: str) -> bool:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        client, _, _ = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return False
    return bool(client)


def _refused(status: int, error: str, description: str) -> Response:
    body = dumped({"error": error, "error_description": description})
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    return Response(body, status, headers=headers)


def _dead_refresh(token: str) -> Response:
    digest = base64.b64encode(hmac.new(b"sandbox", token.encode(), "sha256").digest()).decode()
    inner = json.dumps(
        {
            "error_description": (
                f"Exception while authenticating refresh token [tokenDigest={digest}, "
                f"Exception=Failed refresh token authentication [tokenDigest={digest}]]"
            ),
            "error": "refresh_token_authentication_error",
        },
        separators=(",", ":"),
    )
    return _refused(400, "unsupported_token_type", f'400 Bad Request: "{inner}"')


def _id_token(clock: Clock) -> str:
    now = clock.ms() // 1000
    parts = ({"alg": "none"}, {"iss": "sandbox", "iat": now, "exp": now + ACCESS_SECONDS})
    encoded = (base64.urlsafe_b64encode(dumped(p)).decode().rstrip("=") for p in parts)
    return ".".join((*encoded, ""))
