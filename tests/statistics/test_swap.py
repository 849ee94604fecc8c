import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError
from lydite.statistics import swap
from lydite.statistics.power import first_crossing, tokens_for_power

pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=60)


def twin(stream: list[tuple[int, int]]) -> float:
    """The definition of recompute.md, section 7, with frequencies instead of counts."""
    wealth = 1.0
    for t, (x, y) in enumerate(stream):
        if x == y:
            continue

        def share(side: int, what: int, past: list[tuple[int, int]] = stream[:t]) -> float:
            return (sum(pair[side] == what for pair in past) + 0.5) / (len(past) + 2.5)

        a, b = share(0, x) * share(1, y), share(0, y) * share(1, x)
        wealth *= 2 * (0.5 + 0.9 * (a / (a + b) - 0.5))
    return math.log(wealth)


@given(pairs)
def test_counts_agree_with_frequencies(stream: list[tuple[int, int]]) -> None:
    steps = list(swap.log_steps(stream))
    assert len(steps) == len(stream)
    assert sum(steps) == pytest.approx(twin(stream), abs=1e-9)


@given(pairs, st.lists(st.floats(0.01, 1.0), min_size=5, max_size=5))
def test_whatever_both_draw_from_the_next_bet_is_exactly_fair(
    past: list[tuple[int, int]], raw: list[float]
) -> None:
    chances = [p / sum(raw) for p in raw]
    before = sum(swap.log_steps(past))
    mean = sum(
        chances[x] * chances[y] * math.exp(sum(swap.log_steps([*past, (x, y)])) - before)
        for x, y in product(range(5), repeat=2)
    )
    assert mean == pytest.approx(1.0, abs=1e-9)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.integers(0, 3))))
def test_a_stream_over_prompts_ends_where_their_average_does(
    asked: list[tuple[str, int, int]],
) -> None:
    sorted_out: dict[str, list[tuple[int, int]]] = {name: [] for name in "abc"}
    for prompt, x, y in asked:
        sorted_out[prompt].append((x, y))
    path = list(swap.running(asked, 3))
    assert len(path) == len(asked)
    if asked:
        assert path[-1] == pytest.approx(swap.log_e(sorted_out), abs=1e-9)


def delays(tv: float, runs: int, size: int, alpha: float, seed: int) -> list[int | None]:
    """First crossings if the provider moves ``tv`` of its mass from the first to the second."""
    rng = np.random.default_rng(seed)
    reference = np.array([0.5, 0.2, 0.15, 0.1, 0.05])
    provider = reference + tv * np.array([-1.0, 1.0, 0.0, 0.0, 0.0])
    found = []
    for _ in range(runs):
        ours = rng.choice(5, size=size, p=provider).tolist()
        theirs = rng.choice(5, size=size, p=reference).tolist()
        path = swap.running((("p", x, y) for x, y in zip(ours, theirs, strict=True)), 1)
        found.append(first_crossing(path, -math.log(alpha)))
    return found


def test_equal_sides_cross_no_more_often_than_alpha_whenever_one_stops() -> None:
    crossed = sum(d is not None for d in delays(0.0, 200, 400, 0.02, 61))
    assert crossed <= 12  # 4 expected at most; 12 is four standard deviations above


def test_a_provider_that_draws_otherwise_is_found_out() -> None:
    half = tokens_for_power(delays(0.2, 21, 700, 0.005, 62), 0.5)
    assert half is not None
    assert half <= 260  # recompute.md, section 7: median 179


@pytest.mark.slow
def test_the_delays_and_the_false_rate_over_long_runs() -> None:
    crossed = sum(d is not None for d in delays(0.0, 400, 1500, 0.005, 63))
    assert crossed <= 8
    weak, strong = (tokens_for_power(delays(tv, 101, 4000, 0.005, 64), 0.5) for tv in (0.1, 0.2))
    assert weak is not None
    assert strong is not None
    assert 120 < strong < 240  # recompute.md, section 7: 179 and 870
    assert 500 < weak < 1100


def test_a_bayes_factor_of_counts_is_no_e_value_and_swap_betting_is() -> None:
    # recompute.md, section 7: expectation 2.43 at p = .5 and 20 + 20 draws.
    def log_beta(hits: int, size: int) -> float:
        part = math.lgamma(hits + 0.5) + math.lgamma(size - hits + 0.5)
        return part - math.lgamma(size + 1) - math.log(math.pi)  # B(1/2, 1/2) = pi

    mean = 0.0
    for ours, theirs in product(range(21), repeat=2):
        chance = math.comb(20, ours) * math.comb(20, theirs) / 2**40
        apart = log_beta(ours, 20) + log_beta(theirs, 20)
        mean += chance * math.exp(apart - log_beta(ours + theirs, 40))
    assert mean == pytest.approx(2.43, abs=0.01)


def test_no_prompt_or_too_many_are_refused() -> None:
    with pytest.raises(FormatError):
        swap.log_e({})
    with pytest.raises(FormatError):
        list(swap.running([("a", 1, 2), ("b", 1, 2)], 1))


@given(st.lists(st.floats(0.01, 1), min_size=3, max_size=3), st.floats(0, 0.5), st.data())
def test_a_pair_is_fair_to_sides_within_the_drift(
    weights: list[float], drift: float, data: st.DataObject
) -> None:
    past = data.draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=12))
    p = np.array(weights) / sum(weights)
    moved = min(drift, p[0])
    q = p + np.array([-moved, moved, 0.0])  # total variation of exactly ``moved``
    micro = math.ceil(1e6 * moved)
    expected = sum(
        p[x] * q[y] * math.exp(list(swap.log_steps([*past, (x, y)], micro))[-1])
        for x, y in product(range(3), repeat=2)
    )
    assert expected <= 1.0 + 1e-9


def test_a_drift_costs_its_toll_at_every_pair() -> None:
    stream = [(0, 1), (1, 1), (0, 1)]
    plain = swap.log_e({"a": stream})
    assert swap.log_e({"a": stream}, 50_000) == pytest.approx(plain - 3 * math.log(1.09))
    *_, last = swap.running((("a", x, y) for x, y in stream), 1, 50_000)
    assert last == pytest.approx(plain - 3 * math.log(1.09))
    with pytest.raises(FormatError):
        swap.log_e({"a": stream}, -1)
