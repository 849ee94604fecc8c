"""The self-check of a monitor that starts: every sensor is watched, under load if there is any.

What is read meanwhile is handed on: it is as good as what comes after. The judgement is
``selfcheck``'s.
"""

import math
from collections.abc import Sequence

from lydite.messages.receipt import Timestamp
from lydite.messages.sensors import Report
from lydite.monitor.admission import LATEST_NS
from lydite.monitor.bursts import Burst, Player
from lydite.monitor.columns import Builder
from lydite.monitor.readings import Source
from lydite.monitor.response import Edge
from lydite.monitor.ring import Chunk, Ring
from lydite.monitor.sampler import Sampler
from lydite.monitor.selfcheck import Watched, judge
from lydite.monitor.settings import Selfcheck, Settings
from lydite.monitor.timing import Timing, timestamp

_LOOK_NS = 20_000_000


class Trial:
    """Watches the sensors of ``sources``."""

    def __init__(
        self,
        settings: Selfcheck,
        sources: Sequence[Source],
        timing: Timing,
        burst: Burst | None = None,
    ) -> None:
        self._settings = settings
        self._sources = sources
        self._timing = timing
        self._burst = None if sources[0].clock == "recorded" else burst
        self._edges: Sequence[Edge] = ()

    def watch(self, sampler: Sampler, ring: Ring) -> list[Chunk]:
        """Return what is read for the time that is set, and while load is played.

        Raises:
            ConfigurationError: the load cannot be switched.
        """
        player = None if self._burst is None else Player(self._burst, self._timing)
        chunks: list[Chunk] = []
        start_ns = self._timing.now_ns()
        while sampler.running or ring.used:
            chunks += ring.drain()
            if self._enough(chunks, start_ns) and (player is None or not player.playing):
                break
            if self._timing.wait_until(self._timing.now_ns() + _LOOK_NS):
                break
        self._edges = () if player is None else player.edges()
        return chunks

    def reports(self, chunks: Sequence[Chunk]) -> tuple[Report, ...]:
        """Judge every device by what was read of it."""
        issued: Timestamp = timestamp(self._timing.unix_us())
        return tuple(
            judge(self._watched(number, source, chunks), issued)
            for number, source in enumerate(self._sources)
        )

    def _enough(self, chunks: Sequence[Chunk], start_ns: int) -> bool:
        """Return whether the time is over, by the samples' clock or, twice that, by ours."""
        wanted_ns = self._settings.seconds * 10**9
        if self._timing.now_ns() - start_ns >= 2 * wanted_ns:
            return True
        return bool(chunks) and chunks[-1][1][-1].t_ns - chunks[0][1][0].t_ns >= wanted_ns

    def _watched(self, number: int, source: Source, chunks: Sequence[Chunk]) -> Watched:
        """Return what one source gave, before a gate has seen it, less what is no number."""
        builder, seen_ns = Builder(), dict[str, int]()
        mine = (each for owner, readings in chunks if owner == number for each in readings)
        for reading in mine:
            after = seen_ns.get(reading.channel, -1) < reading.t_ns <= LATEST_NS
            if after and math.isfinite(reading.value):
                builder.add(source.device, reading)
                seen_ns[reading.channel] = reading.t_ns
        lanes = {channel: lane for (_, channel), lane in builder.content().items()}
        offered = set(lanes)
        if source.clock == "monotonic":
            sure = (group for group in source.groups if not group.optional)
            offered |= {name for group in sure for name in group.channels}
        rise_w = float(self._settings.rise_w)
        return Watched(source.device, source.kind, lanes, sorted(offered), self._edges, rise_w)


def try_sources(
    settings: Settings, sources: Sequence[Source], timing: Timing, burst: Burst | None = None
) -> tuple[Report, ...]:
    """Sample for the time that the self-check takes, and say what each sensor is worth.

    Raises:
        ConfigurationError: the load cannot be switched.
    """
    ring = Ring(settings.ring)
    sampler = Sampler(sources, ring, timing, settings.core)
    trial = Trial(settings.selfcheck, sources, timing, burst)
    sampler.start()
    try:
        chunks = trial.watch(sampler, ring)
    finally:
        sampler.stop()
    return trial.reports(chunks + ring.drain())
