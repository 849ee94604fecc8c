"""Stored passports with sketches, held against real engines: honest ones stay within them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lydite.cli.passport_tables import payload
from lydite.engines.sketching import Sketcher
from lydite.engines.transformers_engine import TransformersEngine
from lydite.errors import Reason, UnavailableError
from lydite.evidence.activations import reference as activations
from lydite.evidence.activations.reference import Covering
from lydite.laboratory.cheats import CHEATS, Workshop
from lydite.laboratory.cheats.fronts import close
from lydite.messages import passport as passports
from lydite.messages.finding import Finding, Measure
from lydite.messages.tier import Tier
from lydite.numerics import asking, measuring, prompts, scoring, sketch_merging, sketches
from lydite.numerics.local import Way, start

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "lydite-small"
MADE = ROOT / "data" / "reference" / "passports" / "lydite-small" / "sketched"


def merged(*names: str) -> Covering:
    files = [(MADE / f"{name}.passport.json").read_bytes() for name in (*names, "int4")]
    *honest, int4 = [passports.parse(payload(each.removesuffix(b"\n"))) for each in files]
    found = sketch_merging.merge(honest, [int4], "stored", 1e-3).reference
    assert found is not None
    return found


@pytest.fixture(scope="module")
def auditor() -> Iterator[TransformersEngine]:
    torch.set_num_threads(1)
    engine = TransformersEngine.load(MODEL, "fp32", 1)
    yield engine
    engine.close()


def scores(auditor: TransformersEngine, ask: asking.Ask, known: Covering) -> list[tuple[int, ...]]:
    stored = prompts.read(ROOT / "data" / "reference" / "tokens" / "prompts.json")
    asked = prompts.questions(stored, auditor.codec, auditor.context_length, 3)
    sketched = sketches.blank(sketcher(known), auditor.width)
    reference = measuring.blank(known.weights_root, "lydite/v1", 60_000)
    return [scoring.score(auditor, one, reference, sketched).sketch for one in ask(asked)]


def sketcher(known: Covering) -> Sketcher:
    return Sketcher(spec=known.spec, weights_root=known.weights_root)


def log10_e(known: Covering, rows: list[tuple[int, ...]]) -> float:
    findings = [
        Finding(
            kind="activations",
            tier=Tier.NONE,
            reason=Reason.RECORDED,
            reference=activations.digest(known),
            measures=(Measure(name="sketch", unit="micro-state", values=row),),
        )
        for row in rows
    ]
    [(_, level)] = activations.channel_log10_e(known, findings)
    return level


@pytest.mark.parametrize("way", [Way("bf16", 3), Way("fp32", 1, attention="eager")])
def test_honest_engines_of_other_batches_and_kernels_are_never_accused(
    auditor: TransformersEngine, way: Way
) -> None:
    known = merged("bf16", "fp32")
    local = start(MODEL, way)
    try:
        ask = asking.in_process(local.engine, tapped=True, sketcher=sketcher(known))
        rows = scores(auditor, ask, known)
    finally:
        local.engine.close()
    assert log10_e(known, rows) < 3
    if way.dtype == "bf16":
        assert log10_e(merged("fp32"), rows) > 3, "without its passport it would be"


def test_int4_is_found_within_one_answer(auditor: TransformersEngine) -> None:
    known = merged("bf16", "fp32")
    engine = CHEATS["int4-weights"](Workshop(model=MODEL, small_model=MODEL))
    try:
        ask = asking.in_process(engine, tapped=True, sketcher=sketcher(known))
        rows = scores(auditor, ask, known)
    finally:
        close(engine)
    assert log10_e(known, rows[:1]) > 4


def test_a_stack_that_makes_no_sketches_is_named(auditor: TransformersEngine) -> None:
    local = start(MODEL, Way("fp32", 3))
    try:
        with pytest.raises(UnavailableError) as raised:
            scores(auditor, asking.in_process(local.engine, tapped=True), merged("fp32"))
    finally:
        local.engine.close()
    assert raised.value.reason is Reason.NO_SKETCH
