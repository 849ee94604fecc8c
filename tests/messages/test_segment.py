"""Segments of telemetry as statements: one spelling, and none that contradicts itself."""

import msgspec
import pytest

from lydite.errors import FormatError
from lydite.messages import segment
from lydite.messages.canonical import encode
from lydite.messages.segment import Predicate, Segment, SegmentPointer, counted
from lydite.messages.statement import subject

PREDICATE = Predicate(
    run="0" * 32,
    index=3,
    previous="1" * 64,
    clock="monotonic",
    from_us=10,
    to_us=20,
    zero_us=1_700_000_000_000_000,
    zero_end_us=1_700_000_000_000_002,
    devices=("NVIDIA H200/0",),
    samples=7,
    length=900,
    counted=counted({"repeat": 4, "gap": 1, "blank": 0}),
    selfcheck=None,
    lost=None,
    last=False,
    issued="2026-01-01T00:00:00.000Z",
    monitor="ed25519:" + "0" * 32,
)


def payload(**changed: object) -> bytes:
    predicate = msgspec.structs.replace(PREDICATE, **changed)
    return encode(Segment(subject=subject("columns", bytes(32)), predicate=predicate))


def test_a_segment_is_read_as_it_was_written() -> None:
    assert segment.parse(payload()).predicate == PREDICATE


def test_reasons_stand_in_order_and_only_where_something_was_counted() -> None:
    assert [each.reason for each in PREDICATE.counted] == ["gap", "repeat"]


@pytest.mark.parametrize(
    "changed",
    [
        {"to_us": 9},
        {"zero_us": None},
        {"clock": "recorded"},
        {"counted": PREDICATE.counted[::-1]},
        {"counted": PREDICATE.counted[:1] * 2},
        {"run": "0" * 31},
        {"previous": "1"},
    ],
)
def test_a_segment_that_contradicts_itself_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(FormatError):
        segment.parse(payload(**changed))


def test_a_pointer_spans_some_time() -> None:
    pointer = SegmentPointer(segment="2" * 64, from_us=5, to_us=6)
    assert segment.parse_pointer(encode(pointer)) == pointer
    with pytest.raises(FormatError, match="no time"):
        segment.parse_pointer(encode(SegmentPointer(segment="2" * 64, from_us=6, to_us=6)))
