"""Three dependencies are enough to verify: receipts, logs, draws, recorded findings, bundles."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "lydite"
BASE = ("msgspec", "pynacl", "py_ecc")
ROOMS = ("messages", "signing", "statistics", "sampling", "tlog", "appraisal", "economics")
COMMANDS = ("main", "verify", "receipt", "log", "trust", "plan")
KIND_MODULES = ("claims", "reference")

# A fresh interpreter in which importing what belongs to any other distribution than lydite and the
# base dependencies (with theirs) fails as it would if it were not installed.
BARE = """
import importlib, importlib.abc, importlib.metadata as metadata, re, sys
def name(text):
    return re.split(r"[^A-Za-z0-9._-]", text)[0].lower().replace("_", "-").replace(".", "-")
def needs(distribution):
    wanted = metadata.requires(distribution) or []
    return {name(line) for line in wanted if "extra ==" not in line}
held, queue = set(), {"msgspec", "pynacl", "py-ecc"}
while queue:
    found = queue.pop()
    held.add(found)
    try:
        queue |= needs(found) - held
    except metadata.PackageNotFoundError:
        pass  # needed on another platform or an older Python only
packages = metadata.packages_distributions()
held.add("lydite")
absent = {top for top, owners in packages.items() if not held & {name(o) for o in owners}}
class Bare(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"not in the base install: {fullname}", name=fullname)
sys.meta_path.insert(0, Bare())
for module in sys.argv[1:]:
    importlib.import_module(module)
"""


def modules() -> list[str]:
    """Every module that the base install has to be able to import."""
    paths = sorted((SOURCE / "errors").glob("*.py"))
    paths += [SOURCE / "cli" / f"{name}.py" for name in COMMANDS]
    for room in ROOMS:
        paths += sorted((SOURCE / room).rglob("*.py"))
    for kind in KIND_MODULES:
        paths += sorted((SOURCE / "evidence").glob(f"*/{kind}.py"))
    dotted = (".".join(path.relative_to(ROOT / "src").with_suffix("").parts) for path in paths)
    return [module.removesuffix(".__init__") for module in dotted]


def test_what_verifies_imports_with_the_base_install_only() -> None:
    result = subprocess.run(
        [sys.executable, "-c", BARE, *modules()], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_the_bare_interpreter_is_bare() -> None:
    result = subprocess.run(
        [sys.executable, "-c", BARE, "numpy"], capture_output=True, text=True, check=False
    )
    assert "not in the base install: numpy" in result.stderr


def test_the_base_install_has_at_most_four_direct_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [line.split(">")[0].split("=")[0].strip() for line in project["dependencies"]]
    assert len(names) <= 4
    assert set(names) == set(BASE)


def test_versions_are_fixed_for_everything_that_the_project_names() -> None:
    fixed = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        asked += extra
    asked += [
        line
        for line in (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    names = {line.split(">")[0].split("[")[0].strip().lower().replace("_", "-") for line in asked}
    assert not names - fixed - {"lydite"}, "add the versions to constraints.txt"


@pytest.mark.slow
def test_a_fresh_environment_with_the_base_install_verifies(tmp_path: Path) -> None:
    source, home = tmp_path / "source", tmp_path / "venv"
    shutil.copytree(
        ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, source)
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    installed = subprocess.run(
        [home / "bin" / "pip", "install", "-q", "-c", ROOT / "constraints.txt", source],
        capture_output=True,
        text=True,
        check=False,
    )
    if installed.returncode:
        pytest.skip(f"pip: {installed.stderr.strip().splitlines()[-1]}")
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    listed = subprocess.run(
        [home / "bin" / "pip", "list"], capture_output=True, text=True, check=True, env=clean
    ).stdout
    assert "torch" not in listed
    assert "numpy" not in listed
    code = "import importlib, sys\nfor m in sys.argv[1:]: importlib.import_module(m)"
    subprocess.run(
        [home / "bin" / "python", "-c", code, *modules()], check=True, env=clean, cwd=tmp_path
    )
    absent = subprocess.run(
        [home / "bin" / "lydite", "verify", "no-such-bundle"],
        capture_output=True,
        text=True,
        check=False,
        env=clean,
        cwd=tmp_path,
    )
    assert absent.returncode == 2
    assert absent.stderr.startswith("lydite: error: ")
