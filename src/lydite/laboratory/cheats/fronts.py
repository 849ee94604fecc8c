"""What cheats are made of: engines that stand in front of others and look like them.

Knows nothing of receipts or audits.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from lydite.engines.buckets import Answer
from lydite.engines.codec import DirectoryCodec
from lydite.engines.protocol import Codec, Engine, Job, Piece, Recomputed, TokenLogprobs
from lydite.engines.transformers_engine import Dtype, TransformersEngine, load_model


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

    def recompute_all(
        self, answers: Sequence[Answer], *, sharing: bool = True
    ) -> Iterator[tuple[int, Recomputed]]:
        """Yield logits and states of ``inner``."""
        return self._inner.recompute_all(answers, sharing=sharing)

    def close(self) -> None:
        """End the threads of what is behind."""
        close(self._inner)


def close(engine: Engine) -> None:
    """End the threads of an engine of this laboratory."""
    if isinstance(engine, Front | TransformersEngine):
        engine.close()


class Changed(Front):
    """Answers another job than the one it was given."""

    def __init__(self, inner: Engine, change: Callable[[Job], Job]) -> None:
        super().__init__(inner)
        self._change = change

    def generate(self, job: Job) -> AsyncGenerator[Piece, None]:
        """Answer the changed job."""
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

    def close(self) -> None:
        """End the threads of both engines."""
        super().close()
        close(self._cheap)


class Prefilled(Front):
    """Lets a cheap engine choose the tokens and runs ``inner`` over them, in one pass.

    What it reports of itself, log-probabilities and states, is that of ``inner`` and true.
    """

    def __init__(self, inner: Engine, cheap: Engine) -> None:
        super().__init__(inner)
        self._cheap = cheap

    async def generate(self, job: Job) -> AsyncGenerator[Piece, None]:
        """Answer with the tokens of one engine and the numbers of the other."""
        plain = msgspec.structs.replace(job, tapped=False, top_logprobs=None)
        async with aclosing(self._cheap.generate(plain)) as pieces:
            said = [piece async for piece in pieces]
        written = [token for piece in said for token in piece.token_ids]
        if not written or (job.top_logprobs is None and not job.tapped):
            for piece in said:
                yield piece
            return
        read = await asyncio.to_thread(self._inner.recompute, job.prompt_ids, written)
        start = 0
        for piece in said:
            here = slice(start, start + len(piece.token_ids))
            start = here.stop
            inner = None if read.inner is None else read.inner[:, here]
            yield _reported(piece, job, Recomputed(read.logits[here], read.states[here], inner))

    def close(self) -> None:
        """End the threads of both engines."""
        super().close()
        close(self._cheap)


def _reported(piece: Piece, job: Job, read: Recomputed) -> Piece:
    """Return ``piece`` with the numbers that ``read`` has for its tokens."""
    logprobs: tuple[TokenLogprobs, ...] = ()
    if job.top_logprobs is not None:
        pairs = zip(piece.token_ids, read.logits, strict=True)
        logprobs = tuple(_logprobs(token, row, job.top_logprobs) for token, row in pairs)
    states, inner = (read.states, read.inner) if job.tapped else (None, None)
    return msgspec.structs.replace(piece, logprobs=logprobs, states=states, inner=inner)


def _logprobs(token: int, logits: NDArray[np.float32], count: int) -> TokenLogprobs:
    shifted = logits.astype(np.float64) - logits.max()
    every = shifted - np.log(np.exp(shifted).sum())
    best = np.argsort(-every, kind="stable")[:count]
    top = tuple((int(each), float(every[each])) for each in best)
    return TokenLogprobs(token=token, logprob=float(every[token]), top=top)


class _Told(NamedTuple):
    """An answer that may be given again, and what it was an answer to."""

    asked: frozenset[int]
    reported: tuple[int | None, bool]
    """What the job wanted to know beside the tokens."""
    pieces: tuple[Piece, ...]


class Replaying(Front):
    """Answers honestly at first, then gives the answer of the most similar prompt again."""

    def __init__(self, inner: Engine, pool_size: int) -> None:
        super().__init__(inner)
        self._pool_size = pool_size
        self._pool: list[_Told] = []

    async def generate(self, job: Job) -> AsyncGenerator[Piece, None]:
        """Answer, or repeat an answer that fits."""
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
            reported = (job.top_logprobs, job.tapped)
            self._pool.append(_Told(frozenset(job.prompt_ids), reported, tuple(said)))

    def _similar(self, job: Job) -> tuple[Piece, ...] | None:
        if len(self._pool) < self._pool_size or job.sampling.stop:
            return None
        asked, limit = frozenset(job.prompt_ids), job.sampling.max_tokens
        fitting = [
            (len(asked & told.asked) / len(asked | told.asked), index)
            for index, told in enumerate(self._pool)
            if told.reported == (job.top_logprobs, job.tapped)
            and (told.pieces[-1].finish_reason == "stop" or _fills(told.pieces, limit))
        ]
        return self._pool[max(fitting)[1]].pieces if fitting else None


def _fills(pieces: Sequence[Piece], limit: int | None) -> bool:
    return limit is not None and _tokens(pieces) >= limit


def _tokens(pieces: Sequence[Piece]) -> int:
    return sum(len(piece.token_ids) for piece in pieces)


def _cut(pieces: Sequence[Piece], limit: int | None) -> Sequence[Piece]:
    """Return as many of ``pieces`` as ``limit`` tokens allow, the last one saying why."""
    if limit is None or _tokens(pieces) <= limit:
        return pieces
    kept = [piece for index, piece in enumerate(pieces) if _tokens(pieces[: index + 1]) <= limit]
    return [*kept, Piece(text="", token_ids=(), finish_reason="length")]
