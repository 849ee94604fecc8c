"""Answers recomputed together come out as they do alone, whoever stands beside them."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from answering import SMALL
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from lydite.engines import forcing
from lydite.engines.buckets import SHARED_LEAST, Answer, Limits, plan
from lydite.engines.protocol import Recomputed, one_by_one
from lydite.engines.transformers_engine import TransformersEngine
from lydite.errors import FormatError

RNG = np.random.default_rng(9)
tokens = st.lists(st.integers(0, 3), min_size=1, max_size=80)
written = st.builds(Answer, tokens, tokens)


def ids(count: int) -> list[int]:
    return [int(each) for each in RNG.integers(8, 2040, count)]


def mixed() -> list[Answer]:
    """Long and short, of one token, twice the same, and ten with a system prompt in common."""
    system = ids(150)
    shared = [Answer([*system, *ids(n)], ids(n + 5)) for n in range(1, 11)]
    lone = [Answer(ids(p), ids(o)) for p, o in ((1, 1), (900, 100), (3, 2), (40, 60), (200, 1))]
    return [*shared, *lone, lone[3]]


@pytest.fixture(params=["fp32", "bf16"])
def auditor(request: pytest.FixtureRequest) -> Iterator[TransformersEngine]:
    engine = TransformersEngine.load(SMALL, request.param, inner=True)
    yield engine
    engine.close()


def furthest(one: Recomputed, other: Recomputed) -> float:
    """The greatest difference of two results, for each part in units of its greatest number."""
    pairs = zip(one, other, strict=True)
    return max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in pairs if a is not None)


def last_digits(engine: TransformersEngine) -> float:
    """How far honest results of the same tokens may lie apart, with the kernels of any machine."""
    return 1e-5 if engine._model.dtype == torch.float32 else 0.1


def test_answers_recomputed_together_come_out_as_alone(auditor: TransformersEngine) -> None:
    answers = mixed()
    alone = dict(one_by_one(auditor, answers))
    together = dict(auditor.recompute_all(answers))
    assert sorted(together) == sorted(alone) == list(range(len(answers)))
    for place, one in alone.items():
        assert [part.shape for part in one] == [part.shape for part in together[place]]
        assert furthest(one, together[place]) < last_digits(auditor)


@pytest.mark.parametrize(
    "beside", [Answer([5] * 1000, [6] * 24), Answer([5], [6]), Answer([7], [8])]
)
def test_what_stands_beside_an_answer_does_not_show_in_it(
    auditor: TransformersEngine, beside: Answer
) -> None:
    """Not a very long one, nor one of a single token, nor one whose states are not numbers."""
    one, other = Answer(ids(20), ids(40)), Answer(ids(22), ids(39))
    auditor.limits = Limits(positions=10_000, padded_percent=100)
    with torch.inference_mode():
        auditor._model.get_input_embeddings().weight[7] = torch.nan
    found = dict(auditor.recompute_all([one, beside, other]))
    assert np.isnan(found[1].logits).all() == (beside.prompt_ids == [7])
    for place, each in ((0, one), (2, other)):
        assert furthest(auditor.recompute(*each), found[place]) < last_digits(auditor)


def test_one_answer_that_cannot_be_recomputed_is_said_before_any_pass(
    auditor: TransformersEngine,
) -> None:
    with pytest.raises(FormatError):
        next(auditor.recompute_all([Answer([1], [2]), Answer([1], [9999])]))
    assert dict(auditor.recompute_all([])) == {}
    (place, none), (_, some) = auditor.recompute_all([Answer([1], [2]), Answer([1], [])])
    assert (place, len(none.logits), len(some.logits)) == (1, 0, 1)


def test_the_model_is_left_as_it_was(auditor: TransformersEngine) -> None:
    head = auditor._model.get_output_embeddings()
    before = len(head._forward_pre_hooks)
    passes = auditor.recompute_all([Answer(ids(5), ids(5)), Answer(ids(900), ids(5))])
    next(passes)
    passes.close()
    assert len(head._forward_pre_hooks) == before


OTHER_MODELS = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 256},
    "mistral": {"sliding_window": 12},
    "gemma2": {"sliding_window": 12, "head_dim": 16},
}


@pytest.mark.parametrize("kind", OTHER_MODELS)
def test_other_architectures_recompute_together_as_alone(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(3)
    shape = {
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
    config = AutoConfig.for_model(kind, **{**shape, **OTHER_MODELS[kind]})
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SMALL / name, tmp_path)
    engine = TransformersEngine.load(tmp_path, "fp32")
    answers = [answer for answer in mixed() if answer.read < 250]
    alone = dict(one_by_one(engine, answers))
    for place, one in engine.recompute_all(answers):
        assert furthest(alone[place], one) < 1e-4, place
    engine.close()


@given(st.lists(written, max_size=24), st.integers(1, 300), st.integers(0, 40), st.integers(1, 200))
def test_every_answer_is_in_one_pass_that_keeps_the_limits(
    answers: list[Answer], positions: int, percent: int, rows: int
) -> None:
    limits = Limits(positions, percent, rows, held=4 * positions)
    groups = plan(answers, limits)
    every = [place for group in groups for some in group.passes for place in some]
    assert sorted(every) == list(range(len(answers)))
    for group in groups:
        members = [answers[place] for some in group.passes for place in some]
        assert len({tuple(each.prompt_ids[: group.shared]) for each in members}) == 1
        assert all(len(each.prompt_ids) > group.shared for each in members)
        assert group.shared == 0 or group.shared >= SHARED_LEAST
        for some in group.passes:
            own = [answers[place].read - group.shared for place in some]
            assert own[0] == max(own)
            if len(some) > 1:
                computed = len(some) * own[0]
                assert computed <= positions
                assert 100 * (computed - sum(own)) <= percent * computed
                assert sum(len(answers[place].output_ids) for place in some) <= rows
                assert len(some) * (own[0] + group.shared) <= limits.held


def test_a_system_prompt_is_computed_once() -> None:
    system = list(range(100))
    answers = [Answer([*system, 200 + n, 7], [1] * 20) for n in range(9)] + [Answer([9] * 80, [1])]
    shared, alone = plan(answers, Limits())
    assert (shared.shared, alone.shared) == (100, 0)
    assert sorted(place for some in shared.passes for place in some) == list(range(9))


def test_a_beginning_that_saves_little_is_not_shared() -> None:
    answers = [Answer([*range(50), 200 + n], [1] * 20) for n in range(2)]
    assert [group.shared for group in plan(answers, Limits())] == [0]


def test_attention_is_taken_row_by_row_under_a_mask_too() -> None:
    torch.manual_seed(1)
    query, key, value = (torch.randn(2, 2, n, 8) for n in (5, 9, 9))
    mask = torch.ones(1, 1, 5, 9, dtype=torch.bool).tril(4)
    attention = torch.nn.functional.scaled_dot_product_attention
    whole = attention(query, key, value, mask)
    with forcing.Apart([5, 3]):
        apart = attention(query, key, value, attn_mask=mask)
    assert torch.allclose(apart[0], whole[0], atol=1e-6)
    assert torch.allclose(apart[1, :, :3], whole[1, :, :3], atol=1e-6)
    assert not apart[1, :, 3:].any()
