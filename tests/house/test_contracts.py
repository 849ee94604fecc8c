"""The import contracts hold, bite, and are what ARCHITECTURE.md draws."""

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "lydite"
LINT = (
    "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
)

PURE_ROOMS = ("messages", "signing", "statistics", "sampling", "appraisal", "economics", "tlog")
DOES_IO = {
    "lydite.signing.keys": "holds private keys and their files",
    "lydite.tlog.checkpointer": "asks witnesses, at every beat",
    "lydite.tlog.disk": "files of the log",
    "lydite.tlog.recovery": "files of the log",
    "lydite.tlog.store": "files of the log",
    "lydite.tlog.wal": "files of the log",
    "lydite.tlog.witness_client": "network",
    "lydite.tlog.witness_server": "network and key",
}
"""Modules of pure rooms that do I/O, and why; whatever is not here is under the pure contract."""


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter over the package in ``folder``."""
    return subprocess.run(
        [sys.executable, "-c", LINT],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package, to break."""
    shutil.copytree(SOURCE, tmp_path / "lydite", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    return tmp_path


def test_every_import_obeys_the_contracts(copy: Path) -> None:
    result = lint(copy)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("errors", "import lydite.messages", "only from the rooms below"),
        ("gateway/__init__", "import lydite.auditor", "only from the rooms below"),
        ("sampling/draw", "import lydite.evidence", "only from the rooms below"),
        ("appraisal/__init__", "import lydite.engines", "only from the rooms below"),
        ("appraisal/policy", "import lydite.evidence.tokens.attester", "Whoever judges"),
        ("evidence/tokens/verifier", "import lydite.evidence.tokens.attester", "Whoever judges"),
        ("auditor/__init__", "import lydite.evidence.tokens.attester", "never asks the attester"),
        ("sampling/vrf", "import random", "Pure rooms"),
        ("statistics/__init__", "import time", "Pure rooms"),
        ("messages/__init__", "import logging", "Pure rooms"),
        ("messages/canonical", "import numpy", "base install"),
        ("appraisal/__init__", "import lydite.signing.keys", "Private keys"),
        ("sampling/bls", "import lydite.sampling.beacon", "No cycles"),
        ("annex", "", "only from the rooms below"),  # a room that nobody placed
    ],
)
def test_the_contracts_bite(copy: Path, module: str, line: str, contract: str) -> None:
    path = copy / "lydite" / f"{module}.py"
    before = path.read_text(encoding="utf-8") if path.exists() else '"""New."""\n'
    path.write_text(f"{before}\n{line}\n", encoding="utf-8")
    result = lint(copy)
    assert result.returncode == 1
    broken = [text for text in result.stdout.splitlines() if text.endswith("BROKEN")]
    assert any(contract in text for text in broken), result.stdout


def test_every_module_of_a_pure_room_is_under_the_pure_contract() -> None:
    parser = configparser.ConfigParser()
    parser.read(ROOT / ".importlinter")
    pure = parser["importlinter:contract:pure"]["source_modules"].split()
    modules = [
        ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
        for room in PURE_ROOMS
        for path in sorted((SOURCE / room).rglob("*.py"))
    ]
    outside = [
        module
        for module in modules
        if module not in DOES_IO
        and module.count(".") > 1
        and not any(f"{module}.".startswith(f"{name}.") for name in pure)
    ]
    assert not outside, "name them in the pure contract of .importlinter, or in DOES_IO with why"


def test_the_picture_in_architecture_is_drawn_from_the_contracts() -> None:
    script = ROOT / "scripts" / "draw_architecture.py"
    result = subprocess.run([sys.executable, str(script), "--check"], check=False)
    assert result.returncode == 0, "run: python scripts/draw_architecture.py"


def test_architecture_fits_on_two_pages() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert len(page.splitlines()) <= 150
    rooms = [path for path in SOURCE.iterdir() if (path / "__init__.py").exists()]
    for room in rooms:
        assert f"| `{room.name}` |" in page, f"{room.name} is missing from the table of rooms"
