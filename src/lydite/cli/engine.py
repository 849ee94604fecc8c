"""``lydite engine``: serves a local model directory over the OpenAI API, reproducibly."""

import argparse

from lydite.engines import serve


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite engine``."""
    serve.add_options(parser)
    parser.add_argument("--json", action="store_true", help="the same: the line is JSON anyway")


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to stop."""
    return serve.run(arguments)
