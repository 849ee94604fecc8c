"""Calibrates a site: how its honest runs differ from the prediction, and how much they differ.

Least squares in the logarithm, held back by a ridge so that few runs fit little. Every figure that
scores others comes from runs that were left out of the fit, whole sessions at a time. Only honest
runs of the same engine build, prompts and load belong in here: the reference never learns from
whoever is judged by it.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from lydite.errors import FormatError
from lydite.evidence.power import declared
from lydite.evidence.power import reference as expected
from lydite.evidence.power.declared import Deployment, Load
from lydite.evidence.power.reference import MICRO, QUANTITIES, Fitted, Physics, Quantity, Reference
from lydite.evidence.power.verifier import Compared
from lydite.messages.calibration import Provenance
from lydite.statistics import means

LEAST_SESSIONS = 5
"""With fewer, nothing is calibrated."""
RIDGE = 1.0
"""Pull of the slopes towards nought, as much as one run that is one e-fold away from the mean."""
LEAST_SPREAD = 0.005
"""Half a percent: no site repeats better than its clocks and counters."""
LEAST_SLACK = 0.05
"""Slack of the bound on time at a site whose honest runs all keep it."""
MEAN_ERROR = 0.05
"""Probability that the bound on the honest mean is too low by chance."""

_Floats = NDArray[np.float64]


class Run(NamedTuple):
    """One honest run, as ``verifier.compare`` measured it."""

    session: str
    horizon_s: int
    deployment: Deployment
    load: Load
    logs: dict[Quantity, float]
    """``ln(measured / predicted)``."""


def calibrate(base: Reference, site: str, runs: Sequence[Run], provenance: Provenance) -> Reference:
    """Return ``base`` calibrated for ``site`` by honest runs.

    1. The slack of the bound on time: a twentieth, and by how much honest runs seem to break it.
    2. For each quantity: offset and slopes by ridge regression, and the spread of sessions that
       were left out of it: its upper bound, which few sessions make wide.
    3. Each session's score with itself left out, by the ramp of ``base``.
    4. The highest mean that such scores may have (``statistics.means``), of the worst horizon.

    Raises:
        FormatError: fewer than five sessions.
    """
    sessions = sorted({run.session for run in runs})
    if len(sessions) < LEAST_SESSIONS:
        raise FormatError(f"{len(sessions)} sessions, a calibration needs {LEAST_SESSIONS}")
    made = msgspec.structs.replace(
        base,
        physics=_with_slack(base.physics, runs),
        name=f"{site} {base.gpu.name}",
        site=site,
        fitted=_fit_all(runs),
        honest_runs=len(sessions),
        mean_error_ppm=round(MEAN_ERROR * 1_000_000),
        provenance=provenance,
    )
    found = msgspec.structs.replace(made, mean_micro=_mean(runs, sessions, base))
    expected.check(found)
    return found


def measured(session: str, horizon_s: int, deployment: Deployment, found: Compared) -> Run:
    """Return an honest run as it was measured."""
    return Run(session, horizon_s, deployment, found.work.load, found.logs)


def _with_slack(physics: Physics, runs: Sequence[Run]) -> Physics:
    """Return ``physics`` with a slack that every honest run's time for a token keeps."""
    shares = [1.0]
    for run in runs:
        wanted = declared.needs(run.deployment, run.load)
        if "time" in run.logs:
            shares.append(math.exp(run.logs["time"]) * wanted.time_s / wanted.least_time_s)
    slack = round(MICRO * (1.0 - (1.0 - LEAST_SLACK) * min(shares)))
    return msgspec.structs.replace(physics, slack_micro=slack)


def deviation(run: Run, fitted: Sequence[Fitted]) -> float:
    """Return the largest deviation of a run from a fit, in standard deviations."""
    sizes = [0.0]
    for one in fitted:
        if one.quantity in run.logs:
            usual = declared.expected_log(one, run.deployment, run.load)
            off = (run.logs[one.quantity] - usual) * MICRO / one.spread_micro
            sizes.append(max(off, 0.0) if one.quantity == "gap" else abs(off))
    return max(sizes)


def _fit_all(runs: Sequence[Run]) -> tuple[Fitted, ...]:
    found = (_fit(quantity, runs) for quantity in QUANTITIES)
    return tuple(one for one in found if one is not None)


def _fit(quantity: Quantity, runs: Sequence[Run]) -> Fitted | None:
    """Return the fit of one quantity; none where too few sessions measured it."""
    kept = [run for run in runs if quantity in run.logs]
    names = sorted({run.session for run in kept})
    if len(names) < LEAST_SESSIONS - 1:
        return None
    terms = np.array([declared.regressors(run.deployment, run.load) for run in kept])
    logs = np.array([run.logs[quantity] for run in kept])
    sessions = np.array([names.index(run.session) for run in kept])
    left = np.concatenate(
        [_left_out(terms, logs, sessions == number) for number in range(len(names))]
    )
    spread = float(np.sqrt(np.mean(left**2))) * widened(len(names) - 1)
    return Fitted(
        quantity=quantity,
        terms_micro=tuple(np.rint(_ridge(terms, logs) * MICRO).astype(int).tolist()),
        spread_micro=round(MICRO * min(max(spread, LEAST_SPREAD), 10.0)),
        runs=len(kept),
    )


def widened(degrees: int) -> float:
    """Return by how much a spread may be larger than it looks, from so many degrees of freedom.

    ``sqrt(n / chi2)``, chi2 the 5 % quantile with n degrees, by Wilson and Hilferty.
    """
    part = 2.0 / (9.0 * degrees)
    return math.pow(1.0 - part + NormalDist().inv_cdf(0.05) * math.sqrt(part), -1.5)


def _left_out(terms: _Floats, logs: _Floats, out: NDArray[np.bool_]) -> _Floats:
    residuals: _Floats = logs[out] - terms[out] @ _ridge(terms[~out], logs[~out])
    return residuals


def _ridge(terms: _Floats, logs: _Floats) -> _Floats:
    """Return offset and slopes; the slopes are pulled towards nought, the offset is not."""
    centre = terms[:, 1:].mean(axis=0)
    moved = terms[:, 1:] - centre
    level = logs.mean()
    slopes = np.linalg.solve(
        moved.T @ moved + RIDGE * np.eye(moved.shape[1]), moved.T @ (logs - level)
    )
    return np.concatenate([[level - centre @ slopes], slopes])


def _mean(runs: Sequence[Run], sessions: Sequence[str], base: Reference) -> int:
    quiet, sure = base.quiet_milli / 1000, base.sure_milli / 1000
    scores: dict[int, list[int]] = {}
    for session in sessions:
        fitted = _fit_all([run for run in runs if run.session != session])
        seen: set[int] = set()
        for run in runs:
            if run.session == session and run.horizon_s not in seen:
                seen.add(run.horizon_s)
                ramp = (deviation(run, fitted) - quiet) / (sure - quiet)
                score = round(MICRO * min(max(ramp, 0.0), 1.0))
                scores.setdefault(run.horizon_s, []).append(score)
    error = MEAN_ERROR / len(scores)
    return max(means.highest(values, error) for values in scores.values())
