"""What features of windows cost: one window at a time, many at once, by NumPy and by torch.

Windows of 10 s at 100 Hz of one channel of power, made up: the cost does not depend on the values.
"""

import numpy as np
import torch
from report import Row, row
from stopwatch import now, rate

from lydite.evidence.power.features.table import FeatureStream, Table
from lydite.evidence.power.intake import Raw, take_in_series
from lydite.evidence.power.windows import Plan, cut
from lydite.monitor.features_torch import compute

CHANNEL = "power_instant_w"
MANY = 2000
SINGLES = 300


def rows() -> list[Row]:
    """Return what was measured."""
    torch.set_num_threads(1)
    table = Table(Plan(length_s=10.0, hop_s=5.0, rate_hz=100.0), (CHANNEL,))
    dice = np.random.default_rng(0)
    values = (400 + dice.standard_normal((MANY, table.plan.size)).cumsum(axis=1)).clip(0)
    windows = {CHANNEL: values}
    table.compute({CHANNEL: values[:32]})
    singles = sorted(single(table, values[place : place + 1]) for place in range(SINGLES))
    what = f"{len(table.names)} features of 10 s at 100 Hz"
    found = [
        row(f"{what}, one window, median", singles[SINGLES // 2], "ms", goal=1.0, at_most=True),
        row(f"{what}, one window, 95 of 100", singles[SINGLES * 95 // 100], "ms"),
        row(f"{what}, batch", rate(lambda: table.compute(windows), MANY), "windows/s", goal=2000.0),
        row("the same by torch, CPU", rate(lambda: compute(table, windows, "cpu"), MANY, 3),
            "windows/s"),
        *streamed(table),
    ]  # fmt: skip
    if torch.cuda.is_available():
        compute(table, windows, "cuda")
        speed = rate(lambda: compute(table, windows, "cuda"), MANY)
        name = f"the same by torch, {torch.cuda.get_device_name()}"
        found.append(row(name, speed, "windows/s"))
    apart = np.abs(compute(table, windows) - table.compute(windows))
    most = float((apart / np.maximum(np.abs(table.compute(windows)), 1.0)).max())
    found.append(row("largest difference of torch, relative", most, "1", goal=1e-5, at_most=True))
    return found


def single(table: Table, window: np.ndarray) -> float:
    """Return the milliseconds of one window."""
    started = now()
    table.compute({CHANNEL: window})
    return 1000 * (now() - started)


def streamed(table: Table) -> list[Row]:
    """Return what a stream costs by second of telemetry, from raw samples to features."""
    seconds = 300
    times = np.arange(seconds * 100, dtype=np.int64) * 10**7
    raw = 400 + np.random.default_rng(1).standard_normal(len(times))

    def taken() -> None:
        series, _ = take_in_series(Raw(channel=CHANNEL, times=times, values=raw, unit="W"))
        assert series is not None
        cut(series, table.plan)

    def live() -> None:
        stream = FeatureStream(table)
        for first in range(0, len(times), 50):
            part = times[first : first + 50].copy(), raw[first : first + 50].copy()
            for _ in stream.push({CHANNEL: part}):
                pass

    return [
        row("intake and windows, a second of 100 Hz", 1e6 / rate(taken, seconds), "us"),
        row("stream of features, a second of 100 Hz, hop 5 s", 1e6 / rate(live, seconds), "us"),
    ]
