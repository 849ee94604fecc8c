"""What an engine is to those who serve from it, and to the auditor who recomputes with it.

Knows nothing of HTTP, of torch or of any particular model.
"""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from lydite.engines.buckets import Answer
from lydite.evidence.tokens.sampling import Sampling

FinishReason = Literal["stop", "length"]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One answer to make."""

    request_id: str
    prompt_ids: tuple[int, ...]
    sampling: Sampling
    seed: int
    """Of the noise; whoever serves has settled it."""
    noise_position: int
    """The position that the first output token takes its noise from: prompt length - 1."""
    top_logprobs: int | None = None
    """How many alternatives to report beside each token's own log-probability; None: neither."""
    tapped: bool = False
    """Whether pieces bring the states that their tokens were drawn from."""


class TokenLogprobs(msgspec.Struct, frozen=True, kw_only=True):
    """What the unfiltered model at temperature 1 thought of one token, in nats."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]
    """The most probable tokens, best first."""


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an answer: whole characters, and the tokens that they complete."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...] = ()
    """One for each token if the job asked for them."""
    states: NDArray[np.float32] | None = None
    """What the output layer was given for each token, after the final norm; shape (tokens, width).
    Only if the job asked for it."""
    inner: NDArray[np.float32] | None = None
    """Likewise what comes out of the layers at a quarter, a half and three quarters of the depth;
    shape (3, tokens, width). Only if the job asked for it and the engine was made to show it."""
    finish_reason: FinishReason | None = None
    """Set on the last piece alone."""


class Recomputed(NamedTuple):
    """What the declared model makes of an answer, position by position."""

    logits: NDArray[np.float32]
    """That each output token was drawn from, in nats; shape (output tokens, vocabulary)."""
    states: NDArray[np.float32]
    """What the output layer was given for each, after the final norm; shape (tokens, width)."""
    inner: NDArray[np.float32] | None = None
    """Of the layers at a quarter, a half and three quarters of the depth, if the engine was made to
    show them; shape (3, tokens, width)."""


class Codec(Protocol):
    """How text becomes tokens and back."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a plain prompt, with whatever the tokenizer puts before it."""
        ...

    def render_chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """Return the ids of a conversation, up to where the assistant's answer begins."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``, special tokens left out."""
        ...

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes that one token stands for, possibly a part of a character."""
        ...


class Engine(Protocol):
    """A model that answers."""

    context_length: int
    """The most tokens that prompt and answer may have together."""
    vocabulary: int
    """How many token ids there are."""

    @property
    def codec(self) -> Codec:
        """The tokenizer and chat template that belong to the model."""
        ...

    def is_end(self, token: int) -> bool:
        """Say whether ``token`` ends an answer."""
        ...

    def generate(self, job: Job) -> AsyncGenerator[Piece, None]:
        """Answer ``job`` piece by piece; closing the generator cancels the work."""
        ...

    def recompute(self, prompt_ids: Sequence[int], output_ids: Sequence[int]) -> Recomputed:
        """Return logits and states of every output token, in one teacher-forced pass."""
        ...

    def recompute_all(
        self, answers: Sequence[Answer], *, sharing: bool = True
    ) -> Iterator[tuple[int, Recomputed]]:
        """Yield ``recompute`` of every answer, with its place, in an order of the engine's own.

        With ``sharing``, what prompts begin with alike may be computed once for all of them: then
        last digits depend on who else is there. An engine may hold as many results at a time as it
        likes, but not all of many.

        Raises:
            FormatError: one of them cannot be recomputed; the others then may be missing.
        """
        ...


def one_by_one(engine: Engine, answers: Sequence[Answer]) -> Iterator[tuple[int, Recomputed]]:
    """Yield what ``Engine.recompute_all`` yields, the obvious way."""
    for place, answer in enumerate(answers):
        yield place, engine.recompute(answer.prompt_ids, answer.output_ids)
