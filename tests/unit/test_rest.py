"""The routes of the market over actors that answer from a table: shapes, limits, and what is away or old."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from actors.client import DeadlineExceeded, Tree, Unreachable
from actors.domain.bars import trading_day
from actors.domain.calendar import session
from actors.domain.errors import UnknownSymbol
from actors.domain.models import (
    Bar,
    Earnings,
    Mover,
    Movers,
    Profile,
    Quote,
    Ranking,
    Recommendations,
    Session,
    Sourced,
    Story,
    Ticker,
    Timeframe,
)
from actors.providers.base import RateLimited, Unsupported
from api.answers import LastAnswers
from api.app import create_app

NOW = datetime.now(UTC)
TODAY = trading_day(NOW)
AT = NOW - timedelta(seconds=40)


class Table:
    """A line to actors that answer from a table: a value, an error, or what a function makes of the call."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    async def ask(
        self, child: str, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], _: float
    ) -> Any:
        self.asked.append((f"{child}.{method}", args, kwargs))
        answer = self.answers[f"{child}.{method}"]
        answer = answer(*args, **kwargs) if callable(answer) else answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def away(self, child: str) -> None:
        for name in self.answers:
            if name.startswith(child):
                self.answers[name] = Unreachable(child, "it is restarting", 2.0)


def quote(symbol: str, **fields: Any) -> Quote | UnknownSymbol:
    if symbol == "NOPE":
        return UnknownSymbol(symbol)
    usual: dict[str, Any] = {
        "last": 110.0,
        "high": 112.0,
        "low": 108.0,
        "high_52w": 111.0,
        "low_52w": 60.0,
        "volume": 500,
    }
    return Quote(symbol, AT, "schwab", **(usual | fields))


def bars(symbol: str, frame: Timeframe, start: datetime, end: datetime, limit: int) -> list[Bar]:
    days = [end - timedelta(days=n) for n in range(limit, 0, -1)]
    return [Bar(symbol, day, 90, 130, 50, 100, 1000, "schwab") for day in days if day >= start]


def movers(ranking: Ranking, _: int = 0) -> Movers:
    return Movers(
        ranking, AT, "schwab", tuple(Mover(f"{ranking[0].upper()}{n}", 9.5) for n in range(25))
    )


def story(**fields: Any) -> Story:
    return Story(
        "1", AT, "finnhub", "A headline", "https://x.example/1", symbols=("AAPL",), **fields
    )


def report(day: date, **fields: Any) -> Earnings:
    return Earnings("AAPL", day, "finnhub", **fields)


def sourced(*rows: Any, source: str = "finnhub") -> Sourced[Any]:
    return Sourced(rows, source, AT)


@pytest.fixture
def table() -> Table:
    table = Table()
    opinions = Recommendations("AAPL", date(2026, 11, 1), "finnhub", 10, 20, 15, 4, 1)
    table.answers = {
        "price_ingestor.quote": quote,
        "price_ingestor.bars": bars,
        "price_ingestor.movers": movers,
        "price_ingestor.members": (Ticker("AAPL", "Apple Inc.", "stock", "Technology"),),
        "provider_pool.movers": movers,
        "provider_pool.profile": lambda s: (
            None if s == "NOPE" else Profile(s, AT, "finnhub", beta=1.1)
        ),
        "provider_pool.news": lambda s, *_, judged=False: sourced(
            *([story(sentiment="positive" if judged else None)] if s != ("NOPE",) else []),
            source="polygon" if judged else "finnhub",
        ),
        "provider_pool.recommendations": lambda s: sourced(*([opinions] if s == "AAPL" else [])),
        "provider_pool.earnings": lambda first, last, symbol=None: sourced(
            *(
                []
                if symbol == "NOPE"
                else [
                    report(TODAY - timedelta(days=90), eps_estimate=2.0, eps_actual=1.5),
                    report(TODAY, hour="amc", eps_estimate=2.5),
                    report(TODAY + timedelta(days=80), hour="odd"),
                ]
            )
        ),
        "provider_pool.hours": lambda first, last: sourced(
            *([found] if (found := session(first)) else []), source="schwab"
        ),
    }
    return table


@pytest.fixture(scope="module")
def app() -> FastAPI:
    """Give the application, which takes a fifth of a second to make."""
    return create_app(Tree(Table()), "0", always_open=False)


@pytest.fixture
async def client(app: FastAPI, table: Table) -> AsyncIterator[httpx.AsyncClient]:
    app.state.tree, app.state.answers = Tree(table), LastAnswers()
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://api/api/v1/market"
    ) as client:
        yield client


ROUTES = {  # route -> whose answer it is
    "/top": "price_ingestor",
    "/top?scope=market": "provider_pool",
    "/sp500": "price_ingestor",
    "/range/AAPL": "price_ingestor",
    "/volume/AAPL": "price_ingestor",
    "/profile/AAPL": "provider_pool",
    "/earnings": "provider_pool",
    "/earnings?symbol=AAPL": "provider_pool",
    "/earnings/AAPL": "provider_pool",
    "/news": "provider_pool",
    "/news/AAPL": "provider_pool",
    "/sentiment/AAPL": "provider_pool",
}


@pytest.mark.parametrize("path", [*ROUTES, "/hours"])
async def test_every_answer_tells_its_origin_and_age(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    if path != "/sp500":
        assert body["source"]
        assert 0 <= body["age_seconds"] < 600
        assert not body["stale"] or path.startswith(("/top", "/range", "/volume"))


@pytest.mark.parametrize(("path", "owner"), ROUTES.items())
async def test_while_the_owner_restarts_it_is_503_or_the_last_answer_marked_stale(
    client: httpx.AsyncClient, table: Table, path: str, owner: str
) -> None:
    usual = dict(table.answers)
    table.away(owner)
    away = await client.get(path)
    assert (away.status_code, away.headers["retry-after"]) == (503, "2")
    assert away.headers["content-type"] == "application/problem+json"
    table.answers = usual
    fresh = (await client.get(path)).json()
    table.away(owner)
    kept = await client.get(path)
    assert kept.status_code == 200
    if path != "/sp500":
        assert kept.json()["stale"]
        assert kept.json()["at"] == fresh["at"]


@pytest.mark.parametrize(
    "path",
    [
        "/range/NOPE",
        "/volume/NOPE",
        "/profile/NOPE",
        "/earnings/NOPE",
        "/earnings?symbol=NOPE",
        "/news/NOPE",
        "/sentiment/NOPE",
    ],
)
async def test_an_unknown_symbol_is_404_with_a_sentence(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.json()["detail"] == "no vendor knows the symbol NOPE"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/top?limit=0", "limit"),
        ("/top?limit=26", "limit"),
        ("/top?scope=dow", "scope"),
        ("/earnings?from=2026-11-24&to=2026-11-23", "to must be 0 to 31 days after from"),
        ("/earnings?from=2026-11-01&to=2026-12-03", "to must be 0 to 31 days after from"),
        ("/earnings?symbol=AAPL&from=2020-01-01&to=2026-01-01", "to must be 0 to 731 days"),
        ("/earnings?symbol=A'B", "symbol"),
        ("/earnings?from=yesterday", "from"),
        ("/news?limit=101", "limit"),
        ("/news/AAPL?days=31", "days"),
        ("/hours?date=2009-12-31", "date must be from 2010"),
        ("/hours?date=x", "date"),
        ("/profile/A$", "symbol"),
    ],
)
async def test_bad_input_is_422_with_its_field(
    client: httpx.AsyncClient, table: Table, path: str, said: str
) -> None:
    answer = await client.get(path)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
    assert table.asked == []


@pytest.mark.parametrize("path", ["/profile/AAPL", "/earnings", "/news", "/top?scope=market"])
async def test_what_nobody_sells_is_404_and_a_spent_limit_503(
    client: httpx.AsyncClient, table: Table, path: str
) -> None:
    for name in [name for name in table.answers if name.startswith("provider_pool")]:
        table.answers[name] = Unsupported("schwab", "nobody who is configured sells it")
    answer = await client.get(path)
    assert (answer.status_code, answer.json()["detail"]) == (
        404,
        "schwab: nobody who is configured sells it",
    )
    for name in [name for name in table.answers if name.startswith("provider_pool")]:
        table.answers[name] = RateLimited("finnhub", "too many requests (429)", 41.2)
    answer = await client.get(path)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "41")


async def test_top_is_of_the_sp500_unless_the_market_is_asked_for(
    client: httpx.AsyncClient, table: Table
) -> None:
    ours = (await client.get("/top")).json()
    assert ours["index"] == "S&P 500"
    assert [row["symbol"] for row in ours["gainers"]] == ["G0", "G1", "G2", "G3", "G4"]
    assert [row["symbol"] for row in ours["losers"]] == ["L0", "L1", "L2", "L3", "L4"]
    assert ours["active"][0]["price"] == 9.5
    assert not [name for name, _, _ in table.asked if name.startswith("provider_pool")]
    market = (await client.get("/top?scope=market&limit=25")).json()
    assert (market["index"], len(market["active"])) == ("market", 25)


async def test_the_range_is_the_vendors_or_of_our_bars(
    client: httpx.AsyncClient, table: Table
) -> None:
    vendors = (await client.get("/range/AAPL")).json()
    assert vendors["day_position_pct"] == 50.0
    assert (vendors["low_52w"], vendors["high_52w"]) == (60.0, 112.0)  # the day's high is newer
    assert (vendors["position_pct"], vendors["range_source"]) == (96.15, "schwab")
    table.answers["price_ingestor.quote"] = lambda s: quote(s, high_52w=None, low_52w=None)
    ours = (await client.get("/range/AAPL")).json()
    assert (ours["low_52w"], ours["high_52w"], ours["range_source"]) == (50.0, 130.0, "bars")
    assert ours["position_pct"] == 75.0
    table.answers["price_ingestor.bars"] = ()
    table.answers["price_ingestor.quote"] = lambda s: Quote(s, AT, "schwab", bid=1.0)
    nothing = (await client.get("/range/AAPL")).json()
    assert nothing["current"] is nothing["position_pct"] is nothing["high_52w"] is None


async def test_volume_is_compared_with_whole_sessions(
    client: httpx.AsyncClient, table: Table
) -> None:
    body = (await client.get("/volume/AAPL")).json()
    assert (body["current_volume"], body["avg_volume_20d"], body["volume_ratio"]) == (
        500,
        1000,
        0.5,
    )
    assert (body["avg_volume_30d"], body["sessions"]) == (1000, 30)
    [(_, (symbol, frame, _, end, limit), _)] = [a for a in table.asked if a[0].endswith("bars")]
    assert (symbol, frame, limit) == ("AAPL", Timeframe.DAY, 30)
    assert end == datetime(TODAY.year, TODAY.month, TODAY.day, tzinfo=UTC)  # today is not whole
    table.answers["price_ingestor.bars"] = ()
    young = (await client.get("/volume/AAPL")).json()
    assert (young["avg_volume_20d"], young["volume_ratio"], young["sessions"]) == (None, None, 0)


async def test_the_next_report_and_the_last(client: httpx.AsyncClient) -> None:
    body = (await client.get("/earnings/AAPL")).json()
    assert (body["earnings_date"], body["days_until"]) == (TODAY.isoformat(), 0)
    assert (body["hour"], body["eps_estimate"], body["eps_actual"]) == ("amc", 2.5, None)
    assert (body["last"]["days_until"], body["last"]["eps_surprise_pct"]) == (-90, -25.0)
    calendar = (await client.get("/earnings")).json()
    assert [row["hour"] for row in calendar["earnings"]] == [None, "amc", None]
    assert (calendar["start"], calendar["end"]) == (
        TODAY.isoformat(),
        (TODAY + timedelta(days=7)).isoformat(),
    )


async def test_limits_of_news_are_one_question(client: httpx.AsyncClient, table: Table) -> None:
    table.answers["provider_pool.news"] = sourced(*[story()] * 40)
    assert len((await client.get("/news/AAPL?limit=7")).json()["news"]) == 7
    assert len((await client.get("/news/AAPL?limit=50")).json()["news"]) == 40
    assert {args[2] for _, args, _ in table.asked} == {50}


async def test_sentiment_is_of_analysts_and_of_who_judges_news(
    client: httpx.AsyncClient, table: Table
) -> None:
    body = (await client.get("/sentiment/AAPL")).json()
    assert body["source"] == "finnhub, polygon"
    assert (body["analysts"], body["bullish_percent"], body["bearish_percent"]) == (50, 60.0, 10.0)
    assert body["recommendation_trend"][0]["hold"] == 15
    assert (body["news_sentiment"]["positive"], body["news_sentiment"]["score"]) == (1, 1.0)
    assert (len(body["recent_news"]), body["missing"]) == (1, {})


@pytest.mark.parametrize(
    "error",
    [Unsupported("polygon", "nobody judges news"), DeadlineExceeded("provider_pool", "news", 3.0)],
)
async def test_a_part_of_the_sentiment_that_cannot_be_had_is_told(
    client: httpx.AsyncClient, table: Table, error: Exception
) -> None:
    table.answers["provider_pool.news"] = lambda *_, judged=False: (
        error if judged else sourced(story())
    )
    body = (await client.get("/sentiment/AAPL")).json()
    assert body["news_sentiment"] is None
    assert body["missing"] == {"news_sentiment": str(error)}
    assert body["bullish_percent"] == 60.0
    table.answers["provider_pool.news"] = error
    table.answers["provider_pool.recommendations"] = RateLimited("finnhub", "429", 7)
    answer = await client.get("/sentiment/MSFT")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")


def _shifted(first: date, _: date) -> Sourced[Any]:
    found = session(first)
    assert found is not None
    return sourced(Session(first, found.opens, found.closes - timedelta(hours=3)), source="schwab")


def _closed(*_: date) -> Sourced[Any]:
    return sourced(source="schwab")


@pytest.mark.parametrize("says", [_shifted, _closed])
async def test_a_vendor_that_disagrees_about_the_hours_is_told_beside(
    client: httpx.AsyncClient, table: Table, says: Callable[..., Sourced[Any]]
) -> None:
    day = next(
        d for n in range(1, 30) if (d := TODAY + timedelta(days=n)).weekday() == 1 and session(d)
    )
    table.answers["provider_pool.hours"] = says
    body = (await client.get("/hours", params={"date": day.isoformat()})).json()
    found = session(day)
    assert found is not None
    assert (body["source"], body["checked_with"], body["agrees"]) == ("calendar", "schwab", False)
    assert datetime.fromisoformat(body["closes"]) == found.closes
    theirs = [row.closes for row in says(day, day).rows] or [None]
    told = body["vendor_closes"]
    assert [told and datetime.fromisoformat(told)] == theirs


async def test_hours_need_nobody(client: httpx.AsyncClient, table: Table) -> None:
    table.away("provider_pool")
    body = (await client.get("/hours")).json()
    assert (body["checked_with"], body["agrees"]) == (None, None)
    assert "provider_pool is not reachable" in body["unchecked"]
    table.asked.clear()
    holiday = (await client.get("/hours?date=2012-10-29")).json()  # Sandy
    assert (holiday["trading_day"], holiday["opens"], table.asked) == (False, None, [])
    early = (await client.get("/hours?date=2024-11-29")).json()
    assert (early["early_close"], early["closes"]) == (True, "2024-11-29T18:00:00Z")
