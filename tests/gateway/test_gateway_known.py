"""A head that is known again means what the parser would make of it: the parser is the twin."""

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lydite.gateway.plane import known
from lydite.gateway.plane.memory import Memory
from lydite.gateway.plane.reading import RefusedError, Request, RequestReader
from lydite.gateway.settings import Limits
from tests.gateway.raw_client import CHAT, get, post
from tests.gateway.test_gateway_fuzz import mutated

LIMITS = Limits(body_bytes=5000)
GOOD = post(CHAT, b"x" * 123, b"Authorization: Bearer a\r\nX-B: 1\r\n")


OUTER = b"POST /v1/completions HTTP/1.1\r\nX-Long: "


class Owner:
    """A connection that answers at once."""

    memory = Memory(1 << 30)

    def admit(self, method: bytes, target: bytes) -> None:
        """Let everything in."""

    def under_way(self) -> bool:
        return False

    def go_on(self) -> None:
        """Say nothing."""


def read(reader: RequestReader, pieces: list[bytes]) -> list[Any]:
    """Feed pieces, taking each request away as a connection would, and tell what came."""
    found: list[Any] = []
    for piece in pieces:
        reader.feed(piece)
        for each in reader.ready:
            if isinstance(each, Request):
                fields = [field for field in each.fields if field[0] != b"content-length"]
                found.append((each.method, each.target, fields, each.keep, each.body))
            else:
                assert isinstance(each, RefusedError)
                found.append(each.status)
        reader.ready.clear()
    return found


def lengths() -> st.SearchStrategy[bytes]:
    """The same head with other lengths, right and wrong."""
    right = (b"0", b"1", b"7", b"123", b"00123", b"4999", b"5001")
    spelt = st.sampled_from([*right, b"-1", b"+1", b"1 ", b"1,1", b"0x1", b""])
    return spelt.map(lambda text: GOOD.replace(b"Content-Length: 123", b"Content-Length: " + text))


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(mutated(GOOD), lengths(), st.just(GOOD), st.just(get(b"/v1/models") + GOOD)),
    st.lists(st.integers(0, 400), max_size=3),
    st.booleans(),
)
def test_a_reader_that_knows_a_head_reads_what_a_fresh_one_reads(
    raw: bytes, cuts: list[int], again: bool
) -> None:
    bounds = sorted({0, len(raw), *(min(cut, len(raw)) for cut in cuts)})
    pieces = [raw[a:b] for a, b in pairwise(bounds)] * (2 if again else 1)
    knowing = RequestReader(Owner(), LIMITS, lambda: 0.0)
    assert len(read(knowing, [GOOD])) == 1
    assert knowing._known is not None
    fresh = RequestReader(Owner(), LIMITS, lambda: 0.0)
    assert read(knowing, pieces) == read(fresh, pieces)


def test_only_the_digits_of_the_length_may_differ() -> None:
    end = GOOD.index(b"\r\n\r\n") + 4
    head = known.learn(GOOD, "head", 123)
    assert head is not None
    assert head.match(GOOD) == (end, 123)
    for at in range(end):
        other = GOOD[:at] + bytes([GOOD[at] ^ 1]) + GOOD[at + 1 :]
        found = head.match(other)
        assert found is None or (GOOD[at : at + 1].isdigit() and found[0] == end)
    assert head.match(GOOD.replace(b": 123", b": 0123456789")) is None
    assert head.match(GOOD.replace(b": 123", b": ")) is None
    assert known.learn(GOOD, "head", 124) is None
    assert known.learn(GOOD[: end - 2], "head", 123) is None


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, len(GOOD) - 1),
    st.just(len(OUTER)) | st.integers(1, len(OUTER) + 60),
    st.integers(0, 2),
)
def test_no_head_is_learnt_or_known_in_the_middle_of_another(
    end: int, begun: int, again: int
) -> None:
    """One request's last bytes come with the first bytes of the next, whose head then goes on."""
    inner = post(CHAT, b"y" * 17, b"Authorization: Bearer b\r\n")
    outer = OUTER + inner
    pieces = [GOOD[:end], GOOD[end:] + outer[:begun], outer[begun:], *[inner] * again, GOOD]
    single = [bytes([each]) for each in b"".join(pieces)]
    meant = read(RequestReader(Owner(), LIMITS, lambda: 0.0), single)
    assert read(RequestReader(Owner(), LIMITS, lambda: 0.0), pieces) == meant
    knowing = RequestReader(Owner(), LIMITS, lambda: 0.0)
    read(knowing, [GOOD, inner])
    assert read(knowing, pieces) == meant
