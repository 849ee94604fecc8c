"""``lydite example``: a whole deployment with one command, watched by a client that asks."""

import argparse
import contextlib
import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lydite.laboratory import example
from lydite.laboratory.example import Example, Options, Server
from lydite.messages.tier import Tier

_COLOURS = {"affirming": "green", "contraindicated": "red", "warning": "yellow", "none": "dim"}
_CHEATS = (
    "smaller-model",
    "int4-weights",
    "other-temperature",
    "injected-prompt",
    "replayed-answers",
    "mixed-20",
)
_PICTURE = "client → nginx → gateway → model server, twice; a recomputer asks both gateways"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite example``."""
    parser.add_argument(
        "--cheat",
        nargs="?",
        const="int4-weights",
        default=example.HONEST,
        choices=_CHEATS,
        help="have the second server cheat (without a name: int4-weights)",
    )
    parser.add_argument(
        "--enforce", action="store_true", help="shut a cheat down, not only say that one would"
    )
    parser.add_argument("--keep", action="store_true", help="leave it running, and print the URLs")
    parser.add_argument("--out", type=Path, default=Path("out/example"), help="where files go")
    parser.add_argument("--requests", type=int, default=32, help="requests in each batch")
    parser.add_argument("--models", type=Path, default=Path("models"), help="model directories")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")


def run(arguments: argparse.Namespace) -> int:
    """Run the example; exit 0 only if every verdict is right and every question was answered."""
    options = Options(
        directory=arguments.out,
        models=arguments.models,
        cheat=arguments.cheat,
        enforce=arguments.enforce,
        requests=arguments.requests,
    )
    with _view(as_json=arguments.json) as show, example.running(options, show) as state:
        code = _say(state, as_json=arguments.json)
        if arguments.keep:
            _keep(state)
    return code


def _keep(state: Example) -> None:
    print("it keeps running until you press ^C:", file=sys.stderr)
    for name, url in state.urls.items():
        print(f"  {name:<12}{url}", file=sys.stderr, flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


@contextlib.contextmanager
def _view(*, as_json: bool) -> Iterator[Callable[[Example], None]]:
    """Yield what shows the state: a table that fills, or a line for each stage."""
    console = Console(stderr=True)
    if not sys.stderr.isatty() or console.is_dumb_terminal:
        yield _lines()
        return
    live = Live(console=console, refresh_per_second=8, transient=as_json)
    live.start()

    def show(state: Example) -> None:
        live.update(picture(state), refresh=True)
        if state.doing == "done":
            live.stop()

    try:
        yield show
    finally:
        live.stop()


def _lines() -> Callable[[Example], None]:
    said = ""

    def show(state: Example) -> None:
        nonlocal said
        if state.doing != said:
            said = state.doing
            print(said, file=sys.stderr, flush=True)

    return show


def picture(state: Example) -> RenderableType:
    """Return what is known so far, legible on 80 columns."""
    parts: list[RenderableType] = [Text(_PICTURE, style="dim"), _servers(state)]
    if state.questions:
        parts.append(_questions(state))
    if state.cannot:
        parts.append(Text(f"a model that nobody has: {state.cannot}"))
    doing = f"done in {state.seconds:g} s" if state.doing == "done" else state.doing
    parts.append(Text(doing, style="dim italic"))
    return Group(*parts)


def _servers(state: Example) -> Table:
    made = Table(box=box.SIMPLE, collapse_padding=True, pad_edge=False)
    made.add_column("server", no_wrap=True)
    made.add_column("what it does")
    for heading in ("drawn", "tokens", "log10 E"):
        made.add_column(heading, justify="right")
    made.add_column("verdict", no_wrap=True)
    made.add_column("alarm")
    for server in state.servers:
        counts = (str(server.drawn), str(server.tokens), f"{server.log10_e:.1f}")
        does = server.does.replace("-", " ")
        made.add_row(server.name, does, *counts, _verdict(server), _alarm(server))
    return made


def _verdict(server: Server) -> str:
    words = Tier(server.tier).words if server.decided else server.reason
    return f"[{_COLOURS[server.tier]}]{words}[/]"


def _alarm(server: Server) -> str:
    if not server.alarm:
        return "[dim]none[/]"
    return f"[red]{server.alarm}[/]" + ("" if server.routed else " [dim](off)[/]")


def _questions(state: Example) -> Table:
    made = Table(
        box=box.SIMPLE, collapse_padding=True, pad_edge=False, title="what became of my request?"
    )
    for heading in ("receipt", "answered by", "drawn?", "result", "alone, as I asked"):
        made.add_column(heading)
    for each in state.questions:
        drawn = {"audited": "yes, recomputed", "undrawn": "no"}.get(each.stage, each.stage)
        result = f"[{_COLOURS[each.tier]}]{Tier(each.tier).words}[/]"
        made.add_row(f"…{each.receipt_id[-8:]}", each.server, drawn, result, each.alone)
    return made


def _say(state: Example, *, as_json: bool) -> int:
    """Print what came of it, and return the exit code."""
    if as_json:
        print(json.dumps(example.public(state)), flush=True)
    else:
        if not sys.stderr.isatty():
            Console().print(picture(state))
        print(f"bundles, trust.json and logs are in {state.directory}")
        if state.right:
            print("every verdict is right, and the client has its own result")
    if state.right:
        return 0
    if state.undecided:
        print("lydite: error: too little evidence for a verdict", file=sys.stderr)
        print("lydite: hint: ask for more with --requests", file=sys.stderr)
        return Tier.NONE.exit_code
    print("lydite: error: a verdict is wrong", file=sys.stderr)
    return Tier.CONTRAINDICATED.exit_code
