"""``lydite power plot``: a trace as a picture, with what the device did in the background."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lydite.cli.power_options import add_store
from lydite.errors import ConfigurationError
from lydite.messages.plain import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lydite.evidence.power.trace import Trace
    from lydite.monitor.store.entry import Mark

COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2", "#9d755d", "#bab0ac")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite power plot``."""
    parser.add_argument("name", metavar="NAME", help="a trace of `query`, or how its name begins")
    parser.add_argument("--out", type=Path, required=True, help="picture to write: PNG, SVG or PDF")
    parser.add_argument(
        "--channel", action="append", default=[], help="what to draw under the power; repeatable"
    )
    add_store(parser)


def run(arguments: argparse.Namespace) -> int:
    """Draw one trace and print where, or its segments.

    Raises:
        ConfigurationError: there is no such trace or channel, or the picture cannot be written.
        FormatError: the trace is damaged.
    """
    from lydite.monitor.store.archive import Archive
    from lydite.monitor.store.segmentation import segments

    archive = Archive(arguments.store)
    name = archive.find(arguments.name)
    entry, trace = archive.entry(name), archive.load(name)
    absent = [name for name in arguments.channel if name not in trace.series]
    if absent:
        raise ConfigurationError(
            f"the trace has no {', '.join(absent)}; it has {', '.join(sorted(trace.series))}"
        )
    spans = segments(trace, entry.marks)
    words = [entry.labels.get(key, "") for key in ("workload", "model", "session")]
    title = plain(", ".join(word for word in [entry.device, *words] if word))
    figure = draw(trace, spans, arguments.channel, title)
    try:
        figure.savefig(arguments.out, dpi=160)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot write {arguments.out}: {error}") from error
    if arguments.json:
        zero = trace.start_ns
        found = [
            {
                "name": one.name,
                "from_s": (one.start_ns - zero) / 1e9,
                "to_s": (one.end_ns - zero) / 1e9,
            }
            for one in spans
        ]
        print(json.dumps({"picture": str(arguments.out), "segments": found}))
    else:
        print(arguments.out)
    return 0


def draw(trace: "Trace", spans: "list[Mark]", channels: list[str], title: str) -> "Figure":
    """Return a figure with the power of a trace, other channels below, and its segments behind."""
    from matplotlib.figure import Figure

    from lydite.monitor.store.segmentation import power_of

    shown = [power_of(trace), *(trace.series[name] for name in channels)]
    figure = Figure(figsize=(10, 1.5 + 2 * len(shown)), layout="constrained")
    rows: Any = figure.subplots(len(shown), 1, sharex=True, squeeze=False)
    names = list(dict.fromkeys(one.name for one in spans))
    colour = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    for axes, series in zip(rows[:, 0], shown, strict=True):
        seconds = (series.t_ns - trace.start_ns) / 1e9
        axes.step(seconds, series.values, where="post", linewidth=0.8, color="#333333")
        for one in spans:
            first, last = ((t - trace.start_ns) / 1e9 for t in (one.start_ns, one.end_ns))
            axes.axvspan(first, last, color=colour[one.name], alpha=0.25, linewidth=0)
        axes.set_ylabel(f"{series.channel.name}\n({series.channel.unit})", fontsize=8)
    for name in names:
        rows[0, 0].plot([], [], color=colour[name], linewidth=6, alpha=0.4, label=plain(name))
    rows[0, 0].legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    rows[0, 0].set_title(title, fontsize=9)
    rows[-1, 0].set_xlabel("seconds")
    return figure
