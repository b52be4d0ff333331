"""GET /providers: the vendors behind the data, what is spent of their limits, and how they do."""

from typing import Any

from fastapi import APIRouter

from api.deps import LOOK_WITHIN, TheTree
from api.problems import AWAY

router = APIRouter(tags=["system"], responses=AWAY)


@router.get("/providers")
@router.get("/system/providers", include_in_schema=False)
async def read_providers(tree: TheTree) -> dict[str, Any]:
    """Return every vendor: state, spend of each limit, latency, error rates, last error, next probe.

    Latencies are seconds; error rates are fractions, `null` where nothing was asked.  `remedy` says what
    a person must do, if anything.
    """
    return {"providers": await tree.within(LOOK_WITHIN).provider_pool.status()}
