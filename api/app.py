"""The FastAPI application on the tree: `/health`, `/ready` and the routers under `/api/v1`."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from actors.client import DeadlineExceeded, Tree, Unreachable
from api import docs, problems
from api.answers import LastAnswers
from api.deps import LOOK_WITHIN, TheTree
from api.routers import backfills, companies, logins, market, overview, providers, system

DESCRIPTION = """
Market data for options traders, served by a supervised tree of actors.

Every number carries its `source` and its age; what is old is marked `stale`, not hidden.
Errors are `application/problem+json` (RFC 9457); while an actor restarts, its routes answer 503 with
`Retry-After`, or the last known answer marked `stale`.
"""


def create_app(tree: Tree, version: str, *, always_open: bool) -> FastAPI:
    """Return the application; it holds no state but the last answers."""
    app = FastAPI(
        title="Volaris", version=version, description=DESCRIPTION, docs_url=None, redoc_url=None
    )
    app.state.tree = tree
    app.state.answers = LastAnswers()
    app.state.always_open = always_open
    problems.install(app)
    docs.install(app)
    app.add_api_route("/health", health, tags=["health"])
    app.add_api_route("/ready", ready, tags=["health"], response_model=None)
    for module in (market, companies, overview, backfills, providers, logins, system):
        app.include_router(module.router, prefix="/api/v1")
    return app


async def health(request: Request) -> dict[str, str]:
    """Tell that the API server is alive, whatever else is."""
    return {"status": "alive", "version": request.app.version}


async def ready(tree: TheTree) -> JSONResponse:
    """Tell whether all is well (200), or what is not (503): children, database, vendors."""
    asked = tree.within(LOOK_WITHIN)
    wrong: dict[str, str] = {}
    states: dict[str, str] = {}
    try:
        for child in await asked.supervisor.status():
            states[child.id] = child.state
            if child.state != "up":
                last = child.last_exit_cause or "starting"
                wrong[child.id] = f"{child.state} ({last})" + (
                    f": {child.detail}" if child.detail else ""
                )
    except (Unreachable, DeadlineExceeded) as e:
        wrong["supervisor"] = str(e)
    vendors: dict[str, str] = {}
    if states.get("provider_pool") == "up":
        try:
            for vendor in await asked.provider_pool.status():
                vendors[vendor.name] = vendor.state
                if vendor.remedy:
                    wrong[vendor.name] = vendor.remedy
        except (Unreachable, DeadlineExceeded) as e:
            wrong.setdefault("provider_pool", str(e))
    if "supervisor" not in wrong:
        try:
            if why := await asked.supervisor.database():
                wrong["database"] = why
        except (Unreachable, DeadlineExceeded) as e:
            wrong["database"] = str(e)
    body: dict[str, Any] = {
        "ready": not wrong,
        "children": states,
        "vendors": vendors,
        "wrong": wrong,
    }
    headers = {} if not wrong else {"Retry-After": "2"}
    return JSONResponse(body, 200 if not wrong else 503, headers=headers)
