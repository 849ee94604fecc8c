"""``lydite verify BUNDLE``: offline, with the base install, fail closed."""

import argparse
from pathlib import Path

from lydite.appraisal.verification import verify
from lydite.cli.files import read
from lydite.cli.reports import add_options, finish


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite verify``."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle's file")
    add_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Check one bundle and print the report; the exit code is its tier's."""
    payload = read(arguments.bundle)
    return finish(lambda trust: verify(payload, trust), arguments)
