"""The path through torch gives the reference's features, to 1e-5."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

import torch

from lydite.errors import FormatError
from lydite.evidence.power.features.table import Table
from lydite.evidence.power.windows import Plan
from lydite.monitor.features_torch import compute

CHANNELS = ("power_instant_w", "sm_active", "tensor_active", "dram_active")
PLACES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
PLANS = [Plan(rate_hz=10.0), Plan(length_s=2.0, rate_hz=100.0), Plan(length_s=1.0, rate_hz=1000.0)]


def windows(seed: int, plan: Plan, kind: str) -> dict[str, np.ndarray]:
    dice = np.random.default_rng(seed)
    rows = int(dice.integers(1, 5))
    shape = (rows, plan.size)
    watts = {
        "noise": dice.uniform(0, 900, shape),
        "walk": 400 + dice.standard_normal(shape).cumsum(axis=1),
        "steps": 100.0 * dice.integers(0, 5, shape),
        "wave": 300 + 100 * (np.arange(plan.size) % dice.integers(2, 40) < 9) * np.ones(shape),
        "held": np.repeat(dice.integers(100, 700, shape), 3, axis=1)[:, : plan.size] * 1.0,
        "constant": np.full(shape, dice.uniform(0, 900)),
    }[kind].clip(0)
    shares = {name: np.round(dice.uniform(0, 1, shape), 3) for name in CHANNELS[1:]}
    return {CHANNELS[0]: watts, **shares}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.rate_hz:g}Hz")
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["noise", "walk", "steps", "wave", "held", "constant"]),
)
@settings(max_examples=40)
def test_torch_agrees_with_the_reference(place: str, plan: Plan, seed: int, kind: str) -> None:
    table = Table(plan, CHANNELS)
    given_ = windows(seed, plan, kind)
    expected, found = table.compute(given_), compute(table, given_, place)
    apart = np.abs(found - expected) > 1e-5 * np.maximum(np.abs(expected), 1.0)
    assert not apart.any(), [table.names[column] for column in np.flatnonzero(apart.any(axis=0))]


def test_torch_refuses_what_the_reference_refuses() -> None:
    table = Table(PLANS[0], CHANNELS[:1])
    for wrong in ({}, {CHANNELS[0]: np.zeros((2, 99))}):
        with pytest.raises(FormatError):
            compute(table, wrong)
    assert compute(table, {CHANNELS[0]: np.zeros((0, 100))}).shape == (0, len(table.names))


def test_where_there_is_no_gpu_it_is_said() -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch: no GPU here, so the agreement was tried on the CPU alone")
