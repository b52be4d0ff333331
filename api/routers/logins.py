"""/providers/{vendor}/login: a person logs in at a vendor, from a browser or through `volaris login`."""

from datetime import datetime
from html import escape
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, Field

from api.deps import TheTree
from api.problems import AWAY

LOGIN_WITHIN = 25.0
Vendor = Annotated[str, Path(pattern="^[a-z]{1,32}$", examples=["schwab"])]

router = APIRouter(prefix="/providers", tags=["providers"], responses=AWAY)


class Begun(BaseModel):
    """Where a person logs in, and where the vendor sends the browser afterwards."""

    authorize_url: str
    redirect_uri: str


class Redirected(BaseModel):
    """What the browser was sent back to."""

    redirected_to: str = Field(
        max_length=8192, examples=["https://127.0.0.1:8182/?code=C0.abc%40&session=1&state=1.ab"]
    )


class LoggedIn(BaseModel):
    """A login that is stored."""

    vendor: str
    expires_at: datetime


@router.get("/{vendor}/login")
async def begin(tree: TheTree, vendor: Vendor) -> Begun:
    """Return where a person logs in."""
    url, back = await tree.within(LOGIN_WITHIN).provider_pool.login(vendor)
    return Begun(authorize_url=url, redirect_uri=back)


@router.get("/{vendor}/authorize", response_class=RedirectResponse, status_code=307)
async def authorize(tree: TheTree, vendor: Vendor) -> RedirectResponse:
    """Send the browser to the vendor's login."""
    url, _ = await tree.within(LOGIN_WITHIN).provider_pool.login(vendor)
    return RedirectResponse(url, 307)


@router.post("/{vendor}/login")
async def finish(tree: TheTree, vendor: Vendor, body: Redirected) -> LoggedIn:
    """Log in with the address the vendor sent the browser to, within 30 seconds of it."""
    ends = await _log_in(tree, vendor, body.redirected_to)
    return LoggedIn(vendor=vendor, expires_at=ends)


@router.get("/{vendor}/callback", response_class=HTMLResponse)
async def callback(tree: TheTree, request: Request, vendor: Vendor) -> HTMLResponse:
    """Take the browser as the vendor sends it back, where this is the app's registered callback."""
    ends = await _log_in(tree, vendor, str(request.url))
    said = (
        f"Logged in at {escape(vendor)} until {ends:%Y-%m-%d %H:%M} UTC. You may close this page."
    )
    return HTMLResponse(f"<!doctype html><title>Volaris</title><p>{said}</p>")


async def _log_in(tree: TheTree, vendor: str, redirected_to: str) -> datetime:
    try:
        return await tree.within(LOGIN_WITHIN).provider_pool.log_in(vendor, redirected_to)
    except ValueError as e:
        raise HTTPException(422, f"the address is not accepted: {e}") from None
