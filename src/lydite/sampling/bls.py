"""One BLS signature over BLS12-381, checked as RFC 9380 and drand define it.

Slow and plain (py_ecc, about a quarter of a second): a beacon is checked once an epoch. Importing
this module takes as long again, so only a caller with such a signature in hand should. Knows
nothing of rounds and chains.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import NamedTuple

from lydite.errors import Reason, VerificationError


@contextlib.contextmanager
def _recursion_limit_kept() -> Iterator[None]:
    limit = sys.getrecursionlimit()
    yield
    sys.setrecursionlimit(limit)


# py_ecc raises the limit to 100,000, deeper than the C stack: any nested JSON that is parsed
# afterwards would end the process instead of raising an error.
with _recursion_limit_kept():
    from py_ecc.bls.hash_to_curve import hash_to_G1, hash_to_G2
    from py_ecc.bls.point_compression import decompress_G1, decompress_G2
    from py_ecc.bls.typing import G1Compressed, G2Compressed
    from py_ecc.fields import optimized_bls12_381_FQ12 as FQ12
    from py_ecc.optimized_bls12_381 import (
        G1,
        G2,
        curve_order,
        final_exponentiate,
        is_inf,
        multiply,
        neg,
        pairing,
    )
    from py_ecc.typing import Optimized_Point3D as Point

G1_BYTES = 48
G2_BYTES = 96


class _Side(NamedTuple):
    """One of the two groups: the size of its points, and how to read and hash to them."""

    size: int
    decompress: Callable[[bytes], Point]
    hash_to: Callable[..., Point]


def verify(public_key: bytes, message: bytes, signature: bytes, tag: bytes, *, short: bool) -> None:
    """Check that ``public_key`` signed ``message`` under the domain separation ``tag``.

    1. Key and signature are compressed points of the right size, other than the neutral element.
    2. Both lie in the subgroup of prime order. Without this step, adding a point of small order to
       a good signature gives another that pairs as well.
    3. e(signature, generator) = e(hash of the message, key).

    Args:
        public_key: 96 bytes in G2 if ``short``, else 48 bytes in G1.
        message: what was signed, of any length.
        signature: 48 bytes in G1 if ``short``, else 96 bytes in G2.
        tag: domain separation for hashing to the curve.
        short: whether signatures lie in G1, the group of short points.

    Raises:
        VerificationError: BAD_BEACON, with the step that failed.

    **Does not show** how many parties made the signature, nor that none of them kept it to himself.
    """
    signature_side, key_side = (_SHORT, _LONG) if short else (_LONG, _SHORT)
    signed = _point("signature", signature_side, signature)
    key = _point("public key", key_side, public_key)
    hashed = signature_side.hash_to(message, tag, sha256)
    if short:
        product = _pair(G2, signed) * _pair(neg(key), hashed)
    else:
        product = _pair(signed, G1) * _pair(hashed, neg(key))
    if final_exponentiate(product) != FQ12.one():
        raise VerificationError(Reason.BAD_BEACON, "bls: the signature does not verify")


def _pair(long: Point, short: Point) -> FQ12:
    return pairing(long, short, final_exponentiate=False)


def _point(what: str, side: _Side, encoded: bytes) -> Point:
    """Read ``encoded``, a point of the prime-order subgroup of ``side``."""
    if len(encoded) != side.size:
        raise VerificationError(
            Reason.BAD_BEACON, f"bls: a {what} has {side.size} bytes here, this one {len(encoded)}"
        )
    try:
        point = side.decompress(encoded)
    except ValueError as error:
        raise VerificationError(Reason.BAD_BEACON, f"bls: {what}: {error}") from error
    if is_inf(point) or not is_inf(multiply(point, curve_order)):
        raise VerificationError(Reason.BAD_BEACON, f"bls: the {what} is not in the subgroup")
    return point


def _decompress_short(encoded: bytes) -> Point:
    return decompress_G1(G1Compressed(int.from_bytes(encoded)))


def _decompress_long(encoded: bytes) -> Point:
    imaginary, real = int.from_bytes(encoded[:G1_BYTES]), int.from_bytes(encoded[G1_BYTES:])
    return decompress_G2(G2Compressed((imaginary, real)))


_SHORT = _Side(G1_BYTES, _decompress_short, hash_to_G1)
_LONG = _Side(G2_BYTES, _decompress_long, hash_to_G2)
