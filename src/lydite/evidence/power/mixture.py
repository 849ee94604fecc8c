"""One supply, several loads: which part of a trace is whose, from what each load draws alone.

Non-negative least squares over known parts, for devices that share a supply and for work that
shares a device. Knows nothing of what the parts are called. What is not in the parts cannot be
found; how much of the trace they leave unexplained is part of the answer.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lydite.errors import FormatError
from lydite.evidence.power.trace import Values

_STEPS = 100


class Share(NamedTuple):
    """What of a trace each part explains."""

    amounts: Values
    """How much of each part: at least 0."""
    unexplained: float
    """Root mean square of what is left, over that of the trace's deviation; 1 explains nothing."""


def least_squares(parts: Values, target: Values) -> Values:
    """Return ``x >= 0`` that minimises ``|parts x - target|`` (Lawson and Hanson 1974).

    Raises:
        FormatError: shapes do not fit, or there are fewer places than parts.
    """
    if parts.ndim != 2 or target.shape != parts.shape[:1] or parts.shape[0] < parts.shape[1]:
        raise FormatError(f"parts of {parts.shape} for a trace of {target.shape}")
    count = parts.shape[1]
    gram, aim = parts.T @ parts, parts.T @ target
    found, free = np.zeros(count), np.zeros(count, bool)
    slack = 1e-9 * max(float(np.abs(aim).max(initial=0.0)), 1e-30)
    for _ in range(_STEPS * count):
        gain = np.where(free, -np.inf, aim - gram @ found)
        if free.all() or gain.max() <= slack:
            return found
        free[int(np.argmax(gain))] = True
        found = _inside(gram, aim, found, free)
    raise FormatError("parts that are too alike to be told apart")


def _inside(gram: Values, aim: Values, found: Values, free: NDArray[np.bool_]) -> Values:
    """Return the best point of the free parts, walking back to the border while it is outside."""
    while True:
        trial = np.zeros(len(aim))
        index = np.flatnonzero(free)
        trial[index] = np.linalg.lstsq(gram[np.ix_(index, index)], aim[index], rcond=None)[0]
        outside = free & (trial <= 0)
        if not outside.any():
            return trial
        ways = found[outside] / np.maximum(found[outside] - trial[outside], 1e-30)
        found = found + float(ways.min()) * (trial - found)
        free &= found > 1e-12
        found = np.where(free, found, 0.0)


def unmix(parts: Values, total: Values, base: float | None = None) -> Share:
    """Return how much of each part is in ``total``; ``parts`` are columns on its grid.

    With a known ``base`` (the supply's own draw) it is taken off first; without, it is fitted.
    """
    rest = total - base if base is not None else total
    known = parts if base is not None else np.column_stack([parts, np.ones(len(total))])
    amounts = least_squares(known, rest)
    left = rest - known @ amounts
    moved = float(np.sqrt(np.mean((total - total.mean()) ** 2)))
    unexplained = float(np.sqrt(np.mean(left * left))) / moved if moved > 0 else 0.0
    return Share(amounts[: parts.shape[1]], unexplained)


class Split(NamedTuple):
    """How many devices of a shared supply do what, in one stretch."""

    counts: tuple[int, ...]
    """By state, in the order given."""
    off_w: float
    """Root mean square of what the best split leaves, in watts."""


def split(states: Values, devices: int, total: Values) -> Split:
    """Return the numbers of devices in each state whose power adds up nearest to ``total``.

    A row of ``states`` is the watts of one device in it, at the same places as ``total``: one
    place for levels alone. Every way to share out the devices is tried, so keep both small. States
    that are sums of others cannot be told apart: of equal splits the one with fewer is given.

    Raises:
        FormatError: no state, no device, or shapes that do not fit.
    """
    if not len(states) or devices < 1 or states.shape[1:] != total.shape:
        raise FormatError(f"{devices} devices in states of {states.shape}, total of {total.shape}")
    ways = np.array(_compositions(devices, len(states)))
    left = total @ total - 2 * ways @ (states @ total)
    left = left + np.einsum("wi,ij,wj->w", ways, states @ states.T, ways)
    used = np.count_nonzero(ways, axis=1)
    best = min(range(len(ways)), key=lambda way: (round(float(left[way]), 6), int(used[way])))
    off = float(np.sqrt(max(float(left[best]), 0.0) / len(total)))
    return Split(tuple(int(one) for one in ways[best]), off)


def _compositions(whole: int, parts: int) -> list[tuple[int, ...]]:
    if parts < 1 or whole < 1:
        return []
    if parts == 1:
        return [(whole,)]
    return [
        (first, *rest)
        for first in range(whole + 1)
        for rest in (
            _compositions(whole - first, parts - 1) if first < whole else [(0,) * (parts - 1)]
        )
    ]
