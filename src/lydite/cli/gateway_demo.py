"""``lydite gateway demo``: a governed gateway, attacked before your eyes."""

import argparse
import sys

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lydite.laboratory import governed
from lydite.laboratory.governed import Demonstration, Options


def run(arguments: argparse.Namespace) -> int:
    """Run the demonstration; exit 0 only if every step went as it should."""
    options = Options(directory=arguments.out, budget_bits=arguments.budget_bits)
    console = Console(stderr=True, highlight=False)
    shown = 0

    def show(state: Demonstration) -> None:
        nonlocal shown
        for step in state.steps[shown:]:
            mark = Text("✔ ", "green") if step.right else Text("✘ ", "bold red")
            console.print(mark + Text(step.name), Text(f"\n    {step.detail}", "dim"), sep="")
        shown = len(state.steps)
        if state.doing != "done" and console.is_terminal:
            console.print(Text(f"… {state.doing}", "dim"), end="\r")

    state = governed.run(options, show)
    if arguments.json:
        print(msgspec.json.encode(_told(state)).decode())
    else:
        _tell(state, Console(highlight=False))
    return 0 if state.right else 1


def _told(state: Demonstration) -> dict[str, object]:
    return {
        "right": state.right,
        "seconds": state.seconds,
        "directory": state.directory,
        "steps": state.steps,
        "entries": state.entries,
        "answers": state.answers,
        "story": state.story,
    }


def _tell(state: Demonstration, console: Console) -> None:
    table = Table(box=None, title="What the log says", title_justify="left", pad_edge=False)
    for name in ("entry", "signed by", "what happened"):
        table.add_column(name, no_wrap=name != "what happened", justify="left")
    for line in state.story:
        table.add_row(str(line.entry), line.signer, Text(line.text))
    console.print(table)
    right = sum(step.right for step in state.steps)
    console.print(
        f"{right} of {len(state.steps)} steps as they should be; {state.entries} entries, "
        f"{state.answers} of them answers, each statement signed and in the witnessed log; "
        f"{state.seconds:.0f} s"
    )
    console.print(f"settings, keys and logs are in {state.directory}")
    sys.stdout.flush()
