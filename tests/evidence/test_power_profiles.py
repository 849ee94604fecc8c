import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError
from lydite.evidence.power import profiles
from lydite.evidence.power.profiles import Beta, Bimodal

scipy_stats = pytest.importorskip("scipy.stats", reason="scipy: not installed")
scipy_special = pytest.importorskip("scipy.special", reason="scipy: not installed")


def mixed(seed: int, spread: Bimodal, count: int) -> profiles.Values:
    generator = np.random.default_rng(seed)
    low = generator.random(count) < spread.weight
    values = np.where(low, generator.beta(*spread.low, count), generator.beta(*spread.high, count))
    return np.asarray(values)


@given(st.floats(1e-3, 2e4))
def test_digamma_and_trigamma_are_those_of_scipy(x: float) -> None:
    assert profiles.digamma(x) == pytest.approx(scipy_special.digamma(x), rel=1e-9, abs=1e-9)
    assert profiles.trigamma(x) == pytest.approx(scipy_special.polygamma(1, x), rel=1e-8)


@pytest.mark.parametrize("beta", [(0.5, 0.5), (2, 5), (40, 8), (1, 1), (300, 900)])
def test_newton_finds_what_scipy_finds(beta: tuple[float, float]) -> None:
    values = np.random.default_rng(3).beta(*beta, 2000)
    found = profiles.fit_beta(values)
    x = profiles.inside(values)
    a, b, _, _ = scipy_stats.beta.fit(x, floc=0, fscale=1)
    assert found.log_likelihood >= scipy_stats.beta.logpdf(x, a, b).sum() - 1e-6
    assert found.spread == pytest.approx((a, b), rel=1e-3)
    assert found.gradient < 1e-6
    assert found.rounds < 30


def test_densities_are_those_of_scipy() -> None:
    x = np.linspace(0.01, 0.99, 99)
    spread = Bimodal(0.3, Beta(2, 9), Beta(20, 4))
    density = 0.3 * scipy_stats.beta.pdf(x, 2, 9) + 0.7 * scipy_stats.beta.pdf(x, 20, 4)
    assert np.exp(profiles.log_density(spread, x)) == pytest.approx(density)


@pytest.mark.parametrize(
    "spread",
    [
        Bimodal(0.3, Beta(8, 60), Beta(60, 12)),
        Bimodal(0.7, Beta(2, 20), Beta(30, 30)),
        Bimodal(0.1, Beta(30, 300), Beta(200, 50)),
    ],
)
def test_two_peaks_are_found_again(spread: Bimodal) -> None:
    found = profiles.fit_bimodal(mixed(5, spread, 20_000)).spread
    assert isinstance(found, Bimodal)
    assert found.weight == pytest.approx(spread.weight, abs=0.02)
    assert found.low.mean == pytest.approx(spread.low.mean, abs=0.01)
    assert found.high.mean == pytest.approx(spread.high.mean, abs=0.01)


def plain_em(values: profiles.Values, rounds: int) -> float:
    """The obvious way: expectation and maximisation, each part fitted by scipy's own optimiser."""
    x = profiles.inside(values)
    share = np.where(x < (x.min() + x.max()) / 2, 0.99, 0.01)
    density = np.zeros((2, len(x)))
    for _ in range(rounds):
        for row, weights in enumerate((share, 1 - share)):
            a, b = weighted_beta(x, weights)
            density[row] = weights.mean() * scipy_stats.beta.pdf(x, a, b)
        share = density[0] / density.sum(axis=0)
    return float(np.log(density.sum(axis=0)).sum())


def weighted_beta(x: profiles.Values, weights: profiles.Values) -> tuple[float, float]:
    optimize = pytest.importorskip("scipy.optimize")

    def loss(logs: profiles.Values) -> float:
        a, b = np.exp(logs)
        return -float(np.average(scipy_stats.beta.logpdf(x, a, b), weights=weights))

    start = np.log(profiles._moments(x, weights))
    return tuple(np.exp(optimize.minimize(loss, start, method="Nelder-Mead").x))  # type: ignore[return-value]


def test_newton_ends_no_lower_than_plain_em() -> None:
    values = mixed(7, Bimodal(0.4, Beta(3, 12), Beta(12, 6)), 400)
    found = profiles.fit_bimodal(values)
    assert found.log_likelihood >= plain_em(values, 60) - 1e-3
    assert found.gradient < 1e-4


def test_the_gradient_and_the_hessian_are_those_of_differences() -> None:
    values = profiles.inside(mixed(9, Bimodal(0.4, Beta(3, 12), Beta(12, 6)), 50))
    logs = np.stack([np.log(values), np.log1p(-values)])
    at = np.array([0.3, 0.8, 1.9, 2.1, 0.4])
    _, gradient, hessian = profiles._derivatives(at, logs)
    for i in range(5):
        step = np.zeros(5)
        step[i] = 1e-5
        up, down = (profiles._derivatives(at + sign * step, logs) for sign in (1, -1))
        assert gradient[i] == pytest.approx((up[0] - down[0]) / 2e-5, rel=1e-5, abs=1e-5)
        assert hessian[i] == pytest.approx((up[1] - down[1]) / 2e-5, rel=1e-4, abs=1e-3)


def test_one_peak_is_preferred_where_there_is_one() -> None:
    generator = np.random.default_rng(1)
    assert isinstance(profiles.fit(generator.beta(20, 6, 3000)).spread, Beta)
    two = mixed(1, Bimodal(0.5, Beta(8, 60), Beta(60, 12)), 3000)
    assert isinstance(profiles.fit(two).spread, Bimodal)


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(100),
        np.ones(100),
        np.full(100, 0.37),
        np.repeat([0.0, 1.0], 50),
        np.repeat([0.2, 0.8], 500),
        np.concatenate([np.zeros(99), [1.0]]),
    ],
)
def test_constant_and_two_valued_channels_have_a_finite_fit(values: profiles.Values) -> None:
    found = profiles.fit(values)
    assert math.isfinite(found.log_likelihood)
    assert np.all(np.isfinite(profiles.log_density(found.spread, np.array([0.0, 0.5, 1.0]))))


@given(st.lists(st.floats(0, 1), min_size=16, max_size=60))
def test_any_shares_have_a_fit_at_least_as_good_as_an_even_spread(values: list[float]) -> None:
    found = profiles.fit(np.array(values))
    assert found.log_likelihood >= -1e-6  # the even spread has none: its logarithm is nought


@pytest.mark.parametrize(
    "values", [np.zeros(3), np.full(20, 1.5), np.full(20, np.nan), np.zeros((4, 4))]
)
def test_what_has_no_profile_is_refused(values: profiles.Values) -> None:
    with pytest.raises(FormatError):
        profiles.fit_beta(values)


def test_distance_is_small_for_its_own_and_large_for_others() -> None:
    spread = Bimodal(0.3, Beta(8, 60), Beta(60, 12))
    own = mixed(2, spread, 5000)
    other = np.random.default_rng(2).beta(30, 30, 5000)
    assert profiles.distance(spread, own) < 0.05
    assert profiles.distance(spread, other) > 0.6
