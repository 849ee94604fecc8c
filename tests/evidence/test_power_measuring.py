import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.evidence.power import measuring
from lydite.evidence.power.channels import CHANNELS
from lydite.evidence.power.trace import Series, Trace

SECOND = measuring.SECOND
steps = st.lists(
    st.tuples(st.integers(1, 5), st.integers(0, 700)), min_size=2, max_size=30
)  # tenths of a second to the next sample, watts


def series(name: str, t_tenths: list[int], values: list[float]) -> Series:
    return Series(
        CHANNELS[name],
        np.array(t_tenths, dtype=np.int64) * (SECOND // 10),
        np.array(values, dtype=np.float64),
    )


def spans(*tenths: tuple[int, int]) -> measuring.Spans:
    return np.array(tenths, dtype=np.int64).reshape(-1, 2) * (SECOND // 10)


@given(steps, st.integers(0, 80), st.integers(1, 80))
def test_held_power_integrates_as_counted_tenth_by_tenth(
    rows: list[tuple[int, int]], start: int, long: int
) -> None:
    times = [0, *np.cumsum([gap for gap, _ in rows]).tolist()][:-1]
    watts = [float(value) for _, value in rows]
    found = measuring.integral(
        series("power_average_w", times, watts), spans((start, start + long))
    )
    total, covered = 0.0, 0
    for tenth in range(start, start + long):
        if times[0] <= tenth < times[-1]:
            held = max(i for i, at in enumerate(times) if at <= tenth)
            total, covered = total + watts[held] / 10, covered + 1
    assert found.total == pytest.approx(total, abs=1e-6)
    assert found.covered_s == pytest.approx(covered / 10)


@given(steps, st.lists(st.integers(0, 100), min_size=1, max_size=5))
def test_stretches_that_meet_have_the_energy_of_the_whole(
    rows: list[tuple[int, int]], cuts: list[int]
) -> None:
    times = [0, *np.cumsum([gap for gap, _ in rows]).tolist()][:-1]
    power = series("power_instant_w", times, [float(value) for _, value in rows])
    edges = sorted({0, 120, *cuts})
    whole = measuring.integral(power, spans((0, 120)))
    parts = [measuring.integral(power, spans(pair)) for pair in itertools.pairwise(edges)]
    assert sum(one.total for one in parts) == pytest.approx(whole.total)
    assert sum(one.covered_s for one in parts) == pytest.approx(whole.covered_s)


def test_a_counter_is_read_where_it_changes() -> None:
    counter = series("energy_j", list(range(41)), [float(10 * (i // 10)) for i in range(41)])
    assert measuring.integral(counter, spans((10, 30))).total == pytest.approx(20.0)


def test_a_counter_that_starts_again_leaves_a_step_out() -> None:
    counter = series("energy_j", [0, 10, 20, 30, 40], [100.0, 200.0, 0.0, 100.0, 200.0])
    found = measuring.integral(counter, spans((0, 40)))
    assert found.total == pytest.approx(300.0)
    assert found.covered_s == pytest.approx(3.0)


def test_a_hole_in_the_samples_is_not_covered() -> None:
    times = [*range(50), *range(250, 300)]
    power = series("power_average_w", times, [100.0] * 100)
    found = measuring.integral(power, spans((0, 299)))
    assert found.covered_s == pytest.approx(4.9 + 4.9)
    assert found.mean == pytest.approx(100.0)


def test_a_counter_that_stands_still_falls_back_to_power() -> None:
    frozen = series("energy_j", list(range(50)), [7.0] * 50)
    power = series("power_average_w", list(range(50)), [100.0] * 50)
    trace = Trace("gpu", {"energy_j": frozen, "power_average_w": power})
    assert measuring.joules(trace, spans((0, 49))).total == pytest.approx(490.0)


def test_nothing_measured_has_no_mean() -> None:
    alone = series("power_average_w", [5], [100.0])
    assert np.isnan(measuring.integral(alone, spans((0, 10))).mean)
    trace = Trace("gpu", {"gpu_temperature_c": series("gpu_temperature_c", [0, 10], [40.0, 41.0])})
    assert measuring.joules(trace, spans((0, 10))) == measuring.Measured(0.0, 0.0)


def test_means_name_only_what_covers_half_of_the_time() -> None:
    rows = {
        "sm_active": series("sm_active", list(range(101)), [0.5] * 101),
        "dram_active": series("dram_active", list(range(21)), [0.5] * 21),
    }
    assert set(measuring.means(Trace("gpu", rows), spans((0, 100)))) == {"sm_active"}


pairs = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=12)


@given(pairs)
def test_union_and_complement_agree_with_marking_every_second(
    opened: list[tuple[int, int]],
) -> None:
    starts = np.array([start for start, _ in opened], dtype=np.int64)
    ends = np.array([start + long for start, long in opened], dtype=np.int64)
    busy = measuring.clip(measuring.union(starts, ends), 10, 70)
    gaps = measuring.complement(busy, 10, 70)
    for second in range(10, 70):
        inside = any(start <= second < start + long for start, long in opened)
        assert any(a <= second < b for a, b in busy) == inside
        assert any(a <= second < b for a, b in gaps) != inside
