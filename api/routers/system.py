"""GET /system/…: the tree, its history and the jobs, for operators."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from api.deps import LOOK_WITHIN, TheTree
from api.problems import AWAY

router = APIRouter(prefix="/system", tags=["system"], responses=AWAY)


@router.get("/tree")
async def read_tree(tree: TheTree) -> dict[str, Any]:
    """Return every child of the tree: state, pid, generation, memory against budget, last exit."""
    return {"children": await tree.within(LOOK_WITHIN).supervisor.status()}


@router.get("/history")
async def read_history(
    tree: TheTree,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    child: Annotated[
        str | None, Query(pattern="^[a-z_]{1,64}$", examples=["price_ingestor"])
    ] = None,
) -> dict[str, Any]:
    """Return the newest starts and stops: cause, memory, age, gap."""
    return {"history": await tree.within(LOOK_WITHIN * 2).supervisor.history(limit, child)}


@router.get("/jobs")
async def read_jobs(tree: TheTree) -> dict[str, Any]:
    """Return every job: when it runs, and how its last run ended."""
    return {"jobs": await tree.within(LOOK_WITHIN).scheduler.jobs()}
