"""Rates without drift, late beats counted, a full ring that says what it refused."""

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import UnavailableError
from lydite.monitor.readings import Reading
from lydite.monitor.ring import Ring
from lydite.monitor.sampler import Sampler
from lydite.monitor.timing import SystemTiming
from tests.monitor.virtual import MS, SECOND, Scripted, VirtualTiming, sample


def power(t_ns: int) -> list[Reading]:
    return [Reading("power_instant_w", t_ns, 100.0)]


def test_each_group_is_read_at_its_own_rate_without_drift() -> None:
    source = Scripted(
        {
            ("power_instant_w", 10 * MS): power,
            ("sm_active", 100 * MS): lambda t_ns: [Reading("sm_active", t_ns, 0.5)],
            ("gpu_temperature_c", 500 * MS): lambda t: [Reading("gpu_temperature_c", t, 40.0)],
        }
    )
    found = sample(source, VirtualTiming(10 * SECOND))
    times = [each.t_ns for each in found if each.channel == "power_instant_w"]
    assert times == list(range(0, 10 * SECOND, 10 * MS))
    assert sum(each.channel == "sm_active" for each in found) == 100
    assert sum(each.channel == "gpu_temperature_c" for each in found) == 20
    assert source.tally.counts() == {}


def test_a_late_beat_is_counted_and_the_next_is_where_it_would_have_been() -> None:
    timing = VirtualTiming(SECOND)

    def slow_once(t_ns: int) -> list[Reading]:
        if t_ns == 200 * MS:
            timing.t_ns += 35 * MS
        return power(t_ns)

    source = Scripted({("power_instant_w", 10 * MS): slow_once})
    times = [each.t_ns for each in sample(source, timing)]
    assert source.tally.counts() == {"missed-beat": 2}
    assert times[20:23] == [200 * MS, 235 * MS, 240 * MS]
    assert len(times) + 2 == 100


def test_what_cannot_be_read_is_counted_and_tried_again() -> None:
    def refused(t_ns: int) -> list[Reading]:
        if t_ns < 500 * MS:
            raise UnavailableError("no")
        return power(t_ns)

    source = Scripted({("power_instant_w", 100 * MS): refused})
    assert len(sample(source, VirtualTiming(SECOND))) == 5
    assert source.tally.counts() == {"not-read": 5}


def test_a_bug_in_a_source_rises_to_whoever_stops_the_sampler() -> None:
    def broken(t_ns: int) -> list[Reading]:
        raise ZeroDivisionError

    sampler = Sampler([Scripted({("power_instant_w", MS): broken})], Ring(10), SystemTiming())
    sampler.start()
    with pytest.raises(ZeroDivisionError):
        sampler.stop()


def test_the_sampling_thread_and_no_other_is_pinned() -> None:
    seen: list[set[int]] = []
    done = threading.Event()
    everywhere = os.sched_getaffinity(0)
    core = min(everywhere)

    def look(t_ns: int) -> list[Reading]:
        seen.append(os.sched_getaffinity(0))
        done.set()
        return []

    source = Scripted({("power_instant_w", MS): look})
    sampler = Sampler([source], Ring(10), SystemTiming(), core)
    sampler.start()
    assert done.wait(60)
    sampler.stop()
    assert seen[0] == {core}
    assert os.sched_getaffinity(0) == everywhere


@given(st.integers(1, 40), st.lists(st.integers(0, 15), max_size=30))
def test_no_sample_leaves_a_ring_uncounted(capacity: int, sizes: list[int]) -> None:
    ring, refused, number = Ring(capacity), 0, 0
    for size in sizes:
        refused += ring.put(0, [Reading("energy_j", number + i, 0.0) for i in range(size)])
        number += size
    kept = [reading.t_ns for _, readings in ring.drain() for reading in readings]
    assert len(kept) + refused == number
    assert len(kept) <= capacity
    assert kept == sorted(kept)
    assert ring.used == 0


def test_a_full_ring_counts_what_a_live_source_loses() -> None:
    source = Scripted({("power_instant_w", 10 * MS): power})
    found = sample(source, VirtualTiming(SECOND), capacity=30)
    assert len(found) == 30
    assert source.tally.counts() == {"ring-full": 70}


def test_a_slow_consumer_holds_a_patient_source_back_and_loses_nothing() -> None:
    total, given_ = 5000, []
    source = Scripted({})
    source.patient = True

    def piece(t_ns: int) -> list[Reading]:
        first = len(given_)
        readings = [Reading("energy_j", first + i, 0.0) for i in range(min(700, total - first))]
        given_.extend(readings)
        source.ended = len(given_) == total
        return readings

    source.groups = Scripted({("energy_j", 0): piece}).groups
    ring = Ring(100)
    sampler = Sampler([source], ring, SystemTiming())
    sampler.start()
    kept: list[Reading] = []
    while sampler.running or ring.used:
        drained = [each for _, readings in ring.drain() for each in readings]
        assert len(drained) <= 100
        kept += drained
    sampler.stop()
    assert kept == given_
    assert source.tally.counts() == {}


def test_closing_the_ring_lets_go_of_a_source_that_waits_and_counts_the_rest() -> None:
    source = Scripted({("energy_j", 0): lambda _: [Reading("energy_j", i, 0.0) for i in range(90)]})
    source.patient = True
    ring = Ring(50)
    sampler = Sampler([source], ring, SystemTiming())
    sampler.start()
    deadline = threading.Event()
    while ring.used < 50:
        assert not deadline.wait(0.001)
    sampler.stop()
    assert source.tally.counts()["ring-full"] >= 40
