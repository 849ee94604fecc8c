"""The compact receipt: what travels with an answer, before its signed statement is asked for.

With a signature it is a promise that the gateway can be held to, as a Signed Certificate Timestamp
is (RFC 6962): this statement is that entry of my log. Pure: no HTTP, no keys, no clock.
"""

import base64
from typing import Annotated, NamedTuple

import msgspec

from lydite.errors import Reason, VerificationError
from lydite.messages.canonical import Count, Hex32, Message, encode
from lydite.messages.commitment import Salt, commit_request, commit_response
from lydite.messages.receipt import Outcome, ReceiptId

SIGNED_PREFIX = b"lydite/compact/v1\x00"
_TEMPLATE = (
    b'{"entry":%d,"id":"%b","outcome":"%b","request":"%b","response":"%b","salt":"%b","statement":"%b",'
    b'"status":%d}'
)
_BEHIND_SIGNATURE = b',"statement":"'
_SIGNED = b',"signature":"%b"' + _BEHIND_SIGNATURE


class Compact(Message, frozen=True, kw_only=True, omit_defaults=True):
    """What a client needs to hold the gateway to its word.

    ``request`` and ``response`` are the salted commitments, ``statement`` the SHA-256 of the
    receipt's statement, ``entry`` its 1-based number in the log, ``status`` the HTTP status of the
    answer and ``outcome`` how it ended, ``signature`` the gateway's, in base64, over
    ``signed_bytes``.
    """

    entry: Count
    id: ReceiptId
    outcome: Outcome
    request: Hex32
    response: Hex32
    salt: Hex32
    signature: Annotated[str, msgspec.Meta(max_length=88, min_length=88)] | None = None
    statement: Hex32
    status: Count


class Parts(NamedTuple):
    """What a compact receipt says, as bytes in hexadecimal but for numbers and ``outcome``."""

    entry: int
    receipt_id: bytes
    request: bytes
    response: bytes
    salt: bytes
    statement: bytes
    status: int
    outcome: bytes


def spell(parts: Parts) -> bytes:
    """Return the compact receipt in its one spelling, unsigned, as ``encode`` would write it."""
    entry, receipt_id, request, response, salt, statement, status, outcome = parts
    return _TEMPLATE % (entry, receipt_id, outcome, request, response, salt, statement, status)


def with_signature(plain: bytes, signature: bytes) -> bytes:
    """Return what ``spell`` returned, with a signature over it, as ``encode`` would write it."""
    before, _, behind = plain.partition(_BEHIND_SIGNATURE)
    return before + _SIGNED % base64.b64encode(signature) + behind


def signed_bytes(receipt: Compact) -> bytes:
    """Return what the gateway's signature covers: a label, and the receipt without it."""
    return SIGNED_PREFIX + encode(msgspec.structs.replace(receipt, signature=None))


def check(receipt: Compact, path: bytes, request: bytes, response: bytes) -> None:
    """Hold a compact receipt against the bytes that a client sent and received.

    Raises:
        VerificationError: the gateway commits to other bytes.

    **Does not show** that the receipt is signed or in the log: its signature, its statement's
    envelope and the proof do.
    """
    salt = Salt(bytes.fromhex(receipt.salt))
    asked = commit_request(salt, path, request).hex()
    answered = commit_response(salt, response).hex()
    if (asked, answered) != (receipt.request, receipt.response):
        raise VerificationError(
            Reason.BAD_COMMITMENT, f"receipt {receipt.id} commits to other bytes than these"
        )
