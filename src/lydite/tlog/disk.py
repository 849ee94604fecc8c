"""Bytes on disk that stay: atomic replacement, appending with roll-back, one writer at a time.

Every failure of the operating system becomes a ``StorageError``. Knows nothing of logs.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from lydite.errors import ConfigurationError, StorageError

_MODE = 0o644
_SYNC_THREADS = 8


class failures:  # noqa: N801 - reads as the function that it stands for
    """Turn an ``OSError`` inside into a ``StorageError`` that says ``what`` was attempted.

    No generator: ``contextlib.contextmanager`` takes five times as long, at each turn of the loop.
    """

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        """Say what failed."""
        if isinstance(error, OSError):
            raise StorageError(f"cannot {self._what}: {error.strerror or error}") from error


def place(path: Path, data: bytes, *, durable: bool) -> None:
    """Put ``data`` at ``path`` in one step: a reader sees all of it or what was there before.

    With ``durable`` it survives a loss of power once this returns.

    Raises:
        StorageError: the disk refused; ``path`` is as it was.
    """
    temporary = path.with_name(path.name + ".tmp")
    with failures(f"write {path.name}"):
        try:
            _write(temporary, data, durable=durable)
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):  # the first error is the one to tell
                temporary.unlink()
            raise
        if durable:
            sync(path.parent)


def sync(path: Path) -> None:
    """Make a file's content, or a directory's list of names, survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all(paths: Iterable[Path]) -> None:
    """Do ``sync`` for each of ``paths``, several at a time: a journal commits them together.

    One after the other, each would wait for a commit of its own, some forty times as long.
    """
    with ThreadPoolExecutor(_SYNC_THREADS, "sync") as pool:
        for _ in pool.map(sync, paths):
            pass


def lock(path: Path) -> int:
    """Take the lock file at ``path``, for as long as the returned descriptor is open.

    Raises:
        ConfigurationError: another process holds it.
        StorageError: the disk refused.
    """
    with failures(f"open {path.name}"):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, _MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise ConfigurationError(
            f"{path.parent} is in use by another process; is the same service running already?"
        ) from error
    return descriptor


def read(path: Path) -> bytes | None:
    """Return what is at ``path``, or None if nothing is.

    Raises:
        StorageError: the disk refused.
    """
    with failures(f"read {path.name}"):
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None


class Appender:
    """A file that grows by whole durable pieces; what was refused half-way is rolled back."""

    def __init__(self, path: Path, length: int) -> None:
        """Open ``path``; the first append cuts off what stands behind ``length``.

        Raises:
            StorageError: the disk refused.
        """
        self._directory = path.parent
        self._length = length
        self._clean = False
        with failures(f"open {path.name}"):
            self._descriptor = os.open(path, os.O_WRONLY)

    @classmethod
    def replace(cls, path: Path, data: bytes) -> Self:
        """Put ``data`` at ``path`` in one step, and return it open to append.

        It is durable, and so is its name from the first append on; until then a loss of power
        may bring back what was at ``path`` before.

        Raises:
            StorageError: the disk refused; ``path`` is as it was.
        """
        temporary = path.with_name(path.name + ".tmp")
        with failures(f"write {path.name}"):
            _write(temporary, data, durable=True)
            appender = cls(temporary, len(data))
            try:
                temporary.replace(path)
            except OSError:
                appender.close()
                raise
        return appender

    @property
    def length(self) -> int:
        """Return the number of durable bytes."""
        return self._length

    def append(self, data: bytes) -> None:
        """Append ``data``; it survives a loss of power once this returns.

        Raises:
            StorageError: the disk refused; nothing was appended, and a later try may succeed.
        """
        with failures("append"):
            if not self._clean:
                self._roll_back()
            self._clean = False
            try:
                done = 0
                while done < len(data):
                    done += os.pwrite(self._descriptor, data[done:], self._length + done)
                os.fsync(self._descriptor)
            except OSError:
                with contextlib.suppress(OSError):  # tried again before the next append
                    self._roll_back()
                raise
            self._length += len(data)
            self._clean = True

    def close(self) -> None:
        """Close the file; appending fails from now on."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1  # the number may be another file's by now

    def _roll_back(self) -> None:
        os.ftruncate(self._descriptor, self._length)
        os.fsync(self._descriptor)
        sync(self._directory)
        self._clean = True


def _write(path: Path, data: bytes, *, durable: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _MODE)
    try:
        done = 0
        while done < len(data):
            done += os.write(descriptor, data[done:])
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
