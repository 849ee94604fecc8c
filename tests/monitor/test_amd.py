"""AMD's library as a source, against answers of the shapes that its versions give."""

from collections.abc import Mapping
from typing import Any

import pytest

from lydite.errors import UnavailableError
from lydite.monitor.sources.amd import AmdError, AmdSource
from tests.monitor.virtual import MS, SECOND, VirtualTiming, sample

ANSWERS: dict[str, Mapping[str, Any]] = {
    "power": {"current_socket_power": 148, "average_socket_power": "N/A"},
    "energy": {"energy_accumulator": 10**9, "counter_resolution": 15.3, "timestamp": 1},
    "activity": {"gfx_activity": 40, "umc_activity": 12, "mm_activity": "N/A"},
    "memory": {"vram_total": 196_592, "vram_used": 1024},
    "clock": {"clk": 2100, "max_clk": 2100},
    "memory_clock": {"clk": 1300},
    "temperature": {"value": 44},
}


class Answers:
    """A device that gives fixed answers; ``None``: it refuses."""

    def __init__(self, **changed: Mapping[str, Any] | None) -> None:
        self.answers = {**ANSWERS, **changed}

    def name(self) -> str:
        return "AMD Instinct MI300X"

    def ask(self, what: str) -> Mapping[str, Any]:
        answer = self.answers[what]
        if answer is None:
            raise AmdError("AMD: refused")
        return answer

    def close(self) -> None:
        pass


def test_readings_are_in_si_units_and_what_is_not_there_is_not_offered() -> None:
    source = AmdSource(Answers(), 0, 20 * MS)
    found = {r.channel: r.value for r in sample(source, VirtualTiming(SECOND))}
    assert found == {
        "power_instant_w": 148.0,
        "energy_j": pytest.approx(15_300.0),
        "gpu_busy": 0.4,
        "memory_busy": 0.12,
        "memory_used_b": 1024 * 2**20,
        "sm_clock_hz": 2.1e9,
        "memory_clock_hz": 1.3e9,
        "gpu_temperature_c": 44.0,
    }
    assert source.tally.counts() == {}


def test_an_older_generation_gives_its_average() -> None:
    power = {"current_socket_power": "N/A", "average_socket_power": 88}
    energy = {"power": 2, "counter_resolution": 15.3}
    source = AmdSource(Answers(power=power, energy=energy), 0, 20 * MS)
    assert source.groups[0].channels == ("power_average_w", "energy_j")
    assert source.groups[0].read(0)[1].value == pytest.approx(30.6e-6)


def test_a_device_that_stops_answering_is_counted() -> None:
    answers = Answers()
    source = AmdSource(answers, 0, 100 * MS)
    answers.answers["power"] = None
    sample(source, VirtualTiming(SECOND))
    assert source.tally.counts() == {"not-read": 10}


def test_a_device_without_power_and_energy_is_refused() -> None:
    with pytest.raises(UnavailableError, match="neither power nor energy"):
        AmdSource(Answers(power=None, energy=None), 0, 20 * MS)
