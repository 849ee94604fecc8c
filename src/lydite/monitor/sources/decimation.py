"""From 100,000 samples a second to a hundred, and not a nanojoule lost on the way.

Samples are whole steps of power, so that sums of them are whole numbers: a bin's energy is its sum
times the step over the rate, and the sum over bins is the sum over samples, exactly, however the
stream is cut into blocks. Pure; floating point begins where a reading is made.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lydite.monitor.sources.frames import Block, Samples


class Bin(NamedTuple):
    """``per_bin`` samples from index ``first`` on."""

    first: int
    total: int
    """Their sum, in steps."""
    whole: int
    """The sum of all bins since the running sum began, this one included."""
    begins: bool
    """Whether it began with this bin."""


class Decimator:
    """Sums samples into bins that begin at multiples of ``per_bin``."""

    def __init__(self, per_bin: int) -> None:
        self._per_bin = per_bin
        self._next: int | None = None
        self._held: Samples = np.zeros(0, np.int64)
        """Samples of the bin that is not full, which begins at a multiple of ``per_bin``."""
        self._whole = 0
        self._begins = True
        self.lost = 0
        """Samples that never came, or came to a bin that cannot be full."""
        self.repeated = 0
        """Samples that came twice."""

    def take(self, block: Block) -> Iterator[Bin]:
        """Yield the bins that are full by now."""
        first, samples = block.first, block.samples
        if self._next is not None and first < self._next:
            twice = min(self._next - first, len(samples))
            self.repeated += twice
            first, samples = first + twice, samples[twice:]
            if not len(samples):
                return
        if first != self._next:
            self._begin(first)
        self._next = first + len(samples)
        if not len(self._held):  # a bin begins at a multiple, or waits for the next
            skipped = min(-first % self._per_bin, len(samples))
            self.lost += skipped
            first, samples = first + skipped, samples[skipped:]
        start = first - len(self._held)
        joined = np.concatenate((self._held, samples)) if len(self._held) else samples
        full = len(joined) // self._per_bin
        self._held = joined[full * self._per_bin :]
        totals = joined[: full * self._per_bin].reshape(full, self._per_bin).sum(axis=1)
        for place, total in enumerate(totals.tolist()):
            self._whole += total
            begins, self._begins = self._begins, False
            yield Bin(start + place * self._per_bin, total, self._whole, begins)

    def end(self) -> None:
        """Count what is left of a bin that nothing will fill."""
        self.lost += len(self._held)
        self._held = np.zeros(0, np.int64)

    def _begin(self, first: int) -> None:
        """Begin the running sum anew: the bins around a loss are not whole."""
        if self._next is not None:
            self.lost += first - self._next + len(self._held)
        self._held, self._whole, self._begins = np.zeros(0, np.int64), 0, True
