"""Let the declared model answer as honest providers run it: what calibrations begin with.

Knows nothing of scores. Named by every Reference Value that is made from such answers.
"""

import platform
from collections.abc import Sequence

import torch
import transformers
from derive_reference import MODELS, Cell

from lydite.engines.codec import DirectoryCodec
from lydite.engines.transformers_engine import TransformersEngine, load_model
from lydite.evidence.tokens.claims import Claims
from lydite.evidence.tokens.sampling import Sampling
from lydite.laboratory.streams import Question, ask, seed_of


def run_cell(
    name: str, cell: Cell, ids: Sequence[tuple[int, ...]], decoded: list[torch.Tensor]
) -> list[Claims]:
    """Answer the cell's share of prompts; a batch of one also leaves the logits it drew from."""
    torch.set_num_threads(cell.threads)
    model = load_model(MODELS / name, cell.dtype)
    if cell.batch == 1:
        model.register_forward_hook(
            lambda _module, _inputs, output: decoded.append(output.logits[0, -1].float().clone())
        )
    engine = TransformersEngine(model, DirectoryCodec(MODELS / name), cell.batch)
    torch.set_num_threads(1)
    try:
        return ask(engine, questions(cell.name, cell.sampling, ids, cell.answers))
    finally:
        engine.close()


def questions(
    label: str, sampling: Sampling, ids: Sequence[tuple[int, ...]], count: int
) -> list[Question]:
    """Return ``count`` questions: the prompts in turn, each with a seed of its own."""
    start = seed_of(label) % len(ids)
    return [
        Question(ids[(start + i) % len(ids)], sampling, seed_of(label, i)) for i in range(count)
    ]


def versions() -> list[str]:
    """Return the software that the scores hang on."""
    return [
        f"python {platform.python_version()}",
        f"torch {torch.__version__}",
        f"transformers {transformers.__version__}",
    ]
