"""The checkers of a soak: each is silent over rows that add up, and names every planted fault."""

from datetime import UTC, date, datetime, timedelta

import pytest

from tests.chaos.ledger import (
    Account,
    accounts,
    causes,
    grid,
    history,
    minutes,
    slots,
    stops,
    traded,
    volumes,
)

NOON = datetime(2026, 11, 24, 17, tzinfo=UTC)
HALF = timedelta(seconds=0.5)
TODAY, YESTERDAY = date(2026, 11, 24), date(2026, 11, 23)


def after(seconds):
    return NOON + timedelta(seconds=seconds)


# --- slots


def run(n, state="done", error=None):
    return {"slot": NOON + n * HALF, "state": state, "error": error}


def five():
    return [
        run(0),
        run(1, "missed", "the next slot had come"),
        run(2, "failed", "Unavailable: 500"),
        run(3, "lost", "the scheduler ended"),
        run(4, "running"),
    ]


def test_slots_that_each_say_how_they_ended_are_in_order():
    assert slots(five(), HALF) == []
    assert slots([], HALF) == []
    assert len(grid(five(), HALF)) == 5


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda rows: rows.pop(2), "17:00:01+00:00 is absent"),
        (lambda rows: rows.append(run(1, "done")), "17:00:00.500000+00:00 has 2 rows"),
        (lambda rows: rows.append(run(2.5)), "is none of the job"),
        (lambda rows: rows.__setitem__(0, run(0, "running")), "17:00:00+00:00 is still running"),
        (lambda rows: rows.__setitem__(1, run(1, "missed")), "is missed without a reason"),
        (lambda rows: rows.__setitem__(3, run(3, "lost", "")), "is lost without a reason"),
        (lambda rows: rows.__setitem__(4, run(4, "asleep")), "is still asleep"),
    ],
)
def test_a_slot_that_is_not_in_order_is_named(harm, said):
    rows = five()
    harm(rows)
    [wrong] = slots(rows, HALF)
    assert said in wrong


# --- volumes and minutes


def quote(volume, counted=None, day=TODAY, symbol="SPY"):
    counted = volume if counted is None else counted
    return {"symbol": symbol, "volume": volume, "counted": counted, "counted_on": day}


def bar(seconds, volume, symbol="SPY"):
    return {"symbol": symbol, "at": after(seconds), "volume": volume}


OPENED = accounts([quote(1000)], [bar(0, 100)])
BARS = (bar(0, 150), bar(60, 250), bar(120, 100))


def test_books_that_close_have_no_violation():
    assert accounts([quote(1000)], [bar(0, 100)]) == {"SPY": Account(TODAY, 900)}
    assert volumes(OPENED, [quote(1400)], BARS) == []


def test_a_lost_bar_is_volume_that_is_in_no_bar():
    assert volumes(OPENED, [quote(1400)], BARS[:2]) == ["SPY has lost 100 shares of 2026-11-24"]


def test_a_doubled_bar_is_volume_counted_twice():
    doubled = [*BARS, bar(180, 100)]
    assert volumes(OPENED, [quote(1400)], doubled) == ["SPY counts 100 shares of 2026-11-24 twice"]


def test_what_was_told_and_not_counted_is_named():
    wrong = volumes(OPENED, [quote(1500, counted=1400)], BARS)
    assert wrong == ["SPY was told 1500 shares and has counted 1400"]


def test_a_symbol_that_is_gone_is_named():
    assert volumes(OPENED, [], BARS) == ["SPY has no quote any more"]


def test_a_new_day_is_counted_from_nothing():
    opened = {"SPY": Account(YESTERDAY, 5000)}
    assert volumes(opened, [quote(500)], BARS) == []
    assert volumes(opened, [quote(600)], BARS) == ["SPY has lost 100 shares of 2026-11-24"]


def test_a_bar_of_another_day_or_symbol_is_not_in_the_sum():
    others = [bar(-86_400, 7), bar(0, 9, symbol="QQQ")]
    assert volumes(OPENED, [quote(1400)], [*BARS, *others]) == []


def test_each_minute_of_a_stored_quote_has_one_bar():
    def told(seconds, last=1.0, fetched=None):
        at = after(seconds)
        return {"symbol": "SPY", "at": at, "fetched_at": fetched or at, "last": last}

    quotes = [told(1), told(59.9), told(130)]
    assert traded(quotes) == {("SPY", after(0)), ("SPY", after(120))}
    assert minutes(BARS, traded(quotes)) == []
    assert minutes(BARS, traded([told(300, last=None), told(300, fetched=after(9999))])) == []
    [absent] = minutes(BARS, traded([*quotes, told(180)]))
    assert "SPY has no bar of 2026-11-24 17:03" in absent
    [double] = minutes([*BARS, bar(60, 1)], traded(quotes))
    assert "SPY has 2 bars of 2026-11-24 17:01" in double


# --- history


def event(seconds, generation, what, cause, child="api"):
    return {
        "child": child,
        "generation": generation,
        "event": what,
        "cause": cause,
        "at": after(seconds),
    }


def lived():
    return [
        event(0, 1, "start", "boot"),
        event(5, 1, "stop", "crash"),
        event(6, 2, "start", "crash"),
        event(12, 3, "start", "memory_soft"),  # beside
        event(13, 2, "stop", "memory_soft"),
        event(20, 3, "stop", "head_lost"),
        event(30, 4, "start", "head_lost"),
    ]


def test_a_history_with_a_relief_and_a_dead_head_is_whole():
    assert history(lived(), {"api": 4}) == []


def test_one_that_ended_before_it_was_up_has_a_stop_only():
    rows = [row for row in lived() if (row["generation"], row["event"]) != (2, "start")]
    assert history(rows, {"api": 4}) == []


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda rows: rows.pop(1), "api.1 has no stop"),
        (lambda rows: rows.pop(5), "api.3 has no stop"),
        (lambda rows: rows.append(event(7, 1, "stop", "hang")), "api.1 has 2 rows of its stop"),
        (lambda rows: rows.append(event(31, 4, "start", "boot")), "api.4 has 2 rows of its start"),
        (lambda rows: rows.append(event(31, 4, "stop", "crash")), "api.4 lives, and a row says"),
        (lambda rows: rows.pop(6), "api.4 is in no row"),
        (
            lambda rows: rows.__setitem__(1, event(-1, 1, "stop", "crash")),
            "api.1 stopped before it had started",
        ),
    ],
)
def test_a_history_that_does_not_add_up_is_named(harm, said):
    rows = lived()
    harm(rows)
    assert any(said in wrong for wrong in history(rows, {"api": 4}))


def test_who_lives_is_in_the_rows():
    assert "api.4 lives, and there are rows of api.5" in history(
        [*lived(), event(40, 5, "start", "crash")], {"api": 4}
    )
    assert history([], {"api": 1}) == ["api.1 is in no row"]


def test_stops_are_those_that_were_dealt():
    dealt = [("api", "crash"), ("api", "memory_soft")]
    ended = stops(lived(), [])
    assert causes(ended, dealt) == []
    assert causes(ended, dealt[:1]) == ["api stopped 1 times of memory_soft, 0 were due"]
    assert causes(ended, [*dealt, ("api", "hang")]) == ["api stopped 0 times of hang, 1 were due"]


def test_the_stops_of_a_head_s_outage_are_apart():
    assert [row["cause"] for row in stops(lived(), [(after(4), after(6))])] == ["memory_soft"]
