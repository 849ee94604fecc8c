"""A witness has a bounded number of places, and no client keeps one by being slow."""

import contextlib
import http.client
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from lydite.tlog import witness, witness_server
from lydite.tlog.store import LogStore
from lydite.tlog.witness import Witness
from lydite.tlog.witness_client import WitnessClient
from lydite.tlog.witness_server import MAX_CONNECTIONS, Keeper, WitnessServer

TIMEOUT_S = 0.9
DRIP_S = 0.05


@pytest.fixture
def server(
    tmp_path: Path,
    identity: Witness,
    clock: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[WitnessServer]:
    """A witness of ordinary making but for its patience, so that the tests need little."""
    monkeypatch.setattr(witness_server._Handler, "timeout", TIMEOUT_S)
    with WitnessServer(Keeper(identity, tmp_path / "witness", clock)) as running:
        yield running


def connect(server: WitnessServer) -> socket.socket:
    parts = urlsplit(server.url)
    assert parts.hostname is not None
    return socket.create_connection((parts.hostname, parts.port or 0), timeout=5)


def drip_until_cut(connections: list[socket.socket]) -> float:
    """Send a byte on each again and again; return the seconds until the last one was cut."""
    began = time.monotonic()
    while connections and time.monotonic() - began < 5:
        time.sleep(DRIP_S)
        for each in list(connections):
            try:
                each.sendall(b"x")
            except OSError:
                each.close()
                connections.remove(each)
    return time.monotonic() - began


STARTS = {
    "request line": b"POST /add-ch",
    "head": b"POST /add-checkpoint HTTP/1.1\r\nx: ",
    "body": b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 1000\r\n\r\nold 0\n",
    "second request": b"GET /x HTTP/1.1\r\n\r\nGET /x HTTP/1.1\r\nx: ",
}


@pytest.mark.parametrize("start", STARTS)
def test_a_drip_is_cut_when_its_time_is_over(server: WitnessServer, start: str) -> None:
    dripping = connect(server)
    dripping.sendall(STARTS[start])
    took = drip_until_cut([dripping])
    assert TIMEOUT_S / 2 < took < TIMEOUT_S + 2


def test_drips_in_every_place_do_not_shut_the_witness(
    server: WitnessServer, log: LogStore, identity: Witness
) -> None:
    dripping = [connect(server) for _ in range(MAX_CONNECTIONS)]
    for each in dripping:
        each.sendall(STARTS["head"])
    with connect(server) as one_more, contextlib.suppress(ConnectionError):
        assert one_more.recv(1) == b""
    drip_until_cut(dripping)
    assert dripping == []
    client = WitnessClient(server.url, identity.key)
    client.cosign(log.publish(), log.consistency_proof)
    client.close()


def test_a_client_that_does_not_take_its_answers_is_cut(server: WitnessServer) -> None:
    parts = urlsplit(server.url)
    listener = server._server.socket
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # its connections inherit it
    with socket.socket() as greedy:
        greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        greedy.settimeout(10)
        greedy.connect((parts.hostname, parts.port))
        with pytest.raises(ConnectionError):  # and not TimeoutError
            greedy.sendall(b"GET /x HTTP/1.1\r\n\r\n" * 1_000_000)


def test_a_silent_connection_is_closed(server: WitnessServer) -> None:
    with connect(server) as silent:
        began = time.monotonic()
        assert silent.recv(1) == b""
        assert TIMEOUT_S / 2 < time.monotonic() - began < TIMEOUT_S + 2


def test_a_kept_connection_has_its_time_anew_for_each_request(server: WitnessServer) -> None:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=5)
    connection.connect()
    kept = connection.sock
    for _ in range(5):
        time.sleep(TIMEOUT_S / 3)
        connection.request("GET", "/x")
        assert connection.getresponse().read() == b"no such checkpoint\n"
        assert connection.sock is kept
    connection.close()


def test_a_body_that_breaks_off_is_never_decided_on(
    server: WitnessServer, log: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided: list[bytes] = []
    monkeypatch.setattr(witness, "parse_request", decided.append)
    with connect(server) as cut_off:
        cut_off.sendall(b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 100\r\n\r\nold 0\n")
        cut_off.shutdown(socket.SHUT_WR)
        assert b"400" in cut_off.recv(100)
    assert decided == []
