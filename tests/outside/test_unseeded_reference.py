"""What engines without our seed are judged by: derived from the seeded Reference Value, and fit."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from lydite.appraisal import decision
from lydite.appraisal.policy import DEFAULT, Policy, Weight
from lydite.appraisal.policy import parse as parse_policy
from lydite.evidence.tokens.reference import CHANNELS, Reference, parse

ROOT = Path(__file__).parents[2]
DATA = ROOT / "data" / "reference" / "tokens"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    yield __import__("derive_unseeded")
    for name in ("derive_unseeded", "derive_reference"):
        sys.modules.pop(name, None)


def committed(name: str) -> Reference:
    return parse((DATA / f"{name}.json").read_bytes())


def policy(name: str = "surprisal-1") -> Policy:
    return parse_policy((ROOT / "data" / "policies" / f"{name}.json").read_bytes())


def test_it_differs_from_the_seeded_one_in_sampler_and_power_alone() -> None:
    unseeded, seeded = committed("lydite-base.unseeded"), committed("lydite-base")
    same = {"sampler": seeded.sampler, "alternatives": seeded.alternatives}
    assert unseeded.sampler == "none"
    assert msgspec.structs.replace(unseeded, **same) == seeded


def test_it_is_what_its_script_makes_of_the_seeded_one(script: ModuleType) -> None:
    assert script.derive(committed("lydite-base")) == committed("lydite-base.unseeded")


def test_the_policy_for_it_is_the_default_one_less_the_margins() -> None:
    weights = (Weight(channel="tokens/surprisal", weight_ppm=1_000_000),)
    alternatives = ("smaller-model", "other-temperature")
    changed = {"name": "surprisal-1", "weights": weights, "alternatives": alternatives}
    assert policy() == msgspec.structs.replace(DEFAULT, **changed)


def test_the_policy_for_it_can_be_met() -> None:
    assert decision.tokens_needed(policy(), (committed("lydite-base.unseeded"),)) < 1000


def test_log_probabilities_let_a_policy_ask_for_quantised_weights_without_a_seed() -> None:
    weights = tuple(
        Weight(channel=f"tokens/{name}", weight_ppm=500_000) for name in ("residual", "surprisal")
    )
    alternatives = ("smaller-model", "other-temperature", "int4-weights")
    name = "surprisal-residual-1"
    changed = {"name": name, "weights": weights, "alternatives": alternatives}
    assert policy(name) == msgspec.structs.replace(DEFAULT, **changed)
    assert decision.tokens_needed(policy(name), (committed("lydite-base.unseeded"),)) < 1000


def test_surprisal_alone_promises_nothing_about_quantised_weights() -> None:
    told = committed("lydite-base.unseeded").alternatives
    names = {one.name for one in told if one.channels == CHANNELS[1:]}
    assert "smaller-model" in names
    assert "int4-weights" not in names


CHEATS = {
    "another temperature": "other-temperature",
    "a smaller model": "smaller-model",
    "replayed answers": "replayed-answers",
    "a cheap model on a fifth of the requests": "mixed-20",
    "a hidden system prompt": "injected-prompt",
    "int4 weights": "int4-weights",
}


def test_the_documentation_quotes_both_references() -> None:
    page = (ROOT / "docs" / "engines.md").read_text("utf-8")
    powers = [
        {a.name: str(a.tokens) for a in committed(name).alternatives if a.channels == channels}
        for name, channels in (
            ("lydite-base", CHANNELS),
            ("lydite-base.unseeded", CHANNELS[1:]),
        )
    ]
    for words, name in CHEATS.items():
        seeded, unseeded = (power.get(name, "not within 8000") for power in powers)
        assert f"| {words} | {seeded} | {unseeded} |" in page
