r"""Frames of a fast meter: what its bytes say. Pure: bytes in, blocks of samples out.

    stream = header || frame || frame ...
    header = "lydite/daq/v1\n" || u32 samples a second || u32 nanowatts a step || crc32 of these
    frame  = "LDAQ" || u32 number of the frame || u64 index of its first sample
             || u32 count || count times i32 || crc32 of the frame so far

Numbers are big-endian but for samples, which are little-endian as converters give them. A sample is
power in steps; it stands for the time from its own instant to the next sample's. Frames and samples
are numbered from 0, so that a loss shows. After bytes that are no frame the reader looks for the
next that is, and counts what it passed.
"""

import struct
import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lydite.errors import FormatError

RATES_HZ = (1_000, 10_000, 100_000)
MAX_SAMPLES = 65_536

_MAGIC = b"lydite/daq/v1\n"
_HEADER = struct.Struct(f">{len(_MAGIC)}sII")
_MARK = b"LDAQ"
_FRAME = struct.Struct(">4sIQI")
_CRC = struct.Struct(">I")
HEADER_BYTES = _HEADER.size + _CRC.size

Samples = NDArray[np.int64]


class Header(NamedTuple):
    """How samples are to be read."""

    rate_hz: int
    step_nw: int


class Block(NamedTuple):
    """One frame."""

    number: int
    first: int
    samples: Samples


def header(rate_hz: int, step_nw: int) -> bytes:
    """Return the header of a stream."""
    head = _HEADER.pack(_MAGIC, rate_hz, step_nw)
    return head + _CRC.pack(zlib.crc32(head))


def frame(number: int, first: int, samples: Samples) -> bytes:
    """Return one frame.

    Raises:
        FormatError: it would hold no sample, or more than a reader takes.
    """
    if not 0 < len(samples) <= MAX_SAMPLES:
        raise FormatError(f"fast meter: {len(samples)} samples in a frame")
    body = _FRAME.pack(_MARK, number, first, len(samples)) + samples.astype("<i4").tobytes()
    return body + _CRC.pack(zlib.crc32(body))


def parse_header(data: bytes) -> Header:
    """Parse the first ``HEADER_BYTES`` of a stream.

    Raises:
        FormatError: they are no header, or of a rate or step that no meter of ours has.
    """
    if len(data) != HEADER_BYTES or _CRC.unpack_from(data, _HEADER.size)[0] != zlib.crc32(
        data[: _HEADER.size]
    ):
        raise FormatError("fast meter: the stream does not begin with a header")
    magic, rate_hz, step_nw = _HEADER.unpack_from(data)
    if magic != _MAGIC or rate_hz not in RATES_HZ or not step_nw:
        raise FormatError(f"fast meter: {rate_hz} samples a second in steps of {step_nw} nW")
    return Header(rate_hz, step_nw)


class Reader:
    """Takes bytes as they come, however they are cut, and gives frames."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self.broken = 0
        """Bytes that are no frame."""

    def take(self, data: bytes) -> list[Block]:
        """Return the frames that are whole by now."""
        self._rest += data
        blocks: list[Block] = []
        at = 0
        while (length := self._length_at(at)) is not None:
            if length == 0:  # no frame begins here
                step = self._next_mark(at + 1) - at
                self.broken += step
                at += step
            elif len(self._rest) < at + length:
                break
            elif (block := self._block_at(at, length)) is None:
                self.broken += 1
                at += 1
            else:
                blocks.append(block)
                at += length
        del self._rest[:at]
        return blocks

    def end(self) -> int:
        """Return how many bytes of a frame that was cut short are left, and forget them."""
        left = len(self._rest)
        self._rest.clear()
        return left

    def _length_at(self, at: int) -> int | None:
        """Return the length of the frame at ``at``, 0 if none is, None if it is too soon to say."""
        head = bytes(self._rest[at : at + _FRAME.size])
        if head[: len(_MARK)] != _MARK[: len(head)]:
            return 0
        if len(head) < _FRAME.size:
            return None
        count = _FRAME.unpack(head)[3]
        return _FRAME.size + 4 * count + _CRC.size if 0 < count <= MAX_SAMPLES else 0

    def _next_mark(self, at: int) -> int:
        """Return where the next mark may begin: a part of one may stand at the end."""
        found = self._rest.find(_MARK, at)
        if found >= 0:
            return found
        for kept in range(len(_MARK) - 1, 0, -1):
            if self._rest.endswith(_MARK[:kept], at):
                return len(self._rest) - kept
        return len(self._rest)

    def _block_at(self, at: int, length: int) -> Block | None:
        body = bytes(self._rest[at : at + length - _CRC.size])
        if _CRC.unpack_from(self._rest, at + length - _CRC.size)[0] != zlib.crc32(body):
            return None
        _, number, first, _ = _FRAME.unpack_from(body)
        samples = np.frombuffer(body, "<i4", offset=_FRAME.size).astype(np.int64)
        return Block(number, first, samples)
