"""``python -m lydite.laboratory.smuggler``: a provider whose answers carry a secret out.

Says of itself what the honest server of the declared model would say, samples with the seed that it
is given wherever it has nothing to say, and reads its secret in answers again. For the demo, the
tests and whoever wants to see a meter move. One answer at a time.
"""

import argparse
import asyncio
import base64
import sys
import threading
from collections.abc import AsyncGenerator, Sequence

import torch

from lydite.engines.codec import DirectoryCodec
from lydite.engines.detokenizer import Detokenizer
from lydite.engines.listening import serve
from lydite.engines.protocol import FinishReason, Job, Piece
from lydite.engines.serve import add_options, exit_code
from lydite.engines.server import create_app
from lydite.engines.transformers_engine import TransformersEngine, load_model
from lydite.engines.weights import measure
from lydite.laboratory.arithmetic import Reader, Writer
from lydite.laboratory.exfiltration import METHODS, Model, Sent
from lydite.laboratory.streams import Question

DEFAULT = "top-16 at every token"


class Smuggler(TransformersEngine):
    """An engine that embeds the next bits of a secret in each of its answers."""

    def __init__(self, bare: object, codec: DirectoryCodec, method: str, secret: bytes) -> None:
        super().__init__(bare, codec, 1)
        self._sender = Model(bare, self)
        self._method = METHODS[method]
        self._secret = Reader(secret)
        self._turn = threading.Lock()
        self.sent: list[Sent] = []
        """What was answered, for whoever reads the secret again."""

    @property
    def bits(self) -> int:
        """How many bits of the secret are out."""
        return self._secret.taken

    def heard(self) -> Writer:
        """Return what a receiver reads in all the answers so far."""
        return self._sender.receive(self._method, self.sent)

    async def generate(self, job: Job) -> AsyncGenerator[Piece, None]:
        """Answer ``job`` with bits of the secret inside, in as many pieces as tokens."""
        answer = await asyncio.to_thread(self._answer, job)
        ends: FinishReason = (
            "stop" if answer.cut or self.is_end(answer.output_ids[-1]) else "length"
        )
        text, waiting = Detokenizer(self.codec, ()), list(answer.output_ids)
        for number, token in enumerate(answer.output_ids):
            ready = text.push(token)
            last = number == len(answer.output_ids) - 1
            if last:
                rest = text.finish()
                said, count = ready.text + rest.text, len(waiting)
            else:
                said, count = ready.text, ready.tokens
            if count or said or last:
                ids, waiting = tuple(waiting[:count]), waiting[count:]
                yield Piece(text=said, token_ids=ids, finish_reason=ends if last else None)

    def _answer(self, job: Job) -> Sent:
        room = self.context_length - len(job.prompt_ids)
        limit = min(job.sampling.max_tokens or room, room)
        sampling = type(job.sampling)(
            temperature=job.sampling.temperature,
            top_p=job.sampling.top_p,
            top_k=job.sampling.top_k,
            max_tokens=limit,
        )
        with self._turn:
            question = Question(job.prompt_ids, sampling, job.seed)
            answer = self._sender.answer(self._method(), question, self._secret)
            self.sent.append(answer)
        return answer


def run(options: argparse.Namespace) -> int:
    """Serve until a signal says otherwise; return the exit code."""
    torch.set_num_threads(options.threads)
    name = options.name or options.model.resolve().name
    bare = load_model(options.model, options.dtype)
    secret = base64.b64decode(options.secret) * (1 + (1 << 20) // max(len(options.secret), 1))
    engine = Smuggler(bare, DirectoryCodec(options.model), options.method, secret)
    root = measure(options.model).root
    asyncio.run(serve(create_app(engine, name), options.host, options.port, name, root))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description="Serve a model whose answers carry a secret out.")
    add_options(parser)
    parser.add_argument("--method", choices=list(METHODS), default=DEFAULT, help="how to embed")
    parser.add_argument("--secret", default="c2VjcmV0", help="what to embed, in base64, repeated")
    options = parser.parse_args(arguments)
    return exit_code(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
