"""Bodies of vendors made nasty: any JSON value where another was, keys lost, lists cut and doubled."""

import copy
import math
from typing import Any

from hypothesis import strategies as st

NASTY = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(
        [-999.0, "NaN", math.nan, math.inf, -math.inf, 0, -1, 10**400, 1e308, 2**63, 5e-324]
    ),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["", "2026-11-24", "2026-13-45", "0001-01-01T00:00:00+14:00", "09:30-13:00"]),
    st.sampled_from(["09:30+01:00-13:00", "9" * 5000, "\x00", "9999-12-31T23:59:59-14:00"]),
    st.lists(st.none(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.none(), max_size=2),
)


@st.composite
def spoiled(draw: st.DrawFn, body: Any) -> Any:
    """Return a body with up to four of its places changed."""
    body = copy.deepcopy(body)
    for _ in range(draw(st.integers(1, 4))):
        body = _spoil(draw, body)
    return body


def _spoil(draw: st.DrawFn, value: Any) -> Any:
    inside = isinstance(value, dict | list) and len(value) > 0
    if not inside or draw(st.integers(0, 9)) == 0:
        return draw(NASTY)
    if isinstance(value, dict):
        name = draw(st.sampled_from(sorted(value)))
        if draw(st.integers(0, 5)) == 0:
            del value[name]
        else:
            value[name] = _spoil(draw, value[name])
        return value
    at = draw(st.integers(0, len(value) - 1))
    match draw(st.integers(0, 6)):
        case 0:
            del value[at]
        case 1:
            value.append(copy.deepcopy(value[at]))
        case _:
            value[at] = _spoil(draw, value[at])
    return value
