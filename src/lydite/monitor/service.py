"""The monitor: samples, checks its sensors, gathers, seals. Comes to no verdict.

Two threads: one samples, the caller's keeps. What is read while sensors are on trial is kept like
all else, less the channels that fail. Told to stop, it seals what it has and says that it ended.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from lydite.errors import StorageError
from lydite.messages.sensors import Report, Reports
from lydite.monitor.bursts import Burst
from lydite.monitor.gathering import Gathering
from lydite.monitor.readings import Mishap, Source
from lydite.monitor.ring import Ring
from lydite.monitor.sampler import Sampler
from lydite.monitor.sealing import Sealer, Stretch
from lydite.monitor.settings import Settings
from lydite.monitor.timing import Timing, timestamp
from lydite.monitor.trial import Trial
from lydite.signing.keys import Signer

Say = Callable[[str, dict[str, object]], None]
"""Told of each thing that happens: a word, and its numbers."""

STEP_US = 50_000
"""Unix time that parts from the sampling clock by more was set by somebody."""
_MOST_SAMPLES = 1_000_000
"""A segment of more is sealed early."""


class Monitor:
    """Runs until it is told to stop, its time is over or every source has ended."""

    def __init__(
        self,
        settings: Settings,
        sources: Sequence[Source],
        signer: Signer,
        timing: Timing,
        burst: Burst | None = None,
    ) -> None:
        """Take the directory of segments.

        Raises:
            ConfigurationError: another process holds it.
            StorageError: what is there is not what a monitor of this key wrote.
        """
        self.settings = settings
        self.sources = sources
        self.ring = Ring(settings.ring)
        self.gathering = Gathering(sources, max(settings.ring, _MOST_SAMPLES))
        self.sampler = Sampler(sources, self.ring, timing, settings.core)
        self.failures = 0
        """How often the disk refused a segment."""
        self.reports: tuple[Report, ...] = ()
        self._timing = timing
        self._burst = burst
        self._recorded = sources[0].clock == "recorded"
        devices = tuple(sorted(source.device for source in sources))
        self.sealer = Sealer(Path(settings.state), signer, devices, sources[0].clock)
        self._zero_us = self._zero()
        self._due_ns = 0

    def run(self, seconds: float | None = None, say: Say = print) -> None:
        """Monitor until stopped, or ``seconds`` after the self-check; ``say`` what happens.

        Raises:
            StorageError: the disk refused the last segment too.
        """
        lost = self.sealer.lost
        if lost is not None:
            say("lost", {"index": lost.index, "run": lost.run, "since_us": lost.since_us})
        self.sealer.begin(self._timing.unix_us())
        self.sampler.start()
        try:
            self._try_sensors(say)
            start_ns = self._timing.now_ns()
            self._due_ns = start_ns + self._segment_ns()
            end_ns = None if seconds is None else start_ns + int(seconds * 1e9)
            while not self._rest(end_ns) and self.sampler.running:
                self._keep(say)
        finally:
            self._finish(say)

    def stop(self) -> None:
        """End, from any thread or signal handler; ``run`` seals what there is."""
        self._timing.stop()

    def _rest(self, end_ns: int | None) -> bool:
        """Wait for the next look; return whether it is the last."""
        now_ns = self._timing.now_ns()
        next_ns = now_ns + self.settings.drain_ms * 1_000_000
        if self._timing.wait_until(next_ns if end_ns is None else min(next_ns, end_ns)):
            return True
        return end_ns is not None and self._timing.now_ns() >= end_ns

    def _keep(self, say: Say) -> None:
        """Take what waits, a piece at a time, sealing wherever a segment is due."""
        for chunk in self.ring.drain():
            self.gathering.take((chunk,))
            if self._is_due():
                self._seal(say, last=False)

    def _is_due(self) -> bool:
        gathering = self.gathering
        if gathering.samples >= _MOST_SAMPLES:
            return True
        if not self._recorded:
            return self._timing.now_ns() >= self._due_ns
        first_ns = gathering.first_ns
        return first_ns is not None and gathering.last_ns - first_ns >= self._segment_ns()

    def _segment_ns(self) -> int:
        return self.settings.segment_s * 1_000_000_000

    def _seal(self, say: Say, *, last: bool) -> None:
        self._due_ns = self._timing.now_ns() + self._segment_ns()
        try:
            link = self.sealer.seal(self._stretch(last=last))
        except StorageError as error:
            self.failures += 1
            if last:
                raise
            say("unsealed", {"error": str(error), "samples": self.gathering.samples})
            return
        self.gathering.next()
        self._zero_us = self._zero()
        said = link.said
        say("sealed", {"index": said.index, "samples": said.samples, "segment": link.digest.hex()})

    def _stretch(self, *, last: bool) -> Stretch:
        end_us = self._zero()
        if abs((end_us or 0) - (self._zero_us or 0)) > STEP_US:
            self.gathering.own.add(Mishap.CLOCK_JUMP)
        now_us = self._timing.now_ns() // 1000
        if self._recorded:
            end = self.sealer.end
            now_us = 0 if end is None or end.said.run != self.sealer.run else end.said.to_us
        return Stretch(
            content=self.gathering.content(),
            counted=self.gathering.news(),
            at_us=now_us,
            zero_us=self._zero_us,
            zero_end_us=end_us,
            last=last,
            issued=timestamp(self._timing.unix_us()),
        )

    def _zero(self) -> int | None:
        """Return what leads from the sampling clock to Unix time."""
        if self._recorded:
            return None
        return self._timing.unix_us() - self._timing.now_ns() // 1000

    def _try_sensors(self, say: Say) -> None:
        """Watch every sensor for a while, judge it, and then admit what was seen meanwhile."""
        if not self.settings.selfcheck.seconds:
            return
        trial = Trial(self.settings.selfcheck, self.sources, self._timing, self._burst)
        chunks = trial.watch(self.sampler, self.ring)
        self.reports = trial.reports(chunks)
        self.sealer.report(Reports(reports=self.reports))
        self.gathering.judge(self.reports)
        for number, source in enumerate(self.sources):
            say("checked", {"device": source.device, "refused": self.gathering.refused[number]})
        self.gathering.take(chunks)

    def _finish(self, say: Say) -> None:
        """Stop sampling, keep what was read, seal it, let go."""
        try:
            self.sampler.stop()
        finally:
            self._keep(say)
            try:
                self._seal(say, last=True)
            finally:
                self.sealer.close()
