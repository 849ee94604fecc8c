"""``lydite power watch`` beside a real monitor, and on what is no chain of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lydite.cli.main import main
from lydite.cli.power_screen import picture

REPLAY = '[selfcheck]\nseconds = 0\n[metrics]\nport = 0\n[[sources]]\nkind = "replay"\nspeed = {}\n'


@pytest.fixture
def made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Path, str]:
    place = tmp_path / "mine"
    assert main(["monitor", "init", str(place), "--json"]) == 0
    return place, json.loads(capsys.readouterr().out)["public_key"]


def settings(place: Path, speed: float) -> str:
    path = place / "monitor.toml"
    text = path.read_text().partition("\n\n")[0]
    path.write_text(f"{text}\nsegment_s = 5\ndrain_ms = 10\n{REPLAY.format(speed)}")
    return str(path)


def watched(place: Path, key: str, *more: str) -> list[str]:
    return ["power", "watch", str(place / "segments"), "--key", key, *more]


def rows(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_every_segment_of_a_run_that_ended_is_shown_once_and_in_order(
    made: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    place, key = made
    assert main(["monitor", "run", settings(place, 0.0), "--json"]) == 0
    capsys.readouterr()
    assert main(watched(place, key, "--json", "--tdp", "700")) == 0
    found = rows(capsys)
    assert [row["segment"] for row in found] == list(range(len(found)))
    assert len(found) > 3
    assert all(row["watts"] is not None and row["tdp_w"] == 700 for row in found)


def test_a_run_that_goes_on_is_followed_to_its_end(made: tuple[Path, str]) -> None:
    place, key = made
    path = settings(place, 20.0)
    command = [sys.executable, "-m", "lydite.cli.main"]
    monitor = subprocess.Popen([*command, "monitor", "run", path], stdout=subprocess.PIPE)
    assert monitor.stdout is not None
    monitor.stdout.readline()
    seen = subprocess.run(
        [*command, *watched(place, key, "--json")], capture_output=True, timeout=120, check=True
    )
    monitor.communicate(timeout=60)
    found = [json.loads(line) for line in seen.stdout.splitlines()]
    assert [row["segment"] for row in found] == list(range(len(found)))
    assert len(found) > 3


def test_without_the_stated_power_nothing_is_answered(
    made: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    place, key = made
    assert main(["monitor", "run", settings(place, 0.0), "--json"]) == 0
    capsys.readouterr()
    assert main(watched(place, key, "--json")) == 0
    for row in rows(capsys):
        assert row["tdp_w"] is not None or (not row["answer"] and "--tdp" in row["why"])


def test_a_strangers_segments_are_not_shown(
    made: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    place, _ = made
    assert main(["monitor", "run", settings(place, 0.0), "--json"]) == 0
    capsys.readouterr()
    assert main(watched(place, "ab" * 32, "--seconds", "0")) == 1
    assert not capsys.readouterr().out


def test_a_segment_that_was_altered_ends_the_watch(
    made: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    place, key = made
    assert main(["monitor", "run", settings(place, 0.0), "--json"]) == 0
    capsys.readouterr()
    samples = place / "segments" / "00000001.parquet"
    samples.write_bytes(samples.read_bytes()[:-1])
    assert main(watched(place, key, "--json", "--seconds", "0")) == 1
    assert [row["segment"] for row in rows(capsys)] == [0]


def test_nothing_sealed_is_nothing_learnt(made: tuple[Path, str]) -> None:
    place, key = made
    (place / "segments").mkdir(exist_ok=True)
    assert main(watched(place, key, "--seconds", "0")) == 4


@pytest.mark.parametrize("option", [("--key", "xy"), ("--key", "ab"), ("--tdp", "0")])
def test_an_option_that_cannot_be_meant_is_refused(
    made: tuple[Path, str], option: tuple[str, str]
) -> None:
    place, key = made
    assert main(watched(place, key, *option)) == 2


def test_a_picture_reaches_from_nothing_to_the_stated_power() -> None:
    assert picture([0.0, 350.0, 700.0, 900.0], 700) == " ▄██"
    assert picture([], None) == ""
    assert picture([5.0], None) == "█"
