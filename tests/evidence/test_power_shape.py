import pytest

from lydite.evidence.power import shape as shapes
from lydite.evidence.power.shape import Numerics, Shape
from tests.evidence.power_world import EIGHTH, HALF, LLAMA_8B, LLAMA_70B, MIXTRAL

QWEN_HALF_BILLION = Shape(
    layers=24,
    width=896,
    heads=14,
    kv_heads=2,
    head_width=64,
    ffn_width=4864,
    vocabulary=151936,
    tied=True,
)
GPT2 = Shape(
    layers=12,
    width=768,
    heads=12,
    kv_heads=12,
    head_width=64,
    ffn_width=3072,
    vocabulary=50257,
    gated=False,
    tied=True,
)


@pytest.mark.parametrize(
    ("shape", "billions"),
    [
        (LLAMA_8B, 8.03),
        (LLAMA_70B, 70.55),
        (MIXTRAL, 46.7),
        (QWEN_HALF_BILLION, 0.494),
        (GPT2, 0.1236),  # without the position embeddings
    ],
)
def test_parameters_are_those_that_makers_publish(shape: Shape, billions: float) -> None:
    assert shapes.parameters(shape) / 1e9 == pytest.approx(billions, rel=0.002)


def test_two_of_eight_experts_are_the_12_9_billion_that_are_published() -> None:
    outer = shapes.embedding_parameters(MIXTRAL)
    assert (shapes.active_parameters(MIXTRAL) + outer) / 1e9 == pytest.approx(12.9, rel=0.003)


def test_one_token_reads_its_own_experts_and_many_read_them_all() -> None:
    one = shapes.read_bytes(MIXTRAL, HALF, 1.0)
    many = shapes.read_bytes(MIXTRAL, HALF, 64.0)
    assert one == pytest.approx(2 * shapes.active_parameters(MIXTRAL))
    outer = 2 * shapes.embedding_parameters(MIXTRAL)
    assert many + outer == pytest.approx(shapes.weight_bytes(MIXTRAL, HALF), rel=1e-6)
    assert shapes.least_bytes(MIXTRAL, HALF) == one


def test_a_dense_model_reads_the_same_for_any_batch() -> None:
    assert shapes.read_bytes(LLAMA_8B, HALF, 1.0) == shapes.read_bytes(LLAMA_8B, HALF, 64.0)


def test_half_the_bits_are_half_the_bytes_but_for_embeddings() -> None:
    whole, half = shapes.weight_bytes(LLAMA_8B, HALF), shapes.weight_bytes(LLAMA_8B, EIGHTH)
    embeddings = 2 * 2 * shapes.embedding_parameters(LLAMA_8B)
    assert half - embeddings == pytest.approx((whole - embeddings) / 2)


def test_a_token_of_llama_8b_takes_128_kib_of_cache() -> None:
    assert shapes.cache_bytes(LLAMA_8B, HALF) == 128 * 1024
    small = Numerics(weight_milli_bits=16_000, cache_milli_bits=8_000)
    assert shapes.cache_bytes(LLAMA_8B, small) == 64 * 1024
