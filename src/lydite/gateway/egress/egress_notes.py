"""What a gateway writes down about egress: notices, and the size and time of an exchange.

Does no I/O of its own and keeps no account.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

import msgspec

from lydite.errors import ConfigurationError, LyditeError, Reason
from lydite.evidence.egress.profile import blob_bytes
from lydite.gateway.egress.accounts import Accounts
from lydite.gateway.egress.chain import Anchor
from lydite.gateway.egress.passage import packed
from lydite.gateway.ledger.pairs import Journal
from lydite.gateway.ledger.receipts import Draft, Stamp, timestamp
from lydite.messages import egress, receipt
from lydite.messages.canonical import encode
from lydite.messages.egress import (
    Flow,
    Notice,
    NoticePredicate,
    Standing,
    StandingPredicate,
)
from lydite.messages.statement import subject
from lydite.signing.dsse import KeyId, PublicKey, key_id, open_envelope
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


def standing(at: Anchor, now_ms: int, stamp: Stamp, *, renewed: bool) -> bytes:
    """Return a signed statement on how far the accounts have come."""
    statement = Standing(
        subject=subject("accounts", at.code),
        predicate=StandingPredicate(
            lines=at.lines,
            code=at.code.hex(),
            renewed=renewed,
            provider=stamp.provider.keyid,
            gateway=stamp.gateway.keyid,
            issued=timestamp(now_ms).decode(),
        ),
    )
    return sign_envelope(encode(statement), stamp.gateway)


def anchor_of(journal: Journal, stamp: Stamp) -> Anchor | None:
    """Return how far the accounts had come when the log was told last, None if it never was."""
    signer = stamp.gateway
    for number in reversed(journal.of_kind("alarm")):
        pair = journal.read(number)
        if b"/egress-accounts/v1" not in pair.statement():
            continue
        try:
            ours = open_envelope(pair.body, {signer.keyid: signer.public}, (signer.keyid,))
            said = egress.parse_standing(ours).predicate
        except LyditeError:  # an auditor may enter alarms of its own
            continue
        return Anchor(said.lines, bytes.fromhex(said.code))
    return None


def key_of(stamp: Stamp, use: str) -> bytes:
    """Return 32 bytes for one use that follow from the gateway's key, and from nothing else.

    Where the gateway is sealed that key opens with the device alone; without, it is as safe as its
    file.
    """
    return hmac.digest(stamp.gateway.seed(), b"lydite/egress/v1/" + use.encode(), "sha256")


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
    """Charge what was leaving when the process ended, and receipts that the journal alone has.

    The latter are what a loss of power left; they are charged by their length.
    """
    for receipt_id in accounts.running():
        entry = journal.number_of(receipt_id) or 0
        accounts.close(receipt_id, entry, accounts.running_micro(receipt_id))
    if not accounts.newest:  # nothing was metered yet
        return
    for number in range(accounts.newest + 1, len(journal) + 1):
        pair = journal.read(number)
        if pair.kind == "receipt":
            said = receipt.parse(pair.statement()).predicate
            day = seconds(said.timing.completed) // 86_400
            accounts.open(said.receipt_id, _NOBODY, day, 0)
            accounts.close(said.receipt_id, number, _BYTE_MICRO * said.response.length)


def charge_day(accounts: Accounts, journal: Journal, day: int) -> None:
    """Charge every receipt of a day for good by its length: what the log itself knows of it."""
    for number in range(len(journal), 0, -1):
        pair = journal.read(number)
        if pair.kind != "receipt":
            continue
        said = receipt.parse(pair.statement()).predicate
        if seconds(said.timing.completed) // 86_400 < day:
            break
        accounts.open(said.receipt_id, _NOBODY, day, 0)
        accounts.close(said.receipt_id, 0, _BYTE_MICRO * said.response.length)
    accounts.newest = len(journal)


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
