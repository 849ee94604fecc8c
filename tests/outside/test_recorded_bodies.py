"""What vLLM answered once, byte for byte: our parser reads it, and our model scores it.

``record_vllm.py`` made the records; ``test_vllm.py`` holds them against vLLM as it is installed.
"""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from lydite.auditor.bench import Bench
from lydite.engines.transformers_engine import TransformersEngine
from lydite.errors import Reason, UnavailableError
from lydite.evidence.tokens import logprobs
from lydite.evidence.tokens.claims import Exchange, from_exchange
from lydite.evidence.tokens.reference import MARGIN, SURPRISAL, Reference, parse
from lydite.gateway.ledger.receipts import Draft, Stamp, opening_of, seal, statement_of
from lydite.laboratory.world import key
from lydite.messages import receipt
from lydite.messages.commitment import Salt, commit_request, commit_response
from lydite.messages.finding import Finding
from lydite.signing.dsse import key_id, open_envelope

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors" / "vllm"
SEEDED = ROOT / "data" / "reference" / "tokens" / "lydite-base.json"
RECORDS = sorted(path.stem for path in VECTORS.glob("*.json"))
WITH_IDS = [name for name in RECORDS if name != "completion-without-ids"]
DRAWN = [name for name in RECORDS if name.startswith("drawn")]
GREATEST_DIFFERENCE = 1e-4
"""Nats between vLLM's log-probabilities and ours, both float32; 5e-6 was seen."""


@cache
def engine() -> TransformersEngine:
    return TransformersEngine.load(ROOT / "models" / "lydite-base", "fp32", 1)


@cache
def unseeded() -> Reference:
    return msgspec.structs.replace(parse(SEEDED.read_bytes()), sampler="none")


def record(name: str) -> dict[str, str]:
    return dict(json.loads((VECTORS / f"{name}.json").read_text("utf-8")))


def exchange(name: str) -> Exchange:
    said = record(name)
    return from_exchange(said["path"], said["request"].encode(), said["response"].encode())


def examined(name: str) -> Finding:
    """What an auditor finds on a record that came through a gateway."""
    said = record(name)
    path, request, response = (said[part].encode() for part in ("path", "request", "response"))
    salt = Salt(hashlib.sha256(name.encode()).digest())
    draft = Draft(
        receipt_id="0" * 32,
        salt=salt,
        path=path,
        request=request,
        asked=commit_request(salt, path, request),
        response=(response,),
        answered=commit_response(salt, response),
        status=200,
        outcome="complete",
        streamed=name.endswith("stream"),
        received_ms=0,
        completed_ms=0,
    )
    provider, gateway = key("provider"), key("gateway")
    keys = {key_id(each.public): each.public for each in (provider, gateway)}
    stamp = Stamp(provider, gateway, "0" * 64, "none")
    envelope = seal(statement_of(draft, stamp), stamp)
    signed = receipt.parse(open_envelope(envelope, keys, list(keys)))
    bench = Bench(engine(), (unseeded(),))
    (finding,) = bench.examine(signed, opening_of(draft), declares_ids=True)
    return finding


@pytest.mark.parametrize("name", WITH_IDS)
def test_answers_of_vllm_name_their_tokens(name: str) -> None:
    found = exchange(name)
    assert found.complete
    assert found.finish_reason == ("stop" if name == "completion-stop" else "length")
    spelt = engine().codec.decode(found.output_ids)
    assert spelt.startswith(found.text)


def test_a_stream_of_vllm_says_what_the_whole_answer_says() -> None:
    assert exchange("chat-stream") == exchange("chat")


@pytest.mark.parametrize("name", WITH_IDS)
def test_vllm_read_the_prompt_that_an_auditor_renders(name: str) -> None:
    said = record(name)
    first = said["response"].removeprefix("data: ").partition("\n")[0]
    answer: dict[str, Any] = json.loads(first)
    ids = answer.get("prompt_token_ids") or answer["choices"][0]["prompt_token_ids"]
    request: dict[str, Any] = json.loads(said["request"])
    codec = engine().codec
    asked = request.get("messages")
    assert ids == (codec.render_chat(asked) if asked else codec.encode(request["prompt"]))


def test_vllm_names_no_tokens_unless_it_is_asked_to() -> None:
    with pytest.raises(UnavailableError) as caught:
        exchange("completion-without-ids")
    assert caught.value.reason is Reason.NO_TOKEN_IDS


@pytest.mark.parametrize("name", DRAWN)
def test_surprisal_scores_every_token_of_vllm_and_no_seed_of_ours_is_expected(name: str) -> None:
    finding = examined(name)
    assert finding.reason is Reason.RECORDED
    assert len(finding.values(SURPRISAL)) == len(exchange(name).output_ids)
    assert finding.values(MARGIN) == ()


def test_an_answer_cut_within_a_character_is_no_fault_of_the_provider() -> None:
    found = exchange("drawn-cut")
    assert (found.text, engine().codec.decode(found.output_ids)) == ("", "\ufffd")
    assert examined("drawn-cut").reason is Reason.RECORDED


def test_our_pass_over_the_tokens_agrees_with_the_log_probabilities_of_vllm() -> None:
    answer = json.loads(record("completion-scored")["response"])["choices"][0]
    prompt, output = answer["prompt_token_ids"], answer["token_ids"]
    decoded = answer["logprobs"]["token_logprobs"]
    prefilled = [
        row[str(token)]["logprob"]
        for token, row in zip(prompt[1:], answer["prompt_logprobs"][1:], strict=True)
    ]
    ours = log_probabilities(prompt[:1], prompt[1:] + output)
    assert np.abs(ours - np.array(prefilled + decoded)).max() < GREATEST_DIFFERENCE


def test_the_log_probabilities_of_vllm_are_read() -> None:
    found = exchange("completion-scored")
    served = logprobs.read(found.logprobs, found.output_ids, chat=False)
    assert isinstance(found.prompt, str)
    ours = log_probabilities(engine().codec.encode(found.prompt), list(found.output_ids))
    assert np.abs(ours - np.array(served.values)).max() < GREATEST_DIFFERENCE
    assert served.unit < 1e-9


def log_probabilities(prompt: list[int], output: list[int]) -> np.ndarray:
    """What the unfiltered model thinks of each output token, in nats."""
    logits = engine().logits(prompt, output).astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    normalised = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return np.array(normalised[np.arange(len(output)), output])
