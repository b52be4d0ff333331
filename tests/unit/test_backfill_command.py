"""The command and the REST route of backfills, without a tree: what is refused, and who is asked."""

import pytest
from pydantic import ValidationError

from actors import cli
from actors.settings import Refused
from api.routers.backfills import BackfillIn


@pytest.mark.parametrize("dollars", ["nan", "inf", "-inf"])
def test_a_cost_that_is_no_number_of_dollars_is_one_sentence(dollars):
    with pytest.raises(Refused, match=rf"^max_cost must be dollars, 0 or more, was {dollars}$"):
        cli.app(
            ["backfill", "AAPL", "--from", "2026-01-02", "--max-cost", dollars],
            standalone_mode=False,
        )
    with pytest.raises(ValidationError, match="max_cost"):
        BackfillIn.model_validate({"from": "2026-01-02", "max_cost": float(dollars)})
