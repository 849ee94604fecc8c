"""One model directory behind an OpenAI-compatible port: ``lydite engine``.

Prints one JSON line on standard output once it answers, then serves until it is interrupted.
Imports what it serves with only when it runs, so that its options can be read without torch.
"""

import argparse
import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lydite.engines.weights import measure
from lydite.errors import LyditeError

if TYPE_CHECKING:
    from lydite.engines.sketching import Sketcher


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every server of a model directory takes."""
    parser.add_argument("--model", type=Path, required=True, help="a model directory")
    parser.add_argument("--name", help="what to call the model; its directory's name if absent")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--port", type=int, default=0, help="0 lets the system choose")
    parser.add_argument("--dtype", choices=["bf16", "fp32"], default="bf16", help="of the weights")
    parser.add_argument("--max-batch", type=int, default=16, help="answers decoded together")
    parser.add_argument("--threads", type=int, default=1, help="processor threads for the model")
    parser.add_argument(
        "--sketch",
        type=int,
        choices=[0, 2, 4],
        help="bytes a token of the sketch that every answer carries; 0: none",
    )
    parser.add_argument("--sketch-delta", help="its step, a decimal, if there is no reference")
    parser.add_argument(
        "--sketch-reference",
        type=Path,
        help="Reference Value of activations: whose spec and declared weights sketches are for",
    )


def sketcher_of(options: argparse.Namespace, measured: str) -> "Sketcher | None":
    """Return how the options say to sketch a model whose own root is ``measured``.

    Raises:
        ConfigurationError: they do not make one spec.
    """
    from lydite.engines import sketching

    return sketching.load(
        measured=measured,
        bytes_per_token=options.sketch,
        delta=options.sketch_delta,
        reference=options.sketch_reference,
    )


def run(options: argparse.Namespace) -> int:
    """Serve until a signal says otherwise; return the exit code.

    Raises:
        ConfigurationError: the directory holds no model, or the port cannot be had.
    """
    name = options.name or options.model.resolve().name
    root = measure(options.model).root
    import torch

    from lydite.engines.listening import serve
    from lydite.engines.server import create_app
    from lydite.engines.transformers_engine import TransformersEngine

    torch.set_num_threads(options.threads)
    sketcher = sketcher_of(options, root)
    inner = sketcher is not None and bool(sketcher.spec.inner_deltas)
    engine = TransformersEngine.load(options.model, options.dtype, options.max_batch, inner=inner)
    app = create_app(engine, name, sketcher=sketcher)
    asyncio.run(serve(app, options.host, options.port, name, root))
    engine.close()
    return 0


def exit_code(command: Callable[[], int]) -> int:
    """Run ``command``; turn what we foresaw into one line on standard error."""
    try:
        return command()
    except LyditeError as error:
        sys.stderr.write(f"lydite: error: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130


def main() -> int:
    """Run ``python -m lydite.engines.serve``; return its exit code."""
    parser = argparse.ArgumentParser(description="Serve a model directory over OpenAI's interface.")
    add_options(parser)
    options = parser.parse_args()
    return exit_code(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
