"""Bad samples: each kept, mended or left out, and every one of them counted."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.evidence.power.channels import CHANNELS
from lydite.evidence.power.trace import Series
from lydite.monitor.admission import Gate
from lydite.monitor.columns import Builder
from lydite.monitor.readings import Reading, Tally
from tests.monitor.virtual import MS, SECOND

PERIOD = 10 * MS


def admit(
    channel: str, samples: Sequence[tuple[int, float]], period_ns: int = PERIOD
) -> tuple[list[tuple[int, float]], dict[str, int]]:
    tally = Tally()
    gate = Gate(tally, {channel: period_ns})
    found = [gate.admit(Reading(channel, t_ns, value)) for t_ns, value in samples]
    return [(each.t_ns, each.value) for each in found if each is not None], tally.counts()


@pytest.mark.parametrize(
    ("name", "samples", "kept", "counted"),
    [
        ("a gap", [(0, 1.0), (10 * MS, 2.0), (100 * MS, 3.0)], 3, {"gap": 1}),
        ("a clock set ahead", [(0, 1.0), (7200 * SECOND, 2.0)], 2, {"clock-jump": 1}),
        ("a clock set back", [(9 * SECOND, 1.0), (SECOND, 2.0)], 1, {"reordered": 1}),
        ("the same time twice", [(5, 1.0), (5, 2.0)], 1, {"duplicate": 1}),
        ("a sample out of order", [(5, 1.0), (9, 2.0), (7, 3.0)], 2, {"reordered": 1}),
        ("no number", [(0, math.nan), (1, math.inf), (2, 1.0)], 1, {"not-finite": 2}),
        ("mW for W", [(0, 412_000.0), (1, 398_000.0)], 0, {"wrong-unit": 2}),
        ("less than nothing", [(0, -1.0)], 0, {"out-of-range": 1}),
        ("a repeated value", [(0, 1.0), (MS, 1.0), (2 * MS, 1.0)], 1, {"repeat": 2}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_power_that_is_wrong_is_counted(
    name: str, samples: list[tuple[int, float]], kept: int, counted: dict[str, int]
) -> None:
    found, counts = admit("power_instant_w", samples)
    assert len(found) == kept
    assert counts == counted


def test_a_constant_value_is_kept_once_a_second() -> None:
    found, counts = admit("power_instant_w", [(i * PERIOD, 70.0) for i in range(500)])
    assert [t_ns for t_ns, _ in found] == [i * SECOND for i in range(5)]
    assert counts == {"repeat": 495}


def test_a_mean_over_an_interval_is_never_thinned() -> None:
    found, counts = admit("sm_active", [(i * PERIOD, 0.0) for i in range(50)])
    assert len(found) == 50
    assert counts == {}


WRAP = 2**32 / 1000


@pytest.mark.parametrize(
    ("name", "values", "kept", "counted"),
    [
        ("a reset", [5e6, 5e6 + 1, 0.5, 2.0], [5e6, 5e6 + 1, 0.5, 2.0], {"counter-reset": 1}),
        ("a wrap", [WRAP - 1, 0.5, 3.0], [WRAP - 1, WRAP + 0.5, WRAP + 3], {"counter-wrapped": 1}),
        ("a reset near the wrap", [WRAP - 1e6, 1.0], [WRAP - 1e6, 1.0], {"counter-reset": 1}),
        ("a fall", [1e6, 9e5, 1e6 + 4], [1e6, 1e6 + 4], {"counter-fell": 1}),
    ],
)
def test_a_counter_that_falls_is_mended_or_counted(
    name: str, values: list[float], kept: list[float], counted: dict[str, int]
) -> None:
    found, counts = admit("energy_j", [(i * PERIOD, value) for i, value in enumerate(values)])
    assert [value for _, value in found] == kept
    assert counts == counted


def test_samples_of_channels_that_nobody_asked_for_or_trusts_are_counted() -> None:
    tally = Tally()
    gate = Gate(tally, {"energy_j": 0}, ["energy_j"])
    assert gate.admit(Reading("energy_j", 0, 1.0)) is None
    assert gate.admit(Reading("fan_speed", 0, 0.3)) is None
    assert tally.counts() == {"unusable": 1, "unknown": 1}


ANY = st.floats(allow_nan=True, allow_infinity=True)


@given(
    st.sampled_from(["power_instant_w", "energy_j", "sm_active", "pcie_tx_b"]),
    st.lists(st.tuples(st.integers(-(10**15), 10**15), ANY | st.floats(0, 2e4)), max_size=60),
)
def test_whatever_comes_what_is_kept_is_a_series_and_the_rest_is_counted(
    channel: str, samples: list[tuple[int, float]]
) -> None:
    samples = [(abs(t_ns), value) for t_ns, value in samples]
    found, counts = admit(channel, samples)
    left_out = sum(
        counts.get(reason, 0)
        for reason in (
            *("repeat", "duplicate", "reordered", "not-finite"),
            *("out-of-range", "wrong-unit", "counter-fell"),
        )
    )
    assert len(found) + left_out == len(samples)
    if found:
        builder = Builder()
        for t_ns, value in found:
            builder.add("d/0", Reading(channel, t_ns, value))
        Series(CHANNELS[channel], *builder.content()["d/0", channel])


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["power_instant_w", "energy_j", "sm_active", "fan_speed", "gpu_busy"]),
            st.integers(-(10**8), 2 * 10**9),
            st.sampled_from([0.0, 0.5, 1.0, 4e6, math.nan]),
        ),
        max_size=80,
    ),
    st.sampled_from([0, 10 * MS, 400 * MS]),
)
def test_the_short_way_through_a_gate_ends_where_the_long_one_does(
    steps: list[tuple[str, int, float]], period_ns: int
) -> None:
    channels = dict.fromkeys(["power_instant_w", "energy_j", "sm_active", "gpu_busy"], period_ns)
    t_ns, readings = 0, []
    for channel, step, value in steps:
        t_ns = max(0, t_ns + step)
        readings.append(Reading(channel, t_ns, value))
    tallies = Tally(), Tally()
    long_way, short_way = (Gate(tally, channels, ["gpu_busy"]) for tally in tallies)
    obvious = [kept for each in readings if (kept := long_way.admit(each)) is not None]
    assert short_way.admit_all(readings) == obvious
    assert tallies[0].counts() == tallies[1].counts()


@given(st.lists(st.tuples(st.integers(1, 10**10), st.floats(0, 1e3)), max_size=80))
def test_what_a_gate_let_through_goes_through_unchanged_again(
    steps: list[tuple[int, float]],
) -> None:
    t_ns, samples = 0, []
    for step, value in steps:
        t_ns += step
        samples.append((t_ns, value))
    once, _ = admit("power_instant_w", samples)
    again, counts = admit("power_instant_w", once, 0)
    assert again == once
    assert set(counts) <= {"clock-jump"}
