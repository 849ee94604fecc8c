"""The routes that the gateway answers itself: receipts, keys, the log, epochs and openings.

Entry numbers count from 1 everywhere here; only a tlog-proof counts from 0, as its format says.
Judges nothing: an auditor's entry is taken if a configured auditor signed it and it is about this
provider.
"""

import asyncio
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from lydite.errors import (
    FormatError,
    Reason,
    UnavailableError,
    VerificationError,
)
from lydite.gateway import heads
from lydite.gateway.draws.epochs import Epochs
from lydite.gateway.ledger import receipts, records
from lydite.gateway.ledger.notary import Notary
from lydite.gateway.ledger.pairs import Journal, Pair
from lydite.gateway.ledger.receipts import Stamp
from lydite.gateway.ledger.recorder import Recorder
from lydite.gateway.ledger.retention import Keeper
from lydite.gateway.plane.answers import Answer, Route, Row, Table
from lydite.gateway.plane.reading import Request
from lydite.messages import audit
from lydite.messages.canonical import Hex32, Message, encode
from lydite.messages.entry import EntryKind
from lydite.signing.dsse import Envelope, KeyId, PublicKey, open_envelope
from lydite.tlog import tiles
from lydite.tlog.checkpointer import Checkpointer
from lydite.tlog.hashing import HASH_BYTES
from lydite.tlog.store import LogStore

_OCTETS = b"application/octet-stream"
_TEXT = b"text/plain; charset=utf-8"


class Logged(Message, frozen=True, kw_only=True):
    """An envelope, its entry number, and its tlog-proof once a witnessed checkpoint covers it."""

    envelope: Envelope
    index: int | None
    proof: str | None


class _Index(Message, frozen=True, kw_only=True):
    index: int


class _Wish(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    epsilon_ppm: int


class _Salt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    salt: Hex32


class _Sniff(msgspec.Struct, frozen=True, rename="camel"):
    predicate_type: str


class Office(NamedTuple):
    """What the routes work on."""

    journal: Journal
    log: LogStore
    recorder: Recorder
    checkpointer: Checkpointer
    stamp: Stamp
    epochs: Epochs
    keeper: Keeper
    keys: bytes
    """The JSON that ``/v1/keys`` answers."""
    provider: KeyId
    auditors: Mapping[KeyId, PublicKey]
    token: str | None
    mode: Callable[[], bytes]
    """The JSON that ``/v1/mode`` answers."""
    notary: Notary | None
    """Who answers for ``/v1/signature``; without, nobody does."""


class Control:
    """Finds the route of a request, by method and exact path."""

    def __init__(self, office: Office, more: Sequence[Row] = ()) -> None:
        self._office = office
        self.table = Table(
            (b"GET", re.compile(rb"/v1/receipts/([0-9a-f]{32})"), self._receipt),
            (b"POST", re.compile(rb"/v1/receipts/([0-9a-f]{32})/opening"), self._chosen_opening),
            (b"GET", re.compile(rb"/v1/signature/([\w.-]{1,150})(\?[^#]*|)"), self._signature),
            (b"GET", re.compile(rb"/v1/keys"), self._keys),
            (b"GET", re.compile(rb"/v1/mode"), self._mode),
            (b"GET", re.compile(rb"/v1/log/checkpoint"), self._checkpoint),
            (b"GET", re.compile(rb"/v1/log/(tile/[0-9a-z/.]{1,64})"), self._tile),
            (b"GET", re.compile(rb"/v1/log/envelopes/([1-9][0-9]{0,15})"), self._envelope),
            (b"POST", re.compile(rb"/v1/log/entries"), self._enter),
            (b"POST", re.compile(rb"/v1/audit/epochs"), self._open_epoch),
            (b"GET", re.compile(rb"/v1/audit/epochs/([1-9][0-9]{0,9})"), self._epoch),
            (b"GET", re.compile(rb"/v1/audit/openings/([1-9][0-9]{0,15})"), self._opening),
            *more,
        )

    def route(self, method: bytes, target: bytes) -> Route:
        """Return who answers.

        Raises:
            RefusedError: 404 or 405.
        """
        return self.table.route(method, target)

    async def _receipt(self, _: Request, receipt_id: str) -> Answer:
        number = await asyncio.to_thread(self._office.journal.number_of, receipt_id)
        if number is None:
            raise UnavailableError(f"no receipt {receipt_id}", Reason.NOT_IN_LOG)
        return await self._logged(number)

    async def _signature(self, request: Request, chat_id: str, query: str) -> Answer:
        notary = self._office.notary
        if notary is None:
            raise UnavailableError("this gateway keeps no unsalted digests", Reason.NOT_IN_LOG)
        return Answer(notary.sign(chat_id, query, request.fields))

    async def _keys(self, _: Request) -> Answer:
        return Answer(self._office.keys)

    async def _mode(self, _: Request) -> Answer:
        return Answer(self._office.mode())

    async def _checkpoint(self, _: Request) -> Answer:
        return Answer(self._office.checkpointer.newest(), _TEXT)

    async def _tile(self, _: Request, path: str) -> Answer:
        return Answer(await asyncio.to_thread(self._read_tile, path), _OCTETS)

    def _read_tile(self, path: str) -> bytes:
        """Return a tile; of one that has grown since, the part that was asked for."""
        try:
            return self._office.log.read(path)
        except UnavailableError as error:
            tile = tiles.parse_path(path)
            if tile.full:
                raise UnavailableError(str(error), Reason.NOT_IN_LOG) from error
        try:
            full = self._office.log.read(tiles.Tile(tile.level, tile.index).path)
        except UnavailableError as error:
            raise UnavailableError(f"the log has no {path}", Reason.NOT_IN_LOG) from error
        if tile.level is None:
            return tiles.encode_bundle(tiles.decode_bundle(full, tiles.WIDTH)[: tile.width])
        return full[: tile.width * HASH_BYTES]

    async def _envelope(self, _: Request, number: str) -> Answer:
        return Answer(self._signed(await self._pair(int(number))))

    async def _enter(self, request: Request) -> Answer:
        kind, audited = self._kind_of(request.body)
        index = await self._office.recorder.enter(kind, request.body)
        if audited:
            self._office.keeper.audited(audited)
        return Answer(encode(_Index(index=index)))

    def _kind_of(self, envelope: bytes) -> tuple[EntryKind, int]:
        """Return what an auditor's envelope holds, and which entry it is about, 0 for none.

        Raises:
            FormatError: neither an audit record nor a result, or not in its one spelling.
            VerificationError: not signed by an accepted auditor, or about another provider.
        """
        payload = open_envelope(envelope, self._office.auditors, ())
        try:
            sniffed = msgspec.json.decode(payload, type=_Sniff).predicate_type
        except msgspec.DecodeError as error:
            raise FormatError(f"entry: {error}") from error
        predicate: audit.AuditPredicate | audit.ResultPredicate
        kind: EntryKind
        if sniffed.endswith("/inference-audit/v1"):
            kind, predicate = "audit", audit.parse_audit(payload).predicate
        else:
            kind, predicate = "result", audit.parse_result(payload).predicate
        if predicate.provider != self._office.provider:
            raise VerificationError(Reason.WRONG_PROVIDER, f"about {predicate.provider}")
        if KeyId(predicate.auditor) not in self._office.auditors:
            raise VerificationError(Reason.UNKNOWN_KEY, f"by {predicate.auditor}")
        return kind, predicate.entry if isinstance(predicate, audit.AuditPredicate) else 0

    async def _open_epoch(self, request: Request) -> Answer:
        self._authenticate(request)
        try:
            wish = msgspec.json.decode(request.body, type=_Wish)
        except msgspec.DecodeError as error:
            raise FormatError(f"epoch: {error}") from error
        return await self._logged(await self._office.epochs.open(wish.epsilon_ppm))

    async def _epoch(self, _: Request, number: str) -> Answer:
        entry = self._office.epochs.entry_of(int(number))
        if entry is None:
            raise UnavailableError(f"no epoch {number}", Reason.NOT_IN_LOG)
        return await self._logged(entry)

    async def _opening(self, request: Request, number: str) -> Answer:
        self._authenticate(request)
        if not self._office.epochs.was_drawn(int(number)):
            raise VerificationError(Reason.UNDRAWN_AUDIT, f"entry {number} was not drawn")
        if (await self._pair(int(number))).kind != "receipt":
            raise UnavailableError(f"entry {number} is no receipt", Reason.NOT_IN_LOG)
        exchange = await asyncio.to_thread(self._office.keeper.vault.read, int(number))
        return Answer(encode(records.opening_of(exchange)))

    async def _chosen_opening(self, request: Request, receipt_id: str) -> Answer:
        """Open a receipt that nobody drew, to an auditor whom its client gave the salt."""
        self._authenticate(request)
        try:
            salt = bytes.fromhex(msgspec.json.decode(request.body, type=_Salt).salt)
        except msgspec.DecodeError as error:
            raise FormatError(f"salt: {error}") from error
        number = await asyncio.to_thread(self._office.journal.number_of, receipt_id)
        if number is None:
            raise UnavailableError(f"no receipt {receipt_id}", Reason.NOT_IN_LOG)
        exchange = await asyncio.to_thread(self._office.keeper.vault.read, number)
        if not hmac.compare_digest(salt, exchange.salt):
            raise VerificationError(Reason.BAD_COMMITMENT, "this is not the salt of that receipt")
        return Answer(encode(records.opening_of(exchange)))

    async def _logged(self, number: int) -> Answer:
        pair = await self._pair(number)
        found = self._office.checkpointer.proof(number - 1)
        proof = None if found is None else found.encode().decode()
        envelope = msgspec.json.decode(self._signed(pair), type=Envelope)
        return Answer(encode(Logged(envelope=envelope, index=number, proof=proof)))

    async def _pair(self, number: int) -> Pair:
        if number > len(self._office.journal):
            raise UnavailableError(f"no entry {number}", Reason.NOT_IN_LOG)
        return await asyncio.to_thread(self._office.journal.read, number)

    def _signed(self, pair: Pair) -> bytes:
        """Return a pair's envelope; a receipt is signed when it is asked for."""
        if pair.kind != "receipt":
            return pair.body
        return receipts.seal(pair.body, self._office.stamp)

    def _authenticate(self, request: Request) -> None:
        """Compare the bearer token in a time that does not depend on it.

        Raises:
            VerificationError: it is missing or another.
        """
        token = self._office.token
        given = b"".join(heads.values(request.fields, b"authorization"))
        if token is None or not hmac.compare_digest(given, b"Bearer " + token.encode()):
            raise VerificationError(
                Reason.UNKNOWN_KEY,
                "the auditor's bearer token is needed: audit_token of the gateway's settings",
            )
