"""``lydite demo``: seven providers, six of them cheats, judged before your eyes."""

import argparse
import json
import sys
from pathlib import Path

import msgspec
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
    parser.add_argument("--requests", type=int, default=60, help="requests to each provider")
    parser.add_argument("--models", type=Path, default=Path("models"), help="model directories")


def run(arguments: argparse.Namespace) -> int:
    """Run the demonstration; exit 0 only if every verdict is right."""
    options = Options(directory=arguments.out, models=arguments.models, requests=arguments.requests)
    console = Console(stderr=True)
    with Live(console=console, refresh_per_second=4, transient=arguments.json) as live:
        rows = demo.run(options, lambda stage: live.update(_table(stage)))
    right = all(row.right for row in rows)
    if arguments.json:
        print(json.dumps({"right": right, "providers": [_public(row) for row in rows]}))
    else:
        _say(rows, right)
    return 0 if right else 1


def _table(stage: Stage) -> Table:
    table = Table(caption=stage.doing, title="is it the declared model?", expand=False)
    for heading in ("provider", "what it does", "requests", "audited", "tokens", "log10 E"):
        numeric = heading not in {"provider", "what it does"}
        table.add_column(heading, justify="right" if numeric else "left")
    table.add_column("verdict")
    for row in stage.rows:
        tier = Tier(row.tier)
        verdict = f"[{_COLOURS[row.tier]}]{tier.words}[/] ({row.reason})"
        counts = (str(row.requests), str(row.audited), str(row.tokens), f"{row.log10_e:.1f}")
        table.add_row(row.name, row.cheat, *counts, verdict)
    return table


def _public(row: Row) -> dict[str, object]:
    return {**msgspec.structs.asdict(row), "right": row.right}


def _say(rows: list[Row], right: bool) -> None:
    for row in rows:
        mark = "✔" if row.right else "✘"
        print(
            f"{mark} {row.name:<10}{Tier(row.tier).words}; from its bundle alone, offline: "
            f"{Tier(row.verified).words}; a forged copy: {row.refused}"
        )
    if not right:
        print("lydite: error: a verdict is wrong", file=sys.stderr)
        return
    bundle = Path(rows[0].bundle)
    print(f"every verdict is right. Bundles and trust.json are in {bundle.parent}; check one:")
    print(f"  lydite verify {bundle} --trust {bundle.parent / 'trust.json'}")
