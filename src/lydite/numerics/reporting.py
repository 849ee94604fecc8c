"""A self-check in writing: one JSON object, a page of Markdown, a badge. Judges nothing."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from lydite.errors import LyditeError, Reason
from lydite.messages.stack import Stack
from lydite.numerics.causes import Cause
from lydite.numerics.selfchecking import Checked
from lydite.numerics.watching import Outcome

_COLOURS = {Outcome.INSIDE: "#1b7f4b", Outcome.OUTSIDE: "#b3261e", Outcome.UNDERPOWERED: "#6b6b6b"}
_LETTER, _PADDING = 6.6, 10
"""Widths in the badge, in pixels."""
CAVEATS = (
    "that weights which move no score are the same: int8 weights may pass where the null is wide",
    "anything of prompts, samplings, batches or loads that were not tried",
    "to anybody else that this stack was the one that ran: whoever may be accused measured it",
)


class Where(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where evidence first reached the level, counted from 1."""

    score: str
    answer: int
    token: int
    tokens_seen: int


class Report(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a self-check found."""

    outcome: Outcome
    tier: str
    reason: str
    stack: Stack
    level: float
    answers: int
    tokens: int
    tokens_needed: int | None
    log10_e: float
    channels: dict[str, float]
    unwatched: tuple[str, ...]
    """Channels of the accepted stacks that too few answers have; then nothing is inside."""
    missing: dict[str, int]
    """Answers without it, for each channel of the accepted stacks."""
    crossing: Where | None
    causes: tuple[Cause, ...]
    passports: tuple[str, ...]
    references: tuple[str, ...]
    took_s: float
    notes: tuple[str, ...]
    candidate: str | None = None
    """Digest of the candidate passport that was written beside this, if any was."""
    caveats: tuple[str, ...] = CAVEATS


class Context(NamedTuple):
    """What a report names beside the findings."""

    stack: Stack
    level: float
    passports: Sequence[str]
    """Digests."""
    references: Sequence[str]
    """Digests of what follows from each of them."""
    took_s: float


def report(checked: Checked, causes: Sequence[Cause], about: Context) -> Report:
    """Return what a self-check found, with what it rests on."""
    watched = checked.watched
    crossing = None
    if watched is not None and watched.crossing is not None:
        place = watched.crossing
        crossing = Where(
            score=watched.loudest,
            answer=place.answer,
            token=place.token,
            tokens_seen=place.seen,
        )
    outcome = checked.outcome
    reason = {
        Outcome.INSIDE: Reason.CONSISTENT,
        Outcome.OUTSIDE: Reason.OTHER_NUMERICS,
        Outcome.UNDERPOWERED: Reason.UNDERPOWERED,
    }[outcome]
    return Report(
        outcome=outcome,
        tier=outcome.tier.value,
        reason=reason.value,
        stack=about.stack,
        level=about.level,
        answers=len(checked.scored),
        tokens=sum(one.tokens for one in checked.scored),
        tokens_needed=checked.needed,
        log10_e=round(watched.log10_e, 3) if watched else 0.0,
        channels={k: round(v, 3) for k, v in watched.channels.items()} if watched else {},
        unwatched=tuple(sorted(watched.unwatched)) if watched else (),
        missing=watched.missing if watched else {},
        crossing=crossing,
        causes=tuple(causes),
        passports=tuple(about.passports),
        references=tuple(about.references),
        took_s=round(about.took_s, 1),
        notes=checked.notes,
    )


def unlearnt(error: LyditeError, about: Context) -> Report:
    """Return the report on a build of which nothing was learnt, and why."""
    nothing = Checked(Outcome.UNDERPOWERED, None, None, (), (str(error),))
    return msgspec.structs.replace(report(nothing, (), about), reason=error.reason.value)


def headline(said: Report) -> str:
    """Return the outcome in one line."""
    if not said.answers and said.notes:
        return f"inconclusive: {said.notes[0]}"
    if said.outcome is Outcome.INSIDE:
        return f"inside: {said.tokens} tokens as the accepted passports give them"
    if said.outcome is Outcome.UNDERPOWERED:
        if said.unwatched:
            return f"underpowered: {', '.join(said.unwatched)} not watched, in too few answers"
        needed = "no number of tokens" if said.tokens_needed is None else f"{said.tokens_needed}"
        return f"underpowered: {said.tokens} tokens scored, {needed} would tell"
    where = said.crossing
    place = (
        f"by {where.score}, at token {where.token} of answer {where.answer}, the "
        f"{where.tokens_seen}th token in all"
        if where
        else ""
    )
    return f"outside: {place}"


def markdown(said: Report) -> str:
    """Return the report as a page that a person reads."""
    words = said.stack
    stack = (words.engine, words.version, words.dtype, words.kernels, words.architecture)
    lines = [
        f"# Self-check: {_word(said)}",
        "",
        f"{headline(said)}.",
        "",
        "| | |",
        "|---|---|",
        f"| stack | {', '.join(stack)}, {words.parallelism}, {words.batch} |",
        f"| level | {said.level:g}: how probable this would be on an accepted stack |",
        f"| answers, tokens | {said.answers}, {said.tokens} |",
        f"| tokens that tell another stack | {said.tokens_needed} |",
        f"| highest log10 E | {said.log10_e:.2f}, outside from {-math.log10(said.level):.3g} on |",
        f"| took | {said.took_s} s |",
        "",
        "| score | log10 E |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in said.channels.items()),
    ]
    if said.causes:
        lines += ["", "## Likely causes", ""]
        lines += [f"{n}. **{c.name}**: {c.why}" for n, c in enumerate(said.causes, 1)]
    lines += ["", "## Rests on", ""]
    lines += [f"- passport `{digest}`" for digest in said.passports]
    lines += [f"- {note}" for note in said.notes]
    lines += ["", "## Does not show", "", *(f"- {caveat}" for caveat in said.caveats), ""]
    return "\n".join(lines)


def _word(said: Report) -> str:
    """Return the outcome, and another word where there was nothing to judge by."""
    return said.outcome.value if said.answers else "inconclusive"


def badge(said: Report) -> str:
    """Return a badge, as SVG."""
    left, right = "numerics", _word(said)
    widths = [round(_LETTER * len(word)) + 2 * _PADDING for word in (left, right)]
    whole = sum(widths)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="20" role="img" '
        f'aria-label="{left}: {right}"><title>{left}: {right}</title>'
        f'<rect width="{widths[0]}" height="20" fill="#444444"/>'
        f'<rect x="{widths[0]}" width="{widths[1]}" height="20" fill="{_COLOURS[said.outcome]}"/>'
        '<g fill="#ffffff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" '
        'text-anchor="middle">'
        f'<text x="{widths[0] / 2:g}" y="14">{left}</text>'
        f'<text x="{widths[0] + widths[1] / 2:g}" y="14">{right}</text></g></svg>\n'
    )
