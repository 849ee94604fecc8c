"""Honest and other sketches for the tests, and a Reference Value that fits the honest ones."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lydite.evidence.activations import attester, claims, verifier
from lydite.evidence.activations import spec as specs
from lydite.evidence.activations.claims import Claims
from lydite.evidence.activations.reference import SKETCH, Reference
from lydite.evidence.activations.spec import ProjectionKey, Spec
from lydite.evidence.activations.verifier import Taps
from lydite.messages.calibration import Binned, Histogram, Provenance

States = NDArray[np.float32]

ROOT = "5e" * 32
WIDTH = 256
SIGMA = 0.008
KEY = ProjectionKey(bytes(range(32)))
SPEC = Spec(coordinates=8, delta="0.032")
WIDE = Spec(coordinates=16, delta="0.032")
QUANTILES = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)


def states_of(rng: np.random.Generator, tokens: int, width: int = WIDTH) -> States:
    """Return states that have much in common: a mean, a few great coordinates, a slow drift."""
    mean = np.random.default_rng(1).normal(0, 1, width)
    scales = np.where(np.arange(width) % 97 == 5, 8.0, 1.0)
    drift = np.cumsum(rng.normal(0, 0.2, (tokens, width)), axis=0)
    return ((mean + drift + rng.normal(0, 1, (tokens, width))) * scales).astype(np.float32)


def nearby(rng: np.random.Generator, states: States, sigma: float = SIGMA) -> States:
    """Return the states as another honest machine has them."""
    return (states + rng.normal(0, sigma, states.shape)).astype(np.float32)


def claimed(
    states: States,
    spec: Spec = SPEC,
    *,
    receipt_id: str = "r-1",
    root: str = ROOT,
    output_ids: Sequence[int] | None = None,
    inner: States | None = None,
) -> Claims:
    """Return what a provider claims that has these states."""
    output = tuple(range(len(states))) if output_ids is None else tuple(output_ids)
    key = specs.key(
        spec, receipt_id=receipt_id, weights_root=root, prompt_ids=(7, 8), output_ids=output
    )
    sketch = attester.sketch(states, key, spec, inner)
    return Claims(receipt_id=receipt_id, prompt_ids=(7, 8), output_ids=output, sketch=sketch)


def histogram(scores: Sequence[Sequence[int]], edges: Sequence[int], name: str) -> Histogram:
    counts = np.array(
        [
            np.bincount(np.searchsorted(edges, s, side="right"), minlength=len(edges) + 1)
            for s in scores
        ]
    )
    lengths = counts.sum(axis=1)
    return Histogram(
        name=name,
        responses=len(scores),
        tokens=int(lengths.sum()),
        tokens_squared=int((lengths**2).sum()),
        counts=tuple(counts.sum(axis=0).tolist()),
        counts_squared=tuple((counts**2).sum(axis=0).tolist()),
        crosses=tuple((counts * lengths[:, None]).sum(axis=0).tolist()),
    )


def reference_of(
    spec: Spec,
    channels: Sequence[Binned],
    *,
    width: int = WIDTH,
    root: str = ROOT,
    sigma: float = SIGMA,
) -> Reference:
    return Reference(
        name="toy",
        weights_root=root,
        width=width,
        spec=spec,
        auditor="toy",
        sketch=channels[0],
        inner=channels[1] if len(channels) > 1 else None,
        error_ppm=1000,
        sigma_micro=round(sigma * 1e6),
        noise_micro=round(4 * sigma * 1e6),
        alternatives=(),
        provenance=Provenance(script="00" * 32, data="00" * 32, prompts="00" * 32, versions=()),
    )


def flat(edges: tuple[int, ...] = (10_000, 20_000)) -> Binned:
    """Return a channel of which nothing is known but that it has bins."""
    return Binned(edges=edges, histograms=(histogram([[0, 15_000, 30_000]] * 4, edges, "toy"),))


def calibrated(spec: Spec = SPEC, *, responses: int = 60, width: int = WIDTH) -> Reference:
    """Return a Reference Value from honest answers of 64 tokens."""
    rng = np.random.default_rng(11)
    rough = reference_of(spec, [flat()], width=width)
    scores = []
    for number in range(responses):
        states = states_of(rng, 64, width)
        claim = claimed(nearby(rng, states), spec, receipt_id=f"calibration-{number}")
        scores.append(verifier.verify(claim, Taps(states), rough).values(SKETCH))
    pooled = np.concatenate([np.array(s) for s in scores])
    edges = tuple(sorted({int(e) for e in np.quantile(pooled, QUANTILES)}))
    known = Binned(edges=edges, histograms=(histogram(scores, edges, "noisy"),))
    return reference_of(spec, [known], width=width)


def whole(spec: Spec, sketch: bytes, key: ProjectionKey = KEY, **fields: Any) -> bytes:
    """Return the body of an answer that carries a sketch."""
    choice = {"index": 0, "text": "x", "finish_reason": "stop", "token_ids": [1]}
    choice |= {"activations": claims.field(spec, key, sketch)} | fields
    return json.dumps({"id": "cmpl-r-1", "choices": [choice]}).encode()


def streamed(spec: Spec, sketch: bytes, key: ProjectionKey = KEY) -> bytes:
    """Return an event stream whose last choice carries a sketch."""
    first = {"choices": [{"index": 0, "text": "x", "finish_reason": None, "token_ids": [1]}]}
    last = {"choices": [{"index": 0, "text": "", "finish_reason": "stop", "token_ids": []}]}
    last["choices"][0]["activations"] = claims.field(spec, key, sketch)
    bodies = [first, last, {"choices": [], "usage": {"total_tokens": 3}}]
    events = [b"data: " + json.dumps(body).encode() + b"\n\n" for body in bodies]
    return b"".join(events) + b"data: [DONE]\n\n"
