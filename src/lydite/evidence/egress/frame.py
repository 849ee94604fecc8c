"""What the bytes of an answer hold besides its text: every one of them explained, or charged.

A body is JSON in one of four spellings, a stream is a run of such bodies. What follows from the
request, the receipt or the tokens is taken out; what is left is a shape, which costs nothing the
more often it was seen, and all of its bytes when it is new. Then the body is spelt again from its
shape and from what is known: one that does not come out byte for byte is charged as a whole, so
that nothing is free for not having been compared. Knows nothing of models: how tokens are spelt is
for the caller to say.
"""

import hashlib
import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lydite.errors import FormatError, Reason
from lydite.evidence.egress import holes
from lydite.evidence.egress.holes import Expected
from lydite.evidence.egress.wording import Spell, Wording

SPELLINGS = tuple(
    (separators, ascii_only)
    for separators in ((",", ":"), (", ", ": "))
    for ascii_only in (False, True)
)
"""Separators, and whether other characters than ASCII are escaped."""
MICRO = 1_000_000
BYTE_MICRO = 8 * MICRO
NAME_WORDS = 2
"""How many integers of 52 bits name a shape."""
BODIES = 1 << 16
"""A stream of more bodies is not read."""
_CLOCK_S = 1 << 18
_USAGE = ("prompt_tokens", "completion_tokens", "total_tokens")
_DETAILS = ("prompt_tokens_details", "completion_tokens_details")
"""What a server says null of, if it says anything."""
_SELDOM_BITS = 12
"""What it costs to say that something is not as usual; that it is costs next to nothing."""
_USUAL_MICRO = math.ceil(-MICRO * math.log2(1 - 2.0**-_SELDOM_BITS))


class Known(NamedTuple):
    """What request, receipt and tokens say of an answer before a byte of it is read."""

    receipt_id: str
    model: str | None
    """As the request names it."""
    received_s: int
    prompt_ids: Sequence[int]
    output_ids: Sequence[int]
    streamed: bool
    ends: Sequence[str] = ("stop", "length")
    """What may have ended it; empty if nothing did. To say which of several is charged."""
    stops: Sequence[str] = ()
    """The request's stop strings."""


class Frame(NamedTuple):
    """What is left of the bytes of an answer."""

    shapes: tuple[int, ...]
    """Names of the shapes of its bodies, ``NAME_WORDS`` integers each."""
    sizes: tuple[int, ...]
    """The bytes of each shape."""
    bursts: tuple[int, ...]
    """The tokens in each body."""
    clock: int
    """By how many seconds its date differs from the gateway's."""
    loose_micro: int
    """What cannot be explained at all, in micro-bits."""


def read(response: bytes, known: Known, spell: Spell) -> Frame:
    """Return what the bytes of an answer hold besides its tokens.

    ``spell`` returns the text of tokens.

    Raises:
        FormatError: a body is not a JSON object, or nests too deep, or there are too many
            (``Reason.TOO_LARGE``), so that nothing in it can be explained.
    """
    bodies = list(_events(response)) if known.streamed else [response]
    if len(bodies) > BODIES:
        raise FormatError(f"answer: {len(bodies)} events", Reason.TOO_LARGE)
    try:
        return _read(response, bodies, known, spell)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"answer: {error}") from error


def _read(response: bytes, bodies: Sequence[bytes], known: Known, spell: Spell) -> Frame:
    parsed = [_parsed(body) for body in bodies]
    last = max((number for number, each in enumerate(parsed) if each.get("choices")), default=-1)
    clock = _clock(parsed, known.received_s)
    reader = _Reader(known, clock, spell)
    shapes, sizes, bursts = [], [], []
    for number, (body, fields) in enumerate(zip(bodies, parsed, strict=True)):
        shape = reader.shape(body, fields, last=number == last)
        shapes += name_of(shape)
        sizes.append(len(shape))
        bursts.append(reader.burst)
    loose = reader.loose_micro
    if known.streamed:
        loose += _unexplained(response, bodies)
        # How many there are follows from the tokens, but for those in between that have none.
        loose += _seldom_micro(bursts[1:-1].count(0) + int(len(bodies) < 2))
    return Frame(tuple(shapes), tuple(sizes), tuple(bursts), clock, loose)


def name_of(shape: bytes) -> list[int]:
    """Return the integers that name a shape."""
    digest = hashlib.sha256(shape).digest()
    return [int.from_bytes(digest[8 * i : 8 * i + 8]) >> 12 for i in range(NAME_WORDS)]


def coarse_micro(body: bytes) -> int:
    """Return the length of bytes of which nothing is explained, compressed, in micro-bits.

    Any decoder knows zlib, so that its output is a code like any other.
    """
    return BYTE_MICRO * len(zlib.compress(body, 6))


def _events(stream: bytes) -> Iterator[bytes]:
    for event in stream.split(b"\n\n"):
        if event.startswith(b"data: ") and event != b"data: [DONE]":
            yield event[6:]


def _unexplained(stream: bytes, bodies: Sequence[bytes]) -> int:
    """Return what a stream says besides its bodies and the frame that they need, in micro-bits."""
    plain = b"".join(b"data: %b\n\n" % body for body in bodies)
    if stream == plain + b"data: [DONE]\n\n":
        return _seldom_micro(0)
    if stream == plain:
        return _seldom_micro(1)
    return _seldom_micro(len(stream) + 1) + BYTE_MICRO * len(stream)


def _seldom_micro(count: int) -> int:
    """Return the codelength of a count that is nearly always 0, in micro-bits."""
    if not count:
        return _USUAL_MICRO
    return MICRO * (_SELDOM_BITS + 2 * count.bit_length() - 1)


def _parsed(body: bytes) -> dict[str, Any]:
    fields = json.loads(body)
    if not isinstance(fields, dict):
        raise FormatError("answer: not a JSON object")
    return fields


def _clock(parsed: Sequence[Mapping[str, Any]], received_s: int) -> int:
    """Return by how many seconds the first date that is one differs from the gateway's."""
    dates = [date for each in parsed if type(date := each.get("created")) is int]
    return next((at - received_s for at in dates if abs(at - received_s) < _CLOCK_S), 0)


class _Reader:
    """Takes what is known out of the bodies of one answer, in order."""

    def __init__(self, known: Known, clock: int, spell: Spell) -> None:
        self._known = known
        self._wording = Wording(known.output_ids, known.stops, spell)
        self._at = 0
        self._values: dict[str, Any] = {
            "prompt_token_ids": list(known.prompt_ids),
            "created": known.received_s + clock,
        }
        if known.model is not None:
            self._values["model"] = known.model
        prompt, output = len(known.prompt_ids), len(known.output_ids)
        counts = dict(zip(_USAGE, (prompt, output, prompt + output), strict=True))
        self._usage = {**dict.fromkeys(_DETAILS), **counts}
        self.burst = 0
        self.loose_micro = 0

    def shape(self, body: bytes, fields: Mapping[str, Any], *, last: bool) -> bytes:
        """Return what is left of a body, in the spelling that it came in."""
        expected = self._expected(fields, last=last)
        style = _style(body, fields)
        if style is not None:
            left = json.dumps(holes.take(fields, expected), separators=(",", ":"))
            shape = b"%d" % style + left.encode()
            if _respelt(shape, expected) == body:
                return shape
        self.loose_micro += coarse_micro(body)
        return b"?"

    def _expected(self, fields: Mapping[str, Any], *, last: bool) -> Expected:
        """Return what a body holds if it says nothing but what it has to."""
        known, choice = self._known, _choice(fields)
        ids = choice.get("token_ids")
        self.burst = len(ids) if isinstance(ids, list) else 0
        start, self._at = self._at, self._at + self.burst
        named = isinstance(ids, list) or ids == holes.TAKEN
        return Expected(
            receipt_id=known.receipt_id,
            values=self._values,
            usage=self._usage,
            finish=self._finish(choice) if last else None,
            token_ids=list(known.output_ids[start : self._at]) if named else None,
            text=self._text(choice) if named else None,
        )

    def _finish(self, choice: Mapping[str, Any]) -> str | None:
        ends = self._known.ends
        if not ends:
            return None
        self.loose_micro += math.ceil(MICRO * math.log2(len(ends)))
        said = choice.get("finish_reason")
        return next((end for end in ends if end == said), ends[0])

    def _text(self, choice: Mapping[str, Any]) -> str:
        """Return the text that goes with the tokens; where it is cut elsewhere is charged."""
        ready, text = self._wording.expect(self.burst), holes.said(choice)
        length = self._wording.hear(text) if isinstance(text, str) else None
        if length is None or text == ready:
            self.loose_micro += _seldom_micro(0)
            return ready
        self.loose_micro += _seldom_micro(length + 1)
        return str(text)


def _choice(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = fields.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return choices[0]
    return {}


def _respelt(shape: bytes, expected: Expected) -> bytes:
    """Return the body that has this shape, from what is known alone."""
    fields = holes.fill(json.loads(shape[1:]), expected)
    return _spelt(fields, int(shape[:1]))


def _spelt(fields: Mapping[str, Any], style: int) -> bytes:
    separators, ascii_only = SPELLINGS[style]
    spelt = json.dumps(fields, separators=separators, ensure_ascii=ascii_only)
    return spelt.encode(errors="surrogatepass")


def _style(body: bytes, fields: Mapping[str, Any]) -> int | None:
    """Return which of the spellings a body is in, None if none of them."""
    return next((i for i in range(len(SPELLINGS)) if _spelt(fields, i) == body), None)
