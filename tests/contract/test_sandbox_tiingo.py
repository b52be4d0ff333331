"""The sandbox as Tiingo: raw requests as its clients send them, and the adapter through the door."""

import csv
import io
import json
import os
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from actors.domain import calendar
from actors.domain.models import Timeframe
from actors.domain.universe import seed
from actors.providers.base import Denied, RateLimited, Unsupported
from actors.providers.tiingo import Tiingo, refusal
from sandbox.company import dividends
from sandbox.days import Hours
from sandbox.market import Market
from sandbox.tiingo import error_answer
from tests.contract.asking import NOON, Still, soon

RECORDED = (
    Path(os.environ.get("VOLARIS_FIXTURES") or Path(__file__).parents[3] / "shared" / "fixtures")
    / "tiingo"
)
UNIVERSE = [ticker.symbol for ticker in seed()]
MARKET = Market(7, Hours.NYSE)
NOON_MS = int(NOON.timestamp() * 1000)


@pytest.fixture(scope="module")
def still() -> Still:
    return Still()


@pytest.fixture
async def client(still: Still) -> AsyncIterator[httpx.AsyncClient]:
    async with still.client(Authorization="Token any-key") as client:
        yield client


@pytest.fixture
async def rich(still: Still) -> AsyncIterator[httpx.AsyncClient]:
    async with still.client(Authorization="Token paid-key") as client:
        yield client


async def told(client: httpx.AsyncClient, path: str, **params: str) -> Any:
    answer = await client.get(f"/tiingo{path}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


# --- the wire ----------------------------------------------------------------------------------------


async def test_a_token_is_needed_in_either_place(still: Still) -> None:
    async with still.client() as client:
        refused = [
            await client.get("/tiingo/api/test"),
            await client.get("/tiingo/api/test", params={"token": ""}),
            await client.get("/tiingo/api/test", headers={"Authorization": "Token "}),
            await client.get("/tiingo/api/test", headers={"Authorization": "Bearer k"}),
        ]
        for answer in refused:
            assert answer.status_code == 401
            assert type(refusal(401, answer.json())) is Denied
        for params, headers in (({"token": "k"}, {}), ({}, {"Authorization": "Token k"})):
            answer = await client.get("/tiingo/api/test", params=params, headers=headers)
            assert answer.json() == {"message": "You successfully sent a request"}


async def test_without_its_slash_a_path_is_redirected(client: httpx.AsyncClient) -> None:
    for path in ("/iex", "/tiingo/equity/intraday"):
        answer = await client.get(f"/tiingo{path}?tickers=aapl")
        assert answer.status_code == 301
        assert answer.headers["location"] == f"/tiingo{path}/?tickers=aapl"
        followed = await client.get(f"/tiingo{path}?tickers=aapl", follow_redirects=True)
        assert followed.json()[0]["ticker"] == "AAPL"
    for path in ("/tiingo/daily/aapl", "/tiingo/daily/aapl/"):
        assert (await told(client, path))["ticker"] == "AAPL"


@pytest.mark.parametrize(
    ("path", "params", "status"),
    [
        ("/nowhere", {}, 404),
        ("/tiingo/daily/NOPE", {}, 404),
        ("/tiingo/daily/NOPE/prices", {}, 404),
        ("/tiingo/daily/BRK.B", {}, 404),
        ("/tiingo/daily/AAPL/prices", {"startDate": "yesterday"}, 400),
        ("/tiingo/daily/AAPL/prices", {"resampleFreq": "hourly", "startDate": "2026-11-02"}, 400),
        ("/iex/AAPL/prices", {"resampleFreq": "daily"}, 400),
        ("/tiingo/utilities/search", {}, 400),
        ("/tiingo/news", {}, 403),
        ("/tiingo/news/bulk_download", {}, 403),
        ("/tiingo/fundamentals/SPY/daily", {}, 404),
        ("/tiingo/fundamentals/NVR/daily", {}, 400),
    ],
)
async def test_what_cannot_be_asked(
    client: httpx.AsyncClient, path: str, params: dict[str, str], status: int
) -> None:
    answer = await client.get(f"/tiingo{path}", params=params)
    assert answer.status_code == status
    assert list(answer.json()) == ["detail"]


def test_errors_are_in_its_words_and_the_adapter_reads_them() -> None:
    for status, kind in {401: Denied, 403: Unsupported, 429: RateLimited}.items():
        assert type(refusal(status, json.loads(error_answer(status)[0]))) is kind
    assert b"run over your hourly request allocation" in error_answer(429)[0]
    assert error_answer(503)[0].startswith(b"<h1>")


async def test_a_spent_month_is_said_with_200(still: Still) -> None:
    async with still.client(Authorization="Token spent-key") as client:
        answer = await client.get("/tiingo/iex/?tickers=aapl")
    assert answer.status_code == 200
    assert "500 symbol look up" in answer.json()["detail"]


async def test_quotes_are_the_markets_in_another_order(
    client: httpx.AsyncClient, rich: httpx.AsyncClient
) -> None:
    quotes = MARKET.quotes(NOON_MS)
    rows = await told(client, "/iex/", tickers="spy,AAPL,brk-b,BRK.B,nope,msft,t,ko")
    tickers = [row["ticker"] for row in rows]
    assert sorted(tickers) == ["AAPL", "BRK-B", "KO", "MSFT", "SPY", "T"]
    assert tickers != sorted(tickers, key=["SPY", "AAPL", "BRK-B", "MSFT", "T", "KO"].index)
    for row in rows:
        i = MARKET.index[row["ticker"].replace("-", ".")]
        assert (row["tngoLast"], row["volume"]) == (quotes.last[i], quotes.volume[i])
        assert row["prevClose"] == quotes.previous_close[i]
        assert row["last"] is row["bidPrice"] is row["askPrice"] is row["mid"] is None
        assert re.fullmatch(r"2026-11-24T12:00:00\.\d{9}-05:00", row["timestamp"])
    (agreed,) = await told(rich, "/iex/", tickers="AAPL")
    assert agreed["bidPrice"] < agreed["askPrice"]
    assert await told(client, "/iex/", tickers="nope") == []
    assert len(await told(client, "/iex/")) == len(UNIVERSE)
    assert [row["ticker"] for row in await told(client, "/iex/aapl")] == ["AAPL"]


async def test_after_the_close_times_are_in_utc() -> None:
    async with Still(datetime(2026, 7, 1, 1, tzinfo=UTC)).client(Authorization="Token k") as client:
        (row,) = await told(client, "/iex/", tickers="AAPL")
    assert row["timestamp"] == "2026-06-30T20:00:00+00:00"


async def test_the_beta_counts_a_part_of_the_tape(client: httpx.AsyncClient) -> None:
    (whole,) = await told(client, "/iex/", tickers="AAPL")
    (part,) = await told(client, "/tiingo/equity/intraday/", tickers="AAPL")
    assert part["volume"] == pytest.approx(whole["volume"] * 0.045, abs=1)
    rows = await told(client, "/tiingo/equity/intraday/")
    assert 0 < sum(row["lqBidPrice"] is None for row in rows) < len(rows) / 5


@pytest.mark.skipif(not RECORDED.is_dir(), reason=f"no recordings in {RECORDED}")
@pytest.mark.parametrize(
    ("name", "path", "params"),
    [
        ("iex_quotes_multi.json", "/iex/", {"tickers": "AAPL,MSFT"}),
        ("equity_intraday_AAPL_SPY.json", "/tiingo/equity/intraday/", {"tickers": "AAPL,SPY"}),
        ("eod_prices_AAPL.json", "/tiingo/daily/AAPL/prices", {"startDate": "2026-11-20"}),
        ("ticker_price.json", "/tiingo/daily/AAPL/prices", {}),
        (
            "ticker_price_with_volume_column.json",
            "/tiingo/daily/AAPL/prices",
            {"columns": "volume"},
        ),
        (
            "iex_prices_AAPL_5min_volume.json",
            "/iex/AAPL/prices",
            {"columns": "open,high,low,close,volume"},
        ),
        ("intraday_price.json", "/iex/AAPL/prices", {"resampleFreq": "30min"}),
        ("ticker_metadata.json", "/tiingo/daily/AAPL", {}),
        ("fundamentals_daily.json", "/tiingo/fundamentals/AAPL/daily", {}),
        ("fundamentals_statements.json", "/tiingo/fundamentals/AAPL/statements", {}),
        ("fundamentals_definitions.json", "/tiingo/fundamentals/definitions", {}),
        ("search_apple.json", "/tiingo/utilities/search", {"query": "apple"}),
    ],
)
async def test_every_answer_has_the_recorded_names_and_kinds(
    client: httpx.AsyncClient, name: str, path: str, params: dict[str, str]
) -> None:
    recorded = json.loads((RECORDED / name).read_text(encoding="utf-8"))
    answer = await told(client, path, **params)
    assert answer
    ours, theirs = (body[0] if isinstance(body, list) else body for body in (answer, recorded))
    assert set(ours) == set(theirs)
    for field, value in theirs.items():
        if value is not None and ours[field] is not None:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            assert isinstance(ours[field], int | float if number else type(value))
        if field == "date":  # the same form, whatever the day
            assert re.sub(r"\d", "0", ours[field]) == re.sub(r"\d", "0", value)


@pytest.mark.skipif(not RECORDED.is_dir(), reason=f"no recordings in {RECORDED}")
async def test_news_has_the_recorded_names(rich: httpx.AsyncClient) -> None:
    recorded = json.loads((RECORDED / "news.json").read_text(encoding="utf-8"))
    first, second = await told(rich, "/tiingo/news", tickers="aapl,brk-b", limit="2")
    assert set(first) == set(recorded[0]) - {"sourceDate"}  # gone since it was recorded
    assert {"aapl", "brk-b"} & set(first["tickers"])
    assert await told(rich, "/tiingo/news", tickers="aapl,brk-b", limit="1", offset="1") == [second]
    listed = [
        ("tickers", "aapl"),
        ("tickers", "brk-b"),
        ("limit", "2"),
    ]  # as its own client sends it
    assert (await rich.get("/tiingo/tiingo/news", params=listed)).json() == [first, second]
    one = {"startDate": "2026-11-20", "endDate": "2026-11-20"}
    for story in await told(rich, "/tiingo/news", **one):
        assert story["publishedDate"].startswith("2026-11-20T")


@pytest.mark.skipif(not RECORDED.is_dir(), reason=f"no recordings in {RECORDED}")
async def test_csv_has_the_recorded_header(client: httpx.AsyncClient) -> None:
    query = {"startDate": "2026-11-19", "endDate": "2026-11-20", "format": "csv"}
    answer = await client.get("/tiingo/tiingo/daily/AAPL/prices", params=query)
    assert answer.headers["content-type"].startswith("text/csv")
    recorded = (RECORDED / "ticker_price_with_date_csv.csv").read_text(encoding="utf-8")
    assert answer.text.splitlines()[0] == recorded.splitlines()[0]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["date"] for row in rows] == ["2026-11-19", "2026-11-20"]
    told_of = await told(client, "/tiingo/daily/AAPL/prices", **(query | {"format": "json"}))
    assert [float(row["close"]) for row in rows] == [row["close"] for row in told_of]


async def test_days_are_adjusted_for_dividends(client: httpx.AsyncClient) -> None:
    listing = MARKET.listings[MARKET.index["SPY"]]
    rows = await told(client, "/tiingo/daily/SPY/prices", startDate="2026-01-01")
    by_day = {row["date"][:10]: row for row in rows}
    paid = list(dividends(listing, datetime(2026, 1, 1).date(), datetime(2026, 11, 23).date()))
    assert len(paid) in {3, 4}
    for day, cash in paid:
        row = by_day[day.isoformat()]
        before = rows[rows.index(row) - 1]
        assert row["divCash"] == cash > 0
        whole = before["close"] / row["close"] * (row["adjClose"] / before["adjClose"])
        assert whole == pytest.approx(1 / (1 - cash / before["close"]), rel=1e-6)
    assert rows[-1]["adjClose"] == rows[-1]["close"]
    # The last bar is yesterday's until half past five.
    assert rows[-1]["date"] == "2026-11-23T00:00:00.000Z"
    (last,) = await told(client, "/tiingo/daily/SPY/prices")
    assert last == rows[-1] | {"date": "2026-11-23T00:00:00+00:00"}


@pytest.mark.parametrize(
    ("at", "last"), [(datetime(2026, 11, 24, 22, 29, tzinfo=UTC), "23"), (datetime(2026, 11, 24, 22, 30, tzinfo=UTC), "24")]
)  # fmt: skip
async def test_a_days_bar_is_final_at_half_past_five(at: datetime, last: str) -> None:
    async with Still(at).client(Authorization="Token k") as client:
        (row,) = await told(client, "/tiingo/daily/AAPL/prices")
    assert row["date"].startswith(f"2026-11-{last}")


async def test_weeks_and_months_are_made_of_days(client: httpx.AsyncClient) -> None:
    query = {"startDate": "2026-09-01", "endDate": "2026-10-31"}
    days = await told(client, "/tiingo/daily/AAPL/prices", **query)
    for frequency, count in (("weekly", 9), ("monthly", 2), ("annually", 1)):
        rows = await told(client, "/tiingo/daily/AAPL/prices", **query, resampleFreq=frequency)
        assert len(rows) == count
        assert sum(row["volume"] for row in rows) == sum(day["volume"] for day in days)
        assert max(row["high"] for row in rows) == max(day["high"] for day in days)
        assert (rows[0]["open"], rows[-1]["close"]) == (days[0]["open"], days[-1]["close"])


async def test_minutes_are_the_newest_two_thousand(client: httpx.AsyncClient) -> None:
    query = {"startDate": "1990-01-01", "resampleFreq": "1min"}
    rows = await told(client, "/iex/AAPL/prices", **query)
    assert len(rows) == 2000
    assert set(rows[0]) == {"date", "open", "high", "low", "close"}  # no volume unless it is named
    assert rows[-1]["date"] == "2026-11-24T17:00:00.000Z"
    assert len(await told(client, "/tiingo/equity/intraday/AAPL/prices", **query)) == 10_000
    assert await told(client, "/iex/NOPE/prices", **query) == []


# --- through the adapter -----------------------------------------------------------------------------


@pytest.fixture
async def tiingo(still: Still, tmp_path: Path) -> AsyncIterator[Tiingo]:
    made = still.adapter(Tiingo, "any-tiingo-key", tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def paid(still: Still, tmp_path: Path) -> AsyncIterator[Tiingo]:
    made = still.adapter(Tiingo, "paid-tiingo-key", tmp_path)
    yield made
    await made.close()


async def test_the_universe_in_one_request(tiingo: Tiingo, paid: Tiingo) -> None:
    batch = await tiingo.quotes([*UNIVERSE, "NOPE"], soon())
    assert [quote.symbol for quote in batch.quotes] == UNIVERSE
    assert batch.unknown == ("NOPE",)
    assert all(quote.bid is None and quote.last for quote in batch.quotes)
    assert all(abs(quote.at - NOON) < timedelta(seconds=1) for quote in batch.quotes)
    assert (await tiingo.quotes([], soon())).quotes == ()
    (quote,) = (await paid.quotes(["AAPL"], soon())).quotes
    assert quote.bid
    assert quote.ask
    assert quote.bid < quote.ask


async def test_days(tiingo: Tiingo) -> None:
    start, end = NOON - timedelta(days=70), NOON - timedelta(days=30)
    page = await tiingo.bars(["BRK.B"], Timeframe.DAY, start, end, soon())
    sessions = [calendar.session(start.date() + timedelta(days=n)) for n in range(1, 41)]
    assert [bar.at.date() for bar in page.bars] == [s.day for s in sessions if s]
    market = MARKET.days("BRK.B", page.bars[0].at.date(), page.bars[-1].at.date(), NOON_MS)
    assert [bar.close for bar in page.bars] == market.close.tolist()
    assert [bar.volume for bar in page.bars] == market.volume.tolist()
    unknown = await tiingo.bars(["NOPE"], Timeframe.DAY, start, end, soon())
    assert (unknown.bars, unknown.unknown) == ((), ("NOPE",))


@pytest.mark.parametrize(
    ("timeframe", "pages", "each"), [(Timeframe.MINUTE, 3, 390), (Timeframe.FIVE_MINUTES, 1, 78)]
)
async def test_minutes(tiingo: Tiingo, timeframe: Timeframe, pages: int, each: int) -> None:
    start, end = (datetime(2026, 11, day, tzinfo=UTC) for day in (2, 21))
    bars, page, asked = [], None, 0
    while True:
        found = await tiingo.bars(["AAPL"], timeframe, start, end, soon(), page)
        asked += 1
        bars += found.bars
        if (page := found.next) is None:
            break
    assert asked == pages
    assert len(bars) == 15 * each
    assert [bar.at for bar in bars] == sorted({bar.at for bar in bars})
    assert all(bar.volume for bar in bars[:50])


async def test_profiles(tiingo: Tiingo, paid: Tiingo) -> None:
    apple = await tiingo.profile("AAPL", soon())
    assert apple is not None
    assert apple.market_cap
    assert apple.pe
    assert apple.description
    other = await tiingo.profile("NVR", soon())  # not of the Dow
    assert other is not None
    assert (other.name is None, other.market_cap) == (False, None)
    bought = await paid.profile("NVR", soon())
    assert bought is not None
    assert bought.market_cap
    fund = await tiingo.profile("SPY", soon())
    assert fund is not None
    assert fund.market_cap is None
    assert await tiingo.profile("NOPE", soon()) is None


async def test_stories(tiingo: Tiingo, paid: Tiingo) -> None:
    since = NOON - timedelta(days=14)
    with pytest.raises(Unsupported):
        await tiingo.news(["AAPL"], since, 10, soon())
    stories = await paid.news(["AAPL", "BRK.B"], since, 10, soon())
    assert len(stories) == 10
    assert all({"AAPL", "BRK.B"} & set(story.symbols) for story in stories)
    times = [story.at for story in stories]
    assert times == sorted(times, reverse=True)
    assert len(await paid.news([], since, 10, soon())) == 10


async def test_a_spent_month_is_a_limit_and_pauses(still: Still, tmp_path: Path) -> None:
    spent = still.adapter(Tiingo, "spent-tiingo-key", tmp_path)
    with pytest.raises(RateLimited) as caught:
        await spent.quotes(["AAPL"], soon())
    assert "spent-tiingo-key" not in repr(caught.value)
    with pytest.raises(
        RateLimited
    ):  # without asking: the deadline lies before the end of the pause
        await spent.bars(["AAPL"], Timeframe.DAY, NOON - timedelta(days=9), NOON, soon())
    await spent.close()
