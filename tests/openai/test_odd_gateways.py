"""What a gateway answers instead of a receipt: named, bounded, and no excuse past the deadline."""

import contextlib
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from lydite.appraisal import promises
from lydite.appraisal.trust import Anchor, of_anchor
from lydite.cli import promised
from lydite.cli.main import main
from lydite.errors import FormatError, Reason, UnavailableError
from lydite.gateway.service import Gateway
from lydite.messages.canonical import encode
from lydite.openai import fetching, verified_client
from tests.gateway.raw_client import CHAT

PATH = CHAT.decode()

Serve = Callable[..., str]


def say(line: socket.socket, reply: bytes, pause_s: float) -> None:
    step = 1 if pause_s else 1 << 16
    with line, contextlib.suppress(OSError):
        line.recv(65536)
        for at in range(0, len(reply), step):
            line.sendall(reply[at : at + step])
            time.sleep(pause_s)


def accept(listener: socket.socket, reply: bytes, pause_s: float) -> None:
    with contextlib.suppress(OSError):
        while True:
            line, _ = listener.accept()
            threading.Thread(target=say, args=(line, reply, pause_s), daemon=True).start()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server that says one thing to everybody, in pieces if it is told to."""
    listeners: list[socket.socket] = []

    def start(reply: bytes, pause_s: float = 0) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        told = (listener, reply, pause_s)
        threading.Thread(target=accept, args=told, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for listener in listeners:
        listener.close()


def fetched(url: str, timeout_s: float = 5.0) -> bytes | None:
    return fetching.fetch(httpx2, {}, timeout_s)(url)


@pytest.mark.parametrize("status", [302, 404, 410, 429, 503])
def test_any_status_but_200_is_an_answer_without_a_statement(serve: Serve, status: int) -> None:
    head = b"HTTP/1.1 %d x\r\nlocation: /a\r\ncontent-length: 2\r\n\r\n{}" % status
    assert fetched(serve(head)) is None
    assert fetched(serve(b"HTTP/1.1 200 x\r\ncontent-length: 2\r\n\r\n{}")) == b"{}"


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 x\r\ncontent-length: 10000\r\n\r\n"])
def test_an_answer_that_drips_is_cut_at_the_deadline(serve: Serve, head: bytes) -> None:
    slow = b"HTTP/1.1 200 x\r\nx-a: " + b"a" * 9000
    begun = time.monotonic()
    with pytest.raises(UnavailableError):
        fetched(serve(head + slow, 0.002 if head else 0.05), 0.7)
    assert time.monotonic() - begun < 3


def test_an_answer_that_is_too_long_is_not_read(serve: Serve) -> None:
    size = 64 * fetching.MAX_BYTES
    head = b"HTTP/1.1 200 x\r\ncontent-length: %d\r\n\r\n" % size
    with pytest.raises(FormatError) as caught:
        fetched(serve(head + bytes(2 * fetching.MAX_BYTES)))
    assert caught.value.reason is Reason.TOO_LARGE


def test_an_answer_that_breaks_off_is_none(serve: Serve) -> None:
    for reply in (b"garbage", b"HTTP/1.1 200 x\r\ncontent-length: 9\r\n\r\n{}"):
        with pytest.raises(UnavailableError):
            fetched(serve(reply))


@pytest.mark.parametrize("status", [302, 410, 503])
def test_an_error_for_ever_is_a_broken_promise(
    gateway: Gateway, anchor: Anchor, serve: Serve, status: int
) -> None:
    http = verified_client(anchor, deadline_s=1_000)
    http.post(f"http://127.0.0.1:{gateway.port}{PATH}", json={"messages": []})
    kept = http.receipts._pending[0]
    url = serve(b"HTTP/1.1 %d x\r\ncontent-length: 0\r\n\r\n" % status)
    http.receipts._pending[0] = msgspec.structs.replace(kept, url=url)
    assert [each.reason for each in http.receipts.settle()] == [Reason.NOT_IN_LOG]
    http.receipts._deadline_ms = -1
    assert [each.reason for each in http.receipts.settle()] == [Reason.BROKEN_PROMISE]
    assert [each.reason for each in http.receipts.faults] == [Reason.BROKEN_PROMISE]


def test_a_receipt_header_that_is_not_ascii_is_a_named_fault(anchor: Anchor, serve: Serve) -> None:
    fields = b"x-lydite-receipt-id: %s\r\nx-lydite-salt: %s\r\n" % (b"0" * 32, b"a" * 64)
    for value in ("€".encode(), b"\xff\xfe"):
        head = b"HTTP/1.1 200 x\r\n%sx-lydite-receipt: %s\r\ncontent-length: 2\r\n\r\n{}"
        http: Any = verified_client(anchor)
        with pytest.raises(FormatError):
            http.post(serve(head % (fields, value)) + PATH, json={})
        assert [each.reason for each in http.receipts.faults] == [Reason.MALFORMED]


def coded_stream() -> bytes:
    """Events that a raw deflate stream holds, with a blank line between its blocks."""
    events = b'data: {"choices":[]}\n\ndata: [DONE]\n\n'
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(events) + packer.flush(zlib.Z_SYNC_FLUSH)
    return packed + struct.pack("<BHH", 0, 2, 0xFFFF ^ 2) + b"\n\n"


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        (b"text/event-stream\r\ncontent-encoding: deflate", coded_stream()),
        (b"text/event-stream; charset=utf-7", b"data: +AFs-DONE+AF0-\n\n"),
    ],
    ids=["deflate", "utf-7"],
)
def test_no_forged_end_hides_in_a_coding(
    anchor: Anchor, serve: Serve, fields: bytes, body: bytes
) -> None:
    head = b"HTTP/1.1 200 x\r\nx-lydite-receipt-id: %s\r\nx-lydite-salt: %s\r\n" % (
        b"0" * 32,
        b"a" * 64,
    )
    http: Any = verified_client(anchor)
    seen: list[str] = []
    reply = head + b"content-type: %s\r\n\r\n%s" % (fields, body)
    with (
        pytest.raises(FormatError) as caught,
        http.stream("POST", serve(reply) + PATH, json={}) as answer,
    ):
        seen.extend(answer.iter_lines())
    assert seen == []
    assert [each.reason for each in http.receipts.faults] == [caught.value.reason]
    assert caught.value.reason is Reason.ODD_ANSWER


def owed(gateway: Gateway, anchor: Anchor, journal: Path) -> promises.Kept:
    """The receipt of one answer, as a client kept it a day ago."""
    http = verified_client(anchor, journal=journal)
    http.post(f"http://127.0.0.1:{gateway.port}{PATH}", json={"messages": []})
    (kept,) = promises.parse_journal(journal.read_bytes())
    return msgspec.structs.replace(kept, received_ms=kept.received_ms - 86_400_000)


@pytest.mark.parametrize("status", [302, 410, 500])
def test_the_command_takes_an_error_for_ever_for_a_broken_promise(
    gateway: Gateway, anchor: Anchor, serve: Serve, tmp_path: Path, status: int, capsys: Any
) -> None:
    journal, trust = tmp_path / "journal", tmp_path / "trust.json"
    trust.write_bytes(encode(of_anchor(anchor)))
    kept = owed(gateway, anchor, journal)
    other = msgspec.structs.replace(
        kept, url=serve(b"HTTP/1.1 %d x\r\nlocation: /a\r\ncontent-length: 2\r\n\r\n{}" % status)
    )
    journal.write_bytes(encode(other) + b"\n")
    assert main(["receipt", "check", str(journal), "--trust", str(trust), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["reason"] == "broken-promise"


def test_a_gateway_that_drips_hides_no_fault_of_another(
    gateway: Gateway,
    anchor: Anchor,
    serve: Serve,
    tmp_path: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(promised, "_TIMEOUT_S", 0.7)
    journal, trust = tmp_path / "journal", tmp_path / "trust.json"
    trust.write_bytes(encode(of_anchor(anchor)))
    kept = owed(gateway, anchor, journal)
    slow = serve(b"HTTP/1.1 200 x\r\nx-a: " + b"a" * 9000, 0.05)
    rude = serve(b"HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n")
    lines = [
        msgspec.structs.replace(
            kept, url=place, compact=msgspec.structs.replace(kept.compact, signature=None, id=name)
        )
        for place, name in ((slow, "1" * 32), (slow, "2" * 32), (rude, "3" * 32), (rude, "3" * 32))
    ]
    journal.write_bytes(b"".join(encode(line) + b"\n" for line in lines))
    begun = time.monotonic()
    assert main(["receipt", "check", str(journal), "--trust", str(trust), "--json"]) == 1
    assert time.monotonic() - begun < 5
    said = json.loads(capsys.readouterr().out)
    assert said["reason"] == "broken-promise"
    assert {fact["name"]: fact["value"] for fact in said["facts"]}["at fault"] == "2"
    journal.write_bytes(encode(lines[0]) + b"\n")
    assert main(["receipt", "check", str(journal), "--trust", str(trust)]) == 4
