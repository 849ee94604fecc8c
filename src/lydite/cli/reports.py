"""How a relying party's report is asked for and printed, by every command that checks evidence."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from lydite.appraisal import trust
from lydite.appraisal.report import Report, refused
from lydite.appraisal.trust import Trust
from lydite.cli.files import read_message
from lydite.errors import ConfigurationError, FormatError, Reason, VerificationError
from lydite.messages.canonical import encode
from lydite.messages.plain import plain
from lydite.messages.tier import Tier

TRUST_VARIABLE = "LYDITE_TRUST"
EXIT_CODES = (
    "exit codes: 0 consistent, 1 inconsistent or invalid, 2 usage, 3 misconfigured, "
    "4 nothing learnt"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every checking command takes."""
    add_trust(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the relying party's trust file."""
    parser.add_argument(
        "--trust",
        type=Path,
        metavar="FILE",
        help=f"whom you trust: keys, log, witnesses, references (default: ${TRUST_VARIABLE})",
    )


def finish(check: Callable[[Trust], Report], arguments: argparse.Namespace) -> int:
    """Run ``check`` under the relying party's trust file, print the report, return the exit code.

    Evidence that is refused ends in a report too, with the reason of the refusal.
    """
    report = _report(check, arguments.trust)
    print(encode(report).decode() if arguments.json else render(report))
    return report.tier.exit_code


def render(report: Report) -> str:
    """Return the report as a person reads it: each line is one, whoever wrote what stands in it."""
    mark = {"affirming": "✔", "contraindicated": "✘", "warning": "!", "none": "?"}
    words = report.headline or report.tier.words
    why = "" if report.reason is Reason.CONSISTENT else f": {report.reason}"
    lines = [f"{mark[report.tier.value]} {words}{why}"]
    if report.detail:
        lines.append(f"  {report.detail}")
    lines += [f"  {fact.name}: {fact.value}" for fact in report.facts]
    lines += [f"  skipped: {s.count} x {s.kind} ({s.reason})" for s in report.skipped]
    if report.caveats:
        lines.append("  does not show:")
        lines += [f"    - {caveat}" for caveat in report.caveats]
    return "\n".join(plain(line) for line in lines)


def load_trust(given: Path | None) -> Trust:
    """Return the relying party's trust anchors.

    Raises:
        ConfigurationError: no file is named (``NO_TRUST_ANCHORS``), or it cannot be used.
    """
    chosen = given or os.environ.get(TRUST_VARIABLE)
    if chosen is None:
        raise ConfigurationError(
            f"nothing says whom to trust; give --trust FILE or set {TRUST_VARIABLE}",
            Reason.NO_TRUST_ANCHORS,
        )
    try:
        return trust.parse(read_message(Path(chosen)))
    except FormatError as error:
        raise ConfigurationError(
            f"trust file {chosen}: {error}; `lydite trust` makes one from anchors"
        ) from error


def _report(check: Callable[[Trust], Report], given: Path | None) -> Report:
    try:
        anchors = load_trust(given)
    except ConfigurationError as error:
        if error.reason is not Reason.NO_TRUST_ANCHORS:
            raise
        return refused(Tier.NONE, error.reason, str(error))
    try:
        return check(anchors)
    except (FormatError, VerificationError) as error:
        return refused(Tier.CONTRAINDICATED, error.reason, str(error))
