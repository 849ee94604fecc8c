"""Check a bundle offline: signatures, log, witnesses, selection, audits, and the verdict itself.

Bytes and trust anchors in, a report out. No clock, no network, no model.
"""

import hashlib
import itertools
from collections.abc import Sequence

from lydite.appraisal import bundle as bundles
from lydite.appraisal import decision, policy, references, retention, selection
from lydite.appraisal.bundle import Bundle, Bystander, Logged, LoggedEpoch
from lydite.appraisal.report import Report
from lydite.appraisal.selection import Draw, Pledged, Witnessed
from lydite.appraisal.summary import Checked, summarise
from lydite.appraisal.trust import Anchor, Trust
from lydite.errors import Reason, VerificationError
from lydite.messages import audit, declaration, entropy, entry, epoch, receipt
from lydite.messages import retention as retention_messages
from lydite.messages.audit import Audit
from lydite.messages.declaration import Declaration
from lydite.messages.entry import EntryKind
from lydite.messages.finding import Finding
from lydite.signing.dsse import KeyId, PublicKey, key_id, open_envelope, payload_of
from lydite.tlog import verification as merkle
from lydite.tlog.checkpoint import Checkpoint, decode_hash
from lydite.tlog.hashing import leaf_hash


def verify(payload: bytes, trust: Trust, not_before_s: int | None = None) -> Report:
    """Check one bundle against a relying party's trust anchors.

    1. The bundle is in its one spelling, about a provider that the relying party knows.
    2. Policy and references are the ones that the relying party pinned.
    3. The checkpoint is the log's, and enough witnesses cosigned it.
    4. The declaration is the provider's, logged, and of the weights that the references are for.
    5. The epochs cover the log without gap; each was pledged before, and draws as its proof says;
       the last of them drew at ``not_before_s`` (Unix seconds) or later if that is given.
    6. Every drawn entry is shown, every receipt of the provider among them is signed by provider
       and gateway, logged, and under the declaration.
    7. Every drawn receipt has one audit, signed by an accepted auditor and logged after the draw,
       and is not among those that the gateway says it destroyed undrawn.
    8. The verdict follows from the recorded findings, and the result says so, signed and logged.

    Raises:
        FormatError, VerificationError: the evidence is not acceptable; the reason says why.

    **Does not show**: see ``summary.CAVEATS``, which every report repeats.
    """
    # 1.
    bundle = bundles.parse(payload)
    anchor = trust.anchor(bundle.provider)
    # 2.
    _check_pinned(bundle, trust)
    # 3.
    accepted = selection.witnessed(bundle.checkpoint.encode(), trust.log_policy(anchor))
    book = _Book(anchor, trust, accepted)
    # 4.
    declared = _declaration(bundle, book)
    # 5.
    epochs, draws = _epochs(bundle, book)
    _fresh(draws, not_before_s)
    # 6.
    _receipts(bundle, book, declared, [number for draw in draws for number in draw.entries])
    # 7.
    findings = _audits(bundle, book, epochs)
    silent = _retained(bundle, book, epochs)
    # 8.
    verdict = decision.decide(bundle.policy, bundle.references, findings, declared)
    result = _result(bundle, book, epochs, verdict)
    parts = (tuple(epochs), tuple(draws), silent)
    checked = Checked(anchor, accepted, declared, *parts, bundle.policy, verdict, result)
    return summarise(checked, trust.beacon)


class _Book:
    """What is known once the checkpoint is trusted: how to open anything that the log holds."""

    def __init__(self, anchor: Anchor, trust: Trust, accepted: Witnessed) -> None:
        self.anchor = anchor
        self.trust = trust
        self.checkpoint = accepted.checkpoint
        self.provider = anchor.provider
        self.keys: dict[KeyId, PublicKey] = {anchor.provider: anchor.provider_public}
        self.gateway: dict[KeyId, PublicKey] = {
            key_id(anchor.gateway_public): anchor.gateway_public
        }

    def open(
        self,
        logged: Logged,
        kind: EntryKind,
        keys: dict[KeyId, PublicKey],
        required: Sequence[KeyId],
    ) -> bytes:
        """Return the payload of a signed envelope that is in the log as an entry of this kind."""
        payload = open_envelope(logged.envelope_bytes(), keys, required)
        leaf = entry.of_statement(payload, kind, self.provider)
        self.include(leaf, logged.entry, logged.path)
        return payload

    def include(self, leaf: bytes, number: int, path: Sequence[str]) -> None:
        """Check that the log holds ``leaf`` as its 1-based entry ``number``."""
        if not 1 <= number <= self.checkpoint.size:
            raise VerificationError(
                Reason.NOT_IN_LOG, f"entry {number} of a log of {self.checkpoint.size}"
            )
        hashes = [decode_hash(each.encode()) for each in path]
        checkpoint = self.checkpoint
        merkle.inclusion(leaf_hash(leaf), number - 1, checkpoint.size, hashes, checkpoint.root)


def _check_pinned(bundle: Bundle, trust: Trust) -> None:
    policy.check(bundle.policy)
    if policy.digest(bundle.policy) != trust.policy:
        raise VerificationError(
            Reason.UNKNOWN_POLICY, f"policy {bundle.policy.name} is not the pinned one"
        )
    references.check_pinned(bundle.references, trust)


def _declaration(bundle: Bundle, book: _Book) -> Declaration:
    payload = book.open(bundle.declaration, "declaration", book.keys, [book.provider])
    declared = declaration.parse(payload)
    said = declared.predicate
    if said.provider != book.provider or declared.subject[0].digest.sha256 != said.weights_root:
        raise VerificationError(Reason.WRONG_PROVIDER, "declaration is not about this provider")
    references.check_fit(declared, bundle.references)
    return declared


def _epochs(bundle: Bundle, book: _Book) -> tuple[list[epoch.Predicate], list[Draw]]:
    epochs: list[epoch.Predicate] = []
    draws: list[Draw] = []
    left = selection.extent(len(bundle.receipts) + len(bundle.bystanders))
    log = book.trust.log_policy(book.anchor)
    for each in bundle.epochs:
        payload = book.open(each.logged, "epoch", book.gateway, list(book.gateway))
        statement = epoch.parse(payload)
        said = statement.predicate
        note = said.checkpoint.encode()
        if hashlib.sha256(note).hexdigest() != statement.subject[0].digest.sha256:
            raise VerificationError(
                Reason.BAD_COMMITMENT, f"epoch {said.epoch} is about another checkpoint"
            )
        if said.provider != book.provider:
            raise VerificationError(Reason.WRONG_PROVIDER, f"epoch {said.epoch} of another")
        pledge = _pledge(each, book)
        vrf_key = bytes.fromhex(book.anchor.vrf_key)
        left = selection.spend(left, said)
        draw = selection.drawn(said, pledge, log, book.trust.beacon, vrf_key, bundle.policy)
        _prefix(draw.checkpoint, book.checkpoint, each.consistency)
        if each.logged.entry <= said.tree_size:
            raise VerificationError(Reason.SELECTION_GAP, "an epoch draws from its own entry")
        epochs.append(said)
        draws.append(draw)
    selection.check_contiguous(epochs)
    for before, after in itertools.pairwise(bundle.epochs):
        if after.pledge.entry <= before.logged.entry:
            raise VerificationError(
                Reason.BAD_ENTROPY, f"entry {after.pledge.entry} pledges an epoch out of its turn"
            )
    return epochs, draws


def _pledge(each: LoggedEpoch, book: _Book) -> Pledged:
    payload = book.open(each.pledge, "entropy", book.gateway, list(book.gateway))
    said = entropy.parse(payload).predicate
    return Pledged(each.pledge.entry, said, hashlib.sha256(payload).digest())


def _retained(bundle: Bundle, book: _Book, epochs: Sequence[epoch.Predicate]) -> int:
    """Check what the gateway says it destroyed, and return of how many epochs it does not say."""
    digests = {
        each.entry: hashlib.sha256(payload_of(each.envelope)).digest() for each in bundle.receipts
    }
    silent = 0
    for each, said in zip(bundle.epochs, epochs, strict=True):
        if each.retention is None:
            silent += 1
            continue
        payload = book.open(each.retention, "retention", book.gateway, list(book.gateway))
        span = (said.first, said.tree_size)
        drawn = {number: digests[number] for number in digests if span[0] <= number <= span[1]}
        told = retention_messages.parse(payload).predicate
        if told.provider != book.provider or each.retention.entry <= each.logged.entry:
            raise VerificationError(
                Reason.RETENTION_MISMATCH, f"epoch {said.epoch}: retention of another, or before it"
            )
        retention.verify_kept(told, said.epoch, span, drawn)
    return silent


def _fresh(draws: Sequence[Draw], not_before_s: int | None) -> None:
    """Refuse evidence whose newest draw is too old, however young the checkpoint around it is."""
    newest = draws[-1].cosigned_s if draws else 0
    if not_before_s is not None and newest < not_before_s:
        raise VerificationError(
            Reason.STALE, f"the last draw was from {newest}, expected {not_before_s} or later"
        )


def _prefix(old: Checkpoint, new: Checkpoint, path: Sequence[str]) -> None:
    if old.size > new.size:
        raise VerificationError(
            Reason.INCONSISTENT_LOG, f"an epoch of size {old.size} in a log of {new.size}"
        )
    hashes = [decode_hash(each.encode()) for each in path]
    merkle.consistency(old.size, old.root, new.size, new.root, hashes)


def _receipts(bundle: Bundle, book: _Book, declared: Declaration, drawn: Sequence[int]) -> None:
    shown = sorted([r.entry for r in bundle.receipts] + [b.entry for b in bundle.bystanders])
    missing = sorted(set(drawn) - set(shown))
    if missing:
        raise VerificationError(
            Reason.AUDIT_MISSING, f"{len(missing)} drawn entries are not shown, first {missing[0]}"
        )
    if shown != list(drawn):
        raise VerificationError(Reason.UNDRAWN_AUDIT, "entries are shown that nobody drew")
    strangers = [bystander.entry for bystander in bundle.bystanders]
    if strangers != sorted(strangers):
        raise VerificationError(Reason.UNDRAWN_AUDIT, "bystanders are not in log order")
    for bystander in bundle.bystanders:
        _bystander(bystander, book)
    signers = {**book.keys, **book.gateway}
    name = hashlib.sha256(bundle.declaration.envelope_bytes()).hexdigest()
    for logged in bundle.receipts:
        said = receipt.parse(book.open(logged, "receipt", signers, list(signers))).predicate
        named = (said.provider, said.declaration, said.sampler)
        if named != (book.provider, name, declared.predicate.sampler):
            raise VerificationError(
                Reason.WRONG_PROVIDER, f"receipt at entry {logged.entry} is under another name"
            )


def _bystander(bystander: Bystander, book: _Book) -> None:
    leaf = bystander.leaf.encode()
    said = entry.parse(leaf)
    book.include(leaf, bystander.entry, bystander.path)
    if said.kind == "receipt" and said.prov == book.provider:
        raise VerificationError(
            Reason.AUDIT_MISSING, f"drawn entry {bystander.entry} is a receipt, shown without audit"
        )


def _audits(
    bundle: Bundle, book: _Book, epochs: Sequence[epoch.Predicate]
) -> list[tuple[Finding, ...]]:
    if len(bundle.audits) != len(bundle.receipts):
        raise VerificationError(
            Reason.AUDIT_MISSING,
            f"{len(bundle.receipts)} drawn receipts, {len(bundle.audits)} audits",
        )
    numbers = [receipt.entry for receipt in bundle.receipts]
    if numbers != sorted(set(numbers)):
        raise VerificationError(Reason.UNDRAWN_AUDIT, "receipts are not in log order, once each")
    opened = {each.epoch: logged.logged for each, logged in zip(epochs, bundle.epochs, strict=True)}
    findings = []
    for drawn, logged in zip(bundle.receipts, bundle.audits, strict=True):
        statement = audit.parse_audit(_by_auditor(logged, "audit", book))
        said = statement.predicate
        _about(statement, drawn, book)
        under = next(e for e in epochs if e.first <= drawn.entry <= e.tree_size)
        if said.epoch != under.epoch or logged.entry <= opened[said.epoch].entry:
            raise VerificationError(
                Reason.UNDRAWN_AUDIT, f"audit of entry {drawn.entry} came before its draw"
            )
        findings.append(said.findings)
    return findings


def _about(statement: Audit, drawn: Logged, book: _Book) -> None:
    said = statement.predicate
    subject = statement.subject[0].digest.sha256
    if said.provider != book.provider:
        raise VerificationError(Reason.WRONG_PROVIDER, "audit of another provider")
    same = subject == hashlib.sha256(drawn.envelope_bytes()).hexdigest()
    if said.entry != drawn.entry or not same:
        raise VerificationError(
            Reason.AUDIT_MISSING, f"the audit beside entry {drawn.entry} is about another receipt"
        )


def _by_auditor(logged: Logged, kind: EntryKind, book: _Book) -> bytes:
    auditors = book.trust.auditor_keys()
    payload = book.open(logged, kind, auditors, [])
    signers = {KeyId(s.keyid) for s in logged.envelope.signatures}
    said = audit.parse_audit(payload) if kind == "audit" else audit.parse_result(payload)
    if signers != {KeyId(said.predicate.auditor)}:
        raise VerificationError(Reason.UNKNOWN_KEY, f"{kind} is not signed by its auditor")
    return payload


def _result(
    bundle: Bundle,
    book: _Book,
    epochs: Sequence[epoch.Predicate],
    verdict: audit.Verdict,
) -> audit.ResultPredicate:
    statement = audit.parse_result(_by_auditor(bundle.result, "result", book))
    said = statement.predicate
    name = hashlib.sha256(bundle.declaration.envelope_bytes()).hexdigest()
    if said.provider != book.provider or said.declaration != name:
        raise VerificationError(Reason.WRONG_PROVIDER, "result about another provider")
    if statement.subject[0].digest.sha256 != name:
        raise VerificationError(Reason.WRONG_PROVIDER, "result about another declaration")
    last = epochs[-1].tree_size if epochs else 0
    pinned = (policy.digest(bundle.policy), references.digests(bundle.references))
    if (said.policy, said.references) != pinned or (said.epochs, said.tree_size) != (
        len(epochs),
        last,
    ):
        raise VerificationError(
            Reason.VERDICT_MISMATCH, "result rests on another policy, reference or set of epochs"
        )
    late = max((each.entry for each in bundle.audits), default=0)
    if said.verdict != verdict or bundle.result.entry <= late:
        raise VerificationError(
            Reason.VERDICT_MISMATCH,
            f"result says {said.verdict.tier.words} ({said.verdict.reason}) at log10 E "
            f"{said.verdict.log10_e_milli / 1000}, the findings give {verdict.tier.words} "
            f"({verdict.reason}) at {verdict.log10_e_milli / 1000}",
        )
    return said
