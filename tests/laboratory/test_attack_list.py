"""Every cheat does what it says and no more; every honest variant computes what was declared."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from transformers import DynamicCache

from lydite.engines.protocol import Engine, Job, Piece
from lydite.engines.transformers_engine import TransformersEngine, load_model
from lydite.evidence.tokens.sampling import Sampling
from lydite.laboratory.cheats import CHEATS, Workshop, numerics, requests, weights
from lydite.laboratory.cheats.fronts import Front, close
from lydite.laboratory.honest import HONEST
from lydite.laboratory.streams import Question, render, seed_of

MODELS = Path(__file__).parents[2] / "models"
SMALL = MODELS / "lydite-small"
WORKSHOP = Workshop(model=SMALL, small_model=SMALL)
CHAT = {"messages": [{"role": "user", "content": "Write a function that reads a file of lines."}]}
TEXT = {"prompt": "def read_lines(path):\n    " + "# the lines of a file, stripped\n    " * 6}


@pytest.fixture(scope="module")
def declared() -> TransformersEngine:
    torch.set_num_threads(1)
    return TransformersEngine.load(SMALL, "fp32", 1)


def question(engine: Engine, prompt: dict[str, object], tokens: int = 12) -> Question:
    sampling = Sampling(max_tokens=tokens, ignore_eos=True)
    return Question(render(engine.codec, prompt), sampling, seed_of("attack list"))


def job(asked: Question) -> Job:
    return Job(
        request_id="r",
        prompt_ids=asked.prompt_ids,
        sampling=asked.sampling,
        seed=asked.seed,
        noise_position=len(asked.prompt_ids) - 1,
        top_logprobs=0,
        tapped=True,
    )


def answer(engine: Engine, asked: Question) -> tuple[list[int], np.ndarray, np.ndarray]:
    """The tokens, their log-probabilities and their states, as the provider tells them."""

    async def run() -> list[Piece]:
        return [piece async for piece in engine.generate(job(asked))]

    pieces = asyncio.run(run())
    states = [piece.states for piece in pieces if piece.states is not None]
    logprobs = [each.logprob for piece in pieces for each in piece.logprobs]
    tokens = [token for piece in pieces for token in piece.token_ids]
    return tokens, np.array(logprobs), np.concatenate(states)


def test_every_attack_on_the_model_itself_has_a_provider() -> None:
    threats = {cheat.threat for cheat in CHEATS.values()}
    assert threats >= {"1", "2", "3", "4", "4b", "5", "6", "7", "8", "9", "9b"}
    assert [name for name, cheat in CHEATS.items() if not cheat.does] == []


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_variant_says_what_the_declared_model_says(
    declared: TransformersEngine, name: str
) -> None:
    engine = HONEST[name](WORKSHOP)
    for prompt in (CHAT, TEXT):
        asked = question(declared, prompt)
        tokens, logprobs, states = answer(engine, asked)
        logits, ours, _ = declared.recompute(asked.prompt_ids, tokens)
        spread = np.sqrt(np.mean(np.square(states - ours), axis=1))
        assert spread.max() < (1e-3 if name.startswith("fp32") else 0.05)
        true = torch.log_softmax(torch.tensor(logits), -1).numpy()[range(len(tokens)), tokens]
        assert np.abs(true - logprobs).max() < 0.1
    close(engine)
    assert torch.get_num_threads() == 1


def test_weights_in_fp8_keep_three_bits_behind_the_first() -> None:
    model = load_model(SMALL, "fp32")
    before = model.lm_head.weight.clone()
    weights.to_fp8(model)
    after = model.lm_head.weight
    assert all(len(row.abs().unique()) <= 127 for row in after[:8])
    large = before.abs() > before.abs().amax(-1, keepdim=True) / 1000  # the rest may be subnormal
    assert ((after - before).abs() / before.abs())[large].max() <= 1 / 16 + 1e-6


def test_an_early_exit_leaves_one_layer_out() -> None:
    model = load_model(SMALL, "fp32")
    layers = list(model.base_model.layers)
    weights.shorten(model)
    assert list(model.base_model.layers) == layers[:-1]


def test_a_cache_in_fp8_holds_nothing_that_fp8_does_not() -> None:
    model = load_model(SMALL, "bf16")
    numerics.round_cache(model)
    cache = DynamicCache()
    model(input_ids=torch.tensor([[5, 6, 7, 8]]), past_key_values=cache)
    for layer in cache.layers:
        for kept in (layer.keys, layer.values):
            assert torch.equal(kept, kept.to(torch.float8_e4m3fn).to(kept.dtype))


def test_another_base_turns_every_pair_but_the_first() -> None:
    model = load_model(SMALL, "fp32")
    before = model.base_model.rotary_emb.inv_freq.clone()
    numerics.rebase(model)
    after = model.base_model.rotary_emb.inv_freq
    assert after[0] == before[0] == 1.0
    ratio = after[1:] / before[1:]
    assert torch.all(ratio < 1)
    assert torch.all(ratio.diff() < 0)


def test_the_skipped_position_lies_between_prompt_and_answer(declared: TransformersEngine) -> None:
    model = load_model(SMALL, "fp32")
    numerics.skip_a_position(model)
    places: list[int] = []
    model.base_model.register_forward_pre_hook(
        lambda _module, _given, options: places.extend(options["position_ids"][0].tolist()),
        with_kwargs=True,
    )
    engine = TransformersEngine(model, declared.codec, 1)
    asked = question(declared, CHAT, 4)
    answer(engine, asked)
    engine.close()
    size = len(asked.prompt_ids)
    assert places == [*range(size), size + 1, size + 2, size + 3]


def test_the_lost_shard_is_one_of_eight_in_one_layer() -> None:
    model = load_model(SMALL, "fp32")
    layers = model.base_model.layers
    plain = [layer.mlp.down_proj for layer in layers]
    given = torch.ones(1, plain[0].in_features)
    whole = [each(given) for each in plain]
    numerics.lose_a_shard(model)
    changed = [not torch.equal(each(given), was) for each, was in zip(plain, whole, strict=True)]
    assert changed == [number == len(layers) // 2 for number in range(len(layers))]


class Asked:
    """Remembers what it was asked."""

    context_length = vocabulary = 2048

    def __init__(self, codec: object) -> None:
        self.codec = codec
        self.jobs: list[Job] = []

    async def generate(self, one: Job) -> AsyncGenerator[Piece, None]:
        self.jobs.append(one)
        yield Piece(text="", token_ids=(1,), finish_reason="stop")


class Counter:
    """A workshop whose declared engine only remembers."""

    def __init__(self, codec: object) -> None:
        self.asked = Asked(codec)

    def declared(self) -> Asked:
        return self.asked


def passed_on(make: object, asked: Job, codec: object) -> Job:
    workshop = Counter(codec)
    engine = make(workshop)

    async def run() -> None:
        async for _ in engine.generate(asked):
            pass

    asyncio.run(run())
    return workshop.asked.jobs[0]


def test_cheats_of_the_prompt_change_the_prompt_alone(declared: TransformersEngine) -> None:
    codec = declared.codec
    for prompt in (CHAT, TEXT):
        asked = job(question(declared, prompt))
        ids = asked.prompt_ids
        read = {
            name: passed_on(getattr(requests, name), asked, codec)
            for name in ("truncated_context", "unread_end", "injected", "other_template")
        }
        for one in read.values():
            assert msgspec.structs.replace(one, prompt_ids=ids) == asked
        assert read["truncated_context"].prompt_ids == ids[-32:]
        assert read["unread_end"].prompt_ids == ids[:-4]
        hidden = codec.decode(read["injected"].prompt_ids)
        assert requests.HIDDEN_PROMPT in hidden
        assert hidden.replace(requests.HIDDEN_PROMPT, "") == codec.decode(ids)
    end = codec.render_chat([{"role": "user", "content": "x"}])[-2]
    templated = passed_on(requests.other_template, job(question(declared, CHAT)), codec).prompt_ids
    plain = question(declared, CHAT).prompt_ids
    assert templated == (*plain[:-2], plain[-1])
    assert plain[-2] == end
    assert passed_on(requests.other_template, job(question(declared, TEXT)), codec).prompt_ids == (
        question(declared, TEXT).prompt_ids
    )


def test_cheats_of_the_sampler_change_the_sampler_alone(declared: TransformersEngine) -> None:
    asked = job(question(declared, CHAT))
    replaced = msgspec.structs.replace
    expected = {
        "hotter": replaced(asked, sampling=replaced(asked.sampling, temperature=1.25)),
        "warmer": replaced(asked, sampling=replaced(asked.sampling, temperature=1.1)),
        "narrower": replaced(asked, sampling=replaced(asked.sampling, top_p=0.9)),
        "other_seed": replaced(asked, seed=asked.seed ^ 1),
    }
    for name, job_of_cheat in expected.items():
        assert passed_on(getattr(requests, name), asked, declared.codec) == job_of_cheat


def test_a_prefilled_answer_has_the_words_of_one_model_and_the_numbers_of_the_other() -> None:
    workshop = Workshop(model=MODELS / "lydite-base", small_model=SMALL, dtype="fp32")
    engine, cheap, true = CHEATS["prefilled"](workshop), workshop.cheap(), workshop.declared()
    asked = question(true, CHAT)
    tokens, logprobs, states = answer(engine, asked)
    assert tokens == answer(cheap, asked)[0]
    logits, ours, _ = true.recompute(asked.prompt_ids, tokens)
    exact = torch.log_softmax(torch.tensor(logits), -1).numpy()[range(len(tokens)), tokens]
    assert np.allclose(logprobs, exact, atol=1e-5)
    assert np.allclose(states, ours, atol=1e-5)
    for each in (engine, cheap, true):
        close(each)


def test_training_on_moves_every_layer_a_little_and_an_adapter_only_two_by_low_rank() -> None:
    workshop = Workshop(model=SMALL, small_model=SMALL, dtype="fp32")
    before = dict(load_model(SMALL, "fp32").named_parameters())
    models = {}
    for name in ("fine-tune", "adapter"):
        engine = CHEATS[name](workshop)
        models[name] = dict(engine._model.named_parameters())
        close(engine)
    for name, old in before.items():
        tuned = (models["fine-tune"][name] - old).abs()
        assert 0 < tuned.max() <= 3.01 * weights.TUNING_RATE
        step = models["adapter"][name] - old
        if name.split(".")[-2] in weights.ADAPTED:
            assert 1 <= torch.linalg.matrix_rank(step, rtol=1e-3) <= weights.ADAPTER_RANK
        else:
            assert not step.any()


def test_answers_are_replayed_with_the_numbers_that_they_had(declared: TransformersEngine) -> None:
    engine = CHEATS["replayed-answers"](WORKSHOP)
    asked = question(declared, CHAT, 6)
    first = [answer(engine, asked._replace(seed=asked.seed + n)) for n in range(4)]
    tokens, logprobs, states = answer(engine, asked._replace(seed=asked.seed + 9))
    assert any(
        tokens == said and np.array_equal(logprobs, numbers) and np.array_equal(states, served)
        for said, numbers, served in first
    )
    assert isinstance(engine, Front)
    close(engine)
