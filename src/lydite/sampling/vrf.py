"""ECVRF-EDWARDS25519-SHA512-TAI, suite 0x03 of RFC 9381: randomness with a proof of its origin.

Only the holder of a seed can compute the output for an input, there is exactly one such output, and
anybody can check it. Group arithmetic is libsodium's; hashing and scalars are Python's.

Not constant time: the try-and-increment loop takes a time that depends on the input, and scalars
are Python integers. Prove over public inputs only (ours is a published checkpoint and a published
beacon round), on a machine whose timing at the scale of nanoseconds nobody else can measure.

Knows nothing of checkpoints, beacons or logs.
"""

from hashlib import sha512
from typing import NamedTuple

from nacl import bindings, exceptions

from lydite.errors import FormatError, Reason, VerificationError

SEED_BYTES = 32
PUBLIC_KEY_BYTES = 32
PROOF_BYTES = 80
OUTPUT_BYTES = 64

_SUITE = b"\x03"
_COFACTOR_DOUBLINGS = 3
_CHALLENGE_BYTES = 16
_FIELD = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
"""L, the prime order of the group that the base point generates."""
_NEUTRAL = b"\x01" + bytes(31)


class Output(NamedTuple):
    """What a prover hands out: 64 bytes that look random, and 80 that show whose they are."""

    beta: bytes
    pi: bytes


class _Secret(NamedTuple):
    """A seed expanded as RFC 8032, 5.1.5 does."""

    scalar: int
    nonce_key: bytes
    public_key: bytes


def public_key(seed: bytes) -> bytes:
    """Return the 32-byte key under which proofs made with the 32-byte ``seed`` verify."""
    return _expand(seed).public_key


def prove(seed: bytes, alpha: bytes) -> Output:
    """Evaluate the function at ``alpha`` (RFC 9381, 5.1).

    The same seed and ``alpha`` give the same output and proof, always.

    Raises:
        FormatError: ``seed`` is not 32 bytes.
    """
    secret = _expand(seed)
    point = _encode_to_curve(secret.public_key, alpha)
    gamma = _multiply(secret.scalar, point)
    # 5.4.2.2: the nonce is a hash of secret and point, so one input never meets two nonces.
    nonce = int.from_bytes(sha512(secret.nonce_key + point).digest(), "little") % _ORDER
    commitments = (_multiply_base(nonce), _multiply(nonce, point))
    challenge = _challenge(secret.public_key, point, gamma, *commitments)
    answer = (nonce + int.from_bytes(challenge, "little") * secret.scalar) % _ORDER
    return Output(_output(gamma), gamma + challenge + answer.to_bytes(32, "little"))


def verify(public_key: bytes, alpha: bytes, pi: bytes) -> bytes:
    """Return beta, the 64-byte output that ``pi`` proves for ``alpha`` (RFC 9381, 5.3).

    1. The key is a canonical point of the prime-order group: no small order, no torsion.
    2. The proof is 80 bytes: a canonical point Gamma, a challenge c, and s below the group order.
    3. c is the challenge of U = s B - c Y and V = s H - c Gamma.

    Stricter than the RFC in two ways that no honest prover meets: Gamma must lie in the prime-order
    group, and c and s may not be zero (each has a chance of at most 2^-128).

    Raises:
        VerificationError: BAD_SELECTION_PROOF, with the step that failed.

    **Does not show** who holds the key, that ``alpha`` is the input that was due, or that the key
    was fixed before ``alpha`` was known: a prover free to choose keys afterwards is free to choose
    outputs.
    """
    # 1.
    if len(public_key) != PUBLIC_KEY_BYTES or not bindings.crypto_core_ed25519_is_valid_point(
        public_key
    ):
        raise _refused("the public key is not a canonical point of the prime-order group")
    # 2.
    if len(pi) != PROOF_BYTES:
        raise _refused(f"a proof has {PROOF_BYTES} bytes, this one {len(pi)}")
    gamma, challenge, answer = pi[:32], pi[32:48], pi[48:]
    if not bindings.crypto_core_ed25519_is_valid_point(gamma):
        raise _refused("Gamma is not a canonical point of the prime-order group")
    s, c = int.from_bytes(answer, "little"), int.from_bytes(challenge, "little")
    if not 0 < s < _ORDER or c == 0:
        raise _refused("a scalar of the proof is out of range")
    # 3.
    point = _encode_to_curve(public_key, alpha)
    try:
        u = bindings.crypto_core_ed25519_sub(_multiply_base(s), _multiply(c, public_key))
        v = bindings.crypto_core_ed25519_sub(_multiply(s, point), _multiply(c, gamma))
    except exceptions.RuntimeError as error:  # libsodium's word for "that is the neutral element"
        raise _refused("the proof leads to the neutral element") from error
    if _challenge(public_key, point, gamma, u, v) != challenge:
        raise _refused("the challenge is not that of this key and input")
    return _output(gamma)


def _refused(message: str) -> VerificationError:
    return VerificationError(Reason.BAD_SELECTION_PROOF, f"vrf proof: {message}")


def _expand(seed: bytes) -> _Secret:
    if len(seed) != SEED_BYTES:
        raise FormatError(f"a vrf seed has {SEED_BYTES} bytes, this one {len(seed)}")
    digest = sha512(seed).digest()
    clamped = int.from_bytes(digest[:32], "little") & (2**254 - 8) | 2**254
    scalar = clamped % _ORDER
    return _Secret(scalar, digest[32:], _multiply_base(scalar))


def _encode_to_curve(salt: bytes, alpha: bytes) -> bytes:
    """Hash to the prime-order group by trying counters (5.4.1.1); fails with chance 2^-256."""
    for counter in range(256):
        candidate = sha512(_SUITE + b"\x01" + salt + alpha + bytes((counter, 0))).digest()[:32]
        if not _is_canonical(candidate):
            continue
        try:
            point = _clear_cofactor(candidate)
        except exceptions.RuntimeError:  # libsodium's word for "not on the curve"
            continue
        if point != _NEUTRAL:
            return point
    raise FormatError("no counter hashes this input to the curve")


def _is_canonical(encoded: bytes) -> bool:
    """Say whether RFC 8032, 5.1.3 decodes ``encoded``, as far as its bits alone decide that."""
    number = int.from_bytes(encoded, "little")
    y, sign = number & (2**255 - 1), number >> 255
    return y < _FIELD and not (sign and y in (1, _FIELD - 1))  # x = 0 has no negative


def _clear_cofactor(point: bytes) -> bytes:
    """Return 8 times ``point``, by addition, since libsodium multiplies no point with torsion."""
    for _ in range(_COFACTOR_DOUBLINGS):
        point = bindings.crypto_core_ed25519_add(point, point)
    return point


def _multiply(scalar: int, point: bytes) -> bytes:
    return bindings.crypto_scalarmult_ed25519_noclamp(scalar.to_bytes(32, "little"), point)


def _multiply_base(scalar: int) -> bytes:
    return bindings.crypto_scalarmult_ed25519_base_noclamp(scalar.to_bytes(32, "little"))


def _challenge(*points: bytes) -> bytes:
    """Hash the five points of a proof (5.4.3)."""
    return sha512(_SUITE + b"\x02" + b"".join(points) + b"\x00").digest()[:_CHALLENGE_BYTES]


def _output(gamma: bytes) -> bytes:
    """Hash Gamma, cleared of its cofactor, to beta (5.2)."""
    return sha512(_SUITE + b"\x03" + _clear_cofactor(gamma) + b"\x00").digest()
