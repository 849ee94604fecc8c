"""The boundary to NVIDIA's library: pynvml itself, over C functions that are made up."""

import math
from collections.abc import Iterator

import pynvml
import pytest

from lydite.errors import Reason
from lydite.monitor.sources.driver import LOST, DriverError, DriverLibrary
from lydite.monitor.sources.nvml import NvmlSource
from lydite.monitor.sources.simulated import CYCLE, Faults, Load, SimulatedNvml
from tests.monitor.library import NOT_FOUND, Library
from tests.monitor.virtual import MS, SECOND, VirtualTiming, sample


@pytest.fixture
def timing() -> VirtualTiming:
    return VirtualTiming(10 * SECOND)


@pytest.fixture
def library(timing: VirtualTiming, monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    made_up = Library(SimulatedNvml(timing.now_ns, Load(CYCLE)))
    monkeypatch.setattr(pynvml, "nvmlLib", made_up)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    yield made_up
    assert made_up.open == 0, "the library was not let go"


def test_what_comes_through_the_library_is_what_the_device_says(
    library: Library, timing: VirtualTiming
) -> None:
    through = DriverLibrary(0)
    source = NvmlSource(through, 0, 10 * MS, timing.now_ns)
    found = sample(source, timing)
    source.close()
    direct_timing = VirtualTiming(10 * SECOND)
    direct = SimulatedNvml(direct_timing.now_ns, Load(CYCLE))
    expected = sample(NvmlSource(direct, 0, 10 * MS, direct_timing.now_ns), direct_timing)
    assert found == expected
    assert library.freed == 2


def test_a_device_that_is_not_there_is_named_with_the_driver_s_code(library: Library) -> None:
    with pytest.raises(DriverError, match="nvmlDeviceGetHandleByIndex") as caught:
        DriverLibrary(5)
    assert caught.value.code == NOT_FOUND
    assert caught.value.reason is Reason.NOT_READ


def test_a_lost_device_is_an_error_of_ours(
    timing: VirtualTiming, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml = SimulatedNvml(timing.now_ns, Load(CYCLE), Faults(lost_ns=SECOND))
    monkeypatch.setattr(pynvml, "nvmlLib", Library(nvml))
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    through = DriverLibrary(0)
    timing.t_ns = 2 * SECOND
    with pytest.raises(DriverError) as caught:
        through.fields([(186, 0)])
    assert caught.value.code == LOST
    with pytest.raises(DriverError):
        through.slow("sm_clock")
    through.close()


def test_a_value_of_a_type_that_nobody_knows_is_no_number(library: Library) -> None:
    through = DriverLibrary(0)
    library.odd_type = True
    value = through.fields([(186, 0)])[0].value
    through.close()
    assert math.isnan(value)


def test_without_a_driver_the_error_says_so() -> None:
    with pytest.raises(DriverError, match="nvmlInit"):
        DriverLibrary(0)
