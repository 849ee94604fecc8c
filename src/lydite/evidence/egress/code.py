"""A prefix code for answers: its lengths bound what they can carry, whoever chose the tokens.

At most ``2^L`` sequences have codelengths of at most L bits (Kraft), so that a covert message of k
random bits costs at least k - s bits but with probability ``2^-s``, and at least k on average. The
code is fixed in advance: the chance that it gives to a token follows from the declared model's
logits, the request's sampling, the seed and the tokens before it. What is honest costs almost
nothing, what is embedded not much more than was embedded, for every way to embed that the code
has an expert for; every other way costs more, never less.

Works on the integers that a Finding records, so that anyone counts again what a session was
charged, without a model. Knows nothing of models, sessions' names, budgets or clocks.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

MICRO = 1_000_000
RANK_BITS = 18
"""Ranks of a quarter of a million tokens are told apart; a vocabulary may have no more."""
TIES = tuple(0.01 * 1.25**i for i in range(18))
"""Gaps between the two best tokens, in logits, below which somebody might embed."""
PERIODS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 16, 20, 24, 25, 30, 32, 40, 50, 60, 64, 100, 128)
"""Every how many tokens of an answer somebody might embed."""
_OFTEN, _SELDOM = 1 - 2.0**-6, 2.0**-14
"""How often tokens are chosen at the places where an expert expects it, and elsewhere."""
_FLOOR = 2.0**-20
"""What each expert keeps at each token, so that a change of ways is noticed late but cheaply."""
_RESTART = 2.0**-8
"""What all of them get back at the beginning of each answer."""
_NOVELTY = 2.0**-6
"""How much of what is learnt of chosen tokens is forgotten with each of them."""
_REFRESH = 256
"""Tokens after which the experts on places are brought up to date."""


class Token(NamedTuple):
    """What a verifier recorded of one token."""

    kernel_micro: int
    """Its codelength if nothing but the noise of other arithmetic chose it, in micro-bits."""
    tight_micro: int
    """The same if the provider computes in the meter's own arithmetic."""
    surprisal_micro: int
    """Its codelength under the declared model's distribution, in micro-bits."""
    rank: int
    """How many tokens the model likes better."""
    noisy_rank: int
    """How many tokens were better after the noise of the seed."""
    gap_micro: int
    """By how many micro-logits the best token after the noise leads."""
    ends: int
    """1 if it ends the answer, plus 2 if the best token after the noise would have."""


class _Chosen:
    """What a token costs when it is chosen by somebody: a mixture of ways to choose."""

    def __init__(self) -> None:
        size = 2 * (RANK_BITS + 1) + 4
        self._prior = [0.75 / (size - 1)] * size
        self._prior[-1] = 0.25  # the model's own distribution: the stealthiest way
        self._weights = list(self._prior)
        self._histograms = [[0.5] * (RANK_BITS + 2) for _ in range(2)]
        self._sums = [0.5 * (RANK_BITS + 2)] * 2
        self._given: list[float] = []
        self._classes = (0, 0)

    def chance(self, token: Token) -> float:
        """Return the chance that some expert's choice is this token."""
        ranks = token.rank, token.noisy_rank
        self._classes = ranks[0].bit_length(), ranks[1].bit_length()
        given = []
        for each in self._classes:  # uniform over the best 2^i, and all that 2^i are too few for
            given += [0.0] * each + [2.0**-i for i in range(each, RANK_BITS + 1)]
        given.append(float(token.ends & 1))
        for each, counts, total in zip(self._classes, self._histograms, self._sums, strict=True):
            given.append(counts[each] / total * 2.0 ** -max(each - 1, 0))
        given[RANK_BITS + 1] = 0.0  # the best token after the noise is no choice
        given.append(2.0 ** (-token.surprisal_micro / MICRO))
        self._given = given
        return math.fsum(w * g for w, g in zip(self._weights, given, strict=True))

    def learn(self, share: float, chance: float) -> None:
        """Take note that the last token was chosen with probability ``share``."""
        if share < _FLOOR or chance <= 0.0:
            return
        kept, gained = 1.0 - share, share / chance
        fresh = _NOVELTY * share
        self._weights = [
            (1.0 - fresh) * w * (kept + gained * g) + fresh * p
            for w, g, p in zip(self._weights, self._given, self._prior, strict=True)
        ]
        for i, each in enumerate(self._classes):
            self._histograms[i][each] += share
            self._sums[i] += share


class Coder:
    """The code of one session: feed it answers in order; each costs what ``charge`` returns."""

    def __init__(self) -> None:
        self._chosen = _Chosen()
        # How often, everywhere: once in 2, 4, ... 65 536 tokens, or nearly always.
        self._rates = [1 - 2.0**-12, *(2.0**-i for i in range(1, 17))]
        rates_prior = [0.002] * 17
        rates_prior[-1], rates_prior[-3] = 0.5, 0.3
        # Where: at near ties, or where the answer would have ended.
        ties_prior = [0.005] * (len(TIES) + 1)
        self._plain_prior = rates_prior + ties_prior
        # Where: every so many tokens.
        self._places_prior = [[1 / (period * len(PERIODS))] * period for period in PERIODS]
        total = sum(self._plain_prior) + 0.05
        self._plain_prior = [weight / total for weight in self._plain_prior]
        self._places_share = 0.05 / total
        self._plain = list(self._plain_prior)
        self._places = [[w * self._places_share for w in row] for row in self._places_prior]
        self._scale = 1.0
        self._tight = 0.5
        """How much to believe that the provider computes as the meter does."""

    def charge(self, tokens: Sequence[Token]) -> int:
        """Return the codelength of the tokens of one answer, in micro-bits, rounded up."""
        self._refresh(_RESTART)
        bits = 0.0
        for position, token in enumerate(tokens):
            if position % _REFRESH == _REFRESH - 1:
                self._refresh(0.0)
            bits += self._step(position, token)
        return math.ceil(MICRO * bits)

    def _step(self, position: int, token: Token) -> float:
        """Return the codelength of one token in bits, and learn from it."""
        wide, tight = 2.0 ** (-token.kernel_micro / MICRO), 2.0 ** (-token.tight_micro / MICRO)
        explained = (1 - self._tight) * wide + self._tight * tight
        chance = self._chosen.chance(token)
        low = (1 - _SELDOM) * explained + _SELDOM * chance
        high = (1 - _OFTEN) * explained + _OFTEN * chance
        active = [
            (row, position % period) for row, period in zip(self._places, PERIODS, strict=True)
        ]
        here = self._scale * math.fsum(row[i] for row, i in active)
        away = 1.0 - math.fsum(self._plain) - here
        given = [(1 - rate) * explained + rate * chance for rate in self._rates]
        given += _at_ties(token, explained, low)
        total = math.fsum(w * g for w, g in zip(self._plain, given, strict=True))
        total += max(away, 0.0) * low + here * high
        choice = math.fsum(w * r for w, r in zip(self._plain, self._rates, strict=False))
        choice += max(away, 0.0) * _SELDOM + here * _OFTEN
        self._chosen.learn(choice * chance / total, chance)
        self._reweigh(given, total, low, high, active)
        self._tight = _FLOOR + (1 - 2 * _FLOOR) * self._tight * tight / explained
        return -math.log2(total)

    def _reweigh(
        self,
        given: Sequence[float],
        total: float,
        low: float,
        high: float,
        active: Sequence[tuple[list[float], int]],
    ) -> None:
        keep = 1.0 - _FLOOR
        self._plain = [
            keep * w * g / total + _FLOOR * p
            for w, g, p in zip(self._plain, given, self._plain_prior, strict=True)
        ]
        # Those on places that are not here all change by one factor: it is kept apart.
        self._scale *= keep * low / total
        if low > 0.0:
            for row, i in active:
                row[i] *= high / low
        if self._scale < 1e-200:
            self._refresh(0.0)

    def _refresh(self, share: float) -> None:
        """Bring every weight up to date, with a ``share`` of the beginning."""
        places = [[self._scale * w for w in row] for row in self._places]
        total = math.fsum(self._plain) + math.fsum(w for row in places for w in row)
        keep = (1.0 - share - _FLOOR) / total
        back = share + _FLOOR
        self._plain = [
            keep * w + back * p for w, p in zip(self._plain, self._plain_prior, strict=True)
        ]
        self._places = [
            [keep * w + back * self._places_share * p for w, p in zip(row, prior, strict=True)]
            for row, prior in zip(places, self._places_prior, strict=True)
        ]
        self._scale = 1.0


def _at_ties(token: Token, explained: float, low: float) -> list[float]:
    """Return the chances that experts give who expect a choice of two at ties, or at the end."""
    pair = (1 - _OFTEN) * explained + _OFTEN * (0.5 if token.noisy_rank < 2 else 0.0)
    gap = token.gap_micro / MICRO
    return [*(pair if gap < tie else low for tie in TIES), pair if token.ends & 2 else low]
