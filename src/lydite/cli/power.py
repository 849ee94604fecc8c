"""``lydite power``: traces of what GPUs draw and do, recorded, imported, asked and shown.

One module a group of steps; each has ``configure`` and ``run``. Imports what a step needs only when
it runs, so that its options can be read without any extra.
"""

import argparse
import importlib
from typing import NamedTuple


class Step(NamedTuple):
    """One step of the command."""

    module: str
    """In this room, with ``configure`` and ``run``."""
    summary: str


STEPS = {
    "record": Step("power_record", "run a command and store what the GPU drew and did meanwhile"),
    "watch": Step("power_watch", "what the segments of a running monitor say, as they are sealed"),
    "demo": Step("power_demo", "sessions through a live monitor, and verdicts as they form"),
    "import": Step("power_import", "put traces that others recorded into the database"),
    "query": Step("power_query", "which traces there are, by labels or in SQL"),
    "stats": Step("power_stats", "how much there is, by a label"),
    "plot": Step("power_plot", "draw a trace with its segments"),
    "recognise": Step("power_recognise", "what kind of work a trace looks like, or nothing"),
    "declare": Step("power_declare", "declared work as a person wrote it, checked and rewritten"),
    "calibrate": Step("power_calibrate", "make a site's reference from its honest runs"),
    "check": Step("power_check", "does telemetry fit the work that was declared for it?"),
    "disputes": Step("power_disputes", "a log of signed findings, checked, and what it advises"),
    "ledger": Step("power_ledger", "measured joules against those that receipts explain"),
}
"""By name, as one meets them."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the steps of ``lydite power``."""
    commands = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    for name, step in STEPS.items():
        inner = commands.add_parser(name, help=step.summary, description=step.summary)
        importlib.import_module(f"lydite.cli.{step.module}").configure(inner)


def run(arguments: argparse.Namespace) -> int:
    """Run one step and return its exit code."""
    module = importlib.import_module(f"lydite.cli.{STEPS[arguments.step].module}")
    return int(module.run(arguments))
