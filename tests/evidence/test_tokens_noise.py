"""The noise and the draw, beside an obvious account of both in plain integers."""

import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError
from lydite.evidence.tokens.attester import sample, support
from lydite.evidence.tokens.noise import murmur
from lydite.evidence.tokens.sampling import Sampling

VECTORS = json.loads(Path(__file__).with_name("tokens_noise_vectors.json").read_text("utf-8"))
MASK = 0xFFFFFFFF

seeds = st.integers(min_value=0, max_value=2**63 - 1)
positions = st.integers(min_value=0, max_value=2**31)
vectors_of_logits = st.lists(
    st.floats(min_value=-30, max_value=30, width=32), min_size=1, max_size=40
)
samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.0]),
    top_p=st.sampled_from([0.1, 0.5, 0.95, 1.0]),
    top_k=st.sampled_from([0, 1, 3, 50]),
)


def murmur3(data: bytes) -> int:
    """MurmurHash3 x86_32 with seed 0, as its author wrote it, of whole words."""

    def rotate(word: int, bits: int) -> int:
        return ((word << bits) | (word >> (32 - bits))) & MASK

    state = 0
    for (word,) in struct.iter_unpack("<I", data):
        mixed = rotate(word * 0xCC9E2D51 & MASK, 15) * 0x1B873593 & MASK
        state = (rotate(state ^ mixed, 13) * 5 + 0xE6546B64) & MASK
    state ^= len(data)
    state = (state ^ state >> 16) * 0x85EBCA6B & MASK
    state = (state ^ state >> 13) * 0xC2B2AE35 & MASK
    return state ^ state >> 16


def obvious_hash(seed: int, position: int, token: int) -> int:
    return murmur3(struct.pack("<QII", seed, position, token))


def obvious_gumbel(seed: int, position: int, token: int) -> float:
    return -math.log(-math.log((obvious_hash(seed, position, token) + 0.5) / 2**32))


def obvious_sample(logits: list[float], sampling: Sampling, seed: int, position: int) -> int:
    ids = sorted(range(len(logits)), key=lambda token: (-logits[token], token))
    if sampling.temperature == 0:
        return ids[0]
    weights = {v: math.exp((logits[v] - logits[ids[0]]) / sampling.temperature) for v in ids}
    ids = ids[: sampling.top_k or len(ids)]
    total, mass, kept = math.fsum(weights[v] for v in ids), 0.0, []
    for token in ids:
        kept.append(token)
        mass += weights[token] / total
        if mass >= sampling.top_p:
            break
    return max(
        kept,
        key=lambda v: logits[v] / sampling.temperature + obvious_gumbel(seed, position, v),
    )


@pytest.mark.parametrize("vector", VECTORS["hashes"])
def test_the_hash_gives_the_golden_words(vector: dict[str, int]) -> None:
    token = np.array([vector["token"]])
    assert int(murmur.hashes(int(vector["seed"]), vector["position"], token)[0]) == vector["hash"]
    assert obvious_hash(int(vector["seed"]), vector["position"], vector["token"]) == vector["hash"]


@pytest.mark.parametrize("vector", VECTORS["draws"])
def test_the_draw_gives_the_golden_tokens(vector: dict[str, object]) -> None:
    sampling = Sampling(**vector["sampling"])
    logits, seed = np.array(vector["logits"]), int(vector["seed"])
    drawn = [sample(logits, sampling, seed, position) for position in range(8)]
    assert drawn == vector["tokens"]


def test_the_hash_is_the_published_murmur3() -> None:
    assert murmur3(b"") == 0
    assert murmur3(b"\0\0\0\0") == 0x2362F9DE
    assert murmur3(b"test") == 0xBA6BD213


@given(seeds, positions, st.integers(min_value=1, max_value=300))
def test_the_noise_agrees_with_the_obvious_one(seed: int, position: int, vocabulary: int) -> None:
    expected = [obvious_gumbel(seed, position, token) for token in range(vocabulary)]
    assert np.allclose(murmur.gumbel(seed, position, vocabulary), expected, rtol=0, atol=1e-12)


@given(seeds, positions)
def test_the_noise_of_some_tokens_is_that_of_all(seed: int, position: int) -> None:
    some = np.array([7, 0, 2047, 130])
    assert (
        murmur.gumbel_of(seed, position, some) == murmur.gumbel(seed, position, 2048)[some]
    ).all()


def test_the_noise_is_finite_at_both_ends_of_the_hash() -> None:
    lowest, highest = 0.5 / 2**32, (2**32 - 0.5) / 2**32
    assert math.isfinite(-math.log(-math.log(lowest)))
    assert math.isfinite(-math.log(-math.log(highest)))


@given(vectors_of_logits, samplings, seeds, positions)
def test_the_draw_agrees_with_the_obvious_one(
    logits: list[float], sampling: Sampling, seed: int, position: int
) -> None:
    drawn = sample(np.array(logits), sampling, seed, position)
    assert drawn == obvious_sample(logits, sampling, seed, position)


def test_draws_have_the_probabilities_of_the_softmax() -> None:
    logits = np.log(np.array([0.5, 0.25, 0.15, 0.1]))
    drawn = np.array([sample(logits, Sampling(), seed, 3) for seed in range(8000)])
    shares = np.bincount(drawn, minlength=4) / len(drawn)
    assert np.abs(shares - [0.5, 0.25, 0.15, 0.1]).max() < 0.02


def test_the_filters_apply_in_the_stated_order() -> None:
    scaled = np.log(np.array([0.4, 0.3, 0.2, 0.1]))
    assert support(scaled, Sampling(top_k=2, top_p=0.5)).tolist() == [0]  # 4/7 reaches .5
    assert support(scaled, Sampling(top_p=0.5)).tolist() == [0, 1]
    assert support(scaled, Sampling(top_k=9)).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("logits", [[], [[1.0]], [math.nan], [math.inf, 0.0]])
def test_logits_that_are_no_finite_vector_are_refused(logits: list[object]) -> None:
    with pytest.raises(FormatError):
        sample(np.array(logits, dtype=np.float64), Sampling(), 1, 1)
