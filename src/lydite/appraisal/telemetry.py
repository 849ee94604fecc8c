"""What telemetry may do: raise the rate of audits, for a while, and nothing else.

Findings on power are weighed by a policy of their own. They never join the verdict on a provider:
whoever is root on a machine forges them, and an honest site drifts. Knows nothing of traces.
"""

import math
from collections.abc import Sequence

from lydite.appraisal.policy import WHOLE_PPM
from lydite.errors import FormatError, Reason
from lydite.evidence.power import reference as references
from lydite.evidence.power.reference import ALARM_MICRO, KIND, SCORE, Reference
from lydite.messages.audit import Channel
from lydite.messages.canonical import Count, Integer, Message, Word
from lydite.messages.epoch import Ppm
from lydite.messages.finding import Finding
from lydite.messages.tier import Tier
from lydite.statistics import bounded, detector
from lydite.statistics.merging import log_mean, log_sum

CAVEATS = (
    "which model ran: work of the same bytes and operations fits as well",
    "that telemetry is true: root on the machine forges power, energy, clocks, memory and counters",
    "bursts shorter than a sensor's window, and work below the spread of honest runs",
    "anything against a provider: telemetry raises the rate of audits, and accuses nobody",
)
"""What a report on telemetry does not show."""


class Policy(Message, frozen=True, kw_only=True):
    """How far telemetry moves the rate of audits.

    ``raise_milli`` is the level of log10 E at which the rate rises, for the average in which
    telemetry has the weight ``weight_ppm`` and all other evidence is taken as nothing found.
    ``alarm_sessions`` is how many sessions lie between two false alarms on average, at least and
    at each horizon: twenty sessions a GPU and week make one alarm a GPU-week.
    """

    name: Word
    weight_ppm: Ppm
    raise_milli: Count
    alarm_sessions: Count
    usual_epsilon_ppm: Ppm
    raised_epsilon_ppm: Ppm


DEFAULT = Policy(
    name="telemetry-1",
    weight_ppm=50_000,
    raise_milli=1301,
    alarm_sessions=20,
    usual_epsilon_ppm=10_000,
    raised_epsilon_ppm=100_000,
)
"""Weight .05, the rate of audits tenfold from an e-value of 20 or an alarm on."""


class Advice(Message, frozen=True, kw_only=True):
    """What follows from the telemetry of a provider, and the numbers that it follows from."""

    tier: Tier
    reason: Reason
    epsilon_ppm: Ppm
    """The rate of audits that is advised."""
    log10_e_milli: Integer
    """Of the average with the policy's weight."""
    alarm_log10_milli: Integer
    """Of the alarm's statistic, at the horizon where it is highest."""
    channels: tuple[Channel, ...]
    sessions: Count
    highest_score_micro: Count
    skipped: Count
    """Findings that taught nothing."""


def check(policy: Policy) -> None:
    """Refuse a policy that would lower the rate of audits, or give telemetry all the weight.

    Raises:
        FormatError: it does.
    """
    if not 0 < policy.weight_ppm < WHOLE_PPM or policy.alarm_sessions < 1:
        raise FormatError(f"policy {policy.name}: telemetry has some of the weight, and alarms")
    if not 0 < policy.usual_epsilon_ppm <= policy.raised_epsilon_ppm:
        raise FormatError(f"policy {policy.name}: telemetry never lowers the rate of audits")


def advise(policy: Policy, reference: Reference, findings: Sequence[Finding]) -> Advice:
    """Return what the findings on one provider's telemetry, in their order, advise.

    1. Each horizon is a channel (``reference.channel_log10_e``); they share the weight equally.
    2. The rate rises where the average, ``1 - w`` for all that was not looked at, reaches the
       policy's level, or where the alarm (``statistics.detector``) reaches ``alarm_sessions``.
    3. The tier is a warning where the rate rises or the newest score alarms by itself, else none:
       what fits affirms nothing.

    Raises:
        VerificationError: scores made against another Reference Value.
        FormatError: scores that no verifier records, or a policy that ``check`` refuses.

    **Does not show** anything against a provider: telemetry can be forged by root on the machine,
    and honest sites drift from their calibration. Nor that a provider whose telemetry fits is
    honest.
    """
    check(policy)
    own = [finding for finding in findings if finding.kind == KIND]
    steps = references.steps(reference, own)
    levels = references.channel_log10_e(reference, own)
    weight = policy.weight_ppm / WHOLE_PPM
    merged = log_sum(
        [math.log1p(-weight), math.log(weight) + log_mean([e * math.log(10) for _, e in levels])]
    )
    alarm = max(_alarm(reference, steps, horizon) for horizon in reference.horizons_s)
    scores = [score for _, score in steps]
    log10_e, log10_r = _milli(merged), _milli(alarm)
    rises = log10_e >= policy.raise_milli or alarm >= math.log(policy.alarm_sessions)
    odd = rises or (bool(scores) and scores[-1] >= ALARM_MICRO)
    fits = Reason.TELEMETRY_FITS if scores else Reason.UNMEASURED
    return Advice(
        tier=Tier.WARNING if odd else Tier.NONE,
        reason=Reason.TELEMETRY_MISFITS if odd else fits,
        epsilon_ppm=policy.raised_epsilon_ppm if rises else policy.usual_epsilon_ppm,
        log10_e_milli=log10_e,
        alarm_log10_milli=log10_r,
        channels=tuple(
            Channel(
                name=name,
                weight_ppm=policy.weight_ppm // len(levels),
                log10_e_milli=round(1000 * max(-1e6, min(1e6, level))),
            )
            for name, level in levels
        ),
        sessions=len({finding.values(references.SESSION) for finding in own if _scored(finding)}),
        highest_score_micro=max(scores, default=0),
        skipped=sum(not _scored(finding) for finding in own),
    )


def explain(finding: Finding) -> tuple[tuple[str, str], ...]:
    """Return a finding's measures as a person reads them: name and value, or ``not observed``."""
    rows = []
    for measure in finding.measures:
        value = ", ".join(map(str, measure.values))
        rows.append((measure.name, f"{value} {measure.unit}" if value else "not observed"))
    return tuple(rows)


def _scored(finding: Finding) -> bool:
    return bool(finding.values(SCORE))


def _alarm(reference: Reference, steps: Sequence[tuple[int, int]], horizon_s: int) -> float:
    """Return the logarithm of the alarm's statistic after the last session at one horizon."""
    wealths = (
        bounded.log_wealths((score,), reference.mean_micro)
        for horizon, score in steps
        if horizon == horizon_s
    )
    return [-math.inf, *detector.shiryaev_roberts(wealths)][-1]


def _milli(log: float) -> int:
    return round(1000 * max(-1e6, min(1e6, log / math.log(10))))
