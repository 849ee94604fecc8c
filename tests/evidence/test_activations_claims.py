"""What an answer says of its activations: every way in which that can be odd has a reason."""

import base64
import json
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from lydite.errors import FormatError, LyditeError, Reason, UnavailableError
from lydite.evidence.activations import claims, verifier
from lydite.evidence.activations import spec as specs
from lydite.evidence.activations.claims import Stated
from lydite.evidence.activations.reference import Reference
from lydite.evidence.activations.verifier import Taps
from tests.evidence.sketched import ROOT, SPEC, WIDE, calibrated, states_of, streamed, whole

TOKENS = 7
SKETCH = bytes(range(100, 100 + 2 * TOKENS))
DIGEST = specs.digest(SPEC)
IDS: dict[str, Any] = {
    "receipt_id": "r-1",
    "weights_root": ROOT,
    "prompt_ids": (7, 8),
    "output_ids": tuple(range(TOKENS)),
}
KEY = specs.key(SPEC, **IDS)
FINGERPRINT = specs.fingerprint(KEY)


def reason_of(body: bytes, *, stream: bool = False) -> Reason:
    with pytest.raises(LyditeError) as caught:
        claims.stated(body, streamed=stream)
    return caught.value.reason


def answer(**activations: object) -> bytes:
    named = {"key": FINGERPRINT} | activations
    choice = {"index": 0, "text": "x", "finish_reason": "stop", "activations": named}
    return json.dumps({"choices": [choice]}).encode()


def test_the_sketch_of_a_whole_and_of_a_streamed_answer_is_read() -> None:
    said = Stated(spec=DIGEST, key=FINGERPRINT, sketch=SKETCH)
    assert claims.stated(whole(SPEC, SKETCH, KEY), streamed=False) == said
    assert claims.stated(streamed(SPEC, SKETCH, KEY), streamed=True) == said
    crlf = streamed(SPEC, SKETCH, KEY).replace(b"\n", b"\r\n")
    assert claims.stated(crlf, streamed=True) == said


def test_an_answer_without_a_sketch_has_none() -> None:
    for body in (b"{}", b'{"error":{}}', b'{"choices":[]}', b'{"choices":[{"activations":null}]}'):
        assert reason_of(body) is Reason.NO_SKETCH
    cut = streamed(SPEC, SKETCH, KEY).partition(b"activations")[0]
    assert reason_of(cut, stream=True) is Reason.NO_SKETCH
    assert reason_of(b"", stream=True) is Reason.NO_SKETCH


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", Reason.MALFORMED),
        (b"[]", Reason.MALFORMED),
        (b"\xff", Reason.MALFORMED),
        (b'{"choices":3}', Reason.MALFORMED),
        (b'{"choices":' + b"[" * 100_000, Reason.MALFORMED),
        (b'{"choices":[{"finish_reason":"stop","activations":"x"}]}', Reason.MALFORMED),
        (answer(spec=DIGEST), Reason.MALFORMED),
        (answer(sketch=""), Reason.MALFORMED),
        (answer(spec=DIGEST, sketch="", key="00"), Reason.MALFORMED),
        (answer(spec=DIGEST, sketch="", key="00" * 8 + "\n"), Reason.MALFORMED),
        (answer(spec=DIGEST, sketch="", key=None), Reason.MALFORMED),
        (answer(spec=DIGEST, sketch=3), Reason.MALFORMED),
        (answer(spec=DIGEST, sketch=None), Reason.MALFORMED),
        (answer(spec="residue", sketch=""), Reason.MALFORMED),
        (answer(spec=DIGEST.upper(), sketch=""), Reason.MALFORMED),
        (answer(spec=DIGEST, sketch="", scale=0), Reason.MALFORMED),
        (answer(spec=DIGEST, sketch="AA"), Reason.MALFORMED),
        (answer(spec=DIGEST, sketch="A A="), Reason.MALFORMED),
        (answer(spec=DIGEST, sketch="\u00e4AA="), Reason.MALFORMED),
        (answer(spec=DIGEST, sketch="AAA=AAAA"), Reason.MALFORMED),
        (answer(spec=DIGEST, sketch="AA=="[:-2] + "=="), None),
        (answer(spec=DIGEST, sketch="AB=="), Reason.NOT_CANONICAL),
        (answer(spec=DIGEST, sketch="AAB="), Reason.NOT_CANONICAL),
        (answer(spec=DIGEST, sketch="A" * (claims.MOST_BYTES * 4 // 3 + 8)), Reason.MALFORMED),
    ],
)
def test_a_field_that_is_not_one_is_refused(body: bytes, reason: Reason | None) -> None:
    if reason is None:
        assert claims.stated(body, streamed=False).sketch == b"\0"
    else:
        assert reason_of(body) is reason


def test_a_sketch_stands_once_and_where_the_answer_ends() -> None:
    body = whole(SPEC, SKETCH, KEY)
    choice = json.loads(body)["choices"][0]
    assert reason_of(json.dumps({"choices": [choice, choice]}).encode()) is Reason.ODD_ANSWER
    unfinished = whole(SPEC, SKETCH, finish_reason=None)
    assert reason_of(unfinished) is Reason.ODD_ANSWER
    first, _, rest = streamed(SPEC, SKETCH, KEY).partition(b"\n\n")
    early = first.replace(b'"token_ids"', b'"activations":{},"token_ids"') + b"\n\n" + rest
    assert reason_of(early, stream=True) is Reason.ODD_ANSWER


def test_only_the_expected_spec_and_size_are_weighed() -> None:
    said = Stated(spec=DIGEST, key=FINGERPRINT, sketch=SKETCH)
    assert claims.claims(said, SPEC, **IDS).sketch == SKETCH
    with pytest.raises(FormatError) as caught:
        claims.claims(said, WIDE, **IDS)
    assert caught.value.reason is Reason.UNKNOWN_SPEC
    for wrong in (SKETCH[:-1], SKETCH + b"\0", SKETCH[:-2], b"", SKETCH * 2):
        with pytest.raises(FormatError) as caught:
            claims.claims(msgspec.structs.replace(said, sketch=wrong), SPEC, **IDS)
        assert caught.value.reason is Reason.SKETCH_SIZE


@pytest.mark.parametrize(
    "change",
    [
        {"receipt_id": "r-2"},
        {"weights_root": "5f" * 32},
        {"prompt_ids": (7, 9)},
        {"output_ids": tuple(range(1, TOKENS + 1))},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_sketch_for_something_else_says_nothing_of_the_activations(
    change: dict[str, Any],
) -> None:
    said = Stated(spec=DIGEST, key=FINGERPRINT, sketch=SKETCH)
    with pytest.raises(FormatError) as caught:
        claims.claims(said, SPEC, **(IDS | change))
    assert caught.value.reason is Reason.OTHER_KEY


def test_an_empty_answer_has_an_empty_sketch() -> None:
    ids = IDS | {"output_ids": ()}
    said = claims.stated(whole(SPEC, b"", specs.key(SPEC, **ids)), streamed=False)
    assert claims.claims(said, SPEC, **ids).sketch == b""
    with pytest.raises(UnavailableError):
        claims.stated(b'{"choices":[{"finish_reason":"stop"}]}', streamed=False)


@pytest.mark.parametrize(
    "count", [10_000, pytest.param(1_000_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_no_blob_ends_in_anything_but_scores_or_a_reason(count: int) -> None:
    states = states_of(np.random.default_rng(2), TOKENS, 16)
    known = calibrated(width=16, responses=4)
    rng = random.Random(count)
    outcomes = {examine(body, stream, states, known) for body, stream in blobs(rng, count)}
    expected = {Reason.MALFORMED, Reason.NOT_CANONICAL, Reason.NO_SKETCH, Reason.SKETCH_SIZE}
    expected |= {Reason.OTHER_KEY}
    assert outcomes >= expected | {Reason.UNKNOWN_SPEC, Reason.ODD_ANSWER, None}


def examine(body: bytes, stream: bool, states: np.ndarray, known: Reference) -> Reason | None:
    """Return why a body was refused; None if every token of it has a score."""
    try:
        said = claims.stated(body, streamed=stream)
        claim = claims.claims(
            said,
            known.spec,
            **IDS,
        )
        finding = verifier.verify(claim, Taps(states), known)
    except LyditeError as error:
        return error.reason
    highest = specs.highest_micro(known.spec)
    (measure,) = finding.measures
    assert len(measure.values) == TOKENS
    assert 0 <= min(measure.values) <= max(measure.values) <= highest
    return None


def blobs(rng: random.Random, count: int) -> Iterator[tuple[bytes, bool]]:
    """Yield bodies: honest ones with some bytes changed, and fields of random bytes."""
    bodies = [(whole(SPEC, SKETCH, KEY), False), (streamed(SPEC, SKETCH, KEY), True)]
    for number in range(count):
        size = 2 * TOKENS if number % 4 else rng.randrange(64)
        sketch = base64.b64encode(rng.randbytes(size)).decode()
        spec = DIGEST if number % 7 else rng.randbytes(32).hex()
        if number % 3 == 0:
            yield answer(spec=spec, sketch=sketch), False
            continue
        body, stream = bodies[number % 2]
        changed = bytearray(body)
        for _ in range(rng.randrange(1, 4)):
            mutate(rng, changed)
        yield bytes(changed), stream


def mutate(rng: random.Random, body: bytearray) -> None:
    at, what = rng.randrange(len(body)), rng.randrange(5)
    if what == 0:
        body[at] = rng.randrange(256)
    elif what == 1:
        body[at] = ord(rng.choice('"{}[]:,0123456789=AB/+\\nul'))
    elif what == 2:
        del body[at : at + rng.randrange(1, 12)]
        body += b" " if not body else b""
    elif what == 3:
        body[at:at] = rng.choice([b"null", b"1e999", b'"finish_reason":null,', b"\n\n", b"AA=="])
    else:
        body[at:at] = body[at : at + rng.randrange(1, 200)]
