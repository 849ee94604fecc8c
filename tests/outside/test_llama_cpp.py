"""llama.cpp behind our gateway: receipts as for any engine; audits learn nothing, and say why."""

import json
from collections.abc import Iterator

import pytest

from lydite.errors import Reason
from lydite.gateway import wire
from lydite.laboratory.deployment import Execution
from lydite.laboratory.processes import Processes
from lydite.laboratory.traffic import Ask
from lydite.messages.compact import check
from lydite.messages.tier import Tier
from tests.gateway.raw_client import Wire, post
from tests.outside import record_vllm
from tests.outside.deployed import Site, say, sdk, set_up, traffic
from tests.outside.engines import DECLARED, llama

pytestmark = [pytest.mark.slow, pytest.mark.outside, pytest.mark.timeout(300)]

GREEDY = {"temperature": 0, "max_tokens": 24, "seed": 5}
REQUESTS = 12


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("llama")
    execution = Execution(engine="llama.cpp 0.3.36", dtype="float32", token_ids=False)
    with llama("honest", DECLARED, directory) as engine, Processes(directory / "logs") as processes:
        yield set_up(processes, directory, {"honest": engine}, execution)


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("streamed", [True, False])
def test_the_sdk_gets_the_same_text_with_and_without_the_gateway(
    site: Site, chat: bool, streamed: bool
) -> None:
    wanted = Ask(record_vllm.BEGIN["prompt"], chat, streamed)
    texts = []
    for url in (site.provider("honest").url, site.engines["honest"].url):
        with sdk(url) as client:
            texts.append(say(client, wanted, **GREEDY))
    assert texts[0] == texts[1] != ""


@pytest.mark.parametrize("path", [record_vllm.CHAT, record_vllm.TEXT])
def test_a_stream_of_llama_cpp_is_what_its_receipt_commits_to(site: Site, path: str) -> None:
    asked = record_vllm.ASK if path == record_vllm.CHAT else record_vllm.BEGIN
    body = json.dumps({"model": DECLARED, **asked, **GREEDY, "stream": True}).encode()
    port = int(site.provider("honest").url.rpartition(":")[2])
    with Wire(port, 120) as connection:
        got = connection.ask(post(path.encode(), body))
    compact, stream = wire.from_stream(got.body)
    check(compact, path.encode(), body, stream)
    fields = {name.decode(): value.decode() for name, value in got.fields.items()}
    report = site.receipt("honest", fields, (path.encode(), body, stream))
    assert (report.tier, report.reason) == (Tier.AFFIRMING, Reason.CONSISTENT)


def test_an_engine_without_token_ids_is_neither_cleared_nor_accused(site: Site) -> None:
    traffic(site.provider("honest").url, REQUESTS, ({},), {})
    verdict, report = site.judged("honest")
    assert (verdict.tier, verdict.reason) == (Tier.NONE, Reason.NO_TOKEN_IDS), verdict
    assert verdict.tokens == 0
    skipped = {skip.reason: skip.count for skip in verdict.skipped}
    assert skipped.pop(Reason.NO_TOKEN_IDS) == REQUESTS
    assert set(skipped) <= {Reason.NOT_RANDOM}  # those of the other tests here
    assert report.tier is Tier.NONE
