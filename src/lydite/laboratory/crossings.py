"""After how many tokens a verdict would stand: the arithmetic of verdicts on recorded streams.

For the power that Reference Values state. Knows nothing of who made the streams.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from lydite.evidence.tokens.reference import channel_log10_e
from lydite.messages.finding import Finding
from lydite.statistics.merging import log_average

Read = Callable[[Any, Sequence[Finding]], tuple[tuple[str, float], ...]]
"""How one kind of evidence reads its scores against its Reference Value: log10 of each channel."""

_SEARCHED = 4
"""Answers within which a crossing is looked for token by token."""


def crossings(
    reference: Any,
    answers: Sequence[Finding],
    ways: Sequence[Sequence[str]],
    log10_level: float,
    read: Read = channel_log10_e,
) -> list[int | None]:
    """Return for each way after how many tokens the verdict's own arithmetic reaches a level.

    ``answers`` are scores against ``reference``, which ``read`` reads. A way names the channels
    that are averaged with equal weights. One looks after every answer, of many answers ever less
    often, and within the first few answers after every token.
    """
    found: dict[int, int] = {}
    for count in _looks(len(answers)):
        levels = dict(_levels(reference, answers[:count], ways, read))
        reached = {number for number, level in levels.items() if level >= log10_level}
        for number in reached - found.keys():
            found[number] = _within(reference, answers[:count], ways[number], log10_level, read)
        if len(found) == len(ways):
            break
    return [found.get(number) for number in range(len(ways))]


def _looks(answers: int) -> Iterator[int]:
    count = 0
    while count < answers:
        count += max(1, count // 10)
        yield min(count, answers)


def _levels(
    reference: Any, answers: Sequence[Finding], ways: Sequence[Sequence[str]], read: Read
) -> Iterator[tuple[int, float]]:
    """Yield the number of each way and log10 of its e-value."""
    known = dict(read(reference, answers))
    for number, way in enumerate(ways):
        if known.keys() >= set(way):
            logs = [known[channel] * math.log(10) for channel in way]
            yield number, log_average(logs, [1 / len(way)] * len(way)) / math.log(10)


def _within(
    reference: Any,
    answers: Sequence[Finding],
    way: Sequence[str],
    log10_level: float,
    read: Read,
) -> int:
    *before, last = answers
    seen = sum(_tokens(answer) for answer in before)
    if len(before) < _SEARCHED:
        for tokens in range(1, _tokens(last)):
            cut = [*before, _cut(last, tokens)]
            if any(level >= log10_level for _, level in _levels(reference, cut, [way], read)):
                return seen + tokens
    return seen + _tokens(last)


def _tokens(answer: Finding) -> int:
    return max(len(measure.values) for measure in answer.measures)


def _cut(answer: Finding, tokens: int) -> Finding:
    measures = (replace(m, values=m.values[:tokens]) for m in answer.measures)
    return replace(answer, measures=tuple(measures))
