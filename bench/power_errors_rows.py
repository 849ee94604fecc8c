"""How recognition errs: by threshold, rate, window, sensor; what its probabilities are worth."""

from collections import defaultdict
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from power_page import Section, picture, table
from power_sessions import folder, windows
from report import Row, row
from sklearn.ensemble import ExtraTreesClassifier

from lydite.evidence.power import openset
from lydite.evidence.power.classify import TRAINING
from lydite.evidence.power.features.table import Table
from lydite.evidence.power.windows import Plan
from lydite.laboratory.power import curves, experiments, learning, splits, thermal, traces
from lydite.laboratory.power.experiments import Asked
from lydite.laboratory.power.splits import Interval
from lydite.laboratory.power.traces import CHANNEL, Windows

SEEDS = (0, 1, 2)
RATES_HZ = (1.0, 2.0, 5.0, 10.0)
LENGTHS_S = (1.0, 5.0, 10.0, 30.0)
SAMPLED_S = 0.15
NOMINAL = 0.9


class Point(NamedTuple):
    """How one rate or length of window fares."""

    name: str
    count: int
    sessions: int
    balanced: list[float]
    over: Interval
    wrong: float
    abstained: float


@lru_cache
def whole() -> Asked:
    """Return the pipeline's answers by session."""
    return experiments.by_session(windows(), 0)


@lru_cache
def swept() -> tuple[list[Point], list[Point]]:
    """Return the pipeline by rate, and by length of window."""
    rates = [point(f"{rate:g} Hz", 10.0, rate, SAMPLED_S) for rate in RATES_HZ]
    lengths = [point(f"{length:g} s", length, 10.0, 1.1) for length in LENGTHS_S]
    return rates, lengths


def point(name: str, length_s: float, rate_hz: float, slowest_s: float) -> Point:
    """Return the pipeline at one rate and length."""
    measured = windows(slowest_s=slowest_s, length_s=length_s, rate_hz=rate_hz)
    plan = Plan(length_s=length_s, hop_s=length_s / 2, rate_hz=rate_hz, gap_s=3.0)
    made = [experiments.by_session(measured, 0, Table(plan, (CHANNEL,)))]
    chosen = splits.selected(measured.label, made[0].told)
    print(f"measured: {name}", flush=True)
    return Point(
        name,
        len(measured),
        len(set(measured.session.tolist())),
        [splits.balanced(measured.label, one.forced) for one in made],
        experiments.over_sessions(measured, made[0].forced),
        chosen.wrong,
        chosen.abstained,
    )


@lru_cache
def receiver() -> tuple[curves.Roc, list[Any]]:
    """Return the curve of training against the rest, and operating points."""
    measured = windows()
    positive = measured.label == TRAINING
    scores = whole().training
    found = []
    for rate in curves.POINTS:
        interval = splits.bootstrap(
            lambda places, rate=rate: curves.true_rate(scores[places], positive[places], rate),
            measured.session,
            strata=measured.label,
        )
        negatives = np.sort(scores[~positive])[::-1]
        found.append([rate, float(negatives[int(rate * len(negatives))]), tuple(interval)])
    return curves.roc(scores, positive, measured.session), found


@lru_cache
def covered() -> list[tuple[str, float, float, int]]:
    """Return coverage of conformal sets, their size and the calibration's sessions, by fold."""
    measured = windows()
    found = []
    for seed in SEEDS:
        for fold in splits.by_session(measured.label, measured.session, seed):
            found.append(("same sources", *sets(measured, fold, seed)))
    for fold in experiments.source_folds(measured, "ath"):
        found.append((f"new source, {fold.name}", *sets(measured, fold, 0)))
    return found


def sets(measured: Windows, fold: splits.Fold, seed: int) -> tuple[float, float, int]:
    """Return the coverage of the sets of one fold: calibrated on sessions of the training side."""
    train = measured.where(fold.train)
    inner = next(splits.by_session(train.label, train.session, seed + 7, folds=2))
    learnt, held = train.where(inner.train), train.where(inner.test)
    model = ExtraTreesClassifier(
        200, random_state=seed, class_weight="balanced", min_samples_leaf=2, n_jobs=1
    ).fit(learnt.rows, learnt.label)
    names = model.classes_.tolist()

    def missing(asked: Windows) -> np.ndarray:
        # A class that was not learnt has no share.
        known = np.column_stack([model.predict_proba(asked.rows), np.zeros(len(asked))])
        places = [names.index(one) if one in names else len(names) for one in asked.label]
        return 1 - known[np.arange(len(asked)), places]

    ranked = missing(held)
    scores = [
        float(np.quantile(ranked[held.session == one], NOMINAL)) for one in np.unique(held.session)
    ]
    bound = openset.quantile(scores, 1 - NOMINAL) if len(scores) >= 9 else max(scores)
    test = measured.where(fold.test)
    inside = openset.label_sets(model.predict_proba(test.rows), bound)
    return float(np.mean(missing(test) <= bound)), float(inside.sum(axis=1).mean()), len(scores)


@lru_cache
def alarm() -> list[tuple[str, int, float, int | None]]:
    """Return what the exchangeability alarm makes of more of one source, and of another."""
    measured = windows()
    site = measured.where(np.char.startswith(measured.source, "eve"))
    names = np.unique(site.session)
    dice = np.random.default_rng(0)
    dice.shuffle(names)
    taught, pool, later = np.split(names, [len(names) // 3, 2 * len(names) // 3])
    chosen = site.where(np.isin(site.session, taught))
    near = experiments.picked(experiments.column_names(Table(traces.PLAN, (CHANNEL,))))
    support = learning.support(chosen.rows[:, near], chosen.session)

    def strange(asked: Windows, attribute: str = "session") -> list[float]:
        by = getattr(asked, attribute)
        apart = support.distances(asked.rows[:, near])
        return [float(np.median(apart[by == one])) for one in np.unique(by)]

    base = strange(site.where(np.isin(site.session, pool)))
    found = []
    other = measured.where(~np.char.startswith(measured.source, "eve"))
    streams = [
        ("sessions of the same source", strange(site.where(np.isin(site.session, later)))),
        ("devices of two other sources", strange(other, "trace")),
    ]  # fmt: skip
    for name, scores in streams:
        values = openset.online_p_values(base, scores, dice.random(len(scores)))
        path = list(openset.martingale(values))
        rung = next((place + 1 for place, one in enumerate(path) if one >= np.log(20)), None)
        found.append((name, len(scores), float(np.exp(max(path))), rung))
    return found


@lru_cache
def warmth() -> tuple[thermal.Lag, float, list[list[Any]]]:
    """Return how temperature follows power, and training told by power, temperature and both."""
    held: dict[str, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
    work: dict[str, bool] = {}
    rows = {one["trace_id"]: one for one in traces.catalogue(folder())}
    for name, found in traces.samples(folder(), "dcgm_h100", ("power_w", "temp_c")):
        power = np.asarray(found["power_w"], float)[::10]
        heat = np.asarray(found["temp_c"], float)[::10]
        good = np.isfinite(power) & np.isfinite(heat)
        held[rows[name]["session"]].append((power[good], heat[good]))
        work[rows[name]["session"]] = rows[name]["workload"] == "training"
    several = [one for both in held.values() for one in both]
    lags = [thermal.delay(power, heat, 1.0) for power, heat in several if np.std(power) > 20]
    made = {}
    for session, both in held.items():
        cut = [
            [power[at : at + 10], heat[at : at + 10]]
            for power, heat in both
            for at in range(60, len(power) - 10, 40)
        ]
        values = np.array(cut)
        made[session] = np.column_stack(
            [f(values[:, channel], axis=1) for channel in (0, 1) for f in (np.mean, np.std, np.ptp)]
        )
    lines = []
    for name, columns in (("power", range(3)), ("temperature", range(3, 6)), ("both", range(6))):
        told = []
        for session in made:
            others = [one for one in made if one != session]
            learnt = np.concatenate([made[one][:, list(columns)] for one in others])
            truth = np.concatenate([np.full(len(made[one]), work[one]) for one in others])
            model = ExtraTreesClassifier(200, random_state=0, class_weight="balanced", n_jobs=1)
            said = model.fit(learnt, truth).predict(made[session][:, list(columns)])
            told.append(float(np.mean(said == work[session])))
        lines.append([name, *told, float(np.mean(told))])
    return thermal.fit(several, 1.0), float(np.median(lags)), [["channel", *made, "mean"], *lines]


def rows() -> list[Row]:
    """Return the figures with goals."""
    curve, _ = receiver()
    measured = windows()
    confidence = curves.reliability(whole().confidence, whole().forced == measured.label)
    same = [one for one in covered() if one[0] == "same sources"]
    return [
        row("training against the rest, area under the curve", curve.area.value, "1"),
        row("calibration error of the shares of votes", confidence.error, "1"),
        row(
            "conformal coverage by session, distance from its nominal .9, mean of folds",
            abs(float(np.mean([one[1] for one in same])) - NOMINAL),
            "1",
            goal=0.03,
            at_most=True,
        ),
        *(row(f"pipeline by session at {one.name}, balanced", float(np.mean(one.balanced)), "1")
          for several in swept() for one in several),
    ]  # fmt: skip


def section() -> Section:
    """Return the part of the page."""
    curve, points = receiver()
    text = f"""Training against idle and inference, by the share of votes for training, each session
left out: area under the curve {curve.area.value:.4f} [{curve.area.low:.4f}, {curve.area.high:.4f}].

![ROC with its band over sessions, and calibration](_static/power-roc.png)

{table(["false positives", "threshold", "true positives"], points)}
{swept_text()}
{conformal_text()}
{thermal_text()}"""
    return Section(2, "How it errs", text, {"power-roc": curve_picture(), "power-sweep": sweeps()})


def swept_text() -> str:
    """Return rate and window."""
    lines: list[list[Any]] = [
        [one.name, one.count, one.sessions, one.over.value,
         f"[{one.over.low:.3f}, {one.over.high:.3f}]", one.abstained, one.wrong]
        for several in swept() for one in several
    ]  # fmt: skip
    head = ["rate or window", "windows", "sessions", "balanced, all answered", "over sessions",
            "no answer", "wrong of answered"]  # fmt: skip
    return f"""### By rate and by length of window

Rates on traces sampled at .1 s, 10 s windows; lengths at 10 Hz on all. The power that most of these
traces show is itself an average of one second, so that rates above a few hertz can add little. No
faster traces of these classes are measured.

![Balanced accuracy by rate and by length](_static/power-sweep.png)

{table(head, lines)}"""


def conformal_text() -> str:
    """Return coverage and alarm."""
    same = [one for one in covered() if one[0] == "same sources"]
    cover = [one[1] for one in same]
    lines: list[list[Any]] = [
        ["same sources, 12 folds", splits.mean_and_range(cover),
         splits.mean_and_range([one[2] for one in same])],
        *([name, share, size] for name, share, size, _ in covered() if name != "same sources"),
    ]  # fmt: skip
    alarms = [[name, count, most, rung or "no"] for name, count, most, rung in alarm()]
    return f"""### Conformal sets and the exchangeability alarm

Nominal {NOMINAL:g}; one score a session (the {NOMINAL:g} quantile of its windows), calibrated on
sessions that the forest did not see. They cover more than they promise where the source is known,
since few sessions bound high; where it is not they cover less, or grow to two classes. Coverage is
claimed for no site with fewer than ten sessions. The alarm bets on distances to what was learnt,
one score a session or device; at a wealth of 20 it rings.

{table(["test", "coverage", "classes in a set"], lines)}
{table(["stream", "scores", "greatest wealth", "rings at"], alarms)}"""


def thermal_text() -> str:
    """Return what temperature adds."""
    lag, delay, told = warmth()
    return f"""### Power, temperature, both

Temperature of the DCGM source, each device from a base of its own (mean {lag.base_c:.1f}):
C = base + {lag.fast_c_per_w:.3f} P[{lag.fast_s:g} s] + {lag.slow_c_per_w:.3f} P[{lag.slow_s:g} s],
rmse {lag.rmse_c:.1f} C; changes agree best at a lag of {delay:.0f} s (steps of 1 s). Training or
not from ten seconds at 1 Hz, each of its four sessions left out; the columns are the share told
right. Four sessions: an illustration, no estimate.

{table(told[0], told[1:])}"""


def curve_picture() -> Any:
    """Return ROC and calibration."""
    curve, _ = receiver()
    measured = windows()
    figure, (left, right) = picture(8.0, 3.4, 2)
    left.fill_between(curve.false, curve.low, curve.high, color="#c9daf8", lw=0)
    left.plot(curve.false, curve.true, color="#1155cc")
    left.set(xscale="symlog", xlabel="false positives", ylabel="true positives", ylim=(0, 1.02))
    left.set_xscale("symlog", linthresh=1e-3)
    left.set_xlim(0, 1)
    left.set_title("training against the rest", fontsize=9)
    said = curves.reliability(whole().confidence, whole().forced == measured.label)
    right.plot([0.3, 1], [0.3, 1], color="#777777", lw=0.8)
    right.plot(said.said, said.held, "o-", color="#cc4125")
    right.set(xlabel="share of votes", ylabel="share that is right", ylim=(0.3, 1.02))
    right.set_title("calibration, by session", fontsize=9)
    return figure


def sweeps() -> Any:
    """Return accuracy by rate and by length."""
    figure, both = picture(8.0, 3.0, 2)
    for axes, several, label in zip(both, swept(), ("rate, Hz", "window, s"), strict=True):
        at = [float(one.name.split()[0]) for one in several]
        mean = [one.over.value for one in several]
        below = [one.over.value - one.over.low for one in several]
        above = [one.over.high - one.over.value for one in several]
        axes.errorbar(at, mean, [below, above], fmt="o-", capsize=3, color="#1155cc")
        axes.set(xscale="log", xlabel=label, ylabel="balanced accuracy", ylim=(0.8, 1.01))
        axes.set_xticks(at, [f"{one:g}" for one in at])
        axes.minorticks_off()
    return figure
