"""``lydite power check``: whether telemetry fits the work that was declared for it.

Never affirms and never accuses: what fits ends in ``none`` (exit code 4), what does not in a
warning (3). Either way the report names the rate of audits that follows, and what root could forge.
"""

import argparse
from datetime import UTC, datetime
from pathlib import Path

from lydite.appraisal import legitimacy
from lydite.appraisal import telemetry as appraisal
from lydite.appraisal.legitimacy import Legitimacy
from lydite.appraisal.report import Fact, Report
from lydite.appraisal.telemetry import Advice
from lydite.cli import power_log, power_runs
from lydite.cli.power_log import Log
from lydite.cli.power_runs import Run
from lydite.cli.reports import render
from lydite.errors import ConfigurationError, Reason, UnavailableError
from lydite.evidence.power import reference
from lydite.evidence.power.claims import Claims
from lydite.evidence.power.reference import MICRO, Reference
from lydite.messages import telemetry
from lydite.messages.canonical import encode
from lydite.messages.finding import Finding
from lydite.messages.statement import subject
from lydite.signing import keys

_HEADLINES = {
    Reason.TELEMETRY_FITS: "telemetry fits the declared work, which affirms nothing by itself",
    Reason.TELEMETRY_MISFITS: "telemetry does not fit the declared work",
}
_SHOWN = ("gate/", "broken/")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite power check``."""
    power_runs.add_run(parser)
    parser.add_argument(
        "--horizon",
        type=int,
        metavar="SECONDS",
        help="of the run, from its start (default: the reference's longest that it reaches)",
    )
    parser.add_argument(
        "--prior",
        type=float,
        default=0.98,
        metavar="P",
        help="how probable an honest provider is taken to be before telemetry",
    )
    parser.add_argument(
        "--log", type=Path, metavar="FILE", help="signed findings for disputes: read, and added to"
    )
    parser.add_argument("--key", type=Path, metavar="FILE", help="signs the log")


def run(arguments: argparse.Namespace) -> int:
    """Check one run, keep what was found, print it, and return the exit code.

    Raises:
        ConfigurationError: a file or an option cannot be used.
        FormatError: a file is not what it has to be.
        UnavailableError: too little was measured, or the run is too short.
        VerificationError: other GPUs than declared, or a log that was altered.
    """
    if (arguments.log is None) != (arguments.key is None):
        raise ConfigurationError("--log and --key go together")
    if not 0.0 < arguments.prior < 1.0:
        raise ConfigurationError(f"--prior {arguments.prior}: expected between 0 and 1")
    given = power_runs.load(arguments.declared, arguments.trace)
    work, known = given.work, power_runs.site(arguments.site, given.work)
    horizon = _horizon(arguments.horizon, known, work)
    from lydite.evidence.power import verifier

    finding = verifier.verify(work, given.traces, known, horizon)
    past = _keep(arguments, given, finding)
    own = reference.digest(known)
    earlier = [
        record.predicate.finding
        for record in past.records
        if record.predicate.provider == work.provider and record.predicate.finding.reference == own
    ]
    advice = appraisal.advise(appraisal.DEFAULT, known, [*earlier, finding])
    honest = legitimacy.probability(known, [*earlier, finding], arguments.prior)
    report = _report(work, known, finding, advice, honest)
    print(encode(report).decode() if arguments.json else render(report))
    return report.tier.exit_code


def _horizon(given: int | None, known: Reference, work: Claims) -> int:
    if given is not None:
        return given
    seconds = (work.end_us - work.start_us) // 1_000_000
    reached = [horizon for horizon in known.horizons_s if horizon <= seconds]
    if not reached:
        raise UnavailableError(
            f"a run of {seconds} s, shorter than {known.horizons_s[0]} s", Reason.TOO_SHORT
        )
    return reached[-1]


def _keep(arguments: argparse.Namespace, given: Run, finding: Finding) -> Log:
    """Return what the log held before, after the finding was added to it."""
    if arguments.log is None:
        return Log((), None)
    signer = keys.load(arguments.key)
    past = power_log.load(arguments.log, signer.public)
    now = datetime.now(UTC)
    record = telemetry.Record(
        subject=subject("declared work", given.declared),
        predicate=telemetry.Predicate(
            finding=finding,
            provider=given.work.provider,
            session=given.work.session,
            segments=given.work.segments,
            traces=given.files,
            previous=past.head,
            issued=f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}Z",
        ),
    )
    power_log.append(arguments.log, record, signer)
    return past


def _report(
    work: Claims, known: Reference, finding: Finding, advice: Advice, honest: Legitimacy
) -> Report:
    site = f"site {known.site}" if known.site else "no calibrated site"
    facts = [
        ("declared", f"{work.model} on {work.gpus} x {work.gpu}"),
        ("reference", f"{known.name}, {site}, {known.honest_runs} honest runs"),
        ("score", f"{finding.values('score')[0] / MICRO:.3f} of 1"),
        ("seconds", str(finding.values("horizon")[0])),
        *_rows(finding),
        ("sessions", str(advice.sessions)),
        ("E of telemetry, weighed", f"10^{advice.log10_e_milli / 1000:.2f}"),
        ("P(as declared)", f"{honest.probability:.3f}, from a prior of {honest.prior:g}"),
        ("rate of audits", f"{advice.epsilon_ppm / 10_000:g} %"),
    ]
    return Report(
        tier=advice.tier,
        reason=advice.reason,
        headline=_HEADLINES.get(advice.reason, ""),
        provider=work.provider,
        log10_e_milli=advice.log10_e_milli,
        facts=tuple(Fact(name=name, value=value) for name, value in facts),
        caveats=appraisal.CAVEATS,
    )


def _rows(finding: Finding) -> list[tuple[str, str]]:
    """Return deviations, what is broken or fired, and what nobody observed."""
    rows, silent = [], []
    for measure in finding.measures:
        kind, _, name = measure.name.partition("/")
        if not measure.values:
            silent.append(measure.name)
        elif kind == "deviation":
            ratio = finding.values(f"log/{name}")
            rows.append(
                (name, f"{measure.values[0] / 1000:+.1f} sigma, ln ratio {ratio[0] / MICRO:+.3f}")
            )
        elif measure.name.startswith(_SHOWN) and measure.values[0]:
            rows.append((kind, name))
    names = sorted({name.removeprefix("deviation/") for name in silent if "log/" not in name})
    return [*rows, ("not observed", ", ".join(names) or "nothing")]
