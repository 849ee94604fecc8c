"""What if the devices are not made yet: the weeks before a rollout, and what stands in for it.

Simulates week by week, with exact fractions. Teams install whatever devices are in stock when a
week begins, and spend the hours left on an interim measure: taking out interconnect without a
device. Knows nothing of what a device does.
"""

from fractions import Fraction
from typing import Annotated

import msgspec

from lydite.economics.rollout import WEEKS_PER_MONTH, Number, Rollout, costs
from lydite.errors import ConfigurationError

_MOST_WEEKS = 10_000


class Preparation(msgspec.Struct, frozen=True, kw_only=True):
    """How devices come to be. The source states none of these: they are for whoever plans."""

    stock: Annotated[Number, msgspec.Meta(description="devices that exist on the first day")] = 0
    lead_weeks: Annotated[
        Number, msgspec.Meta(description="weeks until the first device leaves the factory")
    ] = 26
    ramp_weeks: Annotated[
        Number, msgspec.Meta(description="weeks from then to full production, growing evenly")
    ] = 8
    devices_per_week: Annotated[
        Number, msgspec.Meta(description="devices a week at full production")
    ] = 20_000
    removals_per_team_hour: Annotated[
        Number,
        msgspec.Meta(description="servers that a team strips of interconnect in an hour, no more"),
    ] = 2


class Week(msgspec.Struct, frozen=True, kw_only=True):
    """How many servers are in which state when a week (from 1) is over."""

    week: int
    made: Fraction
    installed: Fraction
    stripped: Fraction
    untouched: Fraction


class Buffer(msgspec.Struct, frozen=True, kw_only=True):
    """What lacking devices costs. ``exposed`` and ``stripped_only`` are in H100e-weeks.

    ``buffer_weeks`` is how much later the last server is equipped than with all devices in stock.
    ``idle_revenue`` is what switching off everything not yet equipped would forgo, in dollars.
    """

    weeks: tuple[Week, ...]
    weeks_in_all: int
    buffer_weeks: int
    exposed: Fraction
    stripped_only: Fraction
    idle_revenue: Fraction


def made(plan: Preparation, weeks: Fraction) -> Fraction:
    """Return how many devices exist after so many weeks: none, a ramp, then a steady rate."""
    running = max(Fraction(0), weeks - plan.lead_weeks)
    ramp = Fraction(plan.ramp_weeks)
    growing = min(running, ramp)
    early = Fraction(plan.devices_per_week) * growing * growing / (2 * ramp) if ramp else 0
    return plan.stock + early + (running - growing) * plan.devices_per_week


def simulate(inputs: Rollout, plan: Preparation) -> Buffer:
    """Return what happens week by week until every server has its device.

    Raises:
        ConfigurationError: an input is below zero, or too few devices are ever made.
    """
    if any(value < 0 for value in msgspec.structs.asdict(plan).values()):
        raise ConfigurationError("an input of the preparation is below zero")
    once = costs(inputs)
    if plan.devices_per_week == 0 and plan.stock < once.servers:
        raise ConfigurationError("no devices are made, and the stock is too small")
    hours = Fraction(inputs.teams) * inputs.hours_per_week
    weeks: list[Week] = []
    installed = stripped = Fraction(0)
    while installed < once.servers:
        if len(weeks) == _MOST_WEEKS:
            raise ConfigurationError(f"it takes more than {_MOST_WEEKS} weeks")
        stock = made(plan, Fraction(len(weeks))) - installed
        fitted = min(hours * inputs.servers_per_team_hour, stock, once.servers - installed)
        spare = hours - fitted / inputs.servers_per_team_hour
        untouched = once.servers - installed - stripped
        from_untouched = min(fitted, untouched)
        installed += fitted
        stripped -= fitted - from_untouched
        stripped += min(spare * plan.removals_per_team_hour, untouched - from_untouched)
        weeks.append(
            Week(
                week=len(weeks) + 1,
                made=made(plan, Fraction(len(weeks) + 1)),
                installed=installed,
                stripped=stripped,
                untouched=once.servers - installed - stripped,
            )
        )
    return _summary(inputs, weeks, once.weeks)


def _summary(inputs: Rollout, weeks: list[Week], least: Fraction) -> Buffer:
    size = Fraction(inputs.h100e_per_server)
    start = weeks[0].installed + weeks[0].stripped + weeks[0].untouched
    before = [start, *(each.untouched for each in weeks[:-1])]
    stripped = [Fraction(0), *(each.stripped for each in weeks[:-1])]
    waiting = sum(before, Fraction(0)) + sum(stripped, Fraction(0))
    return Buffer(
        weeks=tuple(weeks),
        weeks_in_all=len(weeks),
        buffer_weeks=len(weeks) - -(-least.numerator // least.denominator),
        exposed=size * sum(before, Fraction(0)),
        stripped_only=size * sum(stripped, Fraction(0)),
        idle_revenue=size * waiting * inputs.revenue / WEEKS_PER_MONTH,
    )


def weekly_detection(weeks: int, confidence: float) -> float:
    """Return the chance a week of noticing a run by other means that adds up to ``confidence``.

    What human intelligence has to achieve during a buffer of so many weeks, if weeks are alike and
    independent of one another.
    """
    if weeks < 1 or not 0 < confidence < 1:
        raise ConfigurationError("a buffer has a week or more, a confidence lies between 0 and 1")
    return float(1 - (1 - confidence) ** (1 / weeks))


def deterring_detection(gain: float, loss: float) -> float:
    """Return the least chance of being found out that makes a run not worth its while.

    ``gain`` if it stays hidden, ``loss`` if it does not, in one unit. This is the
    risk-neutral bound: nothing says that anybody calculates so.
    """
    if gain < 0 or loss <= 0:
        raise ConfigurationError("a gain is not below zero, and a loss is above it")
    return gain / (gain + loss)
