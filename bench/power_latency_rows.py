"""What recognition costs on one core: a window by itself, and many at once, from watts to answer.

The windows and what is learnt are made up: the cost depends on sizes, not on values.
"""

import numpy as np
from report import Row, row
from stopwatch import now

from lydite.evidence.power import classify
from lydite.evidence.power.features.table import Table
from lydite.evidence.power.rocket import Rocket
from lydite.laboratory.power import experiments, learning
from lydite.laboratory.power.traces import CHANNEL, PLAN

TDP_W = 700.0
KNOWN, MANY, SINGLES = 1000, 4000, 200


def rows() -> list[Row]:
    """Return what was measured."""
    table = Table(PLAN, (CHANNEL,))
    dice = np.random.default_rng(0)
    level = dice.choice([120.0, 300.0, 420.0, 560.0], size=(KNOWN, 1))
    watts = np.clip(level + 20 * dice.standard_normal((KNOWN, table.plan.size)), 60, TDP_W)
    names = np.array(["idle", "inference", "training"])
    label = names[np.digitize(level[:, 0] + 80 * dice.standard_normal(KNOWN), [200, 490])]
    session = np.array([f"s{place % 40}" for place in range(KNOWN)])
    found = classify.columns(table, TDP_W, watts)
    near = experiments.picked(classify.column_names(table))
    learnt = learning.recognise(found, label, session, near, learning.Settings(least_share=0.7))

    def answer(some: np.ndarray) -> None:
        classify.answers(learnt, TDP_W, some, classify.columns(table, TDP_W, some))

    answer(watts[:8])
    singles = []
    for place in range(SINGLES):
        started = now()
        answer(watts[place : place + 1])
        singles.append(1000 * (now() - started))
    many = np.tile(watts, (MANY // KNOWN, 1))
    started = now()
    answer(many)
    speed = MANY / (now() - started)
    kernels = Rocket.learn(watts / TDP_W, 2016, 0)
    kernels.transform(watts[:1] / TDP_W)
    started = now()
    for place in range(SINGLES // 10):
        kernels.transform(watts[place : place + 1] / TDP_W)
    rocket = 1000 * (now() - started) / (SINGLES // 10)
    what = "features, gates, 200 trees, distances: 10 s at 10 Hz"
    return [
        row(f"{what}, one window, median", float(np.median(singles)), "ms", goal=30, at_most=True),
        row(f"{what}, one window, 95 of 100", float(np.quantile(singles, 0.95)), "ms", goal=30,
            at_most=True),
        row("MiniRocket 2k, kernels alone, one window, mean", rocket, "ms"),
        row(f"{what}, batch of {MANY}", speed, "windows/s", goal=2000),
    ]  # fmt: skip
