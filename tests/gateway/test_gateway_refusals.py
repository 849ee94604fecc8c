"""Requests that two parsers could read in two ways, or that are too large or too slow."""

import json
import socket
import time
from collections.abc import Callable

import pytest

from lydite.gateway.plane.memory import Memory
from lydite.gateway.plane.reading import RefusedError, RequestReader
from lydite.gateway.service import Gateway
from lydite.gateway.settings import Limits
from tests.gateway.conftest import Bench
from tests.gateway.raw_client import CHAT, Wire, ask, get, post
from tests.gateway.scripted_engine import chat, chunked, event, plain, script

Eventually = Callable[[Callable[[], bool]], None]

P = b"POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\n"
SMUGGLED = b"GET /v1/models HTTP/1.1\r\nHost: t\r\n\r\n"

MALFORMED = {
    "two ways to end": P + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "the other order": P + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": P + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "one length twice": P + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "length with a plus": P + b"Content-Length: +3\r\n\r\nabc",
    "length as a list": P + b"Content-Length: 3,3\r\n\r\nabc",
    "length in hexadecimal": P + b"Content-Length: 0x3\r\n\r\nabc",
    "negative length": P + b"Content-Length: -1\r\n\r\n",
    "empty length": P + b"Content-Length: \r\n\r\n",
    "huge length": P + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "coding in a list": P + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "coding twice": P
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding identity": P + b"Transfer-Encoding: identity\r\n\r\n",
    "coding xchunked": P + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "coding in quotes": P + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "coding behind a tab": P + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "old with chunks": b"POST /v1/completions HTTP/1.0\r\nHost: t\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "space before colon": P + b"Content-Length : 3\r\n\r\nabc",
    "bare line feeds": P.replace(b"\r\n", b"\n") + b"Content-Length: 0\n\n",
    "folded field": P + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "nul in a value": P + b"X: a\x00b\r\nContent-Length: 0\r\n\r\n",
    "bare return in a value": P + b"X: a\rY: b\r\nContent-Length: 0\r\n\r\n",
    "no field name": P + b": a\r\nContent-Length: 0\r\n\r\n",
    "bad chunk size": P + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "chunk size with space": P + b"Transfer-Encoding: chunked\r\n\r\n 3\r\nabc\r\n0\r\n\r\n",
    "chunk size in 0x": P + b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
    "chunk ends in line feed": P + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n",
    "chunk longer than said": P + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    "huge chunk": P + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    "no host": b"POST /v1/completions HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "two hosts": P + b"Host: u\r\nContent-Length: 0\r\n\r\n",
    "absolute target": b"GET http://t/v1/models HTTP/1.1\r\nHost: t\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: t\r\n\r\n",
    "connect": b"CONNECT t:80 HTTP/1.1\r\nHost: t\r\n\r\n",
    "upgrade": P + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n",
    "preface of http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "version 0.9": b"GET /v1/models\r\n\r\n",
    "version 2.0": b"GET /v1/models HTTP/2.0\r\nHost: t\r\n\r\n",
    "version 1.2": b"GET /v1/models HTTP/1.2\r\nHost: t\r\n\r\n",
    "target beyond ascii": b"GET /v1/models?\xc3\xa4 HTTP/1.1\r\nHost: t\r\n\r\n",
    "no method": b"/v1/models HTTP/1.1\r\nHost: t\r\n\r\n",
    "unknown method": b"BREW /v1/models HTTP/1.1\r\nHost: t\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "nothing but noise": bytes(range(256)) * 4,
    "long target": b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: t\r\n\r\n",
    "100 kB of fields": P + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
    "10 000 fields": P + b"X: a\r\n" * 10_000 + b"\r\n",
    "1 MB target": b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nHost: t\r\n\r\n",
    "1 GB body": P + b"Content-Length: 1000000000\r\n\r\n",
    "1 000 blank lines": b"\r\n" * 1000 + P + b"Content-Length: 0\r\n\r\n",
    "100 kB chunk extension": P
    + b"Transfer-Encoding: chunked\r\n\r\n1;x="
    + b"a" * 100_000
    + b"\r\na\r\n0\r\n\r\n",
    "more extensions than body": P
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + (b"1;" + b"x" * 200 + b"\r\na\r\n") * 1000,
    "trailer that frames": P
    + b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 3\r\n: x\r\n\r\nabc",
    "line without colon": P + b"Content-Length 0\r\n\r\n",
    "length with a letter": P + b"Content-Length: 3a\r\n\r\nabc",
    "length in two lines": P + b"Content-Length: 3\r\n 4\r\n\r\nabcd",
    "authority target": b"GET t:80 HTTP/1.1\r\nHost: t\r\n\r\n",
    "fragment in target": b"GET /v1/models#x HTTP/1.1\r\nHost: t\r\n\r\n",
    "space in target": b"GET /v1/models x HTTP/1.1\r\nHost: t\r\n\r\n",
    "lower-case protocol": b"GET /v1/models http/1.1\r\nHost: t\r\n\r\n",
    "large field": P + b"X: " + b"a" * 40_000 + b"\r\n\r\n",
    "many fields": P + b"X: a\r\n" * 200 + b"\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_doubtful_requests_get_one_error_and_the_door(
    bench: Bench, gateway: Gateway, name: str
) -> None:
    asked = len(bench.engine.seen)
    with Wire(gateway.port) as connection:
        got = connection.ask(MALFORMED[name] + SMUGGLED)
        assert got.status in (400, 405, 413, 414, 431, 505), got
        fault = json.loads(got.body)["error"]
        assert fault["type"] == "server_error" if got.status == 505 else "invalid_request_error"
        assert fault["code"] in ("malformed", "too-large")
        assert got.fields[b"connection"] == b"close"
        assert connection.closed()
    assert len(bench.engine.seen) == asked


@pytest.mark.parametrize("piece", [b"\r\n", b"POST /v1/models HTTP/1.1\r\nX: ", b"GET /aaaa"])
def test_a_head_that_never_ends_is_refused(gateway: Gateway, piece: bytes) -> None:
    with Wire(gateway.port) as connection:
        connection.send(piece)
        for _ in range(50):
            connection.send(b"\r\n" * 500 if piece == b"\r\n" else b"a" * 1000)
        assert connection.read().status in (400, 414, 431)
        assert connection.closed()


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (get(b"/"), 404),
        (get(b"/v1/chat/completions"), 405),
        (post(b"/v1/models", b""), 405),
        (post(b"/v1/chat/completions/", b"{}"), 404),
        (post(b"//v1/chat/completions", b"{}"), 404),
        (post(b"/v1/../v1/chat/completions", b"{}"), 404),
        (post(b"/v1/chat%2fcompletions", b"{}"), 404),
        (post(b"/V1/chat/completions", b"{}"), 404),
        (post(b"/v1/audio/speech", b"{}"), 404),
        (get(b"/metrics"), 404),
        (get(b"/v1/receipts/" + b"0" * 32), 404),
        (get(b"/v1/receipts/" + b"x" * 32), 404),
        (get(b"/v1/log/tile/0/../../wal"), 400),
        (get(b"/v1/log/tile/0/999"), 404),
        (get(b"/v1/log/wal"), 404),
        (post(b"/v1/audit/epochs", b'{"epsilonPpm":1}'), 401),
        (post(b"/v1/log/entries", b"{}"), 400),
        (get(b"/v1/audit/epochs/1"), 404),
        (b"HEAD /v1/models HTTP/1.1\r\nHost: t\r\n\r\n", 405),
    ],
)
def test_only_the_paths_that_we_serve_lead_anywhere(
    bench: Bench, gateway: Gateway, raw: bytes, status: int
) -> None:
    asked = len(bench.engine.seen)
    assert ask(gateway.port, raw).status == status
    assert len(bench.engine.seen) == asked


def test_a_body_that_is_too_large_is_refused_before_it_is_read(bench: Bench) -> None:
    small = bench.gateway("small", limits=Limits(body_bytes=1000, answer_bytes=3000))
    declared = ask(small.port, P + b"Content-Length: 1001\r\n\r\n")
    assert (declared.status, json.loads(declared.body)["error"]["code"]) == (413, "too-large")
    in_chunks = P + b"Transfer-Encoding: chunked\r\n\r\n" + b"100\r\n" + b"a" * 256 + b"\r\n"
    streamed = ask(small.port, in_chunks + (b"100\r\n" + b"a" * 256 + b"\r\n") * 3)
    assert streamed.status == 413
    expected = ask(small.port, P + b"Expect: 100-continue\r\nContent-Length: 1001\r\n\r\n")
    assert expected.status == 413


def test_a_client_that_asks_first_is_told_to_go_on(gateway: Gateway) -> None:
    body = json.dumps(script(plain(chat()))).encode()
    with Wire(gateway.port) as connection:
        connection.send(P + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
        assert connection._until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(body)
        assert connection.read().body == chat()


def test_slow_heads_bodies_and_idlers_are_dropped(bench: Bench) -> None:
    limits = Limits(head_timeout_ms=200, body_timeout_ms=200, idle_timeout_ms=200, sweep_ms=20)
    strict = bench.gateway("strict", limits=limits)
    for start in (b"", b"POST /v1", P, P + b"Content-Length: 10\r\n\r\nabc"):
        with Wire(strict.port) as connection:
            before = time.monotonic()
            connection.send(start)
            assert connection.closed()
            assert 0.1 < time.monotonic() - before < 1.0
    with Wire(strict.port) as connection:
        assert connection.ask(get(b"/v1/keys")).status == 200
        assert connection.closed()


def test_more_than_two_requests_at_once_on_one_connection_are_refused(gateway: Gateway) -> None:
    body = json.dumps(script(plain(b"1"), pause_s=0.05)).encode()
    with Wire(gateway.port) as connection:
        connection.send(post(CHAT, body) * 3)
        assert connection.read().body == b"1"
        assert connection.read().body == b"1"
        assert connection.read().status == 400
        assert connection.closed()


def test_connections_beyond_the_limit_are_closed(bench: Bench) -> None:
    few = bench.gateway("few", limits=Limits(connections=3, sweep_ms=20))
    with Wire(few.port) as a, Wire(few.port) as b, Wire(few.port) as c:
        for each in (a, b, c):
            assert each.ask(get(b"/v1/keys")).status == 200
        with Wire(few.port) as fourth:
            assert fourth.closed()
    time.sleep(0.05)
    assert ask(few.port, get(b"/v1/keys")).status == 200


def test_a_port_that_is_taken_leaves_nothing_running(bench: Bench) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(OSError, match="in use"),
    ):
        bench.gateway("taken", port=taken.getsockname()[1])
    assert ask(bench.gateway("taken").port, get(b"/v1/keys")).status == 200


def test_connections_of_one_address_beyond_their_limit_are_closed(bench: Bench) -> None:
    few = bench.gateway("peers", limits=Limits(connections_per_peer=2, sweep_ms=20))
    with Wire(few.port) as a, Wire(few.port) as b:
        for each in (a, b):
            assert each.ask(get(b"/v1/keys")).status == 200
        with Wire(few.port) as third:
            assert third.closed()
    time.sleep(0.05)
    assert ask(few.port, get(b"/v1/keys")).status == 200


def test_a_client_that_reads_nothing_is_dropped_and_the_engine_stopped(
    bench: Bench, eventually: Eventually
) -> None:
    limits = Limits(idle_timeout_ms=300, sweep_ms=20)
    strict = bench.gateway("unread", limits=limits)
    raw = chunked([event({"content": "x" * 60_000})] * 200)[:-5]
    with Wire(strict.port) as connection:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        asked = len(bench.engine.seen)
        connection.send(post(CHAT, json.dumps(script(raw, hang=True)).encode()))
        eventually(lambda: len(bench.engine.seen) > asked)
        seen = bench.engine.seen[-1]
        eventually(lambda: not bench.engine.serving or seen.closed_at is not None)
        connection._rest()


class Nobody:
    """An owner of a reader without a socket, which lets every path in."""

    memory = Memory(1 << 30)

    def admit(self, method: bytes, target: bytes) -> None:
        """Let it in."""

    def under_way(self) -> bool:
        return False

    def go_on(self) -> None:
        """Say nothing."""


def test_what_is_too_much_is_let_go_at_once() -> None:
    reader = RequestReader(Nobody(), Limits(body_bytes=100_000), time.monotonic)
    reader.feed(P + b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(10):
        reader.feed(b"8000\r\n" + bytes(32768) + b"\r\n")
    assert [type(each) for each in reader.ready] == [RefusedError]
    assert not reader._body


def test_unfinished_bodies_of_all_clients_together_have_a_bound(bench: Bench) -> None:
    limits = Limits(sweep_ms=50, unread_bytes=300_000)
    gateway = bench.gateway("bounded-bodies", limits=limits)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n"
    first, second = Wire(gateway.port), Wire(gateway.port)
    first.send(head + b"x" * 199_000)
    time.sleep(0.3)
    second.send(head + b"x" * 199_000)
    assert second.read().status == 503
    first.socket.close()
    time.sleep(0.3)
    assert gateway.operations is not None
    third = Wire(gateway.port)
    third.send(head + b"x" * 199_000)
    time.sleep(0.3)
    third.socket.settimeout(0.2)
    with pytest.raises(TimeoutError):
        third.socket.recv(1)
    third.socket.close()
    second.socket.close()
    bench.stop(gateway)
