"""Options that several steps of ``lydite power`` share, and how their tables are printed."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lydite.cli.files import read_message
from lydite.errors import ConfigurationError, FormatError
from lydite.messages import sensors
from lydite.messages.plain import plain
from lydite.messages.sensors import Report

WIDEST = 40
"""Letters of a cell that are printed."""


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add the options that every step with a database takes."""
    parser.add_argument(
        "--store", type=Path, default=Path("power-traces"), metavar="DIR", help="the database"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what a new trace is and where it comes from."""
    parser.add_argument("--session", help="the job or lease that it belongs to: never split apart")
    parser.add_argument(
        "--label", action="append", default=[], metavar="KEY=VALUE", help="as workload=training"
    )
    parser.add_argument("--source", default="local", help="who measured")
    parser.add_argument("--licence", default="none stated", help="under which it may be used")
    parser.add_argument(
        "--redistribute", action="store_true", help="what is handed on may rest on it"
    )
    parser.add_argument(
        "--sensors", type=Path, metavar="FILE", help="what a monitor's self-check found of it"
    )


def pairs(words: Sequence[str], option: str) -> dict[str, str]:
    """Return ``KEY=VALUE`` words as a mapping.

    Raises:
        ConfigurationError: a word is not of that form, or a key comes twice.
    """
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key or not equals or key in found:
            raise ConfigurationError(f"{option} {word}: not KEY=VALUE, or given twice")
        found[key] = value
    return found


def print_rows(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """Print rows as one JSON object, or as a table."""
    if as_json:
        print(json.dumps({"rows": list(rows)}, default=str))
        return
    if not rows:
        print("nothing")
        return
    lines = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = "" if value is None else plain(str(value))
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"


def read_sensors(path: Path | None, device: str) -> Report | None:
    """Return what a self-check found of ``device``, from the file of reports that a monitor keeps.

    Raises:
        ConfigurationError: the file cannot be used, or says nothing of such a device.
    """
    if path is None:
        return None
    try:
        reports = sensors.parse(read_message(path)).reports
    except FormatError as error:
        raise ConfigurationError(f"--sensors {path}: {error}") from error
    for report in reports:
        if report.device == device or report.device.rpartition("/")[0] == device:
            return report
    raise ConfigurationError(f"--sensors {path} says nothing of {device}")
