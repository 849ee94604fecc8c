"""``lydite verify BUNDLE``: offline, with the base install, fail closed."""

import argparse
import os
from pathlib import Path

from lydite.appraisal import trust
from lydite.appraisal.report import Report, refused
from lydite.appraisal.verification import verify
from lydite.errors import ConfigurationError, FormatError, Reason, VerificationError
from lydite.messages.canonical import encode
from lydite.messages.tier import Tier

TRUST_VARIABLE = "LYDITE_TRUST"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite verify``."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle's file")
    parser.add_argument(
        "--trust",
        type=Path,
        metavar="FILE",
        help=f"whom you trust: keys, log, witnesses, references (default: ${TRUST_VARIABLE})",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Check one bundle and print the report; the exit code is its tier's."""
    payload = read(arguments.bundle)
    report = check(payload, arguments.trust)
    if arguments.json:
        print(encode(report).decode())
    else:
        print(render(report))
    return report.tier.exit_code


def check(payload: bytes, trust_file: Path | None) -> Report:
    """Return the report on a bundle's bytes under a relying party's trust file."""
    chosen = trust_file or os.environ.get(TRUST_VARIABLE)
    if chosen is None:
        return refused(
            Tier.NONE,
            Reason.NO_TRUST_ANCHORS,
            f"nothing says whom to trust; give --trust FILE or set {TRUST_VARIABLE}",
        )
    try:
        anchors = trust.parse(read(Path(chosen)).rstrip(b"\n"))
    except FormatError as error:
        raise ConfigurationError(f"trust file {chosen}: {error}") from error
    try:
        return verify(payload, anchors)
    except (FormatError, VerificationError) as error:
        return refused(Tier.CONTRAINDICATED, error.reason, str(error))


def read(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        ConfigurationError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error


def render(report: Report) -> str:
    """Return the report as a person reads it."""
    mark = {"affirming": "✔", "contraindicated": "✘", "warning": "!", "none": "?"}
    lines = [f"{mark[report.tier.value]} {report.tier.words}: {report.reason}"]
    if report.detail:
        lines.append(f"  {report.detail}")
    lines += [f"  {fact.name}: {fact.value}" for fact in report.facts]
    lines += [f"  skipped: {s.count} x {s.kind} ({s.reason})" for s in report.skipped]
    if report.caveats:
        lines.append("  does not show:")
        lines += [f"    - {caveat}" for caveat in report.caveats]
    return "\n".join(lines)
