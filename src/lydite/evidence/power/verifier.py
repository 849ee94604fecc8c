"""Scores one run's telemetry against the work that was declared for it.

Pure arithmetic on traces that a monitor kept. Judges nothing: the score is recorded, and by it the
audit rate may rise. Telemetry alone never accuses anybody.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lydite.errors import FormatError, Reason, UnavailableError, VerificationError
from lydite.evidence.power import declared, gpus, measuring, rules, work
from lydite.evidence.power import reference as expected
from lydite.evidence.power.claims import Claims, session_number
from lydite.evidence.power.declared import Deployment, Needs
from lydite.evidence.power.measuring import Spans
from lydite.evidence.power.reference import (
    HORIZON,
    KIND,
    MICRO,
    QUANTITIES,
    SCORE,
    SESSION,
    Quantity,
    Reference,
)
from lydite.evidence.power.rules import Gate, Readings
from lydite.evidence.power.trace import Trace
from lydite.evidence.power.work import Work
from lydite.messages.finding import Finding, Measure
from lydite.messages.tier import Tier

DAMNING = ("hashing", "power-without-work", "energy-unlike-power")
"""Gates that no honest run of a model passes, whatever it is."""
DAMNING_IN_GAPS = ("training-like",)
"""While no request is open, nothing explains this either; a prefill would have one."""
BOUNDS = ("time-bound", "memory-bound")
_LEAST_COMPARED_S = 20.0
"""Averaging sensors lag by a second: shorter stretches do not compare energy with power."""


class Compared(NamedTuple):
    """Everything that one run was compared on, before it is recorded."""

    logs: dict[Quantity, float]
    """``ln(measured / predicted)`` of each quantity that was measured."""
    deviations: dict[Quantity, float]
    """The same, less what the site's honest runs have on average, in standard deviations."""
    broken: tuple[str, ...]
    """Hard bounds that do not hold."""
    gates: tuple[tuple[str, Gate], ...]
    """Where (``busy`` or ``gaps``, and which GPU) and what."""
    covered: float
    """Share of the run in which energy or power was measured."""
    work: Work


def verify(
    claims: Claims, traces: Sequence[Trace], reference: Reference, horizon_s: int
) -> Finding:
    """Score the first ``horizon_s`` seconds of a run, one trace for each of its GPUs.

    1. The traces are of as many GPUs as declared, of the kind that the reference is for, and cover
       enough of the time.
    2. Hard bounds: no token sooner than the declared weights can be read, unless it is speculated;
       no less memory in use than they take.
    3. Time a token, joules a token, watts, memory traffic, and watts between requests, each
       against what ``declared.needs`` predicts, in standard deviations of honest runs.
    4. Gates (``rules``), while requests are open and in between.
    5. The score, from 0 to 1: the largest deviation, nought up to ``quiet`` standard deviations and
       one from ``sure`` on; one where a bound is broken or a gate fires that nothing explains.

    The tier is always ``NONE``: telemetry accuses nobody, and affirms nothing.

    Raises:
        VerificationError: the run is declared, or was measured, on another kind of GPU than the
            reference is for.
        FormatError: traces of other GPUs than declared, or a horizon that the reference lacks.
        UnavailableError: too little of the run was measured, or it is shorter than the horizon.

    **Does not show** which model ran, only whether telemetry fits the declaration within the stated
    error; work of the same bytes and operations fits as well. Whoever is root on the machine can
    forge every channel: power, energy, clocks, memory, and counters alike. Agreeing channels, token
    counts that a gateway signed and a meter outside raise the price of a lie, and prove nothing.
    Bursts shorter than a sensor's window, and work below the spread of honest runs, stay unseen.
    """
    # 1.
    _check(claims, traces, reference, horizon_s)
    # 2 to 4.
    found = compare(claims, traces, reference, horizon_s)
    # 5.
    return Finding(
        kind=KIND,
        tier=Tier.NONE,
        reason=Reason.RECORDED,
        reference=expected.digest(reference),
        measures=tuple(_measures(claims, found, reference, horizon_s)),
    )


def compare(
    claims: Claims, traces: Sequence[Trace], reference: Reference, horizon_s: int
) -> Compared:
    """Return what ``verify`` scores, for those who calibrate or explain.

    Raises:
        UnavailableError: too little of the run was measured, or it is shorter than the horizon.
    """
    start, end = work.run_ns(claims)
    until = start + horizon_s * measuring.SECOND
    if until > end:
        raise UnavailableError(f"a run of less than {horizon_s} s", Reason.TOO_SHORT)
    whole = np.array([[start, until]], dtype=np.int64)
    covered = min(measuring.joules(trace, whole).covered_s for trace in traces) / horizon_s
    if covered * MICRO < reference.covered_micro:
        raise UnavailableError(f"{covered:.0%} of the run was measured", Reason.UNMEASURED)
    done = work.stretch(claims, start, until)
    deployment = _deployment(claims, reference)
    wanted = declared.needs(deployment, done.load)
    logs = {
        quantity: math.log(value / declared.named(wanted)[quantity])
        for quantity, value in _measured(done, traces, claims.speculative)
    }
    return Compared(
        logs=logs,
        deviations=_deviations(logs, deployment, done, reference),
        broken=tuple(_broken(claims, traces, done, wanted, reference)),
        gates=tuple(_gates(done, traces, reference)),
        covered=covered,
        work=done,
    )


def score(found: Compared, reference: Reference) -> int:
    """Return the score of a run in millionths: step 5 of ``verify``."""
    if found.broken or _damned(found.gates):
        return MICRO
    quiet, sure = reference.quiet_milli / 1000, reference.sure_milli / 1000
    largest = max(_sizes(found), default=0.0)
    return round(MICRO * min(max((largest - quiet) / (sure - quiet), 0.0), 1.0))


def _sizes(found: Compared) -> Iterator[float]:
    """Yield how far off each quantity is; too little power between requests is nothing odd."""
    for quantity, deviation in found.deviations.items():
        yield max(deviation, 0.0) if quantity == "gap" else abs(deviation)


def _damned(gates: Sequence[tuple[str, Gate]]) -> bool:
    return any(
        gate.outcome is rules.Outcome.FIRED
        and (gate.name in DAMNING or (gate.name in DAMNING_IN_GAPS and where.startswith("gaps")))
        for where, gate in gates
    )


def _check(claims: Claims, traces: Sequence[Trace], reference: Reference, horizon_s: int) -> None:
    for name in (claims.gpu, *(trace.device for trace in traces)):
        if not gpus.is_called(reference.gpu, name):
            raise VerificationError(
                Reason.UNKNOWN_REFERENCE, f"{name}, the reference is for {reference.gpu.name}"
            )
    if len(traces) != claims.gpus:
        raise FormatError(f"{len(traces)} traces of {claims.gpus} GPUs")
    if horizon_s not in reference.horizons_s:
        raise FormatError(f"a horizon of {horizon_s} s, not one of {reference.horizons_s}")


def _deployment(claims: Claims, reference: Reference) -> Deployment:
    return Deployment(claims.shape, claims.numerics, reference.gpu, claims.gpus, reference.physics)


def _measured(
    done: Work, traces: Sequence[Trace], speculative: bool
) -> Iterator[tuple[Quantity, float]]:
    """Yield every quantity that was measured and is above nought, so that it has a logarithm."""
    busy = [measuring.joules(trace, done.busy) for trace in traces]
    watts = sum(one.mean for one in busy)
    traffic = [measuring.means(trace, done.busy).get("dram_active") for trace in traces]
    gaps = [measuring.joules(trace, done.gaps) for trace in traces] if len(done.gaps) else []
    found: dict[Quantity, float | None] = {
        "time": None if speculative else done.time_s,
        "energy": watts * measuring.length_s(done.busy) / done.output_tokens,
        "power": watts / len(traces),
        "traffic": None if None in traffic else sum(one or 0.0 for one in traffic) / len(traffic),
        "gap": sum(one.mean for one in gaps) / len(gaps) if gaps else None,
    }
    for quantity, value in found.items():
        if value is not None and math.isfinite(value) and value > 0:
            yield quantity, value


def _deviations(
    logs: dict[Quantity, float], deployment: Deployment, done: Work, reference: Reference
) -> dict[Quantity, float]:
    found: dict[Quantity, float] = {}
    for quantity, log in logs.items():
        one = expected.fitted(reference, quantity)
        if one is not None:
            usual = declared.expected_log(one, deployment, done.load)
            found[quantity] = (log - usual) * MICRO / one.spread_micro
    return found


def _broken(
    claims: Claims, traces: Sequence[Trace], done: Work, wanted: Needs, reference: Reference
) -> Iterator[str]:
    physics = reference.physics
    took = math.inf if claims.speculative or done.time_s is None else done.time_s
    if took < (1.0 - physics.slack_micro / MICRO) * wanted.least_time_s:
        yield "time-bound"
    used = [measuring.means(trace, done.busy).get("memory_used_b") for trace in traces]
    least_b = (1.0 - physics.memory_slack_micro / MICRO) * wanted.least_memory_b
    if any(one is not None and one < least_b for one in used):
        yield "memory-bound"


def _gates(done: Work, traces: Sequence[Trace], reference: Reference) -> Iterator[tuple[str, Gate]]:
    for number, trace in enumerate(traces):
        for where, spans in (("busy", done.busy), ("gaps", done.gaps)):
            if len(spans):
                readings = _readings(trace, spans, reference.gpu.tdp_w)
                for gate in rules.gates(readings, reference.gates):
                    yield f"{where} {number}", gate


def _readings(trace: Trace, spans: Spans, tdp_w: int) -> Readings:
    counter = trace.series.get("energy_j")
    counted = (
        measuring.Measured(0.0, 0.0) if counter is None else measuring.integral(counter, spans)
    )
    integrated = measuring.by_power(trace, spans)
    least = max(_LEAST_COMPARED_S, 0.9 * measuring.length_s(spans))
    both = min(counted.covered_s, integrated.covered_s) >= least
    return Readings(
        means=measuring.means(trace, spans),
        tdp_w=tdp_w,
        counted_j=counted.total if both else None,
        integrated_j=integrated.total if both else None,
    )


def _measures(
    claims: Claims, found: Compared, reference: Reference, horizon_s: int
) -> Iterator[Measure]:
    """Yield the rows of a finding; a row without values names what was not observed."""
    yield Measure(name=SCORE, unit="millionth", values=(score(found, reference),))
    yield Measure(name=SESSION, unit="number", values=(session_number(claims),))
    yield Measure(name=HORIZON, unit="second", values=(horizon_s,))
    yield Measure(name="covered", unit="millionth", values=(round(MICRO * found.covered),))
    for quantity in QUANTITIES:
        yield _row(f"log/{quantity}", "micro-neper", found.logs.get(quantity), MICRO)
        yield _row(f"deviation/{quantity}", "milli-sigma", found.deviations.get(quantity), 1000)
    for bound in BOUNDS:
        yield Measure(name=f"broken/{bound}", unit="flag", values=(int(bound in found.broken),))
    for where, gate in found.gates:
        silent = gate.outcome is rules.Outcome.ABSTAINED
        values = () if silent else (gate.outcome.value,)
        yield Measure(name=f"gate/{gate.name}/{where}", unit="flag", values=values)


def _row(name: str, unit: str, value: float | None, scale: int) -> Measure:
    bound = 10**12
    values = () if value is None else (round(max(min(value * scale, bound), -bound)),)
    return Measure(name=name, unit=unit, values=values)
