"""One gateway under watch: epoch after epoch is drawn, recomputed and judged, and acted upon.

Everything that is known of the gateway comes from its witnessed log. A verdict that the error
budget carries accuses; a gateway that says what cannot be verified, or nothing at all, is at fault;
whatever could not be recomputed is named, and passes for nothing.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from lydite.appraisal.policy import Policy
from lydite.appraisal.trust import Anchor, Trust
from lydite.auditor.alarms import Against, Alarms, Found, Shutdown
from lydite.auditor.bench import Bench
from lydite.auditor.casebook import Casebook
from lydite.auditor.gateway_client import GatewayClient
from lydite.auditor.registry import Place
from lydite.auditor.service import Auditor
from lydite.errors import LyditeError, Reason, UnavailableError, VerificationError
from lydite.messages import entry
from lydite.messages.audit import Verdict
from lydite.messages.canonical import Count, Integer, Message, encode
from lydite.messages.declaration import Declaration
from lydite.messages.tier import Tier
from lydite.signing.keys import Signer
from lydite.tlog import disk

_logger = logging.getLogger(__name__)

NOBODY: Final = "0" * 64
"""Stands for weights that nobody has declared yet."""


Recompute = Callable[[Declaration], Bench | None]
"""Returns what a declared model is recomputed with, None if it cannot be."""


class Terms(NamedTuple):
    """What holds for every gateway of one recomputer."""

    trust: Trust
    policy: Policy
    signer: Signer
    alarms: Alarms
    recompute: Recompute
    bundles: Path
    rate_ppm: int
    patience_s: float
    silence_s: float
    stale_s: float


class Clients(NamedTuple):
    """Two ways to ask one gateway: with an auditor's patience, and for a client that waits."""

    auditor: GatewayClient
    client: GatewayClient


class Standing(Message, frozen=True, kw_only=True):
    """How one gateway stands, for whoever asks.

    ``covered`` receipts were drawn from, ``drawn`` of them were drawn, ``waiting`` of these are not
    opened yet.
    """

    name: str
    provider: str
    model: str | None
    healthy: bool
    routed: bool
    tier: Tier
    reason: Reason
    detail: str
    log10_e_milli: Integer
    covered: Count
    drawn: Count
    audited: Count
    scored: Count
    tokens: Count
    tokens_needed: Count
    waiting: Count
    withheld: Count
    epochs: Count


class _Counts(NamedTuple):
    """What the last round left, so that nobody who asks waits for a round."""

    drawn: int = 0
    waiting: int = 0
    epochs: int = 0
    covered: int = 0


class Watch:
    """Audits one gateway. ``round`` belongs to one thread."""

    def __init__(
        self,
        place: Place,
        anchor: Anchor,
        clients: Clients,
        terms: Terms,
        shutdown: Shutdown | None = None,
    ) -> None:
        self.place = place
        self.clients = clients
        self.anchor = anchor
        self.terms = terms
        self.case = Casebook(clients.auditor, terms.trust, anchor, terms.policy, terms.signer.keyid)
        self.verdict: Verdict | None = None
        self.bench: Bench | None = None
        self.bundle = terms.bundles / f"{place.name.replace('/', '_')}.bundle.json"
        self._shutdown = shutdown
        self._auditor: Auditor | None = None
        self._outcome: tuple[Tier, Reason, str] = (Tier.NONE, Reason.PENDING, "")
        self._heard_s = self._ended_s = time.monotonic()
        self._counts = _Counts()
        self._withheld = self._failed = 0
        self._judged = 0
        """How many epochs the verdict covers."""

    def round(self) -> None:
        """Draw, recompute and judge what is new, and act on it; any failure is a finding."""
        try:
            self.look()
            self._audit()
            self._heard_s = time.monotonic()
        except UnavailableError as error:
            self._unheard(error.reason, self.told(error))
        except LyditeError as error:
            self._outcome = (Tier.NONE, error.reason, self.told(error))
            self._fault(error.reason, self.told(error))
        except Exception as error:  # unforeseen: a verdict that was not renewed must not stand on
            _logger.exception("watch %s", self.place.name)
            self._unheard(Reason.EXAMINATION_FAILED, f"a round ended with {type(error).__name__}")
        self.place.shut = self.terms.alarms.stops(self.place.provider)
        self._count()
        self._ended_s = time.monotonic()

    def mind(self) -> None:
        """Raise an alarm if no round has ended in time. For another thread than ``round``'s.

        Raises:
            StorageError: it could not be written.
        """
        idle_s = time.monotonic() - self._ended_s
        if idle_s > self.terms.stale_s:
            self._fault(Reason.STALE, _stale(idle_s))
            self.place.shut = self.terms.alarms.stops(self.place.provider)

    def told(self, error: LyditeError) -> str:
        """Return what an error says, with the gateway's name for its address: others read this."""
        return str(error).replace(self.clients.auditor.url, self.place.name)

    def look(self) -> None:
        """Read what is new in the log; the declaration in it says what the gateway serves.

        Raises:
            LyditeError: the gateway does not answer, or what it says cannot be verified.
        """
        self.case.catch_up()
        declared = self.case.declaration
        if declared is None:
            raise UnavailableError("no declaration is in the witnessed log yet", Reason.NOT_IN_LOG)
        self.place.model = declared.predicate.model
        if self._auditor is None and (found := self.terms.recompute(declared)) is not None:
            self.bench, terms = found, self.terms
            parts = (terms.trust, self.anchor, terms.policy, found, terms.signer)
            self._auditor = Auditor(
                self.clients.auditor, *parts, patience_s=terms.patience_s, case=self.case
            )

    def check_logged(self, statement: bytes, number: int) -> None:
        """Check that a receipt's statement stands at the 1-based entry ``number`` of the log.

        Raises:
            LyditeError: the log cannot be read or verified, or another thing stands there.
        """
        with self.case.lock:
            if number > self.case.mirror.size:
                self.case.catch_up()
            if not 0 < number <= self.case.mirror.size:
                raise UnavailableError("no witnessed checkpoint covers it", Reason.NOT_IN_LOG)
            leaf = self.case.mirror.leaves[number - 1]
        if leaf != entry.of_statement(statement, "receipt", self.anchor.provider):
            raise VerificationError(Reason.NOT_IN_LOG, f"entry {number} is another statement")

    def standing(self) -> Standing:
        """Return how the gateway stands after the last round; waits for nobody.

        A verdict that was not renewed in time is ``none`` (``STALE``); an accusation stays.
        """
        tier, reason, detail = self._outcome
        idle_s = time.monotonic() - self._ended_s
        if idle_s > self.terms.stale_s and tier is not Tier.CONTRAINDICATED:
            tier, reason, detail = Tier.NONE, Reason.STALE, _stale(idle_s)
        verdict, counts = self.verdict, self._counts
        return Standing(
            name=self.place.name,
            provider=self.place.provider,
            model=self.place.model,
            healthy=self.place.healthy,
            routed=not self.place.shut,
            tier=tier,
            reason=reason,
            detail=detail,
            log10_e_milli=verdict.log10_e_milli if verdict else 0,
            covered=counts.covered,
            drawn=counts.drawn,
            audited=verdict.audited if verdict else 0,
            scored=verdict.scored if verdict else 0,
            tokens=verdict.tokens if verdict else 0,
            tokens_needed=verdict.tokens_needed if verdict else 0,
            waiting=counts.waiting,
            withheld=self._withheld,
            epochs=counts.epochs,
        )

    def _audit(self) -> None:
        auditor = self._auditor
        if auditor is None:
            detail = f"this recomputer has no reference for {self.place.model}"
            self._outcome = (Tier.NONE, Reason.UNKNOWN_REFERENCE, detail)
            return
        if auditor.due:
            auditor.open_epoch(self.terms.rate_ppm)
        audited = auditor.audit_pending()
        waiting = len(self.case.pending())
        if waiting:
            detail = f"{waiting} drawn receipts are not opened"
            self._outcome = (Tier.NONE, Reason.PENDING, detail)
        else:
            self._judge(auditor, fresh=bool(audited))
        self._act()

    def _judge(self, auditor: Auditor, *, fresh: bool) -> None:
        """Renew the verdict: that of everything audited so far."""
        if fresh or len(self.case.epochs) != self._judged:
            epochs = len(self.case.epochs)
            self.verdict, self._judged = auditor.judge(), epochs
            self.terms.bundles.mkdir(parents=True, exist_ok=True)
            disk.place(self.bundle, encode(auditor.bundle()), durable=False)
        if self.verdict is None:
            self._outcome = (Tier.NONE, Reason.PENDING, "")
        else:
            self._outcome = (self.verdict.tier, self.verdict.reason, "")

    def _act(self) -> None:
        """Go on, or raise what the verdict and the openings that did not come amount to."""
        withheld = self._count_findings(Reason.WITHHELD)
        failed = self._count_findings(Reason.EXAMINATION_FAILED)
        fresh = {
            Reason.WITHHELD: (withheld - self._withheld, "were not opened in time"),
            Reason.EXAMINATION_FAILED: (failed - self._failed, "could not be examined"),
        }
        self._withheld, self._failed = withheld, failed
        new = {reason: said for reason, said in fresh.items() if said[0]}
        self.terms.alarms.clear(self.place.provider, *new)
        for reason, (count, what) in new.items():
            self._fault(reason, f"{count} drawn receipts {what}")
        verdict = self.verdict
        if verdict is not None and verdict.tier is Tier.CONTRAINDICATED:
            self._raise(
                Found(
                    weight="accusation",
                    reason=verdict.reason,
                    detail=f"log10 E {verdict.log10_e_milli / 1000:.1f}, accused from "
                    f"{self.terms.policy.accuse_milli / 1000:g}, on {verdict.tokens} tokens of "
                    f"{verdict.scored} drawn answers",
                    log10_e_milli=verdict.log10_e_milli,
                    accuse_milli=self.terms.policy.accuse_milli,
                    result=self.case.mirror.entry(self.case.result_entry).sha256,
                )
            )

    def _count_findings(self, reason: Reason) -> int:
        records = [record for _, record in self.case.audits.values()]
        return sum(
            finding.reason is reason for record in records for finding in record.predicate.findings
        )

    def _count(self) -> None:
        with self.case.lock:
            self._counts = _Counts(
                drawn=len(self.case.receipts),
                waiting=len(self.case.pending()),
                epochs=len(self.case.epochs),
                covered=self.case.covered,
            )

    def _unheard(self, reason: Reason, detail: str) -> None:
        """Take note of a round that came to nothing: a fault, once it goes on for too long."""
        self._outcome = (Tier.NONE, reason, detail)
        silent_s = time.monotonic() - self._heard_s
        if silent_s >= self.terms.silence_s:
            self._fault(reason, f"nothing for {silent_s:.0f} s: {detail}")

    def _fault(self, reason: Reason, detail: str) -> None:
        accuse = self.terms.policy.accuse_milli
        self._raise(Found("fault", reason, detail, accuse_milli=accuse))

    def _raise(self, found: Found) -> None:
        declared = self.case.declaration
        root = NOBODY if declared is None else declared.predicate.weights_root
        against = Against(self.place.name, self.place.provider, root, self._shutdown)
        self.terms.alarms.raise_for(against, found)


def _stale(idle_s: float) -> str:
    return f"no round has ended for {idle_s:.0f} s"
