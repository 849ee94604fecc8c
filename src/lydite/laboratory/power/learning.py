"""Learning what `evidence.power` runs: forests and recognisers out of labelled windows.

The only door from scikit-learn to plain arrays. Knows nothing of where windows come from: who
ships what it returns sees to it that every window may be redistributed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

from lydite.evidence.power import openset
from lydite.evidence.power.classify import Recogniser
from lydite.evidence.power.forest import LEAF, Forest
from lydite.evidence.power.openset import Support
from lydite.evidence.power.trace import Values
from lydite.laboratory.power.splits import Names

LIKE, WIDER = 0.99, 2.0
"""The radius is so many times this quantile of the distances to windows of other sessions."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a forest is grown."""

    trees: int = 200
    leaf: int = 1
    seed: int = 0
    least_share: float = 0.0


def grow(rows: Values, label: Names, settings: Settings | None = None) -> tuple[Forest, list[str]]:
    """Return a forest of classes and the names of its columns of leaves."""
    settings = settings or Settings()
    model = ExtraTreesClassifier(
        settings.trees,
        random_state=settings.seed,
        min_samples_leaf=settings.leaf,
        class_weight="balanced",
        n_jobs=1,
    ).fit(rows.astype(np.float32), label)
    return plain(model, rows.shape[1]), [str(name) for name in model.classes_]


def grow_numbers(rows: Values, numbers: Values, settings: Settings | None = None) -> Forest:
    """Return a forest of one quantity."""
    settings = settings or Settings()
    model = ExtraTreesRegressor(
        settings.trees, random_state=settings.seed, min_samples_leaf=settings.leaf, n_jobs=1
    ).fit(rows.astype(np.float32), numbers)
    return plain(model, rows.shape[1])


def plain(model: Any, width: int) -> Forest:
    """Return the trees of a fitted ensemble of scikit-learn as plain arrays."""
    trees = [one.tree_ for one in model.estimators_]
    bases = np.cumsum([0, *(tree.node_count for tree in trees)])
    shifted: dict[str, list[NDArray[Any]]] = {"left": [], "right": []}
    for base, tree in zip(bases, trees, strict=False):
        inner = tree.children_left != -1
        shifted["left"].append(np.where(inner, tree.children_left + base, 0))
        shifted["right"].append(np.where(inner, tree.children_right + base, 0))
    inner = np.concatenate([tree.children_left != -1 for tree in trees])
    held = np.concatenate([tree.value[:, 0, :] for tree in trees])
    if hasattr(model, "classes_"):
        held = held / held.sum(axis=1, keepdims=True)
    return Forest(
        roots=bases[:-1].astype(np.int32),
        feature=np.where(inner, np.concatenate([t.feature for t in trees]), LEAF).astype(np.int32),
        threshold=np.where(inner, _below([t.threshold for t in trees]), 0.0).astype(np.float32),
        left=np.concatenate(shifted["left"]).astype(np.int32),
        right=np.concatenate(shifted["right"]).astype(np.int32),
        leaves=held.astype(np.float32),
        columns=width,
    )


def _below(thresholds: Sequence[Values]) -> NDArray[np.float32]:
    """Return thresholds rounded down to 32 bits, so that 32-bit columns fall as they did."""
    joined = np.concatenate(thresholds)
    rounded = joined.astype(np.float32)
    lower = np.nextafter(rounded, np.float32(-np.inf))
    return np.where(rounded.astype(np.float64) > joined, lower, rounded).astype(np.float32)


def recognise(
    rows: Values,
    label: Names,
    session: Names,
    picked: Sequence[int],
    settings: Settings | None = None,
) -> Recogniser:
    """Return a recogniser: a forest, and which windows are like those that it was learnt from."""
    settings = settings or Settings()
    forest, classes = grow(rows, label, settings)
    columns = np.asarray(picked, np.int64)
    return Recogniser(
        tuple(classes), forest, support(rows[:, columns], session), columns, settings.least_share
    )


def support(rows: Values, session: Names) -> Support:
    """Return the known windows, and how far those of one session lie from those of the others."""
    mean, scale = openset.standard(rows)
    known = (rows - mean) / scale
    apart = np.concatenate(
        [
            openset.nearest(known[session == name], known[session != name])
            for name in np.unique(session)
        ]
        if len(np.unique(session)) > 1
        else [openset.nearest(known, known)]
    )
    return Support(mean, scale, known, max(WIDER * float(np.quantile(apart, LIKE)), 1e-6))
