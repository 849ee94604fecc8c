"""What one provider's log says about its audits: epochs opened, receipts drawn, records written.

Rebuilt from the log alone, so an auditor that was killed goes on where it stopped. Judges nothing.
"""

import hashlib
import threading

from lydite.appraisal.policy import Policy
from lydite.appraisal.selection import check_contiguous, drawn
from lydite.appraisal.trust import Anchor, Trust
from lydite.auditor.disposals import Disposals
from lydite.auditor.gateway_client import Gateway
from lydite.auditor.mirror import Mirror
from lydite.errors import Reason, UnavailableError, VerificationError
from lydite.messages import audit, declaration, epoch, receipt
from lydite.messages.audit import Audit
from lydite.messages.canonical import decode
from lydite.messages.declaration import Declaration
from lydite.messages.epoch import Epoch
from lydite.messages.receipt import Receipt
from lydite.signing.dsse import Envelope, KeyId, key_id, open_envelope, payload_of


class Casebook:
    """The state of one provider's audits, read from a mirror of its log."""

    def __init__(
        self, client: Gateway, trust: Trust, anchor: Anchor, policy: Policy, auditor: KeyId
    ) -> None:
        self.anchor = anchor
        self.mirror = Mirror(client, trust.log_policy(anchor))
        self._client = client
        self._trust = trust
        self._policy = policy
        self._auditor = auditor
        self._read = 0
        self._envelopes: dict[int, bytes] = {}
        self.lock = threading.RLock()
        """Held while the state changes, and by whoever reads more than one part of it."""
        self.declaration_entry = 0
        self.declaration: Declaration | None = None
        self.epochs: dict[int, Epoch] = {}
        """Epoch statements by the number of their log entry."""
        self.receipts: dict[int, int] = {}
        """Epoch numbers of this provider's drawn receipts, by log entry."""
        self.bystanders: list[int] = []
        self.covered = 0
        """How many receipts the epochs drew from."""
        self.disposals = Disposals(self.mirror, anchor.provider)
        self.audits: dict[int, tuple[int, Audit]] = {}
        """This auditor's records by audited entry: their own entry, and what they say."""
        self.result_entry = 0

    def catch_up(self) -> None:
        """Read everything that a witnessed checkpoint covers by now.

        Raises:
            UnavailableError: the gateway does not answer, or withholds an envelope.
            VerificationError: the log, an epoch or a declaration is not what it has to be.
        """
        with self.lock:
            self.mirror.sync()
            while self._read < self.mirror.size:
                self._take(self._read + 1)
                self._read += 1

    def pending(self) -> list[int]:
        """Return the drawn receipts that have no record yet, in log order."""
        return sorted(set(self.receipts) - set(self.audits))

    def receipt(self, number: int) -> Receipt:
        """Return a drawn receipt, signed by provider and gateway."""
        provider, gateway = self.anchor.provider_public, self.anchor.gateway_public
        keys = {key_id(provider): provider, key_id(gateway): gateway}
        return receipt.parse(open_envelope(self.envelope(number), keys, list(keys)))

    def envelope(self, number: int) -> bytes:
        """Return the envelope behind entry ``number``, held against the log's digest of it."""
        known = self._envelopes.get(number)
        if known is not None:
            return known
        raw = self._client.envelope(number)
        statement = payload_of(decode(raw, Envelope))
        if hashlib.sha256(statement).hexdigest() != self.mirror.entry(number).sha256:
            raise UnavailableError(
                f"the gateway gave another envelope for entry {number}", Reason.BAD_COMMITMENT
            )
        self._envelopes[number] = raw
        return raw

    def _take(self, number: int) -> None:
        kind = self.mirror.entry(number).kind
        if self.mirror.entry(number).prov != self.anchor.provider:
            return
        if kind == "declaration" and self.declaration is None:
            provider = self.anchor.provider_public
            payload = open_envelope(
                self.envelope(number), {key_id(provider): provider}, [key_id(provider)]
            )
            self.declaration, self.declaration_entry = declaration.parse(payload), number
        elif kind == "epoch":
            self._take_epoch(number)
        elif kind in ("entropy", "retention"):
            self._take_disposal(number, kind)
        elif kind == "audit":
            self._take_audit(number)
        elif kind == "result" and self._mine(number) is not None:
            self.result_entry = number

    def _take_epoch(self, number: int) -> None:
        gateway = self.anchor.gateway_public
        payload = open_envelope(
            self.envelope(number), {key_id(gateway): gateway}, [key_id(gateway)]
        )
        statement = epoch.parse(payload)
        log = self._trust.log_policy(self.anchor)
        vrf_key = bytes.fromhex(self.anchor.vrf_key)
        said = statement.predicate
        pledge = self.disposals.pledge_at(said.tree_size)
        checkpoint, _, entries = drawn(said, pledge, log, self._trust.beacon, vrf_key, self._policy)
        check_contiguous([*(e.predicate for e in self.epochs.values()), said])
        if self.mirror.tree.root(checkpoint.size) != checkpoint.root:
            raise VerificationError(
                Reason.INCONSISTENT_LOG, f"epoch {said.epoch} draws from a fork of the log"
            )
        self.epochs[number] = statement
        drawn_from = range(said.first, said.tree_size + 1)
        self.covered += sum(self.mirror.entry(each).kind == "receipt" for each in drawn_from)
        self.disposals.opened(said, entries)
        for each in entries:
            leaf = self.mirror.entry(each)
            if leaf.kind == "receipt" and leaf.prov == self.anchor.provider:
                self.receipts[each] = said.epoch
            else:
                self.bystanders.append(each)

    def _take_disposal(self, number: int, kind: str) -> None:
        gateway = self.anchor.gateway_public
        payload = open_envelope(
            self.envelope(number), {key_id(gateway): gateway}, [key_id(gateway)]
        )
        if kind == "entropy":
            self.disposals.take_pledge(number, payload)
        else:
            self.disposals.take_retention(number, payload)

    def _take_audit(self, number: int) -> None:
        payload = self._mine(number)
        if payload is None:
            return
        record = audit.parse_audit(payload)
        self.audits.setdefault(record.predicate.entry, (number, record))

    def _mine(self, number: int) -> bytes | None:
        """Return the payload of an envelope that this auditor signed, None if another did."""
        keys = self._trust.auditor_keys()
        if self._auditor not in keys:
            raise VerificationError(
                Reason.UNKNOWN_KEY, "this auditor's key is not among the trust file's auditors"
            )
        try:
            return open_envelope(
                self.envelope(number), {self._auditor: keys[self._auditor]}, [self._auditor]
            )
        except VerificationError as error:
            if error.reason is Reason.UNKNOWN_KEY:
                return None
            raise
