"""The committed Reference Values are what the committed script makes of the committed data."""

import hashlib
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from lydite.engines.weights import check_manifest
from lydite.errors import Reason
from lydite.evidence.tokens.reference import (
    CHANNELS,
    KIND,
    MARGIN,
    Reference,
    channel_log10_e,
    digest,
    null,
    parse,
)
from lydite.laboratory.streams import log10, log_path
from lydite.messages.finding import Finding, Measure
from lydite.messages.tier import Tier

ROOT = Path(__file__).parents[2]
DATA = ROOT / "data" / "reference" / "tokens"
SCRIPTS = ROOT / "scripts"
MODELS = ("lydite-base", "lydite-small")


def committed(model: str) -> Reference:
    return parse((DATA / f"{model}.json").read_bytes())


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield __import__("derive_reference")
    sys.modules.pop("derive_reference")


@pytest.mark.parametrize("model", MODELS)
def test_the_reference_follows_from_the_kept_scores(model: str, script) -> None:
    kept = DATA / f"{model}.npz"
    with np.load(kept) as raw:
        derived = script.honest_reference(model, dict(raw), kept)
    reference = committed(model)
    assert reference == msgspec.structs.replace(derived, alternatives=reference.alternatives)


@pytest.mark.parametrize("model", MODELS)
def test_the_reference_names_what_it_was_made_from(model: str, script) -> None:
    reference = committed(model)
    made_from = {
        reference.provenance.script: [SCRIPTS / name for name in script.SCRIPTS],
        reference.provenance.data: [DATA / f"{model}.npz"],
        reference.provenance.prompts: [DATA / "prompts.json"],
    }
    for named, paths in made_from.items():
        assert hashlib.sha256(b"".join(map(Path.read_bytes, paths))).hexdigest() == named
    assert reference.weights_root == check_manifest(ROOT / "models" / model).root


@pytest.mark.parametrize("model", MODELS)
def test_the_price_of_the_composite_null_is_small(model: str) -> None:
    assert 1.0 < sum(null(committed(model))) < 1.006  # nats a token, nearly


@pytest.mark.parametrize("model", MODELS)
def test_no_prompt_that_a_client_picks_makes_a_near_tie_into_evidence(model: str) -> None:
    reference = committed(model)
    worst = 2 * reference.noise_micro  # two tokens, each off by the noise, the unlucky way round
    tied = Finding(
        kind=KIND,
        tier=Tier.NONE,
        reason=Reason.RECORDED,
        reference=digest(reference),
        measures=(Measure(name=MARGIN, unit="micro-logit", values=(worst - 1,)),),
    )
    levels = dict(channel_log10_e(reference, [tied] * 2000))
    assert levels[CHANNELS[0]] <= 0.0


@pytest.mark.parametrize("model", MODELS)
def test_no_honest_implementation_is_even_suspected_on_what_it_was_calibrated_on(
    model: str, script
) -> None:
    reference = committed(model)
    with np.load(DATA / f"{model}.npz") as kept:
        raw = dict(kept)
    for cell in script.CELLS:
        path = list(log_path(reference, script.answers_of(raw, f"honest/{cell.name}")))
        assert log10(max(path)) < 1.301, cell.name


def test_not_even_its_hardest_answers_again_and_again_are_held_against_an_implementation(
    script,
) -> None:
    reference = committed("lydite-base")
    with np.load(DATA / "lydite-base.npz") as kept:
        raw = dict(kept)
    for cell in script.CELLS:
        answers = script.scored_only({"all": script.answers_of(raw, f"honest/{cell.name}")})
        for name, group in (answers | script.hardest(answers)).items():
            said = script.scored_against(reference, group * (3 if name != "all" else 1))
            level = dict(channel_log10_e(reference, said))["tokens/residual"]
            assert level < 1.301, f"{cell.name}, {name}"


def test_residuals_tell_what_tokens_do_not() -> None:
    told = committed("lydite-base").alternatives
    alone = {one.name: one.tokens for one in told if one.channels == ("tokens/residual",)}
    margins = {one.name: one.tokens for one in told if one.channels == CHANNELS}
    assert alone["int4-weights"] < margins["int4-weights"] / 5
    assert "fp8-cache" in alone
    assert "other-temperature" not in alone  # it says nothing of how tokens are drawn


def test_power_is_known_for_the_cheats_that_policies_name() -> None:
    names = {alternative.name for alternative in committed("lydite-base").alternatives}
    assert {"smaller-model", "int4-weights", "other-temperature", "mixed-20"} <= names
