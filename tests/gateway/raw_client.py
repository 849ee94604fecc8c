"""A client that sends exactly the bytes it is told to, and reads one answer as it is framed."""

import json
import socket
from typing import Any, NamedTuple

from tests.gateway.scripted_engine import script

CHAT = b"/v1/chat/completions"


class Got(NamedTuple):
    """An answer; ``whole`` says whether its framing was complete."""

    status: int
    fields: dict[bytes, bytes]
    body: bytes
    whole: bool


def post(path: bytes, body: bytes, fields: bytes = b"") -> bytes:
    head = b"POST %s HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n" % path
    return head + fields + b"Content-Length: %d\r\n\r\n" % len(body) + body


def get(path: bytes, fields: bytes = b"") -> bytes:
    return b"GET %s HTTP/1.1\r\nHost: test\r\n%s\r\n" % (path, fields)


class Wire:
    """One connection."""

    def __init__(self, port: int, timeout_s: float = 10) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self._buffer = b""

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, data: bytes) -> Got:
        self.send(data)
        return self.read()

    def closed(self) -> bool:
        """Read to the end and say that there was nothing more."""
        try:
            return self._buffer + self.socket.recv(1) == b""
        except ConnectionError:
            return True

    def read(self) -> Got:
        head = self._until(b"\r\n\r\n")
        first, *lines = head[:-4].split(b"\r\n")
        fields = {}
        for line in lines:
            name, _, value = line.partition(b":")
            fields[name.lower()] = value.strip()
        status = int(first.split()[1])
        if fields.get(b"transfer-encoding") == b"chunked":
            body, whole = self._chunks()
        elif b"content-length" in fields:
            body = self._exactly(int(fields[b"content-length"]))
            whole = len(body) == int(fields[b"content-length"])
        else:
            body, whole = self._rest(), True
        return Got(status, fields, body, whole)

    def _chunks(self) -> tuple[bytes, bool]:
        body = b""
        while True:
            line = self._until(b"\r\n")
            if not line:
                return body, False
            size = int(line, 16)
            chunk = self._exactly(size + 2)
            if len(chunk) < size + 2:
                return body + chunk, False
            if size == 0:
                return body, True
            body += chunk[:-2]

    def _more(self) -> bool:
        try:
            data = self.socket.recv(1 << 20)
        except ConnectionError:
            return False
        self._buffer += data
        return bool(data)

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            if not self._more():
                return b""
        head, _, self._buffer = self._buffer.partition(mark)
        return head + mark

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size and self._more():
            pass
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _rest(self) -> bytes:
        while self._more():
            pass
        data, self._buffer = self._buffer, b""
        return data


def ask(port: int, data: bytes) -> Got:
    with Wire(port) as wire:
        return wire.ask(data)


def play(port: int, raw: bytes, path: bytes = CHAT, **how: Any) -> tuple[bytes, Got]:
    """Have the engine answer ``raw`` and return the request's body and what came of it."""
    body = json.dumps(script(raw, **how)).encode()
    return body, ask(port, post(path, body))
