"""The demonstration plays every scene through a real monitor, and says what no sensor saw."""

import json
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")

from lydite.cli.main import main
from lydite.cli.power_demo import Telling
from lydite.laboratory.power.live import Told

ROOT = Path(__file__).parents[2]
EXCERPTS = ["--excerpts", str(ROOT / "data" / "power" / "dev")]


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # so that no measured traces lie beside it
    monkeypatch.delenv("LYDITE_POWER_TRACES", raising=False)


def test_every_scene_ends_as_it_should(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["power", "demo", "--speed", "0", "--json", *EXCERPTS]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    scenes = {row["name"]: row for row in found["scenes"]}
    assert found["as_expected"]
    assert scenes["inference"]["origin"].startswith("measured")
    assert scenes["70B declared, 8B served"]["reason"] == "telemetry-misfits"
    assert scenes["70B declared, 70B served"]["reason"] == "telemetry-fits"
    assert "gpu 0" in scenes["70B served, a miner between requests"]["alarms"]
    assert all(row["balanced"] for row in scenes.values() if "balanced" in row)
    assert all(row["segments"] for row in scenes.values())
    assert "skipped: third-party sessions" in captured.err
    assert "skipped: a measured miner" in captured.err
    assert "\nminer (synthetic)\n" in captured.err
    assert "root on the machine forges" in captured.err


def test_what_no_sensor_saw_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    main(["power", "demo", "--speed", "0", "--json", "--excerpts", "nowhere"])
    captured = capsys.readouterr()
    origins = {row["origin"] for row in json.loads(captured.out)["scenes"]}
    assert origins == {"synthetic"}
    assert "skipped: excerpts: nowhere holds none" in captured.err


def test_a_line_is_said_when_it_changes_and_the_rest_are_counted() -> None:
    lines: list[str] = []
    telling = Telling(lines.append)
    for at_s, words in enumerate(
        ["144 W, idle; 9 W, idle", "145 W, idle", "143 W, idle", "350 W, inference"]
    ):
        telling(Told(float(at_s), words))
    telling.end()
    assert [line.split()[0] for line in lines] == ["0", "and", "3"]
    assert lines[1].endswith("and 2 more alike")


@pytest.mark.parametrize("speed", ["-1", "nan", "1e9"])
def test_a_speed_that_is_none_is_refused(speed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["power", "demo", "--speed", speed]) == 2
    assert capsys.readouterr().err.startswith("lydite: error: ")
