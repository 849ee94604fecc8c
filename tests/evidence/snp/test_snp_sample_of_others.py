"""A genuine report by a Milan processor (go-sev-guest), read in place where it is."""

import os
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from lydite import certificates
from lydite.errors import Reason, Refusal
from lydite.evidence.snp import report, verifier
from lydite.evidence.snp.claims import Claims
from lydite.evidence.snp.reference import AMD_ROOTS, Image, Reference, Tcb
from tests.evidence.snp.processor import challenge

VARIABLE = "LYDITE_THIRD_PARTY"
"""Names the folder of samples; else they are looked for beside the project."""
PLACES = [place / "shared" / "vectors" / "third-party" for place in Path(__file__).parents]
PLACES = [Path(os.environ[VARIABLE])] if VARIABLE in os.environ else PLACES
PLACE = next((p / "go-sev-guest" for p in PLACES if (p / "go-sev-guest").is_dir()), None)
THEN = 1_700_000_000


@pytest.fixture
def evidence() -> Claims:
    if PLACE is None:
        pytest.skip(f"go-sev-guest's sample is not beside the project ({VARIABLE})")
    pem = (PLACE / "ask_ark_milan.pem").read_bytes()
    issuers = [
        certificates.load(each.public_bytes(Encoding.DER), "issuer", Reason.SNP_FORM)
        for each in x509.load_pem_x509_certificates(pem)
    ]
    chain = [(PLACE / "vcek.testcer").read_bytes()]
    chain += [each.public_bytes(Encoding.DER) for each in issuers]
    return Claims(
        binding=challenge().binding,
        report=(PLACE / "attestation.bin").read_bytes().hex(),
        certificates=tuple(each.hex() for each in chain),
    )


def policy(least: int = 5, chip: str | None = None) -> Reference:
    image = Image(measurement="00" * 48, features=1, name="guest")
    return Reference(
        name="sample",
        product="Milan",
        root=AMD_ROOTS["Milan"],
        least=Tcb(snp=least),
        images=(image,),
        chips=() if chip is None else (chip,),
        not_after_s=THEN,
    )


def test_its_chain_leads_to_amds_root_and_its_signature_holds(evidence: Claims) -> None:
    made = report.parse(bytes.fromhex(evidence.report))
    chain = verifier.follow(evidence, made, policy(chip=made.chip.hex()), THEN)
    certificates.check_p384(chain.leaf, made.r, made.s, made.signed, "report", Reason.SNP_SIGNATURE)
    assert chain.serials[0] == "0"  # of which `cryptography` warns
    assert report.tcb(made.reported, "Milan") == Tcb(bl=2, tee=0, snp=5, ucode=0x44)


def test_every_bit_that_is_signed_counts(evidence: Claims) -> None:
    made = report.parse(bytes.fromhex(evidence.report))
    chain = verifier.follow(evidence, made, policy(), THEN)
    for at in range(0, report.SIGNED, 37):
        bent = bytearray(made.signed)
        bent[at] ^= 1
        with pytest.raises(Refusal) as caught:
            certificates.check_p384(
                chain.leaf, made.r, made.s, bytes(bent), "report", Reason.SNP_SIGNATURE
            )
        assert caught.value.reason is Reason.SNP_SIGNATURE


def test_newer_firmware_than_it_has_is_demanded(evidence: Claims) -> None:
    made = report.parse(bytes.fromhex(evidence.report))
    with pytest.raises(Refusal) as caught:
        verifier.follow(evidence, made, policy(least=6), THEN)
    assert caught.value.reason is Reason.SNP_TCB


def test_it_answers_no_challenge_of_ours(evidence: Claims) -> None:
    with pytest.raises(Refusal) as caught:
        verifier.appraise(evidence, policy(), challenge(), THEN)
    assert caught.value.reason is Reason.FRESH_ECHO_UNBOUND
