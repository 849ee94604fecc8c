"""A trace: what was read of one device, each channel at times of its own.

Frozen, and checked when it is made: past this module nobody asks again whether times ascend or
values are finite. Knows nothing of where samples came from; `intake` mends or refuses raw ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lydite.errors import FormatError
from lydite.evidence.power.channels import CHANNELS, Channel

Times = NDArray[np.int64]
"""Nanoseconds on the monotonic clock of the machine that sampled, strictly ascending."""
Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Series:
    """The samples of one channel, at least one.

    Raises:
        FormatError: shapes differ, there is no sample, times do not strictly ascend, or a value is
            not finite or out of the channel's range.
    """

    channel: Channel
    t_ns: Times
    values: Values

    def __post_init__(self) -> None:
        """Refuse what is not a series, and let nobody change one."""
        name, t_ns, values = self.channel.name, self.t_ns, self.values
        if t_ns.ndim != 1 or t_ns.shape != values.shape:
            raise FormatError(f"{name}: times of shape {t_ns.shape}, values of {values.shape}")
        if not len(t_ns):
            raise FormatError(f"{name}: no samples")
        if t_ns.dtype != np.int64 or values.dtype != np.float64:
            raise FormatError(f"{name}: times are int64 and values float64")
        if np.any(np.diff(t_ns) <= 0):
            raise FormatError(f"{name}: times do not ascend")
        if not np.all((values >= self.channel.low) & (values <= self.channel.high)):
            raise FormatError(
                f"{name}: a value outside {self.channel.low:g} to {self.channel.high:g}"
                f" {self.channel.unit}"
            )
        t_ns.setflags(write=False)
        values.setflags(write=False)

    def between(self, start_ns: int, end_ns: int) -> Self | None:
        """Return the samples with ``start_ns <= t < end_ns``, or ``None`` if there are none."""
        first, last = np.searchsorted(self.t_ns, (start_ns, end_ns))
        if first >= last:
            return None
        return type(self)(self.channel, self.t_ns[first:last], self.values[first:last])


@dataclass(frozen=True, eq=False)
class Trace:
    """What was read of one device.

    Raises:
        FormatError: it has no series, or one under a name that is not its channel's.
    """

    device: str
    """Name of the kind of device, such as ``NVIDIA H200``."""
    series: Mapping[str, Series]
    """By name of channel."""
    counted: Mapping[str, int] = field(default_factory=dict)
    """How many samples were left out or mended on the way in, by reason."""

    def __post_init__(self) -> None:
        """Refuse what is not a trace."""
        if not self.series:
            raise FormatError("a trace without samples")
        for name, series in self.series.items():
            if series.channel is not CHANNELS.get(name):
                raise FormatError(f"a series of {series.channel.name} under {name}")

    @property
    def start_ns(self) -> int:
        """Return the time of the first sample of any channel."""
        return min(int(series.t_ns[0]) for series in self.series.values())

    @property
    def end_ns(self) -> int:
        """Return the time of the last sample of any channel."""
        return max(int(series.t_ns[-1]) for series in self.series.values())

    def between(self, start_ns: int, end_ns: int) -> Self:
        """Return what was read in ``[start_ns, end_ns)``.

        Raises:
            FormatError: nothing was.
        """
        cut = {name: one.between(start_ns, end_ns) for name, one in self.series.items()}
        kept = {name: one for name, one in cut.items() if one is not None}
        return type(self)(self.device, kept, self.counted)
