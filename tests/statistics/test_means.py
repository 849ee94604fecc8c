import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError
from lydite.statistics import means
from lydite.statistics.bounded import MICRO

scores = st.lists(st.integers(0, MICRO), min_size=1, max_size=60)


@given(scores)
def test_the_bound_is_no_lower_than_the_average(values: list[int]) -> None:
    assert means.highest(values, 0.05) >= sum(values) / len(values) - 1


@given(scores, st.integers(0, MICRO))
def test_a_higher_score_never_lowers_the_bound(values: list[int], more: int) -> None:
    raised = [max(values[0], more), *values[1:]]
    assert means.highest(raised, 0.05) >= means.highest(values, 0.05)


def test_more_scores_of_nought_bound_the_mean_more_tightly() -> None:
    found = [means.highest([0] * count, 0.05) for count in (10, 30, 100, 300)]
    assert found == sorted(found, reverse=True)
    assert found[2] == pytest.approx(MICRO * (1 - 0.025 ** (1 / 100)), abs=2)


@pytest.mark.parametrize("chance", [0.02, 0.2])
@pytest.mark.parametrize("level", [0.3, 1.0])
def test_the_bound_is_too_low_no_more_often_than_it_says(chance: float, level: float) -> None:
    generator = random.Random(11)
    wrong = 0
    for _ in range(400):
        values = [round(MICRO * level) * (generator.random() < chance) for _ in range(40)]
        wrong += means.highest(values, 0.1) < MICRO * level * chance
    assert wrong <= 60  # 40 expected at most; 60 is three standard deviations


@pytest.mark.parametrize(("values", "error"), [([], 0.05), ([0], 0.0), ([MICRO + 1], 0.05)])
def test_what_bounds_nothing_is_refused(values: list[int], error: float) -> None:
    with pytest.raises(FormatError):
        means.highest(values, error)
