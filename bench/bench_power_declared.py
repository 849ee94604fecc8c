"""Telemetry against declared work, on measured runs of others: what is caught, and what falsely.

    make bench-power_declared

Needs the third-party traces beside the repository (``LYDITE_POWER_TRACES``). Every figure with a
calibration leaves the tested session out. Windows with a pause in them are left out: the records do
not date tokens, so work is declared as going on throughout. *Measured* rows declare a measured run
as something else; *simulated* rows draw runs that differ as measured repeats do and add mining by
arithmetic, since there is no measured trace of such a mixture.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import report
from numpy.typing import NDArray

from lydite.errors import UnavailableError
from lydite.evidence.power import calibration, declared, gpus, models, reference, verifier
from lydite.evidence.power.calibration import Run
from lydite.evidence.power.declared import Deployment, Load
from lydite.evidence.power.reference import ALARM_MICRO, MICRO, Quantity, Reference
from lydite.laboratory.power import serving, traces
from lydite.laboratory.power.serving import Step
from lydite.messages.calibration import Provenance
from lydite.statistics.bounded import MICRO as WHOLE

NOTHING = Provenance(script="0" * 64, data="0" * 64, prompts="0" * 64, versions=("evaluation",))
HORIZON = 60
LARGE = "llama-3.1-70b"
REPEATS = ("exp3_llama8b", "exp5_llama8b", "exp7_A_llama8b_H200")
"""Configurations that were run again: the spread of one and the same work at one site."""
MEASURED_W = 434.0
"""Of the H100 in ``exp3``, 8B at 8 at once: what mining is interleaved with."""
SESSIONS, TRIALS = 40, 1000
_IDLE_W = 135.0
"""Below it the traces' own labels are idle: such a window holds other work than was declared."""

_Floats = NDArray[np.float64]


def main() -> int:
    """Print and keep the tables."""
    try:
        place = traces.folder()
    except UnavailableError as error:
        print(f"lydite: error: {error}", file=sys.stderr)
        return 4
    steps = serving.steps(place)
    rows = [
        *predictions(steps),
        *site_rows(place, steps),
        *generic_rows(place, steps),
        *low_bits(steps, repeats(steps)),
        *mining_rows(repeats(steps)),
    ]
    report.write("power_declared", rows)
    return 0


def generic(step: Step) -> Reference:
    """Return the reference of a step's GPU without a calibration."""
    return reference.generic(gpus.find(f"NVIDIA {step.gpu}"))


def predictions(steps: Sequence[Step]) -> Iterator[report.Row]:
    """Yield how far the prediction is off where nothing is calibrated."""
    errors: dict[str, list[float]] = {"time": [], "energy": [], "power": []}
    below = {0.0: 0, 0.1: 0, 0.25: 0, 0.5: 0}
    for step in steps:
        base = generic(step)
        each = step.gpus // step.instances
        load = Load(
            step.concurrency / step.instances, step.prompt_tokens + 128, step.prompt_tokens, 256
        )
        deployment = Deployment(step.shape, step.numerics, base.gpu, each, base.physics)
        wanted = declared.needs(deployment, load)
        errors["time"].append(step.time_s / wanted.time_s)
        errors["power"].append(step.watts / step.gpus / wanted.power_w)
        if step.joules:
            errors["energy"].append(step.joules / wanted.energy_j)
        for slack in below:
            below[slack] += step.time_s < (1 - slack) * wanted.least_time_s
    for name, ratios in errors.items():
        off = np.abs(np.array(ratios) - 1)
        yield report.row(f"uncalibrated {name}, median error", float(np.median(off)), "share")
        yield report.row(f"uncalibrated {name}, 90 % error", float(np.quantile(off, 0.9)), "share")
    for slack, count in below.items():
        yield report.row(
            f"honest steps of {len(steps)} under the bound less {slack:.0%}", count, "steps"
        )


def scores(
    place: Path,
    steps: Sequence[Step],
    base: Reference,
    declare_as: str | None = None,
    bits: int | None = None,
    shared: bool = False,
) -> dict[str, list[int]]:
    """Return the scores of every window of each step, declared as another model or numerics."""
    found: dict[str, list[int]] = {}
    for step in steps:
        shape = models.find(declare_as) if declare_as else step.shape
        numerics = step.numerics.__class__(weight_milli_bits=bits or step.bits)
        said = step._replace(instances=1) if shared else step
        run = serving.declare(said, HORIZON, shape, numerics)
        for seen in serving.windows(place, step, HORIZON):
            used = seen if shared else seen[: run.gpus]
            if any(one.series["power_average_w"].values.min() < _IDLE_W for one in used):
                continue  # it has a pause in it that the source's records do not date
            try:
                compared = verifier.compare(run, used, base, HORIZON)
            except UnavailableError:
                continue
            found.setdefault(step.name, []).append(verifier.score(compared, base))
    return found


def caught(
    label: str, found: dict[str, list[int]], *, honest: bool = False
) -> Iterator[report.Row]:
    """Yield the share of steps whose first window alarms, and of all windows."""
    first = [each[0] >= ALARM_MICRO for each in found.values()]
    every = [score >= ALARM_MICRO for each in found.values() for score in each]
    bound = {"must": 0.01, "at_most": True} if honest else {"must": 0.99}
    yield report.row(
        f"{label}, {len(first)} steps, first {HORIZON} s", float(np.mean(first)), "share", **bound
    )  # type: ignore[arg-type]
    yield report.row(f"{label}, {len(every)} windows", float(np.mean(every)), "share")


def generic_rows(place: Path, steps: Sequence[Step]) -> Iterator[report.Row]:
    """Yield what a site without a calibration catches."""
    data = [step for step in steps if step.gpu in ("H100", "H200")]
    small = [step for step in data if step.model == "llama-3.1-8b" and step.trace_ids]
    large = [step for step in data if step.model in (LARGE, "qwen2.5-72b") and step.trace_ids]
    pairs = [step for step in small if step.instances == 2]
    for gpu in ("H100", "H200"):
        base = reference.generic(gpus.find(f"NVIDIA {gpu}"))
        ones = [step for step in small if step.gpu == gpu and step.gpus == 1]
        yield from caught(
            f"measured, {gpu}, no calibration: 8B as 70B in 8 bits on one GPU",
            scores(place, ones, base, LARGE, 8_000),
        )
        two = [step for step in pairs if step.gpu == gpu]
        yield from caught(
            f"measured, {gpu}, no calibration: two 8B as one 70B on two GPUs",
            scores(place, two, base, LARGE, 16_000, shared=True),
        )
        alike = [step for step in large if step.gpu == gpu]
        yield from caught(
            f"measured, {gpu}, no calibration: honest 70B", scores(place, alike, base), honest=True
        )


def site_runs(place: Path, steps: Sequence[Step], base: Reference) -> list[tuple[Step, Run]]:
    """Return the first window of each step, as a run."""
    found = []
    for step in steps:
        run = serving.declare(step, HORIZON)
        for seen in serving.windows(place, step, HORIZON):
            if any(one.series["power_average_w"].values.min() < _IDLE_W for one in seen):
                continue
            compared = verifier.compare(run, seen[: run.gpus], base, HORIZON)
            deployment = Deployment(step.shape, step.numerics, base.gpu, run.gpus, base.physics)
            found.append((step, calibration.measured(step.session, HORIZON, deployment, compared)))
            break
    return found


def site_rows(place: Path, steps: Sequence[Step]) -> Iterator[report.Row]:
    """Yield what the one harness with enough sessions catches, the tested session left out."""
    site = [s for s in steps if s.gpu == "H200" and s.experiment == "exp2_concurrency"]
    base = reference.generic(gpus.find("NVIDIA H200"))
    runs = site_runs(place, site, base)
    tables: dict[str, dict[str, list[int]]] = {"honest": {}, "70b": {}, "bits": {}}
    off: dict[Quantity, list[float]] = {"time": [], "energy": [], "power": []}
    for session in sorted({step.session for step in site}):
        others = [run for step, run in runs if step.session != session]
        made = calibration.calibrate(base, "left out", others, NOTHING)
        mine = [step for step in site if step.session == session]
        tables["honest"] |= scores(place, mine, made)
        small = [step for step in mine if step.model == "llama-3.1-8b" and step.bits == 16_000]
        tables["70b"] |= scores(place, small, made, LARGE, 8_000)
        eighth = [step for step in mine if step.bits == 8_000]
        tables["bits"] |= scores(place, eighth, made, bits=16_000)
        for step, run in runs:
            if step.session == session:
                for name in off:
                    one = reference.fitted(made, name)
                    assert one is not None
                    usual = declared.expected_log(one, run.deployment, run.load)
                    off[name].append(abs(math.expm1(run.logs[name] - usual)))
    for name, errors in off.items():
        yield report.row(f"calibrated {name}, median error", float(np.median(errors)), "share")
        yield report.row(f"calibrated {name}, 90 % error", float(np.quantile(errors, 0.9)), "share")
    yield from caught("measured, calibrated: honest", tables["honest"], honest=True)
    yield from caught("measured, calibrated: 8B as 70B in 8 bits", tables["70b"])
    yield from caught("measured, calibrated: 8-bit weights as 16-bit", tables["bits"])


def repeats(steps: Sequence[Step]) -> _Floats:
    """Return the covariance of log time and log joules a token within repeated configurations."""
    moved, groups = [], 0
    for prefix in REPEATS:
        rows = [(s.time_s, s.joules or 0.0) for s in steps if s.name.startswith(prefix)]
        logs = np.log(np.array(rows))
        moved.append(logs - logs.mean(axis=0))
        groups += 1
    whole = np.concatenate(moved)
    return whole.T @ whole / (len(whole) - groups)


def low_bits(steps: Sequence[Step], spread: _Floats) -> Iterator[report.Row]:
    """Yield how far 8-bit weights are from 16-bit ones at one load, in spreads of repeats."""
    site = [s for s in steps if s.gpu == "H200" and s.experiment == "exp2_concurrency"]
    sigma = np.maximum(np.sqrt(np.diag(spread)), calibration.LEAST_SPREAD)
    offs = []
    for eighth in (s for s in site if s.bits == 8_000):
        for half in (s for s in site if s.bits == 16_000):
            same = half.name.replace("fp16", "") == eighth.name.replace("fp8", "")
            if same and half.gpus == eighth.gpus and half.joules and eighth.joules:
                logs = math.log(eighth.time_s / half.time_s), math.log(eighth.joules / half.joules)
                offs.append(np.abs(np.array(logs)) / sigma)
    label = f"measured, 8-bit against 16-bit weights, {len(offs)} pairs, least deviation"
    yield report.row(f"{label} of time", float(np.min(offs, axis=0)[0]), "spreads of repeats")
    yield report.row(f"{label} of joules", float(np.min(offs, axis=0)[1]), "spreads of repeats")


def mining_rows(spread: _Floats) -> Iterator[report.Row]:
    """Yield what a site whose sessions differ as repeats did catches of interleaved mining."""
    for name, value in zip(("time", "joules"), np.sqrt(np.diag(spread)), strict=True):
        yield report.row(f"measured, spread of repeats, {name} a token", float(value), "share")
    generator = np.random.default_rng(5)
    base = reference.generic(gpus.find("NVIDIA H100"))
    honest = [_simulated(generator, base, spread, str(i), 0.0, 0.0) for i in range(SESSIONS)]
    made = calibration.calibrate(base, "simulated", honest, NOTHING)
    fresh = [_simulated(generator, base, spread, "x", 0.0, 0.0) for _ in range(TRIALS)]
    label = f"simulated, {SESSIONS} sessions calibrated"
    alarms = float(np.mean([_alarms(run, made) for run in fresh]))
    yield report.row(f"{label}: false alarms", alarms, "share", must=0.01, at_most=True)
    yield report.row(f"{label}: highest honest mean", made.mean_micro / MICRO, "score")
    for share in (0.01, 0.02, 0.05):
        for watts in (250, 350, 500):
            runs = (_simulated(generator, base, spread, "x", share, watts) for _ in range(TRIALS))
            yield report.row(
                f"{label}: {share:.0%} mining at {watts} W caught in one run",
                float(np.mean([_alarms(run, made) for run in runs])),
                "share",
                must=0.9 if share == 0.05 else None,
            )


def _simulated(
    generator: np.random.Generator,
    base: Reference,
    spread: _Floats,
    session: str,
    share: float,
    watts: float,
) -> Run:
    """Return a run of 8B on an H100 that differs as repeats do, and mining in it."""
    load = Load(8, 384, 256, 256)
    half = declared.Numerics(weight_milli_bits=16_000)
    deployment = Deployment(models.find("llama-3.1-8b"), half, base.gpu, 1, base.physics)
    slower = -math.log1p(-share)
    more = math.log1p(share / (1 - share) * watts / MEASURED_W)
    time, energy = generator.multivariate_normal([slower, more], spread)
    logs: dict[Quantity, float] = {"time": time, "energy": energy, "power": energy - time}
    return Run(session, 600, deployment, load, logs)


def _alarms(run: Run, made: Reference) -> bool:
    quiet, sure = made.quiet_milli / 1000, made.sure_milli / 1000
    return (calibration.deviation(run, made.fitted) - quiet) / (sure - quiet) * WHOLE >= ALARM_MICRO


if __name__ == "__main__":
    sys.exit(main())
