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
from typing import Annotated, Literal

import msgspec

from lydite.errors import FormatError, Reason, UnavailableError, VerificationError
from lydite.evidence.tokens.sampling import Sampling
from lydite.messages.canonical import Count, Hex32, Integer, Message, Word, decode, encode
from lydite.messages.finding import Finding
from lydite.statistics import betting, bins, onset, rates
from lydite.statistics.merging import log_mean

KIND = "tokens"
MARGIN, SURPRISAL = "margin", "surprisal"
"""Names of the two measures of a finding, one value a token."""
CHANNELS = ("tokens/margin", "tokens/surprisal")
OUTSIDE = -1
"""The margin recorded for a token outside the support that the request's filters leave."""
CAP_MICRO = 500_000
"""Margins are capped here: half a logit."""
SCALE_MICRO = 1_000_000

_Ppm = Annotated[int, msgspec.Meta(ge=1, le=500_000)]
_Drift = Annotated[int, msgspec.Meta(ge=0, le=SCALE_MICRO // 2)]
_Noise = Annotated[int, msgspec.Meta(ge=0, le=10 * SCALE_MICRO)]


class Histogram(Message, frozen=True, kw_only=True):
    """How the margins of one honest implementation fall into the bins, clustered by response."""

    name: Word
    responses: Count
    tokens: Count
    tokens_squared: Count
    """Sum over responses of the square of their tokens."""
    counts: tuple[Count, ...]
    """Tokens in each bin."""
    counts_squared: tuple[Count, ...]
    """Sum over responses of the square of their tokens in each bin."""
    crosses: tuple[Count, ...]
    """Sum over responses of their tokens times their tokens in each bin."""


class Alternative(Message, frozen=True, kw_only=True):
    """How many tokens show one cheat at one level, in nine runs of ten."""

    name: Word
    log10_level_milli: Count
    """The level as thousandths of log10: 2301 is an e-value of 200."""
    tokens: Count


class Provenance(Message, frozen=True, kw_only=True):
    """What this Reference Value was made with and from: digests, and versions of software."""

    script: Hex32
    data: Hex32
    prompts: Hex32
    versions: tuple[Word, ...]


class Reference(Message, frozen=True, kw_only=True):
    """What margins and surprisals of the honest declared model look like to this auditor."""

    format: Literal["lydite/tokens-reference/v1"] = "lydite/tokens-reference/v1"
    name: Word
    weights_root: Hex32
    sampler: Literal["lydite/v1", "none"]
    auditor: Word
    """How the auditor computes its logits: dtype, shape, one forward pass."""
    edges: tuple[Integer, ...]
    """Where the bins of margins begin, ascending micro-logits; below the first is bin 0."""
    histograms: tuple[Histogram, ...]
    """The honest implementations; the null is the worst of them in every bin."""
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


def parse(payload: bytes) -> Reference:
    """Parse a Reference Value, at most 1 MiB, in its one spelling, and check that it is whole.

    Raises:
        FormatError: other bytes than we would write, or histograms that do not fit the edges.
    """
    reference = decode(payload, Reference, limit=1 << 20)
    null(reference)
    return reference


def digest(reference: Reference) -> str:
    """Return what findings name a Reference Value by: SHA-256 of its spelling, in hex."""
    return hashlib.sha256(encode(reference)).hexdigest()


def bin_of(reference: Reference, margin_micro: int) -> int:
    """Return the bin of one recorded margin; tokens outside the support have the last bin.

    Raises:
        FormatError: no verifier records such a margin.
    """
    if margin_micro == OUTSIDE:
        return len(reference.edges) + 1
    if not 0 <= margin_micro <= CAP_MICRO:
        raise FormatError(f"margin of {margin_micro} micro-logits, expected 0 to {CAP_MICRO}")
    return bisect_right(reference.edges, margin_micro)


def null(reference: Reference) -> tuple[float, ...]:
    """Return for every bin the highest rate that an honest implementation may have.

    The maximum over the implementations, each with its calibration error; not renormalised.

    Raises:
        FormatError: the edges do not ascend, or a histogram has other bins than they make.
    """
    edges, size = reference.edges, len(reference.edges) + 2
    if list(edges) != sorted(set(edges)) or not reference.histograms:
        raise FormatError("reference: edges must ascend, and some implementation must be there")
    z = rates.quantile(reference.error_ppm / 1e6, size * len(reference.histograms))
    ceilings = [_ceilings(histogram, size, z) for histogram in reference.histograms]
    return tuple(max(column) for column in zip(*ceilings, strict=True))


def check_covered(reference: Reference, sampling: Sampling) -> None:
    """Check that an answer so sampled can be held against whoever gave it.

    Raises:
        UnavailableError: the client fixed the outcome, with a seed of its own, temperature 0 or a
            choice of one, and may have picked requests on which honest implementations differ
            (``Reason.NOT_RANDOM``); or no honest implementation was ever sampled at such a
            temperature or top-p (``Reason.UNCALIBRATED``).
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


def channel_log10_e(
    reference: Reference, findings: Sequence[Finding]
) -> tuple[tuple[str, float], ...]:
    """Return log10 of the e-value of each channel, from the integers that findings record.

    ``findings`` are those on one provider in the order of the log. Each channel is the mixture
    over starts of ``statistics.onset``, one finding a step, so that an honest past does not pay
    for a later cheat; within a finding the order of the scores does not matter. Findings of other
    kinds, or without scores, count for nothing and are no step.

    Guarantee: for a provider that runs an implementation within this reference, the probability
    that a channel ever reaches 1/alpha is at most alpha, however long it is watched. Merge
    channels with fixed weights only.

    Raises:
        VerificationError: scores made against another Reference Value.
        FormatError: scores that no verifier records.
    """
    name = digest(reference)
    scored = [f for f in findings if f.kind == KIND and any(m.values for m in f.measures)]
    for finding in scored:
        if finding.reference != name:
            raise VerificationError(
                Reason.UNKNOWN_REFERENCE, f"scores made against {finding.reference}, not {name}"
            )
    logs = (
        onset.log_mixture(_margins(reference, [f.values(MARGIN) for f in scored])),
        onset.log_mixture(_surprisals(reference, [f.values(SURPRISAL) for f in scored])),
    )
    return tuple((c, log / math.log(10)) for c, log in zip(CHANNELS, logs, strict=True))


def count(reference: Reference, margins_micro: Sequence[int]) -> tuple[int, ...]:
    """Return how many of the recorded margins fall into each bin."""
    counted = [0] * (len(reference.edges) + 2)
    for margin, times in Counter(margins_micro).items():
        counted[bin_of(reference, margin)] += times
    return tuple(counted)


def _margins(reference: Reference, steps: Sequence[Sequence[int]]) -> list[float]:
    """Return for each step the log e-value of the margins from there on."""
    ceilings = null(reference)
    totals = (0,) * len(ceilings)
    logs = []
    for margins in reversed(steps):
        more = count(reference, margins)
        totals = tuple(have + new for have, new in zip(totals, more, strict=True))
        logs.append(bins.log_e(totals, ceilings))
    return logs[::-1]


def _surprisals(reference: Reference, steps: Sequence[Sequence[int]]) -> list[float]:
    """Return for each step the log e-value of the surprisals from there on."""
    totals = (0.0,) * len(betting.BETS)
    logs = []
    for surprisals in reversed(steps):
        more = betting.log_wealths(surprisals, reference.drift_micro)
        totals = tuple(have + new for have, new in zip(totals, more, strict=True))
        logs.append(log_mean(totals))
    return logs[::-1]


def _ceilings(histogram: Histogram, size: int, z: float) -> list[float]:
    rows = (histogram.counts, histogram.counts_squared, histogram.crosses)
    if any(len(row) != size for row in rows):
        raise FormatError(f"reference: {histogram.name} does not have {size} bins")
    if sum(histogram.counts) != histogram.tokens:
        raise FormatError(f"reference: the bins of {histogram.name} do not sum to its tokens")
    head = (histogram.responses, histogram.tokens, histogram.tokens_squared)
    clusters = (rates.Clusters(*head, *row) for row in zip(*rows, strict=True))
    return [rates.ceiling(cluster, size, z) for cluster in clusters]
