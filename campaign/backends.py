"""Where samples come from: NVML, or a fake of it for machines without a GPU.

A backend reads once when asked. It keeps no schedule, changes no setting, and marks what
the device does not offer with -1 (integers) or NaN (floats).
"""

import hashlib
import math
import random
import time
from collections import Counter

INSTANT, AVERAGE, ENERGY, PCIE_TX, PCIE_RX, MEMORY_TEMP = 186, 185, 83, 197, 198, 82
SCOPES = {0: "gpu", 1: "module", 2: "memory"}
GPM_SINGLE = {
    "sm": 2,
    "occ": 3,
    "int": 4,
    "tensor_any": 5,
    "hmma": 7,
    "imma": 9,
    "dram": 10,
    "fp64": 11,
    "fp32": 12,
    "fp16": 13,
    "pcie_tx": 20,
    "pcie_rx": 21,
}
GPM_ENGINES = {"nvdec": range(30, 38), "nvjpg": range(40, 48)}  # mean over the engines that answer
GPM_COLUMNS = ("dt_ms", *GPM_SINGLE, *GPM_ENGINES)
SLOW_COLUMNS = (
    "clock_sm_mhz",
    "clock_mem_mhz",
    "clock_video_mhz",
    "temp_gpu_c",
    "temp_mem_c",
    "mem_used",
    "util_gpu",
    "util_mem",
    "throttle",
    "pstate",
)
VALUE_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")


def make_backend(name):
    """Return the backend of that name."""
    return Nvml() if name == "nvml" else Fake(has_gpm=name != "fake-nogpm")


class Nvml:
    """Device 0 through NVML: cached handle, cached field list, two GPM samples in turn."""

    load = 0.0  # only the fake listens to it

    def __init__(self):
        import pynvml

        self.nvml = nv = pynvml
        self.errors = Counter()
        nv.nvmlInit()
        self.device = nv.nvmlDeviceGetHandleByIndex(0)
        self.probe = self.probe_fields()
        self.ids = [(INSTANT, 0), (AVERAGE, 0), (ENERGY, 0), (PCIE_TX, 0), (PCIE_RX, 0)]
        self.last_stamp = [0] * len(self.ids)
        self.has_memory_temp = self.probe[f"{MEMORY_TEMP}"].get("nvml_return") == 0
        self.ring_seen = 0
        self.gpm_support, self.has_gpm = "not asked", False
        try:
            self.prepare_gpm()
        except Exception as error:  # the rest is worth measuring without them
            self.gpm_support = f"{type(error).__name__}: {error}"
            self.errors[f"gpm unsupported: {self.gpm_support}"] += 1

    def probe_fields(self):
        """Ask every field in every scope once; keep the answer, also when it is a refusal."""
        wanted = [(f, s) for f in (INSTANT, AVERAGE) for s in SCOPES]
        wanted += [(f, 0) for f in (ENERGY, PCIE_TX, PCIE_RX, MEMORY_TEMP)]
        found = {}
        for field, scope in wanted:
            key = f"{field}/{SCOPES[scope]}" if field in (INSTANT, AVERAGE) else f"{field}"
            try:
                value = self.nvml.nvmlDeviceGetFieldValues(self.device, [(field, scope)])[0]
                found[key] = {
                    "nvml_return": value.nvmlReturn,
                    "value": member(value),
                    "value_type": value.valueType,
                    "timestamp_us": value.timestamp,
                    "latency_us": value.latencyUsec,
                }
            except Exception as error:  # the refusal is the answer that is kept
                found[key] = {"error": f"{type(error).__name__}: {error}"}
        return found

    def fields(self):
        """One call for all: t_nvml_us, instant, average, energy, tx, rx, energy_us."""
        values = self.nvml.nvmlDeviceGetFieldValues(self.device, self.ids)
        read = []
        for i, value in enumerate(values):
            name = self.ids[i][0]
            if value.nvmlReturn != 0:
                self.errors[f"field {name}: nvml return {value.nvmlReturn}"] += 1
                read.append(-1)
                continue
            if value.timestamp <= 0:
                self.errors[f"field {name}: no timestamp"] += 1
            elif value.timestamp < self.last_stamp[i]:
                self.errors[f"field {name}: timestamp went back"] += 1
            self.last_stamp[i] = value.timestamp
            read.append(member(value))
        return (values[0].timestamp, *read, values[2].timestamp)

    def prepare_gpm(self):
        """Find out which GPM metrics this device gives."""
        nv = self.nvml
        self.gpm_support = bool(nv.nvmlGpmQueryDeviceSupport(self.device).isSupportedDevice)
        if not self.gpm_support:
            self.errors["gpm unsupported"] += 1
            return
        self.old, self.new = nv.nvmlGpmSampleAlloc(), nv.nvmlGpmSampleAlloc()
        self.gpm_ids = list(GPM_SINGLE.values()) + [i for ids in GPM_ENGINES.values() for i in ids]
        self.gpm_sample()
        time.sleep(0.12)
        self.gpm_sample()
        answers = {}
        for metric in self.gpm_ids:  # one by one: an unknown id may fail the whole call
            try:
                answers[metric] = self.read_metrics([metric]).metrics[0].nvmlReturn
            except Exception as error:  # the refusal is the answer that is kept
                answers[metric] = f"{type(error).__name__}: {error}"
        self.gpm_probe = answers
        self.gpm_ids = [i for i in self.gpm_ids if answers[i] == 0]
        self.has_gpm = bool(self.gpm_ids)

    def gpm_sample(self):
        """Take the new edge of an interval; returns its time."""
        self.old, self.new = self.new, self.old
        before = time.monotonic_ns()
        self.nvml.nvmlGpmSampleGet(self.device, self.new)
        return (before + time.monotonic_ns()) // 2

    def read_metrics(self, ids):
        """Ask for metrics between the two samples."""
        request = getattr(self, "request", None) or self.nvml.c_nvmlGpmMetricsGet_t()
        self.request = request
        request.version, request.numMetrics = self.nvml.NVML_GPM_METRICS_GET_VERSION, len(ids)
        request.sample1, request.sample2 = self.old, self.new
        for i, metric in enumerate(ids):
            request.metrics[i].metricId = metric
        return self.nvml.nvmlGpmMetricsGet(request)

    def gpm_metrics(self):
        """Return the row between the last two edges, in NVML's units (percent, MiB/s)."""
        answer = self.read_metrics(self.gpm_ids)
        value = {}
        for i, metric in enumerate(self.gpm_ids):
            if answer.metrics[i].nvmlReturn == 0:
                value[metric] = answer.metrics[i].value
            else:
                self.errors[f"gpm {metric}: nvml return {answer.metrics[i].nvmlReturn}"] += 1
        row = [value.get(metric, math.nan) for metric in GPM_SINGLE.values()]
        for ids in GPM_ENGINES.values():
            engines = [value[i] for i in ids if i in value]
            row.append(sum(engines) / len(engines) if engines else math.nan)
        return row

    def slow(self):
        """Return clocks, temperatures, memory, use, throttle and state."""
        nv, device = self.nvml, self.device
        memory_temp = (
            nv.nvmlDeviceGetFieldValues(device, [MEMORY_TEMP])[0] if self.has_memory_temp else None
        )
        use = self.ask("utilisation", lambda: nv.nvmlDeviceGetUtilizationRates(device))
        used = self.ask("memory", lambda: nv.nvmlDeviceGetMemoryInfo(device))
        return (
            *(
                self.ask(f"clock {c}", lambda c=c: nv.nvmlDeviceGetClockInfo(device, c))
                for c in (nv.NVML_CLOCK_SM, nv.NVML_CLOCK_MEM, nv.NVML_CLOCK_VIDEO)
            ),
            self.ask(
                "temperature", lambda: nv.nvmlDeviceGetTemperature(device, nv.NVML_TEMPERATURE_GPU)
            ),
            member(memory_temp) if memory_temp is not None and memory_temp.nvmlReturn == 0 else -1,
            getattr(used, "used", -1),
            getattr(use, "gpu", -1),
            getattr(use, "memory", -1),
            self.ask("throttle", lambda: nv.nvmlDeviceGetCurrentClocksThrottleReasons(device)),
            self.ask("pstate", lambda: nv.nvmlDeviceGetPerformanceState(device)),
        )

    def ask(self, name, call):
        """Return one answer; a refusal is counted and is -1."""
        try:
            return call()
        except Exception as error:  # counted by name; one value must not end the sampling
            self.errors[f"slow {name}: {type(error).__name__}"] += 1
            return -1

    def ring(self):
        """Return what the driver's own ring buffer of power gathered since the last call."""
        try:
            kind, samples = self.nvml.nvmlDeviceGetSamples(
                self.device, self.nvml.NVML_TOTAL_POWER_SAMPLES, self.ring_seen
            )
        except self.nvml.NVMLError_NotFound:
            return []  # nothing new
        read = [(s.timeStamp, int(getattr(s.sampleValue, VALUE_MEMBERS[kind]))) for s in samples]
        read = [r for r in read if r[0] > self.ring_seen]
        self.ring_seen = max([self.ring_seen, *(r[0] for r in read)])
        return read

    def capability(self):
        """Return what this device offers."""
        nv, device = self.nvml, self.device
        uuid = nv.nvmlDeviceGetUUID(device)
        asked = {
            "name": lambda: nv.nvmlDeviceGetName(device),
            "driver": nv.nvmlSystemGetDriverVersion,
            "nvml": nv.nvmlSystemGetNVMLVersion,
            "cuda_driver": nv.nvmlSystemGetCudaDriverVersion,
            "vbios": lambda: nv.nvmlDeviceGetVbiosVersion(device),
            "memory_total": lambda: nv.nvmlDeviceGetMemoryInfo(device).total,
            "power_limit_mw": lambda: nv.nvmlDeviceGetEnforcedPowerLimit(device),
            "power_limit_range_mw": lambda: nv.nvmlDeviceGetPowerManagementLimitConstraints(device),
            "clock_sm_max_mhz": lambda: nv.nvmlDeviceGetMaxClockInfo(device, nv.NVML_CLOCK_SM),
            "clock_mem_max_mhz": lambda: nv.nvmlDeviceGetMaxClockInfo(device, nv.NVML_CLOCK_MEM),
            "persistence": lambda: nv.nvmlDeviceGetPersistenceMode(device),
            "mig": lambda: nv.nvmlDeviceGetMigMode(device),
            "ecc": lambda: nv.nvmlDeviceGetEccMode(device),
            "pcie": lambda: (
                nv.nvmlDeviceGetCurrPcieLinkGeneration(device),
                nv.nvmlDeviceGetCurrPcieLinkWidth(device),
            ),
            "processes": lambda: len(nv.nvmlDeviceGetComputeRunningProcesses(device)),
            "gpm_streaming": lambda: nv.nvmlGpmQueryIfStreamingEnabled(device),
        }
        found = {"backend": "nvml", "uuid_sha256": hashlib.sha256(str(uuid).encode()).hexdigest()}
        for key, call in asked.items():
            try:
                found[key] = call()
            except Exception as error:  # the refusal is the answer that is kept
                found[key] = f"{type(error).__name__}: {error}"
        found["gpm_support"], found["gpm_metrics"] = (
            self.gpm_support,
            getattr(self, "gpm_probe", {}),
        )
        found["fields"] = self.probe
        found["samples"] = {
            name: self.probe_samples(getattr(nv, name))
            for name in dir(nv)
            if name.startswith("NVML_") and name.endswith("_SAMPLES")
        }
        return found

    def probe_samples(self, kind):
        """Try one of the driver's ring buffers."""
        try:
            stamps = [s.timeStamp for s in self.nvml.nvmlDeviceGetSamples(self.device, kind, 0)[1]]
            return {"count": len(stamps), "span_us": stamps[-1] - stamps[0] if stamps else 0}
        except Exception as error:  # the refusal is the answer that is kept
            return f"{type(error).__name__}: {error}"


def member(value):
    """Return the number in a typed NVML value, as an integer."""
    return int(getattr(value.value, VALUE_MEMBERS[value.valueType]))


class Fake:
    """A made-up GPU: 100 ms sensor, 1 s average, energy counter. Good for plumbing only."""

    def __init__(self, has_gpm=True):
        self.has_gpm, self.load, self.errors = has_gpm, 0.0, Counter()
        if not has_gpm:
            self.errors["gpm unsupported"] += 1
        self.random, self.start = random.Random(0), time.monotonic_ns()
        self.at, self.watts, self.average, self.energy_mj, self.tx, self.rx = (
            0,
            120.0,
            120.0,
            10**9,
            0,
            0,
        )
        self.ring_rows, self.temperature = [], 35.0

    def advance(self):
        """Move the sensor on to the last 100 ms boundary."""
        ticks = (time.monotonic_ns() - self.start) // 100_000_000
        for tick in range(self.at, ticks):
            self.watts += (120 + 480 * self.load - self.watts) * 0.9 + self.random.gauss(
                0, 1 + 8 * self.load
            )
            self.average += (self.watts - self.average) / 10
            self.energy_mj += round(self.watts * 100)
            self.temperature += (28 + 0.05 * self.watts - self.temperature) / 80
            stamp_us = (time.time_ns() - (ticks - tick - 1) * 100_000_000) // 1000
            self.ring_rows.append((stamp_us, round(self.watts * 1e3)))
        self.at = max(self.at, ticks)

    def fields(self):
        """Return power, energy and PCIe counters."""
        self.advance()
        self.tx += int(self.load * self.random.random() * 4096) // 1024 * 1024
        stamp_us = time.time_ns() // 1000
        return (
            stamp_us,
            round(self.watts * 1e3),
            round(self.average * 1e3),
            self.energy_mj,
            self.tx,
            self.rx,
            stamp_us,
        )

    def gpm_sample(self):
        """Take the edge of an interval and return its time."""
        return time.monotonic_ns()

    def gpm_metrics(self):
        """Return the row of the last interval."""
        return [max(0.0, self.load * 60 + self.random.gauss(0, 2)) for _ in GPM_COLUMNS[1:]]

    def slow(self):
        """Return clocks, temperatures, memory, use, throttle and state."""
        busy = self.load > 0
        return (
            1980 if busy else 345,
            3201,
            1200,
            int(self.temperature),
            int(self.temperature) + 5,
            2**30,
            100 * busy,
            40 * busy,
            0,
            0,
        )

    def ring(self):
        """Return what the ring buffer gathered."""
        rows, self.ring_rows = self.ring_rows, []
        return rows

    def capability(self):
        """Return what this device offers."""
        return {
            "backend": "fake",
            "name": "fake GPU",
            "gpm_support": self.has_gpm,
            "fields": {},
            "samples": {},
        }
