"""NVIDIA's driver as a source, against a made-up driver that errs as the real one does."""

from collections.abc import Callable
from itertools import pairwise

import pytest

from lydite.errors import Reason, UnavailableError
from lydite.evidence.power.channels import CHANNELS
from lydite.monitor.readings import Reading
from lydite.monitor.sources import driver
from lydite.monitor.sources.driver import NO_PERMISSION, NOT_SUPPORTED
from lydite.monitor.sources.gpm import METRICS
from lydite.monitor.sources.nvml import NvmlSource
from lydite.monitor.sources.simulated import CYCLE, Faults, Load, SimulatedNvml, watts
from tests.monitor.virtual import MS, SECOND, VirtualTiming, sample


def source(timing: VirtualTiming, faults: Faults | None = None, **more: bool) -> NvmlSource:
    nvml = SimulatedNvml(timing.now_ns, Load(CYCLE), faults, **more)
    return NvmlSource(nvml, 0, 10 * MS, timing.now_ns)


def channels(found: list[Reading]) -> dict[str, list[Reading]]:
    by: dict[str, list[Reading]] = {}
    for reading in found:
        by.setdefault(reading.channel, []).append(reading)
    return by


def test_every_reading_is_of_a_known_channel_and_in_its_range() -> None:
    timing = VirtualTiming(20 * SECOND)
    found = sample(source(timing), timing)
    for reading in found:
        channel = CHANNELS[reading.channel]
        assert channel.low <= reading.value <= channel.high, reading
    assert {"power_instant_w", "energy_j", "sm_active", "gpu_temperature_c"} <= set(channels(found))


def test_rates_are_those_that_each_call_can_bear() -> None:
    timing = VirtualTiming(20 * SECOND)
    by = channels(sample(source(timing), timing))
    assert len(by["power_instant_w"]) == 2000
    assert len(by["sm_active"]) == 199  # the first sample only opens an interval
    assert len(by["gpu_temperature_c"]) == 40
    assert len(by["compute_processes"]) == 4


def test_power_moves_as_the_sensor_does_not_as_it_is_polled() -> None:
    timing = VirtualTiming(20 * SECOND)
    by = channels(sample(source(timing), timing))
    values = [reading.value for reading in by["power_instant_w"]]
    assert len({values[i] for i in range(len(values))}) <= 201
    assert max(values) > watts(0.5)


@pytest.mark.parametrize("code", [NO_PERMISSION, NOT_SUPPORTED, 999])
def test_a_field_that_the_device_refuses_is_not_offered(code: int) -> None:
    timing = VirtualTiming(SECOND)
    one = source(timing, Faults(codes={driver.ENERGY: code}))
    assert "energy_j" not in one.groups[0].channels
    assert "energy_j" not in channels(sample(one, timing))


def test_a_field_that_fails_later_is_counted_each_time() -> None:
    timing = VirtualTiming(SECOND)
    faults = Faults()
    one = source(timing, faults)
    faults.codes = {driver.INSTANT: NO_PERMISSION}
    assert "power_instant_w" not in channels(sample(one, timing))
    assert one.tally.counts() == {"not-read": 100}


def test_a_device_without_power_and_energy_is_refused() -> None:
    codes = dict.fromkeys((driver.INSTANT, driver.AVERAGE, driver.ENERGY), NO_PERMISSION)
    with pytest.raises(UnavailableError, match="neither power nor energy") as caught:
        source(VirtualTiming(), Faults(codes=codes))
    assert caught.value.reason is Reason.NOT_READ


def test_a_device_that_is_lost_is_counted_and_does_not_end_the_monitor() -> None:
    timing = VirtualTiming(2 * SECOND)
    one = source(timing, Faults(lost_ns=SECOND))
    by = channels(sample(one, timing))
    assert by["power_instant_w"][-1].t_ns < SECOND
    assert one.tally.counts()["not-read"] >= 100 * 5


def test_values_without_a_time_of_their_own_are_kept_and_counted() -> None:
    timing = VirtualTiming(SECOND)
    one = source(timing, Faults(no_stamps=True))
    assert len(channels(sample(one, timing))["energy_j"]) == 100
    assert one.tally.counts() == {"no-stamp": 500}


def test_scopes_are_probed() -> None:
    assert source(VirtualTiming()).scopes() == {"gpu": 0, "module": 3, "memory": 3}


def test_counters_of_units_need_a_hopper() -> None:
    groups = source(VirtualTiming(), gpm=False).groups
    assert "gpm" not in [group.name for group in groups]


def test_no_interval_of_units_is_under_100_ms() -> None:
    timing = VirtualTiming(5 * SECOND, each_read_ns=1_300_000)
    times = [reading.t_ns for reading in channels(sample(source(timing), timing))["sm_active"]]
    assert min(b - a for a, b in pairwise(times)) >= 100 * MS


def test_engines_that_do_not_exist_are_left_out_of_the_mean() -> None:
    timing = VirtualTiming(5 * SECOND)
    one = source(timing)
    by = channels(sample(one, timing))
    assert set(METRICS) <= set(by)
    assert one.tally.counts() == {}
    shares = [[reading.value for reading in by[name]] for name in ("nvdec_active", "fp32_active")]
    assert shares[0] == pytest.approx(shares[1])


def energy(faults: Faults, seconds: int) -> list[float]:
    timing = VirtualTiming(seconds * SECOND)
    by = channels(sample(source(timing, faults), timing))
    return [reading.value for reading in by["energy_j"]]


@pytest.mark.parametrize(
    ("faults", "falls"),
    [(Faults(), 0), (Faults(reset_ns=2 * SECOND), 1), (Faults(counter_bits=20), 3)],
)
def test_the_made_up_counter_falls_as_real_ones_do(faults: Faults, falls: int) -> None:
    values = energy(faults, 10)
    found = sum(b < a for a, b in pairwise(values))
    assert found == falls


@pytest.mark.parametrize("at_ns", [0, 1, SECOND, 17 * SECOND + 5, 123 * SECOND])
def test_the_load_s_energy_is_the_sum_of_its_steps(at_ns: int) -> None:
    def obvious(load: Callable[[int], float], until_ns: int) -> float:
        step_ns = MS // 2
        whole = until_ns // step_ns
        rest_s = (until_ns - whole * step_ns) / 1e9
        joules = sum(watts(load(i * step_ns)) for i in range(whole)) * step_ns / 1e9
        return joules + rest_s * watts(load(whole * step_ns))

    load = Load(((3, 0.0), (5, 0.5), (2, 1.0)))
    at_ns %= 3 * SECOND
    assert load.joules(at_ns) == pytest.approx(obvious(load.at, at_ns))
