import pytest

from lydite.errors import FormatError
from lydite.statistics.power import first_crossing, tokens_for_power


def test_first_crossing_counts_tokens_from_one() -> None:
    assert first_crossing([0.1, 2.0, 5.0, 1.0], 2.0) == 2
    assert first_crossing([0.1, 0.2], 2.0) is None
    assert first_crossing([], 2.0) is None


def test_ninety_per_cent_of_the_streams_have_crossed_by_then() -> None:
    assert tokens_for_power(list(range(1, 11))) == 9
    assert tokens_for_power([7]) == 7
    assert tokens_for_power([5, None, 6, 7, 8, 9, 10, 11, 12, 13]) == 13
    assert tokens_for_power([5, None, None, 7, 8, 9, 10, 11, 12, 13]) is None


def test_power_of_nothing_is_refused() -> None:
    with pytest.raises(FormatError):
        tokens_for_power([])
    with pytest.raises(FormatError):
        tokens_for_power([1], power=0.0)
