"""Pictures are drawn of evidence that stands, and of no other."""

import json
from pathlib import Path

import pytest

from lydite.appraisal import bundle as bundles
from lydite.appraisal.trajectory import trajectory
from lydite.cli.main import main
from lydite.laboratory.bigram import Bigram
from lydite.laboratory.world import World
from lydite.messages.canonical import encode


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(cheat=Bigram(noise=0.3))
    made.traffic(6)
    made.judged()
    (tmp_path / "trust.json").write_bytes(encode(made.trust) + b"\n")
    (tmp_path / "bundle.json").write_bytes(made.bundle())
    return made


def test_the_picture_and_its_points_come_from_the_recorded_findings(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["plot", str(tmp_path / "bundle.json"), "--trust", str(tmp_path / "trust.json")]
    assert main([*words, "--out", str(tmp_path / "e.png"), "--json"]) == 0
    points = json.loads(capsys.readouterr().out)["world"]
    steps = trajectory(bundles.parse(world.bundle()))
    assert points == [list(step) for step in steps]
    assert [step.tokens for step in steps] == [32 * count for count in range(7)]
    assert (tmp_path / "e.png").read_bytes().startswith(b"\x89PNG")


def test_no_picture_is_drawn_of_a_bundle_that_is_refused(world: World, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.json"
    bundle.write_bytes(bundle.read_bytes().replace(b'"path":["', b'"path":["A', 1))
    words = ["plot", str(bundle), "--trust", str(tmp_path / "trust.json")]
    assert main([*words, "--out", str(tmp_path / "e.png")]) == 1
    assert not (tmp_path / "e.png").exists()


def test_a_picture_of_an_unknown_format_is_a_usage_error(world: World, tmp_path: Path) -> None:
    words = ["plot", str(tmp_path / "bundle.json"), "--trust", str(tmp_path / "trust.json")]
    assert main([*words, "--out", str(tmp_path / "e.nope")]) == 2
