"""Which event ends a stream, for gateway and client alike. Pure; looks at one whole event.

Chat and completions end with ``[DONE]``, the Responses API with an event of one of three types and
no ``[DONE]``. Clients differ in what they take for the end: the OpenAI SDK any data that begins
with ``[DONE]``, others a stripped line; of typed events some read the ``event`` line and some the
``type`` in the data. So an end is only what all of them take for one, and what some client might
take for it but is none is refused: no client sees a clean end where the receipt says that there
was none.
"""

import re
from typing import Protocol

import msgspec

from lydite.errors import FormatError

_BLANK = rb"(?:[ \t\0\v\f]|\xc2\xa0|\xef\xbb\xbf)*"
_DONE_LIKE = re.compile(rb"(?:^|[\r\n])%b(?:data%b:%b)?\[DONE\]" % (_BLANK, _BLANK, _BLANK))
_DATA_LINE = re.compile(rb"^data(?::.*)?$", re.MULTILINE)
_DATA_LIKE = re.compile(rb"^%bdata%b(?::|$)" % (_BLANK, _BLANK), re.MULTILINE)
_EVENT_LIKE = re.compile(rb"^%bevent%b:%b(.*)$" % (_BLANK, _BLANK, _BLANK), re.MULTILINE)
_DONE = b"[DONE]"
_DONE_LINES = ([b"data: [DONE]"], [b"data:[DONE]"])
_LAST_TYPES = frozenset(("response.completed", "response.failed", "response.incomplete"))


class Ending(Protocol):
    """How the streams of one path end."""

    mark: bytes
    """Bytes without which no event is the last, nor like it."""

    def is_last(self, event: bytes) -> bool:
        """Say whether a whole event, with its blank line, ends its stream.

        Raises:
            FormatError: it does not, but a client might take it for one that does.
        """


class DoneEnding:
    """Streams that end with ``data: [DONE]``."""

    mark = _DONE

    def is_last(self, event: bytes) -> bool:
        """Say whether an event is ``[DONE]``, in one of the two spellings that are in use.

        Raises:
            FormatError: it is not, but a client might take it for that.
        """
        if _DONE_LIKE.search(event) is None:
            return False
        if _DATA_LINE.findall(event.replace(b"\r", b"\n")) not in _DONE_LINES:
            raise FormatError("the engine's stream imitates its end")
        return True


class TypedEnding:
    """Streams of the Responses API: they end with the event that holds the whole response."""

    mark = b""

    def is_last(self, event: bytes) -> bool:
        """Say whether an event is of a type that comes last.

        An error without a type is none, since the SDKs raise on it.

        Raises:
            FormatError: its ``event`` line and its data do not agree, or it is no event that the
                API knows: data on several lines, not JSON, without a type, or ``[DONE]``.
        """
        text = event.replace(b"\r", b"\n")
        data = _DATA_LINE.findall(text)
        names = {name.strip().decode("utf-8", "replace") for name in _EVENT_LIKE.findall(text)}
        if len(data) != len(_DATA_LIKE.findall(text)) or len(data) > 1 or len(names) > 1:
            raise FormatError("the engine's stream imitates an event of one line")
        if not data:
            return _no_last(names)
        last = _type_of(data[0]) in _LAST_TYPES
        if names and last is not bool(names & _LAST_TYPES):
            raise FormatError("the engine's stream imitates its end")
        return last


_DONE_ENDING = DoneEnding()
_BY_PATH: dict[bytes, Ending] = {b"/v1/responses": TypedEnding()}


def of_path(path: bytes) -> Ending:
    """Return how the streams of a path end."""
    return _BY_PATH.get(path, _DONE_ENDING)


class _Typed(msgspec.Struct):
    type: str | None = None
    error: dict[str, object] | None = None


def _type_of(line: bytes) -> str:
    try:
        told = msgspec.json.decode(line.partition(b":")[2], type=_Typed)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"the engine's stream holds no typed event: {error}") from error
    if told.type is None and not told.error:
        raise FormatError("the engine's stream holds an event without a type")
    return told.type or "error"


def _no_last(names: set[str]) -> bool:
    """Return False for a comment or the like; the name of a last event alone is an imitation."""
    if names & _LAST_TYPES:
        raise FormatError("the engine's stream imitates its end")
    return False
