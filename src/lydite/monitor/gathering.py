"""From what sources gave to what a segment will say: gates, columns, latest values, joules.

One object for all devices of a monitor, used by one thread. Knows nothing of rates, files or seals.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from lydite.evidence.power.channels import CHANNELS
from lydite.messages.sensors import Report
from lydite.monitor.admission import Gate
from lydite.monitor.columns import Builder, Content
from lydite.monitor.meters import CounterMeter
from lydite.monitor.readings import Mishap, Reading, Source, Tally
from lydite.monitor.ring import Chunk
from lydite.monitor.selfcheck import refused


class Gathering:
    """Samples of the segment that is open, and what is known of each device now."""

    def __init__(self, sources: Sequence[Source], room: int) -> None:
        """Gather from ``sources``, at most ``room`` samples until ``content`` is taken."""
        self._sources = sources
        self._room = room
        self._gates = [_gate(source, frozenset()) for source in sources]
        self._builder = Builder()
        self._told: Counter[str] = Counter()
        self._meters = [CounterMeter() for _ in sources]
        self.latest: list[dict[str, float]] = [{} for _ in sources]
        self.kept: list[Counter[str]] = [Counter() for _ in sources]
        self.refused: list[dict[str, str]] = [{} for _ in sources]
        self.first_ns: int | None = None
        self.last_ns = 0
        self.own = Tally()
        """What goes wrong with none of the sources."""

    @property
    def samples(self) -> int:
        """Return how many samples the open segment has."""
        return self._builder.samples

    def judge(self, reports: Iterable[Report]) -> None:
        """Leave out, from now on, the channels that a self-check refused."""
        for number, report in enumerate(reports):
            self.refused[number] = {
                each.channel: str(each.reason) for each in report.sensors if not each.usable
            }
            self._gates[number] = _gate(self._sources[number], refused(report))

    def take(self, chunks: Iterable[Chunk]) -> None:
        """Admit readings, in their order."""
        for number, readings in chunks:
            for kept in self._gates[number].admit_all(readings):
                self._keep(number, kept)

    def joules(self, number: int) -> float:
        """Return what a device's energy counter rose by, between its own updates."""
        return self._meters[number].total

    def counts(self, number: int) -> dict[str, int]:
        """Return what went wrong with a source, by reason, since the start."""
        return self._sources[number].tally.counts()

    def content(self) -> Content:
        """Return the samples of the open segment."""
        return self._builder.content()

    def news(self) -> dict[str, int]:
        """Return what went wrong since ``next`` was called last, by reason, over all sources."""
        return dict(self._total() - self._told)

    def next(self) -> None:
        """Begin the next segment: this one was sealed."""
        self._told = self._total()
        self._builder = Builder()
        self.first_ns = None

    def _total(self) -> Counter[str]:
        total: Counter[str] = Counter(self.own.counts())
        for source in self._sources:
            total.update(source.tally.counts())
        return total

    def _keep(self, number: int, kept: Reading) -> None:
        source = self._sources[number]
        if self._builder.samples >= self._room:
            source.tally.add(Mishap.DISK_FULL)
            return
        self._builder.add(source.device, kept)
        self.latest[number][kept.channel] = kept.value
        self.kept[number][kept.channel] += 1
        if kept.channel == "energy_j":
            self._meters[number].take(kept.t_ns, kept.value)
        if self.first_ns is None:
            self.first_ns = kept.t_ns
        self.last_ns = max(self.last_ns, kept.t_ns)


def _gate(source: Source, left_out: frozenset[str]) -> Gate:
    live = source.clock == "monotonic"
    periods = {
        channel: group.period_ns if live else 0
        for group in source.groups
        for channel in group.channels
    }
    return Gate(source.tally, periods or dict.fromkeys(CHANNELS, 0), left_out)
