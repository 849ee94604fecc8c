"""Another site, another sensor: the same sessions, transformed, told by what was learnt before."""

from functools import lru_cache
from typing import Any

import numpy as np
from power_page import Section, table
from power_sessions import windows
from report import Row, row

from lydite.evidence.power.classify import columns
from lydite.evidence.power.features.table import Table
from lydite.evidence.power.trace import Values
from lydite.laboratory.power import experiments, splits
from lydite.laboratory.power.shift import SHIFTS
from lydite.laboratory.power.splits import Selected
from lydite.laboratory.power.traces import CHANNEL, PLAN, Windows

TRAINED_ON = ("gain +5 %", "15 W less at any load", "polled at 1 Hz", "one sample in five lost")
"""Shifts that the second forest also learnt from; the other ones it never saw."""


def moved(several: Windows, name: str, seed: int) -> Windows:
    """Return windows as another site or sensor would show them."""
    watts = SHIFTS[name](several.watts, np.random.default_rng(seed))
    return rewritten(several, watts)


def rewritten(several: Windows, watts: Values) -> Windows:
    """Return windows with other watts, on a device of 700 W."""
    rows = columns(Table(PLAN, (CHANNEL,)), 700.0, watts)
    return Windows(**{**several.__dict__, "watts": watts, "rows": rows})


def joined(several: list[Windows]) -> Windows:
    """Return windows one after the other."""
    names = several[0].__dict__
    return Windows(
        **{name: np.concatenate([getattr(one, name) for one in several]) for name in names}
    )


@lru_cache
def measured() -> list[tuple[str, float, Selected, float, Selected]]:
    """Return for each shift how the forest fares, and one that learnt from some shifts as well."""
    several = windows()
    folds = list(splits.by_session(several.label, several.session, 0))
    plain, wide = [], []
    for fold in folds:
        train = several.where(fold.train)
        plain.append(experiments.learn(train))
        more = [moved(train, name, 1) for name in TRAINED_ON]
        wide.append(experiments.learn(joined([train, *more]), trees=100))
    found = []
    for name in SHIFTS:
        asked = moved(several, name, 2)
        figures: list[Any] = []
        for learnt in (plain, wide):
            told, forced = np.full(len(several), "", "<U16"), np.full(len(several), "", "<U16")
            for made, fold in zip(learnt, folds, strict=True):
                answers = experiments.ask(made, asked.where(fold.test))
                told[fold.test] = [one.classes[0] if one.classes else "" for one in answers]
                forced[fold.test] = [max(one.shares, key=one.shares.__getitem__) for one in answers]
            figures += [
                splits.balanced(several.label, forced),
                splits.selected(several.label, told),
            ]
        found.append((name, *figures))
    return found


def rows() -> list[Row]:
    """Return balanced accuracy under each shift."""
    return [row(f"{name}, by session: balanced", plain, "1") for name, plain, *_ in measured()]


def section() -> Section:
    """Return the part of the page."""
    lines = [
        [name + (" (learnt)" if name in TRAINED_ON else ""), plain, one.abstained, one.wrong,
         wide, other.abstained, other.wrong]
        for name, plain, one, wide, other in measured()
    ]  # fmt: skip
    head = ["shift of the test sessions", "balanced", "no answer", "wrong", "widened: balanced",
            "no answer", "wrong"]  # fmt: skip
    text = f"""The sessions of the first table, transformed (synthetic), each left out of what tells
it. *Widened* learnt from the training sessions under four of the shifts as well; the others are
new to it.

{table(head, lines)}"""
    return Section(3, "Another site, another sensor", text, {})
