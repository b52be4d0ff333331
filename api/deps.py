"""What a route may ask for, as `Annotated` types: a route's signature is its list of requirements."""

from typing import Annotated, cast

from fastapi import Depends, Path, Request

from actors.client import Tree
from api.answers import LastAnswers

ASK_WITHIN = 8.0  # seconds a request may wait for an actor, a vendor's answer on demand included
LOOK_WITHIN = 3.0  # for what an actor holds in memory


def _tree(request: Request) -> Tree:
    return cast("Tree", request.app.state.tree)


def _answers(request: Request) -> LastAnswers:
    return cast("LastAnswers", request.app.state.answers)


TheTree = Annotated[Tree, Depends(_tree)]
Answers = Annotated[LastAnswers, Depends(_answers)]
Symbol = Annotated[
    str,
    Path(
        pattern=r"^[A-Za-z]{1,6}([./-][A-Za-z]{1,2})?$",
        description="A US stock or ETF symbol; BRK.B and BRK-B are the same",
        examples=["AAPL"],
    ),
]
