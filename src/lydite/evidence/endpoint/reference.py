"""What an endpoint's scores are held against, and the e-values that follow from the records alone.

Without a calibrated Reference Value for the endpoint's stack nobody knows its numerics. Then only
what no numerics explains may accuse: ``GENERIC`` holds bounds ten times beyond the worst honest
machine that was measured (``scripts/derive_endpoint_bounds.py``). Integers throughout. Knows
nothing of models.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from lydite.errors import FormatError
from lydite.evidence.endpoint.claims import Draw
from lydite.messages.calibration import Binned
from lydite.messages.canonical import Hex32, Message, Word, decode, encode
from lydite.messages.finding import Finding
from lydite.statistics import betting, bounded, channel, composite, pit, shares
from lydite.statistics.merging import log_average, log_mean

KIND = "endpoint"
SURPRISAL, PIT, MARGIN, RESIDUAL = "surprisal", "pit", "margin", "residual"
ABSENT = -1
"""The place in a distribution that is recorded for a token which that distribution excludes."""
CAP_MICRO = 10_000_000
"""Residuals are capped here: ten nats."""
MICRO = 1_000_000
_NAT_MICRO = MICRO
"""What a mean is bounded of: residuals capped at one nat."""
_RARE_MICRO = MICRO // 2
"""An edge that more than this share of honest residuals passes says nothing of large ones."""
MARGIN_CAP_MICRO = 500_000
"""Margins are capped here: half a logit."""
ASKED = ""
"""The name of the draw that was asked for."""
HABITS = {
    "top-k-40-min-p-0.05": Draw(top_k=40, min_p=0.05),
    "top-k-40": Draw(top_k=40),
    "top-k-50": Draw(top_k=50),
    "top-p-0.9": Draw(top_p=0.9),
    "top-p-0.95": Draw(top_p=0.95),
    "llama.cpp-defaults": Draw(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05),
    "temperature-0.7": Draw(temperature=0.7),
    "temperature-0.6-top-p-0.9": Draw(temperature=0.6, top_p=0.9),
    "temperature-0.7-top-p-0.8-top-k-20": Draw(temperature=0.7, top_k=20, top_p=0.8),
}
"""What servers do by default, or by a model's ``generation_config.json``, where a request that
says temperature 1 and no filter is read carelessly. An honest mistake, and no other model."""
IGNORED = {"temperature-1": Draw()}
"""What a server does that passes over the temperature, or takes none above 1."""
CLAMPED = {f"temperature-{t}": Draw(temperature=t) for t in (0.1, 0.3, 0.5)}
"""What servers do that draw at some least temperature although they are asked for 0."""

_Share = Annotated[int, msgspec.Meta(ge=0, le=500_000)]
_Mean = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
_Ppm = Annotated[int, msgspec.Meta(ge=1, le=500_000)]


def habits(temperature: float) -> dict[str, Draw]:
    """Return how careless servers draw when they are asked for ``temperature`` and no filter.

    They put their own temperature in its place, or filter at the one that was asked for, or scale
    what was asked for by their own.
    """
    if temperature == 1.0:
        return HABITS
    if temperature == 0.0:
        return IGNORED | CLAMPED | HABITS
    kept = {
        f"{'asked' if draw.temperature == 1.0 else 'scaled'}-{name}": msgspec.structs.replace(
            draw, temperature=temperature * draw.temperature
        )
        for name, draw in HABITS.items()
    }
    return IGNORED | HABITS | kept


class Calibrated(Message, frozen=True, kw_only=True):
    """Residuals of honest machines with these very weights, from a tokens Reference Value."""

    binned: Binned
    error_ppm: _Ppm


class Bounds(
    Message, frozen=True, kw_only=True, tag_field="format", tag="lydite/endpoint-bounds/v1"
):
    """How far an honest endpoint may be from the auditor's own pass. Millionths throughout."""

    name: Word
    drift_micro: _Share
    """Total variation between what the endpoint draws from and what the auditor computed."""
    retokenised_micro: _Share
    """Added where tokens had to be found again from the text."""
    residual_mean_micro: _Mean
    """Mean capped residual, in micro-nats, beyond which no numerics explains it."""
    numerics_mean_micro: _Mean
    """The same, beyond which the endpoint's numerics are unlike any that was measured."""
    margin_mean_micro: _Mean
    """Mean capped margin at temperature 0, in micro-logits."""
    calibrated: Calibrated | None = None
    source: Hex32
    """Digest of the data, or of the Reference Value, that the bounds come from."""


GENERIC = Bounds(
    name="generic",
    drift_micro=50_000,
    retokenised_micro=50_000,
    residual_mean_micro=100_000,
    numerics_mean_micro=30_000,
    margin_mean_micro=10_000,
    source="6faed53947f5a0d01b87955ced62bbe65dc95a8dee967093a9a8c8f3462d90e4",
)
"""What holds for any model on any machine, as far as honest ones were measured."""


class Plan(Message, frozen=True, kw_only=True):
    """What was settled with the first answer, before any was scored; it fixes the weights."""

    greedy: bool
    """Asked at temperature 0, hence only margins are drawn from."""
    logprobs: bool
    tokens: Literal["named", "spelt", "found"]
    """Whether answers name their tokens, spell each of them, or leave them to be found again."""

    def weights(self) -> dict[str, float]:
        """Return the share of each channel in the average."""
        if self.greedy:
            return {MARGIN: 0.5, RESIDUAL: 0.5} if self.logprobs else {MARGIN: 1.0}
        if self.logprobs:
            return {SURPRISAL: 0.4, PIT: 0.2, RESIDUAL: 0.4}
        return {SURPRISAL: 0.65, PIT: 0.35}


class Levels(Message, frozen=True, kw_only=True):
    """log10 of e-values, in thousandths, under one way of drawing."""

    draw: str
    channels: dict[str, int]
    merged: int
    numerics: int
    """Against numerics like those that were measured; accuses nobody."""


def parse(payload: bytes) -> Bounds:
    """Parse bounds in their one spelling, at most 1 MiB, and check that they are whole.

    Raises:
        FormatError: other bytes than we would write, or histograms that do not fit their bins.
    """
    bounds = decode(payload, Bounds, limit=1 << 20)
    tails(bounds)
    return bounds


def digest(bounds: Bounds) -> str:
    """Return what a report names the bounds by."""
    return hashlib.sha256(encode(bounds)).hexdigest()


def tails(bounds: Bounds) -> tuple[tuple[int, int], ...]:
    """Return edges of residuals, and the highest honest rate beyond each, in millionths.

    None where nothing is calibrated; none of the edges that half of some honest residuals pass.
    Only *larger* residuals than those of honest machines tell against anybody: an endpoint whose
    numerics lie between two honest stacks is honest, although it fills the bins like neither.

    Raises:
        FormatError: edges that do not ascend, or histograms that do not fit them.
    """
    known = bounds.calibrated
    if known is None:
        return ()
    edges = known.binned.edges
    rates = composite.ceilings(known.binned, len(edges) + 1, known.error_ppm)
    beyond = [math.ceil(MICRO * math.fsum(rates[at + 1 :])) for at in range(len(edges))]
    return tuple(pair for pair in zip(edges, beyond, strict=True) if pair[1] <= _RARE_MICRO)


def named(measure: str, draw: str) -> str:
    """Return what a measure of tokens is called when they were drawn in the way ``draw``."""
    return f"{measure}/{draw}" if draw else measure


def drift(bounds: Bounds, plan: Plan) -> int:
    """Return the total variation, in millionths, that an honest endpoint may have."""
    return bounds.drift_micro + (0 if plan.tokens == "named" else bounds.retokenised_micro)


def levels(bounds: Bounds, plan: Plan, findings: Sequence[Finding], draw: str) -> Levels:
    """Return the e-values of all answers so far, had they been drawn in the way ``draw``.

    Each channel bets on all tokens and on a share of the answers; the channels are averaged with
    the weights of the plan, never multiplied.

    Guarantee (Ville): for an endpoint within ``bounds`` that draws in that way, the probability
    that ``merged`` ever reaches log10(1/alpha) is at most alpha, at whichever answer one stops.

    Raises:
        FormatError: scores that no verifier records.
    """
    every = {
        name: [finding.values(named(name, draw)) for finding in findings]
        for name in (SURPRISAL, PIT, MARGIN, RESIDUAL)
    }
    if draw != ASKED:  # every habit draws, also where the likeliest token was asked for
        plan = msgspec.structs.replace(plan, greedy=False)
    wide, known = drift(bounds, plan), bounds.calibrated
    logs = {
        SURPRISAL: lambda: _surprisals(every[SURPRISAL], wide),
        PIT: lambda: _places(every[PIT], wide),
        MARGIN: lambda: _means(every[MARGIN], bounds.margin_mean_micro),
        RESIDUAL: lambda: (
            _means(every[RESIDUAL], bounds.residual_mean_micro)
            if known is None
            else _beyond(tails(bounds), every[RESIDUAL])
        ),
    }
    weights = plan.weights()
    taken = {name: logs[name]() for name in weights}
    return Levels(
        draw=draw,
        channels={name: _milli(log) for name, log in taken.items()},
        merged=_milli(log_average(list(taken.values()), list(weights.values()))),
        numerics=_milli(_means(every[RESIDUAL], bounds.numerics_mean_micro)),
    )


def _surprisals(answers: Sequence[Sequence[int]], wide: int) -> float:
    """Return the log e-value of a bet on all tokens, and on a share of the answers."""
    wealths = [betting.log_wealths(answer, wide) for answer in answers]
    whole = log_mean([math.fsum(column) for column in zip(*wealths, strict=True)] or [0.0])
    return log_mean([whole, _shared([log_mean(one) for one in wealths])])


def _means(answers: Sequence[Sequence[int]], mean_micro: int) -> float:
    """Return the same for scores whose mean is bounded."""
    capped = [[min(value, _NAT_MICRO) for value in answer] for answer in answers]
    wealths = [bounded.log_wealths(answer, mean_micro) for answer in capped]
    whole = log_mean([math.fsum(column) for column in zip(*wealths, strict=True)] or [0.0])
    return log_mean([whole, _shared([log_mean(one) for one in wealths])])


def _places(answers: Sequence[Sequence[int]], wide: int) -> float:
    null = pit.null(wide)
    counts = []
    for answer in answers:
        counted = [0] * len(null)
        for value in answer:
            if value != ABSENT:
                counted[pit.bin_of(value)] += 1
        counts.append(counted)
    return channel.log_e(counts, null)


def _beyond(beyond: Sequence[tuple[int, int]], answers: Sequence[Sequence[int]]) -> float:
    """Return the average of bets on how many residuals lie beyond each edge."""
    if any(not 0 <= value <= CAP_MICRO for answer in answers for value in answer):
        raise FormatError(f"a residual lies outside 0 to {CAP_MICRO} micro-nats")
    logs = [
        _means([[MICRO * (value >= edge) for value in answer] for answer in answers], rate)
        for edge, rate in beyond
    ]
    return log_mean(logs) if logs else 0.0


def _shared(logs: Sequence[float]) -> float:
    """Return the log e-value of bets on shares of the answers."""
    steps = [shares.log_steps(log) for log in logs]
    return log_mean([math.fsum(column) for column in zip(*steps, strict=True)] or [0.0])


def _milli(log: float) -> int:
    return round(1000 * max(-1e6, min(1e6, log / math.log(10))))
