"""Sizes, names and docstrings: the budgets that keep the house readable."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = sorted((ROOT / "src" / "lydite").rglob("*.py"))
CODE = PACKAGE + sorted(ROOT.glob("scripts/**/*.py")) + sorted(ROOT.glob("bench/**/*.py"))

MODULE_LINES = 400
FUNCTION_LINES = 50
NO_NAMES = {"utils", "util", "common", "helpers", "helper", "misc", "manager", "managers"}
MACHINE_PATH = re.compile(r"(?<![\w./~-])/(?:root|work|home|tmp)/\w")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(tree: ast.AST) -> list[Function]:
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", CODE, ids=short)
def test_modules_and_functions_keep_their_budgets(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MODULE_LINES
    for node in functions(parse(path)):
        assert node.end_lineno is not None
        lines = node.end_lineno - node.lineno + 1
        assert lines <= FUNCTION_LINES, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("path", CODE, ids=short)
def test_modules_say_what_they_are_for(path: Path) -> None:
    doc = ast.get_docstring(parse(path))
    assert doc, "a module opens with what it is for and what it refuses to know"
    assert doc.splitlines()[0].endswith((".", "?")), "the first line is a sentence"


@pytest.mark.parametrize("path", CODE, ids=short)
def test_no_room_is_a_junk_drawer(path: Path) -> None:
    assert path.stem not in NO_NAMES
    assert not NO_NAMES & set(path.relative_to(ROOT).parts)


def test_no_function_is_more_complex_than_8() -> None:
    command = [sys.executable, "-m", "ruff", "check", "--select", "C901", "--no-cache", "."]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def verifiers() -> list[tuple[str, str]]:
    """Public functions named ``verify...``, with their docstrings."""
    found = []
    for path in PACKAGE:
        for node in parse(path).body:
            if isinstance(node, Function) and node.name.startswith("verify"):
                found.append((f"{short(path)}:{node.name}", ast.get_docstring(node) or ""))
    return found


@pytest.mark.parametrize(("where", "doc"), verifiers(), ids=lambda value: value.split("\n")[0])
def test_verifiers_say_what_they_do_not_show(where: str, doc: str) -> None:
    last = doc.strip().split("\n\n")[-1]
    assert last.startswith("**Does not show**"), f"{where}: the last paragraph says what it leaves"


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("git: this is not a checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_no_tracked_file_names_a_place_on_some_machine() -> None:
    found = []
    for path in tracked():
        if path == Path(__file__) or not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{short(path)}: {hit.group()}" for hit in MACHINE_PATH.finditer(text)]
    assert not found
