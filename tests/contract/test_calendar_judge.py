"""Our calendar against exchange_calendars, day by day; the judge takes 4 s to import."""

from datetime import date, timedelta

import pytest

from actors.domain import calendar

FIRST, LAST = date(2010, 1, 4), date(2027, 11, 19)  # the judge knows a year ahead of its release


@pytest.mark.filterwarnings("ignore")  # the judge's own quarrels with pandas
def test_every_session_and_every_hour() -> None:
    judges = pytest.importorskip("exchange_calendars", reason="the judge is in the test extra")
    table = judges.get_calendar("XNYS", start=str(FIRST)).schedule[["open", "close"]]
    judged = {row.Index.date(): (row.open, row.close) for row in table.itertuples()}
    last = min(LAST, max(judged))
    assert last >= date(2026, 11, 1), f"the judge ends early, on {last}"

    days = (FIRST + timedelta(days=n) for n in range((last - FIRST).days + 1))
    ours = {
        found.day: (found.opens, found.closes) for day in days if (found := calendar.session(day))
    }

    wrong = {
        day: (ours.get(day), judged.get(day))
        for day in ours.keys() | judged.keys()
        if day <= last and ours.get(day) != judged.get(day)
    }
    assert not wrong
    assert len(ours) > 4_200
