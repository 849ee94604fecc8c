"""``lydite monitor``: reads sensors, tries them, seals what they say, checks what was sealed."""

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lydite import config
from lydite.cli.files import new_directory, public_key, read_message, write
from lydite.errors import ConfigurationError, FormatError, Reason
from lydite.messages import receipt, segment
from lydite.messages.canonical import encode
from lydite.messages.plain import plain
from lydite.signing import keys

if TYPE_CHECKING:
    from lydite.messages.segment import SegmentPointer
    from lydite.messages.sensors import Report
    from lydite.monitor.chain import Link
    from lydite.monitor.service import Monitor
    from lydite.monitor.settings import Settings

SETTINGS = """state = "{state}"
key = "{key}"

# Without a source the monitor replays a recording that is made up. For a GPU of NVIDIA's:
# [[sources]]
# kind = "nvml"
# index = 0
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite monitor``."""
    steps = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    summaries = {
        "init": "make a key and a settings file",
        "run": "sample and seal until told to stop",
        "selfcheck": "say what each sensor is worth, and seal nothing",
        "check": "verify sealed segments, offline",
        "point": "print pointers to what was sampled in some time",
    }
    init, work, trial, check, point = (
        steps.add_parser(name, help=text, description=text) for name, text in summaries.items()
    )
    init.add_argument("directory", type=Path, metavar="DIR", help="a new directory")
    for each in (work, trial):
        each.add_argument("config", type=Path, metavar="FILE", help="settings, TOML or JSON")
    work.add_argument("--seconds", type=float, help="end so long after the self-check")
    for each in (check, point):
        each.add_argument("directory", type=Path, metavar="DIR", help="the state of a monitor")
        each.add_argument("--key", required=True, help="the monitor's public key in hexadecimal")
    check.add_argument(
        "--pointer", type=Path, action="append", default=[], help="a pointer to follow; may repeat"
    )
    point.add_argument("--from", dest="start", metavar="TIME", help="as in a receipt")
    point.add_argument("--to", dest="end", metavar="TIME", help="as in a receipt")
    point.add_argument(
        "--segment", type=int, metavar="N", help="all of this one instead, recorded ones too"
    )
    point.add_argument("--out", type=Path, metavar="FILE", help="write the pointers there")
    for each in (init, work, trial, check, point):
        each.add_argument("--json", action="store_true", help="print JSON objects")


def run(arguments: argparse.Namespace) -> int:
    """Run one step."""
    steps = {"init": _init, "run": _run, "selfcheck": _selfcheck, "check": _check, "point": _point}
    return steps[arguments.step](arguments)


def _init(arguments: argparse.Namespace) -> int:
    directory: Path = arguments.directory
    with new_directory(directory) as place:
        public = keys.create(place / "monitor.key").public.hex()
        names = {"state": directory / "segments", "key": directory / "monitor.key"}
        write(place / "monitor.toml", SETTINGS.format(**names).encode())
    made = {"settings": str(directory / "monitor.toml"), "public_key": public}
    print(json.dumps(made) if arguments.json else f"made {made['settings']}; public key {public}")
    return 0


def _run(arguments: argparse.Namespace) -> int:
    from lydite.monitor.bursts import Command
    from lydite.monitor.metrics import Server
    from lydite.monitor.service import Monitor
    from lydite.monitor.sources.opening import close_sources, open_sources
    from lydite.monitor.timing import SystemTiming

    settings = _settings(arguments.config)
    signer = keys.load(Path(settings.key))
    timing = SystemTiming()
    sources = open_sources(settings.sources, timing)
    burst = server = None
    try:
        burst = Command(settings.selfcheck.burst) if settings.selfcheck.burst else None
        monitor = Monitor(settings, sources, signer, timing, burst)
        if settings.metrics is not None:
            server = Server(monitor, settings.metrics.host, settings.metrics.port)
        _stop_on_signals(monitor)
        ready = {
            "devices": [source.device for source in sources],
            "public_key": signer.public.hex(),
            "state": settings.state,
            "url": None if server is None else server.url,
        }
        print(json.dumps(ready), flush=True)
        monitor.run(arguments.seconds, _Teller(as_json=arguments.json))
    finally:
        if server is not None:
            server.close()
        if burst is not None:
            burst.close()
        close_sources(sources)
    return 0


def _settings(path: Path) -> "Settings":
    from lydite.monitor.settings import Settings

    return config.load(path, Settings)


def _stop_on_signals(monitor: "Monitor") -> None:
    """Seal and end on SIGTERM and SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: monitor.stop())


class _Teller:
    """Says what a monitor does, a line each."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def __call__(self, event: str, fields: dict[str, object]) -> None:
        if self._as_json:
            print(json.dumps({"event": event, **fields}), flush=True)
            return
        words = " ".join(f"{name}={value}" for name, value in fields.items())
        print(plain(f"{event} {words}"), file=sys.stderr, flush=True)


def _selfcheck(arguments: argparse.Namespace) -> int:
    from lydite.monitor.bursts import Command
    from lydite.monitor.sources.opening import close_sources, open_sources
    from lydite.monitor.timing import SystemTiming
    from lydite.monitor.trial import try_sources

    settings = _settings(arguments.config)
    timing = SystemTiming()
    sources = open_sources(settings.sources, timing)
    burst = None
    try:
        burst = Command(settings.selfcheck.burst) if settings.selfcheck.burst else None
        reports = try_sources(settings, sources, timing, burst)
    finally:
        if burst is not None:
            burst.close()
        close_sources(sources)
    if arguments.json:
        print(json.dumps([json.loads(encode(report)) for report in reports]))
    else:
        for report in reports:
            _print_report(report)
    return 0 if all(sensor.usable for report in reports for sensor in report.sensors) else 1


def _print_report(report: "Report") -> None:
    print(plain(f"{report.device} ({report.source}, {report.span_us / 1e6:.1f} s)"))
    for sensor in report.sensors:
        period = "-" if sensor.period_us is None else f"{sensor.period_us / 1000:.0f} ms"
        window = "-" if sensor.window_us is None else f"{sensor.window_us / 1000:.0f} ms"
        verdict = "usable" if sensor.usable else f"refused: {sensor.reason}, {sensor.detail}"
        print(f"  {sensor.channel:24} every {period:>8}  over {window:>8}  {verdict}")
    for each in report.agreements:
        holds = "agree" if each.holds else "DISAGREE"
        print(f"  {each.channel} over {each.other}: {each.ratio_ppm / 1e6:.3f}, {holds}")


def _check(arguments: argparse.Namespace) -> int:
    from lydite.monitor import chain

    key = public_key(arguments.key, "--key")
    health = chain.check(arguments.directory, key)
    found = {
        name: {
            device: {name: len(one.t_ns) for name, one in trace.series.items()}
            for device, trace in chain.resolve(arguments.directory, key, pointer).items()
        }
        for path in arguments.pointer
        for name, pointer in _pointers(path)
    }
    fields = {
        "segments": health.segments,
        "samples": health.samples,
        "runs": health.runs,
        "lost": health.lost,
        "unsealed": None if health.unsealed is None else json.loads(encode(health.unsealed)),
        "counted": health.counted,
        "devices": health.devices,
        "last": health.last.digest.hex(),
        "pointers": found,
    }
    if arguments.json:
        print(json.dumps(fields))
        return 0
    print(f"{health.segments} segments, {health.samples} samples, {health.runs} runs: whole")
    print(f"last: {health.last.digest.hex()}")
    for reason, count in health.counted.items():
        print(f"  {count} {reason}")
    if health.lost:
        print(f"lost: {health.lost} segments that were opened and never sealed")
    if health.unsealed is not None:
        print(f"open: run {health.unsealed.run} goes on, or was killed")
    for name, devices in found.items():
        print(plain(f"{name}: {json.dumps(devices)}"))
    return 0


def _pointers(path: Path) -> "list[tuple[str, SegmentPointer]]":
    """Return the pointers of a file as `point` prints them, each with a name of its own."""
    lines = read_message(path).split(b"\n")
    if lines == [b""]:
        raise FormatError(f"{path} is empty: no pointer in it")
    try:
        found = [segment.parse_pointer(line) for line in lines]
    except FormatError as error:
        raise FormatError(f"{path}: no pointer: {error}", error.reason) from error
    if len(found) == 1:
        return [(str(path), found[0])]
    return [(f"{path}, line {number}", one) for number, one in enumerate(found, 1)]


def _point(arguments: argparse.Namespace) -> int:
    from lydite.monitor import chain

    times = [time for time in (arguments.start, arguments.end) if time is not None]
    if len(times) != (2 if arguments.segment is None else 0):
        raise ConfigurationError("point takes --from and --to, or --segment alone")
    key = public_key(arguments.key, "--key")
    links = [link for link, _ in chain.walk(arguments.directory, key)]
    if times:
        found = chain.pointers(links, *(1000 * receipt.unix_ms(time) for time in times))
    elif 0 <= arguments.segment < len(links):
        found = [chain.whole(links[arguments.segment])]
    else:
        raise ConfigurationError(f"--segment {arguments.segment}: there are 0 to {len(links) - 1}")
    if not found:
        return _nothing_there(links, *times)
    text = "".join(f"{encode(pointer).decode()}\n" for pointer in found)
    if arguments.out is None:
        print(text, end="")
    else:
        write(arguments.out, text.encode())
    return 0


def _nothing_there(links: "list[Link]", start: str, end: str) -> int:
    """Say why nothing can be pointed at by these times, and return the exit code."""
    from lydite.cli.main import complain

    if any(link.said.zero_us is not None for link in links):
        message = f"nothing was sampled from {start} to {end}"
        hint = "times are those of a receipt; `lydite monitor check` says what was sealed"
    else:
        message = "recorded segments have no Unix time, so no time of a receipt leads to them"
        hint = f"--segment N points at one of them, 0 to {len(links) - 1}"
    complain(message, Reason.UNAVAILABLE, hint)
    return 4
