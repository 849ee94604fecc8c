"""A provider that answers badly: each way has a reason, none affirms, and none is an accusation."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from lydite.errors import Reason
from lydite.laboratory.world import World
from lydite.messages.tier import Tier

Choice = dict[str, Any]


class Mangled(World):
    """A world whose provider spoils each answer."""

    def __init__(self, spoil: Callable[[dict[str, Any]], object]) -> None:
        super().__init__()
        self._spoil = spoil

    def _answer(self, request: bytes, seed: int) -> bytes:
        answer = json.loads(super()._answer(request, seed))
        self._spoil(answer)
        return json.dumps(answer).encode() if answer else b""


def choice(change: Callable[[Choice], object]) -> Callable[[dict[str, Any]], object]:
    return lambda answer: change(answer["choices"][0])


SPOILT: dict[str, tuple[Callable[[dict[str, Any]], object], Tier, Reason]] = {
    "nothing at all": (lambda a: a.clear(), Tier.WARNING, Reason.ODD_ANSWER),
    "no choice": (lambda a: a.update(choices=[]), Tier.WARNING, Reason.ODD_ANSWER),
    "no tokens": (
        choice(lambda c: c.update(token_ids=[], text="")),
        Tier.NONE,
        Reason.NO_TOKEN_IDS,
    ),
    "no ids": (choice(lambda c: c.pop("token_ids")), Tier.WARNING, Reason.NO_TOKEN_IDS),
    "one id fewer": (choice(lambda c: c["token_ids"].pop()), Tier.WARNING, Reason.TEXT_DIFFERS),
    "one id more": (choice(lambda c: c["token_ids"].append(3)), Tier.WARNING, Reason.TEXT_DIFFERS),
    "an id beyond the vocabulary": (
        choice(lambda c: c["token_ids"].__setitem__(0, 1 << 20)),
        Tier.WARNING,
        Reason.UNKNOWN_TOKEN,
    ),
    "a foreign vocabulary": (
        choice(lambda c: c.update(token_ids=[50_000 + t for t in c["token_ids"]])),
        Tier.WARNING,
        Reason.UNKNOWN_TOKEN,
    ),
    "a permuted vocabulary": (
        choice(lambda c: c.update(token_ids=[(t + 1) % 31 for t in c["token_ids"]])),
        Tier.WARNING,
        Reason.TEXT_DIFFERS,
    ),
    "an id below zero": (
        choice(lambda c: c["token_ids"].__setitem__(0, -1)),
        Tier.WARNING,
        Reason.ODD_ANSWER,
    ),
    "an id that is no number": (
        choice(lambda c: c["token_ids"].__setitem__(0, "a")),
        Tier.WARNING,
        Reason.ODD_ANSWER,
    ),
    "fewer log-probabilities than tokens": (
        choice(lambda c: c.update(logprobs={"token_logprobs": [-1.5]})),
        Tier.WARNING,
        Reason.BAD_LOGPROBS,
    ),
    "log-probabilities above zero": (
        choice(lambda c: c.update(logprobs={"token_logprobs": [0.25] * len(c["token_ids"])})),
        Tier.WARNING,
        Reason.BAD_LOGPROBS,
    ),
    "log-probabilities that sum to more than one": (
        choice(
            lambda c: c.update(
                logprobs={
                    "token_logprobs": [-0.125] * len(c["token_ids"]),
                    "top_logprobs": [{"a": -0.125, "b": -0.25}] * len(c["token_ids"]),
                }
            )
        ),
        Tier.WARNING,
        Reason.BAD_LOGPROBS,
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_bad_answers_warn_by_name_and_neither_affirm_nor_accuse(name: str) -> None:
    spoil, tier, reason = SPOILT[name]
    world = Mangled(spoil)
    for number in range(12):
        world.serve(f"request {number} ", logprobs=0)
    found = world.judged()
    assert (found.tier, found.reason) == (tier, reason)
    assert any(skip.reason is reason and skip.count == 12 for skip in found.skipped)
    report = world.verify(world.bundle())
    assert (report.tier, report.reason) == (tier, reason)
