"""``make bench-verdicts``: the verdict table, measured in full, and the page that shows it.

    python bench/bench_verdicts.py            about an hour of one core
    python bench/bench_verdicts.py --again fp8-cache   these attacks anew, against the same null
    python bench/bench_verdicts.py --redraw   the rows and the page from the kept table, in seconds

writes ``bench/results/verdict-table.json`` (every cell, threshold and digest),
``bench/results/verdicts.json`` (what was aimed at), and ``docs/verdicts.md``. Peers score the very
same tensors: projections of 16 bytes a token (Activation-DiFR) and TOPLOC's comparison.
"""

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import report
import torch
import verdict_page

from lydite.laboratory.judging import ALPHAS
from lydite.laboratory.plans import FULL, Plan
from lydite.laboratory.verdicts import Laboratory, Row, Table
from lydite.messages.calibration import BY_TAILS

TABLE = Path(__file__).parent / "results" / "verdict-table.json"
PAGE = Path(__file__).parents[1] / "docs" / "verdicts.md"
PEER = "projections"
ALLOWED = {"activations/sketch-2": 1.5, "activations/sketch-4": 1.0}
"""Tokens to a verdict against those of the peer, at most."""
PART_GOAL = 1.3


def main() -> None:
    """Measure or read the table, then write rows and page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--redraw", action="store_true", help="from the kept table")
    parser.add_argument("--again", nargs="+", metavar="ATTACK", help="only these, anew")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.again:
        keep(renewed(options.again))
    elif not options.redraw:
        keep(measured(FULL))
    table = kept()
    PAGE.write_text(verdict_page.page(table), encoding="utf-8")
    rows = [*accusations(table), *ratios(table), *parts(table)]
    report.write("verdicts", rows)


def measured(plan: Plan) -> Table:
    """Run the laboratory, saying on stderr what it does."""
    return Laboratory(plan, lambda table: print(table.doing, file=sys.stderr, flush=True)).run()


def renewed(names: Sequence[str]) -> Table:
    """Return the kept table with the rows of some attacks measured anew.

    The null comes from the same questions to the same implementations; honest streams stay.
    """
    table = kept()
    if table.provenance.get("judged by") != BY_TAILS:
        raise SystemExit("lydite: error: the kept table is of another arithmetic; measure it whole")
    plan = msgspec.structs.replace(FULL, attacks=tuple(names), honest=(), parts=False)
    rows = {row.name: row for row in measured(plan).attacks}
    table.attacks = [rows.get(row.name, row) for row in table.attacks]
    before = table.provenance.get("measured anew", "").split()
    table.provenance["measured anew"] = " ".join(sorted({*before, *names}))
    return table


def keep(table: Table) -> None:
    """Write the table where it is kept."""
    TABLE.write_bytes(msgspec.json.format(msgspec.json.encode(table), indent=1) + b"\n")


def kept() -> Table:
    """Return the kept table."""
    return msgspec.json.decode(TABLE.read_bytes(), type=Table)


def accusations(table: Table) -> Iterator[report.Row]:
    """Yield how many honest streams our evidence accuses."""
    everyone = next(each for each in table.honest if each.name == "all")
    for evidence in table.evidence:
        if evidence.ours:
            found = everyone.alarms[evidence.name]
            what = f"{found.streams} honest streams accused at {ALPHAS[1]}"
            yield report.row(
                f"{what}, {evidence.name}", found.accused[1], "streams", goal=0, at_most=True
            )
    bound = 100 * everyone.alarms["lydite, all"].at_most[1]
    yield report.row("share of honest streams accused, 95 % bound", bound, "%")


def ratios(table: Table) -> Iterator[report.Row]:
    """Yield our tokens to a verdict against those of projections at 16 bytes, attack by attack."""
    for name, allowed in ALLOWED.items():
        for place, alpha in enumerate(ALPHAS):
            pairs = [_pair(row, name, place) for row in table.attacks]
            compared = [each for each in pairs if each]
            for attack, ours, peer in compared:
                yield report.row(
                    f"tokens to verdict at {alpha:g}, {attack}, {name}",
                    ours,
                    "tokens",
                    goal=allowed * peer,
                    at_most=True,
                    peer=peer,
                    peer_name="projections, 16 B",
                )
            middle = statistics.median(ours / peer for _, ours, peer in compared)
            what = f"median ratio to projections at {alpha:g}, {name}"
            yield report.row(what, middle, "", at_most=True)


def _pair(row: Row, name: str, place: int) -> tuple[str, int, int] | None:
    """Return the tokens of both where the peer accuses half of the streams."""
    peer, ours = row.cells[PEER].tokens[place], row.cells[name].tokens[place]
    return None if peer is None else (row.name, FULL.longest if ours is None else ours, peer)


def parts(table: Table) -> Iterator[report.Row]:
    """Yield how many requests cheating on 5 % takes, against the fewest possible."""
    for each in table.parts:
        if each.ratio is not None:
            yield report.row(
                f"5 % {each.cheat}, audits of 5 %, {each.evidence}, alpha {each.alpha:g}",
                each.ratio,
                "times the fewest",
                goal=PART_GOAL,
                at_most=True,
            )


if __name__ == "__main__":
    main()
