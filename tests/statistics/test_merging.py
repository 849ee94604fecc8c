import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError
from lydite.statistics import merging

logs = st.lists(st.floats(-600.0, 600.0), min_size=1, max_size=6)


@given(logs, st.data())
def test_average_agrees_with_the_plain_sum(values: list[float], data: st.DataObject) -> None:
    raw = data.draw(st.lists(st.floats(0.1, 1.0), min_size=len(values), max_size=len(values)))
    weights = [w / sum(raw) for w in raw]
    plain = sum(w * math.exp(v) for w, v in zip(weights, values, strict=True))
    assert merging.log_average(values, weights) == pytest.approx(math.log(plain), abs=1e-9)


def test_far_beyond_floating_point_nothing_overflows_or_turns_nan() -> None:
    assert merging.log_average([1e6, -1e6], [0.5, 0.5]) == pytest.approx(1e6 + math.log(0.5))
    assert merging.log_average([-1e6, -1e6], [0.5, 0.5]) == pytest.approx(-1e6)
    assert merging.log_average([-math.inf, 3.0], [0.5, 0.5]) == pytest.approx(3.0 + math.log(0.5))
    assert merging.log_average([-math.inf], [1.0]) == -math.inf


@pytest.mark.parametrize(
    ("values", "weights"),
    [
        ([], []),
        ([1.0], [0.5, 0.5]),
        ([1.0, 1.0], [0.6, 0.6]),
        ([1.0, 1.0], [1.0, 0.0]),
        ([math.nan, 1.0], [0.5, 0.5]),
    ],
)
def test_what_is_not_a_weighted_average_is_refused(
    values: list[float], weights: list[float]
) -> None:
    with pytest.raises(FormatError):
        merging.log_average(values, weights)
