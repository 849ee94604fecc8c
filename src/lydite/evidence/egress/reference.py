"""What honest answers cost: the calibrated kernel of the noise, and bits from records alone.

Everything recorded is integers, and everything here needs the base install only, so that anyone
counts again what a session was charged. Knows nothing of models or budgets.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from lydite.errors import FormatError, Reason, VerificationError
from lydite.evidence.egress.claims import Claims
from lydite.evidence.egress.code import MICRO, Coder, Token
from lydite.messages.canonical import Count, Hex32, Message, Word, decode, encode
from lydite.messages.finding import Finding, Measure

KIND = "egress"
ROWS = ("kernel", "tight", "surprisal", "rank", "noisy-rank", "gap", "ends")
"""Names of the measures with one value a token, in the order of ``code.Token``."""
BURSTS, ENDING, FRAME = "bursts", "ending", "frame"
"""Names of the measures of what is not tokens."""
CHANNELS = ("tokens", "bursts", "ending", "frame")
_DRAWN, _CUT = 0, 1
_COUNT_BITS = 20
_Ppm = Annotated[int, msgspec.Meta(ge=1, le=MICRO)]


class Part(Message, frozen=True, kw_only=True):
    """One part of the noise between honest machines: logistic, of this scale, so often."""

    scale_micro: Annotated[int, msgspec.Meta(ge=1, le=10 * MICRO)]
    """In micro-logits."""
    weight_ppm: _Ppm


class Honest(Message, frozen=True, kw_only=True):
    """What the answers of one honest implementation cost, none of which made the kernel."""

    name: Word
    sessions: Count
    answers: Count
    tokens: Count
    bits: Count
    """Charged for all of them."""
    worst_millibits: Count
    """Of the dearest session, per token."""


class Provenance(Message, frozen=True, kw_only=True):
    """What this Reference Value was made with and from: digests, and versions of software."""

    script: Hex32
    data: Hex32
    prompts: Hex32
    versions: tuple[Word, ...]


class Reference(Message, frozen=True, kw_only=True):
    """What the outputs of the honest declared model cost this meter."""

    format: Literal["lydite/egress-reference/v1"] = "lydite/egress-reference/v1"
    name: Word
    weights_root: Hex32
    meter: Word
    """How the meter computes its logits: data type, shape, one forward pass."""
    kernel: tuple[Part, ...]
    """The noise between the meter and honest machines of other arithmetic."""
    tight: tuple[Part, ...]
    """The noise between the meter and honest machines of the same arithmetic."""
    noise_micro: Count
    """How far honest logits differ from the meter's, in micro-logits; widens the support."""
    honest: tuple[Honest, ...]
    provenance: Provenance


class Charge(Message, frozen=True, kw_only=True):
    """What one answer can carry at most, by channel, in micro-bits."""

    tokens: Count
    bursts: Count
    ending: Count
    frame: Count

    @property
    def micro_bits(self) -> int:
        """The sum of the channels."""
        return self.tokens + self.bursts + self.ending + self.frame


def parse(payload: bytes) -> Reference:
    """Parse a Reference Value, at most 1 MiB, in its one spelling, and check that it is whole.

    Raises:
        FormatError: other bytes than we would write, or a kernel that is no distribution.
    """
    reference = decode(payload, Reference, limit=1 << 20)
    for kernel in (reference.kernel, reference.tight):
        if not kernel or sum(part.weight_ppm for part in kernel) > MICRO:
            raise FormatError("egress reference: the weights of a kernel sum to more than one")
    return reference


def digest(reference: Reference) -> str:
    """Return what findings name a Reference Value by: SHA-256 of its spelling, in hex."""
    return hashlib.sha256(encode(reference)).hexdigest()


def rest(claims: Claims) -> tuple[Measure, ...]:
    """Return the measures of what is not tokens."""
    cut = _CUT if claims.ending == "cut" else _DRAWN
    return (
        Measure(name=BURSTS, unit="tokens", values=claims.bursts),
        Measure(name=ENDING, unit="flag", values=(cut,)),
        Measure(name=FRAME, unit="micro-bit", values=(claims.frame_micro,)),
    )


class Ledger:
    """What one session has been charged, answer by answer, in the order of the log.

    Guarantee: whoever encodes messages in the answers of a session, knowing this code and all
    else, is charged at least as many bits as the messages have, on average; and less than s bits
    fewer in all but a share of ``2^-s`` of the cases. Sums over sessions keep the guarantee.
    """

    def __init__(self) -> None:
        self._coder = Coder()
        self._bursts = _Habit(_COUNT_BITS, usual=60.0)
        self._cuts = [0.5, 63.5]
        self._lengths = _Habit(_COUNT_BITS)
        self.micro_bits = 0

    def charge(self, finding: Finding) -> Charge:
        """Return what one answer is charged, and learn from it.

        Raises:
            FormatError: a finding that no verifier records.
        """
        if finding.kind != KIND:
            raise FormatError(f"a finding on {finding.kind} has no bits of egress")
        charged = Charge(
            tokens=self._coder.charge(_tokens(finding)),
            bursts=_micro(sum(self._bursts.bits(size) for size in finding.values(BURSTS))),
            ending=_micro(self._ending(finding.values(ENDING), len(finding.values(ROWS[0])))),
            frame=sum(finding.values(FRAME)),
        )
        self.micro_bits += charged.micro_bits
        return charged

    def _ending(self, values: Sequence[int], tokens: int) -> float:
        if len(values) != 1 or values[0] not in (_DRAWN, _CUT):
            raise FormatError("egress finding: how the answer ended is not recorded")
        was_cut = values[0] == _CUT
        side = 0 if was_cut else 1
        bits = -math.log2(self._cuts[side] / sum(self._cuts))
        self._cuts[side] += 1
        return bits + (self._lengths.bits(tokens) if was_cut else 0.0)


class _Habit:
    """An adaptive code for small counts that are nearly always the same."""

    def __init__(self, bits: int, usual: float = 0.0) -> None:
        self._counts = [0.125] * (bits + 1)
        self._counts[1] += usual
        self._sum = sum(self._counts)

    def bits(self, count: int) -> float:
        kind = min(count.bit_length(), len(self._counts) - 1)
        bits = -math.log2(self._counts[kind] / self._sum) + max(kind - 1, 0)
        self._counts[kind] += 1
        self._sum += 1
        return bits


def check_reference(finding: Finding, reference: Reference) -> None:
    """Check that a finding was made against ``reference``.

    Raises:
        VerificationError: it was made against another.
    """
    if finding.reference != digest(reference):
        raise VerificationError(
            Reason.UNKNOWN_REFERENCE, f"egress measured against {finding.reference}"
        )


def _tokens(finding: Finding) -> list[Token]:
    rows = [finding.values(name) for name in ROWS]
    if any(min(row, default=0) < 0 for row in rows) or len({len(row) for row in rows}) != 1:
        raise FormatError("egress finding: measures of unlike lengths, or below zero")
    return [Token(*values) for values in zip(*rows, strict=True)]


def _micro(bits: float) -> int:
    return math.ceil(MICRO * bits - 1e-6)
