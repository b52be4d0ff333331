"""The sandbox's market: one truth behind quotes, minutes and days, the same on every run."""

import time
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.clock import Clock
from sandbox.days import NEW_YORK, Hours, midnight
from sandbox.market import Market
from sandbox.paths import MINUTES, OPEN, STEPS, Shapes

SPRING, AUTUMN = date(2026, 3, 8), date(2026, 11, 1)  # the clocks change
EARLY = date(2026, 11, 27)  # closes at 13:00

SOON = settings(max_examples=12, deadline=None)
MOMENTS = st.integers(1_325_500_000, 1_924_800_000).map(lambda s: datetime.fromtimestamp(s, UTC))
ROWS = st.integers(0, 515)

MARKET, MOVED, SHAPES = Market(seed=7), Market(seed=7), Shapes(7)


def ms(*when):
    """Return the ms of a New York wall time."""
    return int(datetime(*when, tzinfo=NEW_YORK).timestamp() * 1000)


@pytest.fixture(scope="module")
def market():
    return MARKET


@pytest.fixture
def fresh():
    """Give a market that a test may move."""
    return Market(seed=7)


@pytest.fixture(scope="module")
def nyse():
    return Market(seed=7, hours=Hours.NYSE)


def row(market, symbol, at):
    quotes, i = market.quotes(at), market.index[symbol]
    names = ("last", "bid", "ask", "open", "high", "low", "previous_close", "volume")
    return {name: getattr(quotes, name)[i].item() for name in names}


def columns(candles):
    return [candles.open, candles.high, candles.low, candles.close, candles.volume]


def minutes_by_day(market, candles):
    days = defaultdict(list)
    for n, at in enumerate(candles.at.tolist()):
        days[market.times.locate(at)[0]].append(n)
    return days


def summed(candles, which):
    return (
        candles.open[which[0]],
        candles.high[which].max(),
        candles.low[which].min(),
        candles.close[which[-1]],
        candles.volume[which].sum(),
    )


def assert_days_are_their_minutes(market, symbol, first, last, now):
    days = market.days(symbol, first, last, now)
    start, end = midnight(first.toordinal() - 1), midnight(last.toordinal())
    minutes = market.minutes(symbol, start, end, now)
    parts = minutes_by_day(market, minutes)
    assert len(days) == len(parts) > 0
    for n, at in enumerate(days.at.tolist()):
        told = tuple(column[n] for column in columns(days))
        assert told == summed(minutes, parts[market.times.locate(at)[0]]), at


# The same on every run


def test_two_markets_of_one_seed_are_one(market):
    other, at = Market(seed=7), ms(2026, 11, 24, 11, 7)
    other.quotes(ms(2019, 5, 6, 12, 0))  # another history of questions
    mine, theirs = market.quotes(at), other.quotes(at)
    for name in ("last", "bid", "ask", "open", "high", "low", "volume", "previous_close"):
        assert np.array_equal(getattr(mine, name), getattr(theirs, name)), name


def test_another_seed_is_another_market(market):
    at = ms(2026, 11, 24, 11, 7)
    assert (Market(seed=8).quotes(at).last != market.quotes(at).last).mean() > 0.95


def test_known_names_stand_where_people_expect_them(market):
    quotes = market.quotes(ms(2026, 1, 2, 12, 0))
    for symbol, level in {"SPY": 685, "AAPL": 272, "MSFT": 485, "KO": 70, "$SPX": 6870}.items():
        assert quotes.last[market.index[symbol]] == pytest.approx(level, rel=0.45), symbol


def test_an_index_goes_with_the_fund_that_follows_it(market):
    for at in (ms(2015, 6, 1, 12, 0), ms(2026, 11, 24, 15, 0)):
        quotes = market.quotes(at)
        spx, spy = quotes.last[market.index["$SPX"]], quotes.last[market.index["SPY"]]
        assert spx / spy == pytest.approx(10.03, rel=1e-3)


@SOON
@given(at=MOMENTS)
def test_a_quote_makes_sense_at_any_time(at):
    now = int(at.timestamp() * 1000)
    quotes = MARKET.quotes(now)
    assert (quotes.low <= quotes.last).all()
    assert (quotes.last <= quotes.high).all()
    assert (quotes.low <= quotes.open).all()
    assert (quotes.open <= quotes.high).all()
    assert (quotes.bid < quotes.ask).all()
    assert (quotes.bid <= quotes.last).all()
    assert (quotes.last <= quotes.ask).all()
    assert (quotes.volume >= 0).all()
    for name in ("last", "bid", "ask", "open", "high", "low", "previous_close"):
        cents = getattr(quotes, name) * 100
        assert np.allclose(cents, np.rint(cents), atol=1e-6), name
    assert ((quotes.ask - quotes.bid) / quotes.last < 0.02).mean() > 0.98
    assert 0 <= now - quotes.at < 3_605_000  # the hour that comes twice stands still


@SOON
@given(at=MOMENTS, later=st.integers(1, 86_400))
def test_within_a_day_volume_and_range_only_grow(at, later):
    first = int(at.timestamp() * 1000)
    before, after = MARKET.quotes(first), MARKET.quotes(first + later * 1000)
    if before.moment.day != after.moment.day:
        return
    assert (before.volume <= after.volume).all()
    assert (before.high <= after.high).all()
    assert (before.low >= after.low).all()
    assert np.array_equal(before.open, after.open)
    assert np.array_equal(before.previous_close, after.previous_close)


def test_the_previous_close_is_what_was_last_seen(market):
    for day in (date(2026, 11, 24), SPRING + timedelta(1), AUTUMN, AUTUMN + timedelta(1)):
        begins = midnight(day.toordinal() - 1)
        seen, told = market.quotes(begins - 1).last, market.quotes(begins).previous_close
        assert np.array_equal(seen, told), day


def test_prices_move_every_five_seconds_and_not_in_between(market):
    at = ms(2026, 11, 24, 10, 30)
    assert market.quotes(at) is market.quotes(at + 4_999)
    assert (market.quotes(at).last != market.quotes(at + 5_000).last).mean() > 0.5


# Days, minutes and quotes agree


@pytest.mark.parametrize("symbol", ["SPY", "AAPL", "TLT", "NVR", "BRK.B", "$SPX"])
def test_a_day_is_the_sum_of_its_minutes(market, nyse, symbol):
    now = ms(2026, 11, 24, 11, 7, 33)
    for one in (market, nyse):
        assert_days_are_their_minutes(one, symbol, date(2026, 10, 25), date(2026, 11, 24), now)


@pytest.mark.parametrize("day", [SPRING, AUTUMN, EARLY])
def test_odd_days_are_the_sum_of_their_minutes_too(market, nyse, day):
    now = ms(2026, 12, 24, 15, 0)
    assert_days_are_their_minutes(market, "AAPL", day, day, now)
    if day == EARLY:
        assert_days_are_their_minutes(nyse, "AAPL", day, day, now)


@SOON
@given(at=MOMENTS, i=ROWS)
def test_quotes_are_the_end_of_the_candles(at, i):
    now, symbol = int(at.timestamp() * 1000), MARKET.symbols[i]
    quote = row(MARKET, symbol, now)
    today = datetime.fromtimestamp(now / 1000, NEW_YORK).date()
    told = [column[-1] for column in columns(MARKET.days(symbol, today, today, now))]
    assert told == [quote[k] for k in ("open", "high", "low", "last", "volume")]
    minute = MARKET.minutes(symbol, now // 60_000 * 60_000, now + 1, now)
    if len(minute):  # none in the hour that comes twice
        assert minute.close[-1] == quote["last"]


def test_polling_sees_nothing_a_candle_does_not_hold(market):
    begin = ms(2026, 11, 24, 9, 45)
    candle = market.minutes("TSLA", begin, begin + 60_000, begin + 120_000)
    seen = [row(market, "TSLA", begin + 5_000 * n)["last"] for n in range(12)]
    assert [seen[0], max(seen), min(seen), seen[-1]] == [c[0] for c in columns(candle)[:4]]


def test_the_minute_of_all_is_the_last_candle_of_each(fresh, nyse):
    now = ms(2026, 11, 24, 11, 7, 32)
    fresh.shift("AAPL", 400.0, now - 3_600_000)
    fresh.shift("AAPL", 500.0, now - 5_000)
    fresh.shift("SPY", 700.0, now - 90_000_000)
    for market, at in ((fresh, now), (nyse, now), (nyse, ms(2026, 11, 28, 12, 0))):
        all_of_them = columns(market.minute(at))
        for symbol in ("AAPL", "SPY", "TSLA", "$SPX", "BRK.B"):
            one = columns(market.minutes(symbol, at - 100_000_000, at + 1, at))
            i = market.index[symbol]
            assert [c[i] for c in all_of_them] == [c[-1] for c in one]


def test_minutes_are_one_after_the_other_and_never_empty(market):
    now = ms(2026, 11, 24, 11, 7)
    candles = market.minutes("NVR", now - 48 * 86_400_000, now, now)
    assert set(np.diff(candles.at).tolist()) <= {60_000, 3_660_000}  # one hour comes twice
    assert (candles.volume > 0).all()
    assert (candles.high >= np.maximum(candles.open, candles.close)).all()
    assert (candles.low <= np.minimum(candles.open, candles.close)).all()


def test_the_hour_the_clocks_skip_is_not_there(market):
    begin, end = midnight(SPRING.toordinal() - 1), midnight(SPRING.toordinal())
    candles = market.minutes("AAPL", begin, end, end + 86_400_000)
    assert len(candles) == 23 * 60
    assert set(np.diff(candles.at).tolist()) == {60_000}


def test_nothing_is_told_of_the_future(market):
    now = ms(2026, 11, 24, 11, 7, 12)
    candles = market.minutes("AAPL", now - 600_000, now + 600_000, now)
    assert candles.at[-1] == ms(2026, 11, 24, 11, 7)
    days = market.days("AAPL", date(2026, 11, 20), date(2026, 12, 20), now)
    assert days.at[-1] == ms(2026, 11, 24)
    assert not len(market.days("AAPL", date(2027, 1, 1), date(2027, 1, 5), now))


def test_a_year_holds_its_days(market, nyse):
    now = ms(2026, 11, 24, 11, 7)
    for one in (market, nyse):
        year = one.year(one.times.moment(now).day)
        for symbol in ("AAPL", "TLT", "F"):
            days = one.days(symbol, date(2025, 11, 25), date(2026, 11, 23), now)
            i = one.index[symbol]
            assert (year.high[i], year.low[i]) == (days.high.max(), days.low.min())
            assert year.averages(i) == (
                days.volume[-10:].mean(),
                pytest.approx(days.volume.mean(), rel=0.02),
            )


# What it looks like


def test_volume_has_the_shape_of_a_trading_day(market):
    total = np.zeros(MINUTES)
    for symbol in market.symbols[:60]:
        candles = market.minutes(symbol, ms(2026, 11, 17), ms(2026, 11, 18), ms(2026, 11, 24))
        total += candles.volume / candles.volume.sum()
    first, middle, last, night = total[570:585], total[750:780], total[945:960], total[60:120]
    assert first.mean() > 1.5 * middle.mean()
    assert last.mean() > 1.5 * middle.mean()
    assert middle.mean() > 10 * night.mean() > 0
    assert total[570:960].sum() / total.sum() == pytest.approx(0.92, abs=0.03)


def test_prices_go_together_as_their_betas_say(market):
    span = date(2016, 1, 1), date(2025, 12, 31), ms(2026, 1, 5, 12, 0)
    symbols = ("SPY", "AAPL", "MSFT", "TLT", "NEE")
    returns = {s: np.diff(np.log(market.days(s, *span).close)) for s in symbols}
    with_market = {s: np.corrcoef(returns["SPY"], r)[0, 1] for s, r in returns.items()}
    assert with_market["AAPL"] > 0.45
    assert with_market["TLT"] < 0
    within = np.corrcoef(returns["AAPL"], returns["MSFT"])[0, 1]
    across = np.corrcoef(returns["AAPL"], returns["NEE"])[0, 1]
    assert within > across > 0


@pytest.mark.parametrize("symbol", ["SPY", "AAPL", "TSLA", "KO"])
def test_volatility_is_what_the_truth_says(market, nyse, symbol):
    now = ms(2026, 1, 5, 12, 0)
    for one, a_year in ((market, 365.25), (nyse, 252)):
        days = one.days(symbol, date(2012, 1, 1), date(2025, 12, 31), now)
        seen = np.diff(np.log(days.close)).std() * np.sqrt(a_year)
        assert seen == pytest.approx(one.truth(symbol, now).volatility, rel=0.1)


def test_history_goes_back_twenty_years(market, nyse):
    now = ms(2026, 11, 24, 11, 0)
    assert len(market.days("AAPL", date(2006, 11, 25), date(2026, 11, 24), now)) == 7305
    sessions = nyse.days("AAPL", date(2006, 11, 25), date(2026, 11, 24), now)
    assert 5000 < len(sessions) < 5080


# Hours


def test_a_closed_market_stands_still(nyse):
    friday = nyse.quotes(ms(2026, 11, 27, 13, 0))
    for at in (ms(2026, 11, 27, 22, 0), ms(2026, 11, 28, 12, 0), ms(2026, 11, 30, 9, 29, 59)):
        quotes = nyse.quotes(at)
        assert quotes.moment.frozen
        assert np.array_equal(quotes.last, friday.last)
        assert np.array_equal(quotes.volume, friday.volume)
        assert quotes.at == ms(2026, 11, 27, 12, 59, 55)
    monday = nyse.quotes(ms(2026, 11, 30, 9, 30))
    assert not monday.moment.frozen
    assert np.array_equal(monday.previous_close, friday.last)
    assert (monday.volume < friday.volume).mean() > 0.99


def test_a_session_has_only_its_own_minutes(nyse):
    now = ms(2026, 12, 24, 12, 0)
    candles = nyse.minutes("AAPL", ms(2026, 11, 25), ms(2026, 11, 29), now)
    counts = [len(rows) for rows in minutes_by_day(nyse, candles).values()]
    assert counts == [390, 210]  # Thanksgiving between them
    assert candles.at[0] == ms(2026, 11, 25, 9, 30)


def test_regular_hours_end_at_four_though_trading_goes_on(market):
    at_four = market.quotes(ms(2026, 11, 24, 15, 59, 59)).last
    evening = market.quotes(ms(2026, 11, 24, 18, 0))
    assert np.array_equal(evening.regular_last, at_four)
    assert not evening.regular
    assert np.array_equal(market.quotes(ms(2026, 11, 25, 9, 0)).regular_last, at_four)
    noon = market.quotes(ms(2026, 11, 24, 12, 0))
    assert noon.regular
    assert np.array_equal(noon.regular_last, noon.last)


# Moves


def test_a_move_counts_from_now_on(fresh):
    now = ms(2026, 11, 24, 11, 7, 32)
    before, untouched = row(fresh, "AAPL", now), fresh.quotes(now)
    earlier = fresh.minutes("AAPL", now - 3_600_000, now - 60_000, now)
    fresh.shift("AAPL", 400.0, now)
    after = row(fresh, "AAPL", now)
    assert after["last"] == after["high"] == 400.0
    assert after["low"] == before["low"]
    assert after["previous_close"] == before["previous_close"]
    others = [i for i, s in enumerate(fresh.symbols) if s != "AAPL"]
    assert np.array_equal(fresh.quotes(now).last[others], untouched.last[others])
    again = fresh.minutes("AAPL", now - 3_600_000, now - 60_000, now)
    assert all(np.array_equal(a, b) for a, b in zip(columns(earlier), columns(again), strict=True))
    prices = [row(fresh, "AAPL", now + 5_000 * n)["last"] for n in range(60)]
    assert len(set(prices)) > 20  # it goes on moving
    assert all(390 < price < 410 for price in prices)


def test_a_move_is_in_the_candles(fresh):
    now, later = ms(2026, 11, 24, 11, 7, 32), ms(2026, 11, 26, 11, 0)
    before = row(fresh, "AAPL", now)["last"]
    fresh.shift("AAPL", 150.0, now)
    fresh.shift("AAPL", 500.0, now + 2_000)
    minute = ms(2026, 11, 24, 11, 7)
    candle = fresh.minutes("AAPL", minute, minute + 60_000, later)
    assert candle.low[0] <= 150.0
    assert candle.high[0] >= 500.0
    assert candle.open[0] == pytest.approx(before, rel=0.01)
    assert_days_are_their_minutes(fresh, "AAPL", date(2026, 11, 20), date(2026, 11, 26), later)
    days = fresh.days("AAPL", date(2026, 11, 20), date(2026, 11, 26), later)
    assert (days.close[-3:] > 450).all()
    assert (days.close[:-3] < 400).all()
    assert row(fresh, "AAPL", later)["previous_close"] == days.close[-2]
    assert fresh.year(fresh.times.locate(later)[0]).high[fresh.index["AAPL"]] >= 500


def test_a_move_shows_while_the_market_is_closed():
    nyse, saturday = Market(seed=7, hours=Hours.NYSE), ms(2026, 11, 28, 12, 0)
    close = row(nyse, "KO", saturday)["last"]
    nyse.shift("KO", 90.0, saturday)
    assert row(nyse, "KO", saturday)["last"] == 90.0
    assert row(nyse, "KO", saturday - 1)["last"] == close
    monday = row(nyse, "KO", ms(2026, 11, 30, 9, 30))
    assert monday["last"] == pytest.approx(90, rel=0.05)
    assert monday["previous_close"] == close


@SOON
@given(at=MOMENTS, cents=st.integers(1, 10_000_000), i=ROWS)
def test_any_price_is_met_to_the_cent(at, cents, i):
    now, symbol = int(at.timestamp() * 1000), MOVED.symbols[i]
    MOVED.shift(symbol, cents / 100, now)
    quote = row(MOVED, symbol, now)
    assert quote["last"] == cents / 100
    assert quote["low"] <= quote["last"] <= quote["high"]


def test_an_unknown_symbol_is_not_made_up(fresh):
    with pytest.raises(KeyError):
        fresh.shift("NOPE", 10.0, ms(2026, 11, 24, 12, 0))


# How it is done


@SOON
@given(slope=st.floats(-30, 30), which=st.integers(0, 587), regular=st.booleans())
def test_a_hull_has_the_extremes_of_its_shape(slope, which, regular):
    window = (OPEN, 960) if regular else (0, MINUTES)
    clocks, heights = SHAPES.hulls(np.array([which]), window)
    whole = SHAPES.points(np.array([which]), *window)[0] + slope * SHAPES.clocks(*window)
    corners = heights[0] + slope * clocks[0]
    assert corners.max() == pytest.approx(whole.max(), abs=1e-12)
    assert corners.min() == pytest.approx(whole.min(), abs=1e-12)


def test_a_shape_begins_and_ends_at_nothing():
    points = SHAPES.points(np.arange(588), MINUTES - 1, MINUTES)
    assert (points[:, 0, STEPS - 1] == 0).all()
    assert (SHAPES.shapes[:, 0] == 0).all()


def test_all_quotes_take_less_than_15_ms(market):
    begin, took = ms(2026, 11, 24, 11, 7), []
    market.quotes(begin)
    for n in range(1, 21):
        started = time.perf_counter()
        market.quotes(begin + 5_000 * n)
        took.append(time.perf_counter() - started)
    assert min(took) < 0.015


# The clock


def test_the_clock_is_the_wall_clock_until_it_is_set():
    wall, ticks = [1000.0], [50.0]
    clock = Clock(monotonic=lambda: ticks[0], wall=lambda: wall[0])
    assert clock.real
    assert clock.ms() == 1_000_000
    wall[0] = 1060.0
    assert clock.ms() == 1_060_000
    clock.set(at=datetime(2026, 11, 24, 15, 0, tzinfo=UTC), speed=60.0)
    ticks[0] += 2
    assert clock.now() == datetime(2026, 11, 24, 15, 2, tzinfo=UTC)
    clock.set(speed=0.0)
    ticks[0] += 100
    assert clock.now() == datetime(2026, 11, 24, 15, 2, tzinfo=UTC)
    clock.reset()
    assert clock.real
    assert clock.ms() == 1_060_000
