"""The probability that declared work is what ran, given its telemetry, under stated assumptions.

A posterior needs a prior and an alternative, and is worth what they are worth: both are arguments,
and the report names them. Not an e-value, and nothing that accuses. Integers in, from records.
"""

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import NamedTuple

from lydite.errors import FormatError
from lydite.evidence.power import reference as references
from lydite.evidence.power.reference import KIND, MICRO, QUANTITIES, SCORE, SESSION, Reference
from lydite.messages.finding import Finding, scored_against

REACH = math.log(10.0)
"""The alternative: something else runs, and moves one quantity by up to tenfold, either way."""
_NORMAL = NormalDist()


class Legitimacy(NamedTuple):
    """What telemetry leaves of the prior."""

    probability: float
    prior: float
    sessions: int


def probability(reference: Reference, findings: Sequence[Finding], prior: float) -> Legitimacy:
    """Return P(all of these sessions ran what was declared | telemetry).

    For each session, its first finding: t, the largest of its k deviations.

    1. Honest sessions have t as the largest of k standard normal sizes, but for a share m0, the
       reference's highest honest mean, of which anything may come: drift, faults, odd load.
    2. Others have a logarithm of measured over predicted evenly spread up to tenfold.
    3. A score of one with t below the ramp, for a broken bound or a gate, is only possible in that
       share of honest sessions.

    Bayes' rule over sessions, taken as independent, for a provider that is honest in all or in
    none. The floor m0 keeps one session from deciding.

    Raises:
        VerificationError: scores made against another Reference Value.
        FormatError: a prior that is no probability, or findings that no verifier records.

    **Does not show** that the prior is right, nor what a provider does that cheats in some sessions
    only; deviations that depend on one another are counted as if they did not. Forged telemetry
    gives whatever probability its forger likes.
    """
    if not 0.0 < prior < 1.0:
        raise FormatError(f"a prior of {prior}, expected between 0 and 1")
    log_odds = math.log(prior) - math.log1p(-prior)
    seen: set[int] = set()
    for finding in scored_against(references.digest(reference), KIND, findings):
        (session,) = finding.values(SESSION) or (-1,)
        if finding.values(SCORE) and session not in seen:
            seen.add(session)
            log_odds += _log_ratio(reference, finding)
    return Legitimacy(1.0 / (1.0 + math.exp(-max(min(log_odds, 700), -700))), prior, len(seen))


def _log_ratio(reference: Reference, finding: Finding) -> float:
    """Return the log of the honest density over the other, of one session."""
    share = reference.mean_micro / MICRO
    sizes = list(_sizes(reference, finding))
    largest, spread = max(sizes, default=(0.0, REACH))
    other = spread / REACH
    ramp = reference.quiet_milli / 1000
    if finding.values(SCORE)[0] == MICRO and largest < ramp:
        return math.log(share)
    honest = _density(largest, len(sizes)) if sizes else other
    return math.log((1.0 - share) * honest + share * other) - math.log(other)


def _sizes(reference: Reference, finding: Finding) -> Iterator[tuple[float, float]]:
    """Yield the size of each deviation that was observed, and the spread that it is counted in."""
    for quantity in QUANTITIES:
        fitted = references.fitted(reference, quantity)
        values = finding.values(f"deviation/{quantity}")
        if fitted is not None and values:
            size = values[0] / 1000
            yield (
                max(size, 0.0) if quantity == "gap" else abs(size),
                fitted.spread_micro / MICRO,
            )


def _density(size: float, count: int) -> float:
    """Return the density of the largest of ``count`` normal sizes, at its median or beyond.

    Below the median it would fall again, and a session would look odd for fitting too well.
    """
    median = _NORMAL.inv_cdf((1.0 + 0.5 ** (1.0 / count)) / 2.0)
    at = max(size, median)
    within = 2.0 * _NORMAL.cdf(at) - 1.0
    return count * math.pow(within, count - 1) * 2.0 * _NORMAL.pdf(at)
