"""The page of results: sections that tables bring with them, and their pictures.

Knows nothing of what was measured. A table's module may have ``section()``, which returns one.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure

DOCS = Path(__file__).parent.parent / "docs"
RESULTS = Path(__file__).parent / "results"
HEAD = """# What power shows, measured

Written by `make bench-power`; do not edit. Traces are third-party and read in place; nothing that
is distributed was fitted on them. Every split is by session: no window of a session is on both
sides. Brackets hold the 2.5 and 97.5 percentiles over sessions drawn again; ranges in round
brackets are over seeds. What could not be measured says so.
"""


class Section(NamedTuple):
    """A part of the page."""

    place: int
    """The page is in this order."""
    title: str
    text: str
    """Markdown; a picture is named as ``![words](_static/NAME.png)``."""
    pictures: Mapping[str, Figure]
    """By name."""


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table in Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell(one) for one in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def cell(value: Any) -> str:
    """Return how a value is printed."""
    if isinstance(value, float):
        return "-" if value != value else f"{value:.3f}"
    if isinstance(value, tuple) and len(value) == 3:
        return f"{value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]"
    return str(value)


def picture(wide: float = 6.4, high: float = 3.4, columns: int = 1) -> tuple[Figure, Any]:
    """Return an empty figure and its axes."""
    mpl.rcParams.update({"font.size": 9, "axes.grid": True,
                         "grid.alpha": 0.3})  # fmt: skip
    figure = Figure(figsize=(wide, high), layout="constrained")
    return figure, figure.subplots(1, columns)


def keep(name: str, section: Section) -> None:
    """Keep the section of a table in its file of results, and its pictures."""
    for title, figure in section.pictures.items():
        figure.savefig(DOCS / "_static" / f"{title}.png", dpi=110)
    path = RESULTS / f"power_{name}.json"
    document = json.loads(path.read_text("utf-8"))
    document["section"] = {
        "place": section.place, "title": section.title, "text": section.text
    }  # fmt: skip
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def write(names: Sequence[str]) -> None:
    """Write the page from what is kept of each table."""
    kept = []
    for name in names:
        path = RESULTS / f"power_{name}.json"
        if path.exists():
            kept.append(json.loads(path.read_text("utf-8")).get("section"))
    found = sorted((one for one in kept if one), key=lambda one: one["place"])
    parts = [HEAD, *(f"## {one['title']}\n\n{one['text']}" for one in found)]
    text = "\n".join(part.rstrip("\n") + "\n" for part in parts)
    (DOCS / "power-results.md").write_text(text, encoding="utf-8")
