"""What kind of work a window of power looks like: gates, then what was learnt, then abstention.

Physics answers first, from shares of the power that the device's maker states. What was learnt
answers where a window is like something that it was learnt from, with all its numbers a Reference
Value of plain arrays. Else nothing is answered, and the answer says why. Knows no declaration.

**Does not show** which model ran, nor that anything wrong did. Telemetry read inside of the
operator's machine is forged by its root. Power alone does not tell heavy inference from training
where inference reaches beyond ``MEMORY_SHARE``, as large batches do on an H200 and an L40S.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from lydite.errors import FormatError
from lydite.evidence.power import arrays, rules
from lydite.evidence.power.arrays import Arrays
from lydite.evidence.power.features.table import Table
from lydite.evidence.power.forest import Forest
from lydite.evidence.power.openset import Support
from lydite.evidence.power.reference import Gates
from lydite.evidence.power.trace import Values

IDLE, INFERENCE, TRAINING, HASHING = "idle", "inference", "training", "hashing"
IDLE_SHARE, WAITING_SHARE, MEMORY_SHARE = 0.20, 0.25, 0.70
"""Of the stated power. A loaded model that waits takes .16 to .18 of an H100's, and a site moves
that by 15 W; below .25 nothing of size is computed; what only reads memory takes at most .70, as
published for loads of single units. See ``reference.Physics`` and ``reference.Gates``."""
REGIONS = (0.14, IDLE_SHARE, WAITING_SHARE, MEMORY_SHARE)
DOUBT = 0.1


class Answer(NamedTuple):
    """What a window looks like."""

    classes: tuple[str, ...]
    """One; several, if they cannot be told apart; none, if nothing is answered."""
    why: str
    shares: Mapping[str, float]
    """What was learnt says of each class; empty if nothing was."""
    distance: float | None
    """To the fifth nearest window that was learnt from, over the radius: above 1 is unlike all."""


class Allowed(NamedTuple):
    """What physics leaves open of one window."""

    classes: tuple[str, ...]
    why: str


def allowed(row: Values, tdp_w: float) -> Allowed:
    """Return what the 95th percentile of a window of power leaves open, by the stated power.

    Up to ``IDLE_SHARE`` idle; up to ``WAITING_SHARE`` anything, since work that waits for others
    draws no more; up to ``MEMORY_SHARE`` inference, whose decoding reads memory and computes
    little; beyond it inference or training.
    """
    top = float(np.sort(row)[int(0.95 * (len(row) - 1))]) / tdp_w
    if top <= IDLE_SHARE:
        return Allowed((IDLE,), f"power up to {top:.2f} of the stated one")
    if top <= WAITING_SHARE:
        return Allowed((), f"power up to {top:.2f}: idle, or work that waits")
    if top <= MEMORY_SHARE:
        return Allowed((INFERENCE,), f"power up to {top:.2f}: as reading memory takes")
    return Allowed((INFERENCE, TRAINING), f"power up to {top:.2f}: more than reading memory takes")


def columns(table: Table, tdp_w: float, windows: Values) -> Values:
    """Return the features of windows of power, with the device taken out of them.

    Those in watts become shares of the stated power; added are the shares of the window that lie
    in each region of it, and the deviation over the mean.
    """
    name = table.channels[0]
    found = table.compute({name: windows})
    watts = np.array([feature.unit.startswith("W") for feature in table.features])
    found[:, watts] /= tdp_w
    edges = np.array([-np.inf, *REGIONS, np.inf]) * tdp_w
    inside = [
        np.count_nonzero((windows > low) & (windows <= high), axis=1) / windows.shape[1]
        for low, high in pairwise(edges)
    ]
    mean = windows.mean(axis=1)
    spread = windows.std(axis=1) / np.where(mean > 0, mean, 1.0)
    return np.column_stack([found, *inside, spread])


def column_names(table: Table) -> list[str]:
    """Return what the columns of ``columns`` are."""
    regions = [f"share_in_region_{place}" for place in range(len(REGIONS) + 1)]
    return [*table.names, *regions, "deviation_over_mean"]


@dataclass(frozen=True, eq=False)
class Recogniser:
    """What was learnt of one kind of device: a Reference Value."""

    classes: tuple[str, ...]
    forest: Forest
    support: Support
    picked: NDArray[np.int64]
    """Columns that distances are measured in."""
    least_share: float
    """A class with less of the forest's votes is not answered."""

    @classmethod
    def of(cls, several: Arrays) -> Self:
        """Return the recogniser that ``arrays`` holds.

        Raises:
            FormatError: something is missing, or does not fit.
        """
        classes = tuple(several.word("classes").split(" "))
        forest = Forest.of(several.under("forest"))
        picked = several.get("picked", 1).astype(np.int64)
        if forest.leaves.shape[1] != len(classes) or np.any(picked >= forest.columns):
            raise FormatError("a recogniser whose parts do not fit")
        share = float(several.get("least_share", 1)[0])
        return cls(classes, forest, Support.of(several.under("support")), picked, share)

    def arrays(self) -> Arrays:
        """Return the recogniser as plain arrays."""
        parts = arrays.joined({"forest": self.forest.arrays(), "support": self.support.arrays()})
        own = {"picked": self.picked.astype(np.int32), "least_share": np.array([self.least_share])}
        return Arrays({**parts.words, "classes": " ".join(self.classes)}, {**parts.arrays, **own})

    def digest(self) -> str:
        """Return what findings name this Reference Value by."""
        return arrays.digest(self.arrays())


def answers(
    recogniser: Recogniser | None, tdp_w: float, windows: Values, rows: Values
) -> list[Answer]:
    """Return what each window looks like; ``rows`` are its ``columns``.

    1. What physics leaves open: ``allowed``. Without a recogniser that is the answer.
    2. The forest's votes; those for a class that physics does not leave open count ``DOUBT`` of
       a vote: physics is believed ten to one, and not more.
       Where none of the classes that it leaves open was learnt, they are the answer.
    3. A window that is unlike all that was learnt from is not answered, nor one whose first class
       has less than ``least_share`` of the votes.
    """
    open_to = [allowed(row, tdp_w) for row in windows]
    if recogniser is None:
        return [Answer(one.classes, one.why, {}, None) for one in open_to]
    votes = weighed(recogniser, recogniser.forest.predict(rows), open_to)
    apart = recogniser.support.distances(rows[:, recogniser.picked]) / recogniser.support.radius
    return [
        _answer(recogniser, one, vote, float(distance))
        for one, vote, distance in zip(open_to, votes, apart, strict=True)
    ]


def weighed(recogniser: Recogniser, votes: Values, open_to: Sequence[Allowed]) -> Values:
    """Return votes after physics, summing to one."""
    doubt = np.array(
        [
            [
                DOUBT if one.classes and name not in one.classes else 1.0
                for name in recogniser.classes
            ]
            for one in open_to
        ]
    ).reshape(votes.shape)
    heard = (votes + 1e-9) * doubt
    return np.asarray(heard / heard.sum(axis=1, keepdims=True))


def _answer(recogniser: Recogniser, open_to: Allowed, vote: Values, distance: float) -> Answer:
    why = open_to.why
    if open_to.classes and not set(open_to.classes) & set(recogniser.classes):
        return Answer(open_to.classes, f"{why}; no such class was learnt", {}, distance)
    named = dict(zip(recogniser.classes, map(float, vote), strict=True))
    best = int(np.argmax(vote))
    chosen, share = recogniser.classes[best], float(vote[best])
    if distance > 1:
        return Answer((), f"{why}; unlike all that was learnt", named, distance)
    if share < recogniser.least_share:
        return Answer((), f"{why}; {chosen} has {share:.2f} of the votes only", named, distance)
    return Answer((chosen,), f"{why}; {share:.2f} of the votes", named, distance)


def gated(gates: Sequence[rules.Gate], answer: Answer) -> Answer:
    """Return ``answer`` unless a gate on other channels than power speaks first.

    Hashing is named; a channel that must be made up leaves nothing to answer.
    """
    fired = rules.fired(gates)
    made_up = sorted(fired & {"power-without-work", "energy-unlike-power"})
    if made_up:
        return answer._replace(classes=(), why=f"gate: {', '.join(made_up)}")
    if "hashing" in fired:
        return answer._replace(classes=(HASHING,), why="gate: hashing")
    return answer


def by_gates(readings: rules.Readings, at: Gates, answer: Answer) -> Answer:
    """Return ``gated`` with the gates of ``readings``."""
    return gated(rules.gates(readings, at), answer)


def of_run(several: Sequence[Answer], least: float = 0.6) -> Answer:
    """Return what a run of windows looks like: the class of ``least`` of those that are answered.

    Windows depend on each other: no number here is a probability.
    """
    told = [one.classes[0] for one in several if len(one.classes) == 1]
    counts = {name: told.count(name) for name in sorted(set(told))}
    if not told:
        return Answer((), "no window of the run is answered", {}, None)
    best = max(counts, key=lambda name: counts[name])
    share = counts[best] / len(told)
    why = f"{counts[best]} of {len(told)} answered windows, of {len(several)}"
    named = {name: count / len(told) for name, count in counts.items()}
    return Answer((best,) if share >= least else (), why, named, None)
