"""What the bytes of an answer hold besides its text: every one of them explained, or charged.

A body is JSON in one of four spellings, a stream is a run of such bodies. What follows from the
request, the receipt or the tokens is taken out; what is left is a shape, which costs nothing the
more often it was seen, and all of its bytes when it is new. A body in another spelling is charged
as a whole. Knows nothing of models: how tokens are spelt is for the caller to say.
"""

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from lydite.errors import FormatError

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
_TAKEN = "\0"
_FINISHES = (None, "stop", "length")
_USAGE = ("prompt_tokens", "completion_tokens", "total_tokens")
_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


class Known(NamedTuple):
    """What request, receipt and tokens say of an answer before a byte of it is read."""

    receipt_id: str
    model: str | None
    """As the request names it."""
    received_s: int
    prompt_ids: Sequence[int]
    output_ids: Sequence[int]
    streamed: bool


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


def read(response: bytes, known: Known, spell: Callable[[Sequence[int]], str]) -> Frame:
    """Return what the bytes of an answer hold besides its tokens.

    ``spell`` returns the text of tokens.

    Raises:
        FormatError: a body is not a JSON object, so that nothing in it can be explained.
    """
    bodies = list(_events(response)) if known.streamed else [response]
    reader = _Reader(known, spell)
    shapes, sizes, bursts = [], [], []
    for body in bodies:
        shape = reader.shape(body)
        shapes += name_of(shape)
        sizes.append(len(shape))
        bursts.append(reader.burst)
    loose = reader.loose_micro
    if known.streamed:
        loose += BYTE_MICRO * _unexplained(response, bodies)
    return Frame(tuple(shapes), tuple(sizes), tuple(bursts), reader.clock, loose)


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
    """Return how many bytes of a stream are neither bodies nor the frame that they need."""
    plain = b"".join(b"data: %b\n\n" % body for body in bodies)
    if stream in (plain, plain + b"data: [DONE]\n\n"):
        return 0
    return len(stream)


class _Reader:
    """Takes what is known out of the bodies of one answer, in order."""

    def __init__(self, known: Known, spell: Callable[[Sequence[int]], str]) -> None:
        self._known = known
        self._spell = spell
        self._ids: list[int] = []
        self._text = ""
        self._created: int | None = None
        self.clock = 0
        self.burst = 0
        self.loose_micro = 0

    def shape(self, body: bytes) -> bytes:
        """Return what is left of a body, in the spelling that it came in.

        Raises:
            FormatError: it is not a JSON object.
        """
        try:
            fields = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"answer: {error}") from error
        if not isinstance(fields, dict):
            raise FormatError("answer: not a JSON object")
        style = _style(body, fields)
        self.burst = 0
        if style is None:
            self.loose_micro += coarse_micro(body)
            return b"?"
        left = self._top(fields)
        return b"%d" % style + json.dumps(left, separators=(",", ":")).encode()

    def _top(self, fields: dict[str, Any]) -> dict[str, Any]:
        left = dict(fields)
        known = self._known
        if isinstance(fields.get("id"), str) and fields["id"].endswith(known.receipt_id):
            left["id"] = fields["id"].removesuffix(known.receipt_id) + _TAKEN
        if known.model is not None and fields.get("model") == known.model:
            left["model"] = _TAKEN
        if fields.get("prompt_token_ids") == list(known.prompt_ids):
            left["prompt_token_ids"] = _TAKEN
        self._take_date(fields, left)
        if isinstance(fields.get("choices"), list):
            left["choices"] = [self._choice(choice) for choice in fields["choices"]]
        if isinstance(fields.get("usage"), dict):
            left["usage"] = self._usage(fields["usage"])
        return left

    def _take_date(self, fields: dict[str, Any], left: dict[str, Any]) -> None:
        created = fields.get("created")
        if isinstance(created, bool) or not isinstance(created, int):
            return
        if self._created is None and abs(created - self._known.received_s) < 1 << 20:
            self._created, self.clock = created, created - self._known.received_s
        if created == self._created:
            left["created"] = _TAKEN

    def _usage(self, usage: dict[str, Any]) -> dict[str, Any]:
        prompt, output = len(self._known.prompt_ids), len(self._known.output_ids)
        counts = dict(zip(_USAGE, (prompt, output, prompt + output), strict=True))
        return {name: _TAKEN if counts.get(name) == v else v for name, v in usage.items()}

    def _choice(self, choice: Any) -> Any:
        if not isinstance(choice, dict):
            return choice
        left = dict(choice)
        ids = choice.get("token_ids")
        if isinstance(ids, list):
            left["token_ids"] = _TAKEN
            self.burst = len(ids)
        if choice.get("finish_reason") in _FINISHES:  # follows from the last token, or is a cut
            left["finish_reason"] = _TAKEN
        for holder in ("message", "delta"):
            if isinstance(choice.get(holder), dict):
                left[holder] = self._said(dict(choice[holder]), "content", ids)
        return self._said(left, "text", ids)

    def _said(self, fields: dict[str, Any], name: str, ids: Any) -> dict[str, Any]:
        """Take the text out; tokens that do not spell it leave where it was cut to be charged."""
        text = fields.get(name)
        if not isinstance(text, str) or not isinstance(ids, list):
            return fields
        fields[name] = _TAKEN
        self._ids += ids
        self._text += text
        if self._spell(ids) != text:
            spelt = self._spell(self._ids)
            if spelt.rstrip(_UNFINISHED) != self._text.rstrip(_UNFINISHED):
                self.loose_micro += MICRO * (len(spelt) + 1).bit_length()
        return fields


def _style(body: bytes, fields: dict[str, Any]) -> int | None:
    """Return which of the spellings a body is in, None if none of them."""
    for number, (separators, ascii_only) in enumerate(SPELLINGS):
        spelt = json.dumps(fields, separators=separators, ensure_ascii=ascii_only)
        if spelt.encode(errors="surrogatepass") == body:
            return number
    return None
