"""What an answer says of its own activations: parsed from the exact bytes of the answer.

Knows nothing of models. A sketch that is missing, cut, or made otherwise is a reason to learn
nothing, never a score: only whole sketches of the expected spec are weighed.
"""

import base64
import binascii
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec

from lydite.errors import FormatError, Reason, UnavailableError
from lydite.evidence.activations import spec as specs
from lydite.evidence.activations.spec import ProjectionKey, Spec
from lydite.messages.canonical import UNREADABLE, Hex32

FIELD = "activations"
"""Of the choice that carries ``finish_reason``."""
MOST_BYTES = 1 << 20
"""Of a sketch; no answer is as long."""

_TokenId = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
_Blob = Annotated[str, msgspec.Meta(max_length=4 * -(-MOST_BYTES // 3))]


class Stated(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in the answer."""

    spec: Hex32
    """Digest of the spec that the sketch was made with."""
    key: str
    """Fingerprint of the key that it was made with."""
    sketch: bytes


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What the verifier weighs: these residues, for these tokens of this receipt."""

    receipt_id: str
    prompt_ids: tuple[_TokenId, ...]
    output_ids: tuple[_TokenId, ...]
    sketch: bytes


_NOTHING = msgspec.Raw(b"null")


class _Field(msgspec.Struct, forbid_unknown_fields=True):
    spec: Hex32
    key: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}\Z")]
    sketch: _Blob


class _Choice(msgspec.Struct):
    finish_reason: str | None = None
    activations: msgspec.Raw = _NOTHING


class _Answer(msgspec.Struct):
    choices: list[_Choice] = []


def stated(response: bytes, *, streamed: bool) -> Stated:
    """Return the one sketch that an answer carries, on the choice that says how it finished.

    Raises:
        UnavailableError: there is none (``Reason.NO_SKETCH``).
        FormatError: the answer or the field cannot be read (``Reason.MALFORMED``), the base64 is
            not the one spelling of its bytes (``Reason.NOT_CANONICAL``), or there are several, or
            one beside another choice (``Reason.ODD_ANSWER``).
    """
    bodies = _events(response) if streamed else iter((response,))
    choices = [choice for body in bodies for choice in _choices(body)]
    carrying = [choice for choice in choices if choice.activations != _NOTHING]
    if not carrying:
        raise UnavailableError("the answer has no sketch of its activations", Reason.NO_SKETCH)
    if len(carrying) > 1 or carrying[0].finish_reason is None:
        raise FormatError("answer: its sketch is not where it ends", Reason.ODD_ANSWER)
    return _said(_decode(bytes(carrying[0].activations), _Field))


def read(field: dict[str, str]) -> Stated:
    """Return what ``field`` says, as it would be read from an answer.

    Raises:
        FormatError: it cannot be read.
    """
    return _said(_decode(msgspec.json.encode(field), _Field))


def _said(field: _Field) -> Stated:
    return Stated(spec=field.spec, key=field.key, sketch=_bytes_of(field.sketch))


def claims(
    said: Stated,
    spec: Spec,
    *,
    receipt_id: str,
    weights_root: Hex32,
    prompt_ids: Sequence[int],
    output_ids: Sequence[int],
) -> Claims:
    """Return the claims of a sketch that was made as ``spec`` says, for exactly these tokens.

    An honest sketch with a wrong key looks like a forged one. So a sketch names its key, and one
    that names another is a mistake that says nothing of the activations.

    Raises:
        FormatError: it was made by another spec (``Reason.UNKNOWN_SPEC``), is not as long as
            the sketch of so many tokens is (``Reason.SKETCH_SIZE``), or was made for another
            receipt, other weights or other tokens (``Reason.OTHER_KEY``).
    """
    if said.spec != specs.digest(spec):
        raise FormatError(f"a sketch by the spec {said.spec[:16]}", Reason.UNKNOWN_SPEC)
    expected = specs.size_bytes(spec, len(output_ids))
    if len(said.sketch) != expected:
        raise FormatError(
            f"a sketch of {len(said.sketch)} bytes, {len(output_ids)} tokens have {expected}",
            Reason.SKETCH_SIZE,
        )
    key = specs.key(
        spec,
        receipt_id=receipt_id,
        weights_root=weights_root,
        prompt_ids=prompt_ids,
        output_ids=output_ids,
    )
    if said.key != specs.fingerprint(key):
        raise FormatError("a sketch for another receipt, weights or tokens", Reason.OTHER_KEY)
    return Claims(
        receipt_id=receipt_id,
        prompt_ids=tuple(prompt_ids),
        output_ids=tuple(output_ids),
        sketch=said.sketch,
    )


def field(spec: Spec, key: ProjectionKey, sketch: bytes) -> dict[str, str]:
    """Return what an engine puts under ``FIELD``."""
    return {
        "spec": specs.digest(spec),
        "key": specs.fingerprint(key),
        "sketch": base64.b64encode(sketch).decode(),
    }


def _bytes_of(blob: str) -> bytes:
    try:
        sketch = base64.b64decode(blob, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FormatError(f"sketch: {error}") from error
    if base64.b64encode(sketch).decode() != blob:  # e.g. loose bits before the padding
        raise FormatError("sketch: another spelling of its base64", Reason.NOT_CANONICAL)
    return sketch


def _choices(body: bytes) -> list[_Choice]:
    answer: _Answer = _decode(body, _Answer)
    return answer.choices


def _events(stream: bytes) -> Iterator[bytes]:
    """Yield the data of each finished server-sent event that is not the end of the stream."""
    for event in stream.replace(b"\r\n", b"\n").split(b"\n\n")[:-1]:
        data = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line[:5] == b"data:"]
        if data and data != [b"[DONE]"]:
            yield b"\n".join(data)


def _decode(payload: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(payload, type=kind)
    except UNREADABLE as error:
        raise FormatError(f"activations: {error}") from error
