"""Every reason, command, option and setting that lydite publishes has an entry in the docs."""

import argparse
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from lydite.cli.main import COMMANDS
from lydite.errors import Reason

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SETTINGS = [
    ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
    for path in sorted((ROOT / "src" / "lydite").rglob("settings.py"))
]

sys.path.insert(0, str(DOCS / "_extensions"))
published = importlib.import_module("published_words")


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def test_every_reason_is_documented() -> None:
    meanings = dict(published.reasons(ROOT / "src"))
    assert set(meanings) == {reason.value for reason in Reason}
    for word, meaning in meanings.items():
        assert meaning.endswith("."), f"{word}: a sentence after the member says what it means"
    assert "```{reasons}" in page("reasons.md")


def test_every_limit_is_documented() -> None:
    assert "```{does-not-show}" in page("limits.md")
    names = dict(published.gaps(ROOT / "src"))
    assert "sampling.vrf.verify" in names
    assert all(len(text.split()) > 3 for text in names.values())


def section(text: str, heading: str) -> str:
    """The part of a page under a second-level heading."""
    found = re.search(rf"^## `?{re.escape(heading)}`?$(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert found, f"no section for {heading}"
    return found.group(1)


def options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Every option string and operand of a parser and its sub-commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield name
                yield from options(inner)
        elif action.option_strings:
            yield action.option_strings[-1]
        else:
            yield str(action.metavar or action.dest)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_is_documented(command: str) -> None:
    text = section(page("commands.md"), command)
    parser = argparse.ArgumentParser(prog=command)
    try:
        importlib.import_module(f"lydite.cli.{command}").configure(parser)
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name}: not installed")
    words = set(re.findall(r"[\w-]+", text))
    missing = {option for option in options(parser) if option not in words}
    assert not missing - {"--help"}


@pytest.mark.parametrize("module", SETTINGS)
def test_every_setting_is_documented(module: str) -> None:
    text = page("settings.md")
    settings = importlib.import_module(module)
    for name, kind in vars(settings).items():
        if not isinstance(kind, type) or not issubclass(kind, msgspec.Struct):
            continue
        if kind.__module__ != module or name.startswith("_"):
            continue
        for field in msgspec.structs.fields(kind):
            assert f"`{field.encode_name}`" in text, f"{module}.{name}.{field.encode_name}"
