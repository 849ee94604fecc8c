"""What an auditor asks of a gateway over HTTP. Believes nothing: callers verify what comes back.

A gateway may be hostile: an answer has a bounded length that it states, and each call a total time.
"""

import http.client
import urllib.parse
from contextlib import AbstractContextManager
from typing import Annotated, Final, Protocol

import msgspec

from lydite.auditor.lines import connected
from lydite.errors import ConfigurationError, FormatError, Reason, UnavailableError, quoting
from lydite.evidence.egress.claims import Outflow
from lydite.messages import opening
from lydite.messages.canonical import SAFE_INTEGER, UNREADABLE, decode
from lydite.messages.opening import Opening

MAX_ANSWER_BYTES: Final = 256 * 1024 * 1024
_SAID_BYTES: Final = 300
_STATEMENT_BYTES: Final = 1 << 20
_SCHEMES: Final = ("http", "https")


class Gateway(Protocol):
    """What an auditor asks of a gateway, wherever it is. Entries are counted from 1."""

    def checkpoint(self) -> bytes:
        """Return the newest signed note of the log."""

    def tile(self, path: str) -> bytes:
        """Return one tile or entry bundle by its C2SP path."""

    def envelope(self, number: int) -> bytes:
        """Return the canonical envelope behind the 1-based entry ``number``."""

    def open_epoch(self, epsilon_ppm: int) -> int:
        """Draw from everything logged since the last epoch and return the epoch's entry."""

    def opening(self, entry: int) -> Opening:
        """Return the opening of a drawn receipt."""

    def publish(self, envelope: bytes) -> int:
        """Log a signed audit record or result and return its entry."""


class _Fault(msgspec.Struct):
    message: str
    code: str


class _Refusal(msgspec.Struct):
    error: _Fault


class _Entered(msgspec.Struct, frozen=True):
    """The part of an answer that says where something is in the log."""

    index: Annotated[int, msgspec.Meta(ge=1, le=SAFE_INTEGER)]


class GatewayClient:
    """One gateway by URL. Each call opens a connection, reads a bounded answer and closes it.

    A call that has no whole answer within ``timeout_s`` raises an ``UnavailableError``, however
    steadily its bytes drip in.
    """

    def __init__(self, url: str, token: str, timeout_s: float = 60.0) -> None:
        try:
            parts = urllib.parse.urlsplit(url)
            port = parts.port
            (parts.hostname or "").encode("idna")
        except ValueError as error:
            raise ConfigurationError(
                f"gateway URL {quoting.shown(url)!r}: {quoting.why(url, error)}"
            ) from None
        if parts.scheme not in _SCHEMES or not parts.hostname:
            raise ConfigurationError(
                f"gateway URL {quoting.shown(url)!r} is not http(s)://HOST[:PORT]"
            )
        self.url = quoting.shown(url).rstrip("/")
        if not (token.isascii() and token.isprintable()):
            raise ConfigurationError("the gateway's token is not printable ASCII")
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, port
        self._path = parts.path.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s

    def checkpoint(self) -> bytes:
        """Return the newest signed note of the log."""
        return self._ask("GET", "/v1/log/checkpoint")

    def tile(self, path: str) -> bytes:
        """Return one tile or entry bundle by its C2SP path."""
        return self._ask("GET", f"/v1/log/{path}")

    def envelope(self, number: int) -> bytes:
        """Return the canonical envelope behind the 1-based entry ``number``."""
        return self._ask("GET", f"/v1/log/envelopes/{number}")

    def open_epoch(self, epsilon_ppm: int) -> int:
        """Have the gateway draw from everything logged since the last epoch; return its entry."""
        body = msgspec.json.encode({"epsilonPpm": epsilon_ppm})
        return self._entry("/v1/audit/epochs", body, secret=True)

    def opening(self, entry: int) -> Opening:
        """Return the opening of a drawn receipt."""
        return opening.parse(self._ask("GET", f"/v1/audit/openings/{entry}", secret=True))

    def receipt(self, receipt_id: str) -> bytes:
        """Return what the gateway serves of one receipt: envelope, entry, and proof if any."""
        return self._ask("GET", f"/v1/receipts/{receipt_id}")

    def statement(self, receipt_id: str) -> bytes | None:
        """Return the same for a client: ``None`` for any status but 200, whatever comes with it.

        Raises:
            UnavailableError: there was no whole answer in time.
            FormatError: it is longer than any statement.
        """
        what = f"gateway {self.url}: receipt {receipt_id}"
        try:
            with self._connected() as connection:
                connection.request("GET", f"{self._path}/v1/receipts/{receipt_id}")
                answer = connection.getresponse()
                if answer.status != http.client.OK:
                    return None
                content = answer.read(_STATEMENT_BYTES + 1)
                if len(content) > _STATEMENT_BYTES:
                    raise FormatError(f"{what}: answer too large", Reason.TOO_LARGE)
                if answer.length:
                    raise http.client.IncompleteRead(content, answer.length)
                return content
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(f"{what}: {error}") from error

    def chosen_opening(self, receipt_id: str, salt: str) -> Opening:
        """Return the opening of a receipt whose client gave its ``salt``, in hexadecimal."""
        body = msgspec.json.encode({"salt": salt})
        return opening.parse(
            self._ask("POST", f"/v1/receipts/{receipt_id}/opening", body, secret=True)
        )

    def publish(self, envelope: bytes) -> int:
        """Put a signed audit record or result into the log; return its 1-based entry."""
        return self._entry("/v1/log/entries", envelope)

    def instruct(self, envelope: bytes) -> bytes:
        """Give officers' signed instruction to the gateway; return its outcome's envelope."""
        return self._ask("POST", "/v1/admin/instructions", envelope)

    def unscored(self) -> list[int]:
        """Return the entries that wait for an egress score, in order."""
        answer = self._ask("GET", "/v1/egress/unscored", secret=True)
        try:
            return msgspec.json.decode(answer, type=list[int])
        except UNREADABLE as error:
            raise FormatError(f"gateway {self.url}: unscored: {error}") from error

    def outflow(self, entry: int) -> Outflow:
        """Return the gateway's note on an answer that waits for an egress score."""
        answer = self._ask("GET", f"/v1/egress/openings/{entry}", secret=True)
        return decode(answer, Outflow, limit=MAX_ANSWER_BYTES)

    def score(self, envelope: bytes) -> None:
        """Hand in a signed egress score."""
        self._ask("POST", "/v1/egress/scores", envelope)

    def _entry(self, path: str, body: bytes, *, secret: bool = False) -> int:
        answer = self._ask("POST", path, body, secret=secret)
        try:
            return msgspec.json.decode(answer, type=_Entered).index
        except UNREADABLE as error:
            raise FormatError(f"gateway {self.url}: {path}: {error}") from error

    def _ask(self, method: str, path: str, body: bytes = b"", *, secret: bool = False) -> bytes:
        headers = {"Content-Type": "application/json"}
        if secret:
            headers["Authorization"] = f"Bearer {self._token}"
        what = f"gateway {self.url}: {path}"
        try:
            with self._connected() as connection:
                connection.request(method, self._path + path, body or None, headers)
                return _content(connection.getresponse(), what)
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(f"{what}: {error}") from error

    def _connected(self) -> AbstractContextManager[http.client.HTTPConnection]:
        return connected(self._secure, self._host, self._port, self._timeout_s)


def _content(answer: http.client.HTTPResponse, what: str) -> bytes:
    """Return the body of an answer that says how long it is, and is.

    Raises:
        FormatError: it does not say, or it is too long.
        UnavailableError: it broke off, or is a refusal.
    """
    length = answer.length
    if answer.status != http.client.OK:
        said = answer.read(min(length or 0, _SAID_BYTES))
        raise _refusal(said, f"{what}: HTTP {answer.status}")
    if length is None:
        raise FormatError(f"{what}: an answer that does not say how long it is")
    if length > MAX_ANSWER_BYTES:
        raise FormatError(f"{what}: answer too large", Reason.TOO_LARGE)
    content = answer.read(length)
    if len(content) != length:
        raise UnavailableError(f"{what}: {len(content)} of {length} bytes came")
    return content


def _refusal(said: bytes, what: str) -> UnavailableError:
    """Return what a gateway's refusal says, with its published reason where it gives one."""
    try:
        fault = msgspec.json.decode(said, type=_Refusal).error
        return UnavailableError(f"{what}: {fault.message}", Reason(fault.code))
    except (*UNREADABLE, ValueError):
        return UnavailableError(f"{what}: {said.decode('utf-8', 'replace')!r}")
