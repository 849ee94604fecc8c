"""The vault's keys: one for each generation of its segments, gone when the last of them is gone.

A generation's key comes from 32 random bytes in a file of its own and from the secret of the
device. Destroying the file destroys whatever the generation enciphered, even for those who hold the
device, its secret and every old copy of the segments; what they must not hold is an old copy of
this small file. Knows nothing of records.
"""

import hashlib
import os
from collections.abc import Container
from pathlib import Path

from lydite.errors import ConfigurationError, Reason, StorageError
from lydite.gateway.ledger.records import Cipher

SECRET_BYTES = 32
_SUFFIX = ".key"


class Generations:
    """The keys in one directory. ``secret`` is the device's 32 bytes."""

    def __init__(self, directory: Path, secret: bytes) -> None:
        if len(secret) != SECRET_BYTES:
            raise ConfigurationError(f"the vault's secret has 32 bytes, not {len(secret)}")
        self._directory = directory
        self._secret = secret
        self._ciphers: dict[int, Cipher] = {}
        for path in directory.glob("*.new"):
            path.unlink()
        self._known = {int(path.stem) for path in directory.glob(f"*{_SUFFIX}")}
        self._newest = max(self._known, default=0)

    def used(self, number: int) -> None:
        """Take note that something is under generation ``number``, so that none is its namesake."""
        self._newest = max(self._newest, number)

    def add(self) -> int:
        """Make a new generation, durably, and return its number.

        Raises:
            StorageError: the disk refused.
        """
        number = self._newest + 1
        path = self._path(number)
        try:
            place(path, os.urandom(SECRET_BYTES))
        except OSError as error:
            raise StorageError(f"cannot write a key of the vault: {error.strerror}") from error
        self._known.add(number)
        self._newest = number
        return number

    def cipher(self, number: int) -> Cipher:
        """Return what enciphers a generation.

        Raises:
            StorageError: its key is not there.
        """
        found = self._ciphers.get(number)
        if found is None:
            try:
                raw = self._path(number).read_bytes()
            except OSError as error:
                raise StorageError(
                    f"generation {number} of the vault has no key: {error.strerror}", Reason.DAMAGED
                ) from error
            mixed = hashlib.blake2b(
                raw + number.to_bytes(8),
                key=self._secret,
                digest_size=32,
                person=b"lydite/vault/v1",
            )
            found = self._ciphers[number] = Cipher(mixed.digest())
        return found

    def keep_only(self, used: Container[int]) -> None:
        """Destroy every key but those of the generations in ``used``."""
        for number in [each for each in self._known if each not in used]:
            destroy(self._path(number))
            self._known.remove(number)
            self._ciphers.pop(number, None)

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:08d}{_SUFFIX}"


def unsealed_secret(path: Path) -> bytes:
    """Return the secret in a file that only its owner may read, making one at the first start.

    For machines without a device key to seal it under: whoever copies the disk has it.

    Raises:
        ConfigurationError: the file is readable by others, damaged or cannot be written.
    """
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            place(path, os.urandom(SECRET_BYTES))
        if path.stat().st_mode & 0o077:
            raise ConfigurationError(f"{path} is readable by others; run chmod 600 on it")
        secret = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot use {path}: {error.strerror}") from error
    if len(secret) != SECRET_BYTES:
        raise ConfigurationError(f"{path} has {len(secret)} bytes, expected {SECRET_BYTES}")
    return secret


def place(path: Path, content: bytes) -> None:
    """Write a small secret file with mode 0600 so that a crash leaves all of it or nothing."""
    fresh = path.with_suffix(".new")
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(file, content)
        os.fsync(file)
    finally:
        os.close(file)
    fresh.rename(path)
    sync_directory(path.parent)


def destroy(path: Path) -> None:
    """Overwrite a small secret file, then remove it."""
    file = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(file, bytes(os.fstat(file).st_size), 0)
        os.fdatasync(file)
    finally:
        os.close(file)
    path.unlink()
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make names in a directory survive a loss of power."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
