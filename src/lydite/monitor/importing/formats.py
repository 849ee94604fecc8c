"""Tables that tools write: nvidia-smi, DCGM, Zeus, and any CSV whose columns are named.

A layout is found from the header alone. ``power.draw`` and DCGM's power are the driver's default
call, which is an average over a second on most devices since Ampere: they are ``power_average_w``
unless the caller says that they are instant.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lydite.errors import ConfigurationError, FormatError, Reason
from lydite.evidence.power.channels import CHANNELS
from lydite.evidence.power.intake import UNITS
from lydite.monitor.importing import lines
from lydite.monitor.importing.gathering import Layout

_SMI = {
    "power.draw": "power_average_w",
    "power.draw.average": "power_average_w",
    "power.draw.instant": "power_instant_w",
    "utilization.gpu": "gpu_busy",
    "utilization.memory": "memory_busy",
    "memory.used": "memory_used_b",
    "clocks.sm": "sm_clock_hz",
    "clocks.current.sm": "sm_clock_hz",
    "clocks.mem": "memory_clock_hz",
    "clocks.current.memory": "memory_clock_hz",
    "temperature.gpu": "gpu_temperature_c",
    "temperature.memory": "memory_temperature_c",
    "fan.speed": "fan_speed",
}
_SMI_HEAD = re.compile(r"([a-z_.]+)(?: \[([^\]]+)\])?\Z")
_DCGM = {
    "DCGM_FI_DEV_POWER_USAGE": ("power_average_w", "W"),
    "DCGM_FI_DEV_POWER_USAGE_INSTANT": ("power_instant_w", "W"),
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": ("energy_j", "mJ"),
    "DCGM_FI_DEV_GPU_UTIL": ("gpu_busy", "%"),
    "DCGM_FI_DEV_MEM_COPY_UTIL": ("memory_busy", "%"),
    "DCGM_FI_DEV_FB_USED": ("memory_used_b", "MiB"),
    "DCGM_FI_DEV_SM_CLOCK": ("sm_clock_hz", "MHz"),
    "DCGM_FI_DEV_MEM_CLOCK": ("memory_clock_hz", "MHz"),
    "DCGM_FI_DEV_GPU_TEMP": ("gpu_temperature_c", "C"),
    "DCGM_FI_DEV_MEMORY_TEMP": ("memory_temperature_c", "C"),
    "DCGM_FI_PROF_SM_ACTIVE": ("sm_active", "1"),
    "DCGM_FI_PROF_SM_OCCUPANCY": ("sm_occupancy", "1"),
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": ("tensor_active", "1"),
    "DCGM_FI_PROF_PIPE_FP64_ACTIVE": ("fp64_active", "1"),
    "DCGM_FI_PROF_PIPE_FP32_ACTIVE": ("fp32_active", "1"),
    "DCGM_FI_PROF_PIPE_FP16_ACTIVE": ("fp16_active", "1"),
    "DCGM_FI_PROF_DRAM_ACTIVE": ("dram_active", "1"),
    "DCGM_FI_PROF_PCIE_TX_BYTES": ("pcie_tx_bps", "B/s"),
    "DCGM_FI_PROF_PCIE_RX_BYTES": ("pcie_rx_bps", "B/s"),
    "DCGM_FI_PROF_NVLINK_TX_BYTES": ("nvlink_tx_bps", "B/s"),
    "DCGM_FI_PROF_NVLINK_RX_BYTES": ("nvlink_rx_bps", "B/s"),
}
_TIMES = ("timestamp", "time", "Timestamp", "Time", "t")
_KINDS = ("modelName", "name", "gpu_name")
_NUMBERS = ("gpu", "gpu_id", "gpu_index", "index", "uuid", "UUID", "Hostname")


def header(path: Path) -> list[str]:
    """Return the names of the columns of a table."""
    names, rows = lines.table(path)
    getattr(rows, "close", lambda: None)()
    return names


def nvidia_smi(names: Sequence[str]) -> Layout:
    """Return the layout of ``nvidia-smi --query-gpu=timestamp,... --format=csv``.

    Raises:
        FormatError: there is no time stamp or nothing to read, or a column has no unit.
    """
    columns = {}
    for name in names:
        found = _SMI_HEAD.match(name)
        channel = _SMI.get(found[1]) if found else None
        if found is None or channel is None:
            continue
        unit = found[2] or {"C": "C"}.get(CHANNELS[channel].unit)
        if unit not in UNITS[CHANNELS[channel].unit]:
            raise FormatError(f"column {name} says no unit that is known", Reason.WRONG_UNIT)
        columns[name] = (channel, unit)
    devices = tuple(name for name in ("name", "index", "uuid") if name in names)
    return _layout("nvidia-smi", names, columns, devices, "s")


def dcgm(names: Sequence[str]) -> Layout:
    """Return the layout of a CSV file whose columns are DCGM's fields."""
    columns = {name: _DCGM[name] for name in names if name in _DCGM}
    return _layout("dcgm", names, columns, _devices(names), "s")


def zeus(names: Sequence[str]) -> Layout:
    """Return the layout of Zeus's samples: ``power_mw`` by ``gpu_index``, or just ``power``."""
    columns = {}
    if "power_mw" in names:
        columns["power_mw"] = ("power_instant_w", "mW")
    elif "power" in names:
        columns["power"] = ("power_instant_w", "W")
    return _layout("zeus", names, columns, _devices(names), "s")


FORMATS: dict[str, Callable[[Sequence[str]], Layout]] = {
    "nvidia-smi": nvidia_smi,
    "dcgm": dcgm,
    "zeus": zeus,
}


def named(time: str, columns: Sequence[str], devices: Sequence[str]) -> Layout:
    """Return a layout from words: ``NAME:UNIT`` for the time, ``NAME=CHANNEL:UNIT`` for the others.

    Raises:
        ConfigurationError: a word is not of that form, or names no channel or unit.
    """
    time_name, _, time_unit = time.partition(":")
    found: dict[str, tuple[str, str]] = {}
    for word in columns:
        name, _, rest = word.rpartition("=")
        channel, _, unit = rest.partition(":")
        if not name or channel not in CHANNELS or unit not in UNITS[CHANNELS[channel].unit]:
            known = UNITS[CHANNELS[channel].unit] if channel in CHANNELS else CHANNELS
            raise ConfigurationError(
                f"--column {word}: not NAME=CHANNEL:UNIT; there are {', '.join(known)}"
            )
        found[name] = (channel, unit)
    if not found:
        raise ConfigurationError("name at least one --column NAME=CHANNEL:UNIT")
    return Layout(time=time_name, time_unit=time_unit or "s", columns=found, devices=tuple(devices))


def as_instant(layout: Layout) -> Layout:
    """Return ``layout`` with power read as instant where it would be an average."""
    columns: Mapping[str, tuple[str, str]] = {
        name: ("power_instant_w" if channel == "power_average_w" else channel, unit)
        for name, (channel, unit) in layout.columns.items()
    }
    return Layout(
        time=layout.time, time_unit=layout.time_unit, columns=columns, devices=layout.devices
    )


def _devices(names: Sequence[str]) -> tuple[str, ...]:
    kind = [name for name in _KINDS if name in names][:1]
    return (*kind, *(name for name in _NUMBERS if name in names))


def _layout(
    what: str,
    names: Sequence[str],
    columns: dict[str, tuple[str, str]],
    devices: tuple[str, ...],
    time_unit: str,
) -> Layout:
    times = [name for name in _TIMES if name in names]
    if not times or not columns:
        raise FormatError(f"no {what} table: columns {', '.join(names)[:200]}")
    if len({channel for channel, _ in columns.values()}) < len(columns):
        raise FormatError(f"{what}: two columns are of one channel")
    return Layout(time=times[0], time_unit=time_unit, columns=columns, devices=devices)
