"""The features of windows of several channels, by name: one table for batch and stream alike.

Knows every group; knows nothing of where windows come from or what is made of the numbers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lydite.errors import FormatError
from lydite.evidence.power.channels import CHANNELS
from lydite.evidence.power.features.feature import Feature, Group, Window
from lydite.evidence.power.features.frequency import SPECTRAL, WAVELETS
from lydite.evidence.power.features.model import BURSTS, CADENCE, phase_features, phase_values
from lydite.evidence.power.features.time import (
    AUTOCORRELATIONS,
    FLATNESS,
    LEVELS,
    MOMENTS,
    RUNS,
    SWINGS,
)
from lydite.evidence.power.streaming import Stream
from lydite.evidence.power.trace import Times, Values
from lydite.evidence.power.windows import Plan, Windows

GROUPS: dict[str, Group] = {
    "levels": LEVELS,
    "swings": SWINGS,
    "moments": MOMENTS,
    "autocorrelation": AUTOCORRELATIONS,
    "runs": RUNS,
    "flatness": FLATNESS,
    "spectrum": SPECTRAL,
    "wavelets": WAVELETS,
    "bursts": BURSTS,
    "cadence": CADENCE,
}
"""By name, in the order of a table: all of them for power, the first alone for other channels."""
PHASE_CHANNELS = ("sm_active", "tensor_active", "dram_active")
ROWS_AT_ONCE = 32
"""So many windows pass through all groups together, so that they stay in the cache."""


@dataclass(frozen=True)
class Table:
    """Which features are computed, of which channels.

    Raises:
        FormatError: no channel, or one that does not exist.
    """

    plan: Plan
    channels: tuple[str, ...] = ("power_instant_w",)

    def __post_init__(self) -> None:
        """Refuse channels that do not exist."""
        unknown = [name for name in self.channels if name not in CHANNELS]
        if unknown or not self.channels:
            raise FormatError(f"no channel {', '.join(unknown) or 'named'}")

    @property
    def features(self) -> list[Feature]:
        """Return what the columns of ``compute`` are, each under ``channel.name``."""
        found = []
        for channel in self.channels:
            unit = CHANNELS[channel].unit
            for group in _groups(channel):
                for feature in group.features(self.plan.rate_hz, self.plan.size):
                    named = f"{channel}.{feature.name}"
                    found.append(feature._replace(name=named, unit=_unit(feature.unit, unit)))
        if self._has_phases:
            found += [one._replace(name=f"phases.{one.name}") for one in phase_features()]
        return found

    @property
    def names(self) -> list[str]:
        """Return the names of the columns."""
        return [feature.name for feature in self.features]

    @property
    def _has_phases(self) -> bool:
        return set(PHASE_CHANNELS) <= set(self.channels)

    def compute(self, windows: Mapping[str, Values]) -> Values:
        """Return the features of rows of values, a row a window.

        Raises:
            FormatError: a channel is missing, or rows are not those of the plan.
        """
        rows = _checked(windows, self.channels, self.plan.size)
        parts = [
            self._some({name: windows[name][first : first + ROWS_AT_ONCE] for name in windows})
            for first in range(0, rows, ROWS_AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.features)))

    def _some(self, windows: Mapping[str, Values]) -> Values:
        """Return the features of a few rows."""
        rate_hz = self.plan.rate_hz
        found = []
        for channel in self.channels:
            window = Window.of(windows[channel], rate_hz)
            found += [group.compute(window) for group in _groups(channel)]
        if self._has_phases:
            sm, tensor, dram = (np.ascontiguousarray(windows[name]) for name in PHASE_CHANNELS)
            found.append(phase_values(sm, tensor, dram, rate_hz))
        return np.concatenate(found, axis=1)


class FeatureStream:
    """Features of windows as samples come: the same bits as of the whole trace."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._windows = Stream(table.channels, table.plan)

    def push(
        self, samples: Mapping[str, tuple[Times, Values]]
    ) -> Iterator[tuple[dict[str, Windows], Values]]:
        """Take samples of some channels; give each window that they complete, with its features."""
        for windows in self._windows.push(samples):
            rows = {name: window.values for name, window in windows.items()}
            yield windows, self._table.compute(rows)


def _groups(channel: str) -> Sequence[Group]:
    """Return the groups of a channel."""
    return list(GROUPS.values()) if CHANNELS[channel].unit == "W" else [LEVELS]


def _unit(unit: str, own: str) -> str:
    """Return a feature's unit with the channel's own in place of ``u``."""
    return {"u": own, "u/s": f"{own}/s"}.get(unit, unit)


def _checked(windows: Mapping[str, Values], channels: Sequence[str], size: int) -> int:
    """Return the number of rows."""
    absent = [name for name in channels if name not in windows]
    if absent:
        raise FormatError(f"windows lack {', '.join(absent)}")
    shapes = {windows[name].shape for name in channels}
    if len(shapes) != 1 or next(iter(shapes))[1:] != (size,):
        raise FormatError(f"windows of shapes {shapes}, not of {size} places each")
    return int(next(iter(shapes))[0])
