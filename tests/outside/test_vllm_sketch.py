"""Our plug-in in a real vLLM: answers carry sketches that our own recomputation explains."""

import json
import os
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from lydite.auditor import reading
from lydite.engines.transformers_engine import TransformersEngine
from lydite.engines.weights import measure
from lydite.errors import FormatError, Reason, UnavailableError
from lydite.evidence.activations import claims, verifier
from lydite.evidence.activations.reference import SKETCH, Reference
from lydite.evidence.activations.spec import Spec
from lydite.evidence.activations.verifier import Taps
from lydite.evidence.tokens import claims as tokens
from lydite.messages.canonical import encode
from tests.evidence.sketched import flat, reference_of
from tests.outside.engines import DECLARED, MODELS, ROOT, OutsideEngine, vllm

pytestmark = [pytest.mark.slow, pytest.mark.outside, pytest.mark.timeout(600)]

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
DELTA = 0.02
SPEC = Spec(coordinates=16, delta="0.02")
LONG = "def f(a, b):\n    return a + b\n" * 30


@pytest.fixture(scope="module")
def auditor() -> Iterator[TransformersEngine]:
    engine = TransformersEngine.load(MODELS / DECLARED, "fp32")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def known(auditor: TransformersEngine) -> Reference:
    root = measure(MODELS / DECLARED).root
    return reference_of(SPEC, [flat()], width=auditor.width, root=root, sigma=0.001)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, known: Reference) -> Iterator[OutsideEngine]:
    place = tmp_path_factory.mktemp("sketching")
    reference = place / "reference.json"
    reference.write_bytes(encode(known))
    installed = place / "site" / "lydite-0.0.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: lydite\nVersion: 0.0.0\n")
    (installed / "entry_points.txt").write_text(
        "[vllm.general_plugins]\nlydite = lydite.engines.vllm_plugin:register\n"
    )
    paths = os.pathsep.join(map(str, (place / "site", ROOT / "src")))
    options = ["--middleware", "lydite.engines.vllm_plugin.Sketches"]
    options += ["--max-num-batched-tokens", "256", "--enable-chunked-prefill"]
    environment = {"PYTHONPATH": paths, "LYDITE_SKETCH": str(reference)}
    with vllm("sketching", DECLARED, place, *options, environment=environment) as engine:
        engine.ready()
        yield engine


def ask(server: OutsideEngine, path: str, name: str, **more: object) -> tuple[bytes, bytes]:
    body = {"model": DECLARED, "max_tokens": 40, "return_token_ids": True, **more}
    payload = json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "X-Request-Id": name}
    request = urllib.request.Request(server.url + path, payload, headers)
    with urllib.request.urlopen(request, timeout=120) as got:
        return payload, got.read()


def distance(
    auditor: TransformersEngine, known: Reference, path: str, asked: bytes, answer: bytes, name: str
) -> float:
    """Return the mean square of a residue's distance, in steps: 1/12 if states are equal."""
    request = tokens.asked(path, asked)
    exchange = tokens.answered(request, answer)
    prompt = reading.prompt_ids(auditor, request)
    said = claims.stated(answer, streamed=request.streamed)
    claim = claims.claims(
        said,
        known.spec,
        receipt_id=name,
        weights_root=known.weights_root,
        prompt_ids=prompt,
        output_ids=exchange.output_ids,
    )
    states = auditor.recompute(prompt, exchange.output_ids).states
    scores = verifier.verify(claim, Taps(states), known).values(SKETCH)
    return float(np.mean(np.square(np.array(scores) / 1e6 / DELTA)) / SPEC.coordinates)


REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "text": (TEXT, {"prompt": "import "}),
    "text-stream": (TEXT, {"prompt": "class A", "stream": True}),
    "chat": (CHAT, {"messages": [{"role": "user", "content": "def f("}]}),
    "chat-stream": (CHAT, {"messages": [{"role": "user", "content": "for x"}], "stream": True}),
    "in-chunks": (TEXT, {"prompt": LONG}),
    "again": (TEXT, {"prompt": LONG, "stream": True}),  # its prefix is in the cache
    "one-token": (TEXT, {"prompt": "try", "max_tokens": 1}),
    "stop": (TEXT, {"prompt": "def g(", "stop": ["\n"]}),
}


def test_every_answer_carries_the_sketch_of_its_states(
    server: OutsideEngine, auditor: TransformersEngine, known: Reference
) -> None:
    def one(number: int) -> tuple[str, str, bytes, bytes]:
        kind = list(REQUESTS)[number % len(REQUESTS)]
        path, more = REQUESTS[kind]
        name = f"01J{number:05d}-{kind}-0"
        return (path, name, *ask(server, path, name, **more))

    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(one, range(3 * len(REQUESTS))))
    for path, name, asked, answer in answers:
        assert distance(auditor, known, path, asked, answer, name) < 0.2, name


def test_a_sketch_is_that_of_its_request_alone(
    server: OutsideEngine, auditor: TransformersEngine, known: Reference
) -> None:
    asked, answer = ask(server, TEXT, "mine", prompt="import ")
    assert distance(auditor, known, TEXT, asked, answer, "mine") < 0.2
    with pytest.raises(FormatError) as caught:
        distance(auditor, known, TEXT, asked, answer, "other")
    assert caught.value.reason is Reason.OTHER_KEY


def test_an_aborted_answer_takes_nothing_along(
    server: OutsideEngine, auditor: TransformersEngine, known: Reference
) -> None:
    body = {"model": DECLARED, "prompt": "import ", "max_tokens": 900, "stream": True}
    request = urllib.request.Request(
        server.url + TEXT, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as got:
        got.readline()
    asked, answer = ask(server, TEXT, "after", prompt="import ")
    assert distance(auditor, known, TEXT, asked, answer, "after") < 0.2


def test_what_cannot_be_followed_has_no_sketch(server: OutsideEngine) -> None:
    for more in ({"prompt": "import ", "n": 2}, {"prompt": ["import ", "class "]}):
        _, answer = ask(server, TEXT, "several", **more)
        with pytest.raises(UnavailableError) as caught:
            claims.stated(answer, streamed=False)
        assert caught.value.reason is Reason.NO_SKETCH
