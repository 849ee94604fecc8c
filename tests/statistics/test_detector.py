import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError
from lydite.statistics import detector, onset
from lydite.statistics.power import first_crossing, tokens_for_power

LEVEL = math.log(1000)
MISS, MATCH = math.log(10), math.log(0.9 / 0.99)  # 10 % mismatches against 1 %


def steps(missed: np.ndarray) -> list[tuple[float]]:
    return [(MISS if miss else MATCH,) for miss in missed.tolist()]


factors = st.lists(st.floats(0.01, 100.0), min_size=1, max_size=20)


@given(factors)
def test_detectors_are_their_definitions(es: list[float]) -> None:
    # The sum, and the largest, of the e-values over all starts.
    suffixes = [math.prod(es[k:]) for k in range(len(es))]
    logs = [(math.log(e),) for e in es]
    assert list(detector.shiryaev_roberts(logs))[-1] == pytest.approx(math.log(sum(suffixes)))
    assert list(detector.cusum(logs))[-1] == pytest.approx(math.log(max(suffixes)), abs=1e-9)


@given(st.lists(st.tuples(st.floats(0.1, 9.0), st.floats(0.1, 9.0)), min_size=1, max_size=9))
def test_several_bettors_are_averaged(es: list[tuple[float, float]]) -> None:
    logs = [tuple(map(math.log, pair)) for pair in es]
    for watch in (detector.shiryaev_roberts, detector.cusum):
        alone = [list(watch([(pair[i],) for pair in logs]))[-1] for i in range(2)]
        wanted = math.log(sum(map(math.exp, alone)) / 2)
        assert list(watch(logs))[-1] == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("watch", [detector.shiryaev_roberts, detector.cusum])
def test_honest_streams_run_as_long_as_promised_on_average(watch: type) -> None:
    rng = np.random.default_rng(101)
    runs = [
        first_crossing(watch(steps(rng.random(3000) < 0.01)), math.log(30)) or 3000
        for _ in range(150)
    ]
    error = np.std(runs) / math.sqrt(len(runs))
    assert np.mean(runs) >= 30 - 3 * error


def test_over_a_lifetime_the_detector_cries_wolf_and_the_mixture_does_not() -> None:
    # statistics.md, section 2: 84 % and at most .25 % over 4000 honest audits at 1/1000.
    rng = np.random.default_rng(102)
    alarms = accused = 0
    for _ in range(30):
        honest = steps(rng.random(4000) < 0.01)
        alarms += first_crossing(detector.shiryaev_roberts(honest), LEVEL) is not None
        accused += first_crossing(onset.running(honest), LEVEL) is not None
    assert alarms >= 18  # 25 expected
    assert accused <= 1


def test_a_late_cheat_alarms_at_once_and_is_accused_later() -> None:
    # statistics.md, section 2: 24 and 111 audits after 1000 honest ones, plain product 546.
    rng = np.random.default_rng(103)
    delays: dict[str, list[int | None]] = {"alarm": [], "accused": [], "product": []}
    for _ in range(31):
        stream = steps(np.concatenate([rng.random(1000) < 0.01, rng.random(800) < 0.1]))
        paths = {
            "alarm": list(detector.shiryaev_roberts(stream)),
            "accused": list(onset.running(stream)),
            "product": np.cumsum([step for (step,) in stream]).tolist(),
        }
        for name, path in paths.items():
            delays[name].append(first_crossing(path[1000:], LEVEL))
    alarm, accused, product = (tokens_for_power(delays[name], 0.5) for name in delays)
    assert alarm is not None
    assert accused is not None
    assert product is not None
    assert alarm <= 45
    assert 2 * alarm < accused <= 180
    assert product > 2 * accused


@pytest.mark.parametrize("bad", [[()], [(0.0,), (0.0, 1.0)], [(math.nan,)]])
def test_steps_without_or_with_changing_bettors_are_refused(bad: list[tuple[float, ...]]) -> None:
    for watch in (detector.shiryaev_roberts, detector.cusum, onset.running):
        with pytest.raises(FormatError):
            list(watch(bad))
