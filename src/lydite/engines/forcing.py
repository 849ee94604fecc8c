"""Several answers recomputed together: teacher-forced passes over padded batches.

What prompts share is computed once and its keys and values serve all; logits are made for output
tokens alone. Padding stands right of an answer and attention is taken answer by answer, over what
is not padding: everything else in a model looks at one position at a time. So answers know nothing
of one another, and come out to the last digit as they would alone wherever matrix products give a
row the same digits whatever stands around it; with a shared beginning, up to the order of sums.
Knows nothing of HTTP, of tokenizers or of verdicts.
"""

import copy
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch
from torch.overrides import TorchFunctionMode
from transformers import DynamicCache

from lydite.engines.batching import Tap
from lydite.engines.buckets import Answer, Limits, plan
from lydite.engines.protocol import Recomputed

_Places = tuple[torch.Tensor, torch.Tensor]
_attention: Final = torch.nn.functional.scaled_dot_product_attention


class Picker:
    """Lets a model's output layer see chosen positions only, in passes of the thread that chose."""

    def __init__(self, model: Any) -> None:
        self._chosen = threading.local()
        self._hook = model.get_output_embeddings().register_forward_pre_hook(self._pick)

    def choose(self, places: _Places) -> None:
        """Of the next pass, keep these rows and columns, one after the other."""
        self._chosen.places = places

    def remove(self) -> None:
        """Let the model go."""
        self._hook.remove()

    def _pick(self, _module: Any, inputs: tuple[torch.Tensor, ...]) -> Any:
        places = getattr(self._chosen, "places", None)
        if places is None:
            return None
        self._chosen.places = None
        return (inputs[0][places][None],)


class Apart(TorchFunctionMode):
    """Takes the attention of each row over its own columns alone, whatever pads it on the right.

    Kernels sum in blocks that depend on how many columns there are, so padding would show in the
    last digits.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        """Take rows of ``lengths`` queries each, padded to the longest."""
        super().__init__()
        self._lengths = lengths

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call ``func``; attention row by row."""
        named = dict(kwargs or {})
        if func is not _attention:
            return func(*args, **named)
        query, key, value = args
        mask = named.pop("attn_mask", None)
        result = torch.zeros_like(query[..., : value.shape[-1]])
        for row, length in enumerate(self._lengths):
            here, seen = slice(row, row + 1), key.shape[-2] - query.shape[-2] + length
            masked = None if mask is None else _of_row(mask, row)[..., :length, :seen]
            result[here, :, :length] = _attention(
                query[here, :, :length],
                key[here, :, :seen],
                value[here, :, :seen],
                attn_mask=masked,
                **named,
            )
        return result


def _of_row(mask: torch.Tensor, row: int) -> torch.Tensor:
    return mask[row : row + 1] if mask.shape[0] > 1 else mask


def recomputed(
    model: Any, answers: Sequence[Answer], limits: Limits, *, inner: bool
) -> Iterator[tuple[int, Recomputed]]:
    """Yield what the model makes of each answer, with the answer's place, pass by pass.

    Every answer has a prompt and an output, and fits into the context: the caller has seen to it.
    """
    picker = Picker(model)  # before the tap, which is to see what was picked
    tap = Tap(model, inner=inner)
    try:
        for group in plan(answers, limits):
            cache = _beginning(model, answers[group.passes[0][0]].prompt_ids[: group.shared])
            for places in group.passes:
                some = [answers[place] for place in places]
                found = _pass(model, (picker, tap), some, group.shared, cache)
                yield from zip(places, found, strict=True)
    finally:
        tap.remove()
        picker.remove()


@torch.inference_mode()
def _beginning(model: Any, shared: Sequence[int]) -> Any:
    """Return keys and values of what all answers of a group begin with, None if that is nothing."""
    if not shared:
        return None
    cache = DynamicCache()
    model(input_ids=torch.tensor([list(shared)]), past_key_values=cache, logits_to_keep=1)
    return cache


@torch.inference_mode()
def _pass(
    model: Any, ears: tuple[Picker, Tap], answers: Sequence[Answer], shared: int, cache: Any
) -> list[Recomputed]:
    picker, tap = ears
    ids = [[*one.prompt_ids, *one.output_ids][shared:-1] for one in answers]
    width = max(map(len, ids))
    # Padded with what the answer itself ends with: no number that it does not bring along.
    padded = torch.tensor([row + row[-1:] * (width - len(row)) for row in ids])
    counts = [len(one.output_ids) for one in answers]
    rows = torch.repeat_interleave(torch.tensor(counts))
    columns = torch.cat(
        [torch.arange(len(row) - n, len(row)) for row, n in zip(ids, counts, strict=True)]
    )
    picker.choose((rows, columns))
    held = None if cache is None else _for_each(cache, len(answers))
    with Apart([len(row) for row in ids]):
        output = model(input_ids=padded, past_key_values=held, use_cache=held is not None)
    inner = None if tap.inner is None else tap.inner.transpose(0, 1)[:, rows, columns]
    parts = zip(
        torch.split(output.logits[0].float(), counts),
        torch.split(tap.states[0].float(), counts),
        [None] * len(counts) if inner is None else torch.split(inner.float(), counts, dim=1),
        strict=True,
    )
    return [
        Recomputed(one.numpy(), state.numpy(), None if deep is None else deep.numpy())
        for one, state, deep in parts
    ]


def _for_each(cache: Any, answers: int) -> Any:
    """Return the keys and values of one beginning as those of several answers; grows apart."""
    fresh = copy.copy(cache)
    fresh.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in fresh.layers:
        layer.keys = layer.keys.expand(answers, -1, -1, -1)
        layer.values = layer.values.expand(answers, -1, -1, -1)
    return fresh
