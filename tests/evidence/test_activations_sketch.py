"""The sketch and its scores, beside a plain account of both and vectors that anybody can run."""

import json
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lydite.errors import FormatError, LyditeError, Reason
from lydite.evidence.activations import attester, projection, verifier
from lydite.evidence.activations import spec as specs
from lydite.evidence.activations.claims import Claims
from lydite.evidence.activations.reference import INNER, SKETCH, digest
from lydite.evidence.activations.spec import ProjectionKey, Spec
from lydite.evidence.activations.verifier import Taps
from lydite.messages.canonical import encode
from lydite.messages.tier import Tier
from tests.evidence import plain_sketch
from tests.evidence.sketched import (
    ROOT,
    SPEC,
    WIDE,
    WIDTH,
    calibrated,
    claimed,
    flat,
    nearby,
    reference_of,
    states_of,
)

CASES = json.loads(plain_sketch.VECTORS.read_text("utf-8"))["cases"]
TAPPED = Spec(coordinates=8, delta="0.032", inner_deltas=("0.05", "0.1", "0.2"))
KEY = ProjectionKey(bytes(range(32)))


def from_bf16(rows: list[str], width: int) -> NDArray[np.float32]:
    words = np.frombuffer(bytes.fromhex("".join(rows)), dtype=">u2").astype(np.uint32) << 16
    return words.view(np.float32).reshape(len(rows), width)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['sketch'][:8]}-{len(c['outputIds'])}")
def test_every_vector_gives_its_key_and_its_sketch(case: dict[str, Any]) -> None:
    spec = specs.parse(json.dumps(case["spec"], sort_keys=True, separators=(",", ":")).encode())
    assert specs.digest(spec) == case["specDigest"]
    key = specs.key(
        spec,
        receipt_id=case["receiptId"],
        weights_root=case["weightsRoot"],
        prompt_ids=case["promptIds"],
        output_ids=case["outputIds"],
    )
    assert key.hex() == case["kappa"]
    states = from_bf16(case["statesBf16"], case["width"])
    inner = [from_bf16(layer, case["width"]) for layer in case["innerBf16"]]
    made = attester.sketch(states, key, spec, np.stack(inner) if inner else None)
    assert made.hex() == case["sketch"]
    assert len(made) == specs.size_bytes(spec, len(states))


@settings(max_examples=40)
@given(
    bits=st.lists(
        st.lists(st.integers(0, 0xFFFF), min_size=3, max_size=3), min_size=1, max_size=6
    ).map(lambda rows: [[b if b >> 7 & 0xFF < 0x90 else b & 0x80FF for b in r] for r in rows]),
    key=st.binary(min_size=32, max_size=32).map(ProjectionKey),
    count=st.sampled_from([8, 16]),
)
def test_projections_are_those_of_the_plain_account(
    bits: list[list[int]], key: ProjectionKey, count: int
) -> None:
    states = from_bf16(["".join(f"{b:04x}" for b in row) for row in bits], 3)
    ours = projection.project(states, key, count)
    plain = plain_sketch.steps(plain_sketch.rows(bits), key, count, "1")
    size = max(1.0, float(np.abs(states).max()))
    assert np.allclose(ours, np.array(plain, dtype=float), rtol=0, atol=1e-6 * size)


def test_128_states_of_4096_numbers_take_256_or_512_bytes() -> None:
    states = np.ones((128, 4096), dtype=np.float32)
    assert len(attester.sketch(states, KEY, SPEC)) == 256
    assert len(attester.sketch(states, KEY, WIDE)) == 512


def test_scores_are_those_of_the_plain_account() -> None:
    rng = np.random.default_rng(3)
    states = states_of(rng, 6)
    claim = claimed(nearby(rng, states))
    finding = verifier.verify(claim, Taps(states), reference_of(SPEC, [flat()]))
    key = specs.key(
        SPEC, receipt_id="r-1", weights_root=ROOT, prompt_ids=(7, 8), output_ids=range(6)
    )
    expected = []
    for token, row in enumerate(projection.project(states, key, 8)):
        total = 0.0
        for i, f in enumerate(row):
            place = token * 8 + i
            q = claim.sketch[place // 4] >> 2 * (place % 4) & 3
            total += (((q - f / 0.032 + 2) % 4) - 2) ** 2
        expected.append(round(1e6 * 0.032 * math.sqrt(total)))
    assert np.allclose(finding.values(SKETCH), expected, atol=1)
    assert finding.tier is Tier.NONE
    assert finding.reason is Reason.RECORDED
    assert finding.reference == digest(reference_of(SPEC, [flat()]))


def test_honest_residues_lie_as_far_off_as_the_formula_says() -> None:
    rng = np.random.default_rng(5)
    states = states_of(rng, 2000)
    claim = claimed(nearby(rng, states), WIDE)
    scores = verifier.verify(claim, Taps(states), reference_of(WIDE, [flat()])).values(SKETCH)
    squares = (np.array(scores) / 1e6 / 0.032) ** 2 / 16
    assert squares.mean() == pytest.approx(1 / 12 + (0.008 / 0.032) ** 2, rel=0.02)


def test_another_states_residues_are_uniform() -> None:
    rng = np.random.default_rng(6)
    claim = claimed(states_of(rng, 2000), WIDE)
    other = states_of(rng, 2000)
    scores = verifier.verify(claim, Taps(other), reference_of(WIDE, [flat()])).values(SKETCH)
    squares = (np.array(scores) / 1e6 / 0.032) ** 2 / 16
    assert squares.mean() == pytest.approx(4 / 3, rel=0.02)


@pytest.mark.parametrize(
    "change",
    [
        {"receipt_id": "r-2"},
        {"weights_root": "5f" * 32},
        {"prompt_ids": (7, 9)},
        {"prompt_ids": (7,), "output_ids": (8, 1, 2)},
        {"output_ids": (1, 3)},
        {"output_ids": (1, 2, 2)},
        {"spec": WIDE},
        {"spec": msgspec.structs.replace(SPEC, delta="0.033")},
    ],
    ids=str,
)
def test_whatever_the_key_covers_changes_it(change: dict[str, Any]) -> None:
    base: dict[str, Any] = {
        "receipt_id": "r-1",
        "weights_root": ROOT,
        "prompt_ids": (7, 8),
        "output_ids": (1, 2),
    }
    spec = change.pop("spec", SPEC)
    assert specs.key(SPEC, **base) != specs.key(spec, **(base | change))


@pytest.mark.parametrize(
    "change",
    [
        {"receipt_id": ""},
        {"receipt_id": "a b"},
        {"receipt_id": "a\0b"},
        {"receipt_id": "é"},
        {"receipt_id": "x" * 129},
        {"weights_root": "5e" * 31},
        {"weights_root": "zz" * 32},
        {"prompt_ids": (-1,)},
        {"output_ids": (1 << 31,)},
    ],
    ids=str,
)
def test_a_key_is_made_of_nothing_odd(change: dict[str, Any]) -> None:
    base: dict[str, Any] = {
        "receipt_id": "r-1",
        "weights_root": ROOT,
        "prompt_ids": (7, 8),
        "output_ids": (1, 2),
    }
    with pytest.raises(FormatError):
        specs.key(SPEC, **(base | change))


@pytest.mark.parametrize(
    "delta",
    [
        "0",
        "0.0",
        "-0.1",
        "nan",
        "inf",
        "1e-3",
        "",
        ".5",
        "1.",
        "00.5",
        "0.50",
        "9" * 9,
        " 1",
        "1\n",
    ],
)
def test_a_step_that_is_no_positive_decimal_in_its_one_spelling_is_refused(delta: str) -> None:
    spelt = encode(SPEC).replace(b'"0.032"', json.dumps(delta).encode())
    with pytest.raises(FormatError):
        specs.parse(spelt)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"coordinates":8', b'"coordinates":7'),
        (b'"coordinates":8', b'"coordinates":0'),
        (b'"innerDeltas":[]', b'"innerDeltas":["1"]'),
        (b"residue-sketch/v1", b"residue-sketch/v2"),
        (b"{", b'{"more":1,'),
        (b'"delta"', b' "delta"'),
        (b"}", b"}x"),
    ],
)
def test_a_spec_has_one_spelling_and_known_values(old: bytes, new: bytes) -> None:
    spelt = encode(SPEC)
    assert specs.parse(spelt) == SPEC
    with pytest.raises(FormatError):
        specs.parse(spelt.replace(old, new))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38])
def test_states_that_are_not_finite_raise_and_make_no_placeholder(value: float) -> None:
    states = np.full((4, WIDTH), 3e38 if value == 3e38 else 1.0, dtype=np.float32)
    states[2, 3] = value
    if value == 3e38:
        states[:] = 3e38  # whose sums are not finite any more
    with pytest.raises(FormatError):
        attester.sketch(states * np.float32(1), KEY, SPEC)


@pytest.mark.parametrize("shape", [(4,), (4, 0), (2, 2, 2)])
def test_states_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(FormatError):
        attester.sketch(np.ones(shape, dtype=np.float32), KEY, SPEC)


def test_states_that_do_not_fit_the_tokens_or_the_model_are_refused() -> None:
    rng = np.random.default_rng(8)
    states = states_of(rng, 5)
    claim = claimed(states)
    for wrong in (states[:4], states[:, :-1], states[:0]):
        with pytest.raises(FormatError):
            verifier.verify(claim, Taps(wrong), reference_of(SPEC, [flat()]))
    cut = msgspec.structs.replace(claim, sketch=claim.sketch[:-1])
    with pytest.raises(FormatError) as caught:
        verifier.verify(cut, Taps(states), reference_of(SPEC, [flat()]))
    assert caught.value.reason is Reason.SKETCH_SIZE


def test_an_answer_of_no_tokens_has_a_measure_without_values() -> None:
    states = np.zeros((0, WIDTH), dtype=np.float32)
    finding = verifier.verify(claimed(states), Taps(states), reference_of(SPEC, [flat()]))
    assert finding.measures[0].values == ()


@pytest.mark.parametrize("what", ["sign", "scale", "order", "shift"])
def test_sign_scale_and_order_count(what: str) -> None:
    rng = np.random.default_rng(9)
    states = states_of(rng, 40)
    changed = {
        "sign": -states,
        "scale": states * np.float32(1.25),
        "order": states[::-1],
        "shift": np.roll(states, 1, axis=0),
    }[what]
    known = calibrated()
    honest = verifier.verify(claimed(states), Taps(states), known).values(SKETCH)
    other = verifier.verify(claimed(changed.copy()), Taps(states), known).values(SKETCH)
    assert np.mean(other) > 2 * np.mean(honest)


def test_equal_states_at_two_positions_do_not_give_equal_residues() -> None:
    states = np.repeat(states_of(np.random.default_rng(1), 1), 64, axis=0)
    sketch = attester.sketch(states, KEY, SPEC)
    assert len({sketch[at : at + 2] for at in range(0, 128, 2)}) > 16


def test_a_second_tap_sees_a_change_in_the_layer_that_the_key_draws_alone() -> None:
    rng = np.random.default_rng(10)
    states = states_of(rng, 30)
    inner = np.stack([states_of(rng, 30) for _ in range(3)])
    known = reference_of(TAPPED, [flat(), flat()])
    claim = claimed(states, TAPPED, inner=inner)
    key = specs.key(
        TAPPED, receipt_id="r-1", weights_root=ROOT, prompt_ids=(7, 8), output_ids=range(30)
    )
    depth = specs.inner_depth(key)
    assert len(claim.sketch) == 30 * 4
    good = verifier.verify(claim, Taps(states, inner), known)
    for changed in range(3):
        other = inner.copy()
        other[changed] += 1
        seen = verifier.verify(claim, Taps(states, other), known)
        assert seen.values(SKETCH) == good.values(SKETCH)
        assert (seen.values(INNER) != good.values(INNER)) == (changed == depth)


def test_the_depth_of_the_second_tap_is_any_of_three() -> None:
    drawn = [specs.inner_depth(ProjectionKey(bytes([n]) * 32)) for n in range(90)]
    assert all(drawn.count(depth) > 15 for depth in range(3))


@pytest.mark.parametrize("shape", [None, (2, 5, WIDTH), (3, 4, WIDTH), (3, 5)])
def test_a_second_tap_needs_states_at_three_depths(shape: tuple[int, ...] | None) -> None:
    states = states_of(np.random.default_rng(2), 5)
    inner = None if shape is None else np.ones(shape, dtype=np.float32)
    with pytest.raises(FormatError):
        claimed(states, TAPPED, inner=inner)
    claim = Claims(receipt_id="r", prompt_ids=(1,), output_ids=(1,) * 5, sketch=bytes(20))
    with pytest.raises(LyditeError):
        verifier.verify(claim, Taps(states, inner), reference_of(TAPPED, [flat(), flat()]))


def test_tokens_before_which_honest_machines_differ_are_left_out() -> None:
    rng = np.random.default_rng(4)
    states, known = states_of(rng, 10), calibrated()
    others = nearby(rng, states)
    others[3] += 1
    agree = verifier.settled(states, others, known)
    assert agree.tolist() == [at != 3 for at in range(10)]
    finding = verifier.verify(claimed(others), Taps(states), known)
    kept = verifier.keep(finding, agree)
    assert len(kept.values(SKETCH)) == 9
    assert set(kept.values(SKETCH)) <= set(finding.values(SKETCH))
    with pytest.raises(FormatError):
        verifier.settled(states, others[1:], known)
