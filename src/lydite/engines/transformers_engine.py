"""Any local Hugging Face model directory as an engine with our seeded sampler.

Decodes with a key-value cache and continuous batching; recomputes in one teacher-forced pass, or
many answers in few of them.
Knows nothing of HTTP. Nothing is ever downloaded.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from lydite.engines import forcing
from lydite.engines.batching import Decoder, Tap
from lydite.engines.buckets import Answer, Limits
from lydite.engines.codec import DirectoryCodec
from lydite.engines.detokenizer import Detokenizer
from lydite.engines.protocol import FinishReason, Job, Piece, Recomputed, TokenLogprobs
from lydite.engines.weights import files_of
from lydite.errors import ConfigurationError, FormatError, LyditeError, Reason
from lydite.evidence.tokens.attester import sample

Dtype = Literal["bf16", "fp32"]
_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
_LOGITS_BYTES = 1 << 28
"""Of logits that one pass over several answers may make."""


def load_model(directory: Path, dtype: Dtype) -> Any:
    """Return the causal language model in ``directory``, ready to infer on the CPU.

    Raises:
        ConfigurationError: there is no such directory, no model in it that we can load, or more in
            it than a root binds.
    """
    files_of(directory)
    transformers_logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            directory, dtype=_DTYPES[dtype], local_files_only=True
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise ConfigurationError(f"no loadable model in {directory}: {error}") from error
    return model.eval().requires_grad_(False)


class TransformersEngine:
    """A model in this process, answering many jobs together."""

    def __init__(
        self, model: Any, codec: DirectoryCodec, max_batch: int = 16, *, inner: bool = False
    ) -> None:
        self.codec = codec
        self.context_length = int(model.config.max_position_embeddings)
        self.vocabulary = int(model.config.vocab_size)
        self.width = int(model.config.hidden_size)
        self._model = model
        self._ends = codec.end_tokens | _end_tokens(model.generation_config)
        self._outbox = _Outbox()
        self._inner = inner
        self.limits = Limits(rows=_LOGITS_BYTES // (4 * self.vocabulary))
        self._decoder = Decoder(model, max_batch, self._outbox.flush, inner=inner)

    @classmethod
    def load(
        cls,
        directory: Path,
        dtype: Dtype = "bf16",
        max_batch: int = 16,
        *,
        inner: bool = False,
    ) -> Self:
        """Load tokenizer and model from ``directory``; ``inner`` shows states of inner layers.

        Raises:
            ConfigurationError: the directory does not hold what we need.
        """
        codec = DirectoryCodec(directory)
        return cls(load_model(directory, dtype), codec, max_batch, inner=inner)

    async def generate(self, job: Job) -> AsyncGenerator[Piece, None]:
        """Answer ``job`` piece by piece; closing the generator cancels the work.

        Raises:
            UnavailableError: the model failed.
        """
        answer = _Answer(job, self, self._outbox)
        self._decoder.submit(answer)
        try:
            while True:
                item = await answer.inbox.get()
                if isinstance(item, LyditeError):
                    raise item
                yield item
                if item.finish_reason:
                    return
        finally:
            answer.abandoned.set()

    def is_end(self, token: int) -> bool:
        """Say whether ``token`` ends an answer."""
        return token in self._ends

    def logits(self, prompt_ids: Sequence[int], output_ids: Sequence[int]) -> NDArray[np.float32]:
        """Return the logits of ``recompute``, shape (len(output_ids), vocabulary)."""
        return self.recompute(prompt_ids, output_ids).logits

    @torch.inference_mode()
    def recompute(self, prompt_ids: Sequence[int], output_ids: Sequence[int]) -> Recomputed:
        """Return logits and states of every output token, in one teacher-forced pass.

        Raises:
            FormatError: the prompt is empty, a token is not one that the model knows, or both
                together do not fit into the context.
        """
        self._check(Answer(prompt_ids, output_ids))
        if not output_ids:
            return self._nothing()
        every = [*prompt_ids, *output_ids]
        ids, tap = torch.tensor([every[:-1]]), Tap(self._model, inner=self._inner)
        try:
            output = self._model(input_ids=ids, use_cache=False, logits_to_keep=len(output_ids))
        finally:
            tap.remove()
        inner = None if tap.inner is None else tap.inner[0, :, -len(output_ids) :].float().numpy()
        return Recomputed(output.logits[0].float().numpy(), tap.states[0].float().numpy(), inner)

    def recompute_all(
        self, answers: Sequence[Answer], *, sharing: bool = True
    ) -> Iterator[tuple[int, Recomputed]]:
        """Yield the same of every answer, with its place: several in one pass (``forcing``).

        Raises:
            FormatError: as ``recompute``, before anything is recomputed.
        """
        for answer in answers:
            self._check(answer)
        full = [place for place, answer in enumerate(answers) if answer.output_ids]
        for place in set(range(len(answers))).difference(full):
            yield place, self._nothing()
        some, limits = [answers[place] for place in full], self.limits._replace(sharing=sharing)
        for at, one in forcing.recomputed(self._model, some, limits, inner=self._inner):
            yield full[at], one

    def _check(self, answer: Answer) -> None:
        every = [*answer.prompt_ids, *answer.output_ids]
        if not answer.prompt_ids or not all(0 <= t < self.vocabulary for t in every):
            raise FormatError("tokens: no prompt, or one that the model does not know")
        if len(every) > self.context_length and answer.output_ids:
            raise FormatError(
                f"tokens: {len(every)} do not fit into {self.context_length}", Reason.TOO_LARGE
            )

    def _nothing(self) -> Recomputed:
        """Return what there is of an answer without tokens."""
        states = np.zeros((0, self.width), dtype=np.float32)
        logits = np.zeros((0, self.vocabulary), dtype=np.float32)
        return Recomputed(logits, states, np.stack([states] * 3) if self._inner else None)

    def close(self) -> None:
        """End the thread that decodes."""
        self._decoder.close()


class _Outbox:
    """Carries pieces from the decoding thread to the event loops, one wake-up for each step."""

    def __init__(self) -> None:
        self._held: dict[asyncio.AbstractEventLoop, list[tuple[_Answer, Piece | LyditeError]]] = {}

    def put(self, answer: "_Answer", item: Piece | LyditeError) -> None:
        self._held.setdefault(answer.loop, []).append((answer, item))

    def flush(self) -> None:
        for loop, items in self._held.items():
            try:
                loop.call_soon_threadsafe(_deliver, items)
            except RuntimeError:  # the loop was closed: nobody waits for these answers any more
                for answer, _ in items:
                    answer.abandoned.set()
        self._held = {}


def _deliver(items: list[tuple["_Answer", Piece | LyditeError]]) -> None:
    for answer, item in items:
        answer.inbox.put_nowait(item)


class _Answer:
    """One job as a row of the batch."""

    def __init__(self, job: Job, engine: TransformersEngine, outbox: _Outbox) -> None:
        self.prompt_ids = job.prompt_ids
        self.loop = asyncio.get_running_loop()
        self.inbox: asyncio.Queue[Piece | LyditeError] = asyncio.Queue()
        self.abandoned = threading.Event()
        self._job, self._engine, self._outbox = job, engine, outbox
        self._text = Detokenizer(engine.codec, job.sampling.stop)
        room = engine.context_length - len(job.prompt_ids)
        self._limit = min(job.sampling.max_tokens or room, room)
        self._drawn = 0
        self._unsent: list[int] = []
        self._logprobs: list[TokenLogprobs] = []
        self._states: list[torch.Tensor] = []
        self._inner: list[torch.Tensor] = []

    def cancelled(self) -> bool:
        return self.abandoned.is_set()

    def choose(
        self, logits: torch.Tensor, state: torch.Tensor, inner: torch.Tensor | None
    ) -> int | None:
        job = self._job
        try:
            token = sample(logits.numpy(), job.sampling, job.seed, job.noise_position + self._drawn)
        except LyditeError as error:
            self.fail(error)
            return None
        self._drawn += 1
        self._unsent.append(token)
        if job.top_logprobs is not None:
            self._logprobs.append(_logprobs(logits, token, job.top_logprobs))
        if job.tapped:
            self._states.append(state.float())
            if inner is not None:
                self._inner.append(inner.float())
        return None if self._send(token) else token

    def fail(self, error: LyditeError) -> None:
        self._outbox.put(self, error)

    def _send(self, token: int) -> FinishReason | None:
        """Hand out what ``token`` makes ready; return why the answer ends, if it does."""
        ready = self._text.push(token)
        ends = self._engine.is_end(token) and not self._job.sampling.ignore_eos
        reason: FinishReason | None = None
        if self._text.stopped or ends:
            reason = "stop"
        elif self._drawn >= self._limit:
            reason = "length"
        text, count = ready.text, ready.tokens
        if reason and not self._text.stopped:
            rest = self._text.finish()
            text, count = text + rest.text, count + rest.tokens
        if reason or count or text:
            piece = Piece(
                text=text,
                token_ids=tuple(self._unsent[:count]),
                logprobs=tuple(self._logprobs[:count]),
                states=_stacked(self._states[:count], 0),
                inner=_stacked(self._inner[:count], 1),
                finish_reason=reason,
            )
            for sent in (self._unsent, self._logprobs, self._states, self._inner):
                del sent[:count]
            self._outbox.put(self, piece)
        return reason


def _stacked(states: list[torch.Tensor], dim: int) -> NDArray[np.float32] | None:
    return torch.stack(states, dim).numpy() if states else None


def _logprobs(logits: torch.Tensor, token: int, count: int) -> TokenLogprobs:
    every = torch.log_softmax(logits, dim=-1)
    best = every.topk(min(count, every.shape[0]))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return TokenLogprobs(token=token, logprob=float(every[token]), top=tuple(pairs))


def _end_tokens(generation_config: Any) -> frozenset[int]:
    end = getattr(generation_config, "eos_token_id", None)
    if end is None:
        return frozenset()
    return frozenset(end if isinstance(end, list) else [end])
