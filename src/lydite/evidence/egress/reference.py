"""What honest answers cost: the calibrated kernel of the noise, and bits from records alone.

Everything recorded is integers, and everything here needs the base install only, so that anyone
counts again what a session was charged. Knows nothing of models or budgets.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from lydite.errors import FormatError, Reason, VerificationError
from lydite.evidence.egress.claims import Claims
from lydite.evidence.egress.code import MICRO, Coder, Token
from lydite.evidence.egress.frame import NAME_WORDS
from lydite.messages.canonical import Count, Hex32, Message, Word, decode, encode
from lydite.messages.finding import Finding, Measure
from lydite.messages.tier import Tier

KIND = "egress"
ROWS = ("kernel", "tight", "surprisal", "rank", "noisy-rank", "gap", "ends")
"""Names of the measures with one value a token, in the order of ``code.Token``."""
ENDING, BURSTS, SHAPES, SIZES = "ending", "bursts", "shapes", "shape-bytes"
CLOCK, LOOSE, COARSE = "clock", "loose", "coarse"
"""Names of the measures of what is not tokens, the last one of answers that are not read."""
_WHOLE, _CUT = 0, 1
_COUNT_BITS = 20
_NEW = 0.03125
"""How many new shapes are expected, counted as if they had been seen."""
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
    shapes: tuple[Count, ...]
    """Names of the shapes of honest bodies (``frame.name_of``), one after the other."""
    noise_micro: Count
    """How far honest logits differ from the meter's, in micro-logits; widens the support."""
    honest: tuple[Honest, ...]
    provenance: Provenance


class Charge(Message, frozen=True, kw_only=True):
    """What one answer can carry at most, by channel, in micro-bits."""

    tokens: Count = 0
    """Which tokens they are."""
    ending: Count = 0
    """Where it breaks off, if it does."""
    frame: Count = 0
    """Everything else in its bytes, and how they were cut into events."""
    coarse: Count = 0
    """All of its bytes, where no token of it can be read."""

    @property
    def micro_bits(self) -> int:
        """The sum of the channels."""
        return self.tokens + self.ending + self.frame + self.coarse


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
    cut = _CUT if claims.ending == "cut" else _WHOLE
    left = claims.frame
    return (
        Measure(name=ENDING, unit="flag", values=(cut,)),
        Measure(name=BURSTS, unit="tokens", values=left.bursts),
        Measure(name=SHAPES, unit="digest", values=left.shapes),
        Measure(name=SIZES, unit="bytes", values=left.sizes),
        Measure(name=CLOCK, unit="second", values=(left.clock,)),
        Measure(name=LOOSE, unit="micro-bit", values=(left.loose_micro,)),
    )


def coarse(micro_bits: int, reason: Reason) -> Finding:
    """Return the finding on an answer of which nothing but its size can be explained, and why."""
    measure = Measure(name=COARSE, unit="micro-bit", values=(micro_bits,))
    return Finding(kind=KIND, tier=Tier.NONE, reason=reason, measures=(measure,))


class Ledger:
    """What one session has been charged, answer by answer, in the order of the log.

    Guarantee: whoever encodes messages in the answers of a session, knowing this code and all
    else, is charged at least as many bits as the messages have, on average; and less than s bits
    fewer in all but a share of ``2^-s`` of the cases. Sums over sessions keep the guarantee.
    """

    def __init__(self, reference: Reference) -> None:
        self._coder = Coder()
        self._bursts = [_Habit({0: 60.0}), _Habit({1: 60.0}), _Habit({0: 2.0, 1: 2.0})]
        self._shapes = [_Dictionary(reference.shapes) for _ in range(3)]
        self._clock = _Habit({0: 60.0, 2: 4.0})
        self._ends = _Habit({_WHOLE: 60.0})
        self._lengths = _Habit({})
        self.micro_bits = 0

    def charge(self, finding: Finding) -> Charge:
        """Return what one answer is charged, and learn from it.

        Raises:
            FormatError: a finding that no verifier records.
        """
        if finding.kind != KIND:
            raise FormatError(f"a finding on {finding.kind} has no bits of egress")
        if any(measure.name == COARSE for measure in finding.measures):
            charged = Charge(coarse=sum(finding.values(COARSE)))
        else:
            tokens = _tokens(finding)
            charged = Charge(
                tokens=self._coder.charge(tokens),
                ending=_micro(self._ending(finding.values(ENDING), len(tokens))),
                frame=_micro(self._frame(finding)) + _one(finding, LOOSE),
            )
        self.micro_bits += charged.micro_bits
        return charged

    def _ending(self, values: Sequence[int], tokens: int) -> float:
        if values not in ((_WHOLE,), (_CUT,)):
            raise FormatError("egress finding: how the answer ended is not recorded")
        bits = self._ends.bits(values[0])
        return bits + (self._lengths.bits(tokens) if values[0] == _CUT else 0.0)

    def _frame(self, finding: Finding) -> float:
        bursts, shapes = finding.values(BURSTS), finding.values(SHAPES)
        sizes = finding.values(SIZES)
        if not len(bursts) * NAME_WORDS == len(shapes) == len(sizes) * NAME_WORDS:
            raise FormatError("egress finding: measures of unlike lengths")
        clock = _one(finding, CLOCK)
        bits = self._clock.bits(2 * clock if clock >= 0 else -2 * clock - 1)
        several = len(bursts) > 1
        for number, (burst, size) in enumerate(zip(bursts, sizes, strict=True)):
            place = 0 if number == 0 else 2 if number == len(bursts) - 1 else 1
            name = shapes[NAME_WORDS * number : NAME_WORDS * (number + 1)]
            bits += self._shapes[place].bits(name, size)
            if several:
                bits += self._bursts[place].bits(burst)
        return bits


class _Habit:
    """An adaptive code for counts of which some are usual: so many were seen before the first."""

    def __init__(self, usual: Mapping[int, float]) -> None:
        self._counts = [0.125] * (_COUNT_BITS + 1)
        for count, weight in usual.items():
            self._counts[count.bit_length()] += weight
        self._sum = sum(self._counts)

    def bits(self, count: int) -> float:
        if not 0 <= count < 1 << _COUNT_BITS:
            raise FormatError(f"egress finding: a count of {count}")
        kind = count.bit_length()
        bits = -math.log2(self._counts[kind] / self._sum) + max(kind - 1, 0)
        self._counts[kind] += 1
        self._sum += 1
        return bits


class _Dictionary:
    """An adaptive code for shapes: a new one is spelt out, one seen before is named."""

    def __init__(self, known: Sequence[int]) -> None:
        pairs = zip(*[iter(known)] * NAME_WORDS, strict=True)
        self._counts = dict.fromkeys(pairs, 1.0)
        self._counts = {name: 1.0 / len(self._counts) for name in self._counts}
        self._sum = _NEW + sum(self._counts.values())

    def bits(self, name: Sequence[int], size: int) -> float:
        seen = self._counts.get(tuple(name), 0.0)
        bits = -math.log2((seen or _NEW) / self._sum)
        self._counts[tuple(name)] = seen + 1.0
        self._sum += 1.0
        return bits if seen else bits + 8 * size + 2 * size.bit_length()


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


def _one(finding: Finding, name: str) -> int:
    values = finding.values(name)
    if len(values) != 1:
        raise FormatError(f"egress finding: {name} is not one value")
    return values[0]
