"""Requests reach a gateway that serves their model, and answers come back as they were."""

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from lydite.auditor.ledger import Ledger
from lydite.auditor.line import Address
from lydite.auditor.refusals import Refusals
from lydite.auditor.registry import Place, Registry
from lydite.auditor.router import Router
from lydite.laboratory.world import key
from lydite.messages import cannot
from lydite.signing.dsse import open_envelope
from lydite.tlog.store import LogStore
from tests.gateway.scripted_engine import ScriptedEngine, chunked, plain, script

BODY_BYTES = 100_000
DEADLINE_S = 0.5


class Routed:
    """A router before one scripted gateway, and a place where nobody listens."""

    def __init__(self, directory: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.gateway = ScriptedEngine()
        self.run(self.gateway.start())
        self.signer = key("recomputer")
        log = LogStore.open(directory / "log", "routing.test", key("log"))
        self.ledger = Ledger(directory / "statements", log, self.signer)
        self.place = place("here", self.gateway.port)
        self.gone = place("gone", silent_port())
        self.registry = Registry([self.gone, self.place])
        self.refusals = Refusals(self.ledger, int(DEADLINE_S * 1000), 50)
        router = Router(self.registry, self.refusals, deadline_s=DEADLINE_S, body_bytes=BODY_BYTES)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.server = uvicorn.Server(
            uvicorn.Config(router, http="httptools", lifespan="off", log_level="critical")
        )
        self.server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        self.serving = asyncio.run_coroutine_threadsafe(
            self.server.serve(sockets=[self.listener]), self.loop
        )
        while not self.server.started:
            time.sleep(0.01)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def open(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)

    def ask(
        self, content: dict[str, Any], path: str = "/v1/completions"
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        with contextlib.closing(self.open()) as connection:
            connection.request("POST", path, json.dumps(content))
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers


def place(name: str, port: int) -> Place:
    address = Address("127.0.0.1", port, None, "")
    return Place(name=name, provider=f"ed25519:{name}", address=address, model="m", healthy=True)


def silent_port() -> int:
    """A port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Routed]:
    made = Routed(tmp_path_factory.mktemp("routing"))
    yield made
    made.server.should_exit = True
    made.serving.result(10)
    made.run(made.gateway.stop())
    made.loop.call_soon_threadsafe(made.loop.stop)
    made.thread.join()
    made.loop.close()


EVENTS = [b'data: {"n": %d}\n\n' % number for number in range(50)] + [b"data: [DONE]\n\n"]


def test_an_answer_comes_back_to_the_byte(routed: Routed) -> None:
    body = b'{"odd"  :  1.0, "\\u00e9": "\xc3\xa9"}'
    status, content, _ = routed.ask({"model": "m", **script(plain(body))})
    assert (status, content) == (200, body)


def test_an_error_of_the_gateway_comes_back_as_it_was(routed: Routed) -> None:
    raw = plain(b'{"error": {}}', status=b"429 Too Many Requests")
    raw = raw.replace(b"\r\n\r\n", b"\r\nRetry-After: 7\r\nx-lydite-receipt-id: ab\r\n\r\n", 1)
    status, content, headers = routed.ask({"model": "m", **script(raw)})
    assert (status, content) == (429, b'{"error": {}}')
    assert (headers["retry-after"], headers["x-lydite-receipt-id"]) == ("7", "ab")


def test_the_gateway_sees_the_very_bytes_and_the_very_path(routed: Routed) -> None:
    sent = json.dumps({"model": "m", **script(plain(b"{}")), "x": "\xe9"}, indent=3).encode()
    with contextlib.closing(routed.open()) as connection:
        headers = {"Authorization": "Bearer b", "X-Odd": "1", "Expect": ""}
        connection.request("POST", "/v1/completions?a=%20b&c", sent, headers)
        connection.getresponse().read()
    seen = routed.gateway.seen[-1]
    assert seen.body == sent
    assert seen.head.startswith(b"POST /v1/completions?a=%20b&c HTTP/1.1\r\n")
    lowered = seen.head.lower()
    assert b"authorization: bearer b" in lowered
    assert b"x-odd: 1" in lowered
    assert lowered.count(b"\r\nhost:") == 1


def test_a_stream_arrives_while_it_is_made(routed: Routed) -> None:
    raw = chunked(EVENTS)
    cuts = [raw.index(event) + len(event) + 2 for event in EVENTS]
    content = {"model": "m", **script(raw, cuts, pause_s=0.01)}
    with contextlib.closing(routed.open()) as connection:
        started = time.monotonic()
        connection.request("POST", "/v1/chat/completions", json.dumps(content))
        answer = connection.getresponse()
        first = answer.read1(10)
        first_s = time.monotonic() - started
        rest = answer.read()
        whole_s = time.monotonic() - started
    assert first + rest == b"".join(EVENTS)
    assert first_s < whole_s / 2


@pytest.mark.parametrize("end", ["close", "reset"])
def test_a_stream_that_breaks_is_not_made_to_look_whole(routed: Routed, end: str) -> None:
    raw = chunked(EVENTS)[:-40]
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        routed.ask({"model": "m", **script(raw, end=end)})


@pytest.mark.parametrize("end", ["close", "reset"])
def test_a_gateway_that_breaks_off_before_its_answer_is_a_502(routed: Routed, end: str) -> None:
    before = routed.gateway.connections
    status, content, _ = routed.ask({"model": "m", **script(b"", end=end)})
    assert status == 502
    assert json.loads(content)["error"]["code"] == "upstream-failed"
    assert routed.gateway.connections == before + 1, "the request was sent twice"


@pytest.mark.parametrize("sent", [b"", plain(b"{}")[:-10], chunked(EVENTS)[:200]])
def test_a_client_that_leaves_ends_the_work_within_50_ms(routed: Routed, sent: bytes) -> None:
    content = json.dumps({"model": "m", **script(sent, hang=True)}).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
    with socket.create_connection(("127.0.0.1", routed.port)) as client:
        before = len(routed.gateway.seen)
        client.sendall(head % len(content) + content)
        wait_until(lambda: len(routed.gateway.seen) > before)
        time.sleep(0.05)
    left = time.monotonic()
    seen = routed.gateway.seen[-1]
    wait_until(lambda: seen.closed_at is not None)
    assert seen.closed_at is not None
    assert seen.closed_at - left < 0.05


def test_a_client_that_does_not_read_is_not_read_for(routed: Routed) -> None:
    size = 30_000_000
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n" % size
    taken: list[int] = []

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        with contextlib.suppress(ConnectionError):
            for _ in range(size // 100_000):
                writer.write(bytes(100_000))
                await writer.drain()
                taken.append(100_000)

    server = routed.run(asyncio.start_server(pour, "127.0.0.1", 0))
    big = place("big", server.sockets[0].getsockname()[1])
    big.model = "big"
    routed.registry.places = (*routed.registry.places, big)
    content = b'{"model": "big"}'
    head_sent = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.connect(("127.0.0.1", routed.port))
        client.sendall(head_sent % len(content) + content)
        time.sleep(0.5)
        assert 0 < sum(taken) < size / 2
    routed.registry.places = routed.registry.places[:-1]
    routed.loop.call_soon_threadsafe(server.close)


def test_where_no_connection_comes_about_another_gateway_is_asked(routed: Routed) -> None:
    routed.place.running = 5  # the other one is less busy, and gone
    try:
        status, _, _ = routed.ask({"model": "m", **script(plain(b"{}"))})
    finally:
        routed.place.running = 0
    assert status == 200


def test_nobody_serves_the_model_and_a_receipt_says_so(routed: Routed) -> None:
    started = time.monotonic()
    status, content, headers = routed.ask({"model": "unheard-of", "prompt": "a secret"})
    assert status == 503
    assert time.monotonic() - started < DEADLINE_S
    said = json.loads(content)
    assert said["error"]["code"] == "cannot"
    envelope = json.dumps(said["lydite"]["envelope"], separators=(",", ":"), sort_keys=True)
    keys = {routed.signer.keyid: routed.signer.public}
    payload = open_envelope(envelope.encode(), keys, list(keys))
    statement = cannot.parse(payload).predicate
    assert statement.model == "unheard-of"
    assert {each.why for each in statement.asked} == {"other-model"}
    found = routed.ledger.find(headers["x-lydite-cannot"])
    assert found is not None
    assert found.number == said["lydite"]["entry"]
    assert b"a secret" not in envelope.encode()


def test_a_gateway_that_is_gone_is_named_within_the_deadline(routed: Routed) -> None:
    routed.place.shut = True
    started = time.monotonic()
    try:
        status, content, _ = routed.ask({"model": "m", "prompt": "x"})
    finally:
        routed.place.shut = False
    assert (status, json.loads(content)["error"]["code"]) == (503, "cannot")
    assert time.monotonic() - started < DEADLINE_S + 0.3
    last = list(routed.ledger.of_kind("cannot"))[-1]
    said = cannot.parse(
        open_envelope(last.envelope, {routed.signer.keyid: routed.signer.public}, ())
    )
    assert [each.why for each in said.predicate.asked] == ["unreachable", "shut-down"]


def test_a_gateway_that_fails_two_checks_is_not_asked(routed: Routed) -> None:
    routed.place.shut = True
    try:
        routed.run(routed.registry.probe(routed.gone, 1.0))
        assert routed.gone.healthy, "one check may fail"
        routed.run(routed.registry.probe(routed.gone, 1.0))
        assert not routed.gone.healthy
        assert {each.why for each in routed.registry.asked("m")} == {"unhealthy", "shut-down"}
        assert routed.registry.candidates("m") == []
    finally:
        routed.place.shut, routed.gone.healthy = False, True
    routed.run(routed.registry.probe(routed.place, 1.0))
    assert routed.place.healthy
    assert "m" in routed.registry.models()


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'{"model": 7}', 400),
        (b'{"model": ""}', 400),
        (b'{"model": "%s"}' % (b"m" * 201), 400),
        (b'{"model": "\xff"}', 400),
        (b"[" * 50_000, 400),
        (b'{"model": "m", "x": "%s"}' % bytes(BODY_BYTES), 413),
    ],
)
def test_a_request_that_names_no_model_is_refused(
    routed: Routed, content: bytes, status: int
) -> None:
    before = len(routed.gateway.seen), routed.ledger.log.size
    with contextlib.closing(routed.open()) as connection:
        connection.request("POST", "/v1/completions", content)
        answer = connection.getresponse()
        assert answer.status == status
        assert json.loads(answer.read())["error"]["message"]
    assert (len(routed.gateway.seen), routed.ledger.log.size) == before


def test_who_asks_for_nothing_too_often_fills_no_disk(routed: Routed, tmp_path: Path) -> None:
    now = [0.0]
    refusals = Refusals(routed.ledger, 500, per_s=5, clock=lambda: now[0])
    assert sum(refusals.admit() for _ in range(100)) == 10
    now[0] = 1.0
    assert sum(refusals.admit() for _ in range(100)) == 5


def wait_until(holds: Any, timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.002)
