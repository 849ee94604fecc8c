"""A numerics passport: what the honest tokens of one model look like on one stack, as counts.

Made and signed by a verifier or by a reference node that it endorses, **never by the accused**: who
is to be judged by a null may not write it. Holds counts on a fixed fine grid for every answer, so
that edges, ceilings, dependence, power and the scores of whole answers follow from it again. Knows
nothing of keys, clocks or models.
"""

import hashlib
import itertools
from typing import Annotated, Literal

import msgspec

from lydite.errors import FormatError, Reason, VerificationError
from lydite.messages import grid as grids
from lydite.messages.canonical import Count, Hex32, Message, Word, decode, encode
from lydite.messages.grid import Grid
from lydite.messages.receipt import Timestamp, unix_ms
from lydite.messages.stack import Stack
from lydite.messages.statement import Subject

MAX_BYTES = 4 << 20
TOKENS = 128
"""Answers are counted on this many tokens, their first."""
MAX_RESPONSES, MAX_CHANNELS = 8192, 8
V1: Literal["https://lydite.dev/attestations/numerics-passport/v1"]
V2: Literal["https://lydite.dev/attestations/numerics-passport/v2"]
V1 = "https://lydite.dev/attestations/numerics-passport/v1"
V2 = "https://lydite.dev/attestations/numerics-passport/v2"
"""With sketches, which readers of the first version do not know."""
SKETCH, INNER = "activations/sketch", "activations/inner"
"""Channels of sketches: the last states, and the second tap."""

_Millionths = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
_Cell = Annotated[int, msgspec.Meta(ge=0, le=255)]
_Tokens = Annotated[int, msgspec.Meta(ge=1, le=TOKENS)]


class Row(Message, frozen=True, kw_only=True, array_like=True):
    """The scores of one answer: how many of its first 128 tokens fall into which cells."""

    cells: Annotated[tuple[_Cell, ...], msgspec.Meta(min_length=1, max_length=TOKENS)]
    """The cells that are not empty, ascending."""
    counts: Annotated[tuple[_Tokens, ...], msgspec.Meta(min_length=1, max_length=TOKENS)]
    """Tokens in each of them."""
    first: _Cell
    last: _Cell
    """The cells of the first and of the last token."""
    products: Count
    """Sum over neighbouring tokens of the product of their cells, for the autocorrelation."""

    @property
    def tokens(self) -> int:
        """How many tokens were counted."""
        return sum(self.counts)


class Channel(Message, frozen=True, kw_only=True):
    """One score of every answer."""

    name: Word
    """``tokens/margin``, say; the unit is that of the measure of this name in a finding."""
    grid: Grid
    rows: Annotated[tuple[Row, ...], msgspec.Meta(min_length=1, max_length=MAX_RESPONSES)]
    """One for each answer."""


class Streams(Message, frozen=True, kw_only=True):
    """Honest streams of this very stack, each judged by a null made of the others."""

    run: Count
    tokens: Count
    """In each of them, on average."""
    false_alarms: Count
    """Those whose e-value ever reached the level."""
    log10_level_milli: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class Sketch(Message, frozen=True, kw_only=True):
    """What the sketches were made with whose scores the activations' channels hold."""

    spec: Hex32
    """Digest of the spec, whose fields follow."""
    coordinates: Annotated[int, msgspec.Meta(ge=8, le=16)]
    delta: Word
    inner_deltas: Annotated[tuple[Word, ...], msgspec.Meta(max_length=3)]
    """The steps of the second tap at its depths; empty: there is none."""
    width: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]
    """Numbers in a state."""
    sigma_micro: Count
    """Root mean square by which projections of the two stacks differ, in millionths."""
    noise_micro: Count
    """Most that it is before one token, in millionths."""


class Predicate(Message, frozen=True, kw_only=True, omit_defaults=True):
    """What was run, how it was measured, and what was counted."""

    model: Word
    weights_root: Hex32
    stack: Stack
    """What made the tokens."""
    auditor: Stack
    """What recomputed them."""
    cheat: Word | None
    """Not honest at all: what a cheat of this name looks like. Says how much evidence finds it, and
    never belongs to a null."""
    prompts: Hex32
    script: Hex32
    versions: Annotated[tuple[Word, ...], msgspec.Meta(max_length=16)]
    temperature_min_milli: Annotated[int, msgspec.Meta(ge=1, le=10_000)]
    """The lowest temperature that answers were drawn at, in thousandths."""
    top_p_min_ppm: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    noise_micro: Annotated[int, msgspec.Meta(ge=0, le=10_000_000)]
    """How far the logits of the two stacks differ, in micro-logits (the 99.99 % quantile)."""
    drift_micro: Annotated[int, msgspec.Meta(ge=0, le=500_000)]
    """Bound on the mean of an honest surprisal, in millionths of its clip."""
    flips_ppm: _Millionths
    """Share of tokens outside of what the auditor's own filters, without any slack, would leave."""
    channels: Annotated[tuple[Channel, ...], msgspec.Meta(min_length=1, max_length=MAX_CHANNELS)]
    streams: Streams
    issued: Timestamp
    expires: Timestamp
    sketch: Sketch | None = None
    """Left out where no sketches were measured: then this is version 1."""


class Passport(Message, frozen=True, kw_only=True):
    """In-toto Statement whose subject is the root of the model's weights."""

    statement_type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(
        name="_type", default="https://in-toto.io/Statement/v1"
    )
    subject: tuple[Subject]
    predicate_type: Literal[
        "https://lydite.dev/attestations/numerics-passport/v1",
        "https://lydite.dev/attestations/numerics-passport/v2",
    ] = V1
    predicate: Predicate


def parse(payload: bytes) -> Passport:
    """Parse a passport's payload, at most 4 MiB, in its one spelling, and check that it is whole.

    Raises:
        FormatError: other bytes than we would write, or counts that contradict themselves.
        VerificationError: it is about other weights than its subject says.
    """
    passport = decode(payload, Passport, limit=MAX_BYTES)
    check(passport)
    return passport


def check(passport: Passport) -> None:
    """Check that a passport can be read against.

    1. Its subject is the root that its predicate names.
    2. It expires after it was issued.
    3. Channels have different names and one row for each answer, all of the same number.
    4. Every row has cells of its grid, ascending, and counts, ends and products that fit them.
    5. It is version 2 if it says how sketches were made, and then has one channel for each tap.

    Raises:
        VerificationError: step 1 fails.
        FormatError: any other does.

    **Does not show** that anything was measured: whose signature it takes is for the reader to say.
    """
    said = passport.predicate
    # 1.
    if passport.subject[0].digest.sha256 != said.weights_root:
        raise VerificationError(
            Reason.UNKNOWN_REFERENCE, "passport: other weights than its subject"
        )
    # 2.
    if unix_ms(said.expires) <= unix_ms(said.issued):
        raise FormatError(f"passport: expires at {said.expires}, issued at {said.issued}")
    # 3.
    names = {channel.name for channel in said.channels}
    sizes = {len(channel.rows) for channel in said.channels}
    if len(names) != len(said.channels) or len(sizes) != 1:
        raise FormatError("passport: a channel twice, or channels of different answers")
    # 4.
    for channel in said.channels:
        size = grids.cells(channel.grid)
        for row in channel.rows:
            _check_row(row, size, channel.name)
    # 5.
    _check_sketch(passport)


def check_current(passport: Passport, now_ms: int) -> None:
    """Refuse a passport that is not valid at ``now_ms``, milliseconds since 1970.

    Raises:
        VerificationError: it has expired, or comes from the future (``Reason.STALE``).
    """
    said = passport.predicate
    if not unix_ms(said.issued) <= now_ms < unix_ms(said.expires):
        raise VerificationError(
            Reason.STALE,
            f"passport of {name_of(said.stack)}: valid {said.issued} to {said.expires}",
        )


def digest(passport: Passport) -> str:
    """Return what reports name a passport by: SHA-256 of its payload, in hex."""
    return hashlib.sha256(encode(passport)).hexdigest()


def name_of(stack: Stack) -> str:
    """Return a stack in a few words, for people."""
    return " ".join((stack.engine, stack.version, stack.dtype, stack.batch, stack.parallelism))


def row(cells: tuple[int, ...]) -> Row:
    """Return the row of an answer whose tokens fall into these cells, in order; 128 count.

    Raises:
        FormatError: no tokens.
    """
    kept = cells[:TOKENS]
    if not kept:
        raise FormatError("passport: an answer without tokens")
    filled = tuple(sorted(set(kept)))
    return Row(
        cells=filled,
        counts=tuple(kept.count(cell) for cell in filled),
        first=kept[0],
        last=kept[-1],
        products=sum(a * b for a, b in itertools.pairwise(kept)),
    )


def _check_sketch(passport: Passport) -> None:
    known = passport.predicate.sketch
    taps = {c.name for c in passport.predicate.channels if c.name.startswith("activations/")}
    wanted = set() if known is None else {SKETCH, INNER} if known.inner_deltas else {SKETCH}
    if taps != wanted or (passport.predicate_type == V2) != (known is not None):
        raise FormatError("passport: sketches and how they were made, or the version, do not fit")
    if known is not None and (
        known.coordinates not in (8, 16) or len(known.inner_deltas) in (1, 2)
    ):
        raise FormatError("passport: no spec of a sketch has such coordinates or taps")


def _check_row(row: Row, size: int, name: str) -> None:
    fit = len(row.cells) == len(row.counts) and list(row.cells) == sorted(set(row.cells))
    if not fit or row.cells[-1] >= size or row.tokens > TOKENS:
        raise FormatError(f"passport: a row of {name} whose cells do not ascend, or do not fit")
    if not {row.first, row.last} <= set(row.cells):
        raise FormatError(f"passport: a row of {name} that begins or ends in an empty cell")
    pairs = row.tokens - 1
    if not row.cells[0] ** 2 * pairs <= row.products <= row.cells[-1] ** 2 * pairs:
        raise FormatError(f"passport: a row of {name} with impossible neighbours")
