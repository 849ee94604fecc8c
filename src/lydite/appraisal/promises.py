"""A compact receipt as a promise: the gateway said that this statement is that entry of its log.

A client keeps the promises that came with its answers and later holds the gateway to them. Bytes,
trust anchors and the time in; reports out.
"""

import base64
import binascii
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from lydite.appraisal import receipts
from lydite.appraisal.receipts import Served
from lydite.appraisal.report import Fact, Report, refused
from lydite.appraisal.trust import Anchor, Trust
from lydite.errors import FormatError, Reason, VerificationError
from lydite.messages import receipt
from lydite.messages.canonical import Count, Message, Word, decode
from lydite.messages.compact import Compact, signed_bytes
from lydite.messages.tier import Tier
from lydite.signing.dsse import PublicKey, check_signature, payload_of

JOURNAL_BYTES = 64 * 1024 * 1024
"""Longest journal of kept receipts that is read."""
SKEW_MS = 300_000
"""How far the clocks of gateway and client may lie apart."""
_SUMS = {
    Tier.CONTRAINDICATED: "not every promise is kept",
    Tier.NONE: "receipts signed, not all of them logged yet",
    Tier.WARNING: "every promise is kept, not all of them about complete answers",
    Tier.AFFIRMING: "every promise is kept",
}
"""The tiers of promises, the worst first, and what a journal with such a one is called."""


class Kept(Message, frozen=True, kw_only=True):
    """One receipt in a client's journal: where it came from, when, and what it promises.

    ``url`` is the gateway's origin. By the client's clock the request went out at ``asked_ms``,
    which old journals lack, and the whole answer was there at ``received_ms``. The commitments were
    held against the client's own bytes then, so the bytes need not be kept.
    """

    v: Literal[1] = 1
    asked_ms: Count | msgspec.UnsetType = msgspec.UNSET
    compact: Compact
    received_ms: Count
    url: Word


def parse_journal(payload: bytes) -> tuple[Kept, ...]:
    """Parse a journal, one receipt a line.

    Raises:
        FormatError: too long, or a line is not a kept receipt in its one spelling.
    """
    if len(payload) > JOURNAL_BYTES:
        raise FormatError(f"a journal of {len(payload)} bytes", Reason.TOO_LARGE)
    return tuple(decode(line, Kept, limit=8192) for line in payload.split(b"\n") if line)


def verify_promise(compact: Compact, keys: Iterable[PublicKey]) -> PublicKey:
    """Check the signature of a compact receipt, and return which of the gateways' keys made it.

    Raises:
        VerificationError: it has none (``NO_RECEIPT``), or none of the keys made it.

    **Does not show** that the statement is in the log, only that the gateway said so.
    """
    if compact.signature is None:
        raise VerificationError(Reason.NO_RECEIPT, f"receipt {compact.id} is not signed")
    try:
        signature = base64.b64decode(compact.signature, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FormatError(f"receipt {compact.id}: signature: {error}") from error
    message = signed_bytes(compact)
    for key in keys:
        try:
            check_signature(key, message, signature)
        except VerificationError:
            continue
        return key
    raise VerificationError(
        Reason.BAD_SIGNATURE, f"receipt {compact.id} is signed by no gateway that you trust"
    )


def settle(
    kept: Kept, served: bytes | None, trust: Trust, *, now_ms: int, deadline_ms: int
) -> Report:
    """Hold a gateway to one promise; ``served`` is its answer at ``/v1/receipts/ID``.

    ``None`` stands for an answer that is none, whatever its status: past the deadline only a
    statement keeps a promise.

    1. The promise, if it is signed, is by a gateway that the relying party knows.
    2. The statement is served, or the deadline is not over.
    3. It is signed by provider and gateway, the one that was promised, at the entry promised.
    4. Its gateway had the request when this client asked or later, but for ``SKEW_MS``.
    5. It is in the witnessed log, or the deadline is not over.

    Raises:
        FormatError, VerificationError: a step fails; past its deadline with ``BROKEN_PROMISE``,
            step 4 with ``STALE``.

    **Does not show** that the declared model made the answer, nor that a gateway which does not
    answer is there at all: what is only late has tier ``none``.
    """
    overdue = now_ms - kept.received_ms > deadline_ms
    # 1.
    whom = trust
    if kept.compact.signature is not None:
        whom = msgspec.structs.replace(trust, providers=(_promiser(kept.compact, trust),))
    # 2.
    if served is None:
        if overdue:
            raise _broken(kept, "no statement is served")
        return refused(Tier.NONE, Reason.NOT_IN_LOG, "not served yet; ask again in a second")
    # 3.
    report = receipts.check(served, whom, kept.compact, kept.compact.id)
    # 4.
    _check_fresh(kept, served)
    # 5.
    if overdue and report.reason is Reason.NOT_IN_LOG:
        raise _broken(kept, "no checkpoint covers it")
    return report


def summed(reports: Sequence[Report]) -> Report:
    """Return one report on all promises of a journal; the worst of them decides.

    Affirming if there are some, the log holds each, and all answers were complete; a warning where
    one was not; none where one is only late; contraindicated where one is broken.
    """
    if not reports:
        return refused(Tier.NONE, Reason.NO_RECEIPT, "the journal is empty")
    of = {tier: [report for report in reports if report.tier is tier] for tier in _SUMS}
    facts = (
        Fact(name="receipts", value=str(len(reports))),
        Fact(name="in the log", value=str(len(of[Tier.AFFIRMING]) + len(of[Tier.WARNING]))),
        Fact(name="not complete", value=str(len(of[Tier.WARNING]))),
        Fact(name="at fault", value=str(len(of[Tier.CONTRAINDICATED]))),
    )
    tier = next(tier for tier in _SUMS if of[tier])
    worst = of[tier][0]
    return Report(
        tier=tier,
        reason=worst.reason,
        headline=_SUMS[tier],
        detail=worst.detail,
        facts=facts,
        caveats=receipts.CAVEATS,
    )


def _promiser(compact: Compact, trust: Trust) -> Anchor:
    by_key = {anchor.gateway_public: anchor for anchor in trust.providers}
    return by_key[verify_promise(compact, by_key)]


def _check_fresh(kept: Kept, served: bytes) -> None:
    """Check that the statement is no older than the request: else somebody else's answer came."""
    said = receipt.parse(payload_of(decode(served, Served).envelope)).predicate
    if kept.asked_ms is msgspec.UNSET:
        return
    early_ms = kept.asked_ms - receipt.unix_ms(said.timing.received)
    if early_ms > SKEW_MS:
        raise VerificationError(
            Reason.STALE,
            f"receipt {kept.compact.id}: its gateway had the request {early_ms // 1000} s before "
            "you sent it: an older answer to the same request, or clocks that differ",
        )


def _broken(kept: Kept, what: str) -> VerificationError:
    return VerificationError(
        Reason.BROKEN_PROMISE,
        f"receipt {kept.compact.id} was promised as entry {kept.compact.entry} of the log: {what}",
    )
