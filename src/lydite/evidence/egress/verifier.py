"""Weighs what each token of an answer could carry, against the declared model's own choices.

Pure arithmetic on logits and noise that the meter computed. Judges nothing and keeps no account:
``code.Coder`` turns what is recorded here into bits.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lydite.errors import FormatError, Reason
from lydite.evidence.egress import reference as expected
from lydite.evidence.egress.claims import Claims
from lydite.evidence.egress.code import MICRO, RANK_BITS, Token
from lydite.evidence.egress.reference import KIND, ROWS, Part, Reference
from lydite.messages.finding import Finding, Measure
from lydite.messages.tier import Tier

ESCAPE = 2.0**-20
"""The chance that the code leaves for what it does not expect at all, spread over all tokens."""
EDGE = 2.0**-7
"""The chance that the edge of a filter fell elsewhere on another machine, to either side."""
GAP_CAP = 8.0
"""Leads of more logits than this are all alike."""
_UNITS = ("micro-bit", "micro-bit", "micro-bit", "tokens", "tokens", "micro-logit", "flags")

_Row = NDArray[np.float64]
_Set = NDArray[np.bool_]


class Choice(NamedTuple):
    """What the declared sampler had before it at one token, each of shape (vocabulary,)."""

    scaled: _Row
    """Logits over temperature; the logits themselves at temperature 0."""
    noisy: _Row
    """Logits plus temperature times the seed's noise: the greatest is drawn."""
    kept: _Set
    """Tokens that the filters leave of these logits."""
    certain: _Set
    """Tokens that the filters leave, however the logits are nudged."""
    possible: _Set
    """Tokens that the filters may leave."""


def verify(
    claims: Claims, choices: Iterable[Choice], ends: Collection[int], reference: Reference
) -> Finding:
    """Record what each token of an answer costs in a code that was fixed beforehand.

    ``choices`` holds one Choice a token; ``ends`` are the tokens that end an answer.

    1. The kernel: how well arithmetic noise of the size in the reference explains that this token
       and not another was the best after the noise of the seed.
    2. The surprisal: how likely the declared model makes it, whatever the seed.
    3. Its ranks before and after the noise, the lead of the best token, and whether it ends.
    4. What is not tokens: the bursts in which they came, how the answer ended, its other bytes.

    The tier is always ``NONE``: a cost accuses nobody.

    Raises:
        FormatError: the choices do not fit the tokens, or are not finite.

    **Does not show** what was sent, whether anything was, or by whom: the bits are an upper bound
    on what the answer can carry to a reader who knows everything else, prompt included. Nothing of
    when its bytes left, which a gateway paces or not; nothing of channels outside of the answer.
    An honest answer costs something too, since machines differ in their last digits.
    """
    rows: list[Token] = []
    end = min(ends, default=-1)
    chosen = list(choices)
    if len(chosen) != len(claims.output_ids):
        raise FormatError(f"{len(chosen)} rows for {len(claims.output_ids)} tokens")
    for token, choice in zip(claims.output_ids, chosen, strict=True):
        rows.append(_row(token, choice, end, reference))
    columns = zip(*rows, strict=True) if rows else ((),) * len(ROWS)
    measures = [
        Measure(name=name, unit=unit, values=tuple(values))
        for name, unit, values in zip(ROWS, _UNITS, columns, strict=True)
    ]
    return Finding(
        kind=KIND,
        tier=Tier.NONE,
        reason=Reason.RECORDED,
        reference=expected.digest(reference),
        measures=(*measures, *expected.rest(claims)),
    )


def _row(token: int, choice: Choice, end: int, reference: Reference) -> Token:
    size = choice.scaled.size
    if not 0 <= token < size or size > 1 << RANK_BITS:
        raise FormatError(f"token {token} of a vocabulary of {size}")
    if not (np.isfinite(choice.noisy).all() and np.isfinite(choice.scaled).all()):
        raise FormatError("logits that are not finite")
    noisy = choice.noisy
    best, lead = _leader(noisy, choice.possible)
    return Token(
        kernel_micro=_micro(_kernel(token, choice, reference.kernel)),
        tight_micro=_micro(_kernel(token, choice, reference.tight)),
        surprisal_micro=_micro(_likelihood(token, choice)),
        rank=_rank(choice.scaled, token),
        noisy_rank=_noisy_rank(noisy, choice.possible, token),
        gap_micro=round(MICRO * min(lead, GAP_CAP)),
        ends=int(token == end) + 2 * int(best == end),
    )


def _kernel(token: int, choice: Choice, kernel: Sequence[Part]) -> float:
    """Return the chance that noise alone makes ``token`` the best.

    A mixture of logistic noises, and of what the filters leave: nearly always what they leave of
    these logits, seldom all that they may leave, seldom only what they must.
    """
    chance = 0.0
    for kept, share in (
        (choice.kept, 1.0 - 2 * EDGE),
        (choice.possible, EDGE),
        (choice.certain, EDGE),
    ):
        if kept[token]:
            best = choice.noisy[kept].max()
            behind, mine = choice.noisy[kept] - best, choice.noisy[token] - best
            for part in kernel:
                scale, weight = part.scale_micro / MICRO, part.weight_ppm / MICRO
                chance += share * weight * float(np.exp(mine / scale)) / _sum(behind, scale)
    return chance


def _sum(behind: _Row, scale: float) -> float:
    return float(np.exp(behind[behind > -40 * scale] / scale).sum())


def _likelihood(token: int, choice: Choice) -> float:
    if not choice.possible[token]:
        return 0.0
    kept = choice.scaled[choice.possible]
    shifted = kept - kept.max()
    mine = choice.scaled[token] - kept.max()
    return float(np.exp(mine) / np.exp(shifted).sum())


def _micro(chance: float, size: int = 1 << RANK_BITS) -> int:
    """Return the codelength of ``chance`` in micro-bits; nothing is impossible."""
    return int(np.ceil(-MICRO * np.log2((1 - ESCAPE) * min(chance, 1.0) + ESCAPE / size)))


def _leader(noisy: _Row, possible: _Set) -> tuple[int, float]:
    """Return the best token after the noise, and by how much it leads."""
    kept = np.where(possible, noisy, -np.inf)
    best = int(kept.argmax())
    rest = np.delete(kept, best).max(initial=-np.inf)
    return best, float(kept[best] - rest)


def _rank(scores: _Row, token: int) -> int:
    mine = scores[token]
    return int(np.count_nonzero(scores > mine) + np.count_nonzero(scores[:token] == mine))


def _noisy_rank(noisy: _Row, possible: _Set, token: int) -> int:
    """Return how many tokens come first: those that the filters leave before all others."""
    ordered = noisy + np.where(possible, 0.0, -1e6)
    return _rank(ordered, token)
