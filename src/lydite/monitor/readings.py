"""What a source gives: readings, in groups that are read at one rate, and what went wrong by name.

The one interface of everything that can be read. A source is for one device. It reads when it is
asked, keeps no schedule, and counts what it could not read; it raises only where nothing works.
"""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from lydite.messages.segment import Clock


class Mishap(StrEnum):
    """Why a sample was mended, left out or never read. Published: add, never rename."""

    REPEAT = "repeat"
    """The value had not changed since the sample before, which stands for both."""
    DUPLICATE = "duplicate"
    """A second sample of one channel at one time."""
    REORDERED = "reordered"
    """A sample from before one that was there already."""
    NOT_FINITE = "not-finite"
    """The value is not finite."""
    OUT_OF_RANGE = "out-of-range"
    """The value is none that the channel can have."""
    WRONG_UNIT = "wrong-unit"
    """The same, and a thousandth of it would be one."""
    COUNTER_RESET = "counter-reset"
    """A counter began again at nought; kept."""
    COUNTER_WRAPPED = "counter-wrapped"
    """A counter of 32 bits ran over; mended, and kept."""
    COUNTER_FELL = "counter-fell"
    """A counter fell, though not to nought; left out until it is past where it was."""
    GAP = "gap"
    """A channel was silent for several of its periods; what came after is kept."""
    CLOCK_JUMP = "clock-jump"
    """A clock was set: samples jumped ahead, or Unix time parted from the sampling clock."""
    NO_STAMP = "no-stamp"
    """The driver gave a value without its time, or with one from before the last; kept."""
    NOT_READ = "not-read"
    """The driver, exporter or meter gave no value."""
    BLANK = "blank"
    """The exporter gave the word that stands for no value."""
    UNKNOWN = "unknown"
    """A sample of a channel or device that nobody asked for."""
    LOST_FRAME = "lost-frame"
    """Samples of the fast meter that its own numbering says are missing."""
    BROKEN_FRAME = "broken-frame"
    """Bytes of the fast meter that are no frame, or fail their check."""
    RING_FULL = "ring-full"
    """Nobody took the samples in time, and there was no more room."""
    MISSED_BEAT = "missed-beat"
    """The sampler was not given the processor in time for a reading."""
    DISK_FULL = "disk-full"
    """The disk refused a segment for so long that there was no room for more samples."""
    UNUSABLE = "unusable"
    """A sample of a channel that the self-check refused."""


class Reading(NamedTuple):
    """One sample: a name of ``evidence.power.channels``, the sampling clock, and SI units."""

    channel: str
    t_ns: int
    value: float


class Tally:
    """Counts by mishap; one thread adds while others look."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, mishap: Mishap, count: int = 1) -> None:
        """Count something that went wrong."""
        with self._lock:
            self._counts[mishap.value] += count

    def counts(self) -> dict[str, int]:
        """Return all counts since the start."""
        with self._lock:
            return dict(self._counts)


class Group(NamedTuple):
    """What is read in one go, at one rate."""

    name: str
    period_ns: int
    """0: as soon as there is room, for sources that wait to be read."""
    channels: tuple[str, ...]
    read: Callable[[int], Sequence[Reading]]
    """Given the sampling clock, return what there is.

    Raises:
        UnavailableError: nothing can be read at present.
    """
    optional: bool = False
    """Whether a device may lack some of the channels, which only reading them shows."""


class Source(Protocol):
    """Everything that can be read of one device."""

    kind: str
    device: str
    patient: bool
    """Whether it waits to be read, so that a slow consumer loses nothing."""
    clock: Clock
    tally: Tally

    @property
    def groups(self) -> tuple[Group, ...]:
        """What to read, and how often."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""

    def close(self) -> None:
        """Let go of the device."""
