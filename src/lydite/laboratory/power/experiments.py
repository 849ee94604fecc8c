"""The experiments on recognition, each by session: candidates, shift of source, device, family.

Every function returns numbers and nothing is tuned inside. What is learnt here from traces that
may not be redistributed is thrown away: it serves evaluation alone. Knows no file.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lydite.evidence.power.classify import (
    TRAINING,
    Answer,
    Recogniser,
    answers,
    column_names,
)
from lydite.evidence.power.features.table import Table
from lydite.evidence.power.trace import Values
from lydite.laboratory.power import learning, splits
from lydite.laboratory.power.candidates import Named
from lydite.laboratory.power.splits import Fold, Interval, Mask, Names
from lydite.laboratory.power.traces import CHANNEL, PLAN, Windows

LEAST_SHARE = 0.7
NEAR = ("mean", "std", "min", "q05", "q50", "q95", "max", "roughness", "held", "autocorrelation_1s",
        "spectral_entropy", "lean", "leap", "deviation_over_mean")  # fmt: skip
"""Columns that distances are measured in, with the shares of the regions."""


class Asked(NamedTuple):
    """What a fold's test windows were told."""

    places: Mask
    told: Names
    """Empty where nothing is answered."""
    confidence: Values
    forced: Names
    """The class with most votes, answered or not."""
    training: Values
    """The share of votes for training."""


class Scores(NamedTuple):
    """One candidate under one split."""

    name: str
    accuracy: list[float]
    """One a seed."""
    balanced: list[float]
    active: list[float]
    """Balanced, without idle windows."""
    interval: Interval
    """Of balanced, over sessions, for the first seed."""


def picked(names: Sequence[str]) -> list[int]:
    """Return the columns that distances are measured in."""
    return [
        place
        for place, name in enumerate(names)
        if name.rpartition(".")[2] in NEAR or name.startswith("share_in_region")
    ]


def compare(windows: Windows, candidate: Named, seeds: Sequence[int]) -> Scores:
    """Return how a candidate fares by session, at full coverage."""
    truth, size = windows.label, windows.watts.shape[1]
    active = truth != "idle"
    found: list[tuple[float, float, float]] = []
    first: Names | None = None
    for seed in seeds:
        told = np.empty(len(truth), truth.dtype)
        for fold in splits.by_session(truth, windows.session, seed):
            told[fold.test] = tell(windows, candidate, fold, seed, size)
        first = told if first is None else first
        found.append(
            (
                splits.accuracy(truth, told),
                splits.balanced(truth, told),
                splits.balanced(truth[active], told[active]),
            )
        )
    assert first is not None
    return Scores(
        candidate.name,
        [one[0] for one in found],
        [one[1] for one in found],
        [one[2] for one in found],
        over_sessions(windows, first),
    )


def tell(windows: Windows, candidate: Named, fold: Fold, seed: int, size: int) -> Names:
    """Return what a candidate says of the windows of a fold."""
    made = candidate.make(seed, size)
    made.learn(windows.where(fold.train))
    best = np.argmax(made.shares(windows.where(fold.test)), axis=1)
    return np.asarray(np.array(made.classes)[best])


def over_sessions(windows: Windows, told: Names) -> Interval:
    """Return balanced accuracy with its interval over drawn sessions."""
    truth = windows.label

    def measure(index: NDArray[np.int64]) -> float:
        return splits.balanced(truth[index], told[index])

    return splits.bootstrap(measure, windows.session, strata=truth)


def learn(
    windows: Windows, seed: int = 0, table: Table | None = None, trees: int = 200
) -> Recogniser:
    """Return the recogniser of the pipeline: regions, forest, distances."""
    names = column_names(table or Table(PLAN, (CHANNEL,)))
    settings = learning.Settings(seed=seed, least_share=LEAST_SHARE, trees=trees)
    return learning.recognise(windows.rows, windows.label, windows.session, picked(names), settings)


def ask(recogniser: Recogniser, windows: Windows) -> list[Answer]:
    """Return the pipeline's answers."""
    found: list[Answer] = [Answer((), "", {}, None)] * len(windows)
    for tdp_w in np.unique(windows.tdp_w):
        places = np.flatnonzero(windows.tdp_w == tdp_w)
        some = windows.where(places)
        made = answers(recogniser, float(tdp_w), some.watts, some.rows)
        for place, answer in zip(places, made, strict=True):
            found[place] = answer
    return found


def pipeline(windows: Windows, fold: Fold, seed: int = 0, table: Table | None = None) -> Asked:
    """Return what the whole pipeline says of the windows of a fold."""
    made = ask(learn(windows.where(fold.train), seed, table), windows.where(fold.test))
    told = np.array([one.classes[0] if len(one.classes) == 1 else "" for one in made])
    best = [max(one.shares, key=lambda name: one.shares[name]) for one in made]
    sure = np.array([max(one.shares.values()) for one in made])
    training = np.array([one.shares.get(TRAINING, 0.0) for one in made])
    return Asked(fold.test, told, sure, np.array(best), training)


def by_session(windows: Windows, seed: int, table: Table | None = None) -> Asked:
    """Return what the pipeline says of every window, its session left out."""
    count = len(windows)
    told, forced = np.full(count, "", "<U16"), np.full(count, "", "<U16")
    sure, training = np.zeros(count), np.zeros(count)
    for fold in splits.by_session(windows.label, windows.session, seed):
        asked = pipeline(windows, fold, seed, table)
        told[fold.test], forced[fold.test] = asked.told, asked.forced
        sure[fold.test], training[fold.test] = asked.confidence, asked.training
    return Asked(np.ones(count, bool), told, sure, forced, training)


def source_folds(windows: Windows, tested: str) -> tuple[Fold, Fold]:
    """Return both directions of leaving out the source that begins with ``tested``."""
    inside = np.char.startswith(windows.source, tested)
    return Fold(f"tests {tested}", ~inside, inside), Fold(f"learns {tested}", inside, ~inside)


def run_answers(windows: Windows, told: Names) -> tuple[Names, Names]:
    """Return the truth and the answer of each session's windows of one class, by most votes."""
    keys = np.char.add(np.char.add(windows.session, "|"), windows.label)
    truth, made = [], []
    for key in np.unique(keys):
        places = keys == key
        names, counts = np.unique(told[places & (told != "")], return_counts=True)
        truth.append(str(windows.label[places][0]))
        made.append(str(names[np.argmax(counts)]) if len(names) else "")
    return np.array(truth), np.array(made)
