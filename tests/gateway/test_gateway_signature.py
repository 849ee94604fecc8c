"""The signature route that clients of other proxies know: right, and given to nobody else."""

import hashlib
import json
from typing import Any

import msgspec
import pytest
from nacl.signing import VerifyKey

from lydite.gateway.ledger import notary
from lydite.gateway.ledger.notary import Notary
from lydite.gateway.ledger.receipts import Draft
from lydite.gateway.service import Gateway
from lydite.messages.commitment import Salt, commit_request, commit_response
from lydite.signing.keys import Signer
from tests.gateway.conftest import Bench, prepare
from tests.gateway.fleet_process import Running
from tests.gateway.raw_client import CHAT, Got, ask, get, post
from tests.gateway.scripted_engine import chat, chunked, events, plain, script

MINE = b"Authorization: Bearer sk-mine\r\n"
OTHERS = b"Authorization: Bearer sk-other\r\n"
ALGO = b"?signing_algo=ed25519&model=small"


@pytest.fixture(scope="module")
def gateway(bench: Bench) -> Gateway:
    return bench.gateway("notary", near_signatures_s=60)


def named(chat_id: str) -> bytes:
    return chat().replace(b"chatcmpl-1", chat_id.encode())


def said(gateway: Gateway, body: bytes, fields: bytes = MINE) -> Got:
    return ask(gateway.port, post(CHAT, body, fields))


def asked(
    gateway: Gateway, chat_id: str, fields: bytes = MINE, query: bytes = ALGO
) -> tuple[int, dict[str, Any]]:
    got = ask(gateway.port, get(b"/v1/signature/" + chat_id.encode() + query, fields))
    return got.status, json.loads(got.body)


def holds(gateway: Gateway, answer: dict[str, Any], request: bytes, response: bytes) -> None:
    """Check as a client of NEAR AI does: text from its own bytes, signature over the text."""
    wanted = f"{hashlib.sha256(request).hexdigest()}:{hashlib.sha256(response).hexdigest()}"
    assert answer["text"] == wanted
    assert answer["signing_algo"] == "ed25519"
    keys = json.loads(ask(gateway.port, get(b"/v1/keys")).body)
    assert answer["signing_address"] == keys["gateway"]
    key = VerifyKey(bytes.fromhex(answer["signing_address"]))
    key.verify(answer["text"].encode(), bytes.fromhex(answer["signature"]))


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_text_and_signature_are_about_the_bytes_that_the_client_has(
    gateway: Gateway, streamed: bool
) -> None:
    raw = plain(named("chatcmpl-whole"))
    if streamed:
        raw = chunked([each.replace(b"chatcmpl-1", b"chatcmpl-cut") for each in events()])
    body = json.dumps(script(raw)).encode()
    got = said(gateway, body)
    own = "chatcmpl-cut" if streamed else "chatcmpl-whole"
    receipt_id = got.fields[b"x-lydite-receipt-id"].decode()
    for chat_id in (own, receipt_id, f"chatcmpl-{receipt_id}", f"cmpl-{receipt_id}"):
        status, answer = asked(gateway, chat_id)
        assert status == 200, chat_id
        holds(gateway, answer, body, got.body)


def test_nobody_else_is_given_the_digests(gateway: Gateway) -> None:
    got = said(gateway, json.dumps(script(plain(named("chatcmpl-secret")))).encode())
    salt = b"x-lydite-salt: " + got.fields[b"x-lydite-salt"] + b"\r\n"
    unknown, _ = asked(gateway, "chatcmpl-never")
    assert unknown == 404
    for fields in (b"", OTHERS, b"x-lydite-salt: " + b"00" * 32 + b"\r\n", MINE + MINE):
        assert asked(gateway, "chatcmpl-secret", fields)[0] == 404
    for fields in (MINE, salt, OTHERS + salt):
        assert asked(gateway, "chatcmpl-secret", fields)[0] == 200


def test_a_request_without_authorization_takes_its_salt(gateway: Gateway) -> None:
    got = said(gateway, json.dumps(script(plain(named("chatcmpl-anon")))).encode(), b"")
    assert asked(gateway, "chatcmpl-anon", b"")[0] == 404
    assert asked(gateway, "chatcmpl-anon", MINE)[0] == 404
    salt = b"x-lydite-salt: " + got.fields[b"x-lydite-salt"] + b"\r\n"
    assert asked(gateway, "chatcmpl-anon", salt)[0] == 200


@pytest.mark.parametrize("query", [b"", b"?", b"?signing_algo=ecdsa", b"?signing_algo="])
def test_another_algorithm_is_refused(gateway: Gateway, query: bytes) -> None:
    said(gateway, json.dumps(script(plain(named("chatcmpl-algo")))).encode())
    status, answer = asked(gateway, "chatcmpl-algo", MINE, query)
    assert status == 400
    assert "ed25519" in answer["error"]["message"]


def test_an_id_that_the_engine_gives_twice_is_ambiguous(gateway: Gateway) -> None:
    ids = []
    for text in ("one", "two"):
        body = chat(text).replace(b"chatcmpl-1", b"chatcmpl-twin")
        got = said(gateway, json.dumps(script(plain(body))).encode())
        ids.append(got.fields[b"x-lydite-receipt-id"].decode())
    assert asked(gateway, "chatcmpl-twin")[0] == 409
    assert [asked(gateway, receipt_id)[0] for receipt_id in ids] == [200, 200]


def test_a_gateway_keeps_no_unsalted_digests_unless_it_is_told_to(bench: Bench) -> None:
    silent = bench.gateway("silent")
    got = said(silent, b"{}")
    assert asked(silent, got.fields[b"x-lydite-receipt-id"].decode())[0] == 404


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def draft(number: int, name: bytes = b"") -> Draft:
    salt = Salt(bytes([number]) * 32)
    response = b'{"id": "%b"}' % (name or b"id-%d" % number)
    return Draft(
        receipt_id=f"{number:032x}",
        salt=salt,
        path=CHAT,
        request=b"?",
        asked=commit_request(salt, CHAT, b"?"),
        response=[response[:5], response[5:]],
        answered=commit_response(salt, response),
        status=200,
        outcome="complete",
        streamed=False,
        received_ms=0,
        completed_ms=0,
    )


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> tuple[Notary, Clock]:
    monkeypatch.setattr(notary, "KEPT", 3)
    clock = Clock()
    return Notary(Signer(b"n" * 32), 10.0, clock), clock


def known(keeper: Notary, number: int, name: str) -> bool:
    salt = (b"x-lydite-salt", (bytes([number]) * 32).hex().encode())
    try:
        return bool(keeper.sign(name, "?signing_algo=ed25519", [salt]))
    except notary.UnavailableError:
        return False


def test_the_oldest_are_forgotten_first_by_number_and_by_time(kept: tuple[Notary, Clock]) -> None:
    keeper, clock = kept
    for number in range(1, 6):
        clock.now = float(number)
        keeper.note(draft(number), b"")
    assert [known(keeper, n, f"id-{n}") for n in range(1, 6)] == [False, False, True, True, True]
    clock.now = 14.5
    assert [known(keeper, n, f"{n:032x}") for n in range(1, 6)] == [False] * 4 + [True]
    clock.now = 20.0
    assert not known(keeper, 5, "id-5")
    assert (len(keeper._notes), keeper._by_handle) == (0, {})


def test_an_exchange_that_never_began_leaves_nothing_to_trip_over(
    kept: tuple[Notary, Clock],
) -> None:
    keeper, _ = kept
    keeper.note(msgspec.structs.replace(draft(1), response=[], streamed=True), b"")
    assert known(keeper, 1, f"{1:032x}")


def test_workers_hand_on_what_is_to_be_signed(bench: Bench) -> None:
    """The data plane in other processes, digests and key in the main one."""
    directory = bench.directory / "notary-workers"
    settings = prepare(directory, bench.engine.url, workers=2, near_signatures_s=60)
    running = Running(settings, directory)
    try:
        body = json.dumps(script(chunked(events()))).encode()
        got = ask(running.port, post(CHAT, body, MINE))
        receipt_id = got.fields[b"x-lydite-receipt-id"].decode()
        path = f"/v1/signature/chatcmpl-{receipt_id}".encode() + ALGO
        answer = json.loads(ask(running.port, get(path, MINE)).body)
        wanted = f"{hashlib.sha256(body).hexdigest()}:{hashlib.sha256(got.body).hexdigest()}"
        assert answer["text"] == wanted
        assert ask(running.port, get(path, OTHERS)).status == 404
    finally:
        assert running.end() == 0, running.log()


def test_an_id_that_another_client_has_too_says_nothing_to_strangers(gateway: Gateway) -> None:
    body = json.dumps(script(plain(named("chatcmpl-both")))).encode()
    said(gateway, body)
    said(gateway, body, OTHERS)
    for fields in (MINE, OTHERS):
        assert asked(gateway, "chatcmpl-both", fields)[0] == 200
    for fields in (b"", b"Authorization: Bearer sk-third\r\n"):
        assert asked(gateway, "chatcmpl-both", fields)[0] == 404
    said(gateway, body)
    assert asked(gateway, "chatcmpl-both")[0] == 409
    assert asked(gateway, "chatcmpl-both", OTHERS)[0] == 200
    assert asked(gateway, "chatcmpl-both", b"")[0] == 404


def test_an_answer_that_calls_itself_by_anothers_receipt_id_hides_nothing(gateway: Gateway) -> None:
    mine = json.dumps(script(plain(named("chatcmpl-hidden")))).encode()
    receipt_id = said(gateway, mine).fields[b"x-lydite-receipt-id"].decode()
    theirs = json.dumps(script(plain(named(receipt_id)))).encode()
    for fields in (OTHERS, MINE):
        said(gateway, theirs, fields)
        status, answer = asked(gateway, receipt_id)
        assert status == 200
        assert answer["text"].startswith(hashlib.sha256(mine).hexdigest())
    status, answer = asked(gateway, receipt_id, OTHERS)
    assert status == 200
    assert answer["text"].startswith(hashlib.sha256(theirs).hexdigest())
