"""What a dead root still owed the history: found by the next one, each fact once."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from actors.books import Adopted, Before, untold
from actors.store.history import Event, fact
from actors.supervise import Cause

AT = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
BOOT = "this boot"


def start(child="scheduler", generation=1, boot=BOOT):
    return Event(
        fact(boot, child, generation, "start"), AT, boot, child, generation, "start", 77, "here"
    )


def remembered(**changes):
    return {
        "pid": 78,
        "node": "here",
        "cause": "boot",
        "ready": True,
        "memory_mb": 61.5,
        "ordered_at": 40.0,
    } | changes


def owed(*starts, before=None, alive=(), newest=9, why=Cause.CRASH):
    before = before or Before()
    adopted = Adopted({*alive}, {"scheduler": newest}, lambda _child, _generation: why)
    return list(untold(BOOT, before, adopted, starts))


def facts(rows):
    return [(row.boot, row.child, row.generation, row.event, row.cause) for row in rows]


def test_who_lives_owes_nothing_and_who_does_not_has_ended():
    assert owed(start(), alive=[("scheduler", 1)]) == []
    [stop] = owed(start())
    assert facts([stop]) == [(BOOT, "scheduler", 1, "stop", "crash")]
    assert (stop.pid, stop.node, stop.detail) == (77, "here", {"found": True})
    assert stop.id == fact(BOOT, "scheduler", 1, "stop") == owed(start())[0].id


def test_whoever_was_started_since_is_none_of_it():
    assert facts(owed(start(generation=9), start(generation=10))) == facts(
        owed(start(generation=9))
    )


def test_of_an_earlier_boot_all_that_is_known_is_that_it_did_not_tell():
    [stop] = owed(start(boot="the last one"), alive=[("scheduler", 1)])
    assert facts([stop]) == [("the last one", "scheduler", 1, "stop", "boot_lost")]


def test_the_snapshot_knows_of_starts_that_were_never_written_and_what_they_held():
    before = Before(at=AT, now=100.0, processes={("scheduler", 2): remembered()})
    for starts in ((), (start(generation=2),)):
        rows = owed(*starts, before=before, why=Cause.HEAD_LOST)
        assert facts(rows) == [
            (BOOT, "scheduler", 2, "start", "boot"),
            (BOOT, "scheduler", 2, "stop", "head_lost"),
        ]
    assert rows[0].at == AT
    assert (rows[1].memory_mb, rows[1].age_seconds) == (61.5, 60.0)
    assert rows[1].at > AT
    assert rows[1].detail == {"found": True, "seen": AT.isoformat()}
    assert owed(before=before, alive=[("scheduler", 2)]) == []


def test_one_that_had_not_come_up_has_no_start():
    before = Before(at=AT, now=100.0, processes={("scheduler", 2): remembered(ready=False)})
    assert [row.event for row in owed(before=before)] == ["stop"]


def test_no_two_facts_share_an_id():
    ids = {
        fact(boot, child, generation, event)
        for boot in ("a", "b")
        for child in ("x", "y")
        for generation in (1, 2, 11)
        for event in ("start", "stop")
    }
    assert len(ids) == 24
    assert replace(start(), at=AT + timedelta(1)).id == start().id
