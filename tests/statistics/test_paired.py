"""A bet on which of two rows is whose: fair to equals, whatever they say, and quick with others."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError
from lydite.statistics import paired

values = st.dictionaries(st.sampled_from("abcd"), st.floats(-10, 0), min_size=1)


@given(st.lists(st.tuples(values, values), min_size=1, max_size=6))
def test_swapping_the_last_pair_turns_the_bet_around(
    pairs: list[tuple[paired.Row, paired.Row]],
) -> None:
    *past, (ours, theirs) = pairs
    here = [
        math.exp(list(paired.log_steps([*past, last]))[-1])
        for last in ((ours, theirs), (theirs, ours))
    ]
    assert sum(here) == pytest.approx(2.0)


def drawn(dice: random.Random, shift: float) -> paired.Row:
    return {name: dice.gauss(0.0, 0.1) + shift * (name == "a") - 1.0 for name in "abc"}


def test_equals_are_rarely_told_apart() -> None:
    dice = random.Random(1)
    reached = 0
    for _ in range(400):
        path = 0.0
        for step in paired.log_steps((drawn(dice, 0), drawn(dice, 0)) for _ in range(60)):
            path += step
            if path >= math.log(20):
                reached += 1
                break
    assert reached <= 400 / 20


def test_a_steady_difference_is_told_within_30_pairs() -> None:
    dice = random.Random(1)
    pairs = [(drawn(dice, 0.2), drawn(dice, 0.0)) for _ in range(30)]
    assert paired.log_e({"q": pairs}) >= math.log(1000)


def test_a_missing_name_counts_with_the_least_of_the_row() -> None:
    assert paired.difference({"a": -1.0, "b": -3.0}, {"a": -1.0, "c": -2.0}) == {
        "a": 0.0,
        "b": -1.0,
        "c": -1.0,
    }


def test_rows_that_are_the_same_prove_nothing() -> None:
    assert paired.log_e({"q": [({"a": -1.0}, {"a": -1.0})] * 50}) == 0.0


@pytest.mark.parametrize("row", [{}, {"a": math.nan}, {"a": -math.inf}])
def test_rows_without_numbers_are_refused(row: paired.Row) -> None:
    with pytest.raises(FormatError):
        paired.log_e({"q": [(row, {"a": 0.0})]})


def test_no_question_is_no_evidence() -> None:
    with pytest.raises(FormatError):
        paired.log_e({})
