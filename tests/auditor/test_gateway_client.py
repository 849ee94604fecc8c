"""Whatever a gateway answers, and however slowly, its auditor gets an error that we foresaw."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from lydite.auditor.gateway_client import MAX_ANSWER_BYTES, GatewayClient
from lydite.errors import ConfigurationError, FormatError, LyditeError, Reason, UnavailableError

DRIP_S = 0.02
TIMEOUT_S = 0.4
Start = Callable[[bytes, bytes], str]


@pytest.fixture
def gateway() -> Iterator[Start]:
    """A gateway that says one thing, then drips another byte by byte until nobody listens."""
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(listener: socket.socket, said: bytes, drip: bytes) -> None:
        try:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(said)
                while drip:
                    time.sleep(DRIP_S)
                    connection.sendall(drip)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass  # closed before all is read, it would take back what it said
        except OSError:
            return

    def start(said: bytes, drip: bytes = b"") -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threads.append(threading.Thread(target=serve, args=(listener, said, drip)))
        threads[-1].start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


def whole(body: bytes, status: str = "200 OK", fields: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode() + body


JUNK = [
    b"",
    b"<html>",
    b"[]",
    b"{}",
    b"7",
    b'"x"',
    b"null",
    b'{"index":"x"}',
    b'{"index":null}',
    b'{"index":NaN}',
    b'{"index":0}',
    b'{"index":-1}',
    b'{"index":1.5}',
    b'{"index":1' + b"0" * 60 + b"}",
    b'{"index":true}',
    b'{"index":[1]}',
    b'{"\xff":1}',
    b'{"x":' + b"[" * 200_000,
]


@pytest.mark.parametrize("body", JUNK)
def test_an_entry_that_is_none_is_malformed(gateway: Start, body: bytes) -> None:
    with pytest.raises(FormatError):
        GatewayClient(gateway(whole(body)), "").open_epoch(1)
    with pytest.raises(FormatError):
        GatewayClient(gateway(whole(body)), "").publish(b"{}")


@pytest.mark.parametrize("body", JUNK)
def test_an_opening_that_is_none_is_malformed(gateway: Start, body: bytes) -> None:
    with pytest.raises(FormatError):
        GatewayClient(gateway(whole(body)), "").opening(1)


def test_an_entry_is_read_whatever_else_is_said(gateway: Start) -> None:
    assert GatewayClient(gateway(whole(b'{"index": 7, "proof": null}')), "").publish(b"{}") == 7


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"rubbish\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
        b"HTTP/1.1 502 Bad Gateway\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
    ],
)
def test_an_answer_that_is_none_is_unavailable(gateway: Start, said: bytes) -> None:
    with pytest.raises(UnavailableError):
        GatewayClient(gateway(said), "").checkpoint()


@pytest.mark.parametrize(
    "fields",
    [
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\nx",
        b"Content-Length: -1\r\n\r\nx",
        b"Content-Length: x\r\n\r\nx",
        b"\r\nx",
    ],
)
def test_an_answer_that_does_not_say_its_length_is_not_read(gateway: Start, fields: bytes) -> None:
    with pytest.raises(FormatError, match="how long"):
        GatewayClient(gateway(b"HTTP/1.1 200 OK\r\n" + fields), "").checkpoint()


def test_an_answer_that_is_too_large_is_not_read(gateway: Start) -> None:
    said = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MAX_ANSWER_BYTES + 1)
    with pytest.raises(FormatError) as caught:
        GatewayClient(gateway(said), "").checkpoint()
    assert caught.value.reason is Reason.TOO_LARGE


def test_a_refusal_is_told_without_its_control_characters(gateway: Start) -> None:
    with pytest.raises(UnavailableError, match="HTTP 503: ") as caught:
        GatewayClient(gateway(whole(b"\x1b[2Jno\xff" * 100, "503 No")), "").checkpoint()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("said", "drip"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n"),
        (b"", b"H"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 1000\r\n\r\n", b"x"),
    ],
)
def test_a_drip_does_not_hold_an_auditor_beyond_its_time(
    gateway: Start, said: bytes, drip: bytes
) -> None:
    client = GatewayClient(gateway(said, drip), "", timeout_s=TIMEOUT_S)
    began = time.monotonic()
    with pytest.raises(UnavailableError, match=r"within 0\.4 s"):
        client.checkpoint()
    assert TIMEOUT_S <= time.monotonic() - began < TIMEOUT_S + 1


def test_a_drip_in_the_handshake_of_tls_is_cut_too(gateway: Start) -> None:
    url = gateway(b"\x16\x03\x03\x40\x00", b"\0").replace("http", "https")
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="within"):
        GatewayClient(url, "", timeout_s=TIMEOUT_S).checkpoint()
    assert time.monotonic() - began < TIMEOUT_S + 1


def test_a_silent_gateway_is_given_up(gateway: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(UnavailableError, match="within"):
            GatewayClient(url, "", timeout_s=TIMEOUT_S).checkpoint()
    with pytest.raises(UnavailableError):
        GatewayClient(url, "", timeout_s=TIMEOUT_S).checkpoint()


def test_an_untrusted_certificate_is_unavailable(gateway: Start) -> None:
    url = gateway(b"no tls here at all").replace("http", "https")
    with pytest.raises(UnavailableError) as caught:
        GatewayClient(url, "", timeout_s=5).checkpoint()
    assert isinstance(caught.value.__cause__, ssl.SSLError)


def test_no_call_leaves_a_thread_behind(gateway: Start) -> None:
    before = threading.active_count()
    url = gateway(whole(b"x"))
    assert GatewayClient(url, "").checkpoint() == b"x"
    assert threading.active_count() <= before + 1


@pytest.mark.parametrize(
    "url",
    ["ftp://x", "x", "http://", "http://h:port", "http://h:99999", "http://h:-1", "http://[::1"],
)
def test_a_url_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigurationError):
        GatewayClient(url, "")


def test_a_token_that_no_field_can_hold_is_refused_and_not_told() -> None:
    with pytest.raises(LyditeError) as caught:
        GatewayClient("http://h", "secret\r\nx: y")
    assert isinstance(caught.value, ConfigurationError)
    assert "secret" not in str(caught.value)
