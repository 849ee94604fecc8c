"""One OpenAI-compatible server that is measured: bounded answers, a total time for each.

Believes nothing of what comes back, nor repeats it where it may hold what was sent. Knows nothing
of what is asked.
"""

import contextlib
import http.client
import math
import socket
import threading
import time
import urllib.parse
from collections.abc import Mapping
from typing import Final

import msgspec

from lydite.errors import ConfigurationError, FormatError, UnavailableError, quoting

MAX_ANSWER_BYTES: Final = 8 << 20
_LEAST_S: Final = 0.1
"""What a connection may take, however little time is left."""
_KINDS: Final = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


class Server:
    """A server by URL; each call opens a connection and closes it."""

    def __init__(
        self,
        url: str,
        model: str | None = None,
        timeout_s: float = 60.0,
        until_s: float = math.inf,
    ) -> None:
        """Take the server at ``url``, and the ``model`` that it serves (None: the only one).

        A call takes ``timeout_s`` at most, and none goes on beyond ``until_s`` of
        ``time.monotonic``.

        Raises:
            ConfigurationError: no URL, or the server has several models and none is named.
            UnavailableError: it does not answer.
        """
        try:
            parts = urllib.parse.urlsplit(url)
            self._port = parts.port
        except ValueError as error:
            why = quoting.why(url, error)
            raise ConfigurationError(f"server URL {quoting.shown(url)!r}: {why}") from None
        if parts.scheme not in _KINDS or not parts.hostname:
            shown = quoting.shown(url)
            raise ConfigurationError(f"server URL {shown!r} is not http(s)://HOST[:PORT]")
        netloc = parts.netloc.rpartition("@")[2]
        self.url = f"{parts.scheme}://{netloc}{parts.path.rstrip('/')}"
        self._kind, self._host = _KINDS[parts.scheme], parts.hostname
        self._path = parts.path.rstrip("/").removesuffix("/v1")
        self._timeout_s, self._until_s = timeout_s, until_s
        self.model = model or self._only()

    def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
        """Return the body of the answer to a request, sent with ``headers``.

        Raises:
            UnavailableError: there is none in time, it is too long, or an error.
        """
        return self._call("POST", path, body, headers)

    def reach(self) -> None:
        """Find out whether anything listens there; what it says is asked later.

        Raises:
            UnavailableError: nothing does.
        """
        left_s = min(self._timeout_s, self._until_s - time.monotonic())
        connection = self._kind(self._host, self._port, timeout=max(left_s, _LEAST_S))
        try:
            connection.connect()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else None
            why = why or type(error).__name__
            raise UnavailableError(f"{self.url}: {why}; is the server up?") from None
        finally:
            connection.close()

    def _only(self) -> str:
        try:
            known = msgspec.json.decode(self._call("GET", "/v1/models", None), type=_Models).data
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise FormatError(f"{self.url}/v1/models: {error}") from error
        if len(known) != 1:
            raise ConfigurationError(f"{self.url} serves {len(known)} models; name one")
        return known[0].id

    def _call(
        self, method: str, path: str, body: bytes | None, more: Mapping[str, str] | None = None
    ) -> bytes:
        left_s = min(self._timeout_s, self._until_s - time.monotonic())
        if left_s <= 0:
            raise UnavailableError(f"{self.url}{path}: no time is left to ask")
        connection = self._kind(self._host, self._port, timeout=left_s)
        overdue = threading.Timer(left_s, lambda: _cut(connection))
        overdue.start()
        try:
            headers = {"Content-Type": "application/json", **(more or {})}
            connection.request(method, self._path + path, body, headers)
            answer = connection.getresponse()
            content = answer.read(MAX_ANSWER_BYTES + 1)
        except OSError as error:
            raise UnavailableError(f"{self.url}{path}: {error or type(error).__name__}") from error
        except (http.client.HTTPException, ValueError) as error:  # their words are the server's
            raise UnavailableError(f"{self.url}{path}: {type(error).__name__}") from None
        finally:
            overdue.cancel()
            connection.close()
        if len(content) > MAX_ANSWER_BYTES:
            raise UnavailableError(f"{self.url}{path}: more than {MAX_ANSWER_BYTES} bytes")
        if answer.status != 200:
            said = quoting.quoted(content, more or {}, body)
            raise UnavailableError(f"{self.url}{path}: HTTP {answer.status}: {said}")
        return bytes(content)


def _cut(connection: http.client.HTTPConnection) -> None:
    """End a connection whose time is up, whoever reads from it."""
    if connection.sock is not None:
        with contextlib.suppress(OSError):  # it is closed already
            connection.sock.shutdown(socket.SHUT_RDWR)
