"""The last good answer per question, served with its age while the actor that knows better restarts."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeVar

from actors.client import DeadlineExceeded, Unreachable

MOST = 2_000  # answers kept; a quote is about 0.5 kB

T = TypeVar("T")


class LastAnswers:
    """A bounded memory of answers, oldest out first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[object, object] = OrderedDict()

    async def fresh_or_kept(self, key: object, ask: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
        """Return (answer, whether it is a kept one); raises `Unreachable` where there is neither."""
        try:
            answer = await ask()
        except (Unreachable, DeadlineExceeded):
            if key not in self._kept:
                raise
            return self._kept[key], True  # type: ignore[return-value]
        self._kept[key] = answer
        self._kept.move_to_end(key)
        if len(self._kept) > MOST:
            self._kept.popitem(last=False)
        return answer, False
