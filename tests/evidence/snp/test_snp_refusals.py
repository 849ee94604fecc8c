"""Everything about a guest that has to be refused is, by its own name."""

from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from lydite.errors import FormatError, Reason, Refusal
from lydite.evidence.snp import claims, verifier
from lydite.evidence.snp import reference as references
from lydite.evidence.snp.claims import LABEL
from lydite.evidence.snp.reference import DEBUG_SWAP, Image, Tcb
from lydite.messages.canonical import encode
from lydite.messages.nonce import Binding, nonce
from lydite.messages.tier import Tier
from tests.evidence.snp.processor import (
    LATER,
    MEASUREMENT,
    NOW,
    Processor,
    authority,
    challenge,
    fingerprint,
    key_of,
    reference,
    signed,
    vendor,
)

Case = Callable[[], object]
CASES: list[tuple[str, Case]] = []
GOOD = nonce(LABEL, challenge().binding)


def refuses(reason: str) -> Callable[[Case], Case]:
    """Take down what has to end in a refusal of this reason."""

    def note(case: Case) -> Case:
        CASES.append((reason, case))
        return case

    return note


def given(processor: Processor | None = None, now_s: int = NOW, **policy: Any) -> object:
    evidence = (processor or Processor()).claims(challenge())
    return verifier.appraise(evidence, reference(**policy), challenge(), now_s)


def changed(**parts: Any) -> object:
    evidence = Processor().claims(challenge(), **parts)
    return verifier.appraise(evidence, reference(), challenge(), NOW)


def bent(at: int, value: int = 1) -> object:
    """A good report, of which one byte was changed on the way."""
    content = bytearray(Processor().report(claims.report_data(GOOD)))
    content[at] ^= value
    return changed(report=content.hex())


def over(data: bytes, claimed: Binding | None = None) -> object:
    """A report over other data than is asked for."""
    made = Processor().report(data).hex()
    return changed(report=made, binding=claimed or challenge().binding)


def chained(*chain: bytes, root: bytes | None = None) -> object:
    evidence = Processor().claims(challenge(), certificates=tuple(each.hex() for each in chain))
    pinned = reference(root=fingerprint(root or chain[-1]))
    return verifier.appraise(evidence, pinned, challenge(), NOW)


# --- the report's form, its key and its chain ----------------------------------------------------


@refuses("attest.wrapper")
def evidence_in_another_spelling() -> object:
    return claims.parse(claims.write(Processor().claims(challenge())) + b" ")


@refuses("attest.wrapper")
def half_a_byte() -> object:
    return claims.parse(claims.write(Processor().claims(challenge(), report="000")))


@refuses("snp.form")
def a_report_that_ends_early() -> object:
    return changed(report="00" * 1183)


@refuses("snp.form")
def a_report_of_an_unknown_version() -> object:
    return given(Processor(version=9))


@refuses("snp.form")
def a_policy_without_the_bit_that_is_always_set() -> object:
    return given(Processor(policy=0))


@refuses("snp.form")
def flags_that_nobody_defined() -> object:
    return given(Processor(flags=1 << 9))


@refuses("snp.form")
def a_certificate_that_is_none() -> object:
    return chained(b"\x30\x03\x02\x01\x01", *vendor())


@refuses("snp.form")
def a_certificate_that_demands_what_we_do_not_know() -> object:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0")
    return given(Processor(beside=((unknown, True),)))


@refuses("snp.signature")
def a_signed_byte_that_was_changed() -> object:
    return bent(600)


@refuses("snp.signature")
def a_signature_that_was_changed() -> object:
    return bent(672)


@refuses("snp.signature")
def bytes_behind_the_signature() -> object:
    return bent(1183)


@refuses("snp.signature")
def a_signature_whose_number_is_too_long() -> object:
    return bent(672 + 50)


@refuses("snp.signature")
def a_signature_of_zeros() -> object:
    return changed(report=(Processor().body(claims.report_data(GOOD)) + bytes(512)).hex())


@refuses("snp.signature")
def a_certificate_of_another_curve() -> object:
    return given(Processor(key="p256"))


@refuses("snp.signature")
def a_report_by_another_processors_key() -> object:
    other = Processor(key="p384-other").report(claims.report_data(GOOD))
    return changed(report=other.hex())


@refuses("snp.chain")
def a_processor_without_an_issuer() -> object:
    return chained(Processor().certificate())


@refuses("snp.chain")
def a_certificate_that_the_next_one_did_not_sign() -> object:
    forged = signed("SEV-VCEK", "ASK", key_of("p384"), key_of("rsa-root"))
    return chained(forged, *vendor())


@refuses("snp.chain")
def an_issuer_that_is_no_authority() -> object:
    root = key_of("rsa-root")
    plain = signed("ASK", "ARK", key_of("rsa-ask"), root, authority(ca=False))
    return chained(Processor().certificate(), plain, vendor()[1])


@refuses("snp.chain")
def an_issuer_that_may_not_sign() -> object:
    root = key_of("rsa-root")
    mute = signed("ASK", "ARK", key_of("rsa-ask"), root, authority(sign=False))
    return chained(Processor().certificate(), mute, vendor()[1])


@refuses("snp.chain")
def one_authority_more_than_the_issuer_may_have_below_it() -> object:
    between = signed("X", "ASK", key_of("rsa-root"), key_of("rsa-ask"), authority())
    leaf = signed("SEV-VCEK", "X", key_of("p384"), key_of("rsa-root"))
    return chained(leaf, between, *vendor())


@refuses("snp.chain")
def an_authority_as_processor() -> object:
    return chained(vendor()[0], vendor()[1])


@refuses("snp.chain")
def a_certificate_over_sha1_length() -> object:
    weak = signed("SEV-VCEK", "ASK", key_of("p384"), key_of("p384-ask"), hash_name=hashes.SHA224())
    issuer = signed("ASK", "ARK", key_of("p384-ask"), key_of("rsa-root"), authority(0))
    return chained(weak, issuer, vendor()[1])


@refuses("snp.root")
def a_vendor_that_nobody_pinned() -> object:
    return given(root="00" * 32)


@refuses("snp.root")
def a_vendor_of_the_same_name() -> object:
    other = signed("ARK", "ARK", key_of("rsa-other"), key_of("rsa-other"), authority())
    return chained(Processor().certificate(), vendor()[0], other, root=vendor()[1])


@refuses("snp.expired")
def a_certificate_that_is_over() -> object:
    leaf = signed("SEV-VCEK", "ASK", key_of("p384"), key_of("rsa-ask"), days=-1)
    return chained(leaf, *vendor())


# --- what design notes list ----------------------------------------------------------------------


@refuses("snp.debug")
def a_guest_that_the_host_may_debug() -> object:
    return given(Processor(policy=1 << 17 | 1 << 19))


@refuses("snp.migration")
def a_guest_that_may_be_moved() -> object:
    return given(Processor(policy=1 << 17 | 1 << 18))


@refuses("snp.vmpl")
def a_report_asked_for_at_a_lower_privilege() -> object:
    return given(Processor(vmpl=1))


@refuses("snp.vmpl")
def a_report_that_the_host_asked_for() -> object:
    return given(Processor(vmpl=0xFFFFFFFF), most_vmpl=3)


@refuses("snp.sigalgo")
def another_algorithm() -> object:
    return given(Processor(algorithm=2))


@refuses("snp.report-data")
def something_else_beside_the_nonce() -> object:
    return over(GOOD + b"\1" * 32)


@refuses("fresh.replayed")
def the_nonce_in_the_wrong_half() -> object:
    return over(bytes(32) + GOOD, challenge(2).binding)


@refuses("fresh.replayed")
def an_older_challenge() -> object:
    other = challenge(2).binding
    return over(claims.report_data(nonce(LABEL, other)), other)


@refuses("fresh.echo-unbound")
def a_nonce_of_another_kind_of_evidence() -> object:
    return over(claims.report_data(nonce("lydite/tpm-quote/v1", challenge().binding)))


@refuses("fresh.other-key")
def evidence_for_another_key() -> object:
    other = challenge(key="ab" * 32).binding
    return over(claims.report_data(nonce(LABEL, other)), other)


@refuses("fresh.expired")
def an_answer_that_came_too_late() -> object:
    return given(now_s=NOW + 1000)


@refuses("snp.chip-id")
def a_certificate_of_another_processor() -> object:
    return given(Processor(named=bytes(64)))


@refuses("snp.chip-id")
def a_certificate_that_names_half_a_processor() -> object:
    return given(Processor(named=bytes(range(1, 33))))


@refuses("snp.chip-id")
def a_processor_that_is_not_on_the_list() -> object:
    return given(chips=("00" * 64,))


@refuses("snp.tcb")
def a_certificate_for_other_firmware() -> object:
    return given(Processor(certified={"bl": 2, "tee": 0, "snp": 6, "ucode": 200}))


@refuses("snp.tcb")
def a_certificate_that_leaves_a_version_out() -> object:
    return given(Processor(certified={"bl": 2, "snp": 5, "ucode": 200}))


@refuses("snp.tcb")
def firmware_that_is_too_old() -> object:
    return given(Processor(versions={"bl": 2, "tee": 0, "snp": 4, "ucode": 200}))


@refuses("snp.tcb")
def firmware_that_was_too_old_at_launch() -> object:
    return given(Processor(launched=bytes((2, 0, 0, 0, 0, 0, 4, 200))))


@refuses("snp.masked")
def a_chip_that_hides() -> object:
    return given(Processor(chip=bytes(64), named=bytes(64)))


@refuses("snp.masked")
def a_key_that_hides() -> object:
    return given(Processor(flags=1 << 1))


@refuses("snp.family")
def a_certificate_of_another_family() -> object:
    return given(Processor(said="Genoa-B0"))


@refuses("snp.family")
def a_certificate_of_a_family_with_a_longer_name() -> object:
    return given(Processor(said="MilanX"))


@refuses("snp.family")
def a_certificate_of_no_family() -> object:
    return given(Processor(said=""))


@refuses("snp.family")
def a_processor_that_says_it_is_of_another_family() -> object:
    return given(Processor(cpu=bytes((0x19, 0x11, 0))))


@refuses("snp.vlek")
def a_lent_key_where_the_chips_own_is_asked_for() -> object:
    return given(Processor(flags=1 << 2))


@refuses("snp.vlek")
def no_key_at_all() -> object:
    return given(Processor(flags=7 << 2))


@refuses("snp.vlek")
def a_lent_key_with_a_chips_certificate() -> object:
    return given(Processor(flags=1 << 2), key="vlek")


@refuses("snp.vlek")
def a_chips_key_with_a_lent_certificate() -> object:
    return given(Processor(named=None))


@refuses("snp.features")
def an_image_with_a_feature_that_is_not_allowed() -> object:
    image = Image(measurement=MEASUREMENT.hex(), features=1 | DEBUG_SWAP, name="guest")
    return given(images=(image,), features=1)


@refuses("snp.features")
def an_image_without_encryption() -> object:
    image = Image(measurement=MEASUREMENT.hex(), features=DEBUG_SWAP, name="guest")
    return references.parse(encode(reference(images=(image,))))


@refuses("snp.measurement")
def an_image_that_nobody_knows() -> object:
    return given(Processor(measurement=bytes(48)))


@refuses("policy.empty")
def a_reference_without_an_image() -> object:
    return references.parse(encode(reference(images=())))


@refuses("policy.empty")
def a_reference_that_takes_any_firmware() -> object:
    return given(least=Tcb())


@refuses("policy.expired")
def a_reference_that_is_over() -> object:
    return given(not_after_s=NOW - 1)


@pytest.mark.parametrize(("reason", "case"), CASES, ids=[f"{r}-{c.__name__}" for r, c in CASES])
def test_what_must_be_refused_is_refused_by_its_name(reason: str, case: Case) -> None:
    with pytest.raises(Refusal) as caught:
        case()
    assert caught.value.reason == reason, str(caught.value)
    assert caught.value.where


def test_every_reason_of_the_family_has_a_case() -> None:
    published = {each.value for each in Reason if each.value.startswith("snp.")}
    assert published == {reason for reason, _ in CASES if reason.startswith("snp.")}


def test_a_refusal_is_a_finding_that_contradicts() -> None:
    evidence = Processor(vmpl=2).claims(challenge())
    finding = verifier.verify(evidence, reference(), challenge(), NOW)
    assert finding.tier is Tier.CONTRAINDICATED
    assert finding.reason is Reason.SNP_VMPL


def test_a_reference_names_each_measurement_once() -> None:
    images = reference().images * 2
    with pytest.raises(FormatError, match="twice"):
        references.parse(encode(reference(images=images)))
    evidence = Processor().claims(challenge())
    finding = verifier.examine(claims.write(evidence), reference(images=images), challenge(), NOW)
    assert finding.tier is Tier.NONE


def test_time_is_looked_at_again_for_certificates_that_were_followed_before() -> None:
    leaf = signed("SEV-VCEK", "ASK", key_of("p384"), key_of("rsa-ask"), days=1)
    chain = (leaf, *vendor())
    root = fingerprint(chain[-1])
    followed = verifier.certificates.follow(chain, root, verifier.NAMES, NOW)
    assert followed.until_s == LATER
    with pytest.raises(Refusal, match="certificates"):
        verifier.certificates.follow(chain, root, verifier.NAMES, LATER + 1)
