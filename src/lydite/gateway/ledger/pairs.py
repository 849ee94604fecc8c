"""The journal: every logged statement in the order of the log.

Record number n stands behind entry n of the log, so the log can always be completed from here and
is never ahead. Records lie in segments, framed; a torn tail is cut at start. One thread writes.
Its memory does not grow with receipts but for eight bytes each. Knows nothing of HTTP or of the
tree.
"""

import contextlib
import hashlib
import os
from array import array
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import msgspec

from lydite.errors import FormatError, Reason, StorageError
from lydite.gateway.ledger import framing
from lydite.gateway.ledger.framing import Framing, Keyed, Summed
from lydite.gateway.ledger.index import ReceiptIndex
from lydite.messages.entry import EntryKind
from lydite.signing.dsse import Envelope, payload_of

SEGMENT_BYTES = 256 * 1024 * 1024
_OFFSET_BITS = 40
_SUFFIXES = {Summed.suffix, Keyed.suffix}
_PROBE_BYTES = 256 * 1024


class Pair(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, array_like=True):
    """One record. ``body`` of a receipt is its statement, of all else the canonical envelope.

    A receipt has its id as well; its signatures are deterministic, so they need no place on disk.
    What was said under it is in the vault, if anywhere.
    """

    kind: EntryKind
    body: bytes
    receipt_id: str = ""

    def statement(self) -> bytes:
        """Return the bytes that the log's leaf commits to."""
        if self.kind == "receipt":
            return self.body
        return payload_of(msgspec.json.decode(self.body, type=Envelope))


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Pair).decode


class Journal:
    """Append-only store of pairs in one directory; what was appended survives a loss of power.

    With a ``key`` records are authenticated, and only those of the ``plain`` segments are not.

    Raises:
        StorageError: the directory cannot be used, a record other than the last is damaged, or
            segments are of another kind than they should be.
    """

    def __init__(
        self,
        directory: Path,
        segment_bytes: int = SEGMENT_BYTES,
        key: bytes | None = None,
        plain: Collection[str] = (),
    ) -> None:
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._framing: Framing = Summed() if key is None else Keyed(key)
        self._framings: list[Framing] = []
        self._places = array("Q")
        self._receipts = ReceiptIndex()
        self._by_digest: dict[bytes, int] = {}
        self._by_kind: dict[EntryKind, list[int]] = {}
        self._files: list[int] = []
        self._end = 0
        directory.mkdir(parents=True, exist_ok=True)
        segments = sorted(path for path in directory.iterdir() if path.suffix in _SUFFIXES)
        for path in segments:
            kind = Summed() if path.name in plain else self._framing
            if path.suffix != kind.suffix:
                raise StorageError(f"journal {path.name} is of another kind", Reason.DAMAGED)
            self._framings.append(kind)
            self._open_segment(path, last=path is segments[-1])
        if not self._files or self._framings[-1].suffix != self._framing.suffix:
            self._add_segment()

    def __len__(self) -> int:
        return len(self._places)

    def number_of(self, receipt_id: str) -> int | None:
        """Return the 1-based entry number of a receipt, ``None`` when there is none."""
        for numbers in self._receipts.candidates(receipt_id):
            for number in numbers:
                if self.read(number).receipt_id == receipt_id:
                    return number
        return None

    def number_of_envelope(self, digest: bytes) -> int | None:
        """Return the 1-based entry number of an envelope, no receipt's, by its SHA-256."""
        return self._by_digest.get(digest)

    def of_kind(self, kind: EntryKind) -> tuple[int, ...]:
        """Return the 1-based entry numbers of one kind, which is not receipts, in order."""
        return tuple(self._by_kind.get(kind, ()))

    def read(self, number: int) -> Pair:
        """Return the pair behind the 1-based entry ``number``.

        Raises:
            FormatError: there is no such record.
            StorageError: the disk no longer holds what was written.
        """
        if not 1 <= number <= len(self._places):
            raise FormatError(f"no entry {number} in a journal of {len(self._places)}")
        place = self._places[number - 1]
        segment, offset = place >> _OFFSET_BITS, place & (1 << _OFFSET_BITS) - 1
        record = framing.read(self._framings[segment], self._files[segment], offset, number)
        if record is None:
            raise StorageError(f"entry {number} of the journal is damaged", Reason.DAMAGED)
        return _decode(record)

    def after(self, number: int) -> Iterator[Pair]:
        """Yield the pairs behind the entries later than the 1-based ``number``."""
        for later in range(number + 1, len(self._places) + 1):
            yield self.read(later)

    @contextlib.contextmanager
    def appending(self, pairs: Sequence[Pair]) -> Iterator[int]:
        """Write pairs, yield the 1-based number of the first, and keep them if the block succeeds.

        They survive the end of this process at once, a loss of power after the next ``sync``.

        Raises:
            StorageError: the disk refused. Then, and when the block raises, nothing remains.
        """
        if self._end >= self._segment_bytes:
            self._add_segment()
        records = enumerate(map(_encode, pairs), len(self._places) + 1)
        frames = [framing.frame(self._framing, record, number) for number, record in records]
        try:
            self._write(b"".join(frames))
            yield len(self._places) + 1
        except BaseException:
            self.cut_torn_tail()
            raise
        for pair, frame in zip(pairs, frames, strict=True):
            self._index(pair)
            self._end += len(frame)

    def cut_torn_tail(self) -> None:
        """Remove what a crash left behind the last whole record.

        Not done on opening: whoever opens the journal first makes sure that it is not shorter than
        the log, so that a damaged record is never mistaken for a torn one.
        """
        os.ftruncate(self._files[-1], self._end)

    def sync(self) -> None:
        """Make everything that was written survive a loss of power.

        Raises:
            StorageError: the disk refused.
        """
        try:
            os.fdatasync(self._files[-1])
        except OSError as error:
            raise StorageError(f"cannot write the journal: {error.strerror}") from error

    def probe(self) -> None:
        """Try whether the disk takes bytes again, leaving nothing behind.

        Raises:
            StorageError: it does not.
        """
        try:
            self._write(bytes(_PROBE_BYTES))
            self.sync()
        finally:
            self.cut_torn_tail()

    def close(self) -> None:
        """Close the segments."""
        for file in self._files:
            os.close(file)
        self._files.clear()

    def _write(self, data: bytes) -> None:
        file, offset, view = self._files[-1], self._end, memoryview(data)
        try:
            while view:
                written = os.pwrite(file, view, offset)
                offset += written
                view = view[written:]
        except OSError as error:
            raise StorageError(f"cannot write the journal: {error.strerror}") from error

    def _add_segment(self) -> None:
        path = self._directory / f"{len(self._files):08d}{self._framing.suffix}"
        if self._files:
            self.sync()
        try:
            self._files.append(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            _sync_directory(self._directory)
        except OSError as error:
            raise StorageError(f"cannot add a segment to the journal: {error.strerror}") from error
        self._framings.append(self._framing)
        self._end = 0

    def _open_segment(self, path: Path, *, last: bool) -> None:
        """Index a segment's records, up to what a crash tore in the last one."""
        file = os.open(path, os.O_RDWR)
        self._files.append(file)
        self._end = 0
        kind = self._framings[-1]
        while (record := framing.read(kind, file, self._end, len(self._places) + 1)) is not None:
            self._index(_decode(record))
            self._end += kind.head_bytes + len(record)
        if not last and self._end != os.fstat(file).st_size:
            raise StorageError(
                f"journal {path.name} is damaged after byte {self._end}", Reason.DAMAGED
            )

    def _index(self, pair: Pair) -> None:
        self._places.append(len(self._files) - 1 << _OFFSET_BITS | self._end)
        number = len(self._places)
        if pair.kind == "receipt":
            self._receipts.add(pair.receipt_id, number)
            return
        self._by_digest[hashlib.sha256(pair.body).digest()] = number
        self._by_kind.setdefault(pair.kind, []).append(number)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
