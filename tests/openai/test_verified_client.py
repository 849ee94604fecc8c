"""The SDK over a verified client: everything as before, but that no unverified answer comes."""

import asyncio
import base64
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import httpx2
import msgspec
import openai
import pytest

from lydite.appraisal import promises
from lydite.appraisal.trust import Anchor, of_anchor
from lydite.cli.main import main
from lydite.errors import ConfigurationError, LyditeError, Reason, VerificationError
from lydite.gateway.service import Gateway
from lydite.messages.canonical import encode
from lydite.messages.tier import Tier
from lydite.openai import client as clients
from lydite.openai import ledger, verified_async_client, verified_client
from lydite.signing.keys import Signer
from tests.gateway.conftest import Bench
from tests.gateway.scripted_engine import chat, chunked, events, plain, script
from tests.openai.conftest import anchor_of, url
from tests.openai.meddling import Change, async_meddler, meddler

MESSAGES: Any = [{"role": "user", "content": "?"}]
PLAIN = "Hallo, Wörld \U0001f30d"
CHAT = "/v1/chat/completions"


@pytest.fixture(params=[httpx2, httpx], ids=lambda module: module.__name__)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Both libraries: that of SDK 3, and that of SDKs 1 and 2, which SDK 3 takes too."""
    monkeypatch.setattr(clients, "_library", lambda: request.param)
    chosen: ModuleType = request.param
    return chosen


def settled(http: Any, eventually: Callable[[Callable[[], bool]], None]) -> list[Tier]:
    """The tiers of all receipts, once the log has them."""
    tiers: list[Tier] = []

    def all_there() -> bool:
        tiers.extend(report.tier for report in http.receipts.settle())
        tiers[:] = [tier for tier in tiers if tier is not Tier.NONE]
        return not http.receipts.pending

    eventually(all_there)
    return tiers


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    def wait(holds: Callable[[], bool]) -> None:
        for _ in range(500):
            if holds():
                return
            threading.Event().wait(0.01)
        raise AssertionError("it never came true")

    return wait


def test_one_line_verifies_plain_answers_and_streams(
    gateway: Gateway, anchor: Anchor, library: ModuleType, eventually: Any
) -> None:
    http = verified_client(anchor)
    with openai.OpenAI(base_url=url(gateway) + "/v1", api_key="k", http_client=http) as client:
        answer = client.chat.completions.create(model="small", messages=MESSAGES)
        assert answer.choices[0].message.content == PLAIN
        stream = client.chat.completions.create(model="small", messages=MESSAGES, stream=True)
        chunks = list(stream)
        assert chunks[-1].choices[0].finish_reason == "stop"
        assert [each.id for each in client.models.list()] == ["small"]
        assert len(http.receipts.kept) == 2
        assert all(each.compact.signature for each in http.receipts.kept)
        assert settled(http, eventually) == [Tier.AFFIRMING] * 2
    assert http.receipts.faults == http.receipts.abandoned == ()


def test_the_async_client_verifies_too(
    gateway: Gateway, anchor: Anchor, library: ModuleType
) -> None:
    async def main() -> Any:
        http = verified_async_client(anchor)
        async with openai.AsyncOpenAI(
            base_url=url(gateway) + "/v1", api_key="k", http_client=http
        ) as client:
            answers = await asyncio.gather(
                *(
                    client.chat.completions.create(
                        model="small", messages=MESSAGES, extra_body=script(plain(chat(str(n))))
                    )
                    for n in range(20)
                )
            )
            assert [a.choices[0].message.content for a in answers] == [str(n) for n in range(20)]
            stream = await client.chat.completions.create(
                model="small", messages=MESSAGES, stream=True
            )
            assert [chunk async for chunk in stream][-1].choices[0].finish_reason == "stop"
        return http

    http = asyncio.run(main())
    assert len(http.receipts.kept) == 21
    assert http.receipts.faults == ()


def everything(client: openai.OpenAI, streamed: bool) -> list[Any]:
    """Ask, and read to the end."""
    answer: Any = client.chat.completions.create(model="small", messages=MESSAGES, stream=streamed)
    return list(answer) if streamed else [answer]


def edited(pattern: bytes, new: bytes) -> Change:
    """Change bytes of the body, wherever they are found first."""

    def change(fields: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
        changed = re.sub(pattern, new, body, count=1)
        assert changed != body
        return fields, changed

    return change


def without(name: str) -> Change:
    return lambda fields, body: ({k: v for k, v in fields.items() if k != name}, body)


def renamed(name: str, value: str) -> Change:
    return lambda fields, body: ({**fields, name: value}, body)


def reforged(**changes: Any) -> Change:
    """Change fields of the receipt, and sign again with a stranger's key if there was one."""

    def forge(receipt: bytes) -> bytes:
        told = {**json.loads(receipt), **changes}
        return json.dumps(told, sort_keys=True, separators=(",", ":")).encode()

    def change(fields: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
        if "x-lydite-receipt" in fields:
            told = base64.b64encode(forge(base64.b64decode(fields["x-lydite-receipt"])))
            return {**fields, "x-lydite-receipt": told.decode()}, body
        return fields, re.sub(
            rb"(?m)(?<=^: lydite-receipt )\{.*\}$", lambda found: forge(found[0]), body
        )

    return change


LINE = rb"(?m)^: lydite-receipt .*\n"
BOTH = {
    "another word": edited(b"assistant", b"assistent"),
    "another salt": renamed("x-lydite-salt", "00" * 32),
    "no salt": without("x-lydite-salt"),
    "a salt that is none": renamed("x-lydite-salt", "xyz"),
    "another id": renamed("x-lydite-receipt-id", "00" * 16),
    "no id": without("x-lydite-receipt-id"),
    "another entry": reforged(entry=7),
    "another statement": reforged(statement="ab" * 32),
    "a stranger's signature": reforged(signature=base64.b64encode(bytes(64)).decode()),
    "a signature that is none": reforged(signature="!" * 88),
    "an unknown field": reforged(more=1),
    "a content coding": renamed("content-encoding", "gzip"),
    "a content coding behind another": renamed("content-encoding", "identity, Deflate"),
    "no type, and another charset": renamed("content-type", "; CharSet=UTF-7"),
}
WHOLE = {
    "no receipt": without("x-lydite-receipt"),
    "a receipt that is none": renamed("x-lydite-receipt", "!"),
    "one byte less": lambda fields, body: (fields, body[:-1]),
}
STREAMED = {
    "no receipt": edited(LINE, b""),
    "nothing but [DONE]": lambda fields, body: (fields, b"data: [DONE]\n\n"),
    "nothing": lambda fields, body: (fields, b""),
    "cut before its end": lambda fields, body: (fields, body[: body.index(b"\n: lydite")]),
    "cut in its end": lambda fields, body: (fields, body[:-3]),
    "an event less": edited(rb"data: [^\n]*Hal[^\n]*\n\n", b""),
    "an event behind the receipt": edited(rb"\Z", b'data: {"choices":[]}\n\n'),
    "an end without data": edited(rb"data: \[DONE\]", b"data: [done]"),
    "[DONE] before the rest": edited(rb"\A", b"data: [DONE]\n\n"),
    "two receipts": lambda fields, body: (
        fields,
        re.sub(LINE, lambda found: found[0] * 2, body),
    ),
}


MEDDLED = [
    pytest.param(change, streamed, id=f"{'streamed' if streamed else 'whole'}: {name}")
    for streamed, more in ((False, WHOLE), (True, STREAMED))
    for name, change in {**BOTH, **more}.items()
]


@pytest.mark.parametrize(("change", "streamed"), MEDDLED)
def test_whatever_is_changed_on_the_way_is_refused(
    gateway: Gateway, anchor: Anchor, library: ModuleType, change: Change, streamed: bool
) -> None:
    http = verified_client(anchor, transport=meddler(library, change))
    with (
        openai.OpenAI(
            base_url=url(gateway) + "/v1", api_key="k", http_client=http, max_retries=0
        ) as client,
        pytest.raises(LyditeError) as caught,
    ):
        everything(client, streamed)
    assert [fault.reason for fault in http.receipts.faults] == [caught.value.reason]
    assert http.receipts.kept == ()


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", ["another word", "a stranger's signature", "no receipt"])
def test_the_async_client_refuses_it_too(
    gateway: Gateway, anchor: Anchor, library: ModuleType, name: str, streamed: bool
) -> None:
    change = {**BOTH, **(STREAMED if streamed else WHOLE)}[name]

    async def main() -> Any:
        http = verified_async_client(anchor, transport=async_meddler(library, change))
        async with http:
            body = json.dumps({"stream": streamed, "messages": MESSAGES}).encode()
            with pytest.raises(LyditeError):
                await http.post(url(gateway) + CHAT, content=body)
        return http

    assert len(asyncio.run(main()).receipts.faults) == 1


def test_a_receipt_of_another_answer_is_refused(gateway: Gateway, anchor: Anchor) -> None:
    first: dict[str, str] = {}

    def replay(fields: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
        if not first:
            first.update(fields)
        ours = {k: v for k, v in first.items() if k.startswith("x-lydite")}
        return {**fields, **ours}, body

    http = verified_client(anchor, transport=meddler(httpx2, replay))
    ask = {"messages": MESSAGES}
    assert http.post(url(gateway) + CHAT, json=ask).status_code == 200
    with pytest.raises(VerificationError, match="other bytes"):
        http.post(url(gateway) + CHAT, json={"messages": []})


def test_another_gateways_key_is_refused(gateway: Gateway, anchor: Anchor) -> None:
    stranger = Signer(b"s" * 32).public.hex()
    http = verified_client(msgspec.structs.replace(anchor, gateway_key=stranger))
    with pytest.raises(VerificationError) as caught:
        http.post(url(gateway) + CHAT, json={"messages": MESSAGES})
    assert caught.value.reason is Reason.BAD_SIGNATURE


def test_a_server_that_gives_no_receipts_is_refused(bench: Bench, anchor: Anchor) -> None:
    http = verified_client(anchor)
    with pytest.raises(VerificationError) as caught:
        http.post(f"http://127.0.0.1:{bench.engine.port}{CHAT}", json={"messages": MESSAGES})
    assert caught.value.reason is Reason.NO_RECEIPT
    assert http.get(f"http://127.0.0.1:{bench.engine.port}/v1/models").status_code == 200


def test_paths_that_are_exempt_pass(bench: Bench, anchor: Anchor) -> None:
    http = verified_client(anchor, exempt=(CHAT,))
    where = f"http://127.0.0.1:{bench.engine.port}{CHAT}"
    assert http.post(where, json={"messages": MESSAGES}).status_code == 200
    assert http.receipts.kept == ()


def test_errors_pass_and_the_sdk_sees_them_as_before(gateway: Gateway, anchor: Anchor) -> None:
    http = verified_client(anchor)
    fault = b'{"error":{"message":"no","type":"rate_limit","param":null,"code":"slow"}}'
    with openai.OpenAI(
        base_url=url(gateway) + "/v1", api_key="k", http_client=http, max_retries=0
    ) as client:
        with pytest.raises(openai.RateLimitError, match="no"):
            client.chat.completions.create(
                model="small",
                messages=MESSAGES,
                extra_body=script(plain(fault, status=b"429 Too Many Requests")),
            )
        with pytest.raises(openai.NotFoundError):
            client.images.generate(prompt="x")
        with pytest.raises(openai.APIError, match="engine"):
            list(
                client.chat.completions.create(
                    model="small",
                    messages=MESSAGES,
                    stream=True,
                    extra_body=script(chunked(events()[:3])[:-5], end="close"),
                )
            )
    assert [each.reason for each in http.receipts.faults] == []
    assert len(http.receipts.kept) == 2  # of the 429, and of the stream that broke


def test_a_stream_that_is_left_is_noted_as_unchecked(gateway: Gateway, anchor: Anchor) -> None:
    http = verified_client(anchor)
    with http.stream("POST", url(gateway) + CHAT, json={"stream": True}) as answer:
        assert next(answer.iter_bytes())
        assert http.receipts.kept == ()
    assert http.receipts.abandoned == (answer.headers["x-lydite-receipt-id"],)


def test_a_batched_gateway_has_to_be_expected(bench: Bench, tmp_path: Path) -> None:
    gateway = bench.gateway("batched", receipts="batched")
    anchor = anchor_of(gateway)
    with pytest.raises(VerificationError) as caught:
        verified_client(anchor).post(url(gateway) + CHAT, json={"messages": MESSAGES})
    assert caught.value.reason is Reason.NO_RECEIPT
    http = verified_client(anchor, signed=False)
    assert http.post(url(gateway) + CHAT, json={"messages": MESSAGES}).status_code == 200
    assert http.receipts.kept[0].compact.signature is None
    bench.stop(gateway)


def fetching(http: Any, answer: Callable[[str], bytes | None]) -> None:
    http.receipts._fetch = answer


def test_a_promise_that_is_not_kept_in_time_is_a_named_fault(
    gateway: Gateway, anchor: Anchor
) -> None:
    http = verified_client(anchor, deadline_s=1_000)
    http.post(url(gateway) + CHAT, json={"messages": MESSAGES})
    fetching(http, lambda _: None)
    assert [each.reason for each in http.receipts.settle()] == [Reason.NOT_IN_LOG]
    assert len(http.receipts.pending) == 1
    http.receipts._deadline_ms = -1
    assert [each.reason for each in http.receipts.settle()] == [Reason.BROKEN_PROMISE]
    (fault,) = http.receipts.faults
    assert fault.reason is Reason.BROKEN_PROMISE
    assert fault.receipt_id == http.receipts.kept[0].compact.id
    assert http.receipts.pending == ()


def test_a_statement_without_proof_is_late_and_then_a_fault(
    gateway: Gateway, anchor: Anchor, eventually: Any
) -> None:
    http = verified_client(anchor)
    http.post(url(gateway) + CHAT, json={"messages": MESSAGES})
    receipt_id = http.receipts.kept[0].compact.id
    served = json.loads(httpx2.get(f"{url(gateway)}/v1/receipts/{receipt_id}").content)
    bare = json.dumps({**served, "proof": None}, sort_keys=True, separators=(",", ":")).encode()
    fetching(http, lambda _: bare)
    assert http.receipts.settle()[0].tier is Tier.NONE
    http.receipts._deadline_ms = -1
    assert http.receipts.settle()[0].reason is Reason.BROKEN_PROMISE


def test_another_statement_than_promised_is_a_fault(gateway: Gateway, anchor: Anchor) -> None:
    http = verified_client(anchor)
    for _ in range(2):
        http.post(url(gateway) + CHAT, json={"messages": MESSAGES})
    first, second = http.receipts.kept
    other = httpx2.get(f"{url(gateway)}/v1/receipts/{second.compact.id}").content
    fetching(http, lambda place: other)
    reports = http.receipts.settle()
    assert reports[0].tier is Tier.CONTRAINDICATED
    assert [fault.receipt_id for fault in http.receipts.faults] == [first.compact.id]


def test_a_gateway_out_of_reach_is_no_fault(gateway: Gateway, anchor: Anchor) -> None:
    http = verified_client(anchor, deadline_s=-1)
    http.post(url(gateway) + CHAT, json={"messages": MESSAGES})
    kept = http.receipts._pending[0]
    http.receipts._pending[0] = msgspec.structs.replace(kept, url="http://127.0.0.1:1")
    assert [each.reason for each in http.receipts.settle()] == [Reason.UNAVAILABLE]
    assert http.receipts.faults == ()


def test_a_thread_settles_in_the_background(
    gateway: Gateway, anchor: Anchor, eventually: Any
) -> None:
    with verified_client(anchor, watch_s=0.02) as http:
        http.post(url(gateway) + CHAT, json={"messages": MESSAGES})
        eventually(lambda: http.receipts.pending == ())
    assert http.receipts.faults == ()


def test_the_journal_is_checked_by_the_command(
    gateway: Gateway, anchor: Anchor, tmp_path: Path, eventually: Any, capsys: Any
) -> None:
    journal, trust = tmp_path / "receipts.jsonl", tmp_path / "trust.json"
    trust.write_bytes(encode(of_anchor(anchor)) + b"\n")
    http = verified_client(trust, journal=journal)
    for streamed in (False, True):
        http.post(url(gateway) + CHAT, json={"messages": MESSAGES, "stream": streamed})
    words = ["receipt", "check", str(journal), "--trust", str(trust), "--json"]
    eventually(lambda: main(words) == 0)
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["tier"] == "affirming"
    assert said["facts"][0]["value"] == "2"
    promised = journal.read_bytes()
    journal.write_bytes(promised.replace(b'"entry":', b'"entry":1', 1))
    assert main(words) == 1
    journal.write_bytes(promised[:40])
    assert main(words) == 1
    journal.write_bytes(b"")
    assert main(words) == 4


def test_who_is_trusted_is_read_from_anywhere(anchor: Anchor, tmp_path: Path) -> None:
    file = tmp_path / "anchor.json"
    file.write_bytes(encode(anchor) + b"\n")
    for whom in (anchor, of_anchor(anchor), file, str(file), anchor.gateway_key):
        pins, _ = clients.pinned(whom, clients.Options())
        assert list(pins.keys) == [anchor.gateway_public]
    trust = msgspec.structs.replace(of_anchor(anchor), providers=())
    for nobody in (trust, "no-such-file", "zz" * 32, tmp_path):
        with pytest.raises(ConfigurationError):
            clients.pinned(nobody, clients.Options())
    with pytest.raises(ConfigurationError, match="no provider unheard"):
        clients.pinned(anchor, clients.Options(provider="unheard"))
    assert clients.pinned(anchor, clients.Options(provider="tested"))[1] is not None
    file.write_bytes(b"{}")
    with pytest.raises(ConfigurationError, match="neither anchor nor trust"):
        clients.pinned(file, clients.Options())


def test_a_key_alone_verifies_answers_but_no_proofs(gateway: Gateway, anchor: Anchor) -> None:
    http = verified_client(anchor.gateway_key)
    assert http.post(url(gateway) + CHAT, json={"messages": MESSAGES}).status_code == 200
    with pytest.raises(ConfigurationError) as caught:
        http.receipts.settle()
    assert caught.value.reason is Reason.NO_TRUST_ANCHORS
    with pytest.raises(ConfigurationError, match="to watch"):
        verified_client(anchor.gateway_key, watch_s=1.0)


def test_ways_around_the_checks_are_refused(anchor: Anchor) -> None:
    with pytest.raises(ConfigurationError, match="mounts"):
        verified_client(anchor, mounts={"all://": httpx2.HTTPTransport()})
    http = verified_client(anchor, proxy="http://127.0.0.1:9", trust_env=False)
    assert http._mounts == {}


def test_the_library_is_that_of_the_installed_sdk() -> None:
    assert clients._library() is (httpx2 if int(openai.__version__[0]) >= 3 else httpx)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_copy_of_an_earlier_answer_is_refused(
    gateway: Gateway, anchor: Anchor, library: ModuleType, streamed: bool
) -> None:
    kept: list[tuple[dict[str, str], bytes]] = []

    def replay(fields: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
        kept.append((fields, body))
        return dict(kept[0][0]), kept[0][1]

    http = verified_client(anchor, transport=meddler(library, replay))
    ask = {"messages": MESSAGES, "stream": streamed}
    assert http.post(url(gateway) + CHAT, json=ask).status_code == 200
    with pytest.raises(VerificationError) as caught:
        http.post(url(gateway) + CHAT, json=ask)
    assert caught.value.reason is Reason.REPLAYED
    assert [fault.reason for fault in http.receipts.faults] == [Reason.REPLAYED]
    assert len(http.receipts.kept) == 1


def test_an_answer_from_before_it_was_asked_for_is_a_fault(
    gateway: Gateway, anchor: Anchor, eventually: Any
) -> None:
    http = verified_client(anchor)
    http.post(url(gateway) + CHAT, json={"messages": MESSAGES})
    kept = http.receipts._pending[0]
    early = promises.SKEW_MS
    tiers = []
    for later_ms in (early - 60_000, early + 60_000):
        later = msgspec.structs.replace(kept, asked_ms=kept.asked_ms + later_ms)
        http.receipts._pending.clear()
        http.receipts._pending.append(later)
        tiers += settled(http, eventually)
    assert tiers == [Tier.AFFIRMING, Tier.CONTRAINDICATED]
    assert [fault.reason for fault in http.receipts.faults] == [Reason.STALE]


def test_journals_from_before_the_time_of_asking_are_read(
    gateway: Gateway, anchor: Anchor, tmp_path: Path
) -> None:
    journal = tmp_path / "receipts.jsonl"
    http = verified_client(anchor, journal=journal)
    http.post(url(gateway) + CHAT, json={"messages": MESSAGES})
    now = journal.read_bytes()
    before = re.sub(rb'"askedMs":\d+,', b"", now)
    assert before != now
    (old,) = promises.parse_journal(before)
    (new,) = promises.parse_journal(now)
    assert old.compact == new.compact
    assert isinstance(new.asked_ms, int)
    assert new.asked_ms <= new.received_ms


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/v1/responses/resp_1", "/v1/chat/completions/c", "/v1/modelsx"])
def test_only_the_list_of_models_passes_without_a_receipt(
    anchor: Anchor, method: str, path: str
) -> None:
    forge = httpx2.MockTransport(lambda request: httpx2.Response(200, json={"output": "forged"}))
    http = verified_client(anchor, transport=forge)
    for known in ("/v1/models", "/v1/models/small", "/v1/models/maker/small"):
        assert http.get("http://relay.example" + known).status_code == 200
    with pytest.raises(VerificationError) as caught:
        http.request(method, "http://relay.example" + path)
    assert caught.value.reason is Reason.NO_RECEIPT


def test_memory_is_bounded_and_the_journal_keeps_what_is_forgotten(
    gateway: Gateway, anchor: Anchor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "KEPT", 2)
    http = verified_client(anchor, journal=tmp_path / "journal")
    for _ in range(3):
        http.post(url(gateway) + CHAT, json={"messages": MESSAGES})
    assert len(http.receipts.kept) == len(http.receipts.pending) == 2
    assert len(promises.parse_journal((tmp_path / "journal").read_bytes())) == 3


def test_settling_in_two_threads_finds_each_fault_once(gateway: Gateway, anchor: Anchor) -> None:
    http = verified_client(anchor, deadline_s=-1)
    for _ in range(20):
        http.post(url(gateway) + CHAT, json={"messages": MESSAGES})
    fetching(http, lambda _: None)
    threads = [threading.Thread(target=http.receipts.settle) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(http.receipts.faults) == 20
    assert http.receipts.pending == ()
