"""Weighs an endpoint that serves open weights which are at hand.

Asks natural prompts, recomputes each answer by one teacher-forced pass, and stops as soon as an
accusation stands or the budget is spent.
"""

import secrets
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from lydite.auditor.probing import power, verdict
from lydite.auditor.probing.asking import Asked, Asker
from lydite.auditor.probing.power import Seen
from lydite.auditor.probing.reading import Reader, Served, plan_of
from lydite.auditor.probing.verdict import Alternative, Evidence, Verdict
from lydite.engines.protocol import Engine
from lydite.errors import FormatError, LyditeError, Reason, UnavailableError, VerificationError
from lydite.evidence.endpoint import lattice, verifier
from lydite.evidence.endpoint import reference as expected
from lydite.evidence.endpoint.claims import Answer, Draw
from lydite.evidence.endpoint.reference import ASKED, GENERIC, Bounds, Levels, Plan, habits
from lydite.messages.canonical import Integer, Message
from lydite.messages.finding import Finding

_POWER_ANSWERS = 16
"""How many answers the alternatives are recomputed on, for the sizes."""
_SILENT_MOST = 8
"""After so many answers in a row that did not come, an endpoint counts as gone."""
_LOOKS = 8
"""The e-values are looked at after so many answers more, then at wider and wider steps."""
_SAME_CHARACTERS = 60
"""Two draws of a text of this length are never the same by chance."""


class Question(NamedTuple):
    """What an endpoint is held against, and how surely."""

    engine: Engine
    bounds: Bounds
    alternatives: Mapping[str, Engine]
    alpha: float
    at_once: int
    covered: bool = True
    """Whether the bounds are those of the stack that the endpoint says it runs, or of any."""


class Told(Protocol):
    """Who is told of progress."""

    def __call__(self, answers: int, tokens: int, log10_e_milli: int) -> None:
        """Be told how many answers came, how many tokens were scored, and of the e-value."""


class Outcome(Message, frozen=True, kw_only=True):
    """The verdict and the records that it can be recomputed from."""

    verdict: Verdict
    plan: Plan
    nonce: str
    findings: tuple[Finding, ...]
    bounds: str
    """Digest of the bounds that the e-values are against."""
    calibrated: bool
    """Whether these bounds hold residuals of honest machines with these weights."""
    covered: bool
    """Whether they are for the stack that the endpoint says it runs; else they only warn."""
    lattice: dict[str, Integer]
    """Diagnostic alone: of how many answers the log-probabilities lie on the lattice of bf16."""


def weigh(
    asker: Asker, prompts: Iterator[dict[str, Any]], question: Question, told: Told
) -> Outcome:
    """Audit one endpoint.

    Raises:
        UnavailableError: the endpoint answers nothing, or refuses even the plainest request; or
            it draws alike whatever the seed (``Reason.NOT_RANDOM``), so that nothing can be said.
        FormatError: what it answers is no answer.
    """
    first, again = asker.settle(prompts)
    greedy = asker.style.temperature == 0.0
    if not greedy and first.text == again.text and len(first.text) >= _SAME_CHARACTERS:
        raise UnavailableError("two draws are the same text: no seed is heeded", Reason.NOT_RANDOM)
    nonce = secrets.token_bytes(32)
    scale = _Scale(question, plan_of(first, greedy=greedy), nonce, asker.style.temperature)
    silent = looked = 0
    accusing = _Accusing(question, scale.evidence)
    found = accusing.levels()
    for asked in asker.all(prompts, question.at_once):
        silent = silent + 1 if isinstance(asked.answer, UnavailableError) else 0
        scale.put(asked)
        scored = len(scale.evidence.findings)
        if scored > looked + looked // _LOOKS:
            looked, found = scored, accusing.levels()
        told(scale.evidence.answers, scale.evidence.tokens, found[0].merged)
        if verdict.settled(found, question.alpha) or silent >= _SILENT_MOST:
            break
    found = verdict.levels(question.bounds, scale.evidence)
    sizes = scale.alternatives()
    return Outcome(
        verdict=verdict.decide(scale.evidence, found, sizes, question.alpha, accusing.levels()),
        plan=scale.evidence.plan,
        nonce=nonce.hex(),
        findings=tuple(scale.evidence.findings),
        bounds=expected.digest(question.bounds),
        calibrated=question.bounds.calibrated is not None,
        covered=question.covered,
        lattice=dict(scale.lattice),
    )


class _Accusing:
    """The e-values that may accuse: by the bounds if they cover the endpoint, else by any's."""

    def __init__(self, question: Question, evidence: Evidence) -> None:
        self._bounds = question.bounds if question.covered else GENERIC
        self._evidence = evidence

    def levels(self) -> tuple[Levels, ...]:
        """Return them as they are now."""
        return verdict.levels(self._bounds, self._evidence)


class _Scale:
    """Scores answers one after the other, and keeps what the sizes are computed from."""

    def __init__(self, question: Question, plan: Plan, nonce: bytes, temperature: float) -> None:
        self.lattice = {"on": 0, "off": 0, "unclear": 0}
        self._question, self._nonce = question, nonce
        self._reader = Reader(question.engine)
        self._draw = Draw(temperature=temperature)
        self._draws = {ASKED: self._draw, **habits(temperature)}
        self._half = 0.0
        self.evidence = Evidence(plan=plan, draws=tuple(self._draws))
        self._kept: list[tuple[tuple[int, ...], Served]] = []

    def put(self, asked: Asked) -> None:
        """Take one answer, or count why it taught nothing."""
        evidence = self.evidence
        evidence.answers += 1
        try:
            if isinstance(asked.answer, LyditeError):
                raise asked.answer
            self._score(asked.prompt, asked.answer)
        except (UnavailableError, FormatError, VerificationError) as error:
            evidence.skipped[error.reason] += 1

    def alternatives(self) -> tuple[Alternative, ...]:
        """Return what it takes to notice each alternative, by its own logits."""
        return tuple(
            self._alternative(name, engine) for name, engine in self._question.alternatives.items()
        )

    def _score(self, prompt: dict[str, Any], answer: Answer) -> None:
        engine, evidence = self._question.engine, self.evidence
        ids = rendered(engine, prompt)
        served = self._reader.served(answer, ids, evidence.plan)
        logits = engine.recompute(ids, served.ids).logits
        said = None if served.logprobs is None else (served.logprobs, answer.decimals)
        nonce = self._nonce[:28] + evidence.answers.to_bytes(4, "big")
        finding = verifier.verify(served.ids, logits, self._draws, said, nonce)
        evidence.findings.append(finding)
        evidence.tokens += len(served.ids)
        evidence.masked += served.masked
        if evidence.plan.logprobs and said is None:
            evidence.unread[answer.fault or Reason.BAD_LOGPROBS] += 1
        if said is not None:
            tops = [[value for _, value in one.top] for one in answer.reported]
            self._half = max(self._half, 0.5 * 10.0**-answer.decimals)
            self.lattice[lattice.judge(tops, answer.decimals)] += 1
        if len(self._kept) < _POWER_ANSWERS:
            self._kept.append((ids, served))

    def _alternative(self, name: str, other: Engine) -> Alternative:
        engine, evidence = self._question.engine, self.evidence
        pairs = [
            (
                engine.recompute(ids, served.ids).logits.astype(np.float64),
                other.recompute(ids, served.ids).logits.astype(np.float64),
            )
            for ids, served in self._kept
        ]
        question = self._question
        seen = Seen(evidence.plan, self._draw, self._half)
        size = power.needed(question.bounds, seen, pairs, question.alpha)
        accused, noticed = size.accuse, [size.notice]
        if not question.covered:
            wide = power.needed(GENERIC, seen, pairs, question.alpha)
            accused, noticed = wide.accuse, [size.notice, size.accuse]
        return Alternative(
            name=name,
            accused_within=accused,
            noticed_within=min((one for one in noticed if one is not None), default=None),
            channels=size.channels,
        )


def rendered(engine: Engine, prompt: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the tokens of a prompt as the declared template has them.

    Raises:
        FormatError: the template refuses it, or it has no tokens.
    """
    if "messages" in prompt:
        ids = tuple(engine.codec.render_chat(prompt["messages"]))
    else:
        ids = tuple(engine.codec.encode(prompt["prompt"]))
    if not ids:
        raise FormatError("the prompt renders to no tokens")
    return ids
