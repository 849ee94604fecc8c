"""Windows and joules: the same as a loop would make, whole or as samples come."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lydite.errors import ConfigurationError, FormatError
from lydite.evidence.power.channels import CHANNELS
from lydite.evidence.power.energy import energy
from lydite.evidence.power.streaming import Stream
from lydite.evidence.power.trace import Series, Trace
from lydite.evidence.power.windows import Plan, cut, stretches, together

PLAN = Plan(length_s=1.0, hop_s=0.5, rate_hz=10.0, gap_s=0.4)


@st.composite
def series(draw: st.DrawFn, channel: str = "power_instant_w") -> Series:
    steps = draw(st.lists(st.integers(1, 30), min_size=1, max_size=120))
    times = np.cumsum(np.array(steps) * 17_000_003).astype(np.int64)
    top = 1.0 if channel == "sm_active" else 900.0
    values = draw(st.lists(st.floats(0, top), min_size=len(steps), max_size=len(steps)))
    return Series(CHANNELS[channel], times, np.array(values))


def obvious(one: Series, plan: Plan) -> list[tuple[int, list[float]]]:
    """Windows by a loop over samples; a gap begins anew."""
    found, group = [], [0]
    groups = [group]
    for i in range(1, len(one.t_ns)):
        if one.t_ns[i] - one.t_ns[i - 1] > plan.gap_ns:
            group = []
            groups.append(group)
        group.append(i)
    for group in groups:
        start = int(one.t_ns[group[0]])
        while start + round(plan.length_s * 1e9) <= one.t_ns[group[-1]]:
            row = []
            for k in range(plan.size):
                place = start + round(k * 1e9 / plan.rate_hz)
                before = [i for i in group if one.t_ns[i] <= place]
                after = [i for i in group if one.t_ns[i] > place]
                gauge = one.channel.name == "power_instant_w"
                row.append(float(one.values[before[-1] if gauge else after[0]]))
            found.append((start, row))
            start += plan.hop_ns
    return found


@pytest.mark.parametrize("channel", ["power_instant_w", "sm_active"])
@given(data=st.data())
def test_windows_agree_with_the_obvious_ones(channel: str, data: st.DataObject) -> None:
    one = data.draw(series(channel))
    windows = cut(one, PLAN)
    expected = obvious(one, PLAN)
    assert windows.start_ns.tolist() == [start for start, _ in expected]
    assert windows.values.tolist() == [row for _, row in expected]
    assert np.all((windows.coverage >= 0) & (windows.coverage <= 1))


@pytest.mark.parametrize("channel", ["power_instant_w", "sm_active"])
@given(data=st.data())
def test_a_stream_gives_the_windows_of_the_whole(channel: str, data: st.DataObject) -> None:
    one = data.draw(series(channel))
    whole = cut(one, PLAN)
    cuts = data.draw(st.lists(st.integers(0, len(one.t_ns)), max_size=9).map(sorted))
    stream = Stream([channel], PLAN)
    found = []
    for first, last in zip([0, *cuts], [*cuts, len(one.t_ns)], strict=True):
        part = one.t_ns[first:last].copy(), one.values[first:last].copy()
        found += [named[channel] for named in stream.push({channel: part})]
    assert [int(w.start_ns[0]) for w in found] == whole.start_ns.tolist()
    assert [w.values.tobytes() for w in found] == [row.tobytes() for row in whole.values]
    assert [w.coverage[0] for w in found] == whole.coverage.tolist()


def uneven(channel: str, dice: np.random.Generator) -> Series:
    count = int(dice.integers(1, 400))
    steps = dice.integers(1, 9, count) * 17_000_003
    steps[dice.random(count) < 0.02] = 900_000_001
    return Series(CHANNELS[channel], np.cumsum(steps).astype(np.int64), dice.random(count))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=300)
def test_a_stream_of_channels_gives_the_windows_of_the_whole(seed: int) -> None:
    dice = np.random.default_rng(seed)
    names = ["power_instant_w", "sm_active", "gpu_busy"][: dice.integers(1, 4)]
    several = {name: uneven(name, dice) for name in names}
    whole = together(Trace("x", several), names, PLAN)
    stream, found = Stream(names, PLAN), []
    done = dict.fromkeys(names, 0)
    while waiting := [name for name in names if done[name] < len(several[name].t_ns)]:
        name = str(dice.choice(waiting))
        first = done[name]
        last = done[name] = first + int(dice.integers(1, 60))
        one = several[name]
        part = one.t_ns[first:last].copy(), one.values[first:last].copy()
        found += list(stream.push({name: part}))
    for name in names:
        assert [int(w[name].start_ns[0]) for w in found] == whole[name].start_ns.tolist()
        assert b"".join(w[name].values.tobytes() for w in found) == whole[name].values.tobytes()
        assert [w[name].coverage[0] for w in found] == whole[name].coverage.tolist()


def test_a_stream_takes_no_sample_twice_and_no_other_channel() -> None:
    stream = Stream(["power_instant_w"], PLAN)
    part = np.array([1, 2], np.int64), np.ones(2)
    list(stream.push({"power_instant_w": part}))
    for wrong in ({"power_instant_w": part}, {"sm_active": part}):
        with pytest.raises(FormatError):
            list(stream.push(wrong))
    for names in ([], ["nonsense"], ["sm_active", "sm_active"]):
        with pytest.raises(FormatError):
            Stream(names, PLAN)


def test_no_window_spans_two_blocks() -> None:
    times = np.arange(100, dtype=np.int64) * 10**8
    one = Series(CHANNELS["power_instant_w"], times, np.repeat([100.0, 200.0], 50))
    windows = cut(one, PLAN, blocks=[(0, 50 * 10**8), (50 * 10**8, 10**10)])
    assert len(windows.start_ns)
    assert all(len(set(row)) == 1 for row in windows.values.tolist())
    assert len(stretches(one, PLAN.gap_ns, [(10**12, 10**13)])) == 0


def test_channels_are_cut_together_where_all_are_covered() -> None:
    times = np.arange(60, dtype=np.int64) * 10**8
    watts = Series(CHANNELS["power_instant_w"], times, np.arange(60.0))
    late = Series(CHANNELS["sm_active"], times[20:] + 1, np.linspace(0, 1, 40))
    trace = Trace("x", {"power_instant_w": watts, "sm_active": late})
    windows = together(trace, ["power_instant_w", "sm_active"], PLAN)
    starts = windows["power_instant_w"].start_ns
    assert starts.tolist() == windows["sm_active"].start_ns.tolist()
    assert starts[0] == times[20] + 1
    assert len(starts) == 6
    with pytest.raises(FormatError):
        together(trace, ["dram_active"], PLAN)


@pytest.mark.parametrize(
    "change",
    [{"length_s": 0}, {"hop_s": -1}, {"rate_hz": float("nan")}, {"gap_s": float("inf")},
     {"length_s": 0.1}, {"length_s": 1.05}],
)  # fmt: skip
def test_a_plan_that_makes_no_windows_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        Plan(**{"rate_hz": 10.0, **change})


@given(series(), st.lists(st.integers(0, 4 * 10**9), min_size=2, max_size=6).map(sorted))
def test_joules_of_power_agree_with_the_obvious_sum_and_add_up(
    one: Series, ends: list[int]
) -> None:
    spans = list(pairwise(ends))
    found = energy(one, spans, PLAN.gap_ns)
    for (start, end), got in zip(spans, found, strict=True):
        joules, covered = 0.0, 0
        for i in range(len(one.t_ns) - 1):
            low, high = max(start, int(one.t_ns[i])), min(end, int(one.t_ns[i + 1]))
            if low < high and one.t_ns[i + 1] - one.t_ns[i] <= PLAN.gap_ns:
                joules += one.values[i] * (high - low) / 1e9
                covered += high - low
        assert got.joules == pytest.approx(joules, abs=1e-6)
        assert abs(got.covered_ns - covered) <= 2
    whole = energy(one, [(ends[0], ends[-1])], PLAN.gap_ns)[0]
    assert whole.joules == pytest.approx(sum(one.joules for one in found), abs=1e-6)


def test_a_counter_is_differenced_between_its_own_changes() -> None:
    """Polled at 50 Hz, it shows a new value at 10 Hz: 30 J each, hence 300 W throughout."""
    times = np.arange(500, dtype=np.int64) * 20_000_000
    one = Series(CHANNELS["energy_j"], times, 1e6 + 30.0 * (np.arange(500) // 5))
    spans = [(10**9 + k * 10**8, 10**9 + (k + 1) * 10**8) for k in range(50)]
    assert [got.joules for got in energy(one, spans, 10**9)] == pytest.approx([30.0] * 50)


def test_nothing_is_known_across_a_new_start_of_a_counter() -> None:
    times = np.arange(20, dtype=np.int64) * 10**8
    joules = np.concatenate([1000 + 30.0 * np.arange(10), 30.0 * np.arange(10)])
    got = energy(Series(CHANNELS["energy_j"], times, joules), [(0, 19 * 10**8)], 10**9)[0]
    assert got.joules == pytest.approx(18 * 30.0)
    assert got.covered_ns == 18 * 10**8


def test_a_temperature_has_no_joules() -> None:
    one = Series(CHANNELS["gpu_temperature_c"], np.array([0, 1], np.int64), np.array([30.0, 31.0]))
    with pytest.raises(FormatError):
        energy(one, [(0, 1)], 1)
