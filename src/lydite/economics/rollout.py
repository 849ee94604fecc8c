"""Equipping a world's servers with verification devices: how long, by whom, for how many dollars.

The published deployment table (250,000 servers, 1,000 teams, 5 weeks, $200M) follows to the digit
from the defaults of ``Rollout``; every input varies. Where the published figures contradict one
another, ``contradictions`` gives both sides. Exact fractions throughout; knows no calendar.
"""

from fractions import Fraction
from typing import Annotated

import msgspec

from lydite.errors import ConfigurationError

WEEKS_PER_MONTH = Fraction(1461, 4) / 12 / 7
"""A twelfth of 365.25 days, in weeks."""
Number = Fraction | int


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """Inputs of a rollout; the defaults are the published assumptions for early 2029."""

    h100e: Annotated[Number, msgspec.Meta(description="compute to equip, in H100-equivalents")] = (
        100_000_000
    )
    global_share: Annotated[
        Number, msgspec.Meta(description="share of the world's compute that this is")
    ] = Fraction(2, 5)
    h100e_per_server: Annotated[
        Number, msgspec.Meta(description="H100-equivalents in a server, on average")
    ] = 400
    people_per_team: Annotated[Number, msgspec.Meta(description="people in a team")] = 4
    servers_per_team_hour: Annotated[
        Number, msgspec.Meta(description="servers that a team equips in an hour")
    ] = 1
    teams: Annotated[Number, msgspec.Meta(description="teams at work at once")] = 1_000
    hours_per_week: Annotated[Number, msgspec.Meta(description="hours that a team works")] = 50
    device_cost: Annotated[Number, msgspec.Meta(description="dollars a device, one a server")] = 400
    wage: Annotated[Number, msgspec.Meta(description="dollars for an hour of one person")] = 100
    revenue: Annotated[
        Number, msgspec.Meta(description="dollars that one H100-equivalent earns in a month")
    ] = 1_000


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """What a rollout takes. Money in dollars; ``share_of_revenue`` is of one month's."""

    servers: Fraction
    team_hours: Fraction
    person_hours: Fraction
    people: Fraction
    weeks: Fraction
    manufacturing: Fraction
    labour: Fraction
    total: Fraction
    monthly_revenue: Fraction
    share_of_revenue: Fraction
    h100e_per_week: Fraction


def costs(inputs: Rollout) -> Costs:
    """Return what it takes to equip every server once.

    Raises:
        ConfigurationError: an input is not above zero.
    """
    for name, value in msgspec.structs.asdict(inputs).items():
        if value <= 0:
            raise ConfigurationError(f"{name} is {value}, and has to be above zero")
    servers = Fraction(inputs.h100e) / inputs.h100e_per_server
    team_hours = servers / inputs.servers_per_team_hour
    person_hours = team_hours * inputs.people_per_team
    manufacturing = servers * inputs.device_cost
    labour = person_hours * inputs.wage
    revenue = Fraction(inputs.h100e) * inputs.revenue
    weeks = team_hours / (Fraction(inputs.teams) * inputs.hours_per_week)
    return Costs(
        servers=servers,
        team_hours=team_hours,
        person_hours=person_hours,
        people=Fraction(inputs.teams) * inputs.people_per_team,
        weeks=weeks,
        manufacturing=manufacturing,
        labour=labour,
        total=manufacturing + labour,
        monthly_revenue=revenue,
        share_of_revenue=(manufacturing + labour) / revenue,
        h100e_per_week=inputs.h100e / weeks,
    )


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a schedule: clusters above a size, the cumulative compute stated, its weeks."""

    clusters_above: int
    stated_cumulative: Number
    weeks: Number


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule as stated, with the totals that its author gives. Shares are of the world's."""

    phases: tuple[Phase, ...]
    equipped_share: Fraction
    powered_off_share: Fraction
    months: Number


PUBLISHED = Schedule(
    phases=(
        Phase(clusters_above=10_000_000, stated_cumulative=50_000_000, weeks=Fraction(5, 2)),
        Phase(clusters_above=1_000_000, stated_cumulative=100_000_000, weeks=Fraction(5, 2)),
        Phase(clusters_above=100_000, stated_cumulative=100_000_000, weeks=5),
    ),
    equipped_share=Fraction(90, 100),
    powered_off_share=Fraction(9, 100),
    months=3,
)
"""The published schedule: 50M, 100M, 100M; about 90 % equipped, about 9 % off; three months."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A phase as stated, and what its weeks come to at the pace of the inputs."""

    clusters_above: int
    weeks: Fraction
    stated_cumulative: Fraction
    equipped: Fraction
    cumulative: Fraction
    cumulative_share: Fraction


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Where a schedule ends. ``accounted_share`` is equipped or powered off, as stated."""

    weeks: Fraction
    months: Fraction
    world: Fraction
    equipped: Fraction
    equipped_share: Fraction
    stated_share: Fraction
    accounted_share: Fraction
    weeks_for_stated_share: Fraction
    months_for_stated_share: Fraction
    dollars_for_stated_share: Fraction
    powered_off: Fraction
    revenue_forgone: Fraction


def world(inputs: Rollout) -> Fraction:
    """Return the world's compute in H100-equivalents, as the inputs imply it."""
    return Fraction(inputs.h100e) / Fraction(inputs.global_share)


def rows(inputs: Rollout, schedule: Schedule = PUBLISHED) -> tuple[Row, ...]:
    """Return each phase as stated beside what the inputs' pace makes of its weeks."""
    pace, done, made = costs(inputs).h100e_per_week, Fraction(0), []
    for phase in schedule.phases:
        equipped = pace * phase.weeks
        done += equipped
        made.append(
            Row(
                clusters_above=phase.clusters_above,
                weeks=Fraction(phase.weeks),
                stated_cumulative=Fraction(phase.stated_cumulative),
                equipped=equipped,
                cumulative=done,
                cumulative_share=done / world(inputs),
            )
        )
    return tuple(made)


def totals(inputs: Rollout, schedule: Schedule = PUBLISHED) -> Totals:
    """Return where the schedule ends, and what its stated share would take at this pace."""
    once, last = costs(inputs), rows(inputs, schedule)[-1]
    weeks = sum((Fraction(phase.weeks) for phase in schedule.phases), Fraction(0))
    wanted = schedule.equipped_share * world(inputs)
    off = schedule.powered_off_share * world(inputs)
    return Totals(
        weeks=weeks,
        months=weeks / WEEKS_PER_MONTH,
        world=world(inputs),
        equipped=last.cumulative,
        equipped_share=last.cumulative_share,
        stated_share=schedule.equipped_share,
        accounted_share=schedule.equipped_share + schedule.powered_off_share,
        weeks_for_stated_share=wanted / once.h100e_per_week,
        months_for_stated_share=wanted / once.h100e_per_week / WEEKS_PER_MONTH,
        dollars_for_stated_share=once.total * wanted / inputs.h100e,
        powered_off=off,
        revenue_forgone=off * inputs.revenue * schedule.months,
    )


class Contradiction(msgspec.Struct, frozen=True, kw_only=True):
    """Two statements of one source that cannot both hold, and what either comes to."""

    about: str
    stated: str
    follows: str


def contradictions(inputs: Rollout, schedule: Schedule = PUBLISHED) -> tuple[Contradiction, ...]:
    """Return where the stated schedule and the stated pace part, both sides given."""
    found = [_about_row(number, row) for number, row in enumerate(rows(inputs, schedule), 1)]
    end, once = totals(inputs, schedule), costs(inputs)
    column = sum((Fraction(phase.stated_cumulative) for phase in schedule.phases), Fraction(0))
    if end.equipped_share != end.stated_share:
        found.append(
            Contradiction(
                about="share of the world's compute",
                stated=f"{_percent(end.stated_share)} equipped",
                follows=f"{_millions(end.equipped)} of {_millions(end.world)} are "
                f"{_percent(end.equipped_share)}; {_percent(end.stated_share)} take "
                f"{_short(end.weeks_for_stated_share)} weeks and "
                f"${_millions(end.dollars_for_stated_share)}; the column, read as what each phase "
                f"adds, sums to {_millions(column)}, {_percent(column / end.world)}",
            )
        )
    if end.months != schedule.months:
        found.append(
            Contradiction(
                about="duration",
                stated=f"{_short(Fraction(schedule.months))} months",
                follows=f"the phases' {_short(end.weeks)} weeks are {_short(end.months)} months; "
                f"{_short(Fraction(schedule.months))} months at this pace equip "
                f"{_millions(schedule.months * WEEKS_PER_MONTH * once.h100e_per_week)}",
            )
        )
    if end.equipped != inputs.h100e:
        found.append(
            Contradiction(
                about="cost",
                stated=f"${_millions(once.total)} in all",
                follows=f"that equips {_millions(Fraction(inputs.h100e))}; the phases' weeks cost "
                f"${_millions(once.total * end.equipped / inputs.h100e)}",
            )
        )
    return tuple(each for each in found if each is not None)


def _about_row(number: int, row: Row) -> Contradiction | None:
    if row.cumulative == row.stated_cumulative:
        return None
    return Contradiction(
        about=f"phase {number}, cumulative",
        stated=f"{_millions(row.stated_cumulative)} after it",
        follows=f"its {_short(row.weeks)} weeks equip {_millions(row.equipped)} more, which makes "
        f"{_millions(row.cumulative)}; if the column holds instead, they equip "
        f"{_millions(row.stated_cumulative - row.cumulative + row.equipped)}",
    )


def _millions(value: Fraction) -> str:
    return f"{_short(value / 1_000_000)}M"


def _percent(share: Fraction) -> str:
    return f"{_short(share * 100)} %"


def _short(value: Fraction) -> str:
    return str(value) if value.denominator == 1 else f"{float(value):.4g}"
