"""Every provider of the laboratory by name: the honest one, and those that cheat.

Every cheat answers under the declared model's name, with the declared tokenizer, and reports
the prompt's token ids and usage of an honest provider; all use the seed that they are given, but
for the one that is named for not doing so. Numbers are those of the threat model. Knows nothing of
receipts or audits.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from lydite.engines.protocol import Engine
from lydite.laboratory.cheats import numerics, requests, weights
from lydite.laboratory.cheats.fronts import Mixed, Prefilled, Replaying, Workshop

__all__ = ["CHEATS", "HONEST_NAME", "POOL_SIZE", "Cheat", "Mixed", "Workshop"]

HONEST_NAME = "honest"
POOL_SIZE = 4


class Cheat(NamedTuple):
    """One way to serve what was not declared; called with a workshop, it is a provider."""

    threat: str
    """Its number in the threat model; empty for honesty and for honest mistakes."""
    does: str
    make: Callable[[Workshop], Engine]

    def __call__(self, workshop: Workshop) -> Engine:
        """Return the provider."""
        return self.make(workshop)


def _mixed(percent: int) -> Cheat:
    def make(workshop: Workshop) -> Engine:
        return Mixed(workshop.declared(), workshop.cheap(), percent / 100)

    return Cheat("7", f"sends {percent} % of the requests to a smaller model", make)


def _prefilled(workshop: Workshop) -> Engine:
    return Prefilled(workshop.declared(), workshop.cheap())


CHEATS: Mapping[str, Cheat] = {
    HONEST_NAME: Cheat("", "serves the declared model", Workshop.declared),
    "smaller-model": Cheat("1", "serves a smaller model", Workshop.cheap),
    "int4-weights": Cheat("2", "rounds weights to 4 bits, in groups of 32", weights.int4),
    "int8-weights": Cheat("2", "rounds weights to 8 bits, a scale a row", weights.int8),
    "fp8-weights": Cheat("2", "rounds weights to fp8 (e4m3), a scale a row", weights.fp8),
    "fp8-cache": Cheat("3", "keeps keys and values in fp8 (e4m3)", numerics.fp8_cache),
    "early-exit": Cheat("4", "leaves out the last layer", weights.early_exit),
    "truncated-context": Cheat(
        "4b", "reads only the last 32 tokens of a prompt", requests.truncated_context
    ),
    "unread-end": Cheat("4b", "leaves the last 4 tokens of a prompt unread", requests.unread_end),
    "injected-prompt": Cheat("5", "puts a system prompt of its own first", requests.injected),
    "other-template": Cheat("5", "renders chats by another template", requests.other_template),
    "replayed-answers": Cheat(
        "6",
        f"answers {POOL_SIZE} requests, then says the same again",
        lambda workshop: Replaying(workshop.declared(), POOL_SIZE),
    ),
    "mixed-50": _mixed(50),
    "mixed-20": _mixed(20),
    "mixed-10": _mixed(10),
    "mixed-5": _mixed(5),
    "mixed-1": _mixed(1),
    "fine-tune": Cheat(
        "8", "sends requests to weights trained on for three steps", weights.fine_tune
    ),
    "adapter": Cheat("8", "sends requests to a model with a low-rank adapter", weights.adapter),
    "other-temperature": Cheat("9", "samples at 1.25 times the temperature", requests.hotter),
    "warmer": Cheat("9", "samples at 1.1 times the temperature", requests.warmer),
    "other-top-p": Cheat("9", "cuts the distribution at a top-p of 0.9", requests.narrower),
    "other-seed": Cheat("9", "draws with a seed of its own", requests.other_seed),
    "prefilled": Cheat("9b", "lets a smaller model write, and reads that itself", _prefilled),
    "wrong-rope-base": Cheat("", "rotates with a base of 20,000 for 10,000", numerics.other_base),
    "off-by-one-context": Cheat(
        "", "places answers one position too far from their prompt", numerics.off_by_one
    ),
    "tensor-parallel-bug": Cheat(
        "", "adds up one layer before the last of eight shards is in", numerics.lost_shard
    ),
}
"""By name; `mixed-N` answers N of 100 requests with the smaller model."""

SEEDLESS = frozenset({"replayed-answers", "other-seed"})
"""Whose tokens are the declared model's and not this seed's, as those of an honest engine that
ignores its seed are: called misconfigured until another channel tells them from it."""
