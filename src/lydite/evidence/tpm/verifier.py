"""Appraises one machine: what its TPM signed, how it booted, and which files ran.

Pure: evidence, policies, challenge and time in; a Finding out, and a checkpoint for the next time.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import NamedTuple

from lydite.errors import FormatError, Reason, Refusal, VerificationError
from lydite.evidence.tpm import (
    boot,
    checkpoint,
    claims,
    events,
    ima,
    imasig,
    keys,
    quote,
    refstate,
    signature,
)
from lydite.evidence.tpm import reference as references
from lydite.evidence.tpm.checkpoint import Before, Checkpoint
from lydite.evidence.tpm.claims import KIND, Claims
from lydite.evidence.tpm.ima import Place
from lydite.evidence.tpm.judge import Judge, Rules, Stranger
from lydite.evidence.tpm.policies import Policies
from lydite.evidence.tpm.quote import Quote
from lydite.evidence.tpm.reference import BOOT, Enrolled, Files, Reference
from lydite.evidence.tpm.trust import State, conclude
from lydite.messages import nonce
from lydite.messages.finding import Finding
from lydite.messages.nonce import Issued
from lydite.messages.tier import Tier

LABEL = "lydite/tpm-quote/v1"
"""Goes into every nonce that a quote is asked for with."""
Values = Mapping[tuple[str, int], bytes]


class Appraisal(NamedTuple):
    """What one appraisal found."""

    finding: Finding
    checkpoint: Checkpoint
    strangers: tuple[Stranger, ...]
    """The first hundred files that the policy does not allow."""


def verify(
    evidence: Claims,
    policies: Policies,
    issued: Issued,
    now_s: int,
    last: Checkpoint | None = None,
) -> Finding:
    """Return what the evidence of one machine amounts to; what is refused is contraindicated.

    1. The TPM's quote: genuine, by the enrolled key, over our nonce and these registers.
    2. Its clock and counters, against the last appraisal.
    3. The boot log leads to the registers, and the boot is one of those allowed.
    4. The list of files leads to its register, and every file on it is allowed.

    Raises:
        FormatError: the policy cannot be read.

    **Does not show** what happened in memory after a file was loaded, what a file that is excluded
    holds, or what runs in a device beside the processor; who can open the case can replace the
    machine behind its TPM. Fresh only as of the nonce: nothing is said of a moment later. The
    operator of a machine with a TPM and no more sees its memory.
    """
    try:
        return appraise(evidence, policies, issued, now_s, last).finding
    except VerificationError as error:
        return refused(error, policies)


def refused(error: VerificationError, policies: Policies | None = None) -> Finding:
    """Return the finding on evidence that is refused."""
    digest = None if policies is None else policies.digest
    return Finding(kind=KIND, tier=Tier.CONTRAINDICATED, reason=error.reason, reference=digest)


def appraise(
    evidence: Claims,
    policies: Policies,
    issued: Issued,
    now_s: int,
    last: Checkpoint | None = None,
) -> Appraisal:
    """Appraise the evidence of one machine, by the steps of ``verify``.

    Raises:
        FormatError: the policy cannot be read.
        Refusal: one of the published families, at which register or entry, expected what, got what.
    """
    quoted = authenticate(evidence, policies.reference.machine)
    nonce.check(LABEL, quoted.nonce, evidence.head.binding, issued, now_s)
    return weigh(evidence, quoted, policies, now_s, last)


def weigh(
    evidence: Claims,
    quoted: Quote,
    policies: Policies,
    now_s: int,
    last: Checkpoint | None = None,
) -> Appraisal:
    """Appraise what stands behind a quote that is genuine and fresh.

    Raises:
        FormatError, Refusal: as ``appraise`` does.
    """
    reference, bank = policies.reference, references.bank_of(policies.reference)
    _check_time(policies, now_s)
    values = registers(evidence, quoted, reference)
    # 2.
    if not quoted.safe:
        raise Refusal(Reason.FRESH_UNSAFE_CLOCK, "quote, clock", "safe", "not safe")
    if last is not None and last.key_name != reference.machine.key_name:
        expected, got = reference.machine.key_name, last.key_name
        raise Refusal(Reason.KEY_AK_DISAGREEMENT, "checkpoint", expected, got)
    stand = checkpoint.Stand(policies.files_digest, _boot_digest(values, bank), quote.SIZES[bank])
    before = checkpoint.start(last, quoted, evidence.head.files, stand)
    # 3.
    _check_known(values, reference)
    booted = bool(reference.boot) and _check_boot(evidence, values, policies)
    # 4.
    place, tail, judge = _follow(evidence, values, policies, before)
    state = State(
        quoted=quoted,
        now_s=now_s,
        until_s=policies.until_s,
        booted=booted,
        before=before,
        place=place,
        tail=tail,
        judge=judge,
        broad=0 if policies.runtime is None else policies.runtime.broad,
    )
    finding = conclude(state, policies.digest, reference.machine.software)
    strangers = () if judge is None else tuple(judge.strangers)
    return Appraisal(finding, _checkpoint(state, policies, stand), strangers)


def _check_time(policies: Policies, now_s: int) -> None:
    if not policies.from_s <= now_s <= policies.until_s:
        window = f"{policies.from_s} to {policies.until_s}"
        raise Refusal(Reason.POLICY_EXPIRED, "prepared policies", window, str(now_s))


def _checkpoint(state: State, policies: Policies, stand: checkpoint.Stand) -> Checkpoint:
    files, judge = policies.reference.files, state.judge
    seen = state.before.seen | (set() if judge is None else judge.seen)
    return Checkpoint(
        key_name=policies.reference.machine.key_name,
        resets=state.quoted.resets,
        restarts=state.quoted.restarts,
        clock_ms=state.quoted.clock_ms,
        time_s=state.now_s,
        reference=policies.digest,
        policy=stand.policy,
        boot=stand.boot,
        entries=state.place.entries,
        value=state.place.value.hex(),
        unknown=state.unknown,
        changed=state.changed,
        violations=state.violations,
        seen=() if files is None else tuple(sorted(seen & set(files.demanded))),
    )


def authenticate(evidence: Claims, machine: Enrolled) -> Quote:
    """Return what the TPM of the enrolled machine signed: 1 to 4 of the order of checks.

    Raises:
        Refusal: one of the families ``attest`` and ``key``.
    """
    signed = evidence.quote
    quoted = quote.parse(signed)
    made = quote.parse_signature(bytes.fromhex(evidence.head.signature))
    key = keys.parse(bytes.fromhex(evidence.head.key), "attestation key")
    keys.check_attestation_key(key)
    if key.name.hex() != machine.key_name:
        raise Refusal(Reason.KEY_SWAPPED_AK, "attestation key", machine.key_name, key.name.hex())
    signature.check(key, made, signed)
    if quoted.signer.hex() not in machine.signers:
        expected = " or ".join(machine.signers)
        raise Refusal(Reason.KEY_AK_DISAGREEMENT, "quote, signer", expected, quoted.signer.hex())
    return quoted


def registers(evidence: Claims, quoted: Quote, reference: Reference) -> Values:
    """Return the values that the quote covers: 6 to 8 of the order of checks.

    Raises:
        Refusal: other registers than were asked for (``pcr.selection``), or values that are not
            those that were signed (``pcr.length``, ``pcr.unsigned-value``).
    """
    asked = tuple((each.bank, tuple(each.registers)) for each in reference.selection)
    if tuple(map(tuple, quoted.banks)) != asked:
        raise Refusal(Reason.PCR_SELECTION, "quote", _spelt(asked), _spelt(quoted.banks))
    named = tuple((bank, number) for bank, numbers in asked for number in numbers)
    came = tuple((each.bank, each.number) for each in evidence.head.registers)
    if came != named:
        got = ", ".join(f"{bank}:{number}" for bank, number in came)
        raise Refusal(Reason.PCR_UNSIGNED_VALUE, "registers", _spelt(asked), got or "none")
    values: dict[tuple[str, int], bytes] = {}
    for each in evidence.head.registers:
        value = bytes.fromhex(each.value)
        if len(value) != quote.SIZES[each.bank]:
            expected = f"{quote.SIZES[each.bank]} bytes"
            where = f"register {each.number} ({each.bank})"
            raise Refusal(Reason.PCR_LENGTH, where, expected, str(len(value)))
        values[each.bank, each.number] = value
    hash_name = quote.parse_signature(bytes.fromhex(evidence.head.signature)).hash_name
    digest = hashlib.new(hash_name, b"".join(values.values())).digest()
    if not hmac.compare_digest(digest, quoted.digest):
        expected = quoted.digest.hex()
        raise Refusal(Reason.PCR_UNSIGNED_VALUE, "registers", expected, digest.hex())
    return values


def _spelt(banks: object) -> str:
    return "; ".join(f"{bank}:{','.join(map(str, found))}" for bank, found in banks)  # type: ignore[attr-defined]


def _boot_digest(values: Values, bank: str) -> str:
    return hashlib.sha256(b"".join(values.get((bank, n), b"") for n in BOOT)).hexdigest()


def _check_known(values: Values, reference: Reference) -> None:
    for known in reference.known:
        value = values[known.bank, known.register]
        if value.hex() in known.values:
            continue
        where = f"register {known.register} ({known.bank})"
        untouched = value == boot.initial(known.register, len(value))
        reason = Reason.PCR_INITIAL if untouched else Reason.PCR_VALUE
        raise Refusal(reason, where, " or ".join(known.values), value.hex())


def _check_boot(evidence: Claims, values: Values, policies: Policies) -> bool:
    """Check that the boot log leads to the registers, and that the boot is one of those allowed."""
    reference = policies.reference
    bank = references.bank_of(reference)
    quoted = {number: value for (name, number), value in values.items() if name == bank}
    content = evidence.boot
    if not any(any(quoted[number]) for number in range(8)):
        raise Refusal(Reason.PCR_ZERO_BOOT, "registers 0 to 7", "a measured boot", "zeros")
    if content is None:
        raise Refusal(Reason.POLICY_MISSING, "boot log", "one, which the policy demands", "none")
    if not content.strip(b"\0"):
        raise Refusal(Reason.BOOT_EMPTY, "boot log", "events", "none")
    log = boot.parse(content)
    reached = boot.replay(log, bank)
    beside = {*reference.unlogged, *([reference.files.register] if reference.files else [])}
    for number, value in quoted.items():
        found = reached.get(number) or boot.initial(number, len(value), log.locality)
        if number not in beside and found != value:
            event = boot.diverging(log, bank, number, value)
            at = f"register {number}" + (f", from {event.where} on" if event else "")
            raise Refusal(Reason.BOOT_REPLAY, at, value.hex(), found.hex())
    events.check(log, bank)
    refstate.check(policies.states, log, bank)
    return True


def _follow(
    evidence: Claims, values: Values, policies: Policies, before: Before
) -> tuple[Place, int, Judge | None]:
    """Follow the list of files to its register, and judge what is on it."""
    rules = policies.reference.files
    if rules is None or policies.runtime is None:
        return Place(0, b""), 0, None
    listed, content = evidence.head.files, evidence.files
    if listed is None or content is None:
        raise Refusal(Reason.IMA_MISSING, "IMA list", "one, which the policy demands", "none")
    bank = references.bank_of(policies.reference)
    target = values[bank, rules.register]
    strict = Rules(rules.register, rules.demanded, rules.violations, rules.kexec)
    judge = Judge(policies.runtime, strict, _aggregates(values), imasig.check)
    prepared = policies.runtime.hashed if listed.form == "binary" else policies.runtime.lines
    try:
        found = ima.replay(content, listed.form, before.place, target, prepared, judge, bank)
    except Refusal as refusal:
        if refusal.reason is Reason.IMA_REPLAY and _is_beside(evidence, values, rules, before):
            expected, got = "what the list says", f"{bank} alone was extended beside it"
            raise Refusal(Reason.IMA_OUTSIDE_LOG, refusal.where, expected, got) from refusal
        raise
    if found.tail > rules.most_tail:
        expected = f"at most {rules.most_tail} bytes behind the quote"
        raise Refusal(Reason.IMA_REPLAY, "IMA list", expected, str(found.tail))
    _check_demanded(rules, judge, before, found.place)
    return found.place, found.tail, judge


def _is_beside(evidence: Claims, values: Values, rules: Files, before: Before) -> bool:
    """Say whether the list leads to the SHA-1 bank of its register, and only there."""
    target, listed = values.get(("sha1", rules.register)), evidence.head.files
    if target is None or before.place.entries or listed is None or evidence.files is None:
        return False
    return ima.only_one_bank(evidence.files, listed.form, bytes(20), target)


def _check_demanded(rules: Files, judge: Judge, before: Before, place: Place) -> None:
    if judge.booted == place.entries:
        raise Refusal(Reason.IMA_NO_IMA_POLICY, "IMA list", "files", f"{place.entries} entries")
    strange = {each.name for each in judge.strangers}
    for name in rules.demanded:
        if name not in judge.seen | before.seen | strange and not before.changed:
            raise Refusal(Reason.IMA_MISSING, "IMA list", name, "no such entry")


def _aggregates(values: Values) -> dict[str, bytes]:
    """Return what the first entry may say of the boot's registers, by hash."""
    found = {}
    for bank in {name for name, _ in values}:
        numbers = range(8) if bank == "sha1" else BOOT
        parts = [values.get((bank, number)) for number in numbers]
        if None not in parts:
            joined = b"".join(part for part in parts if part is not None)
            found[bank] = hashlib.new(bank, joined).digest()
    return found


def examine(
    content: bytes,
    policies: Policies,
    issued: Issued,
    now_s: int,
    last: Checkpoint | None = None,
) -> Finding:
    """Return the finding on evidence as it travelled; see ``verify``."""
    try:
        return verify(claims.parse(content), policies, issued, now_s, last)
    except VerificationError as error:
        return refused(error, policies)
    except FormatError as error:
        return Finding(kind=KIND, tier=Tier.NONE, reason=error.reason, reference=policies.digest)
