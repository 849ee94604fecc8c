"""How the evidence on one provider grew, audit by audit: what a person would rather look at.

Recomputed from a bundle's recorded findings. Knows nothing of how it is drawn.
"""

from typing import NamedTuple

from lydite.appraisal import decision
from lydite.appraisal.bundle import Bundle
from lydite.messages.audit import parse_audit
from lydite.signing.dsse import payload_of


class Step(NamedTuple):
    """After one more audit: tokens scored so far, and log10 of the merged e-value."""

    tokens: int
    log10_e: float


def trajectory(bundle: Bundle) -> list[Step]:
    """Return the steps of a bundle that ``verification.verify`` accepted, in log order.

    **Does not show** anything by itself: no signature is checked here.
    """
    audits = [
        parse_audit(payload_of(logged.envelope)).predicate.findings for logged in bundle.audits
    ]
    steps = [Step(0, 0.0)]
    for count in range(1, len(audits) + 1):
        verdict = decision.decide(bundle.policy, bundle.references, audits[:count])
        steps.append(Step(verdict.tokens, verdict.log10_e_milli / 1000))
    return steps
