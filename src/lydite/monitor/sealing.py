"""Seals segments, so that a kill at any moment costs the open one at most, and shows.

    1. ``open.json``: a run begins; durable before the first sample is taken.
    2. for each segment, the file of samples, durable;
    3. then its statement, durable, which names the file and the statement before.
    4. After the statement that says it is the last, ``open.json`` goes.

A file of samples without a statement was torn and is written over. A run that finds ``open.json``
states, in its first segment, what the run before lost. One process holds the directory.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from lydite.errors import LyditeError, Reason, StorageError
from lydite.messages import segment as segments
from lydite.messages.canonical import encode
from lydite.messages.receipt import Timestamp
from lydite.messages.segment import Clock, Lost, Predicate, Segment, counted
from lydite.messages.sensors import Reports
from lydite.messages.statement import subject
from lydite.monitor import chain, columns
from lydite.monitor.chain import Link, Opened
from lydite.signing.dsse import digest, open_envelope
from lydite.signing.keys import Signer, sign_envelope
from lydite.tlog import disk


class Stretch(NamedTuple):
    """What one segment says of itself, besides its place in the chain."""

    content: columns.Content
    counted: Mapping[str, int]
    at_us: int
    """The sampling clock now, for a segment without a sample."""
    zero_us: int | None
    zero_end_us: int | None
    last: bool
    issued: Timestamp


class Sealer:
    """Appends to the chain in one directory."""

    def __init__(
        self, directory: Path, signer: Signer, devices: tuple[str, ...], clock: Clock
    ) -> None:
        """Take the directory and find where the chain ends.

        Raises:
            ConfigurationError: another process holds it.
            StorageError: the disk refused, or what is there is not what a monitor wrote.
        """
        with disk.failures(f"make {directory}"):
            directory.mkdir(parents=True, exist_ok=True)
        self._lock = disk.lock(directory / "lock")
        self._directory = directory
        self._signer = signer
        self._devices = devices
        self._clock = clock
        self._selfcheck: str | None = None
        self._since_us = 0
        self.run = os.urandom(16).hex()
        try:
            self.end = _end_of(directory, signer)
            self._opened = chain.opened(directory)
        except StorageError:
            self.close()
            raise
        except LyditeError as error:
            self.close()
            raise StorageError(f"{directory}: {error}", Reason.DAMAGED) from error

    @property
    def lost(self) -> Lost | None:
        """Return what an earlier run left unsealed, if it did."""
        index = 0 if self.end is None else self.end.said.index + 1
        if self._opened is not None:
            return Lost(run=self._opened.run, index=index, since_us=self._opened.since_us)
        if self.end is None or self.end.said.last or self.end.said.run == self.run:
            return None
        before = self.end.said  # somebody took away what said that its run was open
        return Lost(run=before.run, index=index, since_us=before.to_us + (before.zero_us or 0))

    def begin(self, since_us: int) -> None:
        """Say, durably, that a run begins at ``since_us`` of Unix time.

        Before the first segment of this run is sealed, a second start still finds what was lost.

        Raises:
            StorageError: the disk refused.
        """
        if self._opened is None:
            self._place(chain.OPEN, encode(Opened(run=self.run, since_us=since_us)))
        self._since_us = since_us

    def report(self, reports: Reports) -> str:
        """Keep the reports of a self-check, which segments name from now on.

        Raises:
            StorageError: the disk refused.
        """
        data = encode(reports)
        name = hashlib.sha256(data).hexdigest()
        self._place(chain.sensors_path(self._directory, name).name, data)
        self._selfcheck = name
        return name

    def seal(self, stretch: Stretch) -> Link:
        """Seal a segment.

        Raises:
            StorageError: the disk refused; nothing was sealed, and a later try may succeed.
        """
        samples = columns.encode(stretch.content)
        index = 0 if self.end is None else self.end.said.index + 1
        said = self._predicate(stretch, index, len(samples))
        statement = Segment(
            subject=subject(chain.SUBJECT, hashlib.sha256(samples).digest()), predicate=said
        )
        envelope = sign_envelope(encode(statement), self._signer)
        self._place(chain.columns_path(self._directory, index).name, samples)
        self._place(chain.statement_path(self._directory, index).name, envelope)
        self.end = Link(digest(envelope), said)
        if self._opened is not None:
            self._opened = None  # said, and sealed
            self._place(chain.OPEN, encode(Opened(run=self.run, since_us=self._since_us)))
        if stretch.last:
            with disk.failures("end the run"):
                (self._directory / chain.OPEN).unlink(missing_ok=True)
                disk.sync(self._directory)
        return self.end

    def close(self) -> None:
        """Let go of the directory."""
        os.close(self._lock)

    def _predicate(self, stretch: Stretch, index: int, length: int) -> Predicate:
        from_us, to_us, samples = _span(stretch)
        return Predicate(
            run=self.run,
            index=index,
            previous=None if self.end is None else self.end.digest.hex(),
            clock=self._clock,
            from_us=from_us,
            to_us=to_us,
            zero_us=stretch.zero_us,
            zero_end_us=stretch.zero_end_us,
            devices=self._devices,
            samples=samples,
            length=length,
            counted=counted(stretch.counted),
            selfcheck=self._selfcheck,
            lost=self.lost,
            last=stretch.last,
            issued=stretch.issued,
            monitor=self._signer.keyid,
        )

    def _place(self, name: str, data: bytes) -> None:
        disk.place(self._directory / name, data, durable=True)


def _span(stretch: Stretch) -> tuple[int, int, int]:
    """Return the microseconds in which samples lie, up to but not the second, and how many."""
    times = [t_ns for t_ns, _ in stretch.content.values()]
    if not times:
        return stretch.at_us, stretch.at_us, 0
    first, last = min(int(t[0]) for t in times), max(int(t[-1]) for t in times)
    return first // 1000, last // 1000 + 1, sum(map(len, times))


def _end_of(directory: Path, signer: Signer) -> Link | None:
    """Return the last segment, after a look at it: the whole chain is for ``chain.check``.

    Raises:
        StorageError: the disk refused.
        FormatError, VerificationError: it is not one of this monitor's.
    """
    found = chain.indices(directory)
    if not found:
        return None
    envelope = disk.read(chain.statement_path(directory, found[-1])) or b""
    payload = open_envelope(envelope, {signer.keyid: signer.public}, [signer.keyid])
    said = segments.parse(payload).predicate
    return Link(digest(envelope), said)
