"""What a monitor costs: processor time at 100 Hz, the slow-down of work beside it, and its rates.

    python bench/bench_monitor.py                 some minutes
    python bench/bench_monitor.py --seconds 5 --pairs 6 --dry

Drivers are made up: the cost of a real driver's calls is not in these figures. Processor time is
that of the whole process, all threads, sealing included, in the best of several runs; a loop that
wakes as often and does nothing stands beside it. The slow-down is paired: a monitor in a process of
its own is stopped and let go on by turns, while a fixed work is timed.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from report import Row, row, write
from stopwatch import now, rate

from lydite.monitor import chain
from lydite.monitor.service import Monitor
from lydite.monitor.settings import Replay, Selfcheck, Settings, Simulated, Source
from lydite.monitor.sources.daq import Daq, FileBytes
from lydite.monitor.sources.frames import frame, header
from lydite.monitor.sources.opening import open_sources
from lydite.monitor.sources.replay import Replay as Recording
from lydite.monitor.sources.replay import made_up
from lydite.monitor.timing import SystemTiming
from lydite.signing.keys import Signer

HZ = 100
FAST_HZ = 100_000
RUNS = 5
BLOCK_S = 0.25
SIGNER = Signer(b"1" * 32)
_LIVE = """
import sys, bench_monitor as bench
bench.monitored(sys.argv[1])
"""


def opened(source: Source, state: str) -> Monitor:
    """Return a monitor of one source, ready to run."""
    settings = Settings(state=state, key="", selfcheck=Selfcheck(seconds=0), metrics=None)
    timing = SystemTiming()
    return Monitor(settings, open_sources((source,), timing), SIGNER, timing)


def monitored(state: str) -> None:
    """Run a monitor of a made-up driver until SIGTERM."""
    monitor = opened(Simulated(), state)
    signal.signal(signal.SIGTERM, lambda *_: monitor.stop())
    monitor.run(say=lambda *_: None)


def spent(work: Callable[[], object]) -> float:
    """Return the processor time of ``work`` as a share of a core, in percent."""
    cpu_s, wall_s = time.process_time(), time.monotonic()
    work()
    return 100 * (time.process_time() - cpu_s) / (time.monotonic() - wall_s)


def share(source: Source, seconds: float) -> float:
    """Return the processor time of a monitor, the best of several runs."""
    shares = []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory() as state:
            monitor = opened(source, state)
            shares.append(spent(lambda one=monitor: one.run(seconds, say=lambda *_: None)))
    return min(shares)


def wake(seconds: float) -> None:
    """Wake as often as a sampler does, and do nothing."""
    start_s = time.monotonic()
    for beat in range(1, int(seconds * HZ) + 1):
        time.sleep(max(0.0, start_s + beat / HZ - time.monotonic()))


def cost_rows(seconds: float) -> list[Row]:
    """Return what sampling at 100 Hz costs."""
    floor = min(spent(lambda: wake(seconds)) for _ in range(RUNS))
    rows = []
    for name, source in (("a made-up driver", Simulated()), ("a recording", Replay())):
        rows.append(
            row(
                f"monitor of {name} at {HZ} Hz, of a core",
                round(share(source, seconds), 3),
                "%",
                goal=1.0,
                at_most=True,
                peer=round(floor, 3),
                peer_name="waking alone",
            )
        )
    return rows


def block(numbers: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> tuple[float, float]:
    """Return how often a pass over some megabytes is done in a second, by two clocks.

    By the wall's, and by one that stands still while others hold the core.
    """
    wall_s, own_s, count = time.perf_counter(), now(), 0
    while time.perf_counter() - wall_s < BLOCK_S:
        np.sqrt(numbers * numbers + 1).sum()
        count += 1
    return count / (time.perf_counter() - wall_s), count / (now() - own_s)


def slowdown_rows(pairs: int) -> list[Row]:
    """Return by how much work is slower while a monitor samples beside it."""
    numbers = np.random.default_rng(0).normal(size=200_000)
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as state:
        process = subprocess.Popen([sys.executable, "-c", _LIVE, state], cwd=Path(__file__).parent)
        os.sched_setaffinity(process.pid, {cores[-1]})
        os.sched_setaffinity(0, {cores[0]})
        while not list(Path(state).glob("*.parquet")):
            time.sleep(0.1)
        slower = []
        for pair in range(pairs):
            speeds: dict[bool, tuple[float, float]] = {}
            for on in (True, False) if pair % 2 else (False, True):
                process.send_signal(signal.SIGCONT if on else signal.SIGSTOP)
                speeds[on] = block(numbers)
            slower.append(
                [100 * (1 - on / off) for on, off in zip(speeds[True], speeds[False], strict=True)]
            )
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait()
        os.sched_setaffinity(0, set(cores))
        sampled = chain.check(Path(state), SIGNER.public).samples
    print(f"{pairs} pairs; {sampled} samples were sealed meanwhile")
    rows = []
    for place, clock in enumerate(("wall", "own time")):
        values = [pair[place] for pair in slower]
        low, high = interval(values)
        rows += [
            row(
                f"slow-down of work on another core, {clock}",
                round(statistics.median(values), 3),
                "%",
                goal=1.0,
                at_most=True,
            ),
            row("  its 95 % interval begins at", round(low, 3), "%", goal=0.0, at_most=True),
            row("  and ends at", round(high, 3), "%"),
        ]
    return rows


def interval(values: list[float]) -> tuple[float, float]:
    """Return a 95 % interval of the median, by resampling."""
    rng = np.random.default_rng(1)
    medians = np.median(rng.choice(values, (4000, len(values))), axis=1)
    low, high = np.quantile(medians, (0.025, 0.975))
    return float(low), float(high)


def meter_rows(seconds: int) -> list[Row]:
    """Return how fast a fast meter's stream comes down to 100 Hz."""
    count = seconds * FAST_HZ
    samples = np.random.default_rng(2).integers(0, 700_000, count)
    frames = b"".join(
        frame(number, at, samples[at : at + 5000])
        for number, at in enumerate(range(0, count, 5000))
    )
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "meter.daq"
        path.write_bytes(header(FAST_HZ, 1000) + frames)

        def come_down() -> None:
            daq = Daq(FileBytes(path), "rail/0", "power_wall_w", HZ, None)
            while not daq.ended:
                daq.read(0)
            daq.close()

        speed = rate(come_down, count)
    peer = rate(lambda: samples.reshape(-1, FAST_HZ // HZ).mean(axis=1), count)
    return [
        row(
            "fast meter from a file down to 100 Hz, energy exact",
            round(speed),
            "samples/s",
            goal=float(FAST_HZ),
            peer=round(peer),
            peer_name="means of an array in memory",
        )
    ]


def replay_rows(seconds: int) -> list[Row]:
    """Return how fast recordings are sealed, and segments checked."""
    device, rows = made_up(seconds)
    with tempfile.TemporaryDirectory() as place:
        made = iter(range(100))
        states: list[Path] = []

        def seal() -> None:
            states.append(Path(place) / str(next(made)))
            settings = Settings(
                state=str(states[-1]), key="", drain_ms=10, selfcheck=Selfcheck(seconds=0)
            )
            source = Recording(device, rows, 0)
            Monitor(settings, [source], SIGNER, SystemTiming()).run(say=lambda *_: None)

        sealed = rate(seal, len(rows))
        checked = rate(lambda: chain.check(states[-1], SIGNER.public), len(rows))
    return [
        row("recording to sealed segments, as fast as it goes", round(sealed), "samples/s"),
        row("sealed segments checked, of samples that were read", round(checked), "samples/s"),
    ]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=12)
    parser.add_argument("--pairs", type=int, default=120)
    parser.add_argument("--dry", action="store_true", help="do not write results")
    arguments = parser.parse_args()
    rows = cost_rows(arguments.seconds) + slowdown_rows(arguments.pairs)
    rows += meter_rows(20) + replay_rows(60)
    write("monitor", rows, keep=not arguments.dry)


if __name__ == "__main__":
    main()
