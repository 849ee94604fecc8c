"""A recorded trace as a source, at any speed: each sample with the time and value that it had.

Bit for bit: nothing is resampled and no time is shifted. Reads files of columns, as a monitor seals
them. Without a file it gives a recording that is made up, so that everything runs without a GPU.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from lydite.errors import ConfigurationError, FormatError
from lydite.evidence.power.channels import CHANNELS
from lydite.messages.segment import Clock
from lydite.monitor.columns import Content, decode, readings
from lydite.monitor.readings import Group, Reading, Tally
from lydite.monitor.sources.nvml import NvmlSource
from lydite.monitor.sources.simulated import CYCLE, Load, SimulatedNvml

BEAT_NS = 10_000_000
CHUNK = 4096
MADE_UP_S = 30


class Replay:
    """One device's samples, given again."""

    kind = "replay"
    patient = True
    clock: Clock = "recorded"

    def __init__(self, device: str, rows: Iterable[Reading], speed: float) -> None:
        """Give ``rows``, which ascend in time, ``speed`` times as fast as they were; 0: at once."""
        self.tally = Tally()
        self.device = device
        self._speed = speed
        self._rows = iter(rows)
        self._next = next(self._rows, None)
        self._first_ns = self._next.t_ns if self._next else 0
        self._start_ns: int | None = None
        period_ns = BEAT_NS if speed else 0
        self.groups = (Group("replay", period_ns, tuple(CHANNELS), self.read),)

    @property
    def ended(self) -> bool:
        """Return whether all samples were given."""
        return self._next is None

    def close(self) -> None:
        """Nothing is held."""

    def read(self, now_ns: int) -> Sequence[Reading]:
        """Return the samples that are due."""
        if self._next is None:
            return ()
        if not self._speed:
            chunk = [self._next, *islice(self._rows, CHUNK - 1)]
            self._next = next(self._rows, None)
            return chunk
        if self._start_ns is None:
            self._start_ns = now_ns
        due_ns = self._first_ns + int((now_ns - self._start_ns) * self._speed)
        chunk = []
        while self._next is not None and self._next.t_ns <= due_ns:
            chunk.append(self._next)
            self._next = next(self._rows, None)
        return chunk


def load(path: Path) -> Content:
    """Return the samples of a file of columns, or of all segments in a directory.

    Raises:
        ConfigurationError: nothing can be read there.
        FormatError: a file is no file of columns, or cut short.
    """
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise ConfigurationError(f"{path} holds no .parquet file to replay")
    contents = []
    for file in files:
        try:
            contents.append(decode(file.read_bytes()))
        except OSError as error:
            raise ConfigurationError(f"cannot read {file}: {error.strerror}") from error
        except FormatError as error:
            raise FormatError(f"{file.name}: {error}", error.reason) from error
    return _joined(contents)


def open_recording(path: Path | None, speed: float, device: str | None = None) -> Replay:
    """Return the replay of one device of a recording, or of the made-up one.

    Raises:
        ConfigurationError: there is no such device, or several to choose from.
    """
    if path is None:
        name, rows = made_up(MADE_UP_S)
        return Replay(name, rows, speed)
    content = load(path)
    found = sorted({name for name, _ in content})
    if device is None and len(found) == 1:
        device = found[0]
    if device not in found:
        raise ConfigurationError(f"{path}: device {device}; it holds {', '.join(found)}")
    mine = {key: lane for key, lane in content.items() if key[0] == device}
    return Replay(device, (reading for _, reading in readings(mine)), speed)


def made_up(seconds: int, hz: int = 100) -> tuple[str, list[Reading]]:
    """Return device and samples of a recording that no sensor made."""
    t_ns = 0

    def now_ns() -> int:
        return t_ns

    source = NvmlSource(SimulatedNvml(now_ns, Load(CYCLE)), 0, 10**9 // hz, now_ns)
    due = [(group.period_ns, group.read) for group in source.groups]
    found: list[Reading] = []
    for beat in range(1, seconds * hz + 1):
        t_ns = beat * (10**9 // hz)
        found += _read_due(due, t_ns)
    return source.device, found


def _read_due(
    due: Iterable[tuple[int, Callable[[int], Sequence[Reading]]]], t_ns: int
) -> list[Reading]:
    return [reading for period, read in due if t_ns % period == 0 for reading in read(t_ns)]


def _joined(contents: Sequence[Content]) -> Content:
    """Return the samples of several files as one, in the order of the files."""
    keys = sorted({key for content in contents for key in content})
    joined = {}
    for key in keys:
        lanes = [content[key] for content in contents if key in content]
        times, values = (np.concatenate([lane[side] for lane in lanes]) for side in (0, 1))
        joined[key] = (times, values)
    return joined
