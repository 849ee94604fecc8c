"""Carries out what officers order, and nothing else: log first, do it, log what came of it.

    identify   every signature is an officer's, and it is for this gateway        else: refused
    authorise  in time, never given before, and enough of those who may           else: refused
    describe   its arguments mean something; with ``dry_run`` this is all         else: refused
    enter      the instruction is in the log; from here on it counts as given     else: not given
    carry out  within a time                                                      else: failed
    enter      the outcome, signed by the gateway

A refusal for want of officers is logged too, once an instruction and within a rate, so that an
attempt by an insider is seen and a flood is not. After a crash between the two entries the outcome
is *interrupted*: nothing is done twice, and only what takes away is done then. What lasts (a
changed list, a budget) is done again at each start, from the log, in its order; so state is what
the log says and no file says otherwise.
"""

import asyncio
import hashlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import msgspec

from lydite.appraisal import authority as authorities
from lydite.appraisal.authority import Authority, Ordered
from lydite.errors import (
    ConfigurationError,
    FormatError,
    LyditeError,
    Reason,
    StorageError,
    VerificationError,
)
from lydite.gateway.ledger.pairs import Journal
from lydite.gateway.ledger.receipts import timestamp
from lydite.gateway.ledger.recorder import Recorder
from lydite.messages import instruction
from lydite.messages.canonical import encode
from lydite.messages.instruction import (
    Arguments,
    Ending,
    Outcome,
    OutcomePredicate,
)
from lydite.messages.statement import subject
from lydite.signing.dsse import Envelope, open_envelope, payload_of
from lydite.signing.keys import Signer, sign_envelope

REFUSALS_AN_HOUR = 60
"""How many refusals are logged in an hour; the rest are only answered."""

_logger = logging.getLogger(__name__)


async def _nothing() -> None:
    """Seal nothing, where there is no device."""


class Deed(NamedTuple):
    """One action: how to do it, and what it would do (or why its arguments mean nothing).

    ``lasting``: done again at each start, by ``again`` if it is given. ``urgent``: not made to wait
    for other deeds. ``takes_away``: it only ever lets less happen, so that it is done at the next
    start if a crash cut it, and lasts. ``limit_s``: how long it may take.
    """

    carry_out: Callable[[Arguments], Awaitable[str]]
    describe: Callable[[Arguments], str]
    lasting: bool = False
    urgent: bool = False
    takes_away: bool = False
    again: Callable[[Arguments], Awaitable[object]] | None = None
    limit_s: float = 60.0


class Answer(NamedTuple):
    """What came of an instruction, the envelope that says so, and that one's log entry."""

    outcome: OutcomePredicate
    envelope: bytes
    entry: int


class Place(NamedTuple):
    """The gateway that is told: its log's name, its key, where it writes, and its clock.

    ``seal`` is awaited before anybody learns what came of an instruction: afterwards no older copy
    of the log is taken for this one.
    """

    origin: str
    signer: Signer
    journal: Journal
    recorder: Recorder
    seal: Callable[[], Awaitable[None]] = _nothing


class Admin:
    """The only way to change a running gateway."""

    def __init__(self, authority: Authority, place: Place, deeds: Mapping[str, Deed]) -> None:
        """Take an authority that grants only what there are deeds for.

        Raises:
            ConfigurationError: the authority is not one under which anybody should work.
        """
        authorities.check(authority)
        self._authority = authority
        self._place = place
        self._deeds = deeds
        self._used: set[str] = set()
        self._refused: set[bytes] = set()
        self._refusals: deque[int] = deque(maxlen=REFUSALS_AN_HOUR)
        self._turn = asyncio.Lock()

    @property
    def authority(self) -> Authority:
        """Who may order what; public, since whoever reads the log has to know it."""
        return self._authority

    async def recall(self) -> None:
        """Learn from the log what was ordered before; do again what lasts, end what a crash cut.

        Raises:
            StorageError: the journal is damaged, or cannot be written.
            LyditeError: what lasts cannot be done again.
        """
        open_orders: dict[int, Ordered] = {}
        for number in self._place.journal.of_kind("admin"):
            envelope = self._place.journal.read(number).body
            statement = payload_of(msgspec.json.decode(envelope, type=Envelope))
            if b"/instruction-outcome/v1" not in statement:
                open_orders[number] = self._known(number, envelope)
                continue
            said = instruction.parse_outcome(self._own(envelope)).predicate
            ordered = open_orders.pop(said.entry, None)
            if ordered is None:
                raise StorageError(
                    f"entry {number} ends an instruction that is not there", Reason.DAMAGED
                )
            await self._settle(ordered, said)
        for number, ordered in open_orders.items():
            error = authorities.shortfall(ordered, self._authority)
            if error is not None:  # the crash came while a refusal was written
                self._refused.add(_name(ordered))
                await self._conclude(number, ordered, "refused", str(error), error.reason)
                continue
            cut = await self._conclude(number, ordered, "interrupted", "the gateway stopped", None)
            await self._settle(ordered, cut.outcome)

    async def submit(self, envelope: bytes) -> Answer:
        """Do what an envelope orders.

        Raises:
            FormatError: it is not an instruction, or its arguments mean nothing.
            VerificationError: those who signed may not order it, or not now.
            StorageError: it cannot be logged, so it was not done.
        """
        ordered = self._identify(envelope)
        said = ordered.instruction.predicate
        try:
            authorities.authorise(
                ordered, self._authority, self._place.recorder.clock_ms(), self._used
            )
        except VerificationError as error:
            await self._note(envelope, ordered, error)
            raise
        deed = self._deeds.get(said.action)
        if deed is None:
            raise VerificationError(Reason.NOT_GRANTED, f"this gateway cannot {said.action}")
        described = deed.describe(said.arguments)
        self._used.add(said.nonce)
        try:
            number = await self._place.recorder.enter("admin", envelope)
        except LyditeError:
            self._used.discard(said.nonce)
            raise
        if said.dry_run:
            return await self._conclude(number, ordered, "would-do", described, None)
        answer = await self._conclude(number, ordered, *await self._do(deed, said.arguments))
        await self._place.seal()
        return answer

    async def _do(self, deed: Deed, arguments: Arguments) -> tuple[Ending, str, Reason | None]:
        try:
            async with asyncio.timeout(deed.limit_s):
                if deed.urgent:
                    return "done", await deed.carry_out(arguments), None
                async with self._turn:
                    return "done", await deed.carry_out(arguments), None
        except TimeoutError:
            return "failed", f"not done within {deed.limit_s:g} s", Reason.FAILED
        except LyditeError as error:
            return "failed", str(error), error.reason
        except Exception as error:  # whatever a deed does wrong, its outcome has to be logged
            _logger.exception("admin")
            return "failed", f"internal error: {type(error).__name__}", Reason.FAILED

    async def _settle(self, ordered: Ordered, said: OutcomePredicate) -> None:
        """Take note of an instruction that ended before this start."""
        told = ordered.instruction.predicate
        if said.ending == "refused":
            self._refused.add(_name(ordered))
            return
        self._used.add(told.nonce)
        deed = self._deeds.get(told.action)
        if deed is None or not deed.lasting or told.dry_run:
            return
        if said.ending == "done" or (said.ending == "interrupted" and deed.takes_away):
            await (deed.again or deed.carry_out)(told.arguments)

    async def _note(self, envelope: bytes, ordered: Ordered, error: VerificationError) -> None:
        """Log that officers tried what they may not, once and within the rate."""
        name, now_ms = _name(ordered), self._place.recorder.clock_ms()
        if error.reason not in (Reason.NOT_GRANTED, Reason.TOO_FEW_OFFICERS):
            return
        full = len(self._refusals) == REFUSALS_AN_HOUR
        if name in self._refused or (full and now_ms - self._refusals[0] < 3_600_000):
            return
        self._refused.add(name)
        self._refusals.append(now_ms)
        number = await self._place.recorder.enter("admin", envelope)
        await self._conclude(number, ordered, "refused", str(error), error.reason)

    async def _conclude(
        self, number: int, ordered: Ordered, ending: Ending, detail: str, reason: Reason | None
    ) -> Answer:
        place = self._place
        outcome = Outcome(
            subject=subject("instruction", _name(ordered)),
            predicate=OutcomePredicate(
                action=ordered.instruction.predicate.action,
                detail=detail[:4096],
                ending=ending,
                entry=number,
                gateway=place.signer.keyid,
                reason=reason,
                time=timestamp(place.recorder.clock_ms()).decode(),
            ),
        )
        envelope = sign_envelope(encode(outcome), place.signer)
        entry = await place.recorder.enter("admin", envelope)
        return Answer(outcome.predicate, envelope, entry)

    def _known(self, number: int, envelope: bytes) -> Ordered:
        """Identify an instruction of the log, by officers of whom some may have retired."""
        try:
            return self._identify(envelope)
        except VerificationError as error:
            raise ConfigurationError(
                f"entry {number} was ordered by an officer that admin.officers does not name: "
                "keep its name there, and take it out of the grants"
            ) from error

    def _identify(self, envelope: bytes) -> Ordered:
        place = self._place
        return authorities.identify(envelope, self._authority, place.origin, place.signer.keyid)

    def _own(self, envelope: bytes) -> bytes:
        signer = self._place.signer
        return open_envelope(envelope, {signer.keyid: signer.public}, (signer.keyid,))


def _name(ordered: Ordered) -> bytes:
    return hashlib.sha256(ordered.statement).digest()


def no_arguments(arguments: Arguments) -> None:
    """Refuse any argument.

    Raises:
        FormatError: there is one.
    """
    if arguments:
        raise FormatError(f"this action takes no {min(arguments)}")


def one_argument(arguments: Arguments, name: str) -> str:
    """Return the value of the only argument.

    Raises:
        FormatError: it is missing, or there are others.
    """
    if set(arguments) != {name}:
        raise FormatError(f"this action takes exactly one argument, {name}")
    return arguments[name]
