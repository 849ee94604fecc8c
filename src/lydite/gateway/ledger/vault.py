"""The vault: input and output of each request, enciphered, until they are drawn or destroyed.

A rolling buffer in segments. Each pair has a key of its own, which a slot in its record completes:
overwriting the slot destroys the pair. ``turn`` begins a new generation of keys; once everything
before it is decided, ``sweep`` enciphers the pairs that are kept anew, removes the segments, and
destroys the keys that they were under. Which pairs those are is not decided here.

Several threads may use it; whoever appends waits for nobody but another who appends or turns.
"""

import contextlib
import heapq
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from lydite.errors import Reason, StorageError, UnavailableError
from lydite.gateway.ledger import moving, records
from lydite.gateway.ledger.generations import Generations, sync_directory
from lydite.gateway.ledger.records import Exchange, Head
from lydite.gateway.ledger.segments import Segment, read_record, write_all
from lydite.tlog import disk

SEGMENT_BYTES = 64 * 1024 * 1024
_ROLLING, _KEPT = ".rolling", ".kept"
_PROBE_BYTES = 256 * 1024
_FEW = 2_000
_MANY, _SMALL = 16, 8
"""So many kept segments, smaller than this part of a segment, are made one."""


class Vault:
    """The pairs of one gateway in one directory, in at most ``vault_bytes`` of it.

    Raises:
        ConfigurationError: the secret is not 32 bytes.
        StorageError: the directory cannot be used, or holds what is no vault.
    """

    def __init__(
        self, directory: Path, secret: bytes, vault_bytes: int, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self._directory = directory
        self._vault_bytes = vault_bytes
        self._segment_bytes = segment_bytes
        self.age_ms = 0
        """The time by which pairs are dated: how long the gateway has run, as its keeper counts."""
        self.closed = ""
        """Why nothing more is taken, empty while it is."""
        self._lock = threading.Lock()
        self._appending = threading.Lock()
        self._changing = threading.Lock()
        self._segments: list[Segment] = []
        with disk.failures("open the vault"):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._generations = Generations(directory, secret)
            self._load()
            self._current = self._begin(_ROLLING, self._generations.add())
            self._file = os.open(self._current.path, os.O_RDWR)
            self._count()

    def close(self) -> None:
        """Close the segment that is written."""
        os.close(self._file)

    @property
    def size_bytes(self) -> int:
        """How much of the disk the segments take."""
        return self._past_bytes + self._current.end

    def live(self, first: int, last: int) -> list[int]:
        """Return the entries from ``first`` to ``last`` whose pairs are here, in order."""
        with self._lock:
            found = [segment.numbers(first, last) for segment in self._segments]
        return sorted({number for numbers in found for number in numbers})

    def heads(self, first: int, last: int) -> Iterator[Head]:
        """Yield number, time, receipt and tag of the pairs from ``first`` to ``last``, in order.

        Whoever destroys and sweeps must not do so meanwhile.

        Raises:
            StorageError: the disk refused.
        """
        with self._lock:
            segments = [each.heads(first, last) for each in self._segments]
        with disk.failures("read the vault"):
            yield from heapq.merge(*segments, key=lambda head: head.number)

    def oldest(self, first: int, last: int) -> Head | None:
        """Return what is known of the first pair from ``first`` to ``last``, if there is one.

        Raises:
            StorageError: the disk refused.
        """
        with self._lock, disk.failures("read the vault"):
            places = [(found, each) for each in self._segments if (found := each.next(first))]
            number, segment = min(places, key=lambda place: place[0], default=(0, None))
            if segment is None or number > last:
                return None
            return next(segment.heads(number, number), None)

    def oldest_segments(self, first: int, wanted_bytes: int) -> int:
        """Return up to which entry to drop from ``first`` on for so much room, 0 for nothing.

        What lies in the segment that is being written stays.
        """
        with self._lock:
            past = [each for each in self._segments if each is not self._current]
        last = 0
        for segment in sorted(past, key=lambda each: each.last):
            if wanted_bytes > 0 and segment.next(first):
                last = segment.last
                wanted_bytes -= segment.end
        return last

    @contextlib.contextmanager
    def appending(self, exchanges: Sequence[Exchange]) -> Iterator[None]:
        """Write pairs with larger numbers than all before; keep them if the block succeeds.

        They survive the end of this process at once, a loss of power after the next ``sync``.

        Raises:
            StorageError: the disk refused, or the vault is full (``VAULT_FULL``). Then, and when
                the block raises, nothing remains.
            FormatError: a pair is too large.
        """
        if not exchanges:
            yield
            return
        with self._appending:
            yield from self._append(exchanges)

    def _append(self, exchanges: Sequence[Exchange]) -> Iterator[None]:
        slots = os.urandom(records.SLOT_BYTES * len(exchanges))
        seal = self._generations.cipher(self._current.generation).seal
        sealed = [
            seal(exchange, slots[at : at + records.SLOT_BYTES])
            for exchange, at in zip(
                exchanges, range(0, len(slots), records.SLOT_BYTES), strict=True
            )
        ]
        sizes = list(map(len, sealed))
        with disk.failures("write the vault"):
            self._make_room(sum(sizes))
        try:
            with disk.failures("write the vault"):
                write_all(self._file, b"".join(sealed), self._current.end)
            yield
        except BaseException:
            self._take_back(sizes)
            raise
        with self._lock:
            for exchange, size in zip(exchanges, sizes, strict=True):
                self._current.add(exchange.number, size)

    def sync(self) -> None:
        """Make what was appended survive a loss of power.

        Raises:
            StorageError: the disk refused.
        """
        with self._lock:
            file = os.dup(self._file)
        try:
            with disk.failures("write the vault"):
                os.fdatasync(file)
        finally:
            os.close(file)

    def probe(self) -> None:
        """Try whether something could be appended.

        Raises:
            StorageError: it could not.
        """
        with self._appending, disk.failures("write the vault"):
            self._make_room(0)
            try:
                write_all(self._file, bytes(_PROBE_BYTES), self._current.end)
            finally:
                os.ftruncate(self._file, self._current.end)

    def cut(self, number: int) -> None:
        """Destroy and forget every pair above an entry, and torn ones: nobody was told of them.

        Not done on opening: whoever opens the vault first makes sure that the entries up to
        ``number`` are all there were.

        Raises:
            StorageError: the disk refused.
        """
        with self._lock, disk.failures("cut the vault"):
            for segment in self._segments:
                segment.cut(number)
            self._count()

    def read(self, number: int) -> Exchange:
        """Return the pair of an entry.

        Raises:
            UnavailableError: it was destroyed, or never was (``DESTROYED``).
            StorageError: the disk no longer holds what was written.
        """
        with self._lock, disk.failures("read the vault"):
            segment = self._holder(number)
            offset = None if segment is None else segment.place(number)
            if segment is None or offset is None:
                raise UnavailableError(f"the pair of entry {number} is gone", Reason.DESTROYED)
            file = os.open(segment.path, os.O_RDONLY)
            cipher = self._generations.cipher(segment.generation)
        try:
            with disk.failures("read the vault"):
                record = read_record(file, offset)
        finally:
            os.close(file)
        if records.is_destroyed(record):
            raise UnavailableError(f"the pair of entry {number} is gone", Reason.DESTROYED)
        return cipher.open(record)

    def destroy(self, numbers: Sequence[int]) -> int:
        """Destroy the pairs of entries, those that are here, and return how many those were.

        Raises:
            StorageError: the disk refused; some may be destroyed, and the rest are still here.
        """
        destroyed = 0
        with self._changing, disk.failures("overwrite the vault"):
            for start in range(0, len(numbers), _FEW):
                few = numbers[start : start + _FEW]
                for segment in self._spanning(min(few), max(few)):
                    destroyed += self._destroy_in(segment, few)
        return destroyed

    def turn(self) -> None:
        """Begin a new generation: what is appended from now on is under another key.

        Raises:
            StorageError: the disk refused, and the old generation goes on.
        """
        with self._appending, disk.failures("add to the vault"):
            self._roll(self._generations.add())

    def sweep(self, settled: int) -> list[int]:
        """Move the pairs that are left of entries up to ``settled``, and remove what they lay in.

        Entries up to there are decided on: what of them is to be destroyed is. Afterwards no key
        of theirs is left but those of the pairs that are kept. Returns the entries whose pairs
        were found damaged, and are gone.

        Raises:
            StorageError: the disk refused; nothing is lost, and a later sweep goes on.
        """
        damaged: list[int] = []
        with self._changing, disk.failures("sweep the vault"):
            with self._lock:
                past = [each for each in self._segments if each is not self._current]
                old = [
                    each for each in past if each.path.suffix == _ROLLING and each.last <= settled
                ]
                empty = [each for each in past if each.path.suffix == _KEPT and not each.live]
                small = [each for each in past if each.path.suffix == _KEPT and each.live]
                small = [each for each in small if each.end < self._segment_bytes // _SMALL]
            if len(small) >= _MANY:
                old += small
            if any(segment.live for segment in old):
                damaged = self._move(old)
            for segment in old + empty:
                self._remove(segment)
            with self._lock:
                self._count()
                used = {segment.generation for segment in self._segments}
            self._generations.keep_only(used)
        return damaged

    def _load(self) -> None:
        """Read the segments; of a pair that a killed sweep left in two, one goes."""
        for path in sorted(self._directory.glob("*.*")):
            if path.suffix not in (_ROLLING, _KEPT):
                continue
            segment = Segment.load(path)
            if segment is None:
                path.unlink()
                continue
            self._generations.used(segment.generation)
            for earlier in self._segments:
                moving.part(earlier, segment, self._generations)
            self._segments.append(segment)

    def _holder(self, number: int) -> Segment | None:
        """Return the segment that has the pair of an entry; whoever calls holds the lock."""
        for segment in reversed(self._segments):
            if segment.place(number) is not None:
                return segment
        return None

    def _spanning(self, first: int, last: int) -> list[Segment]:
        with self._lock:
            return [each for each in self._segments if each.first <= last and each.last >= first]

    def _destroy_in(self, segment: Segment, numbers: Sequence[int]) -> int:
        with self._lock:
            places = [(each, place) for each in numbers if (place := segment.place(each))]
        if places:
            segment.overwrite(place for _, place in places)
            with self._lock:
                for number, _ in places:
                    segment.forget(number)
        return len(places)

    def _begin(self, suffix: str, generation: int) -> Segment:
        """Begin a segment behind all others; whoever calls holds the lock, or is alone."""
        names = [int(each.path.stem) for each in self._segments]
        path = self._directory / f"{max(names, default=0) + 1:08d}{suffix}"
        segment = Segment.create(path, generation)
        self._segments.append(segment)
        return segment

    def _count(self) -> None:
        """Count the bytes of all segments but the current; whoever calls holds the lock."""
        self._past_bytes = sum(each.end for each in self._segments) - self._current.end

    def _make_room(self, wanted: int) -> None:
        taken = self.size_bytes
        if self.closed:
            raise StorageError(f"the vault is closed: {self.closed}", Reason.VAULT_FULL)
        if taken + wanted > self._vault_bytes:
            raise StorageError(
                f"the vault holds {taken} of its {self._vault_bytes} bytes", Reason.VAULT_FULL
            )
        if self._current.end >= self._segment_bytes:
            self._roll(self._current.generation)

    def _roll(self, generation: int) -> None:
        with self._lock:
            segment = self._begin(_ROLLING, generation)
            file = os.open(segment.path, os.O_RDWR)
            os.fdatasync(self._file)
            os.close(self._file)
            self._current, self._file = segment, file
            self._count()

    def _take_back(self, sizes: Sequence[int]) -> None:
        """Destroy what was just written; a disk that refuses that leaves it for ``cut``."""
        offset = self._current.end
        with contextlib.suppress(OSError):
            size = os.fstat(self._file).st_size
            for length in sizes:
                if offset + records.HEAD_BYTES + records.SLOT_BYTES <= size:
                    write_all(self._file, records.DESTROYED, offset + records.HEAD_BYTES)
                offset += length
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, self._current.end)

    def _move(self, old: Sequence[Segment]) -> list[int]:
        """Encipher the pairs that are left in segments anew, into a kept one; return the damaged.

        Readers find both copies until the segments are removed, and either will do.
        """
        generation = self._generations.add()
        with self._lock:
            kept = self._begin(_KEPT, generation)
        try:
            return moving.copy(old, kept, self._generations, self._lock)
        except BaseException:
            with self._lock:
                self._segments.remove(kept)
            kept.path.unlink()
            raise

    def _remove(self, segment: Segment) -> None:
        """Overwrite what a segment still holds, and remove it."""
        with self._lock:
            left = [segment.place(number) for number in segment.numbers(0, segment.last)]
        segment.overwrite(left)
        with self._lock:
            self._segments.remove(segment)
        segment.path.unlink()
        sync_directory(self._directory)
