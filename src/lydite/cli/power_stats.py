"""``lydite power stats``: how much the database holds by a label, and what was wrong with it."""

import argparse
import json

from lydite.cli.power_options import add_store, print_rows


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite power stats``."""
    parser.add_argument("--by", default="workload", metavar="LABEL", help="which label")
    add_store(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print a row a value of the label, and the faults that intake counted.

    Raises:
        FormatError: an entry is damaged.
    """
    from lydite.monitor.store.archive import Archive
    from lydite.monitor.store.catalogue import Catalogue

    with Catalogue(Archive(arguments.store)) as catalogue:
        rows, faults = catalogue.stats(arguments.by), catalogue.faults()
    if arguments.json:
        print(json.dumps({"rows": rows, "faults": faults}))
        return 0
    print_rows([{**row, "label": row["label"] or "(none)"} for row in rows], as_json=False)
    for fault, number in faults.items():
        print(f"  counted: {number} x {fault}")
    return 0
