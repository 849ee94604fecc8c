import itertools

import numpy as np
import pytest

from lydite.errors import UnavailableError
from lydite.evidence.power import metering
from lydite.evidence.power.channels import CHANNELS
from lydite.evidence.power.trace import Series, Trace

SECOND = 1_000_000_000
MICRO = 1_000_000


def made(name: str, seconds: list[float], values: list[float]) -> Trace:
    t_ns = (np.array(seconds) * SECOND).astype(np.int64)
    return Trace("gpu", {name: Series(CHANNELS[name], t_ns, np.array(values))})


def test_readings_follow_one_another_and_sum_to_the_counter() -> None:
    generator = np.random.default_rng(3)
    seconds = np.cumsum(generator.uniform(0.09, 0.11, 500))
    joules = 1e9 + np.cumsum(generator.uniform(0.0, 60.0, 500))
    trace = made("energy_j", seconds.tolist(), joules.tolist())
    start, end = round(seconds[3] * MICRO), round(seconds[-4] * MICRO)
    found = metering.read("gpu 0", trace, start, end)
    assert (found[0].start_us, found[-1].end_us) == (start, end)
    assert all(a.end_us == b.start_us for a, b in itertools.pairwise(found))
    total = sum(row.microjoules or 0 for row in found)
    assert total == pytest.approx(
        (joules[-4] - joules[3]) * MICRO, abs=200
    )  # a microsecond's worth


def test_what_lies_outside_of_the_trace_or_in_a_hole_has_no_joules() -> None:
    seconds = [float(s) for s in (*range(10), *range(60, 70))]
    trace = made("power_average_w", seconds, [100.0] * 20)
    found = metering.read("gpu 0", trace, -5 * MICRO, 80 * MICRO)
    unknown = sum(row.end_us - row.start_us for row in found if row.microjoules is None)
    assert unknown == (5 + 51 + 11) * MICRO
    assert sum(row.microjoules or 0 for row in found) == 2 * 9 * 100 * MICRO


def test_a_counter_that_starts_again_is_unmeasured_there() -> None:
    trace = made("energy_j", [0.0, 1.0, 2.0, 3.0], [100.0, 200.0, 0.0, 50.0])
    found = metering.read("gpu 0", trace, 0, 3 * MICRO)
    assert [row.microjoules for row in found] == [100 * MICRO, None, 50 * MICRO]


def test_a_trace_without_power_is_no_meter() -> None:
    with pytest.raises(UnavailableError):
        metering.read("gpu 0", made("sm_active", [0.0, 1.0], [0.1, 0.2]), 0, MICRO)
