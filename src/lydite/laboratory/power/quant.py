"""QUANT: quantiles of dyadic intervals of a window and of what is derived from it.

Dempster, Schmidt and Webb 2024: depth 6, every fourth order statistic, of the window, its first
and second differences and its spectrum. Ours, from the description. Knows nothing of classes.
"""

from itertools import pairwise

import numpy as np

from lydite.evidence.power.trace import Values

DEPTH = 6
EACH = 4


def quant(windows: Values) -> Values:
    """Return the quantiles of every interval, a row a window."""
    steps = np.pad(np.diff(windows, axis=1), ((0, 0), (2, 2)), mode="edge")
    means = np.mean([steps[:, at : at + windows.shape[1] - 1] for at in range(5)], axis=0)
    views = [windows, means, np.diff(windows, n=2, axis=1), np.abs(np.fft.rfft(windows, axis=1))]
    return np.concatenate([_of_view(view) for view in views], axis=1)


def _of_view(view: Values) -> Values:
    size = view.shape[1]
    found = []
    for depth in range(min(DEPTH, int(np.log2(size)))):
        edges = np.linspace(0, size, 2**depth + 1).astype(int)
        spans = list(pairwise(edges))
        if depth:
            step = (edges[1] - edges[0]) // 2
            spans += [(first + step, last + step) for first, last in spans[:-1]]
        found += [_of_span(view[:, first:last]) for first, last in spans]
    return np.concatenate(found, axis=1)


def _of_span(span: Values) -> Values:
    """Return every fourth order statistic, every other one with the span's mean taken off."""
    size = span.shape[1]
    count = 1 + (size - 1) // EACH
    made = np.quantile(span, np.linspace(0, 1, count) if count > 1 else [0.5], axis=1).T
    made[:, 1::2] -= span.mean(axis=1, keepdims=True)
    return np.asarray(made)
