"""How a record lies in a file: its length, then what says that it is whole, then itself.

``Summed`` finds what a crash tore. ``Keyed`` finds what somebody changed, moved or made up as well:
its code is keyed, and over the record's number. Knows nothing of what a record means.
"""

import hashlib
import hmac
import os
import zlib
from typing import Protocol

_LENGTH_BYTES = 4
_MAX_RECORD_BYTES = 1 << 28


class Framing(Protocol):
    """Puts records into frames, and takes them out."""

    suffix: str
    """Of the files that are framed like this."""

    @property
    def head_bytes(self) -> int:
        """Return how much longer a frame is than its record."""

    def seal(self, record: bytes, number: int) -> bytes:
        """Return what says that ``record`` is whole, and is the one with this number."""


class Summed:
    """CRC-32, for a disk that only its owner writes to."""

    suffix = ".seg"
    head_bytes = _LENGTH_BYTES + 4

    def seal(self, record: bytes, number: int) -> bytes:  # noqa: ARG002 - any number is as good
        """Return the checksum."""
        return zlib.crc32(record).to_bytes(4, "big")


class Keyed:
    """BLAKE2b, 16 bytes, under a key that the disk does not hold."""

    suffix = ".mac"
    head_bytes = _LENGTH_BYTES + 16

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, record: bytes, number: int) -> bytes:
        """Return the authentication code."""
        code = hashlib.blake2b(number.to_bytes(8, "big"), digest_size=16, key=self._key)
        code.update(record)
        return code.digest()


def frame(framing: Framing, record: bytes, number: int) -> bytes:
    """Return a record as it is written."""
    return len(record).to_bytes(_LENGTH_BYTES, "big") + framing.seal(record, number) + record


def read(framing: Framing, file: int, offset: int, number: int) -> bytes | None:
    """Return the record of this number at ``offset`` of a file, ``None`` where none is whole."""
    head = os.pread(file, framing.head_bytes, offset)
    if len(head) < framing.head_bytes:
        return None
    length = int.from_bytes(head[:_LENGTH_BYTES], "big")
    if not 0 < length <= _MAX_RECORD_BYTES:
        return None
    record = os.pread(file, length, offset + framing.head_bytes)
    whole = len(record) == length
    if not whole or not hmac.compare_digest(framing.seal(record, number), head[_LENGTH_BYTES:]):
        return None
    return record
