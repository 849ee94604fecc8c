"""vLLM, unchanged, behind our gateway: clients see what it says, audits tell what it serves."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from lydite.errors import Reason
from lydite.evidence.tokens.claims import from_exchange
from lydite.gateway import wire
from lydite.laboratory.deployment import Execution
from lydite.laboratory.processes import Processes
from lydite.laboratory.traffic import Ask
from lydite.messages.compact import check
from lydite.messages.tier import Tier
from tests.gateway.raw_client import Got, Wire, post
from tests.outside import record_vllm
from tests.outside.deployed import Site, say, sdk, set_up, traffic
from tests.outside.engines import DECLARED, vllm
from tests.outside.test_recorded_bodies import DRAWN, RECORDS, record

pytestmark = [pytest.mark.slow, pytest.mark.outside, pytest.mark.timeout(600)]

CHAT, TEXT = record_vllm.CHAT, record_vllm.TEXT
IDS = {"return_token_ids": True}
SAMPLINGS = ({}, {"top_p": 0.9}, {"temperature": 0.7}, {"extra_body": {**IDS, "top_k": 40}})
REQUESTS = 24
HONEST = {(Tier.AFFIRMING, Reason.CONSISTENT), (Tier.NONE, Reason.SUSPECTED)}
GREEDY = {"temperature": 0, "max_tokens": 24}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("vllm")
    models = {"honest": DECLARED, "smaller": "lydite-small"}
    with ExitStack() as stack:
        engines = {
            name: stack.enter_context(vllm(name, model, directory))
            for name, model in models.items()
        }
        engines["tried"] = engines["honest"]  # a provider of its own for requests with a seed
        processes = stack.enter_context(Processes(directory / "logs"))
        execution = Execution(engine="vllm 0.32.0", dtype="float32")
        yield set_up(processes, directory, engines, execution)


def ask(url: str, path: str, body: bytes, name: str = "") -> Got:
    """Send exact bytes; ``name`` is the id that the engine shall give to the request."""
    field = b"X-Request-Id: %s\r\n" % name.encode() if name else b""
    with Wire(int(url.rpartition(":")[2]), 120) as connection:
        return connection.ask(post(path.encode(), body, field))


def less_the_time(body: bytes) -> bytes:
    return re.sub(rb'"created":\d+', b'"created":0', body)


@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_through_the_gateway_comes_what_vllm_says_byte_for_byte(site: Site, path: str) -> None:
    asked = record_vllm.ASK if path == CHAT else record_vllm.BEGIN
    body = json.dumps({"model": DECLARED, **asked, **GREEDY, **IDS}).encode()
    got = ask(site.provider("tried").url, path, body)
    compact = wire.from_header(got.fields[wire.HEADER])
    direct = ask(site.engines["tried"].url, path, body, compact.id)
    assert (got.status, direct.status) == (200, 200)
    assert less_the_time(got.body) == less_the_time(direct.body)
    check(compact, path.encode(), body, got.body)


@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_a_stream_of_vllm_is_what_its_receipt_commits_to(site: Site, path: str) -> None:
    asked = record_vllm.ASK if path == CHAT else record_vllm.BEGIN
    body = json.dumps({"model": DECLARED, **asked, **GREEDY, **IDS, "stream": True}).encode()
    got = ask(site.provider("tried").url, path, body)
    compact, stream = wire.from_stream(got.body)
    check(compact, path.encode(), body, stream)
    direct = ask(site.engines["tried"].url, path, body, compact.id)
    # how many tokens share an event is a matter of time
    assert from_exchange(path, body, stream) == from_exchange(path, body, direct.body)
    assert stream.endswith(b"data: [DONE]\n\n")
    fields = {name.decode(): value.decode() for name, value in got.fields.items()}
    report = site.receipt("tried", fields, (path.encode(), body, stream))
    assert (report.tier, report.reason) == (Tier.AFFIRMING, Reason.CONSISTENT)


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("streamed", [True, False])
def test_the_sdk_gets_the_same_text_with_and_without_the_gateway(
    site: Site, chat: bool, streamed: bool
) -> None:
    wanted = Ask(record_vllm.BEGIN["prompt"], chat, streamed)
    texts = []
    for url in (site.provider("tried").url, site.engines["tried"].url):
        with sdk(url) as client:
            texts.append(say(client, wanted, **GREEDY, extra_body=IDS))
    assert texts[0] == texts[1] != ""


def test_the_receipt_of_an_sdk_call_commits_to_its_exact_bytes(site: Site) -> None:
    with sdk(site.provider("tried").url) as client:
        turn: Any = [{"role": "user", "content": "Write a function."}]
        raw = client.chat.completions.with_raw_response.create(
            model=DECLARED, messages=turn, max_tokens=8, extra_body=IDS
        )
    own = (CHAT.encode(), raw.http_request.content, raw.content)
    report = site.receipt("tried", raw.headers, own)
    assert (report.tier, report.reason) == (Tier.AFFIRMING, Reason.CONSISTENT)
    facts = {fact.name: fact.value for fact in report.facts}
    assert facts["your bytes"] == "match"
    assert facts["log"].endswith("witnessed by witness-1, witness-2")


@pytest.mark.parametrize("name", [name for name in RECORDS if name not in DRAWN])
def test_vllm_still_answers_as_it_is_on_record(site: Site, name: str) -> None:
    said = record(name)
    got = record_vllm.post(site.engines["tried"].url, said["path"], said["request"].encode())
    if name.endswith("stream"):
        request = said["request"].encode()
        recorded = from_exchange(said["path"], request, said["response"].encode())
        assert from_exchange(said["path"], request, got) == recorded
    else:
        assert comparable(json.loads(got)) == comparable(json.loads(said["response"]))


def comparable(value: Any) -> Any:
    """Return an answer without its time and build, numbers as far as any processor gets them."""
    if isinstance(value, dict):
        fields = {"created", "system_fingerprint"}
        return {k: comparable(v) for k, v in value.items() if k not in fields}
    if isinstance(value, list):
        return [comparable(each) for each in value]
    return pytest.approx(value, abs=1e-3) if isinstance(value, float) else value


def test_an_honest_vllm_is_consistent_and_one_with_a_smaller_model_is_not(site: Site) -> None:
    for name in ("honest", "smaller"):
        url = site.provider(name).url
        traffic(url, REQUESTS, SAMPLINGS, IDS)
    honest, report = site.judged("honest")
    assert honest.tokens >= honest.tokens_needed, honest
    # suspicion, at 20, befalls one honest run in twenty at most; an accusation one in 10^4
    assert (honest.tier, honest.reason) in HONEST, honest
    assert report.tier is honest.tier
    smaller, report = site.judged("smaller")
    assert (smaller.tier, smaller.reason) == (Tier.CONTRAINDICATED, Reason.INCONSISTENT_TOKENS)
    assert report.tier is Tier.CONTRAINDICATED
    assert {channel.name for channel in smaller.channels} == {"tokens/surprisal"}
