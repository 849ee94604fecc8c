"""``python -m lydite.laboratory.serve --cheat NAME``: a cheating provider on a real port.

Says of itself what the honest server of the declared model would say.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from lydite.engines.serve import parser, serve
from lydite.engines.server import create_app
from lydite.engines.weights import measure
from lydite.errors import LyditeError
from lydite.laboratory.cheats import CHEATS, Workshop


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    command = parser("Serve a declared model the way a cheating provider would.")
    command.add_argument("--cheat", choices=list(CHEATS), required=True)
    command.add_argument("--small-model", type=Path, required=True, help="what it may use instead")
    options = command.parse_args(arguments)
    torch.set_num_threads(options.threads)
    name = options.name or options.model.resolve().name
    workshop = Workshop(
        model=options.model,
        small_model=options.small_model,
        dtype=options.dtype,
        max_batch=options.max_batch,
    )
    try:
        app = create_app(CHEATS[options.cheat](workshop), name)
        root = measure(options.model).root
    except LyditeError as error:
        sys.stderr.write(f"lydite: error: {error}\n")
        return 2
    asyncio.run(serve(app, options.host, options.port, name, root))
    return 0


if __name__ == "__main__":
    sys.exit(main())
