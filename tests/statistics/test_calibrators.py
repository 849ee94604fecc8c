import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate

from lydite.errors import FormatError
from lydite.statistics import calibrators

ps = st.floats(1e-300, 1.0)
kappas = st.floats(0.001, 0.999)


@pytest.mark.parametrize("kappa", [0.05, 0.3, 0.5, 0.9])
def test_an_honest_p_value_makes_a_fair_bet_at_any_fixed_kappa(kappa: float) -> None:
    # p = exp(-x): the integral of e(p) over p.
    mean, _ = integrate.quad(
        lambda x: math.exp(calibrators.log_power(math.exp(-x), kappa) - x), 0.0, 700.0, limit=500
    )
    assert mean == pytest.approx(1.0, abs=1e-6)


def test_an_honest_p_value_makes_a_fair_bet_when_kappa_is_mixed() -> None:
    mean, _ = integrate.quad(
        lambda x: math.exp(calibrators.log_mixed(math.exp(-x)) - x), 0.0, 700.0, limit=500
    )
    # the tail beyond p = e^-700 holds the integral of 1/x^2, which is 1/700
    assert mean + 1 / 700 == pytest.approx(1.0, abs=1e-6)


@given(st.floats(1e-200, 0.9))
def test_the_mixed_calibrator_is_its_closed_form(p: float) -> None:
    log_p = math.log(p)
    plain = math.log((1 - p + p * log_p) / log_p**2) - log_p
    assert calibrators.log_mixed(p) == pytest.approx(plain, abs=1e-9)


@given(st.floats(1e-5, 1.0))
def test_the_mixed_calibrator_is_the_average_over_kappa(p: float) -> None:
    mean, _ = integrate.quad(lambda kappa: kappa * p ** (kappa - 1), 0.0, 1.0, limit=200)
    assert math.exp(calibrators.log_mixed(p)) == pytest.approx(mean, rel=1e-6)


@given(st.floats(0.95, 1.0), st.floats(0.95, 1.0))
def test_near_one_the_mixed_calibrator_neither_cancels_nor_rises(p: float, q: float) -> None:
    low, high = min(p, q), max(p, q)
    assert calibrators.log_mixed(high) <= calibrators.log_mixed(low) + 1e-12
    x = -math.log(p)
    series = sum(x**k / math.factorial(k + 2) for k in range(12))
    assert calibrators.log_mixed(p) == pytest.approx(math.log(series), abs=1e-11)


def test_the_values_of_the_design_notes_hold() -> None:
    assert math.exp(calibrators.log_mixed(1.0)) == 0.5
    assert math.exp(calibrators.log_mixed(1 / 201)) == pytest.approx(6.9, abs=0.05)
    assert math.exp(calibrators.log_mixed(1 / 1001)) == pytest.approx(20.8, abs=0.05)


@given(ps, kappas)
def test_no_calibrator_gives_more_than_the_bound(p: float, kappa: float) -> None:
    most = calibrators.log_most(p)
    assert calibrators.log_power(p, kappa) <= most + 1e-9
    assert calibrators.log_mixed(p) <= most + 1e-9


@given(st.floats(1e-300, 0.3))
def test_the_bound_is_reached_by_the_best_kappa(p: float) -> None:
    best = -1 / math.log(p)
    assert calibrators.log_power(p, best) == pytest.approx(calibrators.log_most(p), abs=1e-9)


def test_an_e_value_is_a_p_value_no_better_than_its_inverse() -> None:
    assert calibrators.p_of(math.log(1000)) == pytest.approx(0.001)
    assert calibrators.p_of(-5.0) == 1.0
    assert calibrators.p_of(-math.inf) == 1.0
    assert calibrators.p_of(1e6) == 0.0


@pytest.mark.parametrize("p", [0.0, -0.1, 1.1, math.nan])
def test_what_is_no_p_value_is_refused(p: float) -> None:
    for call in (calibrators.log_mixed, calibrators.log_most):
        with pytest.raises(FormatError):
            call(p)
    with pytest.raises(FormatError):
        calibrators.log_power(p, 0.5)


def test_what_is_no_kappa_or_e_value_is_refused() -> None:
    for kappa in (0.0, 1.0, math.nan):
        with pytest.raises(FormatError):
            calibrators.log_power(0.5, kappa)
    with pytest.raises(FormatError):
        calibrators.p_of(math.nan)
