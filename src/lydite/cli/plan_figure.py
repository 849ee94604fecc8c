"""The figures of a plan against one varied input, drawn with matplotlib."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from lydite.errors import ConfigurationError

_SPREAD = 20
"""Values that span more than this many times their least are drawn on a logarithmic axis."""


def draw(
    name: str, values: Sequence[float], figures: Mapping[str, Sequence[float | None]], out: Path
) -> None:
    """Write one panel for each figure, below one another, over the values of the input.

    Raises:
        ConfigurationError: the picture cannot be written.
    """
    figure = Figure(figsize=(7, 1 + 2 * len(figures)), layout="constrained")
    panels: Any = figure.subplots(len(figures), 1, sharex=True, squeeze=False)
    for axes, (label, heights) in zip(panels[:, 0], figures.items(), strict=True):
        known = [height for height in heights if height is not None]
        axes.plot(
            values,
            [float("nan") if height is None else height for height in heights],
            marker=".",
            color="#1b4f7f",
        )
        axes.set_title(label, fontsize=9, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        if min(known, default=0) > 0 and max(known) > _SPREAD * min(known):
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
    if min(values) > 0 and max(values) > _SPREAD * min(values):
        panels[-1, 0].set_xscale("log")
    panels[-1, 0].set_xlabel(name)
    try:
        figure.savefig(out, dpi=160)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot write {out}: {error}") from error
