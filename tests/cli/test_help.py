"""Help that can be copied: every command and step shows an example that its own parser takes."""

import argparse
import importlib
import shlex
from collections.abc import Iterator

import pytest

from lydite.cli.examples import EXAMPLES
from lydite.cli.main import COMMANDS, main


def steps(parser: argparse.ArgumentParser, words: str) -> Iterator[str]:
    """The words of every command that runs."""
    inner = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    if not inner:
        yield words
    for action in inner:
        for name, step in action.choices.items():
            yield from steps(step, f"{words} {name}")


def configured(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"lydite {command}")
    importlib.import_module(f"lydite.cli.{command}").configure(parser)
    return parser


@pytest.mark.parametrize("command", COMMANDS)
def test_every_step_has_an_example_that_its_parser_takes(command: str) -> None:
    parser = configured(command)
    for words in steps(parser, command):
        program, *arguments = shlex.split(EXAMPLES[words])
        assert program == "lydite"
        assert " ".join(arguments).startswith(words)
        parser.parse_args(arguments[1:])  # exits if it would not be taken


def test_no_example_is_of_a_step_that_is_gone() -> None:
    assert set(EXAMPLES) == {words for name in COMMANDS for words in steps(configured(name), name)}


@pytest.mark.parametrize("words", [["verify"], ["gateway", "init"], ["admin", "order"]])
def test_help_ends_with_the_example(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    assert capsys.readouterr().out.endswith(f"example:\n  {EXAMPLES[' '.join(words)]}\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "`lydite COMMAND --help` has options and an example\n"),
        (["admin"], "`lydite admin STEP --help` has options and an example\n"),
    ],
)
def test_help_of_a_group_says_where_the_examples_are(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    assert capsys.readouterr().out.endswith(said)


def test_each_command_and_its_summary_share_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    for name in COMMANDS:
        assert any(line.split()[:1] == [name] and len(line.split()) > 2 for line in lines), name
