"""Recognition in plain arrays: each clever part beside an obvious one, and each refusal."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lydite.errors import FormatError, UnavailableError
from lydite.evidence.power import arrays, classify, mixture, openset, size
from lydite.evidence.power.arrays import Arrays
from lydite.evidence.power.channels import CHANNELS
from lydite.evidence.power.classify import IDLE, INFERENCE, TRAINING, Recogniser
from lydite.evidence.power.features.table import Table
from lydite.evidence.power.forest import LEAF, Forest, Linear, shares
from lydite.evidence.power.live import Live
from lydite.evidence.power.openset import Support
from lydite.evidence.power.reference import Gates
from lydite.evidence.power.rocket import KERNELS, Rocket
from lydite.evidence.power.rules import Readings
from lydite.evidence.power.trace import Series
from lydite.evidence.power.windows import Plan

TDP_W = 700.0
PLAN = Plan(length_s=4.0, hop_s=2.0, rate_hz=10.0)
TABLE = Table(PLAN)


def flat(share: float, count: int = 1) -> np.ndarray:
    return np.full((count, PLAN.size), share * TDP_W)


def stump() -> Forest:
    return Forest(
        roots=np.array([0], np.int32),
        feature=np.array([0, LEAF, LEAF], np.int32),
        threshold=np.array([0.5, 0, 0], np.float32),
        left=np.array([1, 0, 0], np.int32),
        right=np.array([2, 0, 0], np.int32),
        leaves=np.array([[0.5, 0.5], [1, 0], [0, 1]], np.float32),
        columns=1,
    )


def random_tree(dice: np.random.Generator, depth: int, columns: int) -> list[list[float]]:
    """Return nodes as rows of feature, threshold, left, right and two leaves, children later."""
    nodes: list[list[float]] = []

    def grow(left_depth: int) -> int:
        place = len(nodes)
        nodes.append([LEAF, 0, 0, 0, *dice.dirichlet([1, 1])])
        if left_depth and dice.random() < 0.8:
            nodes[place][:2] = [int(dice.integers(columns)), float(np.float32(dice.normal()))]
            nodes[place][2] = grow(left_depth - 1)
            nodes[place][3] = grow(left_depth - 1)
        return place

    grow(depth)
    return nodes


def obvious_fall(nodes: list[list[float]], row: np.ndarray) -> list[float]:
    place = 0
    while nodes[place][0] != LEAF:
        column, threshold, left, right = nodes[place][:4]
        place = int(left if np.float32(row[int(column)]) <= np.float32(threshold) else right)
    return nodes[place][4:]


@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_a_forest_says_what_walking_each_tree_says(seed: int, trees: int, depth: int) -> None:
    dice = np.random.default_rng(seed)
    several = [random_tree(dice, depth, 3) for _ in range(trees)]
    bases = np.cumsum([0, *(len(nodes) for nodes in several)])
    rows = np.array([node for nodes in several for node in nodes])
    shift = np.concatenate(
        [np.full(len(nodes), base) for base, nodes in zip(bases, several, strict=False)]
    )
    forest = Forest(
        bases[:-1].astype(np.int32),
        rows[:, 0].astype(np.int32),
        rows[:, 1].astype(np.float32),
        (rows[:, 2] + shift).astype(np.int32),
        (rows[:, 3] + shift).astype(np.int32),
        rows[:, 4:].astype(np.float32),
        3,
    )
    asked = dice.normal(size=(7, 3))
    obvious = [np.mean([obvious_fall(nodes, row) for nodes in several], axis=0) for row in asked]
    assert np.allclose(forest.predict(asked), obvious, atol=1e-6)
    again = Forest.of(arrays.unpack(arrays.pack(forest.arrays())))
    assert np.array_equal(again.predict(asked), forest.predict(asked))


@pytest.mark.parametrize(
    ("name", "value"), [("left", 0), ("right", 3), ("feature", 1), ("feature", -2)]
)
def test_a_tree_that_could_loop_or_leave_its_arrays_is_refused(name: str, value: int) -> None:
    held = dict(stump().arrays().arrays)
    held[name] = held[name].copy()
    held[name][0] = value
    with pytest.raises(FormatError):
        Forest.of(Arrays({}, held))


@pytest.mark.parametrize("rows", [np.zeros((1, 2)), np.array([[math.nan]]), np.zeros(1)])
def test_rows_that_do_not_fit_are_refused(rows: np.ndarray) -> None:
    with pytest.raises(FormatError):
        stump().predict(rows)


@given(st.binary(max_size=300))
def test_other_bytes_are_no_arrays(payload: bytes) -> None:
    with pytest.raises(FormatError):
        arrays.unpack(payload)


def test_arrays_have_one_spelling_and_its_digest() -> None:
    held = Arrays({"b": "x", "a": "y"}, {"n": np.arange(6.0).reshape(2, 3), "k": np.array([1, 2])})
    payload = arrays.pack(held)
    assert arrays.pack(arrays.unpack(payload)) == payload
    for wrong in (payload + b"\0", payload[:-1], payload.replace(b'"<f8"', b'"<f9"')):
        with pytest.raises(FormatError):
            arrays.unpack(wrong)
    other = Arrays(held.words, {**held.arrays, "k": np.array([1, 3])})
    assert arrays.digest(other) != arrays.digest(held)
    with pytest.raises(FormatError):
        arrays.pack(Arrays({}, {"n": np.array([math.nan])}))


@given(st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_a_kernel_counts_what_counting_by_hand_counts(seed: int) -> None:
    dice = np.random.default_rng(seed)
    windows = dice.normal(size=(3, 33))
    rocket = Rocket.learn(windows, 2 * len(KERNELS), seed)
    found = rocket.transform(windows).reshape(3, *rocket.biases.shape)
    at = int(dice.integers(len(rocket.dilations)))
    kernel = int(dice.integers(len(KERNELS)))
    dilation = int(rocket.dilations[at])
    weights = [2.0 if tap in KERNELS[kernel] else -1.0 for tap in range(9)]
    margin = 4 * dilation
    for which, window in enumerate(windows):
        made = []
        for place in range(33):
            at_taps = [place + (tap - 4) * dilation for tap in range(9)]
            made.append(
                sum(w * window[i] for w, i in zip(weights, at_taps, strict=True) if 0 <= i < 33)
            )
        seen = made[margin : 33 - margin] if kernel % 2 and 2 * margin < 33 else made
        for place, bias in enumerate(rocket.biases[at, kernel]):
            close = any(abs(one - bias) < 1e-9 for one in seen)
            share = np.mean([one > bias for one in seen])
            assert close or found[which, at, kernel, place] == pytest.approx(share)


def test_kernels_do_not_see_the_level() -> None:
    windows = np.random.default_rng(0).integers(-8, 9, size=(4, 40)) / 4
    rocket = Rocket.learn(windows, 168, 0)
    shape = (4, *rocket.biases.shape)
    low = rocket.transform(windows).reshape(shape)[:, 0, 1::2]
    high = rocket.transform(windows + 1024).reshape(shape)[:, 0, 1::2]
    assert np.array_equal(low, high)


@given(st.integers(0, 2**31), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_least_squares_is_not_beaten_by_any_other_support(seed: int, parts: int) -> None:
    dice = np.random.default_rng(seed)
    known, target = dice.normal(size=(12, parts)), dice.normal(size=12)
    found = mixture.least_squares(known, target)
    assert np.all(found >= 0)
    best = float(target @ target)
    for mask in range(1, 1 << parts):
        index = [i for i in range(parts) if mask >> i & 1]
        guess = np.linalg.lstsq(known[:, index], target, rcond=None)[0]
        if np.all(guess >= 0):
            best = min(best, float(np.sum((known[:, index] @ guess - target) ** 2)))
    assert float(np.sum((known @ found - target) ** 2)) == pytest.approx(best, abs=1e-7)


def test_a_shared_supply_is_split_into_its_parts() -> None:
    dice = np.random.default_rng(3)
    parts = np.cumsum(dice.normal(size=(200, 3)), axis=0) + 200
    total = parts @ np.array([2.0, 0.0, 1.0]) + 500
    found = mixture.unmix(parts, total)
    assert found.amounts == pytest.approx([2, 0, 1], abs=1e-6)
    assert found.unexplained < 1e-6
    stranger = mixture.unmix(parts, total + 300 * dice.normal(size=200), 500.0)
    assert stranger.unexplained > 0.5


def test_a_supply_of_eight_is_counted_by_level() -> None:
    levels = np.array([[120.0], [200.0], [530.0]])
    found = mixture.split(levels, 8, np.array([3 * 120 + 4 * 200 + 530.0]))
    assert found.counts == (3, 4, 1)
    assert found.off_w < 1e-3
    for states, devices in ((np.zeros((0, 1)), 8), (levels, 0)):
        with pytest.raises(FormatError):
            mixture.split(states, devices, np.array([100.0]))


def test_states_of_one_level_are_told_apart_by_their_shape() -> None:
    dice = np.random.default_rng(0)
    states = 500 + 20 * dice.standard_normal((2, 60))
    total = 3 * states[0] + 5 * states[1] + 10 * dice.standard_normal(60)
    assert mixture.split(states, 8, total).counts == (3, 5)


@pytest.mark.parametrize(
    ("share", "classes"),
    [
        (0.1, (IDLE,)),
        (0.17, (IDLE,)),
        (0.22, ()),
        (0.3, (INFERENCE,)),
        (0.69, (INFERENCE,)),
        (0.9, (INFERENCE, TRAINING)),
    ],
)
def test_physics_alone_says_what_a_level_leaves_open(share: float, classes: tuple[str]) -> None:
    windows = flat(share)
    answer = classify.answers(None, TDP_W, windows, classify.columns(TABLE, TDP_W, windows))[0]
    assert answer.classes == classes
    assert not answer.shares


def learnt(least_share: float = 0.5) -> Recogniser:
    """Return a recogniser of one column, the mean as a share: training above one half."""
    windows = np.concatenate([flat(0.3, 6), flat(0.9, 6)])
    rows = classify.columns(TABLE, TDP_W, windows)
    place = TABLE.names.index("power_instant_w.mean")
    forest = stump()
    wide = Forest(
        forest.roots, np.array([place, LEAF, LEAF], np.int32), forest.threshold, forest.left,
        forest.right, forest.leaves, rows.shape[1],
    )  # fmt: skip
    picked = np.array([place])
    mean, scale = openset.standard(rows[:, picked])
    known = (rows[:, picked] - mean) / scale
    support = Support(mean, scale, known, 0.5)
    return Recogniser((INFERENCE, TRAINING), wide, support, picked, least_share)


def told(recogniser: Recogniser, share: float) -> classify.Answer:
    windows = flat(share)
    return classify.answers(recogniser, TDP_W, windows, classify.columns(TABLE, TDP_W, windows))[0]


def test_what_is_like_what_was_learnt_is_answered_and_what_is_not_is_not() -> None:
    assert told(learnt(), 0.3).classes == (INFERENCE,)
    assert told(learnt(), 0.9).classes == (TRAINING,)
    strange = told(learnt(), 0.6)
    assert strange.classes == ()
    assert strange.distance is not None
    assert strange.distance > 1


def test_a_class_that_was_not_learnt_is_not_called_another() -> None:
    assert told(learnt(), 0.1).classes == (IDLE,)


def test_physics_is_believed_ten_to_one() -> None:
    open_to = [classify.allowed(flat(0.5)[0], TDP_W)]
    votes = classify.weighed(learnt(), np.array([[0.2, 0.8]]), open_to)[0]
    assert votes == pytest.approx([0.2 / 0.28, 0.08 / 0.28], abs=1e-6)


def test_a_recogniser_travels_as_arrays_and_keeps_its_answers() -> None:
    before = learnt(0.7)
    after = Recogniser.of(arrays.unpack(arrays.pack(before.arrays())))
    assert after.digest() == before.digest()
    assert told(after, 0.9) == told(before, 0.9)
    held = before.arrays()
    with pytest.raises(FormatError):
        Recogniser.of(Arrays({**held.words, "classes": "inference"}, held.arrays))


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12))
@settings(max_examples=15, deadline=None)
def test_answers_as_samples_come_are_those_of_the_whole(pieces: list[int]) -> None:
    t_ns = np.arange(300, dtype=np.int64) * 10**8
    watts = np.repeat([120.0, 210.0, 630.0], 100) + np.arange(300) % 5
    channel = CHANNELS["power_instant_w"]
    whole = Live(channel, TDP_W, learnt(), PLAN).whole(Series(channel, t_ns.copy(), watts.copy()))
    live = Live(channel, TDP_W, learnt(), PLAN)
    told, at = [], 0
    for piece in [*pieces, 300]:
        told += live.push(t_ns[at : at + piece].copy(), watts[at : at + piece].copy())
        at += piece
    assert told == whole
    assert len(told) == 13


def test_gates_on_other_channels_speak_before_what_was_learnt() -> None:
    answer = classify.Answer((INFERENCE,), "", {}, None)
    miner = {
        "sm_active": 1.0,
        "tensor_active": 0.0,
        "integer_active": 0.8,
        "power_average_w": 300.0,
    }
    readings = Readings(miner, 700, None, None)
    assert classify.by_gates(readings, Gates(), answer).classes == (classify.HASHING,)
    silent = Readings({"sm_active": 0.02, "power_average_w": 600.0}, 700, None, None)
    assert classify.by_gates(silent, Gates(), answer).classes == ()


def test_a_run_is_told_by_most_of_its_windows_and_by_none_without_answers() -> None:
    train, none = (classify.Answer(one, "", {}, None) for one in ((TRAINING,), ()))
    infer = classify.Answer((INFERENCE,), "", {}, None)
    assert classify.of_run([train] * 7 + [none] * 9 + [infer] * 2).classes == (TRAINING,)
    assert classify.of_run([train, infer]).classes == ()
    assert classify.of_run([none]).classes == ()
    assert classify.of_run([]).classes == ()


@given(st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_distances_are_those_that_sorting_gives(seed: int) -> None:
    dice = np.random.default_rng(seed)
    rows, known = dice.normal(size=(9, 4)), dice.normal(size=(20, 4))
    obvious = [sorted(float(np.linalg.norm(row - one)) for one in known)[4] for row in rows]
    assert openset.nearest(rows, known) == pytest.approx(obvious)


def test_a_bound_covers_new_sessions_as_often_as_it_says() -> None:
    dice = np.random.default_rng(0)
    inside = [
        dice.exponential() <= openset.quantile(list(dice.exponential(size=19)), 0.1)
        for _ in range(4000)
    ]
    assert abs(np.mean(inside) - 0.9) < 0.02
    with pytest.raises(UnavailableError):
        openset.quantile([1.0] * 8, 0.1)
    with pytest.raises(FormatError):
        openset.quantile([1.0] * 8, 1.0)


def test_the_alarm_stays_quiet_while_scores_are_exchangeable_and_rings_when_they_move() -> None:
    dice = np.random.default_rng(1)

    def most(moved: float) -> float:
        pool = list(dice.normal(size=50))
        scores = dice.normal(size=150) + moved
        values = openset.online_p_values(pool, scores, dice.random(150))
        return max(openset.martingale(values))

    assert sum(most(0.0) > math.log(20) for _ in range(60)) <= 7
    assert sum(most(1.5) > math.log(20) for _ in range(20)) >= 18


def test_sizes_come_with_an_interval_and_never_from_too_few_sessions() -> None:
    dice = np.random.default_rng(2)
    billions = np.repeat([1.0, 3, 8, 8, 13, 30, 70, 70, 7, 1, 3, 13], 4)
    rows = np.column_stack([np.log(billions) + 0.1 * dice.normal(size=48), dice.normal(size=48)])
    sessions = [f"s{place // 4}" for place in range(48)]
    fitted = size.fit(rows, billions, sessions, 0.2)
    again = size.Size.of(arrays.unpack(arrays.pack(fitted.arrays())))
    found = again.of_rows(np.array([[math.log(20.0), 0.0]]))[0]
    assert found.low < 20 < found.high
    with pytest.raises(UnavailableError):
        size.fit(rows[:16], billions[:16], sessions[:16], 0.05)


def test_a_class_is_enrolled_from_a_few_windows() -> None:
    dice = np.random.default_rng(4)
    centres = {"a": np.array([0.0, 0, 0]), "b": np.array([5.0, 0, 0]), "c": np.array([0.0, 5, 0])}
    rows = np.concatenate([centres[name] + dice.normal(size=(30, 3)) for name in "ab"])
    gallery = size.Gallery.learn(rows, ["a"] * 30 + ["b"] * 30)
    wider = gallery.enrol("c", centres["c"] + dice.normal(size=(3, 3)))
    names = [name for name, _ in wider.nearest(centres["c"] + dice.normal(size=(50, 3)))]
    assert names.count("c") >= 45
    with pytest.raises(FormatError):
        gallery.enrol("a", rows[:5])
    with pytest.raises(FormatError):
        gallery.enrol("d", rows[:2])


def test_a_linear_model_says_what_its_formula_says() -> None:
    model = Linear(np.array([1.0]), np.array([2.0]), np.array([[1.0, -1.0]]), np.array([0.0, 3.0]))
    again = Linear.of(arrays.unpack(arrays.pack(model.arrays())))
    assert again.predict(np.array([[5.0]])).tolist() == [[2.0, 1.0]]
    assert shares(np.array([[0.0, math.log(3)]]))[0].tolist() == pytest.approx([0.25, 0.75])
    with pytest.raises(FormatError):
        Linear(np.array([1.0]), np.array([0.0]), np.array([[1.0]]), np.array([0.0]))
