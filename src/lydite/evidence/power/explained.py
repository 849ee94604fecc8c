"""How many joules each receipt of a run explains, by the declared model and the site's calibration.

What ledgers hold measured joules against. Knows nothing of telemetry, or of who pays.
"""

import math
from typing import NamedTuple

from lydite.evidence.power import declared, work
from lydite.evidence.power import reference as expected
from lydite.evidence.power.claims import Claims
from lydite.evidence.power.declared import Deployment
from lydite.evidence.power.reference import MICRO, Quantity, Reference


class Explained(NamedTuple):
    """What a run explains, in microjoules and microwatts."""

    receipts: dict[str, int]
    """All GPUs together."""
    rest_uw: int
    """Of one GPU with the model loaded and nothing to do."""


def explain(claims: Claims, reference: Reference) -> Explained:
    """Return what the declared work of a run needs, as ``declared.needs`` predicts.

    The joules of a token are those of the run's mean load, the prompt of a mean request with it: a
    request of a longer prompt than others explains less than it took, a shorter one more.

    Raises:
        UnavailableError: no token is declared in the run.
    """
    done = work.stretch(claims, *work.run_ns(claims))
    deployment = Deployment(
        claims.shape, claims.numerics, reference.gpu, claims.gpus, reference.physics
    )
    wanted = declared.needs(deployment, done.load)

    def usual(quantity: Quantity) -> float:
        one = expected.fitted(reference, quantity)
        return math.exp(declared.expected_log(one, deployment, done.load)) if one else 1.0

    token_uj = wanted.energy_j * usual("energy") * MICRO
    return Explained(
        receipts={one.receipt: round(one.output_tokens * token_uj) for one in claims.requests},
        rest_uw=round(wanted.gap_w * usual("gap") * MICRO),
    )
