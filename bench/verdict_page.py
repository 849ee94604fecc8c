"""Draws ``docs/verdicts.md`` from the kept verdict table; knows how to lay out, and no more."""

import math
from collections.abc import Iterator, Sequence

from lydite.laboratory.judging import ALPHAS, Alarms, Cell
from lydite.laboratory.parts import Part
from lydite.laboratory.verdicts import Evidence, Table
from lydite.messages.calibration import BY_BINS

HEAD = """\
# Verdict table

Drawn by `make bench-verdicts` from `bench/results/verdict-table.json`, do not edit. What the
columns are, and what none of this shows, is on the [laboratory's page](lab.md).

Declared: `{model}`; scored by one teacher-forced pass in fp32. Figures hold for this model and
these attacks: counts do not carry over to larger models, ratios between columns may.

All columns are judged by `{method}`. The default policy is of `lydite/bets-average/v2`
until the committed Reference Values are calibrated for v3
([0028](decisions/0028-only-larger-scores-accuse.md)).
"""
WATCHED = f"""\
Median over streams that are watched token by token, at a level of {ALPHAS[0]} / {ALPHAS[1]}; `-`
where less than half of the streams are accused, and behind it the share that is, if any. In bold:
what lydite averages of its own. The two tests of text have a fixed size, to be looked at once.
"""
NOT_YET = f"""
At {ALPHAS[1]}, evidence of ours accuses honest streams: {{those}}. Tokens of an answer depend on
one another, and an effect of the first order does not make up for all of it: do not accuse by
`lydite/bets-average/v3` yet.
"""
STREAMS = f"""\
Streams accused at {ALPHAS[0]} / {ALPHAS[1]}. No answer is in two streams, and none was calibrated
on.
"""
WORTH = f"""\
Nats a token that the best bet on each attack gains, and Wald's bound, ln(1/{ALPHAS[1]}) divided by
them: no test of the same bins against the same null takes fewer tokens on average. An attack that
shows in some answers only is worth more in those. Both are for tokens that fall independently: as
honest answers differ from one another, as many tokens as the *effect* below says count for one.
"""
WORTHY = (
    "tokens/margin",
    "tokens/residual",
    "activations/sketch-2",
    "activations/sketch-4",
    "projections",
)
LEAST_NATS = 0.0005
_SHORT = {
    "tokens/margin": "margin",
    "tokens/surprisal": "surprisal",
    "tokens/residual": "residual",
    "activations/sketch-2": "sketch",
    "activations/sketch-4": "sketch",
    "lydite, all": "**all**",
    "projections": "projections",
    "toploc/calibrated": "TOPLOC, calibrated",
    "toploc/published": "TOPLOC, published",
    "text/likelihood": "likelihood",
    "text/mmd": "MMD",
}


def page(table: Table) -> str:
    """Return the page."""
    parts = [
        HEAD.format(model=table.model, method=table.provenance.get("judged by", BY_BINS)),
        "## Tokens to a verdict\n",
        WATCHED,
        "\n".join(_attacks(table)),
        *_worths(table),
        "\n## Honest streams\n",
        STREAMS,
        "\n".join(_honest(table)),
        "\n" + _bounds(table),
        *_accused(table),
        "\n## Cheating on a share\n",
        "\n".join(_parts(table.parts)),
        "\n## Cost and origin\n",
        "\n".join(_costs(table)),
        "\n" + "\n".join(_origin(table)) + "\n",
    ]
    return "\n".join(parts)


def _head(first: str, evidence: Sequence[Evidence]) -> Iterator[str]:
    cells = [f"{_SHORT[each.name]}, {each.bytes_a_token:.3g} B" for each in evidence]
    yield _line(first, cells)
    yield _line("---", ["---:"] * len(evidence))


def _attacks(table: Table) -> Iterator[str]:
    yield from _head("attack", table.evidence)
    for row in table.attacks:
        name = f"{row.threat}: {row.name}" if row.threat else row.name
        yield _line(name, [_cell(row.cells[each.name]) for each in table.evidence])


def _worths(table: Table) -> Iterator[str]:
    """Yield nothing where the arithmetic that judged knows no best bet."""
    if not _by_tails(table):
        return
    yield "\n## What a score is worth\n"
    yield WORTH
    shown = [each for each in table.evidence if each.name in WORTHY]
    yield from _head("attack", shown)
    for row in table.attacks:
        cells = [_worth(row.cells[each.name].nats) for each in shown]
        yield _line(row.name, cells)


def _by_tails(table: Table) -> bool:
    return any(each.survival for each in table.evidence)


def _worth(nats: float | None) -> str:
    if nats is None or nats < LEAST_NATS:
        return "-"
    return f"{nats:.3f}: {math.log(1 / ALPHAS[1]) / nats:,.1f}"


def _cell(cell: Cell) -> str:
    return " / ".join(
        (f"- ({found:.0%})" if found else "-") if tokens is None else f"{tokens:,}"
        for tokens, found in zip(cell.tokens, cell.found, strict=True)
    )


def _honest(table: Table) -> Iterator[str]:
    yield from _head("honest variant", table.evidence)
    for row in table.honest:
        cells = [_alarms(row.alarms[each.name]) for each in table.evidence]
        yield _line(f"{row.name}, {row.tokens:,} tokens", cells)


def _alarms(alarms: Alarms) -> str:
    return f"{alarms.accused[0]} / {alarms.accused[1]} of {alarms.streams}"


def _bounds(table: Table) -> str:
    everyone = next(each for each in table.honest if each.name == "all")
    said = []
    for each in table.evidence:
        found = everyone.alarms[each.name]
        highest = found.highest_log10_e
        level = "" if highest is None else f", highest log10 E {highest:.2f}"
        said.append(f"{_SHORT[each.name]} {each.bytes_a_token:.3g} B {found.at_most[1]:.1%}{level}")
    return (
        f"Share of such streams that would be accused at {ALPHAS[1]}, at most (95 %): "
        + "; ".join(said)
        + "."
    )


def _accused(table: Table) -> Iterator[str]:
    """Yield a warning where evidence of ours accuses honest streams."""
    everyone = next(each for each in table.honest if each.name == "all")
    those = [
        f"{_SHORT[each.name]} {each.bytes_a_token:.3g} B, {found.accused[1]} of {found.streams}"
        for each in table.evidence
        if each.ours and (found := everyone.alarms[each.name]).accused[1]
    ]
    if those:
        yield NOT_YET.format(those="; ".join(those))


def _parts(parts: Sequence[Part]) -> Iterator[str]:
    yield "5 % of the requests are answered by the cheat, 5 % of all are audited, 64 tokens each."
    yield "The ratio is to the larger of Wald's bound and of what a bet that knows share, cheat and"
    yield "nearest honest distribution takes on the same streams. Means over streams."
    yield ""
    yield _line("cheat", ["evidence", "level", "requests", "Wald's bound", "knowing all", "ratio"])
    yield _line("---", ["---", "---:", "---:", "---:", "---:", "---:"])
    for each in parts:
        numbers = [_count(each.requests), _count(each.least), _count(each.knowing)]
        ratio = "-" if each.ratio is None else f"{each.ratio:.2f}"
        yield _line(each.cheat, [each.evidence, f"{each.alpha:g}", *numbers, ratio])


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _costs(table: Table) -> Iterator[str]:
    yield f"Recomputing a thousand tokens takes {table.recompute_s:.2f} s of a core; scoring them:"
    yield ""
    columns = ["bytes a token", "s", "autocorrelation of honest scores"]
    columns += ["effect"] * _by_tails(table)
    yield _line("evidence", columns)
    yield _line("---", ["---:"] * len(columns))
    for each in table.evidence:
        if each.score_s:
            numbers = [f"{each.bytes_a_token:.3g}", f"{each.score_s:.3f}", f"{each.rho:+.3f}"]
            numbers += [f"{each.effect:.2f}"] * _by_tails(table)
            yield _line(_SHORT[each.name], numbers)


def _origin(table: Table) -> Iterator[str]:
    yield _line("made from", [""])
    yield _line("---", ["---"])
    for name, value in table.provenance.items():
        yield _line(name, [f"`{value}`"])


def _line(first: str, cells: Sequence[str]) -> str:
    return "| " + " | ".join([first, *cells]) + " |"
