"""Cuts an engine's event stream at whole events, so that a broken one never ends mid-event.

Bytes come out as they went in, only later: the event in progress is held, and the last event with
all that follows it is held until the stream has ended well. Pure; knows nothing of receipts but the
shape of their line, and of the last event what ``endings`` says. A line ends in LF or CRLF; a
stream that ends its lines in a lone CR is held until it is too large or over, and then counts as
broken.
"""

import re

from lydite.errors import FormatError, Reason
from lydite.gateway.wire import holds_forged_line
from lydite.messages.endings import Ending

_EVENT_END = re.compile(rb"\n\r?\n")
_WORD = b"lydite-receipt"


class EventCutter:
    """One stream's state. Feed it what arrives, send on what it returns.

    ``held`` never grows beyond ``limit`` bytes.
    """

    __slots__ = ("_ending", "_held", "_limit", "_mark", "done")

    def __init__(self, limit: int, ending: Ending) -> None:
        self._held = bytearray()
        self._limit = limit
        self._ending = ending
        self._mark = ending.mark
        self.done = False
        """Whether the last event has come; it and what follows is in ``finish``."""

    def feed(self, data: bytes) -> bytes:
        """Take more of the stream and return the whole events that may be sent on now.

        Raises:
            FormatError: an event, or what follows the last one, is larger than the limit, or a line
                imitates the gateway's receipt, or an event the last one.
        """
        plain = self._mark not in data and _WORD not in data
        if plain and not self._held and data.endswith(b"\n\n"):
            return data  # the usual read: whole events and nothing special among them
        held = self._held
        start = max(0, len(held) - 2)  # of a blank line, two bytes may have come before
        held += data
        cut = 0 if self.done else _last_event_end(held, start)
        whole = bytes(held[:cut])
        del held[:cut]
        if holds_forged_line(whole):
            raise FormatError("the engine's stream imitates a receipt line")
        if self._mark in whole:
            whole = self._split_at_last(whole)
        if len(held) > self._limit:
            raise FormatError(f"an event of more than {self._limit} bytes", Reason.TOO_LARGE)
        return whole

    def finish(self) -> bytes:
        """Return the held last event and what follows it.

        Raises:
            FormatError: as ``feed``.
        """
        held = bytes(self._held)
        if holds_forged_line(held):
            raise FormatError("the engine's stream imitates a receipt line")
        return held

    def _split_at_last(self, whole: bytes) -> bytes:
        """Return the events before the last, which is held, and all if the last is not here."""
        start = 0
        for end in _EVENT_END.finditer(whole):
            if self._ending.is_last(whole[start : end.end()]):
                self.done = True
                self._held[:0] = whole[start:]
                return whole[:start]
            start = end.end()
        return whole


def _last_event_end(buffer: bytearray, start: int) -> int:
    """Return the offset behind the last blank line from ``start`` on, 0 when there is none."""
    bare, carriage = buffer.rfind(b"\n\n", start), buffer.rfind(b"\n\r\n", start)
    return max(bare + 2 if bare >= 0 else 0, carriage + 3 if carriage >= 0 else 0)
