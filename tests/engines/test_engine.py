"""The engine draws what its sampler says, alone or in company."""

import asyncio
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from answering import SMALL, answer, job, margins, text, together, tokens
from transformers import AutoConfig, AutoModelForCausalLM

from lydite.engines.protocol import Job, Piece
from lydite.engines.transformers_engine import TransformersEngine
from lydite.errors import ConfigurationError, FormatError, UnavailableError
from lydite.evidence.tokens.sampling import Sampling

FREE = Sampling(max_tokens=24, ignore_eos=True)


def jobs(engine: TransformersEngine, count: int, sampling: Sampling = FREE) -> list[Job]:
    return [
        job(engine, f"Write a function that returns {'very ' * n}{n}", sampling, seed=n)
        for n in range(count)
    ]


def test_decoding_draws_what_one_teacher_forced_pass_would_draw(
    engine: TransformersEngine,
) -> None:
    (one,) = jobs(engine, 1)
    output = tokens(asyncio.run(answer(engine, one)))
    assert len(output) == 24
    assert margins(engine, one, output).max() < 0.01


@pytest.mark.parametrize("sampling", [Sampling(max_tokens=9, temperature=0.0, ignore_eos=True)])
def test_temperature_zero_takes_the_greatest_logit(
    engine: TransformersEngine, sampling: Sampling
) -> None:
    (one,) = jobs(engine, 1, sampling)
    output = tokens(asyncio.run(answer(engine, one)))
    assert engine.logits(one.prompt_ids, output).argmax(axis=1).tolist() == output


def test_answers_do_not_depend_on_their_company(engine: TransformersEngine) -> None:
    many = jobs(engine, 20)  # more than the batch holds, of different lengths

    async def run() -> list[list[int]]:
        return [tokens(one) for one in await together(*(answer(engine, j) for j in many))]

    for one, output in zip(many, asyncio.run(run()), strict=True):
        assert len(output) == 24
        assert margins(engine, one, output).max() < 0.01


def test_rows_join_and_leave_without_disturbing_the_others(engine: TransformersEngine) -> None:
    lengths = [3, 40, 1, 17, 60, 9]
    many = [
        job(engine, "x" * (9 * n % 70), Sampling(max_tokens=n, ignore_eos=True)) for n in lengths
    ]

    async def staggered(one: Job, delay: int) -> list[int]:
        await asyncio.sleep(delay * 0.02)
        return tokens(await answer(engine, one))

    async def run() -> list[list[int]]:
        return await together(*(staggered(one, n) for n, one in enumerate(many)))

    for one, output in zip(many, asyncio.run(run()), strict=True):
        assert len(output) == one.sampling.max_tokens
        assert margins(engine, one, output).max() < 0.01


def test_one_seed_gives_one_answer_and_another_seed_another(engine: TransformersEngine) -> None:
    first, same = (asyncio.run(answer(engine, job(engine, "hi", FREE, 5))) for _ in range(2))
    other = asyncio.run(answer(engine, job(engine, "hi", FREE, 6)))
    assert tokens(first) == tokens(same)
    assert tokens(first) != tokens(other)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 3.0])
def test_the_text_is_the_decoding_of_the_tokens(
    engine: TransformersEngine, temperature: float
) -> None:
    sampling = Sampling(max_tokens=48, temperature=temperature, ignore_eos=True)

    async def run() -> None:
        for pieces in await together(*(answer(engine, j) for j in jobs(engine, 6, sampling))):
            assert engine.codec.decode(tokens(pieces)) == text(pieces)
            assert [bool(piece.finish_reason) for piece in pieces[:-1]] == [False] * (
                len(pieces) - 1
            )
            assert pieces[-1].finish_reason == "length"

    asyncio.run(run())


def test_an_answer_ends_with_its_end_token(engine: TransformersEngine) -> None:
    many = jobs(engine, 12, Sampling(temperature=0.6, max_tokens=200))

    async def run() -> list[list[int]]:
        answers = await together(*(answer(engine, j) for j in many))
        return [tokens(pieces) for pieces in answers if pieces[-1].finish_reason == "stop"]

    ended = asyncio.run(run())
    assert ended
    assert all(engine.is_end(output[-1]) for output in ended)
    assert not any(engine.is_end(token) for output in ended for token in output[:-1])


def test_a_stop_string_ends_the_answer_before_itself(engine: TransformersEngine) -> None:
    whole = asyncio.run(answer(engine, job(engine, "hi", FREE)))
    stop = text(whole)[11:15]
    stopped = asyncio.run(
        answer(engine, job(engine, "hi", Sampling(max_tokens=24, ignore_eos=True, stop=(stop,))))
    )
    assert text(stopped) == text(whole).partition(stop)[0]
    assert stopped[-1].finish_reason == "stop"
    ids = tokens(stopped)
    assert ids == tokens(whole)[: len(ids)]
    assert engine.codec.decode(ids).startswith(text(stopped) + stop)


def test_the_context_bounds_the_answer(engine: TransformersEngine) -> None:
    ids = (0, *([300] * (engine.context_length - 4)))
    full = Job(
        request_id="",
        prompt_ids=ids,
        sampling=Sampling(max_tokens=50, ignore_eos=True),
        seed=1,
        noise_position=len(ids) - 1,
    )
    pieces = asyncio.run(answer(engine, full))
    assert len(tokens(pieces)) == 3
    assert pieces[-1].finish_reason == "length"


def test_leaving_an_answer_stops_the_work_on_it() -> None:
    engine = TransformersEngine.load(SMALL, "fp32", max_batch=1)
    passes = []
    engine._model.register_forward_hook(lambda *_: passes.append(1))

    async def run() -> None:
        pieces = engine.generate(job(engine, "hi", Sampling(max_tokens=900, ignore_eos=True)))
        await anext(pieces)
        await pieces.aclose()
        await answer(engine, job(engine, "hi", Sampling(max_tokens=3)))  # waits for the only place

    asyncio.run(run())
    engine.close()
    assert len(passes) < 50


def test_closing_the_engine_fails_what_is_unfinished() -> None:
    engine = TransformersEngine.load(SMALL, "fp32", max_batch=1)

    async def run() -> list[BaseException | list[int]]:
        long = job(engine, "hi", Sampling(max_tokens=900, ignore_eos=True))
        answers = [asyncio.create_task(answer(engine, long)) for _ in range(3)]
        await asyncio.sleep(0.1)  # one is being decoded, the others wait for its place
        await asyncio.to_thread(engine.close)
        return await asyncio.gather(*answers, return_exceptions=True)

    assert [type(outcome) for outcome in asyncio.run(run())] == [UnavailableError] * 3


def test_a_model_that_fails_fails_its_answers_and_serves_the_next() -> None:
    engine = TransformersEngine.load(SMALL, "fp32")
    broken = [True]

    def hook(*_: object) -> None:
        if broken:
            broken.pop()
            raise RuntimeError("no memory")

    engine._model.register_forward_pre_hook(hook)
    with pytest.raises(UnavailableError, match="no memory"):
        asyncio.run(answer(engine, job(engine, "hi", FREE)))
    assert asyncio.run(answer(engine, job(engine, "hi", FREE)))
    engine.close()


def test_recomputed_logits_have_a_row_for_each_output_token(engine: TransformersEngine) -> None:
    logits = engine.logits([0, 5, 9], [7, 8])
    assert logits.shape == (2, engine.vocabulary)
    assert logits.dtype == np.float32
    assert np.allclose(logits[0], engine.logits([0, 5, 9], [1])[0], atol=1e-4)


@pytest.mark.parametrize(
    ("prompt", "output"),
    [([], [1]), ([1], [2048]), ([-1], [1]), ([1] * 1000, [1] * 25)],
)
def test_tokens_that_no_answer_can_have_are_not_recomputed(
    engine: TransformersEngine, prompt: list[int], output: list[int]
) -> None:
    with pytest.raises(FormatError):
        engine.logits(prompt, output)


@pytest.mark.parametrize("missing", ["model.safetensors", "tokenizer.json", "config.json"])
def test_an_incomplete_model_directory_is_refused(tmp_path: Path, missing: str) -> None:
    shutil.copytree(SMALL, tmp_path / "model")
    (tmp_path / "model" / missing).unlink()
    with pytest.raises(ConfigurationError):
        TransformersEngine.load(tmp_path / "model")


def test_torn_weights_are_refused(tmp_path: Path) -> None:
    shutil.copytree(SMALL, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ConfigurationError):
        TransformersEngine.load(tmp_path / "model")


OTHER_MODELS = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 256},
    "mistral": {"sliding_window": 12},
    "qwen2": {},
    "gemma2": {"sliding_window": 12, "head_dim": 16},
    "phi3": {"pad_token_id": 0},
}
SHAPE = {
    "vocab_size": 2048,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "eos_token_id": 1,
}


@pytest.mark.parametrize("kind", OTHER_MODELS)
def test_other_architectures_decode_together_as_they_recompute(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(3)
    config = AutoConfig.for_model(kind, **{**SHAPE, **OTHER_MODELS[kind]})
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SMALL / name, tmp_path)
    engine = TransformersEngine.load(tmp_path, "fp32")
    assert engine.context_length == 256
    many = jobs(engine, 6, Sampling(max_tokens=20, ignore_eos=True, temperature=0.9))

    async def run() -> list[list[int]]:
        return [tokens(one) for one in await together(*(answer(engine, j) for j in many))]

    for one, output in zip(many, asyncio.run(run()), strict=True):
        assert margins(engine, one, output).max() < 0.01
    engine.close()


def test_a_tapped_answer_brings_the_states_that_its_tokens_were_drawn_from(
    engine: TransformersEngine,
) -> None:
    many = [msgspec.structs.replace(one, tapped=True) for one in jobs(engine, 3)]

    async def run() -> list[list[Piece]]:
        return await together(*(answer(engine, one) for one in many))

    for one, pieces in zip(many, asyncio.run(run()), strict=True):
        states = np.concatenate([piece.states for piece in pieces if piece.states is not None])
        again = engine.recompute(one.prompt_ids, tokens(pieces)).states
        assert states.shape == again.shape == (24, engine.width)
        assert np.abs(states - again).max() < 0.1 * np.abs(again).max()


def test_an_answer_that_nobody_taps_brings_no_states(engine: TransformersEngine) -> None:
    (one,) = jobs(engine, 1)
    assert all(piece.states is None for piece in asyncio.run(answer(engine, one)))
