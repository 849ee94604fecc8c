"""Says before long work how much there is, and meanwhile how far it is: to a log now and then.

Does none of it.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from lydite.engines.weights import files_of

_WIDTH = 30
LONG_BYTES = 2_000_000_000
"""What takes seconds to read and to hash."""
EVERY_S = 10.0
"""How often a log is told that the work goes on."""


def before_hashing(directory: Path) -> None:
    """Say on a terminal that the model in ``directory`` is about to be hashed, if it is large.

    Raises:
        ConfigurationError: the directory is not there, or is empty.
    """
    size = sum(path.stat().st_size for path in files_of(directory))
    if size >= LONG_BYTES and sys.stderr.isatty():
        print(f"hashing {size / 1e9:,.0f} GB of {directory}; every byte is read", file=sys.stderr)


class Bar:
    """A bar on stderr that fills, with a word beside it; in a log, a line every ten seconds."""

    def __init__(self, whole: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Take how much there is; show nothing yet."""
        self._whole, self._shown = max(whole, 1), ""
        self._watched, self._clock, self._said_s = sys.stderr.isatty(), clock, clock()

    def show(self, done: int, words: str) -> None:
        """Show how much is done, at most all of it, if that looks other than before."""
        if not self._watched:
            self._log(words)
            return
        filled = _WIDTH * min(done, self._whole) // self._whole
        line = f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {words}"
        if line != self._shown:
            print(f"\r{line.ljust(len(self._shown))}", end="", file=sys.stderr, flush=True)
            self._shown = line

    def end(self) -> None:
        """Leave the bar as it is, and begin a line."""
        if self._shown:
            print(file=sys.stderr)
            self._shown = ""

    def _log(self, words: str) -> None:
        if self._clock() - self._said_s >= EVERY_S:
            print(words, file=sys.stderr, flush=True)
            self._said_s = self._clock()
