"""``python -m tests.recomputer.bigram_engine --noise N``: a model server that starts at once.

With noise it serves other weights than it declares. ``--slow`` streams a letter every 20 ms.
"""

import argparse
import asyncio
from collections.abc import AsyncGenerator

import msgspec

from lydite.engines.listening import serve
from lydite.engines.protocol import Job, Piece
from lydite.engines.server import create_app
from lydite.laboratory.bigram import Bigram


class Slow(Bigram):
    async def generate(self, job: Job) -> AsyncGenerator[Piece, None]:
        async for piece in super().generate(job):
            for letter, token in zip(piece.text, piece.token_ids, strict=True):
                await asyncio.sleep(0.02)
                yield Piece(text=letter, token_ids=(token,))
            yield msgspec.structs.replace(piece, text="", token_ids=())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    model = Slow() if options.slow else Bigram(noise=options.noise)
    app = create_app(model, "bigram")
    asyncio.run(serve(app, "127.0.0.1", options.port, "bigram", Bigram().weights_root))


if __name__ == "__main__":
    main()
