"""What honest sketches look like: the calibrated Reference Value, and e-values from records alone.

Everything here is integers and decimals, so that a relying party with the base install recomputes
the same ceilings and the same e-values. Knows nothing of models: a Reference Value is made by
whoever calibrates, from honest implementations that the verifier ran, never from the accused.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Annotated

import msgspec

from lydite.errors import FormatError
from lydite.evidence.activations import spec as specs
from lydite.evidence.activations.spec import RESIDUES, Spec
from lydite.messages.calibration import BY_BINS, Alternative, Binned, Method, Provenance
from lydite.messages.canonical import Count, Hex32, Message, Word, decode, encode
from lydite.messages.finding import Finding, scored_against
from lydite.messages.stack import Stack
from lydite.statistics import bins, composite

KIND = "activations"
SKETCH, INNER = "sketch", "inner"
"""Names of the measures of a finding, one value a token: the last states, and the second tap."""
SCALE_MICRO = 1_000_000

_Ppm = Annotated[int, msgspec.Meta(ge=1, le=500_000)]
_Width = Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]


class Reference(
    Message, frozen=True, kw_only=True, tag_field="format", tag="lydite/activations-reference/v1"
):
    """What sketches of the honest declared model look like to this auditor."""

    name: Word
    weights_root: Hex32
    width: _Width
    """Numbers in a state of the model."""
    spec: Spec
    auditor: Word
    """How the auditor computes its states: dtype, shape, one forward pass."""
    sketch: Binned
    """Scores of the last states, in millionths of the unit of a state."""
    inner: Binned | None
    """Scores of the second tap, over all of its depths; none where the spec has none."""
    error_ppm: _Ppm
    """Probability, in millionths, that a ceiling of the null is too low by chance."""
    sigma_micro: Count
    """Root mean square by which a projection of an honest implementation differs from the
    auditor's; of the worst one, in millionths."""
    noise_micro: Count
    """Most that it may differ between the auditor's own two data types before a token that is to
    be scored, in millionths."""
    alternatives: tuple[Alternative, ...]
    provenance: Provenance


class Covering(Reference, frozen=True, kw_only=True, tag="lydite/activations-reference/v2"):
    """A Reference Value that names the stacks which its null covers."""

    stacks: Annotated[tuple[Stack, ...], msgspec.Meta(min_length=1)]


def parse(payload: bytes) -> Reference:
    """Parse a Reference Value, at most 1 MiB, in its one spelling, and check that it is whole.

    Raises:
        FormatError: other bytes than we would write, or what ``check`` refuses.
    """
    reference: Reference = decode(payload, Reference | Covering, limit=1 << 20)  # type: ignore[arg-type]
    check(reference)
    return reference


def check(reference: Reference) -> None:
    """Check that a Reference Value can be read against.

    Half a turn of the residues has to be more than four times the noise of the worst honest
    implementation, or a small difference reads like none.

    Raises:
        FormatError: edges that do not ascend, histograms that do not fit them, an inner channel
            without steps or steps without it, or a step too small for the noise.
    """
    specs.check(reference.spec)
    if (reference.inner is None) != (not reference.spec.inner_deltas):
        raise FormatError("reference: a second tap needs both steps and histograms")
    if float(reference.spec.delta) * RESIDUES / 2 * SCALE_MICRO <= 4 * reference.sigma_micro:
        raise FormatError("reference: the step is too small for the noise of honest states")
    null(reference)
    inner_null(reference)
    for known in _channels(reference).values():
        composite.tails(known, len(known.edges) + 1, reference.error_ppm)


def digest(reference: Reference) -> str:
    """Return what findings name a Reference Value by: SHA-256 of its spelling, in hex."""
    return hashlib.sha256(encode(reference)).hexdigest()


def null(reference: Reference) -> tuple[float, ...]:
    """Return for every bin of scores the highest rate that an honest implementation may have.

    Raises:
        FormatError: the edges do not ascend, or a histogram has other bins than they make.
    """
    return _ceilings(reference.sketch, reference.error_ppm)


def inner_null(reference: Reference) -> tuple[float, ...]:
    """Return the same for the second tap, empty where there is none.

    Raises:
        FormatError: the edges do not ascend, or a histogram has other bins than they make.
    """
    inner = reference.inner
    return () if inner is None else _ceilings(inner, reference.error_ppm)


def channel_log10_e(
    reference: Reference, findings: Sequence[Finding], method: Method = BY_BINS
) -> tuple[tuple[str, float], ...]:
    """Return log10 of the e-value of each channel, from the integers that findings record.

    ``findings`` are those on one provider in the order of the log, ``method`` is what the policy
    names. Each channel averages the bets of ``statistics.channel``, each mixed over starts, one
    finding a step; within a finding the order of the scores does not matter. Findings of other
    kinds, or without scores, count for nothing and are no step.

    Guarantee: for a provider that runs an implementation within this reference, the probability
    that a channel ever reaches 1/alpha is at most alpha, however long it is watched. Merge
    channels with fixed weights only.

    Raises:
        VerificationError: scores made against another Reference Value.
        FormatError: scores that no verifier records.
    """
    scored = scored_against(digest(reference), KIND, findings)
    highest = specs.highest_micro(reference.spec)
    levels = []
    for measure, known in _channels(reference).items():
        steps = [bins.count(known.edges, _checked(f.values(measure), highest)) for f in scored]
        size = len(known.edges) + 1
        level = composite.log_e_by(method, known, steps, size, reference.error_ppm)
        levels.append((f"{KIND}/{measure}", level / math.log(10)))
    return tuple(levels)


def _channels(reference: Reference) -> dict[str, Binned]:
    inner = {} if reference.inner is None else {INNER: reference.inner}
    return {SKETCH: reference.sketch, **inner}


def _ceilings(channel: Binned, error_ppm: int) -> tuple[float, ...]:
    return composite.ceilings(channel, len(channel.edges) + 1, error_ppm)


def _checked(scores: Sequence[int], highest: int) -> Sequence[int]:
    if scores and not 0 <= min(scores) <= max(scores) <= highest:
        raise FormatError(f"a score of a sketch lies outside 0 to {highest} millionths")
    return scores
