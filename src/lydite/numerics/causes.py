"""What probably went wrong, told from the pattern of the scores: where, in which, and how far.

Rules of thumb, found on planted regressions of small models (``docs/selfcheck.md``): they say where
to look first. Causes that leave the same pattern are named together. Proves nothing.
"""

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from lydite.evidence.tokens.reference import CAP_MICRO, OUTSIDE
from lydite.messages.grid import LOG
from lydite.messages.passport import Passport
from lydite.numerics import deriving
from lydite.numerics.merging import BINNED
from lydite.numerics.scoring import Scored

TEMPLATE = "chat-template"
POSITION = "off-by-one-context"
ROPE = "rope-base"
LAYERS = "missing-layers"
COARSER, FINER = "coarser-dtype", "finer-dtype"
ADAPTER, PARALLEL = "stale-adapter", "tensor-parallel-reduction"
SAMPLER, TEMPERATURE = "seed-or-noise", "temperature-or-filter"

AS_USUAL = 1.5
"""Up to so many times the accepted size, residuals are as usual."""
EVENLY = 1.25
"""Up to so many times the accepted distance of the tail from the median, it is rounding."""
MISSED, SURPRISED = 0.01, 5.0
_EARLY, _LATE = slice(1, 9), slice(96, None)


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """One likely cause, and the pattern that speaks for it."""

    name: str
    why: str


class Pattern(NamedTuple):
    """Medians of residuals, in units of the accepted stacks' median, and what goes with them."""

    every: float
    first: float
    """Of first tokens, which only the prompt's own pass can have moved."""
    early: float
    """Of tokens 2 to 9."""
    late: float
    """From token 97 on."""
    chat_early: float
    plain_early: float
    tail: float
    """How much further than in accepted stacks the 99.9 % quantile lies from the median."""
    missed: float
    """Share of tokens that are not the ones that the seed draws, by as much as is measured."""
    surprise: float
    """Standard errors by which the mean surprisal is off zero."""
    other_prompts: int
    """Answers whose prompt the stack counts otherwise than the auditor, and how many were chats."""


def likely(scored: Sequence[Scored], accepted: Sequence[Passport]) -> tuple[Cause, ...]:
    """Return the likely causes of what a self-check found, the likeliest first.

    Nothing where nothing stands out. A stack that told no log-probabilities can only be seen to
    count prompts otherwise.
    """
    found = pattern(scored, accepted)
    if not any(one.residuals for one in scored):
        return tuple(_prompts(found))
    for rule in _RULES:
        causes = tuple(rule(found))
        if causes:
            return causes
    return ()


def pattern(scored: Sequence[Scored], accepted: Sequence[Passport]) -> Pattern:
    """Return the pattern of some scores, against the widest of the accepted stacks."""
    half, far = _accepted(accepted, 0.5), _accepted(accepted, 0.999)
    chats = [one for one in scored if one.chat]
    plain = [one for one in scored if not one.chat]
    every = _median(scored, slice(None)) / half
    told = sorted(value for one in scored for value in one.residuals)
    tail = (told[int(0.999 * (len(told) - 1))] / far / every) if told and every else 0.0
    surprisals = [value for one in scored for value in one.surprisals]
    return Pattern(
        every=every,
        first=_median(scored, slice(0, 1)) / half,
        early=_median(scored, _EARLY) / half,
        late=_median(scored, _LATE) / half,
        chat_early=_median(chats, _EARLY) / half,
        plain_early=_median(plain, _EARLY) / half,
        tail=tail,
        missed=_share_missed(scored),
        surprise=_standardised(surprisals),
        other_prompts=sum(one.told_tokens not in (None, one.prompt_tokens) for one in scored),
    )


def _prompts(found: Pattern) -> Iterable[Cause]:
    if found.other_prompts:
        yield Cause(
            name=TEMPLATE,
            why=f"{found.other_prompts} prompts have another number of tokens than the model's own "
            "template and tokenizer give them",
        )
    elif found.chat_early >= AS_USUAL > found.plain_early and found.chat_early > 2 * (
        found.plain_early
    ):
        yield Cause(
            name=TEMPLATE,
            why=f"answers to chats begin {found.chat_early:.1f} times as far off as accepted "
            f"stacks, answers to plain prompts {found.plain_early:.1f} times",
        )


def _sampling(found: Pattern) -> Iterable[Cause]:
    usual = max(found.every, found.early, found.late) < AS_USUAL
    if usual and (found.missed > MISSED or abs(found.surprise) > SURPRISED):
        why = "log-probabilities are as accepted stacks give them, but other tokens were drawn"
        drawn = (Cause(name=SAMPLER, why=why), Cause(name=TEMPERATURE, why=why))
        yield from drawn if abs(found.surprise) < SURPRISED else drawn[::-1]


def _finer(found: Pattern) -> Iterable[Cause]:
    if found.every < 1 / AS_USUAL:
        yield Cause(
            name=FINER,
            why=f"residuals are {found.every:.2f} times those of the widest accepted stack: it "
            "computes more finely than any that was measured, and needs a passport of its own",
        )


def _boundary(found: Pattern) -> Iterable[Cause]:
    if found.early >= 2 * max(found.first, found.late):
        yield Cause(
            name=POSITION,
            why=f"tokens 2 to 9 are {found.early:.1f} times as far off as accepted stacks, the "
            f"first {found.first:.1f} times and late ones {found.late:.1f} times: what is wrong "
            "begins with the first token after the prompt",
        )


def _gross(found: Pattern) -> Iterable[Cause]:
    if found.every >= 15:
        yield Cause(
            name=LAYERS,
            why=f"residuals are {found.every:.0f} times as large everywhere: layers are missing, "
            "or these are other weights",
        )


def _growing(found: Pattern) -> Iterable[Cause]:
    if found.late >= AS_USUAL * found.first and found.late >= 2:
        yield Cause(
            name=ROPE,
            why=f"first tokens are {found.first:.1f} times as far off as accepted stacks, late "
            f"ones {found.late:.1f} times: it grows with the distance between tokens",
        )


def _everywhere(found: Pattern) -> Iterable[Cause]:
    size = f"residuals are {found.every:.1f} times as large from the first token on"
    coarser = Cause(name=COARSER, why=f"{size}, as evenly spread as rounding spreads them")
    adapter = Cause(name=ADAPTER, why=f"{size}, some tokens far more than others")
    parallel = Cause(name=PARALLEL, why=adapter.why)
    if found.every < 1.0:
        return
    if found.tail < EVENLY:
        yield coarser
    elif found.late < found.first:
        yield from (adapter, parallel)
    else:
        yield from (parallel, adapter)


_RULES: tuple[Callable[[Pattern], Iterable[Cause]], ...] = (
    _prompts,
    _sampling,
    _finer,
    _boundary,
    _gross,
    _growing,
    _everywhere,
)
"""In this order; the first that finds a cause ends the search."""


def _accepted(accepted: Sequence[Passport], share: float) -> int:
    """Return a quantile of the residuals of the widest accepted stack, at least 1."""
    channels = [deriving.channel(passport.predicate, BINNED[1]) for passport in accepted]
    rows = [channel.rows for channel in channels if channel is not None]
    return max((deriving.quantile(each, LOG, share) for each in rows), default=1)


def _share_missed(scored: Sequence[Scored]) -> float:
    margins = [value for one in scored for value in one.margins]
    return sum(value in (OUTSIDE, CAP_MICRO) for value in margins) / max(1, len(margins))


def _median(scored: Sequence[Scored], part: slice) -> float:
    values = [value for one in scored for value in one.residuals[part]]
    return statistics.median(values) if values else 0.0


def _standardised(values: Sequence[int]) -> float:
    spread = statistics.pstdev(values) if len(values) > 1 else 0.0
    return statistics.fmean(values) / spread * len(values) ** 0.5 if spread else 0.0
