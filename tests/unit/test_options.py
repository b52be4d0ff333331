"""The sandbox's options: one surface behind every contract, the same on every run, and shown as a market shows it."""

import math
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest

from actors.domain import calendar
from actors.domain.chains import read_occ
from sandbox import pricing
from sandbox.days import NEW_YORK, Hours
from sandbox.market import Market
from sandbox.options import DAY_MS, INDEX, RATE, Options

NOON = (
    int(datetime(2026, 11, 24, 17, tzinfo=UTC).timestamp()) * 1000
)  # a Tuesday, 12:00 in New York
MARKET = Market(seed=7)
OPTIONS = Options(MARKET)
SYMBOLS = ["AAPL", "F", "BRK.B", "NVR", "TLT", "$SPX"]


def at(*when):
    return int(datetime(*when, tzinfo=NEW_YORK).timestamp()) * 1000


def days_of(symbol, now=NOON):
    return [e.day for e in OPTIONS.expirations(symbol, now)]


def chosen(book, n, *, call):
    """Return the rows of one expiration and side, by strike."""
    return np.flatnonzero((book.of == n) & (book.call == call))


# What is listed


def test_expirations_are_sessions_and_third_fridays_give_way_to_holidays():
    for symbol in (*SYMBOLS, "SPY"):
        assert all(calendar.session(day) for day in days_of(symbol))
    assert date(2026, 12, 18) in days_of("AAPL")
    assert date(2027, 6, 17) in days_of("AAPL")  # Juneteenth is kept on the third Friday
    assert date(2027, 6, 18) not in days_of("AAPL")


def test_the_liquid_have_an_expiration_a_day_the_busy_a_week_the_others_a_month():
    near = {
        symbol: [day for day in days_of(symbol) if day < date(2026, 12, 9)]
        for symbol in ("SPY", "AAPL", "NVR")
    }
    assert len(near["SPY"]) == 10  # Thanksgiving is none
    assert near["AAPL"] == [date(2026, 11, 27), date(2026, 12, 4)]
    assert near["NVR"] == []
    assert any(day.year == 2029 and day.month == 1 for day in days_of("AAPL"))  # LEAPS


def test_the_index_settles_in_the_morning_and_in_the_evening_of_a_third_friday():
    both = [e for e in OPTIONS.expirations(INDEX, NOON) if e.day == date(2026, 12, 18)]
    assert [(e.root, e.morning, e.at) for e in both] == [
        ("SPX", True, at(2026, 12, 18, 9, 30)),
        ("SPXW", False, at(2026, 12, 18, 16)),
    ]
    book = OPTIONS.book(INDEX, NOON)
    assert {read_occ(c)[0] for c in book.contract.tolist()} == {"SPX", "SPXW"}


def test_an_expiration_is_gone_when_it_has_settled():
    early = date(2026, 11, 27)  # closes at 13:00
    assert early in days_of("AAPL", at(2026, 11, 27, 12, 59))
    assert early not in days_of("AAPL", at(2026, 11, 27, 13))


def test_a_contract_lives_until_it_expires():
    moments = [at(2026, 3, 6, 1) + n * DAY_MS for n in (0, 1, 40)]
    symbols = ("AAPL", "$SPX", "F")
    books = [{symbol: OPTIONS.book(symbol, moment) for symbol in symbols} for moment in moments]
    for later, moment in zip(books[1:], moments[1:], strict=True):
        for symbol, before in books[0].items():
            kept = set(before.contract[before.expires > moment].tolist())
            assert kept
            assert not kept - set(later[symbol].contract.tolist())


def test_contracts_are_their_own_names():
    for symbol in SYMBOLS:
        book = OPTIONS.book(symbol, NOON)
        assert len(set(book.contract.tolist())) == len(book)
        for n, contract in list(enumerate(book.contract.tolist()))[::17]:
            root, day, call, strike = read_occ(contract)
            expiration = book.expirations[int(book.of[n])]
            assert (root, day) == (expiration.root, expiration.day)
            assert (call, strike) == (bool(book.call[n]), book.strike[n])


def test_giants_have_many_times_the_contracts_of_others():
    sizes = {s: len(OPTIONS.book(s, NOON)) for s in ("$SPX", "SPY", "AAPL", "F")}
    assert sizes["$SPX"] > 15_000
    assert sizes["SPY"] > 9_000
    assert 1_500 < sizes["AAPL"] < 3_500
    assert 150 < sizes["F"] < 500
    assert OPTIONS.book("$DJI", NOON) is None


def test_a_moved_price_adds_strikes_around_it():
    market = Market(seed=7)
    options = Options(market)
    before = options.book("KO", NOON)
    market.shift("KO", 2 * before.spot, NOON)
    after = options.book("KO", NOON)
    assert after.spot == pytest.approx(2 * before.spot, rel=0.001)
    assert set(before.contract.tolist()) < set(after.contract.tolist())
    assert after.strike.max() > after.spot


# What is behind it


def test_the_same_seed_and_time_are_the_same_book():
    again = Options(Market(seed=7)).book("AAPL", NOON)
    other = Options(Market(seed=8)).book("AAPL", NOON)
    book = OPTIONS.book("AAPL", NOON)
    for name in ("contract", "bid", "ask", "iv", "volume", "open_interest", "quoted_at"):
        np.testing.assert_array_equal(getattr(book, name), getattr(again, name))
    assert not np.array_equal(book.sigma[:100], other.sigma[:100])


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_the_surface_is_free_of_static_arbitrage(symbol):
    surface = OPTIONS.surface(symbol, NOON)
    assert surface.eta * (1 + abs(surface.rho)) <= 2
    expires = np.array([e.at for e in OPTIONS.expirations(symbol, NOON)])
    k = np.linspace(-1.2, 1.2, 97)
    variances = [
        surface.volatility(NOON, np.full(97, t), k) ** 2 * (t - NOON) for t in np.unique(expires)
    ]
    assert all((np.diff(variances, axis=0) > 0).ravel())  # more time, more variance: no calendar
    for t in np.unique(expires):
        strike = 100 * np.exp(k)
        sigma = surface.volatility(NOON, np.full(97, t), k)
        years = np.full(97, (t - NOON) / (365 * DAY_MS))
        terms = (strike, np.full(97, True), years, sigma, 0.0, 0.0)
        slopes = np.diff(pricing.european(100.0, *terms)) / np.diff(strike)
        assert (np.diff(slopes) > -1e-9).all()  # convex: no butterfly
        assert (slopes < 1e-9).all()


@pytest.mark.parametrize("symbol", ["AAPL", "$SPX"])
def test_what_control_tells_is_what_the_book_is_priced_with(symbol):
    truth, book = OPTIONS.truth(symbol, NOON), OPTIONS.book(symbol, NOON)
    assert truth["spot"] == book.spot == MARKET.quotes(NOON).last[MARKET.index[symbol]]
    assert truth["rate"] == RATE
    for n, row in enumerate(truth["term"]):
        carry = (truth["rate"] - truth["dividend_yield"]) * row["years"]
        assert row["forward"] == pytest.approx(book.spot * math.exp(carry))
        rows = chosen(book, n, call=True)
        k = np.log(book.strike[rows] / row["forward"])
        # The smile as JSON tells it: a judge needs nothing else.
        theta = row["atm_iv"] ** 2 * row["years"]
        x = truth["eta"] / math.sqrt(theta * (1 + theta)) * k
        rho = truth["rho"]
        variance = theta / 2 * (1 + rho * x + np.sqrt((x + rho) ** 2 + 1 - rho**2))
        np.testing.assert_allclose(book.sigma[rows], np.sqrt(variance / row["years"]), rtol=1e-9)
        steps = np.array([-1e-4, 0.0, 1e-4])
        near = OPTIONS.surface(symbol, NOON).volatility(
            NOON, np.full(3, book.expires[rows[0]]), steps
        )
        assert row["atm_iv"] == pytest.approx(near[1])
        assert row["skew"] == pytest.approx((near[2] - near[0]) / 2e-4, rel=1e-3)
        second = (near[2] - 2 * near[1] + near[0]) / 1e-8
        assert row["curvature"] == pytest.approx(second, rel=0.02, abs=0.01)


def test_puts_are_dearer_than_calls_on_what_follows_the_market():
    for symbol in ("$SPX", "SPY", "QQQ"):
        surface, month = OPTIONS.surface(symbol, NOON), np.full(2, NOON + 30 * DAY_MS)
        low, high = surface.volatility(NOON, month, np.array([-0.1, 0.1]))
        assert low > high + 0.05


def test_a_report_before_expiry_makes_the_term_jump():
    surface = OPTIONS.surface("AAPL", NOON)
    [report] = surface.reports[:1]
    theta = surface.theta(NOON, np.array([report - 1, report + 1]))
    assert theta[1] - theta[0] == pytest.approx(surface.move**2, rel=1e-3)
    assert OPTIONS.surface("SPY", NOON).reports == ()


def test_volatility_is_near_what_the_price_really_does():
    for symbol in SYMBOLS:
        listing = MARKET.listings[MARKET.index[symbol]]
        half = [OPTIONS.surface(symbol, NOON - n * 10 * DAY_MS).near for n in range(18)]
        assert min(half) > 0.6 * listing.volatility
        assert max(half) < 1.8 * listing.volatility
        assert max(half) > 1.1 * min(half)  # and it moves


# What it is worth


def tree(spot, strike, call, years, sigma, dividend_yield, steps=400):
    """Return an American price by a binomial tree (Cox, Ross and Rubinstein 1979)."""
    dt = years / steps
    up = math.exp(sigma * math.sqrt(dt))
    chance = (math.exp((RATE - dividend_yield) * dt) - 1 / up) / (up - 1 / up)
    sign, kept = (1 if call else -1), math.exp(-RATE * dt)
    powers = np.arange(-steps, steps + 1)
    worth = np.maximum(sign * (spot * up ** powers[::2] - strike), 0)
    for n in range(steps - 1, -1, -1):
        worth = kept * (chance * worth[1:] + (1 - chance) * worth[:-1])
        now = spot * up ** np.arange(-n, n + 1, 2)
        worth = np.maximum(worth, sign * (now - strike))
    return worth[0]


@pytest.mark.parametrize("dividend_yield", [0.0, 0.03])
def test_early_exercise_is_worth_what_a_tree_says(dividend_yield):
    cases = [
        (strike, call, years, sigma)
        for strike in (80.0, 100.0, 120.0)
        for call in (True, False)
        for years in (0.1, 1.0)
        for sigma in (0.2, 0.5)
    ]
    strike, call, years, sigma = (np.array(column) for column in zip(*cases, strict=True))
    terms = (strike, call, years, sigma, RATE, dividend_yield)
    ours = pricing.price(100.0, *terms, american=True)
    theirs = [tree(100.0, *case, dividend_yield) for case in cases]
    np.testing.assert_allclose(ours, theirs, atol=0.12)
    assert (ours >= pricing.european(100.0, *terms)).all()


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_prices_are_within_their_bounds(symbol):
    book = OPTIONS.book(symbol, NOON)
    inside = np.maximum(np.where(book.call, book.spot - book.strike, book.strike - book.spot), 0)
    if book.american:
        assert (book.theoretical >= inside - 1e-9).all()
    ceiling = np.where(book.call, book.spot, book.strike)
    assert (book.theoretical <= ceiling).all()
    assert np.isfinite(book.theoretical).all()


def test_the_european_index_keeps_put_call_parity():
    book, truth = OPTIONS.book("$SPX", NOON), OPTIONS.truth("$SPX", NOON)
    for n, row in enumerate(truth["term"]):
        calls, puts = chosen(book, n, call=True), chosen(book, n, call=False)
        owed = math.exp(-RATE * row["years"]) * (row["forward"] - book.strike[calls])
        np.testing.assert_allclose(
            book.theoretical[calls] - book.theoretical[puts], owed, atol=1e-6
        )


# What the market shows


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_quotes_lie_on_ticks_around_what_the_contract_is_worth(symbol):
    book = OPTIONS.book(symbol, NOON)
    cents = np.concatenate((book.bid, book.ask)) * 100
    np.testing.assert_allclose(cents, np.rint(cents), atol=1e-6)
    fresh = (NOON - book.quoted_at < 1_800_000) & (book.bid <= book.ask)
    assert fresh.mean() > 0.9
    width = book.ask - book.bid
    off = np.abs((book.bid + book.ask) / 2 - book.theoretical)[fresh]
    assert (off <= 0.75 * width[fresh] + 0.05).all()
    assert (book.ask > 0).all()
    assert (book.quoted_at <= book.at).all()


def test_there_are_zero_bids_stale_and_crossed_quotes():
    book = OPTIONS.book("SPY", NOON)
    assert 0.02 < (book.bid == 0).mean() < 0.4
    assert (book.bid_size[book.bid == 0] == 0).all()
    assert 0 < (book.bid > book.ask).sum() < 0.01 * len(book)
    assert 0 < (book.at - book.quoted_at > 1_800_000).mean() < 0.02
    thin = OPTIONS.book("NVR", NOON)
    assert 0.01 < (thin.at - thin.quoted_at > 1_800_000).mean() < 0.12


def test_the_broker_tells_a_volatility_near_the_true_one_or_none():
    book = OPTIONS.book("AAPL", NOON)
    near = np.abs(np.log(book.strike / book.spot)) < 0.1
    fresh = near & (NOON - book.quoted_at < 1_800_000) & (book.expires - NOON > 20 * DAY_MS)
    assert np.median(np.abs(book.iv - book.sigma)[fresh]) < 0.01
    unknown = np.isnan(book.iv)
    assert 0 < unknown.mean() < 0.4
    for greek in (book.delta, book.gamma, book.theta, book.vega, book.rho):
        np.testing.assert_array_equal(np.isnan(greek), unknown)
    assert (np.abs(book.delta[~unknown]) <= 1).all()
    assert (
        np.sign(book.delta[near & ~unknown]) == np.where(book.call, 1, -1)[near & ~unknown]
    ).all()


def test_a_day_only_adds_to_volume_and_leaves_open_interest():
    books = [OPTIONS.book("AAPL", at(2026, 11, 24, hour)) for hour in (10, 12, 15)]
    for earlier, later in pairwise(books):
        place = {c: n for n, c in enumerate(later.contract.tolist())}
        rows = [place[c] for c in earlier.contract.tolist()]
        assert (later.volume[rows] >= earlier.volume).all()
        np.testing.assert_array_equal(later.open_interest[rows], earlier.open_interest)
    assert books[-1].volume.sum() > books[0].volume.sum() > 0
    fresh = [e.listed for e in books[0].expirations]
    assert (date(2026, 11, 24) - min(fresh)) > timedelta(days=1)


def test_interest_is_where_the_money_is():
    book = OPTIONS.book("AAPL", NOON)
    away = np.abs(np.log(book.strike / book.spot))
    for column in (book.volume, book.open_interest):
        assert column[away < 0.1].mean() > 5 * column[away > 0.3].mean()
    assert (book.open_interest == 0).any()
    silent = (book.volume == 0) & (book.open_interest == 0)
    assert (book.last[silent] == 0).all()
    assert (book.high[book.volume == 0] == 0).all()
    done = book.volume > 0
    assert (book.high[done] >= book.last[done]).all()
    assert (book.low[done] <= book.last[done]).all()


def test_a_closed_market_shows_its_last_book_without_what_has_settled():
    options = Options(Market(seed=7, hours=Hours.NYSE))
    saturday = options.book("AAPL", at(2026, 11, 21, 12))
    friday = options.book("AAPL", at(2026, 11, 20, 15, 59, 56))
    assert saturday.frozen
    assert not friday.frozen
    assert date(2026, 11, 20) not in [e.day for e in saturday.expirations]
    assert saturday.spot == friday.spot
    worth = dict(zip(friday.contract.tolist(), friday.theoretical.tolist(), strict=True))
    left = friday.expires > at(2026, 11, 21, 12)
    shown = dict(zip(saturday.contract.tolist(), saturday.theoretical.tolist(), strict=True))
    assert {c: shown.get(c) for c in friday.contract[left].tolist()}.items() <= worth.items()
