"""The smallest language model there is: what follows depends on the last token alone.

A real engine in numpy, quick enough for thousands of answers a second, so that tests of whole
deployments need no other model. Knows nothing of HTTP.
"""

import hashlib
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lydite.engines.buckets import Answer
from lydite.engines.protocol import Job, Piece, Recomputed, one_by_one
from lydite.evidence.tokens.attester import sample
from lydite.evidence.tokens.sampling import Sampling

ALPHABET = "abcdefghijklmnopqrstuvwxyz .,:;\n"


class Letters:
    """A codec whose tokens are the letters of ``ALPHABET``; other letters become spaces."""

    def encode(self, text: str) -> list[int]:
        """Return one token a letter."""
        return [max(ALPHABET.find(letter), 0) if letter in ALPHABET else 26 for letter in text]

    def render_chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """Return the messages' contents, each closed by a newline."""
        return self.encode("".join(f"{message['content']}\n" for message in messages))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the letters."""
        return "".join(ALPHABET[each] for each in ids)

    def token_bytes(self, token: int) -> bytes:
        """Return a letter's byte."""
        return ALPHABET[token].encode()


class Bigram:
    """Logits of the next letter by the last one, drawn once from ``seed`` in nats."""

    def __init__(self, seed: int = 0, noise: float = 0.0) -> None:
        self.codec = Letters()
        self.context_length = 4096
        self.vocabulary = len(ALPHABET)
        table = np.random.default_rng(seed).normal(0.0, 1.5, (self.vocabulary,) * 2)
        if noise:
            table += np.random.default_rng(seed + 1).normal(0.0, noise, table.shape)
        self._table = table.astype(np.float32)

    @property
    def weights_root(self) -> str:
        """SHA-256 of the table, which is all of the weights."""
        return hashlib.sha256(self._table.tobytes()).hexdigest()

    def is_end(self, token: int) -> bool:
        """Say no: a bigram writes until it is stopped."""
        return token >= self.vocabulary

    def answer(self, prompt_ids: Sequence[int], sampling: Sampling, seed: int) -> list[int]:
        """Return ``sampling.max_tokens`` tokens after the prompt, sixteen if it names no limit."""
        ids = list(prompt_ids)
        for position in range(len(ids) - 1, len(ids) - 1 + (sampling.max_tokens or 16)):
            ids.append(sample(self._table[ids[-1]], sampling, seed, position))
        return ids[len(prompt_ids) :]

    async def generate(self, job: Job) -> AsyncGenerator[Piece, None]:
        """Answer in one piece."""
        ids = self.answer(job.prompt_ids, job.sampling, job.seed)
        text = self.codec.decode(ids)
        yield Piece(text=text, token_ids=tuple(ids), finish_reason="length")

    def recompute(self, prompt_ids: Sequence[int], output_ids: Sequence[int]) -> Recomputed:
        """Return logits behind each output token, and as its state the letter before, one-hot."""
        before = [prompt_ids[-1], *output_ids][: len(output_ids)]
        return Recomputed(self._table[before], np.eye(self.vocabulary, dtype=np.float32)[before])

    def recompute_all(
        self,
        answers: Sequence[Answer],
        *,
        sharing: bool = True,  # noqa: ARG002 - there is nothing to share
    ) -> Iterator[tuple[int, Recomputed]]:
        """Yield the same of every answer."""
        return one_by_one(self, answers)
