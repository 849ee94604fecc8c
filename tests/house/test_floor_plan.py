"""Every kind of evidence is laid out alike, and every room that exists is a room of the plan."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EVIDENCE = ROOT / "src" / "lydite" / "evidence"
KINDS = sorted(path for path in EVIDENCE.iterdir() if (path / "__init__.py").exists())


def test_there_is_evidence() -> None:
    assert KINDS


@pytest.mark.parametrize("kind", KINDS, ids=lambda path: path.name)
@pytest.mark.parametrize("module", ["claims", "reference", "attester", "verifier"])
def test_each_kind_has_the_same_floor_plan(kind: Path, module: str) -> None:
    assert (kind / f"{module}.py").is_file()


def test_attacks_are_named_by_number() -> None:
    for path in (ROOT / "tests" / "attacks").glob("test_*.py"):
        number, _, name = path.stem.removeprefix("test_attack_").partition("_")
        assert number.rstrip("b").isdigit(), f"{path.name}: test_attack_<number>_<name>.py"
        assert name


def test_packages_have_an_init() -> None:
    """A folder without one is a namespace package, which contracts and installs overlook."""
    listed = subprocess.run(
        ["git", "ls-files", "src"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    folders = {Path(name).parent for name in listed.stdout.splitlines() if name.endswith(".py")} - {
        Path("src")
    }
    assert not [str(f) for f in folders if not (ROOT / f / "__init__.py").exists()]
