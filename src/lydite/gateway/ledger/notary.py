"""Signatures over unsalted digests, for clients that know the signature route of NEAR AI's proxies.

Such a client fetches ``/v1/signature/{chat_id}?signing_algo=ed25519`` and finds the SHA-256 of the
request body and of the answer's body, signed. Unlike our receipts those digests have no salt:
whoever holds them can try guesses of a short prompt. So they are kept in memory only, for a while
and a number of answers, are off unless the settings ask for them, and are given to nobody but who
presents the request's own Authorization, or its salt.
"""

import hashlib
import hmac
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from lydite.errors import FormatError, Reason, UnavailableError
from lydite.gateway import heads, wire
from lydite.gateway.heads import Fields
from lydite.gateway.ledger.receipts import Draft
from lydite.signing.keys import Signer

KEPT = 100_000
"""Most answers whose digests are kept."""
ALGORITHM = "ed25519"
_ID = re.compile(rb'"id"[ \t\r\n]*:[ \t\r\n]*"([A-Za-z0-9._-]{1,128})"')
_ID_WITHIN = 4096
_PREFIX = re.compile(r"[a-z]{1,16}[-_]")


class Signature(msgspec.Struct, frozen=True):
    """What the route answers, in the names that its clients know."""

    text: str
    signature: str
    signing_address: str
    signing_algo: str = ALGORITHM


_Handle = tuple[str, bytes]
"""An id that an answer gave itself, and a secret of whoever asked for it."""


class _Note(NamedTuple):
    text: str
    bearer: bytes
    salt: str
    until: float
    handles: tuple[_Handle, ...]


class Notary:
    """Keeps digests of the last answers. ``note`` may be called in another thread than ``sign``."""

    def __init__(self, signer: Signer, keep_s: float, clock: Callable[[], float]) -> None:
        self._signer = signer
        self._keep_s = keep_s
        self._clock = clock
        self._lock = threading.Lock()
        self._notes: OrderedDict[str, _Note] = OrderedDict()
        self._by_handle: dict[_Handle, str | None] = {}
        """Receipt ids; none where one asker has several answers of that id."""

    def note(self, draft: Draft, compact: bytes) -> None:
        """Keep the digests of one answer: of the bytes that came in, and of all that went out."""
        hasher = hashlib.sha256()
        for part in _delivered(draft, compact):
            hasher.update(part)
        asked = hashlib.sha256(draft.request).hexdigest()
        secrets = [draft.salt.hex().encode(), *([draft.bearer] if draft.bearer else ())]
        names = _names(draft.response)
        note = _Note(
            text=f"{asked}:{hasher.hexdigest()}",
            bearer=draft.bearer,
            salt=draft.salt.hex(),
            until=self._clock() + self._keep_s,
            handles=tuple((name, secret) for name in names for secret in secrets),
        )
        with self._lock:
            self._notes[draft.receipt_id] = note
            for handle in note.handles:
                taken = handle in self._by_handle
                self._by_handle[handle] = None if taken else draft.receipt_id
            self._forget()

    def sign(self, chat_id: str, query: str, fields: Fields) -> bytes:
        """Return the JSON that answers for one chat.

        Raises:
            FormatError: it asks for another algorithm.
            UnavailableError: nothing is kept of it, or nothing for who asks (``NOT_IN_LOG``); or
                several answers to who asks have that id (``CONFLICT``).
        """
        wanted = dict(each.partition("=")[::2] for each in query.lstrip("?").split("&"))
        if wanted.get("signing_algo") != ALGORITHM:
            raise FormatError(f"ask for signing_algo={ALGORITHM}; there is no other")
        with self._lock:
            self._forget()
            note = self._find(chat_id, fields)
        if note is None:
            raise UnavailableError(f"nothing is kept of chat {chat_id}", Reason.NOT_IN_LOG)
        return msgspec.json.encode(
            Signature(
                text=note.text,
                signature=self._signer.sign(note.text.encode()).hex(),
                signing_address=self._signer.public.hex(),
            )
        )

    def _find(self, chat_id: str, fields: Fields) -> _Note | None:
        """Return the asker's note by receipt id, with a prefix or bare, or by the answer's own id.

        Answers of others are as good as absent: engines choose ids, and may choose one twice.

        Raises:
            UnavailableError: several answers to this asker have that id (``CONFLICT``).
        """
        for receipt_id in (_PREFIX.sub("", chat_id, count=1), chat_id):
            note = self._notes.get(receipt_id)
            if note is not None and _may_see(note, fields):
                return note
        salt = b"".join(heads.values(fields, wire.SALT_HEADER))
        for secret in filter(None, (salt, heads.bearer_of(fields))):
            if (chat_id, secret) in self._by_handle:
                known = self._by_handle[chat_id, secret]
                if known is None:
                    raise UnavailableError(
                        f"several answers have the id {chat_id}; ask by receipt id", Reason.CONFLICT
                    )
                return self._notes.get(known)
        return None

    def _forget(self) -> None:
        """Drop what is too old or too much, oldest first."""
        now = self._clock()
        while self._notes:
            oldest = next(iter(self._notes.values()))
            if len(self._notes) <= KEPT and oldest.until > now:
                return
            receipt_id, _ = self._notes.popitem(last=False)
            for handle in oldest.handles:
                if self._by_handle.get(handle) in {receipt_id, None}:
                    self._by_handle.pop(handle, None)


def _may_see(note: _Note, fields: Fields) -> bool:
    """Say whether who asks sent the request's own Authorization, or knows its salt."""
    salt = b"".join(heads.values(fields, wire.SALT_HEADER))
    if hmac.compare_digest(salt, note.salt.encode()):
        return True
    return bool(note.bearer) and hmac.compare_digest(heads.bearer_of(fields), note.bearer)


def _delivered(draft: Draft, compact: bytes) -> Sequence[bytes]:
    """Return the body as the client has it: that of a stream with our comment in its last event."""
    if not draft.streamed or not draft.response:
        return draft.response
    *parts, last = draft.response
    return (*parts, wire.comment_line(compact), last)


def _names(response: Sequence[bytes]) -> tuple[str, ...]:
    """Return the id that an answer gives itself, if it gives one near its beginning."""
    start = b""
    for part in response:
        start += part[:_ID_WITHIN]
        if len(start) >= _ID_WITHIN:
            break
    found = _ID.search(start)
    return () if found is None else (found[1].decode(),)
