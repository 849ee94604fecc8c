"""A run as files: declared work, a trace for each GPU, the site's reference. Judges nothing."""

import argparse
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lydite.cli.files import read_message
from lydite.errors import ConfigurationError
from lydite.evidence.power import claims as declared
from lydite.evidence.power import gpus, reference
from lydite.evidence.power.claims import Claims
from lydite.evidence.power.reference import Reference

if TYPE_CHECKING:
    from lydite.evidence.power.trace import Trace


class Run(NamedTuple):
    """One run, and the digests of what it was read from."""

    work: Claims
    traces: "list[Trace]"
    declared: bytes
    """SHA-256 of the declared work."""
    files: tuple[str, ...]
    """SHA-256 of each trace's file, in hexadecimal."""


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the options that name one run and the site that it was made at."""
    parser.add_argument(
        "--trace",
        type=Path,
        action="append",
        required=True,
        metavar="FILE",
        help="samples of one GPU of the run; once for each",
    )
    parser.add_argument(
        "--declared", type=Path, required=True, metavar="FILE", help="the declared work"
    )
    parser.add_argument(
        "--site",
        type=Path,
        metavar="FILE",
        help="the calibrated site's reference (default: none, which tells small from large alone)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def load(work: Path, traces: list[Path]) -> Run:
    """Return a run.

    Raises:
        ConfigurationError: a file cannot be read.
        FormatError: a file is not what it has to be.
    """
    from lydite.monitor.store import samples

    payload = read_message(work)
    parsed = declared.parse(payload)
    digests = []
    for path in traces:
        try:
            with path.open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    read = [samples.read(path) for path in traces]
    return Run(parsed, read, hashlib.sha256(payload).digest(), tuple(digests))


def site(path: Path | None, work: Claims) -> Reference:
    """Return the site's reference, or what holds for any site with the GPUs that are declared.

    Raises:
        ConfigurationError: the file cannot be read, or nobody knows such a GPU.
        FormatError: the file is no reference.
    """
    if path is None:
        return reference.generic(gpus.find(work.gpu))
    return reference.parse(read_message(path))
