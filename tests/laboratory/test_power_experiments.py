"""The experiments on power keep sessions apart, count joules, and learn what plain arrays run."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")
pytest.importorskip("pyarrow", reason="pyarrow is not installed")

import pyarrow as pa
import pyarrow.parquet as parquet
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

from lydite.errors import UnavailableError
from lydite.evidence.power.classify import IDLE, INFERENCE, TRAINING
from lydite.laboratory.power import (
    adversaries,
    candidates,
    curves,
    experiments,
    learning,
    shift,
    splits,
    thermal,
    traces,
)
from lydite.laboratory.power.adversaries import ATTACKS, Scene
from lydite.laboratory.power.traces import Request, Windows

LEVELS = {"idle": 118.0, "llm_inference": 410.0, "training": 560.0}


def write_traces(where: Path, sessions: int = 5) -> None:
    """Write made-up sessions with the schema of measured ones."""
    dice = np.random.default_rng(0)
    labels, samples = [], {"trace_id": [], "t_s": [], "power_w": []}
    for workload, level in LEVELS.items():
        for place in range(sessions):
            name = f"{workload}-{place}"
            source = "ath" if place % 2 else "eve"
            labels.append(
                {"trace_id": name, "shard": "made", "dt_median_s": 0.1, "gpu": "H100",
                 "workload": workload, "session": name, "source": source, "model": "m",
                 "family": f"f{place % 2}", "quant": "", "params_b": 8.0,
                 "redistribute": place > 0}
            )  # fmt: skip
            samples["trace_id"] += [name] * 400
            samples["t_s"] += (np.arange(400) / 10).tolist()
            noise = (2 if workload == "idle" else 15) * dice.standard_normal(400)
            samples["power_w"] += (level + 5 * place + noise).tolist()
    parquet.write_table(pa.Table.from_pylist(labels), where / "traces.parquet")
    parquet.write_table(pa.table(samples), where / "made.parquet")


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Windows:
    where = tmp_path_factory.mktemp("traces")
    write_traces(where)
    return traces.load(where, Request(shards=("made",)))


def test_windows_carry_their_labels_and_never_span_traces(windows: Windows) -> None:
    assert len(windows) == 15 * 6
    assert set(windows.label.tolist()) == {IDLE, INFERENCE, TRAINING}
    for level, label in zip(LEVELS.values(), (IDLE, INFERENCE, TRAINING), strict=True):
        assert np.all(np.abs(windows.watts[windows.label == label].mean(axis=1) - level) < 30)


def test_what_may_ship_comes_from_redistributable_traces_alone(tmp_path: Path) -> None:
    write_traces(tmp_path)
    free = traces.load(tmp_path, Request(shards=("made",), redistributable=True))
    assert not any(name.endswith("-0") for name in free.session)
    assert len(set(free.session.tolist())) == 12


def test_no_traces_is_a_named_absence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(traces.FOLDER, str(tmp_path))
    with pytest.raises(UnavailableError, match="no measured traces"):
        traces.folder()
    write_traces(tmp_path)
    with pytest.raises(UnavailableError, match="no window"):
        traces.load(traces.folder(), Request(shards=("made",), gpus=("H300",)))


def test_a_window_below_the_line_is_idle_whatever_its_trace_is_called() -> None:
    assert traces.label_of(np.full(10, 120.0), "training", 700) == IDLE
    assert traces.label_of(np.full(10, 150.0), "training", 700) == TRAINING


def test_no_session_is_on_both_sides_of_any_split(windows: Windows) -> None:
    folds = [
        *splits.by_session(windows.label, windows.session, 0),
        *splits.leave_out(windows.family, windows.session),
        *experiments.source_folds(windows, "ath"),
    ]
    assert len(folds) == 8
    for fold in folds:
        both = set(windows.session[fold.train]) & set(windows.session[fold.test])
        assert not both
        assert fold.test.any()


def test_a_bootstrap_draws_sessions_and_not_windows(windows: Windows) -> None:
    session = np.repeat(["a", "b", "c", "d"], 50)
    right = np.repeat([1.0, 1.0, 0.0, 1.0], 50)
    found = splits.bootstrap(lambda at: float(right[at].mean()), session)
    assert found.value == 0.75
    assert found.high - found.low >= 0.5


def test_selected_counts_what_is_not_answered() -> None:
    truth = np.array(["a", "a", "b", "b"])
    found = splits.selected(truth, np.array(["a", "", "a", "b"]))
    assert (found.abstained, found.wrong, found.balanced) == (0.25, pytest.approx(1 / 3), 0.75)
    assert found.by_class == {"a": 0.5, "b": 0.0}
    assert splits.selected(truth, np.array([""] * 4)).abstained == 1.0


def test_plain_trees_say_what_scikit_learn_says(windows: Windows) -> None:
    rows = windows.rows.astype(np.float32)
    model = ExtraTreesClassifier(20, random_state=1, class_weight="balanced").fit(
        rows, windows.label
    )
    plain = learning.plain(model, rows.shape[1])
    assert np.allclose(plain.predict(windows.rows), model.predict_proba(rows), atol=1e-6)
    numbers = windows.watts.mean(axis=1)
    other = ExtraTreesRegressor(20, random_state=1).fit(rows, numbers)
    made = learning.grow_numbers(windows.rows, numbers, learning.Settings(trees=20, seed=1))
    assert np.allclose(made.predict(windows.rows)[:, 0], other.predict(rows), rtol=1e-5)


def test_the_pipeline_learns_made_up_work_and_answers_by_session(windows: Windows) -> None:
    asked = experiments.by_session(windows, 0)
    assert splits.balanced(windows.label, asked.forced) > 0.95
    assert splits.selected(windows.label, asked.told).wrong < 0.05
    truth, told = experiments.run_answers(windows, asked.told)
    assert np.mean(truth == told) > 0.9


@pytest.mark.parametrize("place", range(9))
def test_every_candidate_learns_what_is_easy(windows: Windows, place: int) -> None:
    if place == 8:
        pytest.importorskip("torch", reason="torch is not installed")
    named = candidates.several(deep=place == 8)[place]
    fold = next(splits.by_session(windows.label, windows.session, 0))
    told = experiments.tell(windows, named, fold, 0, windows.watts.shape[1])
    assert splits.accuracy(windows.label[fold.test], told) > 0.8, named.name


def scene(size: int = 100) -> Scene:
    dice = np.random.default_rng(0)
    hidden = 560 + 10 * dice.standard_normal((6, size))
    cover = 410 + 10 * dice.standard_normal((6, size))
    return Scene(hidden, cover, 700.0, 120.0)


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_reports_power_that_a_device_can_draw(name: str) -> None:
    made = ATTACKS[name](scene(), np.random.default_rng(1))
    assert made.reported.shape == (6, 100)
    assert np.all((made.reported >= 0) & (made.reported <= 720))
    assert 0 <= made.kept <= 1
    assert 0 <= made.lost <= 1
    assert made.wasted_w >= 0


@pytest.mark.parametrize("name", ["hiding from the sampler's phase", "spoofed power, true energy"])
def test_power_made_up_beside_a_true_counter_breaks_the_energy_gate(name: str) -> None:
    made = ATTACKS[name](scene(), np.random.default_rng(1))
    integrated = adversaries.joules(made.reported)
    assert np.all(made.counted_j > 1.1 * integrated)


def test_replayed_telemetry_is_consistent_with_itself() -> None:
    made = ATTACKS["replayed telemetry"](scene(), np.random.default_rng(1))
    assert np.array_equal(made.counted_j, adversaries.joules(made.reported))


def test_interleaving_draws_the_joules_of_its_parts() -> None:
    steady = Scene(np.full((4, 100), 600.0), np.full((4, 100), 400.0), 700.0, 120.0)
    made = adversaries.interleaving(0.3)(steady, np.random.default_rng(0))
    assert adversaries.joules(made.reported)[0] == pytest.approx(10 * 460, rel=0.02)
    price = adversaries.price(made)
    assert price.dollars == pytest.approx(0.3 * 2.5)


def test_a_matched_attack_has_the_mean_of_its_cover() -> None:
    made = ATTACKS["power matching"](scene(), np.random.default_rng(0))
    assert made.reported.mean(axis=1) == pytest.approx(scene().cover.mean(axis=1), rel=1e-6)
    assert made.kept < 1


def test_the_area_is_the_chance_that_pairs_give() -> None:
    dice = np.random.default_rng(0)
    scores = dice.integers(0, 5, 60).astype(float)
    positive = dice.random(60) < 0.4
    pairs = [(a, b) for a in scores[positive] for b in scores[~positive]]
    obvious = np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs])
    assert curves.area(scores, positive) == pytest.approx(obvious)
    assert curves.true_rate(np.arange(10.0), np.arange(10) > 7, 0.0) == 1.0


def test_calibration_is_perfect_where_what_is_said_holds() -> None:
    dice = np.random.default_rng(0)
    said = dice.random(20_000)
    assert curves.reliability(said, dice.random(20_000) < said).error < 0.02
    assert curves.reliability(np.full(100, 0.95), np.zeros(100, bool)).error > 0.9


def test_time_constants_of_made_up_heat_are_found_again() -> None:
    dice = np.random.default_rng(0)
    power = np.repeat(dice.uniform(100, 700, 30), 20)
    heat = 28 + 0.03 * thermal.followed(power, 1.0, 1.0) + 0.02 * thermal.followed(power, 40.0, 1.0)
    found = thermal.fit([(power, heat)], 1.0)
    assert (found.fast_s, found.slow_s) == (1.0, 40.0)
    assert found.rmse_c < 1e-6
    assert thermal.delay(power, np.roll(power, 5), 1.0) == 5.0


def test_measured_sessions_are_told_far_above_chance() -> None:
    try:
        where = traces.folder()
    except UnavailableError as absent:
        pytest.skip(str(absent))
    several = traces.load(where, Request(most=6))
    asked = experiments.by_session(several, 0)
    assert splits.balanced(several.label, asked.forced) > 0.85


@pytest.mark.parametrize("name", shift.SHIFTS)
def test_a_shift_keeps_level_work_level(name: str) -> None:
    made = shift.SHIFTS[name](np.full((3, 100), 400.0), np.random.default_rng(0))
    assert made.shape == (3, 100)
    assert np.ptp(made, axis=1) == pytest.approx(np.zeros(3), abs=1e-6)
    assert np.all(np.abs(made - 400) <= 20)


def test_polling_shows_old_samples_and_never_later_ones() -> None:
    ramp = np.arange(100.0)[None, :]
    made = shift.polled(2.0)(ramp, np.random.default_rng(0))
    assert np.all(made <= ramp)
    assert len(np.unique(made)) <= 6
