"""Passports as a picture: how often honest scores are beyond a value, stack by stack."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from lydite.messages import grid as grids
from lydite.messages import passport as passports
from lydite.messages.passport import Channel, Passport
from lydite.numerics import deriving

_STYLES = ("-", "--", ":", "-.")


def draw(known: Sequence[Passport]) -> Figure:
    """Return one panel a channel, with a line for each passport."""
    names = list(dict.fromkeys(c.name for p in known for c in p.predicate.channels))
    figure = Figure(figsize=(4.2 * len(names), 3.8), layout="constrained")
    panels: Any = figure.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        for number, passport in enumerate(known):
            channel = deriving.channel(passport.predicate, name)
            if channel is not None:
                _line(axes, passport, channel, _STYLES[number % len(_STYLES)])
        axes.set_title(name)
        axes.set_xlabel("millionths")
        axes.set_yscale("log")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("share of tokens beyond")
    panels[-1].legend(fontsize=7, frameon=False)
    return figure


def _line(axes: Any, passport: Passport, channel: Channel, style: str) -> None:
    counted, edges = deriving.total(channel.rows), grids.edges(channel.grid)
    whole = sum(counted.values())
    beyond = [sum(n for cell, n in counted.items() if cell > at) for at in range(len(edges))]
    drawn = [(edge, n / whole) for edge, n in zip(edges, beyond, strict=True) if n]
    said = passport.predicate
    label = passports.name_of(said.stack) if said.cheat is None else said.cheat
    axes.plot(*zip(*drawn, strict=True), style, label=label) if drawn else None
    if channel.grid == grids.LOG:
        axes.set_xscale("log")
