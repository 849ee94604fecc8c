"""The recomputer's own log: what it could not serve, the alarms it raised, what clients asked for.

A log of its own, so that a refusal can be proved even while no gateway is up. A statement is on
disk before its leaf is in the log, so no leaf refers to what was lost. Judges nothing.
"""

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from lydite.errors import Reason, StorageError, UnavailableError
from lydite.messages import entry
from lydite.messages.entry import EntryKind
from lydite.signing.dsse import Envelope
from lydite.signing.keys import Signer, sign_envelope
from lydite.tlog import disk
from lydite.tlog.store import LogStore


class Entered(NamedTuple):
    """A signed statement, and the 1-based number of its entry."""

    number: int
    envelope: bytes

    def parsed(self) -> Envelope:
        """Return the envelope as a struct."""
        return msgspec.json.decode(self.envelope, type=Envelope)


class Ledger:
    """Statements by one signer in one log. Its methods may be called from several threads."""

    def __init__(self, directory: Path, log: LogStore, signer: Signer) -> None:
        """Keep the statements of ``log`` in ``directory``.

        Raises:
            StorageError: the directory cannot be made.
        """
        self.log = log
        self._signer = signer
        self._directory = directory
        self._numbers: dict[str, int] = {}
        self._lock = threading.Lock()
        with disk.failures("create the recomputer's statements"):
            directory.mkdir(parents=True, exist_ok=True)
        for number in range(1, log.size + 1):
            self._numbers[self._leaf(number).sha256] = number

    @property
    def keyid(self) -> str:
        """The key id of whoever signs here."""
        return self._signer.keyid

    def enter(self, kind: EntryKind, statement: bytes) -> Entered:
        """Sign a statement and enter it once; the same number each time.

        Raises:
            StorageError: the disk refused; it is not in the log.
        """
        name = hashlib.sha256(statement).hexdigest()
        envelope = sign_envelope(statement, self._signer)
        with self._lock:
            number = self._numbers.get(name)
            if number is None:
                disk.place(self._directory / name, envelope, durable=True)
                leaf = entry.of_statement(statement, kind, self._signer.keyid)
                number = self.log.append_durable([leaf])[0] + 1
                self._numbers[name] = number
        return Entered(number, envelope)

    def find(self, name: str) -> Entered | None:
        """Return the statement whose SHA-256 is ``name`` in hexadecimal, None if it is not here.

        Raises:
            StorageError: the disk no longer holds what was entered.
        """
        number = self._numbers.get(name)
        if number is None:
            return None
        envelope = disk.read(self._directory / name)
        if envelope is None:
            raise StorageError(f"statement {name} of entry {number} is gone")
        return Entered(number, envelope)

    def at(self, number: int) -> Entered:
        """Return the statement behind the 1-based entry ``number``.

        Raises:
            UnavailableError: there is none (``NOT_IN_LOG``).
            StorageError: the disk no longer holds what was entered.
        """
        known = 0 < number <= self.log.size
        found = self.find(self._leaf(number).sha256) if known else None
        if found is None:
            raise UnavailableError(f"no entry {number}", Reason.NOT_IN_LOG)
        return found

    def of_kind(self, kind: EntryKind) -> Iterator[Entered]:
        """Yield the statements of one kind, in the order of the log."""
        for number in range(1, self.log.size + 1):
            if self._leaf(number).kind == kind:
                yield self.at(number)

    def _leaf(self, number: int) -> entry.Entry:
        return entry.parse(self.log.entry(number - 1))
