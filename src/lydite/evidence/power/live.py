"""Recognition of samples as they come: the same answers as of the whole trace, to the last bit.

Holds a window and a hop of one channel of power. Knows no source, no clock and no verdict.
"""

from collections.abc import Iterator
from typing import NamedTuple

from lydite.evidence.power.channels import Channel
from lydite.evidence.power.classify import Answer, Recogniser, answers, columns
from lydite.evidence.power.features.table import Table
from lydite.evidence.power.streaming import Stream
from lydite.evidence.power.trace import Series, Times, Values
from lydite.evidence.power.windows import Plan, cut

PLAN = Plan(length_s=10.0, hop_s=5.0, rate_hz=10.0, gap_s=3.0)
"""What a recogniser is learnt with, unless it says otherwise."""


class Told(NamedTuple):
    """What one window looks like."""

    start_ns: int
    end_ns: int
    answer: Answer


class Live:
    """Answers on one channel of power of one device."""

    def __init__(
        self, channel: Channel, tdp_w: float, recogniser: Recogniser | None, plan: Plan = PLAN
    ) -> None:
        self._plan, self._tdp_w, self._recogniser = plan, tdp_w, recogniser
        self._table = Table(plan, (channel.name,))
        self._name, self._stream = channel.name, Stream((channel.name,), plan)

    def push(self, t_ns: Times, values: Values) -> Iterator[Told]:
        """Take samples, and give an answer for each window that they complete.

        Raises:
            FormatError: they are no series of the channel, or not later than those before.
        """
        for windows in self._stream.push({self._name: (t_ns, values)}):
            window = windows[self._name]
            yield from self._told(window.start_ns, window.values)

    def whole(self, series: Series) -> list[Told]:
        """Return the answers on a whole series."""
        made = cut(series, self._plan)
        return list(self._told(made.start_ns, made.values))

    def _told(self, starts: Times, windows: Values) -> Iterator[Told]:
        length = int(self._plan.offsets()[-1])
        for place, start in enumerate(starts.tolist()):
            # One by one, as they come: products of matrices add in an order of their own.
            row = windows[place : place + 1]
            rows = columns(self._table, self._tdp_w, row)
            (answer,) = answers(self._recogniser, self._tdp_w, row, rows)
            yield Told(start, start + length, answer)
