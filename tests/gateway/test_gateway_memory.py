"""Long requests and answers of all clients together have a bound, until the last byte is read."""

import json
import socket
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.gateway import wire
from lydite.gateway.plane.front import Front
from lydite.gateway.plane.memory import Memory, Share, gather
from lydite.gateway.service import Gateway
from lydite.gateway.settings import Limits
from lydite.messages import compact
from tests.gateway.conftest import Bench
from tests.gateway.raw_client import CHAT, Got, Wire, ask, play, post
from tests.gateway.scripted_engine import chat, chunked, event, plain, script

Eventually = Callable[[Callable[[], bool]], None]
LONG = 200_000


def memory_of(gateway: Gateway) -> Memory:
    assert gateway.operations is not None
    front = gateway.operations.front
    assert isinstance(front, Front)
    return front._memory


def asking(raw: bytes = b"", **how: object) -> bytes:
    """Return a long request that the engine answers with ``raw`` and then keeps open."""
    return post(CHAT, json.dumps(script(raw, hang=True, pad="x" * LONG, **how)).encode())


def brief(answered: int, said: int = 0, **how: object) -> bytes:
    """Return a short request whose answer has ``answered`` bytes, and says that it has ``said``."""
    head = plain(b"").replace(b"length: 0", b"length: %d" % (said or answered))
    return post(CHAT, json.dumps(script(head, spaces=answered, **how)).encode())


def refused(got: Got) -> bool:
    return got.status == 503 and json.loads(got.body)["error"]["code"] == "overloaded"


@pytest.fixture(scope="module")
def narrow(bench: Bench) -> Gateway:
    """A gateway with room for two long bodies."""
    return bench.gateway("narrow", limits=Limits(sweep_ms=20, unread_bytes=2 * LONG + LONG // 2))


def test_whole_requests_count_until_they_are_answered(
    bench: Bench, narrow: Gateway, eventually: Eventually
) -> None:
    seen = len(bench.engine.seen)
    waiting = [Wire(narrow.port) for _ in range(2)]
    for each in waiting:
        each.send(asking())
    eventually(lambda: len(bench.engine.seen) == seen + 2)
    with Wire(narrow.port) as third:
        assert refused(third.ask(asking()))
    for each in waiting:
        each.socket.close()
    eventually(lambda: memory_of(narrow).taken == 0)
    body, got = play(narrow.port, plain(chat()), pad="x" * LONG)
    assert got.status == 200
    compact.check(wire.from_header(got.fields[wire.HEADER]), CHAT, body, got.body)
    eventually(lambda: memory_of(narrow).taken == 0)


def test_a_long_request_counts_on_a_connection_whose_head_is_known(
    bench: Bench, narrow: Gateway, eventually: Eventually
) -> None:
    body = json.dumps(script(plain(chat()), pad="x" * 70_000)).encode()
    hanging = json.dumps(script(b"", hang=True, pad="x" * 70_000)).encode()
    with Wire(narrow.port) as known:
        for _ in range(3):
            assert known.ask(post(CHAT, body)).status == 200
        assert memory_of(narrow).taken == 0
        known.send(post(CHAT, hanging))
        eventually(lambda: memory_of(narrow).taken == len(hanging))
    eventually(lambda: memory_of(narrow).taken == 0)


def test_long_answers_count_until_they_are_recorded(
    bench: Bench, narrow: Gateway, eventually: Eventually
) -> None:
    with Wire(narrow.port) as first:
        first.send(brief(400_000, said=800_000, hang=True))
        eventually(lambda: memory_of(narrow).taken > 300_000)
        with Wire(narrow.port) as second:
            request = brief(400_000)
            got = second.ask(request)
            assert refused(got)
            body = request.partition(b"\r\n\r\n")[2]
            compact.check(wire.from_header(got.fields[wire.HEADER]), CHAT, body, got.body)
    eventually(lambda: memory_of(narrow).taken == 0)
    assert ask(narrow.port, brief(400_000)).body == b" " * 400_000
    eventually(lambda: memory_of(narrow).taken == 0)


def test_a_stream_without_room_is_broken_off_and_says_why(
    narrow: Gateway, eventually: Eventually
) -> None:
    begun = chunked([event({"content": "x"})])[:-5] + b"%x\r\n" % 10_000_000
    got = ask(narrow.port, post(CHAT, json.dumps(script(begun, spaces=1_000_000)).encode()))
    assert got.whole
    assert b"overloaded" in got.body
    assert b"[DONE]" not in got.body
    eventually(lambda: memory_of(narrow).taken == 0)


def test_an_answer_counts_until_its_client_has_read_it(
    bench: Bench, eventually: Eventually
) -> None:
    size = 4_000_000
    gateway = bench.gateway("unread-answers", limits=Limits(sweep_ms=20, unread_bytes=6_000_000))
    long = brief(size)
    with Wire(gateway.port) as idle:
        idle.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LONG)
        idle.send(long)
        memory = memory_of(gateway)
        idle.socket.recv(1, socket.MSG_PEEK)
        eventually(lambda: 2_500_000 < memory.taken <= size)
        with Wire(gateway.port) as other:
            assert refused(other.ask(long))
        got = idle.read()
        assert got.whole
        assert len(got.body) == size
        eventually(lambda: memory.taken == 0)


def test_who_reads_nothing_is_hung_up_on_when_there_is_no_room(
    bench: Bench, eventually: Eventually
) -> None:
    gateway = bench.gateway("crowded", limits=Limits(sweep_ms=20, unread_bytes=6_000_000))
    memory = memory_of(gateway)
    with Wire(gateway.port) as idle:
        idle.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LONG)
        idle.send(brief(4_000_000))
        idle.socket.recv(1, socket.MSG_PEEK)
        eventually(lambda: 2_500_000 < memory.taken <= 4_000_000)
        memory.limit = 500_000
        eventually(lambda: memory.taken == 0)
        assert not idle.read().whole


def test_what_a_dropped_request_took_is_given_back() -> None:
    memory = Memory(10)
    share = Share(memory)
    assert share.take(10)
    assert not Share(memory).take(1)
    del share
    assert memory.taken == 0


@given(st.lists(st.binary(max_size=4), max_size=2000))
def test_small_parts_become_few_and_stay_the_same(pieces: list[bytes]) -> None:
    parts: list[bytes] = []
    whole = 0
    for each in pieces:
        parts.append(each)
        whole = gather(parts, whole)
    assert b"".join(parts) == b"".join(pieces)
    assert len(parts) <= 256 + len(pieces) // 256


def test_large_parts_are_not_copied() -> None:
    parts = [bytes(8192) for _ in range(256)]
    before = list(parts)
    assert gather(parts, 0) == 256
    assert all(a is b for a, b in zip(parts, before, strict=True))
