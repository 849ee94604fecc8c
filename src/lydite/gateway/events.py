"""Cuts an engine's event stream at whole events, so that a broken one never ends mid-event.

Bytes come out as they went in, only later: the event in progress is held, and ``[DONE]`` with all
that follows it is held until the stream has ended well. Pure; knows nothing of receipts but the
shape of their line. A line ends in LF or CRLF; a stream that ends its lines in a lone CR is held
until it is too large or over, and then counts as broken.

Clients differ in what they take for the end: the OpenAI SDK any data that begins with ``[DONE]``,
others a stripped line. So the end has two spellings, and what some client might take for it but is
neither is refused: no client sees a clean end where the receipt says that there was none.
"""

import re

from lydite.errors import FormatError, Reason
from lydite.gateway.wire import holds_forged_line

_EVENT_END = re.compile(rb"\n\r?\n")
_BLANK = rb"(?:[ \t\0\v\f]|\xc2\xa0|\xef\xbb\xbf)*"
_DONE_LIKE = re.compile(rb"(?:^|[\r\n])%b(?:data%b:%b)?\[DONE\]" % (_BLANK, _BLANK, _BLANK))
_DATA_LINE = re.compile(rb"^data(?::.*)?$", re.MULTILINE)
_DONE = b"[DONE]"
_DONE_LINES = ([b"data: [DONE]"], [b"data:[DONE]"])
_WORD = b"lydite-receipt"


class EventCutter:
    """One stream's state. Feed it what arrives, send on what it returns.

    ``held`` never grows beyond ``limit`` bytes.
    """

    __slots__ = ("_held", "_limit", "done")

    def __init__(self, limit: int) -> None:
        self._held = b""
        self._limit = limit
        self.done = False
        """Whether the ``[DONE]`` event has come; it and what follows is in ``finish``."""

    def feed(self, data: bytes) -> bytes:
        """Take more of the stream and return the whole events that may be sent on now.

        Raises:
            FormatError: an event, or what follows ``[DONE]``, is larger than the limit, or a line
                imitates the gateway's receipt, or an event the last one.
        """
        plain = _DONE not in data and _WORD not in data
        if plain and not self._held and data.endswith(b"\n\n"):
            return data  # the usual read: whole events and nothing special among them
        buffer = self._held + data
        if self.done:
            return self._hold(buffer)
        cut = _last_event_end(buffer)
        whole, rest = buffer[:cut], buffer[cut:]
        if holds_forged_line(whole):
            raise FormatError("the engine's stream imitates a receipt line")
        if _DONE in whole:
            whole, rest = self._split_at_done(whole, rest)
        self._hold(rest)
        return whole

    def finish(self) -> bytes:
        """Return the held ``[DONE]`` event and what follows it.

        Raises:
            FormatError: as ``feed``.
        """
        if holds_forged_line(self._held):
            raise FormatError("the engine's stream imitates a receipt line")
        return self._held

    def _split_at_done(self, whole: bytes, rest: bytes) -> tuple[bytes, bytes]:
        start = 0
        for end in _EVENT_END.finditer(whole):
            if _is_done(whole[start : end.end()]):
                self.done = True
                return whole[:start], whole[start:] + rest
            start = end.end()
        return whole, rest

    def _hold(self, rest: bytes) -> bytes:
        if len(rest) > self._limit:
            raise FormatError(f"an event of more than {self._limit} bytes", Reason.TOO_LARGE)
        self._held = rest
        return b""


def _is_done(event: bytes) -> bool:
    """Say whether a whole event ends its stream.

    Raises:
        FormatError: it does not, but a client might take it for one that does.
    """
    if _DONE_LIKE.search(event) is None:
        return False
    if _DATA_LINE.findall(event.replace(b"\r", b"\n")) not in _DONE_LINES:
        raise FormatError("the engine's stream imitates its end")
    return True


def _last_event_end(buffer: bytes) -> int:
    """Return the offset behind the last blank line, 0 when there is none."""
    bare, carriage = buffer.rfind(b"\n\n"), buffer.rfind(b"\n\r\n")
    return max(bare + 2 if bare >= 0 else 0, carriage + 3 if carriage >= 0 else 0)
