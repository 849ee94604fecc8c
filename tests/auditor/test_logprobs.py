"""Providers that give log-probabilities, and others that give something else, before an auditor."""

import json
from typing import Any

import numpy as np
import pytest

from lydite.errors import Reason
from lydite.evidence.tokens.reference import MARGIN, RESIDUAL
from lydite.laboratory.world import World
from lydite.messages.audit import Verdict
from lydite.messages.tier import Tier


class Scoring(World):
    """A provider that says ``logprobs`` of the tokens that it serves, changed by ``change``."""

    def __init__(self, change: Any) -> None:
        super().__init__()
        self._say = change

    def _answer(self, request: bytes, seed: int) -> bytes:
        answer = json.loads(super()._answer(request, seed))
        choice, prompt = answer["choices"][0], json.loads(request)["prompt"]
        rows = self.model.recompute(self.model.codec.encode(prompt), choice["token_ids"]).logits
        shifted = rows - np.log(np.exp(rows.astype(np.float64)).sum(axis=1, keepdims=True))
        values = [float(row[t]) for row, t in zip(shifted, choice["token_ids"], strict=True)]
        choice["logprobs"] = self._say({"token_logprobs": values})
        return json.dumps(answer).encode()


def judged(change: Any) -> tuple[Verdict, World]:
    world = Scoring(change)
    for number in range(12):
        world.serve(f"request {number} ", logprobs=0)
    return world.judged(), world


def residuals(world: World) -> list[tuple[int, ...]]:
    audits = [audit for _, audit in world.auditor.case.audits.values()]
    return [finding.values(RESIDUAL) for audit in audits for finding in audit.predicate.findings]


def test_true_log_probabilities_are_measured_beside_the_margins() -> None:
    verdict, world = judged(lambda said: said)
    assert (verdict.tier, verdict.skipped) == (Tier.AFFIRMING, ())
    assert [len(values) for values in residuals(world)] == [32] * 12
    assert max(map(max, residuals(world))) <= 1
    assert world.verify(world.bundle()).tier is Tier.AFFIRMING


@pytest.mark.parametrize(
    "change",
    [
        lambda _: None,
        lambda _: {"token_logprobs": []},
        lambda said: {"token_logprobs": [0.0] * len(said["token_logprobs"])},
        lambda said: {"token_logprobs": [-9999] * len(said["token_logprobs"])},
        lambda said: {"token_logprobs": [round(v) or -1 for v in said["token_logprobs"]]},
    ],
    ids=["none", "empty", "zeros", "-9999", "whole nats"],
)
def test_what_says_nothing_is_named_and_leaves_the_tokens_to_be_weighed(change: Any) -> None:
    verdict, world = judged(change)
    assert [(s.reason, s.count) for s in verdict.skipped] == [(Reason.NO_LOGPROBS, 12)]
    assert verdict.tier is Tier.AFFIRMING  # by the margins; nothing rests on what was not there
    assert not any(residuals(world))
    assert world.verify(world.bundle()).tier is Tier.AFFIRMING


@pytest.mark.parametrize(
    "change",
    [
        lambda said: {"token_logprobs": said["token_logprobs"][1:]},
        lambda said: {"token_logprobs": [0.5, *said["token_logprobs"][1:]]},
        lambda said: said | {"top_logprobs": [{"a": -0.1, "b": -0.1}] * 32},
        lambda _: {"token_logprobs": "all of them"},
        lambda _: ["odd"],
    ],
    ids=["one too few", "above zero", "more than one together", "text", "a list"],
)
def test_what_cannot_be_is_a_warning_and_the_tokens_are_weighed_all_the_same(change: Any) -> None:
    verdict, world = judged(change)
    assert (verdict.tier, verdict.reason) == (Tier.WARNING, Reason.BAD_LOGPROBS)
    audits = [audit.predicate for _, audit in world.auditor.case.audits.values()]
    assert all(audit.findings[0].values(MARGIN) for audit in audits)
    assert not any(residuals(world))


def test_whoever_did_not_ask_misses_nothing() -> None:
    world = Scoring(lambda _: None)
    world.traffic(12)
    assert world.judged().skipped == ()
