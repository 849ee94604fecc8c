import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError
from lydite.statistics import bins

nulls = st.lists(st.floats(1e-6, 1.0), min_size=2, max_size=9)


def twin(stream: list[int], null: list[float]) -> float:
    """The definition, token by token, in plain arithmetic of logs."""
    total = sum(null)
    paths = []
    for c, s in bins.BETTORS:
        seen = [0] * len(null)
        path = 0.0
        for t, b in enumerate(stream):
            forecast = (c * null[b] / total + s / len(null) + seen[b]) / (c + s + t)
            path += math.log(forecast) - math.log(null[b])
            seen[b] += 1
        paths.append(path)
    top = max(paths)
    return top + math.log(sum(math.exp(path - top) for path in paths) / len(paths))


@given(nulls, st.data())
def test_closed_form_agrees_with_the_token_by_token_twin(
    null: list[float], data: st.DataObject
) -> None:
    stream = data.draw(st.lists(st.integers(0, len(null) - 1), max_size=200))
    counts = [stream.count(b) for b in range(len(null))]
    expected = twin(stream, null)
    assert bins.log_e(counts, null) == pytest.approx(expected, abs=1e-8, rel=1e-9)
    running = list(bins.running(stream, null))
    assert len(running) == len(stream)
    if stream:
        assert running[-1] == pytest.approx(expected, abs=1e-8, rel=1e-9)


def test_no_tokens_are_no_evidence() -> None:
    assert bins.log_e([0, 0, 0], [0.9, 0.1, 0.01]) == pytest.approx(0.0)
    assert list(bins.running([], [0.9, 0.2])) == []


@pytest.mark.parametrize(
    "counts",
    [[10**9, 0, 0], [0, 0, 10**9], [0, 10**9, 1], [10**15, 10**15, 10**15]],
)
def test_extreme_counts_never_end_in_nan(counts: list[int]) -> None:
    value = bins.log_e(counts, [0.999, 1e-9, 1e-12])
    assert not math.isnan(value)
    assert value != math.inf


@given(nulls, st.data())
def test_the_expectation_of_the_next_bet_is_at_most_one(
    null: list[float], data: st.DataObject
) -> None:
    # The supermartingale property itself, exactly: any truth below the ceilings, any past.
    counts = data.draw(st.lists(st.integers(0, 50), min_size=len(null), max_size=len(null)))
    shares = data.draw(st.lists(st.floats(0.0, 1.0), min_size=len(null), max_size=len(null)))
    truth = [share * ceiling for share, ceiling in zip(shares, null, strict=True)]
    if sum(truth) > 1.0:
        truth = [p / sum(truth) for p in truth]
    before = bins.log_e(counts, null)
    after = 0.0
    for b, p in enumerate(truth):
        longer = [count + (i == b) for i, count in enumerate(counts)]
        after += p * math.exp(bins.log_e(longer, null) - before)
    assert after <= 1.0 + 1e-6


@pytest.mark.parametrize(
    ("counts", "null"),
    [
        ([1, 2], [0.5, 0.5, 0.1]),
        ([1, -1], [0.5, 0.5]),
        ([1, 1], [0.5, 0.0]),
        ([1, 1], [0.5, 1.5]),
        ([1, 1], [0.5, math.nan]),
        ([], []),
    ],
)
def test_what_is_not_a_histogram_is_refused(counts: list[int], null: list[float]) -> None:
    with pytest.raises(FormatError):
        bins.log_e(counts, null)
