"""``lydite engine``: serves a local model directory over the OpenAI API, reproducibly."""

import argparse

from lydite.cli.patience import before_hashing
from lydite.engines import serve


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite engine``."""
    serve.add_options(parser)
    parser.add_argument("--json", action="store_true", help="the same: the line is JSON anyway")


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to stop."""
    before_hashing(arguments.model)
    return serve.run(arguments)
