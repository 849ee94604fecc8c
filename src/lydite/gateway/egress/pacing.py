"""Lets the bytes of an answer leave on a grid of time, in pieces of few sizes.

What falls into one tick leaves together, so that when a piece leaves says no more than how many
ticks passed. Sizes are padded with chunk extensions, which no client reads and no body holds.
Knows nothing of sessions or accounts.
"""

import asyncio
import math
from typing import Protocol

_PAD = b";pad="
_DELAYED_MICRO = 1_000_000
_MOST_PAD_BYTES = 4096
"""Of one chunk: clients bound how long an extension they take."""


class Client(Protocol):
    """Whom the bytes go to."""

    def write(self, data: bytes) -> None:
        """Send bytes."""

    def finished(self, *, keep: bool) -> None:
        """Take note that the answer is written."""


class Pacer:
    """Writes to one client at ticks of ``pace_ms`` only; pads chunks to ``pad_bytes``, 0: not."""

    def __init__(
        self, client: Client, loop: asyncio.AbstractEventLoop, pace_ms: int, pad_bytes: int
    ) -> None:
        self._client = client
        self._loop = loop
        self._beat_s = pace_ms / 1000
        self._pad_bytes = pad_bytes
        self._parts: list[bytes] = []
        self._keep: bool | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._last_tick = self._tick()
        self._chunked = False
        self._begun = False
        self.timing_micro = 0
        """What the times of the pieces can carry, in micro-bits."""

    def write(self, data: bytes) -> None:
        """Hold bytes until the next tick."""
        self._parts.append(data)
        self._wake()

    def finished(self, *, keep: bool) -> None:
        """Tell the client so at the next tick."""
        self._keep = keep
        self._wake()

    def drop(self) -> None:
        """Forget what is held: the client is gone."""
        self._parts.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> int:
        return math.floor(self._loop.time() / self._beat_s)

    def _wake(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_at((self._tick() + 1) * self._beat_s, self._flush)

    def _flush(self) -> None:
        self._timer = None
        tick = self._tick()
        if self._parts:
            self.timing_micro += gap_micro(max(tick - self._last_tick, 1))
            self._last_tick = tick
            parts, self._parts = self._parts, []
            self._client.write(self._padded(b"".join(parts)))
        if self._keep is not None:
            self._client.finished(keep=self._keep)

    def _padded(self, data: bytes) -> bytes:
        """Return ``data`` with its first chunk's size line lengthened to a whole number of pads."""
        start = 0
        if not self._begun:
            self._begun = True
            start = data.find(b"\r\n\r\n") + 4
            self._chunked = b"\r\ntransfer-encoding: chunked\r\n" in data[:start].lower()
        if not (self._chunked and self._pad_bytes) or start >= len(data):
            return data
        short = -(len(data) + len(_PAD)) % self._pad_bytes
        end = data.index(b"\r\n", start)
        return data[:end] + _PAD + b"0" * min(short, _MOST_PAD_BYTES) + data[end:]


def gap_micro(ticks: int) -> int:
    """Return the bits of saying that ``ticks`` passed, at least one, in micro-bits (Elias gamma).

    A prefix code of whole numbers, so that the sum bounds what the times of all pieces can carry.
    """
    return _DELAYED_MICRO * (2 * ticks.bit_length() - 1)
