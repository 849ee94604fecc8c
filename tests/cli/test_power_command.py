"""Traces go in, are found and are drawn by command; what is wrong ends in one line and a code."""

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")

from lydite.cli.main import main
from lydite.messages.canonical import encode
from lydite.messages.sensors import Report, Reports
from lydite.monitor.store.archive import Archive

ROWS = "\n".join(f"{i / 10},{100 + 500 * (i // 100 % 2) + i % 7}" for i in range(600))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "own.csv"
    path.write_text(f"time,watts\n{ROWS}\n", encoding="utf-8")
    return path


def words(step: str, tmp_path: Path, *more: str) -> list[str]:
    return ["power", step, *more, "--store", str(tmp_path / "store"), "--json"]


def imported(table: Path, tmp_path: Path, *more: str) -> list[str]:
    return words(
        "import", tmp_path, str(table), "--format", "csv", "--column", "watts=power_instant_w:W",
        "--device", "NVIDIA H200", "--label", "workload=training", *more,
    )  # fmt: skip


def test_a_table_is_imported_found_counted_and_drawn(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(imported(table, tmp_path, "--session", "job-7")) == 0
    (stored,) = json.loads(capsys.readouterr().out)["traces"]
    assert stored["new"]
    assert main(imported(table, tmp_path, "--session", "job-7")) == 0
    assert not json.loads(capsys.readouterr().out)["traces"][0]["new"]
    assert main(words("query", tmp_path, "--where", "workload=training")) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["name"] == stored["name"]
    assert row["session"] == "job-7"
    assert main(words("query", tmp_path, "--sql", "SELECT count(*) AS n FROM samples")) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == [{"n": 600}]
    assert main(words("stats", tmp_path)) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["traces"] == 1
    picture = tmp_path / "trace.png"
    assert main(words("plot", tmp_path, stored["name"], "--out", str(picture))) == 0
    found = json.loads(capsys.readouterr().out)["segments"]
    assert [one["name"] for one in found] == ["low", "high"] * 3
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_people_read_tables(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(imported(table, tmp_path, "--session", "job-7")[:-1]) == 0
    assert main(words("query", tmp_path)[:-1]) == 0
    assert main(words("stats", tmp_path, "--by", "session")[:-1]) == 0
    out = capsys.readouterr().out
    assert "NVIDIA H200" in out
    assert "job-7" in out
    assert main(words("query", tmp_path, "--where", "workload=none")[:-1]) == 4
    assert capsys.readouterr().out == "no trace matches\n"
    assert main(words("query", tmp_path, "--where", "workload=none")) == 4
    assert json.loads(capsys.readouterr().out) == {"rows": []}
    assert main(words("stats", tmp_path, "--by", "no-such-label")[:-1]) == 0
    assert "(none)" in capsys.readouterr().out


def test_a_trace_is_named_by_how_its_name_begins_if_that_is_one(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = []
    for number in range(17):  # more than there are first letters
        assert main(imported(table, tmp_path, "--session", f"job-{number}")) == 0
        names.append(json.loads(capsys.readouterr().out)["traces"][0]["name"])
    out = ["--out", str(tmp_path / "x.png")]
    assert main(words("plot", tmp_path, names[0][:12], *out)) == 0
    double = next(a for a in "0123456789abcdef" if sum(n.startswith(a) for n in names) > 1)
    assert main(words("plot", tmp_path, double, *out)) == 2
    assert "begins" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "code", "word"),
    [
        ([], 2, "session"),
        (["--session", "x", "--label", "nonsense"], 2, "KEY=VALUE"),
        (["--session", "x", "--label", "Bad=y"], 1, "malformed"),
        (["--session", "x", "--column", "time=power_wall_w:mW"], 1, "wrong-unit"),
    ],
)
def test_what_cannot_come_in_is_said_in_one_line(
    table: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    code: int,
    word: str,
) -> None:
    assert main(imported(table, tmp_path, *more)) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("lydite: error: ")
    assert word in captured.err
    assert not (tmp_path / "store").exists()


def test_a_trace_that_is_not_there_is_not_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words("plot", tmp_path, "0" * 32, "--out", str(tmp_path / "x.png"))) == 2
    assert main(words("query", tmp_path, "--sql", "DROP TABLE traces")) == 2
    assert capsys.readouterr().out == ""


def test_what_a_self_check_found_goes_with_the_trace(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Report(device="NVIDIA H200/0", source="nvml", stimulus="none", sensors=(),
                   agreements=(), span_us=5, issued="2026-01-01T00:00:00.000Z")  # fmt: skip
    path = tmp_path / "sensors.json"
    path.write_bytes(encode(Reports(reports=(found,))))
    more = ["--session", "job-7", "--sensors", str(path)]
    assert main(imported(table, tmp_path, *more)) == 0
    (stored,) = json.loads(capsys.readouterr().out)["traces"]
    assert Archive(tmp_path / "store").entry(stored["name"]).sensors == found
    assert main(imported(table, tmp_path, *more, "--device", "another")) == 2
    assert "says nothing of another" in capsys.readouterr().err


def test_a_stored_trace_comes_in_again_bit_for_bit(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(imported(table, tmp_path, "--session", "job-7")) == 0
    name = json.loads(capsys.readouterr().out)["traces"][0]["name"]
    archive = Archive(tmp_path / "store")
    options = ["--format", "segments", "--session", "job-7"]
    assert main(words("import", tmp_path, str(archive.path(name)), *options)) == 0
    again = json.loads(capsys.readouterr().out)["traces"][0]["name"]
    assert again != name
    assert archive.entry(again).samples == archive.entry(name).samples
    assert main(words("import", tmp_path, str(tmp_path / "none"), *options)) == 2


def recorded(tmp_path: Path, *command: str) -> list[str]:
    options = ["--session", "job-8", "--from", "simulated", "--hz", "50", "--around", "0.3"]
    return [*words("record", tmp_path, *options), "--", *command]


def test_a_command_is_recorded_with_the_quiet_around_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    program = "import time; time.sleep(0.5); print('done')"
    assert main(recorded(tmp_path, sys.executable, "-c", program)) == 0
    captured = capfd.readouterr()
    assert "done" in captured.err
    name = json.loads(captured.out)["name"]
    archive = Archive(tmp_path / "store")
    entry, trace = archive.entry(name), archive.load(name)
    assert entry.origin.synthetic
    assert sys.executable in entry.origin.command
    assert [mark.name for mark in entry.marks] == ["before", "command", "after"]
    assert entry.marks[1].end_ns - entry.marks[1].start_ns >= 500_000_000
    assert {"power_instant_w", "power_average_w", "energy_j"} <= set(trace.series)


def test_a_command_that_fails_is_recorded_and_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(recorded(tmp_path, sys.executable, "-c", "raise SystemExit(5)")) == 3
    assert json.loads(capfd.readouterr().out)["exit_code"] == 5


@pytest.mark.parametrize(
    "command", [["no-such-program-anywhere"], ["-c", "x"]], ids=["absent", "odd"]
)
def test_a_command_that_cannot_run_leaves_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert main(recorded(tmp_path, *command)) == 2
    assert capfd.readouterr().err.startswith("lydite: error: cannot run ")
    assert not (tmp_path / "store").exists()


def test_a_trace_is_recognised_by_physics_and_by_what_was_learnt(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    import numpy as np

    from lydite.evidence.power import arrays
    from lydite.evidence.power.classify import columns
    from lydite.evidence.power.features.table import Table
    from lydite.evidence.power.live import PLAN
    from lydite.laboratory.power import learning

    assert main(imported(table, tmp_path, "--session", "job-7")) == 0
    name = json.loads(capsys.readouterr().out)["traces"][0]["name"]
    assert main(words("recognise", tmp_path, name)) == 0
    found = json.loads(capsys.readouterr().out)
    classes = [tuple(one["classes"]) for one in found["windows"]]
    assert classes[0] == ("idle",)
    assert ("inference", "training") in classes
    assert found["run"]["classes"] == ["idle"]
    watts = np.repeat([[103.0], [603.0]], 8, axis=0) + np.arange(100) % 7 - 3
    rows = columns(Table(PLAN), 700.0, watts + np.arange(16)[:, None] / 10)
    label, session = np.repeat(["idle", "training"], 8), np.tile(["a", "b", "c", "d"], 4)
    learnt = learning.recognise(rows, label, session, range(9))
    (tmp_path / "learnt.bin").write_bytes(arrays.pack(learnt.arrays()))
    more = ["--learnt", str(tmp_path / "learnt.bin")]
    assert main(words("recognise", tmp_path, name, *more)) == 0
    again = json.loads(capsys.readouterr().out)
    assert {"idle", "training"} <= {one["classes"][0] for one in again["windows"] if one["classes"]}
    assert main(words("recognise", tmp_path, name, *more)[:-1]) == 0
    assert "forge" in capsys.readouterr().out
    (tmp_path / "learnt.bin").write_bytes(b"nothing")
    assert main(words("recognise", tmp_path, name, *more)) == 2
    assert main(words("recognise", tmp_path, name, "--tdp", "-1")) == 2
    assert "lydite: error: " in capsys.readouterr().err
