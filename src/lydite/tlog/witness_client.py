"""How a log asks a witness for its cosignature (C2SP tlog-witness v1.0.0).

Trusts nothing that a witness answers but a cosignature that verifies. Knows nothing of how a
proof is made: that is an argument.
"""

import http.client
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from lydite.errors import (
    ConfigurationError,
    FormatError,
    Reason,
    UnavailableError,
    VerificationError,
)
from lydite.signing import notes
from lydite.tlog import checkpoint as checkpoints
from lydite.tlog.witness import SIZE_TYPE, Request

MAX_TRIES = 4
"""Most requests for one cosignature: the first, and one for each 409 that corrects us."""

Prove = Callable[[int, int], Sequence[bytes]]
"""Given two sizes of the log, return the consistency proof between them."""

_REASONS = {
    400: Reason.MALFORMED,
    403: Reason.BAD_SIGNATURE,
    404: Reason.WRONG_ORIGIN,
    422: Reason.INCONSISTENT_LOG,
}


class WitnessClient:
    """One witness, by URL and key. Remembers which size it cosigned last; for one thread."""

    def __init__(self, url: str, key: notes.VerifierKey, timeout_s: float = 5.0) -> None:
        """Talk to the witness with submission prefix ``url``, each step within ``timeout_s``.

        Raises:
            ConfigurationError: the URL or the key cannot be a witness's.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(f"witness: {url} is not an http or https URL")
        if key.kind is not notes.Kind.COSIGNATURE:
            raise ConfigurationError(f"witness: {key.name} is not a cosignature key")
        kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        self._connection = kinds[parts.scheme](parts.hostname, parts.port, timeout=timeout_s)
        self._path = parts.path.rstrip("/") + "/add-checkpoint"
        self._key = key
        self._last_size = 0

    @property
    def key(self) -> notes.VerifierKey:
        """Return the key that the witness's cosignatures must verify under."""
        return self._key

    def cosign(self, checkpoint: bytes, prove: Prove) -> notes.Signature:
        """Return the witness's cosignature over the signed ``checkpoint``, verified.

        Raises:
            UnavailableError: the witness could not be reached or did not answer in form, or it
                has already seen a larger checkpoint (``CONFLICT``).
            VerificationError: it refused our checkpoint, or its cosignature does not verify.
        """
        note = notes.parse(checkpoint)
        head = checkpoints.parse(note.text)
        for _ in range(MAX_TRIES):
            old = min(self._last_size, head.size)
            path = tuple(prove(old, head.size))
            status, kind, body = self._post(Request(old, path, note, head).encode())
            if status != 409 or kind != SIZE_TYPE:
                break
            self._last_size = self._parse_size(body)
            if self._last_size > head.size:
                raise UnavailableError(
                    f"witness {self._key.name} has seen size {self._last_size},"
                    f" ours is {head.size}",
                    Reason.CONFLICT,
                )
        else:
            raise UnavailableError(
                f"witness {self._key.name} corrected us {MAX_TRIES} times", Reason.CONFLICT
            )
        cosignature = self._read(note, status, body)
        self._last_size = head.size
        return cosignature

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _post(self, body: bytes) -> tuple[int, str, bytes]:
        """Return status, content type and body (at most the length of a note)."""
        kept = self._connection.sock is not None
        try:
            self._connection.request("POST", self._path, body, {"Content-Type": "text/plain"})
            response = self._connection.getresponse()
            answer = response.read(notes.MAX_NOTE_BYTES + 1)
            if len(answer) > notes.MAX_NOTE_BYTES:
                self._connection.close()
            return response.status, response.headers.get_content_type(), answer
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()  # the next request opens a new one
            if kept and isinstance(error, ConnectionError):  # it was idle, and closed by now
                return self._post(body)
            raise UnavailableError(f"witness {self._key.name}: {error!r}") from error

    def _parse_size(self, body: bytes) -> int:
        try:
            return checkpoints.parse_decimal(body.removesuffix(b"\n"))
        except FormatError as error:
            raise UnavailableError(f"witness {self._key.name}: {error}") from error

    def _read(self, note: notes.Note, status: int, body: bytes) -> notes.Signature:
        """Return the cosignature in an answer; lines by keys that are not this one are ignored."""
        who = f"witness {self._key.name}"
        if status in _REASONS:
            said = body[:200].decode(errors="replace").strip()
            raise VerificationError(_REASONS[status], f"{who} refused: {status} {said}")
        if status != 200 or len(body) > notes.MAX_NOTE_BYTES:
            raise UnavailableError(f"{who} answered {status} with {len(body)} bytes")
        try:
            lines = notes.parse_signatures(body)
            ours = [
                line
                for line in lines
                if (line.name, line.key_id) == (self._key.name, self._key.key_id)
            ]
            if len(ours) == 1:
                notes.verify_signature(note.text, ours[0], self._key)
                return ours[0]
        except FormatError as error:
            raise UnavailableError(f"{who}: {error}") from error
        raise UnavailableError(f"{who} sent {len(ours)} cosignatures by its key, expected one")
