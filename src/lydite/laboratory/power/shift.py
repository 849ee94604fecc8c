"""What another site and another sensor would make of the same work: transforms of windows.

For tests of robustness, and for training that is flagged as synthetic: never a test set, never the
only support of a class. Knows nothing of classes.
"""

from collections.abc import Callable

import numpy as np

from lydite.evidence.power.trace import Values

RATE_HZ = 10.0

Shift = Callable[[Values, np.random.Generator], Values]


def gained(gain: float, offset_w: float) -> Shift:
    """Return the same work on a sensor with another gain and offset, or at another idle level."""
    return lambda watts, _dice: np.maximum(gain * watts + offset_w, 0.0)


def averaged(seconds: float) -> Shift:
    """Return what a sensor shows that averages so long."""

    def shift(watts: Values, _dice: np.random.Generator) -> Values:
        kernel = max(round(seconds * RATE_HZ), 1)
        padded = np.pad(watts, ((0, 0), (kernel, 0)), mode="edge")
        sums = np.cumsum(padded, axis=1)
        return np.asarray((sums[:, kernel:] - sums[:, :-kernel]) / kernel)

    return shift


def polled(every_s: float) -> Shift:
    """Return what is held when the sensor is asked so seldom, at a random phase."""

    def shift(watts: Values, dice: np.random.Generator) -> Values:
        step = max(round(every_s * RATE_HZ), 1)
        places = np.arange(watts.shape[1])
        phase = dice.integers(0, step, size=(len(watts), 1))
        held = np.maximum((places + phase) // step * step - phase, 0)
        return np.asarray(np.take_along_axis(watts, held, axis=1))

    return shift


def dropped(share: float) -> Shift:
    """Return windows in which so many samples are lost and the last one is held."""

    def shift(watts: Values, dice: np.random.Generator) -> Values:
        kept = dice.random(watts.shape) >= share
        kept[:, 0] = True
        last = np.maximum.accumulate(np.where(kept, np.arange(watts.shape[1]), 0), axis=1)
        return np.asarray(np.take_along_axis(watts, last, axis=1))

    return shift


def stepped(watts_each: float) -> Shift:
    """Return windows in steps of so many watts."""
    return lambda watts, _dice: np.rint(watts / watts_each) * watts_each


SHIFTS: dict[str, Shift] = {
    "as measured": gained(1.0, 0.0),
    "gain +5 %": gained(1.05, 0.0),
    "gain -5 %": gained(0.95, 0.0),
    "15 W more at any load": gained(1.0, 15.0),
    "15 W less at any load": gained(1.0, -15.0),
    "averaged over 1 s more": averaged(1.0),
    "polled at 1 Hz": polled(1.0),
    "polled each 2 s": polled(2.0),
    "one sample in five lost": dropped(0.2),
    "steps of 5 W": stepped(5.0),
}
"""By name: what a site may do to what was measured (``gained``), and a sampler (the others)."""
