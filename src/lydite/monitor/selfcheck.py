"""Judges sensors by what they said for some seconds: which of them may be used, and why not.

Each channel alone: did it give samples, did it move, did heavy work move it. Then against one
another: the energy counter against integrated power, instant against average power. Ratios outside
0.9 to 1.1 are refused. Pure: what was read comes in, a report goes out.

**Does not show** that a sensor tells the truth: whoever owns the machine can forge all alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from lydite.errors import Reason
from lydite.evidence.power.trace import Times, Values
from lydite.messages.receipt import Timestamp
from lydite.messages.sensors import Agreement, Report, Sensor
from lydite.monitor.meters import changes, energy_j
from lydite.monitor.response import Edge, period_us, window

Lanes = Mapping[str, tuple[Times, Values]]
"""By channel, what was read of one device."""

LOWEST_PPM, HIGHEST_PPM = 900_000, 1_100_000
WATCHED_NS = 1_500_000_000
"""A channel that was watched for less cannot be called frozen."""
FEWEST = 10
"""The same, of samples."""
SPAN_NS = 2_000_000_000
"""Energies are compared over at least this long."""
LAGS_NS = (0, 250_000_000, 500_000_000, 750_000_000, 1_000_000_000)
"""An average says late what was drawn, by up to its window, which may be unknown: of these lags the
one counts with which it agrees best. At a steady load all do alike."""

_MOVES = ("power_instant_w", "power_average_w", "power_wall_w", "energy_j")
"""Channels that are never at rest on a machine that is on."""
_POWERS = ("power_instant_w", "power_average_w", "power_wall_w")
_THOUSANDFOLD = (500, 2000)
"""Ratios that speak for another unit."""


class Watched(NamedTuple):
    """What the self-check has to judge by."""

    device: str
    source: str
    lanes: Lanes
    offered: Sequence[str]
    """Channels that the source said it has."""
    edges: Sequence[Edge] = ()
    """When load went on and off, if it was ours."""
    rise_w: float = 0.0
    """What load has to add to power."""


@dataclass
class _Verdict:
    reason: Reason | None = None
    detail: str = ""

    def refuse(self, reason: Reason, detail: str) -> None:
        """Keep the first reason."""
        if self.reason is None:
            self.reason, self.detail = reason, detail


def judge(watched: Watched, issued: Timestamp) -> Report:
    """Return what each channel is worth.

    1. A channel without samples could not be read.
    2. Power and energy that never change are frozen.
    3. Power that our own load does not move is not that of the device.
    4. Energy and power, and power and power, have to agree over the time that both cover.
    """
    verdicts = {channel: _Verdict() for channel in watched.offered}
    for channel in watched.offered:
        _judge_alone(channel, watched, verdicts[channel])
    agreements = _agreements(watched.lanes)
    _judge_together(agreements, verdicts)
    times = [lane[0] for lane in watched.lanes.values() if len(lane[0])]
    span_ns = max((t[-1] for t in times), default=0) - min((t[0] for t in times), default=0)
    return Report(
        device=watched.device,
        source=watched.source,
        stimulus="burst" if watched.edges else "none",
        sensors=tuple(_sensor(name, watched, verdicts[name]) for name in sorted(verdicts)),
        agreements=tuple(agreements),
        span_us=int(span_ns) // 1000,
        issued=issued,
    )


def refused(report: Report) -> frozenset[str]:
    """Return the channels that may not be used."""
    return frozenset(each.channel for each in report.sensors if not each.usable)


def _judge_alone(channel: str, watched: Watched, verdict: _Verdict) -> None:
    lane = watched.lanes.get(channel)
    if lane is None or not len(lane[0]):
        verdict.refuse(Reason.NOT_READ, "no sample came")  # 1.
        return
    t_ns, values = lane
    if channel not in _MOVES:
        return
    long_ns = int(t_ns[-1] - t_ns[0])
    if long_ns >= WATCHED_NS and len(values) >= FEWEST and not len(changes(values)):
        seconds = long_ns / 1e9
        verdict.refuse(Reason.SENSOR_FROZEN, f"{values[0]:g} for {seconds:.1f} s")  # 2.
    if watched.edges and channel in _POWERS:
        rise = _rise(t_ns, values, watched.edges)
        if rise is not None and rise < watched.rise_w:
            detail = f"load added {rise:.1f} W of at least {watched.rise_w:g}"
            verdict.refuse(Reason.SENSOR_UNMOVED, detail)  # 3.


def _rise(t_ns: Times, values: Values, edges: Sequence[Edge]) -> float | None:
    """Return the median late in stretches of load, less that late in stretches without."""
    late: dict[bool, list[Values]] = {True: [], False: []}
    for edge, after in pairwise(edges):
        middle_ns = (edge.t_ns + after.t_ns) // 2
        late[edge.on].append(values[(t_ns >= middle_ns) & (t_ns < after.t_ns)])
    on, off = (np.concatenate(late[state] or [np.zeros(0)]) for state in (True, False))
    return float(np.median(on) - np.median(off)) if len(on) and len(off) else None


def _agreements(lanes: Lanes) -> list[Agreement]:
    """Return the ratio of every pair of ways to the same joules."""
    found = []
    powers = [name for name in _POWERS if name in lanes]
    for power in powers:
        if "energy_j" in lanes:
            found += _agreement("energy_j", power, _counted_over(lanes, power))
    if {"power_instant_w", "power_average_w"} <= set(powers):
        ratio = _instant_over_average(lanes)
        found += _agreement("power_instant_w", "power_average_w", ratio)
    return found


def _agreement(channel: str, other: str, ratio: float | None) -> list[Agreement]:
    if ratio is None:
        return []
    ppm = min(round(ratio * 1e6), 2**53 - 1)
    holds = LOWEST_PPM <= ppm <= HIGHEST_PPM
    return [Agreement(channel=channel, other=other, ratio_ppm=ppm, holds=holds)]


def _counted_over(lanes: Lanes, power: str) -> float | None:
    """Return the counter's energy, between its own updates, over that of power in the same time."""
    t_ns, values = lanes["energy_j"]
    places = changes(values)
    if len(places) < 2 or np.any(np.diff(values) < 0):
        return None
    first, last = places[0], places[-1]
    counted_j = float(values[last] - values[first])
    lags = LAGS_NS if power == "power_average_w" else LAGS_NS[:1]
    return _nearest(counted_j, lanes[power], int(t_ns[first]), int(t_ns[last]), lags)


def _instant_over_average(lanes: Lanes) -> float | None:
    """Return the ratio of the two powers' energies."""
    instant, average = lanes["power_instant_w"], lanes["power_average_w"]
    start_ns = int(max(instant[0][0], average[0][0]))
    end_ns = int(min(instant[0][-1], average[0][-1])) - LAGS_NS[-1]
    if end_ns - start_ns < SPAN_NS:
        return None
    return _nearest(energy_j(*instant, start_ns, end_ns), average, start_ns, end_ns, LAGS_NS)


def _nearest(
    joules: float, lane: tuple[Times, Values], start_ns: int, end_ns: int, lags_ns: Sequence[int]
) -> float | None:
    """Return ``joules`` over what ``lane`` says of that time, at the lag that is nearest to 1."""
    if end_ns - start_ns < SPAN_NS or lane[0][0] > start_ns or lane[0][-1] < end_ns - SPAN_NS:
        return None
    drawn = [energy_j(*lane, start_ns + lag_ns, end_ns + lag_ns) for lag_ns in lags_ns]
    ratios = [joules / each for each in drawn if each > 0]
    return min(ratios, key=lambda ratio: abs(ratio - 1), default=None)


def _judge_together(agreements: Sequence[Agreement], verdicts: Mapping[str, _Verdict]) -> None:
    """Refuse who contradicts others that agree, else the counter. Who is refused has no say."""
    liars = {name for name, verdict in verdicts.items() if verdict.reason is not None}
    agreements = [each for each in agreements if not {each.channel, each.other} & liars]
    broken = [each for each in agreements if not each.holds]
    partners: dict[str, list[bool]] = {}
    for each in agreements:
        for name in (each.channel, each.other):
            partners.setdefault(name, []).append(each.holds)
    for each in broken:
        name = _culprit(each, partners)
        reason = Reason.WRONG_UNIT if _in_thousands(each) else Reason.SENSORS_DISAGREE
        detail = f"{each.channel} over {each.other}: {each.ratio_ppm / 1e6:.4f}"
        verdicts[name].refuse(reason, detail)


def _culprit(broken: Agreement, partners: Mapping[str, Sequence[bool]]) -> str:
    """Return who of two disagrees with everybody, where the other agrees with somebody."""
    if any(partners[broken.channel]) and not any(partners[broken.other]):
        return broken.other
    return broken.channel


def _in_thousands(broken: Agreement) -> bool:
    ratio = max(broken.ratio_ppm, 1) / 1e6
    low, high = _THOUSANDFOLD
    return low < max(ratio, 1 / ratio) < high


def _sensor(channel: str, watched: Watched, verdict: _Verdict) -> Sensor:
    t_ns, values = watched.lanes.get(channel, (np.zeros(0, np.int64), np.zeros(0)))
    seen = window(t_ns, values, watched.edges) if channel in _POWERS else None
    return Sensor(
        channel=channel,
        samples=len(values),
        period_us=period_us(t_ns, values),
        window_us=None if seen is None else seen.window_ms * 1000,
        usable=verdict.reason is None,
        reason=verdict.reason,
        detail=verdict.detail,
    )
