"""The modes, checked in every state that they can reach, whatever the world around them does.

The world is a power switch that may refuse, a machine that keeps what it was switched on with, a
whitelist that changes, bytes of any number that may be wrong, digests that come late, and crashes.
``explore`` walks all of it; the invariants of ``modes`` are asserted in each state.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from lydite.errors import LyditeError, Reason
from lydite.gateway.modes import modes
from lydite.gateway.modes.modes import (
    Answers,
    Arrived,
    Begin,
    Deed,
    Event,
    Fail,
    Matched,
    PowerIsOff,
    State,
    Unlisted,
    step,
)
from lydite.messages.mode import Cause, Mode

MODELS = {"a": 2, "b": 5}
"""Models that may be listed, and their sizes in bytes."""
ATTEMPTS = 4
"""How often the power may go off between two crashes, before the walk stops there."""


class World(NamedTuple):
    """A gateway's state and everything around it."""

    state: State = State()
    listed: frozenset[str] = frozenset(MODELS)
    on: bool = True
    """At the first start nobody knows: the worst is assumed, twice."""
    holds: str = "anything"
    """What a machine that is on was switched on with."""
    cut: bool = True
    """A cut of the power is under way."""
    switch: bool = False
    """The machine is being switched on."""
    came: int = 0
    """Ghost: bytes since the power was last known to be off."""
    wrong: bool = False
    """Ghost: one of them was not the model's."""
    told: str | None = None
    """Ghost: the model that the bytes were said to be."""
    unlisted: bool = False
    """Ghost: that model was taken off the whitelist in between."""


FIRST = World()


def lists(world: World) -> dict[str, int]:
    return {model: MODELS[model] for model in world.listed}


def after(world: World, event: Event, **news: object) -> World | None:
    """What the world is after an event that the machine takes, with what else happened."""
    try:
        state, deed, _ = step(world.state, event, lists(world))
    except LyditeError:
        return None
    world = world._replace(state=state, **news)
    if deed is Deed.CUT:
        world = world._replace(cut=True, switch=False, told=None)
    if deed is Deed.POWER_ON:
        world = world._replace(switch=True)
    return world


def uploads(world: World) -> Iterator[World | None]:
    for model in ("a", "b", "c"):
        for size in range(7):
            fresh = {"told": model, "came": 0, "wrong": False, "unlisted": False}
            yield after(world, Begin(model, size), **fresh)
    for attempt in (world.state.attempt, world.state.attempt - 1):
        for length in range(1, 7):
            now = attempt == world.state.attempt
            counted = min(world.came + (length if now else 0), 12)
            for wrong in (False, True):
                tainted = world.wrong or (wrong and now)
                yield after(world, Arrived(attempt, length), came=counted, wrong=tainted)
    if not world.wrong and world.told is not None and world.came == MODELS.get(world.told):
        yield after(world, Matched(world.state.attempt))
    yield after(world, Matched(world.state.attempt - 1))
    if world.wrong:
        yield after(world, Fail(Cause.WRONG_WEIGHTS, world.state.attempt))


def outside(world: World) -> Iterator[World | None]:
    yield after(world, Fail(Cause.INSTRUCTION))
    yield after(world, Fail(Cause.STALLED, world.state.attempt - 1))
    if world.on and world.state.mode is Mode.LOADING:
        yield after(world, Answers(world.state.attempt))
    yield after(world, Answers(world.state.attempt - 1))
    for model in MODELS:
        gone = world._replace(listed=world.listed - {model})
        yield after(gone, Unlisted(model), unlisted=world.unlisted or world.told == model)
        yield world._replace(listed=world.listed | {model})


def physics(world: World) -> Iterator[World | None]:
    if world.cut:  # it may be refused, which changes nothing
        dark = world._replace(on=False, holds="nothing", cut=False, switch=False)
        yield after(dark, PowerIsOff(), came=0, wrong=False, told=None, unlisted=False)
    if world.switch:
        good = world.told or "anything"
        yield world._replace(on=True, switch=False, holds="anything" if world.wrong else good)
    # A crash takes the state and what was under way, never the machine's power or memory.
    yield World(on=world.on, holds=world.holds, listed=world.listed)


def moves(world: World) -> Iterator[World]:
    for moved in (*uploads(world), *outside(world), *physics(world)):
        if moved is not None and moved.state.attempt <= ATTEMPTS:
            yield moved


def explore() -> dict[World, set[World]]:
    """Every state that can be reached, and where each leads."""
    found: dict[World, set[World]] = {}
    queue = deque([FIRST, FIRST._replace(on=False, holds="nothing")])
    while queue:
        world = queue.popleft()
        if world not in found:
            found[world] = set(moves(world))
            queue.extend(found[world])
    return found


@pytest.fixture(scope="module")
def graph() -> dict[World, set[World]]:
    return explore()


def test_the_walk_goes_everywhere(graph: dict[World, set[World]]) -> None:
    assert {world.state.mode for world in graph} == set(Mode)
    assert any(world.state.mode is Mode.SERVING and world.state.model == "b" for world in graph)
    assert any(world.wrong for world in graph)
    assert len(graph) > 1_000


def test_what_is_served_was_uploaded_whole_listed_and_right(graph: dict[World, set[World]]) -> None:
    for world in graph:
        if world.state.mode is Mode.SERVING:
            assert world.came == MODELS.get(str(world.told)) == world.state.size
            assert world.state.model == world.told == world.holds
            assert not world.wrong
            assert not world.unlisted
            assert world.state.model in world.listed
            assert world.on


def test_the_power_is_on_only_where_it_may_be(graph: dict[World, set[World]]) -> None:
    for world in graph:
        if world.on:
            assert world.state.mode in {Mode.LOADING, Mode.SERVING, Mode.DARK}
        if world.state.mode is Mode.DARK:
            assert world.cut, "in the dark the power is always being cut"
        else:
            assert not world.cut


def test_no_wrong_byte_is_ever_switched_on(graph: dict[World, set[World]]) -> None:
    for world in graph:
        if world.wrong:
            assert not world.switch
            assert world.state.mode in {Mode.UPLOAD, Mode.DARK}
        if world.on and world.state.mode is not Mode.DARK:
            assert world.holds == world.state.model


def test_the_counter_is_volatile_and_bounded(graph: dict[World, set[World]]) -> None:
    for world in graph:
        if world.state.mode is Mode.DARK:
            assert (world.state.received, world.state.size, world.state.model) == (0, 0, None)
        assert world.state.received <= world.state.size
        if world.state.mode is Mode.UPLOAD:
            assert world.state.received == world.came


def test_bytes_are_taken_only_in_upload(graph: dict[World, set[World]]) -> None:
    for world, nexts in graph.items():
        for follower in nexts:
            if follower.state.received > world.state.received:
                assert world.state.mode is follower.state.mode is Mode.UPLOAD


def test_from_every_state_uploads_and_serving_can_be_reached(
    graph: dict[World, set[World]],
) -> None:
    inside = {world for world in graph if world.state.attempt < ATTEMPTS - 1}
    for goal in (Mode.UPLOAD, Mode.SERVING):
        good = {world for world in graph if world.state.mode is goal}
        backwards: dict[World, list[World]] = {}
        for world, nexts in graph.items():
            for follower in nexts:
                backwards.setdefault(follower, []).append(world)
        queue = deque(good)
        while queue:
            for world in backwards.get(queue.popleft(), ()):
                if world not in good:
                    good.add(world)
                    queue.append(world)
        assert inside <= good


INVARIANTS = (
    test_what_is_served_was_uploaded_whole_listed_and_right,
    test_the_power_is_on_only_where_it_may_be,
    test_no_wrong_byte_is_ever_switched_on,
    test_the_counter_is_volatile_and_bounded,
    test_bytes_are_taken_only_in_upload,
)


def matches_anything(state: State) -> modes.Step:
    return modes.Step(state._replace(mode=Mode.LOADING), Deed.POWER_ON, Cause.UPLOADED)


def counts_for_ever(state: State, length: int) -> modes.Step:
    return modes.Step(state._replace(received=state.received + length))


def goes_dark_without_a_cut(state: State, cause: Cause) -> modes.Step:
    return modes.Step(State(attempt=state.attempt + 1), None, cause)


def remembers_in_the_dark(state: State, cause: Cause) -> modes.Step:
    return modes.Step(state._replace(mode=Mode.DARK, attempt=state.attempt + 1), Deed.CUT, cause)


def begins_anywhere(state: State, event: Begin, listed: modes.Whitelist) -> State:
    return state._replace(model=event.model, size=listed.get(event.model, event.size))


def answers_anywhere(state: State) -> modes.Step:
    return modes.Step(state._replace(mode=Mode.SERVING), cause=Cause.ANSWERS)


@pytest.mark.parametrize(
    ("rule", "broken"),
    [
        ("_matched", matches_anything),
        ("_arrived", counts_for_ever),
        ("_dark", goes_dark_without_a_cut),
        ("_dark", remembers_in_the_dark),
        ("_begin", begins_anywhere),
        ("_answers", answers_anywhere),
    ],
)
def test_a_broken_rule_would_be_noticed(
    monkeypatch: pytest.MonkeyPatch, rule: str, broken: Any
) -> None:
    monkeypatch.setattr(modes, rule, broken)
    monkeypatch.setitem(globals(), "uploads", eager)
    graph = explore()
    broken_ones = 0
    for invariant in INVARIANTS:
        try:
            invariant(graph)
        except AssertionError:
            broken_ones += 1
    assert broken_ones


def eager(world: World) -> Iterator[World | None]:
    """What an uploader and a hash that cries too early may do; less of it than ``uploads``."""
    for size in (1, 5):
        fresh = {"told": "b", "came": 0, "wrong": False, "unlisted": False}
        yield after(world, Begin("b", size), **fresh)
    if world.came < 7:
        yield after(world, Arrived(world.state.attempt, 1), came=world.came + 1)
    yield after(world, Matched(world.state.attempt))
    yield after(world, Answers(world.state.attempt))


@pytest.mark.parametrize(
    ("state", "event", "reason"),
    [
        (State(), Begin("a", 2), Reason.CONFLICT),
        (State(Mode.SERVING, 1, "a", 2, 2), Begin("a", 2), Reason.CONFLICT),
        (State(Mode.LOADING, 1, "a", 2, 2), Begin("b", 5), Reason.CONFLICT),
        (State(Mode.UPLOAD, 1, "a", 2, 0), Begin("a", 2), Reason.CONFLICT),
        (State(Mode.UPLOAD, 1), Begin("c", 1), Reason.NOT_LISTED),
        (State(Mode.UPLOAD, 1), Begin("b", 4), Reason.WRONG_LENGTH),
        (State(Mode.UPLOAD, 1), Begin("b", 6), Reason.WRONG_LENGTH),
        (State(Mode.UPLOAD, 1), Arrived(1, 1), Reason.CONFLICT),
        (State(Mode.UPLOAD, 1, "b", 5, 2), Arrived(1, 0), Reason.CONFLICT),
        (State(Mode.UPLOAD, 1, "b", 5, 4), Matched(1), Reason.CONFLICT),
        (State(Mode.UPLOAD, 1), PowerIsOff(), Reason.CONFLICT),
        (State(Mode.UPLOAD, 1, "b", 5, 5), Answers(1), Reason.CONFLICT),
    ],
)
def test_what_has_no_place_is_refused_by_name(state: State, event: Event, reason: Reason) -> None:
    with pytest.raises(LyditeError) as refused:
        step(state, event, MODELS)
    assert refused.value.reason is reason
