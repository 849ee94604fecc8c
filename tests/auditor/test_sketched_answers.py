"""Tokens and sketches of one provider under one verdict: what each tells, and what both need."""

import base64
import json

import numpy as np
import pytest
from msgspec.structs import replace

from lydite.appraisal.policy import DEFAULT, Policy, Weight
from lydite.appraisal.references import digests
from lydite.auditor.bench import Bench
from lydite.auditor.service import Auditor
from lydite.engines.sketching import Sketcher
from lydite.errors import FormatError, Reason, VerificationError
from lydite.evidence.activations import reference as sketches
from lydite.evidence.activations import verifier
from lydite.evidence.activations.claims import Claims
from lydite.evidence.activations.spec import Spec
from lydite.evidence.activations.verifier import Taps
from lydite.laboratory.world import World
from lydite.messages.calibration import Alternative, Binned, Provenance
from lydite.messages.tier import Tier
from tests.evidence.sketched import histogram

SPEC = Spec(coordinates=8, delta="0.05")
BOTH = replace(
    DEFAULT,
    name="both",
    mandatory=("tokens", "activations"),
    weights=(
        Weight(channel="tokens/margin", weight_ppm=250_000),
        Weight(channel="tokens/surprisal", weight_ppm=250_000),
        Weight(channel="activations/sketch", weight_ppm=500_000),
    ),
)


class Sketched(World):
    """A world whose provider sketches each answer, unless it forges or leaves out sketches."""

    def __init__(self, policy: Policy = BOTH, forged: bool = False, silent: bool = False) -> None:
        super().__init__(policy=policy)
        self.forged, self.silent = forged, silent
        self.sketcher = Sketcher(spec=SPEC, weights_root=self.model.weights_root)
        self.known = (self.reference, calibrated(self))
        self.trust = replace(self.trust, references=digests(self.known))
        bench = Bench(self.model, self.known)
        provider = self.trust.providers[0]
        self.auditor = Auditor(self, self.trust, provider, policy, bench, self.auditor_key)

    def field(self, receipt_id: str, prompt: list[int], output: list[int]) -> dict[str, str]:
        states = self.model.recompute(prompt, output).states
        made = self.sketcher.field(receipt_id, prompt, output, states)
        if self.forged:
            size = len(base64.b64decode(made["sketch"]))
            dice = np.random.default_rng(len(self.leaves))
            made["sketch"] = base64.b64encode(dice.bytes(size)).decode()
        return made

    def _answer(self, request: bytes, seed: int) -> bytes:
        answer = json.loads(super()._answer(request, seed))
        (choice,) = answer["choices"]
        prompt = self.model.codec.encode(json.loads(request)["prompt"])
        if not self.silent:
            number = f"{len(self.leaves) + 1:032x}"
            choice["activations"] = self.field(number, prompt, choice["token_ids"])
        return json.dumps(answer).encode()


def calibrated(world: Sketched, responses: int = 100, tokens: int = 20) -> sketches.Reference:
    """What honest sketches of a bigram look like, in two bins."""
    blank = sketches.Reference(
        name="bigram",
        weights_root=world.model.weights_root,
        width=world.model.vocabulary,
        spec=SPEC,
        auditor="numpy, one pass",
        sketch=Binned(edges=(), histograms=()),
        inner=None,
        error_ppm=1_000,
        sigma_micro=10,
        noise_micro=10,
        alternatives=tuple(
            Alternative(name="int4-weights", channels=ways, log10_level_milli=5000, tokens=200)
            for ways in (("activations/sketch",),)
        ),
        provenance=Provenance(script="0" * 64, data="0" * 64, prompts="0" * 64, versions=("1",)),
    )
    rows = []
    for number in range(responses):
        prompt = list(world.model.codec.encode(f"calibration {number}"))
        output = [(7 * number + n * n) % world.model.vocabulary for n in range(tokens)]
        states = world.model.recompute(prompt, output).states
        field = world.sketcher.field(f"{number:032x}", prompt, output, states)
        claimed = Claims(
            receipt_id=f"{number:032x}",
            prompt_ids=tuple(prompt),
            output_ids=tuple(output),
            sketch=base64.b64decode(field["sketch"]),
        )
        rows.append(verifier.verify(claimed, Taps(states), blank).values("sketch"))
    edges = (max(map(max, rows)) + 1,)
    itself = histogram(rows, edges, "itself")
    return replace(blank, sketch=Binned(edges=edges, histograms=(itself,)))


def test_an_honest_provider_who_sketches_is_affirmed_by_both_kinds_offline_too() -> None:
    world = Sketched()
    world.traffic(20)
    verdict = world.judged()
    assert (verdict.tier, verdict.scored) == (Tier.AFFIRMING, 20)
    assert [c.name for c in verdict.channels][-1] == "activations/sketch"
    assert world.verify(world.bundle()).tier is Tier.AFFIRMING


def test_forged_sketches_accuse_though_every_token_is_right() -> None:
    world = Sketched(forged=True)
    world.traffic(20)
    verdict = world.judged()
    assert (verdict.tier, verdict.reason) == (Tier.CONTRAINDICATED, Reason.INCONSISTENT_ACTIVATIONS)
    assert world.verify(world.bundle()).reason is Reason.INCONSISTENT_ACTIVATIONS


def test_a_mandatory_sketch_that_is_missing_affirms_nothing_and_accuses_nobody() -> None:
    world = Sketched(silent=True)
    world.traffic(20)
    verdict = world.judged()
    assert (verdict.tier, verdict.reason, verdict.scored) == (Tier.NONE, Reason.NO_SKETCH, 0)
    assert [(s.reason, s.count) for s in verdict.skipped] == [(Reason.NO_SKETCH, 20)]


def test_where_nobody_asks_for_sketches_tokens_alone_decide() -> None:
    world = Sketched(policy=DEFAULT, forged=True)
    world.traffic(20)
    assert world.judged().tier is Tier.AFFIRMING


def test_two_references_of_one_kind_do_not_go_together() -> None:
    world = Sketched()
    with pytest.raises(VerificationError):
        Bench(world.model, (world.reference, world.reference))


def test_a_channel_without_a_reference_is_an_error_and_not_a_silent_one() -> None:
    world = World(policy=BOTH)
    world.traffic(3)
    with pytest.raises(FormatError):
        world.judged()
