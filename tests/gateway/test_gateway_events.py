"""Event streams are cut at whole events, whatever the reads, and the obvious cutter agrees."""

import re
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError
from lydite.gateway.plane import events
from lydite.gateway.plane.events import EventCutter
from lydite.messages.endings import DoneEnding

PIECES = st.sampled_from(
    [
        b"data: {}\n\n",
        b"data: {}\r\n\r\n",
        b"data: x\n",
        b": comment\n",
        b"id: 1\n",
        b"\n",
        b"data: a\r\n",
        b"\r\n",
        b"[DONE]",
        b"data: [DONE]",
        b"data: [DONE]\n\n",
        b"data: [DONE]\r\n\r\n",
        b"data:[DONE]\n\n",
        b"data: [DONE]x\n\n",
        b"data:  [DONE] \n\n",
        b'data: "[DONE]"\n\n',
        b": lydite-receipts are nice\n",
        b'data: ": lydite-receipt {}"\n\n',
    ]
)


class ImitatedError(Exception):
    """Some client might take an event for the end that is not."""


def obvious(stream: bytes) -> tuple[bytes, bytes, bool]:
    """Split a whole stream: what may go out before its end, what is held, whether it is done."""
    at = 0
    for end in re.finditer(rb"\n\r?\n", stream):
        event = stream[at : end.end()]
        lines = re.split(rb"\r\n|\r|\n", event)
        data = [line for line in lines if line.split(b":")[0] == b"data"]
        if data in ([b"data: [DONE]"], [b"data:[DONE]"]):
            return stream[:at], stream[at:], True
        stripped = [line.strip().removeprefix(b"data:").strip() for line in lines]
        if any(line.startswith(b"[DONE]") for line in stripped):
            raise ImitatedError
        at = end.end()
    return stream[:at], stream[at:], False


def cut(stream: bytes, splits: list[int]) -> tuple[bytes, bytes, bool]:
    cutter = EventCutter(1 << 20, DoneEnding())
    sent = b"".join(
        cutter.feed(stream[a:b]) for a, b in pairwise([0, *sorted(splits), len(stream)])
    )
    return sent, cutter.finish(), cutter.done


@given(st.lists(PIECES, max_size=12).map(b"".join), st.data())
def test_the_cutter_agrees_with_the_obvious_one(stream: bytes, data: st.DataObject) -> None:
    splits = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
    if re.search(rb"(?:^|[\r\n])[ \t]*:[ \t]*lydite-receipt", stream):
        with pytest.raises(FormatError):
            cut(stream, splits)
        return
    try:
        whole, _, finished = obvious(stream)
    except ImitatedError:
        with pytest.raises(FormatError, match="imitates its end"):
            cut(stream, splits)
        return
    sent, held, done = cut(stream, splits)
    # Blank lines that follow one another belong to either side.
    assert (sent.rstrip(b"\r\n"), done) == (whole.rstrip(b"\r\n"), finished)
    assert sent + held == stream


@given(st.binary(max_size=60), st.data())
def test_no_byte_is_lost_or_moved(stream: bytes, data: st.DataObject) -> None:
    splits = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
    sent, held, _ = cut(stream, splits)
    assert sent + held == stream


@pytest.mark.parametrize(
    "line",
    [
        b": lydite-receipt {}",
        b":lydite-receipt {}",
        b" : lydite-receipt {}",
        b":\t lydite-receipt",
        b"data: x\r: lydite-receipt {}",
        b"\xef\xbb\xbf: lydite-receipt {}",
    ],
)
def test_an_imitated_receipt_line_is_refused_at_every_split(line: bytes) -> None:
    stream = line + b"\n\ndata: [DONE]\n\n"
    for split in range(len(stream)):
        with pytest.raises(FormatError, match="imitates"):
            cut(stream, [split])


IMITATIONS = [
    b"data: [DONE]x",
    b"data: [DONE] ",
    b"data: [DONE]\t",
    b"data: [DONE]\xc2\xa0",
    b"data: [DONE]\0",
    b"data:  [DONE]",
    b"data:\t[DONE]",
    b"data:\xc2\xa0[DONE]",
    b" data: [DONE]",
    b"data : [DONE]",
    b"[DONE]",
    b"data: [DONE]\ndata: more",
    b"data: [DONE]\ndata",
    b"data: {}\ndata: [DONE]",
    b"data: [DONE]\ndata: [DONE]",
    b"data: {}\rdata: [DONE]",
    b"data: {}\r\rdata: [DONE]",
    b"event: x\nid: 1\ndata: [DONE] x",
]


@pytest.mark.parametrize("event", IMITATIONS)
def test_an_imitated_end_is_refused_at_every_split(event: bytes) -> None:
    for end in (b"\n\n", b"\r\n\r\n"):
        stream = b"data: {}\n\n" + event.replace(b"\n", end[: len(end) // 2]) + end
        for split in range(len(stream)):
            with pytest.raises(FormatError, match="imitates its end"):
                cut(stream, [split])


def test_an_imitated_end_behind_a_byte_order_mark_is_refused() -> None:
    with pytest.raises(FormatError, match="imitates its end"):
        cut(b"\xef\xbb\xbfdata: [DONE]\n\n", [])


@pytest.mark.parametrize(
    "event",
    [
        b"data: [DONE]",
        b"data:[DONE]",
        b"data: [DONE]\r",
        b"event: x\nid: 1\ndata: [DONE]",
        b"data: [DONE]\n: [DONE]x",
    ],
)
def test_the_end_may_have_other_fields_beside_it(event: bytes) -> None:
    stream = event + b"\n\n"
    assert cut(stream, []) == (b"", stream, True)


def test_blanks_without_end_are_looked_through_in_time() -> None:
    stream = b"\n" + b" " * 2_000_000 + b"[DONE\n[DONE" + b"x\n[DONE]\n\n"
    with pytest.raises(FormatError, match="imitates its end"):
        EventCutter(4_000_000, DoneEnding()).feed(stream)


def test_an_event_without_end_is_bounded() -> None:
    cutter = EventCutter(100, DoneEnding())
    cutter.feed(b"x" * 100)
    with pytest.raises(FormatError, match="more than 100 bytes"):
        cutter.feed(b"x")


def test_what_follows_done_is_bounded() -> None:
    cutter = EventCutter(20, DoneEnding())
    assert cutter.feed(b"data: [DONE]\n\n") == b""
    with pytest.raises(FormatError, match="more than 20 bytes"):
        cutter.feed(b": bye\n\n")


def test_an_event_in_small_pieces_is_looked_at_and_copied_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked, search = [], events._last_event_end

    def counting(buffer: bytearray, start: int) -> int:
        looked.append(len(buffer) - start)
        return search(buffer, start)

    monkeypatch.setattr(events, "_last_event_end", counting)
    cutter = EventCutter(4 << 20, DoneEnding())
    cutter.feed(b"data: " + b"x" * 3_000_000)
    cutter.feed(b"x")  # makes room for more
    tracemalloc.start()
    for _ in range(200):
        assert cutter.feed(b"x") == b""
    copied = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(looked[1:]) <= 201 * 3
    assert copied < 1_000_000
    assert len(cutter.feed(b"\n\n")) == 3_000_209


def test_what_follows_done_in_small_pieces_is_looked_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cutter = EventCutter(4 << 20, DoneEnding())
    cutter.feed(b"data: [DONE]\n\n" + b":" * 3_000_000)
    monkeypatch.setattr(events, "_last_event_end", None)
    tracemalloc.start()
    for _ in range(200):
        assert cutter.feed(b"\n\n") == b""
    copied = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert copied < 1_000_000
