"""What becomes of each reading: kept, mended or left out, and counted in the last two cases.

One gate for each device, sample by sample, in the order in which they come. What leaves it can be
made into a ``Series`` without a further question. Knows nothing of files or clocks.
"""

import math
from collections.abc import Collection, Iterable, Mapping

from lydite.evidence.power.channels import CHANNELS, Channel, Nature
from lydite.monitor.readings import Mishap, Reading, Tally

HOLD_NS = 1_000_000_000
"""A value that does not change is kept this often, to show that the sensor was still read."""
SILENT_PERIODS = 5
"""So many periods without a sample are a gap."""
LATEST_NS = 1 << 62
"""No clock of ours says more; a forged index of a fast meter might."""
JUMP_NS = 3_600_000_000_000
"""So long a step ahead is a clock that was set, no gap."""
_WRAPS = {"J": (2**32 / 1000, 2e4), "B": (float(2**32), 1e12)}
"""By unit, where a counter of 32 bits (of mJ, of bytes) runs over, and the most that it counts in a
second, by which a new start and a wrap are told from a counter that merely fell."""
_THOUSAND = 1000.0


class _Lane:
    """One channel of one device: what was kept last."""

    __slots__ = (
        *("channel", "hold_ns", "kept_ns", "offset", "period_ns"),
        *("raw", "seen_ns", "silent_ns", "thin", "value"),
    )

    def __init__(self, channel: Channel, period_ns: int) -> None:
        self.channel = channel
        self.period_ns = period_ns
        self.thin = channel.nature is not Nature.INTERVAL
        self.seen_ns = -1
        self.kept_ns = -1
        self.value = 0.0
        self.raw = 0.0
        self.offset = 0.0
        self.hold_ns = 0
        """Until when a value that has not changed is nothing new; 0: look closely at each."""
        self.silent_ns = SILENT_PERIODS * period_ns if period_ns else JUMP_NS

    def repeats(self, t_ns: int, value: float) -> bool:
        """Return whether a sample says nothing new, and nothing is odd about it."""
        return (
            value == self.value
            and self.seen_ns < t_ns < self.hold_ns
            and t_ns - self.seen_ns <= self.silent_ns
        )


class Gate:
    """Admits the readings of one device."""

    def __init__(
        self, tally: Tally, periods: Mapping[str, int], refused: Collection[str] = ()
    ) -> None:
        """Take the periods of channels in ns (0: unknown), and those that may not be used."""
        self._tally = tally
        self._refused = frozenset(refused)
        self._lanes = {name: _Lane(CHANNELS[name], period) for name, period in periods.items()}

    def admit_all(self, readings: Iterable[Reading]) -> list[Reading]:
        """Return what ``admit`` keeps of each, with a short way for values that do not change."""
        kept: list[Reading] = []
        repeats = 0
        for reading in readings:
            name, t_ns, value = reading
            lane = self._lanes.get(name)
            if lane is not None and lane.repeats(t_ns, value):
                lane.seen_ns = t_ns
                repeats += 1
            elif (found := self.admit(reading)) is not None:
                kept.append(found)
        if repeats:
            self._tally.add(Mishap.REPEAT, repeats)
        return kept

    def admit(self, reading: Reading) -> Reading | None:
        """Return what to keep of a reading, or ``None``, and count which it was."""
        name, t_ns, value = reading
        lane = self._lanes.get(name)
        fault = self._fault(lane, name, t_ns, value)
        if lane is None or fault is not None:
            self._tally.add(fault or Mishap.UNKNOWN)
            return None
        if lane.kept_ns < 0:
            lane.raw = value
        else:
            self._look_back(lane, t_ns)
            if lane.channel.nature is Nature.COUNTER:
                mended = self._count_on(lane, value, t_ns)
                if mended is None:
                    return None
                value = mended
            if lane.thin and value == lane.value and t_ns - lane.kept_ns < HOLD_NS:
                lane.seen_ns = t_ns
                self._tally.add(Mishap.REPEAT)
                return None
        lane.value, lane.kept_ns, lane.seen_ns = value, t_ns, t_ns
        lane.hold_ns = t_ns + HOLD_NS if lane.thin and not lane.offset else 0
        return Reading(name, t_ns, value)

    def _fault(self, lane: _Lane | None, name: str, t_ns: int, value: float) -> Mishap | None:
        """Return why a reading is left out unseen, if it is."""
        if lane is None:
            return Mishap.UNKNOWN
        if name in self._refused:
            return Mishap.UNUSABLE
        if t_ns <= lane.seen_ns:
            return Mishap.DUPLICATE if t_ns == lane.seen_ns else Mishap.REORDERED
        if t_ns > LATEST_NS:
            return Mishap.OUT_OF_RANGE
        if not lane.channel.low <= value <= lane.channel.high:
            return _out_of_range(lane.channel, value)
        return None

    def _look_back(self, lane: _Lane, t_ns: int) -> None:
        silent_ns = t_ns - lane.seen_ns
        if silent_ns > JUMP_NS:
            self._tally.add(Mishap.CLOCK_JUMP)
        elif silent_ns > lane.silent_ns:
            self._tally.add(Mishap.GAP)

    def _count_on(self, lane: _Lane, raw: float, t_ns: int) -> float | None:
        """Return a counter's value, with what it ran over added, or ``None`` if it only fell."""
        if raw < lane.raw:
            wrap, fastest = _WRAPS[lane.channel.unit]
            most = fastest * (t_ns - lane.seen_ns) / 1e9
            if lane.raw <= wrap and raw + wrap - lane.raw <= most:
                self._tally.add(Mishap.COUNTER_WRAPPED)
                lane.offset += wrap
            elif raw <= most:
                self._tally.add(Mishap.COUNTER_RESET)
                lane.offset = 0.0
            else:
                self._tally.add(Mishap.COUNTER_FELL)
                return None
        lane.raw = raw
        return raw + lane.offset


def _out_of_range(channel: Channel, value: float) -> Mishap:
    if not math.isfinite(value):
        return Mishap.NOT_FINITE
    scaled = abs(value) / _THOUSAND
    fits = channel.low <= scaled <= channel.high and value > channel.high
    return Mishap.WRONG_UNIT if fits else Mishap.OUT_OF_RANGE
