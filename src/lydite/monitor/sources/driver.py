"""The smallest boundary to NVIDIA's driver: seven calls on one device, and the library behind them.

Everything above is tested against a simulated driver, as no driver is needed for that. Of the ids
below, those of fields are nvml.h's ``NVML_FI_*``. Knows no rate and no unit but the driver's own.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from lydite.errors import Reason, UnavailableError

AVERAGE, INSTANT, ENERGY, PCIE_TX, PCIE_RX, MEMORY_TEMPERATURE = 185, 186, 83, 197, 198, 82
SCOPES = {"gpu": 0, "module": 1, "memory": 2}
SUCCESS, NOT_SUPPORTED, NO_PERMISSION, LOST = 0, 3, 4, 15

_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""Members of the driver's union of values, by type."""


class FieldValue(NamedTuple):
    """One field: the driver's return code, the time that it gives (Unix, us), the value."""

    code: int
    stamp_us: int
    value: float


class DriverError(UnavailableError):
    """The driver refused a call, with one of its return ``code``s."""

    reason = Reason.NOT_READ

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Nvml(Protocol):
    """One device. Every call raises ``DriverError`` where the driver refuses all of it."""

    def name(self) -> str:
        """Return the product's name."""

    def fields(self, wanted: Sequence[tuple[int, int]]) -> Sequence[FieldValue]:
        """Return the values of pairs of field and scope, in one call."""

    def slow(self, what: str) -> float:
        """Return a clock, temperature or the like, by the key that ``nvml.SLOW`` has for it."""

    def gpm_supported(self) -> bool:
        """Return whether the device counts what its units do (Hopper and later)."""

    def gpm_sample(self) -> None:
        """Take a sample, the newer edge of an interval whose older edge was the one before."""

    def gpm_metrics(self, ids: Sequence[int]) -> Sequence[tuple[int, float]]:
        """Return code and value of metrics between the last two samples."""

    def close(self) -> None:
        """Let go of the device."""


class DriverLibrary:
    """``Nvml`` by NVIDIA's own library, for device ``index``.

    Raises:
        DriverError: no driver, no such device, or no permission.
    """

    def __init__(self, index: int) -> None:
        import pynvml

        self._library = pynvml
        self._call("nvmlInit")
        try:
            self._device = self._call("nvmlDeviceGetHandleByIndex", index)
        except DriverError:
            self.close()
            raise
        self._request = pynvml.c_nvmlGpmMetricsGet_t()
        self._edges: list[Any] = []
        self._slow = self._slow_calls()

    def name(self) -> str:
        """Return the product's name."""
        found = self._call("nvmlDeviceGetName", self._device)
        return found.decode() if isinstance(found, bytes) else str(found)

    def fields(self, wanted: Sequence[tuple[int, int]]) -> Sequence[FieldValue]:
        """Return the values of pairs of field and scope, in one call."""
        values = self._call("nvmlDeviceGetFieldValues", self._device, wanted)
        return [FieldValue(v.nvmlReturn, v.timestamp, _member(v)) for v in values]

    def slow(self, what: str) -> float:
        """Return a clock, temperature or the like."""
        try:
            return float(self._slow[what]())
        except KeyError as error:
            raise DriverError(f"{what}: not a reading of this driver", NOT_SUPPORTED) from error

    def gpm_supported(self) -> bool:
        """Return whether the device counts what its units do."""
        try:
            return bool(self._call("nvmlGpmQueryDeviceSupport", self._device).isSupportedDevice)
        except DriverError:
            return False

    def gpm_sample(self) -> None:
        """Take a sample."""
        if not self._edges:
            self._edges = [self._call("nvmlGpmSampleAlloc") for _ in range(2)]
        self._edges.reverse()
        self._call("nvmlGpmSampleGet", self._device, self._edges[1])

    def gpm_metrics(self, ids: Sequence[int]) -> Sequence[tuple[int, float]]:
        """Return code and value of metrics between the last two samples."""
        request = self._request
        request.version = self._library.NVML_GPM_METRICS_GET_VERSION
        request.numMetrics = len(ids)
        request.sample1, request.sample2 = self._edges
        for place, metric in enumerate(ids):
            request.metrics[place].metricId = metric
        self._call("nvmlGpmMetricsGet", request)
        return [(m.nvmlReturn, m.value) for m in request.metrics[: len(ids)]]

    def close(self) -> None:
        """Let go of the device; a driver that is gone has let go already."""
        with contextlib.suppress(DriverError):
            for edge in getattr(self, "_edges", ()):
                self._call("nvmlGpmSampleFree", edge)
        with contextlib.suppress(DriverError):
            self._call("nvmlShutdown")

    def _call(self, name: str, *arguments: Any) -> Any:
        try:
            return getattr(self._library, name)(*arguments)
        except self._library.NVMLError as error:
            raise DriverError(f"NVML: {name}: {error}", error.value) from error

    def _slow_calls(self) -> dict[str, Callable[[], float]]:
        nv, call, device = self._library, self._call, self._device
        return {
            "sm_clock": lambda: call("nvmlDeviceGetClockInfo", device, nv.NVML_CLOCK_SM),
            "memory_clock": lambda: call("nvmlDeviceGetClockInfo", device, nv.NVML_CLOCK_MEM),
            "temperature": lambda: call(
                "nvmlDeviceGetTemperature", device, nv.NVML_TEMPERATURE_GPU
            ),
            "memory_used": lambda: call("nvmlDeviceGetMemoryInfo", device).used,
            "gpu_busy": lambda: call("nvmlDeviceGetUtilizationRates", device).gpu,
            "memory_busy": lambda: call("nvmlDeviceGetUtilizationRates", device).memory,
            "throttle": lambda: call("nvmlDeviceGetCurrentClocksThrottleReasons", device),
            "performance_state": lambda: call("nvmlDeviceGetPerformanceState", device),
            "processes": lambda: len(call("nvmlDeviceGetComputeRunningProcesses", device)),
        }


def _member(value: Any) -> float:
    """Return the number in a typed value; one of a type that nobody knows is no number."""
    if not 0 <= value.valueType < len(_MEMBERS):
        return float("nan")
    return float(getattr(value.value, _MEMBERS[value.valueType]))
