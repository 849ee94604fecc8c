"""Windows of several channels from samples as they come: those that ``windows`` cuts of the whole.

The same starts, the same values to the last bit, whichever way the samples are dealt out. Holds
what a window and a hop need, and what one channel has ahead of the others, up to ``MOST_HELD``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lydite.errors import FormatError, Reason
from lydite.evidence.power.channels import CHANNELS, Channel
from lydite.evidence.power.trace import Series, Times, Values
from lydite.evidence.power.windows import Plan, Windows, windows_at

MOST_HELD = 10_000_000
"""Samples of one channel that wait for the others."""


@dataclass
class _Lane:
    """What is held of one channel, and its stretches without gaps from the present one on."""

    channel: Channel
    t_ns: Times = field(default_factory=lambda: np.zeros(0, np.int64))
    values: Values = field(default_factory=lambda: np.zeros(0))
    stretches: list[list[int]] = field(default_factory=list)
    """First and last sample of each; all but the last one are over."""

    def add(self, series: Series, gap_ns: int) -> None:
        """Take samples that are later than all before."""
        if len(self.t_ns) + len(series.t_ns) > MOST_HELD:
            raise FormatError(
                f"{self.channel.name}: over {MOST_HELD} samples ahead", Reason.TOO_LARGE
            )
        if self.stretches and series.t_ns[0] <= self.stretches[-1][1]:
            raise FormatError(f"{self.channel.name}: samples that are not later than those before")
        self.t_ns = np.concatenate([self.t_ns, series.t_ns])
        self.values = np.concatenate([self.values, series.values])
        breaks = np.flatnonzero(np.diff(series.t_ns) > gap_ns)
        firsts = [int(series.t_ns[0]), *series.t_ns[breaks + 1].tolist()]
        lasts = [*series.t_ns[breaks].tolist(), int(series.t_ns[-1])]
        if self.stretches and firsts[0] - self.stretches[-1][1] <= gap_ns:
            self.stretches[-1][1] = lasts[0]
            firsts, lasts = firsts[1:], lasts[1:]
        self.stretches += [[first, last] for first, last in zip(firsts, lasts, strict=True)]

    def forget(self, before_ns: int) -> None:
        """Drop what no window from ``before_ns`` on needs; the last sample up to it stays."""
        past = int(np.searchsorted(self.t_ns, before_ns, side="right")) - 1
        if past > 0:
            self.t_ns, self.values = self.t_ns[past:].copy(), self.values[past:].copy()


class Stream:
    """Windows of channels at the same starts, as ``windows.together`` has them.

    Raises:
        FormatError: no channel, one twice, or one that does not exist.
    """

    def __init__(self, names: Sequence[str], plan: Plan) -> None:
        if not names or len(set(names)) < len(names) or any(one not in CHANNELS for one in names):
            raise FormatError(f"a stream of the channels {', '.join(names) or 'of none'}")
        self._plan = plan
        self._span = int(plan.offsets()[-1])
        self._lanes = {name: _Lane(CHANNELS[name]) for name in names}
        self._start: int | None = None
        """Of the next window, while the present stretches overlap."""

    def push(self, samples: Mapping[str, tuple[Times, Values]]) -> Iterator[dict[str, Windows]]:
        """Take samples of some channels, and give the windows that they complete.

        Raises:
            FormatError: they are no series of their channel, or not later than those before.
        """
        for name, (t_ns, values) in samples.items():
            if name not in self._lanes:
                raise FormatError(f"{name}: not a channel of this stream")
            if len(t_ns):
                series = Series(self._lanes[name].channel, t_ns, values)
                self._lanes[name].add(series, self._plan.gap_ns)
        while all(lane.stretches for lane in self._lanes.values()):
            yield from self._complete()
            if not self._advance():
                return

    def _complete(self) -> Iterator[dict[str, Windows]]:
        """Give the windows that lie in the present stretch of every channel."""
        lanes = self._lanes.values()
        if self._start is None:
            self._start = max(lane.stretches[0][0] for lane in lanes)
        last = min(lane.stretches[0][1] for lane in lanes)
        while self._start + self._span <= last:
            start = np.array([self._start], np.int64)
            yield {
                name: windows_at(Series(lane.channel, lane.t_ns, lane.values), self._plan, start)
                for name, lane in self._lanes.items()
            }
            self._start += self._plan.hop_ns
        for lane in lanes:
            lane.forget(self._start)

    def _advance(self) -> bool:
        """Leave the stretch that ends first, if it is over; return whether it was."""
        first = min(self._lanes.values(), key=lambda lane: lane.stretches[0][1])
        if len(first.stretches) < 2:
            return False
        first.stretches.pop(0)
        self._start = None
        return True
