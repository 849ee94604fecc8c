"""Makes the receipt of each answer and puts it where it cannot be lost, before anyone is told.

A thread of its own takes what has gathered, signs it, writes it to the journal, appends its leaves
to the log, and only then lets the event loop hand it out: one disk flush serves a whole batch, and
nothing is polled. The thread is the log's only writer.
"""

import asyncio
import hashlib
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lydite.errors import LyditeError, Reason, StorageError
from lydite.gateway import receipts
from lydite.gateway.pairs import Journal, Pair
from lydite.gateway.receipts import Draft, Stamp
from lydite.messages import canonical, entry
from lydite.messages.entry import EntryKind
from lydite.tlog.store import LogStore

_BATCH = 512
_BATCH_BYTES = 32 * 1024 * 1024
_RETRY_S = 0.25

_logger = logging.getLogger(__name__)


class Signed(NamedTuple):
    """An envelope that is not a receipt, to be entered once."""

    kind: EntryKind
    envelope: bytes


class Entered(NamedTuple):
    """Where work ended up: its 1-based entry number and the digest of its envelope."""

    number: int
    digest: bytes


Done = Callable[[Entered | LyditeError], None]


class _Job(NamedTuple):
    work: Draft | Signed
    done: Done


class Recorder:
    """The only writer of journal and log. ``submit`` and ``enter`` belong to the event loop."""

    def __init__(
        self, journal: Journal, log: LogStore, stamp: Stamp, clock: Callable[[], float]
    ) -> None:
        self._journal = journal
        self._log = log
        self._stamp = stamp
        self._clock = clock
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.failing = False
        """Whether the disk refuses: no request is taken until it does not."""

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Bring the log up to the journal, then start recording.

        Raises:
            StorageError: journal and log contradict each other.
        """
        self._complete_log()
        self._journal.cut_torn_tail()
        self._loop = loop
        self._thread.start()

    def stop(self) -> None:
        """Record what is queued, then end the thread. Blocks."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def clock_ms(self) -> int:
        """Return the time of day in milliseconds since 1970."""
        return int(self._clock() * 1000)

    def submit(self, work: Draft | Signed, done: Done) -> None:
        """Record ``work``; ``done`` is called in the loop when it is in the log, or cannot be."""
        self._queue.put(_Job(work, done))

    async def enter(self, kind: EntryKind, envelope: bytes) -> int:
        """Enter an envelope once and return its 1-based entry number, the same each time.

        Raises:
            StorageError: it could not be written.
        """
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def done(result: Entered | LyditeError) -> None:
            if future.cancelled():
                return
            if isinstance(result, Entered):
                future.set_result(result.number)
            else:
                future.set_exception(result)

        self.submit(Signed(kind, envelope), done)
        return await future

    def _run(self) -> None:
        while True:
            try:
                job = self._queue.get(timeout=_RETRY_S if self.failing else None)
            except queue.Empty:
                self._probe()
                continue
            if job is None:
                return
            batch, last = self._gather(job)
            self._settle(batch)
            if last:
                return

    def _gather(self, first: _Job) -> tuple[list[_Job], bool]:
        """Return what has gathered, within bounds, and whether the end was among it."""
        batch, size = [first], _weight(first)
        while len(batch) < _BATCH and size < _BATCH_BYTES and not self._queue.empty():
            job = self._queue.get()
            if job is None:
                return batch, True
            batch.append(job)
            size += _weight(job)
        return batch, False

    def _settle(self, batch: list[_Job]) -> None:
        try:
            results: Sequence[Entered | LyditeError] = self._commit([job.work for job in batch])
            self.failing = False
        except LyditeError as error:
            self._refuse(error)
            results = [error] * len(batch)
        except Exception as error:  # a bug in one batch must not leave all clients waiting for ever
            _logger.exception("recorder")
            self._refuse(error)
            results = [StorageError("the recorder failed")] * len(batch)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(_deliver, self._loop, batch, results)

    def _refuse(self, error: Exception) -> None:
        if not self.failing:
            _logger.error("nothing can be recorded: %s", error)
        self.failing = True

    def _probe(self) -> None:
        try:
            self._complete_log()
            self._journal.probe()
        except LyditeError:
            return
        _logger.warning("recording again")
        self.failing = False

    def _commit(self, works: list[Draft | Signed]) -> list[Entered]:
        """Seal, write and log a batch; all of it or nothing."""
        if len(self._journal) != self._log.size:
            self._complete_log()
        fresh: dict[bytes, Pair] = {}
        digests = []
        for work in works:
            pair = self._pair(work)
            digest = hashlib.sha256(pair.envelope).digest()
            digests.append(digest)
            if self._journal.number_of_envelope(digest) is None:
                fresh[digest] = pair
        numbers = self._write(fresh)
        return [
            Entered(numbers.get(digest) or self._journal.number_of_envelope(digest) or 0, digest)
            for digest in digests
        ]

    def _write(self, fresh: dict[bytes, Pair]) -> dict[bytes, int]:
        if not fresh:
            return {}
        pairs = list(fresh.values())
        with self._journal.appending(pairs) as first:
            self._log.append_durable([self._leaf(pair) for pair in pairs])
        return dict(zip(fresh, range(first, first + len(pairs)), strict=True))

    def _complete_log(self) -> None:
        """Enter what a crash left in the journal alone.

        Raises:
            StorageError: the log is longer than the journal, or its last entry is another.
        """
        size = self._log.size
        if size > len(self._journal):
            raise StorageError(
                f"the log has {size} entries and the journal {len(self._journal)}", Reason.DAMAGED
            )
        if size and self._log.entry(size - 1) != self._leaf(self._journal.read(size)):
            raise StorageError(f"entry {size} of log and journal differ", Reason.DAMAGED)
        missing = [self._leaf(pair) for pair in self._journal.after(size)]
        if missing:
            self._log.append_durable(missing)

    def _leaf(self, pair: Pair) -> bytes:
        return entry.of_envelope(pair.envelope, pair.kind, self._stamp.provider.keyid)

    def _pair(self, work: Draft | Signed) -> Pair:
        if isinstance(work, Signed):
            return Pair(kind=work.kind, envelope=work.envelope)
        return Pair(
            kind="receipt",
            envelope=receipts.seal(work, self._stamp),
            receipt_id=work.receipt_id,
            opening=canonical.encode(receipts.opening_of(work)),
        )


def _weight(job: _Job) -> int:
    work = job.work
    if isinstance(work, Signed):
        return len(work.envelope)
    return len(work.request) + sum(map(len, work.response))


def _deliver(
    loop: asyncio.AbstractEventLoop, batch: list[_Job], results: Sequence[Entered | LyditeError]
) -> None:
    """Tell each of a batch in a turn of the loop of its own, so that none can stop the others."""
    for job, result in zip(batch, results, strict=True):
        loop.call_soon(job.done, result)
