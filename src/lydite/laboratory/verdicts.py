"""The verdict table: every attack against every kind of evidence, on the same captured tensors.

Honest implementations make the null of each channel; others of their answers are the streams that
must not be accused; then each attack answers, and its streams are watched until they are. Who runs
it decides how much (``laboratory.plans``); nothing here prints.
"""

import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import torch
import transformers

from lydite.engines.protocol import Engine
from lydite.engines.transformers_engine import TransformersEngine
from lydite.engines.weights import check_manifest
from lydite.evidence.tokens.reference import digest, parse
from lydite.evidence.tokens.sampling import Sampling
from lydite.laboratory import nulls, parts, texts, toploc
from lydite.laboratory.captures import Capture, capture
from lydite.laboratory.channels import PEERS, TOKEN_CHANNELS, sketch_channel, spec_for
from lydite.laboratory.cheats import CHEATS, POOL_SIZE, Workshop
from lydite.laboratory.cheats.fronts import close
from lydite.laboratory.honest import HONEST
from lydite.laboratory.judging import (
    ALPHAS,
    Alarms,
    Cell,
    Kept,
    Size,
    Yardstick,
    alarms,
    cells,
)
from lydite.laboratory.parts import Part
from lydite.laboratory.plans import MIXED, Plan
from lydite.laboratory.streams import Question, render, seed_of
from lydite.messages.calibration import BY_TAILS

SMALLER = "smaller-model"
COORDINATES = (8, 16)


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """One column of the table."""

    name: str
    bytes_a_token: float
    ours: bool
    score_s: float
    """Processor time to score a thousand tokens, after their recomputation."""
    edges: tuple[int, ...] = ()
    survival: tuple[float, ...] = ()
    """At most so many honest scores lie in a bin or beyond."""
    effect: float = 1.0
    """How many tokens count for one, as answers differ from one another."""
    rho: float = 0.0
    """The autocorrelation of honest scores that is furthest from zero."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One attack."""

    name: str
    threat: str
    does: str
    answers: int
    tokens: int
    cells: dict[str, Cell]


class Honest(msgspec.Struct, frozen=True, kw_only=True):
    """One honest variant, or all of them."""

    name: str
    tokens: int
    alarms: dict[str, Alarms]


class Table(msgspec.Struct, kw_only=True):
    """What is known so far."""

    doing: str = "loading the models"
    model: str = ""
    alphas: tuple[float, ...] = ALPHAS
    evidence: list[Evidence] = []
    honest: list[Honest] = []
    attacks: list[Row] = []
    parts: list[Part] = []
    recompute_s: float = 0.0
    """Processor time to recompute a thousand tokens."""
    elapsed_s: float = 0.0
    provenance: dict[str, str] = {}


class Laboratory:
    """A declared model, its auditor, and what they have measured."""

    def __init__(self, plan: Plan, show: Callable[[Table], None]) -> None:
        """Load what every step needs; ``show`` is called whenever the table has grown.

        Raises:
            ConfigurationError: a model or its Reference Value is not there.
        """
        self._plan, self._show, self._started = plan, show, time.monotonic()
        self.table = Table(model=plan.model)
        model = plan.models / plan.model
        self._workshop = Workshop(
            model=model, small_model=plan.models / plan.cheap, max_batch=plan.attack_answers
        )
        self._root = check_manifest(model).root
        self._auditor = TransformersEngine.load(model, "fp32", 1)
        prompts = (plan.data / "prompts.json").read_bytes()
        self._prompts = [render(self._auditor.codec, each) for each in json.loads(prompts)]
        self._reference = parse((plan.data / f"{plan.model}.json").read_bytes())
        self._by: Yardstick | None = None
        self._kept: dict[str, list[Kept]] = {}
        self._spent: dict[str, float] = {}
        self._scored = 0
        self.table.provenance = {
            "judged by": BY_TAILS,
            "weights": self._root,
            "prompts": hashlib.sha256(prompts).hexdigest(),
            "reference": digest(self._reference),
            "plan": hashlib.sha256(msgspec.json.encode(_named(plan), order="sorted")).hexdigest(),
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
            "numpy": np.__version__,
        }

    def run(self) -> Table:
        """Measure all that the plan names, and return the table."""
        self._calibrate()
        self._measure()
        self._watch_honest()
        for name in self._plan.attacks:
            self._attack(name)
        if self._plan.parts:
            self._divide()
        self._say("done")
        self._auditor.close()
        return self.table

    def _calibrate(self) -> None:
        """Make the null of every channel from honest answers that no stream has."""
        plan = self._plan
        groups: dict[str, list[Capture]] = {}
        for group, variants in plan.calibrated:
            for name in variants:
                self._say(f"calibrating: {name}")
                made = HONEST[name](self._workshop)
                said = self._captured(made, f"calibration/{name}", plan.calibration_answers)
                groups.setdefault(group, []).extend(said)
        width = self._auditor.width
        specs = [spec_for(list(groups.values()), each) for each in COORDINATES]
        sketches = [sketch_channel(spec, self._root, width) for spec in specs]
        channels = (*TOKEN_CHANNELS, *sketches, *PEERS)
        self._by = Yardstick(channels, {}, texts.Likelihood(0, 0, 1), ())
        honest = {name: [self._keep(each) for each in said] for name, said in groups.items()}
        answers = {name: [each.scores for each in said] for name, said in honest.items()}
        self._by = Yardstick(
            channels,
            nulls.calibrate(channels, answers, self._reference),
            texts.likelihood([[each.surprise for each in said] for said in honest.values()]),
            tuple(each.text for said in honest.values() for each in said),
        )

    def _measure(self) -> None:
        """Let cheats answer what their attack is not asked, and bet on what they score."""
        cheats = {}
        for name in self._plan.measured:
            self._say(f"measuring: {name}")
            made = CHEATS[name](self._workshop)
            asked = self._others(f"attack/{name}", self._plan.measured_answers)
            cheats[name] = [self._keep(one).scores for one in self._told(made, asked)]
        by = self._yardstick()
        known = {name: null.knowing(name, cheats) for name, null in by.nulls.items()}
        self._by = by._replace(nulls=known)

    def _watch_honest(self) -> None:
        """Let every honest variant answer, and count the streams that are accused."""
        plan, every = self._plan, []
        tokens = 0
        for name in plan.honest:
            self._say(f"honest: {name}")
            count = plan.honest_streams * plan.stream_answers
            made = HONEST[name](self._workshop)
            said = [self._keep(one) for one in self._captured(made, f"honest/{name}", count)]
            streams = [
                said[i : i + plan.stream_answers] for i in range(0, len(said), plan.stream_answers)
            ]
            tokens += sum(each.tokens for each in said)
            found = alarms(self._yardstick(), streams, name)
            size = sum(each.tokens for each in said)
            self.table.honest.append(Honest(name=name, tokens=size, alarms=found))
            every += streams
            self._kept.setdefault("honest", []).extend(said)
        if every:
            found = alarms(self._yardstick(), every, "all")
            self.table.honest.append(Honest(name="all", tokens=tokens, alarms=found))

    def _attack(self, name: str) -> None:
        """Let one attack answer, and add its row."""
        self._say(f"attack: {name}")
        plan = self._plan
        if name.startswith(MIXED) and SMALLER in self._kept:
            share = int(name.removeprefix(MIXED)) / 100
            said = parts.mixed(self._kept["honest"], self._kept[SMALLER], share, name)
        else:
            made = CHEATS[name](self._workshop)
            captured = self._captured(made, f"attack/{name}", plan.attack_answers)
            said = self._kept[name] = [self._keep(one) for one in captured]
        size = Size(plan.resamples, plan.longest)
        row = Row(
            name=name,
            threat=CHEATS[name].threat,
            does=CHEATS[name].does,
            answers=len(said),
            tokens=sum(each.tokens for each in said),
            cells=cells(self._yardstick(), said, name, size),
        )
        self.table.attacks.append(row)

    def _divide(self) -> None:
        """Measure cheating on a share of the requests against what is possible."""
        for cheat in parts.CHEATS_IN_PART:
            for channel in parts.EVIDENCE:
                if cheat in self._kept:
                    self._say(f"5 % of the requests: {cheat} by {channel}")
                    null = self._yardstick().nulls[channel]
                    sides = self._kept["honest"], self._kept[cheat]
                    self.table.parts += parts.measure(cheat, channel, null, *sides)

    def _captured(self, engine: Engine, label: str, count: int) -> list[Capture]:
        """Let ``engine`` answer ``count`` questions of its own, and recompute them."""
        return self._told(engine, self._asked(label, self._places(label, count)))

    def _others(self, label: str, count: int) -> list[Question]:
        """Return at most ``count`` questions whose prompts an attack is not asked."""
        taken = set(self._places(label, self._plan.attack_answers))
        free = [place for place in range(len(self._prompts)) if place not in taken]
        return self._asked(f"measured/{label}", free[:: max(1, len(free) // count)][:count])

    def _places(self, label: str, count: int) -> list[int]:
        start, whole = seed_of(label) % len(self._prompts), len(self._prompts)
        return [(start + 7 * i) % whole for i in range(count)]

    def _asked(self, label: str, places: Sequence[int]) -> list[Question]:
        sampling = Sampling(max_tokens=self._plan.tokens)
        return [
            Question(self._prompts[place], sampling, seed_of("lab", label, number))
            for number, place in enumerate(places)
        ]

    def _told(self, engine: Engine, questions: Sequence[Question]) -> list[Capture]:
        """Let ``engine`` answer, and recompute what it says.

        A few come before the rest, so that who repeats himself has something to repeat.
        """
        try:
            said = capture(engine, self._auditor, questions, self._reference, POOL_SIZE)
        finally:
            close(engine)
        for one in said:
            self._spend("recompute", one.recompute_s)
            for channel in TOKEN_CHANNELS:  # scored together
                self._spend(channel.name, one.score_s)
        return said

    def _keep(self, one: Capture) -> Kept:
        """Return the scores of one answer in every channel."""
        scores = {}
        for channel in self._yardstick().channels:
            started = time.process_time()
            scores[channel.name] = tuple(channel.score(one))
            self._spend(channel.name, time.process_time() - started)
        size = len(one.claims.output_ids)
        self._scored += size
        blocks = toploc.blocks(one.theirs, one.ours)
        rejected = tuple(block.rejected() for block in blocks)
        return Kept(scores, one.text, -float(one.true.mean()), rejected, size)

    def _spend(self, name: str, seconds: float) -> None:
        self._spent[name] = self._spent.get(name, 0.0) + seconds

    def _yardstick(self) -> Yardstick:
        assert self._by is not None  # calibration is the first step
        return self._by

    def _say(self, doing: str) -> None:
        """Bring the table up to date, and show it."""
        table = self.table
        table.doing, table.elapsed_s = doing, round(time.monotonic() - self._started, 1)
        if self._by is not None and self._by.nulls:
            thousands = max(self._scored, 1) / 1000
            table.recompute_s = round(self._spent["recompute"] / thousands, 4)
            table.evidence = evidence(self._by, self._spent, thousands)
        self._show(table)


def evidence(by: Yardstick, spent: Mapping[str, float], thousands: float) -> list[Evidence]:
    """Return the columns of the table, in order, and what each costs."""
    known = {each.name: each for each in by.channels}
    most = max(each.bytes_a_token for each in by.channels if each.ours)
    found = []
    for name in by.names():
        channel = known.get(name)
        null = by.nulls.get(name)
        rhos = [each.rho for _, each in null.dependence] if null else []
        size = channel.bytes_a_token if channel else 0.0
        if name == nulls.ALL:
            size = most + known["tokens/residual"].bytes_a_token
        elif name.startswith("toploc"):
            size = toploc.BLOCK_BYTES / toploc.BLOCK_TOKENS
        found.append(
            Evidence(
                name=name,
                bytes_a_token=size,
                ours=name == nulls.ALL or (channel is not None and channel.ours),
                score_s=round(spent.get(name, 0.0) / thousands, 5),
                edges=null.binned.edges if null else (),
                survival=null.survival if null else (),
                effect=null.effect() if null and null.survival else 1.0,
                rho=max(rhos, key=abs, default=0.0),
            )
        )
    return found


def _named(plan: Plan) -> dict[str, Any]:
    """Return a plan as plain fields, paths as text."""
    fields: Sequence[str] = plan.__struct_fields__
    return {name: msgspec.to_builtins(getattr(plan, name), enc_hook=str) for name in fields}
