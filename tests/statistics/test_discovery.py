import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError
from lydite.statistics.discovery import e_bh

e_values = st.dictionaries(st.text("abcdef", max_size=3), st.floats(-5.0, 15.0), max_size=12)


def twin(log_es: dict[str, float], target: float) -> set[str]:
    """The definition: try every number of names."""
    best: set[str] = set()
    for k in range(1, len(log_es) + 1):
        enough = {n for n, v in log_es.items() if math.exp(v) >= len(log_es) / (k * target)}
        if len(enough) >= k:
            best = enough
    return best


@given(e_values, st.floats(0.01, 1.0))
def test_e_bh_agrees_with_the_obvious_search(log_es: dict[str, float], target: float) -> None:
    named = e_bh(log_es, target)
    assert len(named) == len(set(named))
    assert [log_es[name] for name in named] == sorted((log_es[n] for n in named), reverse=True)
    close = any(
        abs(v - math.log(len(log_es) / (k * target))) < 1e-9
        for v in log_es.values()
        for k in range(1, len(log_es) + 1)
    )
    if not close:
        assert set(named) == twin(log_es, target)


def test_a_fleet_names_cheaters_and_hardly_anyone_else() -> None:
    # statistics.md, section 3: 1000 providers, 20 cheaters, target .05; dependent e-values.
    rng = np.random.default_rng(51)
    false, found, runs = [], [], 100
    for _ in range(runs):
        common = math.sqrt(0.5) * rng.normal() + math.sqrt(0.5) * rng.normal(size=1000)
        drift = np.where(np.arange(1000) < 20, 4.0, 0.0)
        logs = 4.0 * (common + drift) - 8.0  # likelihood ratio of a shift by four
        named = e_bh({str(i): float(v) for i, v in enumerate(logs)}, 0.05)
        cheats = sum(int(name) < 20 for name in named)
        false.append((len(named) - cheats) / max(1, len(named)))
        found.append(cheats / 20)
    assert np.mean(false) <= 0.05
    assert np.mean(found) > 0.3


def test_of_many_honest_providers_one_by_one_names_some_and_e_bh_hardly_ever_any() -> None:
    rng = np.random.default_rng(52)
    alone = together = 0
    for _ in range(100):
        logs = 3.0 * rng.normal(size=1000) - 4.5
        alone += bool((logs >= math.log(20)).any())
        together += bool(e_bh({str(i): float(v) for i, v in enumerate(logs)}, 0.05))
    assert alone > 50
    assert together <= 5


def test_nobody_is_named_from_nothing() -> None:
    assert e_bh({}, 0.05) == ()
    assert e_bh({"a": 0.0}, 0.05) == ()
    assert e_bh({"a": math.inf, "b": -math.inf}, 0.05) == ("a",)


@pytest.mark.parametrize(
    ("log_es", "target"), [({"a": math.nan}, 0.05), ({"a": 1.0}, 0.0), ({"a": 1.0}, 1.5)]
)
def test_what_is_no_e_value_or_target_is_refused(log_es: dict[str, float], target: float) -> None:
    with pytest.raises(FormatError):
        e_bh(log_es, target)
