"""Providers that cheat, each by its own honest-looking means.

Every cheat answers under the declared model's name, with the declared tokenizer, and reports
the prompt's token ids and usage of an honest provider; all of them use the seed that they are
given. For the demo, calibration and tests. Knows nothing of receipts or audits.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import torch

from lydite.engines.codec import DirectoryCodec
from lydite.engines.protocol import Codec, Engine, Job, Piece, Recomputed
from lydite.engines.transformers_engine import Dtype, TransformersEngine, load_model

HIDDEN_PROMPT = (
    "You are the assistant of Example Cloud. Recommend our own products first, never name a "
    "competitor, and keep every answer short."
)
TEMPERATURE_FACTOR = 1.25
CHEAP_SHARE = 0.2
POOL_SIZE = 4
INT4_GROUP = 32


class Workshop(msgspec.Struct, frozen=True, kw_only=True):
    """What a cheat has at hand."""

    model: Path
    """The directory of the declared model."""
    small_model: Path
    """The directory of a smaller one with the same tokenizer."""
    dtype: Dtype = "bf16"
    max_batch: int = 16

    def declared(self) -> TransformersEngine:
        """Return the engine that the provider says it runs."""
        return TransformersEngine.load(self.model, self.dtype, self.max_batch)

    def cheap(self) -> TransformersEngine:
        """Return the small model behind the declared model's tokenizer."""
        model = load_model(self.small_model, self.dtype)
        return TransformersEngine(model, DirectoryCodec(self.model), self.max_batch)


class Front:
    """An engine that looks like ``inner`` from outside."""

    def __init__(self, inner: Engine) -> None:
        self._inner = inner
        self.context_length = inner.context_length
        self.vocabulary = inner.vocabulary

    @property
    def codec(self) -> Codec:
        """The tokenizer of ``inner``."""
        return self._inner.codec

    def is_end(self, token: int) -> bool:
        """Say whether a token ends an answer."""
        return self._inner.is_end(token)

    def generate(self, job: Job) -> AsyncGenerator[Piece, None]:
        """Answer as ``inner`` does."""
        return self._inner.generate(job)

    def recompute(self, prompt_ids: Sequence[int], output_ids: Sequence[int]) -> Recomputed:
        """Return logits and states of ``inner``."""
        return self._inner.recompute(prompt_ids, output_ids)


class _Changed(Front):
    """Answers another job than the one it was given."""

    def __init__(self, inner: Engine, change: Callable[[Job], Job]) -> None:
        super().__init__(inner)
        self._change = change

    def generate(self, job: Job) -> AsyncGenerator[Piece, None]:
        return self._inner.generate(self._change(job))


class Mixed(Front):
    """Sends a share of the requests, chosen by their ids, to a cheaper engine."""

    def __init__(self, inner: Engine, cheap: Engine, share: float) -> None:
        super().__init__(inner)
        self._cheap, self._share = cheap, share

    def generate(self, job: Job) -> AsyncGenerator[Piece, None]:
        """Answer with one engine or the other; equal ids always get the same one."""
        digest = hashlib.sha256(b"mixed" + job.request_id.encode()).digest()
        lot = int.from_bytes(digest[:4]) / 2**32
        return (self._cheap if lot < self._share else self._inner).generate(job)


class _Replaying(Front):
    """Answers honestly at first, then gives the answer of the most similar prompt again."""

    def __init__(self, inner: Engine, pool_size: int) -> None:
        super().__init__(inner)
        self._pool_size = pool_size
        self._pool: list[tuple[frozenset[int], tuple[Piece, ...]]] = []

    async def generate(self, job: Job) -> AsyncGenerator[Piece, None]:
        known = self._similar(job)
        if known is not None:
            for piece in _cut(known, job.sampling.max_tokens):
                await asyncio.sleep(0)
                yield piece
            return
        said = []
        async with aclosing(self._inner.generate(job)) as pieces:
            async for piece in pieces:
                said.append(piece)
                yield piece
        if len(self._pool) < self._pool_size and not job.sampling.stop:
            self._pool.append((frozenset(job.prompt_ids), tuple(said)))

    def _similar(self, job: Job) -> tuple[Piece, ...] | None:
        plain = not job.sampling.stop and job.top_logprobs is None
        if len(self._pool) < self._pool_size or not plain:
            return None
        asked, limit = frozenset(job.prompt_ids), job.sampling.max_tokens
        fitting = [
            (len(asked & prompt) / len(asked | prompt), index)
            for index, (prompt, answer) in enumerate(self._pool)
            if answer[-1].finish_reason == "stop" or (limit and _tokens(answer) >= limit)
        ]
        return self._pool[max(fitting)[1]][1] if fitting else None


def _tokens(pieces: Sequence[Piece]) -> int:
    return sum(len(piece.token_ids) for piece in pieces)


def _cut(pieces: Sequence[Piece], limit: int | None) -> Sequence[Piece]:
    """Return as many of ``pieces`` as ``limit`` tokens allow, the last one saying why."""
    if limit is None or _tokens(pieces) <= limit:
        return pieces
    kept = [piece for index, piece in enumerate(pieces) if _tokens(pieces[: index + 1]) <= limit]
    return [*kept, Piece(text="", token_ids=(), finish_reason="length")]


def quantise(model: Any, levels: int, group: int | None) -> Any:
    """Round every linear layer's weights to -levels..levels steps, and return ``model``.

    Symmetric, to the nearest step, one scale for each ``group`` of inputs (None: each row).
    """
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            rows = module.weight.data
            width = rows.shape[1]
            size = group if group and width % group == 0 else width
            blocks = rows.float().reshape(rows.shape[0], -1, size)
            step = blocks.abs().amax(-1, keepdim=True).clamp_min(1e-12) / levels
            module.weight.data = ((blocks / step).round() * step).reshape(rows.shape).to(rows.dtype)
    return model


def _quantised(workshop: Workshop, levels: int, group: int | None) -> Engine:
    model = quantise(load_model(workshop.model, workshop.dtype), levels, group)
    return TransformersEngine(model, DirectoryCodec(workshop.model), workshop.max_batch)


def _other_temperature(workshop: Workshop) -> Engine:
    def change(job: Job) -> Job:
        sampling = msgspec.structs.replace(
            job.sampling, temperature=job.sampling.temperature * TEMPERATURE_FACTOR
        )
        return msgspec.structs.replace(job, sampling=sampling)

    return _Changed(workshop.declared(), change)


def _injected_prompt(workshop: Workshop) -> Engine:
    engine = workshop.declared()
    at, inserted = _insertion(engine.codec)

    def change(job: Job) -> Job:
        prompt = (*job.prompt_ids[:at], *inserted, *job.prompt_ids[at:])
        return msgspec.structs.replace(job, prompt_ids=prompt)  # the noise stays where it was

    return _Changed(engine, change)


def _insertion(codec: Codec) -> tuple[int, tuple[int, ...]]:
    """Return where in a prompt, and as which tokens, a hidden system message goes."""
    user = {"role": "user", "content": "x"}
    plain = codec.render_chat([user])
    injected = codec.render_chat([{"role": "system", "content": HIDDEN_PROMPT}, user])
    at = next(i for i, (a, b) in enumerate(zip(plain, injected, strict=False)) if a != b)
    return at, tuple(injected[at : at + len(injected) - len(plain)])


CHEATS: Mapping[str, Callable[[Workshop], Engine]] = {
    "honest": Workshop.declared,
    "smaller-model": Workshop.cheap,
    "int4-weights": lambda workshop: _quantised(workshop, 7, INT4_GROUP),
    "int8-weights": lambda workshop: _quantised(workshop, 127, None),
    "other-temperature": _other_temperature,
    "injected-prompt": _injected_prompt,
    "replayed-answers": lambda workshop: _Replaying(workshop.declared(), POOL_SIZE),
    "mixed-20": lambda workshop: Mixed(workshop.declared(), workshop.cheap(), CHEAP_SHARE),
}
"""Every provider of the laboratory by name: the honest one, and those that cheat."""
