"""A witness as a small HTTP service (C2SP tlog-witness v1.0.0), on the standard library alone.

``python -m lydite.tlog.witness_server --port 0 --name NAME --key FILE --state DIR --log VKEY``
prints one line of JSON, ``{"url": ..., "vkey": ...}``, when it is ready. It holds one file for
each log, which is on disk before the cosignature leaves. Decides nothing: ``witness`` does.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self, cast

from lydite.errors import FormatError, LyditeError, Reason, StorageError, VerificationError
from lydite.signing import keys, notes
from lydite.tlog import disk, witness

MAX_CONNECTIONS = 64
"""Most connections at one time; one more is closed at once."""
TIMEOUT_S = 10.0
"""Longest wait for a client to send or take something, and longest time for a whole request."""
MAX_EVIDENCE = 100
"""Most contradictory checkpoints that are kept."""

_POLL_S = 0.05

Say = Callable[[Mapping[str, object]], None]

_CHECKPOINT = re.compile(r"/([0-9a-f]{64})/checkpoint")


class Keeper:
    """What a witness has cosigned, on disk; reading, deciding and keeping are one step."""

    def __init__(
        self, identity: witness.Witness, state: Path, clock: Callable[[], int] | None = None
    ) -> None:
        """Keep the state of ``identity`` in the directory ``state``.

        ``clock`` returns POSIX seconds; the machine's own is the default.

        Raises:
            ConfigurationError: another process holds the directory.
            StorageError: the disk refused.
        """
        self._identity = identity
        self._state = state
        self._clock = clock or (lambda: int(time.time()))
        self._deciding = threading.Lock()
        with disk.failures("create the witness's state"):
            state.mkdir(parents=True, exist_ok=True)
        self._lock = disk.lock(state / "lock")

    @property
    def key(self) -> notes.VerifierKey:
        """Return the key that verifies this witness's cosignatures."""
        return self._identity.key

    def add_checkpoint(self, body: bytes) -> witness.Answer:
        """Answer one request; what it says to keep is durable before this returns.

        Raises:
            FormatError: the request is malformed (a 400).
            StorageError: the disk refused; the state is as it was, and nothing was cosigned.
        """
        request = witness.parse_request(body)
        name = _name(request.checkpoint.origin)
        with self._deciding:
            stored = self._stored(name)
            answer = witness.add_checkpoint(request, self._identity, stored, self._clock())
            if answer.keep is not None:
                disk.place(self._state / name, answer.keep.encode(), durable=True)
            if answer.evidence is not None and stored is not None:
                self._keep_evidence(stored.encode(), answer.evidence.encode())
        return answer

    def checkpoint(self, name: str) -> bytes | None:
        """Return the newest cosigned checkpoint of the log whose origin hashes to ``name``."""
        return disk.read(self._state / name)

    def close(self) -> None:
        """Let another process have the state."""
        os.close(self._lock)

    def _stored(self, name: str) -> notes.Note | None:
        """Return what we cosigned last for a log, which must bear our cosignature."""
        stored = self.checkpoint(name)
        try:
            note = None if stored is None else notes.parse(stored)
            if note is not None:
                notes.verify(note, [self.key])
        except (FormatError, VerificationError) as error:
            raise StorageError(f"state {name}: {error}", Reason.DAMAGED) from error
        return note

    def _keep_evidence(self, stored: bytes, other: bytes) -> None:
        """Keep two checkpoints of one size with different roots, both signed by their log."""
        folder = self._state / "evidence"
        with disk.failures("keep evidence"):
            folder.mkdir(exist_ok=True)
            if len(list(folder.iterdir())) < MAX_EVIDENCE:
                name = hashlib.sha256(stored + other).hexdigest()
                disk.place(folder / f"{name}.a", stored, durable=True)
                disk.place(folder / f"{name}.b", other, durable=True)


class WitnessServer:
    """A witness that answers on ``url`` from when it is entered until it is left."""

    def __init__(
        self, keeper: Keeper, host: str = "127.0.0.1", port: int = 0, say: Say | None = None
    ) -> None:
        """Bind to ``host`` and ``port``; port 0 takes a free one.

        ``say`` is given the fields of one line of the service's log for each answer.
        """
        self._server = _Server((host, port), keeper, say or (lambda _: None))
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), daemon=True
        )
        self._keeper = keeper
        self.url = f"http://{host}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._keeper.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, address: tuple[str, int], keeper: Keeper, say: Say) -> None:
        self.keeper = keeper
        self.say = say
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(address, _Handler)

    def process_request(self, request: object, client_address: object) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)  # type: ignore[arg-type]
        else:
            self.shutdown_request(request)  # type: ignore[arg-type]

    def process_request_thread(self, request: object, client_address: object) -> None:
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            self._places.release()

    def handle_error(self, *_: object) -> None:
        self.say({"event": "connection-failed", "error": repr(sys.exception())})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "lydite-witness"
    sys_version = ""
    timeout = TIMEOUT_S
    server: _Server

    def handle_one_request(self) -> None:
        """Answer a request, or hang up: from its first byte it has ``timeout`` seconds in all."""
        try:
            cast(io.BufferedReader, self.rfile).peek(1)
        except TimeoutError:
            self.close_connection = True
            return
        watch = threading.Timer(self.timeout, self._cut)
        watch.start()
        try:
            super().handle_one_request()
        finally:
            watch.cancel()
            watch.join()

    def _cut(self) -> None:
        """End what the thread of this connection waits for, however it drips."""
        with contextlib.suppress(OSError):  # the client was first
            self.connection.shutdown(socket.SHUT_RDWR)

    def do_POST(self) -> None:
        if self.path != "/add-checkpoint":
            return self._refuse(404, "there is only add-checkpoint")
        body = self._body()
        if body is None:
            return None
        try:
            answer = self.server.keeper.add_checkpoint(body)
        except FormatError as error:
            return self._refuse(400, str(error), reason=error.reason)
        except LyditeError as error:  # our disk or our state, not the client's fault
            return self._refuse(500, "the witness cannot answer now", reason=error.reason)
        return self._answer(answer.status, answer.body, answer.content_type)

    def do_GET(self) -> None:
        match = _CHECKPOINT.fullmatch(self.path)
        try:
            found = self.server.keeper.checkpoint(match[1]) if match else None
        except StorageError as error:
            return self._refuse(500, "the witness cannot answer now", reason=error.reason)
        if found is None:
            return self._refuse(404, "no such checkpoint")
        return self._answer(200, found)

    def log_message(self, *_: object) -> None:
        """Say nothing: each answer is logged once, by ``_answer``."""

    def _body(self) -> bytes | None:
        """Return the body, or None after refusing it."""
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,9}", length) or "Transfer-Encoding" in self.headers:
            self._refuse(411, "the length of the body must be given", close=True)
            return None
        if int(length) > witness.MAX_REQUEST_BYTES:
            self._refuse(413, f"more than {witness.MAX_REQUEST_BYTES} bytes", close=True)
            return None
        body = self.rfile.read(int(length))
        if len(body) != int(length):
            self._refuse(400, "the body broke off", close=True)
            return None
        return body

    def _refuse(self, status: int, why: str, *, reason: str = "", close: bool = False) -> None:
        self.close_connection = self.close_connection or close
        self._answer(status, f"{why}\n".encode(), reason=reason or why)

    def _answer(
        self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8", reason: str = ""
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        fields = {"event": "answered", "path": self.path, "status": status, "reason": reason}
        self.server.say(fields)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="lydite.tlog.witness_server", description="a witness")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind to")
    parser.add_argument("--port", type=int, default=0, help="port to bind to; 0 takes a free one")
    parser.add_argument("--name", required=True, help="name of the witness's key")
    parser.add_argument("--key", type=Path, required=True, help="file with the witness's key")
    parser.add_argument("--state", type=Path, required=True, help="directory of its own")
    parser.add_argument("--log", action="append", required=True, help="vkey of a log; may repeat")
    options = parser.parse_args(arguments)
    try:
        logs = tuple(notes.parse_key(vkey) for vkey in options.log)
        identity = witness.Witness(options.name, keys.load(options.key), logs)
        keeper = Keeper(identity, options.state)
        server = WitnessServer(keeper, options.host, options.port, _say)
    except LyditeError as error:
        sys.stderr.write(f"lydite: error: {error}\n")
        return 2
    except OSError as error:
        place = error.filename or f"{options.host}:{options.port}"
        sys.stderr.write(f"lydite: error: cannot use {place}: {error.strerror}\n")
        return 2
    with server, contextlib.suppress(KeyboardInterrupt):
        sys.stdout.write(json.dumps({"url": server.url, "vkey": str(identity.key)}) + "\n")
        sys.stdout.flush()
        threading.Event().wait()
    return 0


def _name(origin: str) -> str:
    return hashlib.sha256(origin.encode()).hexdigest()


def _say(fields: Mapping[str, object]) -> None:
    sys.stderr.write(json.dumps(fields) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
