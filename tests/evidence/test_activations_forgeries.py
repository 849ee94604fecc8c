"""Sketches made without the declared model's states: none of them passes.

A forgery passes when one answer of 64 tokens leaves the e-value below 1000, as honest ones do.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
import pytest

from lydite.evidence.activations import attester, verifier
from lydite.evidence.activations import spec as specs
from lydite.evidence.activations.claims import Claims
from lydite.evidence.activations.reference import SKETCH, Reference, null
from lydite.evidence.activations.spec import Spec
from lydite.evidence.activations.verifier import Taps
from lydite.statistics import bins
from tests.evidence.sketched import ROOT, SPEC, WIDE, States, calibrated, nearby, states_of

TOKENS = 64
LEVEL = math.log(1000)
Forge = Callable[[np.random.Generator, States, int, Spec], bytes]


def made(states: States, number: int, spec: Spec, root: str = ROOT) -> bytes:
    key = specs.key(
        spec,
        receipt_id=f"r-{number}",
        weights_root=root,
        prompt_ids=(number,),
        output_ids=range(TOKENS),
    )
    return attester.sketch(states, key, spec)


def constant(rng: np.random.Generator, states: States, number: int, spec: Spec) -> bytes:
    return bytes([number % 256]) * specs.size_bytes(spec, TOKENS)


def random_bytes(rng: np.random.Generator, states: States, number: int, spec: Spec) -> bytes:
    return rng.bytes(specs.size_bytes(spec, TOKENS))


def zero_states(rng: np.random.Generator, states: States, number: int, spec: Spec) -> bytes:
    return made(np.zeros_like(states), number, spec)


def mean_state(rng: np.random.Generator, states: States, number: int, spec: Spec) -> bytes:
    """The best single state that could be learnt from this very answer."""
    return made(np.repeat(states.mean(axis=0, keepdims=True), TOKENS, axis=0), number, spec)


def first_copied(rng: np.random.Generator, states: States, number: int, spec: Spec) -> bytes:
    """The declared model run for one token, its residues copied to all."""
    return made(states, number, spec)[: spec.token_bytes] * TOKENS


def first_state(rng: np.random.Generator, states: States, number: int, spec: Spec) -> bytes:
    """The declared model run for one token, its state taken for all."""
    return made(np.repeat(states[:1], TOKENS, axis=0), number, spec)


def permuted(rng: np.random.Generator, states: States, number: int, spec: Spec) -> bytes:
    return made(states[rng.permutation(TOKENS)], number, spec)


def moved(rng: np.random.Generator, states: States, number: int, spec: Spec) -> bytes:
    sketch = made(states, number, spec)
    return sketch[spec.token_bytes :] + sketch[: spec.token_bytes]


def negative(rng: np.random.Generator, states: States, number: int, spec: Spec) -> bytes:
    return made(-states, number, spec)


def other_request(rng: np.random.Generator, states: States, number: int, spec: Spec) -> bytes:
    """The same answer's sketch, replayed from another request."""
    return made(states, number + 1, spec)


def other_weights(rng: np.random.Generator, states: States, number: int, spec: Spec) -> bytes:
    return made(states, number, spec, "00" * 32)


def other_answer(rng: np.random.Generator, states: States, number: int, spec: Spec) -> bytes:
    return made(states_of(rng, TOKENS), number, spec)


FORGERIES: tuple[Forge, ...] = (
    constant,
    random_bytes,
    zero_states,
    mean_state,
    first_copied,
    first_state,
    permuted,
    moved,
    negative,
    other_request,
    other_weights,
    other_answer,
)


@functools.cache
def known(spec: Spec) -> Reference:
    return calibrated(spec)


def log_e(sketch: bytes, states: States, number: int, spec: Spec) -> float:
    claim = Claims(
        receipt_id=f"r-{number}",
        prompt_ids=(number,),
        output_ids=tuple(range(TOKENS)),
        sketch=sketch,
    )
    reference = known(spec)
    scores = verifier.verify(claim, Taps(states), reference).values(SKETCH)
    return bins.log_e(bins.count(reference.sketch.edges, scores), null(reference))


@pytest.mark.parametrize("spec", [SPEC, WIDE], ids=["2-bytes", "4-bytes"])
@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_no_forgery_passes(forge: Forge, spec: Spec) -> None:
    rng = np.random.default_rng(31)
    for number in range(20):
        states = states_of(rng, TOKENS)
        assert log_e(forge(rng, states, number, spec), states, number, spec) > LEVEL


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("spec", [SPEC, WIDE], ids=["2-bytes", "4-bytes"])
def test_none_of_ten_thousand_forgeries_passes(spec: Spec) -> None:
    rng = np.random.default_rng(32)
    passed = 0
    for number in range(10_000):
        states = states_of(rng, TOKENS)
        sketch = FORGERIES[number % len(FORGERIES)](rng, states, number, spec)
        passed += log_e(sketch, states, number, spec) < LEVEL
    assert passed == 0


@pytest.mark.parametrize("spec", [SPEC, WIDE], ids=["2-bytes", "4-bytes"])
def test_honest_sketches_pass(spec: Spec) -> None:
    rng = np.random.default_rng(33)
    for number in range(100):
        states = states_of(rng, TOKENS)
        sketch = made(nearby(rng, states), number, spec)
        assert log_e(sketch, states, number, spec) < LEVEL
