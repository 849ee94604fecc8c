"""What a gateway pledged and what it says it destroyed, recounted from a whole copy of its log.

Only who has every leaf can say that a pledge was the first of its epoch, and that what is declared
destroyed is exactly what the draw left.
"""

from collections.abc import Sequence

from lydite.appraisal.retention import verify_recounted
from lydite.appraisal.selection import Pledged, check_pledge
from lydite.auditor.mirror import Mirror
from lydite.errors import Reason, VerificationError
from lydite.messages import entropy, retention
from lydite.messages.epoch import Predicate as Epoch
from lydite.messages.retention import Predicate, Spans


class Disposals:
    """The pledges and retention statements of one log, taken in its order."""

    def __init__(self, mirror: Mirror, provider: str) -> None:
        self._mirror = mirror
        self._provider = provider
        self._pledges: dict[int, Pledged] = {}
        self._epochs: list[Epoch] = []
        self._drawn: dict[int, frozenset[int]] = {}
        self._gone = Spans(())
        self.statements: dict[int, int] = {}
        """Entries of the statements on epochs, by the epoch's number."""

    def take_pledge(self, number: int, payload: bytes) -> None:
        """Take the pledge at an entry.

        Raises:
            VerificationError: it is out of turn, or of another provider.
        """
        said = entropy.parse(payload).predicate
        if said.provider != self._provider:
            raise VerificationError(Reason.WRONG_PROVIDER, f"pledge at entry {number} of another")
        check_pledge(said, [each.said.epoch for each in self._pledges.values()], self._epochs)
        digest = bytes.fromhex(self._mirror.entry(number).sha256)
        self._pledges[number] = Pledged(number, said, digest)

    def pledge_at(self, number: int) -> Pledged:
        """Return the pledge at an entry, if it is the newest.

        Raises:
            VerificationError: there is none, or a later one took its place.
        """
        if not self._pledges or next(reversed(self._pledges)) != number:
            raise VerificationError(
                Reason.BAD_ENTROPY, f"entry {number} is not the newest pledge of an epoch"
            )
        return self._pledges[number]

    def opened(self, said: Epoch, drawn: Sequence[int]) -> None:
        """Take note of an epoch whose draw was checked."""
        self._epochs.append(said)
        self._drawn[said.epoch] = frozenset(drawn)

    def take_retention(self, number: int, payload: bytes) -> None:
        """Take the statement at an entry and recount what it declares destroyed.

        1. It is about this provider, about what came before it, and in its turn.
        2. It declares destroyed and kept exactly what log, draw and earlier losses leave.

        Raises:
            VerificationError: a step fails.
        """
        said = retention.parse(payload).predicate
        # 1.
        if said.provider != self._provider:
            raise VerificationError(Reason.WRONG_PROVIDER, f"retention at entry {number}")
        if not 1 <= said.first <= said.last < number:
            raise self._refused(number, "about entries that did not come before it")
        self._check_turn(number, said)
        # 2.
        verify_recounted(
            said,
            self._drawn[said.epoch] if said.cause == "undrawn" else (),
            self._receipts(said.first, said.last),
            self._gone.spans,
        )
        if said.cause == "undrawn":
            self.statements[said.epoch] = number
        elif said.cause in ("full", "old"):
            self._gone = Spans([*self._gone.spans, (said.first, said.last)])
        else:
            self._gone = Spans([*self._gone.spans, *said.spans])

    def _check_turn(self, number: int, said: Predicate) -> None:
        if said.cause == "undrawn":
            due = len(self.statements) + 1
            if said.epoch != due or due > len(self._epochs):
                raise self._refused(number, f"about epoch {said.epoch}, expected {due}")
            opened = self._epochs[due - 1]
            if (said.first, said.last) != (opened.first, opened.tree_size):
                raise self._refused(number, f"not about the range of epoch {due}")
        elif said.cause in ("full", "old"):
            covered = self._epochs[-1].tree_size if self._epochs else 0
            pledged = next(reversed(self._pledges), 0)
            if said.first <= max(covered, pledged):
                raise self._refused(number, "drops what an epoch was pledged or opened over")

    def _receipts(self, first: int, last: int) -> dict[int, bytes]:
        found = {}
        for number in range(first, last + 1):
            leaf = self._mirror.entry(number)
            if leaf.kind == "receipt" and leaf.prov == self._provider:
                found[number] = bytes.fromhex(leaf.sha256)
        return found

    def _refused(self, number: int, why: str) -> VerificationError:
        return VerificationError(Reason.RETENTION_MISMATCH, f"retention at entry {number}: {why}")
