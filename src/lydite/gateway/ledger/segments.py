"""One file of the vault: records in the order of their entries, and where each of them lies.

A segment is written once, from front to back; later only slots are overwritten. It begins with a
mark and the number of the generation whose key its records are under. What a crash left behind the
last whole record is no part of it. Knows no keys.
"""

import bisect
import contextlib
import os
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

from lydite.errors import Reason, StorageError
from lydite.gateway.ledger.generations import sync_directory
from lydite.gateway.ledger.records import DESTROYED, HEAD_BYTES, SLOT_BYTES, Head, parse_head

_MARK = b"lydite vault 1\r\n"
FIRST_BYTE = len(_MARK) + 8
_GONE = 0
"""In place of an offset: no record begins with the mark."""


class Segment:
    """The records of one file. Whoever uses it sees to it that one thread at a time does."""

    def __init__(self, path: Path, generation: int) -> None:
        self.path = path
        self.generation = generation
        self.end = FIRST_BYTE
        self.live = 0
        self._numbers = array("Q")
        self._offsets = array("Q")

    @classmethod
    def create(cls, path: Path, generation: int) -> Self:
        """Begin a segment; its name survives a loss of power.

        Raises:
            OSError: the disk refused.
        """
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            write_all(file, _MARK + generation.to_bytes(8), 0)
            os.fsync(file)
        finally:
            os.close(file)
        sync_directory(path.parent)
        return cls(path, generation)

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Read where a segment's records are; ``None`` for a file that a crash cut at its birth.

        Raises:
            StorageError: it is no segment.
        """
        with opened(path) as file:
            start = os.pread(file, FIRST_BYTE, 0)
            if len(start) < FIRST_BYTE:
                return None
            if not start.startswith(_MARK):
                raise StorageError(f"{path.name} is no segment of a vault", Reason.DAMAGED)
            found = cls(path, int.from_bytes(start[len(_MARK) :]))
            size = os.fstat(file).st_size
            while True:
                data = os.pread(file, HEAD_BYTES + SLOT_BYTES, found.end)
                head = parse_head(data)
                if (
                    head is None
                    or found.end + head.record_bytes > size
                    or head.number <= found.last
                ):
                    return found
                gone = data[HEAD_BYTES:] == DESTROYED
                found.add(head.number, head.record_bytes, gone=gone)

    @property
    def first(self) -> int:
        """The smallest entry number in it, 0 when it is empty."""
        return self._numbers[0] if self._numbers else 0

    @property
    def last(self) -> int:
        """The largest entry number in it, 0 when it is empty."""
        return self._numbers[-1] if self._numbers else 0

    def add(self, number: int, record_bytes: int, *, gone: bool = False) -> None:
        """Take note of the record that was written at the end."""
        self._numbers.append(number)
        self._offsets.append(_GONE if gone else self.end)
        self.live += not gone
        self.end += record_bytes

    def place(self, number: int) -> int | None:
        """Return where the record of an entry begins, ``None`` if it is not here any more."""
        found = bisect.bisect_left(self._numbers, number)
        if found == len(self._numbers) or self._numbers[found] != number:
            return None
        return self._offsets[found] or None

    def forget(self, number: int) -> None:
        """Take note that the slot of an entry that is here was overwritten."""
        self._offsets[bisect.bisect_left(self._numbers, number)] = _GONE
        self.live -= 1

    def numbers(self, first: int, last: int) -> list[int]:
        """Return the entries from ``first`` to ``last`` that are here, in order."""
        start = bisect.bisect_left(self._numbers, first)
        stop = bisect.bisect_right(self._numbers, last)
        places = range(start, stop)
        return [self._numbers[place] for place in places if self._offsets[place]]

    def cut(self, number: int) -> None:
        """Destroy and remove every record above an entry, and what a crash left behind them.

        Raises:
            OSError: the disk refused.
        """
        with opened(self.path) as file:
            if self.last <= number and os.fstat(file).st_size == self.end:
                return
            doomed = self.numbers(number + 1, self.last)
            self.overwrite(self.place(each) for each in doomed)
            keep = bisect.bisect_right(self._numbers, number)
            del self._numbers[keep:], self._offsets[keep:]
            self.end = self._behind_last(file)
            self.live -= len(doomed)
            os.ftruncate(file, self.end)
            os.fdatasync(file)

    def overwrite(self, offsets: Iterable[int | None]) -> None:
        """Overwrite the slots of the records that begin at ``offsets``, and wait for the disk.

        Raises:
            OSError: the disk refused.
        """
        with opened(self.path) as file:
            for offset in offsets:
                if offset is not None:
                    write_all(file, DESTROYED, offset + HEAD_BYTES)
            os.fdatasync(file)

    def next(self, number: int) -> int | None:
        """Return the first entry from ``number`` on that is here, ``None`` if there is none."""
        for place in range(bisect.bisect_left(self._numbers, number), len(self._numbers)):
            if self._offsets[place]:
                return self._numbers[place]
        return None

    def heads(self, first: int, last: int) -> Iterator[Head]:
        """Yield what the records of entries from ``first`` to ``last`` say without a key, in order.

        Raises:
            OSError: the disk refused.
        """
        numbers = self.numbers(first, last)
        if not numbers:
            return
        with opened(self.path) as file:
            for number in numbers:
                head = parse_head(os.pread(file, HEAD_BYTES, self.place(number) or 0))
                if head is not None:
                    yield head

    def _behind_last(self, file: int) -> int:
        """Return where the last record ends, walking from the start: destroyed ones have a head."""
        end = FIRST_BYTE
        for _ in self._numbers:
            head = parse_head(os.pread(file, HEAD_BYTES, end))
            if head is None:
                raise StorageError(f"{self.path.name} of the vault is damaged", Reason.DAMAGED)
            end += head.record_bytes
        return end


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """Yield a descriptor of a file, and close it."""
    file = os.open(path, os.O_RDWR)
    try:
        yield file
    finally:
        os.close(file)


def read_record(file: int, offset: int) -> bytes:
    """Return the record that begins at ``offset``, whole or damaged."""
    head = parse_head(os.pread(file, HEAD_BYTES, offset))
    return b"" if head is None else os.pread(file, head.record_bytes, offset)


def write_all(file: int, data: bytes, offset: int) -> None:
    """Write all of ``data``.

    Raises:
        OSError: the disk refused.
    """
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        offset += written
        view = view[written:]
