"""Compares an endpoint with a second one asked at the same time, or with its own past.

Neither weights nor a tokenizer are at hand: all that counts is the first token of each answer, and
the log-probabilities of the likeliest ones where both sides report them. Knows nothing of models.
"""

import collections
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from lydite.auditor.probing.verdict import COVERED_LEAST, Alternative
from lydite.errors import LyditeError, Reason
from lydite.evidence.endpoint.claims import Answer
from lydite.evidence.endpoint.reference import Bounds
from lydite.messages.canonical import Count, Integer, Message, Word
from lydite.messages.tier import Tier
from lydite.statistics import bounded, paired, sizing, swap
from lydite.statistics.merging import log_mean
from lydite.statistics.power import first_crossing, tokens_for_power

FIRST_TOKEN = 1
_MICRO = 1_000_000
_EFFECT = 0.2
"""Total variation of the alternative that draws of first tokens are sized for."""
_RUNS, _LONGEST = 20, 3000
"""Simulated audits for that size, and the pairs after which one counts as never found out."""


class Observation(Message, frozen=True, kw_only=True):
    """The first token of one answer."""

    text: str
    row: dict[str, float]
    """Log-probabilities of the likeliest tokens, in nats; empty where none were reported."""


class Pair(Message, frozen=True, kw_only=True):
    """What both sides said to one prompt."""

    prompt: Word
    ours: Observation
    theirs: Observation


class Comparison(Message, frozen=True, kw_only=True):
    """The judgement on a pair of endpoints, and what it follows from."""

    tier: Tier
    reason: Reason
    detail: str
    channels: dict[str, Integer]
    """log10 of e-values, in thousandths."""
    pairs: Count
    alternative: Alternative
    tracked: bool
    """Whether log-probabilities were compared, rather than drawn tokens alone."""


class Sides(NamedTuple):
    """How the two sides are meant; settled before anything is compared."""

    past: bool
    """The second side is the endpoint's own past: it may change without cheating."""
    tracked: bool
    """Both sides report log-probabilities, which are compared; else drawn tokens are."""


def observed(answer: Answer | LyditeError, *, tracked: bool) -> Observation | Reason:
    """Return the first token of an answer, or why there is none to compare."""
    if isinstance(answer, LyditeError):
        return answer.reason
    if tracked and (not answer.reported or answer.coarse):
        return answer.fault or Reason.BAD_LOGPROBS
    row: dict[str, float] = {}
    if answer.reported:
        first = answer.reported[0]
        row = dict(first.top)
        row.setdefault(first.token, first.logprob)
    return Observation(text=answer.text, row=row)


def rounds(prompts: Sequence[dict[str, Any]], times: int) -> Iterator[dict[str, Any]]:
    """Yield every prompt in turn, again and again."""
    return (prompt for _ in range(times) for prompt in prompts)


def pair(prompt: int, ours: Observation | Reason, theirs: Observation | Reason) -> Pair | Reason:
    """Return what both said to the prompt of that number, or why nothing is compared."""
    if isinstance(ours, Reason):
        return ours
    if isinstance(theirs, Reason):
        return theirs
    return Pair(prompt=f"prompt {prompt + 1}", ours=ours, theirs=theirs)


def compare(
    pairs: Sequence[Pair], prompts: int, bounds: Bounds, alpha: float, sides: Sides
) -> Comparison:
    """Judge two sides by the pairs that they answered, over ``prompts`` prompts fixed beforehand.

    1. Contraindicated, or for the endpoint's own past a warning, if they differ by more than any
       honest numerics: in mean log-probability, or in total variation.
    2. Warning if they differ by more than honest machines that were measured.
    3. None if they differ at all: an exact bet on which answer is whose, which nothing that both
       share can explain. For draws, which numerics hardly move, this is a warning.
    4. None if there are fewer pairs than it takes to notice the alternative; affirming otherwise.

    **Does not show** that either side serves what it names, only that they answer alike; nor
    anything beyond first tokens.
    """
    tracked = sides.tracked
    channels = _tracked(pairs, prompts, bounds) if tracked else _drawn(pairs, prompts, bounds)
    size = _rows_needed(bounds, alpha) if tracked else _draws_needed(pairs, prompts, alpha)
    tier, reason, detail = _judge(channels, len(pairs), size, alpha, sides)
    return Comparison(
        tier=tier,
        reason=reason,
        detail=detail,
        channels=channels,
        pairs=len(pairs),
        alternative=size,
        tracked=tracked,
    )


def as_far_as_taught(found: Comparison, taught: Sequence[Pair | Reason]) -> Comparison:
    """Return the judgement, an affirmation only if nine in ten of what was asked was compared."""
    missed = collections.Counter(one for one in taught if isinstance(one, Reason))
    enough = len(taught) - missed.total() >= COVERED_LEAST * len(taught)
    if found.tier is not Tier.AFFIRMING or enough:
        return found
    [(reason, _)] = missed.most_common(1)
    words = f"{missed.total()} of {len(taught)} pairs could not be compared"
    return msgspec.structs.replace(found, tier=Tier.NONE, reason=reason, detail=words)


def _judge(
    channels: dict[str, int], pairs: int, size: Alternative, alpha: float, sides: Sides
) -> tuple[Tier, Reason, str]:
    level = round(-1000 * math.log10(alpha))
    if channels["gross"] >= level:
        tier = Tier.WARNING if sides.past else Tier.CONTRAINDICATED
        return tier, Reason.ENDPOINTS_DIFFER, "by more than any honest numerics"
    if channels.get("numerics", 0) >= level:
        return Tier.WARNING, Reason.NUMERICS_DIFFER, "by more than honest machines were seen to"
    if channels["exact"] >= level:
        if "numerics" in channels:
            return Tier.NONE, Reason.NUMERICS_DIFFER, "by no more than honest machines do"
        words = "sampling, template or numerics may explain it"
        return Tier.WARNING, Reason.ENDPOINTS_DIFFER, words
    if size.noticed_within is None or pairs < size.noticed_within:
        return Tier.NONE, Reason.UNDERPOWERED, f"too few pairs to show {size.name}"
    return Tier.AFFIRMING, Reason.CONSISTENT, ""


def _grouped(pairs: Iterable[Pair]) -> dict[str, list[Pair]]:
    grouped: dict[str, list[Pair]] = {}
    for one in pairs:
        grouped.setdefault(one.prompt, []).append(one)
    return grouped


def _over(logs: list[float], prompts: int) -> int:
    """Return the average over prompts; one that was not asked yet counts as 1."""
    return _milli(log_mean([*logs, *[0.0] * (prompts - len(logs))]))


def _tracked(pairs: Sequence[Pair], prompts: int, bounds: Bounds) -> dict[str, int]:
    apart = [_apart(one) for one in pairs]
    exact = [
        math.fsum(paired.log_steps((one.ours.row, one.theirs.row) for one in some))
        for some in _grouped(pairs).values()
    ]
    return {
        "exact": _over(exact, prompts),
        "gross": _milli(bounded.log_e(apart, bounds.residual_mean_micro)),
        "numerics": _milli(bounded.log_e(apart, bounds.numerics_mean_micro)),
    }


def _apart(one: Pair) -> int:
    """Return the mean absolute difference of the rows, at most a nat, in micro-nats."""
    apart = paired.difference(one.ours.row, one.theirs.row)
    mean = math.fsum(abs(value) for value in apart.values()) / len(apart)
    return min(round(_MICRO * mean), _MICRO)


def _drawn(pairs: Sequence[Pair], prompts: int, bounds: Bounds) -> dict[str, int]:
    numbers: dict[str, int] = {}
    coded = {
        name: [
            (
                numbers.setdefault(one.ours.text, len(numbers)),
                numbers.setdefault(one.theirs.text, len(numbers)),
            )
            for one in some
        ]
        for name, some in _grouped(pairs).items()
    }
    levels = {
        "exact": [math.fsum(swap.log_steps(some)) for some in coded.values()],
        "gross": [math.fsum(swap.log_steps(some, bounds.drift_micro)) for some in coded.values()],
    }
    return {name: _over(logs, prompts) for name, logs in levels.items()}


def _rows_needed(bounds: Bounds, alpha: float) -> Alternative:
    """Return by how many pairs a mean difference of twice the warning bound is noticed."""
    value = 2 * bounds.numerics_mean_micro
    gains = [math.log1p(s * (value / bounds.numerics_mean_micro - 1)) for s in bounded.STAKES]
    paid = math.log(len(gains))
    size = sizing.needed(lambda m: m * max(gains) - paid, 0.0, sizing.Goal(math.log(1 / alpha)))
    return Alternative(
        name=f"a mean difference of {value / _MICRO:g} nats",
        accused_within=None,
        noticed_within=size,
        channels={"numerics": size},
    )


def _draws_needed(pairs: Sequence[Pair], prompts: int, alpha: float) -> Alternative:
    """Return by how many pairs it shows that a fifth of the first tokens is another one.

    Simulated on what both sides drew, with dice that are the same each time.
    """
    dice = random.Random(0)
    pools = [
        [*(one.ours.text for one in some), *(one.theirs.text for one in some)]
        for some in _grouped(pairs).values()
    ]
    codes = [{text: i for i, text in enumerate(sorted(set(pool)))} for pool in pools]

    def stream() -> Iterator[tuple[str, int, int]]:
        for number in range(_LONGEST):
            at = number % len(pools)
            x, y = (codes[at][dice.choice(pools[at])] for _ in range(2))
            yield str(at), len(codes[at]) if dice.random() < _EFFECT else x, y

    level = math.log(1 / alpha)
    crossed = [
        first_crossing(islice(swap.running(stream(), max(prompts, len(pools))), _LONGEST), level)
        for _ in range(_RUNS if pools else 0)
    ]
    size = tokens_for_power(crossed) if crossed else None
    return Alternative(
        name="another word in every fifth first token",
        accused_within=None,
        noticed_within=size,
        channels={"exact": size},
    )


def _milli(log: float) -> int:
    return round(1000 * max(-1e6, min(1e6, log / math.log(10))))
