"""A trace of one device while a command runs, with the quiet before and after it.

The sampler is the monitor's; what it gives passes the same gates. Knows nothing of labels or files.
"""

import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from lydite.errors import ConfigurationError, Reason, UnavailableError
from lydite.evidence.power.trace import Trace
from lydite.monitor.columns import traces
from lydite.monitor.gathering import Gathering
from lydite.monitor.readings import Source
from lydite.monitor.ring import Ring
from lydite.monitor.sampler import Sampler
from lydite.monitor.store.entry import Mark
from lydite.monitor.timing import Timing

ROOM = 500_000
MOST_SAMPLES = 20_000_000
LOOK_NS = 200_000_000
GRACE_S = 10.0
"""What a command has to end after an interrupt, before it is killed."""
_STDERR = 2
"""Where the command's own words go: what is recorded has standard output to itself."""


class Recorded(NamedTuple):
    """What came of it."""

    trace: Trace
    marks: tuple[Mark, ...]
    code: int
    """The command's exit code; negative: the signal that ended it."""


def record(
    source: Source, command: Sequence[str], timing: Timing, around_s: float, core: int | None = None
) -> Recorded:
    """Run ``command`` and return what the sensors said meanwhile, and ``around_s`` on either side.

    An interrupt ends the command and keeps what was read.

    Raises:
        ConfigurationError: the command cannot be started.
        UnavailableError: the source gave nothing.
    """
    ring, gathering = Ring(ROOM), Gathering([source], MOST_SAMPLES)
    sampler = Sampler([source], ring, timing, core)
    sampler.start()
    try:
        _rest(gathering, ring, timing, around_s)
        start_ns = timing.now_ns()
        code = _run(command, gathering, ring, timing)
        end_ns = timing.now_ns()
        _rest(gathering, ring, timing, around_s)
    finally:
        sampler.stop()
    gathering.take(ring.drain())
    found = traces(gathering.content())
    if not found:
        raise UnavailableError(f"{source.device} gave no sample", Reason.TOO_FEW_SAMPLES)
    (trace,) = found.values()
    whole = Trace(trace.device, trace.series, gathering.news())
    spans = (
        (whole.start_ns, start_ns, "before"),
        (start_ns, end_ns, "command"),
        (end_ns, whole.end_ns, "after"),
    )
    marks = tuple(Mark(start_ns=a, end_ns=b, name=name) for a, b, name in spans if b > a)
    return Recorded(whole, marks, code)


def _rest(gathering: Gathering, ring: Ring, timing: Timing, seconds: float) -> None:
    """Gather for some time."""
    end_ns = timing.now_ns() + int(seconds * 1e9)
    while timing.now_ns() < end_ns:
        timing.wait_until(min(end_ns, timing.now_ns() + LOOK_NS))
        gathering.take(ring.drain())


def _run(command: Sequence[str], gathering: Gathering, ring: Ring, timing: Timing) -> int:
    """Run the command to its end while gathering; return its exit code."""
    try:
        process = subprocess.Popen(list(command), stdout=_STDERR)
    except OSError as error:
        raise ConfigurationError(f"cannot run {command[0]}: {error.strerror}") from error
    try:
        while process.poll() is None:
            timing.wait_until(timing.now_ns() + LOOK_NS)
            gathering.take(ring.drain())
    except KeyboardInterrupt:  # whoever sits at the terminal interrupted the command too
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
    return process.returncode
