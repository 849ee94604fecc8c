"""How sketches are scored before anything is calibrated, and what a passport says of them.

Knows nothing of where the answers come from.
"""

import math
from collections.abc import Sequence

from lydite.engines.sketching import Sketcher
from lydite.evidence.activations import reference as activations
from lydite.evidence.activations import spec as specs
from lydite.evidence.activations.reference import SCALE_MICRO
from lydite.evidence.activations.reference import Reference as Sketches
from lydite.messages.calibration import Binned, Provenance
from lydite.messages.passport import Sketch
from lydite.numerics import merging
from lydite.numerics.scoring import Scored


def blank(sketcher: Sketcher, width: int) -> Sketches:
    """Return a Reference Value that tells the verifier what it needs to score sketches."""
    return activations.Reference(
        name="blank",
        weights_root=sketcher.weights_root,
        width=width,
        spec=sketcher.spec,
        auditor="fp32 arithmetic on the stored weights, one teacher-forced pass, batch 1",
        sketch=Binned(edges=(), histograms=()),
        inner=None,
        error_ppm=merging.ERROR_PPM,
        sigma_micro=0,
        noise_micro=0,
        alternatives=(),
        provenance=Provenance(script="0" * 64, data="0" * 64, prompts="0" * 64, versions=()),
    )


def described(blanked: Sketches, scored: Sequence[Scored]) -> Sketch:
    """Return what a passport says of the sketches of honest answers.

    The noise is that of the states where both sides are known; else what the scores leave once
    rounding to steps, a twelfth of a square step a coordinate, is taken out of them.
    """
    known = [one.spread for one in scored if one.spread is not None]
    if len(known) == len(scored):
        mean = math.fsum(spread[0] for spread in known) / len(known)
        most = max(spread[1] for spread in known)
    else:
        mean, most = _left(blanked, scored)
    return said(blanked, math.sqrt(mean), math.sqrt(most))


def said(blanked: Sketches, sigma: float, noise: float) -> Sketch:
    """Return how sketches were made, with their noise in units of a state."""
    spec = blanked.spec
    return Sketch(
        spec=specs.digest(spec),
        coordinates=spec.coordinates,
        delta=spec.delta,
        inner_deltas=spec.inner_deltas,
        width=blanked.width,
        sigma_micro=math.ceil(SCALE_MICRO * sigma),
        noise_micro=math.ceil(SCALE_MICRO * noise),
    )


def _left(blanked: Sketches, scored: Sequence[Scored]) -> tuple[float, float]:
    """Return mean and greatest square a coordinate that the scores leave."""
    rounding = float(blanked.spec.delta) ** 2 / 12
    scores = [value for one in scored for value in one.sketch]
    squares = [(value / SCALE_MICRO) ** 2 / blanked.spec.coordinates for value in scores]
    return max(0.0, math.fsum(squares) / len(squares) - rounding), max(squares)
