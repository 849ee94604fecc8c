"""``python -m lydite.laboratory.leak``: a model server that can be made to carry a secret out.

Honest until the file that it is told to watch is there; from then on every answer says bits of a
secret, hidden in which of the likeliest tokens comes. For the gateway's demonstration and tests.
"""

import argparse
import asyncio
import hashlib
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path

import torch

from lydite.engines.listening import serve
from lydite.engines.protocol import Job, Piece
from lydite.engines.serve import add_options, exit_code
from lydite.engines.server import create_app
from lydite.engines.transformers_engine import TransformersEngine, load_model
from lydite.engines.weights import measure
from lydite.laboratory.cheats.fronts import Front
from lydite.laboratory.exfiltration import METHODS, Method, Model
from lydite.laboratory.streams import Question

METHOD = "top-4 at every token"


def secret_of(seed: int) -> bytes:
    """Return the part of the secret that the answer with this seed carries."""
    return hashlib.shake_256(b"secret" + seed.to_bytes(8)).digest(512)


class Leak(Front):
    """Answers as ``inner`` would, or with a secret inside while ``sign`` exists."""

    def __init__(
        self, inner: TransformersEngine, model: Model, method: Callable[[], Method], sign: Path
    ) -> None:
        super().__init__(inner)
        self._model = model
        self._method = method
        self._sign = sign

    async def generate(self, job: Job) -> AsyncGenerator[Piece, None]:
        """Answer ``job``; a secret is said all at once, after the model has run."""
        if not self._sign.exists():
            async for piece in self._inner.generate(job):
                yield piece
            return
        question = Question(job.prompt_ids, job.sampling, job.seed)
        ids = await asyncio.to_thread(self._say, question)
        ended = bool(ids) and self.is_end(ids[-1])
        text = self.codec.decode(ids[:-1] if ended else ids)
        yield Piece(text=text, token_ids=tuple(ids), finish_reason="stop" if ended else "length")

    def _say(self, question: Question) -> Sequence[int]:
        [sent], _ = self._model.send(self._method, [question], secret_of(question.seed))
        return sent.output_ids


def run(options: argparse.Namespace) -> int:
    """Serve until a signal says otherwise; return the exit code."""
    torch.set_num_threads(options.threads)
    name = options.name or options.model.resolve().name
    engine = TransformersEngine.load(options.model, options.dtype, options.max_batch)
    model = Model(load_model(options.model, options.dtype), engine)
    leak = Leak(engine, model, METHODS[METHOD], options.secret)
    root = measure(options.model).root
    asyncio.run(serve(create_app(leak, name), options.host, options.port, name, root))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description="Serve a model that can carry a secret out.")
    add_options(parser)
    parser.add_argument("--secret", type=Path, required=True, help="while it exists, leak")
    options = parser.parse_args(arguments)
    return exit_code(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
