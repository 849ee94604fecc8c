"""What a gateway's log tells, entry by entry, in words: each statement checked, none believed.

For people who read a log after the fact. Pure: leaves and envelopes in, lines out. What a statement
means for a verdict is not decided here.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from lydite.appraisal.authority import Authority
from lydite.appraisal.trust import Anchor, Trust
from lydite.errors import LyditeError, Reason, VerificationError
from lydite.messages.canonical import UNREADABLE, Count, Message, decode
from lydite.messages.entry import Entry
from lydite.messages.plain import plain
from lydite.signing.dsse import Envelope, KeyId, PublicKey, key_id, open_envelope, payload_of

Fields = Mapping[str, Any]
_LONGEST = 80
_ODD = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What comes of fields that are missing, or of other types and sizes than they should be."""


class Line(Message, frozen=True, kw_only=True):
    """One entry in words.

    ``signer`` is ``provider``, ``gateway``, ``auditor`` or officers' names, and ``unknown`` where
    nobody signed that the reader trusts.
    """

    entry: Count
    kind: str
    signer: str
    time: str
    text: str


class Reader(NamedTuple):
    """Whose signatures a reader knows."""

    anchor: Anchor
    trust: Trust
    authority: Authority | None = None

    def signer(self, envelope: bytes) -> str:
        """Return who of those signed; ``unknown`` if somebody else did.

        Raises:
            VerificationError: a signature by somebody known does not verify.
        """
        names = self._names()
        keys = {each.keyid for each in decode(envelope, Envelope).signatures}
        if not keys <= {str(known) for known in names}:
            return "unknown"
        open_envelope(envelope, {known: key for known, (_, key) in names.items()}, ())
        return ", ".join(sorted({names[KeyId(each)][0] for each in keys}))

    def _names(self) -> dict[KeyId, tuple[str, PublicKey]]:
        anchor = self.anchor
        found = {
            key_id(anchor.provider_public): ("provider", anchor.provider_public),
            key_id(anchor.gateway_public): ("gateway", anchor.gateway_public),
        }
        found |= {known: ("auditor", key) for known, key in self.trust.auditor_keys().items()}
        if self.authority is not None:
            for name, text in self.authority.officers.items():
                key = PublicKey(bytes.fromhex(text))
                found[key_id(key)] = (name, key)
        return found


class _Statement(msgspec.Struct):
    """Of any statement, what is told."""

    predicate_type: str = msgspec.field(name="predicateType")
    predicate: dict[str, Any]


def tell(number: int, leaf: Entry, envelope: bytes, reader: Reader) -> Line:
    """Return one entry in words.

    1. The envelope holds the statement that the leaf names.
    2. Whoever the reader knows among its signers did sign it.

    Raises:
        FormatError, VerificationError: a step fails.

    **Does not show** that what the statement says is true, nor that the leaf is in the log: whoever
    fetched it checked that.
    """
    # 1.
    statement = payload_of(decode(envelope, Envelope))
    if hashlib.sha256(statement).hexdigest() != leaf.sha256:
        raise VerificationError(Reason.BAD_COMMITMENT, f"entry {number} names another statement")
    # 2.
    signer = reader.signer(envelope)
    time, text = _words(statement)
    return Line(entry=number, kind=leaf.kind, signer=signer, time=plain(time), text=plain(text))


def untold(number: int, leaf: Entry, why: LyditeError) -> Line:
    """Return the line of an entry that ``tell`` refused to tell."""
    text = plain(f"not told: {why}")
    return Line(entry=number, kind=leaf.kind, signer="unknown", time="", text=text)


def _words(statement: bytes) -> tuple[str, str]:
    """Return a statement's time and words; anybody may have logged anything that he signed."""
    try:
        said = msgspec.json.decode(statement, type=_Statement)
    except UNREADABLE:
        return "", "a statement that cannot be read"
    name = said.predicate_type.removesuffix("/v1").rpartition("/")[2]
    fields = said.predicate
    try:
        time = str(fields.get("time") or fields.get("at") or fields.get("issued") or "")
        return time, _WORDS[name](fields) if name in _WORDS else name
    except _ODD:
        return "", "a statement that lacks what its type asks for"


def _ordered(said: Fields) -> str:
    given = " ".join(f"{name}={_short(value)}" for name, value in said["arguments"].items())
    dry = " (dry run)" if said["dryRun"] else ""
    return f"ordered: {said['action']}{dry} {given}".rstrip() + f": {said['why']}"


def _short(value: str) -> str:
    return value if len(value) <= _LONGEST else f"({len(value)} characters)"


def _mode(said: Fields) -> str:
    took = f", {said['received']} of {said['size']} bytes" if said["size"] else ""
    return f"mode {said['mode']} ({said['cause']}{took}) {said['detail']}".rstrip()


def _notice(said: Fields) -> str:
    bits, budget = said["chargedMicro"] // 1_000_000, said["budgetMicro"] // 1_000_000
    return f"egress {said['event']} of {said['scope']}: {bits} of {budget} bits"


def _verdict(said: Fields) -> str:
    verdict = said["verdict"]
    return f"verdict {verdict['tier']} ({verdict['reason']}), {verdict['tokens']} tokens"


_WORDS: dict[str, Callable[[Fields], str]] = {
    "alarm": lambda said: f"alarm: {said['reason']}, {said['action']} ({said['mode']})",
    "attestation-result": _verdict,
    "audit-entropy": lambda said: (
        f"pledges epoch {said['epoch']}, beacon round {said['round']}, and randomness"
    ),
    "audit-epoch": lambda said: f"epoch {said['epoch']} drew from {said['first']} on",
    "cannot": lambda said: f"nobody serves {said['model']}",
    "egress-accounts": lambda said: (
        f"accounts of egress {'begun anew' if said['renewed'] else 'stand'} at line {said['lines']}"
    ),
    "egress-notice": _notice,
    "gateway-mode": _mode,
    "inference-audit": lambda said: f"examined entry {said['entry']}",
    "inference-receipt": lambda said: f"answer {said['receiptId']}, {said['response']['outcome']}",
    "instruction": _ordered,
    "instruction-outcome": lambda said: f"entry {said['entry']} {said['ending']}: {said['detail']}",
    "model-declaration": lambda said: f"declares {said['model']}, {said['weightsRoot'][:16]}",
    "retention": lambda said: (
        f"destroyed {said['destroyed']} pairs ({said['cause']}), kept {said['kept']}"
    ),
}
