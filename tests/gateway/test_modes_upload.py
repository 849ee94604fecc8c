"""Weights on the whitelist are taken and served; anything else cuts the power of a real machine."""

import json
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lydite.engines.layout import MOST_BYTES
from lydite.engines.weights import measure
from lydite.gateway.modes.intake import BUFFERS
from tests.gateway.conftest import Bench
from tests.gateway.guarded import Guarded, make_model
from tests.gateway.raw_client import Wire, ask, get


@pytest.fixture
def guarded(bench: Bench, request: pytest.FixtureRequest) -> Iterator[Guarded]:
    name = f"guarded-{abs(hash(request.node.nodeid))}"
    made = Guarded(bench, name)
    yield made
    made.close()


@pytest.fixture
def ready(guarded: Guarded) -> Guarded:
    guarded.start()
    guarded.until_mode("upload")
    return guarded


def body_of(model: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(model.iterdir()))


def put(root: str, length: int, more: bytes = b"") -> bytes:
    head = b"PUT /v1/upload/%s HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n%s\r\n"
    return head % (root.encode(), length, more)


def refused(got: object) -> str:
    return str(json.loads(got.body)["error"]["code"])  # type: ignore[attr-defined]


def test_a_listed_model_is_uploaded_switched_on_and_served(ready: Guarded) -> None:
    assert not ready.is_on()
    before = ready.chat()
    assert (before.status, refused(before)) == (503, "not-serving")
    assert ask(ready.up.port, get(b"/v1/models")).status == 503
    assert ask(ready.up.port, get(b"/v1/keys")).status == 200

    outcome = ready.send()
    assert outcome.serving, outcome
    assert outcome.sent == outcome.size == ready.listed.size

    got = ready.chat()
    said = json.loads(got.body)["choices"][0]["message"]["content"]
    assert said == measure(ready.model).root == ready.listed.root
    assert json.loads(ask(ready.up.port, get(b"/v1/mode")).body)["mode"] == "serving"

    changes = ready.changes()
    assert [(each.mode, each.cause) for each in changes] == [
        ("dark", "started"),
        ("upload", "power-off"),
        ("loading", "uploaded"),
        ("serving", "answers"),
    ]
    assert [each.sequence for each in changes] == [1, 2, 3, 4]
    assert len({each.boot for each in changes}) == 1
    assert changes[-1].weights_root == ready.listed.root
    assert changes[-1].signature == ready.listed.signature
    assert changes[-1].received == changes[-1].size == ready.listed.size


@pytest.mark.parametrize("algorithm", ["sha256", "blake3"])
def test_both_algorithms_name_what_is_served(bench: Bench, algorithm: str) -> None:
    guarded = Guarded(bench, f"by-{algorithm}")
    try:
        shutil.rmtree(guarded.place / "signed")
        guarded.listed = guarded.sign(guarded.model, "signed", algorithm=algorithm)
        guarded.start()
        guarded.until_mode("upload")
        assert guarded.listed.root == measure(guarded.model, algorithm).root  # type: ignore[arg-type]
        assert guarded.send(algorithm=algorithm).serving
    finally:
        guarded.close()


@pytest.mark.parametrize("place", ["header", "first", "middle", "end", "config.json"])
def test_one_flipped_bit_anywhere_cuts_the_power_and_is_never_served(
    guarded: Guarded, place: str
) -> None:
    tampered = guarded.place / "tampered"
    shutil.copytree(guarded.model, tampered)
    name = place if place.endswith(".json") else "model.safetensors"
    data = bytearray((tampered / name).read_bytes())
    at = {"header": 20, "first": 300, "middle": len(data) // 2, "end": -1}.get(place, 3)
    data[at] ^= 1
    (tampered / name).write_bytes(data)
    guarded.start()
    guarded.until_mode("upload")
    outcome = guarded.send(tampered, root=guarded.listed.root)
    assert (outcome.status, outcome.reason) == (422, "wrong-weights")
    assert name in outcome.message
    guarded.until_mode("upload")
    assert not guarded.is_on()
    assert guarded.chat().status == 503
    assert not (guarded.store / "model").exists()
    causes = [each.cause for each in guarded.changes()]
    assert causes == ["started", "power-off", "wrong-weights", "power-off"]
    assert guarded.send().serving, "and the right one is taken afterwards"


def test_a_wrong_byte_is_noticed_long_before_the_last_one(bench: Bench) -> None:
    guarded = Guarded(bench, "early")
    try:
        shutil.rmtree(guarded.place / "signed")
        shutil.rmtree(guarded.model)
        make_model(guarded.model, size=150_000_000)
        guarded.listed = guarded.sign(guarded.model, "signed")
        tampered = guarded.place / "tampered"
        shutil.copytree(guarded.model, tampered)
        with (tampered / "model.safetensors").open("r+b") as file:
            file.seek(5_000_000)
            file.write(b"\xff\xfe")
        guarded.start()
        guarded.until_mode("upload")
        outcome = guarded.send(tampered, root=guarded.listed.root)
        assert outcome.reason == "wrong-weights"
        noticed = guarded.changes()[2]
        assert noticed.cause == "wrong-weights"
        assert noticed.received < 5_000_000 + (BUFFERS + 2) * MOST_BYTES
        assert outcome.sent < outcome.size
    finally:
        guarded.close()


@pytest.mark.parametrize("change", [-1, 1])
def test_another_length_is_refused_before_a_byte(ready: Guarded, change: int) -> None:
    with Wire(ready.upload_port) as wire:
        got = wire.ask(put(ready.listed.root, ready.listed.size + change))
    assert (got.status, refused(got)) == (400, "wrong-length")
    assert ready.mode == "upload"


def test_a_model_that_nobody_listed_is_refused_before_a_byte(ready: Guarded) -> None:
    other = make_model(ready.place / "other", seed=9)
    outcome = ready.send(other)
    assert (outcome.status, outcome.reason) == (403, "not-listed")
    assert ready.report()["received"] == 0


def test_a_listed_model_that_is_not_declared_is_refused(guarded: Guarded) -> None:
    other = make_model(guarded.place / "other", seed=9)
    guarded.sign(other, "signed-too")
    guarded.modes = guarded._modes(
        whitelist=(str(guarded.place / "signed"), str(guarded.place / "signed-too"))
    )
    guarded.start()
    guarded.until_mode("upload")
    outcome = guarded.send(other)
    assert (outcome.status, outcome.reason) == (403, "not-listed")
    assert "declared" in outcome.message


def test_one_byte_less_cuts_the_power(ready: Guarded) -> None:
    body = body_of(ready.model)
    with Wire(ready.upload_port) as wire:
        wire.send(put(ready.listed.root, len(body)) + body[:-1])
        ready.until(lambda: ready.report()["received"] == len(body) - 1)
        wire.socket.shutdown(socket.SHUT_WR)
        got = wire.read()
    assert (got.status, refused(got)) == (400, "wrong-length")
    ready.until_mode("upload")
    assert [each.cause for each in ready.changes()][2:] == ["broken-off", "power-off"]
    assert ready.changes()[2].received == len(body) - 1
    assert not ready.is_on()


@pytest.mark.parametrize("behind", [b"x", b"\r\n", b"GET /v1/mode HTTP/1.1\r\nHost: t\r\n\r\n"])
def test_one_byte_more_cuts_the_power(ready: Guarded, behind: bytes) -> None:
    body = body_of(ready.model)
    with Wire(ready.upload_port) as wire:
        wire.send(put(ready.listed.root, len(body)) + body + behind)
        got = wire.read()
    assert (got.status, refused(got)) == (400, "wrong-length")
    ready.until_mode("upload")
    assert [each.cause for each in ready.changes()][-2:] == ["too-long", "power-off"]
    assert not ready.is_on()


def test_an_upload_that_stands_still_is_cut(ready: Guarded) -> None:
    with Wire(ready.upload_port) as wire:
        wire.send(put(ready.listed.root, ready.listed.size) + b"{")
        got = wire.read()
    assert got.status == 408
    ready.until_mode("upload")
    assert [each.cause for each in ready.changes()][2:] == ["stalled", "power-off"]


def test_an_uploader_who_hangs_up_leaves_nothing(ready: Guarded) -> None:
    with Wire(ready.upload_port) as wire:
        wire.send(put(ready.listed.root, ready.listed.size) + body_of(ready.model)[:1_500_000])
        ready.until(lambda: ready.report()["received"] > 0)
    ready.until(lambda: ready.report()["received"] == 0 and ready.mode == "upload")
    assert not (ready.store / "model").exists()
    assert ready.send().serving


def test_a_second_upload_beside_the_first_or_while_serving_is_refused(ready: Guarded) -> None:
    body = body_of(ready.model)
    with Wire(ready.upload_port) as wire:
        wire.send(put(ready.listed.root, len(body)) + body[:1000])
        ready.until(lambda: ready.report()["received"] == 1000)
        second = ready.send()
        assert (second.status, second.reason) == (409, "conflict")
        assert ready.report()["received"] == 1000, "the first is not disturbed"
        wire.send(body[1000:])
        assert wire.read().status == 200
    third = ready.send()
    assert (third.status, third.reason) == (409, "conflict")
    assert ready.chat().status == 200


def test_bytes_may_come_in_any_pieces(ready: Guarded) -> None:
    body = body_of(ready.model)
    with Wire(ready.upload_port) as wire:
        raw = put(ready.listed.root, len(body)) + body
        for start in range(300):
            wire.send(raw[start : start + 1])
        at, length = 300, 1
        while at < len(raw):
            wire.send(raw[at : at + length])
            at, length = at + length, length * 3 % 70_001 + 1
        assert wire.read().status == 200


def test_curl_s_expectation_is_answered(ready: Guarded) -> None:
    body = body_of(ready.model)
    with Wire(ready.upload_port) as wire:
        head = put(ready.listed.root, len(body), b"Expect: 100-continue\r\n")
        wire.send(head)
        assert wire._until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert wire.ask(body).status == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"PUT /v1/upload/%s HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"PUT /v1/upload/%s HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
        b"PUT /v1/upload/%s HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 5\r\n\r\n",
        b"PUT /v1/upload/%s HTTP/1.0\r\nHost: t\r\nContent-Length: 5\r\n\r\n",
        b"PUT /v1/upload/%s HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"PUT /v1/upload/%s HTTP/1.1\r\nHost: t\r\nContent-Length: +5\r\n\r\n",
        b"POST /v1/upload/%s HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\n",
        b"PUT /v1/upload/../%s HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\n",
        b"PUT /v1/upload/%s HTTP/1.1\r\nHost: t\r\n" + b"a: b\r\n" * 5000 + b"\r\n",
        b"CONNECT t:1 HTTP/1.1\r\nHost: t\r\n\r\n",
        b"\x00\x01%s\r\n\r\n",
    ],
)
def test_odd_requests_are_refused_and_change_nothing(ready: Guarded, raw: bytes) -> None:
    if b"%s" in raw:
        raw = raw.replace(b"%s", ready.listed.root.encode())
    with Wire(ready.upload_port) as wire:
        got = wire.ask(raw)
    assert got.status in {400, 413}
    assert ready.report()["mode"] == "upload"
    assert ready.report()["sequence"] == 2


def test_an_uploader_needs_the_token_where_there_is_one(guarded: Guarded) -> None:
    guarded.modes = guarded._modes(upload_token="a long uploader's token")
    guarded.start()
    guarded.until_mode("upload")
    for token in (None, "another"):
        outcome = guarded.send(token=token)
        assert (outcome.status, outcome.reason) == (401, "unknown-key")
    assert guarded.send(token="a long uploader's token").serving


def test_memory_does_not_grow_with_the_upload(bench: Bench) -> None:
    guarded = Guarded(bench, "large")
    try:
        shutil.rmtree(guarded.place / "signed")
        shutil.rmtree(guarded.model)
        make_model(guarded.model, size=150_000_000)
        guarded.listed = guarded.sign(guarded.model, "signed")
        guarded.start()
        guarded.until_mode("upload")
        before = anonymous_bytes()
        highest = before

        def look(_done: int, _size: int) -> None:
            nonlocal highest
            highest = max(highest, anonymous_bytes())

        assert guarded.send(progress=look).serving
        assert highest - before < 110_000_000
    finally:
        guarded.close()


def anonymous_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    found = next(line for line in lines if line.startswith("RssAnon"))
    return int(found.split()[1]) * 1024


def test_what_is_served_is_not_disturbed_by_bytes_after_the_answer(ready: Guarded) -> None:
    body = body_of(ready.model)
    with Wire(ready.upload_port) as wire:
        assert wire.ask(put(ready.listed.root, len(body)) + body).status == 200
        wire.send(b"more")
        time.sleep(0.05)
    assert ready.mode == "serving"


def test_one_address_cannot_take_every_place_of_the_upload_port(ready: Guarded) -> None:
    port = ready.upload_port
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
    with socket.create_connection(("127.0.0.1", port), timeout=5) as another:
        assert another.recv(1) == b"", "it waits for a request"
    elsewhere = socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.2", 0))
    elsewhere.sendall(b"GET /v1/mode HTTP/1.1\r\nHost: t\r\n\r\n")
    assert elsewhere.recv(12) == b"HTTP/1.1 200"
    for each in (elsewhere, *idle):
        each.close()
