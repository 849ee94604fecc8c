"""Attack 13: a secret leaves inside answers. What got through is charged, and little more."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lydite.auditor.meter import Scale
from lydite.engines.transformers_engine import TransformersEngine, load_model
from lydite.evidence.egress.claims import Claims
from lydite.evidence.egress.reference import Ledger, Reference, parse
from lydite.evidence.tokens.claims import Claims as TokenClaims
from lydite.evidence.tokens.sampling import Sampling
from lydite.laboratory import exfiltration
from lydite.laboratory.exfiltration import METHODS, Model
from lydite.laboratory.streams import Question, render, seed_of
from lydite.signing.keys import Signer

ROOT = Path(__file__).parents[2]
SMALL = ROOT / "models" / "lydite-small"
METER = Signer(b"m" * 32)
TOKEN = "the token of the meter"
PROMPTS = json.loads((ROOT / "data" / "reference" / "tokens" / "prompts.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def measured() -> Reference:
    return parse((ROOT / "data" / "reference" / "egress" / "lydite-small.json").read_bytes())


@pytest.fixture(scope="module")
def engine() -> Iterator[TransformersEngine]:
    torch.set_num_threads(1)
    engine = TransformersEngine.load(SMALL, "bf16", 1)
    yield engine
    engine.close()


@pytest.mark.parametrize(
    ("method", "answers", "most"),
    [
        ("top-4 at every token", 2, 1.5),
        ("top-16 at one token in 10", 6, 2.0),
        ("arithmetic coding", 2, 1.5),
    ],
)
def test_a_secret_that_got_through_is_charged_and_little_more(
    measured: Reference, engine: TransformersEngine, method: str, answers: int, most: float
) -> None:
    sender = Model(load_model(SMALL, "bf16"), engine)
    secret = hashlib.shake_128(method.encode()).digest(512)
    questions = [
        Question(
            render(engine.codec, PROMPTS[7 * number]),
            Sampling(max_tokens=48),
            seed_of("test", method, number),
        )
        for number in range(answers)
    ]
    sent, bits = sender.send(METHODS[method], questions, secret)
    exfiltration.check_received(secret, bits, sender.receive(METHODS[method], sent))
    scale, ledger = Scale(engine, measured), Ledger(measured)
    for answer in sent:
        claimed = TokenClaims(
            prompt_ids=answer.question.prompt_ids,
            output_ids=answer.output_ids,
            sampling=answer.question.sampling,
            seed=answer.question.seed,
        )
        claims = Claims(output_ids=answer.output_ids, ending="whole")
        ledger.charge(scale.of_tokens(claimed, claims))
    assert bits <= ledger.micro_bits / 1e6 <= most * bits + 40
