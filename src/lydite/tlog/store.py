"""A log on disk (C2SP tlog-tiles), one writer, crash-safe. Knows nothing of what an entry means.

    wal                    entries since the last full bundle that is durable, and their order
    tile/...               full tiles, and the partial ones of each published checkpoint
    checkpoint             the newest checkpoint that the log signed
    checkpoint.witnessed   the newest one that came back with cosignatures
    lock                   held by the writer

Order of writing: an entry is durable in ``wal`` before anyone learns its index, unless whoever
appends keeps it safe itself and says so (``stage``), and in any case before a checkpoint covers it;
tiles are written before the checkpoint that needs them; ``wal`` is cut only after the full tiles
that replace it are durable. So after a loss of power at any moment, ``wal`` and the durable tiles
hold every entry that a checkpoint covers or whose index ``sync`` handed out, each once, and
whatever else was torn is written again from them.
"""

import contextlib
import os
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from lydite.errors import FormatError, Reason, StorageError, UnavailableError
from lydite.signing import notes
from lydite.tlog import checkpoint as checkpoints
from lydite.tlog import disk, recovery, tiles, wal
from lydite.tlog.hashing import leaf_hash
from lydite.tlog.proof import Proof


class Ticket:
    """A place in the queue of a log: no index before the entries are durable."""

    __slots__ = ("_error", "_indices", "entries")

    def __init__(self, entries: Sequence[bytes]) -> None:
        self.entries = tuple(entries)
        self._indices: range | None = None
        self._error: StorageError | None = None

    def indices(self) -> range:
        """Return the indices of the entries, in their order.

        Raises:
            StorageError: the disk refused them, or nobody has called ``sync`` since.
        """
        if self._indices is None:
            raise self._error or StorageError("not durable; call sync", Reason.UNAVAILABLE)
        return self._indices

    def settle(self, outcome: range | StorageError) -> None:
        """Say what became of the entries; done once, by the log."""
        if isinstance(outcome, range):
            self._indices = outcome
        else:
            self._error = outcome


class LogStore:
    """A transparency log in a directory. Its methods may be called from several threads."""

    ROTATE_BYTES = 1 << 20
    """Length of ``wal`` from which publishing makes tiles durable and cuts it."""

    def __init__(self, path: Path, lock: int, signer: notes.Signer, found: recovery.Log) -> None:
        """Use ``open``; this takes what recovery found."""
        self._path = path
        self._lock = lock
        self._signer = signer
        self._origin = found.newest.checkpoint.origin
        self._tree = found.tree
        self._newest, self._witnessed = found.newest, found.witnessed
        self._marker = found.marker
        self._recent = found.recent
        self._wal = disk.Appender(path / "wal", found.wal_length)
        self._agrees = True
        self._queue: list[Ticket] = []
        self._staged = found.tree.size
        self._writing = threading.Lock()
        self._queueing = threading.Lock()
        self._committing = threading.Lock()
        self._publishing = threading.Lock()

    @classmethod
    def open(cls, path: Path, origin: str, signer: notes.Signer) -> Self:
        """Open the log at ``path``, or begin one; what a crash left unfinished is mended.

        Raises:
            ConfigurationError: another process has it open.
            StorageError: the disk refused, or what the log wrote is damaged (``DAMAGED``).
            VerificationError: the disk holds less than the newest signed checkpoint or another
                tree (``INCONSISTENT_LOG``), or a log of another name or key.
        """
        with disk.failures("create the log"):
            path.mkdir(parents=True, exist_ok=True)
        lock = disk.lock(path / "lock")
        try:
            store = cls(path, lock, signer, recovery.recover(path, origin, signer))
        except BaseException:
            os.close(lock)
            raise
        try:
            store.publish()
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Close the log; entries still queued are refused."""
        with self._publishing, self._writing, self._committing:
            for ticket in self._take():
                ticket.settle(StorageError("the log was closed", Reason.UNAVAILABLE))
            self._wal.close()
            if self._lock >= 0:
                os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def origin(self) -> str:
        """Return the name of the log, which is also that of its key."""
        return self._origin

    @property
    def key(self) -> notes.VerifierKey:
        """Return the key that verifies the log's checkpoints."""
        return notes.verifier_key(self._origin, self._signer)

    @property
    def size(self) -> int:
        """Return the number of entries; the newest checkpoint may cover fewer."""
        return self._tree.size

    def root(self, size: int | None = None) -> bytes:
        """Return the root at ``size`` (of all entries if None)."""
        return self._tree.root(size)

    def append(self, entries: Sequence[bytes]) -> Ticket:
        """Queue ``entries``; they get their indices from the next ``sync``.

        Raises:
            FormatError: one has more than 65 535 bytes; none is queued.
        """
        if max(map(len, entries), default=0) > tiles.MAX_ENTRY_BYTES:
            raise FormatError(f"entry: more than {tiles.MAX_ENTRY_BYTES} bytes", Reason.TOO_LARGE)
        ticket = Ticket(entries)
        with self._queueing:
            self._queue.append(ticket)
        return ticket

    def sync(self) -> None:
        """Make everything queued durable in one write, and settle its tickets.

        Raises:
            StorageError: the disk refused; nothing of it is in the log, and a later call with
                new entries may succeed.
        """
        with self._writing:
            self._flush()
            with self._committing:
                self._check_agrees()
                tickets = self._take()
                self._commit(tickets)

    def stage(self, entries: Sequence[bytes]) -> range:
        """Append ``entries`` that the caller keeps safe, and return their indices at once.

        They are in memory until the next ``publish`` or ``sync``; after a crash before that, the
        caller has to stage them again, in the same order.

        Raises:
            FormatError: one has more than 65 535 bytes.
            StorageError: the log is closed.
        """
        if max(map(len, entries), default=0) > tiles.MAX_ENTRY_BYTES:
            raise FormatError(f"entry: more than {tiles.MAX_ENTRY_BYTES} bytes", Reason.TOO_LARGE)
        with self._committing:
            self._check_agrees()
            first = self._tree.size
            self._recent.entries.extend(entries)  # before the tree, whose size readers go by
            self._tree.extend(entries)
            return range(first, first + len(entries))

    def append_durable(self, entries: Sequence[bytes]) -> range:
        """Append ``entries`` and return their indices, once they survive a loss of power.

        Threads that call this at the same time share one write.

        Raises:
            FormatError: one has more than 65 535 bytes.
            StorageError: the disk refused; none of them is in the log.
        """
        ticket = self.append(entries)
        with contextlib.suppress(StorageError):  # ours, if it was ours, is on the ticket
            self.sync()
        return ticket.indices()

    def publish(self) -> bytes:
        """Make what was staged durable, sign a checkpoint over every entry, and return its note.

        Raises:
            StorageError: the disk refused; the newest checkpoint is still the one before.
        """
        with self._publishing:
            with self._writing:
                self._flush()
                old, size = self._newest.checkpoint.size, self._staged
            if size > old:
                for tile in tiles.between(old, size):
                    recovery.place_tile(self._path, tile, self._tree, self._recent)
                self._sign(size)
                self._drop_partial(old, size)
            if self._wal.length > self.ROTATE_BYTES:
                self._rotate(size)
            return self._newest.note.encode()

    def checkpoint(self) -> bytes:
        """Return the newest signed checkpoint, with the cosignatures that it has so far."""
        return self._newest.note.encode()

    def witnessed(self) -> bytes | None:
        """Return the newest checkpoint that has cosignatures, or None."""
        return None if self._witnessed is None else self._witnessed.note.encode()

    def attach_cosignatures(
        self, checkpoint: bytes, cosignatures: Sequence[notes.Signature]
    ) -> bytes:
        """Attach ``cosignatures``, verified by the caller, to a ``checkpoint`` of this log.

        Returns the newest checkpoint that has cosignatures, which is an older one's successor if
        that came late. A cosignature by the same key takes the older one's place.

        Raises:
            FormatError: there are more cosignatures than a note may have.
            VerificationError: it is no checkpoint of this log.
            StorageError: the disk refused.
        """
        note = notes.parse(checkpoint)
        with self._publishing:
            head = recovery.open_head(note, self.key, self._tree)
            known = self._witnessed
            if known is not None and head.checkpoint.size < known.checkpoint.size:
                return known.note.encode()
            if known is not None and head.checkpoint.size == known.checkpoint.size:
                bare = known.note
            else:
                own = [each for each in note.signatures if each.key_id == self.key.key_id]
                bare = notes.Note(note.text, tuple(own))
            merged = recovery.Head(head.checkpoint, notes.attach(bare, cosignatures))
            encoded = merged.note.encode()
            notes.parse(encoded)  # nothing is written that would not be read again
            disk.place(self._path / "checkpoint.witnessed", encoded, durable=True)
            self._witnessed = merged
            if head.checkpoint.size == self._newest.checkpoint.size:
                disk.place(self._path / "checkpoint", encoded, durable=True)
                self._newest = merged
            return encoded

    def entry(self, index: int) -> bytes:
        """Return the entry at ``index``, checked against the tree.

        Raises:
            FormatError: there is no such entry.
            StorageError: the disk does not hold what the tree says (``DAMAGED``).
        """
        leaf = self._tree.hashes(0, index, index + 1)
        recent = self._recent
        if index >= recent.base:
            entry = recent.entries[index - recent.base]
        else:
            bundle = disk.read(self._path / tiles.Tile(None, index // tiles.WIDTH).path)
            try:
                entry = tiles.decode_bundle(bundle or b"", tiles.WIDTH)[index % tiles.WIDTH]
            except FormatError as error:
                raise StorageError(f"entry {index}: {error}", Reason.DAMAGED) from error
        if leaf_hash(entry) != leaf:
            raise StorageError(f"entry {index} is not the one that was logged", Reason.DAMAGED)
        return entry

    def inclusion_proof(self, index: int, size: int) -> list[bytes]:
        """Return the path of the entry at ``index`` in the tree of ``size``."""
        return self._tree.inclusion_proof(index, size)

    def consistency_proof(self, old_size: int, size: int) -> list[bytes]:
        """Return the proof that the tree of ``size`` begins with that of ``old_size``."""
        return self._tree.consistency_proof(old_size, size)

    def proof(self, index: int) -> Proof:
        """Return the proof of the entry at ``index``, by a witnessed checkpoint if one covers it.

        Raises:
            UnavailableError: no checkpoint covers it yet.
        """
        for head in (self._witnessed, self._newest):
            if head is not None and 0 <= index < head.checkpoint.size:
                path = self._tree.inclusion_proof(index, head.checkpoint.size)
                return Proof(index=index, path=tuple(path), note=head.note)
        raise UnavailableError(f"entry {index} is in no checkpoint yet")

    def read(self, path: str) -> bytes:
        """Return what is served at ``path``: ``checkpoint``, or a tile by its C2SP path.

        Raises:
            FormatError: it is no such path.
            UnavailableError: the log has no such tile.
        """
        if path == "checkpoint":
            return self.checkpoint()
        content = disk.read(self._path / tiles.parse_path(path).path)
        if content is None:
            raise UnavailableError(f"the log has no {path}")
        return content

    def _commit(self, tickets: Sequence[Ticket]) -> None:
        """Write the entries of ``tickets`` in one frame and settle them."""
        entries = [entry for ticket in tickets for entry in ticket.entries]
        first = self._tree.size
        self._agrees = False  # disk and memory, should this be interrupted
        try:
            if entries:
                self._wal.append(wal.frame(self._marker, first, entries))
        except StorageError as error:
            self._agrees = True
            for ticket in tickets:
                ticket.settle(error)
            raise
        self._recent.entries.extend(entries)  # before the tree, whose size readers go by
        self._tree.extend(entries)
        self._staged = self._tree.size
        self._agrees = True
        for ticket in tickets:
            ticket.settle(range(first, first + len(ticket.entries)))
            first += len(ticket.entries)

    def _flush(self) -> None:
        """Write what was staged; whoever calls holds ``_writing``."""
        with self._committing:
            self._check_agrees()
            first, size, recent = self._staged, self._tree.size, self._recent
            entries = recent.entries[first - recent.base : size - recent.base]
        if entries:
            self._wal.append(wal.frame(self._marker, first, entries))
            self._staged = size

    def _check_agrees(self) -> None:
        self._check_open()
        if not self._agrees:
            raise StorageError("a commit was interrupted; open the log again")

    def _check_open(self) -> None:
        if self._lock < 0:
            raise StorageError("the log is closed", Reason.UNAVAILABLE)

    def _take(self) -> list[Ticket]:
        with self._queueing:
            taken, self._queue = self._queue, []
        return taken

    def _sign(self, size: int) -> None:
        head = checkpoints.Checkpoint(origin=self._origin, size=size, root=self._tree.root(size))
        note = checkpoints.sign(head, self._signer)
        disk.place(self._path / "checkpoint", note.encode(), durable=True)
        self._newest = recovery.Head(head, note)

    def _drop_partial(self, old: int, size: int) -> None:
        """Remove the partial tiles of which the full one is there; what stays is harmless."""
        for tile in tiles.between(old, size):
            if tile.full:
                shutil.rmtree(self._path / f"{tile.path}.p", ignore_errors=True)

    def _rotate(self, size: int) -> None:
        """Make full tiles durable, then cut ``wal`` to what they do not hold."""
        old = self._recent
        recovery.sync_tiles(self._path, old.base, size)
        base = size - size % tiles.WIDTH
        with self._writing, self._committing:
            recent = recovery.Recent(base, old.entries[base - old.base :])
            self._staged = self._tree.size
            data = wal.header(self._marker, base) + wal.frame(self._marker, base, recent.entries)
            appender = disk.Appender.replace(self._path / "wal", data)
            self._wal.close()
            self._wal, self._recent = appender, recent
            self._tree.trim(base - recovery.KEPT_LEAVES)
