"""The auditor at work: open an epoch, audit what it draws, publish records and a result.

Every step leaves its trace in the log before the next begins, so a killed auditor resumes. Answers
are recomputed many at a time, and recorded one by one, in the order of the log.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from lydite.appraisal import decision, references
from lydite.appraisal.bundle import Bundle
from lydite.appraisal.policy import Policy
from lydite.appraisal.policy import digest as policy_digest
from lydite.appraisal.trust import Anchor, Trust
from lydite.auditor.bench import Bench, Case
from lydite.auditor.casebook import Casebook
from lydite.auditor.gateway_client import Gateway
from lydite.auditor.packing import pack
from lydite.errors import LyditeError, Reason, UnavailableError
from lydite.evidence.tokens.reference import KIND
from lydite.messages import opening as openings
from lydite.messages.audit import Audit, AuditPredicate, Result, ResultPredicate, Verdict
from lydite.messages.canonical import encode
from lydite.messages.finding import Finding
from lydite.messages.statement import subject
from lydite.messages.tier import Tier
from lydite.signing.dsse import digest
from lydite.signing.keys import Signer, sign_envelope

_logger = logging.getLogger(__name__)

_POLL_S = 0.1
_TOGETHER = 64
"""Answers that are recomputed together, and lost together if the auditor is killed."""


class Auditor:
    """Audits one provider behind one gateway."""

    def __init__(
        self,
        client: Gateway,
        trust: Trust,
        anchor: Anchor,
        policy: Policy,
        bench: Bench,
        signer: Signer,
        patience_s: float | None = None,
        case: Casebook | None = None,
    ) -> None:
        """Audit as ``anchor`` and ``policy`` say, from ``case`` if somebody has read it already.

        A drawn receipt that the gateway does not open is asked for again until ``patience_s`` have
        passed, and is then the gateway's fault. None asks once and holds it against nobody.
        """
        self._client = client
        self._patience_s = patience_s
        self._refused_s: dict[int, float] = {}
        self._policy = policy
        self._bench = bench
        self._signer = signer
        self.case = case or Casebook(client, trust, anchor, policy, signer.keyid)

    def open_epoch(self, epsilon_ppm: int | None = None) -> None:
        """Have the gateway draw from all that was logged since the last epoch, and read the draw.

        Raises:
            UnavailableError: the gateway does not answer.
            VerificationError: the draw is not what it has to be.
        """
        rate = self._policy.epsilon_ppm if epsilon_ppm is None else epsilon_ppm
        self.await_entry(self._client.open_epoch(rate))

    @property
    def due(self) -> bool:
        """Whether a receipt was logged that no epoch has drawn from yet."""
        case = self.case
        covered = max((e.predicate.tree_size for e in case.epochs.values()), default=0)
        later = range(covered + 1, case.mirror.size + 1)
        return any(case.mirror.entry(number).kind == "receipt" for number in later)

    def audit_pending(self, progress: Callable[[int, int], None] | None = None) -> int:
        """Audit every drawn receipt that has no record yet and return how many there were.

        ``progress`` is told how many are done, and of how many. Those that the gateway has not
        opened, while there is patience, stay pending.
        """
        self.case.catch_up()
        if self.case.declaration is not None:
            references.check_fit(self.case.declaration, self._bench.references)
        pending = self.case.pending()
        last = done = 0
        for lot in (pending[at : at + _TOGETHER] for at in range(0, len(pending), _TOGETHER)):
            for number, findings in self._examine(lot).items():
                if findings is not None:
                    last = self._client.publish(self._record(number, findings))
                done += 1
                if progress is not None:
                    progress(done, len(pending))
        self.await_entry(last)
        return len(pending)

    def judge(self) -> Verdict:
        """Decide on everything audited so far and publish the result.

        Raises:
            UnavailableError: a drawn receipt has no record yet, or there is no declaration.
        """
        case = self.case
        if case.pending() or case.declaration is None:
            raise UnavailableError("drawn receipts are waiting for their audit")
        audited = sorted(case.audits)
        findings = [case.audits[number][1].predicate.findings for number in audited]
        verdict = decision.decide(self._policy, self._bench.references, findings, case.declaration)
        declared = digest(case.envelope(case.declaration_entry))
        epochs = [statement.predicate for statement in case.epochs.values()]
        result = Result(
            subject=subject("declaration", declared),
            predicate=ResultPredicate(
                verdict=verdict,
                epochs=len(epochs),
                tree_size=epochs[-1].tree_size if epochs else 0,
                declaration=declared.hex(),
                policy=policy_digest(self._policy),
                references=references.digests(self._bench.references),
                provider=case.anchor.provider,
                auditor=self._signer.keyid,
                issued=_now(),
            ),
        )
        self.await_entry(self._client.publish(sign_envelope(encode(result), self._signer)))
        return verdict

    def bundle(self) -> Bundle:
        """Return the bundle of everything so far."""
        self.case.catch_up()
        return pack(self.case, self._policy, self._bench.references)

    def await_entry(self, number: int, timeout_s: float = 30.0) -> None:
        """Wait until a witnessed checkpoint covers entry ``number``, and read up to there.

        Raises:
            UnavailableError: none does within the time.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            self.case.catch_up()
            if self.case.mirror.size >= number:
                return
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"entry {number} is not in a witnessed checkpoint after {timeout_s} s"
                )
            time.sleep(_POLL_S)

    def _record(self, number: int, findings: Sequence[Finding]) -> bytes:
        """Return the signed record of one drawn receipt."""
        case = self.case
        statement = Audit(
            subject=subject("receipt", digest(case.envelope(number))),
            predicate=AuditPredicate(
                epoch=case.receipts[number],
                entry=number,
                findings=tuple(findings),
                provider=case.anchor.provider,
                auditor=self._signer.keyid,
            ),
        )
        return sign_envelope(encode(statement), self._signer)

    def _examine(self, numbers: Sequence[int]) -> dict[int, list[Finding] | None]:
        """Return what is found on some drawn receipts, None for those there is patience with."""
        found: dict[int, list[Finding] | None] = {}
        cases: dict[int, Case] = {}
        for number in numbers:
            receipt = self.case.receipt(number)
            try:
                opening = self._client.opening(number)
                openings.check(opening, receipt)
                cases[number] = Case(receipt, opening)
            except LyditeError as error:
                found[number] = self._unopened(number, error.reason, Reason.WITHHELD)
            except Exception:  # a hostile gateway's bytes met a bug of ours: that opens nothing
                _logger.exception("opening of entry %d", number)
                failed = Reason.EXAMINATION_FAILED
                found[number] = self._unopened(number, failed, Reason.WITHHELD)
        found |= self._examined(cases)
        return {number: found[number] for number in numbers}

    def _examined(self, cases: Mapping[int, Case]) -> dict[int, list[Finding] | None]:
        """Return the findings on opened receipts: together, or one by one where that fails."""
        declared = self.case.declaration
        ids = declared is not None and declared.predicate.token_ids
        try:
            together = self._bench.examine_all(list(cases.values()), declares_ids=ids)
        except Exception:  # the same as for openings: whose answer it is shows below
            _logger.exception("examination of %d entries together", len(cases))
        else:
            return dict(zip(cases, together, strict=True))
        found: dict[int, list[Finding] | None] = {}
        for number, case in cases.items():
            try:
                found[number] = self._bench.examine(*case, declares_ids=ids)
            except Exception:  # one answer must not stop the audit of all others
                _logger.exception("examination of entry %d", number)
                failed = Reason.EXAMINATION_FAILED
                found[number] = self._unopened(number, failed, failed)
        return found

    def _unopened(self, number: int, reason: Reason, late: Reason) -> list[Finding] | None:
        """Return what an examination that did not come about amounts to, None to try it again.

        ``reason`` is why not, and ``late`` what that is once there is no patience left.
        """
        if self._patience_s is None:  # nothing was learnt about the provider
            return [Finding(kind=KIND, tier=Tier.NONE, reason=reason)]
        now = time.monotonic()
        if now - self._refused_s.setdefault(number, now) < self._patience_s:
            return None
        return [Finding(kind=KIND, tier=Tier.WARNING, reason=late)]


def _now() -> str:
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03}Z"
