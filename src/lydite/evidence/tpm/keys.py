"""Public areas of keys inside a TPM (``TPMT_PUBLIC``), their names, and what an AK has to be.

TPM 2.0 Library, Part 1, 16 (names), Part 2, 8.3 (attributes) and 12.2. Knows no signature.
"""

import hashlib
from typing import NamedTuple

from lydite.errors import Reason, Refusal
from lydite.evidence.tpm.quote import ALGORITHMS, ECDSA, RSAPSS, RSASSA
from lydite.messages.cursor import Cursor
from lydite.tpm import codec

RSA = 0x0001
FIXED_TPM, FIXED_PARENT, ORIGIN = 1 << 1, 1 << 4, 1 << 5
RESTRICTED, DECRYPT, SIGN = 1 << 16, 1 << 17, 1 << 18
CURVES = {0x0003: ("P-256", 32), 0x0004: ("P-384", 48), 0x0005: ("P-521", 66)}
DEFAULT_EXPONENT = 65537
_LEAST_BITS, _MOST_BITS = 2048, 8192
_SYMMETRIC_BITS = (128, 192, 256)


class Public(NamedTuple):
    """The public area of an asymmetric key."""

    content: bytes
    kind: int
    name_hash: str
    attributes: int
    scheme: int
    """0x10 (null) where the key takes any."""
    scheme_hash: int
    symmetric_bits: int
    """0 where the key protects nothing."""
    size: int
    """Bits of an RSA modulus, number of a curve."""
    exponent: int
    x: bytes
    """The modulus, or the point's first coordinate."""
    y: bytes

    @property
    def name(self) -> bytes:
        """What the TPM calls the key: an algorithm, and the digest of the public area."""
        return name_of(self.content, self.name_hash)


def name_of(content: bytes, hash_name: str) -> bytes:
    """Return the algorithm's number and the digest of ``content``."""
    number = next(n for n, (name, _) in ALGORITHMS.items() if name == hash_name)
    return number.to_bytes(2, "big") + hashlib.new(hash_name, content).digest()


def parse(content: bytes, what: str) -> Public:
    """Parse the public area of an RSA or elliptic-curve key.

    Raises:
        Refusal: it is in no such form (``attest.truncated``, ``attest.trailing``,
            ``attest.oversize``), or of a scheme or digest that we do not know (``key.scheme``).
    """
    cursor = Cursor(content, what, Reason.ATTEST_TRUNCATED)
    kind, number = cursor.u16(), cursor.u16()
    if number not in (codec.SHA256, codec.SHA384, codec.SHA512):
        reason = Reason.KEY_SHA1 if number == codec.SHA1 else Reason.KEY_SCHEME
        raise Refusal(reason, f"{what}, name", "SHA-256 or longer", f"{number:04x}")
    if kind not in (RSA, codec.ECC):
        raise Refusal(Reason.KEY_SCHEME, what, "an RSA or elliptic-curve key", f"{kind:04x}")
    attributes = cursor.u32()
    cursor.sized(64, Reason.ATTEST_OVERSIZE)  # the policy
    symmetric_bits = _symmetric(cursor, what)
    scheme = cursor.u16()
    scheme_hash = 0 if scheme == codec.NULL else cursor.u16()
    size = cursor.u16()
    exponent, y = 0, b""
    if kind == RSA:
        exponent = cursor.u32()
        x = cursor.sized(_MOST_BITS // 8, Reason.ATTEST_OVERSIZE)
    else:
        if cursor.u16() != codec.NULL:
            cursor.u16()
        x = cursor.sized(66, Reason.ATTEST_OVERSIZE)
        y = cursor.sized(66, Reason.ATTEST_OVERSIZE)
    cursor.end(Reason.ATTEST_TRAILING)
    hash_name = ALGORITHMS[number][0]
    return Public(
        content, kind, hash_name, attributes, scheme, scheme_hash, symmetric_bits, size, exponent,
        x, y,
    )  # fmt: skip


def _symmetric(cursor: Cursor, what: str) -> int:
    algorithm = cursor.u16()
    if algorithm == codec.NULL:
        return 0
    bits, mode = cursor.u16(), cursor.u16()
    if algorithm != codec.AES or bits not in _SYMMETRIC_BITS or mode != codec.CFB:
        raise Refusal(Reason.KEY_SCHEME, what, "AES in CFB mode", f"{algorithm:04x}")
    return bits


def check_attestation_key(key: Public) -> None:
    """Check that a key signs what its TPM made, and nothing else, and never leaves it.

    Raises:
        Refusal: one of the family ``key``.
    """
    for mask, reason, what in _HAS_TO_BE:
        if not key.attributes & mask:
            raise Refusal(reason, "attestation key", what, f"attributes {key.attributes:08x}")
    if key.attributes & DECRYPT or key.symmetric_bits:
        got = f"attributes {key.attributes:08x}"
        raise Refusal(Reason.KEY_DECRYPT, "attestation key", "a key that only signs", got)
    if key.kind == RSA and key.scheme not in (RSASSA, RSAPSS):
        raise Refusal(Reason.KEY_SCHEME, "attestation key", "RSASSA or RSAPSS", f"{key.scheme:04x}")
    if key.kind != RSA and key.scheme != ECDSA:
        raise Refusal(Reason.KEY_SCHEME, "attestation key", "ECDSA", f"{key.scheme:04x}")
    if key.scheme_hash == codec.SHA1:
        raise Refusal(Reason.KEY_SHA1, "attestation key", "SHA-256 or longer", "SHA-1")
    check_strength(key, "attestation key")


_HAS_TO_BE = (
    (SIGN, Reason.KEY_SCHEME, "a key that signs"),
    (RESTRICTED, Reason.KEY_UNRESTRICTED, "a restricted key"),
    (FIXED_TPM, Reason.KEY_NOT_FIXED, "fixed to its TPM"),
    (FIXED_PARENT, Reason.KEY_NOT_FIXED, "fixed to its parent"),
    (ORIGIN, Reason.KEY_IMPORTED, "made by its TPM"),
)


def check_strength(key: Public, what: str) -> None:
    """Check the size of a key and that its numbers are those of one.

    Raises:
        Refusal: ``key.weak``, ``key.exponent`` or ``key.scheme``.
    """
    if key.kind != RSA:
        if key.size not in CURVES:
            raise Refusal(Reason.KEY_SCHEME, what, "P-256, P-384 or P-521", f"curve {key.size:04x}")
        return
    bits = int.from_bytes(key.x, "big").bit_length()
    if bits < _LEAST_BITS or key.size < _LEAST_BITS:
        raise Refusal(Reason.KEY_WEAK, what, f"at least {_LEAST_BITS} bits", str(bits))
    if bits != key.size:
        raise Refusal(Reason.KEY_WEAK, what, f"a modulus of {key.size} bits", str(bits))
    if key.exponent and (key.exponent == 1 or key.exponent % 2 == 0):
        raise Refusal(Reason.KEY_EXPONENT, what, "odd and more than 1", str(key.exponent))


def qualified_names(ak: Public, ek_name: bytes) -> tuple[bytes, bytes]:
    """Return what the TPM calls an AK below its EK, and one that is a primary key itself.

    Both of the endorsement hierarchy: of another one, clock and counters would be obfuscated.
    """
    root = codec.ENDORSEMENT.to_bytes(4, "big")
    ek_hash = ALGORITHMS[int.from_bytes(ek_name[:2], "big")][0]
    parent = name_of(root + ek_name, ek_hash)
    return name_of(parent + ak.name, ak.name_hash), name_of(root + ak.name, ak.name_hash)
