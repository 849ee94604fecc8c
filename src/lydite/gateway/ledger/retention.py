"""Decides which pairs stay and which go, says so in the log, and only then lets them go.

What an epoch did not draw goes when it is opened; what it drew stays until its time is up. What
does not fit, or waits too long for an epoch, goes too if the settings say so. Each time a signed
statement is logged first: a crash in between is mended at the next start by doing what it says.
Time is how long the gateway has run, so no jump of a clock makes anything go early.
"""

import asyncio
import contextlib
import hashlib
import itertools
import logging
from array import array
from collections.abc import Callable, Container, Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from lydite.errors import LyditeError, Reason, StorageError, UnavailableError
from lydite.gateway.ledger.age import Age
from lydite.gateway.ledger.pairs import Journal
from lydite.gateway.ledger.recorder import Recorder
from lydite.gateway.ledger.vault import Vault
from lydite.gateway.settings import Retention as Settings
from lydite.messages import audit, retention
from lydite.messages.canonical import encode
from lydite.messages.retention import (
    Cause,
    Predicate,
    Retention,
    Span,
    Spans,
    Tally,
    spans_of,
)
from lydite.messages.statement import subject
from lydite.signing.dsse import KeyId, open_envelope
from lydite.signing.keys import Signer, sign_envelope

_BEAT_S = 1.0
_ROOM = 8
"""Dropping begins where this share of the vault is left."""

_logger = logging.getLogger(__name__)


class Decision(NamedTuple):
    """What an epoch decided: its number, its range, and which entries of it were drawn."""

    epoch: int
    first: int
    last: int
    drawn: frozenset[int]


class _Set:
    """Receipts as a statement names them, and their entries."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.numbers = array("Q")

    def add(self, number: int, statement: bytes) -> None:
        self.tally.add(number, statement)
        self.numbers.append(number)


class Keeper:
    """Keeps the vault of one gateway within its bounds and true to its epochs."""

    def __init__(
        self,
        vault: Vault,
        journal: Journal,
        recorder: Recorder,
        signer: tuple[Signer, KeyId],
        settings: Settings,
        clock: Callable[[], float],
        age: Age,
    ) -> None:
        """``signer`` is the gateway's key, and the provider that statements are about."""
        self.vault = vault
        self.pledged = 0
        """The entry of the pledge of an epoch that is not open yet: nothing up to it is dropped."""
        self._journal = journal
        self._recorder = recorder
        self._signer, self._provider = signer
        self._settings = settings
        self._clock = clock
        self._age = age
        self.lock = asyncio.Lock()
        """Held while something is decided; whoever pledges an epoch holds it too."""
        self._decisions: list[Decision] = []
        self._drawn: set[int] = set()
        self._decided = 0
        self._settled = 0
        self._dropped = 0
        self._gone = Spans(())
        self._damaged: list[int] = []
        self._behind = False
        """Whether something that the log says is gone may still be here."""
        self._audited: set[int] = set()
        vault.age_ms = age.ms

    def learn(self, decision: Decision) -> None:
        """Take note of an epoch, in order."""
        self._decisions.append(decision)
        self._drawn |= decision.drawn
        self._decided = decision.last

    def audited(self, number: int) -> None:
        """Take note that an accepted auditor's record of an entry is in the log."""
        if self._settings.after_audit == "destroy" and number in self._drawn:
            self._audited.add(number)

    async def recall(self) -> None:
        """Finish what a crash interrupted, and say what it lost. The recorder has been started.

        1. Whatever statements in the log declare destroyed is destroyed.
        2. Receipts whose pairs should be here and are not are declared lost.
        3. Epochs without a statement get theirs.

        Raises:
            StorageError: the disk refused.
        """
        for number in self._journal.of_kind("retention"):
            self._remember(self._open(number))
        for number in self._journal.of_kind("audit"):
            self.audited(audit.parse_audit(self._journal.read(number).statement()).predicate.entry)
        # 1.
        await asyncio.to_thread(self._finish)
        # 2.
        missing = await asyncio.to_thread(self._missing)
        await self._say_lost(missing)
        # 3.
        await self.settle()

    async def settle(self) -> None:
        """Destroy what the newest epochs did not draw; if that fails, the next beat tries again."""
        async with self.lock:
            try:
                if self._behind:
                    await asyncio.to_thread(self._finish)
                while self._decisions:
                    if self._decisions[0].last > self._settled:
                        await self._settle(self._decisions[0])
                    del self._decisions[0]
            except LyditeError as error:
                _logger.error("what was not drawn is still here: %s", error)

    async def run(self) -> None:
        """Keep the bounds, beat by beat, until cancelled."""
        while True:
            await asyncio.sleep(_BEAT_S)
            try:
                await self.beat()
            except (LyditeError, OSError) as error:
                _logger.warning("vault: %s", error)
            except Exception:  # a bug in one beat must not leave the vault without bounds
                _logger.exception("vault")

    async def beat(self) -> None:
        """Do what has become due.

        Raises:
            StorageError, OSError: the disk refused.
        """
        self.vault.age_ms = await asyncio.to_thread(self._age.tick, self._clock())
        await self.settle()
        async with self.lock:
            await self._expire()
            await self._bound()
            damaged, self._damaged = self._damaged, []
        await self._say_lost(damaged)

    def close(self) -> None:
        """Write down how long the gateway has run."""
        with contextlib.suppress(LyditeError):
            self._age.save()

    async def _settle(self, decision: Decision) -> None:
        span = (decision.first, decision.last)
        kept, gone = await asyncio.to_thread(self._sort, span, decision.drawn)
        lost = self._gone.within(span)
        await self._say("undrawn", span, gone.tally, lost, kept.tally, decision.epoch)
        await asyncio.to_thread(self._destroy, gone.numbers, decision.last)

    def _sort(self, span: Span, staying: Container[int]) -> tuple[_Set, _Set]:
        """Return which pairs of a span stay and which go."""
        kept, gone = _Set(), _Set()
        for head in self.vault.heads(*span):
            (kept if head.number in staying else gone).add(head.number, head.tag)
        return kept, gone

    async def _expire(self) -> None:
        """Let go of drawn pairs whose time is up, or whose audit is in the log."""
        limit_ms = self.vault.age_ms - 1000 * self._settings.vault_s
        last = await asyncio.to_thread(self._older, 1, self._settled, limit_ms)
        if last:
            await self._let_go("expired", self.vault.live(1, last))
        due = {each for each in self._audited if each <= self._settled}
        if due:
            here = self.vault.live(1, self._settled)
            await self._let_go("audited", [number for number in here if number in due])
        self._audited -= due

    def _older(self, first: int, last: int, limit_ms: int) -> int:
        """Return the last entry from ``first`` to ``last`` of an age before ``limit_ms``, or 0.

        Its record has to open, for anybody may write what a head says; what came before it has
        been here for longer. One that does not open is damaged.
        """
        oldest = self.vault.oldest(first, last)
        if oldest is None or oldest.time_ms >= limit_ms:
            return 0
        heads = self.vault.heads(first, last)
        older = itertools.takewhile(lambda head: head.time_ms < limit_ms, heads)
        number = max(head.number for head in older)
        try:
            self.vault.read(number)
        except (StorageError, UnavailableError) as error:
            if error.reason not in (Reason.DAMAGED, Reason.DESTROYED):
                raise
            self._damaged.append(number)
            return 0
        return number

    async def _bound(self) -> None:
        """Drop what waits for an epoch and has no room or no time, or close the vault."""
        waiting = max(self._decided, self._dropped) + 1
        due = await asyncio.to_thread(self._due, waiting)
        free = max(waiting, self.pledged + 1)
        if due is not None and self._settings.when_full == "drop" and due[1] >= free:
            await self._drop(due[0], free, due[1])
            due = None
        late = due is not None and due[0] == "old"
        self.vault.closed = "pairs have waited too long for an epoch" if late else ""

    def _due(self, first: int) -> tuple[Cause, int] | None:
        """Return why, and up to which entry, pairs from ``first`` on have to go, if they do."""
        limit_ms = self.vault.age_ms - 1000 * self._settings.vault_s
        last = self._older(first, len(self._journal), limit_ms)
        if last:
            return "old", last
        excess = self.vault.size_bytes - self._settings.vault_bytes * (_ROOM - 1) // _ROOM
        last = self.vault.oldest_segments(first, excess) if excess > 0 else 0
        return ("full", last) if last else None

    async def _drop(self, cause: Cause, first: int, last: int) -> None:
        _, gone = await asyncio.to_thread(self._sort, (first, last), ())
        _logger.warning("%d pairs go that no epoch has drawn from: %s", gone.tally.count, cause)
        await self._say(cause, (first, last), gone.tally)
        await asyncio.to_thread(self._destroy, gone.numbers, last)

    async def _let_go(self, cause: Cause, numbers: Sequence[int]) -> None:
        """Say that pairs that are here go, and destroy them."""
        for spans, part in _parted(numbers):
            gone = Tally((number, self._digest(number)) for number in part)
            await self._say(cause, (part[0], part[-1]), gone, spans)
            await asyncio.to_thread(self._destroy, part, 0)

    async def _say_lost(self, numbers: Sequence[int]) -> None:
        if numbers:
            _logger.error("%d pairs are lost, from entry %d on", len(numbers), numbers[0])
            await self._let_go("damaged", sorted(numbers))

    def _destroy(self, numbers: Sequence[int], decided: int) -> None:
        self._behind = True
        self._journal.sync()  # the statement outlives what it is about
        self.vault.destroy(numbers)
        self._damaged += self.vault.sweep(max(decided, self._settled, self._dropped))
        self._behind = False

    def _finish(self) -> None:
        """Destroy what statements in the log say is gone."""
        undrawn = [each for each in self.vault.live(1, self._settled) if each not in self._drawn]
        declared = [each for a, b in self._gone.spans for each in self.vault.live(a, b)]
        self._destroy(sorted({*undrawn, *declared}), 0)

    def _missing(self) -> list[int]:
        """Return the receipts whose pairs should be here and are not."""
        heads = self.vault.heads(1, len(self._journal))
        waiting = range(max(self._settled, self._dropped) + 1, len(self._journal) + 1)
        missing, head = [], next(heads, None)
        for number in itertools.chain(
            sorted(each for each in self._drawn if each <= self._settled), waiting
        ):
            while head is not None and head.number < number:
                head = next(heads, None)
            if self._gone.hold(number) or self._journal.read(number).kind != "receipt":
                continue
            if head is None or (head.number, head.tag) != (number, self._digest(number)):
                missing.append(number)
        return missing

    def _remember(self, said: Predicate) -> None:
        if said.cause == "undrawn":
            self._settled = said.last
        elif said.cause in ("full", "old"):
            self._dropped = said.last
            self._gone = Spans([*self._gone.spans, (said.first, said.last)])
        else:
            self._gone = Spans([*self._gone.spans, *said.spans])

    async def _say(
        self,
        cause: Cause,
        span: Span,
        gone: Tally,
        spans: Iterable[Span] = (),
        kept: Tally | None = None,
        epoch: int = 0,
    ) -> None:
        """Log what is going to be destroyed."""
        at_s, kept = self._recorder.clock_ms() // 1000, kept or Tally()
        said = make_retention(cause, span, gone, spans, kept, epoch, at_s, self._provider)
        await self._recorder.enter("retention", sign_envelope(encode(said), self._signer))
        self._remember(said.predicate)

    def _open(self, number: int) -> Predicate:
        keys = {self._signer.keyid: self._signer.public}
        payload = open_envelope(self._journal.read(number).body, keys, keys)
        return retention.parse(payload).predicate

    def _digest(self, number: int) -> bytes:
        return hashlib.sha256(self._journal.read(number).statement()).digest()


def make_retention(
    cause: Cause,
    span: Span,
    gone: Tally,
    spans: Iterable[Span],
    kept: Tally,
    epoch: int,
    at_s: int,
    provider: KeyId,
) -> Retention:
    """Return the statement that ``gone`` is destroyed and ``kept`` is not, said at ``at_s``."""
    return Retention(
        subject=subject("destroyed", gone.digest()),
        predicate=Predicate(
            cause=cause,
            epoch=epoch,
            first=span[0],
            last=span[1],
            spans=tuple(spans),
            kept=kept.count,
            kept_digest=kept.digest().hex(),
            destroyed=gone.count,
            destroyed_digest=gone.digest().hex(),
            at=f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%dT%H:%M:%S}.000Z",
            provider=provider,
        ),
    )


def _parted(numbers: Sequence[int]) -> Iterable[tuple[tuple[Span, ...], list[int]]]:
    """Yield entries in parts whose spans fit into one statement, with these."""
    for start in range(0, len(numbers), retention.MAX_SPANS):
        part = list(numbers[start : start + retention.MAX_SPANS])
        yield spans_of(part), part
