"""A stream on its way in: nothing is held up but its end, and its end is never let go too soon."""

import itertools
import re
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError, LyditeError, Reason, VerificationError
from lydite.messages.commitment import Salt, commit_request, commit_response
from lydite.messages.compact import SIGNED_PREFIX, Parts, spell, with_signature
from lydite.openai import arrival
from lydite.openai.arrival import Asked, Named, Pins, Stream
from lydite.signing.keys import Signer

SALT = Salt(bytes(range(32)))
ASKED = Asked(b"/v1/chat/completions", b'{"stream":true}')
HEAD = Named("ab" * 16, SALT.hex(), 200)
TYPED = Asked(b"/v1/responses?x=1", b'{"stream":true}')
SIGNER = Signer(b"g" * 32)
PINS = Pins((SIGNER.public,))

pieces = st.lists(
    st.sampled_from(
        [
            b'data: {"x":1}\n\n',
            b"data: [DO\n\n",
            b"data: x data: [DONE]\n\n",
            b": lydite-receip\n\n",
            b'data: ": lydite-receipt {}"\r\n\r\n',
            b"id: 1\ndata: y\n\n",
            b"\xef\xbb\xbfdata: z\n\n",
            b"data:\n\n",
        ]
    ),
    max_size=8,
)


def stream_of(
    parts: list[bytes],
    last: bytes = b"data: [DONE]\n\n",
    asked: Asked = ASKED,
    outcome: bytes = b"complete",
) -> tuple[bytes, bytes]:
    """A body as a gateway sends it, and its end."""
    body = b"".join(parts)
    parts_of = Parts(
        1,
        HEAD.receipt_id.encode(),
        commit_request(SALT, *asked).hex().encode(),
        commit_response(SALT, body + last).hex().encode(),
        HEAD.salt.encode(),
        b"00" * 32,
        200,
        outcome,
    )
    plain = spell(parts_of)
    compact = with_signature(plain, SIGNER.sign(SIGNED_PREFIX + plain))
    return body, b": lydite-receipt " + compact + b"\n" + last


def cut(body: bytes, cuts: list[int]) -> list[bytes]:
    bounds = sorted({0, len(body), *(place % (len(body) + 1) for place in cuts)})
    return [body[a:b] for a, b in itertools.pairwise(bounds)]


@given(pieces, st.lists(st.integers(0, 2_000), max_size=12))
def test_any_cutting_lets_the_same_bytes_through_and_holds_the_end(
    parts: list[bytes], cuts: list[int]
) -> None:
    body, end = stream_of(parts)
    stream = Stream(ASKED, PINS, HEAD)
    fed, passed = b"", b""
    for part in cut(body + end, cuts):
        fed += part
        passed += stream.feed(part)
        assert passed == body[: len(passed)]
        held = fed[len(passed) :]
        if len(fed) <= len(body):
            assert re.search(rb"\n\r?\n", held) is None  # only an event that is not whole is held
    last, receipt = stream.finish()
    assert passed + last == body + end
    assert receipt.id == HEAD.receipt_id


@given(pieces)
def test_whole_events_pass_at_once(parts: list[bytes]) -> None:
    stream = Stream(ASKED, PINS, HEAD)
    for part in parts:
        assert stream.feed(part) == part


@given(pieces, st.integers(0, 255), st.integers(0, 5_000))
def test_no_changed_byte_goes_unseen(parts: list[bytes], new: int, place: int) -> None:
    body, end = stream_of(parts)
    whole = bytearray(body + end)
    place %= len(whole)
    if whole[place] == new:
        return
    whole[place] = new
    stream = Stream(ASKED, PINS, HEAD)
    stream.feed(bytes(whole))
    with pytest.raises(LyditeError):
        stream.finish()


def test_an_end_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival, "HELD_BYTES", 1_000)
    stream = Stream(ASKED, PINS, HEAD)
    stream.feed(b"data: [DONE]\n\n")
    with pytest.raises(FormatError) as caught:
        stream.feed(bytes(1_001))
    assert caught.value.reason is Reason.TOO_LARGE


def test_a_stream_that_begins_with_its_end_is_held() -> None:
    for start in (b"", b"\xef\xbb\xbf"):
        body, end = stream_of([], b"data: [DONE]\n\n")
        assert body == b""
        stream = Stream(ASKED, PINS, HEAD)
        assert stream.feed(start + end[:-1]) == b""


COMPLETED = b'event: response.completed\ndata: {"type":"response.completed"}\n\n'
DELTA = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta"}\n\n'
FAULT = b'data: {"error":{"message":"no"}}\n\n'


@pytest.mark.parametrize("kind", ["completed", "failed", "incomplete"])
@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
def test_each_last_event_of_a_typed_stream_is_held(kind: str, named: bool) -> None:
    last = COMPLETED.replace(b"completed", kind.encode())
    last = last if named else last[last.index(b"data") :]
    stream = Stream(TYPED, PINS, HEAD)
    assert stream.feed(DELTA + last + DELTA) == DELTA
    with pytest.raises(VerificationError) as caught:
        stream.finish()
    assert caught.value.reason is Reason.NO_RECEIPT
    body, end = stream_of([DELTA], last, TYPED)
    stream = Stream(TYPED, PINS, HEAD)
    assert stream.feed(body + end) == DELTA
    assert stream.finish()[0] == end


@pytest.mark.parametrize(
    "event",
    [
        b'event: response.completed\ndata: {"type":"response.created"}\n\n',
        b"event: response.completed\n\n",
        b'data: {"type":"x"}\rdata: {"type":"response.completed"}\r\n\r\n',
        b"data: [DONE]\n\n",
    ],
)
def test_what_looks_like_an_end_is_held_too_and_refused(event: bytes) -> None:
    body, end = stream_of([event], COMPLETED, TYPED)
    stream = Stream(TYPED, PINS, HEAD)
    assert stream.feed(body + end) == b""
    with pytest.raises(LyditeError):
        stream.finish()


@pytest.mark.parametrize("asked", [ASKED, TYPED], ids=["chat", "responses"])
@pytest.mark.parametrize(
    ("outcome", "ends"),
    [(b"complete", False), (b"aborted", True), (b"refused", True)],
)
def test_a_stream_ends_as_its_receipt_says(asked: Asked, outcome: bytes, ends: bool) -> None:
    last = COMPLETED if asked is TYPED else b"data: [DONE]\n\n"
    for each in (last, last[:-1]) if ends else (FAULT, b"", last[:-1]):
        body, end = stream_of([DELTA], each, asked, outcome)
        stream = Stream(asked, PINS, HEAD)
        stream.feed(body + end)
        with pytest.raises(VerificationError) as caught:
            stream.finish()
        assert caught.value.reason is Reason.BROKEN_OFF


@pytest.mark.parametrize("asked", [ASKED, TYPED], ids=["chat", "responses"])
def test_a_stream_that_broke_off_is_let_through_as_broken(asked: Asked) -> None:
    for last in (FAULT, b""):
        body, end = stream_of([DELTA], last, asked, b"aborted")
        stream = Stream(asked, PINS, HEAD)
        passed = stream.feed(body + end)
        rest, receipt = stream.finish()
        assert passed + rest == body + end
        error = arrival.broken_off(receipt)
        assert error is not None
        assert error.reason is Reason.BROKEN_OFF


def test_the_status_is_held_to_the_receipt() -> None:
    body, end = stream_of([DELTA])
    stream = Stream(ASKED, PINS, HEAD._replace(status=201))
    stream.feed(body + end)
    with pytest.raises(VerificationError, match="201"):
        stream.finish()


class Counting:
    """A pattern that counts the bytes that it is shown."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self._pattern = pattern
        self.looked = 0

    def finditer(self, text: bytes, start: int = 0) -> Iterator[re.Match[bytes]]:
        self.looked += len(text) - start
        return self._pattern.finditer(text, start)


def test_an_event_in_small_pieces_is_looked_at_and_copied_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = Stream(ASKED, PINS, HEAD)
    stream.feed(b"data: " + b"x" * 3_000_000)
    stream.feed(b"x")  # makes room for more
    counting = Counting(arrival._EVENT_END)
    monkeypatch.setattr(arrival, "_EVENT_END", counting)
    tracemalloc.start()
    for _ in range(200):
        assert stream.feed(b"x") == b""
    copied = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert counting.looked <= 200 * 3
    assert copied < 1_000_000
    assert len(stream.feed(b"\n\n")) == 3_000_209
