"""How long a gateway has run, over all its starts: the time by which pairs are dated.

Knows no time of day, so no clock that jumps makes anything old. Where it is kept, and who may write
there, is for its owner to say: in the sealed state with a device, in a file without one.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Self

from lydite.errors import LyditeError
from lydite.tlog import disk

_STEP_S = 2.0
"""Most that one look at the clock counts."""
_SAVE_MS = 60_000


class Age:
    """How long the gateway has run, in milliseconds."""

    def __init__(self, ms: int, keep: Callable[[int], None]) -> None:
        """Go on from ``ms``; ``keep`` is told from time to time how far it has come."""
        self._keep = keep
        self._seen: float | None = None
        self._saved = self.ms = ms

    @classmethod
    def in_file(cls, path: Path) -> Self:
        """Go on from what a file says, which anybody may write who may write there."""
        return cls(read(path), lambda ms: disk.place(path, str(ms).encode(), durable=True))

    def tick(self, now_s: float) -> int:
        """Count the time since the last call, at most two beats: a clock that jumps counts little.

        Raises:
            StorageError: it could not be saved.
        """
        step_s = 0.0 if self._seen is None else min(max(now_s - self._seen, 0.0), _STEP_S)
        self._seen = now_s
        self.ms += round(1000 * step_s)
        if self.ms - self._saved >= _SAVE_MS:
            self.save()
        return self.ms

    def save(self) -> None:
        """Have it kept.

        Raises:
            StorageError: it could not be.
        """
        self._keep(self.ms)
        self._saved = self.ms


def read(path: Path) -> int:
    """Return the age that a file tells, 0 where it tells none: then things stay for longer."""
    try:
        return max(0, int(disk.read(path) or b"0"))
    except (LyditeError, ValueError):
        return 0
