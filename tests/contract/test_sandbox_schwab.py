"""The sandbox as Schwab, over real HTTP: every route, every fault, and the shape of recorded answers."""

import base64
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import httpx
import pytest

from actors.domain.universe import seed

REPO = Path(__file__).parents[2]
RECORDED = Path(os.environ.get("VOLARIS_FIXTURES", REPO.parent / "shared" / "fixtures")) / "schwab"
TOKEN, DATA = "/schwab/v1/oauth/token", "/schwab/marketdata/v1"
NOON = datetime(2026, 11, 24, 17, 0, tzinfo=UTC)  # a Tuesday; 12:00 in New York
NEW_YORK, CHICAGO = ZoneInfo("America/New_York"), ZoneInfo("America/Chicago")
UNIVERSE = [ticker.symbol.replace(".", "/") for ticker in seed()]
DAY = 86_400_000


def start(*arguments):
    """Start a sandbox on a port of its own; return the process and its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sandbox", "--port", "0", *arguments],
        cwd=REPO,
        stdout=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    assert line.startswith("sandbox listening on http://127.0.0.1:"), line
    return process, line.split()[-1]


def run(*arguments):
    """Run a sandbox that is expected to end by itself."""
    command = [sys.executable, "-m", "sandbox", *arguments]
    return subprocess.run(
        command, cwd=REPO, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.fixture(scope="module")
def url():
    process, url = start("--at", NOON.isoformat())
    yield url
    process.terminate()
    assert process.wait(10) in {0, -signal.SIGTERM}


@pytest.fixture
def client(url):
    """Give a client, and leave the sandbox as it was found."""
    with httpx.Client(base_url=url, timeout=20) as client:
        yield client
        client.delete("/control/faults")
        reset = {"at": NOON.isoformat(), "speed": 1, "hours": "always"}
        client.post("/control/clock", json=reset).raise_for_status()


@pytest.fixture
def schwab(client):
    """Give a function that asks Schwab's market data with a good token."""
    headers = {"Authorization": f"Bearer {tokens(client).json()['access_token']}"}

    def ask(path, **params):
        return client.get(DATA + path, params=params or None, headers=headers)

    return ask


def tokens(client, **form):
    form = form or {"grant_type": "refresh_token", "refresh_token": "sandbox-refresh-token"}
    return client.post(TOKEN, data=form, auth=("app-key", "secret"))


def ms(at):
    return int(at.timestamp() * 1000)


def error_of(answer):
    """Return the one error of an answer in Schwab's form."""
    (error,) = answer.json()["errors"]
    assert re.fullmatch(r"[0-9a-f-]{36}", error["id"])
    assert str(error["status"]) == str(answer.status_code)
    return error


# The process


def test_a_taken_port_is_a_sentence(url):
    ended = run("--port", url.rpartition(":")[2])
    assert ended.returncode == 78
    assert "is taken" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--host", "0.0.0.0"], "this machine only"),
        (["--host", "example.org"], "loopback"),
        (["--at", "2026-11-24T12:00:00"], "time zone"),
        (["--fault", '{"vendor":"schwab","kind":"fire"}'], "kind"),
        (["--fault", "latency"], "not JSON"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(arguments, named):
    ended = run("--port", "0", *arguments)
    assert ended.returncode == 78
    assert named in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_signal_ends_it_at_once_even_while_a_request_hangs():
    process, url = start("--fault", '{"vendor":"schwab","kind":"hang"}')
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as hanging:
        hanging.sendall(f"GET {DATA}/quotes HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        asked = {}
        while not asked:
            asked = httpx.get(f"{url}/control/requests").json()["vendors"]
        process.terminate()
        assert process.wait(5) in {0, -signal.SIGTERM}


def test_a_fault_may_be_there_from_the_start():
    process, url = start("--fault", '{"vendor":"schwab","kind":"status","status":503}')
    try:
        assert httpx.get(f"{url}{DATA}/quotes").status_code == 503
    finally:
        process.kill()
        process.wait()


# Tokens


def test_a_refresh_gives_an_access_token_of_thirty_minutes(client):
    answer = tokens(client)
    assert answer.status_code == 200
    told = answer.json()
    assert list(told) == [
        "expires_in", "token_type", "scope", "refresh_token", "access_token", "id_token",
    ]  # fmt: skip
    assert (told["expires_in"], told["token_type"], told["scope"]) == (1800, "Bearer", "api")
    assert told["refresh_token"] == "sandbox-refresh-token"
    assert told["access_token"].startswith("I0.")
    assert told["id_token"].count(".") == 2


def test_an_access_token_ends_by_the_sandboxes_clock(client, schwab):
    assert schwab("/quotes", symbols="AAPL").status_code == 200
    client.post("/control/clock", json={"at": (NOON + timedelta(minutes=31)).isoformat()})
    answer = schwab("/quotes", symbols="AAPL")
    assert answer.status_code == 401
    error = error_of(answer)
    assert error == {
        "id": error["id"],
        "status": 401,
        "title": "Unauthorized",
        "detail": "Client not authorized",
    }


@pytest.mark.parametrize(
    "header", [{}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Bearer é"}]
)
def test_without_a_token_there_is_nothing(client, header):
    encoded = {name: value.encode("latin-1") for name, value in header.items()}
    answer = client.get(DATA + "/quotes", params={"symbols": "AAPL"}, headers=encoded)
    assert answer.status_code == 401
    assert error_of(answer)["detail"] == "Client not authorized"


def test_a_dead_refresh_token_is_refused_as_recorded(client):
    answer = tokens(client, grant_type="refresh_token", refresh_token="expired-long-ago")
    assert answer.status_code == 400
    told = answer.json()
    assert told["error"] == "unsupported_token_type"
    assert told["error_description"].startswith(
        '400 Bad Request: "{"error_description":"Exception while'
    )
    assert "refresh_token_authentication_error" in told["error_description"]


@pytest.mark.parametrize("auth", [None, ("", "secret")])
def test_a_client_must_name_itself(client, auth):
    answer = client.post(
        TOKEN, data={"grant_type": "refresh_token", "refresh_token": "x"}, auth=auth
    )
    assert answer.status_code == 401
    assert answer.json() == {"error": "invalid_client", "error_description": "Unauthorized"}


def test_an_unknown_grant_is_refused(client):
    assert tokens(client, grant_type="password").status_code == 400


def test_a_login_goes_all_the_way(client, schwab):
    callback = "https://127.0.0.1:8182/"
    asked = {"response_type": "code", "client_id": "k", "redirect_uri": callback, "state": "s1"}
    answer = client.get("/schwab/v1/oauth/authorize", params=asked)
    assert answer.status_code == 302
    target = urlsplit(answer.headers["location"])
    assert f"{target.scheme}://{target.netloc}{target.path}" == callback
    assert "%40&session=" in answer.headers["location"]
    query = {name: value for name, (value,) in parse_qs(target.query).items()}
    assert query["code"].startswith("C0.")
    assert query["code"].endswith("@")
    assert query["state"] == "s1"
    form = {"grant_type": "authorization_code", "code": query["code"], "client_id": "k"}
    wrong = tokens(client, **form, redirect_uri="https://127.0.0.1:8182")  # no slash at the end
    assert wrong.status_code == 400
    told = tokens(client, **form, redirect_uri=callback)
    assert told.status_code == 200
    assert tokens(client, **form, redirect_uri=callback).status_code == 400  # good once
    refresh = {"grant_type": "refresh_token", "refresh_token": told.json()["refresh_token"]}
    again = tokens(client, **refresh)
    assert again.json()["refresh_token"] == refresh["refresh_token"]
    client.post("/control/clock", json={"at": (NOON + timedelta(days=7, minutes=1)).isoformat()})
    assert (
        tokens(client, **refresh).status_code == 400
    )  # seven days from the login, not the refresh


def test_a_code_is_good_for_thirty_seconds(client):
    asked = {"client_id": "k", "redirect_uri": "https://127.0.0.1/"}
    answer = client.get("/schwab/v1/oauth/authorize", params=asked)
    (code,) = parse_qs(urlsplit(answer.headers["location"]).query)["code"]
    client.post("/control/clock", json={"at": (NOON + timedelta(seconds=40)).isoformat()})
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": asked["redirect_uri"]}
    assert tokens(client, **form).status_code == 400


# Quotes


def test_the_universe_is_two_requests(schwab):
    first = schwab("/quotes", symbols=",".join(UNIVERSE[:500]), fields="quote")
    second = schwab("/quotes", symbols=",".join(UNIVERSE[500:]), fields="quote")
    told = first.json() | second.json()
    assert sorted(told) == sorted(UNIVERSE)
    for symbol, entry in told.items():
        quote = entry["quote"]
        assert quote["bidPrice"] < quote["askPrice"], symbol
        assert quote["lowPrice"] <= quote["lastPrice"] <= quote["highPrice"], symbol
        assert quote["52WeekLow"] <= quote["lowPrice"], symbol
        assert quote["52WeekHigh"] >= quote["highPrice"], symbol
        assert quote["netChange"] == pytest.approx(
            quote["lastPrice"] - quote["closePrice"], abs=1e-6
        )
        assert quote["netPercentChange"] == pytest.approx(
            quote["netChange"] / quote["closePrice"] * 100, abs=1e-4
        )
        assert 0 <= ms(NOON) + 600_000 - quote["quoteTime"] < 700_000


def test_an_answer_has_schwabs_headers(schwab):
    headers = schwab("/quotes", symbols="AAPL").headers
    assert headers["content-type"] == "application/json;charset=UTF-8"
    assert re.fullmatch(r"[0-9a-f-]{36}", headers["schwab-client-correlid"])
    assert headers["schwab-resource-version"] == "1"
    assert headers["cache-control"] == "no-store"


def test_five_hundred_and_one_are_refused(schwab):
    answer = schwab("/quotes", symbols=",".join(f"S{n}" for n in range(501)))
    assert answer.status_code == 400
    assert error_of(answer)["detail"] == "Search combination should not exceed 500."


def test_no_symbol_is_refused(schwab):
    assert schwab("/quotes").status_code == schwab("/quotes", symbols=" , ").status_code == 400


def test_an_unknown_symbol_is_told_and_a_wrong_class_share_vanishes(schwab):
    told = schwab("/quotes", symbols="AAPL,NOPE,BRK.B,BRK/B", fields="quote").json()
    assert set(told) == {"AAPL", "BRK/B", "errors"}
    assert told["errors"] == {"invalidSymbols": ["NOPE"]}
    assert schwab("/quotes", symbols="BRK.B").json() == {}


def test_fields_choose_the_blocks(schwab):
    head = {"assetMainType", "assetSubType", "quoteType", "realtime", "ssid", "symbol"}
    blocks = {"fundamental", "quote", "reference", "regular"}
    assert set(schwab("/quotes", symbols="AAPL").json()["AAPL"]) == head | blocks
    all_of_them = schwab("/quotes", symbols="AAPL", fields="all").json()["AAPL"]
    assert set(all_of_them) == head | blocks | {"extended"}
    two = schwab("/quotes", symbols="AAPL", fields="quote,reference").json()["AAPL"]
    assert set(two) == head | {"quote", "reference"}
    assert schwab("/quotes", symbols="AAPL", fields="news").status_code == 400


def test_outside_regular_hours_there_is_an_extended_block(client, schwab):
    client.post(
        "/control/clock", json={"at": (NOON + timedelta(minutes=10, hours=-12)).isoformat()}
    )
    entry = schwab("/quotes", symbols="AAPL").json()["AAPL"]
    assert entry["extended"]["lastPrice"] == entry["quote"]["lastPrice"]
    assert entry["regular"]["regularMarketLastPrice"] != entry["quote"]["lastPrice"]


def test_an_index_has_no_bid_and_no_regular_block(schwab):
    told = schwab("/quotes", symbols="$SPX,$DJI,$COMPX", fields="all").json()
    assert set(told) == {"$SPX", "$DJI", "$COMPX"}
    for entry in told.values():
        assert {"regular", "extended", "assetSubType", "quoteType"}.isdisjoint(entry)
        assert not [name for name in entry["quote"] if name.startswith(("bid", "ask"))]


def test_one_symbol_by_path(schwab):
    assert set(schwab("/$SPX/quotes").json()) == {"$SPX"}
    assert set(schwab("/AAPL/quotes", fields="quote").json()["AAPL"]) >= {"quote", "symbol"}
    assert schwab("/NOPE/quotes").json() == {"errors": {"invalidSymbols": ["NOPE"]}}
    assert schwab("/BRK%2FB/quotes").status_code == 404  # Schwab wants the batch form


# Bars


def bars(schwab, **params):
    answer = schwab("/pricehistory", **params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_minutes_of_whole_days(schwab):
    told = bars(
        schwab,
        symbol="AAPL",
        periodType="day",
        frequencyType="minute",
        startDate=ms(NOON) - 600_000,
        endDate=ms(NOON),
    )
    stamps = [candle["datetime"] for candle in told["candles"]]
    assert (told["symbol"], told["empty"]) == ("AAPL", False)
    assert stamps[0] == ms(datetime(2026, 11, 24, tzinfo=NEW_YORK))  # widened to the day
    assert stamps[-1] - ms(NOON) < 600_000  # and not beyond now
    assert {b - a for a, b in itertools.pairwise(stamps)} == {60_000}


def test_regular_hours_only(schwab):
    yesterday = ms(datetime(2026, 11, 23, 15, 0, tzinfo=NEW_YORK))
    told = bars(
        schwab, symbol="AAPL", startDate=yesterday, endDate=yesterday, needExtendedHoursData="false"
    )
    assert len(told["candles"]) == 390
    first = datetime.fromtimestamp(told["candles"][0]["datetime"] / 1000, NEW_YORK)
    assert (first.hour, first.minute) == (9, 30)


@pytest.mark.parametrize("minutes", [5, 10, 15, 30])
def test_longer_minutes_hold_the_short_ones(schwab, minutes):
    yesterday = ms(datetime(2026, 11, 23, 15, 0, tzinfo=NEW_YORK))
    span = {"symbol": "F", "startDate": yesterday, "endDate": yesterday}
    short = bars(schwab, **span)["candles"]
    long = bars(schwab, **span, frequency=minutes)["candles"]
    assert len(long) == 1440 // minutes
    part = short[3 * minutes : 4 * minutes]
    assert long[3] == {
        "open": part[0]["open"],
        "high": max(c["high"] for c in part),
        "low": min(c["low"] for c in part),
        "close": part[-1]["close"],
        "volume": sum(c["volume"] for c in part),
        "datetime": part[0]["datetime"],
    }


def test_days_are_stamped_at_midnight_in_chicago(schwab):
    start, end = (ms(datetime(2026, month, 5, tzinfo=CHICAGO)) for month in (6, 11))
    told = bars(
        schwab, symbol="SPY", periodType="year", frequencyType="daily", startDate=start, endDate=end
    )
    stamps = [datetime.fromtimestamp(c["datetime"] / 1000, CHICAGO) for c in told["candles"]]
    assert {(at.hour, at.minute) for at in stamps} == {(0, 0)}
    assert (stamps[0].date().isoformat(), stamps[-1].date().isoformat()) == (
        "2026-06-05",
        "2026-11-05",
    )
    assert len({at.date() for at in stamps}) == len(stamps) == 154


def test_a_day_without_an_end_is_the_last_one_that_is_over(schwab):
    told = bars(schwab, symbol="AAPL", periodType="day", period=1)
    days = {datetime.fromtimestamp(c["datetime"] / 1000, NEW_YORK).date() for c in told["candles"]}
    assert {day.isoformat() for day in days} == {"2026-11-23"}


def test_weeks_and_months_begin_on_their_first_day(schwab):
    weekly = bars(schwab, symbol="AAPL", periodType="month", period=3, frequencyType="weekly")
    stamps = [datetime.fromtimestamp(c["datetime"] / 1000, CHICAGO) for c in weekly["candles"]]
    assert {at.weekday() for at in stamps} == {0}
    monthly = bars(schwab, symbol="AAPL", periodType="year", frequencyType="monthly")
    stamps = [datetime.fromtimestamp(c["datetime"] / 1000, CHICAGO) for c in monthly["candles"]]
    assert {at.day for at in stamps} == {1}
    assert len(stamps) == 13


def test_the_close_before(schwab):
    asked = {"symbol": "AAPL", "periodType": "month", "frequencyType": "daily"}
    told = bars(schwab, **asked, needPreviousClose="true")
    before = datetime.fromtimestamp(told["previousCloseDate"] / 1000, CHICAGO).date()
    first = datetime.fromtimestamp(told["candles"][0]["datetime"] / 1000, CHICAGO).date()
    assert first - before == timedelta(days=1)
    assert told["previousClose"] == pytest.approx(told["candles"][0]["open"], rel=0.01)
    assert "previousClose" not in bars(schwab, **asked)


def test_nothing_is_empty(client, schwab):
    assert bars(schwab, symbol="NOPE") == {"candles": [], "symbol": "NOPE", "empty": True}
    span = {"startDate": ms(NOON) + 9 * DAY, "endDate": ms(NOON) + 10 * DAY}
    assert bars(schwab, symbol="AAPL", **span)["empty"] is True
    assert bars(schwab, symbol="AAPL", periodType="year", frequencyType="daily", **span)["empty"]
    client.post("/control/clock", json={"hours": "nyse"})
    sunday = ms(datetime(2026, 11, 22, 12, 0, tzinfo=NEW_YORK))
    told = bars(schwab, symbol="AAPL", startDate=sunday, endDate=sunday)
    assert told == {"candles": [], "symbol": "AAPL", "empty": True}


def test_history_is_as_deep_as_schwabs(schwab):
    long_ago = ms(NOON) - 400 * DAY
    minutes = bars(schwab, symbol="KO", startDate=long_ago, endDate=ms(NOON), frequency=30)
    assert (ms(NOON) - minutes["candles"][0]["datetime"]) // DAY == 48
    days = bars(schwab, symbol="KO", periodType="year", period=20, frequencyType="daily")
    assert len(days["candles"]) > 20 * 365


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({}, "symbol"),
        ({"symbol": "AAPL", "periodType": "week"}, "periodType"),
        ({"symbol": "AAPL", "period": "7"}, "period"),
        ({"symbol": "AAPL", "frequency": "7"}, "frequency"),
        ({"symbol": "AAPL", "periodType": "day", "frequencyType": "daily"}, "frequencyType"),
        ({"symbol": "AAPL", "startDate": "2026-01-01"}, "startDate"),
        ({"symbol": "AAPL", "startDate": "200", "endDate": "100"}, "startDate"),
        ({"symbol": "AAPL", "needExtendedHoursData": "maybe"}, "needExtendedHoursData"),
    ],
)
def test_a_bad_question_is_refused_by_name(schwab, params, named):
    answer = schwab("/pricehistory", **params)
    assert answer.status_code == 400
    assert error_of(answer)["source"] == {"parameter": [named]}


# The rest of the market data


def test_movers_are_ten_and_in_order(schwab):
    by_volume = schwab("/movers/$SPX").json()["screeners"]
    assert len(by_volume) == 10
    volumes = [row["volume"] for row in by_volume]
    assert volumes == sorted(volumes, reverse=True)
    up = schwab("/movers/$SPX", sort="PERCENT_CHANGE_UP").json()["screeners"]
    changes = [row["netPercentChange"] for row in up]
    assert changes == sorted(changes, reverse=True)
    row = up[0]  # a fraction here, though a percentage in a quote
    assert row["netPercentChange"] == pytest.approx(
        row["netChange"] / (row["lastPrice"] - row["netChange"]), abs=1e-4
    )
    assert len(schwab("/movers/$DJI").json()["screeners"]) == 10
    assert schwab("/movers/OPTION_ALL").json() == {"screeners": []}
    assert schwab("/movers/NOPE").status_code == 404
    assert schwab("/movers/$SPX", sort="NAME").status_code == 400


def test_movers_of_a_closed_market_forget_the_close(client, schwab):
    client.post("/control/clock", json={"hours": "nyse", "at": "2026-11-24T21:10:00Z"})
    headers = {"Authorization": f"Bearer {tokens(client).json()['access_token']}"}
    rows = client.get(f"{DATA}/movers/$SPX", headers=headers).json()["screeners"]
    assert all(
        row["netChange"] == row["lastPrice"] and row["netPercentChange"] == 1.0 for row in rows
    )


def test_hours_open_closed_and_short(schwab):
    regular = schwab("/markets/equity", date="2026-11-25").json()["equity"]["EQ"]["sessionHours"]
    assert regular["regularMarket"] == [
        {"start": "2026-11-25T09:30:00-05:00", "end": "2026-11-25T16:00:00-05:00"}
    ]
    assert schwab("/markets", markets="equity", date="2026-11-26").json() == {
        "equity": {
            "equity": {
                "date": "2026-11-26",
                "marketType": "EQUITY",
                "product": "equity",
                "isOpen": False,
            }
        }
    }
    short = schwab("/markets", markets="equity,option", date="2026-11-27").json()
    (hours,) = short["equity"]["EQ"]["sessionHours"]["regularMarket"]
    assert hours["end"] == "2026-11-27T13:00:00-05:00"
    (hours,) = short["option"]["IND"]["sessionHours"]["regularMarket"]
    assert hours["end"] == "2026-11-27T13:15:00-05:00"
    today = schwab("/markets/equity").json()["equity"]["EQ"]
    assert (today["date"], today["isOpen"]) == ("2026-11-24", True)
    assert schwab("/markets", markets="horses").status_code == 400
    assert schwab("/markets", markets="equity", date="tomorrow").status_code == 400


def test_instruments_are_found(schwab):
    def symbols(**params):
        return [row["symbol"] for row in schwab("/instruments", **params).json()["instruments"]]

    assert symbols(symbol="AAPL,NOPE,BRK/B", projection="symbol-search") == ["AAPL", "BRK/B"]
    assert "AMZN" in symbols(symbol="AM.*", projection="symbol-regex")
    assert symbols(symbol="apple inc", projection="desc-search") == ["AAPL"]
    assert "JPM" in symbols(symbol="^jp.*chase", projection="desc-regex")
    assert symbols(symbol="NVD", projection="search") == ["NVDA"]
    assert symbols(symbol="NOPE", projection="fundamental") == []
    assert schwab("/instruments", symbol="A", projection="guess").status_code == 400
    assert schwab("/instruments", symbol="(", projection="symbol-regex").status_code == 400
    assert schwab("/instruments", projection="search").status_code == 400
    assert schwab("/instruments/000000000").status_code == 404


def test_what_schwab_does_not_have_is_not_found(schwab):
    answer = schwab("/nothing", symbol="AAPL")
    assert answer.status_code == 404
    assert error_of(answer)["title"] == "Not Found"


# Faults


def quoted(client, schwab, **rule):
    """Put a fault in force and ask for a quote."""
    client.post("/control/faults", json={"vendor": "schwab", **rule}).raise_for_status()
    return schwab("/quotes", symbols="AAPL,MSFT,SPY")


def test_latency_delays_and_then_answers(client, schwab):
    started = time.perf_counter()
    answer = quoted(client, schwab, kind="latency", seconds=0.3)
    assert time.perf_counter() - started >= 0.3
    assert set(answer.json()) == {"AAPL", "MSFT", "SPY"}


@pytest.mark.parametrize("status", [400, 401, 404, 500, 503])
def test_a_status_comes_in_schwabs_words(client, schwab, status):
    answer = quoted(client, schwab, kind="status", status=status)
    assert answer.status_code == status
    assert error_of(answer)["title"]
    assert answer.headers["schwab-resource-version"] == "1"


def test_502_is_the_gateways_word(client, schwab):
    answer = quoted(client, schwab, kind="status", status=502)
    assert answer.json()["fault"]["detail"]["errorcode"] == "protocol.http.TooBigBody"


def test_throttling_does_not_say_for_how_long(client, schwab):
    answer = quoted(client, schwab, kind="throttle")
    assert answer.status_code == 429
    assert "retry-after" not in answer.headers
    assert error_of(answer)["title"] == "Too Many Requests"


def test_garbage_is_json_that_ends_early(client, schwab):
    answer = quoted(client, schwab, kind="garbage")
    assert answer.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        answer.json()


@pytest.mark.parametrize("status", [None, 403])
def test_html_is_the_gateways_page(client, schwab, status):
    rule = {"status": status} if status else {}
    answer = quoted(client, schwab, kind="html", **rule)
    assert answer.status_code == (status or 200)
    assert answer.headers["content-type"].startswith("text/html")
    assert "<TITLE>Access Denied</TITLE>" in answer.text


def test_a_hang_lasts_until_the_client_leaves(client, schwab):
    client.post("/control/faults", json={"vendor": "schwab", "kind": "hang"})
    with pytest.raises(httpx.ReadTimeout):
        client.get(f"{DATA}/quotes", timeout=0.3)


def test_a_hang_may_end(client):
    client.post("/control/faults", json={"vendor": "schwab", "kind": "hang", "seconds": 0.2})
    started = time.perf_counter()
    assert tokens(client).status_code == 200  # the form is not lost meanwhile
    assert time.perf_counter() - started >= 0.2


def test_a_cut_ends_the_connection_within_the_body(client, schwab):
    client.post("/control/faults", json={"vendor": "schwab", "kind": "cut"})
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        schwab("/quotes", symbols="AAPL")
    client.delete("/control/faults")
    assert schwab("/quotes", symbols="AAPL").status_code == 200


def test_numbers_that_are_none_are_strewn_in(client, schwab):
    client.post("/control/faults", json={"vendor": "schwab", "kind": "nan"})
    told = schwab("/quotes", symbols=",".join(UNIVERSE[:60]), fields="quote").json()
    values = [value for entry in told.values() for value in entry.get("quote", {}).values()]
    assert {-999.0, "NaN", None} <= {v for v in values if isinstance(v, int | float | str | None)}
    assert len({len(entry["quote"]) for entry in told.values()}) > 1  # keys are missing too
    healthy = [v for v in values if isinstance(v, int | float) and v not in {-999.0}]
    assert len(healthy) > len(values) / 2
    assert tokens(client).json()["expires_in"] == 1800  # tokens are left alone


def test_a_fault_strikes_as_often_as_it_says(client, schwab):
    client.post("/control/faults", json={"vendor": "schwab", "kind": "throttle", "count": 2})
    statuses = [schwab("/quotes", symbols="AAPL").status_code for _ in range(4)]
    assert statuses == [429, 429, 200, 200]
    assert client.get("/control/faults").json() == {"faults": []}


def test_a_fault_strikes_at_its_rate(client, schwab):
    rule = {"vendor": "schwab", "kind": "status", "status": 503, "rate": 0.5}
    client.post("/control/faults", json=rule)
    statuses = [schwab("/quotes", symbols="F", fields="quote").status_code for _ in range(60)]
    assert 12 < statuses.count(503) < 48
    assert set(statuses) == {200, 503}


def test_a_fault_keeps_to_its_path_and_vendor(client, schwab):
    rules = [
        {"vendor": "schwab", "kind": "throttle", "path": "/pricehistory"},
        {"vendor": "tiingo", "kind": "throttle"},
    ]
    told = client.post("/control/faults", json=rules).json()["faults"]
    assert [rule["kind"] for rule in told] == ["throttle", "throttle"]
    assert schwab("/quotes", symbols="AAPL").status_code == 200
    assert schwab("/pricehistory", symbol="AAPL").status_code == 429
    assert client.delete(f"/control/faults/{told[0]['id']}").status_code == 200
    assert schwab("/pricehistory", symbol="AAPL", periodType="year").status_code == 200
    assert client.post("/control/faults", json=[]).json() == {"faults": []}


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ({"kind": "latency"}, "vendor"),
        ({"vendor": "schwab", "kind": "fire"}, "kind"),
        ({"vendor": "schwab", "kind": ["hang"]}, "kind"),
        ({"vendor": {}, "kind": "hang"}, "vendor"),
        ({"vendor": "schwab", "kind": "latency", "rate": 2}, "rate"),
        ({"vendor": "schwab", "kind": "latency", "seconds": "long"}, "seconds"),
        ({"vendor": "schwab", "kind": "status"}, "status"),
        ({"vendor": "schwab", "kind": "hang", "count": 0}, "count"),
        ({"vendor": "schwab", "kind": "hang", "when": 1}, "when"),
        ("hang", "fault"),
    ],
)
def test_a_bad_fault_is_refused_by_name(client, rule, field):
    answer = client.post("/control/faults", json=rule)
    assert answer.status_code == 422
    told = answer.json()
    assert told["field"] == field
    assert told["remedy"]
    assert client.get("/control/faults").json() == {"faults": []}


# Controls


def test_a_price_goes_where_it_is_sent(client, schwab):
    sent = {"symbol": "KO", "price": 81.25}
    assert client.post("/control/prices", json=sent).json() == {"symbol": "KO", "last": 81.25}
    quote = schwab("/quotes", symbols="KO").json()["KO"]["quote"]
    assert quote["lastPrice"] == pytest.approx(81.25, rel=0.005)
    truth = client.get("/control/truth/KO").json()
    assert truth["last"] == pytest.approx(81.25, rel=0.005)
    assert {"symbol", "base", "volatility", "beta", "last", "day_volume"} <= set(truth)
    assert client.post("/control/prices", json={"symbol": "BRK/B", "price": 500}).status_code == 200
    assert client.get("/control/truth/NOPE").status_code == 404


@pytest.mark.parametrize(
    ("sent", "status", "field"),
    [
        ({"symbol": "NOPE", "price": 5}, 404, None),
        ({"symbol": "AAPL", "price": "high"}, 422, "price"),
        ({"symbol": "AAPL", "price": 0}, 422, "price"),
        ({"symbol": "AAPL", "price": True}, 422, "price"),
        ({"price": 5}, 422, "symbol"),
        ([], 422, "body"),
    ],
)
def test_a_bad_price_is_refused_by_name(client, sent, status, field):
    answer = client.post("/control/prices", json=sent)
    assert answer.status_code == status
    assert answer.json().get("field") == field


def test_a_body_that_is_not_json_is_refused(client):
    for body in (b"", b"{", b"\xff\xfe", b'{"symbol":"AAPL","price":NaN}'):
        answer = client.post("/control/prices", content=body)
        assert answer.status_code == 422
        assert answer.json()["field"] == "body"


def test_the_clock_is_set(client):
    told = client.post(
        "/control/clock", json={"at": "2026-11-28T12:00:00-05:00", "speed": 0}
    ).json()
    assert told["at"] == "2026-11-28T17:00:00.000+00:00"
    assert (told["speed"], told["open"], told["wall"]) == (0, True, False)
    assert client.post("/control/clock", json={"hours": "nyse"}).json()["open"] is False
    told = client.post("/control/clock", json={"at": "now"}).json()
    assert told["wall"] is True
    for bad, field in (
        ({"at": "noon"}, "at"),
        ({"at": "2026-11-24T12:00:00"}, "at"),
        ({"speed": -1}, "speed"),
        ({"hours": "late"}, "hours"),
        ({"zone": "UTC"}, "zone"),
        ({}, "at"),
    ):
        answer = client.post("/control/clock", json=bad)
        assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_requests_are_counted(client, schwab):
    client.post("/control/requests/reset")
    schwab("/quotes", symbols="AAPL")
    schwab("/quotes", symbols="AAPL,MSFT")
    schwab("/nothing")
    told = client.get("/control/requests").json()
    counts = told["vendors"]["schwab"]
    assert (told["total"], counts["total"]) == (3, 3)
    assert counts["paths"] == {"/marketdata/v1/quotes": 2, "/marketdata/v1/nothing": 1}
    assert counts["statuses"] == {"200": 2, "404": 1}


def test_the_console_shows_and_does(client):
    page = client.get("/", params={"q": "app"})
    assert page.headers["content-type"].startswith("text/html")
    assert "AAPL" in page.text
    assert "http" not in re.sub(r"https?-equiv", "", page.text)  # nothing from elsewhere
    hostile = client.get("/", params={"q": '"><script>', "said": "<script>"}).text
    assert "<script>" not in hostile

    def press(path, **form):
        answer = client.post(path, data=form)
        assert answer.status_code == 303
        return client.get(answer.headers["location"]).text

    assert "hang is in force" in press("/console/faults", vendor="schwab", kind="hang", count="2")
    assert len(client.get("/control/faults").json()["faults"]) == 1
    assert "No fault is in force" in press("/console/faults/remove")
    assert "PEP stands at 160.50" in press("/console/prices", symbol="PEP", price="160.5")
    assert "no symbol NOPE" in press("/console/prices", symbol="NOPE", price="1")
    assert "type a number" in press("/console/prices", symbol="PEP", price="much")
    assert "The clock says" in press("/console/clock", at="2026-11-24T18:00:00Z", speed="1")
    assert "Counting from nothing" in press("/console/requests/reset")


def test_elsewhere_there_is_nothing(client):
    assert client.get("/nope").status_code == 404
    assert client.get("/control/prices").status_code == 405
    assert client.get("/nobody/iex/").status_code == 404
    assert client.get("/schwab/trader/v1/accounts").status_code == 404


# The shape of recorded answers

FIXTURES = {
    "quote_NVDA.json": ("/quotes", {"symbols": ",".join(UNIVERSE[10:60]), "fields": "all"}),
    "quote_SPX_index.json": ("/quotes", {"symbols": "$SPX"}),
    "schwabdev_docs_quotes.json": ("/quotes", {"symbols": ",".join(UNIVERSE[:60])}),
    "schwabdev_docs_quote.json": ("/INTC/quotes", {}),
    "movers_basic.json": ("/movers/$SPX", {}),
    "schwabdev_docs_movers.json": ("/movers/$DJI", {}),
    "market_hours_all.json": (
        "/markets",
        {"markets": "equity,option,bond,future,forex", "date": "2025-07-20"},
    ),
    "market_hours_equity.json": ("/markets/equity", {"date": "2025-07-20"}),
    "market_hours_future_date.json": (
        "/markets",
        {"markets": "equity,option", "date": "2025-07-21"},
    ),
    "schwabdev_docs_market_hour.json": ("/markets/equity", {"date": "2024-10-18"}),
    "schwabdev_docs_market_hours.json": (
        "/markets",
        {"markets": "equity,option", "date": "2024-10-18"},
    ),
    "price_history_daily.json": (
        "/pricehistory",
        {"symbol": "SPY", "periodType": "month", "frequencyType": "daily"},
    ),
    "schwabdev_docs_price_history.json": (
        "/pricehistory",
        {"symbol": "AAPL", "periodType": "year", "frequencyType": "monthly"},
    ),
    "schwabdev_docs_instruments.json": (
        "/instruments",
        {"symbol": ",".join(UNIVERSE[10:60]), "projection": "fundamental"},
    ),
    "schwabdev_docs_instrument_cusip.json": ("/instruments/{cusip}", {}),
}
ELSEWHERE = {  # in test_sandbox_schwab_chains
    "chain_AAPL_2025-01-16.json",
    "chain_SPX_2025-05-20.json",
    "meta_option_quote.json",
    "option_expiration_chain.json",
    "quote_NVDA_option_250307P00095000.json",
    "schwabdev_docs_option_expiration_chain.json",
    "schwab_market_data.openapi.json",  # the portal's text, wrong about names
}
OPTIONAL = re.compile(  # what Schwab itself leaves out for some companies and hours
    r"(htbQuantity|declarationDate|(next)?[dD]iv\w*Date|nextDividendDate|dividend\w*Date"
    r"|lastEarningsDate|extended(\.\w+)?)$"
)


def shape(value, at="", *, keyed=False):
    """Return every path of a JSON value with the types found there; `keyed` names are data."""
    found = {at: {type(value).__name__}} if at else {}
    if isinstance(value, dict):
        inner = [(f"{at}.{'*' if keyed else name}", one) for name, one in value.items()]
    elif isinstance(value, list):
        inner = [(f"{at}[]", one) for one in value]
    else:
        inner = []
    for path, one in inner:
        for deeper, types in shape(one, path).items():
            found.setdefault(deeper, set()).update(types)
    return found


@pytest.mark.skipif(not RECORDED.is_dir(), reason=f"no recorded payloads in {RECORDED}")
@pytest.mark.parametrize("name", FIXTURES)
def test_an_answer_has_the_shape_of_the_recorded_one(schwab, name, record_property):
    path, params = FIXTURES[name]
    if "{cusip}" in path:
        found = schwab("/instruments", symbol="AAPL", projection="symbol-search").json()
        path = path.format(cusip=found["instruments"][0]["cusip"])
    recorded = json.loads((RECORDED / name).read_text())
    answer = schwab(path, **params)
    assert answer.status_code == 200
    keyed = "quotes" in path
    theirs, ours = shape(recorded, keyed=keyed), shape(answer.json(), keyed=keyed)
    if keyed and "$SPX" in params.get("symbols", ""):
        assert not [path for path in ours if "bid" in path or "ask" in path]
    odd = {path for path in theirs.keys() ^ ours.keys() if OPTIONAL.search(path)}
    if odd:
        record_property("optional", sorted(odd))
        print(f"{name}: on one side only, and optional: {sorted(odd)}")  # noqa: T201
    assert theirs.keys() - odd == ours.keys() - odd
    different = {
        path: (theirs[path], ours[path])
        for path in theirs.keys() & ours.keys()
        if theirs[path] != ours[path]
    }
    assert not different


@pytest.mark.skipif(not RECORDED.is_dir(), reason=f"no recorded payloads in {RECORDED}")
def test_every_recorded_payload_is_compared():
    assert {path.name for path in RECORDED.glob("*.json")} == FIXTURES.keys() | ELSEWHERE


def test_a_token_is_opaque_but_not_kept(client):
    first, second = (tokens(client).json()["access_token"] for _ in range(2))
    assert first != second
    inner = base64.urlsafe_b64decode(first[3:-1] + "==").decode(errors="replace")
    assert "app-key" not in inner
    assert "secret" not in inner
