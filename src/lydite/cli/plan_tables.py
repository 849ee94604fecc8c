"""Plans as a person reads them: tables of text. Computes nothing."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from fractions import Fraction

from lydite.economics import checklist as checks
from lydite.economics import coverage as coverages
from lydite.economics import evidence_power as powers
from lydite.economics import preparation as preparations
from lydite.economics import rollout as rollouts
from lydite.economics import upload as uploads

_LETTERS: tuple[tuple[str, int, int], ...] = (
    ("B", 10**9, 1),
    ("M", 10**6, 1),
    ("K", 10**3, 10),
)
_BYTES = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6))
_SECONDS = (("d", 86_400), ("h", 3_600), ("min", 60))
_WIDTH = 100
_SHOWN_WEEKS = 16


def table(rows: Iterable[Sequence[str]]) -> str:
    """Return rows of cells, the first of them a heading, in columns."""
    lines = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    pad = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join(pad)


def amount(value: Fraction | float | None) -> str:
    """Return a number as people write it: 250K, 100M; to four digits where it is long."""
    if value is None:
        return "-"
    number = float(value)
    for unit, size, from_times in _LETTERS:
        if abs(number) >= size * from_times:
            return f"{number / size:.4g}{unit}"
    return f"{int(number):,}" if number.is_integer() else f"{number:.4g}"


def size(count: float) -> str:
    """Return bytes in the largest decimal unit that they fill."""
    for unit, scale in _BYTES:
        if count >= scale:
            return f"{count / scale:.4g} {unit}"
    return f"{count:g} B"


def percent(value: Fraction | float | None) -> str:
    """Return a share in per cent, to three digits."""
    return "-" if value is None else f"{float(value) * 100:.3g} %"


def seconds(value: float) -> str:
    """Return a duration in the largest unit that it fills."""
    for unit, size in _SECONDS:
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g} s"


def rollout(
    inputs: rollouts.Rollout,
    once: rollouts.Costs,
    rows: Sequence[rollouts.Row],
    end: rollouts.Totals,
    doubts: Sequence[rollouts.Contradiction],
) -> str:
    """Return the deployment table, the schedule, and where the two part."""
    first = table(
        (
            ("metric", "value"),
            ("H100e to equip", f"{amount(inputs.h100e)} ({percent(inputs.global_share)} of all)"),
            ("H100e per server", amount(inputs.h100e_per_server)),
            ("servers", amount(once.servers)),
            ("team", f"{amount(inputs.people_per_team)} people"),
            ("servers per team-hour", amount(inputs.servers_per_team_hour)),
            ("teams", amount(inputs.teams)),
            ("wall clock", f"{amount(once.weeks)} weeks of {amount(inputs.hours_per_week)} hours"),
            (
                "manufacturing",
                f"${amount(once.manufacturing)} (${amount(inputs.device_cost)} each)",
            ),
            (
                "labour",
                f"${amount(once.labour)} ({amount(once.person_hours)} h x ${amount(inputs.wage)})",
            ),
            ("installation, in all", f"${amount(once.total)}"),
            ("monthly revenue", f"${amount(once.monthly_revenue)}"),
            ("share of it", percent(once.share_of_revenue)),
        )
    )
    second = _schedule(rows, end)
    third = (
        f"with {amount(end.powered_off)} switched off meanwhile, {percent(end.accounted_share)} "
        f"are stated to be equipped or off; that forgoes ${amount(end.revenue_forgone)} of revenue"
    )
    return "\n\n".join((first, second, third, _doubts(doubts)))


def _schedule(rows: Sequence[rollouts.Row], end: rollouts.Totals) -> str:
    return table(
        (
            ("clusters", "weeks", "stated, cumulative", "at this pace", "share of all"),
            *(
                (
                    f">{amount(row.clusters_above)}",
                    amount(row.weeks),
                    amount(row.stated_cumulative),
                    amount(row.cumulative),
                    percent(row.cumulative_share),
                )
                for row in rows
            ),
            (
                "in all",
                amount(end.weeks),
                f"~{percent(end.stated_share)} of all",
                amount(end.equipped),
                percent(end.equipped_share),
            ),
        )
    )


def _doubts(doubts: Sequence[rollouts.Contradiction]) -> str:
    if not doubts:
        return "the stated schedule and the stated pace agree"
    lines = ["where the statements contradict one another:"]
    lines += [
        _wrapped(f"- {each.about}: stated {each.stated}; but {each.follows}") for each in doubts
    ]
    return "\n".join(lines)


def preparation(plan: preparations.Preparation, buffer: preparations.Buffer) -> str:
    """Return the weeks before everything is equipped, and what is exposed in them."""
    step = -(-len(buffer.weeks) // _SHOWN_WEEKS)
    shown = [w for w in buffer.weeks if w.week % step == 0 or w is buffer.weeks[-1]]
    weeks = table(
        (
            ("week", "devices made", "equipped", "interconnect out only", "untouched"),
            *(
                (
                    str(each.week),
                    amount(each.made),
                    amount(each.installed),
                    amount(each.stripped),
                    amount(each.untouched),
                )
                for each in shown
            ),
        )
    )
    needed = table(
        (
            ("to notice a run in the buffer with", "other means must notice it, each week, with"),
            *(
                (
                    percent(confidence),
                    percent(preparations.weekly_detection(max(1, buffer.weeks_in_all), confidence)),
                )
                for confidence in (0.5, 0.9, 0.99)
            ),
        )
    )
    said = (
        f"{buffer.weeks_in_all} weeks in all, {buffer.buffer_weeks} more than with all devices in "
        f"stock (now: {amount(plan.stock)}); exposed {amount(buffer.exposed)} H100e-weeks with "
        f"interconnect, {amount(buffer.stripped_only)} without but unwatched; switching all of "
        f"them off instead forgoes ${amount(buffer.idle_revenue)}"
    )
    return "\n\n".join((weeks, _wrapped(said, ""), needed))


def coverage(
    question: coverages.Question,
    answer: coverages.Answer,
    scales: Sequence[coverages.Scale],
    cost: Mapping[str, float],
    strengths: Mapping[str, powers.Strength],
) -> str:
    """Return what to draw, what that costs, and how it scales."""
    asked = (
        f"{amount(question.cheating_servers)} of {amount(question.servers)} servers cheat on "
        f"{percent(question.share)} of {amount(question.pairs)} pairs each: {amount(answer.bad)} "
        f"cheated pairs; wanted: {percent(question.confidence)} confidence, with evidence of power "
        f"{question.power:g}"
    )
    draws = table(
        (
            ("drawn", "pairs", "share", "approximate", "rests on"),
            *(
                (d.way, amount(d.pairs), percent(d.fraction), percent(d.approximate), d.basis)
                for d in answer.draws
            ),
        )
    )
    means = (
        f"on average {amount(answer.mean_audits)} pairs are recomputed until one shows the cheat"
        + (
            ""
            if answer.mean_cheats is None
            else f", and {amount(answer.mean_cheats)} cheated ones served"
        )
    )
    compute = table(
        (
            ("recomputing, of the work of serving", *(d.way.split(",")[0] for d in answer.draws)),
            *(
                (
                    f"served at {name}: {percent(ratio)} a token",
                    *(
                        percent(None if d.fraction is None else d.fraction * ratio)
                        for d in answer.draws
                    ),
                )
                for name, ratio in cost.items()
            ),
        )
    )
    parts = (_wrapped(asked, ""), draws, means, compute, _scales(scales))
    return "\n\n".join((*parts, _measured(question, strengths)))


def _measured(question: coverages.Question, strengths: Mapping[str, powers.Strength]) -> str:
    """Return the measured power of the evidence, and of one answer by itself."""
    return table(
        (
            (
                "measured cheat, serving everything",
                "median",
                "90 %",
                "worst",
                f"one answer of {question.tokens} tokens shows it",
            ),
            *(
                (
                    name,
                    *(f"{amount(each)}" for each in (found.median, found.ninety, found.worst)),
                    percent(powers.single_answer(found, question.tokens)),
                )
                for name, found in strengths.items()
            ),
        )
    )


def _scales(scales: Sequence[coverages.Scale]) -> str:
    return table(
        (
            ("servers", "1 cheats", "1 in 100 cheat", "each one watched", "gathered tokens"),
            *(
                (
                    amount(each.servers),
                    percent(each.one_server_cheats),
                    percent(each.one_in_hundred_cheat),
                    percent(each.every_server_watched),
                    percent(each.gathered),
                )
                for each in scales
            ),
        )
    )


def upload(
    inputs: uploads.Upload,
    own: uploads.Times,
    rows: Sequence[tuple[uploads.Rate, float, uploads.Times]],
    attacks: Sequence[uploads.Attack],
) -> str:
    """Return the times by rate of hashing and by link, and what can be tried in them."""
    links = sorted({link for _, link, _ in rows})
    by_rate: dict[uploads.Rate, dict[float, uploads.Times]] = {}
    for rate, link, each in rows:
        by_rate.setdefault(rate, {})[link] = each
    first = next(iter(by_rate.values()))
    times = table(
        (
            ("measured", "rate", "alone", *(f"{link:g} Gbit/s" for link in links)),
            ("the link alone", "", "", *(seconds(first[link].link_s) for link in links)),
            *(
                (
                    rate.name,
                    f"{size(rate.bytes_per_s)}/s",
                    seconds(at[links[0]].hash_s),
                    *(f"{seconds(at[link].streamed_s)} ({at[link].bound})" for link in links),
                )
                for rate, at in by_rate.items()
            ),
        )
    )
    tried = [
        f"- {each.name} ({each.who}): {each.how}; refused by: {each.refused_by}; remains: "
        f"{each.remains}"
        for each in attacks
    ]
    said = (
        f"{size(inputs.size)}, {amount(inputs.servers_per_link)} server(s) a link. At "
        f"{size(inputs.hash_rate)}/s and {inputs.link:g} Gbit/s: {seconds(own.streamed_s)}, hashed "
        f"on the way ({seconds(own.afterwards_s)}, hashed afterwards), then {seconds(own.load_s)} "
        f"of loading at {inputs.load_link:g} Gbit/s; with a reload each {inputs.reload_hours:g} h, "
        f"{percent(own.lost)} of the time is lost"
    )
    lines = [
        _wrapped(said, ""),
        times,
        "what can be tried meanwhile:\n" + "\n".join(_wrapped(each) for each in tried),
    ]
    return "\n\n".join(lines)


def checklist(
    measures: Sequence[checks.Measure], states: Sequence[checks.State], today: date
) -> str:
    """Return each measure, who owes what, and what remains even then."""
    lines = [f"on {today.isoformat()}"]
    for measure, state in zip(measures, states, strict=True):
        mark = "✔" if not state.missing else "☐"
        due = "" if state.due is None else f", next due {state.due.isoformat()}"
        owed = f"; owed by {', '.join(state.missing)}" if state.missing else ""
        lines += [
            f"{mark} {measure.id}: {measure.what}",
            f"    every {measure.days} days by {', '.join(measure.by)}{owed}{due}",
            _wrapped(f"how: {measure.how}", "    "),
            _wrapped(f"remains: {measure.remains}", "    "),
        ]
    return "\n".join(lines)


def varied(
    name: str, values: Sequence[float], figures: Mapping[str, Sequence[float | None]]
) -> str:
    """Return a table of one varied input and the figures that follow."""
    columns = [[f"{value:.4g}" for value in values]]
    columns += [
        ["-" if each is None else _figure(each) for each in series] for series in figures.values()
    ]
    return table(((name, *figures), *zip(*columns, strict=True)))


def _figure(value: float) -> str:
    return amount(value) if value >= 1 else f"{value:.4g}"


def _wrapped(text: str, indent: str = "  ") -> str:
    return textwrap.fill(text, _WIDTH, initial_indent=indent, subsequent_indent=indent + "  ")
