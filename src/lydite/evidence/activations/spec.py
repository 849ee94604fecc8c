"""The residue sketch by definition: what it is made with, and the key that fixes its projection.

Base install only: a relying party names a sketch by its spec and recounts its bytes. Knows nothing
of models or arrays.

The key follows from what nobody may choose once the tokens are there: the receipt's id, the root
of the declared weights, the spec and the tokens. Nothing that the provider may vary is in it, so
there is nothing to try again with.
"""

import hashlib
import math
import struct
from collections.abc import Sequence
from typing import Annotated, Literal, NewType

import msgspec

from lydite.errors import FormatError
from lydite.messages.canonical import Hex32, Message, decode, encode

KEY_LABEL = b"lydite/proj/v1\0"
RESIDUES = 4
"""What residues are taken modulo, M: two bits each."""
INNER_DEPTHS = 3
"""At a quarter, a half and three quarters of the layers."""

ProjectionKey = NewType("ProjectionKey", bytes)
"""kappa, 32 bytes."""

Delta = Annotated[
    str,
    msgspec.Meta(pattern=r"^(0\.[0-9]{0,8}[1-9]|[1-9][0-9]{0,5}(\.[0-9]{0,8}[1-9])?)\Z"),
]
"""A step as a decimal in its one spelling: above zero, below a million, no zero at its end."""

_RECEIPT_ID_BYTES = 128


class Spec(Message, frozen=True, kw_only=True):
    """How states become residues; equal specs, keys and states make equal sketches."""

    format: Literal["lydite/residue-sketch/v1"] = "lydite/residue-sketch/v1"
    coordinates: Literal[8, 16]
    """Residues a token, k: 8 take 2 bytes, 16 take 4."""
    delta: Delta
    """The step that the projections of final states are rounded to, in units of a state."""
    inner_deltas: tuple[Delta, ...] = ()
    """The steps at a quarter, a half and three quarters of the layers; empty: no second tap."""

    @property
    def taps(self) -> int:
        """How many states of each token are sketched."""
        return 2 if self.inner_deltas else 1

    @property
    def token_bytes(self) -> int:
        """Bytes a token, over all taps."""
        return self.taps * self.coordinates // 4


def parse(payload: bytes) -> Spec:
    """Parse a spec, at most 4 KiB, in its one spelling.

    Raises:
        FormatError: other bytes than we would write: a step that is zero, negative or no number,
            another count of coordinates or of steps.
    """
    spec = decode(payload, Spec, limit=4096)
    check(spec)
    return spec


def check(spec: Spec) -> None:
    """Check what the types leave open.

    Raises:
        FormatError: a second tap without a step for each of its depths.
    """
    if len(spec.inner_deltas) not in (0, INNER_DEPTHS):
        raise FormatError(f"sketch spec: {len(spec.inner_deltas)} inner steps, not {INNER_DEPTHS}")


def digest(spec: Spec) -> Hex32:
    """Return what answers and findings name a spec by: SHA-256 of its spelling, in hex."""
    return hashlib.sha256(encode(spec)).hexdigest()


def size_bytes(spec: Spec, tokens: int) -> int:
    """Return how long the sketch of ``tokens`` tokens is, exactly."""
    return tokens * spec.token_bytes


def highest_micro(spec: Spec) -> int:
    """Return the greatest score of a token, in millionths: every residue half a turn off."""
    delta = max(map(float, (spec.delta, *spec.inner_deltas)))
    return math.ceil(1e6 * delta * RESIDUES / 2 * math.sqrt(spec.coordinates))


def key(
    spec: Spec,
    *,
    receipt_id: str,
    weights_root: Hex32,
    prompt_ids: Sequence[int],
    output_ids: Sequence[int],
) -> ProjectionKey:
    """Return the key of one answer's projection.

    ``SHA-256("lydite/proj/v1" 0 || receipt id || 0 || weights root || spec digest || SHA-256(
    u32be(prompt tokens) || u32be(output tokens) || prompt ids, u32be each || output ids))``.

    Raises:
        FormatError: the receipt's id is not printable ASCII of 1 to 128 bytes, the root is not 32
            bytes in hex, or a token is not in [0, 2^31).
    """
    named = receipt_id.encode()
    if not 0 < len(named) <= _RECEIPT_ID_BYTES or not all(0x21 <= b <= 0x7E for b in named):
        raise FormatError("sketch: not the id of a receipt")
    try:
        root = bytes.fromhex(weights_root)
    except ValueError as error:
        raise FormatError(f"sketch: weights root: {error}") from error
    if len(root) != 32:
        raise FormatError(f"sketch: a weights root of {len(root)} bytes")
    tokens = hashlib.sha256(_spelt(prompt_ids, output_ids)).digest()
    head = KEY_LABEL + named + b"\0" + root + bytes.fromhex(digest(spec))
    return ProjectionKey(hashlib.sha256(head + tokens).digest())


def fingerprint(drawn: ProjectionKey) -> str:
    """Return what a sketch says of its key: 16 hex digits, by which a wrong one is told."""
    return hashlib.sha256(drawn + b"check").hexdigest()[:16]


def inner_key(drawn: ProjectionKey) -> ProjectionKey:
    """Return the key of the second tap's projection."""
    return ProjectionKey(hashlib.sha256(drawn + b"inner").digest())


def inner_depth(drawn: ProjectionKey) -> int:
    """Return which of the inner depths the key draws: 0, 1 or 2 for one, two, three quarters."""
    return int.from_bytes(hashlib.sha256(drawn + b"depth").digest()[:8], "big") % INNER_DEPTHS


def _spelt(prompt_ids: Sequence[int], output_ids: Sequence[int]) -> bytes:
    words = (len(prompt_ids), len(output_ids), *prompt_ids, *output_ids)
    try:
        spelt = struct.pack(f">{len(words)}I", *words)
    except struct.error as error:
        raise FormatError(f"sketch: a token out of range: {error}") from error
    if max(spelt[::4]) >= 0x80:  # the first byte of a word of 2^31 or more
        raise FormatError("sketch: a token out of range")
    return spelt
