"""What a route may ask for, as `Annotated` types: a route's signature is its list of requirements."""

from datetime import UTC, datetime
from typing import Annotated, cast

from fastapi import Depends, Path, Request

from actors.client import Tree
from actors.domain.calendar import last_open
from api.answers import LastAnswers

ASK_WITHIN = 8.0  # seconds a request may wait for an actor, a vendor's answer on demand included
STALE_AFTER = 300.0  # seconds of market time: more than two cycles of the `prices` job
LOOK_WITHIN = 3.0  # for what an actor holds in memory


def _tree(request: Request) -> Tree:
    return cast("Tree", request.app.state.tree)


def _answers(request: Request) -> LastAnswers:
    return cast("LastAnswers", request.app.state.answers)


def _newest(request: Request) -> datetime:
    """Return the moment that the newest quote can be of: now, or the last close."""
    now = datetime.now(UTC)
    return now if request.app.state.always_open else last_open(now)


SYMBOL = r"^[A-Za-z]{1,6}([./-][A-Za-z]{1,2})?$"
TheTree = Annotated[Tree, Depends(_tree)]
Answers = Annotated[LastAnswers, Depends(_answers)]
Newest = Annotated[datetime, Depends(_newest)]
Symbol = Annotated[
    str,
    Path(
        pattern=SYMBOL,
        description="A US stock or ETF symbol; BRK.B and BRK-B are the same",
        examples=["AAPL"],
    ),
]
