"""What may be asked of a backfill, and which plan of requests is the cheapest."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.domain import universe
from actors.domain.backfill import (
    SHOPS,
    BackfillRequest,
    Offer,
    Rate,
    choose,
    midnight,
    planned,
    sessions,
    wanted,
)
from actors.domain.calendar import session
from actors.domain.models import Timeframe
from actors.providers import PROVIDERS
from actors.providers.vendor import Kind

NOW = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)
DAY, MINUTE = Timeframe.DAY, Timeframe.MINUTE
STOCKS = tuple(sorted(t.symbol for t in universe.seed() if t.kind == "stock"))
FIVE_YEARS = midnight(date(2021, 11, 24)), midnight(date(2026, 11, 24))

# The free plans of the shared facts, as the pool tells them of a fresh start.
SCHWAB = Offer("schwab", (Rate(120, 60, 10),))
TIINGO = Offer(
    "tiingo",
    (
        Rate(50, 3600, 4),
        Rate(1000, 86_400, 900, calendar=True),
        Rate(500, 30 * 86_400, 450, "symbols", calendar=True),
    ),
)
ALPACA = Offer("alpaca", (Rate(200, 60, 16),))
POLYGON = Offer("polygon", (Rate(5, 60, 0),))
FINNHUB = Offer("finnhub", (Rate(60, 60, 5),))
DATABENTO = Offer("databento", (Rate(100, 1, 8),))
ALL = (DATABENTO, SCHWAB, TIINGO, FINNHUB, POLYGON, ALPACA)


def ask(*symbols, first=date(2021, 1, 1), **more):
    return BackfillRequest(symbols or ("AAPL",), first, **more)


# --- what may be asked


def test_the_same_content_is_the_same_backfill_and_a_later_end_makes_it_longer():
    one = wanted(ask("msft", "BRK-B", "AAPL"), NOW, 5)
    assert one.symbols == ("AAPL", "BRK.B", "MSFT")
    assert (one.start, one.end) == (midnight(date(2021, 1, 1)), midnight(date(2026, 11, 24)))
    same = wanted(ask("AAPL", "BRK.B", "MSFT", "AAPL", last=date(2024, 1, 5)), NOW, 5)
    assert same.id == one.id
    assert same.end == midnight(date(2024, 1, 6)), "the last day is inclusive"
    for other in (
        ask("AAPL", "MSFT"),
        ask("AAPL", "BRK.B", "MSFT", first=date(2021, 1, 2)),
        ask("AAPL", "BRK.B", "MSFT", provider="schwab"),
        ask("AAPL", "BRK.B", "MSFT", timeframe=MINUTE, first=date(2026, 11, 20)),
    ):
        assert wanted(other, NOW, 5).id != one.id
    assert wanted(ask("AAPL", "BRK.B", "MSFT", max_cost=3, again=True), NOW, 5).id == one.id


def test_today_is_not_over_for_daily_bars_and_minutes_end_with_the_last_whole_one():
    assert wanted(ask(last=date(2027, 1, 1)), NOW, 5).end == midnight(date(2026, 11, 24))
    asked = ask(first=date(2026, 11, 20), timeframe=MINUTE)
    late = datetime(2026, 11, 24, 15, 0, 59, tzinfo=UTC)
    assert wanted(asked, late, 5).end == NOW
    assert wanted(replace(asked, last=date(2026, 11, 20)), late, 5).end == midnight(
        date(2026, 11, 21)
    )


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (ask("A A"), "symbols: a symbol is"),
        (BackfillRequest((), date(2021, 1, 1)), "symbols must be 1 to 2000, were 0"),
        (ask(*(f"A{n}" for n in range(2001))), "were 2001"),
        (ask(last=date(2020, 12, 31)), "from must not be after to, were 2021-01-01 and 2020-12-31"),
        (ask(first=date(2026, 11, 24)), "from must be 2026-11-23 or earlier"),
        (ask(first=date(2009, 12, 31)), "from must be 2010-01-01 or later"),
        (ask(timeframe=MINUTE), "kept for 5 days; set VOLARIS_BARS_1M_DAYS"),
        (ask(timeframe=MINUTE, first=date(2026, 11, 25)), "must not be in the future"),
        (ask(timeframe=Timeframe.FIVE_MINUTES), "timeframe must be 1m or 1d, was 5m"),
        (ask(provider="bloomberg"), "provider must be one of alpaca, schwab"),
        (ask(max_cost=-1.0), "max_cost must be dollars"),
        (ask(max_cost=float("nan")), "max_cost must be dollars"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(asked, said):
    with pytest.raises(ValueError) as e:
        wanted(asked, NOW, 5)
    assert said in str(e.value)
    assert "\n" not in str(e.value)


# --- the requests it takes: the table of the shared facts, section 7, rows D and B'


@pytest.mark.parametrize(
    ("offer", "requests"),
    [
        (ALPACA, 64),
        (SCHWAB, 503),
        (TIINGO, 503),
        (POLYGON, 503),
        (FINNHUB, 503),
        (DATABENTO, 47),  # 20,000 bars an answer, as if Saturdays traded, too
    ],
)
def test_five_years_of_daily_bars_take_as_many_requests_as_the_vendors_need(offer, requests):
    plan = planned(offer, STOCKS, DAY, *FIVE_YEARS)
    assert len(STOCKS) == 503
    assert plan.requests == requests
    assert plan.rows == 503 * len(sessions(DAY, *FIVE_YEARS))


def test_a_day_of_minutes_is_twenty_pages_and_a_day_of_all_symbols_one_grouped_answer():
    day = midnight(date(2026, 11, 20)), midnight(date(2026, 11, 21))
    assert planned(ALPACA, STOCKS, MINUTE, *day).requests == 21  # 500 and 3 symbols: one page more
    assert planned(SCHWAB, STOCKS, MINUTE, *day).requests == 503
    assert planned(POLYGON, STOCKS, DAY, *day).requests == 1


def test_the_seconds_are_those_of_the_limits():
    assert planned(SCHWAB, STOCKS, DAY, *FIVE_YEARS).seconds == pytest.approx(493 / 2)
    assert planned(POLYGON, STOCKS, DAY, *FIVE_YEARS).seconds == pytest.approx(503 * 12)
    assert 15 < planned(ALPACA, STOCKS, DAY, *FIVE_YEARS).seconds < 30
    few = planned(TIINGO, STOCKS[:100], DAY, *FIVE_YEARS)
    assert few.seconds == pytest.approx(96 / 50 * 3600)


def test_a_day_that_is_spent_costs_a_day():
    spent = Offer("tiingo", (Rate(1000, 86_400, 10, calendar=True),))
    assert planned(spent, STOCKS[:10], DAY, *FIVE_YEARS).seconds == pytest.approx(4)
    assert planned(spent, STOCKS[:11], DAY, *FIVE_YEARS).seconds == 86_400


# --- who is chosen


def chosen(offers=ALL, symbols=STOCKS, timeframe=DAY, span=FIVE_YEARS, named=None):
    return choose(offers, symbols, timeframe, *span, NOW, named).vendor


def test_the_cheapest_is_chosen():
    assert chosen() == "alpaca"
    assert chosen((SCHWAB, POLYGON, TIINGO, FINNHUB, DATABENTO)) == "schwab"
    assert chosen((POLYGON, TIINGO, SCHWAB), ("AAPL",)) == "schwab"


def test_free_comes_before_paid_however_slow_and_what_answers_before_what_does_not():
    year = midnight(date(2025, 11, 24)), FIVE_YEARS[1]
    assert chosen((DATABENTO, POLYGON), span=year) == "polygon"
    assert chosen((DATABENTO,), span=year) == "databento"
    assert choose((DATABENTO,), STOCKS, DAY, *year, NOW).paid
    assert chosen((replace(ALPACA, down="500"), SCHWAB)) == "schwab"
    assert chosen((replace(ALPACA, down="500"),)) == "alpaca", "it may be up again by then"


def test_who_does_not_go_back_so_far_is_not_chosen_unless_by_name():
    assert chosen((POLYGON, SCHWAB)) == "schwab"
    assert chosen((POLYGON, SCHWAB), named="polygon") == "polygon"
    long = midnight(date(2012, 1, 3)), FIVE_YEARS[1]
    assert chosen(span=long) == "schwab"
    with pytest.raises(ValueError, match=r"alpaca has 1d bars from 2016-.* on"):
        chosen((ALPACA, POLYGON), span=long)


def test_a_plan_without_symbols_left_and_a_plan_without_candles_are_not_chosen():
    with pytest.raises(ValueError, match="tiingo has 450 symbols left this month"):
        chosen((TIINGO,))
    assert chosen((TIINGO,), STOCKS[:450]) == "tiingo"
    with pytest.raises(ValueError, match="--provider finnhub"):
        chosen((FINNHUB,))
    assert chosen((FINNHUB,), named="finnhub") == "finnhub"


def test_who_is_not_configured_is_said():
    with pytest.raises(ValueError, match="no vendor that sells history is configured"):
        chosen(())
    with pytest.raises(ValueError, match="provider alpaca is not configured"):
        chosen((SCHWAB,), named="alpaca")


@pytest.mark.parametrize("timeframe", [DAY, MINUTE])
@pytest.mark.parametrize(
    ("now", "end"),
    [
        (datetime(2026, 11, 24, 15, 0, tzinfo=UTC), date(2026, 11, 23)),
        (datetime(2026, 11, 24, 23, 59, tzinfo=UTC), date(2026, 11, 23)),
        (datetime(2026, 11, 25, 0, 0, tzinfo=UTC), date(2026, 11, 24)),
    ],
)
def test_a_plan_ends_with_what_the_vendor_has_and_never_later_than_asked(timeframe, now, end):
    span = midnight(date(2026, 11, 16)), midnight(date(2026, 11, 24))
    plan = choose((DATABENTO,), ("AAPL",), timeframe, *span, now)
    assert plan.end == plan.parts[-1].end == midnight(end)
    assert choose((SCHWAB,), ("AAPL",), timeframe, *span, now).end == span[1]
    early = midnight(date(2026, 11, 18))
    assert choose((DATABENTO,), ("AAPL",), timeframe, span[0], early, now).end == early


def test_a_vendor_that_does_not_have_the_first_day_yet_is_not_asked():
    day = midnight(date(2026, 11, 23)), midnight(date(2026, 11, 24))
    with pytest.raises(ValueError, match="databento has nothing newer than 2026-11-22 yet"):
        chosen((DATABENTO,), ("AAPL",), span=day, named="databento")
    assert chosen((DATABENTO, SCHWAB), ("AAPL",), span=day) == "schwab"


# --- the parts


DAYS = st.dates(date(2019, 1, 1), date(2026, 11, 20))


@settings(deadline=None)
@given(
    vendor=st.sampled_from(sorted(SHOPS)),
    symbols=st.integers(1, 40),
    first=DAYS,
    length=st.integers(1, 900),
    minutes=st.booleans(),
)
def test_the_parts_cover_every_symbol_and_moment_exactly_once_and_fit_an_answer(
    vendor, symbols, first, length, minutes
):
    timeframe = MINUTE if minutes else DAY
    start, end = midnight(first), midnight(first + timedelta(days=length))
    names = STOCKS[:symbols]
    plan = planned(Offer(vendor), names, timeframe, start, end)
    spans = {}
    for part in plan.parts:
        for symbol in part.symbols:
            spans.setdefault(symbol, []).append((part.start, part.end))
    assert set(spans) == set(names)
    for span in spans.values():
        assert (span[0][0], span[-1][1]) == (start, end)
        assert all(before[1] == after[0] for before, after in pairwise(span))
        assert all(since < until for since, until in span)
    shop = SHOPS[vendor]
    assert all(len(part.symbols) <= shop.symbols for part in plan.parts)
    if not shop.paged:
        for part in plan.parts:
            bars = len(part.symbols) * len(sessions(timeframe, part.start, part.end))
            assert bars * (390 if minutes else 1) <= shop.rows
        assert plan.requests == len(plan.parts)
    expected = [start.date() + timedelta(days=n) for n in range(length)]
    traded = sum(1 for day in expected if session(day) is not None)
    assert plan.rows == symbols * traded * (390 if minutes else 1)


def test_the_table_says_of_an_adapter_what_it_says_of_itself():
    from actors.provider_pool import _class

    sellers = {vendor for vendor in PROVIDERS if Kind.BARS in _class(vendor).sells}
    assert SHOPS.keys() == sellers
    for vendor in sellers:
        assert SHOPS[vendor].symbols <= _class(vendor).bars_batch
