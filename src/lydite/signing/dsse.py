"""DSSE envelopes (v1.0.2): several Ed25519 signatures over one payload.

Signatures cover the payload's bytes: they are verified as received, then parsed; nothing is signed
or checked through a re-encoding. Knows nothing of what is signed.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from typing import Annotated, NewType

import msgspec
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError, CryptoError

from lydite.errors import FormatError, Reason, VerificationError
from lydite.messages.canonical import Message, Word, decode, encode
from lydite.messages.statement import PAYLOAD_TYPE

PublicKey = NewType("PublicKey", bytes)
KeyId = NewType("KeyId", str)

MAX_SIGNATURES = 8
MAX_ENVELOPE_BYTES = 6 * 1024 * 1024
_HEAD = b"DSSEv1 %d %s " % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode())


class Signature(Message, frozen=True, kw_only=True):
    """One signature: the id of its key, and 64 bytes in padded base64."""

    keyid: Word
    sig: Annotated[str, msgspec.Meta(max_length=88, min_length=88)]


class Envelope(Message, frozen=True, kw_only=True):
    """Payload in padded base64, its type, and who signed it."""

    payload: str
    payload_type: Annotated[str, msgspec.Meta(max_length=200)]
    signatures: Annotated[
        tuple[Signature, ...], msgspec.Meta(min_length=1, max_length=MAX_SIGNATURES)
    ]


def key_id(key: PublicKey) -> KeyId:
    """Return the id of an Ed25519 public key: SHA-256 in hexadecimal, first 16 bytes."""
    return KeyId("ed25519:" + hashlib.sha256(key).hexdigest()[:32])


def pae(payload: bytes) -> bytes:
    """Return the pre-authentication encoding, the bytes that each signature covers."""
    return b"%s%d %s" % (_HEAD, len(payload), payload)


def seal(payload: bytes, signatures: Iterable[tuple[KeyId, bytes]]) -> bytes:
    """Return the canonical envelope of a payload and signatures over ``pae(payload)``."""
    return encode(
        Envelope(
            payload=base64.b64encode(payload).decode(),
            payload_type=PAYLOAD_TYPE,
            signatures=tuple(
                Signature(keyid=keyid, sig=base64.b64encode(raw).decode())
                for keyid, raw in signatures
            ),
        )
    )


def open_envelope(
    envelope: bytes, keys: Mapping[KeyId, PublicKey], required: Iterable[KeyId]
) -> bytes:
    """Verify every signature of an envelope and return the payload.

    1. The envelope is in its one spelling and within its bounds.
    2. Each signature is by a key in ``keys``, no key signs twice.
    3. Each signature verifies over the payload as received.
    4. Every key in ``required`` is among the signers.

    Raises:
        FormatError: step 1 fails.
        VerificationError: any other step fails.

    **Does not show** that the payload is true, only who stands for it.
    """
    # 1.
    parsed = decode(envelope, Envelope, limit=MAX_ENVELOPE_BYTES)
    if parsed.payload_type != PAYLOAD_TYPE:
        raise FormatError(f"payload type {parsed.payload_type!r}, expected {PAYLOAD_TYPE!r}")
    payload = payload_of(parsed)
    message = pae(payload)
    # 2.
    signers = [KeyId(s.keyid) for s in parsed.signatures]
    if len(set(signers)) != len(signers):
        raise FormatError("one key signs the envelope twice")
    for signature, signer in zip(parsed.signatures, signers, strict=True):
        if signer not in keys:
            raise VerificationError(Reason.UNKNOWN_KEY, f"signed by unknown key {signer}")
        # 3.
        check_signature(keys[signer], message, _unbase64(signature.sig))
    # 4.
    for wanted in required:
        if wanted not in signers:
            raise VerificationError(Reason.BAD_SIGNATURE, f"no signature by {wanted}")
    return payload


def payload_of(envelope: Envelope) -> bytes:
    """Return the payload's bytes without checking who signed them.

    Raises:
        FormatError: the payload is not in the one spelling of base64.
    """
    return _unbase64(envelope.payload)


def check_signature(key: PublicKey, message: bytes, signature: bytes) -> None:
    """Verify one Ed25519 signature.

    Raises:
        VerificationError: it does not verify.

    **Does not show** when it was made.
    """
    try:
        crypto_sign_open(signature + message, key)
    except (BadSignatureError, CryptoError, ValueError) as error:
        raise VerificationError(
            Reason.BAD_SIGNATURE, f"signature by {key_id(key)} does not verify"
        ) from error


def digest(envelope: bytes) -> bytes:
    """Return SHA-256 of a canonical envelope, the name by which others refer to it."""
    return hashlib.sha256(envelope).digest()


def _unbase64(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FormatError(f"envelope: not base64: {error}") from error
    if base64.b64encode(raw).decode() != text:
        raise FormatError("envelope: base64 in another spelling", Reason.NOT_CANONICAL)
    return raw
