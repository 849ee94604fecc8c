"""Where a demonstration leaves its files: a directory a run, and ``latest``, the last of them."""

import time
from pathlib import Path

from lydite.errors import ConfigurationError


def fresh(directory: Path) -> Path:
    """Return a new directory for this run, of its own even among runs of one second."""
    latest = directory / "latest"
    if latest.exists() and not latest.is_symlink():
        raise ConfigurationError(f"{latest} is no link of ours; move it, or name another directory")
    named = time.strftime("%Y%m%d-%H%M%S")
    place, taken = directory / named, 1
    try:
        directory.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                place.mkdir()
            except FileExistsError:
                taken += 1
                place = directory / f"{named}-{taken}"
            else:
                return place
    except OSError as error:
        raise ConfigurationError(f"cannot write to {directory}: {error.strerror}") from error


def point(latest: Path, place: Path) -> None:
    """Let ``latest`` lead to ``place``, and to where it led before until it does."""
    link = place / "latest"
    try:
        link.symlink_to(place.name)
        link.replace(latest)
    except OSError as error:
        raise ConfigurationError(f"cannot replace {latest}: {error.strerror}") from error


def read(path: Path) -> bytes:
    """Return the bytes of a file of the repository, without the newlines at their end."""
    try:
        return path.read_bytes().rstrip(b"\n")
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {path}: {error.strerror}; run this from the repository"
        ) from error
