"""A fast meter on a supply as a source: a file of frames, or a socket that sends them.

Samples come at 1, 10 or 100 kHz by the meter's own clock and leave on a slower grid: mean power of
each bin, and an energy counter that is exact. A loss begins the counter anew, as the energy of what
was lost is not known. The meter's clock is tied to ours once, when its first frame comes.
"""

import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from lydite.errors import ConfigurationError, FormatError, Reason, UnavailableError
from lydite.messages.segment import Clock
from lydite.monitor.readings import Group, Mishap, Reading, Tally
from lydite.monitor.sources.decimation import Bin, Decimator
from lydite.monitor.sources.frames import HEADER_BYTES, Header, Reader, parse_header

PERIOD_NS = 50_000_000
PIECE_BYTES = 1 << 18
CONNECT_S = 5.0
_NANO = 10**9


class Bytes(Protocol):
    """Where bytes come from."""

    patient: bool

    def read(self) -> bytes | None:
        """Return what is there, without waiting; None: nothing more will come."""

    def close(self) -> None:
        """Let go."""


class FileBytes:
    """A file that is read to its end."""

    patient = True

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error

    def read(self) -> bytes | None:
        """Return the next piece."""
        return self._file.read(PIECE_BYTES) or None

    def close(self) -> None:
        """Let go."""
        self._file.close()


class SocketBytes:
    """A connection to ``tcp://HOST:PORT`` or ``unix:PATH``."""

    patient = False

    def __init__(self, address: str) -> None:
        """Connect.

        Raises:
            ConfigurationError: no address of these forms.
            UnavailableError: nobody answers there.
        """
        try:
            self._socket = _connect(address)
        except OSError as error:
            raise UnavailableError(f"fast meter {address}: {error}", Reason.NOT_READ) from error
        self._socket.setblocking(False)

    def read(self) -> bytes | None:
        """Return what has arrived."""
        found = bytearray()
        while len(found) < PIECE_BYTES:
            try:
                piece = self._socket.recv(PIECE_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                raise UnavailableError(f"fast meter: {error}", Reason.NOT_READ) from error
            if not piece:
                return bytes(found) or None
            found += piece
        return bytes(found)

    def close(self) -> None:
        """Let go."""
        self._socket.close()


class Daq:
    """One fast meter, on the supply of one device."""

    kind = "daq"

    def __init__(
        self,
        source: Bytes,
        device: str,
        channel: str,
        grid_hz: int,
        now_ns: Callable[[], int] | None,
    ) -> None:
        """Read ``source`` on to a grid; without ``now_ns`` its own clock alone, from 0 on."""
        self.tally = Tally()
        self.device = device
        self.patient = source.patient
        self.clock: Clock = "recorded" if now_ns is None else "monotonic"
        self.ended = False
        self._source = source
        self._channel = channel
        self._grid_hz = grid_hz
        self._now_ns = now_ns
        self._head = b""
        self._header: Header | None = None
        self._reader = Reader()
        self._decimator = Decimator(1)
        self._zero_ns: int | None = None
        self._seen = (0, 0, 0)
        channels = (channel, "energy_j")
        period_ns = 0 if source.patient else PERIOD_NS
        self.groups = (Group("daq", period_ns, channels, self.read),)

    def close(self) -> None:
        """Let go of the meter."""
        self._source.close()

    def read(self, _now_ns: int) -> Sequence[Reading]:
        """Return the bins that are full by now."""
        data = self._source.read()
        if data is None:
            self._end()
            return ()
        if self._header is None:
            data = self._begin(data)
        found: list[Reading] = []
        for block in self._reader.take(data):
            if self._zero_ns is None:
                self._zero_ns = self._zero(block.first, len(block.samples))
            for each in self._decimator.take(block):
                found += self._readings(each)
        self._count()
        return found

    def _begin(self, data: bytes) -> bytes:
        """Take the header, once it is there, and return the bytes behind it."""
        self._head += data
        if len(self._head) < HEADER_BYTES:
            return b""
        self._header = parse_header(self._head[:HEADER_BYTES])
        if self._header.rate_hz % self._grid_hz:
            raise FormatError(
                f"fast meter: {self._header.rate_hz} Hz do not come down to {self._grid_hz} Hz"
            )
        self._decimator = Decimator(self._header.rate_hz // self._grid_hz)
        rest, self._head = self._head[HEADER_BYTES:], b""
        return rest

    def _zero(self, first: int, count: int) -> int:
        """Return when sample 0 was taken, if the first frame arrived as its last sample was."""
        if self._now_ns is None or self._header is None:
            return 0
        return self._now_ns() - (first + count) * _NANO // self._header.rate_hz

    def _readings(self, each: Bin) -> Sequence[Reading]:
        """Return mean power at a bin's end, and the energy up to there; nought where it begins."""
        if self._header is None or self._zero_ns is None:
            raise FormatError("fast meter: samples before a header")
        rate_hz, step_nw = self._header
        per_bin = rate_hz // self._grid_hz
        t_ns = self._zero_ns + (each.first + per_bin) * _NANO // rate_hz
        power_w = each.total * step_nw / (per_bin * _NANO)
        energy_j = each.whole * step_nw / (rate_hz * _NANO)  # whole numbers up to this division
        start_ns = self._zero_ns + each.first * _NANO // rate_hz
        begin = (Reading("energy_j", start_ns, 0.0),) if each.begins else ()
        ends = Reading(self._channel, t_ns, power_w), Reading("energy_j", t_ns, energy_j)
        return *begin, *ends

    def _end(self) -> None:
        self.ended = True
        self._decimator.end()
        if self._head or self._reader.end():
            self.tally.add(Mishap.BROKEN_FRAME)
        self._count()

    def _count(self) -> None:
        """Put what was lost since the last look into the tally."""
        now = (self._decimator.lost, self._decimator.repeated, self._reader.broken)
        kinds = (Mishap.LOST_FRAME, Mishap.DUPLICATE, Mishap.BROKEN_FRAME)
        for kind, count, before in zip(kinds, now, self._seen, strict=True):
            if count > before:
                self.tally.add(kind, count - before)
        self._seen = now


def _connect(address: str) -> socket.socket:
    parts = urlsplit(address)
    if parts.scheme == "unix" and parts.path:
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        found.settimeout(CONNECT_S)
        found.connect(parts.path)
        return found
    if parts.scheme != "tcp" or not parts.hostname or not parts.port:
        raise ConfigurationError(f"{address!r}: expected tcp://HOST:PORT or unix:PATH")
    return socket.create_connection((parts.hostname, parts.port), CONNECT_S)
