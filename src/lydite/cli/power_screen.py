"""What one sealed segment says of each GPU, as a line, as JSON, or as a screen that moves on."""

from collections import deque
from typing import NamedTuple

import numpy as np
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from lydite.errors import ConfigurationError
from lydite.evidence.power import classify, gpus, measuring, rules
from lydite.evidence.power.reference import Gates
from lydite.evidence.power.rules import Outcome, Readings
from lydite.evidence.power.trace import Trace
from lydite.messages.plain import plain
from lydite.monitor import columns
from lydite.monitor.chain import Link
from lydite.monitor.columns import Content

CAVEAT = "accuses nobody: who owns the machine can make its sensors say anything"
_LEVELS = " ▁▂▃▄▅▆▇█"
_WIDTH = 48
"""Columns of a picture: the newest means of power."""
_PER_SEGMENT = 4
_SHARES = ("sm_active", "tensor_active", "dram_active")


class Look(NamedTuple):
    """One GPU in one segment."""

    segment: int
    device: str
    watts: float | None
    tdp_w: int | None
    shares: dict[str, float]
    """Means of those of ``_SHARES`` that were measured."""
    answer: tuple[str, ...]
    """What it looks like; several where they cannot be told apart; none where nothing is said."""
    why: str
    abstained: tuple[str, ...]
    """Gates that could not be asked."""
    parts: tuple[float, ...]
    """Means of power over equal parts of the segment, in watts."""
    counted: int
    """Samples that were left out or mended, of all devices."""

    def as_json(self) -> dict[str, object]:
        """Return it as plain values."""
        return self._asdict()

    def line(self) -> str:
        """Return it as one line."""
        watts = "no power" if self.watts is None else f"{self.watts:.0f} W"
        shares = " ".join(f"{name} {share:.2f}" for name, share in self.shares.items())
        words = " or ".join(self.answer) or "no answer"
        line = f"{self.segment} {self.device}: {watts} {shares}".rstrip()
        return f"{line}: {words} ({self.why})"


def looks(link: Link, content: Content, tdp_w: int | None) -> list[Look]:
    """Return what a verified segment says, GPU by GPU, in the order of their names."""
    counted = sum(each.count for each in link.said.counted)
    return [
        _look(link.said.index, device, trace, tdp_w, counted)
        for device, trace in sorted(columns.traces(content).items())
    ]


def _look(segment: int, device: str, trace: Trace, tdp_w: int | None, counted: int) -> Look:
    edges = np.linspace(trace.start_ns, trace.end_ns + 1, _PER_SEGMENT + 1).astype(np.int64)
    means = measuring.means(trace, edges[[0, -1]].reshape(1, 2))
    stated = _stated(trace.device) or tdp_w
    watts = rules.power_w(means)
    answer, why, abstained = _answer(trace, means, stated)
    return Look(
        segment=segment,
        device=device,
        watts=watts,
        tdp_w=stated,
        shares={name: means[name] for name in _SHARES if name in means},
        answer=answer,
        why=why,
        abstained=abstained,
        parts=tuple(_parts(trace, edges)),
        counted=counted,
    )


def _stated(device: str) -> int | None:
    try:
        return gpus.find(device).tdp_w
    except ConfigurationError:
        return None


def _answer(
    trace: Trace, means: dict[str, float], tdp_w: int | None
) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
    """Return what physics says of a segment, why, and which gates abstained."""
    power = next((trace.series[name] for name in measuring.POWERS if name in trace.series), None)
    if tdp_w is None or power is None:
        why = "power was not measured" if power is None else "its stated power is not known: --tdp"
        return (), why, ()
    gates = rules.gates(Readings(means, tdp_w, None, None), Gates())
    abstained = tuple(gate.name for gate in gates if gate.outcome is Outcome.ABSTAINED)
    fired = [gate for gate in gates if gate.outcome is Outcome.FIRED]
    if fired:
        return tuple(gate.name for gate in fired), fired[0].why, abstained
    left = classify.allowed(power.values, tdp_w)
    return left.classes, left.why, abstained


def _parts(trace: Trace, edges: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> list[float]:
    """Return the mean power of each part that was measured."""
    found = (
        rules.power_w(measuring.means(trace, np.array([[start, end]])))
        for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    )
    return [watts for watts in found if watts is not None and np.isfinite(watts)]


class Screen:
    """A table that grows by a picture of power for each GPU."""

    def __init__(self) -> None:
        """Take the terminal."""
        self._past: dict[str, deque[float]] = {}
        self._now: dict[str, Look] = {}
        self._live = Live(console=Console(), auto_refresh=False)
        self._live.start()

    def show(self, link: Link, found: list[Look]) -> None:
        """Show what a segment says."""
        for look in found:
            past = self._past.setdefault(look.device, deque(maxlen=_WIDTH))
            past.extend(look.parts)
            self._now[look.device] = look
        title = f"segment {link.said.index}, verified, {link.said.samples} samples"
        self._live.update(self._drawn(title), refresh=True)

    def close(self) -> None:
        """Give the terminal back, with the last picture on it."""
        self._live.stop()

    def _drawn(self, title: str) -> Table:
        table = Table(title=title, caption=CAVEAT, box=box.SIMPLE, title_justify="left")
        for name in ("GPU", "power", "lately", "looks like", "because"):
            table.add_column(name, no_wrap=name == "lately")
        for device, look in sorted(self._now.items()):
            watts = "-" if look.watts is None else f"{look.watts:.0f} W"
            table.add_row(
                plain(device),
                watts,
                picture(list(self._past[device]), look.tdp_w),
                " or ".join(look.answer) or "no answer",
                plain(look.why),
            )
        return table


def picture(watts: list[float], tdp_w: int | None) -> str:
    """Return one letter a value, from nothing to the stated power, or to the greatest value."""
    top = max([*watts, 1.0]) if tdp_w is None else float(tdp_w)
    steps = len(_LEVELS) - 1
    return "".join(_LEVELS[min(steps, max(0, round(steps * one / top)))] for one in watts)
