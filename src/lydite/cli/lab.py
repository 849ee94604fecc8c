"""``lydite lab``: every attack against every kind of evidence, in a table that grows as you watch.

Imports what it measures with only when it runs, so that its options can be read without torch.
"""

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite lab``."""
    parser.add_argument("--full", action="store_true", help="the large matrix, about an hour")
    parser.add_argument("--attack", action="append", metavar="NAME", help="only these; repeatable")
    parser.add_argument("--list", action="store_true", help="say what attacks there are, and stop")
    parser.add_argument("--models", type=Path, default=Path("models"), help="model directories")
    parser.add_argument("--out", type=Path, metavar="FILE", help="keep the JSON of the table here")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")


def run(arguments: argparse.Namespace) -> int:
    """Measure the matrix; exit 0 if no honest stream is accused at the stricter level, else 1.

    Raises:
        ConfigurationError: no such attack, or no such model.
    """
    from lydite.cli import lab_tables

    return lab_tables.run(arguments)
