"""A library in place of libnvidia-ml: the C functions that pynvml calls, over a made-up device.

Arguments arrive as pynvml passes them to C: references to structures of its own, which are filled
in as the driver would. So pynvml, its structures and our use of them are the real ones.
"""

from typing import Any

import pynvml

from lydite.monitor.sources import driver
from lydite.monitor.sources.driver import LOST, SUCCESS, DriverError
from lydite.monitor.sources.simulated import SimulatedNvml

NOT_FOUND = 6
CLOCKS = {pynvml.NVML_CLOCK_SM: "sm_clock", pynvml.NVML_CLOCK_MEM: "memory_clock"}
TYPES = {driver.ENERGY: (3, "ullVal"), driver.PCIE_TX: (3, "ullVal"), driver.PCIE_RX: (3, "ullVal")}


class Library:
    """One device, number 0."""

    def __init__(self, nvml: SimulatedNvml) -> None:
        self._nvml = nvml
        self._samples = 0
        self.open = 0
        self.freed = 0
        self.odd_type = False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("nvmlDeviceGet"):
            return lambda device, *rest: self._slow(name, *rest)
        raise AttributeError(name)

    def nvmlInitWithFlags(self, flags: Any) -> int:  # noqa: N802
        self.open += 1
        return SUCCESS

    def nvmlShutdown(self) -> int:  # noqa: N802
        self.open -= 1
        return SUCCESS

    def nvmlErrorString(self, code: int) -> bytes:  # noqa: N802
        return b"made up"

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, out: Any) -> int:  # noqa: N802
        return SUCCESS if index.value == 0 else NOT_FOUND

    def nvmlDeviceGetName(self, device: Any, out: Any, length: Any) -> int:  # noqa: N802
        out.value = self._nvml.name().encode()
        return SUCCESS

    def nvmlDeviceGetFieldValues(self, device: Any, count: Any, out: Any) -> int:  # noqa: N802
        values = out._obj
        try:
            found = self._nvml.fields([(v.fieldId, v.scopeId) for v in values[: count.value]])
        except DriverError as error:
            return error.code
        for value, one in zip(values, found, strict=True):
            kind, member = TYPES.get(value.fieldId, (1, "uiVal"))
            value.nvmlReturn, value.timestamp = one.code, one.stamp_us
            value.valueType = 99 if self.odd_type else kind
            setattr(value.value, member, int(one.value))
        return SUCCESS

    def nvmlDeviceGetComputeRunningProcesses_v3(  # noqa: N802
        self, device: Any, count: Any, out: Any
    ) -> int:
        room, count._obj.value = count._obj.value, int(self._nvml.slow("processes"))
        return SUCCESS if room >= count._obj.value else pynvml.NVML_ERROR_INSUFFICIENT_SIZE

    def nvmlGpmQueryDeviceSupport(self, device: Any, out: Any) -> int:  # noqa: N802
        out._obj.isSupportedDevice = 1
        return SUCCESS

    def nvmlGpmSampleAlloc(self, out: Any) -> int:  # noqa: N802
        self._samples += 1
        return SUCCESS

    def nvmlGpmSampleFree(self, sample: Any) -> int:  # noqa: N802
        self.freed += 1
        return SUCCESS

    def nvmlGpmSampleGet(self, device: Any, sample: Any) -> int:  # noqa: N802
        self._nvml.gpm_sample()
        return SUCCESS

    def nvmlGpmMetricsGet(self, request: Any) -> int:  # noqa: N802
        asked = request._obj
        ids = [asked.metrics[i].metricId for i in range(asked.numMetrics)]
        for i, (code, value) in enumerate(self._nvml.gpm_metrics(ids)):
            asked.metrics[i].nvmlReturn, asked.metrics[i].value = code, value
        return SUCCESS

    def _slow(self, name: str, *rest: Any) -> int:
        try:
            return self._answer(name, *rest)
        except DriverError:
            return LOST

    def _answer(self, name: str, *rest: Any) -> int:
        out = rest[-1]._obj
        ask = self._nvml.slow
        match name:
            case "nvmlDeviceGetClockInfo":
                out.value = int(ask(CLOCKS[int(getattr(rest[0], "value", rest[0]))]))
            case "nvmlDeviceGetTemperature":
                out.value = int(ask("temperature"))
            case "nvmlDeviceGetMemoryInfo":
                out.used = int(ask("memory_used"))
            case "nvmlDeviceGetUtilizationRates":
                out.gpu, out.memory = int(ask("gpu_busy")), int(ask("memory_busy"))
            case "nvmlDeviceGetCurrentClocksThrottleReasons":
                out.value = int(ask("throttle"))
            case "nvmlDeviceGetPerformanceState":
                out.value = int(ask("performance_state"))
            case _:
                raise AttributeError(name)
        return SUCCESS
