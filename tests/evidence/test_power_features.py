"""Features are what their formulas say, and the same bits in a stream, alone and among many."""

import math
import subprocess
import sys
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError, Reason, UnavailableError
from lydite.evidence.power.channels import CHANNELS
from lydite.evidence.power.features.feature import SHAPE, Window
from lydite.evidence.power.features.frequency import haar
from lydite.evidence.power.features.model import (
    PHASES,
    envelope,
    layer_count,
    least_rate_hz,
    phase_features,
    phase_values,
)
from lydite.evidence.power.features.table import GROUPS, FeatureStream, Table
from lydite.evidence.power.trace import Series
from lydite.evidence.power.windows import Plan, cut

POWER = "power_instant_w"
SLOW = Plan(length_s=10.0, hop_s=5.0, rate_hz=10.0)
FAST = Plan(length_s=2.0, hop_s=1.0, rate_hz=100.0)

rows = st.one_of(
    st.lists(st.floats(0, 900, allow_subnormal=False), min_size=100, max_size=100),
    st.lists(st.integers(0, 4).map(lambda k: 100.0 * k), min_size=100, max_size=100),
    st.integers(0, 2**32 - 1).map(
        lambda seed: (400 + np.random.default_rng(seed).standard_normal(100).cumsum()).tolist()
    ),
)


def by_name(plan: Plan, row: list[float]) -> dict[str, float]:
    table = Table(plan, (POWER,))
    values = table.compute({POWER: np.array([row])})[0]
    return {
        name.removeprefix(f"{POWER}."): float(value)
        for name, value in zip(table.names, values, strict=True)
    }


def obvious(row: list[float], rate: float) -> dict[str, float]:
    """Every feature of time and frequency by its formula, in plain Python."""
    n, order = len(row), sorted(row)
    mean = math.fsum(row) / n
    std = math.sqrt(math.fsum((x - mean) ** 2 for x in row) / n)
    z = [(x - mean) / std if std > 1e-9 * max(map(abs, row)) else 0.0 for x in row]
    steps = [b - a for a, b in pairwise(row)]
    leaps = [b - a for a, b in pairwise(z)]
    found = {"mean": mean, "std": std, "min": order[0], "max": order[-1]}
    for share in (0.05, 0.25, 0.5, 0.75, 0.95):
        found[f"q{round(100 * share):02d}"] = order[int(share * (n - 1))]
        found[f"z{round(100 * share):02d}"] = sorted(z)[int(share * (n - 1))]
    found |= {"z_min": min(z), "z_max": max(z)}
    found["peak_to_trough"] = order[-1] - order[0]
    found["peak_to_trough_ratio"] = order[-1] / max(order[0], order[-1] / 1e3) if order[-1] else 0.0
    found["peak_rate"] = max(map(abs, steps)) * rate
    found["mean_rate"] = math.fsum(map(abs, steps)) / (n - 1) * rate
    found["roughness"] = math.fsum(map(abs, leaps)) / (n - 1)
    found["leap"] = max(map(abs, leaps))
    found["lean"] = math.fsum(leap**3 for leap in leaps) / (n - 1)
    found["held"] = sum(step == 0 for step in steps) / (n - 1)
    found["skewness"] = math.fsum(v**3 for v in z) / n
    found["kurtosis"] = math.fsum(v**4 for v in z) / n
    found["trend"] = math.fsum(v * (2 * i / (n - 1) - 1) for i, v in enumerate(z)) / n
    for lag in (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0):
        k = round(lag * rate)
        found[f"autocorrelation_{lag:g}s"] = math.fsum(z[i] * z[i + k] for i in range(n - k)) / n
    line = (order[int(0.1 * (n - 1))] + order[int(0.9 * (n - 1))]) / 2
    runs = [(high, len(list(run)) / rate) for high, run in groupby(x > line for x in row)]
    for side, kind in (("high", True), ("low", False)):
        lengths = [length for high, length in runs if high is kind] or [0.0]
        found[f"{side}_run_mean"] = math.fsum(lengths) / len(lengths)
        found[f"{side}_run_longest"] = max(lengths)
    found["high_share"] = sum(x > line for x in row) / n
    found["peak_to_trough_rate"] = sum(high for high, _ in runs) / (n / rate)
    for span in (1.0, 10.0):
        step = round(span * rate)
        pieces = [row[i : i + step] for i in range(0, n // step * step, step)]
        swings = [max(piece) - min(piece) for piece in pieces]
        found[f"flatness_{span:g}s"] = math.fsum(swings) / len(swings) / mean if mean else 0.0
        found[f"flat_share_{span:g}s"] = sum(s <= 0.05 * mean for s in swings) / len(swings)
    return found


@given(rows)
def test_features_of_time_are_what_their_formulas_say(row: list[float]) -> None:
    found, expected = by_name(SLOW, row), obvious(row, 10.0)
    flat = expected["flat_share_1s"], expected["flat_share_10s"]
    for name, value in expected.items():
        if name.startswith("flat_share") and any(flat):
            continue  # a swing of just 5 % may fall on either side
        assert found[name] == pytest.approx(value, rel=1e-6, abs=1e-6), name


@given(rows)
def test_the_spectrum_is_that_of_the_obvious_transform(row: list[float]) -> None:
    found = by_name(SLOW, row)
    z = Window.of(np.array([row]), 10.0).z[0]
    n = len(z)
    k = np.arange(1, n // 2 + 1)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
    power = np.abs(np.exp(-2j * np.pi * np.outer(k, np.arange(n)) / n) @ (z * hann)) ** 2
    if not np.any(z):
        assert found["spectral_entropy"] == found["dominant_frequency"] == 0
        return
    p = power / power.sum()
    assert found["spectral_entropy"] == pytest.approx(
        -sum(v * math.log(v) for v in p if v > 0) / math.log(len(p)), abs=1e-6
    )
    assert p[round(found["dominant_frequency"] * n / 10) - 1] == pytest.approx(p.max(), rel=1e-6)
    assert found["dominant_share"] == pytest.approx(p.max(), abs=1e-6)
    assert found["spectral_centroid"] == pytest.approx(float(p @ k) / 10, abs=1e-6)
    assert found["band_1_2hz"] == pytest.approx(p[(k > 10) & (k <= 20)].sum(), abs=1e-6)


def test_wavelets_keep_the_energy_of_a_window() -> None:
    row = np.random.default_rng(0).standard_normal((3, 64))
    details = [one * 0.5 ** (level / 2) for level, one in enumerate(haar(row, 6), 1)]
    total = sum((one * one).sum(axis=-1) for one in details) + row.sum(axis=-1) ** 2 / 64
    np.testing.assert_allclose(total, (row * row).sum(axis=-1))
    means = row.reshape(3, 16, 4).mean(axis=-1)
    third = (means[:, 0::2] - means[:, 1::2]) * math.sqrt(2)
    np.testing.assert_allclose(details[2], third)


@pytest.mark.parametrize("plan", [SLOW, FAST], ids=["slow", "fast"])
@given(data=st.data())
def test_a_row_has_the_same_bits_alone_and_among_many(plan: Plan, data: st.DataObject) -> None:
    seed, count = data.draw(st.integers(0, 999)), data.draw(st.integers(1, 70))
    dice = np.random.default_rng(seed)
    values = np.round(400 + 30 * dice.standard_normal((count, plan.size)).cumsum(axis=1)).clip(0)
    table = Table(plan, (POWER,))
    whole = table.compute({POWER: values})
    place = data.draw(st.integers(0, count - 1))
    alone = table.compute({POWER: values[place : place + 1].copy()})
    assert whole[place].tobytes() == alone[0].tobytes()


@pytest.mark.parametrize("plan", [SLOW, FAST], ids=["slow", "fast"])
@given(data=st.data())
def test_a_stream_of_features_has_the_bits_of_the_whole(plan: Plan, data: st.DataObject) -> None:
    dice = np.random.default_rng(data.draw(st.integers(0, 999)))
    steps = dice.integers(1, 4, 900) * 7_000_000
    steps[dice.random(900) < 0.002] = 3 * 10**9
    times = np.cumsum(steps).astype(np.int64)
    one = Series(CHANNELS[POWER], times, 400 + 50 * dice.standard_normal(900).clip(-4, 4))
    table = Table(plan, (POWER,))
    windows = cut(one, plan)
    whole = table.compute({POWER: windows.values})
    stream, found, first = FeatureStream(table), [], 0
    while first < len(times):
        last = first + data.draw(st.integers(1, 400))
        part = times[first:last].copy(), one.values[first:last].copy()
        found += [(named[POWER], row) for named, row in stream.push({POWER: part})]
        first = last
    assert [int(window.start_ns[0]) for window, _ in found] == windows.start_ns.tolist()
    assert b"".join(row.tobytes() for _, row in found) == whole.tobytes()


@given(rows, st.floats(0.5, 2), st.floats(0, 200))
def test_shapes_do_not_move_with_gain_and_offset(
    row: list[float], gain: float, offset: float
) -> None:
    values = np.array(row)
    if values.std() < 1e-3:
        return
    table = Table(SLOW, (POWER,))
    shapes = [feature.scale == SHAPE for feature in table.features]
    exact = {"held", "high_share", "peak_to_trough_rate", "dominant_frequency", "cadence",
             "cadence_strength", "spectral_rolloff"}  # fmt: skip
    before, after = (table.compute({POWER: x[None]})[0] for x in (values, gain * values + offset))
    for name, shape, one, other in zip(table.names, shapes, before, after, strict=True):
        if shape and "run" not in name and name.split(".")[1] not in exact:
            assert one == pytest.approx(other, rel=1e-5, abs=1e-5), name


def test_a_constant_window_has_finite_features() -> None:
    for value in (0.0, 312.7):
        found = by_name(FAST, [value] * FAST.size)
        assert all(math.isfinite(number) for number in found.values())
        assert found["kurtosis"] == found["burst_rate"] == found["cadence"] == 0


def test_a_cadence_is_found() -> None:
    times = np.arange(FAST.size) / FAST.rate_hz
    found = by_name(FAST, (400 + 50 * (np.sin(2 * np.pi * 5 * times) > 0)).tolist())
    assert found["cadence"] == 5
    assert found["cadence_strength"] > 0.8
    assert found["dominant_frequency"] == pytest.approx(5)


def test_bursts_are_counted_over_their_envelope() -> None:
    times = np.arange(2000) / 1000
    slow = 400 + 100 * (np.sin(2 * np.pi * times) > 0)
    x = slow + 80 * ((np.arange(2000) % 20) < 4)
    found = by_name(Plan(length_s=2.0, hop_s=1.0, rate_hz=1000.0), x.tolist())
    assert found["burst_rate"] == pytest.approx(50, abs=1)
    assert found["burst_irregularity"] < 0.1
    assert found["envelope_rate"] == 1
    assert found["envelope_duty"] == pytest.approx(0.5, abs=0.05)


def test_an_envelope_is_the_obvious_mean() -> None:
    row = np.random.default_rng(1).uniform(0, 1, 30)
    padded = [row[0]] * 2 + row.tolist() + [row[-1]] * 2
    expected = [sum(padded[i : i + 5]) / 5 for i in range(30)]
    np.testing.assert_allclose(envelope(row[None], 5)[0], expected)


def test_the_autocorrelation_is_the_obvious_sum() -> None:
    z = np.random.default_rng(1).standard_normal(37)
    z = (z - z.mean()) / z.std()
    expected = [sum(z[i] * z[i + k] for i in range(37 - k)) / 37 for k in range(20)]
    window = Window.of(z[None], 1.0)
    np.testing.assert_allclose(window.correlations[0], expected, atol=1e-12)


def decode(layers: int, rate_hz: float, token_s: float, seconds: float) -> np.ndarray:
    """Power of a model that makes tokens: a burst a layer, then a pause of three layers."""
    place = (np.arange(round(seconds * rate_hz)) / rate_hz % token_s) / token_s * (layers + 3)
    bursting = (place < layers) & (place % 1 < 0.4)
    noise = np.random.default_rng(layers).standard_normal(len(place))
    return np.asarray(400 + 60 * bursting + 2 * noise)


@pytest.mark.parametrize("layers", [12, 32, 80])
def test_layers_are_counted_where_the_rate_allows(layers: int) -> None:
    rate_hz = 2.5 * least_rate_hz(0.02, layers)
    found = layer_count(decode(layers, rate_hz, 0.02, 0.5), rate_hz, 0.02, layers)
    assert found.layers == layers
    assert found.agreeing > 0.8
    assert found.token_s == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize(("rate_hz", "averaging_s"), [(100.0, 0.0), (50_000.0, 0.025)])
def test_layers_are_not_counted_by_a_slow_sensor(rate_hz: float, averaging_s: float) -> None:
    with pytest.raises(UnavailableError) as caught:
        layer_count(decode(32, rate_hz, 0.02, 1), rate_hz, 0.02, 32, averaging_s)
    assert caught.value.reason is Reason.TOO_SLOW


def test_no_layers_are_found_in_noise_without_tokens() -> None:
    with pytest.raises(UnavailableError) as caught:
        layer_count(np.full(50_000, 400.0), 50_000, 0.02, 32)
    assert caught.value.reason is Reason.TOO_FEW_SAMPLES


def test_phases_are_told_by_tensor_cores_and_memory() -> None:
    sm = np.array([[0.0, 0.9, 0.9, 0.9, 0.9]])
    tensor = np.array([[0.0, 0.6, 0.1, 0.1, 0.6]])
    dram = np.array([[0.0, 0.2, 0.7, 0.1, 0.2]])
    names = [feature.name for feature in phase_features()]
    found = dict(zip(names, phase_values(sm, tensor, dram, 5.0)[0], strict=True))
    assert [found[f"{phase}_share"] for phase in PHASES] == [0.2, 0.4, 0.2, 0.2]
    assert found["phase_rate"] == 4
    assert found["tensor_of_sm"] == pytest.approx(1.4 / 3.6)


@pytest.mark.parametrize("rate_hz", [1.0, 10.0, 100.0, 1000.0])
def test_the_catalogue_names_every_column_once(rate_hz: float) -> None:
    plan = Plan(length_s=60.0, hop_s=5.0, rate_hz=rate_hz)
    channels = (POWER, "sm_active", "tensor_active", "dram_active", "gpu_temperature_c")
    table = Table(plan, channels)
    dice = np.random.default_rng(0)
    found = table.compute({name: dice.uniform(0, 1, (3, plan.size)) for name in channels})
    assert found.shape == (3, len(table.names))
    assert np.isfinite(found).all()
    assert len(set(table.names)) == len(table.names)
    assert {f"{POWER}.flatness_{span}s" for span in (10, 60)} < set(table.names)
    for feature in table.features:
        assert feature.formula
        assert feature.source
        assert feature.unit not in ("u", "u/s")


def test_a_table_refuses_channels_and_rows_that_are_not_its_own() -> None:
    with pytest.raises(FormatError):
        Table(SLOW, ("nonsense",))
    with pytest.raises(FormatError):
        Table(SLOW, ())
    table = Table(SLOW)
    for windows in ({}, {POWER: np.zeros((2, 99))}):
        with pytest.raises(FormatError):
            table.compute(windows)
    assert table.compute({POWER: np.zeros((0, 100))}).shape == (0, len(table.names))
    assert len(GROUPS) == 10


def test_the_table_in_the_docs_is_that_of_the_code() -> None:
    script = Path(__file__).parents[2] / "scripts" / "document_features.py"
    result = subprocess.run([sys.executable, str(script), "--check"], check=False)
    assert result.returncode == 0, "run: python scripts/document_features.py"
