"""What one more observation adds to the bars: the arithmetic, by example and by property."""

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.domain.bars import (
    Seen,
    Step,
    Tally,
    daily,
    fault,
    mad,
    minute,
    missing,
    observe,
    trading_day,
)
from actors.domain.models import Bar, Quote

AT = datetime(2026, 11, 23, 15, 30, 12, tzinfo=UTC)
TODAY, YESTERDAY = date(2026, 11, 23), date(2026, 11, 22)


def quote(at=AT, **fields):
    return Quote("AAPL", at, "schwab", **({"last": 100.0, "volume": 1_000} | fields))


def seen(at=AT - timedelta(minutes=2), volume=800, counted=800, day=TODAY, source="schwab"):
    return Seen(at, volume, Tally(counted, day, source))


def bar(volume=50, **fields):
    return Bar(
        "AAPL",
        minute(AT),
        100.0,
        101.0,
        99.0,
        100.5,
        volume,
        "schwab",
        **({"polled": True} | fields),
    )


# --- examples


def test_the_first_observation_of_all_is_where_counting_begins():
    step = observe(None, None, quote(), AT)
    assert step == Step(
        Tally(1_000, TODAY, "schwab"),
        Bar("AAPL", minute(AT), 100.0, 100.0, 100.0, 100.0, 0, "schwab", polled=True),
    )


def test_the_first_observation_of_a_day_counts_from_nothing():
    before = seen(AT - timedelta(days=1), 9_000, 9_000, YESTERDAY)
    assert observe(before, None, quote(), AT).bar.volume == 1_000


def test_the_difference_goes_into_the_minutes_bar():
    step = observe(seen(), bar(), quote(last=102.0), AT)
    assert step.tally == Tally(1_000, TODAY, "schwab")
    assert step.bar == replace(bar(), high=102.0, close=102.0, volume=250)
    assert observe(seen(), bar(), quote(last=98.0), AT).bar == replace(
        bar(), low=98.0, close=98.0, volume=250
    )


def test_an_older_quote_adds_nothing():
    assert observe(seen(at=AT + timedelta(seconds=1)), bar(), quote(), AT) is None


@pytest.mark.parametrize("late", [timedelta(minutes=15, seconds=1), timedelta(hours=9)])
def test_what_did_not_trade_lately_has_no_bar_and_its_volume_waits(late):
    step = observe(seen(), None, quote(), AT + late)
    assert step == Step(Tally(800, TODAY, "schwab"), None)


def test_a_quote_without_a_price_has_no_bar():
    assert observe(seen(), bar(), quote(last=None), AT) == Step(Tally(800, TODAY, "schwab"), None)


def test_a_quote_without_a_volume_moves_the_price_only():
    step = observe(seen(), bar(), quote(volume=None, last=103.0), AT)
    assert step == Step(Tally(800, TODAY, "schwab"), replace(bar(), high=103.0, close=103.0))


def test_a_falling_volume_is_taken_back_as_far_as_the_minute_has_it():
    assert observe(seen(), bar(50), quote(volume=780), AT).bar.volume == 30
    step = observe(seen(), bar(50), quote(volume=500), AT)
    assert (step.bar.volume, step.tally.counted) == (0, 750)
    assert observe(seen(counted=750, volume=500), bar(0), quote(volume=900), AT).bar.volume == 150


def test_a_vendors_own_bar_stays_and_its_shares_are_not_counted_again():
    assert observe(seen(), bar(polled=False), quote(), AT) == Step(
        Tally(1_000, TODAY, "schwab"), None
    )


def test_yesterdays_total_shown_in_the_morning_is_no_trade():
    before = seen(AT - timedelta(days=1), 9_000, 9_000, YESTERDAY)
    morning = observe(before, None, quote(volume=9_000), AT)
    assert (morning.tally, morning.bar.volume) == (Tally(9_000, YESTERDAY, "schwab"), 0)
    again = Seen(AT, 9_000, morning.tally)
    opened = observe(again, None, quote(AT + timedelta(minutes=5), volume=70), AT)
    assert (opened.tally, opened.bar.volume) == (Tally(70, TODAY, "schwab"), 70)


def test_another_vendors_volume_is_of_another_tape():
    before = seen(volume=1_000_000, counted=1_000_000)
    fell = observe(before, bar(50), replace(quote(volume=30_000), source="alpaca"), AT)
    assert (fell.tally, fell.bar.volume) == (Tally(30_000, TODAY, "alpaca"), 50)
    rose = observe(before, bar(50), replace(quote(volume=9_000_000), source="tiingo"), AT)
    assert (rose.tally, rose.bar.volume) == (Tally(9_000_000, TODAY, "tiingo"), 50)
    silent = observe(before, bar(50), replace(quote(volume=None), source="finnhub"), AT)
    assert (silent.tally, silent.bar.volume) == (before.tally, 50), (
        "who tells none changes no count"
    )
    later = Seen(AT, None, silent.tally)
    back = observe(later, silent.bar, quote(AT + timedelta(seconds=20), volume=1_000_900), AT)
    assert (back.tally, back.bar.volume) == (Tally(1_000_900, TODAY, "schwab"), 950)


def test_another_vendors_first_word_of_a_day_may_be_yesterdays():
    before = seen(AT - timedelta(days=1), 9_000, 9_000, YESTERDAY)
    morning = observe(before, None, replace(quote(volume=8_123), source="tiingo"), AT)
    assert (morning.tally, morning.bar.volume) == (Tally(8_123, TODAY, "tiingo"), 0)


def test_a_trading_day_is_a_date_in_new_york():
    assert trading_day(datetime(2026, 11, 24, 4, 59, tzinfo=UTC)) == date(2026, 11, 23)
    assert trading_day(datetime(2026, 11, 24, 5, 0, tzinfo=UTC)) == date(2026, 11, 24)
    assert trading_day(datetime(2026, 7, 24, 4, 0, tzinfo=UTC)) == date(2026, 7, 24)


# --- the property: whatever comes, the bars of a day hold what was told of it


@dataclass
class Store:
    """What a database holds of one symbol; a restart changes nothing, because nothing else is known."""

    seen: Seen | None = None
    bars: dict[datetime, Bar] = field(default_factory=dict)

    def take(self, told, now):
        step = observe(self.seen, self.bars.get(minute(told.at)), told, now)
        if step is not None:
            self.seen = Seen(told.at, told.volume, step.tally)
            if step.bar is not None:
                self.bars[step.bar.at] = step.bar
        return step

    def volume(self, day):
        return sum(bar.volume for bar in self.bars.values() if trading_day(bar.at) == day)


@dataclass(frozen=True)
class Poll:
    pause: int  # seconds since the one before
    traded: int  # change of the day's volume; below 0 it is a correction
    price: float
    stale: bool
    silent: bool  # tells no volume
    repeated: int


polls = st.builds(
    Poll,
    pause=st.integers(0, 4 * 3600),
    traded=st.integers(-50, 400),
    price=st.floats(0.01, 1e6),
    stale=st.booleans(),
    silent=st.booleans(),
    repeated=st.integers(0, 2),
)


def play(polls):
    """Send polls through a store; return it with each day's baseline and told volumes."""
    store, at, volume = Store(), AT, 5_000
    days = {}
    for poll in polls:
        before, at = trading_day(at), at + timedelta(seconds=poll.pause)
        day = trading_day(at)
        if day != before:
            volume = 0
        volume = max(volume + poll.traded, 0)
        told = quote(at, last=poll.price, volume=None if poll.silent else volume)
        now = at + timedelta(hours=1 if poll.stale else 0)
        first = store.seen is None
        store.take(told, now)
        for _ in range(poll.repeated):
            kept = (store.seen, dict(store.bars))
            store.take(told, now)
            assert (store.seen, store.bars) == kept
        if told.volume is not None:
            days.setdefault(day, []).append(told.volume)
        if first:
            origin = day
    return store, days, origin


@given(st.lists(polls, min_size=1, max_size=40))
def test_the_bars_hold_what_is_counted_and_are_never_negative(polls):
    store, days, origin = play(polls)
    for each in store.bars.values():
        assert each.volume >= 0
        assert each.low <= min(each.open, each.close) <= max(each.open, each.close) <= each.high
        assert each.at == minute(each.at)
    tally = store.seen.tally
    if tally.counted is not None and tally.day == trading_day(store.seen.at):
        baseline = days[origin][0] if tally.day == origin else 0
        assert store.volume(tally.day) == tally.counted - baseline


@given(st.lists(polls, min_size=1, max_size=40))
def test_a_days_bars_add_up_to_its_last_volume_less_its_first_baseline(polls):
    # As a market is: volumes that do not fall, told in time.
    good = [replace(poll, traded=abs(poll.traded) + 1, stale=False, silent=False) for poll in polls]
    store, days, origin = play(good)
    before = None
    for day, told in days.items():
        baseline = told[0] if day == origin else 0
        unlike = [volume for volume in told if volume != before]
        # A day that shows nothing but yesterday's total has not begun.
        assert store.volume(day) == (unlike[-1] - baseline if unlike else 0)
        before = told[-1]


@given(st.lists(polls, min_size=1, max_size=40))
def test_corrections_that_are_overtaken_leave_no_trace(polls):
    good = [replace(poll, pause=poll.pause % 300, stale=False, silent=False) for poll in polls]
    rise = Poll(pause=1, traded=1_000_000, price=1.0, stale=False, silent=False, repeated=0)
    store, days, origin = play([*good, rise])
    assert (
        store.volume(origin) == days[origin][-1] - days[origin][0]
        or trading_day(store.seen.at) != origin
    )


# --- what is not stored


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (
            {"at": datetime(2026, 11, 23, 15, 30)},
            "its time must have a zone, was 2026-11-23T15:30:00",
        ),
        ({"at": AT + timedelta(hours=1)}, "its time must not be in the future, was 2026"),
        ({"last": float("nan")}, "its prices must be finite"),
        ({"high_52w": float("inf")}, "its prices must be finite"),
        ({"bid": -0.01}, "its prices must not be negative"),
        ({"volume": -1}, "its volume and sizes must be 0 or more"),
        ({"ask_size": 2**63}, "its volume and sizes must be 0 or more"),
        ({"name": "A\x00"}, "its name must be plain text"),
    ],
)
def test_faulty_quotes_say_what_is_wrong(wrong, why):
    assert fault(replace(quote(), **wrong), AT).startswith(why)


def test_a_good_quote_has_no_fault():
    assert fault(quote(bid=0.0, change=-3.0, name="Bérkshire"), AT) is None


# --- daily bars


def test_a_daily_bar_is_of_the_trading_day_and_partial_before_the_close():
    told = quote(open=99.0, high=101.0, low=98.0, close=100.5, last=103.0)
    day = Bar(
        "AAPL",
        datetime(2026, 11, 23, tzinfo=UTC),
        99.0,
        101.0,
        98.0,
        100.5,
        1_000,
        "schwab",
        polled=True,
    )
    assert daily(told) == day
    evening = datetime(2026, 11, 24, 1, 0, tzinfo=UTC)  # still Monday in New York
    assert daily(replace(told, at=evening)) == replace(day, polled=False)
    early = datetime(2026, 11, 27, 18, 0, tzinfo=UTC)  # the day after Thanksgiving closes at 13:00
    assert daily(replace(told, at=early)).polled is False


@given(
    st.lists(
        st.tuples(st.sampled_from(["schwab", "tiingo"]), st.integers(0, 500), st.integers(0, 20)),
        max_size=40,
    )
)
def test_whoever_tells_only_what_one_vendor_saw_trade_is_counted(polls):
    store, volumes = Store(), {"schwab": 1_000_000, "tiingo": 40_000}
    told, expected, last, at = dict(volumes), 0, None, AT
    for source, traded, pause in polls:
        at += timedelta(seconds=pause)
        for name in volumes:
            volumes[name] += traded if name == "schwab" else traded // 25
        if source == last:
            expected += volumes[source] - told[source]
        told[source], last = volumes[source], source
        store.take(replace(quote(at, volume=volumes[source]), source=source), at)
    assert store.volume(TODAY) == expected
    assert all(bar.volume >= 0 for bar in store.bars.values())


def test_a_daily_bar_without_a_volume_is_not_whole():
    evening = datetime(2026, 11, 24, 1, 0, tzinfo=UTC)
    told = quote(evening, open=99.0, high=101.0, low=98.0, close=100.5, volume=None)
    assert daily(told).polled is True


def test_a_daily_bar_needs_its_prices_and_holds_its_close():
    assert daily(quote()) is None
    assert daily(quote(open=1.0, high=2.0, low=0.5, last=2.5)).high == 2.5


def test_missing_days_are_trading_days():
    first, last = date(2026, 11, 20), date(2026, 11, 30)  # a weekend, Thanksgiving, a weekend
    whole = {date(2026, 11, day) for day in (20, 23, 24, 25, 27, 30)}
    assert missing(whole, first, last) is None
    assert missing(whole - {date(2026, 11, 23), date(2026, 11, 27)}, first, last) == (
        date(2026, 11, 23),
        date(2026, 11, 27),
    )
    assert missing(set(), date(2026, 11, 21), date(2026, 11, 22)) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"last": 1e308}, "above"),
        ({"high": 1e8}, "above"),
        ({"last": 2_100.0, "previous_close": 100.0}, "beside a previous close"),
        ({"low": 4.9, "previous_close": 100.0}, "beside a previous close"),
        ({"change_percent": 1e308}, "change"),
    ],
)
def test_a_number_no_market_has_is_a_fault(changes, said):
    sane = Quote("X", datetime(2026, 11, 24, 16, tzinfo=UTC), "x", last=100.0, previous_close=99.0)
    assert mad(sane) is None
    assert mad(replace(sane, last=1_900.0, previous_close=100.0)) is None, "a day of wonders"
    assert mad(replace(sane, last=None, bid=0.0)) is None
    assert said in (mad(replace(sane, **changes)) or "")
    assert "no market is like that" in (fault(replace(sane, **changes), sane.at) or "")
