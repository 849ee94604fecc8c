"""Whatever bytes an engine or a client sends, there is one whole answer and an honest receipt."""

import json
import socket

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lydite.gateway import wire
from lydite.gateway.service import Gateway
from lydite.messages.compact import check
from tests.gateway.conftest import Bench
from tests.gateway.raw_client import CHAT, Wire, ask, get, play, post
from tests.gateway.scripted_engine import chat, chat_stream, plain, script

fuzzed = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NASTY = st.sampled_from(
    [
        b"",
        b"\r\n",
        b"\r\n\r\n",
        b"\n\n",
        b"\r",
        b"0\r\n\r\n",
        b"data: [DONE]\n\n",
        b": lydite-receipt {}\n",
        b"HTTP/1.1 200 OK\r\n",
        b"content-length: 0\r\n",
        b"transfer-encoding: chunked\r\n",
        b"\x00",
        b"\xff\xfe",
    ]
)


@st.composite
def mutated(draw: st.DrawFn, raw: bytes) -> bytes:
    """Cut, repeat, replace or insert a few pieces."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(raw)))
        end = draw(st.integers(start, min(len(raw), start + 40)))
        piece = draw(st.one_of(NASTY, st.binary(max_size=6), st.just(raw[start:end] * 2)))
        raw = raw[:start] + piece + raw[end:]
    return raw


@fuzzed
@given(st.sampled_from([plain(chat()), chat_stream()]).flatmap(mutated))
def test_whatever_an_engine_sends_the_receipt_covers_what_the_client_got(
    gateway: Gateway, raw: bytes
) -> None:
    request, got = play(gateway.port, raw, end="close")
    assert got.whole
    if wire.HEADER in got.fields:
        check(wire.from_header(got.fields[wire.HEADER]), CHAT, request, got.body)
    else:
        compact, stripped = wire.from_stream(got.body)
        check(compact, CHAT, request, stripped)
        number = gateway._journal.number_of(compact.id)
        assert number == compact.entry


@fuzzed
@given(data=st.data())
def test_whatever_a_client_sends_others_are_served(
    bench: Bench, gateway: Gateway, data: st.DataObject
) -> None:
    good = post(CHAT, json.dumps(script(plain(chat()))).encode())
    raw = data.draw(mutated(good))
    with Wire(gateway.port) as connection:
        connection.send(raw)
        connection.socket.shutdown(socket.SHUT_WR)
        connection._rest()
    assert ask(gateway.port, get(b"/v1/keys")).status == 200
