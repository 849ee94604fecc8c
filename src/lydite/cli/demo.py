"""``lydite demo``: seven providers, six of them cheats, judged before your eyes."""

import argparse
import json
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from lydite.laboratory import demo
from lydite.laboratory.demo import Options, Row, Stage
from lydite.messages.tier import Tier

_COLOURS = {"affirming": "green", "contraindicated": "red", "warning": "yellow", "none": "dim"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite demo``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="where bundles go")
    parser.add_argument("--requests", type=int, default=72, help="requests to each provider")
    parser.add_argument("--models", type=Path, default=Path("models"), help="model directories")


def run(arguments: argparse.Namespace) -> int:
    """Run the demonstration; exit 0 only if every verdict is right, 4 if some are not in."""
    options = Options(directory=arguments.out, models=arguments.models, requests=arguments.requests)
    rows = _watched(options, as_json=arguments.json)
    if arguments.json:
        right = all(row.right for row in rows)
        print(json.dumps({"right": right, "providers": [_public(row) for row in rows]}))
    else:
        _say(rows)
    return _conclude(rows)


def _watched(options: Options, *, as_json: bool) -> list[Row]:
    """Run under a table that fills; where nobody watches, with a line for each stage."""
    console = Console(stderr=True)
    if not sys.stderr.isatty() or console.is_dumb_terminal:
        return demo.run(options, _lines())
    with Live(console=console, refresh_per_second=4, transient=as_json) as live:
        rows = demo.run(options, lambda stage: live.update(table(stage)))
    if not as_json:
        console.line()
    return rows


def _lines() -> Callable[[Stage], None]:
    said = ""

    def show(stage: Stage) -> None:
        nonlocal said
        if stage.doing != said:
            said = stage.doing
            print(said, file=sys.stderr, flush=True)

    return show


def table(stage: Stage) -> Table:
    """Return what is known so far, legible on 80 columns."""
    made = Table(title="is it the declared model?", caption=stage.doing, box=box.SIMPLE)
    made.collapse_padding, made.pad_edge = True, False
    made.add_column("provider", no_wrap=True)
    made.add_column("what it does")
    for heading in ("asked", "audited", "tokens", "log10 E"):
        made.add_column(heading, justify="right")
    made.add_column("verdict", no_wrap=True)
    for row in stage.rows:
        counts = (str(row.requests), str(row.audited), str(row.tokens), f"{row.log10_e:.1f}")
        made.add_row(row.name, row.cheat.replace("-", " "), *counts, _verdict(row))
    return made


def _verdict(row: Row) -> str:
    """Return the verdict in colour, and below it the reason where that says more."""
    if row.reason == demo.WAITING:
        return f"[dim]{row.reason}[/]"
    words = Tier(row.tier).words
    cell = f"[{_COLOURS[row.tier]}]{words}[/]"
    return cell if row.reason.startswith(words) else f"{cell}\n[dim]{row.reason}[/]"


def _public(row: Row) -> dict[str, object]:
    return {**msgspec.structs.asdict(row), "right": row.right}


def _say(rows: list[Row]) -> None:
    for row in rows:
        mark = "✔" if row.right else "?" if row.undecided else "✘"
        print(
            f"{mark} {row.name:<10}{Tier(row.tier).words}; offline: {Tier(row.verified).words}; "
            f"a forged copy: {row.refused}"
        )
    bundle = Path(rows[0].bundle)
    trust = bundle.parent / "trust.json"
    if all(row.right for row in rows):
        print("every verdict is right")
    print(f"bundles and trust.json are in {bundle.parent}; check one:")
    print(f"  {lydite()} {shlex.join(['verify', str(bundle), '--trust', str(trust)])}")


def _conclude(rows: list[Row]) -> int:
    """Say on stderr what is not as it should be, and return the exit code."""
    wrong = [row.name for row in rows if not (row.right or row.undecided)]
    undecided = [row.name for row in rows if row.undecided]
    if wrong:
        print(f"lydite: error: a verdict is wrong: {', '.join(wrong)}", file=sys.stderr)
        return Tier.CONTRAINDICATED.exit_code
    if undecided:
        names = ", ".join(undecided)
        print(f"lydite: error: too little evidence for a verdict: {names}", file=sys.stderr)
        print("lydite: hint: ask for more with --requests", file=sys.stderr)
        return Tier.NONE.exit_code
    return 0


def lydite() -> str:
    """Return the words by which this very shell calls this program."""
    if shutil.which("lydite") is not None:
        return "lydite"
    own = sys.argv[0]
    if Path(own).name == "lydite":
        return shlex.quote(own)
    return f"{shlex.quote(sys.executable)} -m lydite.cli.main"
