"""``lydite engine``: serves a local model directory over the OpenAI API, reproducibly."""

import argparse

from lydite.engines import serve


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite engine``."""
    serve.add_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to stop."""
    return serve.run(arguments)
