r"""The write-ahead log of a log: what its bytes say. Knows nothing of files.

    header = "lydite/wal/v1\n" || marker (8) || u64 base || crc32 of these
    frame  = marker (8) || u32 length of body || crc32 of body || body
    body   = u64 first index || u32 count || entry bundle

One commit is one frame, durable before anything else is written, so that only the last frame can
be torn. The marker is random for each log, so that no entry can hold what looks like a frame.
"""

import struct
import zlib
from collections.abc import Sequence

import msgspec

from lydite.errors import FormatError, Reason, StorageError
from lydite.tlog import tiles

MARKER_BYTES = 8
"""Length of the random marker."""

_MAGIC = b"lydite/wal/v1\n"
_HEADER = struct.Struct(f">{len(_MAGIC)}s{MARKER_BYTES}sQ")
_CRC = struct.Struct(">I")
_FRAME = struct.Struct(f">{MARKER_BYTES}sII")
_BODY = struct.Struct(">QI")


class Contents(msgspec.Struct, frozen=True):
    """What a write-ahead log holds: entries from index ``base`` on, in its first ``length`` bytes.

    What stands behind ``length`` was torn while it was written, so nobody was told of it.
    """

    marker: bytes
    base: int
    entries: list[bytes]
    length: int


def header(marker: bytes, base: int) -> bytes:
    """Return the header of a file whose entries begin at index ``base``."""
    head = _HEADER.pack(_MAGIC, marker, base)
    return head + _CRC.pack(zlib.crc32(head))


def frame(marker: bytes, first: int, entries: Sequence[bytes]) -> bytes:
    """Return the frame that commits ``entries``, the first of which has index ``first``.

    Raises:
        FormatError: an entry is too long.
    """
    body = _BODY.pack(first, len(entries)) + tiles.encode_bundle(entries)
    return _FRAME.pack(marker, len(body), zlib.crc32(body)) + body


def scan(data: bytes) -> Contents:
    """Read a file, up to a torn end.

    Raises:
        StorageError: the header is damaged, or a frame is, and whole ones stand behind it: these
            were acknowledged, so cutting them off would lose entries.
    """
    at = _HEADER.size + _CRC.size
    if len(data) < at or _CRC.unpack_from(data, _HEADER.size)[0] != zlib.crc32(data[: at - 4]):
        raise StorageError("write-ahead log: the header is damaged", Reason.DAMAGED)
    magic, marker, base = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise StorageError("write-ahead log: of another version", Reason.DAMAGED)
    entries: list[bytes] = []
    while (found := _frame_at(data, at, marker)) is not None:
        first, more, at = found
        if first != base + len(entries):
            raise StorageError(
                f"write-ahead log: entry {first} follows {base + len(entries)}", Reason.DAMAGED
            )
        entries += more
    _check_torn(data, at, marker)
    return Contents(marker=marker, base=base, entries=entries, length=at)


def _frame_at(data: bytes, at: int, marker: bytes) -> tuple[int, list[bytes], int] | None:
    """Return first index, entries and end of the whole frame at ``at``, or None."""
    start = at + _FRAME.size
    if len(data) < start + _BODY.size:
        return None
    found, length, crc = _FRAME.unpack_from(data, at)
    body = data[start : start + length]
    whole = found == marker and len(body) == length >= _BODY.size
    if not whole or zlib.crc32(body) != crc:
        return None
    first, count = _BODY.unpack_from(body)
    try:
        return first, tiles.decode_bundle(body[_BODY.size :], count), start + length
    except FormatError as error:
        raise StorageError(f"write-ahead log: {error}", Reason.DAMAGED) from error


def _check_torn(data: bytes, end: int, marker: bytes) -> None:
    at = data.find(marker, end + 1)
    while at >= 0:
        if _frame_at(data, at, marker) is not None:
            raise StorageError(
                f"write-ahead log: damaged at byte {end}, with whole frames behind", Reason.DAMAGED
            )
        at = data.find(marker, at + 1)
