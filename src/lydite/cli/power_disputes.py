"""``lydite power disputes``: checks a log of signed findings, and weighs it again.

By the public key alone. What a finding follows from (declared work, sealed segments) the records
name by digest; whoever has those repeats the check itself with ``lydite power check``.
"""

import argparse
from pathlib import Path

from lydite.appraisal import telemetry as appraisal
from lydite.appraisal.report import Fact, Report
from lydite.cli import power_log
from lydite.cli.files import public_key, read_message
from lydite.cli.reports import render
from lydite.errors import ConfigurationError, Reason, UnavailableError
from lydite.evidence.power import gpus, reference
from lydite.evidence.power.reference import MICRO, Reference
from lydite.messages.canonical import encode
from lydite.messages.telemetry import Predicate


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite power disputes``."""
    parser.add_argument("file", type=Path, metavar="FILE", help="the log of findings")
    parser.add_argument(
        "--public", required=True, metavar="HEX", help="the public key that signed it"
    )
    parser.add_argument("--provider", help="whose findings are weighed (default: the only one)")
    parser.add_argument(
        "--site",
        type=Path,
        metavar="FILE",
        help="the reference that they were scored against (default: that of no calibration)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Check the log, weigh it, print what it advises, and return the exit code.

    Raises:
        ConfigurationError: an option cannot be used.
        FormatError: the log or the reference is not one.
        UnavailableError: there is nothing to weigh.
        VerificationError: a line was altered or is missing, or has another reference.
    """
    if not arguments.file.exists():
        raise ConfigurationError(f"cannot read {arguments.file}: no such file")
    log = power_log.load(arguments.file, public_key(arguments.public, "--public"))
    said = [record.predicate for record in log.records]
    providers = sorted({one.provider for one in said})
    provider = arguments.provider or (providers[0] if len(providers) == 1 else None)
    if provider is None:
        raise ConfigurationError(f"--provider: name one of {', '.join(providers) or 'none'}")
    own = [one for one in said if one.provider == provider]
    if not own:
        raise UnavailableError(f"no finding on {provider} in {arguments.file}", Reason.UNMEASURED)
    known = _reference(arguments.site, own)
    advice = appraisal.advise(appraisal.DEFAULT, known, [one.finding for one in own])
    rows = [(f"{one.issued} {one.session}", _row(one)) for one in own]
    facts = [
        *rows,
        ("sessions", str(advice.sessions)),
        ("rate of audits", f"{advice.epsilon_ppm / 10_000:g} %"),
    ]
    report = Report(
        tier=advice.tier,
        reason=advice.reason,
        headline=f"{len(own)} findings on {provider}, signed and in one chain",
        provider=provider,
        log10_e_milli=advice.log10_e_milli,
        facts=tuple(Fact(name=name, value=value) for name, value in facts),
        caveats=appraisal.CAVEATS,
    )
    print(encode(report).decode() if arguments.json else render(report))
    return report.tier.exit_code


def _row(one: Predicate) -> str:
    score = one.finding.values(reference.SCORE)
    shown = f"score {score[0] / MICRO:.3f}" if score else one.finding.reason.value
    return f"{shown}, {len(one.segments)} sealed segments"


def _reference(path: Path | None, own: list[Predicate]) -> Reference:
    if path is not None:
        return reference.parse(read_message(path))
    wanted = own[-1].finding.reference
    generic = (reference.generic(row) for row in gpus.GPUS.values())
    found = next((one for one in generic if reference.digest(one) == wanted), None)
    if found is None:
        raise ConfigurationError("the findings rest on a site's reference: name it by --site")
    return found
