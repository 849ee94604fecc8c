"""Examines one request because its client asks for it: recomputed, signed, logged, and no more.

Only who knows the request's salt may ask, which its client alone was given. The client saw the
answer before it asked, so what is found stands in the recomputer's own log and never among a
provider's audits. Decides nothing: the appraisal does.
"""

import threading
import time
from typing import Final

import msgspec

from lydite.appraisal import choice
from lydite.appraisal.choice import Asked
from lydite.appraisal.policy import digest as policy_digest
from lydite.appraisal.references import Reference, digests
from lydite.auditor.bench import Bench
from lydite.auditor.ledger import Ledger
from lydite.auditor.outcomes import Located, Outcomes
from lydite.auditor.refusals import timestamp
from lydite.errors import Reason, UnavailableError, VerificationError
from lydite.messages import opening as openings
from lydite.messages import receipt as receipts
from lydite.messages.canonical import encode
from lydite.messages.examination import Examination, Predicate
from lydite.messages.finding import Finding
from lydite.messages.statement import subject
from lydite.signing.dsse import Envelope, digest, key_id, open_envelope

_KEPT: Final = 1000
"""How many answers are kept: the same question gets the same signed statement."""


class Examiner:
    """Examines on request, one answer at a time. May be called from several threads."""

    def __init__(self, outcomes: Outcomes, ledger: Ledger, waiting: int) -> None:
        """Let at most ``waiting`` clients wait for their turn."""
        self._outcomes = outcomes
        self._ledger = ledger
        self._places = threading.BoundedSemaphore(waiting)
        self._turn = threading.Lock()
        self._done: dict[tuple[str, str], Asked] = {}

    def examine(self, receipt_id: str, salt: str) -> Asked:
        """Return the examination of one request, asked for with its salt in hexadecimal.

        Raises:
            UnavailableError: the gateway does not open it (any more) for this salt, it is in no
                witnessed checkpoint yet (``NOT_IN_LOG``), there is no reference for its model
                (``UNKNOWN_REFERENCE``), or too many clients ask (``CONFLICT``).
            VerificationError: the receipt, or what was opened, is not what was signed.
        """
        if not self._places.acquire(blocking=False):
            raise UnavailableError("too many clients ask at once", Reason.CONFLICT)
        try:
            with self._turn:
                known = self._done.get((receipt_id, salt))
                return known or self._examine(receipt_id, salt)
        finally:
            self._places.release()

    def _examine(self, receipt_id: str, salt: str) -> Asked:
        found = self._outcomes.locate(receipt_id)
        watch = found.watch
        bench = watch.bench
        if found.served.proof is None:
            raise UnavailableError("no checkpoint covers this receipt yet", Reason.NOT_IN_LOG)
        if bench is None:
            raise UnavailableError(
                f"no reference for {watch.place.model} is here", Reason.UNKNOWN_REFERENCE
            )
        envelope = encode(found.served.envelope)
        findings = self._findings(found, bench, envelope, receipt_id, salt)
        statement = self._statement(found, bench.references, envelope, receipt_id, findings)
        entered = self._ledger.enter("examination", encode(statement))
        asked = Asked(
            receipt=found.served,
            examination=msgspec.json.decode(entered.envelope, type=Envelope),
            policy=watch.terms.policy,
            references=bench.references,
        )
        if len(self._done) >= _KEPT:
            self._done.pop(next(iter(self._done)))
        self._done[receipt_id, salt] = asked
        return asked

    def _findings(
        self, found: Located, bench: Bench, envelope: bytes, receipt_id: str, salt: str
    ) -> tuple[Finding, ...]:
        """Recompute one answer.

        1. The receipt is signed by both keys of the anchor, logged where it says, and asked for.
        2. The gateway opens it for this salt, and what it opens is what was committed to.
        3. The bench of verifiers says what it finds.
        """
        watch = found.watch
        # 1.
        anchor = watch.anchor
        keys = {key_id(key): key for key in (anchor.provider_public, anchor.gateway_public)}
        payload = open_envelope(envelope, keys, list(keys))
        receipt = receipts.parse(payload)
        watch.check_logged(payload, found.served.index or 0)
        if receipt.predicate.receipt_id != receipt_id:
            raise VerificationError(Reason.BAD_COMMITMENT, "the gateway gave another receipt")
        # 2.
        opening = watch.clients.client.chosen_opening(receipt_id, salt)
        openings.check(opening, receipt)
        # 3.
        declared = watch.case.declaration
        ids = declared is not None and declared.predicate.token_ids
        return tuple(bench.examine(receipt, opening, declares_ids=ids))

    def _statement(
        self,
        found: Located,
        references: tuple[Reference, ...],
        envelope: bytes,
        receipt_id: str,
        findings: tuple[Finding, ...],
    ) -> Examination:
        watch, number = found.watch, found.served.index or 0
        rules = watch.terms.policy
        verdict, tier, reason = choice.judge(rules, references, findings, number)
        return Examination(
            subject=subject("receipt", digest(envelope)),
            predicate=Predicate(
                receipt_id=receipt_id,
                entry=number,
                findings=findings,
                verdict=verdict,
                choice_milli=choice.price_milli(number),
                tier=tier,
                reason=reason,
                policy=policy_digest(rules),
                references=digests(references),
                provider=watch.anchor.provider,
                auditor=watch.terms.signer.keyid,
                issued=timestamp(time.time()),
            ),
        )
