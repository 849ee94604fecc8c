"""Passports as a picture: how often honest scores are beyond a value, stack by stack."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lydite.messages import grid as grids
from lydite.messages import passport as passports
from lydite.messages.passport import Channel, Passport
from lydite.numerics import deriving

_STYLES = ("-", "--", ":", "-.")
_MILLION = 1_000_000


def draw(known: Sequence[Passport]) -> Figure:
    """Return one panel a channel, and a legend: a passport has one colour and style in all."""
    names = list(dict.fromkeys(c.name for p in known for c in p.predicate.channels))
    figure = Figure(figsize=(4.2 * len(names), 3.8), layout="constrained")
    panels: Any = figure.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        for number, passport in enumerate(known):
            channel = deriving.channel(passport.predicate, name)
            if channel is not None:
                _line(axes, channel, _style(number))
        axes.set_title(name)
        axes.set_xlabel("score of a token")
        axes.set_yscale("log")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("share of tokens beyond")
    handles = [Line2D([], [], label=_label(p), **_style(n)) for n, p in enumerate(known)]
    figure.legend(handles=handles, loc="outside lower center", fontsize=8, frameon=False)
    return figure


def _style(number: int) -> dict[str, Any]:
    return {"color": f"C{number % 10}", "linestyle": _STYLES[number % len(_STYLES)]}


def _label(passport: Passport) -> str:
    said = passport.predicate
    return passports.name_of(said.stack) if said.cheat is None else said.cheat


def _line(axes: Any, channel: Channel, style: dict[str, Any]) -> None:
    counted, edges = deriving.total(channel.rows), grids.edges(channel.grid)
    whole = sum(counted.values())
    beyond = [sum(n for cell, n in counted.items() if cell > at) for at in range(len(edges))]
    drawn = [(edge / _MILLION, n / whole) for edge, n in zip(edges, beyond, strict=True) if n]
    if drawn:
        axes.plot(*zip(*drawn, strict=True), **style)
    if channel.grid == grids.LOG:
        axes.set_xscale("log")
