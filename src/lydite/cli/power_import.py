"""``lydite power import``: telemetry that others recorded, taken in or refused by name."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lydite.cli.power_options import add_labels, add_store, pairs, read_sensors
from lydite.errors import ConfigurationError

if TYPE_CHECKING:
    from lydite.monitor.store.entry import Labelled

TABLES = ("nvidia-smi", "dcgm", "zeus", "csv", "segments")
COLLECTIONS = ("campaign", "dev")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite power import``."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a table, or a collection's folder")
    parser.add_argument("--format", required=True, choices=(*TABLES, *COLLECTIONS))
    parser.add_argument("--device", help="what the device is called, where no column says so")
    parser.add_argument(
        "--instant", action="store_true", help="its power is no average over a second"
    )
    parser.add_argument("--time", default="time:s", metavar="NAME:UNIT", help="of csv")
    parser.add_argument(
        "--column", action="append", default=[], metavar="NAME=CHANNEL:UNIT", help="of csv"
    )
    parser.add_argument(
        "--device-column", action="append", default=[], metavar="NAME", help="of csv"
    )
    parser.add_argument(
        "--where", action="append", default=[], metavar="KEY=VALUE", help="only these, of dev"
    )
    add_labels(parser)
    add_store(parser)


def run(arguments: argparse.Namespace) -> int:
    """Import, and say what came in and what was mended; all of a table, or nothing of it.

    Raises:
        ConfigurationError: the file, the options or the database cannot be used.
        FormatError: the file is not what its format says; the reason says how.
    """
    from lydite.monitor.store.archive import Archive

    archive = Archive(arguments.store)
    stored: list[dict[str, Any]] = []
    counted: dict[str, int] = {}
    for given in _traces(arguments):
        name, new = archive.add(given)
        stored.append({"name": name, "new": new, "device": given.trace.device})
        for fault, number in given.trace.counted.items():
            counted[fault] = counted.get(fault, 0) + number
    if not stored:
        raise ConfigurationError(f"{arguments.file} has no trace that was asked for")
    if arguments.json:
        print(json.dumps({"traces": stored, "counted": dict(sorted(counted.items()))}))
        return 0
    for each in stored:
        print(f"{each['name']}  {each['device']}{'' if each['new'] else '  (was there)'}")
    for fault, number in sorted(counted.items()):
        print(f"  counted: {number} x {fault}")
    return 0


def _traces(arguments: argparse.Namespace) -> "Iterator[Labelled]":
    if arguments.format == "campaign":
        from lydite.monitor.importing import campaign

        return campaign.traces(arguments.file)
    if arguments.format == "dev":
        from lydite.monitor.importing.development import traces

        where = pairs(arguments.where, "--where")
        return traces(
            arguments.file,
            lambda row: all(str(row.get(key)) == value for key, value in where.items()),
        )
    return iter(list(_table(arguments)))


def _table(arguments: argparse.Namespace) -> "Iterator[Labelled]":
    """Yield the traces of one table, a device each."""
    from lydite.evidence.power.trace import Trace
    from lydite.monitor.importing import formats, segments
    from lydite.monitor.importing.gathering import gather
    from lydite.monitor.store.entry import Labelled, Origin

    if not arguments.session:
        raise ConfigurationError("name the --session: traces of one job are never split apart")
    labels = {"session": arguments.session, **pairs(arguments.label, "--label")}
    origin = Origin(
        source=arguments.source,
        path=arguments.file.name,
        licence=arguments.licence,
        redistribute=arguments.redistribute,
    )
    if arguments.format == "segments":
        yield from segments.traces(arguments.file, labels, origin)
        return
    if arguments.format == "csv":
        layout = formats.named(arguments.time, arguments.column, arguments.device_column)
    else:
        layout = formats.FORMATS[arguments.format](formats.header(arguments.file))
    if arguments.instant:
        layout = formats.as_instant(layout)
    for device, trace in gather(arguments.file, layout).items():
        kind = arguments.device or trace.device
        named = {f"device_{name.lower().replace('.', '_')}": value
                 for name, value in zip(layout.devices, device, strict=True)}  # fmt: skip
        yield Labelled(
            trace=Trace(kind, trace.series, trace.counted),
            labels={**named, **labels},
            origin=origin,
            sensors=read_sensors(arguments.sensors, kind),
        )
