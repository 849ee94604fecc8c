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
    """At most ``capacity`` readings, from one thread to one other.

    Each thread adds to a count of its own and to one end of the queue, so that nobody has to hold a
    lock to put or to drain; only who waits for room does.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._chunks: deque[Chunk] = deque()
        self._put = 0
        self._taken = 0
        self._closed = False
        self._room = threading.Condition()

    @property
    def used(self) -> int:
        """Return how many readings wait, at most."""
        return self._put - self._taken

    def put(self, source: int, readings: Sequence[Reading]) -> int:
        """Take what there is room for, oldest first, and return how many did not fit."""
        room = self.capacity - self._put + self._taken
        fits = readings if len(readings) <= room else readings[:room]
        if fits:
            self._put += len(fits)
            self._chunks.append((source, fits))
        return len(readings) - len(fits)

    def put_patiently(self, source: int, readings: Sequence[Reading]) -> int:
        """Take everything, waiting for room; return how many were refused, as the ring closed."""
        rest = readings
        while rest and not self._closed:
            refused = self.put(source, rest)
            rest = rest[len(rest) - refused :]
            if rest:
                with self._room:
                    self._room.wait_for(lambda: self._closed or self.used < self.capacity)
        return len(rest)

    def drain(self) -> list[Chunk]:
        """Return everything that waits, and make room."""
        chunks = [self._chunks.popleft() for _ in range(len(self._chunks))]
        if chunks:
            self._taken += sum(len(readings) for _, readings in chunks)
            with self._room:
                self._room.notify_all()
        return chunks

    def close(self) -> None:
        """Hold nobody back any longer: what comes from now on waits for no room."""
        with self._room:
            self._closed = True
            self._room.notify_all()
