"""Verifies what a TPM signed, with ``cryptography``; nothing else of a quote needs it.

Knows nothing of what is signed.
"""

import functools

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from lydite.errors import Reason, Refusal
from lydite.evidence.tpm.keys import DEFAULT_EXPONENT, RSA, Public
from lydite.evidence.tpm.quote import NUMBERS, RSAPSS, Signature

_HASHES = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
_CURVES: dict[int, ec.EllipticCurve] = {3: ec.SECP256R1(), 4: ec.SECP384R1(), 5: ec.SECP521R1()}
_ORDERS = {
    3: 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    4: (1 << 384) - 0x389CB27E0BC8D220A7E5F24DB74F58851313E695333AD68D,
    5: (1 << 521) - 0x5AE79787C40D069948033FEB708F65A2FC44A36477663B851449048E16EC79BF7,
}
_PKCS1 = padding.PKCS1v15()


@functools.lru_cache(maxsize=1024)
def _rsa(modulus: bytes, exponent: int) -> rsa.RSAPublicKey:
    number = int.from_bytes(modulus, "big")
    return rsa.RSAPublicNumbers(exponent or DEFAULT_EXPONENT, number).public_key()


@functools.lru_cache(maxsize=1024)
def _ec(curve: int, x: bytes, y: bytes) -> ec.EllipticCurvePublicKey:
    numbers = (int.from_bytes(x, "big"), int.from_bytes(y, "big"))
    return ec.EllipticCurvePublicNumbers(*numbers, _CURVES[curve]).public_key()


def load(key: Public, what: str) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    """Return ``key`` as ``cryptography`` has it; the last thousand are kept.

    Raises:
        Refusal: its numbers are those of no key.
    """
    try:
        if key.kind == RSA:
            return _rsa(key.x, key.exponent)
        return _ec(key.size, key.x, key.y)
    except (ValueError, UnsupportedAlgorithm) as error:
        reason = Reason.KEY_EXPONENT if key.kind == RSA else Reason.KEY_SCHEME
        raise Refusal(reason, what, got=str(error)) from error


def check(key: Public, signature: Signature, signed: bytes) -> None:
    """Check that ``key`` signed exactly these bytes, in the scheme that it is made for.

    Raises:
        Refusal: another scheme (``key.scheme``), a number out of range (``key.sig-range``), or
            other bytes or another key (``key.signature``).
    """
    if signature.scheme != key.scheme or NUMBERS[signature.hash_name] != key.scheme_hash:
        expected = f"{key.scheme:04x} with {key.scheme_hash:04x}"
        got = f"{signature.scheme:04x} with {NUMBERS[signature.hash_name]:04x}"
        raise Refusal(Reason.KEY_SCHEME, "signature", expected, got)
    public = load(key, "attestation key")
    try:
        if isinstance(public, rsa.RSAPublicKey):
            _check_rsa(public, key, signature, signed)
        else:
            _check_ec(public, key, signature, signed)
    except InvalidSignature as error:
        raise Refusal(Reason.KEY_SIGNATURE, "quote") from error


def _check_rsa(public: rsa.RSAPublicKey, key: Public, signature: Signature, signed: bytes) -> None:
    if len(signature.first) != len(key.x) or signature.first >= key.x:
        expected = f"{len(key.x)} bytes below the modulus"
        raise Refusal(Reason.KEY_SIG_RANGE, "signature", expected, f"{len(signature.first)} bytes")
    algorithm = _HASHES[signature.hash_name]
    scheme: padding.PKCS1v15 | padding.PSS = _PKCS1
    if signature.scheme == RSAPSS:
        scheme = padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)
    public.verify(signature.first, signed, scheme, algorithm)


def _check_ec(
    public: ec.EllipticCurvePublicKey, key: Public, signature: Signature, signed: bytes
) -> None:
    r, s = int.from_bytes(signature.first, "big"), int.from_bytes(signature.second, "big")
    if not (0 < r < _ORDERS[key.size] and 0 < s < _ORDERS[key.size]):
        raise Refusal(Reason.KEY_SIG_RANGE, "signature", "numbers within the curve's order")
    public.verify(encode_dss_signature(r, s), signed, ec.ECDSA(_HASHES[signature.hash_name]))
