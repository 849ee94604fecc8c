"""Takes the bytes of one upload piece by piece: hashed, then stored, in threads, in bounded memory.

A piece goes into a buffer of its own, is digested and compared, and only then written to the store:
what does not match is never there. Beside it, one thread digests whole files in their order; these
digests are the signed ones. Knows nothing of HTTP, modes or power.
"""

import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from lydite.engines.layout import MOST_BYTES
from lydite.engines.weights import File
from lydite.errors import ConfigurationError, StorageError
from lydite.gateway.modes.bundles import Listed
from lydite.messages.mode import Cause

MODEL = "model"
"""The folder below the store that holds the model; all of it is wiped."""
BUFFERS = 8
_logger = logging.getLogger(__name__)
_HASHERS = min(4, os.cpu_count() or 1)


class Store:
    """A directory in memory, from which a machine without disks loads its model."""

    def __init__(self, directory: Path) -> None:
        """Look at the directory.

        Raises:
            ConfigurationError: it is not there, or not in memory.
        """
        if not directory.is_dir():
            raise ConfigurationError(f"no store at {directory}: make it, in memory")
        if _filesystem(directory.resolve()) not in {"tmpfs", "ramfs"}:
            raise ConfigurationError(
                f"the store {directory} is not in memory: weights would survive the power; use a "
                "directory below /dev/shm or on a tmpfs of its own"
            )
        self.model = directory / MODEL

    def wipe(self) -> None:
        """Remove the model. The kernel clears the pages before anyone has them.

        Raises:
            StorageError: something is left.
        """
        try:
            if self.model.exists():
                shutil.rmtree(self.model)
        except OSError as error:
            raise StorageError(f"cannot wipe {self.model}: {error}") from error


class Watcher(NamedTuple):
    """Whom an intake tells, from its threads."""

    matched: Callable[[], None]
    failed: Callable[[Cause, str], None]
    room: Callable[[], None]
    """A buffer is free again."""


class _Piece(NamedTuple):
    file: int
    offset: int
    size: int
    digest: bytes
    last: bool
    """Of its file."""


class Intake:
    """One upload. ``buffer`` and ``took`` belong to one thread, the event loop's."""

    def __init__(self, listed: Listed, store: Store, watcher: Watcher) -> None:
        """Make the model's folder and its empty files.

        Raises:
            StorageError: the store refuses.
        """
        self._watcher = watcher
        self._files = listed.files
        self._pieces = _pieces(listed)
        self._free = [bytearray(MOST_BYTES) for _ in range(BUFFERS)]
        self._lock = threading.Lock()
        self._next = 0
        self._fill = 0
        self._current: bytearray | None = None
        self._left = 2 * len(self._pieces)
        self._whole: Any = None
        self._stopped = False
        self._hashers = ThreadPoolExecutor(_HASHERS, thread_name_prefix="pieces")
        self._clerk = ThreadPoolExecutor(1, thread_name_prefix="files")
        try:
            store.model.mkdir()
            self._handles = [_create(store.model / file.name) for file in listed.files]
        except OSError as error:
            raise StorageError(f"cannot fill {store.model}: {error}") from error
        for index, file in enumerate(listed.files):
            if not file.size:
                self._clerk.submit(self._guarded, self._check_empty, index)

    def buffer(self) -> memoryview | None:
        """Return where the next bytes go, None while everything is full or nothing is missing."""
        if self._next == len(self._pieces):
            return None
        if self._current is None:
            with self._lock:
                if not self._free:
                    return None
                self._current = self._free.pop()
        return memoryview(self._current)[self._fill : self._pieces[self._next].size]

    def took(self, length: int) -> None:
        """Take note that ``length`` bytes were put where ``buffer`` said."""
        piece = self._pieces[self._next]
        self._fill += length
        if self._fill < piece.size or self._current is None:
            return
        full, self._current, self._fill = self._current, None, 0
        self._next += 1
        users = [2]
        self._hashers.submit(self._guarded, self._keep, piece, full, users)
        self._clerk.submit(self._guarded, self._account, piece, full, users)

    def close(self) -> None:
        """Drop what is not done yet, wait for the threads, let go of the files. Blocks."""
        self._stopped = True
        self._hashers.shutdown(cancel_futures=True)
        self._clerk.shutdown(cancel_futures=True)
        while self._handles:
            os.close(self._handles.pop())
        self._free.clear()

    def _keep(self, piece: _Piece, data: bytearray, users: list[int]) -> None:
        from blake3 import blake3

        with memoryview(data)[: piece.size] as view:
            if blake3(view).digest() != piece.digest:
                name = self._files[piece.file].name
                self._fail(Cause.WRONG_WEIGHTS, f"{name} at byte {piece.offset}")
                return
            written = 0
            while written < piece.size:
                written += os.pwrite(
                    self._handles[piece.file], view[written:], piece.offset + written
                )
        self._done(data, users)

    def _account(self, piece: _Piece, data: bytearray, users: list[int]) -> None:
        file = self._files[piece.file]
        if piece.offset == 0:
            self._whole = _hasher(file)
        with memoryview(data)[: piece.size] as view:
            self._whole.update(view)
        if piece.last and self._whole.digest() != file.digest:
            self._fail(Cause.WRONG_WEIGHTS, f"{file.name} as a whole")
            return
        self._done(data, users)

    def _check_empty(self, index: int) -> None:
        if _hasher(self._files[index]).digest() != self._files[index].digest:
            self._fail(Cause.WRONG_WEIGHTS, f"{self._files[index].name} is empty")

    def _done(self, data: bytearray, users: list[int]) -> None:
        with self._lock:
            users[0] -= 1
            if not users[0]:
                self._free.append(data)
            self._left -= 1
            over = not self._left
        if self._stopped:
            return
        if over:
            self._watcher.matched()
        elif not users[0]:
            self._watcher.room()

    def _fail(self, cause: Cause, detail: str) -> None:
        self._stopped = True
        self._watcher.failed(cause, detail)

    def _guarded(self, work: Callable[..., None], *arguments: Any) -> None:
        """Run work of a thread: whatever goes wrong in it ends the upload."""
        if self._stopped:
            return
        try:
            work(*arguments)
        except OSError as error:
            self._fail(Cause.NO_ROOM, f"{error.strerror}")
        except Exception as error:  # a bug in a thread would otherwise leave the upload waiting
            _logger.exception("intake")
            self._fail(Cause.WRONG_WEIGHTS, f"internal error: {error!r}"[:200])


def _pieces(listed: Listed) -> list[_Piece]:
    found = []
    for index, laid in enumerate(listed.layout.files):
        offset = 0
        for number, piece in enumerate(laid.pieces, start=1):
            last = number == len(laid.pieces)
            found.append(_Piece(index, offset, piece.size, bytes.fromhex(piece.blake3), last))
            offset += piece.size
    return found


def _hasher(file: File) -> Any:
    if file.algorithm == "sha256":
        return hashlib.sha256()
    from blake3 import blake3

    return blake3()


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)


def _filesystem(path: Path) -> str:
    """Return the type of the file system that holds ``path``."""
    best, found = "", ""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        place = place.replace("\\040", " ")
        inside = path.is_relative_to(place)
        if inside and len(place) >= len(best):
            best, found = place, kind
    return found
