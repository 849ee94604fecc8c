"""The documentation builds without a warning, and what it tells people to run runs."""

import argparse
import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from lydite.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md")) + sorted(ROOT.glob("*.md"))
PAGES = [path for path in PAGES if "_build" not in path.parts]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, *languages: str) -> list[str]:
    found = FENCE.findall(path.read_text(encoding="utf-8"))
    return [code for language, code in found if language in languages]


WITH_PYTHON = [path for path in PAGES if blocks(path, "python")]
COMMAND = re.compile(r"^(?:\$ )?(?:[A-Z]+=\$\((?=.*\)$))?((?:lydite|make) .*?)\)?$")
"""A line of a shell: a command of ours, or a variable that keeps what one prints."""
COMMAND_LINES = [
    (path, found[1])
    for path in PAGES
    for code in blocks(path, "console", "text", "bash", "sh")
    for line in code.replace("\\\n", " ").splitlines()
    if (found := COMMAND.match(line))
]


@pytest.mark.parametrize("path", WITH_PYTHON, ids=short)
def test_python_on_a_page_runs_from_top_to_bottom(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for code in blocks(path, "python"):
        exec(compile(code, short(path), "exec"), names)


@pytest.mark.parametrize(("path", "line"), COMMAND_LINES, ids=lambda value: Path(value).name)
def test_commands_on_a_page_exist(path: Path, line: str) -> None:
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        targets = (ROOT / "Makefile").read_text(encoding="utf-8")
        named = [word for word in words[1:] if "=" not in word]
        for target in named:
            benched = target.startswith("bench-")
            assert benched or re.search(rf"^{re.escape(target)}:", targets, re.M), target
        return
    command, *arguments = words[1:]
    if command.startswith("-") or command.isupper():
        return
    assert command in COMMANDS
    parser = argparse.ArgumentParser(prog=command)
    importlib.import_module(f"lydite.cli.{command}").configure(parser)
    parser.parse_args(arguments)  # exits if an option is not one


@pytest.mark.parametrize(("number", "service"), [(0, "gateway"), (1, "auditor"), (4, "monitor")])
def test_example_settings_are_settings(number: int, service: str) -> None:
    examples = blocks(ROOT / "docs" / "settings.md", "toml")
    kind = importlib.import_module(f"lydite.{service}.settings").Settings
    assert msgspec.toml.decode(examples[number], type=kind)


def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", "docs", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
