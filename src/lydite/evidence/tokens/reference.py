"""What honest tokens look like: the calibrated Reference Value, and e-values from records alone.

Everything here is integers, so that a relying party with the base install recomputes the same
ceilings and the same e-values. Knows nothing of models: a Reference Value is made by whoever
calibrates, from honest implementations that the verifier ran, never from the accused.
"""

import hashlib
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import msgspec

from lydite.errors import FormatError, Reason, UnavailableError
from lydite.evidence.tokens.sampling import Sampling
from lydite.messages.calibration import BY_BINS, Alternative, Binned, Method, Provenance
from lydite.messages.canonical import Hex32, Message, Word, decode, encode
from lydite.messages.declaration import Sampler
from lydite.messages.finding import Finding, scored_against
from lydite.messages.stack import Stack
from lydite.statistics import bins, composite, independence
from lydite.statistics.channel import log_e_centred
from lydite.statistics.nearest import smoothed

KIND = "tokens"
MARGIN, SURPRISAL, RESIDUAL = "margin", "surprisal", "residual"
SEEDED = "seeded"
"""Names of the measures of a finding, one value a token. ``seeded`` is no channel of its own: it
says whether margins may accuse."""
CHANNELS = (f"{KIND}/{MARGIN}", f"{KIND}/{SURPRISAL}")
"""The channels that every Reference Value reads; ``residual`` is read by some."""
UNSEEDED = "none"
"""The sampler whose draws no seed repeats: nothing but surprisal is left to score."""
JOINT = "sglang-murmur3"
"""The sampler whose top-p counts the mass of all tokens, where others count what top-k left."""
OUTSIDE = -1
"""The margin recorded for a token outside the support that the request's filters leave."""
CAP_MICRO = 500_000
"""Margins are capped here: half a logit."""
RESIDUAL_CAP_MICRO = 10_000_000
"""Residuals are capped here: ten nats."""
SCALE_MICRO = 1_000_000

_Ppm = Annotated[int, msgspec.Meta(ge=1, le=500_000)]
_Drift = Annotated[int, msgspec.Meta(ge=0, le=SCALE_MICRO // 2)]
_Noise = Annotated[int, msgspec.Meta(ge=0, le=10 * SCALE_MICRO)]


class Reference(
    Message,
    frozen=True,
    kw_only=True,
    tag_field="format",
    tag="lydite/tokens-reference/v2",
    omit_defaults=True,
):
    """What the tokens of the honest declared model look like to this auditor."""

    name: Word
    weights_root: Hex32
    sampler: Sampler
    auditor: Word
    """How the auditor computes its logits: dtype, shape, one forward pass."""
    margin: Binned
    """Margins, in micro-logits; one more bin, the last, for tokens outside the support."""
    residual: Binned | None
    """Residuals, in micro-nats; none where no honest implementation reported log-probabilities."""
    error_ppm: _Ppm
    """Probability, in millionths, that a ceiling of the null is too low by chance."""
    drift_micro: _Drift
    """Bound on the mean of an honest surprisal, in millionths."""
    noise_micro: _Noise
    """How far honest logits differ from the auditor's, in micro-logits; widens the support."""
    temperature_min_milli: Annotated[int, msgspec.Meta(ge=1, le=10_000)]
    """The lowest temperature that calibration covers, in thousandths: a difference of logits
    counts for more, the lower the temperature that divides it."""
    top_p_min_ppm: Annotated[int, msgspec.Meta(ge=1, le=SCALE_MICRO)]
    """The lowest top-p that calibration covers, in millionths."""
    alternatives: tuple[Alternative, ...]
    provenance: Provenance
    stacks: tuple[Stack, ...] = ()
    """Which numeric stacks the null covers; left out where it is to cover any that is declared."""


def parse(payload: bytes) -> Reference:
    """Parse a Reference Value, at most 1 MiB, in its one spelling, and check that it is whole.

    Raises:
        FormatError: other bytes than we would write, or histograms that do not fit the edges.
    """
    reference = decode(payload, Reference, limit=1 << 20)
    check(reference)
    return reference


def check(reference: Reference) -> None:
    """Check that a Reference Value can be read against.

    Raises:
        FormatError: edges that do not ascend, or histograms that do not fit them.
    """
    null(reference)
    residual_null(reference)
    for known, size in _channels(reference).values():
        composite.tails(known, size, reference.error_ppm)


def digest(reference: Reference) -> str:
    """Return what findings name a Reference Value by: SHA-256 of its spelling, in hex."""
    return hashlib.sha256(encode(reference)).hexdigest()


def bin_of(reference: Reference, margin_micro: int) -> int:
    """Return the bin of one recorded margin; tokens outside the support have the last bin.

    Raises:
        FormatError: no verifier records such a margin.
    """
    if margin_micro == OUTSIDE:
        return len(reference.margin.edges) + 1
    if not 0 <= margin_micro <= CAP_MICRO:
        raise FormatError(f"margin of {margin_micro} micro-logits, expected 0 to {CAP_MICRO}")
    return bisect_right(reference.margin.edges, margin_micro)


def null(reference: Reference) -> tuple[float, ...]:
    """Return for every bin of margins the highest rate that an honest implementation may have.

    Raises:
        FormatError: the edges do not ascend, or a histogram has other bins than they make.
    """
    size = len(reference.margin.edges) + 2
    return composite.ceilings(reference.margin, size, reference.error_ppm)


def residual_null(reference: Reference) -> tuple[float, ...]:
    """Return the same for every bin of residuals, empty where the reference knows none.

    Raises:
        FormatError: the edges do not ascend, or a histogram has other bins than they make.
    """
    known = reference.residual
    if known is None:
        return ()
    return composite.ceilings(known, len(known.edges) + 1, reference.error_ppm)


def check_covered(reference: Reference, sampling: Sampling) -> None:
    """Check that an answer so sampled can be held against whoever gave it.

    Raises:
        UnavailableError: the client fixed the outcome, with a seed of its own, temperature 0 or a
            choice of one, and may have picked requests on which honest implementations differ
            (``Reason.NOT_RANDOM``); or no honest implementation was ever sampled at such a
            temperature or top-p (``Reason.UNCALIBRATED``); or the sampler filters in an order that
            we do not repeat (``Reason.UNSUPPORTED``).
    """
    if sampling.seed is not None or sampling.temperature == 0.0 or sampling.top_k == 1:
        raise UnavailableError("the client fixed what would be drawn", Reason.NOT_RANDOM)
    cold = sampling.temperature * 1000 < reference.temperature_min_milli
    if cold or sampling.top_p * SCALE_MICRO < reference.top_p_min_ppm:
        raise UnavailableError(
            f"temperature {sampling.temperature} and top-p {sampling.top_p} lie outside of what "
            f"{reference.name} was calibrated for",
            Reason.UNCALIBRATED,
        )
    if reference.sampler == JOINT and sampling.top_k > 0 and sampling.top_p < 1.0:
        raise UnavailableError(
            f"{JOINT} applies top-k and top-p to the same tokens at once", Reason.UNSUPPORTED
        )


def _channels(reference: Reference) -> dict[str, tuple[Binned, int]]:
    """Return the channels that have bins, and how many."""
    known = {MARGIN: (reference.margin, len(reference.margin.edges) + 2)}
    if (residual := reference.residual) is not None:
        known[RESIDUAL] = (residual, len(residual.edges) + 1)
    return known


def channel_log10_e(
    reference: Reference, findings: Sequence[Finding], method: Method = BY_BINS
) -> tuple[tuple[str, float], ...]:
    """Return log10 of the e-value of each channel, from the integers that findings record.

    ``findings`` are those on one provider in the order of the log, ``method`` is what the policy
    names. Each channel averages the bets of ``statistics.channel``, each mixed over starts, one
    finding a step, so that neither an honest past nor honest answers in between pay for a cheat;
    within a finding the order of the scores does not matter. Findings of other kinds, or without
    scores, count for nothing and are no step.

    Guarantee: for a provider that runs an implementation within this reference, the probability
    that a channel ever reaches 1/alpha is at most alpha, however long it is watched. Merge
    channels with fixed weights only.

    Raises:
        VerificationError: scores made against another Reference Value.
        FormatError: scores that no verifier records.
    """
    scored = scored_against(digest(reference), KIND, findings)
    counts = {MARGIN: [count(reference, f.values(MARGIN)) for f in scored]}
    if (residual := reference.residual) is not None:
        said = (_checked(f.values(RESIDUAL)) for f in scored)
        counts[RESIDUAL] = [bins.count(residual.edges, values) for values in said]
    logs = {
        MARGIN: 0.0,
        SURPRISAL: log_e_centred([f.values(SURPRISAL) for f in scored], reference.drift_micro),
    }
    for name, (known, size) in _channels(reference).items():
        logs[name] = composite.log_e_by(method, known, counts[name], size, reference.error_ppm)
    return tuple((f"{KIND}/{name}", level / math.log(10)) for name, level in logs.items())


def seeded_log10_e(reference: Reference, findings: Sequence[Finding]) -> float | None:
    """Return log10 of the e-value of margins that an ignored seed cannot raise; None: not recorded.

    Findings from before hits were recorded have none, and their margins accuse as they did.

    Guarantee: as that of ``channel_log10_e``, for a provider each of whose answers is within this
    reference, or was chosen without looking at the noise.

    Raises:
        VerificationError: scores made against another Reference Value.
        FormatError: scores that no verifier records.
    """
    scored = scored_against(digest(reference), KIND, findings)
    hits = [f.values(SEEDED) for f in scored]
    if not any(hits):
        return None
    margins = [count(reference, f.values(MARGIN)) for f in scored]
    cheats = [smoothed(cheat.counts) for cheat in reference.margin.cheats]
    level = independence.log_e_either(margins, hits, null(reference), cheats)
    return level / math.log(10)


def count(reference: Reference, margins_micro: Sequence[int]) -> tuple[int, ...]:
    """Return how many of the recorded margins fall into each bin."""
    counted = [0] * (len(reference.margin.edges) + 2)
    for margin, times in Counter(margins_micro).items():
        counted[bin_of(reference, margin)] += times
    return tuple(counted)


def _checked(residuals: Sequence[int]) -> Sequence[int]:
    if residuals and not 0 <= min(residuals) <= max(residuals) <= RESIDUAL_CAP_MICRO:
        raise FormatError(f"a residual lies outside 0 to {RESIDUAL_CAP_MICRO} micro-nats")
    return residuals
