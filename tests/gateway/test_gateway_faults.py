"""Whatever goes wrong between gateway and engine, at whatever byte: the client is told the truth.

A whole answer is the engine's, byte for byte; anything else is an error or an aborted stream; and
the receipt covers what the client got, every time.
"""

import json
import time
from collections.abc import Callable, Iterator

import pytest

from lydite.gateway import wire
from lydite.gateway.service import Gateway
from lydite.gateway.settings import Health, Limits
from lydite.messages.compact import check
from tests.gateway.conftest import Bench
from tests.gateway.fault_proxy import FAULTS, Fault, FaultProxy
from tests.gateway.raw_client import CHAT, Got, Wire, ask, get, play, post
from tests.gateway.scripted_engine import chat, chat_stream, events, plain, script

Eventually = Callable[[Callable[[], bool]], None]
SENT = {"answer": chat(), "stream": b"".join(events())}
RAW = {"answer": plain(chat()), "stream": chat_stream()}
OFFSETS = 9


@pytest.fixture(scope="module")
def proxy(bench: Bench) -> Iterator[FaultProxy]:
    proxy = FaultProxy(bench.engine.port)
    bench.run(proxy.start())
    yield proxy
    bench.run(proxy.stop())


@pytest.fixture(scope="module")
def behind(bench: Bench, proxy: FaultProxy) -> Gateway:
    limits = Limits(upstream_idle_ms=150, first_byte_ms=150, sweep_ms=20)
    patient = Health(breaker_failures=1_000_000)
    return bench.gateway("behind", upstream=proxy.url, limits=limits, health=patient)


def hold(got: Got, request: bytes, kind: str) -> None:
    """Check that the client was told the truth, and that the receipt says what it was told."""
    assert got.whole
    if wire.HEADER in got.fields:
        told, receipt = got.body, wire.from_header(got.fields[wire.HEADER])
    else:
        receipt, told = wire.from_stream(got.body)
    check(receipt, CHAT, request, told)
    if told == SENT[kind]:
        assert got.status == 200
        return
    assert b'"upstream-failed"' in told
    assert not told.endswith(b"data: [DONE]\n\n")


def strike(behind: Gateway, proxy: FaultProxy, fault: Fault, kind: str, at: int) -> None:
    proxy.fault, proxy.at = fault, at
    try:
        request, got = play(behind.port, RAW[kind], end="close")
    finally:
        proxy.fault = "none"
    hold(got, request, kind)
    if fault in ("delay", "trickle"):
        assert wire.HEADER in got.fields or b"upstream-failed" not in got.body


@pytest.mark.parametrize("kind", RAW)
@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_at_any_byte_is_passed_off_as_an_answer(
    behind: Gateway, proxy: FaultProxy, fault: Fault, kind: str
) -> None:
    raw = RAW[kind]
    step = max(1, len(raw) // (3 if fault == "stall" else OFFSETS))
    for at in [0, 1, *range(step, len(raw), step), len(raw) - 1]:
        strike(behind, proxy, fault, kind, at)


@pytest.mark.slow
@pytest.mark.parametrize("kind", RAW)
@pytest.mark.parametrize("fault", [each for each in FAULTS if each != "stall"])
def test_no_fault_at_every_single_byte_is_passed_off_as_an_answer(
    behind: Gateway, proxy: FaultProxy, fault: Fault, kind: str
) -> None:
    for at in range(len(RAW[kind])):
        strike(behind, proxy, fault, kind, at)


@pytest.mark.parametrize("claimed", [-5, -1, 1, 5, 1_000_000])
def test_an_engine_that_lies_about_its_length_is_not_believed(
    behind: Gateway, claimed: int
) -> None:
    body = chat()
    length = b"content-length: %d\r\n" % (len(body) + claimed)
    raw = RAW["answer"].replace(b"content-length: %d\r\n" % len(body), length)
    request, got = play(behind.port, raw, end="close")
    assert got.status == 502
    check(wire.from_header(got.fields[wire.HEADER]), CHAT, request, got.body)


def test_an_engine_that_lies_about_a_known_head_is_not_believed(gateway: Gateway) -> None:
    """The head of the last answer came before, so that its length is read without a parser."""
    body = chat()
    head = RAW["answer"].partition(b"\r\n\r\n")[0]
    for wrong, cuts in ((-1, []), (1, []), (-1, [len(head) + 4]), (7, [40])):
        request, got = play(gateway.port, RAW["answer"])
        assert got.body == body
        length = b"content-length: %d" % (len(body) + wrong)
        raw = RAW["answer"].replace(b"content-length: %d" % len(body), length)
        request, got = play(gateway.port, raw, cuts=cuts, end="close", pause_s=0.005)
        if got.status == 200:  # what follows a shorter answer in a later read comes too late
            assert wrong < 0
            assert got.body == body[:wrong]
        check(wire.from_header(got.fields[wire.HEADER]), CHAT, request, got.body)
    _, got = play(gateway.port, RAW["answer"])
    assert got.body == body


@pytest.mark.parametrize("phase", ["in the head", "behind the head", "in the body", "in chunks"])
def test_a_client_that_leaves_before_its_request_is_whole_costs_the_engine_nothing(
    bench: Bench, gateway: Gateway, eventually: Eventually, phase: str
) -> None:
    whole = post(CHAT, json.dumps(script(RAW["answer"])).encode())
    head = whole.index(b"\r\n\r\n") + 4
    chunks = (
        b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"
    )
    sent = {
        "in the head": whole[: head // 2],
        "behind the head": whole[:head],
        "in the body": whole[:-10],
        "in chunks": chunks,
    }[phase]
    asked = len(bench.engine.seen)
    for again in (False, True):  # the second time, the head is known
        with Wire(gateway.port) as connection:
            if again:
                assert connection.ask(whole).status == 200
                asked = len(bench.engine.seen)
            connection.send(sent)
            time.sleep(0.02)
    clients = gateway.operations.front._desk.clients if gateway.operations is not None else set()
    eventually(lambda: not clients)
    assert len(bench.engine.seen) == asked
    assert ask(gateway.port, get(b"/v1/keys")).status == 200


def test_requests_pass_byte_for_byte_however_they_are_cut(gateway: Gateway) -> None:
    """Also where the head came before: cut at each place, it is the same request."""
    body = json.dumps(script(RAW["answer"])).encode()
    whole = post(CHAT, body)
    with Wire(gateway.port) as connection:
        for at in [*range(1, len(whole), 37), whole.index(b"\r\n\r\n") + 4, len(whole) - 1]:
            connection.send(whole[:at])
            time.sleep(0.002)
            got = connection.ask(whole[at:])
            assert got.body == chat()
            check(wire.from_header(got.fields[wire.HEADER]), CHAT, body, got.body)


def test_a_known_head_with_another_length_or_byte_is_another_request(gateway: Gateway) -> None:
    with Wire(gateway.port) as connection:
        for size in (0, 1, 9, 10, 100, 5000, 70_000):
            body = json.dumps({**script(RAW["answer"]), "x": "y" * size}).encode()
            got = connection.ask(post(CHAT, body))
            check(wire.from_header(got.fields[wire.HEADER]), CHAT, body, chat())
        for field in (b"X-A: 1\r\n", b"X-A: 2\r\n"):
            assert connection.ask(post(CHAT, body, field)).body == chat()
        spelt = post(CHAT, body).replace(b"Content-Length: ", b"Content-Length: +")
        assert connection.ask(spelt).status == 400
