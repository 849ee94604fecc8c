"""Which model, how large, how many bits; which device of a shared supply; what was never seen."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from power_page import Section, table
from power_sessions import folder, windows
from report import Row, row

from lydite.evidence.power import mixture, size
from lydite.evidence.power.classify import IDLE, INFERENCE, TRAINING, column_names
from lydite.evidence.power.features.table import Table
from lydite.laboratory.power import curves, experiments, learning, splits, traces
from lydite.laboratory.power.splits import Interval, Names
from lydite.laboratory.power.traces import CHANNEL, PLAN, Windows

SEEDS = (0, 1)
DRAWS = 300
BUSY = 0.25
COVER = 0.2
"""Error of the interval of a size."""


class Told(NamedTuple):
    """How one attribute is told by session."""

    what: str
    windows: int
    sessions: int
    classes: int
    majority: float
    accuracy: list[float]
    balanced: list[float]
    over: Interval


@lru_cache
def busy(device: str, slowest_s: float) -> Windows:
    """Return windows of inference at work on one device, of models that are stated."""
    several = windows(gpus=(device,) if device != "H100" else traces.H100, slowest_s=slowest_s)
    kept = (several.label == INFERENCE) & (several.watts.mean(1) > BUSY * several.tdp_w)
    return several.where(kept & (several.model != "") & np.isfinite(several.billions))


def attribute(what: str, several: Windows, names: Names) -> Told:
    """Return how well an attribute is told of sessions that are left out."""
    counts = Counter(names.tolist())
    runs: list[Names] = []
    for seed in SEEDS:
        told = np.empty(len(names), names.dtype)
        for fold in splits.by_session(names, several.session, seed):
            forest, classes = learning.grow(several.rows[fold.train], names[fold.train])
            best = np.argmax(forest.predict(several.rows[fold.test]), axis=1)
            told[fold.test] = np.array(classes)[best]
        runs.append(told)
    return Told(
        what,
        len(names),
        len(set(several.session.tolist())),
        len(counts),
        max(counts.values()) / len(names),
        [splits.accuracy(names, one) for one in runs],
        [splits.balanced(names, one) for one in runs],
        splits.bootstrap(lambda at: splits.accuracy(names[at], runs[0][at]), several.session),
    )


@lru_cache
def attributes() -> list[Told]:
    """Return family, model and bits, blind: from power alone."""
    found = []
    for device, slowest_s in (("H200", 1.1), ("L40S", 0.6)):
        several = busy(device, slowest_s)
        found.append(attribute(f"{device}: model", several, several.model))
        found.append(attribute(f"{device}: family", several, several.family))
        small = several.billions < 5
        sized = np.where(small, "<=4B", np.where(several.billions < 15, "7-8B", ">=46B"))
        found.append(attribute(f"{device}: size, three classes", several, sized))
        bits = np.where(np.isin(several.quant, ("", "none")), "16 bit", several.quant)
        if len(set(bits.tolist())) > 1:
            found.append(attribute(f"{device}: quantisation", several, bits))
    return found


class Sized(NamedTuple):
    """How a size is told."""

    device: str
    sessions: int
    factor: float
    """Median factor between the size told and the true one."""
    guess: float
    """The same if the median of the other sessions is told."""
    covered: float
    width: float
    """The factor from the low to the high end of the interval, median."""


@lru_cache
def sized() -> list[Sized]:
    """Return the regression of size, each session left out."""
    near = experiments.picked(column_names(Table(PLAN, (CHANNEL,))))
    found = []
    for device, slowest_s in (("H200", 1.1), ("L40S", 0.6), ("H100", 1.1)):
        several = busy(device, slowest_s)
        rows = several.rows[:, near]
        errors, guesses, inside, widths = [], [], [], []
        for fold in splits.leave_out(several.session, several.session):
            made = size.fit(
                rows[fold.train], several.billions[fold.train],
                several.session[fold.train].tolist(), COVER,
            )  # fmt: skip
            told = made.of_rows(rows[fold.test])
            truth = float(several.billions[fold.test][0])
            middle = float(np.median([one.value for one in told]))
            errors.append(abs(np.log(middle / truth)))
            guess = float(np.median(several.billions[fold.train]))
            guesses.append(abs(np.log(guess / truth)))
            factor = float(np.exp(made.half))
            inside.append(middle / factor <= truth <= middle * factor)
            widths.append(factor * factor)
        found.append(
            Sized(
                device,
                len(errors),
                float(np.exp(np.median(errors))),
                float(np.exp(np.median(guesses))),
                float(np.mean(inside)),
                float(np.median(widths)),
            )
        )
    return found


@lru_cache
def shared() -> list[list[Any]]:
    """Return how eight devices of one supply are told apart, by steady levels and by shape."""
    held = by_device()
    dice = np.random.default_rng(0)
    return [by_level(held, dice), *by_shape(held, dice)]


def by_device() -> dict[str, list[np.ndarray]]:
    """Return the power of each of eight devices at 1 Hz, by session, after its start."""
    held: dict[str, list[np.ndarray]] = defaultdict(list)
    rows = {one["trace_id"]: one for one in traces.catalogue(folder())}
    for name, found in traces.samples(folder(), "dcgm_h100", ("power_w",)):
        watts = np.asarray(found["power_w"], float)
        held[rows[name]["session"]].append(watts[900:2700:10])
    return dict(held)


STATES = ("ath-b1", "ath-i4", "ath-t2", "ath-t3")
KINDS = (IDLE, INFERENCE, TRAINING, TRAINING)


def by_level(held: dict[str, list[np.ndarray]], dice: np.random.Generator) -> list[Any]:
    """Count devices in each state from one mean of their sum; levels are of other devices."""
    levels = np.array([np.mean([np.median(one) for one in held[name][:4]]) for name in STATES])
    exact, off = [], []
    for _ in range(DRAWS):
        states = dice.integers(len(STATES), size=8)
        total, parts = 0.0, Counter(states.tolist())
        for state in states:
            watts = held[STATES[state]][int(dice.integers(4, 8))]
            start = int(dice.integers(0, len(watts) - 10))
            total += float(watts[start : start + 10].mean())
        counts = mixture.split(levels[:, None], 8, np.array([total])).counts
        wrong = sum(abs(counts[state] - parts[state]) for state in range(len(STATES))) / 2
        exact.append(wrong == 0)
        off.append(wrong)
    return ["levels, 10 s, 4 states", DRAWS, float(np.mean(exact)), float(np.mean(off))]


def by_shape(held: dict[str, list[np.ndarray]], dice: np.random.Generator) -> list[list[Any]]:
    """Count devices of each job by least squares on what another device of the job drew."""
    found = []
    for seconds, way in ((30, "tried"), (120, "tried"), (120, "least squares")):
        exact, off = [], []
        for _ in range(DRAWS):
            counts = dice.multinomial(8, [0.25] * 4)
            start = int(dice.integers(0, 180 - seconds))
            span = slice(start, start + seconds)
            parts = np.column_stack(
                [np.mean([one[span] for one in held[name][:4]], axis=0) for name in STATES]
            )
            total = np.zeros(seconds)
            for name, count in zip(STATES, counts, strict=True):
                for _ in range(int(count)):
                    total += held[name][int(dice.integers(4, 8))][span]
            if way == "tried":
                told = np.array(mixture.split(parts.T, 8, total).counts)
            else:
                told = np.rint(mixture.unmix(parts, total, 0.0).amounts)
            wrong = float(np.abs(told - counts).sum() / 2)
            exact.append(wrong == 0)
            off.append(wrong)
        found.append(
            [f"shapes of known jobs, {seconds} s, {way}", DRAWS, float(np.mean(exact)),
             float(np.mean(off))]
        )  # fmt: skip
    return found


@lru_cache
def enrolled() -> list[list[Any]]:
    """Return how a model that is enrolled from a few windows of one session is told on others."""
    near = experiments.picked(column_names(Table(PLAN, (CHANNEL,))))
    found = []
    for device, slowest_s in (("H200", 1.1), ("L40S", 0.6)):
        several = busy(device, slowest_s)
        for few in (3, 10):
            right, tried, other = few_windows(several, several.rows[:, near], few)
            found.append([device, few, len(set(several.model.tolist())), tried, right, other])
    return found


def few_windows(several: Windows, rows: np.ndarray, few: int) -> tuple[float, int, float]:
    """Return the share told right of the enrolled model, how many trials, and chance."""
    right = []
    for model in np.unique(several.model):
        mine = several.model == model
        sessions = np.unique(several.session[mine])
        rest = ~np.isin(several.session, sessions)
        if len(sessions) < 2 or len(np.unique(several.model[rest])) < 2:
            continue
        gallery = size.Gallery.learn(rows[rest], several.model[rest].tolist())
        for session in sessions:
            first = np.flatnonzero(mine & (several.session == session))[:few]
            asked = mine & (several.session != session)
            if len(first) < few or not asked.any():
                continue
            told = gallery.enrol(str(model), rows[first]).nearest(rows[asked])
            right.append(float(np.mean([name == model for name, _ in told])))
    chance = 1 / len(np.unique(several.model))
    return (float(np.mean(right)) if right else float("nan")), len(right), chance


@lru_cache
def strangers() -> list[list[Any]]:
    """Return how a class that was never learnt is told from those that were, by distance."""
    several = windows()
    near = experiments.picked(column_names(Table(PLAN, (CHANNEL,))))
    found = []
    for unknown in (INFERENCE, TRAINING):
        scores, positive, session = [], [], []
        for fold in splits.by_session(several.label, several.session, 0):
            taught = several.where(fold.train & (several.label != unknown))
            asked = several.where(fold.test)
            support = learning.support(taught.rows[:, near], taught.session)
            scores.append(support.distances(asked.rows[:, near]) / support.radius)
            positive.append(asked.label == unknown)
            session.append(asked.session)
        apart, strange = np.concatenate(scores), np.concatenate(positive)
        names = np.concatenate(session)
        whole = splits.bootstrap(
            lambda at, apart=apart, strange=strange: curves.area(apart[at], strange[at]),
            names, 200, strata=strange.astype(str),
        )  # fmt: skip
        found.append(
            [unknown, tuple(whole), float(np.mean(apart[strange] > 1)),
             float(np.mean(apart[~strange] > 1))]
        )  # fmt: skip
    return found


def rows() -> list[Row]:
    """Return the figures."""
    return [
        *(row(f"{one.what}, blind, by session: accuracy", mean(one.accuracy), "1")
          for one in attributes()),
        *(row(f"{one.device}: size, median factor", one.factor, "1") for one in sized()),
        *(row(f"shared supply of 8, {name}: all counts right", exact, "1")
          for name, _, exact, _ in shared()),
    ]  # fmt: skip


def mean(values: Sequence[float]) -> float:
    """Return the mean over seeds."""
    return float(np.mean(values))


def named_rows() -> list[list[Any]]:
    """Return how each attribute is told."""
    return [
        [one.what, one.windows, one.sessions, one.classes, one.majority,
         splits.mean_and_range(one.accuracy), f"[{one.over.low:.3f}, {one.over.high:.3f}]",
         splits.mean_and_range(one.balanced)]
        for one in attributes()
    ]  # fmt: skip


def section() -> Section:
    """Return the part of the page."""
    named_head = ["what", "windows", "sessions", "classes", "majority", "accuracy",
                  "over sessions", "balanced"]  # fmt: skip
    size_head = ["device", "sessions", "median factor off", "factor off if the median is told",
                 "interval covers", "interval, high over low"]  # fmt: skip
    shared_head = ["from what", "mixtures", "all counts right", "devices misplaced"]
    enrolled_head = ["device", "windows", "models", "trials", "told right", "chance"]
    strange_head = ["unknown", "area", "beyond, of the unknown", "beyond, of the known"]
    text = f"""Blind: power alone, 10 s at work, each session left out. Family and size above 90 %
are out of reach this way; with all channels and a declaration on our own sessions: not yet
measured.

{table(named_head, named_rows())}
Size as a number: ridge on the logarithm, a conformal interval of {1 - COVER:.0%} by session.

{table(size_head, [list(one) for one in sized()])}
### A supply that devices share

The eight devices of the DCGM source in drawn mixtures of four jobs, added up: a known supply with
known parts. Levels and shapes are of four devices, the mixtures of the four others, at the same
moments for shapes. *Tried*: every way to share out eight devices; *least squares* does not know
that there are eight.

{table(shared_head, shared())}
### A model enrolled from a few windows

Windows of one session enrol; all other sessions of the model are asked.

{table(enrolled_head, enrolled())}
### A class that was never learnt

Distances to what was learnt, without the class: area under the curve against known classes of
sessions left out, and what lies beyond the radius.

{table(strange_head, strangers())}"""
    return Section(4, "Which model, which device, what is new", text, {})
