"""What a client gets is byte for byte what the engine gave, and the receipt says so."""

import base64
import hashlib
import json
import socket
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lydite.gateway import wire
from lydite.gateway.ledger.records import opening_of
from lydite.gateway.service import Gateway
from lydite.messages import opening, receipt
from lydite.messages.commitment import Salt, commit_request, sampling_seed
from lydite.messages.compact import Compact, check, signed_bytes
from lydite.signing.dsse import PublicKey, check_signature, key_id, open_envelope
from tests.gateway.conftest import TOKEN, Bench
from tests.gateway.raw_client import CHAT, Got, Wire, ask, get, play, post
from tests.gateway.scripted_engine import chat, chat_stream, chunked, events, plain, script

several = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def check_plain(got: Got, request: bytes, body: bytes, path: bytes = CHAT) -> Compact:
    assert got.whole
    assert got.body == body
    compact = wire.from_header(got.fields[wire.HEADER])
    assert got.fields[wire.ID_HEADER].decode() == compact.id
    assert got.fields[wire.SALT_HEADER].decode() == compact.salt
    check(compact, path, request, body)
    return compact


def check_stream(got: Got, request: bytes, body: bytes) -> Compact:
    assert got.whole
    compact, stripped = wire.from_stream(got.body)
    assert stripped == body
    assert got.fields[wire.ID_HEADER].decode() == compact.id
    check(compact, CHAT, request, body)
    return compact


def fetch(port: int, path: str) -> Any:
    got = ask(port, get(path.encode()))
    assert got.status == 200, got.body
    return json.loads(got.body)


def test_an_answer_arrives_unchanged_with_its_receipt(gateway: Gateway) -> None:
    request, got = play(gateway.port, plain(chat()))
    assert got.status == 200
    check_plain(got, request, chat())


def test_completions_with_a_query_are_committed_to_as_asked(gateway: Gateway) -> None:
    path = b"/v1/completions?api-version=1"
    request, got = play(gateway.port, plain(chat()), path)
    check_plain(got, request, chat(), path)


def test_a_stream_arrives_unchanged_with_its_receipt_in_the_last_event(gateway: Gateway) -> None:
    request, got = play(gateway.port, chat_stream())
    check_stream(got, request, b"".join(events()))
    *_, last, nothing = got.body.split(b"\n\n")
    assert nothing == b""
    comment, done = last.split(b"\n")
    assert comment.startswith(b": lydite-receipt {")
    assert done == b"data: [DONE]"


@several
@given(data=st.data(), streamed=st.booleans())
def test_bytes_survive_any_cutting_of_the_wire(
    gateway: Gateway, data: st.DataObject, streamed: bool
) -> None:
    whole = b"".join(events())
    if streamed:
        cuts = data.draw(st.lists(st.integers(1, len(whole) - 1), unique=True, max_size=12))
        bounds = [0, *sorted(cuts), len(whole)]
        raw = chunked([whole[a:b] for a, b in pairwise(bounds)])
    else:
        raw = plain(chat())
    splits = sorted(data.draw(st.lists(st.integers(1, len(raw) - 1), unique=True, max_size=12)))
    request, got = play(gateway.port, raw, cuts=splits, pause_s=0.0005)
    if streamed:
        check_stream(got, request, whole)
    else:
        check_plain(got, request, chat())


@several
@given(data=st.data())
def test_a_request_may_arrive_in_any_pieces(gateway: Gateway, data: st.DataObject) -> None:
    body = json.dumps(script(plain(chat()))).encode()
    if data.draw(st.booleans()):
        raw = post(CHAT, body)
    else:
        cut = data.draw(st.integers(1, len(body) - 1))
        pieces = [body[:cut], body[cut:]]
        framed = (
            b"".join(b"%x;ext=1\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\nx: y\r\n\r\n"
        )
        raw = (b"POST %s HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n" % CHAT) + framed
    splits = sorted(data.draw(st.lists(st.integers(1, len(raw) - 1), unique=True, max_size=8)))
    with Wire(gateway.port) as connection:
        for start, end in pairwise([0, *splits, len(raw)]):
            connection.send(raw[start:end])
        check_plain(connection.read(), body, chat())


def test_event_streams_with_crlf_and_late_ends_survive(gateway: Gateway) -> None:
    crlf = [b"data: {}\r\n\r\n", b"data: [DONE]\r\n\r\n"]
    for pieces in (
        crlf,
        [b"data:[DONE]\n\n"],
        [*events(), b": bye\n\n"],
        [b"\xef\xbb\xbf", *events()],
    ):
        request, got = play(gateway.port, chunked(pieces))
        check_stream(got, request, b"".join(pieces))


def test_the_engine_sees_the_same_body_the_id_and_the_seed(bench: Bench, gateway: Gateway) -> None:
    request, got = play(gateway.port, plain(chat()))
    compact = check_plain(got, request, chat())
    seen = bench.engine.seen[-1]
    assert seen.body == request
    lines = dict(line.split(b": ", 1) for line in seen.head.split(b"\r\n")[1:] if b": " in line)
    assert lines[b"x-request-id"].decode() == compact.id
    salt = Salt(bytes.fromhex(compact.salt))
    seed = sampling_seed(salt, commit_request(salt, CHAT, request))
    assert lines[b"x-lydite-seed"] == b"%d" % seed
    assert lines[b"accept-encoding"] == b"identity"
    assert lines[b"host"] == b"127.0.0.1:%d" % bench.engine.port
    assert compact.salt.encode() not in seen.head


def test_neither_side_can_set_our_headers(bench: Bench, gateway: Gateway) -> None:
    raw = plain(chat()).replace(
        b"\r\n\r\n",
        b"\r\nx-lydite-receipt: forged\r\nX-Lydite-Salt: 00\r\nx-other: kept\r\n\r\n",
        1,
    )
    body = json.dumps(script(raw)).encode()
    forged = (
        b"X-Lydite-Seed: 1\r\nX_Lydite_Seed: 1\r\nContent_Length: 0\r\nX-Request-Id: mine\r\n"
        b"Connection: x-secret\r\nX-Secret: 1\r\nAuthorization: Bearer k\r\n"
    )
    got = ask(gateway.port, post(CHAT, body, forged))
    check_plain(got, body, chat())
    assert got.fields[b"x-other"] == b"kept"
    head = bench.engine.seen[-1].head
    assert head.count(b"x-lydite-seed") == 1
    assert b"mine" not in head
    assert b"_" not in head.partition(b"authorization")[0]
    assert b"x-secret" not in head
    assert b"authorization: Bearer k" in head


FORGED = (
    b"X-Lydite-Seed: 1\r\nx_lydite_seed: 2\r\nX-LYDITE-ANYTHING: 3\r\nx-lydite-: 4\r\n"
    b"x-Lydite_Receipt: 5\r\nX-Lydite-Receipt-Id: 6\r\nx-lydite-salt: 7\r\n"
)


def ours(head: bytes) -> set[bytes]:
    """The names in a head that only the gateway may use, dashes or not."""
    names = {line.partition(b":")[0].lower().replace(b"_", b"-") for line in head.split(b"\r\n")}
    return {name for name in names if name.startswith(b"x-lydite")}


@pytest.mark.parametrize(
    "raw",
    [
        plain(chat()),
        plain(b"{}", status=b"500 Bad"),
        chat_stream(),
        plain(b"", status=b"307 Away"),
        chat_stream()[:-40],
    ],
    ids=["plain", "error", "stream", "redirect", "broken"],
)
def test_our_headers_reach_neither_side_from_the_other(
    bench: Bench, gateway: Gateway, raw: bytes
) -> None:
    forged = raw.replace(b"\r\n", b"\r\n" + FORGED, 1)
    body = json.dumps(script(forged, end="close")).encode()
    with Wire(gateway.port) as connection:
        connection.send(post(CHAT, body, FORGED))
        head = connection._until(b"\r\n\r\n")
    seen = bench.engine.seen[-1].head
    assert ours(seen) == {b"x-lydite-seed"}
    assert seen.lower().count(b"x-lydite") == 1
    named = {wire.ID_HEADER, wire.SALT_HEADER}
    streamed = b"transfer-encoding: chunked" in head
    assert ours(head) == (named if streamed else named | {wire.HEADER})
    assert head.count(b"x-lydite") == len(ours(head))
    for value in (b": 3", b": 4", b": 5", b": 6", b": 7"):
        assert value + b"\r\n" not in head


def test_our_headers_do_not_pass_with_the_list_of_models(bench: Bench, gateway: Gateway) -> None:
    assert ask(gateway.port, get(b"/v1/models", FORGED)).status == 200
    assert ours(bench.engine.seen[-1].head) == set()
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        forger = bench.gateway("forger", upstream=url)
        with Wire(forger.port) as connection:
            connection.send(get(b"/v1/models"))
            engine, _ = server.accept()
            engine.recv(1 << 16)
            engine.sendall(plain(b"{}").replace(b"\r\n", b"\r\n" + FORGED, 1))
            got = connection.read()
            engine.close()
    assert (got.status, got.body) == (200, b"{}")
    assert not any(name.startswith(b"x-lydite") for name in got.fields)


def test_errors_of_the_engine_pass_with_a_receipt(gateway: Gateway) -> None:
    fault = b'{"error":{"message":"bad","type":"invalid_request_error","param":null,"code":null}}'
    request, got = play(gateway.port, plain(fault, status=b"400 Bad Request"))
    assert got.status == 400
    check_plain(got, request, fault)


def test_connections_are_kept_on_both_sides(bench: Bench, gateway: Gateway) -> None:
    before = bench.engine.connections
    with Wire(gateway.port) as connection:
        for raw in [plain(chat()), chat_stream()] * 5:
            body = json.dumps(script(raw)).encode()
            assert connection.ask(post(CHAT, body)).whole
    assert bench.engine.connections <= before + 1


def test_two_requests_may_wait_on_one_connection(gateway: Gateway) -> None:
    first = json.dumps(script(plain(b"1"), pause_s=0.05)).encode()
    second = json.dumps(script(plain(b"2"))).encode()
    with Wire(gateway.port) as connection:
        connection.send(post(CHAT, first) + post(CHAT, second))
        assert connection.read().body == b"1"
        assert connection.read().body == b"2"


def test_old_clients_get_streams_that_end_with_the_connection(gateway: Gateway) -> None:
    body = json.dumps(script(chat_stream())).encode()
    raw = post(CHAT, body).replace(b"HTTP/1.1", b"HTTP/1.0")
    with Wire(gateway.port) as connection:
        got = connection.ask(raw)
        assert b"transfer-encoding" not in got.fields
        check_stream(got, body, b"".join(events()))


def test_the_list_of_models_passes_without_receipt(gateway: Gateway) -> None:
    got = ask(gateway.port, get(b"/v1/models"))
    assert json.loads(got.body)["data"][0]["id"] == "small"
    assert wire.ID_HEADER not in got.fields


def test_the_signed_receipt_is_there_at_once_and_opens(bench: Bench, gateway: Gateway) -> None:
    request, got = play(gateway.port, chat_stream())
    compact = check_stream(got, request, b"".join(events()))
    held = ask(gateway.port, get(b"/v1/log/envelopes/%d" % compact.entry)).body
    said = fetch(gateway.port, f"/v1/receipts/{compact.id}")
    assert said["index"] == compact.entry
    public = {
        name: bytes.fromhex(fetch(gateway.port, "/v1/keys")[name])
        for name in ("provider", "gateway")
    }
    keys = {key_id(key): key for key in public.values()}
    statement = open_envelope(held, keys, keys)
    assert hashlib.sha256(statement).hexdigest() == compact.statement
    promise = base64.b64decode(compact.signature or "")
    check_signature(PublicKey(public["gateway"]), signed_bytes(compact), promise)
    signed = receipt.parse(statement)
    assert signed.predicate.receipt_id == compact.id
    assert signed.subject[0].digest.sha256 == compact.response
    assert signed.predicate.response.streamed
    assert signed.predicate.response.outcome == "complete"
    opened = opening_of(gateway._vault.read(compact.entry))
    opening.check(opened, signed)
    assert opened.request_bytes() == request
    denied = ask(gateway.port, get(b"/v1/audit/openings/%d" % compact.entry))
    assert denied.status == 401
    undrawn = ask(
        gateway.port,
        get(
            b"/v1/audit/openings/%d" % compact.entry,
            b"Authorization: Bearer %s\r\n" % TOKEN.encode(),
        ),
    )
    assert undrawn.status == 403


def test_large_bodies_pass_both_ways(gateway: Gateway) -> None:
    large = b"x" * 5_000_000
    request, got = play(gateway.port, plain(large))
    check_plain(got, request, large)


def test_a_batched_receipt_carries_no_signature_until_it_is_asked_for(bench: Bench) -> None:
    gateway = bench.gateway("batched", receipts="batched", durability="process")
    request, got = play(gateway.port, plain(chat()))
    compact = check_plain(got, request, got.body)
    assert compact.signature is None
    envelope = fetch(gateway.port, f"/v1/receipts/{compact.id}")["envelope"]
    assert len(envelope["signatures"]) == 2
    bench.stop(gateway)


def test_a_long_request_in_one_piece_is_no_long_head(gateway: Gateway) -> None:
    body = json.dumps({**script(plain(chat())), "padding": "x" * 100_000}).encode()
    with Wire(gateway.port) as connection:
        for _ in range(3):
            assert connection.ask(post(CHAT, body)).body == chat()
