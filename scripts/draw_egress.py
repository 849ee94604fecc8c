"""Draw bits charged against bits that got out, from ``bench/results/egress.json``.

    python scripts/draw_egress.py

writes ``docs/_static/egress.png``. Measures nothing.
"""

import json
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

RESULTS = Path("bench/results/egress.json")
PICTURE = Path("docs/_static/egress.png")


def main() -> None:
    """Draw the picture."""
    rows = json.loads(RESULTS.read_text("utf-8"))["rows"]
    methods = [row for row in rows if ": bits charged" in row["metric"] and row["peer"] > 0]
    low = min(row["peer"] for row in methods) / 2
    high = max(row["ours"] for row in methods) * 2
    figure, axes = plt.subplots(figsize=(7.2, 5.2))
    axes.fill_between([low, high], [low, high], [2 * low, 2 * high], color="#d9ead3", lw=0)
    axes.plot([low, high], [low, high], color="#777777", lw=0.8)
    for number, row in enumerate(methods):
        name = row["metric"].partition(":")[0]
        axes.plot(row["peer"], row["ours"], "o", label=f"{number + 1}  {name}", ms=6)
        axes.annotate(
            str(number + 1), (row["peer"], row["ours"]), (4, 4), textcoords="offset points"
        )
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    axes.set_xlabel("bits that a receiver read")
    axes.set_ylabel("bits charged")
    axes.legend(fontsize=7, loc="lower right", title="green: within 2x", title_fontsize=7)
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=120)
    print(PICTURE)


if __name__ == "__main__":
    main()
