"""Our e-values beside another implementation's: the package ``ville`` (pip install ville)."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.statistics import calibrators, mismatch
from lydite.statistics.beta import log_upper
from lydite.statistics.discovery import e_bh

pytestmark = pytest.mark.outside
ville = pytest.importorskip("ville", reason="ville: not installed")
evalues = pytest.importorskip("ville.evalues", reason="ville: not installed")


@given(st.floats(1e-12, 0.9), st.floats(0.05, 0.95))
def test_calibrators_are_theirs(p: float, kappa: float) -> None:
    assert calibrators.log_mixed(p) == pytest.approx(math.log(evalues.p_to_e(p)), abs=1e-9)
    wanted = math.log(evalues.p_to_e(p, kappa))
    assert calibrators.log_power(p, kappa) == pytest.approx(wanted, abs=1e-9)
    assert calibrators.p_of(-math.log(p)) == pytest.approx(float(evalues.e_to_p(1 / p)))


@given(st.lists(st.integers(-5, 12), min_size=1, max_size=30), st.sampled_from([0.05, 0.1, 0.3]))
def test_discoveries_are_theirs(logs: list[int], target: float) -> None:
    named = e_bh({str(i): float(log) for i, log in enumerate(logs)}, target)
    theirs = evalues.ebh(np.exp(np.array(logs, dtype=float)), target)
    chosen = [log for log, is_chosen in zip(logs, theirs, strict=True) if is_chosen]
    assert [logs[int(name)] for name in named] == sorted(chosen, reverse=True)


@given(st.lists(st.booleans(), min_size=1, max_size=200), st.floats(0.01, 0.9))
def test_mismatches_are_the_upper_part_of_their_two_sided_test(
    missed: list[bool], rate: float
) -> None:
    misses, audits = sum(missed), len(missed)
    theirs = ville.BernoulliTest(rate, prior=(0.5, 0.5))
    theirs.fit(np.array(missed, dtype=float))
    matches = audits - misses
    paid = misses * math.log(rate) + matches * math.log1p(-rate)
    upper = log_upper(rate, 0.5, 0.5) - math.log(math.pi) + mismatch.log_e(misses, audits, rate)
    lower = log_upper(1 - rate, matches + 0.5, misses + 0.5) - math.log(math.pi) - paid
    both = float(np.logaddexp(upper, lower))
    assert both == pytest.approx(float(theirs.log_e_values_[-1]), abs=1e-8)
