"""The room between who samples and who keeps: bounded, and honest about what did not fit.

A source that cannot wait loses its newest samples when the room is full, and the loss is returned
to be counted; one that can wait is held back. Knows nothing of what is sampled.
"""

import threading
from collections import deque
from collections.abc import Sequence

from lydite.monitor.readings import Reading

Chunk = tuple[int, Sequence[Reading]]
"""The number of a source, and what it gave."""


class Ring:
    """At most ``capacity`` readings, from one thread to another."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._chunks: deque[Chunk] = deque()
        self._used = 0
        self._closed = False
        self._room = threading.Condition()

    @property
    def used(self) -> int:
        """Return how many readings wait."""
        return self._used

    def put(self, source: int, readings: Sequence[Reading]) -> int:
        """Take what there is room for, oldest first, and return how many did not fit."""
        with self._room:
            fits = readings[: self.capacity - self._used]
            self._add(source, fits)
        return len(readings) - len(fits)

    def put_patiently(self, source: int, readings: Sequence[Reading]) -> int:
        """Take everything, waiting for room; return how many were refused, as the ring closed."""
        rest = readings
        with self._room:
            while rest:
                while self._used >= self.capacity and not self._closed:
                    self._room.wait()
                if self._closed:
                    break
                fits = rest[: self.capacity - self._used]
                self._add(source, fits)
                rest = rest[len(fits) :]
        return len(rest)

    def drain(self) -> list[Chunk]:
        """Return everything that waits, and make room."""
        with self._room:
            chunks = list(self._chunks)
            self._chunks.clear()
            self._used = 0
            self._room.notify_all()
        return chunks

    def close(self) -> None:
        """Hold nobody back any longer: what comes from now on is refused."""
        with self._room:
            self._closed = True
            self._room.notify_all()

    def _add(self, source: int, readings: Sequence[Reading]) -> None:
        if readings:
            self._chunks.append((source, readings))
            self._used += len(readings)
