"""The admin protocol's two nouns: what officers tell a gateway to do, and what came of it.

An instruction is signed by as many officers as the gateway's authority asks for; its outcome by the
gateway. Both are entries of the log: the instruction before it is carried out.
"""

from typing import Annotated, Literal

import msgspec

from lydite.errors import Reason
from lydite.messages.canonical import Count, Hex32, Message, Word, decode
from lydite.messages.receipt import Timestamp
from lydite.messages.statement import Subject

Action = Annotated[str, msgspec.Meta(pattern=r"^[a-z]+(-[a-z]+)*\Z", max_length=40)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]*\Z", max_length=40)]
Value = Annotated[str, msgspec.Meta(max_length=1 << 16)]
Arguments = Annotated[dict[Name, Value], msgspec.Meta(max_length=16)]

MAX_INSTRUCTION_BYTES = 1 << 18
ACTIONS = (
    "cut-power",
    "reload-settings",
    "renew-egress-accounts",
    "reseal",
    "resume-serving",
    "set-egress-budget",
    "set-upstreams",
    "stop-serving",
    "whitelist-add",
    "whitelist-adopt",
    "whitelist-remove",
)
"""All that any gateway of this version can be told to do; docs/admin.md says what each means."""


class InstructionPredicate(Message, frozen=True, kw_only=True):
    """Do ``action`` at the gateway with this key id, between ``issued`` and ``expires``.

    ``nonce`` makes it one instruction that is carried out at most once; ``dry_run`` asks only what
    would happen; ``why`` is for the people who read the log.
    """

    action: Action
    arguments: Arguments
    dry_run: bool
    expires: Timestamp
    gateway: Word
    issued: Timestamp
    nonce: Hex32
    why: Word


class Instruction(Message, frozen=True, kw_only=True):
    """In-toto Statement whose subject is the gateway's log, by the digest of its origin."""

    statement_type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(
        name="_type", default="https://in-toto.io/Statement/v1"
    )
    subject: tuple[Subject]
    predicate_type: Literal["https://lydite.dev/attestations/instruction/v1"] = (
        "https://lydite.dev/attestations/instruction/v1"
    )
    predicate: InstructionPredicate


Ending = Literal["done", "failed", "interrupted", "refused", "would-do"]


class OutcomePredicate(Message, frozen=True, kw_only=True):
    """How the instruction at 1-based ``entry`` ended, and when.

    ``refused``: too few officers, or not those whom the authority names for it; nothing was done.
    ``interrupted``: the gateway stopped before it knew; it is not carried out again.
    """

    action: Action
    detail: Annotated[str, msgspec.Meta(max_length=4096)]
    ending: Ending
    entry: Count
    gateway: Word
    reason: Reason | None = None
    time: Timestamp


class Outcome(Message, frozen=True, kw_only=True):
    """In-toto Statement whose subject is the instruction's statement."""

    statement_type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(
        name="_type", default="https://in-toto.io/Statement/v1"
    )
    subject: tuple[Subject]
    predicate_type: Literal["https://lydite.dev/attestations/instruction-outcome/v1"] = (
        "https://lydite.dev/attestations/instruction-outcome/v1"
    )
    predicate: OutcomePredicate


def parse(payload: bytes) -> Instruction:
    """Parse an instruction's payload, at most 256 KiB, in its one spelling."""
    return decode(payload, Instruction, limit=MAX_INSTRUCTION_BYTES)


def parse_outcome(payload: bytes) -> Outcome:
    """Parse an outcome's payload, at most 64 KiB, in its one spelling."""
    return decode(payload, Outcome, limit=1 << 16)
