"""Backfills in a whole tree: by command, by REST and over an actor handle, through the death of the ingestor."""

import json
import os
import re
import signal
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta

import pytest

from tests.running import ROOT, TOKEN, VOLARIS, until

pytestmark = pytest.mark.tree

SYMBOLS = ("AAPL", "AMZN", "BRK.B", "JPM", "META", "MSFT", "NVDA", "SPY", "TSLA", "V", "WMT", "XOM")
FIRST, LAST = date(2017, 1, 1), date(2026, 10, 30)
# The sandbox's market trades every day.
DAYS = (LAST - FIRST).days + 1
VICTIM = "price_ingestor"


def rows(tree, first=FIRST, last=LAST, symbols=SYMBOLS):
    """Return (rows, symbols, days) of the daily bars that vendors have told, straight from PostgreSQL."""
    names = ",".join(f"'{symbol}'" for symbol in symbols)
    [[row]] = tree.query(
        "SELECT count(*) AS rows, count(DISTINCT b.ticker_id) AS symbols, count(DISTINCT day) AS days"
        " FROM bars_1d b JOIN tickers t ON t.id = b.ticker_id"
        f" WHERE NOT polled AND day BETWEEN '{first}' AND '{last}' AND t.symbol IN ({names})"
    )
    return tuple(row)


def truth(tree, symbol):
    """Return close and volume by day, as the sandbox's own door tells them."""
    told, page = {}, None
    while True:
        answer = tree.http.get(
            tree.sandbox("/alpaca/v2/stocks/bars"),
            params={
                "symbols": symbol,
                "timeframe": "1Day",
                "start": f"{FIRST}T00:00:00Z",
                "end": f"{LAST + timedelta(days=1)}T00:00:00Z",
                "adjustment": "split",
                "feed": "sip",
                "limit": "10000",
                **({"page_token": page} if page else {}),
            },
            headers={"APCA-API-KEY-ID": "k", "APCA-API-SECRET-KEY": "s"},
        ).json()
        for bar in answer["bars"].get(symbol, ()):
            told[bar["t"][:10]] = (bar["c"], bar["v"])
        page = answer["next_page_token"]
        if page is None:
            return told


def command(tree, *args):
    """Start `volaris backfill` and leave it to the test."""
    return subprocess.Popen(
        [*VOLARIS, "backfill", *args],
        cwd=ROOT,
        env=tree.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def newest(tree):
    found = tree.get("/api/v1/backfills").json().get("backfills")
    return found[0] if found else None


def test_a_command_outlives_the_sigkill_of_the_ingestor_and_the_rows_are_exact(tree):
    running = command(tree, *SYMBOLS, "NOSUCH", "--from", str(FIRST), "--to", str(LAST))
    told = until(lambda: (one := newest(tree)) and one["requests"] >= 1 and one, every=0.02)
    os.kill(tree.pids()[VICTIM], signal.SIGKILL)
    said, _ = running.communicate(timeout=120)
    assert running.returncode == 0, said
    assert "no bars of NOSUCH" in said
    assert re.search(r"alpaca: 13 symbols, about [\d,]+ bars in 5 requests", said)
    told = tree.get(f"/api/v1/backfills/{told['id']}").json()
    assert (told["state"], told["vendor"], told["silent"]) == ("done", "alpaca", ["NOSUCH"])
    assert rows(tree) == (len(SYMBOLS) * DAYS, len(SYMBOLS), DAYS)
    assert told["rows"] == len(SYMBOLS) * DAYS
    assert told["requests"] == -(-told["rows"] // 10_000)
    for symbol in ("AAPL", "BRK.B"):
        bars = tree.get(
            f"/api/v1/market/bars/{symbol}",
            timeframe="1d",
            start=f"{FIRST}T00:00:00Z",
            end=f"{LAST + timedelta(days=1)}T00:00:00Z",
            limit=10_000,
        ).json()["bars"]
        assert {b["at"][:10]: (b["close"], b["volume"]) for b in bars} == truth(tree, symbol)


def test_ctrl_c_stops_it_and_the_same_command_goes_on_where_it_stopped(tree):
    # One symbol a request, and no more than a few at once: there is time for a person's Ctrl-C.
    asked = ("--universe", "sp500", "--from", "2026-10-01", "--to", "2026-10-30")
    running = command(tree, *asked, "--provider", "schwab")
    until(lambda: (one := newest(tree)) and one["vendor"] == "schwab" and one["requests"] >= 3)
    running.send_signal(signal.SIGINT)
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert "the same command goes on from there" in said
    stopped = newest(tree)
    assert stopped["state"] == "cancelled"
    again = command(tree, *asked, "--provider", "schwab")
    until(lambda: newest(tree)["requests"] > stopped["requests"])
    assert newest(tree)["id"] == stopped["id"]
    cancelled = tree.http.delete(tree.url(f"/api/v1/backfills/{stopped['id']}"))
    assert cancelled.json()["state"] == "cancelled"
    said, _ = again.communicate(timeout=60)
    assert again.returncode == 1
    assert "it was cancelled" in said


def test_minutes_are_stored_and_what_makes_no_sense_is_one_sentence_everywhere(tree):
    day = datetime.now(UTC).date() - timedelta(days=1)
    done = tree.run("backfill", "AAPL", "--from", str(day), "--to", str(day), "--timeframe", "1m")
    assert "100%" in done.stdout
    assert "it ends with" not in done.stdout
    told = newest(tree)
    [[row]] = tree.query(
        "SELECT count(*) AS n FROM bars_1m b JOIN tickers t ON t.id = b.ticker_id"
        f" WHERE t.symbol = 'AAPL' AND NOT polled AND at >= '{day}' AND at < '{day}'::date + 1"
    )
    assert row["n"] == told["rows"] > 300
    for args, said in (
        (("A B", "--from", "2021-01-01"), "symbols: a symbol is 1 to 6 letters"),
        (("AAPL", "--from", "2022-01-01", "--to", "2021-01-01"), "from must not be after to"),
        (("AAPL", "--from", "2021-01-01", "--timeframe", "1m"), "set VOLARIS_BARS_1M_DAYS"),
        (("AAPL", "--from", "2021-01-01", "--provider", "x"), "provider must be one of"),
        (("AAPL", "--from", "soon"), "from: Input should be a valid date"),
    ):
        refused = tree.run("backfill", *args, check=False)
        assert refused.returncode == 78
        assert said in refused.stderr
        assert refused.stderr.count("\n") == 1
    answer = tree.http.post(
        tree.url("/api/v1/backfills"), json={"symbols": [], "from": "2021-01-01"}
    )
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["detail"] == "symbols must be 1 to 2000, were 0"
    nowhere = tree.get("/api/v1/backfills/00000000-0000-0000-0000-000000000000")
    assert (nowhere.status_code, nowhere.json()["title"]) == (404, "Not Found")


def test_what_costs_money_is_priced_first_and_bought_when_somebody_agrees(tree):
    asked = ("backfill", "AAPL", "F", "--from", "2026-09-01", "--to", "2026-09-30")
    asked = (*asked, "--provider", "databento")
    refused = tree.run(*asked, check=False)
    assert refused.returncode == 1
    assert re.search(r"databento wants [\d.e-]+ dollars for it", refused.stdout)
    assert "nothing was bought; agree with --yes or --max-cost USD" in refused.stderr
    told = newest(tree)
    assert (told["state"], told["rows"], told["cost"]) == ("priced", 0, 0)
    assert told["price"] > 0
    little = tree.run(*asked, "--max-cost", "0", check=False)
    assert little.returncode == 78
    assert "max_cost must be" in little.stderr
    assert newest(tree)["state"] == "priced"
    tree.run(*asked, "--yes")
    bought = newest(tree)
    assert (bought["id"], bought["state"], bought["cost"]) == (told["id"], "done", told["price"])
    [[row]] = tree.query("SELECT count(*) AS n FROM bars_1d WHERE source = 'databento'")
    assert row["n"] == bought["rows"] == 2 * 30


def test_one_that_ends_before_what_was_asked_for_says_so(tree):
    today = datetime.now(UTC).date()
    asked = ("backfill", "GM", "--from", str(today - timedelta(days=9)), "--to", str(today))
    said = tree.run(*asked, "--provider", "databento", "--yes").stdout
    told = newest(tree)
    end = datetime.fromisoformat(told["end"]).date()
    assert end in (today - timedelta(days=1), today), "the UTC day may have turned since"
    assert f"it ends with {end - timedelta(days=1)}; the same command asks" in said
    assert told["rows"] == 9 - (today - end).days


def test_the_call_in_the_readme_works_as_it_stands(tree):
    readme = (ROOT / "README.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    code = code.replace(".volaris/", f"{tree.home}/")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    days = (datetime.now(UTC).date() - date(2021, 1, 1)).days
    assert told["rows"] in (2 * days, 2 * (days - 1)), (
        "New York's yesterday may be UTC's day before"
    )
