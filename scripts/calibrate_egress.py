"""Calibrate the egress meter of one model: honest machines in, a Reference Value out.

Runs the declared model as honest providers do, weighs every answer as the meter does (the declared
data type, one teacher-forced pass, batch 1), and fits the kernel: the noise between the two, as a
mixture of three logistic ones, to half of the answers. The other half says what honest answers
cost. Bodies of the server of this project and recorded ones of vLLM give the shapes that are known
from the start. Nothing of this sees a sender.

    python scripts/calibrate_egress.py lydite-base

writes ``data/reference/egress/MODEL.json``; takes minutes.
"""

import argparse
import hashlib
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from derive_reference import CELLS, DATA, MODELS, Cell, noise_of, sha256
from numpy.typing import NDArray
from run_cells import run_cell, versions

from lydite.auditor.meter import Scale, choices
from lydite.engines.openai_bodies import Answer
from lydite.engines.openai_requests import parse as parse_request
from lydite.engines.protocol import Piece
from lydite.engines.transformers_engine import TransformersEngine
from lydite.engines.weights import check_manifest
from lydite.evidence.egress import frame
from lydite.evidence.egress.claims import Claims
from lydite.evidence.egress.reference import (
    Honest,
    Ledger,
    Part,
    Provenance,
    Reference,
    parse,
)
from lydite.evidence.egress.verifier import ESCAPE
from lydite.evidence.tokens.claims import Claims as TokenClaims
from lydite.laboratory.streams import render
from lydite.messages.canonical import encode

OUT = Path("data/reference/egress")
RECORDED = Path("tests/vectors/vllm")
METER = "bf16 arithmetic, one teacher-forced pass, batch 1, cpu"
SCALES = (0.001, 0.002, 0.003, 0.005, 0.008, 0.012)
SPREADS = (1.0, 4.0, 20.0)
"""Of the three parts of a kernel, in multiples of its scale."""
WEIGHTS = ((900_000, 95_000, 5_000), (970_000, 28_000, 2_000), (800_000, 190_000, 10_000))
TIGHT = (Part(scale_micro=200, weight_ppm=990_000), Part(scale_micro=2_000, weight_ppm=10_000))
SESSION_ANSWERS = 16
BEST = 8
"""Tokens whose noisy logits are kept for the fit."""


def main() -> None:
    """Calibrate the model that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="a directory under models/")
    parser.add_argument("--share", type=float, default=0.5, help="of the answers of each cell")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    reference = calibrate(arguments.model, arguments.share)
    path = OUT / f"{arguments.model}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(reference))
    parse(path.read_bytes())
    print(f"{path}: {path.stat().st_size} bytes, kernel {reference.kernel}")
    for one in reference.honest:
        rate = 1000 * one.bits / max(one.tokens, 1)
        print(f"{one.name:32} {one.tokens:7} tokens {rate:7.2f} bits per 1000 tokens")


def calibrate(name: str, share: float) -> Reference:
    """Return the Reference Value of one model."""
    prompts = json.loads((DATA / "prompts.json").read_text("utf-8"))
    engine = TransformersEngine.load(MODELS / name, "bf16", 1)
    ids = [render(engine.codec, prompt) for prompt in prompts]
    answers: dict[Cell, list[TokenClaims]] = {}
    for cell in CELLS:
        fewer = cell._replace(answers=2 * max(SESSION_ANSWERS, round(cell.answers * share / 2)))
        answers[cell] = run_cell(name, fewer, ids, [])
        print(f"ran {cell.name}: {len(answers[cell])} answers", file=sys.stderr)
    with np.load(DATA / f"{name}.npz") as raw:
        noise = noise_of(dict(raw))
    blank = blank_reference(name, noise, engine)
    others = [each for cell, said in answers.items() if cell.dtype == "bf16" for each in said[::2]]
    kernel = fit(engine, others, noise / 1e6)
    fitted = replace(blank, kernel=kernel)
    scale = Scale(engine, fitted)
    honest = tuple(cost(cell, said[1::2], scale, fitted) for cell, said in answers.items())
    engine.close()
    return replace(fitted, honest=honest)


def blank_reference(name: str, noise: int, engine: TransformersEngine) -> Reference:
    """Return what is known before anything is measured."""
    scripts = [Path(__file__), Path(__file__).with_name("run_cells.py")]
    return Reference(
        name=name,
        weights_root=check_manifest(MODELS / name).root,
        meter=METER,
        kernel=(Part(scale_micro=5_000, weight_ppm=1_000_000),),
        tight=TIGHT,
        shapes=tuple(itertools.chain.from_iterable(shapes(engine))),
        noise_micro=noise,
        honest=(),
        provenance=Provenance(
            script=hashlib.sha256(b"".join(path.read_bytes() for path in scripts)).hexdigest(),
            data=sha256(DATA / f"{name}.npz"),
            prompts=sha256(DATA / "prompts.json"),
            versions=tuple(versions()),
        ),
    )


def replace(reference: Reference, **changes: Any) -> Reference:
    """Return ``reference`` with some fields changed."""
    fields = {name: getattr(reference, name) for name in reference.__struct_fields__}
    return Reference(**{**fields, **changes})


def fit(
    engine: TransformersEngine, answers: Sequence[TokenClaims], noise: float
) -> tuple[Part, ...]:
    """Return the kernel under which the answers are cheapest."""
    rows = np.concatenate([near(engine, answer, noise) for answer in answers])
    tried = [
        tuple(
            Part(scale_micro=round(1e6 * scale * spread), weight_ppm=weight)
            for spread, weight in zip(SPREADS, weights, strict=True)
        )
        for scale, weights in itertools.product(SCALES, WEIGHTS)
    ]
    return min(tried, key=lambda kernel: price(rows, kernel))


def near(engine: TransformersEngine, answer: TokenClaims, noise: float) -> NDArray[np.float64]:
    """Return by how much the best tokens trail the best one, and last the one that came."""
    logits = engine.logits(answer.prompt_ids, answer.output_ids)
    rows = []
    for token, choice in zip(answer.output_ids, choices(answer, logits, noise), strict=True):
        noisy = np.where(choice.kept, choice.noisy, -np.inf)
        top = np.sort(noisy)[::-1][:BEST]
        rows.append([*np.maximum(top - top[0], -99.0), max(noisy[token] - top[0], -99.0)])
    return np.array(rows)


def price(rows: NDArray[np.float64], kernel: Sequence[Part]) -> float:
    """Return what the tokens of ``rows`` cost under a kernel, in bits."""
    chance = np.zeros(len(rows))
    for part in kernel:
        scale = part.scale_micro / 1e6
        weights = np.exp(rows / scale)
        chance += part.weight_ppm / 1e6 * weights[:, -1] / weights[:, :-1].sum(axis=1)
    return float(-np.log2((1 - ESCAPE) * chance + ESCAPE / 2**18).sum())


def cost(cell: Cell, answers: Sequence[TokenClaims], scale: Scale, reference: Reference) -> Honest:
    """Return what honest answers cost, in sessions of some answers each."""
    sessions = [answers[i : i + SESSION_ANSWERS] for i in range(0, len(answers), SESSION_ANSWERS)]
    total, worst, tokens = 0, 0.0, 0
    for session in sessions:
        ledger = Ledger(reference)
        count = sum(len(answer.output_ids) for answer in session)
        for answer in session:
            claims = Claims(output_ids=answer.output_ids, ending="whole")
            ledger.charge(scale.of_tokens(answer, claims))
        total, tokens = total + ledger.micro_bits, tokens + count
        worst = max(worst, ledger.micro_bits / 1000 / max(count, 1))
    return Honest(
        name=cell.name,
        sessions=len(sessions),
        answers=len(answers),
        tokens=tokens,
        bits=round(total / 1e6),
        worst_millibits=round(worst),
    )


def shapes(engine: TransformersEngine) -> Iterator[list[int]]:
    """Yield the names of the shapes of honest bodies, each once."""
    found: dict[tuple[int, ...], None] = {}
    for body, known in [*own_bodies(engine), *recorded_bodies()]:
        names = frame.read(body, known, engine.codec.decode).shapes
        words = frame.NAME_WORDS
        found |= dict.fromkeys(tuple(names[i : i + words]) for i in range(0, len(names), words))
    for name in found:
        yield list(name)


def own_bodies(engine: TransformersEngine) -> Iterator[tuple[bytes, frame.Known]]:
    """Yield bodies as the server of this project writes them."""
    for chat, streamed, usage in itertools.product((True, False), repeat=3):
        prompt = {"messages": [{"role": "user", "content": "x"}]} if chat else {"prompt": "x"}
        more = {"stream": True, "stream_options": {"include_usage": usage}} if streamed else {}
        asked = {"model": "m", "max_tokens": 2, **prompt, **more}
        path = "/v1/chat/completions" if chat else "/v1/completions"
        request = parse_request(path, json.dumps(asked).encode(), engine.codec)
        identity = f"{'chatcmpl' if chat else 'cmpl'}-r"
        answer = Answer(
            request=request, identity=identity, created=7, model="m", codec=engine.codec
        )
        token = engine.codec.encode("def")[-1]
        said = engine.codec.decode([token])
        piece = Piece(text=said, token_ids=(token,), finish_reason="length")
        parts = [answer.opening(), answer.chunk(piece, 0)]
        parts += [answer.closing(1)] if usage else []
        stream = b"".join(b"data: %b\n\n" % compact(part) for part in parts)
        body = stream if streamed else compact(answer.whole([piece]))
        yield body, frame.Known("r", "m", 7, request.prompt_ids, [token], streamed)


def compact(body: dict[str, Any]) -> bytes:
    """Return JSON without spaces, characters as they are."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def recorded_bodies() -> Iterator[tuple[bytes, frame.Known]]:
    """Yield bodies that vLLM wrote."""
    for path in sorted(RECORDED.glob("*.json")):
        recorded = json.loads(path.read_text("utf-8"))
        request = json.loads(recorded["request"])
        body = recorded["response"].encode()
        streamed = bool(request.get("stream"))
        first = body.removeprefix(b"data: ").partition(b"\n\n")[0] if streamed else body
        said = json.loads(first)
        identity = str(said["id"]).partition("-")[2]
        prompt = said.get("prompt_token_ids") or [0] * said.get("usage", {}).get("prompt_tokens", 0)
        output = said["choices"][0].get("token_ids") or []
        yield (
            body,
            frame.Known(identity, request.get("model"), said["created"], prompt, output, streamed),
        )


if __name__ == "__main__":
    main()
