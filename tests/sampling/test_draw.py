import math
from fractions import Fraction
from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError
from lydite.sampling import draw, vrf

BETA = bytes(range(64))
betas = st.binary(min_size=64, max_size=64)
rates = st.integers(0, draw.MILLION)
indices = st.integers(1, 2**64 - 1)


def obvious_selected(beta: bytes, index: int, epsilon_ppm: int) -> bool:
    """The line of the specification, in exact fractions."""
    ticket = int(sha256(beta + index.to_bytes(8, "big")).hexdigest()[:16], 16)
    return ticket < math.floor(Fraction(epsilon_ppm, 10**6) * 2**64)


def obvious_committee(beta: bytes, index: int, eligible: list[str], wanted: int) -> list[str]:
    """Draw one after another from those left, skipping numbers that would favour the first ones."""
    numbers = (
        int.from_bytes(sha256(beta + index.to_bytes(8) + b"v" + j.to_bytes(8)).digest()[:8])
        for j in range(2**64)
    )
    left, chosen = list(eligible), []
    for _ in range(wanted):
        fair = 2**64 - 2**64 % len(left)  # the largest multiple of len(left)
        number = next(n for n in numbers if n < fair)
        place = number * len(left) // fair
        chosen.append(left[place])
        left[place] = left[0]  # the shuffle swaps the first one left into the gap
        left = left[1:]
    return chosen


def test_alpha_is_laid_out_as_the_table_says() -> None:
    alpha = draw.alpha("example.org/log", 7, 1000, b"P" * 32, 4242, b"D" * 32, b"E" * 32)
    assert alpha == (
        b"audit/v2"
        b"example.org/log"
        b"\0\0\0\0\0\0\0\x07"
        b"\0\0\0\0\0\0\x03\xe8" + b"P" * 32 + b"\0\0\0\0\0\0\x10\x92" + b"D" * 32 + b"E" * 32
    )
    assert len(alpha) == 128 + len("example.org/log")


@given(
    st.text(min_size=1).filter(lambda text: "\n" not in text and text.isprintable()),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.binary(min_size=32, max_size=32),
    st.integers(0, 2**64 - 1),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
)
def test_alpha_parses_from_the_right(
    origin: str,
    epoch: int,
    size: int,
    pledge: bytes,
    number: int,
    randomness: bytes,
    entropy: bytes,
) -> None:
    alpha = draw.alpha(origin, epoch, size, pledge, number, randomness, entropy)
    rest, fields = alpha[8:-120], alpha[-120:]
    assert rest.decode() == origin
    assert int.from_bytes(fields[:8]) == epoch
    assert int.from_bytes(fields[8:16]) == size
    assert fields[16:48] == pledge
    assert int.from_bytes(fields[48:56]) == number
    assert fields[56:88] == randomness
    assert fields[88:] == entropy


@pytest.mark.parametrize(
    "parts",
    [
        ("", 0, 0, bytes(32), 0, bytes(32), bytes(32)),
        ("two\nlines", 0, 0, bytes(32), 0, bytes(32), bytes(32)),
        ("log", -1, 0, bytes(32), 0, bytes(32), bytes(32)),
        ("log", 0, 2**64, bytes(32), 0, bytes(32), bytes(32)),
        ("log", 0, 0, bytes(31), 0, bytes(32), bytes(32)),
        ("log", 0, 0, bytes(32), 0, bytes(33), bytes(32)),
        ("log", 0, 0, bytes(32), 0, bytes(32), b""),
    ],
)
def test_alpha_refuses_what_it_cannot_spell(
    parts: tuple[str, int, int, bytes, int, bytes, bytes],
) -> None:
    with pytest.raises(FormatError):
        draw.alpha(*parts)


def test_thresholds_are_integers_and_a_million_parts_overflow_eight_bytes() -> None:
    assert draw.threshold(0) == 0
    assert draw.threshold(1) == 18446744073709
    assert draw.threshold(10_000) == 184467440737095516
    assert draw.threshold(draw.MILLION) == 2**64
    assert all(draw.threshold(a) < draw.threshold(b) for a, b in pairwise(range(0, 10**6, 997)))


@pytest.mark.parametrize("rate", [-1, draw.MILLION + 1])
def test_a_rate_is_a_share(rate: int) -> None:
    with pytest.raises(FormatError):
        draw.threshold(rate)


def test_entries_are_counted_from_one() -> None:
    """Entry i is leaf index i - 1 of the log: pinned, or two verifiers draw neighbouring sets."""
    tickets = {i: sha256(BETA + i.to_bytes(8)).digest()[:8] for i in range(1, 21)}
    lowest = min(tickets, key=lambda i: tickets[i])
    just_enough = int.from_bytes(tickets[lowest]) * 10**6 // 2**64 + 1
    assert (lowest, just_enough) == (18, 34386)
    assert draw.draw(BETA, 1, 20, just_enough) == [18]
    for first in (0, -1):
        with pytest.raises(FormatError):
            draw.draw(BETA, first, 20, just_enough)
    with pytest.raises(FormatError):
        draw.selected(BETA, 0, just_enough)


@given(betas, indices, rates)
def test_selection_agrees_with_exact_fractions(beta: bytes, index: int, rate: int) -> None:
    assert draw.selected(beta, index, rate) is obvious_selected(beta, index, rate)


@given(betas, st.integers(1, 2**64 - 400), st.integers(0, 300), rates)
def test_the_fast_draw_agrees_with_one_by_one(
    beta: bytes, first: int, count: int, rate: int
) -> None:
    last = first + count - 1
    expected = [i for i in range(first, last + 1) if obvious_selected(beta, i, rate)]
    assert draw.draw(beta, first, last, rate) == expected


@given(betas, st.lists(st.integers(0, 100), min_size=1, max_size=6), rates)
def test_epochs_side_by_side_draw_what_one_over_all_would(
    beta: bytes, sizes: list[int], rate: int
) -> None:
    drawn, size = [], 0
    for more in sizes:
        drawn += draw.draw(beta, size + 1, size + more, rate)
        size += more
    assert drawn == draw.draw(beta, 1, size, rate)


@given(betas)
def test_nothing_and_everything(beta: bytes) -> None:
    assert draw.draw(beta, 1, 50, 0) == []
    assert draw.draw(beta, 1, 50, draw.MILLION) == list(range(1, 51))
    assert draw.draw(beta, 51, 50, draw.MILLION) == []


@pytest.mark.parametrize(
    ("beta", "first", "last"),
    [(bytes(63), 1, 2), (bytes(65), 1, 2), (BETA, 0, 5), (BETA, 5, 3), (BETA, 1, 2**64)],
)
def test_the_draw_refuses_what_is_no_range(beta: bytes, first: int, last: int) -> None:
    with pytest.raises(FormatError):
        draw.draw(beta, first, last, 10_000)


@pytest.mark.parametrize("rate", [10_000, 200_000, 900_000])
def test_the_share_drawn_is_the_rate(rate: int) -> None:
    count, p = 100_000, rate / 10**6
    drawn = len(draw.draw(vrf.prove(bytes(32), b"epoch").beta, 1, count, rate))
    deviation = abs(drawn - count * p) / math.sqrt(count * p * (1 - p))
    assert deviation < 4  # a fixed input, so this cannot fail by chance


def test_neighbouring_entries_are_drawn_independently() -> None:
    count = 100_000
    drawn = set(draw.draw(BETA, 1, count, 500_000))
    both = sum(i in drawn and i + 1 in drawn for i in range(1, count))
    assert abs(both - count / 4) < 4 * math.sqrt(count * 5 / 16)


@given(betas, indices, st.integers(1, 40), st.data())
def test_committees_agree_with_drawing_lots(
    beta: bytes, index: int, size: int, data: st.DataObject
) -> None:
    eligible = [f"node-{n}" for n in range(size)]
    wanted = data.draw(st.integers(0, size))
    chosen = draw.committee(beta, index, eligible, wanted)
    assert list(chosen) == obvious_committee(beta, index, eligible, wanted)
    assert len(set(chosen)) == wanted


@given(betas, indices, st.integers(1, 20))
def test_a_larger_committee_begins_with_the_smaller(beta: bytes, index: int, size: int) -> None:
    everyone = draw.committee(beta, index, range(size), size)
    assert sorted(everyone) == list(range(size))
    for wanted in range(size):
        assert draw.committee(beta, index, range(size), wanted) == everyone[:wanted]


def test_every_order_of_a_committee_is_as_likely() -> None:
    rounds, counts = 12_000, dict[tuple[int, ...], int]()
    for index in range(1, rounds + 1):
        order = draw.committee(BETA, index, range(4), 2)
        counts[order] = counts.get(order, 0) + 1
    expected = rounds / 12
    assert len(counts) == 12
    assert sum((n - expected) ** 2 / expected for n in counts.values()) < 31.3  # 0.1 %, 11 df


def test_committees_of_different_entries_differ() -> None:
    chosen = {draw.committee(BETA, index, range(50), 3) for index in range(1, 200)}
    assert len(chosen) > 190


@pytest.mark.parametrize("wanted", [-1, 4])
def test_nobody_is_invented(wanted: int) -> None:
    with pytest.raises(FormatError):
        draw.committee(BETA, 1, ["a", "b", "c"], wanted)
