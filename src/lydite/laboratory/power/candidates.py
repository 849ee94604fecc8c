"""What could recognise work in a window of power: candidates that are compared on the same splits.

Each candidate learns from windows with labels and then gives shares of classes. Those of the
source design and the strongest baselines for time series stand beside the gates, which learn
nothing. Knows nothing of splits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lydite.evidence.power.classify import IDLE, INFERENCE, REGIONS, TRAINING
from lydite.evidence.power.forest import shares
from lydite.evidence.power.rocket import Rocket
from lydite.evidence.power.trace import Values
from lydite.laboratory.power.hydra import Hydra
from lydite.laboratory.power.quant import quant
from lydite.laboratory.power.splits import Names
from lydite.laboratory.power.traces import Windows


class Candidate(Protocol):
    """Learns once, then gives shares."""

    classes: list[str]

    def learn(self, windows: Windows) -> None:
        """Learn from labelled windows."""

    def shares(self, windows: Windows) -> Values:
        """Return a row of shares of ``classes`` a window."""


Features = Callable[[Windows], Values]


class Over:
    """A classifier of scikit-learn over features that may be learnt themselves."""

    def __init__(self, prepare: Callable[[Windows], Features], model: Any) -> None:
        self._prepare, self._model = prepare, model
        self.classes: list[str] = []

    def learn(self, windows: Windows) -> None:
        """Learn features, then the classifier."""
        self._features = self._prepare(windows)
        self._model.fit(self._features(windows), windows.label)
        self.classes = [str(one) for one in self._model.classes_]

    def shares(self, windows: Windows) -> Values:
        """Return probabilities, or the softmax of a margin."""
        rows = self._features(windows)
        if hasattr(self._model, "predict_proba"):
            return np.asarray(self._model.predict_proba(rows))
        margin = np.asarray(self._model.decision_function(rows))
        if margin.ndim == 1:
            margin = np.column_stack([-margin, margin])
        return shares(4 * margin)


class Gates:
    """Physics alone: learns nothing. What waits counts as idle, heavy work as training."""

    def __init__(self) -> None:
        self.classes = [IDLE, INFERENCE, TRAINING]

    def learn(self, windows: Windows) -> None:
        """Learn nothing."""

    def shares(self, windows: Windows) -> Values:
        """Return one for the class that the region of the 95th percentile has."""
        top = np.quantile(windows.watts, 0.95, axis=1) / windows.tdp_w
        place = np.digitize(top, [REGIONS[2], REGIONS[3]])
        return np.asarray(np.eye(3)[place])


def told(candidate: Candidate, windows: Windows) -> Names:
    """Return the class with the greatest share."""
    best = np.argmax(candidate.shares(windows), axis=1)
    return np.asarray(np.array(candidate.classes)[best])


def stated(windows: Windows) -> Values:
    """Return the windows as shares of the stated power."""
    return np.asarray(windows.watts / windows.tdp_w[:, None])


def _plain(_windows: Windows) -> Features:
    return lambda windows: windows.rows


def _floor(_windows: Windows) -> Features:
    """Return statistics without the regions of power that the device's maker states."""
    extra = len(REGIONS) + 2
    return lambda windows: windows.rows[:, :-extra]


def _rocket(features: int, seed: int, levels: bool) -> Callable[[Windows], Features]:
    def prepare(windows: Windows) -> Features:
        kernels = Rocket.learn(stated(windows), features, seed)

        def compute(asked: Windows) -> Values:
            made = kernels.transform(stated(asked))
            return np.column_stack([made, asked.rows]) if levels else made

        return compute

    return prepare


def _hydra(seed: int, size: int) -> Callable[[Windows], Features]:
    kernels = Hydra.draw(seed, size)
    return lambda _windows: (
        lambda asked: np.column_stack([kernels.transform(stated(asked)), asked.rows])
    )


def _trees(seed: int) -> Any:
    return ExtraTreesClassifier(200, random_state=seed, class_weight="balanced", n_jobs=1)


def _ridge() -> Any:
    return make_pipeline(
        StandardScaler(), RidgeClassifierCV(np.logspace(-1, 4, 6), class_weight="balanced")
    )


@dataclass(frozen=True)
class Named:
    """A candidate that can be made anew for each fold."""

    name: str
    make: Callable[[int, int], Candidate]
    """By seed and places of a window."""


def several(deep: bool = True) -> list[Named]:
    """Return every candidate; the neural ones only if they are asked for."""
    found = [
        Named("gates alone", lambda _seed, _size: Gates()),
        Named("statistics + ExtraTrees", lambda seed, _size: Over(_floor, _trees(seed))),
        Named("statistics, regions + ExtraTrees", lambda seed, _size: Over(_plain, _trees(seed))),
        Named("statistics, regions + HistGB", lambda seed, _size: Over(_plain, _boosted(seed))),
        Named("MiniRocket 10k", lambda seed, _size: Over(_rocket(9996, seed, False), _ridge())),
        Named("MiniRocket 2k + all", lambda seed, _size: Over(_rocket(2016, seed, True), _ridge())),
        Named("QUANT", lambda seed, _size: Over(_quant, _trees(seed))),
        Named("Hydra + all", lambda seed, size: Over(_hydra(seed, size), _ridge())),
    ]
    if deep:
        from lydite.laboratory.power.deep import Ensemble

        found.append(Named("CNN + GRU ensemble", lambda seed, _size: Ensemble(seed)))
    return found


def _quant(_windows: Windows) -> Features:
    return lambda windows: quant(stated(windows))


def _boosted(seed: int) -> Any:
    return HistGradientBoostingClassifier(
        max_iter=60, random_state=seed, class_weight="balanced", max_leaf_nodes=15
    )
