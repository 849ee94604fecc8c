"""Scores against obvious twins, and what honest draws and honest numerics make of them."""

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lydite.errors import LyditeError, Reason
from lydite.evidence.endpoint import lattice
from lydite.evidence.endpoint.attester import bf16, reported
from lydite.evidence.endpoint.claims import Draw
from lydite.evidence.endpoint.reference import (
    ABSENT,
    GENERIC,
    HABITS,
    Bounds,
    Calibrated,
    Plan,
    digest,
    levels,
    parse,
)
from lydite.evidence.endpoint.verifier import CLIP_NATS, distribution, verify
from lydite.messages.calibration import Binned, Histogram
from lydite.messages.canonical import encode
from lydite.messages.finding import Finding, Measure
from lydite.messages.tier import Tier

DATA = Path(__file__).parents[2] / "data" / "reference" / "endpoint"
NONCE = bytes(range(32))
NAMED = Plan(greedy=False, logprobs=True, tokens="named")
LEVEL = 3000

rows = st.lists(st.floats(-8, 8, width=32), min_size=4, max_size=12)


def obvious(row: list[float], draw: Draw) -> list[float]:
    """The distribution, one token after the other."""
    weights = [math.exp((value - max(row)) / draw.temperature) for value in row]
    p = [weight / sum(weights) for weight in weights]
    ranked = sorted(range(len(p)), key=lambda t: (-p[t], t))
    kept = [t for t in ranked if p[t] >= draw.min_p * max(p)]
    kept = [t for t in kept if not draw.top_k or ranked.index(t) < draw.top_k]
    mass, reached = 0.0, []
    whole = sum(p[t] for t in kept)
    for t in kept:
        if mass / whole < draw.top_p or not reached:
            reached.append(t)
        mass += p[t]
    left = sum(p[t] for t in reached)
    return [p[t] / left if t in reached else 0.0 for t in range(len(p))]


@given(rows, st.sampled_from([Draw(), *HABITS.values()]))
def test_a_distribution_is_the_obvious_one(row: list[float], draw: Draw) -> None:
    spread = sorted({round(value, 2) for value in row})
    before = np.cumsum(sorted(obvious(spread, msgspec.structs.replace(draw, top_p=1.0)))[::-1])
    assume(np.abs(before - draw.top_p).min() > 1e-9 or draw.top_p == 1.0)
    got = distribution(np.array(spread), draw)
    assert got.sum() == pytest.approx(1.0)
    assert list(got) == pytest.approx(obvious(spread, draw), abs=1e-9)


@given(rows)
def test_surprisals_are_centred_and_places_uniform(row: list[float]) -> None:
    values = np.array(row)
    p = distribution(values, Draw())
    found = [verify([t], values[None, :], {"": Draw()}, None, NONCE) for t in range(len(row))]
    mean = sum(p[t] * one.values("surprisal")[0] for t, one in enumerate(found))
    assert abs(mean) < 2
    assert all(-1e6 <= one.values("surprisal")[0] <= 1e6 for one in found)
    order = sorted(range(len(row)), key=lambda t: -p[t])
    places = [found[t].values("pit")[0] for t in order]
    assert all(0 <= place < 1_000_000 for place in places)


def test_a_token_that_a_habit_excludes_has_no_place_and_the_clip() -> None:
    row = np.array([[3.0, 2.0, -9.0]])
    found = verify([2], row, {"": Draw(), "k": Draw(top_k=1)}, None, NONCE)
    assert found.values("pit/k") == (ABSENT,)
    assert found.values("surprisal/k") == (1_000_000,)
    assert found.values("pit") != (ABSENT,)


def test_a_residual_is_widened_by_half_of_the_last_decimal_and_takes_the_nearer_of_two() -> None:
    row = np.array([[1.0, 0.0, -1.0]])
    raw = float(row[0, 0] - np.log(np.exp(row[0]).sum()))
    said = round(raw, 1)
    draws = {"": Draw(), "k": Draw(top_k=1)}
    found = verify([0], row, draws, ([said], 1), NONCE)
    assert found.values("residual") == (0,)
    found = verify([0], row, draws, ([0.0], 9), NONCE)
    assert found.values("residual") == (pytest.approx(-raw * 1e6, abs=1),)
    assert found.values("residual/k") == (0,)
    assert verify([0], row, draws, ([None], 9), NONCE).values("residual") == ()


def test_at_temperature_zero_only_the_margin_is_drawn_from() -> None:
    row = np.array([[1.0, 0.75, -9.0]])
    found = verify([1], row, {"": Draw(temperature=0.0)}, None, NONCE)
    assert found.values("margin") == (250_000,)
    assert found.values("surprisal") == ()
    far = verify([2], row, {"": Draw(temperature=0.0)}, None, NONCE)
    assert far.values("margin") == (500_000,)


@pytest.mark.parametrize(
    ("ids", "shape", "said", "reason"),
    [
        ([0], (2, 3), None, Reason.MALFORMED),
        ([3], (1, 3), None, Reason.UNKNOWN_TOKEN),
        ([-1], (1, 3), None, Reason.UNKNOWN_TOKEN),
        ([0], (1, 3), ([], 3), Reason.MALFORMED),
    ],
)
def test_what_does_not_fit_is_refused(
    ids: list[int], shape: tuple[int, int], said: object, reason: Reason
) -> None:
    with pytest.raises(LyditeError) as caught:
        verify(ids, np.zeros(shape), {"": Draw()}, said, NONCE)
    assert caught.value.reason is reason


def test_logits_that_are_not_finite_are_refused() -> None:
    with pytest.raises(LyditeError):
        verify([0], np.array([[np.nan, 0.0]]), {"": Draw()}, None, NONCE)


def streamed(
    count: int, noise: float, seed: int, length: int = 40, temperature: float = 1.0
) -> list[Finding]:
    """Answers of a model whose logits are those of another machine: normal noise beside ours."""
    dice = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        ours = dice.normal(0.0, 3.0, (length, 64))
        theirs = ours + dice.normal(0.0, noise, ours.shape)
        ids, said = [], []
        for row in theirs:
            p = distribution(row, Draw(temperature=temperature))
            token = int(dice.choice(64, p=p))
            ids.append(token)
            said.append(reported(row, token, 0, 4).logprob)
        found.append(verify(ids, ours, {"": Draw()}, (said, 4), NONCE))
    return found


def test_honest_machines_are_never_accused() -> None:
    # three times the noise of the worst honest machine that was measured, 10 streams
    for seed in range(10):
        level = levels(GENERIC, NAMED, streamed(10, 0.03, seed), "")
        assert level.merged < LEVEL
        assert level.numerics < LEVEL


@pytest.mark.slow
def test_no_long_honest_stream_is_accused_at_the_edge_of_the_bounds() -> None:
    # total variation and residual just within the bounds that accuse
    for seed in range(10):
        assert levels(GENERIC, NAMED, streamed(120, 0.08, seed), "").merged < LEVEL


def test_numerics_that_nobody_measured_are_noticed_and_do_not_accuse() -> None:
    level = levels(GENERIC, NAMED, streamed(12, 0.08, 1), "")
    assert level.numerics >= LEVEL
    assert level.merged < LEVEL


def test_another_model_is_accused() -> None:
    level = levels(GENERIC, NAMED, streamed(12, 1.5, 1), "")
    assert level.merged >= LEVEL


def test_another_temperature_is_accused_by_its_tokens_alone() -> None:
    plan = Plan(greedy=False, logprobs=False, tokens="named")
    assert levels(GENERIC, plan, streamed(30, 0.0, 1, temperature=1.6), "").merged >= LEVEL


def test_tokens_found_again_pay_a_toll() -> None:
    found = streamed(20, 0.0, 1, temperature=1.4)
    named, again = (
        levels(GENERIC, Plan(greedy=False, logprobs=False, tokens=how), found, "").merged
        for how in ("named", "found")
    )
    assert again < named


def test_the_generic_bounds_are_those_that_the_script_derived() -> None:
    kept = (DATA / "generic.json").read_bytes()
    assert parse(kept) == GENERIC
    assert encode(GENERIC) == kept
    assert len(digest(GENERIC)) == 64


def test_the_generic_bounds_follow_from_the_kept_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DATA.parents[2] / "scripts"))
    script = __import__("derive_endpoint_bounds")
    assert script.derive((DATA / "honest.json").read_bytes()) == GENERIC


def test_bounds_that_do_not_fit_are_refused() -> None:
    with pytest.raises(LyditeError):
        parse(encode(GENERIC).replace(b'"driftMicro":', b'"driftMicro":9'))


def test_weights_of_every_plan_sum_to_one() -> None:
    for greedy in (True, False):
        for logprobs in (True, False):
            plan = Plan(greedy=greedy, logprobs=logprobs, tokens="named")
            assert math.fsum(plan.weights().values()) == pytest.approx(1.0)


def said_of(dice: np.random.Generator, dtype: str, decimals: int) -> list[list[float]]:
    answer = []
    for _ in range(12):
        row = dice.normal(0.0, 4.0, 200) + 8.0
        row = bf16(row).astype(np.float64) if dtype == "bf16" else row
        answer.append([value for _, value in reported(row, 0, 5, decimals).top])
    return answer


@pytest.mark.parametrize(
    ("dtype", "decimals", "verdict"),
    [("bf16", 9, "on"), ("bf16", 5, "on"), ("fp32", 9, "off"), ("fp32", 5, "off")],
)
def test_the_lattice_of_bf16_is_found(dtype: str, decimals: int, verdict: str) -> None:
    dice = np.random.default_rng(3)
    assert {lattice.judge(said_of(dice, dtype, decimals), decimals) for _ in range(8)} == {verdict}


def test_a_rounding_coarser_than_the_lattice_says_nothing() -> None:
    dice = np.random.default_rng(3)
    assert lattice.judge(said_of(dice, "fp32", 1), 1) == "unclear"
    assert lattice.judge([[-1.0, -2.0]] * 20, 9) == "unclear"
    assert lattice.judge([], 9) == "unclear"


def test_bf16_rounds_half_to_even() -> None:
    values = np.array([1.0, 1.00390625, 1.01171875, -1.01171875, 3.0e38], np.float32)
    assert list(bf16(values)) == [1.0, 1.0, 1.015625, -1.015625, bf16(values)[4]]
    assert CLIP_NATS == 6.0
    assert isinstance(GENERIC, Bounds)


def binned(*cells: tuple[str, tuple[int, ...]]) -> Calibrated:
    """Residuals of honest machines: 20 answers of 50 tokens each, alike."""
    edges = (1, 5_000, 50_000)
    histograms = tuple(
        Histogram(
            name=name,
            responses=20,
            tokens=1000,
            tokens_squared=20 * 50**2,
            counts=tuple(20 * n for n in counts),
            counts_squared=tuple(20 * n * n for n in counts),
            crosses=tuple(20 * 50 * n for n in counts),
        )
        for name, counts in cells
    )
    return Calibrated(binned=Binned(edges=edges, histograms=histograms), error_ppm=1000)


def residual(values: list[int]) -> list[Finding]:
    rows = {"surprisal": [0] * len(values), "pit": [ABSENT] * len(values), "residual": values}
    measures = tuple(Measure(name=n, unit="u", values=tuple(v)) for n, v in rows.items())
    return [Finding(kind="endpoint", tier=Tier.NONE, reason=Reason.RECORDED, measures=measures)]


def test_numerics_between_two_honest_stacks_accuse_nobody() -> None:
    # llama.cpp lies between fp32, whose residuals are nothing, and bf16
    known = binned(("fp32", (50, 0, 0, 0)), ("bf16", (2, 20, 27, 1)))
    bounds = msgspec.structs.replace(GENERIC, calibrated=known)
    between = levels(bounds, NAMED, residual([3_000] * 400) * 10, "")
    assert between.channels["residual"] < 0
    beyond = levels(bounds, NAMED, residual([3_000, 60_000] * 40), "")
    assert beyond.channels["residual"] >= LEVEL
    assert levels(GENERIC, NAMED, residual([3_000, 60_000] * 40), "").merged < LEVEL
