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
from lydite.appraisal.report import Fact, Report, refused
from lydite.appraisal.trust import Anchor, Trust
from lydite.errors import FormatError, Reason, VerificationError
from lydite.messages.canonical import Count, Message, Word, decode
from lydite.messages.compact import Compact, signed_bytes
from lydite.messages.tier import Tier
from lydite.signing.dsse import PublicKey, check_signature

JOURNAL_BYTES = 64 * 1024 * 1024
"""Longest journal of kept receipts that is read."""


class Kept(Message, frozen=True, kw_only=True):
    """One receipt in a client's journal: where it came from, when, and what it promises.

    ``url`` is the gateway's origin; ``received_ms`` is of the client's clock. The commitments were
    held against the client's own bytes when the answer came, so the bytes need not be kept.
    """

    v: Literal[1] = 1
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
    4. It is in the witnessed log, or the deadline is not over.

    Raises:
        FormatError, VerificationError: a step fails; past its deadline with ``BROKEN_PROMISE``.

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
    if overdue and report.reason is Reason.NOT_IN_LOG:
        raise _broken(kept, "no checkpoint covers it")
    return report


def summed(reports: Sequence[Report]) -> Report:
    """Return one report on all promises of a journal, none of which was found broken.

    Affirming if there are some, the log holds each, and all answers were complete; a warning where
    one was not; none where one is only late.
    """
    late = [report for report in reports if report.tier is Tier.NONE]
    broken = [report for report in reports if report.tier is Tier.WARNING]
    if not reports:
        return refused(Tier.NONE, Reason.NO_RECEIPT, "the journal is empty")
    settled = len(reports) - len(late)
    facts = (
        Fact(name="receipts", value=str(len(reports))),
        Fact(name="in the log", value=str(settled)),
        Fact(name="not complete", value=str(len(broken))),
    )
    if late:
        return Report(
            tier=Tier.NONE,
            reason=late[0].reason,
            headline="receipts signed, not all of them logged yet",
            detail=late[0].detail,
            facts=facts,
            caveats=receipts.CAVEATS,
        )
    if broken:
        return Report(
            tier=Tier.WARNING,
            reason=broken[0].reason,
            headline="every promise is kept, not all of them about complete answers",
            detail=broken[0].detail,
            facts=facts,
            caveats=receipts.CAVEATS,
        )
    return Report(
        tier=Tier.AFFIRMING,
        reason=Reason.CONSISTENT,
        headline="every promise is kept",
        detail="",
        facts=facts,
        caveats=receipts.CAVEATS,
    )


def _promiser(compact: Compact, trust: Trust) -> Anchor:
    by_key = {anchor.gateway_public: anchor for anchor in trust.providers}
    return by_key[verify_promise(compact, by_key)]


def _broken(kept: Kept, what: str) -> VerificationError:
    return VerificationError(
        Reason.BROKEN_PROMISE,
        f"receipt {kept.compact.id} was promised as entry {kept.compact.entry} of the log: {what}",
    )
