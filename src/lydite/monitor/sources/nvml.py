"""NVIDIA's driver as a source: power, energy and bytes fast, clocks and temperatures slowly.

Instant power, average power, the energy counter and the PCIe counters come in one call of the
driver. Each value has a return code and a time of its own, and both are looked at. Which fields
and scopes the device offers is probed once. Processes are counted at most every five seconds:
listing them takes the driver's global lock. Counters of what the units do are ``gpm``'s.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from lydite.errors import Reason, UnavailableError
from lydite.messages.segment import Clock
from lydite.monitor.readings import Group, Mishap, Reading, Tally
from lydite.monitor.sources import driver
from lydite.monitor.sources.driver import SUCCESS, DriverError, Nvml
from lydite.monitor.sources.gpm import Activity

SLOW_NS, PROCESSES_NS = 500_000_000, 5_000_000_000
_MILLI, _MEGA, _PERCENT = 1000.0, 1e6, 100.0


class _Field(NamedTuple):
    channel: str
    field: int
    divisor: float


FAST = (
    _Field("power_instant_w", driver.INSTANT, _MILLI),
    _Field("power_average_w", driver.AVERAGE, _MILLI),
    _Field("energy_j", driver.ENERGY, _MILLI),
    _Field("pcie_tx_b", driver.PCIE_TX, 1.0),
    _Field("pcie_rx_b", driver.PCIE_RX, 1.0),
)
"""What one fast call asks for: mW, mJ and bytes."""

SLOW: dict[str, tuple[str, float]] = {
    "sm_clock_hz": ("sm_clock", 1 / _MEGA),
    "memory_clock_hz": ("memory_clock", 1 / _MEGA),
    "gpu_temperature_c": ("temperature", 1.0),
    "memory_used_b": ("memory_used", 1.0),
    "gpu_busy": ("gpu_busy", _PERCENT),
    "memory_busy": ("memory_busy", _PERCENT),
    "throttle_reasons": ("throttle", 1.0),
    "performance_state": ("performance_state", 1.0),
}
"""By channel, the driver's call and what to divide by."""


class NvmlSource:
    """One NVIDIA device."""

    kind = "nvml"
    patient = False
    clock: Clock = "monotonic"
    ended = False

    def __init__(self, nvml: Nvml, index: int, period_ns: int, now_ns: Callable[[], int]) -> None:
        """Probe the device.

        Raises:
            UnavailableError: it offers neither power nor energy.
        """
        self.tally = Tally()
        self._nvml = nvml
        self._now_ns = now_ns
        self.device = f"{nvml.name()}/{index}"
        self._fast = self._probe()
        if not any(each.channel.startswith(("power", "energy")) for each in self._fast):
            raise UnavailableError(
                f"{self.device}: the driver gives neither power nor energy", Reason.NOT_READ
            )
        self._wanted = [(each.field, 0) for each in self._fast]
        self._stamps = [0] * len(self._fast)
        self._slow = [name for name, (call, _) in SLOW.items() if self._answers(call)]
        self._has_memory_temperature = self._code(driver.MEMORY_TEMPERATURE, 0) == SUCCESS
        slow = [*self._slow, *(["memory_temperature_c"] * self._has_memory_temperature)]
        self.groups: tuple[Group, ...] = (
            Group("fast", period_ns, tuple(each.channel for each in self._fast), self._read_fast),
            Group("slow", SLOW_NS, tuple(slow), self._read_slow),
        )
        if self._answers("processes"):
            channels = ("compute_processes",)
            self.groups += (Group("processes", PROCESSES_NS, channels, self._read_processes),)
        if nvml.gpm_supported():
            self.groups += (Activity(nvml, self.tally, now_ns).group(),)

    def scopes(self) -> dict[str, int]:
        """Return the driver's code for instant power of the GPU, its module and its memory."""
        return {name: self._code(driver.INSTANT, scope) for name, scope in driver.SCOPES.items()}

    def close(self) -> None:
        """Let go of the device."""
        self._nvml.close()

    def _probe(self) -> tuple[_Field, ...]:
        return tuple(each for each in FAST if self._code(each.field, 0) == SUCCESS)

    def _code(self, field: int, scope: int) -> int:
        try:
            return self._nvml.fields([(field, scope)])[0].code
        except DriverError as error:
            return error.code

    def _answers(self, call: str) -> bool:
        try:
            self._nvml.slow(call)
        except DriverError:
            return False
        return True

    def _read_fast(self, now_ns: int) -> Sequence[Reading]:
        values = self._nvml.fields(self._wanted)
        t_ns = (now_ns + self._now_ns()) // 2  # the value is from within the call
        found = []
        stamps = self._stamps
        for place, (code, stamp_us, value) in enumerate(values):
            channel, _, divisor = self._fast[place]
            if code != SUCCESS:
                self.tally.add(Mishap.NOT_READ)
                continue
            if stamp_us <= 0 or stamp_us < stamps[place]:
                self.tally.add(Mishap.NO_STAMP)
            stamps[place] = stamp_us
            found.append(Reading(channel, t_ns, value / divisor))
        return found

    def _read_slow(self, now_ns: int) -> Sequence[Reading]:
        found = []
        for channel in self._slow:
            call, divisor = SLOW[channel]
            try:
                found.append(Reading(channel, now_ns, self._nvml.slow(call) / divisor))
            except DriverError:
                self.tally.add(Mishap.NOT_READ)
        if self._has_memory_temperature:
            value = self._nvml.fields([(driver.MEMORY_TEMPERATURE, 0)])[0]
            if value.code == SUCCESS:
                found.append(Reading("memory_temperature_c", now_ns, value.value))
            else:
                self.tally.add(Mishap.NOT_READ)
        return found

    def _read_processes(self, now_ns: int) -> Sequence[Reading]:
        return [Reading("compute_processes", now_ns, self._nvml.slow("processes"))]
