"""The record of judgements: exact for any life, small, told apart from other budgets, harmless to the root."""

import itertools
import logging
import re
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import cli
from actors import replay as record
from actors.replay import FAIR, Recorder, read, replay
from actors.settings import Refused
from actors.spec import MIB, Budget, Child, Intensity, mib
from actors.supervise import Action, Cause, Phase, Seen, Verb
from actors.supervise import Child as Judged
from actors.tree import TREE
from tests.unit.test_supervise import events, things
from tests.unit.world import Proc, World

SPEC = Child(
    id="x", start="m:C", memory=mib(100, 150), intensity=Intensity(3, 60), looks=3, drain=10
)
FINE = Seen(alive=True, ready=True, memory=50 * MIB)
UP = Judged(phase=Phase.UP)


class Watched(World):
    """A world whose looks are recorded."""

    def __init__(self, path, newborn, spec=SPEC):
        super().__init__(spec, newborn)
        self.recorder = Recorder(path, [spec])

    def look(self, drains=1.0, luck=0.0):
        before, seen = self.child, self.seen(luck)
        orders = super().look(drains, luck)
        self.recorder.note(self.spec.id, before, seen, self.now, self.child, orders)
        return orders

    def go(self, seconds):
        for _ in range(int(seconds * 4)):
            self.pass_time(0.25)
            self.look()


def leaky(path, mib_a_second=1, spec=SPEC):
    """Return a world whose processes are up after a second and leak from 50 MiB on."""
    return Watched(path, lambda now: Proc(now, 1.0, 50 * MIB, mib_a_second * MIB), spec)


def orders(one):
    return [(order.verb, order.cause) for order in one]


def given_again(path, *budgets):
    lines, unread = read(path)
    assert unread == 0
    return replay(lines, record.budgets(budgets, lines))


@given(st.lists(things, min_size=1, max_size=4), events)
@settings(max_examples=200, deadline=None)
def test_any_life_is_replayed_exactly(newborns, life):
    births = itertools.cycle(newborns)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "record"
        there = Watched(path, lambda now: Proc(born=now, **next(births)))
        for passed, what, drains, luck in life:
            if what == "die":
                there.serving = None
            elif what == "hang" and there.serving is not None:
                there.serving.silent_since = there.now
            elif what == "relief dies" and there.relief is not None:
                there.relief.fails = True
            for _ in range(int(passed) + 1):
                there.pass_time(passed / (int(passed) + 1))
                there.look(drains, luck)
        there.look()
        outcome = given_again(path)
    assert outcome.differences == []
    assert outcome.recorded == outcome.replayed == Counter(order for _, order in there.log)


def test_only_what_is_new_is_written(tmp_path):
    there = leaky(tmp_path / "record", 0)
    there.go(600)
    lines, _ = read(tmp_path / "record")
    assert len(lines) < 10
    outcome = replay(lines, {})
    assert outcome.recorded == {Action(Verb.START, Cause.BOOT): 1}
    there.go(600)
    assert 2400 < replay(read(tmp_path / "record")[0], {}).looks <= 4800, "idle hours are heard of"


@pytest.mark.parametrize("budget", ["x=80:150", "x=60:70"])
def test_a_lower_soft_budget_would_have_relieved_sooner(tmp_path, budget):
    there = leaky(tmp_path / "record")
    there.spec = replace(SPEC, young=0.0)
    there.recorder._specs = (there.spec,)
    there.go(200)
    outcome = given_again(tmp_path / "record", budget)
    reliefs = [at for at, order in there.log if order.verb is Verb.RELIEVE]
    assert len(outcome.differences) == len(reliefs) + 1, "each process, and the one that lives"
    first = outcome.differences[0]
    assert (first.child, first.recorded) == ("x", ())
    assert orders(first.replayed) == [(Verb.RELIEVE, Cause.MEMORY_SOFT)]
    soft = int(budget[2:4])
    began = next(line for line in read(tmp_path / "record")[0])
    seconds = (first.at - began.at).total_seconds() + began.now
    assert seconds == pytest.approx(soft - 50 + 0.25 * SPEC.looks, abs=1.0)


def test_a_higher_soft_budget_would_have_spared_it(tmp_path):
    there = leaky(tmp_path / "record")
    there.go(140)
    outcome = given_again(tmp_path / "record", "x=400:500")
    assert outcome.differences[0].replayed == ()
    assert orders(outcome.differences[0].recorded) == [(Verb.DRAIN, Cause.MEMORY_SOFT)]
    assert outcome.replayed[Action(Verb.START, Cause.BOOT)] == 1


def note(recorder, before, seen, now, after=None, actions=()):
    recorder.note("x", before, seen, now, after or before, actions)


def test_who_was_ended_by_its_own_guard_would_have_lived_with_a_higher_hard_budget(tmp_path):
    recorder = Recorder(tmp_path / "record", [SPEC])
    note(recorder, UP, FINE, 1.0)
    gone = Seen(last_words=Cause.MEMORY_HARD)
    after, actions = record.step(SPEC, UP, gone, 2.0)
    note(recorder, UP, gone, 2.0, after, actions)
    kill = Action(Verb.KILL, Cause.MEMORY_HARD)
    same, spared = given_again(tmp_path / "record"), given_again(tmp_path / "record", "x=100:200")
    assert (same.differences, same.replayed) == ([], {kill: 1})
    assert [(d.recorded, d.replayed) for d in spared.differences] == [((kill,), ())]


def test_a_changed_judgement_is_told(tmp_path, monkeypatch):
    there = leaky(tmp_path / "record", 0)
    there.go(5)
    there.serving = None
    there.go(5)
    assert given_again(tmp_path / "record").differences == []
    charged = record.step

    def careless(spec, child, seen, now):
        after, actions = charged(spec, child, seen, now)
        return replace(after, failures=()), actions

    monkeypatch.setattr(record, "step", careless)
    told = given_again(tmp_path / "record").differences[0]
    assert told.why.startswith("failures (")
    monkeypatch.setattr(record, "step", lambda _spec, child, _seen, _now: (child, ()))
    told = given_again(tmp_path / "record").differences[0]
    assert (orders(told.recorded), told.replayed) == ([(Verb.START, Cause.BOOT)], ())


def test_every_row_of_the_tree_can_be_rounded_without_another_outcome():
    for row in TREE:
        assert row.memory.soft % MIB == row.memory.hard % MIB == 0
        assert row.hang_after >= FAIR
        assert row.hang_after % 1 == 0


@given(st.integers(0, 400 * MIB), st.integers(1, 400), st.floats(0, 100), st.integers(5, 60))
def test_no_comparison_comes_out_otherwise_on_a_rounded_sight(held, budget, silent, hang):
    shown = record.rounded(replace(FINE, memory=held, leaver_memory=held, silent=silent))
    assert (shown.memory > budget * MIB) == (held > budget * MIB)
    assert (shown.leaver_memory > budget * MIB) == (held > budget * MIB)
    assert (shown.silent > hang) == (silent > hang)


def test_a_new_root_begins_anew_where_the_last_one_was_cut_off(tmp_path):
    path = tmp_path / "record"
    note(Recorder(path, [SPEC]), UP, FINE, 1.0)
    path.write_bytes(path.read_bytes()[:-20])
    note(Recorder(path, [SPEC]), replace(UP, streak=3), FINE, 2.0)
    lines, unread = read(path)
    assert (len(lines), unread) == (3, 1)
    outcome = replay(lines, {})
    assert (outcome.differences, outcome.skipped, outcome.looks) == ([], 0, 1)


def test_the_file_is_bounded_and_each_part_stands_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "MOST_BYTES", 20_000)
    recorder = Recorder(tmp_path / "r.jsonl", [SPEC])
    for n in range(2000):
        note(recorder, UP, replace(FINE, memory=(50 + n % 2) * MIB), float(n))
    parts = sorted(tmp_path.iterdir())
    assert [part.name for part in parts] == ["r.1.jsonl", "r.jsonl"]
    assert all(part.stat().st_size < 20_500 for part in parts)
    for part in parts:
        outcome = replay(read(part)[0], {})
        assert (outcome.differences, outcome.skipped) == ([], 0)


def test_a_full_disk_is_a_warning_once_and_the_record_begins_anew_later(tmp_path, caplog):
    recorder = Recorder(Path("/dev/full"), [SPEC])
    with caplog.at_level(logging.WARNING, "volaris.supervisor"):
        for n in range(300):
            note(recorder, UP, replace(FINE, memory=n * MIB), float(n))
    assert [r.getMessage() for r in caplog.records] == [
        "/dev/full cannot be written ([Errno 28] No space left on device); the record has a hole"
    ]
    recorder._path = tmp_path / "record"
    note(recorder, UP, FINE, 301.0)
    assert replay(read(tmp_path / "record")[0], {}).looks == 1


@pytest.mark.parametrize("text", ["", "x", "{}\n", '{"child": "x"}\n'])
def test_what_is_no_record_is_refused(tmp_path, text):
    (tmp_path / "record").write_text(text)
    with pytest.raises(Refused, match="is no record of judgements; with VOLARIS_RECORD=1"):
        read(tmp_path / "record")


def test_a_record_without_its_beginning_is_refused(tmp_path):
    there = leaky(tmp_path / "record")
    there.go(100)
    lines, _ = read(tmp_path / "record")
    for part in (lines[:1], lines[1:]):
        with pytest.raises(Refused, match="must be whole from its first line"):
            replay(part, {})


def test_the_command_says_what_differs_and_fails_where_no_other_budget_was_asked_for(
    tmp_path, monkeypatch, capsys
):
    path = tmp_path / "record"
    leaky(path).go(60)

    def said(*words):
        monkeypatch.setattr("sys.argv", ["volaris", "replay", str(path), *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, capsys.readouterr().out

    assert said()[0] == 0
    code, out = said("--budget", "x=400:500")
    assert code == 0
    assert re.search(r"x +drain \(memory_soft\) +nothing *\n", out)
    path.write_text(path.read_text().replace('"verb":"start"', '"verb":"relieve"'))
    code, out = said()
    assert code == 1
    assert re.search(r"x +relieve \(boot\) +start \(boot\)", out)


def test_a_record_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(Refused, match=r"record cannot be read \(No such file"):
        read(tmp_path / "record")


@pytest.mark.parametrize("text", ["y=1:2", "x", "x=1", "x=2:1", "x=a:b"])
def test_a_wrong_budget_is_a_sentence(text):
    lines = [record.Begin(record.datetime.now(record.UTC), 0.0, (SPEC,))]
    assert record.budgets(["x=1:2"], lines) == {"x": Budget(MIB, 2 * MIB)}
    with pytest.raises(Refused, match=f"--budget {text}: "):
        record.budgets([text], lines)
