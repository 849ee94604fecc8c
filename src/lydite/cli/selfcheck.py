"""``lydite selfcheck``: does this build compute as the accepted passports say? For CI."""

import argparse
import time
from pathlib import Path

from lydite.cli.files import new, write
from lydite.cli.passport import REPORT, add_stack, signed, signers
from lydite.errors import ConfigurationError
from lydite.messages.canonical import encode
from lydite.numerics import merging

CODES = "exit codes: 0 inside, 2 usage, 3 outside, 4 underpowered or no answer"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite selfcheck``."""
    parser.epilog = CODES
    parser.add_argument(
        "server", nargs="?", metavar="URL", help="the new build; else one in this process"
    )
    parser.add_argument("--model", type=Path, required=True, help="the model's directory")
    parser.add_argument(
        "--passport",
        type=Path,
        action="append",
        required=True,
        help="an accepted one; again for each",
    )
    parser.add_argument(
        "--signer", action="append", required=True, help="public key in hex of who made them"
    )
    parser.add_argument(
        "--against", type=Path, action="append", default=[], help="passport of a cheat to rule out"
    )
    parser.add_argument("--prompts", type=Path, required=True, help="JSON list of prompts")
    parser.add_argument("--time", type=float, default=300.0, help="seconds until it has to be over")
    parser.add_argument(
        "--level", type=float, default=1e-3, help="how probable a false alarm may be"
    )
    parser.add_argument("--answers", type=int, default=400, help="asked for at most")
    parser.add_argument("--plant", help="run a regression of the laboratory, to see it found")
    parser.add_argument("--out", type=Path, help="directory for report, badge and candidate")
    add_stack(parser)
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Check one build within its time; the exit code is the outcome's."""
    started_s = time.monotonic()
    if arguments.time <= 0:
        raise ConfigurationError("a self-check needs some time")
    if arguments.out is not None:
        for name in (REPORT, "report.md", "badge.svg", "candidate.json"):
            new(arguments.out / name)
    accepted, now_ms = signers(arguments.signer), int(time.time() * 1000)
    honest, cheats = (
        merging.accept(map(signed, paths), accepted, now_ms)
        for paths in (arguments.passport, arguments.against)
    )
    merging.check_together([*honest, *cheats])
    alone = [merging.merge([each], cheats, "selfcheck", arguments.level) for each in honest]
    from lydite.cli import selfcheck_running as running
    from lydite.numerics import reporting

    said, candidate = running.checked(
        arguments, honest, [merged.reference for merged in alone], started_s
    )
    if arguments.json:
        print(running.spelling(said).decode())
    else:
        print("\n".join([reporting.headline(said), *running.lines(said)]))
    if arguments.out is not None:
        write(arguments.out / REPORT, running.spelling(said) + b"\n")
        write(arguments.out / "report.md", reporting.markdown(said).encode())
        write(arguments.out / "badge.svg", reporting.badge(said).encode())
        if candidate is not None:
            write(arguments.out / "candidate.json", encode(candidate) + b"\n")
    return said.outcome.tier.exit_code
