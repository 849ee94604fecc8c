"""Puts the receipt of each answer where it cannot be lost, before anyone is told.

Two ways, by what the operator wants to survive. With ``group-fsync`` a thread of its own takes what
has gathered, and one flush of the disk serves a whole batch; nothing is polled. With ``process``
what one turn of the event loop has brought is written at its end: it survives the end of this
process, but not a loss of power in the second before a checkpoint. Either way there is one writer.
"""

import asyncio
import logging
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import NamedTuple

from lydite.errors import LyditeError, StorageError
from lydite.gateway.ledger.receipts import Draft
from lydite.gateway.ledger.scribe import Entered, Scribe, Signed, Work
from lydite.gateway.tally import Histogram
from lydite.messages.entry import EntryKind

_BATCH = 512
_BATCH_BYTES = 32 * 1024 * 1024
_RETRY_S = 0.25

_logger = logging.getLogger(__name__)

Done = Callable[[Entered | LyditeError], None]


class Recorder(ABC):
    """What the rest of the gateway asks; every method belongs to the event loop."""

    failing = False
    """Whether the disk refuses: no request is taken until it does not."""

    @abstractmethod
    def clock_ms(self) -> int:
        """Return the time of day in milliseconds since 1970."""

    @abstractmethod
    def submit(self, work: Work, done: Done) -> None:
        """Record ``work``; ``done`` is called in the loop when it is recorded, or cannot be."""

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


class _Job(NamedTuple):
    work: Work
    done: Done


class Writer(Recorder):
    """What both ways of writing share: one scribe, a clock, and whether the disk refuses."""

    def __init__(self, scribe: Scribe, clock: Callable[[], float]) -> None:
        self._scribe = scribe
        self._clock = clock
        self.commits = Histogram()
        """How long each batch took, its flush included."""

    @property
    @abstractmethod
    def waiting(self) -> int:
        """How much is not yet written."""

    @abstractmethod
    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Bring the log up to the journal, then record.

        Raises:
            StorageError: journal and log contradict each other.
        """

    @abstractmethod
    def stop(self) -> None:
        """Record what is queued, then no more. Blocks."""

    def clock_ms(self) -> int:
        """Return the time of day in milliseconds since 1970."""
        return int(self._clock() * 1000)

    def _commit(self, batch: Sequence[_Job]) -> Sequence[Entered | LyditeError]:
        began = perf_counter()
        try:
            results = self._scribe.commit([job.work for job in batch])
        except LyditeError as error:
            self._refuse(error)
            return [error] * len(batch)
        except Exception as error:  # a bug in one batch must not leave all clients waiting for ever
            _logger.exception("recorder")
            self._refuse(error)
            return [StorageError("the recorder failed")] * len(batch)
        self.failing = False
        self.commits.observe(perf_counter() - began)
        return results

    def _refuse(self, error: Exception) -> None:
        if not self.failing:
            _logger.error("nothing can be recorded: %s", error)
        self.failing = True

    def _probe(self) -> None:
        try:
            self._scribe.probe()
        except LyditeError:
            return
        _logger.warning("recording again")
        self.failing = False


class GroupRecorder(Writer):
    """Records in a thread of its own, a batch at a time, each flushed to disk."""

    def __init__(self, scribe: Scribe, clock: Callable[[], float]) -> None:
        super().__init__(scribe, clock)
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def waiting(self) -> int:
        """How much the thread has not taken yet."""
        return self._queue.qsize()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Bring the log up to the journal, then start the thread."""
        self._scribe.begin()
        self._loop = loop
        self._thread.start()

    def stop(self) -> None:
        """Record what is queued, then end the thread. Blocks."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def submit(self, work: Work, done: Done) -> None:
        """Hand ``work`` to the thread."""
        self._queue.put(_Job(work, done))

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
            results = self._commit(batch)
            if self._loop is not None:
                self._loop.call_soon_threadsafe(_deliver, self._loop, batch, results)
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


class TurnRecorder(Writer):
    """Records in the event loop, what one turn of it has brought at a time, without a flush."""

    def __init__(self, scribe: Scribe, clock: Callable[[], float]) -> None:
        super().__init__(scribe, clock)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._batch: list[_Job] = []
        self._retry: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How much this turn has brought."""
        return len(self._batch)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Bring the log up to the journal."""
        self._scribe.begin()
        self._loop = loop

    def stop(self) -> None:
        """Try no more whether the disk takes bytes again."""
        if self._retry is not None:
            self._retry.cancel()

    def submit(self, work: Work, done: Done) -> None:
        """Record ``work`` at the end of this turn of the loop."""
        if not self._batch and self._loop is not None:
            self._loop.call_soon(self._turn)
        self._batch.append(_Job(work, done))

    def _turn(self) -> None:
        batch, self._batch = self._batch, []
        results = self._commit(batch)
        if self.failing and self._retry is None:
            self._try_later()
        for job, result in zip(batch, results, strict=True):
            try:
                job.done(result)
            except Exception:  # one answer's bug must not stop the others of its turn
                _logger.exception("recorded")

    def _try_later(self) -> None:
        if self._loop is not None:
            self._retry = self._loop.call_later(_RETRY_S, self._try)

    def _try(self) -> None:
        self._retry = None
        if self.failing:
            self._probe()
        if self.failing:
            self._try_later()


def _weight(job: _Job) -> int:
    work = job.work
    if isinstance(work, Draft):
        return len(work.request) + sum(map(len, work.response))
    return len(work.envelope)


def _deliver(
    loop: asyncio.AbstractEventLoop, batch: list[_Job], results: Sequence[Entered | LyditeError]
) -> None:
    """Tell each of a batch in a turn of the loop of its own, so that none can stop the others."""
    for job, result in zip(batch, results, strict=True):
        loop.call_soon(job.done, result)
