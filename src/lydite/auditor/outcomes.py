"""Answers a client that asks what became of its own request: the parts that show it, with proofs.

Everything comes from the gateway's witnessed log, so that the client believes nothing that it
cannot check. Judges nothing.
"""

import threading
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from lydite.appraisal.outcome import Outcome, Proven, Stage
from lydite.appraisal.receipts import Served
from lydite.auditor.casebook import Casebook
from lydite.auditor.watch import Watch
from lydite.errors import LyditeError, Reason, UnavailableError, VerificationError
from lydite.messages import receipt as receipts
from lydite.messages.canonical import decode, encode
from lydite.signing import notes
from lydite.signing.dsse import Envelope, key_id, open_envelope, payload_of
from lydite.tlog.proof import Proof

_FRESH_S: Final = 0.5
"""How long a look at a log is good for: many clients that ask at once cost one look."""
_KNOWN: Final = 10_000


class Located(NamedTuple):
    """A receipt, and the watch over the gateway that gave it."""

    watch: Watch
    served: Served


class Outcomes:
    """What became of any request behind any of the gateways. May be called from several threads."""

    def __init__(self, watches: Sequence[Watch]) -> None:
        self._watches = tuple(watches)
        self._homes: dict[str, Watch] = {}
        self._looked_s: dict[str, float] = {}
        self._lock = threading.Lock()

    def outcome(self, receipt_id: str) -> Outcome:
        """Return what became of one request.

        Raises:
            UnavailableError: no gateway knows such a receipt (``NOT_IN_LOG``), or none answers.
            LyditeError: the gateway's log cannot be verified at present.
        """
        watch, served = self.locate(receipt_id)
        self._look(watch)
        case, number = watch.case, served.index or 0
        with case.lock:
            if served.proof is None or not 0 < number <= case.mirror.size:
                unlogged = Served(envelope=served.envelope, index=served.index, proof=None)
                return Outcome(receipt=unlogged, stage="unlogged")
            watch.check_logged(payload_of(served.envelope), number)
            epoch, drawn = _epoch(case, number), number in case.receipts
            audited = case.audits.get(number) if drawn else None
            result = proven(case, case.result_entry) if case.result_entry else None
            bench = watch.bench
            return Outcome(
                receipt=served,
                stage=_stage(epoch, drawn=drawn, audited=audited is not None),
                epoch=proven(case, epoch) if epoch else None,
                pledge=proven(case, case.epochs[epoch].predicate.tree_size) if epoch else None,
                audit=proven(case, audited[0]) if audited else None,
                result=result,
                policy=watch.terms.policy,
                references=() if bench is None else bench.references,
            )

    def locate(self, receipt_id: str) -> Located:
        """Ask the gateways for a receipt; who gave it before is the only one asked again.

        Only an answer that both keys of that gateway's anchor signed, about this very receipt, is
        taken: what another gateway says, however wrong, denies it to nobody.

        Raises:
            UnavailableError: none knows it (``NOT_IN_LOG``), or those that might do not answer.
        """
        home = self._homes.get(receipt_id)
        silent, said = None, ""
        likely = sorted(self._watches, key=lambda watch: not watch.place.healthy)
        for watch in likely if home is None else (home,):
            try:
                served = _genuine(watch, receipt_id)
            except UnavailableError as error:
                if error.reason is not Reason.NOT_IN_LOG:
                    silent, said = error.reason, watch.told(error)
            except LyditeError as error:  # a wrong answer is as good as none
                silent, said = Reason.UNAVAILABLE, watch.told(error)
            else:
                self._remember(receipt_id, watch)
                return Located(watch, served)
        if silent is not None:
            raise UnavailableError(f"a gateway does not answer: {said}", silent)
        raise UnavailableError(f"no gateway knows receipt {receipt_id}", Reason.NOT_IN_LOG)

    def _remember(self, receipt_id: str, watch: Watch) -> None:
        with self._lock:
            if len(self._homes) >= _KNOWN:
                self._homes.pop(next(iter(self._homes)))
            self._homes[receipt_id] = watch

    def _look(self, watch: Watch) -> None:
        """Read what is new in a log, unless that was done just now."""
        with watch.case.lock:
            now = time.monotonic()
            if now - self._looked_s.get(watch.place.name, -1e9) > _FRESH_S:
                watch.case.catch_up()
                self._looked_s[watch.place.name] = time.monotonic()


def _genuine(watch: Watch, receipt_id: str) -> Served:
    """Return a receipt as the gateway serves it, if it is that gateway's and the one asked for."""
    served = decode(watch.clients.client.receipt(receipt_id), Served, limit=1 << 20)
    anchor = watch.anchor
    keys = {key_id(key): key for key in (anchor.provider_public, anchor.gateway_public)}
    statement = receipts.parse(open_envelope(encode(served.envelope), keys, list(keys)))
    if statement.predicate.receipt_id != receipt_id:
        raise VerificationError(Reason.BAD_COMMITMENT, "the gateway gave another receipt")
    return served


def proven(case: Casebook, number: int) -> Proven:
    """Return what stands behind the 1-based entry ``number``, proved by the mirror's checkpoint."""
    mirror = case.mirror
    path = tuple(mirror.tree.inclusion_proof(number - 1, mirror.size))
    proof = Proof(index=number - 1, path=path, note=notes.parse(mirror.note))
    envelope = decode(case.envelope(number), Envelope)
    return Proven(envelope=envelope, index=number, proof=proof.encode().decode())


def _epoch(case: Casebook, number: int) -> int | None:
    """Return the entry of the epoch that covers the entry ``number``, if there is one."""
    for entry, statement in case.epochs.items():
        if statement.predicate.first <= number <= statement.predicate.tree_size:
            return entry
    return None


def _stage(epoch: int | None, *, drawn: bool, audited: bool) -> Stage:
    if epoch is None:
        return "waiting"
    if not drawn:
        return "undrawn"
    return "audited" if audited else "drawn"
