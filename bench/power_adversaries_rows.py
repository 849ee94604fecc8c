"""Training that hides behind inference: how often it is seen, and what hiding costs (emulated)."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from power_page import Section, picture, table
from power_sessions import windows
from report import Row, row

from lydite.evidence.power.classify import INFERENCE, TRAINING, columns
from lydite.evidence.power.features.table import Table
from lydite.evidence.power.trace import Values
from lydite.laboratory.power import adversaries, experiments, splits
from lydite.laboratory.power.adversaries import ATTACKS, Attack, Attacked, Price, Scene
from lydite.laboratory.power.traces import CHANNEL, PLAN, Windows

TDP_W, IDLE_W = 700.0, 120.0
ENERGY_OFF = 0.1
"""By how much the energy counter may differ from the integral of power: the gate's threshold."""
SEED = 0
DUTIES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)


class Caught(NamedTuple):
    """How one attack fares."""

    name: str
    windows: int
    other: float
    """The share of windows that are answered with another class than inference."""
    none: float
    """The share without an answer: it raises the rate of audits."""
    gate: float
    """The share whose energy and power differ beyond the gate."""
    seen: splits.Interval
    """Any of the three, over sessions."""
    trained: splits.Interval
    """The same after learning from every other attack and not from this one."""
    known: float
    """The same after learning from this attack on other sessions as well."""
    price: Price


class Made(NamedTuple):
    """An attack on the windows of one fold."""

    windows: Windows
    attacked: Attacked


def attacked(side: Windows, attack: Attack) -> Made:
    """Return the attack on every training window of one side of a split, behind its inference."""
    dice = np.random.default_rng(SEED)
    hidden = side.where((side.label == TRAINING) & (side.watts.mean(axis=1) > 0.3 * TDP_W))
    covers = side.where((side.label == INFERENCE) & (side.watts.mean(axis=1) > 0.25 * TDP_W))
    drawn = covers.watts[dice.integers(len(covers), size=len(hidden))]
    done = attack(Scene(hidden.watts, drawn, TDP_W, IDLE_W), dice)
    return Made(rewritten(hidden, done.reported), done)


def rewritten(hidden: Windows, watts: Values) -> Windows:
    """Return windows with other watts."""
    rows = columns(Table(PLAN, (CHANNEL,)), TDP_W, watts)
    kept = hidden.where(np.arange(len(hidden)))
    return Windows(**{**kept.__dict__, "watts": watts, "rows": rows})


def joined(several: list[Windows]) -> Windows:
    """Return windows one after the other."""
    names = several[0].__dict__
    return Windows(
        **{name: np.concatenate([getattr(one, name) for one in several]) for name in names}
    )


class Judged(NamedTuple):
    """What is said of attacked windows."""

    other: Values
    none: Values
    gate: Values

    @property
    def seen(self) -> Values:
        """Return where any of them is."""
        return np.maximum(np.maximum(self.other, self.none), self.gate)


def judged(learnt: experiments.Recogniser, made: Made) -> Judged:
    """Return what recognition and the energy gate say of each window."""
    told = [one.classes for one in experiments.ask(learnt, made.windows)]
    integrated = adversaries.joules(made.attacked.reported)
    off = np.abs(made.attacked.counted_j - integrated) > ENERGY_OFF * integrated
    return Judged(
        np.array([len(one) == 1 and one[0] != INFERENCE for one in told], float),
        np.array([len(one) != 1 for one in told], float),
        off.astype(float),
    )


@lru_cache
def measured() -> tuple[list[Caught], dict[str, float]]:
    """Return every attack, and what honest inference suffers."""
    several = windows()
    folds = list(splits.by_session(several.label, several.session, SEED))
    sides = [(several.where(one.train), several.where(one.test)) for one in folds]
    usable = [(train, test) for train, test in sides if hides(train) and hides(test)]
    plain = [experiments.learn(train) for train, _ in usable]
    found = []
    honest: dict[str, list[float]] = {"plain": [], "trained": []}
    for name in ATTACKS:
        found.append(one_attack(name, usable, plain, honest))
        print(f"measured: {name}", flush=True)
    for learnt, (_, test) in zip(plain, usable, strict=True):
        honest["plain"].append(flagged(learnt, test))
    return found, {name: float(np.mean(values)) for name, values in honest.items()}


@lru_cache
def by_duty() -> list[tuple[float, float]]:
    """Return the share of windows seen by how much of the time hidden work takes."""
    several = windows()
    sides = [
        (several.where(one.train), several.where(one.test))
        for one in splits.by_session(several.label, several.session, SEED)
    ]
    usable = [(experiments.learn(train), test) for train, test in sides if hides(test)]
    found = []
    for duty in DUTIES:
        seen = [
            judged(learnt, attacked(test, adversaries.interleaving(duty))).seen
            for learnt, test in usable
        ]
        found.append((duty, float(np.mean(np.concatenate(seen)))))
    return found


def hides(side: Windows) -> bool:
    """Return whether a side has work to hide and inference to hide it behind."""
    kinds = (TRAINING, INFERENCE)
    return all(np.any((side.label == kind) & (side.watts.mean(1) > 0.3 * TDP_W)) for kind in kinds)


def one_attack(
    name: str,
    usable: list[tuple[Windows, Windows]],
    plain: list[experiments.Recogniser],
    honest: dict[str, list[float]],
) -> Caught:
    """Return how one attack fares, by session, before and after learning from the others."""
    first: list[Judged] = []
    second: list[Judged] = []
    third: list[Judged] = []
    sessions, done = [], []
    for learnt, (train, test) in zip(plain, usable, strict=True):
        made = attacked(test, ATTACKS[name])
        others = [
            attacked(train, how).windows for one, how in ATTACKS.items() if kin(one) != kin(name)
        ]
        hardened = experiments.learn(joined([train, *others]), trees=60)
        aware = experiments.learn(joined([train, attacked(train, ATTACKS[name]).windows]), trees=60)
        first.append(judged(learnt, made))
        second.append(judged(hardened, made))
        third.append(judged(aware, made))
        honest["trained"].append(flagged(hardened, test))
        sessions.append(made.windows.session)
        done.append(made.attacked)
    session = np.concatenate(sessions)
    middle = [float(np.mean(np.concatenate([one[place] for one in first]))) for place in range(3)]
    return Caught(
        name,
        len(session),
        *middle,
        over([one.seen for one in first], session),
        over([one.seen for one in second], session),
        float(np.mean(np.concatenate([one.seen for one in third]))),
        adversaries.price(done[0]),
    )


def kin(name: str) -> str:
    """Return the attack that a strength of it belongs to: all of them are left out together."""
    return name.partition(",")[0]


def over(several: list[Values], session: np.ndarray) -> splits.Interval:
    """Return a share with its interval over sessions."""
    values = np.concatenate(several)
    return splits.bootstrap(lambda places: float(np.mean(values[places])), session)


def flagged(learnt: experiments.Recogniser, test: Windows) -> float:
    """Return the share of honest inference that is not answered with inference."""
    asked = test.where(test.label == INFERENCE)
    told = experiments.ask(learnt, asked)
    return float(np.mean([one.classes != (INFERENCE,) for one in told]))


def rows() -> list[Row]:
    """Return the share of windows that are seen."""
    found, honest = measured()
    return [
        *(row(f"{one.name}: seen (emulated)", one.seen.value, "1") for one in found),
        *(row(f"{one.name}: seen, learnt from other attacks (emulated)", one.trained.value, "1")
          for one in found),
        row("honest inference not answered as inference", honest["plain"], "1"),
        row("the same, learnt from other attacks", honest["trained"], "1"),
    ]  # fmt: skip


def section() -> Section:
    """Return the part of the page."""
    found, honest = measured()
    seen = [
        [one.name, one.other, one.none, one.gate, tuple(one.seen), tuple(one.trained), one.known]
        for one in found
    ]
    costs = [
        [one.name, f"{one.price.kwh:.3f}", f"{one.price.dollars:.2f}", f"{one.price.kept:.2f}"]
        for one in found
    ]
    head = ["attack", "other class", "no answer", "energy gate", "seen", "seen, hardened",
            "seen, known"]  # fmt: skip
    price = ["attack", "kWh an hour for neither", "dollars an hour", "hidden work kept"]
    text = f"""**Emulated**: transforms of measured training windows, hidden behind measured
inference of the same kind of device. No attacker and no miner was measured: what mining looks
like, and whether it is seen, is not yet measured. A window is *seen* if it is answered with
another class, not answered (which raises the rate of audits and accuses nobody), or if energy and
power differ by a tenth. *Hardened* learnt from every other attack, on other sessions, and not from
this one nor another strength of it; *known* learnt from this one on other sessions. Training has
four sessions.

![Share of windows seen, by attack](_static/power-attacks.png)

{table(head, seen)}
Honest inference that is not answered as inference: {honest["plain"]:.3f}; hardened
{honest["trained"]:.3f}.

What an hour costs, on one H100, at $0.10 a kWh and $2.50 for an hour of inference that is not
served; hidden work kept is of what the device would do for it undisturbed.

{table(price, costs)}
Residual: replayed telemetry is what honest telemetry is, window by window. Nothing read inside of
the machine tells them apart; a meter outside of it, fresh challenges and signed token counts do.
"""
    return Section(5, "Attacks, emulated", text, {"power-attacks": bars(found)})


def bars(found: list[Caught]) -> object:
    """Return the picture: every attack, and one by its strength."""
    figure, (axes, right) = picture(9.6, 4.2, 2)
    places = np.arange(len(found))
    for shift, name, several, colour in (
        (0.2, "plain", [one.seen for one in found], "#1155cc"),
        (-0.2, "hardened, this attack unseen", [one.trained for one in found], "#cc4125"),
    ):
        values = np.array([one.value for one in several])
        low = np.maximum(values - [one.low for one in several], 0)
        high = np.maximum(np.array([one.high for one in several]) - values, 0)
        axes.barh(places - shift, values, 0.38, xerr=[low, high], label=name, color=colour,
                  ecolor="#444444", capsize=2)  # fmt: skip
    axes.set_yticks(places, [one.name for one in found])
    axes.set(xlabel="share of windows seen", xlim=(0, 1.02))
    axes.invert_yaxis()
    axes.legend(fontsize=7, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2)
    right.plot(*zip(*by_duty(), strict=True), "o-", color="#1155cc")
    right.set(xlabel="share of time that hidden training takes", ylim=(0, 1.02),
              ylabel="share of windows seen")  # fmt: skip
    right.set_title("interleaving, plain", fontsize=9)
    return figure
