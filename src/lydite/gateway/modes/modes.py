"""The modes of a gateway as a state machine. Pure: no clock, no I/O, no hash.

**States.** A state is a mode, an attempt, the model under way, and the counter of its bytes.

| mode | power | taken | given |
|---|---|---|---|
| DARK | being cut, until it is known to be off | nothing | nothing |
| UPLOAD | off | the bytes of one listed model | nothing |
| LOADING | on | nothing; one byte more cuts the power | nothing |
| SERVING | on | nothing; one byte more cuts the power | answers |

The first state, after every start and every crash, is DARK with nothing under way: the counter is
volatile, and a gateway that starts does not know what its machine holds.

**Events**, and what they do; whatever is not in the table is refused and changes nothing.

| event | DARK | UPLOAD | LOADING | SERVING |
|---|---|---|---|---|
| ``PowerIsOff`` | UPLOAD | | | |
| ``Begin`` a listed model, of its size | | if none is under way: it is | | |
| ``Arrived`` n bytes | | count; beyond the size: DARK | DARK | DARK |
| ``Matched`` every digest | | at exactly the size: LOADING | | |
| ``Answers`` | | | SERVING | |
| ``Fail`` with a cause | stays | DARK | DARK | DARK |
| ``Unlisted`` a model | stays | DARK if it is under way | DARK if it is | DARK if it is |

``Arrived``, ``Matched`` and ``Answers`` say to which attempt they belong, ``Fail`` may: of an
attempt that is over they change nothing. Entering DARK ends the attempt and demands ``CUT``,
entering LOADING demands ``POWER_ON``; nothing else does either.

**Invariants**, each of which the tests hold against every reachable state of this machine beside a
power supply that may refuse, a machine that may hold anything, and crashes at any moment:

1. SERVING only if, since the power was last known to be off, exactly the size's bytes of one model
   came, all of them matched, and the model was on the whitelist throughout.
2. The power is on only in LOADING and SERVING, or in DARK, where it is being cut.
3. After a byte that does not match, no byte is served before the power has been off.
4. The counter is zero in DARK, and so after every crash.
5. Bytes are taken only in UPLOAD, and at most the size's.
6. From every state some run leads to UPLOAD, and from there one to SERVING.
"""

import enum
from collections.abc import Mapping
from typing import NamedTuple, Never

from lydite.errors import FormatError, Reason, UnavailableError, VerificationError
from lydite.messages.mode import Cause, Mode

Whitelist = Mapping[str, int]
"""Weights root of each listed model, and its size in bytes."""


class State(NamedTuple):
    """Where a gateway is. ``attempt`` counts how often it went dark since it started."""

    mode: Mode = Mode.DARK
    attempt: int = 0
    model: str | None = None
    size: int = 0
    received: int = 0


class Deed(enum.Enum):
    """What a step demands of whoever keeps the mode."""

    CUT = "cut"
    """Switch the machine off and wipe the store, again and again until it is done."""
    POWER_ON = "power-on"
    """Switch the machine on with what is in the store."""


class PowerIsOff(NamedTuple):
    """The machine is known to be off, and the store to be empty."""


class Begin(NamedTuple):
    """Somebody wants to upload ``size`` bytes of ``model``."""

    model: str
    size: int


class Arrived(NamedTuple):
    """``length`` bytes came, at least one."""

    attempt: int
    length: int


class Matched(NamedTuple):
    """Every digest of the model under way matched."""

    attempt: int


class Answers(NamedTuple):
    """The machine answers, and the log says so."""

    attempt: int


class Fail(NamedTuple):
    """Something is wrong, or somebody wants an end of it."""

    cause: Cause
    attempt: int | None = None


class Unlisted(NamedTuple):
    """A model was taken off the whitelist."""

    model: str


Event = PowerIsOff | Begin | Arrived | Matched | Answers | Fail | Unlisted


class Step(NamedTuple):
    """The state after an event, what it demands, and why the mode is another, if it is."""

    state: State
    deed: Deed | None = None
    cause: Cause | None = None


def step(state: State, event: Event, whitelist: Whitelist) -> Step:
    """Return what ``event`` does in ``state``.

    Raises:
        UnavailableError: the event has no place in this mode (``conflict``).
        VerificationError: the model is not on the whitelist (``not-listed``).
        FormatError: the size is not the model's (``wrong-length``).
    """
    if isinstance(event, Fail):
        return _fail(state, event)
    if isinstance(event, PowerIsOff):
        return _power_is_off(state)
    if isinstance(event, Begin):
        return Step(_begin(state, event, whitelist))
    if isinstance(event, Unlisted):
        return _dark(state, Cause.UNLISTED) if state.model == event.model else Step(state)
    if event.attempt != state.attempt:
        return Step(state)
    if isinstance(event, Arrived):
        return _arrived(state, event.length)
    return _matched(state) if isinstance(event, Matched) else _answers(state)


def _dark(state: State, cause: Cause) -> Step:
    return Step(State(attempt=state.attempt + 1), Deed.CUT, cause)


def _fail(state: State, event: Fail) -> Step:
    over = event.attempt is not None and event.attempt != state.attempt
    return Step(state) if over or state.mode is Mode.DARK else _dark(state, event.cause)


def _power_is_off(state: State) -> Step:
    if state.mode is not Mode.DARK:
        _refuse(state, "nobody asked for the power to be cut")
    return Step(State(Mode.UPLOAD, state.attempt), cause=Cause.POWER_OFF)


def _begin(state: State, event: Begin, whitelist: Whitelist) -> State:
    if state.mode is not Mode.UPLOAD:
        _refuse(state, "no upload is taken")
    if state.model is not None:
        _refuse(state, "another upload is under way")
    if event.model not in whitelist:
        raise VerificationError(Reason.NOT_LISTED, f"{event.model[:16]} is not on the whitelist")
    size = whitelist[event.model]
    if event.size != size:
        raise FormatError(
            f"{event.model[:16]} has {size} bytes, announced are {event.size}", Reason.WRONG_LENGTH
        )
    return state._replace(model=event.model, size=size)


def _arrived(state: State, length: int) -> Step:
    if state.mode is Mode.DARK or state.model is None or length < 1:
        _refuse(state, "no upload is under way")
    received = state.received + length
    if state.mode is not Mode.UPLOAD or received > state.size:
        return _dark(state, Cause.TOO_LONG)
    return Step(state._replace(received=received))


def _matched(state: State) -> Step:
    if state.mode is not Mode.UPLOAD or state.model is None or state.received != state.size:
        _refuse(state, "no upload is complete")
    return Step(state._replace(mode=Mode.LOADING), Deed.POWER_ON, Cause.UPLOADED)


def _answers(state: State) -> Step:
    if state.mode is not Mode.LOADING:
        _refuse(state, "nothing is being loaded")
    return Step(state._replace(mode=Mode.SERVING), cause=Cause.ANSWERS)


def _refuse(state: State, why: str) -> Never:
    raise UnavailableError(f"in mode {state.mode} {why}", Reason.CONFLICT)
