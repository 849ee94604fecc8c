"""Sends a model directory to a gateway's upload port, and reads what became of it.

Knows nothing of whitelists: whether the bytes are taken is the gateway's business.
"""

import contextlib
import http.client
import io
import re
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, cast
from urllib.parse import SplitResult, urlsplit

import msgspec

from lydite.engines.weights import Algorithm, files_of, measure
from lydite.errors import ConfigurationError, UnavailableError
from lydite.messages.canonical import UNREADABLE

_SLICE_BYTES = 4 << 20
_CONNECT_S = 10.0
_ANSWER_BYTES = 1 << 20


class Outcome(NamedTuple):
    """What became of an upload: ``mode`` is ``serving``, or nothing is served and why."""

    status: int
    mode: str | None
    reason: str | None
    message: str
    sent: int
    """Bytes that left before the answer came."""
    size: int
    seconds: float

    @property
    def serving(self) -> bool:
        """Whether the model is served now."""
        return self.status == 200 and self.mode == "serving"


class _Fault(msgspec.Struct):
    message: str
    code: str


class _Answer(msgspec.Struct):
    mode: str | None = None
    error: _Fault | None = None


def send(
    directory: Path,
    url: str,
    *,
    algorithm: Algorithm = "sha256",
    token: str | None = None,
    root: str | None = None,
    progress: Callable[[int, int], None] = lambda _done, _size: None,
    patience_s: float = 900.0,
    ca_file: Path | None = None,
) -> Outcome:
    """Upload ``directory`` to the upload port at ``url`` and wait until it serves, or does not.

    ``root`` is what the upload claims to be, measured by ``algorithm`` if not given; ``progress``
    is told how many bytes of how many have left, and ``ca_file`` says whose certificates count.

    Raises:
        ConfigurationError: no model, or no usable address.
        UnavailableError: the gateway cannot be reached or does not answer.
    """
    paths = files_of(directory)
    size = sum(path.stat().st_size for path in paths)
    where = urlsplit(url)
    claimed = measure(directory, algorithm).root if root is None else root
    started = time.monotonic()
    with _connect(where, ca_file) as peer:
        sent, heard = 0, bytearray()
        with contextlib.suppress(ConnectionError, ssl.SSLError):  # the answer says why
            peer.sendall(_head(where, claimed, size, token))
            for done in _pour(peer, paths, heard):
                sent = done
                progress(done, size)
        peer.settimeout(patience_s)
        status, body = _answer(peer, heard, url)
    said = _parsed(body)
    return Outcome(
        status=status,
        mode=said.mode,
        reason=None if said.error is None else said.error.code,
        message="" if said.error is None else said.error.message,
        sent=sent,
        size=size,
        seconds=time.monotonic() - started,
    )


def _connect(where: SplitResult, ca_file: Path | None) -> socket.socket:
    if where.scheme not in {"http", "https"} or not where.hostname:
        raise ConfigurationError(f"{where.geturl()!r} is not http(s)://HOST:PORT")
    secure = where.scheme == "https"
    try:
        address = (where.hostname, where.port or (443 if secure else 80))
        peer = socket.create_connection(address, timeout=_CONNECT_S)
        peer.settimeout(None)
        if secure:
            context = ssl.create_default_context(cafile=ca_file)
            return context.wrap_socket(peer, server_hostname=where.hostname)
    except (OSError, ValueError) as error:
        raise UnavailableError(f"{where.geturl()}: {error}") from error
    return peer


def _head(where: SplitResult, root: str, size: int, token: str | None) -> bytes:
    lines = [f"PUT /v1/upload/{root} HTTP/1.1", f"host: {where.netloc}", f"content-length: {size}"]
    if token is not None:
        lines.append(f"authorization: Bearer {token}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _pour(peer: socket.socket, paths: Sequence[Path], heard: bytearray) -> Iterator[int]:
    """Send files slice by slice and yield how much has left.

    Stops once there is an answer, whose beginning is then in ``heard``.
    """
    done = 0
    for path in paths:
        size, offset = path.stat().st_size, 0
        with path.open("rb") as file:
            while offset < size:
                heard += _overheard(peer)
                if heard:
                    return
                sent = peer.sendfile(file, offset, min(_SLICE_BYTES, size - offset))
                if not sent:  # the file shrank
                    return
                offset += sent
                done += sent
                yield done


def _overheard(peer: socket.socket) -> bytes:
    """Return what has come already; what TLS says to itself is nothing."""
    if not select.select([peer], [], [], 0)[0]:
        return b""
    peer.setblocking(False)
    try:
        return peer.recv(_ANSWER_BYTES)
    except (BlockingIOError, ssl.SSLWantReadError):
        return b""
    finally:
        peer.setblocking(True)


class _Heard:
    """Bytes that a parser of answers takes for a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        """Return the bytes."""
        return io.BytesIO(self._data)


def _answer(peer: socket.socket, heard: bytearray, url: str) -> tuple[int, bytes]:
    """Read an answer to its end and return its status and body."""
    try:
        while not _is_whole(heard) and len(heard) < _ANSWER_BYTES:
            more = peer.recv(_ANSWER_BYTES)
            if not more:
                break
            heard += more
        response = http.client.HTTPResponse(cast(socket.socket, _Heard(bytes(heard))))
        response.begin()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise UnavailableError(f"{url}: no answer: {error}") from error


def _is_whole(heard: bytearray) -> bool:
    head, blank, body = bytes(heard).partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    return bool(blank) and length is not None and len(body) >= int(length[1])


def _parsed(body: bytes) -> _Answer:
    try:
        return msgspec.json.decode(body, type=_Answer)
    except UNREADABLE as error:
        raise UnavailableError(f"the answer is not one of an upload port: {error}") from error
