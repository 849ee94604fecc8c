"""A stack in this process: a model directory in a given data type, batch, number of threads.

The one place that knows how a transformers model is run and tapped. Knows nothing of passports.
"""

import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from lydite.engines.codec import DirectoryCodec
from lydite.engines.transformers_engine import Dtype, TransformersEngine, load_model
from lydite.messages.stack import Stack
from lydite.numerics.measuring import threads

ENGINE = "lydite transformers"
"""What a declaration calls an engine in this process."""
NAMES: Mapping[Dtype, str] = {"bf16": "bfloat16", "fp32": "float32"}
"""What a declaration calls a data type."""
Attention = Literal["sdpa", "eager"]


class Way(NamedTuple):
    """How a model is run in this process."""

    dtype: Dtype = "bf16"
    batch: int = 16
    threads: int = 1
    attention: Attention = "sdpa"

    def stack(self) -> Stack:
        """Return the stack that this is, on this machine."""
        return Stack(
            engine=ENGINE,
            version=transformers.__version__,
            dtype=NAMES[self.dtype],
            cache_dtype=NAMES[self.dtype],
            kernels=self.attention,
            architecture=platform.machine(),
            parallelism=threads(self.threads),
            batch=f"batch {self.batch}",
            shape="decode",
            decoding="sequential",
            sampler="lydite/v1",
        )


class Local(NamedTuple):
    """A running engine, and what makes logits of the states that it taps."""

    engine: TransformersEngine
    head: Callable[[NDArray[np.float32]], NDArray[np.float32]]


def start(directory: Path, way: Way, *, inner: bool = False) -> Local:
    """Load the model in ``directory`` and run it as ``way`` says; ``inner`` shows inner states.

    Raises:
        ConfigurationError: the directory holds no model.
    """
    torch.set_num_threads(way.threads)
    model = load_model(directory, way.dtype)
    if way.attention != "sdpa":
        model.set_attn_implementation(way.attention)
    engine = TransformersEngine(model, DirectoryCodec(directory), way.batch, inner=inner)
    return Local(engine, head_of(model))


def head_of(model: Any) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return what the output layer of ``model`` makes of states, shape (tokens, width)."""
    layer = model.get_output_embeddings()

    def head(states: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            rows: NDArray[np.float32] = (
                layer(torch.from_numpy(states).to(layer.weight.dtype)).float().numpy()
            )
        return rows

    return head
