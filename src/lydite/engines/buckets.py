"""Which answers are recomputed together: by what their prompts share, and by length.

Pure arithmetic on tokens. Knows nothing of models: equal answers and limits give equal plans.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

SHARED_LEAST: Final = 32
"""A shorter beginning is not worth a pass of its own, in tokens,"""
SAVED_LEAST: Final = 128
"""nor is one that saves fewer positions than this over all who share it."""


class Answer(NamedTuple):
    """The tokens of one answer, and those it was given."""

    prompt_ids: Sequence[int]
    output_ids: Sequence[int]

    @property
    def read(self) -> int:
        """How many positions a pass over it has: the last token is never read."""
        return len(self.prompt_ids) + len(self.output_ids) - 1


class Limits(NamedTuple):
    """How much one pass may hold. A single answer beyond all of it has a pass of its own."""

    positions: int = 1024
    """That are computed, padding included."""
    padded_percent: int = 12
    """Of the positions that are computed, at most."""
    rows: int = 1 << 24
    """Output tokens: each has a row of logits and one of states."""
    held: int = 1 << 16
    """Positions in keys and values: those of the shared beginning count for each answer."""
    sharing: bool = True
    """Whether beginnings are shared at all."""


class Group(NamedTuple):
    """Answers whose first ``shared`` prompt tokens are the same, and the passes over the rest."""

    shared: int
    passes: tuple[tuple[int, ...], ...]
    """The places of the answers, the longest of a pass first."""


def plan(answers: Sequence[Answer], limits: Limits) -> list[Group]:
    """Return groups that have every answer in exactly one pass.

    Prompts that begin with the same ``SHARED_LEAST`` tokens or more share them; all others are one
    group that shares nothing. A shared beginning ends before the prompt's last token, whose own
    position is where the first output token is drawn.
    """
    alone: list[int] = []
    groups = []
    for shared, places in _sharing(answers) if limits.sharing else []:
        if shared * (len(places) - 1) < SAVED_LEAST:
            alone += places
        else:
            groups.append(Group(shared, _passes(answers, places, shared, limits)))
    if not limits.sharing:
        alone = list(range(len(answers)))
    if alone:
        groups.append(Group(0, _passes(answers, sorted(alone), 0, limits)))
    return groups


def _sharing(answers: Sequence[Answer]) -> list[tuple[int, list[int]]]:
    """Return sets of answers, and how many tokens the prompts of each begin with alike.

    In the order of their prompts, one after the other joins the set before it as long as the set
    saves no less with it than without.
    """
    prompts = [tuple(answer.prompt_ids) for answer in answers]
    sets: list[tuple[int, list[int]]] = []
    for place in sorted(range(len(answers)), key=prompts.__getitem__):
        longest = len(prompts[place]) - 1
        if sets:
            shared, places = sets[-1]
            common = _common(prompts[place], prompts[places[0]], min(shared, longest))
            if common >= SHARED_LEAST and common * len(places) >= shared * (len(places) - 1):
                sets[-1] = (common, [*places, place])
                continue
        sets.append((longest, [place]))
    return sets


def _common(one: Sequence[int], other: Sequence[int], most: int) -> int:
    """Return how many tokens both begin with alike, at most ``most``."""
    pairs = enumerate(zip(one[:most], other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), most)


def _passes(
    answers: Sequence[Answer], places: Sequence[int], shared: int, limits: Limits
) -> tuple[tuple[int, ...], ...]:
    """Cut answers, longest first, into passes that keep the limits."""
    passes: list[list[int]] = []
    filled = rows = 0
    for place in sorted(places, key=lambda each: -answers[each].read):
        own, outputs = answers[place].read - shared, len(answers[place].output_ids)
        if passes:
            longest, count = answers[passes[-1][0]].read, len(passes[-1]) + 1
            computed = count * (longest - shared)
            if (
                computed <= limits.positions
                and 100 * (computed - filled - own) <= limits.padded_percent * computed
                and rows + outputs <= limits.rows
                and count * longest <= limits.held
            ):
                passes[-1].append(place)
                filled, rows = filled + own, rows + outputs
                continue
        passes.append([place])
        filled, rows = own, outputs
    return tuple(tuple(each) for each in passes)
