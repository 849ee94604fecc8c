"""A cursor gives what is there, and a refusal for anything else."""

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import Reason, Refusal
from lydite.messages.cursor import Cursor

steps = st.lists(st.sampled_from(["u8", "u16", "u32", "u64", "sized", "take"]), max_size=20)


@given(st.binary(max_size=60), steps, st.booleans())
def test_nothing_is_read_twice_or_beyond_the_end(
    content: bytes, wanted: list[str], little: bool
) -> None:
    cursor = Cursor(content, "x", Reason.MALFORMED, little=little)
    order: Literal["little", "big"] = "little" if little else "big"
    for step in wanted:
        at = cursor.at
        try:
            if step == "sized":
                taken = cursor.sized(40, Reason.TOO_LARGE)
                assert taken == content[at + 2 : cursor.at]
            elif step == "take":
                assert cursor.take(3) == content[at : at + 3]
            else:
                number = getattr(cursor, step)()
                assert number == int.from_bytes(content[at : cursor.at], order)
        except Refusal:
            break
        assert at < cursor.at <= len(content)
        assert cursor.left == len(content) - cursor.at


def test_what_is_left_is_refused() -> None:
    cursor = Cursor(b"ab", "x", Reason.MALFORMED)
    cursor.u8()
    with pytest.raises(Refusal) as caught:
        cursor.end(Reason.ATTEST_TRAILING)
    assert caught.value.reason is Reason.ATTEST_TRAILING
    cursor.u8()
    cursor.end(Reason.ATTEST_TRAILING)


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(Refusal):
        Cursor(b"ab", "x", Reason.MALFORMED, at=1).take(-1)
