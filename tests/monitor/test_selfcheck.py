"""Sensors on trial: periods and windows found again, and every liar refused by name."""

import numpy as np
import pytest

from lydite.errors import Reason
from lydite.messages import sensors
from lydite.messages.canonical import encode
from lydite.messages.sensors import Report
from lydite.monitor.bursts import PATTERN_MS
from lydite.monitor.columns import Builder
from lydite.monitor.meters import CounterMeter, changes, energy_j
from lydite.monitor.readings import Reading
from lydite.monitor.response import Edge, load_means, window
from lydite.monitor.selfcheck import Lanes, Watched, judge, refused
from lydite.monitor.sources.nvml import NvmlSource
from lydite.monitor.sources.simulated import CYCLE, Faults, Load, SimulatedNvml, watts
from tests.monitor.virtual import MS, SECOND, VirtualTiming, sample

NOW = "2026-01-01T00:00:00.000Z"


def bursts(load: Load, start_ms: int = 500) -> list[Edge]:
    """Play the pattern of the self-check on a made-up load."""
    edges, t_ns = [], start_ms * MS
    for place, length_ms in enumerate(PATTERN_MS):
        on = place % 2 == 0
        load.switch(t_ns, float(on))
        edges.append(Edge(t_ns, on))
        t_ns += length_ms * MS
    return edges


def tried(
    faults: Faults | None = None, *, burst: bool = True, seconds: int = 8, **sensor: int
) -> Report:
    timing = VirtualTiming(seconds * SECOND)
    load = Load(() if burst else CYCLE)
    edges = bursts(load) if burst else []
    source = NvmlSource(
        SimulatedNvml(timing.now_ns, load, faults, **sensor), 0, 10 * MS, timing.now_ns
    )
    lanes = by_channel(sample(source, timing))
    return judge(Watched("d/0", "nvml", lanes, list(lanes), edges, 50.0), NOW)


def by_channel(found: list[Reading]) -> Lanes:
    builder = Builder()
    for reading in found:
        builder.add("d/0", reading)
    return {channel: lane for (_, channel), lane in builder.content().items()}


def sensor(report: Report, channel: str) -> sensors.Sensor:
    return next(each for each in report.sensors if each.channel == channel)


def test_an_honest_device_is_believed_whole() -> None:
    report = tried()
    assert refused(report) == frozenset()
    assert all(each.holds for each in report.agreements)
    assert len(report.agreements) == 3
    assert sensors.parse(encode(sensors.Reports(reports=(report,)))).reports == (report,)


@pytest.mark.parametrize("period_ms", [20, 100, 170])
def test_update_periods_are_found(period_ms: int) -> None:
    report = tried(period_ms=period_ms)
    for channel in ("power_instant_w", "power_average_w", "energy_j"):
        period_us = sensor(report, channel).period_us
        assert period_us is not None
        assert abs(period_us - period_ms * 1000) <= 10_000


@pytest.mark.parametrize("average_ms", [200, 500, 1000])
def test_averaging_windows_are_found_by_a_burst(average_ms: int) -> None:
    report = tried(average_ms=average_ms)
    found = sensor(report, "power_average_w").window_us
    assert found == average_ms * 1000
    instant_us = sensor(report, "power_instant_w").window_us
    assert instant_us is not None
    assert instant_us <= 50_000


def test_without_a_burst_periods_are_known_and_windows_are_not() -> None:
    report = tried(burst=False)
    assert report.stimulus == "none"
    assert sensor(report, "power_instant_w").period_us is not None
    assert sensor(report, "power_average_w").window_us is None


@pytest.mark.parametrize(
    ("faults", "channels", "reason"),
    [
        (Faults(frozen=True), {"power_instant_w", "energy_j"}, Reason.SENSOR_FROZEN),
        (Faults(virtual=True), {"power_instant_w", "power_average_w"}, Reason.SENSOR_UNMOVED),
        (Faults(energy_scale=0.6), {"energy_j"}, Reason.SENSORS_DISAGREE),
        (Faults(energy_scale=1.4), {"energy_j"}, Reason.SENSORS_DISAGREE),
        (Faults(instant_scale=0.7), {"power_instant_w"}, Reason.SENSORS_DISAGREE),
        (Faults(instant_scale=1000.0), {"power_instant_w"}, Reason.WRONG_UNIT),
        (Faults(energy_scale=0.001), {"energy_j"}, Reason.WRONG_UNIT),
    ],
)
def test_a_channel_that_lies_is_refused_by_name(
    faults: Faults, channels: set[str], reason: Reason
) -> None:
    report = tried(faults)
    for channel in channels:
        found = sensor(report, channel)
        assert not found.usable
        assert found.reason is reason, found.detail
    others = {"power_instant_w", "power_average_w", "energy_j"} - channels
    if not faults.frozen:
        assert not others & refused(report)


def test_work_in_the_blind_part_of_the_sensor_shows_as_disagreement() -> None:
    """75 of 100 ms under load, where a mean over the last 25 ms never looks."""
    report = tried_with(Load(((75, 1.0), (25, 0.0))))
    assert not sensor(report, "power_instant_w").usable
    assert sensor(report, "energy_j").usable
    assert sensor(report, "power_average_w").usable


def tried_with(load: Load) -> Report:
    timing = VirtualTiming(8 * SECOND)
    source = NvmlSource(SimulatedNvml(timing.now_ns, load), 0, 10 * MS, timing.now_ns)
    lanes = by_channel(sample(source, timing))
    return judge(Watched("d/0", "nvml", lanes, list(lanes)), NOW)


@pytest.mark.parametrize("start_s", range(0, 60, 4))
def test_an_honest_device_under_ordinary_load_keeps_its_average_and_its_counter(
    start_s: int,
) -> None:
    shifted = VirtualTiming((start_s + 6) * SECOND)
    shifted.t_ns = start_s * SECOND
    source = NvmlSource(SimulatedNvml(shifted.now_ns, Load(CYCLE)), 0, 10 * MS, shifted.now_ns)
    lanes = by_channel(sample(source, shifted))
    found = refused(judge(Watched("d/0", "nvml", lanes, list(lanes)), NOW))
    assert not found - {"power_instant_w"}


def test_a_channel_that_was_offered_and_never_came_is_not_read() -> None:
    lanes = {"gpu_busy": (np.array([1], np.int64), np.array([0.5]))}
    report = judge(Watched("d/0", "dcgm", lanes, ["energy_j", "gpu_busy"]), NOW)
    assert sensor(report, "energy_j").reason is Reason.NOT_READ
    assert sensor(report, "gpu_busy").usable


def test_slow_things_that_stand_still_are_not_frozen() -> None:
    lanes = {
        "gpu_temperature_c": (np.arange(100, dtype=np.int64) * SECOND, np.full(100, 41.0)),
    }
    assert refused(judge(Watched("d/0", "nvml", lanes, list(lanes)), NOW)) == frozenset()


def test_the_mean_load_in_a_window_is_that_of_the_obvious_sum() -> None:
    edges = [Edge(10 * MS, True), Edge(40 * MS, False), Edge(55 * MS, True), Edge(90 * MS, False)]

    def busy(t_ns: int) -> bool:
        return any(
            on.t_ns <= t_ns < off.t_ns for on, off in zip(edges[::2], edges[1::2], strict=True)
        )

    for end_ms in range(0, 150, 7):
        for width_ms in (1, 10, 30, 100):
            found = load_means(edges, np.array([end_ms * MS]), width_ms)[0]
            ticks = range((end_ms - width_ms) * 10, end_ms * 10)
            obvious = sum(busy(tick * MS // 10) for tick in ticks) / len(ticks)
            assert found == pytest.approx(obvious)


def test_no_window_is_claimed_for_a_sensor_that_does_not_follow() -> None:
    noise = np.random.default_rng(1).normal(100, 5, 800)
    edges = bursts(Load())
    assert window(np.arange(800, dtype=np.int64) * 10 * MS, noise, edges) is None


def test_a_counter_is_differenced_on_its_own_updates() -> None:
    """Polled ten times as often as it moves, at a constant power, no step departs from it."""
    timing = VirtualTiming(10 * SECOND)
    load = Load(((1000, 0.4),))
    source = NvmlSource(SimulatedNvml(timing.now_ns, load), 0, 10 * MS, timing.now_ns)
    meter, rates = CounterMeter(), []
    for reading in sample(source, timing):
        if reading.channel == "energy_j" and (update := meter.take(reading.t_ns, reading.value)):
            rates.append(update.rate)
    assert rates
    assert rates == pytest.approx([watts(0.4)] * len(rates), abs=0.02)
    assert meter.total == pytest.approx(watts(0.4) * len(rates) * 0.1, abs=0.01)


def test_a_counter_that_begins_anew_adds_nothing_that_was_not_counted() -> None:
    meter = CounterMeter()
    for t_ns, value in enumerate([10.0, 12.0, 15.0, 1.0, 4.0]):
        meter.take(t_ns * SECOND, value)
    assert meter.total == 3.0 + 3.0


def test_held_power_is_integrated_as_the_obvious_sum() -> None:
    times = np.array([0, 3, 4, 9], np.int64) * SECOND
    power = np.array([10.0, 20.0, 30.0, 40.0])
    assert energy_j(times, power, 1 * SECOND, 6 * SECOND) == 2 * 10 + 1 * 20 + 2 * 30
    assert energy_j(times, power, 9 * SECOND, 11 * SECOND) == 80
    assert changes(np.array([1.0, 1.0, 2.0, 2.0, 1.0])).tolist() == [2, 4]
