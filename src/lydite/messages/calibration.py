"""What a Reference Value is made of: honest histograms, power against cheats, where it came from.

Integers throughout, so that a relying party recomputes ceilings and e-values from them. Shared by
the kinds of evidence, which know nothing of one another; knows nothing of what is measured.
"""

from typing import Annotated, Literal

import msgspec

from lydite.messages.canonical import Count, Hex32, Integer, Message, Word

BY_BINS: Literal["lydite/bets-average/v2"] = "lydite/bets-average/v2"
"""Bets against ceilings in every bin, and centred bets."""
BY_TAILS: Literal["lydite/bets-average/v3"] = "lydite/bets-average/v3"
"""Bets that only larger scores win, and centred bets."""
Method = Literal["lydite/bets-average/v2", "lydite/bets-average/v3"]
"""The arithmetic from scores to e-values, so that no verdict is recomputed by another one."""


class Histogram(Message, frozen=True, kw_only=True, omit_defaults=True):
    """How the scores of one honest implementation fall into the bins, clustered by response."""

    name: Word
    responses: Count
    tokens: Count
    tokens_squared: Count
    """Sum over responses of the square of their tokens."""
    counts: tuple[Count, ...]
    """Tokens in each bin."""
    counts_squared: tuple[Count, ...]
    """Sum over responses of the square of their tokens in each bin."""
    crosses: tuple[Count, ...]
    """Sum over responses of their tokens times their tokens in each bin."""
    tails_squared: tuple[Count, ...] = ()
    """Sum over responses of the square of their tokens in each bin or beyond; may be left out, and
    the error of a tail is then bounded from those of its bins."""
    effect_milli: Annotated[int, msgspec.Meta(ge=1000, le=1_000_000)] = 1000
    """By how much clustering by response widens sums of bets on tails, in thousandths."""


class Cheat(Message, frozen=True, kw_only=True):
    """How the scores of one cheat that was measured fall into the bins: what is bet on."""

    name: Word
    counts: tuple[Count, ...]
    """Tokens in each bin."""


class Binned(Message, frozen=True, kw_only=True):
    """One channel whose scores fall into bins, and how honest implementations fill them."""

    edges: tuple[Integer, ...]
    """Where the bins begin, ascending; below the first is bin 0."""
    histograms: tuple[Histogram, ...]
    """The honest implementations; the null is the worst of them in every bin, or every tail."""
    cheats: tuple[Cheat, ...] = ()
    """Bets on these need fewer tokens than one that learns; the null does not depend on them."""


class Alternative(Message, frozen=True, kw_only=True, omit_defaults=True):
    """How many tokens show one cheat at one level, in nine runs of ten."""

    name: Word
    channels: Annotated[tuple[Word, ...], msgspec.Meta(min_length=1)]
    """The channels whose e-processes, averaged with equal weights, reach the level."""
    log10_level_milli: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    """The level as thousandths of log10: 2301 is an e-value of 200."""
    tokens: Count
    method: Method = BY_BINS
    """The arithmetic that takes so many tokens."""


class Provenance(Message, frozen=True, kw_only=True):
    """What a Reference Value was made with and from: digests, and versions of software."""

    script: Hex32
    data: Hex32
    prompts: Hex32
    versions: tuple[Word, ...]
