"""``lydite plot``: the evidence in bundles, as a picture."""

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from lydite.appraisal import bundle as bundles
from lydite.appraisal.bundle import Bundle
from lydite.appraisal.report import Report
from lydite.appraisal.trajectory import Step, trajectory
from lydite.appraisal.verification import verify
from lydite.cli.files import read
from lydite.cli.reports import add_trust, load_trust
from lydite.errors import ConfigurationError

_COLOURS = {
    "affirming": "#1b7f4b",
    "contraindicated": "#b3261e",
    "warning": "#b26a00",
    "none": "#6b6b6b",
}
_STYLES = ("-", "--", ":", "-.")
_LINE_HEIGHT = 0.04


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite plot``."""
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE", help="bundles to draw")
    parser.add_argument("--out", type=Path, required=True, help="picture to write: PNG, SVG or PDF")
    add_trust(parser)
    parser.add_argument("--json", action="store_true", help="print the points as one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Check the bundles and draw those that stand; one that is refused ends the command."""
    trust = load_trust(arguments.trust)
    drawn = []
    for path in arguments.bundles:
        payload = read(path)
        drawn.append((verify(payload, trust), bundles.parse(payload)))
    lines = [(report, trajectory(bundle)) for report, bundle in drawn]
    figure = draw(lines, drawn[0][1])
    try:
        figure.savefig(arguments.out, dpi=160)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot write {arguments.out}: {error}") from error
    if arguments.json:
        print(json.dumps({report.provider: steps for report, steps in lines}))
    else:
        print(arguments.out)
    return 0


def draw(lines: list[tuple[Report, list[Step]]], example: Bundle) -> Figure:
    """Return a figure with one line a provider, and the levels of the policy."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes: Any = figure.subplots()
    for number, (report, steps) in enumerate(lines):
        axes.plot(
            [step.tokens for step in steps],
            [step.log10_e for step in steps],
            color=_COLOURS[report.tier.value],
            linestyle=_STYLES[number % len(_STYLES)],
            marker=".",
            markersize=3,
        )
    for milli in (example.policy.suspect_milli, example.policy.accuse_milli):
        axes.axhline(milli / 1000, color="#444444", linewidth=0.8)
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(bottom=min(-2.0, *(step.log10_e - 1 for _, steps in lines for step in steps)))
    axes.set_xlim(left=0)
    axes.set_xlabel("tokens audited")
    axes.set_ylabel("log10 of the evidence against the provider")
    axes.set_title("Is it the declared model?")
    axes.spines[["top", "right"]].set_visible(False)
    _label(axes, lines, example)
    return figure


def _label(axes: Any, lines: list[tuple[Report, list[Step]]], example: Bundle) -> None:
    """Write each line's name to the right of the axes, at its height or as near as is legible."""
    wanted = [(f"{r.provider}: {r.tier.words}", s[-1].log10_e) for r, s in lines]
    policy = example.policy
    wanted += [("suspect", policy.suspect_milli / 1000), ("accuse", policy.accuse_milli / 1000)]
    place = axes.transData + axes.transAxes.inverted()
    lowest = 0.0
    for name, level in sorted(wanted, key=lambda each: each[1]):
        height = max(float(place.transform((0.0, level))[1]), lowest)
        lowest = height + _LINE_HEIGHT
        axes.annotate(name, (1.01, height), xycoords="axes fraction", va="center", fontsize=8)
