"""A relay between client and gateway that changes the status, or how a stream ends."""

import asyncio
import base64
import hashlib
import re
import threading
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import httpx
import httpx2
import openai
import pytest

from lydite.appraisal import promises
from lydite.appraisal.report import Report
from lydite.appraisal.trust import Anchor
from lydite.errors import LyditeError, Reason, UnavailableError, VerificationError
from lydite.gateway.service import Gateway
from lydite.messages import placement, receipt
from lydite.messages.compact import Parts, spell
from lydite.messages.tier import Tier
from lydite.openai import client as clients
from lydite.openai import verified_async_client, verified_client
from tests.gateway.conftest import Bench
from tests.gateway.scripted_engine import chat, chunked, events, plain, script
from tests.openai.conftest import anchor_of, url
from tests.openai.meddling import STATUS, Change, async_meddler, meddler

MESSAGES: Any = [{"role": "user", "content": "?"}]
CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
DELTA = b'event: response.created\ndata: {"type":"response.created","response":{"id":"r"}}\n\n'
COMPLETED = DELTA.replace(b"created", b"completed")
LINE = rb"(?m)^: lydite-receipt .*\n"
BROKEN = script(chunked(events()[:3])[:-5], end="close")


@pytest.fixture(params=[httpx2, httpx], ids=lambda module: module.__name__)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(clients, "_library", lambda: request.param)
    chosen: ModuleType = request.param
    return chosen


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def read(request: pytest.FixtureRequest, library: ModuleType) -> Callable[..., Any]:
    """Posts through a relay, sync or async; returns what was seen, the error, and the client."""

    def posted(anchor: Anchor, change: Change, where: str, body: Any, **more: Any) -> Any:
        seen: list[bytes] = []
        if not request.param:
            http = verified_client(anchor, transport=meddler(library, change), **more)
            try:
                with http.stream("POST", where, json=body) as answer:
                    seen.extend(answer.iter_raw())
            except LyditeError as error:
                return b"".join(seen), error, http
            return b"".join(seen), None, http

        async def main() -> Any:
            http = verified_async_client(anchor, transport=async_meddler(library, change), **more)
            try:
                async with http.stream("POST", where, json=body) as answer:
                    async for part in answer.aiter_raw():
                        seen.append(part)
            except LyditeError as error:
                return b"".join(seen), error, http
            finally:
                await http.aclose()
            return b"".join(seen), None, http

        return asyncio.run(main())

    return posted


def settled(http: Any) -> tuple[Report, ...]:
    """What became of the receipts that were pending, once the log has them."""
    for _ in range(500):
        reports: tuple[Report, ...] = http.receipts.settle()
        if not http.receipts.pending:
            return reports
        threading.Event().wait(0.01)
    raise AssertionError("never in the log")


def status(new: int, **fields: str) -> Change:
    return lambda old, body: ({**old, STATUS: str(new), **fields}, body)


@pytest.mark.parametrize("new", [300, 301, 302, 303, 304, 307, 308])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_no_redirect_is_followed_nor_let_through(
    gateway: Gateway, anchor: Anchor, read: Any, new: int, streamed: bool
) -> None:
    body = {"messages": MESSAGES, "stream": streamed}
    away = status(new, location="/v1/models")
    seen, error, http = read(anchor, away, url(gateway) + CHAT, body, follow_redirects=True)
    assert seen == b""
    assert isinstance(error, VerificationError)
    assert [each.reason for each in http.receipts.faults] == [Reason.ODD_ANSWER]


@pytest.mark.parametrize("new", [201, 206, 299, 400, 502])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_another_status_than_the_receipts_is_refused(
    gateway: Gateway, anchor: Anchor, read: Any, new: int, streamed: bool
) -> None:
    body = {"messages": MESSAGES, "stream": streamed}
    seen, error, http = read(anchor, status(new), url(gateway) + CHAT, body)
    # A stream named an error needs no receipt, as an error holds no answer: it passes unkept.
    if streamed and new >= 400:
        assert error is None
    else:
        assert isinstance(error, VerificationError)
        assert b"[DONE]\n\n" not in seen
    assert http.receipts.kept == ()


def test_a_refusal_is_not_taken_for_an_answer(gateway: Gateway, anchor: Anchor, read: Any) -> None:
    body = {"messages": MESSAGES, **script(b"garbage\r\n\r\n")}
    seen, error, _ = read(anchor, status(200), url(gateway) + CHAT, body)
    assert seen == b""
    assert isinstance(error, VerificationError)
    _, error, http = read(anchor, status(502), url(gateway) + CHAT, body)
    assert error is None  # as it came
    (report,) = settled(http)
    assert (report.tier, report.reason) == (Tier.WARNING, Reason.BROKEN_OFF)
    assert "not complete" in report.headline
    assert promises.summed([report]).tier is Tier.WARNING


@pytest.mark.parametrize("kind", [b"completed", b"failed", b"incomplete"])
def test_the_last_event_of_a_response_waits_for_its_receipt(
    gateway: Gateway, anchor: Anchor, read: Any, kind: bytes
) -> None:
    last = COMPLETED.replace(b"completed", kind)
    body = {"stream": True, **script(chunked([DELTA, last]))}
    seen, error, http = read(anchor, lambda *same: same, url(gateway) + RESPONSES, body)
    assert error is None
    assert re.sub(LINE, b"", seen) == DELTA + last
    assert len(http.receipts.kept) == 1

    def forged(fields: dict[str, str], _: bytes) -> tuple[dict[str, str], bytes]:
        return fields, DELTA + last + DELTA

    seen, error, http = read(anchor, forged, url(gateway) + RESPONSES, body)
    assert seen == DELTA
    assert isinstance(error, VerificationError)
    assert error.reason is Reason.NO_RECEIPT
    assert len(http.receipts.faults) == 1


def test_the_sdk_sees_no_completed_response_without_a_receipt(
    gateway: Gateway, anchor: Anchor, library: ModuleType
) -> None:
    def forged(fields: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
        return fields, re.sub(LINE, b"", body)

    http = verified_client(anchor, transport=meddler(library, forged))
    with openai.OpenAI(
        base_url=url(gateway) + "/v1", api_key="k", http_client=http, max_retries=0
    ) as client:
        stream = client.responses.create(
            model="small",
            input="?",
            stream=True,
            extra_body=script(chunked([DELTA, COMPLETED])),
        )
        assert next(stream).type == "response.created"
        with pytest.raises(VerificationError):
            next(stream)


def test_a_stream_that_broke_off_ends_in_an_error(
    gateway: Gateway, anchor: Anchor, read: Any
) -> None:
    body = {"messages": MESSAGES, "stream": True, **BROKEN}
    seen, error, http = read(anchor, lambda *same: same, url(gateway) + CHAT, body)
    assert b"lo, " in seen
    assert isinstance(error, UnavailableError)
    assert error.reason is Reason.BROKEN_OFF
    assert http.receipts.faults == ()
    (report,) = settled(http)
    assert (report.tier, report.reason) == (Tier.WARNING, Reason.BROKEN_OFF)


@pytest.fixture(scope="module")
def batched(bench: Bench) -> Gateway:
    return bench.gateway("batched-relays", receipts="batched")


def spelt(gateway: Gateway, fields: dict[str, str], **changes: Any) -> bytes:
    """The compact receipt of a statement in the log, as anybody can spell it without a key."""
    receipt_id = fields["x-lydite-receipt-id"]
    for _ in range(100):
        got = httpx2.get(f"{url(gateway)}/v1/receipts/{receipt_id}")
        if got.status_code == 200 and got.json()["index"]:
            break
        time.sleep(0.02)
    said = base64.b64decode(got.json()["envelope"]["payload"])
    statement = receipt.parse(said)
    told = statement.predicate
    parts = Parts(
        got.json()["index"],
        receipt_id.encode(),
        told.request.commitment.encode(),
        statement.subject[0].digest.sha256.encode(),
        fields["x-lydite-salt"].encode(),
        hashlib.sha256(said).hexdigest().encode(),
        told.response.status,
        told.response.outcome.encode(),
    )
    return spell(parts._replace(**changes))


@pytest.mark.parametrize("claimed", [b"aborted", b"complete"])
def test_a_stream_that_a_relay_cuts_off_does_not_end_well(
    batched: Gateway, library: ModuleType, claimed: bytes
) -> None:
    anchor = anchor_of(batched)

    class Cutter(library.HTTPTransport):  # type: ignore[name-defined, misc]
        """Hangs up at the gateway in the middle, and closes the stream with a receipt of that."""

        def handle_request(self, request: Any) -> Any:
            answer = super().handle_request(request)
            body = b""
            for part in answer.stream:
                body += part
                if b"lo, " in body:
                    break
            answer.close()
            line = spelt(batched, dict(answer.headers), outcome=claimed)
            whole = body + placement.MARK + line + b"\n"
            fields = {k: v for k, v in answer.headers.items() if k != "transfer-encoding"}
            return library.Response(200, headers=fields, content=whole)

    http = verified_client(anchor, signed=False, transport=Cutter())
    cut = len(chunked(events()[:3])) - 5
    with (
        openai.OpenAI(
            base_url=url(batched) + "/v1", api_key="k", http_client=http, max_retries=0
        ) as client,
        pytest.raises(LyditeError) as caught,
    ):
        list(
            client.chat.completions.create(
                model="small",
                messages=MESSAGES,
                stream=True,
                extra_body=script(chunked(events()), cuts=[cut], pause_s=0.5),
            )
        )
    assert caught.value.reason is Reason.BROKEN_OFF
    assert Tier.AFFIRMING not in [report.tier for report in settled(http)]


@pytest.mark.parametrize(
    "changes", [{"status": 200, "outcome": b"complete"}, {"outcome": b"complete"}]
)
def test_an_unsigned_receipt_that_lies_is_found_when_it_is_settled(
    batched: Gateway, read: Any, changes: dict[str, Any]
) -> None:
    def relabel(fields: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
        lie = base64.b64encode(spelt(batched, fields, **changes)).decode()
        more = {STATUS: "200"} if "status" in changes else {}
        return {**fields, "x-lydite-receipt": lie, **more}, body

    body = {"messages": MESSAGES, **script(b"garbage\r\n\r\n")}
    anchor = anchor_of(batched)
    _, error, http = read(anchor, relabel, url(batched) + CHAT, body, signed=False)
    assert error is None
    (report,) = settled(http)
    assert (report.tier, report.reason) == (Tier.CONTRAINDICATED, Reason.BROKEN_PROMISE)


def test_a_refusal_called_a_good_status_is_refused_at_once(batched: Gateway, read: Any) -> None:
    def relabel(fields: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
        lie = base64.b64encode(spelt(batched, fields, status=200)).decode()
        return {**fields, "x-lydite-receipt": lie, STATUS: "200"}, body

    body = {"messages": MESSAGES, **script(b"garbage\r\n\r\n")}
    seen, error, _ = read(anchor_of(batched), relabel, url(batched) + CHAT, body, signed=False)
    assert seen == b""
    assert isinstance(error, VerificationError)
    assert error.reason is Reason.BROKEN_OFF


def test_a_status_that_an_unsigned_receipt_invents_is_found_when_it_is_settled(
    batched: Gateway, read: Any
) -> None:
    def relabel(fields: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
        lie = base64.b64encode(spelt(batched, fields, status=201)).decode()
        return {**fields, "x-lydite-receipt": lie, STATUS: "201"}, body

    where, anchor = url(batched) + CHAT, anchor_of(batched)
    _, error, http = read(anchor, relabel, where, {"messages": MESSAGES}, signed=False)
    assert error is None
    (report,) = settled(http)
    assert (report.tier, report.reason) == (Tier.CONTRAINDICATED, Reason.BROKEN_PROMISE)


def test_good_answers_with_unsigned_receipts_are_affirmed(batched: Gateway, read: Any) -> None:
    for streamed in (False, True):
        body = {"messages": MESSAGES, "stream": streamed}
        engine = script(chunked(events()) if streamed else plain(chat()))
        anchor, where = anchor_of(batched), url(batched) + CHAT
        same: Change = lambda fields, content: (fields, content)  # noqa: E731
        _, error, http = read(anchor, same, where, {**body, **engine}, signed=False)
        assert error is None
        assert [each.tier for each in settled(http)] == [Tier.AFFIRMING]
