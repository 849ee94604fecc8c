"""``lydite power record``: runs a command, and stores what the GPU drew and did meanwhile."""

import argparse
import json
import shlex
import sys
from typing import TYPE_CHECKING

from lydite.cli.power_options import add_labels, add_store, pairs, read_sensors
from lydite.errors import ConfigurationError
from lydite.messages.tier import Tier

if TYPE_CHECKING:
    from lydite.monitor import settings

SOURCES = ("nvml", "amd", "simulated")
_LONGEST = 300


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite power record``."""
    parser.add_argument("program", nargs="+", metavar="COMMAND", help="after --, what to run")
    parser.add_argument("--from", dest="source_kind", default="nvml", choices=SOURCES)
    parser.add_argument("--index", type=int, default=0, help="the driver's number of the GPU")
    parser.add_argument("--hz", type=int, default=100, help="how often it is read")
    parser.add_argument("--core", type=int, help="the processor core that samples")
    parser.add_argument(
        "--around", type=float, default=2.0, metavar="SECONDS", help="recorded before and after"
    )
    add_labels(parser)
    add_store(parser)


def run(arguments: argparse.Namespace) -> int:
    """Record, store and say where; exit 0 if the command succeeded, 3 if it failed.

    Raises:
        ConfigurationError: options, source or command cannot be used.
        UnavailableError: the device cannot be read.
    """
    from lydite.monitor.recording import record
    from lydite.monitor.sources.opening import close_sources, open_sources
    from lydite.monitor.store.archive import Archive
    from lydite.monitor.store.entry import Labelled, Origin
    from lydite.monitor.timing import SystemTiming

    labels = pairs(arguments.label, "--label")
    if not arguments.session:
        raise ConfigurationError("name the --session: traces of one job are never split apart")
    if not 0 <= arguments.around <= 600:
        raise ConfigurationError(f"--around {arguments.around}: between 0 and 600 seconds")
    timing = SystemTiming()
    sources = open_sources([_source(arguments)], timing)
    try:
        found = record(sources[0], arguments.program, timing, arguments.around, arguments.core)
    finally:
        close_sources(sources)
    made_up = arguments.source_kind == "simulated"
    origin = Origin(
        source=arguments.source,
        command=shlex.join(arguments.program)[:_LONGEST],
        licence=arguments.licence,
        redistribute=arguments.redistribute and not made_up,
        synthetic=made_up,
    )
    stated = {"session": arguments.session, "exit_code": str(found.code), **labels}
    sensors = read_sensors(arguments.sensors, found.trace.device)
    given = Labelled(
        trace=found.trace, labels=stated, origin=origin, marks=found.marks, sensors=sensors
    )
    name, _ = Archive(arguments.store).add(given)
    _say(name, found.code, dict(found.trace.counted), arguments.json)
    return 0 if found.code == 0 else Tier.WARNING.exit_code


def _source(arguments: argparse.Namespace) -> "settings.Source":
    """Return the source that the options name.

    Raises:
        ConfigurationError: number or rate cannot be.
    """
    from lydite.monitor import settings

    if arguments.index < 0 or not 1 <= arguments.hz <= 1000:
        raise ConfigurationError("--index is 0 or more, --hz between 1 and 1000")
    index, hz = arguments.index, arguments.hz
    if arguments.source_kind == "nvml":
        return settings.Nvml(index=index, hz=hz)
    if arguments.source_kind == "amd":
        return settings.Amd(index=index, hz=hz)
    return settings.Simulated(index=index, hz=hz)


def _say(name: str, code: int, counted: dict[str, int], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"name": name, "exit_code": code, "counted": counted}))
        return
    if code:
        print(f"the command ended with {code}; its trace is kept", file=sys.stderr)
    print(name)
    for fault, number in sorted(counted.items()):
        print(f"  counted: {number} x {fault}")
