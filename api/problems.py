"""Every error of the API as `application/problem+json` (RFC 9457): what is wrong, and what to do."""

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from actors.client import DeadlineExceeded, Unreachable
from actors.domain.errors import Unanswered, UnknownSymbol, VendorError

SHOWN, MOST_ERRORS = 100, 10  # characters of a wrong input that are repeated, and wrong inputs

log = logging.getLogger("volaris.api")


class Problem(BaseModel):
    """One error."""

    type: str = "about:blank"
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["no vendor knows the symbol ZZZZ"])
    instance: str | None = Field(None, examples=["/api/v1/market/price/ZZZZ"])


PROBLEM = {"model": Problem, "content": {"application/problem+json": {}}}
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {**PROBLEM, "description": "No such symbol"}}
AWAY: dict[int | str, dict[str, Any]] = {
    503: {
        **PROBLEM,
        "description": "The actor is restarting: ask again after `Retry-After` seconds",
    }
}


def problem(
    request: Request, status: int, title: str, detail: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    """Return one error as the world sees it."""
    body = Problem(title=title, status=status, detail=detail, instance=request.url.path)
    return JSONResponse(
        body.model_dump(), status, headers=headers, media_type="application/problem+json"
    )


def install(app: FastAPI) -> None:
    """Map every exception a route may raise to a problem."""

    @app.exception_handler(HTTPException)
    async def _http(request: Request, e: HTTPException) -> JSONResponse:
        titles = {404: "Not Found", 405: "Method Not Allowed", 422: "Unprocessable Content"}
        return problem(
            request,
            e.status_code,
            titles.get(e.status_code, "Error"),
            str(e.detail),
            dict(e.headers or {}),
        )

    @app.exception_handler(RequestValidationError)
    async def _malformed(request: Request, e: RequestValidationError) -> JSONResponse:
        wrong = "; ".join(
            f"{'.'.join(map(str, error['loc'][1:])) or 'the body'}: {error['msg']},"
            f" was {str(error.get('input'))[:SHOWN]!r}"
            for error in e.errors()[:MOST_ERRORS]
        )
        return problem(request, 422, "Unprocessable Content", wrong)

    @app.exception_handler(UnknownSymbol)
    async def _unknown(request: Request, e: UnknownSymbol) -> JSONResponse:
        return problem(request, 404, "Not Found", str(e))

    @app.exception_handler(Unreachable)
    async def _away(request: Request, e: Unreachable) -> JSONResponse:
        again = {"Retry-After": str(max(round(e.retry_after), 1))}
        return problem(request, 503, "Service Unavailable", str(e), again)

    @app.exception_handler(DeadlineExceeded)
    async def _late(request: Request, e: DeadlineExceeded) -> JSONResponse:
        return problem(request, 503, "Service Unavailable", str(e), {"Retry-After": "2"})

    @app.exception_handler(Unanswered)
    async def _unanswered(request: Request, e: Unanswered) -> JSONResponse:
        again = {"Retry-After": str(max(round(e.retry_after or 5), 1))}
        return problem(request, 503, "Service Unavailable", str(e), again)

    @app.exception_handler(VendorError)
    async def _vendor(request: Request, e: VendorError) -> JSONResponse:
        if not e.again:
            return problem(request, 404, "Not Found", str(e))
        again = {"Retry-After": str(max(round(e.retry_after or 10), 1))}
        return problem(request, 503, "Service Unavailable", str(e), again)

    @app.exception_handler(OverflowError)
    async def _beyond(request: Request, e: OverflowError) -> JSONResponse:
        log.info("%s: %s", request.url.path, e)
        return problem(request, 422, "Unprocessable Content", "a date or number is out of range")

    @app.exception_handler(Exception)
    async def _fault(request: Request, e: Exception) -> JSONResponse:
        log.error("%s %s failed", request.method, request.url.path, exc_info=e)
        return problem(
            request, 500, "Internal Server Error", f"{type(e).__name__}; it has been logged"
        )
