"""The events of a streamed answer, as every client of its API reads them, or none at all.

Server-sent events of which only ``data`` counts. Knows nothing of what the data says.
"""

import codecs
from collections.abc import Iterator

from lydite.errors import FormatError, Reason

DONE = b"[DONE]"
"""The data of the last event."""


def events_of(stream: bytes) -> Iterator[bytes]:
    """Yield the data of each server-sent event; one that a cut stream left unfinished is none.

    Raises:
        FormatError: a byte order mark, which clients read or skip, or a named event, which they
            read in ways of their own.
    """
    if stream.startswith(codecs.BOM_UTF8):
        raise FormatError("answer: a byte order mark", Reason.ODD_ANSWER)
    *lines, rest = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    data: list[bytes] = []
    for line in lines:
        field, _, value = line.partition(b":")
        if field != b"data" and len(line.decode("utf-8", "replace").splitlines()) > 1:
            raise FormatError("answer: a line that some clients read as two", Reason.ODD_ANSWER)
        if field == b"event":
            raise FormatError("answer: an event with a name", Reason.ODD_ANSWER)
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif not line and data:
            yield b"\n".join(data)
            data = []
    if data == [DONE] or (not data and rest == b"data: " + DONE):
        yield DONE
