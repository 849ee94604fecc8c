"""Holds what a gateway says it destroyed against the draw and the log.

A pair that was drawn and declared destroyed, or was not drawn and declared kept, shows as another
digest. Knows nothing of where the pairs were.
"""

from collections.abc import Iterable, Mapping, Sequence

from lydite.errors import Reason, VerificationError
from lydite.messages import retention
from lydite.messages.retention import Predicate, Span, Spans


def verify_kept(said: Predicate, epoch: int, span: Span, drawn: Mapping[int, bytes]) -> None:
    """Check the statement on one epoch against the receipts that the epoch drew.

    1. It is about this epoch and its range.
    2. The receipts that it says are kept are those drawn, but for those it says were lost before.
    3. It declares no more destroyed than the draw left.

    Args:
        said: the statement's predicate, of cause ``undrawn``.
        epoch: the epoch's number.
        span: first and last entry that it drew from.
        drawn: digests of the statements of the receipts that it drew, by entry, in order.

    Raises:
        VerificationError: a step fails (``RETENTION_MISMATCH``).

    **Does not show** that the undrawn receipts it names as destroyed are those of the log, for
    which the whole log is needed (``verify_recounted``), nor that the bytes are gone from every
    place that ever held them.
    """
    # 1.
    if (said.cause, said.epoch, (said.first, said.last)) != ("undrawn", epoch, span):
        raise _mismatch(said, f"expected epoch {epoch} over entries {span[0]} to {span[1]}")
    # 2.
    lost = Spans(said.spans)
    kept = [(number, digest) for number, digest in drawn.items() if not lost.hold(number)]
    if (said.kept, said.kept_digest) != _named(kept):
        raise _mismatch(said, f"{len(kept)} receipts were drawn and not lost")
    # 3.
    if said.destroyed > span[1] - span[0] + 1 - len(drawn):
        raise _mismatch(said, f"{said.destroyed} destroyed are more than were left undrawn")


def verify_recounted(
    said: Predicate, drawn: Iterable[int], receipts: Mapping[int, bytes], losses: Sequence[Span]
) -> None:
    """Check a statement against every receipt of its range.

    1. An epoch's statement names exactly what earlier statements said was lost of its range.
    2. The receipts declared destroyed are exactly those left: not drawn, and not lost before.
    3. The receipts declared kept are exactly those drawn and not lost before.

    Args:
        said: the statement's predicate.
        drawn: the entries that the epoch drew, empty for other causes.
        receipts: digests of the statements of the provider's receipts from ``first`` to ``last``,
            by entry, in order, as the log's leaves have them.
        losses: spans that earlier statements declared lost or destroyed.

    Raises:
        VerificationError: a step fails (``RETENTION_MISMATCH``).

    **Does not show** that the bytes are gone from every place that ever held them: only that the
    gateway has said so, and about which.
    """
    chosen, named, lost = set(drawn), Spans(said.spans), Spans(losses)
    # 1.
    if said.cause == "undrawn" and named.spans != lost.within((said.first, said.last)):
        raise _mismatch(said, "it names other losses than earlier statements do")
    # 2.
    everything = said.cause in ("undrawn", "full", "old")
    left = {number: each for number, each in receipts.items() if not lost.hold(number)}
    gone = [
        (number, each)
        for number, each in left.items()
        if number not in chosen and (everything or named.hold(number))
    ]
    if (said.destroyed, said.destroyed_digest) != _named(gone):
        raise _mismatch(said, f"the log and the draw leave {len(gone)} to be destroyed")
    # 3.
    kept = [(number, each) for number, each in left.items() if number in chosen]
    if (said.kept, said.kept_digest) != _named(kept):
        raise _mismatch(said, f"{len(kept)} receipts were drawn and not lost")


def _named(entries: Sequence[tuple[int, bytes]]) -> tuple[int, str]:
    return len(entries), retention.digest(entries).hex()


def _mismatch(said: Predicate, why: str) -> VerificationError:
    return VerificationError(
        Reason.RETENTION_MISMATCH,
        f"retention of entries {said.first} to {said.last} ({said.cause}, {said.kept} kept, "
        f"{said.destroyed} destroyed): {why}",
    )
