"""Load that goes on and off when the self-check says so, to see what sensors make of it.

The load itself is somebody else's: a command that reads ``on`` and ``off``, a line each, and says
the same once it has done so. ``python -m lydite.monitor.gemm`` is one. Knows nothing of sensors.
"""

import contextlib
import subprocess
import threading
from collections.abc import Sequence
from typing import Protocol

from lydite.errors import ConfigurationError, LyditeError
from lydite.monitor.response import Edge
from lydite.monitor.timing import Timing

PATTERN_MS = (1500, 1500, 700, 300, 150, 450, 250, 150, 90, 210, 1000, 500)
"""How long load is on, off, on ...: long enough for averages over 1 s, and out of step with updates
each 100 ms."""
_ANSWER_S = 60.0


class Burst(Protocol):
    """Load that can be switched."""

    def switch(self, *, on: bool) -> None:
        """Switch, and return once it is done.

        Raises:
            ConfigurationError: it cannot be switched.
        """

    def close(self) -> None:
        """End it."""


class Command:
    """A command that loads the GPU as it is told on its standard input."""

    def __init__(self, words: Sequence[str]) -> None:
        """Start it, and wait until it is ready.

        Raises:
            ConfigurationError: it does not start, or does not say ``ready``.
        """
        self._name = words[0]
        try:
            self._process = subprocess.Popen(
                list(words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
            )
        except OSError as error:
            raise ConfigurationError(f"burst {words[0]}: {error.strerror}") from error
        self._expect("ready")

    def switch(self, *, on: bool) -> None:
        """Switch, and return once it is done."""
        word = "on" if on else "off"
        if self._process.stdin is None:
            raise ConfigurationError(f"burst {self._name}: it has no input")
        try:
            self._process.stdin.write(f"{word}\n")
            self._process.stdin.flush()
        except OSError as error:
            raise ConfigurationError(f"burst {self._name}: {error.strerror}") from error
        self._expect(word)

    def close(self) -> None:
        """End it."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _expect(self, word: str) -> None:
        """Read one line, for so long as it may take; a command that hangs is ended."""
        if self._process.stdout is None:
            raise ConfigurationError(f"burst {self._name}: it has no output")
        watchdog = threading.Timer(_ANSWER_S, self._process.kill)
        watchdog.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watchdog.cancel()
        if line.strip() != word:
            self.close()
            raise ConfigurationError(f"burst {self._name}: said {line.strip()!r}, not {word!r}")


class Player:
    """Plays load in a thread of its own, from now on."""

    def __init__(self, burst: Burst, timing: Timing) -> None:
        self._edges: list[Edge] = []
        self._failure: LyditeError | None = None
        self._thread = threading.Thread(target=self._play, args=(burst, timing), name="burst")
        self._thread.start()

    @property
    def playing(self) -> bool:
        """Return whether it goes on."""
        return self._thread.is_alive()

    def edges(self) -> list[Edge]:
        """Wait for the end, and return when load went on and off.

        Raises:
            ConfigurationError: the load could not be switched.
        """
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        return self._edges

    def _play(self, burst: Burst, timing: Timing) -> None:
        try:
            self._edges = play(burst, timing)
        except LyditeError as error:
            self._failure = error


def play(burst: Burst, timing: Timing, pattern_ms: Sequence[int] = PATTERN_MS) -> list[Edge]:
    """Switch load on and off in the pattern, and return when that was.

    Raises:
        ConfigurationError: the load cannot be switched.
    """
    edges = []
    for place, length_ms in enumerate(pattern_ms):
        on = place % 2 == 0
        burst.switch(on=on)
        edges.append(Edge(timing.now_ns(), on))
        if timing.wait_until(timing.now_ns() + length_ms * 1_000_000):
            break
    return edges
