"""Physics gates: plain thresholds on what was measured, before any model of anything.

Each gate names its numbers, and abstains by name where a channel that it needs is missing. A gate
describes; what follows from it is for the verifier and the policy. Knows nothing of declarations.
"""

import enum
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from lydite.evidence.power.measuring import POWERS
from lydite.evidence.power.reference import MICRO, Gates


class Outcome(enum.Enum):
    """What a gate says."""

    FIRED = 1
    QUIET = 0
    ABSTAINED = -1


class Gate(NamedTuple):
    """One gate's outcome on one stretch of one GPU's telemetry."""

    name: str
    outcome: Outcome
    why: str
    """The numbers, or which channels are missing."""


class Readings(NamedTuple):
    """What the gates look at."""

    means: Mapping[str, float]
    """By channel; a channel that was not measured is not there."""
    tdp_w: int
    counted_j: float | None
    """Joules by the energy counter, where both were measured."""
    integrated_j: float | None
    """Joules by the integral of power over the same time."""


def gates(readings: Readings, at: Gates) -> tuple[Gate, ...]:
    """Return what every gate says of one stretch.

    1. ``hashing``: multiprocessors active (.6 or more), matrix units not (below .02), integer
       units at work (.25 or more): no model of any kind computes so.
    2. ``training-like``: matrix units active more than .25 of the time that multiprocessors are,
       power above .55 of the stated one. A long prefill looks the same.
    3. ``power-without-work``: power above .5 of the stated one with multiprocessors active less
       than .1: a channel is made up, or the work is where they do not see it.
    4. ``energy-unlike-power``: the energy counter and the integral of power differ by more than a
       tenth over the same time.
    5. ``idle``: power below .14 of the stated one; ``loaded-idle``: below .25, with a model loaded
       or the clocks up. Nothing of size is computed.
    """
    return (
        _gate("hashing", readings, ("sm_active", "tensor_active", "integer_active"), at, _hashing),
        _gate("training-like", readings, ("sm_active", "tensor_active", "power"), at, _training),
        _gate("power-without-work", readings, ("sm_active", "power"), at, _tampering),
        _energy(readings, at),
        *_idle(readings, at),
    )


def fired(found: Sequence[Gate]) -> frozenset[str]:
    """Return the names of the gates that fired."""
    return frozenset(gate.name for gate in found if gate.outcome is Outcome.FIRED)


def power_w(means: Mapping[str, float]) -> float | None:
    """Return the mean power by the channel that is nearest to the chip, None if there is none."""
    return next((means[name] for name in POWERS[:2] if name in means), None)


_Test = Callable[[Mapping[str, float], Gates], bool]


def _gate(name: str, readings: Readings, needed: Sequence[str], at: Gates, test: _Test) -> Gate:
    values = dict(readings.means)
    watts = power_w(readings.means)
    if watts is not None:
        values["power"] = watts / readings.tdp_w
    missing = [channel for channel in needed if channel not in values]
    if missing:
        return Gate(name, Outcome.ABSTAINED, f"not measured: {', '.join(missing)}")
    why = ", ".join(f"{channel} {values[channel]:.3f}" for channel in needed)
    return Gate(name, Outcome.FIRED if test(values, at) else Outcome.QUIET, why)


def _hashing(values: Mapping[str, float], at: Gates) -> bool:
    return (
        values["sm_active"] * MICRO >= at.hashing_sm_micro
        and values["tensor_active"] * MICRO < at.hashing_tensor_micro
        and values["integer_active"] * MICRO >= at.hashing_integer_micro
    )


def _training(values: Mapping[str, float], at: Gates) -> bool:
    share = values["tensor_active"] / values["sm_active"] if values["sm_active"] > 0 else 0.0
    return (
        share * MICRO > at.training_tensor_micro
        and values["power"] * MICRO > at.training_power_micro
    )


def _tampering(values: Mapping[str, float], at: Gates) -> bool:
    return (
        values["power"] * MICRO > at.tampering_power_micro
        and values["sm_active"] * MICRO < at.tampering_sm_micro
    )


def _energy(readings: Readings, at: Gates) -> Gate:
    name = "energy-unlike-power"
    counted, integrated = readings.counted_j, readings.integrated_j
    if counted is None or integrated is None:
        return Gate(name, Outcome.ABSTAINED, "not measured: energy_j and power over the same time")
    why = f"{counted:.1f} J by the counter, {integrated:.1f} J by the integral of power"
    off = abs(counted - integrated) * MICRO > at.energy_off_micro * max(integrated, 0.0)
    return Gate(name, Outcome.FIRED if off else Outcome.QUIET, why)


def _idle(readings: Readings, at: Gates) -> tuple[Gate, Gate]:
    watts = power_w(readings.means)
    if watts is None or not math.isfinite(watts):
        why = "not measured: power"
        return (
            Gate("idle", Outcome.ABSTAINED, why),
            Gate("loaded-idle", Outcome.ABSTAINED, why),
        )
    share = MICRO * watts / readings.tdp_w
    why = f"power {share / MICRO:.3f} of the stated one"
    idle = share < at.idle_power_micro
    loaded = not idle and share < at.loaded_power_micro
    return (
        Gate("idle", Outcome.FIRED if idle else Outcome.QUIET, why),
        Gate("loaded-idle", Outcome.FIRED if loaded else Outcome.QUIET, why),
    )
