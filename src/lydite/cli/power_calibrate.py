"""``lydite power calibrate``: a site's reference, from runs that whoever calibrates vouches for.

Only honest runs belong in here, of the engine build, prompts and load that will be judged: the
reference may never learn from the accused.
"""

import argparse
import hashlib
import importlib.metadata
import json
from pathlib import Path

from lydite.cli import power_runs
from lydite.cli.files import write
from lydite.cli.power_runs import Run
from lydite.errors import ConfigurationError
from lydite.evidence.power import gpus, reference
from lydite.evidence.power.reference import MICRO, Reference
from lydite.messages.calibration import Provenance
from lydite.messages.canonical import encode
from lydite.messages.plain import plain


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite power calibrate``."""
    parser.add_argument("--name", required=True, help="what the site is called")
    parser.add_argument(
        "--run",
        action="append",
        required=True,
        metavar="WORK=TRACE,...",
        help="declared work and a trace for each of its GPUs; once for each honest run",
    )
    parser.add_argument(
        "--version", action="append", default=[], metavar="WORDS", help="engine and driver builds"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="a new file")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Calibrate, write the reference, and print what it is worth.

    Raises:
        ConfigurationError: a file cannot be used, or the runs are of several kinds of GPU.
        FormatError: fewer than five sessions, or a file that is not what it has to be.
        UnavailableError: a run was hardly measured, or is shorter than the first horizon.
    """
    given = [power_runs.load(*_files(words)) for words in arguments.run]
    kinds = {gpus.find(one.work.gpu).name for one in given}
    if len(kinds) != 1:
        raise ConfigurationError(f"one reference for {', '.join(sorted(kinds))}: make one for each")
    base = reference.generic(gpus.GPUS[kinds.pop()])
    made = _calibrated(arguments, given, base)
    write(arguments.out, encode(made) + b"\n")
    found = {
        "reference": reference.digest(made),
        "file": str(arguments.out),
        "sessions": made.honest_runs,
        "highest_honest_mean": made.mean_micro / MICRO,
        "spreads": {one.quantity: one.spread_micro / MICRO for one in made.fitted},
    }
    print(json.dumps(found) if arguments.json else _lines(found))
    return 0


def _calibrated(arguments: argparse.Namespace, given: list[Run], base: Reference) -> Reference:
    from lydite.evidence.power import calibration, verifier
    from lydite.evidence.power.declared import Deployment

    runs = []
    for one in given:
        work = one.work
        deployment = Deployment(work.shape, work.numerics, base.gpu, work.gpus, base.physics)
        seconds = (work.end_us - work.start_us) // 1_000_000
        for horizon in base.horizons_s:
            if horizon <= seconds or horizon == base.horizons_s[0]:
                found = verifier.compare(work, one.traces, base, horizon)
                runs.append(calibration.measured(work.session, horizon, deployment, found))
    return calibration.calibrate(base, arguments.name, runs, _provenance(arguments, given))


def _provenance(arguments: argparse.Namespace, given: list[Run]) -> Provenance:
    from lydite.evidence.power import calibration

    script = Path(str(calibration.__file__)).read_bytes()
    data = hashlib.sha256("".join(name for one in given for name in one.files).encode())
    work = hashlib.sha256(b"".join(one.declared for one in given))
    lydite = f"lydite {importlib.metadata.version('lydite')}"
    return Provenance(
        script=hashlib.sha256(script).hexdigest(),
        data=data.hexdigest(),
        prompts=work.hexdigest(),
        versions=(lydite, *arguments.version),
    )


def _files(words: str) -> tuple[Path, list[Path]]:
    work, equals, traces = words.partition("=")
    if not (work and equals and traces):
        raise ConfigurationError(f"--run {words}: not WORK=TRACE,...")
    return Path(work), [Path(name) for name in traces.split(",")]


def _lines(found: dict[str, object]) -> str:
    return "\n".join(plain(f"{name}: {value}") for name, value in found.items())
