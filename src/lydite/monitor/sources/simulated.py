"""A driver that is made up: the load of a GPU, and what NVIDIA's sensors would say of it.

It follows what is documented of real ones: instant power is a mean over 25 ms, renewed each 100 ms;
the average is one over 1 s; energy moves on updates of its own; a virtual machine may show 39 to 46
W at any load. It also fails as they do. Nothing that it says was measured.
"""

import hashlib
import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from lydite.monitor.sources import driver
from lydite.monitor.sources.driver import LOST, NOT_SUPPORTED, SUCCESS, DriverError, FieldValue

IDLE_W, FULL_W = 112.0, 690.0
_MS = 1_000_000

CYCLE: tuple[tuple[int, float], ...] = (
    (4000, 0.0),
    *((30 + 7 * (n % 5), 0.5 + 0.06 * (n % 4)) for n in range(200)),
    (3000, 0.0),
    *((180 if n % 2 else 420, 0.35 if n % 2 else 0.95) for n in range(40)),
)
"""Milliseconds and load, again and again: idle, bursts as of answers, idle, steps of training."""


class Load:
    """How busy the GPU is, as steps; its energy is exact, being the integral of steps."""

    def __init__(self, steps: Sequence[tuple[int, float]] = ()) -> None:
        """Repeat ``steps`` of milliseconds and load for ever; without any, wait for ``switch``."""
        self._times = [0]
        self._loads = [steps[0][1] if steps else 0.0]
        self._joules = [0.0]
        for duration_ms, load in steps:
            self._loads[-1] = load
            self._append(self._times[-1] + duration_ms * _MS, load)
        self._cycle_ns = self._times[-1] if steps else 0

    def switch(self, t_ns: int, load: float) -> None:
        """Change to ``load`` at ``t_ns``, which does not lie before the last change."""
        self._append(t_ns, load)

    def at(self, t_ns: int) -> float:
        """Return the load."""
        _, rest_ns = self._place(t_ns)
        return self._loads[bisect_right(self._times, rest_ns) - 1]

    def joules(self, t_ns: int) -> float:
        """Return the energy since time 0."""
        cycles, rest_ns = self._place(t_ns)
        place = bisect_right(self._times, rest_ns) - 1
        since_s = (rest_ns - self._times[place]) / 1e9
        rest = self._joules[place] + since_s * watts(self._loads[place])
        return cycles * self._joules[-1] + rest

    def _place(self, t_ns: int) -> tuple[int, int]:
        return divmod(t_ns, self._cycle_ns) if self._cycle_ns else (0, max(0, t_ns))

    def _append(self, t_ns: int, load: float) -> None:
        since_s = (t_ns - self._times[-1]) / 1e9
        self._joules.append(self._joules[-1] + since_s * watts(self._loads[-1]))
        self._times.append(t_ns)
        self._loads.append(load)


def watts(load: float) -> float:
    """Return the power that is really drawn."""
    return IDLE_W + (FULL_W - IDLE_W) * load


@dataclass
class Faults:
    """How this driver misbehaves."""

    codes: Mapping[int, int] = field(default_factory=dict)
    """Return codes other than success, by field."""
    virtual: bool = False
    """Power reads 39 to 46 W, whatever the load."""
    frozen: bool = False
    """Power and energy stay as they were."""
    energy_scale: float = 1.0
    instant_scale: float = 1.0
    counter_bits: int = 64
    energy_from_j: float = 1e6
    """What the counter stands at, at time 0."""
    reset_ns: int | None = None
    """When the counter begins again."""
    lost_ns: int | None = None
    """From when on the device is gone."""
    no_stamps: bool = False
    metrics: frozenset[int] = frozenset()
    """Metrics of units that the device does not have."""


class SimulatedNvml:
    """``Nvml`` on a made-up device."""

    def __init__(
        self,
        now_ns: Callable[[], int],
        load: Load,
        faults: Faults | None = None,
        *,
        gpm: bool = True,
        period_ms: int = 100,
        window_ms: int = 25,
        average_ms: int = 1000,
    ) -> None:
        self._now_ns = now_ns
        self._load = load
        self.faults = faults or Faults()
        self._gpm = gpm
        self._period_ns = period_ms * _MS
        self._window_ns = window_ms * _MS
        self._average_ns = average_ms * _MS
        self._edges = [0, 0]
        self._faultless = faults is None
        self._wanted: Sequence[tuple[int, int]] = ()
        self._answered_ns = -1
        self._answer: Sequence[FieldValue] = ()
        self.closed = False

    def name(self) -> str:
        """Return the product's name."""
        return "simulated GPU"

    def fields(self, wanted: Sequence[tuple[int, int]]) -> Sequence[FieldValue]:
        """Return the values of pairs of field and scope."""
        now_ns = self._alive()
        update_ns = now_ns // self._period_ns
        if update_ns == self._answered_ns and wanted is self._wanted:
            return self._answer  # as cheap as a driver's own memory of it
        answer = [self._field(one, scope, now_ns) for one, scope in wanted]
        if self._faultless:
            self._wanted, self._answered_ns, self._answer = wanted, update_ns, answer
        return answer

    def slow(self, what: str) -> float:
        """Return a clock, temperature or the like."""
        load = self._load.at(self._alive())
        values: dict[str, float] = {
            "sm_clock": 1980 if load else 345,
            "memory_clock": 3201,
            "temperature": round(28 + 0.056 * watts(load)),
            "memory_used": 18 << 30,
            "gpu_busy": 100 if load else 0,
            "memory_busy": round(40 * load),
            "throttle": 0 if load else 1,
            "performance_state": 0,
            "processes": 1,
        }
        return values[what]

    def gpm_supported(self) -> bool:
        """Return whether there are counters of what units do."""
        return self._gpm

    def gpm_sample(self) -> None:
        """Take a sample."""
        self._edges = [self._edges[1], self._alive()]

    def gpm_metrics(self, ids: Sequence[int]) -> Sequence[tuple[int, float]]:
        """Return code and value of metrics between the last two samples."""
        start_ns, end_ns = self._edges
        if end_ns <= start_ns:
            raise DriverError("NVML: invalid samples", 2)
        mean_w = (self._load.joules(end_ns) - self._load.joules(start_ns)) * 1e9
        load = (mean_w / (end_ns - start_ns) - IDLE_W) / (FULL_W - IDLE_W)
        return [self._metric(each, min(max(load, 0.0), 1.0)) for each in ids]

    def close(self) -> None:
        """Let go of the device."""
        self.closed = True

    def _metric(self, metric: int, load: float) -> tuple[int, float]:
        if metric in {36, 37, 46, 47} | self.faults.metrics:  # fewer engines than there are ids
            return NOT_SUPPORTED, 0.0
        if 20 <= metric < 30 or metric >= 60:
            return SUCCESS, 300 * load
        return SUCCESS, 100 * load * {2: 0.9, 5: 0.5, 7: 0.5, 10: 0.4}.get(metric, 0.05)

    def _field(self, one: int, scope: int, now_ns: int) -> FieldValue:
        if code := self.faults.codes.get(one, SUCCESS if scope == 0 else NOT_SUPPORTED):
            return FieldValue(code, 0, 0)
        update_ns = now_ns // self._period_ns * self._period_ns
        stamp_us = 0 if self.faults.no_stamps else update_ns // 1000 + 1
        if one in {driver.PCIE_TX, driver.PCIE_RX}:
            return FieldValue(SUCCESS, stamp_us, math.floor(self._load.joules(update_ns)) * 4096)
        if one == driver.MEMORY_TEMPERATURE:
            return FieldValue(SUCCESS, stamp_us, 45)
        if self.faults.frozen:
            update_ns = 0
        if one == driver.ENERGY:
            return FieldValue(SUCCESS, stamp_us, self._energy_mj(update_ns))
        return FieldValue(SUCCESS, stamp_us, self._power_mw(one, update_ns))

    def _power_mw(self, one: int, update_ns: int) -> int:
        noise = int.from_bytes(hashlib.sha256(b"%d %d" % (one, update_ns)).digest()[:2]) / 65536
        if self.faults.virtual:
            return round(39_000 + 7_000 * noise)
        window_ns = self._average_ns if one == driver.AVERAGE else self._window_ns
        start_ns = max(0, update_ns - window_ns)
        joules = self._load.joules(update_ns) - self._load.joules(start_ns)
        mean_w = joules / (update_ns - start_ns) * 1e9 if update_ns > start_ns else IDLE_W
        scale = self.faults.instant_scale if one == driver.INSTANT else 1.0
        return round(1000 * (mean_w * scale + noise - 0.5))

    def _energy_mj(self, update_ns: int) -> int:
        faults = self.faults
        joules, start = self._load.joules(update_ns), faults.energy_from_j
        if faults.reset_ns is not None and update_ns >= faults.reset_ns:
            joules, start = joules - self._load.joules(faults.reset_ns), 0.0
        total = start + joules * faults.energy_scale
        return math.floor(1000 * total) % (1 << faults.counter_bits)

    def _alive(self) -> int:
        now_ns = self._now_ns()
        if self.faults.lost_ns is not None and now_ns >= self.faults.lost_ns:
            raise DriverError("NVML: GPU is lost", LOST)
        return now_ns
