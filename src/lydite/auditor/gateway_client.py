"""What an auditor asks of a gateway over HTTP. Believes nothing: callers verify what comes back."""

import http.client
import json
import urllib.parse
from typing import Final, Protocol

from lydite.errors import ConfigurationError, FormatError, LyditeError, Reason, UnavailableError
from lydite.messages import opening
from lydite.messages.opening import Opening

MAX_ANSWER_BYTES: Final = 256 * 1024 * 1024


class Gateway(Protocol):
    """What an auditor asks of a gateway, wherever it is. Entries are counted from 1."""

    def checkpoint(self) -> bytes:
        """Return the newest signed note of the log."""

    def tile(self, path: str) -> bytes:
        """Return one tile or entry bundle by its C2SP path."""

    def envelope(self, digest: str) -> bytes:
        """Return the canonical envelope whose SHA-256 is ``digest``, in hexadecimal."""

    def open_epoch(self, epsilon_ppm: int) -> int:
        """Draw from everything logged since the last epoch and return the epoch's entry."""

    def opening(self, entry: int) -> Opening:
        """Return the opening of a drawn receipt."""

    def publish(self, envelope: bytes) -> int:
        """Log a signed audit record or result and return its entry."""


class GatewayClient:
    """One gateway by URL. Each call opens a connection, reads a bounded answer and closes it."""

    def __init__(self, url: str, token: str, timeout_s: float = 30.0) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in {"http", "https"} or parts.hostname is None:
            raise ConfigurationError(f"gateway URL {url!r} is not http(s)://HOST[:PORT]")
        self.url = url.rstrip("/")
        self._parts = parts
        self._token = token
        self._timeout_s = timeout_s

    def keys(self) -> dict[str, str]:
        """Return what the gateway says its public keys are: a hint, never an anchor."""
        answer: dict[str, str] = json.loads(self._ask("GET", "/v1/keys"))
        return answer

    def checkpoint(self) -> bytes:
        """Return the newest signed note of the log."""
        return self._ask("GET", "/v1/log/checkpoint")

    def tile(self, path: str) -> bytes:
        """Return one tile or entry bundle by its C2SP path."""
        return self._ask("GET", f"/v1/log/{path}")

    def envelope(self, digest: str) -> bytes:
        """Return the canonical envelope whose SHA-256 is ``digest``, in hexadecimal."""
        return self._ask("GET", f"/v1/log/envelopes/{digest}")

    def open_epoch(self, epsilon_ppm: int) -> int:
        """Have the gateway draw from everything logged since the last epoch; return its entry."""
        body = json.dumps({"epsilonPpm": epsilon_ppm}).encode()
        answer = json.loads(self._ask("POST", "/v1/audit/epochs", body, secret=True))
        return int(answer["index"])

    def opening(self, entry: int) -> Opening:
        """Return the opening of a drawn receipt."""
        return opening.parse(self._ask("GET", f"/v1/audit/openings/{entry}", secret=True))

    def publish(self, envelope: bytes) -> int:
        """Put a signed audit record or result into the log; return its 1-based entry."""
        return int(json.loads(self._ask("POST", "/v1/log/entries", envelope))["index"])

    def _ask(self, method: str, path: str, body: bytes = b"", *, secret: bool = False) -> bytes:
        kind = (
            http.client.HTTPSConnection
            if self._parts.scheme == "https"
            else http.client.HTTPConnection
        )
        headers = {"Content-Type": "application/json"}
        if secret:
            headers["Authorization"] = f"Bearer {self._token}"
        connection = kind(self._parts.netloc, timeout=self._timeout_s)
        try:
            connection.request(method, self._parts.path.rstrip("/") + path, body or None, headers)
            answer = connection.getresponse()
            content = answer.read(MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(f"gateway {self.url}: {method} {path}: {error}") from error
        finally:
            connection.close()
        if len(content) > MAX_ANSWER_BYTES:
            raise FormatError(f"gateway {self.url}: {path}: answer too large", Reason.TOO_LARGE)
        if answer.status != http.client.OK:
            raise _refusal(self.url, path, answer.status, content)
        return content


def _refusal(url: str, path: str, status: int, content: bytes) -> LyditeError:
    said = content[:300].decode("utf-8", "replace")
    return UnavailableError(f"gateway {url}: {path}: HTTP {status}: {said}")
