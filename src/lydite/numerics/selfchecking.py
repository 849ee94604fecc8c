"""Runs a self-check within its time: asks, scores and watches until it is known or over.

Asking happens in a thread of its own, so that a stack which hangs costs the time that was set, and
no more. Knows nothing of command lines or files.
"""

import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from lydite.engines.protocol import Engine
from lydite.errors import LyditeError
from lydite.evidence.tokens.reference import Reference
from lydite.numerics import watching
from lydite.numerics.asking import Ask, groups
from lydite.numerics.prompts import Question
from lydite.numerics.scoring import Scored, score
from lydite.numerics.watching import Outcome, Watched

AFTER = 16
"""Answers that are still taken in after evidence reached the level, to tell the cause by."""


class Limits(NamedTuple):
    """When a self-check ends."""

    until_s: float
    """By ``time.monotonic``."""
    level: float
    batch: int


class Checked(NamedTuple):
    """What a self-check came to."""

    outcome: Outcome
    watched: Watched | None
    """None if nothing was scored."""
    needed: int | None
    """Tokens that tell another stack, nine times in ten, by the channels that were watched."""
    scored: tuple[Scored, ...]
    notes: tuple[str, ...]


def check(
    auditor: Engine,
    ask: Ask,
    questions: Sequence[Question],
    references: Sequence[Reference],
    limits: Limits,
    tell: Callable[[int], None] = lambda _: None,
) -> Checked:
    """Hold a stack against accepted ones until it is known to be in or out, or time is up.

    ``references`` are those of the accepted stacks, one each.

    Raises:
        LyditeError: the stack failed before a single answer could be scored.
    """
    needed = _needed(references, limits.level)
    work = _Work(auditor, ask, references, limits, needed, tell)
    thread = threading.Thread(target=work.run, args=(questions,), name="selfcheck", daemon=True)
    thread.start()
    thread.join(max(0.0, limits.until_s - time.monotonic()))
    work.over.set()
    scored = tuple(work.scored)
    if work.error is not None and not scored:
        raise work.error
    notes = [] if work.error is None else [f"the stack failed: {work.error}"]
    if thread.is_alive():
        notes.append("time was up before all prompts were asked")
    if not scored:
        return Checked(Outcome.UNDERPOWERED, None, needed, scored, tuple(notes))
    watched = watching.watch(references, scored, limits.level)
    notes += _lacking(watched)
    needed = _needed(references, limits.level, watched.unwatched)
    return Checked(watching.decide(watched, needed), watched, needed, scored, tuple(notes))


def _needed(
    references: Sequence[Reference], level: float, unwatched: Collection[str] = ()
) -> int | None:
    """Return the tokens that tell another stack from each of the accepted ones, if any do."""
    sizes = [watching.needed_tokens(reference, level, unwatched) for reference in references]
    told = [size for size in sizes if size is not None]
    return max(told) if told and len(told) == len(sizes) else None


def _lacking(watched: Watched) -> list[str]:
    """Return which channels of the accepted stacks were not watched, and on how many answers."""
    return [
        f"{name}: {missing} of {watched.answers} answers do not tell it"
        + (", too many: it was not watched" if name in watched.unwatched else "")
        for name, missing in watched.missing.items()
        if missing
    ]


class _Work:
    """What the thread does: one group of questions after the other."""

    def __init__(
        self,
        auditor: Engine,
        ask: Ask,
        references: Sequence[Reference],
        limits: Limits,
        needed: int | None,
        tell: Callable[[int], None],
    ) -> None:
        self.over = threading.Event()
        self.scored: list[Scored] = []
        self.error: LyditeError | None = None
        self._auditor, self._ask, self._references = auditor, ask, references
        self._widest = max(references, key=lambda reference: reference.noise_micro)
        self._limits, self._needed, self._tell = limits, needed, tell
        self._crossed_at: int | None = None

    def run(self, questions: Sequence[Question]) -> None:
        """Ask and score until something says that it is enough."""
        try:
            for group in groups(questions, self._limits.batch):
                for answer in self._ask(group):
                    if self.over.is_set():
                        return
                    self.scored.append(score(self._auditor, answer, self._widest))
                self._tell(len(self.scored))
                if self._enough():
                    return
        except LyditeError as error:
            self.error = error

    def _enough(self) -> bool:
        """Say whether more answers would change nothing."""
        if self._crossed_at is None:
            watched = watching.watch(self._references, self.scored, self._limits.level)
            if watched.crossing is None:
                return watching.decide(watched, self._needed) is Outcome.INSIDE
            self._crossed_at = watched.crossing.answer
        return len(self.scored) >= max(self._crossed_at + AFTER, watching.LEAST_ANSWERS)
