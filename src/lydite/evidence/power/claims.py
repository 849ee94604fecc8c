"""What a provider declares of a run: the model, its numerics, the GPUs, each request's tokens.

Token counts are those that a gateway signed, or of a challenge: counts that the operator could
invent explain any power. Segments point into the monitor's sealed telemetry. Knows nothing of
watts, and nothing of what is expected.
"""

import hashlib
from typing import Annotated

import msgspec

from lydite.errors import FormatError
from lydite.evidence.power.shape import Numerics, Shape
from lydite.messages.canonical import Count, Hex32, Integer, Message, Word, decode
from lydite.messages.segment import SegmentPointer

MOST_BYTES = 8 * 1024 * 1024
MOST_REQUESTS = 100_000

_Gpus = Annotated[int, msgspec.Meta(ge=1, le=1024)]


class Request(Message, frozen=True, kw_only=True):
    """One answer of the run, in microseconds since 1970 by the gateway's clock."""

    receipt: Hex32
    """Digest of the receipt, which has the times and leads to the tokens."""
    tenant: Word
    received_us: Count
    first_us: Count
    """When the first token left."""
    completed_us: Count
    prompt_tokens: Count
    output_tokens: Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]


class Claims(Message, frozen=True, kw_only=True, tag_field="format", tag="lydite/declared-work/v1"):
    """One run of one deployment: what it is declared to be, and the work it is declared to do."""

    provider: Word
    session: Word
    """The job or lease: windows of one session depend on one another and count once."""
    gpu: Word
    """Kind of the GPUs, such as ``NVIDIA H200``."""
    gpus: _Gpus
    """How many of them share the model."""
    model: Word
    shape: Shape
    numerics: Numerics
    speculative: bool = False
    """Drafts are accepted several at a time, so that a step may yield more than one token."""
    zero_us: Integer
    """Unix time is the monitor's sampling time plus so many microseconds."""
    start_us: Count
    """The run, by the clock of the requests: what is not a request in it is a gap. Requests that
    reach beyond it count in part."""
    end_us: Count
    requests: Annotated[tuple[Request, ...], msgspec.Meta(max_length=MOST_REQUESTS)]
    segments: tuple[SegmentPointer, ...] = ()
    """Where the telemetry of the run was sealed, before anybody asked for it."""


def parse(payload: bytes) -> Claims:
    """Parse declared work, at most 8 MiB, in its one spelling, and check that it is whole.

    Raises:
        FormatError: other bytes than we would write, or what ``check`` refuses.
    """
    claims = decode(payload, Claims, limit=MOST_BYTES)
    check(claims)
    return claims


def check(claims: Claims) -> None:
    """Check that declared work can have happened.

    Raises:
        FormatError: no request, one whose times do not ascend or that lies outside of the run, a
            receipt that counts twice, or a shape that no transformer has.
    """
    _check_shape(claims.shape)
    if not claims.requests or claims.start_us >= claims.end_us:
        raise FormatError("declared work without a request, or without time")
    for one in claims.requests:
        named = f"request {one.receipt[:16]}"
        if not one.received_us <= one.first_us <= one.completed_us != one.received_us:
            raise FormatError(f"{named}: its times do not ascend")
        if one.completed_us <= claims.start_us or one.received_us >= claims.end_us:
            raise FormatError(f"{named}: lies outside of the run")
    if len({one.receipt for one in claims.requests}) != len(claims.requests):
        raise FormatError("declared work counts a receipt twice")


def session_number(claims: Claims) -> int:
    """Return what findings name a session by: the first 52 bits of SHA-256 over its names."""
    named = f"{claims.provider}\0{claims.session}".encode()
    return int.from_bytes(hashlib.sha256(named).digest()[:7], "big") >> 4


def _check_shape(shape: Shape) -> None:
    if shape.heads % shape.kv_heads:
        raise FormatError(f"{shape.heads} heads cannot share {shape.kv_heads} of keys and values")
    if shape.active_experts > shape.experts:
        raise FormatError(f"{shape.active_experts} active experts of {shape.experts}")
