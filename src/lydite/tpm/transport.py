"""How commands reach a TPM: a kernel device, or the socket of a software TPM. Locality 0.

Moves bytes and knows none of them but the length in each header.
"""

import contextlib
import os
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from lydite.errors import ConfigurationError, DeviceError, Reason

TIMEOUT_S = 60.0
"""Longer than any TPM takes for the commands that are sent here."""
_HEADER_BYTES = 10
_ANSWER_BYTES = 4096


class Transport(Protocol):
    """Carries one command at a time."""

    managed: bool
    """Whether a resource manager flushes what this connection leaves loaded."""

    def transmit(self, command: bytes) -> bytes:
        """Send a command and return its answer, header included.

        Raises:
            DeviceError: nothing answers, or not in time.
        """

    def close(self) -> None:
        """Let go of the TPM."""


@contextlib.contextmanager
def connect(address: str, timeout_s: float = TIMEOUT_S) -> Iterator[Transport]:
    """Yield a connection to ``/dev/NAME``, ``unix:PATH`` or ``tcp:HOST:PORT``, then close it.

    Raises:
        ConfigurationError: the address is of no such form.
        DeviceError: nothing is there, or it is not ours to open.
    """
    with _failures(address):
        transport = _open(address, timeout_s)
    try:
        yield transport
    finally:
        transport.close()


def _open(address: str, timeout_s: float) -> Transport:
    if address.startswith("/"):
        return Device(Path(address), timeout_s)
    kind, _, place = address.partition(":")
    host, _, port = place.rpartition(":")
    if kind == "unix" and place:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        link.settimeout(timeout_s)
        try:
            link.connect(place)
        except OSError:
            link.close()
            raise
        return Socket(link, address, timeout_s)
    if kind == "tcp" and host and port.isdecimal():
        return Socket(socket.create_connection((host, int(port)), timeout_s), address, timeout_s)
    raise ConfigurationError(f"TPM {address!r} is not /dev/NAME, unix:PATH or tcp:HOST:PORT")


class Device:
    """A character device of the kernel; ``/dev/tpmrm0`` has a resource manager."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._path, self._timeout_s = path, timeout_s
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.managed = "tpmrm" in path.name

    def transmit(self, command: bytes) -> bytes:
        """Send a command and return its answer."""
        with _failures(str(self._path)):
            os.write(self._file, command)
            poll = select.poll()
            poll.register(self._file, select.POLLIN)
            if not poll.poll(self._timeout_s * 1000):
                raise TimeoutError(f"no answer within {self._timeout_s} s")
            return os.read(self._file, _ANSWER_BYTES)

    def close(self) -> None:
        """Close the device."""
        os.close(self._file)


class Socket:
    """The data channel of a software TPM, which serves one connection at a time."""

    managed = False

    def __init__(self, link: socket.socket, address: str, timeout_s: float) -> None:
        self._link, self._address, self._timeout_s = link, address, timeout_s

    def transmit(self, command: bytes) -> bytes:
        """Send a command and return its answer."""
        deadline = time.monotonic() + self._timeout_s
        with _failures(self._address):
            self._link.settimeout(self._timeout_s)
            self._link.sendall(command)
            header = self._receive(_HEADER_BYTES, deadline)
            length = int.from_bytes(header[2:6], "big")
            if not _HEADER_BYTES <= length <= _ANSWER_BYTES:
                raise DeviceError(f"an answer of {length} bytes", Reason.MALFORMED)
            return header + self._receive(length - _HEADER_BYTES, deadline)

    def _receive(self, count: int, deadline: float) -> bytes:
        taken = b""
        while len(taken) < count:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"no answer within {self._timeout_s} s")
            self._link.settimeout(left_s)
            piece = self._link.recv(count - len(taken))
            if not piece:
                raise ConnectionResetError("it hung up")
            taken += piece
        return taken

    def close(self) -> None:
        """Close the connection."""
        self._link.close()


@contextlib.contextmanager
def _failures(address: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DeviceError(f"no TPM at {address}: {error.strerror or error}") from error
