"""The routes of egress meters: which answers wait, what they were, their scores, the accounts.

Each but the handing in of a score, which is signed, asks for the meters' token. Keeps nothing.
"""

import asyncio
import hmac
import re

import msgspec

from lydite.errors import Reason, UnavailableError, VerificationError
from lydite.evidence.egress import attester
from lydite.evidence.egress.claims import Outflow
from lydite.gateway import heads
from lydite.gateway.egress import egress_notes
from lydite.gateway.egress.egress import Egress
from lydite.gateway.ledger import records
from lydite.gateway.plane.answers import Answer, Row
from lydite.gateway.plane.reading import Request
from lydite.messages import egress, receipt
from lydite.messages.canonical import encode
from lydite.signing.dsse import KeyId, open_envelope

_LISTED = 256
_UNREAD = (Reason.MALFORMED, Reason.NOT_CANONICAL)
"""Why a meter could not read an answer at all: then it knows no more than the answer's size."""


class _Session(msgspec.Struct, rename="camel"):
    session: str
    charged_micro: int
    waiting_micro: int
    budget_micro: int
    stopped: bool


class _Accounts(msgspec.Struct, rename="camel"):
    day: int
    charged_micro: int
    waiting_micro: int
    budget_micro: int
    sessions: list[_Session]


class _Index(msgspec.Struct):
    index: int


class EgressRoutes:
    """What a meter and an operator ask of the accounts."""

    def __init__(self, kept: Egress) -> None:
        self._kept = kept
        self._keys = egress_notes.keys_of(kept.settings.meters)

    def rows(self) -> tuple[Row, ...]:
        """Return the routes."""
        return (
            (b"GET", re.compile(rb"/v1/egress/unscored"), self._unscored),
            (b"GET", re.compile(rb"/v1/egress/openings/([1-9][0-9]{0,15})"), self._opening),
            (b"POST", re.compile(rb"/v1/egress/scores"), self._score),
            (b"GET", re.compile(rb"/v1/egress/accounts"), self._accounts),
        )

    async def _unscored(self, request: Request) -> Answer:
        self._authenticate(request)
        return Answer(msgspec.json.encode(self._kept.accounts.unscored()[:_LISTED]))

    async def _opening(self, request: Request, number: str) -> Answer:
        self._authenticate(request)
        entry = int(number)
        session = self._kept.accounts.session_at(entry)
        if session is None:
            raise UnavailableError(f"entry {entry} waits for no score", Reason.NOT_IN_LOG)
        try:
            return Answer(encode(await asyncio.to_thread(self._note, entry, session)))
        except UnavailableError:
            self._kept.lost(entry, session)
            raise

    def _note(self, entry: int, session: str) -> Outflow:
        place = self._kept.place
        pair = place.journal.read(entry)
        timing = receipt.parse(pair.statement()).predicate.timing
        times = egress_notes.seconds(timing.received), egress_notes.seconds(timing.completed)
        opened = encode(records.opening_of(place.vault.read(entry)))
        return attester.outflow(entry, pair.receipt_id, session, times, opened)

    async def _score(self, request: Request) -> Answer:
        said = egress.parse_score(open_envelope(request.body, self._keys, ())).predicate
        if KeyId(said.meter) not in self._keys:
            raise VerificationError(Reason.UNKNOWN_KEY, f"by {said.meter}")
        session = self._kept.accounts.session_at(said.entry)
        if session is None or session != said.session:
            raise UnavailableError(f"entry {said.entry} waits for no such score", Reason.CONFLICT)
        micro = said.micro_bits
        if said.finding.reason in _UNREAD:
            micro = max(micro, self._kept.accounts.waiting_at(said.entry))
        self._kept.scored(said.entry, session, micro)
        return Answer(msgspec.json.encode(_Index(said.entry)))

    async def _accounts(self, request: Request) -> Answer:
        self._authenticate(request)
        kept = self._kept
        day, accounts = kept.day(), kept.accounts
        sessions = [
            _Session(
                session,
                accounts.charged(day, session),
                accounts.waiting(session),
                kept.allowance.budget("session", session),
                kept.refusal(session) is not None,
            )
            for session in accounts.sessions(day)
        ]
        found = _Accounts(
            day,
            accounts.charged_by_all(day),
            accounts.waiting(),
            kept.allowance.budget("day", ""),
            sessions,
        )
        return Answer(msgspec.json.encode(found))

    def _authenticate(self, request: Request) -> None:
        given = b"".join(heads.values(request.fields, b"authorization"))
        if not hmac.compare_digest(given, b"Bearer " + self._kept.settings.token.encode()):
            raise VerificationError(Reason.UNKNOWN_KEY, "the meter's bearer token is needed")
