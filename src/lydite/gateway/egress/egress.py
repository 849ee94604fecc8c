"""Live accounts of egress: what each session may carry out, what it did, and when it is stopped.

An answer is charged by its size when it leaves, and by its score when a meter's comes. A session
or a day whose scored charges reach their budget is refused further requests until somebody raises
it; so is one whose answers wait for too many scores. Knows nothing of how answers are weighed.
"""

import asyncio
import contextlib
import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

from lydite.errors import (
    ConfigurationError,
    FormatError,
    LyditeError,
    Reason,
    StorageError,
    UnavailableError,
)
from lydite.evidence.egress import attester, profile
from lydite.evidence.egress.code import MICRO
from lydite.gateway import heads
from lydite.gateway.egress import egress_notes
from lydite.gateway.egress.accounts import Accounts
from lydite.gateway.egress.allowance import Allowance
from lydite.gateway.egress.egress_notes import Note
from lydite.gateway.egress.pacing import Pacer
from lydite.gateway.egress.passage import Passage
from lydite.gateway.ledger.pairs import Journal
from lydite.gateway.ledger.receipts import Draft, Stamp
from lydite.gateway.ledger.recorder import Recorder
from lydite.gateway.ledger.vault import Vault
from lydite.gateway.plane.answers import Answer, Errand
from lydite.gateway.plane.client import ClientConnection, Handler
from lydite.gateway.plane.exchange import Exchange, Identity, Plane, Reply
from lydite.gateway.plane.reading import Request
from lydite.gateway.settings import Egress as Limits
from lydite.gateway.settings import Settings
from lydite.messages import egress
from lydite.messages.egress import Flow

_logger = logging.getLogger(__name__)
_DAY_MS = 86_400_000
_EVERY = 16
_SESSIONS = 1024
"""Sessions whose traffic is profiled at the same time."""


class Place(NamedTuple):
    """What the accounts of one gateway stand on."""

    state: Path
    journal: Journal
    vault: Vault
    recorder: Recorder
    stamp: Stamp


class Egress:
    """The accounts, and the gate that every metered request passes (a Gate and a Meter)."""

    def __init__(self, settings: Limits, place: Place) -> None:
        """Read the accounts again; ones that are not believed are left as they lie.

        Raises:
            ConfigurationError: a meter's key cannot be used, or a budget leaves nothing.
            StorageError: the disk refuses.
        """
        self.failing = False
        self.settings = settings
        self.place = place
        egress_notes.keys_of(settings.meters)
        self._path = place.state / "egress" / "accounts.jsonl"
        self._key = egress_notes.key_of(place.stamp, "accounts")
        self._salt = egress_notes.key_of(place.stamp, "sessions")
        self.allowance = Allowance(settings)
        self._anchor = egress_notes.anchor_of(place.journal, place.stamp)
        self._lost: StorageError | None = None
        self._beat: asyncio.Task[None] | None = None
        self.accounts = self._read()
        self._heads = attester.Heads()
        self._flying: Counter[str] = Counter()
        self._flows: dict[str, deque[Flow]] = {}
        self._told: set[tuple[int, str, str]] = set()
        self._pacers: dict[str, Pacer] = {}
        self._today = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._heard_ms = place.recorder.clock_ms()
        if self._lost is None:
            egress_notes.catch_up(self.accounts, place.journal)

    def _read(self) -> Accounts:
        """Return the accounts, or none that anything can be charged to where they are not ours."""
        try:
            return Accounts(self._path, self._key, self._anchor)
        except StorageError as error:
            if error.reason is not Reason.EGRESS_ACCOUNTS:
                raise
            _logger.error("%s (%s): no answer is given", error, error.reason)
            self._lost = error
            return Accounts.nowhere()

    async def begin(self) -> None:
        """Tell the log how far the accounts have come, before an answer leaves; then keep at it.

        Raises:
            StorageError: the disk refuses.
        """
        if self._lost is None:
            await self._tell_log()
        self._beat = asyncio.create_task(self._tell_again())

    # The gate.

    def carry(
        self,
        plane: Plane,
        request: Request,
        client: ClientConnection,
        identity: Identity,
        now: float,
    ) -> Handler:
        """Return who answers: an exchange whose bytes are charged, or a refusal."""
        session = self.allowance.session_of(
            b"".join(heads.values(request.fields, b"authorization")), self._salt
        )
        error = self.refusal(session)
        if error is not None:
            return Errand(_refuse(error), request, client)
        out: Reply = client
        if self.settings.pace_ms:
            loop = asyncio.get_running_loop()
            pacer = Pacer(client, loop, self.settings.pace_ms, self.settings.pad_bytes)
            out = self._pacers[identity.receipt_id] = pacer
        passage = Passage(self, plane.recorder, out, session, identity.receipt_id)
        self._flying[session] += 1
        return Exchange(plane._replace(recorder=passage), request, passage, identity, now)

    def refusal(self, session: str) -> UnavailableError | None:
        """Return why a session may not ask for more, None if it may."""
        if self._lost is not None:
            return UnavailableError(f"{self._lost}; officers can renew them", self._lost.reason)
        limits = self.settings
        silent_ms = self.place.recorder.clock_ms() - self._heard_ms
        if limits.silent_ms and self.accounts.unscored() and silent_ms > limits.silent_ms:
            return UnavailableError("the egress meter is silent", Reason.EGRESS_SILENT)
        return self.allowance.reached(self.accounts, self.day(), session)

    # What a passage tells.

    def began(self, receipt_id: str, session: str, micro: int) -> None:
        """Charge an answer that begins to leave."""
        self._guarded(lambda: self.accounts.open(receipt_id, session, self.day(), micro))

    def grew(self, receipt_id: str, micro: int) -> None:
        """Charge ``micro`` in all for an answer that grows.

        Raises:
            UnavailableError: that is more than its session may carry out: no more of it leaves.
        """
        self._guarded(lambda: self.accounts.more(receipt_id, micro))
        self._stop_beyond(self.accounts.running_session(receipt_id))

    def left(self, passage: Passage, draft: Draft, entry: int) -> None:
        """Charge an answer that is recorded as ``entry``, 0 if it could not be."""
        session, receipt_id = passage.session, passage.receipt_id
        if not passage.began:
            self.began(receipt_id, session, 0)
        if not self.accounts.unscored():
            self._heard_ms = self.place.recorder.clock_ms()  # nothing was there to be scored
        order = math.ceil(MICRO * math.log2(max(self._flying[session], 1)))
        certain = passage.head_micro + order + self._timing(receipt_id)
        micro = passage.size_micro(draft)
        self._guarded(lambda: self.accounts.close(receipt_id, entry, micro, certain))
        self._profile(session, egress_notes.flow_of(draft), entry)
        self._watch(session, entry)
        if not draft.streamed:  # of a stream only the end is left to leave
            self._stop_beyond(session)

    def _stop_beyond(self, session: str) -> None:
        error = self.allowance.reached(self.accounts, self.day(), session, beyond=True)
        if error is not None:
            raise error

    def head_micro(self, lines: list[tuple[bytes, bytes]]) -> int:
        """Return what the fields of a head can carry."""
        return self._heads.micro_bits(lines)

    def gone(self, passage: Passage) -> None:
        """Take note that nothing more leaves."""
        self._pacers.pop(passage.receipt_id, None)
        self._flying[passage.session] -= 1
        if not self._flying[passage.session]:
            del self._flying[passage.session]

    # What an operator may order.

    async def set_budget(self, scope: egress.Scope, session: str, bits: int) -> str:
        """Set the budget of a session, or of the day (``session`` is empty), and log it.

        Raises:
            FormatError: no such scope, or a negative budget.
            StorageError: it could not be written.
        """
        if bits < 0 or (scope == "day") != (session == ""):
            raise FormatError(f"no egress budget of {bits} bits for {scope} {session!r}")
        self.allowance.set_budget(scope, session, bits)
        self._told = {told for told in self._told if scope == "session" and told[1] != session}
        await self._enter("budget", scope, session, 0, Reason.RECORDED)
        return f"the egress budget of {session or 'the day'} is {bits} bits"

    async def renew(self) -> str:
        """Begin the accounts anew; all receipts of today are charged by their lengths, for good.

        Raises:
            FormatError: the accounts are what they should be.
            StorageError: the disk refuses.
        """
        if self._lost is None:
            raise FormatError("the accounts of egress are believed: there is nothing to renew")
        self.accounts = Accounts.anew(self._path, self._key, self._anchor)
        egress_notes.charge_day(self.accounts, self.place.journal, self.day())
        await self._tell_log(renewed=True)
        self._lost = None
        return "the accounts of egress are begun anew; today's answers are charged by their lengths"

    # What the routes tell.

    def scored(self, entry: int, session: str, micro: int) -> None:
        """Replace a charge by size with a score."""
        self._guarded(lambda: self.accounts.score(entry, micro))
        self._heard_ms = self.place.recorder.clock_ms()
        self._watch(session, entry)

    def lost(self, entry: int, session: str) -> None:
        """Let a charge by size stand: the answer was destroyed before it was weighed."""
        self._guarded(lambda: self.accounts.settle(entry))
        self._watch(session, entry)

    # Steps.

    async def close(self) -> None:
        """Let notices be entered, tell the log where the accounts end, and close the file."""
        if self._beat is not None:
            self._beat.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(LyditeError):  # then the log knows them as they were last told
            if self._lost is None:
                await self._tell_log()
        self.accounts.close_file()

    async def _tell_again(self) -> None:
        while True:
            await asyncio.sleep(self.settings.anchor_s)
            try:
                if self._lost is None:
                    await self._tell_log()
            except LyditeError as error:
                _logger.error("accounts of egress: %s (%s)", error, error.reason)

    async def _tell_log(self, *, renewed: bool = False) -> None:
        """Enter how far the accounts have come into the log, once that is on disk for good."""
        if self._anchor == self.accounts.at():
            return
        at = await asyncio.to_thread(self.accounts.sync)
        now_ms = self.place.recorder.clock_ms()
        said = egress_notes.standing(at, now_ms, self.place.stamp, renewed=renewed)
        await self.place.recorder.enter("alarm", said)
        self._anchor = at

    def _watch(self, session: str, entry: int) -> None:
        """Say once when an account passes its threshold, and when it is stopped."""
        day, share = self.day(), self.settings.alarm_ppm
        if day != self._today:  # what was charged two days ago can change no more
            self._today = day
            self.accounts.forget_before(day - 1)
            self._told = {told for told in self._told if told[0] == day}
        rows: tuple[tuple[egress.Scope, str, int], ...] = (
            ("session", session, self.accounts.charged(day, session)),
            ("day", "", self.accounts.charged_by_all(day)),
        )
        for scope, whose, charged in rows:
            budget = self.allowance.budget(scope, whose)
            if charged >= budget:
                self._tell("stop", scope, whose, entry, Reason.EGRESS_BUDGET)
            elif charged * MICRO >= budget * share:
                self._tell("alarm", scope, whose, entry, Reason.SUSPECTED)

    def _profile(self, session: str, flow: Flow, entry: int) -> None:
        flows = self._flows.setdefault(session, deque(maxlen=profile.WINDOW))
        flows.append(flow)
        if len(self._flows) > _SESSIONS:
            del self._flows[next(iter(self._flows))]
        if len(flows) % _EVERY:
            return
        found = profile.profile(list(flows))
        if found is not None and profile.odd(found, self.settings.profile):
            self._tell("profile", "session", session, entry, Reason.SUSPECTED)

    def _tell(
        self, event: egress.Event, scope: egress.Scope, session: str, entry: int, reason: Reason
    ) -> None:
        mark = self.day(), session, event
        if mark in self._told:
            return
        self._told.add(mark)
        self._start(self._enter(event, scope, session, entry, reason))

    async def _enter(
        self, event: egress.Event, scope: egress.Scope, session: str, entry: int, reason: Reason
    ) -> None:
        day, accounts = self.day(), self.accounts
        charged = accounts.charged(day, session) if session else accounts.charged_by_all(day)
        note = Note(event, scope, session, day, entry, reason)
        amounts = charged, accounts.waiting(session or None), self.allowance.budget(scope, session)
        now_ms = self.place.recorder.clock_ms()
        envelope = egress_notes.notice(note, amounts, now_ms, self.place.stamp)
        await self.place.recorder.enter("alarm", envelope)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _timing(self, receipt_id: str) -> int:
        pacer = self._pacers.get(receipt_id)
        return pacer.timing_micro if pacer is not None and self.settings.charge_timing else 0

    def day(self) -> int:
        """Return the UTC day, counted from 1970-01-01."""
        return self.place.recorder.clock_ms() // _DAY_MS

    def _guarded(self, write: Callable[[], object]) -> None:
        """Write to the accounts; while that fails, no request is taken."""
        try:
            write()
        except StorageError:
            self.failing = True
            raise
        self.failing = False


def open_accounts(
    settings: Settings, journal: Journal, vault: Vault, recorder: Recorder, stamp: Stamp
) -> Egress | None:
    """Return the accounts that settings ask for, None if they ask for none.

    Raises:
        ConfigurationError: a meter's key cannot be used, or several workers would keep accounts.
        StorageError: the accounts are damaged, or the disk refuses.
    """
    if settings.egress is None:
        return None
    if settings.workers > 1:
        raise ConfigurationError("egress is metered by one process: set workers to 1")
    place = Place(Path(settings.state), journal, vault, recorder, stamp)
    return Egress(settings.egress, place)


def _refuse(error: UnavailableError) -> Callable[[Request], Coroutine[Any, Any, Answer]]:
    async def route(_: Request) -> Answer:
        raise error

    return route
