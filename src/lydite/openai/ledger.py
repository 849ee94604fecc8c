"""What a verified client keeps: the receipts of its answers, and the faults that it found.

Later, on demand or by a thread in the background, each promise is held against the gateway's log.
Memory is bounded: of each kind the newest are kept, and a journal keeps all receipts. Knows nothing
of how answers travel.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from lydite.appraisal import promises
from lydite.appraisal.promises import Kept
from lydite.appraisal.report import Report, refused
from lydite.appraisal.trust import Trust
from lydite.errors import (
    ConfigurationError,
    LyditeError,
    Reason,
    UnavailableError,
    VerificationError,
)
from lydite.messages.canonical import encode
from lydite.messages.compact import Compact
from lydite.messages.tier import Tier

KEPT = 100_000
"""Most receipts, faults and unchecked streams that are kept in memory; the oldest go first."""
DEADLINE_S = 60.0
"""After this time a receipt that is not in the log is a fault of the gateway's."""
Fetch = Callable[[str], bytes | None]
"""Returns what a URL answers, ``None`` if that is nothing good (any status but 200).

Raises UnavailableError where no answer came, FormatError where it is longer than a statement is."""


class Fault(NamedTuple):
    """What a gateway did wrong, with the published reason. ``receipt_id`` may be empty."""

    receipt_id: str
    url: str
    reason: Reason
    detail: str


class Receipts:
    """The receipts of one client, in the order of their answers. Safe to use from threads."""

    def __init__(
        self,
        trust: Trust | None,
        fetch: Fetch,
        *,
        journal: Path | None = None,
        deadline_s: float = DEADLINE_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._trust = trust
        self._fetch = fetch
        self._journal = journal
        self._deadline_ms = int(deadline_s * 1000)
        self._clock = clock
        self._lock = threading.Lock()
        self._settling = threading.Lock()
        self._kept: deque[Kept] = deque(maxlen=KEPT)
        self._pending: deque[Kept] = deque(maxlen=KEPT)
        self._faults: deque[Fault] = deque(maxlen=KEPT)
        self._abandoned: deque[str] = deque(maxlen=KEPT)
        self._seen: dict[str, None] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def kept(self) -> tuple[Kept, ...]:
        """Every receipt so far, each held against the bytes that it is about."""
        with self._lock:
            return tuple(self._kept)

    @property
    def pending(self) -> tuple[Kept, ...]:
        """Those whose promise was not yet held against the log."""
        with self._lock:
            return tuple(self._pending)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What gateways did wrong."""
        with self._lock:
            return tuple(self._faults)

    @property
    def abandoned(self) -> tuple[str, ...]:
        """Receipt ids of streams that were left before their end, and so were not checked."""
        with self._lock:
            return tuple(self._abandoned)

    def now_ms(self) -> int:
        """Return the time by this client's clock, in Unix milliseconds."""
        return int(self._clock() * 1000)

    def keep(self, url: str, receipt: Compact, asked_ms: int) -> None:
        """Note the receipt of an answer that was checked, and write it to the journal.

        ``asked_ms`` is ``now_ms`` as it was before the request went out.

        Raises:
            VerificationError: it came with an earlier answer: this one is a copy of that.
            ConfigurationError: the journal cannot be written.
        """
        kept = Kept(compact=receipt, asked_ms=asked_ms, received_ms=self.now_ms(), url=url)
        with self._lock:
            if receipt.id in self._seen:
                raise VerificationError(
                    Reason.REPLAYED, f"receipt {receipt.id} came with an earlier answer"
                )
            if len(self._seen) == KEPT:
                del self._seen[next(iter(self._seen))]
            self._seen[receipt.id] = None
            self._kept.append(kept)
            self._pending.append(kept)
            if self._journal is not None:
                _append(self._journal, encode(kept) + b"\n")

    def accuse(self, url: str, error: LyditeError, receipt_id: str = "") -> None:
        """Note that a gateway did something wrong."""
        with self._lock:
            self._faults.append(Fault(receipt_id, url, error.reason, str(error)))

    def leave(self, receipt_id: str) -> None:
        """Note that a stream was left before its end."""
        with self._lock:
            self._abandoned.append(receipt_id)

    def settle(self) -> tuple[Report, ...]:
        """Hold every pending promise against the log, and return what was found, in their order.

        What is settled is not pending any more; what is only late is. Faults are noted.

        Raises:
            ConfigurationError: only a key was pinned: a statement's proof needs an anchor.
        """
        if self._trust is None:
            raise ConfigurationError(
                "only a key is pinned; give the anchor or trust file to hold receipts to the log",
                Reason.NO_TRUST_ANCHORS,
            )
        with self._settling:
            return tuple(self._settle(kept, self._trust) for kept in self.pending)

    def _settle(self, kept: Kept, trust: Trust) -> Report:
        try:
            served = self._fetch(f"{kept.url}/v1/receipts/{kept.compact.id}")
            report = promises.settle(
                kept,
                served,
                trust,
                now_ms=self.now_ms(),
                deadline_ms=self._deadline_ms,
            )
        except UnavailableError as error:  # the network may be to blame: nothing was learnt
            return refused(Tier.NONE, error.reason, str(error))
        except LyditeError as error:
            self.accuse(kept.url, error, kept.compact.id)
            report = refused(Tier.CONTRAINDICATED, error.reason, str(error))
        if report.tier is not Tier.NONE:
            with self._lock, contextlib.suppress(ValueError):  # too many, and so gone already
                self._pending.remove(kept)
        return report

    def watch(self, every_s: float) -> None:
        """Settle in the background, every so many seconds, until ``close``."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._watch, args=(every_s,), name="lydite-receipts", daemon=True
            )
            self._thread.start()

    def _watch(self, every_s: float) -> None:
        while not self._stop.wait(every_s):
            self.settle()

    def close(self) -> None:
        """Let the thread in the background end, if there is one."""
        self._stop.set()


def _append(path: Path, line: bytes) -> None:
    try:
        with path.open("ab") as file:
            file.write(line)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error
