"""Schwab's OAuth: one login of a person, and the access tokens it is good for.

An access token lives 30 minutes and is renewed before its end; a login lives 7 days, however often it
is used.  The login survives a restart, sealed, in the token store.

Vendor reference: none is public; schwab-py 1.5 and Schwabdev 4.0 agree on what is here.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from actors.providers.base import (
    Denied,
    LoginNeeded,
    Malformed,
    ProviderError,
    StoreAway,
    Unavailable,
    Unsealable,
    Unsupported,
)
from actors.providers.http import Tools, Wire

VENDOR = "schwab"
TOKEN_PATH = "/v1/oauth/token"  # noqa: S105  (a path)
AUTHORIZE_PATH = "/v1/oauth/authorize"
REMEDY = "run `volaris login schwab`"
STATE_LIVES = 900.0  # seconds a person may take to log in

LOGIN_LIVES = timedelta(days=7)
ACCESS_LIVES = 1800.0  # seconds, where the answer does not say
RENEW_EARLY, RENEW_NOW = timedelta(seconds=120), timedelta(seconds=60)  # before the end
RENEW_WITHIN = 15.0  # seconds for the token host, whoever is waiting
PAUSE_AFTER_FAULT = 5.0  # seconds the token host is left alone after it failed
FIRST_PAUSE = 15.0  # seconds after the keys were refused once; it doubles with each time
PAUSE_AFTER_REFUSAL = 600.0  # and after it refused the login: only a person can change that
LOOK_EVERY = 10.0  # seconds between looks into the store while a person is waited for
REFUSED_TWICE = (
    60.0  # a token that replaced a refused one and is refused so soon: it is not the token
)
SAVE_PAUSES = (1, 2, 5, 10, 30, 60, 120, 300, 600)  # seconds; then the login is not stored
QUICK = 2.0  # seconds anybody waits for the store
LAST_PATIENCE = 2.0  # seconds for what is in hand when we are told to stop
STORE_PAUSE = 5.0  # seconds the store is left alone after it was away

_LONG_AGO = datetime.min.replace(tzinfo=UTC)

log = logging.getLogger("volaris.provider_pool")


@dataclass(frozen=True, slots=True)
class Account:
    """Who we are to Schwab, and the login a person pasted into the environment."""

    app_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    redirect_uri: str
    refresh_token: str | None = field(repr=False)
    base_url: str

    @property
    def issuer(self) -> str:
        """Return what a stored login must have been made for: this app at this host."""
        return _digest(f"{self.base_url} {self.app_key}")

    @property
    def seed(self) -> str | None:
        """Return the fingerprint of the environment's refresh token."""
        return _digest(self.refresh_token) if self.refresh_token else None


@dataclass(frozen=True, slots=True)
class Login:
    """One login of a person and what it has brought so far."""

    refresh_token: str = field(repr=False)
    since: datetime  # the 7 days count from here
    issuer: str
    seed: str | None  # of the environment's token when the login began
    access_token: str | None = field(default=None, repr=False)
    access_until: datetime = _LONG_AGO
    guessed: bool = field(default=False, compare=False)  # `since` is when we first saw the token


# --- pure: what to send, and what an answer means ----------------------------------------------------


def build_headers(account: Account) -> dict[str, str]:
    """Return the headers of a token request: the client is confidential, there is no PKCE."""
    pair = f"{account.app_key}:{account.secret_key}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def build_refresh(refresh_token: str) -> dict[str, str]:
    """Return the form that trades a refresh token for an access token."""
    return {"grant_type": "refresh_token", "refresh_token": refresh_token}


def build_exchange(code: str, redirect_uri: str) -> dict[str, str]:
    """Return the form that trades a code for a login; a code still URL-encoded is decoded (…%40)."""
    code = unquote(code.strip())
    return {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}


def build_authorize(account: Account, now: datetime) -> str:
    """Return the address at which a person logs in; what comes back carries our signed `state`."""
    query = {
        "response_type": "code",
        "client_id": account.app_key,
        "redirect_uri": account.redirect_uri,
        "state": _signed(account, int(now.timestamp())),
    }
    return f"{account.base_url}{AUTHORIZE_PATH}?{urlencode(query)}"


def read_redirect(account: Account, url: str, now: datetime) -> str:
    """Return the code in the address the browser was sent back to; `ValueError` says what is wrong.

    The state must be one of ours and young, so that nobody can have another login accepted.
    """
    asked = parse_qs(urlsplit(url.strip()).query)
    code, state = asked.get("code", [""])[0], asked.get("state", [""])[0]
    if not code:
        raise ValueError("there is no code in it; give the whole address the browser was sent to")
    begun, _, _ = state.partition(".")
    if not begun.isdecimal() or not hmac.compare_digest(state, _signed(account, int(begun))):
        raise ValueError("it does not belong to a login that was begun here; begin again")
    if not 0 <= now.timestamp() - int(begun) + 1 <= STATE_LIVES:
        raise ValueError(
            f"that login was begun more than {STATE_LIVES / 60:g} minutes ago; begin again"
        )
    return code


def _signed(account: Account, begun: int) -> str:
    text = f"{begun} {account.redirect_uri}".encode()
    return f"{begun}.{hmac.new(account.secret_key.encode(), text, 'sha256').hexdigest()}"


def parse_tokens(body: Any) -> tuple[str, str | None, float]:
    """Return (access token, refresh token where one came, seconds the access token lives)."""
    if not isinstance(body, Mapping) or not _is_token(body.get("access_token")):
        raise Unavailable(VENDOR, "the token host answered without an access token")
    refresh, lives = body.get("refresh_token"), body.get("expires_in")
    if not isinstance(lives, int | float) or not 0 < lives <= LOGIN_LIVES.total_seconds():
        lives = ACCESS_LIVES
    return body["access_token"], refresh if _is_token(refresh) else None, lives


def refusal(status: int, body: Any) -> ProviderError | None:
    """Read what the token host says to a refused login (recorded: 400 `unsupported_token_type`)."""
    if status not in (400, 401, 403):
        return None
    if not isinstance(body, Mapping):
        # Its gateway answers web pages ("Access Denied"), and those say nothing about the login.
        return Unavailable(VENDOR, f"the token host answered {status} and no JSON")
    code, text = str(body.get("error", "")), str(body.get("error_description", ""))
    said = f"{code} {text}".lower()
    if code in ("unsupported_token_type", "invalid_grant") or "refresh" in said:
        return LoginNeeded(VENDOR, "the login has ended", REMEDY)
    return Denied(VENDOR, f"the token host refused the app key or its secret ({status})")


def dump(login: Login) -> bytes:
    """Return the login as it is stored (before it is sealed)."""
    return json.dumps(
        {
            "refresh_token": login.refresh_token,
            "since": login.since.timestamp(),
            "issuer": login.issuer,
            "seed": login.seed,
            "access_token": login.access_token,
            "access_until": login.access_until.timestamp() if login.access_token else None,
        }
    ).encode()


def load(stored: bytes) -> Login:
    """Return a stored login; `ValueError`, `KeyError` or `TypeError` if it is not one."""
    row = json.loads(stored)
    access = row["access_token"]
    return Login(
        refresh_token=row["refresh_token"],
        since=datetime.fromtimestamp(row["since"], UTC),
        issuer=row["issuer"],
        seed=row["seed"],
        access_token=access,
        access_until=datetime.fromtimestamp(row["access_until"], UTC) if access else _LONG_AGO,
    )


def choose(
    mine: Login | None, stored: Login | None, account: Account, now: datetime
) -> Login | None:
    """Return the login to go on with: the store's, unless the environment holds a newly pasted one.

    The environment's token is new if it is another one than when the stored login began.
    """
    if stored and (stored.issuer != account.issuer or account.seed not in (None, stored.seed)):
        stored = None
    if mine is None and stored is None and account.refresh_token:
        return Login(account.refresh_token, now, account.issuer, account.seed, guessed=True)
    if mine is None or stored is None:
        return mine or stored
    if mine.guessed:
        return stored
    return max(mine, stored, key=lambda login: (login.since, login.access_until))


# --- the session -------------------------------------------------------------------------------------


class OAuth:
    """Hands out access tokens; whatever has to be done for one is done once for all who wait."""

    def __init__(self, wire: Wire, account: Account, tools: Tools) -> None:
        self._wire, self._account = wire, account
        self._tools, self._now, self._clock = tools, tools.now, tools.clock
        self._login: Login | None = None
        self._store_away = False
        self._look_at_store_at = self._clock()
        self._fault: ProviderError | None = None  # of the last renewal
        self._fault_until = self._look_again_at = self._clock()
        self._denials = 0  # in a row
        self._refused: str | None = None  # the access token the data host refused last
        self._refused_at: float | None = None
        self._work: asyncio.Task[None] | None = None
        self._saving: asyncio.Task[None] | None = None
        wire.hide(
            key=account.app_key,
            secret=account.secret_key,
            pair=build_headers(account)["Authorization"].removeprefix("Basic "),
            given=account.refresh_token or "",
        )

    @property
    def expires_at(self) -> datetime | None:
        """Return when the login ends; for a token from the environment, at the latest."""
        return self._login.since + LOGIN_LIVES if self._login else None

    async def open(self) -> None:
        """Take up the stored login if the store is quick; otherwise the first request will."""
        await self._take_up()

    async def close(self) -> None:
        """End what runs in the background: a renewal in hand may bring a token, and it is to be stored."""
        unsaved = self._saving is not None and not self._saving.done()
        if self._work is not None:
            unsaved = unsaved or not self._work.done()
            await asyncio.wait({self._work}, timeout=LAST_PATIENCE)
        for task in filter(None, (self._work, self._saving)):
            task.cancel()
            await asyncio.wait({task})
        if unsaved:
            try:
                async with asyncio.timeout(LAST_PATIENCE):
                    await self._save()
            except (StoreAway, Unsealable, TimeoutError) as e:
                log.warning("%s: the login is not stored (%s)", VENDOR, e)

    async def access_token(self, deadline: float, refused: str | None = None) -> str:
        """Return a good access token; `refused` is one that the data host has just refused.

        `LoginNeeded` or `Denied` where only a person can help, `Unavailable` where time will.
        """
        if refused is not None:
            self._doubt(refused)
        token = self._usable(RENEW_NOW)
        if token is None:
            try:
                await self._join(self._work_once(self._renew), deadline)
            except Unavailable:
                if self._usable(timedelta(0)) is None:  # the last minute of the old one will do
                    raise
            token = self._usable(timedelta(0))
        elif self._usable(RENEW_EARLY) is None and self._clock() >= self._fault_until:
            _ = self._work_once(self._renew)  # nobody has to wait for it
        if token is None:
            raise Unavailable(VENDOR, "the token host's access token has no time left")
        return token

    def authorize_url(self) -> str:
        """Return the address at which a person logs in."""
        return build_authorize(self._account, self._now())

    async def log_in(self, redirected_to: str, deadline: float) -> datetime:
        """Begin a new login with the address the browser was sent back to; return when it ends."""
        return await self.exchange_code(
            read_redirect(self._account, redirected_to, self._now()), deadline
        )

    async def exchange_code(self, code: str, deadline: float) -> datetime:
        """Begin a new login with the code of the browser's redirect; return when it ends.

        A code is good for 30 seconds, so this is tried once.
        """
        form = build_exchange(code, self._account.redirect_uri)
        self._wire.hide(code=form["code"])
        try:
            access, refresh, lives = await self._ask(form, deadline)
        except LoginNeeded as e:
            raise LoginNeeded(
                VENDOR, "the code was refused; it is good for 30 s", e.remedy
            ) from None
        if refresh is None:
            raise Malformed(VENDOR, "the token host answered the code without a refresh token")
        now = self._now()
        self._login = self._with_access(
            Login(refresh, now, self._account.issuer, self._account.seed), access, lives
        )
        self._fault = None
        try:
            await self._save()
        except (StoreAway, Unsealable) as e:
            raise Unavailable(VENDOR, f"logged in, but the login was not stored ({e})") from None
        return now + LOGIN_LIVES

    # --- renewing

    def _usable(self, margin: timedelta) -> str | None:
        login = self._login
        good = login is not None and login.access_until - self._now() > margin
        return login.access_token if login is not None and good else None

    def _doubt(self, refused: str) -> None:
        login = self._login
        if login is None or login.access_token != refused:
            return  # another caller was refused before us, and there is a newer one already
        now = self._clock()
        if self._refused_at is not None and now - self._refused_at < REFUSED_TWICE:
            raise Denied(VENDOR, "a fresh access token was refused")
        self._refused, self._refused_at = refused, now
        self._login = _without(login, refused)

    def _work_once(self, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(work(), name="schwab-oauth")
            # Everybody who asked may be gone by then; whoever is there gets the error by itself.
            self._work.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._work

    async def _join(self, task: asyncio.Task[None], deadline: float) -> None:
        # Shielded: a caller who gives up must not take the refresh token, maybe just spent, with them.
        done, _ = await asyncio.wait({task}, timeout=max(0.0, deadline - self._clock()))
        if not done:
            raise Unavailable(VENDOR, "the token host did not answer in time")
        if error := task.exception():
            raise type(error)(*error.args)  # its own traceback for each of the many who wait

    async def _renew(self) -> None:
        """Get an access token: the one another process stored, or a new one for our login."""
        before = self._usable(RENEW_NOW)
        await self._hold_off()
        await self._take_up()
        if self._usable(RENEW_NOW) not in (None, before):
            return  # another process has renewed it
        try:
            await self._refresh()
        except LoginNeeded as e:
            self._leave_alone(e, PAUSE_AFTER_REFUSAL)
            raise
        except Denied as e:
            # One refusal of the keys may be the vendor's own fault; many in a row are not.
            self._leave_alone(e, min(FIRST_PAUSE * 2 ** min(self._denials, 6), PAUSE_AFTER_REFUSAL))
            self._denials += 1
            raise
        except Unavailable as e:
            self._leave_alone(e, e.retry_after or PAUSE_AFTER_FAULT)
            raise
        self._fault, self._denials = None, 0
        self._save_soon()

    async def _hold_off(self) -> None:
        """Raise the last renewal's error while it is too early to try again."""
        fault, now = self._fault, self._clock()
        if fault is None or now >= self._fault_until:
            return
        if isinstance(fault, Unavailable):
            raise type(fault)(fault.vendor, fault.why, self._fault_until - now)
        if now >= self._look_again_at:  # has a person logged in meanwhile?
            self._look_again_at = now + LOOK_EVERY
            dead = self._login
            await self._take_up()
            if self._login is not None and (
                dead is None or self._login.refresh_token != dead.refresh_token
            ):
                self._fault = None
                return
        raise type(fault)(*fault.args)

    def _leave_alone(self, fault: ProviderError, seconds: float) -> None:
        self._fault = fault
        self._fault_until = self._clock() + seconds
        self._look_again_at = self._clock() + LOOK_EVERY

    async def _refresh(self) -> None:
        login = self._login
        if login is None and self._store_away:
            raise Unavailable(VENDOR, "the stored login cannot be read: the database is away")
        if login is None:
            raise LoginNeeded(VENDOR, "nobody has logged in", REMEDY)
        form = build_refresh(login.refresh_token)
        access, refresh, lives = await self._ask(form, self._clock() + RENEW_WITHIN)
        if self._login is not None and self._login.refresh_token == login.refresh_token:
            login = replace(self._login, refresh_token=refresh or login.refresh_token)
            if self._now() - login.since >= LOGIN_LIVES:  # it lives, so it began later than we knew
                login = replace(login, since=self._now())
            self._login = self._with_access(login, access, lives)

    async def _ask(self, form: dict[str, str], deadline: float) -> tuple[str, str | None, float]:
        try:
            body = await self._wire.request(
                "POST",
                TOKEN_PATH,
                deadline=deadline,
                headers=build_headers(self._account),
                form=form,
                refusal=refusal,
                metered=False,
            )
        except (Malformed, Unsupported) as e:
            # A web page says nothing about the login: it is the host that is not itself.
            fault = Unavailable(VENDOR, f"the token host: {e.why}")
        else:
            access, refresh, lives = parse_tokens(body)
            self._wire.hide(access=access, refresh=refresh or "")
            return access, refresh, lives
        raise fault

    def _with_access(self, login: Login, token: str, lives: float) -> Login:
        until = self._now() + timedelta(seconds=lives)
        return replace(login, access_token=token, access_until=until)

    # --- the store

    async def _take_up(self) -> None:
        """Look into the store and go on with the login that is the newest; raises nothing."""
        stored = None
        if self._clock() >= self._look_at_store_at:
            try:
                async with asyncio.timeout(QUICK):
                    stored = await self._stored()
                self._store_away = False
            except (StoreAway, TimeoutError) as e:  # the environment's token works without it
                log.debug("%s: the token store is away (%s)", VENDOR, e)
                self._store_away = True
                self._look_at_store_at = self._clock() + STORE_PAUSE
        login = choose(self._login, stored, self._account, self._now())
        if login is not None:
            self._wire.hide(access=login.access_token or "", refresh=login.refresh_token)
            self._login = _without(login, self._refused)

    async def _stored(self) -> Login | None:
        sealed = await self._tools.tokens.load(VENDOR)
        if sealed is None:
            return None
        try:
            return load(self._tools.vault().open(sealed))
        except Unsealable as e:
            log.warning("%s: the stored login is not used: %s", VENDOR, e)
        except (ValueError, KeyError, TypeError) as e:
            log.warning("%s: the stored login cannot be read (%s)", VENDOR, type(e).__name__)
        return None

    def _save_soon(self) -> None:
        """Store the login in the background, and go on trying for a while if the store is away."""
        if self._saving is None or self._saving.done():
            self._saving = asyncio.create_task(self._save_stubbornly(), name="schwab-oauth-save")

    async def _save_stubbornly(self) -> None:
        why = ""
        for pause in (0, *SAVE_PAUSES):
            await self._tools.sleep(pause)
            try:
                return await self._save()
            except Unsealable as e:
                why = str(e)
                break  # no key will come by waiting
            except StoreAway as e:
                why = str(e)
        log.error("%s: the login is not stored, and is lost at a restart: %s", VENDOR, why)
        return None

    async def _save(self) -> None:
        if self._login is not None and self._login.guessed:
            # Begun while the store was away: what it holds may be an older acquaintance.
            self._login = choose(self._login, await self._stored(), self._account, self._now())
        while (login := self._login) is not None:
            await self._tools.tokens.save(VENDOR, self._tools.vault().seal(dump(login)))
            if self._login is login:
                self._login = replace(login, guessed=False)
                return


def _without(login: Login, access_token: str | None) -> Login:
    if access_token is None or login.access_token != access_token:
        return login
    return replace(login, access_token=None, access_until=_LONG_AGO)


def _is_token(value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable() and value != ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
