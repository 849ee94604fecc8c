"""Ranks among honest responses, and the trap that a fixed pool sets for whoever learns from it."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError, Reason, UnavailableError
from lydite.statistics import calibrators, conformal, onset, ties
from lydite.statistics.conformal import Response
from lydite.statistics.power import first_crossing, tokens_for_power

scores = st.lists(st.integers(-3, 3), min_size=1, max_size=12)


def digest(*parts: int) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


def judged(run: int, values: list[int]) -> list[Response]:
    return [Response("all", value, digest(run, i)) for i, value in enumerate(values)]


@given(scores, st.integers(-3, 3), st.floats(0.001, 0.999))
def test_a_rank_is_what_counting_says(pool: list[int], score: int, tie: float) -> None:
    above = sum(other > score for other in pool)
    equal = sum(other == score for other in pool)
    wanted = (above + tie * (equal + 1)) / (len(pool) + 1)
    assert conformal.p_value(sorted(pool), score, tie) == pytest.approx(wanted)


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=12), st.floats(0.0, 1.0))
def test_whoever_of_a_bag_is_judged_the_rank_is_exactly_uniform(
    bag: list[int], point: float
) -> None:
    # P(p <= point) over whose turn it is, exact over the tie, however many are equal.
    reached = 0.0
    for i, score in enumerate(bag):
        pool = sorted(bag[:i] + bag[i + 1 :])
        low, high = (conformal.p_value(pool, score, tie) for tie in (1e-9, 1 - 1e-9))
        reached += min(max((point - low) / (high - low), 0.0), 1.0)
    assert reached / len(bag) == pytest.approx(point, abs=1e-6)


def test_a_stream_ends_where_the_product_does_and_anyone_recomputes_it() -> None:
    rng = np.random.default_rng(121)
    pools = {"code": rng.integers(0, 99, 250).tolist(), "prose": rng.integers(0, 50, 300).tolist()}
    responses = [
        Response(("code", "prose")[i % 2], int(rng.integers(0, 99)), digest(i)) for i in range(40)
    ]
    path = list(conformal.running(pools, responses, 0.001))
    assert path[-1] == pytest.approx(conformal.log_e(pools, responses, 0.001))
    by_hand = 0.0
    for stratum, score, name in responses:
        tie = ties.uniform("conformal", name)
        p = conformal.p_value(sorted(pools[stratum]), score, tie)
        by_hand += math.log((1 - p + p * math.log(p)) / (p * math.log(p) ** 2))
    assert path[-1] == pytest.approx(by_hand)
    assert conformal.log_e(pools, [], 0.001) == 0.0


@pytest.mark.parametrize(
    ("level", "needed"), [(0.005, 200), (0.001, 200), (1e-4, 356), (1e-5, 556), (1e-6, 800)]
)
def test_a_pool_grows_with_the_square_of_the_logarithm_of_the_level(
    level: float, needed: int
) -> None:
    assert conformal.pool_needed(level) == needed
    pool = list(range(needed))
    assert conformal.log_e({"all": pool}, judged(0, [1]), level) < 1.0
    with pytest.raises(UnavailableError) as caught:
        conformal.log_e({"all": pool[1:]}, judged(0, [1]), level)
    assert caught.value.reason is Reason.POOL_TOO_SMALL
    assert str(needed) in str(caught.value)


def test_a_stratum_without_a_pool_is_compared_with_no_other() -> None:
    with pytest.raises(UnavailableError) as caught:
        conformal.log_e({"prose": list(range(500))}, judged(0, [1]), 0.01)
    assert caught.value.reason is Reason.UNCALIBRATED


def test_only_the_first_tokens_count_and_short_answers_are_not_compared() -> None:
    values = [3] * 127 + [10**9] + [5] * 1000
    assert conformal.first_tokens(values, 100) == 127 * 3 + 100
    with pytest.raises(UnavailableError) as caught:
        conformal.first_tokens(values[:127], 100)
    assert caught.value.reason is Reason.TOO_SHORT


@pytest.mark.parametrize("level", [0.0, 1.0, math.nan])
def test_levels_that_are_none_are_refused(level: float) -> None:
    with pytest.raises(FormatError):
        conformal.pool_needed(level)


@pytest.mark.parametrize(("pool", "tie"), [([], 0.5), ([1], 0.0), ([1], 1.0)])
def test_ranks_in_nothing_are_refused(pool: list[int], tie: float) -> None:
    with pytest.raises(FormatError):
        conformal.p_value(pool, 1, tie)


def honest(rng: np.random.Generator, pool: int, responses: int) -> tuple[list[int], list[int]]:
    drawn = (1e6 * rng.normal(size=pool + responses)).astype(int).tolist()
    return drawn[:pool], drawn[pool:]


def test_the_conformal_trap_convicts_the_honest_if_one_learns_and_not_if_one_does_not() -> None:
    # statistics.md, section 4: 200 points, 2000 audits, level .001: .83 by a KT histogram.
    rng = np.random.default_rng(122)
    runs, level, size, bins = 30, -math.log(0.001), 2000, 50
    learnt = fixed = mixed = 0
    for run in range(runs):
        pool, stream = honest(rng, 200, size)
        ordered = sorted(pool)
        seen, path = [0.5] * bins, []
        for i, score in enumerate(stream):
            p = conformal.p_value(ordered, score, ties.uniform("conformal", digest(run, i)))
            place = min(int(p * bins), bins - 1)
            path.append(math.log(bins * seen[place] / (bins / 2 + i)))
            seen[place] += 1
        learnt += max(np.cumsum(path)) >= level
        steps = list(conformal.log_steps({"all": pool}, judged(run, stream), 0.001))
        fixed += max(np.cumsum(steps)) >= level
        mixed += max(onset.running((step,) for step in steps)) >= level
    assert learnt >= 0.6 * runs
    assert fixed == mixed == 0


def test_honest_responses_cross_no_more_often_than_alpha_whenever_one_stops() -> None:
    rng = np.random.default_rng(123)
    crossed = 0
    for run in range(200):
        pool, stream = honest(rng, 200, 150)
        path = conformal.running({"all": pool}, judged(run, stream), 0.02)
        crossed += first_crossing(path, -math.log(0.02)) is not None
    assert crossed <= 12  # 4 expected at most; 12 is four standard deviations above


def test_a_shift_by_one_standard_deviation_takes_some_dozens_of_responses() -> None:
    # recompute.md, section 4: 26 responses to 1000.
    rng = np.random.default_rng(124)
    delays = []
    for run in range(41):
        pool, stream = honest(rng, 1000, 300)
        shifted = [score + 1_000_000 for score in stream]
        path = conformal.running({"all": pool}, judged(run, shifted), 0.001)
        delays.append(first_crossing(path, math.log(1000)))
    half = tokens_for_power(delays, 0.5)
    assert half is not None
    assert 13 <= half <= 52


def cells(pool: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ranks of a pool in cells fine enough to integrate: log e, width within the rank, rank."""
    edges = [np.concatenate([[0.0], np.logspace(-12, 0, 241)])]
    edges += [np.linspace(0.0, 1.0, 9)] * 19 + [np.array([0.0, 1.0])] * (pool - 19)
    middles = np.concatenate([rank + (e[1:] + e[:-1]) / 2 for rank, e in enumerate(edges)])
    widths = np.concatenate([np.diff(e) for e in edges])
    ranks = np.repeat(np.arange(pool + 1), [len(e) - 1 for e in edges])
    logs = np.array([calibrators.log_mixed(p) for p in (middles / (pool + 1)).tolist()])
    return logs, widths, ranks


def false_rates(pool: int, levels: list[float], pools: int, seed: int) -> list[float]:
    """How often honest streams of 3000 responses are accused, as multiples of the levels.

    Too rare to count, so the walk of each random pool is tilted towards accusation by the power
    of the e-value that makes it fair, and every crossing weighed by what the tilt did to it.
    """
    rng, walks = np.random.default_rng(seed), 60
    logs, widths, ranks = cells(pool)
    heights, found = -np.log(levels), np.zeros(len(levels))
    for _ in range(pools):
        chances = rng.exponential(size=pool + 1)  # of the gaps between a random pool's scores
        chances = (chances / chances.sum())[ranks] * widths
        power = 1.0
        if float(chances @ np.exp(logs)) > 1.0:
            low = 0.3
            for _ in range(40):
                middle = (low + power) / 2
                fair = float(chances @ np.exp(middle * logs)) <= 1.0
                low, power = (middle, power) if fair else (low, middle)
        tilted = chances * np.exp(power * logs)
        mass, cumulated = float(tilted.sum()), np.cumsum(tilted) / tilted.sum()
        place, alive = np.zeros(walks), np.ones((len(levels), walks), bool)
        for step in range(1, 3001):
            drawn = np.searchsorted(cumulated, rng.random(walks))
            place += logs[np.minimum(drawn, len(logs) - 1)]
            hit = alive & (place >= heights[:, None])
            found += (hit * np.exp(-power * np.maximum(place, 0.0)) * mass**step).sum(
                axis=1
            ) / walks
            alive &= ~hit
            if not alive.any():
                break
    return (found / pools / np.array(levels)).tolist()


def test_the_pool_that_a_level_needs_keeps_false_accusations_below_it() -> None:
    assert false_rates(conformal.pool_needed(1e-3), [1e-3], 60, 125)[0] < 1.0


@pytest.mark.slow
def test_false_accusations_at_every_level_with_the_pool_that_it_needs() -> None:
    measured = {
        level: false_rates(conformal.pool_needed(level), [level], 400, 126)[0]
        for level in (5e-3, 1e-3, 1e-4, 1e-5, 1e-6)
    }
    assert all(rate < 0.8 for rate in measured.values())
    assert false_rates(40, [1e-3], 400, 127)[0] > 2.0  # and a small pool does harm


@pytest.mark.slow
def test_counted_one_by_one_honest_responses_are_accused_as_rarely() -> None:
    # recompute.md, section 4: nominal .001, 4000 runs of 200 responses, n = 200: .0008.
    rng, level = np.random.default_rng(128), 0.001
    crossed = 0
    for run in range(4000):
        pool, stream = honest(rng, 200, 200)
        path = conformal.running({"all": pool}, judged(run, stream), level)
        crossed += first_crossing(path, -math.log(level)) is not None
    assert crossed <= 10  # 4 expected at most
