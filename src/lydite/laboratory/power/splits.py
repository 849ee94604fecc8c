"""Who is left out, and how sure a number is: folds by session, sources, families, bootstraps.

There is no split by window here, and no function that takes one: windows of one session resemble
each other so much that such a split answers another question. Knows nothing of models.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from lydite.evidence.power.trace import Values

Names = NDArray[np.str_]
Mask = NDArray[np.bool_]


class Fold(NamedTuple):
    """Who is learnt from, and who is asked."""

    name: str
    train: Mask
    test: Mask


def by_session(label: Names, session: Names, seed: int, folds: int = 4) -> Iterator[Fold]:
    """Yield folds in which no session is on both sides."""
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class with fewer sessions than folds is in no more folds than it has sessions.
        warnings.filterwarnings("ignore", message="The least populated class")
        parts = list(splitter.split(label, label, session))
    for place, (_, test) in enumerate(parts):
        inside = np.zeros(len(label), bool)
        inside[test] = True
        yield Fold(f"fold {place}", ~inside, inside)


def leave_out(names: Names, session: Names) -> Iterator[Fold]:
    """Yield one fold a name; no session is on both sides."""
    for name in np.unique(names):
        inside = names == name
        yield Fold(str(name), ~np.isin(session, session[inside]), inside)


class Interval(NamedTuple):
    """A number, and where it lies if other sessions had been measured."""

    value: float
    low: float
    high: float


def balanced(truth: Names, told: Names) -> float:
    """Return the mean over classes of the share of each that is told right."""
    return float(np.mean([np.mean(told[truth == one] == one) for one in np.unique(truth)]))


def accuracy(truth: Names, told: Names) -> float:
    """Return the share that is told right."""
    return float(np.mean(truth == told))


def draws(
    session: Names, strata: Names | None, random: np.random.Generator, count: int
) -> Iterator[NDArray[np.int64]]:
    """Yield the places of whole sessions drawn with replacement.

    They are drawn within the class that most of their windows have if ``strata`` are given, so
    that no draw lacks a class.
    """
    names, places = np.unique(session, return_inverse=True)
    members = [np.flatnonzero(places == place) for place in range(len(names))]
    kinds = _kinds(members, strata)
    for _ in range(count):
        drawn = np.concatenate([random.choice(kind, len(kind)) for kind in kinds])
        yield np.concatenate([members[one] for one in drawn])


def bootstrap(
    measure: Callable[[NDArray[np.int64]], float],
    session: Names,
    count: int = 400,
    seed: int = 0,
    strata: Names | None = None,
) -> Interval:
    """Return ``measure`` of all places, and its 2.5 and 97.5 percentiles over drawn sessions."""
    random = np.random.default_rng(seed)
    found = [measure(places) for places in draws(session, strata, random, count)]
    low, high = np.nanquantile(found, [0.025, 0.975])
    return Interval(measure(np.arange(len(session))), float(low), float(high))


def _kinds(members: Sequence[NDArray[Any]], strata: Names | None) -> list[NDArray[np.int64]]:
    """Return the sessions of each kind."""
    if strata is None:
        return [np.arange(len(members))]
    most = []
    for places in members:
        names, counts = np.unique(strata[places], return_counts=True)
        most.append(str(names[np.argmax(counts)]))
    return [np.flatnonzero(np.array(most) == kind) for kind in sorted(set(most))]


class Selected(NamedTuple):
    """How answers fare when some questions are left unanswered."""

    abstained: float
    wrong: float
    """Of those that are answered."""
    balanced: float
    """Of those that are answered, over the classes that have an answer."""
    by_class: dict[str, float]
    """The share of each class that is not answered."""


def selected(truth: Names, told: Names) -> Selected:
    """Return the measures of answers; an empty name is none."""
    answered = told != ""
    if not answered.any():
        return Selected(1.0, float("nan"), float("nan"), {})
    by_class = {str(one): float(np.mean(~answered[truth == one])) for one in np.unique(truth)}
    return Selected(
        float(np.mean(~answered)),
        float(np.mean(truth[answered] != told[answered])),
        balanced(truth[answered], told[answered]),
        by_class,
    )


def mean_and_range(values: Sequence[float] | Values) -> str:
    """Return ``mean (least-greatest)`` to three digits."""
    return f"{np.mean(values):.3f} ({np.min(values):.3f}-{np.max(values):.3f})"
