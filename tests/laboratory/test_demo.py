"""The demonstration, on real processes: honest is consistent, a cheat is not, forgeries fall."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lydite.errors import ConfigurationError, UnavailableError
from lydite.laboratory import demo, places
from lydite.laboratory.demo import Options, Row

ROOT = Path(__file__).parents[2]


def test_an_honest_provider_and_a_quantised_one_are_told_apart(tmp_path: Path) -> None:
    options = Options(
        directory=tmp_path,
        models=ROOT / "models",
        references=ROOT / "data/reference/tokens",
        model="lydite-small",
        cast=(("honest", "honest"), ("quantised", "int4-weights")),
        requests=20,
        rounds=2,
    )
    rows = demo.run(options, lambda stage: None)
    assert [(row.cheat, row.tier) for row in rows] == [
        ("honest", "affirming"),
        ("int4-weights", "contraindicated"),
    ]
    assert all(row.right for row in rows), rows
    assert all(row.refused == "bad-signature" for row in rows)
    assert (tmp_path / "latest" / "trust.json").exists()


@pytest.mark.slow
def test_all_seven_verdicts_are_right(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lydite.cli.main", "demo", "--json", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, check=False)
    said = json.loads(done.stdout)
    names = {"name", "cheat", "requests", "audited", "tokens", "tier", "reason", "bundle"}
    names.add("log10_e")
    assert all(names <= set(provider) for provider in said["providers"])
    assert len(said["providers"]) == 7
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize(
    ("tier", "verified", "refused"),
    [
        ("none", "none", "bad-signature"),
        ("contraindicated", "contraindicated", "bad-signature"),
        ("affirming", "none", "bad-signature"),
        ("affirming", "affirming", ""),
        ("affirming", "affirming", "affirming"),
    ],
)
def test_a_row_is_right_only_if_all_three_checks_are(
    tier: str, verified: str, refused: str
) -> None:
    row = Row(name="h", cheat="honest", tier=tier, verified=verified, refused=refused)
    assert not row.right


def test_runs_of_one_second_do_not_collide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places.time, "strftime", lambda _: "20261120-120000")
    names = [places.fresh(tmp_path).name for _ in range(3)]
    assert names == ["20261120-120000", "20261120-120000-2", "20261120-120000-3"]


def test_a_run_that_fails_leaves_latest_where_it_led(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UnavailableError("no server")

    earlier = places.fresh(tmp_path)
    places.point(tmp_path / "latest", earlier)
    monkeypatch.setattr(demo, "deploy", fail)
    options = Options(
        directory=tmp_path,
        models=ROOT / "models",
        references=ROOT / "data/reference/tokens",
        model="lydite-small",
        cast=(),
    )
    with pytest.raises(UnavailableError):
        demo.run(options, lambda stage: None)
    assert (tmp_path / "latest").resolve() == earlier.resolve()
    assert len(list(tmp_path.iterdir())) == 3


def test_latest_is_replaced_by_the_next_run_but_only_if_it_is_a_link(tmp_path: Path) -> None:
    for _ in range(2):
        place = places.fresh(tmp_path)
        places.point(tmp_path / "latest", place)
        assert (tmp_path / "latest").resolve() == place.resolve()
        assert not list(place.iterdir())
    (tmp_path / "latest").unlink()
    (tmp_path / "latest").mkdir()
    with pytest.raises(ConfigurationError):
        places.fresh(tmp_path)
