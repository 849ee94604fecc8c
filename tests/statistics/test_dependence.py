import hashlib
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError
from lydite.statistics import bins, conformal, rates
from lydite.statistics.dependence import Dependence, Level, choose, lag_one
from lydite.statistics.power import first_crossing

LENGTH = 128


def streams(seed: int, responses: int, follow: float) -> np.ndarray:
    """Scores in millionths; a share ``follow`` of each one's variance is its neighbours'."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(responses, LENGTH))
    for i in range(1, LENGTH):
        own[:, i] = follow * own[:, i - 1] + math.sqrt(1 - follow * follow) * own[:, i]
    return (1e6 * np.exp(0.5 * own)).astype(int)


@given(st.lists(st.lists(st.integers(-1000, 1000), min_size=2, max_size=9), min_size=2, max_size=9))
def test_the_autocorrelation_agrees_with_pairs_spelt_out(responses: list[list[int]]) -> None:
    scores = [x for response in responses for x in response]
    mean = np.mean(scores)
    pairs = [(a - mean, b - mean) for r in responses for a, b in pairwise(r)]
    below = sum((a * a + b * b) / 2 for a, b in pairs)
    found = lag_one(responses)
    assert found.pairs == len(pairs)
    if below > 1e-9:
        assert found.rho == pytest.approx(sum(a * b for a, b in pairs) / below, abs=1e-9)
    assert -1.0 <= found.rho <= 1.0


@pytest.mark.parametrize(("follow", "level"), [(0.0, Level.TOKENS), (0.3, Level.RESPONSES)])
def test_scores_that_follow_each_other_are_judged_by_response(follow: float, level: Level) -> None:
    measured = lag_one(streams(111, 200, follow).tolist())
    choice = choose(measured)
    assert choice.level is level
    assert f"{measured.rho:+.3f}" in choice.why


def test_responses_that_differ_as_a_whole_are_dependent_too() -> None:
    rng = np.random.default_rng(112)
    scores = rng.normal(size=(200, LENGTH)) + rng.normal(size=(200, 1))
    assert choose(lag_one((1e6 * scores).astype(int).tolist())).level is Level.RESPONSES


def test_alternation_is_dependence() -> None:
    assert lag_one([[0, 9] * 20] * 4).rho == pytest.approx(-1.0)
    assert choose(lag_one([[0, 9] * 20] * 4)).level is Level.RESPONSES


def test_too_few_responses_to_tell_are_judged_by_response() -> None:
    choice = choose(lag_one(streams(113, 3, 0.0)[:, :20].tolist()))
    assert choice.level is Level.RESPONSES


def test_scores_that_never_vary_are_judged_by_token() -> None:
    assert lag_one([[7] * 20] * 5) == Dependence(0.0, 0.0, 5, 95)
    assert choose(lag_one([[7] * 20] * 5)).level is Level.TOKENS


def test_the_error_covers_as_often_as_it_says() -> None:
    near = 0
    for seed in range(60):
        measured = lag_one(streams(1000 + seed, 40, 0.0).tolist())
        near += abs(measured.rho) <= 2 * measured.standard_error
    assert near >= 50  # 57 expected


def test_the_guard_saves_the_honest_whom_bets_on_tokens_would_convict() -> None:
    follow, level = 0.9, 0.02
    calibration = streams(114, 300, follow)
    assert choose(lag_one(calibration.tolist())).level is Level.RESPONSES
    edges = np.quantile(calibration, [0.5, 0.8, 0.9, 0.95, 0.98, 0.99])
    inside = np.stack(
        [(np.digitize(row, edges)[:, None] == range(7)).sum(0) for row in calibration]
    )
    z = rates.quantile(0.01, 7)
    null = [rates.ceiling(clusters(column), 7, z) for column in inside.T.tolist()]
    pool = {"all": [conformal.first_tokens(row, 10**7) for row in calibration.tolist()]}
    by_token = by_response = 0
    for run in range(40):
        honest = streams(2000 + run, 12, follow)
        path = bins.running(np.digitize(honest.reshape(-1), edges).tolist(), null)
        by_token += first_crossing(path, -math.log(level)) is not None
        judged = [
            conformal.Response("all", conformal.first_tokens(row, 10**7), name(run, i))
            for i, row in enumerate(honest.tolist())
        ]
        path = conformal.running(pool, judged, level)
        by_response += first_crossing(path, -math.log(level)) is not None
    assert by_token >= 16
    assert by_response <= 4  # .8 expected at most


def clusters(hits: list[int]) -> rates.Clusters:
    size = len(hits)
    return rates.Clusters(
        responses=size,
        tokens=size * LENGTH,
        tokens_squared=size * LENGTH**2,
        inside=sum(hits),
        inside_squared=sum(k * k for k in hits),
        cross=LENGTH * sum(hits),
    )


def name(*parts: int) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


@pytest.mark.parametrize("responses", [[], [[1, 2, 3]], [[1], [2], [3, 4]]])
def test_autocorrelation_of_nothing_is_refused(responses: list[list[int]]) -> None:
    with pytest.raises(FormatError):
        lag_one(responses)


def test_what_is_no_number_decides_nothing() -> None:
    with pytest.raises(FormatError):
        choose(Dependence(math.nan, 0.0, 5, 5))
