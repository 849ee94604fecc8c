"""``lydite monitor`` as a process: told to stop, killed, and checked by somebody else."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lydite.cli.main import main

LIVE = '[selfcheck]\nseconds = 0\n[metrics]\nport = 0\n[[sources]]\nkind = "simulated"\n'
QUICK = '[selfcheck]\nseconds = 5\n[metrics]\nport = 0\n[[sources]]\nkind = "replay"\nspeed = 0.0\n'


@pytest.fixture
def home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str], Path]:
    """Makes a monitor's directory with some settings, and remembers its key."""

    def make(more: str) -> Path:
        place = tmp_path / "mine"
        assert main(["monitor", "init", str(place), "--json"]) == 0
        made = json.loads(capsys.readouterr().out)
        (place / "key").write_text(made["public_key"])
        path = Path(made["settings"])
        text = path.read_text().partition("\n\n")[0]
        path.write_text(f"{text}\nsegment_s = 1\ndrain_ms = 50\n{more}")
        return place

    return make


def started(place: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "lydite.cli.main", "monitor", "run"]
    process = subprocess.Popen(
        [*command, str(place / "monitor.toml"), "--json"], stdout=subprocess.PIPE, text=True
    )
    assert json.loads(line_of(process))["devices"] == ["simulated GPU/0"]
    return process


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def until_sealed(process: "subprocess.Popen[str]", index: int) -> None:
    while (said := json.loads(line_of(process)))["event"] != "sealed" or said["index"] < index:
        pass


def check(place: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, Any]:
    key = (place / "key").read_text()
    code = main(["monitor", "check", str(place / "segments"), "--key", key, "--json", *more])
    out = capsys.readouterr().out
    return code, json.loads(out) if out else None


def test_told_to_stop_it_seals_and_says_that_it_ended(
    home: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    place = home(LIVE)
    process = started(place)
    until_sealed(process, 0)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    code, health = check(place, capsys)
    assert code == 0
    assert health["segments"] >= 2
    assert health["unsealed"] is None
    assert health["lost"] == 0


def test_killed_it_loses_the_open_segment_at_most_and_the_next_run_says_so(
    home: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    place = home(LIVE)
    process = started(place)
    until_sealed(process, 1)
    process.kill()
    process.wait(60)
    code, health = check(place, capsys)
    assert code == 0
    assert health["segments"] >= 2
    assert health["unsealed"]["sinceUs"] > 0
    before = health["segments"]

    process = started(place)
    said = json.loads(line_of(process))
    assert (said["event"], said["index"]) == ("lost", before)
    until_sealed(process, before)
    process.terminate()
    assert process.wait(60) == 0
    code, health = check(place, capsys)
    assert (code, health["lost"], health["runs"], health["unsealed"]) == (0, 1, 2, None)


def test_a_recording_runs_to_its_end_without_a_gpu_and_pointers_need_a_clock(
    home: Callable[[str], Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    place = home(QUICK)
    assert main(["monitor", "run", str(place / "monitor.toml")]) == 0
    capsys.readouterr()
    code, health = check(place, capsys)
    assert code == 0
    assert health["samples"] > 1000
    times = ["--from", "2020-01-01T00:00:00.000Z", "--to", "2100-01-01T00:00:00.000Z"]
    key = (place / "key").read_text()
    point = ["monitor", "point", str(place / "segments"), "--key", key]
    assert main([*point, *times]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("lydite: error: recorded segments have no Unix time")
    assert "lydite: hint: --segment N" in err
    pointer = tmp_path / "pointer.json"
    assert main([*point, "--segment", "0", "--out", str(pointer)]) == 0
    code, health = check(place, capsys, "--pointer", str(pointer))
    assert code == 0
    assert health["pointers"][str(pointer)]["simulated GPU/0"]["power_instant_w"] > 1
    pointer.write_bytes(pointer.read_bytes() * 2)
    assert len(check(place, capsys, "--pointer", str(pointer))[1]["pointers"]) == 2
    pointer.write_bytes(b"")
    assert main(["monitor", "check", *point[2:], "--pointer", str(pointer)]) == 1
    assert "is empty: no pointer in it" in capsys.readouterr().err
    for wrong in ([], times[:2], [*times, "--segment", "1"], ["--segment", "99"]):
        assert main([*point, *wrong]) == 2
        assert capsys.readouterr().out == ""


def test_a_pointer_into_live_segments_is_followed(
    home: Callable[[str], Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    place = home(LIVE)
    process = started(place)
    until_sealed(process, 1)
    process.terminate()
    assert process.wait(60) == 0
    now = time.gmtime()
    times = ["--from", f"{now.tm_year - 1}-01-01T00:00:00.000Z"]
    times += ["--to", f"{now.tm_year + 1}-01-01T00:00:00.000Z"]
    key = (place / "key").read_text()
    assert main(["monitor", "point", str(place / "segments"), "--key", key, *times]) == 0
    pointers = capsys.readouterr().out.splitlines()
    path = tmp_path / "pointer.json"
    path.write_text(pointers[0])
    code, health = check(place, capsys, "--pointer", str(path))
    assert code == 0
    (found,) = health["pointers"].values()
    assert found["simulated GPU/0"]["energy_j"] > 0


def test_a_changed_segment_is_found_and_the_exit_code_says_so(
    home: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    place = home(QUICK)
    assert main(["monitor", "run", str(place / "monitor.toml")]) == 0
    path = place / "segments" / "00000000.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    capsys.readouterr()
    assert (
        main(["monitor", "check", str(place / "segments"), "--key", (place / "key").read_text()])
        == 1
    )
    assert "(broken-chain)" in capsys.readouterr().err


def test_a_selfcheck_says_what_each_sensor_is_worth(
    home: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    place = home(QUICK)
    assert main(["monitor", "selfcheck", str(place / "monitor.toml"), "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    periods = {each["channel"]: each["periodUs"] for each in report["sensors"]}
    assert periods["power_instant_w"] == periods["energy_j"] == 100_000
    assert main(["monitor", "selfcheck", str(place / "monitor.toml")]) == 0
    assert "energy_j over power_average_w" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "words", "code"),
    [
        ('[[sources]]\nkind = "nvml"\n', "nvmlInit", 4),
        ('[[sources]]\nkind = "amd"\n', "amdsmi", 2),
        ('[[sources]]\nkind = "dcgm"\nurl = "http://127.0.0.1:1/metrics"\n', "exporter", 4),
        ('[[sources]]\nkind = "daq"\nname = "x"\n', "either a file or an address", 2),
        ('[[sources]]\nkind = "magic"\n', "magic", 2),
        ('[[sources]]\nkind = "replay"\npath = "nowhere"\n', "cannot read", 2),
        ('[[sources]]\nkind = "replay"\n[[sources]]\nkind = "replay"\n', "two sources", 2),
        ('[[sources]]\nkind = "replay"\n[[sources]]\nkind = "simulated"\n', "two sources", 2),
        ("[selfcheck]\nseconds = -1\n", "seconds", 2),
    ],
)
def test_what_cannot_be_read_or_used_is_said(
    home: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
    more: str,
    words: str,
    code: int,
) -> None:
    place = home(more)
    assert main(["monitor", "run", str(place / "monitor.toml"), "--seconds", "0"]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err
    assert said.err.startswith("lydite: error: ")


@pytest.mark.parametrize("key", ["zz", "00", "0" * 63])
def test_a_key_that_is_none_is_refused(tmp_path: Path, key: str) -> None:
    assert main(["monitor", "check", str(tmp_path), "--key", key]) == 2


def test_nothing_sealed_is_nothing_learnt(tmp_path: Path) -> None:
    assert main(["monitor", "check", str(tmp_path), "--key", "0" * 64]) == 4
