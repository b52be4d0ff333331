"""The limiter on a real PostgreSQL: what outlives a stop, a kill, and a server that is away."""

import time
from pathlib import Path

import pytest

from actors.providers.base import Spent
from actors.providers.limits import Limiter
from actors.settings import Settings
from actors.vendor_books import DatabaseBooks

PLAN = "12/min 50/h 1000/day 1GB/month 500symbols/month"


@pytest.fixture
async def books(database_dsn, tmp_path: Path):
    """Give books in the test's own database."""
    made = DatabaseBooks(Settings(volaris_home=tmp_path, database_url=database_dsn))
    yield made
    await made.close()


def spent(limiter: Limiter) -> dict[str, int]:
    return {limit.limit: limit.spent for limit in limiter.spend}


async def test_who_stopped_goes_on_exactly_and_who_was_killed_supposes_the_worst(books):
    first = Limiter("tiingo", PLAN, ledger=books)
    await first.open()
    assert first.delay == 0
    for _ in range(1):
        await first.slot(time.monotonic() + 5)
        first.settle(140_000)
    assert await first.claim(["AAPL", "BRK.B"]) == ("AAPL", "BRK.B")
    await first.close()

    second = Limiter("tiingo", PLAN, ledger=books)
    await second.open()
    told = spent(second)
    assert (told["1000/day"], told["1GB/month"], told["500symbols/month"]) == (1, 140_000, 2)
    await second.slot(time.monotonic() + 10)
    second.settle(140_000)  # and now it is killed

    third = Limiter("tiingo", PLAN, ledger=books)
    await third.open()
    told = spent(third)
    assert 2 <= told["1000/day"] <= 1 + 20 + 1
    assert 280_000 <= told["1GB/month"] <= 140_000 + 20_000_000
    assert told["500symbols/month"] == 2
    assert 60 < third.delay < 77  # it waits for the first turn of an empty hour
    with pytest.raises(Spent):
        await third.slot(time.monotonic() + 5)


async def test_vendors_are_kept_apart(books):
    for vendor in ("schwab", "alpaca"):
        limiter = Limiter(vendor, "120/min", ledger=books)
        await limiter.open()
        await limiter.slot(time.monotonic() + 5)
        limiter.settle(1)
    assert set(await books.spend("schwab")) == set(await books.spend("alpaca")) == {"requests/min"}
    assert await books.spend("tiingo") == {}


async def test_without_a_server_minutes_are_asked_and_days_are_not(tmp_path: Path):
    away = DatabaseBooks(
        Settings(volaris_home=tmp_path, database_url="postgresql://u:p@127.0.0.1:1/x")
    )
    began = time.monotonic()
    minutes = Limiter("schwab", "600/min", ledger=away)
    await minutes.open()
    for _ in range(5):
        await minutes.slot(time.monotonic() + 10)
        minutes.settle(1)
    days = Limiter("tiingo", "600/min 1000/day", ledger=away)
    await days.open()
    with pytest.raises(Spent, match="the database is away"):
        await days.slot(time.monotonic() + 10)
    assert time.monotonic() - began < 30
    await minutes.close()
    await days.close()
    await away.close()
