"""``python -m lydite.laboratory.serve --cheat NAME``: a cheating provider on a real port.

Says of itself what the honest server of the declared model would say.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from lydite.engines.listening import serve
from lydite.engines.serve import add_options, exit_code, sketcher_of
from lydite.engines.server import create_app
from lydite.engines.weights import measure
from lydite.laboratory.cheats import CHEATS, Workshop


def run(options: argparse.Namespace) -> int:
    """Serve until a signal says otherwise; return the exit code."""
    torch.set_num_threads(options.threads)
    name = options.name or options.model.resolve().name
    workshop = Workshop(
        model=options.model,
        small_model=options.small_model,
        dtype=options.dtype,
        max_batch=options.max_batch,
    )
    root = measure(options.model).root
    engine = CHEATS[options.cheat](workshop)
    app = create_app(engine, name, sketcher=sketcher_of(options, root))
    asyncio.run(serve(app, options.host, options.port, name, root))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description="Serve a model the way a cheating provider would.")
    add_options(parser)
    parser.add_argument("--cheat", choices=list(CHEATS), required=True, help="how to cheat")
    parser.add_argument("--small-model", type=Path, required=True, help="what it may use instead")
    options = parser.parse_args(arguments)
    return exit_code(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
