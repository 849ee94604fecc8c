"""Files that are signed and not listed: by a key of the policy, over this digest, or refused."""

import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lydite.errors import Reason, Refusal
from lydite.evidence.tpm import verifier
from lydite.messages.tier import Tier
from tests.evidence.tpm.machine import NOW, Machine, challenge, entry, key_of, runtime

DIGEST = hashlib.sha256(b"a signed program").digest()
NAME = "/usr/bin/signed"


def key_id(key: Any) -> bytes:
    public = key.public_key()
    if isinstance(key, rsa.RSAPrivateKey):
        spelt = public.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    else:
        spelt = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return hashlib.sha1(spelt).digest()[-4:]


def pem(key: Any) -> str:
    form = PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(Encoding.PEM, form).decode()


def signature(key: Any, digest: bytes = DIGEST, head: bytes = b"\3\2\4") -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        made = key.sign(digest, padding.PKCS1v15(), Prehashed(hashes.SHA256()))
    else:
        made = key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    return head + key_id(key) + len(made).to_bytes(2, "big") + made


def appraised(signed: bytes, policy_key: Any) -> verifier.Appraisal:
    machine, issued = Machine(), challenge()
    machine.records.append(entry(NAME, DIGEST, form="ima-sig", last=(signed,)))
    known = machine.policies(runtime(**{"verification-keys": [pem(policy_key)]}))
    return verifier.appraise(machine.claims(issued), known, issued, NOW)


@pytest.mark.parametrize("kind", ["rsa", "ecc"])
def test_a_file_signed_by_a_key_of_the_policy_is_allowed(kind: str) -> None:
    found = appraised(signature(key_of(kind)), key_of(kind))
    assert found.finding.tier is Tier.AFFIRMING
    assert found.finding.values("signed") == (1,)


def test_a_file_without_a_signature_stays_unknown() -> None:
    found = appraised(b"", key_of("rsa"))
    assert found.finding.reason is Reason.IMA_UNKNOWN_FILE


@pytest.mark.parametrize(
    ("signed", "reason"),
    [
        (signature(key_of("ecc")), Reason.IMA_KEY_ID),
        (signature(key_of("rsa"), hashlib.sha256(b"other").digest()), Reason.IMA_SIGNATURE),
        (signature(key_of("rsa"))[:-1], Reason.IMA_SIGNATURE),
        (signature(key_of("rsa")) + b"\0", Reason.IMA_SIGNATURE),
        (signature(key_of("rsa"), head=b"\3\1\4"), Reason.IMA_SIGNATURE),
        (signature(key_of("rsa"), head=b"\3\2\2"), Reason.IMA_SIGNATURE),
    ],
    ids=["stranger", "other-file", "cut", "longer", "other-version", "other-hash"],
)
def test_another_signature_is_refused(signed: bytes, reason: Reason) -> None:
    with pytest.raises(Refusal) as caught:
        appraised(signed, key_of("rsa"))
    assert caught.value.reason is reason
    assert NAME in caught.value.where


def test_a_listed_file_with_other_content_is_not_excused_by_a_signature() -> None:
    machine, issued = Machine(), challenge()
    key = key_of("rsa")
    machine.records.append(entry("/usr/bin/tool-1", DIGEST, form="ima-sig", last=(signature(key),)))
    known = machine.policies(runtime(**{"verification-keys": [pem(key)]}))
    finding = verifier.verify(machine.claims(issued), known, issued, NOW)
    assert (finding.tier, finding.reason) == (Tier.CONTRAINDICATED, Reason.IMA_UNKNOWN_FILE)
