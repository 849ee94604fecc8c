import json
from hashlib import sha512
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lydite.errors import FormatError, Reason, VerificationError
from lydite.sampling import vrf

VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "vrf.json").read_text(encoding="utf-8")
)["vectors"]
SEED = bytes(range(32))
KEY = vrf.public_key(SEED)
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
# The eight points whose order divides 8, and the encodings of them that RFC 8032 refuses.
TORSION_Y = 2707385501144840649318225287225658788936804267575313519463743609750303021022
SMALL_ORDER = [
    (0).to_bytes(32, "little"),
    (1).to_bytes(32, "little"),
    (P - 1).to_bytes(32, "little"),
    (1 << 255).to_bytes(32, "little"),
    *(
        (y | sign << 255).to_bytes(32, "little")
        for y in (TORSION_Y, P - TORSION_Y)
        for sign in (0, 1)
    ),
]
NOT_CANONICAL = [
    P.to_bytes(32, "little"),  # y = 0 spelt as p
    (P + 1).to_bytes(32, "little"),
    (1 | 1 << 255).to_bytes(32, "little"),  # x = 0, said to be negative
    (P - 1 | 1 << 255).to_bytes(32, "little"),
]

octets = st.binary(max_size=200)
seeds = st.binary(min_size=32, max_size=32)


class Point(NamedTuple):
    """A point of edwards25519 in affine coordinates: slow, and as the textbook has it."""

    x: int
    y: int

    def __add__(self, other: "Point") -> "Point":  # type: ignore[override]
        product = D * self.x * other.x * self.y * other.y
        x = (self.x * other.y + self.y * other.x) * pow(1 + product, -1, P)
        y = (self.y * other.y + self.x * other.x) * pow(1 - product, -1, P)
        return Point(x % P, y % P)

    def times(self, scalar: int) -> "Point":
        total, addend = Point(0, 1), self
        while scalar:
            if scalar & 1:
                total += addend
            addend += addend
            scalar >>= 1
        return total

    def encode(self) -> bytes:
        return (self.y | (self.x & 1) << 255).to_bytes(32, "little")


def decode(encoded: bytes) -> Point | None:
    number = int.from_bytes(encoded, "little")
    y, sign = number & (2**255 - 1), number >> 255
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    if x * x % P != square or (x == 0 and sign):
        return None
    return Point(P - x if x & 1 != sign else x, y)


BASE = decode((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def obvious_prove(seed: bytes, alpha: bytes) -> tuple[bytes, bytes]:
    """RFC 9381, 5.1, over the affine arithmetic above."""
    assert BASE is not None
    h = sha512(seed).digest()
    x = int.from_bytes(h[:32], "little") & (2**254 - 8) | 2**254
    key = BASE.times(x).encode()
    for counter in range(256):
        point = decode(sha512(b"\x03\x01" + key + alpha + bytes([counter, 0])).digest()[:32])
        if point is not None:
            break
    assert point is not None
    point = point.times(8)
    gamma = point.times(x)
    k = int.from_bytes(sha512(h[32:] + point.encode()).digest(), "little") % L
    parts = [key, *(p.encode() for p in (point, gamma, BASE.times(k), point.times(k)))]
    c = sha512(b"\x03\x02" + b"".join(parts) + b"\x00").digest()[:16]
    s = (k + int.from_bytes(c, "little") * x) % L
    beta = sha512(b"\x03\x03" + gamma.times(8).encode() + b"\x00").digest()
    return beta, gamma.encode() + c + s.to_bytes(32, "little")


def refused(key: bytes, alpha: bytes, pi: bytes) -> str:
    with pytest.raises(VerificationError) as caught:
        vrf.verify(key, alpha, pi)
    assert caught.value.reason is Reason.BAD_SELECTION_PROOF
    return str(caught.value)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"example {v['example']}")
def test_rfc_9381_examples(vector: dict[str, str]) -> None:
    seed, key, alpha, pi, beta = (
        bytes.fromhex(vector[name]) for name in ("seed", "public_key", "alpha", "pi", "beta")
    )
    assert vrf.public_key(seed) == key
    assert vrf.prove(seed, alpha) == (beta, pi)
    assert vrf.verify(key, alpha, pi) == beta


@given(seeds, octets)
@settings(max_examples=15, deadline=None)
def test_prover_agrees_with_the_textbook(seed: bytes, alpha: bytes) -> None:
    assert vrf.prove(seed, alpha) == obvious_prove(seed, alpha)


@given(seeds, octets)
def test_what_is_proved_verifies(seed: bytes, alpha: bytes) -> None:
    beta, pi = vrf.prove(seed, alpha)
    assert (len(beta), len(pi)) == (vrf.OUTPUT_BYTES, vrf.PROOF_BYTES)
    assert vrf.verify(vrf.public_key(seed), alpha, pi) == beta


@given(octets, st.integers(0, 8 * vrf.PROOF_BYTES - 1))
def test_no_flipped_bit_of_a_proof_verifies(alpha: bytes, bit: int) -> None:
    pi = bytearray(vrf.prove(SEED, alpha).pi)
    pi[bit // 8] ^= 1 << bit % 8
    refused(KEY, alpha, bytes(pi))


@given(octets, octets)
def test_a_proof_is_for_one_input_only(alpha: bytes, other: bytes) -> None:
    if alpha != other:
        refused(KEY, other, vrf.prove(SEED, alpha).pi)


@given(seeds, octets)
def test_a_proof_is_of_one_key_only(seed: bytes, alpha: bytes) -> None:
    if seed != SEED:
        refused(KEY, alpha, vrf.prove(seed, alpha).pi)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_as_proof_and_as_key(noise: bytes) -> None:
    refused(KEY, b"alpha", noise)
    refused(noise, b"alpha", vrf.prove(SEED, b"alpha").pi)


@pytest.mark.parametrize("size", [0, 79, 81, 160])
def test_a_proof_has_80_bytes(size: int) -> None:
    pi = (vrf.prove(SEED, b"alpha").pi * 2)[:size]
    assert "80 bytes" in refused(KEY, b"alpha", pi)


def test_s_is_below_the_group_order() -> None:
    pi = vrf.prove(SEED, b"alpha").pi
    s = int.from_bytes(pi[48:], "little")
    for same in (s + L, s + 2 * L, L):  # s + L satisfies the same equations
        assert "out of range" in refused(KEY, b"alpha", pi[:48] + same.to_bytes(32, "little"))


def test_zero_scalars_are_refused_not_raised_as_something_else() -> None:
    pi = vrf.prove(SEED, b"alpha").pi
    assert "out of range" in refused(KEY, b"alpha", pi[:48] + bytes(32))
    assert "out of range" in refused(KEY, b"alpha", pi[:32] + bytes(16) + pi[48:])


@pytest.mark.parametrize("point", SMALL_ORDER + NOT_CANONICAL, ids=bytes.hex)
def test_no_point_of_small_order_or_strange_spelling_is_key_or_gamma(point: bytes) -> None:
    pi = vrf.prove(SEED, b"alpha").pi
    assert "public key" in refused(point, b"alpha", pi)
    assert "Gamma" in refused(KEY, b"alpha", point + pi[32:])


def test_gamma_with_torsion_is_refused() -> None:
    pi = vrf.prove(SEED, b"alpha").pi
    gamma, torsion = decode(pi[:32]), decode(SMALL_ORDER[2])
    assert gamma is not None
    assert torsion is not None
    assert "Gamma" in refused(KEY, b"alpha", (gamma + torsion).encode() + pi[32:])


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(33)])
def test_a_seed_has_32_bytes(seed: bytes) -> None:
    with pytest.raises(FormatError):
        vrf.prove(seed, b"")
