"""The published deployment table follows to the digit, and its contradictions are named."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.economics.preparation import (
    Preparation,
    deterring_detection,
    made,
    simulate,
    weekly_detection,
)
from lydite.economics.rollout import (
    PUBLISHED,
    Phase,
    Rollout,
    Schedule,
    contradictions,
    costs,
    rows,
    totals,
    world,
)
from lydite.errors import ConfigurationError

M = 1_000_000


def test_the_deployment_table_follows_to_the_digit() -> None:
    found = costs(Rollout())
    assert found.servers == 250_000
    assert found.people == 4_000
    assert found.weeks == 5
    assert found.manufacturing == 100 * M
    assert found.person_hours == 1 * M
    assert found.labour == 100 * M
    assert found.total == 200 * M
    assert found.monthly_revenue == 100_000 * M
    assert found.share_of_revenue == Fraction(2, 1000)


def test_the_phases_follow_to_the_digit_where_they_agree_with_the_table() -> None:
    first, second, third = rows(Rollout())
    assert (first.weeks, first.cumulative, first.stated_cumulative) == (
        Fraction(5, 2),
        50 * M,
        50 * M,
    )
    assert (second.weeks, second.cumulative) == (Fraction(5, 2), 100 * M)
    assert second.stated_cumulative == 100 * M
    assert (third.weeks, third.stated_cumulative) == (5, 100 * M)
    assert [each.clusters_above for each in (first, second, third)] == [10 * M, M, 100_000]


def test_the_totals_are_given_as_stated_and_as_they_follow() -> None:
    end = totals(Rollout())
    assert (end.stated_share, end.accounted_share) == (Fraction(9, 10), Fraction(99, 100))
    assert PUBLISHED.months == 3
    assert end.world == 250 * M
    assert (end.equipped, end.equipped_share) == (200 * M, Fraction(8, 10))
    assert end.weeks == 10
    assert float(end.months) == pytest.approx(2.30, abs=0.005)
    assert end.weeks_for_stated_share == Fraction(45, 4)
    assert end.dollars_for_stated_share == 450 * M
    assert end.powered_off == Fraction(45, 2) * M


def test_each_contradiction_of_the_source_is_named_with_both_sides() -> None:
    found = {each.about: each for each in contradictions(Rollout())}
    assert set(found) == {
        "phase 3, cumulative",
        "share of the world's compute",
        "duration",
        "cost",
    }
    assert "100M" in found["phase 3, cumulative"].stated
    assert "200M" in found["phase 3, cumulative"].follows
    assert "250M, 100 %" in found["share of the world's compute"].follows
    assert "10 weeks are 2.3 months" in found["duration"].follows
    assert "$400M" in found["cost"].follows


def test_statements_that_agree_are_not_doubted() -> None:
    inputs = Rollout()
    schedule = Schedule(
        phases=(Phase(clusters_above=1, stated_cumulative=100 * M, weeks=5),),
        equipped_share=Fraction(2, 5),
        powered_off_share=Fraction(0),
        months=totals(inputs).months / 2,
    )
    assert contradictions(inputs, schedule) == ()


positive = st.fractions(min_value=Fraction(1, 1000), max_value=10**9)


@given(positive, positive, positive, positive)
def test_the_table_is_linear_where_it_should_be(
    h100e: Fraction, teams: Fraction, wage: Fraction, device: Fraction
) -> None:
    one = costs(Rollout(h100e=h100e, teams=teams, wage=wage, device_cost=device))
    two = costs(Rollout(h100e=2 * h100e, teams=2 * teams, wage=wage, device_cost=device))
    assert two.weeks == one.weeks
    assert two.total == 2 * one.total
    assert two.share_of_revenue == one.share_of_revenue
    assert one.weeks * teams * 50 == one.team_hours
    assert one.h100e_per_week * one.weeks == h100e


def test_an_input_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="teams is 0"):
        costs(Rollout(teams=0))


def test_with_all_devices_in_stock_there_is_no_buffer() -> None:
    found = simulate(Rollout(), Preparation(stock=250_000))
    assert (found.weeks_in_all, found.buffer_weeks) == (5, 0)
    assert found.weeks[-1].installed == 250_000


def obvious_made(plan: Preparation, weeks: int) -> float:
    """Devices counted hour by hour."""
    total, steps = float(plan.stock), 168
    for hour in range(weeks * steps):
        running = (hour + 0.5) / steps - float(plan.lead_weeks)
        if running > 0:
            growth = min(1.0, running / float(plan.ramp_weeks)) if plan.ramp_weeks else 1.0
            total += float(plan.devices_per_week) * growth / steps
    return total


@given(
    st.integers(0, 8),
    st.integers(0, 8),
    st.integers(1, 50_000),
    st.integers(0, 1000),
    st.integers(0, 20),
)
def test_devices_made_are_those_that_a_count_by_the_hour_finds(
    lead: int, ramp: int, rate: int, stock: int, weeks: int
) -> None:
    plan = Preparation(stock=stock, lead_weeks=lead, ramp_weeks=ramp, devices_per_week=rate)
    assert float(made(plan, Fraction(weeks))) == pytest.approx(obvious_made(plan, weeks), rel=1e-3)


@given(st.integers(0, 300_000), st.integers(0, 30), st.integers(1000, 60_000), st.integers(0, 5))
def test_servers_are_never_lost_and_devices_never_used_twice(
    stock: int, lead: int, rate: int, removals: int
) -> None:
    inputs = Rollout()
    plan = Preparation(
        stock=stock, lead_weeks=lead, devices_per_week=rate, removals_per_team_hour=removals
    )
    found = simulate(inputs, plan)
    before = Fraction(0)
    for week in found.weeks:
        assert week.installed + week.stripped + week.untouched == 250_000
        assert min(week.stripped, week.untouched) >= 0
        assert before <= week.installed <= week.made
        assert week.installed - before <= 50_000
        before = week.installed
    assert found.weeks[-1].installed == 250_000
    assert found.exposed >= 100 * M  # in the first week nothing is done yet


def test_a_factory_that_makes_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no devices"):
        simulate(Rollout(), Preparation(devices_per_week=0))
    with pytest.raises(ConfigurationError, match="below zero"):
        simulate(Rollout(), Preparation(lead_weeks=-1))


@given(st.integers(1, 200), st.floats(0.01, 0.999))
def test_a_weekly_chance_adds_up_to_the_confidence(weeks: int, confidence: float) -> None:
    chance = weekly_detection(weeks, confidence)
    missed = 1.0
    for _ in range(weeks):
        missed *= 1 - chance
    assert 1 - missed == pytest.approx(confidence)


@given(st.floats(0, 1e9), st.floats(0.1, 1e9))
def test_at_the_deterring_chance_a_run_neither_pays_nor_costs(gain: float, loss: float) -> None:
    chance = deterring_detection(gain, loss)
    assert (1 - chance) * gain == pytest.approx(chance * loss, abs=1e-6 * (gain + loss))


def test_the_world_is_what_the_share_implies() -> None:
    assert world(Rollout(h100e=10, global_share=Fraction(1, 4))) == 40
