"""The database on disk: Parquet partitions by device and day, and an entry beside each.

    DIR/samples/device=NVIDIA-H200/day=2026-11-20/NAME.parquet
    DIR/entries/NAME.json

A trace is there once its entry is: both are written under another name, flushed and renamed,
samples first. Names are digests, so writers never meet, in one process or many, and the same trace
twice is one trace. Knows nothing of queries.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from lydite.errors import ConfigurationError, FormatError, Reason, StorageError
from lydite.evidence.power.trace import Trace
from lydite.monitor.store import samples
from lydite.monitor.store.entry import LONGEST, Entry, Labelled, decode, describe, encode

_NAME = re.compile(r"[0-9a-f]{32}\Z")


class Archive:
    """The traces under one directory, which is made by the first that is stored."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def add(self, given: Labelled) -> tuple[str, bool]:
        """Store a trace; return its name, and whether it is new.

        Raises:
            FormatError: labels or marks are not such.
            StorageError: it cannot be written; nothing is there then.
        """
        content = samples.encode(given.trace)
        entry = describe(given, hashlib.sha256(content).hexdigest())
        name = entry.name
        place = self.directory / "entries" / f"{name}.json"
        if place.exists():
            return name, False
        _put(self._samples(name, entry), content)
        _put(place, encode(entry))
        return name, True

    def names(self) -> list[str]:
        """Return the names of all traces, in order."""
        found = (self.directory / "entries").glob("*.json")
        return sorted(path.stem for path in found if _NAME.match(path.stem))

    def find(self, start: str) -> str:
        """Return the name of the one trace whose name begins with ``start``.

        Raises:
            ConfigurationError: there is none, or several.
        """
        found = [name for name in self.names() if name.startswith(start)]
        if len(found) > 1:
            several = ", ".join(name[: len(start) + 4] for name in found[:4])
            raise ConfigurationError(f"{start!r} begins {len(found)} traces: {several}")
        if not found:
            raise ConfigurationError(f"no trace {start} in {self.directory}")
        return found[0]

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """Yield every trace's name and entry.

        Raises:
            FormatError: an entry is damaged.
        """
        for name in self.names():
            yield name, self.entry(name)

    def entry(self, name: str) -> Entry:
        """Return a trace's entry.

        Raises:
            ConfigurationError: there is no such trace.
            FormatError: its entry is damaged.
        """
        if not _NAME.match(name):
            raise ConfigurationError(f"{name!r} is not the name of a trace")
        path = self.directory / "entries" / f"{name}.json"
        try:
            with path.open("rb") as file:
                payload = file.read(LONGEST + 1)
        except OSError as error:
            raise ConfigurationError(f"no trace {name} in {self.directory}") from error
        try:
            entry = decode(payload)
        except FormatError as error:
            raise FormatError(f"trace {name}: {error}", Reason.DAMAGED) from error
        if entry.name != name:
            raise FormatError(f"trace {name}: the entry is another's", Reason.DAMAGED)
        return entry

    def load(self, name: str) -> Trace:
        """Return a trace, checked against its entry.

        Raises:
            ConfigurationError: there is no such trace.
            FormatError: samples or entry are missing, altered or cut short.
        """
        entry = self.entry(name)
        path = self._samples(name, entry)
        if not path.exists():
            raise FormatError(f"trace {name}: its samples are missing", Reason.DAMAGED)
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != entry.samples:
            raise FormatError(f"trace {name}: not the samples of its entry", Reason.DAMAGED)
        read = samples.read(path)
        return Trace(read.device, read.series, entry.counted)

    def path(self, name: str) -> Path:
        """Return where a trace's samples lie."""
        return self._samples(name, self.entry(name))

    def _samples(self, name: str, entry: Entry) -> Path:
        device = re.sub(r"[^A-Za-z0-9.-]+", "-", entry.device)[:60] or "unnamed"
        # Monotonic clocks begin anywhere: such days are only a way to spread files.
        day = datetime.fromtimestamp(max(entry.start_ns, 0) // 10**9, UTC).date()
        return self.directory / "samples" / f"device={device}" / f"day={day}" / f"{name}.parquet"


def _put(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".new-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error
