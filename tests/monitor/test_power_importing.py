"""What other tools recorded comes in whole, or is refused by name in little memory."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq

from lydite.errors import ConfigurationError, FormatError, LyditeError, Reason
from lydite.evidence.power.features.table import Table
from lydite.evidence.power.windows import Plan, cut
from lydite.monitor.importing import formats, lines
from lydite.monitor.importing.development import traces
from lydite.monitor.importing.gathering import gather, stamp

DEV = Path(__file__).parents[2] / ".." / "shared" / "power"

SMI = """timestamp, index, name, power.draw [W], utilization.gpu [%], memory.used [MiB], pstate
2026/11/20 10:00:00.000, 0, NVIDIA H200, 75.20 W, 0 %, 600 MiB, P0
2026/11/20 10:00:00.100, 0, NVIDIA H200, 80.31 W, 97 %, 81000 MiB, P0
2026/11/20 10:00:00.100, 1, NVIDIA H200, [N/A], 3 %, 700 MiB, P0
2026/11/20 10:00:00.200, 0, NVIDIA H200, 640.00 W, 100 %, 81000 MiB, P0
2026/11/20 10:00:00.200, 1, NVIDIA H200, 76.00 W, 3 %, 700 MiB, P0
"""
DCGM = """timestamp,gpu,modelName,DCGM_FI_DEV_POWER_USAGE,DCGM_FI_PROF_SM_ACTIVE,OTHER
1700000000.0,0,NVIDIA H100,402.1,0.61,x
1700000000.1,0,NVIDIA H100,410.9,0.64,y
"""
ZEUS = "timestamp,gpu_index,power_mw\n1.0,0,120000\n1.1,0,121000\n1.2,0,122500\n"
OWN = "t_ms;,watts\n0,100\n100,120\n200,140\n"


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_nvidia_smi_is_read_by_its_header(tmp_path: Path) -> None:
    path = written(tmp_path / "smi.csv", SMI)
    found = gather(path, formats.nvidia_smi(formats.header(path)))
    assert set(found) == {("NVIDIA H200", "0"), ("NVIDIA H200", "1")}
    first = found["NVIDIA H200", "0"]
    assert first.series["power_average_w"].values.tolist() == [75.2, 80.31, 640.0]
    assert np.diff(first.series["power_average_w"].t_ns).tolist() == [10**8, 10**8]
    assert first.series["gpu_busy"].values.tolist() == [0, 0.97, 1]
    assert first.series["memory_used_b"].values[1] == 81_000 * 2**20
    assert found["NVIDIA H200", "1"].counted["power_average_w/blank"] == 1
    instant = gather(path, formats.as_instant(formats.nvidia_smi(formats.header(path))))
    assert "power_instant_w" in instant["NVIDIA H200", "0"].series


def test_dcgm_and_zeus_and_any_csv_are_read(tmp_path: Path) -> None:
    path = written(tmp_path / "dcgm.csv", DCGM)
    found = gather(path, formats.dcgm(formats.header(path)))
    assert found["NVIDIA H100", "0"].series["sm_active"].values.tolist() == [0.61, 0.64]
    path = written(tmp_path / "zeus.csv", ZEUS)
    found = gather(path, formats.zeus(formats.header(path)))
    assert found["0",].series["power_instant_w"].values.tolist() == [120, 121, 122.5]
    path = written(tmp_path / "own.csv", OWN)
    layout = formats.named("t_ms;:ms", ["watts=power_wall_w:W"], [])
    assert gather(path, layout)[()].series["power_wall_w"].t_ns.tolist() == [0, 10**8, 2 * 10**8]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("80.31 W", "80310 mW"), Reason.WRONG_UNIT),
        (("power.draw [W]", "power.draw [V]"), Reason.WRONG_UNIT),
        (("power.draw [W]", "power.draw"), Reason.WRONG_UNIT),
        (("80.31 W", "lots"), Reason.MALFORMED),
        (("80.31 W, 97 %", "80.31 W, 97 %, 1"), Reason.MALFORMED),
        (("10:00:00.100, 0", "noon, 0"), Reason.MALFORMED),
        (("timestamp", "when"), Reason.MALFORMED),
        (("index", "name"), Reason.MALFORMED),
        (("2026/11/20 10:00:00.000", "2026/11/20 11:00:00.000"), Reason.CLOCK_JUMP),
    ],
)
def test_a_bad_table_is_refused_by_name(
    tmp_path: Path, change: tuple[str, str], reason: Reason
) -> None:
    path = written(tmp_path / "smi.csv", SMI.replace(*change, 1))
    with pytest.raises(FormatError) as caught:
        gather(path, formats.nvidia_smi(formats.header(path)))
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"\xff\xfe\x00", b'"unclosed,\n', b"a,a\n1,2\n", b"\0" * 99]
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(FormatError):
        formats.nvidia_smi(formats.header(path))


@pytest.mark.parametrize("name", ["no-such.csv", "."])
def test_what_cannot_be_read_is_a_matter_of_configuration(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError):
        formats.header(tmp_path / name)


def test_a_million_columns_are_refused_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    path.write_text(",".join(f"c{i}" for i in range(1_000_000)) + "\n" + "1," * 999_999 + "1\n")
    narrow = written(tmp_path / "deep.csv", "time,power\n" + "1," * 999_999 + "1\n")
    commas = written(tmp_path / "commas.csv", "," * 60_000 + "\n")
    tracemalloc.start()
    for each in (path, narrow, commas):
        with pytest.raises(FormatError) as caught:
            list(lines.table(each)[1])
        assert caught.value.reason is Reason.TOO_LARGE
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [("1700000000123456789", "ns", 1700000000123456789), ("1.5", "s", 1_500_000_000),
     ("2026-01-01T00:00:00Z", "s", 1767225600 * 10**9), ("12", "us", 12_000)],
)  # fmt: skip
def test_times_are_exact(text: str, unit: str, expected: int) -> None:
    assert stamp(text, unit, "here") == expected


@pytest.mark.parametrize("word", ["x", "a=b", "a=power_instant_w", "a=power_instant_w:V", "=b:W"])
def test_columns_are_named_with_channel_and_unit(word: str) -> None:
    with pytest.raises(ConfigurationError):
        formats.named("t:s", [word], [])
    with pytest.raises(ConfigurationError):
        formats.named("t:s", [], [])


def collection(path: Path, **change: object) -> Path:
    """Write a small collection in the layout of the development traces."""
    row = {
        "trace_id": "a", "shard": "s", "channels": "power_w,util_gpu", "source": "us",
        "commit": "0", "path": "p", "licence": "MIT", "redistribute": True,
        "gpu": "H100", "modality": "nvml", "workload": "training", "model": "",
        "family": "gpt", "params_b": 7.0, "quant": "",
        "dtype": "bf16", "session": "job", "n_gpus": 1, "gpu_index": 0, "split": "dev",
        "tp": float("nan"), "batch": float("nan"), **change,
    }  # fmt: skip
    path.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist([row]), path / "traces.parquet")
    count = 50
    shard = {
        "trace_id": ["a"] * count,
        "t_s": np.arange(count) / 10,
        "power_w": np.linspace(100, 200, count).astype(np.float32),
        "util_gpu": np.where(np.arange(count) == 3, np.nan, 50.0).astype(np.float32),
        "phase": [""] * 10 + ["warmup"] * 20 + ["train"] * 20,
    }
    pq.write_table(pa.table(shard), path / "s.parquet")
    return path


def test_a_collection_is_read_with_labels_phases_and_licence(tmp_path: Path) -> None:
    (one,) = traces(collection(tmp_path / "c"))
    assert one.labels["session"] == "job"
    assert "model" not in one.labels
    assert "tp" not in one.labels
    assert one.origin.redistribute
    assert set(one.trace.series) == {"power_average_w", "gpu_busy"}
    assert one.trace.counted == {"gpu_busy/blank": 1}
    assert [(mark.name, mark.start_ns) for mark in one.marks] == [
        ("warmup", 10**9), ("train", 3 * 10**9)
    ]  # fmt: skip
    assert list(traces(tmp_path / "c", lambda row: row["family"] == "llama")) == []


def test_a_damaged_collection_is_refused(tmp_path: Path) -> None:
    path = collection(tmp_path / "c", shard="t")
    with pytest.raises(LyditeError):
        list(traces(path))
    path = collection(tmp_path / "d", trace_id="b")
    with pytest.raises(FormatError, match="no samples of b"):
        list(traces(path))
    path = collection(tmp_path / "e")
    (path / "s.parquet").write_bytes((path / "s.parquet").read_bytes()[:-20])
    with pytest.raises(FormatError) as caught:
        list(traces(path))
    assert caught.value.reason is Reason.DAMAGED
    with pytest.raises(ConfigurationError):
        list(traces(tmp_path / "none"))


def test_development_traces_come_in_and_have_finite_features() -> None:
    if not (DEV / "traces.parquet").exists():
        pytest.skip("the development traces are not on this machine")
    plan = Plan()
    count = 0
    for one in traces(DEV, lambda row: row["shard"] in {"dcgm_h100", "nvml_misc"}):
        for name, series in one.trace.series.items():
            windows = cut(series, plan)
            assert np.isfinite(Table(plan, (name,)).compute({name: windows.values})).all()
        count += 1
    assert count == 46
