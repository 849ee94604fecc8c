"""What ``lydite lab`` runs and shows: a table that grows, a summary, and JSON."""

import argparse
import sys
from collections.abc import Callable

import msgspec
import torch
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table as Drawing

from lydite.errors import ConfigurationError
from lydite.laboratory.cheats import CHEATS, HONEST_NAME
from lydite.laboratory.honest import HONEST
from lydite.laboratory.judging import ALPHAS, Alarms, Cell
from lydite.laboratory.plans import FULL, SMALL, Plan
from lydite.laboratory.verdicts import Evidence, Laboratory, Table
from lydite.messages.tier import Tier

HEADS = {
    "tokens/margin": "margin",
    "tokens/surprisal": "surpr.",
    "tokens/residual": "logpr.",
    "activations/sketch-2": "sketch",
    "activations/sketch-4": "sketch",
    "lydite, all": "all",
    "projections": "proj.",
    "toploc/calibrated": "topl.e",
    "toploc/published": "toploc",
    "text/likelihood": "text",
    "text/mmd": "mmd",
}
"""What a column is called where there is little room."""


def run(arguments: argparse.Namespace) -> int:
    """Measure the matrix; exit 0 if no honest stream is accused at the stricter level, else 1.

    Raises:
        ConfigurationError: no such attack, or no such model.
    """
    if arguments.list:
        print(listed(as_json=arguments.json))
        return 0
    table = _watched(plan_of(arguments), as_json=arguments.json)
    encoded = msgspec.json.encode(table)
    if arguments.out:
        arguments.out.write_bytes(msgspec.json.format(encoded, indent=1) + b"\n")
    print(encoded.decode() if arguments.json else summary(table))
    return conclusion(table).exit_code


def plan_of(arguments: argparse.Namespace) -> Plan:
    """Return what the options ask for.

    Raises:
        ConfigurationError: there is no such attack.
    """
    plan = FULL if arguments.full else SMALL
    chosen = tuple(arguments.attack or plan.attacks)
    for name in chosen:
        if name not in CHEATS or name == HONEST_NAME:
            raise ConfigurationError(f"no attack {name}; `lydite lab --list` has them")
    return msgspec.structs.replace(plan, attacks=chosen, models=arguments.models)


def listed(*, as_json: bool) -> str:
    """Return the attacks and the honest variants, as lines or as JSON."""
    attacks = [(name, each) for name, each in CHEATS.items() if name != HONEST_NAME]
    if as_json:
        named = [{"name": name, "threat": each.threat, "does": each.does} for name, each in attacks]
        return msgspec.json.encode({"attacks": named, "honest": list(HONEST)}).decode()
    lines = [f"{each.threat or '-':3} {name:20} {each.does}" for name, each in attacks]
    return "\n".join([*lines, *(f"    {name:20} honest" for name in HONEST)])


def conclusion(table: Table) -> Tier:
    """Return whether our evidence accused an honest stream at the stricter level."""
    ours = {each.name for each in table.evidence if each.ours}
    accused = sum(
        alarms.accused[-1]
        for honest in table.honest
        for name, alarms in honest.alarms.items()
        if name in ours
    )
    return Tier.CONTRAINDICATED if accused else Tier.AFFIRMING


def _watched(plan: Plan, *, as_json: bool) -> Table:
    """Run under a table that fills; where nobody watches, with a line for each step."""
    console = Console(stderr=True)
    if not sys.stderr.isatty() or console.is_dumb_terminal:
        return _measured(plan, lambda table: print(table.doing, file=sys.stderr, flush=True))
    with Live(console=console, refresh_per_second=4, transient=as_json) as live:
        return _measured(plan, lambda table: live.update(drawing(table)))


def _measured(plan: Plan, show: Callable[[Table], None]) -> Table:
    torch.set_num_threads(1)  # others only wait for one another on models this small
    return Laboratory(plan, show).run()


def drawing(table: Table) -> Drawing:
    """Return what is known so far: median tokens to a verdict, honest streams accused."""
    title = f"median tokens to a verdict at {ALPHAS[0]}, {table.model}"
    caption = f"{table.doing}, {table.elapsed_s:.0f} s"
    made = Drawing(title=title, caption=caption, box=box.SIMPLE)
    made.padding, made.pad_edge = (0, 1, 0, 0), False
    made.add_column("provider", no_wrap=True)
    for each in table.evidence:
        style = "" if each.ours else "dim"
        made.add_column(heading(each), justify="right", style=style, no_wrap=True)
    for honest in table.honest:
        made.add_row(honest.name, *(_accused(honest.alarms[each.name]) for each in table.evidence))
    if table.honest:
        made.add_section()
    for row in table.attacks:
        made.add_row(row.name, *(_tokens(row.cells[each.name]) for each in table.evidence))
    return made


def heading(evidence: Evidence) -> str:
    """Return a column's name and what it takes to carry, in bytes a token."""
    return f"{HEADS[evidence.name]}\n{evidence.bytes_a_token:.2g} B"


def _accused(alarms: Alarms) -> str:
    colour = "red" if alarms.accused[-1] else "green"
    return f"[{colour}]{alarms.accused[0]}/{alarms.streams}[/]"


def _tokens(cell: Cell) -> str:
    return "[dim]-[/]" if cell.tokens[0] is None else str(cell.tokens[0])


def summary(table: Table) -> str:
    """Return what honest streams came to, and what recomputation costs, as text."""
    lines = []
    everyone = next((each for each in table.honest if each.name == "all"), None)
    for each in table.evidence if everyone else ():
        found = everyone.alarms[each.name] if everyone else None
        if found and each.ours:
            lines.append(
                f"{each.name}: {found.accused[0]} and {found.accused[1]} of {found.streams} honest "
                f"streams accused at {ALPHAS[0]} and {ALPHAS[1]}; at most "
                f"{found.at_most[1]:.1%} would be (95 %)"
            )
    lines.append(f"recomputing takes {table.recompute_s:.2f} s of a core for a thousand tokens")
    return "\n".join(lines)
