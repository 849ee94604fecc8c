"""What the units of a Hopper or later do, counted by the device itself between two samples (GPM).

Shares of time and bytes a second, means over the interval that ends with the reading. Under 100 ms
the counters are invalid, so an interval that came out shorter is left for the next beat. Knows
nothing of power.
"""

from collections.abc import Callable, Sequence

from lydite.monitor.readings import Group, Mishap, Reading, Tally
from lydite.monitor.sources.driver import SUCCESS, DriverError, Nvml

INTERVAL_NS = 100_000_000
_SHARE = 1 / 100
_MIB = float(1 << 20)

METRICS: dict[str, tuple[tuple[int, ...], float]] = {
    "sm_active": ((2,), _SHARE),
    "sm_occupancy": ((3,), _SHARE),
    "integer_active": ((4,), _SHARE),
    "tensor_active": ((5,), _SHARE),
    "tensor_half_active": ((7,), _SHARE),
    "tensor_integer_active": ((9,), _SHARE),
    "dram_active": ((10,), _SHARE),
    "fp64_active": ((11,), _SHARE),
    "fp32_active": ((12,), _SHARE),
    "fp16_active": ((13,), _SHARE),
    "pcie_tx_bps": ((20,), _MIB),
    "pcie_rx_bps": ((21,), _MIB),
    "nvdec_active": (tuple(range(30, 38)), _SHARE),
    "nvjpg_active": (tuple(range(40, 48)), _SHARE),
    "nvlink_rx_bps": ((60,), _MIB),
    "nvlink_tx_bps": ((61,), _MIB),
}
"""By channel, the metrics whose mean it is, of those engines that answer, and the factor to SI."""


class Activity:
    """Readings of the counters of one device."""

    def __init__(self, nvml: Nvml, tally: Tally, now_ns: Callable[[], int]) -> None:
        self._nvml = nvml
        self._tally = tally
        self._now_ns = now_ns
        self._edge_ns: int | None = None
        self._ids: list[int] | None = None

    def group(self) -> Group:
        """Return how they are read."""
        return Group("gpm", INTERVAL_NS, tuple(METRICS), self.read, optional=True)

    def read(self, _now_ns: int) -> Sequence[Reading]:
        """Close an interval and open the next."""
        before_ns = self._now_ns()
        if self._edge_ns is not None and before_ns - self._edge_ns < INTERVAL_NS:
            return ()
        self._nvml.gpm_sample()
        since_ns, self._edge_ns = self._edge_ns, (before_ns + self._now_ns()) // 2
        if since_ns is None:
            return ()
        if self._ids is None:
            self._ids = [id_ for ids, _ in METRICS.values() for id_ in ids if self._knows(id_)]
        answers = dict(zip(self._ids, self._nvml.gpm_metrics(self._ids), strict=True))
        return list(self._means(answers, self._edge_ns))

    def _knows(self, metric: int) -> bool:
        """Ask for one metric alone: a device that lacks one may refuse a whole call for it."""
        try:
            return self._nvml.gpm_metrics([metric])[0][0] == SUCCESS
        except DriverError:
            return False

    def _means(self, answers: dict[int, tuple[int, float]], t_ns: int) -> Sequence[Reading]:
        found = []
        for channel, (ids, factor) in METRICS.items():
            asked = [answers[id_] for id_ in ids if id_ in answers]
            values = [value for code, value in asked if code == SUCCESS]
            if len(values) < len(asked):
                self._tally.add(Mishap.NOT_READ, len(asked) - len(values))
            if values:
                mean = sum(values) / len(values) * factor
                found.append(Reading(channel, t_ns, mean))
        return found
