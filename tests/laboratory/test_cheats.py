"""Each cheat looks honest from outside and is not."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from lydite.engines.protocol import Engine, Job, Piece
from lydite.engines.transformers_engine import TransformersEngine, load_model
from lydite.evidence.tokens.attester import sample
from lydite.evidence.tokens.sampling import Sampling
from lydite.laboratory.cheats import CHEATS, Mixed, Workshop
from lydite.laboratory.cheats.weights import quantise
from lydite.laboratory.serve import main

MODELS = Path(__file__).parents[2] / "models"
WORKSHOP = Workshop(model=MODELS / "lydite-base", small_model=MODELS / "lydite-small")
SAMPLING = Sampling(max_tokens=32, ignore_eos=True)


@pytest.fixture(scope="module")
def reference() -> Iterator[TransformersEngine]:
    torch.set_num_threads(1)
    engine = TransformersEngine.load(WORKSHOP.model, "bf16")
    yield engine
    engine.close()


def job(engine: Engine, number: int, sampling: Sampling = SAMPLING) -> Job:
    question = f"How does the method number {number} work?"
    ids = tuple(engine.codec.render_chat([{"role": "user", "content": question}]))
    return Job(
        request_id=f"request-{number}",
        prompt_ids=ids,
        sampling=sampling,
        seed=1000 + number,
        noise_position=len(ids) - 1,
    )


def answers(engine: Engine, jobs: list[Job]) -> list[list[Piece]]:
    async def one(asked: Job) -> list[Piece]:
        return [piece async for piece in engine.generate(asked)]

    async def run() -> list[list[Piece]]:
        first = [await one(asked) for asked in jobs[:4]]
        return first + list(await asyncio.gather(*(one(asked) for asked in jobs[4:])))

    return asyncio.run(run())


def mismatches(reference: Engine, asked: Job, pieces: list[Piece]) -> float:
    """The share of tokens that recomputing with the declared model does not draw."""
    output = [token for piece in pieces for token in piece.token_ids]
    logits = reference.logits(asked.prompt_ids, output)
    drawn = [
        sample(row, asked.sampling, asked.seed, asked.noise_position + index)
        for index, row in enumerate(logits)
    ]
    return float(np.mean([a != b for a, b in zip(drawn, output, strict=True)]))


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("honest", 0.0, 0.02),
        ("smaller-model", 0.25, 0.9),
        ("int4-weights", 0.015, 0.3),
        ("int8-weights", 0.0, 0.05),
        ("other-temperature", 0.03, 0.5),
        ("injected-prompt", 0.03, 0.6),
        ("replayed-answers", 0.4, 1.0),
        ("mixed-20", 0.02, 0.4),
    ],
)
def test_each_cheat_looks_honest_until_it_is_recomputed(
    reference: TransformersEngine, name: str, least: float, most: float
) -> None:
    engine = CHEATS[name](WORKSHOP)
    assert engine.context_length == reference.context_length
    assert engine.vocabulary == reference.vocabulary
    jobs = [job(engine, number) for number in range(20)]
    shares = []
    for asked, pieces in zip(jobs, answers(engine, jobs), strict=True):
        output = [token for piece in pieces for token in piece.token_ids]
        assert engine.codec.decode(output) == "".join(piece.text for piece in pieces)
        assert pieces[-1].finish_reason == "length"
        assert len(output) == 32
        shares.append(mismatches(reference, asked, pieces))
    assert least <= np.mean(shares) <= most


def test_a_replayed_answer_obeys_the_limit_of_its_request() -> None:
    engine = CHEATS["replayed-answers"](WORKSHOP)
    jobs = [job(engine, number) for number in range(4)]
    short = [job(engine, n, Sampling(max_tokens=7, ignore_eos=True)) for n in range(4, 8)]
    first, later = answers(engine, jobs), answers(engine, short)
    pool = {tuple(t for piece in pieces for t in piece.token_ids)[:4] for pieces in first}
    for pieces in later:
        output = tuple(token for piece in pieces for token in piece.token_ids)
        assert len(output) <= 7
        assert output[:4] in pool
        assert pieces[-1].finish_reason == "length"


def test_an_answer_too_short_to_replay_is_made_honestly(reference: TransformersEngine) -> None:
    engine = CHEATS["replayed-answers"](WORKSHOP)
    answers(engine, [job(engine, number) for number in range(4)])
    longer = job(engine, 9, Sampling(max_tokens=60, ignore_eos=True))
    (pieces,) = answers(engine, [longer])
    assert mismatches(reference, longer, pieces) < 0.05


def test_the_cheap_share_is_the_stated_one() -> None:
    class Named:
        context_length = vocabulary = 1
        codec = None

        def __init__(self, name: str) -> None:
            self.name = name

        def generate(self, _: Job) -> str:
            return self.name

    mixed = Mixed(Named("declared"), Named("cheap"), 0.2)
    asked = [
        Job(request_id=str(n), prompt_ids=(), sampling=SAMPLING, seed=0, noise_position=0)
        for n in range(4000)
    ]
    share = sum(mixed.generate(one) == "cheap" for one in asked) / len(asked)
    assert abs(share - 0.2) < 0.02


@pytest.mark.parametrize(("levels", "group", "values"), [(7, 32, 15), (127, None, 255)])
def test_quantised_weights_take_few_values(levels: int, group: int | None, values: int) -> None:
    model = load_model(WORKSHOP.small_model, "fp32")
    before = model.lm_head.weight.clone()
    quantise(model, levels, group)
    after = model.lm_head.weight
    block = after[5, : group or after.shape[1]]
    assert len(block.unique()) <= values
    step = before[5, : group or after.shape[1]].abs().max() / levels
    assert (block - before[5, : block.shape[0]]).abs().max() <= step / 2 + 1e-6


def test_the_command_names_its_cheats(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--model", "m", "--small-model", "s", "--cheat", "none"])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert all(name in said for name in CHEATS)
