"""Hydra: groups of random kernels that compete for every place of a window.

Dempster, Schmidt and Webb 2023: in each group and at each dilation the kernel with the greatest
and the one with the least output counts the place. Ours, from the description, smaller. Knows
nothing of classes.
"""

from dataclasses import dataclass

import numpy as np

from lydite.evidence.power.trace import Values

GROUPS, KERNELS, TAPS = 16, 8, 9


@dataclass(frozen=True, eq=False)
class Hydra:
    """Random kernels at dilations of powers of two."""

    dilations: tuple[int, ...]
    weights: Values
    """By dilation, of the window or its difference, group, kernel and tap."""

    @classmethod
    def draw(cls, seed: int, size: int) -> "Hydra":
        """Return kernels for windows of ``size`` places."""
        top = max(int(np.log2(max((size - 1) / (TAPS - 1), 1))), 0)
        dilations = tuple(2**power for power in range(top + 1))
        random = np.random.default_rng(seed)
        weights = random.normal(size=(len(dilations), 2, GROUPS * KERNELS, TAPS))
        weights -= weights.mean(axis=-1, keepdims=True)
        weights /= np.abs(weights).sum(axis=-1, keepdims=True)
        return cls(dilations, weights)

    def transform(self, windows: Values) -> Values:
        """Return the square roots of the counts, a row a window."""
        views = (windows, np.diff(windows, axis=1))
        found = []
        for place, dilation in enumerate(self.dilations):
            for view, kernels in zip(views, self.weights[place], strict=True):
                found.append(_counts(view, kernels, dilation))
        return np.sqrt(np.concatenate(found, axis=1))


def _counts(view: Values, kernels: Values, dilation: int) -> Values:
    size = view.shape[1]
    margin = dilation * (TAPS // 2)
    padded = np.pad(view, ((0, 0), (margin, margin)))
    taps = np.stack([padded[:, t * dilation : t * dilation + size] for t in range(TAPS)], axis=-1)
    made = (taps @ kernels.T).reshape(len(view), size, GROUPS, KERNELS)
    counts = []
    for winner, height in (
        (made.argmax(axis=-1), made.max(axis=-1)),
        (made.argmin(axis=-1), np.ones(made.shape[:-1])),
    ):
        held = [(height * (winner == kernel)).sum(axis=1) for kernel in range(KERNELS)]
        counts += [np.maximum(one, 0.0) for one in held]
    return np.concatenate(counts, axis=1)
