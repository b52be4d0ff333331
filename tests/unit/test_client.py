"""The promise to callers: one deadline, and repeats only while no living process has answered."""

import asyncio
import pickle

import pytest

from actors.client import DeadlineExceeded, Gone, Tree, Unreachable


class Scripted:
    """A line that fails as scripted, then answers."""

    def __init__(self, *script):
        self.script, self.asked = list(script), []

    async def ask(self, child, method, args, kwargs, seconds):
        self.asked.append((child, method, args, kwargs))
        assert seconds > 0
        step = self.script.pop(0) if self.script else "answer"
        if isinstance(step, BaseException):
            raise step
        return step


async def test_a_name_becomes_a_message():
    line = Scripted("bars")
    assert await Tree(line).price_ingestor.bars("SPY", limit=3) == "bars"
    assert line.asked == [("price_ingestor", "bars", ("SPY",), {"limit": 3})]


async def test_a_death_in_between_is_repeated():
    line = Scripted(Gone("died"), Gone("restarting"), "answer")
    assert await Tree(line).provider_pool.status() == "answer"
    assert len(line.asked) == 3


async def test_what_the_child_raises_is_not_repeated():
    line = Scripted(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await Tree(line).provider_pool.status()
    assert len(line.asked) == 1


async def test_a_child_that_stays_away_is_unreachable_within_the_deadline():
    class Never:
        async def ask(self, *_):
            raise Gone("it is down (crash)")

    began = asyncio.get_running_loop().time()
    with pytest.raises(Unreachable, match=r"scheduler is not reachable: it is down \(crash\)"):
        await Tree(Never()).within(0.05).scheduler.jobs()
    assert asyncio.get_running_loop().time() - began < 5


async def test_a_late_answer_is_named_as_late():
    with pytest.raises(DeadlineExceeded, match=r"scheduler.jobs did not answer within 2 s"):
        await Tree(Scripted(TimeoutError())).within(2).scheduler.jobs()


@pytest.mark.parametrize(
    "error",
    [Unreachable("a", "b", 3.0), DeadlineExceeded("a", "m", 1.0), Gone("x")],
    ids=lambda e: type(e).__name__,
)
def test_errors_cross_processes_whole(error):
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.args, str(copy)) == (type(error), error.args, str(error))
