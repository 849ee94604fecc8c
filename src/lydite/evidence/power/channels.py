"""What can be read of a GPU: every channel by name, with its unit, range and nature.

The one list that samplers, stores, features and verifiers share. Knows nothing of drivers, files
or judgements. Units are SI but for temperatures (degrees Celsius), and stand in the names.
"""

from enum import Enum
from typing import NamedTuple


class Nature(Enum):
    """How the values of a channel are to be read between two samples."""

    GAUGE = "gauge"
    """The value holds until the next sample."""
    COUNTER = "counter"
    """Only differences mean anything; it may start again at nought, never fall otherwise."""
    INTERVAL = "interval"
    """A mean over the time since the sample before."""


class Channel(NamedTuple):
    """One thing that can be read."""

    name: str
    unit: str
    low: float
    high: float
    """A value outside ``[low, high]`` was not read right: a wrong unit, a wrapped counter."""
    nature: Nature = Nature.GAUGE


_SHARE = ("1", 0.0, 1.0)

CHANNELS: dict[str, Channel] = {
    channel.name: channel
    for channel in (
        Channel("power_instant_w", "W", 0, 20_000),
        Channel("power_average_w", "W", 0, 20_000),
        Channel("power_wall_w", "W", 0, 200_000),
        Channel("energy_j", "J", 0, 1e15, Nature.COUNTER),
        Channel("gpu_busy", *_SHARE),
        Channel("memory_busy", *_SHARE),
        Channel("memory_used_b", "B", 0, 1e13),
        Channel("sm_clock_hz", "Hz", 0, 1e10),
        Channel("memory_clock_hz", "Hz", 0, 1e11),
        Channel("gpu_temperature_c", "C", -40, 150),
        Channel("memory_temperature_c", "C", -40, 150),
        Channel("throttle_reasons", "bits", 0, 2**53),
        Channel("performance_state", "1", 0, 32),
        Channel("pcie_tx_b", "B", 0, 1e18, Nature.COUNTER),
        Channel("pcie_rx_b", "B", 0, 1e18, Nature.COUNTER),
        Channel("pcie_tx_bps", "B/s", 0, 1e13, Nature.INTERVAL),
        Channel("pcie_rx_bps", "B/s", 0, 1e13, Nature.INTERVAL),
        Channel("nvlink_tx_bps", "B/s", 0, 1e13, Nature.INTERVAL),
        Channel("nvlink_rx_bps", "B/s", 0, 1e13, Nature.INTERVAL),
        Channel("sm_active", *_SHARE, Nature.INTERVAL),
        Channel("sm_occupancy", *_SHARE, Nature.INTERVAL),
        Channel("tensor_active", *_SHARE, Nature.INTERVAL),
        Channel("tensor_half_active", *_SHARE, Nature.INTERVAL),
        Channel("tensor_integer_active", *_SHARE, Nature.INTERVAL),
        Channel("integer_active", *_SHARE, Nature.INTERVAL),
        Channel("fp64_active", *_SHARE, Nature.INTERVAL),
        Channel("fp32_active", *_SHARE, Nature.INTERVAL),
        Channel("fp16_active", *_SHARE, Nature.INTERVAL),
        Channel("dram_active", *_SHARE, Nature.INTERVAL),
        Channel("nvdec_active", *_SHARE, Nature.INTERVAL),
        Channel("nvjpg_active", *_SHARE, Nature.INTERVAL),
        Channel("fan_speed", *_SHARE),
        Channel("compute_processes", "1", 0, 1_000_000),
    )
}
"""By name."""
