"""Continuous batching: several answers decoded together, each joining and leaving as it likes.

One thread owns the model. New answers are prefilled apart and then join the batch; the rows are
aligned at their ends, so every row's next token falls into the same column of the key-value
cache, and what lies left of a shorter row is masked. Knows nothing of HTTP or of text.
"""

import functools
import queue
import threading
from collections.abc import Callable, Sequence
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

    def choose(
        self, logits: torch.Tensor, state: torch.Tensor, inner: torch.Tensor | None
    ) -> int | None:
        """Draw the next token from ``logits``, shape (vocabulary,); None ends the answer.

        ``state``, shape (width,), is what the output layer was given; ``inner``, shape (3, width),
        what came out of the layers at three quarter depths, if the tap shows them.
        """
        ...

    def fail(self, error: LyditeError) -> None:
        """Learn that no further token will come."""
        ...


class Tap:
    """Keeps what a model's output layer was last given: the states after the final norm.

    With ``inner`` also what came out of the layers at a quarter, a half and three quarters of the
    depth. Each thread sees the states of its own passes.
    """

    def __init__(self, model: Any, *, inner: bool = False) -> None:
        self._seen = threading.local()
        self._hooks = [model.get_output_embeddings().register_forward_pre_hook(self._keep)]
        layers = model.get_decoder().layers if inner else []
        self._depths = [max(len(layers) * quarter // 4, 1) - 1 for quarter in (1, 2, 3) if layers]
        for place, depth in enumerate(self._depths):
            hook = functools.partial(self._keep_inner, place)
            self._hooks.append(layers[depth].register_forward_hook(hook))

    @property
    def states(self) -> torch.Tensor:
        """Of the last pass of this thread; shape (rows, columns, width)."""
        states: torch.Tensor = self._seen.states
        return states

    @property
    def inner(self) -> torch.Tensor | None:
        """At the inner depths, shape (rows, 3, columns, width); None if they are not tapped."""
        if not self._depths:
            return None
        return torch.stack([getattr(self._seen, f"inner{i}") for i in range(3)], dim=1)

    def remove(self) -> None:
        """Let the model go."""
        for hook in self._hooks:
            hook.remove()

    def _keep(self, _module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        self._seen.states = inputs[0]

    def _keep_inner(self, place: int, _module: Any, _inputs: Any, output: Any) -> None:
        setattr(self._seen, f"inner{place}", output[0] if isinstance(output, tuple) else output)


class Batch:
    """The rows being decoded, and their keys and values."""

    def __init__(self, model: Any, tap: Tap) -> None:
        self._model = model
        self._tap = tap
        self._cache: Any = None
        self._lengths: list[int] = []
        self._tokens: list[int] = []
        self.rows: list[Row] = []

    @torch.inference_mode()
    def join(self, rows: Sequence[Row]) -> None:
        """Prefill ``rows`` together, draw their first tokens, and let them join the others."""
        lengths = [len(row.prompt_ids) for row in rows]
        prompts = torch.zeros(len(rows), max(lengths), dtype=torch.long)
        for prompt, row in zip(prompts, rows, strict=True):
            prompt[-len(row.prompt_ids) :] = torch.tensor(row.prompt_ids)
        fresh = Batch(self._model, self._tap)
        fresh._cache, fresh._lengths, fresh.rows = DynamicCache(), lengths, list(rows)
        fresh._keep(fresh._draw(prompts))
        if fresh.rows:
            self._merge(fresh)

    @torch.inference_mode()
    def step(self) -> None:
        """Draw one more token for every row; let go of those that end."""
        self._lengths = [length + 1 for length in self._lengths]
        self._keep(self._draw(torch.tensor(self._tokens)[:, None]))

    def drop_cancelled(self) -> None:
        """Let go of the rows that nobody waits for."""
        pairs = zip(self._tokens, self.rows, strict=True)
        self._keep([None if row.cancelled() else token for token, row in pairs])

    def fail(self, error: LyditeError) -> None:
        """Give up every row."""
        for row in self.rows:
            row.fail(error)
        self._keep([None] * len(self.rows))

    def _draw(self, tokens: torch.Tensor) -> list[int | None]:
        """Let every row choose after its last ``tokens``, shape (rows, columns)."""
        lengths = torch.tensor(self._lengths)[:, None]
        columns = torch.arange(int(lengths.max()))
        places = columns - (len(columns) - lengths)  # negative left of where a row begins
        output = self._model(
            input_ids=tokens,
            attention_mask=(places >= 0).long(),
            position_ids=places.clamp_min(0)[:, -tokens.shape[1] :],
            past_key_values=self._cache,
            logits_to_keep=1,
        )
        logits = output.logits[:, -1].float()
        inner = self._tap.inner
        deeper = [None] * len(self.rows) if inner is None else inner[:, :, -1]
        given = zip(self.rows, logits, self._tap.states[:, -1], deeper, strict=True)
        return [row.choose(one, state, depths) for row, one, state, depths in given]

    def _keep(self, tokens: Sequence[int | None]) -> None:
        """Keep the rows that have a last token, and it."""
        self._tokens = [token for token in tokens if token is not None]
        if len(self._tokens) == len(self.rows):
            return
        staying = [index for index, token in enumerate(tokens) if token is not None]
        self.rows = [self.rows[index] for index in staying]
        self._lengths = [self._lengths[index] for index in staying]
        if not staying:
            self._cache = None
            return
        chosen, width = torch.tensor(staying), max(self._lengths)
        for layer in self._cache.layers:
            layer.keys = layer.keys[chosen, :, -width:]
            layer.values = layer.values[chosen, :, -width:]

    def _merge(self, fresh: "Batch") -> None:
        if self._cache is None:
            self._cache = fresh._cache
        else:
            width = max(*self._lengths, *fresh._lengths)
            pairs = zip(self._cache.layers, fresh._cache.layers, strict=True)
            joined = [
                (_stack(ours.keys, new.keys, width), _stack(ours.values, new.values, width))
                for ours, new in pairs
            ]  # all of it before any of it is put in place: memory may run out
            for layer, (keys, values) in zip(self._cache.layers, joined, strict=True):
                layer.keys, layer.values = keys, values
        self.rows += fresh.rows
        self._tokens += fresh._tokens
        self._lengths += fresh._lengths


def _stack(above: torch.Tensor, below: torch.Tensor, width: int) -> torch.Tensor:
    """Return the rows of both, aligned at their ends, ``width`` columns wide."""
    return torch.cat([pad(one, (0, 0, width - one.shape[2], 0)) for one in (above, below)])


class Decoder:
    """The thread that owns the model and keeps the batch going."""

    def __init__(
        self, model: Any, max_batch: int, after_step: Callable[[], None], *, inner: bool = False
    ) -> None:
        """Start the thread; ``after_step`` is called in it whenever rows may have moved on."""
        self._tap = Tap(model, inner=inner)
        self._batch = Batch(model, self._tap)
        self._max_batch = max_batch
        self._after_step = after_step
        self._waiting: queue.SimpleQueue[Row | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._threads = torch.get_num_threads()
        self._thread = threading.Thread(target=self._run, name="lydite-decoder", daemon=True)
        self._thread.start()

    def submit(self, row: Row) -> None:
        """Let ``row`` be decoded as soon as there is room.

        Raises:
            UnavailableError: the decoder was closed.
        """
        if self._closing.is_set():
            raise UnavailableError("the engine was closed", Reason.UPSTREAM_FAILED)
        self._waiting.put(row)

    def close(self) -> None:
        """Finish the current step, give up what is unfinished, and end the thread."""
        self._closing.set()
        self._waiting.put(None)  # wakes a thread that sleeps
        self._thread.join()
        self._tap.remove()

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
        closed = UnavailableError("the engine was closed", Reason.UPSTREAM_FAILED)
        self._batch.fail(closed)
        while not self._waiting.empty():
            row = self._waiting.get()
            if row is not None:
                row.fail(closed)
        self._after_step()

    def _admit(self) -> bool:
        """Let waiting rows join, sleeping if there is nothing else to do; False ends the thread."""
        arrived: list[Row] = []
        while len(self._batch.rows) + len(arrived) < self._max_batch:
            try:
                row = self._waiting.get(block=not self._batch.rows and not arrived)
            except queue.Empty:
                break
            if row is None or self._closing.is_set():
                break
            if not row.cancelled():
                arrived.append(row)
        for group in _alike(arrived):
            try:
                self._batch.join(group)
            except RuntimeError as error:
                for row in group:
                    row.fail(UnavailableError(f"model: {error}", Reason.UPSTREAM_FAILED))
            self._after_step()
        return not self._closing.is_set()


def _alike(rows: Sequence[Row]) -> list[list[Row]]:
    """Return ``rows`` in groups of which no more than half is padding."""
    groups: list[list[Row]] = []
    filled = 0
    for row in sorted(rows, key=lambda row: len(row.prompt_ids)):
        length = len(row.prompt_ids)
        if groups and length * (len(groups[-1]) + 1) <= 2 * (filled + length):
            groups[-1].append(row)
            filled += length
        else:
            groups.append([row])
            filled = length
    return groups
