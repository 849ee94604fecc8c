"""The mode that a gateway came into: what its machine may be given and may answer from then on.

Written at every change, so that the log tells when which weights were served, and when the power
was cut and why. Knows nothing of how a mode is kept.
"""

import enum
from typing import Annotated, Literal

import msgspec

from lydite.messages.canonical import Count, Hex32, Message, Word, decode
from lydite.messages.receipt import Timestamp
from lydite.messages.statement import Subject


class Mode(enum.StrEnum):
    """What a gateway takes and gives; ``gateway.modes`` is their specification."""

    DARK = "dark"
    """The power is being cut; nothing is taken and nothing is given."""
    UPLOAD = "upload"
    """The power is off, the memory empty; weights on the whitelist are taken."""
    LOADING = "loading"
    """Exactly the listed bytes came; the machine is on and does not answer yet."""
    SERVING = "serving"
    """The machine answers requests."""


class Cause(enum.StrEnum):
    """Why a mode was entered."""

    STARTED = "started"
    """The gateway starts, and knows nothing of its machine."""
    POWER_OFF = "power-off"
    """The power is off and the memory wiped."""
    UPLOADED = "uploaded"
    """Every byte came, and every digest matched."""
    ANSWERS = "answers"
    """The machine answers with the uploaded weights."""
    WRONG_WEIGHTS = "wrong-weights"
    """Bytes came that are not the listed ones."""
    TOO_LONG = "too-long"
    """A byte came after the last one."""
    BROKEN_OFF = "broken-off"
    """The upload ended before its last byte."""
    STALLED = "stalled"
    """The upload stood still for too long."""
    NO_ROOM = "no-room"
    """The store could not take the bytes."""
    LOAD_FAILED = "load-failed"
    """The machine did not answer in time after it was switched on."""
    LOST = "lost"
    """The machine stopped answering: whatever answers next may be another."""
    UNLISTED = "unlisted"
    """The weights were taken off the whitelist."""
    RELOAD_DUE = "reload-due"
    """No machine keeps its memory for longer than the schedule allows."""
    INSTRUCTION = "instruction"
    """An instruction or a policy asked for it."""
    UNLOGGED = "unlogged"
    """The log could not be written, and nothing is served that the log does not tell."""
    STOPPED = "stopped"
    """The gateway winds down."""


Boot = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]


class Predicate(Message, frozen=True, kw_only=True):
    """One change. ``sequence`` counts within ``boot``, a number drawn when the gateway started.

    ``weights_root`` names the weights under way, if any, and ``signature`` is the digest of the
    model signature that lists them; ``received`` of their ``size`` bytes had come. ``detail`` is
    free text of the gateway's own.
    """

    boot: Boot
    sequence: Count
    mode: Mode
    cause: Cause
    detail: Annotated[str, msgspec.Meta(max_length=400)]
    weights_root: Hex32 | None
    signature: Hex32 | None
    received: Count
    size: Count
    at: Timestamp
    gateway: Word


class ModeChange(Message, frozen=True, kw_only=True):
    """In-toto Statement whose subject is the declaration that the gateway serves under."""

    statement_type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(
        name="_type", default="https://in-toto.io/Statement/v1"
    )
    subject: tuple[Subject]
    predicate_type: Literal["https://lydite.dev/attestations/gateway-mode/v1"] = (
        "https://lydite.dev/attestations/gateway-mode/v1"
    )
    predicate: Predicate


def parse(payload: bytes) -> ModeChange:
    """Parse a mode change's payload, at most 16 KiB, in its one spelling."""
    return decode(payload, ModeChange, limit=1 << 14)
