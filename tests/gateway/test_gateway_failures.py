"""Engines that die and clients that leave: nothing is made up, nothing runs on, nothing is lost."""

import base64
import contextlib
import json
import socket
import struct
import time
from collections.abc import Callable

import openai
import pytest

from lydite.gateway import wire
from lydite.gateway.service import Gateway
from lydite.gateway.settings import Limits
from lydite.messages import receipt
from lydite.messages.compact import check
from lydite.messages.receipt import Receipt
from tests.gateway.conftest import Bench
from tests.gateway.raw_client import CHAT, Got, Wire, ask, get, play, post
from tests.gateway.scripted_engine import chat, chat_stream, chunked, event, events, plain, script

Eventually = Callable[[Callable[[], bool]], None]
OFFSETS = 40


def logged(gateway: Gateway, receipt_id: bytes) -> Receipt:
    """The receipt as the journal holds it."""
    number = gateway._journal.number_of(receipt_id.decode())
    assert number is not None
    return receipt.parse(gateway._journal.read(number).body)


def payload(envelope: bytes) -> bytes:
    return base64.b64decode(json.loads(envelope)["payload"])


def check_broken_stream(gateway: Gateway, got: Got, request: bytes, sent: bytes) -> None:
    assert got.whole
    compact, stripped = wire.from_stream(got.body)
    check(compact, CHAT, request, stripped)
    assert b"data: [DONE]" not in got.body.replace(b'data: [DONE]\\n\\n"', b"")
    delivered, fault = (
        stripped[: stripped.rindex(b"data: ")],
        stripped[stripped.rindex(b"data: ") :],
    )
    assert sent.startswith(delivered)
    assert delivered == b"" or delivered.endswith(b"\n\n")
    assert json.loads(fault.removeprefix(b"data: "))["error"]["code"] == "upstream-failed"
    assert logged(gateway, got.fields[wire.ID_HEADER]).predicate.response.outcome == "aborted"


@pytest.mark.parametrize("end", ["close", "reset"])
def test_a_stream_that_breaks_anywhere_never_looks_done(gateway: Gateway, end: str) -> None:
    raw, sent = chat_stream(), b"".join(events())
    head = raw.index(b"\r\n\r\n") + 4
    step = len(raw) // OFFSETS
    offsets = [*range(1, len(raw) - 1, step), *range(len(raw) - 20, len(raw) - 1, 3)]
    for offset in offsets:
        request, got = play(gateway.port, raw[:offset], end=end, pause_s=0.002)
        if offset < head or got.status == 502:
            assert got.status == 502
            assert json.loads(got.body)["error"]["code"] == "upstream-failed"
            compact = wire.from_header(got.fields[wire.HEADER])
            check(compact, CHAT, request, got.body)
            outcome = logged(gateway, got.fields[wire.ID_HEADER]).predicate.response.outcome
            assert outcome == "refused"
        else:
            check_broken_stream(gateway, got, request, sent)


def test_an_answer_that_breaks_anywhere_becomes_an_error(gateway: Gateway) -> None:
    raw = plain(chat())
    for offset in range(1, len(raw), len(raw) // OFFSETS):
        request, got = play(gateway.port, raw[:offset], end="close")
        assert got.status == 502
        check(wire.from_header(got.fields[wire.HEADER]), CHAT, request, got.body)


@pytest.mark.parametrize(
    "pieces",
    [
        events()[:-1],
        [*events()[:3], b": lydite-receipt {}\n", *events()[3:]],
        [*events()[:-1], b'data: [DONE]\n: lydite-receipt {"id":"0"}\n\n'],
        [*events(), b": lydite-receipt {}\n\n"],
        [*events()[:3], b"data: {}\r: lydite-receipt {}\n\n", *events()[3:]],
        [*events()[:3], b"data: [DONE", *events()[3:-1]],
    ],
    ids=[
        "no-done",
        "forged",
        "forged-in-done",
        "forged-after-done",
        "forged-behind-cr",
        "half-done",
    ],
)
def test_a_stream_that_does_not_end_as_it_should_is_aborted(
    gateway: Gateway, pieces: list[bytes]
) -> None:
    request, got = play(gateway.port, chunked(pieces))
    assert got.whole
    compact, stripped = wire.from_stream(got.body)
    check(compact, CHAT, request, stripped)
    assert b'"upstream-failed"' in stripped
    assert b"\ndata: [DONE]" not in stripped
    assert logged(gateway, compact.id.encode()).predicate.response.outcome == "aborted"


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        plain(b"{}") + plain(b"{}"),
        b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000 + b"\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 300 + b"content-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\n\n{}",
        b"garbage\r\n\r\n",
        plain(b"{}", b"text/event-stream\r\ncontent-encoding: gzip"),
        plain(chat(), b"application/json\r\ncontent-encoding: deflate"),
        plain(chat(), b"application/json\r\ncontent-encoding: identity, gzip"),
        plain(chat(), b"application/json; charset=utf-16"),
        plain(chat(), b"application/json\r\ncontent-type: text/plain; charset=utf-7"),
    ],
)
def test_an_answer_whose_end_is_in_doubt_is_refused(gateway: Gateway, raw: bytes) -> None:
    request, got = play(gateway.port, raw, pause_s=0.01)
    assert got.status == 502
    check(wire.from_header(got.fields[wire.HEADER]), CHAT, request, got.body)


@pytest.mark.parametrize("status", ["301 Moved", "304 Not Modified", "307 Temporary", "399 Odd"])
@pytest.mark.parametrize("kind", [b"application/json", b"text/event-stream"])
def test_a_redirect_is_refused_and_never_leads_a_client_past_the_gateway(
    bench: Bench, gateway: Gateway, status: str, kind: bytes
) -> None:
    raw = plain(b"{}", kind + b"\r\nlocation: %s/v1/models" % bench.engine.url.encode())
    request, got = play(gateway.port, raw.replace(b"200 OK", status.encode()))
    assert got.status == 502
    assert b"location" not in got.fields
    assert json.loads(got.body)["error"]["code"] == "upstream-failed"
    check(wire.from_header(got.fields[wire.HEADER]), CHAT, request, got.body)
    answer = logged(gateway, got.fields[wire.ID_HEADER]).predicate.response
    assert (answer.outcome, answer.status) == ("refused", 502)


@pytest.mark.parametrize("field", [b"Location", b"Refresh", b"Alt-Svc"])
def test_no_field_that_sends_a_client_elsewhere_is_relayed(gateway: Gateway, field: bytes) -> None:
    raw = plain(chat(), b"application/json\r\n%s: http://elsewhere" % field, b"201 Created")
    _, got = play(gateway.port, raw)
    assert (got.status, got.body) == (201, chat())
    assert field.lower() not in got.fields


def test_the_sdk_does_not_follow_an_engine_past_the_gateway(bench: Bench, gateway: Gateway) -> None:
    client = openai.OpenAI(
        base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key="k", max_retries=0
    )
    raw = plain(b"{}", b"application/json\r\nlocation: %s/v1/x" % bench.engine.url.encode())
    asked = len(bench.engine.seen)
    with pytest.raises(openai.InternalServerError, match="redirects with 307"):
        client.chat.completions.create(
            model="small",
            messages=[{"role": "user", "content": "?"}],
            extra_body=script(raw.replace(b"200 OK", b"307 Temporary Redirect")),
        )
    assert len(bench.engine.seen) == asked + 1


def test_a_redirect_of_the_list_of_models_is_refused(bench: Bench, gateway: Gateway) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        astray = bench.gateway("astray", upstream=url)
        with Wire(astray.port) as connection:
            connection.send(get(b"/v1/models"))
            engine, _ = server.accept()
            engine.recv(1 << 16)
            engine.sendall(plain(b"{}", b"text/html\r\nlocation: /x", b"302 Found"))
            got = connection.read()
            engine.close()
    assert got.status == 502
    assert "redirects with 302" in json.loads(got.body)["error"]["message"]
    assert b"location" not in got.fields


def test_interim_answers_are_skipped(gateway: Gateway) -> None:
    raw = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + plain(
        chat()
    )
    _, got = play(gateway.port, raw)
    assert (got.status, got.body) == (200, chat())
    assert b"link" not in got.fields


def test_trailers_never_become_fields(gateway: Gateway) -> None:
    raw = chunked([b"{}"], b"application/json").removesuffix(b"\r\n") + b"x-evil: 1\r\n\r\n"
    _, got = play(gateway.port, raw)
    assert got.body == b"{}"
    assert b"x-evil" not in got.fields


def test_an_engine_that_is_away_is_an_error_with_a_receipt(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    away = bench.gateway("away", upstream=f"http://127.0.0.1:{port}")
    got = ask(away.port, post(CHAT, b"{}"))
    assert got.status == 502
    assert "reached" in json.loads(got.body)["error"]["message"]
    assert logged(away, got.fields[wire.ID_HEADER]).predicate.response.outcome == "refused"


def test_an_engine_that_lets_go_of_a_kept_connection_is_asked_again(
    bench: Bench, gateway: Gateway
) -> None:
    for _ in range(5):
        _, got = play(gateway.port, plain(chat()), end="keep")
        assert got.status == 200
        for writer in list(bench.engine.serving.values()):
            bench.loop.call_soon_threadsafe(writer.transport.abort)
        _, got = play(gateway.port, plain(chat()))
        assert got.status == 200


def test_a_silent_engine_is_given_up(bench: Bench) -> None:
    quick = bench.gateway("quick", limits=Limits(upstream_idle_ms=200, sweep_ms=20))
    _, got = play(quick.port, plain(chat())[:-5], hang=True)
    assert got.status == 502
    request, got = play(quick.port, chat_stream()[:-200], hang=True)
    check_broken_stream(quick, got, request, b"".join(events()))


@pytest.mark.parametrize("phase", ["before the first byte", "in the stream", "in the answer"])
@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
def test_a_client_that_leaves_stops_the_engine_and_leaves_a_receipt(
    bench: Bench, gateway: Gateway, eventually: Eventually, phase: str, how: str
) -> None:
    raw = {
        "before the first byte": b"",
        "in the stream": chat_stream()[:-300],
        "in the answer": plain(chat())[:-5],
    }[phase]
    body = json.dumps(script(raw, hang=True)).encode()
    asked = len(bench.engine.seen)
    with Wire(gateway.port) as connection:
        connection.send(post(CHAT, body))
        eventually(lambda: len(bench.engine.seen) > asked)
        if phase == "in the stream":
            connection._until(b"\r\n\r\n")
        seen = bench.engine.seen[-1]
        time.sleep(0.02)
        if how == "reset":
            linger = struct.pack("ii", 1, 0)
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        left = time.monotonic()
        if how == "half-close":
            connection.socket.shutdown(socket.SHUT_WR)
        else:
            connection.socket.close()
        eventually(lambda: seen.closed_at is not None)
        assert seen.closed_at is not None
        assert seen.closed_at - left < 0.05
    name = next(
        line.split(b": ")[1]
        for line in seen.head.split(b"\r\n")
        if line.startswith(b"x-request-id")
    )
    eventually(lambda: gateway._journal.number_of(name.decode()) is not None)
    answer = logged(gateway, name).predicate.response
    assert answer.outcome == "aborted"
    assert (answer.status, answer.streamed) == (
        (499, False) if phase == "before the first byte" else (200, phase == "in the stream")
    )


def test_a_client_that_leaves_while_connecting_cancels_the_connection(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        fill = [socket.socket() for _ in range(3)]
        for each in fill:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        stuck = bench.gateway("stuck", upstream=f"http://127.0.0.1:{port}")
        with Wire(stuck.port) as connection:
            connection.send(post(CHAT, b"{}"))
            time.sleep(0.05)
        time.sleep(0.1)
        assert ask(stuck.port, get(b"/v1/keys")).status == 200
        assert len(stuck._journal) == 2
        for each in fill:
            each.close()


def test_a_client_that_does_not_read_makes_the_engine_wait(bench: Bench, gateway: Gateway) -> None:
    pieces = [event({"content": "x" * 60_000})] * 200
    raw = chunked([*pieces, b"data: [DONE]\n\n"])
    body = json.dumps(script(raw)).encode()
    with Wire(gateway.port) as connection:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        connection.send(post(CHAT, body))
        time.sleep(0.5)
        client = next(c for c in gateway.operations.front._desk.clients if c._handler is not None)
        assert client._transport.get_write_buffer_size() < 2_000_000
        assert sum(map(len, client._handler._parts)) < 20_000_000
        got = connection.read()
    assert got.whole
    assert wire.from_stream(got.body)[1] == b"".join([*pieces, b"data: [DONE]\n\n"])


def test_a_slow_reader_gets_the_whole_of_a_last_answer(bench: Bench, gateway: Gateway) -> None:
    large = b"x" * 20_000_000
    body = json.dumps(script(plain(large))).encode()
    with Wire(gateway.port) as connection:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        connection.send(post(CHAT, body, b"Connection: close\r\n"))
        time.sleep(2.0)
        assert connection.read().body == large
        assert connection.closed()


def test_the_sdk_raises_on_a_broken_stream(gateway: Gateway) -> None:
    client = openai.OpenAI(
        base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key="k", max_retries=0
    )
    raw = chat_stream()
    broken = script(raw[: len(raw) // 2], end="close")
    stream = client.chat.completions.create(
        model="small", messages=[{"role": "user", "content": "?"}], stream=True, extra_body=broken
    )
    with pytest.raises(openai.APIError, match="engine"):
        list(stream)


def test_an_answer_without_a_body_is_never_known_again_with_one(gateway: Gateway) -> None:
    head = (
        b"HTTP/1.1 204 No Content\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    )
    forged = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged"
    with Wire(gateway.port) as connection:
        for body in (b"", forged):
            request = json.dumps(script(head % len(body) + body)).encode()
            connection.socket.settimeout(1)
            connection.send(post(CHAT, request))
            time.sleep(0.3)
        seen = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            while piece := connection.socket.recv(65536):
                seen += piece
    assert b"forged" not in seen
