from collections.abc import Callable

import pytest

from lydite.errors import ConfigurationError
from lydite.evidence.power import gpus, models
from lydite.evidence.power import shape as shapes
from lydite.evidence.power.shape import Numerics
from tests.evidence.power_world import EIGHTH, HALF, LLAMA_8B, MIXTRAL

PUBLISHED = {
    "gpt2-xl": 1.556,  # without the position embeddings
    "gpt-neox-20b": 20.55,
    "llama-2-7b": 6.74,
    "llama-2-13b": 13.02,
    "llama-2-70b": 68.98,
    "llama-3.2-1b": 1.236,
    "llama-3.2-3b": 3.213,
    "llama-3.1-8b": 8.03,
    "llama-3.1-70b": 70.55,
    "mistral-7b-v0.3": 7.248,
    "mixtral-8x7b": 46.70,
    "qwen2.5-0.5b": 0.494,
    "qwen2.5-7b": 7.616,
    "qwen2.5-72b": 72.71,
}


@pytest.mark.parametrize("name", models.MODELS)
def test_parameters_are_those_that_makers_publish(name: str) -> None:
    counted = shapes.parameters(models.find(name)) / 1e9
    assert counted == pytest.approx(PUBLISHED[name], rel=0.002)


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


@pytest.mark.parametrize(
    ("called", "row"),
    [
        ("NVIDIA H200", "NVIDIA H200"),
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100"),
        ("NVIDIA H100 PCIe", "NVIDIA H100 PCIe"),
        ("NVIDIA L40S", "NVIDIA L40S"),
        ("NVIDIA L4", "NVIDIA L4"),
    ],
)
def test_a_gpu_is_found_by_the_name_that_its_driver_gives(called: str, row: str) -> None:
    assert gpus.find(called).name == row


@pytest.mark.parametrize("find", [gpus.find, models.find])
def test_an_unknown_name_is_an_error_that_lists_the_known(find: Callable[[str], object]) -> None:
    with pytest.raises(ConfigurationError, match="there are"):
        find("NVIDIA H2000")
