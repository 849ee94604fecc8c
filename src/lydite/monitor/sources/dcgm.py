"""DCGM's exporter as a source: a page of Prometheus text, scraped over HTTP.

Each metric that we know becomes a channel in SI units; those of other GPUs and those that nobody
named are left. DCGM writes sentinels where it has no value, which are counted. The exporter renews
its page at a rate of its own, often slower than it is asked: unchanged values are not new samples.
"""

import http.client
import math
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from lydite.errors import ConfigurationError, Reason, UnavailableError
from lydite.errors.quoting import shown
from lydite.messages.segment import Clock
from lydite.monitor.readings import Group, Mishap, Reading, Tally

MAX_PAGE_BYTES = 8 << 20
TIMEOUT_S = 2.0
_MIB = float(1 << 20)

METRICS: dict[str, tuple[str, float]] = {
    "DCGM_FI_DEV_POWER_USAGE": ("power_average_w", 1.0),
    "DCGM_FI_DEV_POWER_USAGE_INSTANT": ("power_instant_w", 1.0),
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": ("energy_j", 1e-3),
    "DCGM_FI_DEV_SM_CLOCK": ("sm_clock_hz", 1e6),
    "DCGM_FI_DEV_MEM_CLOCK": ("memory_clock_hz", 1e6),
    "DCGM_FI_DEV_GPU_TEMP": ("gpu_temperature_c", 1.0),
    "DCGM_FI_DEV_MEMORY_TEMP": ("memory_temperature_c", 1.0),
    "DCGM_FI_DEV_GPU_UTIL": ("gpu_busy", 0.01),
    "DCGM_FI_DEV_MEM_COPY_UTIL": ("memory_busy", 0.01),
    "DCGM_FI_DEV_FB_USED": ("memory_used_b", _MIB),
    "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS": ("throttle_reasons", 1.0),
    "DCGM_FI_DEV_CLOCKS_EVENT_REASONS": ("throttle_reasons", 1.0),
    "DCGM_FI_DEV_PSTATE": ("performance_state", 1.0),
    "DCGM_FI_PROF_SM_ACTIVE": ("sm_active", 1.0),
    "DCGM_FI_PROF_SM_OCCUPANCY": ("sm_occupancy", 1.0),
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": ("tensor_active", 1.0),
    "DCGM_FI_PROF_PIPE_TENSOR_HMMA_ACTIVE": ("tensor_half_active", 1.0),
    "DCGM_FI_PROF_PIPE_TENSOR_IMMA_ACTIVE": ("tensor_integer_active", 1.0),
    "DCGM_FI_PROF_PIPE_INT_ACTIVE": ("integer_active", 1.0),
    "DCGM_FI_PROF_PIPE_FP64_ACTIVE": ("fp64_active", 1.0),
    "DCGM_FI_PROF_PIPE_FP32_ACTIVE": ("fp32_active", 1.0),
    "DCGM_FI_PROF_PIPE_FP16_ACTIVE": ("fp16_active", 1.0),
    "DCGM_FI_PROF_DRAM_ACTIVE": ("dram_active", 1.0),
    "DCGM_FI_PROF_PCIE_TX_BYTES": ("pcie_tx_bps", 1.0),
    "DCGM_FI_PROF_PCIE_RX_BYTES": ("pcie_rx_bps", 1.0),
    "DCGM_FI_PROF_NVLINK_TX_BYTES": ("nvlink_tx_bps", 1.0),
    "DCGM_FI_PROF_NVLINK_RX_BYTES": ("nvlink_rx_bps", 1.0),
}
"""By name at the exporter, our channel and the factor to SI. Power is the driver's average."""

_INT_BLANKS = (0x7FFFFFF0, 0x7FFFFFFFFFFFFFF0)
_FLOAT_BLANK = 140_737_488_355_328.0
"""In each of three widths, from here on up: DCGM's words for no value, not found, not permitted."""


class Dcgm:
    """One GPU of an exporter's page, by its number or its UUID."""

    kind = "dcgm"
    patient = False
    clock: Clock = "monotonic"
    ended = False

    def __init__(self, url: str, gpu: str, period_ns: int) -> None:
        """Scrape once, to see that the GPU is there.

        Raises:
            ConfigurationError: no URL that could be asked.
            UnavailableError: no answer, or nothing about this GPU in it.
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ConfigurationError(f"exporter {shown(url)!r}: expected http://HOST:PORT/metrics")
        self.tally = Tally()
        self._host, self._port = parts.hostname, parts.port or 80
        self._path = parts.path or "/metrics"
        self._gpu = gpu
        self.device = f"/{gpu}"
        channels = tuple(reading.channel for reading in self._readings(self._scrape(), 0))
        if not channels:
            raise UnavailableError(f"{url} says nothing of GPU {gpu}", Reason.NOT_READ)
        self.tally = Tally()  # blanks of the probe are no samples that went missing
        self.groups = (Group("dcgm", period_ns, channels, self.read),)

    def close(self) -> None:
        """Nothing is held: each scrape has a connection of its own."""

    def read(self, now_ns: int) -> Sequence[Reading]:
        """Scrape the page."""
        return self._readings(self._scrape(), now_ns)

    def _scrape(self) -> str:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        try:
            connection.request("GET", self._path)
            answer = connection.getresponse()
            page = answer.read(MAX_PAGE_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(f"exporter: {error}", Reason.NOT_READ) from error
        finally:
            connection.close()
        if answer.status != 200:
            raise UnavailableError(f"exporter: status {answer.status}", Reason.NOT_READ)
        if len(page) > MAX_PAGE_BYTES:
            raise UnavailableError("exporter: the page does not end", Reason.TOO_LARGE)
        try:
            return page.decode()
        except UnicodeDecodeError as error:
            raise UnavailableError(f"exporter: {error}", Reason.NOT_READ) from error

    def _readings(self, page: str, now_ns: int) -> list[Reading]:
        found: dict[str, Reading] = {}
        for name, labels, value in _samples(page):
            if self._gpu not in {labels.get("gpu"), labels.get("UUID")}:
                continue
            self.device = f"{labels.get('modelName', 'GPU')}/{labels.get('gpu', self._gpu)}"
            channel, factor = METRICS[name]
            if _is_blank(value):
                self.tally.add(Mishap.BLANK)
            elif channel in found:
                self.tally.add(Mishap.DUPLICATE)
            else:
                found[channel] = Reading(channel, now_ns, value * factor)
        return list(found.values())


def _samples(page: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Yield the samples of metrics that we know.

    Raises:
        UnavailableError: the page is not Prometheus' text.
    """
    try:
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                name = sample.name.removesuffix("_total")  # the parser's own, on counters
                if name in METRICS:
                    yield name, sample.labels, sample.value
    except (ValueError, IndexError, KeyError) as error:  # the parser has no error of its own
        raise UnavailableError(f"exporter: no Prometheus text: {error}", Reason.NOT_READ) from error


def _is_blank(value: float) -> bool:
    if not math.isfinite(value) or value >= _FLOAT_BLANK:
        return True
    return any(blank <= value <= blank + 15 for blank in _INT_BLANKS)
