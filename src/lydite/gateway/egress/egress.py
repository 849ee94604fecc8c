"""Live accounts of egress: what each session may carry out, what it did, and when it is stopped.

An answer is charged by its size when it leaves, and by its score when a meter's comes. A session
or a day whose scored charges reach their budget is refused further requests until somebody raises
it; so is one whose answers wait for too many scores. Knows nothing of how answers are weighed.
"""

import asyncio
import math
import os
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

from lydite.errors import (
    ConfigurationError,
    FormatError,
    Reason,
    StorageError,
    UnavailableError,
)
from lydite.evidence.egress import attester, profile
from lydite.evidence.egress.code import MICRO
from lydite.gateway import heads
from lydite.gateway.egress import egress_notes
from lydite.gateway.egress.accounts import Accounts
from lydite.gateway.egress.egress_notes import Note
from lydite.gateway.egress.pacing import Pacer
from lydite.gateway.egress.passage import Passage, size_micro
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

_DAY_MS = 86_400_000
_LISTED = 256
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
        """Read the accounts again.

        Raises:
            ConfigurationError: a meter's key cannot be used.
            StorageError: the accounts are damaged, or the disk refuses.
        """
        self.failing = False
        self.settings = settings
        self.place = place
        egress_notes.keys_of(settings.meters)
        folder = place.state / "egress"
        self.accounts = Accounts(folder / "accounts.jsonl")
        self._salt = _salt(folder / "session.salt")
        self._heads = attester.Heads()
        self._flying: Counter[str] = Counter()
        self._flows: dict[str, deque[Flow]] = {}
        self._told: set[tuple[int, str, str]] = set()
        self._pacers: dict[str, Pacer] = {}
        self._today = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._heard_ms = place.recorder.clock_ms()
        for receipt_id in self.accounts.running():  # the process ended while they were leaving
            entry = place.journal.number_of(receipt_id) or 0
            micro = self.accounts.running_micro(receipt_id)
            self.accounts.close(receipt_id, entry, micro)
        egress_notes.catch_up(self.accounts, place.journal)

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
        given = b"".join(heads.values(request.fields, b"authorization"))
        session = attester.session_of(given, self._salt)
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
        day, accounts, limits = self.day(), self.accounts, self.settings
        spent = accounts.charged(day, session) >= self.budget("session", session)
        if spent or accounts.charged_by_all(day) >= self.budget("day", ""):
            whose = "this session" if spent else "this gateway's day"
            return UnavailableError(
                f"the egress budget of {whose} is spent; its operator may raise it",
                Reason.EGRESS_BUDGET,
            )
        full = accounts.waiting(session) >= MICRO * limits.unscored_bits_session
        if full or accounts.waiting() >= MICRO * limits.unscored_bits:
            return UnavailableError(
                "too many answers wait for the egress meter; try again later",
                Reason.EGRESS_WAITING,
            )
        silent_ms = self.place.recorder.clock_ms() - self._heard_ms
        if limits.silent_ms and accounts.unscored() and silent_ms > limits.silent_ms:
            return UnavailableError("the egress meter is silent", Reason.EGRESS_SILENT)
        return None

    # What a passage tells.

    def began(self, receipt_id: str, session: str, micro: int) -> None:
        """Charge an answer that begins to leave."""
        self._guarded(lambda: self.accounts.open(receipt_id, session, self.day(), micro))

    def grew(self, receipt_id: str, micro: int) -> None:
        """Charge ``micro`` in all for an answer that grows."""
        self._guarded(lambda: self.accounts.more(receipt_id, micro))

    def left(self, passage: Passage, draft: Draft, entry: int) -> None:
        """Charge an answer that is recorded as ``entry``, 0 if it could not be."""
        session, receipt_id = passage.session, passage.receipt_id
        if not passage.began:
            self.began(receipt_id, session, 0)
        if not self.accounts.unscored():
            self._heard_ms = self.place.recorder.clock_ms()  # nothing was there to be scored
        order = math.ceil(MICRO * math.log2(max(self._flying[session], 1)))
        certain = passage.head_micro + order + self._timing(receipt_id)
        micro = size_micro(draft)
        self._guarded(lambda: self.accounts.close(receipt_id, entry, micro, certain))
        self._profile(session, egress_notes.flow_of(draft), entry)
        self._watch(session, entry)

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
        self.accounts.set_budget(scope, session, MICRO * bits)
        self._told = {told for told in self._told if scope == "session" and told[1] != session}
        await self._enter("budget", scope, session, 0, Reason.RECORDED)
        return f"the egress budget of {session or 'the day'} is {bits} bits"

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
        """Let notices be entered, and close the file."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.accounts.close_file()

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
            budget = self.budget(scope, whose)
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
        amounts = charged, accounts.waiting(session or None), self.budget(scope, session)
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

    def budget(self, scope: egress.Scope, session: str) -> int:
        """Return the budget of a session, or of the day (``session`` is empty), in micro-bits."""
        limits = self.settings
        bits = limits.budget_bits_day if scope == "day" else limits.budget_bits_session
        return self.accounts.budget(scope, session, MICRO * bits)

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


def _salt(path: Path) -> bytes:
    """Return the salt of this gateway's pseudonyms, made when it is first needed."""
    try:
        if not path.exists():
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(file, "wb") as stream:
                stream.write(os.urandom(32))
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot keep the salt of sessions: {error.strerror}") from error
