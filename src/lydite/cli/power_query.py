"""``lydite power query``: which traces the database holds, by labels or in SQL."""

import argparse

from lydite.cli.power_options import add_store, pairs, print_rows

SHOWN = ("name", "device", "session", "workload", "model", "duration_s", "samples", "mean_w")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite power query``."""
    parser.add_argument(
        "--where", action="append", default=[], metavar="KEY=VALUE", help="only traces with it"
    )
    parser.add_argument("--sql", help="one SELECT over the tables traces and samples")
    add_store(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print what is found and return 0, or 4 if nothing is.

    Raises:
        ConfigurationError: the query cannot be answered.
    """
    from lydite.monitor.store.archive import Archive
    from lydite.monitor.store.catalogue import Catalogue

    where = pairs(arguments.where, "--where")
    with Catalogue(Archive(arguments.store)) as catalogue:
        rows = catalogue.ask(arguments.sql) if arguments.sql else catalogue.matching(where)
    if not arguments.json and not arguments.sql:
        rows = [{key: row[key] for key in SHOWN} for row in rows]
    if rows or arguments.json:
        print_rows(rows, arguments.json)
    else:
        print("no row" if arguments.sql else "no trace matches")
    return 0 if rows else 4
