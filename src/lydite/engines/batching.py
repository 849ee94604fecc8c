"""Continuous batching: several answers decoded together, each joining and leaving as it likes.

One thread owns the model. A new answer is prefilled alone and then joins the batch; the rows are
aligned at their ends, so every row's next token falls into the same column of the key-value
cache, and what lies left of a shorter row is masked. Knows nothing of HTTP or of text.
"""

import queue
import threading
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch.nn.functional import pad
from transformers import DynamicCache

from lydite.errors import LyditeError, Reason, UnavailableError


class Row(Protocol):
    """One answer, as the batch sees it. Called from the batch's thread alone."""

    prompt_ids: tuple[int, ...]

    def cancelled(self) -> bool:
        """Say whether nobody waits for the answer any more."""
        ...

    def choose(self, logits: torch.Tensor) -> int | None:
        """Draw the next token from ``logits``, shape (vocabulary,); None ends the answer."""
        ...

    def fail(self, error: LyditeError) -> None:
        """Learn that no further token will come."""
        ...


class Batch:
    """The rows being decoded, and their keys and values."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._cache: Any = None
        self._lengths: list[int] = []
        self._tokens: list[int] = []
        self.rows: list[Row] = []

    @torch.inference_mode()
    def join(self, row: Row) -> None:
        """Prefill ``row`` alone, draw its first token, and let it join the others."""
        cache = DynamicCache()
        prompt = torch.tensor([row.prompt_ids])
        output = self._model(input_ids=prompt, past_key_values=cache, logits_to_keep=1)
        token = row.choose(output.logits[0, -1].float())
        if token is None:
            return
        self._merge(cache, prompt.shape[1])
        self._lengths.append(prompt.shape[1])
        self._tokens.append(token)
        self.rows.append(row)

    @torch.inference_mode()
    def step(self) -> None:
        """Draw one more token for every row; let go of those that end."""
        width = max(self._lengths) + 1
        lengths = torch.tensor(self._lengths)[:, None]
        output = self._model(
            input_ids=torch.tensor(self._tokens)[:, None],
            attention_mask=(torch.arange(width) >= width - 1 - lengths).long(),
            position_ids=lengths,
            past_key_values=self._cache,
        )
        drawn = [
            row.choose(one)
            for row, one in zip(self.rows, output.logits[:, -1].float(), strict=True)
        ]
        self._lengths = [length + 1 for length in self._lengths]
        self._keep([index for index, token in enumerate(drawn) if token is not None], drawn)

    def drop_cancelled(self) -> None:
        """Let go of the rows that nobody waits for."""
        staying = [index for index, row in enumerate(self.rows) if not row.cancelled()]
        self._keep(staying, list(self._tokens))

    def fail(self, error: LyditeError) -> None:
        """Give up every row."""
        for row in self.rows:
            row.fail(error)
        self._keep([], [])

    def _keep(self, staying: list[int], tokens: list[int | None]) -> None:
        self._tokens = [token for index in staying if (token := tokens[index]) is not None]
        if len(staying) == len(self.rows):
            return
        self.rows = [self.rows[index] for index in staying]
        self._lengths = [self._lengths[index] for index in staying]
        if not staying:
            self._cache = None
            return
        chosen, width = torch.tensor(staying), max(self._lengths)
        for layer in self._cache.layers:
            layer.keys = layer.keys[chosen, :, -width:]
            layer.values = layer.values[chosen, :, -width:]

    def _merge(self, cache: Any, length: int) -> None:
        if self._cache is None:
            self._cache = cache
            return
        width = max(*self._lengths, length)
        for ours, new in zip(self._cache.layers, cache.layers, strict=True):
            ours.keys = torch.cat([_widen(ours.keys, width), _widen(new.keys, width)])
            ours.values = torch.cat([_widen(ours.values, width), _widen(new.values, width)])


def _widen(states: torch.Tensor, width: int) -> torch.Tensor:
    return pad(states, (0, 0, width - states.shape[2], 0))


class Decoder:
    """The thread that owns the model and keeps the batch going."""

    def __init__(self, model: Any, max_batch: int, after_step: Callable[[], None]) -> None:
        """Start the thread; ``after_step`` is called in it whenever rows may have moved on."""
        self._batch = Batch(model)
        self._max_batch = max_batch
        self._after_step = after_step
        self._waiting: queue.SimpleQueue[Row | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._threads = torch.get_num_threads()
        self._thread = threading.Thread(target=self._run, name="lydite-decoder", daemon=True)
        self._thread.start()

    def submit(self, row: Row) -> None:
        """Let ``row`` be decoded as soon as there is room."""
        self._waiting.put(row)

    def close(self) -> None:
        """Finish the current step, give up what is unfinished, and end the thread."""
        self._closing.set()
        self._waiting.put(None)  # wakes a thread that sleeps
        self._thread.join()

    def _run(self) -> None:
        torch.set_num_threads(self._threads)  # OpenMP keeps one number for each thread
        while self._admit():
            try:
                self._batch.drop_cancelled()
                if self._batch.rows:
                    self._batch.step()
            except RuntimeError as error:  # torch's: out of memory, an unsupported operation
                self._batch.fail(UnavailableError(f"model: {error}", Reason.UPSTREAM_FAILED))
            self._after_step()
        self._batch.fail(UnavailableError("the engine was closed", Reason.UPSTREAM_FAILED))
        self._after_step()

    def _admit(self) -> bool:
        """Let waiting rows join, sleeping if there is nothing else to do; False ends the thread."""
        while len(self._batch.rows) < self._max_batch:
            try:
                row = self._waiting.get(block=not self._batch.rows)
            except queue.Empty:
                return not self._closing.is_set()
            if row is None or self._closing.is_set():
                return False
            if row.cancelled():
                continue
            try:
                self._batch.join(row)
            except RuntimeError as error:
                row.fail(UnavailableError(f"model: {error}", Reason.UPSTREAM_FAILED))
            self._after_step()
        return not self._closing.is_set()
