"""The noise of other engines: golden vectors that the engines made, and twins in plain integers.

``tests/outside/record_noise.py`` made the vectors.
"""

import json
import math
import struct
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lydite.errors import Reason, UnavailableError
from lydite.evidence.tokens import noise, verifier
from lydite.evidence.tokens.attester import support
from lydite.evidence.tokens.claims import Claims
from lydite.evidence.tokens.noise import philox
from lydite.evidence.tokens.reference import MARGIN, OUTSIDE, SURPRISAL
from lydite.evidence.tokens.sampling import Sampling
from lydite.messages.declaration import SAMPLERS
from tests.evidence.test_tokens_noise import murmur3
from tests.evidence.test_tokens_verifier import VOCABULARY, reference, some_logits

VECTORS = json.loads(Path("tests/vectors/noise.json").read_text("utf-8"))
PRECISION = {"vllm-mrv2-murmur3": 5e-6, "vllm-mrv2-philox": 5e-6, "vllm-v1-torch-cpu": 5e-6}
"""."""
MASK = 0xFFFFFFFF
LONG = (1 << 64) - 1

seeds = st.integers(min_value=0, max_value=2**63 - 1)
lasts = st.integers(min_value=0, max_value=2**30)


def name_of(vector: dict[str, Any]) -> str:
    return f"{vector['sampler']}/{vector['seed']}"


def rows(name: str, seed: int, last: int, columns: int, count: int) -> list[list[float]]:
    return [row.tolist() for row in islice(noise.rows(name, seed, last, columns), count)]


@pytest.mark.parametrize("vector", VECTORS["noise"], ids=name_of)
def test_noise_is_what_the_engine_draws(vector: dict[str, Any]) -> None:
    expected = np.array(vector["rows"])
    found = rows(vector["sampler"], int(vector["seed"]), vector["last"], *expected.shape[::-1])
    near = PRECISION.get(vector["sampler"], 1e-12)
    assert np.abs(np.array(found) - expected).max() < near


@pytest.mark.parametrize("vector", VECTORS["draws"], ids=name_of)
def test_the_engine_takes_the_token_that_the_noise_says(vector: dict[str, Any]) -> None:
    sampling = Sampling(**vector["sampling"])
    drawn = noise.rows(vector["sampler"], int(vector["seed"]), vector["last"], 40)
    for logits, token in zip(vector["logits"], vector["tokens"], strict=True):
        scaled = np.array(logits) / sampling.temperature
        kept = support(scaled, sampling)
        assert kept[(scaled + next(drawn))[kept].argmax()] == token


@pytest.mark.parametrize("vector", VECTORS["draws"], ids=name_of)
def test_what_an_engine_draws_has_no_margin(vector: dict[str, Any]) -> None:
    claims = Claims(
        prompt_ids=tuple(range(vector["last"] + 1)),
        output_ids=tuple(vector["tokens"]),
        sampling=Sampling(**vector["sampling"]),
        seed=int(vector["seed"]),
    )
    known = reference(noise_micro=10, sampler=vector["sampler"])
    finding = verifier.verify(claims, np.array(vector["logits"]), known)
    assert max(finding.values(MARGIN)) <= 20
    assert OUTSIDE not in finding.values(MARGIN)
    other = msgspec.structs.replace(claims, seed=claims.seed ^ 1)
    margins = verifier.verify(other, np.array(vector["logits"]), known).values(MARGIN)
    assert sum(margin > 20 for margin in margins) >= 2  # of 12; some filters leave two tokens


# An obvious account of each, in plain integers.


def hashed(seed: int, position: int, column: int) -> int:
    return murmur3(struct.pack("<QII", seed, position, column))


def single(value: float) -> float:
    return float(np.float32(value))


def gumbel(u: float) -> float:
    return -math.log(-math.log(u))


def obvious_sglang(seed: int, position: int, columns: int) -> list[float]:
    logs = [math.log(hashed(seed, position, c) / MASK) for c in range(columns)]
    return [-math.log(-min(log, -(2.0**-32))) for log in logs]


def obvious_murmur(seed: int, position: int, columns: int) -> list[float]:
    uniforms = [single((hashed(seed, position, c) + 0.5) / 2**32) for c in range(columns)]
    return [gumbel(1 - u if u < 1 else 2.0**-24) for u in uniforms]


def obvious_murmur64(seed: int, position: int, columns: int) -> list[float]:
    def begun(column: int) -> int:
        """The same hash from another beginning, which no library has: undo one block before."""
        state = 0x9E3779B9
        for (word,) in struct.iter_unpack("<I", struct.pack("<QII", seed, position, column)):
            k = word * 0xCC9E2D51 & MASK
            k = ((k << 15) | (k >> 17)) & MASK
            state ^= k * 0x1B873593 & MASK
            state = ((state << 13) | (state >> 19)) & MASK
            state = (state * 5 + 0xE6546B64) & MASK
        state ^= 16
        state = (state ^ state >> 16) * 0x85EBCA6B & MASK
        state = (state ^ state >> 13) * 0xC2B2AE35 & MASK
        return state ^ state >> 16

    words = [(begun(c) << 32 | hashed(seed, position, c)) >> 11 for c in range(columns)]
    return [gumbel((word + 0.5) / 2**53) for word in words]


def obvious_words(seed: int, counter: int) -> list[int]:
    """Philox4x32-10 as its authors wrote it."""
    x = [counter & MASK, counter >> 32, 0, 0]
    key = [seed & MASK, seed >> 32 & MASK]
    for _ in range(10):
        p, q = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [(q >> 32) ^ x[1] ^ key[0], q & MASK, (p >> 32) ^ x[3] ^ key[1], p & MASK]
        key = [(key[0] + 0x9E3779B9) & MASK, (key[1] + 0xBB67AE85) & MASK]
    return x


def obvious_philox(seed: int, position: int, columns: int) -> list[float]:
    at = obvious_words(seed, position)[0]
    found = []
    for column in range(columns):
        word = obvious_words(at, column)[0]
        folded = MASK - word if word >> 31 else word
        step = single(4.6566127342e-10)
        u = max(single(single(folded) * step), step)
        found.append(gumbel(1 - u) if u < 1 else -noise.LARGEST)
    return found


def obvious_philox64(seed: int, position: int, columns: int) -> list[float]:
    at = obvious_words(seed, position)[0]
    pairs = [obvious_words(at, column) for column in range(columns)]
    return [gumbel((pair[1] << 32 | pair[0]) / 2**64) for pair in pairs]


OBVIOUS: dict[str, Callable[[int, int, int], list[float]]] = {
    "sglang-murmur3": obvious_sglang,
    "vllm-mrv2-murmur3": obvious_murmur,
    "vllm-mrv2-murmur3-fp64": obvious_murmur64,
    "vllm-mrv2-philox": obvious_philox,
    "vllm-mrv2-philox-fp64": obvious_philox64,
}


@pytest.mark.parametrize("name", sorted(OBVIOUS))
@given(seeds, lasts, st.integers(min_value=1, max_value=80))
@settings(max_examples=25)
def test_noise_that_is_counted_agrees_with_the_obvious_one(
    name: str, seed: int, last: int, columns: int
) -> None:
    found = rows(name, seed, last, columns, 2)
    expected = [OBVIOUS[name](seed, last + step, columns) for step in range(2)]
    assert np.allclose(found, expected, rtol=1e-6, atol=1e-9)


def twister(seed: int) -> Iterator[int]:
    """MT19937 as its authors wrote it."""
    state = [seed & MASK]
    for i in range(1, 624):
        state.append((1812433253 * (state[-1] ^ state[-1] >> 30) + i) & MASK)
    while True:
        for i in range(624):
            y = (state[i] & 0x80000000) | (state[(i + 1) % 624] & 0x7FFFFFFF)
            state[i] = state[(i + 397) % 624] ^ y >> 1 ^ (0x9908B0DF if y & 1 else 0)
        for y in state:
            y ^= y >> 11
            y ^= y << 7 & 0x9D2C5680
            y ^= y << 15 & 0xEFC60000
            yield y ^ y >> 18


def longs(seed: int) -> Iterator[int]:
    words = twister(seed)
    while True:
        yield next(words) << 32 | next(words)


def obvious_v1(seed: int, columns: int, count: int) -> list[list[float]]:
    source = longs(seed)
    uniforms = [[(next(source) % 2**53) / 2**53 for _ in range(columns)] for _ in range(count)]
    return [[-math.log(-math.log1p(-u)) for u in row] for row in uniforms]


def split(z: int) -> int:
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & LONG
    z = (z ^ z >> 27) * 0x94D049BB133111EB & LONG
    return z ^ z >> 31


def obvious_cpu(seed: int, columns: int, count: int) -> list[list[float]]:
    source = longs(seed)
    found = []
    for _ in range(count):
        key = split(next(source) % 2**31)
        words = [split((key + (i + 1) * 0x9E3779B97F4A7C15) & LONG) >> 11 for i in range(columns)]
        found.append([gumbel((word + 0.5) / 2**53) for word in words])
    return found


@pytest.mark.parametrize(
    ("name", "obvious"), [("vllm-v1-torch-cpu", obvious_v1), ("vllm-cpu", obvious_cpu)]
)
@given(seed=st.integers(-(2**63), 2**63 - 1), columns=st.integers(1, 80))
@settings(max_examples=25)
def test_noise_that_is_taken_in_turn_agrees_with_the_obvious_one(
    name: str, obvious: Callable[[int, int, int], list[list[float]]], seed: int, columns: int
) -> None:
    assert np.allclose(rows(name, seed, 3, columns, 12), obvious(seed, columns, 12), atol=1e-9)


def test_philox_is_the_published_one() -> None:
    """Known answer of Random123, less its upper counter words: all zero."""
    first, second = philox.words(0, np.array([0]))
    assert (int(first[0]), int(second[0])) == (0x6627E8D5, 0xE169C58D)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "none"])
def test_every_noise_is_standard_gumbel_and_finite(name: str) -> None:
    values = np.array(rows(name, 20_261_120, 11, 4000, 5)).ravel()
    assert np.isfinite(values).all()
    assert abs(values.mean() - np.euler_gamma) < 0.05
    assert abs(values.var() - math.pi**2 / 6) < 0.15


def test_every_sampler_that_may_be_declared_has_an_adapter_but_none() -> None:
    assert set(SAMPLERS) == {*noise.ADAPTERS, "none"}


def test_an_unknown_sampler_is_named_as_the_reason() -> None:
    claims = Claims(prompt_ids=(1,), output_ids=(1,), sampling=Sampling(), seed=1)
    with pytest.raises(UnavailableError, match="vllm-mrv3") as caught:
        verifier.verify(claims, some_logits(1, 1), reference(sampler="vllm-mrv3"))
    assert caught.value.reason is Reason.UNKNOWN_SAMPLER


# SGLang's columns are ranks where a filter is on.

FILTERED = (Sampling(top_k=9), Sampling(top_p=0.9), Sampling(top_p=0.7, temperature=1.3))


def sglang_serves(logits: np.ndarray, sampling: Sampling, seed: int) -> Claims:
    """What SGLang's PyTorch backend draws: noise by rank, then back to the token ids."""
    drawn = noise.rows("sglang-murmur3", seed, 3, VOCABULARY)
    tokens = []
    for row in logits:
        scaled = row / sampling.temperature
        kept = support(scaled, sampling)  # in the order of the ranks
        tokens.append(int(kept[(scaled[kept] + next(drawn)[: kept.size]).argmax()]))
    return Claims(prompt_ids=(1, 2, 3, 4), output_ids=tuple(tokens), sampling=sampling, seed=seed)


@given(st.integers(0, 10_000), st.sampled_from(FILTERED), st.sampled_from([0.0, 0.01, 0.05]))
def test_near_ties_that_exchange_ranks_and_noise_are_no_margin(
    seed: int, sampling: Sampling, eps: float
) -> None:
    logits = some_logits(seed)
    logits[:, ::2] = logits[:, 1::2] + eps / 3  # every token has a twin
    nudges = np.random.default_rng(seed + 1).uniform(-eps, eps, size=logits.shape)
    served = sglang_serves(logits + nudges, sampling, seed)
    known = reference(noise_micro=round(1e6 * eps), sampler="sglang-murmur3")
    margins = verifier.verify(served, logits, known).values(MARGIN)
    assert OUTSIDE not in margins
    assert max(margins) <= 2e6 * eps + 1


@pytest.mark.parametrize("sampling", FILTERED)
def test_noise_by_token_where_it_goes_by_rank_is_found_out(sampling: Sampling) -> None:
    logits = some_logits(5, tokens=60)
    known = reference(noise_micro=10_000, sampler="sglang-murmur3")
    served = sglang_serves(logits, sampling, 77)
    assert max(verifier.verify(served, logits, known).values(MARGIN)) <= 20_001
    other = msgspec.structs.replace(served, seed=78)
    margins = verifier.verify(other, logits, known).values(MARGIN)
    assert sum(margin > 20_001 for margin in margins) > 15


def test_filters_in_an_order_that_we_do_not_repeat_are_named_as_the_reason() -> None:
    served = sglang_serves(some_logits(5), Sampling(top_k=5), 3)
    both = msgspec.structs.replace(served, sampling=Sampling(top_k=5, top_p=0.9))
    with pytest.raises(UnavailableError) as caught:
        verifier.verify(both, some_logits(5), reference(sampler="sglang-murmur3"))
    assert caught.value.reason is Reason.UNSUPPORTED


def test_without_a_seed_only_surprisals_are_recorded() -> None:
    served = sglang_serves(some_logits(5), Sampling(), 3)
    finding = verifier.verify(served, some_logits(5), reference(sampler="none"))
    assert [measure.name for measure in finding.measures] == [SURPRISAL]
