"""Shuts a server down by a signed instruction to the gateway before it.

The recomputer is an officer there, granted ``cut-power`` and nothing else. The order is in the
gateway's log before it is carried out; the outcome is signed by the gateway, and not believed
otherwise. Decides nothing.
"""

import hashlib
import secrets
import time
from typing import Final

from lydite.appraisal.trust import Anchor
from lydite.auditor.gateway_client import GatewayClient
from lydite.auditor.refusals import timestamp
from lydite.errors import Reason, UnavailableError, VerificationError
from lydite.messages import instruction
from lydite.messages.canonical import encode
from lydite.messages.instruction import Instruction, InstructionPredicate, OutcomePredicate
from lydite.messages.statement import subject
from lydite.signing import notes
from lydite.signing.dsse import key_id, open_envelope
from lydite.signing.keys import Signer, sign_envelope

ACTION: Final = "cut-power"

_VALID_S: Final = 300
_TIMEOUT_S: Final = 120.0
_WHY: Final = 200


class Order:
    """Orders one gateway to cut the power of what stands behind it."""

    def __init__(self, url: str, anchor: Anchor, signer: Signer) -> None:
        """Give orders at the gateway's control port, ``url``.

        Raises:
            ConfigurationError: that is no URL.
        """
        self._client = GatewayClient(url, "", timeout_s=_TIMEOUT_S)
        self._anchor = anchor
        self._signer = signer

    def shut_down(self, provider: str, why: str) -> str:
        """Order it and return what the gateway says that it did.

        Raises:
            UnavailableError: it does not answer, refuses, or could not.
            LyditeError: what it answers is not signed by it, or about another order.
        """
        now_s = time.time()
        gateway = key_id(self._anchor.gateway_public)
        origin = notes.parse_key(self._anchor.log_vkey).name
        order = Instruction(
            subject=subject("log", hashlib.sha256(origin.encode()).digest()),
            predicate=InstructionPredicate(
                action=ACTION,
                arguments={},
                dry_run=False,
                expires=timestamp(now_s + _VALID_S),
                gateway=gateway,
                issued=timestamp(now_s),
                nonce=secrets.token_hex(32),
                why=f"{provider}: {why}"[:_WHY],
            ),
        )
        statement = encode(order)
        answer = self._client.instruct(sign_envelope(statement, self._signer))
        said = outcome_of(answer, statement, self._anchor)
        if said.ending != "done":
            reason = said.reason or Reason.FAILED
            raise UnavailableError(f"the gateway: {said.ending}: {said.detail}", reason)
        return f"entry {said.entry}: {said.detail}"


def outcome_of(answer: bytes, statement: bytes, anchor: Anchor) -> OutcomePredicate:
    """Return what a gateway says became of an instruction.

    Args:
        answer: what came back, an envelope.
        statement: the instruction's payload.
        anchor: the gateway that it was for.

    Raises:
        FormatError: no outcome in its one spelling.
        VerificationError: it is not signed by that gateway, or about another instruction.

    **Does not show** that the gateway did what it says, nor that the outcome is in its log.
    """
    gateway = key_id(anchor.gateway_public)
    payload = open_envelope(answer, {gateway: anchor.gateway_public}, [gateway])
    outcome = instruction.parse_outcome(payload)
    if outcome.subject[0].digest.sha256 != hashlib.sha256(statement).hexdigest():
        raise VerificationError(Reason.BAD_COMMITMENT, "the gateway speaks of another order")
    return outcome.predicate
