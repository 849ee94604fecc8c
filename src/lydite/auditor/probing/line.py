"""One OpenAI-compatible server, asked over HTTP. Believes nothing of what comes.

An answer has a bounded length and time; redirections are not followed, since they would take a key
to another server. A server that is busy is asked again after as long as it says. What it says is
never repeated where it may hold what it was sent.
"""

import http.client
import json
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from lydite.auditor.lines import connected
from lydite.errors import ConfigurationError, FormatError, Reason, UnavailableError, quoting

MAX_ANSWER_BYTES: Final = 8 << 20
CHAT, COMPLETIONS = "/chat/completions", "/completions"
_TRIES: Final = 4
_FIRST_WAIT_S: Final = 0.5
_WHOEVER = {401, 402, 403, 407}
"""Refusals of who asks, whatever is asked."""
_BUSY = {408, 425, 429, 500, 502, 503, 504, 529}


class Manners(msgspec.Struct, frozen=True, kw_only=True):
    """How a server is asked."""

    headers: Mapping[str, str] = {}
    """Sent with every request; a key among them is never printed."""
    timeout_s: float = 120.0
    """For one answer, from the connection on."""
    patience_s: float = 120.0
    """The longest that is waited, in all, for a server that is busy."""


class RefusedError(UnavailableError):
    """The server understood, and does not answer such a request."""

    reason = Reason.REFUSED

    def __init__(self, message: str, *, whoever: bool = False) -> None:
        """``whoever``: it is the asker that is refused, whatever is asked."""
        super().__init__(message)
        self.whoever = whoever


class Server:
    """One server by its URL, with or without ``/v1``."""

    def __init__(
        self, url: str, manners: Manners, wait: Callable[[float], None] = time.sleep
    ) -> None:
        """Take the URL; nothing is connected yet.

        Raises:
            ConfigurationError: no URL of HTTP.
        """
        try:
            parts = urllib.parse.urlsplit(url)
            self._port, host = parts.port, (parts.hostname or "").encode("idna").decode()
        except ValueError as error:
            why = quoting.why(url, error)
            raise ConfigurationError(f"URL {quoting.shown(url)!r}: {why}") from None
        if parts.scheme not in ("http", "https") or not host:
            shown = quoting.shown(url)
            raise ConfigurationError(f"URL {shown!r} is not http(s)://HOST[:PORT][/v1]")
        if any(not (f"{k}{v}".isascii() and f"{k}{v}".isprintable()) for k, v in _each(manners)):
            raise ConfigurationError("a header is not printable ASCII")
        path = parts.path.rstrip("/")
        self.url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}"
        self._path = path if path.endswith("/v1") else f"{path}/v1"
        self._secure, self._host = parts.scheme == "https", host
        self._manners, self._wait = manners, wait

    def models(self) -> list[str]:
        """Return the names of the models that the server says it has.

        Raises:
            UnavailableError: it does not say.
            FormatError: what it says is no list of models.
        """
        said = self._patiently("GET", "/models", None)
        try:
            return [one.id for one in msgspec.json.decode(said, type=_Models).data]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise FormatError(f"{self.url}: models: {error}") from error

    def post(self, path: str, fields: Mapping[str, Any]) -> bytes:
        """Return the body of the answer to ``fields``, asked again while the server is busy.

        Raises:
            RefusedError: the server refuses such a request.
            UnavailableError: no whole answer came in time.
            FormatError: what came is no JSON, or has no end within the limit.
        """
        return self._patiently("POST", path, json.dumps(fields).encode())

    def _patiently(self, method: str, path: str, body: bytes | None) -> bytes:
        left, wait_s = self._manners.patience_s, _FIRST_WAIT_S
        for tries in range(1, _TRIES + 1):
            try:
                return self._once(method, path, body)
            except _BusyError as busy:
                pause = wait_s if busy.retry_s is None else busy.retry_s
                if tries == _TRIES or pause > left:
                    raise UnavailableError(str(busy), busy.reason) from busy
                self._wait(pause)
                left -= pause
                wait_s *= 2
        raise AssertionError

    def _once(self, method: str, path: str, body: bytes | None) -> bytes:
        what = f"{self.url}: {path}"
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "Python-urllib/3",
            **self._manners.headers,
        }
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            with connected(
                self._secure, self._host, self._port, self._manners.timeout_s
            ) as connection:
                connection.request(method, self._path + path, body, headers)
                answer = connection.getresponse()
                return _content(answer, what, _Sent(self._manners.headers, body))
        except OSError as error:
            raise _BusyError(f"{what}: {error or type(error).__name__}", None) from error
        except (http.client.HTTPException, ValueError) as error:  # their words are the server's
            raise _BusyError(f"{what}: {type(error).__name__}", None) from None


class _BusyError(UnavailableError):
    """Nothing came, and may come if asked again; after ``retry_s`` seconds if the server says."""

    def __init__(self, message: str, retry_s: float | None, reason: Reason | None = None) -> None:
        super().__init__(message, reason)
        self.retry_s = retry_s


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


def _each(manners: Manners) -> list[tuple[str, str]]:
    return list(manners.headers.items())


class _Sent(NamedTuple):
    """What a server was sent, and must not make us print."""

    headers: Mapping[str, str]
    body: bytes | None


def _content(answer: http.client.HTTPResponse, what: str, sent: _Sent) -> bytes:
    """Return the body of an answer that is JSON and ends."""
    content = answer.read(MAX_ANSWER_BYTES + 1)
    said = quoting.quoted(content, sent.headers, sent.body)
    if answer.status in _BUSY:
        reason = Reason.BUSY if answer.status == http.client.TOO_MANY_REQUESTS else None
        message = f"{what}: HTTP {answer.status}: {said}"
        raise _BusyError(message, _retry(answer.headers.get("Retry-After")), reason)
    if 300 <= answer.status < 400:
        raise RefusedError(f"{what}: HTTP {answer.status}: redirections are not followed")
    if not 200 <= answer.status < 300:
        whoever = answer.status in _WHOEVER
        raise RefusedError(f"{what}: HTTP {answer.status}: {said}", whoever=whoever)
    if len(content) > MAX_ANSWER_BYTES:
        raise FormatError(f"{what}: no end within {MAX_ANSWER_BYTES} bytes", Reason.TOO_LARGE)
    if answer.length:
        raise _BusyError(f"{what}: the answer broke off", None)
    kind = answer.headers.get_content_type()
    if "json" not in kind:
        raise FormatError(f"{what}: an answer of {quoting.kind(kind)}: {said}")
    if quoting.repeats(content, sent.headers):
        raise FormatError(f"{what}: an answer that repeats a header it was sent, such as the key")
    return content


def _retry(said: str | None) -> float | None:
    """Return the seconds that a ``Retry-After`` asks for; dates are not waited for."""
    try:
        seconds = float(said or "")
    except ValueError:
        return None
    return seconds if 0.0 <= seconds < float("inf") else None
