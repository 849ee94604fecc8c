"""Shows that one TPM holds two keys: what only the holder of both can open (``MakeCredential``).

TPM 2.0 Library, Part 1, 24. In plain Python on ``cryptography``. Randomness that decides anything
is an argument. Knows no certificate.
"""

import hmac
from typing import NamedTuple

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from lydite.errors import Reason, Refusal
from lydite.evidence.tpm import signature
from lydite.evidence.tpm.keys import (
    DECRYPT,
    FIXED_PARENT,
    FIXED_TPM,
    ORIGIN,
    RESTRICTED,
    Public,
    check_strength,
)
from lydite.evidence.tpm.quote import SIZES
from lydite.tpm.codec import sized, u32

SECRET_BYTES = 32
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
_LABEL = b"IDENTITY\0"
_NEEDED = FIXED_TPM | FIXED_PARENT | ORIGIN | RESTRICTED | DECRYPT


class Credential(NamedTuple):
    """A secret for whoever holds both keys: two buffers, as ``ActivateCredential`` takes them."""

    blob: bytes
    """``TPM2B_ID_OBJECT``, its length included."""
    seed: bytes
    """``TPM2B_ENCRYPTED_SECRET``, its length included."""


def check_endorsement_key(ek: Public) -> None:
    """Check that a key protects what is sent to its TPM, and never leaves it.

    Raises:
        Refusal: one of the family ``key``.
    """
    if ek.attributes & _NEEDED != _NEEDED or not ek.symmetric_bits:
        got = f"attributes {ek.attributes:08x}"
        expected = "a restricted storage key, fixed to its TPM and made by it"
        raise Refusal(Reason.KEY_NOT_FIXED, "endorsement key", expected, got)
    check_strength(ek, "endorsement key")


def make(ek: Public, ak_name: bytes, secret: bytes, seed: bytes) -> Credential:
    """Return ``secret`` for the TPM that holds ``ek`` and a key of the name ``ak_name``.

    ``seed`` is random, as long as a digest of the EK's name; an elliptic-curve EK agrees on its own
    instead.
    """
    if len(seed) != SIZES[ek.name_hash] or not 0 < len(secret) <= SIZES[ek.name_hash]:
        raise ValueError("seed and secret are as long as a digest at most")
    public = signature.load(ek, "endorsement key")
    if isinstance(public, rsa.RSAPublicKey):
        digest = _HASHES[ek.name_hash]
        hidden = public.encrypt(seed, padding.OAEP(padding.MGF1(digest), digest, _LABEL))
    else:
        ours = ec.generate_private_key(public.curve)
        seed, hidden = _agreed(ours, public, ek)
    return Credential(sized(_protected(ek, ak_name, secret, seed)), sized(hidden))


def _agreed(
    ours: ec.EllipticCurvePrivateKey, public: ec.EllipticCurvePublicKey, ek: Public
) -> tuple[bytes, bytes]:
    """Return a seed agreed upon with an EK, and the point that tells it to the EK's TPM."""
    shared = ours.exchange(ec.ECDH(), public)
    size = len(shared)
    mine = ours.public_key().public_numbers()
    x, y = mine.x.to_bytes(size, "big"), mine.y.to_bytes(size, "big")
    seed = kdfe(ek.name_hash, shared, _LABEL, x, ek.x.rjust(size, b"\0"))
    return seed, sized(x) + sized(y)


def _protected(ek: Public, ak_name: bytes, secret: bytes, seed: bytes) -> bytes:
    """Return a secret, enciphered and authenticated under keys derived from ``seed``."""
    key = kdfa(ek.name_hash, seed, b"STORAGE\0", ak_name, ek.symmetric_bits)
    step = Cipher(AES(key), CFB(bytes(16))).encryptor()
    hidden = step.update(sized(secret)) + step.finalize()
    mac_key = kdfa(ek.name_hash, seed, b"INTEGRITY\0", b"", 8 * SIZES[ek.name_hash])
    return sized(hmac.digest(mac_key, hidden + ak_name, ek.name_hash)) + hidden


def check_answer(secret: bytes, answer: bytes) -> None:
    """Check what came back from the TPM.

    Raises:
        Refusal: it is another secret (``key.credential-name``).
    """
    if not hmac.compare_digest(secret, answer):
        raise Refusal(Reason.KEY_CREDENTIAL_NAME, "credential", got="another secret came back")


def kdfa(hash_name: str, key: bytes, label: bytes, u: bytes, bits: int) -> bytes:
    """Return ``bits`` of key by counter-mode HMAC (Part 1, 11.4.10.2); ``label`` ends in NUL."""
    made, counter = b"", 0
    while len(made) * 8 < bits:
        counter += 1
        made += hmac.digest(key, u32(counter) + label + u + u32(bits), hash_name)
    return made[: bits // 8]


def kdfe(hash_name: str, shared: bytes, label: bytes, u: bytes, v: bytes) -> bytes:
    """Return a digest's length of key from a shared point (Part 1, 11.4.10.3)."""
    digest = hashes.Hash(_HASHES[hash_name])
    digest.update(u32(1) + shared + label + u + v)
    return digest.finalize()
