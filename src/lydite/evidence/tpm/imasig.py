"""Signatures of files (IMA, ``security.ima`` version 2), with ``cryptography``.

Linux, security/integrity/digsig_asymmetric.c. Knows nothing of policies.
"""

import functools
import hashlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from lydite.errors import FormatError, Reason, Refusal
from lydite.evidence.tpm.template import Entry, where
from lydite.messages.cursor import Cursor

Key = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
_DIGSIG, _VERSION = 0x03, 0x02
_HASHES: dict[int, tuple[str, hashes.HashAlgorithm]] = {
    4: ("sha256", hashes.SHA256()),
    5: ("sha384", hashes.SHA384()),
    6: ("sha512", hashes.SHA512()),
}
_MOST = 1024


def check(entry: Entry, pems: tuple[str, ...]) -> None:
    """Check that one of the keys signed a file's digest.

    Raises:
        FormatError: a key of the policy cannot be read.
        Refusal: ``ima.signature`` or ``ima.key-id``.
    """
    at = where(entry.number, entry.name)
    cursor = Cursor(entry.signature, at, Reason.IMA_SIGNATURE)
    kind, version, algorithm = cursor.u8(), cursor.u8(), cursor.u8()
    key_id, signature = cursor.take(4), cursor.sized(_MOST, Reason.IMA_SIGNATURE)
    cursor.end(Reason.IMA_SIGNATURE)
    name, hashed = _HASHES.get(algorithm, ("", None))
    if (kind, version) != (_DIGSIG, _VERSION) or hashed is None or name != entry.hash_name:
        got = f"{kind:02x}{version:02x}, hash {algorithm}"
        raise Refusal(Reason.IMA_SIGNATURE, at, "a signature of version 2 over this digest", got)
    keys = _keys(pems)
    key = keys.get(key_id)
    if key is None:
        known = ", ".join(sorted(each.hex() for each in keys))
        raise Refusal(Reason.IMA_KEY_ID, at, known, key_id.hex())
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, entry.digest, padding.PKCS1v15(), Prehashed(hashed))
        else:
            key.verify(signature, entry.digest, ec.ECDSA(Prehashed(hashed)))
    except InvalidSignature as error:
        raise Refusal(Reason.IMA_SIGNATURE, at) from error


@functools.lru_cache(maxsize=64)
def _keys(pems: tuple[str, ...]) -> dict[bytes, Key]:
    """Return keys by what the kernel calls them: the end of their subject key identifier."""
    keys: dict[bytes, Key] = {}
    for pem in pems:
        key, name = _key(pem.encode())
        keys[(name or _identifier(key))[-4:]] = key
    return keys


def _identifier(key: Key) -> bytes:
    if isinstance(key, rsa.RSAPublicKey):
        form = serialization.PublicFormat.PKCS1
        spelt = key.public_bytes(serialization.Encoding.DER, form)
    else:
        point = serialization.PublicFormat.UncompressedPoint
        spelt = key.public_bytes(serialization.Encoding.X962, point)
    return hashlib.sha1(spelt).digest()


def _key(pem: bytes) -> tuple[Key, bytes | None]:
    """Return a key, and the identifier that its certificate gives it, if it came in one."""
    name = None
    try:
        if b"CERTIFICATE" in pem:
            certificate = x509.load_pem_x509_certificate(pem)
            key: object = certificate.public_key()
            name = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        else:
            key = serialization.load_pem_public_key(pem)
    except (ValueError, x509.ExtensionNotFound) as error:
        raise FormatError(f"runtime policy: verification key: {error}") from error
    if not isinstance(key, Key):
        raise FormatError("runtime policy: a verification key that is neither RSA nor EC")
    return key, None if name is None else name.digest
