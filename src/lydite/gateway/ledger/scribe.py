"""Seals, writes and logs batches of finished exchanges and signed statements: all of one or none.

What was said goes to the vault, what is said of it to the journal, and the log is completed from
that after a crash: two files, flushed at the same time, make a batch safe. Pairs that the journal
knows nothing of are destroyed at the next start. Called by one thread at a time; knows nothing of
event loops.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from lydite.errors import Reason, StorageError
from lydite.gateway.ledger import receipts
from lydite.gateway.ledger.notary import Notary
from lydite.gateway.ledger.pairs import Journal, Pair
from lydite.gateway.ledger.receipts import Draft, Stamp
from lydite.gateway.ledger.records import Exchange
from lydite.gateway.ledger.vault import Vault
from lydite.gateway.settings import Durability, Promises
from lydite.messages import compact, entry
from lydite.messages.entry import EntryKind
from lydite.tlog.store import LogStore


class Signed(NamedTuple):
    """An envelope that is not a receipt, to be entered once."""

    kind: EntryKind
    envelope: bytes


class Entered(NamedTuple):
    """Where work ended up: its 1-based entry number, and of a receipt its compact form."""

    number: int
    compact: bytes


Work = Draft | Signed


class _Batch:
    """What a batch will write, and where each piece of work will stand."""

    def __init__(self, journal: Journal, stamp: Stamp, age_ms: int, *, signs: bool) -> None:
        self._journal = journal
        self._stamp = stamp
        self._age_ms = age_ms
        self._signs = signs
        self._next = len(journal) + 1
        self._fresh: dict[bytes, int] = {}
        self.pairs: list[Pair] = []
        self.exchanges: list[Exchange] = []
        self.leaves: list[bytes] = []
        self.entered: list[Entered] = []
        """Where each piece of work will stand, once all is written."""

    def add_draft(self, draft: Draft) -> None:
        """Seal one exchange."""
        statement = receipts.statement_of(draft, self._stamp)
        digest = hashlib.sha256(statement).digest()
        exchange = Exchange(
            self._next,
            draft.receipt_id,
            digest,
            self._age_ms,
            draft.salt,
            draft.path,
            draft.request,
            draft.response,
            draft.status,
        )
        self.exchanges.append(exchange)
        promise = self._promise(draft, digest)
        pair = Pair(kind="receipt", body=statement, receipt_id=draft.receipt_id)
        self._add(pair, digest, promise)

    def add_signed(self, work: Signed) -> None:
        """Take an envelope, or find where the same one stands already."""
        name = hashlib.sha256(work.envelope).digest()
        known = self._fresh.get(name) or self._journal.number_of_envelope(name)
        if known is not None:
            self.entered.append(Entered(known, b""))
            return
        self._fresh[name] = self._next
        pair = Pair(kind=work.kind, body=work.envelope)
        self._add(pair, hashlib.sha256(pair.statement()).digest(), b"")

    def _add(self, pair: Pair, digest: bytes, promise: bytes) -> None:
        self.pairs.append(pair)
        self.leaves.append(entry.leaf(digest, pair.kind, self._stamp.provider.keyid))
        self.entered.append(Entered(self._next, promise))
        self._next += 1

    def _promise(self, draft: Draft, digest: bytes) -> bytes:
        """Return the compact receipt of a draft, signed if the settings say so."""
        parts = compact.Parts(
            self._next,
            draft.receipt_id.encode(),
            draft.asked.hex().encode(),
            draft.answered.hex().encode(),
            draft.salt.hex().encode(),
            digest.hex().encode(),
            draft.status,
            draft.outcome.encode(),
        )
        plain = compact.spell(parts)
        if not self._signs:
            return plain
        signature = self._stamp.gateway.sign(compact.SIGNED_PREFIX + plain)
        return compact.with_signature(plain, signature)


class Scribe:
    """Journal, vault and log of one gateway, and the stamp that its receipts carry."""

    def __init__(
        self,
        journal: Journal,
        vault: Vault,
        log: LogStore,
        stamp: Stamp,
        durability: Durability = "group-fsync",
        promises: Promises = "signed",
        notary: Notary | None = None,
    ) -> None:
        self._journal = journal
        self._vault = vault
        self._log = log
        self._stamp = stamp
        self._flusher = ThreadPoolExecutor(1, thread_name_prefix="vault-flush")
        self._durable = durability == "group-fsync"
        self._signs = promises == "signed"
        self._provider = stamp.provider.keyid
        self._notary = notary

    def begin(self) -> None:
        """Bring the log up to the journal and cut what a crash tore.

        Raises:
            StorageError: journal and log contradict each other.
        """
        self._complete_log()
        self._journal.cut_torn_tail()
        self._vault.cut(len(self._journal))

    def sync(self) -> None:
        """Make everything that was written survive a loss of power.

        Raises:
            StorageError: the disk refused.
        """
        self._vault.sync()
        self._journal.sync()

    def close(self) -> None:
        """End the thread that flushes."""
        self._flusher.shutdown()

    def probe(self) -> None:
        """Try whether the disk takes bytes again.

        Raises:
            StorageError: it does not.
        """
        self._complete_log()
        self._vault.probe()
        self._journal.probe()

    def commit(self, works: Sequence[Work]) -> list[Entered]:
        """Seal, write and log a batch, and return where each went, in order.

        Raises:
            StorageError: the disk refused; nothing of the batch remains.
        """
        if len(self._journal) != self._log.size:
            self._complete_log()
        batch = _Batch(self._journal, self._stamp, self._vault.age_ms, signs=self._signs)
        for work in works:
            if isinstance(work, Signed):
                batch.add_signed(work)
            else:
                batch.add_draft(work)
        if batch.pairs:
            self._write(batch)
        if self._notary is not None:
            for work, where in zip(works, batch.entered, strict=True):
                if isinstance(work, Draft):
                    self._notary.note(work, where.compact)
        return batch.entered

    def _write(self, batch: _Batch) -> None:
        with self._vault.appending(batch.exchanges), self._journal.appending(batch.pairs):
            if self._durable:
                self._flush(batch)
            self._log.stage(batch.leaves)

    def _flush(self, batch: _Batch) -> None:
        """Wait until journal and vault survive a loss of power, both at once.

        Should it be lost with the journal flushed and the vault not, the next start says in the log
        that these pairs, whose receipts nobody got, are lost.
        """
        other = self._flusher.submit(self._vault.sync) if batch.exchanges else None
        try:
            self._journal.sync()
        finally:
            if other is not None:
                other.result()

    def compare(self, size: int) -> None:
        """Hold every entry of the log behind the first ``size`` to the journal.

        Raises:
            StorageError: one is another.
        """
        for number, pair in enumerate(self._journal.after(size), size + 1):
            if self._log.entry(number - 1) != self._leaf(pair):
                raise StorageError(f"entry {number} of log and journal differ", Reason.DAMAGED)

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
        return entry.of_statement(pair.statement(), pair.kind, self._provider)
