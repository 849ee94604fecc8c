"""Fetches what a gateway serves of a receipt, in bounded time and size.

A gateway may be hostile: it may drip bytes for ever, or send more than any statement has. Believes
nothing of what comes; knows nothing of promises.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from lydite.errors import FormatError, Reason, UnavailableError

MAX_BYTES: Final = 1 << 20
_GOOD: Final = 200


def fetch(
    library: Any, settings: dict[str, Any], timeout_s: float
) -> Callable[[str], bytes | None]:
    """Return a function that fetches a URL with ``library``, httpx or httpx2.

    It returns the body of a 200, ``None`` for any other status: an error, a redirection and a
    refusal are all answers of the gateway's without what was asked for. It raises an
    ``UnavailableError`` if there was no whole answer within ``timeout_s``, however steadily its
    bytes dripped in, and a ``FormatError`` if the answer has more than ``MAX_BYTES``.
    """

    def get(url: str) -> bytes | None:
        line = _Line(time.monotonic() + timeout_s)
        try:
            with line, library.Client(**settings, timeout=timeout_s) as client:
                asked = {
                    "headers": {"accept-encoding": "identity"},
                    "extensions": {"trace": line.trace},
                }
                with client.stream("GET", url, **asked) as answer:
                    return _body(answer, url) if answer.status_code == _GOOD else None
        except (library.HTTPError, library.InvalidURL) as error:
            raise UnavailableError(f"{url}: {error}") from error

    return get


def _body(answer: Any, url: str) -> bytes:
    body = bytearray()
    for part in answer.iter_raw():
        body += part
        if len(body) > MAX_BYTES:
            raise FormatError(f"{url}: more than {MAX_BYTES} bytes", Reason.TOO_LARGE)
    return bytes(body)


class _Line:
    """The connection of one exchange, cut at a deadline whatever it is doing then."""

    def __init__(self, deadline_s: float) -> None:
        self._timer = threading.Timer(deadline_s - time.monotonic(), self._cut)
        self._timer.daemon = True
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._over = False

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def trace(self, event: str, told: dict[str, Any]) -> None:
        """Take note of each connection that the library makes, plain or in TLS."""
        made = told.get("return_value")
        if event.startswith("connection.") and event.endswith(".complete") and made is not None:
            with self._lock:
                self._socket = made.get_extra_info("socket")
            if self._over:
                self._cut()

    def _cut(self) -> None:
        with self._lock:
            self._over = True
            if self._socket is not None:
                with contextlib.suppress(OSError):  # the other side was first
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
