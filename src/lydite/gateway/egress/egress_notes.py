"""What a gateway writes down about egress: notices, and the size and time of an exchange.

Does no I/O of its own and keeps no account.
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

import msgspec

from lydite.errors import ConfigurationError, Reason
from lydite.evidence.egress.profile import blob_bytes
from lydite.gateway.egress.accounts import Accounts
from lydite.gateway.egress.passage import packed
from lydite.gateway.ledger.pairs import Journal
from lydite.gateway.ledger.receipts import Draft, Stamp, timestamp
from lydite.messages import egress, receipt
from lydite.messages.canonical import encode
from lydite.messages.egress import Flow, Notice, NoticePredicate
from lydite.messages.statement import subject
from lydite.signing.dsse import KeyId, PublicKey, key_id
from lydite.signing.keys import sign_envelope

_LOOKED_AT_BYTES = 256 * 1024
_BYTE_MICRO = 8_000_000
_NOBODY = "unknown"


class Note(NamedTuple):
    """What a notice is about; an empty ``session`` stands for all."""

    event: egress.Event
    scope: egress.Scope
    session: str
    day: int
    entry: int
    reason: Reason


class _Usage(msgspec.Struct):
    completion_tokens: int = 0


class _Counted(msgspec.Struct):
    usage: _Usage | None = None


def notice(note: Note, amounts: tuple[int, int, int], now_ms: int, stamp: Stamp) -> bytes:
    """Return a signed notice; ``amounts`` are charged, waiting and budget in micro-bits."""
    session = note.session or "all"
    charged, waiting, budget = amounts
    statement = Notice(
        subject=subject("session", hashlib.sha256(session.encode()).digest()),
        predicate=NoticePredicate(
            event=note.event,
            scope=note.scope,
            session=session,
            day=note.day,
            charged_micro=charged,
            waiting_micro=waiting,
            budget_micro=budget,
            entry=note.entry,
            reason=note.reason,
            provider=stamp.provider.keyid,
            gateway=stamp.gateway.keyid,
            issued=timestamp(now_ms).decode(),
        ),
    )
    return sign_envelope(encode(statement), stamp.gateway)


def flow_of(draft: Draft) -> Flow:
    """Return what one exchange looks like from outside."""
    response = b"".join(draft.response)
    request, shown = draft.request[:_LOOKED_AT_BYTES], response[:_LOOKED_AT_BYTES]
    return Flow(
        at_ms=draft.received_ms,
        bytes_in=len(draft.request),
        bytes_out=len(response),
        packed_in=packed(draft.request),
        packed_out=packed(response),
        tokens=_tokens(draft, response),
        blobs=blob_bytes(request) + blob_bytes(shown),
    )


def seconds(text: str) -> int:
    """Return an RFC 3339 time in seconds since 1970."""
    return int(datetime.fromisoformat(text).timestamp())


def catch_up(accounts: Accounts, journal: Journal) -> None:
    """Charge the receipts that a loss of power left in the journal alone, by their length."""
    if not accounts.newest:  # nothing was metered yet
        return
    for number in range(accounts.newest + 1, len(journal) + 1):
        pair = journal.read(number)
        if pair.kind == "receipt":
            said = receipt.parse(pair.statement()).predicate
            day = seconds(said.timing.completed) // 86_400
            accounts.open(said.receipt_id, _NOBODY, day, 0)
            accounts.close(said.receipt_id, number, _BYTE_MICRO * said.response.length)


def _tokens(draft: Draft, response: bytes) -> int:
    """Return how many tokens an answer declares: its usage, else its events."""
    if draft.streamed:
        return response.count(b"\ndata: ")
    try:
        found = msgspec.json.decode(response, type=_Counted).usage
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0
    return 0 if found is None else max(found.completion_tokens, 0)


def keys_of(meters: tuple[str, ...]) -> Mapping[KeyId, PublicKey]:
    """Return the keys of meters by their ids.

    Raises:
        ConfigurationError: one of them is not a public key in hexadecimal.
    """
    found = {}
    for text in meters:
        if not re.fullmatch("[0-9a-f]{64}", text):
            raise ConfigurationError(f"meter key {text!r} is not 32 bytes in hexadecimal")
        public = PublicKey(bytes.fromhex(text))
        found[key_id(public)] = public
    return found
