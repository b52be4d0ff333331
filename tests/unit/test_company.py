"""Companies and news of the sandbox: the same for everyone, whenever and in whatever window asked."""

from datetime import UTC, date, datetime, timedelta

import pytest

from actors.domain import calendar
from sandbox.company import QUARTER, company, market_cap, opinions, payout, reports
from sandbox.listing import listings
from sandbox.market import Market
from sandbox.news import News

NOW = datetime(2026, 11, 24, 17, 0, tzinfo=UTC)
TODAY = NOW.date()
MS = int(NOW.timestamp() * 1000)
DAY = 86_400_000
ROWS = {row.symbol: row for row in listings()}
STOCKS = [row for row in ROWS.values() if row.kind == "stock"]


@pytest.fixture(scope="module")
def news() -> News:
    return News(Market(seed=7))


def test_every_listing_is_something() -> None:
    for row in ROWS.values():
        facts = company(row)
        assert facts.website.startswith("https://")
        assert facts.website.endswith(".example.com/")
        assert (row.kind == "stock") == (facts.employees is not None)
        assert (row.sector is None) == (facts.industry is None) == (facts.sic is None)
        assert market_cap(row, 2 * row.price) == pytest.approx(2 * row.shares * row.price)
    assert len({company(row).cik for row in ROWS.values()}) > len(ROWS) * 0.99


def test_dividends_fall_on_sessions_around_today() -> None:
    for row in STOCKS:
        told = payout(row, TODAY)
        assert told.declared == told.earnings <= TODAY
        assert told.ex <= TODAY < told.next_ex
        assert told.paid <= TODAY < told.next_paid
        for day in (told.earnings, told.ex, told.paid, told.next_ex, told.next_paid):
            assert calendar.session(day) is not None


def test_reports_agree_with_what_schwab_tells() -> None:
    for row in STOCKS:
        year = list(reports(row, TODAY - timedelta(days=365), TODAY, NOW))
        told = payout(row, TODAY)
        assert year[-1].day == told.earnings
        if year[-1].eps is not None:  # Schwab counts a report of today as out, at any hour
            assert sum(r.eps or 0 for r in year[-4:]) == pytest.approx(told.eps, abs=0.011)
        assert row.price / 52 < told.eps < row.price / 9


def test_every_quarter_is_reported_once_and_known_only_when_it_is_out() -> None:
    first, last = TODAY - timedelta(days=4000), TODAY + timedelta(days=200)
    for row in STOCKS[::25]:
        found = list(reports(row, first, last, NOW))
        assert len(found) == pytest.approx(4200 / QUARTER, abs=1)
        labels = [r.year * 4 + r.quarter for r in found]
        assert labels == list(range(labels[0], labels[0] + len(found)))
        for r in found:
            assert (r.eps is None) == (r.revenue is None) == (r.at > NOW)
            assert r.period < r.day
            assert r.hour in {"bmo", "amc"}
        # In pieces as a whole.
        middle = date(2024, 2, 29)
        pieces = [*reports(row, first, middle, NOW)]
        pieces += reports(row, middle + timedelta(days=1), last, NOW)
        assert pieces == found
    assert list(reports(ROWS["SPY"], first, last, NOW)) == []


def test_analysts_add_up() -> None:
    for row in STOCKS:
        now, before = opinions(row, TODAY), opinions(row, date(2026, 10, 31))
        assert (now.month, before.month) == (date(2026, 11, 1), date(2026, 10, 1))
        for told in (now, before):
            counts = (told.strong_buy, told.buy, told.hold, told.sell, told.strong_sell)
            assert min(counts) >= 0
            assert 8 <= sum(counts) <= 48


def test_news_is_frequent_newest_first_and_the_same_in_any_window(news: News) -> None:
    week = news.stories(MS - 7 * DAY, MS, 10_000)
    assert 7 * 24 * 5 < len(week) < 7 * 24 * 12
    assert len({story.id for story in week}) == len(week)
    assert [s.at for s in week] == sorted((s.at for s in week), reverse=True)
    assert all(MS - 7 * DAY <= story.at < MS for story in week)
    days = [s for n in range(7) for s in news.stories(MS - (n + 1) * DAY, MS - n * DAY, 10_000)]
    assert days == week
    assert news.stories(MS - 7 * DAY, MS, 10) == week[:10]
    assert news.stories(MS - 7 * DAY, MS, 10, skip=700) == week[700:710]
    one = week[100]  # a window need not begin or end where a slot does
    assert news.stories(one.at, one.at + 1, 10) == [one]
    assert one not in news.stories(one.at + 1, MS, 10_000)
    assert one not in news.stories(MS - 7 * DAY, one.at, 10_000)
    assert {story.sentiment for story in week} == {"positive", "neutral", "negative"}


def test_news_of_a_symbol_is_that_of_the_market_which_names_it(news: News) -> None:
    month = news.stories(MS - 28 * DAY, MS, 100_000)
    for symbol in ("AAPL", "BRK.B", "NVR"):
        found = news.stories(MS - 28 * DAY, MS, 1000, [symbol])
        assert found == [story for story in month if symbol in story.symbols]
        assert len(found) >= 4
    two = news.stories(MS - 28 * DAY, MS, 1000, ["AAPL", "NVR"])
    assert two == [story for story in month if {"AAPL", "NVR"} & set(story.symbols)]
    assert news.stories(MS - 28 * DAY, MS, 1000, ["NOPE"]) == []


def test_news_depends_on_the_seed(news: News) -> None:
    assert News(Market(seed=7)).stories(MS - DAY, MS, 50) == news.stories(MS - DAY, MS, 50)
    assert News(Market(seed=8)).stories(MS - DAY, MS, 50) != news.stories(MS - DAY, MS, 50)
