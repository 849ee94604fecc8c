"""AMD's management library as a source. Nothing here was measured on a device of AMD's yet.

Which power a device gives depends on its generation: instant (``current_socket_power``, MI300 and
later) or averaged (``average_socket_power``, before). Its energy counter counts steps whose size it
says itself; some stand still, and the self-check finds that out. ``N/A`` is the library's word for
what a device does not have.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from lydite.errors import Reason, UnavailableError
from lydite.messages.segment import Clock
from lydite.monitor.readings import Group, Mishap, Reading, Tally

SLOW_NS = 500_000_000
_MIB = float(1 << 20)


class AmdError(UnavailableError):
    """The library refused a call."""

    reason = Reason.NOT_READ


class Amd(Protocol):
    """One device. Every call returns the library's own mapping, or raises ``AmdError``."""

    def name(self) -> str:
        """Return the product's name."""

    def ask(self, what: str) -> Mapping[str, Any]:
        """Return what the library says of ``power``, ``energy``, ``activity``, ``memory`` ..."""

    def close(self) -> None:
        """Let go of the device."""


class AmdLibrary:
    """``Amd`` by AMD's own ``amdsmi``, for device ``index``.

    Raises:
        AmdError: no driver, no such device, or no permission.
    """

    def __init__(self, index: int) -> None:
        import amdsmi

        self._library = amdsmi
        self._call(amdsmi.amdsmi_init)
        handles = self._call(amdsmi.amdsmi_get_processor_handles)
        if not 0 <= index < len(handles):
            self.close()
            raise AmdError(f"AMD: no device {index}, only {len(handles)}")
        self._device = handles[index]
        clocks, kinds = amdsmi.AmdSmiClkType, amdsmi.AmdSmiTemperatureType
        metric = amdsmi.AmdSmiTemperatureMetric.CURRENT
        self._calls: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
            "power": (amdsmi.amdsmi_get_power_info, ()),
            "energy": (amdsmi.amdsmi_get_energy_count, ()),
            "activity": (amdsmi.amdsmi_get_gpu_activity, ()),
            "memory": (amdsmi.amdsmi_get_gpu_vram_usage, ()),
            "clock": (amdsmi.amdsmi_get_clock_info, (clocks.GFX,)),
            "memory_clock": (amdsmi.amdsmi_get_clock_info, (clocks.MEM,)),
            "temperature": (amdsmi.amdsmi_get_temp_metric, (kinds.HOTSPOT, metric)),
        }

    def name(self) -> str:
        """Return the product's name."""
        found = self._call(self._library.amdsmi_get_gpu_asic_info, self._device)
        return str(found.get("market_name") or "AMD GPU")

    def ask(self, what: str) -> Mapping[str, Any]:
        """Return what the library says."""
        function, more = self._calls[what]
        found = self._call(function, self._device, *more)
        return found if isinstance(found, Mapping) else {"value": found}

    def close(self) -> None:
        """Let go of the device."""
        self._call(self._library.amdsmi_shut_down)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except self._library.AmdSmiException as error:
            raise AmdError(f"AMD: {function.__name__}: {error}") from error


Wanted = tuple[str, str, str, float]
"""Channel, question, key of the answer, factor to SI."""
FAST: tuple[Wanted, ...] = (
    ("power_instant_w", "power", "current_socket_power", 1.0),
    ("power_average_w", "power", "average_socket_power", 1.0),
    ("energy_j", "energy", "energy_accumulator", 1e-6),
)
"""Watts, and steps of ``counter_resolution`` microjoules."""
SLOW: tuple[Wanted, ...] = (
    ("gpu_busy", "activity", "gfx_activity", 0.01),
    ("memory_busy", "activity", "umc_activity", 0.01),
    ("memory_used_b", "memory", "vram_used", _MIB),
    ("sm_clock_hz", "clock", "clk", 1e6),
    ("memory_clock_hz", "memory_clock", "clk", 1e6),
    ("gpu_temperature_c", "temperature", "value", 1.0),
)


class AmdSource:
    """One device of AMD's."""

    kind = "amd"
    patient = False
    clock: Clock = "monotonic"
    ended = False

    def __init__(self, amd: Amd, index: int, period_ns: int) -> None:
        """Probe the device.

        Raises:
            UnavailableError: it offers neither power nor energy.
        """
        self._amd = amd
        self.tally = Tally()
        self.device = f"{amd.name()}/{index}"
        fast = self._offered(FAST)
        if not fast:
            raise UnavailableError(
                f"{self.device}: the library gives neither power nor energy", Reason.NOT_READ
            )
        self._slow = self._offered(SLOW)
        self._fast = fast
        self.tally = Tally()
        self.groups = (
            Group("fast", period_ns, tuple(each[0] for each in fast), self._read_fast),
            Group("slow", SLOW_NS, tuple(each[0] for each in self._slow), self._read_slow),
        )

    def close(self) -> None:
        """Let go of the device."""
        self._amd.close()

    def _offered(self, wanted: tuple[Wanted, ...]) -> tuple[Wanted, ...]:
        found = {reading.channel for reading in self._read(wanted, 0)}
        return tuple(each for each in wanted if each[0] in found)

    def _read_fast(self, now_ns: int) -> Sequence[Reading]:
        return self._read(self._fast, now_ns)

    def _read_slow(self, now_ns: int) -> Sequence[Reading]:
        return self._read(self._slow, now_ns)

    def _read(self, wanted: tuple[Wanted, ...], now_ns: int) -> list[Reading]:
        answers: dict[str, Mapping[str, Any]] = {}
        found = []
        for channel, question, key, factor in wanted:
            if question not in answers:
                answers[question] = self._ask(question)
            value = _number(answers[question], key)
            if channel == "energy_j":
                value = _energy_steps(answers[question], value)
            if value is None:
                self.tally.add(Mishap.NOT_READ)
            else:
                found.append(Reading(channel, now_ns, value * factor))
        return found

    def _ask(self, question: str) -> Mapping[str, Any]:
        try:
            return self._amd.ask(question)
        except AmdError:  # counted as not read, channel by channel
            return {}


def _number(answer: Mapping[str, Any], key: str) -> float | None:
    value = answer.get(key)
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if known else None  # type: ignore[arg-type]


def _energy_steps(answer: Mapping[str, Any], steps: float | None) -> float | None:
    """Return microjoules; older libraries call the accumulator ``power``."""
    resolution = _number(answer, "counter_resolution")
    steps = _number(answer, "power") if steps is None else steps
    return None if steps is None or resolution is None else steps * resolution
