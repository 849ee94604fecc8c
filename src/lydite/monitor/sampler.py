"""One thread that reads every source at its rates, by deadlines that do not drift.

A late beat is not made up for: it is counted, and the next deadline is where it would have been.
Knows nothing of what is read, nor of what becomes of it.
"""

import heapq
import os
import threading
from collections.abc import Sequence

from lydite.errors import UnavailableError
from lydite.monitor.readings import Group, Mishap, Source
from lydite.monitor.ring import Ring
from lydite.monitor.timing import Timing

_Due = tuple[int, int, int, Group]
"""When, tie-break, source, what."""


class Sampler:
    """Reads ``sources`` into ``ring`` until told to stop or nothing more will come."""

    def __init__(
        self, sources: Sequence[Source], ring: Ring, timing: Timing, core: int | None = None
    ) -> None:
        self._sources = sources
        self._ring = ring
        self._timing = timing
        self._core = core
        self._thread = threading.Thread(target=self._guarded, name="sampler", daemon=True)
        self.failure: BaseException | None = None
        self.pinned = False

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    @property
    def running(self) -> bool:
        """Return whether more may come."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End, and wait until it has; what was read is in the ring.

        Raises:
            BaseException: what ended the thread before.
        """
        self._timing.stop()
        self._ring.close()
        self._thread.join()
        if self.failure is not None:
            raise self.failure

    def run(self) -> None:
        """Sample in this thread, until stopped or every source has ended."""
        start_ns = self._timing.now_ns()
        due: list[_Due] = []
        for number, source in enumerate(self._sources):
            due += [(start_ns, 100 * number + i, number, g) for i, g in enumerate(source.groups)]
        heapq.heapify(due)
        while due:
            at_ns, order, number, group = due[0]
            if self._timing.wait_until(at_ns):
                return
            source = self._sources[number]
            next_ns = self._read(source, number, group, at_ns)
            if source.ended:
                due = [each for each in due if each[2] != number]
                heapq.heapify(due)
            else:
                heapq.heapreplace(due, (next_ns, order, number, group))

    def _read(self, source: Source, number: int, group: Group, at_ns: int) -> int:
        """Read one group and return when it is due again."""
        now_ns = self._timing.now_ns()
        missed = (now_ns - at_ns) // group.period_ns if group.period_ns else 0
        if missed and not source.patient:
            source.tally.add(Mishap.MISSED_BEAT, missed)
        try:
            readings = group.read(now_ns)
        except UnavailableError:  # counted for each channel; the next beat tries again
            source.tally.add(Mishap.NOT_READ, max(1, len(group.channels)))
            readings = ()
        put = self._ring.put_patiently if source.patient else self._ring.put
        refused = put(number, readings)
        if refused:
            source.tally.add(Mishap.RING_FULL, refused)
        return at_ns + group.period_ns * (1 + missed) if group.period_ns else now_ns

    def _guarded(self) -> None:
        try:
            self._pin()
            self.run()
        except BaseException as error:  # noqa: BLE001 - a thread has nobody to raise to but `stop`
            self.failure = error

    def _pin(self) -> None:
        """Keep this thread, and no other, on its core."""
        if self._core is not None:
            os.sched_setaffinity(threading.get_native_id(), {self._core})
            self.pinned = True
