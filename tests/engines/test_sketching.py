"""An engine with --sketch puts the sketch of every answer into the answer itself."""

import json
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from answering import SMALL

from lydite.auditor import reading
from lydite.engines import sketching
from lydite.engines.protocol import Job, Piece
from lydite.engines.sketching import Sketcher
from lydite.engines.transformers_engine import TransformersEngine
from lydite.errors import ConfigurationError, FormatError, Reason, UnavailableError
from lydite.evidence.activations import claims, verifier
from lydite.evidence.activations import spec as specs
from lydite.evidence.activations.reference import INNER, SKETCH
from lydite.evidence.activations.spec import Spec
from lydite.evidence.activations.verifier import Taps
from lydite.evidence.tokens import claims as tokens
from lydite.laboratory.bigram import Bigram
from lydite.messages.canonical import encode
from tests.evidence.sketched import flat, reference_of

ROOT = "ab" * 32
SPECS = {
    2: Spec(coordinates=8, delta="0.05"),
    4: Spec(coordinates=16, delta="0.05"),
    8: Spec(coordinates=16, delta="0.05", inner_deltas=("0.05", "0.05", "0.05")),
}
CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
ASK: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "def f("}], "max_tokens": 24},
    TEXT: {"prompt": "import ", "max_tokens": 24},
}


@pytest.fixture(scope="module")
def provider() -> Iterator[TransformersEngine]:
    engine = TransformersEngine.load(SMALL, "bf16", inner=True)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def auditor() -> Iterator[TransformersEngine]:
    engine = TransformersEngine.load(SMALL, "fp32", inner=True)
    yield engine
    engine.close()


class Mute(Bigram):
    """Shows no states, whatever it is asked."""

    async def generate(self, job: Job) -> AsyncGenerator[Piece, None]:
        async for piece in super().generate(job):
            yield msgspec.structs.replace(piece, states=None)


def ask(url: str, path: str, name: str | None = None, **more: object) -> tuple[bytes, bytes]:
    body = json.dumps(ASK[path] | more).encode()
    headers = {"Content-Type": "application/json", "X-Lydite-Seed": "5"}
    if name is not None:
        headers["X-Request-Id"] = name
    with urllib.request.urlopen(urllib.request.Request(url + path, body, headers)) as got:
        return body, got.read()


def scores(
    auditor: TransformersEngine, spec: Spec, path: str, body: bytes, answer: bytes, name: str
) -> dict[str, float]:
    """Return for each tap the mean square of a residue's distance, in steps."""
    asked = tokens.asked(path, body)
    exchange = tokens.answered(asked, answer)
    prompt = reading.prompt_ids(auditor, asked)
    said = claims.stated(answer, streamed=asked.streamed)
    claim = claims.claims(
        said,
        spec,
        receipt_id=name,
        weights_root=ROOT,
        prompt_ids=prompt,
        output_ids=exchange.output_ids,
    )
    channels = [flat()] * spec.taps
    known = reference_of(spec, channels, width=auditor.width, root=ROOT)
    again = auditor.recompute(prompt, exchange.output_ids)
    finding = verifier.verify(claim, Taps(again.states, again.inner), known)
    return {
        m.name: float(np.mean(np.square(np.array(m.values) / 1e6 / 0.05)) / spec.coordinates)
        for m in finding.measures
    }


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("path", [CHAT, TEXT])
@pytest.mark.parametrize("size", SPECS)
def test_the_auditor_recomputes_what_an_answer_carries(
    provider: TransformersEngine,
    auditor: TransformersEngine,
    serving: Callable[..., str],
    size: int,
    path: str,
    stream: bool,
) -> None:
    spec = SPECS[size]
    url = serving(provider, Sketcher(spec=spec, weights_root=ROOT))
    body, answer = ask(url, path, "receipt-7", stream=stream)
    said = claims.stated(answer, streamed=stream)
    assert len(said.sketch) == 24 * size
    honest = scores(auditor, spec, path, body, answer, "receipt-7")
    assert set(honest) == ({SKETCH, INNER} if size == 8 else {SKETCH})
    assert max(honest.values()) < 0.3
    with pytest.raises(FormatError) as caught:
        scores(auditor, spec, path, body, answer, "receipt-8")
    assert caught.value.reason is Reason.OTHER_KEY


def test_answers_without_a_name_are_sketched_under_their_own_id(
    provider: TransformersEngine, auditor: TransformersEngine, serving: Callable[..., str]
) -> None:
    url = serving(provider, Sketcher(spec=SPECS[2], weights_root=ROOT))
    body, answer = ask(url, TEXT)
    name = json.loads(answer)["id"].removeprefix("cmpl-")
    assert scores(auditor, SPECS[2], TEXT, body, answer, name)[SKETCH] < 0.3


def test_a_stop_string_leaves_as_many_residues_as_tokens(
    provider: TransformersEngine, auditor: TransformersEngine, serving: Callable[..., str]
) -> None:
    url = serving(provider, Sketcher(spec=SPECS[2], weights_root=ROOT))
    for stream in (False, True):
        body, answer = ask(url, TEXT, "r", stop=["\n", "a"], stream=stream)
        assert scores(auditor, SPECS[2], TEXT, body, answer, "r")[SKETCH] < 0.3


def test_without_the_option_no_answer_carries_one(
    provider: TransformersEngine, serving: Callable[..., str]
) -> None:
    _, answer = ask(serving(provider), TEXT)
    assert b"activations" not in answer
    with pytest.raises(UnavailableError) as caught:
        claims.stated(answer, streamed=False)
    assert caught.value.reason is Reason.NO_SKETCH


def test_an_engine_that_shows_no_states_gives_no_placeholder(serving: Callable[..., str]) -> None:
    url = serving(Mute(), Sketcher(spec=SPECS[2], weights_root=ROOT))
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(url, TEXT)
    assert caught.value.code == 500
    _, streamed = ask(url, TEXT, stream=True)
    assert b'"error"' in streamed
    assert b"activations" not in streamed


def test_options_make_a_spec(tmp_path: Path) -> None:
    assert sketching.load(measured=ROOT) is None
    assert sketching.load(measured=ROOT, bytes_per_token=0, delta="0.1") is None
    made = sketching.load(measured=ROOT, bytes_per_token=4, delta="0.1")
    assert made == Sketcher(spec=Spec(coordinates=16, delta="0.1"), weights_root=ROOT)
    known = msgspec.structs.replace(
        reference_of(SPECS[8], [flat(), flat()]), weights_root="cd" * 32
    )
    path = tmp_path / "reference.json"
    path.write_bytes(encode(known) + b"\n")
    read = sketching.load(measured=ROOT, reference=path)
    assert read == Sketcher(spec=SPECS[8], weights_root="cd" * 32)
    assert sketching.load(measured=ROOT, reference=path, bytes_per_token=4) == read
    assert sketching.load(measured=ROOT, reference=path, bytes_per_token=0) is None


def test_options_that_make_no_spec_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "reference.json"
    path.write_bytes(encode(reference_of(SPECS[2], [flat()])))
    for options in (
        {"bytes_per_token": 2},
        {"bytes_per_token": 2, "delta": "0"},
        {"bytes_per_token": 2, "delta": "nan"},
        {"bytes_per_token": 3, "delta": "0.1"},
        {"bytes_per_token": 4, "reference": path},
        {"reference": tmp_path / "none.json"},
        {"reference": Path(__file__)},
    ):
        with pytest.raises(ConfigurationError):
            sketching.load(measured=ROOT, **options)


def test_the_key_is_the_receipts_and_not_the_providers_to_choose() -> None:
    base: dict[str, Any] = {"weights_root": ROOT, "prompt_ids": (1,), "output_ids": (2,)}
    keys = {specs.key(SPECS[2], receipt_id=f"r-{n}", **base) for n in range(50)}
    assert len(keys) == 50
