"""The ingestor dies between the steps of storing a page, again and again; the rows of the backfill are exact."""

from datetime import date

import pytest

from tests.running import Running

pytestmark = pytest.mark.tree

SYMBOLS = [
    "AAPL",
    "AMZN",
    "BRK.B",
    "CVX",
    "HD",
    "JPM",
    "KO",
    "META",
    "MSFT",
    "NVDA",
    "PEP",
    "SPY",
    "TSLA",
    "V",
    "WMT",
    "XOM",
]
FIRST, LAST = date(2017, 1, 1), date(2026, 10, 30)
DAYS = (LAST - FIRST).days + 1  # the sandbox's market trades every day


@pytest.fixture(scope="module")
def tree():
    running = Running(
        VOLARIS_CRASH_AFTER="backfill.storing=0.4,backfill.stored=0.4",
        VOLARIS_INTENSITY="100000:60",
        VOLARIS_STABLE_SECONDS="0",
    )
    try:
        yield running.start()
    finally:
        left = running.stop()
    assert left == []


def test_no_death_between_two_steps_loses_or_doubles_a_bar(tree):
    asked = ("backfill", *SYMBOLS, "--from", str(FIRST), "--to", str(LAST), "--again")
    while True:
        tree.run(*asked, timeout=400)
        [[row]] = tree.query(
            "SELECT count(*) AS n, count(DISTINCT ticker_id) AS symbols FROM bars_1d"
            f" WHERE NOT polled AND day BETWEEN '{FIRST}' AND '{LAST}'"
        )
        assert tuple(row) == (len(SYMBOLS) * DAYS, len(SYMBOLS))
        [told] = tree.get("/api/v1/backfills").json()["backfills"]
        assert (told["state"], told["rows"]) == ("done", len(SYMBOLS) * DAYS)
        assert told["requests"] == -(-len(SYMBOLS) * DAYS // 10_000)
        if tree.children()["price_ingestor"]["restarts"]:
            return  # else the dice spared it every time
