"""Entry point: finds the command, runs it, turns its errors into one line and an exit code."""

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any, Protocol, cast

from lydite import __version__
from lydite.cli.examples import EXAMPLES
from lydite.cli.reports import EXIT_CODES
from lydite.errors import (
    FormatError,
    LyditeError,
    Reason,
    UnavailableError,
    VerificationError,
)
from lydite.messages.plain import plain
from lydite.messages.tier import Tier

COMMANDS = {
    "demo": "one honest provider and six that cheat, judged before your eyes",
    "example": "a whole deployment: client, nginx, gateways, two model servers, recomputer",
    "audit": "does this endpoint serve the model that it names? asks it, without its co-operation",
    "verify": "check a bundle offline: is this evidence good?",
    "receipt": "check the receipt of your own request",
    "trust": "write the trust file by which a relying party checks bundles",
    "log": "read a transparency log, prove and check entries",
    "plot": "draw how the evidence in bundles grew, audit by audit",
    "gateway": "sit in front of a model server and give a receipt for every answer",
    "engine": "serve a local model over the OpenAI API with a reproducible sampler",
    "admin": "order a gateway to do something, as k of n officers",
    "auditor": "recompute drawn requests and write what was found into the log",
    "recomputer": "route requests, recompute drawn ones, and act on what is found",
    "monitor": "read the sensors of GPUs, try them, and seal what they say",
    "meter": "weigh what every answer of a gateway can carry out, and tell it",
    "witness": "cosign the checkpoints of logs that only grow",
    "beacon": "local public randomness, for development",
    "attest": "appraise a machine by its TPM, its boot log and its list of files, offline",
    "passport": "measure how a stack computes, merge what was measured, show it",
    "lab": "every attack against every kind of evidence, in a table that grows as you watch",
    "selfcheck": "hold a new build of your engine against accepted passports, in a set time",
    "power": "traces of what GPUs draw and do: import them, ask for them, draw them",
    "plan": "what verification costs and buys: rollout, coverage, upload, physical checks",
}
"""Every command and what it is for, as one meets them: to see and to check, to serve, to audit; the
module of the same name in this room runs it."""

_LONGEST_COMMAND = 14
"""Columns of the longest command's name, indented: the summary stays beside it."""


class Command(Protocol):
    """What each command module offers."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Run the command and return its exit code."""


def main(argv: list[str] | None = None) -> int:
    """Run ``lydite`` and return the exit code (see ``docs/commands.md``)."""
    words = sys.argv[1:] if argv is None else argv
    parser = _parser()
    name = next((word for word in words if not word.startswith("-")), "")
    try:
        command = _load(name) if name in COMMANDS else None
        if command is not None:
            command.configure(parser.commands.choices[name])
        arguments, unknown = parser.parse_known_args(words)
        if unknown:  # the parser that knows the step shows how it is called
            arguments.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        if command is None:
            parser.print_help(sys.stderr)
            return 2
        return command.run(arguments)
    except LyditeError as error:
        complain(str(error), error.reason)
        return _exit_code(error)
    except ModuleNotFoundError as error:
        step = " ".join(words[:2])
        return _explain_missing(step if step in _EXTRAS else name, error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141


def _exit_code(error: LyditeError) -> int:
    """Return 1 for evidence that is refused, 4 where nothing was learnt, 2 for the rest."""
    if isinstance(error, VerificationError | FormatError):
        return Tier.CONTRAINDICATED.exit_code
    return Tier.NONE.exit_code if isinstance(error, UnavailableError) else 2


def complain(message: str, reason: Reason, hint: str | None = None) -> None:
    """Say on stderr what went wrong and what to do."""
    print(f"lydite: error: {plain(message)} ({reason})", file=sys.stderr)
    if hint is not None:
        print(f"lydite: hint: {plain(hint)}", file=sys.stderr)


class _Help(argparse.HelpFormatter):
    """Says what holds where an option is not given, unless its help does already."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog)
        self._action_max_length = _LONGEST_COMMAND

    def _get_help_string(self, action: argparse.Action) -> str | None:
        plain = isinstance(action.default, str | int | Path) and action.nargs != 0
        said = action.help is None or "default" in action.help
        return f"{action.help} (default: %(default)s)" if plain and not said else action.help


class _Parser(argparse.ArgumentParser):
    """Knows its sub-commands, which are made alike, and itself: ``parser`` of what it parsed.

    Its help ends with an example that can be copied, or says where there are some.
    """

    commands: "argparse._SubParsersAction[_Parser]"

    def __init__(self, **fields: Any) -> None:
        super().__init__(formatter_class=_Help, **fields)
        self.set_defaults(parser=self)

    def format_help(self) -> str:
        """Return what ``--help`` prints."""
        example = EXAMPLES.get(self.prog.partition(" ")[2])
        if example is not None:
            return f"{super().format_help()}\nexample:\n  {example}\n"
        inner = "COMMAND" if self.prog == "lydite" else "STEP"
        return f"{super().format_help()}\n`{self.prog} {inner} --help` has options and an example\n"


def _parser() -> _Parser:
    parser = _Parser(
        prog="lydite",
        description="lydite verifies AI inference: was this answer made by the declared model?",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"lydite {__version__}")
    parser.commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, summary in COMMANDS.items():
        parser.commands.add_parser(name, help=summary, description=summary)
    return parser


def _load(name: str) -> Command:
    return cast(Command, importlib.import_module(f"lydite.cli.{name}"))


def _explain_missing(name: str, error: ModuleNotFoundError) -> int:
    """Say which extra a command needs; a module of our own that is missing is a bug and rises."""
    if error.name is None or error.name.startswith("lydite") or name not in _EXTRAS:
        raise error
    complain(
        f"`lydite {name}` needs {error.name}, which is not installed",
        Reason.NEEDS_EXTRA,
        f"in a clone of the repository, run: pip install '.[{_EXTRAS[name]}]'",
    )
    return 2


_EXTRAS = {
    **{name: name for name in ("auditor", "demo", "engine", "gateway", "plot", "recomputer")},
    "attest": "attest",
    "audit": "auditor",
    "example": "demo",
    "lab": "demo",
    "gateway demo": "demo",
    "meter": "auditor",
    "monitor": "monitor",
    "passport make": "auditor",
    "selfcheck": "auditor",
    "passport show": "plot",
    "plan": "plot",
    "power": "power",
}


if __name__ == "__main__":
    sys.exit(main())
