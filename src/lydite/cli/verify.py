"""``lydite verify BUNDLE``: offline, with the base install, fail closed."""

import argparse
import time
from pathlib import Path

from lydite.appraisal.verification import verify
from lydite.cli.files import read
from lydite.cli.reports import EXIT_CODES, add_options, finish


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite verify``."""
    parser.epilog = EXIT_CODES
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle's file")
    parser.add_argument(
        "--max-age",
        type=int,
        metavar="SECONDS",
        help="refuse a bundle whose last draw was witnessed longer ago, by this machine's clock",
    )
    add_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Check one bundle and print the report; the exit code is its tier's."""
    payload = read(arguments.bundle)
    age = arguments.max_age
    not_before_s = None if age is None else int(time.time()) - age
    return finish(lambda trust: verify(payload, trust, not_before_s), arguments)
