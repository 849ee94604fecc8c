import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError
from lydite.statistics import betting, bins
from lydite.statistics.merging import log_mean
from lydite.statistics.onset import log_mixture, running

NULL = [0.9935, 0.004, 0.003, 0.0008]
TRUTH = [0.9932, 0.0035, 0.0025, 0.0008]


def mixture(steps: list[list[int]]) -> float:
    """The log of the mixture over the bins of a few steps."""
    counts = np.array(steps).reshape(-1, len(NULL))
    sums = counts[::-1].cumsum(axis=0)[::-1]
    return log_mixture([bins.log_e(row, NULL) for row in sums.tolist()])


@given(st.lists(st.floats(0.01, 100.0), max_size=20))
def test_the_mixture_is_its_definition(factors: list[float]) -> None:
    suffixes = [math.prod(factors[k:]) for k in range(len(factors))]
    wanted = sum(e / ((k + 1) * (k + 2)) for k, e in enumerate(suffixes)) + 1 / (len(factors) + 1)
    assert log_mixture([math.log(e) for e in suffixes]) == pytest.approx(math.log(wanted), abs=1e-9)


@given(st.lists(st.floats(0.01, 100.0), max_size=8), st.floats(0.0, 1.0), st.floats(1.0, 5.0))
def test_a_fair_next_step_has_no_expected_gain(
    factors: list[float], low: float, high: float
) -> None:
    chance = 0.5 if high == low else (1 - low) / (high - low)  # of the high one: mean one

    def level(last: float) -> float:
        every = [*factors, max(last, 1e-300)]
        return math.exp(log_mixture([sum(map(math.log, every[k:])) for k in range(len(every))]))

    before = math.exp(log_mixture([sum(map(math.log, factors[k:])) for k in range(len(factors))]))
    after = chance * level(high) + (1 - chance) * level(low)
    assert after <= before * (1 + 1e-9)


def test_nothing_seen_is_no_evidence() -> None:
    assert log_mixture([]) == 0.0


def test_what_is_not_a_number_is_refused() -> None:
    with pytest.raises(FormatError):
        log_mixture([math.nan])


def test_honest_steps_cross_no_more_often_than_alpha_whenever_one_stops() -> None:
    rng = np.random.default_rng(11)
    crossed = 0
    for _ in range(300):
        steps = rng.multinomial(64, TRUTH, size=40).tolist()
        crossed += any(mixture(steps[:t]) >= math.log(20) for t in range(1, 41))
    assert crossed <= 31  # 15 expected at most; 31 is four standard deviations above


def test_an_honest_past_is_no_credit() -> None:
    past = np.random.default_rng(12).multinomial(64, TRUTH, size=1600).tolist()
    cheat = [61, 1, 1, 1]
    fresh = next(t for t in range(1, 99) if mixture([cheat] * t) >= math.log(1e4))
    late = next(t for t in range(1, 99) if mixture(past + [cheat] * t) >= math.log(1e4))
    whole = np.array(past + [cheat] * late).sum(axis=0).tolist()
    assert late <= 4 * fresh
    assert bins.log_e(whole, NULL) < 0.0  # without the mixture, the past still protects


@given(st.lists(st.tuples(st.floats(0.01, 99.0), st.floats(0.01, 99.0)), min_size=1, max_size=20))
def test_in_constant_time_a_step_the_mixture_is_the_same(es: list[tuple[float, float]]) -> None:
    logs = [tuple(map(math.log, pair)) for pair in es]
    path = list(running(logs))
    for t in range(1, len(es) + 1):
        wealths = [[math.fsum(step[i] for step in logs[k:t]) for i in range(2)] for k in range(t)]
        assert path[t - 1] == pytest.approx(log_mixture(list(map(log_mean, wealths))), abs=1e-9)


@given(st.lists(st.integers(-betting.MICRO, betting.MICRO), min_size=1, max_size=30))
def test_bets_that_recorded_scores_are_judged_by_may_go_through_either(values: list[int]) -> None:
    steps = [betting.log_wealths([value], 0) for value in values]
    suffixes = [betting.log_e(values[k:], 0) for k in range(len(values))]
    assert list(running(steps))[-1] == pytest.approx(log_mixture(suffixes), abs=1e-9)
