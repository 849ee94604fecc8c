"""A stream on its way in: nothing is held up but its end, and its end is never let go too soon."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError, LyditeError, Reason
from lydite.messages.commitment import Salt, commit_request, commit_response
from lydite.messages.compact import SIGNED_PREFIX, Parts, spell
from lydite.openai import arrival
from lydite.openai.arrival import Asked, Named, Pins, Stream
from lydite.signing.keys import Signer

SALT = Salt(bytes(range(32)))
ASKED = Asked(b"/v1/chat/completions", b'{"stream":true}')
HEAD = Named("ab" * 16, SALT.hex())
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


def stream_of(parts: list[bytes], last: bytes = b"data: [DONE]\n\n") -> tuple[bytes, bytes]:
    """A body as a gateway sends it, and where its end begins."""
    body = b"".join(parts)
    parts_of = Parts(
        1,
        HEAD.receipt_id.encode(),
        commit_request(SALT, *ASKED).hex().encode(),
        commit_response(SALT, body + last).hex().encode(),
        HEAD.salt.encode(),
        b"00" * 32,
    )
    compact = spell(parts_of, SIGNER.sign(SIGNED_PREFIX + spell(parts_of)))
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
            # Only what could still become an end is held up: less than a line.
            assert len(held) < len(b": lydite-receipt ")
            assert not held or re.search(rb"[\r\n]", held) is None
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
        assert stream.feed(start + end[:30]) == start
