"""The table: every row points at something, and the sum fits the host it was made for."""

import importlib
import inspect
import subprocess
import sys

import pytest

from actors.boot import refuse_if_too_big
from actors.settings import Refused, Settings
from actors.spec import MIB, Budget
from actors.tree import RAY_MIB, ROOT, TREE

ROWS = (ROOT, *TREE)


def test_ids_are_unique_and_are_names():
    ids = [row.id for row in ROWS]
    assert len(set(ids)) == len(ids)
    assert all(name.isidentifier() and name == name.lower() for name in ids)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_each_row_points_at_a_class_that_can_be_hosted(row):
    module, _, name = row.start.partition(":")
    hosted = getattr(importlib.import_module(module), name)
    assert list(inspect.signature(hosted.__init__).parameters)[1:3] == ["settings", "tree"]
    assert inspect.iscoroutinefunction(hosted.start)
    assert inspect.iscoroutinefunction(hosted.stop)


def test_the_budgets_fit_a_2_gb_host():
    hard = [row.memory.hard // MIB for row in ROWS]
    assert sum(hard) + max(hard) + RAY_MIB <= 2048


def test_a_budget_is_soft_below_hard():
    with pytest.raises(
        ValueError, match="soft must be above 0 and below hard, were 200 and 150 MiB"
    ):
        Budget(200 * MIB, 150 * MIB)


def test_a_small_machine_is_refused_with_the_sum():
    with pytest.raises(Refused, match=r"the tree needs \d+ MiB .* there are 512 MiB"):
        refuse_if_too_big(Settings(volaris_memory_mb=512))


def test_an_override_counts_in_the_sum_and_a_typo_is_named():
    fits = Settings(volaris_memory_mb=2048)
    refuse_if_too_big(fits)
    with pytest.raises(Refused, match="the tree needs"):
        refuse_if_too_big(
            fits.model_copy(update={"volaris_budget": {"price_ingestor": "900:1500"}})
        )
    with pytest.raises(
        Refused, match=r"VOLARIS_BUDGET__PRICE_INGESTER: there is no such child; .*price_ingestor"
    ):
        refuse_if_too_big(fits.model_copy(update={"volaris_budget": {"price_ingester": "10:20"}}))
    with pytest.raises(Refused, match=r"VOLARIS_PLACE__SUPERVISOR: there is no such child; "):
        refuse_if_too_big(fits.model_copy(update={"volaris_place": {"supervisor": "big"}}))


def test_a_setting_places_a_child_and_the_others_stay_with_the_root():
    settled = [Settings(volaris_place={"price_ingestor": "big"}).settled(row) for row in TREE]
    assert {row.id: row.place for row in settled if row.place} == {"price_ingestor": "big"}


@pytest.mark.parametrize("text", ["150", "a:b", "200:150", "0:10", ""])
def test_a_malformed_budget_is_a_sentence(text):
    settings = Settings(volaris_budget={"scheduler": text})
    with pytest.raises(Refused, match="VOLARIS_BUDGET__SCHEDULER: "):
        settings.budget(TREE[-1])


def test_the_table_and_the_judgement_import_next_to_nothing():
    heavy = "ray httpx fastapi discord pydantic numpy asyncpg"
    code = (
        "import sys, actors.tree, actors.supervise;"
        f"sys.exit(', '.join(m for m in '{heavy}'.split() if m in sys.modules) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
