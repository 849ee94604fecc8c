"""Traces are stored whole or not at all, found again bit for bit, and never silently damaged."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")

import pyarrow as pa
import pyarrow.parquet as pq

from lydite.errors import ConfigurationError, FormatError, Reason
from lydite.evidence.power.channels import CHANNELS
from lydite.evidence.power.trace import Series, Trace
from lydite.monitor.sources.replay import made_up
from lydite.monitor.store import samples
from lydite.monitor.store.archive import Archive
from lydite.monitor.store.catalogue import Catalogue
from lydite.monitor.store.entry import Labelled, Mark, Origin, decode, encode
from lydite.monitor.store.segmentation import segments

ORIGIN = Origin(source="test bench", licence="Apache-2.0", redistribute=True)


def trace(seed: int = 0, count: int = 300) -> Trace:
    dice = np.random.default_rng(seed)
    times = np.cumsum(dice.integers(1, 2 * 10**8, count)).astype(np.int64)
    watts = Series(CHANNELS["power_instant_w"], times, dice.uniform(100, 700, count))
    memory = Series(CHANNELS["memory_used_b"], times[::5].copy(), np.full(len(times[::5]), 8e10))
    counted = {"power_instant_w/gap": seed + 1}
    return Trace("NVIDIA H200", {"power_instant_w": watts, "memory_used_b": memory}, counted)


def labelled(seed: int = 0, **labels: str) -> Labelled:
    given = {"session": f"job-{seed}", "workload": "training", **labels}
    return Labelled(trace=trace(seed), labels=given, origin=ORIGIN)


def same(one: Trace, other: Trace) -> bool:
    return (
        one.device == other.device
        and set(one.series) == set(other.series)
        and dict(one.counted) == dict(other.counted)
        and all(
            one.series[name].t_ns.tobytes() == other.series[name].t_ns.tobytes()
            and one.series[name].values.tobytes() == other.series[name].values.tobytes()
            for name in one.series
        )
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 400))
@settings(max_examples=20)
def test_what_is_read_back_is_what_was_stored(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int
) -> None:
    archive = Archive(tmp_path_factory.mktemp("store"))
    given_ = Labelled(trace=trace(seed, count), labels={"session": "x"}, origin=ORIGIN)
    name, new = archive.add(given_)
    assert new
    assert same(archive.load(name), given_.trace)


def test_the_same_trace_twice_is_one_trace(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    assert archive.add(labelled()) == (archive.names()[0], True)
    assert archive.add(labelled())[1] is False
    assert archive.add(labelled(quant="fp8"))[1] is True
    assert len(archive.names()) == 2


WRITER = """
import sys
from pathlib import Path
import numpy as np
from lydite.evidence.power.channels import CHANNELS
from lydite.evidence.power.trace import Series, Trace
from lydite.monitor.store.archive import Archive
from lydite.monitor.store.entry import Labelled, Origin

for seed in map(int, sys.argv[2:]):
    times = np.arange(1000, dtype=np.int64) * 10**7
    watts = np.random.default_rng(seed).uniform(100, 700, 1000)
    trace = Trace("x", {"power_instant_w": Series(CHANNELS["power_instant_w"], times, watts)})
    origin = Origin(source="x", licence="MIT", redistribute=True)
    given = Labelled(trace=trace, labels={"session": str(seed)}, origin=origin)
    Archive(Path(sys.argv[1])).add(given)
"""


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    """Four processes, of which each seed is written by two or more."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen([*command, *map(str, range(k, k + 6))]) for k in range(4)]
    assert [writer.wait(120) for writer in writers] == [0] * 4
    archive = Archive(tmp_path)
    found = {entry.labels["session"]: name for name, entry in archive.entries()}
    assert set(found) == set(map(str, range(9)))
    assert len(archive.names()) == 9
    for seed, name in found.items():
        watts = np.random.default_rng(int(seed)).uniform(100, 700, 1000)
        read = archive.load(name).series["power_instant_w"].values
        np.testing.assert_array_equal(read, watts)
    assert not list(tmp_path.rglob(".new-*"))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    archive = Archive(tmp_path)
    name, _ = archive.add(labelled())
    path = archive.path(name)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    for attempt in (lambda: archive.load(name), lambda: samples.read(path)):
        with pytest.raises(FormatError) as caught:
            attempt()
        assert caught.value.reason is Reason.DAMAGED


def test_one_flipped_bit_is_noticed(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    name, _ = archive.add(labelled())
    path = archive.path(name)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        archive.load(name)
    assert caught.value.reason is Reason.DAMAGED
    path.unlink()
    with pytest.raises(FormatError, match="missing"):
        archive.load(name)


def test_an_entry_that_was_altered_is_refused(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    name, _ = archive.add(labelled())
    path = tmp_path / "entries" / f"{name}.json"
    entry = path.read_bytes()
    for changed in (entry.replace(b"training", b"inference"), entry + b" ", entry[:-9], b""):
        path.write_bytes(changed)
        with pytest.raises(FormatError) as caught:
            archive.entry(name)
        assert caught.value.reason is Reason.DAMAGED
    with pytest.raises(ConfigurationError):
        archive.entry("../../etc/passwd")
    with pytest.raises(ConfigurationError):
        archive.entry("0" * 32)


def test_a_huge_footer_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1" + b"\0" * 100 + (1 << 30).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(FormatError) as caught:
        samples.read(path)
    assert caught.value.reason is Reason.TOO_LARGE


def test_too_many_columns_or_other_ones_are_refused(tmp_path: Path) -> None:
    wide = tmp_path / "wide.parquet"
    pq.write_table(pa.table({f"c{i}": [1.0] for i in range(1500)}), wide)
    with pytest.raises(FormatError) as caught:
        samples.open_parquet(wide)
    assert caught.value.reason is Reason.TOO_LARGE
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"a": [1.0], "b": [2.0]}), other)
    with pytest.raises(FormatError, match="columns a, b"):
        samples.read(other)


def test_labels_and_marks_are_checked(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    for labels in ({}, {"session": ""}, {"session": "x", "Upper": "y"}, {"session": "x" * 301}):
        with pytest.raises(FormatError):
            archive.add(Labelled(trace=trace(), labels=labels, origin=ORIGIN))
    backwards = (Mark(start_ns=2, end_ns=1, name="x"),)
    with pytest.raises(FormatError):
        archive.add(
            Labelled(trace=trace(), labels={"session": "x"}, origin=ORIGIN, marks=backwards)
        )
    assert archive.names() == []


def test_an_entry_has_one_spelling(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    name, _ = archive.add(labelled())
    assert decode(encode(archive.entry(name))) == archive.entry(name)


def test_the_catalogue_finds_by_label_and_in_sql(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    for seed in range(5):
        archive.add(labelled(seed, workload="training" if seed < 3 else "it's"))
    with Catalogue(archive) as catalogue:
        check(catalogue)


def check(catalogue: Catalogue) -> None:
    assert len(catalogue.matching({"workload": "training", "device": "NVIDIA H200"})) == 3
    assert len(catalogue.matching({"workload": "it's"})) == 2
    assert catalogue.matching({"quant": "fp8"}) == []
    stats = {row["label"]: row for row in catalogue.stats()}
    assert stats["training"]["sessions"] == 3
    assert catalogue.faults() == {"power_instant_w/gap": 15}
    found = catalogue.ask(
        "SELECT t.session, avg(s.value) AS w FROM samples s JOIN traces t USING (name)"
        " WHERE s.channel = 'power_instant_w' GROUP BY ALL ORDER BY ALL"
    )
    means = [float(trace(seed).series["power_instant_w"].values.mean()) for seed in range(5)]
    assert [row["w"] for row in found] == pytest.approx(means)


def test_an_empty_database_has_no_traces(tmp_path: Path) -> None:
    with Catalogue(Archive(tmp_path / "none")) as catalogue:
        assert catalogue.matching({}) == []
        assert catalogue.stats() == []
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "sql",
    ["SELECT * FROM read_csv('/etc/passwd')", "COPY traces TO 'x.csv'", "DROP TABLE traces",
     "SELECT 1; SELECT 2", "nonsense", "", "SET enable_external_access = true",
     "ATTACH 'x.db'", "SELECT range FROM range(200000)"],
)  # fmt: skip
def test_sql_reads_the_database_and_nothing_else(tmp_path: Path, sql: str) -> None:
    archive = Archive(tmp_path)
    archive.add(labelled())
    with Catalogue(archive) as catalogue, pytest.raises(ConfigurationError):
        catalogue.ask(sql)


def test_work_of_short_runs_is_never_called_idle() -> None:
    device, rows = made_up(30)
    times: dict[str, list[int]] = {}
    values: dict[str, list[float]] = {}
    for row in rows:
        times.setdefault(row.channel, []).append(row.t_ns)
        values.setdefault(row.channel, []).append(row.value)
    shown = ("power_instant_w", "sm_active", "tensor_active", "dram_active")
    series = {
        name: Series(
            CHANNELS[name], np.array(times[name], np.int64), np.array(values[name], np.float64)
        )
        for name in shown
    }
    found = segments(Trace(device, series))
    assert [one.name for one in found][:3:2] == ["idle", "idle"]
    power = series["power_instant_w"]
    for one in found:
        inside = (power.t_ns >= one.start_ns + 2 * 10**8) & (power.t_ns < one.end_ns - 2 * 10**8)
        if one.name == "idle":
            assert power.values[inside].max() < 200
    idle_s = sum(one.end_ns - one.start_ns for one in found if one.name == "idle") / 1e9
    assert 8 < idle_s < 10  # 4 s, 3 s and 2 s of its cycle


def test_power_far_above_a_rest_is_not_idle_whatever_counters_say() -> None:
    times = np.arange(400, dtype=np.int64) * 10**8
    series = {"power_instant_w": np.repeat([100.0, 600.0], 200)}
    series |= dict.fromkeys(("sm_active", "tensor_active", "dram_active"), np.zeros(400))
    given_ = {name: Series(CHANNELS[name], times, value) for name, value in series.items()}
    assert [one.name for one in segments(Trace("x", given_))] == ["idle", "other"]
    given_["power_instant_w"] = Series(CHANNELS["power_instant_w"], times, np.full(400, 600.0))
    assert [one.name for one in segments(Trace("NVIDIA H200", given_))] == ["other"]


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([("idle", 20), ("compute", 3), ("idle", 20)], ["idle", "compute", "idle"]),
        ([("compute", 20), ("idle", 3), ("compute", 20)], ["compute"]),
        ([("idle", 20), ("other", 2), ("compute", 20)], ["idle", "compute"]),
        ([("idle", 20), ("other", 2), ("compute", 3), ("other", 2)], ["idle", "other"]),
    ],
)
def test_short_runs_join_what_they_may(runs: list[tuple[str, int]], expected: list[str]) -> None:
    sizes = [size for _, size in runs]
    times = np.arange(sum(sizes), dtype=np.int64) * 10**8
    kinds = {"idle": (0.0, 0.0, 0.0), "compute": (0.9, 0.6, 0.2), "other": (0.5, 0.1, 0.1)}
    rows = np.repeat([kinds[name] for name, _ in runs], sizes, axis=0)
    names = ("sm_active", "tensor_active", "dram_active")
    series = {name: Series(CHANNELS[name], times, rows[:, i]) for i, name in enumerate(names)}
    assert [one.name for one in segments(Trace("x", series))] == expected


def test_a_trace_is_segmented_by_marks_phases_or_level() -> None:
    times = np.arange(400, dtype=np.int64) * 10**8
    watts = Series(CHANNELS["power_instant_w"], times, np.repeat([100.0, 600.0], 200))
    levels = segments(Trace("x", {"power_instant_w": watts}))
    assert [one.name for one in levels] == ["low", "high"]
    assert levels[0].end_ns == levels[1].start_ns == 200 * 10**8
    flat = Series(CHANNELS["power_instant_w"], times, np.full(400, 300.0))
    assert [one.name for one in segments(Trace("x", {"power_instant_w": flat}))] == ["level"]
    active = {
        "sm_active": np.repeat([0.0, 0.9], 200),
        "tensor_active": np.repeat([0.0, 0.6], 200),
        "dram_active": np.repeat([0.0, 0.2], 200),
    }
    series = {name: Series(CHANNELS[name], times, value) for name, value in active.items()}
    found = segments(Trace("x", {"power_instant_w": watts, **series}))
    assert [one.name for one in found] == ["idle", "compute"]
    mark = Mark(start_ns=0, end_ns=5, name="prefill")
    assert segments(Trace("x", {"power_instant_w": watts}), [mark]) == [mark]
