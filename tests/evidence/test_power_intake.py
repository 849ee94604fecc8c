"""Raw samples become a trace, or are refused by name; every one of them is accounted for."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError, Reason
from lydite.evidence.power.channels import CHANNELS
from lydite.evidence.power.intake import (
    LEFT_OUT,
    Fault,
    Limits,
    Raw,
    take_in,
    take_in_series,
)

POWER = "power_instant_w"
LENIENT = Limits(mended_share=9.0, reorder_ns=10**12, stuck_samples=10**9)
ODD = (np.nan, np.inf, -np.inf, -1.0, 30_000.0)


def steady(count: int, step_ns: int = 10**8) -> np.ndarray:
    return np.arange(count, dtype=np.int64) * step_ns


def watts(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(200, 400, count)


def obvious(times: list[int], values: list[float]) -> tuple[dict[int, float], Counter[Fault]]:
    """What is kept and counted, sample by sample, for a gauge of power."""
    faults: Counter[Fault] = Counter()
    finite, latest = [], None
    for t, v in zip(times, values, strict=True):
        if not np.isfinite(v):
            faults[Fault.NOT_FINITE] += 1
            continue
        if not 0 <= v <= 20_000:
            faults[Fault.OUT_OF_RANGE] += 1
            continue
        if latest is not None and t < latest:
            faults[Fault.REORDERED] += 1
        latest = t if latest is None else max(t, latest)
        finite.append((t, v))
    kept: dict[int, float] = {}
    for t, v in sorted(finite, key=lambda pair: pair[0]):
        if t in kept:
            faults[Fault.DUPLICATE if kept[t] == v else Fault.CONFLICTING] += 1
            continue
        kept[t] = v
    return kept, faults


samples = st.lists(
    st.tuples(
        st.integers(0, 40).map(lambda k: k * 10**7),
        st.one_of(st.sampled_from(ODD), st.sampled_from((100.0, 101.0, 250.0))),
    ),
    min_size=1,
    max_size=60,
)


@given(samples)
def test_intake_agrees_with_the_obvious_one_and_accounts_for_every_sample(
    pairs: list[tuple[int, float]],
) -> None:
    times, values = [t for t, _ in pairs], [v for _, v in pairs]
    raw = Raw(channel=POWER, times=np.array(times), values=np.array(values), unit="W")
    kept, faults = obvious(times, values)
    finite = [v for v in values if np.isfinite(v)]
    if 2 * sum(0 <= v <= 20_000 for v in finite) < len(finite) or not kept:
        with pytest.raises(FormatError):
            take_in_series(raw, LENIENT)
        return
    series, found = take_in_series(raw, LENIENT)
    assert series is not None
    assert dict(zip(series.t_ns.tolist(), series.values.tolist(), strict=True)) == kept
    del found[Fault.GAP]
    assert found == +faults
    left_out = sum(number for fault, number in found.items() if fault in LEFT_OUT)
    assert len(series.t_ns) + left_out == len(pairs)


@pytest.mark.parametrize(
    ("unit", "factor", "time_unit", "tick"),
    [("W", 1, "ns", 1), ("mW", 1000, "us", 10**3), ("kW", 0.001, "s", 10**9)],
)
def test_stated_units_are_converted(unit: str, factor: float, time_unit: str, tick: int) -> None:
    raw = Raw(
        channel=POWER,
        times=steady(50) / tick,
        values=watts(50) * factor,
        unit=unit,
        time_unit=time_unit,
    )
    series, faults = take_in_series(raw)
    assert series is not None
    assert not faults
    np.testing.assert_array_equal(series.t_ns, steady(50))
    np.testing.assert_allclose(series.values, watts(50), rtol=1e-12)


@pytest.mark.parametrize(
    ("channel", "unit", "values", "meant"),
    [
        (POWER, "W", watts(50) * 1000, "mW"),
        (POWER, "mW", watts(50), "W"),
        (POWER, "W", 5_000 + watts(50) * 10, "mW"),  # an idle laptop in mW is within the range
        ("gpu_busy", "1", np.linspace(0, 100, 50), "%"),
        ("memory_used_b", "B", np.linspace(70_000, 80_000, 50), "MiB"),
        ("sm_clock_hz", "Hz", np.linspace(1200, 1980, 50), "MHz"),
    ],
)
def test_values_in_another_unit_than_stated_are_refused(
    channel: str, unit: str, values: np.ndarray, meant: str
) -> None:
    raw = Raw(channel=channel, times=steady(50), values=values, unit=unit)
    with pytest.raises(FormatError, match=rf"in .*\b{meant}" if meant != "%" else "%") as caught:
        take_in_series(raw)
    assert caught.value.reason is Reason.WRONG_UNIT


@pytest.mark.parametrize("change", [{"unit": "V"}, {"unit": ""}, {"time_unit": "h"}])
def test_an_unknown_unit_is_refused(change: dict[str, str]) -> None:
    given = {"channel": POWER, "unit": "W", **change}
    with pytest.raises(FormatError) as caught:
        take_in_series(Raw(times=steady(9), values=watts(9), **given))
    assert caught.value.reason is Reason.WRONG_UNIT


@pytest.mark.parametrize("step_ns", [100, 2 * 3600 * 10**9])
def test_times_in_another_unit_are_refused(step_ns: int) -> None:
    with pytest.raises(FormatError) as caught:
        take_in_series(Raw(channel=POWER, times=steady(9, step_ns), values=watts(9), unit="W"))
    assert caught.value.reason is Reason.WRONG_UNIT


@pytest.mark.parametrize("jump_ns", [-30 * 10**9, -(10**12), 30 * 86_400 * 10**9])
def test_a_clock_that_was_set_is_refused(jump_ns: int) -> None:
    times = steady(400)
    times[200:] += jump_ns
    with pytest.raises(FormatError) as caught:
        take_in_series(Raw(channel=POWER, times=times, values=watts(400), unit="W"))
    assert caught.value.reason is Reason.CLOCK_JUMP


def test_a_gap_is_kept_and_counted() -> None:
    times = steady(100)
    times[50:] += 3600 * 10**9
    series, faults = take_in_series(Raw(channel=POWER, times=times, values=watts(100), unit="W"))
    assert series is not None
    assert faults == {Fault.GAP: 1}
    assert len(series.t_ns) == 100


def test_too_much_to_mend_is_refused() -> None:
    values = watts(100)
    values[:11] = np.nan
    with pytest.raises(FormatError) as caught:
        take_in_series(Raw(channel=POWER, times=steady(100), values=values, unit="W"))
    assert caught.value.reason is Reason.TOO_FAULTY


@pytest.mark.parametrize("values", [[], [np.nan, np.nan]])
def test_nothing_left_is_refused(values: list[float]) -> None:
    raw = Raw(channel=POWER, times=steady(len(values)), values=np.array(values), unit="W")
    with pytest.raises(FormatError) as caught:
        take_in_series(raw)
    assert caught.value.reason is Reason.TOO_FEW_SAMPLES


def test_a_stuck_sensor_is_left_out_and_counted() -> None:
    stuck = Raw(channel="power_average_w", times=steady(700), values=np.full(700, 312.0), unit="W")
    live = Raw(channel=POWER, times=steady(700), values=watts(700), unit="W")
    trace = take_in("NVIDIA H200", [stuck, live])
    assert list(trace.series) == [POWER]
    assert trace.counted == {"power_average_w/stuck": 700}
    with pytest.raises(FormatError) as caught:
        take_in("NVIDIA H200", [stuck])
    assert caught.value.reason is Reason.TOO_FEW_SAMPLES


def test_memory_that_never_moves_is_no_fault() -> None:
    raw = Raw(channel="memory_used_b", times=steady(700), values=np.full(700, 8e10), unit="B")
    series, faults = take_in_series(raw)
    assert series is not None
    assert not faults


def test_a_counter_that_wraps_is_counted_on() -> None:
    true = np.arange(60) * 10**8
    raw = Raw(
        channel="pcie_rx_b", times=steady(60), values=true % 2**32, unit="B", wraps_at=2.0**32
    )
    series, faults = take_in_series(raw)
    assert series is not None
    np.testing.assert_array_equal(series.values, true)
    assert faults == {Fault.WRAPPED: int(true[-1] // 2**32)}


def test_a_counter_that_starts_again_is_kept_and_one_that_falls_is_left_out() -> None:
    joules = 10_000 + np.arange(60) * 30.0
    joules[40:] = np.arange(20) * 30.0
    joules[10] = 9_000
    raw = Raw(channel="energy_j", times=steady(60), values=joules, unit="J")
    series, faults = take_in_series(raw)
    assert series is not None
    assert faults == {Fault.FELL: 1, Fault.RESET: 1}
    np.testing.assert_array_equal(series.values, np.delete(joules, 10))


def test_every_fault_says_what_becomes_of_the_sample() -> None:
    assert set(LEFT_OUT) < set(Fault)
    assert len(CHANNELS) > 30


@pytest.mark.parametrize(
    "raw",
    [
        Raw(channel="nonsense", times=steady(3), values=watts(3), unit="W"),
        Raw(channel=POWER, times=steady(3), values=watts(4), unit="W"),
        Raw(channel=POWER, times=steady(4).reshape(2, 2), values=watts(4).reshape(2, 2), unit="W"),
        Raw(channel=POWER, times=steady(3), values=np.array(["a", "b", "c"]), unit="W"),
        Raw(channel=POWER, times=np.array([1e300, 2e300]), values=watts(2), unit="W"),
    ],
)
def test_what_is_no_series_of_numbers_is_refused(raw: Raw) -> None:
    with pytest.raises(FormatError):
        take_in_series(raw)


def test_a_refused_channel_is_left_out_and_counted_where_that_is_asked() -> None:
    good = Raw(channel=POWER, times=steady(50), values=watts(50), unit="W")
    wrong = Raw(channel="gpu_busy", times=steady(50), values=np.linspace(0, 100, 50), unit="1")
    with pytest.raises(FormatError):
        take_in("x", [good, wrong])
    trace = take_in("x", [good, wrong], leave_out=True)
    assert list(trace.series) == [POWER]
    assert trace.counted == {"gpu_busy/wrong-unit": 50}
    with pytest.raises(FormatError) as caught:
        take_in("x", [wrong], leave_out=True)
    assert caught.value.reason is Reason.TOO_FEW_SAMPLES


def test_a_channel_given_twice_is_refused() -> None:
    raw = Raw(channel=POWER, times=steady(9), values=watts(9), unit="W")
    with pytest.raises(FormatError, match="twice"):
        take_in("x", [raw, raw])
