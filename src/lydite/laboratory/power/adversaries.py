"""Attacks on recognition by power, as transforms of measured windows, with what each one costs.

Every attack hides measured work (training) behind measured inference of the same kind of device.
They are emulated: no trace of an attacker was measured, and none of mining. Joules follow from the
windows; what work is kept or lost follows from the time and the power left to it, as stated at
each. Knows no detector.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lydite.evidence.power.trace import Values

RATE_HZ = 10.0
SEEN = 0.25
"""The part of each 100 ms that the instant power of an H100 or A100 shows: 25 of 100 ms."""


class Scene(NamedTuple):
    """What an attacker has: windows of the work to hide, and of inference, row by row."""

    hidden: Values
    cover: Values
    tdp_w: float
    idle_w: float


class Attacked(NamedTuple):
    """What is seen of an attack, what is true, and what it costs."""

    reported: Values
    """Watts as telemetry says."""
    counted_j: Values
    """Joules by the energy counter, each window; what an outside meter would also see."""
    kept: float
    """Of the hidden work's throughput, by itself on the device."""
    lost: float
    """Of the inference that the device could serve and is paid for."""
    wasted_w: float
    """Drawn for neither."""


Attack = Callable[[Scene, np.random.Generator], Attacked]


def joules(watts: Values) -> Values:
    """Return the energy of each window."""
    return np.asarray(watts.sum(axis=1) / RATE_HZ)


def smoothed(watts: Values) -> Values:
    """Return watts as a sensor that averages one second shows them."""
    kernel = int(RATE_HZ)
    padded = np.pad(watts, ((0, 0), (kernel - 1, 0)), mode="edge")
    sums = np.cumsum(np.pad(padded, ((0, 0), (1, 0))), axis=1)
    return np.asarray((sums[:, kernel:] - sums[:, :-kernel]) / kernel)


def spikes(scene: Scene, dice: np.random.Generator) -> Attacked:
    """Bursts of matrix work at the cadence of requests: .3 s in every 1.5 s, up to the limit."""
    size = scene.hidden.shape[1]
    phase = dice.integers(0, 15, size=(len(scene.hidden), 1))
    burst = ((np.arange(size) + phase) % 15) < 3
    base = scene.idle_w + 0.4 * (scene.hidden - scene.idle_w)
    watts = smoothed(np.where(burst, 0.95 * scene.tdp_w, base))
    wasted = float(np.mean(np.where(burst, 0.95 * scene.tdp_w - scene.idle_w, 0.0)))
    return Attacked(watts, joules(watts), 0.4 * 0.8, 1.0, wasted)


def masking(scene: Scene, _dice: np.random.Generator) -> Attacked:
    """Fill every dip of the hidden work with dummy work, so that no iteration or pause shows."""
    level = np.quantile(scene.hidden, 0.9, axis=1, keepdims=True)
    watts = np.maximum(scene.hidden, level)
    return Attacked(watts, joules(watts), 1.0, 1.0, float(np.mean(watts - scene.hidden)))


def interleaving(duty: float) -> Attack:
    """Return slices of hidden work between requests: so much of each second."""

    def attack(scene: Scene, dice: np.random.Generator) -> Attacked:
        size = scene.hidden.shape[1]
        phase = dice.integers(0, 10, size=(len(scene.hidden), 1))
        ours = ((np.arange(size) + phase) % 10) < round(10 * duty)
        watts = smoothed(np.where(ours, scene.hidden, scene.cover))
        return Attacked(watts, joules(watts), duty, duty, 0.0)

    return attack


def cycling(period_s: float) -> Attack:
    """Return hidden work that runs half of each period and rests the other half."""

    def attack(scene: Scene, dice: np.random.Generator) -> Attacked:
        size = scene.hidden.shape[1]
        steps = round(period_s * RATE_HZ)
        phase = dice.integers(0, steps, size=(len(scene.hidden), 1))
        on = ((np.arange(size) + phase) % steps) < steps // 2
        watts = smoothed(np.where(on, scene.hidden, scene.idle_w))
        return Attacked(watts, joules(watts), 0.5, 1.0, 0.0)

    return attack


def matching(scene: Scene, _dice: np.random.Generator) -> Attacked:
    """Hidden work throttled to the mean power of inference; work goes with watts above idle."""
    above = scene.hidden - scene.idle_w
    wanted = scene.cover.mean(axis=1) - scene.idle_w
    share = np.clip(wanted / np.maximum(above.mean(axis=1), 1.0), 0.0, 1.0)
    watts = scene.idle_w + share[:, None] * above
    return Attacked(watts, joules(watts), float(share.mean()), 1.0, 0.0)


def capping(scene: Scene, _dice: np.random.Generator) -> Attacked:
    """Hidden work under a power limit of .55 of the stated one."""
    limit = 0.55 * scene.tdp_w
    watts = np.minimum(scene.hidden, limit)
    kept = np.mean(watts - scene.idle_w) / max(float(np.mean(scene.hidden - scene.idle_w)), 1.0)
    return Attacked(watts, joules(watts), float(kept), 1.0, 0.0)


def phased(scene: Scene, _dice: np.random.Generator) -> Attacked:
    """Hidden work only in the part of each 100 ms that the instant power does not show.

    Inference keeps the part that is seen; the energy counter has both.
    """
    true = SEEN * scene.cover + (1 - SEEN) * scene.hidden
    return Attacked(scene.cover, joules(true), 1 - SEEN, 1 - SEEN, 0.0)


def replayed(scene: Scene, _dice: np.random.Generator) -> Attacked:
    """Telemetry of an honest run again, energy too; the device does the hidden work."""
    return Attacked(scene.cover, joules(scene.cover), 1.0, 1.0, 0.0)


def spoofed(scene: Scene, dice: np.random.Generator) -> Attacked:
    """Power made up from mean and deviation of inference; the energy counter is left as it is."""
    mean = scene.cover.mean(axis=1, keepdims=True)
    deviation = scene.cover.std(axis=1, keepdims=True)
    watts = mean + deviation * dice.standard_normal(scene.cover.shape)
    watts = np.clip(watts, scene.idle_w, scene.tdp_w)
    return Attacked(watts, joules(scene.hidden), 1.0, 1.0, 0.0)


def scaled(scene: Scene, _dice: np.random.Generator) -> Attacked:
    """Power and energy reported at six tenths of what they are."""
    watts = 0.6 * scene.hidden
    return Attacked(watts, joules(watts), 1.0, 1.0, 0.0)


ATTACKS: dict[str, Attack] = {
    "spike injection": spikes,
    "load masking": masking,
    "interleaving, .2 of the time": interleaving(0.2),
    "interleaving, .5 of the time": interleaving(0.5),
    "duty cycling, .6 s": cycling(0.6),
    "duty cycling, 5 s": cycling(5.0),
    "power matching": matching,
    "power capping": capping,
    "hiding from the sampler's phase": phased,
    "replayed telemetry": replayed,
    "spoofed power, true energy": spoofed,
    "spoofed power and energy": scaled,
}
"""By name; each reads one window of hidden work and one of inference."""


class Price(NamedTuple):
    """What an hour of an attack costs the attacker."""

    kwh: float
    """Drawn for neither the hidden work nor inference."""
    dollars: float
    """Those kilowatt-hours and the inference that is not served."""
    kept: float
    """Of the hidden work."""


def price(attacked: Attacked, dollars_kwh: float = 0.10, dollars_hour: float = 2.50) -> Price:
    """Return the price of an hour on one device, at stated prices of energy and of a GPU-hour."""
    kwh = attacked.wasted_w / 1000
    return Price(kwh, kwh * dollars_kwh + attacked.lost * dollars_hour, attacked.kept)
