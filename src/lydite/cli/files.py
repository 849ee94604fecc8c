"""Files that a person names: read or made whole, or an error that says which and why."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from lydite.errors import ConfigurationError, Reason
from lydite.signing.dsse import PublicKey

LIMIT_BYTES = 64 * 1024 * 1024
"""Longest file that is read: what hostile evidence may make us hold."""


def read(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        ConfigurationError: it cannot be read, or does not end within the limit.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LIMIT_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > LIMIT_BYTES:
        raise ConfigurationError(f"{path} is longer than {LIMIT_BYTES} bytes", Reason.TOO_LARGE)
    return content


def read_message(path: Path) -> bytes:
    """Return a message's bytes, without the newline that an editor leaves at the end."""
    return read(path).removesuffix(b"\n")


def write(path: Path, content: bytes, *, secret: bool = False) -> Path:
    """Write a new file, with mode 0600 if ``secret``, and return its path.

    Raises:
        ConfigurationError: it exists, or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            if secret:
                path.chmod(0o600)
            file.write(content)
    except FileExistsError as error:
        raise ConfigurationError(f"{path} exists; name a new file") from error
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error
    return path


def new(path: Path) -> Path:
    """Return ``path`` if a file can be made there: to be asked before long work, not after it.

    Raises:
        ConfigurationError: it exists, or its directory is none or not ours to write.
    """
    if path.exists() or path.is_symlink():
        raise ConfigurationError(f"{path} exists; name a new file")
    above = next(each for each in path.absolute().parents if each.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise ConfigurationError(f"cannot write {path}: {above} is no directory of ours")
    return path


@contextlib.contextmanager
def new_directory(directory: Path) -> Iterator[Path]:
    """Yield a place to fill, which becomes ``directory`` at the end, or vanishes with an error.

    Raises:
        ConfigurationError: it exists, or cannot be made.
    """
    if directory.exists():
        raise ConfigurationError(f"{directory} exists; name a new directory")
    place = directory.with_name(f".{directory.name}-{os.getpid()}")
    try:
        place.mkdir(parents=True)
        try:
            yield place
            place.rename(directory)
        finally:
            shutil.rmtree(place, ignore_errors=True)
    except OSError as error:
        raise ConfigurationError(f"cannot make {directory}: {error.strerror}") from error


def public_key(text: str, option: str) -> PublicKey:
    """Return the public key that an option gives in hexadecimal.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        raw = bytes.fromhex(text)
    except ValueError as error:
        raise ConfigurationError(f"{option} {text!r} is not hexadecimal") from error
    if len(raw) != 32:
        raise ConfigurationError(f"{option} has {len(raw)} bytes, a key has 32")
    return PublicKey(raw)
