"""``lydite power recognise``: what kind of work the windows of a trace look like, or nothing."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lydite.cli.files import read
from lydite.cli.power_options import add_store
from lydite.errors import ConfigurationError, FormatError
from lydite.messages.plain import plain

if TYPE_CHECKING:
    from lydite.evidence.power.classify import Answer, Recogniser
    from lydite.evidence.power.live import Told

NOTHING = 4
"""Exit code where no window is answered."""
CAVEAT = "root on the machine can forge power; recognition names no model and accuses nobody"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite power recognise``."""
    parser.add_argument("name", metavar="NAME", help="a trace, as `lydite power query` names it")
    parser.add_argument(
        "--learnt", type=Path, metavar="FILE", help="what was learnt of such devices; else physics"
    )
    parser.add_argument(
        "--tdp", type=float, metavar="WATTS", help="the device's stated power, if not known by name"
    )
    add_store(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print what each stretch of a trace looks like, and the whole of it.

    Raises:
        ConfigurationError: there is no such trace, no stated power, or the file cannot be used.
        FormatError: the trace is damaged, or shorter than a window.
    """
    from lydite.evidence.power import classify, gpus
    from lydite.evidence.power.live import Live
    from lydite.monitor.store.archive import Archive
    from lydite.monitor.store.segmentation import power_of

    archive = Archive(arguments.store)
    name = archive.find(arguments.name)
    entry, trace = archive.entry(name), archive.load(name)
    tdp_w = gpus.find(entry.device).tdp_w if arguments.tdp is None else arguments.tdp
    if not 0 < tdp_w < 100_000:
        raise ConfigurationError(f"--tdp {tdp_w:g}: not the power of a device")
    series = power_of(trace)
    told = Live(series.channel, tdp_w, _learnt(arguments.learnt)).whole(series)
    if not told:
        raise FormatError("a trace shorter than a window, or with gaps in all of them")
    whole = classify.of_run([one.answer for one in told])
    _show(told, whole, trace.start_ns, arguments.json)
    return 0 if any(one.answer.classes for one in told) else NOTHING


def _learnt(path: Path | None) -> "Recogniser | None":
    if path is None:
        return None
    from lydite.evidence.power import arrays
    from lydite.evidence.power.classify import Recogniser

    try:
        return Recogniser.of(arrays.unpack(read(path)))
    except FormatError as error:
        raise ConfigurationError(f"--learnt {path}: {error}") from error


def _show(told: "Sequence[Told]", whole: "Answer", zero_ns: int, as_json: bool) -> None:
    rows = [
        {
            "from_s": (one.start_ns - zero_ns) / 1e9,
            "to_s": (one.end_ns - zero_ns) / 1e9,
            "classes": list(one.answer.classes),
            "why": one.answer.why,
        }
        for one in told
    ]
    if as_json:
        run_of = {"classes": list(whole.classes), "why": whole.why}
        print(json.dumps({"windows": rows, "run": run_of, "caveats": [CAVEAT]}))
        return
    for one in _merged(told, zero_ns):
        print(one)
    print(f"run: {_named(whole)} ({plain(whole.why)})")
    print(CAVEAT)


def _merged(told: "Sequence[Told]", zero_ns: int) -> list[str]:
    """Return a line for each stretch of equal answers."""
    lines: list[str] = []
    first = last = told[0]
    for one in [*told[1:], None]:
        if one is not None and one.answer.classes == first.answer.classes:
            last = one
            continue
        start, end = ((t - zero_ns) / 1e9 for t in (first.start_ns, last.end_ns))
        lines.append(f"{start:8.1f} {end:8.1f} s  {_named(first.answer)}: {plain(last.answer.why)}")
        if one is not None:
            first = last = one
    return lines


def _named(answer: "Answer") -> str:
    return " or ".join(answer.classes) or "no answer"
