"""A site's profile of one channel, and new runs held against it.

The profile is a distribution (``profiles``), what honest runs' mean log density under it is, and
how far their histograms are from it. Samples of a run follow one another, so a run is one
observation, however many samples it has. A run that is too typical is odd as well: made-up
telemetry sits where the density is greatest. Knows nothing of models; telemetry accuses nobody.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec
import numpy as np

from lydite.errors import FormatError
from lydite.evidence.power import profiles
from lydite.evidence.power.calibration import LEAST_SESSIONS, MEAN_ERROR, widened
from lydite.evidence.power.profiles import Beta, Bimodal, Spread, Values
from lydite.evidence.power.reference import MICRO
from lydite.messages.calibration import Provenance
from lydite.messages.canonical import Count, Integer, Message, Word
from lydite.statistics import means

QUIET, SURE = 2.5, 4.5
"""Standard deviations between which a run's score rises from nought to one."""
LEAST_SPREAD = 0.01
"""Nats a sample of a run's mean log density, and of the distance of its histogram."""

Kind = Literal["beta", "bimodal"]
_COUNTS: dict[Kind, int] = {"beta": 2, "bimodal": 5}


class Profile(
    Message, frozen=True, kw_only=True, tag_field="format", tag="lydite/power-profile/v1"
):
    """How one channel's values are spread in honest runs of one kind of work at one site."""

    name: Word
    channel: Word
    whole: Annotated[int, msgspec.Meta(ge=1)]
    """The value that is one: the stated power, the memory that there is, or 1 for a share."""
    kind: Kind
    parameters_micro: tuple[Integer, ...]
    """a and b; or the weight of the lower peak, and both of each."""
    typical_micro: Integer
    """Mean log density of honest runs, in millionths of a nat a sample."""
    spread_micro: Annotated[int, msgspec.Meta(ge=1)]
    """One standard deviation of it, from run to run."""
    distance_micro: Count
    """Mean total variation between an honest run's histogram and the distribution."""
    distance_spread_micro: Annotated[int, msgspec.Meta(ge=1)]
    """One standard deviation of it, from run to run."""
    mean_micro: Annotated[int, msgspec.Meta(ge=1, le=MICRO)]
    """The highest mean score of honest runs."""
    honest_runs: Count
    provenance: Provenance


class Held(NamedTuple):
    """A new run against a profile."""

    score_micro: int
    deviation: float
    """Of the mean log density, in standard deviations; below nought, less likely than honest."""
    distance: float
    """Total variation between its histogram and the profile."""


def learn(
    name: str, channel: str, whole: int, runs: Sequence[Values], provenance: Provenance
) -> Profile:
    """Return the profile of honest runs, one row of values each, of different sessions.

    Each run's mean log density is taken under a fit of the others. Its spread is an upper bound,
    which few runs make wide; so is the honest mean (``statistics.means``).

    Raises:
        FormatError: fewer than five runs, too few values, or one outside of 0 to ``whole``.
    """
    if len(runs) < LEAST_SESSIONS:
        raise FormatError(f"{len(runs)} runs, a profile needs {LEAST_SESSIONS}")
    shares = [row / whole for row in runs]
    left = np.array([_left_out(shares, number) for number in range(len(shares))])
    typical, distance = left.mean(axis=0).tolist()
    wide = left.std(axis=0, ddof=1) * widened(len(left) - 1)
    spread, distance_spread = np.maximum(wide, LEAST_SPREAD).tolist()
    scores = [
        _score((mean - typical) / spread, (far - distance) / distance_spread)
        for mean, far in left.tolist()
    ]
    found = profiles.fit(np.concatenate(shares)).spread
    return Profile(
        name=name,
        channel=channel,
        whole=whole,
        kind="beta" if isinstance(found, Beta) else "bimodal",
        parameters_micro=tuple(round(MICRO * value) for value in _flat(found)),
        typical_micro=round(MICRO * typical),
        spread_micro=round(MICRO * spread),
        distance_micro=round(MICRO * distance),
        distance_spread_micro=round(MICRO * distance_spread),
        mean_micro=means.highest(scores, MEAN_ERROR),
        honest_runs=len(runs),
        provenance=provenance,
    )


def hold(profile: Profile, values: Values) -> Held:
    """Return how a new run compares with a profile.

    Raises:
        FormatError: the profile is not whole, or the values are not ones that it is of.
    """
    spread = spread_of(profile)
    shares = values / profile.whole
    mean, distance = _compared(spread, shares)
    deviation = (mean * MICRO - profile.typical_micro) / profile.spread_micro
    farther = (distance * MICRO - profile.distance_micro) / profile.distance_spread_micro
    return Held(_score(deviation, farther), deviation, distance)


def spread_of(profile: Profile) -> Spread:
    """Return the distribution of a profile.

    Raises:
        FormatError: its parameters are none.
    """
    values = [value / MICRO for value in profile.parameters_micro]
    if len(values) != _COUNTS[profile.kind] or min(values) <= 0.0:
        raise FormatError(f"profile {profile.name}: no {profile.kind} distribution")
    if profile.kind == "beta":
        return Beta(*values)
    weight, a, b, c, d = values
    if weight >= 1.0:
        raise FormatError(f"profile {profile.name}: a weight of {weight}")
    return Bimodal(weight, Beta(a, b), Beta(c, d))


def _left_out(shares: Sequence[Values], number: int) -> tuple[float, float]:
    others = [row for i, row in enumerate(shares) if i != number]
    return _compared(profiles.fit(np.concatenate(others)).spread, shares[number])


def _compared(spread: Spread, shares: Values) -> tuple[float, float]:
    mean = float(profiles.log_density(spread, profiles.inside(shares)).mean())
    return mean, profiles.distance(spread, shares)


def _flat(spread: Spread) -> list[float]:
    if isinstance(spread, Beta):
        return [*spread]
    return [spread.weight, *spread.low, *spread.high]


def _score(deviation: float, farther: float) -> int:
    size = max(abs(deviation), farther)
    return round(MICRO * min(max((size - QUIET) / (SURE - QUIET), 0.0), 1.0))
