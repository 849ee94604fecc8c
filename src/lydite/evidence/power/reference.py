"""What honest telemetry looks like at a site, and e-values from recorded scores alone.

Constants of physics with their sources, the site's calibration, the gates, and the highest mean
score that honest runs have. Integers throughout, so that a relying party with the base install
recomputes the same e-values. Knows nothing of traces.

Telemetry read inside of the operator's machine can be forged by its root. So what follows from it
raises the rate of audits, and never accuses.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from lydite.errors import FormatError
from lydite.evidence.power.gpus import Gpu
from lydite.messages.calibration import Provenance
from lydite.messages.canonical import Count, Integer, Message, Word, decode, encode
from lydite.messages.finding import Finding, scored_against
from lydite.statistics import bounded, onset

KIND = "power"
SCORE, SESSION, HORIZON = "score", "session", "horizon"
"""Names of the measures that e-values follow from: one value each."""
MICRO = 1_000_000

Quantity = Literal["time", "energy", "power", "traffic", "gap"]
"""Time a token, joules a token, watts, share of the memory's bandwidth, watts between requests."""
QUANTITIES: tuple[Quantity, ...] = ("time", "energy", "power", "traffic", "gap")

_Micro = Annotated[int, msgspec.Meta(ge=1, le=MICRO)]
_Spread = Annotated[int, msgspec.Meta(ge=1000, le=10 * MICRO)]
_Milli = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class Physics(Message, frozen=True, kw_only=True):
    """How near to a data sheet work comes, where no site was calibrated: judgement, not a fit.

    Shares are of the bandwidth, the operations or the power that the maker states. The shares of
    power follow loads of single units that were published for one GPU: memory alone takes 70 % of
    its power, matrix units 96 to 98 %.
    """

    bandwidth_micro: _Micro = 850_000
    compute_micro: _Micro = 600_000
    memory_power_micro: _Micro = 700_000
    matrix_power_micro: _Micro = 970_000
    loaded_power_micro: _Micro = 170_000
    """With a model in memory and nothing to do."""
    step_us: Count = 500
    """Of a decode step, whatever the model: scheduling and sampling."""
    layer_us: Count = 15
    """Of each layer: starting its kernels."""
    slack_micro: Annotated[int, msgspec.Meta(ge=0, le=900_000)] = 500_000
    """By how much the bound on time may seem broken: nobody knows how a site counts tokens and
    times them before it is calibrated, so a factor of two."""
    memory_slack_micro: Annotated[int, msgspec.Meta(ge=0, le=900_000)] = 100_000
    """The same of the bound on memory, which counts nothing."""


class Fitted(Message, frozen=True, kw_only=True):
    """One quantity at a site: ``ln(measured / predicted)`` of an honest run, and its spread.

    The mean is ``terms[0] + terms[1] ln batch + terms[2] ln GB read + terms[3] ln context``, in
    millionths; terms that are left out are nought. ``spread_micro`` is one standard deviation of
    a new run about it.
    """

    quantity: Quantity
    terms_micro: Annotated[tuple[Integer, ...], msgspec.Meta(min_length=1, max_length=4)]
    spread_micro: _Spread
    runs: Count


class Gates(Message, frozen=True, kw_only=True):
    """Where the physics gates stand; shares in millionths, of one or of the stated power."""

    hashing_sm_micro: _Micro = 600_000
    hashing_tensor_micro: _Micro = 20_000
    hashing_integer_micro: _Micro = 250_000
    training_tensor_micro: _Micro = 250_000
    """Of the time in which multiprocessors are active."""
    training_power_micro: _Micro = 550_000
    tampering_power_micro: _Micro = 500_000
    tampering_sm_micro: _Micro = 100_000
    energy_off_micro: _Micro = 100_000
    """By how much the energy counter may differ from the integral of power."""
    idle_power_micro: _Micro = 140_000
    loaded_power_micro: _Micro = 250_000


class Reference(
    Message, frozen=True, kw_only=True, tag_field="format", tag="lydite/power-reference/v1"
):
    """What telemetry of honest declared work looks like on one kind of GPU, at one site or any."""

    name: Word
    gpu: Gpu
    physics: Physics = Physics()
    gates: Gates = Gates()
    site: Word | None
    """The calibrated site: engine build, prompts and load as in its calibration; none, for any."""
    fitted: tuple[Fitted, ...]
    quiet_milli: _Milli = 2500
    """Standard deviations up to which the score of a run is nought, in thousandths."""
    sure_milli: _Milli = 4500
    """Standard deviations from which it is one."""
    covered_micro: _Micro = 900_000
    """Least share of the run that has to be measured."""
    horizons_s: Annotated[tuple[Count, ...], msgspec.Meta(min_length=1, max_length=8)] = (60, 600)
    """A session is scored once at each of these times after its start, whatever comes later."""
    mean_micro: _Micro
    """The highest mean score of honest runs: an upper confidence bound from calibration."""
    mean_error_ppm: Annotated[int, msgspec.Meta(ge=0, le=500_000)]
    """Probability, in millionths, that it is too low by chance; nought if it is a judgement."""
    honest_runs: Count
    """Runs that it was bounded from."""
    provenance: Provenance | None
    """What the calibration was made with and from; none without one."""


ALARM_MICRO = MICRO // 2
"""A run alarms by itself from half a score on: halfway up the ramp."""
GENERIC_SPREADS: dict[Quantity, int] = {
    "time": 500_000,
    "energy": 500_000,
    "power": 400_000,
    "traffic": 500_000,
    "gap": 300_000,
}
"""One standard deviation of the logarithm without a calibration: half an e-fold. A judgement; it
tells a small model from a large one, and nothing finer."""


def generic(gpu: Gpu) -> Reference:
    """Return what holds for any site with this kind of GPU: wide, and not calibrated."""
    fitted = tuple(
        Fitted(quantity=quantity, terms_micro=(0,), spread_micro=spread, runs=0)
        for quantity, spread in GENERIC_SPREADS.items()
    )
    return Reference(
        name=f"generic {gpu.name}",
        gpu=gpu,
        site=None,
        fitted=fitted,
        mean_micro=50_000,
        mean_error_ppm=0,
        honest_runs=0,
        provenance=None,
    )


def parse(payload: bytes) -> Reference:
    """Parse a Reference Value, at most 1 MiB, in its one spelling, and check that it is whole.

    Raises:
        FormatError: other bytes than we would write, or what ``check`` refuses.
    """
    reference = decode(payload, Reference, limit=1 << 20)
    check(reference)
    return reference


def check(reference: Reference) -> None:
    """Check that a Reference Value can be read against.

    Raises:
        FormatError: a quantity twice, a ramp or horizons that do not ascend, or a calibrated site
            without the data that it is calibrated from.
    """
    named = [one.quantity for one in reference.fitted]
    if len(set(named)) != len(named):
        raise FormatError("power reference: a quantity is fitted twice")
    if reference.quiet_milli >= reference.sure_milli:
        raise FormatError("power reference: the ramp of the score does not ascend")
    if list(reference.horizons_s) != sorted(set(reference.horizons_s)) or not all(
        reference.horizons_s
    ):
        raise FormatError("power reference: horizons do not ascend from above nought")
    calibrated = reference.provenance is not None and reference.honest_runs > 0
    if (reference.site is not None) != calibrated:
        raise FormatError("power reference: a site needs its calibration, and only a site has one")


def digest(reference: Reference) -> str:
    """Return what findings name a Reference Value by: SHA-256 of its spelling, in hex."""
    return hashlib.sha256(encode(reference)).hexdigest()


def fitted(reference: Reference, quantity: Quantity) -> Fitted | None:
    """Return how one quantity behaves, or None where the reference does not say."""
    return next((one for one in reference.fitted if one.quantity == quantity), None)


def steps(reference: Reference, findings: Sequence[Finding]) -> tuple[tuple[int, int], ...]:
    """Return horizon and score of what counts, in the order of the findings.

    The first score of a session at a horizon counts: later ones depend on it, and on what it was.

    Raises:
        VerificationError: scores made against another Reference Value.
        FormatError: scores that no verifier records.
    """
    seen: set[tuple[int, int]] = set()
    kept = []
    for finding in scored_against(digest(reference), KIND, findings):
        score, session, horizon = (
            _one(finding, name, most)
            for name, most in ((SCORE, MICRO), (SESSION, 1 << 52), (HORIZON, 1 << 32))
        )
        if horizon not in reference.horizons_s:
            raise FormatError(f"a score after {horizon} s, not {reference.horizons_s}")
        if (session, horizon) not in seen:
            seen.add((session, horizon))
            kept.append((horizon, score))
    return tuple(kept)


def channel_log10_e(
    reference: Reference, findings: Sequence[Finding]
) -> tuple[tuple[str, float], ...]:
    """Return log10 of the e-value of each channel, from the integers that findings record.

    ``findings`` are those on one provider in their order. Each horizon is a channel: one bounded
    score a session, bet on against the honest mean (``statistics.bounded``), mixed over starts
    (``statistics.onset``). Merge channels with fixed weights only.

    Guarantee: for a provider whose sessions score ``mean_micro`` or less on average given those
    before, the probability that a channel ever reaches 1/alpha is at most alpha. The bound's own
    error adds to that. It says nothing of a site that drifts from its calibration.

    Raises:
        VerificationError: scores made against another Reference Value.
        FormatError: scores that no verifier records.
    """
    found = steps(reference, findings)
    levels = []
    for horizon in reference.horizons_s:
        wealths = (
            bounded.log_wealths((score,), reference.mean_micro)
            for at, score in found
            if at == horizon
        )
        grown = [0.0, *onset.running(wealths)]
        levels.append((f"{KIND}/{horizon}s", grown[-1] / math.log(10)))
    return tuple(levels)


def _one(finding: Finding, name: str, most: int) -> int:
    values = finding.values(name)
    if len(values) != 1 or not 0 <= values[0] <= most:
        raise FormatError(f"a finding on power without one {name} from 0 to {most}")
    return values[0]
